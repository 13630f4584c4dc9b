//! The event time of a partition, and the upper bounds on its event times.
//!
//! Guarantees: no single user, nor any four, can move the partition time, and it never goes back. Both values are part
//! of the mark, so that a replay finds the same values at the same offsets. Limits: the times of five users and
//! [`CEILINGS_MAX`] ceilings, a few hundred bytes.

use crate::canary::{self, Canary};

/// How many users must have an event at or after the partition time. A few wrong clocks are therefore not enough to
/// move it, and a partition with fewer users has too few profiles for expiry to matter.
pub const WITNESSES: usize = 5;

/// The time of a partition: the fifth newest of its users' newest event times. With fewer than five users it has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartitionClock {
    /// The users with the newest times, unordered: the hash of the key, and the time.
    witnesses: [(u64, i64); WITNESSES],
    /// How many entries of `witnesses` are used.
    count: usize,
    /// A lower bound on the time: the partition time stored by an earlier version.
    least: Option<i64>,
}

impl PartitionClock {
    /// A clock with this lower bound and no known users.
    pub fn at(least: Option<i64>) -> Self {
        Self { least, ..Self::default() }
    }

    /// Records an event.
    pub fn note(&mut self, user: u64, time: i64) {
        // Fast path: nearly all events are older than the newest events of all five users.
        if self.count == WITNESSES && self.witnesses.iter().all(|(_, newest)| time <= *newest) {
            return;
        }
        if let Some((_, newest)) = self.witnesses[..self.count].iter_mut().find(|(known, _)| *known == user) {
            *newest = time.max(*newest);
        } else if self.count < WITNESSES {
            self.witnesses[self.count] = (user, time);
            self.count += 1;
        } else if let Some(oldest) = self.witnesses.iter_mut().min_by_key(|(_, newest)| *newest)
            && time > oldest.1
        {
            *oldest = (user, time);
        }
    }

    /// The partition's time.
    pub fn time(&self) -> Option<i64> {
        if canary::is_in(Canary::TimeOfOneUser) {
            return self.witnesses[..self.count].iter().map(|(_, newest)| *newest).max();
        }
        let fifth = (self.count == WITNESSES).then(|| self.witnesses.iter().map(|(_, newest)| *newest).min());
        self.least.max(fifth.flatten())
    }

    /// The partition time or, with fewer than five users, the newest event time. For display only; it decides nothing.
    pub fn shown(&self) -> Option<i64> {
        self.time().or_else(|| self.witnesses[..self.count].iter().map(|(_, newest)| *newest).max())
    }

    /// `<hash>:<time>` of each user, separated by commas, after the lower bound if there is one.
    pub(super) fn encode(&self) -> String {
        let least = self.least.map(|least| least.to_string());
        let users = self.witnesses[..self.count].iter().map(|(user, newest)| format!("{user:x}:{newest}"));
        least.into_iter().chain(users).collect::<Vec<_>>().join(",")
    }

    pub(super) fn decode(text: &str) -> Option<Self> {
        let mut clock = Self::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            match part.split_once(':') {
                None if clock.least.is_none() && clock.count == 0 => clock.least = Some(part.parse().ok()?),
                None => return None,
                Some((user, newest)) => {
                    let user = u64::from_str_radix(user, 16).ok()?;
                    if clock.witnesses[..clock.count].iter().any(|(known, _)| *known == user) {
                        return None;
                    }
                    *clock.witnesses.get_mut(clock.count)? = (user, newest.parse().ok()?);
                    clock.count += 1;
                }
            }
        }
        Some(clock)
    }

    /// Whether `is_sound` holds for all times.
    pub(super) fn all(&self, is_sound: impl Fn(i64) -> bool) -> bool {
        self.witnesses[..self.count].iter().map(|(_, newest)| *newest).chain(self.least).all(is_sound)
    }
}

/// The slack added to new ceilings, in microseconds. Events may be that much later than the tolerance allows, which
/// keeps the number of ceilings small.
const STEP: i64 = 60_000_000;

/// The most ceilings that are kept. Each has twice the slack of the one before, until the events behind it need no
/// replay. Together they last 22 days. The last one is unlimited.
pub const CEILINGS_MAX: usize = 16;

/// The latest allowed event time by offset. Ceilings follow the clock of the process that first reads the records. A
/// replay cannot know that clock, so the ceilings are part of the mark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ceilings {
    /// Offsets in ascending order, each with the latest allowed event time from there on.
    all: [(i64, i64); CEILINGS_MAX],
    count: usize,
}

impl Ceilings {
    fn known(&self) -> &[(i64, i64)] {
        &self.all[..self.count]
    }

    /// The latest allowed time of an event at this offset, if known.
    pub fn at(&self, offset: i64) -> Option<i64> {
        self.known().iter().rev().find(|(from, _)| *from <= offset).map(|(_, latest)| *latest)
    }

    /// Makes sure that events from this offset on may be as late as `latest`, plus slack. An existing ceiling that is
    /// close enough stays.
    pub fn follow(&mut self, offset: i64, latest: i64) {
        let more = STEP << self.count.min(CEILINGS_MAX);
        let known = self.at(offset);
        // Lowers a ceiling that came from a clock that was ahead. Stops when many ceilings are used, because the clocks
        // of processes may keep differing.
        let is_high = |known: i64| known > latest.saturating_add(2 * more) && self.count <= CEILINGS_MAX / 2;
        if known.is_some_and(|known| known >= latest && !is_high(known)) {
            return;
        }
        let latest = latest.saturating_add(more);
        match (self.known().first().copied(), self.count) {
            // Offsets before the first ceiling are replayed because the changelog is incomplete.
            (Some((first, _)), CEILINGS_MAX) if offset < first => self.all[0].0 = offset,
            (Some((first, _)), count) if offset < first => {
                self.all.copy_within(..count, 1);
                self.all[0] = (offset, latest);
                self.count += 1;
            }
            (_, CEILINGS_MAX) => {}
            // The last ceiling must hold forever, and no ceiling is better than one that rejects valid events.
            (_, count) => {
                self.all[count] = (offset, if count + 1 == CEILINGS_MAX { i64::MAX } else { latest });
                self.count += 1;
            }
        }
    }

