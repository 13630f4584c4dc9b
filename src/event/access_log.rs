//! Lines of a web server's log: the usual forms of nginx and Apache, or a declared one.
//!
//! ```text
//! address identd user [day/month/year:hour:minute:second zone] "method target protocol" status bytes "referrer" "agent"
//! ```
//!
//! Without `input.log_format` these are read: NCSA's common form, the combined one, which adds referrer and user agent, and both
//! with the host's name and port before them (Debian's vhost_combined). In the address's place a list from X-Forwarded-For may
//! stand, and before all of it the header of a syslog message (RFC 3164, RFC 5424, or as rsyslog writes files). Of a list the
//! first public address is the client, or the first one where none is public.
//!
//! Behind the agent a list in quotes may stand, as in nginx's own format `main`. Then the client is the list's first public
//! address where the line begins with a proxy's private address, and the address at the front where the list has no public
//! one or the same. Everything else is refused: nobody can tell whether a public address at the front is a proxy's. Other
//! values behind the agent are passed over, unless they hold an address; a private address with a port is a server's. A
//! further text in quotes is refused, where the second and the third one could be referrer and agent as well. Nothing stands
//! behind the size but the referrer and the agent, both in quotes.
//!
//! Each part's shape is checked, and a line that could be read in two ways is refused, because one misread line in each
//! second makes as many users as there are seconds.
//! Other forms are declared with `input.log_format`, in nginx's or in Apache's words ([`super::log_format`]).
//!
//! The grammar is one line, and the crates for it allocate for every field, so it is read here. `-` is "not given"; what a
//! server has escaped inside quotes stays escaped. The client's address is personal data and no member: what stands for a client
//! is the keyed hash of its address and user agent (HMAC-SHA-256, the first 16 bytes as hex), and a refused line is set aside with
//! its addresses blotted out.

use super::{
    RejectReason, Rejection,
    decode::{Rows, Scalar},
    log_format::LogFormat,
    payload, time,
};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::{
    io::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

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
    members: Vec<(Member, usize, u32)>,
    hash: Hmac<Sha256>,
    /// How lines are made, where it is declared.
    format: Option<LogFormat>,
}

impl AccessLog {
    /// A reader with this key for clients; faults of the format are told where it is declared.
    pub(super) fn new(secret: &str, format: Option<&str>) -> Self {
        let hash = Hmac::new_from_slice(secret.as_bytes()).expect("a key of any length will do");
        Self { members: Vec::new(), hash, format: format.and_then(|format| LogFormat::parse(format).ok()) }
    }

    /// Adds a member by its name; faults of it are told where fields are declared.
    pub(super) fn insert(&mut self, name: &str, leaf: usize, rank: u32) {
        if let Some((_, member)) = MEMBERS.iter().find(|(known, _)| *known == name) {
            self.members.push((*member, leaf, rank));
        }
    }

    /// Reads a line into the open row.
    pub(super) fn read(&self, payload: &[u8], rows: &mut Rows<'_>) -> Result<(), Rejection> {
        let text = payload::text(payload)?;
        let line = match &self.format {
            Some(format) => format.read(text),
            None => Line::parse(text),
        };
        let line = line
            .map_err(|reason| Rejection::new(RejectReason::Malformed, format!("no line of an access log: {reason}")))?;
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
            digits.copy_from_slice(&[
                b"0123456789abcdef"[usize::from(byte >> 4)],
                b"0123456789abcdef"[usize::from(byte & 15)],
            ]);
        }
        std::str::from_utf8(hex).expect("hex digits are text")
    }
}

/// One text for each address: an IPv6 address may be written in several ways, and may hold an IPv4 one.
fn canonical<'a>(address: &'a str, buffer: &'a mut [u8; 64]) -> &'a [u8] {
    if address.parse::<Ipv4Addr>().is_ok() {
        return address.as_bytes();
    }
    match address.parse::<IpAddr>() {
        Ok(parsed) => {
            let mut rest = &mut buffer[..];
            write!(rest, "{}", parsed.to_canonical()).expect("an address has at most 45 letters");
            let left = rest.len();
            &buffer[..64 - left]
        }
        Err(_) => address.as_bytes(),
    }
}

/// The microseconds of a time as servers write it: `31/Jan/2026:12:00:00 +0000`, ISO 8601, or seconds since 1970.
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

