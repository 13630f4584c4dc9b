//! The life cycle of a worker's transactions: one fills while the previous one is being committed.
//!
//! Guarantees: an output is in exactly one place, the filling transaction or the one being committed, until its commit
//! is known to have taken effect. After a failure, both are retried as one, in order. Only one commit is under way at a
//! time. A request to confirm the membership belongs to the transaction it was made in and moves with it, so that no
//! retry loses it. Only [`Transaction::discard`] drops outputs without a commit, and then the log is read again.

use crate::{
    canary::{self, Canary},
    sink::{Outbox, SinkError},
    source::Committed,
    status::Counts,
};
use std::time::Duration;

/// How often in a row a transaction may belong to a past generation before everything is restored. In between, the loop
/// continues, so that it can react to the rebalance that must be under way.
const STALE_TRIES_MAX: u32 = 20;

/// The positions that a commit moves: partition, next offset, metadata.
type Positions = Vec<(i32, i64, String)>;

/// The kind of a transaction's failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The transaction must be aborted.
    Abortable,
    /// The group has a new generation.
    Stale,
    /// It is unknown whether the transaction took effect.
    Unknown,
    /// The failure cannot be recovered from.
    Fatal,
}

impl From<&SinkError> for Failure {
    fn from(error: &SinkError) -> Self {
        match error {
            SinkError::Abortable { .. } => Self::Abortable,
            SinkError::Stale { .. } => Self::Stale,
            SinkError::Unknown { .. } => Self::Unknown,
            SinkError::Fatal { .. } => Self::Fatal,
        }
    }
}

/// What to do next about a failed transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RecoveryAction {
    /// Abort the sink's open transaction, and report to [`Transaction::aborted`].
    Abort,
    /// Fence the producers, and report to [`Transaction::fenced`].
    Fence,
    /// Fence the producers, read the committed positions of these partitions, and report to
    /// [`Transaction::positions_read`].
    FenceAndReadPositions(Vec<i32>),
    /// Commit everything again.
    CommitAgain,
    /// The commit had taken effect: take it with [`Transaction::take_committed`].
    Finish,
    /// Continue. A rebalance will follow, and whatever this worker still owns is committed after it.
    GoOn,
    /// It is unknown what is committed: drop the state of all partitions and restore it.
    RestoreAll,
    /// End the worker.
    Stop,
}

/// The filling transaction.
#[derive(Debug, Default)]
struct Filling {
    outbox: Outbox,
    counts: Counts,
    /// When its first record was processed.
    opened_at: Option<Duration>,
    /// How many of the outputs have been handed to the sink.
    sent: usize,
    /// The indexes of the sent decisions that became dead letters, because their topic does not accept them.
    set_aside: Vec<usize>,
    /// Whether the sink has begun it.
    is_begun: bool,
    /// Whether its commit must prove that this worker is still in the group. It is then made even if it moves nothing.
    must_confirm: bool,
}

impl Filling {
    /// Forgets what the sink was given. All of it must be sent again.
    fn unsend(&mut self) {
        self.sent = 0;
        self.set_aside.clear();
        self.is_begun = false;
    }
}

/// A transaction whose commit has begun, with everything needed to retry it.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    /// The positions that it moves.
    pub positions: Positions,
    /// Its outputs.
    pub outbox: Outbox,
    /// Its counts.
    pub counts: Counts,
    /// When its first record was processed.
    pub opened_at: Duration,
    /// When its commit began.
    pub began_at: Duration,
    /// The indexes of the outputs that were sent as dead letters instead of decisions.
    set_aside: Vec<usize>,
    must_confirm: bool,
}

/// What a failed transaction waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doubt {
    /// The abort. Then it is sent again.
    Abort,
    /// The abort. Then the worker waits for the group's change.
    AbortStale,
    /// The fence. Then it is sent again.
    Fence,
    /// The fence. Then the worker waits for the group's change.
    FenceStale,
    /// The committed positions, which show whether it took effect.
    Positions,
}

/// The state of the last commit.
#[derive(Debug, Default)]
enum Commit {
    /// Nothing is being committed.
    #[default]
    None,
    /// A commit is under way.
    InFlight(InFlight),
    /// The commit, or sending the filling transaction, has failed.
    InDoubt(Option<InFlight>, Doubt),
}

impl Commit {
    fn in_flight(&self) -> Option<&InFlight> {
        match self {
            Self::None => None,
            Self::InFlight(it) => Some(it),
            Self::InDoubt(it, _) => it.as_ref(),
        }
    }

    fn take(&mut self) -> Option<InFlight> {
        match std::mem::take(self) {
            Self::None => None,
            Self::InFlight(it) => Some(it),
            Self::InDoubt(it, _) => it,
        }
    }
}

/// The transactions of a worker.
#[derive(Debug)]
pub(crate) struct Transaction {
    outbox_bytes_max: usize,
    filling: Filling,
    commit: Commit,
    /// The emptied buffers of the last commit.
    spare: (Outbox, Counts),
    /// How often in a row a transaction belonged to a past generation.
    stale: u32,
    /// Whether a commit that should confirm the membership has taken effect.
    is_confirmed: bool,
}

