//! The visitors that walk a payload along the tree of declared paths.

use super::{
    super::{
        RejectReason, Rejection,
        rows::{Rows, Scalar},
    },
    pairs::Pair,
    parser,
    paths::{Members, Trie},
};
use crate::nesting::nests_too_deep;
use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use sonic_rs::LazyValue;
use std::fmt;

/// Handles scalars where only an object is meaningful.
macro_rules! scalars_are_misfits {
    () => {
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
    };
}
pub(super) use scalars_are_misfits;

/// What a walk found apart from values.
#[derive(Default)]
pub(super) struct Found {
    /// Address and length of the array of events.
    pub(super) array: Option<(usize, usize)>,
    /// Why the record is refused, other than for its syntax.
    pub(super) refused: Option<Rejection>,
    /// Whether values are parsed only if a path leads to them, which is slower.
    pub(super) is_lenient: bool,
}

impl Found {
    fn refuse<E: Error>(&mut self, rejection: Rejection) -> E {
        self.refused = Some(rejection);
        E::custom("refused")
    }
}

/// Reads a value at a node of the tree.
pub(super) struct Walk<'a, 'r> {
    pub(super) node: &'a Trie,
    pub(super) rows: &'a mut Rows<'r>,
    pub(super) found: &'a mut Found,
}

impl Walk<'_, '_> {
    /// Takes the raw text of a value at a node with leaves.
    pub(super) fn raw<E: Error>(self, mut raw: &str) -> Result<(), E> {
        let whole = raw.len();
        if self.node.takes_array && raw.starts_with('[') {
            return self.scalar(Scalar::Text(raw));
        }
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
                // Inside an array, more text follows the number.
                let end = raw.find([',', ']']).filter(|_| raw.len() < whole).unwrap_or(raw.len());
                self.scalar(Scalar::Number(raw[..end].trim_ascii_end()))
            }
        }
    }

    /// Takes a string, starting at its opening quote. More may follow it.
    fn text<E: Error>(self, raw: &str) -> Result<(), E> {
        let inner = &raw[1..];
        if let Some(end) = memchr::memchr2(b'"', b'\\', inner.as_bytes())
            && inner.as_bytes()[end] == b'"'
        {
            return self.scalar(Scalar::Text(&inner[..end]));
        }
        let Self { node, rows, found } = self;
        let walk = Walk { node, rows: &mut *rows, found: &mut *found };
        // This can only fail for an unpaired surrogate.
        if sonic_rs::Deserializer::from_str(raw).deserialize_str(Unescaped(walk)).is_err() {
            if node.leaves.is_empty() {
                Walk { node, rows, found }.misfit();
            } else {
                node.leaves.iter().for_each(|(leaf, rank)| rows.refuse_text(*leaf, *rank));
            }
        }
        Ok(())
    }

    #[allow(clippy::unnecessary_wraps, reason = "like all functions that take a value")]
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

    /// Takes a string that contains an object or an array as JSON.
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

    /// Records a scalar where an object was declared, or the reverse.
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

/// Takes a string at a node, with its escapes resolved.
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

    // Numbers with a leaf are read from their text. Any other number is where an object should be.
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
        // Some producers write keys and values as the members of an object.
        let members = if node.members.all.is_empty() { &node.keyed } else { &node.members };
        while let Some(member) = map.next_key_seed(Member(members))? {
            match member {
                Some(node) if node.is_unpacked => {
                    let value = map.next_value::<LazyValue<'de>>()?;
                    let text = value.as_raw_str();
                    if found.array.is_some() {
                        let detail = "input.unpack: the record has the array of events twice";
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

/// The key of a member: the node below it, if the member is declared.
pub(super) struct Member<'a>(pub(super) &'a Members);

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

/// Reads the array of events in a record.
pub(super) struct Events<'a, 'r> {
    pub(super) node: &'a Trie,
    pub(super) rows: &'a mut Rows<'r>,
    pub(super) refused: &'a mut Option<Rejection>,
    pub(super) is_lenient: bool,
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

/// An element of the array of events, which must be an object.
struct Element<'a, 'r>(Walk<'a, 'r>);

impl Element<'_, '_> {
    fn misfit<E: Error>(self) -> Result<(), E> {
        let detail = "input.unpack: expected an array of objects at this path, and one element is not an object";
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

    scalars_are_misfits!();

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        self.misfit()
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        self.0.visit_map(map)
    }
}
