//! The model card: how a model was trained, and its metrics.

use super::{Fold, Identity, Importance, Note, Pruning, Quantised, TrainSpec, Trained};
use crate::{
    evaluation::{Bin, CurvePoint, Summary},
    inference::TrainingTimes,
};
use serde::{Serialize, Serializer};

/// The network's metrics on one part of the rows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Part {
    /// `train`, `validation`, `test`, or `all` if the rows were not split.
    pub name: &'static str,
    /// Its metrics.
    #[serde(flatten)]
    pub summary: Summary,
}

/// The spread of the single networks on the test rows.
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
    pub(super) fn of(normalised_entropy: Vec<f64>) -> Option<Self> {
        let count = normalised_entropy.len();
        (count > 0).then(|| Self {
            min: normalised_entropy.iter().copied().fold(f64::INFINITY, f64::min),
            mean: normalised_entropy.iter().sum::<f64>() / count as f64,
            max: normalised_entropy.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            normalised_entropy,
        })
    }
}

/// What was measured beside the metrics by part.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Measured {
    /// The baselines on the test rows: the positive rate of the other rows, and a logistic regression fitted to them. Empty without
    /// test rows.
    pub baselines: Vec<Part>,
    /// Predicted and observed rates in equal-sized bins of the test rows.
    pub bins: Vec<Bin>,
    /// The ROC curve of the test rows, for the page.
    #[serde(skip)]
    pub curve: Vec<CurvePoint>,
    /// The spread of the networks on the test rows; `None` without test rows of both labels.
    pub spread: Option<Spread>,
    /// The importance of each feature in the test rows, the most important first. Empty without test rows.
    pub importance: Vec<Importance>,
    /// What pruning did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pruning: Option<Pruning>,
    /// What quantisation did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantisation: Option<Quantised>,
    /// The folds by time.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub folds: Vec<Fold>,
}

/// The file of rows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DataFile {
    /// Its name, without its folder.
    pub data: String,
    /// Its SHA-256.
    pub data_sha256: String,
    /// The times of the rows, if they are those of an export.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times: Option<TrainingTimes>,
}

/// The model card: how a model was trained, and its metrics.
#[derive(Clone, Debug, Serialize)]
pub struct Card {
    /// The model's name, version and fingerprint.
    #[serde(flatten)]
    pub identity: Identity,
    /// The SHA-256 of the ONNX file.
    pub sha256: String,
    /// The file of rows.
    #[serde(flatten)]
    pub data: DataFile,
    /// The number of rows.
    pub rows: usize,
    /// How they were split.
    pub split: &'static str,
    /// The metrics by part, see [`Trained::parts`].
    pub parts: Vec<Part>,
    /// What else was measured on the test rows.
    #[serde(flatten)]
    pub measured: Measured,
    /// The most epochs that a network was trained for to find the best one.
    pub epochs: usize,
    /// How many epochs the final networks were trained for.
    pub best_epoch: usize,
    /// The training options.
    pub training: TrainSpec,
    /// Notes on the rows and the result.
    #[serde(serialize_with = "as_text")]
    pub notes: Vec<Note>,
    /// The features in the order of its input.
    pub features: Vec<String>,
}

fn as_text<S: Serializer>(notes: &[Note], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(notes.iter().map(ToString::to_string))
}

impl Trained {
    /// The card of this model, with the hashes of its ONNX file and of the file of rows.
    pub fn card(&self, identity: &Identity, sha256: String, data: DataFile) -> Card {
        Card {
            identity: identity.clone(),
            sha256,
            data,
            rows: self.parts.iter().map(|part| part.summary.count).sum(),
            split: self.split,
            parts: self.parts.clone(),
            measured: self.measured.clone(),
            epochs: self.epochs,
            best_epoch: self.best_epoch,
            training: self.spec.clone(),
            notes: self.notes.clone(),
            features: self.features.clone(),
        }
    }
}
