//! When a campaign runs: dates, dayparts and time zones.
//!
//! Guarantees: dayparts follow the wall clock of their zone. When clocks are put back, the repeated hour counts twice.
//! When they are put forward, the skipped hour does not count. A date means its midnight in the zone, or the first
//! moment of the day if clocks are put forward at midnight. Dayparts are exact to the minute.
//!
//! With `zone = "user"`, a campaign starts and ends at each user's own midnight. If the user's zone is unknown, such a
//! campaign does not run. Limits: each zone in use costs one comparison per batch row, because its offset is cached
//! together with the time until which it applies.

use super::spec::CampaignSpec;
use crate::{
    columns::{Columns, Slot},
    config_error::ConfigError,
    expression::{Scope, nearest},
    profile::{FeatureSpec, HiddenFeature},
};
use jiff::{
    Timestamp,
    civil::{Date, DateTime},
    tz::{TimeZone, TimeZoneDatabase},
};
use std::f64::consts::TAU;

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const DAY_SECONDS: i64 = 86_400;
const DAY_MINUTES: u16 = 1_440;
const WEEK_MINUTES: u16 = 7 * DAY_MINUTES;

/// The value of `zone` that stands for each user's own zone.
const USER: &str = "user";

/// The number of days from Monday to 1970-01-01, a Thursday.
const EPOCH_WEEKDAY: i64 = 3;

const WEEKDAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// The calendar aggregates that together give the local time of a user.
const LOCAL: [&str; 3] = ["weekday", "hour_sin", "hour_cos"];

/// A fixed zone with its current offset.
#[derive(Debug)]
struct Fixed {
    name: String,
    zone: TimeZone,
    /// The time range in which the offset applies.
    begin: i64,
    end: i64,
    offset: i64,
}

impl Fixed {
    fn local(&mut self, time: i64) -> i64 {
        if time < self.begin || time >= self.end {
            // The calendar supports the times of all accepted events.
            let moment = |micros| Timestamp::from_microsecond(micros).unwrap_or_default();
            self.offset = i64::from(self.zone.to_offset(moment(time)).seconds()) * SECOND;
            // Transitions strictly before the next microsecond include one at this moment.
            let before = self.zone.preceding(moment(time.saturating_add(1))).next();
            let after = self.zone.following(moment(time)).next();
            self.begin = before.map_or(i64::MIN, |it| it.timestamp().as_microsecond());
            self.end = after.map_or(i64::MAX, |it| it.timestamp().as_microsecond());
        }
        time.saturating_add(self.offset)
    }
}

/// The clock of one zone.
#[derive(Debug)]
enum Clock {
    Fixed(Fixed),
    /// The columns of the aggregates in [`LOCAL`].
    User([Slot; 3]),
}

/// The zones of all campaigns, and the local time in each of them at the current row.
#[derive(Debug, Default)]
pub(super) struct Clocks {
    clocks: Vec<Clock>,
    local: Vec<Option<i64>>,
}

#[derive(Clone, Debug)]
enum Zone {
    Of(TimeZone),
    User,
}

impl Clocks {
    /// Computes the local times of an event, in microseconds as if the local time were UTC.
    pub(super) fn set(&mut self, time: i64, columns: &Columns, row: usize) {
        self.local.clear();
        self.local.extend(self.clocks.iter_mut().map(|clock| match clock {
            Clock::Fixed(zone) => Some(zone.local(time)),
            Clock::User(slots) => user_local(time, slots.map(|slot| columns.get(slot).doubles()[row])),
        }));
    }

    /// The index of a zone's clock. The clock is added if it is missing.
    fn number(&mut self, name: &str, zone: &Zone, slots: Option<[Slot; 3]>) -> Option<usize> {
        let is_same = |clock: &Clock| match (clock, zone) {
            (Clock::Fixed(fixed), Zone::Of(_)) => fixed.name.eq_ignore_ascii_case(name),
            (Clock::User(_), Zone::User) => true,
            _ => false,
        };
        if let Some(number) = self.clocks.iter().position(is_same) {
            return Some(number);
        }
        self.clocks.push(match zone {
            Zone::User => Clock::User(slots?),
            Zone::Of(zone) => {
                let (name, zone) = (name.to_owned(), zone.clone());
                Clock::Fixed(Fixed { name, zone, begin: i64::MAX, end: i64::MIN, offset: 0 })
            }
        });
        Some(self.clocks.len() - 1)
    }
}

