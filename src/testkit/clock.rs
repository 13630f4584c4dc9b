//! A clock for tests: it advances by a millisecond whenever it is read, and its time of day is fixed.

use crate::{engine::Clock, event::EventTime};
use std::{cell::Cell, time::Duration};

/// Elapsed time that grows by one millisecond per call, and a fixed time of day.
#[derive(Debug, Default)]
pub struct FakeClock {
    elapsed: Cell<u64>,
    now: EventTime,
}

impl FakeClock {
    /// A clock with this time of day. By default the time of day looks like a clock that was never set.
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
