//! Which module may import or name what: imports point down, the core stays pure, and the edges stay thin. And how large a
//! struct and a file may be ([`sizes`]).

#[path = "tidy/sizes.rs"]
mod sizes;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The modules of `src` from the ground up, each with its allowed imports. Every import points up in this list.
const MODULES: [(&str, &[&str]); 42] = [
    // The ground.
    ("config_error", &[]),
    ("panics", &[]),
    ("terminal", &[]),
    ("secret", &[]),
    ("hex", &[]),
    ("duration", &[]),
    ("random", &[]),
    ("mailbox", &[]),
    ("nesting", &[]),
    ("json_place", &[]),
    ("gzip", &[]),
    ("partial", &[]),
    ("blocks", &[]),
    ("canary", &[]),
    ("proto", &[]),
    ("metrics", &[]),
    ("logging", &["secret"]),
    ("columns", &[]),
    ("expression", &["columns", "config_error"]),
    // The pure core.
    ("state", &["blocks", "canary", "proto", "random"]),
    ("event", &["columns", "config_error", "expression", "hex", "json_place", "nesting", "proto", "secret", "state"]),
    ("privacy", &["config_error", "duration"]),
    (
        "profile",
        &[
            "canary",
            "columns",
            "config_error",
            "duration",
            "event",
            "expression",
            "hex",
            "privacy",
            "proto",
            "random",
            "state",
        ],
    ),
    ("evaluation", &["random"]),
    (
        "inference",
        &[
            "config_error",
            "duration",
            "evaluation",
            "event",
            "hex",
            "logging",
            "mailbox",
            "metrics",
            "partial",
            "terminal",
        ],
    ),
    (
        "targeting",
        &["canary", "columns", "config_error", "duration", "event", "expression", "profile", "random", "terminal"],
    ),
    (
        "decision",
        &[
            "config_error",
            "duration",
            "event",
            "hex",
            "inference",
            "privacy",
            "profile",
            "proto",
            "random",
            "targeting",
        ],
    ),
    ("status", &["decision", "event", "hex", "inference", "metrics", "privacy", "targeting"]),
    // The edges, and the engine between them.
    ("kafka", &["logging"]),
    ("source", &["event", "kafka", "logging", "status"]),
    ("sink", &["canary", "event", "inference", "kafka", "logging", "metrics", "state"]),
    (
        "engine",
        &[
            "canary",
            "columns",
            "config_error",
            "decision",
            "duration",
            "evaluation",
            "event",
            "expression",
            "inference",
            "logging",
            "metrics",
            "partial",
            "privacy",
            "profile",
            "proto",
            "random",
            "sink",
            "source",
            "state",
            "status",
            "targeting",
        ],
    ),
    // Roles next to the engine.
    (
        "control",
        &["canary", "config_error", "duration", "hex", "json_place", "nesting", "proto", "random", "targeting"],
    ),
    ("effect", &["control", "duration", "evaluation", "random", "targeting"]),
    ("report", &["effect", "evaluation", "targeting"]),
    ("serve", &["blocks", "config_error", "decision", "duration", "event", "json_place", "privacy", "proto", "secret"]),
    ("training", &["evaluation", "gzip", "inference", "panics", "partial", "state"]),
    ("content", &["config_error", "random", "targeting", "terminal"]),
    // The outside.
    (
        "config",
        &[
            "config_error",
            "control",
            "decision",
            "duration",
            "engine",
            "event",
            "expression",
            "inference",
            "kafka",
            "logging",
            "panics",
            "profile",
            "secret",
            "serve",
            "targeting",
        ],
    ),
    ("telemetry", &["duration", "event", "inference", "logging", "metrics", "status", "targeting"]),
    (
        "app",
        &[
            "config",
            "config_error",
            "control",
            "decision",
            "duration",
            "engine",
            "event",
            "inference",
            "json_place",
            "kafka",
            "logging",
            "mailbox",
            "metrics",
            "panics",
            "partial",
            "proto",
            "secret",
            "serve",
            "sink",
            "source",
            "status",
            "targeting",
            "telemetry",
        ],
    ),
    (
        "cli",
        &[
            "app",
            "blocks",
            "config",
            "content",
            "control",
            "decision",
            "duration",
            "effect",
            "engine",
            "evaluation",
            "event",
            "expression",
            "gzip",
            "hex",
            "inference",
            "kafka",
            "logging",
            "metrics",
            "panics",
            "partial",
            "privacy",
            "profile",
            "proto",
            "random",
            "report",
            "secret",
            "serve",
            "sink",
            "source",
            "state",
            "status",
            "targeting",
            "telemetry",
            "terminal",
            "training",
        ],
    ),
];

