//! A declared format of access log lines, in nginx's or Apache's syntax.
//!
//! ```text
//! $remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent"
//! %v:%p %h %l %u %t "%r" %>s %O "%{Referer}i" "%{User-Agent}i"
//! ```
//!
//! A line is split by the text between the variables. A value ends at the first occurrence of the text that follows it;
//! a quoted value ends at the first quote without a backslash before it. The shape of each known value is checked, and
//! other variables are skipped. If the format has both an address and X-Forwarded-For, the client is the first public
//! address of the list (its first one if none is public), or the address if the list has none.
//!
//! A format can be pasted from a server's configuration, including the directive.

use super::access_log::{Line, Reason, forwarded, host, is_size, is_status, is_user, quoted, without_syslog};
use std::borrow::Cow;

/// Predefined formats.
const NAMED: [(&str, &str); 6] = [
    ("common", r#"%h %l %u %t "%r" %>s %b"#),
    ("combined", r#"%h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-Agent}i""#),
    ("combinedio", r#"%h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-Agent}i" %I %O"#),
    (
        "main",
        r#"$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent" "$http_x_forwarded_for""#,
    ),
    ("vhost_common", r#"%v %h %l %u %t "%r" %>s %b"#),
    ("vhost_combined", r#"%v:%p %h %l %u %t "%r" %>s %O "%{Referer}i" "%{User-Agent}i""#),
];

/// What a variable stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Address,
    Forwarded,
    User,
    Time,
    Request,
    Method,
    Target,
    Path,
    Query,
    Protocol,
    Status,
    Bytes,
    Referrer,
    Agent,
    Other,
}

impl Part {
    /// By nginx's name.
    fn of_nginx(name: &str) -> Self {
        match name {
            "remote_addr" | "realip_remote_addr" | "proxy_protocol_addr" => Self::Address,
            "http_x_forwarded_for" | "proxy_add_x_forwarded_for" | "http_x_real_ip" | "http_cf_connecting_ip" => {
                Self::Forwarded
            }
            "remote_user" => Self::User,
            "time_local" | "time_iso8601" | "msec" => Self::Time,
            "request" => Self::Request,
            "request_method" => Self::Method,
            "request_uri" => Self::Target,
            "uri" | "document_uri" => Self::Path,
            "args" | "query_string" => Self::Query,
            "server_protocol" => Self::Protocol,
            "status" => Self::Status,
            "body_bytes_sent" | "bytes_sent" => Self::Bytes,
            "http_referer" => Self::Referrer,
            "http_user_agent" => Self::Agent,
            _ => Self::Other,
        }
    }

    /// By Apache's letter and the argument in braces before it.
    fn of_apache(letter: &str, argument: &str) -> Option<Self> {
        let is = |name: &str| argument.eq_ignore_ascii_case(name);
        Some(match letter {
            "h" | "a" => Self::Address,
            "i" if is("X-Forwarded-For") || is("X-Real-IP") || is("CF-Connecting-IP") => Self::Forwarded,
            "i" if is("Referer") => Self::Referrer,
            "i" if is("User-Agent") => Self::Agent,
            "u" => Self::User,
            "t" if argument.is_empty() || is("sec") || is("%s") => Self::Time,
            "t" => return None,
            "r" => Self::Request,
            "m" => Self::Method,
            "U" => Self::Path,
            "q" => Self::Query,
            "H" => Self::Protocol,
            "s" => Self::Status,
            "b" | "B" | "O" => Self::Bytes,
            _ => Self::Other,
        })
    }

    /// The name in messages.
    fn name(self) -> &'static str {
        match self {
            Self::Address => "the client's address",
            Self::Forwarded => "the list of addresses",
            Self::User => "the user",
            Self::Time => "the time",
            Self::Request => "the request",
            Self::Method => "the method",
            Self::Target => "the target",
            Self::Path => "the path",
            Self::Query => "the query",
            Self::Protocol => "the protocol",
            Self::Status => "the status",
            Self::Bytes => "the size",
            Self::Referrer => "the referrer",
            Self::Agent => "the user agent",
            Self::Other => "a value",
        }
    }
}

/// A variable and the text that follows it. The first step has no variable.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Step {
    part: Option<Part>,
    after: String,
}

/// A declared format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LogFormat(Vec<Step>);

/// What is wrong with a format, and the next step.
type FormatFault = (String, &'static str);

const EXAMPLE: &str = r#"for instance '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent', '%h %l %u %t "%r" %>s %b', combined or vhost_combined"#;

impl LogFormat {
    /// Parses a format.
    pub(super) fn parse(text: &str) -> Result<Self, FormatFault> {
        let text = without_directive(text.trim())?;
        let named = NAMED.iter().find(|(name, _)| text.eq_ignore_ascii_case(name));
        let text = named.map_or(&*text, |(_, format)| format);
        if text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')) {
            let names: Vec<&str> = NAMED.iter().map(|(name, _)| *name).collect();
            let message = format!("{text:?} is not a known format; the formats are {}", names.join(", "));
            return Err((message, "write the format itself, as it stands in the server's configuration"));
        }
        // Quotes are escaped in a server's configuration.
        let text = text.replace("\\\"", "\"");
        let mut steps = vec![Step { part: None, after: String::new() }];
        let mut rest = text.as_str();
        while let Some(at) = rest.find(['$', '%']) {
            let (before, variable) = rest.split_at(at);
            add(&mut steps, before);
            let (part, after) = if variable.starts_with('$') { nginx(variable)? } else { apache(variable)? };
            rest = after;
            match part {
                None => add(&mut steps, "%"),
                // Apache's time includes its brackets.
                Some(Part::Time) if variable.starts_with("%t") => {
                    add(&mut steps, "[");
                    steps.push(Step { part: Some(Part::Time), after: "]".to_owned() });
                }
                part => steps.push(Step { part, after: String::new() }),
            }
        }
        add(&mut steps, rest);
        let has = |wanted: &[Part]| steps.iter().any(|step| step.part.is_some_and(|part| wanted.contains(&part)));
        if !has(&[Part::Address, Part::Forwarded]) {
            return Err(("it names no client: $remote_addr, %h or the like".to_owned(), EXAMPLE));
        }
        if !has(&[Part::Time]) {
            return Err(("it names no time: $time_local, $time_iso8601, $msec or %t".to_owned(), EXAMPLE));
        }
        if steps[1..].windows(2).any(|pair| pair[0].after.is_empty()) {
            let message =
                "two variables stand side by side, so that nobody can tell where the first one ends".to_owned();
            return Err((message, "write what stands between them"));
        }
        Ok(Self(steps))
    }

    /// Splits a line, which may start with a syslog header.
    pub(super) fn read<'a>(&self, text: &'a str) -> Result<Line<'a>, Reason> {
        let text = text.trim_end_matches(['\r', '\n']);
        self.take(text).or_else(|reason| {
            let message = without_syslog(text);
            if message.len() < text.len() { self.take(message) } else { Err(reason) }
        })
    }

    fn take<'a>(&self, text: &'a str) -> Result<Line<'a>, Reason> {
        let misfit =
            |part: Part| Reason::from(format!("{} is not where input.log_format has it, or is none", part.name()));
        let mut line = Line::default();
        let (mut address, mut first) = (None, None);
        let mut is_address_wrong = false;
        let first_part = self.0.get(1).and_then(|step| step.part).unwrap_or(Part::Other);
        let mut rest = text.strip_prefix(self.0[0].after.as_str()).ok_or_else(|| misfit(first_part))?;
        for (step, before) in self.0[1..].iter().zip(&self.0) {
            let part = step.part.unwrap_or(Part::Other);
            let is_quoted = before.after.ends_with('"') && step.after.starts_with('"');
            let end = if is_quoted {
                // Include the opening quote, which is the byte before.
                let start = text.len() - rest.len() - 1;
                quoted(&text[start..]).map(|(inner, _)| inner.len())
            } else if step.after.is_empty() {
                Some(rest.len())
            } else if part == Part::Forwarded {
                end_of_list(rest, &step.after)
            } else {
                rest.find(step.after.as_str())
            };
            let value = &rest[..end.ok_or_else(|| misfit(part))?];
            rest = rest[value.len()..].strip_prefix(step.after.as_str()).ok_or_else(|| misfit(part))?;
            let is_given = !matches!(value, "" | "-");
            let fits = match part {
                // Behind a proxy on the same machine there may be no address; the list then has the client.
                Part::Address => {
                    let found = if is_given { host(value) } else { None };
                    is_address_wrong |= is_given && found.is_none();
                    address = found.or(address);
                    true
                }
                Part::Forwarded if is_given => match forwarded(value) {
                    Some((found, "")) => {
                        first = found.or(first);
                        true
                    }
                    _ => false,
                },
                Part::Status => is_status(value),
                Part::Bytes => is_size(value),
                Part::User => value.split(' ').all(is_user),
                Part::Method => !is_given || value.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-'),
                _ => true,
            };
            if !fits {
                return Err(misfit(part));
            }
            match part {
                Part::User => line.user = value,
                Part::Time => line.time = value,
                Part::Request => line.set_request(value),
                Part::Method => line.method = value,
                Part::Target => line.set_target(value),
                Part::Path => line.path = value,
                Part::Query => line.query = value.strip_prefix('?').unwrap_or(value),
                Part::Protocol => line.protocol = value,
                Part::Status => line.status = value,
                Part::Bytes => line.bytes = value,
                Part::Referrer => line.referrer = value,
                Part::Agent => line.agent = value,
                Part::Address | Part::Forwarded | Part::Other => {}
            }
        }
        if !rest.trim().is_empty() {
            return Err("it goes on behind the end of input.log_format".into());
        }
        line.address = match first.or(address) {
            Some(client) => client,
            None if is_address_wrong => return Err(misfit(Part::Address)),
            None => return Err("the client's address is not given".into()),
        };
        Ok(line)
    }
}

