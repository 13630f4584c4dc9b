//! What the pipeline asks of a model.

use super::FeatureMatrix;

/// What a model says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelInfo {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The SHA-256 of its file, in hex.
    pub sha256: String,
    /// What runs it, with the version.
    pub runtime: String,
    /// The execution provider that is really used.
    pub provider: String,
    /// The features in the order of its input.
    pub features: Vec<String>,
    /// The fingerprint of the features that it was trained on, where it says so.
    pub fingerprint: Option<String>,
    /// The output that is read.
    pub output: String,
}

/// Turns feature rows into scores.
pub trait Model: Send {
    /// What the model says of itself.
    fn info(&self) -> &ModelInfo;

    /// Scores every row of the matrix into `scores`, one score a row.
    ///
    /// # Errors
    /// When the run failed; `scores` is then not to be used.
    fn score(&mut self, matrix: &FeatureMatrix, scores: &mut Vec<f32>) -> Result<(), ModelError>;
}

/// Why a model gave no scores.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The run failed.
    #[error("run the model: {0}")]
    Run(String),
}
