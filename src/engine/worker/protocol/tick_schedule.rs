//! When a worker may advance the time of a partition where nothing arrives.
//!
//! A tick follows its deadline by at most the grace, the pause, a poll and a commit: less than 5 s. The pause keeps a
//! partition with a trickle of records from filling its mark with ticks.

use std::{collections::BTreeMap, time::Duration};

/// How far a tick stays behind the clock. Records with older events may still be on their way, and clocks differ.
pub(crate) const GRACE: Duration = Duration::from_secs(2);

/// The longest pause between two ticks of a partition.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// The most ticks in a checkpoint interval. After it, the mark has moved on and has room again.
const TICKS_PER_INTERVAL: u32 = 15;

/// When each partition may have its next tick.
#[derive(Debug)]
pub(crate) struct TickSchedule {
    pause: Duration,
    next_at: BTreeMap<i32, Duration>,
}

impl TickSchedule {
    /// A schedule for workers that write their profiles at this interval.
    pub(crate) fn new(checkpoint_interval: Duration) -> Self {
        Self { pause: PAUSE_MAX.min(checkpoint_interval / TICKS_PER_INTERVAL), next_at: BTreeMap::new() }
    }

    /// Whether a partition may have a tick now. If so, the next one comes at least a pause later.
    pub(crate) fn take_turn(&mut self, number: i32, now: Duration) -> bool {
        let next_at = self.next_at.entry(number).or_default();
        let is_time = now >= *next_at;
        if is_time {
            *next_at = now + self.pause;
        }
        is_time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_has_a_tick_once_in_a_pause() {
        let at = Duration::from_millis;
        let mut schedule = TickSchedule::new(at(60_000));
        assert!(schedule.take_turn(1, at(5)) && schedule.take_turn(2, at(5)));
        assert!(!schedule.take_turn(1, at(2_004)) && schedule.take_turn(1, at(2_005)));
        let mut short = TickSchedule::new(at(150));
        assert!(short.take_turn(1, at(5)) && !short.take_turn(1, at(14)) && short.take_turn(1, at(15)));
    }
}
