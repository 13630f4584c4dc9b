//! Addresses in fields, reduced to their network: an IPv4 address loses its last byte, and an IPv6 address all but its first
//! 48 bits, which a provider gives to one site.
//!
//! A text is looked at if its first word is an address, or what a proxy writes in place of one: `unknown`, `-` or a name that
//! starts with an underscore. Then each address in it is reduced, so that lists as in X-Forwarded-For and Forwarded are, with
//! ports, brackets, quotes and zones or without. Other texts are left alone: a page's address may have a server's.
//! Limits: a version of four numbers, such as `10.4.1.7`, looks like an address. Nothing is allocated once the buffer has
//! grown.

use super::access_log::host;
use std::{
    fmt::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// A text whose addresses are networks. `None` if it has none.
pub(super) fn truncated<'a>(text: &str, buffer: &'a mut String) -> Option<&'a str> {
    if !text.contains(['.', ':']) {
        return None;
    }
    let text = text.trim();
    // The sides of a word that may be an address.
    let ends = |letter: char| letter.is_whitespace() || matches!(letter, ',' | ';' | '"' | '\'');
    let first = text.split(ends).find(|word| !word.is_empty())?;
    if address_in(first).is_none() && !is_hidden(unnamed(first)) {
        return None;
    }
    buffer.clear();
    let mut found = false;
    for part in text.split_inclusive(ends) {
        let word = part.trim_end_matches(ends);
        match address_in(word) {
            Some(address) => {
                found = true;
                // The name of the parameter stays; a port goes.
                let name = &word[..word.len() - unnamed(word).len()];
                write!(buffer, "{name}{}", network(address)).ok()?;
            }
            None => buffer.push_str(word),
        }
        buffer.push_str(&part[word.len()..]);
    }
    found.then_some(buffer)
}

/// A word without the name of a parameter of the Forwarded header.
fn unnamed(word: &str) -> &str {
    match word.split_once('=') {
        Some((name, value)) if ["for", "by"].iter().any(|known| name.eq_ignore_ascii_case(known)) => value,
        _ => word,
    }
}

/// Whether a proxy writes this in place of an address. An empty value was in quotes.
fn is_hidden(word: &str) -> bool {
    word.is_empty() || word == "-" || word.starts_with('_') || word.eq_ignore_ascii_case("unknown")
}

/// The address in a word: with a port, brackets, a zone, a prefix length or a dot at its end, or without.
fn address_in(word: &str) -> Option<IpAddr> {
    let word = unnamed(word);
    if !word.contains(['.', ':']) {
        return None;
    }
    let word = word.strip_suffix('.').unwrap_or(word);
    let word = word.split_once('/').filter(|(_, bits)| bits.parse::<u8>().is_ok()).map_or(word, |(address, _)| address);
    host(word).and_then(|host| host.parse().ok()).or_else(|| padded(word))
}

/// An IPv4 address with zeros before its numbers, which are decimal, as logs pad them. The standard parser refuses them.
fn padded(word: &str) -> Option<IpAddr> {
    let address = word.split_once(':').map_or(word, |(address, _)| address);
    let mut parts = address.split('.');
    let mut octet = || {
        let part = parts.next().filter(|part| part.len() <= 3 && part.bytes().all(|byte| byte.is_ascii_digit()))?;
        part.parse().ok()
    };
    let octets = [octet()?, octet()?, octet()?, octet()?];
    parts.next().is_none().then(|| Ipv4Addr::from(octets).into())
}

/// The network of an address.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            Ipv4Addr::new(a, b, c, 0).into()
        }
        IpAddr::V6(address) => {
            let [a, b, c, ..] = address.segments();
            // 6to4 has an IPv4 address after its first 16 bits.
            let c = if a == 0x2002 { c & 0xff00 } else { c };
            Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lose_what_names_a_household_and_other_texts_stay() {
        for (text, expected) in [
            ("203.0.113.77", Some("203.0.113.0")),
            ("203.0.113.77:51442", Some("203.0.113.0")),
            (" 203.0.113.77 ", Some("203.0.113.0")),
            ("203.0.113.77, 198.51.100.9", Some("203.0.113.0, 198.51.100.0")),
            ("2001:db8:85a3:8d3:1319:8a2e:370:7348", Some("2001:db8:85a3::")),
            ("[2001:db8:85a3:8d3::1]:443", Some("2001:db8:85a3::")),
            ("2001:DB8:85A3::1%eth0", Some("2001:db8:85a3::")),
            ("::ffff:203.0.113.77", Some("203.0.113.0")),
            ("fe80::1", Some("fe80::")),
            ("203.0.113", None),
            ("203.0.113.256", None),
            ("203.0.113.77, unknown", Some("203.0.113.0, unknown")),
            ("unknown, 203.0.113.77", Some("unknown, 203.0.113.0")),
            ("_proxy,203.0.113.77:80,[2001:db8:85a3:8d3::1]", Some("_proxy,203.0.113.0,2001:db8:85a3::")),
            ("203.0.113.77 198.51.100.9; 192.0.2.3", Some("203.0.113.0 198.51.100.0; 192.0.2.0")),
            ("203.0.113.77 (mobile)", Some("203.0.113.0 (mobile)")),
            ("for=203.0.113.77;proto=https;by=198.51.100.9", Some("for=203.0.113.0;proto=https;by=198.51.100.0")),
            ("For=\"[2001:db8:85a3:8d3::1]:47011\"", Some("For=\"2001:db8:85a3::\"")),
            ("for=unknown, for=203.0.113.77", Some("for=unknown, for=203.0.113.0")),
            ("\"203.0.113.77\"", Some("\"203.0.113.0\"")),
            ("'203.0.113.77'", Some("'203.0.113.0'")),
            ("203.0.113.77.", Some("203.0.113.0")),
            ("203.0.113.77/32", Some("203.0.113.0")),
            ("2001:db8:85a3:8d3::1/128", Some("2001:db8:85a3::")),
            ("203.000.113.077", Some("203.0.113.0")),
            ("\t203.0.113.77\r\n", Some("203.0.113.0")),
            ("::ffff:cb00:714d", Some("203.0.113.0")),
            ("2002:cb00:714d::1", Some("2002:cb00:7100::")),
            ("http://203.0.113.77/", None),
            ("Mozilla/5.0 (203.0.113.77)", None),
            ("unknown.example", None),
            ("1.2.3", None),
            ("example.com", None),
            ("12:30", None),
            ("de", None),
            ("", None),
        ] {
            assert_eq!(truncated(text, &mut String::new()), expected, "{text:?}");
        }
        // As long as a hostile proxy likes.
        let long = vec!["203.0.113.77"; 1_000].join(", ");
        assert_eq!(truncated(&long, &mut String::new()), Some(&*vec!["203.0.113.0"; 1_000].join(", ")));
    }
}
