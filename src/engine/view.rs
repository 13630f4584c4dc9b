//! What a worker shows of itself while it runs: where its partitions are, how long decisions take, what they say.
//!
//! Owns what the metrics and the live page read beside the plain counts. A worker writes once per commit and a few times a
//! second, readers take a copy, and nothing here decides anything. Limits: the last [`SEEN_MAX`] decisions and the last
//! [`HAPPENINGS_MAX`] happenings are kept. No user's key comes in here, only its hash.

use super::Trace;
use crate::{
    decision::Status,
    event::{EventTime, Position},
    inference::ModelInfo,
    telemetry::distribution::Distribution,
};
use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// How many of the last decisions are kept.
const SEEN_MAX: usize = 12;

/// How many of the last happenings are kept.
const HAPPENINGS_MAX: usize = 20;

/// How many traces wait for who takes them, each second: more than ten commits of each worker at the shortest interval that
/// makes sense. Further ones are dropped.
const TRACES_MAX: usize = 256;

/// Upper bounds of a decision's latency in seconds: from what a commit of 5 ms gives up to a day of backlog.
pub const LATENCY_BOUNDS: [f64; 20] = [
    0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 1_800.0,
    14_400.0, 86_400.0,
];

/// Upper bounds of the bins of scores.
pub const SCORE_BOUNDS: [f64; 20] =
    [0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0];

/// Where time is spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Bytes become rows; measured on one record of 64.
    Decode,
    /// Rows change profiles and give features.
    Profile,
    /// The model runs.
    Score,
    /// Segments are found.
    Target,
    /// Decisions become bytes.
    Encode,
    /// Outputs are handed to the client.
    Send,
    /// A transaction is committed, beside the other stages.
    Commit,
}

impl Stage {
    /// All stages, in the order of the enum.
    pub const ALL: [Self; 7] =
        [Self::Decode, Self::Profile, Self::Score, Self::Target, Self::Encode, Self::Send, Self::Commit];

    /// The stage as metric labels have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::Profile => "profile",
            Self::Score => "score",
            Self::Target => "target",
            Self::Encode => "encode",
            Self::Send => "send",
            Self::Commit => "commit",
        }
    }
}

/// One decision as the live page shows it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seen {
    /// The hash of the user's key; the page shows a keyed hash of it.
    pub user_hash: u64,
    /// Where its event came from.
    pub position: Position,
    /// When its event happened.
    pub occurred_at: EventTime,
    /// When it was made.
    pub decided_at: EventTime,
    /// What became of the event.
    pub status: Status,
    /// What the model said.
    pub score: Option<f32>,
    /// The segments by number, the first 64 of them, a bit each.
    pub segments: u64,
}

/// What a batch tells beside its counts, collected until its commit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Detail {
    /// By decision: when its event happened and when its record was appended, in milliseconds since 1970.
    pub times: Vec<(i64, i64)>,
    /// By segment's number: how many decisions put their user into it.
    pub segments: Vec<u64>,
    /// By bin of [`SCORE_BOUNDS`].
    pub scores: Vec<u64>,
    /// The time spent by stage.
    pub stages: [Duration; Stage::ALL.len()],
    /// How much of it the worker was computing; for decoding with what the client takes to hand the records over.
    pub computed: [Duration; Stage::ALL.len()],
    /// The last decision.
    pub last: Option<Seen>,
}

impl Detail {
    /// Adds another one.
    pub fn add(&mut self, other: &Self) {
        self.times.extend_from_slice(&other.times);
        add_counts(&mut self.segments, &other.segments);
        add_counts(&mut self.scores, &other.scores);
        add_times(&mut self.stages, &other.stages);
        add_times(&mut self.computed, &other.computed);
        self.last = other.last.or(self.last);
    }

    /// Empties it and keeps the memory.
    pub fn clear(&mut self) {
        self.times.clear();
        self.segments.clear();
        self.scores.clear();
        self.stages = <[Duration; Stage::ALL.len()]>::default();
        self.computed = self.stages;
        self.last = None;
    }

