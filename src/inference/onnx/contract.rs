//! Checks a model's inputs against the features, and its outputs against the scores.
//!
//! Guarantees: every input and every score's output is checked by name, type, rank, width and batch axis before a row is scored.
//! Errors state what was expected, what was found and what to change. Limits: float32, float64, int64 and int32 inputs of shape
//! [rows, width] or [rows]; float32 or float64 outputs of shape [rows] or [rows, classes]. The class of the score comes from the
//! graph's labels or the configuration; an ambiguous one is never guessed.

use crate::inference::{
    FeatureMatrix, ModelSpec,
    classes::{class_of, classes_in, is_negative_label, is_negative_name, positive_of},
    files::shown,
    graph::Graph,
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
pub(super) struct Input {
    start: usize,
    width: usize,
    /// Whether its shape is [rows].
    is_flat: bool,
    buffer: Buffer,
}

impl Input {
    /// A copy without values, for another session.
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

    /// Copies its columns from the matrix.
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

    /// The tensor of the columns copied by [`Input::fill`].
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

/// The number of a category: the nearest integer, or -1 if missing, as in LightGBM and XGBoost.
fn category(value: f32) -> i64 {
    if value.is_nan() { -1 } else { value.round() as i64 }
}

/// Maximum number of settings offered in a message.
const CHOICES_MAX: usize = 4;

/// Assigns the features to the inputs. Returns the inputs in the session's order, and the features in the matrix's order. `by` says
/// where the features were named, for error messages.
pub(super) fn lay_out(
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

/// The output and column of a score.
#[derive(Clone, Debug)]
pub(super) struct Pick {
    /// The output of the session.
    pub(super) output: String,
    pub(super) column: Column,
    /// The output's name in the file, and the class.
    pub(super) described: String,
}

/// The column of an output with the score.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    /// The only one; of two without names the second, which is the positive class in every exporter.
    Usual,
    /// This index of a known number of columns.
    Of(usize, usize),
    /// This index.
    Number(usize),
}

impl Column {
    /// The index of the column, if it is unambiguous for this number of columns.
    pub(super) fn among(self, columns: usize) -> Option<usize> {
        match self {
            Self::Usual => (1..=2).contains(&columns).then(|| columns - 1),
            Self::Of(column, of) => (of == columns).then_some(column),
            Self::Number(column) => (column < columns).then_some(column),
        }
    }

    /// The expected number of columns, as text.
    pub(super) fn expected(self) -> String {
        match self {
            Self::Usual => "1 or 2".to_owned(),
            Self::Of(_, of) => of.to_string(),
            Self::Number(column) => format!("{} or more", column + 1),
        }
    }
}

/// Chooses the outputs of the scores: the main one, then those of the heads in order.
pub(super) fn choose_outputs(
    path: &Path,
    outputs: &[Outlet],
    graph: Option<&Graph>,
    spec: &ModelSpec,
) -> Result<Vec<Pick>, ModelError> {
    let choice = Choice { path, outputs, graph };
    // The heads first: an output used by a head is not the main score.
    let heads: Vec<Pick> =
        spec.heads.values().map(|output| choice.pick(choice.named(output)?, None)).collect::<Result<_, _>>()?;
    let mut picks = vec![choice.main(spec)?];
    picks.extend(heads);
    Ok(picks)
}

/// The information for choosing an output.
struct Choice<'a> {
    path: &'a Path,
    outputs: &'a [Outlet],
    /// `None` if the file cannot be parsed, although ONNX Runtime accepts it.
    graph: Option<&'a Graph>,
}

impl<'a> Choice<'a> {
    fn main(&self, spec: &ModelSpec) -> Result<Pick, ModelError> {
        if let Some(name) = &spec.output {
            return self.pick(self.named(name)?, spec.class.as_deref());
        }
        let is_a_head = |output: &&Outlet| spec.heads.values().any(|head| self.tensor_of(head) == output.name());
        let all: Vec<&Outlet> = self.outputs.iter().filter(|it| may_be_scores(it) && !is_a_head(it)).collect();
        match all[..] {
            [] => Err(self.none_for(None)),
            [output] => {
                let pick = self.pick(output, spec.class.as_deref())?;
                let name = self.name_of(output.name());
                if pick.column == Column::Of(0, 1) && spec.class.is_none() && is_negative_name(name) {
                    return Err(ModelError::Negative { path: self.path.to_path_buf(), output: name.to_owned() });
                }
                Ok(pick)
            }
            _ => self.by_class(&all, spec.class.as_deref()),
        }
    }

    /// The output of the positive class, if each class has its own output: with `zipmap="columns"` skl2onnx names them by label,
    /// prefixed with i for a number and s for a string.
    fn by_class(&self, all: &[&'a Outlet], wanted: Option<&str>) -> Result<Pick, ModelError> {
        let unclear = || ModelError::Outputs {
            path: self.path.to_path_buf(),
            found: describe(all.iter().copied()),
            choices: choices("output", all.iter().map(|it| self.name_of(it.name()))),
        };
        let labels = self.graph.and_then(Graph::labels);
        let is_labelled = labels.is_some();
        let plain = |text: &str| text.chars().filter(|it| it.is_alphanumeric()).collect::<String>();
        let of_label = |label: &String| {
            let names = ["i", "s"].map(|kind| format!("{kind}{}", plain(label)));
            all.iter().find(|it| names.contains(&plain(it.name())))
        };
        let of_labels =
            labels.filter(|labels| labels.len() == all.len() && labels.iter().all(|it| of_label(it).is_some()));
        let names: Vec<&str> = all.iter().map(|it| self.name_of(it.name())).collect();
        // Without labels in the graph, use the classes in the names.
        let by_names = if is_labelled { None } else { classes_in(&names) };
        let is_by_names = by_names.is_some();
        let Some(labels) = of_labels.or(by_names) else { return Err(unclear()) };
        let class = match (wanted, is_by_names) {
            (None, true) => positive_of(&labels).ok_or_else(unclear)?,
            _ => self.class(&names.join(", "), &labels, wanted)?,
        };
        let output = if is_by_names { all.get(class) } else { of_label(&labels[class]) }.ok_or_else(unclear)?;
        let described = format!("{:?}, class {:?}", output.name(), labels[class]);
        Ok(Pick { output: output.name().to_owned(), column: Column::Usual, described })
    }

    /// The column of an output with the score.
    fn pick(&self, output: &Outlet, wanted: Option<&str>) -> Result<Pick, ModelError> {
        let name = self.name_of(output.name());
        let columns = match output.dtype() {
            ValueType::Tensor { shape, .. } => match **shape {
                [_] => Some(1),
                [_, columns] if columns > 0 => Some(columns as usize),
                _ => None,
            },
            _ => None,
        };
        let labels = self.graph.and_then(|graph| graph.labels_of(output.name()));
        // Labels of something else do not apply to this output.
        let labels = labels.filter(|labels| columns.is_none_or(|columns| columns == labels.len()));
        let (column, class) = match (labels, wanted) {
            (Some(labels), _) => {
                let class = self.class(name, &labels, wanted)?;
                (Column::Of(class, labels.len()), Some(labels[class].clone()))
            }
            (None, None) if columns == Some(1) => (Column::Of(0, 1), None),
            (None, Some(_)) if columns == Some(1) => {
                return Err(ModelError::NoClasses { path: self.path.to_path_buf(), output: name.to_owned() });
            }
            // Every exporter sorts numeric labels, so the second column is the larger one.
            (None, None) if columns.is_none_or(|columns| columns == 2) && !self.has_unknown_labels() => {
                (Column::Usual, None)
            }
            (None, None) if columns.is_none() => (Column::Of(0, 1), None),
            (None, _) => {
                // Columns without labels are identified by number.
                let numbers: Vec<String> = (0..columns.unwrap_or(2)).map(|it| it.to_string()).collect();
                match wanted {
                    Some(wanted) if columns.is_none() => match wanted.parse() {
                        Ok(number) => (Column::Number(number), Some(wanted.to_owned())),
                        Err(_) => return Err(self.unclear(name, &numbers, format!("none is {wanted:?}"))),
                    },
                    Some(wanted) => {
                        let class = self.class(name, &numbers, Some(wanted))?;
                        (Column::Of(class, numbers.len()), Some(wanted.to_owned()))
                    }
                    None => {
                        let why = "it is unclear which of them is the positive one".to_owned();
                        return Err(self.unclear(name, &numbers, why));
                    }
                }
            }
        };
        let class = class.map(|class| format!(", class {class:?}")).unwrap_or_default();
        Ok(Pick { output: output.name().to_owned(), column, described: format!("{name:?}{class}") })
    }

    /// The index of the class whose probability is the score.
    fn class(&self, output: &str, labels: &[String], wanted: Option<&str>) -> Result<usize, ModelError> {
        if let Some(twice) = labels.iter().enumerate().find(|(index, it)| labels[..*index].contains(it)) {
            return Err(self.unclear(output, labels, format!("two of them have the label {:?}", shown(twice.1))));
        }
        let found = match wanted {
            Some(wanted) => class_of(labels, wanted),
            None if labels.len() == 1 => Some(0).filter(|_| !is_negative_label(&labels[0])),
            None => positive_of(labels),
        };
        found.ok_or_else(|| {
            let why = match wanted {
                Some(wanted) => format!("none is {wanted:?}"),
                None => "it is unclear which of them is the positive one".to_owned(),
            };
            self.unclear(output, labels, why)
        })
    }

    fn unclear(&self, output: &str, labels: &[String], why: String) -> ModelError {
        const SHOWN: usize = 10;
        let mut classes: Vec<String> = labels.iter().take(SHOWN).map(|it| format!("{:?}", shown(it))).collect();
        if labels.len() > SHOWN {
            classes.push(format!("and {} more", labels.len() - SHOWN));
        }
        ModelError::Class {
            path: self.path.to_path_buf(),
            output: output.to_owned(),
            classes: classes.join(", "),
            why,
            choices: choices("class", labels.iter().map(String::as_str)),
        }
    }

    /// The output with this name, if it can be a score.
    fn named(&self, name: &str) -> Result<&'a Outlet, ModelError> {
        let tensor = self.tensor_of(name);
        let found = self.outputs.iter().find(|output| output.name() == tensor);
        found.filter(|it| may_be_scores(it)).ok_or_else(|| self.none_for(Some(name)))
    }

    fn none_for(&self, wanted: Option<&str>) -> ModelError {
        let is_map = |output: &Outlet| matches!(output.dtype(), ValueType::Sequence(_) | ValueType::Map { .. });
        let map = self.outputs.iter().find(|it| is_map(it) && wanted.is_none_or(|name| name == it.name()));
        match map {
            Some(map) => ModelError::ZipMap { path: self.path.to_path_buf(), output: map.name().to_owned() },
            None => ModelError::Output {
                path: self.path.to_path_buf(),
                wanted: wanted.map(|name| format!(" {name:?}")).unwrap_or_default(),
                found: describe(self.outputs),
            },
        }
    }

    fn tensor_of<'b>(&self, name: &'b str) -> &'b str
    where
        'a: 'b,
    {
        self.graph.map_or(name, |graph| graph.tensor_of(name))
    }

    fn name_of<'b>(&self, tensor: &'b str) -> &'b str
    where
        'a: 'b,
    {
        self.graph.map_or(tensor, |graph| graph.name_of(tensor))
    }

    /// Whether there is an output of labels whose order the graph does not give. True for a file that cannot be parsed.
    fn has_unknown_labels(&self) -> bool {
        let is_label = |it: &&Outlet| {
            matches!(it.dtype(), ValueType::Tensor { ty, .. }
                if !matches!(ty, TensorElementType::Float32 | TensorElementType::Float64))
        };
        let Some(graph) = self.graph else { return true };
        self.outputs.iter().filter(is_label).any(|output| !graph.is_number_of_column(output.name()))
    }
}

/// The possible settings, for a message.
fn choices<'a>(key: &str, names: impl Iterator<Item = &'a str>) -> String {
    let all: Vec<String> = names.map(|name| format!("{key} = {:?}", shown(name))).collect();
    let more = if all.len() > CHOICES_MAX { ", and so on" } else { "" };
    format!("{}{more}", all[..all.len().min(CHOICES_MAX)].join(" or "))
}

/// Whether an output can be a score per row, or one per class.
fn may_be_scores(output: &Outlet) -> bool {
    match output.dtype() {
        ValueType::Tensor { ty: TensorElementType::Float32 | TensorElementType::Float64, shape, .. } => {
            // A dynamic rank reads as no dimensions; the probe checks it.
            matches!(**shape, [] | [-1] | [-1, _])
        }
        _ => false,
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
