//! Money: amounts, prices per thousand impressions, and currencies.
//!
//! Owns [`Micros`] (an amount), [`Cpm`] (a price of a thousand impressions) and [`Currency`] (an ISO 4217 code). All
//! amounts are whole millionths of the currency's unit, whatever its minor unit is: 1.50 EUR and 1.50 JPY are both 1
//! 500 000.
//!
//! Guarantees: nothing wraps and nothing panics. Arithmetic stops at the ends of an `i64`; conversions from text and
//! from floats are checked. Text goes both ways without loss. Nothing here allocates, save `Display` in its caller's
//! hands.
//!
//! Limits: ±9.2 · 10¹² units. Leaves out rates of exchange: an amount does not know its currency, and its owner never
//! mixes two.

use std::{error, fmt, str::FromStr};

/// Millionths in a unit of currency.
const UNIT: i64 = 1_000_000;
/// The digits of a millionth.
const DIGITS: usize = 6;
/// Impressions that a [`Cpm`] is the price of.
const MILLE: i64 = 1_000;

/// An amount of money in millionths of a currency's unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Micros(pub i64);

/// The price of a thousand impressions, in millionths of a currency's unit, as OpenRTB states bids, floors and clearing
/// prices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cpm(pub i64);

/// Why a text or a number is not money.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoneyError {
    /// Not of the form `-12.345`: no exponent, no separators, no spaces, a digit on each side of the point.
    Malformed,
    /// A digit other than 0 after the sixth decimal place.
    TooFine,
    /// Not finite, or beyond ±9.2 · 10¹² units.
    OutOfRange,
    /// Not a code of ISO 4217 in capitals.
    UnknownCurrency,
}

impl fmt::Display for MoneyError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Malformed => "not a decimal number such as 12.50",
            Self::TooFine => "more than six decimal places",
            Self::OutOfRange => "not finite, or beyond ±9 223 372 036 854 units",
            Self::UnknownCurrency => "not a currency code of ISO 4217 in capitals, such as EUR",
        })
    }
}

impl error::Error for MoneyError {}

impl Micros {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The largest amount, where sums stop.
    pub const MAX: Self = Self(i64::MAX);

    /// Rounds a number of units to the nearest millionth, halves away from zero.
    ///
    /// # Errors
    ///
    /// [`MoneyError::OutOfRange`] for NaN, infinity and what an `i64` cannot hold.
    pub fn from_units(units: f64) -> Result<Self, MoneyError> {
        let micros = (units * UNIT as f64).round();
        // 2⁶³ itself is one more than fits; NaN fails both comparisons.
        let limit = 2.0_f64.powi(63);
        if micros >= -limit && micros < limit { Ok(Self(micros as i64)) } else { Err(MoneyError::OutOfRange) }
    }

    /// The number of units, to the nearest `f64`: exact to a millionth up to 2 · 10⁹ units, beyond which
    /// [`Micros::from_units`] may be one off.
    pub fn units(self) -> f64 {
        self.0 as f64 / UNIT as f64
    }

    /// The sum, stopped at the ends of an `i64`.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference, stopped at the ends of an `i64`.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// So many of it, stopped at the ends of an `i64`.
    #[must_use]
    pub fn times(self, count: u64) -> Self {
        Self(clamp(i128::from(self.0) * i128::from(count)))
    }

    /// The price of a thousand impressions that cost this much each; stopped at the ends of an `i64`.
    pub fn as_cpm(self) -> Cpm {
        Cpm(self.0.saturating_mul(MILLE))
    }
}

impl FromStr for Micros {
    type Err = MoneyError;

