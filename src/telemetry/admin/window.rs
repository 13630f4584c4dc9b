//! The last two minutes, so that the page shows a full minute as soon as it is opened.
//!
//! Owns one sample per second of the workers' counts, and the differences between samples. Limits: [`SAMPLES_MAX`] samples of
//! about 600 bytes. A process that was suspended leaves a gap, so each difference comes with the time that it spans.

use crate::{
    metrics::Distribution,
    status::{Progress, Stage, StageTimes, WorkerStatus},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

/// Two minutes at one sample per second, and the sample before them.
const SAMPLES_MAX: usize = 121;

/// What the page shows as the last minute.
const MINUTE: Duration = Duration::from_mins(1);

/// The time span of the present rate.
const NOW: Duration = Duration::from_secs(5);

/// The workers' counts at one moment.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    at: Instant,
    events: u64,
    decisions: u64,
    commits: u64,
    since_append: Option<Distribution>,
    stages: StageTimes,
    /// By segment: how many users have entered and left. All workers have the same segments.
    moves: Vec<[u64; 2]>,
}

impl Sample {
    /// What the workers have counted so far.
    pub(super) fn of(at: Instant, workers: &[WorkerStatus], progress: &[Progress]) -> Self {
        let stages = StageTimes::default();
        let mut sample =
            Self { at, events: 0, decisions: 0, commits: 0, since_append: None, stages, moves: Vec::new() };
        for worker in progress {
            let counts = worker.counts();
            sample.events += counts.events;
            sample.decisions += counts.decisions;
            sample.commits += worker.commits();
        }
        for worker in workers {
            match &mut sample.since_append {
                Some(sum) => sum.add(&worker.latency.since_append),
                none => *none = Some(worker.latency.since_append.clone()),
            }
            sample.stages.add(&worker.stages);
            if sample.moves.len() < worker.segments.len() {
                sample.moves.resize(worker.segments.len(), [0; 2]);
            }
            for (sum, (_, counts)) in sample.moves.iter_mut().zip(&worker.segments) {
                sum[0] += counts.entries;
                sum[1] += counts.exits;
            }
        }
        if let Some(worker) = workers.first() {
            sample.moves.iter_mut().flatten().for_each(|moves| *moves = worker.shown_moves(*moves));
        }
        sample
    }

    fn counts(&self) -> &[u64] {
        self.since_append.as_ref().map(Distribution::counts).unwrap_or_default()
    }
}

/// The last samples, newest last.
#[derive(Debug, Default)]
pub(super) struct Window(VecDeque<Sample>);

impl Window {
    pub(super) fn push(&mut self, sample: Sample) {
        while self.0.len() >= SAMPLES_MAX {
            self.0.pop_front();
        }
        self.0.push_back(sample);
    }

    /// The newest sample that is at least this old, or the oldest one.
    fn before(&self, now: Instant, span: Duration) -> Option<&Sample> {
        self.0.iter().rev().find(|it| now.duration_since(it.at) >= span).or_else(|| self.0.front())
    }

