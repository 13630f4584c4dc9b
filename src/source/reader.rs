//! A reader of whole topics, outside any group: what a bidder sees of the decisions.

use super::SourceError;
use crate::event::Record;
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    message::Headers,
};
use std::time::Duration;

/// Reads all partitions of topics from their beginning, committed records alone.
pub struct Reader {
    consumer: BaseConsumer,
}

impl Reader {
    /// Opens the topics.
    ///
    /// # Errors
    /// When no broker answers or a topic is not there.
    pub fn open(brokers: &str, client: &[(String, String)], topics: &[&str]) -> Result<Self, SourceError> {
        let mut config = ClientConfig::new();
        config.set("fetch.wait.max.ms", "5").set("fetch.queue.backoff.ms", "2");
        for (name, value) in client {
            config.set(name, value);
        }
        config
            .set("bootstrap.servers", brokers)
            .set("group.id", "aimpoint-reader")
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed");
        let refused =
            |error: KafkaError| SourceError::Settings { brokers: brokers.to_owned(), detail: error.to_string() };
        let consumer: BaseConsumer = config.create().map_err(refused)?;
        let mut list = TopicPartitionList::new();
        for topic in topics {
            let unreachable = |error: KafkaError| SourceError::Unreachable {
                doing: format!("look up {topic} at {brokers}"),
                detail: error.to_string(),
            };
            let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(10)).map_err(unreachable)?;
            for partition in metadata.topics().iter().flat_map(rdkafka::metadata::MetadataTopic::partitions) {
                list.add_partition_offset(topic, partition.id(), Offset::Beginning).map_err(refused)?;
            }
        }
        consumer.assign(&list).map_err(refused)?;
        Ok(Self { consumer })
    }

    /// Hands over the records that are there with topic and headers, waiting at most `wait` for the first, and says how
    /// many there were.
    ///
    /// # Errors
    /// When the client has failed.
    pub fn poll(
        &self,
        wait: Duration,
        mut take: impl FnMut(&str, &Record<'_>, &[(&str, &[u8])]),
    ) -> Result<usize, SourceError> {
        let mut wait = wait;
        let mut taken = 0;
        while let Some(answer) = self.consumer.poll(wait) {
            let message = answer
                .map_err(|error| SourceError::Unreachable { doing: "read".to_owned(), detail: error.to_string() })?;
            let record = Record {
                partition: message.partition(),
                offset: message.offset(),
                timestamp_ms: message.timestamp().to_millis(),
                key: message.key(),
                payload: message.payload(),
                traceparent: None,
            };
            let headers = message.headers();
            let headers: Vec<(&str, &[u8])> =
                headers.iter().flat_map(|it| it.iter()).map(|it| (it.key, it.value.unwrap_or_default())).collect();
            take(message.topic(), &record, &headers);
            taken += 1;
            wait = Duration::ZERO;
        }
        Ok(taken)
    }
}
