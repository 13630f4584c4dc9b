//! Lines of a web server's access log: the usual formats of nginx and Apache, or a declared one.
//!
//! ```text
//! address identd user [day/month/year:hour:minute:second zone] "method target protocol" status bytes "referrer" "agent"
//! ```
//!
//! Without `input.log_format`, these formats are recognised: NCSA common, combined (which adds referrer and user
//! agent), and both with the server's host name and port in front (Debian's vhost_combined). A list from
//! X-Forwarded-For may replace the address, and a syslog header may come first (RFC 3164, RFC 5424, or as rsyslog
//! writes files). The client in a list is its first public address, or its first address if none is public.
//!
//! A quoted list may follow the agent, as in nginx's own `main` format. The client is then the list's first public
//! address if the line starts with a proxy's private address. It is the address at the front if the list has no public
//! address or only repeats that one. Anything else is rejected, because a public address at the front may or may not be
//! a proxy's. Other values after the agent are ignored unless they contain an address; a private address with a port is
//! an upstream server's. A further quoted string is rejected if the second and third strings could also be referrer and
//! agent. Only the referrer and the agent may follow the size, both in quotes.
//!
//! The shape of each part is checked, and an ambiguous line is rejected: misreading a changing value as the client
//! would create a new user each second. Other formats are declared with `input.log_format` in nginx's or Apache's
//! syntax ([`super::log_format`]).
//!
//! The grammar is one line and existing crates allocate for every field, so the parser is written here. `-` is a
//! missing value. Escapes inside quotes are kept as they are. The client's address is personal data and not a member: a
//! client is identified by a keyed hash of address and user agent (HMAC-SHA-256, the first 16 bytes as hex), and
//! addresses are redacted from rejected lines.

mod address;
mod syslog;

pub(super) use address::{forwarded, host, is_user, without_addresses};
pub(super) use syslog::without_syslog;

use super::{
    RejectReason, Rejection,
    log_format::LogFormat,
    payload,
    rows::{Rows, Scalar},
    time,
};
use address::{address_in, canonical, is_bracketed, is_host_and_port, is_name, is_public};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::net::IpAddr;

/// The length of a client's hash: 128 bits, so that 2^40 clients have no collisions.
const CLIENT_BYTES: usize = 16;

/// File extensions of page assets and of what robots and feed readers request. Such requests are not page views.
const ASSETS: &[&str] = &[
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

/// The members by the names used in paths.
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

/// Parses lines.
#[derive(Debug)]
pub(super) struct AccessLog {
    /// Which member goes to which leaf, with the rank of its path.
    members: Vec<(Member, usize, u32)>,
    hash: Hmac<Sha256>,
    /// The declared format of lines.
    format: Option<LogFormat>,
}

impl AccessLog {
    /// A parser with this key for client hashes. Faults of the format are reported where it is declared.
    pub(super) fn new(secret: &str, format: Option<&str>) -> Self {
        let hash = Hmac::new_from_slice(secret.as_bytes()).expect("a key of any length will do");
        Self { members: Vec::new(), hash, format: format.and_then(|format| LogFormat::parse(format).ok()) }
    }

    /// Adds a member by its name. An unknown name is reported where fields are declared.
    pub(super) fn insert(&mut self, name: &str, leaf: usize, rank: u32) {
        if let Some((_, member)) = MEMBERS.iter().find(|(known, _)| *known == name) {
            self.members.push((*member, leaf, rank));
        }
    }

    /// Parses a line into the open row.
    pub(super) fn read(&self, payload: &[u8], rows: &mut Rows<'_>) -> Result<(), Rejection> {
        let text = payload::text(payload)?;
        let line = match &self.format {
            Some(format) => format.read(text),
            None => Line::parse(text),
        };
        let line = line.map_err(|reason| {
            Rejection::new(RejectReason::Malformed, format!("not a line of an access log: {reason}"))
        })?;
        let micros = time_of(line.time).ok_or_else(|| {
            Rejection::new(RejectReason::WrongType, "time: expected a time such as 31/Jan/2026:12:00:00 +0000")
        })?;
        for (member, leaf, rank) in &self.members {
            let mut client = [0; 2 * CLIENT_BYTES];
            let value = match member {
                Member::Client => Some(Scalar::Text(self.client(&line, &mut client))),
                Member::Time => Some(Scalar::Int(micros)),
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
            if let Some(value) = value {
                rows.set(*leaf, *rank, value);
            }
        }
        Ok(())
    }

    fn client<'a>(&self, line: &Line<'_>, hex: &'a mut [u8; 2 * CLIENT_BYTES]) -> &'a str {
        let mut hash = self.hash.clone();
        let mut buffer = [0; 64];
        hash.update(canonical(line.address, &mut buffer));
        hash.update(b"\n");
        hash.update(if line.agent == "-" { b"" } else { line.agent.as_bytes() });
        let hash = hash.finalize().into_bytes();
        for (byte, digits) in hash.iter().zip(hex.chunks_exact_mut(2)) {
            digits.copy_from_slice(&crate::hex::digits(*byte));
        }
        std::str::from_utf8(hex).expect("hex digits are text")
    }
}

/// Converts a time as servers write it to microseconds: `31/Jan/2026:12:00:00 +0000`, ISO 8601, or seconds since 1970.
fn time_of(text: &str) -> Option<i64> {
    let seconds = || {
        let (micros, _) = time::from_number(text, super::TimeUnit::Seconds)?;
        Some(micros)
    };
    time::clf(text).or_else(|| time::dated(text).ok().filter(|_| text.contains('-'))).or_else(seconds)
}

fn given(text: &str) -> Option<Scalar<'_>> {
    (text != "-").then_some(Scalar::Text(text))
}

/// The parts of a line; `-` or empty if missing.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Line<'a> {
    pub(super) address: &'a str,
    pub(super) user: &'a str,
    pub(super) time: &'a str,
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) query: &'a str,
    pub(super) protocol: &'a str,
    pub(super) status: &'a str,
    pub(super) bytes: &'a str,
    pub(super) referrer: &'a str,
    pub(super) agent: &'a str,
}

