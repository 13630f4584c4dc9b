//! The dirty profiles, oldest first, and the points from which a replay completes them.

use super::PartitionClock;
use std::collections::VecDeque;

/// The distance in offsets between replay points, so a mark lies at most this far before the oldest dirty event. A
/// replay skips events that the records already include, on either side of the oldest dirty event.
pub(super) const POINT_OFFSETS: i64 = 64;

/// A profile that became dirty. It is looked up by offset and hash; the lookup fails if it has been written since.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dirty {
    pub(super) offset: i64,
    pub(super) hash: u64,
}

/// An offset from which the input can be replayed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Point {
    pub(super) offset: i64,
    /// The partition time just before that event.
    pub(super) clock: PartitionClock,
}

/// The dirty profiles of a partition, and from where to replay for them.
#[derive(Debug, Default)]
pub(super) struct DirtyQueue {
    /// Oldest first.
    profiles: VecDeque<Dirty>,
    /// Oldest first: one point at or before the oldest dirty event, and all later ones.
    points: VecDeque<Point>,
    /// The points of the current batch. Kept only if memberships may change profiles after the batch's events are
    /// applied.
    batch_points: Option<Vec<Point>>,
}

impl DirtyQueue {
    /// How many there are, including those that have been written since.
    pub(super) fn len(&self) -> usize {
        self.profiles.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.profiles.is_empty()
    }

    /// The oldest one, which may have been written since.
    pub(super) fn front(&self) -> Option<Dirty> {
        self.profiles.front().copied()
    }

    /// Removes the oldest one.
    pub(super) fn pop(&mut self) {
        self.profiles.pop_front();
    }

    /// The oldest event that is in a profile but not in its record.
    pub(super) fn oldest(&self) -> Option<i64> {
        self.profiles.front().map(|dirty| dirty.offset)
    }

    /// Where a replay would start, unless nothing is dirty.
    pub(super) fn replay_point(&self) -> Option<Point> {
        self.points.front().copied()
    }

    /// Adds a profile that becomes dirty with the event at this offset, before which the partition time is `clock`.
    #[inline]
    pub(super) fn push(&mut self, offset: i64, hash: u64, clock: &PartitionClock) {
        if self.points.back().is_none_or(|point| offset - point.offset >= POINT_OFFSETS) {
            self.points.push_back(Point { offset, clock: *clock });
        }
        self.profiles.push_back(Dirty { offset, hash });
    }

    /// Adds a profile that has become dirty at an offset before the newest one.
    pub(super) fn insert(&mut self, offset: i64, hash: u64, clock: &PartitionClock) {
        self.insert_without_point(offset, hash);
        // After the last batch, the partition's time is still the one from before the event at the offset.
        let of_batch = self.batch_points.iter().flatten().rev().find(|point| point.offset <= offset).copied();
        let point = of_batch.unwrap_or(Point { offset, clock: *clock });
        let at = self.points.partition_point(|point| point.offset <= offset);
        let is_near =
            |known: &Point| known.offset >= point.offset || of_batch.is_some() && offset - known.offset < POINT_OFFSETS;
        if at == 0 || !self.points.get(at - 1).is_some_and(is_near) {
            self.points.insert(at, point);
        }
    }

    /// Adds a profile whose replay point is known already.
    pub(super) fn insert_without_point(&mut self, offset: i64, hash: u64) {
        let at = self.profiles.partition_point(|dirty| dirty.offset <= offset);
        self.profiles.insert(at, Dirty { offset, hash });
    }

    /// Starts a batch whose points are kept, or ends it.
    pub(super) fn clear_batch(&mut self) {
        self.batch_points.get_or_insert_default().clear();
    }

    /// Notes the place of a row in the batch.
    #[inline]
    pub(super) fn note_place(&mut self, offset: i64, clock: &PartitionClock) {
        if let Some(batch_points) = &mut self.batch_points
            && batch_points.last().is_none_or(|point| offset - point.offset >= POINT_OFFSETS)
        {
            batch_points.push(Point { offset, clock: *clock });
        }
    }

    /// Adds a profile during a restore, in any order.
    pub(super) fn restore(&mut self, offset: i64, hash: u64) {
        self.profiles.push_back(Dirty { offset, hash });
    }

    /// Ends a restore: drops the profiles that are not dirty any more, and orders the others. The input continues from `next`.
    pub(super) fn end_restore(&mut self, next: i64, clock: &PartitionClock, is_dirty: impl Fn(&Dirty) -> bool) {
        self.profiles.retain(is_dirty);
        self.profiles.make_contiguous().sort_unstable_by_key(|dirty| dirty.offset);
        if !self.profiles.is_empty() {
            self.points.push_front(Point { offset: next, clock: *clock });
        }
    }

    /// Drops all points, before a replay.
    pub(super) fn clear_points(&mut self) {
        self.points.clear();
    }

    /// Drops the points that no replay needs: it would start from the last one at or before the oldest dirty event.
    pub(super) fn drop_points(&mut self) {
        let oldest = self.oldest().unwrap_or(i64::MAX);
        while self.points.get(1).is_some_and(|point| point.offset <= oldest) {
            self.points.pop_front();
        }
        if self.profiles.is_empty() {
            self.points.clear();
        }
    }
}
