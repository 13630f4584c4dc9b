//! JSON payloads, read in one pass along the declared paths.
//!
//! A path is the members from outside in, with dots between. `name[key]` goes through an array of objects such as GA4's
//! `event_params`: the element whose `key` is that, and in it `value`, or the first member of `value` that is given, where that
//! is an object (`{"string_value": …}`). Where an object stands in the array's place, its member of that name counts. An array is read in this way or by its first element, not both.

use super::{
    RejectReason, Rejection,
    decode::{Rows, Scalar},
};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::{borrow::Cow, fmt};

/// How deep a payload may nest. The parser takes a piece of stack for each level, also in what it skips, and a record
/// that overflows the stack would end the process at every restart.
const NESTING_MAX: usize = 64;

/// One part of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step<'a> {
    name: &'a str,
    /// Which element of an array of keys and values.
    key: Option<&'a str>,
}

/// The parts of a path, if it is one.
pub(super) fn steps(path: &str) -> Option<Vec<Step<'_>>> {
    let mut steps: Vec<Step<'_>> = Vec::new();
    let mut rest = Some(path);
    while let Some(text) = rest {
        // Amplitude's own properties begin with a bracket, as in "[Amplitude] Page URL".
        let bracket = text.find(['.', '[']).filter(|at| *at > 0 && text.as_bytes()[*at] == b'[');
        let key = bracket.and_then(|open| Some((open, open + text[open..].find(']')?)));
        let (step, after) = match key {
            Some((open, close)) => {
                (Step { name: &text[..open], key: Some(&text[open + 1..close]) }, &text[close + 1..])
            }
            None => {
                let end = text.find('.').unwrap_or(text.len());
                (Step { name: &text[..end], key: None }, &text[end..])
            }
        };
        rest = match after.strip_prefix('.') {
            None if after.is_empty() => None,
            None => return None,
            more => more,
        };
        let is_whole = !step.name.is_empty() && step.key.is_none_or(|key| !key.is_empty() && rest.is_none());
        if !is_whole {
            return None;
        }
        steps.push(step);
    }
    Some(steps)
}

/// The declared paths, and where the events of a record stand.
#[derive(Debug)]
pub(super) struct Json {
    /// The paths from the top of the record.
    record: Trie,
    /// The same from an event inside of it, where `input.unpack` says that there are some.
    event: Option<Trie>,
}

impl Json {
    /// Nothing but the path of the array of events.
    pub(super) fn new(unpack: Option<&str>) -> Self {
        let mut record = Trie::default();
        if let Some(steps) = unpack.and_then(steps) {
            let node = steps.iter().fold(&mut record, |node, step| node.child(step.name));
            node.is_unpacked = true;
        }
        Self { record, event: unpack.map(|_| Trie::default()) }
    }

    /// Adds a path; faults of it are told where fields are declared. Proto3 JSON has each member in snake case and in lower
    /// camel case, so both are read.
    pub(super) fn insert(&mut self, path: &str, leaf: usize, rank: u8) {
        let steps = steps(path).unwrap_or_default();
        for trie in [Some(&mut self.record), self.event.as_mut()].into_iter().flatten() {
            trie.insert(&steps, leaf, rank);
        }
    }

    /// Makes the paths ready to be looked up.
    pub(super) fn finish(mut self) -> Self {
        self.record.sort();
        self.event.iter_mut().for_each(Trie::sort);
        self
    }

    /// Whether a record may hold several events.
    pub(super) fn unpacks(&self) -> bool {
        self.event.is_some()
    }

    /// Reads a payload's rows.
    pub(super) fn read(&self, payload: &[u8], rows: &mut Rows<'_>) -> Result<(), Rejection> {
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
        let mut array = None;
        let walk = Walk { node: &self.record, rows, array: &mut array };
        let read = walk.deserialize(&mut deserializer).and_then(|()| deserializer.end());
        answer(read, rows)?;
        let Some(event) = &self.event else { return rows.close() };
        let missing =
            || Rejection::new(RejectReason::WrongType, "input.unpack: expected an array of events at this path");
        // The array is a part of the text, so its place in it is the difference of two addresses.
        let (address, length) = array.ok_or_else(missing)?;
        let start = address.wrapping_sub(text.as_ptr().addr());
        let array =
            text.get(start..start.wrapping_add(length)).filter(|array| array.starts_with('[')).ok_or_else(missing)?;
        let mut refused = None;
        let read = sonic_rs::Deserializer::from_str(array).deserialize_seq(Events {
            node: event,
            rows,
            refused: &mut refused,
        });
        match refused {
            Some(rejection) => Err(rejection),
            None => answer(read, rows),
        }
    }
}

fn malformed(detail: String) -> Rejection {
    Rejection::new(RejectReason::Malformed, detail)
}

