//! What passed lately and is not settled, and what passes cost.
//!
//! A pass costs nothing at first; most never cost anything, some do minutes later. So passes and their costs are kept by the time of the
//! decision until they are settled. Only settled ones tell what a pass costs: the others look too cheap.
//!
//! Guarantees: whole numbers up to the moment of settling, which goes by time; the order of observations changes nothing. Limits: at most
//! [`INTERVALS_MAX`] intervals.

use super::{super::money::Micros, DEARER, RESERVE_SD, Timing};

/// Intervals in the time until a pass is settled.
const INTERVALS: i64 = 16;
/// The most that are kept: those that are not settled, and as many for moments ahead of the last rate.
const INTERVALS_MAX: usize = 2 * INTERVALS as usize + 2;
/// Settled passes fade by half in this time, so that the cost of a pass follows the day.
const HALF_LIFE_MS: f64 = 20.0 * 60.0 * 1_000.0;
/// Passes that the cost known before counts for: with fewer settled ones it prevails.
const PASSES: f64 = 50.0;

/// What was decided in a short time.
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

    /// What is still to come, as far as is expected.
    pub(super) fn expected(&self, cost: f64) -> f64 {
        (cost * self.passed as f64 - self.spent.0 as f64).max(0.0)
    }

    /// What is held back for what may still come: as if passes had become dearer, and luck were bad. Costs come in lumps of up to
    /// `cost_max`, hence their sum has a variance of at most its mean times that (a compound Poisson sum).
    pub(super) fn reserve(&self, cost: f64, cost_max: f64) -> f64 {
        let so_far = self.spent.0 as f64 / self.passed.max(1) as f64;
        let dear = (cost * DEARER).max(so_far).min(cost_max.max(so_far));
        let expected = self.expected(dear);
        // No more than each pass at its most.
        let most = (cost_max * self.passed as f64 - self.spent.0 as f64).max(0.0);
        (expected + RESERVE_SD * (expected * cost_max).sqrt()).min(most)
    }
}

/// Passes and costs by time of decision.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recent {
    /// What is not settled, oldest first.
    pub intervals: Vec<Interval>,
    /// What there was no room for since the last settling, and is settled with the next.
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

    /// What a pass costs on average: as settled ones lately did. With few of those, as all settled ones did; with few of those, the most.
    /// If those that are not settled have already cost more, passes have become dearer, and what these have cost is the least.
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
