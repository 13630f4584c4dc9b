//! The definitions in their plainest form: no tiles, cells or buffers, only the list of all events.

use crate::world::{CATEGORIES, Event, Feature, SECOND, Spec, Window};
use aimpoint::profile::Applied;
use std::collections::BTreeMap;

/// The expected value of a feature.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Expected {
    Exactly(f64),
    /// A sum, and the sum of its absolute values, because rounding depends on the order of additions.
    About(f64, f64),
    /// From the first to the second, inclusive.
    Within(f64, f64),
}

impl Expected {
    pub(crate) fn is(self, found: f64) -> bool {
        match self {
            Self::Exactly(value) => found == value || (found.is_nan() && value.is_nan()),
            Self::About(value, _) if value.is_nan() => found.is_nan(),
            Self::About(value, size) => (found - value).abs() <= 1e-9 * size,
            Self::Within(least, most) => (least - 1e-9..=most + 1e-9).contains(&found),
        }
    }

    fn parts(self) -> (f64, f64) {
        match self {
            Self::Exactly(value) => (value, value.abs()),
            Self::About(value, size) => (value, size),
            Self::Within(..) => unreachable!("what is derived is derived of exact features"),
        }
    }
}

#[derive(Default)]
struct User {
    /// Every event that counted since the profile began.
    events: Vec<Event>,
    /// The remembered ids with their times, in arrival order.
    ids: Vec<(i64, usize)>,
}

impl User {
    fn newest(&self) -> Option<i64> {
        self.events.iter().map(|event| event.time).max()
    }
}

pub(crate) struct Reference<'a> {
    spec: &'a Spec,
    users: BTreeMap<(i32, usize), User>,
    /// By partition: the users' newest event times, the fifth newest of which is the partition time.
    newest: BTreeMap<i32, BTreeMap<usize, i64>>,
}

impl<'a> Reference<'a> {
    pub(crate) fn new(spec: &'a Spec) -> Self {
        Self { spec, users: BTreeMap::new(), newest: BTreeMap::new() }
    }

    pub(crate) fn apply(&mut self, event: &Event) -> (Applied, Vec<Expected>) {
        let spec = self.spec;
        let all = self.newest.entry(event.partition).or_default();
        let of_user = all.entry(event.user).or_insert(event.time);
        *of_user = event.time.max(*of_user);
        let mut all: Vec<i64> = all.values().copied().collect();
        all.sort_unstable_by(|a, b| b.cmp(a));
        let now = all.get(4).map_or(event.time, |fifth| event.time.max(*fifth));
        let user = self.users.entry((event.partition, event.user)).or_default();
        if user.newest().is_some_and(|newest| newest < now - spec.ttl * SECOND) {
            *user = User::default();
        }
        let width = spec.features.iter().map(|feature| feature.columns().len()).sum();
        let nothing = vec![Expected::Exactly(f64::NAN); width];
        let newest = user.newest().map_or(event.time, |newest| newest.max(event.time));
        if spec.horizon > 0 {
            let within = |time: i64| time >= newest - spec.horizon * SECOND;
            if event.id.is_some_and(|id| user.ids.iter().any(|known| known.1 == id && within(known.0))) {
                return (Applied::Duplicate, nothing);
            }
        }
        if event.time < newest - spec.lateness * SECOND {
            return (Applied::TooLate, nothing);
        }
        if spec.horizon > 0 {
            user.ids.retain(|known| known.0 >= newest - spec.horizon * SECOND);
            if let Some(id) = event.id
                && event.time >= newest - spec.horizon * SECOND
            {
                user.ids.push((event.time, id));
                let beyond = user.ids.len().saturating_sub(spec.ids_max);
                user.ids.drain(..beyond);
            }
        }
        user.events.push(event.clone());
        let mut values: Vec<Vec<Expected>> = Vec::new();
        for feature in &spec.features {
            let columns = match feature.aggregate {
                "derived" => {
                    let ((a, a_size), (b, b_size)) = (values[feature.of.0][0].parts(), values[feature.of.1][0].parts());
                    vec![Expected::About(a - b * 0.5, a_size + b_size)]
                }
                _ => columns(feature, &user.events, event),
            };
            values.push(columns);
        }
        (Applied::Counted, values.concat())
    }
}

fn exactly(value: f64) -> Vec<Expected> {
    vec![Expected::Exactly(value)]
}

fn flag(is: bool) -> Expected {
    Expected::Exactly(f64::from(u8::from(is)))
}

