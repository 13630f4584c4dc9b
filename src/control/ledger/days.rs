//! The days of a campaign, in its zone.

use crate::targeting::pacing::{BUCKET_MS, Moment};
use jiff::{Timestamp, civil::Date, tz::TimeZone};

const BUCKET_US: i64 = BUCKET_MS as i64 * 1_000;
const DAY_S: i64 = 86_400;

/// A clock in a zone, which remembers the day it was last asked for: most questions are about today.
#[derive(Clone, Debug)]
pub(in super::super) struct Days {
    zone: TimeZone,
    last: Option<Day>,
}

/// A day between two midnights, in microseconds.
#[derive(Clone, Copy, Debug)]
struct Day {
    number: i32,
    start: i64,
    end: i64,
}

impl Days {
    pub(in super::super) fn new(zone: TimeZone) -> Self {
        Self { zone, last: None }
    }

    /// A time in microseconds since 1970 as a moment of its day.
    pub(in super::super) fn moment(&mut self, at: i64) -> Moment {
        let day = match self.last {
            Some(day) if (day.start..day.end).contains(&at) => day,
            _ => {
                let day = self.day(at);
                self.last = Some(day);
                day
            }
        };
        let into = at.saturating_sub(day.start).max(0);
        // A day has at most 100 buckets, and at least one.
        let buckets = ((day.end - day.start) / BUCKET_US).clamp(1, 100);
        let bucket = (into / BUCKET_US).min(buckets - 1);
        Moment {
            at_ms: at.div_euclid(1_000),
            day: day.number,
            bucket: bucket as u16,
            buckets: buckets as u16,
            into_ms: ((into - bucket * BUCKET_US) / 1_000) as u32,
        }
    }

    /// The number of days up to a later moment, both included. At least 1.
    pub(in super::super) fn days_until(&mut self, day: i32, until: i64) -> u32 {
        // `until` itself is after the end.
        let last = self.day(until.saturating_sub(1)).number;
        u32::try_from(i64::from(last) - i64::from(day) + 1).unwrap_or(1).max(1)
    }

    fn day(&self, at: i64) -> Day {
        let local = Timestamp::from_microsecond(at).map(|at| self.zone.to_datetime(at).date());
        let midnight = |date: Date| {
            self.zone.to_timestamp(date.to_datetime(jiff::civil::Time::midnight())).map(Timestamp::as_microsecond)
        };
        let day = local.and_then(|date| {
            let number = TimeZone::UTC.to_timestamp(date.to_datetime(jiff::civil::Time::midnight()))?;
            let number = number.as_second().div_euclid(DAY_S) as i32;
            Ok(Day { number, start: midnight(date)?, end: midnight(date.tomorrow()?)? })
        });
        // Outcomes have times that the calendar knows; at its very end, a day of UTC does.
        day.unwrap_or_else(|_| {
            let day = DAY_S * 1_000_000;
            let number = at.div_euclid(day);
            let start = number.saturating_mul(day);
            Day { number: number as i32, start, end: start.saturating_add(day) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn days(zone: &str) -> Days {
        Days::new(jiff::tz::TimeZoneDatabase::bundled().get(zone).unwrap())
    }

    fn at(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_microsecond()
    }

    #[test]
    fn a_day_begins_at_midnight_of_the_zone_and_has_92_to_100_quarters() {
        for (zone, time, day, bucket, buckets, into_ms) in [
            ("UTC", "1970-01-02T00:00:00.001Z", 1, 0, 96, 1),
            ("Asia/Kolkata", "2026-01-01T18:29:59.999Z", 20_454, 95, 96, 899_999),
            ("Asia/Kolkata", "2026-01-01T18:30:00Z", 20_455, 0, 96, 0),
            ("Europe/Berlin", "2026-03-29T21:59:00Z", 20_541, 91, 92, 840_000),
            ("Europe/Berlin", "2026-10-25T22:59:00Z", 20_751, 99, 100, 840_000),
            ("UTC", "1969-12-31T23:59:59Z", -1, 95, 96, 899_000),
        ] {
            let moment = days(zone).moment(at(time));
            let found = (moment.day, moment.bucket, moment.buckets, moment.into_ms);
            assert_eq!(found, (day, bucket, buckets, into_ms), "{zone} {time}");
        }
    }

    #[test]
    fn what_is_remembered_of_a_day_changes_nothing() {
        let mut kept = days("Europe/Berlin");
        let start = at("2026-03-27T00:00:00Z");
        for step in 0..2_000 {
            let time = start + step * 7_777 * 1_000_000 % (6 * DAY_S * 1_000_000);
            assert_eq!(kept.moment(time), days("Europe/Berlin").moment(time));
        }
        for odd in [i64::MIN, i64::MAX, i64::MAX / 2, 253_402_207_200_000_000] {
            assert!(usize::from(kept.moment(odd).bucket) < 100);
        }
    }

    #[test]
    fn the_days_left_include_both_ends() {
        let mut days = days("Europe/Berlin");
        let today = days.moment(at("2026-03-01T12:00:00Z")).day;
        for (until, expected) in [
            ("2026-03-01T23:00:00Z", 1),
            ("2026-03-01T23:00:01Z", 2),
            ("2026-03-31T22:00:00Z", 31),
            ("2026-02-01T00:00:00Z", 1),
        ] {
            assert_eq!(days.days_until(today, at(until)), expected, "{until}");
        }
    }
}
