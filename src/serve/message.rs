//! The bytes of a decision in Protobuf: its times, and what its key says as well.
//!
//! The store keeps a decision without `user_key` and `key_type`, because the user's key contains both. It also drops `features`:
//! the inputs of the model are logged for training, and bidders do not get them. All other fields, known or unknown, keep their bytes
//! and their order.

use crate::{
    event::{KeyType, split_key},
    proto::v1,
};
use prost::{
    bytes::Buf,
    encoding::{DecodeContext, WireType, decode_key, decode_varint, encode_key, encode_varint, skip_field},
};
use rapidhash::v3::{RapidSecrets, rapidhash_v3_seeded};

/// The numbers of fields of `aimpoint.v1.Decision`.
const USER_KEY: u32 = 3;
const DECIDED_AT: u32 = 6;
const EXPIRES_AT: u32 = 7;
const KEY_TYPE: u32 = 17;
const FEATURES: u32 = 23;

/// The hash of a user's key.
pub(super) fn hash_of(key: &[u8]) -> u32 {
    const SECRETS: RapidSecrets = RapidSecrets::seed(0x73_6572_7665);
    rapidhash_v3_seeded(key, &SECRETS) as u32
}

/// The times of a decision, in microseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Times {
    /// When it was made.
    pub(super) decided_at: i64,
    /// Until when it may be used.
    pub(super) expires_at: i64,
}

impl Times {
    /// Those of a message. 0 if they are absent.
    pub(super) fn of(message: &[u8]) -> Self {
        let mut times = Self::default();
        for field in fields(message) {
            let number = |mut bytes: &[u8]| decode_varint(&mut bytes).unwrap_or_default() as i64;
            match field.number {
                DECIDED_AT => times.decided_at = number(field.value),
                EXPIRES_AT => times.expires_at = number(field.value),
                _ => {}
            }
        }
        times
    }
}

/// A field of a message.
struct Field<'a> {
    number: u32,
    /// Its value as encoded, with its length if it has one.
    value: &'a [u8],
    /// The whole field.
    bytes: &'a [u8],
}

/// The fields of a message up to the first that cannot be read.
fn fields(message: &[u8]) -> impl Iterator<Item = Field<'_>> {
    let mut rest = message;
    std::iter::from_fn(move || {
        let start = rest;
        if !rest.has_remaining() {
            return None;
        }
        let (number, wire_type) = decode_key(&mut rest).ok()?;
        let value = rest;
        skip_field(wire_type, number, &mut rest, DecodeContext::default()).ok()?;
        let value = &value[..value.len() - rest.len()];
        Some(Field { number, value, bytes: &start[..start.len() - rest.len()] })
    })
}

/// Appends a message without what the user's key says, and without the features that its model was given.
pub(super) fn write_without_user(message: &[u8], to: &mut Vec<u8>) {
    for field in fields(message).filter(|field| ![USER_KEY, KEY_TYPE, FEATURES].contains(&field.number)) {
        to.extend_from_slice(field.bytes);
    }
}

/// Appends what a user's key says, which makes a stored message whole.
pub(super) fn write_user(key: &str, to: &mut Vec<u8>) {
    let (ty, id) = split_key(key);
    encode_key(USER_KEY, WireType::LengthDelimited, to);
    encode_varint(id.len() as u64, to);
    to.extend_from_slice(id.as_bytes());
    encode_key(KEY_TYPE, WireType::Varint, to);
    encode_varint(ty.number() as u64, to);
}

/// The type of a decision's user. Decisions without one are about persons.
pub(super) fn key_type(decision: &v1::Decision) -> KeyType {
    match decision.key_type() {
        v1::KeyType::Device => KeyType::Device,
        v1::KeyType::App => KeyType::App,
        v1::KeyType::Person | v1::KeyType::Unspecified => KeyType::Person,
    }
}

/// What of a decision a bid request needs.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Membership {
    /// The segments that the user is in.
    #[prost(message, repeated, tag = "9")]
    pub(super) segments: Vec<v1::Segment>,
}

/// What of a decision a host of agents needs.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Targeting {
    /// The segments that the user is in.
    #[prost(message, repeated, tag = "9")]
    pub(super) segments: Vec<v1::Segment>,
    /// The model that scored.
    #[prost(message, optional, tag = "12")]
    pub(super) model: Option<v1::Model>,
    /// The campaigns with their bids.
    #[prost(message, repeated, tag = "19")]
    pub(super) campaigns: Vec<v1::CampaignOffer>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;

    fn decision() -> v1::Decision {
        v1::Decision {
            schema_version: 1,
            decision_id: "shop:clicks-0-7".to_owned(),
            user_key: "7".to_owned(),
            occurred_at: 1,
            decided_at: 2,
            expires_at: 3,
            key_type: v1::KeyType::Device.into(),
            segments: vec![v1::Segment { id: "a".to_owned(), ..v1::Segment::default() }],
            ..v1::Decision::default()
        }
    }

    #[test]
    fn a_message_is_whole_again_with_what_its_key_says() {
        let whole = decision();
        let mut bytes = whole.encode_to_vec();
        // A field of a later version.
        encode_key(900, WireType::LengthDelimited, &mut bytes);
        bytes.extend_from_slice(b"\x03new");
        let mut stored = Vec::new();
        write_without_user(&bytes, &mut stored);
        assert_eq!(Times::of(&stored), Times { decided_at: 2, expires_at: 3 });
        assert!(stored.ends_with(b"new"));
        assert_eq!(v1::Decision::decode(&stored[..]).unwrap().user_key, "");
        write_user("device:7", &mut stored);
        assert_eq!(v1::Decision::decode(&stored[..]).unwrap(), whole);
        assert_eq!(stored.len(), bytes.len());
    }

    #[test]
    fn what_a_model_was_given_is_not_kept() {
        let whole = decision();
        let features = [("sessions_7d".to_owned(), 3.0), ("spend_30d".to_owned(), 1.5)].into();
        let mut stored = Vec::new();
        write_without_user(&v1::Decision { features, ..whole.clone() }.encode_to_vec(), &mut stored);
        write_user("device:7", &mut stored);
        assert_eq!(v1::Decision::decode(&stored[..]).unwrap(), whole);
    }

    #[test]
    fn bytes_that_are_no_message_have_no_times() {
        for bytes in [&b""[..], b"\xff", b"\x32", b"\x0a\xff\xff\xff\xff\x0f"] {
            assert_eq!(Times::of(bytes), Times::default());
        }
        assert_eq!(Membership::decode(&decision().encode_to_vec()[..]).unwrap().segments[0].id, "a");
    }
}
