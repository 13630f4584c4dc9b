//! What must outlive profiles: which users of a partition were erased, and when, so that they do not come back; and what users
//! chose whose profiles have expired.
//!
//! Owns one entry for each such user: the time of the erasure, if there was one, and what must not be forgotten with the user
//! (words whose meaning is up to the caller), with the time of the user's last event. An entry has no id but two hashes of it,
//! so it names nobody; whoever knows an id can find its entry.
//!
//! Guarantees: each part of an entry counts until its time plus the declared one has passed, by the partition's time, whether or
//! not it has been removed. An entry that the changelog lacks is written with the next commit of the partition, never later, so no
//! committed position is ahead of it. The digest of the changelog covers the entries in it, so a restore notices if one is
//! missing. Limits: [`ERASURES_MAX`] entries of about 90 bytes. Beyond that the oldest ones are
//! dropped and counted.

mod record;

use super::Unfit;
use hashbrown::HashTable;
use record::{Entry, NEVER, Name, decode};
pub use record::{decode_erasure, erasure_key, is_erasure_key};

/// The most erased users that a partition remembers.
pub const ERASURES_MAX: usize = 1 << 20;

/// When there are too many, one in this many is dropped.
const DROPPED_SHARE: usize = 8;

/// How many sweeps there are in the time that entries are kept.
const SWEEPS: i64 = 16;

/// The erased users of a partition, and those whose choice has outlived their profile.
#[derive(Debug, Default)]
pub struct Erasures {
    table: HashTable<Entry>,
    /// The entries that the changelog lacks.
    unwritten: Vec<Name>,
    /// The keys of records in the changelog that stand for nothing any more, and what they add to the digest.
    obsolete: Vec<(Vec<u8>, u64)>,
    /// The sum over the records in the changelog.
    digest: u64,
    /// The partition's time at the last sweep.
    swept_at: Option<i64>,
    /// Entries dropped because there were too many, since the last call of [`Self::take_dropped`].
    dropped: u64,
}

impl Erasures {
    /// How many users are remembered.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// When the user was erased, in microseconds since 1970.
    pub fn at(&self, hash: u64, user: &[u8]) -> Option<i64> {
        self.find(hash, user)?.erased_at()
    }

    /// What is kept of the user, and from when on.
    pub fn kept(&self, hash: u64, user: &[u8]) -> Option<(&[u64], i64)> {
        self.find(hash, user).map(|entry| (&*entry.kept, entry.seen))
    }

    fn find(&self, hash: u64, user: &[u8]) -> Option<&Entry> {
        // The digest is computed only for a user whose hash is known.
        self.table.find(hash, |entry| entry.name.hash == hash && entry.name == Name::of(hash, user))
    }

    /// Notes that the user was erased at this time, and what is to be kept of the user; without anything, what was kept
    /// before stays. Of several times the latest counts.
    pub fn note(&mut self, hash: u64, user: &[u8], at: i64, kept: Option<&[u64]>) {
        let name = Name::of(hash, user);
        let before = self.table.find(hash, |entry| entry.name == name);
        let kept = kept.unwrap_or(before.map(|entry| &*entry.kept).unwrap_or_default()).into();
        let at = before.map_or(at, |before| before.at.max(at));
        self.change(name, at, at, kept);
    }

    /// Keeps what a user chose whose profile has expired, and who was last seen at this time. Without any words, what was kept
    /// before is forgotten.
    pub fn keep(&mut self, hash: u64, user: &[u8], seen: i64, kept: &[u64]) {
        let name = Name::of(hash, user);
        let at = self.table.find(hash, |entry| entry.name == name).map_or(NEVER, |before| before.at);
        if at == NEVER && kept.is_empty() {
            self.remove_one(name);
        } else {
            self.change(name, at, seen.max(1), kept.into());
        }
    }

    /// Moves the entry of a user to another name, on which there may be one. Of two erasures the later one counts. `merge` makes
    /// one of what is kept under the former name and under the new one.
    pub fn rename(
        &mut self,
        (former_hash, former): (u64, &[u8]),
        (hash, user): (u64, &[u8]),
        merge: impl FnOnce(&[u64], &[u64]) -> Vec<u64>,
    ) {
        let Some(entry) = self.find(former_hash, former).cloned() else { return };
        let name = Name::of(hash, user);
        let known = self.table.find(hash, |entry| entry.name == name);
        let kept = match known.filter(|known| !known.kept.is_empty()) {
            Some(known) if !entry.kept.is_empty() => merge(&entry.kept, &known.kept).into(),
            Some(known) => known.kept.clone(),
            None => entry.kept.clone(),
        };
        let at = known.map_or(entry.at, |known| known.at.max(entry.at));
        self.remove_one(entry.name);
        self.change(name, at, entry.seen, kept);
    }

    fn change(&mut self, name: Name, at: i64, seen: i64, kept: Box<[u64]>) {
        let known = self.table.find(name.hash, |entry| entry.name == name);
        let entry = Entry {
            name,
            at,
            seen: known.map_or(seen, |known| known.seen.max(seen)).max(at),
            kept,
            recorded: known.map_or(0, |known| known.recorded),
            is_written: false,
        };
        if known.is_some_and(|known| (known.at, known.seen, &known.kept) == (entry.at, entry.seen, &entry.kept)) {
            return;
        }
        if known.is_none_or(|known| known.is_written) {
            self.unwritten.push(name);
        }
        self.put(entry);
        self.bound(ERASURES_MAX);
    }

