//! Hostile and broken models, run with the program: how they are refused, and what they cannot access.

use super::{
    commands::{aimpoint, refused, succeeds},
    path,
};
use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

const CONFIG: &str = r#"
[model]
path = "models"
load_timeout = "2s"

[[feature]]
name = "spent"
aggregate = "sum"
value = "value"
window = "forever"
"#;

fn hostile(name: &str) -> String {
    path(&format!("hostile/{name}")).to_str().unwrap().to_owned()
}

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("aimpoint.toml"), CONFIG).unwrap();
    dir
}

/// A configuration with this file instead of the folder.
fn with_file(at: &Path, file: &str) {
    fs::write(at.join("file.toml"), CONFIG.replace("\"models\"", &format!("{file:?}"))).unwrap();
}

#[test]
fn a_version_in_a_model_s_metadata_is_not_used_as_a_path() {
    let dir = folder();
    let at = dir.path();
    succeeds(at, &["models", "add", &hostile("half"), "--version", "1"]);
    for name in ["traversal", "absolute"] {
        let error = refused(at, &["models", "add", &hostile(name)]);
        assert!(error.contains("cannot be used as a folder name") && error.contains("--version"), "{error}");
    }
    assert!(!Path::new("/tmp/aimpoint-escaped").exists());
    let (code, _, error) = aimpoint(at, &["models", "add", &hostile("half"), "--version", "../2"]);
    assert_eq!(code, 2, "{error}");
    assert!(error.contains("expected a letter, a digit or _ first"), "{error}");
    // With an explicit version it is accepted.
    succeeds(at, &["models", "add", &hostile("traversal"), "--version", "2"]);
    let mut entries: Vec<_> =
        fs::read_dir(at).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    entries.sort_unstable();
    assert_eq!(entries, ["aimpoint.toml", "models"]);
}

#[test]
fn invalid_scores_are_refused_when_adding_and_at_the_start() {
    let dir = folder();
    let at = dir.path();
    for (name, part) in [
        ("big", "expected a score from 0 to 1, found 12345"),
        ("negative", "expected a score from 0 to 1, found -3"),
        ("infinite", "found NaN"),
    ] {
        let error = refused(at, &["models", "add", &hostile(name), "--version", "1"]);
        assert!(error.contains("expected a") && (error.contains(part) || error.contains("found inf")), "{error}");
        with_file(at, &hostile(name));
        let error = refused(at, &["check", "--offline", "--config", "file.toml"]);
        assert!(error.contains("expected a") && (error.contains(part) || error.contains("found inf")), "{error}");
    }
    with_file(at, &hostile("big"));
    let out = succeeds(at, &["check", "--offline", "--config", "file.toml", "--set", "model.range=[0.0, 20000.0]"]);
    assert!(out.contains("score is output \"score\", from 0 to 20000"), "{out}");
    let (code, _, error) =
        aimpoint(at, &["check", "--offline", "--config", "file.toml", "--set", "model.range=[1.0, 0.0]"]);
    assert!(code == 78 && error.contains("model.range"), "{error}");
}

#[test]
fn a_hung_load_ends_with_a_message() {
    let dir = folder();
    let at = dir.path();
    let start = Instant::now();
    let error = refused(at, &["models", "add", &hostile("endless"), "--version", "1"]);
    assert!(error.contains("not loaded and checked within model.load_timeout, which is 2s"), "{error}");
    with_file(at, &hostile("endless"));
    let error = refused(at, &["check", "--offline", "--config", "file.toml"]);
    assert!(error.contains("model.load_timeout"), "{error}");
    assert!(start.elapsed() < Duration::from_mins(1), "{:?}", start.elapsed());
    let pipe = at.join("pipe.onnx");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let error = refused(at, &["models", "add", "pipe.onnx", "--version", "1"]);
    assert!(error.contains("expected a file, found a pipe"), "{error}");
}

