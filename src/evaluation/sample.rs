//! Figures of weighted predictions in memory.
//!
//! Owns the batch form: rows with a weight each (1 for a plain row; a kept negative stands for 1/w rows after
//! down-sampling at rate w), checked once, then every figure of [`Figures`], the per-user AUC and the field-level
//! error. Equal to scikit-learn with `sample_weight` to 1e-9; the log loss keeps probabilities 1e-15 away from 0 and 1,
//! where scikit-learn takes the precision of the type.
//!
//! Differs from [`reliability`](super::reliability) in what a bin is: here each holds the same weight to the last bit,
//! with tied rows on an edge divided in proportion, so that the order of rows never matters and constant scores have
//! the calibration error |p - mean y|. Without ties and with a row count that the bins divide, both are the same.
//!
//! Limits: sorts a copy, 64 bytes a row. Weights are 0 or between 1e-30 and 1e30, so that no product of sums overflows.

use super::{
    metrics::Prediction,
    ranked::{self, CurvePoint, Figures, Group, MassBin, Totals},
};
use serde::Serialize;
use std::collections::BTreeMap;
use thiserror::Error;

/// As in [`log_loss`](super::log_loss).
pub(super) const CLIP: f64 = 1e-15;

/// The range of positive weights. Sums of 1e15 rows stay below 1e45, and their products below 1e90.
const WEIGHT: std::ops::RangeInclusive<f64> = 1e-30..=1e30;

/// A prediction that counts more or less than others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weighted {
    /// The probability and the outcome.
    pub prediction: Prediction,
    /// How many rows it stands for: 0, or 1e-30 to 1e30.
    pub weight: f64,
}

impl From<Prediction> for Weighted {
    fn from(prediction: Prediction) -> Self {
        Self { prediction, weight: 1.0 }
    }
}

/// Why rows have no figures.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
pub enum SampleError {
    /// A probability is NaN or not between 0 and 1.
    #[error("evaluate row {row}: probability {value} is not between 0 and 1")]
    Probability {
        /// The row's number, from 0.
        row: usize,
        /// What it holds.
        value: f64,
    },
    /// A weight is not a number, negative, or out of range.
    #[error("evaluate row {row}: weight {value} is neither 0 nor between 1e-30 and 1e30")]
    Weight {
        /// The row's number, from 0.
        row: usize,
        /// What it holds.
        value: f64,
    },
}

fn check(row: usize, it: &Weighted) -> Result<(), SampleError> {
    let value = it.prediction.probability;
    if !(0.0..=1.0).contains(&value) {
        return Err(SampleError::Probability { row, value });
    }
    if it.weight != 0.0 && !WEIGHT.contains(&it.weight) {
        return Err(SampleError::Weight { row, value: it.weight });
    }
    Ok(())
}

/// Checked rows in order of their score.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    totals: Totals,
    groups: Vec<Group>,
}

impl Sample {
    /// Checks and sorts rows. Rows of weight 0 change nothing but the count.
    ///
    /// # Errors
    ///
    /// If a probability or a weight is out of range.
    pub fn new(rows: impl IntoIterator<Item = Weighted>) -> Result<Self, SampleError> {
        let mut sorted = Vec::new();
        for (row, it) in rows.into_iter().enumerate() {
            check(row, &it)?;
            sorted.push(it);
        }
        Ok(Self::sorted(sorted))
    }

    /// Rows that all weigh 1.
    ///
    /// # Errors
    ///
    /// If a probability is out of range.
    pub fn of(predictions: &[Prediction]) -> Result<Self, SampleError> {
        Self::new(predictions.iter().map(|&it| it.into()))
    }

    /// The rows are checked.
    fn sorted(mut rows: Vec<Weighted>) -> Self {
        let count = rows.len() as u64;
        rows.retain(|it| it.weight > 0.0);
        // All keys, so that sums do not depend on the order in which rows came.
        rows.sort_unstable_by(|a, b| {
            let key = |it: &Weighted| (it.prediction.probability + 0.0, it.weight);
            let ((p, v), (q, w)) = (key(a), key(b));
            p.total_cmp(&q).then(v.total_cmp(&w)).then(a.prediction.label.cmp(&b.prediction.label))
        });
        let mut totals = Totals { rows: count, ..Totals::default() };
        let mut groups: Vec<Group> = Vec::new();
        for it in &rows {
            let Prediction { probability, label } = it.prediction;
            let truth = f64::from(u8::from(label));
            totals.weight += it.weight;
            totals.positives += it.weight * truth;
            totals.predicted += it.weight * probability;
            totals.brier += it.weight * (probability - truth) * (probability - truth);
            totals.log_loss += it.weight * loss(probability, label);
            let group = match groups.last_mut() {
                // `==`, so that 0 and -0 tie.
                Some(last) if last.low == probability => last,
                _ => {
                    groups.push(Group { low: probability, high: probability, ..Group::default() });
                    let last = groups.len() - 1;
                    &mut groups[last]
                }
            };
            *(if label { &mut group.positives } else { &mut group.negatives }) += it.weight;
            group.predicted += it.weight * probability;
        }
        Self { totals, groups }
    }

    /// All figures; `bins` is the number of equal-mass bins of the calibration error.
    pub fn figures(&self, bins: usize) -> Figures {
        ranked::figures(&self.totals, &self.groups, bins)
    }

    /// The reliability diagram in bins of equal mass, lowest probability first.
    pub fn reliability(&self, bins: usize) -> Vec<MassBin> {
        ranked::equal_mass(&self.groups, bins)
    }

