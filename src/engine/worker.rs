//! One worker: a member of the group, its transactions, and the profiles of its partitions.
//!
//! Guarantees: an output is committed together with the position behind it; state never runs backwards, because the
//! outputs of an open transaction are kept until its outcome is known; a partition whose ownership or outcome is in
//! doubt is dropped and recovered from the log. While one transaction is being committed, the next one fills; if the
//! first one fails, both are made again as one, in their order. Limits: one transaction holds at most
//! [`OUTBOX_BYTES_MAX`] before it is committed early; one failing transaction is tried [`TRIES_MAX`] times.
//!
//! A partition is recovered from the lazy changelog: its profiles are read up to the log's end, then the input is read again
//! from the mark in the committed offset's metadata up to the offset, with nothing written, and what a restored profile
//! covers is passed by. Where there is no mark of these features, the whole input is read again: a profile is a fold of
//! the input, and the input is the one thing that is surely there. Changed profiles are written at most once per
//! checkpoint interval, oldest first, [`PROFILES_PER_COMMIT`] a commit; a partition that goes in order leaves none behind.

use super::{Clock, Counts, Partition, Partitions, Pipeline, Progress};
use crate::{
    sink::{Outbox, Sink, SinkError},
    source::{Change, Restored, Source, SourceError},
    state::Mark,
    telemetry::metrics,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// A transaction is committed early when its outputs pass this.
const OUTBOX_BYTES_MAX: usize = 32 << 20;

/// How often a failing transaction is made again before the worker gives up. The pauses grow to a second, so that this
/// outlasts a broker's restart.
const TRIES_MAX: u32 = 60;

/// The most profiles that one commit writes, so that none stalls: at commits of 25 ms, 80,000 a second.
const PROFILES_PER_COMMIT: usize = 2_000;

/// The most profiles that one commit writes when partitions go.
const PROFILES_PER_HANDOVER_COMMIT: usize = 20_000;

/// How long the changed profiles of partitions that go are written; what is left is read again by the next owner.
const HANDOVER_DEADLINE: Duration = Duration::from_secs(5);

/// How many records of the changelog are taken in one turn.
const RESTORE_ROWS_MAX: usize = 10_000;

/// How long an idle worker waits for a record before it looks for a stop or a change.
const IDLE_WAIT: Duration = Duration::from_millis(100);

/// The same while a commit is under way, and how long its outcome is waited for where the next one is due already.
const FLIGHT_WAIT: Duration = Duration::from_millis(1);

/// What is promised about a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// Once for every reader that reads committed records alone.
    ExactlyOnce,
    /// Once or, after a crash, more often; visible without waiting for a commit.
    AtLeastOnce,
}

/// How a worker paces itself.
#[derive(Clone, Copy, Debug)]
pub struct WorkerSettings {
    /// Its number among the workers of the process.
    pub number: usize,
    /// The time from a transaction's first record to its commit.
    pub commit_interval: Duration,
    /// The largest batch.
    pub batch_rows_max: usize,
    /// How often a changed profile is written to the changelog at most.
    pub checkpoint_interval: Duration,
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
}

/// What has to be done after a failed transaction.
enum Remedy {
    /// Send the kept outputs again in a new transaction.
    Again,
    /// It took effect after all.
    TookEffect,
    /// Ownership is in doubt: drop the state and recover it.
    Recover,
}

/// A transaction whose commit is under way, with all that it takes to make it again.
struct Flight {
    /// Partition, next offset, metadata.
    positions: Vec<(i32, i64, String)>,
    outbox: Outbox,
    counts: Counts,
    /// When its commit began.
    since: Duration,
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
    /// Whether the sink has a transaction open.
    begun: bool,
    /// When the first record since the last commit was processed.
    opened_at: Option<Duration>,
    flight: Option<Flight>,
    /// Emptied buffers of the last flight.
    spare: (Outbox, Counts),
    counts: Counts,
    progress: Progress,
}

impl<S: Source, K: Sink<Group = S::Group>, C: Clock> Worker<S, K, C> {
    /// Makes a worker that holds no partition yet.
    pub fn new(settings: WorkerSettings, source: S, sink: K, clock: C, pipeline: Pipeline, progress: Progress) -> Self {
        Self {
            settings,
            source,
            sink,
            clock,
            pipeline,
            partitions: Partitions::default(),
            outbox: Outbox::default(),
            sent: 0,
            begun: false,
            opened_at: None,
            flight: None,
            spare: <(Outbox, Counts)>::default(),
            counts: Counts::default(),
            progress,
        }
    }

