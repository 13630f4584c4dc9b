//! Which partition's snapshot is written next, and when.

use std::time::Duration;

/// One snapshot per interval, with the partitions taking turns.
#[derive(Debug)]
pub(crate) struct SnapshotSchedule {
    interval: Duration,
    written_at: Duration,
    /// The partition that had the last turn.
    last: i32,
}

impl SnapshotSchedule {
    /// One snapshot in each interval.
    pub(crate) fn new(interval: Duration) -> Self {
        Self { interval, written_at: Duration::ZERO, last: -1 }
    }

    /// Whether a snapshot is due.
    pub(crate) fn is_due(&self, now: Duration) -> bool {
        now.saturating_sub(self.written_at) >= self.interval
    }

    /// The held partition whose turn it is, in ascending order. The turn is over even if its snapshot cannot be
    /// written.
    pub(crate) fn take_turn(&mut self, now: Duration, held: &[i32]) -> Option<i32> {
        self.written_at = now;
        let next = held.iter().find(|it| **it > self.last).or(held.first()).copied()?;
        self.last = next;
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_take_turns_one_an_interval() {
        let mut schedule = SnapshotSchedule::new(Duration::from_secs(10));
        let mut turns = Vec::new();
        for now in (0..60).map(Duration::from_secs) {
            if schedule.is_due(now) {
                turns.push(schedule.take_turn(now, if now.as_secs() < 35 { &[1, 4, 7] } else { &[4, 5] }));
            }
        }
        assert_eq!(turns, [Some(1), Some(4), Some(7), Some(4), Some(5)]);
        assert_eq!(schedule.take_turn(Duration::from_mins(2), &[]), None);
    }
}
