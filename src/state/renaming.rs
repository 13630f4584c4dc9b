//! Users who move to another name, because the key of pseudonyms changes: the profile, what is remembered of an erasure, and
//! what is kept of a choice.
//!
//! Guarantees: a profile has one name at a time. With the position after the event at which it moved, the changelog has the
//! profile under the new name and none under the former one; so a restore finds one of them. What the profile has counted is the
//! same under both.

use super::{Account, CLEAN, Canary, Entry, NamedSince, PackedProfile, Place, Profiles, Store, canary};

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

/// The users who move to another name.
#[derive(Debug, Default)]
pub(super) struct Moves {
    /// Since when users are named by the pseudonyms of which key, if they have moved to it.
    pub(super) named: Option<NamedSince>,
    /// Those who have moved, with the hash of the new name, until their profiles are written under it.
    unwritten: Vec<(u64, Box<[u8]>)>,
}

impl Moves {
    /// Whether every profile that moved is written under its new name.
    pub(super) fn are_written(&self) -> bool {
        self.unwritten.is_empty()
    }
}

impl Store {
    /// Since when users are named by the pseudonyms of which key, if they have moved to it.
    pub fn named(&self) -> Option<NamedSince> {
        self.moves.named
    }

    /// Notes since when users are named by the pseudonyms of which key.
    pub fn name_since(&mut self, named: Option<NamedSince>) {
        self.moves.named = named;
    }

    /// Whether a record is from before the change of the key, and so named by the previous one.
    pub fn is_named_before(&self, offset: i64) -> bool {
        self.moves.named.is_some_and(|named| offset < named.offset)
    }

    /// Whether there is a profile with this name.
    pub fn holds(&self, (hash, key): User<'_>) -> bool {
        self.profiles.find(hash, key).is_some()
    }

    /// Whether there is a profile with this name whose record includes the event at this offset.
    pub fn covers(&self, (hash, key): User<'_>, offset: i64) -> bool {
        let found = self.profiles.find(hash, key);
        found.is_some_and(|entry| offset < self.profiles.open.account(&entry.place).covered)
    }

    /// Makes a profile dirty from the event at this offset, at which it moves, whether or not the event counts.
    pub fn touch(&mut self, (hash, key): User<'_>, offset: i64) {
        let Self { profiles: Profiles { table, open }, dirty, clock, .. } = self;
        let Some(entry) = table.find_mut(hash, |entry| open.key(&entry.place) == key) else { return };
        let account = open.account(&entry.place);
        if account.first_dirty == CLEAN && offset >= account.covered {
            open.set_account(&mut entry.place, Account { first_dirty: offset, ..account });
            dirty.push(offset, hash, clock);
        }
    }

    /// Gives a user's profile the new name, or drops it if there is one with that name, which is then written with the next
    /// commit. The event at which this happens has made both dirty. With `buries`, the next commit has a tombstone for the former
    /// name even if there is no known record of it.
    pub fn rename(&mut self, (former_hash, former): User<'_>, (hash, key): User<'_>, buries: bool) -> Renamed {
        self.profiles.make_room();
        let holds_new = self.holds((hash, key));
        let Self { profiles: Profiles { table, open }, recorded, moves, dirty, .. } = self;
        let Ok(entry) = table.find_entry(former_hash, |entry| open.key(&entry.place) == former) else {
            return Renamed::Nothing;
        };
        let place = entry.remove().0.place;
        let (account, words) = (open.account(&place), open.read(&place).into_owned());
        open.give_back(&place);
        // Only then must the profile be in the same commit. Without a record, a replay gives the same again.
        let is_buried = account.covered > i64::MIN || buries;
        // Nothing else may tell that it is still there.
        if !canary::is_in(Canary::MoveForgetsTombstone) {
            recorded.bury(former_hash, former, account.covered, buries);
        }
        if is_buried {
            moves.unwritten.push((hash, key.into()));
        }
        if holds_new {
            return Renamed::Dropped(words);
        }
        let slot = open.take(hash, key, Account { first_dirty: account.first_dirty, ..Account::NEW });
        open.slots[slot as usize].words.extend_from_slice(&words);
        table.insert_unique(hash, Entry { hash, place: Place::Open(slot) }, |entry| entry.hash);
        // Its replay point is that of the former name.
        if account.first_dirty != CLEAN {
            dirty.insert_without_point(account.first_dirty, hash);
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
        let Self { profiles: Profiles { table, open }, recorded, moves, .. } = self;
        if canary::is_in(Canary::MoveNotCommitted) {
            moves.unwritten.clear();
        }
        for (hash, key) in moves.unwritten.drain(..) {
            // One that was erased since is not found, and one that was written since is clean.
            let Some(entry) = table.find_mut(hash, |entry| *open.key(&entry.place) == *key) else { continue };
            let account = open.account(&entry.place);
            if account.first_dirty == CLEAN && account.covered > i64::MIN {
                continue;
            }
            let (key, profile) = open.pack(&entry.place);
            write(key, profile);
            recorded.write(hash, account.covered, next);
            open.set_account(&mut entry.place, Account { covered: next, first_dirty: CLEAN, ..account });
            written += 1;
        }
        if written > 0 {
            self.drop_written();
        }
        written
    }
}
