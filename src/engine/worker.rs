//! One worker: a member of the group, its transactions, and the profiles of its partitions.
//!
//! Guarantees: an output is committed together with the position behind it, or is delivered before it where the sink shows
//! outputs at once; profiles are committed with their position either way; state never runs backwards, because the
//! outputs of an open transaction are kept until its outcome is known; a partition whose ownership or outcome is in
//! doubt is dropped and recovered from the log. While one transaction is being committed, the next one fills; if the
//! first one fails, both are made again as one, in their order. Limits: one transaction holds at most
//! [`OUTBOX_BYTES_MAX`] before it is committed early; one failing transaction is tried [`TRIES_MAX`] times.
//!
//! A partition is recovered from the lazy changelog: its profiles are read up to the log's end, then the input is read again
//! from the mark in the committed offset's metadata up to the offset, with nothing written, and what a restored profile
//! covers is passed by. Profiles made by other features are carried over (`profile::Carry`), unless `profile.on_change`
//! asks for a replay. Then, and where there is no mark, the whole input is read again: a profile is a fold of the input,
//! and the input is the one thing that is surely there; records of the history before do not count any more. Changed
//! profiles are written at most once per checkpoint interval, oldest first, [`PROFILES_PER_COMMIT`] a commit; a partition
//! that goes in order leaves none behind.

use super::{
    ClientReport, Clock, Counts, Partition, Partitions, Pipeline, Progress, Restoring, SnapshotStore, Stage, Trace,
    pipeline::{BATCH_BYTES_MAX, BATCH_ROWS_MAX},
};
use crate::{
    canary::{self, Canary},
    event::Record,
    profile::OnChange,
    sink::{Outbox, Sink, SinkError},
    source::{Change, Committed, Restored, Source, SourceError},
    state::{Mark, SnapshotReader},
    telemetry::{logs, metrics},
};
use crossbeam_channel::Receiver;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// A transaction is committed early when its outputs pass this.
const OUTBOX_BYTES_MAX: usize = 32 << 20;

/// After so many records it is looked whether the batch has reached a bound, so it is passed by what these hold at most.
const RECORDS_PER_LOOK: usize = 16;

/// How often a failing transaction is made again before the worker gives up. The pauses grow to a second, so that this
/// outlasts a broker's restart.
const TRIES_MAX: u32 = 60;

/// The most profiles that one commit writes, so that none stalls: at commits of 25 ms, 80,000 a second.
const PROFILES_PER_COMMIT: usize = 2_000;

/// So often within the checkpoint's interval are profiles of a partition written, unless more are due than a commit takes. Each
/// partition of the changelog is one more of which the broker is told and in which the transaction is ended, and what comes
/// meanwhile waits: so few transactions hold profiles, of one partition at a time, in turn, and then many.
const PROFILES_TURNS: u32 = 10;

/// The most profiles that one commit writes when partitions go.
const PROFILES_PER_HANDOVER_COMMIT: usize = 20_000;

/// How long the changed profiles of partitions that go are written; what is left is read again by the next owner.
const HANDOVER_DEADLINE: Duration = Duration::from_secs(5);

/// How often what partitions that go have open is committed before it is left to their next owner.
const HANDOVER_TRIES: u32 = 3;

/// How long a failing transaction is made again. Well below the group's `max.poll.interval.ms` of 5 minutes, because
/// nothing is read and no rebalance is answered meanwhile.
const MEND_DEADLINE: Duration = Duration::from_mins(2);

/// The pause before a question that no broker answered in time is asked again.
const ASK_PAUSE: Duration = Duration::from_millis(500);

/// How often a transaction may be of a generation that has passed before all is recovered. In between the loop goes on, so
/// that the change of the group that must be under way is answered.
const STALE_TRIES_MAX: u32 = 20;

/// How many records of the changelog are taken in one turn.
const RESTORE_ROWS_MAX: usize = 10_000;

/// The same while other partitions are being processed: some milliseconds.
const RESTORE_ROWS_BESIDE: usize = 4_000;

/// How many blocks of a snapshot are read in one turn: some milliseconds.
const SNAPSHOT_BLOCKS_BESIDE: usize = 16;

/// How often the progress of a restore is logged.
const RESTORE_REPORT: Duration = Duration::from_secs(5);

/// Into how many parts the time is cut after which a worker that does not get on ends. What is found at one look is told
/// only if it is found at the next one, too: records may have come just then.
const STALL_LOOKS: u32 = 4;

/// How long an idle worker waits for a record before it looks for a stop or a change.
const IDLE_WAIT: Duration = Duration::from_millis(100);

/// The same while a commit is under way, and how long its outcome is waited for where the next one is due already.
const FLIGHT_WAIT: Duration = Duration::from_millis(1);

/// A batch below this is a small one: more of a turn's cost is the turn than the records.
const SMALL_BATCH: usize = 64;

/// The pause before a commit that is due is begun behind outputs that are still on their way.
const BUSY_PAUSE: Duration = Duration::from_micros(500);

/// So many outputs are sent before their commit is due.
const OUTPUTS_PER_SEND: usize = 256;

/// How often partitions that the changelog has none for are asked for again.
const LACKING_LOOK: Duration = Duration::from_secs(5);

/// How often in a row a member that was fenced joins the group anew, with pauses that grow from this; a while without it, and
/// the count begins anew. Two processes of one instance would put each other out for ever.
const REJOINS_MAX: u32 = 5;
const REJOIN_PAUSE: Duration = Duration::from_secs(1);
const REJOINS_FORGOTTEN: Duration = Duration::from_mins(10);

/// How often a worker shows where its partitions are.
const SHOW_INTERVAL: Duration = Duration::from_millis(250);

/// What is promised about a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// Once for every reader that reads committed records alone.
    ExactlyOnce,
    /// Once or, after a fault or a rebalance, more often; visible without waiting for a commit.
    AtLeastOnce,
}

/// How a worker paces itself.
#[derive(Clone, Copy, Debug)]
pub struct WorkerSettings {
    /// Its number among the workers of the process.
    pub number: usize,
    /// The time from a transaction's first record to its commit.
    pub commit_interval: Duration,
    /// How long the worker rests after a small batch, so that the next one is larger: at little load it would wake for every
    /// record.
    pub pace: Duration,
    /// The largest batch.
    pub batch_rows_max: usize,
    /// How often a changed profile is written to the changelog at most.
    pub checkpoint_interval: Duration,
    /// How long there may be records without any progress before the worker ends.
    pub stall_after: Duration,
}

