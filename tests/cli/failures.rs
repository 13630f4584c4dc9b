//! Every failure has its own exit code and message: wrong arguments, missing files, closed pipes, full disks.

use super::{aimpoint, folder_with, path, process::Running, repository};
use aimpoint::sink::EmbeddedBroker;
use std::{
    fs::File,
    io::Read,
    net::TcpListener,
    process::{Command, Stdio},
};

#[test]
fn invalid_numbers_are_rejected_by_the_command_line() {
    for arguments in [
        &["load", "--synthetic", "10", "--rate", "0"][..],
        &["load", "--synthetic", "10", "--rate", "-1"],
        &["load", "--synthetic", "10", "--rate=nan"],
        &["load", "--synthetic", "10", "--rate", "inf"],
        &["load", "--synthetic", "10", "--rate", "1e-300"],
        &["load", "--synthetic", "10", "--rate", "fast"],
        &["load", "--synthetic", "0"],
        &["load", "--synthetic", "10", "--users", "0"],
        &["load", "--synthetic", "10", "--users", "18446744073709551615"],
        &["load", "--synthetic", "10", "--step=-1"],
        &["load", "--synthetic", "10", "--step", "1e300"],
        &["load"],
        &["train", "rows.csv", "--hidden", "0"],
        &["train", "rows.csv", "--hidden", "18446744073709551615"],
        &["train", "rows.csv", "--batch", "0"],
        &["train", "rows.csv", "--epochs", "0"],
        &["train", "rows.csv", "--learning-rate", "nan"],
        &["train", "rows.csv", "--learning-rate", "-1"],
        &["train", "rows.csv", "--weight-decay", "inf"],
        &["profile", "--user", ""],
        &["explain", "--user", ""],
        &["run", "--admin", "nowhere"],
        &["export", "events.jsonl", "--out", "rows.csv", "--until", "soon"],
        &["reference", "nothing"],
    ] {
        let (code, _, error) = aimpoint(arguments, &[]);
        assert_eq!(code, 2, "{arguments:?}: {error}");
        assert!(!error.contains("panicked"), "{arguments:?}: {error}");
    }
}

/// A terminal obeys escape sequences, and some turn the direction of a line around.
#[test]
fn nothing_of_the_command_line_moves_the_terminal() {
    let odd = "z\u{1b}[31m\u{202e}\u{7}";
    let named = format!("{odd}.csv");
    let folder = folder_with(&[
        ("a.toml", "[[feature]]\nname = \"n\"\naggregate = \"count\"\nwindow = \"1h\"\n"),
        (&named, "{\"event_id\":\"1\",\"user_id\":\"u\",\"event_type\":\"view\",\"occurred_at\":1767225600}\n"),
    ]);
    let [config, file, out] = ["a.toml", &named, &format!("out{named}")].map(|name| path(&folder, name));
    for (arguments, expected) in [
        (&[odd][..], 2),
        (&["export", "--until", odd], 2),
        (&["--log", odd, "features"], 2),
        (&["check", "--config", odd], 66),
        (&["check", "--config", &config, "--offline", "--set", odd], 78),
        (&["export", "--config", &config, &file, "--out", &out], 0),
    ] {
        let (code, told, error) = aimpoint(arguments, &[]);
        assert_eq!(code, expected, "{arguments:?}: {error}");
        for text in [told, error] {
            assert!(!text.contains(['\u{1b}', '\u{202e}', '\u{7}']), "{arguments:?}: {text:?}");
        }
    }
    let (code, _, error) = aimpoint(&["features"], &[("AIMPOINT_LOG", "a=b=c")]);
    assert!(code == 2 && error.contains("AIMPOINT_LOG") && error.contains("info,librdkafka=error"), "{code}: {error}");
}

#[test]
fn missing_files_and_wrong_kinds_are_named_and_have_the_code_66() {
    let folder = folder_with(&[("file", ""), ("a.toml", "[label]\nwhere = \"true\"\nwithin = \"1h\"\n")]);
    std::fs::create_dir(folder.path().join("folder.csv")).unwrap();
    let [file, absent, rows, config] = ["file", "absent.csv", "folder.csv", "a.toml"].map(|name| path(&folder, name));
    // Renaming would replace the folder.
    std::fs::write(folder.path().join("valid.csv"), "a,label\n1,0\n2,1\n3,0\n4,1\n").unwrap();
    let valid = path(&folder, "valid.csv");
    let [below, out] = ["file/below", "out.csv"].map(|name| path(&folder, name));
    for arguments in [
        &["train", &absent][..],
        &["train", &rows],
        &["load", &absent],
        &["load", &rows],
        &["export", "--config", &config, &absent, "--out", &out],
        &["export", "--config", &config, &rows, "--out", &out],
        &["man", "--out", &below],
        &["train", &valid, "--quiet", "--out", &rows],
        &["demo", "--data", &file],
        &["demo", "--data", &absent],
        &["check", "--config", &absent],
        &["check", "--config", folder.path().to_str().unwrap()],
        &["run", "--config", &absent],
    ] {
        let (code, _, error) = aimpoint(arguments, &[]);
        assert_eq!(code, 66, "{arguments:?}: {error}");
        let named = arguments.iter().any(|it| it.contains(folder.path().to_str().unwrap()) && error.contains(*it));
        assert!(named, "{arguments:?}: {error}");
    }
}

