//! The clock of the demo's workers: that of the machine, or a day of the replay at which it stands still.
//!
//! Only the time of day is replayed. Waiting, and what a step takes, are always measured by the machine.

use crate::{
    engine::{Clock, SystemClock},
    event::EventTime,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

/// The machine's time of day is used.
const MACHINE: i64 = i64::MIN;

/// A clock that its clones share.
#[derive(Clone, Debug)]
pub(super) struct ReplayClock {
    machine: SystemClock,
    /// In microseconds since 1970.
    stands_at: Arc<AtomicI64>,
}

impl ReplayClock {
    /// A clock with the machine's time of day.
    pub(super) fn new() -> Self {
        Self { machine: SystemClock::default(), stands_at: Arc::new(AtomicI64::new(MACHINE)) }
    }

    /// Stands still at this time of day, in microseconds since 1970.
    pub(super) fn stand_at(&self, time: i64) {
        self.stands_at.store(time, Ordering::Release);
    }

    /// Follows the machine again.
    pub(super) fn release(&self) {
        self.stand_at(MACHINE);
    }
}

impl Clock for ReplayClock {
    fn elapsed(&self) -> Duration {
        self.machine.elapsed()
    }

    fn now(&self) -> EventTime {
        match self.stands_at.load(Ordering::Acquire) {
            MACHINE => self.machine.now(),
            time => EventTime(time),
        }
    }

    fn computed(&self) -> Duration {
        self.machine.computed()
    }

    fn pause(&self, time: Duration) {
        self.machine.pause(time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stands_where_it_is_told_to_and_follows_the_machine_otherwise() {
        let clock = ReplayClock::new();
        let (other, now) = (clock.clone(), SystemClock::default().now());
        assert!(other.now() >= now);
        clock.stand_at(7);
        assert_eq!(other.now(), EventTime(7));
        clock.release();
        assert!(other.now() >= now);
    }
}
