//! The Kafka producers of one worker.
//!
//! Guarantees: a transaction is begun only when the outcome of the last one is known; a commit that runs out of time is
//! repeated, never aborted, until its answer or the deadline. Limits: every call ends within [`CALL_DEADLINE`] and its
//! flush. An output that is larger than its topic takes is sent smaller ([`super::smaller`]).
//!
//! Two producers take turns, and a thread commits: while one transaction waits for the broker, the other one fills. It
//! also avoids a wait: the broker answers a commit once it is decided and writes the markers after that; for so long it
//! refuses the next transaction of the same id, and librdkafka asks again only 20 ms later. The commit of one begins after
//! the one before is decided, so that the order of the commits is that of the events.
//!
//! A commit may have its answer and still not be the last word: before KIP-890, which librdkafka does not speak, a repeated
//! `EndTxn` whose first copy was only late ends whatever transaction of the same epoch it finds. So a producer whose commit
//! had to be asked for again, or during which a connection broke, is made anew before its next transaction.
//!
//! A commit may also have no answer for as long as a broker is away: librdkafka sends the positions to the coordinator of the
//! group that it knows, and where that one is down it waits until some broker comes back, whatever the deadline of the call. So
//! the worker waits no longer than [`BROKEN_DEADLINE`] once a connection broke, and leaves the client to the committing
//! thread: the outcome is unknown, and a new client asks for the coordinator afresh.
//!
//! Where outputs are shown at once (`delivery = "at_least_once"`), decisions and dead letters go by a third producer without
//! transactions, the outlet; profiles and positions are committed as ever, after the outlet's deliveries. So the changelog is
//! never ahead of the committed position, and of a worker that was put out of the group nothing is seen but outputs that its
//! successor writes, too. The outlet keeps the order without a gap: no message of it times out, its first failure is its
//! last word, and then it is made anew and all outputs since the last commit are sent again.

use super::{
    Deliveries, Outbox, Output, Sink, SinkError, SizeLimits, Smaller, Target, message_bytes, parts_bytes, smaller,
};
use crate::{
    kafka::{KafkaGroup, log_client, offset_list},
    metrics,
};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError};
use rdkafka::{
    ClientConfig, ClientContext, Message,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
    message::{DeliveryResult, Header, Headers, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer, ProducerContext, PurgeConfig},
    topic_partition_list::TopicPartitionList,
};
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// How long one call of a transaction is tried. Above the transaction's own timeout, so that the broker has decided by then.
const CALL_DEADLINE: Duration = Duration::from_secs(20);

/// How long a commit is waited for during which a connection broke, and any other: by then the broker has ended it.
const BROKEN_DEADLINE: Duration = Duration::from_secs(2);
const COMMIT_DEADLINE: Duration = Duration::from_secs(25);

/// The broker ends a transaction after this; an open one holds back every reader, so it is short.
const TRANSACTION_TIMEOUT_MS: &str = "15000";

/// How many producers take turns: one fills, one commits.
const PRODUCERS: usize = 2;

/// Below the transaction's timeout, as librdkafka demands.
const MESSAGE_TIMEOUT_MS: &str = "10000";

/// After so long the reports of purged messages are taken, for which an abort waits.
const ABORT_SLICE: Duration = Duration::from_millis(20);

/// How soon it is looked whether all is delivered, of which no event tells; and the longest pause between two looks. These
/// are slept: the client counts in milliseconds, and for a part of one it would turn in a loop.
const DRAIN_LOOK: Duration = Duration::from_micros(250);
const DRAIN_LOOK_MAX: Duration = Duration::from_millis(1);

/// The largest message that is sent unless the user's settings say otherwise.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// Messages travel together up to so many bytes: just below what a broker of Kafka's default settings takes.
const BATCH_BYTES: usize = 900_000;

/// No batch is made smaller than this: below, each message goes alone, which a batch of one byte stands for.
const BATCH_BYTES_MIN: usize = 4_096;
const ALONE: usize = 1;

/// That outputs were sent smaller is logged so often at most.
const SMALLER_TOLD: Duration = Duration::from_secs(10);

