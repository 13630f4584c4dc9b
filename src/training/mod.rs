//! How a model is made: from rows with labels to an ONNX file that the program scores with.
//!
//! Owns: the files of rows ([`read`] takes them in, [`RowFile`] writes what `aimpoint export` collects), the split into
//! training, validation and test rows, the reference network — one hidden layer of ReLU under a sigmoid — and its ONNX
//! file with the card beside it. Several such networks are trained from different starts and averaged into one of the same
//! form ([`Network::average`]). The validation rows say how long to train; then the networks are trained once more, on the
//! training and the validation rows, for so many epochs. Guarantees: the same rows, spec and build give the same weights on
//! the same machine; no statistic of a test row enters the model; the ONNX file cleans and scales its input itself, so that
//! it is fed raw feature values. Limits: rows are held in memory as floats, up to three times 4 bytes a value; labels are 0 or 1. Left
//! out: other networks, which are trained elsewhere and come as ONNX files.

mod column;
mod label;
mod logistic;
mod network;
mod note;
mod number;
mod onnx;
mod read;
mod rows;
mod split;
mod table;

pub use label::Labeller;
pub use network::{Epoch, Network};
pub use note::Note;
pub use number::Decimal;
pub use onnx::{Identity, encode};
pub use read::{Dataset, ReadSpec, read};
pub use rows::{Row, RowFile};
pub use split::Split;

use crate::{
    evaluation::{Bin, Prediction, Summary, log_loss, normalised_entropy, reliability},
    inference::Calibration,
};
use network::{Ending, Scaled};
use serde::{Serialize, Serializer};
use std::path::{Path, PathBuf};

/// Fewer rows than this are not split: a seventh of them would say nothing.
pub const SPLIT_ROWS_MIN: usize = 20;

/// Fewer rows of one label than this, where they are less than a tenth, are hardly a label: a rate measured on 30 rows is off
/// by a fifth of itself.
const RARE: usize = 30;

/// Into so many parts of equal size the test rows are cut to compare what was predicted with what came.
const BINS: usize = 10;
/// Rows that each of these parts should have at least.
const BIN_ROWS: usize = 20;

/// By this factor the share of positives has moved between the rows that were learned from and later ones.
const MOVED: f64 = 1.25;

/// How to train.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrainSpec {
    /// Units in the hidden layer. More fit finer shapes and need more rows.
    pub hidden: usize,
    /// How many networks are averaged. More spread less from seed to seed; the model is so many times as large, and the
    /// training so many times as long.
    pub members: usize,
    /// The most epochs, should the loss go on falling.
    pub epochs_max: usize,
    /// How many epochs without a better validation loss end the training.
    pub patience: usize,
    /// Rows a step. More are faster an epoch and slower to learn.
    pub batch: usize,
    /// Adam's step size.
    pub learning_rate: f64,
    /// Of the weights, the shuffles and the split.
    pub seed: u64,
    /// The share of a weight that a step of size 1 takes off (Loshchilov and Hutter 2019, decoupled from the loss).
    pub weight_decay: f64,
}

impl Default for TrainSpec {
    fn default() -> Self {
        Self {
            hidden: 10,
            members: 5,
            epochs_max: 1000,
            patience: 20,
            batch: 128,
            learning_rate: 0.01,
            seed: 1,
            weight_decay: 0.3,
        }
    }
}

