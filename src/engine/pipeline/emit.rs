//! Turns the rows of a batch into decisions and dead letters.

use super::{Audiences, Encoding, Pipeline, dead_letter::dead_letter, memberships::Expiries, open_batch::OpenBatch};
use crate::{
    canary::{self, Canary},
    decision::{Cause, Decision, Status, projection::EXPIRES_AT_MS},
    engine::Partitions,
    event::{EventBatch, EventTime, Record, RejectReason, Rejection, TooLate, split_key},
    profile::{Applied, Said},
    sink::{Outbox, Target},
    state::Stores,
    status::{Counts, RecentDecision, SuppressReason},
};

impl Pipeline {
    /// Appends the decisions and dead letters of a batch that has been scored.
    pub(super) fn emit(
        &mut self,
        partitions: &mut Partitions,
        now: EventTime,
        outbox: &mut Outbox,
        counts: &mut Counts,
    ) {
        let keeps_memberships = self.keeps_memberships();
        for row in 0..self.profile.applied().len() {
            let position = self.batch.events.positions[row];
            if keeps_memberships {
                self.replay_ticks(position.partition, position.offset, partitions);
            }
            let is_replay = partitions.get(position.partition).is_none_or(|it| it.is_replay(position.offset));
            let is_counted = self.profile.applied()[row] == Applied::Counted;
            if !self.batch.events.others.is_empty() {
                let to = (!is_replay).then_some((&mut *outbox, &mut *counts));
                self.rename(row, partitions, to);
            }
            self.keep_verdict(row, partitions, (!is_replay).then_some(&mut *counts));
            if self.profile.applied()[row] == Applied::Erasure {
                self.finish_erasure(row, partitions, (!is_replay).then_some(&mut *counts));
            }
            // Replayed events change memberships, too.
            if is_counted && (keeps_memberships || !is_replay) {
                self.decide(row, partitions);
                if !is_replay {
                    counts.detail.changes(self.audiences.found.changes());
                }
            }
            if is_counted && is_replay {
                self.forget_said(row, partitions);
            } else if is_counted && !self.is_suppressed(row) {
                self.offer(row, now);
            }
            if is_replay {
                counts.beside.replayed += 1;
            } else {
                counts.events += 1;
                match self.profile.applied()[row] {
                    Applied::Counted | Applied::Withheld => self.emit_decision(row, now, partitions, outbox, counts),
                    Applied::Covered => unreachable!("a profile covers only what was committed, which is replayed"),
                    Applied::Erasure => self.emit_erasure(row, outbox, counts),
                    Applied::Erased => counts.suppress(SuppressReason::Erased, 1),
                    Applied::Duplicate => counts.duplicates += 1,
                    Applied::TooLate if self.spec.time.too_late == TooLate::Drop => {
                        counts.suppress(SuppressReason::TooLate, 1);
                    }
                    Applied::TooLate => self.emit_too_late(row, outbox, counts),
                }
            }
            if keeps_memberships {
                let is_silent = is_replay && !canary::is_in(Canary::ExpiryReplayedAloud);
                let to = (!is_silent).then_some(Expiries { now, outbox: &mut *outbox, counts: &mut *counts });
                self.pass_time(row, partitions, to);
            }
        }
        self.count_offers(counts);
        self.end_batch(partitions);
    }

    /// Appends the dead letter of an event that is too late.
    fn emit_too_late(&self, row: usize, outbox: &mut Outbox, counts: &mut Counts) {
        let OpenBatch { events: batch, payloads, .. } = &self.batch;
        let (texts, position) = (&batch.columns.texts, batch.positions[row]);
        counts.dead_letter(RejectReason::TooLate);
        let (payload, timestamp_ms) = payloads.get(row);
        let record = Record {
            partition: position.partition,
            offset: position.offset,
            timestamp_ms,
            key: None,
            payload: Some(payload),
            traceparent: Some(texts.get(batch.traceparents[row])),
            erase: None,
        };
        let detail = "the event is further behind its user's newest than time.allowed_lateness".to_owned();
        let rejection = Rejection { reason: RejectReason::TooLate, detail };
        let user = split_key(texts.get(batch.users[row])).1.as_bytes();
        // A pseudonym is shown as it is.
        let key = if self.decoding.decoder.pseudonyms().is_some() {
            user.into()
        } else {
            self.decoding.decoder.shown_key(user)
        };
        let constants = &self.encoding.constants;
        dead_letter(&self.decoding.decoder, constants, &record, Some(&key), position.index, &rejection, outbox);
    }

