//! How good the predictions of each model version are for each campaign, by the day on which their labels became known.
//!
//! Guarantees: all sums are of whole numbers, so they depend on nothing but the impressions, and are the same after a crash. An
//! impression's label is read once, at a fixed age, whether it was a success or not: successes that come early do not count sooner.
//! Limits: [`DAYS_KEPT`] days, and [`QUALITIES_MAX`] versions of campaigns; what would be in further ones is counted in the version
//! `(other)`. About 200 bytes each.

use crate::targeting::campaign::Reward;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, btree_map::Entry};

/// Today and the day before, which figures are about and drift compares.
const DAYS_KEPT: i32 = 2;
/// The most versions of campaigns: more are no table that a person reads, and no metrics that a server likes.
const QUALITIES_MAX: usize = 200;
/// The version of what does not fit.
const OTHER: &str = "(other)";

/// The microseconds of a day.
const DAY: i64 = 86_400_000_000;
/// What 1 stands for in sums of probabilities and of nats. A day's sums fit for 10^9 impressions.
const NANOS: f64 = 1e9;
/// A probability of 0 or 1 costs this distance from it, so that a single mistake is not infinite.
const EDGE: f64 = 1e-9;

/// Upper bounds of the bins of predictions. Those of advertising cluster below 0.01, so the bins are finer there.
const BOUNDS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9];
/// The fewest labels of each of two days that are compared: with fewer, the index of the same predictions is often above 0.05.
const DRIFT_LABELS_MIN: u64 = 1_000;
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
    /// When it is known whether it came true. `None` for an offer, and once it is counted.
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

/// The labels of a day.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct Quality {
    labels: u64,
    positives: u64,
    clicked: u64,
    /// Conversions of impressions that were clicked.
    converted: u64,
    /// The sum of the probabilities, in billionths.
    predicted_nanos: u64,
    /// The sum of the log losses, in billionths of a nat.
    loss_nanos: u64,
    /// The predictions by size.
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
        self.bins[BOUNDS.iter().filter(|bound| of.probability >= **bound).count()] += 1;
    }

    fn plus(&self, other: &Self) -> Self {
        let mut bins = self.bins;
        bins.iter_mut().zip(other.bins).for_each(|(bin, more)| *bin += more);
        Self {
            labels: self.labels + other.labels,
            positives: self.positives + other.positives,
            clicked: self.clicked + other.clicked,
            converted: self.converted + other.converted,
            predicted_nanos: self.predicted_nanos + other.predicted_nanos,
            loss_nanos: self.loss_nanos + other.loss_nanos,
            bins,
        }
    }

    /// The population stability index of the predictions of this day against those of the one before. `None` with few of them.
    fn drift(&self, before: &Self) -> Option<f64> {
        if self.labels.min(before.labels) < DRIFT_LABELS_MIN {
            return None;
        }
        let share = |bin: u64, of: &Self| (bin as f64 / of.labels as f64).max(SHARE_MIN);
        let pairs = self.bins.iter().zip(before.bins);
        let shares = pairs.map(|(now, before_it)| (share(*now, self), share(before_it, before)));
        Some(shares.map(|(now, before)| (now - before) * (now / before).ln()).sum())
    }
}

/// The figures of a version for a campaign, of the labels of today and yesterday.
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
    /// Predicted over observed successes. `None` without a success.
    pub calibration: Option<f64>,
    /// The log loss over that of the observed rate. `None` if all labels are the same.
    pub normalised_entropy: Option<f64>,
    /// The population stability index of the predictions today against yesterday.
    pub drift: Option<f64>,
}

/// The days of each version of each campaign.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Qualities {
    pub(in super::super) all: BTreeMap<(String, String), BTreeMap<i32, Quality>>,
}

impl Qualities {
    /// Counts a label that became known at this time. Returns the version and the day that it is counted for.
    pub(in super::super) fn count(
        &mut self,
        campaign: &str,
        version: &str,
        known_at: i64,
        label: &Labelled,
    ) -> (String, i32) {
        let is_full = self.all.len() >= QUALITIES_MAX;
        let key = |version: &str| (campaign.to_owned(), version.to_owned());
        let (version, days) = match self.all.entry(key(version)) {
            Entry::Occupied(known) => (version, known.into_mut()),
            Entry::Vacant(new) if !is_full => (version, new.insert(BTreeMap::new())),
            Entry::Vacant(_) => (OTHER, self.all.entry(key(OTHER)).or_default()),
        };
        let day = day_of(known_at);
        days.entry(day).or_default().add(label);
        (version.to_owned(), day)
    }

