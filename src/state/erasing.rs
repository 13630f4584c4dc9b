//! Removes the profile of an erased user, in two steps: at its place among the batch's events, and after the decisions
//! about the events before it.

use super::{CLEAN, Canary, Erasures, Profiles, Store, canary};

impl Store {
    /// The erased users.
    pub fn erasures(&self) -> &Erasures {
        &self.erasures
    }

    /// The erased users, to note further ones.
    pub fn erasures_mut(&mut self) -> &mut Erasures {
        &mut self.erasures
    }

    /// When this user was erased, if that counts at the partition's time: it is no longer ago than `keep`.
    pub fn erased_at(&self, hash: u64, key: &[u8], keep: i64) -> Option<i64> {
        self.erasures.at(hash, key).filter(|at| self.is_within(*at, keep))
    }

    /// What is kept of this user beside any profile, if that counts at the partition's time.
    pub fn kept(&self, hash: u64, key: &[u8], keep: i64) -> Option<&[u64]> {
        self.erasures.kept(hash, key).filter(|(_, seen)| self.is_within(*seen, keep)).map(|(words, _)| words)
    }

    /// Whether this moment is no longer ago than `keep`, by the partition's time.
    pub fn is_within(&self, moment: i64, keep: i64) -> bool {
        self.clock.time().is_none_or(|now| now <= moment.saturating_add(keep))
    }

    /// Notes an event that counts for nothing but the partition's time.
    pub fn note_time(&mut self, hash: u64, offset: i64, witnessed: i64) {
        self.note_place(offset);
        self.clock.note(hash, witnessed);
    }

    /// The words of a user who is erased by the record at `offset`, to be emptied; `Some(None)` if there is no profile. The
    /// profile is dirty from there on. `None` if it was restored and is one from after the record.
    pub fn erase(&mut self, hash: u64, key: &[u8], offset: i64) -> Option<Option<&mut Vec<u64>>> {
        self.note_place(offset);
        let Self { profiles: Profiles { table, open }, dirty, clock, .. } = self;
        let Some(entry) = table.find_mut(hash, |entry| open.key(&entry.place) == key) else { return Some(None) };
        let mut account = open.account(&entry.place);
        if account.covered > offset {
            return None;
        }
        if account.first_dirty == CLEAN {
            account.first_dirty = offset;
            open.set_account(&mut entry.place, account);
            dirty.push(offset, hash, clock);
        }
        if account.applied > offset {
            return None;
        }
        let slot = open.open(hash, &mut entry.place);
        Some(Some(&mut open.slots[slot as usize].words))
    }

    /// Removes the profile of an erased user, if there is one. With `buries`, schedules a tombstone for the next commit even
    /// if there is no known record: the changelog may have one of an earlier generation.
    pub fn remove(&mut self, hash: u64, key: &[u8], buries: bool) {
        let Self { profiles: Profiles { table, open }, recorded, .. } = self;
        let mut covered = i64::MIN;
        if let Ok(entry) = table.find_entry(hash, |entry| open.key(&entry.place) == key) {
            let place = entry.remove().0.place;
            covered = open.account(&place).covered;
            open.give_back(&place);
        }
        recorded.bury(hash, key, covered, buries);
    }

    /// Removes the erasures older than `keep`, now and then.
    pub fn sweep_erasures(&mut self, keep: i64) {
        if self.erasures.is_empty() {
            return;
        }
        // Where a replay would start.
        let clock = self.dirty.replay_point().map_or(self.clock, |point| point.clock);
        self.erasures.sweep(clock.time(), keep);
    }

    /// Hands over what the changelog lacks of erased users: the tombstones of their profiles, and who was erased. It must
    /// be part of every commit of the partition, because a replay from the committed mark may begin after the erasure.
    pub fn write_erasures(&mut self, mut write: impl FnMut(&[u8], Option<&[u8]>)) {
        if self.is_erasure_written() || canary::is_in(Canary::ErasureNotCommitted) {
            return;
        }
        // A swept profile whose choice is kept needs no tombstone yet: it does not count, and says the same.
        while let Some(key) = self.recorded.take_buried() {
            write(&key, None);
        }
        self.erasures.write(write);
    }

    /// Whether the changelog lacks nothing of users who were erased, or who moved to another name.
    pub fn is_erasure_written(&self) -> bool {
        self.erasures.is_written() && !self.recorded.must_bury() && self.moves.are_written()
    }

    /// Takes over the erased users of the store that this one replaces, and writes them again: the changelog may lack some.
    #[must_use]
    pub fn after(mut self, other: &mut Self) -> Self {
        self.erasures = std::mem::take(&mut other.erasures);
        self.erasures.write_again();
        self
    }
}