/// The parts of a line, `-` or empty where they are not given.
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

/// What to do about a line of another form.
const DECLARE: &str = "if the log has another form, declare it as input.log_format";

/// Why a line is refused.
pub(super) type Reason = std::borrow::Cow<'static, str>;

impl<'a> Line<'a> {
    /// Takes a line apart, or says which part is not where it should be.
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
        // Names with a space in them occur, a bracket does not.
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
        // The common form ends here.
        if rest.is_empty() {
            return Ok(line);
        }
        if !rest.starts_with('"') {
            return Err(missing("the end of the line, or the referrer in quotes,"));
        }
        let mut text = |part| {
            let (text, after) = quoted(rest).ok_or_else(|| missing(part))?;
            rest = after.trim_start();
            // What follows without a space belongs to another line, or to another form.
            if rest.is_empty() || rest.len() < after.len() { Ok(text) } else { Err(missing(part)) }
        };
        line.referrer = text("the end of the referrer (was the line cut off?)")?;
        line.agent = text("the user agent in quotes (was the line cut off?)")?;
        line.address = client_of(&line, rest)?;
        Ok(line)
    }

    /// Takes a request line apart. What was no HTTP has no method and no target: "-", or the bytes of a handshake.
    pub(super) fn set_request(&mut self, request: &'a str) {
        let Some((method, rest)) = request.split_once(' ') else { return };
        let is_method = method.bytes().all(|byte| byte.is_ascii_uppercase() || matches!(byte, b'-' | b'_'));
        if method.is_empty() || !is_method {
            return;
        }
        // A target with spaces in it is against the rules, and comes.
        let (target, protocol) = match rest.rsplit_once(' ') {
            Some((target, protocol)) if protocol.starts_with("HTTP/") => (target, protocol),
            _ => (rest, ""),
        };
        (self.method, self.protocol) = (method, protocol);
        self.set_target(target);
    }

    /// Takes a target apart.
    pub(super) fn set_target(&mut self, target: &'a str) {
        (self.path, self.query) = target.split_once('?').unwrap_or((target, ""));
    }

    /// What kind of event it is: a page that was shown, or another request.
    fn kind(&self) -> &'static str {
        // A part of a file (206) is no page, and 204 and 205 have none.
        let is_shown = self.method == "GET" && matches!(self.status, "200" | "203" | "304");
        let file = self.path.rsplit('/').next().unwrap_or_default();
        let is_page = match file.rsplit_once('.') {
            Some((_, ending)) => !NO_PAGES.iter().any(|known| ending.eq_ignore_ascii_case(known)),
            None => true,
        };
        if is_shown && is_page { "page_view" } else { "request" }
    }
}

/// What stands before the time in brackets, and what follows its bracket. An address may stand in brackets, too.
fn before_time(text: &str) -> Option<(&str, &str)> {
    let mut starts = text.match_indices(" [").map(|(at, _)| (&text[..at], &text[at + 2..]));
    starts.find(|(_, rest)| rest.split_once(']').is_none_or(|(inner, _)| inner.parse::<IpAddr>().is_err()))
}

/// The client and the user of what stands before the time: `[host[:port] ]address[, address …] identity user`.
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
        // A host's name and the client, or what a proxy says and the proxy: an address in the first place may be either.
        if !is_name(first) {
            return Err(unclear("there are two addresses, and which of them is the client's cannot be told"));
        }
        rest.split_once(' ').ok_or_else(|| unclear("the client's identity is not there"))?
    } else {
        (first, rest)
    };
    let address = host(client).ok_or_else(|| unclear("what stands in the place of the client's address is none"))?;
    let (identity, user) = rest.split_once(' ').ok_or_else(|| unclear("the user is not there"))?;
    // Apache and others write an empty name so.
    let user = if matches!(user, "\"\"" | "(null)") { "-" } else { user };
    let mut parts = user.split(' ');
    let odd = |word: &str| !is_user(word) || word.contains('"') || word.ends_with(':');
    let is_odd = odd(identity) || parts.clone().any(odd) || user.is_empty();
    // A name with a space in it may be, but not one with a field of its own in it.
    if is_odd || (parts.clone().count() > 1 && (identity != "-" || parts.any(|word| word == "-"))) {
        return Err(unclear("there is more than an address, an identity and a user before the time"));
    }
    Ok((address, user))
}