/// A rule about what may be named where.
struct Rule {
    /// The forbidden names.
    names: &'static [&'static str],
    /// Whether the rule applies to the file at this path below `src`.
    applies: fn(&str) -> bool,
    why: &'static str,
}

/// Modules without Kafka, clocks, threads, files, the environment, logs or global metrics.
const PURE: [&str; 20] = [
    "columns/",
    "expression/",
    "event/",
    "state/",
    "privacy/",
    "profile/",
    "evaluation/",
    "targeting/",
    "content/",
    "control/",
    "effect/",
    "report/",
    "serve/",
    "decision/",
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

const RULES: [Rule; 5] = [
    Rule {
        names: &["rdkafka"],
        applies: |path| !["kafka/", "source/", "sink/"].iter().any(|edge| path.starts_with(edge)),
        why: "only kafka, source and sink speak to Kafka",
    },
    Rule {
        names: &["ort::", "use ort;", "extern crate ort"],
        // The parts of `onnx` are below it: the contract, the providers, the deadline and the library.
        applies: |path| path != "inference/onnx.rs" && !path.starts_with("inference/onnx/"),
        why: "only inference/onnx.rs and its parts speak to ONNX Runtime",
    },
    Rule {
        names: &["Instant", "SystemTime", "tokio"],
        applies: is_pure,
        why: "a pure module reads no clock and waits for nothing",
    },
    Rule {
        names: &["thread", "fs", "File", "env", "tracing", "logging"],
        applies: is_pure,
        why: "a pure module starts no thread, reads no file and no environment, and logs nothing",
    },
    Rule {
        names: &["metrics"],
        // The metrics of `evaluation` are quality figures of predictions.
        applies: |path| is_pure(path) && module(path) != "evaluation",
        why: "a pure module records no metric",
    },
];

/// A line without comments and string contents.
fn code(line: &str) -> String {
    let mut code = String::with_capacity(line.len());
    let (mut in_text, mut escaped) = (false, false);
    let mut rest = line.chars().peekable();
    while let Some(letter) = rest.next() {
        match letter {
            _ if escaped => escaped = false,
            '\\' if in_text => escaped = true,
            // '"' is a character literal, not the start of a string.
            '"' if !in_text && code.ends_with('\'') && rest.peek() == Some(&'\'') => {}
            '"' => in_text = !in_text,
            '/' if !in_text && rest.peek() == Some(&'/') => break,
            _ if !in_text => code.push(letter),
            _ => {}
        }
    }
    code
}

/// The lines of a file without its tests: a module of them in the file ends it, and one in another file is an empty line.
fn without_tests(text: &str) -> impl Iterator<Item = &str> {
    let is_test = |line: &str| line.starts_with("#[cfg(test)]") || line.starts_with("#[cfg(all(test");
    let (mut lines, mut is_hidden) = (text.lines().peekable(), false);
    let line = move || {
        let line = lines.next()?;
        let was_hidden = std::mem::take(&mut is_hidden);
        if is_test(line) {
            is_hidden = lines.peek()?.ends_with(';');
            return is_hidden.then_some("");
        }
        Some(if was_hidden { "" } else { line })
    };
    std::iter::from_fn(line).fuse()
}

/// Whether the code contains this name as a whole word.
fn has_name(code: &str, name: &str) -> bool {
    let part_of_name = |letter: char| letter.is_alphanumeric() || letter == '_';
    code.match_indices(name).any(|(at, _)| {
        let before = code[..at].chars().next_back().is_some_and(part_of_name);
        let after = name.ends_with(part_of_name) && code[at + name.len()..].starts_with(part_of_name);
        !before && !after
    })
}

/// The violations in a file, as `path:line: why`.
fn broken(path: &str, text: &str) -> Vec<String> {
    let mut broken = Vec::new();
    for (number, line) in without_tests(text).enumerate() {
        let code = code(line);
        for rule in RULES.iter().filter(|rule| (rule.applies)(path)) {
            if let Some(name) = rule.names.iter().find(|name| has_name(&code, name)) {
                broken.push(format!("{path}:{}: {name:?}: {}", number + 1, rule.why));
            }
        }
    }
    broken
}

/// The modules that a text names after `crate::`, singly or in a braced list.
fn imports(text: &str) -> BTreeSet<String> {
    let code: String = without_tests(text).map(|line| code(line) + "\n").collect();
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let (mut depth, mut is_start) = (0, true);
        for part in
            code[at + "crate::".len()..].split_inclusive(|letter: char| !letter.is_alphanumeric() && letter != '_')
        {
            let name = part.trim_end_matches(|letter: char| !letter.is_alphanumeric() && letter != '_');
            if is_start && !name.is_empty() && depth <= 1 {
                found.insert(name.to_owned());
                is_start = false;
            }
            match &part[name.len()..] {
                "{" => depth += 1,
                "}" => depth -= 1,
                "," if depth == 1 => is_start = true,
                ";" => break,
                _ => {}
            }
            // Without braces there is only one name.
            if depth == 0 && !is_start {
                break;
            }
        }
    }
    found
}

