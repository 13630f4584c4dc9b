//! How good the predictions of each model version are for each campaign, by the day on which their labels become known.
//!
//! Guarantees: all sums are of whole numbers, so they depend on nothing but the impressions, and are the same after a crash. An
//! impression counts on the day on which it reaches a fixed age, whether it was a success or not: neither successes nor failures
//! count sooner. Most failures are certain before that, because nothing can follow an impression without a click for long. They are
//! then counted ahead, on a day to come, and need not be remembered one by one. So figures are of days that are over; only clicks
//! are never counted ahead, so for them today counts as well. Drift needs no label: it compares the impressions of the two last
//! whole days.
//! Limits: the days from [`DAYS_BACK`] ago until the age of a label ahead, and [`QUALITIES_MAX`] versions of campaigns; what would be
//! in further ones is counted in the campaign and version `(other)`. About 200 bytes each.

use crate::targeting::campaign::Reward;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How many days before today are kept: the two last whole ones.
const DAYS_BACK: i32 = 2;
/// The most versions of campaigns: more are no table that a person reads, and no metrics that a server likes.
const QUALITIES_MAX: usize = 200;
/// The campaign and version of what does not fit.
const OTHER: &str = "(other)";

/// The microseconds of a day.
const DAY: i64 = 86_400_000_000;
/// What 1 stands for in sums of probabilities and of nats. A day's sums fit for 10^9 impressions.
const NANOS: f64 = 1e9;
/// A probability of 0 or 1 costs this distance from it, so that a single mistake is not infinite.
const EDGE: f64 = 1e-9;

/// Upper bounds of the bins of predictions. Those of advertising cluster below 0.01, so the bins are finer there.
const BOUNDS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9];
/// The fewest impressions of each of two days that are compared: with fewer, the index of the same predictions is often above 0.05.
const DRIFT_IMPRESSIONS_MIN: u64 = 1_000;
/// The smallest share of a bin: an empty one would make the index infinite.
const SHARE_MIN: f64 = 1e-4;

/// What a decision predicted of an impression.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct Predicted {
    /// The version of the model.
    pub(in super::super) version: String,
    /// The probability of a success.
    pub(in super::super) probability: f64,
    /// When it is known whether it came true, at the latest. `None` for an offer, and once it is counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in super::super) known_at: Option<i64>,
}

/// A prediction whose label is known.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Labelled {
    pub(in super::super) probability: f64,
    pub(in super::super) is_clicked: bool,
    pub(in super::super) is_converted: bool,
    pub(in super::super) predicts: Reward,
}

/// What is counted on a day.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct Quality {
    /// Impressions that reach the age of their label on this day.
    labels: u64,
    positives: u64,
    clicked: u64,
    /// Conversions of impressions that were clicked.
    converted: u64,
    /// The sum of the probabilities, in billionths.
    predicted_nanos: u64,
    /// The sum of the log losses, in billionths of a nat.
    loss_nanos: u64,
    /// The predictions of the impressions that are shown on this day, by size.
    bins: [u64; BOUNDS.len() + 1],
}

impl Quality {
    fn add(&mut self, of: &Labelled) {
        let label = match of.predicts {
            Reward::Click => of.is_clicked,
            Reward::Conversion => of.is_converted,
        };
        let kept = of.probability.clamp(EDGE, 1.0 - EDGE);
        let loss = -if label { kept.ln() } else { (1.0 - kept).ln() };
        self.labels += 1;
        self.positives += u64::from(label);
        self.clicked += u64::from(of.is_clicked);
        self.converted += u64::from(of.is_clicked && of.is_converted);
        self.predicted_nanos += (of.probability * NANOS).round() as u64;
        self.loss_nanos += (loss * NANOS).round() as u64;
    }

    fn show(&mut self, probability: f64) {
        self.bins[BOUNDS.iter().filter(|bound| probability >= **bound).count()] += 1;
    }

    /// The sums of the labels of two days.
    fn plus(&self, other: &Self) -> Self {
        Self {
            labels: self.labels + other.labels,
            positives: self.positives + other.positives,
            clicked: self.clicked + other.clicked,
            converted: self.converted + other.converted,
            predicted_nanos: self.predicted_nanos + other.predicted_nanos,
            loss_nanos: self.loss_nanos + other.loss_nanos,
            bins: [0; BOUNDS.len() + 1],
        }
    }

    /// The population stability index of the predictions of this day against those of the one before. `None` with few of them.
    fn drift(&self, before: &Self) -> Option<f64> {
        let impressions = |of: &Self| of.bins.iter().sum::<u64>();
        if impressions(self).min(impressions(before)) < DRIFT_IMPRESSIONS_MIN {
            return None;
        }
        let share = |bin: u64, of: &Self| (bin as f64 / impressions(of) as f64).max(SHARE_MIN);
        let pairs = self.bins.iter().zip(before.bins);
        let shares = pairs.map(|(now, before_it)| (share(*now, self), share(before_it, before)));
        Some(shares.map(|(now, before)| (now - before) * (now / before).ln()).sum())
    }
}