    /// The differences over the last minute, and the rates of the last two minutes.
    pub(super) fn shown(&self, now: &Sample) -> Value {
        let seconds = |from: &Sample, until: &Sample| until.at.duration_since(from.at).as_secs_f64();
        let rate = |from: &Sample, until: &Sample| match seconds(from, until) {
            time if time > 0.0 => until.events.saturating_sub(from.events) as f64 / time,
            _ => 0.0,
        };
        let pairs = self.0.iter().zip(self.0.iter().skip(1));
        let rates: Vec<[f64; 2]> = pairs.map(|(from, until)| [seconds(until, now), rate(from, until)]).collect();
        let start = self.before(now.at, MINUTE).unwrap_or(now);
        let latency: Vec<u64> = now
            .counts()
            .iter()
            .enumerate()
            .map(|(bucket, count)| count.saturating_sub(start.counts().get(bucket).copied().unwrap_or_default()))
            .collect();
        let spent = |times: fn(&Sample) -> &[Duration; Stage::ALL.len()]| -> BTreeMap<&str, f64> {
            let time = |stage: &Stage| times(now)[*stage as usize].saturating_sub(times(start)[*stage as usize]);
            Stage::ALL.iter().map(|stage| (stage.as_str(), time(stage).as_secs_f64())).collect()
        };
        json!({
            "rate": self.before(now.at, NOW).map_or(0.0, |from| rate(from, now)),
            "rates": rates,
            "minute": {
                "seconds": seconds(start, now),
                "events": now.events.saturating_sub(start.events),
                "decisions": now.decisions.saturating_sub(start.decisions),
                "commits": now.commits.saturating_sub(start.commits),
                "latency_bounds": now.since_append.as_ref().map(Distribution::bounds).unwrap_or_default(),
                "latency": latency,
                "stages": spent(|it| &it.stages.elapsed),
                "computed": spent(|it| &it.stages.computed),
                "moves": now.moves.iter().enumerate().map(|(index, now)| {
                    let then = start.moves.get(index).copied().unwrap_or_default();
                    [now[0].saturating_sub(then[0]), now[1].saturating_sub(then[1])]
                }).collect::<Vec<_>>(),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::LATENCY_BOUNDS;

    /// 10 events per second of 8 ms each, and from second 100 on 30 per second of 40 ms.
    fn sample(start: Instant, second: u64) -> Sample {
        let (slow, quick) = (second.saturating_sub(100) * 30, second.min(100) * 10);
        let mut since_append = Distribution::new(&LATENCY_BOUNDS);
        since_append.record_many(0.008, quick);
        since_append.record_many(0.04, slow);
        let mut sample = Sample::of(start + Duration::from_secs(second), &[], &[]);
        (sample.events, sample.decisions, sample.since_append) = (quick + slow, quick, Some(since_append));
        sample.stages.elapsed[Stage::Commit as usize] = Duration::from_millis(700 * second);
        sample.stages.computed[Stage::Score as usize] = Duration::from_millis(10 * second);
        sample
    }

    #[test]
    fn the_last_minute_spans_a_minute() {
        let start = Instant::now();
        let mut window = Window::default();
        (0..=400).for_each(|second| window.push(sample(start, second)));
        assert_eq!(window.0.len(), SAMPLES_MAX);
        let shown = window.shown(&sample(start, 400));
        let minute = &shown["minute"];
        assert_eq!((minute["seconds"].as_f64(), minute["events"].as_u64()), (Some(60.0), Some(1_800)));
        assert_eq!(minute["latency"].as_array().unwrap().iter().filter_map(Value::as_u64).sum::<u64>(), 1_800);
        assert_eq!(minute["latency"][5], 1_800, "40 ms lie between 30 and 50");
        assert!((minute["stages"]["commit"].as_f64().unwrap() - 42.0).abs() < 1e-6, "{minute}");
        assert!((minute["computed"]["score"].as_f64().unwrap() - 0.6).abs() < 1e-6, "{minute}");
        assert_eq!(shown["rate"], 30.0);
        assert_eq!((shown["rates"].as_array().unwrap().len(), &shown["rates"][0]), (120, &json!([119.0, 30.0])));
    }

    #[test]
    fn a_shorter_or_longer_minute_comes_with_its_length() {
        let start = Instant::now();
        let mut window = Window::default();
        let shown = window.shown(&sample(start, 3));
        assert_eq!(
            (&shown["minute"]["seconds"], &shown["rate"], &shown["rates"]),
            (&json!(0.0), &json!(0.0), &json!([]))
        );
        (0..=20).for_each(|second| window.push(sample(start, second)));
        let shown = window.shown(&sample(start, 20));
        assert_eq!((&shown["minute"]["seconds"], &shown["minute"]["events"]), (&json!(20.0), &json!(200)));
        // The process was suspended for five minutes.
        let shown = window.shown(&sample(start, 320));
        assert_eq!((&shown["minute"]["seconds"], &shown["minute"]["events"]), (&json!(300.0), &json!(7_400)));
    }
}
