//! Evaluates predictions and decisions against outcomes.
//!
//! Owns the statistics: quality of probabilities, rates and money, experiments, uplift, attribution, off-policy
//! estimates. All of it is arithmetic on what the caller passes in: no clock, no file, no thread, no global.
//!
//! | Module | Answers |
//! |---|---|
//! | `metrics`, [`sample`] | how good are these probabilities, from rows in memory |
//! | [`sketch`] | the same from a stream, in bounded memory and with a bound on the error |
//! | [`business`] | click and conversion rates with intervals, eCPM, CPA, ROAS, spend |
//! | [`experiment`] | did the variant change anything, may I look every day, how long still |
//! | [`uplift`] | whom does the treatment move |
//! | [`attribution`] | which channel earned the conversion |
//! | [`off_policy`] | what would another policy have earned |
//! | [`paired`] | is one prediction of the same rows better than another |
//!
//! `aimpoint evaluate`, `aimpoint experiment` and `aimpoint promote` use them.
//!
//! Guarantees: an undefined figure (no rows, only one class) is `None` and a bad number is an error that names it;
//! no figure is NaN or infinite. Not covered: where rows come from, and how outcomes are joined to decisions.

pub mod attribution;
pub mod business;
mod distribution;
pub mod experiment;
mod interval;
mod label;
mod metrics;
pub mod off_policy;
mod paired;
mod ranked;
pub mod sample;
pub mod sketch;
pub mod uplift;

pub use interval::{Confidence, Interval, wilson};
pub use label::LabelSpec;
pub use metrics::{
    Bin, Prediction, Summary, accuracy, auc, brier, calibration_ratio, log_loss, normalised_entropy, reliability,
};
pub use paired::{Paired, PairedRow, paired};
pub use ranked::{Bounded, CurvePoint, Figures, MassBin};
