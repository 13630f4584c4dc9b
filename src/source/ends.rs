//! Looks up the ends of a topic's partitions, for whoever reads it on another thread.
//!
//! Guarantees: below an end each transaction has ended, so everything there can be read. A look never delays the reader.

use super::{SourceError, Watermarks};
use crate::kafka::{Cluster, Isolation, Quiet};
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
};
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

    /// The id of the cluster, if a broker tells it within the deadline.
    pub fn cluster_id(&self, deadline: Duration) -> Option<String> {
        self.consumer.client().fetch_cluster_id(deadline)
    }

    /// The first and the next offset of a partition.
    ///
    /// # Errors
    /// If a broker does not answer within the deadline.
    pub fn watermarks(&self, partition: i32, deadline: Duration) -> Result<Watermarks, SourceError> {
        let read = self.consumer.fetch_watermarks(&self.topic, partition, deadline);
        read.map(|(low, high)| Watermarks { low, high }).map_err(|error| self.failed(&error))
    }

    /// For each partition, the first offset whose record is not older than a time, in milliseconds since 1970. Partitions without
    /// one are left out.
    ///
    /// # Errors
    /// If a broker does not answer within the deadline.
    pub fn first_since(&self, times: &[(i32, i64)], deadline: Duration) -> Result<Vec<(i32, i64)>, SourceError> {
        let mut list = TopicPartitionList::with_capacity(times.len());
        for (partition, time) in times {
            let added = list.add_partition_offset(&self.topic, *partition, Offset::Offset(*time));
            added.map_err(|error| self.failed(&error))?;
        }
        let found = self.consumer.offsets_for_times(list, deadline).map_err(|error| self.failed(&error))?;
        let mut first = Vec::new();
        for element in found.elements() {
            element.error().map_err(|error| self.failed(&error))?;
            if let Offset::Offset(offset) = element.offset() {
                first.push((element.partition(), offset));
            }
        }
        Ok(first)
    }

    fn failed(&self, error: &rdkafka::error::KafkaError) -> SourceError {
        self.consumer.context().known.name_again(self.consumer.client());
        SourceError::Unreachable { doing: format!("look up the ends of {}", self.topic), detail: error.to_string() }
    }

    /// The present end of every partition; none if the topic does not exist.
    ///
    /// # Errors
    /// If a broker does not answer within the deadline.
    pub fn look(&self, deadline: Duration) -> Result<Vec<(i32, i64)>, SourceError> {
        let begun = Instant::now();
        let left = || deadline.saturating_sub(begun.elapsed()).max(Duration::from_millis(1));
        let failed = |error: rdkafka::error::KafkaError| self.failed(&error);
        // Polling only drains the client's own events.
        drop(self.consumer.poll(Duration::ZERO));
        self.consumer.context().known.restore(self.consumer.client());
        let metadata = self.consumer.fetch_metadata(Some(&self.topic), left()).map_err(failed)?;
        let partitions = metadata.topics().iter().flat_map(rdkafka::metadata::MetadataTopic::partitions);
        let end = |partition: i32| {
            let (_, high) = self.consumer.fetch_watermarks(&self.topic, partition, left()).map_err(failed)?;
            Ok((partition, high))
        };
        partitions.map(rdkafka::metadata::MetadataPartition::id).map(end).collect()
    }
}
