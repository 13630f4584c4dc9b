//! Writes dead letters.

use crate::{
    decision::Constants,
    event::{Decoder, Record, Rejection},
    sink::{Outbox, Target},
};

/// The longest detail text of a dead letter, which is read by people.
const DETAIL_BYTES_MAX: usize = 1_024;

/// Writes a record as a dead letter with the reason, its position and its payload. `index` is the rejected event in it, and
/// `key` what is shown of its key. With pseudonyms, the payload stays in the input, and its length takes its place.
pub(super) fn dead_letter(
    decoder: &Decoder,
    constants: &Constants,
    record: &Record<'_>,
    key: Option<&[u8]>,
    index: u32,
    rejection: &Rejection,
    outbox: &mut Outbox,
) {
    let mut numbers = [itoa::Buffer::new(); 5];
    let [partition, offset, timestamp, event, withheld] = &mut numbers;
    let event = if index > 0 { event.format(index) } else { "" };
    let partition = partition.format(record.partition);
    let offset = offset.format(record.offset);
    let timestamp = record.timestamp_ms.map_or("", |millis| timestamp.format(millis));
    let payload = record.payload.map(|payload| (payload.len(), decoder.shown_payload(payload)));
    let (withheld, payload) = match payload {
        Some((bytes, None)) => (withheld.format(bytes), None),
        Some((_, shown)) => ("", shown),
        None => ("", None),
    };
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
        ("withheld_bytes", withheld.as_bytes()),
    ];
    let payload = payload.as_deref().map(|payload| |to: &mut Vec<u8>| to.extend_from_slice(payload));
    let headers = if withheld.is_empty() { &headers[..headers.len() - 1] } else { &headers[..] };
    outbox.push(Target::DeadLetters, key, headers, payload);
}
