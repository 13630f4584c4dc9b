//! Intervals and p-values that hold on every day, however often they are looked at.
//!
//! The sequence of intervals covers the true difference at all times together with the stated probability, so an
//! experiment may stop when 0 leaves the interval. They are the normal mixture boundary (Robbins 1970) on the
//! difference of means with its estimated variance V:
//!
//! `|d - θ| < sqrt(V (1 + V/τ²) (2 ln(1/α) + ln(1 + τ²/V)))`
//!
//! which is the mixture sequential probability ratio test with a normal prior N(0, τ²) on the effect (Johari, Koomen,
//! Pekelis and Walsh 2022, "Always valid inference") and the asymptotic confidence sequence with ρ² = τ² / (V t)
//! (Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas 2024, "Time-uniform central limit theory and asymptotic confidence
//! sequences", theorem 2.2). τ must be chosen before looking at results; it says at which size of effect the intervals
//! are tightest, not whether they hold.
//!
//! Limits: the guarantee is asymptotic, since V is estimated and the difference is only nearly normal. So nothing is
//! said before each arm has 50 successes and 50 failures, or 200 rows for means. Very skewed values (a few large
//! purchases) need more rows than that; cap them. The split must not change during the experiment.

use super::{
    ExperimentError,
    moments::{Arm, Moments},
};
use crate::evaluation::interval::{Confidence, Interval};
use serde::Serialize;

/// Fewer successes or failures in an arm leave the difference too skewed.
const OUTCOMES_MIN: u64 = 50;

/// Fewer rows leave the estimated variance too uncertain.
const ROWS_MIN: u64 = 200;

/// The prior of the effect, chosen before the experiment.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Mixture {
    /// τ²
    variance: f64,
}

impl Mixture {
    /// A prior for effects of this size, in units of the difference: for instance 0.01 for a rate that may move by a
    /// percentage point.
    ///
    /// # Errors
    ///
    /// If the size is not between 1e-30 and 1e30.
    pub fn of_effect(size: f64) -> Result<Self, ExperimentError> {
        let size = size.abs();
        if (1e-30..=1e30).contains(&size) {
            return Ok(Self { variance: size * size });
        }
        Err(ExperimentError::Plan { name: "effect", value: size, range: "between 1e-30 and 1e30" })
    }

    /// The prior whose interval is shortest when the difference has this variance, for instance that of the planned
    /// end.
    ///
    /// # Errors
    ///
    /// If the variance is not between 1e-60 and 1e60.
    pub fn for_variance(variance: f64, confidence: Confidence) -> Result<Self, ExperimentError> {
        if !(1e-60..=1e60).contains(&variance) {
            return Err(ExperimentError::Plan { name: "variance", value: variance, range: "between 1e-60 and 1e60" });
        }
        // The width is smallest where r = τ²/V satisfies r = 2 ln(1/α) + ln(1 + r). The map contracts by 1 / (1 + r),
        // so 40 steps reach the last bit.
        let certainty = -2.0 * confidence.alpha().ln();
        let ratio = (0..40).fold(certainty, |ratio, _| certainty + f64::ln_1p(ratio));
        Ok(Self { variance: variance * ratio })
    }

    /// How far the interval reaches to each side when the difference has a variance.
    pub(super) fn reach(self, variance: f64, alpha: f64) -> f64 {
        let certainty = -2.0 * alpha.ln() + (self.variance / variance).ln_1p();
        (variance * (1.0 + variance / self.variance) * certainty).sqrt()
    }

    /// The p-value of a difference with a variance: 1 over the likelihood ratio of the mixture against no effect.
    fn p_value(self, difference: f64, variance: f64) -> f64 {
        let total = variance + self.variance;
        // In steps, so that squares of large and small numbers do not leave the range.
        let score = difference / variance.sqrt();
        let likelihood = 0.5 * score * score * (self.variance / total) - 0.5 * (self.variance / variance).ln_1p();
        (-likelihood).exp().min(1.0)
    }
}

/// What may be said about a difference at any time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct AnyTime {
    /// `variant - control`
    pub difference: f64,
    /// Covers the true difference at all times with the stated probability. The intersection with all earlier ones
    /// does so, too.
    pub interval: Interval,
    /// The chance that it is ever below a bound without an effect is at most that bound. The lowest so far may be kept.
    pub p_value: f64,
}

fn at(difference: f64, variance: f64, mixture: Mixture, confidence: Confidence) -> Option<AnyTime> {
    if variance <= 0.0 {
        return None;
    }
    let interval = Interval::around(difference, mixture.reach(variance, confidence.alpha()))?;
    Some(AnyTime { difference, interval, p_value: mixture.p_value(difference, variance) })
}

/// The difference of two rates. `None` before each arm has 50 successes and 50 failures.
pub fn any_time_proportions(control: Arm, variant: Arm, mixture: Mixture, confidence: Confidence) -> Option<AnyTime> {
    let is_ready = |arm: Arm| arm.successes().min(arm.rows() - arm.successes()) >= OUTCOMES_MIN;
    if !is_ready(control) || !is_ready(variant) {
        return None;
    }
    let (p, q) = (control.rate()?, variant.rate()?);
    let variance = p * (1.0 - p) / control.rows() as f64 + q * (1.0 - q) / variant.rows() as f64;
    at(q - p, variance, mixture, confidence)
}

/// The difference of two means. `None` before each arm has 200 rows, or if no value differs from another.
pub fn any_time_means(control: Moments, variant: Moments, mixture: Mixture, confidence: Confidence) -> Option<AnyTime> {
    if control.count() < ROWS_MIN || variant.count() < ROWS_MIN {
        return None;
    }
    let variance = control.variance()? / control.count() as f64 + variant.variance()? / variant.count() as f64;
    at(variant.mean - control.mean, variance, mixture, confidence)
}
