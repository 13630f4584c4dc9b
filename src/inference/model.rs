//! What a model is to the rest of the program.
//!
//! Owns the trait, what is told of a model in every decision, and the ways in which one can be refused. It knows no
//! runtime: `onnx` and the test kit's fake both stand behind it.

use super::{Calibration, FeatureMatrix, ScoreRange};
use std::{path::PathBuf, time::Duration};

/// The keys of a model file's metadata, as `aimpoint train` writes them and loading reads them.
pub mod metadata {
    /// The model's name.
    pub const NAME: &str = "aimpoint.name";
    /// The model's version.
    pub const VERSION: &str = "aimpoint.version";
    /// The features in the input's order: a JSON array of their names, or an object of such arrays by input.
    pub const FEATURES: &str = "aimpoint.features";
    /// The fingerprint of the feature declarations whose values the model was trained on.
    pub const FINGERPRINT: &str = "aimpoint.fingerprint";
    /// What turns the scores into probabilities: a calibration in JSON.
    pub const CALIBRATION: &str = "aimpoint.calibration";
    /// The row that explanations start from, the mean of the training rows: a JSON array of numbers, null where missing.
    pub const BASELINE: &str = "aimpoint.baseline";
}

/// What a decision tells of the model that scored it.
#[derive(Clone, Debug, Default, PartialEq)]
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
    /// The names of its further scores, in the order in which they follow the main one.
    pub heads: Vec<String>,
    /// The output that the main score is read from, and the class, where it stands for one.
    pub output: String,
    /// The ranges that its scores have to lie in, the main one's first; none has to where absent.
    pub ranges: Vec<ScoreRange>,
    /// What turns the main score into a probability; none where it is one already.
    pub calibration: Option<Calibration>,
    /// The row that explanations start from.
    pub baseline: Option<Vec<f32>>,
}

impl ModelInfo {
    /// How many scores a row gets: the main one and those of the heads.
    pub fn scores(&self) -> usize {
        1 + self.heads.len()
    }

    /// The range that a score has to lie in and lies out of: 0 is the main score, and then come the heads. What is no number lies in
    /// none and is told apart from this.
    pub fn range_left(&self, head: usize, score: f32) -> Option<ScoreRange> {
        self.ranges.get(head).copied().filter(|range| !score.is_nan() && !range.contains(score))
    }
}

/// Something that scores rows. A worker owns its model, so scoring takes `&mut self` and needs no lock.
pub trait Model: Send {
    /// What decisions tell of it.
    fn info(&self) -> &ModelInfo;

    /// Scores every row of `matrix`, whose width is the number of [`ModelInfo::features`]: replaces the content of
    /// `scores` by the main score of each row, then the first head's of each row, and so on. A score may be NaN.
    /// Allocates nothing per row once `scores` has grown.
    ///
    /// # Errors
    /// The run failed; `scores` is then empty.
    fn score(&mut self, matrix: &FeatureMatrix, scores: &mut Vec<f32>) -> Result<(), ModelError>;
}

/// Where a pipeline gets a newer model from. It is asked between two transactions.
pub trait ModelFeed: Send {
    /// The newest model that is ready and that was not taken yet. Does not wait.
    fn take(&mut self) -> Option<Box<dyn Model>>;
}

/// What to do about a model's file that cannot be read, where that is clear.
fn next_step(source: &std::io::Error) -> &'static str {
    match source.kind() {
        std::io::ErrorKind::NotFound => {
            " (make one with aimpoint export and aimpoint train, or set model.path to yours; without the section [model], decisions \
             have no score)"
        }
        _ => "",
    }
}

/// Why a model was refused, or could not score.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The file cannot be read.
    #[error("read model {}{}", path.display(), next_step(source))]
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
    /// An input is no matrix of numbers.
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
        /// The inputs that the model has.
        found: String,
    },
    /// An input takes so many rows and no other number.
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
        /// The rows that it takes.
        batch: i64,
    },
    /// There are several inputs, and nothing says which feature goes where.
    #[error(
        "load model {}: it has {count} inputs ({found}), and nothing says which features go into which; name them, for \
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
    /// The inputs are not those that features are named for.
    #[error("load model {}: expected the inputs {named}, which are named by {by}, found {found}", path.display())]
    InputNames {
        /// The file.
        path: PathBuf,
        /// The inputs that are named.
        named: String,
        /// Who names them.
        by: &'static str,
        /// The inputs that there are.
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
        "load model {}: expected a float32 or float64 output{wanted} of shape [rows] or [rows, classes], found \
         {found}; name another under model.output",
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
    /// Several outputs may hold the score.
    #[error(
        "load model {}: expected one output that can be the score, found {found}; name it under [model]: {choices}",
        path.display()
    )]
    Outputs {
        /// The file.
        path: PathBuf,
        /// The outputs that may be it.
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
    /// An output has a column for each class, and which one is the score is not said or there is none such.
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
        /// The classes that there are.
        classes: String,
        /// What is unclear.
        why: String,
        /// The settings that name one.
        choices: String,
    },
    /// A file of weights beside the model cannot be used.
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
    /// A name that decisions carry cannot be one.
    #[error(
        "load model {}: its {what} cannot stand in decisions: {reason}; set another {what} under [model]",
        path.display()
    )]
    Identity {
        /// The file.
        path: PathBuf,
        /// The name or the version.
        what: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The scores come as a sequence of maps.
    #[error(
        "load model {}: expected output {output:?} to be a tensor, found a sequence of maps (ZipMap), which costs an \
         allocation a row; export the classifier without it: options={{\"zipmap\": False}} in skl2onnx, zipmap=False in \
         onnxmltools",
        path.display()
    )]
    ZipMap {
        /// The file.
        path: PathBuf,
        /// The output.
        output: String,
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
    /// The calibration can mean nothing.
    #[error("load model {}: calibration: {reason}", path.display())]
    Calibration {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
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
    #[error("model.providers: {reason}; this ONNX Runtime was built with: {available}")]
    Provider {
        /// What was asked for, and why it is not used.
        reason: String,
        /// What there is.
        available: String,
    },
    /// A run took too long.
    #[error(
        "score {rows} rows with model {model}: not done within {}; raise model.deadline or use a smaller model",
        humantime::format_duration(*limit)
    )]
    Late {
        /// The model's name.
        model: String,
        /// How many rows were to be scored.
        rows: usize,
        /// The time it had.
        limit: Duration,
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
    #[error(
        "score {rows} rows with model {model}: expected [{rows}] or [{rows}, {columns}], found {found}; where each column is a \
         class, name one: class = \"1\" under [model]"
    )]
    Scores {
        /// The model's name.
        model: String,
        /// How many rows were scored.
        rows: usize,
        /// How many columns were expected.
        columns: String,
        /// The shape of the answer.
        found: String,
    },
}