/// Why there is no model.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A file cannot be opened, read or written.
    #[error("{doing} {}", path.display())]
    File {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file is not of the kind that its name says.
    #[error("{doing} {}: {reason}", path.display())]
    Format {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file's name does not say its kind.
    #[error("open {}: expected a name that ends in .csv, .csv.gz or .parquet; give the file such a name", path.display())]
    Extension {
        /// The file.
        path: PathBuf,
    },
    /// A column that is to be a feature has another part.
    #[error("read {}: column {column:?} cannot be a feature, since it is {part} already; remove it from --features", path.display())]
    Part {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// What it is.
        part: &'static str,
    },
    /// A column that was asked for is not there.
    #[error("read {}: expected {role} {column:?} to be a column, found the columns {found}; name it with --{role}", path.display())]
    Column {
        /// The file.
        path: PathBuf,
        /// What the column was to be.
        role: &'static str,
        /// Its name.
        column: String,
        /// The columns that are there.
        found: String,
    },
    /// A value is not what its column holds.
    #[error("read {}, {unit} {line}, column {column:?}: expected {expected}, found {found:?}", path.display())]
    Cell {
        /// The file.
        path: PathBuf,
        /// What `line` counts.
        unit: &'static str,
        /// The line of a CSV file, or the row of a Parquet file, from 1.
        line: u64,
        /// The column.
        column: String,
        /// What it should hold.
        expected: &'static str,
        /// What it holds.
        found: String,
    },
    /// A row is shorter or longer than the header.
    #[error(
        "read {}, line {line}: expected {expected} fields as in the header, found {found}; a text that holds the character \
         between fields needs quotation marks, and a quotation mark that is never closed takes in all that follows",
        path.display()
    )]
    Fields {
        /// The file.
        path: PathBuf,
        /// Where the row begins.
        line: u64,
        /// The header's fields.
        expected: usize,
        /// The row's.
        found: usize,
    },
    /// Two columns have the same name.
    #[error(
        "read {}: expected every column once, found {column:?} as columns {} and {}; rename one of them, or leave both out \
         with --ignore",
        path.display(), places[0], places[1]
    )]
    Repeated {
        /// The file.
        path: PathBuf,
        /// The name.
        column: String,
        /// Which columns, from 1.
        places: [usize; 2],
    },
    /// A text column has too many values for a feature each.
    #[error(
        "read {}, column {column:?}: expected at most {limit} different texts, found more, such as {texts}; leave the \
         column out with --ignore",
        path.display()
    )]
    Levels {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// How many there may be.
        limit: usize,
        /// Some of them.
        texts: String,
    },
    /// Texts stand among the numbers of a column.
    #[error(
        "read {}, column {column:?}: {numbers} values are numbers and {odd} are other texts: {texts}; where they mean a \
         missing value, name them with --missing; where the column holds codes or names, name it with --text; otherwise \
         mend the file, or leave the column out with --ignore",
        path.display()
    )]
    Odd {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// How many numbers there are.
        numbers: u64,
        /// How many other texts.
        odd: u64,
        /// The texts, each with its count and the line of the first.
        texts: String,
    },
    /// A text could be two numbers.
    #[error(
        "read {}, {unit} {line}, column {column:?}: {text:?} could be {} or {}, and no other value tells which; say it with \
         --decimal dot or --decimal comma",
        path.display(), meanings[0], meanings[1]
    )]
    Unclear {
        /// The file.
        path: PathBuf,
        /// What `line` counts.
        unit: &'static str,
        /// Where the first one stands.
        line: u64,
        /// The column.
        column: String,
        /// The text.
        text: String,
        /// What it could be.
        meanings: [f64; 2],
    },
    /// Numbers of a column are in different units.
    #[error(
        "read {}, column {column:?}: expected {what}, found {:?} at {unit} {} and {:?} at {unit} {}; write all in one unit, or \
         leave the column out with --ignore",
        path.display(), found[0].1, found[0].0, found[1].1, found[1].0
    )]
    Unlike {
        /// The file.
        path: PathBuf,
        /// What lines count.
        unit: &'static str,
        /// The column.
        column: String,
        /// What all should have.
        what: &'static str,
        /// The line and the text of one of each.
        found: Box<[(u64, String); 2]>,
    },
    /// A feature that was asked for by name is lost in 32-bit floats.
    #[error(
        "read {}, column {column:?}: {}",
        path.display(), note::Crowded { mean: *mean, deviation: *deviation, rounding: *rounding }
    )]
    Rounded {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// The mean of its numbers.
        mean: f64,
        /// Their standard deviation.
        deviation: f64,
        /// What rounding adds to it.
        rounding: f64,
    },
    /// All rows that could be learned from have one label.
    #[error(
        "train: expected rows of both labels to learn from, found {rows} {part}rows whose label is {}; check that --label names \
         the outcome{advice}",
        u8::from(*label)
    )]
    OneClass {
        /// Which rows, with a blank behind it; empty for all.
        part: &'static str,
        /// How many.
        rows: usize,
        /// Their label.
        label: bool,
        /// What else may help.
        advice: &'static str,
    },
    /// There is nothing to learn from.
    #[error("read {}: expected at least one row and one feature, found {rows} rows and {features} features", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// Its rows.
        rows: usize,
        /// Its features.
        features: usize,
    },
    /// Two columns of a file of rows would have the same name.
    #[error("write {}: expected every column once, found {column:?} twice; rename the feature", path.display())]
    Twice {
        /// The file.
        path: PathBuf,
        /// The name.
        column: String,
    },
    /// A key of the spec is out of its range.
    #[error("train: expected {key} to be {expected}, found {found}")]
    Spec {
        /// The key.
        key: &'static str,
        /// Its range.
        expected: &'static str,
        /// Its value.
        found: String,
    },
    /// The loss is no number any more.
    #[error("train: the loss of epoch {epoch} is not a number; lower the learning rate, which is {learning_rate}")]
    Diverged {
        /// The epoch.
        epoch: usize,
        /// The learning rate.
        learning_rate: f64,
    },
    /// The tensor library failed.
    #[error("train: {reason}")]
    Compute {
        /// Its words.
        reason: String,
    },
}

