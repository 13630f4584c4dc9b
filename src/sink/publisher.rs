//! A plain producer that writes events to the clickstream, for `load` and `demo`, and requests to erase users, for `erase`.
//!
//! Guarantees: idempotent, so there are no duplicates and the order per key is kept. [`Publisher::finish`] reports what
//! the broker did not accept. It is not part of the pipeline and uses no transactions.

use crate::{
    event::{ERASE_HEADER, ERASE_VERSION, ERASE_VERSION_EXACT},
    kafka::{Cluster, KnownBrokers, log_client, missing_right, note_error},
};
use rdkafka::{
    ClientContext,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
    message::{DeliveryResult, Header, Message, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer, ProducerContext},
};
use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

/// Why an event was not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The client could not be created with these settings.
    #[error("make the producer: {0}")]
    Settings(String),
    /// The broker accepted nothing more for this long.
    #[error("publish to {topic}: the broker takes nothing: {detail}")]
    Stuck {
        /// The topic.
        topic: String,
        /// The client's message.
        detail: String,
    },
    /// Some events were refused.
    #[error("publish to {topic}: {count} events were not taken: {detail}")]
    Refused {
        /// The topic.
        topic: String,
        /// How many.
        count: u64,
        /// The client's message about the last one.
        detail: String,
    },
}

struct Context {
    refused: Mutex<(u64, String)>,
    known: KnownBrokers,
}

impl ClientContext for Context {
    fn error(&self, error: KafkaError, reason: &str) {
        note_error("publisher", &error, reason);
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_client(level, facility, message);
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = result {
            let mut refused = self.refused.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            refused.0 += 1;
            let right = error.rdkafka_error_code().and_then(|code| missing_right(code, "Write", Some(message.topic())));
            refused.1 = right.unwrap_or_else(|| error.to_string());
        }
    }
}

/// Writes events to one topic.
pub struct Publisher {
    producer: BaseProducer<Context>,
    topic: String,
    deadline: Duration,
}

impl Publisher {
    /// A producer for `topic`. `deadline` limits how long the broker may take for an event.
    ///
    /// # Errors
    /// [`PublishError::Settings`]
    pub fn new(
        brokers: &str,
        client: &[(String, String)],
        topic: &str,
        deadline: Duration,
    ) -> Result<Self, PublishError> {
        let context = Context { refused: Mutex::default(), known: KnownBrokers::new(brokers) };
        let producer = Cluster { brokers, settings: client }.publisher(deadline, context);
        let producer = producer.map_err(|error| PublishError::Settings(error.to_string()))?;
        Ok(Self { producer, topic: topic.to_owned(), deadline })
    }

    /// Queues one event; blocks while the queue is full.
    ///
    /// # Errors
    /// If the queue stays full until the deadline.
    pub fn publish(&self, key: Option<&[u8]>, payload: Option<&[u8]>) -> Result<(), PublishError> {
        self.send(|| {
            let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&self.topic);
            record.key = key;
            record.payload = payload;
            record
        })
    }

    /// Queues a request to erase the user with this key behind the input as of this time, in one partition; blocks while the
    /// queue is full. `is_pseudonym`: the key has a pseudonym already.
    ///
    /// # Errors
    /// If the queue stays full until the deadline.
    pub fn erase(&self, key: &[u8], is_pseudonym: bool, partition: i32, at_ms: i64) -> Result<(), PublishError> {
        let version = if is_pseudonym { ERASE_VERSION_EXACT } else { ERASE_VERSION };
        self.send(|| {
            let header = Header { key: ERASE_HEADER, value: Some(version) };
            let record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&self.topic);
            record.key(key).partition(partition).timestamp(at_ms).headers(OwnedHeaders::new().insert(header))
        })
    }

    fn send<'a>(&'a self, record: impl Fn() -> BaseRecord<'a, [u8], [u8]>) -> Result<(), PublishError> {
        let start = Instant::now();
        loop {
            match self.producer.send(record()) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _))
                    if start.elapsed() < self.deadline =>
                {
                    self.producer.poll(Duration::from_millis(5));
                }
                Err((error, _)) => {
                    return Err(PublishError::Stuck { topic: self.topic.clone(), detail: error.to_string() });
                }
            }
        }
    }

    /// Serves delivery reports.
    pub fn serve(&self) {
        self.producer.poll(Duration::ZERO);
    }

    /// Returns how many events the broker refused since the last call, if any, and the client's message about the last
    /// one.
    pub fn take_refused(&self) -> Option<(u64, String)> {
        let mut refused = self.producer.context().refused.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let taken = Some(std::mem::take(&mut *refused)).filter(|(count, _)| *count > 0)?;
        self.producer.context().known.name_again(self.producer.client());
        Some(taken)
    }

    /// Waits until the broker has answered for every event.
    ///
    /// # Errors
    /// If it refused some, or does not answer within the deadline.
    pub fn finish(&self) -> Result<(), PublishError> {
        let stuck = |error: KafkaError| PublishError::Stuck { topic: self.topic.clone(), detail: error.to_string() };
        self.producer.flush(self.deadline + Duration::from_secs(1)).map_err(stuck)?;
        let refused = self.producer.context().refused.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match &*refused {
            (0, _) => Ok(()),
            (count, detail) => {
                Err(PublishError::Refused { topic: self.topic.clone(), count: *count, detail: detail.clone() })
            }
        }
    }
}
