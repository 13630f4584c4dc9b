//! Compares what control knows with what happened.

use super::{
    CAMPAIGNS, PROBABILITY, SECOND,
    control::Control,
    setups, spec,
    world::{Truth, World},
};
use crate::control::{Figures, State};
use std::collections::BTreeMap;

/// The result of a run.
#[derive(Clone, Debug, Default)]
pub(super) struct Report {
    pub(super) faults: Vec<String>,
    pub(super) takeovers: u64,
    pub(super) aborts: u64,
    pub(super) redelivered: u64,
    pub(super) waited: u64,
    pub(super) duplicates: u64,
    pub(super) late: u64,
    pub(super) orphans: u64,
    pub(super) rejected: u64,
    pub(super) lessons: u64,
    pub(super) stale: u64,
    pub(super) exhausted: u64,
    pub(super) decisions: u64,
    pub(super) outcomes: u64,
    pub(super) spent_micros: i64,
    /// The largest excess over a budget, in millionths, and what one interval and the age of a policy had in flight
    /// then.
    pub(super) excess: i64,
    pub(super) records_max: usize,
}

impl Report {
    pub(super) fn add(&mut self, other: &Self) {
        self.takeovers += other.takeovers;
        self.aborts += other.aborts;
        self.redelivered += other.redelivered;
        self.waited += other.waited;
        self.duplicates += other.duplicates;
        self.late += other.late;
        self.orphans += other.orphans;
        self.rejected += other.rejected;
        self.lessons += other.lessons;
        self.stale += other.stale;
        self.exhausted += other.exhausted;
        self.decisions += other.decisions;
        self.outcomes += other.outcomes;
        self.spent_micros += other.spent_micros;
        self.excess = self.excess.max(other.excess);
        self.records_max = self.records_max.max(other.records_max);
    }
}

pub(super) fn report(world: &World, control: &Control) -> Report {
    let state = control.state.as_ref().expect("the run has finished");
    let counts = state.counts();
    let mut report = Report {
        faults: world.faults.clone(),
        takeovers: control.takeovers,
        aborts: control.aborts,
        redelivered: control.redelivered,
        waited: control.waited,
        duplicates: counts.duplicates,
        late: counts.late,
        orphans: counts.orphans,
        rejected: counts.rejected,
        lessons: counts.lessons,
        stale: world.stale,
        exhausted: world.exhausted,
        decisions: counts.decisions,
        outcomes: world.outcomes.iter().map(|log| log.len() as u64).sum(),
        records_max: control.records_max,
        ..Report::default()
    };
    for (index, truth) in world.truth.iter().enumerate() {
        campaign(CAMPAIGNS[index], truth, state, &mut report);
    }
    lessons(&world.truth[0], control, &mut report);
    predictions(&world.truth[0], state, &mut report);
    for pair in control.published.windows(2) {
        if pair[1].1.version <= pair[0].1.version {
            report.faults.push(format!("version {} after {}", pair[1].1.version, pair[0].1.version));
        }
    }
    let records = control.committed.iter().map(|(key, value)| (key.clone(), Some(value)));
    match State::restore("shop", &spec(), setups(), records) {
        Ok(restored) if restored.records() == state.records() => {}
        Ok(_) => report.faults.push("the restored state is another one".to_owned()),
        Err(error) => report.faults.push(error.to_string()),
    }
    report
}

/// Compares money and counts, and how far a budget was exceeded.
fn campaign(id: &str, truth: &Truth, state: &State, report: &mut Report) {
    let found = state.total(id).copied().unwrap_or_default();
    let spent: i64 = truth.spent.values().sum();
    report.spent_micros += spent;
    let expected = Figures {
        spent_micros: spent,
        unattributed_micros: truth.unattributed,
        revenue_micros: truth.revenue,
        eligible: truth.eligible,
        passed: truth.passed,
        wins: truth.wins,
        losses: truth.losses,
        impressions: truth.impressions,
        viewable: truth.viewable,
        clicks: truth.clicks,
        conversions: truth.conversions,
    };
    if found != expected {
        report.faults.push(format!("{id}: expected {expected:?}, found {found:?}"));
    }
    let by_day: BTreeMap<i32, i64> =
        state.days(id).map(|(day, it)| (day, it.spent_micros)).filter(|(_, spent)| *spent > 0).collect();
    if by_day != truth.spent {
        report.faults.push(format!("{id}: expected {:?} by day, found {by_day:?}", truth.spent));
    }
    // What may be in flight: all that passes until the policy is too old, plus what control does not know yet.
    let window = 60 + 5 + 15;
    let cost_from = |from: i64| -> i64 {
        let within = truth.costs.iter().filter(|(at, _)| (from..from + window * SECOND).contains(at));
        within.map(|(_, cost)| cost).sum()
    };
    let in_flight = truth.costs.iter().map(|(from, _)| cost_from(*from)).max().unwrap_or_default();
    let setup = setups().into_iter().find(|setup| setup.id == id).expect("a campaign");
    let Some(budget) = setup.budget else { return };
    let daily = budget.daily.map(|daily| truth.spent.values().map(|spent| spent - daily.0).max().unwrap_or_default());
    let total = budget.total.map(|total| spent - total.0);
    for excess in daily.into_iter().chain(total) {
        report.excess = report.excess.max(excess);
        // Wins without a decision are not in anybody's plan.
        if excess > in_flight + truth.unattributed {
            report.faults.push(format!("{id}: {excess} above the budget, {in_flight} were in flight"));
        }
    }
}

/// Compares what became of predictions with a recount: all impressions of the campaign were chosen, and all clicks come within the
/// windows of both.
fn predictions(truth: &Truth, state: &State, report: &mut Report) {
    let everybody = truth.lessons.iter().filter(|((_, audience), _)| audience.is_empty()).map(|(_, of)| of);
    let all = everybody.fold((0, 0), |(labels, positives), (successes, failures)| {
        (labels + successes + failures, positives + successes)
    });
    let found = state.qualities();
    let daily = found.iter().find(|it| it.campaign == CAMPAIGNS[0]);
    let known = daily.map_or((0, 0), |it| (it.labels, it.positives));
    let owed = PROBABILITY * all.0 as f64 / all.1 as f64;
    let is_right = known == all && daily.is_none_or(|it| it.calibration.is_none_or(|it| (it - owed).abs() < 1e-9));
    if !is_right {
        report.faults.push(format!("expected {all:?} labels and positives, found {daily:?}"));
    }
}

/// Compares what was learned about creatives with a recount of all impressions.
fn lessons(truth: &Truth, control: &Control, report: &mut Report) {
    let mut found = BTreeMap::new();
    for (key, value) in &control.committed {
        if let Some(rest) = key.strip_prefix("v1/arm/daily/") {
            let (creative, audience) = rest.split_once('/').expect("creative and audience");
            let arm: serde_json::Value = serde_json::from_slice(value).expect("an arm");
            let count = |name: &str| arm[name].as_f64().expect("a number") as u64;
            found.insert((creative.to_owned(), audience.to_owned()), (count("successes"), count("failures")));
        }
    }
    if found != truth.lessons {
        report.faults.push(format!("expected {:?} learned, found {found:?}", truth.lessons));
    }
}
