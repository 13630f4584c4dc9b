//! The fit of win rates to notices.
//!
//! Owns a maximum a posteriori estimate in three levels: all notices, those of a campaign, and those of one of its
//! placements. Each level is a logistic regression on `ln bid` whose prior is the level above: the more notices, the
//! further it may move away. If the lowest winning bid `m` of an auction is known, the whole distribution counts, with
//! the density `w p (1 − p)` at `ln m`. Other auctions count as a win or a loss, which is the likelihood of a censored
//! sample (Tobin 1958; Kalbfleisch and Prentice 2002, 3.2).
//!
//! Guarantees: the posterior is concave, so there is exactly one estimate. Sums run in the order of the buckets.
//! Limits: a level with fewer than [`NOTICES_MIN`] notices is skipped in favour of the level above. The top level needs
//! [`BOTH_MIN`] wins and as many losses.

use super::{
    INTERCEPT_MAX, SLOPE_MAX, SLOPE_MIN, WinRate,
    notices::{Counts, Histogram, NOTICE, Notice, Notices, edge, log_middle},
};
use std::collections::BTreeMap;

/// The minimum number of notices for a campaign or a placement to have its own model. With fewer, it would hardly
/// differ from the level above.
pub const NOTICES_MIN: u64 = 50;
/// The minimum number of wins and of losses overall. From only one kind, the model would conclude that every bid wins,
/// or none.
pub const BOTH_MIN: u64 = 20;

/// The slope before any notice: a 10 % higher bid gives 21 % more odds. Weak: its standard deviation is as large.
const SLOPE_FIRST: f64 = 2.0;
/// Before any notice, the log odds at the middle of all bids are 0 with this standard deviation: 5 to 95 %.
const LEVEL_FIRST_SD: f64 = 3.0;
/// The standard deviation of a campaign's log odds around those of all, and of a placement's around the campaign's: a
/// factor of 2.7 in the odds.
const LEVEL_SD: f64 = 1.0;
/// The same for the slope, as a share of the slope above.
const SLOPE_SD: f64 = 0.5;
/// One in this many notices lies below the lowest bid that a model covers.
const LOWEST_SHARE: u64 = 100;
/// Newton's method takes 5 to 10 steps.
const STEPS_MAX: u32 = 60;

/// The learned win rates, as the policy carries them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WinRates {
    /// The win rate of all notices.
    pub all: Option<WinRate>,
    /// The win rates of the campaigns with enough notices.
    pub campaigns: BTreeMap<String, CampaignRates>,
}

/// The win rates of a campaign.
#[derive(Clone, Debug, PartialEq)]
pub struct CampaignRates {
    /// The win rate of all its notices.
    pub all: WinRate,
    /// The win rates of its placements with enough notices.
    pub placements: BTreeMap<String, WinRate>,
}

impl WinRates {
    /// The win rate to shade with: the placement's, else the campaign's, else that of all notices. `None` if there is
    /// none: the bid is then the value. Allocates nothing.
    pub fn of(&self, campaign: &str, placement: Option<&str>) -> Option<&WinRate> {
        let Some(rates) = self.campaigns.get(campaign) else { return self.all.as_ref() };
        Some(placement.and_then(|placement| rates.placements.get(placement)).unwrap_or(&rates.all))
    }
}

