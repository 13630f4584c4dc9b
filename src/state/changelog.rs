//! The formats of changelog records and of the metadata of committed offsets: the record of a profile, and the mark
//! from which to replay the input.
//!
//! Guarantees: encoding is canonical, so equal profiles give equal records. Bytes that do not decode are detected and
//! never taken for a profile.

use super::{Ceilings, PackedProfile, PartitionClock, Ticks, packed};
use crate::{proto::v1, random::mix};
use prost::Message;

/// The version of the record encoding.
const VERSION: u32 = 2;

/// The prefix of layout keys. User keys are UTF-8, which never contains this byte.
const LAYOUT_KEY: &[u8] = b"\xfflayout/";

/// The first byte of every key that does not belong to a user.
const RESERVED: u8 = 0xff;

/// The last field of a profile record is its checksum: the tag of `fixed64 checksum = 15`, and eight bytes.
const CHECKSUM_TAG: u8 = 15 << 3 | 1;
const CHECKSUM_BYTES: usize = 9;

/// The last microsecond of the year 9999. Later events are not accepted.
const TIME_MAX: i64 = 253_402_300_799_999_999;

/// 2100-01-01 in microseconds. No partition time is plausible beyond it.
const PLAUSIBLE_MAX: i64 = 4_102_444_800_000_000;

/// Whether this is a valid event time.
pub(crate) fn is_event_time(micros: i64) -> bool {
    (0..=TIME_MAX).contains(&micros)
}

/// Where to start replaying a partition to recover what the changelog lacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// The offset of the oldest dirty event or somewhat before it; the next offset to read if nothing is dirty.
    pub replay_from: i64,
    /// The exact offset of the oldest dirty event, or the next one to read. The records contain everything before it.
    pub lacking_from: i64,
    /// The partition time just before `replay_from`.
    pub clock: PartitionClock,
    /// The latest allowed event times from `replay_from` on.
    pub ceilings: Ceilings,
    /// The number of profiles in the changelog as of this commit. If a restore reads another number, the changelog is
    /// incomplete.
    pub records: u64,
    /// The digest of these profiles' keys and offsets (see `record_digest`), and of who was erased. If a restore computes
    /// another one, it read an old record, or one is missing. Earlier releases wrote none.
    pub digest: Option<u64>,
    /// How often the profiles were rebuilt from the input. Records of other generations are ignored.
    pub generation: u64,
    /// The ticks from the replay position on.
    pub ticks: Ticks,
    /// Since when users are named by the pseudonyms of which key, if they have moved to it.
    pub named: Option<NamedSince>,
}

/// Since when a partition names its users by the pseudonyms of a key. Events before it are replayed under the names that they
/// had, and so a user moves at the same event in each replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamedSince {
    /// Tells the key from others, and shows nothing of it.
    pub key: u64,
    /// The offset of the first record that is named by it.
    pub offset: i64,
}

impl NamedSince {
    fn encode(self) -> String {
        format!("{:x}:{}", self.key, self.offset)
    }

    fn decode(text: &str) -> Option<Self> {
        let (key, offset) = text.split_once(':')?;
        Some(Self { key: u64::from_str_radix(key, 16).ok()?, offset: offset.parse().ok()? })
    }
}

impl Mark {
    /// The metadata of a committed offset:
    /// `v4;<layout>;<replay_from>;<clock>;<records>;<generation>;<ceilings>;<lacking_from>;<digest>;<ticks>;<named>`. At
    /// most 1.5 kB; brokers accept 4 KiB by default. Earlier releases neither write nor read the last three. Those of them that
    /// say nothing are absent, as far as no other one follows.
    pub fn metadata(self, layout: &str) -> String {
        let Self { replay_from, lacking_from, clock, ceilings, records, digest, generation, ticks, named } = self;
        let (clock, ceilings) = (clock.encode(), ceilings.encode());
        let digest = digest.map(|digest| format!("{digest:x}"));
        let named = named.map(|named| format!(";{}", named.encode()));
        let more = match (digest, ticks.is_empty() && named.is_none()) {
            (None, true) => String::new(),
            (Some(digest), true) => format!(";{digest}"),
            (digest, false) => {
                format!(";{};{}{}", digest.unwrap_or_default(), ticks.encode(), named.unwrap_or_default())
            }
        };
        format!("v4;{layout};{replay_from};{clock};{records};{generation};{ceilings};{lacking_from}{more}")
    }

