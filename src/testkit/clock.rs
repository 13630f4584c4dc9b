//! A clock for tests: it advances by a millisecond whenever it is read, and its time of day can be set.

use crate::{engine::Clock, event::EventTime};
use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

/// Elapsed time that grows by one millisecond per call, and a time of day that stands still until it is set.
#[derive(Debug, Default)]
pub struct FakeClock {
    elapsed: Cell<u64>,
    now: Arc<AtomicI64>,
}

impl FakeClock {
    /// A clock with this time of day. By default the time of day looks like a clock that was never set.
    pub fn showing(now: EventTime) -> Self {
        Self { now: Arc::new(AtomicI64::new(now.0)), ..Self::default() }
    }

    /// A handle that sets its time of day, in microseconds since 1970.
    pub fn hands(&self) -> Arc<AtomicI64> {
        Arc::clone(&self.now)
    }
}

impl Clock for FakeClock {
    fn elapsed(&self) -> Duration {
        self.elapsed.set(self.elapsed.get() + 1);
        Duration::from_millis(self.elapsed.get())
    }

    fn now(&self) -> EventTime {
        EventTime(self.now.load(Ordering::Relaxed))
    }

    fn computed(&self) -> Duration {
        Duration::ZERO
    }

    fn pause(&self, time: Duration) {
        self.elapsed.set(self.elapsed.get() + time.as_millis() as u64);
    }
}
