//! Small records whose outputs are larger than a topic accepts, which once blocked a partition forever.

use crate::program::{Program, now_ms, terminate, wait_for};
use aimpoint::{event::RejectReason, proto::v1};
use prost::Message;
use rdkafka::{
    ClientConfig,
    message::{Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer},
};
use std::time::Duration;

const CONFIG: &str = r#"
[app]
name = "it"

[kafka.consumer]
"session.timeout.ms" = 6000
"heartbeat.interval.ms" = 1000

[checkpoint]
interval = "1s"

[engine]
workers = 1

[duplicates]
horizon = "7days"
max_ids = 65535

[[feature]]
name = "seen"
aggregate = "count"
window = "forever"

[[segment]]
id = "eager"
where = "seen >= 3.0"
"#;

const PATIENCE: Duration = Duration::from_mins(1);

/// The number of ids that makes a profile too large for the changelog of the test.
const IDS: usize = 8_000;

fn event(id: &str, user: &str, at_ms: i64) -> String {
    format!(r#"{{"event_id":"{id}","event_type":"view","user_id":"{user}","occurred_at":{at_ms}}}"#)
}

/// Publishes a record with a header, compressed.
fn publish_with_header(program: &Program, payload: &str, header: &str) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &program.kafka.brokers)
        .set("compression.type", "zstd")
        .set("message.max.bytes", "20000000")
        .create()
        .unwrap();
    let headers = OwnedHeaders::new().insert(Header { key: "traceparent", value: Some(header) });
    producer.send(BaseRecord::<str, str>::to("clickstream").key("u").payload(payload).headers(headers)).unwrap();
    producer.flush(PATIENCE).unwrap();
}

