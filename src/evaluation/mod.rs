//! How good predictions are, once it is known what happened.
//!
//! Owns the metrics over pairs of a probability and an outcome. Guarantees: a metric that a sample leaves undefined (no
//! rows, one class alone) is `None` and never a number that looks like one. Limits: the ranks of AUC are taken in
//! memory, 16 bytes a prediction. Left out: where predictions and outcomes come from.

mod label;
mod metrics;

pub use label::LabelSpec;
pub use metrics::{
    Bin, Prediction, Summary, accuracy, auc, brier, calibration_ratio, log_loss, normalised_entropy, reliability,
};