#[test]
fn names_in_metadata_cannot_contain_control_characters_or_be_too_long() {
    let dir = folder();
    let at = dir.path();
    for (name, reason) in [("escapes", "contains a control character"), ("long_name", "is longer than 256 bytes")] {
        let error = refused(at, &["models", "add", &hostile(name)]);
        assert!(error.contains(reason) && !error.trim_end().contains(|it: char| it.is_control()), "{error:?}");
        succeeds(at, &["models", "add", &hostile(name), "--version", name, "--set", "model.name=shop"]);
    }
    // A forged manifest.
    let manifest = at.join("models/escapes/manifest.json");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, text.replace("\"shop\"", "\"a\\u001b[2J\"")).unwrap();
    let out = succeeds(at, &["models", "list"]);
    assert!(out.contains("a\\u{1b}[2J") && !out.contains('\u{1b}'), "{out:?}");
    succeeds(at, &["models", "activate", "escapes"]);
    let error = refused(at, &["check", "--offline"]);
    assert!(error.contains("contains a control character"), "{error}");
}

#[test]
fn external_weights_outside_of_the_model_s_folder_are_not_read() {
    let dir = folder();
    let at = dir.path();
    fs::write(at.join("model.onnx.data"), [0; 8]).unwrap();
    fs::create_dir(at.join("inner")).unwrap();
    for name in ["outside", "passwd", "memory", "missing"] {
        let file = at.join("inner").join(format!("{name}.onnx"));
        fs::copy(path(&format!("hostile/{name}")), &file).unwrap();
        let error = refused(at, &["models", "add", file.to_str().unwrap(), "--version", "1"]);
        let part = if name == "missing" { "does not exist" } else { "in the model's folder" };
        assert!(error.contains("weights of \"w\" in") && error.contains(part), "{name}: {error}");
    }
    fs::write(at.join("gone"), [0; 4]).unwrap();
    std::os::unix::fs::symlink("../gone", at.join("inner/gone.data")).unwrap();
    let error = refused(at, &["models", "add", "inner/missing.onnx", "--version", "1"]);
    assert!(error.contains("a link out of the model's folder"), "{error}");
}

#[test]
fn external_weights_are_copied_with_the_model_and_included_in_its_hash() {
    let dir = folder();
    let at = dir.path();
    let feature =
        |name: &str| format!("\n[[feature]]\nname = \"{name}\"\naggregate = \"count\"\nwindow = \"forever\"\n");
    fs::write(at.join("aimpoint.toml"), CONFIG.to_owned() + &feature("a") + &feature("b") + &feature("c")).unwrap();
    let external = path("external/model");
    let out = succeeds(at, &["models", "add", external.to_str().unwrap(), "--version", "1"]);
    assert!(out.contains("added 1 of model with model.onnx.data; 1 is active"), "{out}");
    let before = succeeds(at, &["check", "--offline"]);
    let data = at.join("models/1/model.onnx.data");
    assert_eq!(fs::read(&data).unwrap(), fs::read(external.with_extension("onnx.data")).unwrap());
    let mut bytes = fs::read(&data).unwrap();
    bytes[0] ^= 1;
    fs::write(&data, bytes).unwrap();
    let error = refused(at, &["check", "--offline"]);
    assert!(error.contains("expected the SHA-256"), "{error}");
    fs::remove_file(&data).unwrap();
    let error = refused(at, &["check", "--offline"]);
    assert!(error.contains("\"model.onnx.data\"") && error.contains("does not exist"), "{error}");
    // The working directory does not matter.
    fs::copy(external.with_extension("onnx.data"), &data).unwrap();
    let config = at.join("aimpoint.toml");
    let other = tempfile::tempdir().unwrap();
    let after = succeeds(other.path(), &["check", "--offline", "--config", config.to_str().unwrap()]);
    let sha256 = |out: &str| out.lines().find(|line| line.contains("sha256")).unwrap().to_owned();
    assert_eq!(sha256(&before), sha256(&after));
}

/// ONNX Runtime would look for a library with such an operator.
#[test]
fn operators_of_others_are_refused() {
    let dir = folder();
    let error = refused(dir.path(), &["models", "add", &hostile("custom"), "--version", "1"]);
    assert!(error.contains("the operator \"evil.Run\" is third-party code"), "{error}");
    assert!(error.contains("with the operators of ONNX alone"), "{error}");
}
