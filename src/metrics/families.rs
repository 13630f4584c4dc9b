//! Every metric, declared once.

mod serve;

use super::{LATENCY_BOUNDS, SCORE_BOUNDS, family::Family};
pub(crate) use serve::{
    SERVE_ANSWER_SECONDS, SERVE_BID_REQUESTS, SERVE_CERTIFICATE_END, SERVE_CONNECTIONS, SERVE_LOOKUPS, SERVE_MUTATIONS,
    SERVE_PARTITIONS, SERVE_RECORDS, SERVE_REFUSED, SERVE_SNAPSHOTS, SERVE_STALENESS, SERVE_STORE_BYTES,
    SERVE_TURNED_AWAY, SERVE_USERS, SERVE_VISIBLE,
};

// Events and batches.
pub(crate) static EVENTS: Family = Family::counter(
    "aimpoint_events_total",
    &["outcome"],
    "events committed, by outcome: decision, fallback, duplicate, suppressed, erasure, replayed",
)
.of(&["decision", "fallback", "duplicate", "suppressed", "erasure", "replayed"]);
pub(crate) static FALLBACKS: Family = Family::counter(
    "aimpoint_fallbacks_total",
    &["reason"],
    "decisions committed without a score from the model, by reason: model_failed, model_late, score_not_a_number, \
     score_out_of_range (of model.range)",
)
.of(&["model_failed", "model_late", "score_not_a_number", "score_out_of_range"]);
pub(crate) static DEAD_LETTERS: Family =
    Family::counter("aimpoint_dead_letters_total", &["reason"], "records written to the dead-letter topic, by reason")
        .of(&[
            "null_payload",
            "too_large",
            "malformed",
            "wrong_type",
            "missing_user",
            "missing_type",
            "missing_time",
            "time_range",
            "future_time",
            "too_late",
            "output_too_large",
        ]);
pub(crate) static SUPPRESSED: Family = Family::counter(
    "aimpoint_suppressed_total",
    &["reason"],
    "events that got no decision because the configuration says so, by reason: too_late (time.too_late = \"drop\"), \
     bot (input.bots = \"exclude\"), unchanged (emission.on = \"change\"), too_soon (emission.every), no_consent \
     (in an export, without consent to training), erased (from before the user's erasure)",
)
.of(&["too_late", "bot", "unchanged", "too_soon", "no_consent", "erased"]);
pub(crate) static CONSENT_REFUSED: Family = Family::counter(
    "aimpoint_consent_refused_total",
    &["activity", "reason"],
    "decisions by what the user does not consent to: activity write, score, emit, measure or train, and reason no_consent, \
     opted_out or child",
);
pub(crate) static UNKNOWN_ZONES: Family = Family::counter(
    "aimpoint_unknown_zones_total",
    &[],
    "events that name an unknown time zone; the user's last known zone is used instead",
);
pub(crate) static EXPIRED_MEMBERSHIPS: Family = Family::counter(
    "aimpoint_expired_memberships_total",
    &[],
    "decisions about memberships in segments that ended by time, without an event",
);
pub(crate) static ERASURES_DROPPED: Family = Family::counter(
    "aimpoint_erasures_dropped_total",
    &[],
    "notes of erased users that were dropped before erasure.keep because a partition had more than 1,048,576 of them: older \
     events can bring these users back",
);
pub(crate) static USERS_RENAMED: Family = Family::counter(
    "aimpoint_users_renamed_total",
    &[],
    "users whose profiles moved to the pseudonym of the present key, at their first event since identity.previous_key was set",
);
pub(crate) static BATCH_ROWS: Family = Family::histogram(
    "aimpoint_batch_rows",
    &[],
    "records taken from the consumer in one batch",
    &[1.0, 4.0, 16.0, 64.0, 256.0, 1_024.0, 4_096.0, 16_384.0, 65_536.0, 1_000_000.0],
);
pub(crate) static LATENCY: Family = Family::histogram(
    "aimpoint_decision_latency_seconds",
    &["since"],
    "time until a decision is visible to read_committed readers, since the event happened (event) or since its record \
     was appended to the input (append)",
    &LATENCY_BOUNDS,
)
.seconds();
pub(crate) static STAGES: Family = Family::counter(
    "aimpoint_stage_seconds_total",
    &["stage"],
    "elapsed time by stage: decode (sampled, one record in 64), profile, score, target, encode, send, and commit, \
     which runs beside the others",
)
.seconds();
pub(crate) static STAGES_COMPUTED: Family = Family::counter(
    "aimpoint_stage_cpu_seconds_total",
    &["stage"],
    "CPU time of the workers by stage: decode (including taking records from the client), profile, score, target, \
     encode and send",
)
.seconds();