    /// Parses metadata into the mark and the layout id of its writer. In `v3`, the partition time was the newest
    /// event's, and there were no ceilings.
    pub fn parse(metadata: &str) -> Option<(Self, &str)> {
        let mut parts = metadata.split(';');
        let version = parts.next()?;
        let layout = parts.next()?;
        let replay_from = parts.next()?.parse().ok()?;
        let clock = PartitionClock::decode(parts.next()?)?;
        let (records, generation) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let mut mark = Self { replay_from, lacking_from: replay_from, clock, records, generation, ..Self::default() };
        match version {
            "v4" => {
                mark.ceilings = Ceilings::decode(parts.next()?)?;
                mark.lacking_from = parts.next()?.parse().ok()?;
                let (digest, ticks) = (parts.next(), parts.next());
                let is_empty = |digest: &&str| digest.is_empty() && ticks.is_some();
                let digest = digest.filter(|it| !is_empty(it)).map(|it| u64::from_str_radix(it, 16));
                mark.digest = digest.transpose().ok()?;
                mark.ticks = ticks.map_or(Some(Ticks::default()), Ticks::decode)?;
                mark.named = parts.next().map_or(Some(None), |it| NamedSince::decode(it).map(Some))?;
            }
            // Such a time may come from a single wrong clock.
            "v3" if clock.time().is_some_and(|time| time > PLAUSIBLE_MAX) => mark.clock = PartitionClock::default(),
            "v3" => {}
            _ => return None,
        }
        Some((mark, layout))
    }

    /// Whether a commit of this offset can have produced it. Anyone who may commit offsets can write arbitrary
    /// metadata.
    pub fn is_sound(&self, committed: i64) -> bool {
        (0..=committed).contains(&self.replay_from)
            && (self.replay_from..=committed).contains(&self.lacking_from)
            && self.clock.all(is_event_time)
            && self.ticks.all().iter().all(|(offset, time)| (0..=committed).contains(offset) && is_event_time(*time))
            && self.named.is_none_or(|named| (0..=committed).contains(&named.offset))
            && self.generation < i64::MAX as u64
            && self.records < i64::MAX as u64
    }
}

/// What the record of the user with this hash, complete up to the offset `as_of`, adds to the digest of a changelog.
/// The digest is the wrapping sum over all users, so each write updates it and the order does not matter. The hash is
/// [`super::hash_key`]'s.
pub(super) fn record_digest(hash: u64, as_of: i64) -> u64 {
    mix(hash ^ mix(as_of as u64))
}

/// The key of a layout record.
pub fn layout_key(id: &str) -> Vec<u8> {
    [LAYOUT_KEY, id.as_bytes()].concat()
}

/// Whether this is the key of a layout.
pub fn is_layout_key(key: &[u8]) -> bool {
    key.starts_with(LAYOUT_KEY)
}

/// The id of the layout with this key.
pub fn layout_id(key: &[u8]) -> Option<&str> {
    std::str::from_utf8(key.strip_prefix(LAYOUT_KEY)?).ok()
}

/// Whether this key is reserved, and so not a user's.
pub fn is_reserved_key(key: &[u8]) -> bool {
    key.first() == Some(&RESERVED)
}

/// Why a record of the changelog or of a snapshot is unusable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// The bytes do not decode, or the checksum differs.
    Damaged,
    /// It was written by another version of the program.
    Version,
    /// It claims to include events that are not committed.
    Ahead,
    /// It has no state, because the topic did not accept the full record.
    TooLarge,
    /// Its newest event is far later than the record itself.
    Future,
    /// Its words are not a valid profile of its layout.
    Words,
    /// Its layout is unknown.
    Layout,
}

impl Unfit {
    /// The reason in words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Damaged => "its bytes are damaged",
            Self::Version => "it is of another version",
            Self::Ahead => "it is ahead of the committed position",
            Self::TooLarge => "its state was larger than the topic takes",
            Self::Future => "its newest event is far later than the record itself",
            Self::Words => "its state does not fit its layout",
            Self::Layout => "its layout is not known",
        }
    }
}

/// The fields of a profile record other than its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProfileRecord<'a> {
    /// The state includes every event before this offset.
    pub as_of: i64,
    /// The id of the state's layout.
    pub layout: &'a str,
    /// The generation it belongs to.
    pub generation: u64,
    /// In a snapshot: the offset from which the changelog lacks the state, if something other than an event has changed
    /// it.
    pub dirty_from: Option<i64>,
}

