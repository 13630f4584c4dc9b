//! What the answerers count. Counting an answer is one addition; the sums are published from time to time.

use crate::{
    metrics::{self, AnswerTimes},
    serve::{Enrichment, Lookup},
};
use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

const LOOKUPS: [&str; 4] = ["found", "expired", "unknown", "elsewhere"];
const BID_REQUESTS: [&str; 11] = [
    "enriched",
    "no_id",
    "unknown",
    "expired",
    "no_segments",
    "no_change",
    "refused",
    "malformed",
    "not_asked",
    "late",
    "elsewhere",
];
const MUTATIONS: [&str; 3] = ["ACTIVATE_SEGMENTS", "ACTIVATE_DEALS", "BID_SHADE"];
const ALL: usize = LOOKUPS.len() + BID_REQUESTS.len() + MUTATIONS.len();

/// The counts so far.
#[derive(Default)]
pub(super) struct Figures {
    lookups: [AtomicU64; LOOKUPS.len()],
    bid_requests: [AtomicU64; BID_REQUESTS.len()],
    mutations: [AtomicU64; MUTATIONS.len()],
    /// What was published.
    published: Mutex<[u64; ALL]>,
    pub(super) times: AnswerTimes,
    open: AtomicUsize,
    bodies: AtomicUsize,
}

/// A place that is taken until this is dropped.
pub(super) struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn enter(taken: &AtomicUsize, max: usize) -> Option<Place<'_>> {
    // Dropping the place gives it back, also if it was one too many.
    let before = taken.fetch_add(1, Ordering::Relaxed);
    let place = Place(taken);
    (before < max).then_some(place)
}

impl Figures {
    /// Takes a place for a connection, if there is one.
    pub(super) fn connect(&self, max: usize) -> bool {
        enter(&self.open, max).map(std::mem::forget).is_some()
    }

    /// Gives the place of a connection back.
    pub(super) fn disconnect(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// Takes a place for a request with a body.
    pub(super) fn begin_body(&self, max: usize) -> Option<Place<'_>> {
        enter(&self.bodies, max)
    }

    /// How many requests with a body there are.
    #[cfg(test)]
    pub(super) fn bodies(&self) -> usize {
        self.bodies.load(Ordering::Relaxed)
    }

    /// How many connections there are.
    pub(super) fn connections(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    pub(super) fn looked_up<T>(&self, lookup: &Lookup<T>) {
        let index = match lookup {
            Lookup::Found(_) => 0,
            Lookup::Expired => 1,
            Lookup::Unknown => 2,
            Lookup::Elsewhere(_) => 3,
        };
        self.lookups[index].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a bid request; `None` if it was malformed.
    pub(super) fn enriched(&self, outcome: Option<Enrichment>) {
        let name = outcome.map_or("malformed", Enrichment::as_str);
        if let Some(index) = BID_REQUESTS.iter().position(|it| *it == name) {
            self.bid_requests[index].fetch_add(1, Ordering::Relaxed);
        }
        if let Some(Enrichment::Refused(reason)) = outcome {
            metrics::serve_refused(reason);
        }
    }

    /// Counts a change that was proposed to a host of agents.
    pub(super) fn proposed(&self, intent: &str) {
        if let Some(index) = MUTATIONS.iter().position(|it| *it == intent) {
            self.mutations[index].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Publishes what was counted since the last time.
    pub(super) fn publish(&self) {
        let mut published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        let mut published = published.iter_mut();
        let mut publish = |counts: &[AtomicU64], names: &[&'static str], add: fn(&'static str, u64)| {
            for (name, (count, before)) in names.iter().zip(counts.iter().zip(&mut published)) {
                let now = count.load(Ordering::Relaxed);
                add(name, now - std::mem::replace(before, now));
            }
        };
        publish(&self.lookups, &LOOKUPS, metrics::serve_lookups);
        publish(&self.bid_requests, &BID_REQUESTS, metrics::serve_bid_requests);
        publish(&self.mutations, &MUTATIONS, metrics::serve_mutations);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_was_not_free_takes_none_away() {
        let taken = AtomicUsize::new(0);
        let places = [enter(&taken, 2), enter(&taken, 2)];
        assert!(places.iter().all(Option::is_some));
        assert!((0..3).all(|_| enter(&taken, 2).is_none()));
        assert_eq!(taken.load(Ordering::Relaxed), 2);
        drop(places);
        assert_eq!(taken.load(Ordering::Relaxed), 0);
        assert!(enter(&taken, 2).is_some());
    }
}