// Transactions.
pub(crate) static COMMITS: Family = Family::counter("aimpoint_commits_total", &[], "commits that took effect");
pub(crate) static COMMIT_SECONDS: Family = Family::histogram(
    "aimpoint_commit_seconds",
    &[],
    "time from the start of a commit to the broker's answer",
    &[0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 60.0],
)
.seconds();
pub(crate) static RETRIES: Family = Family::counter(
    "aimpoint_transaction_retries_total",
    &["cause"],
    "transactions that failed and were retried or recovered, by cause: abortable, stale (fenced by the group's new \
     generation), unknown (no answer), fatal",
)
.of(&["abortable", "stale", "unknown", "fatal"]);

// Partitions.
pub(crate) static LAG_RECORDS: Family =
    Family::gauge("aimpoint_lag_records", &["partition"], "input records that are waiting, by assigned partition");
pub(crate) static LAG_SECONDS: Family = Family::gauge(
    "aimpoint_lag_seconds",
    &["partition"],
    "age of the newest processed event, by assigned partition; 0 if no records are waiting",
)
.seconds();
pub(crate) static PARTITIONS: Family = Family::gauge(
    "aimpoint_partitions",
    &["phase"],
    "assigned partitions, by phase: restoring (reading profiles), replaying (reading input again), moving",
);
pub(crate) static REPLAY_RECORDS: Family = Family::gauge(
    "aimpoint_replay_records",
    &["partition"],
    "input records left to replay before the partition moves, by assigned partition",
);
pub(crate) static RESTORED: Family =
    Family::counter("aimpoint_restored_records_total", &[], "changelog records read by restores");
pub(crate) static UNFIT: Family = Family::counter(
    "aimpoint_unfit_records_total",
    &[],
    "changelog records and marks of committed offsets that are damaged or do not fit their layout; they are ignored, \
     and what they held is rebuilt from the input",
);
pub(crate) static SKIPPED: Family = Family::counter(
    "aimpoint_skipped_by_retention_total",
    &[],
    "input records deleted by the topic's retention before they were read; their events have no decision and are \
     missing from profiles",
);
pub(crate) static TOPICS_UNFIT: Family =
    Family::gauge("aimpoint_topics_unfit", &[], "topics that are absent or have fewer partitions than the input");
pub(crate) static TOO_LARGE: Family = Family::counter(
    "aimpoint_outputs_too_large_total",
    &["output"],
    "outputs larger than their topic allows, by kind: decision (becomes a dead letter), dead_letter (truncated), \
     profile (rebuilt from the input at the next restore); counted at each attempt",
)
.of(&["decision", "dead_letter", "profile"]);
pub(crate) static REBALANCES: Family = Family::counter(
    "aimpoint_rebalances_total",
    &["change"],
    "changes of a worker's assignment, by kind: assigned, revoked, lost",
)
.of(&["assigned", "revoked", "lost"]);

// Profiles.
pub(crate) static PROFILES: Family = Family::gauge("aimpoint_profiles", &["worker"], "profiles held in memory");
pub(crate) static PROFILE_BYTES: Family =
    Family::gauge("aimpoint_profile_bytes", &["worker"], "estimated size of the profiles held in memory").bytes();
pub(crate) static PROFILES_DIRTY: Family = Family::gauge(
    "aimpoint_profiles_dirty",
    &["worker"],
    "upper bound on profiles that the changelog does not hold in their present state",
);

// Targeting.
pub(crate) static SEGMENTS: Family =
    Family::counter("aimpoint_segment_decisions_total", &["segment"], "decisions that matched a segment");
pub(crate) static SEGMENT_MEMBERS: Family = Family::gauge(
    "aimpoint_segment_members",
    &["segment"],
    "users in a segment with members, in the partitions of this process",
);
pub(crate) static SEGMENT_ENTRIES: Family =
    Family::counter("aimpoint_segment_entries_total", &["segment"], "users who entered a segment with members");
