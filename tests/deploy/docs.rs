//! The documentation pages: everything they name exists, and what they say matches the program.
//!
//! Each check is a function that returns the faults of a page. One test runs all checks on all pages; another shows
//! that each check finds a planted fault. Outside code, only links are checked.

use crate::{monitoring::alerts, output, repository, text, yaml};
use aimpoint::{
    cli::Exit,
    config,
    kafka::is_setting,
    metrics::{FAMILIES, Kind},
};
use regex::Regex;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    path::{Component, Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

const README: &str = "README.md";
const RUNBOOK: &str = "deploy/docs/alerts.md";
const EXIT_CODES: &str = "deploy/docs/exit-codes.md";

/// Folders with pages. The recorded runs of the comparison are not pages.
const FOLDERS: [&str; 6] = [".github", "benches", "deploy", "proto", "src", "tests"];
const NO_PAGES: [&str; 3] = ["runs", "target", "__pycache__"];

/// Topic settings, which librdkafka does not know.
const TOPIC_SETTINGS: [&str; 6] = [
    "cleanup.policy",
    "delete.retention.ms",
    "max.message.bytes",
    "message.timestamp.type",
    "min.insync.replicas",
    "retention.ms",
];
/// Flags of cargo.
const FOREIGN_FLAGS: [&str; 3] = ["--profile", "--features", "--no-default-features"];
/// Options of scikit-learn.
const FOREIGN_KEYS: [&str; 1] = ["zipmap"];
/// Members of OpenRTB.
const FOREIGN_MEMBERS: [&str; 14] = [
    "ext.segtax",
    "regs.coppa",
    "regs.ext",
    "regs.ext.gdpr",
    "regs.ext.gpc",
    "regs.ext.us_privacy",
    "regs.gdpr",
    "regs.gpp",
    "regs.gpp_sid",
    "regs.us_privacy",
    "user.consent",
    "user.data",
    "user.eids",
    "user.ext.consent",
];
/// Programs whose commands are not checked.
const FOREIGN_PROGRAMS: [&str; 7] = ["cargo", "curl", "docker", "gdb", "helm", "kcat", "kubectl"];
/// File name extensions.
const FILE_ENDS: [&str; 16] = [
    "csv", "gz", "html", "json", "jsonl", "md", "onnx", "parquet", "partial", "proto", "py", "rs", "toml", "tsv",
    "txt", "yaml",
];

/// A parsed page.
struct Page {
    name: String,
    text: String,
    /// The text without code blocks, and with a placeholder for inline code.
    prose: String,
    /// Inline code: the text in backticks within a line.
    spans: Vec<String>,
    /// The language and content of each code block.
    blocks: Vec<(String, String)>,
}

impl Page {
    fn read(name: &str) -> Self {
        Self::of(name, text(name))
    }

    fn of(name: &str, text: String) -> Self {
        let span = Regex::new("`([^`\n]+)`").unwrap();
        let (mut prose, mut spans, mut blocks) = (String::new(), Vec::new(), Vec::<(String, String)>::new());
        let (mut is_in_block, mut after_blank) = (false, true);
        for line in text.lines() {
            if let Some(language) = line.trim_start().strip_prefix("```") {
                is_in_block = !is_in_block;
                if is_in_block {
                    blocks.push((language.trim().to_owned(), String::new()));
                }
            } else if is_in_block {
                let (_, block) = blocks.last_mut().unwrap();
                block.push_str(line);
                block.push('\n');
            } else if line.starts_with("    ") && after_blank {
                blocks.push(("sh".to_owned(), format!("{}\n", line.trim_start())));
                continue;
            } else {
                spans.extend(span.captures_iter(line).map(|found| found[1].to_owned()));
                prose.push_str(&span.replace_all(line, "code"));
            }
            prose.push('\n');
            after_blank = line.trim().is_empty();
        }
        Self { name: name.to_owned(), text, prose, spans, blocks }
    }

    /// The anchors that GitHub generates for the headings.
    fn anchors(&self) -> BTreeSet<String> {
        let mut seen = HashMap::<String, usize>::new();
        let mut is_in_block = false;
        let mut anchors = BTreeSet::new();
        for line in self.text.lines() {
            is_in_block ^= line.trim_start().starts_with("```");
            let Some(heading) = line.strip_prefix('#').filter(|_| !is_in_block) else { continue };
            let heading = heading.trim_start_matches('#').trim().to_lowercase();
            let kept = heading.chars().filter(|it| it.is_alphanumeric() || [' ', '-', '_'].contains(it));
            let anchor: String = kept.map(|it| if it == ' ' { '-' } else { it }).collect();
            let count = seen.entry(anchor.clone()).or_default();
            anchors.insert(if *count == 0 { anchor } else { format!("{anchor}-{count}") });
            *count += 1;
        }
        anchors
    }

    /// Every line of code: lines of shell blocks, and inline code.
    fn code(&self) -> impl Iterator<Item = &str> {
        let shell = self.blocks.iter().filter(|(language, _)| matches!(language.as_str(), "sh" | "bash" | ""));
        shell.flat_map(|(_, block)| block.lines()).chain(self.spans.iter().map(String::as_str))
    }
}

fn pages() -> Vec<Page> {
    fn below(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && !NO_PAGES.contains(&name.as_str()) {
                below(&path, found);
            } else if path.extension().is_some_and(|it| it == "md") {
                found.push(path);
            }
        }
    }
    let root = repository("");
    let mut found: Vec<PathBuf> = fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.is_file() && path.extension().is_some_and(|it| it == "md"));
    for folder in FOLDERS {
        below(&root.join(folder), &mut found);
    }
    found.sort();
    found.iter().map(|path| Page::read(&path.strip_prefix(&root).unwrap().to_string_lossy())).collect()
}

