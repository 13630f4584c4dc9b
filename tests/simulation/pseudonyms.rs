//! Pseudonyms in the worker with kills, aborts and a lost changelog: the same decisions under other names, and no id anywhere.

use super::world;
use aimpoint::{
    engine::{PipelineSpec, Worker, WorkerSettings},
    event::{ERASE_VERSION, KeyType, UserKeys},
    status::Progress,
    testkit::{FakeClock, Faults, InputRecord, MemoryBroker, MemorySink, MemorySource, Place},
};
use serde_json::Value;
use std::{collections::BTreeMap, time::Duration};

const START: i64 = 1_700_000_000_000;
const USERS: [&str; 5] = ["ann@c4nary.example", "BOB@c4nary.example", "c4nary-cy", "eve/c4nary", "5 C4nary Row"];
const CANARY: &[u8] = b"c4nary";

type TestWorker = Worker<MemorySource, MemorySink, FakeClock>;

fn spec(has_pseudonyms: bool) -> PipelineSpec {
    let mut spec = world::lasting(world::spec());
    if has_pseudonyms {
        let identity = "pseudonymise = true\nkey = \"a key of thirty-two bytes or more\"";
        spec.identity = toml::from_str(identity).expect("the section is well formed");
    }
    // How users are split goes by their names.
    spec.campaigns.clear();
    spec.creatives.clear();
    spec
}

/// Events of the users, some of them broken, and a request to erase one.
fn input() -> Vec<InputRecord> {
    let event = |number: usize| {
        let (user, at) = (USERS[number * 7 % 5], START + number as i64 * 20_000);
        let kind = ["view", "click", "view", "purchase"][number % 4];
        let payload = match number % 11 {
            10 => format!("{{\"user_id\":\"{user}\""),
            _ => format!(
                r#"{{"event_id":"{user}-{number}","event_type":"{kind}","user_id":"{user}","occurred_at":{at},"value":{}}}"#,
                number % 100
            ),
        };
        let key = Some(user.as_bytes().to_vec());
        InputRecord { key, payload: Some(payload.into_bytes()), timestamp_ms: at, ..InputRecord::default() }
    };
    let mut input: Vec<InputRecord> = (0..120).map(event).collect();
    let request = InputRecord {
        key: Some(USERS[1].as_bytes().to_vec()),
        erase: Some(ERASE_VERSION.as_bytes().to_vec()),
        timestamp_ms: START + 60 * 20_000,
        ..InputRecord::default()
    };
    input.insert(60, request);
    input
}

fn join(broker: &MemoryBroker, has_pseudonyms: bool) -> (TestWorker, u64) {
    let (source, sink) = broker.join(0);
    let settings = WorkerSettings {
        number: 0,
        commit_interval: Duration::from_millis(10),
        pace: Duration::ZERO,
        batch_rows_max: 8,
        checkpoint_interval: Duration::from_millis(60),
        stall_after: Duration::from_secs(10),
    };
    let member = source.member();
    let pipeline = world::pipeline(&spec(has_pseudonyms)).0;
    (Worker::new(settings, source, sink, FakeClock::default(), pipeline, Progress::default()), member)
}

/// Handles all of the input with kills in between, and returns the decisions in order: key and value.
fn decided(has_pseudonyms: bool, seed: u64) -> Vec<(String, Option<Value>)> {
    let input = input();
    let faults = Faults { abortable: 40, ..Faults::default() };
    let broker = MemoryBroker::new(vec![input.clone()], true, faults, seed);
    for (life, records) in [30, 31, 30, 30].into_iter().enumerate() {
        let (mut worker, member) = join(&broker, has_pseudonyms);
        broker.produce(0, records);
        let end = broker.produced()[0];
        let mut turns = 0;
        while broker.committed()[0].as_ref().is_none_or(|(next, _)| *next < end) {
            broker.tick(1_000_000, 1_000_000);
            worker.turn().expect("aborted transactions are sent again");
            turns += 1;
            assert!(turns < 20_000, "seed {seed}: it does not get through");
        }
        // Killed in the middle of what comes next.
        drop(worker);
        broker.leave(member);
        if life == 1 {
            broker.lose_changelog(0);
        }
    }
    for place in broker.places().into_iter().filter(|_| has_pseudonyms) {
        for record in broker.all_committed(place) {
            let mut all = [record.key.unwrap_or_default(), record.payload.unwrap_or_default()].concat();
            record.headers.iter().for_each(|(_, value)| all.extend_from_slice(value));
            let all = all.to_ascii_lowercase();
            assert!(memchr::memmem::find(&all, CANARY).is_none(), "{place:?}: {}", String::from_utf8_lossy(&all));
        }
    }
    let text = |key: Option<Vec<u8>>| String::from_utf8(key.expect("decisions have keys")).expect("text");
    let all = broker.all_committed(Place::Decisions(0)).into_iter();
    all.map(|it| (text(it.key), it.payload.map(|payload| serde_json::from_slice(&payload).expect("JSON")))).collect()
}

#[test]
fn with_pseudonyms_the_same_is_decided_about_the_same_users_and_no_topic_has_an_id() {
    let keys = UserKeys::new(&spec(true).identity, false);
    let names: BTreeMap<String, &str> = USERS
        .iter()
        .map(|user| (keys.of(KeyType::Person, user).expect("any text will do").into_owned(), *user))
        .collect();
    for seed in 0..10 {
        let [plain, hidden] = [false, true].map(|has_pseudonyms| decided(has_pseudonyms, seed));
        assert!(plain.len() > 100 && plain.iter().any(|(_, decision)| decision.is_none()), "{}", plain.len());
        // Under its name, and without the members that must differ.
        let comparable = |(key, decision): (String, Option<Value>)| {
            let user = names.get(&key).map_or_else(|| key.clone(), |user| (*user).to_owned());
            let decision = decision.map(|mut decision| {
                assert_eq!(decision["user"], *key, "{decision}");
                decision["user"] = Value::Null;
                decision["event"] = Value::Null;
                decision
            });
            (user, decision)
        };
        let [plain, hidden] = [plain, hidden].map(|all| all.into_iter().map(comparable).collect::<Vec<_>>());
        assert_eq!(plain, hidden, "seed {seed}");
    }
}