    /// Reads a decimal number of units, exactly.
    fn from_str(text: &str) -> Result<Self, MoneyError> {
        let (negative, digits) = match text.as_bytes() {
            [b'-', ..] => (true, &text[1..]),
            _ => (false, text),
        };
        let (whole, part) = digits.split_once('.').unwrap_or((digits, "0"));
        let decimal = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !decimal(whole) || !decimal(part) {
            return Err(MoneyError::Malformed);
        }
        let (fine, too_fine) = part.split_at(part.len().min(DIGITS));
        if too_fine.bytes().any(|byte| byte != b'0') {
            return Err(MoneyError::TooFine);
        }
        let zeros = std::iter::repeat_n(b'0', DIGITS - fine.len());
        // Built below zero, where an `i64` reaches one further.
        let below = whole
            .bytes()
            .chain(fine.bytes())
            .chain(zeros)
            .try_fold(0_i64, |number, digit| number.checked_mul(10)?.checked_sub(i64::from(digit - b'0')));
        let below = below.ok_or(MoneyError::OutOfRange)?;
        if negative { Ok(Self(below)) } else { below.checked_neg().map(Self).ok_or(MoneyError::OutOfRange) }
    }
}

impl fmt::Display for Micros {
    /// A decimal number of units, with two to six digits after the decimal point.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let micros = self.0.unsigned_abs();
        let (whole, mut part, mut digits) = (micros / UNIT as u64, micros % UNIT as u64, DIGITS);
        while digits > 2 && part.is_multiple_of(10) {
            (part, digits) = (part / 10, digits - 1);
        }
        write!(out, "{sign}{whole}.{part:0digits$}")
    }
}

impl Cpm {
    /// The largest price.
    pub const MAX: Self = Self(i64::MAX);

    /// The most that a bidder should pay: `1000 · p · value`, what an impression is worth if an action that is worth
    /// `value` follows it with probability `p` (eCPM; Yang et al. 2022, "AdaCalib", section 1). Rounded down, so that
    /// it is never above `1000 · value`; exact to one part in 2⁵¹.
    ///
    /// `None` if the probability is NaN or outside 0 to 1, or the value is negative. A probability or a value of zero
    /// gives zero.
    pub fn hint(probability: f64, value: Micros) -> Option<Self> {
        if !(0.0..=1.0).contains(&probability) || value.0 < 0 {
            return None;
        }
        // The cast stops at `i64::MAX`.
        let hint = (MILLE as f64 * value.0 as f64 * probability).floor() as i64;
        Some(Self(hint.min(value.as_cpm().0)))
    }

    /// The price of one impression, rounded to the nearest millionth, halves away from zero. For many impressions use
    /// [`Cpm::cost_of`], which rounds once.
    pub fn per_impression(self) -> Micros {
        self.cost_of(1)
    }

    /// The price of so many impressions, rounded once to the nearest millionth, halves away from zero; stopped at the
    /// ends of an `i64`.
    pub fn cost_of(self, impressions: u64) -> Micros {
        // Nearly always an `i64` is enough, and divides much faster.
        let half = self.0.signum() * MILLE / 2;
        let small = i64::try_from(impressions).ok().and_then(|it| self.0.checked_mul(it)?.checked_add(half));
        if let Some(thousandfold) = small {
            return Micros(thousandfold / MILLE);
        }
        let mille = i128::from(MILLE);
        let thousandfold = i128::from(self.0) * i128::from(impressions);
        Micros(clamp((thousandfold + thousandfold.signum() * mille / 2) / mille))
    }
}

fn clamp(number: i128) -> i64 {
    number.clamp(i64::MIN.into(), i64::MAX.into()) as i64
}

/// A currency: three capitals of ISO 4217.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency([u8; 3]);

