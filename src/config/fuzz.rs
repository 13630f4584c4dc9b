//! Any configuration is accepted or rejected with an explanation: without a panic or stack overflow, in bounded time.

use super::*;
use crate::engine::Pipeline;
use proptest::prelude::*;
use std::time::{Duration, Instant};

/// A configuration with every kind of declaration, so that mutations of it reach every check.
const RICH: &str = r#"
[app]
name = "shop"
[kafka]
brokers = "a:9092,b:9092"
[kafka.client]
"client.rack" = "a"
socket.timeout.ms = 5000
[topics]
clickstream = "clicks"
partitions = 4
[commit]
interval = "25ms"
[engine]
workers = 2
[admin]
address = "127.0.0.1:0"
token = "0123456789abcdef"
[otlp]
endpoint = "http://localhost:4318"
[model]
path = "model.onnx"
heads = { bought = "p" }
batch = { max_rows = 64, max_delay = "1ms" }
gpu = { memory_limit = "2 GiB" }
calibration = { method = "platt", slope = 1.0, offset = 0.0 }
[[variant]]
name = "b"
path = "b.onnx"
heads = { bought = "q" }
[experiment]
name = "spring"
shares = { b = 0.1 }
[[shadow]]
name = "c"
path = "c.onnx"
[input]
max_bytes = "1 MiB"
fields = { occurred_at = { path = "at", unit = "ms" }, event_id = "id" }
[[field]]
name = "color"
type = "string"
path = "properties.color"
[time]
allowed_lateness = "7days"
past_limit = "1990-01-01"
[duplicates]
horizon = "1h"
max_ids = 16
[[feature]]
name = "views"
aggregate = "count"
where = 'event_type == "view" && value > 1.0'
window = "24h"
tile = "30m"
[[feature]]
name = "liked"
aggregate = "categories"
value = "color"
categories = ["red", "blue"]
window = "forever"
[[feature]]
name = "rate"
aggregate = "ratio"
numerator = 'event_type == "click"'
denominator = "true"
alpha = 1.0
beta = 20
window = "1h"
[[feature]]
name = "many"
expression = "(views * 2.0 + math.log1p(value)).orValue(0.0)"
[[feature]]
name = "gap"
aggregate = "session_events"
gap = "30m"
[[segment]]
id = "keen"
segtax = 501
where = '''views > 3.0 && color in ["red", "green"]
  || score > 0.5 && color.matches("^r.*")'''
[explain]
share = 0.01
groups = { g = ["views"] }
[decision]
format = "flat"
fields = { id = "decision_id", s = "score.raw" }
[promotion]
confidence = "90%"
margin = 0.001
live = "always"
campaigns = ["spring"]
[label]
where = 'event_type == "purchase"'
within = "30d"
"#;

/// Inserted text: tokens that are valid somewhere, and limits of number types.
const WORDS: [&str; 61] = [
    "[",
    "]",
    "[[",
    "]]",
    "{",
    "}",
    "(",
    ")",
    "\"",
    "'",
    "'''",
    "\"\"\"",
    "=",
    ".",
    ",",
    "#",
    "\n",
    "\\",
    "\u{0}",
    "\u{1b}",
    "\u{feff}",
    "é",
    "😀",
    " && ",
    " || ",
    "!",
    "-",
    "?",
    ":",
    "in [",
    "value",
    "score",
    ".matches(\"(a*)*\")",
    ".orValue(",
    "0",
    "-1",
    "1e400",
    "nan",
    "inf",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551616",
    "0x7fffffffffffffff",
    "1979-05-27",
    "\"0s\"",
    "\"1ns\"",
    "\"584542046090years\"",
    "\"1e9days\"",
    "\"999999999999 GiB\"",
    "true",
    "\"\"",
    "[]",
    "{}",
    "1h",
    "1990",
    "soon",
    "\"forever\"",
    "\r\n",
    "\t",
    "aggregate = \"top\"\n",
    "[[feature]]\n",
];

