//! Once the buffers have grown, an event of a known user allocates nothing, and served decisions take little more than their
//! bytes; the allocator itself counts.

#![allow(unsafe_code, reason = "an allocator is written in no other way")]

use aimpoint::{
    columns::Type,
    engine::{Partition, Partitions, Pipeline, PipelineSpec},
    event::{EventTime, Record},
    expression::Scope,
    inference::{FeatureMatrix, Model, ModelError, ModelInfo},
    proto::v1,
    serve::{Change, RecordReader, Store},
    sink::Outbox,
    status::Counts,
    targeting::{
        TargetingSpec,
        campaign::{CampaignSpec, Campaigns, Choice, Held, RowContext},
    },
    testkit::consent::{Tc, Vendors},
};
use prost::Message;
use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    fmt::Write,
};

thread_local! {
    /// How often this thread has requested memory, including reallocations.
    static ASKED: Cell<u64> = const { Cell::new(0) };
    /// The bytes that this thread has requested and not given back.
    static HELD: Cell<i64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: all calls are forwarded unchanged to the system's allocator; the counter is separate and does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED.set(ASKED.get() + 1);
        HELD.set(HELD.get() + layout.size() as i64);
        // SAFETY: the caller keeps the same contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ASKED.set(ASKED.get() + 1);
        HELD.set(HELD.get() + size as i64 - layout.size() as i64);
        // SAFETY: the caller keeps the same contract.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.set(HELD.get() - layout.size() as i64);
        // SAFETY: the caller keeps the same contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Sixteen features over several windows and tile widths, two segments, a flat decision.
const SPEC: &str = r#"
[time]
allowed_lateness = "10m"
[duplicates]
horizon = "10m"
max_ids = 16

[[feature]]
name = "views_5m"
aggregate = "count"
where = 'event_type == "view"'
window = "5m"
[[feature]]
name = "views_1h"
aggregate = "count"
where = 'event_type == "view"'
window = "1h"
[[feature]]
name = "views_1d"
aggregate = "count"
where = 'event_type == "view"'
window = "24h"
[[feature]]
name = "events_1m"
aggregate = "count"
window = "1m"
tile = "10s"
[[feature]]
name = "spent_1h"
aggregate = "sum"
value = "value"
window = "1h"
[[feature]]
name = "spent_1d"
aggregate = "sum"
where = 'event_type == "purchase" && item.category in ["shoes", "games"]'
value = "value"
window = "24h"
[[feature]]
name = "spent"
aggregate = "sum"
value = "value"
window = "forever"
[[feature]]
name = "dwell_mean"
aggregate = "mean"
value = "dwell_ms"
window = "1h"
[[feature]]
name = "cheapest"
aggregate = "min"
value = "value * 0.5"
window = "1h"
[[feature]]
name = "dearest"
aggregate = "max"
value = "value"
window = "24h"
[[feature]]
name = "last_value"
aggregate = "last"
value = "value"
window = "1h"
[[feature]]
name = "since"
aggregate = "recency"
[[feature]]
name = "since_purchase"
aggregate = "recency"
where = 'event_type == "purchase"'
window = "1h"
[[feature]]
name = "age"
aggregate = "age"
[[feature]]
name = "hour"
aggregate = "hour"
[[feature]]
name = "rate"
expression = "views_5m / (views_1h + 1.0)"

[[segment]]
id = "keen"
where = 'views_5m >= 3.0 && page.category.startsWith("sh")'
[[segment]]
id = "likely"
where = "score > 0.5 || spent_1d > 100.0"
[[segment]]
id = "member"
where = 'event_type == "purchase"'
exit = "spent_1h > 300.0"
duration = "3m"
[[segment]]
id = "other"
where = "views_5m >= 2.0"
duration = "1h"
unless = ["member"]

[decision]
format = "flat"
fields = { id = "decision_id", event = "trigger_event_id", user = "user_key", at = "occurred_at_ms", score = "score.raw", segments = "segments", model = "model.name" }
"#;

struct Mean(ModelInfo);

impl Model for Mean {
    fn info(&self) -> &ModelInfo {
        &self.0
    }

    fn score(&mut self, matrix: &FeatureMatrix, scores: &mut Vec<f32>) -> Result<(), ModelError> {
        scores.clear();
        scores.extend(matrix.values().chunks_exact(matrix.width()).map(|row| row[0] / (row[0] + row[1] + 1.0)));
        Ok(())
    }
}

const USERS: usize = 40;
const BATCH: usize = 500;
const PARTITIONS: usize = 2;

struct Rig {
    pipeline: Pipeline,
    partitions: Partitions,
    outbox: Outbox,
    counts: Counts,
    /// The consent strings of the events, if they have any.
    strings: Vec<String>,
    payload: String,
    number: usize,
}

/// What the pipeline does beside features and segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Setup {
    Plain,
    Model,
    /// With a model, in OpenRTB, and writing only what changes.
    OnChange,
    /// With a model and the consent gate, in this format.
    Consent(&'static str),
}

/// Strings that permit everything to vendor 755, and one that refuses it.
fn tc_strings() -> Vec<String> {
    let string = |number: usize| {
        let vendors = || Vendors::Field((1..=800).map(|id| id == 755 && number > 0 || id % 7 == number).collect());
        // The events begin in November 2023.
        let last_updated = 1_699_000_000 + number as u64 * 86_400;
        Tc { last_updated, vendor_consent: vendors(), vendor_interest: vendors(), ..Tc::default() }.text()
    };
    (0..7).map(string).collect()
}

impl Rig {
    fn new(setup: Setup) -> Self {
        let mut spec: PipelineSpec = toml::from_str(SPEC).expect("the specification is well formed");
        match setup {
            Setup::Plain | Setup::Model => {}
            Setup::OnChange => {
                spec.decision =
                    toml::from_str("format = \"openrtb\"\nprovider = { id = \"1\" }").expect("it is well formed");
                spec.emission = toml::from_str("on = \"change\"").expect("it is well formed");
            }
            Setup::Consent(format) => {
                spec.decision = toml::from_str(&format!("format = \"{format}\"")).expect("it is well formed");
                spec.consent =
                    toml::from_str("enabled = true\nvendor_id = 755\nwithout_law = []").expect("it is well formed");
            }
        }
        assert_eq!((spec.features.len(), spec.segments.len()), (16, 4));
        let mut pipeline = Pipeline::compile(&spec, "clicks").expect("the specification compiles");
        if setup != Setup::Plain {
            let features = pipeline.model_features();
            let info = ModelInfo { name: "mean".to_owned(), features, ..ModelInfo::default() };
            pipeline = pipeline.with_model(Box::new(Mean(info))).expect("the model fits");
        }
        let mut partitions = Partitions::default();
        (0..PARTITIONS as i32).for_each(|number| partitions.insert(number, Partition::new(0, 0, None)));
        let (outbox, counts) = (Outbox::default(), Counts::default());
        let strings = if matches!(setup, Setup::Consent(_)) { tc_strings() } else { Vec::new() };
        Self { pipeline, partitions, outbox, counts, strings, payload: String::new(), number: 0 }
    }

    /// Takes and runs this many events. Each user has one per minute, so that windows of every length advance.
    fn run(&mut self, events: usize) {
        let end = self.number + events;
        while self.number < end {
            self.outbox.clear();
            self.counts.clear();
            for _ in 0..BATCH.min(end - self.number) {
                let number = self.number;
                let user = number % USERS;
                let at = 1_700_000_000_000_i64 + number as i64 * (60_000 / USERS as i64) - (number % 7) as i64 * 10_000;
                let kind = ["view", "view", "click", "purchase"][number % 4];
                // Some events are duplicates.
                let id = if number % 50 == 49 && number > USERS { number - USERS } else { number };
                self.payload.clear();
                write!(
                    self.payload,
                    r#"{{"event_id":"e{id}","event_type":"{kind}","user_id":"user-{user}","occurred_at":{at},"value":{}.25,"dwell_ms":"{}","session_id":"unread","page":{{"url":"https://shop/{number}","category":["shoes","red"]}},"items":[{{"id":"i","category":"games"}}],"properties":{{"a":[1,2,{{"b":"c"}}]}}}}"#,
                    number % 90,
                    number % 1_000,
                )
                .expect("a string takes everything");
                if let Some(string) = self.strings.get(user % self.strings.len().max(1)) {
                    self.payload.pop();
                    write!(self.payload, r#","consent":{{"gdpr_applies":true,"tc_string":"{string}"}}}}"#)
                        .expect("a string takes everything");
                }
                let record = Record {
                    partition: (user % PARTITIONS) as i32,
                    offset: number as i64,
                    timestamp_ms: Some(at),
                    key: None,
                    payload: Some(self.payload.as_bytes()),
                    traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
                    erase: None,
                };
                self.pipeline.take(&record, &mut self.partitions, &mut self.outbox, &mut self.counts);
                self.number += 1;
            }
            self.pipeline.run(&mut self.partitions, EventTime(0), &mut self.outbox, &mut self.counts);
            assert_eq!(self.counts.dead_letters_total(), 0);
            let silent: u64 = self.counts.suppressed.iter().map(|(_, count)| count).sum();
            assert!((self.counts.decisions + silent) as usize > BATCH * 9 / 10 && self.counts.fallbacks == 0);
        }
    }
}

#[test]
fn an_event_of_a_known_user_allocates_nothing() {
    const EVENTS: usize = 100_000;
    let setups = [Setup::Plain, Setup::Model, Setup::OnChange, Setup::Consent("protobuf"), Setup::Consent("json")];
    for setup in setups {
        let mut rig = Rig::new(setup);
        // Longer than the longest window, so that as many tiles are dropped as added.
        rig.run((USERS * 24 * 60 * 11 / 10).next_multiple_of(BATCH));
        let before = ASKED.get();
        assert!(before > 100, "growing the buffers is counted: {before}");
        rig.run(EVENTS);
        let asked = ASKED.get() - before;
        println!("{setup:?}: {asked} allocations for {EVENTS} events");
        assert!(asked < EVENTS as u64 / 100, "{setup:?}: {asked} allocations for {EVENTS} events");
    }
}

#[test]
fn choosing_campaigns_allocates_nothing() {
    const ROWS: usize = 64;
    let campaign = |number: usize| -> CampaignSpec {
        let text = format!(
            "id = \"c{number}\"\ncurrency = \"EUR\"\nvalue = \"value\"\naction = \"click\"\nprobability = \"score\"\nfloor = 1\nsegments = {{ any = [\"a\", \"b\"] }}\nwhere = 'value > {}.0'\nholdout = 0.2\ndayparts = [\"08:00-20:00\"]\nzone = \"Europe/Berlin\"",
            number % 4
        );
        toml::from_str(&text).expect("the campaign is well formed")
    };
    let specs: Vec<CampaignSpec> = (0..90).map(campaign).collect();
    let (mut scope, mut faults) = (Scope::default(), Vec::new());
    let inputs = ["score", "value"].map(|name| scope.declare(name, Type::Double).expect("the names differ"));
    let limits = TargetingSpec::default();
    let mut campaigns = Campaigns::compile(&specs, &limits, &["a", "b", "c"], &[], &[], &mut scope, &mut faults);
    assert_eq!(faults, []);
    let mut columns = scope.columns();
    for (slot, most) in inputs.into_iter().zip([1.0, 5.0]) {
        columns.get_mut(slot).doubles_mut().extend((0..ROWS).map(|row| row as f64 / ROWS as f64 * most));
    }
    let (mut held, mut choice) = (Held::new(3), Choice::default());
    let mut run = |campaigns: &mut Campaigns| {
        campaigns.run(&mut columns, ROWS);
        for row in 0..ROWS {
            held.clear();
            held.insert(row % 3);
            let time = EventTime(1_772_409_600_000_000 + row as i64 * 1_800_000_000);
            let context = RowContext {
                time,
                user_hash: row as u64 * 7_919,
                segments: &held,
                suppressed: None,
                decision: row as u64,
                now: 0,
            };
            campaigns.decide(&columns, row, &context, &mut choice);
        }
    };
    run(&mut campaigns);
    let before = ASKED.get();
    run(&mut campaigns);
    assert_eq!(ASKED.get() - before, 0);
    let chosen: u64 = campaigns.tallies().iter().map(|tally| tally.chosen).sum();
    let considered: u64 = campaigns.tallies().iter().map(|tally| tally.considered).sum();
    assert!(chosen > 10 && considered > 2 * chosen, "{chosen} of {considered}");
}

/// A decision of about this many bytes in Protobuf.
fn served(user: &str, number: usize, bytes: usize) -> Vec<u8> {
    let mut it = v1::Decision {
        schema_version: 1,
        decision_id: format!("shop:clickstream-3-{number}"),
        user_key: user.to_owned(),
        decided_at: 1_772_409_600_000_000 + number as i64,
        expires_at: 1_772_409_600_000_000,
        key_type: v1::KeyType::Person.into(),
        ..v1::Decision::default()
    };
    let rest = bytes.saturating_sub(it.encoded_len() + 3);
    it.feature_set_version = "f".repeat(rest);
    it.encode_to_vec()
}

#[test]
fn a_decision_in_json_is_read_without_a_tree_of_it() {
    let segment = |number: usize| v1::Segment {
        id: format!("60{number}"),
        name: format!("Segment {number}"),
        segtax: 4,
        entered_at: 1_772_409_600_000_000,
        ..v1::Segment::default()
    };
    let decision = v1::Decision {
        decision_id: "shop:clickstream-3-7".to_owned(),
        user_key: "u7".to_owned(),
        key_type: v1::KeyType::Person.into(),
        decided_at: 1_772_409_600_000_000,
        expires_at: 1_772_413_200_000_000,
        segments: (0..10).map(segment).collect(),
        model: Some(v1::Model { name: "propensity".to_owned(), version: "7".to_owned(), ..v1::Model::default() }),
        ..v1::Decision::default()
    };
    let json = serde_json::to_string(&decision).unwrap();
    let (bytes, json) = (decision.encode_to_vec(), json.replacen('{', "{\"status_reason\":null,", 1));
    let asked = |read: &mut dyn FnMut()| {
        // Once before, so that buffers have grown.
        read();
        let before = ASKED.get();
        read();
        ASKED.get() - before
    };
    let mut reader = RecordReader::new("shop");
    let mut read = |payload: &[u8]| {
        assert!(matches!(reader.read(Some(b"u7"), Some(payload)), Ok((_, Change::Kept(_)))));
    };
    let of_protobuf = asked(&mut || read(&bytes));
    let of_json = asked(&mut || read(json.as_bytes()));
    let of_tree = asked(&mut || drop(serde_json::from_str::<serde_json::Value>(&json).unwrap()));
    println!("requests for memory: {of_protobuf} for Protobuf, {of_json} for JSON, {of_tree} for a tree of it alone");
    // A tree would come on top of what the message itself needs. JSON also has whole numbers as texts.
    assert!(of_json < of_tree, "{of_tree} for a tree, {of_json} without");
}

#[test]
fn decisions_in_memory_take_at_most_three_tenths_more_than_their_bytes() {
    // From just above the size at which the tables grow to just below it.
    for (users, bytes) in [(100_000, 200), (116_000, 200), (100_000, 1_000)] {
        let before = HELD.get();
        let store = Store::default();
        let mut reader = RecordReader::new("shop");
        let mut whole = vec![0; users];
        // Each user is decided about once in order, and then at random, with other sizes.
        let again = (0..users * 2).map(|number| number.wrapping_mul(7_919) % users);
        for (number, user) in (0..users).chain(again).enumerate() {
            let key = format!("0190f5a2-7c3e-7b1d-9a4f-{user:012}");
            let payload = served(&key, number, bytes + number % 64);
            let (key, change) = reader.read(Some(key.as_bytes()), Some(&payload)).expect("it is a decision");
            assert!(matches!(change, Change::Kept(_)));
            store.apply(0, key, change, 0);
            whole[user] = payload.len();
        }
        let (taken, sizes) = (HELD.get() - before - (users * size_of::<usize>()) as i64, store.sizes());
        let share = taken as f64 / whole.iter().sum::<usize>() as f64;
        println!("{users} users of {bytes} bytes: {share:.3} of their bytes, {} said", sizes.bytes);
        assert_eq!(sizes.users, users);
        assert!(share < 1.3, "{users} users of {bytes} bytes: {share}");
        assert!(
            (sizes.bytes as f64 / taken as f64 - 1.0).abs() < 0.02,
            "{} bytes are said, {taken} are taken",
            sizes.bytes
        );
    }
}
