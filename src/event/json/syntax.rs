//! Diagnoses payloads that are not JSON.

use super::super::{RejectReason, Rejection};
use crate::json_place::JsonPlace;

pub(super) fn malformed(detail: String) -> Rejection {
    Rejection::new(RejectReason::Malformed, detail)
}

/// Why a text is not JSON: position and reason only, because the parser's message would quote the payload.
#[cold]
pub(super) fn no_json(text: &str, error: Option<&sonic_rs::Error>) -> Rejection {
    let (place, reason) = match (trouble(text.as_bytes()), error) {
        (Some((at, reason)), _) => (JsonPlace::of_byte(text.as_bytes(), at), format!(": {reason}")),
        (None, Some(error)) => (error.into(), String::new()),
        (None, None) => (JsonPlace::of_byte(text.as_bytes(), 0), String::new()),
    };
    malformed(format!("not JSON from {place} on{reason}"))
}

/// The first common mistake in a text, and where it is.
fn trouble(text: &[u8]) -> Option<(usize, &'static str)> {
    let (mut in_text, mut escaped, mut depth, mut ended) = (None, false, 0_usize, false);
    let mut last = 0;
    let mut at = 0;
    while let Some(byte) = text.get(at).copied() {
        let part_of_word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'+' | b'-');
        match (byte, in_text) {
            (0, _) => return Some((at, "a NUL byte")),
            (_, Some(_)) if escaped => {
                if !br#""\/bfnrtu"#.contains(&byte) {
                    return Some((at, "an escape that JSON does not have"));
                }
                escaped = false;
            }
            (b'\\', Some(_)) => escaped = true,
            (b'"', Some(_)) => in_text = None,
            (..0x20, Some(_)) => return Some((at, "a line break or another control character inside a string")),
            (_, Some(_)) => {}
            (b' ' | b'\t' | b'\r' | b'\n', None) => {}
            _ if ended => return Some((at, "something behind the object; a record is one object")),
            (b'"', None) => in_text = Some(at),
            (b'{' | b'[', None) => depth += 1,
            (b'}' | b']', None) => {
                if last == b',' {
                    return Some((at, "a comma before a closing bracket"));
                }
                depth = depth.saturating_sub(1);
                ended = depth == 0;
            }
            (b'\'', None) => return Some((at, "a single quote; strings have double quotes")),
            (b'/' | b'#', None) => return Some((at, "a comment")),
            (byte, None) if part_of_word(&byte) => {
                let length = text[at..].iter().take_while(|byte| part_of_word(byte)).count();
                if let Some(reason) = odd_word(&text[at..at + length]) {
                    return Some((at, reason));
                }
                at += length - 1;
                ended = depth == 0;
            }
            (_, None) => {}
        }
        if !byte.is_ascii_whitespace() {
            last = byte;
        }
        at += 1;
    }
    match in_text {
        Some(start) => Some((start, "a string without its end; was the record cut off?")),
        None if depth > 0 => Some((text.len(), "an object without its end; was the record cut off?")),
        None => None,
    }
}

/// What is wrong with a word or number outside of strings.
fn odd_word(word: &[u8]) -> Option<&'static str> {
    match word {
        b"true" | b"false" | b"null" => None,
        b"NaN" | b"nan" | b"-NaN" | b"Infinity" | b"-Infinity" | b"+Infinity" | b"inf" | b"-inf" => {
            Some("NaN and Infinity are not JSON numbers; write null for a missing value")
        }
        [b'+', ..] => Some("a number with a plus sign"),
        [b'0', b'0'..=b'9', ..] | [b'-', b'0', b'0'..=b'9', ..] => Some("a number with a leading zero"),
        [b'-' | b'0'..=b'9', ..] => None,
        _ => Some("a word that JSON does not have; strings have double quotes"),
    }
}
