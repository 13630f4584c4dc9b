//! The encoded outputs of one open transaction, kept until its outcome is known.
//!
//! After a commit they are dropped. After an abort the same bytes are sent again, so a retry cannot differ from the
//! first attempt. All bytes share one reused buffer, so nothing is allocated per decision.

use crate::{
    canary::{self, Canary},
    event::Position,
    inference::FallbackReason,
};
use std::ops::Range;

/// The topic an output goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// The decision topic.
    Decisions,
    /// The dead-letter topic.
    DeadLetters,
    /// The changelog topic of the profiles. The partition is that of the input, not one chosen by key.
    Profiles(i32),
}

impl Target {
    /// The kind of output as a metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Decisions => "decision",
            Self::DeadLetters => "dead_letter",
            Self::Profiles(_) => "profile",
        }
    }

    /// Whether readers wait for this output. Profiles are only for restores, and valid only together with their
    /// position.
    pub fn is_for_readers(self) -> bool {
        !matches!(self, Self::Profiles(_)) || canary::is_in(Canary::ProfilesBesideCommit)
    }
}

/// One output: spans of the outbox's buffer.
#[derive(Clone, Debug)]
struct Entry {
    target: Target,
    origin: Option<Position>,
    fallback: Option<FallbackReason>,
    is_expiry: bool,
    key: Option<Range<usize>>,
    payload: Option<Range<usize>>,
    headers: Range<usize>,
}

/// One output, borrowed from the outbox.
#[derive(Clone, Copy, Debug)]
pub struct Output<'a> {
    /// Its topic.
    pub target: Target,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value; absent in a tombstone.
    pub payload: Option<&'a [u8]>,
    /// The event it belongs to, if known.
    pub origin: Option<Position>,
    /// If it is a fallback decision, the reason.
    pub fallback: Option<FallbackReason>,
    /// Whether it is about memberships that ended without an event.
    pub is_expiry: bool,
    headers: &'a [(&'static str, Range<usize>)],
    bytes: &'a [u8],
}

impl<'a> Output<'a> {
    /// Its headers.
    pub fn headers(&self) -> impl ExactSizeIterator<Item = (&'static str, &'a [u8])> + use<'a> {
        let bytes = self.bytes;
        self.headers.iter().map(move |(name, value)| (*name, &bytes[value.start..value.end]))
    }
}

/// The outputs of a transaction, in sending order.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    headers: Vec<(&'static str, Range<usize>)>,
}

impl Outbox {
    /// How many outputs there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no outputs.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many bytes the outputs take.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Drops all outputs but keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
        self.headers.clear();
    }

    /// Appends an output. `payload` appends its bytes to the buffer it is given and must not touch earlier ones.
    pub fn push(
        &mut self,
        target: Target,
        key: Option<&[u8]>,
        headers: &[(&'static str, &[u8])],
        payload: Option<impl FnOnce(&mut Vec<u8>)>,
    ) {
        let key = key.map(|key| self.write(key));
        let first = self.headers.len();
        for (name, value) in headers {
            let value = self.write(value);
            self.headers.push((name, value));
        }
        let payload = payload.map(|write| {
            let start = self.bytes.len();
            write(&mut self.bytes);
            start..self.bytes.len()
        });
        self.entries.push(Entry {
            target,
            origin: None,
            fallback: None,
            is_expiry: false,
            key,
            payload,
            headers: first..self.headers.len(),
        });
    }

    /// Sets the event of the last output and, for a fallback decision, the reason.
    pub fn of(&mut self, position: Position, fallback: Option<FallbackReason>) {
        if let Some(entry) = self.entries.last_mut() {
            entry.origin = Some(position);
            entry.fallback = fallback;
        }
    }

    /// Marks the last pushed output as one about memberships that ended without an event.
    pub fn of_expiry(&mut self) {
        if let Some(entry) = self.entries.last_mut() {
            entry.is_expiry = true;
        }
    }

    /// Appends all outputs of another outbox.
    pub fn append(&mut self, other: &Self) {
        let (bytes, headers) = (self.bytes.len(), self.headers.len());
        let moved = |range: &Range<usize>| range.start + bytes..range.end + bytes;
        self.bytes.extend_from_slice(&other.bytes);
        self.headers.extend(other.headers.iter().map(|(name, value)| (*name, moved(value))));
        let is_lost = |entry: &&Entry| {
            canary::is_in(Canary::NullLostInRetry) && entry.target == Target::Decisions && entry.payload.is_none()
        };
        self.entries.extend(other.entries.iter().filter(|entry| !is_lost(entry)).map(|entry| Entry {
            target: entry.target,
            origin: entry.origin,
            fallback: entry.fallback,
            is_expiry: entry.is_expiry,
            key: entry.key.as_ref().map(moved),
            payload: entry.payload.as_ref().map(moved),
            headers: entry.headers.start + headers..entry.headers.end + headers,
        }));
    }

    fn write(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        start..self.bytes.len()
    }

    /// All outputs in order.
    pub fn all(&self) -> impl Iterator<Item = Output<'_>> {
        (0..self.len()).map(|index| self.get(index))
    }

    /// One output.
    pub fn get(&self, index: usize) -> Output<'_> {
        let entry = &self.entries[index];
        let span = |range: &Range<usize>| &self.bytes[range.start..range.end];
        Output {
            target: entry.target,
            origin: entry.origin,
            fallback: entry.fallback,
            is_expiry: entry.is_expiry,
            key: entry.key.as_ref().map(span),
            payload: entry.payload.as_ref().map(span),
            headers: &self.headers[entry.headers.start..entry.headers.end],
            bytes: &self.bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_come_back_as_they_went_in() {
        let mut outbox = Outbox::default();
        outbox.push(
            Target::Decisions,
            Some(b"ann"),
            &[("traceparent", b"00-1")],
            Some(|to: &mut Vec<u8>| to.extend(b"yes")),
        );
        outbox.push(Target::Profiles(3), Some(b"bob"), &[], None::<fn(&mut Vec<u8>)>);
        let first = outbox.get(0);
        assert_eq!((first.key, first.payload), (Some(&b"ann"[..]), Some(&b"yes"[..])));
        assert_eq!(first.headers().collect::<Vec<_>>(), [("traceparent", &b"00-1"[..])]);
        let second = outbox.get(1);
        assert_eq!((second.target, second.key, second.payload), (Target::Profiles(3), Some(&b"bob"[..]), None));
        assert_eq!(second.headers().len(), 0);
        let mut more = Outbox::default();
        more.push(Target::Decisions, None, &[("a", b"1")], Some(|to: &mut Vec<u8>| to.extend(b"no")));
        more.append(&outbox);
        assert_eq!((more.len(), more.get(2).key, more.get(1).payload), (3, Some(&b"bob"[..]), Some(&b"yes"[..])));
        assert_eq!(more.get(1).headers().collect::<Vec<_>>(), [("traceparent", &b"00-1"[..])]);
        outbox.clear();
        assert!(outbox.is_empty());
    }
}