/// Asks all workers to end.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Asks.
    pub fn request(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether somebody asked.
    pub fn is_requested(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Why a worker ended before it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The input side failed.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The output side failed.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// A transaction failed again and again.
    #[error("commit {outputs} outputs: given up after {tries} tries: {last}")]
    Commit {
        /// How many outputs it held.
        outputs: usize,
        /// How often it was tried.
        tries: u32,
        /// The last failure.
        last: SinkError,
    },
    /// There are records, and nothing becomes of them.
    #[error("partitions {partitions:?} have had records for {} of which nothing was committed", humantime::format_duration(*time))]
    Stalled {
        /// Which ones.
        partitions: Vec<i32>,
        /// For how long.
        time: Duration,
    },
}

/// What has to be done after a failed transaction.
enum Remedy {
    /// Send the kept outputs again in a new transaction.
    Again,
    /// It took effect after all.
    TookEffect,
    /// The group is changing: go on, answer the change, and send the kept outputs again if they are still this worker's.
    Later,
    /// Ownership is in doubt: drop the state and recover it.
    Recover,
}

/// What is known of whether the worker gets on.
#[derive(Debug, Default)]
struct Watch {
    /// When something was last committed or restored.
    moved_at: Duration,
    looked_at: Duration,
    /// Since when there have been records of which nothing became.
    behind_since: Option<Duration>,
}

/// A transaction whose commit is under way, with all that it takes to make it again.
struct Flight {
    /// Partition, next offset, metadata.
    positions: Vec<(i32, i64, String)>,
    outbox: Outbox,
    counts: Counts,
    /// The outbox's decisions that went as dead letters.
    set_aside: Vec<usize>,
    /// When its first record was taken.
    opened: Duration,
    /// When its commit began.
    since: Duration,
    /// Whether it is to prove that this worker is still in the group.
    confirms: bool,
}

/// That a partition's log ends before the position from which it has to be read.
fn made_anew(number: i32, next: i64, end: i64) -> EngineError {
    EngineError::Source(SourceError::Fatal {
        doing: format!("take up partition {number} at offset {next}"),
        detail: format!(
            "the log ends at {end}; was the topic made anew? reset the group's offsets, or use another app.name"
        ),
    })
}

/// Whether a commit proves that this worker is still in the group. While it is wanted, one is made even if it moves nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Confirmation {
    #[default]
    None,
    Wanted,
    /// A commit that began while it was wanted has moved or repeated positions.
    Given,
}

/// One worker.
pub struct Worker<S: Source, K: Sink<Group = S::Group>, C: Clock> {
    settings: WorkerSettings,
    source: S,
    sink: K,
    clock: C,
    pipeline: Pipeline,
    partitions: Partitions,
    outbox: Outbox,
    /// How many of the outbox's outputs have been handed to the sink in the open transaction.
    sent: usize,
    /// Which of these are decisions that went as dead letters, because their topic does not take them.
    set_aside: Vec<usize>,
    /// Whether the sink has a transaction open.
    begun: bool,
    /// When profiles were last written because they were due, and of which partition.
    profiles_at: Duration,
    profiles_of: i32,
    /// When the first record since the last commit was processed.
    opened_at: Option<Duration>,
    flight: Option<Flight>,
    /// Emptied buffers of the last flight.
    spare: (Outbox, Counts),
    counts: Counts,
    /// How often in a row a transaction was of a generation that has passed.
    stale: u32,
    restoring: Vec<Restoring>,
    restore_told_at: Duration,
    watch: Watch,
    snapshots: Option<Snapshots>,
    confirmation: Confirmation,
    /// Held partitions that the changelog has none for: nothing of them is read until it has.
    lacking: Vec<i32>,
    lacking_at: Duration,
    /// How often in a row the member has joined anew, and when it last did.
    rejoins: (u32, Duration),
    progress: Progress,
    pipelines: Option<Receiver<Pipeline>>,
    batch_bytes_max: usize,
    outbox_bytes_max: usize,
    /// What the client last told of itself, and when the worker shows itself next.
    report: ClientReport,
    show_at: Duration,
}

/// The snapshots that this worker writes and reads.
struct Snapshots {
    store: Box<dyn SnapshotStore>,
    /// How often one is written.
    interval: Duration,
    written_at: Duration,
    /// The partition that was written last.
    last: i32,
    reading: Vec<SnapshotReader>,
    /// By partition: where its changelog is read on behind a snapshot.
    behind: BTreeMap<i32, i64>,
}

impl<S: Source, K: Sink<Group = S::Group>, C: Clock> Worker<S, K, C> {
    /// Makes a worker that holds no partition yet.
    pub fn new(settings: WorkerSettings, source: S, sink: K, clock: C, pipeline: Pipeline, progress: Progress) -> Self {
        let it = Self {
            settings,
            source,
            sink,
            clock,
            pipeline,
            partitions: Partitions::default(),
            outbox: Outbox::default(),
            sent: 0,
            set_aside: Vec::new(),
            begun: false,
            profiles_at: Duration::ZERO,
            profiles_of: -1,
            opened_at: None,
            flight: None,
            spare: <(Outbox, Counts)>::default(),
            counts: Counts::default(),
            stale: 0,
            restoring: Vec::new(),
            restore_told_at: Duration::ZERO,
            watch: Watch::default(),
            snapshots: None,
            confirmation: Confirmation::default(),
            lacking: Vec::new(),
            lacking_at: Duration::ZERO,
            rejoins: (0, Duration::ZERO),
            progress,
            pipelines: None,
            batch_bytes_max: BATCH_BYTES_MAX,
            outbox_bytes_max: OUTBOX_BYTES_MAX,
            report: ClientReport::default(),
            show_at: Duration::ZERO,
        };
        it.describe();
        it
    }

    /// Shows which segments there are and which model scores.
    fn describe(&self) {
        let segments = self.pipeline.segments().all().iter().map(|it| it.id.as_str());
        self.progress.view().describe(segments, self.pipeline.models());
    }

    /// Has the worker take each pipeline that comes this way, in place of the one it has. It declares the same features.
    #[must_use]
    pub fn with_pipelines(mut self, pipelines: Receiver<Pipeline>) -> Self {
        self.pipelines = Some(pipelines);
        self
    }

    /// Bounds a batch and the outputs of a transaction by other bytes than usual.
    #[must_use]
    pub fn with_bounds(mut self, batch_bytes_max: usize, outbox_bytes_max: usize) -> Self {
        (self.batch_bytes_max, self.outbox_bytes_max) = (batch_bytes_max, outbox_bytes_max);
        self
    }

    /// Takes another pipeline, if one waits and nothing is open: a transaction is decided by one alone.
    fn swap(&mut self) -> Result<(), EngineError> {
        let waiting = self.pipelines.as_ref().is_some_and(|it| !it.is_empty());
        if !waiting || self.opened_at.is_some() {
            return Ok(());
        }
        self.land()?;
        if let Some(pipeline) = self.pipelines.as_ref().and_then(|it| it.try_recv().ok()) {
            self.pipeline.replace(pipeline);
            self.describe();
            self.tell("reloaded", format!("{} segments", self.pipeline.segments().all().len()));
        }
        Ok(())
    }

    /// Keeps snapshots there, and writes one of some partition at each interval.
    #[must_use]
    pub fn with_snapshots(mut self, store: Box<dyn SnapshotStore>, interval: Duration) -> Self {
        let (reading, behind) = (Vec::new(), BTreeMap::new());
        self.snapshots = Some(Snapshots { store, interval, written_at: Duration::ZERO, last: -1, reading, behind });
        self
    }

    /// Runs until the stop is requested, then commits what is open. It stays in the group until it is dropped.
    ///
    /// # Errors
    /// When the broker, the client or a setting makes it impossible to go on. What was not committed is read again by
    /// the next owner.
    pub fn run(&mut self, stop: &Stop) -> Result<(), EngineError> {
        while !stop.is_requested() {
            self.turn()?;
        }
        self.leave()
    }

    /// Commits what is open and writes what the changelog does not hold.
    ///
    /// # Errors
    /// As [`Worker::run`].
    pub fn leave(&mut self) -> Result<(), EngineError> {
        let held = self.partitions.held();
        self.hand_over(&held)?;
        if self.snapshots.is_some() {
            self.write_snapshots(&held)?;
        }
        if let Some(snapshots) = &mut self.snapshots {
            snapshots.store.finish();
        }
        Ok(())
    }

