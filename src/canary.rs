//! Known bugs that a test puts in, one at a time, to see that the simulation finds them.
//!
//! A simulation that finds nothing proves nothing until it is known what it would find. Each canary stands where the bug
//! would stand, in the code that ships; without the feature `testkit` the switch is a constant and leaves no trace.

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canary {
    /// Positions are committed before what lies behind them was processed.
    CommitBeforeState,
    /// A replay applies events that the restored profile has in it already.
    ReplayDoubleCounts,
    /// The changelog is read to its last stable offset, not to its end (KAFKA-10167).
    RestoreToStable,
    /// A producer is used again after an outcome that nobody knows.
    ProducerReused,
    /// The committed offset is that of the last record, not of the next one.
    OffsetsOneLow,
    /// The committed offset is read before the producer is fenced.
    FenceAfterRead,
    /// An aborted transaction's outputs are not sent again.
    OutputsDropped,
    /// A commit does not say of which generation it is, so that the coordinator checks nothing.
    GenerationIgnored,
    /// A profile that changes after its record was written is not written again.
    DirtyNotRewritten,
    /// A profile that goes leaves its record in the changelog.
    TombstoneLost,
    /// The mark lies behind the oldest dirty event.
    MarkAhead,
    /// The next transaction's outputs are sent while those of the last one are on their way.
    SendsOvertake,
    /// A commit counts as done when it begins.
    OutcomeAssumed,
    /// After an unknown outcome the transaction is taken to have taken effect.
    EffectAssumed,
    /// The input goes on before the changelog is read.
    RestoreSkipped,
    /// What is only read again is written again.
    ReplayEmits,
    /// The outputs of partitions that were lost are kept and sent.
    LostKept,
    /// A snapshot holds what is not committed.
    SnapshotOfOpen,
    /// One user's event moves the partition's time.
    TimeOfOneUser,
    /// What was refused as too far ahead is taken when it is read again.
    CeilingNotReplayed,
    /// Where outputs are shown at once, positions are committed before these are delivered.
    DeliveriesNotAwaited,
    /// They are committed although deliveries failed.
    FailedDeliveriesIgnored,
    /// Outputs that the broker refuses in a transaction are passed by.
    RefusedIgnored,
    /// What follows an output that was not delivered is delivered all the same.
    OutletWithGaps,
    /// Profiles are written beside the commit, so that a worker that was put out of the group writes them, too.
    ProfilesBesideCommit,
    /// Records of the input are taken whose transaction is open or was aborted.
    InputUncommitted,
    /// The same of the changelog.
    ChangelogUncommitted,
    /// Records are taken that lie before the position to which the input was set.
    SeekIgnored,
    /// A tombstone is written after the profile of the user who came back.
    TombstoneAfterProfile,
    /// A changelog that has lost profiles is taken for whole.
    LostChangelogTrusted,
    /// A commit that is to prove the membership counts as made when its first attempt has failed.
    ConfirmationUsedUp,
}

impl Canary {
    /// All that the simulation finds by its seeds. [`Self::ConfirmationUsedUp`] has a case of its own: it takes a failure in the
    /// one moment in which a worker has been put out of the group and does not know.
    pub const ALL: [Self; 30] = [
        Self::CommitBeforeState,
        Self::ReplayDoubleCounts,
        Self::RestoreToStable,
        Self::ProducerReused,
        Self::OffsetsOneLow,
        Self::FenceAfterRead,
        Self::OutputsDropped,
        Self::GenerationIgnored,
        Self::DirtyNotRewritten,
        Self::TombstoneLost,
        Self::MarkAhead,
        Self::SendsOvertake,
        Self::OutcomeAssumed,
        Self::EffectAssumed,
        Self::RestoreSkipped,
        Self::ReplayEmits,
        Self::LostKept,
        Self::SnapshotOfOpen,
        Self::TimeOfOneUser,
        Self::CeilingNotReplayed,
        Self::DeliveriesNotAwaited,
        Self::FailedDeliveriesIgnored,
        Self::RefusedIgnored,
        Self::OutletWithGaps,
        Self::ProfilesBesideCommit,
        Self::InputUncommitted,
        Self::ChangelogUncommitted,
        Self::SeekIgnored,
        Self::TombstoneAfterProfile,
        Self::LostChangelogTrusted,
    ];
}

#[cfg(any(test, feature = "testkit"))]
thread_local! {
    static PUT_IN: std::cell::Cell<Option<Canary>> = const { std::cell::Cell::new(None) };
}

/// Puts a bug in for all that this thread does from now on, or takes it out.
#[cfg(any(test, feature = "testkit"))]
pub fn put_in(canary: Option<Canary>) {
    PUT_IN.set(canary);
}

/// Whether a bug is put in.
#[cfg(any(test, feature = "testkit"))]
pub(crate) fn is_in(canary: Canary) -> bool {
    PUT_IN.get() == Some(canary)
}

/// Whether a bug is put in: never.
#[cfg(not(any(test, feature = "testkit")))]
pub(crate) const fn is_in(_: Canary) -> bool {
    false
}
