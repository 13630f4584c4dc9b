//! The section `[[segment]]` as written in the configuration.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[[segment]]`: an audience and the rule that puts a user into it.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
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
    /// The rule: an expression over the event's fields, the features and `score`.
    #[serde(rename = "where")]
    pub filter: String,
}
