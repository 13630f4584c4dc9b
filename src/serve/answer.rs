//! The formats in which a stored decision is returned.

use super::{
    message::{Membership, Targeting, write_user},
    store::StoredDecision,
};
use crate::proto::v1;
use prost::Message;
use rapidhash::v3::rapidhash_v3;

impl StoredDecision<'_> {
    /// The decision in Protobuf: `aimpoint.v1.Decision`.
    pub fn protobuf(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.message.len() + self.key.len() + 16);
        bytes.extend_from_slice(self.message);
        write_user(self.key, &mut bytes);
        bytes
    }

    /// The decision in its proto3 JSON form. Members with their default value are left out.
    pub fn json(&self) -> Vec<u8> {
        // Only readable decisions are stored, and their JSON has only strings as keys.
        let decision = v1::Decision::decode(&*self.protobuf()).unwrap_or_default();
        serde_json::to_vec(&decision).unwrap_or_default()
    }

    /// A number that differs between decisions, the same in every process.
    pub fn tag(&self) -> u64 {
        rapidhash_v3(self.message)
    }

    /// The segments that the user is in at this moment, in microseconds since 1970.
    pub(super) fn segments(&self, now: i64) -> Vec<v1::Segment> {
        let Membership { mut segments } = Membership::decode(self.message).unwrap_or_default();
        segments.retain(|segment| is_in(segment, now));
        segments
    }

    /// The segments that the user is in at this moment, the campaigns with their bids, and the model.
    pub(super) fn targeting(&self, now: i64) -> Targeting {
        let mut targeting = Targeting::decode(self.message).unwrap_or_default();
        targeting.segments.retain(|segment| is_in(segment, now));
        targeting
    }
}

fn is_in(segment: &v1::Segment, now: i64) -> bool {
    segment.expires_at == 0 || segment.expires_at > now
}
