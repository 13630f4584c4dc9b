//! The decisions of a part of the users.
//!
//! A table of eight bytes for each decision points into an [`Arena`]. A record there is the number of the partition, the
//! length of the user's key, the key, and the decision without what the key says. There is one record for each user and
//! partition, so that the order of partitions does not matter; nearly always that is one for each user.

use super::{
    arena::{Arena, Place},
    message::{self, Times},
};
use hashbrown::HashTable;
use prost::encoding::{decode_varint, encode_varint};
use std::collections::BTreeMap;

/// A decision's place, and a part of its key's hash, so that growing the table reads no keys.
#[derive(Clone, Copy, Debug)]
struct Slot {
    hash: u32,
    place: Place,
}

impl Slot {
    /// The hash as the table uses it: the lower bits choose the place in the table, and the upper ones tell neighbours
    /// apart.
    fn spread(self) -> u64 {
        spread(self.hash)
    }
}

fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// A record in parts.
struct Parts<'a> {
    partition: i32,
    key: &'a [u8],
    message: &'a [u8],
}

impl<'a> Parts<'a> {
    fn of(mut record: &'a [u8]) -> Self {
        // Both numbers were written by `Shard::keep`.
        let partition = decode_varint(&mut record).unwrap_or_default() as i32;
        let length = decode_varint(&mut record).unwrap_or_default() as usize;
        let (key, message) = record.split_at(length.min(record.len()));
        Self { partition, key, message }
    }
}

/// The user's key of a record.
pub(super) fn key_of_record(record: &[u8]) -> &[u8] {
    Parts::of(record).key
}

/// Whose decision has expired, or is to be forgotten for another reason.
#[derive(Debug)]
pub(super) struct Expired {
    hash: u32,
    key: Box<[u8]>,
    partition: i32,
}

/// When a user was erased, by partition.
type Erasures = BTreeMap<i32, i64>;

/// A part of the users.
#[derive(Debug, Default)]
pub(super) struct Shard {
    table: HashTable<Slot>,
    arena: Arena,
    /// Who was erased. An older decision may still come from another partition.
    erased: BTreeMap<Box<[u8]>, Erasures>,
    /// The users with more than one record.
    doubles: usize,
}

impl Shard {
    /// Keeps a decision in place of the last one of its user from its partition, unless the user was erased since.
    pub(super) fn keep(&mut self, hash: u32, key: &[u8], partition: i32, message: &[u8]) {
        if let Some(erasures) = self.erased.get(key) {
            let decided_at = Times::of(message).decided_at;
            if erasures.iter().any(|(other, at)| *other != partition && *at >= decided_at) {
                self.remove(hash, key, |parts| parts.partition == partition);
                return;
            }
        }
        self.remove(hash, key, |parts| parts.partition == partition);
        let mut head = Vec::with_capacity(10);
        encode_varint(u64::from(partition as u32), &mut head);
        encode_varint(key.len() as u64, &mut head);
        let Some(place) = self.arena.push(&[&head, key, message]) else { return };
        self.doubles += usize::from(self.has(hash, key));
        self.table.insert_unique(spread(hash), Slot { hash, place }, |slot| slot.spread());
        self.tidy();
    }

    /// Forgets a user who was erased at this time, in microseconds since 1970.
    pub(super) fn erase(&mut self, hash: u32, key: &[u8], partition: i32, at: i64) {
        self.remove(hash, key, |parts| parts.partition == partition || Times::of(parts.message).decided_at <= at);
        let last = self.erased.entry(key.into()).or_default().entry(partition).or_insert(at);
        *last = at.max(*last);
        self.tidy();
    }

    /// The last decision of a user: the message without what the key says, and its times. `own`: the only partition that counts, if
    /// there is one.
    pub(super) fn get(&self, hash: u32, key: &[u8], own: Option<i32>) -> Option<(&[u8], Times)> {
        let found = self.all(hash, key).map(|parts| (parts.message, Times::of(parts.message), parts.partition));
        let found = found.filter(|(.., partition)| own.is_none_or(|own| own == *partition));
        let last = found.max_by_key(|(_, times, partition)| (times.decided_at, *partition));
        last.map(|(message, times, _)| (message, times))
    }

    /// The decisions that expired before a moment.
    pub(super) fn expired(&self, before: i64) -> Vec<Expired> {
        self.those(|parts| Times::of(parts.message).expires_at < before)
    }