#[test]
fn configuration_missing_for_a_command_has_the_code_78() {
    let folder = folder_with(&[("file", ""), ("events.jsonl", "")]);
    let model = format!("model.path={}", path(&folder, "file"));
    let [events, out] = ["events.jsonl", "rows.csv"].map(|name| path(&folder, name));
    for (arguments, part) in [
        (&["models", "list", "--set", &model][..], "expected the folder of the model's versions"),
        (&["models", "list"], "no model is configured"),
        (&["explain", "--user", "ann"], "no model is configured"),
        (&["check", "--offline", "--set", "nonsense"], "--set takes key=value, but number 1 has no \"=\""),
        (&["check", "--offline", "--set", "a b=1"], "--set: the key of number 1 is invalid"),
        (&["check", "--offline", "--set", "commit.interval=5"], "--set commit.interval: commit.interval: "),
    ] {
        let (code, _, error) = aimpoint(arguments, &[]);
        assert_eq!((code, error.contains(part)), (78, true), "{arguments:?}: {error}");
    }
    let (code, _, error) = aimpoint(&["export", &events, "--out", &out], &[]);
    assert_eq!((code, error.contains("there is no event")), (65, true), "a label is not required: {error}");
}

#[test]
fn an_unknown_user_has_the_code_67() {
    let it = Running::start("");
    let brokers = format!("kafka.brokers={}", it.brokers());
    let (code, _, error) = aimpoint(&["profile", "--user", "nobody", "--set", &brokers], &[]);
    assert_eq!(code, 67, "{error}");
    assert!(error.contains("find user \"nobody\""), "{error}");
}

#[test]
fn an_address_in_use_has_the_code_71() {
    let topics = ["clickstream", "decisions", "dead-letter", "aimpoint-profiles"];
    let broker = EmbeddedBroker::start(&topics.map(|name| (name, 1))).unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let brokers = format!("kafka.brokers={}", broker.brokers());
    let (code, _, error) = aimpoint(&["run", "--admin", &address, "--set", &brokers], &[]);
    assert_eq!(code, 71, "{error}");
    assert!(error.contains(&address), "{error}");
}

/// Runs a command with this standard output, and returns its code and standard error.
fn printing_into(arguments: &[&str], out: impl Into<Stdio>) -> (Option<i32>, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_aimpoint"))
        .args(arguments)
        .stdout(out)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut error = String::new();
    child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
    (child.wait().unwrap().code(), error)
}

const PRINTING: [&[&str]; 6] = [
    &["metrics"],
    &["features"],
    &["reference", "config"],
    &["reference", "schema"],
    &["completions", "bash"],
    &["check", "--offline"],
];

#[test]
fn a_closed_pipe_is_not_an_error_and_the_code_is_that_of_sigpipe() {
    for arguments in PRINTING {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        assert_eq!(printing_into(arguments, writer), (Some(141), String::new()), "{arguments:?}");
    }
}

#[test]
fn a_full_disk_has_the_code_74() {
    for arguments in PRINTING {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let (code, error) = printing_into(arguments, full);
        assert_eq!(code, Some(74), "{arguments:?}: {error}");
        assert!(error.starts_with("aimpoint: print: ") && error.contains("No space left"), "{arguments:?}: {error}");
    }
    let (code, error) = printing_into(&["--help"], File::options().write(true).open("/dev/full").unwrap());
    assert!(code == Some(74) || code == Some(0), "{error}");
}

#[test]
fn an_invalid_file_of_rows_has_the_code_65() {
    let folder = folder_with(&[("rows.csv", "a,b\n1,2\n"), ("rows.parquet", "no parquet"), ("rows.txt", "")]);
    for name in ["rows.csv", "rows.parquet", "rows.txt"] {
        let (code, _, error) = aimpoint(&["train", &path(&folder, name)], &[]);
        assert_eq!(code, 65, "{name}: {error}");
    }
    let demo = repository("deploy/demo/aimpoint.toml");
    assert_eq!(aimpoint(&["check", "--offline", "--config", &demo], &[]).0, 0);
}
