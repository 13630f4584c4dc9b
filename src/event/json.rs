//! JSON payloads, read in one pass along the declared paths.
//!
//! A path is the members from outside in, with dots between. `name[key]` goes through an array of objects such as GA4's
//! `event_params`: the element whose `key` is that, and in it `value`, or, where that is an object (`{"string_value": …}`), the
//! member of it that is given, the first of [`VALUES`] where there are several. Where an object stands in the array's place, its
//! member of that name counts. An array is read in this way or by its first element, not both. Where an object is wanted, a text
//! that holds one as JSON will do, as a table's cell does.
//!
//! The order of members means nothing: of several paths of a field the preferred one counts wherever it stands, and of the two
//! spellings of a name, `user_id` and `userId`, the one with underscores. What no path leads to harms nobody, as long as it is
//! JSON: a record that cannot be read in the quick way because of it, for instance a number that no float holds, is read again
//! in a slower way.

use super::{
    RejectReason, Rejection,
    decode::{Rows, Scalar},
    payload,
};
use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use sonic_rs::LazyValue;
use std::fmt;

/// How deep a payload may nest. The parser takes a piece of stack for each level, also in what it skips, and a record
/// that overflows the stack would end the process at every restart.
const NESTING_MAX: usize = 64;

/// A path's place in the order of preference is counted in steps of so many; below it lies how its names are spelt.
const SPELLINGS: u32 = 1 << 16;

/// The members of a value that stand for it, in this order; others come behind, by their names.
const VALUES: [&str; 10] = [
    "string_value",
    "stringValue",
    "int_value",
    "intValue",
    "float_value",
    "floatValue",
    "double_value",
    "doubleValue",
    "bool_value",
    "boolValue",
];

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
            // A bracket that was forgotten would be a name that no member has.
            None if bracket.is_some() => return None,
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
    pub(super) fn insert(&mut self, path: &str, leaf: usize, rank: u32) {
        let steps = steps(path).unwrap_or_default();
        for trie in [Some(&mut self.record), self.event.as_mut()].into_iter().flatten() {
            trie.insert(&steps, leaf, rank.saturating_mul(SPELLINGS), SPELLINGS >> 1);
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
        let text = payload::text(payload)?;
        if nests_too_deep(text.as_bytes()) {
            return Err(malformed(format!("nested more than {NESTING_MAX} levels deep")));
        }
        // An array at the top would stand for its first event and lose the others.
        if text.trim_ascii_start().starts_with(|first| first != '{') {
            return Err(if sonic_rs::from_str::<IgnoredAny>(text).is_ok() {
                malformed("JSON, but not an object".to_owned())
            } else {
                no_json(text, None)
            });
        }
        match self.read_text(text, rows, false) {
            Err(Unread::NoJson(_)) if sonic_rs::from_str::<IgnoredAny>(text).is_ok() => {
                rows.again();
                self.read_text(text, rows, true)
            }
            read => read,
        }
        .map_err(|unread| match unread {
            Unread::Refused(rejection) => rejection,
            Unread::NoJson(error) => no_json(text, Some(&error)),
        })
    }

    fn read_text(&self, text: &str, rows: &mut Rows<'_>, is_lenient: bool) -> Result<(), Unread> {
        let mut deserializer = parser(text, is_lenient);
        let mut found = Found { is_lenient, ..Found::default() };
        let walk = Walk { node: &self.record, rows, found: &mut found };
        let read = walk.deserialize(&mut deserializer).and_then(|()| deserializer.end());
        answer(read, found.refused)?;
        let Some(event) = &self.event else { return Ok(rows.close()?) };
        let missing =
            || Rejection::new(RejectReason::WrongType, "input.unpack: expected an array of events at this path");
        // The array is a part of the text, so its place in it is the difference of two addresses.
        let (address, length) = found.array.ok_or_else(missing)?;
        let start = address.wrapping_sub(text.as_ptr().addr());
        let array =
            text.get(start..start.wrapping_add(length)).filter(|array| array.starts_with('[')).ok_or_else(missing)?;
        rows.begin_elements();
        let mut refused = None;
        let events = Events { node: event, rows, refused: &mut refused, is_lenient };
        answer(parser(array, is_lenient).deserialize_seq(events), refused)
    }
}

fn malformed(detail: String) -> Rejection {
    Rejection::new(RejectReason::Malformed, detail)
}