impl Transaction {
    /// Starts without a transaction. A transaction is full when its outputs exceed this many bytes.
    pub(crate) fn new(outbox_bytes_max: usize) -> Self {
        Self {
            outbox_bytes_max,
            filling: Filling::default(),
            commit: Commit::None,
            spare: <(Outbox, Counts)>::default(),
            stale: 0,
            is_confirmed: false,
        }
    }

    /// The buffers for the pipeline's outputs and counts.
    pub(crate) fn buffers(&mut self) -> (&mut Outbox, &mut Counts) {
        (&mut self.filling.outbox, &mut self.filling.counts)
    }

    /// The outputs of the filling transaction, the number of them that the sink has, and the indexes of those set
    /// aside.
    pub(crate) fn unsent_outputs(&mut self) -> (&Outbox, usize, &mut Vec<usize>) {
        (&self.filling.outbox, self.filling.sent, &mut self.filling.set_aside)
    }

    /// Opens a transaction, unless one is open.
    pub(crate) fn open(&mut self, now: Duration) {
        self.filling.opened_at.get_or_insert(now);
    }

    /// When the filling transaction was opened.
    pub(crate) fn opened_at(&self) -> Option<Duration> {
        self.filling.opened_at
    }

    /// Whether there is nothing to commit.
    pub(crate) fn is_idle(&self) -> bool {
        self.filling.opened_at.is_none() && self.filling.outbox.is_empty()
    }

    /// Whether the next step should be a commit, because the transaction is full.
    pub(crate) fn is_full(&self) -> bool {
        self.filling.outbox.bytes() >= self.outbox_bytes_max
    }

    /// The maximum bytes of outputs.
    pub(crate) fn outbox_bytes_max(&self) -> usize {
        self.outbox_bytes_max
    }

    /// Whether a commit is under way.
    pub(crate) fn is_committing(&self) -> bool {
        matches!(self.commit, Commit::InFlight(_))
    }

    /// How many outputs are not known to be committed.
    pub(crate) fn outputs(&self) -> usize {
        self.filling.outbox.len() + self.commit.in_flight().map_or(0, |it| it.outbox.len())
    }

    /// How many outputs the sink has not been given.
    pub(crate) fn unsent(&self) -> usize {
        self.filling.outbox.len() - self.filling.sent
    }

    /// Whether the sink has begun the filling transaction.
    pub(crate) fn is_begun(&self) -> bool {
        self.filling.is_begun
    }

    /// The sink has begun it.
    pub(crate) fn begun(&mut self) {
        self.filling.is_begun = true;
    }

    /// The sink has been given all outputs.
    pub(crate) fn sent(&mut self) {
        self.filling.sent = self.filling.outbox.len();
    }

    /// Makes the next commit prove that this worker is still in the group.
    pub(crate) fn request_confirmation(&mut self, now: Duration) {
        self.open(now);
        self.filling.must_confirm = true;
        self.is_confirmed = false;
    }

    /// Whether a commit has proved it since the request, which ends with this call.
    pub(crate) fn take_confirmation(&mut self) -> bool {
        self.filling.must_confirm = false;
        std::mem::take(&mut self.is_confirmed)
    }

    /// Begins an attempt to commit. Returns whether a commit is needed even if no position moves: to confirm the
    /// membership, or because outputs without positions would evade the check of the generation.
    pub(crate) fn must_commit(&mut self) -> bool {
        let must_commit = self.filling.must_confirm || !self.filling.outbox.is_empty();
        if canary::is_in(Canary::ConfirmationUsedUp) {
            self.filling.must_confirm = false;
        }
        must_commit
    }

    /// The sink has begun to commit the filling transaction with these positions. A new one fills from here on.
    pub(crate) fn commit_began(&mut self, positions: Positions, now: Duration) {
        debug_assert!(self.commit.in_flight().is_none(), "only one commit is under way at a time");
        let (outbox, counts) = std::mem::take(&mut self.spare);
        let filled = std::mem::replace(&mut self.filling, Filling { outbox, counts, ..Filling::default() });
        self.commit = Commit::InFlight(InFlight {
            positions,
            outbox: filled.outbox,
            counts: filled.counts,
            opened_at: filled.opened_at.unwrap_or(now),
            began_at: now,
            set_aside: filled.set_aside,
            must_confirm: filled.must_confirm,
        });
    }

    /// The commit has taken effect. Returns its contents, which [`Self::reuse`] takes back.
    pub(crate) fn take_committed(&mut self) -> Option<InFlight> {
        if matches!(self.commit, Commit::InDoubt(..)) {
            // Outputs sent after it are lost with the producer that sent them.
            self.filling.unsend();
        }
        let mut committed = self.commit.take()?;
        for index in committed.set_aside.drain(..) {
            let decision = committed.outbox.get(index);
            if decision.is_expiry {
                committed.counts.set_aside_expiry();
            } else {
                committed.counts.set_aside(decision.fallback);
            }
        }
        self.stale = 0;
        self.is_confirmed |= committed.must_confirm && !committed.positions.is_empty();
        Some(committed)
    }

