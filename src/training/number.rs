//! Parses the texts of a table as numbers.
//!
//! Supports the formats of spreadsheets, shops and statistics programs: decimal point or comma, thousands separators, currencies,
//! percent signs, and texts for missing values. Guarantees: an ambiguous text can be parsed with either [`Decimal`]; nothing is
//! guessed. Not supported: groups of other than three digits.

use serde::Serialize;

/// Texts that mean a missing value: the first nineteen are those of pandas (`na_values` of `read_csv`), the others are written by R,
/// UCI's archives, MySQL and SAS.
const MISSING: [&str; 23] = [
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
    "NULL", "NaN", "None", "n/a", "nan", "null", "?", "-", "\\N", ".",
];

/// Currencies before or after a number, longer ones before their prefixes.
const CURRENCIES: [&str; 33] = [
    "US$", "R$", "$", "€", "£", "¥", "₹", "₽", "₩", "₺", "₴", "₪", "₫", "₱", "USD", "EUR", "GBP", "JPY", "CHF", "CNY",
    "INR", "BRL", "CAD", "AUD", "NZD", "SEK", "NOK", "DKK", "PLN", "CZK", "MXN", "kr", "zł",
];

/// The decimal separator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Decimal {
    /// 1234.5, and thousands as 1,234.5
    Dot,
    /// 1234,5, and thousands as 1.234,5
    Comma,
}

impl Decimal {
    /// All formats.
    pub(super) const ALL: [Self; 2] = [Self::Dot, Self::Comma];
}

/// A number with its decorations.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Number {
    /// The number; a percent sign is not applied yet.
    pub(super) value: f64,
    /// The currency.
    pub(super) currency: Option<&'static str>,
    /// Whether it has a percent sign.
    pub(super) is_percent: bool,
    /// Whether it is written as by programs: digits, a point, an exponent.
    pub(super) is_plain: bool,
}

/// Whether a text means a missing value.
pub(super) fn is_missing(text: &str) -> bool {
    MISSING.contains(&text)
}

/// Parses a text as a number; `None` if it is not one.
pub(super) fn parse(text: &str, decimal: Decimal) -> Option<Number> {
    if (decimal == Decimal::Dot || !text.contains('.'))
        && let Ok(value) = text.parse()
    {
        return Some(Number { value, currency: None, is_percent: false, is_plain: true });
    }
    // All other forms have a digit, and most texts have none.
    if !text.bytes().any(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (text, is_bracketed) = match text.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
        Some(inside) => (inside.trim(), true),
        None => (text, false),
    };
    let (text, outer) = sign(text);
    let (text, before) = currency(text, str::strip_prefix);
    let (text, inner) = sign(text);
    let (text, is_percent) = text.strip_suffix('%').map_or((text, false), |rest| (rest.trim_end(), true));
    let (text, behind) = currency(text, str::strip_suffix);
    let signs = [is_bracketed.then_some(-1.0), outer, inner];
    let is_twice = signs.iter().flatten().count() > 1 || before.is_some() && behind.is_some();
    let currency = before.or(behind);
    if is_twice || is_percent && currency.is_some() {
        return None;
    }
    let value = unsigned(text, decimal)? * signs.into_iter().flatten().product::<f64>();
    Some(Number { value, currency, is_percent, is_plain: false })
}

/// Splits off the sign.
fn sign(text: &str) -> (&str, Option<f64>) {
    let signs = [('-', -1.0), ('\u{2212}', -1.0), ('+', 1.0)];
    let found = signs.into_iter().find_map(|(sign, value)| Some((text.strip_prefix(sign)?.trim_start(), Some(value))));
    found.unwrap_or((text, None))
}

/// Splits off the currency at one end.
fn currency<'a>(
    text: &'a str,
    strip: impl Fn(&'a str, &'static str) -> Option<&'a str>,
) -> (&'a str, Option<&'static str>) {
    let found = CURRENCIES.into_iter().find_map(|currency| Some((strip(text, currency)?.trim(), Some(currency))));
    found.unwrap_or((text, None))
}

