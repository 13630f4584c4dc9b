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
    collections::BTreeSet,
    time::{Duration, Instant},
};

/// How long nothing may arrive while a topic is read to its end.
const SILENCE: Duration = Duration::from_secs(30);

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
        let (cluster, begun) = (Cluster { brokers, settings: client }, Instant::now());
        let consumer = cluster.reader(reports_ends).map_err(refused)?;
        let mut list = TopicPartitionList::new();
        for topic in topics {
            let unreachable = |error: KafkaError| {
                // Polling only passes on the client's own messages.
                drop(consumer.poll(Duration::ZERO));
                let detail = cluster.explain(begun, &error);
                SourceError::Unreachable { doing: format!("look up {topic} at {brokers}"), detail }
            };
            let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(10)).map_err(unreachable)?;
            let denied =
                metadata.topics().iter().find_map(rdkafka::metadata::MetadataTopic::error).map(RDKafkaErrorCode::from);
            if let Some(detail) = denied.and_then(|code| missing_right(code, "Read", Some(topic))) {
                return Err(SourceError::Fatal { doing: format!("look up {topic}"), detail });
            }
            for partition in metadata.topics().iter().flat_map(rdkafka::metadata::MetadataTopic::partitions) {
                list.add_partition_offset(topic, partition.id(), start).map_err(refused)?;
            }
        }
        consumer.assign(&list).map_err(refused)?;
        Ok(Self { consumer, partitions: list.count() })
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
        mut take: impl FnMut(&str, &Record<'_>, &[(&str, &[u8])]),
    ) -> Result<(), SourceError> {
        let reader = Self::open_at(brokers, client, &[topic], Offset::Beginning, true)?;
        let mut ended = BTreeSet::new();
        let mut last = Instant::now();
        while ended.len() < reader.partitions {
            match reader.next(Duration::from_millis(100)) {
                Some(answer) => {
                    ended.extend(Self::hand_over(answer, &mut take)?);
                    last = Instant::now();
                }
                None if last.elapsed() > SILENCE => {
                    return Err(SourceError::Unreachable {
                        doing: format!("read {topic} to its end"),
                        detail: format!("nothing came for {SILENCE:?}"),
                    });
                }
                None => {}
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
