//! Every metric, declared once: name, kind, unit, labels, help and buckets.
//!
//! There are two ways for a figure to get out. What happens now and then (a commit, a rebalance, a failure) is recorded where
//! it happens, by one of the functions here, through the `metrics` crate. What is counted per event or is a state (latencies,
//! scores, lag, profiles) lies in the worker's [`crate::engine::Snapshot`], and [`render`] writes it out at a scrape: so no
//! event costs a look-up, and a partition that has gone leaves no gauge behind. Labels come from closed sets: never a user, a
//! payload or a raw error.

use super::{distribution::Distribution, exposition::samples};
use crate::{
    engine::{Counts, LATENCY_BOUNDS, PartitionView, Phase, SCORE_BOUNDS, Snapshot, Stage, SuppressReason},
    event::EventTime,
    inference::{Drift, FallbackReason, Refusal},
    sink::{SinkError, Target},
};
use ::metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use std::{
    fmt::{self, Write},
    time::Duration,
};

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

impl Kind {
    /// The kind as Prometheus names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
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
    /// The buckets' upper bounds; none but for a histogram.
    pub buckets: &'static [f64],
}

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter, unit: Unit::Count, labels, help, buckets: &[] }
}

const fn gauge(name: &'static str, unit: Unit, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, unit, labels, help, buckets: &[] }
}

const fn seconds(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter, unit: Unit::Seconds, labels, help, buckets: &[] }
}

const fn distribution(
    name: &'static str,
    unit: Unit,
    labels: &'static [&'static str],
    help: &'static str,
    buckets: &'static [f64],
) -> Metric {
    Metric { name, kind: Kind::Histogram, unit, labels, help, buckets }
}

// Events: what came in and what became of it.
const EVENTS: Metric = counter(
    "aimpoint_events_total",
    &["outcome"],
    "events committed, by outcome: decision, fallback, duplicate, suppressed, replayed",
);
const FALLBACKS: Metric = counter(
    "aimpoint_fallbacks_total",
    &["reason"],
    "decisions committed without a model score, by reason: model_failed, model_late, score_not_a_number, \
     score_out_of_range (outside model.range)",
);
const DEAD_LETTERS: Metric =
    counter("aimpoint_dead_letters_total", &["reason"], "records written to the dead-letter topic, by reason");
const SUPPRESSED: Metric = counter(
    "aimpoint_suppressed_total",
    &["reason"],
    "events dropped without a decision because the configuration says so, by reason: too_late (time.too_late = \"drop\"), \
     bot (input.bots = \"exclude\")",
);
const UNKNOWN_ZONES: Metric = counter(
    "aimpoint_unknown_zones_total",
    &[],
    "events with an unknown time zone; the user's last known zone is used for them",
);
const BATCH_ROWS: Metric = distribution(
    "aimpoint_batch_rows",
    Unit::Count,
    &[],
    "records in a batch polled from the consumer",
    &[1.0, 4.0, 16.0, 64.0, 256.0, 1_024.0, 4_096.0, 16_384.0, 65_536.0, 1_000_000.0],
);
const LATENCY: Metric = distribution(
    "aimpoint_decision_latency_seconds",
    Unit::Seconds,
    &["since"],
    "time until a decision is visible to read-committed consumers, measured from the event time (event) or from the \
     append of its record to the input topic (append)",
    &LATENCY_BOUNDS,
);
const STAGES: Metric = seconds(
    "aimpoint_stage_seconds_total",
    &["stage"],
    "time spent, by stage: decode (sampled on one record in 64), profile, score, target, encode, send, and commit, \
     which overlaps the others",
);
const STAGES_COMPUTED: Metric = seconds(
    "aimpoint_stage_cpu_seconds_total",
    &["stage"],
    "CPU time of the workers, by stage: decode (includes polling the client), profile, score, target, encode and send",
);

