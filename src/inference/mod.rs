//! Models and their scores.
//!
//! Owns: the matrix that a model is given ([`FeatureMatrix`]), what a model is to the rest of the program ([`Model`],
//! [`ModelInfo`]), and ONNX Runtime behind it ([`Runtime`], [`OnnxModel`]). Guarantees: a model that loads fits its
//! features — inputs as wide as there are features for them, an output with a score a row for each score, and the
//! fingerprint that it was trained on, unless the configuration names the features itself; the execution provider that was
//! asked for is the one that runs. Limits: a model's file is held in memory, so that each worker's copy comes from the same
//! bytes.
//! Left out: what a feature means, and what a score does to a user.

mod batcher;
mod calibration;
mod classes;
mod drift;
mod experiment;
mod explain;
mod fallback;
mod files;
mod folder;
mod graph;
mod matrix;
mod model;
mod onnx;
mod repeats;
mod shadow;
mod spec;
mod watch;

pub use batcher::{BatchSpec, Batched, batch};
pub use calibration::Calibration;
pub use drift::Drift;
pub use experiment::{BUCKETS, CONTROL, Experiment, ExperimentReference, ExperimentSpec, VARIANTS_MAX};
pub use explain::{EXACT_GROUPS_MAX, ExplainSpec, Explainer, Explanation, Group};
pub use fallback::{Fallback, FallbackReason, LastScores, ScoringSpec};
pub use files::ModelFiles;
pub use folder::{FolderError, Golden, Manifest, ModelFolder, version_fault};
pub use matrix::FeatureMatrix;
pub use model::{Model, ModelError, ModelFeed, ModelInfo, metadata};
pub use onnx::{OnnxModel, Runtime, RuntimeError};
pub use repeats::Repeats;
pub use shadow::{ScorePublisher, Shadow, ShadowCounts, ShadowRows, ShadowTap, Subjects};
pub use spec::{GpuSpec, ModelSpec, Precision, ScoreRange};
pub use watch::{Exactness, Handed, Look, Refusal, Unfinished, Watch, golden, vet, warm, within};
