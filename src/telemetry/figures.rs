//! All metric families with their samples: recorded ones, and those computed from the state of the workers.

use crate::{
    event::EventTime,
    metrics::{
        Distribution, FAMILIES, Family, Sample, Samples, Value,
        families::{
            CAMPAIGNS, CLIENT_DISCONNECTS, CLIENT_ERRORS, CLIENT_FETCHED, CLIENT_ROUND_TRIP, LAG_RECORDS, LAG_SECONDS,
            LATENCY, MODEL, PARTITIONS, POLICY_AGE, POLICY_VERSION, PROFILE_BYTES, PROFILES, PROFILES_DIRTY, READY,
            REPLAY_RECORDS, SCORES, SEGMENT_ENTRIES, SEGMENT_EXITS, SEGMENT_MEMBERS, SEGMENTS, SILENT, STAGES,
            STAGES_COMPUTED,
        },
        recorded,
    },
    status::{PartitionView, Phase, SegmentCounts, Stage, WorkerStatus},
    targeting::campaign::{Reason, Tally},
};
use std::time::Duration;

/// All families that have samples, in the order of [`FAMILIES`].
pub(super) fn gather(workers: &[WorkerStatus], is_ready: bool, now: EventTime) -> Vec<Samples> {
    let mut all = of_workers(workers, is_ready, now);
    all.extend(recorded());
    all.retain(|it| !it.samples.is_empty());
    all.sort_by_key(|it| FAMILIES.iter().position(|family| family.name == it.family.name));
    all
}

fn of_workers(workers: &[WorkerStatus], is_ready: bool, now: EventTime) -> Vec<Samples> {
    let by_partition = |family, value: &dyn Fn(&PartitionView) -> Option<f64>| {
        let partitions = workers.iter().flat_map(|worker| &worker.partitions);
        let sample = |it: &PartitionView| Some(Sample::number(vec![it.number.to_string()], value(it)?));
        Samples { family, samples: partitions.filter_map(sample).collect() }
    };
    let by_worker = |family, value: &dyn Fn(&WorkerStatus) -> f64| {
        let sample = |(number, worker): (usize, _)| Sample::number(vec![number.to_string()], value(worker));
        Samples { family, samples: workers.iter().enumerate().map(sample).collect() }
    };
    let by_worker_if = |family, value: &dyn Fn(&WorkerStatus) -> Option<f64>| {
        let sample = |(number, worker): (usize, _)| Some(Sample::number(vec![number.to_string()], value(worker)?));
        Samples { family, samples: workers.iter().enumerate().filter_map(sample).collect() }
    };
    let of_profiles = |family, value: fn(&PartitionView) -> u64| {
        by_worker(family, &|worker| worker.partitions.iter().map(value).sum::<u64>() as f64)
    };
    vec![
        Samples {
            family: &LATENCY,
            samples: vec![
                sum(&LATENCY, Some("event"), workers.iter().map(|it| &it.latency.since_event)),
                sum(&LATENCY, Some("append"), workers.iter().map(|it| &it.latency.since_append)),
            ],
        },
        Samples { family: &SCORES, samples: vec![sum(&SCORES, None, workers.iter().map(|it| &it.scores))] },
        by_stage(&STAGES, &Stage::ALL, workers, |it| &it.stages.elapsed),
        // A commit is the work of the client's threads and of the broker.
        by_stage(&STAGES_COMPUTED, &Stage::ALL[..Stage::Commit as usize], workers, |it| &it.stages.computed),
        by_partition(&LAG_RECORDS, &|it| it.lag().map(|lag| lag as f64)),
        by_partition(&LAG_SECONDS, &|it| it.lag_seconds(now)),
        by_partition(&REPLAY_RECORDS, &|it| Some(it.replay_left() as f64)),
        phases(workers),
        of_profiles(&PROFILES, |it| it.profiles),
        of_profiles(&PROFILE_BYTES, |it| it.profile_bytes),
        of_profiles(&PROFILES_DIRTY, |it| it.dirty),
        segments(workers, &SEGMENTS, |_, it| Some(it.decisions)),
        shown(workers, &SEGMENT_MEMBERS, WorkerStatus::members, WorkerStatus::shown_members),
        shown(workers, &SEGMENT_ENTRIES, |_, it| it.membership.map(|_| it.entries), WorkerStatus::shown_moves),
        shown(workers, &SEGMENT_EXITS, |_, it| it.membership.map(|_| it.exits), WorkerStatus::shown_moves),
        campaigns(workers),
        by_worker_if(&POLICY_VERSION, &|it| Some(it.policy?.0 as f64)),
        by_worker_if(&POLICY_AGE, &|it| Some((now.0 - it.policy?.1.0) as f64 / 1e6)),
        models(workers),
        Samples { family: &READY, samples: vec![Sample::number(vec![], f64::from(u8::from(is_ready)))] },
        by_worker(&SILENT, &|it| it.health.silent.as_secs_f64()),
        by_worker(&CLIENT_FETCHED, &|it| it.client.fetched as f64),
        by_worker(&CLIENT_ROUND_TRIP, &|it| it.client.round_trip.as_secs_f64()),
        by_worker(&CLIENT_ERRORS, &|it| it.client.errors as f64),
        by_worker(&CLIENT_DISCONNECTS, &|it| it.client.disconnects as f64),
    ]
}

