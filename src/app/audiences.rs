//! Reports the sizes of audiences to control: how many users are in each lasting segment of each partition.
//!
//! Guarantees: a worker never waits for it. Only partitions that this process owns and has restored are reported, so the
//! last report of a partition is its owner's. What has not changed is not reported again.
//! Limits: a report is up to [`INTERVAL`] late, and counts what is not committed yet. If no broker answers, it is tried
//! again at the next one. One thread and one producer for the process.

use crate::{
    control::{AudienceReport, SegmentSize},
    logging::LastingFault,
    sink::{PublishError, Publisher},
    status::{Phase, Progress, SegmentCounts, WorkerStatus},
};
use anyhow::Context;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// How often sizes are reported.
const INTERVAL: Duration = Duration::from_secs(10);
/// The deadline for a report to reach the broker.
const DEADLINE: Duration = Duration::from_secs(5);
/// How often the thread checks whether the process stops.
const TURN: Duration = Duration::from_millis(200);

/// Where the reports go.
pub(super) struct AudiencesTopic {
    pub(super) brokers: String,
    pub(super) client: Vec<(String, String)>,
    pub(super) topic: String,
    pub(super) app: String,
}

/// The thread that reports. It ends when this is dropped.
pub(super) struct Audiences(Arc<AtomicBool>);

impl Drop for Audiences {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Starts to report the sizes that these workers count.
pub(super) fn report(topic: AudiencesTopic, workers: Vec<Progress>) -> anyhow::Result<Audiences> {
    let stop = Arc::new(AtomicBool::new(false));
    let audiences = Audiences(Arc::clone(&stop));
    let publisher = Publisher::new(&topic.brokers, &topic.client, &topic.topic, DEADLINE)?;
    let thread = std::thread::Builder::new().name("audiences".to_owned());
    let mut reported = Reported::default();
    let run = move || {
        let mut next = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            if Instant::now() >= next {
                next = Instant::now() + INTERVAL;
                let now: Vec<WorkerStatus> = workers.iter().map(Progress::status).collect();
                let changed = reported.changed(&topic.app, &now);
                match publish(&publisher, &changed) {
                    Ok(()) => changed.into_iter().for_each(|it| reported.publish(it)),
                    Err(error) => reported.fault(&format!("{error}")),
                }
            }
            std::thread::sleep(TURN);
        }
    };
    thread.spawn(run).map(drop).context("start the thread that reports the sizes of audiences")?;
    Ok(audiences)
}

fn publish(publisher: &Publisher, reports: &[AudienceReport]) -> Result<(), PublishError> {
    if reports.is_empty() {
        return Ok(());
    }
    // An earlier failure was told.
    publisher.take_refused();
    for report in reports {
        publisher.publish(Some(report.key().as_bytes()), Some(&report.to_json()))?;
    }
    publisher.finish()
}

/// What was reported last, by partition.
#[derive(Default)]
struct Reported {
    sizes: BTreeMap<i32, Vec<SegmentSize>>,
    fault: LastingFault,
}

impl Reported {
    /// The reports of partitions whose sizes have changed. Forgets partitions that this process no longer owns, because
    /// their next owner reports them.
    fn changed(&mut self, app: &str, workers: &[WorkerStatus]) -> Vec<AudienceReport> {
        let mut now = BTreeMap::new();
        for worker in workers {
            for partition in worker.partitions.iter().filter(|it| it.phase == Phase::Moving) {
                let lasting = worker.segments.iter().filter_map(|(id, counts)| Some((id, counts, counts.membership?)));
                let size = |(id, counts, cell): (&String, &SegmentCounts, usize)| SegmentSize {
                    segtax: counts.segtax,
                    id: id.clone(),
                    members: partition.members.get(cell).copied().unwrap_or_default(),
                };
                now.insert(partition.number, lasting.map(size).collect::<Vec<_>>());
            }
        }
        self.sizes.retain(|partition, _| now.contains_key(partition));
        let is_new = |(partition, sizes): &(i32, Vec<SegmentSize>)| match self.sizes.get(partition) {
            Some(known) => known != sizes,
            None => true,
        };
        let report = |(partition, segments)| AudienceReport { app: app.to_owned(), partition, segments };
        now.into_iter().filter(is_new).map(report).collect()
    }

    /// Notes that the broker has a report.
    fn publish(&mut self, report: AudienceReport) {
        self.fault.ends();
        self.sizes.insert(report.partition, report.segments);
    }

    fn fault(&mut self, fault: &str) {
        if self.fault.begins(fault) {
            tracing::warn!(
                fault,
                "the sizes of audiences cannot be reported to control; trying again. If the topic is missing, create it with: \
                 aimpoint topics --create"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::PartitionView;

    /// A worker with the segments `keen` (momentary), `686` and `new`, and these partitions.
    fn worker(partitions: &[(i32, Phase, &[u64])]) -> WorkerStatus {
        let progress = Progress::default();
        let segments = [("keen", 0, None), ("686", 4, Some(0)), ("new", 0, Some(1))];
        progress.view().describe(segments.into_iter(), std::iter::empty(), None);
        let view = |(number, phase, members): &(i32, Phase, &[u64])| PartitionView {
            number: *number,
            phase: *phase,
            next: 0,
            replay_until: 0,
            end: None,
            newest: None,
            profiles: 0,
            profile_bytes: 0,
            dirty: 0,
            members: members.to_vec(),
        };
        progress.view().partitions(partitions.iter().map(view).collect());
        progress.status()
    }

    #[test]
    fn what_has_changed_in_restored_partitions_is_reported() {
        let mut reported = Reported::default();
        let mut told = |workers: &[WorkerStatus]| -> Vec<String> {
            let reports = reported.changed("shop", workers);
            let text = |it: &AudienceReport| String::from_utf8(it.to_json()).unwrap();
            let texts = reports.iter().map(text).collect();
            for report in reports {
                reported.publish(report);
            }
            texts
        };
        let report = |partition: i32, sizes: [u64; 2]| {
            format!(
                r#"{{"app":"shop","partition":{partition},"segments":[{{"segtax":4,"id":"686","members":{}}},{{"id":"new","members":{}}}]}}"#,
                sizes[0], sizes[1]
            )
        };
        let first = worker(&[(0, Phase::Moving, &[3]), (1, Phase::Replaying, &[9])]);
        let second = worker(&[(2, Phase::Moving, &[])]);
        assert_eq!(told(&[first.clone(), second.clone()]), [report(0, [3, 0]), report(2, [0, 0])]);
        assert_eq!(told(&[first, second.clone()]), [""; 0]);
        let first = worker(&[(0, Phase::Moving, &[3]), (1, Phase::Moving, &[9, 1])]);
        assert_eq!(told(&[first, second.clone()]), [report(1, [9, 1])]);
        // A partition that comes back is reported again, because others may have reported it meanwhile.
        assert_eq!(told(std::slice::from_ref(&second)), [""; 0]);
        assert_eq!(told(&[worker(&[(0, Phase::Moving, &[3])]), second]), [report(0, [3, 0])]);
    }
}
