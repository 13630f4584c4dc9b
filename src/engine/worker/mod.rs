//! One worker: a member of the consumer group, its transactions, and the profiles of its partitions.
//!
//! Guarantees: an output is committed together with the position after it, or delivered before it if the sink shows
//! outputs at once. Profiles are committed with their position in both cases. State never runs backwards: the outputs
//! of an open transaction are kept until its outcome is known. A partition whose ownership or outcome is in doubt is
//! dropped and recovered from the log. While one transaction is being committed, the next one fills. If the first one
//! fails, both are retried as one, in order. Limits: a transaction with more than [`OUTBOX_BYTES_MAX`] is committed
//! early.
//!
//! A partition is recovered from the lazy changelog. Its profiles are read up to the changelog's end. Then the input is
//! replayed from the mark in the committed offset's metadata up to that offset, without writing anything. Events that a
//! restored profile already covers are skipped. Profiles made by other features are carried over (`profile::Carry`),
//! unless `profile.on_change` asks for a replay. In that case, or if there is no mark, the whole input is replayed: a
//! profile is a fold of the input, and the input is the only thing that is certain to exist. Records of earlier
//! generations are then ignored.
//!
//! [`protocol`] decides what to do next, without I/O. This module and its submodules make the calls: to the source, the
//! sink, the clock, the snapshots on disk, the log and the metrics.

mod committing;
mod protocol;
mod rebalancing;
mod restoring;
mod retrying;
mod settings;
mod snapshotting;
mod ticking;

pub use settings::{Delivery, EngineError, Stop, WorkerSettings};

use super::{
    Clock, Partitions, Pipeline, SnapshotStore, log_failures,
    pipeline::{BATCH_BYTES_MAX, BATCH_ROWS_MAX},
    run_batch,
};
use crate::{
    canary::{self, Canary},
    event::RejectReason,
    inference::Repeats,
    metrics,
    sink::Sink,
    source::{Source, SourceError},
    status::{ClientReport, Progress, Stage},
};
use crossbeam_channel::Receiver;
use protocol::{Assignment, ContactWatch, ProfileWrites, Recovery, StallAction, StallWatch, TickSchedule, Transaction};
use snapshotting::Snapshots;
use std::time::Duration;

/// A transaction is committed early if its outputs exceed this.
const OUTBOX_BYTES_MAX: usize = 32 << 20;

/// A batch is checked against its bounds after this many records, so it exceeds them by at most this many.
const RECORDS_PER_CHECK: usize = 16;

/// How long an idle worker waits for a record before it checks for a stop or a rebalance.
const IDLE_WAIT: Duration = Duration::from_millis(100);

/// The same while a commit is under way, and how long to wait for its outcome if the next one is already due.
const COMMITTING_WAIT: Duration = Duration::from_millis(1);

/// Below this, a batch is small: most of the turn's cost is overhead, not records.
const SMALL_BATCH: usize = 64;

/// The pause before a due commit begins while outputs are still in flight.
const BUSY_PAUSE: Duration = Duration::from_micros(500);

/// How often a worker publishes where its partitions are.
const VIEW_INTERVAL: Duration = Duration::from_millis(250);

/// The state machines that decide the worker's next steps.
struct Protocol {
    transaction: Transaction,
    profile_writes: ProfileWrites,
    assignment: Assignment,
    recovery: Recovery,
    stall: StallWatch,
    contact: ContactWatch,
    ticks: TickSchedule,
}

/// What the live page and the metrics show, updated now and then.
#[derive(Default)]
struct Published {
    /// What the client last reported.
    client: ClientReport,
    /// When the partitions are published next.
    next_at: Duration,
    /// Transactions in which every event was ahead of the present.
    ahead: Repeats,
}

/// One worker.
pub struct Worker<S: Source, K: Sink<Group = S::Group>, C: Clock> {
    settings: WorkerSettings,
    source: S,
    sink: K,
    clock: C,
    pipeline: Pipeline,
    partitions: Partitions,
    protocol: Protocol,
    snapshots: Option<Snapshots>,
    progress: Progress,
    published: Published,
    new_pipelines: Option<Receiver<Pipeline>>,
    batch_bytes_max: usize,
}

