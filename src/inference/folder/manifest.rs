//! The manifest of a version.

use super::super::{Calibration, TrainingTimes};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The manifest of a version.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The model's name.
    pub name: String,
    /// The ONNX file, in the version's folder.
    pub file: PathBuf,
    /// The SHA-256 of the file and its external weights, see [`super::ModelFiles::sha256`].
    pub sha256: String,
    /// When it was added, in UTC; by default the modification time of the manifest. The newest version is active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub added_at: Option<String>,
    /// The features in the order of its input; by default from the file's metadata.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<Vec<String>>,
    /// The fingerprint of the features that it was trained on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// The calibration of its scores; by default from the file's metadata.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
    /// Its metrics from training, for display.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub metrics: serde_json::Value,
    /// The times of the rows that it was trained on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trained: Option<TrainingTimes>,
    /// Rows and scores that the version must reproduce before it becomes active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub golden: Option<Golden>,
}

impl Manifest {
    /// The text of its file.
    pub(super) fn to_json(&self) -> Vec<u8> {
        let text = serde_json::to_string_pretty(self).expect("a manifest is written as JSON");
        format!("{text}\n").into_bytes()
    }
}

/// Rows with their expected scores.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Golden {
    /// The rows, in the order of the features; null is a missing value.
    pub rows: Vec<Vec<Option<f32>>>,
    /// The raw main score of each.
    pub scores: Vec<f32>,
}