    fn those(&self, matches: impl Fn(&Parts<'_>) -> bool) -> Vec<Expired> {
        let parts = self.table.iter().map(|slot| (slot.hash, Parts::of(self.arena.get(slot.place))));
        let those = parts.filter(|(_, parts)| matches(parts));
        those.map(|(hash, parts)| Expired { hash, key: parts.key.into(), partition: parts.partition }).collect()
    }

    /// Forgets decisions and erasures of a partition.
    pub(super) fn forget_partition(&mut self, partition: i32) {
        for Expired { hash, key, .. } in self.those(|parts| parts.partition == partition) {
            self.remove(hash, &key, |parts| parts.partition == partition);
        }
        self.erased.retain(|_, erasures| {
            erasures.remove(&partition);
            !erasures.is_empty()
        });
        self.tidy();
        self.shrink();
    }

    /// Forgets decisions if they expired before a moment, and erasures before it if `forgets_erasures`.
    pub(super) fn forget(&mut self, expired: &[Expired], before: i64, forgets_erasures: bool) {
        for Expired { hash, key, partition } in expired {
            let is_over =
                |parts: &Parts<'_>| parts.partition == *partition && Times::of(parts.message).expires_at < before;
            self.remove(*hash, key, is_over);
        }
        if forgets_erasures {
            self.erased.retain(|_, erasures| {
                erasures.retain(|_, at| *at >= before);
                !erasures.is_empty()
            });
        }
        self.tidy();
        self.shrink();
    }

    /// Hands over the records of some partitions.
    pub(super) fn records(&self, has: &dyn Fn(i32) -> bool, take: &mut dyn FnMut(&[u8])) {
        let records = self.table.iter().map(|slot| self.arena.get(slot.place));
        records.filter(|record| has(Parts::of(record).partition)).for_each(take);
    }

    /// Takes in a record that [`Self::records`] has handed over.
    pub(super) fn restore(&mut self, hash: u32, record: &[u8]) {
        let Parts { partition, key, message } = Parts::of(record);
        self.keep(hash, key, partition, message);
    }

    /// How many users there are.
    pub(super) fn users(&self) -> usize {
        self.table.len() - self.doubles
    }

    /// The memory for decisions and table.
    pub(super) fn bytes(&self) -> usize {
        // `allocation_size` is the table's own count.
        self.arena.bytes() + self.table.allocation_size()
    }

    fn all(&self, hash: u32, key: &[u8]) -> impl Iterator<Item = Parts<'_>> {
        let same = self.table.iter_hash(spread(hash)).filter(move |slot| slot.hash == hash);
        same.map(|slot| Parts::of(self.arena.get(slot.place))).filter(move |parts| parts.key == key)
    }

    fn has(&self, hash: u32, key: &[u8]) -> bool {
        self.all(hash, key).next().is_some()
    }

    /// Removes a user's records that match.
    fn remove(&mut self, hash: u32, key: &[u8], matches: impl Fn(&Parts<'_>) -> bool) {
        loop {
            let arena = &self.arena;
            let found = self.table.find_entry(spread(hash), |slot| {
                let parts = Parts::of(arena.get(slot.place));
                slot.hash == hash && parts.key == key && matches(&parts)
            });
            let Ok(found) = found else { return };
            let (slot, _) = found.remove();
            self.arena.remove(slot.place);
            self.doubles -= usize::from(self.has(hash, key));
        }
    }

    /// Moves records together while there are too many gaps between them.
    fn tidy(&mut self) {
        while let Some(emptied) = self.arena.take_worst() {
            for (place, record) in emptied.records() {
                let hash = message::hash_of(Parts::of(record).key);
                let Some(slot) = self.table.find_mut(spread(hash), |slot| slot.place == place) else { continue };
                match self.arena.push(&[record]) {
                    Some(place) => slot.place = place,
                    // The number of chunks is at its maximum, so there is no room for the decision.
                    None => {
                        if let Ok(found) = self.table.find_entry(spread(hash), |slot| slot.place == place) {
                            found.remove();
                        }
                    }
                }
            }
            self.arena.hand_back(emptied);
        }
    }

    /// Shrinks the table after many users have gone.
    fn shrink(&mut self) {
        if self.table.len() * 4 < self.table.capacity() {
            self.table.shrink_to(self.table.len(), |slot| slot.spread());
        }
    }
}