/// The figures of a version for a campaign: of the labels of the two last whole days, or of today and yesterday if it predicts clicks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QualityOf<'a> {
    /// The campaign.
    pub campaign: &'a str,
    /// The version of the model.
    pub version: &'a str,
    /// Impressions whose label is known.
    pub labels: u64,
    /// Those of them that succeeded.
    pub positives: u64,
    /// Those of them that were clicked.
    pub clicked: u64,
    /// Those of the clicked that were converted, if the label is a conversion.
    pub converted: Option<u64>,
    /// How many successes were predicted: the sum of the probabilities.
    pub predicted: f64,
    /// Predicted over observed successes. `None` without a success.
    pub calibration: Option<f64>,
    /// The log loss over that of the observed rate. `None` if all labels are the same.
    pub normalised_entropy: Option<f64>,
    /// The population stability index of the predictions yesterday against the day before.
    pub drift: Option<f64>,
}

/// The campaign, version and day that something was counted for.
pub(in super::super) type Counted = (String, String, i32);

/// The days of each version of each campaign.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Qualities {
    pub(in super::super) all: BTreeMap<(String, String), BTreeMap<i32, Quality>>,
}

impl Qualities {
    /// Counts a label on the day of this time, when its impression reaches its age.
    pub(in super::super) fn count(
        &mut self,
        [campaign, version]: [&str; 2],
        known_at: i64,
        label: &Labelled,
    ) -> Counted {
        let (key, day) = (self.key(campaign, version), day_of(known_at));
        self.all.entry(key.clone()).or_default().entry(day).or_default().add(label);
        (key.0, key.1, day)
    }

    /// Counts a prediction on the day of this time, when it was shown.
    pub(in super::super) fn show(
        &mut self,
        [campaign, version]: [&str; 2],
        shown_at: i64,
        probability: f64,
    ) -> Counted {
        let (key, day) = (self.key(campaign, version), day_of(shown_at));
        self.all.entry(key.clone()).or_default().entry(day).or_default().show(probability);
        (key.0, key.1, day)
    }

    fn key(&self, campaign: &str, version: &str) -> (String, String) {
        let key = (campaign.to_owned(), version.to_owned());
        let has_room = self.all.len() < QUALITIES_MAX || self.all.contains_key(&key);
        if has_room { key } else { (OTHER.to_owned(), OTHER.to_owned()) }
    }

    /// Removes the days that are no longer kept, and returns them.
    pub(in super::super) fn forget(&mut self, clock: i64) -> Vec<Counted> {
        let first = day_of(clock).saturating_sub(DAYS_BACK);
        let mut gone = Vec::new();
        self.all.retain(|(campaign, version), days| {
            let kept = days.split_off(&first);
            gone.extend(days.keys().map(|day| (campaign.clone(), version.clone(), *day)));
            *days = kept;
            !days.is_empty()
        });
        gone
    }

    /// The figures, by campaign and version. `predicts`: what a campaign's probability is about.
    pub(in super::super) fn figures(
        &self,
        clock: i64,
        predicts: impl Fn(&str) -> Option<Reward>,
    ) -> Vec<QualityOf<'_>> {
        let today = day_of(clock);
        let figures = self.all.iter().map(|((campaign, version), days)| {
            let day = |back: i32| days.get(&today.saturating_sub(back)).cloned().unwrap_or_default();
            let predicts = predicts(campaign);
            let sum = if predicts == Some(Reward::Click) { day(0).plus(&day(1)) } else { day(1).plus(&day(2)) };
            let Quality { labels, positives, clicked, converted, predicted_nanos, loss_nanos, .. } = sum;
            let rate = positives as f64 / labels as f64;
            let entropy = -(rate * rate.ln() + (1.0 - rate) * (1.0 - rate).ln());
            QualityOf {
                campaign,
                version,
                labels,
                positives,
                clicked,
                converted: (predicts == Some(Reward::Conversion)).then_some(converted),
                predicted: predicted_nanos as f64 / NANOS,
                calibration: (positives > 0).then(|| predicted_nanos as f64 / NANOS / positives as f64),
                // Of labels that are all the same, it is no number.
                normalised_entropy: (entropy > 0.0).then(|| loss_nanos as f64 / NANOS / labels as f64 / entropy),
                drift: day(1).drift(&day(2)),
            }
        });
        figures.filter(|it| it.labels > 0 || it.drift.is_some()).collect()
    }
}

