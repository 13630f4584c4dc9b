//! Training: from labelled rows to an ONNX model.
//!
//! Owns the files of rows ([`read`] reads them, [`RowFile`] writes those of `aimpoint export`), the split into training, validation
//! and test rows, the reference network (hidden ReLU layers, by default one, and a sigmoid output), and its ONNX file with the model
//! card. Several networks are trained from different initial weights and averaged into one ([`Network::average`]). The validation
//! rows determine the number of epochs; then the networks are retrained on the training and validation rows for that many epochs.
//!
//! Guarantees: the same rows, spec and build give the same weights on the same machine; no statistic of a test row enters the model;
//! the ONNX file cleans and scales its input, so it takes raw feature values. Limits: rows are held in memory as floats, up to three
//! copies of 4 bytes per value; labels are 0 or 1. Not covered: other architectures, which are trained elsewhere and exported to
//! ONNX.

mod batch;
mod card;
mod column;
mod error;
mod fit;
mod folds;
mod format;
mod importance;
mod inspect;
mod label;
mod layers;
mod logistic;
mod network;
mod note;
mod number;
mod onnx;
mod options;
mod prune;
mod quantise;
mod read;
mod rows;
mod scaled;
mod split;
mod start;
mod table;
mod uplift;

pub use card::{Card, DataFile, Measured, Part, Spread};
pub use error::TrainError;
pub use fit::Epoch;
pub use folds::{Fold, folds};
pub use format::unknown_codec;
pub use importance::Importance;
pub use label::Labeller;
pub use network::{Layer, Network};
pub use note::Note;
pub use number::Decimal;
pub use onnx::{Identity, encode, encode_quantised};
pub use options::{Balance, ClassWeight, Disturb, Regularise, Schedule, TrainSpec};
pub use prune::Pruning;
pub use quantise::{Quantised, Ranges};
pub use read::{Dataset, ReadSpec, read};
pub use rows::{LoggedColumns, Row, RowFile};
pub use split::Split;
pub use start::Start;
pub use table::{Table, Value};
pub use uplift::{UpliftLearner, uplift_scores};

use crate::{
    evaluation::{Bin, CurvePoint, Prediction, Summary, log_loss, normalised_entropy, reliability, sketch::Sketch},
    inference::{Calibration, TrainingTimes},
};
use fit::{Ending, fit};
use scaled::Scaled;

/// Fewer rows than this are not split: a seventh of them would be meaningless.
pub const SPLIT_ROWS_MIN: usize = 20;

/// A label with fewer rows than this, and less than a tenth of all, is too rare: a rate measured on 30 rows is off by a fifth.
const RARE: usize = 30;

/// Number of equal-sized bins of test rows for the comparison of predicted and observed rates.
const BINS: usize = 10;
/// Minimum rows per bin.
const BIN_ROWS: usize = 20;

/// The fineness of the ROC curve, far below what a picture shows, and the number of its points.
const CURVE_BITS: u8 = 8;
const CURVE_POINTS: usize = 200;

/// The ratio between the positive rates of training and test rows from which a shift is reported.
const MOVED: f64 = 1.25;

/// A trained network, with its history.
#[derive(Clone, Debug)]
pub struct Trained {
    /// The network.
    pub network: Network,
    /// What a next training may begin with.
    pub next: Start,
    /// The features in the order of its input.
    pub features: Vec<String>,
    /// The fingerprint of the rows.
    pub fingerprint: Option<String>,
    /// How the rows were split: `time`, `random`, or `none` if there were too few.
    pub split: &'static str,
    /// The metrics by part. On training and validation rows they are those of the networks before they were trained on validation
    /// rows, on test rows those of the final model.
    pub parts: Vec<Part>,
    /// What else was measured on the test rows.
    pub measured: Measured,
    /// The most epochs that a network was trained for to find the best one.
    pub epochs: usize,
    /// How many epochs the final networks were trained for: the median of the best ones.
    pub best_epoch: usize,
    /// Notes on the rows and the result.
    pub notes: Vec<Note>,
    /// The training options.
    pub spec: TrainSpec,
    /// The average of the networks before training on validation rows.
    stopped: Network,
}

/// The calibration method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum CalibrationMethod {
    /// Two parameters on the log-odds; for few rows.
    Platt,
    /// An ascending piecewise linear function; for thousands of rows.
    Isotonic,
}

