//! Input of other producers, from the bytes of a record to the counts: real events, records with several events, bots, and unusual
//! times. The data are extracts of public data sets, listed in `data/README.md`.

use aimpoint::{
    engine::{Partition, Partitions, Pipeline, PipelineSpec},
    event::{EventTime, Record, RejectReason},
    sink::{Outbox, Target},
    status::{Counts, SuppressReason},
};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

const SNOWPLOW: &str = include_str!("data/snowplow.csv");
const ACCESS_LOG: &str = include_str!("data/access.log");
const OTTO: &str = include_str!("data/otto.jsonl");

/// A decision with only id, user and time.
const DECISION: &str = r#"
    [decision]
    format = "flat"
    [decision.fields]
    id = "decision_id"
    user = "user_key"
    at = "occurred_at"
    status = "status"
"#;

/// A segment of bots.
const SEGMENT: &str = r#"
    [[segment]]
    id = "bots"
    where = "bot"
"#;

/// A pipeline over one partition, with its outputs.
struct Rig {
    pipeline: Pipeline,
    partitions: Partitions,
    outbox: Outbox,
    counts: Counts,
    offset: i64,
}

impl Rig {
    fn new(sections: &str) -> Self {
        let text = format!("{sections}\n{SEGMENT}\n{DECISION}");
        let spec: PipelineSpec = toml::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let mut partitions = Partitions::default();
        partitions.insert(3, Partition::new(0, 0, None));
        Self {
            pipeline: Pipeline::compile(&spec, "clicks").expect("the sections are right"),
            partitions,
            outbox: Outbox::default(),
            counts: Counts::default(),
            offset: 0,
        }
    }

    fn take(&mut self, payload: &[u8], timestamp_ms: Option<i64>) {
        let record = Record {
            partition: 3,
            offset: self.offset,
            timestamp_ms,
            key: Some(b"192.0.2.1"),
            payload: Some(payload),
            ..Record::default()
        };
        self.pipeline.take(&record, &mut self.partitions, &mut self.outbox, &mut self.counts);
        self.offset += 1;
    }

    /// Ends the batch, and checks the counts.
    fn run(&mut self) {
        self.pipeline.run(&mut self.partitions, EventTime(0), &mut self.outbox, &mut self.counts);
        let counts = &self.counts;
        let outcomes = counts.decisions + counts.duplicates + counts.suppressed_total() + counts.dead_letters_total();
        assert_eq!(counts.events, outcomes, "every event has one outcome: {counts:?}");
        assert_eq!(self.outbox.len() as u64, counts.decisions + counts.dead_letters_total());
    }

    fn all<'a>(&mut self, payloads: impl IntoIterator<Item = &'a [u8]>) {
        for payload in payloads {
            self.take(payload, None);
        }
        self.run();
    }

    fn decisions(&self) -> Vec<serde_json::Value> {
        (0..self.outbox.len())
            .map(|index| self.outbox.get(index))
            .filter(|output| output.target == Target::Decisions)
            .map(|output| serde_json::from_slice(output.payload.expect("a decision")).expect("JSON"))
            .collect()
    }

    /// Headers, keys and payloads of the dead letters.
    fn dead_letters(&self) -> Vec<(HashMap<&'static str, String>, String, String)> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
        (0..self.outbox.len())
            .map(|index| self.outbox.get(index))
            .filter(|output| output.target == Target::DeadLetters)
            .map(|output| {
                let headers = output.headers().map(|(name, value)| (name, text(value))).collect();
                (headers, text(output.key.unwrap_or_default()), text(output.payload.unwrap_or_default()))
            })
            .collect()
    }
}

/// The rows of the Snowplow extract by column.
fn snowplow() -> Vec<BTreeMap<String, String>> {
    let rows: Vec<BTreeMap<String, String>> = csv::Reader::from_reader(SNOWPLOW.as_bytes())
        .deserialize()
        .collect::<Result<_, _>>()
        .expect("the extract is CSV");
    assert_eq!(rows.len(), 160);
    rows
}

