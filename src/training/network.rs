//! The reference network: cleaning and scaling, one hidden ReLU layer, a sigmoid output.
//!
//! Owns the training (Adam with decoupled weight decay on binary cross-entropy) and the weights. Guarantees: on one machine the
//! result depends only on the seed, however many threads there are; means and deviations are those of the finite values of the
//! training rows; NaN and infinities score as the mean; a feature that is constant in the training rows has no weight. Limits: 32-bit
//! floats, on the CPU. The weights are plain vectors, so that `onnx` does not need candle.

use super::{Dataset, TrainError, TrainSpec};
use crate::{
    evaluation::{Prediction, log_loss},
    inference::FeatureMatrix,
};
use candle_core::{Device, Tensor, Var};
use candle_nn::{AdamW, Optimizer, ParamsAdamW};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};
use std::{
    sync::mpsc::{Sender, channel},
    thread,
};

/// Training stops below this loss, in nats per row.
const LEARNED: f64 = 1e-3;

/// A deviation below this share of the mean is less than two ulps of an `f32`: the column is constant.
const ROUNDING: f64 = 1e-7;

/// Scaled values are clipped to this many deviations, so that a single outlier does not determine a score. On heavy-tailed sums and
/// durations, the loss of later rows was lowest with 5, compared with 0 and 10.
pub(super) const LIMIT: f32 = 5.0;

/// The weights, and the cleaning and scaling of the input. Matrices are in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// The mean of each feature, which also replaces missing values.
    pub mean: Vec<f32>,
    /// The standard deviation of each feature; 1 if constant.
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

/// The result of an epoch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Epoch {
    /// The number of the network, from 1.
    pub member: usize,
    /// The epoch's number, from 1.
    pub number: usize,
    /// The loss of the validation rows, or of all rows without any; `None` if the number of epochs is fixed.
    pub loss: Option<f64>,
}

/// The result of training.
pub(super) struct Fit {
    pub(super) network: Network,
    pub(super) epochs: usize,
    pub(super) best_epoch: usize,
}

/// The stop criterion.
pub(super) enum Ending<'a> {
    /// When the loss of these rows stops falling, with the weights of the best epoch.
    Best { of: &'a Scaled },
    /// After a fixed number of epochs.
    After { epochs: usize },
}

impl Network {
    /// The untrained network: He's uniform initialisation for the ReLU layer and Glorot's for the output (He et al. 2015, Glorot and
    /// Bengio 2010), with the positive rate as the initial output.
    fn untrained(rows: &Scaled, hidden: usize, random: &mut StdRng) -> Self {
        let width = rows.width;
        let mut draw =
            |count: usize, bound: f32| -> Vec<f32> { (0..count).map(|_| random.random_range(-bound..bound)).collect() };
        let positives = rows.labels.iter().filter(|label| **label).count() as f32;
        // Half a row of each class keeps the logarithm finite.
        let odds = (positives + 0.5) / (rows.labels.len() as f32 - positives + 0.5);
        let mut hidden_weight = draw(width * hidden, (6.0 / width as f32).sqrt());
        // The weights of a constant feature are not trained; random ones would distort scores if it varies later.
        for (weights, _) in hidden_weight.chunks_mut(hidden).zip(&rows.constant).filter(|(_, constant)| **constant) {
            weights.fill(0.0);
        }
        Self {
            mean: rows.mean.clone(),
            deviation: rows.deviation.clone(),
            hidden_weight,
            hidden_bias: vec![0.0; hidden],
            output_weight: draw(hidden, (6.0 / (hidden as f32 + 1.0)).sqrt()),
            output_bias: odds.ln(),
        }
    }