impl Trained {
    /// The times of the rows that it was trained and tested on, if they are those of an export. `data` is the training data.
    pub fn times(&self, data: &Dataset) -> Option<TrainingTimes> {
        let times = data.times.as_ref().filter(|_| data.has_exported_times)?;
        let split = Split::of(data, self.spec.seed);
        let ends = |rows: &mut dyn Iterator<Item = &usize>| {
            let (low, high) = rows
                .map(|row| times[*row])
                .fold((f64::MAX, f64::MIN), |(low, high), time| (low.min(time), high.max(time)));
            let text = |micros: f64| jiff::Timestamp::from_microsecond(micros as i64).ok().map(|it| it.to_string());
            if low > high { None } else { Some((text(low)?, text(high)?)) }
        };
        let (trained_from, trained_until) = ends(&mut split.train.iter().chain(&split.validation))?;
        let (tested_from, tested_until) = ends(&mut split.test.iter()).unzip();
        Some(TrainingTimes { trained_from, trained_until, tested_from, tested_until })
    }

    /// Fits a calibration to the validation rows, scored by the networks before they were trained on them. Returns it with the log
    /// losses of the test rows before and after. `data` is the training data.
    ///
    /// # Errors
    /// There are no validation rows, or they all have the same label.
    pub fn calibrate(
        &self,
        data: &Dataset,
        method: CalibrationMethod,
    ) -> Result<(Calibration, [Option<f64>; 2]), TrainError> {
        let split = Split::of(data, self.spec.seed);
        let fitted = predict(&self.stopped, data, &split.validation)?;
        let calibration = match method {
            CalibrationMethod::Platt => Calibration::platt(&fitted),
            CalibrationMethod::Isotonic => Calibration::isotonic(&fitted),
        };
        let calibration = calibration.ok_or_else(|| TrainError::Spec {
            key: "calibrate",
            expected: "validation rows of both labels to fit to",
            found: format!("{} validation rows of one label or none", fitted.len()),
        })?;
        let before = predict(&self.network, data, &split.test)?;
        let losses = [log_loss(&before), log_loss(&calibrated(&calibration, &before))];
        Ok((calibration, losses))
    }

    /// Replaces the figures of the test rows by those with a calibration, which is written into the model. `data` is the training
    /// data.
    ///
    /// # Errors
    /// The tensor library failed.
    pub fn measure_calibrated(&mut self, data: &Dataset, calibration: &Calibration) -> Result<(), TrainError> {
        let split = Split::of(data, self.spec.seed);
        let served = calibrated(calibration, &predict(&self.network, data, &split.test)?);
        if let Some(test) = self.parts.iter_mut().find(|part| part.name == "test") {
            test.summary = Summary::of(&served);
            self.measured.bins = bins(&served);
            self.measured.curve = curve(&served);
        }
        Ok(())
    }
}

/// Trains the reference network.
///
/// # Errors
/// The options are out of range, the training rows have only one label, or the loss became NaN.
pub fn train(data: &Dataset, spec: &TrainSpec) -> Result<Trained, TrainError> {
    train_with(data, spec, |_| {})
}

/// Trains the reference network, and reports every epoch.
///
/// # Errors
/// The options are out of range, the training rows have only one label, or the loss became NaN.
pub fn train_with(data: &Dataset, spec: &TrainSpec, progress: impl FnMut(Epoch)) -> Result<Trained, TrainError> {
    train_from(data, spec, None, progress)
}

/// The same from where a former training has come to, if that fits these rows and options: see [`Start`].
///
/// # Errors
/// As for [`train_with`].
pub fn train_from(
    data: &Dataset,
    spec: &TrainSpec,
    start: Option<&Start>,
    mut progress: impl FnMut(Epoch),
) -> Result<Trained, TrainError> {
    let split = Split::of(data, spec.seed);
    let misfit = start.and_then(|start| start.misfit(data, spec, &split));
    let begins_with = start.filter(|_| misfit.is_none()).map(|start| start.networks.as_slice());
    let mut trained = train_on(data, (spec, begins_with), &split, Inspection::Full, &mut progress)?;
    trained.notes.extend(misfit.map(|why| Note::Afresh { why }));
    // A start knows no row of the validation, so the latest row that it knows is no later than those of the training.
    let until = start.filter(|_| misfit.is_none()).map(|start| start.until);
    trained.next.until = until.map_or(trained.next.until, |until| until.max(trained.next.until));
    Ok(trained)
}

/// What a training says besides its figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inspection {
    /// Notes on the rows, and what the model uses.
    Full,
    /// Nothing: the training only measures.
    Skipped,
}

