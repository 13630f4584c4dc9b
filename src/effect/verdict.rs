//! Experiments in figures and in words.
//!
//! Owns what is compared with what. Arms are compared with the control, and all arms with the holdout, if decisions
//! list held-out users. The share of users who clicked or converted is compared as a rate, and the revenue of a user as
//! a mean. Clicks are only compared between users who were offered the campaign.
//!
//! The any-time interval is tightest at the planned effect, and the planned effect is relative to the rate of the arm
//! that is compared with. Limits: every comparison stands alone; of 20 without an effect, one is significant by chance.

use super::{
    EffectError, Plan,
    trial::{ArmSums, CONTROL, HOLDOUT, OFFERED, Subject, Trial, TrialSums, Trials},
};
use crate::evaluation::{
    Interval,
    experiment::{
        AnyTime, Arm, Comparison, Mixture, Moments, SampleRatio, any_time_means, any_time_proportions, means,
        power::{Baseline, Plan as Power, days_left},
        proportions, sample_ratio, sample_ratio_any_time,
    },
};
use serde::Serialize;
use std::collections::BTreeMap;

/// The probability of finding the planned effect that plans ask for.
const POWER: f64 = 0.8;

/// A day in microseconds. Shorter experiments have no pace.
const DAY: f64 = 86_400e6;
const SPAN_MIN: f64 = DAY / 24.0;

/// An arm of an experiment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ArmReport {
    /// Its name.
    pub arm: String,
    /// Its planned share of the users, if it is declared.
    pub planned: Option<f64>,
    /// Its users.
    pub users: u64,
    /// Those who clicked. `None` for the holdout, who have nothing to click.
    pub clicked: Option<u64>,
    /// Those who converted.
    pub converted: u64,
    /// What they brought, in micros.
    pub revenue_micros: i64,
}

/// An arm against another.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ComparisonReport {
    /// `click`, `conversion` (both: the share of users) or `revenue` (units of money a user).
    pub metric: &'static str,
    /// The arm.
    pub arm: String,
    /// The arm that it is compared with.
    pub against: String,
    /// One look at the difference.
    pub once: Comparison,
    /// What may be said at any time. `None` with too few users.
    pub any_time: Option<AnyTime>,
    /// Users of both arms that the planned effect needs. `None` if it cannot be planned.
    pub users_needed: Option<u64>,
    /// How many more days that takes at the pace so far.
    pub days_left: Option<f64>,
    /// The verdict.
    pub words: String,
}

/// An experiment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrialReport {
    /// The campaign, or the name of the experiment between models.
    pub name: String,
    /// `campaign` or `models`.
    pub kind: &'static str,
    /// Its arms, by name.
    pub arms: Vec<ArmReport>,
    /// Users who were seen in two arms, and count for none.
    pub crossed: u64,
    /// One user in so many is in the figures.
    pub users_one_in: u64,
    /// Whether the users were split as declared, looked at once.
    pub ratio: Option<SampleRatio>,
    /// The same, if it is looked at every day.
    pub ratio_any_time: Option<SampleRatio>,
    /// The comparisons.
    pub comparisons: Vec<ComparisonReport>,
    /// What to know before reading them.
    pub notes: Vec<String>,
}

/// All experiments.
pub(super) fn all(plan: &Plan, trials: &Trials) -> Result<Vec<TrialReport>, EffectError> {
    trials.iter().map(|(subject, trial)| report(plan, subject, trial, trials.one_in())).collect()
}

/// The declared shares of all arms.
fn planned(plan: &Plan, subject: &Subject) -> BTreeMap<String, f64> {
    let (arms, holdout) = match subject {
        Subject::Campaign(id) => match plan.campaigns.get(id) {
            Some(campaign) => (&campaign.arms, campaign.holdout),
            None => return BTreeMap::new(),
        },
        Subject::Models(_) => (&plan.variants, 0.0),
    };
    let rest = 1.0 - holdout - arms.iter().map(|(_, share)| share).sum::<f64>();
    let name = if arms.is_empty() { OFFERED } else { CONTROL };
    let all = arms.iter().cloned().chain([(name.to_owned(), rest), (HOLDOUT.to_owned(), holdout)]);
    // A share of 0 that rounding has left over is none.
    all.filter(|(_, share)| *share > 1e-9).collect()
}

