//! What control writes: its state, the policy and dead letters, in one Kafka transaction.
//!
//! Guarantees: the transactional id is the application's, so whoever fences it last is the only one who can write.
//! A transaction whose outcome is not known is never followed by another one: [`ControlSink::fence`] comes first, and
//! the compacted topic then tells the outcome. Limits: every call ends within [`CALL_DEADLINE`] plus its flush.
//!
//! Also after a commit with an outcome, the sink wants to be fenced if a connection broke meanwhile: without KIP-890,
//! which librdkafka lacks, a repeated `EndTxn` whose first copy was merely late ends whatever transaction of the same
//! epoch it finds.

use super::{
    SinkError,
    producer::{CALL_DEADLINE, Context, OutputProducer, await_in_flight, classify, drain, end_transaction, retry},
};
use crate::kafka::Cluster;
use rdkafka::{
    error::{KafkaError, RDKafkaErrorCode},
    message::{Header, OwnedHeaders},
    producer::{BaseRecord, Producer},
};
use std::{
    sync::{PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

/// How long messages wait for others of the same request.
const LINGER: Duration = Duration::from_millis(5);

/// The size of a message batch: just below the limit of a broker with Kafka's default settings.
const BATCH_BYTES: usize = 900_000;

/// How long an abort waits before it serves delivery reports.
const ABORT_SLICE: Duration = Duration::from_millis(20);

/// Where control writes.
#[derive(Clone, Debug)]
pub struct ControlSinkSettings {
    /// `bootstrap.servers`.
    pub brokers: String,
    /// The transactional id, which is the application's.
    pub transactional_id: String,
    /// The key of the policy: the application's name.
    pub app: String,
    /// The compacted topic of the state.
    pub state: String,
    /// The compacted topic of the policy.
    pub policy: String,
    /// The topic of dead letters.
    pub dead_letters: String,
    /// The user's librdkafka settings.
    pub client: Vec<(String, String)>,
}

/// A record that could not be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadLetter {
    /// The record's key.
    pub key: Option<Vec<u8>>,
    /// The record's value, or its beginning.
    pub payload: Option<Vec<u8>>,
    /// Why, and which record it is.
    pub headers: Vec<(&'static str, Vec<u8>)>,
}

/// What one transaction writes.
#[derive(Clone, Copy, Debug)]
pub struct ControlOutputs<'a> {
    /// Changed parts of the state by key. A part that is gone has no value.
    pub state: &'a [(String, Option<Vec<u8>>)],
    /// The policy, if there is a new one.
    pub policy: Option<&'a [u8]>,
    /// The dead letters.
    pub dead_letters: &'a [DeadLetter],
}

/// The transactional producer of control.
pub struct ControlSink {
    settings: ControlSinkSettings,
    /// `None` until fenced, and after a transaction whose outcome is not known.
    producer: Option<OutputProducer>,
}

impl ControlSink {
    /// A sink that cannot write yet.
    pub fn new(settings: ControlSinkSettings) -> Self {
        Self { settings, producer: None }
    }

    /// Ends whatever another process has left open, and fences it. The state must be read to its end before the next
    /// transaction, because the other process may have written until now.
    ///
    /// # Errors
    /// [`SinkError::Unknown`] if it should be retried, [`SinkError::Fatal`] if not.
    pub fn fence(&mut self) -> Result<(), SinkError> {
        self.producer = None;
        let ControlSinkSettings { brokers, transactional_id, client, .. } = &self.settings;
        let cluster = Cluster { brokers, settings: client };
        let producer = cluster.transactional_producer(transactional_id, LINGER, BATCH_BYTES, Context::default());
        let producer =
            producer.map_err(|error| SinkError::Fatal { doing: "build the producer", detail: error.to_string() })?;
        retry("fence the transactional id", |wait| producer.init_transactions(wait))?;
        // Connections that broke before have no transaction to harm.
        producer.context().in_doubt.store(false, Ordering::Relaxed);
        self.producer = Some(producer);
        Ok(())
    }

    /// Whether the next transaction must be preceded by [`ControlSink::fence`].
    pub fn needs_fence(&self) -> bool {
        self.producer.as_ref().is_none_or(|producer| {
            producer.poll(Duration::ZERO);
            producer.context().in_doubt.load(Ordering::Relaxed)
        })
    }

    /// Writes all of this in one transaction, and waits for its commit.
    ///
    /// # Errors
    /// [`SinkError::Abortable`]: nothing was written, and the same may be written again. [`SinkError::Unknown`]: it is
    /// not known whether it was. [`SinkError::Fatal`]: retrying cannot help.
    pub fn commit(&mut self, outputs: &ControlOutputs<'_>) -> Result<(), SinkError> {
        let Some(producer) = &self.producer else {
            return Err(SinkError::Unknown { doing: "commit", detail: "the producer is not fenced".to_owned() });
        };
        let result = self.settings.transact(producer, outputs);
        match result {
            Err(SinkError::Abortable { .. }) => {
                if let Err(error) = abort(producer) {
                    self.producer = None;
                    return Err(error);
                }
            }
            Err(_) => self.producer = None,
            Ok(()) => {}
        }
        result
    }
}

impl ControlSinkSettings {
    fn transact(&self, producer: &OutputProducer, outputs: &ControlOutputs<'_>) -> Result<(), SinkError> {
        retry("begin a transaction", |_| producer.begin_transaction())?;
        for (key, value) in outputs.state {
            send(producer, &self.state, Some(key.as_bytes()), value.as_deref(), &[])?;
        }
        if let Some(policy) = outputs.policy {
            send(producer, &self.policy, Some(self.app.as_bytes()), Some(policy), &[])?;
        }
        for DeadLetter { key, payload, headers } in outputs.dead_letters {
            send(producer, &self.dead_letters, key.as_deref(), payload.as_deref(), headers)?;
        }
        drain(producer).map_err(|error| too_large(producer).unwrap_or(error))?;
        end_transaction(producer)
    }
}

/// Hands a message to the client. Blocks while its queue is full.
fn send(
    producer: &OutputProducer,
    topic: &str,
    key: Option<&[u8]>,
    payload: Option<&[u8]>,
    headers: &[(&'static str, Vec<u8>)],
) -> Result<(), SinkError> {
    let start = Instant::now();
    let headers = (!headers.is_empty()).then(|| {
        let list = OwnedHeaders::new_with_capacity(headers.len());
        headers.iter().fold(list, |list, (key, value)| list.insert(Header { key, value: Some(value) }))
    });
    loop {
        let mut record: BaseRecord<'_, [u8], [u8], usize> = BaseRecord::with_opaque_to(topic, 0);
        record.key = key;
        record.payload = payload;
        record.headers.clone_from(&headers);
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) if start.elapsed() < CALL_DEADLINE => {
                producer.poll(Duration::from_millis(1));
            }
            // The state would be written again and again in vain.
            Err((error @ KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge), _)) => {
                let detail = format!("{error}: a record of {} bytes to {topic}", payload.map_or(0, <[u8]>::len));
                return Err(SinkError::Fatal { doing: "send a record", detail });
            }
            Err((error, _)) => {
                let abortable = || SinkError::Abortable { doing: "send a record", detail: error.to_string() };
                return Err(classify("send a record", &error).unwrap_or_else(abortable));
            }
        }
    }
}

/// The error if a topic has refused a record for its size: it would refuse it again.
fn too_large(producer: &OutputProducer) -> Option<SinkError> {
    let mut refused = producer.context().too_large.lock().unwrap_or_else(PoisonError::into_inner);
    let (topic, bytes) = refused.drain(..).next()?;
    let detail = format!("the topic {topic} refuses a message of {bytes} bytes: raise the topic's max.message.bytes");
    Some(SinkError::Fatal { doing: "send a record", detail })
}

fn abort(producer: &OutputProducer) -> Result<(), SinkError> {
    // An abort waits until the reports of all purged messages have been served, which happens only here.
    retry("abort the transaction", |wait| {
        producer.poll(Duration::ZERO);
        producer.abort_transaction(wait.min(ABORT_SLICE))
    })?;
    let unreported =
        |left| SinkError::Unknown { doing: "abort the transaction", detail: format!("no report of {left} messages") };
    await_in_flight(producer).map_err(unreported)?;
    producer.context().failed.store(0, Ordering::Relaxed);
    Ok(())
}
