//! Bytes out: the Kafka transaction with decisions, dead letters, profile changes and input positions.
//!
//! Owns the producer, its transactional id and the meaning of the client's errors. It does not know how a decision came
//! about or when to commit. The variants of [`SinkError`] say what an error means for the transaction; the worker
//! decides by them only.

mod committer;
mod control;
mod deliveries;
mod embedded;
mod kafka;
mod outbox;
mod partitioner;
mod producer;
mod publisher;
mod size;
mod topics;

pub use control::{ControlOutputs, ControlSink, ControlSinkSettings, DeadLetter};
pub use deliveries::Deliveries;
pub use embedded::{EmbeddedBroker, EmbeddedError};
pub use kafka::{KafkaSink, KafkaSinkSettings};
pub use outbox::{Outbox, Output, Target};
pub use partitioner::partition_of;
pub use publisher::{PublishError, Publisher};
use size::parts_bytes;
pub use size::{SizeLimits, Smaller, message_bytes, smaller};
pub use topics::{TopicPlan, TopicState, Topics, TopicsError};

use std::time::Duration;

/// An error of a transaction, classified by what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The transaction must be aborted; its outputs are sent again in a new one.
    #[error("{doing}: {detail}")]
    Abortable {
        /// What was being done.
        doing: &'static str,
        /// The client's message.
        detail: String,
    },
    /// The group's generation has passed. The transaction must be aborted, and the worker must recover its partitions.
    #[error("{doing}: the group's generation has passed: {detail}")]
    Stale {
        /// What was being done.
        doing: &'static str,
        /// The client's message.
        detail: String,
    },
    /// It is unknown whether the transaction took effect, or the producer is unusable. It must be recreated with the
    /// same id; the committed offset then tells the outcome.
    #[error("{doing}: the outcome is unknown: {detail}")]
    Unknown {
        /// What was being done.
        doing: &'static str,
        /// The client's message.
        detail: String,
    },
    /// Retrying cannot help.
    #[error("{doing}: {detail}")]
    Fatal {
        /// What was being done.
        doing: &'static str,
        /// The client's message.
        detail: String,
    },
}

impl SinkError {
    /// The kind of error as a metric label.
    pub fn cause(&self) -> &'static str {
        match self {
            Self::Abortable { .. } => "abortable",
            Self::Stale { .. } => "stale",
            Self::Unknown { .. } => "unknown",
            Self::Fatal { .. } => "fatal",
        }
    }
}

/// Where outputs go. All calls are made by the worker's own thread; they may block, but end within the sink's deadline.
pub trait Sink {
    /// The group membership that fences a commit.
    type Group;

    /// Whether readers see decisions and dead letters when they are sent rather than with the commit. Either way,
    /// profiles and positions are committed together, and only after the broker has all outputs that the positions
    /// cover. Outputs that are sent again then appear twice.
    fn shows_at_once(&self) -> bool;

    /// Ends whatever an earlier owner of the transactional ids left open, and fences that owner. Producers whose last
    /// outcome is unknown are recreated first, which loses what was open on them.
    ///
    /// # Errors
    /// [`SinkError::Unknown`] if it should be retried, [`SinkError::Fatal`] if not.
    fn fence(&mut self) -> Result<(), SinkError>;

    /// Opens a transaction. The previous commit may still be in progress.
    ///
    /// # Errors
    /// As for every call of a transaction.
    fn begin(&mut self) -> Result<(), SinkError>;

    /// Sends the outputs from index `from` on in the open transaction. Outputs for readers may be sent before a
    /// transaction is open if they are shown at once. Blocks while the queue is full. Appends to `set_aside` the
    /// indexes of decisions that are sent as dead letters because they are too large for their topic.
    ///
    /// # Errors
    /// As for every call of a transaction.
    fn send(&mut self, outbox: &Outbox, from: usize, set_aside: &mut Vec<usize>) -> Result<(), SinkError>;

    /// Serves delivery reports without waiting.
    fn serve(&mut self);

    /// Starts to commit the open transaction together with these positions (partition, next offset, metadata). Only one
    /// commit can be in progress: its outcome must be taken before the next.
    ///
    /// # Errors
    /// As for every call of a transaction.
    fn commit(&mut self, positions: &[(i32, i64, String)], group: Self::Group) -> Result<(), SinkError>;

    /// Whether no output of the open transaction is in flight. Outputs shown at once are not part of it.
    fn is_idle(&self) -> bool {
        true
    }

    /// Whether the broker has all outputs of the commit in progress. The next transaction's outputs are sent only then,
    /// because they use another connection and could overtake.
    fn is_delivered(&self) -> bool;

    /// The outcome of the commit in progress, waiting at most this long; `None` while it is unknown.
    fn outcome(&mut self, wait: Duration) -> Option<Result<(), SinkError>>;

    /// Aborts the open transaction, and the one whose commit failed.
    ///
    /// # Errors
    /// [`SinkError::Unknown`] or [`SinkError::Fatal`].
    fn abort(&mut self) -> Result<(), SinkError>;
}
