//! Rates and money of campaigns.
//!
//! Owns counts that add up, and the ratios between them. Money is integer micros of one currency (1 unit = 1,000,000
//! micros); whoever joins outcomes to decisions converts or refuses other currencies. Guarantees: adding in any order
//! gives the same counts, and a sum that does not fit is an error, not a wrong number. A ratio whose divisor is 0 is
//! `None`.
//!
//! | Figure | Formula |
//! |---|---|
//! | win rate | wins / bids |
//! | CTR, CVR | clicks / impressions, conversions / clicks; Wilson's interval |
//! | eCPM | 1000 · spend / impressions |
//! | CPC, CPA | spend / clicks, spend / conversions |
//! | ROAS | revenue / spend |

use super::interval::{Confidence, Interval, wilson};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Under so many successes a rate says little (see [`Rate::is_thin`]).
const THIN: u64 = 30;

/// A sum does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("add to {figure}: the sum does not fit into 64 bits")]
pub struct Overflow {
    /// The name of the count or sum.
    pub figure: &'static str,
}

/// What happened, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Counts {
    /// Bids placed.
    pub bids: u64,
    /// Auctions won.
    pub wins: u64,
    /// Impressions shown.
    pub impressions: u64,
    /// Clicks.
    pub clicks: u64,
    /// Conversions.
    pub conversions: u64,
    /// What was paid, in micros.
    pub spend_micros: i64,
    /// What conversions brought, in micros. Refunds lower it.
    pub revenue_micros: i64,
}

impl Counts {
    /// Adds the counts of another.
    ///
    /// # Errors
    ///
    /// If a sum does not fit. Then nothing was added.
    pub fn merge(&mut self, other: &Self) -> Result<(), Overflow> {
        let count = |figure, a: u64, b: u64| a.checked_add(b).ok_or(Overflow { figure });
        let money = |figure, a: i64, b: i64| a.checked_add(b).ok_or(Overflow { figure });
        *self = Self {
            bids: count("bids", self.bids, other.bids)?,
            wins: count("wins", self.wins, other.wins)?,
            impressions: count("impressions", self.impressions, other.impressions)?,
            clicks: count("clicks", self.clicks, other.clicks)?,
            conversions: count("conversions", self.conversions, other.conversions)?,
            spend_micros: money("spend", self.spend_micros, other.spend_micros)?,
            revenue_micros: money("revenue", self.revenue_micros, other.revenue_micros)?,
        };
        Ok(())
    }

    /// All ratios.
    pub fn figures(&self, confidence: Confidence) -> Business {
        Business {
            win_rate: Rate::new(self.wins, self.bids, confidence),
            click_rate: Rate::new(self.clicks, self.impressions, confidence),
            conversion_rate: Rate::new(self.conversions, self.clicks, confidence),
            ecpm_micros: ratio(self.spend_micros, 1_000, self.impressions),
            cpc_micros: ratio(self.spend_micros, 1, self.clicks),
            cpa_micros: ratio(self.spend_micros, 1, self.conversions),
            roas: (self.spend_micros != 0).then(|| self.revenue_micros as f64 / self.spend_micros as f64),
        }
    }
}

/// `money · times / of`, rounded to the nearest micro, halves away from 0. `None` if `of` is 0 or the result does not
/// fit.
fn ratio(money: i64, times: i128, of: u64) -> Option<i64> {
    let (money, of) = (i128::from(money) * times, i128::from(of));
    if of == 0 {
        return None;
    }
    let rounded = (2 * money.abs() + of) / (2 * of);
    i64::try_from(rounded * money.signum()).ok()
}

/// A rate with its interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Rate {
    /// Successes.
    pub count: u64,
    /// Trials.
    pub of: u64,
    /// `count / of`
    pub value: f64,
    /// Wilson's interval.
    pub interval: Interval,
    /// Whether there are fewer than 30 successes, so that the rate must not be shown without its interval.
    pub is_thin: bool,
}

impl Rate {
    /// `None` if there are no trials, or more successes than trials: several clicks on one impression are no rate.
    pub fn new(count: u64, of: u64, confidence: Confidence) -> Option<Self> {
        let interval = wilson(count, of, confidence)?;
        Some(Self { count, of, value: count as f64 / of as f64, interval, is_thin: count < THIN })
    }
}

