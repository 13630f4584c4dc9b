//! What campaigns have spent and earned.
//!
//! Owns the account of each campaign: money and counts by day, the [`Pacer`] that is fed with them, and what was
//! learned about creatives. Guarantees: amounts are whole millionths, and every cost is booked in exactly one place:
//! [`Account::spend`], to one day, to the total and to the pacer. A day is that of the decision, in the campaign's
//! zone. Limits: days are kept for [`DAYS_KEPT`] days, about 150 bytes each; the total is kept for ever. A pacer has
//! about 4 kB.

mod arms;
mod days;
mod quality;

pub(super) use arms::{Arms, Changed, Lesson};
pub(super) use days::Days;
pub use quality::QualityOf;
pub(super) use quality::{Labelled, Predicted, Qualities};

use crate::targeting::{
    campaign::{Budget, Learning, Reward},
    money::{Currency, Micros},
    pacing::{Moment, Pacer, Terms, Timing},
    policy::BudgetState,
};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How many days are kept: a month, and a few days for late outcomes.
pub(super) const DAYS_KEPT: i32 = 35;

/// What the configuration says of a campaign.
#[derive(Clone, Debug)]
pub struct CampaignSetup {
    /// Its id.
    pub id: String,
    /// The currency of its amounts.
    pub currency: Currency,
    /// The zone of its days; UTC for campaigns in the zones of their users.
    pub zone: TimeZone,
    /// Its budget, if it has one.
    pub budget: Option<Budget>,
    /// When it ends, in microseconds since 1970.
    pub until: Option<i64>,
    /// What its creatives are rewarded for.
    pub reward: Reward,
    /// What its probability is about. `None` if it predicts nothing.
    pub predicts: Option<Reward>,
    /// How its creatives are chosen.
    pub learning: Learning,
    /// The smallest probability of an eligible creative, 0 to 1.
    pub floor: f64,
    /// The ids of its creatives that are not paused.
    pub creatives: Vec<String>,
}

impl CampaignSetup {
    /// The terms of the budget at a moment.
    pub(super) fn terms(&self, days: &mut Days, now: Moment) -> Option<Terms> {
        let Budget { mode, daily, total, cost_max } = self.budget?;
        let days_left = self.until.map(|until| days.days_until(now.day, until));
        Some(Terms { mode, daily, total, days_left, cost_max })
    }
}

/// Money and counts of a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figures {
    /// What wins have cost, in millionths.
    pub spent_micros: i64,
    /// The part of it whose decision is not known.
    pub unattributed_micros: i64,
    /// The value of conversions, in millionths.
    pub revenue_micros: i64,
    /// Decisions in which the campaign could have taken part.
    pub eligible: u64,
    /// Those that passed.
    pub passed: u64,
    /// Auctions won.
    pub wins: u64,
    /// Auctions lost.
    pub losses: u64,
    /// Impressions.
    pub impressions: u64,
    /// Impressions that could be seen.
    pub viewable: u64,
    /// Impressions that were clicked.
    pub clicks: u64,
    /// Conversions.
    pub conversions: u64,
}

impl Figures {
    /// The sum of two times.
    pub(super) fn plus(self, other: &Self) -> Self {
        Self {
            spent_micros: self.spent_micros.saturating_add(other.spent_micros),
            unattributed_micros: self.unattributed_micros.saturating_add(other.unattributed_micros),
            revenue_micros: self.revenue_micros.saturating_add(other.revenue_micros),
            eligible: self.eligible + other.eligible,
            passed: self.passed + other.passed,
            wins: self.wins + other.wins,
            losses: self.losses + other.losses,
            impressions: self.impressions + other.impressions,
            viewable: self.viewable + other.viewable,
            clicks: self.clicks + other.clicks,
            conversions: self.conversions + other.conversions,
        }
    }
}

/// The account of a campaign.
#[derive(Clone, Debug)]
pub(super) struct Account {
    pub(super) currency: Currency,
    pub(super) total: Figures,
    pub(super) days: BTreeMap<i32, Figures>,
    pub(super) pacer: Pacer,
    pub(super) arms: Arms,
}

impl Account {
    pub(super) fn new(currency: Currency, timing: Timing) -> Self {
        Self {
            currency,
            total: Figures::default(),
            days: BTreeMap::new(),
            pacer: Pacer::new(timing),
            arms: Arms::default(),
        }
    }

    /// Changes the figures of a day and of all days.
    pub(super) fn count(&mut self, day: i32, change: impl Fn(&mut Figures)) {
        change(&mut self.total);
        change(self.days.entry(day).or_default());
    }

    /// Books the cost of a win. The only place where money is spent.
    pub(super) fn spend(&mut self, decided: Moment, cost: Micros, is_attributed: bool) {
        self.count(decided.day, |figures| {
            figures.wins += 1;
            figures.spent_micros = figures.spent_micros.saturating_add(cost.0);
            if !is_attributed {
                figures.unattributed_micros = figures.unattributed_micros.saturating_add(cost.0);
            }
        });
        self.pacer.observe_spend(decided, cost);
    }

    /// Counts an eligible decision.
    pub(super) fn observe_decision(&mut self, decided: Moment, has_passed: bool) {
        self.count(decided.day, |figures| {
            figures.eligible += 1;
            figures.passed += u64::from(has_passed);
        });
        self.pacer.observe_traffic(decided, 1, u64::from(has_passed));
    }

    /// The days that are no longer kept, oldest first.
    pub(super) fn old_days(&self) -> Vec<i32> {
        let Some((newest, _)) = self.days.last_key_value() else { return Vec::new() };
        self.days.range(..newest.saturating_sub(DAYS_KEPT)).map(|(day, _)| *day).collect()
    }

    /// The state of the budget at a moment, and the rate for the next interval. `None` without a budget.
    pub(super) fn budget(&mut self, setup: &CampaignSetup, days: &mut Days, now: Moment) -> Option<BudgetState> {
        let terms = setup.terms(days, now)?;
        let rate = self.pacer.next_rate(&terms, now);
        let today = self.days.get(&now.day).map_or(Micros::ZERO, |figures| Micros(figures.spent_micros));
        let total = Micros(self.total.spent_micros);
        // What is left must pay for the next impression.
        let left = |budget: Option<Micros>, spent: Micros| budget.map_or(Micros::MAX, |budget| budget.minus(spent));
        let exhausted = left(terms.daily, today).min(left(terms.total, total)) < terms.cost_max;
        Some(BudgetState {
            // Money in another currency cannot be compared with the budget.
            known: self.currency == setup.currency,
            exhausted,
            pass_through: rate.0,
            day: now.day,
            spent_today_micros: today.0.max(0),
            spent_total_micros: total.0.max(0),
            daily_micros: terms.daily.map(|amount| amount.0),
            total_micros: terms.total.map(|amount| amount.0),
        })
    }
}

#[cfg(test)]
mod tests;
