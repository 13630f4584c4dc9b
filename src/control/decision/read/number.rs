//! Numbers of a decision in JSON, which writers write in several ways.

use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use std::fmt;

/// A whole number of 64 bits.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Long(pub(super) i64);

impl<'de> Deserialize<'de> for Long {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Form;
        impl Visitor<'_> for Form {
            type Value = Long;

            fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                to.write_str("a whole number of 64 bits, or one as a text")
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Long, E> {
                Ok(Long(number))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Long, E> {
                i64::try_from(number).map(Long).map_err(E::custom)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Long, E> {
                text.parse().map(Long).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Form)
    }
}

/// A number, or something else that is not read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Loose(pub(super) Option<f32>);

impl<'de> Deserialize<'de> for Loose {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Form;
        impl<'de> Visitor<'de> for Form {
            type Value = Loose;

            fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                to.write_str("anything")
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<Loose, E> {
                Ok(Loose(Some(number as f32).filter(|number| number.is_finite())))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Loose, E> {
                self.visit_f64(number as f64)
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Loose, E> {
                self.visit_f64(number as f64)
            }

            fn visit_bool<E: Error>(self, _: bool) -> Result<Loose, E> {
                Ok(Loose(None))
            }

            fn visit_str<E: Error>(self, _: &str) -> Result<Loose, E> {
                Ok(Loose(None))
            }

            fn visit_unit<E: Error>(self) -> Result<Loose, E> {
                Ok(Loose(None))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Loose, A::Error> {
                while all.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Loose(None))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut all: A) -> Result<Loose, A::Error> {
                while all.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Loose(None))
            }
        }
        deserializer.deserialize_any(Form)
    }
}

/// A member, or its default if it is `null`.
pub(super) fn present<'de, T: Default + Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
