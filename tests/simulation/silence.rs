//! Which decisions need not be written, directly from the rule in `aimpoint::decision::emission`: from what readers were
//! told, decision by decision.
//!
//! A worker may write more than that, since it does not always know what readers were told. It may never write less.

use super::world::{BID_SHARE, EVERY};
use aimpoint::{sink::Target, testkit::Visible};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The content of a decision, and how long it can be used.
#[derive(Clone, Debug, PartialEq)]
struct Content {
    /// The status; the segments, each with the start of a membership; and the campaigns, each with arm and creative.
    what: BTreeSet<String>,
    /// By campaign.
    bids: BTreeMap<String, i64>,
    at: i64,
    until: i64,
}

impl Content {
    fn of(output: &Visible) -> Self {
        let payload = output.payload.as_deref().unwrap_or_default();
        let decision: Value = serde_json::from_slice(payload).expect("a decision is JSON");
        let list = |name: &str| decision[name].as_array().expect("a list").clone();
        let long = |value: &Value| value.as_i64().expect("a number");
        let mut what = BTreeSet::from([decision["status"].to_string()]);
        let mut until = long(&decision["expires_at"]);
        for it in list("segments") {
            what.insert(format!("segment {} since {}", it["id"], it["entered_at"]));
            until = it["expires_at"].as_i64().map_or(until, |end| end.min(until));
        }
        let mut bids = BTreeMap::new();
        for it in list("campaigns") {
            what.insert(format!("campaign {} {} {}", it["id"], it["arm"], it["creative"]["id"]));
            bids.insert(it["id"].to_string(), long(&it["bid_micros"]));
        }
        Self { what, bids, at: long(&decision["occurred_at"]), until }
    }
}

/// What readers were told about a user.
#[derive(Clone, Debug)]
struct Told {
    content: Content,
    /// The latest time of all that they were told.
    latest: i64,
}

impl Told {
    /// Whether it makes this decision dispensable. Where the worker may have forgotten earlier times, either will do.
    fn covers(&self, new: &Content) -> bool {
        let Self { content: old, latest } = self;
        // A late event is from before what they were told.
        let is_soon = new.at < latest + EVERY;
        let is_near = |(id, bid): (&String, &i64)| {
            old.bids.get(id).is_some_and(|old| (bid - old).abs() as f64 <= BID_SHARE * *old as f64)
        };
        let is_same = old.what == new.what && new.bids.iter().all(is_near);
        let runs_out = new.until > old.until && new.at >= latest + (old.until - latest) / 2;
        is_soon || is_same && !runs_out
    }
}

/// What the readers of a partition were told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Readers {
    users: BTreeMap<Vec<u8>, Told>,
    /// The next place in the partition's order.
    pub(crate) next: i64,
    /// How many decisions were not written.
    pub(crate) silent: u64,
    /// How many were written that need not have been.
    pub(crate) needless: u64,
}

impl Readers {
    /// They read an output.
    pub(crate) fn read(&mut self, output: &Visible) {
        if output.target != Target::Decisions {
            return;
        }
        let content = Content::of(output);
        let user = output.key.clone().unwrap_or_default();
        let before = self.users.get(&user);
        self.needless += u64::from(before.is_some_and(|told| told.covers(&content)));
        let latest = before.map_or(content.at, |told| told.latest.max(content.at));
        self.users.insert(user, Told { content, latest });
    }

    /// Whether one of these outputs, which differ in the score, need not be written.
    pub(crate) fn can_do_without(&mut self, outputs: &[&Visible]) -> bool {
        let is_dispensable = |output: &&Visible| {
            let told = output.key.as_ref().and_then(|user| self.users.get(user));
            output.target == Target::Decisions && told.is_some_and(|told| told.covers(&Content::of(output)))
        };
        let can = outputs.iter().any(is_dispensable);
        self.silent += u64::from(can);
        can
    }
}