impl Currency {
    /// The code.
    pub fn code(&self) -> &str {
        // Only codes of the list are ever stored.
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl FromStr for Currency {
    type Err = MoneyError;

    /// Takes a code of the list, in capitals.
    fn from_str(text: &str) -> Result<Self, MoneyError> {
        let found = CODES.binary_search(&text).map_err(|_| MoneyError::UnknownCurrency)?;
        CODES[found].as_bytes().try_into().map(Self).map_err(|_| MoneyError::UnknownCurrency)
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.code())
    }
}

/// ISO 4217, list one, as of January 2026, in order. Left out: metals, bond units, tests and "no currency", in which
/// nobody bids. Kept: ANG and BGN, which went out in 2025 and 2026, because events of then are still read.
#[rustfmt::skip]
const CODES: [&str; 170] = [
    "AED", "AFN", "ALL", "AMD", "ANG", "AOA", "ARS", "AUD", "AWG", "AZN", "BAM", "BBD", "BDT", "BGN", "BHD", "BIF", "BMD", "BND",
    "BOB", "BOV", "BRL", "BSD", "BTN", "BWP", "BYN", "BZD", "CAD", "CDF", "CHE", "CHF", "CHW", "CLF", "CLP", "CNY", "COP", "COU",
    "CRC", "CUP", "CVE", "CZK", "DJF", "DKK", "DOP", "DZD", "EGP", "ERN", "ETB", "EUR", "FJD", "FKP", "GBP", "GEL", "GHS", "GIP",
    "GMD", "GNF", "GTQ", "GYD", "HKD", "HNL", "HTG", "HUF", "IDR", "ILS", "INR", "IQD", "IRR", "ISK", "JMD", "JOD", "JPY", "KES",
    "KGS", "KHR", "KMF", "KPW", "KRW", "KWD", "KYD", "KZT", "LAK", "LBP", "LKR", "LRD", "LSL", "LYD", "MAD", "MDL", "MGA", "MKD",
    "MMK", "MNT", "MOP", "MRU", "MUR", "MVR", "MWK", "MXN", "MXV", "MYR", "MZN", "NAD", "NGN", "NIO", "NOK", "NPR", "NZD", "OMR",
    "PAB", "PEN", "PGK", "PHP", "PKR", "PLN", "PYG", "QAR", "RON", "RSD", "RUB", "RWF", "SAR", "SBD", "SCR", "SDG", "SEK", "SGD",
    "SHP", "SLE", "SOS", "SRD", "SSP", "STN", "SVC", "SYP", "SZL", "THB", "TJS", "TMT", "TND", "TOP", "TRY", "TTD", "TWD", "TZS",
    "UAH", "UGX", "USD", "USN", "UYI", "UYU", "UYW", "UZS", "VED", "VES", "VND", "VUV", "WST", "XAD", "XAF", "XCD", "XCG", "XDR",
    "XOF", "XPF", "XSU", "XUA", "YER", "ZAR", "ZMW", "ZWG",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::mix;

    #[test]
    fn decimal_text_is_read_exactly_or_refused() {
        let cases = [
            ("0", Ok(0)),
            ("12.5", Ok(12_500_000)),
            ("-0.000001", Ok(-1)),
            ("007.10", Ok(7_100_000)),
            ("1.2345670", Ok(1_234_567)),
            ("9223372036854.775807", Ok(i64::MAX)),
            ("-9223372036854.775808", Ok(i64::MIN)),
            ("1.2345678", Err(MoneyError::TooFine)),
            ("9223372036854.775808", Err(MoneyError::OutOfRange)),
            ("-9223372036854.775809", Err(MoneyError::OutOfRange)),
            ("99999999999999999999", Err(MoneyError::OutOfRange)),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse(), expected.map(Micros), "{text}");
        }
        for text in ["", "-", ".", "1.", ".5", "+1", "--1", "1e3", "1,5", " 1", "1 ", "NaN", "inf", "1.2.3", "١", "-é"]
        {
            assert_eq!(text.parse::<Micros>(), Err(MoneyError::Malformed), "{text}");
        }
    }

