//! JSON payloads, read in one pass along the declared paths.

use super::{
    RejectReason, Rejection,
    decode::{Row, Scalar},
};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// How deep a payload may nest. The parser takes a piece of stack for each level, also in what it skips, and a record
/// that overflows the stack would end the process at every restart.
const NESTING_MAX: usize = 64;

/// The declared paths as a tree: what is not in it is skipped without being looked at.
#[derive(Debug, Default)]
pub(super) struct Trie {
    members: Vec<(String, Self)>,
    /// The leaves that a value here belongs to, each with its path's rank.
    leaves: Vec<(usize, u8)>,
}

impl Trie {
    /// Adds a dotted path. Proto3 JSON has each member in snake case and in lower camel case, so both are read.
    pub(super) fn insert(&mut self, path: &str, leaf: usize, rank: u8) {
        let Some((first, rest)) = path.split_once('.').map(|(first, rest)| (first, Some(rest))).or(Some((path, None)))
        else {
            return;
        };
        let camel = camel_case(first);
        for name in std::iter::once(first).chain((camel != first).then_some(camel.as_str())) {
            let index = match self.members.iter().position(|(member, _)| member == name) {
                Some(index) => index,
                None => {
                    self.members.push((name.to_owned(), Self::default()));
                    self.members.len() - 1
                }
            };
            match rest {
                Some(rest) => self.members[index].1.insert(rest, leaf, rank),
                None => self.members[index].1.leaves.push((leaf, rank)),
            }
        }
    }

    /// Reads a payload into the row.
    pub(super) fn read(&self, payload: &[u8], row: &mut Row<'_>) -> Result<(), Rejection> {
        let malformed = |detail: String| Rejection::new(RejectReason::Malformed, detail);
        let text = std::str::from_utf8(payload)
            .map_err(|error| malformed(format!("not UTF-8 from byte {} on", error.valid_up_to())))?;
        if nests_too_deep(payload) {
            return Err(malformed(format!("nested more than {NESTING_MAX} levels deep")));
        }
        // An array at the top would stand for its first event and lose the others.
        if text.trim_ascii_start().starts_with(|first| first != '{') {
            let kind =
                if sonic_rs::from_str::<IgnoredAny>(text).is_ok() { "JSON, but not an object" } else { "not JSON" };
            return Err(malformed(kind.to_owned()));
        }
        let mut deserializer = sonic_rs::Deserializer::from_str(text);
        let read = Walk { node: self, row }.deserialize(&mut deserializer).and_then(|()| deserializer.end());
        match (read, row.wrong.take()) {
            (_, Some((field, expected))) => {
                Err(Rejection::new(RejectReason::WrongType, format!("{field}: expected {expected}")))
            }
            (Err(error), None) => {
                // The client's own words quote the payload; a place is enough.
                Err(malformed(format!("not JSON from line {}, column {} on", error.line(), error.column())))
            }
            (Ok(()), None) => Ok(()),
        }
    }
}

/// Whether objects and arrays lie deeper in one another than [`NESTING_MAX`].
fn nests_too_deep(payload: &[u8]) -> bool {
    // '[' and '{' differ in one bit. Few payloads have so many, and counting is a matter of nanoseconds.
    if payload.iter().filter(|byte| **byte | 0x20 == b'{').count() <= NESTING_MAX {
        return false;
    }
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for byte in payload {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => depth += 1,
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > NESTING_MAX {
            return true;
        }
    }
    false
}

fn camel_case(name: &str) -> String {
    let mut camel = String::with_capacity(name.len());
    let mut after = false;
    for letter in name.chars() {
        match letter {
            '_' => after = true,
            _ if std::mem::take(&mut after) => camel.extend(letter.to_uppercase()),
            _ => camel.push(letter),
        }
    }
    camel
}

/// A value at a node of the tree.
struct Walk<'a, 'r> {
    node: &'a Trie,
    row: &'a mut Row<'r>,
}

impl Walk<'_, '_> {
    fn scalar<E: Error>(self, value: Scalar<'_>) -> Result<(), E> {
        if self.node.leaves.is_empty() {
            return self.misfit();
        }
        for (leaf, rank) in &self.node.leaves {
            if !self.row.set(*leaf, *rank, value) {
                return Err(E::custom("wrong type"));
            }
        }
        Ok(())
    }

    /// A scalar where an object was declared, or the other way round.
    fn misfit<E: Error>(self) -> Result<(), E> {
        match self.node.leaves.first() {
            Some((leaf, _)) => self.row.refuse(*leaf),
            None => {
                let member = self.node.members.first().map_or("", |(name, _)| name.as_str());
                self.row.wrong = Some((format!("the parent of {member}"), "an object"));
            }
        }
        Err(E::custom("wrong type"))
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.scalar(Scalar::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.scalar(Scalar::Int(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.scalar(i64::try_from(value).map_or(Scalar::Large(value), Scalar::Int))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.scalar(Scalar::Float(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.scalar(Scalar::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        if seq.next_element_seed(self)?.is_some() {
            while seq.next_element::<IgnoredAny>()?.is_some() {}
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        if self.node.members.is_empty() {
            return self.misfit();
        }
        while let Some(member) = map.next_key_seed(Member(self.node))? {
            match member {
                Some(node) => map.next_value_seed(Walk { node, row: self.row })?,
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// The key of a member: the node below, if the member is declared.
struct Member<'a>(&'a Trie);

impl<'de, 'a> DeserializeSeed<'de> for Member<'a> {
    type Value = Option<&'a Trie>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'a> Visitor<'_> for Member<'a> {
    type Value = Option<&'a Trie>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member's name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.members.iter().find(|(member, _)| member == name).map(|(_, node)| node))
    }
}