/// Trains on a split of the rows.
fn train_on(
    data: &Dataset,
    (spec, start): (&TrainSpec, Option<&[Network]>),
    split: &Split,
    inspection: Inspection,
    progress: &mut impl FnMut(Epoch),
) -> Result<Trained, TrainError> {
    let is_inspected = inspection == Inspection::Full;
    let mut notes = if is_inspected { data.notes.clone() } else { Vec::new() };
    spec.check(data.features.len())?;
    check_labels(data, split, &mut notes)?;
    let train = Scaled::new(data, &split.train);
    let validation = train.scale_like(data, &split.validation);
    let watched = if split.validation.is_empty() { &train } else { &validation };
    let best = Ending::Best { of: watched };
    let begin = |rows: &Scaled| start.map(|networks| networks.iter().map(|it| it.scaled_as(rows)).collect::<Vec<_>>());
    let first = fit(&train, spec, &best, begin(&train).as_deref(), progress)?;
    let gentle = spec.gentle(first.best_epoch);
    let tuned = match spec.prune {
        0.0 => None,
        share => Some(fit(&train, &gentle, &best, Some(&prune::prune(&first.networks, share)), progress)?),
    };
    let stopped = tuned.as_ref().unwrap_or(&first).networks.clone();
    // Retrain on all rows but the test rows, with the known numbers of epochs.
    let (whole, networks, known, learned) = if split.validation.is_empty() {
        (first.networks, stopped.clone(), train, split.train.clone())
    } else {
        drop((train, validation));
        let rows = [&split.train[..], &split.validation].concat();
        let known = Scaled::new(data, &rows);
        let ending = Ending::After { epochs: first.best_epoch };
        let whole = fit(&known, spec, &ending, begin(&known).as_deref(), progress)?.networks;
        let networks = match &tuned {
            None => whole.clone(),
            Some(tuned) => {
                let (rest, ending) = (prune::prune(&whole, spec.prune), Ending::After { epochs: tuned.best_epoch });
                fit(&known, &gentle, &ending, Some(&rest), progress)?.networks
            }
        };
        (whole, networks, known, rows)
    };
    if is_inspected {
        inspect::inspect(data, split, &learned, &known.constant, &mut notes);
    }
    // Before they saw a row of the validation: otherwise a next training would be watched by rows that it knows.
    let (network, stopped, stopped_networks) = (Network::average(&networks), Network::average(&stopped), stopped);
    let next = Start::new(data, spec, split, stopped_networks);
    let mut parts = Vec::new();
    for (name, rows) in split.parts() {
        let network = if name == "test" { &network } else { &stopped };
        parts.push(Part { name, summary: Summary::of(&predict(network, data, rows)?) });
    }
    let mut trained = Trained {
        network,
        next,
        features: data.features.clone(),
        fingerprint: data.fingerprint.clone(),
        split: split.how,
        parts,
        measured: Measured::default(),
        epochs: first.epochs,
        best_epoch: first.best_epoch,
        notes,
        spec: spec.clone(),
        stopped,
    };
    if let Some(tuned) = tuned {
        trained.measured.pruning = Some(trained.pruning(data, split, &Network::average(&whole), tuned.best_epoch)?);
    }
    if !split.test.is_empty() {
        trained.measure(data, split, &networks, &known, &learned)?;
        if is_inspected {
            trained.measured.importance = importance::importance(&trained.network, data, &split.test, spec.seed)?;
        }
    }
    Ok(trained)
}

impl Trained {
    /// Compares the model with the baselines on the test rows. `networks` are the averaged networks, `known` their training rows and
    /// `learned` the indices of these rows.
    fn measure(
        &mut self,
        data: &Dataset,
        split: &Split,
        networks: &[Network],
        known: &Scaled,
        learned: &[usize],
    ) -> Result<(), TrainError> {
        let predictions = predict(&self.network, data, &split.test)?;
        self.measured.bins = bins(&predictions);
        self.measured.curve = curve(&predictions);
        let each = networks.iter().map(|network| Ok(normalised_entropy(&predict(network, data, &split.test)?)));
        let each: Option<Vec<f64>> = each.collect::<Result<_, TrainError>>()?;
        self.measured.spread = each.and_then(Spread::of);

        let rate = learned.iter().filter(|&&row| data.labels[row]).count() as f64 / learned.len() as f64;
        let labels = || split.test.iter().map(|&row| data.labels[row]);
        let by_rate: Vec<_> = labels().map(|label| Prediction { probability: rate, label }).collect();
        let scores = logistic::fit(known)?.score(&known.scale_like(data, &split.test))?;
        let by_logistic: Vec<_> =
            labels().zip(scores).map(|(label, probability)| Prediction { probability, label }).collect();
        let baseline = |name, predictions: &[Prediction]| Part { name, summary: Summary::of(predictions) };
        self.measured.baselines = vec![baseline("base rate", &by_rate), baseline("logistic", &by_logistic)];

        let summary = Summary::of(&predictions);
        let Some(entropy) = summary.normalised_entropy else { return Ok(()) };
        if entropy >= 1.0 {
            let test_rate = summary.positives as f64 / summary.count as f64;
            let has_moved = test_rate > rate * MOVED || rate > test_rate * MOVED;
            let moved = (self.split == "time" && has_moved).then_some([rate, test_rate]);
            self.notes.push(Note::NoBetterThanRate { entropy, auc: summary.auc, moved });
        }
        if let Some(logistic) = normalised_entropy(&by_logistic).filter(|logistic| *logistic < entropy) {
            let error = standard_error(&predictions, &by_logistic) * entropy / summary.log_loss.unwrap_or(f64::NAN);
            self.notes.push(Note::WorseThanLogistic { entropy, logistic, error });
        }
        Ok(())
    }
}

