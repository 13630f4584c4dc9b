//! What input and output share on the Kafka side: building clients, their settings, their logs.
//!
//! Owns the settings of each client, and which of them users cannot change ([`ENFORCED`]). How clients are used is up
//! to `source` and `sink`.

mod clients;
mod settings;

pub(crate) use clients::{Cluster, Isolation, TRANSACTION_CALL_DEADLINE};
pub use clients::{message_bytes_max, uses_consumer_protocol};
pub use settings::{ENFORCED, SettingFault, check_setting, is_setting};

use crate::logging;
use rdkafka::{
    ClientContext, Offset, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{ConsumerContext, ConsumerGroupMetadata},
    error::KafkaError,
};

/// The group membership that fences a commit.
pub type KafkaGroup = ConsumerGroupMetadata;

/// The context of a read-only client. Its errors are returned by the calls that fail.
pub(crate) struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_client(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "reader");
    }
}

impl ConsumerContext for Quiet {}

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

/// Logs a message of a Kafka client, at most one per level and facility every ten seconds: an unavailable broker causes
/// thousands.
pub(crate) fn log_client(level: RDKafkaLogLevel, facility: &str, message: &str) {
    use RDKafkaLogLevel::{Alert, Critical, Debug, Emerg, Error, Info, Notice, Warning};
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