/// The original aggregates have one column each.
fn columns(feature: &Feature, all: &[Event], event: &Event) -> Vec<Expected> {
    let options = feature.options;
    let covered = |other: &&Event| match feature.window {
        Window::None | Window::Forever => true,
        Window::Length { length, tile } => {
            let number = |time: i64| time.div_euclid(tile * SECOND);
            let (now, then) = (number(event.time), number(other.time));
            now - length / tile < then && then <= now
        }
    };
    let condition = match feature.aggregate {
        "attribute" => feature.condition.or(Some("event_type == 'identify'")),
        _ => feature.condition,
    };
    let meets = |other: &&Event| condition.is_none_or(|condition| holds(condition, other));
    let counted: Vec<&Event> = all.iter().filter(covered).filter(meets).collect();
    let seconds = |micros: i64| micros as f64 / SECOND as f64;
    let numbers = || -> Vec<(i64, f64)> {
        let name = feature.value.expect("it has a value");
        counted.iter().filter_map(|other| Some((other.time, value(name, other)?))).collect()
    };
    let texts =
        || -> Vec<(i64, &str)> { counted.iter().filter_map(|other| Some((other.time, other.currency?))).collect() };
    match feature.aggregate {
        "variance" | "stddev" => {
            let values = numbers();
            if values.is_empty() {
                return exactly(f64::NAN);
            }
            let count = values.len() as f64;
            let mean = values.iter().map(|(_, it)| it).sum::<f64>() / count;
            let squares = values.iter().map(|(_, it)| (it - mean).powi(2)).sum::<f64>() / count;
            // Rounding is relative to the values, not to their distance.
            let size = values.iter().map(|(_, it)| it * it).sum::<f64>() / count;
            if feature.aggregate == "variance" {
                return vec![Expected::About(squares, size.max(1.0) * 1e-3)];
            }
            vec![Expected::About(squares.sqrt(), size.sqrt().max(1.0) * 1e3)]
        }
        "first" | "last" | "attribute" if feature.is_text() => {
            let texts = texts();
            // Of equal elements, `min_by_key` returns the first and `max_by_key` the last.
            let found = match feature.aggregate {
                "first" => texts.iter().min_by_key(|(time, _)| *time),
                _ => texts.iter().max_by_key(|(time, _)| *time),
            };
            let found = found.map(|(_, text)| *text);
            if options.by_category {
                let mut columns: Vec<Expected> = CATEGORIES
                    .iter()
                    .map(|category| found.map_or(Expected::Exactly(f64::NAN), |found| flag(found == *category)))
                    .collect();
                let other = |found: &str| flag(!CATEGORIES.contains(&found));
                columns.push(found.map_or(Expected::Exactly(f64::NAN), other));
                return columns;
            }
            exactly(
                found
                    .map_or(f64::NAN, |found| (rapidhash::v3::rapidhash_v3(found.as_bytes()) % options.buckets) as f64),
            )
        }
        "first" => exactly(numbers().iter().min_by_key(|(time, _)| *time).map_or(f64::NAN, |(_, it)| *it)),
        "attribute" => exactly(numbers().iter().max_by_key(|(time, _)| *time).map_or(f64::NAN, |(_, it)| *it)),
        "last_k" => {
            let mut values = numbers();
            // A stable sort of the reversed arrivals, so that of equal times the later arrival comes first.
            values.reverse();
            values.sort_by_key(|(time, _)| std::cmp::Reverse(*time));
            (0..options.k).map(|rank| Expected::Exactly(values.get(rank).map_or(f64::NAN, |(_, it)| *it))).collect()
        }
        "distinct" => {
            let different: std::collections::BTreeSet<u64> = if feature.is_text() {
                texts().iter().map(|(_, text)| rapidhash::v3::rapidhash_v3(text.as_bytes())).collect()
            } else {
                numbers().iter().map(|(_, it)| (it + 0.0).to_bits()).collect()
            };
            let count = different.len() as f64;
            if different.len() <= options.exact {
                return exactly(count);
            }
            // Four standard errors, which no seed in use exceeds.
            let error = 4.0 * 1.04 / (options.exact as f64 * 8.0).sqrt();
            vec![Expected::Within(count * (1.0 - error), count * (1.0 + error))]
        }
        "top" => {
            let mut counts = BTreeMap::<String, f64>::new();
            if feature.is_text() {
                for (_, text) in texts() {
                    *counts.entry(text.to_owned()).or_default() += 1.0;
                }
            } else {
                for (_, it) in numbers() {
                    *counts.entry(format!("{}", it + 0.0)).or_default() += 1.0;
                }
            }
            let total: f64 = counts.values().sum();
            let is_exact = counts.len() <= options.capacity;
            let mut counts: Vec<f64> = counts.into_values().collect();
            counts.sort_by(|a, b| b.total_cmp(a));
            let less = if is_exact { 0.0 } else { total / (options.capacity as f64 + 1.0) };
            let ranked: Vec<f64> = (0..options.k).map(|rank| counts.get(rank).copied().unwrap_or(0.0)).collect();
            let shares = ranked.iter().map(|count| {
                if total == 0.0 {
                    Expected::Exactly(f64::NAN)
                } else {
                    Expected::Within((count - less) / total, count / total)
                }
            });
            ranked.iter().map(|count| Expected::Within(count - less, *count)).chain(shares).collect()
        }
        "categories" => {
            let texts = texts();
            let count =
                |is: &dyn Fn(&str) -> bool| Expected::Exactly(texts.iter().filter(|(_, text)| is(text)).count() as f64);
            let mut columns: Vec<Expected> =
                CATEGORIES.iter().map(|category| count(&|text| text == *category)).collect();
            columns.push(count(&|text| !CATEGORIES.contains(&text)));
            columns
        }
        "ratio" => {
            let count = |condition: &str| counted.iter().filter(|other| holds(condition, other)).count() as f64;
            let ratio = (count(options.numerator) + options.alpha) / (count(options.denominator) + options.beta);
            exactly(if ratio.is_finite() { ratio } else { f64::NAN })
        }
        "since_first" => {
            let oldest = counted.iter().map(|other| other.time).min();
            exactly(oldest.map_or(f64::NAN, |oldest| seconds((event.time - oldest).max(0))))
        }
        "mean_gap" => {
            let mut times: Vec<i64> = counted.iter().map(|other| other.time).collect();
            times.sort_unstable();
            let gaps: Vec<f64> = times.windows(2).map(|pair| seconds(pair[1] - pair[0])).collect();
            if gaps.is_empty() {
                return exactly(f64::NAN);
            }
            let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
            vec![Expected::About(mean, mean.max(1.0) * 10.0)]
        }
        "decayed_count" | "decayed_sum" => {
            let values: Vec<(i64, f64)> = match feature.aggregate {
                "decayed_sum" => numbers(),
                _ => counted.iter().map(|other| (other.time, 1.0)).collect(),
            };
            let newest = values.iter().map(|(time, _)| *time).max().unwrap_or_default();
            let faded = |time: i64| 0.5_f64.powf(seconds(newest - time) / options.half_life as f64);
            let sum = values.iter().map(|(time, it)| it * faded(*time)).sum();
            let size: f64 = values.iter().map(|(time, it)| it.abs() * faded(*time)).sum();
            vec![Expected::About(sum, size.max(1e-6) * 100.0)]
        }
        "session_events" | "session_length" | "session_count" => {
            let gap = options.gap * SECOND;
            // Oldest, newest, number of events.
            let mut sessions: Vec<(i64, i64, usize)> = Vec::new();
            for time in counted.iter().map(|other| other.time) {
                match sessions.last_mut() {
                    Some((oldest, newest, count)) if time <= *newest + gap => {
                        if time >= *oldest - gap {
                            (*oldest, *newest, *count) = (time.min(*oldest), time.max(*newest), *count + 1);
                        }
                    }
                    _ => sessions.push((time, time, 1)),
                }
            }
            let current = sessions.last();
            exactly(match feature.aggregate {
                "session_events" => current.map_or(0.0, |(_, _, count)| *count as f64),
                "session_count" => sessions.len() as f64,
                _ => current.map_or(f64::NAN, |(oldest, newest, _)| seconds(newest - oldest)),
            })
        }
        "hour" | "weekday" | "day_of_month" | "month" | "hour_sin" | "hour_cos" => {
            // An unknown name does not replace a known one.
            let known = |other: &&Event| other.zone.is_some_and(|name| jiff::tz::TimeZone::get(name).is_ok());
            let named = all.iter().filter(known).max_by_key(|other| other.time);
            let zone = match (options.zoned, named) {
                (false, _) => jiff::tz::TimeZone::UTC,
                (true, None) => return exactly(f64::NAN),
                (true, Some(other)) => jiff::tz::TimeZone::get(other.zone.unwrap_or_default()).expect("it is known"),
            };
            let moment = jiff::Timestamp::from_microsecond(event.time).expect("streams are of our time");
            let local = zone.to_datetime(moment);
            let clock =
                f64::from(local.hour()) * 3_600.0 + f64::from(local.minute()) * 60.0 + f64::from(local.second());
            let angle = std::f64::consts::TAU * clock / 86_400.0;
            match feature.aggregate {
                "hour" => exactly(local.hour().into()),
                "weekday" => exactly(local.weekday().to_monday_one_offset().into()),
                "day_of_month" => exactly(local.day().into()),
                "month" => exactly(local.month().into()),
                "hour_sin" => vec![Expected::About(angle.sin(), 1.0)],
                _ => vec![Expected::About(angle.cos(), 1.0)],
            }
        }
        _ => vec![aggregate(feature, all, event)],
    }
}