pub(crate) static SEGMENT_EXITS: Family = Family::counter(
    "aimpoint_segment_exits_total",
    &["segment"],
    "users who left a segment with members, or whose membership expired",
);
pub(crate) static CAMPAIGNS: Family = Family::counter(
    "aimpoint_campaign_decisions_total",
    &["campaign", "outcome"],
    "decisions for which a campaign was considered, by outcome: chosen, or the reason why it was refused: excluded, \
     consent, child, bot, stale, small_audience, dates, daypart, cap, recency, conversion_cap, cold_start, floor, no_creative, \
     budget_unknown, budget, paced, holdout, outranked",
);
pub(crate) static POLICY_VERSION: Family = Family::gauge(
    "aimpoint_worker_policy_version",
    &["worker"],
    "version of control's policy that decisions are made with; none before the first",
);
pub(crate) static POLICY_AGE: Family = Family::gauge(
    "aimpoint_worker_policy_age_seconds",
    &["worker"],
    "age of the policy that decisions are made with; above control.stale_after, campaigns with a budget stop",
)
.seconds();
pub(crate) static SCORES: Family = Family::histogram("aimpoint_score", &[], "scores of decisions", &SCORE_BOUNDS);

// The model.
pub(crate) static MODEL: Family = Family::gauge(
    "aimpoint_model_info",
    &["name", "version", "provider", "runtime", "variant"],
    "1 for each model that scores, with its version, where it runs, and its variant, which is empty without an \
     experiment",
);
pub(crate) static MODEL_VERSIONS: Family = Family::counter(
    "aimpoint_model_versions_total",
    &["outcome"],
    "new versions of the model, by outcome: handed_over, or refused as unreadable (or the folder cannot be read), \
     unfit, slow (to load or to run), wrong_scores (none, not the golden ones, or out of range)",
)
.of(&["handed_over", "unreadable", "unfit", "slow", "wrong_scores"]);

// Shadow models. Their names come from the configuration.
pub(crate) static SHADOW_ROWS: Family = Family::counter(
    "aimpoint_shadow_rows_total",
    &["shadow", "outcome"],
    "rows of shadow models, by outcome: scored, skipped (the shadow was busy), failed (its run failed or was late), \
     unscored (it or the deciding model gave no number)",
);
pub(crate) static SHADOW_PSI: Family = Family::gauge(
    "aimpoint_shadow_psi",
    &["shadow"],
    "population stability index of a shadow's calibrated scores against the deciding ones, over the last 30 to 65 \
     thousand rows: below 0.1 similar, above 0.25 different",
);
pub(crate) static SHADOW_MEAN: Family = Family::gauge(
    "aimpoint_shadow_mean",
    &["shadow", "of"],
    "mean calibrated score over a shadow's rows, of the shadow and of the champion, the model that decides",
);
pub(crate) static SHADOW_CORRELATION: Family = Family::gauge(
    "aimpoint_shadow_correlation",
    &["shadow"],
    "correlation of a shadow's calibrated scores with the deciding ones, -1 to 1; NaN if either is constant",
);

// Control. The counts are those of the leader since it took over.
pub(crate) static CONTROL_LEADER: Family =
    Family::gauge("aimpoint_control_leader", &[], "1 in the process of control that leads, 0 in a standby");
pub(crate) static CONTROL_DECISIONS: Family = Family::counter(
    "aimpoint_control_decisions_total",
    &[],
    "decisions that control has counted, in committed transactions",
);
pub(crate) static CONTROL_OUTCOMES: Family = Family::counter(
    "aimpoint_control_outcomes_total",
    &["disposition"],
    "outcomes, in committed transactions, by what became of them: joined to a decision, duplicate, late, orphan \
     (without a known decision), rejected (unreadable or contradictory, a dead letter)",
)
.of(&["joined", "duplicate", "late", "orphan", "rejected"]);
pub(crate) static CONTROL_DEAD_LETTERS: Family = Family::counter(
    "aimpoint_control_dead_letters_total",
    &["reason"],
    "decisions and outcomes that control has written to the dead-letter topic, by reason",
)
.of(&[
    "null_payload",
    "too_large",
    "malformed",
    "wrong_type",
    "missing_id",
    "missing_type",
    "unknown_type",
    "missing_time",
    "time_range",
    "future_time",
    "invalid_amount",
    "unknown_currency",
    "other_currency",
    "implausible_price",
    "no_key",
    "unknown_campaign",
]);
pub(crate) static CONTROL_VERSION: Family =
    Family::gauge("aimpoint_control_policy_version", &[], "version of the last policy that was published");
