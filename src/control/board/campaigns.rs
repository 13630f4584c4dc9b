//! What the board shows of campaigns.

use super::{
    super::{Figures, State, state::Look},
    CAMPAIGNS_MAX, CURVES_MAX,
    curve::{Curves, length, moment, spent, time_of_day},
    ms, rate,
};
use crate::targeting::{
    pacing::{BUCKET_MS, Mode, Moment, PassThrough, Terms},
    policy::{CampaignPolicy, Policy},
};
use serde_json::{Value, json};
use std::cmp::Reverse;

/// The length of the middle one of the three periods that figures are shown for.
const WEEK: i32 = 7;

/// What the workers do with a campaign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    /// Every decision may have it.
    Running,
    /// Some may: its spend follows the plan.
    Paced,
    /// None may: its budget is spent.
    Spent,
    /// None may: what it has spent is not known, or the workers follow no policy.
    Unknown,
    /// Its time is over.
    Ended,
    /// It is no longer configured.
    Removed,
}

impl Course {
    fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paced => "paced",
            Self::Spent => "spent",
            Self::Unknown => "unknown",
            Self::Ended => "ended",
            Self::Removed => "removed",
        }
    }

    fn of(look: &Look<'_>, policy: Option<&CampaignPolicy>, now: i64) -> Self {
        let Some(setup) = look.setup else { return Self::Removed };
        if setup.until.is_some_and(|until| until <= now) {
            return Self::Ended;
        }
        match (&setup.budget, policy.and_then(|policy| policy.budget)) {
            (None, None) => Self::Running,
            (Some(_), None) => Self::Unknown,
            (_, Some(budget)) if !budget.known => Self::Unknown,
            (_, Some(budget)) if budget.exhausted => Self::Spent,
            (_, Some(budget)) if budget.pass_through() >= PassThrough::ALL => Self::Running,
            (_, Some(_)) => Self::Paced,
        }
    }
}

/// The campaigns, those with most spend first, and how many are left out. `followed`: the policy that workers follow.
pub(super) fn json(state: &State, followed: Option<&Policy>, curves: &Curves, now: i64) -> (Vec<Value>, usize) {
    let mut all: Vec<(&str, Look<'_>, Moment)> =
        state.looks().into_iter().map(|(id, look)| (id, look, moment(look.days, now))).collect();
    let has_budget = |look: &Look<'_>| look.setup.is_some_and(|setup| setup.budget.is_some());
    let total = |look: &Look<'_>| look.account.map_or(0, |account| account.total.spent_micros);
    // Amounts of several currencies have no true order; any that keeps the most important ones will do.
    all.sort_by_key(|(id, look, day)| (Reverse((has_budget(look), spent(look, day.day), total(look))), *id));
    let left_out = all.len().saturating_sub(CAMPAIGNS_MAX);
    let shown = all.into_iter().take(CAMPAIGNS_MAX).enumerate().map(|(number, (id, look, day))| {
        let policy = followed.and_then(|policy| policy.campaigns.get(id));
        let curve = (number < CURVES_MAX).then(|| curves.of(id, day.day));
        let currency = look.account.map(|it| it.currency).or(look.setup.map(|it| it.currency));
        json!({
            "id": id,
            "currency": currency.map(|it| it.code().to_owned()),
            "state": Course::of(&look, policy, now).as_str(),
            "periods": periods(&look, day),
            "budget": budget(&look, policy, day, curve),
            "ends_ms": look.setup.and_then(|setup| setup.until).map(ms),
        })
    });
    (shown.collect(), left_out)
}

/// The figures of this day, of the last week and of all days. A day is that of the decisions.
fn periods(look: &Look<'_>, now: Moment) -> Value {
    let Some(account) = look.account else { return json!({ "today": null, "week": null, "all": null }) };
    let sum = |days: i32| {
        let days = account.days.range(now.day.saturating_sub(days - 1)..=now.day);
        figures(&days.fold(Figures::default(), |sum, (_, figures)| sum.plus(figures)))
    };
    json!({ "today": sum(1), "week": sum(WEEK), "all": figures(&account.total) })
}

fn figures(of: &Figures) -> Value {
    json!({
        "spent_micros": of.spent_micros, "unattributed_micros": of.unattributed_micros,
        "revenue_micros": of.revenue_micros, "eligible": of.eligible, "passed": of.passed, "wins": of.wins,
        "losses": of.losses, "impressions": of.impressions, "viewable": of.viewable, "clicks": of.clicks,
        "conversions": of.conversions, "ctr": rate::json(of.clicks, of.impressions),
        "win_rate": rate::json(of.wins, of.wins.saturating_add(of.losses)),
    })
}

/// The budget with today's plan and, if it is to be shown, the curve. Null without a budget.
fn budget(look: &Look<'_>, policy: Option<&CampaignPolicy>, now: Moment, curve: Option<&[(i64, i64)]>) -> Value {
    let terms = look.setup.and_then(|setup| setup.terms(&mut look.days.clone(), now));
    let (Some(terms), Some(setup)) = (terms, look.setup) else { return Value::Null };
    // Before the first record of a day, the pacer is still in the last one.
    let pacer = look.account.map(|account| &account.pacer).filter(|pacer| pacer.day == Some(now.day));
    let planned = |at: Moment| pacer.and_then(|pacer| pacer.planned(&terms, at)).map(|amount| amount.0);
    let day = curve.map(|points| {
        let plan: Option<Vec<i64>> =
            (0..=now.buckets).map(|bucket| planned(Moment { bucket, into_ms: 0, ..now })).collect();
        json!({
            "start_ms": now.at_ms - time_of_day(now), "now_ms": time_of_day(now), "length_ms": length(now),
            "zone": setup.zone.iana_name(), "step_ms": BUCKET_MS, "plan": plan, "spent": points,
        })
    });
    let Terms { mode, daily, total, .. } = terms;
    json!({
        "mode": match mode {
            Mode::Even => "even",
            Mode::Traffic => "traffic",
            Mode::Asap => "asap",
        },
        "has_forecast": pacer.is_some_and(|pacer| !pacer.forecast.is_empty()),
        "pass_through": policy.and_then(|policy| policy.budget).map(|budget| budget.pass_through().share()),
        "today_micros": pacer.and_then(|pacer| pacer.day_budget(&terms)).or(daily).map(|amount| amount.0),
        "planned_micros": planned(now),
        "daily_micros": daily.map(|amount| amount.0),
        "total_micros": total.map(|amount| amount.0),
        "day": day,
    })
}
