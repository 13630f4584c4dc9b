//! The part of the partitions that this process reads, if processes share them.
//!
//! Guarantees: what is given up is not answered for any more, and then forgotten. What is gained is read from its start, and answered
//! for once it has been read to its end. Until the group has told what this process has, it is not ready; from then on, a partition
//! that it gains makes only the users of that partition wait, because a process that hides behind a load balancer until it has read a
//! new partition would take the answers about all others away as well.

use super::{
    ServeError,
    look::{Look, Positions},
    owners::Owners,
};
use crate::{
    logging,
    serve::{Position, Store},
    source::{Membership, Tail},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

/// A process that joins has nothing until the others have given something up. If it still has nothing after this long, there are
/// more processes than partitions.
const SPARE_AFTER: Duration = Duration::from_secs(10);
/// A partition counts as read once everything has been read that was there at most this long ago: where records keep coming, nobody
/// ever has them all.
const RECENT: Duration = Duration::from_secs(2);

/// What this process has.
pub(super) struct Share {
    member: Membership,
    /// Who is told what this process has.
    owners: Arc<Owners>,
    /// How many partitions the topic has, as far as it is known.
    count: i32,
    /// Those that have been read to their ends.
    read: BTreeSet<i32>,
    /// Up to where the others are to be read, and when that was looked up.
    aims: BTreeMap<i32, (Instant, i64)>,
    /// When the group has first told what this process has.
    told_at: Option<Instant>,
    /// Where a snapshot ends, until the first partitions are there.
    known: BTreeMap<i32, Position>,
}

impl Share {
    /// Has nothing yet. `known`: the positions of a snapshot that is in the store.
    pub(super) fn new(member: Membership, known: BTreeMap<i32, Position>, owners: Arc<Owners>) -> Self {
        Self { member, owners, count: 0, read: BTreeSet::new(), aims: BTreeMap::new(), told_at: None, known }
    }

    /// Takes in what the group says. Returns whether it has told anything yet.
    ///
    /// # Errors
    /// If the group refuses this process before it has told anything, or the topic must be opened again.
    pub(super) fn follow(&mut self, tail: &mut Tail, store: &Store, positions: &Positions) -> Result<bool, ServeError> {
        let held = match self.member.held() {
            Ok(Some(held)) => held,
            Ok(None) => return Ok(false),
            Err(error) if self.told_at.is_none() => return Err(ServeError::Member(error)),
            Err(error) => {
                if let Some(left_out) = logging::rate_limited("share") {
                    tracing::error!(%error, left_out, "answering for the partitions that this process had");
                }
                return Ok(true);
            }
        };
        let before: BTreeSet<i32> = tail.reads().collect();
        let told_at = *self.told_at.get_or_insert_with(Instant::now);
        if before == held {
            if held.is_empty() && told_at.elapsed() > SPARE_AFTER {
                // Nobody reads on from there, so erasures would be missed.
                forget(std::mem::take(&mut self.known).into_keys(), store, positions);
            }
            return Ok(true);
        }
        let lost: Vec<i32> = before.difference(&held).copied().collect();
        let gained: Vec<i32> = held.difference(&before).copied().collect();
        tracing::info!(partitions = held.len(), ?gained, ?lost, "the partitions of this process");
        self.owners.holds(&held);
        self.read.retain(|partition| held.contains(partition));
        self.aims.retain(|partition, _| held.contains(partition));
        self.publish(store);
        // What a snapshot has of the partitions of others is of no use.
        let known = std::mem::take(&mut self.known);
        let of_others = known.keys().copied().filter(|partition| !held.contains(partition));
        forget(lost.into_iter().chain(of_others), store, positions);
        tail.follow_only(&held, |partition| known.get(&partition).map_or(0, |position| position.next))?;
        Ok(true)
    }

    /// Finds out which partitions have been read to the ends of a look.
    pub(super) fn look(&mut self, look: &Look, tail: &Tail, store: &Store) {
        let count = look.ends.len() as i32;
        let mut new = Vec::new();
        for partition in tail.reads().filter(|partition| !self.read.contains(partition)) {
            let Some((_, end)) = look.ends.iter().find(|(it, _)| *it == partition) else { continue };
            let (asked_at, aim) = self.aims.entry(partition).or_insert((look.asked_at, *end));
            let is_reached = tail.is_read(partition, *aim);
            if tail.is_read(partition, *end) || (is_reached && asked_at.elapsed() < RECENT) {
                new.push(partition);
            } else if is_reached {
                (*asked_at, *aim) = (look.asked_at, *end);
            }
        }
        if new.is_empty() && count == self.count {
            return;
        }
        self.count = count;
        self.aims.retain(|partition, _| !new.contains(partition));
        self.read.extend(new);
        self.publish(store);
    }

    /// Begins anew with a topic that was made anew.
    pub(super) fn clear(&mut self, store: &Store) {
        self.known.clear();
        self.read.clear();
        self.aims.clear();
        self.publish(store);
    }

    /// Whether it is known what this process has.
    pub(super) fn is_known(&self, tail: &Tail) -> bool {
        self.told_at.is_some_and(|at| tail.partition_count() > 0 || at.elapsed() > SPARE_AFTER)
    }

    /// Whether a partition has been read to its end.
    pub(super) fn has_read(&self, partition: i32) -> bool {
        self.read.contains(&partition)
    }

    /// How many partitions have been read to their ends.
    pub(super) fn read_count(&self) -> usize {
        self.read.len()
    }

    fn publish(&self, store: &Store) {
        store.set_share(self.count, &self.read);
    }
}

/// Forgets what was read of some partitions, or came from a snapshot.
fn forget(partitions: impl Iterator<Item = i32>, store: &Store, positions: &Positions) {
    for partition in partitions {
        let mut read = positions.lock().unwrap_or_else(PoisonError::into_inner);
        read.generation += 1;
        read.positions.remove(&partition);
        drop(read);
        store.forget_partition(partition);
    }
}