    /// Writes the snapshot of the next partition where one is due. Everything is committed first, because a snapshot is of
    /// what is committed alone.
    fn snapshot(&mut self, now: Duration) -> Result<(), EngineError> {
        let Some(snapshots) = &mut self.snapshots else { return Ok(()) };
        if now.saturating_sub(snapshots.written_at) < snapshots.interval {
            return Ok(());
        }
        snapshots.written_at = now;
        let held = self.partitions.held();
        let Some(number) = held.iter().find(|it| **it > snapshots.last).or(held.first()).copied() else {
            return Ok(());
        };
        snapshots.last = number;
        if self.partitions.is_recovering(number) {
            return Ok(());
        }
        self.write_snapshots(&[number])
    }

    /// Writes the snapshots of these partitions. A commit between the question for the changelog's end and the copy proves
    /// that nobody else had written to the changelog by then: a worker that was put out of the group would not know.
    fn write_snapshots(&mut self, partitions: &[i32]) -> Result<(), EngineError> {
        let mut ends = Vec::new();
        for number in partitions {
            // Without an answer there is none this time.
            if let Ok(end) = self.source.profiles_end(*number) {
                ends.push((*number, end));
            }
        }
        let is_sure = canary::is_in(Canary::SnapshotOfOpen) || {
            self.confirmation = Confirmation::Wanted;
            self.opened_at.get_or_insert(self.clock.elapsed());
            let is_committed = self.commit()?;
            let confirmation = std::mem::take(&mut self.confirmation);
            is_committed && (confirmation == Confirmation::Given || canary::is_in(Canary::ConfirmationUsedUp))
        };
        for (number, end) in ends.into_iter().filter(|_| is_sure) {
            self.write_snapshot(number, end);
        }
        Ok(())
    }

    fn write_snapshot(&mut self, number: i32, changelog: i64) {
        if let Some(snapshots) = &mut self.snapshots
            && let Some(bytes) = self.partitions.snapshot(number, changelog, self.pipeline.layout().id())
        {
            snapshots.store.put(number, bytes);
        }
    }

    /// Opens the snapshot of a partition that is restored, if there is one that can be used.
    fn open_snapshot(&mut self, number: i32) -> Option<SnapshotReader> {
        let snapshots = self.snapshots.as_mut()?;
        let committed = self.partitions.get(number)?.replay_until;
        let reader = match snapshots.store.open(number) {
            Ok(None) => return None,
            Ok(Some(from)) => SnapshotReader::open(from, number, self.pipeline.layout().id(), committed),
            Err(error) => Err(error.into()),
        };
        match reader {
            Ok(reader) => Some(reader),
            Err(error) => {
                tracing::warn!(partition = number, %error, "pass by the snapshot, and read the whole changelog");
                self.progress.health().doubt();
                None
            }
        }
    }

    /// Takes in what is next of the snapshots that are being read, and goes on with the changelog behind them.
    fn read_snapshots(&mut self, blocks: usize) -> Result<(), EngineError> {
        let Some(snapshots) = &mut self.snapshots else { return Ok(()) };
        let mut starts = Vec::new();
        let Self { partitions, pipeline, progress, .. } = self;
        snapshots.reading.retain_mut(|reader| {
            let (partition, applied) = (reader.of().partition, reader.of().committed);
            for _ in 0..blocks {
                let taken = reader.next(|key, record| {
                    let record = Record { partition, key: Some(key), payload: Some(record), ..Record::default() };
                    partitions.restore_applied(&record, pipeline.profile(), applied);
                });
                match taken {
                    Ok(true) => {}
                    Ok(false) => {
                        partitions.cached(partition);
                        starts.push((partition, reader.of().changelog));
                        return false;
                    }
                    Err(error) => {
                        tracing::warn!(partition, %error, "pass by the snapshot, and read the whole changelog");
                        progress.health().doubt();
                        partitions.restart(partition);
                        starts.push((partition, 0));
                        return false;
                    }
                }
            }
            true
        });
        if !starts.is_empty() {
            snapshots.behind.extend(starts.iter().copied());
            self.insist(|source| source.restore(&starts))?;
        }
        Ok(())
    }

    /// Reads the whole changelog of a partition after all: its snapshot does not fit.
    fn restore_whole(&mut self, partition: i32, why: &str) -> Result<(), EngineError> {
        tracing::warn!(partition, why, "pass by the snapshot, and read the whole changelog");
        self.progress.health().doubt();
        self.forget_restores(&[partition]);
        self.partitions.restart(partition);
        self.insist(|source| source.restore(&[(partition, 0)]))
    }

    fn forget_restores(&mut self, partitions: &[i32]) {
        self.restoring.retain(|it| !partitions.contains(&it.partition));
        if let Some(snapshots) = &mut self.snapshots {
            snapshots.reading.retain(|it| !partitions.contains(&it.of().partition));
            snapshots.behind.retain(|partition, _| !partitions.contains(partition));
        }
    }

    /// The partitions with their profiles.
    pub fn partitions(&self) -> &Partitions {
        &self.partitions
    }

    /// One turn of the loop: a batch, the changes of the assignment, and the commit when it is due.
    ///
    /// # Errors
    /// As [`Worker::run`].
    pub fn turn(&mut self) -> Result<(), EngineError> {
        self.progress.health().beat();
        self.swap()?;
        if self.opened_at.is_none()
            && let Some((before, now)) = self.pipeline.renew()
        {
            tracing::info!(model = now.name, version = now.version, before = before.version, "decides from here on");
            self.tell("model", format!("version {} in place of {}", now.version, before.version));
            self.describe();
        }
        let wait = self.due_at().map_or(IDLE_WAIT, |due| due.saturating_sub(self.clock.elapsed()));
        let is_busy = self.flight.is_some() || self.partitions.is_restoring();
        let wait = wait.min(if is_busy { FLIGHT_WAIT } else { IDLE_WAIT });
        let (batch_bytes_max, outbox_bytes_max) = (self.batch_bytes_max, self.outbox_bytes_max);
        let Self { source, pipeline, partitions, outbox, counts, clock, .. } = self;
        pipeline.set_present(clock.now());
        let computed = clock.computed();
        let (mut taken, mut wait) = (0, wait);
        loop {
            let some = RECORDS_PER_LOOK.min(self.settings.batch_rows_max - taken);
            let came = match source.poll(some, wait, &mut |record| pipeline.take(record, partitions, outbox, counts)) {
                // What was taken before it is dropped with the partitions.
                Err(SourceError::Fenced { instance, detail }) => return self.join_anew(instance, detail),
                answer => answer?,
            };
            taken += came;
            let is_full = pipeline.batch_bytes() >= batch_bytes_max
                || pipeline.batch_rows() >= BATCH_ROWS_MAX
                || outbox.bytes() >= outbox_bytes_max;
            if came < some || taken >= self.settings.batch_rows_max || is_full {
                break;
            }
            wait = Duration::ZERO;
        }
        counts.detail.compute(Stage::Decode, clock.computed().saturating_sub(computed));
        if taken > 0 {
            metrics::batch(taken);
            let now = self.clock.elapsed();
            self.opened_at.get_or_insert(now);
            if canary::is_in(Canary::CommitBeforeState) && self.flight.is_none() {
                self.take_off()?;
                self.opened_at.get_or_insert(now);
            }
            if !self.partitions.is_caught_up() {
                self.moved(now);
            }
            self.pipeline.run(&mut self.partitions, self.clock.now(), &mut self.outbox, &mut self.counts);
        }
        self.sink.serve();
        self.look(Duration::ZERO)?;
        if self.is_worth_sending()
            && let Err(error) = self.deliver()
        {
            self.mend_open(error)?;
        }
        self.restore()?;
        if self.source.is_cut() {
            self.go_on_behind_the_cut()?;
        }
        if !self.lacking.is_empty() {
            self.take_lacking()?;
        }
        while let Some(change) = self.source.change() {
            self.answer(change)?;
        }
        let now = self.clock.elapsed();
        if !self.partitions.is_caught_up() {
            self.end_replays();
        }
        self.show(now);
        self.partitions.note(now, self.settings.checkpoint_interval);
        if self.opened_at.is_none() && self.is_time_for_profiles(now) && self.partitions.is_due() {
            self.opened_at = Some(now);
        }
        let is_full = self.outbox.bytes() >= self.outbox_bytes_max;
        if is_full || self.is_due(now) {
            if is_full {
                self.land()?;
            } else {
                self.look(FLIGHT_WAIT)?;
            }
            if self.flight.is_none() {
                if is_full || self.sink.is_idle() {
                    self.take_off()?;
                } else {
                    self.clock.pause(BUSY_PAUSE);
                }
            }
        }
        self.snapshot(now)?;
        self.watch(now)?;
        if (1..SMALL_BATCH).contains(&taken) {
            let until_due = self.due_at().unwrap_or(now).saturating_sub(now);
            self.clock.pause(self.settings.pace.min(until_due));
        }
        Ok(())
    }