pub(crate) static CONTROL_ISSUED: Family = Family::gauge(
    "aimpoint_control_policy_timestamp_seconds",
    &[],
    "when the last policy was issued, in seconds since 1970; if it is older than control.stale_after, campaigns with a \
     budget stop",
)
.seconds();
pub(crate) static CONTROL_SPENT: Family = Family::gauge(
    "aimpoint_control_spent",
    &["campaign", "currency", "period"],
    "what a campaign with a budget has spent, in units of its currency, by period: day (in the campaign's zone), total",
);
pub(crate) static CONTROL_BUDGET: Family = Family::gauge(
    "aimpoint_control_budget",
    &["campaign", "currency", "period"],
    "the budget of a campaign, in units of its currency, by period: day, total",
);
pub(crate) static CONTROL_LAG: Family = Family::gauge(
    "aimpoint_control_lag_records",
    &["input"],
    "records that control has yet to read, by input: decisions, outcomes, audiences",
);
pub(crate) static CONTROL_AUDIENCE: Family = Family::gauge(
    "aimpoint_control_audience_members",
    &["segtax", "segment"],
    "how many users are in a lasting segment, over all workers, as control has published it; segtax is the taxonomy of the \
     segment's id, 0 for an own one",
);

// What control knows of predictions: of the impressions whose label became known on the two last whole days, in UTC, or today and
// yesterday if it is a click.
pub(crate) static CONTROL_LABELS: Family = Family::gauge(
    "aimpoint_control_labels",
    &["campaign", "version", "label"],
    "impressions whose label became known on the two last whole days (UTC), or today and yesterday if it is a click, by the version \
     of the model that predicted it, and by label: positive, negative",
);
pub(crate) static CONTROL_PREDICTED: Family = Family::gauge(
    "aimpoint_control_predicted_successes",
    &["campaign", "version"],
    "successes that were predicted of the impressions of aimpoint_control_labels: the sum of their probabilities",
);
pub(crate) static CONTROL_CLICK_RATE: Family = Family::gauge(
    "aimpoint_control_click_rate",
    &["campaign", "version"],
    "clicked impressions, as a share of aimpoint_control_labels",
);
pub(crate) static CONTROL_CONVERSION_RATE: Family = Family::gauge(
    "aimpoint_control_conversion_rate",
    &["campaign", "version"],
    "converted impressions, as a share of the clicked ones of aimpoint_control_labels; NaN for campaigns that predict clicks",
);
pub(crate) static CONTROL_CALIBRATION: Family = Family::gauge(
    "aimpoint_control_calibration_ratio",
    &["campaign", "version"],
    "predicted over observed successes of aimpoint_control_labels: above 1, predictions are too high; NaN without a success",
);
pub(crate) static CONTROL_ENTROPY: Family = Family::gauge(
    "aimpoint_control_normalised_entropy",
    &["campaign", "version"],
    "log loss of the predictions of aimpoint_control_labels over that of the observed rate: below 1 beats the rate; NaN if all \
     labels are the same",
);
pub(crate) static CONTROL_DRIFT: Family = Family::gauge(
    "aimpoint_control_prediction_drift",
    &["campaign", "version"],
    "population stability index of the predictions of yesterday's impressions against those of the day before (UTC): below 0.1 \
     similar, above 0.25 different; NaN with fewer than 1,000 on either day",
);
pub(crate) static CONTROL_LABEL_AGE: Family = Family::gauge(
    "aimpoint_control_label_age_seconds",
    &["campaign"],
    "age of an impression at which its label is known: the figures of predictions are as much behind",
)
.seconds();

// The process.
pub(crate) static BUILD: Family = Family::gauge("aimpoint_build_info", &["version"], "1 for the running version");
pub(crate) static APP: Family = Family::gauge(
    "aimpoint_app_info",
    &["app", "consumergroup"],
    "1 for the application of this process: app.name, and its consumer group under the label name that Kafka's \
     exporter uses. Alerts join an application to its lag by it",
);
pub(crate) static READY: Family = Family::gauge("aimpoint_ready", &[], "1 if /readyz answers 200");
pub(crate) static SILENT: Family =
    Family::gauge("aimpoint_worker_silent_seconds", &["worker"], "time since the worker last ran its loop").seconds();