impl ProfileRecord<'_> {
    /// Appends the record for the user with this key, encoded as `aimpoint.v1.Profile`.
    pub fn encode(&self, key: &[u8], profile: PackedProfile<'_>, to: &mut Vec<u8>) {
        self.write(key, profile.0, to);
    }

    fn write(&self, key: &[u8], state: &[u8], to: &mut Vec<u8>) {
        let Self { as_of, layout, generation, dirty_from } = *self;
        let (layout, state) = (layout.to_owned(), state.to_vec());
        let record =
            v1::Profile { schema_version: VERSION, as_of, layout, state, history: generation, dirty_from, checksum: 0 };
        let start = to.len();
        record.encode(to).expect("a vector takes everything");
        let checksum = checksum(key, &to[start..]);
        to.push(CHECKSUM_TAG);
        to.extend_from_slice(&checksum.to_le_bytes());
    }
}

/// The checksum of another record in the changelog, over its key and its bytes.
pub(super) fn checksum_of(key: &[u8], record: &[u8]) -> u64 {
    checksum(key, record)
}

/// The checksum of a record. It covers the key as well as all preceding bytes, so a record under a wrong key is
/// detected.
fn checksum(key: &[u8], record: &[u8]) -> u64 {
    // The version of this hash is part of the format.
    let hash = rapidhash::v3::rapidhash_v3;
    let mut both = [0; 16];
    both[..8].copy_from_slice(&hash(key).to_le_bytes());
    both[8..].copy_from_slice(&hash(record).to_le_bytes());
    hash(&both)
}

/// Decodes the record of the user with this key. A record without a checksum was written by an earlier release and is
/// checked only by its structure. Whether the state fits its layout is not checked.
///
/// # Errors
/// Why the record is unusable.
pub fn decode_profile(key: &[u8], bytes: &[u8]) -> Result<v1::Profile, Unfit> {
    let record = v1::Profile::decode(bytes).map_err(|_| Unfit::Damaged)?;
    if record.schema_version != VERSION {
        return Err(Unfit::Version);
    }
    if record.checksum != 0 {
        let (body, last) = bytes.split_at(bytes.len().saturating_sub(CHECKSUM_BYTES));
        if last.first() != Some(&CHECKSUM_TAG) || record.checksum != checksum(key, body) {
            return Err(Unfit::Damaged);
        }
    }
    if packed::is_whole(&record.state) { Ok(record) } else { Err(Unfit::Damaged) }
}