fn answer(read: sonic_rs::Result<()>, rows: &mut Rows<'_>) -> Result<(), Rejection> {
    match (read, rows.wrong.take()) {
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

/// The declared paths as a tree: what is not in it is skipped without being looked at.
#[derive(Debug, Default)]
struct Trie {
    members: Members,
    /// The elements of an array of keys and values.
    keyed: Members,
    /// The leaves that a value here belongs to, each with its path's rank.
    leaves: Vec<(usize, u8)>,
    /// Whether this is the array of events.
    is_unpacked: bool,
}

/// How many classes of names there are. Many more than names, so that most names of a payload fall into an empty one, and
/// those that do not are nearly always the declared one.
const CLASSES: usize = 256;

/// The class of a name: of its length and three of its bytes, because producers' names have beginnings in common.
fn class(name: &str) -> usize {
    let bytes = name.as_bytes();
    let byte = |at: usize| usize::from(bytes.get(at).copied().unwrap_or_default());
    let length = bytes.len();
    (length + 7 * byte(0) + 31 * byte(length / 2) + 59 * byte(length.wrapping_sub(1))) % CLASSES
}

/// Names and what lies below them.
#[derive(Debug, Default)]
struct Members {
    /// In the order of their classes, once sorted.
    all: Vec<(String, Trie)>,
    /// By class: where its names begin in `all`; and where the last ones end. Empty where there are no names.
    starts: Vec<u32>,
}

impl Members {
    fn child(&mut self, name: &str) -> &mut Trie {
        let index = match self.all.iter().position(|(member, _)| member == name) {
            Some(index) => index,
            None => {
                self.all.push((name.to_owned(), Trie::default()));
                self.all.len() - 1
            }
        };
        &mut self.all[index].1
    }

    fn sort(&mut self) {
        self.all.sort_by_key(|(name, _)| class(name));
        let classes = if self.all.is_empty() { 0 } else { CLASSES + 1 };
        self.starts =
            (0..classes).map(|number| self.all.partition_point(|(name, _)| class(name) < number) as u32).collect();
        self.all.iter_mut().for_each(|(_, below)| below.sort());
    }

    fn find(&self, name: &str) -> Option<&Trie> {
        let class = class(name);
        let [start, end] = *self.starts.get(class..class + 2)? else { return None };
        self.all[start as usize..end as usize].iter().find(|(member, _)| member == name).map(|(_, below)| below)
    }
}

impl Trie {
    fn child(&mut self, name: &str) -> &mut Self {
        self.members.child(name)
    }

    fn insert(&mut self, steps: &[Step<'_>], leaf: usize, rank: u8) {
        let Some((step, rest)) = steps.split_first() else {
            self.leaves.push((leaf, rank));
            return;
        };
        let camel = camel_case(step.name);
        for name in std::iter::once(step.name).chain((camel != step.name).then_some(camel.as_str())) {
            let child = self.child(name);
            match step.key {
                Some(key) => child.keyed.child(key).leaves.push((leaf, rank)),
                None => child.insert(rest, leaf, rank),
            }
        }
    }

    fn sort(&mut self) {
        self.members.sort();
        self.keyed.sort();
    }
}

/// Whether objects and arrays lie deeper in one another than [`NESTING_MAX`].
fn nests_too_deep(payload: &[u8]) -> bool {
    // '[' and '{' differ in one bit. Few payloads have so many, and counting is a matter of nanoseconds: in pieces whose count
    // fits a byte, so that a whole register of bytes is counted at once.
    let brackets = |piece: &[u8]| piece.iter().map(|byte| u8::from(*byte | 0x20 == b'{')).sum::<u8>();
    if payload.chunks(192).map(|piece| usize::from(brackets(piece))).sum::<usize>() <= NESTING_MAX {
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
    rows: &'a mut Rows<'r>,
    /// Address and length of the array of events, once it was met.
    array: &'a mut Option<(usize, usize)>,
}

impl Walk<'_, '_> {
    fn scalar<E: Error>(self, value: Scalar<'_>) -> Result<(), E> {
        if self.node.leaves.is_empty() {
            return self.misfit();
        }
        set(&self.node.leaves, self.rows, value)
    }

    /// A scalar where an object was declared, or the other way round.
    fn misfit<E: Error>(self) -> Result<(), E> {
        match self.node.leaves.first() {
            Some((leaf, _)) => self.rows.refuse(*leaf),
            None => {
                let below = self.node.members.all.first().or_else(|| self.node.keyed.all.first());
                let member = below.map_or("", |(name, _)| name.as_str());
                self.rows.wrong = Some((format!("the parent of {member}"), "an object"));
            }
        }
        Err(E::custom("wrong type"))
    }
}

fn set<E: Error>(leaves: &[(usize, u8)], rows: &mut Rows<'_>, value: Scalar<'_>) -> Result<(), E> {
    for (leaf, rank) in leaves {
        if !rows.set(*leaf, *rank, value) {
            return Err(E::custom("wrong type"));
        }
    }
    Ok(())
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
        if !self.node.keyed.all.is_empty() {
            while seq.next_element_seed(Pair { keys: &self.node.keyed, rows: self.rows })?.is_some() {}
        } else if seq.next_element_seed(self)?.is_some() {
            while seq.next_element::<IgnoredAny>()?.is_some() {}
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { node, rows, array } = self;
        // Some keep keys and values as the members of an object.
        let members = if node.members.all.is_empty() { &node.keyed } else { &node.members };
        if members.all.is_empty() {
            return Self { node, rows, array }.misfit();
        }
        while let Some(member) = map.next_key_seed(Member(members))? {
            match member {
                Some(node) if node.is_unpacked => {
                    let value = map.next_value::<sonic_rs::LazyValue<'de>>()?;
                    let text = value.as_raw_str();
                    *array = Some((text.as_ptr().addr(), text.len()));
                }
                Some(node) => map.next_value_seed(Walk { node, rows, array })?,
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// The key of a member: the node below, if the member is declared.
struct Member<'a>(&'a Members);

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
        Ok(self.0.find(name))
    }
}

/// The events inside a record.
struct Events<'a, 'r> {
    node: &'a Trie,
    rows: &'a mut Rows<'r>,
    refused: &'a mut Option<Rejection>,
}

impl<'de> Visitor<'de> for Events<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of events")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Self { node, rows, refused } = self;
        loop {
            let outside = rows.begin_element();
            if seq.next_element_seed(Walk { node, rows, array: &mut None })?.is_none() {
                return Ok(());
            }
            if let Err(rejection) = rows.end_element(outside) {
                *refused = Some(rejection);
                return Err(A::Error::custom("refused"));
            }
        }
    }
}

/// An element of an array of keys and values.
struct Pair<'a, 'r> {
    keys: &'a Members,
    rows: &'a mut Rows<'r>,
}

impl<'de> DeserializeSeed<'de> for Pair<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Pair<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key and a value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        // Until the key is known, every value may be wanted.
        let mut wanted = None;
        let mut held = None;
        while let Some(part) = map.next_key_seed(Part)? {
            match part {
                Some(PairPart::Key) => wanted = Some(map.next_value_seed(Member(self.keys))?),
                Some(PairPart::Value) if wanted.is_none_or(|node| node.is_some()) => {
                    held = map.next_value_seed(Hold)?;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        match (wanted.flatten(), held) {
            (Some(node), Some(held)) => set(&node.leaves, self.rows, held.scalar()),
            _ => Ok(()),
        }
    }
}

/// The members of an element of keys and values.
enum PairPart {
    Key,
    Value,
}

/// Reads the name of such a member.
struct Part;

impl<'de> DeserializeSeed<'de> for Part {
    type Value = Option<PairPart>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Part {
    type Value = Option<PairPart>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member's name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(match name {
            "key" => Some(PairPart::Key),
            "value" => Some(PairPart::Value),
            _ => None,
        })
    }
}

/// A scalar that is kept until it is known what for.
enum Held<'de> {
    Bool(bool),
    Int(i64),
    Large(u64),
    Float(f64),
    Text(Cow<'de, str>),
}

impl Held<'_> {
    fn scalar(&self) -> Scalar<'_> {
        match self {
            Self::Bool(value) => Scalar::Bool(*value),
            Self::Int(value) => Scalar::Int(*value),
            Self::Large(value) => Scalar::Large(*value),
            Self::Float(value) => Scalar::Float(*value),
            Self::Text(text) => Scalar::Text(text),
        }
    }
}

/// Reads such a scalar; of an object the first member that is given.
struct Hold;

impl<'de> DeserializeSeed<'de> for Hold {
    type Value = Option<Held<'de>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Hold {
    type Value = Option<Held<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Some(Held::Bool(value)))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Some(Held::Int(value)))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Some(i64::try_from(value).map_or(Held::Large(value), Held::Int)))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Some(Held::Float(value)))
    }

    fn visit_borrowed_str<E: Error>(self, value: &'de str) -> Result<Self::Value, E> {
        Ok(Some(Held::Text(Cow::Borrowed(value))))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
        Ok(Some(Held::Text(Cow::Owned(value.to_owned()))))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let first = seq.next_element_seed(Hold)?.flatten();
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(first)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut first = None;
        while map.next_key::<IgnoredAny>()?.is_some() {
            match first {
                None => first = map.next_value_seed(Hold)?,
                Some(_) => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(first)
    }
}