/// What a producer is made of.
#[derive(Clone, Debug)]
pub struct KafkaSinkSettings {
    /// `bootstrap.servers`.
    pub brokers: String,
    /// The stable transactional id of this worker. Each of its producers adds its number.
    pub transactional_id: String,
    /// Whether decisions and dead letters are sent beside the transactions, for at-least-once delivery.
    pub shows_at_once: bool,
    /// The input topic, to which committed positions belong.
    pub input: String,
    /// The topic of the decisions.
    pub decisions: String,
    /// The topic of records set aside.
    pub dead_letters: String,
    /// The changelog of the profiles.
    pub profiles: String,
    /// How long an output waits for others to go with it.
    pub linger: Duration,
    /// Librdkafka's own settings, as the user gave them.
    pub client: Vec<(String, String)>,
}

/// Counts what the broker did not take.
#[derive(Default)]
struct Context {
    failed: AtomicU64,
    /// The topics that have refused messages for their size, and the largest of these.
    too_large: Mutex<Vec<(String, usize)>>,
    /// Whether a commit was asked for twice, or may have been.
    in_doubt: AtomicBool,
    /// Of the outlet: what has become of its outputs, and why the first of them failed.
    deliveries: Option<Deliveries>,
    first_failure: Mutex<Option<KafkaError>>,
}

impl ClientContext for Context {
    fn error(&self, error: KafkaError, reason: &str) {
        // Requests on their way when a connection breaks are sent again, by the client itself.
        self.in_doubt.store(true, Ordering::Relaxed);
        tracing::debug!(%error, reason, "producer");
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_client(level, facility, message);
    }
}

impl ProducerContext for Context {
    /// Whose turn it was when the message was sent.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, turn: usize) {
        if let Some(deliveries) = &self.deliveries {
            if let Err((error, _)) = result {
                self.fail(error);
            }
            deliveries.reported(turn, result.is_ok());
        }
        if let Err((error, message)) = result {
            self.failed.fetch_add(1, Ordering::Relaxed);
            if error.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageSizeTooLarge) {
                let headers = message.headers().into_iter().flat_map(Headers::iter);
                let headers = headers.map(|it| (it.key, it.value.unwrap_or_default()));
                let bytes = parts_bytes(message.key(), message.payload(), headers);
                let mut refused = self.too_large.lock().unwrap_or_else(PoisonError::into_inner);
                match refused.iter_mut().find(|(topic, _)| topic == message.topic()) {
                    Some((_, largest)) => *largest = bytes.max(*largest),
                    None => refused.push((message.topic().to_owned(), bytes)),
                }
            }
        }
    }
}

impl Context {
    /// Notes why an output failed. What fails because something before it did tells nothing.
    fn fail(&self, error: &KafkaError) {
        let code = error.rdkafka_error_code();
        if !matches!(
            code,
            Some(RDKafkaErrorCode::Fatal | RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight)
        ) {
            let mut first = self.first_failure.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert_with(|| error.clone());
        }
    }
}

/// Whether transactions may be begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not yet fenced, or an outcome is unknown.
    Unfenced,
    /// Fenced, no transaction open.
    Ready,
    /// A transaction is open.
    Open,
}

/// A commit for the thread that makes them.
struct Job {
    producer: Arc<BaseProducer<Context>>,
    /// What has to be delivered first, and of which turn.
    outlet: Option<(Arc<BaseProducer<Context>>, usize)>,
    positions: TopicPartitionList,
    group: KafkaGroup,
}

/// The thread that waits for the broker while the worker goes on. It ends when the sink is dropped.
struct Committer {
    jobs: Sender<Job>,
    outcomes: Receiver<Result<(), SinkError>>,
}