/// The sum of the workers' distributions.
fn sum<'a>(family: &'static Family, label: Option<&str>, all: impl Iterator<Item = &'a Distribution>) -> Sample {
    let mut sum = Distribution::new(family.buckets);
    all.for_each(|one| sum.add(one));
    Sample { labels: label.into_iter().map(str::to_owned).collect(), value: Value::Distribution(sum) }
}

fn by_stage(
    family: &'static Family,
    stages: &[Stage],
    workers: &[WorkerStatus],
    times: fn(&WorkerStatus) -> &[Duration; Stage::ALL.len()],
) -> Samples {
    let sample = |stage: &Stage| {
        let time = workers.iter().map(|worker| times(worker)[*stage as usize].as_secs_f64()).sum();
        Sample::number(vec![stage.as_str().to_owned()], time)
    };
    Samples { family, samples: stages.iter().map(sample).collect() }
}

fn phases(workers: &[WorkerStatus]) -> Samples {
    let sample = |phase: Phase| {
        let partitions = workers.iter().flat_map(|worker| &worker.partitions);
        let count = partitions.filter(|it| it.phase == phase).count();
        Sample::number(vec![phase.as_str().to_owned()], count as f64)
    };
    let samples = [Phase::Restoring, Phase::Replaying, Phase::Moving].map(sample).to_vec();
    Samples { family: &PARTITIONS, samples }
}

/// All workers have the same segments.
fn segments(
    workers: &[WorkerStatus],
    family: &'static Family,
    count: fn(&WorkerStatus, &SegmentCounts) -> Option<u64>,
) -> Samples {
    let sample = |(id, _): &(String, SegmentCounts)| {
        let all = workers.iter().flat_map(|worker| worker.segments.iter().map(move |it| (worker, it)));
        let counts = all.filter(|(_, (other, _))| other == id).map(|(worker, (_, counts))| count(worker, counts));
        let sum: Option<u64> = counts.sum();
        Some(Sample::number(vec![id.clone()], sum? as f64))
    };
    let samples = workers.first().into_iter().flat_map(|worker| &worker.segments).filter_map(sample).collect();
    Samples { family, samples }
}

/// Users of segments, as their number may be shown.
fn shown(
    workers: &[WorkerStatus],
    family: &'static Family,
    count: fn(&WorkerStatus, &SegmentCounts) -> Option<u64>,
    show: fn(&WorkerStatus, u64) -> u64,
) -> Samples {
    let mut found = segments(workers, family, count);
    for sample in &mut found.samples {
        if let (Value::Number(users), Some(worker)) = (&mut sample.value, workers.first()) {
            *users = show(worker, *users as u64) as f64;
        }
    }
    found
}

/// All workers have the same campaigns. Reasons that have not occurred are omitted: a campaign has few of them.
fn campaigns(workers: &[WorkerStatus]) -> Samples {
    let mut samples = Vec::new();
    for (id, _) in workers.first().into_iter().flat_map(|worker| &worker.campaigns) {
        let mut sum = Tally::default();
        let all = workers.iter().flat_map(|worker| &worker.campaigns).filter(|(other, _)| other == id);
        all.for_each(|(_, tally)| sum.add(tally));
        let mut add = |outcome: &str, count: u64| {
            samples.push(Sample::number(vec![id.clone(), outcome.to_owned()], count as f64));
        };
        add("chosen", sum.chosen);
        let refused = Reason::ALL.into_iter().zip(sum.refused).filter(|(_, count)| *count > 0);
        refused.for_each(|(reason, count)| add(reason.as_str(), count));
    }
    Samples { family: &CAMPAIGNS, samples }
}

