//! Sends outputs: in a smaller form where a topic refuses them, and in batches that it accepts.

use super::{
    super::{
        Output, SinkError, Smaller, Target, message_bytes,
        producer::{CALL_DEADLINE, classify},
        smaller,
    },
    KafkaSink, State,
};
use crate::{logging, metrics};
use rdkafka::{
    error::{KafkaError, RDKafkaErrorCode},
    message::{Header, OwnedHeaders},
    producer::{BaseRecord, Producer},
};
use std::time::{Duration, Instant};

/// The smallest batch. Below this, each message is sent alone.
const BATCH_BYTES_MIN: usize = 4_096;

/// The batch size that sends each message alone.
const ALONE: usize = 1;

impl KafkaSink {
    /// Records that a topic refused a batch whose largest message had this many bytes.
    pub(super) fn learn_size(&mut self, topic: &str, bytes: usize) -> Result<(), SinkError> {
        let target = match topic {
            it if it == self.settings.decisions => Target::Decisions,
            it if it == self.settings.profiles => Target::Profiles(0),
            _ => Target::DeadLetters,
        };
        // If the largest message is small compared with the batch, the batch was too large.
        if bytes < self.batch_bytes / 2 {
            self.batch_bytes = batch_within(self.batch_bytes / 4);
            self.state = State::Unfenced;
            tracing::warn!(
                topic,
                bytes = self.batch_bytes,
                "the topic refuses batches of this size: sending smaller ones"
            );
            return Ok(());
        }
        match self.limits.refused(target, bytes) {
            Some(limit) => {
                tracing::warn!(
                    topic,
                    refused = bytes,
                    limit,
                    "the topic refuses a message for its size: larger outputs are now sent smaller; raise the topic's \
                     max.message.bytes"
                );
                Ok(())
            }
            None => Err(SinkError::Fatal {
                doing: "send an output",
                detail: format!(
                    "the topic {topic} refuses a message of {bytes} bytes, which cannot be sent smaller: raise the topic's \
                     max.message.bytes"
                ),
            }),
        }
    }

    /// Counts an output that was sent in a smaller form, and logs a rate-limited warning.
    fn warn_smaller(&self, output: &Output<'_>) {
        metrics::output_too_large(output.target.as_str());
        if let Some(left_out) = logging::rate_limited("outputs are too large") {
            let (topic, _) = self.place(output.target);
            tracing::warn!(
                topic,
                bytes = message_bytes(output),
                limit = self.limits.of(output.target),
                outputs = left_out + 1,
                "outputs are larger than their topic accepts: dead letters are cut, decisions become dead letters, and profiles \
                 are rebuilt from the input at the next restore; raise the topic's max.message.bytes"
            );
        }
    }

    /// The topic of a target, and the partition unless the partitioner chooses it.
    fn place(&self, target: Target) -> (&str, Option<i32>) {
        match target {
            Target::Decisions => (&self.settings.decisions, None),
            Target::DeadLetters => (&self.settings.dead_letters, None),
            Target::Profiles(partition) => (&self.settings.profiles, Some(partition)),
        }
    }

    /// Sends an output, and returns the target it actually went to.
    pub(super) fn send_one(&mut self, output: &Output<'_>) -> Result<Target, SinkError> {
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
                        self.warn_smaller(output);
                    }
                    return Ok(smaller.map_or(output.target, |it| it.target));
                }
                // The client counts bytes differently, or the user set another limit.
                Err(KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge)) => {
                    let target = smaller.as_ref().map_or(output.target, |it| it.target);
                    let bytes = smaller.as_ref().map_or_else(|| message_bytes(output), Smaller::bytes);
                    let (topic, _) = self.place(target);
                    let topic = topic.to_owned();
                    self.batch_bytes = self.batch_bytes.min(bytes.saturating_mul(2));
                    self.learn_size(&topic, bytes)?;
                }
                Err(error) => {
                    // Continuing without this output would leave a gap.
                    self.deliveries().inspect(|it| it.give_up());
                    return Err(classify("send an output", &error).unwrap_or_else(|| SinkError::Abortable {
                        doing: "send an output",
                        detail: error.to_string(),
                    }));
                }
            }
        }
    }

    /// Hands a message to the client. Blocks while its queue is full.
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
            // The delivery report may arrive before the call returns.
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

/// The batch size for batches of at most this many bytes.
pub(super) fn batch_within(bytes: usize) -> usize {
    if bytes < BATCH_BYTES_MIN { ALONE } else { bytes }
}