impl Committer {
    fn start() -> Result<Self, SinkError> {
        let (jobs, taken) = crossbeam_channel::bounded::<Job>(1);
        let (told, outcomes) = crossbeam_channel::bounded(1);
        std::thread::Builder::new()
            .name("committer".to_owned())
            .spawn(move || {
                for Job { producer, outlet, positions, group } in taken {
                    let delivered = outlet.map_or(Ok(()), |(outlet, turn)| deliver_all(&outlet, turn));
                    if told.send(delivered.and_then(|()| commit(&producer, &positions, &group))).is_err() {
                        break;
                    }
                }
            })
            .map_err(|error| SinkError::Fatal { doing: "start the committing thread", detail: error.to_string() })?;
        Ok(Self { jobs, outcomes })
    }
}

/// The producers with their transactional ids.
pub struct KafkaSink {
    settings: KafkaSinkSettings,
    producers: Vec<Arc<BaseProducer<Context>>>,
    /// What outputs that are shown at once go by.
    outlet: Option<Arc<BaseProducer<Context>>>,
    committer: Committer,
    /// Whose transaction is open, or the next.
    turn: usize,
    /// Whose transaction is being committed, or failed to be, and since when.
    committing: Option<(usize, Instant)>,
    state: State,
    limits: SizeLimits,
    batch_bytes: usize,
    /// When it was last logged that outputs were sent smaller, and how many were since.
    smaller_told: (Option<Instant>, u64),
}

impl KafkaSink {
    /// Makes the producers; nothing is sent yet.
    ///
    /// # Errors
    /// [`SinkError::Fatal`] when the client refuses a setting.
    pub fn new(settings: KafkaSinkSettings) -> Result<Self, SinkError> {
        Ok(Self {
            producers: Self::producers(&settings, BATCH_BYTES)?,
            outlet: Self::make_outlet(&settings, BATCH_BYTES)?,
            limits: SizeLimits::default().within(client_bytes_max(&settings.client)),
            batch_bytes: BATCH_BYTES,
            smaller_told: (None, 0),
            settings,
            committer: Committer::start()?,
            turn: 0,
            committing: None,
            state: State::Unfenced,
        })
    }

    /// Keeps to what the topics take. Where messages are compressed, only the broker can tell how large they are in the end, and
    /// so its refusals alone count.
    #[must_use]
    pub fn with_limits(mut self, limits: SizeLimits) -> Self {
        let is_compressed = self.settings.client.iter().any(|(name, value)| {
            (name == "compression.type" || name == "compression.codec" || name.ends_with(".compression.codec"))
                && value != "none"
        });
        if !is_compressed {
            self.limits = limits.within(client_bytes_max(&self.settings.client));
            self.batch_bytes = batch_within(BATCH_BYTES.min(self.limits.least() / 10 * 9));
        }
        self
    }

    fn producers(
        settings: &KafkaSinkSettings,
        batch_bytes: usize,
    ) -> Result<Vec<Arc<BaseProducer<Context>>>, SinkError> {
        (0..PRODUCERS).map(|number| Self::make_producer(settings, number, batch_bytes).map(Arc::new)).collect()
    }

    fn make_producer(
        settings: &KafkaSinkSettings,
        number: usize,
        batch_bytes: usize,
    ) -> Result<BaseProducer<Context>, SinkError> {
        let mut config = Self::client(settings, batch_bytes);
        config
            .set("message.timeout.ms", MESSAGE_TIMEOUT_MS)
            // That a message was taken is told by the number of those in flight; a report of each would be work for nothing.
            .set("delivery.report.only.error", "true")
            .set("transactional.id", format!("{}-{number}", settings.transactional_id))
            .set("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS);
        Self::create(&config, Context::default())
    }

    /// The producer of what is shown at once, where anything is.
    fn make_outlet(
        settings: &KafkaSinkSettings,
        batch_bytes: usize,
    ) -> Result<Option<Arc<BaseProducer<Context>>>, SinkError> {
        if !settings.shows_at_once {
            return Ok(None);
        }
        let mut config = Self::client(settings, batch_bytes);
        config
            .set("acks", "all")
            .set("delivery.report.only.error", "false")
            // What follows a message that failed must not be seen before it. A message that times out would leave a gap all
            // the same, so none does: the sink itself waits no longer than its deadline.
            .set("enable.gapless.guarantee", "true")
            .set("message.timeout.ms", "0");
        let context = Context { deliveries: Some(Deliveries::default()), ..Context::default() };
        Self::create(&config, context).map(|outlet| Some(Arc::new(outlet)))
    }

    /// What all producers have in common.
    fn client(settings: &KafkaSinkSettings, batch_bytes: usize) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("linger.ms", (settings.linger.as_secs_f64() * 1e3).to_string())
            .set("batch.size", batch_bytes.to_string())
            .set("queue.buffering.max.messages", "500000")
            // Partitions that are added are known of soon; the default asks every five minutes.
            .set("topic.metadata.refresh.interval.ms", "5000")
            // Where the broker asks to try again, the default of 100 ms would be a short transaction many times over.
            .set("retry.backoff.ms", "5")
            .set("message.max.bytes", MESSAGE_BYTES_MAX.to_string());
        for (name, value) in &settings.client {
            config.set(name, value);
        }
        config
            .set("bootstrap.servers", &settings.brokers)
            .set("enable.idempotence", "true")
            // Java's default partitioner, so that a user's decisions lie where any other client would look for them.
            .set("partitioner", "murmur2_random");
        config
    }

