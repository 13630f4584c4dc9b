//! The Kafka producer of one worker.
//!
//! Guarantees: a transaction is begun only on a producer whose last outcome is known; a commit that runs out of time is
//! repeated, never aborted, until its answer or the deadline. Limits: every call ends within [`CALL_DEADLINE`] and its
//! flush; a dead letter larger than the broker takes loses the end of its payload, never its place.

use super::{Outbox, Output, Sink, SinkError, Target};
use crate::source::{KafkaGroup, offset_list};
use rdkafka::{
    ClientConfig, ClientContext,
    error::{KafkaError, RDKafkaErrorCode},
    message::{DeliveryResult, Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer, ProducerContext},
};
use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// How long one call of a transaction is tried. Above the transaction's own timeout, so that the broker has decided by then.
const CALL_DEADLINE: Duration = Duration::from_secs(20);

/// The broker ends a transaction after this; an open one holds back every reader, so it is short.
const TRANSACTION_TIMEOUT_MS: &str = "15000";

/// Below the transaction's timeout, as librdkafka demands.
const MESSAGE_TIMEOUT_MS: &str = "10000";

/// The largest message that is sent unless the user's settings say otherwise.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// What a broker of Kafka's default settings takes, with room for key and headers: the first size that a refused dead
/// letter is cut to.
const DEAD_LETTER_BYTES_USUAL: usize = 1_000_000;

/// Below this a dead letter's payload is not cut any further.
const DEAD_LETTER_BYTES_MIN: usize = 64 << 10;

/// What a producer is made of.
#[derive(Clone, Debug)]
pub struct KafkaSinkSettings {
    /// `bootstrap.servers`.
    pub brokers: String,
    /// The stable transactional id of this worker, or none for at-least-once delivery.
    pub transactional_id: Option<String>,
    /// The input topic, to which committed positions belong.
    pub input: String,
    /// The topic of the decisions.
    pub decisions: String,
    /// The topic of records set aside.
    pub dead_letters: String,
    /// The changelog of the profiles.
    pub profiles: String,
    /// Librdkafka's own settings, as the user gave them.
    pub client: Vec<(String, String)>,
}

/// Counts what the broker did not take.
#[derive(Default)]
struct Context {
    failed: AtomicU64,
    too_large: AtomicBool,
}

impl ClientContext for Context {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "producer");
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            self.failed.fetch_add(1, Ordering::Relaxed);
            if error.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageSizeTooLarge) {
                self.too_large.store(true, Ordering::Relaxed);
            }
        }
    }
}

/// Whether the producer may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not yet fenced, or its last outcome is unknown.
    Unfenced,
    /// Fenced, no transaction open.
    Ready,
    /// A transaction is open.
    Open,
}

/// A producer with its transactional id.
pub struct KafkaSink {
    settings: KafkaSinkSettings,
    producer: BaseProducer<Context>,
    state: State,
    dead_letter_bytes_max: usize,
}

impl KafkaSink {
    /// Makes the producer; nothing is sent yet.
    ///
    /// # Errors
    /// [`SinkError::Fatal`] when the client refuses a setting.
    pub fn new(settings: KafkaSinkSettings) -> Result<Self, SinkError> {
        let producer = Self::producer(&settings)?;
        Ok(Self { settings, producer, state: State::Unfenced, dead_letter_bytes_max: MESSAGE_BYTES_MAX })
    }

