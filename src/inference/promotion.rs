//! The configuration section `[promotion]`, and when a version was trained.

use crate::{config_error::ConfigError, evaluation::Confidence};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The largest margin in nats: far more than any model is better.
const MARGIN_MAX: f64 = 10.0;
/// The fewest users: with fewer, intervals are too narrow.
const USERS_LEAST: u64 = 10;

/// `[promotion]`: when `aimpoint promote` takes a version for better than the active one.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PromotionSpec {
    /// The confidence of the interval of the difference: `90%`, `95%` or `99%`.
    pub confidence: Confidence,
    /// By how much the log loss must be lower at least, in nats: the lower end of the interval must be above it.
    pub margin: f64,
    /// The fewest rows that are evidence.
    pub rows_min: u64,
    /// The fewest users that are evidence, at least 10.
    pub users_min: u64,
    /// The fewest rows of the rarer label that are evidence: with a few, the version that predicts less wins too often.
    pub rarer_min: u64,
    /// Whether live labels are required beside sealed rows.
    pub live: LiveNeed,
    /// The campaigns whose outcomes are the live labels. By default those whose `probability` is `score`.
    pub campaigns: Vec<String>,
}

impl Default for PromotionSpec {
    fn default() -> Self {
        Self {
            confidence: Confidence::P95,
            margin: 0.0,
            rows_min: 1_000,
            users_min: 100,
            rarer_min: 100,
            live: LiveNeed::IfShadowed,
            campaigns: Vec::new(),
        }
    }
}

/// When live labels are required.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LiveNeed {
    /// If a `[[shadow]]` is the version that is to be promoted.
    #[default]
    IfShadowed,
    /// Always.
    Always,
    /// Never; if they are given, they count.
    Never,
}

impl PromotionSpec {
    /// Reports what is out of range.
    pub fn check(&self, errors: &mut Vec<ConfigError>) {
        if !(0.0..=MARGIN_MAX).contains(&self.margin) {
            let message = format!("{} is not between 0 and {MARGIN_MAX}", self.margin);
            errors
                .push(ConfigError::new("promotion.margin", message).hint("0.002 is a small difference of log losses"));
        }
        if self.rows_min == 0 {
            errors.push(ConfigError::new("promotion.rows_min", "0 rows are no evidence").hint("for instance 1000"));
        }
        if self.rarer_min == 0 {
            let message = "rows of one label are no evidence";
            errors.push(ConfigError::new("promotion.rarer_min", message).hint("for instance 100"));
        }
        if self.users_min < USERS_LEAST {
            let message = format!("{} is below {USERS_LEAST}, with which no interval can be trusted", self.users_min);
            errors.push(ConfigError::new("promotion.users_min", message).hint("for instance 100"));
        }
    }
}

/// The times of the rows that a model was trained and tested on, in UTC. The ends are those of the oldest and newest row.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingTimes {
    /// The oldest row that it was trained on.
    pub trained_from: String,
    /// The newest row that it was trained on.
    pub trained_until: String,
    /// The oldest row that it was tested on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tested_from: Option<String>,
    /// The newest row that it was tested on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tested_until: Option<String>,
}

impl TrainingTimes {
    /// The newest row that it was trained on, in microseconds since 1970.
    pub fn trained_until(&self) -> Option<i64> {
        self.trained_until.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_microsecond)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_test_can_rest_on_is_refused() {
        let faults = |change: fn(&mut PromotionSpec)| {
            let mut spec = PromotionSpec::default();
            change(&mut spec);
            let mut errors = Vec::new();
            spec.check(&mut errors);
            errors.iter().map(|error| error.key.clone()).collect::<Vec<_>>()
        };
        assert!(faults(|_| {}).is_empty());
        assert_eq!(faults(|spec| spec.margin = -0.1), ["promotion.margin"]);
        assert_eq!(faults(|spec| spec.margin = f64::NAN), ["promotion.margin"]);
        assert_eq!(
            faults(|spec| (spec.rows_min, spec.users_min) = (0, 9)),
            ["promotion.rows_min", "promotion.users_min"]
        );
    }
}
