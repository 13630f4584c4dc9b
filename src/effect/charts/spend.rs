//! Spend against plan.
//!
//! Owns the plan of each day: the daily budget; without one, an even share of the total budget from the first day with
//! a decision to the campaign's last day. Days are those of the campaign's zone. Limits: control keeps 35 days.

use crate::control::{CampaignSetup, State};
use serde::Serialize;

/// A day of a campaign.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SpendDay {
    /// As in `2026-01-31`.
    pub day: String,
    /// What wins have cost, in micros.
    pub spent_micros: i64,
    /// What was planned, in micros. `None` if only the total is limited, and the campaign has no end.
    pub planned_micros: Option<i64>,
}

/// A campaign with a budget.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SpendReport {
    /// The campaign.
    pub campaign: String,
    /// The currency.
    pub currency: String,
    /// The budget of a day, in micros.
    pub daily_micros: Option<i64>,
    /// The budget of all days, in micros.
    pub total_micros: Option<i64>,
    /// What all wins have cost, in micros; also on days that are no longer kept.
    pub spent_micros: i64,
    /// The days, without gaps.
    pub days: Vec<SpendDay>,
    /// Whether the last day is over at the end of the log.
    pub is_last_over: bool,
}

/// The spend of a campaign up to the end of the log. `None` without a budget or a day.
pub(super) fn report(setup: &CampaignSetup, state: &State, last: i64) -> Option<SpendReport> {
    let budget = setup.budget?;
    let number = |at: i64| {
        let date = setup.zone.to_datetime(jiff::Timestamp::from_microsecond(at).ok()?).date();
        Some(date.since(jiff::civil::date(1970, 1, 1)).ok()?.get_days())
    };
    let known: Vec<(i32, i64)> = state.days(&setup.id).map(|(day, it)| (day, it.spent_micros)).collect();
    let (first, newest) = (known.first()?.0, known.last()?.0);
    let (daily, total) = (budget.daily.map(|it| it.0), budget.total.map(|it| it.0));
    // `until` itself is after the end.
    let days =
        setup.until.and_then(|until| number(until.saturating_sub(1))).map(|end| i64::from(end) - i64::from(first));
    let even = total.zip(days).map(|(total, days)| total / (days + 1).max(1));
    let planned = daily.or(even);
    let day = |day: i32| SpendDay {
        day: crate::effect::dimension::date(day),
        spent_micros: known.iter().find(|(known, _)| *known == day).map_or(0, |(_, spent)| *spent),
        planned_micros: planned,
    };
    Some(SpendReport {
        campaign: setup.id.clone(),
        currency: setup.currency.code().to_owned(),
        daily_micros: daily,
        total_micros: total,
        spent_micros: state.total(&setup.id).map_or(0, |it| it.spent_micros),
        days: (first..=newest).map(day).collect(),
        is_last_over: number(last).is_some_and(|last| last > newest),
    })
}
