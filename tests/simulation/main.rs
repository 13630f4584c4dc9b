//! The real worker on the model broker, with faults drawn from a seed: aborted transactions, commits whose answer is
//! lost, stale generations, partitions lost and revoked, and crashes between any two turns.
//!
//! Checked after each run: every event has exactly one decision or dead letter, in the order of its partition, and all
//! of them equal those of a run without any fault, byte for byte (I1, I2, I3, I4).
//!
//! `SIMULATION_SEEDS=n` sets how many seeds run, `SIMULATION_FIRST=n` the first one, so that a failing seed is replayed by
//! `SIMULATION_FIRST=<seed> SIMULATION_SEEDS=1 cargo test --test simulation`.

#![expect(clippy::unwrap_used, reason = "a test ends where its own output cannot be read")]

use aimpoint::{
    engine::{Clock, Pipeline, PipelineSpec, Progress, Worker, WorkerSettings},
    event::EventTime,
    sink::Target,
    testkit::{Faults, InputRecord, MemoryBroker, MemorySink, MemorySource, Visible},
};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use std::{cell::Cell, collections::BTreeMap, time::Duration};

const SPEC: &str = r#"
[time]
allowed_lateness = "1h"
too_late = "dead_letter"
future_tolerance = "1000d"

[duplicates]
horizon = "1h"

[[feature]]
name = "views_5m"
aggregate = "count"
where = 'event_type == "view"'
window = "5m"

[[feature]]
name = "spent_1d"
aggregate = "sum"
value = "value"
window = "24h"

[[feature]]
name = "since_last"
aggregate = "recency"

[[segment]]
id = "keen"
where = "views_5m >= 3.0"

[[segment]]
id = "spender"
where = "spent_1d > 100.0"

[decision]
format = "flat"
fields = { id = "decision_id", event = "trigger_event_id", user = "user_key", partition = "input.partition", offset = "input.offset", segments = "segments" }
"#;

/// A clock that goes on by a millisecond whenever it is read, and always tells the same time of day.
#[derive(Default)]
struct FakeClock(Cell<u64>);

impl Clock for FakeClock {
    fn elapsed(&self) -> Duration {
        self.0.set(self.0.get() + 1);
        Duration::from_millis(self.0.get())
    }

    fn now(&self) -> EventTime {
        EventTime(0)
    }
}

