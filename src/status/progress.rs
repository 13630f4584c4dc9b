//! A worker's progress, shared with the threads that show it.

use super::{Counts, Health, View, WorkerStatus};
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

/// What a worker has committed so far. Clones share the same data.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    counts: Mutex<Counts>,
    commits: AtomicU64,
    retries: AtomicU64,
    users: AtomicU64,
    health: Health,
    view: View,
}

impl Progress {
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the counts of a commit that took effect.
    pub fn committed(&self, counts: &Counts) {
        self.lock().add_counts(counts);
        self.0.commits.fetch_add(1, Ordering::Relaxed);
    }

    /// When the worker last ran its loop and progressed, and what it is restoring.
    pub fn health(&self) -> &Health {
        &self.0.health
    }

    /// A copy of the worker's view, completed by its health.
    pub fn status(&self) -> WorkerStatus {
        let health = self.health();
        let mut status = self.view().status();
        status.health.silent = health.silent_for();
        status.health.is_behind = health.is_behind();
        status.health.is_disconnected = health.is_disconnected();
        status
    }

    /// Partitions, latencies, scores and recent decisions.
    pub fn view(&self) -> &View {
        &self.0.view
    }

    /// Counts a transaction that was retried.
    pub fn retried(&self) {
        self.0.retries.fetch_add(1, Ordering::Relaxed);
    }

    /// Sets how many profiles are held.
    pub fn users(&self, users: u64) {
        self.0.users.store(users, Ordering::Relaxed);
    }

    /// The counts of all commits.
    pub fn counts(&self) -> Counts {
        self.lock().clone()
    }

    /// How many commits took effect.
    pub fn commits(&self) -> u64 {
        self.0.commits.load(Ordering::Relaxed)
    }

    /// How many transactions were retried.
    pub fn retries(&self) -> u64 {
        self.0.retries.load(Ordering::Relaxed)
    }

    /// How many profiles are held.
    pub fn user_count(&self) -> u64 {
        self.0.users.load(Ordering::Relaxed)
    }
}
