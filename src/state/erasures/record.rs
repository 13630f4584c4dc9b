//! The records of erased users in the changelog: keys that name nobody, and values with a checksum.

use crate::{
    proto::v1,
    state::{
        Unfit,
        changelog::{checksum_of, record_digest},
        hash_key, is_event_time, pack, unpack,
    },
};
use prost::Message;
use sha2::{Digest, Sha256};

/// The version of the record encoding.
const VERSION: u32 = 1;

/// The prefix of the keys of entries. User keys are UTF-8, which never contains this byte.
const KEY: &[u8] = b"\xfferased/";

/// The bytes of an entry's name: the hash of the user's key, and the first half of its SHA-256.
const NAME_BYTES: usize = 24;

/// The time of an erasure that did not happen.
pub(super) const NEVER: i64 = -1;

/// The most words that are kept with an entry.
const KEPT_WORDS_MAX: usize = 64;

/// Whether this is the key of an erased user's entry.
pub fn is_erasure_key(key: &[u8]) -> bool {
    key.starts_with(KEY)
}

/// The key of the entry of the user with this key.
pub fn erasure_key(user: &[u8]) -> Vec<u8> {
    Name::of(hash_key(user), user).key()
}

/// Decodes the entry with this key: when its user was erased, in microseconds since 1970. `None` if it only keeps what a user
/// chose whose profile has expired.
///
/// # Errors
/// Why the record is unusable.
pub fn decode_erasure(key: &[u8], bytes: &[u8]) -> Result<Option<i64>, Unfit> {
    decode(key, bytes).map(|entry| entry.erased_at())
}

/// What stands for a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) hash: u64,
    digest: [u8; NAME_BYTES - 8],
}

impl Name {
    pub(super) fn of(hash: u64, user: &[u8]) -> Self {
        let digest = Sha256::digest(user);
        Self { hash, digest: *digest.first_chunk().expect("it has 32 bytes") }
    }

    pub(super) fn key(&self) -> Vec<u8> {
        [KEY, &self.hash.to_be_bytes(), &self.digest].concat()
    }

    pub(super) fn of_key(key: &[u8]) -> Option<Self> {
        let name: &[u8; NAME_BYTES] = key.strip_prefix(KEY)?.try_into().ok()?;
        let (hash, digest) = name.split_first_chunk()?;
        Some(Self { hash: u64::from_be_bytes(*hash), digest: digest.try_into().ok()? })
    }
}

/// An erased user, or one whose profile has expired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: Name,
    /// When the user was erased, in microseconds since 1970, or [`NEVER`].
    pub(super) at: i64,
    /// From when on it is kept: the time of the erasure, or of the user's last event if that is later.
    pub(super) seen: i64,
    pub(super) kept: Box<[u64]>,
    /// What its record in the changelog adds to the digest; 0 without a record.
    pub(super) recorded: u64,
    /// Whether that record says the same as the entry.
    pub(super) is_written: bool,
}

impl Entry {
    pub(super) fn erased_at(&self) -> Option<i64> {
        Some(self.at).filter(|at| *at != NEVER)
    }

    /// The record, encoded as `aimpoint.v1.Erasure`.
    pub(super) fn encode(&self) -> Vec<u8> {
        let kept = pack(&self.kept);
        let seen_at = if self.seen == self.at { 0 } else { self.seen };
        let mut record = v1::Erasure { schema_version: VERSION, erased_at: self.at, kept, seen_at, checksum: 0 };
        record.checksum = checksum_of(&self.name.key(), &record.encode_to_vec());
        record.encode_to_vec()
    }

    /// What its record adds to the digest.
    pub(super) fn digest(&self) -> u64 {
        let kept = self.kept.iter().fold(0, |sum, word| record_digest(sum, *word as i64));
        let digest = record_digest(self.name.hash ^ kept, self.at);
        if self.seen == self.at { digest } else { record_digest(digest, self.seen) }
    }
}

pub(super) fn decode(key: &[u8], bytes: &[u8]) -> Result<Entry, Unfit> {
    let record = v1::Erasure::decode(bytes).map_err(|_| Unfit::Damaged)?;
    if record.schema_version != VERSION {
        return Err(Unfit::Version);
    }
    let unsigned = v1::Erasure { checksum: 0, ..record.clone() };
    let name = Name::of_key(key).ok_or(Unfit::Damaged)?;
    let kept = unpack(&record.kept).filter(|kept| kept.len() <= KEPT_WORDS_MAX).ok_or(Unfit::Damaged)?;
    let (at, seen) = (record.erased_at, if record.seen_at == 0 { record.erased_at } else { record.seen_at });
    let is_sound = is_event_time(seen)
        && (is_event_time(at) && at <= seen || at == NEVER && !kept.is_empty())
        && record.checksum == checksum_of(key, &unsigned.encode_to_vec());
    if is_sound {
        let mut entry = Entry { name, at, seen, kept: kept.into(), recorded: 0, is_written: true };
        entry.recorded = entry.digest();
        Ok(entry)
    } else {
        Err(Unfit::Damaged)
    }
}
