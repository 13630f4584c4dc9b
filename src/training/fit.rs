//! Fits networks to rows.
//!
//! Owns the training: Adam with decoupled weight decay on binary cross-entropy, with batch normalisation if it is asked for. Guarantees: on one machine the result depends only on
//! the seed, however many threads there are; a feature that is constant in the training rows has no weight. Limits: 32-bit floats, on
//! the CPU.

use super::{
    TrainError, TrainSpec,
    batch::{Disturber, Sample},
    layers::Layers,
    network::{Layer, Network},
    scaled::Scaled,
};
use candle_nn::{AdamW, Optimizer, ParamsAdamW};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};
use std::{
    sync::mpsc::{Sender, channel},
    thread,
};

/// Training stops below this loss, in nats per row.
const LEARNED: f64 = 1e-3;

/// The fewest rows of a step with normalised layers.
const NORM_ROWS_MIN: usize = 16;

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

/// The results of training, by network.
pub(super) struct Fits {
    pub(super) networks: Vec<Network>,
    /// The most epochs that one was trained for.
    pub(super) epochs: usize,
    /// The median of the best epochs.
    pub(super) best_epoch: usize,
}

/// The stop criterion.
pub(super) enum Ending<'a> {
    /// When the loss of these rows stops falling, with the weights of the best epoch.
    Best { of: &'a Scaled },
    /// After a fixed number of epochs.
    After { epochs: usize },
}

/// The untrained network: He's uniform initialisation for the ReLU layers and Glorot's for the output (He et al. 2015, Glorot and
/// Bengio 2010), with the positive rate of the sample as the initial output.
fn untrained(rows: &Scaled, sample: &Sample, hidden: &[usize], random: &mut StdRng) -> Network {
    let mut draw =
        |count: usize, bound: f32| -> Vec<f32> { (0..count).map(|_| random.random_range(-bound..bound)).collect() };
    let mut branch = Vec::with_capacity(hidden.len() + 1);
    let mut inputs = rows.width;
    for &units in hidden {
        branch.push(Layer { weight: draw(inputs * units, (6.0 / inputs as f32).sqrt()), bias: vec![0.0; units] });
        inputs = units;
    }
    // The weights of a constant feature are not trained; random ones would distort scores if it varies later.
    let of_features = branch[0].weight.chunks_mut(hidden[0]).zip(&rows.constant);
    for (weights, _) in of_features.filter(|(_, constant)| **constant) {
        weights.fill(0.0);
    }
    // Half a row of each class keeps the logarithm finite.
    let [negatives, positives] = sample.sums.map(|sum| sum as f32 + 0.5);
    let bound = (6.0 / (inputs as f32 + 1.0)).sqrt();
    branch.push(Layer { weight: draw(inputs, bound), bias: vec![(positives / negatives).ln()] });
    Network { mean: rows.mean.clone(), deviation: rows.deviation.clone(), branches: vec![branch] }
}

/// Trains `spec.members` networks in parallel on all cores, from `start` or from different random weights.
pub(super) fn fit(
    rows: &Scaled,
    spec: &TrainSpec,
    ending: &Ending<'_>,
    start: Option<&[Network]>,
    progress: &mut impl FnMut(Epoch),
) -> Result<Fits, TrainError> {
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
                    let (tell, start) = (tell.clone(), start.map(|networks| &networks[member - 1]));
                    scope.spawn(move || Member { rows, spec, number: member, seed }.fit(ending, start, &tell))
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
    let mut best_epochs: Vec<_> = fits.iter().map(|fit| fit.best_epoch).collect();
    best_epochs.sort_unstable();
    Ok(Fits {
        epochs: fits.iter().map(|fit| fit.epochs).max().unwrap_or_default(),
        best_epoch: best_epochs[best_epochs.len() / 2],
        networks: fits.into_iter().map(|fit| fit.network).collect(),
    })
}

/// The result of training one network.
struct Fit {
    network: Network,
    epochs: usize,
    best_epoch: usize,
}