    fn create(config: &ClientConfig, context: Context) -> Result<BaseProducer<Context>, SinkError> {
        config
            .create_with_context(context)
            .map_err(|error| SinkError::Fatal { doing: "make the producer", detail: error.to_string() })
    }

    /// The producer whose turn it is.
    fn producer(&self) -> &BaseProducer<Context> {
        &self.producers[self.turn]
    }

    /// What has become of what is shown at once.
    fn deliveries(&self) -> Option<&Deliveries> {
        self.outlet.as_ref()?.context().deliveries.as_ref()
    }

    /// Whose transaction is being committed.
    fn committing_number(&self) -> Option<usize> {
        self.committing.map(|(number, _)| number)
    }

    /// Whether the answer to a commit is waited for no longer.
    fn is_given_up(&self, number: usize, since: Instant) -> bool {
        let producer = &self.producers[number];
        // Of a connection that broke the client tells when it is served, which the committing thread does not do meanwhile.
        producer.poll(Duration::ZERO);
        let is_broken = producer.context().in_doubt.load(Ordering::Relaxed);
        since.elapsed() > if is_broken { BROKEN_DEADLINE } else { COMMIT_DEADLINE }
    }

    /// Gives a commit up. Its thread ends with the client that it holds, once that answers; new producers shut out what it may
    /// still send.
    fn leave_to_the_thread(&mut self) -> Result<(), SinkError> {
        self.state = State::Unfenced;
        self.committer = Committer::start()?;
        Err(SinkError::Unknown {
            doing: "commit the transaction",
            detail: "no answer, and a connection broke or the time is over: a new client asks for its coordinators"
                .to_owned(),
        })
    }

    /// Makes a producer anew, which gives its transactions the next epoch.
    fn renew(&mut self, number: usize) -> Result<(), SinkError> {
        tracing::debug!(number, "make the producer anew: a request of its last commit may still be on its way");
        let producer = Self::make_producer(&self.settings, number, self.batch_bytes)?;
        repeat("fence the transactional id", |wait| producer.init_transactions(wait))?;
        self.producers[number] = Arc::new(producer);
        Ok(())
    }

    /// Makes the outlet anew. What the old one still has on its way may come all the same, in its order, and is sent again.
    fn renew_outlet(&mut self) -> Result<(), SinkError> {
        if let Some(outlet) = self.outlet.take() {
            // The committing thread may hold on to it for a while.
            outlet.purge(PurgeConfig::default().queue().inflight());
        }
        self.outlet = Self::make_outlet(&self.settings, self.batch_bytes)?;
        Ok(())
    }