fn report(plan: &Plan, subject: &Subject, trial: &Trial, users_one_in: u64) -> Result<TrialReport, EffectError> {
    let sums = trial.sums();
    let planned = planned(plan, subject);
    let (kind, name) = match subject {
        Subject::Campaign(id) => ("campaign", id.clone()),
        Subject::Models(name) => ("models", name.clone()),
    };
    let arm = |(arm, it): (&String, &ArmSums)| ArmReport {
        arm: arm.clone(),
        planned: planned.get(arm).copied(),
        users: it.users,
        clicked: (arm != HOLDOUT).then_some(it.clicked),
        converted: it.converted,
        revenue_micros: it.revenues.iter().fold(0, |sum: i64, it| sum.saturating_add(*it)),
    };
    let mut report = TrialReport {
        name,
        kind,
        arms: sums.arms.iter().map(arm).collect(),
        crossed: sums.crossed,
        users_one_in,
        ratio: None,
        ratio_any_time: None,
        comparisons: Vec::new(),
        notes: Vec::new(),
    };
    let lists_holdout = sums.arms.contains_key(HOLDOUT);
    if planned.contains_key(HOLDOUT) && !lists_holdout {
        report.notes.push(
            "the holdout is not measured: decisions list held-out users only with decision.reasons = true".to_owned(),
        );
    }
    split(&planned, &sums, lists_holdout, &mut report)?;
    if sums.crossed > 0 {
        report.notes.push(format!("{} users were seen in two arms and count for none", sums.crossed));
    }
    if lists_holdout {
        report.notes.push(
            "conversions of held-out users only count if they are reported with user_key and campaign_id".to_owned(),
        );
        if sums.arms.get(HOLDOUT).is_some_and(|holdout| holdout.converted == 0) {
            report.notes.push(
                "no conversion of a held-out user is in the log; if none are reported, do not compare with the holdout"
                    .to_owned(),
            );
        }
    }
    for (name, of) in sums.arms.iter().filter(|(name, _)| *name != CONTROL && *name != HOLDOUT) {
        if let Some(control) = sums.arms.get(CONTROL) {
            compare(plan, (name, of), (CONTROL, control), &sums, &mut report.comparisons)?;
        }
    }
    for (name, of) in sums.arms.iter().filter(|(name, _)| *name != HOLDOUT) {
        if let Some(holdout) = sums.arms.get(HOLDOUT) {
            compare(plan, (name, of), (HOLDOUT, holdout), &sums, &mut report.comparisons)?;
        }
    }
    Ok(report)
}

/// Whether the users were split as declared.
fn split(
    planned: &BTreeMap<String, f64>,
    sums: &TrialSums,
    lists_holdout: bool,
    report: &mut TrialReport,
) -> Result<(), EffectError> {
    let expected = planned.iter().filter(|(name, _)| lists_holdout || *name != HOLDOUT);
    let (names, shares): (Vec<&String>, Vec<f64>) = expected.map(|(name, share)| (name, *share)).unzip();
    if let Some(name) = sums.arms.keys().find(|name| !planned.contains_key(*name)) {
        report.notes.push(format!("the split is not checked: arm {name:?} is not in the configuration"));
        return Ok(());
    }
    if names.len() < 2 {
        return Ok(());
    }
    let counts: Vec<u64> = names.iter().map(|name| sums.arms.get(*name).map_or(0, |arm| arm.users)).collect();
    report.ratio = sample_ratio(&counts, &shares)?;
    report.ratio_any_time = report.ratio.map(|_| sample_ratio_any_time(&counts, &shares)).transpose()?;
    if report.ratio.is_some_and(|ratio| ratio.is_mismatch) {
        report.notes.push(
            "the users are not split as declared; find out why before you trust any difference between arms".to_owned(),
        );
    }
    Ok(())
}

