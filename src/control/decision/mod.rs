//! What control learns from a decision: what it offered, and what pacing skipped.
//!
//! The topic `decisions` carries all that control needs, so no call and no second topic is necessary:
//! - A campaign **in** the decision was eligible, passed and may cost money.
//! - A campaign that is suppressed with the reason `paced` was eligible and did not pass.
//! - A campaign that is suppressed with the reason `outranked` was eligible, passed, and costs nothing.
//!
//! Every other reason means that the campaign was not eligible, so control does not hear of it. A worker therefore
//! lists `paced` and `outranked` in `suppressed[]` for campaigns with a budget, whether or not `decision.reasons` asks
//! for reasons. A decision that is not emitted (emission on change) is not counted at all: it offers nothing, so it
//! neither passes nor costs.

mod details;
mod read;

pub use details::{Details, OfferDetails};
pub use read::DecisionRecord;

use crate::targeting::money::{Cpm, Currency};

/// The variant of the users for whom `[model]` decides.
pub const CONTROL_VARIANT: &str = "control";

/// A decision, borrowed from its record.
#[derive(Clone, Copy, Debug)]
pub struct OfferedDecision<'a> {
    /// Its id.
    pub decision_id: &'a str,
    /// The key of its user.
    pub user_key: &'a str,
    /// When it was made, in microseconds since 1970.
    pub decided_at: i64,
    /// Until when it may be used, in microseconds since 1970.
    pub expires_at: i64,
    /// The policy that it was made with; 0 for none.
    pub policy_version: u64,
    /// The version of the model that scored; empty for none.
    pub model_version: &'a str,
    /// The user's variant in the experiment between models; empty for none.
    pub variant: &'a str,
    /// The campaigns in it.
    pub offers: &'a [Offer<'a>],
    /// The campaigns that pacing or better campaigns kept out of it.
    pub skipped: &'a [Skipped<'a>],
}

/// A campaign in a decision.
#[derive(Clone, Copy, Debug)]
pub struct Offer<'a> {
    /// The campaign.
    pub campaign_id: &'a str,
    /// The bid that the bidder was told: shaded, if it was.
    pub bid: Cpm,
    /// The currency of the bid.
    pub currency: Currency,
    /// The creative, if one was chosen.
    pub creative_id: Option<&'a str>,
    /// The audience whose posterior chose the creative. Empty: everybody.
    pub audience: &'a str,
    /// The features that a linear bandit chose by; otherwise empty.
    pub features: &'a [f64],
    /// The probability that an impression leads to the campaign's action. `None` if nothing predicts it.
    pub probability: Option<f64>,
}

/// A campaign that was eligible but is not in a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skipped<'a> {
    /// The campaign.
    pub campaign_id: &'a str,
    /// Why it is not in the decision.
    pub reason: SkipReason,
}

/// Why an eligible campaign is not in a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SkipReason {
    /// The draw against the pass-through rate.
    Paced,
    /// Better campaigns filled the decision.
    Outranked,
}

impl SkipReason {
    /// The reason with this name in a decision's `suppressed[]`. `None` for reasons that do not concern control.
    pub fn of(name: &str) -> Option<Self> {
        match name {
            "paced" => Some(Self::Paced),
            "outranked" => Some(Self::Outranked),
            _ => None,
        }
    }
}
