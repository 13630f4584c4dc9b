//! The producer of outputs that are visible at once. It keeps the order of each partition and is never fenced.

use super::{Place, Visible, cluster::Cluster};
use crate::{
    canary::{self, Canary},
    sink::{Deliveries, SizeLimits, Target},
};
use rand::Rng;
use std::collections::VecDeque;

/// After so many refused outputs, the broker refuses no more of a sink. Many outputs at once would otherwise hardly ever
/// all be accepted, and the worker would rightly give up.
const REFUSALS_MAX: u32 = 40;

/// The producer of outputs that are visible at once.
#[derive(Debug, Default)]
pub(super) struct Outlet {
    deliveries: Deliveries,
    /// Accepted by the client, but not yet by the broker, with the turn.
    queue: VecDeque<(usize, Place, Visible)>,
    /// The turns of outputs that the broker accepted but has not yet acknowledged to the client.
    unreported: VecDeque<usize>,
    refused: Vec<(Target, usize)>,
    /// How many outputs the broker has refused so far, of this producer and those before it.
    refusals: u32,
}

impl Outlet {
    /// Whether everything of a turn was delivered; `None` while an answer is missing.
    pub(super) fn outcome(&self, turn: usize) -> Option<bool> {
        self.deliveries.outcome(turn)
    }

    /// Whether the broker has refused something.
    pub(super) fn has_failed(&self) -> bool {
        self.deliveries.has_failed()
    }

    /// Takes an output of a turn.
    pub(super) fn send(&mut self, turn: usize, place: Place, output: Visible) {
        self.deliveries.sent(turn);
        self.queue.push_back((turn, place, output));
    }

    /// Delivers some of the queue to the broker, and takes some of the answers.
    pub(super) fn deliver(&mut self, cluster: &mut Cluster) {
        let faults = cluster.chance.faults;
        let most = self.queue.len();
        for _ in 0..cluster.chance.random.random_range(0..=most) {
            if self.has_failed() && !canary::is_in(Canary::OutletWithGaps) {
                // The client fails everything that follows.
                for (turn, ..) in self.queue.drain(..) {
                    self.deliveries.reported(turn, false);
                }
                break;
            }
            // Each partition has its own leader, and therefore its own order.
            let Some((_, some, _)) = self.queue.get(cluster.chance.random.random_range(0..self.queue.len())) else {
                break;
            };
            let Some(first) = self.queue.iter().position(|(_, place, _)| place == some) else { break };
            let Some((turn, place, output)) = self.queue.remove(first) else { break };
            let (target, bytes) = (output.target, output.bytes());
            if cluster.strikes(faults.refuse) && self.refusals < REFUSALS_MAX {
                self.refusals += 1;
                // It is either refused, or accepted with the answer lost.
                if cluster.one_in(2) {
                    cluster.append_beside(place, output).unwrap_or_default();
                }
                self.deliveries.reported(turn, false);
            } else if cluster.append_beside(place, output).is_err() {
                self.refused.push((target, bytes));
                self.deliveries.reported(turn, false);
            } else {
                self.unreported.push_back(turn);
            }
        }
        let most = self.unreported.len();
        for turn in self.unreported.drain(..cluster.chance.random.random_range(0..=most)) {
            self.deliveries.reported(turn, true);
        }
    }

    /// Starts anew. Part of the former queue is still in flight, in order per partition.
    pub(super) fn renew(&mut self, cluster: &mut Cluster, limits: &mut SizeLimits) {
        let next = Self { refusals: self.refusals, ..Self::default() };
        let former = std::mem::replace(self, next);
        for (target, bytes) in &former.refused {
            limits.refused(*target, *bytes);
        }
        let is_over = former.has_failed() && !canary::is_in(Canary::OutletWithGaps);
        let mut places: Vec<Place> = former.queue.iter().map(|(_, place, _)| *place).collect();
        places.sort();
        places.dedup();
        for place in places.into_iter().filter(|_| !is_over) {
            let of = |(_, to, output): &(usize, Place, Visible)| (*to == place).then(|| (place, output.clone()));
            let mut late: VecDeque<(Place, Visible)> = former.queue.iter().filter_map(of).collect();
            late.truncate(cluster.chance.random.random_range(0..4));
            cluster.late.outputs.push(late);
        }
    }
}
