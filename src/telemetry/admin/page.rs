//! The data of the live page, as JSON.

use super::{AdminState, now, window::Sample};
use crate::{
    event::EventTime,
    inference::ModelInfo,
    metrics::{
        Distribution, Family, Samples,
        families::{MODEL_VERSIONS, SHADOW_CORRELATION, SHADOW_MEAN, SHADOW_PSI, SHADOW_ROWS},
    },
    status::{Counts, Progress, Stage, WorkerStatus},
    targeting::campaign::{Reason, Tally},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::PoisonError, time::Instant};

/// How many recent decisions and events are shown.
const RECENT_MAX: usize = 20;

/// How many reasons for not being ready are shown.
const REASONS_MAX: usize = 8;

impl AdminState {
    /// What the page shows.
    pub(super) fn page(&self) -> Value {
        let (workers, progress) = self.status();
        let reasons = self.reasons(&workers);
        let counts = Counts::of(&progress);
        let dead_letters: BTreeMap<&str, u64> =
            counts.dead_letters.iter().map(|(reason, count)| (reason.as_str(), *count)).collect();
        let sample = Sample::of(Instant::now(), &workers, &progress);
        let recent = self.window.lock().unwrap_or_else(PoisonError::into_inner).shown(&sample);
        let figures = self.figures();
        json!({
            "title": self.title,
            "version": env!("CARGO_PKG_VERSION"),
            "now_ms": now().millis(),
            "uptime_seconds": self.started.elapsed().as_secs(),
            "ready": reasons.is_empty(),
            "reasons": reasons.into_iter().take(REASONS_MAX).collect::<Vec<_>>(),
            "workers": workers.len(),
            "counts": {
                "events": counts.events, "decisions": counts.decisions, "fallbacks": counts.fallbacks,
                "duplicates": counts.duplicates, "suppressed": counts.suppressed_total(), "replayed": counts.beside.replayed,
            },
            "commits": progress.iter().map(Progress::commits).sum::<u64>(),
            "retries": progress.iter().map(Progress::retries).sum::<u64>(),
            "dead_letters": dead_letters,
            "partitions": partitions(&workers),
            "recent": recent,
            "since_event": sum(&workers, |it| &it.latency.since_event),
            "since_append": sum(&workers, |it| &it.latency.since_append),
            "scores": sum(&workers, |it| &it.scores),
            "segments": segments(&workers),
            "campaigns": campaigns(&workers),
            "stages": stages(&workers),
            "models": models(&workers),
            "versions": numbers(&figures, &MODEL_VERSIONS)
                .map(|(labels, count)| (labels[0].as_str(), count))
                .collect::<BTreeMap<_, _>>(),
            "shadows": shadows(&figures),
            "seen": self.decisions(&workers),
            "happenings": events(&workers),
        })
    }

    fn decisions(&self, workers: &[WorkerStatus]) -> Vec<Value> {
        let all =
            workers.iter().flat_map(|worker| worker.recent.decisions.iter().map(move |decision| (worker, decision)));
        let shown = all.map(|(worker, it)| {
            let segments = worker.segments.iter().take(64).enumerate();
            let segments = segments.filter(|(index, _)| it.segments >> index & 1 == 1).map(|(_, (id, _))| id);
            let shown = json!({
                "at_ms": it.decided_at.millis(), "user": self.pseudonym(it.user_hash), "score": it.score,
                "status": it.status.name(), "segments": segments.collect::<Vec<_>>(),
                "partition": it.position.partition, "offset": it.position.offset,
                "occurred_ms": it.occurred_at.millis(),
            });
            (it.decided_at, shown)
        });
        newest(shown.collect())
    }
}

fn events(workers: &[WorkerStatus]) -> Vec<Value> {
    let all =
        workers.iter().enumerate().flat_map(|(worker, it)| it.recent.events.iter().map(move |event| (worker, event)));
    let shown = all.map(|(worker, it)| {
        (it.at, json!({ "at_ms": it.at.millis(), "worker": worker, "what": it.what, "detail": it.detail }))
    });
    newest(shown.collect())
}

fn newest(mut all: Vec<(EventTime, Value)>) -> Vec<Value> {
    all.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    all.into_iter().take(RECENT_MAX).map(|(_, it)| it).collect()
}

fn partitions(workers: &[WorkerStatus]) -> Vec<Value> {
    let now = now();
    let all = workers.iter().enumerate().flat_map(|(worker, it)| it.partitions.iter().map(move |one| (worker, one)));
    let shown = all.map(|(worker, it)| {
        json!({
            "number": it.number, "worker": worker, "phase": it.phase.as_str(), "next": it.next, "lag": it.lag(),
            "lag_seconds": it.lag_seconds(now), "profiles": it.profiles, "profile_bytes": it.profile_bytes,
            "left": it.replay_left(),
        })
    });
    shown.collect()
}

/// The sum of the workers' distributions; null without workers.
fn sum(workers: &[WorkerStatus], value: fn(&WorkerStatus) -> &Distribution) -> Option<Value> {
    let mut all = workers.iter().map(value);
    let mut sum = all.next().cloned()?;
    all.for_each(|other| sum.add(other));
    Some(json!({ "bounds": sum.bounds(), "counts": sum.counts() }))
}