/// The format inside a directive of a server's configuration, `log_format name 'one part' 'another';` or `LogFormat "…"
/// name`; the text itself if it is not a directive.
fn without_directive(text: &str) -> Result<Cow<'_, str>, FormatFault> {
    const NEXT: &str = "write what stands in quotes there, without the directive and the name";
    let broken = || ("the directive cannot be read".to_owned(), NEXT);
    let (directive, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let rest = rest.trim();
    if directive == "log_format" {
        let (_, rest) = rest.split_once(char::is_whitespace).ok_or_else(broken)?;
        let rest = rest.trim_start();
        let rest = match rest.strip_prefix("escape=") {
            Some(escape) => escape.split_once(char::is_whitespace).ok_or_else(broken)?.1.trim_start(),
            None => rest,
        };
        return parts_of_nginx(rest).ok_or_else(broken);
    }
    if directive.eq_ignore_ascii_case("LogFormat") {
        let (format, _) = quoted(rest).ok_or_else(broken)?;
        return Ok(format.into());
    }
    if directive.eq_ignore_ascii_case("CustomLog") || directive == "access_log" {
        let message = format!("{directive} says where a log goes, and how its lines are made only by a name");
        return Err((message, "write the format that LogFormat or log_format declares under that name"));
    }
    // nginx's quoted parts without the directive.
    if text.starts_with('\'') && text.trim_end_matches(';').trim_end().ends_with('\'') {
        return parts_of_nginx(text).ok_or_else(broken);
    }
    Ok(text.into())
}

