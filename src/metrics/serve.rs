//! The metrics of serve.

use super::{
    families::{
        SERVE_ANSWER_SECONDS, SERVE_BID_REQUESTS, SERVE_CERTIFICATE_END, SERVE_CONNECTIONS, SERVE_LOOKUPS,
        SERVE_MUTATIONS, SERVE_PARTITIONS, SERVE_RECORDS, SERVE_REFUSED, SERVE_SNAPSHOTS, SERVE_STALENESS,
        SERVE_STORE_BYTES, SERVE_TURNED_AWAY, SERVE_USERS, SERVE_VISIBLE,
    },
    recorder::{add, histogram, set},
};
use std::time::Duration;

/// The times of answers.
#[derive(Clone)]
pub struct AnswerTimes(::metrics::Histogram);

impl Default for AnswerTimes {
    fn default() -> Self {
        Self(histogram(&SERVE_ANSWER_SECONDS))
    }
}

impl AnswerTimes {
    /// Records the time of an answer.
    pub fn record(&self, took: Duration) {
        self.0.record(took.as_secs_f64());
    }
}

/// How long decisions took to be visible.
#[derive(Clone)]
pub struct VisibleTimes(::metrics::Histogram);

impl Default for VisibleTimes {
    fn default() -> Self {
        Self(histogram(&SERVE_VISIBLE))
    }
}

impl VisibleTimes {
    /// Records how long one took.
    pub fn record(&self, took: Duration) {
        self.0.record(took.as_secs_f64());
    }
}

/// Counts a snapshot.
pub fn serve_snapshot(outcome: &'static str) {
    add(&SERVE_SNAPSHOTS, &[outcome], 1);
}

/// Sets how many partitions have been read to their ends, and how many not yet.
pub fn serve_partitions(read: usize, reading: usize) {
    set(&SERVE_PARTITIONS, &["read"], read as f64);
    set(&SERVE_PARTITIONS, &["reading"], reading as f64);
}

/// Counts users that were asked for.
pub fn serve_lookups(outcome: &'static str, count: u64) {
    add(&SERVE_LOOKUPS, &[outcome], count);
}

/// Counts bid requests.
pub fn serve_bid_requests(outcome: &'static str, count: u64) {
    add(&SERVE_BID_REQUESTS, &[outcome], count);
}

/// Counts changes that were proposed to hosts of agents.
pub fn serve_mutations(intent: &'static str, count: u64) {
    add(&SERVE_MUTATIONS, &[intent], count);
}

/// Counts a bid request whose consent signals forbid enrichment.
pub fn serve_refused(reason: &'static str) {
    add(&SERVE_REFUSED, &[reason], 1);
}

/// Counts what got no answer to its question.
pub fn serve_turned_away(reason: &'static str) {
    add(&SERVE_TURNED_AWAY, &[reason], 1);
}

/// Counts records of the topic of decisions.
pub fn serve_records(outcome: &'static str, count: u64) {
    add(&SERVE_RECORDS, &[outcome], count);
}

/// Sets how long ago it was known that everything had been read.
pub fn serve_staleness(staleness: Duration) {
    set(&SERVE_STALENESS, &[], staleness.as_secs_f64());
}

/// Sets how much is in memory, and how many connections there are.
pub fn serve_sizes(users: usize, bytes: usize, connections: usize) {
    set(&SERVE_USERS, &[], users as f64);
    set(&SERVE_STORE_BYTES, &[], bytes as f64);
    set(&SERVE_CONNECTIONS, &[], connections as f64);
}

/// Sets when the certificate ends, in seconds since 1970.
pub fn serve_certificate_end(end: u64) {
    set(&SERVE_CERTIFICATE_END, &[], end as f64);
}
