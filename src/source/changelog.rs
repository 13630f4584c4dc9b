//! Reads the changelog of profiles.
//!
//! Guarantees: a partition is read up to the high watermark at the start, not up to the last stable offset: a
//! transaction that is open then may contain newer profiles, and is waited for (KAFKA-10167). Control records take
//! offsets of their own, so the end is detected by the client's end-of-partition event, which counts only once
//! everything below that watermark is stable. Limits: an open transaction is waited for at most [`STABLE_DEADLINE`].

use super::{KafkaSourceSettings, Restored, SourceError, Watermarks};
use crate::{
    event::Record,
    kafka::{Cluster, Isolation, Quiet},
    logging,
};
use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
};
use std::time::{Duration, Instant};

/// Longer than the transaction timeout of any worker, after which the broker aborts transactions of dead ones.
const STABLE_DEADLINE: Duration = Duration::from_mins(2);

/// How long one request to the broker may take.
const CALL_DEADLINE: Duration = Duration::from_secs(20);

/// How often to check whether open transactions have ended.
const STABLE_PAUSE: Duration = Duration::from_millis(20);

/// A partition waiting until everything below its end is stable.
struct Waiting {
    partition: i32,
    from: i64,
    end: i64,
    since: Instant,
}

/// The changelog partitions being read.
pub(super) struct Changelog {
    topic: String,
    /// Reads only committed records, and sees the last stable offset as the end.
    committed: BaseConsumer<Quiet>,
    /// Sees the high watermark as the end.
    uncommitted: BaseConsumer<Quiet>,
    waiting: Vec<Waiting>,
    /// By partition, the next offset to read.
    reading: Vec<(i32, Offset)>,
    asked: Instant,
}

impl Changelog {
    /// Creates the clients.
    pub(super) fn open(settings: &KafkaSourceSettings) -> Result<Self, SourceError> {
        let cluster = Cluster { brokers: &settings.brokers, settings: &settings.client };
        let client = |isolation| {
            let client = cluster.changelog_reader(&settings.group, isolation);
            client.map_err(|error| SourceError::settings(&settings.brokers, &error))
        };
        Ok(Self {
            topic: settings.profiles.clone(),
            committed: client(Isolation::Committed)?,
            uncommitted: client(Isolation::Uncommitted)?,
            waiting: Vec::new(),
            reading: Vec::new(),
            asked: Instant::now(),
        })
    }

    /// Starts reading these partitions, each from an offset.
    pub(super) fn read(&mut self, starts: &[(i32, i64)]) -> Result<(), SourceError> {
        let partitions: Vec<i32> = starts.iter().map(|(partition, _)| *partition).collect();
        self.forget(&partitions)?;
        for (partition, from) in starts {
            let end = self.ends(&self.uncommitted, *partition)?.high;
            self.waiting.push(Waiting { partition: *partition, from: *from, end, since: Instant::now() });
        }
        Ok(())
    }

    /// Stops reading these partitions.
    pub(super) fn forget(&mut self, partitions: &[i32]) -> Result<(), SourceError> {
        self.waiting.retain(|it| !partitions.contains(&it.partition));
        let before = self.reading.len();
        self.reading.retain(|(partition, _)| !partitions.contains(partition));
        if self.reading.len() < before { self.assign() } else { Ok(()) }
    }

    /// Whether nothing is left to read.
    pub(super) fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.reading.is_empty()
    }

    /// Passes on what has arrived.
    pub(super) fn poll(&mut self, max: usize, take: &mut dyn FnMut(Restored<'_>)) -> Result<(), SourceError> {
        self.admit(take)?;
        self.committed.context().known.restore(self.committed.client());
        for _ in 0..max {
            let done = match self.committed.poll(Duration::ZERO) {
                None => break,
                Some(Ok(message)) => {
                    let partition = message.partition();
                    let Some((_, next)) = self.reading.iter_mut().find(|(known, _)| *known == partition) else {
                        continue;
                    };
                    *next = Offset::Offset(message.offset() + 1);
                    take(Restored::Record(&Record {
                        partition,
                        offset: message.offset(),
                        timestamp_ms: message.timestamp().to_millis(),
                        key: message.key(),
                        payload: message.payload(),
                        traceparent: None,
                        erase: None,
                    }));
                    None
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => Some(partition),
                Some(Err(error)) => {
                    if let Some(left_out) = logging::rate_limited("read the changelog") {
                        tracing::warn!(%error, left_out, topic = self.topic, "the changelog cannot be read: trying again");
                    }
                    None
                }
            };
            if let Some(partition) = done.filter(|done| self.reading.iter().any(|(known, _)| known == done)) {
                self.forget(&[partition])?;
                take(Restored::Done(partition));
            }
        }
        Ok(())
    }

    /// Starts reading the partitions that have become stable up to their end.
    fn admit(&mut self, take: &mut dyn FnMut(Restored<'_>)) -> Result<(), SourceError> {
        if self.waiting.is_empty() || self.asked.elapsed() < STABLE_PAUSE {
            return Ok(());
        }
        self.asked = Instant::now();
        let mut admitted = Vec::new();
        for Waiting { partition, from, end, since } in &self.waiting {
            let stable = self.ends(&self.committed, *partition)?;
            if stable.high >= *end {
                let start = if *from > stable.low { Offset::Offset(*from) } else { Offset::Beginning };
                admitted.push((*partition, start));
                take(Restored::Bounds(*partition, Watermarks { low: stable.low, high: *end }));
            } else if since.elapsed() > STABLE_DEADLINE {
                return Err(SourceError::Fatal {
                    doing: format!("restore from {}/{partition}", self.topic),
                    detail: "a transaction stays open; is there a producer with a longer transaction.timeout.ms?"
                        .to_owned(),
                });
            }
        }
        if admitted.is_empty() {
            return Ok(());
        }
        self.waiting.retain(|it| !admitted.iter().any(|(partition, _)| *partition == it.partition));
        self.reading.append(&mut admitted);
        self.assign()
    }

    fn assign(&self) -> Result<(), SourceError> {
        let refused = |error: KafkaError| SourceError::Fatal {
            doing: format!("read the changelog {}", self.topic),
            detail: error.to_string(),
        };
        let mut list = TopicPartitionList::with_capacity(self.reading.len());
        for (partition, next) in &self.reading {
            list.add_partition_offset(&self.topic, *partition, *next).map_err(refused)?;
        }
        self.committed.assign(&list).map_err(refused)
    }

    /// The ends of a partition as seen by this client.
    fn ends(&self, client: &BaseConsumer<Quiet>, partition: i32) -> Result<Watermarks, SourceError> {
        let start = Instant::now();
        loop {
            match client.fetch_watermarks(&self.topic, partition, CALL_DEADLINE) {
                Ok((low, high)) => return Ok(Watermarks { low, high }),
                Err(error) if start.elapsed() > CALL_DEADLINE => {
                    return Err(SourceError::Unreachable {
                        doing: format!("read the end of {}/{partition}", self.topic),
                        detail: error.to_string(),
                    });
                }
                Err(_) => {
                    client.context().known.name_again(client.client());
                    std::thread::sleep(STABLE_PAUSE);
                }
            }
        }
    }
}
