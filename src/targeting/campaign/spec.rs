//! The section `[[campaign]]` as written in the configuration.
//!
//! Required values, such as the currency, are optional in these types, so that all errors are reported together.

use super::{budget::BudgetSpec, caps::Period, rotation::RotationSpec};
use crate::targeting::AudienceSpec;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use std::time::Duration;

/// `[[campaign]]`: who may see an advertiser's creatives, when and how often, and what that is worth.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CampaignSpec {
    /// Its id on the wire, which impressions return as `ad.campaign_id`. It also determines how users are split for
    /// `holdout` and `arms`.
    pub id: String,
    /// Its name for people; defaults to the id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The segments that a user must be in, or must not be in.
    #[serde(default, skip_serializing_if = "AudienceSpec::is_empty")]
    pub segments: AudienceSpec,
    /// A rule over the event's fields, the features and the scores. If absent, it always holds.
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// The first day, or the first moment, such as `2026-03-01` or `2026-03-01T08:00`. In `zone`, unless it has an
    /// offset.
    #[serde(default, deserialize_with = "date", skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The last day, which still counts, or the moment at which the campaign ends.
    #[serde(default, deserialize_with = "date", skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// When in the week it runs, such as `["mon-fri 08:00-20:00", "sat 22:00-02:00"]`. Always, if absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dayparts: Vec<String>,
    /// The time zone of dates and dayparts: an IANA name, or `user` for the zone of each user. UTC if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// The action that is paid for: `impression`, the default, or another event type such as `click` or `conversion`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// The value of one action in units of `currency`: a number or an expression. For impressions it is the CPM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Amount>,
    /// The probability that an impression leads to the action: `score`, the name of a head of the model, or a number.
    /// Not needed for impressions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probability: Option<Chance>,
    /// The currency of `value`, `floor` and `ceiling`, such as `EUR` (ISO 4217).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    /// The ids of the deals that it buys through, at most 16, as exchanges know them (OpenRTB `imp.pmp.deals[].id`). They are
    /// part of its offers, and `aimpoint serve` proposes them to hosts of agents.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deals: Vec<String>,
    /// The lowest CPM worth bidding. If the bid would be lower, the campaign is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<f64>,
    /// The highest CPM to bid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ceiling: Option<f64>,
    /// Campaigns with a higher priority come first, whatever they are worth. 0 by default.
    #[serde(default)]
    pub priority: i32,
    /// How often a user may see it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub caps: Vec<CapSpec>,
    /// How long after an impression the user must not see it again, such as `"2h"`.
    #[serde(default, with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub recency: Option<Duration>,
    /// The number of conversions after which a user no longer sees it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversion_cap: Option<ConversionCapSpec>,
    /// The share of users who never see it, to measure its effect: 0 to 1 with at most four decimals.
    #[serde(default)]
    pub holdout: f64,
    /// The arms of an experiment, in order. Users in no arm get the arm `control`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arms: Vec<ArmSpec>,
    /// Whether bids are lowered to what wins at the best surplus, once control knows which bids win. True by default;
    /// false for inventory that is sold at the second price, where the value is the best bid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shading: Option<bool>,
    /// How much it may spend, and how evenly. Needs `aimpoint control`. If absent, there is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<BudgetSpec>,
    /// How it chooses among its creatives. By their weights, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<RotationSpec>,
}

/// A number, or an expression that computes one.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Amount {
    /// A number.
    Number(f64),
    /// An expression over the event's fields, the features and the scores.
    Expression(String),
}

impl Amount {
    /// The same amount; a number if its expression is nothing but one.
    pub(super) fn folded(&self) -> Self {
        match self {
            Self::Expression(text) => text.trim().parse().map_or_else(|_| self.clone(), Self::Number),
            Self::Number(_) => self.clone(),
        }
    }
}

/// A number, or the name of a score.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Chance {
    /// A number above 0, at most 1.
    Number(f64),
    /// `score`, or the name of a head.
    Score(String),
}

/// A frequency cap.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CapSpec {
    /// The event type that is counted, `impression` by default.
    #[serde(default = "impression")]
    pub events: String,
    /// Whether all events of the campaign count together, or those of each creative separately.
    #[serde(default)]
    pub scope: CapScope,
    /// The maximum number of events.
    pub max: u32,
    /// The sliding window.
    pub per: Period,
}

/// Which events count together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CapScope {
    /// All events of the campaign.
    #[default]
    Campaign,
    /// The events of each creative, separately.
    Creative,
}

/// The number of conversions after which a campaign ends for a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConversionCapSpec {
    /// The maximum number of `conversion` events of this campaign.
    pub max: u32,
    /// The sliding window.
    pub per: Period,
}

/// An arm of a campaign's experiment.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ArmSpec {
    /// Its name in decisions.
    pub name: String,
    /// Its share of all users, 0.0001 to 1 with at most four decimals.
    pub share: f64,
}

fn impression() -> String {
    super::caps::IMPRESSION.to_owned()
}

/// A date as a text, or as TOML's own date.
#[derive(Deserialize)]
#[serde(untagged)]
enum Date {
    Text(String),
    Toml(toml::value::Datetime),
}

fn date<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<Date>::deserialize(deserializer)?.map(|date| match date {
        Date::Text(text) => text,
        Date::Toml(date) => date.to_string(),
    }))
}
