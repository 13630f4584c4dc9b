//! The section `[[creative]]` as written in the configuration.

use super::thompson::Beta;
use crate::targeting::AudienceSpec;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whether a creative is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CreativeState {
    /// It is shown to its audience.
    #[default]
    Active,
    /// It is shown to nobody, but keeps its place, so that what was learned about it is kept.
    Paused,
}

/// `[creative.trial]`: how a creative starts of which nothing is known yet.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrialSpec {
    /// The largest probability of being chosen, above 0, at most 1, whatever the method. The others that fit share what is
    /// left. If all that fit have such limits, and these add up to less than 1, they count in proportion.
    #[serde(default = "whole", skip_serializing_if = "is_whole")]
    pub share_max: f64,
    /// `thompson`: the number of impressions that `actions` were seen in; together they take the place of the campaign's
    /// prior. Without it, the campaign's prior counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shows: Option<f64>,
    /// `thompson`: the rewards to expect of `shows`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actions: Option<f64>,
}

impl TrialSpec {
    /// The prior; `None` if that of the campaign counts.
    pub fn prior(&self) -> Option<Beta> {
        let (shows, actions) = (self.shows?, self.actions?);
        Some(Beta { alpha: actions, beta: shows - actions })
    }
}

/// `[[creative]]`: something that a campaign can show.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreativeSpec {
    /// Its id on the wire, unique among all creatives: up to 64 visible ASCII characters.
    pub id: String,
    /// The id of its campaign.
    pub campaign: String,
    /// Its audience by segments: those that a user must be in, or must not be in.
    #[serde(default, skip_serializing_if = "AudienceSpec::is_empty")]
    pub segments: AudienceSpec,
    /// Its audience by rule: an expression over the event's fields, the features and the scores. If absent, everybody.
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// What it advertises: an id of the IAB's Ad Product Taxonomy 2.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// Its language and region as a BCP 47 tag, such as `de-CH`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locale: Option<String>,
    /// The sizes of its images in pixels, each as `WIDTHxHEIGHT`; at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sizes: Vec<String>,
    /// Up to 5 headlines of at most 30 characters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headline: Vec<String>,
    /// A headline of at most 90 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub long_headline: Option<String>,
    /// Up to 5 descriptions of at most 90 characters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub description: Vec<String>,
    /// The advertiser's name, at most 25 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub business_name: Option<String>,
    /// The target of a click: an https URL of at most 2,048 characters.
    pub landing_page: String,
    /// Its weight relative to the others: above 0, at most 1e9. The larger it is, the more often it is chosen by
    /// weight.
    #[serde(default = "weight")]
    pub weight: f64,
    /// Whether it is shown.
    #[serde(default)]
    pub state: CreativeState,
    /// How it starts. Remove it once the creative has shown what it is worth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial: Option<TrialSpec>,
}

fn whole() -> f64 {
    1.0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_whole(share: &f64) -> bool {
    *share == 1.0
}

fn weight() -> f64 {
    1.0
}
