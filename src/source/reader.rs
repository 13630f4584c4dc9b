//! Reads whole topics outside any group: what a bidder sees of the decisions.

use super::SourceError;
use crate::{
    event::Record,
    kafka::{Cluster, Quiet, missing_right},
};
use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
    message::Headers,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

/// How long nothing may arrive while a topic is read to its end.
const SILENCE: Duration = Duration::from_secs(30);

/// The partitions of topics.
type Found<'a> = Vec<(&'a str, i32)>;

/// How long a look-up may take.
const LOOK_UP: Duration = Duration::from_secs(10);

/// The partitions that are not yet read to their ends.
struct Open(BTreeMap<i32, i64>);

impl Open {
    fn new(ends: &BTreeMap<i32, i64>) -> Self {
        Self(ends.iter().filter(|(_, end)| **end > 0).map(|(partition, end)| (*partition, *end)).collect())
    }

    /// Whether a record is below the end of its partition.
    fn take(&mut self, partition: i32, offset: i64) -> bool {
        let Some(end) = self.0.get(&partition).copied() else { return false };
        if offset + 1 >= end {
            self.0.remove(&partition);
        }
        offset < end
    }

    /// There is nothing more in a partition: its last offsets are no records.
    fn end(&mut self, partition: i32) {
        self.0.remove(&partition);
    }

    fn is_done(&self) -> bool {
        self.0.is_empty()
    }
}

/// Whether the client recovers from an error by itself.
fn is_passing(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{AllBrokersDown, BrokerTransportFailure, OperationTimedOut, RequestTimedOut, Resolve};
    let passing = [AllBrokersDown, BrokerTransportFailure, OperationTimedOut, RequestTimedOut, Resolve];
    error.rdkafka_error_code().is_some_and(|code| passing.contains(&code))
}

/// Reads all partitions of topics from the start; committed records only.
pub struct Reader {
    consumer: BaseConsumer<Quiet>,
    partitions: usize,
}

impl Reader {
    /// Opens the topics.
    ///
    /// # Errors
    /// If no broker answers, or the right to read is missing. A topic that does not exist has no records.
    pub fn open(brokers: &str, client: &[(String, String)], topics: &[&str]) -> Result<Self, SourceError> {
        Self::open_at(brokers, client, topics, Offset::Beginning, false)
    }

    fn open_at(
        brokers: &str,
        client: &[(String, String)],
        topics: &[&str],
        start: Offset,
        reports_ends: bool,
    ) -> Result<Self, SourceError> {
        let refused = |error: KafkaError| SourceError::settings(brokers, &error);
        let (consumer, found) = Self::find(brokers, client, topics, reports_ends)?;
        let mut list = TopicPartitionList::new();
        for (topic, partition) in found {
            list.add_partition_offset(topic, partition, start).map_err(refused)?;
        }
        consumer.assign(&list).map_err(refused)?;
        Ok(Self { consumer, partitions: list.count() })
    }

    /// A client, and the partitions of the topics.
    fn find<'a>(
        brokers: &str,
        client: &[(String, String)],
        topics: &[&'a str],
        reports_ends: bool,
    ) -> Result<(BaseConsumer<Quiet>, Found<'a>), SourceError> {
        let (cluster, begun) = (Cluster { brokers, settings: client }, Instant::now());
        let consumer = cluster.reader(reports_ends).map_err(|error| SourceError::settings(brokers, &error))?;
        let mut found = Vec::new();
        for topic in topics {
            let unreachable = |error: KafkaError| {
                // Polling only passes on the client's own messages.
                drop(consumer.poll(Duration::ZERO));
                let detail = cluster.explain(begun, &error);
                SourceError::Unreachable { doing: format!("look up {topic} at {brokers}"), detail }
            };
            let metadata = consumer.fetch_metadata(Some(topic), LOOK_UP).map_err(unreachable)?;
            let denied =
                metadata.topics().iter().find_map(rdkafka::metadata::MetadataTopic::error).map(RDKafkaErrorCode::from);
            if let Some(detail) = denied.and_then(|code| missing_right(code, "Read", Some(topic))) {
                return Err(SourceError::Fatal { doing: format!("look up {topic}"), detail });
            }
            let partitions = metadata.topics().iter().flat_map(rdkafka::metadata::MetadataTopic::partitions);
            found.extend(partitions.map(|partition| (*topic, partition.id())));
        }
        Ok((consumer, found))
    }

