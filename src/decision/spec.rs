//! The section `[decision]` as written in the configuration.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};

/// `[decision]`: what is written for each event.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DecisionSpec {
    /// The encoding.
    pub format: DecisionFormat,
    /// How long after its event a decision can be used.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub expires_after: Duration,
    /// Whether decisions list the campaigns that were considered and refused, with the reason. Not in flat ones, which
    /// select `suppressed` like other members.
    pub reasons: bool,
    /// For `format = "flat"`: member name in the object → path into the decision, such as `score.raw` or
    /// `segments[0].id`.
    pub fields: BTreeMap<String, String>,
}

impl Default for DecisionSpec {
    fn default() -> Self {
        Self {
            format: DecisionFormat::Json,
            expires_after: Duration::from_hours(24),
            reasons: false,
            fields: BTreeMap::new(),
        }
    }
}

/// The encoding of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DecisionFormat {
    /// The proto3 JSON form of `aimpoint.v1.Decision`.
    Json,
    /// `aimpoint.v1.Decision`.
    Protobuf,
    /// A flat JSON object of selected members.
    Flat,
}
