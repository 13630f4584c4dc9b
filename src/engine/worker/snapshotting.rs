//! Writes snapshots of committed profiles, so that a restart has less of the changelog to read.

use super::{EngineError, Worker, protocol::SnapshotSchedule};
use crate::{
    canary::{self, Canary},
    engine::{Clock, SnapshotStore},
    sink::Sink,
    source::Source,
    state::SnapshotReader,
};
use std::time::Duration;

/// The snapshots that a worker writes and reads.
pub(super) struct Snapshots {
    pub(super) store: Box<dyn SnapshotStore>,
    schedule: SnapshotSchedule,
    /// The snapshots being read.
    pub(super) reading: Vec<SnapshotReader>,
}

impl Snapshots {
    pub(super) fn new(store: Box<dyn SnapshotStore>, interval: Duration) -> Self {
        Self { store, schedule: SnapshotSchedule::new(interval), reading: Vec::new() }
    }
}

impl<S: Source, K: Sink<Group = S::Group>, C: Clock> Worker<S, K, C> {
    /// Writes the snapshot of the next partition if one is due.
    pub(super) fn write_snapshot_if_due(&mut self, now: Duration) -> Result<(), EngineError> {
        let Some(Snapshots { schedule, .. }) = &mut self.snapshots else { return Ok(()) };
        if !schedule.is_due(now) {
            return Ok(());
        }
        match schedule.take_turn(now, &self.partitions.held()) {
            Some(number) if !self.partitions.is_recovering(number) => self.write_snapshots(&[number]),
            _ => Ok(()),
        }
    }

    /// Writes the snapshots of partitions that are given up cleanly, and waits until they are on disk.
    pub(super) fn write_last_snapshots(&mut self, partitions: &[i32]) -> Result<(), EngineError> {
        if self.snapshots.is_some() {
            self.write_snapshots(partitions)?;
        }
        if let Some(snapshots) = &mut self.snapshots {
            snapshots.store.finish();
        }
        Ok(())
    }

    /// Writes the snapshots of these partitions, with committed profiles only. A commit between reading the changelog's
    /// end and copying the profiles proves that nobody else had written to the changelog by then. A worker that was
    /// removed from the group would not know.
    fn write_snapshots(&mut self, partitions: &[i32]) -> Result<(), EngineError> {
        let mut ends = Vec::new();
        for number in partitions {
            // Without an answer, there is no snapshot this time.
            if let Ok(end) = self.source.profiles_end(*number) {
                ends.push((*number, end));
            }
        }
        let is_proved = canary::is_in(Canary::SnapshotOfOpen) || {
            self.protocol.transaction.request_confirmation(self.clock.elapsed());
            let is_committed = self.commit()?;
            let is_confirmed = self.protocol.transaction.take_confirmation();
            is_committed && (is_confirmed || canary::is_in(Canary::ConfirmationUsedUp))
        };
        let Some(snapshots) = self.snapshots.as_mut().filter(|_| is_proved) else { return Ok(()) };
        for (number, end) in ends {
            if let Some(bytes) = self.partitions.snapshot(number, end, self.pipeline.profile()) {
                snapshots.store.put(number, bytes);
            }
        }
        Ok(())
    }
}
