//! The program on a real Kafka: output, shutdown, and handover between processes. Kills are tested in tests/faults.

#![expect(clippy::unwrap_used, reason = "a test ends where its own broker cannot be reached")]

mod agents;
mod bidders;
mod broker;
mod budgets;
mod canaries;
mod control;
mod doctor;
mod edge;
mod erasure;
mod loop_closes;
mod paused;
mod program;
mod secured;
mod serve;
mod serve_shared;
mod serve_snapshot;
mod sizes;

use aimpoint::{
    engine::{Partition, Partitions, Pipeline, PipelineSpec},
    event::{EventTime, Record},
    sink::{Outbox, Target},
    status::Counts,
    training::{Dataset, Identity, TrainSpec, encode, train},
};
use program::{Found, Program, now_ms, terminate, wait_for};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

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

fn event(number: usize, user: usize, kind: &str, at_ms: i64) -> String {
    format!(
        r#"{{"event_id":"e{number}","event_type":"{kind}","user_id":"u{user}","occurred_at":{at_ms},"value":{}}}"#,
        (number % 400) as f64 * 0.25
    )
}

/// The sections of the configuration for the pipeline.
fn spec() -> PipelineSpec {
    let whole: toml::Table = toml::from_str(CONFIG).unwrap();
    let mut spec = toml::Table::new();
    for section in ["input", "time", "duplicates", "feature", "segment"] {
        spec.insert(section.to_owned(), whole[section].clone());
    }
    spec.try_into().unwrap()
}

/// The expected decisions of an input, computed by the pipeline in order and without faults: by partition, without the time they
/// were made.
fn expected(input: &[Found]) -> (BTreeMap<i32, Vec<Value>>, Counts) {
    let mut pipeline = Pipeline::compile(&spec(), ("it", "clickstream")).unwrap();
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
            erase: None,
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

/// A decision without the time it was made.
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

/// Compares actual and expected decisions, and reports the first difference.
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
    let program = Program::start(1, CONFIG);
    program.create("clickstream", 3, &[("max.message.bytes", "20000000")]);
    let (code, out, error) = program.run(&["topics", "--create"]);
    assert_eq!(code, 0, "{error}");
    assert!(
        out.contains("created decisions with 3 partitions"),
        "new topics get as many partitions as existing ones: {out}"
    );

    let now = now_ms();
    let mut lines = Vec::new();
    for number in 0..2_000 {
        let kind = ["view", "click", "purchase"][number % 3];
        lines.push(event(number, number % 37, kind, now - 40_000_000 + number as i64 * 20_000));
    }
    lines.push(lines[1_999].clone());
    let file = program.folder.path().join("events.jsonl.zst");
    let mut packed = zstd::Encoder::new(std::fs::File::create(&file).unwrap(), 3).unwrap();
    packed.write_all(lines.join("\n").as_bytes()).unwrap();
    packed.finish().unwrap();
    let (code, out, error) = program.run(&["load", file.to_str().unwrap()]);
    assert_eq!((code, out.contains("published 2001 events")), (0, true), "{out}{error}");

    let publisher = program.publisher(Duration::from_secs(20));
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

    let mut process = program.spawn("a");
    let decisions = program.read(&["decisions"], 2_000, Duration::from_mins(1));
    let dead = program.read(&["dead-letter"], bad.len(), Duration::from_mins(1));
    assert_eq!(terminate(&mut process, Duration::from_secs(25)), 0, "{}", program.logs());

    let input = program.read(&["clickstream"], 2_010, Duration::from_secs(20));
    let (expected, counts) = expected(&input);
    compare(&by_partition(&decisions), &expected, &program.logs());
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
                assert!(cut.len() >= 64 << 10 && whole.starts_with(cut), "it is a prefix");
            }
        }
        assert_eq!(it.headers["topic"], "clickstream");
    }
}