fn day_of(at: i64) -> i32 {
    i32::try_from(at.div_euclid(DAY)).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labelled(probability: f64, is_clicked: bool, is_converted: bool, predicts: Reward) -> Labelled {
        Labelled { probability, is_clicked, is_converted, predicts }
    }

    #[test]
    fn figures_are_those_of_the_formulas() {
        let mut all = Qualities::default();
        // Of 1,000 impressions, those with 0.2 are clicked at that rate, and those with 0.4 at half of it.
        for number in 0..1_000 {
            let (probability, each) = if number % 2 == 0 { (0.2, 5) } else { (0.4, 5) };
            let label = labelled(probability, number / 2 % each == 0, false, Reward::Click);
            let counted = all.count(["spring", "7"], DAY + number, &label);
            assert_eq!(counted, ("spring".to_owned(), "7".to_owned(), 1));
        }
        for number in 0..10 {
            let label = labelled(0.5, number < 4, number < 2 || number == 9, Reward::Conversion);
            all.count(["summer", "7"], DAY, &label);
        }
        let predicts = |id: &str| Some(if id == "summer" { Reward::Conversion } else { Reward::Click });
        let found = all.figures(2 * DAY, predicts);
        let [spring, summer] = found[..] else { panic!("{found:?}") };
        assert_eq!((spring.labels, spring.positives, spring.clicked, spring.converted), (1_000, 200, 200, None));
        assert!((spring.calibration.unwrap() - 300.0 / 200.0).abs() < 1e-9 && (spring.predicted - 300.0).abs() < 1e-6);
        let loss = |p: f64| -(0.2 * p.ln() + 0.8 * (1.0 - p).ln());
        let expected = f64::midpoint(loss(0.2), loss(0.4)) / loss(0.2);
        assert!((spring.normalised_entropy.unwrap() - expected).abs() < 1e-8, "{spring:?} {expected}");
        assert_eq!((summer.clicked, summer.converted, summer.positives), (4, Some(2), 3));
        assert_eq!(spring.drift, None, "there is one day");
        // Two days later, the first day is over for clicks; a day later, for conversions as well.
        let labels = |clock: i64| all.figures(clock, predicts).iter().map(|it| it.labels).collect::<Vec<_>>();
        assert_eq!([2, 3, 4].map(|day| labels(day * DAY)), [vec![1_000, 10], vec![10], vec![]]);
        assert_eq!(all.forget(3 * DAY), []);
        let gone = |id: &str| (id.to_owned(), "7".to_owned(), 1);
        assert_eq!(all.forget(4 * DAY), ["spring", "summer"].map(gone));
        assert!(all.all.is_empty());
    }

    #[test]
    fn what_is_counted_ahead_is_not_shown_before_its_day_is_over() {
        let mut all = Qualities::default();
        // Its failures are certain, its successes are not.
        all.count(["a", "1"], 9 * DAY + 1, &labelled(0.1, false, false, Reward::Conversion));
        let labels = |clock: i64| all.figures(clock, |_| Some(Reward::Conversion)).len();
        assert_eq!([8 * DAY, 9 * DAY + DAY - 1, 10 * DAY].map(labels), [0, 0, 1]);
    }

    #[test]
    fn predictions_that_moved_show_and_the_same_do_not() {
        let mut all = Qualities::default();
        let mut add = |version: &str, day: i64, probability: f64| {
            all.show(["a", version], day * DAY, probability);
        };
        for number in 0..4_000 {
            let probability = f64::from(number % 100) / 400.0;
            add("same", 5, probability);
            add("same", 6, f64::from((number * 7) % 100) / 400.0);
            // The hour after midnight, when other people are awake.
            add("same", 7, 0.9);
            add("moved", 5, probability);
            add("moved", 6, probability * 2.0);
            if number < 999 {
                add("few", 5, 0.1);
                add("few", 6, 0.9);
            }
        }
        for _ in 0..10 {
            all.count(["a", "few"], 6 * DAY, &labelled(0.5, false, false, Reward::Click));
        }
        let found = all.figures(7 * DAY, |_| Some(Reward::Click));
        let drift = |version: &str| found.iter().find(|it| it.version == version).unwrap().drift;
        assert!(drift("same").unwrap() < 0.01 && drift("moved").unwrap() > 0.25, "{found:?}");
        assert_eq!(drift("few"), None);
        let few = found.iter().find(|it| it.version == "few").unwrap();
        assert_eq!((few.calibration, few.normalised_entropy), (None, None), "no label is positive");
        assert_eq!((few.labels, few.predicted), (10, 5.0));
    }

    #[test]
    fn what_does_not_fit_is_counted_together_and_certain_mistakes_are_finite() {
        let mut all = Qualities::default();
        for number in 0..QUALITIES_MAX + 50 {
            let label = labelled(if number % 2 == 0 { 0.0 } else { 1.0 }, number % 2 == 0, false, Reward::Click);
            // Of several campaigns.
            all.count([&format!("c{}", number % 7), &format!("v{number}")], DAY, &label);
        }
        let found = all.figures(2 * DAY, |_| None);
        assert_eq!(found.iter().map(|it| it.labels).sum::<u64>(), QUALITIES_MAX as u64 + 50);
        let other = found.iter().find(|it| it.version == OTHER).unwrap();
        assert_eq!((found.len(), other.campaign, other.labels, other.positives), (QUALITIES_MAX + 1, OTHER, 50, 25));
        assert!(other.normalised_entropy.unwrap().is_finite());
    }
}
