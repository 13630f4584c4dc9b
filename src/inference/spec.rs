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
    /// The output that `score` is read from; the first one where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
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
            heads: BTreeMap::new(),
            calibration: None,
            providers: cpu(),
            gpu: GpuSpec::default(),
            batch: BatchSpec::default(),
            deadline: deadline(),
        }
    }
}

fn cpu() -> Vec<String> {
    vec!["cpu".to_owned()]
}

/// A batch of 4096 rows takes a usual model a few milliseconds; a second is far beyond, and well within a transaction's time.
fn deadline() -> Duration {
    Duration::from_secs(1)
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