    /// Learns from a failure what it says about the producers, the broker and the topics.
    fn learn<T>(&mut self, result: Result<T, SinkError>, producer: usize) -> Result<T, SinkError> {
        if matches!(result, Err(SinkError::Unknown { .. })) {
            self.state = State::Unfenced;
        }
        if result.is_err() {
            let mut refused = Vec::new();
            for client in [Some(&self.producers[producer]), self.outlet.as_ref()].into_iter().flatten() {
                let mut too_large = client.context().too_large.lock().unwrap_or_else(PoisonError::into_inner);
                refused.append(&mut too_large);
            }
            for (topic, bytes) in refused {
                self.learn_size(&topic, bytes)?;
            }
        }
        result
    }

    /// Learns that a topic has refused a batch in which the largest message had so many bytes.
    fn learn_size(&mut self, topic: &str, bytes: usize) -> Result<(), SinkError> {
        let target = match topic {
            it if it == self.settings.decisions => Target::Decisions,
            it if it == self.settings.profiles => Target::Profiles(0),
            _ => Target::DeadLetters,
        };
        // Where the largest is small beside the batch, it is the batch that was too large.
        if bytes < self.batch_bytes / 2 {
            self.batch_bytes = batch_within(self.batch_bytes / 4);
            self.state = State::Unfenced;
            tracing::warn!(
                topic,
                bytes = self.batch_bytes,
                "the topic refuses batches of this size: they are made smaller"
            );
            return Ok(());
        }
        match self.limits.refused(target, bytes) {
            Some(limit) => {
                tracing::warn!(
                    topic,
                    refused = bytes,
                    limit,
                    "the topic refuses a message for its size: what is larger than the limit is sent smaller; raise the topic's \
                     max.message.bytes"
                );
                Ok(())
            }
            None => Err(SinkError::Fatal {
                doing: "send an output",
                detail: format!(
                    "the topic {topic} refuses a message of {bytes} bytes for its size, which cannot be smaller: raise the \
                     topic's max.message.bytes"
                ),
            }),
        }
    }

    /// Tells that something is sent in place of an output that is too large.
    fn tell_smaller(&mut self, output: &Output<'_>) {
        metrics::output_too_large(output.target.as_str());
        self.smaller_told.1 += 1;
        if self.smaller_told.0.is_none_or(|at| at.elapsed() > SMALLER_TOLD) {
            let (topic, _) = self.place(output.target);
            tracing::warn!(
                topic,
                bytes = message_bytes(output),
                limit = self.limits.of(output.target),
                outputs = self.smaller_told.1,
                "outputs are larger than their topic takes: a dead letter is cut, a decision becomes a dead letter, and a \
                 profile is rebuilt from the input at the next restore; raise the topic's max.message.bytes"
            );
            self.smaller_told = (Some(Instant::now()), 0);
        }
    }

    fn place(&self, target: Target) -> (&str, Option<i32>) {
        match target {
            Target::Decisions => (&self.settings.decisions, None),
            Target::DeadLetters => (&self.settings.dead_letters, None),
            Target::Profiles(partition) => (&self.settings.profiles, Some(partition)),
        }
    }

