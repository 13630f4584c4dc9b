//! The reference network: cleaning and scaling, one hidden layer of ReLU, a sigmoid.
//!
//! Owns the training (Adam on binary cross-entropy, stopped by the validation loss) and the weights that come out of
//! it. Guarantees: initial weights, shuffles and so the outcome follow from the seed on one machine; means and
//! deviations are those of the finite values of the training rows; NaN and both infinities score as the mean. Limits:
//! floats throughout, on the CPU. The weights are plain vectors, so that `onnx` writes them without candle.

use super::{Dataset, Split, TrainError, TrainSpec};
use crate::{
    evaluation::{Prediction, log_loss},
    inference::FeatureMatrix,
};
use candle_core::{Device, Tensor, Var};
use candle_nn::{AdamW, Optimizer, ParamsAdamW};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};

/// Below this loss there is nothing left to learn, in nats a row.
const LEARNED: f64 = 1e-3;

/// A deviation below this share of the mean is rounding, of floats with 24 bits: the column is constant.
const ROUNDING: f64 = 1e-6;

/// The weights, and how an input is cleaned and scaled before them. Matrices are row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// By feature: its mean, which also stands for a missing value.
    pub mean: Vec<f32>,
    /// By feature: its standard deviation; 1 for a constant one.
    pub deviation: Vec<f32>,
    /// The hidden layer's weights: features × hidden.
    pub hidden_weight: Vec<f32>,
    /// The hidden layer's bias.
    pub hidden_bias: Vec<f32>,
    /// The output's weights: hidden × 1.
    pub output_weight: Vec<f32>,
    /// The output's bias.
    pub output_bias: f32,
}

/// What one epoch came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Epoch {
    /// Its number, from 1.
    pub number: usize,
    /// The loss that decides: of the validation rows, or of all where there are none.
    pub loss: f64,
    /// The best loss so far.
    pub best: f64,
}

/// What training comes to.
pub(super) struct Fit {
    pub(super) network: Network,
    pub(super) epochs: usize,
    pub(super) best_epoch: usize,
}

impl Network {
    /// The untrained network: He's uniform initialisation under the ReLU and Glorot's under the sigmoid (He et al. 2015,
    /// Glorot and Bengio 2010), and the share of positives as its first answer.
    fn untrained(data: &Dataset, rows: &[usize], hidden: usize, random: &mut StdRng) -> Self {
        let width = data.features.len();
        let (mean, deviation) = statistics(data, rows);
        let mut draw = |count: usize, bound: f32| (0..count).map(|_| random.random_range(-bound..bound)).collect();
        let positives = rows.iter().filter(|&&row| data.labels[row]).count() as f32;
        // Half a row of each class keeps the logarithm finite.
        let odds = (positives + 0.5) / (rows.len() as f32 - positives + 0.5);
        Self {
            mean,
            deviation,
            hidden_weight: draw(width * hidden, (6.0 / width as f32).sqrt()),
            hidden_bias: vec![0.0; hidden],
            output_weight: draw(hidden, (6.0 / (hidden as f32 + 1.0)).sqrt()),
            output_bias: odds.ln(),
        }
    }

    /// How many features it reads.
    pub fn width(&self) -> usize {
        self.mean.len()
    }

    /// How many units its hidden layer has.
    pub fn hidden(&self) -> usize {
        self.hidden_bias.len()
    }

    /// The value that a feature enters the hidden layer with.
    fn scale(&self, column: usize, value: f32) -> f32 {
        let value = if value.is_finite() { value } else { self.mean[column] };
        (value - self.mean[column]) / self.deviation[column]
    }

    /// The cleaned and scaled values of a matrix.
    fn scaled(&self, matrix: &FeatureMatrix) -> Vec<f32> {
        let width = self.width();
        matrix.values().iter().enumerate().map(|(at, &value)| self.scale(at % width, value)).collect()
    }

    /// The probability of a positive, row by row, as ONNX Runtime would compute it from this network's file.
    ///
    /// # Errors
    /// The tensor library failed; the matrix has another width.
    pub fn score(&self, matrix: &FeatureMatrix) -> Result<Vec<f32>, TrainError> {
        let input = Tensor::from_vec(self.scaled(matrix), (matrix.rows(), matrix.width()), &Device::Cpu)?;
        Ok(candle_nn::ops::sigmoid(&Layers::new(self)?.logits(&input)?)?.to_vec1()?)
    }
}

