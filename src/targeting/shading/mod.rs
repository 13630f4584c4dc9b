//! Bid shading: how far below its value to bid in a first-price auction.
//!
//! Owns the win-rate model, the bid made from it ([`WinRate::shade`], for the worker), the kept notices ([`Notices`])
//! and the fit ([`Notices::fit`], both for control). The probability of a win is logistic in the logarithm of the bid,
//!
//! ```text
//! P(win | bid) = 1 / (1 + e^-(a + w · ln bid)),  w > 0,
//! ```
//!
//! and the shaded bid maximises the expected surplus `(value − bid) · P(win | bid)` (Pan et al. 2020, "Bid Shading by
//! Win-Rate Estimation and Surplus Maximization").
//!
//! Guarantees: a bid is never above the value and never below the floor. A higher value or a higher floor never gives a
//! lower bid. The bid is finite whatever the model. A model depends only on the kept notices, not on the order in which
//! they arrived or were merged. Without enough notices there is no model, and the bid is the value.
//!
//! Limits: one [`Notices`] holds one currency and [`notices::PAIRS_MAX`] pairs of campaign and placement, of at most 9
//! kB each (about 2 kB in a usual market). [`WinRate::shade`] takes about 0.2 µs and allocates nothing. Not covered:
//! the time of day, seasons, and second-price auctions (`at = 2` in OpenRTB), where the best bid is the value, so the
//! caller does not shade there.

mod fit;
mod notices;
#[cfg(test)]
mod tests;

pub use fit::{BOTH_MIN, CampaignRates, NOTICES_MIN, WinRates, fit};
pub use notices::{Campaign, Counts, Histogram, Notice, Notices, PAIRS_MAX, Refusal};

use super::money::Cpm;

/// The minimum slope: ten times the bid multiplies the odds of a win by 1.26. Below it, the bid would be nearly
/// nothing.
pub const SLOPE_MIN: f64 = 0.1;
/// The maximum slope: 3 % more than the bid that wins half of the auctions wins 72 %. Known floors are as steep.
/// Nothing is steeper than the buckets of [`Notices`], which are 6 to 12 % wide.
pub const SLOPE_MAX: f64 = 32.0;
/// The largest intercept that bids in millionths need: `SLOPE_MAX · ln 2⁶³`, rounded up.
const INTERCEPT_MAX: f64 = 1_400.0;
/// The significant bits of a bid, so that neighbours are 0.006 to 0.012 % apart. This costs at most 10⁻⁵ of the surplus
/// at the steepest slope, and keeps neighbours distinguishable in spite of rounding, which monotone bids depend on.
const BITS: u32 = 14;
/// Halley's method stops at a step of `ln bid` that moves the log odds by about this much. Another step would move the
/// bid by at most 2 · 10⁻⁷.
const STEP_MIN: f64 = 2e-2;
/// Its result is trusted if it is further than this share of the bid from a neighbour: a fiftieth of their distance.
/// Closer to one, neighbours are compared.
const TRUSTED: f64 = 1e-6;
/// It takes 2 to 4 steps. This bounds it for extreme models.
const STEPS_MAX: u32 = 50;

/// The probability of a win by bid, at one place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WinRate {
    /// `a`, for bids in millionths per thousand impressions.
    pub intercept: f64,
    /// `w`, [`SLOPE_MIN`] to [`SLOPE_MAX`].
    pub slope: f64,
    /// The lowest bid that the notices cover. A shaded bid stays above, because the curve below is a guess.
    pub lowest: Cpm,
}

/// A shaded bid.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shaded {
    /// The bid.
    pub bid: Cpm,
    /// The probability that it wins.
    pub probability: f64,
}

impl WinRate {
    /// Checks a model that was read from outside. `None` if it is not finite or its slope is out of range.
    pub fn new(intercept: f64, slope: f64, lowest: Cpm) -> Option<Self> {
        let fits = intercept.abs() <= INTERCEPT_MAX && (SLOPE_MIN..=SLOPE_MAX).contains(&slope);
        fits.then_some(Self { intercept, slope, lowest })
    }

    /// The probability that a bid wins; 0 unless the bid is above 0.
    pub fn probability(&self, bid: Cpm) -> f64 {
        if bid.0 <= 0 {
            return 0.0;
        }
        1.0 / (1.0 + (-self.log_odds(bid)).exp())
    }

