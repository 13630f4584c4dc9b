//! What the changelog lacks: dirty profiles, keys of swept ones, and the mark from which a replay completes the rest.

use super::{
    Account, CLEAN, Canary, Dirty, Entry, Mark, PackedProfile, Point, Store, Swept, Ticks, canary,
    changelog::record_digest,
};

impl Store {
    /// Hands over, oldest first, at most `max` profiles that are dirty from an event before `below`; they include every
    /// event before `next`. Keys of swept profiles are passed with `None`. `write` returns whether it accepts more.
    /// Returns how many were handed over. A profile changed only by a tick at `next` waits until more records arrive: a
    /// replay from there applies the tick again, and two records of a user must not have the same offset.
    pub fn write_due(
        &mut self,
        below: i64,
        next: i64,
        max: usize,
        mut write: impl FnMut(&[u8], Option<PackedProfile<'_>>) -> bool,
    ) -> usize {
        let (mut written, mut has_room) = (0, true);
        let is_last = canary::is_in(Canary::TombstoneAfterProfile);
        if !is_last {
            (written, has_room) = self.write_tombstones(max, &mut write);
        }
        while written < max
            && has_room
            && let Some(Dirty { offset, hash, .. }) = self.dirty.front().copied()
            && offset < below.min(next)
        {
            self.dirty.pop_front();
            // A profile that was swept or written since is not found.
            let Self { table, open, recorded, digest, .. } = &mut *self;
            let is_due = |entry: &Entry| entry.hash == hash && open.account(&entry.place).first_dirty == offset;
            if let Some(entry) = table.find_mut(hash, is_due) {
                let (key, profile) = open.pack(&entry.place);
                has_room = write(key, Some(profile));
                let account = open.account(&entry.place);
                if account.covered == i64::MIN {
                    *recorded += 1;
                } else {
                    *digest = digest.wrapping_sub(record_digest(hash, account.covered));
                }
                *digest = digest.wrapping_add(record_digest(hash, next));
                open.set_account(&mut entry.place, Account { covered: next, first_dirty: CLEAN, ..account });
                written += 1;
            }
        }
        if is_last && has_room {
            written += self.write_tombstones(max - written, &mut write).0;
        }
        self.drop_points();
        written
    }

    /// Drops the profiles from the front of the dirty ones that were written since, and the points that they needed.
    pub(super) fn drop_written(&mut self) {
        let Self { table, open, dirty, .. } = self;
        while let Some(Dirty { offset, hash }) = dirty.front() {
            let is_due = |entry: &Entry| entry.hash == *hash && open.account(&entry.place).first_dirty == *offset;
            if table.find(*hash, is_due).is_some() {
                break;
            }
            dirty.pop_front();
        }
        self.drop_points();
    }

    /// Drops the points that no replay needs: it would start from the last one at or before the oldest dirty event.
    fn drop_points(&mut self) {
        let oldest = self.oldest_dirty().unwrap_or(i64::MAX);
        while self.points.get(1).is_some_and(|point| point.offset <= oldest) {
            self.points.pop_front();
        }
        if self.dirty.is_empty() {
            self.points.clear();
        }
    }

    /// Hands over the keys of swept profiles. Returns how many there were, and whether more are accepted.
    fn write_tombstones(
        &mut self,
        max: usize,
        write: &mut impl FnMut(&[u8], Option<PackedProfile<'_>>) -> bool,
    ) -> (usize, bool) {
        let (mut written, mut has_room) = (0, true);
        while written < max
            && has_room
            && let Some(Swept { key, digest }) = self.swept.pop()
        {
            self.digest = self.digest.wrapping_sub(digest);
            // If the user comes back, the profile is dirty from that event, and the tombstone is correct until then. It
            // needs no `as_of`: a replay of earlier events may recreate the profile, but reaching the same partition
            // time expires it again before the replay ends.
            if !canary::is_in(Canary::TombstoneLost) {
                has_room = write(&key, None);
            }
            written += 1;
        }
        (written, has_room)
    }

    /// Visits the users that have a record in the changelog, with their words, the offset up to which the record is
    /// complete, and the first offset whose changes it lacks. Returns false and visits none if tombstones remain to be
    /// written.
    pub fn recorded(&mut self, mut visit: impl FnMut(&[u8], PackedProfile<'_>, i64, Option<i64>)) -> bool {
        if !self.swept.is_empty() {
            return false;
        }
        for entry in &self.table {
            let Account { covered, first_dirty, .. } = self.open.account(&entry.place);
            if covered > i64::MIN {
                let (key, profile) = self.open.pack(&entry.place);
                visit(key, profile, covered, Some(first_dirty).filter(|offset| *offset != CLEAN));
            }
        }
        true
    }

    /// The oldest event that is in a profile but not in its record.
    pub fn oldest_dirty(&self) -> Option<i64> {
        self.dirty.front().map(|dirty| dirty.offset)
    }

    /// The digest of the records in the changelog: see [`Mark::digest`].
    pub fn digest(&self) -> u64 {
        self.digest.wrapping_add(self.erasures.digest())
    }

    /// An upper bound on the number of dirty profiles.
    pub fn dirty(&self) -> usize {
        self.dirty.len() + self.swept.len()
    }

    /// The mark for a restart at offset `next`.
    pub fn mark(&self, next: i64) -> Mark {
        self.mark_since(next, i64::MAX)
    }

    /// Like [`Self::mark`], but includes the ticks since the position `committed` even if a replay does not need them.
    /// So every tick is committed at least once.
    pub fn mark_since(&self, next: i64, committed: i64) -> Mark {
        let records = (self.recorded + self.swept.len()) as u64;
        let is_dirty = !self.dirty.is_empty() && !canary::is_in(Canary::MarkAhead);
        let Point { offset: replay_from, clock } = match self.points.front() {
            Some(point) if is_dirty => *point,
            _ => Point { offset: next, clock: self.clock },
        };
        let mut ceilings = self.ceilings;
        ceilings.forget_before(replay_from);
        let lacking_from = if is_dirty { self.oldest_dirty().unwrap_or(next) } else { next };
        let digest = Some(self.digest());
        let mut ticks = self.ticks;
        ticks.forget_before(replay_from.min(committed), clock.time());
        if canary::is_in(Canary::TickNotCommitted) {
            ticks = Ticks::default();
        }
        let (generation, named) = (self.generation, self.named);
        Mark { replay_from, lacking_from, clock, ceilings, records, digest, generation, ticks, named }
    }

    /// Schedules tombstones for users that the store does not hold and whose records are unusable.
    pub fn bury(&mut self, keys: impl IntoIterator<Item = Box<[u8]>>) {
        self.swept.extend(keys.into_iter().map(|key| Swept { key, digest: 0 }));
    }
}