    /// At most `points` points of the ROC and precision-recall curves, highest threshold first; empty with one class.
    pub fn curve(&self, points: usize) -> Vec<CurvePoint> {
        ranked::curve(&self.groups, points)
    }
}

/// The negative log-likelihood of a row in nats.
pub(super) fn loss(probability: f64, label: bool) -> f64 {
    let probability = probability.clamp(CLIP, 1.0 - CLIP);
    -(if label { probability } else { 1.0 - probability }).ln()
}

/// How much a user's AUC counts in the per-user AUC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum UserWeighting {
    /// By the weight of all their rows (Zhou et al. 2018, "Deep Interest Network", section 6.2, with plain rows).
    #[default]
    Impressions,
    /// By the weight of their positives.
    Clicks,
    /// All users the same.
    Equal,
}

/// The per-user AUC.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct UserAuc {
    /// The weighted mean of the users' AUC; `None` if no user has both classes.
    pub value: Option<f64>,
    /// How users are weighted.
    pub weighting: UserWeighting,
    /// The number of users with both classes.
    pub users: usize,
    /// The number of users left out, because all their rows are of one class or weigh nothing.
    pub users_left_out: usize,
}

/// Computes the AUC within each user and averages it over the users with both classes.
///
/// # Errors
///
/// If a probability or a weight is out of range.
pub fn user_auc<U: Ord>(
    rows: impl IntoIterator<Item = (U, Weighted)>,
    weighting: UserWeighting,
) -> Result<UserAuc, SampleError> {
    let mut users: BTreeMap<U, Vec<Weighted>> = BTreeMap::new();
    for (row, (user, it)) in rows.into_iter().enumerate() {
        check(row, &it)?;
        users.entry(user).or_default().push(it);
    }
    let all = users.len();
    let (mut sum, mut weight, mut used) = (0.0, 0.0, 0);
    for rows in users.into_values() {
        let sample = Sample::sorted(rows);
        let Some(auc) = ranked::auc(&sample.groups) else { continue };
        let counts = match weighting {
            UserWeighting::Impressions => sample.totals.weight,
            UserWeighting::Clicks => sample.totals.positives,
            UserWeighting::Equal => 1.0,
        };
        sum += counts * auc.value;
        weight += counts;
        used += 1;
    }
    let value = (weight > 0.0).then(|| sum / weight);
    Ok(UserAuc { value, weighting, users: used, users_left_out: all - used })
}

/// What a field's value adds to the field-level error. It needs no rows, so it is its own streaming form: adding is
/// merging.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, serde::Deserialize)]
pub struct FieldSums {
    /// The weight of the rows.
    pub weight: f64,
    /// The weight of the positives.
    pub positives: f64,
    /// The sum of weight times probability.
    pub predicted: f64,
}

impl FieldSums {
    /// Adds a row.
    ///
    /// # Errors
    ///
    /// If the probability or the weight is out of range.
    pub fn add(&mut self, it: &Weighted) -> Result<(), SampleError> {
        check(0, it)?;
        self.add_checked(it);
        Ok(())
    }

    fn add_checked(&mut self, it: &Weighted) {
        self.weight += it.weight;
        self.predicted += it.weight * it.prediction.probability;
        self.positives += if it.prediction.label { it.weight } else { 0.0 };
    }

    /// Adds the rows of another.
    pub fn merge(&mut self, other: &Self) {
        self.weight += other.weight;
        self.positives += other.positives;
        self.predicted += other.predicted;
    }
}

/// The calibration error over the values of a field.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct FieldError {
    /// `Σ_z |Σ (y - p)| / N`. `None` without weight.
    pub absolute: Option<f64>,
    /// `Σ_z N_z |Σ (y - p)| / Σ y / N`, over the values with positives, of which alone N is the weight. `None` if there
    /// are none.
    pub relative: Option<f64>,
    /// The number of values.
    pub values: usize,
    /// The number of values without positives, which the relative error leaves out.
    pub values_without_positives: usize,
}

/// The field-level calibration error (Pan et al. 2020, "Field-aware calibration", Field-ECE and Field-RCE; the paper
/// keeps values without positives by adding a small number to the divisor, which makes them dominate).
pub fn field_error<'a>(values: impl IntoIterator<Item = &'a FieldSums>) -> FieldError {
    let (mut weight, mut absolute) = (0.0, 0.0);
    let (mut with, mut relative) = (0.0, 0.0);
    let (mut count, mut without) = (0, 0);
    for it in values {
        count += 1;
        let apart = (it.positives - it.predicted).abs();
        weight += it.weight;
        absolute += apart;
        if it.positives > 0.0 {
            with += it.weight;
            relative += it.weight * (apart / it.positives);
        } else {
            without += 1;
        }
    }
    let defined = |value: f64| value.is_finite().then_some(value);
    FieldError {
        absolute: defined(absolute / weight),
        relative: defined(relative / with),
        values: count,
        values_without_positives: without,
    }
}

/// The sums of each value of a field.
///
/// # Errors
///
/// If a probability or a weight is out of range.
pub fn by_field<Z: Ord>(rows: impl IntoIterator<Item = (Z, Weighted)>) -> Result<BTreeMap<Z, FieldSums>, SampleError> {
    let mut values: BTreeMap<Z, FieldSums> = BTreeMap::new();
    for (row, (value, it)) in rows.into_iter().enumerate() {
        check(row, &it)?;
        values.entry(value).or_default().add_checked(&it);
    }
    Ok(values)
}

#[cfg(test)]
pub(in crate::evaluation) mod tests;
