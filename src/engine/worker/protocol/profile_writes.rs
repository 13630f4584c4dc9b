//! When changed profiles are written to the changelog, and those of which partition.
//!
//! Each changelog partition that a transaction touches costs the broker one request when it is added and one when the
//! transaction ends, and commits wait for both. Therefore only few transactions hold profiles: many at once, of one
//! partition, in turn.

use std::time::Duration;

/// The maximum number of profiles that one commit writes, so that no commit stalls. With commits every 25 ms, this is
/// 80,000 a second.
pub(crate) const PROFILES_PER_COMMIT: usize = 2_000;

/// How often a partition's profiles are written within the checkpoint interval, unless more are due than fit into one
/// commit.
const TURNS_PER_INTERVAL: u32 = 10;

/// The partition whose profiles are written next.
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

    /// Whether the next of this many partitions may have its turn.
    pub(crate) fn is_time(&self, now: Duration, partitions: usize) -> bool {
        let pause = self.checkpoint_interval / TURNS_PER_INTERVAL / partitions.max(1) as u32;
        now.saturating_sub(self.written_at) >= pause
    }

    /// The partitions in the order of their turns.
    pub(crate) fn in_turn<'a>(&self, held: &'a [i32]) -> impl Iterator<Item = i32> + use<'a> {
        let (before, behind) = held.split_at(held.partition_point(|it| *it <= self.last));
        behind.iter().chain(before).copied()
    }

    /// Records that this partition had its turn. If not all due profiles fit into the commit, the next turn starts at
    /// once.
    pub(crate) fn wrote(&mut self, now: Duration, partition: i32, is_all: bool) {
        self.last = partition;
        if is_all {
            self.written_at = now;
        }
    }

    /// Records that no partition had anything due.
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
