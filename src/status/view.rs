//! The state of a worker for metrics and the live page.
//!
//! A worker writes once per commit and a few times a second; readers take a copy. Limits: the last [`DECISIONS_MAX`] decisions
//! and the last [`EVENTS_MAX`] events are kept.

use super::{Detail, PartitionView, RecentDecision, StageTimes, Trace};
use crate::{
    event::EventTime,
    inference::ModelInfo,
    metrics::{Distribution, LATENCY_BOUNDS, SCORE_BOUNDS},
    targeting::campaign::Tally,
};
use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// How many recent decisions are kept.
const DECISIONS_MAX: usize = 12;

/// How many recent events are kept.
const EVENTS_MAX: usize = 20;

/// How many traces may wait for the exporter, which takes them every second. Enough for more than ten commits per
/// second of each worker at the shortest useful commit interval. Further ones are dropped.
const TRACES_MAX: usize = 256;

/// What the Kafka client reports about itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClientReport {
    /// By partition: the end of its log for read-committed consumers.
    pub ends: Vec<(i32, i64)>,
    /// Records fetched and not yet processed.
    pub fetched: u64,
    /// The 99th percentile of round trips to the slowest broker.
    pub round_trip: Duration,
    /// Answers of brokers since the client was created; `None` if they are not counted.
    pub answers: Option<u64>,
    /// Failed or timed-out requests since the client was created.
    pub errors: u64,
    /// Connections lost since the client was created.
    pub disconnects: u64,
}

/// How long decisions took to become visible, in seconds.
#[derive(Clone, Debug)]
pub struct Latency {
    /// Since the event happened.
    pub since_event: Distribution,
    /// Since the record was appended to the input.
    pub since_append: Distribution,
}

impl Default for Latency {
    fn default() -> Self {
        Self { since_event: Distribution::new(&LATENCY_BOUNDS), since_append: Distribution::new(&LATENCY_BOUNDS) }
    }
}

/// Something that happened to a worker, shown on the live page.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerEvent {
    /// When it happened, by this machine's clock.
    pub at: EventTime,
    /// What happened, from a closed set: assigned, revoked, lost, restored, retried, reloaded.
    pub what: &'static str,
    /// Details for people, without user data.
    pub detail: String,
}

/// Whether a worker runs and moves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkerHealth {
    /// Whether the group has assigned partitions yet.
    pub is_member: bool,
    /// How long ago the worker last ran its loop.
    pub silent: Duration,
    /// Whether records are waiting without progress.
    pub is_behind: bool,
    /// Whether no broker answers.
    pub is_disconnected: bool,
}

/// What a worker did last, newest last.
#[derive(Clone, Debug, Default)]
pub struct Recent {
    /// Its decisions.
    pub decisions: VecDeque<RecentDecision>,
    /// What happened to it.
    pub events: VecDeque<WorkerEvent>,
}

impl Recent {
    fn decided(&mut self, decision: RecentDecision) {
        while self.decisions.len() >= DECISIONS_MAX {
            self.decisions.pop_front();
        }
        self.decisions.push_back(decision);
    }

    fn happened(&mut self, event: WorkerEvent) {
        while self.events.len() >= EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}

/// A copy of a worker's state, for metrics and the live page.
#[derive(Clone, Debug)]
pub struct WorkerStatus {
    /// The assigned partitions.
    pub partitions: Vec<PartitionView>,
    /// Whether it runs.
    pub health: WorkerHealth,
    /// The latency of decisions.
    pub latency: Latency,
    /// Scores by bin.
    pub scores: Distribution,
    /// By segment: its id, and what was counted.
    pub segments: Vec<(String, SegmentCounts)>,
    /// By campaign: its id, and the outcomes.
    pub campaigns: Vec<(String, Tally)>,
    /// The times spent in the stages.
    pub stages: StageTimes,
    /// The last decisions and events.
    pub recent: Recent,
    /// The models that score, each with the name of its variant, which is empty without an experiment.
    pub models: Vec<(String, ModelInfo)>,
    /// The last report of the Kafka client.
    pub client: ClientReport,
    /// The policy that decisions are made with: its version, and when it was issued. `None` before the first.
    pub policy: Option<(u64, EventTime)>,
    /// `targeting.minimum_audience`: smaller segments are not shown.
    pub minimum_audience: u64,
}

impl WorkerStatus {
    /// How many users are in a segment, if it is lasting.
    pub fn members(&self, segment: &SegmentCounts) -> Option<u64> {
        let cell = segment.membership?;
        Some(self.partitions.iter().filter_map(|partition| partition.members.get(cell)).sum())
    }

    /// The number of members of all workers as it may be shown: 0 stands for fewer than the minimum.
    pub fn shown_members(&self, members: u64) -> u64 {
        if members < self.minimum_audience { 0 } else { members }
    }

    /// The number of users of all workers who have entered or left a segment, as it may be shown: in steps of the minimum, because
    /// the difference of both is the number of members.
    pub fn shown_moves(&self, moves: u64) -> u64 {
        moves - moves % self.minimum_audience.max(1)
    }
}

/// What a worker has counted about a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentCounts {
    /// The taxonomy of its id; 0 for an id of one's own.
    pub segtax: u32,
    /// How many decisions matched it.
    pub decisions: u64,
    /// The index of its memberships in [`PartitionView::members`], if it is lasting.
    pub membership: Option<usize>,
    /// How many users have entered, if it is lasting.
    pub entries: u64,
    /// How many users have left, if it is lasting.
    pub exits: u64,
}

/// A worker's state, written by the worker and read by other threads.
#[derive(Debug)]
pub struct View {
    status: Mutex<WorkerStatus>,
    /// One of this many commits is traced; 0 traces none.
    traced_of: AtomicU64,
    traces: Mutex<Vec<Trace>>,
}

