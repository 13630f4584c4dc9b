//! `aimpoint export` with unusual files, clocks and orders of events.

use super::{aimpoint, folder_with, path, process::Running};
use aimpoint::{
    sink::{EmbeddedBroker, partition_of},
    source::Reader,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs::File,
    io::Write as _,
    process::{Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Two aggregates, so that there are two feature columns.
const FEATURES: &str = r#"
[[feature]]
name = "n"
aggregate = "count"
window = "forever"
[[feature]]
name = "spend"
aggregate = "sum"
value = "value"
window = "forever"
"#;

const LABEL: &str = "[label]\nwhere = 'event_type == \"purchase\"'\nwithin = \"1h\"\n";

/// 2026-01-01 in seconds.
const START: i64 = 1_767_225_600;

fn event(id: &str, user: &str, time: i64) -> String {
    format!(
        "{{\"event_id\":\"{id}\",\"user_id\":\"{user}\",\"event_type\":\"view\",\"value\":1,\"occurred_at\":{time}}}\n"
    )
}

/// Exports a file with these arguments: exit code, output or error, and the values of each row by event id.
fn export(folder: &TempDir, file: &str, arguments: &[&str]) -> (i32, String, BTreeMap<String, String>) {
    let [config, file, out] = ["a.toml", file, "rows.csv"].map(|name| path(folder, name));
    let one: &[&str] = if arguments.contains(&"--partitions") { &[] } else { &["--partitions", "1"] };
    let arguments = [&["export", "--config", &config, &file, "--out", &out][..], one, arguments].concat();
    let (code, output, error) = aimpoint(&arguments, &[]);
    let rows = std::fs::read_to_string(&out).unwrap_or_default();
    let rows = rows.lines().skip(1).map(|line| {
        let cells: Vec<&str> = line.split(',').collect();
        (cells[1].to_owned(), cells[6..].join(","))
    });
    let rows = rows.collect();
    std::fs::remove_file(&out).unwrap_or_default();
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_str().unwrap().contains("partial")), "{left:?}");
    assert!(code == 0 || code == 2 || error.starts_with("aimpoint: "), "{error}");
    (code, if code == 0 { output } else { error }, rows)
}

#[test]
fn a_batch_without_events_is_not_an_error_but_files_without_events_are() {
    let good: String = (0..4_096).map(|number| event(&format!("e{number}"), "u", START + number)).collect();
    let bad = "broken\n".repeat(4_096);
    let folder = folder_with(&[
        ("a.toml", FEATURES),
        ("empty.jsonl", ""),
        ("bad.jsonl", &bad),
        ("full.jsonl", &good),
        ("bad-then-good.jsonl", &format!("{bad}{good}")),
    ]);
    for (file, part) in [("empty.jsonl", "there is no event"), ("bad.jsonl", "4096 refused: malformed")] {
        let (code, output, rows) = export(&folder, file, &[]);
        assert_eq!((code, rows.len()), (65, 0), "{output}");
        assert!(output.contains("0 rows") && output.contains(part), "{output}");
    }
    for file in ["full.jsonl", "bad-then-good.jsonl"] {
        let (code, output, rows) = export(&folder, file, &[]);
        assert_eq!((code, rows.len()), (0, 4_096), "{output}");
        assert_eq!(rows["e4095"], "4096.0,4096.0", "without [label] a row has only features");
        assert!(
            output.contains("in 1 partition: 4096 rows without labels, because no [label] is configured"),
            "{output}"
        );
    }
}

