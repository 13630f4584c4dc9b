//! What a model must look like: its inputs against the features, its outputs against the scores.
//!
//! Guarantees: every input and every score's output is checked by name, type, rank, width and batch axis before a row is
//! scored, and a refusal says what was expected, what was found and what to change. Limits: float32, float64, int64 and
//! int32 inputs of shape [rows, width] or [rows]; float32 or float64 outputs of shape [rows], [rows, 1] or [rows, 2].

use crate::inference::{
    FeatureMatrix, ModelSpec,
    model::{ModelError, metadata},
};
use ort::{
    session::SessionInputValue,
    value::{Outlet, Shape as Extents, TensorElementType, TensorRef, ValueType},
};
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

/// The features as a file or a configuration names them: in one order, or by the input that they go into.
#[derive(Clone, Debug)]
pub(super) enum Named {
    /// For a model with one input, or with an input of its own for each feature.
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

/// The values of an input that is not the whole matrix, by its type.
#[derive(Debug)]
enum Buffer {
    /// The matrix itself, which needs no copy.
    Whole,
    Float(Vec<f32>),
    Double(Vec<f64>),
    Long(Vec<i64>),
    Int(Vec<i32>),
}

/// One input of the model: the columns of the matrix that go into it, and what they become there.
#[derive(Debug)]
pub(super) struct Input {
    start: usize,
    width: usize,
    /// Whether its shape is [rows], without a second dimension.
    is_flat: bool,
    buffer: Buffer,
}

impl Input {
    /// The same input without its values, for another session.
    pub(super) fn twin(&self) -> Self {
        let buffer = match self.buffer {
            Buffer::Whole => Buffer::Whole,
            Buffer::Float(_) => Buffer::Float(Vec::new()),
            Buffer::Double(_) => Buffer::Double(Vec::new()),
            Buffer::Long(_) => Buffer::Long(Vec::new()),
            Buffer::Int(_) => Buffer::Int(Vec::new()),
        };
        Self { buffer, ..*self }
    }

    /// Takes its columns out of the matrix.
    pub(super) fn fill(&mut self, matrix: &FeatureMatrix) {
        let columns = self.start..self.start + self.width;
        let values = (0..matrix.rows()).flat_map(|row| &matrix.row(row)[columns.clone()]);
        match &mut self.buffer {
            Buffer::Whole => {}
            Buffer::Float(buffer) => refill(buffer, values.copied()),
            Buffer::Double(buffer) => refill(buffer, values.map(|value| f64::from(*value))),
            Buffer::Long(buffer) => refill(buffer, values.map(|value| category(*value))),
            Buffer::Int(buffer) => refill(buffer, values.map(|value| category(*value) as i32)),
        }
    }

