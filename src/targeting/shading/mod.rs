//! Bid shading: how far below its value to bid in a first-price auction.
//!
//! Owns the win-rate model, the bid made from it ([`WinRate::shade`], for the worker), what is kept of notices ([`Notices`]) and the fit
//! ([`Notices::fit`], both for control). The probability of a win is logistic in the logarithm of the bid,
//!
//! ```text
//! P(win | bid) = 1 / (1 + e^-(a + w · ln bid)),  w > 0,
//! ```
//!
//! and the shaded bid maximises the expected surplus `(value − bid) · P(win | bid)` (Pan et al. 2020, "Bid Shading by Win-Rate
//! Estimation and Surplus Maximization").
//!
//! Guarantees: a bid is never above the value and never below the floor; a higher value never gives a lower bid, nor a higher floor; it
//! is finite whatever the model. A model depends on the kept notices alone, not on the order in which they came or were merged. Without
//! enough notices there is no model, and the bid is the value.
//!
//! Limits: one [`Notices`] holds one currency, [`notices::PAIRS_MAX`] pairs of campaign and placement, and 9 kB for each at the very most
//! (about 2 kB in a usual market). [`WinRate::shade`] takes about 0.2 µs and allocates nothing. Leaves out the time of day and seasons, and
//! second-price auctions (`at = 2` in OpenRTB), where the best bid is the value: its caller does not shade there.

mod fit;
mod notices;
#[cfg(test)]
mod tests;

pub use fit::{BOTH_MIN, CampaignRates, NOTICES_MIN, WinRates, fit};
pub use notices::{Campaign, Counts, Histogram, Notice, Notices, PAIRS_MAX, Refusal};

use super::money::Cpm;

/// The gentlest slope: ten times the bid multiplies the odds of a win by 1.26. Below it, nearly nothing would be bid.
pub const SLOPE_MIN: f64 = 0.1;
/// The steepest slope: 3 % more than the bid that wins half of the auctions wins 72 %. Known floors are as steep; nothing is steeper
/// than the buckets of [`Notices`], which are 6 to 12 % wide.
pub const SLOPE_MAX: f64 = 32.0;
/// The largest intercept that a bid in millionths needs: `SLOPE_MAX · ln 2⁶³`, rounded up.
const INTERCEPT_MAX: f64 = 1_400.0;
/// Bids have so many significant bits, so that neighbours lie 0.006 to 0.012 % apart. This costs at most 10⁻⁵ of the surplus at the
/// steepest slope, and lets neighbours be told apart in spite of rounding: monotone bids rest on it.
const BITS: u32 = 14;
/// Halley's method stops at a step of `ln bid` that moves the log odds by about this much: a next one would move the bid by 2 · 10⁻⁷ at most.
const STEP_MIN: f64 = 2e-2;
/// What it finds is trusted beyond this share of the bid, a fiftieth of the distance of neighbours; nearer to one, they are compared.
const TRUSTED: f64 = 1e-6;
/// It takes 2 to 4 steps; a bound in case of a model beyond all reason.
const STEPS_MAX: u32 = 50;

/// The probability of a win by bid, at one place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WinRate {
    /// `a`, for bids in millionths per thousand impressions.
    pub intercept: f64,
    /// `w`, [`SLOPE_MIN`] to [`SLOPE_MAX`].
    pub slope: f64,
    /// The lowest bid of which the notices tell anything. A shaded bid stays above, because the curve below is a guess.
    pub lowest: Cpm,
}

/// A shaded bid.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shaded {
    /// What to bid.
    pub bid: Cpm,
    /// The probability that it wins.
    pub probability: f64,
}

impl WinRate {
    /// Checks a model that was read from somewhere: `None` if it is not finite, or the slope is out of its range.
    pub fn new(intercept: f64, slope: f64, lowest: Cpm) -> Option<Self> {
        let fits = intercept.abs() <= INTERCEPT_MAX && (SLOPE_MIN..=SLOPE_MAX).contains(&slope);
        fits.then_some(Self { intercept, slope, lowest })
    }

