//! The Protobuf encoding, `aimpoint.v1.Decision`.
//!
//! Written field by field from borrowed values, because prost's message type would have to own every string of every
//! decision. The field numbers are those of `decision.proto`; a test decodes the bytes with prost.

use super::{Constants, Decision, Status, write_id_of};
use crate::{
    event::EventTime,
    inference::Group,
    profile::Membership,
    proto::v1,
    targeting::{LeaveReason, Segment},
};
use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint, encoded_len_varint},
};

/// What is the same for every decision, encoded once.
#[derive(Clone, Debug)]
pub(super) struct Template {
    id_prefix: String,
    topic: String,
    /// The constant fields: schema version, model, fingerprint and experiment.
    constant: Vec<u8>,
    /// By segment: its encoded id, name and taxonomy, which `Segment` and `Left` share.
    segments: Vec<Vec<u8>>,
    scores: bool,
    /// The encoded name of each additional score, including key and length.
    heads: Vec<Vec<u8>>,
}

impl Template {
    pub(super) fn new(constants: &Constants, segments: &[Segment]) -> Self {
        let constant = v1::Decision {
            schema_version: super::SCHEMA_VERSION,
            model: constants.model.as_ref().map(|model| v1::Model {
                name: model.name.clone(),
                version: model.version.clone(),
                sha256: model.sha256.clone(),
                runtime: model.runtime.clone(),
                provider: model.provider.clone(),
            }),
            feature_set_version: constants.fingerprint.clone(),
            experiment: constants
                .experiment
                .as_ref()
                .map(|it| v1::Experiment { name: it.name.clone(), variant: it.variant.clone() }),
            ..v1::Decision::default()
        };
        let alone = |segment: &Segment| {
            let (id, name) = (segment.id.clone(), segment.name.clone());
            v1::Segment { id, name, segtax: segment.segtax, ..v1::Segment::default() }.encode_to_vec()
        };
        Self {
            id_prefix: constants.id_prefix(),
            topic: constants.topic.clone(),
            constant: constant.encode_to_vec(),
            segments: segments.iter().map(alone).collect(),
            scores: constants.model.is_some(),
            heads: constants
                .heads
                .iter()
                .map(|name| v1::Head { name: name.clone(), ..v1::Head::default() }.encode_to_vec())
                .collect(),
        }
    }

    pub(super) fn write(&self, decision: &Decision<'_>, expires_at: EventTime, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.constant);
        // Names of applications and topics have at most 249 bytes each, so the length of the id fits into a two-byte
        // varint, which may be padded.
        encode_key(2, WireType::LengthDelimited, to);
        let length_at = to.len();
        to.extend_from_slice(&[0x80, 0]);
        write_id_of(&self.id_prefix, decision.cause, to);
        let length = to.len() - length_at - 2;
        to[length_at] |= (length & 0x7f) as u8;
        to[length_at + 1] = (length >> 7) as u8;
        bytes(3, decision.user.as_bytes(), to);
        long(17, decision.key_type.number().into(), to);
        bytes(4, decision.event_id.as_bytes(), to);
        long(5, decision.occurred_at.0, to);
        long(6, decision.decided_at.0, to);
        long(7, expires_at.0, to);
        let status = match decision.status {
            Status::Targeted => v1::Status::Targeted,
            Status::NoTarget => v1::Status::NoTarget,
            Status::Fallback => v1::Status::Fallback,
        };
        long(8, status as i64, to);
        for segment in decision.segments {
            let of = &self.segments[segment.number];
            match &segment.stay {
                None => bytes(9, of, to),
                Some((membership, is_new)) => self::segment(9, of, membership, (6, i64::from(*is_new)), to),
            }
        }
        for left in decision.left {
            let reason = match left.reason {
                LeaveReason::Expired => v1::LeaveReason::Expired,
                LeaveReason::ExitRule => v1::LeaveReason::ExitRule,
                LeaveReason::Excluded => v1::LeaveReason::Excluded,
            };
            segment(18, &self.segments[left.number], &left.was, (6, reason as i64), to);
        }
        if let Some(position) = decision.cause.position() {
            let partition = position.partition as u64;
            let offset = position.offset as u64;
            let inner = 1
                + encoded_len_varint(self.topic.len() as u64)
                + self.topic.len()
                + 1
                + encoded_len_varint(partition)
                + 1
                + encoded_len_varint(offset);
            encode_key(10, WireType::LengthDelimited, to);
            encode_varint(inner as u64, to);
            bytes(1, self.topic.as_bytes(), to);
            encode_key(2, WireType::Varint, to);
            encode_varint(partition, to);
            encode_key(3, WireType::Varint, to);
            encode_varint(offset, to);
        }
        if let Some(reason) = decision.status_reason() {
            bytes(14, reason.as_bytes(), to);
        }
        if self.scores {
            self.write_scores(decision, to);
        }
        if let Some((explainer, explanation)) = decision.explanation {
            let contribution = |(group, part): (&Group, &f64)| v1::Contribution {
                feature: group.name.clone(),
                contribution: *part as f32,
            };
            let explanation = v1::Explanation {
                base: explanation.base as f32,
                method: if explainer.is_exact() { "exact" } else { "sampled" }.to_owned(),
                contributions: explainer.groups().iter().zip(&explanation.parts).map(contribution).collect(),
            };
            message(15, &explanation, to);
        }
    }

