//! Lines of a web server's log: NCSA's common form, and the combined one, which adds referrer and user agent.
//!
//! ```text
//! address identd user [day/month/year:hour:minute:second zone] "method target protocol" status bytes "referrer" "agent"
//! ```
//!
//! The grammar is one line, and the crates for it allocate for every field, so it is read here. What follows the known
//! fields is passed over; `-` is "not given"; what a server has escaped inside quotes stays escaped. The client's address is
//! personal data and no member: what stands for a client is the keyed hash of its address and user agent (HMAC-SHA-256, the
//! first 16 bytes as hex), and a refused line is set aside with its addresses blotted out.

use super::{
    RejectReason, Rejection,
    decode::{Rows, Scalar},
};
use hmac::{Hmac, Mac};
use jiff::{fmt::strtime::BrokenDownTime, tz::TimeZone};
use sha2::Sha256;
use std::net::{IpAddr, Ipv4Addr};

/// How much of the hash stands for a client: 128 bits, so that no two of 2^40 clients meet.
const CLIENT_BYTES: usize = 16;

/// What a page consists of, and what robots and feed readers ask for: a request for it is no page view.
const NO_PAGES: &[&str] = &[
    "atom", "bmp", "css", "eot", "gif", "gz", "ico", "jpeg", "jpg", "js", "json", "map", "mp3", "mp4", "otf", "png",
    "rss", "svg", "ttf", "txt", "webm", "webp", "woff", "woff2", "xml", "zip",
];

/// A member of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Member {
    User,
    Client,
    Time,
    Type,
    Method,
    Path,
    Query,
    Protocol,
    Status,
    Bytes,
    Referrer,
    Agent,
}

/// The members by the names that paths give them.
const MEMBERS: [(&str, Member); 12] = [
    ("user", Member::User),
    ("client", Member::Client),
    ("time", Member::Time),
    ("type", Member::Type),
    ("method", Member::Method),
    ("path", Member::Path),
    ("query", Member::Query),
    ("protocol", Member::Protocol),
    ("status", Member::Status),
    ("bytes", Member::Bytes),
    ("referrer", Member::Referrer),
    ("user_agent", Member::Agent),
];

/// The names of all members.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    MEMBERS.iter().map(|(name, _)| *name)
}

/// Reads lines.
#[derive(Debug)]
pub(super) struct AccessLog {
    /// Which member goes to which leaf, with the rank of its path.
    members: Vec<(Member, usize, u8)>,
    hash: Hmac<Sha256>,
}

impl AccessLog {
    /// A reader with this key for clients.
    pub(super) fn new(secret: &str) -> Self {
        let hash = Hmac::new_from_slice(secret.as_bytes()).expect("a key of any length will do");
        Self { members: Vec::new(), hash }
    }

    /// Adds a member by its name; faults of it are told where fields are declared.
    pub(super) fn insert(&mut self, name: &str, leaf: usize, rank: u8) {
        if let Some((_, member)) = MEMBERS.iter().find(|(known, _)| *known == name) {
            self.members.push((*member, leaf, rank));
        }
    }

    /// Reads a line into the open row.
    pub(super) fn read(&self, payload: &[u8], rows: &mut Rows<'_>) -> Result<(), Rejection> {
        let malformed = |detail: String| Rejection::new(RejectReason::Malformed, detail);
        let text = std::str::from_utf8(payload)
            .map_err(|error| malformed(format!("not UTF-8 from byte {} on", error.valid_up_to())))?;
        let line =
            Line::parse(text).map_err(|part| malformed(format!("no line of an access log: {part} is not there")))?;
        for (member, leaf, rank) in &self.members {
            let mut client = [0; 2 * CLIENT_BYTES];
            let value = match member {
                Member::Client => Some(Scalar::Text(self.client(&line, &mut client))),
                Member::Time => Some(Scalar::Int(micros(line.time).ok_or_else(|| {
                    Rejection::new(RejectReason::WrongType, "time: expected a time such as 31/Jan/2026:12:00:00 +0000")
                })?)),
                Member::Type => Some(Scalar::Text(line.kind())),
                Member::User => given(line.user),
                Member::Method => given(line.method),
                Member::Path => given(line.path),
                Member::Query => given(line.query),
                Member::Protocol => given(line.protocol),
                Member::Status => given(line.status),
                Member::Bytes => given(line.bytes),
                Member::Referrer => given(line.referrer),
                Member::Agent => given(line.agent),
            };
            if let Some(value) = value
                && !rows.set(*leaf, *rank, value)
            {
                let (field, expected) = rows.wrong.take().unwrap_or_default();
                return Err(Rejection::new(RejectReason::WrongType, format!("{field}: expected {expected}")));
            }
        }
        Ok(())
    }

