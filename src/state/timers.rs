//! Deadlines at which something happens to a user without an event, and the clock ticks that reach them if no event
//! does.
//!
//! Owns the users' deadlines in order of time, and the ticks. It does not know what a deadline means: the caller reads
//! that from the user's words once the deadline is reached. A deadline here may be earlier than the real one, so that a
//! deadline that moves with every event costs nothing. Limits: at most one deadline per user, of about
//! [`DEADLINE_BYTES`]; [`TICKS_MAX`] ticks.

use hashbrown::{HashMap, hash_map::Entry};
use std::{collections::BTreeSet, hash::BuildHasherDefault};

/// The approximate bytes of a deadline: in the ordered set, whose nodes are two thirds full, and in the table of users.
pub const DEADLINE_BYTES: usize = 60;

/// Passes the users' hashes through unchanged.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AsItIs(u64);

impl std::hash::Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        debug_assert!(bytes.is_empty(), "only hashes are hashed");
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// The users' deadlines, at most one each. Users are identified by the hashes of their keys.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    due: BTreeSet<(i64, u64)>,
    of_user: HashMap<u64, i64, BuildHasherDefault<AsItIs>>,
}

impl Deadlines {
    /// Makes the user due no later than this deadline.
    pub(super) fn schedule(&mut self, hash: u64, deadline: i64) {
        match self.of_user.entry(hash) {
            Entry::Occupied(entry) if *entry.get() <= deadline => return,
            Entry::Occupied(mut entry) => {
                self.due.remove(&(*entry.get(), hash));
                entry.insert(deadline);
            }
            Entry::Vacant(entry) => {
                entry.insert(deadline);
            }
        }
        self.due.insert((deadline, hash));
    }

    pub(super) fn first(&self) -> Option<i64> {
        self.due.first().map(|(deadline, _)| *deadline)
    }

    /// Removes and returns the first deadline if it is at or before this time, with the user's hash.
    pub(super) fn take_due(&mut self, time: i64) -> Option<(i64, u64)> {
        let (deadline, hash) = *self.due.first().filter(|(deadline, _)| *deadline <= time)?;
        self.due.pop_first();
        self.of_user.remove(&hash);
        Some((deadline, hash))
    }

    /// The number of deadlines.
    pub(super) fn len(&self) -> usize {
        self.due.len()
    }
}

/// The maximum number of ticks kept. Before they reach it, the worker has the profiles written that still need the
/// earlier ticks.
pub const TICKS_MAX: usize = 16;

/// The clock ticks that advanced a partition's time: their offsets and times. A tick comes before the record at its
/// offset. The input does not contain ticks, so a replay could not know them. They are part of the mark for that
/// reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ticks {
    /// Offset and time of each tick, by ascending offset.
    all: [(i64, i64); TICKS_MAX],
    count: usize,
}

impl Ticks {
    /// The offsets and times of all ticks.
    pub fn all(&self) -> &[(i64, i64)] {
        &self.all[..self.count]
    }

    /// Whether there are no ticks.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds a tick. It replaces an earlier one at the same offset. Returns false and adds nothing if there is no room, or
    /// if the last one is at the same offset and not earlier: it has ended everything that this one could end. At a
    /// later offset, a tick may be behind the last one. The clock of that one was ahead, or a membership that began
    /// since then would not be due.
    pub fn add(&mut self, offset: i64, time: i64) -> bool {
        match self.all().last() {
            Some((at, last)) if *at == offset && *last >= time => return false,
            Some((at, _)) if *at == offset => self.all[self.count - 1].1 = time,
            _ if self.count == TICKS_MAX => return false,
            _ => {
                self.all[self.count] = (offset, time);
                self.count += 1;
            }
        }
        true
    }

    /// Drops the ticks that a replay from this offset does not need if the partition's time there is `time`. Of the
    /// ticks before the offset, only the last one matters, and only if it is ahead of the partition's time.
    pub fn forget_before(&mut self, offset: i64, time: Option<i64>) {
        let before = self.all().iter().take_while(|(at, _)| *at < offset).count();
        let is_passed = |at: usize| time.is_some_and(|time| self.all[at].1 <= time);
        let needed = if before > 0 && !is_passed(before - 1) { before - 1 } else { before };
        self.all.copy_within(needed..self.count, 0);
        self.count -= needed;
        self.all[self.count..].fill((0, 0));
    }

    /// Encodes each tick as `<offset>:<time>`, separated by commas.
    pub(super) fn encode(&self) -> String {
        self.all().iter().map(|(offset, time)| format!("{offset}:{time}")).collect::<Vec<_>>().join(",")
    }