    /// Counts a score. One that is no number has no bin.
    pub fn score(&mut self, score: f64) {
        if score.is_nan() {
            return;
        }
        let bin = SCORE_BOUNDS.partition_point(|bound| *bound < score).min(SCORE_BOUNDS.len() - 1);
        count(&mut self.scores, bin);
    }

    /// Counts a decision that puts its user into the segment of this number.
    pub fn segment(&mut self, number: usize) {
        count(&mut self.segments, number);
    }

    /// Adds to the time spent in a stage.
    pub fn spend(&mut self, stage: Stage, time: Duration) {
        self.stages[stage as usize] += time;
    }

    /// Adds to the time that the worker was computing in a stage.
    pub fn compute(&mut self, stage: Stage, time: Duration) {
        self.computed[stage as usize] += time;
    }
}

fn add_times(to: &mut [Duration], of: &[Duration]) {
    to.iter_mut().zip(of).for_each(|(sum, time)| *sum += *time);
}

fn count(counts: &mut Vec<u64>, index: usize) {
    if counts.len() <= index {
        counts.resize(index + 1, 0);
    }
    counts[index] += 1;
}

fn add_counts(sums: &mut Vec<u64>, counts: &[u64]) {
    if sums.len() < counts.len() {
        sums.resize(counts.len(), 0);
    }
    sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
}

/// What a partition is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Its profiles are being read from the changelog.
    Restoring,
    /// Its input is read again, with nothing written.
    Replaying,
    /// Its events are decided.
    Moving,
}

impl Phase {
    /// The phase as metric labels and the page have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Restoring => "restoring",
            Self::Replaying => "replaying",
            Self::Moving => "moving",
        }
    }
}

/// Where a held partition is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionView {
    /// Its number.
    pub number: i32,
    /// What it is at.
    pub phase: Phase,
    /// The next offset to be processed.
    pub next: i64,
    /// Up to here the input is only read again.
    pub emit_from: i64,
    /// Where its log ended when the client last told.
    pub end: Option<i64>,
    /// The partition's event time: that of its newest events, which no single one of them makes.
    pub newest: Option<EventTime>,
    /// How many profiles it has.
    pub profiles: u64,
    /// About how many bytes they take.
    pub profile_bytes: u64,
    /// How many of them the changelog does not hold as they are, at most.
    pub dirty: u64,
}

impl PartitionView {
    /// How many records wait, where that is known.
    pub fn lag(&self) -> Option<u64> {
        Some(self.end?.saturating_sub(self.next).max(0) as u64)
    }

    /// How far behind `now` the newest event is, as long as records wait.
    pub fn lag_seconds(&self, now: EventTime) -> Option<f64> {
        match (self.lag()?, self.newest) {
            (0, _) => Some(0.0),
            (_, newest) => Some((now.0 - newest?.0).max(0) as f64 / 1e6),
        }
    }
}

/// What the Kafka client tells of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClientReport {
    /// By partition: where its log ends for readers of committed records.
    pub ends: Vec<(i32, i64)>,
    /// Records fetched and not yet taken.
    pub fetched: u64,
    /// The slowest broker's 99th percentile of a round trip.
    pub round_trip: Duration,
    /// Requests that failed to be sent or timed out, since the client was made.
    pub errors: u64,
    /// Connections that broke, since the client was made.
    pub disconnects: u64,
}

/// Something that happened to a worker.
#[derive(Clone, Debug, PartialEq)]
pub struct Happening {
    /// When, by this machine's clock.
    pub at: EventTime,
    /// What, from a closed set: assigned, revoked, lost, restored, retried, reloaded.
    pub what: &'static str,
    /// More of it for people, without anything of a user's.
    pub detail: String,
}

