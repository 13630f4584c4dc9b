//! Numbers as written, handled as decimal digits, so that none is lost in a float.
//!
//! An id may be a number of any length. Its text is exact: `18446744073709551617` stays itself, and so does
//! `1234567890.1234567890`. An integer has one text however it is written: 12345, 12345.0 and 1.2345e4 are all `12345`,
//! and -0 is `0`.

use std::fmt::Write;

/// A number with an exponent is written out up to this many digits; a longer one keeps its exponent.
const DIGITS_MAX: usize = 128;

/// Exponents are clamped to this: far beyond every meaningful number, and small enough that sums of two do not
/// overflow.
const EXPONENT_MAX: i64 = 1_000_000_000;

/// A number in decimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Decimal<'a> {
    negative: bool,
    /// The digits before the decimal point.
    whole: &'a str,
    /// The digits after the decimal point.
    fraction: &'a str,
    /// The power of ten, if one is given.
    exponent: Option<i64>,
}

impl<'a> Decimal<'a> {
    /// Splits a number into its parts; `None` if the text is not a number.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let (negative, text) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let (digits, exponent) = match text.split_once(['e', 'E']) {
            Some((digits, exponent)) => (digits, Some(power(exponent)?)),
            None => (text, None),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let is_number = !(whole.is_empty() && fraction.is_empty()) && are_digits(whole) && are_digits(fraction);
        is_number.then_some(Self { negative, whole, fraction, exponent })
    }

    /// Whether it is written without an exponent and without a non-zero fraction.
    pub(super) fn is_whole(&self) -> bool {
        self.exponent.is_none() && self.fraction.bytes().all(|digit| digit == b'0')
    }

    /// The number times a power of ten, rounded half away from zero; saturates at the bounds of `i64`.
    pub(super) fn scaled(&self, power: i64) -> i64 {
        let mut left = self.exponent.unwrap_or_default().saturating_add(power).saturating_add(self.whole.len() as i64);
        let mut sum = 0_i128;
        let mut digits = self.whole.bytes().chain(self.fraction.bytes());
        let limit = i128::from(i64::MAX) * 10;
        loop {
            match digits.next() {
                Some(digit) if left > 0 => sum = sum * 10 + i128::from(digit - b'0'),
                None if left > 0 && sum > 0 => sum *= 10,
                Some(digit) if left == 0 => {
                    sum += i128::from(digit >= b'5');
                    break;
                }
                _ => break,
            }
            if sum > limit {
                break;
            }
            left -= 1;
        }
        let sum = i64::try_from(sum).unwrap_or(i64::MAX);
        match (self.negative, sum) {
            (true, i64::MAX) => i64::MIN,
            (true, sum) => -sum,
            (false, sum) => sum,
        }
    }

    /// Writes the text of the number as used in ids.
    fn write(&self, to: &mut String) {
        let Self { negative, whole, fraction, exponent } = *self;
        to.clear();
        let sign = if negative { "-" } else { "" };
        let is_zero = |text: &str| text.bytes().all(|digit| digit == b'0');
        if is_zero(whole) && is_zero(fraction) {
            to.push('0');
            return;
        }
        let Some(exponent) = exponent else {
            to.push_str(sign);
            let digits = whole.trim_start_matches('0');
            to.push_str(if digits.is_empty() { "0" } else { digits });
            if !is_zero(fraction) {
                to.push('.');
                to.push_str(fraction);
            }
            return;
        };
        // All digits, the position of the decimal point, and the significant digits.
        let all: String = [whole, fraction].concat();
        let zeros = all.len() - all.trim_start_matches('0').len();
        let point = exponent.saturating_add(whole.len() as i64).saturating_sub(zeros as i64);
        let digits = all.trim_matches('0');
        to.push_str(sign);
        let length = digits.len() as i64;
        if (0..=DIGITS_MAX as i64).contains(&point) && point >= length {
            to.push_str(digits);
            to.extend(std::iter::repeat_n('0', (point - length) as usize));
        } else if point > 0 && point < length {
            let (whole, fraction) = digits.split_at(point as usize);
            to.push_str(whole);
            to.push('.');
            to.push_str(fraction);
        } else if (-(DIGITS_MAX as i64)..=0).contains(&point) {
            to.push_str("0.");
            to.extend(std::iter::repeat_n('0', -point as usize));
            to.push_str(digits);
        } else {
            let (first, rest) = digits.split_at(1);
            to.push_str(first);
            if !rest.is_empty() {
                to.push('.');
                to.push_str(rest);
            }
            write!(to, "e{}", point.saturating_sub(1)).expect("a text takes what is written to it");
        }
    }
}

/// Parses an exponent; one that overflows `i64` is clamped.
fn power(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let size = digits.parse::<i64>().unwrap_or(i64::MAX).min(EXPONENT_MAX);
    Some(if text.starts_with('-') { -size } else { size })
}

