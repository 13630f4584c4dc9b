//! A change of the key in a whole pipeline: what moves, what readers get, what the changelog has, and what is restored from it.

use crate::{
    canary::{self, Canary},
    engine::{
        PipelineSpec,
        pipeline::world::{Log, World},
    },
    event::{ERASE_VERSION, ERASE_VERSION_EXACT, KeyType, UserKeys},
    state::erasure_key,
    status::{Counts, SuppressReason},
};
use serde_json::Value;
use std::ops::{Deref, DerefMut};

const SPEC: &str = r#"
[erasure]
keep = "30d"

[duplicates]
horizon = "1d"

[consent]
enabled = true
vendor_id = 1
country_default = "BR"
without_law = ["write", "score", "emit", "measure", "train"]

[emission]
on = "change"

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

/// The identity by the first key; by the second, with users that move to it; and by the second alone.
const FIRST: &str = "[identity]\npseudonymise = true\nkey = \"the first key of thirty-two bytes\"\n";
const MOVING: &str = "[identity]\npseudonymise = true\nkey = \"the second key, of 32 bytes as well\"\nprevious_key = \"the first key of thirty-two bytes\"\n";
const SECOND: &str = "[identity]\npseudonymise = true\nkey = \"the second key, of 32 bytes as well\"\n";

const OPTS_OUT: &str = r#","consent":{"gpc":true}"#;
struct Rig {
    world: World,
    /// All records of the changelog.
    log: Log,
}

impl Deref for Rig {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

impl DerefMut for Rig {
    fn deref_mut(&mut self) -> &mut World {
        &mut self.world
    }
}

fn spec(identity: &str) -> PipelineSpec {
    toml::from_str(&format!("{SPEC}{identity}")).unwrap()
}

/// The name of a user by a key.
fn name(identity: &str, user: &str) -> String {
    UserKeys::new(&spec(identity).identity, false).of(KeyType::Person, user).unwrap().into_owned()
}

impl Rig {
    fn new(identity: &str) -> Self {
        Self { world: World::new(&spec(identity)), log: Log::new() }
    }

    /// A request to erase the user with this key, of this version.
    fn erase_as(&mut self, version: &str, key: &str, minute: i64) {
        self.record(Some(key.as_bytes()), Some(minute), Some(version), None);
    }

    /// Writes what each commit has to contain, and returns its records.
    fn commit(&mut self) -> Log {
        let all = self.write_erasures();
        self.log.extend(all.clone());
        all
    }

    /// Writes everything that the changelog lacks.
    fn write(&mut self) {
        let all = self.world.write();
        self.log.extend(all);
    }

    /// The process that follows with this identity and takes up what was committed. The input is replayed from `input` by the
    /// caller if the mark is before the end.
    fn restarted(&self, identity: &str) -> Self {
        let (world, recovered) = self.followed(&spec(identity), &self.log);
        assert!(recovered.is_whole(), "{recovered:?}");
        Self { world, log: self.log.clone() }
    }

