//! Replacements for missing scores.
//!
//! Guarantees: there are four reasons for a fallback, and each appears in the decision and in a metric. Limits: a worker remembers
//! the last scores of at most [`LAST_SCORES`] users, in memory only. After a restart or rebalance a user has none until the model
//! scores again; until then the prior is used, if configured.

use super::ModelError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How many last scores a worker keeps: 2^18 entries of 16 bytes are 4 MiB. If two users share an entry, the later one is kept.
const LAST_SCORES: usize = 1 << 18;

/// `[scoring]`: what replaces a missing score.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ScoringSpec {
    /// The replacement for a missing score.
    pub fallback: Fallback,
    /// The score of `fallback = "prior"`, and of `last_score` for users without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prior: Option<f32>,
    /// The names of the further scores declared in `[model]`.
    #[serde(skip)]
    pub heads: Vec<String>,
}

/// The replacement for a missing score.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fallback {
    /// None: rules on the score do not match.
    #[default]
    None,
    /// The user's last score by this worker.
    LastScore,
    /// A configured score, the same for all users.
    Prior,
}

/// Why the model gave no usable score.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FallbackReason {
    /// The run failed.
    Failed,
    /// The run exceeded its deadline.
    Late,
    /// The score is NaN.
    NotANumber,
    /// The score is outside `model.range`.
    OutOfRange,
}

impl FallbackReason {
    /// All reasons.
    pub const ALL: [Self; 4] = [Self::Failed, Self::Late, Self::NotANumber, Self::OutOfRange];

    /// The reason of a failed run.
    pub fn of(error: &ModelError) -> Self {
        if matches!(error, ModelError::Late { .. }) { Self::Late } else { Self::Failed }
    }

    /// The reason as it appears in decisions and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "model_failed",
            Self::Late => "model_late",
            Self::NotANumber => "score_not_a_number",
            Self::OutOfRange => "score_out_of_range",
        }
    }
}

/// The last score of some users, by the hash of their key.
#[derive(Clone, Debug, Default)]
pub struct LastScores {
    entries: Vec<(u64, f32)>,
}

impl LastScores {
    /// Allocates all entries.
    pub fn new() -> Self {
        Self { entries: vec![(0, f32::NAN); LAST_SCORES] }
    }

    /// Stores a user's score.
    pub fn put(&mut self, user: u64, score: f32) {
        self.entries[user as usize % LAST_SCORES] = (user, score);
    }

    /// The user's last score, if stored.
    pub fn get(&self, user: u64) -> Option<f32> {
        let (known, score) = self.entries[user as usize % LAST_SCORES];
        (known == user && !score.is_nan()).then_some(score)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_later_of_two_users_in_one_entry_is_kept() {
        let mut scores = LastScores::new();
        assert_eq!((scores.get(0), scores.get(7)), (None, None));
        scores.put(7, 0.5);
        assert_eq!(scores.get(7), Some(0.5));
        let other = 7 + LAST_SCORES as u64;
        assert_eq!(scores.get(other), None);
        scores.put(other, 0.25);
        assert_eq!((scores.get(7), scores.get(other)), (None, Some(0.25)));
    }
}
