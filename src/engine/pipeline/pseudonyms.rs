//! Pseudonyms in a whole pipeline: nothing that leaves it, and nothing that it keeps, has an id.

use crate::{
    engine::{
        PipelineSpec,
        pipeline::world::{START, World},
    },
    event::{ERASE_VERSION, ERASE_VERSION_EXACT, KeyType, UserKeys},
    sink::Target,
};
use std::ops::{Deref, DerefMut};

const SPEC: &str = r#"
[identity]
pseudonymise = true
key = "a key of thirty-two bytes or more"
normalise = "email"

[time]
too_late = "dead_letter"

[input]
unpack = "events"

[erasure]
where = 'event_type == "forget_me"'

[[feature]]
name = "views"
aggregate = "count"
window = "forever"

[[feature]]
name = "users"
aggregate = "distinct"
value = "user_id"
window = "30d"

[[feature]]
name = "devices"
aggregate = "distinct"
value = "anonymous_id"
window = "30d"

[[segment]]
id = "viewer"
where = "true"
exit = "false"
duration = "2h"
"#;

/// The ids, none of which may be found anywhere. All have this in them, in some case.
const CANARY: &str = "c4nary";

struct Rig {
    world: World,
    spec: PipelineSpec,
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

impl Rig {
    fn new(spec: &str) -> Self {
        let spec: PipelineSpec = toml::from_str(spec).unwrap();
        Self { world: World::new(&spec), spec }
    }

    fn users(&self) -> UserKeys {
        UserKeys::new(&self.spec.identity, false)
    }

    fn take(&mut self, key: &str, minute: i64, erase: Option<&str>, payload: Option<&str>) {
        self.record(Some(key.as_bytes()), Some(minute), erase, payload);
    }

    fn event(&mut self, ids: &str, minute: i64, kind: &str) {
        let at = START + minute * 60_000;
        let one = if ids.contains("\"events\"") { "" } else { ",\"events\":[{}]" };
        let payload = format!(r#"{{"occurred_at":{at},"event_type":"{kind}",{ids}{one}}}"#);
        self.take("ANN@c4nary.example", minute, None, Some(&payload));
    }

    /// All that was written: topic, key, value and headers, as text.
    fn written(&mut self) -> Vec<(Target, String, String, String)> {
        let World { pipeline, partitions, outbox, .. } = &mut self.world;
        partitions.write_erasures(pipeline.layout(), outbox);
        partitions.write_profiles(0, true, (usize::MAX, usize::MAX), pipeline.layout(), outbox);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let output = |it: crate::sink::Output<'_>| {
            let headers = it.headers().map(|(name, value)| format!("{name}={}", text(value)));
            let headers = headers.collect::<Vec<_>>().join(";");
            (it.target, it.key.map(text).unwrap_or_default(), it.payload.map(text).unwrap_or_default(), headers)
        };
        let all = self.outbox.all().map(output).collect();
        self.outbox.clear();
        all
    }

