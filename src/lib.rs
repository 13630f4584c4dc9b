//! Aimpoint.

/// Fault: what is wrong with a configuration, and where.
pub mod fault;

/// Proto: the messages.
pub mod proto;

/// Columns: what travels between the stages.
pub mod columns;

/// Source: bytes in.
pub mod source;

/// Event: the meaning of one record.
pub mod event;

/// Expression: the one language of rules.
pub mod expression;

/// State: the keyed store of a partition.
pub mod state;

/// Profile: a user's rolling aggregates.
pub mod profile;

/// Inference: models and scores.
pub mod inference;

/// Targeting: what a score means for a user.
pub mod targeting;

/// Decision: what is written out.
pub mod decision;

/// Evaluation: how good predictions are.
pub mod evaluation;

/// Training: how a model is made.
pub mod training;

/// Sink: bytes out.
pub mod sink;

/// Engine: the loop.
pub mod engine;

/// Config: as written, as meant, and where.
pub mod config;

/// Telemetry: every metric.
pub mod telemetry;

/// Cli: the commands.
pub mod cli;

/// Testkit: what only the tests need.
#[cfg(any(test, feature = "testkit"))]
pub mod testkit;
