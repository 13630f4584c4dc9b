//! Decides segments, keeps the memberships of users in their profiles, and ends them when their time is over.
//!
//! A membership ends by the time of its partition, or by a tick of a clock where that is ahead of it. Behind each row, whatever ends
//! by then ends, before the next row is decided: so it depends on the order of the records and on the ticks alone, and on no bounds
//! of batches. Each user's deadline gives a decision, whose id and content are made of the user's profile and the deadline: which
//! event or tick passed it does not show. A tick is part of the partition's mark. A replay applies it before the same record, and
//! writes nothing for it: its decisions were committed together with it.

use super::{Encoding, Pipeline};
use crate::{
    canary::{self, Canary},
    decision::{Cause, Decision, Status},
    engine::Partitions,
    event::{EventTime, split_key},
    sink::{Outbox, Target},
    state::Stores,
    status::Counts,
};

/// Where the decisions about memberships that have ended go; a replay has none.
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

    /// Decides the segments of a row that counts, and changes its user's memberships.
    pub(super) fn decide(&mut self, row: usize, partitions: &mut Partitions) {
        let (columns, time) = (&self.batch.events.columns, self.batch.events.times[row]);
        let places = self.profile.memberships();
        if places.is_empty() {
            self.segments.decide(columns, row, (time, None), &mut [], &mut self.found);
            return;
        }
        let (hash, key) = (self.batch.events.user_hashes[row], columns.texts.bytes(self.batch.events.users[row]));
        let store = partitions.store(self.batch.events.positions[row].partition);
        let passed = store.timer_time(self.profile.partition_times()[row]).map(EventTime);
        let words = store.words(hash, key).expect("a row that counts is in its user's profile");
        self.segments.decide(columns, row, (time, passed), &mut words[places], &mut self.found);
        // Where an event only moves the end of a membership, the earlier deadline stands, and is looked at in vain.
        if self.found.has_entered
            && let Some(deadline) = self.profile.first_expiry(words)
        {
            store.schedule(hash, deadline);
        }
    }

    /// Ends the memberships that are over behind a row.
    pub(super) fn pass_time(&mut self, row: usize, partitions: &mut Partitions, to: Option<Expiries<'_>>) {
        let position = self.batch.events.positions[row];
        let store = partitions.store(position.partition);
        let is_last = row + 1 == self.batch.events.len();
        if let Some(time) = store.timer_time(self.profile.partition_times()[row])
            && (is_last || !canary::is_in(Canary::ExpiryAtBatchEnd))
        {
            self.expire(position.partition, position.offset, time, partitions, to);
        }
    }

    /// Applies the committed ticks of a partition that lie at or before an offset and were not applied yet.
    pub(super) fn replay_ticks(&mut self, number: i32, offset: i64, partitions: &mut Partitions) {
        while let Some((at, time)) = partitions.store(number).take_tick(offset) {
            if !canary::is_in(Canary::TickNotReplayed) {
                self.expire(number, at, time, partitions, None);
            }
        }
    }

    /// Applies the committed ticks that lie behind all records that were processed. Call it when partitions were restored, and
    /// when their positions have moved without an event.
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

    /// The time of day, where a clock's tick is to end memberships.
    pub fn tick_clock(&self) -> Option<EventTime> {
        self.present.filter(|_| self.spec.time.tick && self.keeps_memberships())
    }

    /// Has a clock's tick end the memberships of a partition that are over by this time, before its next record. Says whether it did:
    /// not in a replay, nor where the mark has no room for another tick.
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

    /// Ends the memberships of a partition that are over by this time, behind or before the record at `offset`.
    fn expire(
        &mut self,
        number: i32,
        offset: i64,
        time: i64,
        partitions: &mut Partitions,
        mut to: Option<Expiries<'_>>,
    ) {
        let Self { segments, found, encoding, profile, .. } = self;
        let Encoding { expiries, .. } = encoding;
        let places = profile.memberships();
        partitions.store(number).expire(time, offset, |user_hash, key, words, deadline| {
            let has_ended = segments.expire(EventTime(deadline), &mut words[places.clone()], found);
            if let Some(Expiries { now, outbox, counts }) = &mut to
                && has_ended
            {
                let deadline = EventTime(deadline);
                let text = String::from_utf8_lossy(key);
                let (key_type, user) = split_key(&text);
                let decision = Decision {
                    user,
                    key_type,
                    event_id: "",
                    cause: Cause::Expiry { user_hash, deadline },
                    occurred_at: deadline,
                    decided_at: *now,
                    status: Status::of(&found.now),
                    reason: None,
                    raw: f32::NAN,
                    score: f32::NAN,
                    heads: &[],
                    explanation: None,
                    segments: &found.now,
                    left: &found.left,
                };
                let write = |to: &mut Vec<u8>| expiries.encode(&decision, to);
                outbox.push(Target::Decisions, Some(key), &[], Some(write));
                outbox.of_expiry();
                counts.expired += 1;
            }
            (has_ended && !canary::is_in(Canary::ExpiryNotDirty), profile.first_expiry(words))
        });
    }

    /// Ends a batch in which memberships may have changed: applies what lies behind it, and drops idle profiles, which
    /// [`crate::profile::ProfileEngine::process`] has left to do.
    pub(super) fn end_batch(&mut self, partitions: &mut Partitions) {
        if !self.keeps_memberships() {
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
