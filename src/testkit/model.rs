//! A model without a runtime that behaves as a test tells it to.
//!
//! Owns a score function and a switch that other threads can set: scores, errors or NaN. It counts its runs and rows,
//! so that a test can check how rows were batched.

use crate::inference::{Calibration, FeatureMatrix, Model, ModelError, ModelInfo, ScoreRange};
use std::sync::{
    Arc,
    atomic::{AtomicU8, AtomicU64, Ordering},
};

/// How a [`FakeModel`] responds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// With scores.
    Score,
    /// With an error.
    Fail,
    /// With NaN for every row.
    Nan,
    /// Too late.
    Late,
}

/// A handle to a [`FakeModel`] after a pipeline has taken ownership of it. Clones share the same handle.
#[derive(Clone, Debug, Default)]
pub struct FakeControl(Arc<Control>);

#[derive(Debug, Default)]
struct Control {
    mood: AtomicU8,
    runs: AtomicU64,
    rows: AtomicU64,
}

impl FakeControl {
    /// Sets how the model responds from its next run on.
    pub fn set(&self, mood: Mood) {
        self.0.mood.store(mood as u8, Ordering::SeqCst);
    }

    /// How often the model was run.
    pub fn runs(&self) -> u64 {
        self.0.runs.load(Ordering::SeqCst)
    }

    /// How many rows the model was given.
    pub fn rows(&self) -> u64 {
        self.0.rows.load(Ordering::SeqCst)
    }

    fn mood(&self) -> Mood {
        match self.0.mood.load(Ordering::SeqCst) {
            0 => Mood::Score,
            1 => Mood::Fail,
            2 => Mood::Nan,
            _ => Mood::Late,
        }
    }
}

/// A function that scores a row.
type Function = Box<dyn FnMut(&[f32]) -> f32 + Send>;

/// A model that scores each row by a function.
pub struct FakeModel {
    info: ModelInfo,
    function: Function,
    control: FakeControl,
}

impl std::fmt::Debug for FakeModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FakeModel").field("info", &self.info).field("control", &self.control).finish_non_exhaustive()
    }
}

impl FakeModel {
    /// A model over these features that scores a row by `function`.
    pub fn new(features: &[&str], function: impl FnMut(&[f32]) -> f32 + Send + 'static) -> Self {
        let info = ModelInfo {
            name: "fake".to_owned(),
            version: "1".to_owned(),
            sha256: "0".repeat(64),
            runtime: "testkit".to_owned(),
            provider: "cpu".to_owned(),
            features: features.iter().map(|&name| name.to_owned()).collect(),
            fingerprint: None,
            ..ModelInfo::default()
        };
        Self { info, function: Box::new(function), control: FakeControl::default() }
    }

    /// A model over these features that scores every row the same.
    pub fn constant(features: &[&str], score: f32) -> Self {
        Self::new(features, move |_| score)
    }

    /// The same model with another version.
    #[must_use]
    pub fn version(mut self, version: &str) -> Self {
        version.clone_into(&mut self.info.version);
        self
    }

    /// The same model with a baseline row for explanations.
    #[must_use]
    pub fn baseline(mut self, baseline: &[f32]) -> Self {
        self.info.baseline = Some(baseline.to_vec());
        self
    }

    /// The same model with this range for its main score.
    #[must_use]
    pub fn range(mut self, least: f32, most: f32) -> Self {
        self.info.ranges = vec![ScoreRange { least, most }];
        self
    }

    /// The same model with this calibration.
    #[must_use]
    pub fn calibration(mut self, calibration: Calibration) -> Self {
        self.info.calibration = Some(calibration);
        self
    }

    /// The handle on this model.
    pub fn control(&self) -> FakeControl {
        self.control.clone()
    }
}

impl Model for FakeModel {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn score(&mut self, matrix: &FeatureMatrix, scores: &mut Vec<f32>) -> Result<(), ModelError> {
        scores.clear();
        let rows = matrix.rows();
        self.control.0.runs.fetch_add(1, Ordering::SeqCst);
        self.control.0.rows.fetch_add(rows as u64, Ordering::SeqCst);
        match self.control.mood() {
            Mood::Score => scores.extend((0..rows).map(|row| (self.function)(matrix.row(row)))),
            Mood::Nan => scores.resize(rows, f32::NAN),
            Mood::Late => {
                let limit = std::time::Duration::from_secs(1);
                return Err(ModelError::Late { model: self.info.name.clone(), rows, limit });
            }
            Mood::Fail => {
                let reason = "the test asked it to fail".to_owned();
                return Err(ModelError::Run { model: self.info.name.clone(), rows, reason });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_scores_fails_or_answers_nan_as_it_is_told() {
        let mut model = FakeModel::new(&["a", "b"], |row| row[0] - row[1]);
        let control = model.control();
        let mut matrix = FeatureMatrix::new(2);
        matrix.reset(2).copy_from_slice(&[3.0, 1.0, 5.0, 5.0]);
        let mut scores = vec![9.0];
        model.score(&matrix, &mut scores).unwrap();
        assert_eq!(scores, [2.0, 0.0]);
        control.set(Mood::Nan);
        model.score(&matrix, &mut scores).unwrap();
        assert!(scores.len() == 2 && scores.iter().all(|score| score.is_nan()));
        control.set(Mood::Late);
        assert!(matches!(model.score(&matrix, &mut scores), Err(ModelError::Late { .. })));
        control.set(Mood::Fail);
        assert!(model.score(&matrix, &mut scores).is_err());
        assert_eq!((scores.len(), control.runs(), control.rows()), (0, 4, 8));
    }
}
