//! What does it cost to decode an event in each input format?
//!
//! A good answer is well below a microsecond, and for a canonical event with mapped names at most a tenth more than
//! with its own. Six fields are read in addition to user, type, time and id, as features would. Events of each producer
//! have that producer's usual shape and size, so the table shows bytes next to times. There are 100,000 events, each
//! different from the previous one; the best of several rounds counts. The canonical event is also decoded with pseudonyms: what
//! they add is a keyed hash of the user's id, and should be well below what an event costs in the pipeline. Its id is a UUID,
//! which is not hashed. `cargo test` runs a small version to keep the bench working.

#![expect(clippy::print_stdout, reason = "a bench prints its figure")]

use aimpoint::{
    event::{Decoder, EventBatch, FieldSpec, Fields, InputSpec, PseudonymSpec, Pseudonyms, Record, TimeSpec},
    expression::Scope,
    proto::v1,
};
use prost::Message;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use serde::Deserialize;
use std::{hint::black_box, time::Instant};

const BATCH: usize = 512;
const READ: [&str; 6] = ["event_type", "value", "dwell_ms", "page.url", "session_id", "item.id"];
const AGENTS: [&str; 3] = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
];

#[derive(Deserialize)]
struct Sections {
    #[serde(default)]
    input: InputSpec,
    #[serde(default)]
    field: Vec<FieldSpec>,
    #[serde(default)]
    identity: PseudonymSpec,
}

/// The content of an event, independent of its format.
struct Facts {
    number: usize,
    user: u32,
    kind: &'static str,
    sku: u32,
    cents: u32,
    dwell: u32,
    millis: i64,
    agent: &'static str,
}

/// A format: its name, its configuration, and its writer.
type Form = (&'static str, &'static str, fn(&Facts) -> Vec<u8>);

const FORMS: &[Form] = &[
    ("canonical json", "", canonical),
    ("the same under other names", MAPPED, mapped),
    ("snowplow", "[input]\npreset = \"snowplow\"", snowplow),
    ("segment", "[input]\npreset = \"segment\"", segment),
    ("ga4", "[input]\npreset = \"ga4\"", ga4),
    ("amplitude", "[input]\npreset = \"amplitude\"", amplitude),
    ("protobuf", "[input]\nformat = \"protobuf\"", protobuf),
    ("access log", "[input]\nformat = \"access_log\"\nsecret = \"0123456789abcdef\"", access_log),
    (
        "access log, bots excluded",
        "[input]\nformat = \"access_log\"\nsecret = \"0123456789abcdef\"\nbots = \"exclude\"",
        access_log,
    ),
    ("several events a record", "[input]\nunpack = \"events\"", several),
    ("canonical json with pseudonyms", PSEUDONYMS, canonical),
    ("several events a record with pseudonyms", SEVERAL_PSEUDONYMS, several),
];

const PSEUDONYMS: &str = "[identity]\npseudonymise = true\nkey = \"0123456789abcdef0123456789abcdef\"\n";
const SEVERAL_PSEUDONYMS: &str =
    "[input]\nunpack = \"events\"\n[identity]\npseudonymise = true\nkey = \"0123456789abcdef0123456789abcdef\"\n";

/// How many events a multi-event record contains.
const SEVERAL: usize = 10;

const MAPPED: &str = r#"
    [input.fields]
    event_id = "uuid_here"
    event_type = "what_it_is"
    occurred_at = { path = "happened_at", unit = "ms" }
    user_id = "uid_abc"
    session_id = "sess_abcde"
    "page.url" = "site.ref"
    "item.id" = "goods.id"
    value = "price"
    dwell_ms = "dur_msec"
"#;

