//! The part of the partitions that this process reads, if processes share them.
//!
//! Guarantees: what is given up is not answered for any more, and then forgotten. What is gained is read from its start, and answered
//! for once it has been read to its end. Until the group has told what this process has, it is not ready; from then on, a partition
//! that it gains makes only the users of that partition wait, because a process that hides behind a load balancer until it has read a
//! new partition would take the answers about all others away as well.

use super::{
    ServeError,
    look::{Look, Positions},
};
use crate::{
    logging,
    serve::{Position, Store},
    source::{Membership, Tail},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::PoisonError,
    time::{Duration, Instant},
};

/// A process that joins has nothing until the others have given something up. If it still has nothing after this long, there are
/// more processes than partitions.
const SPARE_AFTER: Duration = Duration::from_secs(10);

/// What this process has.
pub(super) struct Share {
    member: Membership,
    /// How many partitions the topic has, as far as it is known.
    count: i32,
    /// Those that have been read to their ends.
    read: BTreeSet<i32>,
    /// When the group has first told what this process has.
    told_at: Option<Instant>,
    /// Where a snapshot ends, until the first partitions are there.
    known: BTreeMap<i32, Position>,
}

impl Share {
    /// Has nothing yet. `known`: the positions of a snapshot that is in the store.
    pub(super) fn new(member: Membership, known: BTreeMap<i32, Position>) -> Self {
        Self { member, count: 0, read: BTreeSet::new(), told_at: None, known }
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
        self.told_at.get_or_insert_with(Instant::now);
        if before == held {
            return Ok(true);
        }
        let lost: Vec<i32> = before.difference(&held).copied().collect();
        let gained: Vec<i32> = held.difference(&before).copied().collect();
        tracing::info!(partitions = held.len(), ?gained, ?lost, "the partitions of this process");
        self.read.retain(|partition| held.contains(partition));
        self.publish(store);
        // What a snapshot has of the partitions of others is of no use.
        let known = std::mem::take(&mut self.known);
        let of_others = known.keys().copied().filter(|partition| !held.contains(partition));
        for partition in lost.into_iter().chain(of_others) {
            let mut read = positions.lock().unwrap_or_else(PoisonError::into_inner);
            read.generation += 1;
            read.positions.remove(&partition);
            drop(read);
            store.forget_partition(partition);
        }
        tail.read_only(&held, |partition, ends| known.get(&partition).map_or(ends.low, |position| position.next))?;
        Ok(true)
    }

    /// Finds out which partitions have been read to the ends of a look.
    pub(super) fn look(&mut self, look: &Look, tail: &Tail, store: &Store) {
        let count = look.ends.len() as i32;
        let unread = tail.reads().filter(|partition| !self.read.contains(partition));
        let end = |partition: i32| look.ends.iter().find(|(it, _)| *it == partition).map(|(_, end)| *end);
        let new: Vec<i32> = unread.filter(|it| end(*it).is_some_and(|end| tail.is_read(*it, end))).collect();
        if new.is_empty() && count == self.count {
            return;
        }
        self.count = count;
        self.read.extend(new);
        self.publish(store);
    }

    /// Begins anew with a topic that was made anew.
    pub(super) fn clear(&mut self, store: &Store) {
        self.read.clear();
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