    fn producer(settings: &KafkaSinkSettings) -> Result<BaseProducer<Context>, SinkError> {
        let mut config = ClientConfig::new();
        config
            .set("linger.ms", "2")
            .set("batch.size", "500000")
            .set("queue.buffering.max.messages", "500000")
            // While the last transaction is still completing, the broker asks to try again: at the default of 100 ms
            // that alone would be a short transaction's latency many times over.
            .set("retry.backoff.ms", "5")
            .set("message.max.bytes", MESSAGE_BYTES_MAX.to_string());
        for (name, value) in &settings.client {
            config.set(name, value);
        }
        config
            .set("bootstrap.servers", &settings.brokers)
            .set("enable.idempotence", "true")
            .set("message.timeout.ms", MESSAGE_TIMEOUT_MS)
            // Java's default partitioner, so that a user's decisions lie where any other client would look for them.
            .set("partitioner", "murmur2_random");
        if let Some(id) = &settings.transactional_id {
            config.set("transactional.id", id).set("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS);
        }
        config
            .create_with_context(Context::default())
            .map_err(|error| SinkError::Fatal { doing: "make the producer", detail: error.to_string() })
    }

    /// Repeats a call for as long as the client says that it may, and gives the error its meaning.
    fn repeat(
        &mut self,
        doing: &'static str,
        mut call: impl FnMut(&BaseProducer<Context>, Duration) -> Result<(), KafkaError>,
    ) -> Result<(), SinkError> {
        let start = Instant::now();
        loop {
            let left = CALL_DEADLINE.saturating_sub(start.elapsed());
            let Err(error) = call(&self.producer, left.max(Duration::from_millis(100))) else { return Ok(()) };
            let failure = classify(doing, &error);
            match failure {
                None if !left.is_zero() => std::thread::sleep(Duration::from_millis(1)),
                None => {
                    self.state = State::Unfenced;
                    return Err(SinkError::Unknown { doing, detail: error.to_string() });
                }
                Some(failure) => {
                    if matches!(failure, SinkError::Unknown { .. }) {
                        self.state = State::Unfenced;
                    }
                    return Err(failure);
                }
            }
        }
    }

    /// Waits until the broker has answered for every message. `flush`, which the client's commit calls, waits in slices
    /// of 100 ms; with nothing in flight it returns at once.
    fn drain(&mut self) -> Result<(), SinkError> {
        let start = Instant::now();
        while self.producer.in_flight_count() > 0 {
            self.producer.poll(Duration::from_micros(500));
            if start.elapsed() > CALL_DEADLINE {
                return Err(SinkError::Abortable {
                    doing: "deliver outputs",
                    detail: format!("no answer for {} messages", self.producer.in_flight_count()),
                });
            }
        }
        let context = self.producer.context();
        if context.too_large.swap(false, Ordering::Relaxed) {
            let smaller = (self.dead_letter_bytes_max / 4).max(DEAD_LETTER_BYTES_MIN);
            self.dead_letter_bytes_max =
                if self.dead_letter_bytes_max > DEAD_LETTER_BYTES_USUAL { DEAD_LETTER_BYTES_USUAL } else { smaller };
            tracing::warn!(
                bytes = self.dead_letter_bytes_max,
                topic = self.settings.dead_letters,
                "the broker refuses messages of this size: longer payloads are cut; raise max.message.bytes of the topic"
            );
        }
        match context.failed.swap(0, Ordering::Relaxed) {
            0 => Ok(()),
            failed => Err(SinkError::Abortable {
                doing: "deliver outputs",
                detail: format!("{failed} messages were refused"),
            }),
        }
    }

    fn send_one(&self, output: &Output<'_>) -> Result<(), SinkError> {
        let (topic, partition) = match output.target {
            Target::Decisions => (&self.settings.decisions, None),
            Target::DeadLetters => (&self.settings.dead_letters, None),
            Target::Profiles(partition) => (&self.settings.profiles, Some(partition)),
        };
        let mut payload = output.payload;
        let cut;
        let mut headers = None;
        let named = output.headers();
        if named.len() > 0 {
            let list = OwnedHeaders::new_with_capacity(named.len() + 1);
            headers = Some(named.fold(list, |list, (key, value)| list.insert(Header { key, value: Some(value) })));
        }
        if output.target == Target::DeadLetters
            && let Some(whole) = payload
            && whole.len() > self.dead_letter_bytes_max
        {
            payload = Some(&whole[..self.dead_letter_bytes_max]);
            cut = whole.len().to_string();
            headers = headers.map(|list| list.insert(Header { key: "cut_from_bytes", value: Some(&cut) }));
        }
        let start = Instant::now();
        loop {
            let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic);
            record.partition = partition;
            record.key = output.key;
            record.payload = payload;
            record.headers.clone_from(&headers);
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _))
                    if start.elapsed() < CALL_DEADLINE =>
                {
                    self.producer.poll(Duration::from_millis(1));
                }
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge), _))
                    if payload.is_some_and(|payload| payload.len() > DEAD_LETTER_BYTES_MIN)
                        && output.target == Target::DeadLetters =>
                {
                    payload = payload.map(|payload| &payload[..payload.len() / 2]);
                }
                Err((error, _)) => {
                    return Err(classify("send an output", &error).unwrap_or_else(|| SinkError::Abortable {
                        doing: "send an output",
                        detail: error.to_string(),
                    }));
                }
            }
        }
    }
}

