//! What the changelog and the committed offset carry: a profile's record, and the mark from which to read again.
//!
//! Guarantees: encoding is canonical, so that equal profiles are equal records; what does not decode is told apart and
//! never taken for a profile.

use super::{PackedProfile, packed};
use crate::proto::v1;
use prost::Message;

/// The version of a record's encoding.
const VERSION: u32 = 2;

/// How the keys of layouts begin. Users' keys are texts, and no text has this byte.
const LAYOUT_KEY: &[u8] = b"\xfflayout/";

/// From where a partition has to be read again to make up for what the changelog does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The oldest dirty event, or the next one to read.
    pub replay_from: i64,
    /// The partition's newest event time before it.
    pub newest: Option<i64>,
    /// How many profiles the changelog holds as of this commit: another number read back tells that it is not whole.
    pub records: u64,
    /// How often the profiles had been begun anew from the input: records of another history do not count.
    pub history: u64,
}

impl Mark {
    /// The metadata string of a committed offset: `v3;<layout>;<replay_from>;<newest>;<records>;<history>`.
    pub fn metadata(self, layout: &str) -> String {
        let Self { replay_from, records, history, .. } = self;
        let newest = self.newest.map(|newest| newest.to_string()).unwrap_or_default();
        format!("v3;{layout};{replay_from};{newest};{records};{history}")
    }

    /// Reads a metadata string, if it is one: the mark, and the id of the layout of who made it.
    pub fn parse(metadata: &str) -> Option<(Self, &str)> {
        let mut parts = metadata.split(';');
        if parts.next()? != "v3" {
            return None;
        }
        let layout = parts.next()?;
        let replay_from = parts.next()?.parse().ok()?;
        let newest = match parts.next()? {
            "" => None,
            text => Some(text.parse().ok()?),
        };
        let (records, history) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        Some((Self { replay_from, newest, records, history }, layout))
    }
}

/// The key of a layout's record.
pub fn layout_key(id: &str) -> Vec<u8> {
    [LAYOUT_KEY, id.as_bytes()].concat()
}

/// Whether this is the key of a layout, and of no user.
pub fn is_layout_key(key: &[u8]) -> bool {
    key.starts_with(LAYOUT_KEY)
}

/// What a profile's record says beside its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProfileRecord<'a> {
    /// The state is complete with every event before this offset.
    pub as_of: i64,
    /// The id of its layout.
    pub layout: &'a str,
    /// The history that it belongs to.
    pub history: u64,
}

impl ProfileRecord<'_> {
    /// Appends the record, `aimpoint.v1.Profile`.
    pub fn encode(&self, profile: PackedProfile<'_>, to: &mut Vec<u8>) {
        let Self { as_of, layout, history } = *self;
        let state = profile.0.to_vec();
        let record = v1::Profile { schema_version: VERSION, as_of, layout: layout.to_owned(), state, history };
        record.encode(to).expect("a vector takes everything");
    }
}

/// Reads a profile's record. Nothing where it is of another version or damaged.
pub fn decode_profile(bytes: &[u8]) -> Option<v1::Profile> {
    let record = v1::Profile::decode(bytes).ok()?;
    (record.schema_version == VERSION && packed::is_whole(&record.state)).then_some(record)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn a_profile_comes_back_and_a_damaged_record_never_panics(
            words in prop::collection::vec(prop_oneof![any::<u64>(), any::<f64>().prop_map(f64::to_bits), 0_u64..300, Just(0)], 0..400),
            as_of in any::<i64>(),
            at in any::<prop::sample::Index>(),
            bit in 0_u8..8,
        ) {
            let (mut record, mut state) = (Vec::new(), Vec::new());
            packed::pack(&words, &mut state);
            ProfileRecord { as_of, layout: "f", history: 3 }.encode(PackedProfile(&state), &mut record);
            let mut unpacked = Vec::new();
            prop_assert!(packed::unpack(&state, &mut unpacked));
            prop_assert_eq!(&unpacked, &words);
            prop_assert_eq!(packed::first(&state), words.first().copied());
            let owed = v1::Profile { schema_version: VERSION, as_of, layout: "f".to_owned(), state, history: 3 };
            prop_assert_eq!(decode_profile(&record), Some(owed));
            let at = at.index(record.len());
            record[at] ^= 1 << bit;
            decode_profile(&record);
            decode_profile(&record[..at]);
        }
    }

    #[test]
    fn a_mark_travels_in_the_metadata_with_its_layout() {
        for mark in [
            Mark { replay_from: 0, newest: None, records: 0, history: 0 },
            Mark { replay_from: 77, newest: Some(-5), records: 3, history: 9 },
        ] {
            assert_eq!(Mark::parse(&mark.metadata("ab")), Some((mark, "ab")));
        }
        for text in ["", "v3;ab", "v2;ab;1;;1", "v3;ab;1;;1", "v3;ab;x;;1;1", "v3;ab;1;x;1;1", "v3;ab;1;;x;1"] {
            assert_eq!(Mark::parse(text), None, "{text:?}");
        }
    }
}