#[test]
fn a_user_s_profile_is_shown_from_the_changelog() {
    let program = Program::start(1, CONFIG);
    let (code, _, error) = program.run(&["profile", "--user", "u5"]);
    assert_eq!((code, error.contains("\"it-profiles\" does not exist")), (72, true), "{error}");
    configure_model(&program);
    program.create("clickstream", 3, &[]);
    assert_eq!(program.run(&["topics", "--create"]).0, 0);
    let publisher = program.publisher(Duration::from_secs(20));
    let first = now_ms() - 3_600_000;
    for number in 0..900 {
        let (user, kind) = (number % 37, ["view", "click", "purchase"][number % 3]);
        let line = event(number, user, kind, first + number as i64 * 2_000);
        publisher.publish(Some(format!("u{user}").as_bytes()), Some(line.as_bytes())).unwrap();
    }
    publisher.finish().unwrap();
    let mut process = program.spawn("a");
    let decisions = program.read(&["decisions"], 900, Duration::from_mins(1));
    assert_eq!(decisions.len(), 900, "{}", program.logs());
    let scores = program.read(&["shadow-scores"], 100, Duration::from_secs(20));
    shadow_scores_beside(&decisions, &scores, &program);
    assert_eq!(terminate(&mut process, Duration::from_secs(25)), 0, "{}", program.logs());

    let input = program.read(&["clickstream"], 900, Duration::from_secs(20));
    let mut theirs: Vec<&Found> = input.iter().filter(|it| it.key.as_deref() == Some(b"u5")).collect();
    theirs.sort_by_key(|it| it.offset);
    let mut pipeline = Pipeline::compile(&spec(), ("it", "clickstream")).unwrap();
    let (mut partitions, mut outbox, mut counts) = (Partitions::default(), Outbox::default(), Counts::default());
    partitions.insert(theirs[0].partition, Partition::new(0, 0, None));
    let mut row = Vec::new();
    for it in &theirs {
        let record = Record {
            partition: it.partition,
            offset: it.offset,
            timestamp_ms: it.timestamp_ms,
            payload: it.payload.as_deref(),
            ..Record::default()
        };
        pipeline.take(&record, &mut partitions, &mut outbox, &mut counts);
        pipeline.rows(&mut partitions, &mut counts, |it| row = it.features.to_vec());
    }

    let shown = |program: &Program| -> Value {
        let (code, out, error) = program.run(&["profile", "--user", "u5", "--json"]);
        assert_eq!(code, 0, "{error}");
        serde_json::from_str(&out).unwrap()
    };
    let value = |shown: &Value, index: usize| shown["features"][index]["value"].as_f64().map(|value| value as f32);
    let before = shown(&program);
    assert_eq!((value(&before, 0), value(&before, 1)), (Some(row[0]), Some(row[1])), "{before}; a row: {row:?}");
    assert_eq!(value(&before, 2), Some(0.0), "the newest event is its own");
    assert!(row[1] > 0.0, "{row:?}");
    assert_eq!(before["partition"], theirs[0].partition);
    assert!(before["as_of"].as_i64().unwrap() > theirs.last().unwrap().offset, "{before}");
    assert_eq!(before["begin_empty"], serde_json::json!([]));

    let (code, out, error) = program.run(&["profile", "--user", "u5"]);
    assert_eq!(code, 0, "{error}");
    for part in ["user            u5, in partition", "values are as of this time", "views_5m", "count where"] {
        assert!(out.contains(part), "{part:?} is missing in:\n{out}");
    }
    assert!(!out.contains("u6"), "no other user is shown: {out}");
    let (code, out, error) = program.run(&["profile", "--user", "nobody"]);
    assert_eq!((code, out.as_str()), (67, ""), "{error}");
    assert!(error.contains("find user \"nobody\": \"it-profiles\" has no profile of this user"), "{error}");

    explain_from_the_changelog(&program, &theirs, &row);

    std::fs::write(program.config(), CONFIG.replace("where = 'event_type == \"view\"'", "")).unwrap();
    let after = shown(&program);
    assert_eq!(after["begin_empty"], serde_json::json!(["views_5m"]));
    assert_eq!((value(&after, 0), value(&after, 1)), (Some(0.0), Some(row[1])), "unchanged features keep their state");
    let (_, out, error) = program.run(&["profile", "--user", "u5"]);
    assert!(out.contains("it has no state for views_5m"), "{out}{error}");
}