    fn remove_one(&mut self, name: Name) {
        if let Ok(entry) = self.table.find_entry(name.hash, |entry| entry.name == name) {
            let recorded = entry.remove().0.recorded;
            if recorded != 0 {
                self.obsolete.push((name.key(), recorded));
            }
        }
    }

    fn put(&mut self, entry: Entry) {
        let hash = entry.name.hash;
        match self.table.entry(hash, |known| known.name == entry.name, |known| known.name.hash) {
            hashbrown::hash_table::Entry::Occupied(mut known) => *known.get_mut() = entry,
            hashbrown::hash_table::Entry::Vacant(place) => drop(place.insert(entry)),
        }
    }

    /// Drops the oldest entries if there are more than `most`: first opt-outs of users who were never erased, because there may
    /// be many of them, and an erasure is a promise.
    fn bound(&mut self, most: usize) {
        if self.table.len() <= most {
            return;
        }
        // Many may be of the same time, such as those of one file of ids. Of these too, no more are dropped than must be.
        let order = |entry: &Entry| (entry.at != NEVER, entry.seen, entry.name.hash);
        let mut orders: Vec<(bool, i64, u64)> = self.table.iter().map(order).collect();
        let (_, last, _) = orders.select_nth_unstable(most / DROPPED_SHARE);
        let last = *last;
        let before = self.table.len();
        self.remove(|entry| order(entry) <= last);
        self.dropped += (before - self.table.len()) as u64;
    }

    fn remove(&mut self, is_gone: impl Fn(&Entry) -> bool) {
        let Self { table, obsolete, .. } = self;
        table.retain(|entry| {
            let is_gone = is_gone(entry);
            if is_gone && entry.recorded != 0 {
                obsolete.push((entry.name.key(), entry.recorded));
            }
            !is_gone
        });
    }

    /// Removes the entries older than `keep` at this time, now and then. `time` must be the partition's time at the place
    /// from which a replay would start, so that a replay still finds every entry that counted.
    pub fn sweep(&mut self, time: Option<i64>, keep: i64) {
        let Some(time) = time.filter(|_| !self.is_empty()) else { return };
        let swept_at = *self.swept_at.get_or_insert(time);
        if time.saturating_sub(swept_at) > keep / SWEEPS {
            self.swept_at = Some(time);
            self.remove(|entry| entry.seen.saturating_add(keep) < time);
        }
    }

    /// Restores an entry from a record of the changelog or of a snapshot; without a payload, it is removed.
    ///
    /// # Errors
    /// Why the record is unusable. Its removal from the changelog is scheduled.
    pub fn restore(&mut self, key: &[u8], payload: Option<&[u8]>) -> Result<(), Unfit> {
        let Some(payload) = payload else {
            if let Some(name) = Name::of_key(key)
                && let Ok(entry) = self.table.find_entry(name.hash, |entry| entry.name == name)
            {
                self.digest = self.digest.wrapping_sub(entry.remove().0.recorded);
            }
            return Ok(());
        };
        let entry = decode(key, payload).inspect_err(|_| self.obsolete.push((key.to_vec(), 0)))?;
        let before =
            self.table.find(entry.name.hash, |known| known.name == entry.name).map_or(0, |known| known.recorded);
        self.digest = self.digest.wrapping_sub(before).wrapping_add(entry.recorded);
        self.put(entry);
        Ok(())
    }

    /// Writes every entry again with the next commit: the changelog may lack some of them.
    pub fn write_again(&mut self) {
        self.unwritten.clear();
        for entry in &mut self.table {
            (entry.recorded, entry.is_written) = (0, false);
            self.unwritten.push(entry.name);
        }
        self.obsolete.iter_mut().for_each(|(_, digest)| *digest = 0);
        self.digest = 0;
    }

    /// Hands over what the changelog lacks: keys and records, and keys without a record.
    pub fn write(&mut self, mut write: impl FnMut(&[u8], Option<&[u8]>)) {
        for (key, digest) in self.obsolete.drain(..) {
            self.digest = self.digest.wrapping_sub(digest);
            write(&key, None);
        }
        for name in self.unwritten.drain(..) {
            // An entry that was removed in the meantime has a tombstone, or was never written.
            if let Some(entry) = self.table.find_mut(name.hash, |entry| entry.name == name) {
                let digest = entry.digest();
                self.digest = self.digest.wrapping_sub(entry.recorded).wrapping_add(digest);
                (entry.recorded, entry.is_written) = (digest, true);
                write(&name.key(), Some(&entry.encode()));
            }
        }
    }

    /// Whether the changelog has everything.
    pub fn is_written(&self) -> bool {
        self.unwritten.is_empty() && self.obsolete.is_empty()
    }

    /// The digest of the records in the changelog: see [`super::Mark::digest`].
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// All entries as records: key and value.
    pub fn records(&self) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> + '_ {
        self.table.iter().map(|entry| (entry.name.key(), entry.encode()))
    }

    /// How many entries were dropped since the last call, because there were too many.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }
}

#[cfg(test)]
mod tests;
