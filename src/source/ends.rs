//! Looks up the ends of a topic's partitions, for whoever reads it on another thread.
//!
//! Guarantees: below an end each transaction has ended, so everything there can be read. A look never delays the reader.

use super::SourceError;
use crate::kafka::{Cluster, Isolation, Quiet};
use rdkafka::consumer::{BaseConsumer, Consumer};
use std::time::{Duration, Instant};

/// The ends of one topic.
pub struct Ends {
    consumer: BaseConsumer<Quiet>,
    topic: String,
}

impl Ends {
    /// A client for the cluster; does not connect yet.
    ///
    /// # Errors
    /// [`SourceError::Settings`] if the client rejects a setting.
    pub fn new(brokers: &str, client: &[(String, String)], group: &str, topic: &str) -> Result<Self, SourceError> {
        let consumer = Cluster { brokers, settings: client }.changelog_reader(group, Isolation::Committed);
        let consumer = consumer.map_err(|error| SourceError::settings(brokers, &error))?;
        Ok(Self { consumer, topic: topic.to_owned() })
    }

    /// The present end of every partition; none if the topic does not exist.
    ///
    /// # Errors
    /// If a broker does not answer within the deadline.
    pub fn look(&self, deadline: Duration) -> Result<Vec<(i32, i64)>, SourceError> {
        let begun = Instant::now();
        let left = || deadline.saturating_sub(begun.elapsed()).max(Duration::from_millis(1));
        let failed = |error: rdkafka::error::KafkaError| SourceError::Unreachable {
            doing: format!("look up the ends of {}", self.topic),
            detail: error.to_string(),
        };
        // Polling only drains the client's own events.
        drop(self.consumer.poll(Duration::ZERO));
        let metadata = self.consumer.fetch_metadata(Some(&self.topic), left()).map_err(failed)?;
        let partitions = metadata.topics().iter().flat_map(rdkafka::metadata::MetadataTopic::partitions);
        let end = |partition: i32| {
            let (_, high) = self.consumer.fetch_watermarks(&self.topic, partition, left()).map_err(failed)?;
            Ok((partition, high))
        };
        partitions.map(rdkafka::metadata::MetadataPartition::id).map(end).collect()
    }
}
