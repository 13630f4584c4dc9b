//! The keyed store of one partition: a user's key and the words of the user's profile, and which of them the changelog
//! does not hold yet.
//!
//! Owns where profiles lie in memory, when an idle one goes, and the lazy changelog: a changed profile is *dirty* from the
//! first event that its record does not cover, and is written oldest first, so that what has to be read again after a
//! crash begins at the oldest dirty event. Leaves alone what the words mean, which is `profile`'s, and when to write,
//! which is the worker's.
//!
//! Time here is the partition's newest event time. A profile whose newest event is older than that by more than the TTL
//! counts as gone, whether or not a sweep has come by, so that sweeping is a matter of memory alone and never shows in a
//! feature.

mod changelog;
mod snapshot;

pub use changelog::{Mark, decode_profile, encode_profile};
pub use snapshot::{SnapshotError, SnapshotOf, SnapshotReader, SnapshotWriter};

use crate::canary::{self, Canary};
use hashbrown::HashTable;
use std::collections::VecDeque;

/// The hash of a user's key by which profiles are found. It is part of no output, and may change between versions.
pub fn hash_key(key: &[u8]) -> u64 {
    rapidhash::v3::rapidhash_v3(key)
}

/// Gives the store of each held partition.
pub trait Stores {
    /// The store of a partition.
    fn store(&mut self, partition: i32) -> &mut Store;
}

/// A sweep is due when the partition's newest event has moved by this share of the TTL.
const SWEEPS_PER_TTL: i64 = 16;

/// The first dirty offset of a profile that the changelog holds as it is.
const CLEAN: i64 = i64::MAX;

/// One user.
#[derive(Debug)]
struct Entry {
    hash: u64,
    key: Box<[u8]>,
    words: Vec<u64>,
    /// The record in the changelog covers every event before this offset.
    covered: i64,
    /// The words have every event before this offset in them when they come from a snapshot.
    applied: i64,
    /// The first event that it does not cover, or [`CLEAN`].
    first_dirty: i64,
}

/// A profile that became dirty. By offset and hash it is found again; if it was written since, it is not.
#[derive(Clone, Copy, Debug)]
struct Dirty {
    offset: i64,
    hash: u64,
    /// The partition's newest event time before that event.
    newest: Option<i64>,
}

/// The profiles of one partition.
#[derive(Debug, Default)]
pub struct Store {
    table: HashTable<Entry>,
    /// The partition's newest event time.
    newest: Option<i64>,
    /// The newest event time at the last sweep.
    swept_at: i64,
    /// Oldest first.
    dirty: VecDeque<Dirty>,
    /// The keys of swept profiles whose records are still in the changelog.
    swept: Vec<Box<[u8]>>,
    /// How many of the held profiles have a record in the changelog.
    recorded: usize,
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

