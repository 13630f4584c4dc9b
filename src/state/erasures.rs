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

use super::{
    Unfit,
    changelog::{checksum_of, record_digest},
    hash_key, pack, unpack,
};
use crate::proto::v1;
use hashbrown::HashTable;
use prost::Message;
use sha2::{Digest, Sha256};

/// The most erased users that a partition remembers.
pub const ERASURES_MAX: usize = 1 << 20;

/// When there are too many, one in this many is dropped.
const DROPPED_SHARE: usize = 8;

/// How many sweeps there are in the time that entries are kept.
const SWEEPS: i64 = 16;

/// The version of the record encoding.
const VERSION: u32 = 1;

/// The prefix of the keys of entries. User keys are UTF-8, which never contains this byte.
const KEY: &[u8] = b"\xfferased/";

/// The bytes of an entry's name: the hash of the user's key, and the first half of its SHA-256.
const NAME_BYTES: usize = 24;

/// The time of an erasure that did not happen.
const NEVER: i64 = -1;

/// The most words that are kept with an entry.
const KEPT_WORDS_MAX: usize = 64;

/// Whether this is the key of an erased user's entry.
pub fn is_erasure_key(key: &[u8]) -> bool {
    key.starts_with(KEY)
}

/// The key of the entry of the user with this key.
pub fn erasure_key(user: &[u8]) -> Vec<u8> {
    Name::of(hash_key(user), user).key()
}

/// Decodes the entry with this key: when its user was erased, in microseconds since 1970. `None` if it only keeps what a user
/// chose whose profile has expired.
///
/// # Errors
/// Why the record is unusable.
pub fn decode_erasure(key: &[u8], bytes: &[u8]) -> Result<Option<i64>, Unfit> {
    decode(key, bytes).map(|entry| entry.erased_at())
}

/// What stands for a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Name {
    hash: u64,
    digest: [u8; NAME_BYTES - 8],
}

impl Name {
    fn of(hash: u64, user: &[u8]) -> Self {
        let digest = Sha256::digest(user);
        Self { hash, digest: *digest.first_chunk().expect("it has 32 bytes") }
    }

    fn key(&self) -> Vec<u8> {
        [KEY, &self.hash.to_be_bytes(), &self.digest].concat()
    }

    fn of_key(key: &[u8]) -> Option<Self> {
        let name: &[u8; NAME_BYTES] = key.strip_prefix(KEY)?.try_into().ok()?;
        let (hash, digest) = name.split_first_chunk()?;
        Some(Self { hash: u64::from_be_bytes(*hash), digest: digest.try_into().ok()? })
    }
}

/// An erased user, or one whose profile has expired.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    name: Name,
    /// When the user was erased, in microseconds since 1970, or [`NEVER`].
    at: i64,
    /// From when on it is kept: the time of the erasure, or of the user's last event if that is later.
    seen: i64,
    kept: Box<[u64]>,
    /// What its record in the changelog adds to the digest; 0 without a record.
    recorded: u64,
    /// Whether that record says the same as the entry.
    is_written: bool,
}

impl Entry {
    fn erased_at(&self) -> Option<i64> {
        Some(self.at).filter(|at| *at != NEVER)
    }

    /// The record, encoded as `aimpoint.v1.Erasure`.
    fn encode(&self) -> Vec<u8> {
        let kept = pack(&self.kept);
        let seen_at = if self.seen == self.at { 0 } else { self.seen };
        let mut record = v1::Erasure { schema_version: VERSION, erased_at: self.at, kept, seen_at, checksum: 0 };
        record.checksum = checksum_of(&self.name.key(), &record.encode_to_vec());
        record.encode_to_vec()
    }

    /// What its record adds to the digest.
    fn digest(&self) -> u64 {
        let kept = self.kept.iter().fold(0, |sum, word| record_digest(sum, *word as i64));
        let digest = record_digest(self.name.hash ^ kept, self.at);
        if self.seen == self.at { digest } else { record_digest(digest, self.seen) }
    }
}