    /// The network whose log-odds are the mean of those of the given networks: their hidden layers concatenated, with output weights
    /// divided by their number. All must have the same scaling.
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
        let of_feature = |network: &Self, feature: usize| {
            let hidden = network.hidden();
            network.hidden_weight[feature * hidden..(feature + 1) * hidden].to_vec()
        };
        let features = 0..first.width();
        Self {
            mean: first.mean.clone(),
            deviation: first.deviation.clone(),
            hidden_weight: features.flat_map(|at| networks.iter().flat_map(move |it| of_feature(it, at))).collect(),
            hidden_bias: networks.iter().flat_map(|it| it.hidden_bias.iter().copied()).collect(),
            output_weight: networks.iter().flat_map(|it| it.output_weight.iter().map(|it| it / share)).collect(),
            output_bias: networks.iter().map(|it| it.output_bias).sum::<f32>() / share,
        }
    }

    /// The number of features.
    pub fn width(&self) -> usize {
        self.mean.len()
    }

    /// The number of hidden units.
    pub fn hidden(&self) -> usize {
        self.hidden_bias.len()
    }

    /// The cleaned and scaled value of a feature.
    fn scale(&self, column: usize, value: f32) -> f32 {
        let value = if value.is_finite() { value } else { self.mean[column] };
        ((value - self.mean[column]) / self.deviation[column]).clamp(-LIMIT, LIMIT)
    }

    /// The cleaned and scaled values of a matrix.
    fn scaled(&self, matrix: &FeatureMatrix) -> Vec<f32> {
        let width = self.width();
        matrix.values().iter().enumerate().map(|(at, &value)| self.scale(at % width, value)).collect()
    }

    /// The probability of a positive for each row, as ONNX Runtime computes it from this network's file.
    ///
    /// # Errors
    /// The tensor library failed; the matrix has another width.
    pub fn score(&self, matrix: &FeatureMatrix) -> Result<Vec<f32>, TrainError> {
        let input = Tensor::from_vec(self.scaled(matrix), (matrix.rows(), matrix.width()), &Device::Cpu)?;
        Ok(candle_nn::ops::sigmoid(&Layers::new(self)?.logits(&input)?)?.to_vec1()?)
    }
}

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
        let network = Network {
            mean: self.mean.clone(),
            deviation: self.deviation.clone(),
            hidden_weight: Vec::new(),
            hidden_bias: Vec::new(),
            output_weight: Vec::new(),
            output_bias: 0.0,
        };
        self.values = network.scaled(&data.matrix(rows));
        self.labels = rows.iter().map(|&row| data.labels[row]).collect();
    }

    /// The given rows, as tensors.
    fn batch(&self, rows: &[usize]) -> Result<(Tensor, Tensor), TrainError> {
        let values = rows.iter().flat_map(|&row| &self.values[row * self.width..(row + 1) * self.width]).copied();
        let labels = rows.iter().map(|&row| f32::from(u8::from(self.labels[row])));
        Ok((
            Tensor::from_vec(values.collect(), (rows.len(), self.width), &Device::Cpu)?,
            Tensor::from_vec(labels.collect(), rows.len(), &Device::Cpu)?,
        ))
    }

    /// The loss of all rows; NaN if a score is.
    fn loss(&self, layers: &Layers) -> Result<f64, TrainError> {
        let input = Tensor::from_slice(&self.values, (self.labels.len(), self.width), &Device::Cpu)?;
        let scores: Vec<f32> = candle_nn::ops::sigmoid(&layers.logits(&input)?)?.to_vec1()?;
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

/// The weights as candle tensors.
struct Layers {
    hidden_weight: Tensor,
    hidden_bias: Tensor,
    output_weight: Tensor,
    output_bias: Tensor,
}

impl Layers {
    fn new(network: &Network) -> Result<Self, TrainError> {
        let (width, hidden) = (network.width(), network.hidden());
        Ok(Self {
            hidden_weight: Tensor::from_slice(&network.hidden_weight, (width, hidden), &Device::Cpu)?,
            hidden_bias: Tensor::from_slice(&network.hidden_bias, hidden, &Device::Cpu)?,
            output_weight: Tensor::from_slice(&network.output_weight, (hidden, 1), &Device::Cpu)?,
            output_bias: Tensor::from_slice(&[network.output_bias], 1, &Device::Cpu)?,
        })
    }

    /// These weights as variables, and layers that use them.
    fn trainable(&self) -> Result<(Vec<Var>, Self), TrainError> {
        let variables = self.each().map(Var::from_tensor).into_iter().collect::<Result<Vec<_>, _>>()?;
        let [hidden_weight, hidden_bias, output_weight, output_bias] =
            [0, 1, 2, 3].map(|at| variables[at].as_tensor().clone());
        Ok((variables, Self { hidden_weight, hidden_bias, output_weight, output_bias }))
    }

    fn each(&self) -> [&Tensor; 4] {
        [&self.hidden_weight, &self.hidden_bias, &self.output_weight, &self.output_bias]
    }

    /// Moves these weights towards others by this share of the difference.
    fn follow(&mut self, other: &Self, share: f64) -> Result<(), TrainError> {
        for (own, other) in [
            (&mut self.hidden_weight, &other.hidden_weight),
            (&mut self.hidden_bias, &other.hidden_bias),
            (&mut self.output_weight, &other.output_weight),
            (&mut self.output_bias, &other.output_bias),
        ] {
            *own = (own.affine(1.0 - share, 0.0)? + other.detach().affine(share, 0.0)?)?;
        }
        Ok(())
    }

    /// The log-odds of scaled rows.
    fn logits(&self, input: &Tensor) -> Result<Tensor, TrainError> {
        let hidden = input.matmul(&self.hidden_weight)?.broadcast_add(&self.hidden_bias)?.relu()?;
        Ok(hidden.matmul(&self.output_weight)?.broadcast_add(&self.output_bias)?.squeeze(1)?)
    }

    /// Copies the weights into a network.
    fn store(&self, network: &mut Network) -> Result<(), TrainError> {
        network.hidden_weight = self.hidden_weight.flatten_all()?.to_vec1()?;
        network.hidden_bias = self.hidden_bias.to_vec1()?;
        network.output_weight = self.output_weight.flatten_all()?.to_vec1()?;
        network.output_bias = self.output_bias.to_vec1::<f32>()?[0];
        Ok(())
    }
}

/// The mean binary cross-entropy of log-odds z: `max(z, 0) - z y + ln(1 + e^-|z|)`, which never overflows.
fn cross_entropy(logits: &Tensor, labels: &Tensor) -> Result<Tensor, TrainError> {
    let (positive, negative) = (logits.relu()?, logits.neg()?.relu()?);
    let distance = (&positive + &negative)?;
    let softplus = (&positive + (distance.neg()?.exp()? + 1.0)?.log()?)?;
    Ok((softplus - (logits * labels)?)?.mean_all()?)
}

/// Trains `spec.members` networks from different initial weights, in parallel on all cores.
pub(super) fn fit(
    rows: &Scaled,
    spec: &TrainSpec,
    ending: &Ending<'_>,
    progress: &mut impl FnMut(Epoch),
) -> Result<Vec<Fit>, TrainError> {
    let mut seeds = StdRng::seed_from_u64(spec.seed);
    let seeds: Vec<u64> = (0..spec.members).map(|_| seeds.random()).collect();
    let members: Vec<(usize, u64)> = (1..).zip(seeds).collect();
    let threads = thread::available_parallelism().map_or(1, usize::from).min(spec.members);
    let mut fits = Vec::with_capacity(spec.members);
    for at_once in members.chunks(threads) {
        let outcomes = thread::scope(|scope| {
            let (tell, epochs) = channel();
            let started: Vec<_> = at_once
                .iter()
                .map(|&(member, seed)| {
                    let tell = tell.clone();
                    scope.spawn(move || fit_one(rows, spec, member, seed, ending, &tell))
                })
                .collect();
            drop(tell);
            epochs.into_iter().for_each(&mut *progress);
            let outcomes = started.into_iter().map(|it| it.join().expect("training ends with an error or a network"));
            outcomes.collect::<Vec<_>>()
        });
        for outcome in outcomes {
            fits.push(outcome?);
        }
    }
    Ok(fits)
}

fn fit_one(
    rows: &Scaled,
    spec: &TrainSpec,
    member: usize,
    seed: u64,
    ending: &Ending<'_>,
    tell: &Sender<Epoch>,
) -> Result<Fit, TrainError> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut network = Network::untrained(rows, spec.hidden, &mut random);
    let mut averaged = Layers::new(&network)?;
    let (variables, layers) = averaged.trainable()?;
    let rate = ParamsAdamW { lr: spec.learning_rate, weight_decay: spec.weight_decay, ..ParamsAdamW::default() };
    let mut optimizer = AdamW::new(variables, rate)?;
    // The result is the mean of the weights over about the last epoch (Polyak and Juditsky 1992), because single steps are noisy.
    // In the first steps the mean covers fewer steps, so that it does not lag behind.
    let share = 1.0 / rows.labels.len().div_ceil(spec.batch) as f64;
    let mut steps = 0.0;
    let mut order: Vec<usize> = (0..rows.labels.len()).collect();
    let (mut best, mut best_epoch, mut epochs) = (f64::INFINITY, 0, 0);
    let goes_on = |epochs, best_epoch, best| match ending {
        Ending::Best { .. } => epochs < spec.epochs_max && epochs < best_epoch + spec.patience && best > LEARNED,
        Ending::After { epochs: enough } => epochs < *enough,
    };
    while goes_on(epochs, best_epoch, best) {
        epochs += 1;
        order.shuffle(&mut random);
        for rows_of_step in order.chunks(spec.batch) {
            let (input, labels) = rows.batch(rows_of_step)?;
            optimizer.backward_step(&cross_entropy(&layers.logits(&input)?, &labels)?)?;
            steps += 1.0;
            averaged.follow(&layers, share.max(9.0 / (steps + 9.0)))?;
        }
        let mut watched = None;
        if let Ending::Best { of } = ending {
            let loss = of.loss(&averaged)?;
            if loss.is_nan() {
                return Err(TrainError::Diverged { epoch: epochs, learning_rate: spec.learning_rate });
            }
            if loss < best {
                (best, best_epoch) = (loss, epochs);
                averaged.store(&mut network)?;
            }
            watched = Some(loss);
        }
        // The receiver is gone only if training was given up.
        tell.send(Epoch { member, number: epochs, loss: watched }).unwrap_or_default();
    }
    if let Ending::After { .. } = ending {
        if rows.loss(&averaged)?.is_nan() {
            return Err(TrainError::Diverged { epoch: epochs, learning_rate: spec.learning_rate });
        }
        averaged.store(&mut network)?;
        best_epoch = epochs;
    }
    Ok(Fit { network, epochs, best_epoch })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::train;

    /// Two features whose sum determines the label, the second sometimes missing.
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
        let expected = (vec![2.0, 7.0, 0.0], vec![1.0, 1.0, 1.0], vec![false, true, true]);
        assert_eq!(statistics(&data, &[0, 1, 2]), expected);
    }

    #[test]
    fn a_feature_that_is_constant_in_training_has_no_weight() {
        let mut data = sums(200);
        data.features.push("always 7".to_owned());
        data.values = data.values.chunks(2).flat_map(|row| [row[0], row[1], 7.0]).collect();
        let trained = train(&data, &TrainSpec { epochs_max: 3, ..TrainSpec::default() }).unwrap();
        assert!(trained.notes.iter().any(|note| note.to_string().contains("\"always 7\"")), "{:?}", trained.notes);
        let mut matrix = FeatureMatrix::new(3);
        matrix.reset(3).copy_from_slice(&[0.5, 3.0, 7.0, 0.5, 3.0, 0.0, 0.5, 3.0, 1e9]);
        let scores = trained.network.score(&matrix).unwrap();
        assert!(scores.iter().all(|&score| score == scores[0]), "{scores:?}");
    }

    #[test]
    fn the_average_has_the_mean_of_the_log_odds() {
        let data = sums(120);
        let rows = Scaled::new(&data, &(0..120).collect::<Vec<_>>());
        let spec = TrainSpec { epochs_max: 2, members: 3, hidden: 4, ..TrainSpec::default() };
        let fits = fit(&rows, &spec, &Ending::After { epochs: 2 }, &mut |_| {}).unwrap();
        let networks: Vec<_> = fits.into_iter().map(|fit| fit.network).collect();
        let average = Network::average(&networks);
        assert_eq!((average.width(), average.hidden()), (2, 12));
        let matrix = data.matrix(&(0..120).collect::<Vec<_>>());
        let log_odds = |network: &Network| -> Vec<f64> {
            let scores = network.score(&matrix).unwrap();
            scores.into_iter().map(f64::from).map(|p| (p / (1.0 - p)).ln()).collect()
        };
        let each: Vec<_> = networks.iter().map(log_odds).collect();
        assert!(each[0] != each[1]);
        for (row, found) in log_odds(&average).into_iter().enumerate() {
            let expected = each.iter().map(|log_odds| log_odds[row]).sum::<f64>() / 3.0;
            assert!((found - expected).abs() < 1e-4, "row {row}: {found} {expected}");
        }
    }

    #[test]
    fn outliers_count_as_five_deviations() {
        let network = train(&sums(200), &TrainSpec { epochs_max: 3, ..TrainSpec::default() }).unwrap().network;
        let mut matrix = FeatureMatrix::new(2);
        let (a, b) = (0.25, network.mean[1] + LIMIT * network.deviation[1]);
        matrix.reset(3).copy_from_slice(&[a, b, a, 1e30, a, f32::MAX]);
        let scores = network.score(&matrix).unwrap();
        assert!(scores.iter().all(|&score| (score - scores[0]).abs() < 1e-6), "{scores:?}");
    }

    #[test]
    fn the_same_seed_gives_the_same_weights() {
        let spec = TrainSpec { epochs_max: 3, ..TrainSpec::default() };
        let [first, second] = [(); 2].map(|()| train(&sums(200), &spec).unwrap().network);
        assert_eq!(first, second);
        assert_ne!(first, train(&sums(200), &TrainSpec { seed: 2, ..spec }).unwrap().network);
    }

    #[test]
    fn training_learns_the_pattern_and_stops_early() {
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
