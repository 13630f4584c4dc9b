//! The section `[[segment]]`, as it is written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[[segment]]`: an audience and the rule that puts a user into it.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SegmentSpec {
    /// Its id on the wire.
    pub id: String,
    /// Its name for people; the id where absent.
    #[serde(default)]
    pub name: Option<String>,
    /// The taxonomy of the id, in AdCOM's numbers: 4 is the IAB Audience Taxonomy 1.1, from 500 on it is one's own.
    #[serde(default = "own")]
    pub segtax: u32,
    /// The rule: an expression over the event's fields, the features and `score`.
    #[serde(rename = "where")]
    pub filter: String,
}

fn own() -> u32 {
    500
}