    /// The probability that a bid wins; 0 for one of nothing or less.
    pub fn probability(&self, bid: Cpm) -> f64 {
        if bid.0 <= 0 {
            return 0.0;
        }
        1.0 / (1.0 + (-self.log_odds(bid)).exp())
    }

    /// The bid of the highest expected surplus between the floor and the value, and its probability of a win: at most 0.02 %, or a
    /// millionth, below the very best.
    ///
    /// `None`, which is no bid, for a value below the floor or of nothing. A negative floor is none. Allocates nothing.
    pub fn shade(&self, value: Cpm, floor: Cpm) -> Option<Shaded> {
        if value.0 <= 0 || value < floor {
            return None;
        }
        // The surplus has one maximum and falls on both sides of it, so that the best allowed bid is the nearest to it.
        let bid = self.best(value).max(self.lowest).max(floor).max(Cpm(1)).min(value);
        Some(Shaded { bid, probability: self.probability(bid) })
    }

    fn log_odds(&self, bid: Cpm) -> f64 {
        self.intercept + self.slope * (bid.0 as f64).ln()
    }

    /// The value at which a bid is the best one: where the derivative of the surplus is zero, `value = bid + bid · (1 + odds) / w`. It
    /// grows with the bid.
    fn value_of(&self, bid: i64) -> f64 {
        let bid_units = bid as f64;
        bid_units + bid_units * (1.0 + self.log_odds(Cpm(bid)).exp()) / self.slope
    }

    /// The highest bid of [`BITS`] whose [`WinRate::value_of`] is not above the value: 0 if there is none.
    ///
    /// Monotone in the value, because for each bid the comparison is: two values cannot be told apart the wrong way round. Where the
    /// approximation lies well between two neighbours it has the same answer, and the comparisons are saved.
    fn best(&self, value: Cpm) -> Cpm {
        let units = value.0 as f64;
        let near = self.approximate(units);
        let mut bid = round_down(near as i64);
        let margin = near * TRUSTED;
        // A bid of few millionths is all edges.
        if bid >= 1 << BITS && near - bid as f64 > margin && above(bid) as f64 - near > margin {
            return Cpm(bid);
        }
        while bid > 0 && self.value_of(bid) > units {
            bid = below(bid);
        }
        // A bid above the value is worth more than the value: this ends.
        while self.value_of(above(bid)) <= units {
            bid = above(bid);
        }
        Cpm(bid)
    }

    /// The best bid, to within far less than [`TRUSTED`].
    ///
    /// Solves `ln(w (value / bid − 1)) = ln(1 + odds)` for `y = ln bid`. The difference of both sides falls and is concave, so that the
    /// methods of Newton and Halley come down to its zero from above.
    fn approximate(&self, value: f64) -> f64 {
        let slope = self.slope;
        // Two bounds from above: the odds are more than zero, and `1 + odds` more than the odds.
        let by_slope = (value * slope / (1.0 + slope)).ln();
        let by_odds = (by_slope + (1.0 + slope).ln() - self.intercept) / (1.0 + slope);
        let mut y = by_slope.min(by_odds);
        for _ in 0..STEPS_MAX {
            // Less than a millionth is no bid, and the markup might be too large for a float.
            if y < 0.0 {
                return 0.0;
            }
            let bid = y.exp();
            let ratio = value / bid;
            let markup = ratio - 1.0;
            let log_odds = self.intercept + slope * y;
            // Beyond, one is nothing beside the odds, and they may be too large for a float.
            let (rest, probability) = if log_odds > 40.0 {
                ((slope * markup).ln() - log_odds, 1.0)
            } else {
                let odds = log_odds.exp();
                ((slope * markup / (1.0 + odds)).ln(), odds / (1.0 + odds))
            };
            let falls = ratio / markup + slope * probability;
            let bends = ratio / (markup * markup) + slope * slope * probability * (1.0 - probability);
            let newton = rest / falls;
            // Halley's correction, held where it would turn the step round.
            let step = newton / (1.0 + newton * bends / (2.0 * falls)).max(0.5);
            if step.abs() * (1.0 + slope) < STEP_MIN {
                // The exponential of a small step, to 10⁻¹¹.
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
    // The neighbour of a power of two is as far as those below it are apart.
    bid - spacing(bid - 1)
}
