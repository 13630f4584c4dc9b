//! Creatives: what a campaign can show, how one is chosen, and what is learned from the outcome.
//!
//! ```text
//! catalogue ─► eligible ─► shares ─► draw ─► chosen, with its propensity      (a worker)
//!                            ▲
//!  outcomes ─► arms ─► posterior, in the policy                               (control)
//! ```
//!
//! Owns the catalogue and its limits, the three ways to choose, and the state that control learns. Guarantees: every
//! choice has an exact propensity and can be repeated from the decision's id, the policy's version and the campaign.
//! All numbers are computed with additions, multiplications, divisions and square roots, so every machine gets the same
//! bits. Limits: 64 creatives per campaign, or 16 with a linear bandit of at most 32 features. Not covered: who is
//! eligible (rules over columns), outcomes and their attribution.

mod arithmetic;
mod beta_arm;
mod catalogue;
mod choice;
mod grid;
mod linear;
mod linear_arm;
mod normal;
mod spec;
mod text;
mod thompson;

pub use beta_arm::{BetaArm, HalfLife};
pub use catalogue::{Catalogue, Creative, Size, validate};
pub use choice::{CREATIVES_MAX, Chosen, Draw, Eligible, Floor, Shares, by_weight, weight_shares};
pub use linear::{LINEAR_CREATIVES_MAX, Linear, LinearMethod};
pub use linear_arm::{FEATURES_MAX, LinearArm, LinearPosterior};
pub use spec::{CreativeSpec, CreativeState, TrialSpec};
pub use thompson::{BETA_MAX, BETA_MIN, Beta, Thompson};