/// Resolves `.` and `..` in a path.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    plain
}

/// Links to missing pages, pictures and headings.
fn dead_links(page: &Page) -> Vec<String> {
    let link = Regex::new(r"\[[^\]\[]*\]\(([^)\s]+)\)").unwrap();
    let mut faults = Vec::new();
    for found in link.captures_iter(&page.prose) {
        let target = &found[1];
        if ["https://", "http://", "mailto:"].iter().any(|scheme| target.starts_with(scheme)) {
            continue;
        }
        let (path, anchor) = target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor)));
        let folder = Path::new(&page.name).parent().unwrap();
        let name = if path.is_empty() { PathBuf::from(&page.name) } else { plain(&folder.join(path)) };
        let file = repository(&name.to_string_lossy());
        if !path.is_empty() && !file.exists() {
            faults.push(format!("{target}: there is no {}", name.display()));
        } else if let Some(anchor) = anchor {
            let other = (!path.is_empty()).then(|| Page::read(&name.to_string_lossy()));
            if !other.as_ref().unwrap_or(page).anchors().contains(anchor) {
                faults.push(format!("{target}: {} has no heading for it", name.display()));
            }
        }
    }
    faults
}

/// Paths that are missing from the repository.
fn absent_paths(page: &Page) -> Vec<String> {
    let path = Regex::new(r"(?:^|[^\w/.-])((?:\.github|benches|deploy|proto|src|tests)/[\w./-]*\w)").unwrap();
    let found = path.captures_iter(&page.text).map(|found| found[1].to_owned());
    found.filter(|it| !repository(it).exists()).map(|it| format!("there is no {it}")).collect()
}

/// A command of the program: its flags, its subcommands, and the values its argument accepts.
#[derive(Default)]
struct Usage {
    flags: BTreeSet<String>,
    below: BTreeMap<String, Usage>,
    values: BTreeSet<String>,
}

