//! What a decision says beyond what control needs: who decided, for whom, and how a campaign came into it.

use crate::targeting::money::Micros;

/// What whoever measures decisions reads of one, beside [`OfferedDecision`](super::OfferedDecision). A text is empty if
/// the decision does not have it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Details {
    /// The status, as in `targeted`.
    pub status: String,
    /// The name of the model.
    pub model: String,
    /// Its version.
    pub model_version: String,
    /// The experiment between models.
    pub experiment: String,
    /// The user's variant in it.
    pub variant: String,
    /// The score that rules used, or the model's own; `None` if no model scored.
    pub score: Option<f32>,
    /// The ids of the segments that the user is in.
    pub segments: Vec<String>,
    /// The campaigns that the user is held out from. A decision only lists them with `decision.reasons`.
    pub held_out: Vec<String>,
    /// For each offer, in the same order.
    pub offers: Vec<OfferDetails>,
}

/// What a decision says of a campaign in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OfferDetails {
    /// The arm of the campaign's experiment that the user is in.
    pub arm: String,
    /// The value of one action.
    pub value: Micros,
    /// The probability that an impression leads to the action. `None` if it is not one.
    pub probability: Option<f64>,
    /// The probability with which the creative was drawn; 0 without one.
    pub propensity: f64,
    /// How the creative was chosen.
    pub policy: String,
}
