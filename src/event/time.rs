//! Parses times: a number in some unit, such a number in text, or a date with or without a time of day in text.
//!
//! - A number without a declared unit is interpreted by its size. Numbers of 8, 12 or 14 digits that are dates, such as
//!   20260301, are read as dates: as seconds or milliseconds they would fall into the 1970s or centuries ahead.
//! - A text without a zone is UTC. A zone is an offset (`+01:00`, `+0100`, `+01`), `Z`, `UTC`, `GMT`, or an IANA name
//!   in brackets or after a space. If there are both an offset and a name, the offset decides.
//! - A leap second is read as the second before it.

mod text;

pub(super) use text::{EXPECTED, clf, dated};

use super::{TimeUnit, number::Decimal};
use text::{common, of_others};

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

/// With [`TimeUnit::Auto`], a bare number below this is in seconds (up to the year 5138).
const SECONDS_BELOW: u64 = 100_000_000_000;

/// A number below this is in milliseconds.
const MILLIS_BELOW: u64 = 100_000_000_000_000;

/// A number below this is in microseconds.
const MICROS_BELOW: u64 = 100_000_000_000_000_000;

/// A number below this is in nanoseconds (up to the year 2261). Programs use the largest integer for "no time".
const NANOS_BELOW: u64 = 9_200_000_000_000_000_000;

/// The years accepted in dates written as a number. Other years could be plausible seconds or milliseconds.
const COMPACT_YEARS: std::ops::Range<i64> = 1970..2200;

/// The unit that a number of this size is in.
fn unit_of(size: u64) -> TimeUnit {
    match size {
        _ if size < SECONDS_BELOW => TimeUnit::Seconds,
        _ if size < MILLIS_BELOW => TimeUnit::Millis,
        _ if size < MICROS_BELOW => TimeUnit::Micros,
        _ if size < NANOS_BELOW => TimeUnit::Nanos,
        // Out of range in every unit.
        _ => TimeUnit::Micros,
    }
}

/// Converts an integer in this unit to microseconds. Saturates; such times are rejected as out of range later.
pub(super) fn from_int(value: i64, unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Seconds => value.saturating_mul(SECOND),
        TimeUnit::Millis => value.saturating_mul(1_000),
        TimeUnit::Micros => value,
        TimeUnit::Nanos => value.div_euclid(1_000),
        TimeUnit::Auto => compact(value).unwrap_or_else(|| from_int(value, unit_of(value.unsigned_abs()))),
    }
}

/// The microseconds of a number in text, and the number itself if it is an integer.
pub(super) fn from_number(text: &str, unit: TimeUnit) -> Option<(i64, Option<i64>)> {
    if let Ok(value) = text.parse::<i64>() {
        return Some((from_int(value, unit), Some(value)));
    }
    let number = Decimal::parse(text)?;
    let whole = number.scaled(0);
    if unit == TimeUnit::Auto && number.is_whole() {
        return Some((from_int(whole, unit), Some(whole)));
    }
    let unit = if unit == TimeUnit::Auto { unit_of(whole.unsigned_abs()) } else { unit };
    let power = match unit {
        TimeUnit::Seconds => 6,
        TimeUnit::Millis => 3,
        TimeUnit::Micros | TimeUnit::Auto => 0,
        TimeUnit::Nanos => -3,
    };
    Some((number.scaled(power), Some(whole)))
}

/// Parses a time in text. Returns its microseconds, and its number if it is an integer; otherwise what was expected.
pub(super) fn from_text(text: &str, unit: TimeUnit) -> Result<(i64, Option<i64>), &'static str> {
    let text = text.trim();
    if let Some(micros) = common(text.as_bytes()) {
        return Ok((micros, None));
    }
    if let Some(number) = from_number(text, unit) {
        return Ok(number);
    }
    let text = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    dated(text).or_else(|fault| of_others(text).unwrap_or(Err(fault))).map(|micros| (micros, None))
}

/// The microseconds of a number that is a date with or without a time of day: 20260131, 202601311200, 20260131120000.
fn compact(value: i64) -> Option<i64> {
    let (date, time) = match value {
        10_000_000..=99_999_999 => (value, 0),
        100_000_000_000..=999_999_999_999 => (value / 10_000, value % 10_000 * 100),
        10_000_000_000_000..=99_999_999_999_999 => (value / 1_000_000, value % 1_000_000),
        _ => return None,
    };
    let (year, month, day) = (date / 10_000, date / 100 % 100, date % 100);
    let (hour, minute, second) = (time / 10_000, time / 100 % 100, time % 100);
    if !COMPACT_YEARS.contains(&year) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    Some(days(year, month, day)? * DAY + ((hour * 60 + minute) * 60 + second) * SECOND)
}

/// Whether a number may be a date with its hour, such as Google Analytics' 2026030110. In seconds it would fall between
/// 2032 and 2039, so the number by itself is ambiguous.
pub(super) fn is_date_with_hour(value: i64) -> bool {
    let (date, hour) = (value / 100, value % 100);
    let (year, month, day) = (date / 10_000, date / 100 % 100, date % 100);
    COMPACT_YEARS.contains(&year) && hour <= 23 && days(year, month, day).is_some()
}

/// A hint on what a number was probably meant to be, if the time it gives is implausible.
pub(super) fn meant(number: i64, is_plausible: impl Fn(i64) -> bool) -> Option<&'static str> {
    let units = [
        (TimeUnit::Seconds, "In seconds it would be plausible: is unit = \"s\" meant?"),
        (TimeUnit::Millis, "In milliseconds it would be plausible: is unit = \"ms\" meant?"),
        (TimeUnit::Micros, "In microseconds it would be plausible: is unit = \"us\" meant?"),
        (TimeUnit::Nanos, "In nanoseconds it would be plausible: is unit = \"ns\" meant?"),
    ];
    if compact(number).is_some_and(&is_plausible) {
        return Some("As a date such as 20260131 it would be plausible: is unit = \"auto\" meant?");
    }
    units.into_iter().find(|(unit, _)| is_plausible(from_int(number, *unit))).map(|(_, hint)| hint)
}

/// The days since 1970 of a date, if it exists. Uses Howard Hinnant's days_from_civil: years start in March, so that
/// the leap day comes last.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(is_leap),
        _ => return None,
    };
    if !(1..=length).contains(&day) {
        return None;
    }
    let year = year - i64::from(month <= 2);
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

#[cfg(test)]
mod tests;