impl Usage {
    /// Parses the help of a command.
    fn of(path: &[&str]) -> Self {
        let help = output(Command::new(env!("CARGO_BIN_EXE_aimpoint")).args(path).arg("--help"));
        let flag = Regex::new(r"(?m)^ +(?:(-\w), )?(?:    )?(--[a-z][a-z-]*)").unwrap();
        let mut usage = Self::default();
        for found in flag.captures_iter(&help) {
            usage.flags.extend([found.get(1), found.get(2)].into_iter().flatten().map(|it| it.as_str().to_owned()));
        }
        let part = |title: &str| help.split_once(title).map_or("", |(_, rest)| rest.split("\n\n").next().unwrap());
        let commands = Regex::new(r"(?m)^  ([a-z][a-z-]*) ").unwrap();
        for found in commands.captures_iter(part("\nCommands:\n")).filter(|found| &found[1] != "help") {
            let path = [path, &[found.get(1).unwrap().as_str()]].concat();
            usage.below.insert(found[1].to_owned(), Self::of(&path));
        }
        let arguments =
            help.split_once("\nArguments:\n").map_or("", |(_, rest)| rest.split("\nOptions:").next().unwrap());
        let value = Regex::new(r"(?m)^ +- ([a-z][a-z-]*):").unwrap();
        usage.values.extend(value.captures_iter(arguments).map(|found| found[1].to_owned()));
        usage
    }

    /// Faults of a command line, given without the program's name.
    fn faults(&self, line: &str) -> Vec<String> {
        let mut words = line.split_whitespace().peekable();
        let (mut usage, mut path) = (self, String::from("aimpoint"));
        while !usage.below.is_empty() {
            let Some(word) = words.next_if(|word| !word.starts_with('-')) else { break };
            path = format!("{path} {word}");
            let Some(below) = usage.below.get(word) else { return vec![format!("there is no command {path}")] };
            usage = below;
        }
        if let Some(word) = words.peek().filter(|_| !usage.values.is_empty())
            && !word.starts_with('-')
            && word.split('|').any(|word| !usage.values.contains(word))
        {
            return vec![format!("{path} has no {word}")];
        }
        let flags =
            words.filter(|word| word.starts_with('-') && word.len() > 1 && !word[1..].starts_with(char::is_numeric));
        let flags = flags.map(|word| word.split('=').next().unwrap().trim_end_matches([',', ')']));
        flags.filter(|flag| !usage.flags.contains(*flag)).map(|flag| format!("{path} has no {flag}")).collect()
    }

    fn has_anywhere(&self, flag: &str) -> bool {
        self.flags.contains(flag) || self.below.values().any(|below| below.has_anywhere(flag))
    }
}

static PROGRAM: LazyLock<Usage> = LazyLock::new(|| Usage::of(&[]));

/// Commands and flags that the program does not have.
fn unknown_commands(page: &Page) -> Vec<String> {
    let mut faults = Vec::new();
    for line in page.code() {
        let line = line.split(" # ").next().unwrap().trim();
        let first = line.split_whitespace().next().unwrap_or_default();
        if let Some(arguments) = line.strip_prefix("aimpoint ") {
            faults.extend(PROGRAM.faults(arguments));
        } else if first == "docker" {
            let run = line.strip_prefix("docker run ").and_then(|rest| rest.split_once(" aimpoint "));
            faults.extend(run.into_iter().flat_map(|(_, arguments)| PROGRAM.faults(arguments)));
        } else if first.starts_with("--") {
            let flag = first.split('=').next().unwrap();
            let is_known = PROGRAM.has_anywhere(flag)
                || FOREIGN_FLAGS.contains(&flag)
                || page.name.starts_with("benches/peers/")
                    && text("benches/peers/run").contains(&format!("\"{flag}\""))
                || page.name == "deploy/demo/DATA.md" && text("deploy/demo/make-data").contains(flag);
            if !is_known {
                faults.push(format!("nothing has a flag {flag}"));
            }
        } else if page.spans.iter().any(|span| span == line) && line.contains(' ') && PROGRAM.below.contains_key(first)
        {
            // Subcommands without the program's name, such as `topics --create` in the changelog.
            faults.extend(PROGRAM.faults(line));
        }
    }
    faults
}

