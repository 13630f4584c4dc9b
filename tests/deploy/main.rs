//! Checks `deploy/` with the tools that read it: helm, kubeconform, promtool, prometheus, compose-go. Also checks decisions
//! in OpenRTB with a Python package.
//!
//! The tools are built into `.tools/` by `tests/deploy/tools`; a test fails with a message if its tool is missing. Rendered charts are
//! compared with `golden/`; `UPDATE_GOLDEN=1` rewrites it.

#![expect(clippy::unwrap_used, reason = "a test ends where its own files cannot be read")]

mod chart;
mod docs;
mod images;
mod licences;
mod monitoring;
mod openrtb;
#[path = "../cli/process.rs"]
mod process;
mod prometheus;
mod serve;
mod workflows;

use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// A path relative to the repository root.
fn repository(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The text of a file in the repository.
fn text(name: &str) -> String {
    let path = repository(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every document of a YAML text.
fn documents(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).unwrap_or_else(|error| panic!("{error}\nin:\n{text}"))
}

/// The only document of a YAML file in the repository.
fn yaml(name: &str) -> Value {
    documents(&text(name)).pop().unwrap_or_else(|| panic!("{name} is empty"))
}

/// A tool of `.tools/`, run in the repository's root.
fn tool(name: &str) -> Command {
    let path = repository(".tools").join(name);
    assert!(path.is_file(), "{} is absent: run make tools, which fetches it", path.display());
    let mut command = Command::new(path);
    command.current_dir(repository("."));
    command
}

/// The output of a successful command.
fn output(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let [stdout, stderr] = [stdout, stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(status.success(), "{command:?}: {status}\n{stdout}\n{stderr}");
    stdout
}

/// All strings within a value, each with the name of its member.
fn strings<'a>(value: &'a Value, member: &'a str, found: &mut Vec<(&'a str, &'a str)>) {
    match value {
        Value::String(text) => found.push((member, text)),
        Value::Array(items) => items.iter().for_each(|item| strings(item, member, found)),
        Value::Object(members) => members.iter().for_each(|(name, value)| strings(value, name, found)),
        _ => {}
    }
}