/// What a file of rows is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Csv,
    Gzip,
    Parquet,
}

impl Kind {
    fn of(path: &Path) -> Result<Self, TrainError> {
        let name = path.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
        let mut endings = name.rsplit('.');
        match (endings.next(), endings.next()) {
            (Some("csv"), Some(_)) => Ok(Self::Csv),
            (Some("gz"), Some("csv")) => Ok(Self::Gzip),
            (Some("parquet"), Some(_)) => Ok(Self::Parquet),
            _ => Err(TrainError::Extension { path: path.to_path_buf() }),
        }
    }
}

impl From<candle_core::Error> for TrainError {
    fn from(error: candle_core::Error) -> Self {
        Self::Compute { reason: error.to_string() }
    }
}

/// How the network does on one part of the rows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Part {
    /// `train`, `validation`, `test`, or `all` where the rows were not split.
    pub name: &'static str,
    /// Its metrics.
    #[serde(flatten)]
    pub summary: Summary,
}

/// What the averaged networks come to one by one, on the test rows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The normalised entropy of each.
    pub normalised_entropy: Vec<f64>,
    /// The least.
    pub min: f64,
    /// The mean.
    pub mean: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    fn of(normalised_entropy: Vec<f64>) -> Option<Self> {
        let count = normalised_entropy.len();
        (count > 0).then(|| Self {
            min: normalised_entropy.iter().copied().fold(f64::INFINITY, f64::min),
            mean: normalised_entropy.iter().sum::<f64>() / count as f64,
            max: normalised_entropy.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            normalised_entropy,
        })
    }
}

/// A trained network, and how it came about.
#[derive(Clone, Debug)]
pub struct Trained {
    /// The network.
    pub network: Network,
    /// The features in the order of its input.
    pub features: Vec<String>,
    /// The fingerprint that the rows carried.
    pub fingerprint: Option<String>,
    /// How the rows were split: `time`, `random`, or `none` where they were too few.
    pub split: &'static str,
    /// The metrics by part. Those of the training and validation rows are of the networks that had not learned from the
    /// validation rows yet, those of the test rows of the model that is written.
    pub parts: Vec<Part>,
    /// What a model must beat on the test rows: the rate of the other rows, and a logistic regression fitted to them. Empty
    /// without test rows.
    pub baselines: Vec<Part>,
    /// What was predicted and what came, by parts of the test rows of equal size.
    pub bins: Vec<Bin>,
    /// How far the networks lie apart on the test rows; absent without test rows of both labels.
    pub spread: Option<Spread>,
    /// The most epochs that one of the networks was run for to find its best one.
    pub epochs: usize,
    /// How many epochs the networks of the model were trained for: the median of the best ones.
    pub best_epoch: usize,
    /// What a person should know of the rows and the outcome.
    pub notes: Vec<Note>,
    /// How it was trained.
    pub spec: TrainSpec,
    /// The average of the networks that have not seen the validation rows.
    stopped: Network,
}

/// What is written beside a model: how it was made and what to expect of it.
#[derive(Clone, Debug, Serialize)]
pub struct Card {
    /// The model's name, version and fingerprint.
    #[serde(flatten)]
    pub identity: Identity,
    /// The SHA-256 of the ONNX file.
    pub sha256: String,
    /// The name of the file of rows, without its folder.
    pub data: String,
    /// The SHA-256 of the file of rows.
    pub data_sha256: String,
    /// How many rows it has.
    pub rows: usize,
    /// How they were split.
    pub split: &'static str,
    /// The metrics by part, as [`Trained::parts`] has them.
    pub parts: Vec<Part>,
    /// What a model must beat, on the test rows.
    pub baselines: Vec<Part>,
    /// What was predicted and what came, by parts of the test rows of equal size.
    pub bins: Vec<Bin>,
    /// How far the networks lie apart on the test rows.
    pub spread: Option<Spread>,
    /// The most epochs that one of the networks was run for to find its best one.
    pub epochs: usize,
    /// How many epochs the networks of the model were trained for.
    pub best_epoch: usize,
    /// How it was trained.
    pub training: TrainSpec,
    /// What a person should know of the rows and the outcome.
    #[serde(serialize_with = "as_text")]
    pub notes: Vec<Note>,
    /// The features in the order of its input.
    pub features: Vec<String>,
}