// Transactions.
const COMMITS: Metric = counter("aimpoint_commits_total", &[], "successful commits");
const COMMIT_SECONDS: Metric = distribution(
    "aimpoint_commit_seconds",
    Unit::Seconds,
    &[],
    "time from the start of a commit to the broker's response",
    &[0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 60.0],
);
const RETRIES: Metric = counter(
    "aimpoint_transaction_retries_total",
    &["cause"],
    "failed transactions that were retried or recovered, by cause: abortable, stale (fenced by a newer generation of the \
     group), unknown (no response), fatal",
);

// Partitions: where they are.
const LAG_RECORDS: Metric = gauge(
    "aimpoint_lag_records",
    Unit::Count,
    &["partition"],
    "input records not yet processed, by assigned partition",
);
const LAG_SECONDS: Metric = gauge(
    "aimpoint_lag_seconds",
    Unit::Seconds,
    &["partition"],
    "age of the newest processed event, by assigned partition; 0 if no record is waiting",
);
const PARTITIONS: Metric = gauge(
    "aimpoint_partitions",
    Unit::Count,
    &["phase"],
    "assigned partitions, by phase: restoring (reading profiles), replaying (rereading input), moving (processing)",
);
const REPLAY_RECORDS: Metric = gauge(
    "aimpoint_replay_records",
    Unit::Count,
    &["partition"],
    "input records still to be reread before the partition processes new ones, by assigned partition",
);
const RESTORED: Metric = counter("aimpoint_restored_records_total", &[], "changelog records read by restores");
const UNFIT: Metric = counter(
    "aimpoint_unfit_records_total",
    &[],
    "changelog records, and replay marks of committed offsets, that are damaged or do not match their layout: ignored, and \
     their content is rebuilt from the input",
);
const SKIPPED: Metric = counter(
    "aimpoint_skipped_by_retention_total",
    &[],
    "input records that the topic's retention deleted before they were read: they get no decision and are missing from profiles",
);
const TOPICS_UNFIT: Metric =
    gauge("aimpoint_topics_unfit", Unit::Count, &[], "topics that are missing or have fewer partitions than the input");
const SMALLER: Metric = counter(
    "aimpoint_outputs_too_large_total",
    &["output"],
    "outputs larger than their topic accepts, by kind: decision (written as a dead letter instead), dead_letter (truncated), \
     profile (rebuilt from the input at the next restore); counted on each attempt",
);
const REBALANCES: Metric = counter(
    "aimpoint_rebalances_total",
    &["change"],
    "assignment changes of workers, by kind: assigned, revoked, lost",
);

// State.
const PROFILES: Metric = gauge("aimpoint_profiles", Unit::Count, &["worker"], "profiles held in memory");
const PROFILE_BYTES: Metric =
    gauge("aimpoint_profile_bytes", Unit::Bytes, &["worker"], "estimated size of the profiles held in memory");
const PROFILES_DIRTY: Metric = gauge(
    "aimpoint_profiles_dirty",
    Unit::Count,
    &["worker"],
    "upper bound on the profiles changed since they were last written to the changelog",
);

// Targeting.
const SEGMENTS: Metric =
    counter("aimpoint_segment_decisions_total", &["segment"], "decisions that placed their user in a segment");
const SCORES: Metric = distribution("aimpoint_score", Unit::Count, &[], "scores of decisions", &SCORE_BOUNDS);

// Model: what inference tells; its further metrics belong here.
const MODEL: Metric = gauge(
    "aimpoint_model_info",
    Unit::Count,
    &["name", "version", "provider", "runtime", "variant"],
    "1 for each model in use, with its version, its execution provider and the experiment variant whose users it decides for; \
     variant is empty without an experiment",
);

const MODEL_VERSIONS: Metric = counter(
    "aimpoint_model_versions_total",
    &["outcome"],
    "new model versions, by outcome: handed_over (to the workers), or refused as unreadable (the model or its folder), unfit \
     (does not match the features), slow (to load or to run), wrong_scores (missing, different from its golden ones, or out of \
     range)",
);

