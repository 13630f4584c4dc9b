//! Bytes in: the consumer of the clickstream, its assignment and positions.
//!
//! Owns the group membership and which partitions are assigned. A rebalance is not handled inside a client callback: it
//! becomes a [`Change`] that the worker's own loop answers, so that state changes in one place. It does not know what a
//! record means, what is stored for it, or how transactions commit.

mod candidacy;
mod changelog;
mod ends;
mod kafka;
mod membership;
mod probe;
mod reader;
mod tail;

pub use candidacy::Candidacy;
pub use ends::Ends;
pub use kafka::{KafkaSource, KafkaSourceSettings};
pub use membership::{Membership, address_of};
pub use probe::{Member, Probe, TopicLook};
pub use reader::Reader;
pub use tail::{Tail, TailSettings};

use crate::{event::Record, status::ClientReport};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use std::time::Duration;

/// A change of the assignment that the worker must answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// These partitions were assigned. The worker reads their committed positions and calls [`Source::assign`].
    Assigned(Vec<i32>),
    /// These partitions are being revoked. The worker finishes what is open and calls [`Source::release`].
    Revoked(Vec<i32>),
    /// These partitions are already lost: nothing can be committed for them any more.
    Lost(Vec<i32>),
}

/// The group's committed position for a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The next offset to read, if anything was committed.
    pub offset: Option<i64>,
    /// The metadata of that commit.
    pub metadata: String,
}

/// The first and the next offset of a partition's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermarks {
    /// The first offset still in the log.
    pub low: i64,
    /// The offset that the next record will get.
    pub high: i64,
}

/// An error on the input side.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The client could not be created with these settings.
    #[error("make the consumer for {brokers}: {detail}")]
    Settings {
        /// The brokers.
        brokers: String,
        /// The client's message.
        detail: String,
    },
    /// The broker did not answer in time, or at all; retrying may help.
    #[error("{doing}: {detail}")]
    Unreachable {
        /// What was being done.
        doing: String,
        /// The client's message.
        detail: String,
    },
    /// Another member has this one's instance id, or the group mistakes it for another one: it must rejoin.
    #[error("stay in the group as {instance}: {detail}; does another process have the same app.name and app.instance?")]
    Fenced {
        /// The instance id.
        instance: String,
        /// The client's message.
        detail: String,
    },
    /// Retrying cannot help.
    #[error("{doing}: {detail}")]
    Fatal {
        /// What was being done.
        doing: String,
        /// The client's message.
        detail: String,
    },
}

impl SourceError {
    fn settings(brokers: &str, error: &KafkaError) -> Self {
        Self::Settings { brokers: brokers.to_owned(), detail: error.to_string() }
    }
}

/// Whether an error only says that this user has no right to the group. It does not concern a reader that joins none.
fn is_about_the_group(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::GroupAuthorizationFailed)
}

/// What reading a changelog yields.
#[derive(Clone, Copy, Debug)]
pub enum Restored<'a> {
    /// The partition's changelog starts at the one offset and is read up to the other.
    Bounds(i32, Watermarks),
    /// One of its records; without a payload it is a tombstone.
    Record(&'a Record<'a>),
    /// The changelog of this partition has been read to its end.
    Done(i32),
}

/// Where records come from. All calls are made by the worker's own thread and may block as documented.
pub trait Source {
    /// The group membership that fences a commit, read afresh each time.
    type Group;