/// A row as the JSON of an enricher, without missing values.
fn json(row: &BTreeMap<String, String>) -> Vec<u8> {
    let given: BTreeMap<_, _> = row.iter().filter(|(_, value)| !value.is_empty()).collect();
    serde_json::to_vec(&given).expect("text becomes JSON")
}

fn time(text: &str) -> i64 {
    let time: jiff::civil::DateTime = text.parse().expect("a time of the extract");
    jiff::tz::TimeZone::UTC.to_timestamp(time).expect("a time of our days").as_microsecond()
}

#[test]
fn edge_cases_of_snowplow_are_counted_as_documented() {
    let rows = snowplow();
    // As documented for the data.
    assert_eq!(rows.iter().map(|row| &row["event_id"]).collect::<HashSet<_>>().len(), 157);
    let mut kinds: BTreeMap<&str, u64> = BTreeMap::new();
    for row in &rows {
        *kinds.entry(&row["event_name"]).or_default() += 1;
    }
    assert_eq!((kinds["page_view"], kinds["cmp_visible"], kinds["consent_preferences"]), (50, 33, 32));
    assert_eq!((kinds["page_ping"], kinds["link_click"]), (8, 10));
    let days = |row: &BTreeMap<String, String>| time(&row["dvce_sent_tstamp"]) - time(&row["dvce_created_tstamp"]);
    assert_eq!(rows.iter().filter(|row| days(row) > 3 * 86_400_000_000).count(), 3, "sent long after they happened");

    // In the order of arrival no event is late.
    let mut rows = rows;
    rows.sort_by(|a, b| a["collector_tstamp"].cmp(&b["collector_tstamp"]));
    let mut rig = Rig::new("[input]\npreset = \"snowplow\"\n[duplicates]\nhorizon = \"1day\"");
    let payloads: Vec<_> = rows.iter().map(json).collect();
    rig.all(payloads.iter().map(Vec::as_slice));
    assert_eq!((rig.counts.events, rig.counts.decisions, rig.counts.duplicates), (160, 157, 3));
    // One row has no domain_userid and uses the network's; one has no session, which is optional.
    assert_eq!(rig.partitions.users(), 43);
    assert_eq!(rows.iter().filter(|row| row["domain_userid"].is_empty()).count(), 1);
    assert_eq!(rows.iter().filter(|row| row["domain_sessionid"].is_empty()).count(), 1);

    // Times without a zone are UTC.
    let times: BTreeSet<String> = rig.decisions().iter().map(|it| it["at"].to_string()).collect();
    assert!(times.contains(&time("2021-03-03 21:27:32.695").to_string()), "{times:?}");

    // A row without a user is a dead letter.
    let mut nobody = rows[0].clone();
    nobody.insert("domain_userid".to_owned(), String::new());
    nobody.insert("network_userid".to_owned(), String::new());
    rig.all([json(&nobody).as_slice()]);
    assert_eq!(rig.counts.dead_letters, [(RejectReason::MissingUser, 1)]);
}

#[test]
fn late_events_match_a_recount() {
    // In the order of the file users jump back and forth; in reverse order almost everything is late.
    for (backwards, lateness, seconds) in
        [(false, "1h", 3_600), (false, "1day", 86_400), (true, "1h", 3_600), (true, "1day", 86_400)]
    {
        let mut rows = snowplow();
        if backwards {
            rows.reverse();
        }
        let mut newest: HashMap<&str, i64> = HashMap::new();
        let mut late = 0;
        for row in &rows {
            let user = if row["domain_userid"].is_empty() { &row["network_userid"] } else { &row["domain_userid"] };
            let at = time(&row["derived_tstamp"]);
            let newest = newest.entry(user).or_insert(at);
            if at < *newest - seconds * 1_000_000 {
                late += 1;
            }
            *newest = at.max(*newest);
        }
        for (too_late, dropped) in [("drop", true), ("dead_letter", false)] {
            let mut rig = Rig::new(&format!(
                "[input]\npreset = \"snowplow\"\n[time]\nallowed_lateness = {lateness:?}\ntoo_late = {too_late:?}"
            ));
            let payloads: Vec<_> = rows.iter().map(json).collect();
            rig.all(payloads.iter().map(Vec::as_slice));
            assert_eq!(rig.counts.decisions, 160 - late, "{backwards} {lateness}");
            let (suppressed, dead) = if dropped { (late, 0) } else { (0, late) };
            assert_eq!((rig.counts.suppressed_total(), rig.counts.dead_letters_total()), (suppressed, dead));
            if dropped && late > 0 {
                assert_eq!(rig.counts.suppressed, [(SuppressReason::TooLate, late)]);
            }
        }
        assert!(!backwards || late > 10, "too few late events: {late}");
    }
}

