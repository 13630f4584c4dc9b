//! Addresses in a line: finding the client's, and redacting them.

use super::is_number;
use std::{
    io::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// Whether a text can be a user name. An address, or a host with a port, shows that the log has another format.
pub(in super::super) fn is_user(text: &str) -> bool {
    let marks = |letter: char| matches!(letter, ',' | ';' | '(' | ')' | '<' | '>' | '"' | '\'');
    !is_host_and_port(text) && !text.split(marks).any(|part| is_address(part) || is_bracketed(part))
}

/// The address in a word, with a port or without.
pub(super) fn address_in(word: &str) -> Option<IpAddr> {
    host(word)?.parse().ok()
}

/// Whether a word is an address in brackets, with a port or without.
pub(super) fn is_bracketed(word: &str) -> bool {
    word.starts_with('[') && address_in(word).is_some()
}

/// Whether an address can belong to an outside visitor, as opposed to a private network, this machine or a provider.
pub(super) fn is_public(address: IpAddr) -> bool {
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

/// The client in a list from X-Forwarded-For, if it names one, and the rest of the text. The client is the first public
/// address, or the first address if none is public.
pub(in super::super) fn forwarded(text: &str) -> Option<(Option<&str>, &str)> {
    let (mut first, mut public) = (None, None);
    let mut rest = text;
    loop {
        let (word, after) = rest.split_once(' ').unwrap_or((rest, ""));
        let ends = !word.ends_with(',');
        for part in word.split(',').filter(|part| !part.is_empty()) {
            let address = host(part).filter(|host| host.parse::<IpAddr>().is_ok());
            // A proxy may hide its client as "unknown" or behind a name that starts with an underscore.
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

/// The host of a client: an address or a name, with or without a port. Words for an unknown client are rejected,
/// because they would make all visitors one user.
pub(in super::super) fn host(text: &str) -> Option<&str> {
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

/// Whether a text is a host name.
pub(super) fn is_name(text: &str) -> bool {
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

/// Whether a text is a host with a server port. An address with a client port does not count: some proxies write
/// clients like that.
pub(super) fn is_host_and_port(text: &str) -> bool {
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

/// The canonical text of an address. An IPv6 address can be written in several ways, and can embed an IPv4 address.
pub(super) fn canonical<'a>(address: &'a str, buffer: &'a mut [u8; 64]) -> &'a [u8] {
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

/// Redacts a line or a key: replaces each word before the time, which include the client and the user, and every
/// address with a dash.
pub(in super::super) fn without_addresses(bytes: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(bytes);
    // A host name may stand in place of the client's address, and in a rejected line its position is unknown.
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
