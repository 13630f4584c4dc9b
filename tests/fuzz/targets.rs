//! What is fuzzed, by name: a decoder, inputs to begin with, and words that it knows.

use crate::seeds;
use aimpoint::{
    columns::Type,
    config::Config,
    control::{AudienceReport, ControlSpec, DecisionRecord, Outcome, State},
    engine::{Partition, Partitions, Pipeline, PipelineSpec},
    event::{EventTime, PseudonymSpec, Record, UserKeys},
    expression::{Program, Scope},
    inference::ModelFiles,
    privacy::consent::{ConsentGate, RememberedConsent, SectionIds, Signals},
    profile::Layout,
    proto::v1,
    serve::{self, Enricher, Mutator, RecordReader, ServeProviderSpec, ServeSpec, Store},
    sink::Outbox,
    state::{Mark, SnapshotReader, decode_erasure, decode_profile},
    status::Counts,
    targeting::policy::Policy,
};
use prost::Message;
use std::{fs, hint::black_box, io::Cursor, process};

/// Takes one input after the other.
pub(crate) type Decoder = Box<dyn FnMut(&[u8])>;

/// A decoder of data that others write.
pub(crate) struct Target {
    pub(crate) name: &'static str,
    pub(crate) decoder: fn() -> Decoder,
    pub(crate) seeds: fn() -> Vec<Vec<u8>>,
    pub(crate) words: &'static [&'static str],
}

/// All of them.
pub(crate) const TARGETS: &[Target] = &[
    Target { name: "json", decoder: || events(""), seeds: seeds::events_json, words: JSON },
    Target { name: "mapping", decoder: || events(MAPPING), seeds: seeds::events_json, words: JSON },
    Target {
        name: "protobuf",
        decoder: || events("[input]\nformat = \"protobuf\"\n"),
        seeds: seeds::events_protobuf,
        words: &[],
    },
    Target {
        name: "access-log",
        decoder: || events("[input]\nformat = \"access_log\"\nsecret = \"a key for tests alone\"\n"),
        seeds: seeds::access_log,
        words: &[
            "\"",
            "\\x",
            "[",
            "]",
            " - - ",
            "HTTP/1.1",
            "\\\"",
            "::1",
            "255.255.255.255",
            "99/Jan/9999:99:99:99 +9999",
        ],
    },
    Target { name: "erase-request", decoder: erase_requests, seeds: seeds::erase_requests, words: &[] },
    Target { name: "changelog", decoder: changelog, seeds: seeds::changelog_records, words: &[] },
    Target { name: "layout", decoder: layout, seeds: seeds::layouts, words: &[] },
    Target { name: "snapshot", decoder: snapshot, seeds: seeds::snapshots, words: &[] },
    Target {
        name: "metadata",
        decoder: || Box::new(metadata),
        seeds: seeds::marks,
        words: &["v4", "v3", ";", ",", ":", "-", "0123456789abcdef"],
    },
    Target { name: "expression", decoder: || Box::new(expression), seeds: seeds::expressions, words: EXPRESSION },
    Target {
        name: "configuration",
        decoder: configuration,
        seeds: || vec![include_bytes!("../../deploy/demo/aimpoint.toml").to_vec()],
        words: &[
            "[",
            "]",
            "=",
            "\"",
            "'''",
            "[[feature]]",
            "[[campaign]]",
            "aggregate = ",
            "where = ",
            "\"1h\"",
            "nan",
            "{",
        ],
    },
    Target {
        name: "onnx",
        decoder: onnx,
        seeds: seeds::models,
        words: &["location", "../", "/", "offset", "length", "ZipMap", "main_graph"],
    },
    Target {
        name: "consent",
        decoder: consent,
        seeds: seeds::consents,
        words: &["~", ".", "DBAA", "BVVV", "1YNN", "C", "-", "_"],
    },
    Target { name: "bid-request", decoder: bid_requests, seeds: seeds::bids, words: JSON },
    Target { name: "grpc", decoder: grpc, seeds: seeds::grpc_requests, words: &[] },
    Target { name: "outcome", decoder: || Box::new(outcome), seeds: seeds::outcomes, words: JSON },
    Target { name: "serve-snapshot", decoder: || Box::new(serve_snapshot), seeds: seeds::serve_snapshots, words: &[] },
    Target { name: "decision", decoder: decisions, seeds: seeds::decision_records, words: JSON },
    Target { name: "audience", decoder: || Box::new(audience), seeds: seeds::audiences, words: JSON },
    Target { name: "policy", decoder: || Box::new(policy), seeds: seeds::policies, words: JSON },
    Target { name: "control-state", decoder: || Box::new(control_state), seeds: seeds::control_records, words: JSON },
];