impl<S: Source, K: Sink<Group = S::Group>, C: Clock> Worker<S, K, C> {
    /// Creates a worker that holds no partitions yet.
    pub fn new(settings: WorkerSettings, source: S, sink: K, clock: C, pipeline: Pipeline, progress: Progress) -> Self {
        let worker = Self {
            settings,
            source,
            sink,
            clock,
            pipeline,
            partitions: Partitions::default(),
            protocol: Protocol {
                transaction: Transaction::new(OUTBOX_BYTES_MAX),
                profile_writes: ProfileWrites::new(settings.checkpoint_interval),
                assignment: Assignment::default(),
                recovery: Recovery::default(),
                stall: StallWatch::new(settings.stall_after),
                contact: ContactWatch::new(settings.stall_after),
                ticks: TickSchedule::new(settings.checkpoint_interval),
            },
            snapshots: None,
            progress,
            published: Published::default(),
            new_pipelines: None,
            batch_bytes_max: BATCH_BYTES_MAX,
        };
        worker.publish_pipeline();
        worker
    }

    /// Makes the worker replace its pipeline by each one received here. They must declare the same features. If lasting
    /// segments differ, the worker writes its profiles first and carries them over in a restore.
    #[must_use]
    pub fn with_pipelines(mut self, pipelines: Receiver<Pipeline>) -> Self {
        self.new_pipelines = Some(pipelines);
        self
    }

    /// Sets other byte limits for a batch and the outputs of a transaction.
    #[must_use]
    pub fn with_bounds(mut self, batch_bytes_max: usize, outbox_bytes_max: usize) -> Self {
        self.batch_bytes_max = batch_bytes_max;
        self.protocol.transaction = Transaction::new(outbox_bytes_max);
        self
    }

    /// Keeps snapshots in `store`, and writes one partition's snapshot in each interval.
    #[must_use]
    pub fn with_snapshots(mut self, store: Box<dyn SnapshotStore>, interval: Duration) -> Self {
        self.snapshots = Some(Snapshots::new(store, interval));
        self
    }

    /// The partitions with their profiles.
    pub fn partitions(&self) -> &Partitions {
        &self.partitions
    }

    /// Runs until a stop is requested, then commits the open work. The worker stays in the group until it is dropped.
    ///
    /// # Errors
    /// If the broker, the client or a setting makes it impossible to continue. The next owner reads uncommitted input
    /// again.
    pub fn run(&mut self, stop: &Stop) -> Result<(), EngineError> {
        while !stop.is_requested() {
            self.turn()?;
        }
        self.leave()
    }

    /// Commits the open work and writes what the changelog lacks.
    ///
    /// # Errors
    /// As [`Worker::run`].
    pub fn leave(&mut self) -> Result<(), EngineError> {
        let held = self.partitions.held();
        self.hand_over(&held)?;
        self.write_last_snapshots(&held)
    }

    /// One turn of the loop: a batch, the changes of the assignment, and the commit when it is due.
    ///
    /// # Errors
    /// As [`Worker::run`].
    pub fn turn(&mut self) -> Result<(), EngineError> {
        self.progress.health().beat();
        self.replace_pipeline()?;
        self.renew();
        let records = match self.poll() {
            // Records polled before it are dropped with the partitions.
            Err(SourceError::Fenced { instance, detail }) => return self.rejoin(instance, detail),
            records => records?,
        };
        if records > 0 {
            self.process(records)?;
        }
        self.sink.serve();
        self.check_outcome(Duration::ZERO)?;
        if self.is_worth_sending()
            && let Err(error) = self.send_outputs()
        {
            self.recover_open_transaction(error)?;
        }
        self.read_restores()?;
        if self.source.is_cut() {
            self.skip_deleted_records()?;
        }
        self.check_missing_changelogs()?;
        while let Some(change) = self.source.change() {
            self.change_assignment(change)?;
        }
        let now = self.clock.elapsed();
        if !self.partitions.is_caught_up() {
            self.end_replays();
        }
        self.tick_if_due(now);
        self.publish(now);
        self.partitions.note(now, self.settings.checkpoint_interval);
        self.commit_if_due(now)?;
        self.write_snapshot_if_due(now)?;
        self.check_for_stall(now)?;
        self.check_contact()?;
        if (1..SMALL_BATCH).contains(&records) {
            let until_due = self.due_at().unwrap_or(now).saturating_sub(now);
            self.clock.pause(self.settings.pace.min(until_due));
        }
        Ok(())
    }

