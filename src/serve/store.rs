//! The latest decision of every user.
//!
//! Guarantees:
//! - A user has the decision with the highest offset of its partition. If a user has decisions in several partitions,
//!   because partitions were added to the topic, the one that was made last counts. So what is kept does not depend on the
//!   order in which partitions are read.
//! - A user who is erased in one partition has no older decision from another.
//! - If processes share the partitions, only decisions in the user's own partition count: another process may have read the
//!   erasure that ends one in a partition that was the user's before partitions were added.
//! - Readers wait for a writer only while it changes one of [`SHARDS`] parts of the users: for microseconds.
//! - In memory, decisions take at most 1.3 times their bytes in Protobuf, if they have 200 bytes or more and there are
//!   100,000 users or more.
//!
//! Limits: after [`EXPIRED_KEPT`] nothing is known of an expired decision, and of an erasure if all partitions have been
//! read to their ends.

use super::{
    message::{Times, hash_of},
    record::Change,
    shard::{Shard, key_of_record},
    share::{PartitionOf, Share},
};
use std::{
    collections::BTreeSet,
    sync::{PoisonError, RwLock},
    time::Duration,
};

/// The parts that the users are divided into, by the upper bits of their hash.
pub const SHARDS: usize = 256;

/// How long an expired decision is reported as expired and not as unknown. This helps people who look for an error; bidders
/// treat both alike.
pub const EXPIRED_KEPT: Duration = Duration::from_mins(10);

/// The latest decisions.
#[derive(Debug)]
pub struct Store {
    shards: Box<[RwLock<Shard>]>,
    /// `None` if all partitions are read here.
    share: Option<RwLock<Share>>,
}

/// What is known of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup<T> {
    /// There is a decision.
    Found(T),
    /// There was one, and it has expired.
    Expired,
    /// There is none.
    Unknown,
    /// The user is in this partition, which is not read here, or not to its end yet.
    Elsewhere(i32),
}

/// A decision as it is kept: in Protobuf, without what the user's key says.
#[derive(Clone, Copy, Debug)]
pub struct StoredDecision<'a> {
    pub(super) key: &'a str,
    pub(super) message: &'a [u8],
}

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Users with a decision, expired or not.
    pub users: usize,
    /// Bytes of memory.
    pub bytes: usize,
}

impl Default for Store {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| RwLock::default()).collect(), share: None }
    }
}

impl Store {
    /// A store of some of the partitions: at first of none.
    pub fn of_some(partition_of: PartitionOf) -> Self {
        Self { share: Some(RwLock::new(Share::new(partition_of))), ..Self::default() }
    }

    /// Sets how many partitions there are, and which of them have been read to their ends. A store of all partitions has no use
    /// for it.
    pub fn set_share(&self, count: i32, read: &BTreeSet<i32>) {
        if let Some(share) = &self.share {
            share.write().unwrap_or_else(PoisonError::into_inner).set(count, read);
        }
    }

    /// Forgets what was read of a partition.
    pub fn forget_partition(&self, partition: i32) {
        for shard in &self.shards {
            shard.write().unwrap_or_else(PoisonError::into_inner).forget_partition(partition);
        }
    }

    /// Takes in a change of a user. `at` is the time of its record, in microseconds since 1970. Within a partition, changes
    /// come in the order of their offsets.
    pub fn apply(&self, partition: i32, key: &str, change: Change<'_>, at: i64) {
        let hash = hash_of(key.as_bytes());
        match change {
            Change::Kept(message) => self.write(hash, |shard| shard.keep(hash, key.as_bytes(), partition, message)),
            Change::Erased => self.write(hash, |shard| shard.erase(hash, key.as_bytes(), partition, at)),
            Change::Foreign => {}
        }
    }

    /// What is known of a user at a moment, in microseconds since 1970. A decision is handed to `take`.
    pub fn look_up<T>(&self, key: &str, now: i64, take: impl FnOnce(StoredDecision<'_>) -> T) -> Lookup<T> {
        // It does not change until the answer is complete.
        let share = self.share.as_ref().map(|it| it.read().unwrap_or_else(PoisonError::into_inner));
        let own = match share.as_ref().map(|it| it.place(key)) {
            Some((partition, false)) => return Lookup::Elsewhere(partition),
            place => place.map(|(partition, _)| partition),
        };
        let hash = hash_of(key.as_bytes());
        let shard = self.shard(hash).read().unwrap_or_else(PoisonError::into_inner);
        match shard.get(hash, key.as_bytes(), own) {
            None => Lookup::Unknown,
            Some((_, Times { expires_at, .. })) if expires_at <= now => Lookup::Expired,
            Some((message, _)) => Lookup::Found(take(StoredDecision { key, message })),
        }
    }

    /// Forgets what has been over for [`EXPIRED_KEPT`] in one of the [`SHARDS`] parts. `has_caught_up`: whether all
    /// partitions have been read to their ends, so that no old decision can follow.
    pub fn sweep(&self, shard: usize, now: i64, has_caught_up: bool) {
        let before = now.saturating_sub(EXPIRED_KEPT.as_micros() as i64);
        let lock = &self.shards[shard % SHARDS];
        let expired = lock.read().unwrap_or_else(PoisonError::into_inner).expired(before);
        lock.write().unwrap_or_else(PoisonError::into_inner).forget(&expired, before, has_caught_up);
    }

    /// Hands over the records of some partitions that one of the [`SHARDS`] parts has.
    pub(super) fn records(&self, shard: usize, has: &dyn Fn(i32) -> bool, take: &mut dyn FnMut(&[u8])) {
        self.shards[shard % SHARDS].read().unwrap_or_else(PoisonError::into_inner).records(has, take);
    }

    /// Takes in a record that [`Self::records`] has handed over.
    pub(super) fn restore(&self, record: &[u8]) {
        let hash = hash_of(key_of_record(record));
        self.write(hash, |shard| shard.restore(hash, record));
    }

    /// Forgets everything.
    pub fn clear(&self) {
        for shard in &self.shards {
            *shard.write().unwrap_or_else(PoisonError::into_inner) = Shard::default();
        }
    }

    /// How much there is.
    pub fn sizes(&self) -> Sizes {
        let mut sizes = Sizes { users: 0, bytes: SHARDS * size_of::<RwLock<Shard>>() };
        for shard in &self.shards {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            sizes.users += shard.users();
            sizes.bytes += shard.bytes();
        }
        sizes
    }

    fn shard(&self, hash: u32) -> &RwLock<Shard> {
        &self.shards[(hash >> 24) as usize]
    }

    fn write(&self, hash: u32, change: impl FnOnce(&mut Shard)) {
        change(&mut self.shard(hash).write().unwrap_or_else(PoisonError::into_inner));
    }
}

const _: () = assert!(SHARDS == 1 << 8, "the upper eight bits of a hash are the number of its part");