/// The text of a number as used in ids. Uses `buffer` if it differs from the number's own text.
pub(super) fn id<'a>(number: &'a str, buffer: &'a mut String) -> &'a str {
    let digits = number.strip_prefix('-').unwrap_or(number);
    if digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0') {
        return number;
    }
    match Decimal::parse(number) {
        // Two exponents that were clamped would give the same id.
        Some(decimal) if decimal.exponent.is_none_or(|exponent| exponent.abs() < EXPONENT_MAX) => {
            decimal.write(buffer);
            buffer
        }
        _ => number,
    }
}

/// The integer that the text stands for, if there is one and it fits `i64`.
pub(super) fn whole(number: &str, buffer: &mut String) -> Option<i64> {
    match number.parse() {
        Ok(value) => Some(value),
        Err(_) => {
            Decimal::parse(number)?.write(buffer);
            buffer.parse().ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_number_has_one_text_as_an_id_and_loses_no_digit() {
        let mut buffer = String::new();
        for (number, expected) in [
            ("12345", "12345"),
            ("12345.0", "12345"),
            ("12345.000", "12345"),
            ("1.2345e4", "12345"),
            ("1.2345E+4", "12345"),
            ("123450e-1", "12345"),
            ("1e3", "1000"),
            ("0", "0"),
            ("-0", "0"),
            ("-0.00", "0"),
            ("0e9", "0"),
            ("-7", "-7"),
            ("-7.0", "-7"),
            ("1.5", "1.5"),
            ("15e-1", "1.5"),
            ("0.00015", "0.00015"),
            ("1.5e-4", "0.00015"),
            ("18446744073709551617", "18446744073709551617"),
            ("18446744073709551617.0", "18446744073709551617"),
            ("1234567890.1234567890", "1234567890.1234567890"),
            ("1234567890.1234567891", "1234567890.1234567891"),
            // Written out up to 128 digits.
            ("1e127", &format!("1{}", "0".repeat(127))[..]),
            ("1e128", "1e128"),
            ("1e400", "1e400"),
            ("12.50e400", "1.25e401"),
            ("-1e-400", "-1e-400"),
            ("1e999999999", "1e999999999"),
            ("1e10000000000000000000000", "1e10000000000000000000000"),
            ("1e10000000000000000000001", "1e10000000000000000000001"),
            ("1e-10000000000000000000001", "1e-10000000000000000000001"),
        ] {
            assert_eq!(id(number, &mut buffer), expected, "{number}");
        }
    }

    #[test]
    fn a_number_is_scaled_by_its_digits() {
        for (number, power, expected) in [
            ("1767225600.097", 6, 1_767_225_600_097_000),
            ("1767225600.1234567", 6, 1_767_225_600_123_457),
            ("-1.5", 0, -2),
            ("1.4", 0, 1),
            ("0.49", 0, 0),
            ("0.5", 0, 1),
            ("0.05", 0, 0),
            ("1767225600097000123", -3, 1_767_225_600_097_000),
            ("1.767225600097e18", -3, 1_767_225_600_097_000),
            ("1e300", 6, i64::MAX),
            ("-1e300", 6, i64::MIN),
            ("1e-300", 6, 0),
            ("1e999999999999999999999", 6, i64::MAX),
            ("9223372036854775807", 0, i64::MAX),
            ("0e400", 6, 0),
        ] {
            let decimal = Decimal::parse(number).expect("a number");
            assert_eq!(decimal.scaled(power), expected, "{number} times 10^{power}");
        }
        for text in ["", "-", ".", "e5", "1e", "1e+", "1.2.3", "0x10", "1_000", "NaN", "inf", "1,5", " 1"] {
            assert_eq!(Decimal::parse(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_whole_number_has_the_same_text_in_every_form(digits in "[1-9][0-9]{0,40}", zeros in 0_usize..5, negative: bool) {
            let sign = if negative { "-" } else { "" };
            let plain = format!("{sign}{digits}");
            let mut buffer = String::new();
            let with_point = format!("{plain}.{}", "0".repeat(zeros + 1));
            prop_assert_eq!(id(&with_point, &mut buffer), plain.as_str());
            let (first, rest) = digits.split_at(1);
            let point = if rest.is_empty() { "" } else { "." };
            let with_exponent = format!("{sign}{first}{point}{rest}e{}", rest.len());
            prop_assert_eq!(id(&with_exponent, &mut buffer), plain.as_str());
            let shifted = format!("{plain}{}e-{zeros}", "0".repeat(zeros));
            prop_assert_eq!(id(&shifted, &mut buffer), plain.as_str());
            prop_assert_eq!(whole(&with_point, &mut buffer), plain.parse().ok());
        }

        #[test]
        fn two_numbers_have_the_same_text_only_where_they_are_equal(
            a in "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{0,11}[1-9])?", b in "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{0,11}[1-9])?",
        ) {
            let (mut one, mut other) = (String::new(), String::new());
            let is_zero = |text: &str| text.trim_start_matches('-') == "0";
            let equal = a == b || (is_zero(&a) && is_zero(&b));
            prop_assert_eq!(id(&a, &mut one) == id(&b, &mut other), equal);
        }
    }
}