/// Puts a model over two features into the program's folder, as told.onnx.
fn put_model(program: &Program, names: [&str; 2]) {
    let names = names.map(str::to_owned);
    let random = |at: usize| (at * 37 % 101) as f32;
    let data = Dataset {
        values: (0..400).map(random).collect(),
        labels: (0..200).map(|row| random(2 * row) > random(2 * row + 1)).collect(),
        features: names.to_vec(),
        ..Dataset::default()
    };
    let network = train(&data, &TrainSpec { epochs_max: 20, members: 1, ..TrainSpec::default() }).unwrap().network;
    let model = encode(&network, &names, &Identity { name: "told".to_owned(), ..Identity::default() });
    std::fs::write(program.folder.path().join("told.onnx"), model).unwrap();
}

/// Configures a model over two of the features, which is also its own shadow.
fn configure_model(program: &Program) {
    put_model(program, ["views_5m", "spent_1d"]);
    let more = "\n[topics]\nshadow_scores = \"shadow-scores\"\n[model]\npath = \"told.onnx\"\n\
                [[shadow]]\nname = \"twin\"\npath = \"told.onnx\"\n";
    std::fs::write(program.config(), format!("{CONFIG}{more}")).unwrap();
}

/// Each record of a shadow names a decision, its user and the champion's score; skipped rows have no record.
fn shadow_scores_beside(decisions: &[Found], scores: &[Found], program: &Program) {
    let json = |found: &Found| serde_json::from_slice::<Value>(found.payload.as_deref().unwrap()).unwrap();
    let decided: BTreeMap<String, Value> =
        decisions.iter().map(json).map(|it| (it["decision_id"].as_str().unwrap().to_owned(), it)).collect();
    assert!(decided.values().all(|it| it["score"]["raw"].is_number()), "{decided:?}");
    assert!((100..=decisions.len()).contains(&scores.len()), "{} scores: {}", scores.len(), program.logs());
    for found in scores {
        let told = json(found);
        let decision = &decided[told["decision_id"].as_str().unwrap()];
        assert_eq!(found.key.as_deref(), decision["user_key"].as_str().map(str::as_bytes));
        assert_eq!((&told["user_key"], &told["shadow"]), (&decision["user_key"], &"twin".into()));
        assert_eq!(told["champion"], decision["score"]["calibrated"], "{told} {decision}");
        let [score, champion] = ["score", "champion"].map(|name| told[name].as_f64().unwrap());
        assert!((score - champion).abs() < 1e-6, "the same model gives the same score: {told}");
    }
}

/// An explanation from the changelog equals one from a replay of the user's events, except for the time since the event before the
/// newest one, which a profile does not keep.
fn explain_from_the_changelog(program: &Program, theirs: &[&Found], row: &[f32]) {
    let events = program.folder.path().join("theirs.jsonl");
    let lines: Vec<&[u8]> = theirs.iter().filter_map(|it| it.payload.as_deref()).collect();
    std::fs::write(&events, lines.join(&b"\n"[..])).unwrap();

    let explained = |arguments: &[&str]| {
        let (code, out, error) = program.run(arguments);
        assert_eq!(code, 0, "{error}");
        let (head, bars) = out.split_once("\n\n").unwrap();
        (head.to_owned(), bars.to_owned())
    };
    let (head, bars) = explained(&["explain", "--user", "u5"]);
    assert!(head.starts_with("user u5, profile of ") && head.contains("model told"), "{head}");
    assert!(bars.contains('█') && bars.contains(&format!("{:.4}", row[1])), "{bars}\na row: {row:?}");
    let (replayed, same) = explained(&["explain", "--event", events.to_str().unwrap()]);
    assert!(replayed.starts_with("user u5, event "), "{replayed}");
    assert_eq!(bars, same, "contributions from the changelog and from a replay");
    let (code, _, error) = program.run(&["explain", "--user", "nobody"]);
    assert_eq!(code, 67, "{error}");
    assert!(error.contains("find user \"nobody\": \"it-profiles\" has no profile of this user"), "{error}");
}

