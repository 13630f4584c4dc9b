//! What the leader needs of the world, and how Kafka gives it.

use super::{ControlError, Input};
use crate::{
    event::Record,
    sink::{ControlOutputs, ControlSink, SinkError},
    source::{SourceError, Tail},
};
use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::{Duration, Instant},
};

/// How long a look-up of the inputs' ends may take. It is repeated soon.
const ENDS_DEADLINE: Duration = Duration::from_secs(5);
/// How long the outcome of a transaction is looked for: longer than the broker keeps it open.
const RESOLVE_DEADLINE: Duration = Duration::from_mins(1);
/// How long the last transaction is waited for before the next one, and how long for one of its records.
const READ_BACK_DEADLINE: Duration = Duration::from_secs(5);
const READ_BACK_WAIT: Duration = Duration::from_millis(5);
/// How many own records are read back at a time.
const READ_BACK: usize = 10_000;

/// The topics of decisions, outcomes and audiences.
pub(super) trait Inputs {
    /// Hands over up to `max` records that have arrived, waiting at most `wait` for the first. Returns how many.
    fn poll(
        &mut self,
        input: Input,
        max: usize,
        wait: Duration,
        take: &mut dyn FnMut(&Record<'_>),
    ) -> Result<usize, SourceError>;

    /// The present end of each partition.
    fn ends(&mut self) -> Result<Vec<(Input, i32, i64)>, SourceError>;

    /// Whether everything below this end has been handed over.
    fn is_read(&self, input: Input, partition: i32, end: i64) -> bool;

    /// The next offset to hand over.
    fn next(&self, input: Input, partition: i32) -> Option<i64>;
}

/// These topics on Kafka.
pub(super) struct KafkaInputs {
    pub(super) decisions: Tail,
    pub(super) outcomes: Tail,
    pub(super) audiences: Tail,
}

impl KafkaInputs {
    fn tail(&self, input: Input) -> &Tail {
        match input {
            Input::Decisions => &self.decisions,
            Input::Outcomes => &self.outcomes,
            Input::Audiences => &self.audiences,
        }
    }

    fn tail_mut(&mut self, input: Input) -> &mut Tail {
        match input {
            Input::Decisions => &mut self.decisions,
            Input::Outcomes => &mut self.outcomes,
            Input::Audiences => &mut self.audiences,
        }
    }
}

impl Inputs for KafkaInputs {
    fn poll(
        &mut self,
        input: Input,
        max: usize,
        wait: Duration,
        take: &mut dyn FnMut(&Record<'_>),
    ) -> Result<usize, SourceError> {
        self.tail_mut(input).poll(max, wait, take)
    }

    fn ends(&mut self) -> Result<Vec<(Input, i32, i64)>, SourceError> {
        let mut ends = Vec::new();
        for input in Input::ALL {
            let of_input = self.tail_mut(input).ends(ENDS_DEADLINE)?;
            ends.extend(of_input.into_iter().map(|(partition, end)| (input, partition, end)));
        }
        Ok(ends)
    }

    fn is_read(&self, input: Input, partition: i32, end: i64) -> bool {
        self.tail(input).is_read(partition, end)
    }

    fn next(&self, input: Input, partition: i32) -> Option<i64> {
        self.tail(input).next(partition)
    }
}

/// Whether a transaction took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// All of it is committed.
    Committed,
    /// Nothing of it is. It may be written again.
    Aborted,
}

/// Where the leader writes.
pub(super) trait Outlet {
    /// Writes all of this in one transaction.
    ///
    /// # Errors
    /// [`ControlError::Deposed`] if another process has written since.
    fn write(&mut self, outputs: &ControlOutputs<'_>) -> Result<Written, ControlError>;
}

/// The transactional producer, and the compacted topic that tells what it has written.
///
/// Guarantees: a producer that has to be built anew fences every other process, and may itself be the one that was
/// deposed. So the topic is read to its end after each fence, and the leader goes on only if nobody else has written.
pub(super) struct KafkaOutlet {
    sink: ControlSink,
    /// The topic of the state, read to its end when the leader took over.
    journal: Tail,
    /// How many own records the journal has yet to hand over.
    unread: u64,
}

impl KafkaOutlet {
    pub(super) fn new(sink: ControlSink, journal: Tail) -> Self {
        Self { sink, journal, unread: 0 }
    }