fn canonical(it: &Facts) -> Vec<u8> {
    let Facts { number, user, kind, sku, cents, dwell, millis, .. } = it;
    let value = f64::from(*cents) / 100.0;
    format!(r#"{{"event_id":"4aae6dff-9d92-4c83-8001-{number:012}","user_id":"u{user:07}","event_type":"{kind}","session_id":"s{user:07}","page":{{"url":"https://shop.example/p/{sku}"}},"items":[{{"id":"sku-{sku:06}"}}],"occurred_at":{millis},"value":{value},"dwell_ms":{dwell}}}"#).into_bytes()
}

fn mapped(it: &Facts) -> Vec<u8> {
    let text = String::from_utf8(canonical(it)).expect("it is text");
    let names = [
        ("\"event_id\"", "\"uuid_here\""),
        ("\"user_id\"", "\"uid_abc\""),
        ("\"event_type\"", "\"what_it_is\""),
        ("\"session_id\"", "\"sess_abcde\""),
        ("\"page\":{\"url\"", "\"site\":{\"ref\""),
        ("\"items\"", "\"goods\""),
        ("\"occurred_at\"", "\"happened_at\""),
        ("\"value\"", "\"price\""),
        ("\"dwell_ms\"", "\"dur_msec\""),
    ];
    names.iter().fold(text, |text, (from, to)| text.replace(from, to)).into_bytes()
}

fn date(millis: i64) -> String {
    jiff::Timestamp::from_millisecond(millis).expect("a time of our days").to_string()
}

fn snowplow(it: &Facts) -> Vec<u8> {
    let Facts { number, user, kind, sku, cents, millis, agent, .. } = it;
    let (at, value) = (date(*millis), f64::from(*cents) / 100.0);
    format!(r#"{{"app_id":"shop","platform":"web","etl_tstamp":"{at}","collector_tstamp":"{at}","dvce_created_tstamp":"{at}","event":"unstruct","event_id":"4aae6dff-9d92-4c83-8001-{number:012}","name_tracker":"sp1","v_tracker":"js-3.24.0","v_collector":"ssc-3.2.0","v_etl":"snowplow-enrich-4.1.0","user_id":"u{user:07}","user_ipaddress":"192.0.2.7","domain_userid":"bd77f0c9-58ef-4f13-9a1c-0000{user:08}","domain_sessionidx":3,"network_userid":"ecdff4d0-9175-40ac-a8bb-325c49733607","geo_country":"DE","geo_region":"BE","page_url":"https://shop.example/p/{sku}","page_title":"A thing to buy","page_referrer":"https://search.example/","page_urlscheme":"https","page_urlhost":"shop.example","page_urlport":443,"page_urlpath":"/p/{sku}","tr_total":{value},"ti_sku":"sku-{sku:06}","useragent":"{agent}","br_lang":"de","br_cookies":true,"br_viewwidth":1280,"br_viewheight":720,"os_timezone":"Europe/Berlin","domain_sessionid":"s{user:07}","derived_tstamp":"{at}","event_vendor":"com.acme","event_name":"{kind}","event_format":"jsonschema","event_version":"1-0-0"}}"#).into_bytes()
}

fn segment(it: &Facts) -> Vec<u8> {
    let Facts { number, user, kind, sku, cents, millis, agent, .. } = it;
    let (at, value) = (date(*millis), f64::from(*cents) / 100.0);
    format!(r#"{{"anonymousId":"23adfd82-aa0f-45a7-a756-{user:012}","channel":"browser","context":{{"campaign":{{"source":"mail","medium":"email","name":"spring"}},"ip":"192.0.2.7","library":{{"name":"analytics.js","version":"2.11.1"}},"locale":"de-DE","page":{{"path":"/p/{sku}","referrer":"","search":"","title":"A thing to buy","url":"https://shop.example/p/{sku}"}},"sessionId":"s{user:07}","userAgent":"{agent}"}},"event":"{kind}","integrations":{{}},"messageId":"ajs-4aae6dff-{number:012}","originalTimestamp":"{at}","properties":{{"currency":"EUR","products":[{{"product_id":"sku-{sku:06}","price":{value},"quantity":1}}],"revenue":{value}}},"receivedAt":"{at}","sentAt":"{at}","timestamp":"{at}","type":"track","userId":"u{user:07}","version":2}}"#).into_bytes()
}

fn ga4(it: &Facts) -> Vec<u8> {
    let Facts { user, kind, sku, cents, dwell, millis, .. } = it;
    let value = f64::from(*cents) / 100.0;
    format!(r#"{{"event_date":"20260101","event_timestamp":"{millis}000","event_name":"{kind}","event_params":[{{"key":"page_location","value":{{"string_value":"https://shop.example/p/{sku}"}}}},{{"key":"ga_session_id","value":{{"int_value":"{user}"}}}},{{"key":"engagement_time_msec","value":{{"int_value":"{dwell}"}}}},{{"key":"page_title","value":{{"string_value":"A thing to buy"}}}}],"event_bundle_sequence_id":"77","user_id":"u{user:07}","user_pseudo_id":"{user}.1767225600","device":{{"category":"mobile","operating_system":"iOS","language":"de-de"}},"geo":{{"country":"Germany","region":"Berlin"}},"traffic_source":{{"name":"(direct)","medium":"(none)","source":"(direct)"}},"stream_id":"1","platform":"WEB","ecommerce":{{"purchase_revenue":{value}}},"items":[{{"item_id":"sku-{sku:06}","item_name":"A thing","item_category":"Things","price":{value},"quantity":"1"}}]}}"#).into_bytes()
}

fn amplitude(it: &Facts) -> Vec<u8> {
    let Facts { number, user, kind, sku, cents, millis, .. } = it;
    let value = f64::from(*cents) / 100.0;
    format!(r#"{{"app":1,"device_id":"23adfd82-aa0f-45a7-a756-{user:012}","user_id":"u{user:07}","insert_id":"4aae6dff-9d92-4c83-8001-{number:012}","event_id":7,"session_id":{millis},"event_type":"{kind}","time":{millis},"event_properties":{{"page":"https://shop.example/p/{sku}","color":"blue"}},"user_properties":{{"plan":"basic"}},"platform":"Web","os_name":"iOS","country":"Germany","region":"Berlin","language":"German","productId":"sku-{sku:06}","price":{value},"quantity":1,"revenue":{value}}}"#).into_bytes()
}

fn protobuf(it: &Facts) -> Vec<u8> {
    let Facts { number, user, kind, sku, cents, dwell, millis, .. } = it;
    let event = v1::Event {
        event_id: format!("4aae6dff-9d92-4c83-8001-{number:012}"),
        user_id: format!("u{user:07}"),
        event_type: (*kind).to_owned(),
        session_id: format!("s{user:07}"),
        page: Some(v1::Page { url: format!("https://shop.example/p/{sku}"), ..v1::Page::default() }),
        items: vec![v1::Item { id: format!("sku-{sku:06}"), ..v1::Item::default() }],
        occurred_at: millis * 1_000,
        value: Some(f64::from(*cents) / 100.0),
        dwell_ms: Some((*dwell).into()),
        ..v1::Event::default()
    };
    event.encode_to_vec()
}

fn access_log(it: &Facts) -> Vec<u8> {
    let Facts { user, sku, cents, millis, agent, .. } = it;
    let time = jiff::Timestamp::from_millisecond(*millis).expect("a time of our days").strftime("%d/%b/%Y:%H:%M:%S %z");
    format!(
        r#"192.0.2.{} - u{user:07} [{time}] "GET /p/{sku} HTTP/1.1" 200 {cents} "https://search.example/" "{agent}""#,
        user % 250
    )
    .into_bytes()
}

fn several(it: &Facts) -> Vec<u8> {
    let Facts { user, kind, millis, cents, dwell, sku, .. } = it;
    let value = f64::from(*cents) / 100.0;
    let events: Vec<String> = (0..SEVERAL as i64)
        .map(|number| {
            let at = millis + number;
            format!(r#"{{"event_type":"{kind}","occurred_at":{at},"items":[{{"id":"sku-{sku:06}"}}],"value":{value},"dwell_ms":{dwell}}}"#)
        })
        .collect();
    format!(r#"{{"user_id":"u{user:07}","session_id":"s{user:07}","events":[{}]}}"#, events.join(",")).into_bytes()
}

fn facts(count: usize) -> Vec<Facts> {
    let mut random = SmallRng::seed_from_u64(42);
    let kinds = ["page_view", "page_view", "page_view", "click", "purchase"];
    (0..count)
        .map(|number| Facts {
            number,
            user: random.random_range(0..200_000),
            kind: kinds[random.random_range(0..kinds.len())],
            sku: random.random_range(0..5_000),
            cents: random.random_range(0..100_000),
            dwell: random.random_range(200..60_000),
            millis: 1_767_225_600_000 + number as i64 * 200,
            agent: AGENTS[random.random_range(0..AGENTS.len())],
        })
        .collect()
}

/// The events of one format in one buffer, as in a client's fetch.
struct Payloads {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Payloads {
    fn write(facts: &[Facts], write: fn(&Facts) -> Vec<u8>) -> Self {
        let mut it = Self { bytes: Vec::new(), ends: Vec::new() };
        for facts in facts {
            it.bytes.extend(write(facts));
            it.ends.push(it.bytes.len());
        }
        it
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.bytes[start..*end])
    }
}

/// A decoder for a format, with its best result.
struct Turn {
    decoder: Decoder,
    batch: EventBatch,
    payloads: Payloads,
    /// Nanoseconds per event.
    best: f64,
    /// How many events a round contains.
    rows: usize,
}

impl Turn {
    fn new(sections: &str, payloads: Payloads) -> Self {
        let Sections { input, field, identity } = toml::from_str(sections).expect("the sections are well formed");
        let (mut scope, mut faults) = (Scope::default(), Vec::new());
        let fields = Fields::declare(&input, &field, &mut scope, &mut faults);
        assert_eq!(faults, []);
        let used: Vec<_> = READ.iter().map(|name| scope.get(name).expect("it is canonical").0).collect();
        let decoder =
            Decoder::new(fields, &used, &input, &TimeSpec::default()).with_pseudonyms(Pseudonyms::new(&identity));
        Self { decoder, batch: EventBatch::new(scope.columns()), payloads, best: f64::INFINITY, rows: 0 }
    }

    fn take(&mut self) {
        self.rows = 0;
        let start = Instant::now();
        for (index, payload) in self.payloads.iter().enumerate() {
            let record = Record { payload: Some(payload), ..Record::default() };
            let taken = self.decoder.decode(&record, &mut self.batch).expect("the event is well formed");
            self.rows += taken.rows + taken.bots;
            if index % BATCH == BATCH - 1 {
                black_box(&self.batch);
                self.batch.clear();
            }
        }
        self.batch.clear();
        self.best = self.best.min(start.elapsed().as_nanos() as f64 / self.rows as f64);
    }
}

fn main() {
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let (count, rounds) = if is_bench { (100_000, 9) } else { (500, 1) };
    let facts = facts(count);
    let mut turns: Vec<Turn> =
        FORMS.iter().map(|(_, sections, write)| Turn::new(sections, Payloads::write(&facts, *write))).collect();
    for _ in 0..rounds {
        turns.iter_mut().for_each(Turn::take);
    }
    for ((name, ..), turn) in FORMS.iter().zip(&turns) {
        let bytes = turn.payloads.bytes.len() / turn.rows;
        println!("codec {name}: {:.0} ns/event of {bytes} bytes", turn.best);
        let each = if name.starts_with("several") { SEVERAL } else { 1 };
        assert_eq!(turn.rows, count * each, "every event is read");
    }
    println!("codec mapped beside canonical: {:.2} times the time", turns[1].best / turns[0].best);
    let best =
        |name: &str| FORMS.iter().zip(&turns).find(|((of, ..), _)| *of == name).map_or(f64::NAN, |(_, it)| it.best);
    let added = best("canonical json with pseudonyms") - best("canonical json");
    println!("codec pseudonyms: {added:.0} ns/event more");
}
