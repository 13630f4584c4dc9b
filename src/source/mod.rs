//! Bytes in: the consumer of the clickstream, its assignment and positions.
//!
//! Owns the membership in the consumer group and says which partitions are held. A rebalance is not acted on inside a
//! client callback: it becomes a [`Change`], and the worker's own loop answers it, so that state changes in one place.
//! Leaves alone what a record means, what is kept for it, and every commit that is part of a transaction.

mod changelog;
mod kafka;
mod probe;
mod reader;

pub use kafka::{KafkaSource, KafkaSourceSettings};
pub use probe::{Probe, TopicLook};
pub use reader::Reader;

use crate::{event::Record, status::ClientReport};
use rdkafka::error::KafkaError;
use std::time::Duration;

/// A change of the assignment that the worker has to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// These partitions came. The worker reads their committed positions and calls [`Source::assign`].
    Assigned(Vec<i32>),
    /// These partitions go. The worker finishes what is open and calls [`Source::release`].
    Revoked(Vec<i32>),
    /// These partitions are gone already: nothing of theirs can be committed any more.
    Lost(Vec<i32>),
}

/// What the group has committed for a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The next offset to read, if anything was committed.
    pub offset: Option<i64>,
    /// The metadata string of that commit.
    pub metadata: String,
}

/// The first and the next offset of a partition's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermarks {
    /// The first offset that is still there.
    pub low: i64,
    /// The offset that the next record will get.
    pub high: i64,
}

/// An error of the input side.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The client could not be made from its settings.
    #[error("make the consumer for {brokers}: {detail}")]
    Settings {
        /// The brokers asked for.
        brokers: String,
        /// The client's words.
        detail: String,
    },
    /// The broker did not answer, or not in time; trying again may help.
    #[error("{doing}: {detail}")]
    Unreachable {
        /// What was being done.
        doing: String,
        /// The client's words.
        detail: String,
    },
    /// Another member of the group has this one's instance id, or the group takes it for another one: it has to join anew.
    #[error("stay in the group as {instance}: {detail}; does another process have the same app.name and app.instance?")]
    Fenced {
        /// The instance id.
        instance: String,
        /// The client's words.
        detail: String,
    },
    /// Nothing that trying again would mend.
    #[error("{doing}: {detail}")]
    Fatal {
        /// What was being done.
        doing: String,
        /// The client's words.
        detail: String,
    },
}

impl SourceError {
    /// The client could not be built from its settings.
    fn settings(brokers: &str, error: &KafkaError) -> Self {
        Self::Settings { brokers: brokers.to_owned(), detail: error.to_string() }
    }
}

/// What comes of a changelog that is being read.
#[derive(Clone, Copy, Debug)]
pub enum Restored<'a> {
    /// It begins with the one offset, and is read up to the other.
    Bounds(i32, Watermarks),
    /// One of its records; without a payload it is a tombstone.
    Record(&'a Record<'a>),
    /// The changelog of this partition is read to its end.
    Done(i32),
}

/// Where records come from. Every call is made by the worker's own thread and may block for as long as it says.
pub trait Source {
    /// What fences a commit: the membership at this moment, read afresh each time.
    type Group;

    /// Hands over up to `max` records, waiting at most `wait` for the first. It returns early when none are queued or
    /// when the assignment changes, and gives the number of records handed over.
    ///
    /// # Errors
    /// When the client has failed for good. Broken connections mend themselves and are no error.
    fn poll(&mut self, max: usize, wait: Duration, take: &mut dyn FnMut(&Record<'_>)) -> Result<usize, SourceError>;

    /// The next change of the assignment, if one waits for its answer.
    fn change(&mut self) -> Option<Change>;

    /// The group's committed positions of these partitions.
    ///
    /// # Errors
    /// When the coordinator gives no answer within its deadline.
    fn committed(&mut self, partitions: &[i32]) -> Result<Vec<(i32, Committed)>, SourceError>;

    /// The ends of a partition's log.
    ///
    /// # Errors
    /// When the broker gives no answer within its deadline.
    fn watermarks(&mut self, partition: i32) -> Result<Watermarks, SourceError>;

    /// Whether everything in a partition's log below this end has been handed over. The last offsets of a log may be no
    /// records, but those of aborted transactions and markers, so positions alone do not tell. A client may learn a few
    /// seconds late that there is nothing more.
    fn is_at_end(&self, partition: i32, end: i64) -> bool;

    /// Which of these partitions the changelog has none of the same number for.
    ///
    /// # Errors
    /// When the broker gives no answer within its deadline.
    fn lacking(&mut self, partitions: &[i32]) -> Result<Vec<i32>, SourceError>;

    /// Whether the log has lost records since the last call that were still to be read: a position of some partition is no
    /// longer in it, and nothing of it comes before a [`Source::restart`].
    fn is_cut(&mut self) -> bool {
        false
    }

    /// Reads all held partitions anew from these offsets, after [`Source::is_cut`]. Paused ones go on, too.
    ///
    /// # Errors
    /// When the client refuses.
    fn restart(&mut self, starts: &[(i32, i64)]) -> Result<(), SourceError> {
        starts.iter().try_for_each(|(partition, offset)| self.resume(*partition, *offset))
    }

    /// Joins the group anew after [`SourceError::Fenced`], without any partition.
    ///
    /// # Errors
    /// When the client cannot be made.
    fn rejoin(&mut self) -> Result<(), SourceError> {
        Ok(())
    }

    /// Answers [`Change::Assigned`]: reads these partitions from these offsets on.
    ///
    /// # Errors
    /// When the client refuses.
    fn assign(&mut self, starts: &[(i32, i64)]) -> Result<(), SourceError>;

    /// Answers [`Change::Revoked`] and [`Change::Lost`]: gives these partitions up.
    ///
    /// # Errors
    /// When the client refuses.
    fn release(&mut self, partitions: &[i32]) -> Result<(), SourceError>;

    /// Holds a partition's input back until [`Source::resume`].
    ///
    /// # Errors
    /// When the client refuses.
    fn pause(&mut self, partitions: &[i32]) -> Result<(), SourceError>;

    /// Reads a held partition from this offset on, whether it was paused or not. Records that were fetched before may come
    /// again, where they lie before this offset or were handed over since; of those behind it none comes too early.
    ///
    /// # Errors
    /// When the client refuses.
    fn resume(&mut self, partition: i32, offset: i64) -> Result<(), SourceError>;

    /// The end of a partition's changelog below which every transaction has ended.
    ///
    /// # Errors
    /// When the broker gives no answer within its deadline.
    fn profiles_end(&mut self, partition: i32) -> Result<i64, SourceError>;

    /// Begins to read the changelog of these partitions, each from an offset up to where it ends now, open transactions
    /// included: these are waited for. What was being read of them before is forgotten.
    ///
    /// # Errors
    /// When the client refuses or no broker answers within its deadline.
    fn restore(&mut self, starts: &[(i32, i64)]) -> Result<(), SourceError>;

    /// Hands over up to `max` records of the changelogs that are being read, and says which of them are read to their end.
    ///
    /// # Errors
    /// When the client has failed for good, or a transaction stays open beyond every deadline.
    fn poll_restore(&mut self, max: usize, take: &mut dyn FnMut(Restored<'_>)) -> Result<(), SourceError>;

    /// What the client tells of itself, if it has told anything since the last call.
    fn report(&mut self) -> Option<ClientReport> {
        None
    }

    /// The membership that fences the next commit.
    fn group(&self) -> Option<Self::Group>;
}
