//! One spelling for each e-mail address and phone number, as partners in advertising write them before they hash: trim and
//! lower case; the digits of E.164.
//!
//! Limits: the plan of each country's numbers is not known here, so a number in national form loses one leading zero (in
//! Italy and San Marino, where it belongs to the number, none) and, with country code 1, a leading 1. Other prefixes, such as
//! Russia's 8 or Hungary's 06, stay: write such numbers with their country code. A table of all plans would be a megabyte,
//! and would allocate for each event.

use super::NotNormal;

/// The most digits of E.164, and the fewest that are in use.
const DIGITS: std::ops::RangeInclusive<usize> = 7..=15;

/// Country codes of numbers that keep their leading zero.
const KEEPS_ZERO: [&str; 2] = ["39", "378"];

/// Writes an e-mail address without blanks around it, in lower case.
pub(super) fn email(id: &str, to: &mut String) -> Result<(), NotNormal> {
    let id = id.trim();
    let (name, domain) = id.rsplit_once('@').unwrap_or_default();
    if name.is_empty() || domain.is_empty() || id.contains(char::is_whitespace) {
        return Err(NotNormal("an e-mail address"));
    }
    if id.is_ascii() {
        to.push_str(id);
        to.make_ascii_lowercase();
    } else {
        to.push_str(&id.to_lowercase());
    }
    Ok(())
}

/// Writes a phone number as its country code and its number, in digits.
pub(super) fn phone(id: &str, country_code: Option<&str>, to: &mut String) -> Result<(), NotNormal> {
    const EXPECTED: NotNormal = NotNormal("a phone number");
    let id = id.trim();
    let (is_international, rest) = match id.strip_prefix('+') {
        Some(rest) => (true, rest),
        None => (false, id),
    };
    // The zero of "+49 (0)30 123" is only dialled within the country.
    let (front, back) = rest.split_once("(0)").filter(|_| is_international).unwrap_or((rest, ""));
    for letter in front.chars().chain(back.chars()) {
        match letter {
            '0'..='9' => to.push(letter),
            ' ' | '\u{a0}' | '-' | '.' | '/' | '(' | ')' => {}
            _ => return Err(EXPECTED),
        }
    }
    let is_prefixed = !is_international && to.starts_with("00");
    if is_prefixed {
        to.drain(..2);
    }
    if let Some(code) = country_code.filter(|_| !is_international && !is_prefixed) {
        let is_trunk = (to.starts_with('0') && !KEEPS_ZERO.contains(&code))
            || (code == "1" && to.len() == 11 && to.starts_with('1'));
        if is_trunk {
            to.remove(0);
        }
        to.insert_str(0, code);
    }
    if DIGITS.contains(&to.len()) && !to.starts_with('0') { Ok(()) } else { Err(EXPECTED) }
}
