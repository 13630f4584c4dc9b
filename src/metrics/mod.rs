//! Metrics: the list of families, and what the process has recorded.
//!
//! [`FAMILIES`] declares every metric once: name, kind, unit, labels, help and buckets. A figure is published in one of
//! two ways. Occasional events (a commit, a rebalance, a failure) are recorded where they occur, by one of the
//! functions here. Counts per event and states (latencies, scores, lag, profiles) are kept in the worker's
//! `status::WorkerStatus` and read at a scrape, so no event costs a lookup, and a revoked partition leaves no gauge
//! behind. `telemetry` joins the two. Labels come from closed sets: never a user, a payload or a raw error.

mod control;
mod distribution;
pub(crate) mod families;
mod family;
mod recorder;
mod serve;

pub use control::{
    PredictionFigures, control_audience, control_dead_letters, control_decisions, control_label_age, control_lag,
    control_leads, control_outcomes, control_policy, control_predictions, control_spend, forget_control,
    forget_control_predictions,
};
pub use distribution::{ANSWER_BOUNDS, Distribution, LATENCY_BOUNDS, SCORE_BOUNDS};
pub use families::FAMILIES;
pub use family::{Family, Kind, Unit};
pub(crate) use recorder::add;
pub use recorder::{Sample, Samples, Value, recorded};
pub use serve::{
    AnswerTimes, VisibleTimes, serve_bid_requests, serve_certificate_end, serve_lookups, serve_mutations,
    serve_partitions, serve_records, serve_refused, serve_sizes, serve_snapshot, serve_staleness, serve_turned_away,
};

use families::{
    APP, BATCH_ROWS, BUILD, COLLECTOR, COMMIT_SECONDS, COMMITS, MODEL_VERSIONS, REBALANCES, RELOADS, RESTORED, RETRIES,
    SHADOW_CORRELATION, SHADOW_MEAN, SHADOW_PSI, SHADOW_ROWS, SKIPPED, TOO_LARGE, TOPICS_UNFIT, UNFIT,
};
use recorder::{histogram, set};
use std::time::Duration;

/// Starts the counters at 0, so that their first increase is visible, and sets the metrics of the process.
pub fn start(app: &str, group: &str) {
    for family in FAMILIES.iter().filter(|family| family.kind == Kind::Counter) {
        if family.labels.is_empty() {
            add(family, &[], 0);
        }
        for value in family.values {
            add(family, &[value], 0);
        }
    }
    // Alerts use their rates.
    for family in [&COMMIT_SECONDS, &BATCH_ROWS] {
        drop(histogram(family));
    }
    set(&TOPICS_UNFIT, &[], 0.0);
    set(&BUILD, &[env!("CARGO_PKG_VERSION")], 1.0);
    set(&APP, &[app, group], 1.0);
}

/// Counts a commit that took effect.
pub fn committed(took: Duration) {
    add(&COMMITS, &[], 1);
    histogram(&COMMIT_SECONDS).record(took.as_secs_f64());
}

/// Counts a transaction that failed, by cause.
pub fn retried(cause: &'static str) {
    add(&RETRIES, &[cause], 1);
}

/// Records the size of a batch.
pub fn batch(rows: usize) {
    histogram(&BATCH_ROWS).record(rows as f64);
}

/// Counts a new version of the model, by outcome.
pub fn model_version(outcome: &'static str) {
    add(&MODEL_VERSIONS, &[outcome], 1);
}

/// Counts rows of a shadow, by outcome.
pub fn shadow_rows(shadow: &str, outcome: &'static str, rows: u64) {
    if rows > 0 {
        add(&SHADOW_ROWS, &[shadow, outcome], rows);
    }
}

/// Starts the counters of a shadow at 0.
pub fn shadow_starts(shadow: &str) {
    for outcome in ["scored", "skipped", "failed", "unscored"] {
        add(&SHADOW_ROWS, &[shadow, outcome], 0);
    }
}

/// How a shadow's scores compare with the champion's.
#[derive(Clone, Copy, Debug)]
pub struct ShadowDrift {
    /// The population stability index.
    pub psi: f64,
    /// The champion's mean score.
    pub champion: f64,
    /// The shadow's mean score.
    pub shadow: f64,
    /// The correlation of the two; NaN if either is constant.
    pub correlation: f64,
}

/// Records how a shadow's scores compare with the champion's.
pub fn shadow_drift(shadow: &str, drift: ShadowDrift) {
    set(&SHADOW_PSI, &[shadow], drift.psi);
    set(&SHADOW_MEAN, &[shadow, "champion"], drift.champion);
    set(&SHADOW_MEAN, &[shadow, "shadow"], drift.shadow);
    set(&SHADOW_CORRELATION, &[shadow], drift.correlation);
}

/// Counts a change of the assignment.
pub fn rebalanced(change: &'static str) {
    add(&REBALANCES, &[change], 1);
}

/// Counts changelog records read by a restore.
pub fn restored(records: u64) {
    add(&RESTORED, &[], records);
}

/// Counts restored records that were damaged or did not match.
pub fn unfit(records: u64) {
    add(&UNFIT, &[], records);
}

/// Counts input records that were deleted before they were read.
pub fn skipped(records: u64) {
    add(&SKIPPED, &[], records);
}

/// Sets how many topics are missing or have too few partitions.
pub fn topics_unfit(topics: usize) {
    set(&TOPICS_UNFIT, &[], topics as f64);
}

/// Counts an output that was too large for its topic, by kind.
pub fn output_too_large(output: &'static str) {
    add(&TOO_LARGE, &[output], 1);
}

/// Counts a reload of the configuration.
pub fn reloaded(is_taken: bool) {
    add(&RELOADS, &[if is_taken { "taken" } else { "refused" }], 1);
}

/// Counts a request to the collector.
pub fn sent_to_collector(is_taken: bool) {
    add(&COLLECTOR, &[if is_taken { "taken" } else { "failed" }], 1);
}

#[cfg(test)]
mod tests;