/// A copy of all that a worker shows.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The held partitions.
    pub partitions: Vec<PartitionView>,
    /// Whether the group has answered yet.
    pub is_member: bool,
    /// How long ago the worker last went round its loop.
    pub silent: Duration,
    /// Whether records wait that the worker does not get on with.
    pub is_behind: bool,
    /// From the event to the visible decision, in seconds.
    pub since_event: Distribution,
    /// From the record's append to the visible decision, in seconds.
    pub since_append: Distribution,
    /// Scores by bin.
    pub scores: Distribution,
    /// By segment: its id, and how many decisions put their user into it.
    pub segments: Vec<(String, u64)>,
    /// Time spent by stage.
    pub stages: [Duration; Stage::ALL.len()],
    /// How much of it the workers were computing, as in [`Detail::computed`].
    pub computed: [Duration; Stage::ALL.len()],
    /// The last decisions, the newest last.
    pub seen: VecDeque<Seen>,
    /// What happened last, the newest last.
    pub happenings: VecDeque<Happening>,
    /// What scores, with the name of the variant, which is empty where there is no experiment.
    pub models: Vec<(String, ModelInfo)>,
    /// What the Kafka client tells.
    pub client: ClientReport,
}

/// What a worker shows, to be read by other threads.
#[derive(Debug)]
pub struct View {
    shown: Mutex<Snapshot>,
    /// Of so many commits one is traced; 0 traces none.
    traced_of: AtomicU64,
    traces: Mutex<Vec<Trace>>,
}

impl Default for View {
    fn default() -> Self {
        let shown = Snapshot {
            partitions: Vec::new(),
            is_member: false,
            silent: Duration::ZERO,
            is_behind: false,
            since_event: Distribution::new(&LATENCY_BOUNDS),
            since_append: Distribution::new(&LATENCY_BOUNDS),
            scores: Distribution::new(&SCORE_BOUNDS),
            segments: Vec::new(),
            stages: <[Duration; Stage::ALL.len()]>::default(),
            computed: <[Duration; Stage::ALL.len()]>::default(),
            seen: VecDeque::new(),
            happenings: VecDeque::new(),
            models: Vec::new(),
            client: ClientReport::default(),
        };
        Self { shown: Mutex::new(shown), traced_of: AtomicU64::new(0), traces: Mutex::default() }
    }
}

impl View {
    fn shown(&self) -> MutexGuard<'_, Snapshot> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells what decides from now on: the ids of the segments in their order, and the models with their variants.
    pub fn describe<'a>(
        &self,
        segments: impl Iterator<Item = &'a str>,
        models: impl IntoIterator<Item = (String, &'a ModelInfo)>,
    ) {
        let mut shown = self.shown();
        let known = std::mem::take(&mut shown.segments);
        let count = |id: &str| known.iter().find(|(other, _)| other == id).map_or(0, |(_, count)| *count);
        shown.segments = segments.map(|id| (id.to_owned(), count(id))).collect();
        shown.models = models.into_iter().map(|(variant, model)| (variant, model.clone())).collect();
    }

    /// Adds what a commit made visible at `now`.
    pub fn committed(&self, detail: &Detail, now: EventTime) {
        let mut shown = self.shown();
        let now_ms = now.millis();
        for (happened, appended) in &detail.times {
            shown.since_event.record((now_ms - happened).max(0) as f64 / 1e3);
            shown.since_append.record((now_ms - appended).max(0) as f64 / 1e3);
        }
        for (bin, count) in detail.scores.iter().enumerate() {
            let middle = SCORE_BOUNDS[bin] - SCORE_BOUNDS[0] / 2.0;
            shown.scores.record_many(middle, *count);
        }
        for ((_, sum), count) in shown.segments.iter_mut().zip(&detail.segments) {
            *sum += count;
        }
        add_times(&mut shown.stages, &detail.stages);
        add_times(&mut shown.computed, &detail.computed);
        if let Some(last) = detail.last {
            while shown.seen.len() >= SEEN_MAX {
                shown.seen.pop_front();
            }
            shown.seen.push_back(last);
        }
    }

    /// Tells where the partitions are.
    pub fn partitions(&self, partitions: Vec<PartitionView>) {
        self.shown().partitions = partitions;
    }

    /// Tells what the client reports.
    pub fn client(&self, report: ClientReport) {
        self.shown().client = report;
    }

