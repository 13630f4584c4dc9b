//! The Kafka producers of one worker.
//!
//! Guarantees: a transaction starts only when the outcome of the previous one is known; a commit that times out is
//! retried, never aborted, until it is answered or the deadline passes. Limits: every call ends within
//! [`super::producer::CALL_DEADLINE`] plus its flush. An output that is too large for its topic is sent in a smaller form
//! ([`super::smaller`]).
//!
//! Two producers take turns, and a thread commits: while one transaction waits for the broker, the other one fills.
//! This also avoids a delay: the broker answers a commit once it is decided, but writes the markers afterwards. Until
//! then it refuses the next transaction with the same id, and librdkafka retries only after 20 ms. A commit starts when
//! the previous one is decided, so commits are in event order.
//!
//! The answer to a commit may not be final. Without KIP-890, which librdkafka lacks, a repeated `EndTxn` whose first
//! copy was merely late ends whatever transaction of the same epoch it finds. So a producer is recreated before its
//! next transaction if its commit was requested twice, or if a connection broke during the commit.
//!
//! A commit may get no answer while a broker is down: librdkafka sends the positions to the group coordinator that it
//! knows and, if that one is down, waits until some broker comes back, whatever the deadline of the call. So after a
//! broken connection, the worker waits at most [`BROKEN_DEADLINE`] and leaves the client to the committing thread. The
//! outcome is then unknown, and a new client looks up the coordinator.
//!
//! With `delivery = "at_least_once"`, decisions and dead letters go through a third, non-transactional producer, the
//! outlet, and are visible at once. Profiles and positions are still committed in transactions, after the outlet's
//! deliveries. So the changelog is never ahead of the committed position, and a worker that was removed from the group
//! leaves nothing behind except outputs that its successor also writes. The outlet preserves order without gaps: its
//! messages never time out, and after its first failure it sends nothing more. It is then recreated, and all outputs
//! since the last commit are sent again.

mod sending;

use super::{
    Deliveries, Outbox, Sink, SinkError, SizeLimits,
    committer::{Committer, Job},
    producer::{Context, OutputProducer, await_in_flight, retry},
};
use crate::kafka::{Cluster, KafkaGroup, message_bytes_max, offset_list};
use rdkafka::{
    error::KafkaError,
    producer::{Producer, PurgeConfig},
};
use sending::batch_within;
use std::{
    sync::{Arc, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

/// How long to wait for a commit during which a connection broke.
const BROKEN_DEADLINE: Duration = Duration::from_secs(2);

/// How long to wait for any other commit. By then the broker has ended the transaction.
const COMMIT_DEADLINE: Duration = Duration::from_secs(25);

/// The number of producers that take turns: one fills, one commits.
const PRODUCERS: usize = 2;

/// How long an abort waits before it serves delivery reports. It cannot finish before the reports of all purged
/// messages are served.
const ABORT_SLICE: Duration = Duration::from_millis(20);

/// The size of a message batch: just below the limit of a broker with Kafka's default settings.
const BATCH_BYTES: usize = 900_000;

/// The settings of the producers.
#[derive(Clone, Debug)]
pub struct KafkaSinkSettings {
    /// `bootstrap.servers`.
    pub brokers: String,
    /// The stable transactional id of this worker. Each of its producers appends its number.
    pub transactional_id: String,
    /// Whether decisions and dead letters are sent outside of transactions, for at-least-once delivery.
    pub shows_at_once: bool,
    /// The input topic, which committed positions refer to.
    pub input: String,
    /// The decision topic.
    pub decisions: String,
    /// The dead-letter topic.
    pub dead_letters: String,
    /// The changelog topic of the profiles.
    pub profiles: String,
    /// How long an output waits for others of the same batch.
    pub linger: Duration,
    /// The user's librdkafka settings.
    pub client: Vec<(String, String)>,
}

impl KafkaSinkSettings {
    fn cluster(&self) -> Cluster<'_> {
        Cluster { brokers: &self.brokers, settings: &self.client }
    }
}

/// The state of the producers' transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not yet fenced, or the outcome of a transaction is unknown.
    Unfenced,
    /// Fenced, no transaction open.
    Ready,
    /// A transaction is open.
    Open,
}

/// The producers with their transactional ids.
pub struct KafkaSink {
    settings: KafkaSinkSettings,
    producers: Vec<Arc<OutputProducer>>,
    /// The producer of outputs that are visible at once.
    outlet: Option<Arc<OutputProducer>>,
    committer: Committer,
    /// The producer whose transaction is open, or opens next.
    turn: usize,
    /// The producer whose transaction is being committed, or whose commit failed, and when the commit started.
    committing: Option<(usize, Instant)>,
    state: State,
    limits: SizeLimits,
    batch_bytes: usize,
}

impl KafkaSink {
    /// Creates the producers; nothing is sent yet.
    ///
    /// # Errors
    /// [`SinkError::Fatal`] if the client rejects a setting.
    pub fn new(settings: KafkaSinkSettings) -> Result<Self, SinkError> {
        Ok(Self {
            producers: Self::producers(&settings, BATCH_BYTES)?,
            outlet: Self::make_outlet(&settings, BATCH_BYTES)?,
            limits: SizeLimits::default().within(message_bytes_max(&settings.client)),
            batch_bytes: BATCH_BYTES,
            settings,
            committer: Committer::start()?,
            turn: 0,
            committing: None,
            state: State::Unfenced,
        })
    }

