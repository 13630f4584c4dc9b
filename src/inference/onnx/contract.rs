//! Checks a model's inputs against the features, and its outputs against the scores.
//!
//! Guarantees: every input and every score's output is checked by name, type, rank, width and batch axis before a row is scored.
//! Errors state what was expected, what was found and what to change. Limits: float32, float64, int64 and int32 inputs of shape
//! [rows, width] or [rows]; float32 or float64 outputs of shape [rows] or [rows, classes]. The class of the score comes from the
//! graph's labels or the configuration; an ambiguous one is never guessed.

mod input;
mod output;

pub(super) use input::{Input, lay_out};
pub(super) use output::{Column, Pick, choose_outputs};

use crate::inference::{
    files::shown,
    model::{ModelError, metadata},
};
use ort::value::{Outlet, ValueType};
use serde::{
    Deserialize,
    de::{
        MapAccess, SeqAccess, Visitor,
        value::{MapAccessDeserializer, SeqAccessDeserializer},
    },
};
use std::{
    collections::BTreeMap,
    fmt::{self, Write},
    path::Path,
};

/// The features as named in a file or configuration: as one list, or by input.
#[derive(Clone, Debug)]
pub(super) enum Named {
    /// For a model with one input, or with one input per feature.
    InOrder(Vec<String>),
    /// For a model with several inputs.
    ByInput(BTreeMap<String, Vec<String>>),
}

impl<'de> serde::Deserialize<'de> for Named {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Named;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of features, or an object with such a list for each input")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, features: A) -> Result<Named, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(features)).map(Named::InOrder)
            }

            fn visit_map<A: MapAccess<'de>>(self, inputs: A) -> Result<Named, A::Error> {
                BTreeMap::deserialize(MapAccessDeserializer::new(inputs)).map(Named::ByInput)
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// The features named in the file's metadata.
pub(super) fn named_by(text: &str, path: &Path) -> Result<Named, ModelError> {
    serde_json::from_str(text).map_err(|_| ModelError::Metadata {
        path: path.to_path_buf(),
        key: metadata::FEATURES,
        expected: "a JSON array of feature names, or an object of such arrays by input",
        found: shown(text),
    })
}

/// Describes inputs or outputs by name, type and shape.
pub(super) fn describe<'a>(outlets: impl IntoIterator<Item = &'a Outlet>) -> String {
    let mut text = String::new();
    for outlet in outlets {
        let separator = if text.is_empty() { "" } else { ", " };
        let written = match outlet.dtype() {
            ValueType::Tensor { ty, shape, .. } => write!(text, "{separator}{:?}: {ty} {shape:?}", outlet.name()),
            ValueType::Sequence(_) => write!(text, "{separator}{:?}: a sequence", outlet.name()),
            ValueType::Map { .. } => write!(text, "{separator}{:?}: a map", outlet.name()),
            ValueType::Optional(_) => write!(text, "{separator}{:?}: an optional value", outlet.name()),
        };
        written.expect("writing to a string cannot fail");
    }
    if text.is_empty() { "none".to_owned() } else { text }
}
