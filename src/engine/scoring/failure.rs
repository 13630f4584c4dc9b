//! Model failures that degrade decisions without stopping them.

use crate::inference::ModelError;

/// A model failure that degrades decisions without stopping them. Reported the 1st, 2nd, 4th, 8th time and so on.
#[derive(Debug)]
pub enum ScoringFailure {
    /// A new version of the model does not fit; the old one stays.
    Unfit {
        /// The first fault.
        fault: Option<String>,
        /// Its version.
        version: String,
    },
    /// A run of the model failed; the decisions of the batch fall back.
    Run {
        /// The error.
        error: ModelError,
        /// The rows of the batch.
        rows: usize,
        /// How many runs have failed so far.
        runs: u64,
    },
    /// A score was out of range and was ignored.
    OutOfRange {
        /// The score.
        score: f32,
        /// The version of the model.
        version: String,
        /// How many batches had such a score.
        batches: u64,
    },
    /// Decisions are written without an explanation.
    Explanation {
        /// The error.
        error: ModelError,
        /// The number of affected decisions.
        rows: usize,
        /// How many batches were affected so far.
        batches: u64,
    },
}
