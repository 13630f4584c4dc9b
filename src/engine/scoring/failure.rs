//! Failures of models that cost decisions something and do not stop them.

use crate::inference::ModelError;

/// A failure of a model that costs its decisions something but does not stop them. It is reported when it happens for the 1st,
/// 2nd, 4th, 8th time and so on.
#[derive(Debug)]
pub enum ScoringFailure {
    /// A new version of the model does not fit; the old one stays.
    Unfit {
        /// The first fault.
        fault: Option<String>,
        /// The version.
        version: String,
    },
    /// A run of the model failed; the decisions of the batch fall back.
    Run {
        /// Why.
        error: ModelError,
        /// The rows of the batch.
        rows: usize,
        /// How many runs have failed.
        runs: u64,
    },
    /// A score was outside of its range and was ignored.
    OutOfRange {
        /// The score.
        score: f32,
        /// The version of the model.
        version: String,
        /// How many batches had such a score.
        batches: u64,
    },
    /// Decisions go out without an explanation.
    Explanation {
        /// Why.
        error: ModelError,
        /// How many decisions.
        rows: usize,
        /// How many batches have failed.
        batches: u64,
    },
}