/// Compares an arm with another by every metric.
fn compare(
    plan: &Plan,
    (arm, of): (&str, &ArmSums),
    (against, base): (&str, &ArmSums),
    sums: &TrialSums,
    found: &mut Vec<ComparisonReport>,
) -> Result<(), EffectError> {
    let pace = sums.entered.and_then(|(first, last)| {
        let span = last.saturating_sub(first) as f64;
        (span >= SPAN_MIN).then(|| (of.users + base.users) as f64 / (span / DAY))
    });
    let users = of.users + base.users;
    let share = of.users as f64 / users.max(1) as f64;
    let mut add = |metric: &'static str, once: Comparison, any_time: Option<AnyTime>, needed: Option<u64>| {
        let days_left = needed.zip(pace).and_then(|(needed, pace)| days_left(users, needed, pace));
        let mut report = ComparisonReport {
            metric,
            arm: arm.to_owned(),
            against: against.to_owned(),
            once,
            any_time,
            users_needed: needed,
            days_left,
            words: String::new(),
        };
        report.words = words(&report, plan.effect, users);
        found.push(report);
    };
    let power = |baseline: Baseline| Power { baseline, share, confidence: plan.confidence, power: POWER };
    for (metric, of_arm, of_base) in [("click", of.clicked, base.clicked), ("conversion", of.converted, base.converted)]
    {
        if metric == "click" && against == HOLDOUT {
            continue;
        }
        let (control, variant) = (Arm::new(of_base, base.users)?, Arm::new(of_arm, of.users)?);
        let Some(once) = proportions(control, variant, plan.confidence) else { continue };
        let effect = plan.effect * once.control;
        let any_time = match Mixture::of_effect(effect) {
            Ok(mixture) => any_time_proportions(control, variant, mixture, plan.confidence),
            // Without a success there is nothing to be relative to.
            Err(_) => None,
        };
        let needed = power(Baseline::Rate(once.control)).rows(effect).ok().flatten();
        add(metric, once, any_time, needed);
    }
    let units = |arm: &ArmSums| Moments::of(arm.revenues.iter().map(|micros| *micros as f64 / 1e6));
    let (control, variant) = (units(base)?, units(of)?);
    if let Some(once) = means(control, variant, plan.confidence).filter(|it| it.control != 0.0 || it.variant != 0.0) {
        let effect = plan.effect * once.control.abs();
        let any_time = match Mixture::of_effect(effect) {
            Ok(mixture) => any_time_means(control, variant, mixture, plan.confidence),
            Err(_) => None,
        };
        let deviation = control.variance().unwrap_or_default().sqrt();
        let needed = power(Baseline::Deviation(deviation)).rows(effect).ok().flatten();
        add("revenue", once, any_time, needed);
    }
    Ok(())
}

/// The verdict on a comparison.
fn words(of: &ComparisonReport, effect: f64, users: u64) -> String {
    let ComparisonReport { arm, against, once, .. } = of;
    let (what, unit, scale) = match of.metric {
        "click" => ("users who click", " points", 100.0),
        "conversion" => ("users who convert", " points", 100.0),
        _ => ("revenue a user", "", 1.0),
    };
    let change = match (once.difference < 0.0, of.metric) {
        (true, "revenue") => "less",
        (true, _) => "fewer",
        (false, _) => "more",
    };
    let size = |number: f64| format!("{:.3}", number * scale);
    let low_high = format!("{} to {}{unit}", size(once.interval.low), size(once.interval.high));
    let differs = |interval: Interval| !interval.covers(0.0);
    let found = format!("{arm} has {}{unit} {change} {what} than {against} ({low_high})", size(once.difference.abs()));
    let wait = match (of.users_needed, of.days_left) {
        (Some(needed), _) if needed <= users => {
            format!("there are enough users for an effect of {:.0} %, so a larger one is unlikely", effect * 100.0)
        }
        (Some(needed), Some(days)) => format!(
            "an effect of {:.0} % needs {needed} users in both arms, about {days:.0} more days at this pace",
            effect * 100.0
        ),
        (Some(needed), None) => format!("an effect of {:.0} % needs {needed} users in both arms", effect * 100.0),
        (None, _) => format!("how many users it takes cannot be said: {against} has no success yet"),
    };
    match of.any_time {
        Some(any_time) if differs(any_time.interval) => format!("{found}: settled, however often you look"),
        _ if differs(once.interval) => {
            format!("{found}: significant if this is the only look, not yet if you look every day; {wait}")
        }
        _ => format!("no difference in {what} between {arm} and {against} ({low_high}); {wait}"),
    }
}