    /// The tensor of its columns, which [`Input::fill`] has taken.
    pub(super) fn tensor<'a>(&'a self, matrix: &'a FeatureMatrix) -> ort::Result<SessionInputValue<'a>> {
        let (rows, width) = (matrix.rows() as i64, self.width as i64);
        let shape = if self.is_flat { Extents::new([rows]) } else { Extents::new([rows, width]) };
        Ok(match &self.buffer {
            Buffer::Whole => TensorRef::from_array_view((shape, matrix.values()))?.into(),
            Buffer::Float(values) => TensorRef::from_array_view((shape, &values[..]))?.into(),
            Buffer::Double(values) => TensorRef::from_array_view((shape, &values[..]))?.into(),
            Buffer::Long(values) => TensorRef::from_array_view((shape, &values[..]))?.into(),
            Buffer::Int(values) => TensorRef::from_array_view((shape, &values[..]))?.into(),
        })
    }
}

fn refill<T>(buffer: &mut Vec<T>, values: impl Iterator<Item = T>) {
    buffer.clear();
    buffer.extend(values);
}

/// A category's number: the nearest integer, and -1 where the value is missing, as LightGBM and XGBoost have it.
fn category(value: f32) -> i64 {
    if value.is_nan() { -1 } else { value.round() as i64 }
}

/// Lays the features out over the inputs: gives the inputs in the session's order, and the features in the matrix's.
/// `by` says who named the features, for a refusal.
pub(super) fn lay_out(
    path: &Path,
    inputs: &[Outlet],
    named: &Named,
    by: &'static str,
) -> Result<(Vec<Input>, Vec<String>), ModelError> {
    let shapes = inputs.iter().map(|input| Shape::of(path, input, named, inputs)).collect::<Result<Vec<_>, _>>()?;
    let parts: Vec<Vec<String>> = match named {
        Named::InOrder(features) if inputs.len() == 1 => vec![features.clone()],
        // One input of width 1 a feature, as exporters of data frames write them.
        Named::InOrder(features)
            if inputs.len() == features.len()
                && inputs.iter().all(|it| features.iter().any(|name| name == it.name())) =>
        {
            inputs.iter().map(|input| vec![input.name().to_owned()]).collect()
        }
        Named::InOrder(_) => {
            let (path, found) = (path.to_path_buf(), describe(inputs));
            return Err(ModelError::Inputs { path, count: inputs.len(), found });
        }
        Named::ByInput(parts) => {
            let names = |names: &mut dyn Iterator<Item = &str>| names.collect::<Vec<_>>().join(", ");
            if parts.len() != inputs.len() || inputs.iter().any(|input| !parts.contains_key(input.name())) {
                return Err(ModelError::InputNames {
                    path: path.to_path_buf(),
                    named: names(&mut parts.keys().map(String::as_str)),
                    by,
                    found: names(&mut inputs.iter().map(Outlet::name)),
                });
            }
            inputs.iter().map(|input| parts[input.name()].clone()).collect()
        }
    };
    let is_whole = inputs.len() == 1;
    let mut start = 0;
    let mut laid_out = Vec::with_capacity(inputs.len());
    for (Shape { kind, width, is_flat }, features) in shapes.into_iter().zip(&parts) {
        // Where the width is open, the probe tells.
        if width.is_some_and(|width| width != features.len() as i64) {
            let (path, width) = (path.to_path_buf(), width.unwrap_or_default());
            return Err(ModelError::Width { path, width, named: features.len(), by });
        }
        let buffer = match kind {
            TensorElementType::Float32 if is_whole => Buffer::Whole,
            TensorElementType::Float32 => Buffer::Float(Vec::new()),
            TensorElementType::Float64 => Buffer::Double(Vec::new()),
            TensorElementType::Int64 => Buffer::Long(Vec::new()),
            _ => Buffer::Int(Vec::new()),
        };
        laid_out.push(Input { start, width: features.len(), is_flat, buffer });
        start += features.len();
    }
    Ok((laid_out, parts.concat()))
}

/// What an input's declaration says.
struct Shape {
    kind: TensorElementType,
    /// None where the file leaves it open.
    width: Option<i64>,
    is_flat: bool,
}

impl Shape {
    fn of(path: &Path, input: &Outlet, named: &Named, all: &[Outlet]) -> Result<Self, ModelError> {
        let width = match named {
            Named::InOrder(features) if all.len() == 1 => features.len(),
            Named::InOrder(_) => 1,
            Named::ByInput(parts) => parts.get(input.name()).map_or(1, Vec::len),
        };
        let wrong = || ModelError::Input { path: path.to_path_buf(), width, found: describe(all) };
        let ValueType::Tensor { ty, shape, .. } = input.dtype() else { return Err(wrong()) };
        let is_known = matches!(
            ty,
            TensorElementType::Float32
                | TensorElementType::Float64
                | TensorElementType::Int64
                | TensorElementType::Int32
        );
        let (batch, width, is_flat) = match **shape {
            _ if !is_known => return Err(wrong()),
            [batch] => (batch, Some(1), true),
            [batch, width] => (batch, (width >= 0).then_some(width), false),
            _ => return Err(wrong()),
        };
        if batch >= 0 {
            let (path, input) = (path.to_path_buf(), input.name().to_owned());
            return Err(ModelError::FixedBatch { path, input, batch });
        }
        Ok(Self { kind: *ty, width, is_flat })
    }
}

/// The outputs that hold the scores: the main one, which is the one that is asked for or the first float one, and those of
/// the further heads in their order.
pub(super) fn choose_outputs(path: &Path, outputs: &[Outlet], spec: &ModelSpec) -> Result<Vec<String>, ModelError> {
    let main = choose_output(path, outputs, spec.output.as_deref())?;
    let heads = spec.heads.values().map(|output| choose_output(path, outputs, Some(output)));
    std::iter::once(Ok(main)).chain(heads).collect()
}

fn choose_output(path: &Path, outputs: &[Outlet], wanted: Option<&str>) -> Result<String, ModelError> {
    let float = |output: &&Outlet| match output.dtype() {
        ValueType::Tensor { ty: TensorElementType::Float32 | TensorElementType::Float64, shape, .. } => {
            // A file may leave the rank open as well, which reads as no dimensions: the probe tells.
            matches!(**shape, [] | [-1] | [-1, -1 | 1 | 2])
        }
        _ => false,
    };
    let found = match wanted {
        Some(name) => outputs.iter().find(|output| output.name() == name).filter(float),
        None => outputs.iter().find(float),
    };
    let is_map = |output: &Outlet| matches!(output.dtype(), ValueType::Sequence(_) | ValueType::Map { .. });
    let map = outputs.iter().find(|output| is_map(output) && wanted.is_none_or(|name| name == output.name()));
    match (found, map) {
        (Some(output), _) => Ok(output.name().to_owned()),
        (None, Some(map)) => Err(ModelError::ZipMap { path: path.to_path_buf(), output: map.name().to_owned() }),
        (None, None) => Err(ModelError::Output {
            path: path.to_path_buf(),
            wanted: wanted.map(|name| format!(" {name:?}")).unwrap_or_default(),
            found: describe(outputs),
        }),
    }
}

/// The features as the file's metadata names them.
pub(super) fn named_by(text: &str, path: &Path) -> Result<Named, ModelError> {
    serde_json::from_str(text).map_err(|_| ModelError::Metadata {
        path: path.to_path_buf(),
        key: metadata::FEATURES,
        expected: "a JSON array of feature names, or an object of such arrays by input",
        found: text.to_owned(),
    })
}

/// The names, types and shapes of inputs or outputs.
pub(super) fn describe(outlets: &[Outlet]) -> String {
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
