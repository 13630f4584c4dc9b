//! The inputs: which columns each takes, and the tensors of their values.

use super::{Named, describe};
use crate::inference::{FeatureMatrix, files::shown, model::ModelError};
use ort::{
    session::SessionInputValue,
    value::{Outlet, Shape as Extents, TensorElementType, TensorRef, ValueType},
};
use std::path::Path;

/// The values of an input, by type.
#[derive(Debug)]
enum Buffer {
    /// The whole matrix, without a copy.
    Whole,
    Float(Vec<f32>),
    Double(Vec<f64>),
    Long(Vec<i64>),
    Int(Vec<i32>),
}

/// An input of the model: its columns of the matrix, and the buffer for their converted values.
#[derive(Debug)]
pub(in super::super) struct Input {
    start: usize,
    width: usize,
    /// Whether its shape is [rows].
    is_flat: bool,
    buffer: Buffer,
}

impl Input {
    /// A copy without values, for another session.
    pub(in super::super) fn twin(&self) -> Self {
        let buffer = match self.buffer {
            Buffer::Whole => Buffer::Whole,
            Buffer::Float(_) => Buffer::Float(Vec::new()),
            Buffer::Double(_) => Buffer::Double(Vec::new()),
            Buffer::Long(_) => Buffer::Long(Vec::new()),
            Buffer::Int(_) => Buffer::Int(Vec::new()),
        };
        Self { buffer, ..*self }
    }

    /// Copies its columns from the matrix.
    pub(in super::super) fn fill(&mut self, matrix: &FeatureMatrix) {
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

    /// The tensor of the columns copied by [`Input::fill`].
    pub(in super::super) fn tensor<'a>(&'a self, matrix: &'a FeatureMatrix) -> ort::Result<SessionInputValue<'a>> {
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

/// The number of a category: the nearest integer, or -1 if missing, as in LightGBM and XGBoost.
fn category(value: f32) -> i64 {
    if value.is_nan() { -1 } else { value.round() as i64 }
}

/// Assigns the features to the inputs. Returns the inputs in the session's order, and the features in the matrix's order. `by` says
/// where the features were named, for error messages.
pub(in super::super) fn lay_out(
    path: &Path,
    inputs: &[Outlet],
    named: &Named,
    by: &'static str,
) -> Result<(Vec<Input>, Vec<String>), ModelError> {
    let shapes = inputs.iter().map(|input| Shape::of(path, input, named, inputs)).collect::<Result<Vec<_>, _>>()?;
    let parts: Vec<Vec<String>> = match named {
        Named::InOrder(features) if inputs.len() == 1 => vec![features.clone()],
        // One input of width 1 per feature, as exporters for data frames write them.
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
                    found: shown(&names(&mut inputs.iter().map(Outlet::name))),
                });
            }
            inputs.iter().map(|input| parts[input.name()].clone()).collect()
        }
    };
    let is_whole = inputs.len() == 1;
    let mut start = 0;
    let mut laid_out = Vec::with_capacity(inputs.len());
    for (Shape { kind, width, is_flat }, features) in shapes.into_iter().zip(&parts) {
        // A dynamic width is checked by the probe.
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

/// The declared shape of an input.
struct Shape {
    kind: TensorElementType,
    /// `None` if dynamic.
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
