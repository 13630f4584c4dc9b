//! Size limits of topics, and the smaller forms of outputs that exceed them.
//!
//! Guarantees: an output that is too large for its topic is replaced by a smaller one that says so, rather than failing
//! its transaction again and again. A dead letter loses the end of its payload and, if its headers are still too large,
//! headers too; the reason is kept longest. A decision becomes a dead letter that names its position in the input. A
//! profile is written without its state; a restore detects that and replays the input for this user only. Limits are
//! those that the topics report, or else those learned from refusals.

use super::{Output, Target};
use crate::{event::RejectReason, state::without_state};
use std::borrow::Cow;

/// What a broker with Kafka's default settings accepts, less the protocol's overhead. It is the first guess if a
/// refusal does not name the limit.
const USUAL_BYTES: usize = 1_000_000;

/// The protocol's overhead for a message alone in its batch (61 bytes for the batch, up to 30 for the message), and for
/// each header.
const MESSAGE_OVERHEAD: usize = 100;
const HEADER_OVERHEAD: usize = 8;

/// The smallest dead letter: only the longest reason.
const DEAD_LETTER_BYTES_MIN: usize = MESSAGE_OVERHEAD + HEADER_OVERHEAD + "reason".len() + "output_too_large".len();

/// About the smallest profile: a short key and no state.
const PROFILE_BYTES_MIN: usize = 2 * MESSAGE_OVERHEAD;

/// The headers that a dead letter loses, in order. The position of the record goes last, because it allows to find the
/// record.
const HEADERS_LOST: [&str; 11] = [
    "detail",
    "withheld_bytes",
    "traceparent",
    "key_cut_from_bytes",
    "cut_from_bytes",
    "timestamp_ms",
    "topic",
    "key",
    "index",
    "partition",
    "offset",
];

/// Longer keys of dead letters are truncated; they are whatever the producer of the input chose.
const DEAD_LETTER_KEY_BYTES_MAX: usize = 32 << 10;

/// The largest messages that topics accept, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeLimits {
    /// Of the decision topic.
    pub decisions: usize,
    /// Of the dead-letter topic.
    pub dead_letters: usize,
    /// Of the changelog topic of the profiles.
    pub profiles: usize,
}

impl Default for SizeLimits {
    /// No known limits.
    fn default() -> Self {
        Self { decisions: usize::MAX, dead_letters: usize::MAX, profiles: usize::MAX }
    }
}

impl SizeLimits {
    /// The limit of the topic that an output goes to.
    pub fn of(&self, target: Target) -> usize {
        match target {
            Target::Decisions => self.decisions,
            Target::DeadLetters => self.dead_letters,
            Target::Profiles(_) => self.profiles,
        }
    }

    fn of_mut(&mut self, target: Target) -> &mut usize {
        match target {
            Target::Decisions => &mut self.decisions,
            Target::DeadLetters => &mut self.dead_letters,
            Target::Profiles(_) => &mut self.profiles,
        }
    }

    /// The smallest of the limits.
    pub fn least(&self) -> usize {
        self.decisions.min(self.dead_letters).min(self.profiles)
    }

    /// The limits, capped at `bytes`.
    #[must_use]
    pub fn within(mut self, bytes: usize) -> Self {
        for limit in [&mut self.decisions, &mut self.dead_letters, &mut self.profiles] {
            *limit = (*limit).min(bytes);
        }
        self
    }

    /// Records that a message of this size was refused, and returns the limit to apply from now on; `None` if no
    /// smaller message is possible. A decision can always be made smaller: it becomes a dead letter.
    pub fn refused(&mut self, target: Target, bytes: usize) -> Option<usize> {
        let least = match target {
            Target::Decisions => 0,
            Target::DeadLetters => DEAD_LETTER_BYTES_MIN,
            Target::Profiles(_) => PROFILE_BYTES_MIN,
        };
        let limit = self.of_mut(target);
        let known = (*limit).min(bytes);
        if known <= least {
            return None;
        }
        *limit = if known > USUAL_BYTES { USUAL_BYTES } else { (known / 4 * 3).max(least) };
        Some(*limit)
    }
}

