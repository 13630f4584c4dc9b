//! A clock for the tests: it goes on by a millisecond whenever it is read, and always tells the same time of day.

use crate::{engine::Clock, event::EventTime};
use std::{cell::Cell, time::Duration};

/// Time in milliseconds, as often as it was asked for, and a time of day.
#[derive(Debug, Default)]
pub struct FakeClock {
    elapsed: Cell<u64>,
    now: EventTime,
}

impl FakeClock {
    /// A clock that tells this time of day; by itself it tells that it was never set.
    pub fn showing(now: EventTime) -> Self {
        Self { now, ..Self::default() }
    }
}

impl Clock for FakeClock {
    fn elapsed(&self) -> Duration {
        self.elapsed.set(self.elapsed.get() + 1);
        Duration::from_millis(self.elapsed.get())
    }

    fn now(&self) -> EventTime {
        self.now
    }

    fn computed(&self) -> Duration {
        Duration::ZERO
    }

    fn pause(&self, time: Duration) {
        self.elapsed.set(self.elapsed.get() + time.as_millis() as u64);
    }
}