    /// Shows where the worker is, now and then.
    fn show(&mut self, now: Duration) {
        if let Some(report) = self.source.report() {
            self.progress.view().client(report.clone());
            self.report = report;
        }
        if now >= self.show_at {
            self.show_at = now + SHOW_INTERVAL;
            let view = self.progress.view();
            let mut partitions = self.partitions.views();
            for partition in &mut partitions {
                let end = self.report.ends.iter().find(|(number, _)| *number == partition.number);
                partition.end = end.map(|(_, end)| *end);
                // Behind the last record there may be offsets that are no records, and nothing waits there.
                if partition.end.is_some_and(|end| self.source.is_at_end(partition.number, end)) {
                    partition.end = Some(partition.next);
                }
            }
            view.partitions(partitions);
        }
    }

    /// Ends the replay of partitions whose last records before the committed position are not there any more, or never were:
    /// a position that somebody has set may lie behind offsets that are no records.
    fn end_replays(&mut self) {
        for number in self.partitions.held() {
            if let Some(partition) = self.partitions.get(number)
                && partition.next < partition.replay_until
                && !partition.is_restoring()
                && self.source.is_at_end(number, partition.replay_until)
            {
                self.partitions.end_replay(number);
            }
        }
    }

    /// Tells other threads what has happened.
    fn tell(&self, what: &'static str, detail: String) {
        self.progress.view().happened(self.clock.now(), what, detail);
    }

    /// Whether new outputs are handed over before their commit is due. Those of a transaction are seen by nobody before that:
    /// the first ones are sent at once, so that the broker knows of it, and then many together. Behind outputs that are still
    /// on their way they wait here, because librdkafka turns in a loop while messages wait behind a request; and so does a
    /// commit that is due, which sends the rest.
    fn is_worth_sending(&self) -> bool {
        // Where readers see them at once, they wait for nothing but the sending.
        self.sink.shows_at_once()
            || (!self.begun || self.outbox.len() - self.sent >= OUTPUTS_PER_SEND)
                && !self.is_due(self.clock.elapsed())
                && self.sink.is_idle()
    }

    /// When what is open is to be committed.
    fn due_at(&self) -> Option<Duration> {
        self.opened_at.map(|opened| opened + self.settings.commit_interval)
    }

    /// Whether it is time to commit.
    fn is_due(&self, now: Duration) -> bool {
        self.due_at().is_some_and(|due| now >= due)
    }

    /// Hands new outputs to the sink, in a transaction that is opened by the first.
    fn deliver(&mut self) -> Result<(), SinkError> {
        if self.sent == self.outbox.len() {
            return Ok(());
        }
        // What is sent by one producer could overtake what the other one still has on its way.
        if self.flight.is_some() && !self.sink.is_delivered() && !canary::is_in(Canary::SendsOvertake) {
            return Ok(());
        }
        self.write_due_profiles();
        self.begin()?;
        let (start, computed) = (self.clock.elapsed(), self.clock.computed());
        self.sink.send(&self.outbox, self.sent, &mut self.set_aside)?;
        self.counts.detail.spend(Stage::Send, self.clock.elapsed().saturating_sub(start));
        self.counts.detail.compute(Stage::Send, self.clock.computed().saturating_sub(computed));
        self.sent = self.outbox.len();
        Ok(())
    }

    fn begin(&mut self) -> Result<(), SinkError> {
        if !self.begun {
            self.sink.begin()?;
            self.begun = true;
        }
        Ok(())
    }

    /// Begins to commit what is open. Nothing else is being committed.
    fn take_off(&mut self) -> Result<(), EngineError> {
        if self.opened_at.is_none() {
            return Ok(());
        }
        self.write_due_profiles();
        match self.start_commit() {
            Ok(()) => Ok(()),
            Err(error) => self.mend(error),
        }
    }

    /// Waits for the outcome of the commit under way.
    fn land(&mut self) -> Result<(), EngineError> {
        while self.flight.is_some() {
            self.progress.health().beat();
            self.look(IDLE_WAIT)?;
        }
        Ok(())
    }

    /// Acts on the outcome of the commit under way, if it is known within `wait`.
    fn look(&mut self, wait: Duration) -> Result<(), EngineError> {
        match self.outcome(wait) {
            None => Ok(()),
            Some(Ok(())) => {
                self.settle();
                Ok(())
            }
            Some(Err(error)) => self.mend(error),
        }
    }

    fn outcome(&mut self, wait: Duration) -> Option<Result<(), SinkError>> {
        self.flight.as_ref()?;
        let outcome = self.sink.outcome(wait)?;
        if canary::is_in(Canary::OutcomeAssumed) && outcome.is_err() {
            self.sink.abort().and_then(|()| self.sink.fence()).unwrap_or_default();
            self.unsend();
            return Some(Ok(()));
        }
        Some(outcome)
    }

    /// Makes everything since the last commit final, and says whether it is.
    fn commit(&mut self) -> Result<bool, EngineError> {
        self.land()?;
        self.take_off()?;
        self.land()?;
        Ok(self.outbox.is_empty() && self.opened_at.is_none())
    }

    fn write_profiles(&mut self, number: i32, is_going: bool, max: usize) -> usize {
        let bounds = (max, self.outbox_bytes_max);
        self.partitions.write_profiles(number, is_going, bounds, self.pipeline.layout(), &mut self.outbox)
    }

    fn is_time_for_profiles(&self, now: Duration) -> bool {
        let pause = self.settings.checkpoint_interval / PROFILES_TURNS / self.partitions.count().max(1) as u32;
        now.saturating_sub(self.profiles_at) >= pause
    }

    /// Writes the profiles that are due of the next partition that has any, with the first outputs of a transaction alone: so the
    /// broker is told of all its partitions at once, and has them when the commit begins.
    fn write_due_profiles(&mut self) {
        let now = self.clock.elapsed();
        if self.begun || !self.is_time_for_profiles(now) {
            return;
        }
        let held = self.partitions.held();
        let (before, behind) = held.split_at(held.partition_point(|it| *it <= self.profiles_of));
        for number in behind.iter().chain(before) {
            let written = self.write_profiles(*number, false, PROFILES_PER_COMMIT);
            if written > 0 {
                self.profiles_of = *number;
                if written < PROFILES_PER_COMMIT && self.outbox.bytes() < self.outbox_bytes_max {
                    self.profiles_at = now;
                }
                return;
            }
        }
        self.profiles_at = now;
    }

