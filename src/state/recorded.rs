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
    /// Those among them whose tombstones the next commit must contain, because the user was erased, or moved. The others may be
    /// many, and wait for room.
    buried: Vec<Swept>,
}

impl Recorded {
    /// The number of records.
    pub(super) fn count(&self) -> usize {
        self.held + self.tombstones()
    }

    /// The digest of the records: see [`super::Mark::digest`].
    pub(super) fn digest(&self) -> u64 {
        self.digest
    }

    /// How many tombstones are to be written.
    pub(super) fn tombstones(&self) -> usize {
        self.swept.len() + self.buried.len()
    }

    /// Whether the next commit must contain tombstones.
    pub(super) fn must_bury(&self) -> bool {
        !self.buried.is_empty()
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

    /// Schedules the tombstone of a profile that is not held any more. `covered` is `i64::MIN` if it had no record, and then there
    /// is none.
    pub(super) fn sweep(&mut self, hash: u64, key: &[u8], covered: i64) {
        let swept = self.let_go(hash, key, covered);
        self.swept.extend(swept);
    }

    /// Like [`Self::sweep`], for the next commit. With `buries`, there is a tombstone even without a known record: the
    /// changelog may have one of an earlier generation. Returns whether there is one.
    pub(super) fn bury(&mut self, hash: u64, key: &[u8], covered: i64, buries: bool) -> bool {
        let unknown = || buries.then(|| Swept { key: key.into(), digest: 0 });
        let swept = self.let_go(hash, key, covered).or_else(unknown);
        let has_tombstone = swept.is_some();
        self.buried.extend(swept);
        has_tombstone
    }

    /// Counts out a profile that is not held any more, if it had a record.
    fn let_go(&mut self, hash: u64, key: &[u8], covered: i64) -> Option<Swept> {
        (covered > i64::MIN).then(|| {
            self.held -= 1;
            Swept { key: key.into(), digest: record_digest(hash, covered) }
        })
    }

    /// Schedules a tombstone for a user whose record is unusable.
    pub(super) fn bury_unknown(&mut self, key: Box<[u8]>) {
        self.swept.push(Swept { key, digest: 0 });
    }

    /// Takes the key of the next tombstone to be written.
    pub(super) fn take_tombstone(&mut self) -> Option<Box<[u8]>> {
        self.take_buried().or_else(|| self.swept.pop().map(|swept| self.written(swept)))
    }

    /// Takes the key of the next tombstone that the next commit must contain.
    pub(super) fn take_buried(&mut self) -> Option<Box<[u8]>> {
        self.buried.pop().map(|swept| self.written(swept))
    }

    fn written(&mut self, Swept { key, digest }: Swept) -> Box<[u8]> {
        self.digest = self.digest.wrapping_sub(digest);
        key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_erasure_does_not_wait_for_profiles_that_have_expired_nor_bring_their_tombstones_along() {
        let mut recorded = Recorded::default();
        for user in 0..100_u64 {
            recorded.write(user, i64::MIN, 7);
        }
        for user in 0..99_u64 {
            recorded.sweep(user, &user.to_be_bytes(), 7);
        }
        assert!(!recorded.must_bury());
        assert!(recorded.bury(99, b"ann", 7, false) && recorded.must_bury());
        assert_eq!((recorded.tombstones(), recorded.count()), (100, 100));
        assert_eq!(recorded.take_buried().as_deref(), Some(&b"ann"[..]));
        assert_eq!((recorded.take_buried(), recorded.must_bury(), recorded.tombstones()), (None, false, 99));
        while recorded.take_tombstone().is_some() {}
        assert_eq!((recorded.digest(), recorded.count()), (0, 0));
        assert!(!recorded.bury(1, b"bob", i64::MIN, false) && recorded.bury(1, b"bob", i64::MIN, true));
    }
}
