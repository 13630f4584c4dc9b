//! The metrics of control.

use super::{
    families::{
        CONTROL_AUDIENCE, CONTROL_BUDGET, CONTROL_CALIBRATION, CONTROL_CLICK_RATE, CONTROL_CONVERSION_RATE,
        CONTROL_DEAD_LETTERS, CONTROL_DECISIONS, CONTROL_DRIFT, CONTROL_ENTROPY, CONTROL_ISSUED, CONTROL_LABEL_AGE,
        CONTROL_LABELS, CONTROL_LAG, CONTROL_LEADER, CONTROL_OUTCOMES, CONTROL_PREDICTED, CONTROL_SPENT,
        CONTROL_VERSION,
    },
    recorder::{add, clear, remove, set},
};

/// Sets whether this process leads.
pub fn control_leads(leads: bool) {
    set(&CONTROL_LEADER, &[], f64::from(u8::from(leads)));
}

/// Counts decisions.
pub fn control_decisions(count: u64) {
    add(&CONTROL_DECISIONS, &[], count);
}

/// Counts outcomes by what became of them.
pub fn control_outcomes(disposition: &'static str, count: u64) {
    add(&CONTROL_OUTCOMES, &[disposition], count);
}

/// Counts dead letters by reason.
pub fn control_dead_letters(reason: &'static str, count: u64) {
    add(&CONTROL_DEAD_LETTERS, &[reason], count);
}

/// Sets the version of the last policy, and when it was issued, in microseconds since 1970.
pub fn control_policy(version: u64, issued_at: i64) {
    set(&CONTROL_VERSION, &[], version as f64);
    set(&CONTROL_ISSUED, &[], issued_at as f64 / 1e6);
}

/// Sets what a campaign has spent of its budget: campaign, currency and period.
pub fn control_spend(labels: [&str; 3], spent: f64, budget: Option<f64>) {
    set(&CONTROL_SPENT, &labels, spent);
    if let Some(budget) = budget {
        set(&CONTROL_BUDGET, &labels, budget);
    }
}

/// Sets how many records of an input are to be read.
pub fn control_lag(input: &'static str, records: u64) {
    set(&CONTROL_LAG, &[input], records as f64);
}

/// Sets how many users are in a segment.
pub fn control_audience(segtax: u32, segment: &str, members: u64) {
    set(&CONTROL_AUDIENCE, &[&segtax.to_string(), segment], members as f64);
}

/// What is known of the predictions of a model version for a campaign. A figure that is not known is NaN.
#[derive(Clone, Copy, Debug)]
pub struct PredictionFigures {
    /// Impressions with a label: those that succeeded, and the others.
    pub labels: [u64; 2],
    /// How many successes were predicted of them.
    pub predicted: f64,
    /// Clicks per labelled impression.
    pub click_rate: f64,
    /// Conversions per click.
    pub conversion_rate: f64,
    /// Predicted over observed successes.
    pub calibration: f64,
    /// The normalised entropy.
    pub normalised_entropy: f64,
    /// The population stability index.
    pub drift: f64,
}

/// Sets what is known of the predictions of a version for a campaign.
pub fn control_predictions(campaign: &str, version: &str, figures: &PredictionFigures) {
    let labels = [campaign, version];
    for (label, count) in ["positive", "negative"].into_iter().zip(figures.labels) {
        set(&CONTROL_LABELS, &[campaign, version, label], count as f64);
    }
    set(&CONTROL_PREDICTED, &labels, figures.predicted);
    set(&CONTROL_CLICK_RATE, &labels, figures.click_rate);
    set(&CONTROL_CONVERSION_RATE, &labels, figures.conversion_rate);
    set(&CONTROL_CALIBRATION, &labels, figures.calibration);
    set(&CONTROL_ENTROPY, &labels, figures.normalised_entropy);
    set(&CONTROL_DRIFT, &labels, figures.drift);
}

/// Removes what was known of the predictions of a version for a campaign, so that no alert rests on figures that stand still, and
/// former versions cost nothing.
pub fn forget_control_predictions(campaign: &str, version: &str) {
    for label in ["positive", "negative"] {
        remove(&CONTROL_LABELS, &[campaign, version, label]);
    }
    for family in [
        &CONTROL_PREDICTED,
        &CONTROL_CLICK_RATE,
        &CONTROL_CONVERSION_RATE,
        &CONTROL_CALIBRATION,
        &CONTROL_ENTROPY,
        &CONTROL_DRIFT,
    ] {
        remove(family, &[campaign, version]);
    }
}

/// Removes what only a leader knows and what changes: who follows would tell old sums, and the larger one is shown.
pub fn forget_control() {
    for family in [&CONTROL_SPENT, &CONTROL_BUDGET, &CONTROL_AUDIENCE, &CONTROL_LABEL_AGE] {
        clear(family);
    }
}

/// Sets the age at which labels of a campaign are known.
pub fn control_label_age(campaign: &str, seconds: f64) {
    set(&CONTROL_LABEL_AGE, &[campaign], seconds);
}
