//! Logistic regression, as a baseline for the network.
//!
//! Guarantees: it uses the same scaled values as the network, and minimises the loss with a ridge of 1, the default of most libraries
//! (scikit-learn's `C = 1`). Limits: sums are 32-bit floats, so a loss has about five correct digits. It is never written to a file.

use super::{TrainError, scaled::Scaled};
use candle_core::{Device, Tensor};

/// The penalty: half of this times the sum of squared weights is added to the sum of losses.
const RIDGE: f64 = 1.0;
/// Newton's method takes a few steps; linearly separable rows take more.
const STEPS_MAX: usize = 50;
/// Conjugate gradient iterations per step: one equation per feature, well conditioned by the ridge.
const INNER_MAX: usize = 60;

/// The weights by feature, the intercept last.
pub(super) struct Logistic {
    weights: Vec<f64>,
}

impl Logistic {
    /// The probability of a positive for each row.
    pub(super) fn score(&self, rows: &Scaled) -> Result<Vec<f64>, TrainError> {
        let log_odds = multiply(&matrix(rows)?, &self.weights)?;
        Ok(log_odds.into_iter().map(|z| 1.0 / (1.0 + (-z).exp())).collect())
    }
}

/// Fits the weights by Newton's method, whose equations are solved by conjugate gradients (Nocedal and Wright 2006, 7.1).
pub(super) fn fit(rows: &Scaled) -> Result<Logistic, TrainError> {
    let matrix = matrix(rows)?;
    let transposed = matrix.t()?;
    let labels: Vec<f64> = rows.labels.iter().map(|&label| f64::from(u8::from(label))).collect();
    let width = matrix.dims()[1];
    let ridge = |weights: &[f64], at: usize| if at + 1 < width { RIDGE * weights[at] } else { 0.0 };
    let loss = |log_odds: &[f64], weights: &[f64]| {
        let rows = log_odds.iter().zip(&labels).map(|(z, y)| z.max(0.0) - z * y + (-z.abs()).exp().ln_1p());
        rows.sum::<f64>() + weights[..width - 1].iter().map(|weight| RIDGE * weight * weight / 2.0).sum::<f64>()
    };
    let mut weights = vec![0.0; width];
    let positives = labels.iter().sum::<f64>();
    weights[width - 1] = ((positives + 0.5) / (labels.len() as f64 - positives + 0.5)).ln();
    let mut log_odds = multiply(&matrix, &weights)?;
    let mut now = loss(&log_odds, &weights);
    for _ in 0..STEPS_MAX {
        let chances: Vec<f64> = log_odds.iter().map(|z| 1.0 / (1.0 + (-z).exp())).collect();
        let errors: Vec<f64> = chances.iter().zip(&labels).map(|(p, y)| p - y).collect();
        let mut gradient = multiply(&transposed, &errors)?;
        (0..width).for_each(|at| gradient[at] += ridge(&weights, at));
        let curvature = |direction: &[f64]| -> Result<Vec<f64>, TrainError> {
            let along = multiply(&matrix, direction)?;
            let weighted: Vec<f64> = along.iter().zip(&chances).map(|(along, p)| along * p * (1.0 - p)).collect();
            let mut product = multiply(&transposed, &weighted)?;
            // A small penalty on the intercept too, in case every probability is 0 or 1.
            (0..width).for_each(|at| product[at] += ridge(direction, at) + 1e-6 * direction[at]);
            Ok(product)
        };
        let step = solve(curvature, &gradient)?;
        let mut size = 1.0;
        let (next, next_odds, next_loss) = loop {
            let next: Vec<f64> = weights.iter().zip(&step).map(|(weight, step)| weight - size * step).collect();
            let next_odds = multiply(&matrix, &next)?;
            let next_loss = loss(&next_odds, &next);
            if next_loss < now || size < 1e-4 {
                break (next, next_odds, next_loss);
            }
            size /= 2.0;
        };
        let gain = now - next_loss;
        if gain.is_nan() || gain <= 0.0 {
            break;
        }
        (weights, log_odds, now) = (next, next_odds, next_loss);
        if gain < 1e-7 * now {
            break;
        }
    }
    Ok(Logistic { weights })
}

