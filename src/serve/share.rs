//! Which partitions of the topic a process answers for, if several processes share them.
//!
//! Guarantees: a user whose partition has not been read to its end is neither found nor unknown, but elsewhere. The partition of
//! a user is the one that the producers of decisions choose; whoever makes the store says how.

use std::collections::BTreeSet;

/// Computes the partition of a key from the number of partitions.
pub type PartitionOf = fn(&[u8], i32) -> i32;

/// The partitions of a process.
#[derive(Debug)]
pub(super) struct Share {
    partition_of: PartitionOf,
    /// How many partitions the topic has; 0 until it is known.
    count: i32,
    /// Those that have been read to their ends.
    read: BTreeSet<i32>,
}

impl Share {
    pub(super) fn new(partition_of: PartitionOf) -> Self {
        Self { partition_of, count: 0, read: BTreeSet::new() }
    }

    pub(super) fn set(&mut self, count: i32, read: &BTreeSet<i32>) {
        self.count = count;
        self.read.clone_from(read);
    }

    /// The partition of a user, and whether it is one of these.
    pub(super) fn place(&self, key: &str) -> (i32, bool) {
        let partition = (self.partition_of)(key.as_bytes(), self.count);
        (partition, self.read.contains(&partition))
    }
}
