//! The interface to models.
//!
//! Owns the trait, the description of a model in decisions, and the errors. Independent of the runtime: it is implemented by `onnx`
//! and by the test kit's fake.

use super::{Calibration, FeatureMatrix, ScoreRange};
use std::{path::PathBuf, time::Duration};

/// The metadata keys of a model file, written by `aimpoint train` and read when loading.
pub mod metadata {
    /// The model's name.
    pub const NAME: &str = "aimpoint.name";
    /// The model's version.
    pub const VERSION: &str = "aimpoint.version";
    /// The features in the input's order: a JSON array of their names, or an object of such arrays by input.
    pub const FEATURES: &str = "aimpoint.features";
    /// The fingerprint of the feature declarations whose values the model was trained on.
    pub const FINGERPRINT: &str = "aimpoint.fingerprint";
    /// The calibration of the scores, as JSON.
    pub const CALIBRATION: &str = "aimpoint.calibration";
    /// The baseline of explanations, the mean of the training rows: a JSON array of numbers, null if missing.
    pub const BASELINE: &str = "aimpoint.baseline";
}

/// The description of a model in decisions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelInfo {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The SHA-256 of its file, in lower-case hexadecimal.
    pub sha256: String,
    /// Its runtime, such as `onnxruntime 1.22.1`.
    pub runtime: String,
    /// Its execution provider, such as `cpu`.
    pub provider: String,
    /// The features in the order of its input.
    pub features: Vec<String>,
    /// The fingerprint in its file.
    pub fingerprint: Option<String>,
    /// The names of its further scores, in the order of the scores.
    pub heads: Vec<String>,
    /// The output of the main score, with the class if there is one.
    pub output: String,
    /// The valid ranges of its scores, the main one first; empty if unrestricted.
    pub ranges: Vec<ScoreRange>,
    /// The calibration of the main score; `None` if it already is a probability.
    pub calibration: Option<Calibration>,
    /// The baseline of explanations.
    pub baseline: Option<Vec<f32>>,
}

impl ModelInfo {
    /// Scores per row: the main one and those of the heads.
    pub fn scores(&self) -> usize {
        1 + self.heads.len()
    }

    /// The range that a score violates, if it does: 0 is the main score, followed by the heads. NaN violates no range; it is checked
    /// separately.
    pub fn range_left(&self, head: usize, score: f32) -> Option<ScoreRange> {
        self.ranges.get(head).copied().filter(|range| !score.is_nan() && !range.contains(score))
    }
}

/// A model that scores rows. A worker owns its model, so scoring takes `&mut self` and needs no lock.
pub trait Model: Send {
    /// Its description in decisions.
    fn info(&self) -> &ModelInfo;

    /// Scores every row of `matrix`, whose width is the number of [`ModelInfo::features`]. Replaces the content of
    /// `scores` by the main score of each row, then the first head's of each row, and so on. A score may be NaN.
    /// Allocates nothing per row once `scores` has grown.
    ///
    /// # Errors
    /// The run failed; `scores` is then empty.
    fn score(&mut self, matrix: &FeatureMatrix, scores: &mut Vec<f32>) -> Result<(), ModelError>;
}

/// The source of newer models for a pipeline, polled between two transactions.
pub trait ModelFeed: Send {
    /// Takes the newest model, if there is one. Does not block.
    fn take(&mut self) -> Option<Box<dyn Model>>;
}

/// The next step if a model file cannot be read.
fn next_step(source: &std::io::Error) -> &'static str {
    match source.kind() {
        std::io::ErrorKind::NotFound => {
            " (make one with aimpoint export and aimpoint train, or set model.path to yours; without the section [model], decisions \
             have no score)"
        }
        _ => "",
    }
}