#[test]
fn each_event_of_a_session_record_gets_its_own_decision() {
    const INPUT: &str = r#"
        [input]
        unpack = "events"
        [input.fields]
        user_id = "session"
        event_type = "type"
        occurred_at = { path = "ts", unit = "ms" }
        "item.id" = "aid"
        event_id = "ts"
        [time]
        allowed_lateness = "365days"
    "#;
    let mut rig = Rig::new(&format!("{INPUT}\n[duplicates]\nhorizon = \"0s\""));
    rig.all(OTTO.lines().map(str::as_bytes));
    assert_eq!((rig.counts.events, rig.counts.decisions), (48, 48));
    let decisions = rig.decisions();
    let ids: BTreeSet<_> = decisions.iter().map(|it| it["id"].to_string()).collect();
    assert_eq!(ids.len(), 48, "ids are unique");
    let first: Vec<_> = decisions.iter().take(3).map(|it| it["id"].as_str().unwrap_or_default().to_owned()).collect();
    assert_eq!(first, ["clicks-3-0", "clicks-3-0-1", "clicks-3-0-2"]);
    assert!(decisions.iter().take(19).all(|it| it["user"] == "4"), "the user is outside of the events");
    assert_eq!(rig.partitions.users(), 5);

    // Repeated sessions are duplicates, event by event.
    let mut rig = Rig::new(&format!("{INPUT}\n[duplicates]\nhorizon = \"60days\"\nmax_ids = 300"));
    rig.all(OTTO.lines().chain(OTTO.lines()).map(str::as_bytes));
    assert_eq!(rig.counts.events, 96);
    assert_eq!(rig.counts.decisions + rig.counts.duplicates, 96);
    assert!(rig.counts.duplicates >= 48, "{:?}", rig.counts);
}

#[test]
fn only_the_late_event_of_a_record_becomes_a_dead_letter() {
    let mut rig = Rig::new("[input]\nunpack = \"batch\"\n[time]\nallowed_lateness = \"1h\"");
    let payload =
        br#"{"batch":[{"event_type":"a","occurred_at":1767225600},{"event_type":"b","occurred_at":1767139200},
        {"event_type":"c","occurred_at":1767225601,"user_id":"v"}],"user_id":"u"}"#;
    rig.all([payload.as_slice()]);
    assert_eq!((rig.counts.events, rig.counts.decisions), (3, 2));
    assert_eq!(rig.counts.dead_letters, [(RejectReason::TooLate, 1)]);
    let letters = rig.dead_letters();
    assert_eq!((letters[0].0["offset"].as_str(), letters[0].0["index"].as_str()), ("0", "1"));
    assert_eq!(letters[0].2.as_bytes(), payload);
    let decisions = rig.decisions();
    assert_eq!(decisions.iter().map(|it| it["user"].as_str().unwrap_or_default()).collect::<Vec<_>>(), ["u", "v"]);
    assert_eq!(decisions[1]["id"], "clicks-3-0-2", "the index is the position in the record");
}

