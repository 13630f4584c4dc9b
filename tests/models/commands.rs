//! `aimpoint models` and `aimpoint explain`, run as a program.

use super::path;
use serde_json::Value;
use std::{fs, path::Path, process::Command};

const CONFIG: &str = r#"
[model]
path = "models"
range = [-100.0, 100.0]

[time]
future_tolerance = "100000d"

[[feature]]
name = "f0"
aggregate = "sum"
value = "value"
window = "forever"

[[feature]]
name = "f1"
aggregate = "count"
window = "forever"

[[feature]]
name = "f2"
aggregate = "last"
value = "value"
window = "forever"

[[feature]]
name = "f3"
aggregate = "mean"
value = "value"
window = "forever"
"#;

/// Runs a command in this folder: exit code, standard output, standard error.
pub(super) fn aimpoint(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let runtime = super::runtime();
    let output = Command::new(env!("CARGO_BIN_EXE_aimpoint"))
        .args(arguments)
        .current_dir(folder)
        .env("ORT_DYLIB_PATH", runtime.library())
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

pub(super) fn succeeds(folder: &Path, arguments: &[&str]) -> String {
    let (code, out, error) = aimpoint(folder, arguments);
    assert_eq!(code, 0, "{arguments:?}: {error}");
    out
}

pub(super) fn refused(folder: &Path, arguments: &[&str]) -> String {
    let (code, out, error) = aimpoint(folder, arguments);
    assert_eq!(code, 80, "{arguments:?}: {out}{error}");
    error
}

#[test]
fn versions_are_added_activated_and_rolled_back_by_one_command_each() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("aimpoint.toml"), CONFIG).unwrap();
    let at = dir.path();
    let [linear, double, nan, narrow, words] = ["linear", "double", "always_nan", "columns", "sklearn_words"]
        .map(|name| path(name).to_str().unwrap().to_owned());
    let out = succeeds(at, &["models", "add", &linear, "--version", "1"]);
    assert!(out.contains("added 1 of linear; 1 is active, as the newest version"), "{out}");
    succeeds(at, &["models", "add", &double, "--version", "2"]);
    let list = succeeds(at, &["models", "list"]);
    let lines: Vec<Vec<&str>> = list.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!((lines[0][0], lines[1][0], lines[1][1], lines.len()), ("1", "2", "active", 3), "{list}");
    assert!(succeeds(at, &["models", "rollback"]).contains("1 is active"));
    assert!(succeeds(at, &["models", "list"]).contains("1 is active, pinned by name; newer versions: 2"));
    assert!(succeeds(at, &["check", "--offline"]).contains("model           linear 1, 4 features"));
    assert!(refused(at, &["models", "rollback"]).contains("expected a version before 1, found the versions 1, 2"));
    assert!(succeeds(at, &["models", "activate"]).contains("2 is active"));
    assert!(succeeds(at, &["check", "--offline"]).contains("model           double 2, 4 features"));
    assert!(refused(at, &["models", "activate", "3"]).contains("expected version \"3\""));

    // A version that could not become active is not added.
    assert!(refused(at, &["models", "add", &nan]).contains("expected a number for any of the probe rows, found NaN"));
    assert!(refused(at, &["models", "add", &narrow]).contains("the features are not assigned to them"));
    assert!(refused(at, &["models", "add", &words]).contains("has the classes \"churn\", \"stay\""));
    assert!(refused(at, &["models", "add", &linear, "--version", "1"]).contains("versions do not change"));

    // A version damaged afterwards fails at the start, and the error names the file.
    fs::write(at.join("models/2/model.onnx"), b"half").unwrap();
    let error = refused(at, &["check", "--offline"]);
    assert!(error.contains("load version 2 of") && error.contains("expected the SHA-256"), "{error}");
    // Wrong golden scores.
    let manifest = at.join("models/1/manifest.json");
    let mut golden: Value = serde_json::from_slice(&fs::read(&manifest).unwrap()).unwrap();
    golden["golden"]["scores"][0] = 99.0.into();
    fs::write(&manifest, golden.to_string()).unwrap();
    succeeds(at, &["models", "activate", "1"]);
    assert!(refused(at, &["check", "--offline"]).contains("golden row 0: expected the score 99"));
    // A model that was trained on other features.
    golden["golden"] = Value::Null;
    golden["fingerprint"] = "beef".into();
    fs::write(&manifest, golden.to_string()).unwrap();
    assert!(refused(at, &["check", "--offline"]).contains("trained on features with fingerprint beef"));
}

