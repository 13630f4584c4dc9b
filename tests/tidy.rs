//! Which module may name what: the rules that keep the middle pure and the edges thin.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// One rule: who may name what.
struct Rule {
    /// What is named, with the names that an identifier before or after it would make into another.
    names: &'static [&'static str],
    /// Whether the rule binds the file at this path below `src`.
    binds: fn(&str) -> bool,
    why: &'static str,
}

const PURE: [&str; 14] = [
    "event/",
    "expression/",
    "profile/",
    "state/",
    "targeting/",
    "decision/",
    "columns/",
    "evaluation/",
    "engine/partitions/",
    "engine/pipeline/",
    "engine/scoring/",
    "engine/worker/protocol/",
    "inference/explain.rs",
    "inference/fallback.rs",
];

fn is_pure(path: &str) -> bool {
    PURE.iter().any(|pure| path.starts_with(pure))
}

const RULES: [Rule; 4] = [
    Rule {
        names: &["rdkafka"],
        binds: |path| !path.starts_with("source/") && !path.starts_with("sink/"),
        why: "only source and sink speak to Kafka",
    },
    Rule {
        names: &["ort::", "use ort;", "extern crate ort"],
        // The parts of `onnx` lie below it: the contract, the providers, the deadline and the library.
        binds: |path| path != "inference/onnx.rs" && !path.starts_with("inference/onnx/"),
        why: "only inference/onnx.rs and its parts speak to ONNX Runtime",
    },
    Rule {
        names: &["Instant", "SystemTime", "tokio"],
        binds: is_pure,
        why: "a pure module reads no clock and waits for nothing",
    },
    Rule {
        names: &["counter!", "gauge!", "histogram!"],
        binds: |path| path != "telemetry/metrics.rs",
        why: "every metric is declared in telemetry/metrics.rs",
    },
];

/// A line without its comment and without the text in its strings.
fn code(line: &str) -> String {
    let mut code = String::with_capacity(line.len());
    let (mut in_text, mut escaped) = (false, false);
    let mut rest = line.chars().peekable();
    while let Some(letter) = rest.next() {
        match letter {
            _ if escaped => escaped = false,
            '\\' if in_text => escaped = true,
            // '"' is a letter, not the beginning of a text.
            '"' if !in_text && code.ends_with('\'') && rest.peek() == Some(&'\'') => {}
            '"' => in_text = !in_text,
            '/' if !in_text && rest.peek() == Some(&'/') => break,
            _ if !in_text => code.push(letter),
            _ => {}
        }
    }
    code
}

/// Whether the code has this name as a whole, not as a part of a longer one.
fn has_name(code: &str, name: &str) -> bool {
    let part_of_name = |letter: char| letter.is_alphanumeric() || letter == '_';
    code.match_indices(name).any(|(at, _)| {
        let before = code[..at].chars().next_back().is_some_and(part_of_name);
        let after = name.ends_with(part_of_name) && code[at + name.len()..].starts_with(part_of_name);
        !before && !after
    })
}

/// What a file breaks, as `path:line: why`.
fn broken(path: &str, text: &str) -> Vec<String> {
    let mut broken = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let code = code(line);
        for rule in RULES.iter().filter(|rule| (rule.binds)(path)) {
            if let Some(name) = rule.names.iter().find(|name| has_name(&code, name)) {
                broken.push(format!("{path}:{}: {name:?}: {}", number + 1, rule.why));
            }
        }
    }
    broken
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the sources can be listed") {
        let path = entry.expect("the sources can be listed").path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|it| it == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn no_module_names_what_is_not_its_business() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    files(&root, &mut paths);
    assert!(paths.len() > 30, "the sources are not where they are looked for: {paths:?}");
    let mut all = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path).expect("a source can be read");
        let parts: Vec<_> = path.strip_prefix(&root).expect("it was found there").iter().collect();
        let name = parts.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/");
        all.extend(broken(&name, &text));
    }
    assert!(all.is_empty(), "\n{}", all.join("\n"));
}

#[test]
fn each_rule_finds_what_breaks_it_and_nothing_else() {
    for (path, line, breaks) in [
        ("engine/worker.rs", "use rdkafka::message::Message;", true),
        ("cli/run.rs", "    let it: rdkafka::ClientConfig = x;", true),
        ("source/kafka.rs", "use rdkafka::message::Message;", false),
        ("sink/kafka.rs", "use rdkafka::message::Message;", false),
        ("engine/worker.rs", "/// What librdkafka or rdkafka says.", false),
        ("engine/worker.rs", "let x = 1; // rdkafka", false),
        ("engine/worker.rs", "let x = \"rdkafka\";", false),
        ("engine/worker.rs", "let x = \"a \\\" b\"; rdkafka::y();", true),
        ("engine/worker.rs", "let x = '\"'; rdkafka::y();", true),
        ("engine/worker.rs", "let x = \"http://a\"; rdkafka::y();", true),
        ("inference/mod.rs", "use ort::Session;", true),
        ("training/mod.rs", "ort::init();", true),
        ("inference/onnx.rs", "use ort::Session;", false),
        ("inference/onnx/contract.rs", "use ort::Session;", false),
        ("inference/model.rs", "use ort::Session;", true),
        ("inference/mod.rs", "use crate::report::sort::x;", false),
        ("event/decode.rs", "use std::time::Instant;", true),
        ("columns/mod.rs", "SystemTime::now()", true),
        ("engine/pipeline.rs", "let now = std::time::Instant::now();", true),
        ("engine/pipeline.rs", "tokio::spawn(x);", true),
        ("evaluation/mod.rs", "use std::time::{Duration, SystemTime};", true),
        ("state/mod.rs", "let instantly = InstantLike;", false),
        ("profile/mod.rs", "use std::time::Duration;", false),
        ("engine/clock.rs", "use std::time::Instant;", false),
        ("engine/worker.rs", "counter!(\"x\").increment(1);", true),
        ("telemetry/mod.rs", "metrics::gauge!(\"x\");", true),
        ("sink/mod.rs", "histogram!(\"x\");", true),
        ("telemetry/metrics.rs", "counter!(\"x\"); gauge!(\"x\"); histogram!(\"x\");", false),
        ("engine/worker.rs", "let counter = my_counter!(); if counter != 1 {}", false),
    ] {
        let text = format!("fn a() {{}}\n{line}\n");
        let found = broken(path, &text);
        assert_eq!(!found.is_empty(), breaks, "{path}: {line}: {found:?}");
        assert!(found.iter().all(|it| it.starts_with(&format!("{path}:2: "))), "{found:?}");
    }
}
