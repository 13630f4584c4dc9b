//! Pseudonyms in the worker with kills, aborts and a lost changelog: the same decisions under other names, and no id anywhere. When
//! the key changes, each user moves once, and keeps everything.

use super::world;
use aimpoint::{
    engine::{PipelineSpec, Worker, WorkerSettings},
    event::{ERASE_VERSION, KeyType, UserKeys},
    status::Progress,
    testkit::{FakeClock, Faults, InputRecord, MemoryBroker, MemorySink, MemorySource, Place, Visible},
};
use serde_json::Value;
use std::{collections::BTreeMap, time::Duration};

const START: i64 = 1_700_000_000_000;
const USERS: [&str; 5] = ["ann@c4nary.example", "BOB@c4nary.example", "c4nary-cy", "eve/c4nary", "5 C4nary Row"];
const CANARY: &[u8] = b"c4nary";

type TestWorker = Worker<MemorySource, MemorySink, FakeClock>;

/// How users are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Naming {
    Ids,
    /// By the first key.
    First,
    /// By the second key, with the first one as the previous.
    Moving,
    /// By the second key alone.
    Second,
}

const KEYS: [&str; 2] = ["a key of thirty-two bytes or more", "another key of thirty-two bytes or so"];

fn spec(naming: Naming) -> PipelineSpec {
    let mut spec = world::lasting(world::spec());
    let identity = match naming {
        Naming::Ids => String::new(),
        Naming::First => format!("pseudonymise = true\nkey = \"{}\"", KEYS[0]),
        Naming::Moving => format!("pseudonymise = true\nkey = \"{}\"\nprevious_key = \"{}\"", KEYS[1], KEYS[0]),
        Naming::Second => format!("pseudonymise = true\nkey = \"{}\"", KEYS[1]),
    };
    spec.identity = toml::from_str(&identity).expect("the section is well formed");
    // How users are split goes by their names.
    spec.campaigns.clear();
    spec.creatives.clear();
    spec
}