const JSON: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "\"",
    ":",
    ",",
    "null",
    "true",
    "1e999",
    "-0.0",
    "\\u0000",
    "\\ud800",
    "\"event_id\"",
    "\"user_id\"",
    "\"occurred_at\"",
    "\"event_type\"",
    "\"value\"",
    "\"properties\"",
    "\"user\"",
    "\"regs\"",
    "\"device\"",
    "\"eids\"",
    "\"campaign\"",
    "\"outcome_id\"",
    "\"decision_id\"",
    "\"version\"",
    "9999-12-31T23:59:59Z",
    "1970-01-01",
];

const EXPRESSION: &[&str] = &[
    "(",
    ")",
    "&&",
    "||",
    "!",
    "==",
    "<=",
    "+",
    "-",
    "*",
    "/",
    "%",
    "?",
    ":",
    "in [",
    "]",
    "\"a\"",
    "1.5",
    "9223372036854775807",
    "number",
    "whole",
    "text",
    "flag",
    "size(",
    ".matches(\"(a+)+\")",
    ".startsWith(",
    ".orValue(",
    "math.log1p(",
    "r'''",
    "b\"",
];

const MAPPING: &str = r#"
[input.fields]
event_id = "meta.id"
user_id = { path = "user.id" }
occurred_at = { path = "meta.at", unit = "s" }
[[field]]
name = "color"
type = "string"
path = "properties.color"
[[field]]
name = "size"
type = "double"
path = "properties.size"
"#;

/// What events are decoded for: features of every kind, a segment, and dead letters.
const PIPELINE: &str = r#"
[time]
allowed_lateness = "1h"
[duplicates]
horizon = "1h"
max_ids = 16
[[feature]]
name = "views"
aggregate = "count"
window = "1h"
[[feature]]
name = "spent"
aggregate = "sum"
value = "value"
window = "24h"
[[feature]]
name = "types"
aggregate = "distinct"
value = "event_type"
window = "1h"
[[segment]]
id = "keen"
where = "views > 3.0"
"#;

pub(crate) fn pipeline(more: &str) -> Pipeline {
    let spec: PipelineSpec = toml::from_str(&format!("{more}\n{PIPELINE}")).unwrap();
    Pipeline::compile(&spec, "clicks").unwrap()
}

/// A partition that takes each input as an event; every event has one outcome.
fn events(more: &str) -> Decoder {
    let mut pipeline = pipeline(more);
    let (mut partitions, mut outbox, mut counts) = (Partitions::default(), Outbox::default(), Counts::default());
    partitions.insert(0, Partition::new(0, 0, None));
    let mut offset = 0;
    Box::new(move |input| {
        let record = Record {
            offset,
            timestamp_ms: Some(1_700_000_000_000),
            key: Some(b"ann"),
            payload: Some(input),
            ..Record::default()
        };
        offset += 1;
        pipeline.take(&record, &mut partitions, &mut outbox, &mut counts);
        pipeline.run(&mut partitions, EventTime(0), &mut outbox, &mut counts);
        let outcomes = counts.decisions + counts.duplicates + counts.suppressed_total() + counts.dead_letters_total();
        assert_eq!(counts.events, outcomes, "every event has one outcome: {counts:?}");
        outbox.clear();
    })
}

fn erase_requests() -> Decoder {
    let mut pipeline = pipeline("");
    let (mut partitions, mut outbox, mut counts) = (Partitions::default(), Outbox::default(), Counts::default());
    partitions.insert(0, Partition::new(0, 0, None));
    let mut offset = 0;
    Box::new(move |input| {
        let (key, erase) = input.split_at(input.len() / 2);
        let record = Record {
            offset,
            timestamp_ms: Some(1_700_000_000_000),
            key: Some(key),
            erase: Some(erase),
            ..Record::default()
        };
        offset += 1;
        pipeline.take(&record, &mut partitions, &mut outbox, &mut counts);
        pipeline.run(&mut partitions, EventTime(0), &mut outbox, &mut counts);
        outbox.clear();
    })
}