fn as_text<S: Serializer>(notes: &[Note], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(notes.iter().map(ToString::to_string))
}

/// How scores are turned into probabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum CalibrationMethod {
    /// By two parameters on the log-odds; for few rows.
    Platt,
    /// By a rising line through as many points as the rows bear; for thousands of rows.
    Isotonic,
}

impl Trained {
    /// Fits a calibration to the validation rows, as the networks that have not learned from them score them, and gives it
    /// with the log losses of the test rows before and after it. `data` is what the network was trained on.
    ///
    /// # Errors
    /// There are no validation rows, or their labels are all alike.
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
        let apply = |it: &Prediction| Prediction {
            probability: calibration.apply(it.probability as f32).into(),
            label: it.label,
        };
        let after: Vec<_> = before.iter().map(apply).collect();
        let losses = [log_loss(&before), log_loss(&after)];
        Ok((calibration, losses))
    }

    /// The card of this model, whose ONNX file and file of rows have these hashes.
    pub fn card(&self, identity: &Identity, sha256: String, data: String, data_sha256: String) -> Card {
        Card {
            identity: identity.clone(),
            sha256,
            data,
            data_sha256,
            rows: self.parts.iter().map(|part| part.summary.count).sum(),
            split: self.split,
            parts: self.parts.clone(),
            baselines: self.baselines.clone(),
            bins: self.bins.clone(),
            spread: self.spread.clone(),
            epochs: self.epochs,
            best_epoch: self.best_epoch,
            training: self.spec.clone(),
            notes: self.notes.clone(),
            features: self.features.clone(),
        }
    }
}

/// Trains the reference network.
///
/// # Errors
/// The spec is out of range, the rows that are learned from have one label, or the loss is no number.
pub fn train(data: &Dataset, spec: &TrainSpec) -> Result<Trained, TrainError> {
    train_with(data, spec, |_| {})
}

/// Trains the reference network, and tells of every epoch.
///
/// # Errors
/// The spec is out of range, the rows that are learned from have one label, or the loss is no number.
pub fn train_with(data: &Dataset, spec: &TrainSpec, mut progress: impl FnMut(Epoch)) -> Result<Trained, TrainError> {
    check(spec)?;
    let split = Split::of(data, spec.seed);
    let mut notes = data.notes.clone();
    check_labels(data, &split, &mut notes)?;
    let train = Scaled::new(data, &split.train);
    let validation = train.alike(data, &split.validation);
    let watched = if split.validation.is_empty() { &train } else { &validation };
    let fits = network::fit(&train, spec, &Ending::Best { of: watched }, &mut progress)?;
    let mut best_epochs: Vec<_> = fits.iter().map(|fit| fit.best_epoch).collect();
    best_epochs.sort_unstable();
    let best_epoch = best_epochs[best_epochs.len() / 2];
    let stopped: Vec<_> = fits.iter().map(|fit| fit.network.clone()).collect();
    // All rows but the test rows, now that it is known how long to train.
    let (networks, known, learned) = if split.validation.is_empty() {
        (stopped.clone(), train, split.train.clone())
    } else {
        drop((train, validation));
        let rows = [&split.train[..], &split.validation].concat();
        let known = Scaled::new(data, &rows);
        let fits = network::fit(&known, spec, &Ending::After { epochs: best_epoch }, &mut progress)?;
        (fits.into_iter().map(|fit| fit.network).collect(), known, rows)
    };
    let constant = known.constant.iter().zip(&data.features).filter(|(constant, _)| **constant);
    let constant: Vec<_> = constant.map(|(_, name)| name.clone()).collect();
    if !constant.is_empty() {
        notes.push(Note::Constant { features: constant });
    }
    let (network, stopped) = (Network::average(&networks), Network::average(&stopped));
    let mut parts = Vec::new();
    for (name, rows) in split.parts() {
        let network = if name == "test" { &network } else { &stopped };
        parts.push(Part { name, summary: Summary::of(&predict(network, data, rows)?) });
    }
    let mut trained = Trained {
        network,
        features: data.features.clone(),
        fingerprint: data.fingerprint.clone(),
        split: split.how,
        parts,
        baselines: Vec::new(),
        bins: Vec::new(),
        spread: None,
        epochs: fits.iter().map(|fit| fit.epochs).max().unwrap_or_default(),
        best_epoch,
        notes,
        spec: spec.clone(),
        stopped,
    };
    if !split.test.is_empty() {
        trained.measure(data, &split, &networks, &known, &learned)?;
    }
    Ok(trained)
}

