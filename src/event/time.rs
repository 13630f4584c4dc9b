//! Parses times: a number in some unit, such a number in text, or a date with or without a time of day in text.
//!
//! - A number without a declared unit is interpreted by its size. Numbers of 8, 12 or 14 digits that are dates, such as
//!   20260301, are read as dates: as seconds or milliseconds they would fall into the 1970s or centuries ahead.
//! - A text without a zone is UTC. A zone is an offset (`+01:00`, `+0100`, `+01`), `Z`, `UTC`, `GMT`, or an IANA name
//!   in brackets or after a space. If there are both an offset and a name, the offset decides.
//! - A leap second is read as the second before it.

use super::{TimeUnit, number::Decimal};
use jiff::{
    Timestamp,
    fmt::rfc2822,
    tz::{TimeZone, TimeZoneDatabase},
};

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

/// The expected form, for texts that are not a time.
pub(super) const EXPECTED: &str = "a time: a number, or text such as 2026-01-31T12:00:00Z";
const WEEK: &str = "a time such as 2026-01-31T12:00:00Z; week dates (2026-W05-6) are not read";
const ORDINAL: &str = "a time such as 2026-01-31T12:00:00Z; days of the year (2026-031) are not read";
const ORDER: &str = "a time such as 2026-01-31T12:00:00Z; the year comes first, because 01/02/2026 is two dates";
const ZONE: &str = "a time whose zone is an offset (+01:00), Z, UTC, GMT or an IANA name in brackets ([Europe/Berlin])";
const MIDNIGHT: &str = "a time of day up to 23:59:59; 24:00:00 is 00:00:00 of the next day";
const DATE: &str = "a date and a time of day that exist";

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

/// Parses a date with an optional time of day to microseconds. Plain numbers are rejected.
pub(super) fn dated(text: &str) -> Result<i64, &'static str> {
    let mut rest = Rest(text.as_bytes());
    let Some((day, form)) = rest.date() else { return Err(no_date(text)) };
    let day = day.ok_or(DATE)?;
    let time = rest.time(form)?;
    let civil = day * DAY + time;
    // The rest is ASCII, or the valid end of a UTF-8 text.
    let zone = std::str::from_utf8(rest.0).unwrap_or("?");
    offset(zone.trim(), civil)
}

/// Parses formats other than ISO 8601: that of web servers and that of e-mail and HTTP. `None` if it is neither.
fn of_others(text: &str) -> Option<Result<i64, &'static str>> {
    clf(text).map(Ok).or_else(|| {
        let time = rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
        Some(if has_known_zone(text) { Ok(time.as_microsecond()) } else { Err(ZONE) })
    })
}

/// Whether the zone of an e-mail date is an offset or one of the names defined in RFC 2822. Parsers of that format read
/// all other names, including CEST, as UTC.
fn has_known_zone(text: &str) -> bool {
    const NAMES: [&str; 12] = ["UT", "UTC", "GMT", "Z", "EST", "EDT", "CST", "CDT", "MST", "MDT", "PST", "PDT"];
    let mut depth = 0_usize;
    let mut zone = "";
    let mut start = None;
    // Ignore comments in parentheses.
    for (at, letter) in text.char_indices().chain([(text.len(), ' ')]) {
        let is_part = depth == 0 && !letter.is_whitespace() && letter != '(';
        match (start, is_part) {
            (None, true) => start = Some(at),
            (Some(from), false) => (zone, start) = (&text[from..at], None),
            _ => {}
        }
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    zone.starts_with(['+', '-']) || NAMES.iter().any(|known| zone.eq_ignore_ascii_case(known))
}

/// Why a text does not start with a date.
fn no_date(text: &str) -> &'static str {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let year = |text: &str| text.len() == 4 && digits(text);
    let mut parts = text.splitn(3, ['-', '/', '.']);
    let (Some(first), second) = (parts.next(), parts.next().unwrap_or_default()) else { return EXPECTED };
    if year(first) && second.starts_with(['W', 'w']) {
        WEEK
    } else if year(first)
        && text.as_bytes().get(4) == Some(&b'-')
        && second.bytes().take_while(u8::is_ascii_digit).count() >= 3
    {
        ORDINAL
    } else if first.len() <= 2 && digits(first) && !second.is_empty() && second.len() <= 2 && digits(second) {
        ORDER
    } else {
        EXPECTED
    }
}

