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
    /// The registered taxonomy that the id is from, as OpenRTB's `data.ext.segtax` has it: 4 is the IAB's Audience Taxonomy 1.1.
    /// 0, which is none: the id is one's own.
    #[serde(default)]
    pub segtax: u32,
    /// The rule: an expression over the event's fields, the features and `score`.
    #[serde(rename = "where")]
    pub filter: String,
}
