//! Times as they come: a number in some unit, such a number in text, RFC 3339, or a date and a time without a zone,
//! which is taken for UTC.

use super::TimeUnit;
use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

/// Below this a bare number is in seconds (the year 5138), under [`TimeUnit::Auto`].
const SECONDS_BELOW: f64 = 1e11;

/// Below this it is in milliseconds.
const MILLIS_BELOW: f64 = 1e14;

/// The microseconds of an integer in this unit. What does not fit is the largest or smallest time, which is refused as
/// out of range further on.
pub(super) fn from_int(value: i64, unit: TimeUnit) -> i64 {
    let size = value.unsigned_abs() as f64;
    let factor = match unit {
        TimeUnit::Seconds => 1_000_000,
        TimeUnit::Millis => 1_000,
        TimeUnit::Micros => 1,
        TimeUnit::Auto if size < SECONDS_BELOW => 1_000_000,
        TimeUnit::Auto if size < MILLIS_BELOW => 1_000,
        TimeUnit::Auto => 1,
    };
    value.saturating_mul(factor)
}

/// The microseconds of a number with a fraction in this unit.
pub(super) fn from_float(value: f64, unit: TimeUnit) -> i64 {
    let size = value.abs();
    let factor = match unit {
        TimeUnit::Seconds => 1e6,
        TimeUnit::Millis => 1e3,
        TimeUnit::Micros => 1.0,
        TimeUnit::Auto if size < SECONDS_BELOW => 1e6,
        TimeUnit::Auto if size < MILLIS_BELOW => 1e3,
        TimeUnit::Auto => 1.0,
    };
    // Saturates, as `from_int` does.
    (value * factor).round() as i64
}

/// The microseconds of a time in text, if it is one.
pub(super) fn from_text(text: &str, unit: TimeUnit) -> Option<i64> {
    let text = text.trim();
    if let Ok(value) = text.parse::<i64>() {
        return Some(from_int(value, unit));
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time.as_microsecond());
    }
    if let Ok(time) = text.parse::<DateTime>() {
        return TimeZone::UTC.to_timestamp(time).ok().map(Timestamp::as_microsecond);
    }
    text.parse::<f64>().ok().filter(|value| value.is_finite()).map(|value| from_float(value, unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_of_writing_a_time_gives_the_same_microseconds() {
        let expected = Some(1_767_225_600_097_000);
        for (text, unit) in [
            ("1767225600097", TimeUnit::Auto),
            ("1767225600097", TimeUnit::Millis),
            ("1767225600.097", TimeUnit::Auto),
            ("1767225600.097", TimeUnit::Seconds),
            ("1767225600097000", TimeUnit::Auto),
            ("1767225600097000", TimeUnit::Micros),
            ("2026-01-01T00:00:00.097Z", TimeUnit::Auto),
            ("2026-01-01T01:00:00.097+01:00", TimeUnit::Auto),
            ("2026-01-01 00:00:00.097", TimeUnit::Auto),
        ] {
            assert_eq!(from_text(text, unit), expected, "{text} in {unit:?}");
        }
        assert_eq!(from_text("1997-01-12", TimeUnit::Auto), Some(853_027_200_000_000));
        for text in ["", "soon", "2026-13-01", "NaN", "inf"] {
            assert_eq!(from_text(text, TimeUnit::Auto), None, "{text:?} is no time");
        }
        assert_eq!(from_int(i64::MAX, TimeUnit::Seconds), i64::MAX);
        assert_eq!(from_float(1e300, TimeUnit::Seconds), i64::MAX);
    }
}