/// The client in a list at the front, and what follows the list.
fn list_of(text: &str) -> Option<(&str, &str)> {
    let (address, rest) = forwarded(text)?;
    Some((address?, rest))
}

/// Whether a text may be the name of a user. An address or a host with its port stands there where a log has another form.
pub(super) fn is_user(text: &str) -> bool {
    let marks = |letter: char| matches!(letter, ',' | ';' | '(' | ')' | '<' | '>' | '"' | '\'');
    !is_host_and_port(text) && !text.split(marks).any(|part| is_address(part) || is_bracketed(part))
}

/// The client of a line by the address at its front, and what follows its agent.
fn client_of<'a>(line: &Line<'a>, rest: &'a str) -> Result<&'a str, Reason> {
    const AGENT: &str = "which of the values in quotes is the user agent cannot be told";
    let unclear = |what: &str| Err(format!("{what}; declare the log's form as input.log_format").into());
    let front = line.address;
    let mut client = front;
    // A host's name or the like may stand before the referrer.
    if !is_referrer(line.referrer) && matches!(line.agent, "" | "-") {
        return unclear(AGENT);
    }
    let mut rest = rest.trim();
    let mut is_first = true;
    while !rest.is_empty() {
        // A value in quotes, also of `name="value"`, or a word.
        let start = rest.find(['"', ' ']).filter(|at| rest.as_bytes()[*at] == b'"');
        let in_quotes = start.and_then(|at| quoted(&rest[at..]));
        if start.is_some() && in_quotes.is_none() {
            return unclear("a value in quotes has no end (was the line cut off?)");
        }
        let (value, after) = match in_quotes {
            Some(found) => found,
            // Lists of servers have spaces behind their commas.
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
        // A server behind this one, as nginx names it.
        let is_server = |(part, address): (&str, IpAddr)| !is_public(address) && part.parse::<IpAddr>().is_err();
        if !is_main {
            let is_known = |address: IpAddr| [front, client].iter().any(|it| it.parse() == Ok(address));
            if addresses().all(|it| is_server(it) || is_known(it.1)) {
                continue;
            }
            return unclear("an address stands at the line's end, and whose it is cannot be told");
        }
        // An address with a port would be a client's as well as a server's.
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

/// Whether a text has the shape of a referrer.
fn is_referrer(text: &str) -> bool {
    matches!(text, "" | "-") || text.contains("://") || text.starts_with('/')
}

/// The address in a word, with a port or without.
fn address_in(word: &str) -> Option<IpAddr> {
    host(word)?.parse().ok()
}

/// Whether a word is an address in brackets, with a port or without.
fn is_bracketed(word: &str) -> bool {
    word.starts_with('[') && address_in(word).is_some()
}

/// Whether an address may be a visitor's from the outside: none of a private network, of this machine or of a provider's.
fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [first, second, ..] = address.octets();
            let is_shared = first == 100 && (64..128).contains(&second);
            !(address.is_private()
                || address.is_loopback()
                || address.is_link_local()
                || is_shared
                || is_nobody(address))
        }
        IpAddr::V6(address) => {
            let is_of_a_network = address.is_unique_local() || address.is_unicast_link_local();
            !(address.is_loopback() || is_of_a_network || address == Ipv6Addr::UNSPECIFIED)
        }
    }
}

/// Whether no client can have this address.
fn is_nobody(address: Ipv4Addr) -> bool {
    address.is_unspecified() || address.is_broadcast()
}

/// The client in a list from X-Forwarded-For, where the list names one, and what follows the list: the first public address, or
/// the first where none is public.
pub(super) fn forwarded(text: &str) -> Option<(Option<&str>, &str)> {
    let (mut first, mut public) = (None, None);
    let mut rest = text;
    loop {
        let (word, after) = rest.split_once(' ').unwrap_or((rest, ""));
        let ends = !word.ends_with(',');
        for part in word.split(',').filter(|part| !part.is_empty()) {
            let address = host(part).filter(|host| host.parse::<IpAddr>().is_ok());
            // A proxy may hide its client, as "unknown" or by a name with an underscore before it.
            let is_hidden = || part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte));
            if address.is_none() && !is_hidden() {
                return None;
            }
            first = first.or(address);
            public = public.or(address.filter(|address| address.parse().is_ok_and(is_public)));
        }
        rest = after;
        if ends {
            return Some((public.or(first), rest));
        }
    }
}

