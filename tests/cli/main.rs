//! The command line: messages, exit codes, help. Needs no broker.

#![expect(clippy::unwrap_used, reason = "a test ends where its own files cannot be written")]

mod content;
mod demo;
mod evaluate;
mod evaluate_report;
mod experiment;
mod export;
mod failures;
mod otlp;
mod process;
mod reload;
mod running;
mod schema;
mod secrets;
mod serve;
mod skew;

use std::{path::Path, process::Command};
use tempfile::TempDir;

/// Runs a command: exit code, standard output, standard error.
fn aimpoint(arguments: &[&str], environment: &[(&str, &str)]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_aimpoint"))
        .args(arguments)
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

fn folder_with(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    folder
}

fn path(folder: &TempDir, name: &str) -> String {
    folder.path().join(name).to_str().unwrap().to_owned()
}

fn repository(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name).to_str().unwrap().to_owned()
}

#[test]
fn all_errors_of_a_configuration_are_reported_and_the_code_is_78() {
    let folder = folder_with(&[(
        "a.toml",
        "[commit]\ninterval = \"9s\"\n\n[[feature]]\nname = \"n\"\naggregate = \"count\"\nwhere = 'event_typ == \"view\"'\nwindow = \"1h\"\n",
    )]);
    let (code, _, error) = aimpoint(&["check", "--offline", "--config", &path(&folder, "a.toml")], &[]);
    assert_eq!(code, 78, "{error}");
    assert!(error.contains("a.toml:2:12: commit.interval: 9s is not between 1ms and 5s"), "{error}");

    let folder = folder_with(&[(
        "a.toml",
        "[[feature]]\nname = \"n\"\naggregate = \"count\"\nwhere = 'event_typ == \"view\"'\nwindow = \"1h\"\n\n\
         [[feature]]\nname = \"n\"\naggregate = \"sum\"\nwindow = \"soon\"\n",
    )]);
    let (code, _, error) = aimpoint(&["check", "--offline", "--config", &path(&folder, "a.toml")], &[]);
    assert_eq!(code, 78, "{error}");
    for part in [
        "a.toml:4:10: feature[0].where: nothing here is named \"event_typ\"",
        "did you mean \"event_type\"?",
        "feature[1].value: the aggregate \"sum\" needs a value",
        "a.toml:10:10: feature[1].window: \"soon\" is not a duration",
    ] {
        assert!(error.contains(part), "{part:?} is missing in:\n{error}");
    }
    let (code, _, error) = aimpoint(&["check", "--config", "nowhere.toml"], &[]);
    assert_eq!((code, error.contains("read the configuration nowhere.toml")), (66, true), "{error}");
    let (code, _, error) = aimpoint(&["check", "--offline", "--set", "time.past_limit=1990"], &[]);
    assert_eq!(
        (code, error.contains("\"1990\" is not a date; write one such as \"1990-01-01\"")),
        (78, true),
        "{error}"
    );
}

#[test]
fn check_lists_what_a_format_for_bidders_leaves_out_and_why_says_that_it_cannot_explain_it() {
    let segment = "[[segment]]\nid = \"a\"\nwhere = \"true\"\n[emission]\non = \"change\"\nevery = \"1m\"\n";
    let openrtb = "[decision]\nformat = \"openrtb\"\nprovider = { name = \"shop.example\" }\n";
    let artf = "[decision]\nformat = \"artf\"\n";
    for (name, decision, left_out) in [("openrtb", openrtb, "times of memberships"), ("artf", artf, "taxonomies")] {
        let folder = folder_with(&[("a.toml", &format!("{segment}{decision}"))]);
        let config = path(&folder, "a.toml");
        let (code, out, error) = aimpoint(&["check", "--offline", "--config", &config], &[]);
        assert_eq!(code, 0, "{error}");
        for part in [
            &format!("decisions       in the format {name:?}, which leaves out")[..],
            left_out,
            "emission        of a change, or of a bid by more than 0.1, none within 1m of another; 24 B of each profile",
        ] {
            assert!(out.contains(part), "{part:?} is missing in:\n{out}");
        }
        let (code, _, error) = aimpoint(&["why", "--user", "u", "--config", &config], &[]);
        assert_eq!(code, 78, "{error}");
        assert!(error.contains("it cannot be explained") && error.contains("json and protobuf"), "{error}");
    }
}

