//! Reacts to group changes: partitions that are assigned, revoked or lost, and a fenced membership.

use super::{
    EngineError, Worker,
    protocol::{FencedAction, PositionBeyondEnd},
    restoring::beyond_end,
};
use crate::{
    canary::{self, Canary},
    engine::Clock,
    metrics,
    sink::Sink,
    source::{Change, Source, SourceError},
};
use std::time::Duration;

/// The longest pause without a sign of life.
const PAUSE_MAX: Duration = Duration::from_secs(1);

impl<S: Source, K: Sink<Group = S::Group>, C: Clock> Worker<S, K, C> {
    /// Reacts to a change of the assignment.
    pub(super) fn change_assignment(&mut self, change: Change) -> Result<(), EngineError> {
        match change {
            Change::Assigned(partitions) => {
                tracing::info!(?partitions, "assigned");
                self.count_rebalance("assigned", &partitions);
                self.take_assigned(&partitions)?;
            }
            Change::Revoked(partitions) => {
                tracing::info!(?partitions, "revoked");
                self.count_rebalance("revoked", &partitions);
                let is_committed = self.hand_over(&partitions)?;
                self.release(&partitions)?;
                if !is_committed {
                    self.abort_open()?;
                    self.restore_all()?;
                }
            }
            Change::Lost(partitions) => {
                tracing::warn!(?partitions, "lost");
                self.count_rebalance("lost", &partitions);
                self.drop_lost(&partitions)?;
            }
        }
        self.progress.users(self.partitions.users());
        self.progress.health().hold(self.partitions.count());
        let now = self.clock.elapsed();
        self.note_progress(now);
        self.publish_restores(now);
        Ok(())
    }

    fn count_rebalance(&self, what: &'static str, partitions: &[i32]) {
        metrics::rebalanced(what);
        self.publish_event(what, format!("partitions {partitions:?}"));
    }

    fn take_assigned(&mut self, partitions: &[i32]) -> Result<(), EngineError> {
        let missing = self.ask(|source| source.lacking(partitions))?;
        // The open transaction would otherwise stay open while the broker is asked.
        self.commit()?;
        let (ready, waiting) = self.protocol.assignment.assigned(partitions, &missing);
        let mut starts = self.take_up(&ready)?;
        for number in &waiting {
            starts.push((*number, self.ask(|source| source.watermarks(*number))?.high));
        }
        self.source.assign(&starts)?;
        if !waiting.is_empty() {
            self.source.pause(&waiting)?;
            tracing::error!(
                partitions = ?waiting,
                "the changelog has fewer partitions than the input: these partitions are not read until it has as many; add them \
                 with: aimpoint topics --create"
            );
        }
        self.begin_restore(&ready)
    }

    fn drop_lost(&mut self, partitions: &[i32]) -> Result<(), EngineError> {
        if let Err(error) = self.await_outcome() {
            tracing::warn!(%error, "a commit failed while partitions were lost");
        } else if canary::is_in(Canary::LostKept) {
            return self.release(partitions);
        }
        self.abort_open()?;
        self.protocol.transaction.discard();
        self.release(partitions)?;
        self.restore_all()
    }

    /// Gives partitions up, with their state.
    fn release(&mut self, partitions: &[i32]) -> Result<(), EngineError> {
        self.partitions.drop_all(partitions);
        self.protocol.assignment.released(partitions);
        self.forget_restores(partitions);
        Ok(self.source.release(partitions)?)
    }

    /// Takes up partitions whose changelog now exists.
    pub(super) fn check_missing_changelogs(&mut self) -> Result<(), EngineError> {
        if self.protocol.assignment.without_changelog().is_empty()
            || !self.protocol.assignment.take_changelog_check(self.clock.elapsed())
        {
            return Ok(());
        }
        // Without an answer, the broker is asked again later.
        let Ok(missing) = self.source.lacking(self.protocol.assignment.without_changelog()) else { return Ok(()) };
        let ready = self.protocol.assignment.changelog_checked(missing);
        if ready.is_empty() {
            return Ok(());
        }
        tracing::info!(partitions = ?ready, "the changelog now has these partitions: their input is read from now on");
        self.commit()?;
        for (number, start) in self.take_up(&ready)? {
            self.ask(|source| source.resume(number, start))?;
        }
        self.begin_restore(&ready)?;
        self.progress.health().hold(self.partitions.count());
        Ok(())
    }

    /// Continues at the start of the log for partitions whose next records were deleted before they were read. The
    /// client does not report which partitions these are.
    pub(super) fn skip_deleted_records(&mut self) -> Result<(), EngineError> {
        let without_changelog = self.protocol.assignment.without_changelog().to_vec();
        let (mut starts, mut paused) = (Vec::new(), without_changelog.clone());
        for number in self.partitions.held() {
            let Some(partition) = self.partitions.get(number) else { continue };
            let (next, is_restoring) = (partition.next, partition.is_restoring());
            let ends = self.ask(|source| source.watermarks(number))?;
            starts.push((number, next.max(ends.low)));
            if is_restoring {
                paused.push(number);
            } else if next > ends.high {
                return Err(beyond_end(number, PositionBeyondEnd { next, end: ends.high }));
            } else if next < ends.low {
                self.report_skipped(number, next, ends.low);
                self.partitions.skip_to(number, ends.low);
                self.pipeline.catch_up(&mut self.partitions);
                // The position moves even if no more records come.
                self.protocol.transaction.open(self.clock.elapsed());
            }
        }
        for number in without_changelog {
            starts.push((number, self.ask(|source| source.watermarks(number))?.high));
        }
        self.source.restart(&starts)?;
        Ok(self.source.pause(&paused)?)
    }

    /// Rejoins the group after it has fenced this member. After the loss of a broker, fencing may just be a mistake of
    /// the group's new coordinator. All partitions are lost with the membership.
    pub(super) fn rejoin(&mut self, instance: String, detail: String) -> Result<(), EngineError> {
        let held = [&self.partitions.held(), self.protocol.assignment.without_changelog()].concat();
        let action = self.protocol.assignment.fenced(self.clock.elapsed());
        tracing::warn!(instance, detail, partitions = ?held, ?action, "the group has fenced this member");
        self.count_rebalance("lost", &held);
        self.abort_open()?;
        self.protocol.transaction.discard();
        self.pipeline.drop_batch(&mut Vec::new());
        self.partitions.drop_all(&held);
        self.forget_restores(&held);
        let FencedAction::Rejoin { mut pause } = action else {
            return Err(SourceError::Fenced { instance, detail }.into());
        };
        while !pause.is_zero() {
            self.progress.health().beat();
            let slice = pause.min(PAUSE_MAX);
            self.clock.pause(slice);
            pause -= slice;
        }
        self.source.rejoin()?;
        self.protocol.assignment.rejoined(self.clock.elapsed());
        self.progress.users(0);
        self.progress.health().hold(0);
        Ok(())
    }
}