/// All workers have the same models once they have taken the newest.
fn models(workers: &[WorkerStatus]) -> Samples {
    let models = workers.iter().find(|worker| !worker.models.is_empty()).into_iter().flat_map(|worker| &worker.models);
    let samples = models.map(|(variant, model)| {
        let labels = [&model.name, &model.version, &model.provider, &model.runtime, variant];
        Sample::number(labels.map(String::clone).to_vec(), 1.0)
    });
    Samples { family: &MODEL, samples: samples.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        status::{ClientReport, Counts, View},
        telemetry::prometheus,
    };

    /// The status of a worker with one partition.
    fn worker() -> WorkerStatus {
        let view = View::default();
        view.describe([("a\"b", 0, Some(1))].into_iter(), ["spring"].into_iter(), None);
        let mut counts = Counts::default();
        counts.detail.times.extend([(9_000, 9_980), (9_500, 9_990)]);
        counts.detail.score(0.42);
        counts.detail.segment(0);
        counts.detail.changes([(0, true), (0, true), (0, false)].into_iter());
        let mut tally = Tally { considered: 3, chosen: 2, ..Tally::default() };
        tally.refused[Reason::Cap.index()] = 1;
        counts.detail.campaigns(&[tally]);
        counts.detail.spend(Stage::Profile, Duration::from_millis(1_500));
        view.committed(&counts.detail, EventTime(10_000_000));
        view.partitions(vec![PartitionView {
            number: 3,
            phase: Phase::Moving,
            next: 90,
            replay_until: 0,
            end: Some(100),
            newest: Some(EventTime(7_000_000)),
            profiles: 5,
            profile_bytes: 500,
            dirty: 2,
            members: vec![0, 4],
        }]);
        view.client(ClientReport { fetched: 7, ..ClientReport::default() });
        view.status()
    }

    #[test]
    fn the_status_of_workers_is_written_out() {
        let all = gather(&[worker(), View::default().status()], true, EventTime(10_000_000));
        let text = prometheus::text(&all);
        for line in [
            "# TYPE aimpoint_decision_latency_seconds histogram",
            "aimpoint_decision_latency_seconds_bucket{since=\"append\",le=\"0.005\"} 0",
            "aimpoint_decision_latency_seconds_bucket{since=\"append\",le=\"0.01\"} 1",
            "aimpoint_decision_latency_seconds_bucket{since=\"append\",le=\"0.02\"} 2",
            "aimpoint_decision_latency_seconds_bucket{since=\"append\",le=\"+Inf\"} 2",
            "aimpoint_decision_latency_seconds_sum{since=\"event\"} 1.5",
            "aimpoint_decision_latency_seconds_count{since=\"event\"} 2",
            "aimpoint_score_bucket{le=\"0.45\"} 1",
            "aimpoint_stage_seconds_total{stage=\"profile\"} 1.5",
            "aimpoint_stage_seconds_total{stage=\"commit\"} 0",
            "aimpoint_stage_cpu_seconds_total{stage=\"send\"} 0",
            "aimpoint_lag_records{partition=\"3\"} 10",
            "aimpoint_lag_seconds{partition=\"3\"} 3",
            "aimpoint_partitions{phase=\"moving\"} 1",
            "aimpoint_profiles{worker=\"0\"} 5",
            "aimpoint_profile_bytes{worker=\"0\"} 500",
            "aimpoint_profiles_dirty{worker=\"0\"} 2",
            "aimpoint_segment_decisions_total{segment=\"a\\\"b\"} 1",
            "aimpoint_segment_members{segment=\"a\\\"b\"} 4",
            "aimpoint_segment_entries_total{segment=\"a\\\"b\"} 2",
            "aimpoint_segment_exits_total{segment=\"a\\\"b\"} 1",
            "aimpoint_campaign_decisions_total{campaign=\"spring\",outcome=\"chosen\"} 2",
            "aimpoint_campaign_decisions_total{campaign=\"spring\",outcome=\"cap\"} 1",
            "aimpoint_ready 1",
            "aimpoint_client_fetched_records{worker=\"0\"} 7",
        ] {
            assert!(text.lines().any(|other| other == line), "{line:?} is missing in:\n{text}");
        }
        assert!(!text.contains("aimpoint_stage_cpu_seconds_total{stage=\"commit\"}"), "{text}");
    }

    #[test]
    fn the_size_of_a_small_segment_does_not_show_in_who_entered_and_left() {
        let mut small = worker();
        small.minimum_audience = 5;
        let text = prometheus::text(&gather(&[small.clone()], true, EventTime(10_000_000)));
        for line in [
            "members{segment=\"a\\\"b\"} 0",
            "entries_total{segment=\"a\\\"b\"} 0",
            "exits_total{segment=\"a\\\"b\"} 0",
        ] {
            assert!(text.contains(&format!("aimpoint_segment_{line}\n")), "{line}: {text}");
        }
        assert_eq!([4, 5, 9, 10].map(|moves| small.shown_moves(moves)), [0, 5, 5, 10]);
    }
}