    /// Notes that it is not known what was said about a replayed row: the model, the policy or the segments may have
    /// been others when it was decided.
    fn forget_said(&mut self, row: usize, partitions: &mut Partitions) {
        if self.profile.said().is_empty() || canary::is_in(Canary::ChangeKeptSilent) {
            return;
        }
        if let Some(words) = self.words_of(row, partitions) {
            Said::new(&mut words[self.profile.said()]).forget();
        }
    }

    /// The profile of a row's user.
    pub(super) fn words_of<'a>(&self, row: usize, partitions: &'a mut Partitions) -> Option<&'a mut Vec<u64>> {
        let EventBatch { columns, positions, user_hashes, users, .. } = &self.batch.events;
        partitions.store(positions[row].partition).words(user_hashes[row], columns.texts.bytes(users[row]))
    }

    /// Appends the decision of a row after its segments and campaigns were decided, unless readers know it already.
    fn emit_decision(
        &mut self,
        row: usize,
        now: EventTime,
        partitions: &mut Partitions,
        outbox: &mut Outbox,
        counts: &mut Counts,
    ) {
        let places = self.profile.said();
        let said = if places.is_empty() { None } else { self.words_of(row, partitions) };
        let said = said.map(|words| Said::new(&mut words[places]));
        let verdict = self.profile.verdict(row);
        if let Some(verdict) = &verdict {
            counts.consent(verdict);
        }
        let is_suppressed = self.is_suppressed(row);
        let may_train = self.profile.may_train(row);
        let Self { model, scores, audiences: Audiences { found, .. }, offers, emission, .. } = self;
        let Encoding { encoders, expiries, heads, carried, .. } = &mut self.encoding;
        let OpenBatch { events: batch, appended_ms, .. } = &self.batch;
        let (texts, position) = (&batch.columns.texts, batch.positions[row]);
        let reason = model.as_ref().and_then(|scoring| scoring.reason(row));
        let status = match reason {
            _ if is_suppressed => Status::Suppressed,
            Some(_) => Status::Fallback,
            None => Status::of(&found.now, &offers.choice.bids),
        };
        scores.heads(batch, row, heads);
        let score = scores.score(batch, row);
        let key = texts.get(batch.users[row]);
        let (key_type, user) = split_key(key);
        let mut decision = Decision {
            user,
            key_type,
            event_id: texts.get(batch.event_ids[row]),
            cause: Cause::Event(position),
            occurred_at: batch.times[row],
            decided_at: now,
            status,
            reason,
            raw: scores.raw(batch, row),
            score,
            heads,
            explanation: model.as_ref().and_then(|scoring| scoring.explanation(row)),
            logged: carried.row(batch, row, may_train),
            segments: &found.now,
            left: &found.left,
            campaigns: &offers.choice.bids,
            suppressed: &offers.choice.refused,
            features: &offers.choice.features,
            policy_version: offers.campaigns.policy().version(),
            consent: verdict,
        };
        if is_suppressed {
            decision.empty();
        }
        if let Some(mut said) = said
            && let Err(silence) = emission.weigh(&decision, &mut said)
        {
            if canary::is_in(Canary::SilenceTakenAsSaid) {
                emission.tell(&decision, &mut said);
            }
            counts.suppress(silence.into(), 1);
            return;
        }
        if let Some(reason) = decision.reason {
            counts.fallback(reason);
        }
        counts.decisions += 1;
        let detail = &mut counts.detail;
        detail.times.push((batch.times[row].millis(), appended_ms[row]));
        let score = decision.score;
        if score.is_finite() {
            detail.score(score.into());
        }
        let mut bits = 0;
        for segment in decision.segments {
            detail.segment(segment.number);
            bits |= 1_u64.checked_shl(segment.number as u32).unwrap_or_default();
        }
        detail.last = Some(RecentDecision {
            user_hash: batch.user_hashes[row],
            position,
            occurred_at: batch.times[row],
            decided_at: now,
            status,
            score: Some(score).filter(|score| score.is_finite()),
            segments: bits,
        });
        let arm = model.as_ref().map_or(0, |scoring| scoring.arm(row));
        // A suppressed decision has no score, like one about an expired membership.
        let encoder = if is_suppressed { expiries } else { &encoders[arm] };
        let mut digits = itoa::Buffer::new();
        let expiry = encoder.expiry_header(&decision, &mut digits).unwrap_or_default();
        let all = [("traceparent", texts.bytes(batch.traceparents[row])), (EXPIRES_AT_MS, expiry)];
        let headers = match all.map(|(_, value)| value.is_empty()) {
            [false, false] => &all[..],
            [false, true] => &all[..1],
            [true, false] => &all[1..],
            [true, true] => &[],
        };
        let write = |to: &mut Vec<u8>| encoder.encode(&decision, to);
        outbox.push(Target::Decisions, Some(key.as_bytes()), headers, Some(write));
        outbox.of(position, reason);
    }
}

#[cfg(test)]
mod tests;
