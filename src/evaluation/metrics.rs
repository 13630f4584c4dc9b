//! Metrics of binary predictions.
//!
//! Owns the formulas, each with its source. If a probability is NaN, the metric of the sample is `None`. Only [`auc`] and
//! [`reliability`] allocate, because they sort a copy.

use serde::Serialize;

/// Probabilities are clipped to this distance from 0 and 1 in logarithms: a certain but wrong prediction costs 34.5 nats instead of
/// infinity.
const CLIP: f64 = 1e-15;

/// A prediction with its outcome.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prediction {
    /// The probability of the outcome, 0 to 1.
    pub probability: f64,
    /// Whether it happened.
    pub label: bool,
}

impl Prediction {
    fn truth(&self) -> f64 {
        f64::from(u8::from(self.label))
    }
}

/// The mean over the predictions; `None` if there are none or a term is NaN.
fn mean(predictions: &[Prediction], term: impl Fn(&Prediction) -> f64) -> Option<f64> {
    let mean = predictions.iter().map(term).sum::<f64>() / predictions.len() as f64;
    (!mean.is_nan()).then_some(mean)
}

/// The share of positives.
fn rate(predictions: &[Prediction]) -> Option<f64> {
    mean(predictions, Prediction::truth)
}

/// The mean negative log-likelihood in nats, `-mean(y ln p + (1 - y) ln(1 - p))`, with p kept 1e-15 away from 0 and 1
/// (Good 1952, "Rational Decisions"). 0 is best.
pub fn log_loss(predictions: &[Prediction]) -> Option<f64> {
    mean(predictions, |it| {
        let probability = it.probability.clamp(CLIP, 1.0 - CLIP);
        -(if it.label { probability } else { 1.0 - probability }).ln()
    })
}

/// The log loss relative to always predicting the sample's own rate (He et al. 2014, "Practical Lessons from Predicting Clicks on
/// Ads at Facebook", section 3): below 1 is better than that. `None` with only one class.
pub fn normalised_entropy(predictions: &[Prediction]) -> Option<f64> {
    let rate = rate(predictions)?;
    let entropy = -(rate * rate.ln() + (1.0 - rate) * (1.0 - rate).ln());
    // With one class the entropy is 0 · ln 0, which is NaN.
    (entropy > 0.0).then_some(log_loss(predictions)? / entropy)
}

/// The probability that a positive ranks above a negative, with ties counting half: the rank sum of Mann and Whitney 1947, with tied
/// predictions at their mean rank (Hanley and McNeil 1982). `None` with only one class.
pub fn auc(predictions: &[Prediction]) -> Option<f64> {
    let positives = predictions.iter().filter(|it| it.label).count() as f64;
    let negatives = predictions.len() as f64 - positives;
    if positives == 0.0 || negatives == 0.0 || predictions.iter().any(|it| it.probability.is_nan()) {
        return None;
    }
    let sorted = sorted(predictions);
    let mut rank_sum = 0.0;
    let mut before = 0;
    // `==` instead of `total_cmp`, so that 0 and -0 tie.
    for tied in sorted.chunk_by(|a, b| a.probability == b.probability) {
        let mean_rank = before as f64 + f64::midpoint(1.0, tied.len() as f64);
        rank_sum += mean_rank * tied.iter().filter(|it| it.label).count() as f64;
        before += tied.len();
    }
    Some((rank_sum - positives * (positives + 1.0) / 2.0) / (positives * negatives))
}

fn sorted(predictions: &[Prediction]) -> Vec<Prediction> {
    let mut sorted = predictions.to_vec();
    sorted.sort_by(|a, b| a.probability.total_cmp(&b.probability));
    sorted
}

/// Predicted over observed positives, `sum p / sum y` (He et al. 2014, section 3): above 1 is overestimated. `None` without
/// positives.
pub fn calibration_ratio(predictions: &[Prediction]) -> Option<f64> {
    let came = predictions.iter().filter(|it| it.label).count() as f64;
    let expected: f64 = predictions.iter().map(|it| it.probability).sum();
    (came > 0.0 && !expected.is_nan()).then_some(expected / came)
}

/// The share of predictions on the right side of 0.5; exactly 0.5 counts as positive.
pub fn accuracy(predictions: &[Prediction]) -> Option<f64> {
    mean(predictions, |it| {
        if it.probability.is_nan() { f64::NAN } else { f64::from(u8::from((it.probability >= 0.5) == it.label)) }
    })
}

/// The mean squared error of the probability (Brier 1950). 0 is best.
pub fn brier(predictions: &[Prediction]) -> Option<f64> {
    mean(predictions, |it| (it.probability - it.truth()).powi(2))
}

/// A bin of predictions with similar probabilities.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Bin {
    /// The number of predictions.
    pub count: usize,
    /// Their mean probability.
    pub predicted: f64,
    /// The share of positives.
    pub observed: f64,
}