    #[test]
    fn text_goes_both_ways_without_loss() {
        for (micros, text) in
            [(0, "0.00"), (-1, "-0.000001"), (12_500_000, "12.50"), (i64::MIN, "-9223372036854.775808")]
        {
            assert_eq!(Micros(micros).to_string(), text);
        }
        for number in 0..20_000_u64 {
            let micros = Micros(mix(number) as i64 >> (number % 64));
            assert_eq!(micros.to_string().parse(), Ok(micros));
        }
    }

    #[test]
    fn a_float_is_rounded_to_the_nearest_millionth_or_refused() {
        for (units, micros) in
            [(0.1, 100_000), (-0.0, 0), (1.000_000_5, 1_000_001), (-2.5e-6, -3), (9e12, 9_000_000_000_000_000_000)]
        {
            assert_eq!(Micros::from_units(units), Ok(Micros(micros)), "{units}");
        }
        for units in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 9.3e12, -9.3e12, 1e300] {
            assert_eq!(Micros::from_units(units), Err(MoneyError::OutOfRange), "{units}");
        }
        for number in 0..20_000_u64 {
            let micros = Micros((mix(number) >> 13) as i64);
            assert_eq!(Micros::from_units(micros.units()), Ok(micros));
        }
    }

    #[test]
    fn sums_and_products_stop_at_the_ends() {
        assert_eq!(Micros(2).plus(Micros(3)), Micros(5));
        assert_eq!(Micros::MAX.plus(Micros(1)), Micros::MAX);
        assert_eq!(Micros(i64::MIN).minus(Micros(1)), Micros(i64::MIN));
        assert_eq!(Micros(-3).times(u64::MAX), Micros(i64::MIN));
        assert_eq!(Micros(3).times(4), Micros(12));
        assert_eq!(Micros::MAX.as_cpm(), Cpm::MAX);
    }

    #[test]
    fn a_price_of_a_thousand_is_split_to_within_half_a_millionth() {
        for (cpm, impressions, micros) in [
            (2_345_678, 1, 2_346),
            (2_345_678, 1_000, 2_345_678),
            (499, 1, 0),
            (500, 1, 1),
            (-500, 1, -1),
            (1, 500, 1),
            (i64::MAX, u64::MAX, i64::MAX),
        ] {
            assert_eq!(Cpm(cpm).cost_of(impressions), Micros(micros), "{cpm} {impressions}");
        }
        for number in 0..10_000_u64 {
            let micros = Micros((mix(number) >> 12) as i64);
            assert_eq!(micros.as_cpm().per_impression(), micros);
        }
    }

    #[test]
    fn the_hint_is_what_an_impression_is_worth_and_never_more() {
        // A click in a hundred, worth 0.50: 5.00 per thousand.
        assert_eq!(Cpm::hint(0.01, Micros(500_000)), Some(Cpm(5_000_000)));
        assert_eq!(Cpm::hint(1.0, Micros(7)), Some(Cpm(7_000)));
        assert_eq!(Cpm::hint(1.0, Micros::MAX), Some(Cpm::MAX));
        assert_eq!(Cpm::hint(0.0, Micros(7)), Some(Cpm(0)));
        assert_eq!(Cpm::hint(0.5, Micros(0)), Some(Cpm(0)));
        for probability in [f64::NAN, -0.1, 1.1, f64::INFINITY] {
            assert_eq!(Cpm::hint(probability, Micros(1)), None, "{probability}");
        }
        assert_eq!(Cpm::hint(0.5, Micros(-1)), None);
    }

    #[test]
    fn a_currency_is_a_code_of_the_list_in_capitals() {
        assert!(CODES.is_sorted_by(|one, next| one < next), "searched by halves");
        for code in CODES {
            let currency: Currency = code.parse().unwrap();
            assert_eq!((currency.code(), currency.to_string().as_str()), (code, code));
        }
        for text in ["", "eur", "EU", "EURO", "XXX", "XAU", "DEM", "€€€"] {
            assert_eq!(text.parse::<Currency>(), Err(MoneyError::UnknownCurrency), "{text}");
        }
    }
}
