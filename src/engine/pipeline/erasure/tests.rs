//! Erasures in a whole pipeline: outputs, profiles, the changelog and what is restored from it.

use crate::{
    canary::{self, Canary},
    engine::{
        Partition, PipelineSpec,
        partitions::Recovered,
        pipeline::world::{Log, World},
    },
    event::Record,
    state::{erasure_key, hash_key},
    status::SuppressReason,
};
use serde_json::Value;

const SPEC: &str = r#"
[erasure]
keep = "30d"
where = 'event_type == "forget_me"'

[time]
too_late = "dead_letter"

[[feature]]
name = "views"
aggregate = "count"
window = "forever"

[[segment]]
id = "viewer"
where = "true"
exit = "false"
duration = "2h"
"#;

const CONSENT: &str = r#"
[consent]
enabled = true
vendor_id = 1
country_default = "BR"
without_law = ["write", "score", "emit", "measure", "train"]
"#;

fn spec(more: &str) -> PipelineSpec {
    toml::from_str(&format!("{SPEC}{more}")).unwrap()
}

fn world(more: &str) -> World {
    World::new(&spec(more))
}

/// What a process knows after a restart with these records of the changelog, which are all.
fn restarted(world: &World, more: &str, log: &Log) -> World {
    let (next, recovered) = recovered(world, more, log);
    assert!(recovered.is_whole(), "{recovered:?}");
    next
}

fn recovered(world: &World, more: &str, log: &Log) -> (World, Recovered) {
    let (mut next, recovered) = world.followed(&spec(more), log);
    next.offset = world.offset;
    (next, recovered)
}

#[test]
fn at_a_request_everything_goes_readers_get_a_null_and_later_events_begin_anew() {
    let mut rig = world("");
    rig.event("ann", 0, "view", "");
    rig.event("bob", 0, "view", "");
    rig.run();
    assert_eq!((rig.views("ann"), rig.members()), (Some(1.0), 2));
    rig.event("ann", 1, "view", "");
    rig.erase("ann", 2);
    rig.event("ann", 3, "view", "");
    let outputs = rig.run();
    let keys: Vec<_> = outputs.iter().map(|(key, decision)| (key.as_str(), decision.is_some())).collect();
    assert_eq!(keys, [("ann", true), ("ann", false), ("ann", true)], "in order with the decisions");
    let [before, after] = [0, 2].map(|at: usize| outputs[at].1.clone().unwrap());
    assert_eq!((&before["segments"][0]["is_new"], &after["segments"][0]["is_new"]), (&false.into(), &true.into()));
    assert_eq!((rig.views("ann"), rig.views("bob"), rig.members()), (Some(1.0), Some(1.0), 2));
    rig.erase("ann", 4);
    rig.erase("nobody", 4);
    assert_eq!(rig.run(), [("ann".to_owned(), None), ("nobody".to_owned(), None)]);
    assert_eq!((rig.views("ann"), rig.members(), rig.counts.erasures), (None, 1, 3));
    let counted = rig.counts.decisions + rig.counts.erasures + rig.counts.suppressed_total();
    assert_eq!(rig.counts.events, counted);
}

#[test]
fn events_from_before_the_request_count_for_nothing() {
    let mut rig = world("");
    rig.event("ann", 0, "view", "");
    rig.erase("ann", 10);
    rig.event("ann", 5, "view", "");
    rig.event("ann", 10, "view", "");
    assert_eq!(rig.run().len(), 2, "a decision and a null");
    assert_eq!((rig.views("ann"), &rig.counts.suppressed), (None, &vec![(SuppressReason::Erased, 2)]));
    // An older request takes nothing back.
    rig.erase("ann", 7);
    rig.event("ann", 9, "view", "");
    rig.event("ann", 11, "view", "");
    assert_eq!(rig.run().len(), 2);
    assert_eq!(rig.views("ann"), Some(1.0));
    canary::put_in(Some(Canary::EventBeforeErasureCounted));
    rig.event("ann", 6, "view", "");
    assert_eq!(rig.run().len(), 1, "the canary lets it through");
    canary::put_in(None);
}

#[test]
fn an_event_that_meets_the_rule_erases_its_user_as_of_its_own_time() {
    let mut rig = world("");
    rig.event("ann", 0, "view", "");
    rig.event("ann", 4, "forget_me", "");
    rig.event("ann", 3, "view", "");
    rig.event("ann", 5, "view", "");
    let outputs = rig.run();
    let nulls: Vec<bool> = outputs.iter().map(|(_, decision)| decision.is_none()).collect();
    assert_eq!((nulls, rig.views("ann")), (vec![false, true, false], Some(1.0)));
}

