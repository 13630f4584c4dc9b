//! Every metric, declared once: name, kind, unit, labels and help.
//!
//! Pure code returns counts; [`record`] writes them once per commit, so nothing is looked up per event. Labels come from
//! closed sets: never a user, a payload or a raw error.

use crate::engine::{Counts, Progress};
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
const SUPPRESSED: Metric = Metric {
    name: "aimpoint_suppressed_total",
    kind: Kind::Counter,
    unit: Unit::Count,
    labels: &["reason"],
    help: "events that get no decision by declaration, by reason: too_late, bot",
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
pub const ALL: [Metric; 8] = [EVENTS, SUPPRESSED, DEAD_LETTERS, COMMITS, RETRIES, COMMIT_SECONDS, BATCH_ROWS, PROFILES];

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
        ("suppressed", counts.suppressed_total()),
        ("replayed", counts.replayed),
    ] {
        if count > 0 {
            counter!(EVENTS.name, "outcome" => outcome).increment(count);
        }
    }
    for (reason, count) in &counts.suppressed {
        counter!(SUPPRESSED.name, "reason" => reason.as_str()).increment(*count);
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