    fn views(&mut self, ty: KeyType, id: &str) -> Option<f64> {
        let key = self.users().of(ty, id).unwrap().into_owned();
        self.world.views(&key)
    }
}

fn has_canary(text: &str) -> bool {
    text.to_lowercase().contains(CANARY)
}

#[test]
fn nothing_that_is_written_or_kept_has_an_id() {
    let mut rig = Rig::new(SPEC);
    rig.event(r#""user_id":"Ann@C4nary.example","anonymous_id":"c4nary-cookie""#, 0, "view");
    rig.event(r#""user_id":" ann@c4nary.EXAMPLE ""#, 1, "view");
    rig.event(r#""anonymous_id":"c4nary-cookie""#, 2, "view");
    rig.event(r#""user_id":"bob@c4nary.example","events":[{},{"user_id":"eve@c4nary.example"},{}]"#, 3, "view");
    // Dead letters: a wrong type, no JSON, no e-mail address, and an event that is too late.
    rig.event(r#""user_id":"ann@c4nary.example","key_type":"c4nary""#, 4, "view");
    rig.take("device:c4nary-cookie", 4, None, Some("c4nary is no JSON"));
    rig.event(r#""user_id":"c4nary""#, 4, "view");
    rig.event(r#""user_id":"ann@c4nary.example""#, -60 * 24 * 30, "view");
    rig.event(r#""user_id":"eve@c4nary.example""#, 5, "forget_me");
    rig.process();

    let email = "ann@c4nary.example";
    assert_eq!(rig.views(KeyType::Person, email), Some(2.0), "two spellings are one user");
    assert_eq!(rig.views(KeyType::Device, "c4nary-cookie"), Some(1.0));
    assert_eq!(rig.views(KeyType::Person, "bob@c4nary.example"), Some(2.0), "the events of a record share their user");
    assert_eq!(rig.views(KeyType::Person, "eve@c4nary.example"), None, "she was erased");

    for (key, _) in rig.partitions.get(0).unwrap().store().iter() {
        assert!(!has_canary(&String::from_utf8_lossy(key)));
    }
    let written = rig.written();
    for found in &written {
        let (_, key, value, headers) = found;
        assert!(![key, value, headers].into_iter().any(|text| has_canary(text)), "{found:?}");
    }
    let of = |target: Target| written.iter().filter(move |it| it.0 == target).collect::<Vec<_>>();
    let (decisions, letters) = (of(Target::Decisions), of(Target::DeadLetters));
    assert_eq!((decisions.len(), letters.len()), (7, 4));
    assert!(of(Target::Profiles(0)).len() >= 4, "profiles, and the note of the erasure");

    let users = rig.users();
    let ann = users.of(KeyType::Person, email).unwrap();
    assert_eq!(decisions[0].1, ann);
    let decision: serde_json::Value = serde_json::from_str(&decisions[0].2).unwrap();
    assert_eq!(decision["user_key"], *ann, "{decision}");

    let reasons: Vec<&str> = letters.iter().map(|it| it.3.split(';').next().unwrap()).collect();
    assert_eq!(reasons, ["reason=wrong_type", "reason=malformed", "reason=wrong_type", "reason=too_late"]);
    for letter in &letters {
        assert!(letter.2.is_empty() && letter.3.contains(";withheld_bytes="), "{letter:?}");
    }
    assert_eq!((&*letters[0].1, &*letters[3].1), (&*ann, &*ann), "the key can be looked for");
    let snapshot = {
        let World { pipeline, partitions, offset, .. } = &mut rig.world;
        partitions.settle(vec![(0, *offset, String::new())]);
        partitions.snapshot(0, 0, pipeline.profile()).expect("all is committed")
    };
    assert!(!has_canary(&String::from_utf8_lossy(&snapshot)));
}

#[test]
fn the_id_of_an_event_names_nobody_and_still_tells_duplicates() {
    let mut rig = Rig::new(&format!("{SPEC}\n[duplicates]\nhorizon = \"1h\"\n"));
    for (user, event_id) in [
        ("ann@c4nary.example", "ANN@C4nary.example-17"),
        ("Ann@c4nary.example", "ANN@C4nary.example-17"),
        ("ann@c4nary.example", "ANN@C4nary.example-18"),
        ("ann@c4nary.example", "4aae6dff-9d92-4c83-8001-000000000013"),
    ] {
        rig.event(&format!(r#""user_id":"{user}","event_id":"{event_id}""#), 0, "view");
    }
    rig.event(r#""user_id":"bob@x.example","anonymous_id":"c4nary-cookie","event_id":"1.c4nary-cookie""#, 0, "view");
    rig.process();
    assert_eq!(rig.views(KeyType::Person, "ann@c4nary.example"), Some(3.0), "the second is a duplicate");
    let written = rig.written();
    assert!(!written.iter().any(|it| has_canary(&format!("{it:?}"))), "{written:?}");
    let decisions = written.iter().filter(|it| it.0 == Target::Decisions);
    let event_ids: Vec<String> = decisions
        .map(|it| {
            serde_json::from_str::<serde_json::Value>(&it.2).unwrap()["trigger_event_id"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!((event_ids.len(), &*event_ids[2]), (4, "4aae6dff-9d92-4c83-8001-000000000013"), "a UUID names nobody");
    assert!(event_ids.iter().enumerate().all(|(at, id)| at == 2 || id.len() == 43), "{event_ids:?}");
}

#[test]
fn a_request_names_its_user_by_id_or_by_pseudonym() {
    let mut rig = Rig::new(SPEC);
    for id in ["ann@c4nary.example", "bob@c4nary.example"] {
        rig.event(&format!(r#""user_id":"{id}""#), 0, "view");
    }
    rig.event(r#""anonymous_id":"c4nary-cookie""#, 0, "view");
    rig.process();
    let bob = rig.users().of(KeyType::Person, "bob@c4nary.example").unwrap().into_owned();
    rig.take("Ann@C4nary.example", 1, Some(ERASE_VERSION), None);
    rig.take("device:c4nary-cookie", 1, Some(ERASE_VERSION), None);
    rig.take(&bob, 1, Some(ERASE_VERSION_EXACT), None);
    rig.take("c4nary", 1, Some(ERASE_VERSION), None);
    rig.process();
    assert_eq!(rig.counts.erasures, 3);
    assert!(rig.partitions.get(0).unwrap().store().is_empty());
    let written = rig.written();
    assert!(!written.iter().any(|it| has_canary(&format!("{it:?}"))), "{written:?}");
    let letters = written.iter().filter(|it| it.0 == Target::DeadLetters);
    let details: Vec<&str> = letters.map(|it| it.3.split(';').nth(1).unwrap()).collect();
    assert_eq!(
        details,
        ["detail=a request to erase a user by its key: expected an e-mail address (identity.normalise)"]
    );
}

#[test]
fn without_pseudonyms_everything_is_named_by_ids() {
    let plain = SPEC.replace("pseudonymise = true", "").replace("normalise = \"email\"", "");
    let mut rig = Rig::new(&plain);
    rig.event(r#""user_id":"Ann@c4nary.example","anonymous_id":"c4nary-cookie""#, 0, "view");
    rig.take("k", 4, None, Some("c4nary is no JSON"));
    rig.process();
    let written = rig.written();
    let with_id = written.iter().filter(|it| has_canary(&format!("{it:?}"))).count();
    assert_eq!(with_id, 3, "the search finds what is there: a decision, a dead letter and a profile");
}
