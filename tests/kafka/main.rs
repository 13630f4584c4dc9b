//! The program on a real Kafka: what comes out for what goes in, how it ends, and what survives a kill.
//!
//! `FAULTS_KILLS` and `FAULTS_EVENTS` set how long the test with kills is; `FAULTS_SEED` replays one.

#![expect(clippy::unwrap_used, reason = "a test ends where its own broker cannot be reached")]

mod broker;

use aimpoint::{
    engine::{Counts, Partition, Partitions, Pipeline, PipelineSpec},
    event::{EventTime, Record},
    sink::{Outbox, Publisher, Target, TopicPlan, Topics},
    source::Reader,
};
use broker::Kafka;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    io::Write,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

const CONFIG: &str = r#"
[app]
name = "it"

[kafka.consumer]
"session.timeout.ms" = 6000
"heartbeat.interval.ms" = 1000

[checkpoint]
interval = "1s"

[engine]
workers = 2

[input]
max_bytes = "1MiB"

[time]
allowed_lateness = "1h"

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
where = "views_5m >= 2.0"

[[segment]]
id = "spender"
where = "spent_1d > 300.0"

[[segment]]
id = "fresh"
where = "since_last < 60.0"
"#;

/// A record of some topic.
#[derive(Clone, Debug)]
struct Found {
    partition: i32,
    offset: i64,
    timestamp_ms: Option<i64>,
    key: Option<Vec<u8>>,
    payload: Option<Vec<u8>>,
    headers: BTreeMap<String, String>,
}

struct World {
    kafka: Kafka,
    folder: TempDir,
}

impl World {
    fn start() -> Self {
        let world = Self { kafka: Kafka::start(), folder: tempfile::tempdir().unwrap() };
        std::fs::write(world.config(), CONFIG).unwrap();
        world
    }

    fn config(&self) -> std::path::PathBuf {
        self.folder.path().join("aimpoint.toml")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aimpoint"));
        command
            .args(arguments)
            .arg("--config")
            .arg(self.config())
            .args(["--set", &format!("kafka.brokers={}", self.kafka.brokers)]);
        command
    }

    /// Runs a command to its end: exit code, standard output, standard error.
    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = self.command(arguments).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
    }

    fn spawn(&self, instance: &str) -> Child {
        let log = std::fs::File::options().create(true).append(true).open(self.folder.path().join(instance)).unwrap();
        let mut command = self.command(&["run", "--log-format", "text", "--set", &format!("app.instance={instance}")]);
        command.stdout(Stdio::null()).stderr(log).spawn().unwrap()
    }

    fn create(&self, name: &str, partitions: i32, settings: &[(&'static str, &'static str)]) {
        let topics = Topics::new(&self.kafka.brokers, &[], Duration::from_secs(10)).unwrap();
        let plan = TopicPlan { name: name.to_owned(), partitions, replication: 1, settings: settings.to_vec() };
        block_on(topics.create(&plan)).unwrap();
        let there = || block_on(topics.state(name)).unwrap().is_some();
        wait_for("the new topic", Duration::from_secs(10), there);
    }

    fn publisher(&self) -> Publisher {
        Publisher::new(&self.kafka.brokers, &[], "clickstream", Duration::from_secs(20)).unwrap()
    }

    /// Everything in a topic that committed-only readers see, once there is nothing new for a second.
    fn read(&self, topic: &str, at_least: usize, patience: Duration) -> Vec<Found> {
        let large = [("fetch.message.max.bytes".to_owned(), "20000000".to_owned())];
        let reader = Reader::open(&self.kafka.brokers, &large, &[topic]).unwrap();
        let mut found = Vec::new();
        let mut last = Instant::now();
        while last.elapsed() < if found.len() < at_least { patience } else { Duration::from_secs(1) } {
            let taken = reader.poll(Duration::from_millis(100), |_, record, headers| {
                found.push(Found {
                    partition: record.partition,
                    offset: record.offset,
                    timestamp_ms: record.timestamp_ms,
                    key: record.key.map(<[u8]>::to_vec),
                    payload: record.payload.map(<[u8]>::to_vec),
                    headers: headers
                        .iter()
                        .map(|(name, value)| ((*name).to_owned(), String::from_utf8_lossy(value).into_owned()))
                        .collect(),
                });
            });
            if taken.unwrap() > 0 {
                last = Instant::now();
            }
        }
        found
    }

    /// What the processes logged, for the message of a failure.
    fn logs(&self) -> String {
        let mut logs = String::new();
        for entry in std::fs::read_dir(self.folder.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none() {
                let text = std::fs::read_to_string(&path).unwrap_or_default();
                let lines: Vec<&str> = text.lines().collect();
                let tail = lines[lines.len().saturating_sub(60)..].join("\n");
                logs.extend(["--- ", &path.display().to_string(), "\n", &tail, "\n"]);
            }
        }
        logs
    }
}

