//! Budgets and pacing: the share of its decisions in which a campaign may take part.
//!
//! Owns control's state of a campaign's spend and traffic ([`Pacer`]), the pass-through rate that it publishes
//! ([`PassThrough`]) and a worker's draw against the rate ([`passes`]). The rate throttles participation and does not
//! change the bid (Agarwal et al. 2014, "Budget Pacing for Targeted Online Advertisements at LinkedIn"; Xu et al. 2015,
//! "Smart Pacing for Effective Online Ad Campaign Optimization").
//!
//! A rate is computed from what is known, not by small steps up and down. The plan gives the amount to spend within the
//! horizon. Traffic and the cost of a pass give what the horizon would cost without throttling. Passes without a result
//! yet count as spent, at the past cost of a pass. In the mode `traffic`, the plan follows the traffic of earlier days.
//! On the first day, and until one whole day has been seen, it is a straight line, as in `even`.
//!
//! Guarantees:
//! - **Budget.** Once spend and reserve reach the budget, the rate is zero. The spend of a day, and of all days,
//!   therefore exceeds its budget by at most the cost of what passed in one policy interval: between control's last
//!   look and the moment when the last worker has taken the new rate and its counts are back (`interval_ms + lag_ms`).
//!   The reserve covers older passes unless the cost of a pass rises by more than a quarter, plus three standard
//!   deviations, within `settle_ms`. Even if it does, the excess is bounded by what passed within
//!   `settle_ms + interval_ms + lag_ms`. Costs that arrive later than `settle_ms` come on top. - **Pure fold.** A state
//!   depends only on the calls, so a replay from a committed state ends in the same state, bit for bit. Between two
//!   rates of a day, the order of observations does not matter.
//! - **Bounded.** A [`Pacer`] holds about 4 kB, whatever the traffic.
//!
//! Limits: there is one forecast for all days of the week. A day of 92 or 100 buckets uses the forecast stretched, off
//! by an hour at worst, and the forecast does not learn from it. The caller removes duplicates, so that an outcome is
//! observed once. The age of the policy is not handled here: a worker stops by itself when its policy is too old.

mod pass;
mod recent;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

pub use pass::{PassThrough, passes};
pub use recent::{Interval, Recent};

use super::money::Micros;

/// The length of a bucket of the day.
pub const BUCKET_MS: u32 = 15 * 60 * 1_000;
/// The number of buckets of a day on which clocks do not change.
pub const BUCKETS: usize = 96;
/// The maximum number of buckets of a day, on which clocks go back by an hour.
const BUCKETS_MAX: usize = 100;
/// How far the plan looks ahead. A deficit is made up in about this time, so that 2 % of it are left after forty
/// minutes.
const HORIZON_MS: f64 = 10.0 * 60.0 * 1_000.0;
/// The rate before any traffic has been seen, when the cost of an interval is unknown.
const START: f64 = 1.0 / 64.0;
/// The time in which a newly measured traffic rate replaces the old one.
const TRAFFIC_MS: f64 = 2.0 * 60.0 * 1_000.0;
/// If a count deviates by more standard deviations than this, traffic has changed and is not just uneven.
const SURPRISE: f64 = 4.0;
/// The weight of a new day in the forecast, so that about the last five days count.
const NEW_DAY: f64 = 0.3;
/// The factor by which the cost of a pass may rise unnoticed.
const DEARER: f64 = 1.25;
/// The number of standard deviations of the open results that are held in reserve.
const RESERVE_SD: f64 = 3.0;

/// How spend is spread over a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Evenly, in a straight line.
    Even,
    /// In proportion to the traffic of earlier days.
    Traffic,
    /// As soon as possible.
    Asap,
}

/// How much a campaign may spend, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How a day's budget is spread.
    pub mode: Mode,
    /// The daily budget, if there is one.
    pub daily: Option<Micros>,
    /// The total budget, if there is one. Without a daily budget, it is spread over the remaining days.
    pub total: Option<Micros>,
    /// The number of remaining days, including this one. Without an end, or if 0, the whole total may be spent on this
    /// day.
    pub days_left: Option<u32>,
    /// The maximum cost of one impression: the ceiling of the bid. Values below a millionth count as a millionth.
    pub cost_max: Micros,
}

/// The speed of the loop from rate to spend to next rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// The longest time between two rates.
    pub interval_ms: u32,
    /// The longest time until every worker has taken a new rate and its counts have come back.
    pub lag_ms: u32,
    /// A pass without a cost after this time is considered free.
    pub settle_ms: u32,
}

/// A moment in a campaign's zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Unix time.
    pub at_ms: i64,
    /// The number of the day.
    pub day: i32,
    /// The bucket of the day: quarters of an hour since its start.
    pub bucket: u16,
    /// The number of buckets of the day: 96, or 92 or 100 when the clocks change.
    pub buckets: u16,
    /// The time since the start of the bucket.
    pub into_ms: u32,
}

impl Moment {
    fn day_ms(self) -> i64 {
        i64::from(self.bucket) * i64::from(BUCKET_MS) + i64::from(self.into_ms)
    }

