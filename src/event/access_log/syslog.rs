//! The syslog header in front of a line.

use super::{super::time, is_number};

/// The text without its syslog header, if it has one.
pub(in super::super) fn without_syslog(text: &str) -> &str {
    syslog(text).unwrap_or(text)
}

fn syslog(text: &str) -> Option<&str> {
    let (has_priority, text) = match text.strip_prefix('<').and_then(|text| text.split_once('>')) {
        Some((priority, rest)) if is_number(priority) && priority.len() <= 3 => (true, rest),
        _ => (false, text),
    };
    if let Some(rest) = text.strip_prefix("1 ")
        && has_priority
    {
        return structured(rest);
    }
    let rest = after_date(text)?;
    // An optional host, and the program with its process id: "web1 nginx[12]: ". Without a program, the host precedes
    // the client like a server name.
    let (tag, message) = rest.split_once(": ").unwrap_or((rest, ""));
    let mut words = tag.split(' ').filter(|word| !word.is_empty());
    let is_word = |word: &str| word.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b','));
    let is_header = match (words.next(), words.next(), words.next()) {
        (Some(program), None, None) => is_word(program),
        (Some(host), Some(program), None) => is_word(host) && is_word(program),
        _ => false,
    };
    Some(if is_header && !message.is_empty() { message.trim_start() } else { rest })
}

/// The message after the rest of an RFC 5424 header: time, host, program, process, message id, structured data.
fn structured(text: &str) -> Option<&str> {
    let mut rest = text;
    for _ in 0..5 {
        rest = rest.split_once(' ')?.1;
    }
    if let Some(message) = rest.strip_prefix("- ") {
        return Some(message.trim_start_matches('\u{feff}'));
    }
    while let Some(element) = rest.strip_prefix('[') {
        let (mut quoted, mut escaped) = (false, false);
        let end = element.bytes().position(|byte| {
            let ends = byte == b']' && !quoted;
            quoted ^= byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            ends
        })?;
        rest = &element[end + 1..];
    }
    rest.strip_prefix(' ').map(|message| message.trim_start_matches('\u{feff}'))
}

/// The rest after the date of a syslog message: "Mar  1 10:00:00 ", or as in RFC 3339.
fn after_date(text: &str) -> Option<&str> {
    let (first, rest) = text.split_once(' ')?;
    if first.len() >= 19 && time::dated(first).is_ok() {
        return Some(rest.trim_start());
    }
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    if !months.contains(&first) {
        return None;
    }
    let (day, rest) = rest.trim_start().split_once(' ')?;
    let (clock, rest) = rest.trim_start().split_once(' ')?;
    let is_clock = clock.len() >= 8 && clock.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b':' | b'.'));
    (is_number(day) && day.len() <= 2 && is_clock).then(|| rest.trim_start())
}
