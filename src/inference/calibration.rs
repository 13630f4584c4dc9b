//! Calibration: maps a model's scores to probabilities.
//!
//! Guarantees: a calibration never reverses the order of two scores; fitting uses only the given predictions. NaN stays NaN.

use crate::evaluation::Prediction;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Scores are clipped to this distance from 0 and 1 before their log-odds are taken: about the smallest step of an `f32` at 1.
const CLIP: f64 = 1e-7;
/// Newton's method converges in a few steps; this is the limit of Lin et al.
const STEPS_MAX: usize = 100;

/// A calibration.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(tag = "method", rename_all = "snake_case", deny_unknown_fields)]
pub enum Calibration {
    /// `sigmoid(slope · logit(score) + offset)` (Platt 1999, on the log-odds of a probability). A slope below 0 is refused.
    Platt {
        /// The factor of the log-odds.
        slope: f64,
        /// The offset of the log-odds.
        offset: f64,
    },
    /// Linear interpolation between points, constant beyond the first and last (isotonic regression, Barlow et al. 1972).
    Isotonic {
        /// The points: score and probability, both ascending.
        points: Vec<(f64, f64)>,
    },
}

impl Calibration {
    /// The probability of a score. NaN stays NaN. Allocates nothing.
    pub fn apply(&self, score: f32) -> f32 {
        let x = f64::from(score);
        if x.is_nan() {
            return score;
        }
        match self {
            Self::Platt { slope, offset } => sigmoid(slope * logit(x) + offset) as f32,
            Self::Isotonic { points } => {
                let next = points.partition_point(|(at, _)| *at <= x);
                match (next.checked_sub(1).map(|before| points[before]), points.get(next)) {
                    (Some((x0, y0)), Some((x1, y1))) => (y0 + (y1 - y0) * ((x - x0) / (x1 - x0))) as f32,
                    (Some((_, y)), None) => y as f32,
                    (None, Some((_, y))) => *y as f32,
                    (None, None) => score,
                }
            }
        }
    }