    /// Takes back the buffers of a commit.
    pub(crate) fn reuse(&mut self, InFlight { mut outbox, mut counts, .. }: InFlight) {
        outbox.clear();
        counts.clear();
        self.spare = (outbox, counts);
    }

    /// Drops everything that is not committed.
    pub(crate) fn discard(&mut self) {
        self.commit = Commit::None;
        self.stale = 0;
        self.filling.outbox.clear();
        self.filling.counts.clear();
        self.filling.unsend();
        self.filling.opened_at = None;
        self.filling.must_confirm = false;
    }

    /// The commit under way has failed, or a call for the filling transaction while no commit is under way.
    pub(crate) fn failed(&mut self, failure: Failure) -> RecoveryAction {
        match failure {
            Failure::Abortable => self.doubt(Doubt::Abort),
            Failure::Stale => self.doubt(Doubt::AbortStale),
            Failure::Unknown => self.ask_for_effect(),
            Failure::Fatal => RecoveryAction::Stop,
        }
    }

    /// The abort has finished with this outcome.
    pub(crate) fn aborted(&mut self, outcome: Result<(), Failure>) -> RecoveryAction {
        match (&self.commit, outcome) {
            // The generation has passed, so the transaction cannot take effect, whatever happens to the abort.
            (Commit::InDoubt(_, Doubt::AbortStale), _) => self.doubt(Doubt::FenceStale),
            // Another failure may have broken the producers since.
            (_, Ok(())) => self.doubt(Doubt::Fence),
            (_, Err(Failure::Fatal)) => RecoveryAction::Stop,
            (_, Err(_)) => self.ask_for_effect(),
        }
    }

    /// The producers are fenced: the failed transaction has not taken effect and never will.
    pub(crate) fn fenced(&mut self, now: Duration) -> RecoveryAction {
        let is_stale = matches!(self.commit, Commit::InDoubt(_, Doubt::FenceStale));
        self.rejoin();
        if !is_stale {
            return RecoveryAction::CommitAgain;
        }
        self.stale += 1;
        if self.stale > STALE_TRIES_MAX || self.is_full() {
            return RecoveryAction::RestoreAll;
        }
        self.filling.opened_at = Some(now);
        RecoveryAction::GoOn
    }

    /// The positions that are committed after the fence. `before` gives those before the failed commit.
    pub(crate) fn positions_read<'a>(
        &mut self,
        committed: &[(i32, Committed)],
        before: impl Fn(i32) -> Option<(i64, &'a str)>,
    ) -> RecoveryAction {
        let Some(in_flight) = self.commit.in_flight() else { return RecoveryAction::RestoreAll };
        let now = |partition: i32| {
            let (_, committed) = committed.iter().find(|(other, _)| *other == partition)?;
            Some((committed.offset?, committed.metadata.as_str()))
        };
        let mut positions = in_flight.positions.iter();
        if positions.clone().all(|(partition, next, metadata)| now(*partition) == Some((*next, metadata.as_str())))
            || canary::is_in(Canary::EffectAssumed)
        {
            return RecoveryAction::Finish;
        }
        if positions.all(|(partition, ..)| now(*partition) == before(*partition)) {
            self.rejoin();
            return RecoveryAction::CommitAgain;
        }
        // Somebody else has committed.
        RecoveryAction::RestoreAll
    }

    fn ask_for_effect(&mut self) -> RecoveryAction {
        match self.commit.in_flight() {
            Some(_) => self.doubt(Doubt::Positions),
            // It failed before its commit began.
            None => self.doubt(Doubt::Fence),
        }
    }

    fn doubt(&mut self, doubt: Doubt) -> RecoveryAction {
        self.commit = Commit::InDoubt(self.commit.take(), doubt);
        match (doubt, self.commit.in_flight()) {
            (Doubt::Abort | Doubt::AbortStale, _) => RecoveryAction::Abort,
            (Doubt::Positions, Some(it)) => {
                RecoveryAction::FenceAndReadPositions(it.positions.iter().map(|(partition, ..)| *partition).collect())
            }
            _ => RecoveryAction::Fence,
        }
    }

    /// Puts the transaction being committed in front of the filling one, to retry them as one.
    fn rejoin(&mut self) {
        if let Some(mut failed) = self.commit.take() {
            failed.outbox.append(&self.filling.outbox);
            failed.counts.add(&self.filling.counts);
            (self.filling.outbox, self.filling.counts) = (failed.outbox, failed.counts);
            self.filling.opened_at = Some(failed.opened_at);
            self.filling.must_confirm |= failed.must_confirm;
        }
        if canary::is_in(Canary::OutputsDropped) {
            self.filling.outbox.clear();
        }
        self.filling.unsend();
    }
}

#[cfg(test)]
mod tests;