/// Events of the users, some of them broken and some sent twice, and a request to erase one.
fn input() -> Vec<InputRecord> {
    let event = |number: usize| {
        let (user, at) = (USERS[number * 7 % 5], START + number as i64 * 20_000);
        let kind = ["view", "click", "view", "purchase"][number % 4];
        let payload = match number % 11 {
            10 => format!("{{\"user_id\":\"{user}\""),
            _ => format!(
                r#"{{"event_id":"{user}-{}","event_type":"{kind}","user_id":"{user}","occurred_at":{at},"value":{}}}"#,
                // Three repeat the one before of their user.
                if [33, 63, 93].contains(&number) { number - 5 } else { number },
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

fn join(broker: &MemoryBroker, naming: Naming) -> (TestWorker, u64) {
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
    let pipeline = world::pipeline(&spec(naming)).0;
    (Worker::new(settings, source, sink, FakeClock::default(), pipeline, Progress::default()), member)
}

/// An output about a user.
struct Told {
    key: String,
    decision: Option<Value>,
    /// Whether it is the null for a name that its user has left.
    is_move: bool,
}

/// Handles all of the input with kills in between, and returns the outputs about users in order. The changelog is lost after the
/// life with this number.
fn told(namings: [Naming; 4], lost_after: usize, seed: u64) -> Vec<Told> {
    let input = input();
    let faults = Faults { abortable: 40, ..Faults::default() };
    let broker = MemoryBroker::new(vec![input.clone()], true, faults, seed);
    for (life, (records, naming)) in [30, 31, 30, 30].into_iter().zip(namings).enumerate() {
        let (mut worker, member) = join(&broker, naming);
        let known = life.checked_sub(1).map_or(0, |before| beyond(before, seed));
        broker.produce(0, records - known);
        let end = broker.produced()[0];
        let mut turns = 0;
        let mut turn = |broker: &MemoryBroker| {
            broker.tick(1_000_000, 1_000_000);
            worker.turn().expect("aborted transactions are sent again");
            turns += 1;
            assert!(turns < 20_000, "seed {seed}: it does not get through");
        };
        while broker.committed()[0].as_ref().is_none_or(|(next, _)| *next < end) {
            turn(&broker);
        }
        // Time for the changelog to get the profiles, in some lives.
        (0..(seed + life as u64) % 3 * 60).for_each(|_| turn(&broker));
        // Killed in the middle of what comes next.
        if life < 3 {
            broker.produce(0, beyond(life, seed));
            (0..seed % 5).for_each(|_| turn(&broker));
        }
        drop(worker);
        broker.leave(member);
        if life == lost_after {
            broker.lose_changelog(0);
        }
    }
    for place in broker.places().into_iter().filter(|_| namings[0] != Naming::Ids) {
        for record in broker.all_committed(place) {
            let mut all = [record.key.unwrap_or_default(), record.payload.unwrap_or_default()].concat();
            record.headers.iter().for_each(|(_, value)| all.extend_from_slice(value));
            let all = all.to_ascii_lowercase();
            assert!(memchr::memmem::find(&all, CANARY).is_none(), "{place:?}: {}", String::from_utf8_lossy(&all));
        }
    }
    let told = |it: Visible| Told {
        key: String::from_utf8(it.key.expect("decisions have keys")).expect("text"),
        decision: it.payload.map(|payload| serde_json::from_slice(&payload).expect("JSON")),
        is_move: it.headers.iter().any(|(name, _)| *name == "renamed"),
    };
    broker.all_committed(Place::Decisions(0)).into_iter().map(told).collect()
}

/// How many records there are beyond what a life has committed when it is killed.
fn beyond(life: usize, seed: u64) -> usize {
    (seed as usize + life) % 7
}

/// The users by their names under a key.
fn names(naming: Naming) -> BTreeMap<String, &'static str> {
    let keys = UserKeys::new(&spec(naming).identity, false);
    let name = |user: &&'static str| (keys.of(KeyType::Person, user).expect("any text will do").into_owned(), *user);
    USERS.iter().map(name).collect()
}

/// Under the user's name, and without the members that must differ.
fn comparable(names: &[BTreeMap<String, &str>], Told { key, decision, .. }: &Told) -> (String, Option<Value>) {
    let user = names.iter().find_map(|names| names.get(key)).map_or_else(|| key.clone(), |user| (*user).to_owned());
    let decision = decision.clone().map(|mut decision| {
        assert_eq!(decision["user"], **key, "{decision}");
        decision["user"] = Value::Null;
        decision["event"] = Value::Null;
        decision
    });
    (user, decision)
}

#[test]
fn with_pseudonyms_the_same_is_decided_about_the_same_users_and_no_topic_has_an_id() {
    let names = [names(Naming::First)];
    for seed in 0..10 {
        let [plain, hidden] = [Naming::Ids, Naming::First].map(|naming| told([naming; 4], 1, seed));
        assert!(plain.len() > 100 && plain.iter().any(|it| it.decision.is_none()), "{}", plain.len());
        let [plain, hidden] =
            [plain, hidden].map(|all| all.iter().map(|it| comparable(&names, it)).collect::<Vec<_>>());
        assert_eq!(plain, hidden, "seed {seed}");
    }
}

/// Whatever fails meanwhile, each user moves once to the second key, the decisions are those of a user who kept the name, and
/// what is sent again is recognised.
#[test]
pub(crate) fn when_the_key_changes_each_user_moves_once_and_keeps_everything() {
    use Naming::{First, Ids, Moving, Second};
    let [first, second] = [First, Second].map(names);
    let both = [first.clone(), second.clone()];
    let plans = [
        [First, Moving, Second, Second],
        [First, First, Moving, Second],
        [First, Moving, Moving, Second],
        [First, Moving, Moving, Moving],
        [First, First, First, Moving],
    ];
    for (seed, plan) in (0..4).flat_map(|round| (0..).zip(plans).map(move |(number, plan)| (round * 5 + number, plan)))
    {
        let place = format!("seed {seed}, {plan:?}");
        let plain = told([Ids; 4], 9, seed);
        // Lost in none, or one, of the lives.
        let moved = told(plan, seed as usize % 4, seed);
        for (name, user) in &first {
            let of_user = moved.iter().filter(|it| comparable(&both, it).0 == *user);
            let (mut is_known, mut moves, mut has_moved) = (false, 0, false);
            for it in of_user {
                if it.key == *name && !it.is_move {
                    assert!(!has_moved || it.decision.is_none(), "{place}: {user} goes back to the first name");
                    is_known = it.decision.is_some();
                } else if it.is_move {
                    assert!(
                        is_known && it.key == *name && !has_moved,
                        "{place}: a null for a name that {user} has not"
                    );
                    (is_known, moves) = (false, moves + 1);
                } else {
                    assert!(!is_known, "{place}: {user} has two names");
                    has_moved = true;
                }
            }
            assert!(moves <= 1 && has_moved && !is_known, "{place}: {user} moved {moves} times");
        }
        // An erasure gives a null for each name.
        let mut moved: Vec<_> = moved.iter().filter(|it| !it.is_move).map(|it| comparable(&both, it)).collect();
        moved.dedup_by(|next, last| next.1.is_none() && next == last);
        let plain: Vec<_> = plain.iter().map(|it| comparable(&[], it)).collect();
        assert_eq!(plain.len(), moved.len(), "{place}");
        for (plain, moved) in plain.iter().zip(&moved) {
            assert_eq!(plain, moved, "{place}");
        }
    }
}
