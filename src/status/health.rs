//! The health of a worker: when it last ran its loop, when it last made progress, and what it is restoring.
//!
//! A blocked worker cannot report itself, so other threads detect it by [`Health::silent_for`]. A worker whose loop
//! runs without progress calls [`Health::behind`] and later ends with an error.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// A partition whose changelog is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restoring {
    /// Its number.
    pub partition: i32,
    /// The first offset of the changelog.
    pub from: i64,
    /// The next offset to read.
    pub next: i64,
    /// Where it ends.
    pub end: i64,
    /// When the restore began, by the worker's clock.
    pub since: Duration,
    /// How long the restore has taken so far.
    pub took: Duration,
}

impl Restoring {
    /// The share that has been read, from 0 to 1.
    pub fn share(&self) -> f64 {
        if self.end > self.from { (self.next - self.from) as f64 / (self.end - self.from) as f64 } else { 1.0 }
    }

    /// An estimate of the time left, once something has been read.
    pub fn left(&self) -> Option<Duration> {
        let share = self.share();
        (share > 0.0).then(|| self.took.mul_f64((1.0 - share).max(0.0) / share))
    }
}

/// The health of one worker.
#[derive(Debug)]
pub struct Health {
    start: Instant,
    beat_ms: AtomicU64,
    moved_ms: AtomicU64,
    held: AtomicU64,
    is_behind: AtomicBool,
    is_disconnected: AtomicBool,
    skipped: AtomicU64,
    doubted: AtomicU64,
    restoring: Mutex<Vec<Restoring>>,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            beat_ms: AtomicU64::new(0),
            moved_ms: AtomicU64::new(0),
            held: AtomicU64::new(0),
            is_behind: AtomicBool::new(false),
            is_disconnected: AtomicBool::new(false),
            skipped: AtomicU64::new(0),
            doubted: AtomicU64::new(0),
            restoring: Mutex::default(),
        }
    }
}

impl Health {
    /// The worker ran its loop.
    pub fn beat(&self) {
        self.beat_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    /// The worker made progress: it committed or restored something.
    pub fn moved(&self) {
        self.moved_ms.store(self.now_ms(), Ordering::Relaxed);
        self.is_behind.store(false, Ordering::Relaxed);
    }

    /// Sets how many partitions are assigned.
    pub fn hold(&self, partitions: usize) {
        self.held.store(partitions as u64, Ordering::Relaxed);
    }

    /// Records are waiting without progress.
    pub fn behind(&self) {
        self.is_behind.store(true, Ordering::Relaxed);
    }

    /// Sets whether no broker has answered for half of `engine.stall_after`.
    pub fn set_disconnected(&self, is_disconnected: bool) {
        self.is_disconnected.store(is_disconnected, Ordering::Relaxed);
    }

    /// Counts input records that were deleted before they were read.
    pub fn skip(&self, records: u64) {
        self.skipped.fetch_add(records, Ordering::Relaxed);
    }

    /// Counts a changelog or a snapshot that was unusable.
    pub fn doubt(&self) {
        self.doubted.fetch_add(1, Ordering::Relaxed);
    }

    /// Changes the list of restores.
    pub fn restore(&self, change: impl FnOnce(&mut Vec<Restoring>)) {
        change(&mut self.restoring.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// How long ago the worker last ran its loop.
    pub fn silent_for(&self) -> Duration {
        Duration::from_millis(self.now_ms().saturating_sub(self.beat_ms.load(Ordering::Relaxed)))
    }

    /// How long ago something was last committed or restored. This grows for an idle worker, too: see [`Health::is_behind`].
    pub fn still_for(&self) -> Duration {
        Duration::from_millis(self.now_ms().saturating_sub(self.moved_ms.load(Ordering::Relaxed)))
    }

    /// Whether records have been waiting without progress for half of `engine.stall_after`.
    pub fn is_behind(&self) -> bool {
        self.is_behind.load(Ordering::Relaxed)
    }

    /// Whether no broker has answered for half of `engine.stall_after`.
    pub fn is_disconnected(&self) -> bool {
        self.is_disconnected.load(Ordering::Relaxed)
    }

    /// How many partitions are assigned.
    pub fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// How many input records were deleted before they were read.
    pub fn skipped(&self) -> u64 {
        self.skipped.load(Ordering::Relaxed)
    }

    /// How many changelogs and snapshots were unusable.
    pub fn doubted(&self) -> u64 {
        self.doubted.load(Ordering::Relaxed)
    }

    /// What is being restored.
    pub fn restoring(&self) -> Vec<Restoring> {
        self.restoring.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn now_ms(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_of_a_restore_is_estimated_from_its_speed() {
        let at = |next| {
            let (since, took) = (Duration::ZERO, Duration::from_secs(10));
            Restoring { partition: 0, from: 100, next, end: 200, since, took }
        };
        assert_eq!((at(100).share(), at(100).left()), (0.0, None));
        assert_eq!((at(125).share(), at(125).left()), (0.25, Some(Duration::from_secs(30))));
        assert_eq!(at(200).left(), Some(Duration::ZERO));
    }

    #[test]
    fn progress_ends_being_behind() {
        let health = Health::default();
        health.behind();
        assert!(health.is_behind());
        health.moved();
        assert!(!health.is_behind() && health.silent_for() < Duration::from_mins(1));
    }
}
