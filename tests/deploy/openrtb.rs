//! Decisions in OpenRTB, read by the Python package `openrtb`.

use crate::{repository, tool};
use aimpoint::{
    engine::{Partition, Partitions, Pipeline, PipelineSpec},
    event::{EventTime, Record},
    sink::Outbox,
    status::Counts,
};
use std::{
    io::Write,
    process::{Output, Stdio},
};

const SPEC: &str = r#"
[decision]
format = "openrtb"
provider = { id = "77", name = "shop.example" }

[[segment]]
id = "687"
name = "Interest | Travel"
segtax = 4
where = "true"

[[segment]]
id = "buyer \"☃\""
segtax = 502
where = 'event_type == "purchase"'
exit = "false"
duration = "30s"

[[segment]]
id = "own"
where = 'event_type == "purchase"'

[[campaign]]
id = "spring"
currency = "EUR"
value = 2.5
"#;

/// The decisions about a purchase and two views. At the second view, a membership has ended.
fn decisions() -> Vec<u8> {
    let spec: PipelineSpec = toml::from_str(SPEC).unwrap();
    let mut pipeline = Pipeline::compile(&spec, "clicks").unwrap_or_else(|errors| panic!("{errors:?}"));
    let mut partitions = Partitions::default();
    partitions.insert(0, Partition::new(0, 0, None));
    let (mut outbox, mut counts) = (Outbox::default(), Counts::default());
    for (offset, kind) in [(0_i64, "purchase"), (1, "view"), (2, "view")] {
        let at = 1_772_409_600_000 + offset * 20_000;
        let payload = format!(r#"{{"event_type":"{kind}","user_id":"ann \"☃\"","occurred_at":{at}}}"#);
        let record = Record { offset, timestamp_ms: Some(at), payload: Some(payload.as_bytes()), ..Record::default() };
        pipeline.take(&record, &mut partitions, &mut outbox, &mut counts);
        pipeline.run(&mut partitions, EventTime(0), &mut outbox, &mut counts);
    }
    let mut lines = Vec::new();
    for output in outbox.all() {
        lines.extend_from_slice(output.payload.unwrap());
        lines.push(b'\n');
    }
    lines
}

/// Runs the check on lines of JSON.
fn check(lines: &[u8]) -> Output {
    let mut python = tool("openrtb/bin/python");
    python
        .arg(repository("tests/deploy/check_openrtb.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut running = python.spawn().unwrap();
    running.stdin.take().unwrap().write_all(lines).unwrap();
    running.wait_with_output().unwrap()
}

#[test]
fn the_users_of_decisions_in_openrtb_are_valid_for_the_python_package() {
    let lines = decisions();
    let text = String::from_utf8_lossy(&lines);
    let Output { status, stdout, stderr } = check(&lines);
    assert!(status.success(), "{}\nof {text}", String::from_utf8_lossy(&stderr));
    let count = text.lines().count();
    assert!(count >= 3, "{text}");
    assert_eq!(String::from_utf8_lossy(&stdout).trim(), count.to_string());
    assert!(text.contains(r#""ext":{"segtax":4}"#) && text.contains(r#""ext":{"segtax":502}"#), "{text}");
}

#[test]
fn the_python_package_refuses_what_is_no_user() {
    for (line, why) in [
        (r#"{"user":{"data":[{"id":"1","segment":[{"id":5}]}]}}"#, "is written as"),
        (r#"{"user":{"data":[{"id":"1","segments":[]}]}}"#, "user.data[0] has unknown members"),
        (r#"{"user":{"id":["1"]}}"#, "user.id is a list"),
        (r#"{"user":{"yob":1990}}"#, "deprecated"),
    ] {
        let Output { status, stderr, .. } = check(line.as_bytes());
        let text = String::from_utf8_lossy(&stderr);
        assert!(!status.success() && text.contains(why), "{line}: {text}");
    }
}
