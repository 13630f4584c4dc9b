//! Intervals, their confidence, and quantiles of replicates.
//!
//! Owns the types that every estimate shares, and Wilson's interval of a rate.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The probability that an interval covers the value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Confidence {
    /// 90 %.
    #[serde(rename = "90%")]
    P90,
    /// 95 %.
    #[default]
    #[serde(rename = "95%")]
    P95,
    /// 99 %.
    #[serde(rename = "99%")]
    P99,
}

impl Confidence {
    /// The probability beyond one end, and how many standard errors away that end is.
    pub(super) fn tail(self) -> (f64, f64) {
        match self {
            Self::P90 => (0.05, 1.644_853_626_951_472_2),
            Self::P95 => (0.025, 1.959_963_984_540_054),
            Self::P99 => (0.005, 2.575_829_303_548_900_4),
        }
    }

    /// The probability of missing the value, both ends together.
    pub(super) fn alpha(self) -> f64 {
        match self {
            Self::P90 => 0.1,
            Self::P95 => 0.05,
            Self::P99 => 0.01,
        }
    }

    /// How many standard errors away an end is.
    pub(super) fn z(self) -> f64 {
        self.tail().1
    }
}

/// A range that covers the value with the requested confidence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// The lower end. It may be below 0 even if rewards are not.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

impl Interval {
    /// Whether the interval contains a value.
    pub fn covers(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }

    /// The interval that reaches equally far to both sides of a value; `None` if an end is not finite.
    pub(super) fn around(value: f64, reach: f64) -> Option<Self> {
        let found = Self { low: value - reach, high: value + reach };
        (found.low.is_finite() && found.high.is_finite()).then_some(found)
    }
}

/// A quantile of sorted values, linear between neighbours (Hyndman and Fan 1996, type 7).
pub(super) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let (before, after) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    before + (after - before) * place.fract()
}

/// The interval of a rate of `count` in `of` (Wilson 1927, "Probable inference, the law of succession, and statistical
/// inference"). It stays within 0 and 1 and is not empty for 0 or `of` successes. `None` if `of` is 0 or smaller than
/// `count`.
pub fn wilson(count: u64, of: u64, confidence: Confidence) -> Option<Interval> {
    if of == 0 || count > of {
        return None;
    }
    let (trials, z) = (of as f64, confidence.z());
    let rate = count as f64 / trials;
    let scale = 1.0 + z * z / trials;
    let centre = (rate + z * z / (2.0 * trials)) / scale;
    let reach = z / scale * (rate * (1.0 - rate) / trials + z * z / (4.0 * trials * trials)).sqrt();
    // Rounding would leave the end at a rate of 0 or 1 a few bits off.
    let low = if count == 0 { 0.0 } else { (centre - reach).max(0.0) };
    let high = if count == of { 1.0 } else { (centre + reach).min(1.0) };
    Some(Interval { low, high })
}
