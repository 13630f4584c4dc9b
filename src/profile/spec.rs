//! The sections `[profile]`, `[[feature]]` and `[[attribute]]`, as they are written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};

/// `[profile]`: what holds for every profile.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProfileSpec {
    /// How long after a user's newest event the profile is kept: by the user's next event, or by the time of the partition.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub ttl: Duration,
    /// What becomes of the profiles when the declared features are others than those that they were made by.
    pub on_change: OnChange,
}

/// What becomes of profiles when the declared features change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnChange {
    /// Features that are declared as before keep their state, others begin empty.
    #[default]
    Keep,
    /// All profiles are made anew from the input that is retained, in which new features have their past, too.
    Replay,
}

impl Default for ProfileSpec {
    fn default() -> Self {
        Self { ttl: Duration::from_hours(540 * 24), on_change: OnChange::Keep }
    }
}

/// `[[feature]]`: one number about a user, as it is written. Which keys belong to which aggregate is checked when the
/// features are compiled, so that the message can name both.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
pub struct FeatureSpec {
    /// The feature's name, unique among fields and features.
    pub name: String,
    /// The aggregate: `count`, `sum`, …; absent in a derived feature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aggregate: Option<String>,
    /// A derived feature: an expression over earlier features and the event's fields.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expression: Option<String>,
    /// Which events count; all, where absent.
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// What is aggregated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The window's length, such as `24h`, or `forever`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<String>,
    /// The width of the window's tiles, such as `30m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tile: Option<String>,
    /// Whether the model gets it; a feature may exist for others' expressions alone.
    #[serde(default = "yes", skip_serializing_if = "Clone::clone")]
    pub model: bool,
    /// What the aggregate takes beside these: `k`, `half_life`, `gap`, `zone`, `alpha`, `beta`, …
    #[serde(flatten)]
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    pub options: BTreeMap<String, toml::Value>,
}

fn yes() -> bool {
    true
}
