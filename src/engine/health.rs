//! What other threads see of a worker's life: when it last went round its loop, when it last moved, what it restores.
//!
//! A worker that is blocked cannot say so; it can only fall silent, and [`Health::silent_for`] tells for how long. One
//! that goes round without getting on says so itself, by [`super::EngineError::Stalled`].

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
    /// When its reading began, as the worker's clock says.
    pub since: Duration,
    /// How long it has been read by now.
    pub took: Duration,
}

impl Restoring {
    /// How much of it is read, from 0 to 1.
    pub fn share(&self) -> f64 {
        if self.end > self.from { (self.next - self.from) as f64 / (self.end - self.from) as f64 } else { 1.0 }
    }

    /// How long the rest will take at the speed so far, once there is a speed.
    pub fn left(&self) -> Option<Duration> {
        let share = self.share();
        (share > 0.0).then(|| self.took.mul_f64((1.0 - share).max(0.0) / share))
    }
}

/// The life of one worker.
#[derive(Debug)]
pub struct Health {
    start: Instant,
    beat_ms: AtomicU64,
    moved_ms: AtomicU64,
    held: AtomicU64,
    is_behind: AtomicBool,
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
            skipped: AtomicU64::new(0),
            doubted: AtomicU64::new(0),
            restoring: Mutex::default(),
        }
    }
}

impl Health {
    /// The worker goes round.
    pub fn beat(&self) {
        self.beat_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    /// The worker gets on: something was committed or restored.
    pub fn moved(&self) {
        self.moved_ms.store(self.now_ms(), Ordering::Relaxed);
        self.is_behind.store(false, Ordering::Relaxed);
    }

    /// Tells how many partitions are held.
    pub fn hold(&self, partitions: usize) {
        self.held.store(partitions as u64, Ordering::Relaxed);
    }

    /// There are records that the worker does not get on with.
    pub fn behind(&self) {
        self.is_behind.store(true, Ordering::Relaxed);
    }

    /// Counts records of the input that were deleted before they were read.
    pub fn skip(&self, records: u64) {
        self.skipped.fetch_add(records, Ordering::Relaxed);
    }

    /// Counts a changelog or a snapshot that could not be used.
    pub fn doubt(&self) {
        self.doubted.fetch_add(1, Ordering::Relaxed);
    }

    /// Tells what is being restored.
    pub fn restore(&self, tell: impl FnOnce(&mut Vec<Restoring>)) {
        tell(&mut self.restoring.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// For how long the worker has not gone round its loop.
    pub fn silent_for(&self) -> Duration {
        Duration::from_millis(self.now_ms().saturating_sub(self.beat_ms.load(Ordering::Relaxed)))
    }

    /// For how long nothing was committed or restored. An idle worker is still, too: see [`Health::is_behind`].
    pub fn still_for(&self) -> Duration {
        Duration::from_millis(self.now_ms().saturating_sub(self.moved_ms.load(Ordering::Relaxed)))
    }

    /// Whether there are records that the worker has not got on with for half of the time after which it ends.
    pub fn is_behind(&self) -> bool {
        self.is_behind.load(Ordering::Relaxed)
    }

    /// How many partitions are held.
    pub fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// How many records of the input were deleted before they were read.
    pub fn skipped(&self) -> u64 {
        self.skipped.load(Ordering::Relaxed)
    }

    /// How many changelogs and snapshots could not be used.
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
    fn what_is_left_of_a_restore_follows_from_what_is_done() {
        let at = |next| {
            let (since, took) = (Duration::ZERO, Duration::from_secs(10));
            Restoring { partition: 0, from: 100, next, end: 200, since, took }
        };
        assert_eq!((at(100).share(), at(100).left()), (0.0, None));
        assert_eq!((at(125).share(), at(125).left()), (0.25, Some(Duration::from_secs(30))));
        assert_eq!(at(200).left(), Some(Duration::ZERO));
    }

    #[test]
    fn a_worker_that_moves_is_not_behind() {
        let health = Health::default();
        health.behind();
        assert!(health.is_behind());
        health.moved();
        assert!(!health.is_behind() && health.silent_for() < Duration::from_mins(1));
    }
}
