//! How a model is made: from rows with labels to an ONNX file that the program scores with.
//!
//! Owns: the files of rows ([`read`] takes them in, [`RowFile`] writes what `aimpoint export` collects), the split into
//! training, validation and test rows, the reference network — one hidden layer of ReLU under a sigmoid — and its ONNX
//! file with the card beside it. Guarantees: the same rows, spec and build give the same weights on the same machine;
//! no statistic of a validation or test row enters the model; the ONNX file cleans and scales its input itself, so that
//! it is fed raw feature values. Limits: rows are held in memory as floats, 4 bytes a value; labels are 0 or 1. Left
//! out: other networks, which are trained elsewhere and come as ONNX files.

mod label;
mod network;
mod onnx;
mod read;
mod rows;
mod split;

pub use label::{LabelSpec, Labeller};
pub use network::{Epoch, Network};
pub use onnx::{Identity, encode};
pub use read::{Dataset, ReadSpec, read};
pub use rows::{Row, RowFile};
pub use split::Split;

use crate::{
    evaluation::{Prediction, Summary, log_loss},
    inference::Calibration,
};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Fewer rows than this are not split: a seventh of them would say nothing.
pub const SPLIT_ROWS_MIN: usize = 20;

/// How to train.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrainSpec {
    /// Units in the hidden layer. More fit finer shapes and need more rows.
    pub hidden: usize,
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
        Self { hidden: 10, epochs_max: 1000, patience: 20, batch: 128, learning_rate: 0.01, seed: 1, weight_decay: 0.0 }
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
    #[error("open {}: expected a name that ends in .csv, .csv.gz or .parquet; rename the file", path.display())]
    Extension {
        /// The file.
        path: PathBuf,
    },
    /// A column that was asked for is not there.
    #[error("read {}: expected {role} {column:?} to be a column, found the columns {found}", path.display())]
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
    /// A text column has too many values for a feature each.
    #[error(
        "read {}, column {column:?}: expected at most {limit} different texts, found more; leave the column out with \
         --ignore",
        path.display()
    )]
    Levels {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// How many there may be.
        limit: usize,
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
    /// The metrics by part.
    pub parts: Vec<Part>,
    /// How many epochs were run.
    pub epochs: usize,
    /// The epoch whose weights these are, from 1.
    pub best_epoch: usize,
    /// How it was trained.
    pub spec: TrainSpec,
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
    /// The metrics by part.
    pub parts: Vec<Part>,
    /// How many epochs were run.
    pub epochs: usize,
    /// The epoch whose weights these are, from 1.
    pub best_epoch: usize,
    /// How it was trained.
    pub training: TrainSpec,
    /// The features in the order of its input.
    pub features: Vec<String>,
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
    /// Fits a calibration to the validation rows, which the weights have not seen, and gives it with the log losses of the
    /// test rows before and after it. `data` is what the network was trained on.
    ///
    /// # Errors
    /// There are no validation rows, or their labels are all alike.
    pub fn calibrate(
        &self,
        data: &Dataset,
        method: CalibrationMethod,
    ) -> Result<(Calibration, [Option<f64>; 2]), TrainError> {
        let split = Split::of(data, self.spec.seed);
        let predict = |rows: &[usize]| -> Result<Vec<Prediction>, TrainError> {
            let scores = self.network.score(&data.matrix(rows))?;
            let predictions = rows.iter().zip(scores);
            let prediction =
                |(row, score): (&usize, f32)| Prediction { probability: score.into(), label: data.labels[*row] };
            Ok(predictions.map(prediction).collect())
        };
        let fitted = predict(&split.validation)?;
        let calibration = match method {
            CalibrationMethod::Platt => Calibration::platt(&fitted),
            CalibrationMethod::Isotonic => Calibration::isotonic(&fitted),
        };
        let calibration = calibration.ok_or_else(|| TrainError::Spec {
            key: "calibrate",
            expected: "validation rows of both labels to fit to",
            found: format!("{} validation rows of one label or none", fitted.len()),
        })?;
        let before = predict(&split.test)?;
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
            epochs: self.epochs,
            best_epoch: self.best_epoch,
            training: self.spec.clone(),
            features: self.features.clone(),
        }
    }
}

/// Trains the reference network.
///
/// # Errors
/// The spec is out of range, or the loss is no number.
pub fn train(data: &Dataset, spec: &TrainSpec) -> Result<Trained, TrainError> {
    train_with(data, spec, |_| {})
}

/// Trains the reference network, and tells of every epoch.
///
/// # Errors
/// The spec is out of range, or the loss is no number.
pub fn train_with(data: &Dataset, spec: &TrainSpec, progress: impl FnMut(Epoch)) -> Result<Trained, TrainError> {
    check(spec)?;
    let split = Split::of(data, spec.seed);
    let fit = network::fit(data, &split, spec, progress)?;
    let mut parts = Vec::new();
    for (name, rows) in split.parts() {
        let scores = fit.network.score(&data.matrix(rows))?;
        let predictions: Vec<_> = rows
            .iter()
            .zip(scores)
            .map(|(&row, score)| Prediction { probability: score.into(), label: data.labels[row] })
            .collect();
        parts.push(Part { name, summary: Summary::of(&predictions) });
    }
    Ok(Trained {
        network: fit.network,
        features: data.features.clone(),
        fingerprint: data.fingerprint.clone(),
        split: split.how,
        parts,
        epochs: fit.epochs,
        best_epoch: fit.best_epoch,
        spec: spec.clone(),
    })
}

fn check(spec: &TrainSpec) -> Result<(), TrainError> {
    let at_least_one =
        [("hidden", spec.hidden), ("epochs_max", spec.epochs_max), ("patience", spec.patience), ("batch", spec.batch)];
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
