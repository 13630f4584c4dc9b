//! Labels: whether what is to be predicted came to pass after an event.
//!
//! Guarantees: the label of an event looks at its user's later events alone, strictly after its time and at most `within`
//! after it; an event whose time has not run out yet has no label and gives no row. Limits: events wait in memory until
//! their time has run out, which is `within` of events; the times of all outcomes are kept.

use crate::state::PartitionClock;
use std::{
    collections::{BinaryHeap, HashMap, VecDeque},
    time::Duration,
};

/// An event that waits for its label. Those of earlier times come first, and of equal times those that came first.
#[derive(Debug)]
struct Waiting<T> {
    time: i64,
    /// How many had come before.
    number: u64,
    user: u64,
    row: T,
}

impl<T> Waiting<T> {
    fn order(&self) -> (i64, u64) {
        (self.time, self.number)
    }
}

impl<T> PartialEq for Waiting<T> {
    fn eq(&self, other: &Self) -> bool {
        self.order() == other.order()
    }
}

impl<T> Eq for Waiting<T> {}

impl<T> PartialOrd for Waiting<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Waiting<T> {
    /// The other way round: the heap gives its greatest first.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.order().cmp(&self.order())
    }
}

/// Gives events their labels, in the order of their times.
#[derive(Debug)]
pub struct Labeller<T> {
    within: i64,
    waiting: BinaryHeap<Waiting<T>>,
    /// By user: the times of outcomes, oldest first.
    outcomes: HashMap<u64, VecDeque<i64>>,
    /// How far the events have come. One wrong clock must not end the time of all others' events.
    clock: PartitionClock,
    count: u64,
}

impl<T> Labeller<T> {
    /// Labels by outcomes at most `within` later.
    pub fn new(within: Duration) -> Self {
        Self {
            within: within.as_micros().min(i64::MAX as u128 / 4) as i64,
            waiting: BinaryHeap::new(),
            outcomes: HashMap::new(),
            clock: PartitionClock::default(),
            count: 0,
        }
    }

    /// Takes an event: its user, its time in microseconds, whether it is an outcome, and what is to be labelled.
    pub fn push(&mut self, user: u64, time: i64, is_outcome: bool, row: T) {
        self.clock.note(user, time);
        if is_outcome {
            let times = self.outcomes.entry(user).or_default();
            let at = times.partition_point(|known| *known <= time);
            times.insert(at, time);
        }
        self.waiting.push(Waiting { time, number: self.count, user, row });
        self.count += 1;
    }

    /// How far the events have come, while more of them follow: unknown until there are enough users.
    pub fn time(&self) -> Option<i64> {
        self.clock.time()
    }

    /// How far they came, once all are there.
    pub fn end(&self) -> Option<i64> {
        self.clock.shown()
    }

    /// The next event whose time has run out at `now`, with its label. Every event of before `now` has to be there.
    pub fn ripe(&mut self, now: i64) -> Option<(T, bool)> {
        let front = self.waiting.peek()?;
        if front.time.saturating_add(self.within) > now {
            return None;
        }
        let Waiting { user, time, row, .. } = self.waiting.pop()?;
        let label = self.outcomes.get(&user).is_some_and(|times| {
            let next = times.partition_point(|known| *known <= time);
            times.get(next).is_some_and(|outcome| *outcome <= time.saturating_add(self.within))
        });
        Some((row, label))
    }

    /// How many events' time has not run out.
    pub fn unripe(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(labeller: &mut Labeller<(u64, i64)>, now: i64) -> Vec<(u64, i64, bool)> {
        std::iter::from_fn(|| labeller.ripe(now).map(|((user, time), label)| (user, time, label))).collect()
    }

    #[test]
    fn a_label_looks_strictly_forward_and_no_further_than_its_time() {
        let mut labeller = Labeller::new(Duration::from_micros(10));
        for (user, time, is_outcome) in
            [(1, 0, true), (1, 0, true), (2, 0, false), (1, 10, true), (2, 11, true), (1, 30, false), (2, 40, false)]
        {
            labeller.push(user, time, is_outcome, (user, time));
        }
        // User 2's outcome at 11 comes too late for 0; what shares a time with an outcome is not followed by it.
        let expected = [(1, 0, true), (1, 0, true), (2, 0, false), (1, 10, false), (2, 11, false), (1, 30, false)];
        assert_eq!((labeller.time(), labeller.end()), (None, Some(40)), "two users do not tell how far others are");
        assert_eq!(all(&mut labeller, 40), expected);
        assert_eq!(labeller.unripe(), 1, "the time of the last one has not run out");
    }

    #[test]
    fn one_event_of_the_future_neither_holds_others_nor_ends_their_time() {
        let mut labeller = Labeller::new(Duration::from_micros(10));
        labeller.push(9, 1_000_000, false, (9, 1_000_000));
        for user in 0..6 {
            labeller.push(user, user as i64, false, (user, user as i64));
        }
        labeller.push(0, 8, true, (0, 8));
        assert_eq!(labeller.time(), Some(3));
        assert_eq!(all(&mut labeller, 3), [], "the outcomes of others are still to come");
        assert_eq!(all(&mut labeller, 12), [(0, 0, true), (1, 1, false), (2, 2, false)]);
        assert_eq!(labeller.unripe(), 5);
    }
}