    /// Commits what is open and leaves no changed profile of partitions that go unwritten, as far as the deadline allows.
    /// Says whether everything that was processed is committed.
    fn hand_over(&mut self, going: &[i32]) -> Result<bool, EngineError> {
        let start = self.clock.elapsed();
        let mut is_committed = self.commit()?;
        // A commit that was under way while the group changed was of the generation before; the same again is of this one.
        for _ in 1..HANDOVER_TRIES {
            is_committed = is_committed || self.commit()?;
        }
        while is_committed
            && self.partitions.dirty(going) > 0
            && self.clock.elapsed().saturating_sub(start) < HANDOVER_DEADLINE
        {
            let mut left = PROFILES_PER_HANDOVER_COMMIT;
            for number in going {
                left -= self.write_profiles(*number, true, left);
            }
            // Where all that was dirty has gone by itself, nothing is written, and the marks move all the same.
            if self.outbox.is_empty() && self.partitions.progress(self.pipeline.layout().id()).is_empty() {
                break;
            }
            self.opened_at = Some(self.clock.elapsed());
            is_committed = self.commit()?;
        }
        Ok(is_committed)
    }

    /// Takes in what has come of the changelog, and lets the input of partitions that are restored go on.
    fn restore(&mut self) -> Result<(), EngineError> {
        if !self.partitions.is_restoring() {
            return Ok(());
        }
        let now = self.clock.elapsed();
        let is_alone = self.partitions.held().iter().all(|number| self.partitions.is_recovering(*number));
        self.read_snapshots(if is_alone { usize::MAX } else { SNAPSHOT_BLOCKS_BESIDE })?;
        let Self { source, pipeline, partitions, restoring, snapshots, .. } = self;
        let (mut done, mut unfit) = (Vec::new(), Vec::new());
        let mut has_moved = false;
        source.poll_restore(if is_alone { RESTORE_ROWS_MAX } else { RESTORE_ROWS_BESIDE }, &mut |restored| {
            has_moved = true;
            match restored {
                Restored::Bounds(partition, ends) => {
                    let behind = snapshots.as_ref().and_then(|it| it.behind.get(&partition)).copied();
                    let from = behind.unwrap_or(ends.low).max(ends.low);
                    let end = ends.high;
                    if behind.is_some_and(|at| at > 0 && (at < ends.low || at > end)) {
                        unfit.push(partition);
                    }
                    restoring.push(Restoring { partition, from, next: from, end, since: now, took: Duration::ZERO });
                }
                Restored::Record(record) => {
                    if let Some(it) = restoring.iter_mut().find(|it| it.partition == record.partition) {
                        it.next = record.offset + 1;
                    }
                    partitions.restore(record, pipeline.profile());
                }
                Restored::Done(partition) => done.push(partition),
            }
        })?;
        done.retain(|partition| !unfit.contains(partition));
        for partition in unfit {
            self.restore_whole(partition, "the changelog does not reach back to it, or is another one")?;
        }
        for partition in done {
            self.restored(partition)?;
        }
        if has_moved {
            self.moved(now);
            self.tell_restore(now);
        }
        Ok(())
    }

    /// Lets the input of a partition go on whose changelog is read.
    fn restored(&mut self, partition: i32) -> Result<(), EngineError> {
        let now = self.clock.elapsed();
        self.forget_restores(&[partition]);
        let Some(recovered) = self.partitions.restored(partition, self.pipeline.profile()) else { return Ok(()) };
        if let Some((offset, why)) = recovered.first_unfit {
            metrics::unfit(recovered.unfit_records);
            tracing::error!(
                partition,
                records = recovered.unfit_records,
                first_offset = offset,
                first = why.as_str(),
                "records of the changelog are of no use; where that is not for their size: does anybody else write to the topic?"
            );
        }
        // Where another owner has committed meanwhile, the records of before may be compacted away.
        if !recovered.is_whole() && self.is_overtaken(partition)? {
            for (partition, start) in self.recover(&[partition])? {
                self.insist(|source| source.resume(partition, start))?;
            }
            return self.begin_restore(&[partition]);
        }
        if recovered.is_cached && !recovered.is_whole() {
            return self.restore_whole(partition, "with it the numbers of profiles differ, or some do not fit");
        }
        let (from, found) = (recovered.next, recovered.found);
        let to = self.partitions.get(partition).map_or(from, |it| it.replay_until);
        if recovered.is_whole() {
            let carried = recovered.carried;
            tracing::info!(partition, profiles = found, carried, replay_from = from, replay_to = to, "restored");
            metrics::restored(found);
            self.tell(
                "restored",
                format!("partition {partition}, {found} profiles, {} events to read again", to - from),
            );
        } else if recovered.is_partly_whole() {
            metrics::restored(found);
            tracing::error!(
                partition,
                profiles = found,
                users = recovered.unfit,
                from,
                to,
                "the whole input is read again to rebuild the profiles of the users whose records do not fit, as far as it \
                 reaches back; all others are kept"
            );
            self.tell("rebuilding", format!("partition {partition}, {} users from the input", recovered.unfit));
            self.progress.health().doubt();
        } else {
            tracing::error!(
                partition,
                found,
                owed = recovered.owed,
                from,
                to,
                "the changelog does not hold the profiles that were committed to it: was it made anew, or cut? The whole \
                 input is read again to rebuild them, as far as it reaches back"
            );
            self.progress.health().doubt();
        }
        self.moved(now);
        self.insist(|source| source.resume(partition, from))?;
        Ok(())
    }

    fn tell_restore(&mut self, now: Duration) {
        for it in &mut self.restoring {
            it.took = now.saturating_sub(it.since);
        }
        self.progress.health().restore(|told| told.clone_from(&self.restoring));
        if now.saturating_sub(self.restore_told_at) >= RESTORE_REPORT {
            self.restore_told_at = now;
            for it in &self.restoring {
                let left = it.left().map_or(0, |left| left.as_secs());
                let percent = (it.share() * 100.0) as u64;
                tracing::info!(partition = it.partition, percent, seconds_left = left, "restoring");
            }
        }
    }

    /// Notes that the worker gets on.
    fn moved(&mut self, now: Duration) {
        self.watch.moved_at = now;
        self.watch.behind_since = None;
        self.progress.health().moved();
    }

    /// Ends the worker where there are records and nothing becomes of them: another process may have more luck, and
    /// somebody is told.
    fn watch(&mut self, now: Duration) -> Result<(), EngineError> {
        let pause = self.settings.stall_after / STALL_LOOKS;
        if now.saturating_sub(self.watch.moved_at.max(self.watch.looked_at)) < pause {
            return Ok(());
        }
        self.watch.looked_at = now;
        let mut behind = Vec::new();
        for number in self.partitions.held() {
            if self.is_behind(number) {
                behind.push(number);
            }
        }
        if behind.is_empty() {
            self.watch.behind_since = None;
            return Ok(());
        }
        let since = *self.watch.behind_since.get_or_insert(now);
        let time = now.saturating_sub(since);
        if time.is_zero() {
            return Ok(());
        }
        self.progress.health().behind();
        tracing::warn!(partitions = ?behind, "there are records, and nothing becomes of them");
        if time + pause >= self.settings.stall_after {
            return Err(EngineError::Stalled { partitions: behind, time: time + pause });
        }
        Ok(())
    }

