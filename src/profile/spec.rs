//! The sections `[profile]`, `[[feature]]` and `[[attribute]]` as written in the configuration.

use super::MembershipName;
use crate::privacy::{consent::ConsentSpec, erasure::ErasureSpec};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};

/// `[profile]`: settings for all profiles.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProfileSpec {
    /// How long a profile is kept after its user's newest event, measured by the user's next event or by partition
    /// time.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub ttl: Duration,
    /// What happens to profiles built with other features than those declared now.
    pub on_change: OnChange,
}

/// What happens to profiles when the declared features change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnChange {
    /// Features that are declared as before keep their state, and new ones start empty.
    #[default]
    Keep,
    /// All profiles are rebuilt from the retained input, which also gives new features their past.
    Replay,
}

impl Default for ProfileSpec {
    fn default() -> Self {
        Self { ttl: Duration::from_hours(540 * 24), on_change: OnChange::Keep }
    }
}

/// `[[feature]]`: one number about a user, as written in the configuration. The keys for each aggregate are checked
/// when the features are compiled, so that the message can name both.
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
    /// Which events count; all if absent.
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
    /// Whether the model gets it; a feature can exist only for use in other expressions.
    #[serde(default = "yes", skip_serializing_if = "Clone::clone")]
    pub model: bool,
    /// Further keys of the aggregate: `k`, `half_life`, `gap`, `zone`, `alpha`, `beta`, …
    #[serde(flatten)]
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    pub options: BTreeMap<String, toml::Value>,
}

/// A feature that nobody declared but another part of the program needs, such as the count behind a frequency cap.
/// Profiles keep it like any other, but it appears in no fingerprint, model input, list or explanation.
#[derive(Clone, Debug, PartialEq)]
pub struct HiddenFeature {
    /// The configuration key that it comes from, which its errors name.
    pub key: String,
    /// What it counts. The name contains a space, so that no expression and no declared feature can use it.
    pub feature: FeatureSpec,
}

fn yes() -> bool {
    true
}

/// What targeting keeps in profiles in addition to the declared features.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeptForTargeting<'a> {
    /// The segments whose memberships are kept, all with different names.
    pub memberships: &'a [MembershipName],
    /// The features that only targeting reads.
    pub hidden: &'a [HiddenFeature],
    /// Whether profiles keep what readers were last told, and with how many prices.
    pub said: Option<u8>,
    /// What `[consent]` declares.
    pub consent: Option<&'a ConsentSpec>,
    /// What `[erasure]` declares.
    pub erasure: Option<&'a ErasureSpec>,
}
