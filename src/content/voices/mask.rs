//! Personal data in texts, masked.
//!
//! Owns the patterns: links, e-mail addresses, IBANs and card numbers with their check digits, phone numbers, names with
//! an @, IP addresses, postal addresses in the English and German form, and names after the words that introduce them.
//! Guarantees: masking a masked text changes nothing. Limits: a name without introduction or title is not recognised,
//! nor is an address in another form. Therefore a word reaches a theme only if several people used it.

use crate::content::words::MASK;
use regex::{Captures, Regex};
use std::{borrow::Cow, sync::LazyLock};

/// What was masked. The order is that of the patterns: what holds another one comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PersonalData {
    /// An e-mail address.
    Email,
    /// A link.
    Link,
    /// A bank account.
    Iban,
    /// The number of a payment card.
    Card,
    /// An IP address.
    Ip,
    /// A postal address, or its street with the number.
    Address,
    /// A phone number.
    Phone,
    /// A name on a platform, such as `@anna`.
    Handle,
    /// A person's name.
    Name,
}

impl PersonalData {
    /// What stands in the text instead.
    pub fn word(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Link => "link",
            Self::Iban => "iban",
            Self::Card => "card",
            Self::Ip => "ip",
            Self::Address => "address",
            Self::Phone => "phone",
            Self::Handle => "handle",
            Self::Name => "name",
        }
    }
}

/// Each pattern with what it finds. Group 1, if there is one, is kept.
static PATTERNS: LazyLock<Vec<(PersonalData, Regex)>> = LazyLock::new(|| {
    let patterns = [
        (
            PersonalData::Email,
            r"(?i)[\w.+%'-]+(?:@|\s?[\[(](?:at|ät)[\])]\s?)[\w-]+(?:(?:\.|\s?[\[(](?:dot|punkt)[\])]\s?)[\w-]+)+",
        ),
        (PersonalData::Link, r"(?i)\b(?:https?://|ftp://|www\.)[^\s<>‹›]+"),
        (
            PersonalData::Link,
            r"(?i)\b(?:[a-z0-9-]+\.)+(?:com|net|org|info|biz|shop|store|app|dev|io|me|ly|eu|de|at|ch|fr|es|it|nl|pl|uk|us|ru|cn|xyz|online|site|example)\b(?:/[^\s<>‹›]*)?",
        ),
        (PersonalData::Iban, r"(?i)\b[a-z]{2}\d{2}(?: ?[a-z0-9]{4}){2,7}(?: ?[a-z0-9]{1,4})?\b"),
        (PersonalData::Card, r"\b\d(?:[ -]?\d){12,18}\b"),
        (PersonalData::Ip, r"\b(?:\d{1,3}\.){3}\d{1,3}\b"),
        (PersonalData::Ip, r"(?i)\b(?:[0-9a-f]{1,4}:){4,7}(?::|[0-9a-f]{1,4})"),
        // 12 Main Street, 10 Downing St.
        (
            PersonalData::Address,
            r"\b\d{1,5}[a-zA-Z]?\s+(?:\p{Lu}[\p{L}'.-]+\s+){1,3}(?:Street|St|Road|Rd|Avenue|Ave|Lane|Ln|Drive|Dr|Boulevard|Blvd|Court|Square|Way)\b\.?(?:,?\s+(?:\p{Lu}[\p{L}-]+\s+)?(?:[A-Z]{2}\s+)?\d{5}\b)?",
        ),
        // Hauptstraße 12a, 10115 Berlin
        (
            PersonalData::Address,
            r"(?i)\b\p{L}[\p{L}.-]*\s?(?:straße|strasse|str\.|weg|allee|platz|gasse|ring|ufer|damm)\s+\d{1,4}(?:\s?[a-z])?\b(?:,?\s+\d{4,5}\s+\p{L}[\p{L}-]+)?",
        ),
        (PersonalData::Phone, r"\b\d{3}[\s.-]\d{3}[\s.-]\d{4}\b"),
        (PersonalData::Phone, r"(?:\+|\b00)\d{1,3}[\s./-]?(?:\(0?\d{1,5}\)[\s./-]?)?\d{1,5}(?:[\s./-]?\d{2,5}){1,5}\b"),
        (PersonalData::Phone, r"\(0?\d{2,5}\)[\s./-]?\d{2,5}(?:[\s./-]?\d{2,5}){1,4}\b"),
        (PersonalData::Phone, r"\b0\d{2,5}[\s./-]?\d{2,8}(?:[\s./-]?\d{2,5}){0,4}\b"),
        (PersonalData::Handle, r"(^|[^\w@])@\w[\w.-]+"),
        (
            PersonalData::Name,
            r"((?i:\b(?:my name is|i am called|call me|mein name ist|ich hei(?:ß|ss)e|je m'appelle|me llamo|mi chiamo|ik heet)\s+))\p{L}[\p{L}'-]+(?:\s+\p{Lu}[\p{L}'-]+)?",
        ),
        (
            PersonalData::Name,
            r"(\b(?:Mr|Mrs|Ms|Dr|Prof|Herrn?|Frau|Mme|Señora?)\b\.?\s+)\p{Lu}[\p{L}'-]+(?:\s+\p{Lu}[\p{L}'-]+)?",
        ),
        (
            PersonalData::Name,
            r"((?i:\b(?:kind regards|best regards|regards|cheers|yours|viele gr(?:ü|ue)(?:ß|ss)e|liebe gr(?:ü|ue)(?:ß|ss)e|gru(?:ß|ss)|lg|vg|mfg)),?\s+)\p{Lu}[\p{L}'-]+(?:\s+\p{Lu}[\p{L}'-]+)?\s*$",
        ),
    ];
    patterns.into_iter().map(|(kind, pattern)| (kind, Regex::new(pattern).expect("the patterns are tested"))).collect()
});

