//! Labels: whether the outcome followed an event.
//!
//! Guarantees: the label of an event depends only on its user's later events, strictly after its time and at most `within` later. An
//! event whose period is not over has no label and gives no row. Limits: events of the last `within` wait in memory; the times of all
//! outcomes are kept.

use crate::state::PartitionClock;
use std::{
    collections::{BinaryHeap, HashMap, VecDeque},
    time::Duration,
};

/// An event that waits for its label. Ordered by time, then by arrival.
#[derive(Debug)]
struct Pending<T> {
    time: i64,
    /// Its arrival number.
    number: u64,
    user: u64,
    row: T,
}

impl<T> Pending<T> {
    fn order(&self) -> (i64, u64) {
        (self.time, self.number)
    }
}

impl<T> PartialEq for Pending<T> {
    fn eq(&self, other: &Self) -> bool {
        self.order() == other.order()
    }
}

impl<T> Eq for Pending<T> {}

impl<T> PartialOrd for Pending<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Pending<T> {
    /// Reversed, because the heap is a max-heap.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.order().cmp(&self.order())
    }
}

/// Assigns labels to events, in the order of their times.
#[derive(Debug)]
pub struct Labeller<T> {
    within: i64,
    waiting: BinaryHeap<Pending<T>>,
    /// The times of each user's outcomes, oldest first.
    outcomes: HashMap<u64, VecDeque<i64>>,
    /// The partition time, so that a single wrong clock does not end the periods of others' events.
    clock: PartitionClock,
    count: u64,
}

impl<T> Labeller<T> {
    /// Labels events by outcomes at most `within` later.
    pub fn new(within: Duration) -> Self {
        Self {
            within: within.as_micros().min(i64::MAX as u128 / 4) as i64,
            waiting: BinaryHeap::new(),
            outcomes: HashMap::new(),
            clock: PartitionClock::default(),
            count: 0,
        }
    }

    /// Adds an event: its user, its time in microseconds, whether it is an outcome, and the value to label.
    pub fn push(&mut self, user: u64, time: i64, is_outcome: bool, row: T) {
        self.clock.note(user, time);
        if is_outcome {
            let times = self.outcomes.entry(user).or_default();
            let at = times.partition_point(|known| *known <= time);
            times.insert(at, time);
        }
        self.waiting.push(Pending { time, number: self.count, user, row });
        self.count += 1;
    }

    /// The partition time while more events follow; unknown until there are enough users.
    pub fn time(&self) -> Option<i64> {
        self.clock.time()
    }

    /// The time at the end of all events.
    pub fn end(&self) -> Option<i64> {
        self.clock.shown()
    }

    /// The next event whose period is over at `now`, with its label. All events before `now` must have been added.
    pub fn ripe(&mut self, now: i64) -> Option<(T, bool)> {
        let front = self.waiting.peek()?;
        if front.time.saturating_add(self.within) > now {
            return None;
        }
        let Pending { user, time, row, .. } = self.waiting.pop()?;
        let label = self.outcomes.get(&user).is_some_and(|times| {
            let next = times.partition_point(|known| *known <= time);
            times.get(next).is_some_and(|outcome| *outcome <= time.saturating_add(self.within))
        });
        Some((row, label))
    }

    /// The number of events whose period is not over.
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
    fn a_label_looks_strictly_forward_and_no_further_than_its_period() {
        let mut labeller = Labeller::new(Duration::from_micros(10));
        for (user, time, is_outcome) in
            [(1, 0, true), (1, 0, true), (2, 0, false), (1, 10, true), (2, 11, true), (1, 30, false), (2, 40, false)]
        {
            labeller.push(user, time, is_outcome, (user, time));
        }
        // User 2's outcome at 11 is too late for 0; an event at the time of an outcome is not followed by it.
        let expected = [(1, 0, true), (1, 0, true), (2, 0, false), (1, 10, false), (2, 11, false), (1, 30, false)];
        assert_eq!((labeller.time(), labeller.end()), (None, Some(40)), "two users are too few for a partition time");
        assert_eq!(all(&mut labeller, 40), expected);
        assert_eq!(labeller.unripe(), 1, "the period of the last one is not over");
    }

    #[test]
    fn a_single_future_event_neither_delays_others_nor_ends_their_periods() {
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
