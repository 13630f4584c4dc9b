//! The result of an evaluation, as plain data that serialises.
//!
//! Owns which figure is shown and why one is not. A quality of predictions needs [`ROWS_MIN`] impressions whose label
//! is known: below, it would be noise that looks like a figure.

use super::{
    EffectError, Evaluation, Totals,
    charts::Charts,
    fewer,
    group::Group,
    journeys::AttributionReport,
    policy::PolicyReport,
    rows::LabelledImpression,
    verdict::{self, TrialReport},
};
use crate::{
    control::{Outcome, Rejection},
    evaluation::{
        Confidence, Figures,
        business::{Counts, Rate},
        sample::{FieldError, FieldSums, UserAuc, field_error},
    },
};
use serde::Serialize;
use std::{collections::BTreeMap, time::Duration};

/// The fewest impressions with a known label for figures of predictions.
pub(super) const ROWS_MIN: u64 = 100;

/// The bins of equal mass of the calibration error.
const BINS: usize = 10;

/// The times of the log, in microseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Span {
    /// The first record.
    pub first: i64,
    /// The last record.
    pub last: i64,
    /// The last outcome.
    pub last_outcome: Option<i64>,
    /// Up to when the outcomes are complete.
    pub complete_until: i64,
    /// The age at which it is known whether an impression was clicked.
    pub click_known_after: i64,
    /// The age at which it is known whether a conversion followed.
    pub conversion_known_after: i64,
}

/// Money in one currency.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Money {
    /// Impressions of campaigns in this currency.
    pub impressions: u64,
    /// What wins cost, in micros. `None` if there are impressions and no win was reported.
    pub spend_micros: Option<i64>,
    /// What conversions brought, in micros.
    pub revenue_micros: i64,
    /// What a thousand impressions cost.
    pub ecpm_micros: Option<i64>,
    /// What a click cost.
    pub cpc_micros: Option<i64>,
    /// What a conversion cost.
    pub cpa_micros: Option<i64>,
    /// Revenue per spend.
    pub roas: Option<f64>,
}

/// How good the predictions of a group are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Quality {
    /// The figures.
    pub figures: Figures,
    /// The AUC within users.
    pub user_auc: Option<UserAuc>,
    /// One user in so many is in it.
    pub users_one_in: u64,
}

/// What became of a group of decisions.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GroupReport {
    /// The values that its decisions have in common.
    pub name: String,
    /// Decisions.
    pub decisions: u64,
    /// Campaigns in them.
    pub offers: u64,
    /// Auctions won and lost, as far as they were reported.
    pub wins: u64,
    /// See `wins`.
    pub losses: u64,
    /// Impressions.
    pub impressions: u64,
    /// Impressions that could be seen.
    pub viewable: u64,
    /// Impressions that were clicked.
    pub clicks: u64,
    /// Conversions.
    pub conversions: u64,
    /// Wins per reported auction. `None` without a report of a loss.
    pub win_rate: Option<Rate>,
    /// CTR: of the impressions that are old enough, those that were clicked.
    pub click_rate: Option<Rate>,
    /// CVR: of the clicked impressions that are old enough, those that a conversion followed.
    pub conversion_rate: Option<Rate>,
    /// Impressions that are too young for the click rate.
    pub immature_impressions: u64,
    /// Clicked impressions that are too young for the conversion rate.
    pub immature_clicks: u64,
    /// Impressions with a prediction that are too young for its label.
    pub immature_labels: u64,
    /// Impressions whose campaign predicts nothing, or whose prediction is missing.
    pub unpredicted: u64,
    /// The money by currency.
    pub money: BTreeMap<String, Money>,
    /// How good the predictions are.
    pub quality: Option<Quality>,
    /// What is not known, and why.
    pub unknown: Vec<String>,
}

/// The groups of a grouping.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GroupingReport {
    /// The grouping, as `campaign`.
    pub by: String,
    /// The groups, by name.
    pub groups: Vec<GroupReport>,
    /// The calibration error over the groups, which a model that is right on average may still have. `None` if a user
    /// may be in several groups, or without labels.
    pub field_error: Option<FieldError>,
}