    /// Why it is invalid, if it is.
    pub fn error(&self) -> Option<String> {
        match self {
            Self::Platt { slope, offset } => (!(slope.is_finite() && *slope >= 0.0 && offset.is_finite())).then(|| {
                format!("expected a slope of 0 or more and a number for the offset, found {slope} and {offset}")
            }),
            Self::Isotonic { points } => {
                let is_inside = |(x, y): &(f64, f64)| x.is_finite() && (0.0..=1.0).contains(y);
                let is_rising = points.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1);
                (points.is_empty() || !points.iter().all(is_inside) || !is_rising).then(|| {
                    "expected at least one point, each a score and a probability from 0 to 1, both ascending".to_owned()
                })
            }
        }
    }

    /// Fits Platt's two parameters by Newton's method, with his targets instead of 0 and 1 so that the fit does not diverge with few
    /// outcomes of one kind (Lin, Lin and Weng 2007). `None` unless both outcomes occur.
    pub fn platt(predictions: &[Prediction]) -> Option<Self> {
        let positives = predictions.iter().filter(|it| it.label).count() as f64;
        let negatives = predictions.len() as f64 - positives;
        if positives == 0.0 || negatives == 0.0 {
            return None;
        }
        let (high, low) = ((positives + 1.0) / (positives + 2.0), 1.0 / (negatives + 2.0));
        let rows: Vec<(f64, f64)> =
            predictions.iter().map(|it| (logit(it.probability), if it.label { high } else { low })).collect();
        let loss = |slope: f64, offset: f64| -> f64 {
            rows.iter().map(|(x, t)| softplus(slope * x + offset) - t * (slope * x + offset)).sum()
        };
        let (mut slope, mut offset) = (0.0, (positives / negatives).ln());
        let mut now = loss(slope, offset);
        for _ in 0..STEPS_MAX {
            // A small ridge keeps the Hessian regular if all scores are equal.
            let (mut g0, mut g1, mut h00, mut h01, mut h11) = (0.0, 0.0, 1e-12, 0.0, 1e-12);
            for (x, t) in &rows {
                let p = sigmoid(slope * x + offset);
                let weight = p * (1.0 - p);
                g0 += (p - t) * x;
                g1 += p - t;
                h00 += weight * x * x;
                h01 += weight * x;
                h11 += weight;
            }
            let determinant = h00 * h11 - h01 * h01;
            let step = ((h11 * g0 - h01 * g1) / determinant, (h00 * g1 - h01 * g0) / determinant);
            let mut size = 1.0;
            let better = loop {
                let next = loss(slope - size * step.0, offset - size * step.1);
                if next < now || size < 1e-10 {
                    break next;
                }
                size /= 2.0;
            };
            let gain = now - better;
            if gain.is_nan() || gain <= 0.0 {
                break;
            }
            (slope, offset, now) = (slope - size * step.0, offset - size * step.1, better);
            if gain < 1e-12 * now.abs() {
                break;
            }
        }
        // If the scores rank in reverse, keep the order and use a constant instead.
        Some(if slope >= 0.0 {
            Self::Platt { slope, offset }
        } else {
            Self::Platt { slope: 0.0, offset: (positives / negatives).ln() }
        })
    }

    /// Fits the ascending step function with the least squared error by pooling adjacent violators (Ayer et al. 1955), and keeps
    /// the ends of each step as points. No probability is 0 or 1, which finite data cannot show: with n rows the smallest is
    /// 1 / (n + 2), by the rule of succession. `None` unless both outcomes occur.
    pub fn isotonic(predictions: &[Prediction]) -> Option<Self> {
        let positives = predictions.iter().filter(|it| it.label).count();
        if positives == 0 || positives == predictions.len() || predictions.iter().any(|it| it.probability.is_nan()) {
            return None;
        }
        let mut sorted = predictions.to_vec();
        sorted.sort_by(|a, b| a.probability.total_cmp(&b.probability));
        let mut pools: Vec<Pool> = Vec::new();
        for tied in sorted.chunk_by(|a, b| a.probability == b.probability) {
            let sum = tied.iter().filter(|it| it.label).count() as f64;
            let at = tied[0].probability;
            pools.push(Pool { first: at, last: at, sum, count: tied.len() as f64 });
            while let [.., before, last] = &mut pools[..]
                && before.sum * last.count >= last.sum * before.count
            {
                before.last = last.last;
                before.sum += last.sum;
                before.count += last.count;
                pools.pop();
            }
        }
        let mut points = Vec::with_capacity(2 * pools.len());
        let least = 1.0 / (predictions.len() as f64 + 2.0);
        for Pool { first, last, sum, count } in pools {
            let probability = (sum / count).clamp(least, 1.0 - least);
            points.push((first, probability));
            if last > first {
                points.push((last, probability));
            }
        }
        Some(Self::Isotonic { points })
    }
}

/// A run of scores with the same probability: its ends, positive outcomes and size.
struct Pool {
    first: f64,
    last: f64,
    sum: f64,
    count: f64,
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn logit(p: f64) -> f64 {
    let p = p.clamp(CLIP, 1.0 - CLIP);
    (p / (1.0 - p)).ln()
}

/// `ln(1 + e^x)` without overflow.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::log_loss;
    use rand::{Rng, SeedableRng, rngs::SmallRng};

    /// Scores whose true probability is `truth(score)`.
    fn predictions(rows: usize, seed: u64, truth: impl Fn(f64) -> f64) -> Vec<Prediction> {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut draw = || {
            let probability: f64 = random.random_range(0.02..0.98);
            Prediction { probability, label: random.random_bool(truth(probability)) }
        };
        (0..rows).map(|_| draw()).collect()
    }

    fn calibrated(calibration: &Calibration, of: &[Prediction]) -> Vec<Prediction> {
        let apply = |it: &Prediction| f64::from(calibration.apply(it.probability as f32));
        of.iter().map(|it| Prediction { probability: apply(it), label: it.label }).collect()
    }