    /// Tells what happened.
    pub fn happened(&self, at: EventTime, what: &'static str, detail: String) {
        let mut shown = self.shown();
        shown.is_member |= what == "assigned";
        while shown.happenings.len() >= HAPPENINGS_MAX {
            shown.happenings.pop_front();
        }
        shown.happenings.push_back(Happening { at, what, detail });
    }

    /// Asks the worker to trace one of so many commits.
    pub fn trace_one_of(&self, commits: u64) {
        self.traced_of.store(commits, Ordering::Relaxed);
    }

    /// Whether the commit of this number is to be traced.
    pub fn is_traced(&self, commit: u64) -> bool {
        let of = self.traced_of.load(Ordering::Relaxed);
        of > 0 && commit.is_multiple_of(of)
    }

    /// Tells of a transaction.
    pub fn traced(&self, trace: Trace) {
        let mut traces = self.traces.lock().unwrap_or_else(PoisonError::into_inner);
        if traces.len() < TRACES_MAX {
            traces.push(trace);
        }
    }

    /// Takes what was traced since the last time.
    pub fn take_traces(&self) -> Vec<Trace> {
        std::mem::take(&mut *self.traces.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A copy of all of it.
    pub fn snapshot(&self) -> Snapshot {
        self.shown().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::{TRACES_MAX, View};
    use crate::{
        engine::{Counts, Partition, Partitions, Pipeline, PipelineSpec, Trace},
        event::{EventTime, Record},
        sink::Outbox,
        testkit::FakeModel,
    };

    #[test]
    fn a_pipeline_with_other_segments_keeps_the_model_of_the_one_before() {
        let compile = |id: &str, filter: &str| {
            let text = format!(
                "[[feature]]\nname = \"views\"\naggregate = \"count\"\nwindow = \"1h\"\n[[segment]]\nid = \"{id}\"\nwhere = '{filter}'"
            );
            let spec: PipelineSpec = toml::from_str(&text).expect("a sound specification");
            Pipeline::compile(&spec, "clicks").expect("it compiles")
        };
        let model = FakeModel::new(&["views"], |row| row[0] * 0.25);
        let mut pipeline = compile("any", "true").with_model(Box::new(model)).expect("the model fits");
        pipeline.replace(compile("high", "score >= 0.5"));

        let mut partitions = Partitions::default();
        partitions.insert(0, Partition::new(0, 0, None));
        let (mut outbox, mut counts) = (Outbox::default(), Counts::default());
        for offset in 0..3_i64 {
            let payload =
                format!(r#"{{"event_type":"view","user_id":"u","occurred_at":{}}}"#, 1_700_000_000_000 + offset);
            let record = Record {
                offset,
                timestamp_ms: Some(1_700_000_000_500),
                payload: Some(payload.as_bytes()),
                ..Record::default()
            };
            pipeline.take(&record, &mut partitions, &mut outbox, &mut counts);
        }
        pipeline.run(&mut partitions, EventTime(0), &mut outbox, &mut counts);
        assert_eq!(counts.detail.segments, [2], "scores are 0.25, 0.5 and 0.75");
        assert_eq!(counts.detail.times[0], (1_700_000_000_000, 1_700_000_000_500));
        assert_eq!(counts.detail.last.and_then(|last| last.score), Some(0.75));
        let payload = outbox.get(0).payload.map(String::from_utf8_lossy);
        assert!(payload.is_some_and(|text| text.contains("\"model\"")), "decisions name the model");
    }

    #[test]
    fn one_of_so_many_commits_is_traced_and_what_nobody_takes_is_bounded() {
        let view = View::default();
        assert!((0..9).all(|commit| !view.is_traced(commit)), "none unless asked for");
        view.trace_one_of(4);
        assert_eq!((0..9).filter(|commit| view.is_traced(*commit)).collect::<Vec<_>>(), [0, 4, 8]);
        (0..1_000).for_each(|_| view.traced(Trace::default()));
        assert_eq!((view.take_traces().len(), view.take_traces().len()), (TRACES_MAX, 0));
    }
}
