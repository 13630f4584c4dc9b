//! Decides segments, keeps users' memberships in their profiles, and ends expired memberships.
//!
//! Memberships end by their partition's time, or by a clock tick that is ahead of it. After each row, all memberships
//! that are over by then end before the next row is decided. The result therefore depends only on the order of the
//! records and on the ticks, not on batch boundaries. Each user's deadline gives one decision. Its id and content come
//! from the user's profile and the deadline only, so they do not show which event or tick reached it. A tick is part of
//! the partition's mark. A replay applies it before the same record and writes nothing for it, because its decisions
//! were committed together with it.

use super::{Audiences, Encoding, Pipeline};
use crate::{
    canary::{self, Canary},
    decision::{Cause, Decision, Status, projection::EXPIRES_AT_MS, suppression},
    engine::{Partition, Partitions, partitions::count_member},
    event::{EventTime, split_key},
    profile::{KeptConsent, Said},
    sink::{Outbox, Target},
    state::Stores,
    status::Counts,
};

/// The output for decisions about ended memberships. A replay has none.
pub(super) struct Expiries<'a> {
    pub(super) now: EventTime,
    pub(super) outbox: &'a mut Outbox,
    pub(super) counts: &'a mut Counts,
}

impl Pipeline {
    /// Whether profiles keep memberships.
    pub fn keeps_memberships(&self) -> bool {
        !self.profile.memberships().is_empty()
    }

    /// Decides the segments of an accepted row, and changes its user's memberships.
    pub(super) fn decide(&mut self, row: usize, partitions: &mut Partitions) {
        let (columns, time) = (&self.batch.events.columns, self.batch.events.times[row]);
        let places = self.profile.memberships();
        if places.is_empty() {
            let Audiences { segments, found } = &mut self.audiences;
            segments.decide(columns, row, (time, None), &mut [], found);
            return;
        }
        let (hash, key) = (self.batch.events.user_hashes[row], columns.texts.bytes(self.batch.events.users[row]));
        let store = partitions.store(self.batch.events.positions[row].partition);
        let logged_at = self.batch.events.logged_at[row].0;
        let passed = store.timer_time(self.profile.partition_times()[row], logged_at).map(EventTime);
        let words = store.words(hash, key).expect("a row that counts is in its user's profile");
        let Audiences { segments, found } = &mut self.audiences;
        segments.decide(columns, row, (time, passed), &mut words[places], found);
        // If an event only moves the end of a membership, the earlier deadline stays. Nothing ends when it is reached.
        if found.has_entered
            && let Some(deadline) = self.profile.first_expiry(words)
        {
            store.schedule(hash, deadline);
        }
        if let Some(partition) = partitions.get_mut(self.batch.events.positions[row].partition) {
            self.count_members(partition);
        }
    }

    /// Counts the user of the current row in and out of lasting segments.
    fn count_members(&self, partition: &mut Partition) {
        for (number, has_entered) in self.audiences.found.changes() {
            if let Some(cell) = self.audiences.segments.all()[number].membership() {
                count_member(&mut partition.members, cell, has_entered);
            }
        }
    }

    /// Ends the memberships that are over after a row.
    pub(super) fn pass_time(&mut self, row: usize, partitions: &mut Partitions, to: Option<Expiries<'_>>) {
        let position = self.batch.events.positions[row];
        let store = partitions.store(position.partition);
        let is_last = row + 1 == self.batch.events.len();
        let logged_at = self.batch.events.logged_at[row].0;
        if let Some(time) = store.timer_time(self.profile.partition_times()[row], logged_at)
            && (is_last || !canary::is_in(Canary::ExpiryAtBatchEnd))
        {
            self.expire(position.partition, position.offset, time, partitions, to);
        }
    }

    /// Applies a partition's committed ticks at or before an offset that were not applied yet.
    pub(super) fn replay_ticks(&mut self, number: i32, offset: i64, partitions: &mut Partitions) {
        while let Some((at, time)) = partitions.store(number).take_tick(offset) {
            if !canary::is_in(Canary::TickNotReplayed) {
                self.expire(number, at, time, partitions, None);
            }
        }
    }

    /// Applies the committed ticks that follow all processed records. Call it after partitions were restored, and after
    /// their positions have moved without an event.
    pub fn catch_up(&mut self, partitions: &mut Partitions) {
        if !self.keeps_memberships() {
            return;
        }
        for number in partitions.held() {
            if let Some(next) = partitions.active(number).map(|partition| partition.next) {
                self.replay_ticks(number, next, partitions);
            }
        }
    }

