//! What the changelog and the committed offset carry: a profile's record, and the mark from which to read again.
//!
//! Guarantees: encoding is canonical, so that equal profiles are equal records; what does not decode is told apart and
//! never taken for a profile.

use super::{PackedProfile, packed};
use crate::proto::v1;
use prost::Message;
use std::fmt;

/// The version of a record's encoding.
const VERSION: u32 = 2;

/// From where a partition has to be read again to make up for what the changelog does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The oldest dirty event, or the next one to read.
    pub replay_from: i64,
    /// The partition's newest event time before it.
    pub newest: Option<i64>,
    /// How many profiles the changelog holds as of this commit: another number read back tells that it is not whole.
    pub records: u64,
}

impl Mark {
    /// The metadata string of a committed offset: `v2;<fingerprint>;<replay_from>;<newest>;<records>`.
    pub fn metadata(self, fingerprint: &str) -> String {
        Metadata(self, fingerprint).to_string()
    }

    /// Reads a metadata string, if it is one of this fingerprint.
    pub fn parse(metadata: &str, fingerprint: &str) -> Option<Self> {
        let mut parts = metadata.split(';');
        if parts.next()? != "v2" || parts.next()? != fingerprint {
            return None;
        }
        let replay_from = parts.next()?.parse().ok()?;
        let newest = match parts.next()? {
            "" => None,
            text => Some(text.parse().ok()?),
        };
        let records = parts.next()?.parse().ok()?;
        Some(Self { replay_from, newest, records })
    }
}

struct Metadata<'a>(Mark, &'a str);

impl fmt::Display for Metadata<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v2;{};{};", self.1, self.0.replay_from)?;
        self.0.newest.map_or(Ok(()), |newest| write!(f, "{newest}"))?;
        write!(f, ";{}", self.0.records)
    }
}

/// Appends a profile's record, `aimpoint.v1.Profile`: complete with every event before `as_of`.
pub fn encode_profile(profile: PackedProfile<'_>, as_of: i64, fingerprint: &str, to: &mut Vec<u8>) {
    let record =
        v1::Profile { schema_version: VERSION, as_of, fingerprint: fingerprint.to_owned(), state: profile.0.to_vec() };
    record.encode(to).expect("a vector takes everything");
}

/// Reads a profile's record: its state and `as_of`. Nothing where it is of another version or fingerprint, or is no record.
pub fn decode_profile(bytes: &[u8], fingerprint: &str) -> Option<(Vec<u8>, i64)> {
    let record = v1::Profile::decode(bytes).ok()?;
    let is_ours = record.schema_version == VERSION && record.fingerprint == fingerprint;
    (is_ours && packed::is_whole(&record.state)).then_some((record.state, record.as_of))
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
            encode_profile(PackedProfile(&state), as_of, "f", &mut record);
            let mut unpacked = Vec::new();
            prop_assert!(packed::unpack(&state, &mut unpacked));
            prop_assert_eq!(&unpacked, &words);
            prop_assert_eq!(packed::first(&state), words.first().copied());
            prop_assert_eq!(decode_profile(&record, "f"), Some((state, as_of)));
            prop_assert_eq!(decode_profile(&record, "g"), None);
            let at = at.index(record.len());
            record[at] ^= 1 << bit;
            decode_profile(&record, "f");
            decode_profile(&record[..at], "f");
        }
    }

    #[test]
    fn a_mark_travels_in_the_metadata_of_its_fingerprint_alone() {
        for mark in
            [Mark { replay_from: 0, newest: None, records: 0 }, Mark { replay_from: 77, newest: Some(-5), records: 3 }]
        {
            assert_eq!(Mark::parse(&mark.metadata("ab"), "ab"), Some(mark));
            assert_eq!(Mark::parse(&mark.metadata("ab"), "cd"), None);
        }
        for text in ["", "v2;ab", "v1;ab;1;", "v2;ab;1;", "v2;ab;x;;1", "v2;ab;1;x;1", "v2;ab;1;;x"] {
            assert_eq!(Mark::parse(text, "ab"), None, "{text:?}");
        }
    }
}
