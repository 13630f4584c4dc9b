//! Writes dead letters.

use crate::{
    decision::Constants,
    event::{Decoder, Record, Rejection},
    sink::{Outbox, Target},
};
use std::borrow::Cow;

/// The longest detail text of a dead letter, which is read by people.
const DETAIL_BYTES_MAX: usize = 1_024;

/// Writes a record as a dead letter with the reason, its position and its payload. `index` is the rejected event in it.
pub(super) fn dead_letter(
    decoder: &Decoder,
    constants: &Constants,
    record: &Record<'_>,
    index: u32,
    rejection: &Rejection,
    outbox: &mut Outbox,
) {
    let mut numbers = [itoa::Buffer::new(); 4];
    let [partition, offset, timestamp, event] = &mut numbers;
    let event = if index > 0 { event.format(index) } else { "" };
    let partition = partition.format(record.partition);
    let offset = offset.format(record.offset);
    let timestamp = record.timestamp_ms.map_or("", |millis| timestamp.format(millis));
    let headers = [
        ("reason", rejection.reason.as_str().as_bytes()),
        ("detail", &rejection.detail.as_bytes()[..rejection.detail.floor_char_boundary(DETAIL_BYTES_MAX)]),
        ("app", constants.app.as_bytes()),
        ("topic", constants.topic.as_bytes()),
        ("partition", partition.as_bytes()),
        ("offset", offset.as_bytes()),
        ("timestamp_ms", timestamp.as_bytes()),
        ("index", event.as_bytes()),
        ("traceparent", record.traceparent.unwrap_or_default().as_bytes()),
    ];
    let redacted = |bytes| decoder.redacted(bytes).map_or(Cow::Borrowed(bytes), Cow::Owned);
    let (key, payload) = (record.key.map(redacted), record.payload.map(redacted));
    let payload = payload.as_deref().map(|payload| |to: &mut Vec<u8>| to.extend_from_slice(payload));
    outbox.push(Target::DeadLetters, key.as_deref(), &headers, payload);
}