    /// Sends an output, and gives the topic that it went to.
    fn send_one(&mut self, output: &Output<'_>) -> Result<Target, SinkError> {
        let mut full_since = None;
        loop {
            let smaller = smaller(output, &self.limits, &self.settings.input);
            let sent = match &smaller {
                None => self.hand_over(output.target, output.key, output.payload, output.headers(), &mut full_since),
                Some(Smaller { target, key, payload, headers }) => {
                    let headers = headers.iter().map(|(name, value)| (*name, value.as_ref()));
                    self.hand_over(*target, *key, payload.as_deref(), headers, &mut full_since)
                }
            };
            match sent {
                Ok(()) => {
                    if smaller.is_some() {
                        self.tell_smaller(output);
                    }
                    return Ok(smaller.map_or(output.target, |it| it.target));
                }
                // The client counts otherwise, or the user has set another limit: what is sent is made smaller.
                Err(KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge)) => {
                    let target = smaller.as_ref().map_or(output.target, |it| it.target);
                    let bytes = smaller.as_ref().map_or_else(|| message_bytes(output), Smaller::bytes);
                    let (topic, _) = self.place(target);
                    let topic = topic.to_owned();
                    self.batch_bytes = self.batch_bytes.min(bytes.saturating_mul(2));
                    self.learn_size(&topic, bytes)?;
                }
                Err(error) => {
                    // One output less would be a gap.
                    self.deliveries().inspect(|it| it.give_up());
                    return Err(classify("send an output", &error).unwrap_or_else(|| SinkError::Abortable {
                        doing: "send an output",
                        detail: error.to_string(),
                    }));
                }
            }
        }
    }

    /// Hands a message to the client. A full queue is waited for.
    fn hand_over<'a>(
        &self,
        target: Target,
        key: Option<&[u8]>,
        payload: Option<&[u8]>,
        named: impl ExactSizeIterator<Item = (&'static str, &'a [u8])>,
        full_since: &mut Option<Instant>,
    ) -> Result<(), KafkaError> {
        let (topic, partition) = self.place(target);
        let headers = (named.len() > 0).then(|| {
            let list = OwnedHeaders::new_with_capacity(named.len());
            named.fold(list, |list, (key, value)| list.insert(Header { key, value: Some(value) }))
        });
        let client = self.outlet.as_deref().filter(|_| target.is_for_readers()).unwrap_or_else(|| self.producer());
        let deliveries = client.context().deliveries.as_ref();
        loop {
            let mut record: BaseRecord<'_, [u8], [u8], usize> = BaseRecord::with_opaque_to(topic, self.turn);
            record.partition = partition;
            record.key = key;
            record.payload = payload;
            record.headers.clone_from(&headers);
            // Its report may come before the call is back.
            deliveries.inspect(|it| it.sent(self.turn));
            let Err((error, _)) = client.send(record) else { return Ok(()) };
            deliveries.inspect(|it| it.reported(self.turn, true));
            let KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) = error else { return Err(error) };
            if full_since.get_or_insert_with(Instant::now).elapsed() >= CALL_DEADLINE {
                return Err(error);
            }
            client.poll(Duration::from_millis(1));
        }
    }
}

/// The size of batches that are to be at most so large.
fn batch_within(bytes: usize) -> usize {
    if bytes < BATCH_BYTES_MIN { ALONE } else { bytes }
}

/// The largest message that a client of these settings takes: its `message.max.bytes`.
pub fn client_bytes_max(client: &[(String, String)]) -> usize {
    let given = client.iter().rev().find(|(name, _)| name == "message.max.bytes");
    given.and_then(|(_, value)| value.parse().ok()).unwrap_or(MESSAGE_BYTES_MAX)
}

/// Waits until the broker has taken all that the outlet was given in this turn.
fn deliver_all(outlet: &BaseProducer<Context>, turn: usize) -> Result<(), SinkError> {
    let Some(deliveries) = &outlet.context().deliveries else { return Ok(()) };
    let start = Instant::now();
    let failed = |detail: String| Err(SinkError::Abortable { doing: "deliver outputs", detail });
    let mut pause = DRAIN_LOOK;
    loop {
        outlet.poll(Duration::ZERO);
        match deliveries.outcome(turn) {
            Some(true) => return Ok(()),
            Some(false) => {
                let first = outlet.context().first_failure.lock().unwrap_or_else(PoisonError::into_inner).take();
                let told = first.and_then(|error| classify("deliver outputs", &error));
                return told.map_or_else(|| failed("a message was refused".to_owned()), Err);
            }
            None if start.elapsed() > CALL_DEADLINE => {
                let left = deliveries.left(turn);
                deliveries.give_up();
                return failed(format!("no answer for {left} messages"));
            }
            None => std::thread::sleep(pause),
        }
        pause = (pause * 2).min(DRAIN_LOOK_MAX);
    }
}

/// Commits the open transaction of a producer together with positions.
fn commit(
    producer: &BaseProducer<Context>,
    positions: &TopicPartitionList,
    group: &KafkaGroup,
) -> Result<(), SinkError> {
    drain(producer)?;
    repeat("add positions to the transaction", |wait| producer.send_offsets_to_transaction(positions, group, wait))?;
    let mut calls = 0;
    repeat("commit the transaction", |wait| {
        calls += 1;
        producer.commit_transaction(wait)
    })?;
    if calls > 1 {
        producer.context().in_doubt.store(true, Ordering::Relaxed);
    }
    Ok(())
}