#[test]
fn each_step_is_in_the_audit_log_and_none_is_made_that_the_log_cannot_take() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    fs::write(at.join("aimpoint.toml"), CONFIG).unwrap();
    let [linear, double] = ["linear", "double"].map(|name| path(name).to_str().unwrap().to_owned());
    fs::create_dir(at.join("models")).unwrap();
    assert!(succeeds(at, &["models", "history"]).contains("no step is in the audit log of"));
    succeeds(at, &["models", "add", &linear, "--version", "1"]);
    succeeds(at, &["models", "add", &double, "--version", "2", "--reason", "trained on May"]);
    succeeds(at, &["models", "rollback", "--reason", "too few clicks"]);
    refused(at, &["models", "activate", "7"]);
    succeeds(at, &["models", "activate", "2"]);
    succeeds(at, &["models", "activate"]);
    let history = succeeds(at, &["models", "history"]);
    let steps: Vec<Vec<&str>> = history.lines().map(|line| line.split_whitespace().skip(2).take(4).collect()).collect();
    let owed = [
        ["add", "-", "->", "1"],
        ["add", "1", "->", "2"],
        ["rollback", "2", "->", "1"],
        ["activate", "1", "->", "2"],
        ["follow_newest", "2", "->", "2"],
    ];
    assert_eq!(steps, owed, "{history}");
    assert!(history.lines().nth(1).unwrap().ends_with("(trained on May)"), "{history}");
    assert!(history.lines().nth(2).unwrap().ends_with("(too few clicks)"), "{history}");
    let text = fs::read_to_string(at.join("models/audit.jsonl")).unwrap();
    let first: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let manifest: Value = serde_json::from_slice(&fs::read(at.join("models/1/manifest.json")).unwrap()).unwrap();
    assert_eq!((&first["sha256"], &first["from"]), (&manifest["sha256"], &Value::Null));
    assert!(first["who"].as_str().unwrap().contains('@') && first["at"].as_str().unwrap().ends_with('Z'), "{first}");

    // A change by other means shows.
    fs::write(at.join("models/active"), "1\n").unwrap();
    succeeds(at, &["models", "activate", "2"]);
    fs::write(at.join("models/active"), "1\n").unwrap();
    assert!(succeeds(at, &["models", "history"]).contains("by the log 2 is active, but it is 1"));

    // Without a log that can be written, nothing changes.
    fs::rename(at.join("models/audit.jsonl"), at.join("models/kept")).unwrap();
    fs::create_dir(at.join("models/audit.jsonl")).unwrap();
    for arguments in [
        &["models", "activate", "2"][..],
        &["models", "activate"],
        &["models", "rollback"],
        &["models", "add", &linear, "--version", "3"],
    ] {
        let (code, _, error) = aimpoint(at, arguments);
        assert!(code != 0 && error.contains("write the audit log") && error.contains("remove it"), "{code} {error}");
        assert_eq!(fs::read_to_string(at.join("models/active")).unwrap(), "1\n", "{arguments:?}");
        assert!(!at.join("models/3").exists(), "{arguments:?}");
    }
}

/// The weights of `linear`, derived from its scores of unit rows.
fn weights() -> [f64; 4] {
    let mut model = super::load("linear", |_| {}).unwrap();
    let mut matrix = aimpoint::inference::FeatureMatrix::new(4);
    let rows = matrix.reset(5);
    rows.fill(0.0);
    (0..4).for_each(|at| rows[(at + 1) * 4 + at] = 1.0);
    let mut scores = Vec::new();
    aimpoint::inference::Model::score(&mut model, &matrix, &mut scores).unwrap();
    std::array::from_fn(|at| f64::from(scores[at + 1] - scores[0]))
}