    fn length_ms(self) -> i64 {
        i64::from(self.buckets.max(1)) * i64::from(BUCKET_MS)
    }
}

/// What a campaign has spent, by the days of the decisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent {
    /// By decisions of this day.
    pub today: Micros,
    /// By decisions of the previous day, which may arrive after midnight.
    pub yesterday: Micros,
    /// By decisions of all days.
    pub total: Micros,
}

impl Spent {
    /// Nothing.
    pub const NOTHING: Self = Self { today: Micros::ZERO, yesterday: Micros::ZERO, total: Micros::ZERO };
}

/// Control's state of a campaign.
#[derive(Clone, Debug, PartialEq)]
pub struct Pacer {
    /// The speed of the loop.
    pub timing: Timing,
    /// The current day. `None` before the first call.
    pub day: Option<i32>,
    /// The start of the day, in Unix time.
    pub day_start_ms: i64,
    /// How much of the day had passed when it was first seen. A campaign may start at noon.
    pub seen_from_ms: i64,
    /// What was spent.
    pub spent: Spent,
    /// Eligible decisions by bucket of this day.
    pub today: Vec<u64>,
    /// Eligible decisions by bucket, learned from earlier days. Empty until one whole day was seen.
    pub forecast: Vec<f64>,
    /// Recent passes that are not settled, and the cost of a pass.
    pub recent: Recent,
    /// Eligible decisions since the last rate.
    pub eligible: u64,
    /// Eligible decisions per millisecond. `None` before the first one.
    pub traffic: Option<f64>,
    /// When the last rate was computed, in Unix time.
    pub rated_at_ms: Option<i64>,
    /// The last rate.
    pub rate: PassThrough,
}

impl Pacer {
    /// The state of a campaign before any observation.
    pub fn new(timing: Timing) -> Self {
        Self {
            timing,
            day: None,
            day_start_ms: 0,
            seen_from_ms: 0,
            spent: Spent::NOTHING,
            today: Vec::new(),
            forecast: Vec::new(),
            recent: Recent::default(),
            eligible: 0,
            traffic: None,
            rated_at_ms: None,
            rate: PassThrough::NONE,
        }
    }

    /// Adds the cost of an impression, at the time of its decision. Ignored unless it is above 0.
    pub fn observe_spend(&mut self, decided: Moment, cost: Micros) {
        if cost <= Micros::ZERO {
            return;
        }
        self.turn(decided);
        self.spent.total = self.spent.total.plus(cost);
        match self.day.map(|day| day - decided.day) {
            Some(0) => self.spent.today = self.spent.today.plus(cost),
            Some(1) => self.spent.yesterday = self.spent.yesterday.plus(cost),
            _ => {}
        }
        self.recent.add(&self.timing, decided.at_ms, 0, cost);
    }

    /// Adds eligible decisions and how many of them passed, at the time of the decisions. `passed` is limited to
    /// `eligible`.
    pub fn observe_traffic(&mut self, decided: Moment, eligible: u64, passed: u64) {
        self.turn(decided);
        if self.day == Some(decided.day)
            && let Some(count) = self.today.get_mut(usize::from(decided.bucket))
        {
            *count = count.saturating_add(eligible);
        }
        self.eligible = self.eligible.saturating_add(eligible);
        self.recent.add(&self.timing, decided.at_ms, passed.min(eligible), Micros::ZERO);
    }

    /// The rate for the next policy interval.
    ///
    /// Without a budget, all decisions pass. With a budget of zero, or once it is spent, none pass. A time on an
    /// earlier day changes nothing and returns the last rate.
    pub fn next_rate(&mut self, terms: &Terms, now: Moment) -> PassThrough {
        if self.day.is_some_and(|day| now.day < day) {
            return self.rate;
        }
        self.turn(now);
        self.recent.settle(&self.timing, now.at_ms);
        self.measure(now.at_ms);
        self.rate = self.decide(terms, now);
        self.rate
    }

    /// The planned spend from the start of the day up to a time of the day. `None` without a budget.
    pub fn planned(&self, terms: &Terms, at: Moment) -> Option<Micros> {
        let budget = self.day_budget(terms)?;
        Some(Micros((budget.0 as f64 * self.plan(terms.mode, at, at.day_ms())) as i64))
    }

    /// The budget of this day: the daily budget or a day's share of the total, at most the rest of the total. `None`
    /// without a budget.
    pub fn day_budget(&self, terms: &Terms) -> Option<Micros> {
        let before = self.spent.total.minus(self.spent.today);
        let left = terms.total.map(|total| total.minus(before));
        let days = terms.days_left.filter(|_| terms.mode != Mode::Asap).map_or(1, |days| i64::from(days.max(1)));
        let share = terms.daily.or(left.map(|left| Micros(left.0 / days)))?;
        Some(left.map_or(share, |left| share.min(left)).max(Micros::ZERO))
    }