/// Targets and variables that the Makefile does not have.
fn unknown_targets(page: &Page) -> Vec<String> {
    let makefile = text("Makefile");
    let phony = makefile.lines().find_map(|line| line.strip_prefix(".PHONY: ")).unwrap();
    let targets: BTreeSet<&str> = phony.split_whitespace().collect();
    let make = Regex::new(r"(?:^|[\s;&])make ((?:[A-Za-z][\w=-]*\s?)+)").unwrap();
    let variable = Regex::new(r"\b([A-Z]+)=").unwrap();
    let mut faults = Vec::new();
    for line in page.code() {
        let line = line.split(" # ").next().unwrap();
        let Some(found) = make.captures(line) else { continue };
        for word in found[1].split_whitespace().filter(|word| !word.contains('=')) {
            if !targets.contains(word) {
                faults.push(format!("there is no target {word}"));
            }
        }
        for name in variable.captures_iter(line).map(|found| found[1].to_owned()) {
            if !makefile.contains(&format!("\n{name} ?=")) {
                faults.push(format!("make takes no {name}"));
            }
        }
    }
    faults
}

/// Metrics that no process exports.
fn unknown_metrics(page: &Page) -> Vec<String> {
    let metric = Regex::new(r"\baimpoint_[a-z0-9_]+\*?").unwrap();
    let is_known = |name: &str| match name.strip_suffix('*') {
        Some(start) => FAMILIES.iter().any(|metric| metric.name.starts_with(start)),
        None => FAMILIES.iter().any(|metric| {
            let ends: &[&str] =
                if matches!(metric.kind, Kind::Histogram) { &["", "_bucket", "_sum", "_count"] } else { &[""] };
            ends.iter().any(|end| name.strip_suffix(end) == Some(metric.name))
        }),
    };
    let found = metric.find_iter(&page.text).map(|found| found.as_str());
    found.filter(|name| !is_known(name)).map(|name| format!("there is no metric {name}")).collect()
}

static SCHEMA: LazyLock<Value> = LazyLock::new(config::schema);
static VALUES: LazyLock<Value> = LazyLock::new(|| yaml("deploy/helm/aimpoint/values.yaml"));
static MESSAGES: LazyLock<String> = LazyLock::new(|| {
    let proto = fs::read_dir(repository("proto/aimpoint/v1")).unwrap();
    proto.map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap()).collect()
});

/// Whether a schema contains a key path.
fn has_key(schema: &Value, parts: &[&str]) -> bool {
    let Some((first, rest)) = parts.split_first() else { return true };
    let forms = ["anyOf", "oneOf", "allOf"].into_iter().flat_map(|word| schema[word].as_array().into_iter().flatten());
    let items = schema.get("items").filter(|it| it.is_object());
    let others = schema.get("additionalProperties").filter(|it| it.is_object());
    schema["properties"].get(first).is_some_and(|below| has_key(below, rest))
        || forms.chain(items).any(|below| has_key(below, parts))
        || others.is_some_and(|below| has_key(below, rest))
}

/// Whether the configuration has this key, given with its section.
fn is_key(name: &str) -> bool {
    has_key(&SCHEMA, &name.split('.').collect::<Vec<_>>())
}

/// Whether a dotted name exists: as a configuration key, a chart value, a Kafka setting, or a member or message of the
/// protocol.
fn is_known_name(name: &str) -> bool {
    let parts: Vec<&str> = name.split('.').collect();
    let is_value = parts.iter().try_fold(&*VALUES, |value, part| value.get(part)).is_some();
    let member = |part: &&str| MESSAGES.contains(&format!(" {part} = "));
    let message = || name.strip_prefix("aimpoint.v1.").is_some_and(|it| MESSAGES.contains(&format!("message {it} {{")));
    is_key(name)
        || is_value
        || TOPIC_SETTINGS.contains(&name)
        || is_setting(name)
        || parts.iter().all(member)
        || message()
}

