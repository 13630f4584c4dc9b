//! A payload as text: UTF-8, with or without a byte order mark.

use super::{RejectReason, Rejection};

/// Written before UTF-8 by Windows tools.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The text of a payload.
pub(super) fn text(payload: &[u8]) -> Result<&str, Rejection> {
    let payload = payload.strip_prefix(BYTE_ORDER_MARK).unwrap_or(payload);
    if let Some(what) = other_encoding(payload) {
        return Err(Rejection::new(RejectReason::Malformed, what));
    }
    std::str::from_utf8(payload).map_err(|error| {
        Rejection::new(RejectReason::Malformed, format!("not UTF-8 from byte {} on", error.valid_up_to()))
    })
}

/// The encoding or format that the first bytes identify, if it is not UTF-8 text.
fn other_encoding(payload: &[u8]) -> Option<&'static str> {
    match payload {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [b'{' | b'[', 0, ..] | [0, b'{' | b'[', ..] => {
            Some("UTF-16 or UTF-32, not UTF-8; convert it where it is written")
        }
        [0x1f, 0x8b, ..] => Some("gzip, not text; leave compression to Kafka (compression.type of the producer)"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            Some("zstd, not text; leave compression to Kafka (compression.type of the producer)")
        }
        [0, ..] => {
            Some("a zero byte at the front, as serializers with a schema registry write; is it Protobuf or Avro?")
        }
        _ => None,
    }
}