/// The next step when a line has another format.
const DECLARE: &str = "if the log has another form, declare it as input.log_format";

/// Why a line is rejected.
pub(super) type Reason = std::borrow::Cow<'static, str>;

impl<'a> Line<'a> {
    /// Parses a line, or says which part is not where it should be.
    fn parse(text: &'a str) -> Result<Self, Reason> {
        let text = text.trim();
        if text.starts_with('{') {
            return Err("it is JSON; set input.format = \"json\" and say in [input.fields] what its members are".into());
        }
        if text.starts_with('#') {
            return Err("it is a comment or the header of another format (W3C's extended one?)".into());
        }
        let missing = |part: &str| Reason::from(format!("{part} is not where it should be; {DECLARE}"));
        let text = without_syslog(text);
        // User names can contain spaces, but not brackets.
        let (who, rest) = before_time(text).ok_or_else(|| {
            let part =
                if text.is_empty() { "the client's address" } else { "the user, or the time in brackets behind it," };
            missing(part)
        })?;
        let (address, user) = who_of(who)?;
        let (time, rest) = rest.split_once("] ").ok_or_else(|| missing("the time in brackets"))?;
        let (request, rest) = quoted(rest).ok_or_else(|| missing("the request in quotes"))?;
        if !rest.starts_with(' ') {
            return Err(missing("the status and the size"));
        }
        let mut line = Self { address, user, time, ..Self::default() };
        line.set_request(request);
        let mut rest = rest.trim_start();
        let mut word = || {
            let (word, after) = rest.split_once(' ').unwrap_or((rest, ""));
            rest = after.trim_start();
            word
        };
        (line.status, line.bytes) = (word(), word());
        if !is_status(line.status) || !is_size(line.bytes) {
            return Err(missing("the status and the size"));
        }
        // The common format ends here.
        if rest.is_empty() {
            return Ok(line);
        }
        if !rest.starts_with('"') {
            return Err(missing("the end of the line, or the referrer in quotes,"));
        }
        let mut text = |part| {
            let (text, after) = quoted(rest).ok_or_else(|| missing(part))?;
            rest = after.trim_start();
            // Without a space in between, the rest belongs to another line or another format.
            if rest.is_empty() || rest.len() < after.len() { Ok(text) } else { Err(missing(part)) }
        };
        line.referrer = text("the end of the referrer (was the line cut off?)")?;
        line.agent = text("the user agent in quotes (was the line cut off?)")?;
        line.address = client_of(&line, rest)?;
        Ok(line)
    }

