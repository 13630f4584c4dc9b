//! The Protobuf form, `aimpoint.v1.Decision`.
//!
//! Written field by field from borrowed values: prost's own message would have to own every string of every decision.
//! The field numbers are those of `decision.proto`, and a test reads the bytes back with prost.

use super::{Constants, Decision, Status, write_id};
use crate::{event::EventTime, proto::v1, targeting::Segment};
use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint, encoded_len_varint},
};

/// What is the same for every decision, encoded once.
#[derive(Clone, Debug)]
pub(super) struct Template {
    topic: String,
    /// The fields that never change: schema version, model and fingerprint.
    constant: Vec<u8>,
    /// The segments as they stand in a decision, key and length included.
    segments: Vec<Vec<u8>>,
    scores: bool,
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
            ..v1::Decision::default()
        };
        let alone = |segment: &Segment| {
            let segment = v1::Segment { id: segment.id.clone(), name: segment.name.clone(), segtax: segment.segtax };
            v1::Decision { segments: vec![segment], ..v1::Decision::default() }.encode_to_vec()
        };
        Self {
            topic: constants.topic.clone(),
            constant: constant.encode_to_vec(),
            segments: segments.iter().map(alone).collect(),
            scores: constants.model.is_some(),
        }
    }

    pub(super) fn write(
        &self,
        decision: &Decision<'_>,
        expires_at: EventTime,
        segments: impl Iterator<Item = usize>,
        to: &mut Vec<u8>,
    ) {
        to.extend_from_slice(&self.constant);
        // A topic's name has at most 249 bytes, so the id's length fits two bytes of a varint, which may be padded.
        encode_key(2, WireType::LengthDelimited, to);
        let length_at = to.len();
        to.extend_from_slice(&[0x80, 0]);
        write_id(&self.topic, decision.position, to);
        let length = to.len() - length_at - 2;
        to[length_at] |= (length & 0x7f) as u8;
        to[length_at + 1] = (length >> 7) as u8;
        bytes(3, decision.user.as_bytes(), to);
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
        for segment in segments {
            to.extend_from_slice(&self.segments[segment]);
        }
        let position = decision.position;
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
        if self.scores {
            encode_key(11, WireType::LengthDelimited, to);
            // NaN and ±inf are no score, as in JSON.
            match decision.score.filter(|score| score.is_finite()) {
                Some(score) => {
                    encode_varint(5, to);
                    encode_key(1, WireType::ThirtyTwoBit, to);
                    to.extend_from_slice(&score.to_le_bytes());
                }
                None => encode_varint(0, to),
            }
        }
    }
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
