//! The worker's loop: what happens to a batch, in which order, and when it is committed.
//!
//! [`Pipeline`] is the pure core: records in, encoded outputs out. `run`, `export`, the tests and the benches all use
//! it. [`Worker`] drives it between a [`crate::source::Source`] and a [`crate::sink::Sink`], one commit after another,
//! and handles rebalances. Components without I/O in `worker/protocol` decide what it does next.

mod clock;
mod fleet;
mod partitions;
mod pipeline;
mod run;
mod scoring;
mod snapshots;
mod worker;

pub use clock::{Clock, SystemClock};
pub use fleet::{Fleet, FleetError};
pub use partitions::{Partition, Partitions, Recovered};
pub use pipeline::{FeatureRow, Pipeline, PipelineSpec, Stopwatch};
pub use run::{log_failures, run_batch};
pub use scoring::{ScoringFailure, ShadowSlot};
pub use snapshots::{SnapshotFolder, SnapshotStore};
pub use worker::{Delivery, EngineError, Stop, Worker, WorkerSettings};
