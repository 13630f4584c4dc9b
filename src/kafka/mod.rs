//! What consumers and producers share: group metadata, offset lists, and the client's log.

use crate::logging;
use rdkafka::{
    Offset, TopicPartitionList, config::RDKafkaLogLevel, consumer::ConsumerGroupMetadata, error::KafkaError,
};

/// The group membership that fences a commit.
pub type KafkaGroup = ConsumerGroupMetadata;

/// Converts partitions with their offsets and metadata for the client.
pub(crate) fn offset_list(topic: &str, offsets: &[(i32, i64, String)]) -> Result<TopicPartitionList, KafkaError> {
    let mut list = TopicPartitionList::with_capacity(offsets.len());
    for (partition, offset, metadata) in offsets {
        let mut element = list.add_partition(topic, *partition);
        element.set_offset(Offset::Offset(*offset))?;
        element.set_metadata(metadata);
    }
    Ok(list)
}

/// Logs a message of a Kafka client, at most one per level and facility in ten seconds: an unavailable broker causes thousands.
pub(crate) fn log_client(level: RDKafkaLogLevel, facility: &str, message: &str) {
    use RDKafkaLogLevel::{Alert, Critical, Debug, Emerg, Error, Info, Notice, Warning};
    let Some(left_out) = logging::rate_limited(&format!("{level:?} {facility}")) else { return };
    let left_out = (left_out > 0).then_some(left_out);
    // Log filters name this target.
    match level {
        Emerg | Alert | Critical | Error => tracing::error!(target: "librdkafka", facility, left_out, "{message}"),
        Warning => tracing::warn!(target: "librdkafka", facility, left_out, "{message}"),
        Notice | Info => tracing::info!(target: "librdkafka", facility, left_out, "{message}"),
        Debug => tracing::debug!(target: "librdkafka", facility, left_out, "{message}"),
    }
}
