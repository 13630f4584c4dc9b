//! One producer of outputs: its callbacks, and the calls of a transaction with their deadlines and errors.

use super::{Deliveries, SinkError, parts_bytes};
pub(super) use crate::kafka::TRANSACTION_CALL_DEADLINE as CALL_DEADLINE;
use crate::kafka::{KafkaGroup, log_client, missing_right, note_error};
use rdkafka::{
    ClientContext, Message,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
    message::{DeliveryResult, Headers},
    producer::{BaseProducer, Producer, ProducerContext},
    topic_partition_list::TopicPartitionList,
};
use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// The first and the longest pause between two checks for deliveries, which trigger no event. The thread sleeps,
/// because the client counts in milliseconds and would busy-wait for fractions.
const POLL_PAUSE: Duration = Duration::from_micros(250);
const POLL_PAUSE_MAX: Duration = Duration::from_millis(1);

/// A producer of outputs.
pub(super) type OutputProducer = BaseProducer<Context>;

/// The state that a producer's callbacks update while it is polled.
#[derive(Default)]
pub(super) struct Context {
    /// How many messages failed.
    pub(super) failed: AtomicU64,
    /// The topics that refused messages because of their size, and the size of the largest.
    pub(super) too_large: Mutex<Vec<(String, usize)>>,
    /// The first topic that this user may not write to.
    pub(super) denied: Mutex<Option<String>>,
    /// Whether a commit was requested twice, or may have been.
    pub(super) in_doubt: AtomicBool,
    /// The deliveries, if this is an outlet.
    pub(super) deliveries: Option<Deliveries>,
    /// Why the first output of the outlet failed.
    first_failure: Mutex<Option<KafkaError>>,
}

impl ClientContext for Context {
    fn error(&self, error: KafkaError, reason: &str) {
        // The client resends requests that were in flight when a connection broke.
        self.in_doubt.store(true, Ordering::Relaxed);
        note_error("producer", &error, reason);
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // The calls of the transaction fail with less: that its state does not fit.
        if facility == "ADDPARTS"
            && message.contains("Topic authorization failed")
            && let Some(topic) = message.split('"').nth(1)
        {
            self.deny(topic);
        }
        log_client(level, facility, message);
    }
}

impl ProducerContext for Context {
    /// The turn in which the message was sent.
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
            if error.rdkafka_error_code() == Some(RDKafkaErrorCode::TopicAuthorizationFailed) {
                self.deny(message.topic());
            }
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
    /// The context of an outlet, which counts its deliveries.
    pub(super) fn of_outlet() -> Self {
        Self { deliveries: Some(Deliveries::default()), ..Self::default() }
    }

    fn deny(&self, topic: &str) {
        self.denied.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| topic.to_owned());
    }

    /// Records why an output failed, unless it failed only because an earlier one did.
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

/// Waits until the broker has accepted all outputs of this turn.
pub(super) fn await_deliveries(outlet: &OutputProducer, turn: usize) -> Result<(), SinkError> {
    let Some(deliveries) = &outlet.context().deliveries else { return Ok(()) };
    let start = Instant::now();
    let failed = |detail: String| Err(SinkError::Abortable { doing: "deliver outputs", detail });
    let mut pause = POLL_PAUSE;
    loop {
        outlet.poll(Duration::ZERO);
        match deliveries.outcome(turn) {
            Some(true) => return Ok(()),
            Some(false) => {
                let first = outlet.context().first_failure.lock().unwrap_or_else(PoisonError::into_inner).take();
                let error = first.and_then(|error| classify("deliver outputs", &error));
                return error.map_or_else(|| failed("a message was refused".to_owned()), Err);
            }
            None if start.elapsed() > CALL_DEADLINE => {
                let left = deliveries.left(turn);
                deliveries.give_up();
                return failed(format!("no answer for {left} messages"));
            }
            None => std::thread::sleep(pause),
        }
        pause = (pause * 2).min(POLL_PAUSE_MAX);
    }
}

/// Commits the producer's open transaction together with positions.
pub(super) fn commit(
    producer: &OutputProducer,
    positions: &TopicPartitionList,
    group: &KafkaGroup,
) -> Result<(), SinkError> {
    drain(producer)?;
    retry("add positions to the transaction", |wait| producer.send_offsets_to_transaction(positions, group, wait))?;
    end_transaction(producer)
}

/// Commits the producer's open transaction, and notes whether its outcome was in doubt.
pub(super) fn end_transaction(producer: &OutputProducer) -> Result<(), SinkError> {
    let mut calls = 0;
    retry("commit the transaction", |wait| {
        calls += 1;
        producer.commit_transaction(wait)
    })?;
    if calls > 1 {
        producer.context().in_doubt.store(true, Ordering::Relaxed);
    }
    Ok(())
}

/// Repeats a call while the client says that it may be retried, and classifies its error.
pub(super) fn retry(
    doing: &'static str,
    mut call: impl FnMut(Duration) -> Result<(), KafkaError>,
) -> Result<(), SinkError> {
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

/// Waits until no message is in flight.
///
/// # Errors
/// The number of messages still in flight at the deadline.
pub(super) fn await_in_flight(producer: &OutputProducer) -> Result<(), i32> {
    let start = Instant::now();
    let mut pause = POLL_PAUSE;
    while producer.in_flight_count() > 0 {
        std::thread::sleep(pause);
        producer.poll(Duration::ZERO);
        pause = (pause * 2).min(POLL_PAUSE_MAX);
        if start.elapsed() > CALL_DEADLINE {
            return Err(producer.in_flight_count());
        }
    }
    Ok(())
}

/// Waits until the broker has answered for every message. The client's commit calls `flush`, which waits in steps of
/// 100 ms but returns at once with nothing in flight.
pub(super) fn drain(producer: &OutputProducer) -> Result<(), SinkError> {
    let unanswered =
        |left| SinkError::Abortable { doing: "deliver outputs", detail: format!("no answer for {left} messages") };
    await_in_flight(producer).map_err(unanswered)?;
    producer.poll(Duration::ZERO);
    // The same outputs would be refused again and again.
    if let Some(topic) = producer.context().denied.lock().unwrap_or_else(PoisonError::into_inner).take() {
        let right = missing_right(RDKafkaErrorCode::TopicAuthorizationFailed, "Write", Some(&topic));
        return Err(SinkError::Fatal { doing: "deliver outputs", detail: right.unwrap_or_default() });
    }
    match producer.context().failed.swap(0, Ordering::Relaxed) {
        0 => Ok(()),
        failed => {
            Err(SinkError::Abortable { doing: "deliver outputs", detail: format!("{failed} messages were refused") })
        }
    }
}

/// The meaning of an error; `None` if the call may be retried.
pub(super) fn classify(doing: &'static str, error: &KafkaError) -> Option<SinkError> {
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
    // An unknown topic or partition is not fatal, because it may just have been created. The topic watch reports
    // deleted ones.
    if matches!(
        code,
        Some(
            RDKafkaErrorCode::TransactionalIdAuthorizationFailed
                | RDKafkaErrorCode::ClusterAuthorizationFailed
                | RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::GroupAuthorizationFailed
        )
    ) {
        let right = code.and_then(|code| missing_right(code, "Write", None));
        return Some(SinkError::Fatal { doing, detail: right.unwrap_or(detail) });
    }
    let KafkaError::Transaction(transaction) = error else {
        return match error {
            // The flush before a commit timed out, so messages are still in flight.
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