// Shadows: their names come from the configuration.
const SHADOW_ROWS: Metric = counter(
    "aimpoint_shadow_rows_total",
    &["shadow", "outcome"],
    "rows offered to shadow models, by outcome: scored, skipped (the shadow was busy), failed (its run failed or timed out), \
     unscored (its score or the champion's was not a number)",
);
const SHADOW_PSI: Metric = gauge(
    "aimpoint_shadow_psi",
    Unit::Count,
    &["shadow"],
    "population stability index of a shadow's calibrated scores against the champion's, over the last 30 to 65 thousand rows: \
     below 0.1 similar, above 0.25 different",
);
const SHADOW_MEAN: Metric = gauge(
    "aimpoint_shadow_mean",
    Unit::Count,
    &["shadow", "of"],
    "mean calibrated score over a shadow's rows: its own (shadow), and that of the model that decides (champion)",
);
const SHADOW_CORRELATION: Metric = gauge(
    "aimpoint_shadow_correlation",
    Unit::Count,
    &["shadow"],
    "correlation of a shadow's calibrated scores with the champion's, -1 to 1; NaN if either are constant",
);

// Process.
const BUILD: Metric = gauge("aimpoint_build_info", Unit::Count, &["version"], "1, with the running version");
const APP: Metric = gauge(
    "aimpoint_app_info",
    Unit::Count,
    &["app", "consumergroup"],
    "1, with the application of this process (app.name) and its consumer group, labelled as in the Kafka exporter so that \
     alerts can join on it",
);
const READY: Metric = gauge("aimpoint_ready", Unit::Count, &[], "1 if /readyz reports ready");
const SILENT: Metric = gauge(
    "aimpoint_worker_silent_seconds",
    Unit::Seconds,
    &["worker"],
    "time since the worker last completed a turn of its loop",
);
const RELOADS: Metric =
    counter("aimpoint_reloads_total", &["outcome"], "configuration reloads, by outcome: taken (applied), refused");
const COLLECTOR: Metric = counter(
    "aimpoint_collector_requests_total",
    &["outcome"],
    "requests to the collector at otlp.endpoint, by outcome: taken (accepted), failed; failed traces are not sent again",
);

// Client: librdkafka's own few, of the consumers.
const CLIENT_FETCHED: Metric =
    gauge("aimpoint_client_fetched_records", Unit::Count, &["worker"], "records fetched and not yet processed");
const CLIENT_ROUND_TRIP: Metric = gauge(
    "aimpoint_client_round_trip_seconds",
    Unit::Seconds,
    &["worker"],
    "99th percentile of request round trips to the slowest broker, over the last two seconds",
);
const CLIENT_ERRORS: Metric = counter(
    "aimpoint_client_errors_total",
    &["worker"],
    "client requests that could not be sent, were refused or timed out",
);
const CLIENT_DISCONNECTS: Metric =
    counter("aimpoint_client_disconnects_total", &["worker"], "closed connections to brokers");

/// All metrics, in the order in which `aimpoint metrics` prints them.
pub const ALL: [Metric; 43] = [
    EVENTS,
    FALLBACKS,
    DEAD_LETTERS,
    SUPPRESSED,
    UNKNOWN_ZONES,
    BATCH_ROWS,
    LATENCY,
    STAGES,
    STAGES_COMPUTED,
    COMMITS,
    COMMIT_SECONDS,
    RETRIES,
    LAG_RECORDS,
    LAG_SECONDS,
    PARTITIONS,
    REPLAY_RECORDS,
    RESTORED,
    UNFIT,
    SKIPPED,
    TOPICS_UNFIT,
    SMALLER,
    REBALANCES,
    PROFILES,
    PROFILE_BYTES,
    PROFILES_DIRTY,
    SEGMENTS,
    SCORES,
    MODEL,
    MODEL_VERSIONS,
    SHADOW_ROWS,
    SHADOW_PSI,
    SHADOW_MEAN,
    SHADOW_CORRELATION,
    BUILD,
    APP,
    READY,
    SILENT,
    RELOADS,
    COLLECTOR,
    CLIENT_FETCHED,
    CLIENT_ROUND_TRIP,
    CLIENT_ERRORS,
    CLIENT_DISCONNECTS,
];