fn segments(workers: &[WorkerStatus]) -> Vec<Value> {
    let mut all: Vec<(&str, u64, Option<u64>)> = Vec::new();
    for (worker, (id, counts)) in workers.iter().flat_map(|worker| worker.segments.iter().map(move |it| (worker, it))) {
        let members = worker.members(counts);
        match all.iter_mut().find(|(other, ..)| other == id) {
            Some((_, sum, sizes)) => {
                *sum += counts.decisions;
                *sizes = sizes.zip(members).map(|(size, members)| size + members);
            }
            None => all.push((id, counts.decisions, members)),
        }
    }
    let shown = |members| workers.first().map_or(members, |worker| worker.shown_members(members));
    let all = all.into_iter().map(|(id, count, members)| (id, count, members.map(shown)));
    all.map(|(id, count, members)| json!({ "id": id, "count": count, "members": members })).collect()
}

fn campaigns(workers: &[WorkerStatus]) -> Vec<Value> {
    let mut all: Vec<(&str, Tally)> = Vec::new();
    for (id, tally) in workers.iter().flat_map(|worker| &worker.campaigns) {
        match all.iter_mut().find(|(other, _)| other == id) {
            Some((_, sum)) => sum.add(tally),
            None => all.push((id, *tally)),
        }
    }
    let shown = all.into_iter().map(|(id, tally)| {
        let refused = Reason::ALL.into_iter().zip(tally.refused).filter(|(_, count)| *count > 0);
        let refused: BTreeMap<&str, u64> = refused.map(|(reason, count)| (reason.as_str(), count)).collect();
        json!({ "id": id, "considered": tally.considered, "chosen": tally.chosen, "refused": refused })
    });
    shown.collect()
}

fn stages(workers: &[WorkerStatus]) -> BTreeMap<&'static str, f64> {
    let time = |stage: &Stage| workers.iter().map(|it| it.stages.elapsed[*stage as usize].as_secs_f64()).sum();
    Stage::ALL.iter().map(|stage| (stage.as_str(), time(stage))).collect()
}

/// The models, each with the number of its workers: right after a swap some have the old one.
fn models(workers: &[WorkerStatus]) -> Vec<Value> {
    let mut all: Vec<(&(String, ModelInfo), u64)> = Vec::new();
    for model in workers.iter().flat_map(|worker| &worker.models) {
        match all.iter_mut().find(|(other, _)| *other == model) {
            Some((_, count)) => *count += 1,
            None => all.push((model, 1)),
        }
    }
    let shown = all.into_iter().map(|((variant, it), workers)| {
        json!({
            "variant": variant, "name": it.name, "version": it.version, "provider": it.provider,
            "runtime": it.runtime, "sha256": it.sha256, "features": it.features.len(), "workers": workers,
        })
    });
    shown.collect()
}

fn shadows(figures: &[Samples]) -> Vec<Value> {
    let mut rows: Vec<(&str, BTreeMap<&str, f64>)> = Vec::new();
    for (labels, count) in numbers(figures, &SHADOW_ROWS) {
        let (name, outcome) = (labels[0].as_str(), labels[1].as_str());
        match rows.iter_mut().find(|(other, _)| *other == name) {
            Some((_, all)) => drop(all.insert(outcome, count)),
            None => rows.push((name, BTreeMap::from([(outcome, count)]))),
        }
    }
    let shown = rows.into_iter().map(|(name, rows)| {
        let of = |family, labels: &[&str]| {
            let mut all = numbers(figures, family);
            all.find(|(other, _)| *other == labels).map(|(_, number)| number)
        };
        json!({
            "name": name, "rows": rows, "psi": of(&SHADOW_PSI, &[name]),
            "champion_mean": of(&SHADOW_MEAN, &[name, "champion"]), "mean": of(&SHADOW_MEAN, &[name, "shadow"]),
            "correlation": of(&SHADOW_CORRELATION, &[name]),
        })
    });
    shown.collect()
}

/// The label values and numbers of a family.
fn numbers<'a>(figures: &'a [Samples], family: &Family) -> impl Iterator<Item = (&'a [String], f64)> {
    figures.iter().filter(|it| it.family.name == family.name).flat_map(Samples::numbers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics;

    #[test]
    fn shadows_are_shown_with_their_rows_and_drift() {
        let sample = |labels: &[&str], number| {
            metrics::Sample::number(labels.iter().map(|label| (*label).to_owned()).collect(), number)
        };
        let figures = [
            Samples {
                family: &SHADOW_ROWS,
                samples: vec![
                    sample(&["b", "scored"], 40.0),
                    sample(&["a", "scored"], 7.0),
                    sample(&["b", "skipped"], 2.0),
                ],
            },
            Samples { family: &SHADOW_PSI, samples: vec![sample(&["b"], 0.125)] },
            Samples {
                family: &SHADOW_MEAN,
                samples: vec![sample(&["b", "champion"], 0.5), sample(&["b", "shadow"], 0.25)],
            },
            Samples { family: &SHADOW_CORRELATION, samples: vec![sample(&["b"], 0.75)] },
        ];
        let [b, a] = &shadows(&figures)[..] else { panic!("two shadows") };
        let expected = json!({
            "name": "b", "rows": { "scored": 40.0, "skipped": 2.0 }, "psi": 0.125, "champion_mean": 0.5, "mean": 0.25,
            "correlation": 0.75,
        });
        assert_eq!(b, &expected);
        assert_eq!((&a["name"], &a["rows"], &a["psi"]), (&json!("a"), &json!({ "scored": 7.0 }), &Value::Null));
    }
}
