//! Memberships computed directly from their definition: from the accepted events, the partition's times and the ticks,
//! user by user, without words, queues or batches.

use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The lasting segments of the simulated world by priority, each with the rules that an event can meet.
pub(crate) const LASTING: [&str; 4] = ["buyer", "looker", "rich", "viewing"];

const MINUTE: i64 = 60_000_000;
const DURATIONS: [i64; 4] = [8 * 60 * MINUTE, 20 * MINUTE, 2 * 60 * MINUTE, 10 * MINUTE];

const REASONS: [&str; 3] = ["LEAVE_REASON_EXPIRED", "LEAVE_REASON_EXIT_RULE", "LEAVE_REASON_EXCLUDED"];

/// An accepted event.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) user: String,
    pub(crate) time: i64,
    pub(crate) kind: String,
    pub(crate) value: f64,
}

/// The memberships of all users of a partition: their start and end, by segment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Naive {
    users: BTreeMap<String, [Option<(i64, i64)>; 4]>,
}

/// The segments that a user is in and those that the user has left.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Told {
    pub(crate) now: Vec<Value>,
    pub(crate) left: Vec<Value>,
}

fn member(segment: usize, (entered_at, expires_at): (i64, i64), is_new: bool) -> Value {
    let id = LASTING[segment];
    json!({"id": id, "name": id, "entered_at": entered_at, "expires_at": expires_at, "is_new": is_new})
}

fn left(segment: usize, (entered_at, expires_at): (i64, i64), reason: usize) -> Value {
    let id = LASTING[segment];
    json!({"id": id, "name": id, "entered_at": entered_at, "expires_at": expires_at, "reason": REASONS[reason]})
}

impl Naive {
    /// Applies an event to its user. Everything up to `passed` has expired.
    pub(crate) fn event(&mut self, event: &Event, passed: i64) -> Told {
        let Event { user, time, kind, value } = event;
        let memberships = self.users.entry(user.clone()).or_default();
        let enters = [kind == "purchase", kind == "view", *value > 75.0, kind == "view"];
        let exits = [false, kind == "click", *value < 25.0, !enters[3]];
        let mut told = Told { now: Vec::new(), left: Vec::new() };
        // "rich" excludes "looker", so it comes first.
        for segment in [0, 2, 1, 3] {
            let is_excluded = segment == 1 && memberships[2].is_some();
            let before = memberships[segment];
            let reason = match before {
                Some((_, expires_at)) if expires_at <= *time => Some(0),
                Some(_) if exits[segment] => Some(1),
                Some(_) if is_excluded => Some(2),
                _ => None,
            };
            if let (Some(was), Some(reason)) = (before, reason) {
                told.left.push(left(segment, was, reason));
                memberships[segment] = None;
            }
            if enters[segment] && !exits[segment] && !is_excluded {
                let expires_at = time + DURATIONS[segment];
                memberships[segment] = match memberships[segment] {
                    Some((entered_at, last)) => Some((entered_at, last.max(expires_at))),
                    None => (expires_at > passed).then_some((*time, expires_at)),
                };
            }
            if let Some(now) = memberships[segment] {
                let is_new = before.is_none() || reason.is_some();
                told.now.push(member(segment, now, is_new));
            }
        }
        told.sort();
        told
    }

    /// Forgets a user.
    pub(crate) fn forget(&mut self, user: &str) {
        self.users.remove(user);
    }

    /// Ends what expires by this time: in order of the deadlines, each with its user.
    pub(crate) fn pass(&mut self, time: i64) -> Vec<(i64, String, Told)> {
        let mut ended = Vec::new();
        while let Some(deadline) =
            self.users.values().flatten().flatten().map(|(_, expires_at)| *expires_at).min().filter(|it| *it <= time)
        {
            for (user, memberships) in &mut self.users {
                if !memberships.iter().flatten().any(|(_, expires_at)| *expires_at == deadline) {
                    continue;
                }
                let mut told = Told { now: Vec::new(), left: Vec::new() };
                for (segment, membership) in memberships.iter_mut().enumerate() {
                    match *membership {
                        Some(was) if was.1 == deadline => {
                            told.left.push(left(segment, was, 0));
                            *membership = None;
                        }
                        Some(now) => told.now.push(member(segment, now, false)),
                        None => {}
                    }
                }
                told.sort();
                ended.push((deadline, user.clone(), told));
            }
        }
        ended
    }
}

impl Told {
    /// What a suppressed decision tells.
    pub(crate) fn nothing() -> Self {
        Self { now: Vec::new(), left: Vec::new() }
    }

    fn sort(&mut self) {
        let place = |it: &Value| LASTING.iter().position(|id| it["id"] == **id);
        self.now.sort_by_key(place);
        self.left.sort_by_key(place);
    }

    /// Reads the lasting segments from a flat decision.
    pub(crate) fn of(payload: &[u8]) -> Self {
        let decision: Value = serde_json::from_slice(payload).expect("a decision is JSON");
        let of = |name: &str| {
            let all = decision[name].as_array().expect("a list").iter();
            all.filter(|it| LASTING.iter().any(|id| it["id"] == **id)).cloned().collect()
        };
        let mut told = Self { now: of("segments"), left: of("left") };
        told.sort();
        told
    }
}
