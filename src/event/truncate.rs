//! Addresses in fields, reduced to their network: an IPv4 address loses its last byte, and an IPv6 address all but its first
//! 48 bits, which a provider gives to one site.
//!
//! A text is an address only as a whole: one, or a list with commas as in X-Forwarded-For, each with a port or without.
//! Limits: a version of four numbers, such as `10.4.1.7`, looks like an address. Nothing is allocated once the buffer has
//! grown.

use super::access_log::host;
use std::{
    fmt::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// The longest text that is looked at: a list of a few addresses.
const BYTES_MAX: usize = 256;

/// The networks of a text that is an address or a list of some. `None` if it is anything else.
pub(super) fn truncated<'a>(text: &str, buffer: &'a mut String) -> Option<&'a str> {
    let may_begin = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'[' | b' ');
    if text.len() > BYTES_MAX || !text.as_bytes().first().is_some_and(may_begin) || !text.contains(['.', ':']) {
        return None;
    }
    buffer.clear();
    for (place, word) in text.split(',').enumerate() {
        let address = host(word.trim())?.parse().ok()?;
        let comma = if place > 0 { ", " } else { "" };
        write!(buffer, "{comma}{}", network(address)).ok()?;
    }
    Some(buffer)
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
            ("203.0.113.77, unknown", None),
            ("example.com", None),
            ("12:30", None),
            ("de", None),
            ("", None),
        ] {
            assert_eq!(truncated(text, &mut String::new()), expected, "{text:?}");
        }
    }
}