#[test]
fn a_line_that_unpacks_to_more_than_the_maximum_is_skipped_and_reported() {
    let folder = folder_with(&[("a.toml", FEATURES)]);
    let bomb = vec![b' '; 100_000_000];
    let text = [event("e1", "u", START).as_bytes(), &bomb, b"\n", event("e2", "u", START + 1).as_bytes()].concat();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&text).unwrap();
    std::fs::write(folder.path().join("bomb.jsonl.gz"), gzip.finish().unwrap()).unwrap();
    std::fs::write(folder.path().join("bomb.jsonl.zst"), zstd::encode_all(&text[..], 1).unwrap()).unwrap();
    let part = "1 of more than input.max_bytes = 1048576 bytes; the first is line 2 of ";
    for file in ["bomb.jsonl.gz", "bomb.jsonl.zst"] {
        let (code, output, rows) = export(&folder, file, &[]);
        assert_eq!((code, rows.len()), (0, 2), "{output}");
        assert!(output.contains(part) && output.contains("the longest has 100000001 bytes"), "{output}");
    }
    let broker = EmbeddedBroker::start(&super::process::TOPICS.map(|name| (name, 1))).unwrap();
    let brokers = format!("kafka.brokers={}", broker.brokers());
    let (code, out, error) = aimpoint(&["load", "--set", &brokers, &path(&folder, "bomb.jsonl.zst")], &[]);
    assert_eq!(code, 0, "{error}");
    assert!(out.contains("published 2 events") && out.contains(part), "{out}");
}