    /// Whether there is something to be done for a partition. Only asked after a while without any progress.
    fn is_behind(&mut self, number: i32) -> bool {
        let Some(partition) = self.partitions.get(number) else { return false };
        let next = partition.next;
        let committed = self.partitions.committed(number).map_or(partition.replay_until, |(offset, _)| offset);
        if partition.is_restoring() || next != committed.max(partition.replay_until) {
            return true;
        }
        // Without an answer nobody knows.
        let Ok(ends) = self.source.watermarks(number) else { return true };
        ends.high > next && !self.source.is_at_end(number, ends.high)
    }

    /// Hands the open transaction over to be committed, and opens the account of the next.
    fn start_commit(&mut self) -> Result<(), SinkError> {
        let mut positions = self.partitions.progress(self.pipeline.layout().id());
        // It stays wanted until a commit has given it: an attempt that fails is made again.
        let confirms = self.confirmation == Confirmation::Wanted;
        if confirms && canary::is_in(Canary::ConfirmationUsedUp) {
            self.confirmation = Confirmation::None;
        }
        if positions.is_empty() && (confirms || !self.outbox.is_empty()) {
            // Outputs without positions would pass by the check of the generation.
            positions = self.partitions.positions(self.pipeline.layout().id());
        }
        let since = self.clock.elapsed();
        if !positions.is_empty() {
            // Positions alone move too, where no event gave an output.
            self.begin()?;
            self.deliver()?;
            let group = self.source.group().ok_or_else(|| SinkError::Stale {
                doing: "commit the transaction",
                detail: "this consumer is no member of its group".to_owned(),
            })?;
            self.sink.commit(&positions, group)?;
        }
        let is_nothing = positions.is_empty();
        let (outbox, counts) = std::mem::take(&mut self.spare);
        self.flight = Some(Flight {
            positions,
            outbox: std::mem::replace(&mut self.outbox, outbox),
            counts: std::mem::replace(&mut self.counts, counts),
            set_aside: std::mem::take(&mut self.set_aside),
            opened: self.opened_at.unwrap_or(since),
            since,
            confirms,
        });
        self.reopen();
        if is_nothing {
            self.settle();
        }
        Ok(())
    }

    /// After a commit: what it held is final.
    fn settle(&mut self) {
        let Some(Flight { positions, mut outbox, mut counts, set_aside, opened, since, confirms }) = self.flight.take()
        else {
            return;
        };
        for index in set_aside {
            counts.set_aside(outbox.get(index).fallback);
        }
        if !positions.is_empty() {
            let now = self.clock.elapsed();
            self.moved(now);
            if confirms {
                self.confirmation = Confirmation::Given;
            }
        }
        self.stale = 0;
        self.partitions.settle(positions);
        self.progress.committed(&counts);
        self.progress.users(self.partitions.users());
        let took = self.clock.elapsed().saturating_sub(since);
        counts.detail.spend(Stage::Commit, took);
        self.progress.view().committed(&counts.detail, self.clock.now());
        metrics::record(&counts, took);
        if self.progress.view().is_traced(self.progress.commits()) && counts.events > 0 {
            self.trace(&outbox, &counts, opened, took);
        }
        outbox.clear();
        counts.clear();
        self.spare = (outbox, counts);
    }

    /// Tells of a transaction that is final, and of whose events it held.
    fn trace(&self, outbox: &Outbox, counts: &Counts, opened: Duration, commit: Duration) {
        let mut trace = Trace {
            visible_at: self.clock.now(),
            open: self.clock.elapsed().saturating_sub(opened),
            commit,
            events: counts.events,
            decisions: counts.decisions,
            dead_letters: counts.dead_letters_total(),
            stages: counts.detail.stages,
            links: Vec::new(),
        };
        for (_, value) in outbox.all().flat_map(|it| it.headers()).filter(|(name, _)| *name == "traceparent") {
            trace.link(value);
        }
        self.progress.view().traced(trace);
    }

    /// Notes that no transaction is open.
    fn reopen(&mut self) {
        self.unsend();
        self.opened_at = None;
    }

    /// Notes that nothing of the outbox has been sent, or that all of it has to be sent again.
    fn unsend(&mut self) {
        self.sent = 0;
        self.set_aside.clear();
        self.begun = false;
    }

    /// Drops the accounts and the outputs of all that is not committed.
    fn forget(&mut self) {
        self.flight = None;
        self.stale = 0;
        self.counts.clear();
        self.outbox.clear();
        self.reopen();
    }

    /// After the open transaction failed. What is being committed is waited for first: if it fails, too, the open one is
    /// made again together with it.
    fn mend_open(&mut self, error: SinkError) -> Result<(), EngineError> {
        while self.flight.is_some() {
            self.progress.health().beat();
            match self.outcome(IDLE_WAIT) {
                None => {}
                Some(Ok(())) => self.settle(),
                Some(Err(first)) => return self.mend(first),
            }
        }
        self.mend(error)
    }

    /// After a failed transaction: makes it again until it is committed, or finds that it was, or recovers.
    fn mend(&mut self, error: SinkError) -> Result<(), EngineError> {
        let mut error = error;
        let start = self.clock.elapsed();
        for tries in 1.. {
            self.progress.health().beat();
            let outputs = self.outbox.len() + self.flight.as_ref().map_or(0, |flight| flight.outbox.len());
            if let Some(left_out) = logs::rarely("a transaction failed") {
                tracing::warn!(%error, tries, outputs, left_out, "a transaction failed");
            }
            self.progress.retried();
            metrics::retried(&error);
            self.tell("retried", error.to_string());
            if tries > TRIES_MAX || self.clock.elapsed().saturating_sub(start) > MEND_DEADLINE {
                return Err(EngineError::Commit { outputs, tries, last: error });
            }
            match self.remedy(error)? {
                Remedy::TookEffect => {
                    self.settle();
                    // What had been sent behind it is gone with the producer that it was sent by.
                    self.unsend();
                    return Ok(());
                }
                Remedy::Later => {
                    self.join_flight();
                    self.stale += 1;
                    if self.stale > STALE_TRIES_MAX || self.outbox.bytes() >= self.outbox_bytes_max {
                        return self.recover_all();
                    }
                    self.opened_at = Some(self.clock.elapsed());
                    return Ok(());
                }
                Remedy::Recover => return self.recover_all(),
                Remedy::Again => self.join_flight(),
            }
            if let Err(next) = self.start_commit() {
                error = next;
            } else {
                loop {
                    self.progress.health().beat();
                    match self.outcome(IDLE_WAIT) {
                        None if self.flight.is_some() => {}
                        None => return Ok(()),
                        Some(Ok(())) => {
                            self.settle();
                            return Ok(());
                        }
                        Some(Err(next)) => {
                            error = next;
                            break;
                        }
                    }
                }
            }
            self.clock.pause(Duration::from_millis(10 << tries.min(6)));
        }
        Ok(())
    }

    /// Puts what was being committed before what is open, to be made again as one transaction.
    fn join_flight(&mut self) {
        if let Some(Flight { mut outbox, mut counts, .. }) = self.flight.take() {
            outbox.append(&self.outbox);
            counts.add(&self.counts);
            (self.outbox, self.counts) = (outbox, counts);
        }
        if canary::is_in(Canary::OutputsDropped) {
            self.outbox.clear();
        }
        self.unsend();
    }

