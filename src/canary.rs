//! Known bugs that a test enables one at a time, to verify that the simulation finds them.
//!
//! A simulation without findings proves nothing unless it can find known bugs. Each canary is in the production code,
//! where the bug would be. Without the feature `testkit` the switch is a constant and is compiled away.

/// A known bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canary {
    /// Positions are committed before the records up to them have been processed.
    CommitBeforeState,
    /// A replay applies events that are already in the restored profile.
    ReplayDoubleCounts,
    /// The changelog is read to its last stable offset, not to its end (KAFKA-10167).
    RestoreToStable,
    /// A producer is used again after an unknown outcome.
    ProducerReused,
    /// The committed offset is that of the last record instead of the next one.
    OffsetsOneLow,
    /// The committed offset is read before the producer is fenced.
    FenceAfterRead,
    /// An aborted transaction's outputs are not sent again.
    OutputsDropped,
    /// A commit does not include its generation, so the coordinator cannot check it.
    GenerationIgnored,
    /// A profile that changes after its record was written is not rewritten.
    DirtyNotRewritten,
    /// The record of a removed profile stays in the changelog.
    TombstoneLost,
    /// The replay mark is after the oldest dirty event.
    MarkAhead,
    /// Outputs of the next transaction are sent while those of the last one are in flight.
    SendsOvertake,
    /// A commit counts as done when it starts.
    OutcomeAssumed,
    /// After an unknown outcome the transaction is assumed to be committed.
    EffectAssumed,
    /// Input is processed before the changelog is restored.
    RestoreSkipped,
    /// Outputs of replayed events are written again.
    ReplayEmits,
    /// Outputs of lost partitions are kept and sent.
    LostKept,
    /// A snapshot contains uncommitted state.
    SnapshotOfOpen,
    /// The events of a single user advance the partition time.
    TimeOfOneUser,
    /// An event rejected as too far in the future is accepted in a replay.
    CeilingNotReplayed,
    /// With at-least-once delivery, positions are committed before outputs are delivered.
    DeliveriesNotAwaited,
    /// With at-least-once delivery, positions are committed although deliveries failed.
    FailedDeliveriesIgnored,
    /// Outputs that the broker refuses in a transaction are skipped.
    RefusedIgnored,
    /// Outputs after an undelivered one are delivered anyway.
    OutletWithGaps,
    /// Profiles are written outside of the commit, so that a worker removed from the group writes them too.
    ProfilesBesideCommit,
    /// Input records of open or aborted transactions are processed.
    InputUncommitted,
    /// Changelog records of open or aborted transactions are restored.
    ChangelogUncommitted,
    /// Records before the seek position are processed.
    SeekIgnored,
    /// A tombstone is written after the new profile of a returning user.
    TombstoneAfterProfile,
    /// A changelog that has lost profiles is considered complete.
    LostChangelogTrusted,
    /// A restore that finds the right number of records counts as complete even if some are old.
    OldRecordsTrusted,
    /// A commit that proves the membership counts as done although its first attempt failed.
    ConfirmationUsedUp,
    /// The ends of memberships are not scheduled after a restore.
    TimersNotRestored,
    /// Memberships are not restored.
    MembershipsNotRestored,
    /// Memberships that end in a replay are written again.
    ExpiryReplayedAloud,
    /// A membership that ends without an event does not make its profile dirty.
    ExpiryNotDirty,
    /// Memberships end at the end of a batch.
    ExpiryAtBatchEnd,
    /// The mark does not contain the ticks.
    TickNotCommitted,
    /// A replay skips the ticks.
    TickNotReplayed,
    /// An exit rule that holds at a late event ends nothing.
    ExitIgnoredWhenLate,
    /// A late event that meets the entry rule shortens a membership.
    LateEventShortens,
    /// A segment that excludes another does not end memberships in it.
    ExclusionIgnored,
    /// The creative of a decision depends on the worker that decides.
    DrawOfWorker,
    /// An event moves the partition's time beyond the timestamp of its record.
    FastClockTrusted,
    /// A replayed tick ends memberships that began after it.
    TickOnNewerProfile,
    /// What readers were last told is not restored.
    EmissionStateNotRestored,
    /// A replay relies on what readers were told before it.
    ChangeKeptSilent,
    /// A decision that was not written counts as one that readers were told.
    SilenceTakenAsSaid,
    /// A worker takes a policy while a transaction is open.
    PolicyWithinTransaction,
    /// A worker goes back to an older policy.
    OlderPolicyTaken,
    /// Events without a consent string do not follow the last consent event.
    ConsentForgotten,
    /// A user who withdraws the permission to write keeps the profile.
    WithdrawalKeepsProfile,
    /// An event that may not be written changes the profile.
    RefusedWritten,
    /// A decision is personalised although the user does not consent.
    EmittedWithoutConsent,
    /// Who was erased is not written with the position after the request.
    ErasureNotCommitted,
    /// Who was erased is not restored.
    ErasureForgottenAtRestore,
    /// An event from before its user's erasure counts.
    EventBeforeErasureCounted,
    /// The null of an erased user is lost when outputs are sent again.
    NullLostInRetry,
    /// An erased user's opt-out is forgotten.
    OptOutErased,
    /// An opt-out is forgotten with its profile.
    OptOutExpired,
    /// A profile that moves to another name keeps its record under the former one.
    MoveForgetsTombstone,
    /// A profile that moves to another name is not written with the position after the event.
    MoveNotCommitted,
    /// A user's opt-out or erasure is lost when the user moves to another name.
    OptOutLostInMove,
    /// Control restores its state without the outcomes that it has seen.
    BudgetPaidTwiceAtTakeover,
    /// A campaign with a budget takes part although the policy is too old.
    StalePolicyUsed,
    /// Control counts an outcome each time that it is reported.
    DuplicateOutcomeCounted,
    /// Control counts outcomes beyond the horizon or outside their window.
    LateOutcomeCounted,
    /// Control applies records that are already in the restored state.
    InputAppliedTwice,
    /// Outcomes that wait for their decision are not restored.
    WaitingOutcomeLost,
    /// The version of the last policy is not restored.
    PolicyVersionReused,
    /// A click or a conversion does not make its impression dirty.
    TouchNotWritten,
}