    fn client<'a>(&self, line: &Line<'_>, hex: &'a mut [u8; 2 * CLIENT_BYTES]) -> &'a str {
        let mut hash = self.hash.clone();
        hash.update(line.address.as_bytes());
        hash.update(b"\n");
        hash.update(if line.agent == "-" { b"" } else { line.agent.as_bytes() });
        let hash = hash.finalize().into_bytes();
        for (byte, digits) in hash.iter().zip(hex.chunks_exact_mut(2)) {
            digits.copy_from_slice(&[
                b"0123456789abcdef"[usize::from(byte >> 4)],
                b"0123456789abcdef"[usize::from(byte & 15)],
            ]);
        }
        std::str::from_utf8(hex).expect("hex digits are text")
    }
}

fn given(text: &str) -> Option<Scalar<'_>> {
    (text != "-").then_some(Scalar::Text(text))
}

/// The parts of a line, `-` or empty where they are not given.
#[derive(Debug, Default, PartialEq, Eq)]
struct Line<'a> {
    address: &'a str,
    user: &'a str,
    time: &'a str,
    method: &'a str,
    path: &'a str,
    query: &'a str,
    protocol: &'a str,
    status: &'a str,
    bytes: &'a str,
    referrer: &'a str,
    agent: &'a str,
}

impl<'a> Line<'a> {
    /// Takes a line apart, or says which part is not where it should be.
    fn parse(text: &'a str) -> Result<Self, &'static str> {
        let (address, rest) = text.trim().split_once(' ').ok_or("the client's address")?;
        let (_, rest) = rest.split_once(' ').ok_or("the client's identity")?;
        // Names with a space in them occur, a bracket does not.
        let (user, rest) = rest.split_once(" [").ok_or("the user")?;
        let (time, rest) = rest.split_once("] ").ok_or("the time")?;
        let (request, rest) = quoted(rest).ok_or("the request")?;
        let mut rest = rest.trim_start();
        let mut word = || {
            let (word, after) = rest.split_once(' ').unwrap_or((rest, ""));
            rest = after;
            word
        };
        let (status, bytes) = (word(), word());
        if status.is_empty() || bytes.is_empty() {
            return Err("the status and the size");
        }
        // The common form ends here.
        let (referrer, rest) = quoted(rest).unwrap_or_default();
        let (agent, _) = quoted(rest.trim_start()).unwrap_or_default();
        // What was no HTTP has no method and no target: "-", or the bytes of a handshake.
        let mut words = request.split(' ');
        let (method, target, protocol) = match (words.next(), words.next(), words.next(), words.next()) {
            (Some(method), Some(target), protocol, None) => (method, target, protocol.unwrap_or_default()),
            _ => ("", "", ""),
        };
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Ok(Self { address, user, time, method, path, query, protocol, status, bytes, referrer, agent })
    }

    /// What kind of event it is: a page that was shown, or another request.
    fn kind(&self) -> &'static str {
        let is_shown = self.method == "GET" && (self.status.starts_with('2') || self.status == "304");
        let file = self.path.rsplit('/').next().unwrap_or_default();
        let is_page = match file.rsplit_once('.') {
            Some((_, ending)) => !NO_PAGES.iter().any(|known| ending.eq_ignore_ascii_case(known)),
            None => true,
        };
        if is_shown && is_page { "page_view" } else { "request" }
    }
}

/// The text between the quotes at the front, and what follows it. A quote behind a backslash is part of the text.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let text = text.strip_prefix('"')?;
    let mut escaped = false;
    let end = text.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })?;
    Some((&text[..end], &text[end + 1..]))
}

/// The microseconds of a time in brackets; one without a zone is UTC.
fn micros(text: &str) -> Option<i64> {
    if let Ok(time) = BrokenDownTime::parse("%d/%b/%Y:%H:%M:%S %z", text) {
        return time.to_timestamp().ok().map(jiff::Timestamp::as_microsecond);
    }
    let time = BrokenDownTime::parse("%d/%b/%Y:%H:%M:%S", text).ok()?.to_datetime().ok()?;
    TimeZone::UTC.to_timestamp(time).ok().map(jiff::Timestamp::as_microsecond)
}

/// A line, or a key, with a dash for the client and for whatever else is an address.
pub(super) fn without_addresses(bytes: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(bytes);
    // A name may stand in the place of the client's address.
    let client = text.find(' ').unwrap_or(text.len());
    let mut clean = String::from("-");
    clean.reserve(text.len());
    let ends = |letter: char| !(letter.is_ascii_hexdigit() || matches!(letter, '.' | ':'));
    for part in text[client..].split_inclusive(ends) {
        let word = part.trim_end_matches(ends);
        let port = word.rsplit_once(':').map_or(word, |(address, _)| address);
        if word.parse::<IpAddr>().is_ok() || port.parse::<Ipv4Addr>().is_ok() {
            clean.push('-');
            clean.push_str(&part[word.len()..]);
        } else {
            clean.push_str(part);
        }
    }
    clean.into_bytes()
}