    #[test]
    fn platt_recovers_the_parameters_of_the_outcomes() {
        let sample = predictions(200_000, 1, |p| sigmoid(0.5 * logit(p) - 1.0));
        let Some(Calibration::Platt { slope, offset }) = Calibration::platt(&sample) else { panic!("it fits") };
        assert!((slope - 0.5).abs() < 0.02 && (offset + 1.0).abs() < 0.02, "{slope} {offset}");
    }

    #[test]
    fn isotonic_is_the_best_ascending_step_function() {
        // By hand: the middle three pool to 1/3, and with five rows the minimum is 1/7.
        let of = |rows: &[(f64, bool)]| -> Vec<_> {
            rows.iter().map(|(probability, label)| Prediction { probability: *probability, label: *label }).collect()
        };
        let sample = of(&[(0.1, false), (0.2, true), (0.3, false), (0.4, false), (0.5, true)]);
        let Some(Calibration::Isotonic { points }) = Calibration::isotonic(&sample) else { panic!("it fits") };
        assert_eq!(points, [(0.1, 1.0 / 7.0), (0.2, 1.0 / 3.0), (0.4, 1.0 / 3.0), (0.5, 1.0 - 1.0 / 7.0)]);
        let it = Calibration::Isotonic { points };
        let between = f32::midpoint(1.0 / 3.0, 6.0 / 7.0);
        for (score, probability) in
            [(0.0, 1.0 / 7.0), (0.1, 1.0 / 7.0), (0.3, 1.0 / 3.0), (0.45, between), (0.9, 6.0 / 7.0)]
        {
            assert!((it.apply(score) - probability).abs() < 1e-6, "{score}: {}", it.apply(score));
        }
    }

    #[test]
    fn both_improve_the_loss_of_other_rows_and_keep_the_order() {
        let truth = |p: f64| 0.05 + 0.3 * p * p;
        let (fitted, other) = (predictions(20_000, 2, truth), predictions(20_000, 3, truth));
        for it in [Calibration::platt(&fitted).unwrap(), Calibration::isotonic(&fitted).unwrap()] {
            assert_eq!(it.error(), None);
            let after = calibrated(&it, &other);
            assert!(log_loss(&after).unwrap() < log_loss(&other).unwrap() - 0.1, "{it:?}");
            let mean = |of: &[Prediction]| of.iter().map(|it| it.probability).sum::<f64>() / of.len() as f64;
            let observed = other.iter().filter(|it| it.label).count() as f64 / other.len() as f64;
            assert!((mean(&after) - observed).abs() < 0.01, "{} {observed}", mean(&after));
            let on_grid: Vec<f32> = (0..=1_000).map(|step| it.apply(step as f32 / 1_000.0)).collect();
            assert!(on_grid.is_sorted() && on_grid.iter().all(|p| (0.0..=1.0).contains(p)), "{on_grid:?}");
            assert!(it.apply(f32::NAN).is_nan());
        }
    }

    #[test]
    fn a_single_outcome_fits_nothing_and_a_reversed_ranking_is_not_reversed() {
        let one = [Prediction { probability: 0.5, label: true }; 3];
        assert_eq!((Calibration::platt(&one), Calibration::isotonic(&one)), (None, None));
        let wrong = predictions(5_000, 4, |p| 1.0 - p);
        assert!(matches!(Calibration::platt(&wrong), Some(Calibration::Platt { slope: 0.0, .. })));
    }

    #[test]
    fn faults_are_found() {
        for text in [
            r#"{"method":"platt","slope":-1.0,"offset":0.0}"#,
            r#"{"method":"isotonic","points":[]}"#,
            r#"{"method":"isotonic","points":[[0.5,0.2],[0.4,0.3]]}"#,
            r#"{"method":"isotonic","points":[[0.1,0.5],[0.4,0.3]]}"#,
            r#"{"method":"isotonic","points":[[0.1,1.5]]}"#,
        ] {
            let calibration: Calibration = serde_json::from_str(text).unwrap();
            assert!(calibration.error().is_some(), "{text}");
        }
    }
}
