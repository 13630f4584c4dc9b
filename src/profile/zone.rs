//! The zones of users: IANA names, kept in profiles as hashes, looked up in the database that is compiled in.

use super::compile::{Calendar, text_hash};
use jiff::{
    Timestamp,
    civil::DateTime,
    tz::{TimeZone, TimeZoneDatabase},
};
use std::{collections::HashMap, f64::consts::TAU};

const DAY_SECONDS: f64 = 86_400.0;

/// Zones by the hash of their name.
#[derive(Debug, Default)]
pub(super) struct Zones {
    names: HashMap<u64, String>,
    known: HashMap<u64, TimeZone>,
}

impl Zones {
    /// All zones of the database.
    pub(super) fn all() -> Self {
        let database = TimeZoneDatabase::bundled();
        let names = database.available().map(|name| (text_hash(name.as_str().as_bytes()), name.as_str().to_owned()));
        Self { names: names.collect(), known: HashMap::new() }
    }

    /// The local time of a moment in microseconds: in UTC where the hash is that of no zone.
    fn local(&mut self, micros: i64, zone: u64) -> DateTime {
        // Events are accepted for the years that the calendar has.
        let moment = Timestamp::from_microsecond(micros).unwrap_or_default();
        let zone = match self.known.get(&zone) {
            Some(zone) => zone,
            None => {
                let name = self.names.get(&zone).map_or("UTC", String::as_str);
                let found = TimeZoneDatabase::bundled().get(name).unwrap_or(TimeZone::UTC);
                self.known.entry(zone).or_insert(found)
            }
        };
        zone.to_datetime(moment)
    }

    /// Reads the calendar.
    pub(super) fn read(&mut self, what: Calendar, micros: i64, zone: u64) -> f64 {
        let local = self.local(micros, zone);
        let day = || {
            let seconds = (i32::from(local.hour()) * 60 + i32::from(local.minute())) * 60 + i32::from(local.second());
            f64::from(seconds) / DAY_SECONDS * TAU
        };
        match what {
            Calendar::Hour => local.hour().into(),
            Calendar::Weekday => local.weekday().to_monday_one_offset().into(),
            Calendar::DayOfMonth => local.day().into(),
            Calendar::Month => local.month().into(),
            Calendar::HourSin => day().sin(),
            Calendar::HourCos => day().cos(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calendar_is_read_in_the_zone_summer_time_included() {
        let mut zones = Zones::all();
        let at = |text: &str| text.parse::<Timestamp>().expect("a time").as_microsecond();
        for (time, zone, what, expected) in [
            ("2026-07-01T22:30:00Z", "Europe/Berlin", Calendar::Hour, 0.0),
            ("2026-01-01T22:30:00Z", "Europe/Berlin", Calendar::Hour, 23.0),
            ("2026-07-01T22:30:00Z", "Asia/Kolkata", Calendar::Hour, 4.0),
            ("2026-07-01T22:30:00Z", "Nowhere/Land", Calendar::Hour, 22.0),
            ("2026-06-30T23:30:00Z", "Europe/Berlin", Calendar::Month, 7.0),
            ("2026-06-30T23:30:00Z", "Europe/Berlin", Calendar::DayOfMonth, 1.0),
            ("2026-11-25T12:00:00Z", "UTC", Calendar::Weekday, 3.0),
            ("2026-11-25T06:00:00Z", "UTC", Calendar::HourSin, 1.0),
            ("2026-11-25T00:00:00Z", "UTC", Calendar::HourCos, 1.0),
        ] {
            assert_eq!(zones.read(what, at(time), text_hash(zone.as_bytes())), expected, "{time} {zone} {what:?}");
        }
    }
}