/// What an error means, or nothing where the same call may be made again.
fn classify(doing: &'static str, error: &KafkaError) -> Option<SinkError> {
    let detail = error.to_string();
    let code = error.rdkafka_error_code();
    if matches!(
        code,
        Some(
            RDKafkaErrorCode::IllegalGeneration
                | RDKafkaErrorCode::UnknownMemberId
                | RDKafkaErrorCode::FencedInstanceId
                | RDKafkaErrorCode::RebalanceInProgress
        )
    ) {
        return Some(SinkError::Stale { doing, detail });
    }
    if matches!(
        code,
        Some(
            RDKafkaErrorCode::TransactionalIdAuthorizationFailed
                | RDKafkaErrorCode::ClusterAuthorizationFailed
                | RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::GroupAuthorizationFailed
                | RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::UnknownPartition
        )
    ) {
        return Some(SinkError::Fatal { doing, detail });
    }
    let KafkaError::Transaction(transaction) = error else {
        return match error {
            // The flush before a commit ran out of time: the messages are still on their way.
            KafkaError::Flush(_) => None,
            KafkaError::MessageProduction(_) => Some(SinkError::Abortable { doing, detail }),
            _ => Some(SinkError::Unknown { doing, detail }),
        };
    };
    if transaction.is_fatal() {
        Some(SinkError::Unknown { doing, detail })
    } else if transaction.txn_requires_abort() {
        Some(SinkError::Abortable { doing, detail })
    } else if transaction.is_retriable() {
        None
    } else {
        Some(SinkError::Unknown { doing, detail })
    }
}

impl Sink for KafkaSink {
    type Group = KafkaGroup;

    fn is_transactional(&self) -> bool {
        self.settings.transactional_id.is_some()
    }

    fn fence(&mut self) -> Result<(), SinkError> {
        if self.state == State::Unfenced {
            self.producer = Self::producer(&self.settings)?;
            if self.is_transactional() {
                self.repeat("fence the transactional id", rdkafka::producer::Producer::init_transactions)?;
            }
            self.state = State::Ready;
        }
        Ok(())
    }

    fn begin(&mut self) -> Result<(), SinkError> {
        debug_assert_eq!(self.state, State::Ready, "a transaction begins on a fenced producer");
        if self.is_transactional() {
            self.repeat("begin a transaction", |producer, _| producer.begin_transaction())?;
        }
        self.state = State::Open;
        Ok(())
    }

    fn send(&mut self, outbox: &Outbox, from: usize) -> Result<(), SinkError> {
        for index in from..outbox.len() {
            self.send_one(&outbox.get(index))?;
        }
        self.producer.poll(Duration::ZERO);
        Ok(())
    }

    fn serve(&mut self) {
        self.producer.poll(Duration::ZERO);
    }

    fn commit(&mut self, offsets: &[(i32, i64, String)], group: &KafkaGroup) -> Result<(), SinkError> {
        self.drain()?;
        if self.is_transactional() {
            let list = offset_list(&self.settings.input, offsets)
                .map_err(|error| SinkError::Fatal { doing: "list positions", detail: error.to_string() })?;
            self.repeat("add positions to the transaction", |producer, wait| {
                producer.send_offsets_to_transaction(&list, group, wait)
            })?;
            self.repeat("commit the transaction", rdkafka::producer::Producer::commit_transaction)?;
        }
        self.state = State::Ready;
        Ok(())
    }

    fn abort(&mut self) -> Result<(), SinkError> {
        if self.state == State::Open {
            if self.is_transactional() {
                self.repeat("abort the transaction", rdkafka::producer::Producer::abort_transaction)?;
                // What the abort purged is reported as failed deliveries; they belong to the transaction that is gone.
                while self.producer.in_flight_count() > 0 {
                    self.producer.poll(Duration::from_micros(500));
                }
                self.producer.context().failed.store(0, Ordering::Relaxed);
            }
            self.state = State::Ready;
        }
        Ok(())
    }
}
