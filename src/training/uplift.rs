//! Predicts for each row of a randomised experiment what the treatment changes.
//!
//! Owns the fitting of the T- and the X-learner; their arithmetic is in [`crate::evaluation::uplift`]. The models of the outcome are
//! reference networks, one for each arm. The X-learner's models of the effect are ridge regressions on the same scaled features.
//! Guarantees: no row is scored by a model that was fitted on it. The rows are halved at random, and each half is scored by the models
//! of the other (Chernozhukov et al. 2018, cross-fitting), so all rows may be used to measure the scores. The same rows and seed give
//! the same scores. Limits: labels of 0 and 1; effects are linear in the features for the X-learner's second step.

use super::{Dataset, Inspection, Network, Split, TrainError, TrainSpec, network::scale, train_on};
use crate::evaluation::uplift::{XLearner, imputed_effect, t_learner};
use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};

/// The penalty of a ridge regression, for each row: small enough to bias nothing that 1,000 rows show.
const RIDGE: f64 = 1e-3;

/// How uplift is predicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum UpliftLearner {
    /// The difference between a model of the treated rows and one of the others
    T,
    /// Models of the effect on both, each made with the other's model (better if one arm is much smaller)
    X,
}

impl UpliftLearner {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::T => "t",
            Self::X => "x",
        }
    }
}

/// The predicted uplift of each row. `treated` says which rows were.
///
/// # Errors
/// The options are out of range, or an arm has too few rows of a label in one of the halves.
///
/// # Panics
/// `treated` has another length than the rows.
pub fn uplift_scores(
    data: &Dataset,
    treated: &[bool],
    learner: UpliftLearner,
    spec: &TrainSpec,
) -> Result<Vec<f64>, TrainError> {
    assert_eq!(treated.len(), data.rows(), "each row is treated or not");
    let mut order: Vec<usize> = (0..data.rows()).collect();
    order.shuffle(&mut StdRng::seed_from_u64(spec.seed));
    let (first, second) = order.split_at(order.len() / 2);
    let mut scores = vec![0.0; data.rows()];
    for (fitted, scored) in [(first, second), (second, first)] {
        let (on, off): (Vec<usize>, Vec<usize>) = fitted.iter().partition(|row| treated[**row]);
        let (of_treated, of_control) = (outcome_model(data, &on, spec)?, outcome_model(data, &off, spec)?);
        let both = |rows: &[usize]| -> Result<(Vec<f32>, Vec<f32>), TrainError> {
            let matrix = data.matrix(rows);
            Ok((of_treated.score(&matrix)?, of_control.score(&matrix)?))
        };
        match learner {
            UpliftLearner::T => {
                let (with, without) = both(scored)?;
                for ((row, with), without) in scored.iter().zip(with).zip(without) {
                    scores[*row] = t_learner(with.into(), without.into()).map_err(unsound)?;
                }
            }
            UpliftLearner::X => {
                let effects = |rows: &[usize], is_treated: bool| -> Result<Ridge, TrainError> {
                    let (with, without) = both(rows)?;
                    let other = if is_treated { without } else { with };
                    let effects = rows.iter().zip(other).map(|(row, other)| {
                        imputed_effect(is_treated, f64::from(u8::from(data.labels[*row])), other.into())
                    });
                    let effects = effects.collect::<Result<Vec<_>, _>>().map_err(unsound)?;
                    Ok(Ridge::fit(data, rows, &of_treated, &effects))
                };
                let (on_treated, on_control) = (effects(&on, true)?, effects(&off, false)?);
                let joined = XLearner::new(on.len() as f64 / fitted.len() as f64).map_err(unsound)?;
                let (treated, control) = (on_treated.predict(data, scored), on_control.predict(data, scored));
                for ((row, treated), control) in scored.iter().zip(treated).zip(control) {
                    scores[*row] = joined.uplift(treated, control).map_err(unsound)?;
                }
            }
        }
    }
    Ok(scores)
}

fn unsound(error: crate::evaluation::uplift::UpliftError) -> TrainError {
    TrainError::Spec { key: "learner", expected: "finite predictions", found: error.to_string() }
}

/// A network for the probability of a positive label, fitted on these rows.
fn outcome_model(data: &Dataset, rows: &[usize], spec: &TrainSpec) -> Result<Network, TrainError> {
    // The group is the arm.
    let part = Dataset { groups: None, ..data.only(rows) };
    let mut split = Split::of(&part, spec.seed);
    // They are measured elsewhere, so they need no test rows.
    split.train.append(&mut split.test);
    Ok(train_on(&part, (spec, None), &split, Inspection::Skipped, &mut |_| {})?.network)
}

/// A linear regression with a penalty on the squares of its weights, but not on the constant.
struct Ridge {
    mean: Vec<f32>,
    deviation: Vec<f32>,
    /// By feature, and the constant.
    weights: Vec<f64>,
}