    /// Keeps outputs within the topics' limits. With compression, only the broker knows how large messages become, so
    /// the limits are learned from its refusals.
    #[must_use]
    pub fn with_limits(mut self, limits: SizeLimits) -> Self {
        let is_compressed = self.settings.client.iter().any(|(name, value)| {
            (name == "compression.type" || name == "compression.codec" || name.ends_with(".compression.codec"))
                && value != "none"
        });
        if !is_compressed {
            self.limits = limits.within(message_bytes_max(&self.settings.client));
            self.batch_bytes = batch_within(BATCH_BYTES.min(self.limits.least() / 10 * 9));
        }
        self
    }

    fn producers(settings: &KafkaSinkSettings, batch_bytes: usize) -> Result<Vec<Arc<OutputProducer>>, SinkError> {
        (0..PRODUCERS).map(|number| Self::make_producer(settings, number, batch_bytes).map(Arc::new)).collect()
    }

    fn make_producer(
        settings: &KafkaSinkSettings,
        number: usize,
        batch_bytes: usize,
    ) -> Result<OutputProducer, SinkError> {
        let id = format!("{}-{number}", settings.transactional_id);
        let producer = settings.cluster().transactional_producer(&id, settings.linger, batch_bytes, Context::default());
        producer.map_err(|error| not_built(&error))
    }

    /// The producer of outputs that are visible at once, if enabled.
    fn make_outlet(settings: &KafkaSinkSettings, batch_bytes: usize) -> Result<Option<Arc<OutputProducer>>, SinkError> {
        if !settings.shows_at_once {
            return Ok(None);
        }
        let outlet = settings.cluster().gapless_producer(settings.linger, batch_bytes, Context::of_outlet());
        outlet.map(|outlet| Some(Arc::new(outlet))).map_err(|error| not_built(&error))
    }

    /// The producer whose turn it is.
    fn producer(&self) -> &OutputProducer {
        &self.producers[self.turn]
    }

    /// The deliveries of the outlet.
    fn deliveries(&self) -> Option<&Deliveries> {
        self.outlet.as_ref()?.context().deliveries.as_ref()
    }

    /// The index of the producer whose transaction is being committed.
    fn committing_number(&self) -> Option<usize> {
        self.committing.map(|(number, _)| number)
    }

    /// Whether to stop waiting for the answer to a commit.
    fn is_given_up(&self, number: usize, since: Instant) -> bool {
        let producer = &self.producers[number];
        // The client reports a broken connection only when polled, which the committing thread does not do meanwhile.
        producer.poll(Duration::ZERO);
        let is_broken = producer.context().in_doubt.load(Ordering::Relaxed);
        since.elapsed() > if is_broken { BROKEN_DEADLINE } else { COMMIT_DEADLINE }
    }

    /// Stops waiting for a commit. The old thread ends with its client once that answers; the new producers fence
    /// anything it may still send.
    fn leave_to_the_thread(&mut self) -> Result<(), SinkError> {
        self.state = State::Unfenced;
        self.committer = Committer::start()?;
        Err(SinkError::Unknown {
            doing: "commit the transaction",
            detail: "no answer in time, or a connection broke; a new client looks up the coordinators".to_owned(),
        })
    }

    /// Recreates a producer, which gives its transactions the next epoch.
    fn renew(&mut self, number: usize) -> Result<(), SinkError> {
        tracing::debug!(number, "build the producer anew: a request of its last commit may still be in flight");
        let producer = Self::make_producer(&self.settings, number, self.batch_bytes)?;
        retry("fence the transactional id", |wait| producer.init_transactions(wait))?;
        self.producers[number] = Arc::new(producer);
        Ok(())
    }

    /// Recreates the outlet. Anything the old one has in flight may still arrive, in order, and is sent again.
    fn renew_outlet(&mut self) -> Result<(), SinkError> {
        if let Some(outlet) = self.outlet.take() {
            // The committing thread may keep the old one alive for a while.
            outlet.purge(PurgeConfig::default().queue().inflight());
        }
        self.outlet = Self::make_outlet(&self.settings, self.batch_bytes)?;
        Ok(())
    }

    /// Updates the state of the producers and the known topic limits from a failure.
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
}

fn not_built(error: &KafkaError) -> SinkError {
    SinkError::Fatal { doing: "build the producer", detail: error.to_string() }
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
                retry("fence the transactional id", |wait| producer.init_transactions(wait))?;
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
        let begun = retry("begin a transaction", |_| self.producer().begin_transaction());
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
        self.committer.begin(job)?;
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
        let Some(result) = self.committer.outcome(wait) else {
            return self.is_given_up(committing, since).then(|| self.leave_to_the_thread());
        };
        let result = self.learn(result, committing);
        if result.is_ok() {
            self.committing = None;
        }
        Some(result)
    }

    fn abort(&mut self) -> Result<(), SinkError> {
        // Transactions open on producers in an unknown state end when those are recreated.
        if self.state == State::Unfenced {
            return Ok(());
        }
        let open = (self.state == State::Open).then_some(self.turn);
        for number in self.committing_number().into_iter().chain(open) {
            let producer = &self.producers[number];
            // An abort waits until the reports of all purged messages have been served, which happens only here.
            let aborted = retry("abort the transaction", |wait| {
                producer.poll(Duration::ZERO);
                producer.abort_transaction(wait.min(ABORT_SLICE))
            });
            // Purged messages are reported as failed deliveries, but belong to the aborted transaction.
            let unreported = |left| SinkError::Unknown {
                doing: "abort the transaction",
                detail: format!("no report of {left} messages"),
            };
            let purged = aborted.and_then(|()| await_in_flight(producer).map_err(unreported));
            producer.context().failed.store(0, Ordering::Relaxed);
            // The same applies to size refusals: their limits are known, or the next attempt learns them again.
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
