//! Evaluates predictions against outcomes.
//!
//! Owns the metrics over pairs of a probability and an outcome. Guarantees: an undefined metric (no rows, only one class) is `None`,
//! never an arbitrary number. Limits: AUC ranks in memory, 16 bytes per prediction. Not covered: the sources of predictions and
//! outcomes.

mod label;
mod metrics;
pub mod off_policy;

pub use label::LabelSpec;
pub use metrics::{
    Bin, Prediction, Summary, accuracy, auc, brier, calibration_ratio, log_loss, normalised_entropy, reliability,
};