    /// Begins a new day, if this is one, after learning from the old one.
    fn turn(&mut self, now: Moment) {
        if self.day.is_some_and(|day| now.day <= day) {
            return;
        }
        self.learn();
        let follows = self.day.is_some_and(|day| now.day == day + 1);
        self.spent.yesterday = if follows { self.spent.today } else { Micros::ZERO };
        self.spent.today = Micros::ZERO;
        self.day = Some(now.day);
        self.day_start_ms = now.at_ms - now.day_ms();
        self.seen_from_ms = now.day_ms();
        self.today = vec![0; usize::from(now.buckets).min(BUCKETS_MAX)];
    }

    /// Adds the day to the forecast if it was seen from its first bucket on, had traffic and had the usual length.
    fn learn(&mut self) {
        let whole = self.seen_from_ms < i64::from(BUCKET_MS) && self.today.len() == BUCKETS;
        if !whole || self.today.iter().all(|count| *count == 0) {
            return;
        }
        if self.forecast.is_empty() {
            self.forecast = self.today.iter().map(|count| *count as f64).collect();
        }
        for (known, count) in self.forecast.iter_mut().zip(&self.today) {
            *known += NEW_DAY * (*count as f64 - *known);
        }
    }

    /// Updates the traffic rate.
    fn measure(&mut self, now_ms: i64) {
        let Some(before_ms) = self.rated_at_ms.filter(|before| *before < now_ms) else {
            self.rated_at_ms = self.rated_at_ms.or(Some(now_ms));
            return;
        };
        let (took_ms, count) = ((now_ms - before_ms) as f64, std::mem::take(&mut self.eligible) as f64);
        self.rated_at_ms = Some(now_ms);
        let seen = count / took_ms;
        let Some(known) = self.traffic else {
            self.traffic = Some(seen).filter(|seen| *seen > 0.0);
            return;
        };
        let expected = known * took_ms;
        let surprising = (count - expected).abs() > SURPRISE * expected.max(count).sqrt();
        self.traffic = Some(if count == 0.0 && surprising {
            // A dead hour. Nothing is spent in it whatever the rate, and after it, traffic is the same as before.
            known
        } else if count > expected && surprising {
            seen
        } else {
            known + (seen - known) * took_ms / (took_ms + TRAFFIC_MS)
        });
    }

    fn decide(&self, terms: &Terms, now: Moment) -> PassThrough {
        let Some(budget) = self.day_budget(terms) else { return PassThrough::ALL };
        let cost_max = terms.cost_max.0.max(1) as f64;
        let cost = self.recent.cost(cost_max);
        let today = self.recent.unsettled(self.day_start_ms);
        let left_today = budget.minus(self.spent.today).0 as f64 - today.reserve(cost, cost_max);
        let left_total = terms.total.map_or(f64::INFINITY, |total| {
            let all = self.recent.unsettled(i64::MIN);
            total.minus(self.spent.total).0 as f64 - all.reserve(cost, cost_max)
        });
        let left = left_today.min(left_total);
        if left < cost_max {
            return PassThrough::NONE;
        }
        let Some(traffic) = self.traffic else { return PassThrough::from_share(START) };
        // What may pass at the old rate until the new one is in use everywhere, and then until the one after it.
        let dearest = traffic * (cost * DEARER).min(cost_max);
        let lag = f64::from(self.timing.lag_ms) * self.rate.share() * dearest;
        let most = (left - lag) / (f64::from(self.timing.interval_ms.max(1)) * dearest);
        let wanted = if terms.mode == Mode::Asap {
            1.0
        } else {
            // The horizon shrinks towards midnight, so that the day's budget is spent within the day.
            let interval = f64::from(self.timing.interval_ms.max(1));
            let to_midnight = (now.length_ms() - now.day_ms()) as f64;
            let horizon = HORIZON_MS.max(4.0 * interval).min(to_midnight).max(interval);
            let planned = budget.0 as f64 * self.plan(terms.mode, now, now.day_ms() + horizon as i64);
            let committed = self.spent.today.0 as f64 + today.expected(cost);
            (planned - committed) / (horizon * traffic * cost)
        };
        PassThrough::from_share(wanted.min(most))
    }

    /// The share of the day's budget planned up to a time of the day, counted from when the day was first seen.
    fn plan(&self, mode: Mode, day: Moment, day_ms: i64) -> f64 {
        let length = day.length_ms();
        let start = self.seen_from_ms.clamp(0, length);
        let part = |day_ms: i64| day_ms as f64 / length as f64;
        let (from, to) = match mode {
            Mode::Asap => return 1.0,
            Mode::Traffic if !self.forecast.is_empty() => (self.forecast(part(start)), self.forecast(part(day_ms))),
            Mode::Even | Mode::Traffic => (part(start), part(day_ms)),
        };
        if from >= 1.0 { 1.0 } else { ((to - from) / (1.0 - from)).clamp(0.0, 1.0) }
    }

    /// The share of a day's traffic before this fraction of the day.
    fn forecast(&self, part: f64) -> f64 {
        let position = part.clamp(0.0, 1.0) * self.forecast.len() as f64;
        let whole = position as usize;
        let up_to: f64 = self.forecast[..whole].iter().sum();
        let within = self.forecast.get(whole).map_or(0.0, |count| count * (position - whole as f64));
        // The forecast does not learn days without traffic, so the sum is above 0.
        (up_to + within) / self.forecast.iter().sum::<f64>()
    }
}
