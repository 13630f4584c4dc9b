//! The policy: what control knows of all campaigns, as an immutable version that workers read.
//!
//! ```text
//! control ─► Policy ─► <app>-policy (compacted, JSON) ─► Policy::parse ─► CompiledPolicy ─► gate, win rate, creative
//! ```
//!
//! Owns the wire format ([`Policy`]), its checks ([`Policy::parse`]) and the form that a worker decides with
//! ([`CompiledPolicy`]). A decision names the version that it was made with. Given the decision's id and that version,
//! every draw can be repeated.
//!
//! Guarantees:
//! - **Closed when in doubt.** A campaign with a budget only takes part if a policy knows the budget, the policy is
//!   younger than `stale_after`, and the budget is not spent. Without a policy it does not take part. A campaign
//!   without a budget always does.
//! - **Checked.** A damaged policy is refused as a whole, with a message that names the place. Nothing panics.
//! - **Additive.** Unknown members are ignored, so a newer control may write to older workers. An unknown method of
//!   choosing creatives falls back to the weights of the catalogue.
//! - **Joined by id.** Campaigns, creatives and audiences are found by their ids. Their order may differ between the
//!   configuration and the policy.
//!
//! Limits: [`BYTES_MAX`] bytes. Compiling allocates; a decision allocates nothing. Not covered: how a policy is learned
//! (`control`) and how it gets to the worker.

mod chooser;
mod compiled;
mod feed;
mod parse;
#[cfg(test)]
mod tests;

pub use chooser::Chooser;
pub use compiled::{Admission, CampaignRef, CompiledPolicy, Gate};
pub use feed::PolicyFeed;

use super::{
    creative::{Beta, LinearPosterior},
    money::Cpm,
    pacing::PassThrough,
    shading::WinRate,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version of the policy's meaning.
pub const SCHEMA_VERSION: u32 = 1;
/// The most bytes of a policy that are read: the largest record that Kafka takes by default, times 16.
pub const BYTES_MAX: usize = 16 << 20;
/// The name under which [`CreativeMethod`] keeps what was learned from everybody.
pub const EVERYBODY: &str = "";

/// One version of what control knows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// The version of this message's meaning; currently 1.
    pub schema_version: u32,
    /// The version, which grows by one with each policy.
    pub version: u64,
    /// When it was issued, in microseconds since 1970.
    pub issued_at: i64,
    /// The application whose campaigns it is about.
    pub app: String,
    /// The campaigns by id.
    #[serde(default)]
    pub campaigns: BTreeMap<String, CampaignPolicy>,
    /// The sizes of audiences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub audiences: Vec<AudienceSize>,
}

/// What control knows of a campaign.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CampaignPolicy {
    /// The currency of all amounts, ISO 4217.
    pub currency: String,
    /// The budget's state. Absent if the campaign has no budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<BudgetState>,
    /// The win rate of the campaign's bids. Absent if there are too few notices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub win_rate: Option<WinRateModel>,
    /// The win rates of placements with enough notices.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub placements: BTreeMap<String, WinRateModel>,
    /// How creatives are chosen. Absent: by the weights of the catalogue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creatives: Option<CreativePolicy>,
}

/// The state of a campaign's budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetState {
    /// Whether the spend is known. If not, the campaign stops.
    pub known: bool,
    /// Whether the budget of the day or the total is spent.
    #[serde(default)]
    pub exhausted: bool,
    /// The share of eligible decisions that take part, in 2⁻³¹.
    pub pass_through: u32,
    /// The day of `spent_today_micros` in the campaign's zone, in days since 1970-01-01.
    #[serde(default)]
    pub day: i32,
    /// Spend of this day, in millionths.
    pub spent_today_micros: i64,
    /// Spend of all days, in millionths.
    pub spent_total_micros: i64,
    /// The budget of a day, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daily_micros: Option<i64>,
    /// The budget of all days, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_micros: Option<i64>,
}

impl BudgetState {
    /// The share of eligible decisions that take part.
    pub fn pass_through(&self) -> PassThrough {
        PassThrough(self.pass_through)
    }
}

/// A win-rate model: see [`WinRate`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct WinRateModel {
    /// The log odds of a win at a bid of one millionth.
    pub intercept: f64,
    /// The growth of the log odds with the logarithm of the bid.
    pub slope: f64,
    /// The lowest bid that the notices cover, in millionths per thousand impressions.
    pub lowest_micros: i64,
}

impl From<&WinRate> for WinRateModel {
    fn from(rate: &WinRate) -> Self {
        Self { intercept: rate.intercept, slope: rate.slope, lowest_micros: rate.lowest.0 }
    }
}

impl WinRateModel {
    /// The model, or `None` if it is out of bounds.
    pub fn rate(&self) -> Option<WinRate> {
        WinRate::new(self.intercept, self.slope, Cpm(self.lowest_micros)).filter(|rate| rate.lowest >= Cpm(0))
    }
}

/// How a campaign's creatives are chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CreativePolicy {
    /// The smallest probability of an eligible creative, 0 to 1.
    pub floor: f64,
    /// The method and what it has learned.
    #[serde(flatten)]
    pub method: CreativeMethod,
}

/// A method of choosing creatives, with what control has learned by creative id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "snake_case")]
pub enum CreativeMethod {
    /// By the weights of the catalogue.
    Weights,
    /// By Thompson sampling.
    Thompson {
        /// The rate of a creative that nothing is known about.
        prior: Beta,
        /// By creative, then by audience; [`EVERYBODY`] is the audience of all users.
        posteriors: BTreeMap<String, BTreeMap<String, Beta>>,
    },
    /// By linear Thompson sampling.
    LinearThompson {
        /// The deviation of a reward's noise.
        noise: f64,
        /// What the linear bandits share.
        #[serde(flatten)]
        linear: LinearPolicy,
    },
    /// By LinUCB.
    LinUcb {
        /// How many deviations are added to the mean.
        alpha: f64,
        /// The share of choices made uniformly.
        epsilon: f64,
        /// What the linear bandits share.
        #[serde(flatten)]
        linear: LinearPolicy,
    },
    /// A method of a newer version: the worker chooses by weight.
    #[serde(other)]
    Unknown,
}

/// What a linear bandit has learned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinearPolicy {
    /// The ridge of a creative that nothing is known about.
    pub ridge: f64,
    /// The names of the features, in the order of the weights.
    pub features: Vec<String>,
    /// By creative.
    pub posteriors: BTreeMap<String, LinearPosterior>,
}

/// The number of users in a segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudienceSize {
    /// The segment's id.
    pub id: String,
    /// The segment's taxonomy, in AdCOM's numbers.
    #[serde(default)]
    pub segtax: u32,
    /// The number of its members.
    pub members: u64,
}