/// Keys of a TOML table that the configuration does not have.
fn unknown_in_table(table: &toml::Table, path: &[&str], faults: &mut Vec<String>) {
    for (key, value) in table {
        let path = [path, &[key.as_str()]].concat();
        // Keys from here on are librdkafka's.
        if path.len() == 3 && path[0] == "kafka" {
            if !is_setting(key) {
                faults.push(format!("librdkafka has no setting {key}"));
            }
            continue;
        }
        if !has_key(&SCHEMA, &path) {
            faults.push(format!("there is no key {}", path.join(".")));
        }
        let tables = value.as_array().into_iter().flatten().filter_map(toml::Value::as_table);
        tables.chain(value.as_table()).for_each(|below| unknown_in_table(below, &path, faults));
    }
}

/// Configuration keys and other settings that do not exist.
fn unknown_keys(page: &Page) -> Vec<String> {
    let section = Regex::new(r"^\[{1,2}([a-z_]+(?:\.[a-z_]+)*)\]{1,2}$").unwrap();
    let assignment = Regex::new(r#"^(?:--set )?("[a-z.]+"|[a-z_]+(?:\.[a-z_]+)*) ?= ?\S"#).unwrap();
    let dotted = Regex::new(r"^[a-z]\w*(?:\.\w+)+$").unwrap();
    let variable = Regex::new(r"\bAIMPOINT__([A-Z_]+)").unwrap();
    let mut faults = Vec::new();
    for span in &page.spans {
        if let Some(found) = section.captures(span) {
            if !is_key(&found[1]) {
                faults.push(format!("the configuration has no section {span}"));
            }
        } else if let Some(found) = assignment.captures(span) {
            let name = found[1].trim_matches('"');
            let is_below = || SCHEMA["properties"].as_object().unwrap().values().any(|below| has_key(below, &[name]));
            let is_known =
                if name.contains('.') { is_known_name(name) } else { FOREIGN_KEYS.contains(&name) || is_below() };
            if !is_known {
                faults.push(format!("there is no key {name}"));
            }
        } else if dotted.is_match(span) {
            let is_file = FILE_ENDS.contains(&span.rsplit('.').next().unwrap());
            if !is_file && !FOREIGN_MEMBERS.contains(&span.as_str()) && !is_known_name(span) {
                faults.push(format!("there is nothing called {span}"));
            }
        }
    }
    for found in variable.captures_iter(&page.text) {
        let name = found[1].to_lowercase().replace("__", ".");
        let client = name.strip_prefix("kafka.client.").map(|setting| setting.replace('_', "."));
        if !client.map_or_else(|| is_key(&name), |setting| is_setting(&setting)) {
            faults.push(format!("there is no key for AIMPOINT__{}", &found[1]));
        }
    }
    for (_, block) in page.blocks.iter().filter(|(language, _)| language == "toml") {
        match block.parse::<toml::Table>() {
            Ok(table) => unknown_in_table(&table, &[], &mut faults),
            Err(error) => faults.push(error.to_string()),
        }
    }
    faults
}

/// Every text that the program or the dashboard may show, with continued lines joined.
static WORDS: LazyLock<String> = LazyLock::new(|| {
    fn below(folder: &Path, all: &mut String) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                below(&path, all);
            } else if path.extension().is_some_and(|it| it == "rs") {
                all.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }
    let mut all = text(crate::monitoring::DASHBOARD);
    for folder in ["src", "benches"] {
        below(&repository(folder), &mut all);
    }
    Regex::new(r"\\\n\s*").unwrap().replace_all(&all, "").into_owned()
});

/// Quoted log lines and dashboard titles that do not exist.
fn unknown_words(page: &Page) -> Vec<String> {
    let phrase = Regex::new(r"^[A-Za-z][a-z]*(?: [a-z]+){2,}$").unwrap();
    let is_foreign = |span: &str| {
        let first = span.split(' ').next().unwrap();
        FOREIGN_PROGRAMS.contains(&first) || ["aimpoint", "make"].contains(&first) || PROGRAM.below.contains_key(first)
    };
    let found = page.spans.iter().filter(|span| phrase.is_match(span) && !is_foreign(span));
    found.filter(|span| !WORDS.contains(span.as_str())).map(|span| format!("nothing says {span:?}")).collect()
}