    /// Brings the sink back to where a transaction can begin, and says what that means for the one that failed.
    fn remedy(&mut self, error: SinkError) -> Result<Remedy, EngineError> {
        match error {
            SinkError::Fatal { .. } => Err(error.into()),
            SinkError::Abortable { .. } => match self.sink.abort() {
                // Another failure may have spoilt the producers since.
                Ok(()) => self.fence().map(|()| Remedy::Again),
                Err(error @ SinkError::Fatal { .. }) => Err(error.into()),
                Err(_) => self.find_out(),
            },
            SinkError::Stale { .. } => {
                if let Err(error) = self.sink.abort() {
                    tracing::warn!(%error, "abort a transaction of a generation that has passed");
                }
                self.fence().map(|()| Remedy::Later)
            }
            SinkError::Unknown { .. } => self.find_out(),
        }
    }

    /// Makes the producer anew, which ends the transaction one way or the other, and reads from the committed offsets
    /// which way it was.
    fn find_out(&mut self) -> Result<Remedy, EngineError> {
        let expected = match &self.flight {
            Some(flight) => flight.positions.clone(),
            // It failed before its commit began.
            None => return self.fence().map(|()| Remedy::Again),
        };
        let held: Vec<i32> = expected.iter().map(|(partition, ..)| *partition).collect();
        let committed = self.fenced_committed(&held)?;
        if canary::is_in(Canary::EffectAssumed) {
            return Ok(Remedy::TookEffect);
        }
        let at = |partition: i32| {
            let (_, committed) = committed.iter().find(|(other, _)| *other == partition)?;
            Some((committed.offset?, committed.metadata.as_str()))
        };
        if expected.iter().all(|(partition, next, metadata)| at(*partition) == Some((*next, metadata))) {
            return Ok(Remedy::TookEffect);
        }
        if expected.iter().all(|(partition, ..)| at(*partition) == self.partitions.committed(*partition)) {
            return Ok(Remedy::Again);
        }
        Ok(Remedy::Recover)
    }

    /// The committed positions, behind which no earlier producer of these ids can put anything any more.
    fn fenced_committed(&mut self, partitions: &[i32]) -> Result<Vec<(i32, Committed)>, EngineError> {
        if canary::is_in(Canary::FenceAfterRead) {
            let committed = self.source.committed(partitions)?;
            return self.fence().map(|()| committed);
        }
        self.fence()?;
        self.insist(|source| source.committed(partitions))
    }

    /// Asks the source again for as long as a broker may take to come back.
    fn insist<T>(&mut self, mut ask: impl FnMut(&mut S) -> Result<T, SourceError>) -> Result<T, EngineError> {
        let start = self.clock.elapsed();
        loop {
            self.progress.health().beat();
            match ask(&mut self.source) {
                Err(error @ SourceError::Unreachable { .. })
                    if self.clock.elapsed().saturating_sub(start) < MEND_DEADLINE =>
                {
                    if let Some(left_out) = logs::rarely("no broker answers") {
                        tracing::warn!(%error, left_out, "no broker answers: ask again");
                    }
                    self.clock.pause(ASK_PAUSE);
                }
                answer => return Ok(answer?),
            }
        }
    }

