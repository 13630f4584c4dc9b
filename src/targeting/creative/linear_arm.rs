//! What has been learned about a creative's reward as a linear function of features: Bayesian ridge regression.
//!
//! Owns `A = λ I + Σ x xᵀ` and `b = Σ r x` of one creative, as control keeps them (Li et al. 2010, "A contextual-bandit
//! approach to personalized news article recommendation", algorithm 1), and the posterior that a policy carries: the
//! mean `A⁻¹ b` and the inverse of A's Cholesky factor. Guarantees: the sums are kept and A is factored anew for each
//! posterior. Updating an inverse would accumulate errors; this does not. It costs d³/6 multiplications, 5,500 for 32
//! features. Adding an outcome does not need its propensity. Limits: 32 features. Values beyond ±1e6 count as ±1e6.
//! Values that are not finite, and missing features, count as 0. There is no intercept: declare a feature that is
//! always 1. Nothing fades.

use serde::{Deserialize, Serialize};

/// The maximum number of features of a linear bandit.
pub const FEATURES_MAX: usize = 32;

/// The largest absolute value of a feature. The sum of ten billion such squares is still exact to one part in 2^20.
const VALUE_MAX: f64 = 1e6;

/// The features as both sides use them, padded with zeros. `None` if their number is wrong.
pub(super) fn cleaned(features: &[f64], dimension: usize) -> Option<[f64; FEATURES_MAX]> {
    if features.len() != dimension || dimension > FEATURES_MAX {
        return None;
    }
    let mut cleaned = [0.0; FEATURES_MAX];
    for (cleaned, value) in cleaned.iter_mut().zip(features) {
        *cleaned = if value.is_finite() { value.clamp(-VALUE_MAX, VALUE_MAX) } else { 0.0 };
    }
    Some(cleaned)
}

/// The number of values in a lower triangle with its diagonal.
const fn triangle(dimension: usize) -> usize {
    dimension * (dimension + 1) / 2
}

/// The index of a value in a lower triangle that is stored row by row.
const fn place(row: usize, column: usize) -> usize {
    triangle(row) + column
}

/// The sums of a creative.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinearArm {
    /// The number of outcomes.
    updates: u64,
    /// `b`
    response: Vec<f64>,
    /// The lower triangle of `A`, row by row.
    precision: Vec<f64>,
}

impl LinearArm {
    /// The state without outcomes for 1 to 32 features and a ridge λ above 0, which sets how strongly weights are held
    /// at 0. `None` for other arguments.
    pub fn new(dimension: usize, ridge: f64) -> Option<Self> {
        if !(1..=FEATURES_MAX).contains(&dimension) || !ridge.is_finite() || ridge <= 0.0 {
            return None;
        }
        let mut precision = vec![0.0; triangle(dimension)];
        (0..dimension).for_each(|row| precision[place(row, row)] = ridge);
        Some(Self { updates: 0, response: vec![0.0; dimension], precision })
    }

    /// The number of outcomes.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// Adds an outcome. Returns false and changes nothing if the number of features is wrong or the reward is not
    /// finite.
    pub fn update(&mut self, features: &[f64], reward: f64) -> bool {
        let Some(features) = cleaned(features, self.response.len()).filter(|_| reward.is_finite() && self.is_whole())
        else {
            return false;
        };
        let dimension = self.response.len();
        for row in 0..dimension {
            self.response[row] += reward * features[row];
            for column in 0..=row {
                self.precision[place(row, column)] += features[row] * features[column];
            }
        }
        self.updates += 1;
        true
    }

    /// Whether the lengths match. A state read from outside may be damaged.
    fn is_whole(&self) -> bool {
        let dimension = self.response.len();
        (1..=FEATURES_MAX).contains(&dimension) && self.precision.len() == triangle(dimension)
    }

    /// The posterior for a policy. `None` if the state is damaged or has overflowed, that is, if A is not positive
    /// definite.
    pub fn posterior(&self) -> Option<LinearPosterior> {
        if !self.is_whole() {
            return None;
        }
        let dimension = self.response.len();
        let inverse = inverse(&cholesky(&self.precision, dimension)?, dimension);
        // A⁻¹ b = Rᵀ (R b), with R the inverse factor.
        let half: Vec<f64> = (0..dimension).map(|row| dot(&inverse, row, &self.response)).collect();
        let column = |column: usize| (column..dimension).map(move |row| (row, place(row, column)));
        let mean = |index| column(index).map(|(row, place)| inverse[place] * half[row]).sum();
        let posterior = LinearPosterior {
            mean: (0..dimension).map(mean).collect(),
            root: (0..dimension).flat_map(column).map(|(_, place)| inverse[place]).collect(),
        };
        posterior.is_valid().then_some(posterior)
    }
}