/// Why a text was not read.
enum Unread {
    Refused(Rejection),
    NoJson(sonic_rs::Error),
}

impl From<Rejection> for Unread {
    fn from(rejection: Rejection) -> Self {
        Self::Refused(rejection)
    }
}

fn answer(read: sonic_rs::Result<()>, refused: Option<Rejection>) -> Result<(), Unread> {
    match (read, refused) {
        (_, Some(rejection)) => Err(Unread::Refused(rejection)),
        (Err(error), None) => Err(Unread::NoJson(error)),
        (Ok(()), None) => Ok(()),
    }
}

/// A parser of a text; a lenient one takes names that hold half of a surrogate pair, which no declared one does.
fn parser(text: &str, is_lenient: bool) -> sonic_rs::Deserializer<sonic_rs::Read<'_>> {
    let parser = sonic_rs::Deserializer::from_str(text);
    if is_lenient { parser.utf8_lossy() } else { parser }
}

/// Why a text is no JSON. The parser's own words quote the payload; a place and a reason are enough.
#[cold]
fn no_json(text: &str, error: Option<&sonic_rs::Error>) -> Rejection {
    let (line, column, reason) = match (trouble(text.as_bytes()), error) {
        (Some((at, reason)), _) => {
            let before = &text.as_bytes()[..at];
            let line = before.split(|byte| *byte == b'\n').count();
            let column = at - before.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1) + 1;
            (line, column, format!(": {reason}"))
        }
        (None, Some(error)) => (error.line(), error.column(), String::new()),
        (None, None) => (1, 1, String::new()),
    };
    malformed(format!("not JSON from line {line}, column {column} on{reason}"))
}

/// The first thing in a text that JSON does not have, and where it is; nothing where it is none of the usual ones.
fn trouble(text: &[u8]) -> Option<(usize, &'static str)> {
    let (mut in_text, mut escaped, mut depth, mut ended) = (None, false, 0_usize, false);
    let mut last = 0;
    let mut at = 0;
    while let Some(byte) = text.get(at).copied() {
        let part_of_word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'+' | b'-');
        match (byte, in_text) {
            (0, _) => return Some((at, "a NUL byte")),
            (_, Some(_)) if escaped => {
                if !br#""\/bfnrtu"#.contains(&byte) {
                    return Some((at, "an escape that JSON does not have"));
                }
                escaped = false;
            }
            (b'\\', Some(_)) => escaped = true,
            (b'"', Some(_)) => in_text = None,
            (..0x20, Some(_)) => return Some((at, "a line break or another control character inside a text")),
            (_, Some(_)) => {}
            (b' ' | b'\t' | b'\r' | b'\n', None) => {}
            _ if ended => return Some((at, "something behind the object; a record is one object")),
            (b'"', None) => in_text = Some(at),
            (b'{' | b'[', None) => depth += 1,
            (b'}' | b']', None) => {
                if last == b',' {
                    return Some((at, "a comma before a closing bracket"));
                }
                depth = depth.saturating_sub(1);
                ended = depth == 0;
            }
            (b'\'', None) => return Some((at, "a single quote; texts stand in double ones")),
            (b'/' | b'#', None) => return Some((at, "a comment")),
            (byte, None) if part_of_word(&byte) => {
                let length = text[at..].iter().take_while(|byte| part_of_word(byte)).count();
                if let Some(reason) = odd_word(&text[at..at + length]) {
                    return Some((at, reason));
                }
                at += length - 1;
                ended = depth == 0;
            }
            (_, None) => {}
        }
        if !byte.is_ascii_whitespace() {
            last = byte;
        }
        at += 1;
    }
    match in_text {
        Some(start) => Some((start, "a text without its end; was the record cut off?")),
        None if depth > 0 => Some((text.len(), "an object without its end; was the record cut off?")),
        None => None,
    }
}

/// What is wrong with a word or a number outside of texts.
fn odd_word(word: &[u8]) -> Option<&'static str> {
    match word {
        b"true" | b"false" | b"null" => None,
        b"NaN" | b"nan" | b"-NaN" | b"Infinity" | b"-Infinity" | b"+Infinity" | b"inf" | b"-inf" => {
            Some("NaN and Infinity are no JSON numbers; null is what says \"not given\"")
        }
        [b'+', ..] => Some("a number with a plus sign"),
        [b'0', b'0'..=b'9', ..] | [b'-', b'0', b'0'..=b'9', ..] => Some("a number with a leading zero"),
        [b'-' | b'0'..=b'9', ..] => None,
        _ => Some("a word that JSON does not have; texts stand in double quotes"),
    }
}

