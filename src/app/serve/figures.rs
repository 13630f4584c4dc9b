//! What the answerers count. Counting an answer is one addition; the sums are published from time to time.

use crate::{
    metrics::{self, AnswerTimes},
    serve::{Enrichment, Lookup},
};
use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

const LOOKUPS: [&str; 3] = ["found", "expired", "unknown"];
const BID_REQUESTS: [&str; 7] = ["enriched", "no_id", "unknown", "expired", "no_segments", "refused", "malformed"];

/// The counts so far.
#[derive(Default)]
pub(super) struct Figures {
    lookups: [AtomicU64; LOOKUPS.len()],
    bid_requests: [AtomicU64; BID_REQUESTS.len()],
    /// What was published.
    published: Mutex<[u64; LOOKUPS.len() + BID_REQUESTS.len()]>,
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
    /// Takes a place for a connection.
    pub(super) fn connect(&self, max: usize) -> Option<Place<'_>> {
        enter(&self.open, max)
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

    pub(super) fn connections(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    pub(super) fn looked_up<T>(&self, lookup: &Lookup<T>) {
        let index = match lookup {
            Lookup::Found(_) => 0,
            Lookup::Expired => 1,
            Lookup::Unknown => 2,
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

    /// Publishes what was counted since the last time.
    pub(super) fn publish(&self) {
        let mut published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = self.lookups.iter().chain(&self.bid_requests).map(|count| count.load(Ordering::Relaxed));
        for (index, (now, before)) in counts.zip(published.iter_mut()).enumerate() {
            let count = now - std::mem::replace(before, now);
            match LOOKUPS.get(index) {
                Some(outcome) => metrics::serve_lookups(outcome, count),
                None => metrics::serve_bid_requests(BID_REQUESTS[index - LOOKUPS.len()], count),
            }
        }
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
