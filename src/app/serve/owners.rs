//! Which process answers for which partition, if processes share them.
//!
//! A thread describes the group from time to time: its members carry their addresses in their client ids. Guarantees: while the
//! group rebalances, or cannot be described, what was known stays. A process that has lost a partition and does not know yet who has
//! it knows at least that it is not itself. Limits: whoever may join the group can name any address.

use crate::{
    logging,
    serve::is_origin,
    source::{Probe, address_of},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// How often the group is described. A request for a partition that has moved may go astray for this long.
const INTERVAL: Duration = Duration::from_millis(500);
/// How long a pause between two looks at whether to stop is.
const STEP: Duration = Duration::from_millis(100);

/// The owners of partitions, as far as they are known.
pub(super) struct Owners {
    /// The address of this process.
    own: String,
    by_partition: RwLock<BTreeMap<i32, Arc<str>>>,
    /// Those that this process has, which it knows before the group is described again.
    held: RwLock<BTreeSet<i32>>,
}

impl Owners {
    /// Knows none yet.
    pub(super) fn new(own: &str) -> Self {
        Self { own: own.to_owned(), by_partition: RwLock::default(), held: RwLock::default() }
    }

    /// The address of the other process that has a partition.
    pub(super) fn of(&self, partition: i32) -> Option<Arc<str>> {
        if self.held.read().unwrap_or_else(PoisonError::into_inner).contains(&partition) {
            return None;
        }
        let known = self.by_partition.read().unwrap_or_else(PoisonError::into_inner);
        known.get(&partition).filter(|address| ***address != *self.own).cloned()
    }

    /// Takes in which partitions this process has. It names no other owner of them, so two processes never send a bidder to each
    /// other.
    pub(super) fn holds(&self, held: &BTreeSet<i32>) {
        self.held.write().unwrap_or_else(PoisonError::into_inner).clone_from(held);
    }

    /// Takes in what the group says of its members: their client ids and partitions. One without a proper address is left out.
    pub(super) fn set(&self, members: impl IntoIterator<Item = (String, Vec<i32>)>) {
        let mut new = BTreeMap::new();
        for (client, partitions) in members {
            let Some(address) = address_of(&client).filter(|address| is_origin(address)) else { continue };
            let address: Arc<str> = address.into();
            new.extend(partitions.into_iter().map(|partition| (partition, Arc::clone(&address))));
        }
        *self.by_partition.write().unwrap_or_else(PoisonError::into_inner) = new;
    }
}

/// Follows the group until the process is to stop.
pub(super) fn run(probe: &Probe, owners: &Owners, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        match probe.members() {
            // Until a group is stable, its members have no partitions.
            Ok((members, true)) => owners.set(members.into_iter().map(|it| (it.client, it.partitions))),
            Ok((_, false)) => {}
            Err(error) => {
                if let Some(left_out) = logging::rate_limited("owners") {
                    tracing::warn!(%error, left_out, "sending bidders to the processes that were known so far");
                }
            }
        }
        let begun = Instant::now();
        while begun.elapsed() < INTERVAL && !stop.load(Ordering::Relaxed) {
            std::thread::sleep(STEP);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_another_process_with_a_proper_address() {
        let owners = Owners::new("http://a:1");
        assert_eq!(owners.of(0), None);
        owners.set([
            ("shop-serve-a@http://a:1".to_owned(), vec![0]),
            ("shop-serve-b@http://b:1".to_owned(), vec![1, 2]),
            ("shop-serve-c@http://c:1/\r\nx: y".to_owned(), vec![3]),
            ("rdkafka".to_owned(), vec![4]),
        ]);
        let known: Vec<Option<String>> = (0..5).map(|it| owners.of(it).map(|it| (*it).to_owned())).collect();
        let b = Some("http://b:1".to_owned());
        assert_eq!(known, [None, b.clone(), b, None, None]);
        // It has gained a partition, and the group was not described since.
        owners.holds(&[0, 1].into());
        assert_eq!((owners.of(1), owners.of(2).as_deref()), (None, Some("http://b:1")));
        owners.holds(&[0].into());
        assert_eq!(owners.of(1).as_deref(), Some("http://b:1"));
        owners.set([("shop-serve-a@http://a:1".to_owned(), vec![0, 1, 2])]);
        assert_eq!(owners.of(1), None);
    }
}
