//! Addresses in fields, reduced to their network: an IPv4 address loses its last byte, and an IPv6 address all but its first
//! 48 bits, which a provider gives to one site.
//!
//! An address is found as a word: between spaces, commas and semicolons, as in lists of X-Forwarded-For and Forwarded, with a port,
//! a zone or a prefix length, in brackets or quotes, with zeros in front, in hexadecimal bytes, and with a dot behind it. What
//! stands beside an address in its word is dropped; other words stay. Limits: a version of four numbers, such as `10.4.1.7`, looks
//! like an address. One number alone, such as `3405803853`, does not, nor does an address inside of a longer word, such as a URL.
//! Nothing is allocated once the buffer has grown.

use std::{
    fmt::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// What ends a word.
const BETWEEN: [char; 5] = [' ', ',', ';', '\t', '\n'];

/// What may stand around an address.
const AROUND: [char; 6] = ['"', '\'', '(', ')', '<', '>'];

/// The text with its addresses reduced to their networks. `None` if it has no address.
pub(super) fn truncated<'a>(text: &str, buffer: &'a mut String) -> Option<&'a str> {
    // An address has three dots or two colons, and most texts have neither.
    let count = |letter| text.bytes().filter(|byte| *byte == letter).count();
    if count(b'.') < 3 && count(b':') < 2 {
        return None;
    }
    buffer.clear();
    let mut is_found = false;
    for part in text.split_inclusive(BETWEEN) {
        let word = part.trim_end_matches(BETWEEN);
        match address(word) {
            Some(address) => {
                is_found = true;
                write!(buffer, "{}", network(address)).ok()?;
            }
            None => buffer.push_str(word),
        }
        buffer.push_str(&part[word.len()..]);
    }
    is_found.then_some(buffer.trim())
}

/// The address that a word is.
fn address(word: &str) -> Option<IpAddr> {
    let word = word.trim_matches(AROUND);
    let word = word.split_once('=').filter(|(name, _)| is_parameter(name)).map_or(word, |(_, value)| value);
    let word = word.trim_matches(AROUND);
    let may_begin = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'[');
    if !word.as_bytes().first().is_some_and(may_begin) {
        return None;
    }
    let inner = word.strip_prefix('[').map_or(word, |word| word.split(']').next().unwrap_or(word));
    let bare = inner.split(['%', '/', '#']).next().unwrap_or(inner).trim_end_matches('.');
    alone(bare).or_else(|| {
        // With a port, or something else in its place.
        let (host, _) = bare.rsplit_once(':')?;
        alone(host.trim_end_matches('.'))
    })
}

/// Whether it is a parameter of the header Forwarded.
fn is_parameter(name: &str) -> bool {
    ["for", "by"].iter().any(|parameter| name.eq_ignore_ascii_case(parameter))
}

fn alone(text: &str) -> Option<IpAddr> {
    text.parse().ok().or_else(|| four_numbers(text).map(IpAddr::V4))
}

/// An IPv4 address with zeros in front of its numbers, or in hexadecimal ones. Zeros do not make them octal.
fn four_numbers(text: &str) -> Option<Ipv4Addr> {
    let mut bytes = [0; 4];
    let mut parts = text.split('.');
    for byte in &mut bytes {
        let part = parts.next()?;
        let hexadecimal = part.strip_prefix("0x").or_else(|| part.strip_prefix("0X"));
        let (digits, radix) = hexadecimal.map_or((part, 10), |digits| (digits, 16));
        *byte = u8::from_str_radix(digits, radix).ok().filter(|_| !digits.starts_with('+'))?;
    }
    parts.next().is_none().then(|| bytes.into())
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
            ("203.0.113.77, unknown", Some("203.0.113.0, unknown")),
            ("unknown, 203.0.113.77", Some("unknown, 203.0.113.0")),
            ("203.0.113.77 198.51.100.9", Some("203.0.113.0 198.51.100.0")),
            ("203.0.113.77.", Some("203.0.113.0")),
            ("[203.0.113.77]:80", Some("203.0.113.0")),
            ("203.0.113.77:port", Some("203.0.113.0")),
            ("203.0.113.77/32", Some("203.0.113.0")),
            ("203.000.113.077", Some("203.0.113.0")),
            ("0xcb.0x0.0x71.0x4D", Some("203.0.113.0")),
            ("\"203.0.113.77\"", Some("203.0.113.0")),
            (
                "for=203.0.113.77;proto=http, For=\"[2001:db8:85a3:8d3::1]:443\"",
                Some("203.0.113.0;proto=http, 2001:db8:85a3::"),
            ),
            ("[::ffff:203.0.113.77]:443", Some("203.0.113.0")),
            ("::ffff:203.0.113.77:443", Some("203.0.113.0")),
            ("::ffff:cb00:714d", Some("203.0.113.0")),
            ("[fe80::1%25eth0]", Some("fe80::")),
            ("2001:db8:85a3::1/64", Some("2001:db8:85a3::")),
            ("2001:db8:85a3:8d3:1319:8a2e:370:7348:443", Some("2001:db8:85a3::")),
            ("2002:cb00:714d::1", Some("2002:cb00:7100::")),
            ("203.0.113", None),
            ("203.0.113.256", None),
            ("1.2.3.4.5", None),
            ("3405803853", None),
            ("https://shop.example/a.b.c?t=12:30:15", None),
            ("12:30:15", None),
            ("2026-06-01T12:30:15.5", None),
            ("example.com", None),
            ("12:30", None),
            ("de", None),
            ("", None),
        ] {
            assert_eq!(truncated(text, &mut String::new()), expected, "{text:?}");
        }
        let long = ["203.0.113.77"; 100].join(", ");
        assert!(truncated(&long, &mut String::new()).is_some_and(|text| !text.contains("77")));
    }
}