/// Masks personal data, and calls `found` for each place.
pub fn mask(text: &str, mut found: impl FnMut(PersonalData)) -> Cow<'_, str> {
    let mut masked = Cow::Borrowed(text);
    for (kind, pattern) in PATTERNS.iter() {
        if !pattern.is_match(&masked) {
            continue;
        }
        let replaced = pattern.replace_all(&masked, |place: &Captures<'_>| {
            if !is_real(*kind, &place[0]) {
                return place[0].to_owned();
            }
            found(*kind);
            let kept = place.get(1).map_or("", |it| it.as_str());
            format!("{kept}{}{}{}", MASK[0], kind.word(), MASK[1])
        });
        masked = Cow::Owned(replaced.into_owned());
    }
    masked
}

/// Whether what has the form of it also has its check digits.
fn is_real(kind: PersonalData, text: &str) -> bool {
    match kind {
        PersonalData::Iban => is_iban(text),
        PersonalData::Card => is_card(text),
        PersonalData::Ip => text.contains(':') || text.split('.').all(|part| part.parse::<u8>().is_ok()),
        _ => true,
    }
}

/// ISO 13616: the number, with its first four characters at the end and letters as 10 to 35, is 1 modulo 97.
fn is_iban(text: &str) -> bool {
    let all: Vec<char> = text.chars().filter(|it| !it.is_whitespace()).collect();
    let turned = all.iter().skip(4).chain(all.iter().take(4));
    let rest = turned.filter_map(|it| it.to_digit(36)).fold(0, |rest, digit| {
        let shift = if digit > 9 { 100 } else { 10 };
        (rest * shift + digit) % 97
    });
    (15..=34).contains(&all.len()) && rest == 1
}

