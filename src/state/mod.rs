//! The keyed store of one partition: a user's key and the words of the user's profile.
//!
//! Owns where profiles lie in memory and when an idle one goes. Leaves alone what the words mean, which is `profile`'s.
//!
//! Time here is the partition's newest event time. A profile whose newest event is older than that by more than the TTL
//! counts as gone, whether or not a sweep has come by, so that sweeping is a matter of memory alone and never shows in a
//! feature.

use hashbrown::HashTable;

/// Gives the store of each held partition.
pub trait Stores {
    /// The store of a partition.
    fn store(&mut self, partition: i32) -> &mut Store;
}

/// A sweep is due when the partition's newest event has moved by this share of the TTL.
const SWEEPS_PER_TTL: i64 = 16;

/// One user.
#[derive(Debug)]
struct Entry {
    hash: u64,
    key: Box<[u8]>,
    words: Vec<u64>,
}

/// The profiles of one partition.
#[derive(Debug, Default)]
pub struct Store {
    table: HashTable<Entry>,
    /// The partition's newest event time.
    newest: Option<i64>,
    /// The newest event time at the last sweep.
    swept_at: i64,
}

impl Store {
    /// How many profiles are held.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// The bytes that keys and profiles take, without the table's own slack.
    pub fn bytes(&self) -> usize {
        let entry = |entry: &Entry| size_of::<Entry>() + entry.key.len() + entry.words.capacity() * 8;
        self.table.iter().map(entry).sum()
    }

    /// The words of a user, if there are any.
    pub fn get(&self, hash: u64, key: &[u8]) -> Option<&[u64]> {
        self.table.find(hash, |entry| *entry.key == *key).map(|entry| entry.words.as_slice())
    }

    /// The words of a user, made from `fresh` where the user is new. Allocates for a new user alone.
    pub fn entry(&mut self, hash: u64, key: &[u8], fresh: &[u64]) -> &mut Vec<u64> {
        let same = |entry: &Entry| *entry.key == *key;
        let entry = self.table.entry(hash, same, |entry| entry.hash);
        let make = || Entry { hash, key: key.into(), words: fresh.to_vec() };
        &mut entry.or_insert_with(make).into_mut().words
    }

    /// Moves the partition's newest event time on, and gives it.
    pub fn advance(&mut self, time: i64) -> i64 {
        let newest = self.newest.map_or(time, |newest| newest.max(time));
        if self.newest.is_none() {
            self.swept_at = newest;
        }
        self.newest = Some(newest);
        newest
    }

    /// Frees the profiles for which `is_gone` says so at the partition's newest event time, where a sweep is due.
    pub fn sweep(&mut self, ttl: i64, is_gone: impl Fn(&[u64], i64) -> bool) {
        let Some(newest) = self.newest else { return };
        if newest.saturating_sub(self.swept_at) > ttl / SWEEPS_PER_TTL {
            self.table.retain(|entry| !is_gone(&entry.words, newest));
            self.swept_at = newest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_of_equal_hash_are_kept_apart() {
        let mut store = Store::default();
        store.entry(7, b"ann", &[1]).push(2);
        store.entry(7, b"bob", &[3]);
        assert_eq!(store.get(7, b"ann"), Some(&[1, 2][..]));
        assert_eq!(store.get(7, b"bob"), Some(&[3][..]));
        assert_eq!((store.get(7, b"eve"), store.len()), (None, 2));
    }

    #[test]
    fn a_sweep_waits_until_it_is_due_and_frees_the_idle() {
        let mut store = Store::default();
        let idle = |words: &[u64], newest: i64| (words[0] as i64) < newest - 160;
        assert_eq!(store.advance(0), 0);
        store.entry(1, b"old", &[0]);
        store.entry(2, b"new", &[1_000]);
        assert_eq!((store.advance(10), store.advance(5)), (10, 10));
        store.sweep(160, idle);
        assert_eq!(store.len(), 2, "no sweep is due yet");
        store.advance(1_000);
        store.sweep(160, idle);
        assert_eq!((store.get(1, b"old"), store.len()), (None, 1));
    }
}