/// Returns the faults of a page.
type Check = fn(&Page) -> Vec<String>;

/// Tests that a page names and that do not exist. Tests have longer names than anything else with underscores.
fn unknown_tests(page: &Page) -> Vec<String> {
    static NAMES: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
        fn below(folder: &Path, text: &mut String) {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    below(&path, text);
                } else if path.extension().is_some_and(|it| it == "rs") {
                    text.push_str(&fs::read_to_string(&path).unwrap());
                }
            }
        }
        // Some tests on one broker are parts of one.
        let test = r"(?:#\[test\]\n\s*(?:pub\(super\) |pub\(crate\) )?fn (\w+)\(|fn (\w+)\(secured: &Secured)";
        let test = Regex::new(test).unwrap();
        let mut text = String::new();
        below(&repository("src"), &mut text);
        below(&repository("tests"), &mut text);
        test.captures_iter(&text).map(|found| found.get(1).or(found.get(2)).unwrap().as_str().to_owned()).collect()
    });
    let is_test = |span: &&String| {
        span.matches('_').count() >= 4
            && !span.starts_with("aimpoint_")
            && span.bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    let named = page.spans.iter().filter(is_test);
    named.filter(|name| !NAMES.contains(*name)).map(|name| format!("there is no test {name}")).collect()
}

const CHECKS: [(&str, Check); 8] = [
    ("tests", unknown_tests),
    ("links", dead_links),
    ("paths", absent_paths),
    ("commands", unknown_commands),
    ("targets", unknown_targets),
    ("metrics", unknown_metrics),
    ("keys", unknown_keys),
    ("words", unknown_words),
];