/// What an evaluation has found.
#[derive(Clone, Debug, Serialize)]
pub struct EffectReport {
    /// The times; `None` without records.
    pub span: Option<Span>,
    /// What the log holds.
    pub totals: Totals,
    /// All decisions.
    pub all: GroupReport,
    /// The groupings.
    pub by: Vec<GroupingReport>,
    /// The data of pictures, if they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub charts: Option<Charts>,
    /// The experiments.
    pub experiments: Vec<TrialReport>,
    /// Which campaigns earned the conversions, if it was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attribution: Option<AttributionReport>,
    /// The policy whose estimates `policies` has.
    pub policy: Option<String>,
    /// The estimates by campaign.
    pub policies: Vec<PolicyReport>,
}

/// The end of an evaluation.
#[derive(Clone, Debug)]
pub struct Finished {
    /// What it has found.
    pub report: EffectReport,
    /// The last outcomes that have waited and were then rejected.
    pub rejected: Vec<(Outcome, Rejection)>,
    /// The last labels, if [`Plan::labels`](super::Plan::labels).
    pub labelled: Vec<LabelledImpression>,
}

impl Evaluation {
    /// Settles what waits and computes all figures. `wait`: how long an outcome waits for its decision.
    ///
    /// # Errors
    ///
    /// If a sum does not fit.
    pub fn finish(mut self, wait: Duration) -> Result<Finished, EffectError> {
        self.close(wait)?;
        let (rejected, labelled) = (self.take_rejected(), self.take_labelled());
        let users = self.users.figures()?;
        let describe = |number: u32, group: &Group| {
            let user_auc = users.get(&number).copied();
            self.group(group, user_auc)
        };
        let by = self.groups.iter().map(|(dimension, groups)| {
            let minimum = if dimension.has_several() { self.plan.minimum_audience } else { 0 };
            let (groups, fewer) = fewer::merged(groups, minimum)?;
            let sums: Vec<FieldSums> = groups.iter().map(|(_, group)| field_sums(group)).collect();
            let has_labels = sums.iter().any(|sums| sums.weight > 0.0);
            let named = groups.iter().map(|(number, group)| describe(*number, group));
            // The users of all these together were not kept for the AUC within users.
            let all = named.chain(fewer.iter().map(|group| describe(u32::MAX, group)));
            Ok(GroupingReport {
                by: dimension.name().to_owned(),
                field_error: (has_labels && !dimension.has_several()).then(|| field_error(&sums)),
                groups: all.collect(),
            })
        });
        let by = by.collect::<Result<_, EffectError>>()?;
        let all = describe(0, self.groups.everything());
        let span = self.started_at.map(|first| Span {
            first,
            last: self.clock,
            last_outcome: self.outcome_at,
            complete_until: self.plan.complete_until.unwrap_or(self.clock),
            click_known_after: self.plan.click_after,
            conversion_known_after: self.plan.conversion_after,
        });
        let experiments = verdict::all(&self.plan, &self.trials)?;
        let complete_until = self.plan.complete_until.unwrap_or(self.clock);
        let attribution = self.journeys.take().map(|journeys| journeys.report(complete_until)).transpose()?;
        let policy = self.policy.as_ref();
        let charts = self.charts.as_ref();
        let charts =
            charts.map(|charts| charts.report(self.groups.everything(), &self.state, self.plan.confidence, self.clock));
        let report = EffectReport {
            span,
            all,
            by,
            charts,
            experiments,
            attribution,
            policy: policy.map(|log| log.name().to_owned()),
            policies: policy.map(|log| log.reports(self.plan.confidence)).unwrap_or_default(),
            totals: self.totals,
        };
        Ok(Finished { report, rejected, labelled })
    }

