//! Models and their scores.
//!
//! Owns the input of a model ([`FeatureMatrix`]), the interface to models ([`Model`], [`ModelInfo`]), its implementation with
//! ONNX Runtime ([`Runtime`], [`OnnxModel`]), and models that turn texts into vectors ([`Sentences`]). Guarantees: a loaded model
//! matches its features, that is, the width of its inputs, one output value per row and score, and the fingerprint of its training
//! features, unless the configuration names the features itself. The requested execution provider is the one that runs. Limits: the model's file is kept in memory, so that all workers
//! load the same bytes. Not covered: the meaning of features and the use of scores.

mod audit;
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
mod promotion;
mod repeats;
mod sentences;
mod shadow;
mod spec;
mod validate;
mod watch;

pub use audit::{AuditEntry, AuditNote, AuditStep};
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
pub use promotion::{LiveNeed, PromotionSpec, TrainingTimes};
pub use repeats::Repeats;
pub use sentences::{SentenceError, Sentences};
pub use shadow::{ScoreSink, Shadow, ShadowCounts, ShadowRows, ShadowTap, Subjects};
pub use spec::{GpuSpec, ModelSpec, Precision, ScoreRange};
pub use validate::{Exactness, Refusal, golden, validate, warm};
pub use watch::{CheckOutcome, ModelMailbox, ModelWatcher, Unfinished, within};
