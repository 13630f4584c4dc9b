//! The metrics of control.

use super::{
    families::{
        CONTROL_AUDIENCE, CONTROL_BUDGET, CONTROL_DEAD_LETTERS, CONTROL_DECISIONS, CONTROL_ISSUED, CONTROL_LAG,
        CONTROL_LEADER, CONTROL_OUTCOMES, CONTROL_SPENT, CONTROL_VERSION,
    },
    recorder::{add, set},
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