    /// Parses a request line. Anything other than HTTP, such as "-" or the bytes of a handshake, has no method and no
    /// target.
    pub(super) fn set_request(&mut self, request: &'a str) {
        let Some((method, rest)) = request.split_once(' ') else { return };
        let is_method = method.bytes().all(|byte| byte.is_ascii_uppercase() || matches!(byte, b'-' | b'_'));
        if method.is_empty() || !is_method {
            return;
        }
        // Targets with spaces are invalid but do occur.
        let (target, protocol) = match rest.rsplit_once(' ') {
            Some((target, protocol)) if protocol.starts_with("HTTP/") => (target, protocol),
            _ => (rest, ""),
        };
        (self.method, self.protocol) = (method, protocol);
        self.set_target(target);
    }

    pub(super) fn set_target(&mut self, target: &'a str) {
        (self.path, self.query) = target.split_once('?').unwrap_or((target, ""));
    }

    /// The event type: a page that was shown, or any other request.
    fn kind(&self) -> &'static str {
        // 206 (partial content) is not a page, and 204 and 205 have no content.
        let is_shown = self.method == "GET" && matches!(self.status, "200" | "203" | "304");
        let file = self.path.rsplit('/').next().unwrap_or_default();
        let is_page = match file.rsplit_once('.') {
            Some((_, ending)) => !ASSETS.iter().any(|known| ending.eq_ignore_ascii_case(known)),
            None => true,
        };
        if is_shown && is_page { "page_view" } else { "request" }
    }
}

/// The parts before and after the opening bracket of the time. An address can also be in brackets.
fn before_time(text: &str) -> Option<(&str, &str)> {
    let mut starts = text.match_indices(" [").map(|(at, _)| (&text[..at], &text[at + 2..]));
    starts.find(|(_, rest)| rest.split_once(']').is_none_or(|(inner, _)| inner.parse::<IpAddr>().is_err()))
}

/// The client and the user in the part before the time: `[host[:port] ]address[, address …] identity user`.
fn who_of(who: &str) -> Result<(&str, &str), Reason> {
    let unclear = |what: &str| Reason::from(format!("{what}; declare the log's form as input.log_format"));
    let who = who.trim_start();
    let (first, rest) = who.split_once(' ').ok_or_else(|| unclear("the client's identity and user are not there"))?;
    let second = rest.split(' ').next().unwrap_or_default();
    let words = rest.split(' ').count();
    let (client, rest) = if first.contains(',') {
        list_of(who).ok_or_else(|| unclear("the list of addresses names none"))?
    } else if second.contains(',') && (is_host_and_port(first) || is_name(first)) {
        list_of(rest).ok_or_else(|| unclear("the list of addresses names none"))?
    } else if words >= 3 && host(second).is_some() && is_host_and_port(first) {
        rest.split_once(' ').ok_or_else(|| unclear("the client's identity is not there"))?
    } else if words >= 3 && host(second).is_some_and(|host| host.parse::<IpAddr>().is_ok()) {
        // Either a host name followed by the client, or a proxy's client followed by the proxy. If the first one is an
        // address, it could be either.
        if !is_name(first) {
            return Err(unclear("there are two addresses, and which of them is the client's cannot be told"));
        }
        rest.split_once(' ').ok_or_else(|| unclear("the client's identity is not there"))?
    } else {
        (first, rest)
    };
    let address = host(client).ok_or_else(|| unclear("what stands in the place of the client's address is none"))?;
    let (identity, user) = rest.split_once(' ').ok_or_else(|| unclear("the user is not there"))?;
    // Apache and others write an empty user name like this.
    let user = if matches!(user, "\"\"" | "(null)") { "-" } else { user };
    let mut parts = user.split(' ');
    let odd = |word: &str| !is_user(word) || word.contains('"') || word.ends_with(':');
    let is_odd = odd(identity) || parts.clone().any(odd) || user.is_empty();
    // A user name may contain a space, but must not look like more fields.
    if is_odd || (parts.clone().count() > 1 && (identity != "-" || parts.any(|word| word == "-"))) {
        return Err(unclear("there is more than an address, an identity and a user before the time"));
    }
    Ok((address, user))
}

/// The client of a list at the front, and the rest of the text.
fn list_of(text: &str) -> Option<(&str, &str)> {
    let (address, rest) = forwarded(text)?;
    Some((address?, rest))
}