/// The check digit of ISO/IEC 7812 (Luhn).
fn is_card(text: &str) -> bool {
    let digits: Vec<u32> = text.chars().filter_map(|it| it.to_digit(10)).collect();
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| if place.is_multiple_of(2) { *digit } else { digit * 2 / 10 + digit * 2 % 10 })
        .sum();
    (13..=19).contains(&digits.len()) && sum.is_multiple_of(10) && digits.iter().any(|it| *it != digits[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts with what has to become of them.
    const CASES: [(&str, &str); 48] = [
        ("mail anna.s+x@example.co.uk now", "mail ‹email› now"),
        ("ANNA@EXAMPLE.DE", "‹email›"),
        ("anna [at] example [dot] com", "‹email›"),
        ("anna(ät)beispiel(punkt)de", "‹email›"),
        ("see https://a.example/x?y=1#z, ok", "see ‹link› ok"),
        ("www.shop.de/angebot", "‹link›"),
        ("buy at cheap-stuff.xyz/now today", "buy at ‹link› today"),
        ("bit.ly/3abc", "‹link›"),
        ("a mail to x@y.de and www.y.de", "a mail to ‹email› and ‹link›"),
        ("DE89 3704 0044 0532 0130 00", "‹iban›"),
        ("konto DE89370400440532013000.", "konto ‹iban›."),
        ("GB29 NWBK 6016 1331 9268 19", "‹iban›"),
        ("fr14 2004 1010 0505 0001 3m02 606", "‹iban›"),
        // Not an IBAN: the check digits are wrong, but the rest looks like nothing else either.
        ("DE88370400440532013000", "DE88370400440532013000"),
        ("card 4111 1111 1111 1111 thanks", "card ‹card› thanks"),
        ("5500-0000-0000-0004", "‹card›"),
        ("378282246310005", "‹card›"),
        ("order 4111111111111112", "order 4111111111111112"),
        ("from 192.168.10.254", "from ‹ip›"),
        ("2001:db8:0:0:1:0:0:1", "‹ip›"),
        ("version 1.2.3.999", "version 1.2.3.999"),
        ("I live at 12 Main Street", "I live at ‹address›"),
        ("10 Downing St. is mine", "‹address› is mine"),
        ("1600 Pennsylvania Avenue, Washington DC 20500", "‹address›"),
        ("Hauptstraße 12a, 10115 Berlin", "‹address›"),
        ("Wohne in der Musterstr. 5", "Wohne in der ‹address›"),
        ("am Kastanienweg 7 links", "am ‹address› links"),
        ("call +49 170 1234567", "call ‹phone›"),
        ("+1 (555) 010-9999", "‹phone›"),
        ("0049-30-1234567", "‹phone›"),
        ("030/1234567 abends", "‹phone› abends"),
        ("0170 12 34 56 78", "‹phone›"),
        ("555-010-9999", "‹phone›"),
        ("(030) 123 456 78", "‹phone›"),
        ("thanks @anna_b!", "thanks ‹handle›!"),
        ("@max", "‹handle›"),
        ("My name is Anna Schmidt and", "My name is ‹name› and"),
        ("ich heiße jonas", "ich heiße ‹name›"),
        ("Frau Müller war nett", "Frau ‹name› war nett"),
        ("ask Dr. Emma Jones about it", "ask Dr. ‹name› about it"),
        ("Love it. Regards, Tom", "Love it. Regards, ‹name›"),
        ("Top! Liebe Grüße Sabine", "Top! Liebe Grüße ‹name›"),
        // What must stay.
        ("the battery lasts 30 hours for 1,299.00 EUR", "the battery lasts 30 hours for 1,299.00 EUR"),
        ("10 out of 10, bought 2026-03-01", "10 out of 10, bought 2026-03-01"),
        ("costs 20@5 each", "costs 20@5 each"),
        ("5.5 inch, 2.4 GHz", "5.5 inch, 2.4 GHz"),
        ("the way 3 people said", "the way 3 people said"),
        ("i am happy with the end.of it", "i am happy with the end.of it"),
    ];

    #[test]
    fn personal_data_are_masked_and_nothing_else() {
        for (text, expected) in CASES {
            let mut count = 0;
            let masked = mask(text, |_| count += 1);
            assert_eq!(masked, expected, "{text:?}");
            assert_eq!(count, expected.matches('‹').count(), "{text:?}");
            assert_eq!(mask(&masked, |kind| panic!("{kind:?} in {masked:?}")), masked, "masking again changes nothing");
        }
    }

    #[test]
    fn a_megabyte_is_masked_in_time_that_grows_with_its_length() {
        for part in ["a.", "0 ", "1", "@a", "Xx ", "a@", "12 A b "] {
            let text = part.repeat((1 << 20) / part.len());
            let began = std::time::Instant::now();
            mask(&text, |_| {});
            assert!(began.elapsed().as_secs() < 20, "{part:?} took {:?}", began.elapsed());
        }
    }
}