#[test]
fn an_unreachable_broker_is_named_and_the_code_is_69() {
    for command in [&["run"][..], &["profile", "--user", "u1"]] {
        let (code, _, error) = aimpoint(&[command, &["--set", "kafka.brokers=127.0.0.1:1"]].concat(), &[]);
        assert_eq!(code, 69, "{error}");
        assert!(error.contains("reach a broker at 127.0.0.1:1"), "{error}");
    }
}

#[test]
fn a_missing_library_has_the_code_79_and_a_model_that_does_not_match_80() {
    let demo = repository("deploy/demo/aimpoint.toml");
    let (code, _, error) = aimpoint(&["demo"], &[("ORT_DYLIB_PATH", "/nowhere/libonnxruntime.so")]);
    assert_eq!(code, 79, "{error}");
    assert!(error.contains("/nowhere/libonnxruntime.so") && error.contains("make onnxruntime"), "{error}");

    let (code, _, error) =
        aimpoint(&["check", "--offline", "--config", &demo, "--set", "time.allowed_lateness=2h"], &[]);
    assert_eq!(code, 80, "different features have a different fingerprint: {error}");
    let folder = folder_with(&[("model.onnx", "this is no model")]);
    let set = format!("model.path={}", path(&folder, "model.onnx"));
    let (code, _, error) = aimpoint(&["check", "--offline", "--config", &demo, "--set", &set], &[]);
    assert_eq!(code, 80, "{error}");
    assert!(error.contains("model.onnx"), "{error}");
}

#[test]
fn the_demo_s_configuration_and_model_are_valid() {
    let (code, out, error) =
        aimpoint(&["check", "--offline", "--config", &repository("deploy/demo/aimpoint.toml")], &[]);
    assert_eq!(code, 0, "{error}");
    assert!(out.contains("model           cdnow-repurchase 1, 14 features"), "{out}");
    assert!(out.contains("B packed for a user with one event"), "{out}");
    assert!(out.contains("per user plus the key, if every user has an event in every tile"), "{out}");
}

#[test]
fn check_rejects_an_unknown_client_setting() {
    let set = "kafka.client.\"securty.protocol\"=SSL";
    let (code, _, error) = aimpoint(&["check", "--offline", "--set", set], &[]);
    assert_eq!(code, 78, "{error}");
    assert!(error.contains("securty.protocol"), "{error}");
}

#[test]
fn check_against_another_configuration_shows_what_happens_to_each_feature() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let count = |name: &str, window: &str| {
        format!("[[feature]]\nname = \"{name}\"\naggregate = \"count\"\nwindow = \"{window}\"\n")
    };
    write("old.toml", &(count("kept", "1h") + &count("altered", "1h") + &count("left", "1h")));
    let clicks = count("filtered", "1h") + "where = 'event_type == \"click\"'\n";
    write("new.toml", &(count("kept", "1h") + &count("altered", "2h") + &count("added", "1h") + &clicks));
    let [old, new] = ["old.toml", "new.toml"].map(|name| path(&folder, name));
    let check = |against: &str| {
        let arguments = ["check", "--offline", "--config", &new, "--against", against];
        let (code, out, error) = aimpoint(&arguments, &[]);
        assert_eq!(code, 0, "{error}");
        out.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
    };
    let out = check(&old);
    for line in [
        "kept same",
        // Its default tiles are wider than the stored ones.
        "altered changed: starts empty",
        "added new, with its full past: other features kept the state it needs",
        "filtered new: starts empty",
        "left removed",
    ] {
        assert!(out.iter().any(|it| it == line), "{line} is missing in {out:?}");
    }
    assert!(out.iter().any(|it| it.contains("continues from what the profiles hold of it")), "{out:?}");
    let out = check(&new);
    assert!(out.iter().any(|it| it.contains("profiles are kept unchanged")), "{out:?}");
}

