//! Asks for erasures: a request is a record of the input, in each of its partitions.

use super::topics;
use crate::{config::Config, event::KeyType, sink::Publisher};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long the broker may take to accept a request.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Writes requests to erase users to every partition of the input.
pub(crate) struct Eraser {
    publisher: Publisher,
    partitions: i32,
    /// Whether keys have pseudonyms.
    has_pseudonyms: bool,
}

impl Eraser {
    /// Looks up the partitions, and makes a producer.
    ///
    /// # Errors
    /// If no broker responds, or the input does not exist.
    pub(crate) fn new(config: &Config) -> anyhow::Result<Self> {
        let topic = &config.topics.clickstream;
        let Some(partitions) = topics::client(config)?.partitions(topic)? else {
            return Err(topics::Unfit(vec![format!(
                "the topic {topic:?} does not exist: nobody can be erased from it"
            )])
            .into());
        };
        let settings = config.kafka.producer_settings();
        let publisher = Publisher::new(&config.kafka.brokers, &settings, topic, DEADLINE)?;
        let has_pseudonyms = config.pipeline.identity.pseudonymise;
        Ok(Self { publisher, partitions: partitions as i32, has_pseudonyms })
    }

    /// How many partitions the input has.
    pub(crate) fn partitions(&self) -> i32 {
        self.partitions
    }

    /// Queues the request to erase the user with this key as of this time.
    ///
    /// # Errors
    /// If the broker takes nothing.
    pub(crate) fn ask(&self, key: &[u8], at_ms: i64) -> anyhow::Result<()> {
        for partition in 0..self.partitions {
            self.publisher.erase(key, self.has_pseudonyms, partition, at_ms)?;
        }
        self.publisher.serve();
        Ok(())
    }

    /// Waits until the broker has accepted all requests.
    ///
    /// # Errors
    /// If it refuses some, or does not answer.
    pub(crate) fn finish(&self) -> anyhow::Result<()> {
        Ok(self.publisher.finish()?)
    }
}

/// Asks to erase one user now, and returns in how many partitions. The log says that it was asked, not for whom.
pub(super) fn ask_for_one(config: &Config, key_type: KeyType, id: &str) -> anyhow::Result<usize> {
    let outcome = Eraser::new(config).and_then(|eraser| {
        let at_ms = now_ms();
        for key in config.users().all_of(key_type, id)? {
            eraser.ask(key.as_bytes(), at_ms)?;
        }
        eraser.finish()?;
        Ok(eraser.partitions() as usize)
    });
    match &outcome {
        Ok(partitions) => tracing::info!(partitions, "asked to erase a user, by POST /erase"),
        Err(error) => tracing::error!("a request to erase a user, by POST /erase, failed: {error:#}"),
    }
    outcome
}

/// The time of day in milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64
}