/// The local time of a user, computed from the local weekday and the hand angle of the day that the profile provides.
fn user_local(time: i64, [weekday, sin, cos]: [f64; 3]) -> Option<i64> {
    if weekday.is_nan() || sin.is_nan() || cos.is_nan() {
        return None;
    }
    // The angle of a whole second, exact to far less than one.
    let angle = sin.atan2(cos).rem_euclid(TAU);
    let local_second = (angle / TAU * DAY_SECONDS as f64).round() as i64 % DAY_SECONDS;
    let seconds = time.div_euclid(SECOND);
    let days = match (weekday as i64 - 1 - EPOCH_WEEKDAY - seconds.div_euclid(DAY_SECONDS)).rem_euclid(7) {
        6 => -1,
        days => days,
    };
    let offset = days * DAY_SECONDS + local_second - seconds.rem_euclid(DAY_SECONDS);
    Some(time.saturating_add(offset * SECOND))
}

/// The hidden features that give users' local times.
pub(super) fn hidden_features(user_zone: &str, features: &mut Vec<HiddenFeature>) {
    for aggregate in LOCAL {
        let feature = FeatureSpec {
            name: format!("user {aggregate}"),
            aggregate: Some(aggregate.to_owned()),
            options: [("zone".to_owned(), toml::Value::String(user_zone.to_owned()))].into(),
            ..FeatureSpec::default()
        };
        features.push(HiddenFeature { key: "targeting.user_zone".to_owned(), feature });
    }
}

/// Whether a campaign follows the zones of its users.
pub(super) fn is_of_user(spec: &CampaignSpec) -> bool {
    spec.zone.as_deref() == Some(USER)
}

/// A limit in time, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// A limit on the event time.
    Absolute(i64),
    /// A limit on the user's local time.
    Local(i64),
}

/// When a campaign runs.
#[derive(Clone, Debug)]
pub(super) struct Calendar {
    /// The zone; UTC for the zones of users.
    pub(super) zone: TimeZone,
    from: Option<Moment>,
    until: Option<Moment>,
    /// Half-open ranges of minutes of the week, in order. `None` means always.
    dayparts: Option<Vec<(u16, u16)>>,
    /// The index of its clock, if it needs the local time.
    clock: Option<usize>,
}

/// Why a campaign is not running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closed {
    Dates,
    Daypart,
}