#[derive(Clone, Debug)]
enum Change {
    Remove(prop::sample::Index, usize),
    Insert(prop::sample::Index, &'static str, usize),
    Copy(prop::sample::Index, prop::sample::Index, usize),
    /// Replaces the value on a line by a word.
    Value(prop::sample::Index, &'static str),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        (at(), 1_usize..30).prop_map(|(at, length)| Change::Remove(at, length)),
        (at(), prop::sample::select(&WORDS[..]), prop_oneof![9 => 1_usize..3, 1 => 100_usize..3_000])
            .prop_map(|(at, word, times)| Change::Insert(at, word, times)),
        (at(), at(), 1_usize..200).prop_map(|(from, to, length)| Change::Copy(from, to, length)),
        (at(), prop::sample::select(&WORDS[..])).prop_map(|(at, word)| Change::Value(at, word)),
    ]
}

fn changed(text: &str, changes: &[Change]) -> String {
    let mut letters: Vec<char> = text.chars().collect();
    for change in changes {
        let length = letters.len();
        let at = |index: &prop::sample::Index| index.index(length + 1);
        match change {
            Change::Remove(from, count) => {
                let from = at(from);
                letters.drain(from..(from + count).min(length));
            }
            Change::Insert(to, word, times) => {
                let to = at(to);
                letters.splice(to..to, word.repeat(*times).chars());
            }
            Change::Copy(from, to, count) => {
                let (from, to) = (at(from), at(to));
                let part = letters[from..(from + count).min(length)].to_vec();
                letters.splice(to..to, part);
            }
            Change::Value(line, word) => {
                let text: String = letters.iter().collect();
                let lines: Vec<&str> = text.lines().collect();
                let chosen = if lines.is_empty() { 0 } else { line.index(lines.len()) };
                let lines = lines.iter().enumerate().map(|(number, line)| match line.split_once('=') {
                    Some((key, _)) if number == chosen => format!("{key}= {word}\n"),
                    _ => format!("{line}\n"),
                });
                letters = lines.collect::<Vec<_>>().concat().chars().collect();
            }
        }
    }
    letters.into_iter().collect()
}

/// Checks a configuration as `check` does, without files, and returns its display form or the error text.
fn checked(text: &str, sets: &[String]) -> String {
    let start = Instant::now();
    let output = match Config::of_text("a.toml", text.to_owned(), None, &[], sets) {
        Ok((config, document)) => {
            // It can be printed, and does not differ from itself.
            assert!(config.needs_restart(&config.clone()).is_empty() || format!("{config:?}").contains("NaN"));
            let shown = config.shown().to_string();
            match Pipeline::compile(&config.pipeline, "clicks") {
                Ok(_) => shown,
                Err(errors) => document.explain(&errors),
            }
        }
        Err(error) => error.to_string(),
    };
    assert!(start.elapsed() < Duration::from_secs(20), "it took {:?}", start.elapsed());
    assert!(output.len() < 200_000, "{} bytes are too many to read", output.len());
    output
}

#[test]
fn the_rich_configuration_is_valid() {
    let output = checked(RICH, &[]);
    assert!(output.starts_with('{'), "{output}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn a_mutated_configuration_is_accepted_or_explained(changes in prop::collection::vec(change(), 1..6)) {
        checked(&changed(RICH, &changes), &[]);
    }

    #[test]
    fn a_mutated_rule_is_accepted_or_explained(changes in prop::collection::vec(change(), 1..8)) {
        let rule = "views > 3.0 && color in [\"red\", \"green\"] || (score > 0.5 ? color : page.path).matches(\"^r\") && !bot";
        let rule = changed(rule, &changes).replace("'''", "");
        checked(&format!("{RICH}\n[[segment]]\nid = \"x\"\nwhere = '''{rule}'''\n"), &[]);
    }

    #[test]
    fn any_key_accepts_or_rejects_any_override(
        key in prop::sample::select(&[
            "app.name", "kafka.brokers", "kafka.client.\"sasl.password\"", "commit.interval", "engine.workers", "admin.address",
            "model.providers", "model.heads", "model.batch.max_rows", "model.gpu.memory_limit", "experiment.shares.b",
            "input.max_bytes", "input.fields.user_id", "duplicates.max_ids", "time.past_limit", "input.log_format", "explain.share", "segment", "feature", "a.b.c.d", "kafka",
        ][..]),
        words in prop::collection::vec(prop::sample::select(&WORDS[..]), 0..6),
    ) {
        checked(RICH, &[format!("{key}={}", words.concat())]);
    }
}

/// Such files once crashed a running process.
#[test]
fn huge_and_deeply_nested_files_are_rejected_with_a_position() {
    let segment = |rule: &str| format!("[[segment]]\nid = 's'\nwhere = '''{rule}'''\n");
    let users: Vec<String> = (0..6_000).map(|user| format!("'user-{user:06}'")).collect();
    for (text, place, part) in [
        // A column beyond the maximum padding of the standard library.
        (
            segment(&format!("user_id in [{}] && nosuch > 1.0", users.join(","))),
            "a.toml:3:84028",
            "nothing here is named \"nosuch\"",
        ),
        (segment(&format!("value{}", "+value".repeat(30_000))), "a.toml:3:", "deep"),
        (segment(&format!("event_type{} == 'a'", ".lowerAscii()".repeat(10_000))), "a.toml:3:", "deep"),
        (segment(&format!("{}true{}", "(".repeat(20_000), ")".repeat(20_000))), "a.toml:3:", "brackets"),
        (format!("x={}", "[".repeat(100_000)), "a.toml:1:", "this is not TOML"),
        (format!("x={}{}", "[".repeat(60), "]".repeat(60)), "a.toml:1:3", "nested more than 16 deep"),
        (format!("x={}1{}", "{a.b.c.d.e.f.g.h=".repeat(70), "}".repeat(70)), "a.toml:1:3", "nested more than 16 deep"),
        (format!("{} = 1", vec!["a"; 50_000].join(".")), "a.toml:", "this is not TOML"),
        (format!("{}\n", "a = = 1\n".repeat(50_000)), "a.toml:1:", "more"),
        (format!("[app]\n{} = 1\n", "n".repeat(500_000)), "a.toml:2:", "unknown field"),
        (
            (0..5_000).map(|number| format!("[[segment]]\nid='{number}'\nwhere='true'\n")).collect::<Vec<_>>().concat(),
            "a.toml:1:",
            "the maximum is 4096",
        ),
        (format!("[app]\nname = \"{}\"\n", "é".repeat(200_000)), "a.toml:2:8", "not a valid name in Kafka"),
    ] {
        let start: String = text.chars().take(40).collect();
        let output = checked(&text, &[]);
        let shown: String = output.chars().take(600).collect();
        assert!(output.contains(place) && output.contains(part), "{start}: {part:?} at {place} is missing in {shown}");
        assert!(output.lines().all(|line| line.chars().count() < 2_000), "{shown}");
    }
}