    /// Whether none of the topics existed when they were opened.
    pub fn is_empty(&self) -> bool {
        self.partitions == 0
    }

    /// Hands over the available records with topic and headers, waiting at most `wait` for the first. Returns how many
    /// there were.
    ///
    /// # Errors
    /// If the client has failed.
    pub fn poll(
        &self,
        wait: Duration,
        mut take: impl FnMut(&str, &Record<'_>, &[(&str, &[u8])]),
    ) -> Result<usize, SourceError> {
        let mut wait = wait;
        let mut taken = 0;
        while let Some(answer) = self.next(wait) {
            if Self::hand_over(answer, &mut take)?.is_none() {
                taken += 1;
                wait = Duration::ZERO;
            }
        }
        Ok(taken)
    }

    /// Hands over all records of one topic, up to each partition's end at the time of the call.
    ///
    /// # Errors
    /// As for [`Reader::open`]; also if the client has failed, or nothing arrives for half a minute.
    pub fn read_whole(
        brokers: &str,
        client: &[(String, String)],
        topic: &str,
        take: impl FnMut(&str, &Record<'_>, &[(&str, &[u8])]),
    ) -> Result<(), SourceError> {
        let ends = Self::ends(brokers, client, topic)?;
        Self::read_to(brokers, client, topic, &ends, take)
    }

    /// The present end of each partition of a topic, for [`Reader::read_to`]: below it, each transaction has ended.
    ///
    /// # Errors
    /// If no broker answers, or the right to read is missing.
    pub fn ends(brokers: &str, client: &[(String, String)], topic: &str) -> Result<BTreeMap<i32, i64>, SourceError> {
        let (consumer, found) = Self::find(brokers, client, &[topic], false)?;
        let end = |(_, partition): (&str, i32)| {
            let (_, end) = consumer.fetch_watermarks(topic, partition, LOOK_UP).map_err(|error| {
                let detail = Cluster { brokers, settings: client }.explain(Instant::now(), &error);
                SourceError::Unreachable { doing: format!("look up the end of {topic}-{partition}"), detail }
            })?;
            Ok((partition, end))
        };
        found.into_iter().map(end).collect()
    }

    /// Hands over the records of one topic below these ends, however much is written meanwhile.
    ///
    /// # Errors
    /// As for [`Reader::read_whole`].
    pub fn read_to(
        brokers: &str,
        client: &[(String, String)],
        topic: &str,
        ends: &BTreeMap<i32, i64>,
        mut take: impl FnMut(&str, &Record<'_>, &[(&str, &[u8])]),
    ) -> Result<(), SourceError> {
        let mut open = Open::new(ends);
        if open.is_done() {
            return Ok(());
        }
        let reader = Self::open_at(brokers, client, &[topic], Offset::Beginning, true)?;
        let mut last = Instant::now();
        let mut trouble = KafkaError::Global(RDKafkaErrorCode::OperationTimedOut);
        while !open.is_done() {
            match reader.next(Duration::from_millis(100)) {
                // The client tries again by itself; if it does so in vain, this is why.
                Some(Err(error)) if is_passing(&error) => trouble = error,
                Some(answer) => {
                    let ended = Self::hand_over(answer, &mut |topic, record, headers| {
                        if open.take(record.partition, record.offset) {
                            take(topic, record, headers);
                        }
                    })?;
                    if let Some(partition) = ended {
                        open.end(partition);
                    }
                    last = Instant::now();
                }
                None => {}
            }
            if last.elapsed() > SILENCE {
                let why = Cluster { brokers, settings: client }.explain(last, &trouble);
                return Err(SourceError::Unreachable {
                    doing: format!("read {topic} to its end"),
                    detail: format!("nothing came for {SILENCE:?}: {why}"),
                });
            }
        }
        Ok(())
    }

    /// Hands over what readers see of the last `offsets` of each partition of one topic, as far as `deadline` allows.
    ///
    /// # Errors
    /// As for [`Reader::open`]; also if the client has failed.
    pub fn read_last(
        brokers: &str,
        client: &[(String, String)],
        topic: &str,
        offsets: i64,
        deadline: Duration,
        mut take: impl FnMut(&str, &Record<'_>, &[(&str, &[u8])]),
    ) -> Result<(), SourceError> {
        let reader = Self::open_at(brokers, client, &[topic], Offset::OffsetTail(offsets), true)?;
        let (mut ended, start) = (BTreeSet::new(), Instant::now());
        while ended.len() < reader.partitions && start.elapsed() < deadline {
            if let Some(answer) = reader.next(Duration::from_millis(50)) {
                ended.extend(Self::hand_over(answer, &mut take)?);
            }
        }
        Ok(())
    }

    /// What the client has next. That brokers refuse it a group does not concern a reader, which joins none.
    fn next(&self, wait: Duration) -> Option<Result<rdkafka::message::BorrowedMessage<'_>, KafkaError>> {
        self.consumer.context().known.restore(self.consumer.client());
        self.consumer.poll(wait).filter(|answer| !answer.as_ref().is_err_and(super::is_about_the_group))
    }

    /// Hands over a record, or returns the partition whose end was reached.
    fn hand_over(
        answer: Result<rdkafka::message::BorrowedMessage<'_>, KafkaError>,
        take: &mut impl FnMut(&str, &Record<'_>, &[(&str, &[u8])]),
    ) -> Result<Option<i32>, SourceError> {
        let message = match answer {
            Ok(message) => message,
            Err(KafkaError::PartitionEOF(partition)) => return Ok(Some(partition)),
            Err(error) => {
                let right = error.rdkafka_error_code().and_then(|code| missing_right(code, "Read", None));
                let detail = right.unwrap_or_else(|| error.to_string());
                return Err(SourceError::Unreachable { doing: "read".to_owned(), detail });
            }
        };
        let record = Record {
            partition: message.partition(),
            offset: message.offset(),
            timestamp_ms: message.timestamp().to_millis(),
            key: message.key(),
            payload: message.payload(),
            traceparent: None,
            erase: None,
        };
        let headers = message.headers();
        let headers: Vec<(&str, &[u8])> =
            headers.iter().flat_map(|it| it.iter()).map(|it| (it.key, it.value.unwrap_or_default())).collect();
        take(message.topic(), &record, &headers);
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_read_to_its_end_and_not_beyond() {
        let mut open = Open::new(&BTreeMap::from([(0, 3), (1, 2), (2, 0)]));
        assert_eq!([0, 1].map(|offset| open.take(0, offset)), [true, true]);
        // Offset 2 is no record, and more has been written meanwhile.
        assert!(!open.take(0, 3) && !open.take(0, 4) && !open.is_done());
        assert!(open.take(1, 1) && open.is_done());
        let mut open = Open::new(&BTreeMap::from([(0, 3)]));
        open.take(0, 1);
        open.end(0);
        assert!(open.is_done(), "the last offset is that of a marker");
    }

    #[test]
    fn a_client_that_cannot_connect_is_told_from_one_that_is_refused() {
        let error = KafkaError::MessageConsumption;
        assert!(is_passing(&error(RDKafkaErrorCode::AllBrokersDown)));
        assert!(!is_passing(&error(RDKafkaErrorCode::TopicAuthorizationFailed)));
    }
}