/// Whether the parts of a date or time are separated.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Extended,
    Basic,
}

/// The unparsed rest of a text.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    /// Takes exactly `count` digits.
    fn digits(&mut self, count: usize) -> Option<i64> {
        let (digits, rest) = self.0.split_at_checked(count)?;
        let number = digits
            .iter()
            .try_fold(0_i64, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + i64::from(digit - b'0')))?;
        self.0 = rest;
        Some(number)
    }

    fn take(&mut self, sign: impl Fn(u8) -> bool) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        if !sign(*first) {
            return None;
        }
        self.0 = rest;
        Some(*first)
    }

    fn next_is_digit(&self) -> bool {
        self.0.first().is_some_and(u8::is_ascii_digit)
    }

    /// Takes a date. The days since 1970 are `None` if there is no such day.
    fn date(&mut self) -> Option<(Option<i64>, Form)> {
        let year = self.digits(4)?;
        if let Some(sign) = self.take(|sign| matches!(sign, b'-' | b'/')) {
            let month = self.digits(2)?;
            self.take(|other| other == sign)?;
            let day = self.digits(2)?;
            return Some((days(year, month, day), Form::Extended));
        }
        let (month, day) = (self.digits(2)?, self.digits(2)?);
        Some((days(year, month, day), Form::Basic))
    }

    /// Takes a time of day; midnight if there is none.
    fn time(&mut self, form: Form) -> Result<i64, &'static str> {
        let before = self.0;
        let separated = self.take(|sign| matches!(sign, b'T' | b't' | b' ')).is_some();
        while separated && self.take(|sign| sign == b' ').is_some() {}
        if !self.next_is_digit() {
            // A zone may follow a date; a T without a time may not.
            self.0 = before;
            let ends = self.0.first().is_none_or(|next| !matches!(next, b'T' | b't') && !next.is_ascii_digit());
            return if ends { Ok(0) } else { Err(EXPECTED) };
        }
        if !separated && form == Form::Extended {
            return Err(EXPECTED);
        }
        let hour = self.digits(2).ok_or(EXPECTED)?;
        let (mut minute, mut second, mut micros) = (0, 0, 0);
        let mut reads_fraction = false;
        if self.take(|sign| sign == b':').is_some() {
            minute = self.digits(2).ok_or(EXPECTED)?;
            if self.take(|sign| sign == b':').is_some() {
                second = self.digits(2).ok_or(EXPECTED)?;
                reads_fraction = true;
            }
        } else if self.next_is_digit() {
            minute = self.digits(2).ok_or(EXPECTED)?;
            if self.next_is_digit() {
                second = self.digits(2).ok_or(EXPECTED)?;
                reads_fraction = true;
            }
        }
        if reads_fraction && self.take(|sign| matches!(sign, b'.' | b',')).is_some() {
            let count = self.0.iter().take_while(|digit| digit.is_ascii_digit()).count();
            if count == 0 || count > 9 {
                return Err(EXPECTED);
            }
            let digits = &self.0[..count];
            micros = (0..6).fold(0, |sum, at| sum * 10 + digits.get(at).map_or(0, |digit| i64::from(digit - b'0')));
            self.0 = &self.0[count..];
        }
        match (hour, minute, second) {
            (24, 0, 0) => Err(MIDNIGHT),
            (0..=23, 0..=59, 0..=60) => Ok(((hour * 60 + minute) * 60 + second.min(59)) * SECOND + micros),
            _ => Err(DATE),
        }
    }
}

