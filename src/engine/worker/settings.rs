//! How a worker paces itself, how it is stopped, and why it may end by itself.

use crate::{sink::SinkError, source::SourceError};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// The delivery guarantee of decisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// Exactly once for every reader that only reads committed records.
    ExactlyOnce,
    /// Once, or more often after a fault or a rebalance. Visible without waiting for a commit.
    AtLeastOnce,
}

/// How a worker paces itself.
#[derive(Clone, Copy, Debug)]
pub struct WorkerSettings {
    /// Its number among the workers of the process.
    pub number: usize,
    /// The time from a transaction's first record to its commit.
    pub commit_interval: Duration,
    /// How long the worker rests after a small batch, so that the next one is larger. Otherwise it would wake for every
    /// record at low load.
    pub pace: Duration,
    /// The largest batch.
    pub batch_rows_max: usize,
    /// The minimum time between two writes of a profile to the changelog.
    pub checkpoint_interval: Duration,
    /// How long records may wait without any progress before the worker ends.
    pub stall_after: Duration,
}

/// Asks all workers to stop.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Requests the stop.
    pub fn request(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether a stop was requested.
    pub fn is_requested(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Why a worker ended without being stopped.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The input side failed.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The output side failed.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// A transaction failed repeatedly.
    #[error("commit {outputs} outputs: given up after {tries} tries: {last}")]
    Commit {
        /// How many outputs it held.
        outputs: usize,
        /// How often it was tried.
        tries: u32,
        /// The last failure.
        last: SinkError,
    },
    /// Users are named by the pseudonyms of another key.
    #[error(
        "partition {partition}: its users are named by another identity.key, and would all begin anew under this one: give the key so \
         far as identity.previous_key, or take it back as identity.key; to begin anew on purpose, choose another app.name"
    )]
    Identity {
        /// The partition.
        partition: i32,
    },
    /// Records are waiting but nothing is being committed.
    #[error("records of partitions {partitions:?} have been waiting for {} but nothing was committed", crate::duration::display(*time))]
    Stalled {
        /// Those partitions.
        partitions: Vec<i32>,
        /// How long their records have been waiting.
        time: Duration,
    },
    /// No broker answers.
    #[error("no broker has answered for {}", crate::duration::display(*time))]
    Disconnected {
        /// How long none has.
        time: Duration,
    },
}
