//! The configuration section `[model]`.

use super::{BatchSpec, Calibration};
use bytesize::ByteSize;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::PathBuf, time::Duration};

/// `[model]`: the model and how it runs.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// The ONNX file, or the folder of its versions, relative to the configuration file.
    pub path: PathBuf,
    /// The name in decisions; by default from the file's metadata, else the file's stem.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The version in decisions; by default from the file's metadata, else the start of its hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The features in the order of the model's input; by default from the file's metadata.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<Vec<String>>,
    /// For a model with several inputs: the features of each, in order, by the input's name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<String, Vec<String>>,
    /// The output of `score`; by default the only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// The class whose probability is the score, by label, or by column number if the file has no labels; by default the positive one
    /// of two.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "label")]
    #[schemars(extend("type" = ["string", "integer", "boolean"]))]
    pub class: Option<String>,
    /// The valid range of the score. A version with scores outside is refused, and a decision with such a score falls back. By
    /// default 0 to 1: a probability.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<(f32, f32)>,
    /// The same for further scores, by name; by default 0 to 1.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub head_ranges: BTreeMap<String, (f32, f32)>,
    /// The outputs of further scores, by name, such as a conversion's. Rules refer to them as `score.<name>`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub heads: BTreeMap<String, String>,
    /// The calibration of the raw score; by default from the file's metadata.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
    /// Execution providers by preference: `cpu`, `cuda`, `tensorrt`.
    #[serde(default = "cpu")]
    pub providers: Vec<String>,
    /// The settings of GPU providers.
    #[serde(default)]
    pub gpu: GpuSpec,
    /// How the rows of several workers are batched for a GPU provider.
    #[serde(default)]
    pub batch: BatchSpec,
    /// How long a run may take; the scores of a late run are dropped, and its decisions fall back.
    #[serde(default = "deadline", with = "humantime_serde")]
    #[schemars(with = "String")]
    pub deadline: Duration,
    /// How long loading and checking a version may take before it is refused.
    #[serde(default = "load_timeout", with = "humantime_serde")]
    #[schemars(with = "String")]
    pub load_timeout: Duration,
}

impl ModelSpec {
    /// The default settings for the model at this path.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            name: None,
            version: None,
            features: None,
            inputs: BTreeMap::new(),
            output: None,
            class: None,
            range: None,
            head_ranges: BTreeMap::new(),
            heads: BTreeMap::new(),
            calibration: None,
            providers: cpu(),
            gpu: GpuSpec::default(),
            batch: BatchSpec::default(),
            deadline: deadline(),
            load_timeout: load_timeout(),
        }
    }

    /// The valid ranges of its scores: the main one, then those of the heads. With a calibration, the main score is unrestricted by
    /// default, because it need not be a probability.
    pub(super) fn ranges(&self, calibration: Option<&Calibration>) -> Vec<ScoreRange> {
        let is_probability = |points: &[(f64, f64)]| points.iter().all(|(score, _)| (0.0..=1.0).contains(score));
        let usual = match calibration {
            Some(Calibration::Isotonic { points }) if !is_probability(points) => (f32::MIN, f32::MAX),
            _ => (0.0, 1.0),
        };
        let head = |name: &String| self.head_ranges.get(name).copied().unwrap_or((0.0, 1.0));
        let all = std::iter::once(self.range.unwrap_or(usual)).chain(self.heads.keys().map(head));
        all.map(|(least, most)| ScoreRange { least, most }).collect()
    }

    /// The invalid range, if there is one: its key within the section, and the reason.
    pub fn range_fault(&self) -> Option<(String, String)> {
        let all = self.range.iter().map(|range| ("range".to_owned(), range));
        let heads = self.head_ranges.iter().map(|(head, range)| (format!("head_ranges.{head}"), range));
        let faulty = all.chain(heads).find(|(_, (least, most))| least.is_nan() || most.is_nan() || least >= most);
        if let Some((key, (least, most))) = faulty {
            return Some((key, format!("expected the smallest score and then a larger one, found {least} and {most}")));
        }
        let unknown = self.head_ranges.keys().find(|head| !self.heads.contains_key(*head));
        unknown.map(|head| (format!("head_ranges.{head}"), format!("no head is named {head:?} under heads")))
    }
}

/// A range of valid scores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoreRange {
    /// The smallest.
    pub least: f32,
    /// The largest.
    pub most: f32,
}

impl ScoreRange {
    /// Whether a score is in the range, with a tolerance for the rounding of sums of probabilities: 0.00001 of the larger bound.
    pub fn contains(self, score: f32) -> bool {
        let finite = |end: f32| if end.is_finite() { end.abs() } else { 0.0 };
        let slack = 1e-5 * finite(self.least).max(finite(self.most));
        score >= self.least - slack && score <= self.most + slack
    }
}

impl std::fmt::Display for ScoreRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} to {}", self.least, self.most)
    }
}

/// A label, written as a string, number or boolean.
fn label<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    struct Label;

    impl serde::de::Visitor<'_> for Label {
        type Value = Option<String>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("the label of a class")
        }

        fn visit_str<E>(self, label: &str) -> Result<Self::Value, E> {
            Ok(Some(label.to_owned()))
        }

        fn visit_i64<E>(self, label: i64) -> Result<Self::Value, E> {
            Ok(Some(label.to_string()))
        }

        fn visit_u64<E>(self, label: u64) -> Result<Self::Value, E> {
            Ok(Some(label.to_string()))
        }

        fn visit_bool<E>(self, label: bool) -> Result<Self::Value, E> {
            Ok(Some(label.to_string()))
        }
    }

    deserializer.deserialize_any(Label)
}

fn cpu() -> Vec<String> {
    vec!["cpu".to_owned()]
}

/// A batch of 4096 rows usually takes a few milliseconds. One second is far more, and well within a transaction's timeout.
fn deadline() -> Duration {
    Duration::from_secs(1)
}

/// Loading takes milliseconds to seconds. TensorRT compiles large models for minutes, which needs a longer timeout.
fn load_timeout() -> Duration {
    Duration::from_mins(1)
}

/// `[model.gpu]`: the settings of GPU providers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GpuSpec {
    /// The number of the device.
    pub device: i32,
    /// The memory limit of a session on the device; by default all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", extend("type" = ["string", "integer"]))]
    pub memory_limit: Option<ByteSize>,
    /// The precision of computations.
    pub precision: Precision,
}

/// The precision of a GPU provider.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// float32, as on the CPU.
    #[default]
    Full,
    /// Matrix products in TF32, with 10 bits of fraction.
    Tf32,
    /// float16 if TensorRT has a kernel for it; CUDA treats it as `tf32`.
    Half,
}