/// The means and deviations of the finite values of these rows.
fn statistics(data: &Dataset, rows: &[usize]) -> (Vec<f32>, Vec<f32>) {
    let width = data.features.len();
    let column = |column: usize| {
        let finite = || rows.iter().map(move |row| data.values[row * width + column]).filter(|value| value.is_finite());
        let count = finite().count().max(1) as f64;
        let mean = finite().map(f64::from).sum::<f64>() / count;
        let variance = finite().map(|value| (f64::from(value) - mean).powi(2)).sum::<f64>() / count;
        let deviation = variance.sqrt();
        let is_constant = deviation <= ROUNDING * mean.abs() || (deviation as f32) < f32::MIN_POSITIVE;
        (mean as f32, if is_constant { 1.0 } else { deviation as f32 })
    };
    (0..width).map(column).unzip()
}

/// The weights as candle trains them.
struct Layers {
    hidden_weight: Var,
    hidden_bias: Var,
    output_weight: Var,
    output_bias: Var,
}

impl Layers {
    fn new(network: &Network) -> Result<Self, TrainError> {
        let (width, hidden) = (network.width(), network.hidden());
        Ok(Self {
            hidden_weight: Var::from_slice(&network.hidden_weight, (width, hidden), &Device::Cpu)?,
            hidden_bias: Var::from_slice(&network.hidden_bias, hidden, &Device::Cpu)?,
            output_weight: Var::from_slice(&network.output_weight, (hidden, 1), &Device::Cpu)?,
            output_bias: Var::from_slice(&[network.output_bias], 1, &Device::Cpu)?,
        })
    }

    fn all(&self) -> Vec<Var> {
        [&self.hidden_weight, &self.hidden_bias, &self.output_weight, &self.output_bias].map(Var::clone).to_vec()
    }

    /// The log-odds of scaled rows.
    fn logits(&self, input: &Tensor) -> Result<Tensor, TrainError> {
        let hidden = input.matmul(&self.hidden_weight)?.broadcast_add(&self.hidden_bias)?.relu()?;
        Ok(hidden.matmul(&self.output_weight)?.broadcast_add(&self.output_bias)?.squeeze(1)?)
    }

    /// Takes the weights over into a network.
    fn store(&self, network: &mut Network) -> Result<(), TrainError> {
        network.hidden_weight = self.hidden_weight.flatten_all()?.to_vec1()?;
        network.hidden_bias = self.hidden_bias.to_vec1()?;
        network.output_weight = self.output_weight.flatten_all()?.to_vec1()?;
        network.output_bias = self.output_bias.to_vec1::<f32>()?[0];
        Ok(())
    }
}

/// The mean binary cross-entropy of log-odds z: `max(z, 0) - z y + ln(1 + e^-|z|)`, which no z overflows.
fn cross_entropy(logits: &Tensor, labels: &Tensor) -> Result<Tensor, TrainError> {
    let (positive, negative) = (logits.relu()?, logits.neg()?.relu()?);
    let distance = (&positive + &negative)?;
    let softplus = (&positive + (distance.neg()?.exp()? + 1.0)?.log()?)?;
    Ok((softplus - (logits * labels)?)?.mean_all()?)
}

/// One part of the rows, cleaned and scaled.
struct Rows {
    values: Vec<f32>,
    labels: Vec<bool>,
    width: usize,
}

impl Rows {
    fn new(data: &Dataset, rows: &[usize], network: &Network) -> Self {
        let labels = rows.iter().map(|&row| data.labels[row]).collect();
        Self { values: network.scaled(&data.matrix(rows)), labels, width: data.features.len() }
    }

    /// These rows of the part, as tensors.
    fn batch(&self, rows: &[usize]) -> Result<(Tensor, Tensor), TrainError> {
        let values = rows.iter().flat_map(|&row| &self.values[row * self.width..(row + 1) * self.width]).copied();
        let labels = rows.iter().map(|&row| f32::from(u8::from(self.labels[row])));
        Ok((
            Tensor::from_vec(values.collect(), (rows.len(), self.width), &Device::Cpu)?,
            Tensor::from_vec(labels.collect(), rows.len(), &Device::Cpu)?,
        ))
    }

    /// The loss of the whole part; NaN where a score is.
    fn loss(&self, layers: &Layers) -> Result<f64, TrainError> {
        let input = Tensor::from_slice(&self.values, (self.labels.len(), self.width), &Device::Cpu)?;
        let scores: Vec<f32> = candle_nn::ops::sigmoid(&layers.logits(&input)?)?.to_vec1()?;
        let pairs = scores.into_iter().zip(&self.labels);
        let predictions: Vec<_> =
            pairs.map(|(score, &label)| Prediction { probability: score.into(), label }).collect();
        Ok(log_loss(&predictions).unwrap_or(f64::NAN))
    }
}

