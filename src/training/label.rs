//! Labels: whether what is to be predicted came to pass after an event.
//!
//! Guarantees: the label of an event looks at its user's later events alone, strictly after its time and at most `within`
//! after it; an event whose time has not run out yet has no label and gives no row. Limits: events wait in memory until
//! their time has run out, which is `within` of events; the times of all outcomes are kept.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

/// `[label]`: what a model learns to predict.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LabelSpec {
    /// Which events are the outcome.
    #[serde(rename = "where")]
    pub filter: String,
    /// How long after an event the outcome counts for it.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub within: Duration,
}

/// An event that waits for its label.
#[derive(Debug)]
struct Waiting<T> {
    user: u64,
    time: i64,
    row: T,
}

/// Gives events their labels, in the order in which they came.
#[derive(Debug)]
pub struct Labeller<T> {
    within: i64,
    waiting: VecDeque<Waiting<T>>,
    /// By user: the times of outcomes, oldest first.
    outcomes: HashMap<u64, VecDeque<i64>>,
    newest: i64,
}

impl<T> Labeller<T> {
    /// Labels by outcomes at most `within` later.
    pub fn new(within: Duration) -> Self {
        Self {
            within: within.as_micros().min(i64::MAX as u128 / 4) as i64,
            waiting: VecDeque::new(),
            outcomes: HashMap::new(),
            newest: i64::MIN,
        }
    }

    /// Takes an event: its user, its time in microseconds, whether it is an outcome, and what is to be labelled.
    pub fn push(&mut self, user: u64, time: i64, is_outcome: bool, row: T) {
        self.newest = self.newest.max(time);
        if is_outcome {
            let times = self.outcomes.entry(user).or_default();
            let at = times.partition_point(|known| *known <= time);
            times.insert(at, time);
        }
        self.waiting.push_back(Waiting { user, time, row });
    }

    /// The next event whose time has run out at `until`, or at the newest event's time, with its label. What comes later
    /// than that by more than `slack` (the allowed lateness) is not seen.
    pub fn ripe(&mut self, until: Option<i64>, slack: i64) -> Option<(T, bool)> {
        let now = until.unwrap_or_else(|| self.newest.saturating_sub(slack));
        let front = self.waiting.front()?;
        if front.time.saturating_add(self.within) > now {
            return None;
        }
        let Waiting { user, time, row } = self.waiting.pop_front()?;
        let label = self.outcomes.get(&user).is_some_and(|times| {
            let next = times.partition_point(|known| *known <= time);
            times.get(next).is_some_and(|outcome| *outcome <= time + self.within)
        });
        Some((row, label))
    }

    /// Gives up the events whose time has not run out, and says how many they were.
    pub fn unripe(self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_looks_strictly_forward_and_no_further_than_its_time() {
        let mut labeller = Labeller::new(Duration::from_micros(10));
        for (user, time, is_outcome) in
            [(1, 0, true), (1, 0, true), (2, 0, false), (1, 10, true), (2, 11, true), (1, 30, false), (2, 40, false)]
        {
            labeller.push(user, time, is_outcome, (user, time));
        }
        let mut found = Vec::new();
        while let Some(((user, time), label)) = labeller.ripe(None, 0) {
            found.push((user, time, label));
        }
        // User 2's outcome at 11 comes too late for 0; what shares a time with an outcome is not followed by it.
        assert_eq!(found, [(1, 0, true), (1, 0, true), (2, 0, false), (1, 10, false), (2, 11, false), (1, 30, false)]);
        assert_eq!(labeller.unripe(), 1, "the time of the last one has not run out");
    }
}