    /// Replaces the pipeline if a new one waits and nothing is open, so that each transaction is decided by one
    /// pipeline only.
    fn replace_pipeline(&mut self) -> Result<(), EngineError> {
        let is_waiting = self.new_pipelines.as_ref().is_some_and(|it| !it.is_empty());
        if !is_waiting || self.protocol.transaction.opened_at().is_some() {
            return Ok(());
        }
        self.await_commit()?;
        if let Some(pipeline) = self.new_pipelines.as_ref().and_then(|it| it.try_recv().ok()) {
            // Lasting segments are part of a profile's words. What is written is carried over, as after a restart.
            let has_other_profiles = self.pipeline.layout() != pipeline.layout();
            if has_other_profiles {
                self.hand_over(&self.partitions.held())?;
            }
            self.pipeline.replace(pipeline);
            self.publish_pipeline();
            self.publish_event("reloaded", format!("{} segments", self.pipeline.segments().all().len()));
            if has_other_profiles {
                self.restore_all()?;
            }
        }
        Ok(())
    }

    /// Takes newer models and policies between two transactions.
    fn renew(&mut self) {
        let is_between = self.protocol.transaction.opened_at().is_none();
        if (is_between || canary::is_in(Canary::PolicyWithinTransaction))
            && let Some(version) = self.pipeline.renew_policy(self.clock.now())
        {
            tracing::debug!(version, "a new policy of control");
            self.progress.view().follow(version, self.pipeline.campaigns().policy().issued_at());
        }
        if is_between && let Some((before, now)) = self.pipeline.renew() {
            tracing::info!(model = now.name, version = now.version, before = before.version, "the model was replaced");
            self.publish_event("model", format!("version {} in place of {}", now.version, before.version));
            self.publish_pipeline();
        }
        log_failures(&mut self.pipeline);
    }

    /// Polls records into the pipeline's batch until it is full or no more are queued. Returns their number.
    fn poll(&mut self) -> Result<usize, SourceError> {
        let is_busy = self.protocol.transaction.is_committing() || self.partitions.is_restoring();
        let wait_max = if is_busy { COMMITTING_WAIT } else { IDLE_WAIT };
        let mut wait = self.due_at().map_or(IDLE_WAIT, |due| due.saturating_sub(self.clock.elapsed())).min(wait_max);
        let Self { source, pipeline, partitions, protocol, clock, .. } = self;
        pipeline.set_present(clock.now());
        let computed = clock.computed();
        let outbox_bytes_max = protocol.transaction.outbox_bytes_max();
        let (outbox, counts) = protocol.transaction.buffers();
        let mut records = 0;
        loop {
            let max = RECORDS_PER_CHECK.min(self.settings.batch_rows_max - records);
            let polled = source.poll(max, wait, &mut |record| pipeline.take(record, partitions, outbox, counts))?;
            records += polled;
            let is_full = pipeline.batch_bytes() >= self.batch_bytes_max
                || pipeline.batch_rows() >= BATCH_ROWS_MAX
                || outbox.bytes() >= outbox_bytes_max;
            if polled < max || records >= self.settings.batch_rows_max || is_full {
                break;
            }
            wait = Duration::ZERO;
        }
        counts.detail.compute(Stage::Decode, clock.computed().saturating_sub(computed));
        Ok(records)
    }

    /// Runs the polled batch through the pipeline.
    fn process(&mut self, records: usize) -> Result<(), EngineError> {
        metrics::batch(records);
        let now = self.clock.elapsed();
        self.protocol.transaction.open(now);
        if canary::is_in(Canary::CommitBeforeState) && !self.protocol.transaction.is_committing() {
            self.begin_commit()?;
            self.protocol.transaction.open(now);
        }
        if !self.partitions.is_caught_up() {
            self.note_progress(now);
        }
        let (outbox, counts) = self.protocol.transaction.buffers();
        run_batch(&mut self.pipeline, &mut self.partitions, self.clock.now(), outbox, counts);
        let ahead = counts.dead_letters.iter().find(|(reason, _)| *reason == RejectReason::FutureTime);
        let all_ahead = ahead.is_some_and(|(_, ahead)| *ahead == counts.events);
        self.report_clock(all_ahead);
        Ok(())
    }