/// The host of what stands for a client: an address or a name, with a port or without. What stands for "nobody knows" is none:
/// all visitors would be one.
pub(super) fn host(text: &str) -> Option<&str> {
    let host = written_host(text)?;
    match host.parse() {
        Ok(IpAddr::V4(address)) => !is_nobody(address),
        Ok(IpAddr::V6(address)) => !(address.is_unspecified() || address.to_ipv4_mapped().is_some_and(is_nobody)),
        Err(_) => true,
    }
    .then_some(host)
}

fn written_host(text: &str) -> Option<&str> {
    if text.parse::<IpAddr>().is_ok() {
        return Some(text);
    }
    if let Some((inner, after)) = text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        let is_port = after.is_empty() || after.strip_prefix(':').is_some_and(is_number);
        return (is_port && inner.parse::<IpAddr>().is_ok()).then_some(inner);
    }
    // The zone of a link-local address: fe80::1%eth0.
    if let Some((address, _)) = text.split_once('%')
        && address.parse::<IpAddr>().is_ok()
    {
        return Some(address);
    }
    if let Some((address, port)) = text.rsplit_once(':')
        && is_number(port)
        && address.parse::<Ipv4Addr>().is_ok()
    {
        return Some(address);
    }
    is_name(text).then_some(text)
}

/// Whether a text is the name of a host.
fn is_name(text: &str) -> bool {
    let is_label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        !label.is_empty() && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    if ["unknown", "none", "null", "nil", "undefined", "hidden"].iter().any(|word| text.eq_ignore_ascii_case(word)) {
        return false;
    }
    // Four numbers are a mistyped address.
    let has_letter = text.bytes().any(|byte| byte.is_ascii_alphabetic());
    text.len() <= 253 && has_letter && text.strip_suffix('.').unwrap_or(text).split('.').all(is_label)
}

/// Whether a text is a host with its port. An address with a client's port is none: some proxies name clients so.
fn is_host_and_port(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(name, port)| {
        let serves = || port.parse::<u16>().is_ok_and(|port| port < 1_024 || (8_000..9_000).contains(&port));
        is_number(port) && (is_name(name) || (host(name).is_some() && serves()))
    })
}

/// Whether a word is an address, with a port or without.
fn is_address(word: &str) -> bool {
    let port = word.rsplit_once(':').map_or(word, |(address, _)| address);
    word.parse::<IpAddr>().is_ok() || port.parse::<Ipv4Addr>().is_ok()
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

/// What follows the header of a syslog message; the text itself where there is none.
pub(super) fn without_syslog(text: &str) -> &str {
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
    // A host, which may be left out, and the program with its number: "web1 nginx[12]: ". Where there is no program, the host
    // stands before the client as a server's name does.
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

/// What follows the rest of RFC 5424's header: time, host, program, process, message id, structured data.
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

/// What follows the date of a syslog message: "Mar  1 10:00:00 ", or as in RFC 3339.
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

/// The text between the quotes at the front, and what follows it. A quote behind a backslash is part of the text.
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

/// A line, or a key, with a dash for what stands before the time, the client and the user among it, and for whatever else is an
/// address.
pub(super) fn without_addresses(bytes: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(bytes);
    // A name may stand in the place of the client's address, and where it stands is not known in a line that was refused.
    let who = text.find(['[', '"']).unwrap_or(text.len());
    let mut clean = String::with_capacity(text.len());
    for part in text[..who].split_inclusive(char::is_whitespace) {
        let word = part.trim_end();
        clean.push_str(if word.is_empty() { "" } else { "-" });
        clean.push_str(&part[word.len()..]);
    }
    if clean.is_empty() {
        clean.push('-');
    }
    let ends = |letter: char| !(letter.is_ascii_hexdigit() || matches!(letter, '.' | ':'));
    for part in text[who..].split_inclusive(ends) {
        let word = part.trim_end_matches(ends);
        if is_address(word) {
            clean.push('-');
            clean.push_str(&part[word.len()..]);
        } else {
            clean.push_str(part);
        }
    }
    clean.into_bytes()
}