    /// Runs until the stop is requested, then commits what is open and leaves the group.
    ///
    /// # Errors
    /// When the broker, the client or a setting makes it impossible to go on. What was not committed is read again by
    /// the next owner.
    pub fn run(mut self, stop: &Stop) -> Result<(), EngineError> {
        while !stop.is_requested() {
            self.turn()?;
        }
        self.hand_over()
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
        if self.opened_at.is_none()
            && let Some(before) = self.pipeline.renew()
            && let Some(now) = self.pipeline.model()
        {
            metrics::model_serves(now, Some(&before));
            tracing::info!(model = now.name, version = now.version, before = before.version, "decides from here on");
        }
        let wait = match self.opened_at {
            None if self.partitions.is_restoring() => Duration::ZERO,
            None => IDLE_WAIT,
            Some(opened) => (opened + self.settings.commit_interval).saturating_sub(self.clock.elapsed()),
        };
        let wait = wait.min(if self.flight.is_some() { FLIGHT_WAIT } else { IDLE_WAIT });
        let Self { source, pipeline, partitions, outbox, counts, .. } = self;
        let taken = source.poll(self.settings.batch_rows_max, wait, &mut |record| {
            pipeline.take(record, partitions, outbox, counts);
        })?;
        if taken > 0 {
            metrics::batch(taken);
            let now = self.clock.elapsed();
            self.pipeline.run(&mut self.partitions, self.clock.now(), &mut self.outbox, &mut self.counts);
            self.opened_at.get_or_insert(now);
            if let Err(error) = self.deliver() {
                self.mend_open(error)?;
            }
        }
        self.sink.serve();
        self.look(Duration::ZERO)?;
        self.restore()?;
        while let Some(change) = self.source.change() {
            self.answer(change)?;
        }
        let now = self.clock.elapsed();
        self.partitions.note(now, self.settings.checkpoint_interval);
        if self.opened_at.is_none() && self.partitions.is_due() {
            self.opened_at = Some(now);
        }
        let is_full = self.outbox.bytes() >= OUTBOX_BYTES_MAX;
        if is_full || self.opened_at.is_some_and(|opened| now >= opened + self.settings.commit_interval) {
            if is_full {
                self.land()?;
            } else {
                self.look(FLIGHT_WAIT)?;
            }
            if self.flight.is_none() {
                self.take_off()?;
            }
        }
        Ok(())
    }

    /// Hands new outputs to the sink, in a transaction that is opened by the first.
    fn deliver(&mut self) -> Result<(), SinkError> {
        if self.sent == self.outbox.len() {
            return Ok(());
        }
        self.begin()?;
        self.sink.send(&self.outbox, self.sent)?;
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
        self.write_profiles(false, PROFILES_PER_COMMIT);
        match self.start_commit() {
            Ok(()) => Ok(()),
            Err(error) => self.mend(error),
        }
    }

