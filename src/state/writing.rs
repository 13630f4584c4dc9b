//! What the changelog lacks: dirty profiles, keys of swept ones, and the mark from which a replay completes the rest.

use super::{Account, CLEAN, Canary, Dirty, Entry, Mark, PackedProfile, Profiles, Store, Ticks, canary, dirty::Point};

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
            && let Some(Dirty { offset, hash, .. }) = self.dirty.front()
            && offset < below.min(next)
        {
            self.dirty.pop();
            // A profile that was swept or written since is not found.
            let Self { profiles: Profiles { table, open }, recorded, .. } = &mut *self;
            let is_due = |entry: &Entry| entry.hash == hash && open.account(&entry.place).first_dirty == offset;
            if let Some(entry) = table.find_mut(hash, is_due) {
                let (key, profile) = open.pack(&entry.place);
                has_room = write(key, Some(profile));
                let account = open.account(&entry.place);
                recorded.write(hash, account.covered, next);
                open.set_account(&mut entry.place, Account { covered: next, first_dirty: CLEAN, ..account });
                written += 1;
            }
        }
        if is_last && has_room {
            written += self.write_tombstones(max - written, &mut write).0;
        }
        self.dirty.drop_points();
        written
    }

    /// Drops the profiles from the front of the dirty ones that were written since, and the points that they needed.
    pub(super) fn drop_written(&mut self) {
        let Self { profiles: Profiles { table, open }, dirty, .. } = self;
        while let Some(Dirty { offset, hash }) = dirty.front() {
            let is_due = |entry: &Entry| entry.hash == hash && open.account(&entry.place).first_dirty == offset;
            if table.find(hash, is_due).is_some() {
                break;
            }
            dirty.pop();
        }
        dirty.drop_points();
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
            && let Some(key) = self.recorded.take_tombstone()
        {
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
        if self.recorded.tombstones() > 0 {
            return false;
        }
        let Profiles { table, open } = &mut self.profiles;
        for entry in &*table {
            let Account { covered, first_dirty, .. } = open.account(&entry.place);
            if covered > i64::MIN {
                let (key, profile) = open.pack(&entry.place);
                visit(key, profile, covered, Some(first_dirty).filter(|offset| *offset != CLEAN));
            }
        }
        true
    }

    /// The oldest event that is in a profile but not in its record.
    pub fn oldest_dirty(&self) -> Option<i64> {
        self.dirty.oldest()
    }

    /// The digest of the records in the changelog: see [`Mark::digest`].
    pub fn digest(&self) -> u64 {
        self.recorded.digest().wrapping_add(self.erasures.digest())
    }

    /// An upper bound on the number of dirty profiles.
    pub fn dirty(&self) -> usize {
        self.dirty.len() + self.recorded.tombstones()
    }

    /// The mark for a restart at offset `next`.
    pub fn mark(&self, next: i64) -> Mark {
        self.mark_since(next, i64::MAX)
    }

    /// Like [`Self::mark`], but includes the ticks since the position `committed` even if a replay does not need them.
    /// So every tick is committed at least once.
    pub fn mark_since(&self, next: i64, committed: i64) -> Mark {
        let records = self.recorded.count() as u64;
        let is_dirty = !self.dirty.is_empty() && !canary::is_in(Canary::MarkAhead);
        let Point { offset: replay_from, clock } = match self.dirty.replay_point() {
            Some(point) if is_dirty => point,
            _ => Point { offset: next, clock: self.clock },
        };
        let mut ceilings = self.ceilings;
        ceilings.forget_before(replay_from);
        let lacking_from = if is_dirty { self.oldest_dirty().unwrap_or(next) } else { next };
        let digest = Some(self.digest());
        let mut ticks = *self.ticks.all();
        ticks.forget_before(replay_from.min(committed), clock.time());
        if canary::is_in(Canary::TickNotCommitted) {
            ticks = Ticks::default();
        }
        let (generation, named) = (self.generation, self.moves.named);
        Mark { replay_from, lacking_from, clock, ceilings, records, digest, generation, ticks, named }
    }

    /// Schedules tombstones for users that the store does not hold and whose records are unusable.
    pub fn bury(&mut self, keys: impl IntoIterator<Item = Box<[u8]>>) {
        keys.into_iter().for_each(|key| self.recorded.bury_unknown(key));
    }
}
