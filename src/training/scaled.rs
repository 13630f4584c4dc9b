//! Rows as a network sees them: cleaned, scaled, and with weights.
//!
//! Guarantees: means and deviations are those of the finite values of the training rows.

use super::{Dataset, TrainError, layers::Layers, network::scale};
use crate::evaluation::{Prediction, log_loss};
use candle_core::{Device, Tensor};

/// A deviation below this share of the mean is less than two ulps of an `f32`: the column is constant.
const ROUNDING: f64 = 1e-7;

/// Cleaned and scaled rows.
pub(super) struct Scaled {
    /// In row-major order.
    pub(super) values: Vec<f32>,
    pub(super) labels: Vec<bool>,
    pub(super) width: usize,
    /// The mean and deviation of each feature, and whether it is constant.
    pub(super) mean: Vec<f32>,
    pub(super) deviation: Vec<f32>,
    pub(super) constant: Vec<bool>,
}

impl Scaled {
    /// Scales rows by their own means and deviations.
    pub(super) fn new(data: &Dataset, rows: &[usize]) -> Self {
        let (mean, deviation, constant) = statistics(data, rows);
        let mut scaled =
            Self { values: Vec::new(), labels: Vec::new(), width: data.features.len(), mean, deviation, constant };
        scaled.fill(data, rows);
        scaled
    }

    /// Scales other rows in the same way.
    pub(super) fn scale_like(&self, data: &Dataset, rows: &[usize]) -> Self {
        let (mean, deviation, constant) = (self.mean.clone(), self.deviation.clone(), self.constant.clone());
        let mut scaled = Self { values: Vec::new(), labels: Vec::new(), width: self.width, mean, deviation, constant };
        scaled.fill(data, rows);
        scaled
    }

    fn fill(&mut self, data: &Dataset, rows: &[usize]) {
        self.values = scale(&self.mean, &self.deviation, &data.matrix(rows));
        self.labels = rows.iter().map(|&row| data.labels[row]).collect();
    }

    /// The log loss of always predicting the rows' own rate.
    pub(super) fn entropy(&self) -> f64 {
        let positives = self.labels.iter().filter(|label| **label).count() as f64;
        let rate = positives / self.labels.len().max(1) as f64;
        let part = |share: f64| if share > 0.0 { -share * share.ln() } else { 0.0 };
        part(rate) + part(1.0 - rate)
    }

    /// The loss of all rows, if `offset` is added to the log-odds; NaN if a score is.
    pub(super) fn loss(&self, layers: &Layers, offset: f64) -> Result<f64, TrainError> {
        let input = Tensor::from_slice(&self.values, (self.labels.len(), self.width), &Device::Cpu)?;
        let log_odds = layers.logits(&input)?.affine(1.0, offset)?;
        let scores: Vec<f32> = candle_nn::ops::sigmoid(&log_odds)?.to_vec1()?;
        let pairs = scores.into_iter().zip(&self.labels);
        let predictions: Vec<_> =
            pairs.map(|(score, &label)| Prediction { probability: score.into(), label }).collect();
        Ok(log_loss(&predictions).unwrap_or(f64::NAN))
    }
}

/// The means and deviations of the finite values of these rows, and which features are constant.
fn statistics(data: &Dataset, rows: &[usize]) -> (Vec<f32>, Vec<f32>, Vec<bool>) {
    let width = data.features.len();
    let (mut means, mut deviations, mut constant) = (Vec::new(), Vec::new(), Vec::new());
    for column in 0..width {
        let finite = || rows.iter().map(move |row| data.values[row * width + column]).filter(|value| value.is_finite());
        let count = finite().count().max(1) as f64;
        let mean = finite().map(f64::from).sum::<f64>() / count;
        let variance = finite().map(|value| (f64::from(value) - mean).powi(2)).sum::<f64>() / count;
        let deviation = variance.sqrt();
        let is_constant = deviation <= ROUNDING * mean.abs() || (deviation as f32) < f32::MIN_POSITIVE;
        means.push(mean as f32);
        deviations.push(if is_constant { 1.0 } else { deviation as f32 });
        constant.push(is_constant);
    }
    (means, deviations, constant)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statistics_are_those_of_the_finite_values_of_the_training_rows() {
        let data = Dataset {
            features: vec!["a".to_owned(), "b".to_owned(), "c".to_owned()],
            values: vec![1.0, 7.0, f32::NAN, 3.0, 7.0, f32::NAN, f32::INFINITY, 7.0, f32::NAN, 99.0, 9.0, 1.0],
            labels: vec![true; 4],
            ..Dataset::default()
        };
        let expected = (vec![2.0, 7.0, 0.0], vec![1.0, 1.0, 1.0], vec![false, true, true]);
        assert_eq!(statistics(&data, &[0, 1, 2]), expected);
    }
}
