//! A broker inside the process: librdkafka's mock cluster.
//!
//! It supports groups and accepts transactions, but does not hide open or aborted data and stores nothing on disk. That
//! is enough for the demo, but proves nothing about exactly-once. Limits: it keeps about 5 MB per partition.

use rdkafka::{error::KafkaError, mocking::MockCluster, producer::DefaultProducerContext};

/// The broker. It stops when this is dropped.
pub struct EmbeddedBroker(MockCluster<'static, DefaultProducerContext>);

/// The broker could not be started, or refused a topic.
#[derive(Debug, thiserror::Error)]
#[error("start the embedded broker: {0}")]
pub struct EmbeddedError(String);

impl EmbeddedBroker {
    /// Starts a broker with these topics: name and number of partitions.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(topics: &[(&str, i32)]) -> Result<Self, EmbeddedError> {
        let failed = |error: KafkaError| EmbeddedError(error.to_string());
        let cluster = MockCluster::new(1).map_err(failed)?;
        for (name, partitions) in topics {
            cluster.create_topic(name, *partitions, 1).map_err(failed)?;
        }
        Ok(Self(cluster))
    }

    /// The address it listens on.
    pub fn brokers(&self) -> String {
        self.0.bootstrap_servers()
    }
}