/// The module that a file belongs to.
fn module(path: &str) -> &str {
    path.split('/').next().unwrap_or(path).trim_end_matches(".rs")
}

/// The imports that [`MODULES`] does not allow, as `path: why`.
fn forbidden(path: &str, text: &str) -> Vec<String> {
    let module = module(path);
    let Some((_, allowed)) = MODULES.iter().find(|(name, _)| *name == module) else {
        return vec![format!("{path}: {module} is not in the list of modules")];
    };
    let is_module = |name: &String| MODULES.iter().any(|(other, _)| other == name) || name == "testkit";
    let wrong = imports(text).into_iter().filter(is_module);
    let wrong = wrong.filter(|name| name != module && !allowed.contains(&name.as_str()));
    wrong.map(|name| format!("{path}: {module} may not import {name}")).collect()
}

/// The imports in a table that do not point to an earlier module and could therefore form a cycle.
fn upward<'a>(table: &[(&'a str, &[&'a str])]) -> Vec<(&'a str, &'a str)> {
    let mut below = Vec::new();
    let mut wrong = Vec::new();
    for (name, imports) in table {
        wrong.extend(imports.iter().filter(|import| !below.contains(*import)).map(|import| (*name, *import)));
        below.push(name);
    }
    wrong
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

/// All sources by path below `src`, without test files.
fn sources() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    files(&root, &mut paths);
    assert!(paths.len() > 30, "the sources are not where they are looked for: {paths:?}");
    let mut sources = BTreeMap::new();
    for path in paths {
        let text = fs::read_to_string(&path).expect("a source can be read");
        let parts: Vec<_> = path.strip_prefix(&root).expect("it was found there").iter().collect();
        let name = parts.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/");
        let is_test = name.ends_with("/tests.rs") || name.ends_with("/fuzz.rs") || name.contains("/tests/");
        if !is_test {
            sources.insert(name, text);
        }
    }
    sources
}

#[test]
fn no_module_names_what_is_not_its_business() {
    let all: Vec<String> = sources().iter().flat_map(|(path, text)| broken(path, text)).collect();
    assert!(all.is_empty(), "\n{}", all.join("\n"));
}

#[test]
fn modules_import_only_what_the_list_allows() {
    let sources = sources();
    let inside = |path: &str| !["lib.rs", "main.rs"].contains(&path) && module(path) != "testkit";
    let sources: Vec<_> = sources.iter().filter(|(path, _)| inside(path)).collect();
    let all: Vec<String> = sources.iter().flat_map(|(path, text)| forbidden(path, text)).collect();
    assert!(all.is_empty(), "\n{}", all.join("\n"));
    // The list must not allow more than is used.
    for (name, allowed) in MODULES {
        let of_module = sources.iter().filter(|(path, _)| module(path) == name);
        let used: BTreeSet<String> = of_module.flat_map(|(_, text)| imports(text)).collect();
        let unused: Vec<&&str> = allowed.iter().filter(|import| !used.contains(**import)).collect();
        assert!(unused.is_empty(), "{name} does not import {unused:?}: remove them from the list");
    }
}

/// Where unsafe code may be: the allocators that count, the counters of coverage, and the one call of librdkafka that its crate has
/// no function for.
const UNSAFE: [&str; 4] =
    ["src/kafka/known.rs", "tests/allocations.rs", "tests/fuzz/coverage.rs", "tests/fuzz/memory.rs"];

#[test]
fn unsafe_code_is_only_where_it_is_listed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = BTreeSet::new();
    for folder in ["src", "tests", "benches/peers/tool", "benches/bidders/tool/src", "deploy/examples/rust", "proto"] {
        let mut paths = Vec::new();
        files(&root.join(folder), &mut paths);
        for path in paths.into_iter().filter(|path| path.extension().is_some_and(|end| end == "rs")) {
            let text = fs::read_to_string(&path).expect("a source can be read");
            if text.lines().any(|line| has_name(&code(line), "unsafe")) {
                let path = path.strip_prefix(root).expect("it was found there");
                found.insert(path.to_string_lossy().into_owned());
            }
        }
    }
    assert_eq!(found, UNSAFE.map(str::to_owned).into(), "unsafe code is somewhere else than the list says");
    let manifest = fs::read_to_string(root.join("Cargo.toml")).expect("the manifest can be read");
    assert!(manifest.contains("unsafe_code = \"deny\""), "the lint denies unsafe code");
}

