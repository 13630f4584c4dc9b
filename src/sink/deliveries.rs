//! What has become of the outputs that are sent beside the transactions, where readers see them at once.
//!
//! Each of them is sent for one of two transactions, which take turns: the one that fills, and the one that is committed. A
//! commit begins when all of its own have been taken. One that was refused spoils the producer for good, because what
//! followed it may not be seen before it: the producer is made anew, and everything since the last commit sent again.

use crate::canary::{self, Canary};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// How many outputs are on their way, and whether one was refused.
#[derive(Debug, Default)]
pub struct Deliveries {
    on_their_way: [AtomicUsize; 2],
    has_failed: AtomicBool,
}

impl Deliveries {
    /// Notes that an output was handed to the client, for the transaction of this turn.
    pub fn sent(&self, turn: usize) {
        self.on_their_way[turn % 2].fetch_add(1, Ordering::AcqRel);
    }

    /// Notes that the broker has taken an output, or will not.
    pub fn reported(&self, turn: usize, is_taken: bool) {
        if !is_taken {
            self.has_failed.store(true, Ordering::Release);
        }
        self.on_their_way[turn % 2].fetch_sub(1, Ordering::AcqRel);
    }

    /// Notes that no report is waited for any more.
    pub fn give_up(&self) {
        self.has_failed.store(true, Ordering::Release);
    }

    /// How many outputs of this turn's transaction are on their way.
    pub fn left(&self, turn: usize) -> usize {
        if canary::is_in(Canary::DeliveriesNotAwaited) {
            return 0;
        }
        self.on_their_way[turn % 2].load(Ordering::Acquire)
    }

    /// Whether an output was refused, or is waited for no more.
    pub fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Acquire)
    }

    /// Whether positions may be committed, as far as this turn's outputs go: none while that is not known.
    pub fn outcome(&self, turn: usize) -> Option<bool> {
        // A report first notes the failure and then counts, so the count has to be read first.
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
