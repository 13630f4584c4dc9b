//! Tracks the delivery of outputs sent outside of transactions, which readers see at once.
//!
//! Each output belongs to one of two transactions that take turns: one is filling while the other is committed. A
//! commit starts when all outputs of its turn have been delivered. If one fails, the producer cannot be used any more,
//! because later outputs must not become visible before it: the producer is recreated, and everything since the last
//! commit is sent again.

use crate::canary::{self, Canary};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Counts outputs in flight, and remembers whether one failed.
#[derive(Debug, Default)]
pub struct Deliveries {
    on_their_way: [AtomicUsize; 2],
    has_failed: AtomicBool,
}

impl Deliveries {
    /// Records that an output of this turn's transaction was handed to the client.
    pub fn sent(&self, turn: usize) {
        self.on_their_way[turn % 2].fetch_add(1, Ordering::AcqRel);
    }

    /// Records that the broker accepted or refused an output.
    pub fn reported(&self, turn: usize, is_taken: bool) {
        if !is_taken {
            self.has_failed.store(true, Ordering::Release);
        }
        self.on_their_way[turn % 2].fetch_sub(1, Ordering::AcqRel);
    }

    /// Stops waiting for reports.
    pub fn give_up(&self) {
        self.has_failed.store(true, Ordering::Release);
    }

    /// How many outputs of this turn's transaction are in flight.
    pub fn left(&self, turn: usize) -> usize {
        if canary::is_in(Canary::DeliveriesNotAwaited) {
            return 0;
        }
        self.on_their_way[turn % 2].load(Ordering::Acquire)
    }

    /// Whether an output failed or is no longer waited for.
    pub fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Acquire)
    }

    /// Whether positions may be committed as far as this turn's outputs are concerned; `None` while unknown.
    pub fn outcome(&self, turn: usize) -> Option<bool> {
        // A report records the failure before it decrements the count, so the count must be read first.
        let left = self.left(turn);
        if self.has_failed() && !canary::is_in(Canary::FailedDeliveriesIgnored) {
            return Some(false);
        }
        (left == 0).then_some(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_waits_for_its_own_outputs_and_a_refusal_spoils_all() {
        let it = Deliveries::default();
        it.sent(0);
        it.sent(1);
        assert_eq!((it.outcome(0), it.outcome(1)), (None, None));
        it.reported(0, true);
        assert_eq!((it.outcome(0), it.outcome(1)), (Some(true), None));
        it.reported(1, false);
        assert_eq!((it.outcome(0), it.outcome(1)), (Some(false), Some(false)));
    }
}
