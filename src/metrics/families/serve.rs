//! The metrics of serve.

use crate::metrics::{ANSWER_BOUNDS, LATENCY_BOUNDS, family::Family};

pub(crate) static SERVE_LOOKUPS: Family = Family::counter(
    "aimpoint_serve_lookups_total",
    &["outcome"],
    "users that bidders looked up, by outcome: found, expired, unknown, elsewhere (another process answers for them)",
)
.of(&["found", "expired", "unknown", "elsewhere"]);
pub(crate) static SERVE_BID_REQUESTS: Family = Family::counter(
    "aimpoint_serve_bid_requests_total",
    &["outcome"],
    "bid requests, by outcome: enriched (or, by gRPC, changes were proposed); or given back unchanged: no_id (it names no \
     user as declared), unknown, expired, no_segments, refused (its consent signals forbid it), elsewhere (another process \
     answers for its user); or malformed; and by gRPC alone: not_asked (the host accepts none of our changes), \
     no_change (no deal or bid is to change), late (its time was over)",
)
.of(&["enriched", "no_id", "unknown", "expired", "no_segments", "refused", "malformed", "not_asked", "no_change", "late", "elsewhere"]);
pub(crate) static SERVE_MUTATIONS: Family = Family::counter(
    "aimpoint_serve_mutations_total",
    &["intent"],
    "changes proposed by gRPC, by intent: ACTIVATE_SEGMENTS, ACTIVATE_DEALS, BID_SHADE",
)
.of(&["ACTIVATE_SEGMENTS", "ACTIVATE_DEALS", "BID_SHADE"]);
pub(crate) static SERVE_REFUSED: Family = Family::counter(
    "aimpoint_serve_refused_total",
    &["reason"],
    "bid requests whose consent signals forbid enrichment, by reason: those of the consent gate, signal_unreadable, \
     signals_conflict",
);
pub(crate) static SERVE_TURNED_AWAY: Family = Family::counter(
    "aimpoint_serve_turned_away_total",
    &["reason"],
    "requests and connections that got no answer to their question, by reason: connections (too many), requests (too many), \
     token, tls (the connection could not begin), too_large, slow (a request that does not arrive or an answer that is not \
     taken in time), bad_request, no_owner (no process has read the user's \
     partition yet)",
)
.of(&["connections", "requests", "token", "tls", "too_large", "slow", "bad_request", "no_owner"]);
pub(crate) static SERVE_ANSWER_SECONDS: Family = Family::histogram(
    "aimpoint_serve_answer_seconds",
    &[],
    "time from the head of a request to its answer, with the time its body takes to arrive",
    &ANSWER_BOUNDS,
)
.seconds();
pub(crate) static SERVE_RECORDS: Family = Family::counter(
    "aimpoint_serve_records_total",
    &["outcome"],
    "records of the topic of decisions, by outcome: kept, erased, foreign (another application's); or left out: no_key, \
     malformed, other_user (its key names another user)",
)
.of(&["kept", "erased", "foreign", "no_key", "malformed", "other_user"]);
pub(crate) static SERVE_STALENESS: Family = Family::gauge(
    "aimpoint_serve_staleness_seconds",
    &[],
    "how long ago it was last known that every committed decision had been read",
)
.seconds();
pub(crate) static SERVE_VISIBLE: Family = Family::histogram(
    "aimpoint_serve_visible_seconds",
    &[],
    "time from the timestamp of a decision's record until bidders get it, by the clocks of two machines; not of what was \
     there before a process was ready",
    &LATENCY_BOUNDS,
)
.seconds();
pub(crate) static SERVE_SNAPSHOTS: Family = Family::counter(
    "aimpoint_serve_snapshots_total",
    &["outcome"],
    "snapshots of serve.snapshot, by outcome: written, failed (could not be written), loaded (at the start), ignored (at the \
     start; the log says why)",
)
.of(&["written", "failed", "loaded", "ignored"]);
pub(crate) static SERVE_PARTITIONS: Family = Family::gauge(
    "aimpoint_serve_partitions",
    &["state"],
    "partitions of the decisions that a process has, by state: read (to the end), reading",
)
.of(&["read", "reading"]);
pub(crate) static SERVE_USERS: Family =
    Family::gauge("aimpoint_serve_users", &[], "users with a decision in memory, expired or not");
pub(crate) static SERVE_STORE_BYTES: Family =
    Family::gauge("aimpoint_serve_store_bytes", &[], "memory for decisions and their index").bytes();
pub(crate) static SERVE_CONNECTIONS: Family =
    Family::gauge("aimpoint_serve_connections", &[], "open connections of bidders");
pub(crate) static SERVE_CERTIFICATE_END: Family = Family::gauge(
    "aimpoint_serve_certificate_end_seconds",
    &[],
    "when the certificate of serve.tls ends, in seconds since 1970; absent without TLS",
)
.seconds();