    /// Logs that every event of a transaction was too far ahead of the present: then the clock of this machine is
    /// probably wrong.
    fn report_clock(&mut self, all_ahead: bool) {
        if !all_ahead {
            self.published.ahead.not();
        } else if let Some(transactions) = self.published.ahead.again() {
            tracing::warn!(
                now = self.clock.now().0 / 1_000,
                transactions,
                "every event is in the future and becomes a dead letter (future_time); check the clock of this machine, \
                 which says `now` (in milliseconds since 1970), and those of the senders"
            );
        }
    }

    /// Ends the replay of partitions whose last records before the committed position do not exist. They may have been
    /// deleted, or never existed if somebody set the position.
    fn end_replays(&mut self) {
        for number in self.partitions.held() {
            if let Some(partition) = self.partitions.get(number)
                && partition.next < partition.replay_until
                && !partition.is_restoring()
                && self.source.is_at_end(number, partition.replay_until)
            {
                self.partitions.end_replay(number);
                self.pipeline.catch_up(&mut self.partitions);
            }
        }
    }

    /// Records that the worker makes progress.
    fn note_progress(&mut self, now: Duration) {
        self.protocol.stall.progressed(now);
        self.progress.health().moved();
    }

    /// Warns if records are waiting but nothing is being committed, and gives up in the end.
    fn check_for_stall(&mut self, now: Duration) -> Result<(), EngineError> {
        if !self.protocol.stall.is_check_due(now) {
            return Ok(());
        }
        let mut partitions = self.partitions.held();
        partitions.retain(|number| self.has_work(*number));
        let action = self.protocol.stall.check(now, !partitions.is_empty());
        if action == StallAction::None {
            return Ok(());
        }
        self.progress.health().behind();
        tracing::warn!(?partitions, "records are waiting but nothing is being committed");
        match action {
            StallAction::Stop(time) => Err(EngineError::Stalled { partitions, time }),
            _ => Ok(()),
        }
    }

    /// Warns if no broker answers, and gives up in the end.
    fn check_contact(&mut self) -> Result<(), EngineError> {
        let contact = &mut self.protocol.contact;
        self.progress.health().set_disconnected(contact.is_silent());
        match contact.check() {
            StallAction::None => Ok(()),
            StallAction::Warn => {
                tracing::warn!("no broker has answered for half of engine.stall_after");
                Ok(())
            }
            StallAction::Stop(time) => Err(EngineError::Disconnected { time }),
        }
    }

    /// Whether a partition has work. This asks the broker, so it is only called after a while without progress.
    fn has_work(&mut self, number: i32) -> bool {
        let Some(partition) = self.partitions.get(number) else { return false };
        let next = partition.next;
        let committed = self.partitions.committed(number).map_or(partition.replay_until, |(offset, _)| offset);
        if partition.is_restoring() || next != committed.max(partition.replay_until) {
            return true;
        }
        // Without an answer, it may have some.
        let Ok(ends) = self.source.watermarks(number) else { return true };
        ends.high > next && !self.source.is_at_end(number, ends.high)
    }

    /// Publishes where the worker is, now and then.
    fn publish(&mut self, now: Duration) {
        let Self { source, partitions, progress, published, protocol, .. } = self;
        if let Some(report) = source.report() {
            if let Some(answers) = report.answers {
                protocol.contact.report(now, answers);
            }
            progress.view().client(report.clone());
            published.client = report;
        }
        if now < published.next_at {
            return;
        }
        published.next_at = now + VIEW_INTERVAL;
        let mut views = partitions.views();
        for partition in &mut views {
            let end = published.client.ends.iter().find(|(number, _)| *number == partition.number);
            partition.end = end.map(|(_, end)| *end);
            // Offsets after the last record may not be records, and then nothing waits there.
            if partition.end.is_some_and(|end| source.is_at_end(partition.number, end)) {
                partition.end = Some(partition.next);
            }
        }
        progress.view().partitions(views);
    }

    /// Publishes the segments, the campaigns and the model.
    fn publish_pipeline(&self) {
        let segments = self.pipeline.segments().all().iter().map(|it| (it.id.as_str(), it.segtax, it.membership()));
        let campaigns = self.pipeline.campaigns().all().iter().map(|it| it.id.as_str());
        self.progress.view().describe(segments, campaigns, self.pipeline.models());
        self.progress.view().show_from(self.pipeline.minimum_audience());
    }

    /// Publishes an event of the worker.
    fn publish_event(&self, what: &'static str, detail: String) {
        self.progress.view().happened(self.clock.now(), what, detail);
    }
}