impl Calendar {
    /// Compiles the calendar of a campaign. Errors are added under `campaign[index]`.
    pub(super) fn compile(
        index: usize,
        spec: &CampaignSpec,
        has_user_zone: bool,
        clocks: &mut Clocks,
        scope: &Scope,
        errors: &mut Vec<ConfigError>,
    ) -> Self {
        let key = |rest: &str| format!("campaign[{index}].{rest}");
        let name = spec.zone.as_deref().unwrap_or("UTC");
        let zone = zone_of(name, has_user_zone).unwrap_or_else(|error| {
            errors.push(ConfigError { key: key("zone"), ..error });
            Zone::Of(TimeZone::UTC)
        });
        let mut limit = |part: &str, text: &Option<String>| {
            let moment = moment(text.as_deref()?, &zone, part == "until");
            if moment.is_none() {
                let message = format!("{:?} is not a date or time", text.as_deref().unwrap_or_default());
                let hint = "write 2026-03-01, 2026-03-01T08:00, or with an offset 2026-03-01T08:00:00+01:00";
                errors.push(ConfigError::new(key(part), message).hint(hint));
            }
            moment
        };
        let (from, until) = (limit("from", &spec.from), limit("until", &spec.until));
        let is_empty = match (from, until) {
            (Some(Moment::Absolute(from)), Some(Moment::Absolute(until)))
            | (Some(Moment::Local(from)), Some(Moment::Local(until))) => until <= from,
            _ => false,
        };
        if is_empty {
            errors.push(
                ConfigError::new(key("until"), "the campaign is over before it begins")
                    .hint("swap from and until, or correct one; a date of until still counts"),
            );
        }
        let mut minutes = Vec::new();
        for (number, text) in spec.dayparts.iter().enumerate() {
            match daypart(text) {
                Ok(part) => minutes.extend(part),
                Err(message) => errors.push(
                    ConfigError::new(
                        key(&format!("dayparts[{number}]")),
                        format!("{text:?} is not a daypart: {message}"),
                    )
                    .hint("for instance \"mon-fri 08:00-20:00\", \"sat,sun\", or \"22:00-02:00\" for every night"),
                ),
            }
        }
        let is_local = |moment| matches!(moment, Some(Moment::Local(_)));
        let needs_clock = !spec.dayparts.is_empty() || is_local(from) || is_local(until);
        let slots = LOCAL.map(|aggregate| scope.get(&format!("user {aggregate}")).map(|(slot, _)| slot));
        let slots = if let [Some(a), Some(b), Some(c)] = slots { Some([a, b, c]) } else { None };
        Self {
            zone: match &zone {
                Zone::User => TimeZone::UTC,
                Zone::Of(zone) => zone.clone(),
            },
            from,
            until,
            dayparts: (!spec.dayparts.is_empty()).then(|| merged(minutes)),
            clock: if needs_clock { clocks.number(name, &zone, slots) } else { None },
        }
    }

    /// When it ends, if that is the same moment for all users.
    pub(super) fn until(&self) -> Option<i64> {
        match self.until {
            Some(Moment::Absolute(until)) => Some(until),
            Some(Moment::Local(_)) | None => None,
        }
    }

    /// The reason why the campaign does not run at this time, if it does not.
    pub(super) fn closed(&self, time: i64, clocks: &Clocks) -> Option<Closed> {
        let local = self.clock.and_then(|clock| clocks.local[clock]);
        // Whether the moment has come. `None` if that is unknown.
        let has_come = |moment: Moment| match moment {
            Moment::Absolute(moment) => Some(time >= moment),
            Moment::Local(moment) => local.map(|local| local >= moment),
        };
        let is_within = self.from.is_none_or(|from| has_come(from) == Some(true))
            && self.until.is_none_or(|until| has_come(until) == Some(false));
        if !is_within {
            return Some(Closed::Dates);
        }
        let Some(parts) = &self.dayparts else { return None };
        let is_open = local.is_some_and(|local| {
            let minute = local.div_euclid(MINUTE) + EPOCH_WEEKDAY * i64::from(DAY_MINUTES);
            let minute = minute.rem_euclid(i64::from(WEEK_MINUTES)) as u16;
            parts.iter().any(|(begin, end)| (*begin..*end).contains(&minute))
        });
        (!is_open).then_some(Closed::Daypart)
    }
}

/// The zone with this name, or an error whose key is not yet set.
fn zone_of(name: &str, has_user_zone: bool) -> Result<Zone, ConfigError> {
    if name == USER {
        let message = "nothing tells the time zones of users";
        let hint = "set targeting.user_zone to the field that has their names";
        return if has_user_zone { Ok(Zone::User) } else { Err(ConfigError::new("", message).hint(hint)) };
    }
    let database = TimeZoneDatabase::bundled();
    database.get(name).map(Zone::Of).map_err(|_| {
        let error = ConfigError::new("", format!("there is no time zone {name:?}"));
        let known: Vec<String> = database.available().map(|name| name.as_str().to_owned()).collect();
        match nearest(name, known.iter().map(String::as_str).chain([USER])) {
            Some(near) => error.hint(format!("did you mean {near:?}?")),
            None => error.hint("write an IANA name such as \"Europe/Berlin\", or \"user\""),
        }
    })
}