/// Trains until the watched loss stops falling, and returns the weights of its best epoch.
pub(super) fn fit(
    data: &Dataset,
    split: &Split,
    spec: &TrainSpec,
    mut progress: impl FnMut(Epoch),
) -> Result<Fit, TrainError> {
    let mut random = StdRng::seed_from_u64(spec.seed);
    let mut network = Network::untrained(data, &split.train, spec.hidden, &mut random);
    let layers = Layers::new(&network)?;
    let train = Rows::new(data, &split.train, &network);
    let validation = (!split.validation.is_empty()).then(|| Rows::new(data, &split.validation, &network));
    let watched = validation.as_ref().unwrap_or(&train);
    let rate = ParamsAdamW { lr: spec.learning_rate, weight_decay: spec.weight_decay, ..ParamsAdamW::default() };
    let mut optimizer = AdamW::new(layers.all(), rate)?;
    let mut order: Vec<usize> = (0..train.labels.len()).collect();
    let (mut best, mut best_epoch, mut epochs) = (f64::INFINITY, 0, 0);
    while epochs < spec.epochs_max && epochs < best_epoch + spec.patience && best > LEARNED {
        epochs += 1;
        order.shuffle(&mut random);
        for rows in order.chunks(spec.batch) {
            let (input, labels) = train.batch(rows)?;
            optimizer.backward_step(&cross_entropy(&layers.logits(&input)?, &labels)?)?;
        }
        let loss = watched.loss(&layers)?;
        if loss.is_nan() {
            return Err(TrainError::Diverged { epoch: epochs, learning_rate: spec.learning_rate });
        }
        if loss < best {
            (best, best_epoch) = (loss, epochs);
            layers.store(&mut network)?;
        }
        progress(Epoch { number: epochs, loss, best });
    }
    Ok(Fit { network, epochs, best_epoch })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::train;

    /// Two features of which the sum decides, the second one now and then missing.
    fn sums(rows: usize) -> Dataset {
        let mut random = StdRng::seed_from_u64(7);
        let mut data = Dataset { features: vec!["a".to_owned(), "b".to_owned()], ..Dataset::default() };
        for _ in 0..rows {
            let (a, b) = (random.random_range(-1.0..1.0f32), random.random_range(-100.0..100.0f32));
            data.labels.push(a + b / 100.0 > 0.0);
            data.values.extend([a, if random.random_ratio(1, 20) { f32::NAN } else { b }]);
        }
        data
    }

    #[test]
    fn the_statistics_are_those_of_the_finite_values_of_the_training_rows() {
        let data = Dataset {
            features: vec!["a".to_owned(), "b".to_owned(), "c".to_owned()],
            values: vec![1.0, 7.0, f32::NAN, 3.0, 7.0, f32::NAN, f32::INFINITY, 7.0, f32::NAN, 99.0, 9.0, 1.0],
            labels: vec![true; 4],
            ..Dataset::default()
        };
        assert_eq!(statistics(&data, &[0, 1, 2]), (vec![2.0, 7.0, 0.0], vec![1.0, 1.0, 1.0]));
    }

    #[test]
    fn the_same_seed_gives_the_same_weights() {
        let spec = TrainSpec { epochs_max: 3, ..TrainSpec::default() };
        let [first, second] = [(); 2].map(|()| train(&sums(200), &spec).unwrap().network);
        assert_eq!(first, second);
        assert_ne!(first, train(&sums(200), &TrainSpec { seed: 2, ..spec }).unwrap().network);
    }

    #[test]
    fn what_can_be_learned_is_learned_and_stopped_in_time() {
        let trained = train(&sums(600), &TrainSpec::default()).unwrap();
        let test = trained.parts.iter().find(|part| part.name == "test").unwrap();
        assert!(test.summary.auc.unwrap() > 0.97, "{test:?}");
        assert!(trained.epochs < 1000 && trained.best_epoch <= trained.epochs);
    }

    #[test]
    fn missing_and_infinite_values_score_as_the_mean() {
        let network = train(&sums(200), &TrainSpec { epochs_max: 3, ..TrainSpec::default() }).unwrap().network;
        let mut matrix = FeatureMatrix::new(2);
        let (a, b) = (0.25, network.mean[1]);
        matrix.reset(4).copy_from_slice(&[a, b, a, f32::NAN, a, f32::INFINITY, a, f32::NEG_INFINITY]);
        let scores = network.score(&matrix).unwrap();
        assert!(scores.iter().all(|&score| score == scores[0]), "{scores:?}");
    }

    #[test]
    fn a_spec_out_of_range_is_refused() {
        let error = train(&sums(30), &TrainSpec { hidden: 0, ..TrainSpec::default() }).unwrap_err();
        assert_eq!(error.to_string(), "train: expected hidden to be at least 1, found 0");
    }
}
