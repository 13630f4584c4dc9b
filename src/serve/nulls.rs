//! Reads a message from JSON in which null stands for a default.
//!
//! In proto3 JSON, null means that a member is absent. The generated readers reject null. They also reject the null that
//! decisions write for a missing number in a list, where proto3 JSON has the string `NaN`. This adapter sits between the
//! text and such a reader, and replaces null by the default.
//!
//! Guarantees: a text is read in one pass, without an allocation here.

use serde::{
    de::{
        DeserializeOwned, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor,
        value::{MapDeserializer, SeqDeserializer},
    },
    forward_to_deserialize_any,
};
use std::{fmt, iter};

/// Reads a message from a text.
///
/// # Errors
/// If the text is not JSON, or not that of the message.
pub(super) fn from_slice<T: DeserializeOwned>(text: &[u8]) -> serde_json::Result<T> {
    let mut json = serde_json::Deserializer::from_slice(text);
    let message = T::deserialize(Value { inner: &mut json, is_item: false })?;
    json.end()?;
    Ok(message)
}

/// What a reader expects where null is.
#[derive(Clone, Copy)]
enum Expected {
    /// A number, or the number of an enum's value.
    Number,
    Bool,
    Text,
    List,
    Object,
}

/// A value that may be null. `is_item`: whether it is one of a list.
struct Value<D> {
    inner: D,
    is_item: bool,
}

impl<D> Value<D> {
    fn expect<V>(self, expected: Expected, visitor: V) -> (D, OrDefault<V>) {
        (self.inner, OrDefault { visitor, expected, is_item: self.is_item })
    }
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Value<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let (inner, visitor) = self.expect(Expected::Number, visitor);
        inner.deserialize_option(visitor)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let (inner, visitor) = self.expect(Expected::Bool, visitor);
        inner.deserialize_option(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let (inner, visitor) = self.expect(Expected::Text, visitor);
        inner.deserialize_option(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let (inner, visitor) = self.expect(Expected::List, visitor);
        inner.deserialize_option(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let (inner, visitor) = self.expect(Expected::Object, visitor);
        inner.deserialize_option(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.deserialize_map(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_option(Inner(visitor))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_ignored_any(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_identifier(visitor)
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct newtype_struct tuple tuple_struct
        enum
    }
}

/// Takes a value, or the default in place of null.
struct OrDefault<V> {
    visitor: V,
    expected: Expected,
    is_item: bool,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for OrDefault<V> {
    type Value = V::Value;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(to)
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        if self.is_item {
            return self.visitor.visit_str("NaN");
        }
        match self.expected {
            Expected::Number => self.visitor.visit_u64(0),
            Expected::Bool => self.visitor.visit_bool(false),
            Expected::Text => self.visitor.visit_str(""),
            Expected::List => self.visitor.visit_seq(SeqDeserializer::new(iter::empty::<()>())),
            Expected::Object => self.visitor.visit_map(MapDeserializer::new(iter::empty::<((), ())>())),
        }
    }

    fn visit_some<D: Deserializer<'de>>(self, value: D) -> Result<V::Value, D::Error> {
        let visitor = Inner(self.visitor);
        match self.expected {
            Expected::Number => value.deserialize_any(visitor),
            Expected::Bool => value.deserialize_bool(visitor),
            Expected::Text => value.deserialize_str(visitor),
            Expected::List => value.deserialize_seq(visitor),
            Expected::Object => value.deserialize_map(visitor),
        }
    }
}

/// Takes a value in which there may be nulls.
struct Inner<V>(V);

impl<'de, V: Visitor<'de>> Visitor<'de> for Inner<V> {
    type Value = V::Value;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(to)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<V::Value, E> {
        self.0.visit_bool(value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<V::Value, E> {
        self.0.visit_i64(value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<V::Value, E> {
        self.0.visit_u64(value)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<V::Value, E> {
        self.0.visit_f64(value)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<V::Value, E> {
        self.0.visit_str(value)
    }

    fn visit_borrowed_str<E: Error>(self, value: &'de str) -> Result<V::Value, E> {
        self.0.visit_borrowed_str(value)
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.0.visit_none()
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.0.visit_some(Value { inner, is_item: false })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<V::Value, A::Error> {
        self.0.visit_seq(Within(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<V::Value, A::Error> {
        self.0.visit_map(Within(members))
    }
}

/// The values of a list or an object.
struct Within<A>(A);

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Within<A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.0.next_element_seed(Value { inner: seed, is_item: true })
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Within<A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.0.next_key_seed(seed)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.0.next_value_seed(Value { inner: seed, is_item: false })
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Value<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<S::Value, D::Error> {
        self.inner.deserialize(Value { inner, is_item: self.is_item })
    }
}