/// Parses `from` or `until`.
fn moment(text: &str, zone: &Zone, is_until: bool) -> Option<Moment> {
    const DATE: &str = "2026-03-01";
    let in_zone = |time: DateTime| match zone {
        Zone::Of(zone) => Some(Moment::Absolute(zone.to_timestamp(time).ok()?.as_microsecond())),
        Zone::User => Some(Moment::Local(TimeZone::UTC.to_timestamp(time).ok()?.as_microsecond())),
    };
    if text.len() == DATE.len() {
        let date: Date = text.parse().ok()?;
        let day = if is_until { date.tomorrow().ok()? } else { date };
        return in_zone(day.to_datetime(jiff::civil::Time::midnight()));
    }
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Some(Moment::Absolute(moment.as_microsecond()));
    }
    in_zone(text.parse().ok()?)
}

/// Parses a daypart into ranges of minutes of the week.
fn daypart(text: &str) -> Result<Vec<(u16, u16)>, String> {
    let lower = text.to_ascii_lowercase();
    let parts: Vec<&str> = lower.split_ascii_whitespace().collect();
    let (days, hours) = match parts[..] {
        [hours] if hours.contains(':') => (None, Some(hours)),
        [days] => (Some(days), None),
        [days, hours] => (Some(days), Some(hours)),
        _ => return Err("expected days, hours, or days and hours".to_owned()),
    };
    let (begin, end) = hours.map_or(Ok((0, DAY_MINUTES)), hours_of)?;
    let mut ranges = Vec::new();
    for day in days.map_or(Ok((0..7).collect()), days_of)? {
        let (begin, end) = (day * DAY_MINUTES + begin, day * DAY_MINUTES + end);
        ranges.push((begin, end.min(WEEK_MINUTES)));
        if end > WEEK_MINUTES {
            ranges.push((0, end - WEEK_MINUTES));
        }
    }
    Ok(ranges)
}

/// The numbers of the days in `mon-fri,sun`, with Monday as 0.
fn days_of(text: &str) -> Result<Vec<u16>, String> {
    let number = |name: &str| {
        let found = WEEKDAYS.iter().position(|day| *day == name);
        found
            .map(|day| day as u16)
            .ok_or_else(|| format!("{name:?} is not a day; the days are {}", WEEKDAYS.join(", ")))
    };
    let mut days = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        days.extend((0..=(last + 7 - first) % 7).map(|after| (first + after) % 7));
    }
    Ok(days)
}

/// The minutes of the day of `08:00-20:00`. If the end is not after the start, it is on the next day.
fn hours_of(text: &str) -> Result<(u16, u16), String> {
    let minute = |text: &str| {
        let (hour, minute) = text.split_once(':')?;
        let number = |text: &str, max: u16| {
            let is_plain = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse::<u16>().ok().filter(|number| is_plain && *number <= max)
        };
        let minutes: u16 = number(hour, 24)? * 60 + number(minute, 59)?;
        (minutes <= DAY_MINUTES).then_some(minutes)
    };
    let wrong = || format!("{text:?} is not of the form 08:00-20:00, with hours from 00:00 to 24:00");
    let (begin, end) = text.split_once('-').ok_or_else(wrong)?;
    match (minute(begin).ok_or_else(wrong)?, minute(end).ok_or_else(wrong)?) {
        (begin, end) if begin % DAY_MINUTES == end % DAY_MINUTES && (begin, end) != (0, DAY_MINUTES) => {
            Err("it ends when it begins; leave out the hours for the whole day".to_owned())
        }
        (DAY_MINUTES, _) => Err("24:00 is not a start; write 00:00".to_owned()),
        (begin, end) if begin < end => Ok((begin, end)),
        (begin, end) => Ok((begin, end + DAY_MINUTES)),
    }
}

/// Sorts the ranges and joins adjacent and overlapping ones.
fn merged(mut ranges: Vec<(u16, u16)>) -> Vec<(u16, u16)> {
    ranges.sort_unstable();
    let mut merged: Vec<(u16, u16)> = Vec::with_capacity(ranges.len());
    for (begin, end) in ranges {
        match merged.last_mut() {
            Some((_, last)) if begin <= *last => *last = end.max(*last),
            _ => merged.push((begin, end)),
        }
    }
    merged
}

#[cfg(test)]
mod tests;