/// Ratios of [`Counts`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Business {
    /// Wins per bid.
    pub win_rate: Option<Rate>,
    /// CTR: clicks per impression.
    pub click_rate: Option<Rate>,
    /// CVR: conversions per click. `None` if view-through conversions outnumber clicks.
    pub conversion_rate: Option<Rate>,
    /// What a thousand impressions cost, in micros.
    pub ecpm_micros: Option<i64>,
    /// What a click cost, in micros.
    pub cpc_micros: Option<i64>,
    /// What a conversion cost, in micros.
    pub cpa_micros: Option<i64>,
    /// Revenue per spend; negative if refunds outweigh it.
    pub roas: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const COUNTS: Counts = Counts {
        bids: 40_000,
        wins: 10_000,
        impressions: 9_000,
        clicks: 90,
        conversions: 9,
        spend_micros: 18_000_000,
        revenue_micros: 63_000_000,
    };

    #[test]
    fn the_figures_of_a_campaign_match_a_calculation_by_hand() {
        let found = COUNTS.figures(Confidence::P95);
        assert_eq!(found.win_rate.map(|it| (it.value, it.is_thin)), Some((0.25, false)));
        assert_eq!(found.click_rate.map(|it| it.value), Some(0.01));
        assert_eq!(found.conversion_rate.map(|it| (it.value, it.is_thin)), Some((0.1, true)));
        assert_eq!(found.ecpm_micros, Some(2_000_000));
        assert_eq!(found.cpc_micros, Some(200_000));
        assert_eq!(found.cpa_micros, Some(2_000_000));
        assert_eq!(found.roas, Some(3.5));
    }

    #[test]
    fn ratios_round_to_the_nearest_micro_halves_away_from_0() {
        assert_eq!(ratio(5, 1, 2), Some(3));
        assert_eq!(ratio(-5, 1, 2), Some(-3));
        assert_eq!(ratio(4, 1, 3), Some(1));
        assert_eq!(ratio(5, 1, 3), Some(2));
        assert_eq!(ratio(0, 1_000, 7), Some(0));
        assert_eq!(ratio(i64::MIN, 1, 1), Some(i64::MIN));
    }

    #[test]
    fn nothing_counted_has_no_ratios_and_too_much_is_an_error() {
        let none = Counts::default().figures(Confidence::P95);
        assert_eq!((none.win_rate, none.click_rate, none.conversion_rate), (None, None, None));
        assert_eq!((none.ecpm_micros, none.cpc_micros, none.cpa_micros, none.roas), (None, None, None, None));
        // Ten clicks on one impression, and a price that does not fit.
        let odd = Counts { impressions: 1, clicks: 10, spend_micros: i64::MAX, ..Counts::default() };
        assert_eq!(odd.figures(Confidence::P95).click_rate, None);
        assert_eq!(odd.figures(Confidence::P95).ecpm_micros, None);
        let mut full = Counts { bids: 1, spend_micros: i64::MAX, ..Counts::default() };
        let before = full;
        let error = full.merge(&Counts { bids: 1, spend_micros: 1, ..Counts::default() });
        assert_eq!((error, full), (Err(Overflow { figure: "spend" }), before));
        let mut full = Counts { clicks: u64::MAX, ..Counts::default() };
        assert_eq!(full.merge(&COUNTS), Err(Overflow { figure: "clicks" }));
    }

    proptest! {
        #[test]
        fn any_counts_have_finite_ratios(bids: u64, wins: u64, impressions: u64, clicks: u64, conversions: u64,
                                         spend_micros: i64, revenue_micros: i64) {
            let counts = Counts { bids, wins, impressions, clicks, conversions, spend_micros, revenue_micros };
            let found = counts.figures(Confidence::P99);
            for rate in [found.win_rate, found.click_rate, found.conversion_rate].into_iter().flatten() {
                prop_assert!(rate.interval.covers(rate.value) && rate.interval.low >= 0.0 && rate.interval.high <= 1.0);
            }
            prop_assert!(found.roas.is_none_or(f64::is_finite));
        }
    }
}