impl Canary {
    /// All canaries that random seeds of the worker's simulation find. [`Self::ConfirmationUsedUp`] has its own test case: it
    /// needs a failure at the moment when a worker was removed from the group without knowing it. [`Self::OptOutErased`],
    /// [`Self::OptOutExpired`] and [`Self::OptOutLostInMove`] are found by tests of the pipeline.
    pub const ALL: [Self; 60] = [
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
        Self::OldRecordsTrusted,
        Self::TimersNotRestored,
        Self::MembershipsNotRestored,
        Self::ExpiryReplayedAloud,
        Self::ExpiryNotDirty,
        Self::ExpiryAtBatchEnd,
        Self::TickNotCommitted,
        Self::TickNotReplayed,
        Self::ExitIgnoredWhenLate,
        Self::LateEventShortens,
        Self::ExclusionIgnored,
        Self::DrawOfWorker,
        Self::FastClockTrusted,
        Self::TickOnNewerProfile,
        Self::EmissionStateNotRestored,
        Self::ChangeKeptSilent,
        Self::SilenceTakenAsSaid,
        Self::PolicyWithinTransaction,
        Self::OlderPolicyTaken,
        Self::StalePolicyUsed,
        Self::ConsentForgotten,
        Self::WithdrawalKeepsProfile,
        Self::RefusedWritten,
        Self::EmittedWithoutConsent,
        Self::ErasureNotCommitted,
        Self::ErasureForgottenAtRestore,
        Self::EventBeforeErasureCounted,
        Self::NullLostInRetry,
        Self::MoveForgetsTombstone,
        Self::MoveNotCommitted,
    ];

    /// The canaries that random seeds of control's simulation find.
    pub const CONTROL: [Self; 8] = [
        Self::BudgetPaidTwiceAtTakeover,
        Self::StalePolicyUsed,
        Self::DuplicateOutcomeCounted,
        Self::LateOutcomeCounted,
        Self::InputAppliedTwice,
        Self::WaitingOutcomeLost,
        Self::PolicyVersionReused,
        Self::TouchNotWritten,
    ];
}

#[cfg(any(test, feature = "testkit"))]
thread_local! {
    static PUT_IN: std::cell::Cell<Option<Canary>> = const { std::cell::Cell::new(None) };
}

/// Enables a bug for this thread from now on, or disables it.
#[cfg(any(test, feature = "testkit"))]
pub fn put_in(canary: Option<Canary>) {
    PUT_IN.set(canary);
}

/// Whether a bug is enabled.
#[cfg(any(test, feature = "testkit"))]
pub(crate) fn is_in(canary: Canary) -> bool {
    PUT_IN.get() == Some(canary)
}

/// Whether a bug is enabled: never.
#[cfg(not(any(test, feature = "testkit")))]
pub(crate) const fn is_in(_: Canary) -> bool {
    false
}