#[test]
fn help_succeeds_and_an_unknown_command_has_the_code_2() {
    let (code, out, _) = aimpoint(&["--help"], &[]);
    assert_eq!(code, 0);
    for command in [
        "demo",
        "run",
        "check",
        "topics",
        "load",
        "export",
        "train",
        "explain",
        "profile",
        "models",
        "doctor",
        "metrics",
        "completions",
        "man",
        "features",
        "reference",
    ] {
        assert!(out.contains(command), "{command} is missing in:\n{out}");
    }
    assert_eq!(aimpoint(&["rnu"], &[]).0, 2);
}

#[test]
fn every_reference_prints() {
    for (subject, part) in [
        ("config", "interval = \"25ms\""),
        ("schema", "\"additionalProperties\": false"),
        ("features", "recency"),
        ("expressions", "x.orValue(d)"),
        ("metrics", "aimpoint_events_total"),
        ("exit-codes", " 79  ONNX Runtime"),
    ] {
        let (code, out, error) = aimpoint(&["reference", subject], &[]);
        assert_eq!((code, out.contains(part)), (0, true), "{subject}: {out}{error}");
    }
    let (code, out, error) = aimpoint(&["features"], &[]);
    assert!(code == 0 && out.contains("recency") && out.contains("x.orValue(d)"), "{out}{error}");
}

#[test]
fn completions_and_the_manual_name_every_command() {
    let (_, help, _) = aimpoint(&["--help"], &[]);
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // Descriptions of commands continue on indented lines.
    let commands: Vec<&str> = listed
        .filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|command| *command != "help")
        .collect();
    assert!(["run", "models", "features", "completions"].iter().all(|command| commands.contains(command)), "{help}");
    for shell in ["bash", "zsh", "fish"] {
        let (code, out, error) = aimpoint(&["completions", shell], &[]);
        assert_eq!(code, 0, "{error}");
        assert!(commands.iter().all(|command| out.contains(command)), "{shell}");
    }
    let folder = tempfile::tempdir().unwrap();
    let out = path(&folder, "man");
    assert_eq!(aimpoint(&["man", "--out", &out], &[]).0, 0);
    for command in commands {
        let page = std::fs::read_to_string(Path::new(&out).join(format!("aimpoint-{command}.1"))).unwrap();
        assert!(page.contains(".SH NAME"), "{command}");
    }
}

#[test]
fn the_doctor_says_what_to_do_about_an_unreachable_broker_and_the_code_is_69() {
    let (code, out, error) = aimpoint(&["doctor", "--set", "kafka.brokers=127.0.0.1:1"], &[]);
    assert_eq!(code, 69, "{out}{error}");
    for part in
        ["ok    configuration", "fail  brokers", "reach a broker at 127.0.0.1:1", "-> check kafka.brokers", "1 failed"]
    {
        assert!(out.contains(part), "{part:?} is missing in:\n{out}");
    }
}