#[test]
fn imports_point_down() {
    assert_eq!(upward(&MODULES), []);
    let circle: [(&str, &[&str]); 3] = [("a", &["b"]), ("b", &[]), ("c", &["a", "c"])];
    assert_eq!(upward(&circle), [("a", "b"), ("c", "c")]);
}

#[test]
fn a_forbidden_import_is_found() {
    for (path, text, found) in [
        ("source/kafka.rs", "use crate::engine::Worker;", Some("source may not import engine")),
        ("source/kafka.rs", "use crate::{\n    event::{Record, Position},\n    engine::Worker,\n};", Some("engine")),
        ("status/view.rs", "fn a() -> crate::telemetry::X {}", Some("status may not import telemetry")),
        ("app/run.rs", "use crate::{app::x, cli};", Some("app may not import cli")),
        ("columns/mod.rs", "let x = crate::testkit::y();", Some("testkit")),
        ("attic.rs", "", Some("attic is not in the list of modules")),
        ("source/kafka.rs", "use crate::{event::Record, kafka::{a, engine}, logging};", None),
        ("source/kafka.rs", "use crate::event::Record; // crate::engine", None),
        ("source/kafka.rs", "use crate::event::{Record};\nlet engine = 1;", None),
        ("source/kafka.rs", "use crate::source::x;\n#[cfg(test)]\nmod tests {\n    use crate::engine::y;\n}", None),
        ("secret.rs", "let x = \"crate::engine\";", None),
    ] {
        let wrong = forbidden(path, text);
        assert_eq!(wrong.is_empty(), found.is_none(), "{path}: {text}: {wrong:?}");
        assert!(found.is_none_or(|part| wrong[0].contains(part)), "{wrong:?}");
    }
}

#[test]
fn each_rule_finds_what_breaks_it_and_nothing_else() {
    for (path, line, breaks) in [
        ("engine/worker/mod.rs", "use rdkafka::message::Message;", true),
        ("cli/run.rs", "    let it: rdkafka::ClientConfig = x;", true),
        ("source/kafka.rs", "use rdkafka::message::Message;", false),
        ("sink/kafka.rs", "use rdkafka::message::Message;", false),
        ("kafka/mod.rs", "use rdkafka::message::Message;", false),
        ("engine/worker/mod.rs", "/// What librdkafka or rdkafka says.", false),
        ("engine/worker/mod.rs", "let x = 1; // rdkafka", false),
        ("engine/worker/mod.rs", "let x = \"rdkafka\";", false),
        ("engine/worker/mod.rs", "let x = \"a \\\" b\"; rdkafka::y();", true),
        ("engine/worker/mod.rs", "let x = '\"'; rdkafka::y();", true),
        ("engine/worker/mod.rs", "let x = \"http://a\"; rdkafka::y();", true),
        ("inference/mod.rs", "use ort::Session;", true),
        ("training/mod.rs", "ort::init();", true),
        ("inference/onnx.rs", "use ort::Session;", false),
        ("inference/onnx/contract.rs", "use ort::Session;", false),
        ("inference/model.rs", "use ort::Session;", true),
        ("inference/mod.rs", "use crate::report::sort::x;", false),
        ("event/decode.rs", "use std::time::Instant;", true),
        ("columns/mod.rs", "SystemTime::now()", true),
        ("engine/pipeline/mod.rs", "let now = std::time::Instant::now();", true),
        ("engine/pipeline/mod.rs", "tokio::spawn(x);", true),
        ("evaluation/mod.rs", "use std::time::{Duration, SystemTime};", true),
        ("state/mod.rs", "let instantly = InstantLike;", false),
        ("profile/mod.rs", "use std::time::Duration;", false),
        ("engine/clock.rs", "use std::time::Instant;", false),
        ("engine/scoring/mod.rs", "tracing::error!(x);", true),
        ("engine/run.rs", "tracing::error!(x);", false),
        ("engine/pipeline/emit.rs", "metrics::{a, b}", true),
        ("privacy/consent/mod.rs", "let now = std::time::SystemTime::now();", true),
        ("state/mod.rs", "use std::{fs, io};", true),
        ("state/mod.rs", "let file = std::fs::File::open(x);", true),
        ("profile/mod.rs", "std::thread::spawn(x)", true),
        ("decision/mod.rs", "std::env::var(x)", true),
        ("decision/mod.rs", "let environment = thread_count;", false),
    ] {
        let text = format!("fn a() {{}}\n{line}\n");
        let found = broken(path, &text);
        assert_eq!(!found.is_empty(), breaks, "{path}: {line}: {found:?}");
        assert!(found.iter().all(|it| it.starts_with(&format!("{path}:2: "))), "{found:?}");
    }
}
