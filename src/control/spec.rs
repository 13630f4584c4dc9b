//! The section `[control]` as written in the configuration.

use super::join::Windows;
use crate::{
    config_error::ConfigError,
    targeting::{campaign::Reward, pacing::Timing},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// `[control]`: how outcomes become a policy.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ControlSpec {
    /// How often a policy is published, 1 s to 1 min. Shorter intervals follow a budget more closely: it can be exceeded
    /// by what passes in one interval. Each policy is one record.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub policy_interval: Duration,
    /// The age at which a policy is too old to spend money on, at least three intervals. Campaigns with a budget stop
    /// then. A longer time bridges a longer failure of control, and risks as much more money.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub stale_after: Duration,
    /// How long it takes until every worker has taken a policy and its decisions have come back.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub policy_lag: Duration,
    /// How long after a decision its cost is still expected. Until then, money is held in reserve for it. Later costs
    /// count, but without a reserve.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub settle: Duration,
    /// How long an outcome's id is remembered. Older outcomes are not counted, because they might have been before. The
    /// default is the 48 hours in which Meta's Conversions API recognises duplicates.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub dedupe_horizon: Duration,
    /// How long an outcome waits for its decision, if it arrives first. It covers the distance between the two topics.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub wait: Duration,
    /// The most outcomes whose ids are remembered, at about 100 bytes each. If there are more, the horizon is shorter.
    pub outcomes_max: usize,
    /// The most offers and impressions that are remembered, at about 1 kB each. If there are more, the oldest are
    /// forgotten, and their outcomes find no decision. Their money counts nevertheless.
    pub touches_max: usize,
    /// `targeting.minimum_audience`: smaller sizes of audiences are not shown.
    #[serde(skip)]
    pub minimum_audience: u64,
    /// How long after its cause an outcome counts.
    pub attribution: AttributionSpec,
    /// When it is known whether an impression has succeeded.
    pub learning: LearningSpec,
}

impl Default for ControlSpec {
    fn default() -> Self {
        Self {
            policy_interval: Duration::from_secs(5),
            stale_after: Duration::from_mins(1),
            policy_lag: Duration::from_secs(10),
            settle: Duration::from_mins(5),
            dedupe_horizon: Duration::from_hours(48),
            wait: Duration::from_mins(1),
            outcomes_max: 2_000_000,
            touches_max: 500_000,
            minimum_audience: 0,
            attribution: AttributionSpec::default(),
            learning: LearningSpec::default(),
        }
    }
}

/// `[control.attribution]`: how long after its cause an outcome counts. Longer windows keep more in memory.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AttributionSpec {
    /// An impression, a win or a loss after the decision has expired. The default is one hour, for which apps may keep
    /// an ad that they have loaded.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub offer: Duration,
    /// A click or a view after the impression. The default is a day; nearly all clicks come within minutes.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub engagement: Duration,
    /// A conversion after an impression without a click. The default is a day, as is usual.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub view: Duration,
    /// A conversion after a click. The default is 30 days: conversions arrive up to a month later (Chapelle 2014).
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub click: Duration,
}

impl Default for AttributionSpec {
    fn default() -> Self {
        Self {
            offer: Duration::from_hours(1),
            engagement: Duration::from_hours(24),
            view: Duration::from_hours(24),
            click: Duration::from_hours(30 * 24),
        }
    }
}

impl AttributionSpec {
    /// The age of an impression at which it is known whether it has succeeded, because nothing that counts can follow: what is
    /// measured, exported and learned from decisions is a success up to this age.
    pub fn label_age(&self, of: Reward) -> Duration {
        match of {
            Reward::Click => self.engagement,
            Reward::Conversion => self.engagement.saturating_add(self.click.max(self.view)),
        }
    }
}