impl Default for View {
    fn default() -> Self {
        let status = WorkerStatus {
            partitions: Vec::new(),
            health: WorkerHealth::default(),
            latency: Latency::default(),
            scores: Distribution::new(&SCORE_BOUNDS),
            segments: Vec::new(),
            campaigns: Vec::new(),
            stages: StageTimes::default(),
            recent: Recent::default(),
            models: Vec::new(),
            client: ClientReport::default(),
            policy: None,
            minimum_audience: 0,
        };
        Self { status: Mutex::new(status), traced_of: AtomicU64::new(0), traces: Mutex::default() }
    }
}

impl View {
    fn lock(&self) -> MutexGuard<'_, WorkerStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the fewest members of a segment that are shown.
    pub fn show_from(&self, minimum_audience: u64) {
        self.lock().minimum_audience = minimum_audience;
    }

    /// Sets the policy that decisions are made with.
    pub fn follow(&self, version: u64, issued_at: EventTime) {
        self.lock().policy = Some((version, issued_at));
    }

    /// Sets the ids of segments and campaigns, in their order, with the taxonomy of each segment and the index of its
    /// memberships if it is lasting, and the models with their variants. Known segments and campaigns keep their counts.
    pub fn describe<'a>(
        &self,
        segments: impl Iterator<Item = (&'a str, u32, Option<usize>)> + Clone,
        campaigns: impl Iterator<Item = &'a str>,
        models: impl IntoIterator<Item = (String, &'a ModelInfo)>,
    ) {
        let mut status = self.lock();
        status.segments = kept(&status.segments, segments.clone().map(|(id, ..)| id));
        for ((_, counts), (_, segtax, membership)) in status.segments.iter_mut().zip(segments) {
            counts.segtax = segtax;
            counts.membership = membership;
        }
        status.campaigns = kept(&status.campaigns, campaigns);
        status.models = models.into_iter().map(|(variant, model)| (variant, model.clone())).collect();
    }

    /// Adds the detail of a commit that became visible at `now`.
    pub fn committed(&self, detail: &Detail, now: EventTime) {
        let mut status = self.lock();
        let now_ms = now.millis();
        for (happened, appended) in &detail.times {
            status.latency.since_event.record((now_ms - happened).max(0) as f64 / 1e3);
            status.latency.since_append.record((now_ms - appended).max(0) as f64 / 1e3);
        }
        for (bin, count) in detail.scores.iter().enumerate() {
            let middle = SCORE_BOUNDS[bin] - SCORE_BOUNDS[0] / 2.0;
            status.scores.record_many(middle, *count);
        }
        for ((_, sum), count) in status.segments.iter_mut().zip(&detail.segments) {
            sum.decisions += count;
        }
        let [entries, exits] = &detail.moves;
        for ((_, sum), count) in status.segments.iter_mut().zip(entries) {
            sum.entries += count;
        }
        for ((_, sum), count) in status.segments.iter_mut().zip(exits) {
            sum.exits += count;
        }
        for ((_, sum), tally) in status.campaigns.iter_mut().zip(&detail.campaigns) {
            sum.add(tally);
        }
        status.stages.add(&detail.stages);
        if let Some(last) = detail.last {
            status.recent.decided(last);
        }
    }

    /// Sets the state of the partitions.
    pub fn partitions(&self, partitions: Vec<PartitionView>) {
        self.lock().partitions = partitions;
    }

    /// Sets the report of the Kafka client.
    pub fn client(&self, report: ClientReport) {
        self.lock().client = report;
    }

    /// Adds an event.
    pub fn happened(&self, at: EventTime, what: &'static str, detail: String) {
        let mut status = self.lock();
        status.health.is_member |= what == "assigned";
        status.recent.happened(WorkerEvent { at, what, detail });
    }

    /// Asks the worker to trace one of this many commits.
    pub fn trace_one_of(&self, commits: u64) {
        self.traced_of.store(commits, Ordering::Relaxed);
    }

    /// Whether to trace the commit with this number.
    pub fn is_traced(&self, commit: u64) -> bool {
        let of = self.traced_of.load(Ordering::Relaxed);
        of > 0 && commit.is_multiple_of(of)
    }

    /// Adds a trace, unless too many are waiting.
    pub fn traced(&self, trace: Trace) {
        let mut traces = self.traces.lock().unwrap_or_else(PoisonError::into_inner);
        if traces.len() < TRACES_MAX {
            traces.push(trace);
        }
    }

    /// Removes and returns the waiting traces.
    pub fn take_traces(&self) -> Vec<Trace> {
        std::mem::take(&mut *self.traces.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A copy of the state.
    pub fn status(&self) -> WorkerStatus {
        self.lock().clone()
    }
}

/// These ids with their counts; new ones begin at zero.
fn kept<'a, C: Copy + Default>(known: &[(String, C)], ids: impl Iterator<Item = &'a str>) -> Vec<(String, C)> {
    let count = |id: &str| known.iter().find(|(other, _)| other == id).map_or_else(C::default, |(_, count)| *count);
    ids.map(|id| (id.to_owned(), count(id))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_are_sampled_and_waiting_traces_are_bounded() {
        let view = View::default();
        assert!((0..9).all(|commit| !view.is_traced(commit)), "none unless asked for");
        view.trace_one_of(4);
        assert_eq!((0..9).filter(|commit| view.is_traced(*commit)).collect::<Vec<_>>(), [0, 4, 8]);
        (0..1_000).for_each(|_| view.traced(Trace::default()));
        assert_eq!((view.take_traces().len(), view.take_traces().len()), (TRACES_MAX, 0));
    }
}
