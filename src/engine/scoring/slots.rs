//! The columns of a batch's scores.

use crate::{
    columns::{Slot, Type},
    config_error::ConfigError,
    event::EventBatch,
    expression::Scope,
    inference::{FeatureMatrix, ScoringSpec},
};

/// The columns of a batch's scores.
#[derive(Clone, Debug)]
pub(crate) struct ScoreSlots {
    /// The score that rules use: calibrated if there is a calibration, or the fallback.
    pub(super) score: Slot,
    /// The model's output.
    pub(super) raw: Slot,
    /// The additional scores, in the order of the model's heads.
    pub(super) heads: Vec<Slot>,
}

impl ScoreSlots {
    /// Declares `score`, `score.raw`, `score.calibrated` and a name for each head.
    pub(crate) fn declare(spec: &ScoringSpec, scope: &mut Scope, errors: &mut Vec<ConfigError>) -> Self {
        let mut declare = |name: &str| {
            scope.declare(name, Type::Double).unwrap_or_else(|| {
                errors
                    .push(ConfigError::new("feature", format!("{name:?} is what the model says; choose another name")));
                Slot(0)
            })
        };
        let slots = Self {
            score: declare("score"),
            raw: declare("score.raw"),
            heads: spec.heads.iter().map(|name| declare(&format!("score.{name}"))).collect(),
        };
        if scope.alias("score.calibrated", slots.score).is_none() {
            errors.push(ConfigError::new(
                "model.heads",
                "\"calibrated\" is what the calibration says; choose another name",
            ));
        }
        slots
    }

    /// Sets all scores of the batch to "missing".
    pub(crate) fn clear(&self, batch: &mut EventBatch) {
        let rows = batch.len();
        for slot in [self.score, self.raw].iter().chain(&self.heads) {
            let column = batch.columns.get_mut(*slot).doubles_mut();
            column.clear();
            column.resize(rows, f64::NAN);
        }
    }

    /// The score that a row's rules use.
    pub(crate) fn score(&self, batch: &EventBatch, row: usize) -> f32 {
        batch.columns.get(self.score).doubles()[row] as f32
    }

    /// The model's output for a row.
    pub(crate) fn raw(&self, batch: &EventBatch, row: usize) -> f32 {
        batch.columns.get(self.raw).doubles()[row] as f32
    }

    /// Writes the additional scores of a row to `to`.
    pub(crate) fn heads(&self, batch: &EventBatch, row: usize, to: &mut Vec<f32>) {
        to.clear();
        to.extend(self.heads.iter().map(|slot| batch.columns.get(*slot).doubles()[row] as f32));
    }
}

/// Builds a matrix from selected rows of a batch.
pub(crate) fn fill(matrix: &mut FeatureMatrix, batch: &EventBatch, inputs: &[Slot], rows: &[u32]) {
    let width = inputs.len();
    let values = matrix.reset(rows.len());
    for (column, slot) in inputs.iter().enumerate() {
        let input = batch.columns.get(*slot).doubles();
        for (row, value) in rows.iter().zip(values[column..].iter_mut().step_by(width)) {
            // A number too large for f32 counts as missing; otherwise it would reach the model as ±inf.
            let narrow = input[*row as usize] as f32;
            *value = if narrow.is_finite() { narrow } else { f32::NAN };
        }
    }
}