#[test]
fn a_failed_or_interrupted_export_leaves_no_files() {
    let folder = folder_with(&[("a.toml", FEATURES)]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(event("e1", "u", START).repeat(1_000).as_bytes()).unwrap();
    let whole = gzip.finish().unwrap();
    std::fs::write(folder.path().join("cut.jsonl.gz"), &whole[..whole.len() - 9]).unwrap();
    let (code, output, _) = export(&folder, "cut.jsonl.gz", &[]);
    assert_eq!(code, 65, "{output}");
    let twice = path(&folder, "rows.csv");
    let (code, output, _) = export(&folder, "cut.jsonl.gz", &["--out", &twice]);
    assert!(code != 0 && output.contains("name each file once"), "{output}");

    // A pipe that stays open: the export waits for more.
    let pipe = path(&folder, "pipe.jsonl");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for (signal, is_ignored) in [("INT", false), ("TERM", false), ("HUP", false), ("QUIT", false), ("HUP", true)] {
        let [config, out] = ["a.toml", "rows.parquet"].map(|name| path(&folder, name));
        // Whatever these tests themselves were started with.
        let disposition = if is_ignored { "--ignore-signal=HUP" } else { "--default-signal" };
        let mut child = Command::new("env")
            .args([disposition, env!("CARGO_BIN_EXE_aimpoint")])
            .args(["export", "--config", &config, &pipe, "--out", &out])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let writer = File::options().write(true).open(&pipe).unwrap();
        let partial = folder.path().join("rows.parquet.partial");
        let deadline = Instant::now() + Duration::from_secs(30);
        while !partial.exists() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(partial.exists(), "the export has not started");
        let kill = Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status().unwrap();
        assert!(kill.success());
        if is_ignored {
            std::thread::sleep(Duration::from_millis(200));
            assert!(child.try_wait().unwrap().is_none() && partial.exists(), "SIG{signal} was to be ignored");
            child.kill().unwrap();
        }
        assert!(!child.wait().unwrap().success());
        if is_ignored {
            std::fs::remove_file(&partial).unwrap();
        }
        assert!(!partial.exists() && !folder.path().join("rows.parquet").exists(), "after SIG{signal}");
        drop(writer);
    }
}

#[test]
fn an_event_in_the_future_is_rejected_and_does_not_affect_other_rows() {
    let time = |text: &str| text.parse::<jiff::Timestamp>().unwrap().as_second();
    let events: String = [
        ("f1", "2026-03-01T10:00:00Z"),
        ("f2", "2126-03-01T10:00:01Z"),
        ("f3", "2026-03-10T10:00:02Z"),
        ("f4", "2026-03-10T10:00:03Z"),
        ("f5", "3126-12-31T23:00:00Z"),
        ("f6", "2026-03-10T10:00:04Z"),
    ]
    .map(|(id, at)| event(id, "u", time(at)))
    .concat();
    let labelled = format!("{LABEL}{FEATURES}");
    let folder = folder_with(&[("a.toml", FEATURES), ("events.jsonl", &events)]);
    let (code, output, rows) = export(&folder, "events.jsonl", &[]);
    assert_eq!(code, 0, "{output}");
    assert_eq!(rows.keys().collect::<Vec<_>>(), ["f1", "f3", "f4", "f6"], "{output}");
    assert_eq!(rows["f6"], "4.0,4.0");
    assert!(output.contains("left out: 2 refused: future_time"), "{output}");
    // Past the period of the last label.
    let later = events + &event("f7", "u", time("2026-03-10T11:30:00Z"));
    std::fs::write(folder.path().join("events.jsonl"), later).unwrap();
    std::fs::write(folder.path().join("a.toml"), labelled).unwrap();
    let (code, output, rows) = export(&folder, "events.jsonl", &["--until", "2026-03-10T11:20:00Z"]);
    assert_eq!((code, rows.len()), (0, 4), "{output}");
}

/// Events in the order of arrival; the clocks of every other user are three weeks behind.
fn clocks_apart() -> Vec<(String, String)> {
    let late = |user: i64| if user % 2 == 0 { 0 } else { 21 * 86_400 };
    (0..2_000_i64)
        .map(|number| {
            let user = number * 7_919 % 40;
            let time = START + number * 600 - late(user);
            (format!("user-{user}"), event(&format!("e{number}"), &format!("user-{user}"), time))
        })
        .collect()
}

#[test]
fn profiles_expire_by_the_time_of_their_partition_for_any_number_of_partitions() {
    let config = format!("[profile]\nttl = \"7days\"\n{FEATURES}");
    let events = clocks_apart();
    let folder = folder_with(&[("a.toml", &config)]);
    let write = |keep: &dyn Fn(&str) -> bool| {
        let lines: String = events.iter().filter(|(user, _)| keep(user)).map(|(_, line)| line.as_str()).collect();
        std::fs::write(folder.path().join("events.jsonl"), lines).unwrap();
    };
    write(&|_| true);
    let (code, output, of_three) = export(&folder, "events.jsonl", &["--partitions", "3"]);
    assert_eq!((code, of_three.len()), (0, 2_000), "{output}");
    assert!(output.contains("2000 events in 3 partitions: 2000 rows"), "{output}");
    let three = ["--set", "topics.partitions=3"];
    let [config, file, out] = ["a.toml", "events.jsonl", "usual.csv"].map(|name| path(&folder, name));
    let (code, output, error) =
        aimpoint(&[&["export", "--config", &config, &file, "--out", &out][..], &three].concat(), &[]);
    assert_eq!((code, output.contains("in 3 partitions (topics.partitions):")), (0, true), "{output}{error}");
    let mut one_by_one = BTreeMap::new();
    for partition in 0..3 {
        write(&|user| partition_of(user.as_bytes(), 3) == partition);
        let (code, output, rows) = export(&folder, "events.jsonl", &[]);
        assert_eq!(code, 0, "{output}");
        one_by_one.extend(rows);
    }
    assert!(of_three == one_by_one, "each partition on its own gives the same rows");
    let counts: BTreeSet<&String> = of_three.values().collect();
    assert!(counts.len() > 10, "profiles are kept: {counts:?}");
}

#[test]
fn files_in_an_impossible_order_of_arrival_are_rejected_or_sorted() {
    // A month of 50 users.
    let mut events: Vec<(i64, i64, String)> = Vec::new();
    for number in 0..3_000_i64 {
        let (user, time) = (number * 7_919 % 50, START + number * 864);
        events.push((user, time, event(&format!("e{number}"), &format!("user-{user}"), time)));
    }
    let text = |events: &[(i64, i64, String)]| events.iter().map(|(.., line)| line.as_str()).collect::<String>();
    let in_order = text(&events);
    let [first, second] = [&events[..1_500], &events[1_500..]].map(text);
    let mut by_user = events.clone();
    by_user.sort();
    let newest_first: Vec<_> = events.iter().rev().cloned().collect();
    let folder = folder_with(&[
        ("a.toml", &format!("{LABEL}{FEATURES}")),
        ("in-order.jsonl", &in_order),
        ("by-user.jsonl", &text(&by_user)),
        ("newest-first.jsonl", &text(&newest_first)),
        ("first.jsonl", &first),
        ("second.jsonl", &second),
    ]);
    let (code, output, expected) = export(&folder, "in-order.jsonl", &[]);
    assert_eq!(code, 0, "{output}");
    assert!(expected.len() > 2_000, "{output}");
    for (file, more, part) in [
        ("by-user.jsonl", None, "the files are sorted by user"),
        ("newest-first.jsonl", None, "not in the order of their times"),
        ("second.jsonl", Some("first.jsonl"), "in the order of their times"),
    ] {
        let more = more.map(|name| path(&folder, name));
        let more: Vec<&str> = more.iter().map(String::as_str).collect();
        let (code, output, rows) = export(&folder, file, &more);
        assert_eq!((code, rows.len()), (65, 0), "{file}: {output}");
        assert!(output.contains(part) && output.contains("--order time"), "{file}: {output}");
        let (code, output, rows) = export(&folder, file, &[&more[..], &["--order", "time"]].concat());
        assert_eq!(code, 0, "{file}: {output}");
        assert!(rows == expected, "{file}: --order time gives the same rows as the ordered file: {output}");
        let (code, output, _) = export(&folder, file, &[&more[..], &["--order", "file"]].concat());
        assert_eq!(code, 0, "{file}: {output}");
    }
    // Two files, each sorted by user.
    let halves = [&events[..1_500], &events[1_500..]].map(|half| {
        let mut half = half.to_vec();
        half.sort();
        text(&half)
    });
    std::fs::write(folder.path().join("first.jsonl"), &halves[0]).unwrap();
    std::fs::write(folder.path().join("second.jsonl"), &halves[1]).unwrap();
    let (code, output, _) = export(&folder, "first.jsonl", &[&path(&folder, "second.jsonl")]);
    assert_eq!((code, output.contains("sorted by user")), (65, true), "{output}");
    // Clocks that differ are not disorder.
    let apart: String = clocks_apart().into_iter().map(|(_, line)| line).collect();
    std::fs::write(folder.path().join("apart.jsonl"), apart).unwrap();
    let (code, output, _) = export(&folder, "apart.jsonl", &[]);
    assert_eq!(code, 0, "{output}");
}

#[test]
fn the_message_says_what_rows_wait_for_and_no_rows_is_an_error() {
    let mut events = String::new();
    for number in 0..200 {
        write!(events, "{}", event(&format!("e{number}"), &format!("u{}", number % 20), START + number * 864)).unwrap();
    }
    let folder =
        folder_with(&[("a.toml", &format!("{}{FEATURES}", LABEL.replace("1h", "1us"))), ("two-days.jsonl", &events)]);
    let (code, output, _) = export(&folder, "two-days.jsonl", &[]);
    assert_eq!(code, 65, "{output}");
    for part in ["0 rows of 200 events", "label.within = 1us", "time.allowed_lateness = 7days", "--until"] {
        assert!(output.contains(part), "{part}: {output}");
    }
    let (code, output, rows) = export(&folder, "two-days.jsonl", &["--until", "2026-01-02T00:00:00Z"]);
    assert_eq!((code, rows.len()), (0, 100), "{output}");
    assert!(output.contains("left out: 100 from --until on"), "{output}");
}

/// A configuration whose decisions reveal the feature `n`, with a segment for each threshold.
fn revealing() -> String {
    let segments = (1..=30).map(|number| format!("[[segment]]\nid = \"over-{number}\"\nwhere = \"n >= {number}.0\"\n"));
    let fields = "event = \"trigger_event_id\", segments = \"segments\"";
    format!(
        "[profile]\nttl = \"7days\"\n{FEATURES}\n{}\n[decision]\nformat = \"flat\"\nfields = {{ {fields} }}\n",
        segments.collect::<String>()
    )
}

#[test]
fn rows_match_the_running_process_even_with_wrong_clocks() {
    let config = revealing();
    let mut it = Running::start(&config);
    it.wait_until_ready();
    let mut lines: Vec<String> = clocks_apart().into_iter().map(|(_, line)| line).collect();
    // One event in a hundred is in another century.
    for (number, line) in lines.iter_mut().enumerate().skip(50).step_by(100) {
        *line = event(&format!("wrong{number}"), &format!("user-{}", number % 40), START + 3_155_760_000);
    }
    let folder = folder_with(&[("a.toml", &config), ("events.jsonl", &lines.concat())]);
    let brokers = format!("kafka.brokers={}", it.brokers());
    let (code, out, error) = aimpoint(&["load", "--set", &brokers, &path(&folder, "events.jsonl")], &[]);
    assert_eq!(code, 0, "{out}{error}");
    it.wait_for("all decisions", |it| (it.snapshot()["counts"]["decisions"] == 1_980).then_some(()));
    it.wait_for("the dead letters", |it| (it.snapshot()["dead_letters"]["future_time"] == 20).then_some(()));
    let mut decided = BTreeMap::new();
    Reader::read_whole(&it.brokers(), &[], "decisions", |_, record, _| {
        let decision: serde_json::Value = serde_json::from_slice(record.payload.unwrap()).unwrap();
        let count = decision["segments"].as_array().unwrap().len();
        decided.insert(decision["event"].as_str().unwrap().to_owned(), count);
    })
    .unwrap();
    let (code, output, rows) = export(&folder, "events.jsonl", &["--partitions", "2"]);
    assert_eq!(code, 0, "{output}");
    assert!(output.contains("left out: 20 refused: future_time"), "{output}");
    let exported: BTreeMap<String, usize> = rows
        .into_iter()
        .map(|(id, features)| (id, features.split(',').next().unwrap().parse::<f64>().unwrap().min(30.0) as usize))
        .collect();
    assert_eq!(exported.len(), 1_980);
    let differ = exported.iter().filter(|(id, count)| decided.get(*id) != Some(count)).count();
    assert_eq!((decided.len(), differ), (1_980, 0));
    // Profiles of users whose clocks are behind expire by the time of the others.
    let first = exported.values().filter(|count| **count == 1).count();
    assert!((500..1_500).contains(&first), "{first} rows belong to new profiles");
    it.signal("-TERM");
    assert_eq!(it.end(), Some(0), "{}", it.log());
}

/// Rows without their whole time for a label were written with the label 0.
#[test]
fn an_until_beyond_the_files_waits_for_no_later_label_than_they_have() {
    let hours = 60 * 60;
    let lines: String = (0..60).map(|n| event(&format!("e{n}"), &format!("u{}", n % 10), START + n * hours)).collect();
    let config = format!("{FEATURES}[time]\nallowed_lateness = \"10m\"\n{LABEL}");
    let folder = folder_with(&[("a.toml", &config), ("a.jsonl", &lines)]);
    let (code, told, by_itself) = export(&folder, "a.jsonl", &[]);
    assert_eq!(code, 0, "{told}");
    for until in ["2099-01-01", "2099-01-01T00:00:00Z"] {
        let (code, told, rows) = export(&folder, "a.jsonl", &["--until", until]);
        assert_eq!(code, 0, "{told}");
        assert!(rows.len() < 60 && rows.len() >= by_itself.len(), "{} of {}", rows.len(), by_itself.len());
        assert!(told.contains("where the files end, before --until 2099-01-01"), "{told}");
    }
    let (code, told, _) = export(&folder, "a.jsonl", &["--until", "soon"]);
    assert!(code == 2 && told.contains("1998-01-01T00:00:00Z"), "{told}");
    // An outcome of a score that no export computes.
    let (code, told, _) = export(&folder, "a.jsonl", &["--set", "label.where=score > 0.5"]);
    assert!(code == 78 && told.contains("label.where"), "{code}: {told}");
}

#[test]
fn an_input_file_is_not_overwritten() {
    let folder =
        folder_with(&[("a.toml", FEATURES), ("x.csv", &event("e1", "u", START)), ("rows.csv", "a,label\n1,0\n2,1\n")]);
    std::fs::hard_link(folder.path().join("x.csv"), folder.path().join("y.csv")).unwrap();
    // The name that another output has while it is written.
    std::fs::copy(folder.path().join("x.csv"), folder.path().join("z.csv.partial")).unwrap();
    let [partial, out] = ["z.csv.partial", "z.csv"].map(|name| path(&folder, name));
    let [config, file, link, rows] = ["a.toml", "x.csv", "y.csv", "rows.csv"].map(|name| path(&folder, name));
    let dotted = format!("{}/./x.csv", folder.path().display());
    for (arguments, kept) in [
        (&["export", "--config", &config, &file, "--out", &file][..], &file),
        (&["export", "--config", &config, &file, "--out", &dotted], &file),
        (&["export", "--config", &config, &file, "--out", &link], &file),
        (&["export", "--config", &config, &link, &file, "--out", &rows, "--out", &link], &file),
        (&["export", "--config", &config, &partial, "--out", &out], &partial),
        (&["train", &rows, "--quiet", "--out", &rows], &rows),
    ] {
        let before = std::fs::read(kept).unwrap();
        let (code, _, error) = aimpoint(arguments, &[]);
        assert_eq!(code, 65, "{arguments:?}: {error}");
        assert!(error.contains("write to another file"), "{arguments:?}: {error}");
        assert_eq!(std::fs::read(kept).unwrap(), before, "{arguments:?}");
    }
}

#[test]
fn rejected_lines_are_reported_with_positions_and_reasons() {
    let good: String = (0..30).map(|number| event(&format!("e{number}"), "u", START + number)).collect();
    let bad = "{\"user_id\":\"u\"}\nbroken\n\nbroken,\nbroken\nbroken\n";
    let folder = folder_with(&[("a.toml", FEATURES), ("bad.jsonl", &format!("{good}{bad}"))]);
    let parts = [
        "missing_type: line 31 of ",
        "bad.jsonl: event_type is not given",
        "4 refused: malformed: line 32 of ",
        "line 34 of ",
        "bad.jsonl: not JSON from line 1, column 1 on",
    ];
    for order in ["file", "time"] {
        let (code, output, rows) = export(&folder, "bad.jsonl", &["--order", order]);
        assert_eq!((code, rows.len()), (0, 30), "{output}");
        assert!(parts.iter().all(|part| output.contains(part)), "{output}");
        assert!(!output.contains("line 36"), "at most three lines per reason: {output}");
    }
    let broker = EmbeddedBroker::start(&super::process::TOPICS.map(|name| (name, 1))).unwrap();
    let brokers = format!("kafka.brokers={}", broker.brokers());
    let (code, out, error) = aimpoint(&["load", "--set", &brokers, &path(&folder, "bad.jsonl")], &[]);
    assert_eq!(code, 0, "{error}");
    for part in [
        "published 35 events",
        "5 of them are not valid events",
        "  4 without a key: malformed\n",
        "    line 32 of ",
        "  1 without a key: missing_type\n",
    ] {
        assert!(out.contains(part), "{part:?} is missing in:\n{out}");
    }
}

#[test]
fn users_of_different_types_with_the_same_id_are_distinct_in_the_rows() {
    let mut events = String::new();
    for (id, time) in
        [r#""user_id":"5""#, r#""anonymous_id":"5""#, r#""user_id":"5","key_type":"app""#].iter().zip(START..)
    {
        writeln!(events, r#"{{{id},"event_id":"e{time}","event_type":"view","occurred_at":{time}}}"#).unwrap();
    }
    let folder = folder_with(&[("a.toml", FEATURES), ("a.jsonl", &events)]);
    let [config, file, out] = ["a.toml", "a.jsonl", "rows.csv"].map(|name| path(&folder, name));
    let (code, _, error) = aimpoint(&["export", "--config", &config, &file, "--out", &out], &[]);
    assert_eq!(code, 0, "{error}");
    let rows = std::fs::read_to_string(&out).unwrap();
    let cells: Vec<Vec<&str>> = rows.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(cells[0][..6], ["user_key", "event_id", "partition", "offset", "occurred_at_us", "key_type"]);
    let users: Vec<_> = cells[1..].iter().map(|row| (row[0], row[5])).collect();
    assert_eq!(users, [("5", "person"), ("5", "device"), ("5", "app")]);
}
