//! The reference network: cleaning and scaling, hidden ReLU layers, a sigmoid output.
//!
//! Owns the weights and their average; `fit` trains them. Guarantees: NaN and infinities score as the mean. The weights are plain
//! vectors, so that `onnx` does not need candle.

use super::{TrainError, layers::Layers, scaled::Scaled};
use crate::inference::FeatureMatrix;
use candle_core::{Device, Tensor};

/// Scaled values are clipped to this many deviations, so that a single outlier does not determine a score. On heavy-tailed sums and
/// durations, the loss of later rows was lowest with 5, compared with 0 and 10.
pub(super) const LIMIT: f32 = 5.0;

/// A layer: its weights, inputs × units in row-major order, and a bias for each unit.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// The weights.
    pub weight: Vec<f32>,
    /// The bias.
    pub bias: Vec<f32>,
}

impl Layer {
    /// The number of its units.
    pub fn units(&self) -> usize {
        self.bias.len()
    }
}

/// A network with hidden layers of any number. Its log-odds are the sum of those of its branches.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// The mean of each feature, which also replaces missing values.
    pub mean: Vec<f32>,
    /// The standard deviation of each feature; 1 if constant.
    pub deviation: Vec<f32>,
    /// Layers that read the same features, side by side. The last layer of each has one unit.
    pub branches: Vec<Vec<Layer>>,
}

impl Network {
    /// The network whose log-odds are the mean of those of the given networks: their branches with output weights divided by their
    /// number. Branches of one hidden layer become one. All must have the same scaling.
    ///
    /// # Panics
    /// There is no network, or they have different scalings.
    pub fn average(networks: &[Self]) -> Self {
        let first = networks.first().expect("there is a network to average");
        assert!(
            networks.iter().all(|it| it.mean == first.mean && it.deviation == first.deviation),
            "all networks have the same scaling"
        );
        let share = networks.len() as f32;
        let mut branches: Vec<Vec<Layer>> = networks.iter().flat_map(|it| it.branches.iter().cloned()).collect();
        for output in branches.iter_mut().filter_map(|branch| branch.last_mut()) {
            output.weight.iter_mut().for_each(|it| *it /= share);
        }
        if branches.iter().all(|branch| branch.len() == 2) {
            branches = vec![merge(&branches, first.width())];
        }
        for output in branches.iter_mut().filter_map(|branch| branch.last_mut()) {
            output.bias.iter_mut().for_each(|it| *it /= share);
        }
        Self { mean: first.mean.clone(), deviation: first.deviation.clone(), branches }
    }

    /// The number of features.
    pub fn width(&self) -> usize {
        self.mean.len()
    }

    /// The units in the hidden layers of its first branch.
    pub fn hidden(&self) -> Vec<usize> {
        let layers = self.branches.first().map_or(&[][..], Vec::as_slice);
        layers.iter().take(layers.len().saturating_sub(1)).map(Layer::units).collect()
    }

    /// The same network for rows of another scaling: its log-odds are the same, apart from values beyond the limit and of features
    /// that are constant in these rows, which are not used.
    #[must_use]
    pub(super) fn scaled_as(&self, rows: &Scaled) -> Self {
        let mut network = Self { mean: rows.mean.clone(), deviation: rows.deviation.clone(), ..self.clone() };
        for first in network.branches.iter_mut().filter_map(|branch| branch.first_mut()) {
            let Layer { weight, bias } = first;
            for (feature, weights) in weight.chunks_mut(bias.len().max(1)).enumerate() {
                let (deviation, shift) = (self.deviation[feature], rows.mean[feature] - self.mean[feature]);
                for (weight, bias) in weights.iter_mut().zip(bias.iter_mut()) {
                    *bias += *weight * shift / deviation;
                    *weight *= if rows.constant[feature] { 0.0 } else { rows.deviation[feature] / deviation };
                }
            }
        }
        network
    }

    /// The number of hidden units in all layers.
    pub fn units(&self) -> usize {
        let hidden = |branch: &Vec<Layer>| branch.iter().map(Layer::units).sum::<usize>() - 1;
        self.branches.iter().map(hidden).sum()
    }

    /// The number of weights and biases.
    pub fn parameters(&self) -> usize {
        self.branches.iter().flatten().map(|layer| layer.weight.len() + layer.bias.len()).sum()
    }

    /// Adds to the log-odds.
    pub(super) fn shift(&mut self, offset: f64) {
        let output = self.branches.first_mut().and_then(|branch| branch.last_mut());
        output.expect("a network has an output").bias[0] += offset as f32;
    }

    /// The cleaned and scaled values of a matrix.
    fn scaled(&self, matrix: &FeatureMatrix) -> Vec<f32> {
        scale(&self.mean, &self.deviation, matrix)
    }

