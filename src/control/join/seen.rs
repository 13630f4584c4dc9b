//! The outcomes that were seen lately, so that none counts twice.
//!
//! Guarantees: an outcome that [`Seen::is_late`] does not refuse is either still remembered or was never seen. If there
//! are more outcomes than fit, the oldest are forgotten, and the time up to which outcomes are refused as late moves
//! with them. So the bound on memory costs late outcomes, never a double count.
//!
//! Limits: about 100 bytes for each outcome.

use super::super::key::{Key, KeyMap};
use std::collections::BTreeSet;

/// The ids seen within the horizon.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Seen {
    /// Until when each is remembered.
    until: KeyMap<i64>,
    due: BTreeSet<(i64, Key)>,
    /// Outcomes up to this time are refused, because some that happened then have been forgotten.
    pub(in super::super) floor: i64,
}

impl Seen {
    /// Whether an outcome is too old to know whether it was seen. `now` is the time of the stream.
    pub(in super::super) fn is_late(&self, occurred_at: i64, now: i64, horizon: i64) -> bool {
        occurred_at <= self.floor || occurred_at.saturating_add(horizon) < now
    }

    /// Whether it is remembered.
    pub(in super::super) fn contains(&self, key: Key) -> bool {
        self.until.contains_key(&key)
    }

    /// Remembers an outcome until this time, or longer if it already is.
    pub(in super::super) fn insert(&mut self, key: Key, until: i64) {
        if let Some(before) = self.until.insert(key, until) {
            self.due.remove(&(before, key));
        }
        self.due.insert((until, key));
    }

    /// Forgets an outcome that did not count after all.
    pub(in super::super) fn remove(&mut self, key: Key) {
        if let Some(until) = self.until.remove(&key) {
            self.due.remove(&(until, key));
        }
    }

    /// Forgets the oldest outcome, if it is due before `now` or if there are more than `max`.
    pub(in super::super) fn pop(&mut self, now: i64, max: usize, horizon: i64) -> Option<Key> {
        let (until, key) = *self.due.first()?;
        let is_surplus = self.until.len() > max;
        if until >= now && !is_surplus {
            return None;
        }
        self.remove(key);
        if until >= now {
            // It happened at most a horizon before it would have been forgotten.
            self.floor = self.floor.max(until.saturating_sub(horizon));
        }
        Some(key)
    }

    /// Until when it is remembered.
    pub(in super::super) fn until(&self, key: Key) -> Option<i64> {
        self.until.get(&key).copied()
    }

    /// All that are remembered.
    pub(in super::super) fn keys(&self) -> impl Iterator<Item = Key> + '_ {
        self.until.keys().copied()
    }

    /// How many are remembered.
    pub(in super::super) fn len(&self) -> usize {
        self.until.len()
    }
}