    /// The newest record of a key in the changelog: whether it has a value.
    fn has_record(&self, name: &str) -> Option<bool> {
        self.log.iter().rev().find(|(key, _)| key == name.as_bytes()).map(|(_, value)| value.is_some())
    }
}

fn keys(outputs: &[(String, Option<Value>)]) -> Vec<(&str, bool)> {
    outputs.iter().map(|(key, decision)| (key.as_str(), decision.is_some())).collect()
}

/// Ann and Bob by the first key, and the process that follows with both keys.
fn before() -> Rig {
    let mut rig = Rig::new(FIRST);
    rig.event("ann", 0, "view", r#","event_id":"ann-1""#);
    rig.event("ann", 1, "view", "");
    rig.event("bob", 1, "view", "");
    rig.run();
    rig.write();
    rig.restarted(MOVING)
}

#[test]
fn a_profile_moves_whole_at_its_user_s_next_event_and_no_other_does() {
    let (old, new, bob) = (name(FIRST, "ann"), name(SECOND, "ann"), name(FIRST, "bob"));
    let mut rig = before();
    // The first is a duplicate under the former name of its event, and the others move nothing any more.
    rig.event("ann", 2, "view", r#","event_id":"ann-1""#);
    rig.event("ann", 3, "view", "");
    rig.event("ann", 4, "view", "");
    let outputs = rig.run();
    assert_eq!(keys(&outputs), [(old.as_str(), false), (&new, true)], "readers are told anew, once");
    assert_eq!(outputs[1].1.as_ref().unwrap()["segments"][0]["is_new"], false, "a member since before");
    assert_eq!((rig.views(&new), rig.views(&old), rig.views(&bob)), (Some(4.0), None, Some(1.0)));
    assert_eq!((rig.counts.duplicates, rig.counts.beside.moved, rig.members()), (1, 1, 2));
    let commit = rig.commit();
    let is_there: Vec<_> = commit.iter().map(|(key, value)| (key.as_slice(), value.is_some())).collect();
    assert_eq!(is_there, [(old.as_bytes(), false), (new.as_bytes(), true)], "in one commit");
    assert_eq!(rig.commit(), [], "once");
    // Nothing is known of the first key any more.
    let mut next = rig.restarted(SECOND);
    next.event("ann", 5, "view", "");
    assert_eq!(next.run(), [], "nothing changes, and readers know it");
    assert_eq!((next.views(&new), next.partitions.users()), (Some(5.0), 2));
}

#[test]
fn a_membership_that_ends_before_the_event_is_announced_under_the_former_name() {
    let (old, new) = (name(FIRST, "ann"), name(SECOND, "ann"));
    let mut rig = before();
    // The partition has a time with five users.
    (0..6).for_each(|user| rig.event(&format!("u{user}"), 200, "view", ""));
    rig.event("ann", 201, "view", "");
    let outputs = rig.run();
    let of_ann: Vec<_> = outputs.iter().filter(|(key, _)| [&old, &new].contains(&key)).collect();
    let ended = of_ann[0].1.as_ref().unwrap();
    assert_eq!((of_ann[0].0.as_str(), &ended["status_reason"]), (old.as_str(), &"membership_expired".into()));
    assert_eq!((of_ann[1].0.as_str(), of_ann[1].1.is_none()), (old.as_str(), true));
    assert_eq!((of_ann.len(), of_ann[2].0.as_str()), (3, new.as_str()));
}

#[test]
fn a_replay_finds_each_user_under_the_name_of_the_time() {
    let (old, new) = (name(FIRST, "ann"), name(SECOND, "ann"));
    let mut rig = Rig::new(FIRST);
    let events = |rig: &mut Rig, range: std::ops::Range<i64>| {
        range.for_each(|minute| rig.event("ann", minute, "view", ""));
    };
    events(&mut rig, 0..2);
    rig.run();
    rig.write();
    events(&mut rig, 2..4);
    rig.run();
    // Two events are not in the changelog: they are replayed as those of the first key.
    let mut next = rig.restarted(MOVING);
    assert_eq!(next.offset, 2);
    events(&mut next, 2..4);
    assert_eq!((next.run(), next.views(&old)), (vec![], Some(4.0)));
    events(&mut next, 4..5);
    assert_eq!(keys(&next.run()), [(old.as_str(), false), (new.as_str(), true)]);
    next.commit();
    // What comes after the move is not in the changelog either, and is replayed onto the profile that has moved.
    events(&mut next, 5..7);
    next.run();
    for identity in [MOVING, SECOND] {
        let mut last = next.restarted(identity);
        let from = last.offset;
        events(&mut last, from..7);
        assert_eq!((last.run(), last.views(&new), last.views(&old)), (vec![], Some(7.0), None), "{identity}");
        assert_eq!(last.counts.beside.moved, 0);
    }
}

#[test]
fn an_erasure_under_either_name_holds_for_both() {
    let (old, new) = (name(FIRST, "ann"), name(SECOND, "ann"));
    // By the id: both names, whether or not the user has moved.
    for has_moved in [false, true] {
        let mut rig = before();
        if has_moved {
            rig.event("ann", 3, "view", "");
            rig.run();
            rig.commit();
        }
        rig.erase_as(ERASE_VERSION, "ann", 5);
        rig.event("ann", 4, "view", "");
        assert_eq!(keys(&rig.run()), [(old.as_str(), false), (&new, false)], "{has_moved}");
        assert_eq!((rig.views(&old), rig.views(&new), rig.members()), (None, None, 1));
        assert_eq!(rig.counts.suppressed, [(SuppressReason::Erased, 1)]);
        rig.commit();
        assert_eq!((rig.has_record(&old), rig.has_record(&new)), (Some(false), Some(false)));
        let mut next = rig.restarted(SECOND);
        next.event("ann", 4, "view", "");
        assert_eq!((next.run(), next.views(&new)), (vec![], None), "the note has moved, too");
    }
    // A request by the former pseudonym that comes after the move: its user is known by that name no longer, until the next event.
    let mut rig = before();
    rig.event("ann", 3, "view", "");
    rig.run();
    rig.erase_as(ERASE_VERSION_EXACT, &old, 5);
    assert_eq!((keys(&rig.run()), rig.views(&new)), (vec![(old.as_str(), false)], Some(3.0)));
    rig.event("ann", 4, "view", "");
    assert_eq!((keys(&rig.run()), rig.views(&new), rig.members()), (vec![(new.as_str(), false)], None, 1));
    rig.event("ann", 6, "view", "");
    let outputs = rig.run();
    assert_eq!((keys(&outputs), rig.views(&new)), (vec![(new.as_str(), true)], Some(1.0)));
    rig.commit();
    let kept = |name: &str| rig.log.iter().rev().find(|(key, _)| *key == erasure_key(name.as_bytes()));
    assert!(
        kept(&new).is_some_and(|(_, value)| value.is_some()) && kept(&old).is_none_or(|(_, value)| value.is_none())
    );
}

#[test]
fn an_opt_out_outlives_an_erasure_under_the_other_name() {
    let mut rig = Rig::new(FIRST);
    rig.event("ann", 0, "view", "");
    rig.event("ann", 1, "consent", OPTS_OUT);
    rig.run();
    rig.write();
    let mut rig = rig.restarted(MOVING);
    rig.event("ann", 3, "view", "");
    rig.run();
    // The request knows one name only, and nothing of the choice under the other.
    rig.erase_as(ERASE_VERSION_EXACT, &name(FIRST, "ann"), 5);
    rig.run();
    for minute in [6, 7] {
        rig.counts = Counts::default();
        rig.event("ann", minute, "purchase", "");
        rig.run();
        assert!(rig.counts.refused.iter().any(|((_, reason), _)| *reason == "opted_out"), "{minute}");
    }
}

/// The decision about an event after the user opted out by the first key and moved: in the profile, or in the note of an erasure.
fn status_after_move(is_erased: bool) -> Value {
    let mut rig = Rig::new(FIRST);
    rig.event("ann", 0, "view", "");
    rig.event("ann", 1, "consent", OPTS_OUT);
    if is_erased {
        rig.erase_as(ERASE_VERSION, "ann", 2);
    }
    rig.run();
    rig.write();
    let mut rig = rig.restarted(MOVING);
    rig.event("ann", 3, "view", "");
    rig.run();
    rig.write();
    let mut rig = rig.restarted(SECOND);
    rig.event("ann", 4, "purchase", "");
    rig.process();
    let words = rig.views(&name(SECOND, "ann"));
    assert!(words.is_none_or(|views| views == 0.0) || canary::is_in(Canary::OptOutLostInMove), "{words:?}");
    let refused = rig.counts.refused.iter().any(|((_, reason), _)| *reason == "opted_out");
    Value::from(refused)
}

#[test]
fn an_opt_out_moves_with_its_user() {
    for is_erased in [false, true] {
        assert_eq!(status_after_move(is_erased), true, "{is_erased}");
    }
    canary::put_in(Some(Canary::OptOutLostInMove));
    let lost = status_after_move(true);
    canary::put_in(None);
    assert_eq!(lost, false);
}

#[test]
fn of_two_profiles_the_one_under_the_present_name_stays_and_an_opt_out_in_the_other_counts() {
    let (old, new) = (name(FIRST, "ann"), name(SECOND, "ann"));
    let mut rig = before();
    rig.event("ann", 2, "view", "");
    rig.run();
    rig.write();
    // The key goes back, and the user begins anew under the first name.
    let mut rig = rig.restarted(FIRST);
    rig.event("ann", 3, "view", "");
    rig.event("ann", 4, "consent", OPTS_OUT);
    rig.run();
    rig.write();
    assert_eq!((rig.has_record(&old), rig.has_record(&new)), (Some(true), Some(true)));
    let mut rig = rig.restarted(MOVING);
    rig.event("ann", 5, "view", "");
    let outputs = rig.run();
    assert_eq!(keys(&outputs), [(old.as_str(), false), (new.as_str(), true)]);
    assert_eq!(outputs[1].1.as_ref().unwrap()["status_reason"], "opted_out");
    assert_eq!((rig.views(&old), rig.partitions.users()), (None, 2));
    rig.write();
    let mut rig = rig.restarted(SECOND);
    rig.event("ann", 6, "purchase", "");
    rig.run();
    assert!(rig.counts.refused.iter().any(|((_, reason), _)| *reason == "opted_out"), "{:?}", rig.counts.refused);
}