/// Parses digits with optional thousands separators, fraction and exponent.
fn unsigned(text: &str, decimal: Decimal) -> Option<f64> {
    let (text, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let (point, group) = match decimal {
        Decimal::Dot => ('.', ','),
        Decimal::Comma => (',', '.'),
    };
    let (whole, fraction) = text.split_once(point).map_or((text, ""), |(whole, fraction)| (whole, fraction));
    let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !are_digits(fraction) || whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let separators = [group, ' ', '\u{a0}', '\u{2009}', '\u{202f}', '\'', '\u{2019}'];
    let whole = match separators.into_iter().find(|&separator| whole.contains(separator)) {
        None => whole.to_owned(),
        Some(separator) => {
            let mut groups = whole.split(separator);
            let first = groups.next().unwrap_or_default();
            let is_first = (1..=3).contains(&first.len()) && !first.starts_with('0');
            if !is_first || !groups.all(|group| group.len() == 3 && are_digits(group)) {
                return None;
            }
            whole.replace(separator, "")
        }
    };
    if !are_digits(&whole) {
        return None;
    }
    let exponent = exponent.map_or_else(String::new, |exponent| format!("e{exponent}"));
    format!("0{whole}.{fraction}{exponent}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(text: &str) -> [Option<f64>; 2] {
        Decimal::ALL.map(|decimal| parse(text, decimal).map(|number| number.value))
    }

    #[test]
    fn every_format_is_parsed() {
        for (text, dot, comma) in [
            ("1.5", Some(1.5), None),
            ("1,5", None, Some(1.5)),
            ("1,234.5", Some(1234.5), None),
            ("1.234,5", None, Some(1234.5)),
            ("1,234,567", Some(1_234_567.0), None),
            ("1.234.567", None, Some(1_234_567.0)),
            // Ambiguous.
            ("1,234", Some(1234.0), Some(1.234)),
            ("1.234", Some(1.234), Some(1234.0)),
            // A group has three digits, and the first one does not begin with 0.
            ("0,234", None, Some(0.234)),
            ("1234,567", None, Some(1234.567)),
            ("1,23,456", None, None),
            ("1 234,5", None, Some(1234.5)),
            ("1\u{202f}234", Some(1234.0), Some(1234.0)),
            ("1'234.50", Some(1234.5), None),
            ("-1,5e3", None, Some(-1500.0)),
            ("1e5", Some(1e5), Some(1e5)),
            ("-$1,234.50", Some(-1234.5), None),
            ("$-5", Some(-5.0), Some(-5.0)),
            ("($5.25)", Some(-5.25), None),
            ("5,25 €", None, Some(5.25)),
            ("EUR 7", Some(7.0), Some(7.0)),
            ("\u{2212}3", Some(-3.0), Some(-3.0)),
            ("12.5%", Some(12.5), None),
            ("12 %", Some(12.0), Some(12.0)),
            (",5", None, Some(0.5)),
            ("--5", None, None),
            ("$5 €", None, None),
            ("$5%", None, None),
            ("1_000", None, None),
            ("0x1F", None, None),
            ("12 units", None, None),
            ("2026-01-31", None, None),
            ("1.2.3.4", None, None),
            ("e5", None, None),
            (",", None, None),
            ("", None, None),
        ] {
            assert_eq!(both(text), [dot, comma], "{text:?}");
        }
    }

    #[test]
    fn decorations_of_a_number_are_returned() {
        let number = parse("12,5 %", Decimal::Comma).unwrap();
        assert!(number.is_percent && !number.is_plain && number.currency.is_none(), "{number:?}");
        assert_eq!(parse("US$ 3", Decimal::Dot).unwrap().currency, Some("US$"));
        assert!(parse("-0.5", Decimal::Dot).unwrap().is_plain);
    }

    #[test]
    fn only_the_missing_values_of_pandas_and_other_tools_are_missing() {
        for text in ["", "NA", "N/A", "NULL", "None", "nan", "-nan", "#N/A N/A", "1.#QNAN", "?", "-", "\\N", "."] {
            assert!(is_missing(text), "{text}");
        }
        for text in ["0", "none", "unknown", "--", "na"] {
            assert!(!is_missing(text), "{text}");
        }
    }
}