/// `[control.learning]`: how long after an impression its success is awaited. Successes and failures are learned at the
/// same age, so that the posterior of a new creative is not too good. Creatives are compared with each other, so they may learn
/// before all is known; predictions are measured when it is, see `[control.attribution]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LearningSpec {
    /// How long a click is awaited; later ones are counted, but teach nothing.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub click_after: Duration,
    /// How long a conversion is awaited. The default is a day, when half of the conversions have arrived (Chapelle
    /// 2014).
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub conversion_after: Duration,
}

impl Default for LearningSpec {
    fn default() -> Self {
        Self { click_after: Duration::from_hours(1), conversion_after: Duration::from_hours(24) }
    }
}

impl ControlSpec {
    /// Adds all errors of the section.
    pub fn check(&self, errors: &mut Vec<ConfigError>) {
        const SECOND: Duration = Duration::from_secs(1);
        const DAY: Duration = Duration::from_hours(24);
        let month = 40 * DAY;
        let (attribution, learning) = (&self.attribution, &self.learning);
        for (key, value, least, most) in [
            ("policy_interval", self.policy_interval, SECOND, Duration::from_mins(1)),
            ("stale_after", self.stale_after, SECOND, Duration::from_hours(1)),
            ("policy_lag", self.policy_lag, SECOND, Duration::from_mins(10)),
            ("settle", self.settle, SECOND, Duration::from_hours(6)),
            ("dedupe_horizon", self.dedupe_horizon, Duration::from_mins(1), 90 * DAY),
            ("wait", self.wait, SECOND, Duration::from_hours(1)),
            ("attribution.offer", attribution.offer, SECOND, 7 * DAY),
            ("attribution.engagement", attribution.engagement, SECOND, month),
            ("attribution.view", attribution.view, SECOND, month),
            ("attribution.click", attribution.click, SECOND, 90 * DAY),
            ("learning.click_after", learning.click_after, SECOND, month),
            ("learning.conversion_after", learning.conversion_after, SECOND, 90 * DAY),
        ] {
            if !(least..=most).contains(&value) {
                let shown = crate::duration::display;
                let message = format!("{} is not between {} and {}", shown(value), shown(least), shown(most));
                errors.push(ConfigError::new(format!("control.{key}"), message).hint("leave it out for the default"));
            }
        }
        for (key, value) in [("outcomes_max", self.outcomes_max), ("touches_max", self.touches_max)] {
            if value == 0 {
                errors.push(
                    ConfigError::new(format!("control.{key}"), "0 remembers nothing, so nothing would be joined")
                        .hint("leave it out for the default"),
                );
            }
        }
        let mut at_least = |key: &str, value: Duration, least: Duration, why: &str, hint: &str| {
            if value < least {
                errors.push(ConfigError::new(format!("control.{key}"), why).hint(hint));
            }
        };
        at_least(
            "stale_after",
            self.stale_after,
            self.policy_interval.saturating_mul(3),
            "a policy would be too old before the next but one is there",
            "set at least three times control.policy_interval",
        );
        at_least(
            "attribution.engagement",
            attribution.engagement,
            learning.click_after,
            "clicks are awaited for longer than they count",
            "set at least control.learning.click_after",
        );
        at_least(
            "attribution.click",
            attribution.click.max(attribution.view),
            learning.conversion_after,
            "conversions are awaited for longer than they count",
            "set at least control.learning.conversion_after",
        );
    }

    /// The speed of the loop from rate to spend.
    pub fn timing(&self) -> Timing {
        let millis = |duration: Duration| u32::try_from(duration.as_millis()).unwrap_or(u32::MAX);
        Timing {
            interval_ms: millis(self.policy_interval),
            lag_ms: millis(self.policy_lag),
            settle_ms: millis(self.settle),
        }
    }

    /// The windows in microseconds.
    pub(super) fn windows(&self) -> Windows {
        Windows {
            engagement: micros(self.attribution.engagement),
            view: micros(self.attribution.view),
            click: micros(self.attribution.click),
        }
    }
}

/// A duration in microseconds, at most what an `i64` holds.
pub(crate) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
