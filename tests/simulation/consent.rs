//! Consent computed directly from its definition, event by event: what each user chose, and what it permits.
//!
//! Two flags are enough: one forbids to write, the other only to emit. Which strings say what is tested where they are
//! read.

use super::naive::Event;
use aimpoint::testkit::InputRecord;
use rand::{Rng, rngs::SmallRng};
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub(crate) const SPEC: &str = r#"
[profile]
ttl = "10000d"

[consent]
enabled = true
vendor_id = 1
country_default = "BR"
without_law = ["write", "score", "emit", "measure", "train"]

[consent.forbids]
gpc = ["write", "score", "emit", "train"]
lmt = ["emit"]
"#;

const HOUR: i64 = 3_600_000_000;

/// What may be done, from least to most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Permits {
    Nothing,
    NoEmission,
    All,
}

/// A flag of the last consent event with its hour; within an hour, a yes wins.
type Flag = Option<(i64, bool)>;

#[derive(Clone, Debug, Default)]
struct User {
    gpc: Flag,
    lmt: Flag,
    /// By the last event that was written, and when it happened.
    last: Option<(i64, Permits)>,
}

/// What the users of a partition chose.
#[derive(Clone, Debug, Default)]
pub(crate) struct NaiveConsent {
    users: BTreeMap<String, User>,
}

/// The flags of an event, and whether they are remembered.
fn flags(record: &InputRecord) -> ([Option<bool>; 2], bool) {
    let event: Value = serde_json::from_slice(record.payload.as_deref().unwrap_or_default()).unwrap_or_default();
    (["gpc", "lmt"].map(|name| event["consent"][name].as_bool()), event["event_type"] == "consent")
}

/// Whether an event is one that the user's choice is remembered from.
pub(crate) fn is_remembered(record: &InputRecord) -> bool {
    flags(record).1
}

impl NaiveConsent {
    /// What a sound event permits.
    pub(crate) fn judge(&mut self, event: &Event, record: &InputRecord) -> Permits {
        let user = self.users.entry(event.user.clone()).or_default();
        let hour = event.time.div_euclid(HOUR);
        let (own, is_remembered) = flags(record);
        let [gpc, lmt] = [&mut user.gpc, &mut user.lmt];
        let [no_write, no_emission] = [(gpc, own[0]), (lmt, own[1])].map(|(kept, own)| {
            if is_remembered {
                *kept = (*kept).max(own.map(|own| (hour, own)));
            }
            match (own, *kept) {
                (Some(own), Some((kept_hour, kept))) if kept_hour >= hour => own || kept,
                (own, kept) => own.or(kept.map(|(_, kept)| kept)) == Some(true),
            }
        });
        match (no_write, no_emission) {
            (true, _) => Permits::Nothing,
            (false, true) => Permits::NoEmission,
            (false, false) => Permits::All,
        }
    }

    /// Notes that a user's event was written. A late one permits no more than the last.
    pub(crate) fn note(&mut self, event: &Event, permits: Permits) {
        let user = self.users.entry(event.user.clone()).or_default();
        user.last = Some(match user.last {
            _ if permits == Permits::Nothing => (event.time, permits),
            Some((newest, last)) if event.time < newest => (newest, last.min(permits)),
            _ => (event.time, permits),
        });
    }

    /// What the user's last event permits.
    pub(crate) fn last(&self, user: &str) -> Permits {
        self.users.get(user).and_then(|user| user.last).map_or(Permits::Nothing, |(_, permits)| permits)
    }
}

/// Gives some of the events consent flags, and makes some consent events.
pub(crate) fn add_flags(input: &mut [Vec<InputRecord>], random: &mut SmallRng) {
    for record in input.iter_mut().flatten() {
        let Some(payload) = &record.payload else { continue };
        let Ok(mut event) = serde_json::from_slice::<Value>(payload) else { continue };
        match random.random_range(0..8) {
            0 => event["event_type"] = "consent".into(),
            1 => {}
            _ => continue,
        }
        let name = if random.random_bool(0.6) { "gpc" } else { "lmt" };
        event["consent"] = json!({ name: random.random_bool(0.5) });
        record.payload = Some(event.to_string().into_bytes());
    }
}
