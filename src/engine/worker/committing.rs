//! Sends outputs, commits them, and writes changed profiles along with them.

use super::{
    BUSY_PAUSE, COMMITTING_WAIT, EngineError, IDLE_WAIT, Worker,
    protocol::{Failure, InFlight, PROFILES_PER_COMMIT},
};
use crate::{
    canary::{self, Canary},
    engine::Clock,
    metrics,
    sink::{Sink, SinkError},
    source::Source,
    status::{Stage, Trace},
};
use std::time::Duration;

/// Once this many outputs are unsent, they are sent before their commit is due.
const OUTPUTS_PER_SEND: usize = 256;

/// The maximum number of profiles that one commit writes when partitions are revoked.
const PROFILES_PER_HANDOVER_COMMIT: usize = 20_000;

/// The time limit for writing the changed profiles of revoked partitions. The next owner replays the rest.
const HANDOVER_DEADLINE: Duration = Duration::from_secs(5);

/// How often a worker tries to commit the open work of revoked partitions before it leaves that to their next owner.
const HANDOVER_TRIES: u32 = 3;

impl<S: Source, K: Sink<Group = S::Group>, C: Clock> Worker<S, K, C> {
    /// When the open transaction is to be committed.
    pub(super) fn due_at(&self) -> Option<Duration> {
        self.protocol.transaction.opened_at().map(|opened| opened + self.settings.commit_interval)
    }

    fn is_due(&self, now: Duration) -> bool {
        self.due_at().is_some_and(|due| now >= due)
    }

    /// Whether new outputs are sent before their commit is due. Nobody sees them before the commit. The first ones are
    /// sent at once, so that the broker learns of the transaction, and the rest in large groups. While earlier outputs
    /// are in flight, new ones wait here, because librdkafka spins while messages wait behind a request. A due commit
    /// waits as well, and then sends the rest.
    pub(super) fn is_worth_sending(&self) -> bool {
        let transaction = &self.protocol.transaction;
        // If readers see outputs at once, they wait for nothing.
        self.sink.shows_at_once()
            || (!transaction.is_begun() || transaction.unsent() >= OUTPUTS_PER_SEND)
                && !self.is_due(self.clock.elapsed())
                && self.sink.is_idle()
    }

    /// Sends new outputs. The first ones begin a transaction.
    pub(super) fn send_outputs(&mut self) -> Result<(), SinkError> {
        if self.protocol.transaction.unsent() == 0 {
            return Ok(());
        }
        // Outputs of one producer could overtake those that the other still has in flight.
        if self.protocol.transaction.is_committing()
            && !self.sink.is_delivered()
            && !canary::is_in(Canary::SendsOvertake)
        {
            return Ok(());
        }
        self.write_due_profiles();
        self.begin()?;
        self.send_unsent()
    }

    fn send_unsent(&mut self) -> Result<(), SinkError> {
        if self.protocol.transaction.unsent() == 0 {
            return Ok(());
        }
        let (start, computed) = (self.clock.elapsed(), self.clock.computed());
        let (outbox, from, set_aside) = self.protocol.transaction.unsent_outputs();
        self.sink.send(outbox, from, set_aside)?;
        self.protocol.transaction.sent();
        let (_, counts) = self.protocol.transaction.buffers();
        counts.detail.spend(Stage::Send, self.clock.elapsed().saturating_sub(start));
        counts.detail.compute(Stage::Send, self.clock.computed().saturating_sub(computed));
        Ok(())
    }

    fn begin(&mut self) -> Result<(), SinkError> {
        if !self.protocol.transaction.is_begun() {
            self.sink.begin()?;
            self.protocol.transaction.begun();
        }
        Ok(())
    }

