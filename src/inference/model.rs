//! What a model is to the rest of the program.
//!
//! Owns the trait, what is told of a model in every decision, and the ways in which one can be refused. It knows no
//! runtime: `onnx` and the test kit's fake both stand behind it.

use super::FeatureMatrix;
use std::path::PathBuf;

/// The keys of a model file's metadata, as `aimpoint train` writes them and loading reads them.
pub mod metadata {
    /// The model's name.
    pub const NAME: &str = "aimpoint.name";
    /// The model's version.
    pub const VERSION: &str = "aimpoint.version";
    /// The features in the input's order: a JSON array of their names.
    pub const FEATURES: &str = "aimpoint.features";
    /// The fingerprint of the feature declarations whose values the model was trained on.
    pub const FINGERPRINT: &str = "aimpoint.fingerprint";
}

/// What a decision tells of the model that scored it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelInfo {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The SHA-256 of its file, in lower-case hexadecimal.
    pub sha256: String,
    /// What runs it, such as `onnxruntime 1.22.1`.
    pub runtime: String,
    /// Where it runs, such as `cpu`.
    pub provider: String,
    /// The features in the order of its input.
    pub features: Vec<String>,
    /// The fingerprint that its file carries.
    pub fingerprint: Option<String>,
    /// The output that the scores are read from.
    pub output: String,
}

/// Something that scores rows. A worker owns its model, so scoring takes `&mut self` and needs no lock.
pub trait Model: Send {
    /// What decisions tell of it.
    fn info(&self) -> &ModelInfo;

    /// Scores every row of `matrix`, whose width is the number of [`ModelInfo::features`]: replaces the content of
    /// `scores` by one score a row. A score may be NaN. Allocates nothing per row once `scores` has grown.
    ///
    /// # Errors
    /// The run failed; `scores` is then empty.
    fn score(&mut self, matrix: &FeatureMatrix, scores: &mut Vec<f32>) -> Result<(), ModelError>;
}

/// Why a model was refused, or could not score.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The file cannot be read.
    #[error("read model {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The runtime does not take the file.
    #[error("load model {}: expected an ONNX model that ONNX Runtime can run, found: {reason}", path.display())]
    Load {
        /// The file.
        path: PathBuf,
        /// The runtime's words.
        reason: String,
    },
    /// The input is not one float matrix.
    #[error(
        "load model {}: expected one float32 input of shape [rows, {width}], found {found}; export the model with a \
         dynamic first dimension",
        path.display()
    )]
    Input {
        /// The file.
        path: PathBuf,
        /// How many features there are.
        width: usize,
        /// The inputs that the model has.
        found: String,
    },
    /// The input is wider or narrower than the features are many.
    #[error(
        "load model {}: its input has {width} features, and {named} are named by {by}; name the model's features in \
         order under model.features",
        path.display()
    )]
    Width {
        /// The file.
        path: PathBuf,
        /// The width of the input.
        width: i64,
        /// How many features are named.
        named: usize,
        /// Who names them.
        by: &'static str,
    },
    /// There is no output with a score a row.
    #[error(
        "load model {}: expected a float32 output{wanted} of shape [rows], [rows, 1] or [rows, 2], found {found}; \
         name another under model.output, and export classifiers without ZipMap",
        path.display()
    )]
    Output {
        /// The file.
        path: PathBuf,
        /// The output that was asked for, in quotes after a space; empty for the first float one.
        wanted: String,
        /// The outputs that the model has.
        found: String,
    },
    /// The metadata is not as [`metadata`] says.
    #[error("load model {}: expected metadata {key:?} to be {expected}, found {found:?}", path.display())]
    Metadata {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// What it should hold.
        expected: &'static str,
        /// What it holds.
        found: String,
    },
    /// The model was trained on other features than are declared.
    #[error(
        "load model {}: it was trained on features with fingerprint {model}, and the declared features have {declared}; \
         train it again on their values, or vouch for it by naming its features under model.features",
        path.display()
    )]
    Fingerprint {
        /// The file.
        path: PathBuf,
        /// The fingerprint in the file.
        model: String,
        /// The fingerprint of the declared features.
        declared: String,
    },
    /// No execution provider that was asked for is there.
    #[error("model.providers: {reason}; this build has: {available}")]
    Provider {
        /// What was asked for.
        reason: String,
        /// What there is.
        available: &'static str,
    },
    /// A run failed.
    #[error("score {rows} rows with model {model}: {reason}")]
    Run {
        /// The model's name.
        model: String,
        /// How many rows were to be scored.
        rows: usize,
        /// The runtime's words.
        reason: String,
    },
    /// A run answered in another shape than one score a row.
    #[error("score {rows} rows with model {model}: expected [{rows}], [{rows}, 1] or [{rows}, 2], found {found}")]
    Scores {
        /// The model's name.
        model: String,
        /// How many rows were scored.
        rows: usize,
        /// The shape of the answer.
        found: String,
    },
}