/// Why a model could not be loaded, or could not score.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The file cannot be read.
    #[error("read model {}{}", path.display(), next_step(source))]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The runtime rejects the file.
    #[error("load model {}: expected an ONNX model that ONNX Runtime can run, found: {reason}", path.display())]
    Load {
        /// The file.
        path: PathBuf,
        /// The runtime's message.
        reason: String,
    },
    /// An input is not a numeric matrix.
    #[error(
        "load model {}: expected a float32, float64, int64 or int32 input of shape [rows, {width}], found {found}; encode \
         texts as numbers before the model, or inside the expressions of its features",
        path.display()
    )]
    Input {
        /// The file.
        path: PathBuf,
        /// How many features there are.
        width: usize,
        /// The model's inputs.
        found: String,
    },
    /// An input has a fixed number of rows.
    #[error(
        "load model {}: expected input {input:?} to take any number of rows, found a batch of {batch}; export it with a \
         dynamic first dimension: dynamic_axes={{\"{input}\": {{0: \"rows\"}}}} in PyTorch, [None, …] as the input's shape in \
         skl2onnx, onnxmltools and tf2onnx",
        path.display()
    )]
    FixedBatch {
        /// The file.
        path: PathBuf,
        /// The input.
        input: String,
        /// The fixed number of rows.
        batch: i64,
    },
    /// There are several inputs, and features are not assigned to them.
    #[error(
        "load model {}: it has {count} inputs ({found}), but the features are not assigned to them; assign them, for \
         instance inputs = {{ numeric = [\"views_5m\"], category = [\"plan\"] }} under [model]",
        path.display()
    )]
    Inputs {
        /// The file.
        path: PathBuf,
        /// How many there are.
        count: usize,
        /// The inputs.
        found: String,
    },
    /// The inputs differ from those that features are assigned to.
    #[error("load model {}: expected the inputs {named}, as named by {by}, found {found}", path.display())]
    InputNames {
        /// The file.
        path: PathBuf,
        /// The named inputs.
        named: String,
        /// Where they are named.
        by: &'static str,
        /// The existing inputs.
        found: String,
    },
    /// The width of the input differs from the number of features.
    #[error(
        "load model {}: its input has {width} features, but {named} are named by {by}; list the model's features in \
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
        /// Where they are named.
        by: &'static str,
    },
    /// There is no output with a score per row.
    #[error(
        "load model {}: expected a float32 or float64 output{wanted} of shape [rows] or [rows, classes], found \
         {found}; name another under model.output",
        path.display()
    )]
    Output {
        /// The file.
        path: PathBuf,
        /// The requested output, in quotes after a space; empty for the first float one.
        wanted: String,
        /// The model's outputs.
        found: String,
    },
    /// Several outputs may hold the score.
    #[error(
        "load model {}: expected one output that can be the score, found {found}; name it under [model]: {choices}",
        path.display()
    )]
    Outputs {
        /// The file.
        path: PathBuf,
        /// The candidates.
        found: String,
        /// The settings that name one.
        choices: String,
    },
    /// The only output is named after the negative class.
    #[error(
        "load model {}: its only output {output:?} is named like the probability of the negative class; export that of the positive \
         class, or, if a high value means the positive class, say so under [model]: output = {output:?}",
        path.display()
    )]
    Negative {
        /// The file.
        path: PathBuf,
        /// The output.
        output: String,
    },
    /// A class is named for an output that has none.
    #[error(
        "load model {}: output {output:?} is one number for each row and has no classes; remove class from [model]",
        path.display()
    )]
    NoClasses {
        /// The file.
        path: PathBuf,
        /// The output.
        output: String,
    },
    /// An output has one column per class, and the positive class is ambiguous or missing.
    #[error(
        "load model {}: output {output:?} has the classes {classes}, and {why}; name the one whose probability is the score \
         under [model]: {choices}",
        path.display()
    )]
    Class {
        /// The file.
        path: PathBuf,
        /// The output.
        output: String,
        /// The existing classes.
        classes: String,
        /// What is ambiguous.
        why: String,
        /// The settings that name one.
        choices: String,
    },
    /// An operator is not one of ONNX Runtime's own.
    #[error(
        "load model {}: the operator {operator:?} is third-party code, which is not run; export the model with \
         the operators of ONNX alone",
        path.display()
    )]
    Operator {
        /// The ONNX file.
        path: PathBuf,
        /// Domain and name.
        operator: String,
    },
    /// An external weight file cannot be used.
    #[error("load model {}: weights of {tensor:?} in {location:?}: {reason}", path.display())]
    External {
        /// The ONNX file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The file that the model names.
        location: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The name or version is invalid.
    #[error(
        "load model {}: its {what} cannot be used in decisions: {reason}; set another {what} under [model]",
        path.display()
    )]
    Identity {
        /// The file.
        path: PathBuf,
        /// `name` or `version`.
        what: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The output is a sequence of maps.
    #[error(
        "load model {}: expected output {output:?} to be a tensor, found a sequence of maps (ZipMap), which costs an \
         allocation per row; export the classifier without it: options={{\"zipmap\": False}} in skl2onnx, zipmap=False in \
         onnxmltools",
        path.display()
    )]
    ZipMap {
        /// The file.
        path: PathBuf,
        /// The output.
        output: String,
    },
    /// The metadata is not as described in [`metadata`].
    #[error("load model {}: expected metadata {key:?} to be {expected}, found {found:?}", path.display())]
    Metadata {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// The expected value.
        expected: &'static str,
        /// The actual value.
        found: String,
    },
    /// The calibration is invalid.
    #[error("load model {}: calibration: {reason}", path.display())]
    Calibration {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The model was trained on different features.
    #[error(
        "load model {}: it was trained on features with fingerprint {model}, but the declared features have {declared}; \
         retrain it on these features, or override the check by listing its features under model.features",
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
    /// None of the requested execution providers is available.
    #[error("model.providers: {reason}; this ONNX Runtime was built with: {available}")]
    Provider {
        /// The requested providers, and why they are not used.
        reason: String,
        /// The available providers.
        available: String,
    },
    /// A run took too long.
    #[error(
        "score {rows} rows with model {model}: not done within {}; raise model.deadline or use a smaller model",
        crate::duration::display(*limit)
    )]
    Late {
        /// The model's name.
        model: String,
        /// The number of rows.
        rows: usize,
        /// The deadline.
        limit: Duration,
    },
    /// A run failed.
    #[error("score {rows} rows with model {model}: {reason}")]
    Run {
        /// The model's name.
        model: String,
        /// The number of rows.
        rows: usize,
        /// The runtime's message.
        reason: String,
    },
    /// The output of a run does not have one score per row.
    #[error(
        "score {rows} rows with model {model}: expected [{rows}] or [{rows}, {columns}], found {found}; if each column is a \
         class, name one: class = \"1\" under [model]"
    )]
    Scores {
        /// The model's name.
        model: String,
        /// The number of rows.
        rows: usize,
        /// The expected number of columns.
        columns: String,
        /// The shape of the output.
        found: String,
    },
}