fn decode(key: &[u8], bytes: &[u8]) -> Result<Entry, Unfit> {
    let record = v1::Erasure::decode(bytes).map_err(|_| Unfit::Damaged)?;
    if record.schema_version != VERSION {
        return Err(Unfit::Version);
    }
    let unsigned = v1::Erasure { checksum: 0, ..record.clone() };
    let name = Name::of_key(key).ok_or(Unfit::Damaged)?;
    let kept = unpack(&record.kept).filter(|kept| kept.len() <= KEPT_WORDS_MAX).ok_or(Unfit::Damaged)?;
    let (at, seen) = (record.erased_at, if record.seen_at == 0 { record.erased_at } else { record.seen_at });
    let is_sound = super::is_event_time(seen)
        && (super::is_event_time(at) && at <= seen || at == NEVER && !kept.is_empty())
        && record.checksum == checksum_of(key, &unsigned.encode_to_vec());
    if is_sound {
        let mut entry = Entry { name, at, seen, kept: kept.into(), recorded: 0, is_written: true };
        entry.recorded = entry.digest();
        Ok(entry)
    } else {
        Err(Unfit::Damaged)
    }
}

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
        let order = |entry: &Entry| (entry.at != NEVER, entry.seen);
        let mut orders: Vec<(bool, i64)> = self.table.iter().map(order).collect();
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
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000;

    fn written(erasures: &mut Erasures) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        let mut all = Vec::new();
        erasures.write(|key, record| all.push((key.to_vec(), record.map(<[u8]>::to_vec))));
        all
    }

    fn note(erasures: &mut Erasures, user: &[u8], at: i64, kept: Option<&[u64]>) {
        erasures.note(hash_key(user), user, at, kept);
    }

    #[test]
    fn an_entry_comes_back_from_its_record_and_names_nobody() {
        let mut erasures = Erasures::default();
        note(&mut erasures, b"ann@example.com", 70, Some(&[0, 7, u64::MAX]));
        let records = written(&mut erasures);
        assert_eq!((records.len(), erasures.is_written(), written(&mut erasures).len()), (1, true, 0));
        let (key, record) = (&records[0].0, records[0].1.as_deref().expect("a record"));
        assert!(is_erasure_key(key) && super::super::is_reserved_key(key) && *key == erasure_key(b"ann@example.com"));
        assert!(![key, record].iter().any(|it| it.windows(3).any(|part| part == b"ann")), "the id is in it");
        let mut restored = Erasures::default();
        restored.restore(key, Some(record)).expect("a sound record");
        let hash = hash_key(b"ann@example.com");
        assert_eq!(restored.at(hash, b"ann@example.com"), Some(70));
        assert_eq!(restored.kept(hash, b"ann@example.com"), Some((&[0, 7, u64::MAX][..], 70)));
        assert_eq!(restored.at(hash, b"bob"), None, "the hash alone is not the user");
        assert!(restored.is_written());
        restored.restore(key, None).expect("a tombstone");
        assert!(restored.is_empty());
    }

    #[test]
    fn records_are_written_and_read_as_changelogs_have_them() {
        // If these bytes changed, no erasure of an earlier release could be read.
        const KEY: &str = "ff6572617365642fc5e7b9efa07eddf349915e0d7d4b402e3017d010bc1c0e83";
        const RECORD: &str = "0801108080f9c0c1c482031a0390700779a8a6af704c2f5050";
        let mut erasures = Erasures::default();
        note(&mut erasures, b"ann", 1_700_000_000_000_000, Some(&[0, 0, 7]));
        let (key, record) = erasures.records().next().expect("one entry");
        assert_eq!((crate::hex::encode(&key), crate::hex::encode(&record)), (KEY.to_owned(), RECORD.to_owned()));
        assert_eq!(decode_erasure(&key, &record), Ok(Some(1_700_000_000_000_000)));
    }

    #[test]
    fn a_record_that_was_changed_anywhere_is_noticed_and_removed() {
        let mut erasures = Erasures::default();
        note(&mut erasures, b"ann", 70, Some(&[3]));
        let (key, record) = erasures.records().next().expect("one entry");
        for bit in 0..record.len() * 8 {
            let mut changed = record.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let mut restored = Erasures::default();
            assert!(restored.restore(&key, Some(&changed)).is_err(), "bit {bit}");
            assert_eq!(written(&mut restored), [(key.clone(), None)]);
        }
        let other = erasure_key(b"bob");
        assert_eq!(Erasures::default().restore(&other, Some(&record)), Err(Unfit::Damaged), "it is another user's");
    }

    #[test]
    fn of_several_erasures_the_latest_counts_and_what_was_kept_stays() {
        let mut erasures = Erasures::default();
        note(&mut erasures, b"ann", 70, Some(&[9]));
        note(&mut erasures, b"ann", 50, None);
        let hash = hash_key(b"ann");
        assert_eq!((erasures.at(hash, b"ann"), erasures.kept(hash, b"ann")), (Some(70), Some((&[9][..], 70))));
        assert_eq!(written(&mut erasures).len(), 1, "one record for both");
        note(&mut erasures, b"ann", 50, None);
        assert!(erasures.is_written(), "nothing has changed");
        note(&mut erasures, b"ann", 90, None);
        assert_eq!((written(&mut erasures).len(), erasures.at(hash, b"ann")), (1, Some(90)));
    }

    #[test]
    fn a_choice_is_kept_without_an_erasure_and_from_when_the_user_was_last_seen() {
        let mut erasures = Erasures::default();
        let hash = hash_key(b"ann");
        erasures.keep(hash, b"ann", 2 * HOUR, &[9]);
        assert_eq!((erasures.at(hash, b"ann"), erasures.kept(hash, b"ann")), (None, Some((&[9][..], 2 * HOUR))));
        let records = written(&mut erasures);
        let (key, record) = (&records[0].0, records[0].1.as_deref().expect("a record"));
        assert_eq!(decode_erasure(key, record), Ok(None));
        let mut restored = Erasures::default();
        restored.restore(key, Some(record)).expect("a sound record");
        assert_eq!(restored.kept(hash, b"ann"), erasures.kept(hash, b"ann"));
        assert_eq!(restored.digest(), erasures.digest());
        // With an erasure before it, each part has its own time.
        note(&mut erasures, b"bob", HOUR, Some(&[3]));
        erasures.keep(hash_key(b"bob"), b"bob", 3 * HOUR, &[4]);
        let (_, both) = written(&mut erasures).pop().expect("bob's");
        restored.restore(&erasure_key(b"bob"), both.as_deref()).expect("a sound record");
        assert_eq!(restored.digest(), erasures.digest());
        let bob = hash_key(b"bob");
        assert_eq!((restored.at(bob, b"bob"), restored.kept(bob, b"bob")), (Some(HOUR), Some((&[4][..], 3 * HOUR))));
        // A later choice that refuses nothing ends it; the erasure stays.
        restored.keep(bob, b"bob", 4 * HOUR, &[]);
        restored.keep(hash, b"ann", 4 * HOUR, &[]);
        assert_eq!((restored.at(bob, b"bob"), restored.len()), (Some(HOUR), 1));
        assert_eq!(written(&mut restored)[0], (key.clone(), None), "ann's entry has a tombstone");
        restored.sweep(Some(0), 10 * HOUR);
        restored.sweep(Some(13 * HOUR), 10 * HOUR);
        assert_eq!(restored.len(), 1, "it is kept from the user's last event on");
        restored.sweep(Some(15 * HOUR), 10 * HOUR);
        assert!(restored.is_empty());
    }

    #[test]
    fn the_digest_is_that_of_the_records_in_the_changelog() {
        let restored = |records: &[(Vec<u8>, Option<Vec<u8>>)]| {
            let mut restored = Erasures::default();
            for (key, record) in records {
                restored.restore(key, record.as_deref()).expect("it is sound");
            }
            restored.digest()
        };
        let mut erasures = Erasures::default();
        note(&mut erasures, b"ann", 70, Some(&[9]));
        note(&mut erasures, b"bob", 80, None);
        assert_eq!(erasures.digest(), 0, "nothing is written yet");
        let mut changelog = written(&mut erasures);
        assert_eq!(erasures.digest(), restored(&changelog));
        assert_ne!(erasures.digest(), restored(&changelog[1..]), "one is missing");
        // A newer entry, and one that goes before it was written again.
        note(&mut erasures, b"ann", 90, None);
        note(&mut erasures, b"bob", 85, None);
        assert_eq!(erasures.digest(), restored(&changelog));
        erasures.remove(|entry| entry.at == 85);
        changelog.extend(written(&mut erasures));
        assert_eq!((erasures.len(), erasures.digest()), (1, restored(&changelog)));
        erasures.write_again();
        assert_eq!(erasures.digest(), 0);
        assert_eq!(
            (restored(&written(&mut erasures)), erasures.digest()),
            (restored(&changelog), restored(&changelog))
        );
        erasures.remove(|_| true);
        written(&mut erasures);
        assert_eq!(erasures.digest(), 0);
    }

    #[test]
    fn entries_are_removed_after_their_time_and_not_before() {
        let mut erasures = Erasures::default();
        note(&mut erasures, b"ann", 0, None);
        note(&mut erasures, b"bob", 5 * HOUR, None);
        written(&mut erasures);
        erasures.sweep(Some(HOUR), 10 * HOUR);
        erasures.sweep(Some(10 * HOUR), 10 * HOUR);
        assert_eq!((erasures.len(), erasures.is_written()), (2, true));
        erasures.sweep(Some(11 * HOUR), 10 * HOUR);
        assert_eq!(written(&mut erasures), [(erasure_key(b"ann"), None)]);
        assert_eq!(erasures.at(hash_key(b"bob"), b"bob"), Some(5 * HOUR));
    }

    #[test]
    fn beyond_the_bound_the_oldest_are_dropped_and_counted() {
        let mut erasures = Erasures::default();
        (0..100_i64).for_each(|at| note(&mut erasures, at.to_string().as_bytes(), at, None));
        erasures.bound(99);
        let dropped = erasures.take_dropped();
        assert_eq!((dropped, erasures.len(), erasures.take_dropped()), (13, 87, 0));
        assert_eq!(erasures.at(hash_key(b"12"), b"12"), None);
        assert_eq!(erasures.at(hash_key(b"13"), b"13"), Some(13));
        assert_eq!(written(&mut erasures).len(), 87, "what was dropped was never written");
    }

    #[test]
    fn opt_outs_are_dropped_before_erasures_that_are_older() {
        let mut erasures = Erasures::default();
        for at in 0..50_i64 {
            note(&mut erasures, at.to_string().as_bytes(), at, None);
            let user = format!("opted out {at}");
            erasures.keep(hash_key(user.as_bytes()), user.as_bytes(), 1_000 + at, &[7]);
        }
        erasures.bound(99);
        assert_eq!((erasures.take_dropped(), erasures.len()), (13, 87));
        assert_eq!(erasures.at(hash_key(b"0"), b"0"), Some(0));
        let kept = |at: i64| {
            let user = format!("opted out {at}");
            erasures.kept(hash_key(user.as_bytes()), user.as_bytes()).is_some()
        };
        assert_eq!((kept(12), kept(13)), (false, true));
    }
}
