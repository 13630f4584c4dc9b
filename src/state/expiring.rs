//! What happens to users without an event: deadlines, and the clock ticks that reach them on a silent partition.

use super::{Account, Canary, Mark, Profiles, Store, Ticks, canary};

impl Store {
    /// Makes [`Self::expire`] visit the user no later than this deadline.
    pub fn schedule(&mut self, hash: u64, deadline: i64) {
        self.deadlines.schedule(hash, deadline);
    }

    /// A lower bound on the users' first deadline.
    pub fn first_deadline(&self) -> Option<i64> {
        self.deadlines.first()
    }

    /// The number of users with a deadline.
    pub fn deadlines(&self) -> usize {
        self.deadlines.len()
    }

    /// The time that deadlines are compared with at a record that was appended at `logged_at`, when the partition's own
    /// time is `partition_time`. A tick may be ahead of that, but it counts no further than the record: if it is ahead
    /// of the record, the clock that it came from was wrong.
    pub fn timer_time(&self, partition_time: Option<i64>, logged_at: i64) -> Option<i64> {
        partition_time.max(self.ticks.last().map(|ticked| ticked.min(logged_at)))
    }

    /// The time of the last clock tick.
    pub fn ticked(&self) -> Option<i64> {
        self.ticks.last()
    }

    /// Visits the deadlines up to this time, which was reached after the event at `offset` or by a tick there. `end`
    /// gets a user's hash, key, words and deadline. It may change the words, and returns whether it did and the user's
    /// next deadline. A restored profile that already includes what happened at the offset is left alone.
    pub fn expire(
        &mut self,
        time: i64,
        offset: i64,
        mut end: impl FnMut(u64, &[u8], &mut [u64], i64) -> (bool, Option<i64>),
    ) {
        // Deadlines that are not reached yet, because their profiles are ahead of the offset.
        let mut later = Vec::new();
        while let Some((deadline, hash)) = self.deadlines.take_due(time) {
            let Self { profiles: Profiles { table, open }, deadlines, .. } = &mut *self;
            let mut became_dirty = 0;
            for entry in table.iter_hash_mut(hash).filter(|entry| entry.hash == hash) {
                let Account { covered, applied, .. } = open.account(&entry.place);
                if covered.max(applied) > offset && !canary::is_in(Canary::TickOnNewerProfile) {
                    later.push((hash, deadline));
                    continue;
                }
                let mut next = None;
                let has_changed = open.change(&mut entry.place, |key, words| {
                    let has_changed;
                    (has_changed, next) = end(hash, key, words, deadline);
                    has_changed
                });
                if let Some(next) = next {
                    deadlines.schedule(hash, next);
                }
                let account = open.account(&entry.place);
                // A later event of the same batch may already have made it dirty.
                if has_changed && offset < account.first_dirty {
                    open.set_account(&mut entry.place, Account { first_dirty: offset, ..account });
                    became_dirty += 1;
                }
            }
            for _ in 0..became_dirty {
                self.dirty.insert(offset, hash, &self.clock);
            }
        }
        for (hash, deadline) in later {
            self.deadlines.schedule(hash, deadline);
        }
    }

    /// Ends the batch started by [`Self::begin_batch`].
    pub fn end_batch(&mut self) {
        self.dirty.clear_batch();
    }

    /// The ticks that the mark carries.
    pub fn ticks(&self) -> &Ticks {
        self.ticks.all()
    }

    /// Takes the next tick at or before this offset that a replay has not applied yet: its offset and its time.
    pub fn take_tick(&mut self, offset: i64) -> Option<(i64, i64)> {
        self.ticks.take(offset)
    }

    /// Adds a clock tick before the record at `next`, which sets the time that deadlines are compared with. Every mark
    /// contains the tick at least until the one at `committed`. Returns whether it was added: see [`Ticks::add`].
    pub fn tick(&mut self, next: i64, time: i64, committed: i64) -> bool {
        let Mark { replay_from, clock, .. } = self.mark(next);
        self.ticks.forget_before(replay_from.min(committed), clock.time());
        self.ticks.add(next, time)
    }

    /// Schedules every user whose words contain a deadline, after a restore. `find` returns the deadline and may change
    /// the words.
    pub fn schedule_all(&mut self, mut find: impl FnMut(&mut [u64]) -> (bool, Option<i64>)) {
        let Self { profiles: Profiles { table, open }, deadlines, .. } = self;
        for entry in table.iter_mut() {
            let mut deadline = None;
            open.change(&mut entry.place, |_, words| {
                let has_changed;
                (has_changed, deadline) = find(words);
                has_changed
            });
            if let Some(deadline) = deadline {
                deadlines.schedule(entry.hash, deadline);
            }
        }
    }
}