    /// Waits for the outcome of the commit under way.
    fn land(&mut self) -> Result<(), EngineError> {
        while self.flight.is_some() {
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
        let flight = self.flight.as_ref()?;
        let outcome = self.sink.outcome(wait)?;
        if outcome.is_err() || self.sink.is_transactional() {
            return Some(outcome);
        }
        let stale = |error: SourceError| SinkError::Stale { doing: "commit positions", detail: error.to_string() };
        Some(self.source.commit(&flight.positions).map_err(stale))
    }

    /// Makes everything since the last commit final.
    fn commit(&mut self) -> Result<(), EngineError> {
        self.land()?;
        self.take_off()?;
        self.land()
    }

    fn write_profiles(&mut self, all: bool, max: usize) {
        self.partitions.write_profiles(all, max, self.pipeline.fingerprint(), &mut self.outbox);
    }

    /// Commits what is open and leaves no changed profile unwritten, as far as the deadline allows.
    fn hand_over(&mut self) -> Result<(), EngineError> {
        self.commit()?;
        let start = self.clock.elapsed();
        while self.partitions.dirty() > 0 && self.clock.elapsed().saturating_sub(start) < HANDOVER_DEADLINE {
            let before = self.outbox.len();
            self.write_profiles(true, PROFILES_PER_HANDOVER_COMMIT);
            if self.outbox.len() == before {
                break;
            }
            self.opened_at = Some(self.clock.elapsed());
            self.commit()?;
        }
        Ok(())
    }

    /// Takes in what has come of the changelog, and lets the input of partitions that are restored go on.
    fn restore(&mut self) -> Result<(), EngineError> {
        if !self.partitions.is_restoring() {
            return Ok(());
        }
        let Self { source, pipeline, partitions, .. } = self;
        let mut done = Vec::new();
        source.poll_restore(RESTORE_ROWS_MAX, &mut |restored| match restored {
            Restored::Record(record) => partitions.restore(record, pipeline.fingerprint()),
            Restored::Done(partition) => done.push(partition),
        })?;
        for partition in done {
            if let Some((from, profiles)) = self.partitions.restored(partition) {
                let to = self.partitions.get(partition).map_or(from, |it| it.emit_from);
                tracing::info!(partition, records = profiles, replay_from = from, replay_to = to, "restored");
                self.source.resume(partition, from)?;
            }
        }
        Ok(())
    }

    /// Hands the open transaction over to be committed, and opens the account of the next.
    fn start_commit(&mut self) -> Result<(), SinkError> {
        let positions = self.partitions.progress(self.pipeline.fingerprint());
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
            since,
        });
        self.reopen();
        if is_nothing {
            self.settle();
        }
        Ok(())
    }

    /// After a commit: what it held is final.
    fn settle(&mut self) {
        let Some(Flight { positions, mut outbox, mut counts, since }) = self.flight.take() else { return };
        self.partitions.settle(positions);
        self.progress.committed(&counts);
        self.progress.users(self.partitions.users());
        let took = self.clock.elapsed().saturating_sub(since);
        metrics::record(&counts, took, &self.progress, self.settings.number);
        outbox.clear();
        counts.clear();
        self.spare = (outbox, counts);
    }

    /// Notes that no transaction is open.
    fn reopen(&mut self) {
        self.sent = 0;
        self.begun = false;
        self.opened_at = None;
    }

    /// Drops the accounts and the outputs of all that is not committed.
    fn forget(&mut self) {
        self.flight = None;
        self.counts.clear();
        self.outbox.clear();
        self.reopen();
    }

    /// After the open transaction failed. What is being committed is waited for first: if it fails, too, the open one is
    /// made again together with it.
    fn mend_open(&mut self, error: SinkError) -> Result<(), EngineError> {
        while self.flight.is_some() {
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
        for tries in 1.. {
            let outputs = self.outbox.len() + self.flight.as_ref().map_or(0, |flight| flight.outbox.len());
            tracing::warn!(%error, tries, outputs, "a transaction failed");
            self.progress.retried();
            metrics::retried();
            if tries > TRIES_MAX {
                return Err(EngineError::Commit { outputs, tries, last: error });
            }
            match self.remedy(error)? {
                Remedy::TookEffect => {
                    self.settle();
                    // What had been sent behind it is gone with the producer that it was sent by.
                    (self.sent, self.begun) = (0, false);
                    return Ok(());
                }
                Remedy::Recover => return self.recover_all(),
                Remedy::Again => self.join_flight(),
            }
            if let Err(next) = self.start_commit() {
                error = next;
            } else {
                loop {
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
            std::thread::sleep(Duration::from_millis(10 << tries.min(6)));
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
        (self.sent, self.begun) = (0, false);
    }

    /// Brings the sink back to where a transaction can begin, and says what that means for the one that failed.
    fn remedy(&mut self, error: SinkError) -> Result<Remedy, EngineError> {
        match error {
            SinkError::Fatal { .. } => Err(error.into()),
            SinkError::Abortable { .. } => match self.sink.abort() {
                Ok(()) => Ok(Remedy::Again),
                Err(error @ SinkError::Fatal { .. }) => Err(error.into()),
                Err(_) => self.find_out(),
            },
            SinkError::Stale { .. } => {
                if let Err(error) = self.sink.abort() {
                    tracing::warn!(%error, "abort a transaction of a generation that has passed");
                    self.fence()?;
                }
                Ok(Remedy::Recover)
            }
            SinkError::Unknown { .. } => self.find_out(),
        }
    }

    /// Makes the producer anew, which ends the transaction one way or the other, and reads from the committed offsets
    /// which way it was.
    fn find_out(&mut self) -> Result<Remedy, EngineError> {
        self.fence()?;
        let expected = match &self.flight {
            Some(flight) => flight.positions.clone(),
            // It failed before its commit began.
            None => return Ok(Remedy::Again),
        };
        let held: Vec<i32> = expected.iter().map(|(partition, ..)| *partition).collect();
        let committed = self.source.committed(&held)?;
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

    fn fence(&mut self) -> Result<(), EngineError> {
        for tries in 1.. {
            match self.sink.fence() {
                Ok(()) => break,
                Err(error @ SinkError::Unknown { .. }) if tries < TRIES_MAX => {
                    tracing::warn!(%error, tries, "fence");
                    std::thread::sleep(Duration::from_millis(10 << tries.min(6)));
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
                let starts = self.recover(&partitions)?;
                self.source.assign(&starts)?;
                self.begin_restore(&partitions)?;
            }
            Change::Revoked(partitions) => {
                tracing::info!(?partitions, "revoked");
                self.hand_over()?;
                self.partitions.drop_all(&partitions);
                self.source.release(&partitions)?;
            }
            Change::Lost(partitions) => {
                tracing::warn!(?partitions, "lost");
                while self.flight.is_some() {
                    match self.outcome(IDLE_WAIT) {
                        None => {}
                        Some(Ok(())) => self.settle(),
                        Some(Err(error)) => {
                            tracing::warn!(%error, "commit while partitions were lost");
                            break;
                        }
                    }
                }
                if let Err(error) = self.sink.abort() {
                    tracing::warn!(%error, "abort after partitions were lost");
                    self.fence()?;
                }
                self.forget();
                self.partitions.drop_all(&partitions);
                self.source.release(&partitions)?;
                self.recover_all()?;
            }
        }
        self.progress.users(self.partitions.users());
        Ok(())
    }

    /// Takes partitions in: fences first, then reads what is committed, then says from where to read.
    fn recover(&mut self, partitions: &[i32]) -> Result<Vec<(i32, i64)>, EngineError> {
        self.fence()?;
        let mut starts = Vec::with_capacity(partitions.len());
        for (partition, committed) in self.source.committed(partitions)? {
            let ends = self.source.watermarks(partition)?;
            let next = committed.offset.unwrap_or(ends.low);
            if next < ends.low {
                tracing::error!(
                    partition,
                    committed = next,
                    log_start = ends.low,
                    "records were deleted before they were read: raise the input topic's retention"
                );
            }
            // After the input topic was made anew, the old offset lies beyond its end.
            if next > ends.high {
                return Err(EngineError::Source(SourceError::Fatal {
                    doing: format!("take up partition {partition} at offset {next}"),
                    detail: format!(
                        "the log ends at {}; was the topic made anew? reset the group's offsets, or use another app.name",
                        ends.high
                    ),
                }));
            }
            let emit_from = next.max(ends.low);
            let at = committed.offset.map(|offset| (offset, committed.metadata.clone()));
            let mark = Mark::parse(&committed.metadata, self.pipeline.fingerprint());
            let from = match mark {
                Some(mark) if mark.replay_from >= ends.low => {
                    self.partitions.insert(partition, Partition::new(mark.replay_from, emit_from, at).restoring(mark));
                    mark.replay_from
                }
                _ => {
                    if emit_from > ends.low {
                        tracing::warn!(
                            partition,
                            from = ends.low,
                            to = emit_from,
                            "no checkpoint of these features: the whole input is read again to rebuild profiles"
                        );
                    }
                    self.partitions.insert(partition, Partition::new(ends.low, emit_from, at));
                    ends.low
                }
            };
            starts.push((partition, from));
        }
        Ok(starts)
    }

    /// Holds the input of partitions that have to be restored, and begins to read their changelog.
    fn begin_restore(&mut self, partitions: &[i32]) -> Result<(), EngineError> {
        let restoring = |partition: &i32| self.partitions.get(*partition).is_some_and(Partition::is_restoring);
        let partitions: Vec<i32> = partitions.iter().copied().filter(restoring).collect();
        if !partitions.is_empty() {
            self.source.pause(&partitions)?;
            self.source.restore(&partitions)?;
        }
        Ok(())
    }

    /// Drops the state of all held partitions and recovers it.
    fn recover_all(&mut self) -> Result<(), EngineError> {
        self.forget();
        let held = self.partitions.held();
        for (partition, start) in self.recover(&held)? {
            self.source.resume(partition, start)?;
        }
        self.begin_restore(&held)
    }
}
