//! What the board shows of the predictions of model versions.

use super::{super::State, PREDICTIONS_MAX, rate};
use serde_json::{Value, json};
use std::cmp::Reverse;

/// The versions of each campaign with their figures, those with most labels first, and how many are left out.
pub(super) fn json(state: &State) -> (Vec<Value>, usize) {
    let mut all = state.qualities();
    all.sort_by_key(|it| (Reverse(it.labels), it.campaign, it.version));
    let left_out = all.len().saturating_sub(PREDICTIONS_MAX);
    let shown = all.iter().take(PREDICTIONS_MAX).map(|it| {
        json!({
            "campaign": it.campaign,
            "version": it.version,
            "labels": it.labels,
            "positives": it.positives,
            "click_rate": rate::json(it.clicked, it.labels),
            "conversion_rate": it.converted.map(|converted| rate::json(converted, it.clicked)),
            "predicted": it.predicted,
            "calibration": it.calibration,
            "normalised_entropy": it.normalised_entropy,
            "drift": it.drift,
            "label_age_ms": state.label_age(it.campaign).map(|age| age.as_millis() as u64),
        })
    });
    (shown.collect(), left_out)
}