/// The declared paths as a tree: what is not in it is skipped without being looked at.
#[derive(Debug, Default)]
struct Trie {
    members: Members,
    /// The elements of an array of keys and values.
    keyed: Members,
    /// The leaves that a value here belongs to, each with its path's rank.
    leaves: Vec<(usize, u32)>,
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

    /// Adds what lies below a name; `bit` is added to the rank where the name is spelt the other way.
    fn insert(&mut self, steps: &[Step<'_>], leaf: usize, rank: u32, bit: u32) {
        let Some((step, rest)) = steps.split_first() else {
            self.leaves.push((leaf, rank));
            return;
        };
        let camel = camel_case(step.name);
        let other = (camel != step.name).then_some((camel.as_str(), rank | bit));
        for (name, rank) in std::iter::once((step.name, rank)).chain(other) {
            let child = self.child(name);
            match step.key {
                Some(key) => child.keyed.child(key).leaves.push((leaf, rank)),
                None => child.insert(rest, leaf, rank, bit >> 1),
            }
        }
    }

    fn sort(&mut self) {
        self.members.sort();
        self.keyed.sort();
    }

    /// Visits all leaves here and below.
    fn each_below(&self, visit: &mut dyn FnMut(usize, u32)) {
        for (leaf, rank) in &self.leaves {
            visit(*leaf, *rank);
        }
        for (_, below) in self.members.all.iter().chain(&self.keyed.all) {
            below.each_below(visit);
        }
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

/// What a walk found beside values.
#[derive(Default)]
struct Found {
    /// Address and length of the array of events, once it was met.
    array: Option<(usize, usize)>,
    /// Why the record is refused, where it is no fault of its syntax.
    refused: Option<Rejection>,
    /// Whether values are looked at only where a path leads to them, which takes longer.
    is_lenient: bool,
}

impl Found {
    fn refuse<E: Error>(&mut self, rejection: Rejection) -> E {
        self.refused = Some(rejection);
        E::custom("refused")
    }
}

/// A value at a node of the tree.
struct Walk<'a, 'r> {
    node: &'a Trie,
    rows: &'a mut Rows<'r>,
    found: &'a mut Found,
}

impl Walk<'_, '_> {
    /// Takes the text of a value at a node with leaves.
    fn raw<E: Error>(self, mut raw: &str) -> Result<(), E> {
        let whole = raw.len();
        // An array stands for its first element.
        while let Some(inner) = raw.strip_prefix('[') {
            if !self.node.keyed.all.is_empty() {
                break;
            }
            raw = inner.trim_ascii_start();
        }
        match raw.as_bytes().first() {
            None | Some(b']' | b'n') => Ok(()),
            Some(b'{' | b'[') => {
                if self.node.members.all.is_empty() && self.node.keyed.all.is_empty() {
                    self.misfit();
                    return Ok(());
                }
                parser(raw, self.found.is_lenient).deserialize_any(self).map_err(E::custom)
            }
            Some(b'"') => self.text(raw),
            Some(b't') => self.scalar(Scalar::Bool(true)),
            Some(b'f') => self.scalar(Scalar::Bool(false)),
            Some(_) => {
                // In an array more follows.
                let end = raw.find([',', ']']).filter(|_| raw.len() < whole).unwrap_or(raw.len());
                self.scalar(Scalar::Number(raw[..end].trim_ascii_end()))
            }
        }
    }

    /// Takes a text that begins with its quote; more may follow it.
    fn text<E: Error>(self, raw: &str) -> Result<(), E> {
        let inner = &raw[1..];
        if let Some(end) = inner.find(['"', '\\'])
            && inner.as_bytes()[end] == b'"'
        {
            return self.scalar(Scalar::Text(&inner[..end]));
        }
        let Self { node, rows, found } = self;
        let walk = Walk { node, rows: &mut *rows, found: &mut *found };
        // Its only fault can be half of a surrogate pair.
        if sonic_rs::Deserializer::from_str(raw).deserialize_str(Unescaped(walk)).is_err() {
            if node.leaves.is_empty() {
                Walk { node, rows, found }.misfit();
            } else {
                node.leaves.iter().for_each(|(leaf, rank)| rows.refuse_text(*leaf, *rank));
            }
        }
        Ok(())
    }

    #[allow(clippy::unnecessary_wraps, reason = "all that takes a value answers alike")]
    fn scalar<E: Error>(self, value: Scalar<'_>) -> Result<(), E> {
        if self.node.leaves.is_empty() {
            match value {
                Scalar::Text("") => {}
                Scalar::Text(text) if text.trim_ascii_start().starts_with(['{', '[']) => self.inner(text),
                _ => self.misfit(),
            }
        } else {
            set(&self.node.leaves, self.rows, value);
        }
        Ok(())
    }

    /// Takes a text that holds an object or an array as JSON.
    fn inner(self, text: &str) {
        let Self { node, rows, found } = self;
        let mut apart = Found { is_lenient: found.is_lenient, ..Found::default() };
        let is_read = !nests_too_deep(text.as_bytes()) && {
            let mut deserializer = parser(text, apart.is_lenient);
            let walk = Walk { node, rows: &mut *rows, found: &mut apart };
            deserializer.deserialize_any(walk).and_then(|()| deserializer.end()).is_ok()
        };
        if !is_read {
            Walk { node, rows, found }.misfit();
        }
    }

    /// A scalar where an object was declared, or the other way round.
    fn misfit(self) {
        for (leaf, rank) in &self.node.leaves {
            self.rows.refuse(*leaf, *rank);
        }
        if self.node.leaves.is_empty() {
            self.node.each_below(&mut |leaf, rank| self.rows.refuse_parent(leaf, rank));
        }
    }
}

fn set(leaves: &[(usize, u32)], rows: &mut Rows<'_>, value: Scalar<'_>) {
    for (leaf, rank) in leaves {
        rows.set(*leaf, *rank, value);
    }
}

/// Takes a text at a node once its escapes are read.
struct Unescaped<'a, 'r>(Walk<'a, 'r>);

impl Visitor<'_> for Unescaped<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.0.scalar(Scalar::Text(text))
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.node.leaves.is_empty() && !self.found.is_lenient {
            deserializer.deserialize_any(self)
        } else {
            self.raw(LazyValue::deserialize(deserializer)?.as_raw_str())
        }
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

    // Numbers with a leaf are read from their text; what is left stands where an object should.
    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.scalar(Scalar::Int(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.scalar(Scalar::Float(value as f64))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.scalar(Scalar::Float(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.scalar(Scalar::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        if !self.node.keyed.all.is_empty() {
            let Self { node, rows, found } = self;
            while seq.next_element_seed(Pair { keys: &node.keyed, rows, found })?.is_some() {}
        } else if seq.next_element_seed(self)?.is_some() {
            while seq.next_element::<IgnoredAny>()?.is_some() {}
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { node, rows, found } = self;
        // Some keep keys and values as the members of an object.
        let members = if node.members.all.is_empty() { &node.keyed } else { &node.members };
        while let Some(member) = map.next_key_seed(Member(members))? {
            match member {
                Some(node) if node.is_unpacked => {
                    let value = map.next_value::<LazyValue<'de>>()?;
                    let text = value.as_raw_str();
                    if found.array.is_some() {
                        let detail = "input.unpack: the array of events stands there twice";
                        return Err(found.refuse(Rejection::new(RejectReason::WrongType, detail)));
                    }
                    found.array = Some((text.as_ptr().addr(), text.len()));
                }
                Some(node) => map.next_value_seed(Walk { node, rows, found })?,
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
    is_lenient: bool,
}

impl<'de> Visitor<'de> for Events<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of events")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Self { node, rows, refused, is_lenient } = self;
        loop {
            let outside = rows.begin_element();
            let mut found = Found { is_lenient, ..Found::default() };
            let element = seq.next_element_seed(Element(Walk { node, rows, found: &mut found }));
            if found.refused.is_some() {
                *refused = found.refused;
            }
            if element?.is_none() {
                return Ok(());
            }
            if let Err(rejection) = rows.end_element(outside) {
                *refused = Some(rejection);
                return Err(A::Error::custom("refused"));
            }
        }
    }
}

/// An element of the array of events, which is an object.
struct Element<'a, 'r>(Walk<'a, 'r>);

impl Element<'_, '_> {
    fn misfit<E: Error>(self) -> Result<(), E> {
        let detail = "input.unpack: expected an array of objects at this path, and one element is none";
        Err(self.0.found.refuse(Rejection::new(RejectReason::WrongType, detail)))
    }
}

impl<'de> DeserializeSeed<'de> for Element<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Element<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.misfit()
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        self.misfit()
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        self.misfit()
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        self.misfit()
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        self.misfit()
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        self.misfit()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        self.misfit()
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        self.0.visit_map(map)
    }
}

/// An element of an array of keys and values.
struct Pair<'a, 'r> {
    keys: &'a Members,
    rows: &'a mut Rows<'r>,
    found: &'a mut Found,
}

impl<'de> DeserializeSeed<'de> for Pair<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if !self.found.is_lenient {
            return deserializer.deserialize_any(self);
        }
        let raw = LazyValue::deserialize(deserializer)?;
        match raw.as_raw_str() {
            "null" => Ok(()),
            raw if raw.starts_with('{') => parser(raw, true).deserialize_any(self).map_err(D::Error::custom),
            _ => self.misfit(),
        }
    }
}

impl Pair<'_, '_> {
    /// An element that is no object holds no key, and so no declared one.
    #[allow(clippy::unnecessary_wraps, reason = "all that takes a value answers alike")]
    fn misfit<E: Error>(self) -> Result<(), E> {
        for (_, node) in &self.keys.all {
            node.each_below(&mut |leaf, rank| self.rows.refuse_parent(leaf, rank));
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for Pair<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key and a value")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        self.misfit()
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        self.misfit()
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        self.misfit()
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        self.misfit()
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        self.misfit()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        self.misfit()
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        // Until the key is known, every value may be wanted.
        let mut wanted = None;
        let mut held = None;
        while let Some(part) = map.next_key_seed(Part)? {
            match part {
                Some(PairPart::Key) => wanted = Some(self.key(&map.next_value::<LazyValue<'de>>()?)),
                Some(PairPart::Value) if wanted.is_none_or(|node| node.is_some()) => {
                    held = Some(map.next_value::<LazyValue<'de>>()?);
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        match (wanted.flatten(), held) {
            (Some(node), Some(held)) => self.value(node, held.as_raw_str()),
            _ => Ok(()),
        }
    }
}

impl<'a> Pair<'a, '_> {
    /// The node of a key.
    fn key(&self, key: &LazyValue<'_>) -> Option<&'a Trie> {
        let raw = key.as_raw_str();
        let plain = raw.strip_prefix('"')?.strip_suffix('"')?;
        if plain.contains('\\') {
            return sonic_rs::Deserializer::from_str(raw).deserialize_str(Member(self.keys)).ok().flatten();
        }
        self.keys.find(plain)
    }

    /// Takes the value of a key.
    fn value<E: Error>(self, node: &Trie, raw: &str) -> Result<(), E> {
        let Self { rows, found, .. } = self;
        if raw.starts_with('{') {
            let best = parser(raw, found.is_lenient).deserialize_map(Best).map_err(E::custom)?;
            return match best {
                Some(value) => Walk { node, rows, found }.raw(value.as_raw_str()),
                None => Ok(()),
            };
        }
        Walk { node, rows, found }.raw(raw)
    }
}

/// The member of an object of values that is given: the first of [`VALUES`], then by name.
struct Best;

impl<'de> Visitor<'de> for Best {
    type Value = Option<LazyValue<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of values")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut best: Option<((usize, String), LazyValue<'de>)> = None;
        while let Some(place) = map.next_key_seed(Place)? {
            let value = map.next_value::<LazyValue<'de>>()?;
            let is_given = !matches!(value.as_raw_str(), "null" | "\"\"" | "{}" | "[]");
            if is_given && best.as_ref().is_none_or(|(found, _)| place <= *found) {
                best = Some((place, value));
            }
        }
        Ok(best.map(|(_, value)| value))
    }
}

/// The place of a member among those of a value.
struct Place;

impl<'de> DeserializeSeed<'de> for Place {
    type Value = (usize, String);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Place {
    type Value = (usize, String);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member's name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(match VALUES.iter().position(|known| *known == name) {
            Some(place) => (place, String::new()),
            None => (VALUES.len(), name.to_owned()),
        })
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
