//! Every metric, declared once: name, kind, unit, labels and help.
//!
//! Pure code returns counts; [`record`] writes them once per commit, so nothing is looked up per event. Labels come from
//! closed sets: never a user, a payload or a raw error.

use crate::{
    engine::{Counts, Progress},
    inference::{FallbackReason, ModelInfo, Refusal},
};
use ::metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use std::time::Duration;

/// What a metric counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution.
    Histogram,
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its full name.
    pub name: &'static str,
    /// What it counts.
    pub kind: Kind,
    /// Its unit.
    pub unit: Unit,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// What it means.
    pub help: &'static str,
}

const EVENTS: Metric = Metric {
    name: "aimpoint_events_total",
    kind: Kind::Counter,
    unit: Unit::Count,
    labels: &["outcome"],
    help: "events committed, by what became of them: decision, fallback, duplicate, suppressed, replayed",
};
const FALLBACKS: Metric = Metric {
    name: "aimpoint_fallbacks_total",
    kind: Kind::Counter,
    unit: Unit::Count,
    labels: &["reason"],
    help: "decisions committed without a score of the model, by reason: model_failed, model_late, score_not_a_number",
};
const MODEL_VERSIONS: Metric = Metric {
    name: "aimpoint_model_versions_total",
    kind: Kind::Counter,
    unit: Unit::Count,
    labels: &["outcome"],
    help: "new versions of the model, by what became of them: handed_over, or refused as unreadable, unfit, slow, wrong_scores",
};
const MODEL_INFO: Metric = Metric {
    name: "aimpoint_model_info",
    kind: Kind::Gauge,
    unit: Unit::Count,
    labels: &["model", "version", "provider"],
    help: "1 for the version that decides in at least one worker, with the execution provider that really runs it, else 0",
};
const DEAD_LETTERS: Metric = Metric {
    name: "aimpoint_dead_letters_total",
    kind: Kind::Counter,
    unit: Unit::Count,
    labels: &["reason"],
    help: "records set aside, by reason",
};
const COMMITS: Metric = Metric {
    name: "aimpoint_commits_total",
    kind: Kind::Counter,
    unit: Unit::Count,
    labels: &[],
    help: "commits that took effect",
};
const RETRIES: Metric = Metric {
    name: "aimpoint_transaction_retries_total",
    kind: Kind::Counter,
    unit: Unit::Count,
    labels: &[],
    help: "transactions that failed and were made again or recovered",
};
const COMMIT_SECONDS: Metric = Metric {
    name: "aimpoint_commit_seconds",
    kind: Kind::Histogram,
    unit: Unit::Seconds,
    labels: &[],
    help: "time from the start of a commit to the broker's answer",
};
const BATCH_ROWS: Metric = Metric {
    name: "aimpoint_batch_rows",
    kind: Kind::Histogram,
    unit: Unit::Count,
    labels: &[],
    help: "records taken from the consumer at once",
};
const PROFILES: Metric = Metric {
    name: "aimpoint_profiles",
    kind: Kind::Gauge,
    unit: Unit::Count,
    labels: &["worker"],
    help: "profiles held in memory",
};

/// All metrics, in the order in which `aimpoint metrics` prints them.
pub const ALL: [Metric; 10] = [
    EVENTS,
    FALLBACKS,
    MODEL_VERSIONS,
    MODEL_INFO,
    DEAD_LETTERS,
    COMMITS,
    RETRIES,
    COMMIT_SECONDS,
    BATCH_ROWS,
    PROFILES,
];

/// Tells the installed recorder the unit and the help of every metric.
pub fn describe() {
    for Metric { name, kind, unit, help, .. } in ALL {
        match kind {
            Kind::Counter => describe_counter!(name, unit, help),
            Kind::Gauge => describe_gauge!(name, unit, help),
            Kind::Histogram => describe_histogram!(name, unit, help),
        }
    }
}

/// Records what a commit made final.
pub fn record(counts: &Counts, commit: Duration, progress: &Progress, worker: usize) {
    for (outcome, count) in [
        ("decision", counts.decisions - counts.fallbacks),
        ("fallback", counts.fallbacks),
        ("duplicate", counts.duplicates),
        ("suppressed", counts.suppressed),
        ("replayed", counts.replayed),
    ] {
        if count > 0 {
            counter!(EVENTS.name, "outcome" => outcome).increment(count);
        }
    }
    for (reason, count) in FallbackReason::ALL.iter().zip(counts.fallback_reasons) {
        if count > 0 {
            counter!(FALLBACKS.name, "reason" => reason.as_str()).increment(count);
        }
    }
    for (reason, count) in &counts.dead_letters {
        counter!(DEAD_LETTERS.name, "reason" => reason.as_str()).increment(*count);
    }
    counter!(COMMITS.name).increment(1);
    histogram!(COMMIT_SECONDS.name).record(commit.as_secs_f64());
    gauge!(PROFILES.name, "worker" => worker.to_string()).set(progress.user_count() as f64);
}

/// Records a transaction that failed.
pub fn retried() {
    counter!(RETRIES.name).increment(1);
}

/// Records the size of a batch.
pub fn batch(rows: usize) {
    histogram!(BATCH_ROWS.name).record(rows as f64);
}

/// Records that a new version of the model was handed to the workers.
pub fn model_handed_over() {
    counter!(MODEL_VERSIONS.name, "outcome" => "handed_over").increment(1);
}

/// Records that a new version of the model was refused.
pub fn model_refused(refusal: &Refusal) {
    counter!(MODEL_VERSIONS.name, "outcome" => refusal.label()).increment(1);
}

/// Records which model decides from now on, and which one did before.
pub fn model_serves(now: &ModelInfo, before: Option<&ModelInfo>) {
    for (info, value) in before.into_iter().map(|info| (info, 0.0)).chain([(now, 1.0)]) {
        let [model, version, provider] = [&info.name, &info.version, &info.provider].map(Clone::clone);
        gauge!(MODEL_INFO.name, "model" => model, "version" => version, "provider" => provider).set(value);
    }
}