/// The reliability diagram in bins of equal size, lowest probability first (Nguyen and O'Connor 2015, "Posterior calibration and
/// exploratory analysis for natural language processing models"): at most `bins`, whose counts differ by at most one. NaN
/// predictions are ignored.
pub fn reliability(predictions: &[Prediction], bins: usize) -> Vec<Bin> {
    let sorted: Vec<_> = sorted(predictions).into_iter().filter(|it| !it.probability.is_nan()).collect();
    let bins = bins.min(sorted.len());
    let edge = |bin: usize| bin * sorted.len() / bins;
    (0..bins)
        .map(|bin| {
            let slice = &sorted[edge(bin)..edge(bin + 1)];
            let count = slice.len() as f64;
            Bin {
                count: slice.len(),
                predicted: slice.iter().map(|it| it.probability).sum::<f64>() / count,
                observed: slice.iter().map(Prediction::truth).sum::<f64>() / count,
            }
        })
        .collect()
}

/// All metrics of a sample; `None` for those that are undefined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// The number of predictions.
    pub count: usize,
    /// The number of positives.
    pub positives: usize,
    /// [`log_loss`]
    pub log_loss: Option<f64>,
    /// [`normalised_entropy`]
    pub normalised_entropy: Option<f64>,
    /// [`auc`]
    pub auc: Option<f64>,
    /// [`calibration_ratio`]
    pub calibration_ratio: Option<f64>,
    /// [`accuracy`]
    pub accuracy: Option<f64>,
    /// [`brier`]
    pub brier: Option<f64>,
}

impl Summary {
    /// Computes all metrics.
    pub fn of(predictions: &[Prediction]) -> Self {
        Self {
            count: predictions.len(),
            positives: predictions.iter().filter(|it| it.label).count(),
            log_loss: log_loss(predictions),
            normalised_entropy: normalised_entropy(predictions),
            auc: auc(predictions),
            calibration_ratio: calibration_ratio(predictions),
            accuracy: accuracy(predictions),
            brier: brier(predictions),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(pairs: &[(f64, u8)]) -> Vec<Prediction> {
        pairs.iter().map(|&(probability, label)| Prediction { probability, label: label == 1 }).collect()
    }

    fn close(found: Option<f64>, expected: f64) {
        let found = found.expect("the metric is defined");
        assert!((found - expected).abs() < 1e-12, "expected {expected}, found {found}");
    }

    #[test]
    fn the_metrics_of_four_predictions_match_a_calculation_by_hand() {
        let four = sample(&[(0.9, 1), (0.4, 1), (0.6, 0), (0.1, 0)]);
        // -(ln 0.9 + ln 0.4 + ln 0.4 + ln 0.9) / 4
        close(log_loss(&four), 0.510_825_623_765_990_7);
        // over ln 2
        close(normalised_entropy(&four), 0.736_965_594_166_206_2);
        // Of the four pairs, only 0.4 against 0.6 is in the wrong order.
        close(auc(&four), 0.75);
        close(calibration_ratio(&four), 1.0);
        close(accuracy(&four), 0.5);
        // (0.01 + 0.36 + 0.36 + 0.01) / 4
        close(brier(&four), 0.185);
    }

    #[test]
    fn tied_predictions_count_half_in_the_auc() {
        close(auc(&sample(&[(0.5, 1), (0.5, 0), (0.5, 0)])), 0.5);
        // Pairs: 0.8 beats both; 0.3 ties with 0.3 and beats 0.1: 3.5 of 4.
        close(auc(&sample(&[(0.8, 1), (0.3, 1), (0.3, 0), (0.1, 0)])), 0.875);
        close(auc(&sample(&[(0.0, 1), (-0.0, 0)])), 0.5);
    }

    #[test]
    fn with_one_class_auc_and_entropy_are_undefined() {
        let positives = sample(&[(0.5, 1), (0.5, 1)]);
        assert_eq!((auc(&positives), normalised_entropy(&positives)), (None, None));
        close(log_loss(&positives), std::f64::consts::LN_2);
        close(calibration_ratio(&positives), 0.5);
        let negatives = sample(&[(0.5, 0)]);
        assert_eq!(
            (auc(&negatives), normalised_entropy(&negatives), calibration_ratio(&negatives)),
            (None, None, None)
        );
    }

    #[test]
    fn empty_samples_and_nan_are_undefined() {
        assert_eq!(Summary::of(&[]), Summary::default());
        let broken = Summary::of(&sample(&[(f64::NAN, 1), (0.2, 0)]));
        assert_eq!(broken, Summary { count: 2, positives: 1, ..Summary::default() });
    }

    #[test]
    fn a_certain_but_wrong_prediction_is_expensive_but_finite() {
        // ln(1e-15)
        close(log_loss(&sample(&[(0.0, 1)])), 34.538_776_394_910_684);
    }

    #[test]
    fn bins_have_equal_sizes_in_order_of_probability() {
        let five = sample(&[(0.9, 1), (0.1, 0), (0.2, 1), (0.8, 1), (0.7, 0)]);
        let bins = reliability(&five, 2);
        assert_eq!(bins.iter().map(|bin| bin.count).collect::<Vec<_>>(), [2, 3]);
        close(Some(bins[0].predicted), 0.15);
        close(Some(bins[0].observed), 0.5);
        close(Some(bins[1].predicted), 0.8);
        close(Some(bins[1].observed), 2.0 / 3.0);
        assert_eq!(reliability(&five, 9).len(), 5);
        assert_eq!(reliability(&[], 3), []);
    }
}
