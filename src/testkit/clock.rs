//! A clock for the tests: it goes on by a millisecond whenever it is read, and always tells the same time of day.

use crate::{engine::Clock, event::EventTime};
use std::{cell::Cell, time::Duration};

/// Time in milliseconds, as often as it was asked for.
#[derive(Debug, Default)]
pub struct FakeClock(Cell<u64>);

impl Clock for FakeClock {
    fn elapsed(&self) -> Duration {
        self.0.set(self.0.get() + 1);
        Duration::from_millis(self.0.get())
    }

    fn now(&self) -> EventTime {
        EventTime(0)
    }

    fn computed(&self) -> Duration {
        Duration::ZERO
    }

    fn pause(&self, time: Duration) {
        self.0.set(self.0.get() + time.as_millis() as u64);
    }
}