/// Applies a zone to a local time.
fn offset(zone: &str, civil: i64) -> Result<i64, &'static str> {
    let (zone, mut notes) = match zone.find('[') {
        Some(at) => (zone[..at].trim_end(), &zone[at..]),
        None => (zone, ""),
    };
    let mut name = None;
    while let Some((note, rest)) = notes.strip_prefix('[').and_then(|notes| notes.split_once(']')) {
        let note = note.trim_start_matches('!');
        // [u-ca=gregory] names a calendar.
        if name.is_none() && !note.contains('=') {
            name = Some(note);
        }
        notes = rest.trim_start();
    }
    if !notes.is_empty() {
        return Err(ZONE);
    }
    let utc = |text: &str| ["Z", "UTC", "GMT", "UT"].iter().any(|known| text.eq_ignore_ascii_case(known));
    if zone.is_empty() {
        return match name {
            None => Ok(civil),
            Some(name) if utc(name) => Ok(civil),
            Some(name) => signed(name).map(|offset| civil - offset).map_or_else(|| named(name, civil), Ok),
        };
    }
    if utc(zone) {
        return Ok(civil);
    }
    let bare = ["UTC", "GMT"].iter().find_map(|known| {
        let (start, rest) = zone.split_at_checked(3)?;
        start.eq_ignore_ascii_case(known).then_some(rest)
    });
    match signed(bare.unwrap_or(zone)) {
        Some(offset) => Ok(civil - offset),
        // On its own, CET is one hour ahead of UTC all year; the database's zone with that name has summer time.
        None if name.is_none() && !["CET", "MET", "EET", "WET"].contains(&zone) => named(zone, civil),
        None => Err(ZONE),
    }
}

/// The microseconds of an offset such as +01:00, -0330, +05:30:15 or +01.
fn signed(text: &str) -> Option<i64> {
    let mut rest = Rest(text.as_bytes());
    let sign = if rest.take(|sign| matches!(sign, b'+' | b'-'))? == b'-' { -1 } else { 1 };
    let hours = rest.digits(2)?;
    let mut parts = [0; 2];
    for part in &mut parts {
        if rest.0.is_empty() {
            break;
        }
        rest.take(|sign| sign == b':');
        *part = rest.digits(2)?;
    }
    let [minutes, seconds] = parts;
    // Offsets in use go up to 14 hours; historical ones up to 16.
    let is_offset = rest.0.is_empty() && hours <= 18 && minutes <= 59 && seconds <= 59;
    is_offset.then_some(sign * ((hours * 60 + minutes) * 60 + seconds) * SECOND)
}

/// Applies a zone of the database to a local time. In a gap or an overlap, the offset from before the transition is
/// used.
fn named(zone: &str, civil: i64) -> Result<i64, &'static str> {
    let zone = TimeZoneDatabase::bundled().get(zone).map_err(|_| ZONE)?;
    let local = TimeZone::UTC.to_datetime(Timestamp::from_microsecond(civil).map_err(|_| DATE)?);
    zone.to_timestamp(local).map(Timestamp::as_microsecond).map_err(|_| DATE)
}

