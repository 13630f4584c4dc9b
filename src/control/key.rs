//! Hashes that stand for ids, and the text ids of records.
//!
//! Guarantees: neither ever changes, because both are in the compacted topic of control's state. A golden test holds
//! them. Limits: two of n ids have the same hash with a probability of n² / 2¹²⁹: for a billion ids, one in 10²⁰.

use crate::hex;
use rapidhash::RapidHashMap;
use rapidhash::v3::{RapidSecrets, rapidhash_v3, rapidhash_v3_seeded};

/// The seed of the upper half.
const SEED: u64 = 0x6169_6d70_6f69_6e74;

/// A map by keys. They are hashes already, so a fast hash of them will do; its seed differs from process to process.
pub type KeyMap<T> = RapidHashMap<Key, T>;

/// Bytes of ids that need no allocation: a decision's id and a campaign's, with their lengths.
const USUAL_BYTES: usize = 192;

/// The hash of a kind and some ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub u128);

impl Key {
    /// The hash of ids of this kind. Ids of different kinds, and `["ab", "c"]` and `["a", "bc"]`, have different
    /// hashes.
    pub fn of(kind: &str, ids: &[&str]) -> Self {
        const SECRETS: RapidSecrets = RapidSecrets::seed(SEED);
        let hash = |bytes: &[u8]| {
            Self(u128::from(rapidhash_v3_seeded(bytes, &SECRETS)) << 64 | u128::from(rapidhash_v3(bytes)))
        };
        let parts = || [kind].into_iter().chain(ids.iter().copied());
        let needed: usize = parts().map(|part| part.len() + 4).sum();
        let mut usual = [0; USUAL_BYTES];
        let mut larger = Vec::new();
        let bytes = match usual.get_mut(..needed) {
            Some(bytes) => bytes,
            None => {
                larger.resize(needed, 0);
                &mut larger[..]
            }
        };
        let mut rest = &mut bytes[..];
        for part in parts() {
            // Ids are far shorter than 4 GB.
            let (length, others) = rest.split_at_mut(4);
            length.copy_from_slice(&(part.len() as u32).to_le_bytes());
            let (id, others) = others.split_at_mut(part.len());
            id.copy_from_slice(part.as_bytes());
            rest = others;
        }
        hash(bytes)
    }

    /// 32 hexadecimal digits.
    pub fn text(self) -> String {
        hex::encode(&self.0.to_be_bytes())
    }

    /// Reads [`Key::text`].
    pub fn parse(text: &str) -> Option<Self> {
        hex::decode(text).map(u128::from_be_bytes).map(Self)
    }
}

/// Joins the parts of a record's id with slashes. A slash or a percent sign within a part is escaped as in a URL.
pub(super) fn join(parts: &[&str]) -> String {
    let escaped: Vec<String> = parts.iter().map(|part| part.replace('%', "%25").replace('/', "%2F")).collect();
    escaped.join("/")
}

/// The parts of a record's id.
pub(super) fn split(id: &str) -> Vec<String> {
    id.split('/').map(|part| part.replace("%2F", "/").replace("%25", "%")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_ids_are_hashed_like_short_ones() {
        let long = "x".repeat(USUAL_BYTES);
        let mut bytes = Vec::new();
        for part in ["user", &long] {
            bytes.extend((part.len() as u32).to_le_bytes());
            bytes.extend(part.as_bytes());
        }
        assert_eq!(Key::of("user", &[&long]).0 as u64, rapidhash_v3(&bytes));
        let fits = &long[..USUAL_BYTES - 12];
        assert_ne!(Key::of("user", &[fits]), Key::of("user", &[&long]));
    }

    #[test]
    fn hashes_differ_by_kind_and_by_where_one_id_ends() {
        let keys = [
            Key::of("user", &["ab", "c"]),
            Key::of("user", &["a", "bc"]),
            Key::of("user", &["abc"]),
            Key::of("user", &["abc", ""]),
            Key::of("auction", &["ab", "c"]),
        ];
        for (number, key) in keys.iter().enumerate() {
            assert!(keys[..number].iter().all(|other| other != key && other.0 >> 64 != key.0 >> 64));
            assert_eq!(Key::parse(&key.text()), Some(*key));
        }
        assert_eq!(Key::parse("00"), None);
    }

    #[test]
    fn a_record_id_survives_slashes_in_its_parts() {
        for parts in [&["v1", "day", "a/b", "-3"][..], &["v1", "", "%2F%", "//"], &["é%25"]] {
            assert_eq!(split(&join(parts)), parts);
        }
        assert_eq!(join(&["v1", "a/b"]), "v1/a%2Fb");
    }
}