/// One of the networks.
struct Member<'a> {
    rows: &'a Scaled,
    spec: &'a TrainSpec,
    /// From 1.
    number: usize,
    seed: u64,
}

impl Member<'_> {
    fn fit(&self, ending: &Ending<'_>, start: Option<&Network>, tell: &Sender<Epoch>) -> Result<Fit, TrainError> {
        let Self { rows, spec, seed, .. } = *self;
        let mut random = StdRng::seed_from_u64(seed);
        let sample = Sample::new(&rows.labels, &spec.balance, seed);
        let mut disturber = Disturber::new(spec.disturb, seed);
        let mut network = match start {
            None => untrained(rows, &sample, &spec.hidden, &mut random),
            Some(start) => {
                let mut network = start.clone();
                // Back to the odds of the sample.
                network.shift(-sample.offset);
                network
            }
        };
        let mut averaged = Layers::new(&network.branches[0], rows.width)?;
        // What the layers are normalised by in the end.
        let known = if spec.regularise.batch_norm { Some(sample.input(rows)?) } else { None };
        if let Some(known) = &known {
            averaged = averaged.normalised(known)?;
        }
        let folded = |layers: &Layers| known.as_ref().map(|known| layers.folded(known)).transpose();
        let (variables, layers) = averaged.trainable()?;
        let rate = ParamsAdamW {
            lr: spec.learning_rate,
            weight_decay: spec.regularise.weight_decay,
            ..ParamsAdamW::default()
        };
        let mut optimizer = AdamW::new(variables, rate)?;
        // The result is the mean of the weights over about the last epoch (Polyak and Juditsky 1992), because single steps are noisy.
        // In the first steps the mean covers fewer steps, so that it does not lag behind.
        let share = 1.0 / sample.rows.len().div_ceil(spec.batch) as f64;
        let mut steps = 0.0;
        let mut order = sample.rows.clone();
        let (mut best, mut best_epoch, mut epochs) = (f64::INFINITY, 0, 0);
        // Rows with few positives have a small loss from the start.
        let learned = match ending {
            Ending::Best { of } => LEARNED * (of.entropy() / 0.1).min(1.0),
            Ending::After { .. } => 0.0,
        };
        let goes_on = |epochs, best_epoch, best| match ending {
            Ending::Best { .. } => epochs < spec.epochs_max && epochs < best_epoch + spec.patience && best > learned,
            Ending::After { epochs: enough } => epochs < *enough,
        };
        let diverged = |epoch| TrainError::Diverged { epoch, learning_rate: spec.learning_rate };
        while goes_on(epochs, best_epoch, best) {
            epochs += 1;
            optimizer.set_learning_rate(spec.learning_rate * spec.schedule.share(epochs, spec.epochs_max));
            order.shuffle(&mut random);
            // A few rows say nothing of means and deviations. The order changes, so that none is always left out.
            let enough = if spec.regularise.batch_norm { NORM_ROWS_MIN.min(spec.batch).min(order.len()) } else { 1 };
            for rows_of_step in order.chunks(spec.batch).filter(|it| it.len() >= enough) {
                let batch = disturber.batch(rows, &sample, rows_of_step)?;
                let logits = layers.logits_with(&batch.input, |hidden| disturber.drop(hidden))?;
                optimizer.backward_step(&batch.loss(&logits)?)?;
                steps += 1.0;
                averaged.follow(&layers, share.max(9.0 / (steps + 9.0)))?;
            }
            let mut watched = None;
            if let Ending::Best { of } = ending {
                let folded = folded(&averaged)?;
                let settled = folded.as_ref().unwrap_or(&averaged);
                let loss = of.loss(settled, sample.offset)?;
                if loss.is_nan() {
                    return Err(diverged(epochs));
                }
                if loss < best {
                    (best, best_epoch) = (loss, epochs);
                    settled.store(&mut network.branches[0])?;
                }
                watched = Some(loss);
            }
            // The receiver is gone only if training was given up.
            tell.send(Epoch { member: self.number, number: epochs, loss: watched }).unwrap_or_default();
        }
        if let Ending::After { .. } = ending {
            let folded = folded(&averaged)?;
            let settled = folded.as_ref().unwrap_or(&averaged);
            if rows.loss(settled, sample.offset)?.is_nan() {
                return Err(diverged(epochs));
            }
            settled.store(&mut network.branches[0])?;
            best_epoch = epochs;
        }
        network.shift(sample.offset);
        Ok(Fit { network, epochs, best_epoch })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        inference::FeatureMatrix,
        training::{Dataset, Regularise, network::LIMIT, train},
    };

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
        let spec = TrainSpec { epochs_max: 2, members: 3, hidden: vec![4], ..TrainSpec::default() };
        let fits = fit(&rows, &spec, &Ending::After { epochs: 2 }, None, &mut |_| {}).unwrap();
        let networks = fits.networks;
        let average = Network::average(&networks);
        assert_eq!((average.width(), average.units()), (2, 12));
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
        let error = train(&sums(30), &TrainSpec { hidden: vec![0], ..TrainSpec::default() }).unwrap_err();
        assert_eq!(error.to_string(), "train: expected hidden to be at least 1, found 0");
    }

    #[test]
    fn normalised_layers_learn_are_reproducible_and_leave_an_ordinary_network() {
        let of = |batch_norm: bool, hidden: &[usize]| TrainSpec {
            hidden: hidden.to_vec(),
            members: 2,
            epochs_max: 30,
            regularise: Regularise { batch_norm, ..Regularise::default() },
            ..TrainSpec::default()
        };
        for hidden in [&[12][..], &[12, 6]] {
            let [first, second] = [(); 2].map(|()| train(&sums(600), &of(true, hidden)).unwrap());
            let plain = train(&sums(600), &of(false, hidden)).unwrap();
            assert_eq!(first.network, second.network);
            assert_ne!(first.network, plain.network);
            assert_eq!(first.network.parameters(), plain.network.parameters());
            assert!(first.parts[2].summary.auc.unwrap() > 0.95, "{:?}", first.parts);
            // A row alone has the score that it has among others.
            let (all, one) = (sums(600).matrix(&[0, 1, 2]), sums(600).matrix(&[1]));
            let [all, one] = [all, one].map(|rows| first.network.score(&rows).unwrap());
            assert!((all[1] - one[0]).abs() < 1e-6, "{all:?} {one:?}");
        }
        // The last step of an epoch has one row, which has no deviation.
        let odd = TrainSpec { batch: 70, ..of(true, &[4]) };
        let data = sums(303);
        assert_eq!(crate::training::Split::of(&data, odd.seed).train.len() % 70, 3);
        assert!(train(&data, &odd).unwrap().parts[2].summary.auc.unwrap() > 0.9);
    }

    #[test]
    fn several_layers_with_dropout_and_a_cosine_learn_and_are_reproducible() {
        let spec = TrainSpec {
            hidden: vec![12, 6],
            members: 1,
            epochs_max: 40,
            schedule: crate::training::Schedule::Cosine,
            disturb: crate::training::Disturb { dropout: 0.1, ..Default::default() },
            ..TrainSpec::default()
        };
        let [first, second] = [(); 2].map(|()| train(&sums(600), &spec).unwrap());
        assert_eq!(first.network, second.network);
        let units: Vec<_> = first.network.branches[0].iter().map(Layer::units).collect();
        assert_eq!(units, [12, 6, 1]);
        assert!(first.parts[2].summary.auc.unwrap() > 0.95, "{:?}", first.parts);
        let without =
            train(&sums(600), &TrainSpec { disturb: crate::training::Disturb::default(), ..spec.clone() }).unwrap();
        assert_ne!(first.network, without.network, "dropout changes the weights");
        let constant = crate::training::Schedule::Constant;
        let constant = train(&sums(600), &TrainSpec { schedule: constant, ..spec }).unwrap();
        assert_ne!(first.network, constant.network, "the schedule changes the weights");
    }
}
