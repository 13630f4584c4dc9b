//! What the changelog has of a partition's profiles: how many records, their digest, and those that a tombstone is due for.

use super::changelog::record_digest;

/// A profile that was dropped, until its tombstone is written.
#[derive(Debug)]
struct Swept {
    key: Box<[u8]>,
    /// What its record adds to the digest of the changelog; 0 for an unusable record.
    digest: u64,
}

/// The records of profiles in the changelog.
#[derive(Debug, Default)]
pub(super) struct Recorded {
    /// The number of held profiles that have a record.
    held: usize,
    /// The sum of [`record_digest`] over the held and the swept profiles that have a record.
    digest: u64,
    /// The profiles that are not held any more, and whose records are still in the changelog.
    swept: Vec<Swept>,
    /// Whether the next commit must contain their tombstones, because a user among them was erased, or moved.
    must_bury: bool,
}

impl Recorded {
    /// The number of records.
    pub(super) fn count(&self) -> usize {
        self.held + self.swept.len()
    }

    /// The digest of the records: see [`super::Mark::digest`].
    pub(super) fn digest(&self) -> u64 {
        self.digest
    }

    /// How many tombstones are to be written.
    pub(super) fn tombstones(&self) -> usize {
        self.swept.len()
    }

    /// Whether the next commit must contain the tombstones.
    pub(super) fn must_bury(&self) -> bool {
        self.must_bury
    }

    /// Notes that a held profile has a record that includes every event before `covered`. It replaces one that included every
    /// event before `former`, or none if that is `i64::MIN`.
    #[inline]
    pub(super) fn write(&mut self, hash: u64, former: i64, covered: i64) {
        if former == i64::MIN {
            self.held += 1;
        } else {
            self.digest = self.digest.wrapping_sub(record_digest(hash, former));
        }
        self.digest = self.digest.wrapping_add(record_digest(hash, covered));
    }

    /// Notes that a profile's record has a tombstone in the changelog.
    pub(super) fn remove(&mut self, hash: u64, covered: i64) {
        self.digest = self.digest.wrapping_sub(record_digest(hash, covered));
        self.held -= 1;
    }

    /// Schedules the tombstone of a profile that is not held any more. Returns false if it had no record: `covered` is then
    /// `i64::MIN`.
    pub(super) fn sweep(&mut self, hash: u64, key: &[u8], covered: i64) -> bool {
        let has_record = covered > i64::MIN;
        if has_record {
            self.held -= 1;
            self.swept.push(Swept { key: key.into(), digest: record_digest(hash, covered) });
        }
        has_record
    }

    /// Like [`Self::sweep`], for the next commit. With `buries`, there is a tombstone even without a known record: the
    /// changelog may have one of an earlier generation. Returns whether there is one.
    pub(super) fn bury(&mut self, hash: u64, key: &[u8], covered: i64, buries: bool) -> bool {
        let has_tombstone = self.sweep(hash, key, covered) || {
            if buries {
                self.bury_unknown(key.into());
            }
            buries
        };
        self.must_bury |= has_tombstone;
        has_tombstone
    }

    /// Schedules a tombstone for a user whose record is unusable.
    pub(super) fn bury_unknown(&mut self, key: Box<[u8]>) {
        self.swept.push(Swept { key, digest: 0 });
    }

    /// Takes the key of the next tombstone to be written.
    pub(super) fn take_tombstone(&mut self) -> Option<Box<[u8]>> {
        let Swept { key, digest } = self.swept.pop()?;
        self.digest = self.digest.wrapping_sub(digest);
        Some(key)
    }

    /// Takes the key of the next tombstone that the next commit must contain.
    pub(super) fn take_buried(&mut self) -> Option<Box<[u8]>> {
        let key = self.must_bury.then(|| self.take_tombstone()).flatten();
        self.must_bury = key.is_some();
        key
    }
}