#[test]
fn explain_shows_the_contribution_of_each_feature_to_the_score_of_a_user_or_event() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    // Append a baseline to the model's metadata, in the wire format of ONNX.
    let mut bytes = fs::read(path("linear")).unwrap();
    let (key, value) = ("aimpoint.baseline", "[1.0, 0.0, 0.0, 2.0]");
    let mut property = vec![0x0a, key.len() as u8];
    property.extend_from_slice(key.as_bytes());
    property.extend([0x12, value.len() as u8]);
    property.extend_from_slice(value.as_bytes());
    bytes.extend([0x72, property.len() as u8]);
    bytes.extend_from_slice(&property);
    fs::write(at.join("linear.onnx"), &bytes).unwrap();
    fs::write(at.join("aimpoint.toml"), CONFIG.replace("\"models\"", "\"linear.onnx\"")).unwrap();
    let event = |id: &str, user: &str, value: f64| {
        format!(
            "{{\"event_id\":\"{id}\",\"event_type\":\"view\",\"user_id\":\"{user}\",\"occurred_at\":1700000000000,\"value\":{value}}}\n"
        )
    };
    let events = [event("e1", "ann", 3.0), event("e2", "ann", 5.0), event("e3", "bob", 7.0)].concat();
    fs::write(at.join("events.jsonl"), events).unwrap();
    let weights = weights();
    let parts = |out: &str| {
        let lines = out.lines().filter(|line| line.starts_with('f'));
        let part = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            (words[0].to_owned(), words[2].parse().unwrap())
        };
        let mut parts: Vec<(String, f64)> = lines.map(part).collect();
        assert!(parts.windows(2).all(|pair| pair[0].1.abs() >= pair[1].1.abs()), "the largest comes first: {out}");
        parts.sort_by(|a, b| a.0.cmp(&b.0));
        parts
    };
    // Ann: sum 8, count 2, last 5, mean 4. Bob: 7, 1, 7, 7.
    for (arguments, user, row) in [
        (&["explain", "--user", "ann", "events.jsonl"][..], "user ann, event e2", [8.0, 2.0, 5.0, 4.0]),
        (&["explain", "--event", "events.jsonl"], "user bob, event e3", [7.0, 1.0, 7.0, 7.0]),
    ] {
        let out = succeeds(at, arguments);
        assert!(out.contains(user) && out.contains('█') && out.contains("exact"), "{out}");
        let parts = parts(&out);
        for (feature, (name, part)) in parts.iter().enumerate() {
            let expected = weights[feature] * (row[feature] - [1.0, 0.0, 0.0, 2.0][feature]);
            assert!(*name == format!("f{feature}") && (part - expected).abs() < 2e-4, "{expected}: {out}");
        }
    }
    // In an experiment, the model of the user's variant is explained.
    let config = fs::read_to_string(at.join("aimpoint.toml")).unwrap();
    let variant = "[[variant]]\nname = \"other\"\npath = \"linear.onnx\"\nversion = \"9\"\nrange = [-100, 100]\n";
    for (share, names_it) in [("0.0001", false), ("1.0", true)] {
        let experiment = format!("[experiment]\nname = \"spring\"\nshares = {{ other = {share} }}\n");
        fs::write(at.join("split.toml"), format!("{config}{variant}{experiment}")).unwrap();
        let out = succeeds(at, &["explain", "--event", "events.jsonl", "--config", "split.toml"]);
        assert_eq!(out.contains("model other 9, variant other"), names_it, "{out}");
        assert_eq!(out.contains("variant control"), !names_it, "{out}");
        let out = succeeds(at, &["check", "--offline", "--config", "split.toml"]);
        let share = share.trim_end_matches(".0");
        assert!(out.contains(&format!("variant         other 9, 4 features, {share} of the users")), "{out}");
    }
    let (_, _, error) = aimpoint(at, &["explain", "--user", "carl", "events.jsonl"]);
    assert!(error.contains("find user \"carl\""), "{error}");
    // Without files the profile comes from the changelog; see tests/kafka.
    let (code, _, error) = aimpoint(at, &["explain", "--user", "ann", "--set", "kafka.brokers=127.0.0.1:1"]);
    assert!(code == 69 && error.contains("127.0.0.1:1"), "{error}");
    let (code, _, error) = aimpoint(at, &["explain", "events.jsonl"]);
    assert!(code == 2 && error.contains("--user"), "{error}");
    fs::write(at.join("linear.onnx"), fs::read(path("linear")).unwrap()).unwrap();
    let (_, _, error) = aimpoint(at, &["explain", "--event", "events.jsonl"]);
    assert!(error.contains("aimpoint.baseline"), "{error}");
}
