//! The section `[erasure]`: how long it is remembered who was erased, and which events ask for it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// `[erasure]`: what a request to erase a user does.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ErasureSpec {
    /// How long it is remembered who was erased, by event time, so that older events do not bring the user back. It must
    /// be longer than any such event can be in the input or come to it, so longer than the input's retention. It takes
    /// about 90 bytes for each erased user and partition. An opt-out is remembered for as long after the user's choice, if
    /// the profile expires before.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub keep: Duration,
    /// The rule of the events that ask to erase their user, such as `event_type == "erase"`. Without it, only records
    /// with the header `aimpoint-erase` do, which `aimpoint erase` writes.
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
}

impl Default for ErasureSpec {
    fn default() -> Self {
        Self { keep: Duration::from_hours(400 * 24), filter: None }
    }
}
