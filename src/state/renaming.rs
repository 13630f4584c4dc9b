//! Users who move to another name, because the key of pseudonyms changes: the profile, what is remembered of an erasure, and
//! what is kept of a choice.
//!
//! Guarantees: a profile has one name at a time. With the position after the event at which it moved, the changelog has the
//! profile under the new name and none under the former one; so a restore finds one of them. What the profile has counted is the
//! same under both.

use super::{
    Account, CLEAN, Canary, Dirty, Entry, NamedSince, POINT_OFFSETS, PackedProfile, Place, Point, Store, Swept, canary,
    changelog::record_digest,
};

/// A user: the hash of the key, and the key.
type User<'a> = (u64, &'a [u8]);

/// What became of the profile under the former name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Renamed {
    /// There was none.
    Nothing,
    /// It has the new name.
    Moved,
    /// There is one under the new name, which stays. These were the words of the other one.
    Dropped(Vec<u64>),
}

impl Store {
    /// Since when users are named by the pseudonyms of which key, if they have moved to it.
    pub fn named(&self) -> Option<NamedSince> {
        self.named
    }

    /// Notes since when users are named by the pseudonyms of which key.
    pub fn name_since(&mut self, named: Option<NamedSince>) {
        self.named = named;
    }

    /// Whether a record is from before the change of the key, and so named by the previous one.
    pub fn is_named_before(&self, offset: i64) -> bool {
        self.named.is_some_and(|named| offset < named.offset)
    }

    /// Whether there is a profile with this name.
    pub fn holds(&self, (hash, key): User<'_>) -> bool {
        self.table.find(hash, |entry| self.open.key(&entry.place) == key).is_some()
    }

    /// Whether there is a profile with this name whose record includes the event at this offset.
    pub fn covers(&self, (hash, key): User<'_>, offset: i64) -> bool {
        let found = self.table.find(hash, |entry| self.open.key(&entry.place) == key);
        found.is_some_and(|entry| offset < self.open.account(&entry.place).covered)
    }

    /// Makes a profile dirty from the event at this offset, at which it moves, whether or not the event counts.
    pub fn touch(&mut self, (hash, key): User<'_>, offset: i64) {
        let Self { table, open, dirty, points, clock, .. } = self;
        let Some(entry) = table.find_mut(hash, |entry| open.key(&entry.place) == key) else { return };
        let account = open.account(&entry.place);
        if account.first_dirty == CLEAN && offset >= account.covered {
            open.set_account(&mut entry.place, Account { first_dirty: offset, ..account });
            if points.back().is_none_or(|point| offset - point.offset >= POINT_OFFSETS) {
                points.push_back(Point { offset, clock: *clock });
            }
            dirty.push_back(Dirty { offset, hash });
        }
    }

    /// Gives a user's profile the new name, or drops it if there is one with that name, which is then written with the next
    /// commit. The event at which this happens has made both dirty. With `buries`, the next commit has a tombstone for the former
    /// name even if there is no known record of it.
    pub fn rename(&mut self, (former_hash, former): User<'_>, (hash, key): User<'_>, buries: bool) -> Renamed {
        self.make_room();
        let holds_new = self.holds((hash, key));
        let Self { table, open, recorded, swept, must_bury, moved, dirty, .. } = self;
        let Ok(entry) = table.find_entry(former_hash, |entry| open.key(&entry.place) == former) else {
            return Renamed::Nothing;
        };
        let place = entry.remove().0.place;
        let (account, words) = (open.account(&place), open.read(&place).into_owned());
        open.give_back(&place);
        let has_record = account.covered > i64::MIN;
        let digest = if has_record { record_digest(former_hash, account.covered) } else { 0 };
        // Only then must the profile be in the same commit. Without a record, a replay gives the same again.
        let is_buried = has_record || buries;
        if canary::is_in(Canary::MoveForgetsTombstone) {
            // Nothing else may tell that it is still there.
        } else if is_buried {
            *recorded -= usize::from(has_record);
            *must_bury = true;
            swept.push(Swept { key: former.into(), digest });
        }
        if is_buried {
            moved.push((hash, key.into()));
        }
        if holds_new {
            return Renamed::Dropped(words);
        }
        let slot = open.take(hash, key, Account { first_dirty: account.first_dirty, ..Account::NEW });
        open.slots[slot as usize].words.extend_from_slice(&words);
        table.insert_unique(hash, Entry { hash, place: Place::Open(slot) }, |entry| entry.hash);
        // Its replay point is that of the former name.
        if account.first_dirty != CLEAN {
            let offset = account.first_dirty;
            dirty.insert(dirty.partition_point(|dirty| dirty.offset <= offset), Dirty { offset, hash });
        }
        Renamed::Moved
    }

    /// Moves what is remembered of a user's erasure, and what is kept of the user's choice, to the new name.
    pub fn rename_notes(&mut self, former: User<'_>, new: User<'_>, merge: impl FnOnce(&[u64], &[u64]) -> Vec<u64>) {
        if !self.erasures.is_empty() && !canary::is_in(Canary::OptOutLostInMove) {
            self.erasures.rename(former, new, merge);
        }
    }

    /// Hands over the profiles of users who moved, which include every event before `next`. It must be part of every commit of
    /// the partition, together with the tombstones of their former names ([`Self::write_erasures`]). Returns how many there were.
    pub fn write_moved(&mut self, next: i64, mut write: impl FnMut(&[u8], PackedProfile<'_>)) -> usize {
        let mut written = 0;
        let Self { table, open, recorded, digest, moved, .. } = self;
        if canary::is_in(Canary::MoveNotCommitted) {
            moved.clear();
        }
        for (hash, key) in moved.drain(..) {
            // One that was erased since is not found, and one that was written since is clean.
            let Some(entry) = table.find_mut(hash, |entry| *open.key(&entry.place) == *key) else { continue };
            let account = open.account(&entry.place);
            if account.first_dirty == CLEAN && account.covered > i64::MIN {
                continue;
            }
            let (key, profile) = open.pack(&entry.place);
            write(key, profile);
            if account.covered == i64::MIN {
                *recorded += 1;
            } else {
                *digest = digest.wrapping_sub(record_digest(hash, account.covered));
            }
            *digest = digest.wrapping_add(record_digest(hash, next));
            open.set_account(&mut entry.place, Account { covered: next, first_dirty: CLEAN, ..account });
            written += 1;
        }
        if written > 0 {
            self.drop_written();
        }
        written
    }
}