    /// Begins a commit when it is time: something is open and due, profiles are due, or the transaction is full.
    pub(super) fn commit_if_due(&mut self, now: Duration) -> Result<(), EngineError> {
        let Self { protocol, partitions, .. } = self;
        if protocol.transaction.opened_at().is_none()
            && protocol.profile_writes.is_time(now, partitions.count())
            && partitions.is_due()
        {
            protocol.transaction.open(now);
        }
        let is_full = protocol.transaction.is_full();
        if !is_full && !self.is_due(now) {
            return Ok(());
        }
        if is_full {
            self.await_commit()?;
        } else {
            self.check_outcome(COMMITTING_WAIT)?;
        }
        if self.protocol.transaction.is_committing() {
            Ok(())
        } else if is_full || self.sink.is_idle() {
            self.begin_commit()
        } else {
            self.clock.pause(BUSY_PAUSE);
            Ok(())
        }
    }

    /// Begins to commit the open transaction. No other commit is under way.
    pub(super) fn begin_commit(&mut self) -> Result<(), EngineError> {
        if self.protocol.transaction.opened_at().is_none() {
            return Ok(());
        }
        self.write_due_profiles();
        match self.try_begin_commit() {
            Ok(()) => Ok(()),
            Err(error) => self.recover_transaction(error),
        }
    }

    /// Hands the open transaction to the sink to be committed, and starts a new one.
    pub(super) fn try_begin_commit(&mut self) -> Result<(), SinkError> {
        let (outbox, _) = self.protocol.transaction.buffers();
        self.partitions.write_erasures(self.pipeline.layout(), outbox);
        let layout = self.pipeline.layout().id();
        let mut positions = self.partitions.progress(layout);
        if self.protocol.transaction.must_commit() && positions.is_empty() {
            positions = self.partitions.positions(layout);
        }
        let now = self.clock.elapsed();
        let is_nothing = positions.is_empty();
        if !is_nothing {
            // Positions are committed even if no event gave an output.
            self.begin()?;
            self.send_unsent()?;
            let group = self.source.group().ok_or_else(|| SinkError::Stale {
                doing: "commit the transaction",
                detail: "this consumer is not a member of its group".to_owned(),
            })?;
            self.sink.commit(&positions, group)?;
        }
        self.protocol.transaction.commit_began(positions, now);
        if is_nothing {
            self.finish_commit();
        }
        Ok(())
    }

    /// Commits everything that is open, and returns whether nothing is left.
    pub(super) fn commit(&mut self) -> Result<bool, EngineError> {
        self.await_commit()?;
        self.begin_commit()?;
        self.await_commit()?;
        Ok(self.protocol.transaction.is_idle())
    }

    /// Waits for the commit under way, and recovers if it fails.
    pub(super) fn await_commit(&mut self) -> Result<(), EngineError> {
        match self.await_outcome() {
            Ok(()) => Ok(()),
            Err(error) => self.recover_transaction(error),
        }
    }

    /// Waits for the outcome of the commit under way.
    pub(super) fn await_outcome(&mut self) -> Result<(), SinkError> {
        while self.protocol.transaction.is_committing() {
            self.progress.health().beat();
            self.take_outcome(IDLE_WAIT)?;
        }
        Ok(())
    }

    /// Acts on the outcome of the commit under way, if it is known within `wait`.
    pub(super) fn check_outcome(&mut self, wait: Duration) -> Result<(), EngineError> {
        match self.take_outcome(wait) {
            Ok(()) => Ok(()),
            Err(error) => self.recover_transaction(error),
        }
    }

    /// Takes the outcome of the commit under way, if it is known within `wait`: finishes the commit, or returns its
    /// error.
    fn take_outcome(&mut self, wait: Duration) -> Result<(), SinkError> {
        if !self.protocol.transaction.is_committing() {
            return Ok(());
        }
        match self.sink.outcome(wait) {
            None => return Ok(()),
            Some(Err(error)) if canary::is_in(Canary::OutcomeAssumed) => {
                self.sink.abort().and_then(|()| self.sink.fence()).unwrap_or_default();
                self.protocol.transaction.failed(Failure::from(&error));
            }
            Some(outcome) => outcome?,
        }
        self.finish_commit();
        Ok(())
    }

