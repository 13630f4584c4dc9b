//! The leader's metrics and lines of the log: what has been committed.

use super::{Input, intake::Taken};
use crate::{
    control::{Counts, QualityOf, State},
    metrics::{self, PredictionFigures},
    targeting::policy::{BudgetState, Policy},
};
use std::{collections::BTreeSet, time::Duration};

/// What was recorded so far.
pub(super) struct Figures {
    counts: Counts,
    committed_at: Duration,
    /// The campaigns and versions whose predictions were recorded.
    predicted: BTreeSet<(String, String)>,
}

impl Figures {
    /// The figures of a leader that has just taken over. What its predecessors counted is not counted again.
    pub(super) fn new(state: &State, uptime: Duration) -> Self {
        metrics::control_leads(true);
        Self { counts: *state.counts(), committed_at: uptime, predicted: BTreeSet::new() }
    }

    /// Says that this process does not lead, or no longer.
    pub(super) fn stands_by() {
        metrics::control_leads(false);
        metrics::forget_control();
        Self::set_lag([0; 3]);
    }

    /// Records a committed transaction.
    pub(super) fn committed(
        &mut self,
        state: &State,
        policy: Option<&Policy>,
        taken: &Taken,
        took: Duration,
        uptime: Duration,
    ) {
        self.committed_at = uptime;
        metrics::committed(took);
        let (now, before) = (*state.counts(), self.counts);
        self.counts = now;
        metrics::control_decisions(now.decisions - before.decisions);
        for (disposition, count) in [
            ("joined", now.joined - before.joined),
            ("duplicate", now.duplicates - before.duplicates),
            ("late", now.late - before.late),
            ("orphan", now.orphans - before.orphans),
            ("rejected", now.rejected - before.rejected),
        ] {
            metrics::control_outcomes(disposition, count);
        }
        for (reason, count) in &taken.reasons {
            metrics::control_dead_letters(reason, *count);
        }
        let Some(policy) = policy else { return };
        metrics::control_policy(policy.version, policy.issued_at);
        for audience in &policy.audiences {
            metrics::control_audience(audience.segtax, &audience.id, state.shown_members(audience.members));
        }
        self.record_predictions(state);
        for (id, campaign) in &policy.campaigns {
            if let Some(age) = state.label_age(id) {
                metrics::control_label_age(id, age.as_secs_f64());
            }
            let Some(budget) = &campaign.budget else { continue };
            record_budget(id, &campaign.currency, budget);
        }
    }

    fn record_predictions(&mut self, state: &State) {
        let mut gone = std::mem::take(&mut self.predicted);
        for of in state.qualities() {
            let key = (of.campaign.to_owned(), of.version.to_owned());
            metrics::control_predictions(&key.0, &key.1, &prediction_figures(&of));
            gone.remove(&key);
            self.predicted.insert(key);
        }
        for (campaign, version) in gone {
            metrics::forget_control_predictions(&campaign, &version);
        }
    }

    /// Counts a transaction that was aborted.
    pub(super) fn aborted() {
        metrics::retried("abortable");
    }

    /// Sets how many records are to be read.
    pub(super) fn set_lag(lag: [u64; 3]) {
        for (input, lag) in Input::ALL.into_iter().zip(lag) {
            metrics::control_lag(input.as_str(), lag);
        }
    }

    /// How long ago something was committed.
    pub(super) fn still_for(&self, uptime: Duration) -> Duration {
        uptime.saturating_sub(self.committed_at)
    }

    pub(super) fn log(message: &str, state: &State) {
        let counts = state.counts();
        tracing::info!(
            version = state.version(),
            decisions = counts.decisions,
            joined = counts.joined,
            duplicates = counts.duplicates,
            late = counts.late,
            orphans = counts.orphans,
            rejected = counts.rejected,
            waiting = state.sizes().2,
            "{message}"
        );
    }
}

fn record_budget(campaign: &str, currency: &str, budget: &BudgetState) {
    let units = |micros: i64| micros as f64 / 1e6;
    let periods = [
        ("day", budget.spent_today_micros, budget.daily_micros),
        ("total", budget.spent_total_micros, budget.total_micros),
    ];
    for (period, spent, limit) in periods {
        metrics::control_spend([campaign, currency, period], units(spent), limit.map(units));
    }
}

/// Who no longer leads knows nothing of predictions: otherwise an alert would rest on figures that stand still.
impl Drop for Figures {
    fn drop(&mut self) {
        for (campaign, version) in &self.predicted {
            metrics::forget_control_predictions(campaign, version);
        }
    }
}

fn prediction_figures(of: &QualityOf<'_>) -> PredictionFigures {
    let share = |part: u64, all: u64| if all > 0 { part as f64 / all as f64 } else { f64::NAN };
    PredictionFigures {
        labels: [of.positives, of.labels - of.positives],
        predicted: of.predicted,
        click_rate: share(of.clicked, of.labels),
        conversion_rate: of.converted.map_or(f64::NAN, |converted| share(converted, of.clicked)),
        calibration: of.calibration.unwrap_or(f64::NAN),
        normalised_entropy: of.normalised_entropy.unwrap_or(f64::NAN),
        drift: of.drift.unwrap_or(f64::NAN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_no_longer_leads_tells_nothing_of_predictions() {
        const CAMPAIGN: &str = "of a former leader";
        let told = || {
            let all = metrics::recorded();
            let of = |labels: &[String]| labels.first().is_some_and(|campaign| campaign == CAMPAIGN);
            all.iter().flat_map(metrics::Samples::numbers).filter(|(labels, _)| of(labels)).count()
        };
        let of = QualityOf {
            campaign: CAMPAIGN,
            version: "7",
            labels: 900,
            positives: 100,
            clicked: 100,
            converted: None,
            predicted: 150.0,
            calibration: Some(1.5),
            normalised_entropy: Some(0.9),
            drift: None,
        };
        metrics::control_predictions(of.campaign, of.version, &prediction_figures(&of));
        let predicted = [(CAMPAIGN.to_owned(), "7".to_owned())].into();
        let figures = Figures { counts: Counts::default(), committed_at: Duration::ZERO, predicted };
        assert_eq!(told(), 8);
        metrics::control_spend([CAMPAIGN, "EUR", "day"], 3.0, Some(9.0));
        metrics::control_label_age(CAMPAIGN, 60.0);
        drop(figures);
        assert_eq!(told(), 3);
        Figures::stands_by();
        assert_eq!(told(), 0);
    }
}