    /// NaN and ±inf are written as missing scores, as in JSON.
    fn write_scores(&self, decision: &Decision<'_>, to: &mut Vec<u8>) {
        encode_key(11, WireType::LengthDelimited, to);
        let scores = [(1, decision.raw), (2, decision.score)];
        let scores = scores.iter().filter(|(_, score)| score.is_finite());
        let heads = self.heads.iter().zip(decision.heads);
        // A head is its encoded name and, if it has a score, a key and four bytes.
        let head_bytes = |name: &[u8], score: f32| name.len() + if score.is_finite() { 5 } else { 0 };
        let heads_bytes: usize = heads
            .clone()
            .map(|(name, score)| {
                let inner = head_bytes(name, *score);
                1 + encoded_len_varint(inner as u64) + inner
            })
            .sum();
        encode_varint((5 * scores.clone().count() + heads_bytes) as u64, to);
        for (field, score) in scores {
            float(*field, *score, to);
        }
        for (name, score) in heads {
            encode_key(3, WireType::LengthDelimited, to);
            encode_varint(head_bytes(name, *score) as u64, to);
            to.extend_from_slice(name);
            if score.is_finite() {
                float(2, *score, to);
            }
        }
    }
}

/// Appends a `Segment` or a `Left`: the encoded id, name and taxonomy, the times of a membership, and one more field
/// unless it is 0. The fields of both messages have the same numbers.
fn segment(field: u32, of: &[u8], membership: &Membership, (last, number): (u32, i64), to: &mut Vec<u8>) {
    let [entered_at, expires_at] = [membership.entered_at.0, membership.expires_at.0];
    let fields = [(4, entered_at), (5, expires_at), (last, number)];
    let fields = fields.into_iter().filter(|(_, value)| *value != 0);
    let inner = of.len() + fields.clone().map(|(_, value)| 1 + encoded_len_varint(value as u64)).sum::<usize>();
    encode_key(field, WireType::LengthDelimited, to);
    encode_varint(inner as u64, to);
    to.extend_from_slice(of);
    for (field, value) in fields {
        long(field, value, to);
    }
}

fn float(field: u32, value: f32, to: &mut Vec<u8>) {
    encode_key(field, WireType::ThirtyTwoBit, to);
    to.extend_from_slice(&value.to_le_bytes());
}

fn message(field: u32, message: &impl Message, to: &mut Vec<u8>) {
    encode_key(field, WireType::LengthDelimited, to);
    to.extend_from_slice(&message.encode_length_delimited_to_vec());
}

fn bytes(field: u32, value: &[u8], to: &mut Vec<u8>) {
    if !value.is_empty() {
        encode_key(field, WireType::LengthDelimited, to);
        encode_varint(value.len() as u64, to);
        to.extend_from_slice(value);
    }
}

fn long(field: u32, value: i64, to: &mut Vec<u8>) {
    encode_key(field, WireType::Varint, to);
    encode_varint(value as u64, to);
}