/// The joined parts of an nginx format: quoted either way, or unquoted up to the semicolon.
fn parts_of_nginx(text: &str) -> Option<Cow<'_, str>> {
    if !text.starts_with(['\'', '"']) {
        return Some(text.trim_end_matches(';').trim_end().into());
    }
    let mut joined = String::new();
    let mut rest = text;
    while let Some(quote) = rest.chars().next().filter(|quote| matches!(quote, '\'' | '"')) {
        let mut escaped = false;
        let end = rest[1..].find(|letter| {
            let ends = letter == quote && !escaped;
            escaped = letter == '\\' && !escaped;
            ends
        })?;
        joined.push_str(&rest[1..=end]);
        rest = rest[end + 2..].trim_start();
    }
    matches!(rest.trim(), "" | ";").then_some(joined.into())
}

/// Appends to the text after the last variable.
fn add(steps: &mut [Step], text: &str) {
    if let Some(step) = steps.last_mut() {
        step.after.push_str(text);
    }
}

/// Where a list of addresses ends: at the text that follows it, ignoring spaces after commas.
fn end_of_list(text: &str, after: &str) -> Option<usize> {
    text.match_indices(after).map(|(at, _)| at).find(|at| !text[..*at].ends_with(','))
}

/// A variable of nginx, `$name` or `${name}`, and the rest of the text.
fn nginx(text: &str) -> Result<(Option<Part>, &str), FormatFault> {
    let name = &text[1..];
    if let Some(inner) = name.strip_prefix('{') {
        let (name, rest) = inner.split_once('}').ok_or_else(|| ("a ${ without its }".to_owned(), EXAMPLE))?;
        return Ok((Some(Part::of_nginx(name)), rest));
    }
    let end = name.find(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_')).unwrap_or(name.len());
    if end == 0 {
        return Err(("a $ without a name".to_owned(), EXAMPLE));
    }
    Ok((Some(Part::of_nginx(&name[..end])), &name[end..]))
}

/// A directive of Apache, `%…` with conditions and an argument in braces, and the rest of the text; `None` for `%%`.
fn apache(text: &str) -> Result<(Option<Part>, &str), FormatFault> {
    let rest = &text[1..];
    if let Some(rest) = rest.strip_prefix('%') {
        return Ok((None, rest));
    }
    let rest =
        rest.trim_start_matches(|letter: char| letter.is_ascii_digit() || matches!(letter, '!' | ',' | '<' | '>'));
    let (argument, rest) = match rest.strip_prefix('{') {
        Some(inner) => inner.split_once('}').ok_or_else(|| ("a %{ without its }".to_owned(), EXAMPLE))?,
        None => ("", rest),
    };
    // Two letters after ^: trailers.
    let length = if rest.starts_with('^') { 3 } else { 1 };
    let letter = rest.get(..length).filter(|letter| letter.ends_with(|letter: char| letter.is_ascii_alphabetic()));
    let letter = letter.ok_or_else(|| ("a % without a letter".to_owned(), EXAMPLE))?;
    let Some(part) = Part::of_apache(letter, argument) else {
        return Err((format!("the time %{{{argument}}}t is not read"), "write %t, %{sec}t, or $time_iso8601"));
    };
    Ok((Some(part), &rest[letter.len()..]))
}
