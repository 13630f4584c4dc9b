//! Bytes out: the Kafka transaction with decisions, dead letters, profile changes and input positions.
//!
//! Owns the producer, its transactional id and the meaning of the client's errors. Leaves alone how a decision came
//! about, and when to commit. The three things an error can mean are the variants of [`SinkError`]; the worker acts on
//! these alone.

mod committer;
mod deliveries;
mod embedded;
mod kafka;
mod outbox;
mod partitioner;
mod producer;
mod publisher;
mod size;
mod topics;

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

/// What went wrong with a transaction, by what has to be done about it.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The transaction has to be aborted; its outputs are sent again in a new one.
    #[error("{doing}: {detail}")]
    Abortable {
        /// What was being done.
        doing: &'static str,
        /// The client's words.
        detail: String,
    },
    /// The group has moved on: the transaction has to be aborted and what this worker holds recovered anew.
    #[error("{doing}: the group's generation has passed: {detail}")]
    Stale {
        /// What was being done.
        doing: &'static str,
        /// The client's words.
        detail: String,
    },
    /// Nobody knows whether the transaction took effect, or the producer is of no more use. It has to be made anew
    /// under the same id, and the committed offset tells what happened.
    #[error("{doing}: the outcome is unknown: {detail}")]
    Unknown {
        /// What was being done.
        doing: &'static str,
        /// The client's words.
        detail: String,
    },
    /// Nothing that trying again would mend.
    #[error("{doing}: {detail}")]
    Fatal {
        /// What was being done.
        doing: &'static str,
        /// The client's words.
        detail: String,
    },
}

impl SinkError {
    /// Its kind as a metric label.
    pub fn cause(&self) -> &'static str {
        match self {
            Self::Abortable { .. } => "abortable",
            Self::Stale { .. } => "stale",
            Self::Unknown { .. } => "unknown",
            Self::Fatal { .. } => "fatal",
        }
    }
}

/// Where outputs go. Every call is made by the worker's own thread, may block, and ends within the sink's deadline.
pub trait Sink {
    /// What fences a commit.
    type Group;

    /// Whether readers see decisions and dead letters when they are sent, and not only with the commit. Profiles and positions
    /// are committed together either way, and only after the broker has taken all outputs that the positions cover. What is
    /// sent again then comes twice.
    fn shows_at_once(&self) -> bool;

    /// Ends whatever an earlier owner of the transactional ids left open, and shuts that owner out. Producers whose
    /// last outcome is unknown are dropped and made again first, and what was open on them is gone.
    ///
    /// # Errors
    /// [`SinkError::Unknown`] to try again, [`SinkError::Fatal`] to end.
    fn fence(&mut self) -> Result<(), SinkError>;

    /// Opens a transaction. The commit of the one before may still be under way.
    ///
    /// # Errors
    /// As every call of a transaction.
    fn begin(&mut self) -> Result<(), SinkError>;

    /// Hands over the outputs from number `from` on, in the open transaction; where outputs are shown at once, those for readers may
    /// be sent before one is begun. A full queue is waited for. Appends to `set_aside` the numbers of the
    /// decisions that are sent as dead letters, because they are larger than their topic takes.
    ///
    /// # Errors
    /// As every call of a transaction.
    fn send(&mut self, outbox: &Outbox, from: usize, set_aside: &mut Vec<usize>) -> Result<(), SinkError>;

    /// Serves delivery reports without waiting.
    fn serve(&mut self);

    /// Begins to commit the open transaction, and with it these positions (partition, next offset, metadata). Only one commit
    /// is under way at a time: its outcome has to be taken before the next.
    ///
    /// # Errors
    /// As every call of a transaction.
    fn commit(&mut self, positions: &[(i32, i64, String)], group: Self::Group) -> Result<(), SinkError>;

    /// Whether no output of the open transaction is on its way. What is shown at once is none of its outputs.
    fn is_idle(&self) -> bool {
        true
    }

    /// Whether the broker has all outputs of the commit under way. Those of the next transaction are sent only then:
    /// they go by another connection, and would overtake.
    fn is_delivered(&self) -> bool;

    /// The outcome of the commit under way, waited for at most so long; none while it is not known.
    fn outcome(&mut self, wait: Duration) -> Option<Result<(), SinkError>>;

    /// Aborts the open transaction, and the one whose commit has failed.
    ///
    /// # Errors
    /// [`SinkError::Unknown`] or [`SinkError::Fatal`].
    fn abort(&mut self) -> Result<(), SinkError>;
}