/// Parses a web server's time, `31/Jan/2026:12:00:00 +0100`, to microseconds; without a zone it is UTC.
pub(super) fn clf(text: &str) -> Option<i64> {
    let mut rest = Rest(text.as_bytes());
    let day = rest.digits(2)?;
    rest.take(|sign| sign == b'/')?;
    let (month, after) = rest.0.split_at_checked(3)?;
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = months.iter().position(|name| name.as_bytes().eq_ignore_ascii_case(month))? as i64 + 1;
    rest.0 = after;
    rest.take(|sign| sign == b'/')?;
    let year = rest.digits(4)?;
    rest.take(|sign| sign == b':')?;
    let civil = days(year, month, day)? * DAY + rest.time(Form::Basic).ok()?;
    let zone = std::str::from_utf8(rest.0).ok()?.trim();
    if zone.is_empty() { Some(civil) } else { signed(zone).map(|offset| civil - offset) }
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

/// Fast path for `2026-01-31T12:00:00`, optionally with a space for the T, up to nine fractional digits and a Z. Nearly
/// all texts look like this, and it costs a tenth of the full parser. Returns `None` for anything else.
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
    let days = days(number(0, 4)?, number(5, 7)?, number(8, 10)?)?;
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if hour > 23 || minute > 59 || second > 59 {
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
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * SECOND + micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, unit: TimeUnit) -> Result<i64, &'static str> {
        from_text(text, unit).map(|(micros, _)| micros)
    }

    #[test]
    fn every_way_of_writing_a_time_gives_the_same_microseconds() {
        let expected = Ok(1_767_225_600_097_000);
        for (text, unit) in [
            ("1767225600097", TimeUnit::Auto),
            ("1767225600097", TimeUnit::Millis),
            ("1767225600.097", TimeUnit::Auto),
            ("1767225600.097", TimeUnit::Seconds),
            ("1.767225600097e9", TimeUnit::Auto),
            ("1767225600097000", TimeUnit::Auto),
            ("1767225600097000", TimeUnit::Micros),
            ("1767225600097000999", TimeUnit::Auto),
            ("1767225600097000000", TimeUnit::Nanos),
            ("1.767225600097e18", TimeUnit::Auto),
            ("2026-01-01T00:00:00.097Z", TimeUnit::Auto),
            ("2026-01-01t00:00:00.097z", TimeUnit::Auto),
            ("2026-01-01T01:00:00.097+01:00", TimeUnit::Auto),
            ("2026-01-01 00:00:00.097", TimeUnit::Auto),
            ("2026-01-01 00:00:00,097", TimeUnit::Auto),
            ("2026-01-01 00:00:00.097 UTC", TimeUnit::Auto),
            ("2026-01-01 00:00:00.097UTC", TimeUnit::Auto),
            ("2026-01-01 00:00:00.097 GMT", TimeUnit::Auto),
            ("2026-01-01 00:00:00.097 Z", TimeUnit::Auto),
            ("2026-01-01 00:00:00.097 +0000", TimeUnit::Auto),
            ("2026-01-01 00:00:00.097+0000", TimeUnit::Auto),
            ("2026-01-01 00:00:00.097+00", TimeUnit::Auto),
            ("2026-01-01 00:00:00.097 +00:00", TimeUnit::Auto),
            ("2025-12-31 20:30:00.097 -0330", TimeUnit::Auto),
            ("2026-01-01T05:30:00.097+05:30:00", TimeUnit::Auto),
            ("2026-01-01 01:00:00.097 GMT+0100", TimeUnit::Auto),
            ("2026-01-01T01:00:00.097[Europe/Berlin]", TimeUnit::Auto),
            ("2026-01-01T01:00:00.097+01:00[Europe/Berlin]", TimeUnit::Auto),
            ("2026-01-01T01:00:00.097 [europe/berlin]", TimeUnit::Auto),
            ("2026-01-01T01:00:00.097[!Europe/Berlin][u-ca=gregory]", TimeUnit::Auto),
            ("2026-01-01T00:00:00.097Z[UTC]", TimeUnit::Auto),
            ("2026-01-01T00:00:00.097[UTC]", TimeUnit::Auto),
            ("2026-01-01T01:00:00.097[+01:00]", TimeUnit::Auto),
            ("2026-01-01 01:00:00.097 Europe/Berlin", TimeUnit::Auto),
            ("20260101T000000.097Z", TimeUnit::Auto),
            ("20260101 000000.097", TimeUnit::Micros),
            ("20260101 00:00:00.097", TimeUnit::Auto),
            ("20260101T010000.097+0100", TimeUnit::Auto),
            ("2026/01/01 00:00:00.097", TimeUnit::Auto),
            (" 2026-01-01T00:00:00.097Z\t", TimeUnit::Auto),
        ] {
            assert_eq!(read(text, unit), expected, "{text} in {unit:?}");
        }
        let day = Ok(1_772_323_200_000_000);
        for text in [
            "2026-03-01",
            "20260301",
            "20260301.0",
            "20260301T000000Z",
            "202603010000",
            "20260301000000",
            "2026-03-01Z",
            "2026-03-01 UTC",
            "2026-03-01T00:00",
            "2026-03-01T00Z",
            "2026-03-01T01:00+01:00[Europe/Berlin]",
            "01/Mar/2026:01:00:00 +0100",
            "[01/Mar/2026:00:00:00 +0000]",
            "Sun, 01 Mar 2026 00:00:00 GMT",
            "Sun, 01 Mar 2026 01:00:00 +0100 (CET)",
            "1 Mar 2026 00:00 UT (a \"(comment)\")",
            "Sat, 28 Feb 2026 19:00:00 est",
            "2026-03-01T01:00:00[CET]",
        ] {
            assert_eq!(read(text, TimeUnit::Auto), day, "{text}");
        }
        assert_eq!(read("20260301T101500Z", TimeUnit::Seconds), Ok(1_772_360_100_000_000));
        assert_eq!(from_int(20_260_301_101_500, TimeUnit::Auto), 1_772_360_100_000_000);
        assert_eq!(read("1997-01-12", TimeUnit::Auto), Ok(853_027_200_000_000));
        assert_eq!(from_int(i64::MAX, TimeUnit::Seconds), i64::MAX);
        assert_eq!(from_number("1e300", TimeUnit::Seconds), Some((i64::MAX, Some(i64::MAX))));
    }

    #[test]
    fn summer_time_is_the_zones_own() {
        let at = |text: &str| text.parse::<Timestamp>().map(Timestamp::as_microsecond).map_err(|_| "");
        for (text, expected) in [
            ("2026-07-01T12:00:00[Europe/Berlin]", "2026-07-01T10:00:00Z"),
            ("2026-01-01T12:00:00[Europe/Berlin]", "2026-01-01T11:00:00Z"),
            // An hour that does not exist, and one that occurs twice.
            ("2026-03-29T02:30:00[Europe/Berlin]", "2026-03-29T01:30:00Z"),
            ("2026-10-25T02:30:00[Europe/Berlin]", "2026-10-25T00:30:00Z"),
            ("2026-10-25T02:30:00+01:00[Europe/Berlin]", "2026-10-25T01:30:00Z"),
            ("2026-07-01T12:00:00[America/New_York]", "2026-07-01T16:00:00Z"),
        ] {
            assert_eq!(read(text, TimeUnit::Auto), at(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_told_for_its_own_reason() {
        for (text, expected) in [
            ("", EXPECTED),
            ("soon", EXPECTED),
            ("NaN", EXPECTED),
            ("inf", EXPECTED),
            ("12:00:00", EXPECTED),
            ("2026-01-01T", EXPECTED),
            ("2026-01-01_00:00:00Z", ZONE),
            ("2026-01-01T00:00:00.Z", EXPECTED),
            ("2026-01-01T00:00:00.1234567890Z", EXPECTED),
            ("2026-13-01", DATE),
            ("2026-02-29T00:00:00Z", DATE),
            ("1900-02-29T00:00:00Z", DATE),
            ("2026-00-01T00:00:00Z", DATE),
            ("20261301T000000Z", DATE),
            ("2026-01-01T00:60:00Z", DATE),
            ("2026-01-01T25:00:00Z", DATE),
            ("2026-01-01T24:00:01Z", DATE),
            ("2026-01-01T24:00:00Z", MIDNIGHT),
            ("20260101T240000", MIDNIGHT),
            ("2026-W05-6", WEEK),
            ("2026W056", EXPECTED),
            ("2026-W05-6T10:00:00Z", WEEK),
            ("2026-031", ORDINAL),
            ("2026-031T10:00:00Z", ORDINAL),
            ("03/01/2026", ORDER),
            ("1.3.2026 10:00", ORDER),
            ("2026-01-01T00:00:00 PST", ZONE),
            ("2026-01-01T00:00:00+25:00", ZONE),
            ("2026-01-01T00:00:00+1", ZONE),
            ("2026-01-01T00:00:00ZZ", ZONE),
            ("2026-01-01T00:00:00.1-3", ZONE),
            ("2026-01-01T00:00:00[Nowhere/Land]", ZONE),
            ("2026-01-01T00:00:00[Europe/Berlin", ZONE),
            ("2026-01-01T00:00:00 PST[Europe/Berlin]", ZONE),
            ("2026-07-01 10:00:00 CET", ZONE),
            ("2026-07-01 10:00:00 CEST", ZONE),
            ("Wed, 1 Jul 2026 10:00:00 CEST", ZONE),
            ("Wed, 1 Jul 2026 10:00:00 CET", ZONE),
            ("1 Jul 2026 10:00:00 xyz (a (comment))", ZONE),
            ("Wed, 1 Jul 2026 10:00:00 A", ZONE),
            ("Wed, 1 Jul 2026 10:00:00", EXPECTED),
            ("[1990]", EXPECTED),
            ("[2026]", EXPECTED),
        ] {
            assert_eq!(read(text, TimeUnit::Auto), Err(expected), "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_text_of_the_parts_of_times_is_read_or_refused(
            parts in proptest::collection::vec(
                proptest::sample::select(&[
                    "1990", "2026", "20260301", "03", "1", "9", "-", "/", ".", ":", "T", " ", "Z", "W", "[", "]", "+", "é", "\0", "GMT",
                    "CEST", "Europe/Berlin", "(", ")", "Mar", "Sun, ", "e9", ",",
                ][..]),
                0..8,
            ),
        ) {
            let text = parts.concat();
            // The parsers must not contradict each other.
            let (found, date) = (read(&text, TimeUnit::Auto), dated(&text));
            let is_number = from_number(text.trim(), TimeUnit::Auto).is_some();
            proptest::prop_assert!(is_number || date.is_err() || found == date, "{text:?}: {found:?}, {date:?}");
            proptest::prop_assert!(clf(&text).is_none_or(|time| found == Ok(time)), "{text:?}: {found:?}");
        }
    }

    #[test]
    fn a_number_in_the_wrong_unit_is_told_by_the_unit_that_it_is_in() {
        let is_plausible = |micros| (631_152_000_000_000..4_102_444_800_000_000).contains(&micros);
        for (number, hint) in [
            (1_767_225_600, Some("unit = \"s\"")),
            (1_767_225_600_097, Some("unit = \"ms\"")),
            (1_767_225_600_097_000, Some("unit = \"us\"")),
            (1_767_225_600_097_000_000, Some("unit = \"ns\"")),
            (20_260_301, Some("As a date")),
            (7, None),
            (-1, None),
            (i64::MAX, None),
        ] {
            let found = meant(number, is_plausible);
            assert_eq!(found.is_some(), hint.is_some(), "{number}: {found:?}");
            assert!(found.unwrap_or_default().contains(hint.unwrap_or_default()), "{number}: {found:?}");
        }
    }

    #[test]
    fn the_common_way_gives_what_the_grammar_gives() {
        // Every day from 1890 to 2110, plus the first and last years.
        let days = (-29_220..51_134).chain([-719_528, -719_163, 2_932_894]);
        for day in days {
            let micros = day * 86_400_000_000_i64 + (day.rem_euclid(86_400)) * 1_000_000 + day.rem_euclid(1_000_000);
            let time = Timestamp::from_microsecond(micros).expect("within the grammar's years");
            let text = time.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
            assert_eq!(common(text.as_bytes()), Some(micros), "{text}");
            assert_eq!(common(text.replace('T', " ").trim_end_matches('Z').as_bytes()), Some(micros), "{text}");
            assert_eq!(dated(&text), Ok(micros), "{text}");
            let clf_text = time.strftime("%d/%b/%Y:%H:%M:%S +0000").to_string();
            assert_eq!(clf(&clf_text), Some(micros.div_euclid(SECOND) * SECOND), "{clf_text}");
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
            assert!(read(text, TimeUnit::Auto).is_err(), "{text}");
        }
        assert_eq!(read("2016-12-31T23:59:60Z", TimeUnit::Auto), read("2016-12-31T23:59:59Z", TimeUnit::Auto));
        assert_eq!(common(b"2024-02-29 00:00:00.5"), Some(1_709_164_800_500_000));
    }
}
