//! How many rows an experiment needs, what it can find, and how long it still takes.
//!
//! Owns the planning of [`proportions`](super::proportions) and [`means`](super::means) by the normal approximation:
//! for rates, the pooled error without and the separate errors with the effect (Fleiss, Levin and Paik 2003,
//! "Statistical methods for rates and proportions", chapter 4); for means, one standard deviation in both arms.
//!
//! Limits: at most 2^53 rows. Not covered: groups of dependent rows, such as several impressions of a user.

use super::{ExperimentError, sequential::Mixture};
use crate::evaluation::{
    distribution::{normal_below, normal_upper},
    interval::Confidence,
};
use serde::Serialize;

/// Counts above are not exact in a double.
const ROWS_MAX: f64 = 9_007_199_254_740_992.0;

/// What the rows of an experiment are like.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub enum Baseline {
    /// The control's rate, between 0 and 1.
    Rate(f64),
    /// The standard deviation of a value in both arms, above 0.
    Deviation(f64),
}

/// A plan.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// What rows are like without the variant.
    pub baseline: Baseline,
    /// The variant's share of the rows, between 0 and 1.
    pub share: f64,
    /// The confidence of the interval.
    pub confidence: Confidence,
    /// The probability of finding an effect that is there, between 0 and 1.
    pub power: f64,
}

fn within(name: &'static str, value: f64, is_right: bool, range: &'static str) -> Result<(), ExperimentError> {
    if is_right { Ok(()) } else { Err(ExperimentError::Plan { name, value, range }) }
}

impl Plan {
    fn check(&self) -> Result<(), ExperimentError> {
        let is_share = |value: f64| value > 1e-12 && value < 1.0 - 1e-12;
        match self.baseline {
            Baseline::Rate(rate) => within("rate", rate, is_share(rate), "between 0 and 1")?,
            Baseline::Deviation(deviation) => {
                within("deviation", deviation, (1e-30..=1e30).contains(&deviation), "between 1e-30 and 1e30")?;
            }
        }
        within("share", self.share, is_share(self.share), "between 0 and 1")?;
        // Below, an effect would be found more often where there is none.
        let is_power = self.power > self.confidence.alpha() && self.power < 1.0 - 1e-12;
        within("power", self.power, is_power, "between 1 - confidence and 1")
    }

    fn check_effect(&self, effect: f64) -> Result<(), ExperimentError> {
        let range = "not 0, and such that the variant's rate is between 0 and 1";
        let is_right = match self.baseline {
            Baseline::Rate(rate) => rate + effect > 0.0 && rate + effect < 1.0,
            Baseline::Deviation(deviation) => (effect / deviation).abs() <= 1e30,
        };
        within("effect", effect, is_right && effect.abs() > 1e-30, range)
    }

    /// The variances of the difference for one row in all, as the test sees it and as it is.
    fn variances(&self, effect: f64) -> (f64, f64) {
        let (of_control, of_variant) = (1.0 - self.share, self.share);
        match self.baseline {
            Baseline::Rate(rate) => {
                let other = rate + effect;
                let pooled = of_control * rate + of_variant * other;
                let tested = pooled * (1.0 - pooled) * (1.0 / of_control + 1.0 / of_variant);
                (tested, rate * (1.0 - rate) / of_control + other * (1.0 - other) / of_variant)
            }
            Baseline::Deviation(deviation) => {
                let variance = deviation * deviation * (1.0 / of_control + 1.0 / of_variant);
                (variance, variance)
            }
        }
    }

    /// The probability of finding an effect with so many rows in both arms together.
    ///
    /// # Errors
    ///
    /// If a number of the plan or the effect is out of range.
    pub fn power(&self, effect: f64, rows: u64) -> Result<f64, ExperimentError> {
        self.check()?;
        self.check_effect(effect)?;
        Ok(self.power_of(effect, rows as f64))
    }

    fn power_of(&self, effect: f64, rows: f64) -> f64 {
        if rows == 0.0 {
            return 0.0;
        }
        let (tested, real) = self.variances(effect);
        let (tested, real) = ((tested / rows).sqrt(), (real / rows).sqrt());
        let z = self.confidence.z();
        // Finding it in the wrong direction counts as well, as in the two-sided test.
        normal_below((effect.abs() - z * tested) / real) + normal_below((-effect.abs() - z * tested) / real)
    }

    /// The rows that both arms need together to find an effect, `variant - control`. `None` above 2^53.
    ///
    /// # Errors
    ///
    /// If a number of the plan or the effect is out of range.
    pub fn rows(&self, effect: f64) -> Result<Option<u64>, ExperimentError> {
        self.check()?;
        self.check_effect(effect)?;
        let (tested, real) = self.variances(effect);
        let needed = self.confidence.z() * tested.sqrt() + normal_upper(1.0 - self.power) * real.sqrt();
        let rows = (needed / effect).powi(2).ceil();
        Ok((rows <= ROWS_MAX).then_some(rows as u64))
    }

    /// The smallest positive effect that so many rows find. `None` if even the largest possible one is not found.
    ///
    /// # Errors
    ///
    /// If a number of the plan is out of range.
    pub fn smallest_effect(&self, rows: u64) -> Result<Option<f64>, ExperimentError> {
        self.check()?;
        let (mut low, mut high) = match self.baseline {
            Baseline::Rate(rate) => (0.0, (1.0 - rate) * (1.0 - 1e-12)),
            // So many deviations are found with one row each.
            Baseline::Deviation(deviation) => (0.0, deviation * 1e6),
        };
        if self.power_of(high, rows as f64) < self.power {
            return Ok(None);
        }
        for _ in 0..200 {
            let middle = f64::midpoint(low, high);
            if middle <= low || middle >= high {
                break;
            }
            if self.power_of(middle, rows as f64) < self.power {
                low = middle;
            } else {
                high = middle;
            }
        }
        Ok(Some(high))
    }

    /// The rows after which an interval that is looked at every day excludes 0, if the difference found is the effect.
    /// Half of the experiments with this effect need more. `None` above 2^53.
    ///
    /// # Errors
    ///
    /// If a number of the plan or the effect is out of range.
    pub fn rows_any_time(&self, effect: f64, mixture: Mixture) -> Result<Option<u64>, ExperimentError> {
        self.check()?;
        self.check_effect(effect)?;
        let (_, variance) = self.variances(effect);
        let reach = |rows: f64| mixture.reach(variance / rows, self.confidence.alpha());
        // The reach falls with every row.
        if reach(ROWS_MAX) > effect.abs() {
            return Ok(None);
        }
        let (mut low, mut high) = (0, ROWS_MAX as u64);
        while high - low > 1 {
            let middle = u64::midpoint(low, high);
            if reach(middle as f64) > effect.abs() {
                low = middle;
            } else {
                high = middle;
            }
        }
        Ok(Some(high))
    }
}

/// How many days an experiment with so many rows still takes until it has those that it needs, at the rate of rows that
/// it has. 0 if it has them. `None` if no rows arrive.
pub fn days_left(rows: u64, needed: u64, rows_per_day: f64) -> Option<f64> {
    let missing = needed.saturating_sub(rows) as f64;
    if missing == 0.0 {
        return Some(0.0);
    }
    let days = missing / rows_per_day;
    (days > 0.0 && days.is_finite()).then_some(days)
}
