//! The outputs: which of them, and which of their columns, have the scores.

use super::describe;
use crate::inference::{
    ModelSpec,
    classes::{class_of, classes_in, is_negative_label, is_negative_name, positive_of},
    files::shown,
    graph::Graph,
    model::ModelError,
};
use ort::value::{Outlet, TensorElementType, ValueType};
use std::path::Path;

/// Maximum number of settings offered in a message.
const CHOICES_MAX: usize = 4;

/// The output and column of a score.
#[derive(Clone, Debug)]
pub(in super::super) struct Pick {
    /// The output of the session.
    pub(in super::super) output: String,
    pub(in super::super) column: Column,
    /// The output's name in the file, and the class.
    pub(in super::super) described: String,
}

/// The column of an output with the score.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Column {
    /// The only one; of two without names the second, which is the positive class in every exporter.
    Usual,
    /// This index of a known number of columns.
    Of(usize, usize),
    /// This index.
    Number(usize),
}

impl Column {
    /// The index of the column, if it is unambiguous for this number of columns.
    pub(in super::super) fn among(self, columns: usize) -> Option<usize> {
        match self {
            Self::Usual => (1..=2).contains(&columns).then(|| columns - 1),
            Self::Of(column, of) => (of == columns).then_some(column),
            Self::Number(column) => (column < columns).then_some(column),
        }
    }

    /// The expected number of columns, as text.
    pub(in super::super) fn expected(self) -> String {
        match self {
            Self::Usual => "1 or 2".to_owned(),
            Self::Of(_, of) => of.to_string(),
            Self::Number(column) => format!("{} or more", column + 1),
        }
    }
}

/// Chooses the outputs of the scores: the main one, then those of the heads in order.
pub(in super::super) fn choose_outputs(
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