impl Trained {
    /// What pruning did to the average of the `whole` networks.
    fn pruning(&self, data: &Dataset, split: &Split, whole: &Network, epochs: usize) -> Result<Pruning, TrainError> {
        let both = [whole, &self.network];
        let [before, after] = both.map(|network| predict(network, data, &split.test));
        Ok(Pruning {
            units: both.map(Network::units),
            parameters: both.map(Network::parameters),
            bytes: both.map(|network| encode(network, &self.features, &Identity::default()).len()),
            log_loss: [log_loss(&before?), log_loss(&after?)],
            epochs,
        })
    }
}

/// The standard error of the difference between the log losses of two predictions of the same rows.
fn standard_error(one: &[Prediction], other: &[Prediction]) -> f64 {
    let loss = |it: &Prediction| log_loss(std::slice::from_ref(it)).unwrap_or(f64::NAN);
    let differences: Vec<f64> = one.iter().zip(other).map(|(one, other)| loss(one) - loss(other)).collect();
    let count = differences.len() as f64;
    let mean = differences.iter().sum::<f64>() / count;
    (differences.iter().map(|it| (it - mean).powi(2)).sum::<f64>() / count / count).sqrt()
}

/// Predictions with a calibration.
fn calibrated(calibration: &Calibration, predictions: &[Prediction]) -> Vec<Prediction> {
    let apply =
        |it: &Prediction| Prediction { probability: calibration.apply(it.probability as f32).into(), label: it.label };
    predictions.iter().map(apply).collect()
}

/// Predicted and observed rates in bins of equally many rows.
fn bins(predictions: &[Prediction]) -> Vec<Bin> {
    reliability(predictions, BINS.min(predictions.len() / BIN_ROWS).max(1))
}

/// The ROC curve of predictions; empty if one of them is no probability.
fn curve(predictions: &[Prediction]) -> Vec<CurvePoint> {
    let Ok(mut sketch) = Sketch::new(CURVE_BITS) else { return Vec::new() };
    let is_whole = predictions.iter().all(|prediction| sketch.add(*prediction).is_ok());
    if is_whole { sketch.curve(CURVE_POINTS) } else { Vec::new() }
}

/// A network's predictions for some rows, with the outcomes.
fn predict(network: &Network, data: &Dataset, rows: &[usize]) -> Result<Vec<Prediction>, TrainError> {
    let scores = network.score(&data.matrix(rows))?;
    let predictions = rows.iter().zip(scores);
    let prediction = |(row, score): (&usize, f32)| Prediction { probability: score.into(), label: data.labels[*row] };
    Ok(predictions.map(prediction).collect())
}

/// Rejects rows with only one label, and notes a rare label.
fn check_labels(data: &Dataset, split: &Split, notes: &mut Vec<Note>) -> Result<(), TrainError> {
    let one_of = |rows: &[usize]| {
        let first = data.labels[*rows.first()?];
        rows.iter().all(|&row| data.labels[row] == first).then_some(first)
    };
    let rows = data.rows();
    if let Some(label) = one_of(&(0..rows).collect::<Vec<_>>()) {
        let advice = if label { "" } else { ", and that the rows are old enough for the outcome to have happened" };
        return Err(TrainError::OneClass { part: "", rows, label, advice });
    }
    if let Some(label) = one_of(&split.train) {
        let advice = ", or take more rows";
        return Err(TrainError::OneClass { part: "training ", rows: split.train.len(), label, advice });
    }
    if split.how == "none" {
        return Ok(());
    }
    let positives = data.labels.iter().filter(|label| **label).count();
    let count = positives.min(rows - positives);
    if count < RARE && count * 10 < rows {
        notes.push(Note::Rare { count, label: positives == count, rows });
    }
    for (name, rows) in split.parts() {
        if let Some(label) = one_of(rows) {
            notes.push(Note::OneLabel { part: name, rows: rows.len(), label });
        }
    }
    Ok(())
}