#[test]
fn missing_topics_and_different_partition_counts_have_their_own_code() {
    let program = Program::start(1, CONFIG);
    let (code, _, error) = program.run(&["run"]);
    assert_eq!(code, 72, "{error}");
    assert!(error.contains("\"clickstream\" does not exist; create it with: aimpoint topics --create"), "{error}");
    program.create("clickstream", 4, &[("cleanup.policy", "compact")]);
    program.create("decisions", 2, &[]);
    program.create("dead-letter", 1, &[]);
    let (code, _, error) = program.run(&["check"]);
    assert_eq!(code, 72, "{error}");
    assert!(error.contains("\"clickstream\" has 4 partitions and \"decisions\" has 2"), "{error}");
    assert!(error.contains("\"clickstream\" is compacted"), "{error}");
}

/// Publishes events at a steady rate on another thread.
fn publish_slowly(program: &Program, events: usize, seed: u64, over: Duration) -> std::thread::JoinHandle<()> {
    let publisher = program.publisher(Duration::from_secs(20));
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
fn a_second_process_takes_partitions_over_and_returns_them_cleanly() {
    let program = Program::start(1, CONFIG);
    program.create("clickstream", 4, &[]);
    assert_eq!(program.run(&["topics", "--create"]).0, 0);
    let events = 20_000;
    let publishing = publish_slowly(&program, events, 7, Duration::from_secs(14));
    let mut first = program.spawn("a");
    std::thread::sleep(Duration::from_secs(4));
    let mut second = program.spawn("b");
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(terminate(&mut first, Duration::from_secs(25)), 0, "{}", program.logs());
    publishing.join().unwrap();
    let found = program.read(&["decisions"], events, Duration::from_secs(40));
    assert_eq!(terminate(&mut second, Duration::from_secs(25)), 0, "{}", program.logs());
    let input = program.read(&["clickstream"], events, Duration::from_secs(20));
    compare(&by_partition(&found), &expected(&input).0, &program.logs());
    assert!(Path::new(&program.folder.path().join("b")).exists());
}

/// Closing alone does not make librdkafka leave the group if it has no partitions.
#[test]
fn a_process_without_partitions_leaves_the_group_at_shutdown() {
    const PATIENCE: Duration = Duration::from_secs(20);
    let config = CONFIG.replace("timeout.ms\" = 6000", "timeout.ms\" = 60000").replace("workers = 2", "workers = 1");
    assert!(config.contains("= 60000") && config.contains("workers = 1"));
    let program = Program::start(1, &config);
    program.create("clickstream", 1, &[]);
    assert_eq!(program.run(&["topics", "--create"]).0, 0);
    let mut holding = program.spawn("a");
    let log = |name: &str| std::fs::read_to_string(program.folder.path().join(name)).unwrap_or_default();
    wait_for("the partition to be held", PATIENCE, || log("a").contains("assigned partitions=[0]"));
    let mut idle = program.spawn("b");
    wait_for("the other one to be a member", PATIENCE, || log("b").contains("assigned partitions=[]"));
    assert_eq!(terminate(&mut idle, Duration::from_secs(25)), 0, "{}", program.logs());
    assert_eq!(terminate(&mut holding, Duration::from_secs(25)), 0, "{}", program.logs());
    // The group would wait for a remaining member until its session times out.
    let publisher = program.publisher(Duration::from_secs(20));
    publisher.publish(Some(b"u1"), Some(event(0, 1, "view", now_ms()).as_bytes())).unwrap();
    publisher.finish().unwrap();
    let mut next = program.spawn("c");
    let found = program.read(&["decisions"], 1, Duration::from_secs(30));
    assert_eq!(found.len(), 1, "{}", program.logs());
    assert_eq!(terminate(&mut next, Duration::from_secs(25)), 0, "{}", program.logs());
}
