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
    /// The share of decisions that carry the features given to the model, 0 to 1, if the user consents to training.
    pub features_share: f64,
    /// For `format = "openrtb"`: who provides the segments.
    pub provider: ProviderSpec,
    /// The seat under which the campaigns bid: for `format = "artf"`, and for the bids that `aimpoint serve` shades (`[serve.grpc]`).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub seat: String,
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
            features_share: 0.0,
            provider: ProviderSpec::default(),
            seat: String::new(),
            fields: BTreeMap::new(),
        }
    }
}

/// `[decision.provider]`: the provider of the segments in OpenRTB's Data objects. At least one of them is needed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProviderSpec {
    /// Its id, as the exchange knows it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Its name, by convention a domain.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
}

impl ProviderSpec {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
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
    /// OpenRTB 2.6: `user.data[]`, and the decision under `ext.aimpoint`.
    #[serde(rename = "openrtb")]
    OpenRtb,
    /// The mutations of the Agentic RTB Framework 1.0, in JSON.
    Artf,
}

impl DecisionFormat {
    /// The name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Protobuf => "protobuf",
            Self::Flat => "flat",
            Self::OpenRtb => "openrtb",
            Self::Artf => "artf",
        }
    }

    /// Whether all of a decision is in it, so that it can be read back.
    pub fn is_complete(self) -> bool {
        matches!(self, Self::Json | Self::Protobuf)
    }

    /// Why a decision cannot be read back, with the next step. `None` if it can.
    pub fn unreadable(self) -> Option<String> {
        let why = match self {
            Self::Json | Self::Protobuf => return None,
            Self::Flat => "a flat decision has only chosen members",
            Self::OpenRtb => "an OpenRTB decision has only what bidders read",
            Self::Artf => "an ARTF decision has only mutations",
        };
        Some(format!("{why}; json and protobuf have everything"))
    }

    /// What a decision has but this format has no place for.
    pub fn leaves_out(self) -> &'static [&'static str] {
        match self {
            // The members of a flat decision are chosen.
            Self::Json | Self::Protobuf | Self::Flat => &[],
            Self::OpenRtb => &[
                "user_key and key_type (the key of the record)",
                "trigger_event_id",
                "input",
                "times of memberships",
                "left",
                "raw and additional scores",
                "explanation",
                "experiment",
                "values, probabilities, arms and propensities of campaigns",
                "suppressed",
            ],
            Self::Artf => &[
                "user_key and key_type (the key of the record)",
                "trigger_event_id",
                "input",
                "occurred_at, decided_at and expires_at (the header expires_at_ms)",
                "status",
                "names, taxonomies and times of segments",
                "left",
                "scores and explanation",
                "experiment",
                "currencies, floors, values, probabilities, arms and creatives of campaigns",
                "suppressed",
            ],
        }
    }
}