    /// The probability of a positive for each row, as ONNX Runtime computes it from this network's file.
    ///
    /// # Errors
    /// The tensor library failed; the matrix has another width.
    pub fn score(&self, matrix: &FeatureMatrix) -> Result<Vec<f32>, TrainError> {
        let input = Tensor::from_vec(self.scaled(matrix), (matrix.rows(), matrix.width()), &Device::Cpu)?;
        let mut log_odds: Option<Tensor> = None;
        for branch in &self.branches {
            let found = Layers::new(branch, self.width())?.logits(&input)?;
            log_odds = Some(match log_odds {
                Some(sum) => (sum + found)?,
                None => found,
            });
        }
        Ok(candle_nn::ops::sigmoid(&log_odds.expect("a network has a branch"))?.to_vec1()?)
    }
}

/// One hidden layer with the units of all.
fn merge(branches: &[Vec<Layer>], width: usize) -> Vec<Layer> {
    let row = |branch: &[Layer], feature: usize| {
        let units = branch[0].units();
        branch[0].weight[feature * units..(feature + 1) * units].to_vec()
    };
    let hidden = Layer {
        weight: (0..width).flat_map(|at| branches.iter().flat_map(move |it| row(it, at))).collect(),
        bias: branches.iter().flat_map(|it| it[0].bias.iter().copied()).collect(),
    };
    let output = Layer {
        weight: branches.iter().flat_map(|it| it[1].weight.iter().copied()).collect(),
        bias: vec![branches.iter().map(|it| it[1].bias[0]).sum()],
    };
    vec![hidden, output]
}

/// Cleans and scales the values of a matrix.
pub(super) fn scale(mean: &[f32], deviation: &[f32], matrix: &FeatureMatrix) -> Vec<f32> {
    let width = mean.len();
    let scale = |(at, &value): (usize, &f32)| {
        let column = at % width;
        let value = if value.is_finite() { value } else { mean[column] };
        ((value - mean[column]) / deviation[column]).clamp(-LIMIT, LIMIT)
    };
    matrix.values().iter().enumerate().map(scale).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_scores_the_same_with_another_scaling() {
        let layer = |inputs: usize, units: usize| Layer {
            weight: (0..inputs * units).map(|at| (at as f32 * 1.3).sin()).collect(),
            bias: (0..units).map(|at| (at as f32).cos()).collect(),
        };
        let network = Network {
            mean: vec![0.5, 7.0],
            deviation: vec![2.0, 3.0],
            branches: vec![vec![layer(2, 4), layer(4, 1)], vec![layer(2, 3), layer(3, 1)]],
        };
        let rows = Scaled {
            values: Vec::new(),
            labels: Vec::new(),
            width: 2,
            mean: vec![1.5, 6.0],
            deviation: vec![1.0, 4.0],
            constant: vec![false, false],
        };
        let mut matrix = FeatureMatrix::new(2);
        matrix.reset(3).copy_from_slice(&[1.0, 5.0, 0.0, 9.0, 2.5, 7.5]);
        let [before, after] = [&network, &network.scaled_as(&rows)].map(|it| it.score(&matrix).unwrap());
        for (before, after) in before.iter().zip(after) {
            assert!((before - after).abs() < 1e-5, "{before} {after}");
        }
        assert_eq!((network.hidden(), network.width()), (vec![4], 2));
        // A feature that is constant now is not used.
        let constant = network.scaled_as(&Scaled { constant: vec![false, true], ..rows });
        matrix.reset(2).copy_from_slice(&[1.0, 5.0, 1.0, 8.0]);
        let scores = constant.score(&matrix).unwrap();
        assert_eq!(scores[0], scores[1]);
    }

    #[test]
    fn networks_of_several_layers_are_averaged_as_branches() {
        let layers = |shift: f32| {
            let weights = |count: usize| (0..count).map(|at| (at as f32 + shift).sin()).collect();
            let layer = |inputs: usize, units: usize| Layer { weight: weights(inputs * units), bias: weights(units) };
            vec![layer(2, 4), layer(4, 3), layer(3, 1)]
        };
        let network = |shift| Network { mean: vec![0.5; 2], deviation: vec![2.0; 2], branches: vec![layers(shift)] };
        let networks = [network(0.0), network(0.7)];
        let average = Network::average(&networks);
        assert_eq!((average.branches.len(), average.units(), networks[0].units()), (2, 14, 7));
        let mut matrix = FeatureMatrix::new(2);
        matrix.reset(3).copy_from_slice(&[1.0, -2.0, f32::NAN, 4.0, -3.0, 0.0]);
        let log_odds = |network: &Network| -> Vec<f32> {
            network.score(&matrix).unwrap().into_iter().map(|p| (p / (1.0 - p)).ln()).collect()
        };
        let [one, other] = networks.each_ref().map(log_odds);
        for ((found, one), other) in log_odds(&average).into_iter().zip(one).zip(other) {
            assert!((found - f32::midpoint(one, other)).abs() < 1e-5, "{found}: {one}, {other}");
        }
    }
}