/// Counts notices and fits win rates to them. Notices that [`Notices::observe`] refuses are skipped.
pub fn fit(notices: &[Notice<'_>]) -> WinRates {
    let mut kept = Notices::default();
    for notice in notices {
        kept.observe(notice).ok();
    }
    kept.fit()
}

impl Notices {
    /// Fits the win rates to the kept notices.
    pub fn fit(&self) -> WinRates {
        let merged = |histograms: &mut dyn Iterator<Item = &Histogram>| {
            let mut sum = Histogram::default();
            histograms.for_each(|histogram| sum.add(histogram));
            sum
        };
        let campaigns: BTreeMap<&String, Histogram> =
            self.campaigns.iter().map(|(id, it)| (id, merged(&mut it.placements.values()))).collect();
        let all = merged(&mut campaigns.values());
        let Some(top) = top(&all) else { return WinRates::default() };
        let mut rates = WinRates { all: Some(top.rate(&all)), campaigns: BTreeMap::new() };
        for (id, sum) in campaigns.into_iter().filter(|(_, sum)| enough(sum)) {
            let line = below(top, &sum);
            let of_placement = |(name, histogram): (&String, &Histogram)| {
                let known = !name.is_empty() && enough(histogram);
                known.then(|| (name.clone(), below(line, histogram).rate(histogram)))
            };
            let placements = self.campaigns[id].placements.iter().filter_map(of_placement).collect();
            rates.campaigns.insert(id.clone(), CampaignRates { all: line.rate(&sum), placements });
        }
        rates
    }
}

fn enough(histogram: &Histogram) -> bool {
    histogram.total() >= NOTICES_MIN * NOTICE
}

/// Log odds as a line in `ln bid`.
#[derive(Clone, Copy)]
struct Line {
    /// The `ln bid` that the level refers to.
    centre: f64,
    level: f64,
    slope: f64,
}

impl Line {
    fn at(self, log_bid: f64) -> f64 {
        self.level + self.slope * (log_bid - self.centre)
    }

    fn rate(self, histogram: &Histogram) -> WinRate {
        // Within its bounds even if there are only wins: the prior keeps the level within a few tens.
        let intercept = self.at(0.0).clamp(-INTERCEPT_MAX, INTERCEPT_MAX);
        WinRate { intercept, slope: self.slope, lowest: edge(lowest(histogram)) }
    }
}

/// The bucket below which a hundredth of the notices lie.
fn lowest(histogram: &Histogram) -> u16 {
    let (total, mut sum) = (histogram.total(), 0_u64);
    let reached = histogram.buckets.iter().find(|(_, counts)| {
        sum = sum.saturating_add(counts.total());
        sum > total / LOWEST_SHARE
    });
    reached.map_or(0, |(bucket, _)| *bucket)
}

/// The fit to all notices. `None` without enough wins and enough losses.
fn top(all: &Histogram) -> Option<Line> {
    let count = |of: fn(&Counts) -> u64| all.buckets.values().fold(0_u64, |sum, counts| sum.saturating_add(of(counts)));
    // A known lowest winning bid shows both which bids win and which lose.
    let wins = count(|it| it.won.saturating_add(it.threshold));
    let losses = count(|it| it.lost.saturating_add(it.threshold));
    if wins.min(losses) < BOTH_MIN * NOTICE {
        return None;
    }
    let prior = Line { centre: centre(all), level: 0.0, slope: SLOPE_FIRST };
    Some(maximise(all, prior, LEVEL_FIRST_SD, SLOPE_FIRST))
}

/// The fit to a part of the notices, with the whole as its prior. The prior is stated at the part's own middle bid,
/// where its level and its slope are nearly independent. A campaign that bids a hundred times more than the others is
/// therefore not held to their slope.
fn below(above: Line, part: &Histogram) -> Line {
    let centre = centre(part);
    let prior = Line { centre, level: above.at(centre), slope: above.slope };
    maximise(part, prior, LEVEL_SD, SLOPE_SD * above.slope)
}

/// The mean of `ln bid`.
fn centre(histogram: &Histogram) -> f64 {
    let sum: f64 = histogram.buckets.iter().map(|(bucket, counts)| log_middle(*bucket) * counts.total() as f64).sum();
    // Empty histograms were skipped before.
    sum / (histogram.total().max(1)) as f64
}

/// The log posterior at a line, its gradient, and its negated second derivatives.
#[derive(Clone, Copy)]
struct Posterior {
    height: f64,
    by_level: f64,
    by_slope: f64,
    level_level: f64,
    level_slope: f64,
    slope_slope: f64,
}

fn posterior(histogram: &Histogram, line: Line, prior: Line, level_sd: f64, slope_sd: f64) -> Posterior {
    let (level_off, slope_off) = ((line.level - prior.level) / level_sd, (line.slope - prior.slope) / slope_sd);
    let mut sum = Posterior {
        height: -(level_off * level_off + slope_off * slope_off) / 2.0,
        by_level: -level_off / level_sd,
        by_slope: -slope_off / slope_sd,
        level_level: 1.0 / (level_sd * level_sd),
        level_slope: 0.0,
        slope_slope: 1.0 / (slope_sd * slope_sd),
    };
    for (bucket, counts) in &histogram.buckets {
        let notices = |count: u64| count as f64 / NOTICE as f64;
        let (won, lost, threshold) = (notices(counts.won), notices(counts.lost), notices(counts.threshold));
        let from_centre = log_middle(*bucket) - line.centre;
        let log_odds = line.at(log_middle(*bucket));
        let probability = 1.0 / (1.0 + (-log_odds).exp());
        // ln(1 + e^z), without overflow.
        let softplus = log_odds.max(0.0) + (-log_odds.abs()).exp().ln_1p();
        // A known threshold is a win at the threshold, a loss just below it, and the slope.
        let (wins, all) = (won + threshold, won + lost + 2.0 * threshold);
        let (error, spread) = (wins - all * probability, all * probability * (1.0 - probability));
        sum.height += wins * log_odds - all * softplus + threshold * line.slope.ln();
        sum.by_level += error;
        sum.by_slope += error * from_centre + threshold / line.slope;
        sum.level_level += spread;
        sum.level_slope += spread * from_centre;
        sum.slope_slope += spread * from_centre * from_centre + threshold / (line.slope * line.slope);
    }
    sum
}

/// Newton's method with step halving, and the slope kept within its bounds (Bertsekas 1982, "Projected Newton
/// methods").
fn maximise(histogram: &Histogram, prior: Line, level_sd: f64, slope_sd: f64) -> Line {
    let at = |line: Line| posterior(histogram, line, prior, level_sd, slope_sd);
    let mut line = Line { slope: prior.slope.clamp(SLOPE_MIN, SLOPE_MAX), ..prior };
    let mut now = at(line);
    for _ in 0..STEPS_MAX {
        let pinned = line.slope <= SLOPE_MIN && now.by_slope < 0.0 || line.slope >= SLOPE_MAX && now.by_slope > 0.0;
        let (level_step, slope_step) = if pinned {
            (now.by_level / now.level_level, 0.0)
        } else {
            let determinant = now.level_level * now.slope_slope - now.level_slope * now.level_slope;
            (
                (now.slope_slope * now.by_level - now.level_slope * now.by_slope) / determinant,
                (now.level_level * now.by_slope - now.level_slope * now.by_level) / determinant,
            )
        };
        let mut size = 1.0;
        let next = loop {
            let level = line.level + size * level_step;
            let slope = (line.slope + size * slope_step).clamp(SLOPE_MIN, SLOPE_MAX);
            let next = Line { level, slope, ..line };
            let there = at(next);
            if there.height > now.height {
                break Some((next, there));
            }
            size /= 2.0;
            if size < 1e-6 {
                break None;
            }
        };
        // Nothing is higher along the way, so this is the maximum, up to rounding.
        let Some((next, there)) = next else { break };
        let moved = (next.level - line.level).abs().max((next.slope - line.slope).abs());
        (line, now) = (next, there);
        if moved < 1e-10 {
            break;
        }
    }
    line
}