#[test]
fn a_record_with_one_invalid_event_is_rejected_as_a_whole() {
    let mut rig = Rig::new("[input]\nunpack = \"batch\"");
    let too_many =
        format!(r#"{{"user_id":"u","event_type":"a","occurred_at":1767225600,"batch":[{}{{}}]}}"#, "{},".repeat(4_096));
    let most = too_many.replace("{},{}]", "{}]");
    rig.all([
        br#"{"user_id":"u","batch":[{"event_type":"a","occurred_at":1767225600},{"event_type":"b"}]}"#.as_slice(),
        br#"{"user_id":"u","batch":[{"event_type":"a","occurred_at":1767225600},7]}"#,
        br#"{"user_id":"u","batch":[{"event_type":"a","occurred_at":1767225600},{"event_type":"b","occurred_at":1]}"#,
        br#"{"user_id":"u","batch":{"event_type":"a","occurred_at":1767225600}}"#,
        br#"{"user_id":"u","event_type":"a","occurred_at":1767225600}"#,
        too_many.as_bytes(),
        br#"{"user_id":"u","batch":[]}"#,
    ]);
    assert_eq!((rig.counts.decisions, rig.counts.events), (0, 6), "an empty array has no events");
    let expected = [
        (RejectReason::MissingTime, 1),
        (RejectReason::WrongType, 3),
        (RejectReason::Malformed, 1),
        (RejectReason::TooLarge, 1),
    ];
    assert_eq!(rig.counts.dead_letters, expected);
    rig.all([most.as_bytes()]);
    assert_eq!(rig.counts.decisions, 4_096);
}

/// The lines of the extract: of listed bots, of unlisted machines, and of browsers.
fn lines() -> [Vec<&'static str>; 3] {
    let all: Vec<&str> = ACCESS_LOG.lines().collect();
    assert_eq!(all.len(), 116);
    [all[..49].to_vec(), all[49..66].to_vec(), all[66..].to_vec()]
}

const LOG: &str = "[input]\nformat = \"access_log\"\nsecret = \"a key for tests alone\"\n";

#[test]
fn bots_of_an_access_log_are_marked_and_browsers_are_not() {
    let [bots, missed, people] = lines();
    for (lines, marked) in [(&bots, 49), (&missed, 0), (&people, 0)] {
        let mut rig = Rig::new(LOG);
        rig.all(lines.iter().map(|line| line.as_bytes()));
        assert_eq!(rig.counts.decisions, lines.len() as u64);
        let are_bots = rig.decisions().iter().filter(|it| it["status"] == "STATUS_TARGETED").count();
        assert_eq!(are_bots, marked);
        assert_eq!(rig.partitions.users(), lines.len() as u64, "different agents are different users");
    }
    let mut rig = Rig::new(&format!("{LOG}bots = \"keep\""));
    rig.all(bots.iter().map(|line| line.as_bytes()));
    assert_eq!(rig.counts.decisions, 49);
    assert!(rig.decisions().iter().all(|it| it["status"] == "STATUS_NO_TARGET"), "nobody looked");
}

#[test]
fn excluded_bots_are_suppressed_and_enter_no_profile() {
    let [bots, missed, people] = lines();
    let mut rig = Rig::new(&format!("{LOG}bots = \"exclude\""));
    // Mixed, so that rows between others are dropped.
    let mixed = people.iter().zip(&bots).flat_map(|(person, bot)| [*person, *bot]);
    rig.all(mixed.chain(missed.iter().copied()).map(str::as_bytes));
    assert_eq!(rig.counts.suppressed, [(SuppressReason::Bot, 49)]);
    assert_eq!((rig.counts.events, rig.counts.decisions), (49 + 49 + 17, 49 + 17));
    assert_eq!(rig.partitions.users(), 49 + 17);

    // The field of the event takes precedence, in records with several events too.
    let mut rig = Rig::new("[input]\nunpack = \"batch\"\nbots = \"exclude\"");
    rig.all([br#"{"user_id":"u","occurred_at":1767225600,"event_type":"a","device":{"ua":"Twitterbot/1.0"},
        "batch":[{"bot":false},{},{"bot":true},{"device":{"ua":"Mozilla"}},{"user_id":"v","bot":"false"}]}"#
        .as_slice()]);
    assert_eq!(rig.counts.suppressed, [(SuppressReason::Bot, 2)]);
    let ids: Vec<_> = rig.decisions().iter().map(|it| format!("{} {}", it["id"], it["user"])).collect();
    assert_eq!(ids, [r#""clicks-3-0" "u""#, r#""clicks-3-0-3" "u""#, r#""clicks-3-0-4" "v""#]);
}

#[test]
fn an_address_never_leaves() {
    let mut rig = Rig::new(LOG);
    let line = r#"192.0.2.7 - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 200 9 "-" "Mozilla""#;
    let bad = [
        "192.0.2.7 - - [17/May/2015:10:05:03 +0000]",
        "client.example - - [yesterday] \"GET /?from=192.0.2.7 HTTP/1.1\" 200 9 \"http://192.0.2.7:80/\" \"Mozilla\"",
        "2001:db8::7 10.0.0.1:4711 x",
        "192.0.2.7",
    ];
    rig.all(
        bad.iter()
            .copied()
            .chain([line, "198.51.100.9 - - [17/May/2014:10:05:03 +0000] \"GET / HTTP/1.1\" 200 9"])
            .map(str::as_bytes),
    );
    assert_eq!((rig.counts.decisions, rig.counts.dead_letters_total()), (2, 4));
    let letters = rig.dead_letters();
    for (headers, key, payload) in &letters {
        for text in headers.values().chain([key, payload]) {
            let found = ["192.0.2.7", "10.0.0.1", "2001:db8", "client.example"].iter().find(|it| text.contains(**it));
            assert_eq!(found, None, "{text}");
        }
    }
    assert_eq!(letters[1].2, "- - - [yesterday] \"GET /?from=- HTTP/1.1\" 200 9 \"http://-/\" \"Mozilla\"");
    let user = rig.decisions()[0]["user"].as_str().unwrap_or_default().to_owned();
    assert!(user.len() == 32 && user.bytes().all(|byte| byte.is_ascii_hexdigit()), "{user}");
    let mut other = Rig::new("[input]\nformat = \"access_log\"\nsecret = \"another key for tests\"\n");
    other.all([line.as_bytes()]);
    assert_ne!(other.decisions()[0]["user"], user.as_str(), "users depend on the key");
}

#[test]
fn unusual_times_are_counted_by_reason() {
    let mut rig = Rig::new("[time]\nallowed_lateness = \"1h\"\ntoo_late = \"drop\"\nfuture_tolerance = \"1h\"");
    // The record's timestamp is 2026-01-01T00:00Z.
    let base = 1_767_225_600_i64;
    for (time, _) in [
        (format!("{base}"), "now"),
        (format!("{base}"), "equal"),
        (format!("{}", base + 3_600), "as far ahead as may be"),
        (format!("{}", base + 3_601), "too far ahead"),
        (format!("{base}"), "late, and as late as may be"),
        (format!("{}", base - 1), "too late"),
        ("-1".to_owned(), "before 1970"),
        ("1e300".to_owned(), "absurd"),
        ("\"9999999999999999999\"".to_owned(), "absurd"),
        ("9223372036854775807".to_owned(), "absurd"),
        ("null".to_owned(), "missing"),
        ("\"\"".to_owned(), "missing"),
        ("\"soon\"".to_owned(), "no time"),
        ("true".to_owned(), "no time"),
    ] {
        let payload = format!(r#"{{"user_id":"u","event_type":"a","occurred_at":{time}}}"#);
        rig.take(payload.as_bytes(), Some(base * 1_000));
    }
    rig.run();
    assert_eq!(rig.counts.decisions, 4);
    assert_eq!(rig.counts.suppressed, [(SuppressReason::TooLate, 1)]);
    let expected = BTreeMap::from([("future_time", 1), ("missing_time", 2), ("time_range", 4), ("wrong_type", 2)]);
    let found: BTreeMap<_, _> =
        rig.counts.dead_letters.iter().map(|(reason, count)| (reason.as_str(), *count)).collect();
    assert_eq!(found, expected);
}

/// The feature rows of events, and the number of unknown zones.
fn rows(sections: &str, events: &[&str]) -> (Vec<Vec<f32>>, u64) {
    let mut rig = Rig::new(sections);
    for event in events {
        rig.take(event.as_bytes(), None);
    }
    let mut rows = Vec::new();
    rig.pipeline.rows(&mut rig.partitions, &mut rig.counts, |row| rows.push(row.features.to_vec()));
    assert_eq!(rig.counts.dead_letters_total(), 0, "{:?}", rig.counts);
    (rows, rig.counts.unknown_zones)
}

#[test]
fn keys_of_two_types_are_distinct() {
    let count = "[[feature]]\nname = \"n\"\naggregate = \"count\"\nwindow = \"forever\"\n";
    let events = [
        r#"{"user_id":"5","event_type":"a","occurred_at":1767225600}"#,
        r#"{"anonymous_id":"5","event_type":"a","occurred_at":1767225601}"#,
        r#"{"user_id":"5","key_type":"KEY_TYPE_APP","event_type":"a","occurred_at":1767225602}"#,
        r#"{"user_id":5.0,"anonymous_id":"x","event_type":"a","occurred_at":1767225603}"#,
        r#"{"user_id":"device:5","event_type":"a","occurred_at":1767225604}"#,
    ];
    let flat = |rows: Vec<Vec<f32>>| rows.concat();
    assert_eq!(flat(rows(count, &events).0), [1.0, 1.0, 1.0, 2.0, 1.0]);
    let joined = rows(&format!("{count}[input]\nkey_types = \"joined\""), &events).0;
    assert_eq!(flat(joined), [1.0, 2.0, 3.0, 4.0, 1.0]);

    let text = format!("{count}{SEGMENT}[decision]\nformat = \"json\"");
    let spec: PipelineSpec = toml::from_str(&text).expect("the sections are right");
    let mut rig = Rig { pipeline: Pipeline::compile(&spec, "clicks").expect("sound"), ..Rig::new("") };
    rig.all(events.iter().map(|event| event.as_bytes()));
    assert_eq!(rig.partitions.users(), 4);
    let outputs = (0..rig.outbox.len()).map(|index| rig.outbox.get(index));
    let keys: Vec<_> =
        outputs.map(|output| String::from_utf8_lossy(output.key.unwrap_or_default()).into_owned()).collect();
    assert_eq!(keys, ["5", "device:5", "app:5", "5", "person:device:5"]);
    let told: Vec<_> = rig.decisions().iter().map(|it| format!("{} {}", it["user_key"], it["key_type"])).collect();
    let expected = ["5 PERSON", "5 DEVICE", "5 APP", "5 PERSON", "device:5 PERSON"]
        .map(|text| text.split_once(' ').map(|(id, ty)| format!("\"{id}\" \"KEY_TYPE_{ty}\"")).unwrap_or_default());
    assert_eq!(told, expected);
}

#[test]
fn large_integer_ids_are_distinct_in_keys_and_features() {
    let features = r#"
        [[field]]
        name = "item"
        type = "int"
        path = "properties.item"
        [[feature]]
        name = "n"
        aggregate = "count"
        window = "forever"
        [[feature]]
        name = "items"
        aggregate = "distinct"
        value = "item"
        window = "forever"
        [[feature]]
        name = "sum"
        aggregate = "sum"
        value = "item"
        window = "forever"
    "#;
    let of = |user: &str, item: &str| {
        format!(r#"{{"user_id":{user},"event_type":"a","occurred_at":1767225600,"properties":{{"item":{item}}}}}"#)
    };
    let events: Vec<String> = [
        ("18446744073709551617", "9223372036854775001"),
        ("18446744073709551618", "9223372036854775001"),
        ("18446744073709551618", "9223372036854775002"),
        ("1234567890.1234567890", "1"),
        ("1234567890.1234567891", "1"),
        ("12345", "7"),
        ("12345.0", "7.0"),
        ("\"12345\"", "\"7\""),
    ]
    .map(|(user, item)| of(user, item))
    .into();
    let (rows, _) = rows(features, &events.iter().map(String::as_str).collect::<Vec<_>>());
    let counted: Vec<_> = rows.iter().map(|row| (row[0], row[1])).collect();
    assert_eq!(
        counted,
        [(1.0, 1.0), (1.0, 1.0), (2.0, 2.0), (1.0, 1.0), (1.0, 1.0), (1.0, 1.0), (2.0, 1.0), (3.0, 1.0)]
    );
    assert_eq!(rows[7][2], 21.0, "a sum uses the exact numbers");
}

#[test]
fn the_last_known_zone_is_kept_if_an_event_has_none_or_an_unknown_one() {
    let features = r#"
        [[feature]]
        name = "local"
        aggregate = "hour"
        zone = "geo.region"
        [[feature]]
        name = "utc"
        aggregate = "hour"
        [[feature]]
        name = "is_berlin"
        aggregate = "last"
        value = "geo.region"
        window = "forever"
        categories = ["Europe/Berlin"]
    "#;
    let of = |region: &str| {
        format!(
            r#"{{"user_id":"u","event_type":"a","occurred_at":"2026-01-01T10:00:00Z","geo":{{"region":{region}}}}}"#
        )
    };
    let events: Vec<String> =
        ["null", "\"Nowhere/Land\"", "\"Europe/Berlin\"", "null", "\"Nowhere/Land\"", "\"asia/tokyo\""].map(of).into();
    let (rows, unknown) = rows(features, &events.iter().map(String::as_str).collect::<Vec<_>>());
    let local: Vec<f32> = rows.iter().map(|row| row[0]).collect();
    assert!(local[0].is_nan() && local[1].is_nan(), "without a known zone the value is missing: {local:?}");
    assert_eq!(local[2..], [11.0, 11.0, 11.0, 19.0]);
    assert!(rows.iter().all(|row| row[1] == 10.0));
    assert_eq!(unknown, 2);
    // Other features of the same text keep it unchanged.
    assert_eq!(rows.iter().map(|row| row[2]).collect::<Vec<_>>()[1..5], [0.0, 1.0, 1.0, 0.0]);
}

#[test]
fn an_event_exactly_one_window_old_is_outside_of_it_in_every_aggregate() {
    let features = r#"
        [[feature]]
        name = "since"
        aggregate = "recency"
        window = "1h"
        [[feature]]
        name = "n"
        aggregate = "count"
        window = "1h"
        tile = "5s"
        [[feature]]
        name = "age"
        aggregate = "age"
    "#;
    let at = |seconds: i64| format!(r#"{{"user_id":"u","event_type":"a","occurred_at":{}}}"#, 1_767_225_600 + seconds);
    let events: Vec<String> = [0, 3_599, 7_199, 100].map(at).into();
    let (rows, _) = rows(features, &events.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(rows[0][0].is_nan());
    assert_eq!((rows[1][0], rows[1][1]), (3_599.0, 2.0), "one second less than a window");
    assert!(rows[2][0].is_nan() && rows[2][1] == 1.0, "exactly one window: {:?}", rows[2]);
    // The age of a late event counts from the first arrival, which is before it here.
    assert_eq!(rows.iter().map(|row| row[2]).collect::<Vec<_>>(), [0.0, 3_599.0, 7_199.0, 100.0]);
    let late: Vec<String> = [0, -60].map(at).into();
    let (rows, _) = crate::rows(features, &late.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(rows[1][2].is_nan(), "an event before the first one has no age: {:?}", rows[1]);
}

/// The users with decisions, and the reasons and details of the dead letters.
fn told(rig: &Rig) -> (Vec<String>, Vec<(String, String)>) {
    let (mut users, mut letters) = (Vec::new(), Vec::new());
    for output in rig.outbox.all() {
        let header = |wanted: &str| {
            let value = output.headers().find(|(name, _)| *name == wanted).map(|(_, value)| value.to_vec());
            String::from_utf8(value.unwrap_or_default()).expect("it is text")
        };
        match output.target {
            Target::DeadLetters => letters.push((header("reason"), header("detail"))),
            _ => users.push(String::from_utf8(output.key.expect("each has a key").to_vec()).expect("it is text")),
        }
    }
    (users, letters)
}

#[test]
fn a_wrong_clock_expires_no_profiles_and_its_user_s_later_events_count() {
    // Once an event of the year 9999 advanced the partition time and expired every profile.
    const NOW: i64 = 1_767_225_600_000;
    const WRONG: [i64; 3] = [4_923_500_000_000, 32_472_144_000_000, 99_999_999_999_999];
    let sections = r#"
        [profile]
        ttl = "1day"
        [[feature]]
        name = "n"
        aggregate = "count"
        window = "forever"
        [[segment]]
        id = "many"
        where = "n >= 2.0"
    "#;
    let event = |user: &str, at: i64| format!(r#"{{"event_type":"view","user_id":"{user}","occurred_at":{at}}}"#);
    for (appended, ahead_of) in [
        (None, "the present"),
        // Before Kafka existed.
        (Some(0), "the present"),
        (Some(-7), "the present"),
        (Some(NOW), "the record's timestamp"),
        // As wrong as the event.
        (Some(WRONG[0]), "the present"),
        (Some(WRONG[2]), "the present"),
    ] {
        let mut rig = Rig::new(sections);
        rig.pipeline.set_present(EventTime((NOW + 5_000) * 1_000));
        for user in 0..20 {
            rig.take(event(&format!("u{user}"), NOW + user).as_bytes(), Some(NOW + user));
        }
        rig.run();
        for at in WRONG {
            rig.take(event("u7", at).as_bytes(), appended);
        }
        for user in 0..20 {
            rig.take(event(&format!("u{user}"), NOW + 1_000 + user).as_bytes(), Some(NOW + 1_000 + user));
        }
        rig.run();
        let (users, letters) = told(&rig);
        assert_eq!((users.len(), letters.len()), (40, 3), "{appended:?}: {letters:?}");
        for (reason, detail) in &letters {
            let expected = format!("occurred_at is further ahead of {ahead_of} than time.future_tolerance");
            assert_eq!(reason, "future_time", "{appended:?}");
            assert!(detail.starts_with(&expected), "{appended:?}: {detail}");
        }
        let store = rig.partitions.get(3).expect("it is held").store();
        assert_eq!((store.len(), store.clock().time()), (20, Some((NOW + 1_015) * 1_000)), "{appended:?}");
        // Each user is at the second event.
        let (_, profile) = store.iter().next().expect("it has users");
        assert_eq!(profile[0] as i64 / 1_000_000, NOW / 1_000 + 1, "{appended:?}");
    }
}

#[test]
fn a_valid_event_is_accepted_with_any_timestamp_and_a_slow_clock_rejects_little() {
    const NOW: i64 = 1_767_225_600_000;
    const HOUR: i64 = 3_600_000;
    let event = |at: i64| format!(r#"{{"event_type":"view","user_id":"u","occurred_at":{at}}}"#);
    for (present, appended, at, is_taken) in [
        (NOW, None, NOW, true),
        (NOW, Some(0), NOW, true),
        (NOW, Some(253_402_300_000_000), NOW, true),
        (NOW, None, NOW + HOUR, true),
        (NOW, None, NOW + 2 * HOUR, false),
        (NOW, Some(NOW - 2 * HOUR), NOW, false),
        // The process's clock is 20 hours behind the broker's, or was never set.
        (NOW - 20 * HOUR, Some(NOW), NOW, true),
        (NOW - 30 * HOUR, Some(NOW), NOW, false),
        (0, Some(NOW), NOW, true),
        (0, None, NOW, true),
    ] {
        let mut rig = Rig::new("");
        rig.pipeline.set_present(EventTime(present * 1_000));
        rig.take(event(at).as_bytes(), appended);
        rig.run();
        assert_eq!(rig.counts.decisions == 1, is_taken, "{present} {appended:?} {at}: {:?}", rig.counts);
    }
}