/// Makes the process record its metrics, and tells the recorder what they mean.
///
/// # Errors
/// When something else records already.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    let mut builder = PrometheusBuilder::new();
    for Metric { name, buckets, .. } in ALL.iter().filter(|metric| !metric.buckets.is_empty()) {
        builder = builder.set_buckets_for_metric(Matcher::Full((*name).to_owned()), buckets)?;
    }
    let handle = builder.install_recorder()?;
    for Metric { name, kind, unit, help, .. } in ALL {
        match kind {
            Kind::Counter => describe_counter!(name, unit, help),
            Kind::Gauge => describe_gauge!(name, unit, help),
            Kind::Histogram => describe_histogram!(name, unit, help),
        }
    }
    begin();
    Ok(handle)
}

/// Begins the counters whose labels are known at 0, so that their first increase shows.
fn begin() {
    for outcome in ["decision", "fallback", "duplicate", "suppressed", "replayed"] {
        counter!(EVENTS.name, "outcome" => outcome).absolute(0);
    }
    for reason in crate::event::RejectReason::ALL {
        counter!(DEAD_LETTERS.name, "reason" => reason.as_str()).absolute(0);
    }
    for reason in FallbackReason::ALL {
        counter!(FALLBACKS.name, "reason" => reason.as_str()).absolute(0);
    }
    for outcome in ["handed_over", "unreadable", "unfit", "slow", "wrong_scores"] {
        counter!(MODEL_VERSIONS.name, "outcome" => outcome).absolute(0);
    }
    for reason in SuppressReason::ALL {
        counter!(SUPPRESSED.name, "reason" => reason.as_str()).absolute(0);
    }
    for cause in ["abortable", "stale", "unknown", "fatal"] {
        counter!(RETRIES.name, "cause" => cause).absolute(0);
    }
    for change in ["assigned", "revoked", "lost"] {
        counter!(REBALANCES.name, "change" => change).absolute(0);
    }
    for outcome in ["taken", "refused"] {
        counter!(RELOADS.name, "outcome" => outcome).absolute(0);
    }
    for outcome in ["taken", "failed"] {
        counter!(COLLECTOR.name, "outcome" => outcome).absolute(0);
    }
    counter!(COMMITS.name).absolute(0);
    counter!(UNKNOWN_ZONES.name).absolute(0);
    counter!(RESTORED.name).absolute(0);
    counter!(UNFIT.name).absolute(0);
    counter!(SKIPPED.name).absolute(0);
    gauge!(TOPICS_UNFIT.name).set(0.0);
    for output in ["decision", "dead_letter", "profile"] {
        counter!(SMALLER.name, "output" => output).absolute(0);
    }
    gauge!(BUILD.name, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
}

/// Tells which application this process belongs to.
pub fn belongs_to(app: &str, group: &str) {
    gauge!(APP.name, "app" => app.to_owned(), "consumergroup" => group.to_owned()).set(1.0);
}

/// Records what a commit made final.
pub fn record(counts: &Counts, commit: Duration) {
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
    for (reason, count) in FallbackReason::ALL.iter().zip(counts.fallback_reasons) {
        if count > 0 {
            counter!(FALLBACKS.name, "reason" => reason.as_str()).increment(count);
        }
    }
    for (reason, count) in &counts.dead_letters {
        counter!(DEAD_LETTERS.name, "reason" => reason.as_str()).increment(*count);
    }
    for (reason, count) in &counts.suppressed {
        counter!(SUPPRESSED.name, "reason" => reason.as_str()).increment(*count);
    }
    if counts.unknown_zones > 0 {
        counter!(UNKNOWN_ZONES.name).increment(counts.unknown_zones);
    }
    counter!(COMMITS.name).increment(1);
    histogram!(COMMIT_SECONDS.name).record(commit.as_secs_f64());
}

/// Records a transaction that failed.
pub fn retried(error: &SinkError) {
    let cause = match error {
        SinkError::Abortable { .. } => "abortable",
        SinkError::Stale { .. } => "stale",
        SinkError::Unknown { .. } => "unknown",
        SinkError::Fatal { .. } => "fatal",
    };
    counter!(RETRIES.name, "cause" => cause).increment(1);
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

/// Records what became of rows that a shadow might have scored.
pub fn shadow_rows(shadow: &str, outcome: &'static str, rows: u64) {
    if rows > 0 {
        counter!(SHADOW_ROWS.name, "shadow" => shadow.to_owned(), "outcome" => outcome).increment(rows);
    }
}

/// Begins the counters of a shadow at 0.
pub fn shadow_begins(shadow: &str) {
    for outcome in ["scored", "skipped", "failed", "unscored"] {
        counter!(SHADOW_ROWS.name, "shadow" => shadow.to_owned(), "outcome" => outcome).absolute(0);
    }
}

/// Records how far a shadow's scores lie from the champion's.
pub fn shadow_drift(shadow: &str, drift: &Drift) {
    if let (Some(psi), Some((champion, mean))) = (drift.psi(), drift.means()) {
        gauge!(SHADOW_PSI.name, "shadow" => shadow.to_owned()).set(psi);
        gauge!(SHADOW_MEAN.name, "shadow" => shadow.to_owned(), "of" => "champion").set(champion);
        gauge!(SHADOW_MEAN.name, "shadow" => shadow.to_owned(), "of" => "shadow").set(mean);
        gauge!(SHADOW_CORRELATION.name, "shadow" => shadow.to_owned()).set(drift.correlation().unwrap_or(f64::NAN));
    }
}

/// Records a change of the assignment.
pub fn rebalanced(change: &'static str) {
    counter!(REBALANCES.name, "change" => change).increment(1);
}

/// Records what a restore has read.
pub fn restored(records: u64) {
    counter!(RESTORED.name).increment(records);
}

/// Records that what a restore has read did not fit.
pub fn unfit(records: u64) {
    counter!(UNFIT.name).increment(records);
}

/// Records that records of the input were deleted before they were read.
pub fn skipped(records: u64) {
    counter!(SKIPPED.name).increment(records);
}

/// Tells how many topics are absent or have too few partitions while the process runs.
pub fn topics_unfit(topics: usize) {
    gauge!(TOPICS_UNFIT.name).set(topics as f64);
}

/// Records that an output was larger than its topic takes.
pub fn sent_smaller(target: Target) {
    let output = match target {
        Target::Decisions => "decision",
        Target::DeadLetters => "dead_letter",
        Target::Profiles(_) => "profile",
    };
    counter!(SMALLER.name, "output" => output).increment(1);
}

/// Records that the configuration was read again, and whether it was taken.
pub fn reloaded(taken: bool) {
    counter!(RELOADS.name, "outcome" => if taken { "taken" } else { "refused" }).increment(1);
}

/// Records that something was sent to the collector, and whether it was taken.
pub fn sent_to_collector(taken: bool) {
    counter!(COLLECTOR.name, "outcome" => if taken { "taken" } else { "failed" }).increment(1);
}

/// Writes what the workers show, in Prometheus' text format.
pub fn render(workers: &[Snapshot], is_ready: bool, now: EventTime) -> String {
    let mut out = Exposition::default();
    let partitions = || workers.iter().flat_map(|worker| &worker.partitions);
    let by_partition = |value: fn(&PartitionView, EventTime) -> Option<f64>| {
        partitions().filter_map(move |it| Some((vec![it.number.to_string()], value(it, now)?)))
    };
    let by_worker = |value: fn(&Snapshot) -> f64| {
        workers.iter().enumerate().map(move |(number, worker)| (vec![number.to_string()], value(worker)))
    };
    let profiles = |value: fn(&PartitionView) -> u64| {
        move |worker: &Snapshot| worker.partitions.iter().map(value).sum::<u64>() as f64
    };

    out.distribution(
        &LATENCY,
        [
            ("event", total(&LATENCY_BOUNDS, workers.iter().map(|it| &it.since_event))),
            ("append", total(&LATENCY_BOUNDS, workers.iter().map(|it| &it.since_append))),
        ],
    );
    out.distribution(&SCORES, [("", total(&SCORE_BOUNDS, workers.iter().map(|it| &it.scores)))]);
    let by_stage = |times: fn(&Snapshot, Stage) -> Duration| {
        Stage::ALL.map(|stage| {
            let time = workers.iter().map(|worker| times(worker, stage).as_secs_f64()).sum();
            (vec![stage.as_str().to_owned()], time)
        })
    };
    out.family(&STAGES, by_stage(|it, stage| it.stages[stage as usize]));
    // Of a commit others are computing: the client's threads, and the broker.
    let computed = by_stage(|it, stage| it.computed[stage as usize]);
    out.family(&STAGES_COMPUTED, computed.into_iter().filter(|(stage, _)| stage[0] != Stage::Commit.as_str()));
    out.family(&LAG_RECORDS, by_partition(|it, _| it.lag().map(|lag| lag as f64)));
    out.family(&LAG_SECONDS, by_partition(PartitionView::lag_seconds));
    out.family(&REPLAY_RECORDS, by_partition(|it, _| Some((it.emit_from - it.next).max(0) as f64)));
    out.family(
        &PARTITIONS,
        [Phase::Restoring, Phase::Replaying, Phase::Moving].map(|phase| {
            let count = partitions().filter(|it| it.phase == phase).count();
            (vec![phase.as_str().to_owned()], count as f64)
        }),
    );
    for (metric, value) in [
        (&PROFILES, profiles(|it| it.profiles)),
        (&PROFILE_BYTES, profiles(|it| it.profile_bytes)),
        (&PROFILES_DIRTY, profiles(|it| it.dirty)),
    ] {
        let all = workers.iter().enumerate().map(|(number, worker)| (vec![number.to_string()], value(worker)));
        out.family(metric, all);
    }
    let ids = workers.first().map(|worker| worker.segments.as_slice()).unwrap_or_default();
    out.family(
        &SEGMENTS,
        ids.iter().map(|(id, _)| {
            let all = workers.iter().flat_map(|worker| &worker.segments).filter(|(other, _)| other == id);
            (vec![id.clone()], all.map(|(_, count)| *count as f64).sum())
        }),
    );
    out.family(
        &MODEL,
        workers.iter().find(|worker| !worker.models.is_empty()).into_iter().flat_map(|worker| &worker.models).map(
            |(variant, model)| {
                let labels = [&model.name, &model.version, &model.provider, &model.runtime, variant];
                (labels.map(String::clone).to_vec(), 1.0)
            },
        ),
    );
    out.family(&READY, [(Vec::new(), f64::from(u8::from(is_ready)))]);
    out.family(&SILENT, by_worker(|it| it.silent.as_secs_f64()));
    out.family(&CLIENT_FETCHED, by_worker(|it| it.client.fetched as f64));
    out.family(&CLIENT_ROUND_TRIP, by_worker(|it| it.client.round_trip.as_secs_f64()));
    out.family(&CLIENT_ERRORS, by_worker(|it| it.client.errors as f64));
    out.family(&CLIENT_DISCONNECTS, by_worker(|it| it.client.disconnects as f64));
    out.0
}

/// What the metrics tell of one shadow model.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ShadowFigures {
    /// Its name.
    pub(super) name: String,
    /// Its rows by outcome.
    pub(super) rows: Vec<(String, f64)>,
    /// Where there are enough rows: its stability index, the means of the champion and of itself, and the correlation.
    pub(super) drift: Option<[f64; 4]>,
}

/// The shadows that the metrics' text tells of.
pub(super) fn shadows(text: &str) -> Vec<ShadowFigures> {
    let value = |labels: &[(String, String)], label: &str| {
        labels.iter().find(|(name, _)| name == label).map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let figure = |metric: &Metric, shadow: &str, of: &str| {
        let mut all = samples(text, metric.name);
        all.find(|(labels, _)| value(labels, "shadow") == shadow && value(labels, "of") == of).map(|(_, figure)| figure)
    };
    let mut all: Vec<ShadowFigures> = Vec::new();
    for (labels, rows) in samples(text, SHADOW_ROWS.name) {
        let (name, outcome) = (value(&labels, "shadow"), value(&labels, "outcome"));
        match all.iter_mut().find(|it| it.name == name) {
            Some(it) => it.rows.push((outcome, rows)),
            None => all.push(ShadowFigures { name, rows: vec![(outcome, rows)], drift: None }),
        }
    }
    for it in &mut all {
        let drift = [
            figure(&SHADOW_PSI, &it.name, ""),
            figure(&SHADOW_MEAN, &it.name, "champion"),
            figure(&SHADOW_MEAN, &it.name, "shadow"),
            figure(&SHADOW_CORRELATION, &it.name, ""),
        ];
        it.drift = match drift {
            [Some(psi), Some(champion), Some(mean), Some(correlation)] => Some([psi, champion, mean, correlation]),
            _ => None,
        };
    }
    all
}

/// What became of new versions of the model, as the metrics' text tells it: outcome and number.
pub(super) fn model_versions(text: &str) -> impl Iterator<Item = (String, f64)> {
    samples(text, MODEL_VERSIONS.name)
        .filter_map(|(labels, count)| Some((labels.into_iter().next().map(|(_, value)| value)?, count)))
}

/// The sum of distributions over the same bounds.
fn total<'a>(bounds: &'static [f64], all: impl Iterator<Item = &'a Distribution>) -> Distribution {
    let mut sum = Distribution::new(bounds);
    all.for_each(|one| sum.add(one));
    sum
}

/// Prometheus' text format.
#[derive(Default)]
struct Exposition(String);

impl Exposition {
    fn put(&mut self, text: fmt::Arguments<'_>) {
        self.0.write_fmt(text).expect("a string takes everything");
    }

    fn head(&mut self, metric: &Metric) {
        let Metric { name, kind, help, .. } = metric;
        self.put(format_args!("# HELP {name} {help}\n# TYPE {name} {}\n", kind.as_str()));
    }

    /// A metric with its samples: the values of its labels, and the figure.
    fn family(&mut self, metric: &Metric, samples: impl IntoIterator<Item = (Vec<String>, f64)>) {
        self.head(metric);
        for (values, figure) in samples {
            self.put(format_args!(
                "{}{} {figure}\n",
                metric.name,
                labels(metric.labels.iter().copied().zip(values.iter().map(String::as_str)))
            ));
        }
    }

    /// A histogram, for each value of its only label if it has one.
    fn distribution<const N: usize>(&mut self, metric: &Metric, all: [(&str, Distribution); N]) {
        self.head(metric);
        let name = metric.name;
        for (value, it) in all {
            let own: Vec<(&str, &str)> = metric.labels.iter().map(|label| (*label, value)).collect();
            let mut below = 0;
            let bounds = it.bounds().iter().map(f64::to_string).chain(["+Inf".to_owned()]);
            for (bound, count) in bounds.zip(it.counts()) {
                below += count;
                self.put(format_args!(
                    "{name}_bucket{} {below}\n",
                    labels(own.iter().copied().chain([("le", bound.as_str())]))
                ));
            }
            self.put(format_args!(
                "{name}_sum{0} {1}\n{name}_count{0} {below}\n",
                labels(own.iter().copied()),
                it.sum()
            ));
        }
    }
}

/// Labels in braces, or nothing where there are none.
fn labels<'a>(all: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let escaped = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let all: Vec<String> = all.map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
    if all.is_empty() { String::new() } else { format!("{{{}}}", all.join(",")) }
}

#[cfg(test)]
mod tests;