    /// All users with their words, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u64])> {
        self.table.iter().map(|entry| (&*entry.key, entry.words.as_slice()))
    }

    /// The words of a user, made from `fresh` where the user is new, to be changed by the event at `offset`, before which
    /// the partition's newest event time was `newest_before`. Nothing where the profile came from the changelog and has
    /// that event in it. Allocates for a new user alone.
    pub fn entry(
        &mut self,
        hash: u64,
        key: &[u8],
        fresh: &[u64],
        offset: i64,
        newest_before: Option<i64>,
    ) -> Option<&mut Vec<u64>> {
        let same = |entry: &Entry| *entry.key == *key;
        let entry = self.table.entry(hash, same, |entry| entry.hash);
        let make = || Entry {
            hash,
            key: key.into(),
            words: fresh.to_vec(),
            covered: i64::MIN,
            applied: i64::MIN,
            first_dirty: CLEAN,
        };
        let entry = entry.or_insert_with(make).into_mut();
        if offset < entry.covered && !canary::is_in(Canary::ReplayDoubleCounts) {
            return None;
        }
        if entry.first_dirty == CLEAN && !(canary::is_in(Canary::DirtyNotRewritten) && entry.covered > i64::MIN) {
            entry.first_dirty = offset;
            self.dirty.push_back(Dirty { offset, hash, newest: newest_before });
        }
        // A snapshot has it already; the changelog does not, and so the profile is dirty all the same.
        if offset < entry.applied && !canary::is_in(Canary::ReplayDoubleCounts) {
            return None;
        }
        Some(&mut entry.words)
    }

    /// The partition's newest event time.
    pub fn newest(&self) -> Option<i64> {
        self.newest
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
            let Self { table, swept, recorded, .. } = self;
            table.retain(|entry| {
                let gone = is_gone(&entry.words, newest);
                if gone && entry.covered > i64::MIN {
                    *recorded -= 1;
                    swept.push(std::mem::take(&mut entry.key));
                }
                !gone
            });
            self.swept_at = newest;
        }
    }

    /// Takes in a profile that the changelog has complete up to the offset `covered`, and which is itself complete up to
    /// `applied`; no words are a tombstone. Only before any event.
    pub fn restore(&mut self, hash: u64, key: &[u8], words: Option<Vec<u64>>, covered: i64, applied: i64) {
        let same = |entry: &Entry| *entry.key == *key;
        match (self.table.entry(hash, same, |entry| entry.hash), words) {
            (hashbrown::hash_table::Entry::Occupied(entry), None) => {
                entry.remove();
                self.recorded -= 1;
            }
            (hashbrown::hash_table::Entry::Vacant(_), None) => {}
            (hashbrown::hash_table::Entry::Occupied(entry), Some(words)) => {
                let entry = entry.into_mut();
                (entry.words, entry.covered, entry.applied) = (words, covered, applied);
            }
            (hashbrown::hash_table::Entry::Vacant(entry), Some(words)) => {
                self.recorded += 1;
                entry.insert(Entry { hash, key: key.into(), words, covered, applied, first_dirty: CLEAN });
            }
        }
    }

    /// Goes back to the partition's newest event time at a mark, before the input is read again from there.
    pub fn rewind(&mut self, newest: Option<i64>) {
        self.newest = newest;
        self.swept_at = newest.unwrap_or_default();
    }

    /// Hands over, oldest first, at most `max` profiles that are dirty from an event before `below`, as they are with
    /// every event before `next` in them, and with `None` the keys of profiles that have gone. Says how many there were.
    pub fn write_due(
        &mut self,
        below: i64,
        next: i64,
        max: usize,
        mut write: impl FnMut(&[u8], Option<&[u64]>),
    ) -> usize {
        let mut written = 0;
        while written < max
            && let Some(key) = self.swept.pop()
        {
            // A user who came back in the meantime is dirty from there on, and the tombstone is right until then.
            if !canary::is_in(Canary::TombstoneLost) {
                write(&key, None);
            }
            written += 1;
        }
        while written < max
            && let Some(Dirty { offset, hash, .. }) = self.dirty.front().copied()
            && offset < below
        {
            self.dirty.pop_front();
            // Where the profile is gone, or was written since, there is nothing to do.
            if let Some(entry) = self.table.find_mut(hash, |entry| entry.hash == hash && entry.first_dirty == offset) {
                write(&entry.key, Some(&entry.words));
                self.recorded += usize::from(entry.covered == i64::MIN);
                entry.covered = next;
                entry.first_dirty = CLEAN;
                written += 1;
            }
        }
        written
    }

    /// The users whose profiles have a record in the changelog, with their words as they are and the offset up to which the
    /// record is complete; nothing while records of profiles that have gone wait for their tombstones.
    pub fn recorded(&self) -> Option<impl Iterator<Item = (&[u8], &[u64], i64)>> {
        let recorded = self.table.iter().filter(|entry| entry.covered > i64::MIN);
        self.swept.is_empty().then(|| recorded.map(|entry| (&*entry.key, entry.words.as_slice(), entry.covered)))
    }

    /// How many profiles are dirty, at most.
    pub fn dirty(&self) -> usize {
        self.dirty.len() + self.swept.len()
    }

    /// From where the input has to be read again, if it all ended at `next`.
    pub fn mark(&self, next: i64) -> Mark {
        let records = (self.recorded + self.swept.len()) as u64;
        match self.dirty.front() {
            Some(dirty) if !canary::is_in(Canary::MarkAhead) => {
                Mark { replay_from: dirty.offset, newest: dirty.newest, records }
            }
            _ => Mark { replay_from: next, newest: self.newest, records },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_all(store: &mut Store, below: i64, next: i64, max: usize) -> Vec<(Vec<u8>, Option<Vec<u64>>)> {
        let mut written = Vec::new();
        store.write_due(below, next, max, |key, words| written.push((key.to_vec(), words.map(<[u64]>::to_vec))));
        written
    }

    #[test]
    fn users_of_equal_hash_are_kept_apart() {
        let mut store = Store::default();
        store.entry(7, b"ann", &[1], 0, None).expect("not covered").push(2);
        store.entry(7, b"bob", &[3], 1, None).expect("not covered");
        assert_eq!(store.get(7, b"ann"), Some(&[1, 2][..]));
        assert_eq!(store.get(7, b"bob"), Some(&[3][..]));
        assert_eq!((store.get(7, b"eve"), store.len()), (None, 2));
    }

    #[test]
    fn a_sweep_waits_until_it_is_due_and_frees_the_idle() {
        let mut store = Store::default();
        let idle = |words: &[u64], newest: i64| (words[0] as i64) < newest - 160;
        assert_eq!(store.advance(0), 0);
        store.entry(1, b"old", &[0], 0, None);
        store.entry(2, b"new", &[1_000], 1, None);
        assert_eq!((store.advance(10), store.advance(5)), (10, 10));
        store.sweep(160, idle);
        assert_eq!(store.len(), 2, "no sweep is due yet");
        write_all(&mut store, 2, 2, 9);
        store.advance(1_000);
        store.sweep(160, idle);
        assert_eq!((store.get(1, b"old"), store.len()), (None, 1));
        assert_eq!(write_all(&mut store, 0, 2, 9), [(b"old".to_vec(), None)], "its record gets a tombstone");
    }

    #[test]
    fn the_oldest_dirty_profile_is_written_first_and_the_mark_moves_behind_it() {
        let mut store = Store::default();
        for (offset, key) in [(5, b"a"), (6, b"b"), (7, b"a"), (8, b"c")] {
            let before = store.newest();
            store.advance(offset * 10);
            store.entry(u64::from(key[0]), key, &[0], offset, before).expect("not covered")[0] += 1;
        }
        assert_eq!(store.mark(9), Mark { replay_from: 5, newest: None, records: 0 });
        assert_eq!(write_all(&mut store, 9, 9, 1), [(b"a".to_vec(), Some(vec![2]))], "with the event at 7 in it");
        assert_eq!(store.mark(9), Mark { replay_from: 6, newest: Some(50), records: 1 });
        assert_eq!(write_all(&mut store, 8, 9, 9), [(b"b".to_vec(), Some(vec![1]))], "c is not due");
        assert!(store.entry(u64::from(b'a'), b"a", &[0], 8, None).is_none(), "the record covers this event");
        assert!(store.entry(u64::from(b'a'), b"a", &[0], 9, None).is_some());
        assert_eq!(store.mark(10), Mark { replay_from: 8, newest: Some(70), records: 2 });
        assert_eq!(write_all(&mut store, 10, 10, 9).len(), 2);
        assert_eq!(store.mark(10), Mark { replay_from: 10, newest: Some(80), records: 3 });
    }

    #[test]
    fn what_was_restored_skips_the_events_that_its_record_covers() {
        let mut store = Store::default();
        store.restore(1, b"a", Some(vec![3]), 8, 8);
        store.restore(2, b"b", Some(vec![1]), 6, 6);
        store.restore(2, b"b", None, 7, 7);
        store.rewind(Some(40));
        assert!(store.entry(1, b"a", &[0], 7, None).is_none());
        assert_eq!(store.entry(1, b"a", &[0], 8, None), Some(&mut vec![3]));
        assert_eq!(store.entry(2, b"b", &[0], 6, None), Some(&mut vec![0]), "its tombstone came last");
        assert_eq!(store.newest(), Some(40));
    }

    #[test]
    fn a_profile_from_a_snapshot_is_dirty_from_the_first_event_that_the_changelog_lacks() {
        // It was taken for clean, and the changelog never got what the snapshot had.
        let mut store = Store::default();
        store.restore(1, b"a", Some(vec![3]), 5, 8);
        assert!(store.entry(1, b"a", &[0], 4, None).is_none(), "the record has it");
        assert_eq!(store.mark(9).replay_from, 9);
        assert!(store.entry(1, b"a", &[0], 6, None).is_none(), "the snapshot has it");
        assert_eq!(store.mark(9).replay_from, 6);
        assert_eq!(store.entry(1, b"a", &[0], 8, None), Some(&mut vec![3]));
    }
}