#[test]
fn everything_that_a_page_names_exists() {
    let pages = pages();
    for name in
        [README, RUNBOOK, "deploy/README.md", "deploy/docs/upgrading.md", ".github/CONTRIBUTING.md", "CHANGELOG.md"]
    {
        assert!(pages.iter().any(|page| page.name == name), "{name} is no page");
    }
    let mut faults = Vec::new();
    for page in &pages {
        for (check, find) in CHECKS {
            faults.extend(find(page).into_iter().map(|fault| format!("{}: {check}: {fault}", page.name)));
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn each_check_of_the_pages_finds_what_is_wrong_and_nothing_else() {
    for (check, text, fault) in [
        ("links", "[a](operating.md) [b](../README.md) [c](#top) [`d`](alerts.md#aimpointlag)\n\n# Top\n", None),
        ("links", "[a](nowhere.md)", Some("there is no deploy/docs/nowhere.md")),
        ("links", "![a](nowhere.png)", Some("there is no deploy/docs/nowhere.png")),
        ("links", "[a](alerts.md#aimpointnothing)", Some("has no heading")),
        ("links", "[a](#nothing)", Some("has no heading")),
        ("links", "`[a](nowhere.md)`\n```\n[a](nowhere.md)\n```\n", None),
        ("tests", "`an_opt_out_is_not_forgotten`, `trigger_event_id`", None),
        ("tests", "`an_opt_out_is_not_forgoten`", Some("there is no test an_opt_out_is_not_forgoten")),
        ("paths", "`deploy/helm` and tests/tidy.rs.", None),
        ("paths", "`deploy/nothing.yaml`", Some("there is no deploy/nothing.yaml")),
        ("commands", "```sh\naimpoint models add model.onnx -c a.toml --version 3   # --nothing\n```\n", None),
        ("commands", "`aimpoint reference config` and `aimpoint.toml`, aimpoint nothing", None),
        ("commands", "`aimpoint rnu`", Some("there is no command aimpoint rnu")),
        ("commands", "`aimpoint models lsit`", Some("there is no command aimpoint models lsit")),
        ("commands", "`aimpoint check --ofline`", Some("aimpoint check has no --ofline")),
        ("commands", "`aimpoint reference cnofig`", Some("aimpoint reference has no cnofig")),
        ("commands", "```sh\ndocker run --rm -p 1:1 aimpoint dmeo\n```\n", Some("there is no command aimpoint dmeo")),
        ("commands", "`--create` and `--membres`", Some("nothing has a flag --membres")),
        ("commands", "`topics --craete`", Some("aimpoint topics has no --craete")),
        ("targets", "`make demo`, `make simulate SEEDS=3`, make nothing", None),
        ("targets", "```sh\nmake dmeo   # shows it\n```\n", Some("there is no target dmeo")),
        ("targets", "    make peers PERS=\"--kill\"\n", Some("make takes no PERS")),
        ("metrics", "`aimpoint_events_total`, aimpoint_commit_seconds_sum, `aimpoint_shadow_*`", None),
        ("metrics", "aimpoint_event_total", Some("there is no metric aimpoint_event_total")),
        ("metrics", "`aimpoint_shade_*`", Some("there is no metric aimpoint_shade_*")),
        (
            "keys",
            "`commit.interval`, `[[feature]]`, `[kafka.client]`, `delivery = \"at_least_once\"`, `--set app.name=a`",
            None,
        ),
        ("keys", "`metrics.tokenSecret`, `retention.ms`, `input.offset`, `aimpoint.v1.Event`, `model.onnx`", None),
        ("keys", "`AIMPOINT__COMMIT__INTERVAL=10ms` AIMPOINT__KAFKA__CLIENT__SASL_PASSWORD", None),
        ("keys", "`commit.intreval`", Some("there is nothing called commit.intreval")),
        ("keys", "`[[featrue]]`", Some("no section [[featrue]]")),
        ("keys", "`comit.interval = \"1s\"`", Some("there is no key comit.interval")),
        ("keys", "`delivrey = \"at_least_once\"`", Some("there is no key delivrey")),
        ("keys", "`\"group.protocl\" = \"consumer\"`", Some("there is no key group.protocl")),
        ("keys", "`metrics.tokenSecrte`", Some("there is nothing called metrics.tokenSecrte")),
        ("keys", "AIMPOINT__COMMIT__INTREVAL", Some("no key for AIMPOINT__COMMIT__INTREVAL")),
        ("keys", "```toml\n[[feature]]\nnmae = \"a\"\n```\n", Some("there is no key feature.nmae")),
        ("keys", "```toml\n[kafka.client]\n\"security.protocl\" = \"SSL\"\n```\n", Some("no setting security.protocl")),
        ("keys", "```toml\n[app\n```\n", Some("expected")),
        ("words", "`a transaction failed`, `kubectl get pods`, `Dead letters by reason`", None),
        ("words", "`a transaction was unlucky`", Some("nothing says")),
    ] {
        let (_, find) = CHECKS.iter().find(|(name, _)| *name == check).unwrap();
        let found = find(&Page::of("deploy/docs/page.md", text.to_owned()));
        match fault {
            None => assert_eq!(found, Vec::<String>::new(), "{check}: {text}"),
            Some(fault) => {
                assert!(found.len() == 1 && found[0].contains(fault), "{check}: {text}: {fault:?} is not in {found:?}");
            }
        }
    }
}

#[test]
fn the_readme_is_short_enough_to_be_read() {
    let readme = Page::read(README);
    let lines = readme.text.lines().count();
    assert!(lines < 200, "{README} has {lines} lines; the pages below deploy/docs have room");
    assert!(readme.text.contains("](deploy/docs/live-page.png)"), "{README} shows no picture");
    for command in ["make demo", "make test"] {
        assert!(readme.blocks.iter().any(|(_, block)| block.contains(command)), "{README} does not say {command}");
    }
}

/// Every page can be reached from the index.
#[test]
fn the_index_leads_to_every_page_and_the_readme_to_the_index() {
    let index = text("deploy/README.md");
    let pages = pages();
    let below: Vec<&str> = pages.iter().filter_map(|page| page.name.strip_prefix("deploy/")).collect();
    assert!(below.len() > 12, "{below:?}");
    for page in below.into_iter().filter(|page| *page != "README.md") {
        assert!(index.contains(&format!("]({page})")), "deploy/README.md does not lead to {page}");
    }
    assert!(text(README).contains("](deploy/README.md)"));
}

#[test]
fn the_page_of_exit_codes_has_each_of_them_and_no_other() {
    let page = text(EXIT_CODES);
    for (exit, meaning) in Exit::ALL {
        assert!(page.contains(&format!("\n| {} | {meaning} |", exit as u8)), "{exit:?} is missing in {EXIT_CODES}");
    }
    let row = Regex::new(r"(?m)^\| \d+ \|").unwrap();
    assert_eq!(row.find_iter(&page).count(), Exit::ALL.len(), "{EXIT_CODES} has a code that there is not");
}

#[test]
fn every_alert_has_an_entry_in_the_runbook_and_leads_there() {
    let runbook = text(RUNBOOK);
    let alerts = alerts();
    assert!(!alerts.is_empty());
    for alert in &alerts {
        let name = alert["alert"].as_str().unwrap();
        let heading = format!("\n## {name}\n");
        let (_, entry) = runbook.split_once(&heading).unwrap_or_else(|| panic!("{RUNBOOK} has no entry {name}"));
        let entry = entry.split("\n#").next().unwrap();
        for part in ["**Meaning.**", "**Check.**", "**Action.**"] {
            assert!(entry.contains(part), "{RUNBOOK}: {name} lacks {part}");
        }
        assert_eq!(alert["annotations"]["runbook"], format!("{RUNBOOK}#{}", name.to_lowercase()), "{name}");
        for part in ["summary", "description"] {
            assert!(alert["annotations"][part].is_string(), "{name}: {part}");
        }
    }
    // No entry describes a removed alert.
    for name in runbook.lines().filter_map(|line| line.strip_prefix("## Aimpoint")) {
        assert!(
            alerts.iter().any(|alert| alert["alert"] == format!("Aimpoint{name}")),
            "there is no alert Aimpoint{name}"
        );
    }
}

/// Alerts are named outside the runbook too.
#[test]
fn no_page_names_an_alert_that_there_is_not() {
    let named = Regex::new(r"\bAimpoint[A-Z][A-Za-z]+").unwrap();
    let alerts = alerts();
    for page in pages() {
        for name in named.find_iter(&page.text).map(|found| found.as_str()) {
            assert!(alerts.iter().any(|alert| alert["alert"] == name), "{}: there is no alert {name}", page.name);
        }
    }
}

/// Each defence is shown by tests that there are; a threat without one says what is left to the operator.
#[test]
fn every_defence_of_the_threat_model_names_tests_that_exist() {
    let sources: Vec<String> = ["src", "tests"].iter().flat_map(|folder| sources(&repository(folder))).collect();
    let is_test = |name: &str| sources.iter().any(|source| source.contains(&format!("fn {name}(")));
    let span = Regex::new("`([^`]+)`").unwrap();
    let page = text("deploy/docs/threat-model.md");
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| Who,"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    assert!(rows.len() > 20, "{rows:?}");
    for row in &rows {
        let [threat, _, tests, left] = row[..] else { panic!("{row:?} has not four columns") };
        let names: Vec<&str> = span.captures_iter(tests).map(|found| found.get(1).unwrap().as_str()).collect();
        assert!(!names.is_empty() || !left.is_empty(), "{threat}: neither a test nor a task of the operator");
        for name in names {
            assert!(is_test(name), "{threat}: there is no test {name}");
        }
    }
    assert!(!is_test("a_test_that_there_is_not_anywhere"));
}

/// The Rust sources of a folder, without this one.
fn sources(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|end| end == "rs") && !path.ends_with("deploy/docs.rs") {
            found.push(fs::read_to_string(path).unwrap());
        }
    }
    found
}

/// Reasons as they appear in headers and metrics.
#[test]
fn the_page_of_events_has_every_reason_of_a_dead_letter() {
    let page = text("deploy/docs/events.md");
    for reason in aimpoint::event::RejectReason::ALL {
        assert!(page.contains(&format!("\n| `{reason}` |")), "{reason} is missing");
    }
}