    /// Reads back what has arrived.
    fn read_back(&mut self, wait: Duration, take_other: &mut dyn FnMut(&Record<'_>)) -> Result<usize, ControlError> {
        let unread = &mut self.unread;
        let taken = self.journal.poll(READ_BACK, wait, &mut |record| {
            if *unread > 0 {
                *unread -= 1;
            } else {
                take_other(record);
            }
        })?;
        Ok(taken)
    }

    /// Fences all other processes, and finds out whether an attempt took effect.
    fn resolve(&mut self, attempt: &[(String, Option<Vec<u8>>)]) -> Result<Written, ControlError> {
        let begun = Instant::now();
        loop {
            match self.sink.fence() {
                Ok(()) => break,
                Err(SinkError::Fatal { doing, detail }) => return Err(SinkError::Fatal { doing, detail }.into()),
                Err(error) if begun.elapsed() > RESOLVE_DEADLINE => return Err(error.into()),
                Err(error) => tracing::warn!(%error, "fencing other processes failed: trying again"),
            }
        }
        let end = self.journal.high_watermark(0)?;
        let mut found = Digest::default();
        while !self.journal.is_read(0, end) {
            if begun.elapsed() > 2 * RESOLVE_DEADLINE {
                return Err(ControlError::Deposed("the state topic cannot be read to its end".to_owned()));
            }
            self.read_back(Duration::from_millis(50), &mut |record| found.add(record.key, record.payload))?;
        }
        if self.unread > 0 {
            return Err(ControlError::Deposed("the state topic lacks own records".to_owned()));
        }
        let mut expected = Digest::default();
        for (key, value) in attempt {
            expected.add(Some(key.as_bytes()), value.as_deref());
        }
        match found {
            found if found.records == 0 => Ok(Written::Aborted),
            found if found == expected => Ok(Written::Committed),
            _ => Err(ControlError::Deposed("another process has written the state".to_owned())),
        }
    }
}

impl Outlet for KafkaOutlet {
    fn write(&mut self, outputs: &ControlOutputs<'_>) -> Result<Written, ControlError> {
        let mut others = 0;
        // The last transaction is read back before the next one, while no log cleaner can have touched it.
        let begun = Instant::now();
        while self.read_back(READ_BACK_WAIT, &mut |_| others += 1)? > 0
            || self.unread > 0 && begun.elapsed() < READ_BACK_DEADLINE
        {}
        if others > 0 {
            return Err(ControlError::Deposed("another process has written the state".to_owned()));
        }
        if self.sink.needs_fence() {
            self.resolve(&[])?;
        }
        match self.sink.commit(outputs) {
            Ok(()) => {
                self.unread += outputs.state.len() as u64;
                Ok(Written::Committed)
            }
            Err(SinkError::Abortable { doing, detail }) => {
                tracing::warn!(doing, detail, "the transaction was aborted and is written again");
                Ok(Written::Aborted)
            }
            Err(error @ SinkError::Fatal { .. }) => Err(error.into()),
            Err(error) => {
                tracing::warn!(%error, "it is not known yet whether the transaction took effect: trying again");
                self.resolve(outputs.state)
            }
        }
    }
}

/// A digest of records in their order.
#[derive(Clone, Default)]
struct Digest {
    records: u64,
    hasher: DefaultHasher,
}

impl Digest {
    fn add(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) {
        self.records += 1;
        (key, value).hash(&mut self.hasher);
    }
}

impl PartialEq for Digest {
    fn eq(&self, other: &Self) -> bool {
        self.records == other.records && self.hasher.finish() == other.hasher.finish()
    }
}