    /// Hands over up to `max` records, waiting at most `wait` for the first. Returns early if none are queued or the
    /// assignment changes. Returns the number of records handed over.
    ///
    /// # Errors
    /// If the client has failed permanently. Broken connections recover by themselves and are not errors.
    fn poll(&mut self, max: usize, wait: Duration, take: &mut dyn FnMut(&Record<'_>)) -> Result<usize, SourceError>;

    /// The next change of the assignment that needs an answer.
    fn change(&mut self) -> Option<Change>;

    /// The group's committed positions of these partitions.
    ///
    /// # Errors
    /// If the coordinator does not answer within its deadline.
    fn committed(&mut self, partitions: &[i32]) -> Result<Vec<(i32, Committed)>, SourceError>;

    /// The ends of a partition's log.
    ///
    /// # Errors
    /// If the broker does not answer within its deadline.
    fn watermarks(&mut self, partition: i32) -> Result<Watermarks, SourceError>;

    /// Whether everything in a partition's log below this end has been handed over. Positions cannot tell, because the
    /// last offsets of a log may belong to aborted transactions and markers. A client may learn a few seconds late that
    /// there is nothing more.
    fn is_at_end(&self, partition: i32, end: i64) -> bool;

    /// The partitions among these that the changelog topic does not have.
    ///
    /// # Errors
    /// If the broker does not answer within its deadline.
    fn lacking(&mut self, partitions: &[i32]) -> Result<Vec<i32>, SourceError>;

    /// Whether, since the last call, the log lost records that were still to be read: the position of some partition is
    /// no longer in it, and that partition yields nothing until [`Source::restart`].
    fn is_cut(&mut self) -> bool {
        false
    }

    /// Restarts all assigned partitions from these offsets, after [`Source::is_cut`]. Paused ones are resumed.
    ///
    /// # Errors
    /// If the client refuses.
    fn restart(&mut self, starts: &[(i32, i64)]) -> Result<(), SourceError> {
        starts.iter().try_for_each(|(partition, offset)| self.resume(*partition, *offset))
    }

    /// Rejoins the group without any partitions after [`SourceError::Fenced`].
    ///
    /// # Errors
    /// If the client cannot be created.
    fn rejoin(&mut self) -> Result<(), SourceError> {
        Ok(())
    }

    /// Answers [`Change::Assigned`]: reads these partitions from these offsets.
    ///
    /// # Errors
    /// If the client refuses.
    fn assign(&mut self, starts: &[(i32, i64)]) -> Result<(), SourceError>;

    /// Answers [`Change::Revoked`] and [`Change::Lost`]: gives up these partitions.
    ///
    /// # Errors
    /// If the client refuses.
    fn release(&mut self, partitions: &[i32]) -> Result<(), SourceError>;

    /// Pauses these partitions until [`Source::resume`].
    ///
    /// # Errors
    /// If the client refuses.
    fn pause(&mut self, partitions: &[i32]) -> Result<(), SourceError>;

    /// Reads an assigned partition from this offset on, whether or not it was paused. Records fetched earlier may
    /// appear again if they lie before this offset or have been handed over since. No record after the offset appears
    /// too early.
    ///
    /// # Errors
    /// If the client refuses.
    fn resume(&mut self, partition: i32, offset: i64) -> Result<(), SourceError>;

    /// The offset in a partition's changelog below which every transaction has ended.
    ///
    /// # Errors
    /// If the broker does not answer within its deadline.
    fn profiles_end(&mut self, partition: i32) -> Result<i64, SourceError>;

    /// Starts reading the changelog of these partitions, each from an offset up to its current end. Open transactions
    /// are included and waited for. Any earlier read of these partitions is discarded.
    ///
    /// # Errors
    /// If the client refuses, or no broker answers within its deadline.
    fn restore(&mut self, starts: &[(i32, i64)]) -> Result<(), SourceError>;

    /// Hands over up to `max` records of the changelogs being read, and says which of them are complete.
    ///
    /// # Errors
    /// If the client has failed permanently, or a transaction stays open beyond its deadline.
    fn poll_restore(&mut self, max: usize, take: &mut dyn FnMut(Restored<'_>)) -> Result<(), SourceError>;

    /// The client's statistics, if there are any since the last call.
    fn report(&mut self) -> Option<ClientReport> {
        None
    }

    /// The membership that fences the next commit.
    fn group(&self) -> Option<Self::Group>;
}