fn aggregate(feature: &Feature, all: &[Event], event: &Event) -> Expected {
    let covered = |other: &&Event| match feature.window {
        Window::None | Window::Forever => true,
        Window::Length { length, tile } => {
            let number = |time: i64| time.div_euclid(tile * SECOND);
            let (now, then) = (number(event.time), number(other.time));
            now - length / tile < then && then <= now
        }
    };
    let meets = |other: &&Event| feature.condition.is_none_or(|condition| holds(condition, other));
    let seconds = |micros: i64| Expected::Exactly(micros as f64 / SECOND as f64);
    match feature.aggregate {
        "age" if event.time < all[0].time => return Expected::Exactly(f64::NAN),
        "age" => return seconds(event.time - all[0].time),
        "recency" => {
            let earlier = &all[..all.len() - 1];
            let since =
                earlier.iter().filter(meets).map(|other| other.time).max().map(|last| (event.time - last).max(0));
            return match (since, feature.window) {
                (Some(since), Window::Length { length, .. }) if since >= length * SECOND => Expected::Exactly(f64::NAN),
                (Some(since), _) => seconds(since),
                (None, _) => Expected::Exactly(f64::NAN),
            };
        }
        _ => {}
    }
    let counted = all.iter().filter(covered).filter(meets);
    if feature.aggregate == "count" {
        return Expected::Exactly(counted.count() as f64);
    }
    let name = feature.value.expect("the other aggregates have a value");
    let with_value: Vec<(i64, f64)> = counted.filter_map(|other| Some((other.time, value(name, other)?))).collect();
    let values = || with_value.iter().map(|(_, value)| *value);
    let (sum, size) = (values().sum::<f64>(), values().map(f64::abs).sum::<f64>());
    match feature.aggregate {
        "sum" => Expected::About(sum, size),
        "mean" if with_value.is_empty() => Expected::Exactly(f64::NAN),
        "mean" => Expected::About(sum / with_value.len() as f64, size / with_value.len() as f64),
        "min" => Expected::Exactly(values().fold(f64::NAN, f64::min)),
        "max" => Expected::Exactly(values().fold(f64::NAN, f64::max)),
        // Of equal elements, `max_by_key` returns the last.
        "last" => Expected::Exactly(with_value.iter().max_by_key(|(time, _)| *time).map_or(f64::NAN, |(_, it)| *it)),
        other => unreachable!("no aggregate {other}"),
    }
}

fn finite(value: Option<f64>) -> Option<f64> {
    value.filter(|value| value.is_finite())
}

fn holds(condition: &str, event: &Event) -> bool {
    match condition {
        "event_type == 'view'" => event.kind == "view",
        "event_type != 'view'" => event.kind != "view",
        "value > 0.0" => finite(event.value).is_some_and(|value| value > 0.0),
        "bot" => event.bot == Some(true),
        "event_type == 'identify'" => event.kind == "identify",
        "!bot && dwell_ms >= 500" => event.bot == Some(false) && event.dwell_ms.is_some_and(|dwell| dwell >= 500),
        other => unreachable!("no condition {other}"),
    }
}

fn value(name: &str, event: &Event) -> Option<f64> {
    match name {
        "value" => finite(event.value),
        "value * 2.0" => finite(event.value).map(|value| value * 2.0),
        "dwell_ms" => event.dwell_ms.map(|dwell| dwell as f64),
        "bot" => event.bot.map(|bot| f64::from(u8::from(bot))),
        "sent_at" => event.sent_at.map(|micros| micros as f64 / SECOND as f64),
        other => unreachable!("no value {other}"),
    }
}