fn input(random: &mut SmallRng, partitions: usize, records: usize) -> Vec<Vec<InputRecord>> {
    let mut input = vec![Vec::new(); partitions];
    let mut ids = Vec::new();
    for number in 0..records {
        let user = random.random_range(0..12);
        let mut at = 1_700_000_000_000_i64 + number as i64 * 20_000;
        match random.random_range(0..20) {
            0 => at -= random.random_range(0..7_200_000),
            1 => at += random.random_range(0..600_000),
            _ => {}
        }
        let kind = ["view", "click", "purchase"][random.random_range(0..3)];
        let id = if random.random_range(0..15) == 0 && !ids.is_empty() {
            ids[random.random_range(0..ids.len())]
        } else {
            number
        };
        ids.push(number);
        let payload = match random.random_range(0..25) {
            0 => Some(b"{\"broken".to_vec()),
            1 => None,
            2 => Some(br#"{"event_type":"view","occurred_at":1700000000000}"#.to_vec()),
            _ => Some(
                format!(
                    r#"{{"event_id":"e{id}","event_type":"{kind}","user_id":"u{user}","occurred_at":{at},"value":{}}}"#,
                    f64::from(random.random_range(0..400)) * 0.25
                )
                .into_bytes(),
            ),
        };
        let key = format!("u{user}").into_bytes();
        input[user % partitions].push(InputRecord { key: Some(key), payload, timestamp_ms: at });
    }
    input
}

fn worker(broker: &MemoryBroker) -> Worker<MemorySource, MemorySink, FakeClock> {
    let spec: PipelineSpec = toml::from_str(SPEC).expect("the specification is well formed");
    let pipeline = Pipeline::compile(&spec, "clicks").expect("the specification compiles");
    let (source, sink) = broker.join();
    let settings = WorkerSettings {
        number: 0,
        commit_interval: Duration::from_millis(20),
        batch_rows_max: 16,
        checkpoint_interval: Duration::from_millis(100),
    };
    Worker::new(settings, source, sink, FakeClock::default(), pipeline, Progress::default())
}

/// Runs until all input is committed; with `crash`, the worker is dropped now and then and another one takes over.
fn run(broker: &MemoryBroker, crash: u32, random: &mut SmallRng) -> BTreeMap<(i32, Vec<u8>), Vec<u64>> {
    let mut it = worker(broker);
    for turn in 0.. {
        if broker.is_done() {
            break;
        }
        assert!(turn < 200_000, "the worker makes no progress: {:?}", broker.committed());
        it.turn().expect("the injected faults are all such that the worker mends them");
        if crash > 0 && random.random_range(0..1_000) < crash {
            drop(it);
            it = worker(broker);
        }
    }
    // The last worker may have taken over after everything was committed: its profiles are those of the changelog and
    // the replay once its turns bring nothing new.
    let profiles = |it: &Worker<MemorySource, MemorySink, FakeClock>| -> BTreeMap<(i32, Vec<u8>), Vec<u64>> {
        let partitions = it.partitions();
        let of = |number: i32| {
            let users = partitions.get(number).map(|partition| partition.store().iter());
            users.into_iter().flatten().map(move |(key, words)| ((number, key.to_vec()), words.to_vec()))
        };
        partitions.held().into_iter().flat_map(of).collect()
    };
    broker.without_faults();
    for turn in 0.. {
        it.turn().expect("there are no faults any more");
        if !it.partitions().is_restoring() && it.partitions().is_caught_up() && !it.partitions().held().is_empty() {
            return profiles(&it);
        }
        assert!(turn < 10_000, "the worker does not catch up");
    }
    unreachable!("the loop ends by itself")
}

/// What became of each partition's records, by topic, in order: the offset and the whole output.
fn account(visible: &[Visible]) -> BTreeMap<(bool, i64), Vec<(i64, Visible)>> {
    let mut account = BTreeMap::<(bool, i64), Vec<_>>::new();
    for output in visible.iter().filter(|output| !matches!(output.target, Target::Profiles(_))) {
        let number = |text: &[u8]| std::str::from_utf8(text).unwrap().parse::<i64>().unwrap();
        let header = |name| output.headers.iter().find(|(other, _)| *other == name).map(|(_, value)| number(value));
        let (partition, offset) = match (header("partition"), header("offset")) {
            (Some(partition), Some(offset)) => (partition, offset),
            _ => {
                let decision: serde_json::Value = serde_json::from_slice(output.payload.as_deref().unwrap()).unwrap();
                (decision["partition"].as_i64().unwrap(), decision["offset"].as_i64().unwrap())
            }
        };
        account.entry((output.target == Target::DeadLetters, partition)).or_default().push((offset, output.clone()));
    }
    // Decisions come in the order of their events. What is refused at decoding is out before what is refused as too
    // late, so dead letters are only owed once each.
    for ((is_dead_letter, _), outputs) in &mut account {
        if *is_dead_letter {
            outputs.sort_by_key(|(offset, _)| *offset);
        }
    }
    account
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a whole number"))
}

#[test]
fn every_run_with_faults_gives_what_the_run_without_faults_gives() {
    let (first, seeds) = (number("SIMULATION_FIRST", 0), number("SIMULATION_SEEDS", 400));
    for seed in first..first + seeds {
        let mut random = SmallRng::seed_from_u64(seed);
        let (partitions, records) = (random.random_range(1..4), random.random_range(1..300));
        let input = input(&mut random, partitions, records);
        let straight = MemoryBroker::new(input.clone(), Faults::default(), seed);
        let owed = run(&straight, 0, &mut random);

        let mut rate = |most: u32| if random.random_bool(0.5) { random.random_range(0..most) } else { 0 };
        let faults =
            Faults { abortable: rate(100), unknown: rate(300), stale: rate(200), lost: rate(50), revoked: rate(50) };
        let crash = rate(100);
        let faulty = MemoryBroker::new(input, faults, seed);
        let restored = run(&faulty, crash, &mut random);

        let (expected, found) = (account(&straight.visible()), account(&faulty.visible()));
        let context =
            format!("seed {seed}, {faults:?}, crash {crash}: replay with SIMULATION_FIRST={seed} SIMULATION_SEEDS=1");
        assert!(owed == restored, "profiles differ; {context}");
        assert_eq!(expected.keys().collect::<Vec<_>>(), found.keys().collect::<Vec<_>>(), "{context}");
        for (partition, expected) in &expected {
            let offsets: Vec<i64> = found[partition].iter().map(|(offset, _)| *offset).collect();
            assert!(offsets.is_sorted_by(|a, b| a < b), "a record twice or out of order; {context}: {offsets:?}");
            assert!(*expected == found[partition], "(dead letters, partition) {partition:?} differs; {context}");
        }
    }
}
