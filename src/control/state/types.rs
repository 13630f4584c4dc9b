//! What goes into the state and comes out of it, and the parts that are about everything.

use crate::{
    control::{
        join::Windows,
        outcome::Rejection,
        spec::{AttributionSpec, ControlSpec, LearningSpec, micros},
    },
    targeting::{campaign::Reward, money::Micros, pacing::Timing},
};
use serde::{Deserialize, Serialize};

/// The position of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source<'a> {
    /// Its topic.
    pub topic: &'a str,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// The record's time in microseconds since 1970, at most the present.
    pub arrived_at: i64,
}

/// What became of an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Disposition {
    /// It belongs to a decision.
    Joined,
    /// It waits for its decision.
    Parked,
    /// Its record is already part of the state.
    Replayed,
    /// It has been seen before.
    Duplicate,
    /// It is beyond the dedupe horizon, or outside the attribution window.
    Late,
    /// No decision is known that it could belong to.
    Orphan,
    /// It contradicts what is known: see [`Effects::rejection`].
    Rejected,
}

/// What an input has caused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effects {
    /// What became of the outcome.
    pub disposition: Disposition,
    /// What was spent.
    pub cost: Micros,
    /// Why the outcome goes to the dead letters.
    pub rejection: Option<Rejection>,
}

impl From<Disposition> for Effects {
    fn from(disposition: Disposition) -> Self {
        Self { disposition, cost: Micros::ZERO, rejection: None }
    }
}

/// What was counted since the state began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Decisions.
    pub decisions: u64,
    /// Outcomes that belong to a decision.
    pub joined: u64,
    /// Outcomes that were seen before.
    pub duplicates: u64,
    /// Outcomes beyond the dedupe horizon or outside their window.
    pub late: u64,
    /// Outcomes without a known decision.
    pub orphans: u64,
    /// Outcomes that contradict what is known.
    pub rejected: u64,
    /// Campaigns in decisions whose currency is not that of the campaign's account.
    pub offers_refused: u64,
    /// Win and loss notices that contradict themselves, or do not fit.
    pub notices_refused: u64,
    /// Offers and impressions that were forgotten early, because there were too many.
    pub touches_evicted: u64,
    /// Outcomes whose ids were forgotten early, because there were too many.
    pub outcomes_evicted: u64,
    /// Impressions that were learned from.
    pub lessons: u64,
}

/// The settings that the state works with.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) app: String,
    pub(super) windows: Windows,
    pub(super) offer: i64,
    pub(super) horizon: i64,
    pub(super) wait: i64,
    pub(super) learning: LearningSpec,
    pub(super) attribution: AttributionSpec,
    pub(super) outcomes_max: usize,
    pub(super) touches_max: usize,
    pub(super) minimum_audience: u64,
    pub(super) timing: Timing,
}

impl Settings {
    /// The age at which creatives learn from an impression.
    pub(super) fn learn_age(&self, of: Reward) -> i64 {
        micros(match of {
            Reward::Click => self.learning.click_after,
            Reward::Conversion => self.learning.conversion_after,
        })
    }

    /// The age at which it is known of every impression whether it has succeeded.
    pub(super) fn label_age(&self, of: Reward) -> i64 {
        micros(self.attribution.label_age(of))
    }

    pub(super) fn new(app: &str, spec: &ControlSpec) -> Self {
        Self {
            app: app.to_owned(),
            windows: spec.windows(),
            offer: micros(spec.attribution.offer),
            horizon: micros(spec.dedupe_horizon),
            wait: micros(spec.wait),
            learning: spec.learning.clone(),
            attribution: spec.attribution.clone(),
            outcomes_max: spec.outcomes_max,
            touches_max: spec.touches_max,
            minimum_audience: spec.minimum_audience,
            timing: spec.timing(),
        }
    }
}

/// What is not about a campaign, an input or an outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Meta {
    /// The version of the last policy.
    pub(super) version: u64,
    /// The time of the stream: up to here, all inputs have been read.
    pub(super) clock: i64,
    /// When win rates were last fitted.
    pub(super) fitted_at: i64,
    /// The day on which notices last faded.
    pub(super) faded_day: i64,
    /// Up to when outcomes are refused, because some were forgotten.
    pub(super) seen_floor: i64,
    pub(super) counts: Counts,
}

/// How far an input has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Progress {
    /// The next offset.
    pub(super) next: i64,
    /// The latest time of a record.
    pub(super) time: i64,
}

impl Progress {
    /// Nothing has been read.
    pub(super) const NONE: Self = Self { next: i64::MIN, time: i64::MIN };
    /// The time of an input that does not take part in the time of the stream.
    pub(super) const TIMELESS: i64 = i64::MAX;
}