/// A row of a lower triangle times a vector.
fn dot(matrix: &[f64], row: usize, vector: &[f64]) -> f64 {
    matrix[place(row, 0)..=place(row, row)].iter().zip(vector).map(|(a, b)| a * b).sum()
}

/// The lower factor L of `A = L Lᵀ` (Golub and Van Loan 2013, 4.2.5); `None` if A is not positive definite.
fn cholesky(matrix: &[f64], dimension: usize) -> Option<Vec<f64>> {
    let mut factor = vec![0.0; triangle(dimension)];
    for row in 0..dimension {
        for column in 0..=row {
            let earlier = &factor[place(column, 0)..place(column, column)];
            let sum: f64 = factor[place(row, 0)..].iter().zip(earlier).map(|(a, b)| a * b).sum();
            let rest = matrix[place(row, column)] - sum;
            factor[place(row, column)] = if row == column {
                // NaN is not a valid pivot either.
                if rest > 0.0 && rest.is_finite() { rest.sqrt() } else { return None }
            } else {
                rest / factor[place(column, column)]
            };
        }
    }
    Some(factor)
}

/// The inverse of a lower triangle, again a lower triangle, by forward substitution.
fn inverse(factor: &[f64], dimension: usize) -> Vec<f64> {
    let mut inverse = vec![0.0; triangle(dimension)];
    for column in 0..dimension {
        inverse[place(column, column)] = 1.0 / factor[place(column, column)];
        for row in column + 1..dimension {
            let sum: f64 = (column..row).map(|at| factor[place(row, at)] * inverse[place(at, column)]).sum();
            inverse[place(row, column)] = -sum / factor[place(row, row)];
        }
    }
    inverse
}

/// The posterior of a creative's weights, up to the scale of the noise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinearPosterior {
    /// The mean of the weights, `A⁻¹ b`.
    mean: Vec<f64>,
    /// The lower triangle R with `A⁻¹ = Rᵀ R`, column by column. `R x` is then a sum of columns, whose rows a processor
    /// can add in parallel.
    root: Vec<f64>,
}

impl LinearPosterior {
    /// The number of features.
    pub fn dimension(&self) -> usize {
        self.mean.len()
    }

    /// The mean weights, in the order of the features.
    pub fn weights(&self) -> &[f64] {
        &self.mean
    }

    /// Whether the lengths match and all values are finite.
    pub fn is_valid(&self) -> bool {
        (1..=FEATURES_MAX).contains(&self.mean.len())
            && self.root.len() == triangle(self.mean.len())
            && self.mean.iter().chain(&self.root).all(|value| value.is_finite())
    }

    /// The mean reward and its deviation, `√(xᵀ A⁻¹ x)`, for [`cleaned`] features.
    pub(super) fn predict(&self, features: &[f64; FEATURES_MAX]) -> (f64, f64) {
        let mean = self.mean.iter().zip(features).map(|(weight, value)| weight * value).sum();
        let mut parts = [0.0; FEATURES_MAX];
        for (from, (column, value)) in self.columns().zip(features).enumerate() {
            for (part, factor) in parts[from..].iter_mut().zip(column) {
                *part += factor * value;
            }
        }
        (mean, parts.iter().map(|part| part * part).sum::<f64>().sqrt())
    }

    /// The columns of R, each from the diagonal down.
    fn columns(&self) -> impl Iterator<Item = &[f64]> {
        let mut rest = self.root.as_slice();
        (1..=self.mean.len()).rev().map(move |length| {
            let (column, after) = rest.split_at(length);
            rest = after;
            column
        })
    }

    /// Weights drawn from the posterior with noise 1, `μ + Rᵀ z`, for standard normal numbers z.
    #[cfg(test)]
    pub(super) fn sample(&self, noise: &[f64]) -> Vec<f64> {
        let part = |(from, column): (usize, &[f64])| column.iter().zip(&noise[from..]).map(|(a, b)| a * b).sum::<f64>();
        self.mean.iter().zip(self.columns().enumerate().map(part)).map(|(mean, part)| mean + part).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::mix;

    fn unit(n: u64) -> f64 {
        mix(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)) as f64 / 2.0_f64.powi(63) - 1.0
    }