/// Solves `product(x) = target` for a positive definite `product`, to a hundredth of the target's size.
fn solve(product: impl Fn(&[f64]) -> Result<Vec<f64>, TrainError>, target: &[f64]) -> Result<Vec<f64>, TrainError> {
    let dot = |one: &[f64], other: &[f64]| one.iter().zip(other).map(|(one, other)| one * other).sum::<f64>();
    let mut found = vec![0.0; target.len()];
    let mut rest = target.to_vec();
    let mut direction = rest.clone();
    let mut size = dot(&rest, &rest);
    let enough = size * 1e-4;
    for _ in 0..INNER_MAX {
        if size <= enough {
            break;
        }
        let along = product(&direction)?;
        let length = size / dot(&direction, &along);
        if !length.is_finite() {
            break;
        }
        for at in 0..found.len() {
            found[at] += length * direction[at];
            rest[at] -= length * along[at];
        }
        let next = dot(&rest, &rest);
        let turn = next / size;
        direction.iter_mut().zip(&rest).for_each(|(direction, rest)| *direction = rest + turn * *direction);
        size = next;
    }
    Ok(found)
}

/// The scaled values with a final column of ones.
fn matrix(rows: &Scaled) -> Result<Tensor, TrainError> {
    let count = rows.labels.len();
    let mut values = Vec::with_capacity(count * (rows.width + 1));
    for row in rows.values.chunks_exact(rows.width) {
        values.extend_from_slice(row);
        values.push(1.0);
    }
    Ok(Tensor::from_vec(values, (count, rows.width + 1), &Device::Cpu)?)
}

fn multiply(matrix: &Tensor, vector: &[f64]) -> Result<Vec<f64>, TrainError> {
    let vector: Vec<f32> = vector.iter().map(|&value| value as f32).collect();
    let count = vector.len();
    let product = matrix.matmul(&Tensor::from_vec(vector, (count, 1), &Device::Cpu)?)?;
    Ok(product.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f64::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gradient_of_the_penalised_loss_is_zero_at_the_weights() {
        // One feature; at x = -1 one of four rows is positive, at x = 1 three of four.
        let values: Vec<f32> = [-1.0, 1.0].into_iter().flat_map(|x| [x; 400]).collect();
        let labels: Vec<bool> = (0..800).map(|row| if row < 400 { row % 4 == 0 } else { row % 4 != 0 }).collect();
        let rows = Scaled { values, labels, width: 1, mean: vec![0.0], deviation: vec![1.0], constant: vec![false] };
        let fitted = fit(&rows).unwrap();
        // The gradient is 800 (sigmoid(w) - 3/4) + w, which is 0 slightly below ln 3.
        let [weight, constant] = fitted.weights[..] else { panic!("{:?}", fitted.weights) };
        let slope = 800.0 * (1.0 / (1.0 + (-weight).exp()) - 0.75) + weight;
        assert!(slope.abs() < 0.05 && (weight - 1.09).abs() < 0.01 && constant.abs() < 1e-3, "{weight} {constant}");
        assert!((fitted.score(&rows).unwrap()[0] - 0.25).abs() < 0.01);
    }

    #[test]
    fn linearly_separable_rows_converge_too() {
        let values: Vec<f32> = (0..200).map(|row| row as f32 / 100.0 - 1.0).collect();
        let labels = (0..200).map(|row| row >= 100).collect();
        let rows = Scaled { values, labels, width: 1, mean: vec![0.0], deviation: vec![1.0], constant: vec![false] };
        let scores = fit(&rows).unwrap().score(&rows).unwrap();
        assert!(scores[0] < 0.01 && scores[199] > 0.99 && scores.iter().all(|score| score.is_finite()), "{scores:?}");
    }
}
