//! The board: what the live page of control shows, as JSON.
//!
//! Owns the choice of figures and their form. Everything comes from the [`State`] and the last [`Policy`], except the
//! [`Curves`], which say how spend has grown over the day. They only exist for the page: they begin when the process
//! begins to lead, and nothing else depends on them.
//!
//! Guarantees: the JSON has no user, no decision and no outcome, only sums. Money is in whole millionths, times are in
//! milliseconds since 1970. The state does not change.
//!
//! Limits: [`CAMPAIGNS_MAX`] campaigns, [`CURVES_MAX`] curves, [`PREDICTIONS_MAX`] versions and [`ROWS_MAX`] rates of creatives, so that the JSON has about
//! 200 kB at most. Those with most spend come first. What is left out is counted.

mod campaigns;
mod creatives;
mod curve;
mod predictions;
mod rate;
#[cfg(test)]
mod tests;

use super::{Counts, State, spec::ControlSpec};
use crate::targeting::policy::{AudienceSize, Policy};
use curve::Curves;
use serde_json::{Value, json};
use std::{cmp::Reverse, time::Duration};

/// The most campaigns that are shown.
const CAMPAIGNS_MAX: usize = 100;
/// The most campaigns whose spend is shown as a curve, at about 3 kB each.
const CURVES_MAX: usize = 24;
/// The most versions of campaigns whose predictions are shown.
const PREDICTIONS_MAX: usize = 100;
/// The most rates of creatives that are shown, of all campaigns and audiences together. Each takes about 30 µs.
const ROWS_MAX: usize = 200;

/// What the page of the leader shows.
#[derive(Clone, Debug)]
pub struct Board {
    /// When this process began to lead.
    led_since: i64,
    stale_after: Duration,
    policy_interval: Duration,
    policy: Option<Policy>,
    curves: Curves,
}

impl Board {
    /// The board of a process that begins to lead, at this time in microseconds since 1970.
    pub fn new(spec: &ControlSpec, now: i64) -> Self {
        Self {
            led_since: now,
            stale_after: spec.stale_after,
            policy_interval: spec.policy_interval,
            policy: None,
            curves: Curves::default(),
        }
    }

    /// Takes in a policy that was published.
    pub fn publish(&mut self, policy: &Policy) {
        self.policy = Some(policy.clone());
    }

    /// Takes in what has been spent. To be called a few times in each quarter of an hour.
    pub fn observe(&mut self, state: &State, now: i64) {
        self.curves.observe(state, now);
    }

    /// The board as JSON. `lag`: the records of decisions, outcomes and audiences that are yet to be read.
    pub fn json(&self, state: &State, lag: [u64; 3], now: i64) -> Value {
        // Workers do not follow a policy that is too old.
        let age = |policy: &Policy| u128::from(now.saturating_sub(policy.issued_at).unsigned_abs());
        let followed = self.policy.as_ref().filter(|policy| age(policy) <= self.stale_after.as_micros());
        let (campaigns, left_out) = campaigns::json(state, followed, &self.curves, now);
        let (creatives, creatives_left_out) = creatives::json(state);
        let (predictions, predictions_left_out) = predictions::json(state);
        let [decisions, outcomes, audiences] = lag;
        let (sizes, audiences_left_out) = audiences_json(state);
        json!({
            "role": "leader",
            "at_ms": ms(now),
            "led_since_ms": ms(self.led_since),
            "policy": {
                // A takeover begins with the version of the predecessor.
                "version": state.version(),
                "issued_ms": self.policy.as_ref().map(|policy| ms(policy.issued_at)),
                "is_followed": followed.is_some(),
                "interval_ms": self.policy_interval.as_millis() as u64,
                "stale_after_ms": self.stale_after.as_millis() as u64,
            },
            "lag": { "decisions": decisions, "outcomes": outcomes, "audiences": audiences },
            "clock_ms": Some(ms(state.clock())).filter(|clock| *clock > 0),
            "outcomes": outcomes_json(state),
            "campaigns": campaigns,
            "campaigns_left_out": left_out,
            "creatives": creatives,
            "creatives_left_out": creatives_left_out,
            "predictions": predictions,
            "predictions_left_out": predictions_left_out,
            "audiences": sizes,
            "audiences_left_out": audiences_left_out,
        })
    }
}

/// What became of decisions and outcomes since the state began.
fn outcomes_json(state: &State) -> Value {
    let Counts { decisions, joined, duplicates, late, orphans, rejected, lessons, touches_evicted, .. } =
        *state.counts();
    json!({
        "decisions": decisions, "joined": joined, "duplicate": duplicates, "late": late, "orphan": orphans,
        "rejected": rejected, "parked": state.sizes().2, "lessons": lessons, "touches_evicted": touches_evicted,
    })
}

/// How many users are in each segment, the largest first, and how many segments are left out.
fn audiences_json(state: &State) -> (Value, usize) {
    let mut audiences = state.audiences();
    audiences.sort_by_key(|audience| Reverse(audience.members));
    let left_out = audiences.len().saturating_sub(ROWS_MAX);
    let shown = audiences.iter().take(ROWS_MAX);
    let row =
        |it: &AudienceSize| json!({ "segtax": it.segtax, "id": it.id, "members": state.shown_members(it.members) });
    (shown.map(row).collect(), left_out)
}

/// What the page of a standby shows.
#[derive(Clone, Copy, Debug)]
pub struct Following<'a> {
    /// The topic of the state.
    pub topic: &'a str,
    /// The consumer group that chooses the leader.
    pub group: &'a str,
    /// How many records were followed.
    pub records: u64,
    /// Whether it has read all that there was.
    pub has_caught_up: bool,
    /// The version of the last policy that a leader has written; 0 for none.
    pub version: u64,
    /// When the last record arrived.
    pub changed_at: Option<i64>,
    /// Whether it is about to lead.
    pub takes_over: bool,
}

impl Following<'_> {
    /// The board as JSON, at this time in microseconds since 1970.
    pub fn json(&self, now: i64) -> Value {
        json!({
            "role": if self.takes_over { "taking over" } else { "standby" },
            "at_ms": ms(now),
            "follows": {
                "topic": self.topic, "group": self.group, "records": self.records, "has_caught_up": self.has_caught_up,
                "version": self.version, "changed_ms": self.changed_at.map(ms),
            },
        })
    }
}

/// Microseconds as milliseconds.
fn ms(at: i64) -> i64 {
    at.div_euclid(1_000)
}