pub(crate) static RELOADS: Family =
    Family::counter("aimpoint_reloads_total", &["outcome"], "reloads of the configuration, by outcome: taken, refused")
        .of(&["taken", "refused"]);
pub(crate) static COLLECTOR: Family = Family::counter(
    "aimpoint_collector_requests_total",
    &["outcome"],
    "requests to the collector at otlp.endpoint, by outcome: taken, failed; traces of failed requests are not sent \
     again",
)
.of(&["taken", "failed"]);

// The Kafka consumers, as reported by librdkafka.
pub(crate) static CLIENT_FETCHED: Family =
    Family::gauge("aimpoint_client_fetched_records", &["worker"], "records fetched and not yet processed");
pub(crate) static CLIENT_ROUND_TRIP: Family = Family::gauge(
    "aimpoint_client_round_trip_seconds",
    &["worker"],
    "99th percentile of round trips to the slowest broker, over the last two seconds",
)
.seconds();
pub(crate) static CLIENT_ERRORS: Family = Family::counter(
    "aimpoint_client_errors_total",
    &["worker"],
    "requests that could not be sent, were refused or timed out",
);
pub(crate) static CLIENT_DISCONNECTS: Family =
    Family::counter("aimpoint_client_disconnects_total", &["worker"], "connections to brokers that ended");

/// All metrics, in the order in which `aimpoint metrics` prints them.
pub static FAMILIES: [&Family; 86] = [
    &EVENTS,
    &FALLBACKS,
    &DEAD_LETTERS,
    &SUPPRESSED,
    &CONSENT_REFUSED,
    &UNKNOWN_ZONES,
    &EXPIRED_MEMBERSHIPS,
    &ERASURES_DROPPED,
    &USERS_RENAMED,
    &BATCH_ROWS,
    &LATENCY,
    &STAGES,
    &STAGES_COMPUTED,
    &COMMITS,
    &COMMIT_SECONDS,
    &RETRIES,
    &LAG_RECORDS,
    &LAG_SECONDS,
    &PARTITIONS,
    &REPLAY_RECORDS,
    &RESTORED,
    &UNFIT,
    &SKIPPED,
    &TOPICS_UNFIT,
    &TOO_LARGE,
    &REBALANCES,
    &PROFILES,
    &PROFILE_BYTES,
    &PROFILES_DIRTY,
    &SEGMENTS,
    &SEGMENT_MEMBERS,
    &SEGMENT_ENTRIES,
    &SEGMENT_EXITS,
    &CAMPAIGNS,
    &POLICY_VERSION,
    &POLICY_AGE,
    &SCORES,
    &MODEL,
    &MODEL_VERSIONS,
    &SHADOW_ROWS,
    &SHADOW_PSI,
    &SHADOW_MEAN,
    &SHADOW_CORRELATION,
    &CONTROL_LEADER,
    &CONTROL_DECISIONS,
    &CONTROL_OUTCOMES,
    &CONTROL_DEAD_LETTERS,
    &CONTROL_VERSION,
    &CONTROL_ISSUED,
    &CONTROL_SPENT,
    &CONTROL_BUDGET,
    &CONTROL_LAG,
    &CONTROL_AUDIENCE,
    &CONTROL_LABELS,
    &CONTROL_CLICK_RATE,
    &CONTROL_CONVERSION_RATE,
    &CONTROL_CALIBRATION,
    &CONTROL_PREDICTED,
    &CONTROL_ENTROPY,
    &CONTROL_DRIFT,
    &CONTROL_LABEL_AGE,
    &SERVE_LOOKUPS,
    &SERVE_BID_REQUESTS,
    &SERVE_MUTATIONS,
    &SERVE_REFUSED,
    &SERVE_TURNED_AWAY,
    &SERVE_ANSWER_SECONDS,
    &SERVE_RECORDS,
    &SERVE_STALENESS,
    &SERVE_VISIBLE,
    &SERVE_SNAPSHOTS,
    &SERVE_PARTITIONS,
    &SERVE_USERS,
    &SERVE_STORE_BYTES,
    &SERVE_CONNECTIONS,
    &SERVE_CERTIFICATE_END,
    &BUILD,
    &APP,
    &READY,
    &SILENT,
    &RELOADS,
    &COLLECTOR,
    &CLIENT_FETCHED,
    &CLIENT_ROUND_TRIP,
    &CLIENT_ERRORS,
    &CLIENT_DISCONNECTS,
];
