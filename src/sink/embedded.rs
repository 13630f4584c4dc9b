//! A broker inside the process: librdkafka's mock cluster.
//!
//! It runs groups and answers transactions, but hides nothing that is open or aborted and keeps nothing on disk: good for
//! the demo, useless as a proof of exactly-once. Limits: it keeps about 5 MB a partition.

use rdkafka::{error::KafkaError, mocking::MockCluster, producer::DefaultProducerContext};

/// The broker; it ends when this is dropped.
pub struct EmbeddedBroker(MockCluster<'static, DefaultProducerContext>);

/// The broker could not be started or refused a topic.
#[derive(Debug, thiserror::Error)]
#[error("start the embedded broker: {0}")]
pub struct EmbeddedError(String);

impl EmbeddedBroker {
    /// Starts a broker with these topics: name and number of partitions.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(topics: &[(&str, i32)]) -> Result<Self, EmbeddedError> {
        let failed = |error: KafkaError| EmbeddedError(error.to_string());
        let cluster = MockCluster::new(1).map_err(failed)?;
        for (name, partitions) in topics {
            cluster.create_topic(name, *partitions, 1).map_err(failed)?;
        }
        Ok(Self(cluster))
    }

    /// Where it listens.
    pub fn brokers(&self) -> String {
        self.0.bootstrap_servers()
    }
}
