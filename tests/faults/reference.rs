//! The expected output, computed from all input events directly by the definitions, without tiles, buffers or code of
//! the program.

use super::program::Found;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

/// The features. Each binary digit of a feature has a segment, which keeps decisions small; a run that needs more digits fails.
const FEATURES: [&str; 3] = ["seen", "views", "spent"];
const DIGITS: u32 = 8;
const TILE_MS: i64 = 60_000;
const TILES: i64 = 10;

/// The group membership and the delivery guarantee: lines of `[app]`, `[kafka.consumer]` and `[commit]`.
pub(crate) struct GroupSetup(&'static str, &'static str, &'static str);

const SHORT_SESSION: &str = "\"session.timeout.ms\" = 6000";

/// The classic protocol with dynamic members.
pub(crate) const USUAL: GroupSetup = GroupSetup("", SHORT_SESSION, "");
/// Static membership.
pub(crate) const STATIC: GroupSetup = GroupSetup("static_membership = true", SHORT_SESSION, "");
/// The consumer protocol (KIP-848).
pub(crate) const BROKER: GroupSetup = GroupSetup("", "\"group.protocol\" = \"consumer\"", "");
/// Dynamic members with at-least-once delivery.
pub(crate) const AT_LEAST_ONCE: GroupSetup = GroupSetup("", SHORT_SESSION, "delivery = \"at_least_once\"");

/// The configuration of a run.
pub(crate) fn config(GroupSetup(app, consumer, commit): &GroupSetup) -> String {
    let mut config = format!("[app]\nname = \"faults\"\n{app}\n\n[kafka.consumer]\n{consumer}\n");
    if !commit.is_empty() {
        write!(config, "\n[commit]\n{commit}\n").expect("a string takes everything");
    }
    config += r#"
[checkpoint]
interval = "1s"

[engine]
workers = 2

[time]
allowed_lateness = "2h"

[[feature]]
name = "seen"
aggregate = "count"
window = "forever"

[[feature]]
name = "views"
aggregate = "count"
where = 'event_type == "view"'
window = "10m"
tile = "1m"

[[feature]]
name = "spent"
aggregate = "sum"
value = "value"
window = "10m"
tile = "1m"
"#;
    for name in FEATURES {
        let mut segment = |id: &str, rule: &str| {
            write!(config, "\n[[segment]]\nid = \"{name}-{id}\"\nwhere = \"int({name}) {rule}\"\n")
                .expect("a string takes everything");
        };
        for digit in 0..DIGITS {
            segment(&digit.to_string(), &format!("/ {} % 2 == 1", 1 << digit));
        }
        segment("more", &format!(">= {}", 1 << DIGITS));
    }
    config
}

struct Event {
    at_ms: i64,
    view: bool,
    value: i64,
}

/// The features at the newest of a user's events, in the order of arrival.
fn recount(events: &[Event]) -> [i64; 3] {
    let now = events.last().expect("there is one").at_ms.div_euclid(TILE_MS);
    let covered = |event: &&Event| {
        let then = event.at_ms.div_euclid(TILE_MS);
        now - TILES < then && then <= now
    };
    let views = events.iter().filter(covered).filter(|event| event.view).count();
    [events.len() as i64, views as i64, events.iter().filter(covered).map(|event| event.value).sum()]
}

/// The features encoded in the segments of a decision.
fn told(decision: &Value) -> [i64; 3] {
    let mut features = [0; 3];
    for segment in decision["segments"].as_array().unwrap() {
        // A segment without a digit was added during the run.
        let Some((name, digit)) = segment["id"].as_str().unwrap().rsplit_once('-') else { continue };
        assert_ne!(digit, "more", "{name} has more than {DIGITS} digits");
        let feature = FEATURES.iter().position(|it| *it == name).unwrap_or_else(|| panic!("no feature is {name}"));
        features[feature] += 1 << digit.parse::<u32>().unwrap();
    }
    features
}

/// A decision without the time it was made.
fn content(decision: &Value) -> Value {
    let mut content = decision.clone();
    for name in ["decided_at", "expires_at"] {
        content[name] = Value::Null;
    }
    content
}

/// The identity of a decision or dead letter.
pub(crate) fn id(payload: &[u8], header: impl Fn(&str) -> Option<String>) -> String {
    match (header("partition"), header("offset")) {
        (Some(partition), Some(offset)) => format!("{partition}/{offset}"),
        _ => {
            let decision: Value = serde_json::from_slice(payload).unwrap();
            decision["decision_id"].as_str().unwrap().to_owned()
        }
    }
}

/// The first occurrences, if repeats are allowed; repeats have to be identical.
pub(crate) fn first(found: Vec<Found>) -> Vec<Found> {
    let mut known = BTreeMap::<String, Value>::new();
    let is_first = |it: &Found| {
        let payload = it.payload.as_deref().unwrap_or_default();
        let id = id(payload, |name| it.headers.get(name).cloned());
        let content = match it.headers.get("reason") {
            Some(reason) => reason.clone().into(),
            None => content(&serde_json::from_slice(payload).unwrap()),
        };
        match known.get(&id) {
            None => known.insert(id, content).is_none(),
            Some(before) => {
                assert_eq!(*before, content, "{id} came again, and is another one");
                false
            }
        }
    };
    found.into_iter().filter(is_first).collect()
}

/// Compares the output with the input, and reports the first difference.
pub(crate) fn check(input: &[Found], decisions: &[Found], dead: &[Found]) {
    let mut users = BTreeMap::<(i32, String), Vec<Event>>::new();
    let mut owed = BTreeMap::<i32, Vec<(i64, String, [i64; 3])>>::new();
    let mut bad = BTreeSet::new();
    let mut sorted: Vec<&Found> = input.iter().collect();
    sorted.sort_by_key(|it| (it.partition, it.offset));
    for it in sorted {
        let Ok(event) = serde_json::from_slice::<Value>(it.payload.as_deref().unwrap_or_default()) else {
            bad.insert((it.partition, it.offset));
            continue;
        };
        let user = event["user_id"].as_str().unwrap().to_owned();
        let events = users.entry((it.partition, user.clone())).or_default();
        events.push(Event {
            at_ms: event["occurred_at"].as_i64().unwrap(),
            view: event["event_type"] == "view",
            value: event["value"].as_i64().unwrap(),
        });
        owed.entry(it.partition).or_default().push((it.offset, user, recount(events)));
    }

    let mut came = BTreeMap::<i32, Vec<(i64, String, [i64; 3])>>::new();
    for it in decisions {
        let decision: Value = serde_json::from_slice(it.payload.as_deref().unwrap()).unwrap();
        let offset = decision["input"]["offset"].as_str().unwrap().parse().unwrap();
        let user = decision["user_key"].as_str().unwrap().to_owned();
        came.entry(it.partition).or_default().push((offset, user, told(&decision)));
    }
    for (partition, owed) in &owed {
        let came = came.get(partition).map(Vec::as_slice).unwrap_or_default();
        for (index, (came, owed)) in came.iter().zip(owed).enumerate() {
            assert_eq!(came, owed, "decision {index} of partition {partition}: offset, user, [seen, views, spent]");
        }
        assert_eq!(came.len(), owed.len(), "the number of decisions of partition {partition}");
    }
    assert_eq!(decisions.len() + bad.len(), input.len(), "one decision or dead letter per input record");

    let place = |it: &Found| (it.headers["partition"].parse().unwrap(), it.headers["offset"].parse().unwrap());
    let places: BTreeSet<(i32, i64)> = dead.iter().map(place).collect();
    assert_eq!(places, bad, "the positions of the dead letters");
    assert_eq!(dead.len(), bad.len(), "a dead letter is duplicated");
}