    /// Drops the ceilings that no event from this offset on needs.
    pub fn forget_before(&mut self, offset: i64) {
        let needed = self.known().iter().rposition(|(from, _)| *from <= offset).unwrap_or_default();
        self.all.copy_within(needed..self.count, 0);
        self.count -= needed;
        self.all[self.count..].fill((0, 0));
    }

    /// `<offset>:<time>` of each, separated by commas.
    pub(super) fn encode(&self) -> String {
        self.known().iter().map(|(from, latest)| format!("{from}:{latest}")).collect::<Vec<_>>().join(",")
    }

    pub(super) fn decode(text: &str) -> Option<Self> {
        let mut ceilings = Self::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (from, latest) = part.split_once(':')?;
            let ceiling = (from.parse().ok()?, latest.parse().ok()?);
            if ceilings.known().last().is_some_and(|(before, _)| *before >= ceiling.0) {
                return None;
            }
            *ceilings.all.get_mut(ceilings.count)? = ceiling;
            ceilings.count += 1;
        }
        Some(ceilings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn the_time_is_the_fifth_newest_of_the_users_newest_times() {
        let mut random = 1_u64;
        let mut next = |most: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % most
        };
        for users in [3, 5, 6, 40] {
            let (mut clock, mut newest, mut before) = (PartitionClock::default(), BTreeMap::new(), None);
            for step in 0..2_000 {
                let (user, time) = (next(users), (step + next(500)) as i64);
                clock.note(user, time);
                let of_user = newest.entry(user).or_insert(time);
                *of_user = time.max(*of_user);
                let mut all: Vec<i64> = newest.values().copied().collect();
                all.sort_unstable();
                assert_eq!(clock.time(), all.len().checked_sub(WITNESSES).map(|at| all[at]), "{users} users");
                assert!(clock.time() >= before, "it goes back");
                before = clock.time();
                assert_eq!(PartitionClock::decode(&clock.encode()), Some(clock));
            }
        }
    }

    #[test]
    fn four_users_of_the_year_9999_move_nobody_s_time() {
        const YEAR_9999: i64 = 253_402_300_000_000_000;
        let mut clock = PartitionClock::default();
        (0..100).for_each(|user| clock.note(user, 1_000 + user as i64));
        assert_eq!(clock.time(), Some(1_095));
        (0..4).for_each(|user| clock.note(user, YEAR_9999));
        assert_eq!(clock.time(), Some(1_099));
        let old = PartitionClock::at(Some(5_000));
        assert_eq!((old.time(), PartitionClock::decode(&old.encode())), (Some(5_000), Some(old)));
        for text in ["x", "1:", ":1", "1:2,1:3", "1:2,7", "1:1,2:2,3:3,4:4,5:5,6:6", "1,2"] {
            assert_eq!(PartitionClock::decode(text), None, "{text}");
        }
    }

    #[test]
    fn ceilings_follow_the_clock_and_tell_again_what_held_where() {
        let mut ceilings = Ceilings::default();
        let (mut told, mut most) = (Vec::new(), 0);
        // Three weeks of one record per second, without a changelog write.
        for offset in 0..21 * 86_400 {
            let latest = offset * 1_000_000;
            ceilings.follow(offset, latest);
            let ceiling = ceilings.at(offset).expect("there is one now");
            assert!((latest..=2 * latest + 4 * STEP).contains(&ceiling), "{offset}: {ceiling}");
            told.push(ceiling);
            most = ceilings.count;
        }
        assert!(most < CEILINGS_MAX, "{most} ceilings, and the last one is none");
        for (offset, told) in told.iter().enumerate() {
            assert_eq!(ceilings.at(offset as i64), Some(*told), "it tells the same as then");
        }
        assert_eq!(Ceilings::decode(&ceilings.encode()), Some(ceilings));
        ceilings.forget_before(1_000_000);
        assert_eq!((ceilings.at(1_000_000), ceilings.at(0)), (Some(told[1_000_000]), None));
        assert_eq!(ceilings.at(1_500_000), Some(told[1_500_000]));
        // A replay of offsets before all ceilings gets a ceiling of its own.
        ceilings.follow(10, 77);
        assert_eq!((ceilings.at(10), ceilings.at(1_500_000)), (ceilings.at(11), Some(told[1_500_000])));
        for text in ["x", "1", "2:1,1:1", "1:x"] {
            assert_eq!(Ceilings::decode(text), None, "{text}");
        }
    }

    #[test]
    fn a_clock_that_jumps_leaves_no_sound_event_refused() {
        let mut ceilings = Ceilings::default();
        for offset in 0..1_000 {
            let latest = [0, 1_000, 50, 9_000, 1_000_000][offset as usize % 5] * 86_400 * 1_000_000;
            ceilings.follow(offset, latest);
            assert!(ceilings.at(offset).is_some_and(|ceiling| ceiling >= latest), "{offset}");
        }
        let mut ceilings = Ceilings::default();
        ceilings.follow(0, 1 << 60);
        ceilings.follow(1, 1_000);
        assert!(
            ceilings.at(1).is_some_and(|ceiling| ceiling < 1_000_000_000),
            "the ceiling of a wrong clock comes down"
        );
    }
}