fn block_on<T>(question: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(question)
}

fn wait_for(what: &str, deadline: Duration, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < deadline, "waited {deadline:?} for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Asks a process to end, and gives its exit code.
fn terminate(child: &mut Child, deadline: Duration) -> i32 {
    let asked = Command::new("kill").arg("-TERM").arg(child.id().to_string()).status().unwrap();
    assert!(asked.success());
    let mut code = None;
    wait_for("the process to end", deadline, || {
        code = child.try_wait().unwrap();
        code.is_some()
    });
    code.unwrap().code().unwrap_or(-1)
}

fn event(number: usize, user: usize, kind: &str, at_ms: i64) -> String {
    format!(
        r#"{{"event_id":"e{number}","event_type":"{kind}","user_id":"u{user}","occurred_at":{at_ms},"value":{}}}"#,
        (number % 400) as f64 * 0.25
    )
}

fn now_ms() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64
}

/// What the core makes of an input, read from the log in order, without any fault: by partition, the decisions without
/// the moment at which they were made.
fn expected(input: &[Found]) -> (BTreeMap<i32, Vec<Value>>, Counts) {
    let spec: PipelineSpec = {
        let whole: toml::Table = toml::from_str(CONFIG).unwrap();
        let mut spec = toml::Table::new();
        for section in ["input", "time", "duplicates", "feature", "segment"] {
            spec.insert(section.to_owned(), whole[section].clone());
        }
        spec.try_into().unwrap()
    };
    let mut pipeline = Pipeline::compile(&spec, "clickstream").unwrap();
    let mut partitions = Partitions::default();
    let mut outbox = Outbox::default();
    let mut counts = Counts::default();
    let mut decisions = BTreeMap::<i32, Vec<Value>>::new();
    let mut sorted: Vec<&Found> = input.iter().collect();
    sorted.sort_by_key(|it| (it.partition, it.offset));
    for found in sorted {
        if partitions.get(found.partition).is_none() {
            partitions.insert(found.partition, Partition::new(0, 0, None));
        }
        let record = Record {
            partition: found.partition,
            offset: found.offset,
            timestamp_ms: found.timestamp_ms,
            key: found.key.as_deref(),
            payload: found.payload.as_deref(),
            traceparent: None,
        };
        pipeline.take(&record, &mut partitions, &mut outbox, &mut counts);
        pipeline.run(&mut partitions, EventTime(0), &mut outbox, &mut counts);
        for index in 0..outbox.len() {
            let output = outbox.get(index);
            if output.target == Target::Decisions {
                decisions.entry(found.partition).or_default().push(decision(output.payload.unwrap()));
            }
        }
        outbox.clear();
    }
    (decisions, counts)
}

/// A decision without the moment at which it was made.
fn decision(payload: &[u8]) -> Value {
    let mut value: Value = serde_json::from_slice(payload).unwrap();
    value["decided_at"] = Value::Null;
    value
}

