//! Aimpoint turns a clickstream into targeting decisions: it reads user events from Kafka, keeps a rolling profile of
//! every user, scores it with an ONNX model and writes decisions to Kafka, exactly once.
//!
//! ```text
//! clickstream ─► source ─► event ─► profile ─► inference ─► targeting ─► decision ─► sink ─► decisions
//!                  ▲         │         │                                              │      dead-letter
//!                  │         └─────────┴───── refused ───────────────────────────────►│
//!               positions ◄──────────────────── one transaction ◄─────────────────────┘
//! ```
//!
//! Each arrow hands over a batch in columns ([`columns`]), never one event. What lies between `source` and `sink` is a
//! pure core, [`engine::Pipeline`]: no Kafka, no clock, no input or output, no chance. [`engine::Worker`] drives it
//! between the traits [`source::Source`] and [`sink::Sink`]; the tests put a model broker behind them and let it fail.
//!
//! # One worker
//!
//! A worker is a thread with its own consumer, transactional producer, profiles and model; workers share nothing. In
//! each turn it takes the records that are there, runs them through the core, and hands the outputs to its open
//! transaction; when the commit interval is over, outputs and input positions become visible together. The encoded
//! outputs are kept until the outcome is known: aborted, the same bytes are sent again. Where ownership or an outcome
//! is in doubt, the partition's profiles are dropped and restored: from the lazy changelog ([`state`]), and by reading the
//! input again from the mark in the committed offset's metadata, with nothing written.
//!
//! # Words
//!
//! - **Event time**: when something happened. Processing time is when we handle it, and decides no profile. A record's
//!   Kafka timestamp is a third thing: part of the log, at most a stand-in.
//! - **Late, too late**: behind the user's newest event; behind it by more than the allowed lateness.
//! - **Partition time**: the fifth newest of its users' newest event times; profiles end by it, and no one user moves it.
//! - **Tile, window**: a fixed span of event time; the whole tiles that a feature looks back over.
//! - **Feature, row, fingerprint**: a number about a user; the features at one event; the hash of their declaration.
//! - **Score, decision**: what the model says; what is made of it and written.
//! - **Experiment, variant, control**: users split between several models; the part that one has; the part of `[model]`.
//! - **Shadow**: a model that scores and decides nothing.
//! - **Segment**: an audience, by a rule over fields, features and score.
//! - **Dead letter**: a record set aside with reason, position and payload.
//! - **Position, committed offset, lag**: the next record to read; where a restart begins; what remains.
//! - **Fencing**: shutting out an earlier owner of the transactional id.
//! - **Changelog, checkpoint, mark**: the compacted topic with profiles; how often one is written; from where the input has
//!   to be read again.
//! - **Replay**: reading the input again to complete restored profiles, with nothing written.

// Fault: what is wrong with a configuration, and where.
pub mod fault;

// Secret: texts that are not to be shown.
pub mod secret;

// Logging: to standard error, with a filter.
pub mod logging;

// Gzip: the members of a compressed file, and what may stand behind them.
mod gzip;

// Partial: files that get their names when they are whole.
mod partial;

// Canary: known bugs, for the tests of the tests.
pub mod canary;

// Proto: the messages.
pub mod proto;

// Columns: what travels between the stages.
pub mod columns;

// Kafka: what consumers and producers share.
pub mod kafka;

// Source: bytes in.
pub mod source;

// Event: the meaning of one record.
pub mod event;

// Expression: the one language of rules.
pub mod expression;

// State: the keyed store of a partition.
pub mod state;

// Profile: a user's rolling aggregates.
pub mod profile;

// Inference: models and scores.
pub mod inference;

// Targeting: what a score means for a user.
pub mod targeting;

// Decision: what is written out.
pub mod decision;

// Evaluation: how good predictions are.
pub mod evaluation;

// Training: how a model is made.
pub mod training;

// Sink: bytes out.
pub mod sink;

// Metrics: distributions.
pub mod metrics;

// Status: what a worker knows of itself.
pub mod status;

// Engine: the core and the loop around it.
pub mod engine;

// Config: as written, as meant, and where.
pub mod config;

// Telemetry: every metric.
pub mod telemetry;

// Cli: the commands.
pub mod cli;

// Testkit: what only the tests need.
#[cfg(any(test, feature = "testkit"))]
pub mod testkit;