impl Ridge {
    /// Fits it to these rows' targets. The features are scaled as this network scales them.
    fn fit(data: &Dataset, rows: &[usize], scaling: &Network, targets: &[f64]) -> Self {
        let (mean, deviation) = (scaling.mean.clone(), scaling.deviation.clone());
        let width = mean.len() + 1;
        let inputs = scale(&mean, &deviation, &data.matrix(rows));
        let mut normal = vec![0.0; width * width];
        let mut right = vec![0.0; width];
        let mut row = vec![1.0; width];
        for (values, target) in inputs.chunks_exact(mean.len()).zip(targets) {
            row.iter_mut().zip(values).for_each(|(to, value)| *to = f64::from(*value));
            for (at, value) in row.iter().enumerate() {
                right[at] += value * target;
                for (to, other) in normal[at * width..].iter_mut().zip(&row) {
                    *to += value * other;
                }
            }
        }
        for at in 0..mean.len() {
            normal[at * (width + 1)] += RIDGE * rows.len() as f64;
        }
        // Without rows, the constant has no equation.
        normal[width * width - 1] += f64::MIN_POSITIVE;
        Self { mean, deviation, weights: solve(normal, right) }
    }

    fn predict(&self, data: &Dataset, rows: &[usize]) -> Vec<f64> {
        let inputs = scale(&self.mean, &self.deviation, &data.matrix(rows));
        let (constant, weights) = self.weights.split_last().expect("there is a constant");
        let of =
            |row: &[f32]| constant + weights.iter().zip(row).map(|(it, value)| it * f64::from(*value)).sum::<f64>();
        inputs.chunks_exact(self.mean.len()).map(of).collect()
    }
}

/// Solves a symmetric, positive definite system by Cholesky's decomposition.
fn solve(mut matrix: Vec<f64>, mut right: Vec<f64>) -> Vec<f64> {
    let size = right.len();
    for row in 0..size {
        for column in 0..=row {
            let dot: f64 = (0..column).map(|at| matrix[row * size + at] * matrix[column * size + at]).sum();
            let rest = matrix[row * size + column] - dot;
            matrix[row * size + column] =
                if row == column { rest.max(f64::MIN_POSITIVE).sqrt() } else { rest / matrix[column * size + column] };
        }
        let dot: f64 = (0..row).map(|at| matrix[row * size + at] * right[at]).sum();
        right[row] = (right[row] - dot) / matrix[row * size + row];
    }
    for row in (0..size).rev() {
        let dot: f64 = (row + 1..size).map(|at| matrix[at * size + row] * right[at]).sum();
        right[row] = (right[row] - dot) / matrix[row * size + row];
    }
    right
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{evaluation::uplift::Resampling, random::mix};

    /// Half the rows are treated. The treatment helps where the first feature is above 0, and harms elsewhere.
    fn experiment(rows: usize) -> (Dataset, Vec<bool>) {
        let unit = |number: usize| (mix(number as u64) >> 11) as f64 / (1_u64 << 53) as f64;
        let mut data = Dataset { features: vec!["moves".to_owned(), "says".to_owned()], ..Dataset::default() };
        let mut treated = Vec::new();
        for row in 0..rows {
            let (moves, says) = (unit(4 * row) * 2.0 - 1.0, unit(4 * row + 1) * 2.0 - 1.0);
            let is_treated = unit(4 * row + 2) < 0.5;
            let chance = 0.4 + 0.2 * says + if is_treated { 0.2 * moves } else { 0.0 };
            data.values.extend([moves as f32, says as f32]);
            data.labels.push(unit(4 * row + 3) < chance);
            treated.push(is_treated);
        }
        (data, treated)
    }

    #[test]
    fn both_learners_find_whom_the_treatment_moves() {
        let (data, treated) = experiment(6_000);
        let spec = TrainSpec { members: 1, epochs_max: 20, ..TrainSpec::default() };
        for learner in [UpliftLearner::T, UpliftLearner::X] {
            let scores = uplift_scores(&data, &treated, learner, &spec).unwrap();
            let exposures = (0..data.rows()).map(|row| crate::evaluation::uplift::Exposure {
                score: scores[row],
                is_treated: treated[row],
                outcome: f64::from(u8::from(data.labels[row])),
            });
            let measured = crate::evaluation::uplift::Uplift::new(exposures).unwrap();
            let area = measured.areas(&Resampling { replicates: 100, ..Resampling::default() }).qini;
            assert!(area.per_row_interval.unwrap().low > 0.0, "{learner:?}: {area:?}");
            let moves = data.values.iter().step_by(2);
            let right = scores.iter().zip(moves).filter(|(score, moves)| (**score > 0.0) == (**moves > 0.0)).count();
            assert!(right > 6_000 * 8 / 10, "{learner:?}: {right} of 6000 have the right sign");
            assert_eq!(scores, uplift_scores(&data, &treated, learner, &spec).unwrap(), "the same seed");
        }
    }

    #[test]
    fn a_ridge_regression_finds_a_line() {
        let (data, _) = experiment(500);
        let rows: Vec<usize> = (0..500).collect();
        let scaling = Network { mean: vec![0.0; 2], deviation: vec![1.0; 2], branches: Vec::new() };
        let targets: Vec<f64> = data.values.chunks(2).map(|it| 3.0 + 2.0 * f64::from(it[0])).collect();
        let ridge = Ridge::fit(&data, &rows, &scaling, &targets);
        for (weight, expected) in ridge.weights.iter().zip([2.0, 0.0, 3.0]) {
            assert!((weight - expected).abs() < 0.02, "{:?}", ridge.weights);
        }
        assert!(Ridge::fit(&data, &[], &scaling, &[]).weights.iter().all(|it| it.is_finite()));
    }
}
