//! Turns the rows of a batch into decisions and dead letters.

use super::{Encoding, Pipeline, dead_letter::dead_letter, open_batch::OpenBatch};
use crate::{
    decision::{Decision, Status},
    engine::Partitions,
    event::{EventTime, Record, RejectReason, Rejection, TooLate, split_key},
    profile::Applied,
    sink::{Outbox, Target},
    status::{Counts, RecentDecision, SuppressReason},
};

impl Pipeline {
    /// Appends the decisions and dead letters of a batch that has been scored and targeted.
    pub(super) fn emit(&mut self, partitions: &Partitions, now: EventTime, outbox: &mut Outbox, counts: &mut Counts) {
        let Self { decoder, segments, profile, model, scores, .. } = self;
        let Encoding { encoders, constants, heads } = &mut self.encoding;
        let OpenBatch { events: batch, payloads, appended_ms, .. } = &self.batch;
        let texts = &batch.columns.texts;
        for (row, applied) in profile.applied().iter().enumerate() {
            let position = batch.positions[row];
            if partitions.get(position.partition).is_none_or(|partition| partition.is_replay(position.offset)) {
                counts.replayed += 1;
                continue;
            }
            counts.events += 1;
            match applied {
                Applied::Counted => {}
                Applied::Covered => unreachable!("a profile covers only what was committed, which is replayed"),
                Applied::Duplicate => {
                    counts.duplicates += 1;
                    continue;
                }
                Applied::TooLate if self.spec.time.too_late == TooLate::Drop => {
                    counts.suppress(SuppressReason::TooLate, 1);
                    continue;
                }
                Applied::TooLate => {
                    counts.dead_letter(RejectReason::TooLate);
                    let (payload, timestamp_ms) = payloads.get(row);
                    let record = Record {
                        partition: position.partition,
                        offset: position.offset,
                        timestamp_ms,
                        key: Some(split_key(texts.get(batch.users[row])).1.as_bytes()),
                        payload: Some(payload),
                        traceparent: Some(texts.get(batch.traceparents[row])),
                    };
                    let detail = "the event is further behind its user's newest than time.allowed_lateness".to_owned();
                    let rejection = Rejection { reason: RejectReason::TooLate, detail };
                    dead_letter(decoder, constants, &record, position.index, &rejection, outbox);
                    continue;
                }
            }
            let entered = segments.of(&batch.columns, row);
            let reason = model.as_ref().and_then(|scoring| scoring.reason(row));
            let status = if let Some(reason) = reason {
                counts.fallback(reason);
                Status::Fallback
            } else if entered.clone().next().is_some() {
                Status::Targeted
            } else {
                Status::NoTarget
            };
            scores.heads(batch, row, heads);
            counts.decisions += 1;
            let score = scores.score(batch, row);
            let detail = &mut counts.detail;
            detail.times.push((batch.times[row].millis(), appended_ms[row]));
            if score.is_finite() {
                detail.score(score.into());
            }
            let mut bits = 0;
            for number in entered.clone() {
                detail.segment(number);
                bits |= 1_u64.checked_shl(number as u32).unwrap_or_default();
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
            let key = texts.get(batch.users[row]);
            let (key_type, user) = split_key(key);
            let decision = Decision {
                user,
                key_type,
                event_id: texts.get(batch.event_ids[row]),
                position,
                occurred_at: batch.times[row],
                decided_at: now,
                status,
                reason,
                raw: scores.raw(batch, row),
                score,
                heads,
                explanation: model.as_ref().and_then(|scoring| scoring.explanation(row)),
            };
            let traceparent = [("traceparent", texts.bytes(batch.traceparents[row]))];
            let headers = if traceparent[0].1.is_empty() { &[][..] } else { &traceparent[..] };
            let encoder = &encoders[model.as_ref().map_or(0, |scoring| scoring.arm(row))];
            let write = |to: &mut Vec<u8>| encoder.encode(&decision, entered, to);
            outbox.push(Target::Decisions, Some(key.as_bytes()), headers, Some(write));
            outbox.of(position, reason);
        }
    }
}