#[test]
fn the_changelog_gets_a_tombstone_and_a_note_that_hold_after_a_restart() {
    let mut rig = world("");
    rig.event("ann", 0, "view", "");
    rig.event("bob", 0, "view", "");
    rig.run();
    let mut log = rig.write();
    rig.erase("ann", 2);
    rig.run();
    let written = rig.write();
    let note = erasure_key(b"ann");
    assert_eq!(written[0], (b"ann".to_vec(), None), "the tombstone");
    assert_eq!((&written[1].0, written[1].1.is_some(), written.len()), (&note, true, 2));
    assert!(rig.write().is_empty());
    log.extend(written);
    let mut next = restarted(&rig, "", &log);
    assert_eq!((next.views("ann"), next.views("bob")), (None, Some(1.0)));
    next.event("ann", 1, "view", "");
    assert_eq!((next.run().len(), next.views("ann")), (0, None), "it is still known");
    // Without the note, the user would be back: the changelog is not whole.
    log.retain(|(key, _)| *key != note);
    let (_, recovered) = recovered(&rig, "", &log);
    assert_eq!((recovered.found, recovered.owed, recovered.is_whole()), (1, 1, false));
    // A snapshot has it, too.
    rig.partitions.settle(vec![(0, rig.offset, String::new())]);
    let snapshot = rig.partitions.snapshot(0, 9, rig.pipeline.profile()).expect("nothing is open");
    let from = Box::new(std::io::Cursor::new(snapshot));
    let mut reader = crate::state::SnapshotReader::open(from, 0, rig.pipeline.layout().id(), rig.offset).unwrap();
    let mut keys = Vec::new();
    while reader.next(|key, _| keys.push(key.to_vec())).unwrap() {}
    assert!(keys.contains(&note) && keys.contains(&b"bob".to_vec()) && !keys.contains(&b"ann".to_vec()), "{keys:?}");
}

#[test]
fn profiles_that_are_rebuilt_from_the_input_do_not_bring_an_erased_user_back() {
    let mut rig = world("");
    rig.event("ann", 0, "view", "");
    rig.erase("ann", 2);
    rig.run();
    let log = rig.write();
    // The request itself is no longer in the input: only what the changelog says is left.
    let mut next = world("");
    next.partitions.insert(0, Partition::new(rig.offset, rig.offset, None).of_generation(7).rebuilding());
    for (key, payload) in &log {
        let record = Record { key: Some(key), payload: payload.as_deref(), ..Record::default() };
        next.partitions.restore(&record, next.pipeline.profile());
    }
    assert!(next.partitions.restored(0, next.pipeline.profile()).unwrap().is_whole());
    next.offset = rig.offset;
    next.event("ann", 1, "view", "");
    next.event("ann", 3, "view", "");
    assert_eq!((next.run().len(), next.views("ann")), (1, Some(1.0)));
}