    /// Removes the days that are no longer kept, and returns them.
    pub(in super::super) fn forget(&mut self, clock: i64) -> Vec<(String, String, i32)> {
        let first = day_of(clock).saturating_sub(DAYS_KEPT - 1);
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
            let [now, before] = [today, today.saturating_sub(1)].map(|day| days.get(&day).cloned().unwrap_or_default());
            let sum = now.plus(&before);
            let Quality { labels, positives, clicked, converted, predicted_nanos, loss_nanos, .. } = sum;
            let rate = positives as f64 / labels as f64;
            let entropy = -(rate * rate.ln() + (1.0 - rate) * (1.0 - rate).ln());
            QualityOf {
                campaign,
                version,
                labels,
                positives,
                clicked,
                converted: (predicts(campaign) == Some(Reward::Conversion)).then_some(converted),
                calibration: (positives > 0).then(|| predicted_nanos as f64 / NANOS / positives as f64),
                // Of labels that are all the same, it is no number.
                normalised_entropy: (entropy > 0.0).then(|| loss_nanos as f64 / NANOS / labels as f64 / entropy),
                drift: now.drift(&before),
            }
        });
        figures.filter(|it| it.labels > 0).collect()
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
            assert_eq!(all.count("spring", "7", DAY + number, &label), ("7".to_owned(), 1));
        }
        for number in 0..10 {
            let label = labelled(0.5, number < 4, number < 2 || number == 9, Reward::Conversion);
            all.count("summer", "7", 2 * DAY, &label);
        }
        let predicts = |id: &str| Some(if id == "summer" { Reward::Conversion } else { Reward::Click });
        let found = all.figures(2 * DAY, predicts);
        let [spring, summer] = found[..] else { panic!("{found:?}") };
        assert_eq!((spring.labels, spring.positives, spring.clicked, spring.converted), (1_000, 200, 200, None));
        assert!((spring.calibration.unwrap() - 300.0 / 200.0).abs() < 1e-9);
        let loss = |p: f64| -(0.2 * p.ln() + 0.8 * (1.0 - p).ln());
        let expected = f64::midpoint(loss(0.2), loss(0.4)) / loss(0.2);
        assert!((spring.normalised_entropy.unwrap() - expected).abs() < 1e-8, "{spring:?} {expected}");
        assert_eq!((summer.clicked, summer.converted, summer.positives), (4, Some(2), 3));
        assert_eq!(spring.drift, None, "there is one day");
        // A day later, the first day is over.
        assert_eq!(all.forget(3 * DAY), [("spring".to_owned(), "7".to_owned(), 1)]);
        assert_eq!(all.figures(3 * DAY, predicts).len(), 1);
    }

    #[test]
    fn predictions_that_moved_show_and_the_same_do_not() {
        let mut all = Qualities::default();
        let mut add = |version: &str, day: i64, probability: f64| {
            all.count("a", version, day * DAY, &labelled(probability, false, false, Reward::Click));
        };
        for number in 0..4_000 {
            let probability = f64::from(number % 100) / 400.0;
            add("same", 5, probability);
            add("same", 6, f64::from((number * 7) % 100) / 400.0);
            add("moved", 5, probability);
            add("moved", 6, probability * 2.0);
            if number < 999 {
                add("few", 5, 0.1);
                add("few", 6, 0.9);
            }
        }
        let found = all.figures(6 * DAY, |_| Some(Reward::Click));
        let drift = |version: &str| found.iter().find(|it| it.version == version).unwrap().drift;
        assert!(drift("same").unwrap() < 0.01 && drift("moved").unwrap() > 0.25, "{found:?}");
        assert_eq!(drift("few"), None);
        assert_eq!((found[0].calibration, found[0].normalised_entropy), (None, None), "no label is positive");
    }

    #[test]
    fn what_does_not_fit_is_counted_together_and_certain_mistakes_are_finite() {
        let mut all = Qualities::default();
        for number in 0..QUALITIES_MAX + 50 {
            let label = labelled(if number % 2 == 0 { 0.0 } else { 1.0 }, number % 2 == 0, false, Reward::Click);
            all.count("a", &format!("v{number}"), DAY, &label);
        }
        let found = all.figures(DAY, |_| Some(Reward::Click));
        assert_eq!(found.iter().map(|it| it.labels).sum::<u64>(), QUALITIES_MAX as u64 + 50);
        let other = found.iter().find(|it| it.version == OTHER).unwrap();
        assert_eq!((found.len(), other.labels, other.positives), (QUALITIES_MAX + 1, 50, 25));
        assert!(other.normalised_entropy.unwrap().is_finite());
    }
}