/// A new user has no model yet and needs to know how to make one.
#[test]
fn the_readme_s_configuration_works_except_for_the_missing_model_and_the_error_says_how_to_make_one() {
    let readme = std::fs::read_to_string(repository("README.md")).unwrap();
    let (_, sample) = readme.split_once("```toml\n[app]").unwrap();
    let sample = format!("[app]{}", sample.split_once("```").unwrap().0);
    // The test build has no TLS.
    let sample = sample.lines().filter(|line| !line.contains("security.protocol")).collect::<Vec<_>>().join("\n");
    let events: Vec<String> = (0..400)
        .map(|number| {
            let (user, at) = (number % 20, 1_700_000_000_000_u64 + number * 3_600_000 * 7);
            format!("{{\"event_id\":\"e{number}\",\"event_type\":\"purchase\",\"user_id\":\"u{user}\",\"occurred_at\":{at}}}")
        })
        .collect();
    let folder = folder_with(&[("aimpoint.toml", &sample), ("events.jsonl", &events.join("\n"))]);
    let [config, events, rows] = ["aimpoint.toml", "events.jsonl", "rows.parquet"].map(|name| path(&folder, name));

    let (code, _, error) = aimpoint(&["check", "--offline", "--config", &config], &[]);
    assert_eq!(code, 66, "{error}");
    for part in ["model.onnx", "aimpoint export and aimpoint train", "without the section [model]"] {
        assert!(error.contains(part), "{part:?} is missing in:\n{error}");
    }
    // The next steps work: neither of them needs the model.
    let (code, _, error) = aimpoint(&["export", "--config", &config, &events, "--out", &rows], &[]);
    assert_eq!(code, 0, "{error}");
    let (head, tail) = sample.split_once("[model]").unwrap();
    let without = format!("{head}{}", tail.split_once("\n[").map_or(String::new(), |(_, rest)| format!("\n[{rest}")));
    std::fs::write(&config, without).unwrap();
    let (code, out, error) = aimpoint(&["check", "--offline", "--config", &config], &[]);
    assert_eq!(code, 0, "{error}");
    assert!(out.contains("decisions have no score"), "{out}");
}

#[test]
fn the_shipped_model_can_be_rebuilt_from_the_shipped_data() {
    use aimpoint::inference::{FeatureMatrix, Model, ModelSpec, OnnxModel, Runtime};
    let folder = tempfile::tempdir().unwrap();
    let rows = path(&folder, "rows.parquet");
    let rebuilt = path(&folder, "model.onnx");
    let (code, _, error) = aimpoint(
        &[
            "export",
            "--config",
            &repository("deploy/demo/aimpoint.toml"),
            &repository("deploy/demo/cdnow.jsonl.gz"),
            "--until",
            "1998-01-01T00:00:00Z",
            "--out",
            &rows,
        ],
        &[],
    );
    assert_eq!(code, 0, "{error}");
    let (code, out, error) = aimpoint(
        &["train", &rows, "--out", &rebuilt, "--name", "cdnow-repurchase", "--members", "1", "--seed", "7"],
        &[],
    );
    assert_eq!(code, 0, "{error}");
    assert!(out.contains("validation"), "{out}");

    let data = aimpoint::training::read(
        Path::new(&rows),
        &aimpoint::training::ReadSpec { label: "label".to_owned(), ..Default::default() },
    )
    .unwrap();
    let some: Vec<usize> = (0..data.rows()).step_by(37).collect();
    let matrix: FeatureMatrix = data.matrix(&some);
    let runtime = Runtime::load(None).unwrap();
    let scores = [repository("deploy/demo/model.onnx"), rebuilt].map(|path| {
        let spec: ModelSpec = toml::from_str(&format!("path = {path:?}")).unwrap();
        let fingerprint = data.fingerprint.clone().unwrap();
        let mut model = OnnxModel::load(&runtime, &spec, &data.features, &fingerprint).unwrap();
        let mut scores = Vec::new();
        model.score(&matrix, &mut scores).unwrap();
        scores
    });
    // Processors may add in a different order, and early stopping may then choose another epoch.
    for (shipped, rebuilt) in scores[0].iter().zip(&scores[1]) {
        assert!((shipped - rebuilt).abs() < 0.02, "{shipped} and {rebuilt}");
    }
}

#[test]
fn the_configuration_of_the_peer_comparison_matches_both_networks() {
    let config = repository("benches/peers/aimpoint.toml");
    for model in ["a", "b"] {
        let set = format!("model.path={}", repository(&format!("benches/peers/models/{model}.onnx")));
        let (code, text, error) = aimpoint(&["check", "--offline", "--config", &config, "--set", &set], &[]);
        assert_eq!(code, 0, "{error}");
        assert!(text.contains("18, 16 of them for the model"), "{text}");
    }
}
