//! Aimpoint turns a clickstream into targeting decisions: it reads user events from Kafka, keeps a rolling profile of
//! every user, scores it with an ONNX model and writes decisions to Kafka, exactly once.
//!
//! ```text
//! clickstream ─► source ─► event ─► profile ─► inference ─► targeting ─► decision ─► sink ─► decisions
//!                  ▲         │         │                                              │      dead-letter
//!                  │         └─────────┴──── rejected ───────────────────────────────►│
//!               positions ◄──────────────────── one transaction ◄─────────────────────┘
//! ```
//!
//! Each arrow hands over a batch in columns ([`columns`]), never a single event. Between `source` and `sink` is a pure
//! core, [`engine::Pipeline`], without Kafka, clocks, I/O or randomness. [`engine::Worker`] drives it between the
//! traits [`source::Source`] and [`sink::Sink`]. The tests replace both with a model broker with faults.
//!
//! # One worker
//!
//! A worker is a thread with its own consumer, transactional producer, profiles and model; workers share nothing. In
//! each turn it takes the waiting records, runs them through the core, and sends the outputs in its open
//! transaction. At the end of the commit interval, outputs and input positions become visible together. The encoded
//! outputs are kept until the outcome is known: after an abort, the same bytes are sent again. If ownership or an outcome is
//! uncertain, the worker drops the partition's profiles and restores them: first from the lazy changelog ([`state`]), then by
//! replaying the input from the mark in the metadata of the committed offset.
//!
//! # Modules
//!
//! The list below starts at the ground, and imports only point up in it; `tests/tidy.rs` has the table. The ground
//! imports nothing from the core. The core is pure: `tests/tidy.rs` also forbids clocks, threads, files, the
//! environment, logs and global metrics there, so the core returns what it has to report. Only [`source`], [`sink`] and
//! [`kafka`] use Kafka. [`status`] is the state of a worker, written by the engine and read by [`telemetry`]. `app`
//! builds a running process from a configuration, and [`cli`] parses arguments, calls it and prints.
//!
//! # Words
//!
//! - **Event time**: when something happened. Processing time is when we handle it; it affects no profile. A record's
//!   Kafka timestamp is a third time, used at most as a fallback.
//! - **Late, too late**: older than the user's newest event; older by more than the allowed lateness.
//! - **Partition time**: the fifth newest of the newest event times of its users, each at most its record's timestamp.
//!   Profiles expire by it, and no single user can move it.
//! - **Tile, window**: a fixed span of event time; the whole tiles that a feature covers.
//! - **Feature, row, fingerprint**: a number about a user; the features at one event; the hash of their declarations.
//! - **Score, decision**: the model's output; what is derived from it and written.
//! - **Experiment, variant, control**: users split between models; the users of one of them; the users of `[model]`.
//! - **Shadow**: a model that scores but decides nothing.
//! - **Segment**: an audience, defined by a rule over fields, features and score.
//! - **Campaign, creative**: what an advertiser pays for, with rules, caps and a price; what it can show.
//! - **Bid, holdout, arm**: a campaign's suggested price in a decision; users who never see the campaign; a part of an
//!   experiment's users.
//! - **Label, immature**: whether a click or a conversion followed an impression; an impression that is too young to know.
//! - **Dead letter**: a rejected record, written to its own topic with reason, position and payload.
//! - **Position, committed offset, lag**: the next record to read; where a restart begins; how many records are
//!   waiting.
//! - **Fencing**: shutting out an earlier owner of a transactional id.
//! - **Changelog, checkpoint, mark**: the compacted topic of profiles; how often a profile is written to it; the offset
//!   from which the input has to be replayed.
//! - **Replay**: reading input again without output, to complete restored profiles.

// ---- The ground ----

// Config error: what is wrong with a configuration, and where.
pub mod config_error;

// Panics: calls into libraries that panic on unusual input.
pub mod panics;

// Terminal: characters that a terminal acts on.
mod terminal;

// Secret: texts that must not be shown.
pub mod secret;

// Hex: bytes as text.
pub mod hex;

// Duration: durations as people write them.
mod duration;

// Random: deterministic pseudo-random numbers.
mod random;

// Nesting: how deep JSON of others may nest.
mod nesting;

// JSON place: where JSON is wrong.
pub mod json_place;

// Mailbox: newest values for workers, from the threads that fetch them.
pub mod mailbox;

// Gzip: reading compressed files of several members.
mod gzip;

// Partial: files that appear under their name once complete.
mod partial;

// Blocks: files whose content nobody trusts.
mod blocks;

// Canary: known bugs that tests switch on, to test the tests.
pub mod canary;

// Proto: the Protobuf messages.
pub mod proto;

// Metrics: the one list of families, and what has been recorded.
pub mod metrics;

// Logging: to standard error, with a filter and rate limits.
pub mod logging;

// Columns: a batch, the unit passed between stages.
pub mod columns;

// Expression: the one language of rules.
pub mod expression;

// ---- The pure core ----

// State: the keyed store of a partition, its changelog records and snapshots.
pub mod state;

// Event: the meaning of one record.
pub mod event;

// Privacy: what a user's consent permits.
pub mod privacy;

// Profile: a user's rolling aggregates.
pub mod profile;

// Evaluation: labels, how good predictions are, and what decisions achieved.
pub mod evaluation;

// Inference: models and scores.
pub mod inference;

// Targeting: segments, campaigns and creatives.
pub mod targeting;

// Decision: what is written out.
pub mod decision;

// Status: the state of a worker.
pub mod status;

// ---- The edges, and the engine between them ----

// Kafka: the clients, with the settings that carry the guarantees.
pub mod kafka;

// Source: records in.
pub mod source;

// Sink: outputs out.
pub mod sink;

// Engine: the core put together, and the worker that drives it.
pub mod engine;

// ---- Beside the engine ----

// Control: from outcomes to a policy.
pub mod control;

// Effect: what decisions achieved.
pub mod effect;

// Report: what decisions achieved, as a page for people.
pub mod report;

// Serve: answers about the latest decision of every user.
pub mod serve;

// Training: from labelled rows to a model.
pub mod training;

// Content: from what people say to creatives that people approve.
pub mod content;

// ---- The outside ----

// Config: as written and as typed, with the position of each key.
pub mod config;

// Telemetry: Prometheus text, OTLP, the admin port and the live page.
pub mod telemetry;

// App: from a configuration to a running process.
mod app;

// Cli: the commands.
pub mod cli;

// Testkit: what only tests need.
#[cfg(any(test, feature = "testkit"))]
pub mod testkit;
