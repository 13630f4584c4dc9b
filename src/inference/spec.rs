//! The section `[model]`, as it is written.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// `[model]`: which model scores, and on what.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// The ONNX file, relative to the configuration file.
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
    /// The output to read; the first one where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// Execution providers by preference: `cpu`, `cuda`, `tensorrt`.
    #[serde(default = "cpu")]
    pub providers: Vec<String>,
}

fn cpu() -> Vec<String> {
    vec!["cpu".to_owned()]
}
