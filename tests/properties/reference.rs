//! The definitions, as plainly as they can be written: no tiles, no cells, no buffers, but the list of all events.

use crate::world::{Event, Feature, SECOND, Spec, Window};
use aimpoint::profile::Applied;
use std::collections::BTreeMap;

/// What a feature has to be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Expected {
    Exactly(f64),
    /// A sum, and the sum of the absolute values in it: rounding depends on the order of adding.
    About(f64, f64),
}

impl Expected {
    pub(crate) fn is(self, found: f64) -> bool {
        match self {
            Self::Exactly(value) => found == value || (found.is_nan() && value.is_nan()),
            Self::About(value, _) if value.is_nan() => found.is_nan(),
            Self::About(value, size) => (found - value).abs() <= 1e-9 * size,
        }
    }

    fn parts(self) -> (f64, f64) {
        match self {
            Self::Exactly(value) => (value, value.abs()),
            Self::About(value, size) => (value, size),
        }
    }
}

#[derive(Default)]
struct User {
    /// Every event that counted since the profile began.
    events: Vec<Event>,
    /// The remembered ids with their times, in the order of their arrival.
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
    newest: BTreeMap<i32, i64>,
}

impl<'a> Reference<'a> {
    pub(crate) fn new(spec: &'a Spec) -> Self {
        Self { spec, users: BTreeMap::new(), newest: BTreeMap::new() }
    }

    pub(crate) fn apply(&mut self, event: &Event) -> (Applied, Vec<Expected>) {
        let spec = self.spec;
        let newest_of_all = self.newest.entry(event.partition).or_insert(event.time);
        *newest_of_all = event.time.max(*newest_of_all);
        let user = self.users.entry((event.partition, event.user)).or_default();
        if user.newest().is_some_and(|newest| newest < *newest_of_all - spec.ttl * SECOND) {
            *user = User::default();
        }
        let nothing = vec![Expected::Exactly(f64::NAN); spec.features.len()];
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
        let mut values: Vec<Expected> = Vec::new();
        for feature in &spec.features {
            let value = match feature.aggregate {
                "derived" => {
                    let ((a, a_size), (b, b_size)) = (values[feature.of.0].parts(), values[feature.of.1].parts());
                    Expected::About(a - b * 0.5, a_size + b_size)
                }
                _ => aggregate(feature, &user.events, event),
            };
            values.push(value);
        }
        (Applied::Counted, values)
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
        "age" => return seconds((event.time - all[0].time).max(0)),
        "hour" => return Expected::Exactly((event.time / SECOND / 3_600 % 24) as f64),
        // Day 0 was a Thursday.
        "weekday" => return Expected::Exactly(((event.time / SECOND / 86_400 + 3) % 7 + 1) as f64),
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
        // `max_by_key` gives the last one of equals.
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