fn by_partition(found: &[Found]) -> BTreeMap<i32, Vec<Value>> {
    let mut decisions = BTreeMap::<i32, Vec<Value>>::new();
    for it in found {
        decisions.entry(it.partition).or_default().push(decision(it.payload.as_deref().unwrap()));
    }
    decisions
}

/// Compares what came out with what was owed, and names the first difference.
fn compare(found: &BTreeMap<i32, Vec<Value>>, expected: &BTreeMap<i32, Vec<Value>>, context: &str) {
    for (partition, expected) in expected {
        let found = found.get(partition).map(Vec::as_slice).unwrap_or_default();
        for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
            assert_eq!(found, expected, "decision {index} of partition {partition}; {context}");
        }
        assert_eq!(found.len(), expected.len(), "decisions of partition {partition}; {context}");
    }
}

#[test]
fn every_event_becomes_one_decision_and_bad_input_a_dead_letter_with_its_reason() {
    let world = World::start();
    world.create("clickstream", 3, &[("max.message.bytes", "20000000")]);
    let (code, out, error) = world.run(&["topics", "--create"]);
    assert_eq!(code, 0, "{error}");
    assert!(out.contains("created decisions with 3 partitions"), "new topics join the old ones' count: {out}");

    let now = now_ms();
    let mut lines = Vec::new();
    for number in 0..2_000 {
        let kind = ["view", "click", "purchase"][number % 3];
        lines.push(event(number, number % 37, kind, now - 40_000_000 + number as i64 * 20_000));
    }
    lines.push(lines[1_999].clone());
    let file = world.folder.path().join("events.jsonl.zst");
    let mut packed = zstd::Encoder::new(std::fs::File::create(&file).unwrap(), 3).unwrap();
    packed.write_all(lines.join("\n").as_bytes()).unwrap();
    packed.finish().unwrap();
    let (code, out, error) = world.run(&["load", file.to_str().unwrap()]);
    assert_eq!((code, out.contains("published 2001 events")), (0, true), "{out}{error}");

    let publisher = world.publisher();
    let mut huge = br#"{"event_id":"huge","event_type":"view","user_id":"u1","filler":""#.to_vec();
    huge.resize(10 << 20, b'x');
    let late = event(9_000, 0, "view", now - 90_000_000);
    let ahead = event(9_001, 0, "view", now + 90_000_000);
    let bad: [(&str, Option<&[u8]>); 9] = [
        ("malformed", Some(b"{\"event_id\": ")),
        ("malformed", Some(b"\xff\xfe")),
        ("wrong_type", Some(br#"{"event_type":"view","user_id":"u1","occurred_at":true}"#)),
        ("missing_user", Some(br#"{"event_type":"view","occurred_at":1700000000000}"#)),
        ("missing_time", Some(br#"{"event_type":"view","user_id":"u1"}"#)),
        ("null_payload", None),
        ("too_large", Some(&huge)),
        ("too_late", Some(late.as_bytes())),
        ("future_time", Some(ahead.as_bytes())),
    ];
    for (_, payload) in bad {
        publisher.publish(Some(b"u0"), payload).unwrap();
    }
    publisher.finish().unwrap();

    let mut process = world.spawn("a");
    let decisions = world.read("decisions", 2_000, Duration::from_mins(1));
    let dead = world.read("dead-letter", bad.len(), Duration::from_mins(1));
    assert_eq!(terminate(&mut process, Duration::from_secs(25)), 0, "{}", world.logs());

    let input = world.read("clickstream", 2_010, Duration::from_secs(20));
    let (expected, counts) = expected(&input);
    compare(&by_partition(&decisions), &expected, &world.logs());
    assert_eq!(
        (counts.events, counts.decisions, counts.duplicates, counts.dead_letters_total()),
        (2_010, 2_000, 1, bad.len() as u64),
        "events in = decisions + duplicates + dead letters"
    );

    let mut reasons: Vec<&str> = dead.iter().map(|it| it.headers["reason"].as_str()).collect();
    let mut owed: Vec<&str> = bad.iter().map(|(reason, _)| *reason).collect();
    reasons.sort_unstable();
    owed.sort_unstable();
    assert_eq!(reasons, owed);
    for it in &dead {
        let (partition, offset): (i32, i64) =
            (it.headers["partition"].parse().unwrap(), it.headers["offset"].parse().unwrap());
        let source = input.iter().find(|record| (record.partition, record.offset) == (partition, offset)).unwrap();
        match it.headers.get("cut_from_bytes") {
            None => assert_eq!(it.payload, source.payload, "{:?}", it.headers),
            Some(bytes) => {
                assert_eq!(bytes.parse(), Ok(10 << 20), "{:?}", it.headers);
                let (cut, whole) = (it.payload.as_deref().unwrap(), source.payload.as_deref().unwrap());
                assert!(cut.len() >= 64 << 10 && whole.starts_with(cut), "the beginning is kept");
            }
        }
        assert_eq!(it.headers["topic"], "clickstream");
    }
}

#[test]
fn absent_topics_and_differing_partition_counts_are_told_with_their_own_code() {
    let world = World::start();
    let (code, _, error) = world.run(&["run"]);
    assert_eq!(code, 72, "{error}");
    assert!(error.contains("\"clickstream\" does not exist; create it with: aimpoint topics --create"), "{error}");
    world.create("clickstream", 4, &[("cleanup.policy", "compact")]);
    world.create("decisions", 2, &[]);
    world.create("dead-letter", 1, &[]);
    let (code, _, error) = world.run(&["check"]);
    assert_eq!(code, 72, "{error}");
    assert!(error.contains("\"clickstream\" has 4 partitions and \"decisions\" has 2"), "{error}");
    assert!(error.contains("\"clickstream\" is compacted"), "{error}");
}

fn publish_slowly(world: &World, events: usize, seed: u64, over: Duration) -> std::thread::JoinHandle<()> {
    let publisher = world.publisher();
    std::thread::spawn(move || {
        let mut random = SmallRng::seed_from_u64(seed);
        let start = Instant::now();
        let first_ms = now_ms() - 1_000_000;
        for number in 0..events {
            let user = random.random_range(0..200);
            let mut at = first_ms + number as i64;
            if random.random_range(0..20) == 0 {
                at -= random.random_range(0..300_000);
            }
            let line = event(number, user, ["view", "click", "purchase"][random.random_range(0..3)], at);
            publisher.publish(Some(format!("u{user}").as_bytes()), Some(line.as_bytes())).unwrap();
            let due = over.mul_f64(number as f64 / events as f64);
            publisher.serve();
            std::thread::sleep(due.saturating_sub(start.elapsed()));
        }
        publisher.finish().unwrap();
    })
}

#[test]
fn a_second_process_takes_partitions_over_and_gives_them_back_in_order() {
    let world = World::start();
    world.create("clickstream", 4, &[]);
    assert_eq!(world.run(&["topics", "--create"]).0, 0);
    let events = 20_000;
    let publishing = publish_slowly(&world, events, 7, Duration::from_secs(14));
    let mut first = world.spawn("a");
    std::thread::sleep(Duration::from_secs(4));
    let mut second = world.spawn("b");
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(terminate(&mut first, Duration::from_secs(25)), 0, "{}", world.logs());
    publishing.join().unwrap();
    let found = world.read("decisions", events, Duration::from_secs(40));
    assert_eq!(terminate(&mut second, Duration::from_secs(25)), 0, "{}", world.logs());
    let input = world.read("clickstream", events, Duration::from_secs(20));
    compare(&by_partition(&found), &expected(&input).0, &world.logs());
    assert!(Path::new(&world.folder.path().join("b")).exists());
}