/// The replacement for an output that is too large.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Smaller<'a> {
    /// Its topic.
    pub target: Target,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value.
    pub payload: Option<Cow<'a, [u8]>>,
    /// Its headers.
    pub headers: Vec<(&'static str, Cow<'a, [u8]>)>,
}

impl Smaller<'_> {
    /// Its size as a message of its own.
    pub fn bytes(&self) -> usize {
        let headers = self.headers.iter().map(|(name, value)| (*name, value.as_ref()));
        parts_bytes(self.key, self.payload.as_deref(), headers)
    }
}

/// The size of an output as a message of its own.
pub fn message_bytes(output: &Output<'_>) -> usize {
    parts_bytes(output.key, output.payload, output.headers())
}

/// The size of these parts as a message of its own.
pub(super) fn parts_bytes<'n, 'v>(
    key: Option<&[u8]>,
    payload: Option<&[u8]>,
    headers: impl Iterator<Item = (&'n str, &'v [u8])>,
) -> usize {
    let headers = headers.map(|(name, value)| name.len() + value.len() + HEADER_OVERHEAD);
    [key, payload].into_iter().flatten().map(<[u8]>::len).sum::<usize>() + headers.sum::<usize>() + MESSAGE_OVERHEAD
}

/// The replacement for an output that exceeds the limit of its topic; `None` if it fits. `input` is the topic of the
/// events.
pub fn smaller<'a>(output: &Output<'a>, limits: &SizeLimits, input: &str) -> Option<Smaller<'a>> {
    let bytes = message_bytes(output);
    let limit = limits.of(output.target);
    if bytes <= limit {
        return None;
    }
    let mut headers: Vec<(&'static str, Cow<'a, [u8]>)> =
        output.headers().map(|(name, value)| (name, Cow::Borrowed(value))).collect();
    let payload = output.payload.map(Cow::Borrowed);
    let mut it = Smaller { target: output.target, key: output.key, payload, headers: Vec::new() };
    match output.target {
        Target::Profiles(_) => {
            // Layouts and tombstones cannot be made smaller.
            it.payload = Some(Cow::Owned(without_state(output.key?, output.payload?)?));
            return Some(it);
        }
        Target::Decisions => {
            it.target = Target::DeadLetters;
            let mut told = |name, text: String| headers.push((name, Cow::Owned(text.into_bytes())));
            told("reason", RejectReason::OutputTooLarge.to_string());
            told(
                "detail",
                format!(
                    "the decision has {bytes} bytes and its topic takes {limit}: raise the topic's max.message.bytes"
                ),
            );
            told("topic", input.to_owned());
            if let Some(origin) = output.origin {
                told("partition", origin.partition.to_string());
                told("offset", origin.offset.to_string());
                told("index", if origin.index > 0 { origin.index.to_string() } else { String::new() });
            }
        }
        Target::DeadLetters => {}
    }
    it.headers = headers;
    cut(&mut it, limits.dead_letters);
    Some(it)
}

