//! The sections `[[segment]]` and `[targeting]`, and what several sections share, as written in the configuration.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};

/// `[[segment]]`: an audience and the rules that put a user into it and take the user out.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SegmentSpec {
    /// Its id on the wire.
    pub id: String,
    /// Its name for people; defaults to the id.
    #[serde(default)]
    pub name: Option<String>,
    /// The registered taxonomy of the id, as in OpenRTB's `data.ext.segtax`: 4 is IAB's Audience Taxonomy 1.1. 0 means
    /// none: the id is your own.
    #[serde(default)]
    pub segtax: u32,
    /// The entry rule: an expression over the event's fields, the features and `score`.
    #[serde(rename = "where")]
    pub filter: String,
    /// The exit rule. If absent, a user leaves at the first event at which the entry rule does not hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<String>,
    /// How long a membership lasts after the last event at which the entry rule held: 1 s to 540 days.
    #[serde(default, with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub duration: Option<Duration>,
    /// The ids of segments that exclude this one: a user in any of them does not enter, and leaves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unless: Vec<String>,
    /// Segments with a higher priority come first in a decision. Equal ones keep the order of their declaration.
    #[serde(default)]
    pub priority: i32,
}

impl SegmentSpec {
    /// Whether a membership outlives its event, so that it is part of the profile.
    pub fn is_lasting(&self) -> bool {
        self.duration.is_some() || self.exit.is_some()
    }
}

/// The segments that a user must be in, or must not be in, by id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AudienceSpec {
    /// The user is in at least one of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub any: Vec<String>,
    /// The user is in all of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub all: Vec<String>,
    /// The user is in none of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub none: Vec<String>,
}

impl AudienceSpec {
    /// Whether it takes a user who is in the segments for which `is_in` holds.
    pub fn takes(&self, is_in: impl Fn(&String) -> bool) -> bool {
        self.needs_only(&is_in) && !self.none.iter().any(is_in)
    }

    /// Like [`Self::takes`], but without regard to the segments that it excludes.
    pub fn needs_only(&self, is_in: impl Fn(&String) -> bool) -> bool {
        (self.any.is_empty() || self.any.iter().any(&is_in)) && self.all.iter().all(is_in)
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// `[targeting]`: settings for all segments and campaigns.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TargetingSpec {
    /// The maximum number of segments in a decision. Those with the highest priority are kept. If absent, there is no
    /// limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segments_max: Option<u32>,
    /// The sensitive ids of registered taxonomies that segments may use, as `segtax:id`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed_sensitive: Vec<String>,
    /// The fewest members of a segment that campaigns and creatives may use, and that reports may show; 0 is any number.
    pub minimum_audience: u64,
    /// The maximum number of campaigns in a decision, 1 to 32. More campaigns give the bidder more alternatives but
    /// make decisions larger.
    pub campaigns_max: u32,
    /// An expression for the IANA name of the user's time zone, such as the `[[field]]` `time_zone`. The last known
    /// value counts. Campaigns with `zone = "user"` need it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_zone: Option<String>,
    /// An expression for the name of the place that a decision is asked for, such as the `[[field]]` `placement`. Win
    /// rates are then learned for each of them. Outcomes name it as `placement`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placement: Option<String>,
    /// The value of a unit of each currency, in any one common currency. Needed to rank campaigns in several
    /// currencies. Bids are never converted.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub rates: BTreeMap<String, f64>,
}

impl Default for TargetingSpec {
    fn default() -> Self {
        Self {
            segments_max: None,
            allowed_sensitive: Vec::new(),
            minimum_audience: 0,
            campaigns_max: 3,
            user_zone: None,
            placement: None,
            rates: BTreeMap::new(),
        }
    }
}
