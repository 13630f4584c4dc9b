//! Dates and times of day in text: ISO 8601, and the formats of web servers, e-mail and HTTP.

use super::{DAY, SECOND, days};
use jiff::{
    Timestamp,
    fmt::rfc2822,
    tz::{TimeZone, TimeZoneDatabase},
};

/// The expected form, for texts that are not a time.
pub(in super::super) const EXPECTED: &str = "a time: a number, or text such as 2026-01-31T12:00:00Z";
pub(super) const WEEK: &str = "a time such as 2026-01-31T12:00:00Z; week dates (2026-W05-6) are not read";
pub(super) const ORDINAL: &str = "a time such as 2026-01-31T12:00:00Z; days of the year (2026-031) are not read";
pub(super) const ORDER: &str =
    "a time such as 2026-01-31T12:00:00Z; the year comes first, because 01/02/2026 is two dates";
pub(super) const ZONE: &str =
    "a time whose zone is an offset (+01:00), Z, UTC, GMT or an IANA name in brackets ([Europe/Berlin])";
pub(super) const MIDNIGHT: &str = "a time of day up to 23:59:59; 24:00:00 is 00:00:00 of the next day";
pub(super) const DATE: &str = "a date and a time of day that exist";

/// Parses a date with an optional time of day to microseconds. Plain numbers are rejected.
pub(in super::super) fn dated(text: &str) -> Result<i64, &'static str> {
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
pub(super) fn of_others(text: &str) -> Option<Result<i64, &'static str>> {
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
pub(in super::super) fn clf(text: &str) -> Option<i64> {
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

/// Fast path for `2026-01-31T12:00:00`, optionally with a space for the T, up to nine fractional digits and a Z. Nearly
/// all texts look like this, and it costs a tenth of the full parser. Returns `None` for anything else.
pub(super) fn common(text: &[u8]) -> Option<i64> {
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
