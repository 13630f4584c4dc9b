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
    if let Some(micros) = common(text.as_bytes()) {
        return Some(micros);
    }
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

/// The microseconds of `2026-01-31T12:00:00`, with a space for the T, up to nine digits of a fraction and a Z or not: how
/// nearly every text is written, for a tenth of what the whole grammar costs. Anything else is left to the grammar.
fn common(text: &[u8]) -> Option<i64> {
    let (date, rest) = text.split_first_chunk::<19>()?;
    let number = |from: usize, to: usize| {
        date[from..to]
            .iter()
            .try_fold(0_i64, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + i64::from(digit - b'0')))
    };
    if (date[4], date[7], date[13], date[16]) != (b'-', b'-', b':', b':') || !matches!(date[10], b'T' | b' ') {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(is_leap),
        _ => return None,
    };
    if !(1..=days).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let rest = rest.strip_suffix(b"Z").unwrap_or(rest);
    let mut micros = 0;
    if let Some((point, digits)) = rest.split_first() {
        if *point != b'.' || digits.is_empty() || digits.len() > 9 || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        micros = (0..6).fold(0, |sum, at| sum * 10 + digits.get(at).map_or(0, |digit| i64::from(digit - b'0')));
    }
    // Days since 1970 by Howard Hinnant's days_from_civil: years begin in March, so that the leap day is the last.
    let year = year - i64::from(month <= 2);
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000_000 + micros)
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

    #[test]
    fn the_common_way_gives_what_the_grammar_gives() {
        // Every day from 1890 to 2110, and the first and last years.
        let days = (-29_220..51_134).chain([-719_528, -719_163, 2_932_894]);
        for day in days {
            let micros = day * 86_400_000_000_i64 + (day.rem_euclid(86_400)) * 1_000_000 + day.rem_euclid(1_000_000);
            let time = Timestamp::from_microsecond(micros).expect("within the grammar's years");
            let text = time.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
            assert_eq!(common(text.as_bytes()), Some(micros), "{text}");
            assert_eq!(common(text.replace('T', " ").trim_end_matches('Z').as_bytes()), Some(micros), "{text}");
        }
        for text in [
            "2026-02-29T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "2026-04-31T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-01-00T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:60:00Z",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00ZZ",
            "2026-01-01_00:00:00Z",
            "+026-01-01T00:00:00Z",
            "2026-01-01T00:00:00.1234567890Z",
            "2026-01-01T00:00:00.1-3",
        ] {
            assert_eq!(common(text.as_bytes()), None, "{text}");
            assert_eq!(from_text(text, TimeUnit::Auto), None, "{text}");
        }
        assert_eq!(
            from_text("2016-12-31T23:59:60Z", TimeUnit::Auto),
            from_text("2016-12-31T23:59:59Z", TimeUnit::Auto)
        );
        assert_eq!(common(b"2024-02-29 00:00:00.5"), Some(1_709_164_800_500_000));
    }
}