    /// The bid with the highest expected surplus between the floor and the value, and its probability of a win. It is
    /// at most 0.02 %, or a millionth, below the exact optimum.
    ///
    /// `None`, which means no bid, if the value is below the floor or not above 0. A negative floor counts as none.
    /// Allocates nothing.
    pub fn shade(&self, value: Cpm, floor: Cpm) -> Option<Shaded> {
        if value.0 <= 0 || value < floor {
            return None;
        }
        // The surplus has one maximum and falls on both sides of it, so the best allowed bid is the one nearest to it.
        let bid = self.best(value).max(self.lowest).max(floor).max(Cpm(1)).min(value);
        Some(Shaded { bid, probability: self.probability(bid) })
    }

    fn log_odds(&self, bid: Cpm) -> f64 {
        self.intercept + self.slope * (bid.0 as f64).ln()
    }

    /// The value for which a bid is optimal: where the derivative of the surplus is zero,
    /// `value = bid + bid · (1 + odds) / w`. It grows with the bid.
    fn value_of(&self, bid: i64) -> f64 {
        let bid_units = bid as f64;
        bid_units + bid_units * (1.0 + self.log_odds(Cpm(bid)).exp()) / self.slope
    }

    /// The highest bid of [`BITS`] bits whose [`WinRate::value_of`] is not above the value, or 0 if there is none.
    ///
    /// Monotone in the value, because the comparison is monotone for each bid: rounding cannot swap two values. If the
    /// approximation lies well between two neighbours, it gives the same answer and saves the comparisons.
    fn best(&self, value: Cpm) -> Cpm {
        let units = value.0 as f64;
        let near = self.approximate(units);
        let mut bid = round_down(near as i64);
        let margin = near * TRUSTED;
        // A bid of a few millionths has no room between its neighbours.
        if bid >= 1 << BITS && near - bid as f64 > margin && above(bid) as f64 - near > margin {
            return Cpm(bid);
        }
        while bid > 0 && self.value_of(bid) > units {
            bid = below(bid);
        }
        // A bid above the value has a `value_of` above the value, so the loop ends.
        while self.value_of(above(bid)) <= units {
            bid = above(bid);
        }
        Cpm(bid)
    }

    /// The optimal bid, to within far less than [`TRUSTED`].
    ///
    /// Solves `ln(w (value / bid − 1)) = ln(1 + odds)` for `y = ln bid`. The difference of both sides is decreasing and
    /// concave, so Newton's and Halley's methods descend to its zero from above.
    fn approximate(&self, value: f64) -> f64 {
        let slope = self.slope;
        // Two upper bounds: the odds are above zero, and `1 + odds` is above the odds.
        let by_slope = (value * slope / (1.0 + slope)).ln();
        let by_odds = (by_slope + (1.0 + slope).ln() - self.intercept) / (1.0 + slope);
        let mut y = by_slope.min(by_odds);
        for _ in 0..STEPS_MAX {
            // Less than a millionth is no bid, and the markup might overflow a float.
            if y < 0.0 {
                return 0.0;
            }
            let bid = y.exp();
            let ratio = value / bid;
            let markup = ratio - 1.0;
            let log_odds = self.intercept + slope * y;
            // Beyond this, one is negligible next to the odds, which might overflow a float.
            let (rest, probability) = if log_odds > 40.0 {
                ((slope * markup).ln() - log_odds, 1.0)
            } else {
                let odds = log_odds.exp();
                ((slope * markup / (1.0 + odds)).ln(), odds / (1.0 + odds))
            };
            let falls = ratio / markup + slope * probability;
            let bends = ratio / (markup * markup) + slope * slope * probability * (1.0 - probability);
            let newton = rest / falls;
            // Halley's correction, limited so that it cannot reverse the step.
            let step = newton / (1.0 + newton * bends / (2.0 * falls)).max(0.5);
            if step.abs() * (1.0 + slope) < STEP_MIN {
                // The exponential of a small step, exact to 10⁻¹¹.
                return bid * (1.0 + step * (1.0 + step / 2.0 * (1.0 + step / 3.0)));
            }
            y += step;
        }
        y.exp()
    }
}

/// The distance between neighbouring bids.
fn spacing(bid: i64) -> i64 {
    1 << (i64::BITS - bid.leading_zeros()).saturating_sub(BITS)
}

fn round_down(bid: i64) -> i64 {
    bid - bid % spacing(bid)
}

fn above(bid: i64) -> i64 {
    bid.saturating_add(spacing(bid))
}

fn below(bid: i64) -> i64 {
    // The neighbour below a power of two is as close as those below it are to each other.
    bid - spacing(bid - 1)
}