/// Repeats a call for as long as the client says that it may, and gives the error its meaning.
fn repeat(doing: &'static str, mut call: impl FnMut(Duration) -> Result<(), KafkaError>) -> Result<(), SinkError> {
    let start = Instant::now();
    loop {
        let left = CALL_DEADLINE.saturating_sub(start.elapsed());
        let Err(error) = call(left.max(Duration::from_millis(100))) else { return Ok(()) };
        match classify(doing, &error) {
            None if !left.is_zero() => std::thread::sleep(Duration::from_millis(1)),
            None => return Err(SinkError::Unknown { doing, detail: error.to_string() }),
            Some(failure) => return Err(failure),
        }
    }
}

/// Waits until no message is on its way any more, or says how many still are at the deadline.
fn land_all(producer: &BaseProducer<Context>) -> Result<(), i32> {
    let start = Instant::now();
    let mut pause = DRAIN_LOOK;
    while producer.in_flight_count() > 0 {
        std::thread::sleep(pause);
        producer.poll(Duration::ZERO);
        pause = (pause * 2).min(DRAIN_LOOK_MAX);
        if start.elapsed() > CALL_DEADLINE {
            return Err(producer.in_flight_count());
        }
    }
    Ok(())
}

/// Waits until the broker has answered for every message. `flush`, which the client's commit calls, waits in slices
/// of 100 ms; with nothing in flight it returns at once.
fn drain(producer: &BaseProducer<Context>) -> Result<(), SinkError> {
    let unanswered =
        |left| SinkError::Abortable { doing: "deliver outputs", detail: format!("no answer for {left} messages") };
    land_all(producer).map_err(unanswered)?;
    match producer.context().failed.swap(0, Ordering::Relaxed) {
        0 => Ok(()),
        failed => {
            Err(SinkError::Abortable { doing: "deliver outputs", detail: format!("{failed} messages were refused") })
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
                | RDKafkaErrorCode::FencedMemberEpoch
                | RDKafkaErrorCode::StaleMemberEpoch
                | RDKafkaErrorCode::RebalanceInProgress
        )
    ) {
        return Some(SinkError::Stale { doing, detail });
    }
    // A topic or a partition that the client does not know may have been made just now. One that is gone is told by whoever looks
    // after the topics.
    if matches!(
        code,
        Some(
            RDKafkaErrorCode::TransactionalIdAuthorizationFailed
                | RDKafkaErrorCode::ClusterAuthorizationFailed
                | RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::GroupAuthorizationFailed
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

    fn shows_at_once(&self) -> bool {
        self.outlet.is_some()
    }

    fn fence(&mut self) -> Result<(), SinkError> {
        if self.state == State::Unfenced {
            self.committing = None;
            self.turn = 0;
            self.producers = Self::producers(&self.settings, self.batch_bytes)?;
            self.renew_outlet()?;
            for producer in &self.producers {
                repeat("fence the transactional id", |wait| producer.init_transactions(wait))?;
            }
            self.state = State::Ready;
        }
        Ok(())
    }

    fn begin(&mut self) -> Result<(), SinkError> {
        debug_assert_eq!(self.state, State::Ready, "a transaction begins on a fenced producer");
        debug_assert_ne!(self.committing_number(), Some(self.turn), "a producer has one transaction at a time");
        if self.producer().context().in_doubt.load(Ordering::Relaxed) {
            let renewed = self.renew(self.turn);
            self.learn(renewed, self.turn)?;
        }
        let begun = repeat("begin a transaction", |_| self.producer().begin_transaction());
        self.learn(begun, self.turn)?;
        self.state = State::Open;
        Ok(())
    }

    fn send(&mut self, outbox: &Outbox, from: usize, set_aside: &mut Vec<usize>) -> Result<(), SinkError> {
        for index in from..outbox.len() {
            let output = outbox.get(index);
            let sent = self.send_one(&output);
            if self.learn(sent, self.turn)? != output.target {
                set_aside.push(index);
            }
        }
        self.serve();
        Ok(())
    }

    fn serve(&mut self) {
        self.producer().poll(Duration::ZERO);
        if let Some(outlet) = &self.outlet {
            outlet.poll(Duration::ZERO);
        }
    }

    fn commit(&mut self, positions: &[(i32, i64, String)], group: KafkaGroup) -> Result<(), SinkError> {
        debug_assert!(self.committing.is_none(), "one commit at a time");
        let positions = offset_list(&self.settings.input, positions)
            .map_err(|error| SinkError::Fatal { doing: "list positions", detail: error.to_string() })?;
        let outlet = self.outlet.as_ref().map(|outlet| (Arc::clone(outlet), self.turn));
        let job = Job { producer: Arc::clone(&self.producers[self.turn]), outlet, positions, group };
        self.committer.jobs.send(job).map_err(|_| gone())?;
        self.committing = Some((self.turn, Instant::now()));
        self.turn = (self.turn + 1) % self.producers.len();
        self.state = State::Ready;
        Ok(())
    }

    fn is_idle(&self) -> bool {
        self.producer().in_flight_count() == 0
    }

    fn is_delivered(&self) -> bool {
        self.committing_number().is_none_or(|number| self.producers[number].in_flight_count() == 0)
    }

    fn outcome(&mut self, wait: Duration) -> Option<Result<(), SinkError>> {
        let (committing, since) = self.committing?;
        // A look without a wait: to wait for nothing, the channel would turn in a loop first and yield its core.
        let told = match self.committer.outcomes.try_recv() {
            Err(TryRecvError::Empty) if !wait.is_zero() => self.committer.outcomes.recv_timeout(wait),
            told => told.map_err(|error| match error {
                TryRecvError::Empty => RecvTimeoutError::Timeout,
                TryRecvError::Disconnected => RecvTimeoutError::Disconnected,
            }),
        };
        match told {
            Ok(result) => {
                let result = self.learn(result, committing);
                if result.is_ok() {
                    self.committing = None;
                }
                Some(result)
            }
            Err(RecvTimeoutError::Timeout) => self.is_given_up(committing, since).then(|| self.leave_to_the_thread()),
            Err(RecvTimeoutError::Disconnected) => Some(Err(gone())),
        }
    }

    fn abort(&mut self) -> Result<(), SinkError> {
        // What was open on producers of which nobody knows is ended when they are made anew.
        if self.state == State::Unfenced {
            return Ok(());
        }
        let open = (self.state == State::Open).then_some(self.turn);
        for number in self.committing_number().into_iter().chain(open) {
            let producer = &self.producers[number];
            // An abort waits until the reports of all messages that it purges are taken, and they are taken here alone.
            let aborted = repeat("abort the transaction", |wait| {
                producer.poll(Duration::ZERO);
                producer.abort_transaction(wait.min(ABORT_SLICE))
            });
            // What the abort purged is reported as failed deliveries; they belong to the transaction that is gone.
            let unreported = |left| SinkError::Unknown {
                doing: "abort the transaction",
                detail: format!("no report of {left} messages"),
            };
            let purged = aborted.and_then(|()| land_all(producer).map_err(unreported));
            producer.context().failed.store(0, Ordering::Relaxed);
            // So do refusals: what they tell of the limits is learnt, or is told again by the next try.
            producer.context().too_large.lock().unwrap_or_else(PoisonError::into_inner).clear();
            self.learn(purged, number)?;
        }
        if self.deliveries().is_some_and(Deliveries::has_failed) {
            self.renew_outlet()?;
        }
        self.committing = None;
        self.state = State::Ready;
        Ok(())
    }
}

/// The committing thread ends with the sink alone, or by a bug.
fn gone() -> SinkError {
    SinkError::Fatal { doing: "commit the transaction", detail: "the committing thread has ended".to_owned() }
}
