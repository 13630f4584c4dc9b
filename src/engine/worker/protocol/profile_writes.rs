//! When changed profiles are written to the changelog, and of which partition.
//!
//! Each partition of the changelog that a transaction touches costs the broker a request when it is added and one when the
//! transaction ends, and commits wait for both. So few transactions hold profiles, each those of one partition, in turn, and then many.

use std::time::Duration;

/// The most profiles that one commit writes, so that no commit stalls: at commits of 25 ms, 80,000 a second.
pub(crate) const PROFILES_PER_COMMIT: usize = 2_000;

/// How often within the checkpoint interval the profiles of a partition are written, unless more are due than one commit takes.
const TURNS_PER_INTERVAL: u32 = 10;

/// Whose turn it is to have profiles written.
#[derive(Debug)]
pub(crate) struct ProfileWrites {
    checkpoint_interval: Duration,
    /// When a turn last ended.
    written_at: Duration,
    /// The partition whose profiles were written last.
    last: i32,
}

impl ProfileWrites {
    /// Writes a changed profile at most once per checkpoint interval.
    pub(crate) fn new(checkpoint_interval: Duration) -> Self {
        Self { checkpoint_interval, written_at: Duration::ZERO, last: -1 }
    }

    /// Whether the next partition may have its turn, of so many.
    pub(crate) fn is_time(&self, now: Duration, partitions: usize) -> bool {
        let pause = self.checkpoint_interval / TURNS_PER_INTERVAL / partitions.max(1) as u32;
        now.saturating_sub(self.written_at) >= pause
    }

    /// The partitions in the order in which they have their turn.
    pub(crate) fn in_turn<'a>(&self, held: &'a [i32]) -> impl Iterator<Item = i32> + use<'a> {
        let (before, behind) = held.split_at(held.partition_point(|it| *it <= self.last));
        behind.iter().chain(before).copied()
    }

    /// Notes that this partition had its turn. Where the commit took not all that is due, the next one goes on at once.
    pub(crate) fn wrote(&mut self, now: Duration, partition: i32, is_all: bool) {
        self.last = partition;
        if is_all {
            self.written_at = now;
        }
    }

    /// Notes that no partition had anything due.
    pub(crate) fn wrote_nothing(&mut self, now: Duration) {
        self.written_at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_take_turns_and_one_with_more_than_a_commit_takes_goes_on_at_once() {
        let at = Duration::from_millis;
        let mut writes = ProfileWrites::new(at(1_000));
        let held = [2, 5, 9];
        assert_eq!(writes.in_turn(&held).collect::<Vec<_>>(), [2, 5, 9]);
        writes.wrote(at(1_000), 5, true);
        assert_eq!(writes.in_turn(&held).collect::<Vec<_>>(), [9, 2, 5]);
        assert!(!writes.is_time(at(1_032), 3) && writes.is_time(at(1_034), 3));
        writes.wrote(at(1_034), 9, false);
        assert!(writes.is_time(at(1_035), 3), "there is more of it");
        writes.wrote_nothing(at(1_035));
        assert!(!writes.is_time(at(1_060), 3));
    }
}
