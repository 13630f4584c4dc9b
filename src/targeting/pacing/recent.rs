//! Recent passes that are not settled, and the cost of a pass.
//!
//! A pass costs nothing at first. Most never cost anything, some do minutes later. Passes and their costs are therefore
//! kept by decision time until they are settled. The cost of a pass is only taken from settled passes, because the
//! others look too cheap.
//!
//! Guarantees: amounts are whole numbers until they are settled, and settling only depends on time, so the order of
//! observations does not matter. Limits: at most [`INTERVALS_MAX`] intervals.

use super::{super::money::Micros, DEARER, RESERVE_SD, Timing};

/// The number of intervals until a pass is settled.
const INTERVALS: i64 = 16;
/// The maximum number of intervals kept: the unsettled ones, and as many for times ahead of the last rate.
const INTERVALS_MAX: usize = 2 * INTERVALS as usize + 2;
/// The half-life of settled passes, so that their cost follows the day.
const HALF_LIFE_MS: f64 = 20.0 * 60.0 * 1_000.0;
/// The previously known cost has the weight of this many passes, so it prevails while fewer have settled.
const PASSES: f64 = 50.0;

/// The decisions of a short time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interval {
    /// Its start, in Unix time.
    pub start_ms: i64,
    /// The decisions that passed.
    pub passed: u64,
    /// What they have cost so far.
    pub spent: Micros,
}

impl Interval {
    fn add(&mut self, passed: u64, spent: Micros) {
        self.passed = self.passed.saturating_add(passed);
        self.spent = self.spent.plus(spent);
    }

    /// The expected costs still to come.
    pub(super) fn expected(&self, cost: f64) -> f64 {
        (cost * self.passed as f64 - self.spent.0 as f64).max(0.0)
    }

    /// The reserve for costs still to come, in case passes have become more expensive and luck is bad. Costs come in
    /// lumps of up to `cost_max`, so the variance of their sum is at most its mean times `cost_max` (a compound Poisson
    /// sum).
    pub(super) fn reserve(&self, cost: f64, cost_max: f64) -> f64 {
        let so_far = self.spent.0 as f64 / self.passed.max(1) as f64;
        let dear = (cost * DEARER).max(so_far).min(cost_max.max(so_far));
        let expected = self.expected(dear);
        // At most, every pass costs the maximum.
        let most = (cost_max * self.passed as f64 - self.spent.0 as f64).max(0.0);
        (expected + RESERVE_SD * (expected * cost_max).sqrt()).min(most)
    }
}

/// Passes and costs by time of decision.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recent {
    /// Unsettled intervals, oldest first.
    pub intervals: Vec<Interval>,
    /// Passes that found no room since the last settling. They are settled with the next one.
    pub late: Interval,
    /// Settled passes, faded.
    pub passed: f64,
    /// What they cost.
    pub spent: f64,
    /// All settled passes.
    pub passed_ever: u64,
    /// What they cost.
    pub spent_ever: Micros,
}

impl Recent {
    /// Adds passes and costs of decisions at a moment.
    pub(super) fn add(&mut self, timing: &Timing, at_ms: i64, passed: u64, spent: Micros) {
        let width = width(timing);
        let start_ms = at_ms.div_euclid(width) * width;
        match self.intervals.binary_search_by_key(&start_ms, |interval| interval.start_ms) {
            Ok(found) => self.intervals[found].add(passed, spent),
            Err(place) => {
                self.intervals.insert(place, Interval { start_ms, passed, spent });
                if self.intervals.len() > INTERVALS_MAX {
                    // Without a rate for long: the oldest are settled early.
                    let oldest = self.intervals.remove(0);
                    self.late.add(oldest.passed, oldest.spent);
                }
            }
        }
    }

    /// Settles what was decided long enough ago.
    pub(super) fn settle(&mut self, timing: &Timing, now_ms: i64) {
        let width = width(timing);
        let until = (now_ms - i64::from(timing.settle_ms)).div_euclid(width) * width;
        let old = self.intervals.partition_point(|interval| interval.start_ms < until);
        let mut settled = std::mem::take(&mut self.late);
        for interval in self.intervals.drain(..old) {
            settled.add(interval.passed, interval.spent);
        }
        if settled.passed > 0 || settled.spent > Micros::ZERO {
            // Fades by the time that was settled, and not through a night without passes.
            let fade = (-(width * old as i64) as f64 / HALF_LIFE_MS).exp2();
            self.passed = self.passed * fade + settled.passed as f64;
            self.spent = self.spent * fade + settled.spent.0 as f64;
            self.passed_ever = self.passed_ever.saturating_add(settled.passed);
            self.spent_ever = self.spent_ever.plus(settled.spent);
        }
    }

    /// What is not settled of decisions since a moment.
    pub(super) fn unsettled(&self, from_ms: i64) -> Interval {
        let mut sum = Interval::default();
        for interval in self.intervals.iter().filter(|interval| interval.start_ms >= from_ms) {
            sum.add(interval.passed, interval.spent);
        }
        sum
    }

    /// The average cost of a pass: that of recently settled passes. With few of those, that of all settled passes, and
    /// with few of those, the maximum. If the unsettled passes have already cost more on average, passes have become
    /// more expensive, and their average is the lower bound.
    pub(super) fn cost(&self, cost_max: f64) -> f64 {
        let ever = (self.spent_ever.0 as f64 + PASSES * cost_max) / (self.passed_ever as f64 + PASSES);
        let settled = (self.spent + PASSES * ever) / (self.passed + PASSES);
        let all = self.unsettled(i64::MIN);
        let so_far = all.spent.0 as f64 / all.passed.max(1) as f64;
        if all.passed as f64 >= PASSES { settled.max(so_far) } else { settled }
    }
}

fn width(timing: &Timing) -> i64 {
    (i64::from(timing.settle_ms) / INTERVALS).max(1)
}