    /// The time of day, if clock ticks end memberships.
    pub fn tick_clock(&self) -> Option<EventTime> {
        self.decoding.present.filter(|_| self.spec.time.tick && self.keeps_memberships())
    }

    /// Ends a partition's memberships that are over by this time with a clock tick before the next record. Returns
    /// false if it did not: during a replay, if the tick is not later than the last one, or if the mark has no room for
    /// another tick.
    pub fn tick(
        &mut self,
        number: i32,
        time: EventTime,
        partitions: &mut Partitions,
        now: EventTime,
        outbox: &mut Outbox,
        counts: &mut Counts,
    ) -> bool {
        let Some(partition) = partitions.active(number) else { return false };
        if !self.keeps_memberships() || partition.next < partition.replay_until || !partition.tick(time.0) {
            return false;
        }
        let next = partition.next;
        self.expire(number, next, time.0, partitions, Some(Expiries { now, outbox, counts }));
        true
    }

    /// Ends a partition's memberships that are over by this time, after an event or by a tick at `offset`.
    fn expire(
        &mut self,
        number: i32,
        offset: i64,
        time: i64,
        partitions: &mut Partitions,
        mut to: Option<Expiries<'_>>,
    ) {
        let Self { audiences: Audiences { segments, found }, encoding, profile, emission, .. } = self;
        let Encoding { expiries, .. } = encoding;
        let (places, said, kept) = (profile.memberships(), profile.said(), profile.consent());
        let mut left = Vec::new();
        partitions.store(number).expire(time, offset, |user_hash, key, words, deadline| {
            let has_ended = segments.expire(EventTime(deadline), &mut words[places.clone()], found);
            left.extend(found.left.iter().map(|left| left.number));
            if has_ended && to.is_none() && !said.is_empty() && !canary::is_in(Canary::ChangeKeptSilent) {
                Said::new(&mut words[said.clone()]).forget();
            }
            if let Some(Expiries { now, outbox, counts }) = &mut to
                && has_ended
            {
                let deadline = EventTime(deadline);
                let consent = (!kept.is_empty()).then(|| KeptConsent::read(&words[kept.clone()]).verdict());
                let text = String::from_utf8_lossy(key);
                let (key_type, user) = split_key(&text);
                let mut decision = Decision {
                    user,
                    key_type,
                    event_id: "",
                    cause: Cause::Expiry { user_hash, deadline },
                    occurred_at: deadline,
                    decided_at: *now,
                    status: Status::of(&found.now, &[]),
                    reason: None,
                    raw: f32::NAN,
                    score: f32::NAN,
                    heads: &[],
                    explanation: None,
                    logged: &[],
                    segments: &found.now,
                    left: &found.left,
                    // Campaigns are chosen by events.
                    campaigns: &[],
                    suppressed: &[],
                    features: &[],
                    policy_version: 0,
                    consent,
                };
                if consent.is_some_and(|verdict| suppression(&verdict).is_some()) {
                    decision.empty();
                }
                if !said.is_empty() {
                    emission.tell(&decision, &mut Said::new(&mut words[said.clone()]));
                }
                let write = |to: &mut Vec<u8>| expiries.encode(&decision, to);
                let mut digits = itoa::Buffer::new();
                let header = expiries.expiry_header(&decision, &mut digits).map(|value| (EXPIRES_AT_MS, value));
                outbox.push(Target::Decisions, Some(key), header.as_slice(), Some(write));
                outbox.of_expiry();
                counts.beside.expired += 1;
                counts.detail.changes(found.changes());
            }
            (has_ended && !canary::is_in(Canary::ExpiryNotDirty), profile.first_expiry(words))
        });
        if let Some(partition) = partitions.get_mut(number) {
            for cell in left.into_iter().filter_map(|number| segments.all()[number].membership()) {
                count_member(&mut partition.members, cell, false);
            }
        }
    }

    /// Ends a batch that may have changed profiles after their events: drops idle profiles, which
    /// [`crate::profile::ProfileEngine::process`] leaves to this method, and applies the ticks after the batch.
    pub(super) fn end_batch(&mut self, partitions: &mut Partitions) {
        if !self.profile.changes_later() {
            return;
        }
        let mut last = None;
        for row in 0..self.batch.events.len() {
            let number = self.batch.events.positions[row].partition;
            if last.replace(number) != Some(number) {
                let store = partitions.store(number);
                self.profile.sweep(store);
                store.end_batch();
            }
        }
        self.catch_up(partitions);
    }
}

#[cfg(test)]
mod tests;