impl Trained {
    /// Compares the model with what it must beat, on the test rows. `networks` are those that it is the average of, `known`
    /// the rows that they learned from, whose indices are `learned`.
    fn measure(
        &mut self,
        data: &Dataset,
        split: &Split,
        networks: &[Network],
        known: &Scaled,
        learned: &[usize],
    ) -> Result<(), TrainError> {
        let predictions = predict(&self.network, data, &split.test)?;
        self.bins = reliability(&predictions, BINS.min(split.test.len() / BIN_ROWS).max(1));
        let each = networks.iter().map(|network| Ok(normalised_entropy(&predict(network, data, &split.test)?)));
        let each: Option<Vec<f64>> = each.collect::<Result<_, TrainError>>()?;
        self.spread = each.and_then(Spread::of);

        let rate = learned.iter().filter(|&&row| data.labels[row]).count() as f64 / learned.len() as f64;
        let labels = || split.test.iter().map(|&row| data.labels[row]);
        let by_rate: Vec<_> = labels().map(|label| Prediction { probability: rate, label }).collect();
        let scores = logistic::fit(known)?.score(&known.alike(data, &split.test))?;
        let by_logistic: Vec<_> =
            labels().zip(scores).map(|(label, probability)| Prediction { probability, label }).collect();
        let baseline = |name, predictions: &[Prediction]| Part { name, summary: Summary::of(predictions) };
        self.baselines = vec![baseline("base rate", &by_rate), baseline("logistic", &by_logistic)];

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

/// The standard error of the difference between the log losses of two predictions of the same rows.
fn standard_error(one: &[Prediction], other: &[Prediction]) -> f64 {
    let loss = |it: &Prediction| log_loss(std::slice::from_ref(it)).unwrap_or(f64::NAN);
    let differences: Vec<f64> = one.iter().zip(other).map(|(one, other)| loss(one) - loss(other)).collect();
    let count = differences.len() as f64;
    let mean = differences.iter().sum::<f64>() / count;
    (differences.iter().map(|it| (it - mean).powi(2)).sum::<f64>() / count / count).sqrt()
}

/// What a network says of some rows, and what came.
fn predict(network: &Network, data: &Dataset, rows: &[usize]) -> Result<Vec<Prediction>, TrainError> {
    let scores = network.score(&data.matrix(rows))?;
    let predictions = rows.iter().zip(scores);
    let prediction = |(row, score): (&usize, f32)| Prediction { probability: score.into(), label: data.labels[*row] };
    Ok(predictions.map(prediction).collect())
}

/// Refuses rows of one label, and tells where one of the labels is rare.
fn check_labels(data: &Dataset, split: &Split, notes: &mut Vec<Note>) -> Result<(), TrainError> {
    let one_of = |rows: &[usize]| {
        let first = data.labels[*rows.first()?];
        rows.iter().all(|&row| data.labels[row] == first).then_some(first)
    };
    let rows = data.rows();
    if let Some(label) = one_of(&(0..rows).collect::<Vec<_>>()) {
        let advice = if label { "" } else { ", and that the rows are old enough for it to have come" };
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

fn check(spec: &TrainSpec) -> Result<(), TrainError> {
    let at_least_one = [
        ("hidden", spec.hidden),
        ("members", spec.members),
        ("epochs_max", spec.epochs_max),
        ("patience", spec.patience),
        ("batch", spec.batch),
    ];
    for (key, found) in at_least_one {
        if found == 0 {
            return Err(TrainError::Spec { key, expected: "at least 1", found: found.to_string() });
        }
    }
    let rate = spec.learning_rate;
    if !(rate > 0.0 && rate <= 1.0) {
        return Err(TrainError::Spec {
            key: "learning_rate",
            expected: "above 0 and at most 1",
            found: rate.to_string(),
        });
    }
    let decay = spec.weight_decay;
    if !(0.0..=1.0).contains(&decay) {
        return Err(TrainError::Spec { key: "weight_decay", expected: "0 to 1", found: decay.to_string() });
    }
    Ok(())
}