#[test]
fn a_refused_decision_keeps_its_place_with_at_least_once_delivery() {
    let program = Program::start(1, &format!("{CONFIG}\n[commit]\ndelivery = \"at_least_once\"\n"));
    program.create("clickstream", 1, &[]);
    assert_eq!(program.run(&["topics", "--create"]).0, 0);
    let (mut process, now) = (program.spawn("a"), now_ms());
    let publisher = program.publisher(Duration::from_secs(20));
    publisher.publish(Some(b"u"), Some(event("first", "u", now).as_bytes())).unwrap();
    publisher.finish().unwrap();
    program.read(&["decisions"], 1, PATIENCE);
    // The process finds out from a failed delivery.
    let limit =
        ["--alter", "--entity-type", "topics", "--entity-name", "decisions", "--add-config", "max.message.bytes=1200"];
    program.kafka.tool("kafka.admin.ConfigCommand", &limit);
    let publisher = program.publisher(Duration::from_secs(20));
    let large = "x".repeat(1_000);
    for (id, user) in [("a", "u"), (large.as_str(), "u"), ("b", "u"), ("c", "u")] {
        publisher.publish(Some(b"u"), Some(event(id, user, now).as_bytes())).unwrap();
    }
    publisher.finish().unwrap();
    let ids = || {
        let mut ids = Vec::new();
        for decision in program.read(&["decisions"], 4, PATIENCE) {
            let decision: serde_json::Value = serde_json::from_slice(decision.payload.as_deref().unwrap()).unwrap();
            let id = decision["trigger_event_id"].as_str().unwrap().to_owned();
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        ids
    };
    wait_for("all decisions", PATIENCE, || ids().len() == 4);
    assert_eq!(ids(), ["first", "a", "b", "c"], "{}", program.logs());
    let dead = program.read(&["dead-letter"], 1, PATIENCE);
    assert!(dead.iter().all(|it| it.headers["reason"] == RejectReason::OutputTooLarge.as_str()), "{dead:?}");
    assert_eq!(dead[0].headers["offset"], "2");
    assert_eq!(terminate(&mut process, Duration::from_secs(20)), 0, "{}", program.logs());
}

#[test]
fn no_size_of_an_event_header_or_profile_blocks_a_partition() {
    let program = Program::start(1, CONFIG);
    program.create("clickstream", 1, &[]);
    program.create("it-profiles", 1, &[("cleanup.policy", "compact"), ("max.message.bytes", "100000")]);
    let (code, _, error) = program.run(&["topics", "--create"]);
    assert_eq!(code, 0, "{error}");
    let (code, out, error) = program.run(&["check"]);
    assert_eq!(code, 0, "{error}");
    for part in
        ["\"decisions\" accepts 1.0 MB", "\"it-profiles\" accepts 100", "raise max.message.bytes of \"it-profiles\""]
    {
        assert!(out.contains(part), "{part:?} is missing in {out}");
    }
    let mut process = program.spawn("a");
    let publisher = program.publisher(Duration::from_secs(20));
    let now = now_ms();

    // An event within input.max_bytes whose decision exceeds the broker's limit.
    let without_id = event("", "u", now).len();
    let huge = event(&"x".repeat(1_048_477 - without_id), "u", now);
    assert_eq!(huge.len(), 1_048_477);
    publisher.publish(Some(b"u"), Some(huge.as_bytes())).unwrap();
    publisher.finish().unwrap();
    // A small event with an invalid header of 3 MB.
    publish_with_header(&program, &event("e0", "u", now), &"0".repeat(3_000_000));
    let sampled = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    publish_with_header(&program, &event("e1", "u", now), sampled);
    let decisions = program.read(&["decisions"], 2, PATIENCE);
    let headers: Vec<_> = decisions.iter().map(|it| it.headers.get("traceparent").map(String::as_str)).collect();
    assert_eq!(headers, [None, Some(sampled)], "{}", program.logs());
    let dead = program.read(&["dead-letter"], 1, PATIENCE);
    assert_eq!((dead.len(), dead[0].headers["reason"].as_str()), (1, "too_large"));
    assert!(dead[0].headers["detail"].contains("event_id"), "{:?}", dead[0].headers);

    // A profile too large for the changelog.
    let publisher = program.publisher(Duration::from_secs(20));
    for number in 0..IDS {
        publisher.publish(Some(b"u"), Some(event(&format!("n{number}"), "u", now).as_bytes())).unwrap();
    }
    publisher.finish().unwrap();
    let decisions = program.read(&["decisions"], 2 + IDS, PATIENCE);
    assert_eq!(decisions.len(), 2 + IDS, "{}", program.logs());
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(terminate(&mut process, Duration::from_secs(20)), 0, "{}", program.logs());
    let profiles = program.read(&["it-profiles"], 1, PATIENCE);
    let newest = profiles.iter().rev().find(|it| it.key.as_deref() == Some(b"u")).unwrap();
    let record = v1::Profile::decode(newest.payload.as_deref().unwrap()).unwrap();
    assert_eq!((record.as_of, record.state.len()), (3 + IDS as i64, 0), "the record has no state");
    assert!(program.logs().contains("outputs are larger than their topic accepts"), "{}", program.logs());

    // The next start rebuilds it from the input: the user's next decision includes all events and ids.
    let mut process = program.spawn("b");
    let publisher = program.publisher(Duration::from_secs(20));
    publisher.publish(Some(b"u"), Some(event("n7", "u", now).as_bytes())).unwrap();
    publisher.publish(Some(b"u"), Some(event("new", "u", now).as_bytes())).unwrap();
    publisher.finish().unwrap();
    let decisions = program.read(&["decisions"], 3 + IDS, PATIENCE);
    assert_eq!(decisions.len(), 3 + IDS, "n7 came before; {}", program.logs());
    let last: serde_json::Value = serde_json::from_slice(decisions[2 + IDS].payload.as_deref().unwrap()).unwrap();
    assert_eq!((&last["trigger_event_id"], &last["segments"][0]["id"]), (&"new".into(), &"eager".into()));
    assert!(program.logs().contains("to rebuild the profiles of users whose records cannot be"), "{}", program.logs());

    // A topic's limit is lowered without the process knowing.
    let limit = |topic: &str, bytes: u32| {
        let limit = format!("max.message.bytes={bytes}");
        let arguments = ["--alter", "--entity-type", "topics", "--entity-name", topic, "--add-config", &limit];
        program.kafka.tool("kafka.admin.ConfigCommand", &arguments);
    };
    limit("decisions", 1_500);
    let long = "v".repeat(1_000);
    let publisher = program.publisher(Duration::from_secs(20));
    publisher.publish(Some(b"v"), Some(event("large", &long, now).as_bytes())).unwrap();
    publisher.publish(Some(b"u"), Some(event("small", "u", now).as_bytes())).unwrap();
    publisher.finish().unwrap();
    let decisions = program.read(&["decisions"], 4 + IDS, PATIENCE);
    assert_eq!(decisions.len(), 4 + IDS, "{}", program.logs());
    let dead = program.read(&["dead-letter"], 2, PATIENCE);
    let headers = &dead[1].headers;
    assert_eq!(headers["reason"], RejectReason::OutputTooLarge.as_str(), "{headers:?}");
    let place = (headers["topic"].as_str(), headers["partition"].as_str(), headers["offset"].parse().ok());
    assert_eq!(place, ("clickstream", "0", Some(5 + IDS as i64)));
    wait_for("the process to name the topic", PATIENCE, || program.logs().contains("topic=\"decisions\""));

    // Less than any decision, and less than the headers of a dead letter.
    limit("decisions", 250);
    limit("dead-letter", 150);
    let publisher = program.publisher(Duration::from_secs(20));
    publisher.publish(Some(b"u"), Some(event("tiny", "u", now).as_bytes())).unwrap();
    publisher.publish(Some(b"u"), Some(b"no JSON".as_slice())).unwrap();
    publisher.finish().unwrap();
    let dead = program.read(&["dead-letter"], 4, PATIENCE);
    let mut reasons: Vec<&str> = dead.iter().map(|it| it.headers["reason"].as_str()).collect();
    // Unreadable records become dead letters before the other events of the batch are decided.
    reasons.sort_unstable();
    let too_large = RejectReason::OutputTooLarge.as_str();
    assert_eq!(reasons, ["malformed", too_large, too_large, "too_large"], "{}", program.logs());
    assert_eq!(terminate(&mut process, Duration::from_secs(20)), 0, "{}", program.logs());
    // The events of the second process: n7 is a duplicate; new and small were decided.
    let counts = "events=6 decisions=2 fallbacks=0 duplicates=1 suppressed=0 dead_letters=3";
    assert!(program.logs().contains(counts), "{}", program.logs());
}
