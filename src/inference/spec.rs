//! The section `[model]`, as it is written.

use super::{BatchSpec, Calibration};
use bytesize::ByteSize;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::PathBuf, time::Duration};

/// `[model]`: which model scores, and on what.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// The ONNX file, or the folder of its versions, relative to the configuration file.
    pub path: PathBuf,
    /// The name that decisions carry; the file's own metadata, then its stem, where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The version that decisions carry; the file's own metadata, then the start of its hash, where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The features in the order of the model's input; from the file's metadata where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<Vec<String>>,
    /// For a model with several inputs: the features of each, in order, by the input's name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<String, Vec<String>>,
    /// The output that `score` is read from; the one that there is where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// The class whose probability is the score, by its label, or by the number of its column where the file says no labels;
    /// the positive one of two where absent.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "label")]
    #[schemars(extend("type" = ["string", "integer", "boolean"]))]
    pub class: Option<String>,
    /// The least and the largest score that can be meant. A version that scores beyond them is refused, and a decision with such a
    /// score falls back. By default 0 and 1: a probability.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<(f32, f32)>,
    /// The same for further scores, by name; by default 0 and 1.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub head_ranges: BTreeMap<String, (f32, f32)>,
    /// Further scores by name, such as a conversion's: the output that each is read from. Rules call them `score.<name>`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub heads: BTreeMap<String, String>,
    /// What turns the raw score into a probability; from the file's metadata where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
    /// Execution providers by preference: `cpu`, `cuda`, `tensorrt`.
    #[serde(default = "cpu")]
    pub providers: Vec<String>,
    /// How a GPU provider runs.
    #[serde(default)]
    pub gpu: GpuSpec,
    /// How the rows of several workers are joined for a GPU provider.
    #[serde(default)]
    pub batch: BatchSpec,
    /// How long a run may take; what comes later is not used, and its decisions fall back.
    #[serde(default = "deadline", with = "humantime_serde")]
    #[schemars(with = "String")]
    pub deadline: Duration,
    /// How long loading and checking a version may take; what takes longer is refused.
    #[serde(default = "load_timeout", with = "humantime_serde")]
    #[schemars(with = "String")]
    pub load_timeout: Duration,
}

impl ModelSpec {
    /// The usual settings for the model at this path.
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

    /// The ranges that its scores have to lie in: that of the main one, then those of the heads. A calibration of scores that are no
    /// probabilities leaves the main one open.
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

    /// What is wrong with its ranges: the key below the section, and why.
    pub fn range_fault(&self) -> Option<(String, String)> {
        let all = self.range.iter().map(|range| ("range".to_owned(), range));
        let heads = self.head_ranges.iter().map(|(head, range)| (format!("head_ranges.{head}"), range));
        let faulty = all.chain(heads).find(|(_, (least, most))| least.is_nan() || most.is_nan() || least >= most);
        if let Some((key, (least, most))) = faulty {
            return Some((key, format!("expected the least score and then a larger one, found {least} and {most}")));
        }
        let unknown = self.head_ranges.keys().find(|head| !self.heads.contains_key(*head));
        unknown.map(|head| (format!("head_ranges.{head}"), format!("no head is named {head:?} under heads")))
    }
}

/// The scores that can be meant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoreRange {
    /// The least.
    pub least: f32,
    /// The largest.
    pub most: f32,
}

impl ScoreRange {
    /// Whether a score lies in it, up to the rounding of sums of probabilities: 0.00001 of its larger end.
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

/// A label as it is written: a text, a number or a truth value.
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

/// A batch of 4096 rows takes a usual model a few milliseconds; a second is far beyond, and well within a transaction's time.
fn deadline() -> Duration {
    Duration::from_secs(1)
}

/// Loading takes milliseconds to seconds, and TensorRT compiles a large model for minutes, which is to be declared.
fn load_timeout() -> Duration {
    Duration::from_mins(1)
}

/// `[model.gpu]`: how a GPU provider runs.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GpuSpec {
    /// The number of the device.
    pub device: i32,
    /// The most memory of the device that a session takes; as much as there is where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", extend("type" = ["string", "integer"]))]
    pub memory_limit: Option<ByteSize>,
    /// How exactly it computes.
    pub precision: Precision,
}

/// How exactly a GPU provider computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// In float32, as the CPU does.
    #[default]
    Full,
    /// Products of matrices in TF32, which keeps 10 bits of the fraction.
    Tf32,
    /// In float16 where TensorRT has a kernel for it; CUDA takes it for `tf32`.
    Half,
}
