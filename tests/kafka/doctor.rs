//! `aimpoint doctor` on a real Kafka with an authorizer.

use crate::{broker::Kafka, program::Program};
use std::{
    path::Path,
    time::{Duration, Instant},
};

/// Allow everything without an ACL.
const RIGHTS: &str = "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=true";

/// How long the expected report may take.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn the_doctor_succeeds_with_all_permissions_and_names_missing_ones() {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/demo");
    let config = std::fs::read_to_string(demo.join("aimpoint.toml")).unwrap();
    let model = format!("path = \"{}\"", demo.join("model.onnx").display());
    assert!(config.contains("path = \"model.onnx\""), "{config}");
    let program = Program::on(Kafka::start_with(1, RIGHTS), &config.replace("path = \"model.onnx\"", &model));
    // An ACL takes effect with a delay.
    let amiss = |what: &str, arguments: &[&str], expected: i32, parts: &[&str]| {
        let start = Instant::now();
        loop {
            let (code, out, error) = program.run(&[&["doctor"], arguments].concat());
            let lacking: Vec<&&str> = parts.iter().filter(|part| !out.contains(**part)).collect();
            if code == expected && lacking.is_empty() {
                return;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "{what}: {code} in place of {expected}, without {lacking:?}:\n{out}{error}"
            );
        }
    };

    amiss(
        "no topic",
        &[],
        72,
        &["fail  topics", "\"clickstream\" does not exist", "-> see above; aimpoint topics --create"],
    );
    let (code, out, error) = program.run(&["topics", "--create"]);
    assert_eq!(code, 0, "{out}{error}");
    // A record in each partition: the doctor reads the newest of all.
    let publisher = program.publisher(PATIENCE);
    for user in 0..100 {
        publisher.publish(Some(format!("u{user}").as_bytes()), Some(b"{}")).unwrap();
    }
    publisher.finish().unwrap();
    let well = [
        "ok    brokers",
        "ok    topics",
        "ok    model",
        "ok    group",
        "ok    clock         the newest record is ",
        "ok    transactions",
        " 0 failed",
    ];
    amiss("all well", &[], 0, &well);
    let silent = ["fail  brokers", "-> check kafka.brokers", "ok    model", " 1 failed"];
    amiss("no broker", &["--set", "kafka.brokers=127.0.0.1:1"], 69, &silent);
    let absent = ["fail  model", "/nowhere/model.onnx", "-> see aimpoint check", "ok    transactions", " 1 failed"];
    amiss("no model", &["--set", "model.path=/nowhere/model.onnx"], 66, &absent);

    for (kind, name, subject, advice) in [
        (
            "--transactional-id",
            "aimpoint-demo",
            "fail  transactions",
            "-> allow Write and Describe on transactional ids",
        ),
        ("--group", "aimpoint-demo", "Group authorization failed", "-> allow Read on the group"),
        ("--topic", "clickstream", "fail  input", "-> allow Read on the input topic"),
    ] {
        // Without the Describe permission a topic appears to be missing.
        let operation = if kind == "--topic" { "Read" } else { "All" };
        let rule = ["--deny-principal", "User:ANONYMOUS", "--operation", operation, kind, name];
        let pattern: &[&str] =
            if kind == "--transactional-id" { &["--resource-pattern-type", "prefixed"] } else { &[] };
        program.kafka.tool("org.apache.kafka.tools.AclCommand", &[&["--add"], &rule[..], pattern].concat());
        if kind == "--topic" {
            let may =
                ["--add", "--allow-principal", "User:*", "--operation", "DescribeConfigs", "--operation", "Describe"];
            program.kafka.tool("org.apache.kafka.tools.AclCommand", &[&may[..], &[kind, name]].concat());
        }
        amiss(subject, &[], 69, &[subject, advice, " 1 failed"]);
        program
            .kafka
            .tool("org.apache.kafka.tools.AclCommand", &[&["--remove", "--force"], &[kind, name], pattern].concat());
    }
    amiss("all well again", &[], 0, &well);
}
