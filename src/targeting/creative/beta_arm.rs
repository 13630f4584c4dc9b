//! What has been learned about a creative's rate: successes and failures that fade.
//!
//! Owns the counts of one creative and audience, as control keeps them. Old outcomes count less, half after one
//! half-life. Guarantees: the state is a fold over outcomes and their times, computed on updates and queries, never by
//! a timer. The order of outcomes only changes the last bits. Limits: outcomes far in the future would fade all others,
//! so the caller checks times first. The caller also decides when a missing success is a failure: it waits for the end
//! of the attribution window.

use super::{arithmetic::exp, thompson::Beta};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The time after which an outcome counts half.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HalfLife {
    /// Infinite if nothing fades.
    us: f64,
}

impl HalfLife {
    /// Nothing fades.
    pub const NEVER: Self = Self { us: f64::INFINITY };

    /// `None` for less than a second, because the posterior would only hold the last outcome.
    pub fn new(half_life: Duration) -> Option<Self> {
        (half_life >= Duration::from_secs(1)).then_some(Self { us: half_life.as_secs_f64() * 1e6 })
    }

    /// The weight of an outcome after this time.
    fn fade(self, us: i64) -> f64 {
        exp(-(us as f64 / self.us) * std::f64::consts::LN_2)
    }
}

/// The faded successes and failures of a creative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BetaArm {
    /// Successes, as of `at_us`.
    pub successes: f64,
    /// Failures, as of `at_us`.
    pub failures: f64,
    /// The newest outcome's time in microseconds since 1970.
    pub at_us: i64,
}

impl BetaArm {
    /// Adds an outcome with its time and a reward from 0 (failure) to 1 (success). Returns false and changes nothing
    /// for any other reward.
    pub fn update(&mut self, at_us: i64, reward: f64, half_life: HalfLife) -> bool {
        if !(0.0..=1.0).contains(&reward) {
            return false;
        }
        let age = at_us.saturating_sub(self.at_us);
        let weight = if age > 0 {
            let fade = half_life.fade(age);
            self.successes *= fade;
            self.failures *= fade;
            self.at_us = at_us;
            1.0
        } else {
            // A late outcome counts as much as if it had arrived in time.
            half_life.fade(age.saturating_neg())
        };
        self.successes += weight * reward;
        self.failures += weight * (1.0 - reward);
        true
    }

    /// The posterior at a time: the prior, which does not fade, plus the faded outcomes. For a time before the newest
    /// outcome, the posterior is that of the newest outcome's time.
    pub fn posterior(&self, at_us: i64, prior: Beta, half_life: HalfLife) -> Beta {
        let fade = half_life.fade(at_us.saturating_sub(self.at_us).max(0));
        Beta { alpha: prior.alpha + self.successes * fade, beta: prior.beta + self.failures * fade }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000;
    const PRIOR: Beta = Beta { alpha: 1.0, beta: 2.0 };

    fn day() -> HalfLife {
        HalfLife::new(Duration::from_hours(24)).unwrap()
    }

    fn close(found: Beta, alpha: f64, beta: f64) {
        assert!((found.alpha - alpha).abs() < 1e-9 && (found.beta - beta).abs() < 1e-9, "{found:?}");
    }

    #[test]
    fn an_outcome_counts_half_after_a_half_life() {
        let mut arm = BetaArm::default();
        assert!(arm.update(1_000 * HOUR, 1.0, day()));
        assert!(arm.update(1_024 * HOUR, 0.25, day()));
        close(arm.posterior(1_024 * HOUR, PRIOR, day()), 1.0 + 0.75, 2.0 + 0.75);
        close(arm.posterior(1_048 * HOUR, PRIOR, day()), 1.0 + 0.375, 2.0 + 0.375);
        // Queries change nothing, and before the newest outcome nothing fades.
        close(arm.posterior(0, PRIOR, day()), 1.75, 2.75);
    }

    #[test]
    fn the_order_of_outcomes_does_not_matter() {
        let outcomes: Vec<(i64, f64)> =
            (0..500).map(|n| (1_000 * HOUR + n * n % 977 * HOUR / 7, f64::from(n % 3 == 0))).collect();
        let fold = |outcomes: &mut dyn Iterator<Item = &(i64, f64)>| {
            let mut arm = BetaArm::default();
            outcomes.for_each(|&(at, reward)| assert!(arm.update(at, reward, day())));
            arm.posterior(1_500 * HOUR, PRIOR, day())
        };
        let forward = fold(&mut outcomes.iter());
        let backward = fold(&mut outcomes.iter().rev());
        close(forward, backward.alpha, backward.beta);
        // Compares with the sum over all outcomes.
        let kept = |at: i64| 0.5_f64.powf((1_500 * HOUR - at) as f64 / (24 * HOUR) as f64);
        let successes: f64 = outcomes.iter().map(|&(at, reward)| kept(at) * reward).sum();
        let failures: f64 = outcomes.iter().map(|&(at, reward)| kept(at) * (1.0 - reward)).sum();
        close(forward, 1.0 + successes, 2.0 + failures);
    }

    #[test]
    fn odd_rewards_times_and_half_lives_have_documented_results() {
        let mut arm = BetaArm::default();
        for reward in [f64::NAN, f64::INFINITY, -0.1, 1.1] {
            assert!(!arm.update(5, reward, day()));
        }
        assert_eq!(arm, BetaArm::default());
        assert!(arm.update(i64::MAX, 1.0, day()) && arm.update(i64::MIN, 1.0, day()));
        close(arm.posterior(i64::MAX, PRIOR, day()), 2.0, 2.0);
        assert_eq!(HalfLife::new(Duration::from_millis(999)), None);
        let mut arm = BetaArm::default();
        assert!(arm.update(0, 1.0, HalfLife::NEVER) && arm.update(9_000 * HOUR, 0.0, HalfLife::NEVER));
        close(arm.posterior(i64::MAX, PRIOR, HalfLife::NEVER), 2.0, 3.0);
    }

    #[test]
    fn the_state_survives_its_text() {
        let mut arm = BetaArm::default();
        assert!(arm.update(1_000 * HOUR, 0.3, day()) && arm.update(1_001 * HOUR, 1.0, day()));
        let text = toml::to_string(&arm).unwrap();
        assert_eq!(toml::from_str::<BetaArm>(&text).unwrap(), arm);
        assert!(toml::from_str::<BetaArm>("successes = 1.0\nfailures = 1.0\nat_us = 0\nodd = 1").is_err());
    }
}