fn split(input: &[u8]) -> (&[u8], &[u8]) {
    let Some((length, rest)) = input.split_first() else { return (&[], &[]) };
    rest.split_at((*length as usize).min(rest.len()))
}

fn changelog() -> Decoder {
    let pipeline = pipeline("");
    Box::new(move |input| {
        let (key, payload) = split(input);
        // Whatever the result, it has to be one.
        drop(decode_profile(key, payload));
        black_box(decode_erasure(key, payload).is_ok());
        let mut partitions = Partitions::default();
        let mark = Mark { replay_from: 5, ..Mark::default() };
        partitions.insert(0, Partition::new(5, 9, None).restoring(mark, 0));
        let payload = (!payload.is_empty()).then_some(payload);
        partitions.restore(&Record { key: Some(key), payload, ..Record::default() }, pipeline.profile());
        black_box(partitions.restored(0, pipeline.profile()));
    })
}

fn layout() -> Decoder {
    let pipeline = pipeline("");
    Box::new(move |input| {
        if let Some(layout) = Layout::decode(input) {
            let again = Layout::decode(&layout.encode()).expect("what it writes can be read");
            // The id is that of the bytes as received.
            assert_eq!(layout.encode(), again.encode());
            pipeline.layout().kept_of(&layout);
            pipeline.layout().holds(&layout);
        }
    })
}

fn snapshot() -> Decoder {
    let layout = pipeline("").layout().id().to_owned();
    Box::new(move |input| {
        let opened = SnapshotReader::open(Box::new(Cursor::new(with_checksums(input))), 0, &layout, i64::MAX);
        let Ok(mut reader) = opened else { return };
        while reader.next(|key, record| drop(decode_profile(key, record))).is_ok_and(|has_more| has_more) {}
    })
}

fn metadata(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Some((mark, layout)) = Mark::parse(text) {
        let written = mark.metadata(layout);
        assert!(Mark::parse(&written).is_some(), "what it writes can be read: {written}");
    }
}

fn expression(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let mut scope = Scope::default();
    let known = [("number", Type::Double), ("whole", Type::Int), ("text", Type::String), ("flag", Type::Bool)];
    let slots = known.map(|(name, ty)| scope.declare(name, ty).expect("each name is new"));
    let mut program = Program::default();
    if program.add(&mut scope, text, None).is_ok() {
        let mut columns = scope.columns();
        for slot in slots {
            columns.get_mut(slot).resize(3);
        }
        program.run(&mut columns, 3);
    }
}

/// A file of this process for inputs of decoders that read files.
fn scratch(name: &str) -> std::path::PathBuf {
    let folder = std::env::temp_dir().join(format!("aimpoint-fuzz-{}", process::id()));
    fs::create_dir_all(&folder).unwrap();
    folder.join(name)
}

fn configuration() -> Decoder {
    let path = scratch("aimpoint.toml");
    Box::new(move |input| {
        fs::write(&path, input).unwrap();
        match Config::load(Some(&path), std::iter::empty(), &[]) {
            Ok((config, _)) => drop(config.shown()),
            Err(error) => drop(error.to_string()),
        }
    })
}

fn onnx() -> Decoder {
    let path = scratch("model.onnx");
    Box::new(move |input| {
        fs::write(&path, input).unwrap();
        if let Ok(files) = ModelFiles::read(&path, 1 << 20) {
            drop(files.sha256());
        }
    })
}

const CONSENT: &str = "[consent]\nenabled = true\nvendor_id = 123\nwithout_law = [\"emit\"]\n";

fn serve_spec() -> ServeSpec {
    toml::from_str(CONSENT).unwrap()
}

fn consent() -> Decoder {
    let rules = serve_spec().rules(&mut Vec::new()).expect("consent is checked");
    let mut gate = ConsentGate::new(rules);
    Box::new(move |input| {
        let Ok(text) = std::str::from_utf8(input) else { return };
        let at = 1_780_000_000_000_000;
        for signals in [
            Signals { gdpr: Some(true), tc_string: text, country: "DE", ..Signals::default() },
            Signals {
                gpp: text,
                gpp_sid: SectionIds::new([2, 7, 8, 9]),
                country: "US",
                region: "CA",
                ..Signals::default()
            },
            Signals { us_privacy: text, country: "US", ..Signals::default() },
        ] {
            let remembered = gate.observe(&signals, at);
            gate.decide(&signals, &remembered, at);
            gate.decide(&signals, &RememberedConsent::default(), at);
        }
    })
}

