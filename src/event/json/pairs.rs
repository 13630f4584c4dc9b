//! Arrays of keys and values, such as GA4's `event_params`.

use super::{
    super::rows::Rows,
    parser,
    paths::{Members, Trie},
    walk::{Found, Member, Walk, scalars_are_misfits},
};
use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use sonic_rs::LazyValue;
use std::fmt;

/// The members that can hold a typed value, in order of preference. Others follow, by name.
pub(super) const VALUES: [&str; 10] = [
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

/// An element of an array of keys and values.
pub(super) struct Pair<'a, 'r> {
    pub(super) keys: &'a Members,
    pub(super) rows: &'a mut Rows<'r>,
    pub(super) found: &'a mut Found,
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
    /// Records an element that is not an object and therefore has none of the keys.
    #[allow(clippy::unnecessary_wraps, reason = "like all functions that take a value")]
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

    scalars_are_misfits!();

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        self.misfit()
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        // Until the key is known, the value may still be needed.
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
    /// The node for a key.
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

/// The member that is set in an object of typed values: the first of [`VALUES`], then by name.
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

/// The preference of a member of a typed value.
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

/// Reads the name of a member of such an element.
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