/// The client of a line, from the address at the front and the values after the agent.
fn client_of<'a>(line: &Line<'a>, rest: &'a str) -> Result<&'a str, Reason> {
    const AGENT: &str = "which of the values in quotes is the user agent cannot be told";
    let unclear = |what: &str| Err(format!("{what}; declare the log's form as input.log_format").into());
    let front = line.address;
    let mut client = front;
    // Some formats have a host name or the like before the referrer.
    if !is_referrer(line.referrer) && matches!(line.agent, "" | "-") {
        return unclear(AGENT);
    }
    let mut rest = rest.trim();
    let mut is_first = true;
    while !rest.is_empty() {
        // A quoted value, alone or as `name="value"`, or a word.
        let start = rest.find(['"', ' ']).filter(|at| rest.as_bytes()[*at] == b'"');
        let in_quotes = start.and_then(|at| quoted(&rest[at..]));
        if start.is_some() && in_quotes.is_none() {
            return unclear("a value in quotes has no end (was the line cut off?)");
        }
        let (value, after) = match in_quotes {
            Some(found) => found,
            // Lists of servers have a space after each comma.
            None => {
                let end = rest.match_indices(' ').map(|(at, _)| at).find(|at| !rest[..*at].ends_with(','));
                let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
                (word.split_once('=').map_or(word, |(_, value)| value), after)
            }
        };
        rest = after.trim_start();
        if value.strip_prefix('[').is_some_and(|time| time::clf(time.trim_end_matches(']')).is_some()) {
            return unclear("a second line stands behind the first");
        }
        let is_main = std::mem::take(&mut is_first) && in_quotes.is_some() && start == Some(0);
        let parts = || value.split([',', ' ', ';']).map(str::trim).filter(|part| !part.is_empty());
        let addresses = || parts().filter_map(|part| Some((part, address_in(part)?)));
        if addresses().next().is_none() {
            let says_nothing = matches!(value, "" | "-") || value.eq_ignore_ascii_case("unknown");
            let is_text = in_quotes.is_some() && start == Some(0) && !says_nothing;
            if is_text && (!is_referrer(line.referrer) || is_referrer(line.agent)) {
                return unclear(AGENT);
            }
            continue;
        }
        // An upstream server as nginx writes it.
        let is_server = |(part, address): (&str, IpAddr)| !is_public(address) && part.parse::<IpAddr>().is_err();
        if !is_main {
            let is_known = |address: IpAddr| [front, client].iter().any(|it| it.parse() == Ok(address));
            if addresses().all(|it| is_server(it) || is_known(it.1)) {
                continue;
            }
            return unclear("an address stands at the line's end, and whose it is cannot be told");
        }
        // An address with a port could be a client's or a server's.
        let has_port = addresses().any(|(part, _)| part.parse::<IpAddr>().is_err() && !is_bracketed(part));
        let list = forwarded(value).filter(|(_, after)| after.is_empty() && !has_port);
        let Some((Some(address), _)) = list else {
            return unclear("an address stands at the line's end, and whose it is cannot be told");
        };
        let is_public_text = |text: &str| text.parse().is_ok_and(is_public);
        let is_proxy = front.parse::<IpAddr>().is_ok_and(|front| !is_public(front));
        let is_same = || front.parse::<IpAddr>().is_ok_and(|front| address.parse() == Ok(front));
        match (is_public_text(address), is_proxy) {
            (true, true) => client = address,
            (false, false) => {}
            _ if is_same() => {}
            _ => {
                return unclear(
                    "a list of addresses stands behind the user agent, and whether the client is in it or at the line's front \
                     cannot be told",
                );
            }
        }
    }
    Ok(client)
}

/// Whether a text looks like a referrer.
fn is_referrer(text: &str) -> bool {
    matches!(text, "" | "-") || text.contains("://") || text.starts_with('/')
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.len() <= 19 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether a text is a status: three digits.
pub(super) fn is_status(text: &str) -> bool {
    text.len() == 3 && is_number(text)
}

/// Whether a text is a count of bytes.
pub(super) fn is_size(text: &str) -> bool {
    text == "-" || is_number(text)
}

/// The text in quotes at the front, and the rest. An escaped quote is part of the text.
pub(super) fn quoted(text: &str) -> Option<(&str, &str)> {
    let text = text.strip_prefix('"')?;
    let mut escaped = false;
    let end = text.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })?;
    Some((&text[..end], &text[end + 1..]))
}