    fn group(&self, group: &Group, user_auc: Option<UserAuc>) -> GroupReport {
        let confidence = self.plan.confidence;
        let mut all = Counts::default();
        for counts in group.money.values() {
            // Each currency has fewer than 2^63 of each, and money is not added across them.
            let counts = Counts { spend_micros: 0, revenue_micros: 0, ..*counts };
            let _fits = all.merge(&counts).is_ok();
        }
        let losses = all.bids - all.wins;
        let rate = |known: super::group::Known| Rate::new(known.successes, known.of, confidence);
        let figures = group.sketch.figures(BINS);
        let quality =
            (figures.rows >= ROWS_MIN).then(|| Quality { figures, user_auc, users_one_in: self.users.one_in() });
        let mut report = GroupReport {
            name: group.name.clone(),
            decisions: group.decisions,
            offers: group.offers,
            wins: all.wins,
            losses,
            impressions: all.impressions,
            viewable: group.viewable,
            clicks: all.clicks,
            conversions: all.conversions,
            win_rate: if losses > 0 { Rate::new(all.wins, all.bids, confidence) } else { None },
            click_rate: rate(group.clicks),
            conversion_rate: rate(group.conversions),
            immature_impressions: group.clicks.immature,
            immature_clicks: group.conversions.immature,
            immature_labels: group.labels_immature,
            unpredicted: group.unpredicted,
            money: group.money.iter().map(|(currency, counts)| (currency.code().to_owned(), money(counts))).collect(),
            quality,
            unknown: Vec::new(),
        };
        report.unknown = self.unknown(&report, group);
        report
    }

    /// What is not known of a group, and why.
    fn unknown(&self, of: &GroupReport, group: &Group) -> Vec<String> {
        let mut all = Vec::new();
        let (click, conversion) = (age(self.plan.click_after), age(self.plan.conversion_after));
        if of.impressions > 0 && of.click_rate.is_none() {
            all.push(format!("click rate: all {} impressions are younger than {click}", of.impressions));
        } else if of.immature_impressions > 0 {
            all.push(format!("click rate: leaves out {} impressions younger than {click}", of.immature_impressions));
        }
        if of.clicks > 0 && of.conversion_rate.is_none() {
            all.push(format!("conversion rate: all {} clicks are of impressions younger than {conversion}", of.clicks));
        } else if of.immature_clicks > 0 {
            let count = of.immature_clicks;
            all.push(format!("conversion rate: leaves out {count} clicks of impressions younger than {conversion}"));
        }
        if of.wins > 0 && of.win_rate.is_none() {
            all.push("win rate: no loss was reported".to_owned());
        }
        if of.money.values().any(|money| money.spend_micros.is_none()) {
            all.push("spend: no win was reported".to_owned());
        }
        let (rows, positives) = (group.sketch.rows(), group.sketch.figures(1).positives);
        if of.immature_labels > 0 {
            all.push(format!("predictions: {} impressions are too young for their label", of.immature_labels));
        }
        if of.unpredicted > 0 {
            let count = of.unpredicted;
            all.push(format!(
                "predictions: {count} impressions of campaigns that predict nothing, or are not configured"
            ));
        }
        if rows > 0 && of.quality.is_none() {
            all.push(format!("predictions: {rows} impressions with a known label are too few, {ROWS_MIN} are needed"));
        } else if rows > 0 && positives == 0.0 {
            all.push(format!("predictions: none of {rows} labels is positive, so nothing can be ranked"));
        } else if rows > 0 && positives == rows as f64 {
            all.push(format!("predictions: all of {rows} labels are positive, so nothing can be ranked"));
        }
        all
    }
}

/// An age in microseconds as people say it, to the second.
pub fn age(micros: i64) -> String {
    const DAY: u64 = 86_400;
    let seconds = micros.max(0) as u64 / 1_000_000;
    if seconds >= 2 * DAY && seconds.is_multiple_of(DAY) {
        return format!("{} days", seconds / DAY);
    }
    crate::duration::display(Duration::from_secs(seconds)).to_string()
}

fn money(counts: &Counts) -> Money {
    let figures = counts.figures(Confidence::default());
    let is_known = counts.wins > 0 || counts.spend_micros != 0 || counts.impressions == 0;
    Money {
        impressions: counts.impressions,
        spend_micros: is_known.then_some(counts.spend_micros),
        revenue_micros: counts.revenue_micros,
        ecpm_micros: figures.ecpm_micros.filter(|_| is_known),
        cpc_micros: figures.cpc_micros.filter(|_| is_known),
        cpa_micros: figures.cpa_micros.filter(|_| is_known),
        // Without a conversion it would be 0, or not yet known to be more.
        roas: figures.roas.filter(|_| counts.conversions > 0),
    }
}

fn field_sums(group: &Group) -> FieldSums {
    let figures = group.sketch.figures(1);
    FieldSums {
        weight: figures.weight,
        positives: figures.positives,
        predicted: figures.predicted.unwrap_or_default() * figures.weight,
    }
}
