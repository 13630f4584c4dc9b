//! What input and output share on the Kafka side: building clients, their settings, their logs, and what is wrong with their
//! connections.
//!
//! Owns the settings of each client, and which of them users cannot change ([`ENFORCED`]). How clients are used is up
//! to `source` and `sink`.

pub(crate) mod certificate;
mod clients;
mod known;
mod settings;
mod trouble;

pub(crate) use clients::{Cluster, Isolation, TRANSACTION_CALL_DEADLINE};
pub use clients::{message_bytes_max, uses_consumer_protocol};
pub(crate) use known::KnownBrokers;
pub use settings::{ENFORCED, SettingFault, check_setting, is_setting, needs_tls};
pub use trouble::Trouble;
pub(crate) use trouble::missing_right;

use crate::logging;
use rdkafka::{
    ClientContext, Offset, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{ConsumerContext, ConsumerGroupMetadata},
    error::KafkaError,
    message::DeliveryResult,
    producer::ProducerContext,
    statistics::Statistics,
};

/// The group membership that fences a commit.
pub type KafkaGroup = ConsumerGroupMetadata;

/// The context of a read-only client. Its errors are returned by the calls that fail.
pub(crate) struct Quiet {
    pub(crate) known: KnownBrokers,
}

impl Quiet {
    /// The context of a client with these `bootstrap.servers`.
    pub(crate) fn of(brokers: &str) -> Self {
        Self { known: KnownBrokers::new(brokers) }
    }
}

impl ClientContext for Quiet {
    fn stats(&self, statistics: Statistics) {
        self.known.note(&statistics);
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_client(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        note_error("reader", &error, reason);
    }
}

impl ConsumerContext for Quiet {}

impl ProducerContext for Quiet {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

/// The context of a client that only checks its settings. What it logs about its broker concerns nobody.
pub(crate) struct Mute;

impl ClientContext for Mute {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}

    fn error(&self, _: KafkaError, _: &str) {}
}

impl ConsumerContext for Mute {}

/// Converts positions (partition, next offset, metadata) to the client's type.
pub(crate) fn offset_list(topic: &str, offsets: &[(i32, i64, String)]) -> Result<TopicPartitionList, KafkaError> {
    let mut list = TopicPartitionList::with_capacity(offsets.len());
    for (partition, offset, metadata) in offsets {
        let mut element = list.add_partition(topic, *partition);
        element.set_offset(Offset::Offset(*offset))?;
        element.set_metadata(metadata);
    }
    Ok(list)
}

/// Logs an error that a client reports beside its calls, and notes what it tells of the connection.
pub(crate) fn note_error(client: &'static str, error: &KafkaError, reason: &str) {
    tracing::debug!(%error, reason, client, "client");
    if let Some(trouble) = trouble::note(reason).filter(Trouble::is_certain)
        && let Some(left_out) = logging::rate_limited(&format!("{trouble}"))
    {
        log_trouble(&trouble, left_out);
    }
}

/// Logs what is wrong with a connection. Whoever reads it knows whether the client has a certificate.
fn log_trouble(trouble: &Trouble, left_out: u64) {
    let left_out = (left_out > 0).then_some(left_out);
    let next = trouble.next_step(false);
    if trouble.is_lasting() {
        tracing::error!(target: "librdkafka", next, left_out, "{trouble}");
    } else {
        tracing::warn!(target: "librdkafka", next, left_out, "{trouble}");
    }
}

/// Logs a message of a Kafka client, at most one per level and facility every ten seconds: an unavailable broker causes
/// thousands. What it tells of the connection is logged in its own words.
pub(crate) fn log_client(level: RDKafkaLogLevel, facility: &str, message: &str) {
    use RDKafkaLogLevel::{Alert, Critical, Debug, Emerg, Error, Info, Notice, Warning};
    // A guess, such as after a restart of a broker, does not replace the message.
    if let Some(trouble) = trouble::note(message).filter(Trouble::is_certain) {
        tracing::debug!(target: "librdkafka", facility, "{message}");
        if let Some(left_out) = logging::rate_limited(&format!("{trouble}")) {
            log_trouble(&trouble, left_out);
        }
        return;
    }
    let Some(left_out) = logging::rate_limited(&format!("{level:?} {facility}")) else { return };
    let left_out = (left_out > 0).then_some(left_out);
    // Log filters refer to this target.
    match level {
        Emerg | Alert | Critical | Error => tracing::error!(target: "librdkafka", facility, left_out, "{message}"),
        Warning => tracing::warn!(target: "librdkafka", facility, left_out, "{message}"),
        Notice | Info => tracing::info!(target: "librdkafka", facility, left_out, "{message}"),
        Debug => tracing::debug!(target: "librdkafka", facility, left_out, "{message}"),
    }
}