#[test]
fn an_opt_out_is_not_forgotten() {
    let opted_out = |canary| {
        canary::put_in(canary);
        let mut rig = world(CONSENT);
        rig.event("ann", 0, "view", "");
        rig.event("ann", 1, "consent", r#","consent":{"gpc":true}"#);
        rig.erase("ann", 2);
        rig.run();
        let mut log = rig.write();
        log.retain(|(key, _)| key != b"ann");
        assert!(log.iter().all(|(key, value)| {
            let text = [key.as_slice(), value.as_deref().unwrap_or_default()].concat();
            !text.windows(3).any(|part| part == b"ann")
        }));
        let mut next = restarted(&rig, CONSENT, &log);
        next.event("ann", 3, "view", "");
        let status = next.run()[0].1.clone().unwrap()["status_reason"].clone();
        let views = next.views("ann");
        next.event("ann", 64, "consent", r#","consent":{"gpc":false}"#);
        next.event("ann", 65, "view", "");
        next.run();
        canary::put_in(None);
        (status, views, next.views("ann"))
    };
    assert_eq!(opted_out(None), ("opted_out".into(), None, Some(2.0)), "until the user opts in again, an hour later");
    assert_ne!(opted_out(Some(Canary::OptOutErased)).0, Value::from("opted_out"));
}

/// Profiles expire after ten days, and what outlives them after 30.
const TTL: &str = r#"
[profile]
ttl = "10d"

[consent]
enabled = true
vendor_id = 1
country_default = "BR"
without_law = ["write", "score", "emit", "measure", "train"]
"#;

const DAY: i64 = 24 * 60;

impl World {
    /// Events of others, which move the partition's time.
    fn others(&mut self, day: i64) {
        (0..6).for_each(|user| self.event(&format!("u{user}"), day * DAY, "view", ""));
    }

    fn holds(&self, user: &str) -> bool {
        self.partitions.get(0).unwrap().store().get(hash_key(user.as_bytes()), user.as_bytes()).is_some()
    }
}

/// Whether an opt-out counts after so many days without an event. The profile was dropped or not, and the process restarted or not.
fn is_opted_out_after(days: i64, is_swept: bool, is_restarted: bool) -> bool {
    let mut rig = world(TTL);
    rig.event("ann", 0, "view", "");
    rig.event("ann", 1, "consent", r#","consent":{"gpc":true}"#);
    rig.run();
    let mut log = rig.write();
    if is_swept {
        for day in 1..=days {
            rig.others(day);
            rig.run();
            log.extend(rig.write());
        }
        assert!(!rig.holds("ann"));
        assert_eq!(log.iter().rev().find(|(key, _)| key == b"ann"), Some(&(b"ann".to_vec(), None)));
        assert_eq!(log.iter().any(|(key, _)| *key == erasure_key(b"ann")), !canary::is_in(Canary::OptOutExpired));
    }
    if is_restarted {
        rig = restarted(&rig, TTL, &log);
    }
    if !is_swept {
        // In the batch of the event, so that nothing is dropped before it.
        rig.others(days);
    }
    rig.event("ann", days * DAY + 1, "view", "");
    let (user, decision) = rig.run().pop().expect("a decision");
    let is_out = decision.unwrap()["status_reason"] == "opted_out";
    assert_eq!(
        (user.as_str(), rig.views("ann")),
        ("ann", if is_out { rig.views("ann").filter(|_| !is_swept) } else { Some(1.0) })
    );
    is_out
}

#[test]
fn an_opt_out_outlives_its_profile_whether_or_not_that_has_been_dropped() {
    for (is_swept, is_restarted) in [(false, false), (false, true), (true, false), (true, true)] {
        assert!(is_opted_out_after(12, is_swept, is_restarted), "{is_swept} {is_restarted}");
        assert!(is_opted_out_after(29, is_swept, is_restarted), "{is_swept} {is_restarted}");
        assert!(!is_opted_out_after(32, is_swept, is_restarted), "erasure.keep ends it: {is_swept} {is_restarted}");
        canary::put_in(Some(Canary::OptOutExpired));
        let is_noticed = !is_opted_out_after(12, is_swept, is_restarted);
        canary::put_in(None);
        assert!(is_noticed);
    }
}

#[test]
fn a_later_choice_that_refuses_nothing_replaces_the_one_that_outlived_its_profile() {
    let mut rig = world(TTL);
    let mut log = Vec::new();
    let mut pass = |rig: &mut World, days: std::ops::Range<i64>| {
        for day in days {
            rig.others(day);
            rig.run();
            log.extend(rig.write());
        }
        rig.partitions.get(0).unwrap().store().erasures().len()
    };
    rig.event("ann", 1, "consent", r#","consent":{"gpc":true}"#);
    assert_eq!(pass(&mut rig, 0..13), 1, "the refusal is kept");
    rig.event("ann", 13 * DAY, "consent", r#","consent":{"gpc":false}"#);
    rig.event("ann", 13 * DAY + 1, "view", "");
    rig.run();
    assert_eq!(rig.views("ann"), Some(2.0));
    assert_eq!(pass(&mut rig, 13..27), 0, "the consent is not kept, and neither is the refusal before it");
    let mut next = restarted(&rig, TTL, &log);
    next.event("ann", 27 * DAY, "view", "");
    next.run();
    assert_eq!(next.views("ann"), Some(1.0));
}

#[test]
fn a_profile_with_a_refusal_is_not_dropped_before_a_replay_would_find_it_expired() {
    let mut rig = world(TTL);
    rig.event("ann", 1, "consent", r#","consent":{"gpc":true}"#);
    rig.event("bob", 1, "view", "");
    rig.run();
    for day in 1..13 {
        // Nothing is written, so a replay would start at the first event.
        rig.others(day);
        rig.run();
    }
    assert_eq!((rig.holds("ann"), rig.holds("bob")), (true, false));
    rig.write();
    rig.others(13);
    rig.run();
    assert!(!rig.holds("ann"));
}

#[test]
fn notes_of_erasures_end_and_then_the_past_counts_again() {
    let mut rig = world("");
    rig.erase("ann", 0);
    rig.run();
    let day = 24 * 60;
    for user in 0..6 {
        rig.event(&format!("u{user}"), 29 * day, "view", "");
    }
    rig.event("ann", -1, "view", "");
    assert_eq!((rig.run().len(), rig.views("ann")), (6, None));
    for user in 0..6 {
        rig.event(&format!("u{user}"), 33 * day, "view", "");
    }
    rig.event("ann", -1, "view", "");
    rig.run();
    assert_eq!(rig.views("ann"), Some(1.0), "it was remembered for 30 days");
}

#[test]
fn a_request_that_cannot_be_read_is_a_dead_letter() {
    let (ann, long) = (&b"ann"[..], [b'x'; 1_025]);
    for (key, minute, version, reason) in [
        (Some(ann), Some(0), "3", "malformed"),
        (Some(ann), Some(0), "", "malformed"),
        (None, Some(0), "1", "missing_user"),
        (Some(&b" "[..]), Some(0), "1", "missing_user"),
        (Some(&b"\xff"[..]), Some(0), "1", "missing_user"),
        (Some(&long[..]), Some(0), "1", "missing_user"),
        (Some(ann), None, "1", "missing_time"),
    ] {
        let mut rig = world("");
        rig.event("ann", 0, "view", "");
        rig.record(key, minute, Some(version), Some("anything"));
        let reasons: Vec<&str> = rig.counts.dead_letters.iter().map(|(reason, _)| reason.as_str()).collect();
        assert_eq!((reasons, rig.run().len(), rig.views("ann")), (vec![reason], 1, Some(1.0)), "{key:?}");
    }
}
