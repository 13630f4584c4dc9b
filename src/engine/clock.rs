//! The clocks that the loop reads: one for waiting, and one for the times in decisions. Neither affects a profile.

use crate::event::EventTime;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A source of processing time.
pub trait Clock {
    /// The time since a fixed moment; monotonic.
    fn elapsed(&self) -> Duration;

    /// The time of day.
    fn now(&self) -> EventTime;

    /// The CPU time used by the current thread.
    fn computed(&self) -> Duration;

    /// Sleeps.
    fn pause(&self, time: Duration);
}

/// The machine's clock.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock(Instant);

impl Default for SystemClock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock for SystemClock {
    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    fn now(&self) -> EventTime {
        EventTime(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64))
    }

    fn computed(&self) -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    }

    fn pause(&self, time: Duration) {
        std::thread::sleep(time);
    }
}