    fn fence(&mut self) -> Result<(), EngineError> {
        for tries in 1.. {
            match self.sink.fence() {
                Ok(()) => break,
                Err(error @ SinkError::Unknown { .. }) if tries < TRIES_MAX => {
                    if let Some(left_out) = logs::rarely("fence") {
                        tracing::warn!(%error, tries, left_out, "fence");
                    }
                    self.progress.health().beat();
                    self.clock.pause(Duration::from_millis(10 << tries.min(6)));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Answers a change of the assignment.
    fn answer(&mut self, change: Change) -> Result<(), EngineError> {
        match change {
            Change::Assigned(partitions) => {
                tracing::info!(?partitions, "assigned");
                metrics::rebalanced("assigned");
                self.tell("assigned", format!("partitions {partitions:?}"));
                let lacking = self.insist(|source| source.lacking(&partitions))?;
                // What is open would be open for as long as the questions to the broker take.
                self.commit()?;
                let (lacking, partitions): (Vec<i32>, Vec<i32>) =
                    partitions.into_iter().partition(|it| lacking.contains(it));
                let mut starts = self.recover(&partitions)?;
                for partition in &lacking {
                    starts.push((*partition, self.insist(|source| source.watermarks(*partition))?.high));
                }
                self.source.assign(&starts)?;
                if !lacking.is_empty() {
                    self.source.pause(&lacking)?;
                    tracing::error!(
                        partitions = ?lacking,
                        "the changelog has fewer partitions than the input: nothing of these is read until it has as many; add \
                         them with: aimpoint topics --create"
                    );
                    self.lacking.extend(lacking);
                }
                self.begin_restore(&partitions)?;
            }
            Change::Revoked(partitions) => {
                tracing::info!(?partitions, "revoked");
                metrics::rebalanced("revoked");
                self.tell("revoked", format!("partitions {partitions:?}"));
                let is_committed = self.hand_over(&partitions)?;
                self.give_up(&partitions)?;
                if !is_committed {
                    self.end_open()?;
                    self.recover_all()?;
                }
            }
            Change::Lost(partitions) => {
                tracing::warn!(?partitions, "lost");
                metrics::rebalanced("lost");
                self.tell("lost", format!("partitions {partitions:?}"));
                while self.flight.is_some() {
                    self.progress.health().beat();
                    match self.outcome(IDLE_WAIT) {
                        None => {}
                        Some(Ok(())) => self.settle(),
                        Some(Err(error)) => {
                            tracing::warn!(%error, "commit while partitions were lost");
                            break;
                        }
                    }
                }
                if canary::is_in(Canary::LostKept) && self.flight.is_none() {
                    self.give_up(&partitions)?;
                } else {
                    self.end_open()?;
                    self.forget();
                    self.give_up(&partitions)?;
                    self.recover_all()?;
                }
            }
        }
        self.progress.users(self.partitions.users());
        self.progress.health().hold(self.partitions.count());
        let now = self.clock.elapsed();
        self.moved(now);
        self.tell_restore(now);
        Ok(())
    }

    /// Drops partitions and their state.
    fn give_up(&mut self, partitions: &[i32]) -> Result<(), EngineError> {
        self.partitions.drop_all(partitions);
        self.lacking.retain(|number| !partitions.contains(number));
        self.forget_restores(partitions);
        Ok(self.source.release(partitions)?)
    }

    /// Takes partitions up for which the changelog has some by now.
    fn take_lacking(&mut self) -> Result<(), EngineError> {
        let now = self.clock.elapsed();
        if now.saturating_sub(self.lacking_at) < LACKING_LOOK {
            return Ok(());
        }
        self.lacking_at = now;
        // Without an answer it is asked again later.
        let Ok(still) = self.source.lacking(&self.lacking) else { return Ok(()) };
        let ready: Vec<i32> = self.lacking.iter().copied().filter(|it| !still.contains(it)).collect();
        if ready.is_empty() {
            return Ok(());
        }
        tracing::info!(partitions = ?ready, "the changelog has these partitions now: they are taken up");
        self.commit()?;
        self.lacking = still;
        for (partition, start) in self.recover(&ready)? {
            self.insist(|source| source.resume(partition, start))?;
        }
        self.begin_restore(&ready)?;
        self.progress.health().hold(self.partitions.count());
        Ok(())
    }

    /// Goes on where the log begins now with partitions whose next records were deleted before they were read. Which ones these
    /// are the client does not say.
    fn go_on_behind_the_cut(&mut self) -> Result<(), EngineError> {
        let (mut starts, mut waiting) = (Vec::new(), self.lacking.clone());
        for number in self.partitions.held() {
            let Some(partition) = self.partitions.get(number) else { continue };
            let (next, is_restoring) = (partition.next, partition.is_restoring());
            let ends = self.insist(|source| source.watermarks(number))?;
            starts.push((number, next.max(ends.low)));
            if is_restoring {
                waiting.push(number);
            } else if next > ends.high {
                return Err(made_anew(number, next, ends.high));
            } else if next < ends.low {
                self.skip(number, next, ends.low);
                self.partitions.skip_to(number, ends.low);
                // The position moves, also where no record comes any more.
                self.opened_at.get_or_insert(self.clock.elapsed());
            }
        }
        for number in self.lacking.clone() {
            starts.push((number, self.insist(|source| source.watermarks(number))?.high));
        }
        self.source.restart(&starts)?;
        Ok(self.source.pause(&waiting)?)
    }

    /// Tells that records were deleted before they were read.
    fn skip(&self, number: i32, next: i64, log_start: i64) {
        tracing::error!(
            partition = number,
            next,
            log_start,
            records = log_start - next,
            "records were deleted before they were read: these events have no decision, and profiles lack them; raise the input \
             topic's retention"
        );
        self.progress.health().skip((log_start - next) as u64);
        metrics::skipped((log_start - next) as u64);
        self.tell("skipped", format!("partition {number}, {} records that were deleted", log_start - next));
    }

    /// Joins the group anew after it took another member for this one. After the loss of a broker that may be no more than a
    /// mistake of the group's new coordinator. All partitions are lost with it.
    fn join_anew(&mut self, instance: String, detail: String) -> Result<(), EngineError> {
        let now = self.clock.elapsed();
        let (rejoins, last) = self.rejoins;
        let rejoins = if now.saturating_sub(last) > REJOINS_FORGOTTEN { 0 } else { rejoins };
        let held = [self.partitions.held(), std::mem::take(&mut self.lacking)].concat();
        tracing::warn!(instance, detail, partitions = ?held, rejoins, "the group has another member of this name: join it anew");
        metrics::rebalanced("lost");
        self.tell("lost", format!("partitions {held:?}"));
        self.end_open()?;
        self.forget();
        self.pipeline.drop_batch(&mut Vec::new());
        self.partitions.drop_all(&held);
        self.forget_restores(&held);
        if rejoins >= REJOINS_MAX {
            return Err(SourceError::Fenced { instance, detail }.into());
        }
        for _ in 0..1 << rejoins {
            self.progress.health().beat();
            self.clock.pause(REJOIN_PAUSE);
        }
        self.source.rejoin()?;
        self.rejoins = (rejoins + 1, self.clock.elapsed());
        self.progress.users(0);
        self.progress.health().hold(0);
        Ok(())
    }

    /// Ends what the sink has open.
    fn end_open(&mut self) -> Result<(), EngineError> {
        if let Err(error) = self.sink.abort() {
            tracing::warn!(%error, "abort what was open");
        }
        self.fence()
    }

    /// Takes partitions in: fences first, then reads what is committed, then says from where to read.
    fn recover(&mut self, partitions: &[i32]) -> Result<Vec<(i32, i64)>, EngineError> {
        let mut starts = Vec::with_capacity(partitions.len());
        for (number, committed) in self.fenced_committed(partitions)? {
            self.progress.health().beat();
            let ends = self.insist(|source| source.watermarks(number))?;
            let next = committed.offset.unwrap_or(ends.low);
            // After the input topic was made anew, the old offset lies beyond its end.
            if next > ends.high {
                return Err(made_anew(number, next, ends.high));
            }
            if next < ends.low {
                self.skip(number, next, ends.low);
            }
            let replay_until = next.max(ends.low);
            let at = committed.offset.map(|offset| (offset, committed.metadata.clone()));
            // Before a partition's first commit there is none; what is no mark then is told, and counts as none.
            let mark = Mark::parse(&committed.metadata).filter(|(mark, _)| mark.is_sound(next));
            if mark.is_none() && !committed.metadata.is_empty() {
                metrics::unfit(1);
                tracing::error!(
                    partition = number,
                    metadata = committed.metadata.chars().take(200).collect::<String>(),
                    "the committed offset's metadata is not what Aimpoint writes: does anybody else commit for this group?"
                );
            }
            let profile = self.pipeline.profile();
            let keeps = |layout: &str| layout == profile.layout().id() || profile.on_change() == OnChange::Keep;
            let (from, partition) = match mark {
                Some((mark, layout)) if keeps(layout) => {
                    let from = mark.replay_from.max(ends.low);
                    if mark.lacking_from < ends.low && next > mark.lacking_from {
                        tracing::error!(
                            partition = number,
                            replay_from = mark.lacking_from,
                            log_start = ends.low,
                            "records were deleted that profiles lack: they stay incomplete; raise the input topic's retention"
                        );
                        self.progress.health().skip((ends.low - mark.lacking_from) as u64);
                        metrics::skipped((ends.low - mark.lacking_from) as u64);
                    }
                    (from, Partition::new(from, replay_until, at).restoring(mark, ends.low))
                }
                _ => {
                    if replay_until > ends.low {
                        tracing::warn!(
                            partition = number,
                            from = ends.low,
                            to = replay_until,
                            "no checkpoint of these features: the whole input is read again to rebuild profiles"
                        );
                    }
                    // Without a mark nobody knows how many there were before: an offset is surely more.
                    let history = match mark {
                        Some((mark, _)) => mark.history + 1,
                        None => committed.offset.unwrap_or_default().max(0) as u64,
                    };
                    let ceilings = mark.map(|(mark, _)| mark.ceilings).unwrap_or_default();
                    (ends.low, Partition::new(ends.low, replay_until, at).of_history(history).under(ceilings))
                }
            };
            self.partitions.insert(number, partition);
            starts.push((number, from));
        }
        Ok(starts)
    }

    /// Whether something else is committed for a partition than what it was taken up from.
    fn is_overtaken(&mut self, partition: i32) -> Result<bool, EngineError> {
        let committed = self.insist(|source| source.committed(&[partition]))?;
        let known = self.partitions.committed(partition);
        Ok(committed.iter().any(|(_, it)| it.offset.map(|offset| (offset, it.metadata.as_str())) != known))
    }

    /// Holds the input of partitions that have to be restored, and begins to read their changelog.
    fn begin_restore(&mut self, partitions: &[i32]) -> Result<(), EngineError> {
        let restoring = |partition: &i32| self.partitions.get(*partition).is_some_and(Partition::is_restoring);
        let partitions: Vec<i32> = partitions.iter().copied().filter(restoring).collect();
        if !partitions.is_empty() {
            self.source.pause(&partitions)?;
            let mut starts = Vec::new();
            for partition in partitions {
                match (self.open_snapshot(partition), &mut self.snapshots) {
                    (Some(reader), Some(snapshots)) => snapshots.reading.push(reader),
                    _ => starts.push((partition, 0)),
                }
            }
            self.insist(|source| source.restore(&starts))?;
        }
        Ok(())
    }

    /// Drops the state of all held partitions and recovers it.
    fn recover_all(&mut self) -> Result<(), EngineError> {
        self.forget();
        let held = self.partitions.held();
        self.forget_restores(&held);
        if held.is_empty() {
            return Ok(());
        }
        for (partition, start) in self.recover(&held)? {
            self.insist(|source| source.resume(partition, start))?;
        }
        self.begin_restore(&held)
    }
}