/// Shortens a dead letter to its topic's limit: first its key, then its payload, then its headers except the reason.
fn cut(it: &mut Smaller<'_>, limit: usize) {
    let cut_from = |name, from: usize| (name, Cow::Owned(from.to_string().into_bytes()));
    if let Some(key) = it.key.filter(|key| key.len() > DEAD_LETTER_KEY_BYTES_MAX.min(limit / 8)) {
        it.headers.push(cut_from("key_cut_from_bytes", key.len()));
        it.key = Some(&key[..DEAD_LETTER_KEY_BYTES_MAX.min(limit / 8)]);
    }
    let over = it.bytes().saturating_sub(limit);
    if let Some(payload) = it.payload.as_mut().filter(|payload| over > 0 && !payload.is_empty()) {
        let whole = payload.len();
        // Leaves room for the header that reports the cut.
        let left = whole.saturating_sub(over + 64);
        match payload {
            Cow::Borrowed(bytes) => *bytes = &bytes[..left],
            Cow::Owned(bytes) => bytes.truncate(left),
        }
        it.headers.push(cut_from("cut_from_bytes", whole));
    }
    for lost in HEADERS_LOST {
        if it.bytes() <= limit {
            break;
        }
        if lost == "key" {
            it.key = None;
        }
        it.headers.retain(|(name, _)| *name != lost);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Outbox;
    use super::*;
    use crate::{
        event::Position,
        state::{ProfileRecord, Store, decode_profile},
    };

    fn bytes(length: usize) -> impl FnOnce(&mut Vec<u8>) {
        move |to: &mut Vec<u8>| to.resize(to.len() + length, b'x')
    }

    fn header(it: &Smaller<'_>, name: &str) -> Option<String> {
        let value = it.headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_vec());
        value.map(|value| String::from_utf8(value).unwrap())
    }

    #[test]
    fn what_fits_is_sent_as_it_is() {
        let mut outbox = Outbox::default();
        for target in [Target::Decisions, Target::DeadLetters, Target::Profiles(0)] {
            outbox.push(target, Some(b"ann"), &[("a", b"b")], Some(bytes(1_000)));
        }
        let limits = SizeLimits::default().within(2_000);
        assert!(outbox.all().all(|output| smaller(&output, &limits, "in").is_none()));
    }

    #[test]
    fn a_large_decision_becomes_a_dead_letter_that_says_where_it_is_from() {
        let mut outbox = Outbox::default();
        outbox.push(Target::Decisions, Some(b"ann"), &[("traceparent", b"00-1")], Some(bytes(50_000)));
        outbox.of(Position { partition: 3, offset: 77, index: 2 }, None);
        let limits = SizeLimits { decisions: 10_000, dead_letters: 20_000, profiles: usize::MAX };
        let it = smaller(&outbox.get(0), &limits, "clicks").unwrap();
        assert_eq!((it.target, it.key), (Target::DeadLetters, Some(&b"ann"[..])));
        assert!(it.bytes() <= 20_000 && it.payload.as_ref().unwrap().len() > 18_000, "{}", it.bytes());
        for (name, value) in [
            ("reason", "output_too_large"),
            ("topic", "clicks"),
            ("partition", "3"),
            ("offset", "77"),
            ("index", "2"),
            ("traceparent", "00-1"),
            ("cut_from_bytes", "50000"),
        ] {
            assert_eq!(header(&it, name).as_deref(), Some(value), "{name}");
        }
        assert!(header(&it, "detail").unwrap().contains("takes 10000"));
    }

    #[test]
    fn a_large_dead_letter_loses_the_ends_of_its_payload_and_of_its_key() {
        let mut outbox = Outbox::default();
        outbox.push(Target::DeadLetters, Some(&vec![b'k'; 90_000]), &[("reason", b"malformed")], Some(bytes(50_000)));
        let limits = SizeLimits::default().within(40_000);
        let it = smaller(&outbox.get(0), &limits, "in").unwrap();
        assert!(it.bytes() <= 40_000, "{}", it.bytes());
        assert_eq!(it.key.map(<[u8]>::len), Some(5_000));
        assert_eq!(header(&it, "key_cut_from_bytes").as_deref(), Some("90000"));
        assert_eq!(header(&it, "cut_from_bytes").as_deref(), Some("50000"));
    }

    #[test]
    fn a_dead_letter_whose_headers_alone_are_too_large_keeps_its_reason_and_its_place_longest() {
        let mut outbox = Outbox::default();
        outbox.push(Target::Decisions, Some(b"ann"), &[("traceparent", &[b'0'; 55])], Some(bytes(400)));
        outbox.of(Position { partition: 3, offset: 77, index: 2 }, None);
        let detail = vec![b'd'; 2_000];
        let headers: [(&'static str, &[u8]); 8] = [
            ("reason", b"malformed"),
            ("detail", &detail),
            ("topic", b"clicks"),
            ("partition", b"3"),
            ("offset", b"77"),
            ("timestamp_ms", b"1700000000000"),
            ("index", b"2"),
            ("traceparent", &[b'0'; 55]),
        ];
        outbox.push(Target::DeadLetters, Some(&[b'k'; 200]), &headers, Some(bytes(7)));
        // A record without a payload, such as a tombstone in the input.
        outbox.push(Target::DeadLetters, None, &headers, None::<fn(&mut Vec<u8>)>);
        for limit in (DEAD_LETTER_BYTES_MIN..2_600).chain([usize::MAX]) {
            let limits = SizeLimits { decisions: 0, dead_letters: limit, profiles: usize::MAX };
            for output in outbox.all() {
                let Some(it) = smaller(&output, &limits, "clicks") else { continue };
                assert!(it.bytes() <= limit, "{limit}: {it:?}");
                assert!(header(&it, "reason").is_some(), "{limit}: {it:?}");
                let names = ["detail", "traceparent", "topic", "index", "partition", "offset"];
                assert!(names.map(|name| header(&it, name).is_some()).is_sorted(), "{limit}: {it:?}");
            }
        }
        let least = SizeLimits::default().within(DEAD_LETTER_BYTES_MIN);
        for output in outbox.all() {
            let it = smaller(&output, &least, "clicks").unwrap();
            assert_eq!((it.headers.len(), it.key, it.payload.unwrap_or_default().len()), (1, None, 0));
        }
        let some = SizeLimits { decisions: 0, dead_letters: 190, profiles: usize::MAX };
        let it = smaller(&outbox.get(0), &some, "clicks").unwrap();
        let place = ["partition", "offset", "index"].map(|name| header(&it, name));
        assert_eq!(place.map(Option::unwrap), ["3", "77", "2"]);
    }

    #[test]
    fn a_large_profile_is_written_without_its_state() {
        let mut store = Store::default();
        store.entry(1, b"ann", &vec![u64::MAX; 9_000], 4, 0);
        let mut outbox = Outbox::default();
        store.write_due(9, 9, 1, |key, profile| {
            let record = ProfileRecord { as_of: 9, layout: "l", generation: 2, dirty_from: None };
            outbox.push(
                Target::Profiles(1),
                Some(key),
                &[],
                profile.map(|it| move |to: &mut Vec<u8>| record.encode(key, it, to)),
            );
            true
        });
        let limits = SizeLimits::default().within(40_000);
        let it = smaller(&outbox.get(0), &limits, "in").unwrap();
        let record = decode_profile(b"ann", it.payload.as_deref().unwrap()).unwrap();
        assert_eq!((record.as_of, record.layout.as_str(), record.history, record.state.len()), (9, "l", 2, 0));
        assert!(it.bytes() < 1_000);
    }

    #[test]
    fn a_refusal_lowers_the_limit_of_its_own_topic_step_by_step_and_to_an_end() {
        let mut limits = SizeLimits::default();
        assert_eq!(limits.refused(Target::Decisions, 3_000_000), Some(USUAL_BYTES));
        let mut last = USUAL_BYTES;
        while let Some(next) = limits.refused(Target::Decisions, last) {
            assert!(next < last);
            last = next;
        }
        assert_eq!((limits.decisions, limits.dead_letters, limits.profiles), (0, usize::MAX, usize::MAX));
        // A decision shrinks down to the smallest dead letter, a profile to one without state.
        for (target, least) in [(Target::DeadLetters, DEAD_LETTER_BYTES_MIN), (Target::Profiles(0), PROFILE_BYTES_MIN)]
        {
            let mut limits = SizeLimits::default();
            let mut bytes = 412;
            while let Some(next) = limits.refused(target, bytes) {
                assert!(next < bytes);
                bytes = next;
            }
            assert_eq!(limits.of(target), least);
        }
    }
}