    /// Reads what [`Ticks::encode`] writes.
    pub(super) fn decode(text: &str) -> Option<Self> {
        let mut ticks = Self::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (offset, time) = part.split_once(':')?;
            let tick = (offset.parse().ok()?, time.parse().ok()?);
            if ticks.all().last().is_some_and(|(offset, _)| *offset >= tick.0) {
                return None;
            }
            *ticks.all.get_mut(ticks.count)? = tick;
            ticks.count += 1;
        }
        Some(ticks)
    }
}

/// The ticks of a partition, and how far a replay has come with them.
#[derive(Debug, Default)]
pub(super) struct AppliedTicks {
    all: Ticks,
    /// How many of them have been applied. The rest are still ahead, in a replay.
    applied: usize,
    /// The time of the last applied one.
    last: Option<i64>,
}

impl AppliedTicks {
    /// The ticks of a mark, before a replay from there.
    pub(super) fn before(all: &Ticks) -> Self {
        Self { all: *all, applied: 0, last: None }
    }

    pub(super) fn all(&self) -> &Ticks {
        &self.all
    }

    /// The time of the last applied tick.
    pub(super) fn last(&self) -> Option<i64> {
        self.last
    }

    /// Takes the next tick at or before this offset that has not been applied: its offset and its time.
    pub(super) fn take(&mut self, offset: i64) -> Option<(i64, i64)> {
        let (at, time) = *self.all.all().get(self.applied).filter(|(at, _)| *at <= offset)?;
        self.applied += 1;
        self.last = Some(time);
        Some((at, time))
    }

    /// Drops the ticks that no replay needs any more: see [`Ticks::forget_before`].
    pub(super) fn forget_before(&mut self, offset: i64, time: Option<i64>) {
        self.all.forget_before(offset, time);
    }

    /// Adds and applies a tick. Returns whether it was added: see [`Ticks::add`].
    pub(super) fn add(&mut self, offset: i64, time: i64) -> bool {
        let is_added = self.all.add(offset, time);
        self.applied = self.all.all().len();
        if is_added {
            self.last = Some(time);
        }
        is_added
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_come_in_their_order_and_each_user_has_one() {
        let mut deadlines = Deadlines::default();
        for (hash, deadline) in [(1, 50), (2, 30), (1, 70), (1, 40), (3, 30)] {
            deadlines.schedule(hash, deadline);
        }
        assert_eq!((deadlines.len(), deadlines.first()), (3, Some(30)));
        let due: Vec<_> = std::iter::from_fn(|| deadlines.take_due(40)).collect();
        assert_eq!(due, [(30, 2), (30, 3), (40, 1)]);
        deadlines.schedule(1, 90);
        assert_eq!((deadlines.take_due(89), deadlines.take_due(90), deadlines.len()), (None, Some((90, 1)), 0));
    }

    #[test]
    fn a_tick_of_a_clock_that_was_wrong_is_corrected_and_one_of_a_slower_clock_is_not() {
        let mut ticks = Ticks::default();
        assert!(ticks.add(5, 1_000));
        assert!(!ticks.add(5, 1_000) && !ticks.add(5, 900), "it has ended everything there");
        assert!(ticks.add(6, 999));
        assert_eq!(ticks.all(), [(5, 1_000), (6, 999)]);
        assert_eq!(Ticks::decode(&ticks.encode()), Some(ticks));
    }

    #[test]
    fn of_the_ticks_at_one_offset_the_latest_counts_and_what_is_passed_is_forgotten() {
        let mut ticks = Ticks::default();
        assert!(
            ticks.add(5, 100) && ticks.add(5, 120) && !ticks.add(5, 110) && ticks.add(9, 130) && ticks.add(12, 200)
        );
        assert_eq!(ticks.all(), [(5, 120), (9, 130), (12, 200)]);
        assert_eq!(Ticks::decode(&ticks.encode()), Some(ticks));
        let after = |offset, time| {
            let mut ticks = ticks;
            ticks.forget_before(offset, time);
            ticks.all().to_vec()
        };
        assert_eq!(after(9, None), [(5, 120), (9, 130), (12, 200)], "the last one before still holds");
        assert_eq!(after(9, Some(120)), [(9, 130), (12, 200)]);
        assert_eq!(after(9, Some(500)), [(9, 130), (12, 200)], "what lies ahead is told even so");
        assert_eq!(after(13, Some(199)), [(12, 200)]);
        assert_eq!(after(13, Some(200)), []);
        for offset in 13..13 + 13 {
            assert!(ticks.add(offset, 200 + offset));
        }
        assert!(!ticks.add(90, 900) && ticks.add(25, 900), "there is room for no further offset");
        for text in ["x", "1", "2:1,1:2", "1:x"] {
            assert_eq!(Ticks::decode(text), None, "{text}");
        }
    }
}