    #[test]
    fn two_features_match_a_calculation_by_hand() {
        let mut arm = LinearArm::new(2, 1.0).unwrap();
        assert!(arm.update(&[1.0, 0.0], 1.0) && arm.update(&[1.0, 2.0], 0.0) && arm.update(&[1.0, 1.0], 1.0));
        assert_eq!(arm.updates(), 3);
        // A = [[4, 3], [3, 6]], b = [2, 1], A⁻¹ = [[6, -3], [-3, 4]] / 15
        let posterior = arm.posterior().unwrap();
        assert!(
            (posterior.weights()[0] - 9.0 / 15.0).abs() < 1e-15 && (posterior.weights()[1] + 2.0 / 15.0).abs() < 1e-15
        );
        let (mean, deviation) = posterior.predict(&cleaned(&[1.0, 3.0], 2).unwrap());
        assert!((mean - 3.0 / 15.0).abs() < 1e-15);
        // xᵀ A⁻¹ x = (6 - 18 + 36) / 15
        assert!((deviation - (24.0_f64 / 15.0).sqrt()).abs() < 1e-15);
    }

    #[test]
    fn with_32_features_the_normal_equations_hold() {
        let mut arm = LinearArm::new(32, 0.5).unwrap();
        for outcome in 0..2_000 {
            let features: [f64; 32] = std::array::from_fn(|at| unit(outcome * 40 + at as u64));
            assert!(arm.update(&features, features[3] - 0.5 * features[31] + 0.1 * unit(outcome * 40 + 39)));
        }
        let posterior = arm.posterior().unwrap();
        for row in 0..32 {
            let value = |column: usize| arm.precision[place(row.max(column), row.min(column))] * posterior.mean[column];
            let product: f64 = (0..32).map(value).sum();
            assert!((product - arm.response[row]).abs() < 1e-9);
        }
        assert!((posterior.mean[3] - 1.0).abs() < 0.02 && (posterior.mean[31] + 0.5).abs() < 0.02);
        // With y = A⁻¹ x, the square of the deviation is xᵀ y: solved by a fit whose response is x.
        let features: [f64; 32] = std::array::from_fn(|at| unit(at as u64));
        let solved = LinearArm { response: features.to_vec(), ..arm.clone() }.posterior().unwrap();
        let square: f64 = solved.mean.iter().zip(features).map(|(y, x)| y * x).sum();
        assert!((posterior.predict(&features).1.powi(2) - square).abs() < 1e-12);
    }

    #[test]
    fn odd_inputs_have_documented_results() {
        for (dimension, ridge) in [(0, 1.0), (33, 1.0), (2, 0.0), (2, -1.0), (2, f64::NAN), (2, f64::INFINITY)] {
            assert_eq!(LinearArm::new(dimension, ridge), None);
        }
        let mut arm = LinearArm::new(2, 1.0).unwrap();
        let empty = arm.clone();
        assert!(!arm.update(&[1.0], 1.0) && !arm.update(&[1.0; 3], 1.0) && !arm.update(&[1.0; 2], f64::NAN));
        assert_eq!(arm, empty);
        // Values that are not finite count as missing, and large ones are clamped.
        assert!(arm.update(&[f64::NAN, f64::INFINITY], 1.0) && arm.update(&[0.0, 1e300], 1.0));
        assert_eq!((arm.precision[0], arm.precision[2], &arm.response[..]), (1.0, 1e12 + 1.0, &[0.0, 1e6][..]));
        assert!(arm.posterior().is_some());
        for damaged in [
            LinearArm { precision: vec![1.0], ..empty.clone() },
            LinearArm { precision: vec![1.0, 2.0, 1.0], ..empty.clone() },
            LinearArm { response: vec![f64::MAX, f64::NAN], ..empty.clone() },
            LinearArm { response: vec![], precision: vec![], updates: 0 },
        ] {
            assert_eq!(damaged.posterior(), None, "{damaged:?}");
        }
    }

    #[test]
    fn the_state_survives_its_text() {
        let mut arm = LinearArm::new(3, 1.0).unwrap();
        assert!(arm.update(&[1.0, 0.3, -0.7], 0.1));
        assert_eq!(toml::from_str::<LinearArm>(&toml::to_string(&arm).unwrap()).unwrap(), arm);
        let posterior = arm.posterior().unwrap();
        assert_eq!(toml::from_str::<LinearPosterior>(&toml::to_string(&posterior).unwrap()).unwrap(), posterior);
    }
}
