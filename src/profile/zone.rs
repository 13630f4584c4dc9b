//! The time zones of users: IANA names, stored in profiles as hashes and looked up in the compiled-in database.
//!
//! Names match regardless of case, so `europe/berlin` means `Europe/Berlin`. An unknown name is counted and does not
//! replace a known one.

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
    /// The names in lower case, sorted, with their hashes.
    sorted: Vec<(String, u64)>,
    known: HashMap<u64, TimeZone>,
    /// How many unknown names there were since the last call of [`Zones::take_unknown`].
    unknown: u64,
}

impl Zones {
    /// All zones of the database.
    pub(super) fn all() -> Self {
        let database = TimeZoneDatabase::bundled();
        let names: HashMap<u64, String> =
            database.available().map(|name| (text_hash(name.as_str().as_bytes()), name.as_str().to_owned())).collect();
        let mut sorted: Vec<(String, u64)> =
            names.iter().map(|(hash, name)| (name.to_ascii_lowercase(), *hash)).collect();
        sorted.sort_unstable();
        Self { names, sorted, ..Self::default() }
    }

    /// The hash under which a zone is stored, if the text names one.
    pub(super) fn hash(&mut self, name: &[u8]) -> Option<u64> {
        let name = name.trim_ascii();
        let hash = text_hash(name);
        if self.names.contains_key(&hash) {
            return Some(hash);
        }
        let small = |byte: &u8| byte.to_ascii_lowercase();
        let found = self.sorted.binary_search_by(|(known, _)| known.bytes().cmp(name.iter().map(small)));
        self.unknown += u64::from(found.is_err());
        found.ok().map(|index| self.sorted[index].1)
    }

    /// Returns the number of unknown names since the last call.
    pub(super) fn take_unknown(&mut self) -> u64 {
        std::mem::take(&mut self.unknown)
    }

    /// The local time of a moment in microseconds, in UTC without a zone; `None` if the hash is not that of a zone.
    fn local(&mut self, micros: i64, zone: Option<u64>) -> Option<DateTime> {
        // Events are accepted only for years that the calendar supports.
        let moment = Timestamp::from_microsecond(micros).unwrap_or_default();
        let Some(zone) = zone else { return Some(TimeZone::UTC.to_datetime(moment)) };
        let zone = match self.known.get(&zone) {
            Some(zone) => zone,
            None => {
                let found = TimeZoneDatabase::bundled().get(self.names.get(&zone)?).ok()?;
                self.known.entry(zone).or_insert(found)
            }
        };
        Some(zone.to_datetime(moment))
    }

    /// Reads a calendar feature in the zone with this hash, or in UTC without one; NaN if the hash is not that of a
    /// zone.
    pub(super) fn read(&mut self, what: Calendar, micros: i64, zone: Option<u64>) -> f64 {
        let Some(local) = self.local(micros, zone) else { return f64::NAN };
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
    fn blanks_around_a_zone_s_name_are_no_part_of_it() {
        let mut zones = Zones::all();
        for name in [" Europe/Berlin ", "europe/berlin\t", "\nEurope/Berlin"] {
            assert_eq!(zones.hash(name.as_bytes()), Some(text_hash(b"Europe/Berlin")), "{name:?}");
        }
        assert_eq!(zones.take_unknown(), 0);
    }

    #[test]
    fn the_calendar_is_read_in_the_zone_summer_time_included() {
        let mut zones = Zones::all();
        let at = |text: &str| text.parse::<Timestamp>().expect("a time").as_microsecond();
        for (time, zone, what, expected) in [
            ("2026-07-01T22:30:00Z", "Europe/Berlin", Calendar::Hour, 0.0),
            ("2026-01-01T22:30:00Z", "Europe/Berlin", Calendar::Hour, 23.0),
            ("2026-07-01T22:30:00Z", "Asia/Kolkata", Calendar::Hour, 4.0),
            ("2026-06-30T23:30:00Z", "Europe/Berlin", Calendar::Month, 7.0),
            ("2026-06-30T23:30:00Z", "Europe/Berlin", Calendar::DayOfMonth, 1.0),
            ("2026-11-25T12:00:00Z", "UTC", Calendar::Weekday, 3.0),
            ("2026-11-25T06:00:00Z", "UTC", Calendar::HourSin, 1.0),
            ("2026-11-25T00:00:00Z", "UTC", Calendar::HourCos, 1.0),
        ] {
            let hash = zones.hash(zone.as_bytes());
            assert_eq!(hash, Some(text_hash(zone.as_bytes())));
            assert_eq!(zones.read(what, at(time), hash), expected, "{time} {zone} {what:?}");
        }
        assert_eq!(zones.read(Calendar::Hour, at("2026-07-01T22:30:00Z"), None), 22.0);
        assert!(zones.read(Calendar::Hour, 0, Some(text_hash(b"Nowhere/Land"))).is_nan(), "no zone is not UTC");
    }

    #[test]
    fn a_name_in_other_letters_is_the_same_zone_and_one_that_is_none_is_counted() {
        let mut zones = Zones::all();
        let berlin = zones.hash(b"Europe/Berlin");
        assert!(berlin.is_some());
        assert_eq!((zones.hash(b"europe/berlin"), zones.hash(b"EUROPE/BERLIN")), (berlin, berlin));
        assert_eq!(zones.take_unknown(), 0);
        for name in ["Nowhere/Land", "", "Europe", "+02:00", " ", "Europe /Berlin", "\u{e4}"] {
            assert_eq!(zones.hash(name.as_bytes()), None, "{name:?}");
        }
        assert_eq!((zones.take_unknown(), zones.take_unknown()), (7, 0));
    }
}