    /// Completes a successful commit.
    pub(super) fn finish_commit(&mut self) {
        let Some(mut committed) = self.protocol.transaction.take_committed() else { return };
        let now = self.clock.elapsed();
        if !committed.positions.is_empty() {
            self.note_progress(now);
        }
        self.partitions.settle(std::mem::take(&mut committed.positions));
        let took = now.saturating_sub(committed.began_at);
        committed.counts.detail.spend(Stage::Commit, took);
        let progress = &self.progress;
        progress.committed(&committed.counts);
        progress.users(self.partitions.users());
        progress.view().committed(&committed.counts.detail, self.clock.now());
        committed.counts.record();
        metrics::committed(took);
        if progress.view().is_traced(progress.commits()) && committed.counts.events > 0 {
            let open = now.saturating_sub(committed.opened_at);
            self.publish_trace(&committed, open, took);
        }
        self.protocol.transaction.reuse(committed);
    }

    /// Publishes the stages of a committed transaction and the traces of its events.
    fn publish_trace(&self, committed: &InFlight, open: Duration, commit: Duration) {
        let InFlight { outbox, counts, .. } = committed;
        let mut trace = Trace {
            visible_at: self.clock.now(),
            open,
            commit,
            events: counts.events,
            decisions: counts.decisions,
            dead_letters: counts.dead_letters_total(),
            stages: counts.detail.stages.elapsed,
            links: Vec::new(),
        };
        for (_, value) in outbox.all().flat_map(|it| it.headers()).filter(|(name, _)| *name == "traceparent") {
            trace.link(value);
        }
        self.progress.view().traced(trace);
    }

    fn write_profiles(&mut self, number: i32, is_going: bool, max: usize) -> usize {
        let bounds = (max, self.protocol.transaction.outbox_bytes_max());
        let (outbox, _) = self.protocol.transaction.buffers();
        self.partitions.write_profiles(number, is_going, bounds, self.pipeline.layout(), outbox)
    }

    /// Writes the due profiles of the next partition that has any, but only together with the first outputs of a
    /// transaction. The broker then learns of all its partitions at once, and knows them when the commit begins.
    fn write_due_profiles(&mut self) {
        let now = self.clock.elapsed();
        if self.protocol.transaction.is_begun() || !self.protocol.profile_writes.is_time(now, self.partitions.count()) {
            return;
        }
        let held = self.partitions.held();
        for number in self.protocol.profile_writes.in_turn(&held) {
            let written = self.write_profiles(number, false, PROFILES_PER_COMMIT);
            if written > 0 {
                let is_all = written < PROFILES_PER_COMMIT && !self.protocol.transaction.is_full();
                self.protocol.profile_writes.wrote(now, number, is_all);
                return;
            }
        }
        self.protocol.profile_writes.wrote_nothing(now);
    }

    /// Commits the open work and writes the changed profiles of revoked partitions, as far as the deadline allows.
    /// Returns whether everything that was processed is committed.
    pub(super) fn hand_over(&mut self, revoked: &[i32]) -> Result<bool, EngineError> {
        let start = self.clock.elapsed();
        let mut is_committed = self.commit()?;
        // A commit under way while the group changed belongs to the last generation. The next try belongs to this one.
        for _ in 1..HANDOVER_TRIES {
            is_committed = is_committed || self.commit()?;
        }
        while is_committed
            && self.partitions.dirty(revoked) > 0
            && self.clock.elapsed().saturating_sub(start) < HANDOVER_DEADLINE
        {
            let mut left = PROFILES_PER_HANDOVER_COMMIT;
            for number in revoked {
                left -= self.write_profiles(*number, true, left);
            }
            // If all dirty profiles have expired, nothing is written, but the marks still move.
            if self.protocol.transaction.unsent() == 0
                && self.partitions.progress(self.pipeline.layout().id()).is_empty()
            {
                break;
            }
            self.protocol.transaction.open(self.clock.elapsed());
            is_committed = self.commit()?;
        }
        Ok(is_committed)
    }
}