/// The record written when the topic rejects the full one as too large: the same without the state. A restore finds
/// that it does not fit its layout and replays the input for this user only. `None` if `bytes` is not a valid record.
pub fn without_state(key: &[u8], bytes: &[u8]) -> Option<Vec<u8>> {
    let record = decode_profile(key, bytes).ok()?;
    let mut stub = Vec::new();
    let of =
        ProfileRecord { as_of: record.as_of, layout: &record.layout, generation: record.history, dirty_from: None };
    of.write(key, &[], &mut stub);
    Some(stub)
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
            ProfileRecord { as_of, layout: "f", generation: 3, dirty_from: None }.encode(b"ann", PackedProfile(&state), &mut record);
            let mut unpacked = Vec::new();
            prop_assert!(packed::unpack(&state, &mut unpacked));
            prop_assert_eq!(&unpacked, &words);
            prop_assert_eq!(packed::first(&state), words.first().copied());
            let found = decode_profile(b"ann", &record).expect("it is as it was written");
            prop_assert_eq!((found.as_of, found.layout.as_str(), &found.state, found.history), (as_of, "f", &state, 3));
            prop_assert_eq!(decode_profile(b"bob", &record), Err(Unfit::Damaged), "it is another user's");
            let stub = decode_profile(b"ann", &without_state(b"ann", &record).expect("it is a record"));
            prop_assert_eq!(stub.map(|it| (it.as_of, it.state.len())), Ok((as_of, 0)));
            // A record from before checksums were introduced.
            let old = v1::Profile { checksum: 0, ..found.clone() };
            prop_assert_eq!(decode_profile(b"bob", &old.encode_to_vec()), Ok(old));
            let at = at.index(record.len());
            record[at] ^= 1 << bit;
            if let Ok(changed) = decode_profile(b"ann", &record) {
                prop_assert_eq!(changed.checksum, 0, "only a field that is no checksum any more goes unnoticed");
            }
            let cut = decode_profile(b"ann", &record[..at]);
            prop_assert!(cut.is_err() || at + CHECKSUM_BYTES <= record.len());
        }
    }

    #[test]
    fn records_are_written_and_read_as_changelogs_have_them() {
        // If these bytes changed, no record of an earlier release could be read.
        let state = crate::state::pack(&[1_700_000_000_000_000, 0, 0, 7 << 40, 2.5_f64.to_bits()]);
        let mut record = Vec::new();
        ProfileRecord { as_of: 77, layout: "5d71f80ec312a748", generation: 3, dirty_from: None }.encode(
            b"ann",
            PackedProfile(&state),
            &mut record,
        );
        let body = "0802104d1a1035643731663830656333313261373438220d11060a24181e409025070640042803";
        assert_eq!(crate::hex::encode(&record), format!("{body}79aa4c92a4bfeb2d25"));
        // The first releases wrote no checksum.
        let found = decode_profile(b"ann", &record[..record.len() - CHECKSUM_BYTES]).expect("it is as it was written");
        assert_eq!((found.as_of, found.history, found.state), (77, 3, state));
    }

    #[test]
    fn a_mark_travels_in_the_metadata_with_its_layout() {
        let mut clock = PartitionClock::default();
        let mut ceilings = Ceilings::default();
        (0..7).for_each(|user| clock.note(u64::MAX - user, user as i64 - 5));
        (70..75).for_each(|offset| ceilings.follow(offset, offset * 1_000_000_000_000));
        let mut ticks = Ticks::default();
        assert!(ticks.add(77, 1_700_000_000_000_000) && ticks.add(78, 1_700_000_001_000_000));
        for mark in [
            Mark::default(),
            Mark {
                replay_from: 77,
                lacking_from: 80,
                clock,
                ceilings,
                records: 3,
                digest: Some(u64::MAX),
                generation: 9,
                ticks,
                named: Some(NamedSince { key: u64::MAX - 1, offset: 79 }),
            },
            Mark { named: Some(NamedSince { key: 1, offset: 0 }), ..Mark::default() },
            Mark { digest: Some(5), ..Mark::default() },
            Mark { ticks, ..Mark::default() },
            Mark { replay_from: 77, clock: PartitionClock::at(Some(-5)), records: 3, ..Mark::default() },
        ] {
            assert_eq!(Mark::parse(&mark.metadata("ab")), Some((mark, "ab")));
        }
        for text in [
            "",
            "v4;ab",
            "v2;ab;1;;1;1;;1",
            "v4;ab;1;;1;1;",
            "v4;ab;x;;1;1;;1",
            "v4;ab;1;x;1;1;;1",
            "v4;ab;1;;x;1;;1",
            "v4;ab;1;;1;1;;1;x",
            "v4;ab;1;;1;1;;1;;x",
            "v4;ab;1;;1;1;;1;;5:2,4:3",
            "v4;ab;1;;1;1;;1;;;x",
            "v4;ab;1;;1;1;;1;;;a:",
        ] {
            assert_eq!(Mark::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn without_ticks_the_metadata_is_as_it_was_before_there_were_any() {
        // If these bytes changed, an update would commit every position once more.
        let mark =
            Mark { replay_from: 7, lacking_from: 8, records: 3, digest: Some(255), generation: 2, ..Mark::default() };
        assert_eq!(mark.metadata("ab"), "v4;ab;7;;3;2;;8;ff");
        let mut ticks = Ticks::default();
        assert!(ticks.add(9, 1_700_000_000_000_000));
        assert_eq!(Mark { ticks, ..mark }.metadata("ab"), "v4;ab;7;;3;2;;8;ff;9:1700000000000000");
        let named = Some(NamedSince { key: 0xab, offset: 5 });
        assert_eq!(Mark { named, ..mark }.metadata("ab"), "v4;ab;7;;3;2;;8;ff;;ab:5");
    }

    #[test]
    fn a_mark_of_before_there_were_ceilings_is_still_read() {
        let parse = |text| Mark::parse(text).expect("it is a mark").0;
        assert_eq!(
            parse("v3;ab;1;;2;3"),
            Mark { replay_from: 1, lacking_from: 1, records: 2, generation: 3, ..Mark::default() }
        );
        assert_eq!(parse("v3;ab;1;1700000000000000;2;3").clock.time(), Some(1_700_000_000_000_000));
        assert_eq!(parse("v3;ab;1;253402300799999999;2;3").clock.time(), None, "one clock that was wrong ends with it");
    }
}