fn bid_requests() -> Decoder {
    let spec = serve_spec();
    let rules = spec.rules(&mut Vec::new());
    let provider = ServeProviderSpec { id: String::new(), name: "shop.example".to_owned() };
    let mut enricher = Enricher::new(&provider, spec.identity, UserKeys::new(&PseudonymSpec::default(), false), rules);
    let store = store();
    let mut out = Vec::new();
    Box::new(move |input| {
        out.clear();
        let Ok(text) = std::str::from_utf8(input) else { return };
        if enricher.enrich(&store, text, 1_780_000_000_000_000, &mut out).is_ok() {
            let was: Result<serde_json::Value, _> = serde_json::from_str(text);
            let is: Result<serde_json::Value, _> = serde_json::from_slice(&out);
            // It looks at parts alone, so it may accept what is wrong elsewhere; but it breaks nothing.
            assert!(was.is_err() || is.is_ok(), "the answer is no JSON: {}", String::from_utf8_lossy(&out));
        }
    })
}

/// The decisions that requests are about.
pub(crate) fn store() -> Store {
    let store = Store::default();
    let mut reader = RecordReader::new("shop");
    for (key, payload) in [("ann", seeds::decision()), ("bob", seeds::decision())] {
        let payload = v1::Decision { user_key: key.to_owned(), ..payload }.encode_to_vec();
        let (key, change) = reader.read(Some(key.as_bytes()), Some(&payload)).unwrap();
        store.apply(0, key, change, 0);
    }
    store
}

fn grpc() -> Decoder {
    let spec = serve_spec();
    let rules = spec.rules(&mut Vec::new());
    let mut mutator = Mutator::new("s1", spec.identity, UserKeys::new(&PseudonymSpec::default(), false), rules);
    let store = store();
    Box::new(move |input| {
        black_box(mutator.propose_for(&store, input, 1_780_000_000_000_000));
    })
}

/// Snapshots with the right checksums: a mutation would get no further than to one that is wrong.
fn with_checksums(input: &[u8]) -> Vec<u8> {
    // Blocks follow the first eight bytes: length, checksum, and the block.
    let (mut bytes, mut at) = (input.to_vec(), 8);
    while let Some(length) = bytes.get(at..at + 4) {
        let begin = at + 12;
        let end = begin + u32::from_le_bytes(length.try_into().expect("four bytes")) as usize;
        let Some(block) = bytes.get(begin..end) else { break };
        let checksum = rapidhash::v3::rapidhash_v3(block);
        bytes[at + 4..begin].copy_from_slice(&checksum.to_le_bytes());
        at = end;
    }
    bytes
}

fn serve_snapshot(input: &[u8]) {
    let store = Store::default();
    if let Ok(reader) = serve::SnapshotReader::open(&with_checksums(input)[..]) {
        drop(reader.read_into(&store));
        // What was restored is looked at as a bidder does.
        black_box(serve::write_snapshot(&store, &seeds::snapshot_head(), &mut Vec::new()).is_ok());
    }
}

fn outcome(input: &[u8]) {
    drop(Outcome::read(Some(input)));
}

fn decisions() -> Decoder {
    let mut reader = RecordReader::new("shop");
    Box::new(move |input| {
        drop(DecisionRecord::read(input));
        black_box(reader.read(Some(b"ann"), Some(input)).is_ok());
    })
}

fn audience(input: &[u8]) {
    drop(AudienceReport::read(input));
}

fn policy(input: &[u8]) {
    drop(Policy::parse(input));
}

fn control_state(input: &[u8]) {
    // Lines of key, tab and value.
    let text = String::from_utf8_lossy(input);
    let records = text.lines().map(|line| {
        let (key, value) = line.split_once('\t').unwrap_or((line, ""));
        (key.to_owned(), (!value.is_empty()).then(|| value.as_bytes().to_vec()))
    });
    drop(State::restore("shop", &ControlSpec::default(), Vec::new(), records));
}
