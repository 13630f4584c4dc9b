use super::{CANONICAL, Decoder, EventBatch, FieldSpec, Fields, InputSpec, Record, RejectReason, Rejection, TimeSpec};
use crate::{
    columns::{Column, MISSING_INT, Slot, Truth},
    config_error::ConfigError,
    expression::Scope,
    proto::v1,
};
use prost::Message;
use serde::Deserialize;

/// 2026-01-01T00:00:00.097Z
const MICROS: i64 = 1_767_225_600_097_000;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Sections {
    input: InputSpec,
    field: Vec<FieldSpec>,
    time: TimeSpec,
}

/// A decoder that reads every field, and a batch.
struct Rig {
    scope: Scope,
    slots: Vec<Slot>,
    decoder: Decoder,
    batch: EventBatch,
}

impl Rig {
    fn compile(sections: &str) -> Result<Self, Vec<ConfigError>> {
        let Sections { input, field, time } = toml::from_str(sections).unwrap();
        let (mut scope, mut errors) = (Scope::default(), Vec::new());
        let fields = Fields::declare(&input, &field, &mut scope, &mut errors);
        if !errors.is_empty() {
            return Err(errors);
        }
        let slots: Vec<Slot> = scope.names().filter_map(|name| scope.get(name)).map(|(slot, _)| slot).collect();
        let decoder = Decoder::new(fields, &slots, &input, &time);
        let batch = EventBatch::new(scope.columns());
        Ok(Self { scope, slots, decoder, batch })
    }

    fn new(sections: &str) -> Self {
        Self::compile(sections).unwrap()
    }

    fn take(&mut self, record: &Record<'_>) -> Result<usize, Rejection> {
        let answer = self.decoder.decode(record, &mut self.batch).map(|taken| taken.rows);
        self.check_lengths();
        answer
    }

    fn decode(&mut self, payload: &[u8]) -> Result<usize, Rejection> {
        self.take(&Record { payload: Some(payload), ..Record::default() })
    }

    /// Every column is as long as the batch.
    fn check_lengths(&self) {
        let batch = &self.batch;
        let rows = batch.len();
        let own = [
            batch.positions.len(),
            batch.users.len(),
            batch.user_hashes.len(),
            batch.event_ids.len(),
            batch.times.len(),
            batch.traceparents.len(),
        ];
        assert_eq!(own, [rows; 6]);
        for slot in &self.slots {
            assert_eq!(batch.columns.get(*slot).len(), rows, "{slot:?}");
        }
    }

    /// A field of the last row as text; `-` if missing.
    fn show(&self, name: &str) -> String {
        let row = self.batch.len() - 1;
        let columns = &self.batch.columns;
        let text = |text: crate::columns::Text| {
            if text.is_missing() { "-".to_owned() } else { columns.texts.get(text).to_owned() }
        };
        match name {
            "the user" => return super::split_key(&text(self.batch.users[row])).1.to_owned(),
            "the key" => return text(self.batch.users[row]),
            "the time" => return self.batch.times[row].0.to_string(),
            _ => {}
        }
        let (slot, _) = self.scope.get(name).unwrap_or_else(|| panic!("no field {name}"));
        match columns.get(slot) {
            Column::Bool(values) if values[row] == Truth::Missing => "-".to_owned(),
            Column::Bool(values) => values[row].holds().to_string(),
            Column::Int(values) if values[row] == MISSING_INT => "-".to_owned(),
            Column::Int(values) => values[row].to_string(),
            Column::Double(values) if values[row].is_nan() => "-".to_owned(),
            Column::Double(values) => format!("{:?}", values[row]),
            Column::String(values) => text(values[row]),
        }
    }

    /// All fields that are not missing.
    fn all(&self) -> Vec<(String, String)> {
        let names = ["the user", "the time"].into_iter().chain(self.scope.names());
        names.map(|name| (name.to_owned(), self.show(name))).filter(|(_, value)| value != "-").collect()
    }
}

/// Fields by name, with their expected text.
type Expected<'a> = &'a [(&'a str, &'a str)];

/// A complete event with additional members.
fn event(more: &str) -> String {
    let comma = if more.is_empty() { "" } else { "," };
    format!(r#"{{"event_type":"view","user_id":"u","occurred_at":{MICROS}{comma}{more}}}"#)
}

#[test]
fn a_value_is_read_however_it_is_written() {
    let table: &[(&str, Expected<'_>)] = &[
        // Names.
        (r#""session_id":"s","dwell_ms":7"#, &[("session_id", "s"), ("dwell_ms", "7")]),
        (r#""sessionId":"s","dwellMs":7"#, &[("session_id", "s"), ("dwell_ms", "7")]),
        (r#""ad":{"minToWin":1.5,"campaign_id":"c"}"#, &[("ad.min_to_win", "1.5"), ("ad.campaign_id", "c")]),
        (r#""campaign":{"clickId":"g1"},"scrollPct":40"#, &[("campaign.click_id", "g1"), ("scroll_pct", "40.0")]),
        (r#""session\u005fid":"\u0041\n\"ä\ud83d\ude00""#, &[("session_id", "A\n\"ä😀")]),
        // Text and numbers.
        (r#""session_id":12"#, &[("session_id", "12")]),
        (r#""session_id":1.5"#, &[("session_id", "1.5")]),
        (r#""session_id":-9223372036854775808"#, &[("session_id", "-9223372036854775808")]),
        (r#""session_id":18446744073709551615"#, &[("session_id", "18446744073709551615")]),
        (r#""value":"2.5""#, &[("value", "2.5")]),
        (r#""value":" 2.5 ""#, &[("value", "2.5")]),
        (r#""value":3"#, &[("value", "3.0")]),
        (r#""value":-1e-3"#, &[("value", "-0.001")]),
        (r#""value":18446744073709551615"#, &[("value", "1.8446744073709552e19")]),
        (r#""value":123456789012345678901234567890"#, &[("value", "1.2345678901234568e29")]),
        (r#""dwell_ms":"70""#, &[("dwell_ms", "70")]),
        (r#""dwell_ms":70.0"#, &[("dwell_ms", "70")]),
        (r#""dwell_ms":"70.0""#, &[("dwell_ms", "70")]),
        (r#""dwell_ms":9223372036854775807"#, &[("dwell_ms", "9223372036854775807")]),
        (r#""bot":true"#, &[("bot", "true")]),
        (r#""bot":"False""#, &[("bot", "false")]),
        (r#""bot":1"#, &[("bot", "true")]),
        // Not given.
        (r#""value":null,"session_id":null,"bot":null,"page":null,"items":null"#, &[("value", "-"), ("item.id", "-")]),
        (r#""value":"","session_id":"","bot":"","dwell_ms":"","sent_at":"""#, &[("value", "-"), ("session_id", "-")]),
        (
            r#""value":"NaN","scroll_pct":"inf","ad":{"price":"-inf"}"#,
            &[("value", "-"), ("scroll_pct", "-"), ("ad.price", "-")],
        ),
        (r#""value":"-Infinity","dwell_ms":"NaN""#, &[("value", "-"), ("dwell_ms", "-")]),
        // Arrays stand for their first element.
        (
            r#""items":[{"id":"a","price":2,"quantity":"3"},{"id":"b","category":"c"}]"#,
            &[("item.id", "a"), ("item.price", "2.0"), ("item.quantity", "3.0"), ("item.category", "-")],
        ),
        (r#""items":{"id":"a"}"#, &[("item.id", "a")]),
        (r#""items":[],"page":{"category":["shoes","red"]}"#, &[("item.id", "-"), ("page.category", "shoes")]),
        (r#""page":{"category":[]}"#, &[("page.category", "-")]),
        // Unknown members, and members twice.
        (r#""x":{"session_id":"no","y":[1,{"z":null}]},"value":1"#, &[("session_id", "-"), ("value", "1.0")]),
        (r#""page":{"url":"a","nothing":{"url":"b"}}"#, &[("page.url", "a")]),
        (r#""value":1,"value":2"#, &[("value", "2.0")]),
        (r#""session_id":"a","sessionId":"b""#, &[("session_id", "a")]),
        (r#""sessionId":"b","session_id":"a""#, &[("session_id", "a")]),
        (r#""page":{"url":"a"},"page":{"url":"b"}"#, &[("page.url", "b")]),
        (r#""event_type":"click""#, &[("event_type", "click")]),
        // Times other than the event's own.
        (r#""sent_at":"2026-01-01T00:00:00.097Z""#, &[("sent_at", "1767225600097000")]),
        (r#""receivedAt":"2026-01-01T02:00:00.097+02:00""#, &[("received_at", "1767225600097000")]),
    ];
    let mut rig = Rig::new("");
    for (more, expected) in table {
        let answer = rig.decode(event(more).as_bytes());
        assert_eq!(answer, Ok(1), "{more}");
        for (name, value) in *expected {
            assert_eq!(rig.show(name), *value, "{name} of {more}");
        }
        assert_eq!((rig.show("the user"), rig.show("the time")), ("u".into(), MICROS.to_string()), "{more}");
    }
}

#[test]
fn the_user_is_the_user_id_or_else_the_anonymous_id() {
    let mut rig = Rig::new("");
    for (ids, user) in [
        (r#""user_id":"u""#, "u"),
        (r#""userId":7"#, "7"),
        (r#""userId":18446744073709551615"#, "18446744073709551615"),
        (r#""userId":18446744073709551614"#, "18446744073709551614"),
        (r#""user":{"user_id":"u"}"#, "u"),
        (r#""user":{"userId":"u","anonymousId":"a"}"#, "u"),
        (r#""user":{"anonymous_id":"a"}"#, "a"),
        (r#""user":{"user_id":"nested"},"user_id":"flat""#, "flat"),
        (r#""user_id":"flat","user":{"user_id":"nested"}"#, "flat"),
        (r#""user_id":"","user":{"user_id":"nested"}"#, "nested"),
        (r#""anonymous_id":"a","user_id":"u""#, "u"),
        (r#""anonymous_id":"a","user_id":null"#, "a"),
        (r#""anonymousId":"a","userId":"""#, "a"),
    ] {
        let payload = format!(r#"{{{ids},"event_type":"view","occurred_at":1767225601}}"#);
        assert_eq!(rig.decode(payload.as_bytes()), Ok(1), "{ids}");
        assert_eq!(rig.show("the user"), user, "{ids}");
    }
}

#[test]
fn a_time_is_read_in_any_usual_unit_and_spelling() {
    let mut rig = Rig::new("");
    for time in [
        "1767225600.097",
        "1767225600097",
        "1767225600097000",
        r#""1767225600.097""#,
        r#""1767225600097""#,
        r#""1767225600097000""#,
        r#""2026-01-01T00:00:00.097Z""#,
        r#""2026-01-01T05:30:00.097+05:30""#,
        r#""2026-01-01 00:00:00.097""#,
    ] {
        let payload = format!(r#"{{"userId":"u","eventType":"view","occurredAt":{time}}}"#);
        assert_eq!(rig.decode(payload.as_bytes()), Ok(1), "{time}");
        assert_eq!((rig.show("the time"), rig.show("occurred_at")), (MICROS.to_string(), MICROS.to_string()), "{time}");
    }
}

#[test]
fn a_bad_record_is_refused_with_its_reason_and_leaves_the_batch_as_it_was() {
    use RejectReason::{
        FutureTime, Malformed, MissingTime, MissingType, MissingUser, NullPayload, TimeRange, TooLarge, WrongType,
    };
    let deep = event(&format!(r#""items":{}{}"#, "[".repeat(100_000), "]".repeat(100_000)));
    let long_key = event(&format!(r#""user_id":"{}""#, "k".repeat(1025)));
    let long_id =
        format!(r#"{{"event_id":"{}","event_type":"view","user_id":"u","occurred_at":1767225601}}"#, "i".repeat(1_025));
    let large = event(&format!(r#""x":"{}""#, "x".repeat(300_000)));
    let future = format!(r#"{{"event_type":"view","user_id":"u","occurred_at":{}}}"#, MICROS + 3_600_000_001);
    let table: &[(&str, RejectReason, &str)] = &[
        ("", Malformed, "not JSON"),
        ("   ", Malformed, "not JSON"),
        ("{", Malformed, "not JSON"),
        ("nonsense", Malformed, "not JSON"),
        ("null", Malformed, "not an object"),
        ("7", Malformed, "not an object"),
        ("true", Malformed, "not an object"),
        ("\"text\"", Malformed, "not an object"),
        ("[]", Malformed, "not an object"),
        (
            r#"[{"event_type":"view","user_id":"u","occurred_at":1767225601},{"event_type":"view","user_id":"u","occurred_at":1767225602}]"#,
            Malformed,
            "not an object",
        ),
        (r#"{"event_type":"view","user_id":"u","occurred_at":1767225601} x"#, Malformed, "not JSON"),
        (r#"{"event_type":"view","user_id":"u","occurred_at":1767225601}{}"#, Malformed, "not JSON"),
        (r#"{"event_type":"view","user_id":"u","occurred_at":1767225601,}"#, Malformed, "not JSON"),
        (r#"{"event_type":"view","user_id":"u","occurred_at":1"#, Malformed, "not JSON"),
        (r#"{"event_type":"view","user_id":"u","occurred_at":NaN}"#, Malformed, "not JSON"),
        (r#"{"event_type":"view","user_id":"\ud800","occurred_at":1767225601}"#, WrongType, "half of a surrogate pair"),
        (r#"{"event_type":"view","user_id":"u","occurred_at":1767225601,"x":[1,}"#, Malformed, "not JSON"),
        (&deep, Malformed, "nested"),
        (
            r#"{"event_type":"view","user_id":"u","occurred_at":1767225601,"value":"much"}"#,
            WrongType,
            "value: expected a number",
        ),
        (
            r#"{"event_type":"view","user_id":"u","occurred_at":1767225601,"value":true}"#,
            WrongType,
            "value: expected a number",
        ),
        (
            r#"{"event_type":"view","user_id":"u","occurred_at":1767225601,"value":{"a":1}}"#,
            WrongType,
            "value: expected a number",
        ),
        (
            r#"{"event_type":"view","user_id":"u","occurred_at":1767225601,"value":{}}"#,
            WrongType,
            "value: expected a number",
        ),
        (
            r#"{"event_type":"view","user_id":"u","occurred_at":1767225601,"dwell_ms":1.5}"#,
            WrongType,
            "dwell_ms: expected a whole number",
        ),
        (
            r#"{"event_type":"view","user_id":"u","occurred_at":1767225601,"dwell_ms":18446744073709551615}"#,
            WrongType,
            "dwell_ms: expected a whole number",
        ),
        (
            r#"{"event_type":"view","user_id":"u","occurred_at":1767225601,"bot":"perhaps"}"#,
            WrongType,
            "bot: expected true or false",
        ),
        (
            r#"{"event_type":"view","user_id":"u","occurred_at":1767225601,"bot":2}"#,
            WrongType,
            "bot: expected true or false",
        ),
        (r#"{"event_type":"view","user_id":"u","occurred_at":"soon"}"#, WrongType, "occurred_at: expected a time"),
        (r#"{"event_type":"view","user_id":"u","occurred_at":true}"#, WrongType, "occurred_at: expected a time"),
        (
            r#"{"event_type":"view","user_id":"u","occurred_at":1767225601,"sent_at":"soon"}"#,
            WrongType,
            "sent_at: expected a time",
        ),
        (r#"{"event_type":"view","user_id":{"id":1},"occurred_at":1767225601}"#, WrongType, "user_id: expected text"),
        (
            r#"{"event_type":"view","user_id":"u","occurred_at":1767225601,"items":[{"price":[{"x":1}]}]}"#,
            WrongType,
            "item.price: expected a number",
        ),
        (r#"{"event_type":"view","user_id":"u","occurred_at":1767225601,"page":"/home"}"#, WrongType, "an object"),
        (&long_key, WrongType, "user_id: expected at most 1024 bytes"),
        (&long_id, TooLarge, "event_id: expected at most 1024 bytes, found 1025"),
        (r#"{"event_type":"view","occurred_at":1767225601}"#, MissingUser, "user_id"),
        (r#"{"event_type":"view","user_id":"","anonymous_id":null,"occurred_at":1767225601}"#, MissingUser, "user_id"),
        ("{}", MissingUser, "user_id"),
        (r#"{"user_id":"u","occurred_at":1767225601}"#, MissingType, "event_type"),
        (r#"{"event_type":"","user_id":"u","occurred_at":1767225601}"#, MissingType, "event_type"),
        (r#"{"event_type":"view","user_id":"u"}"#, MissingTime, "occurred_at"),
        (r#"{"event_type":"view","user_id":"u","occurred_at":null}"#, MissingTime, "occurred_at"),
        (r#"{"event_type":"view","user_id":"u","occurred_at":-1}"#, TimeRange, "occurred_at"),
        (r#"{"event_type":"view","user_id":"u","occurred_at":9223372036854775807}"#, TimeRange, "occurred_at"),
        (r#"{"event_type":"view","user_id":"u","occurred_at":18446744073709551615}"#, TimeRange, "occurred_at"),
        (r#"{"event_type":"view","user_id":"u","occurred_at":1e300}"#, TimeRange, "occurred_at"),
        (&future, FutureTime, "time.future_tolerance"),
        (&large, TooLarge, "input.max_bytes"),
    ];
    let mut rig = Rig::new("[input]\nmax_bytes = \"256KiB\"");
    rig.decode(event(r#""session_id":"s","value":1,"bot":true,"items":[{"id":"i"}]"#).as_bytes()).unwrap();
    let before = format!("{:?}", rig.batch);
    for (payload, reason, detail) in table {
        let shown: String = payload.chars().take(120).collect();
        let record =
            Record { payload: Some(payload.as_bytes()), timestamp_ms: Some(MICROS / 1_000), ..Record::default() };
        let rejection = rig.take(&record).expect_err(&shown);
        assert_eq!(rejection.reason, *reason, "{shown}: {rejection}");
        assert!(rejection.detail.contains(detail), "{shown}: {rejection}");
        assert_eq!(format!("{:?}", rig.batch), before, "{shown}");
    }
    let invalid = [event("").as_bytes(), b"\xff"].concat();
    for (payload, reason) in [(None, NullPayload), (Some(&invalid[..]), Malformed), (Some(b"\xc3\x28"), Malformed)] {
        let rejection = rig.take(&Record { payload, ..Record::default() }).unwrap_err();
        assert_eq!(rejection.reason, reason);
        assert_eq!(format!("{:?}", rig.batch), before);
    }
    // The latest allowed time, and a key of the maximum length, are accepted.
    let latest = format!(r#"{{"event_type":"view","user_id":"u","occurred_at":{}}}"#, MICROS + 3_600_000_000);
    let record = Record { payload: Some(latest.as_bytes()), timestamp_ms: Some(MICROS / 1_000), ..Record::default() };
    assert_eq!(rig.take(&record), Ok(1));
    assert_eq!(rig.decode(event(&format!(r#""user_id":"{}""#, "k".repeat(1024))).as_bytes()), Ok(1));
}

#[test]
fn a_member_may_nest_64_levels_deep_and_no_depth_overflows_the_stack() {
    let mut rig = Rig::new("[input]\nmax_bytes = \"2MiB\"");
    for member in ["x", "items"] {
        for (open, close, middle) in [("[", "]", "null"), (r#"{"a":"#, "}", "null"), (r#"[{"items":"#, "}]", "[]")] {
            for (levels, passes) in [(31, true), (100_000, false)] {
                let value = format!("{}{middle}{}", open.repeat(levels), close.repeat(levels));
                let answer = rig.decode(event(&format!(r#""{member}":{value},"value":4"#)).as_bytes());
                match answer {
                    Ok(_) => assert!(passes, "{levels} of {open} in {member}"),
                    Err(rejection) => {
                        assert!(!passes, "{levels} of {open} in {member}: {rejection}");
                        assert_eq!(rejection.detail, "nested more than 64 levels deep");
                    }
                }
            }
        }
    }
    // Brackets in texts, and brackets next to each other, do not nest.
    let many =
        event(&format!(r#""x":"\"{}","y":[{}[]],"z":"{}\\""#, "[".repeat(999), "[],".repeat(999), "{".repeat(999)));
    assert_eq!(rig.decode(many.as_bytes()), Ok(1));
    for levels in [63, 64] {
        let value = format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert_eq!(rig.decode(event(&format!(r#""items":{value}"#)).as_bytes()).is_ok(), levels == 63);
    }
    // Unterminated, as an attacker would send them.
    for open in ["[", r#"{"a":"#, r#"{"items":["#, r#"["a","#] {
        assert_eq!(rig.decode(open.repeat(100_000).as_bytes()).unwrap_err().reason, RejectReason::Malformed);
    }
}

#[test]
fn a_missing_time_may_be_the_records_own() {
    let payload = br#"{"event_type":"view","user_id":"u"}"#;
    let record = |timestamp_ms| Record { payload: Some(payload), timestamp_ms, ..Record::default() };
    let mut rig = Rig::new("[time]\nmissing = \"record\"");
    assert_eq!(rig.take(&record(Some(MICROS / 1_000))), Ok(1));
    assert_eq!((rig.show("the time"), rig.show("occurred_at")), (MICROS.to_string(), MICROS.to_string()));
    assert_eq!(rig.take(&record(None)).unwrap_err().reason, RejectReason::MissingTime);
    assert_eq!(rig.take(&record(Some(-1))).unwrap_err().reason, RejectReason::TimeRange);
    let mut rig = Rig::new("");
    assert_eq!(rig.take(&record(Some(MICROS / 1_000))).unwrap_err().reason, RejectReason::MissingTime);
}

#[test]
fn where_a_row_came_from_stands_beside_it() {
    let mut rig = Rig::new("");
    let payload = event(r#""event_id":"e1""#);
    let record = Record {
        partition: 3,
        offset: 91,
        payload: Some(payload.as_bytes()),
        traceparent: Some("00-trace"),
        erase: None,
        ..Record::default()
    };
    assert_eq!(rig.take(&record), Ok(1));
    let (batch, texts) = (&rig.batch, &rig.batch.columns.texts);
    assert_eq!((batch.positions[0].partition, batch.positions[0].offset, batch.positions[0].index), (3, 91, 0));
    assert_eq!((texts.get(batch.event_ids[0]), texts.get(batch.traceparents[0])), ("e1", "00-trace"));
}

#[test]
fn every_preset_reads_an_event_of_its_producer() {
    let table: &[(&str, &str, Expected<'_>)] = &[
        (
            "snowplow",
            r#"{"app_id":"shop","platform":"web","collector_tstamp":"2026-01-01 00:00:02.000",
                "dvce_created_tstamp":"2026-01-01 00:00:01.000","derived_tstamp":"2026-01-01 00:00:00.097",
                "dvce_sent_tstamp":"2026-01-01 00:00:01.500","event":"struct","event_name":"add_to_cart",
                "event_id":"c6ef3124","user_id":null,"domain_userid":"bc2e92ec","network_userid":"ecdff4d0",
                "domain_sessionid":"7a2b","page_url":"https://shop/a","page_urlpath":"/a","page_title":"A",
                "tr_total":null,"ti_sku":"sku1","ti_price":"12.5","ti_quantity":2,"mkt_medium":"cpc",
                "geo_country":"DE","useragent":"Mozilla","os_name":"iOS","contexts":{"data":[{"schema":"x"}]}}"#,
            &[
                ("the user", "bc2e92ec"),
                ("event_type", "add_to_cart"),
                ("event_id", "c6ef3124"),
                ("received_at", "1767225602000000"),
                ("sent_at", "1767225601500000"),
                ("session_id", "7a2b"),
                ("source.app_id", "shop"),
                ("page.path", "/a"),
                ("item.id", "sku1"),
                ("item.price", "12.5"),
                ("item.quantity", "2.0"),
                ("value", "-"),
                ("campaign.medium", "cpc"),
                ("geo.country", "DE"),
                ("device.os", "iOS"),
            ],
        ),
        (
            "segment",
            r#"{"anonymousId":"23adfd82","context":{"ip":"0.0.0.0","page":{"path":"/cart","url":"https://shop/cart"},
                "userAgent":"Mozilla","campaign":{"source":"mail"},"os":{"name":"Android"}},"event":"Order Completed",
                "integrations":{},"messageId":"ajs-1","originalTimestamp":"2026-01-01T00:00:09Z",
                "receivedAt":"2026-01-01T00:00:02Z","sentAt":"2026-01-01T00:00:01Z",
                "timestamp":"2026-01-01T00:00:00.097Z","type":"track","userId":"97980cfea0067",
                "properties":{"revenue":25.5,"total":30,"currency":"USD","products":[{"product_id":"p1","price":9,
                "quantity":1,"category":"Games"},{"product_id":"p2"}]}}"#,
            &[
                ("the user", "97980cfea0067"),
                ("anonymous_id", "23adfd82"),
                ("event_type", "Order Completed"),
                ("event_id", "ajs-1"),
                ("page.path", "/cart"),
                ("item.id", "p1"),
                ("item.price", "9.0"),
                ("item.category", "Games"),
                ("value", "25.5"),
                ("currency", "USD"),
                ("campaign.source", "mail"),
                ("device.os", "Android"),
            ],
        ),
        (
            "ga4",
            r#"{"event_date":"20260101","event_timestamp":"1767225600097000","event_name":"purchase",
                "event_params":[{"key":"ga_session_id","value":{"string_value":null,"int_value":"5"}},
                {"value":{"string_value":"https://shop/a"},"key":"page_location"},{"key":"page_title","value":"A"},
                {"key":"engagement_time_msec","value":{"int_value":"1500","double_value":2}},{"key":"x","value":{"y":[{}]}},
                {"key":"currency","value":{"string_value":"E\u0055R"}},{"key":"page_referrer"},{"value":3}],
                "event_value_in_usd":20,
                "user_id":null,"user_pseudo_id":"1234.5678","platform":"WEB","device":{"category":"mobile",
                "operating_system":"iOS"},"geo":{"country":"Germany","region":"Berlin"},
                "traffic_source":{"name":"(direct)","medium":"(none)"},"ecommerce":{"purchase_revenue":19.5},
                "items":[{"item_id":"i1","item_category":"Apparel","price":9.75,"quantity":2}]}"#,
            &[
                ("the user", "1234.5678"),
                ("event_type", "purchase"),
                ("source.platform", "WEB"),
                ("item.id", "i1"),
                ("item.category", "Apparel"),
                ("item.price", "9.75"),
                ("value", "19.5"),
                ("currency", "EUR"),
                ("session_id", "5"),
                ("page.url", "https://shop/a"),
                ("page.title", "A"),
                ("page.referrer", "-"),
                ("dwell_ms", "1500"),
                ("campaign.name", "(direct)"),
                ("device.type", "mobile"),
                ("geo.region", "Berlin"),
            ],
        ),
        (
            "amplitude",
            r#"{"user_id":"datamonster@gmail.com","device_id":"C8F9E604","event_type":"watch_tutorial",
                "time":1767225600097,"event_properties":{"product_id":"x7"},"user_properties":{"age":25},
                "country":"United States","platform":"iOS","os_name":"ios","price":4.99,"quantity":3,
                "revenue":-1.99,"session_id":1396381378123,"$insert_id":"5f0adeff"}"#,
            &[
                ("the user", "datamonster@gmail.com"),
                ("event_type", "watch_tutorial"),
                ("event_id", "5f0adeff"),
                ("session_id", "1396381378123"),
                ("item.id", "x7"),
                ("item.price", "4.99"),
                ("value", "-1.99"),
                ("geo.country", "United States"),
            ],
        ),
    ];
    for (preset, payload, expected) in table {
        let mut rig = Rig::new(&format!("[input]\npreset = \"{preset}\""));
        assert_eq!(rig.decode(payload.as_bytes()), Ok(1), "{preset}");
        assert_eq!(rig.show("the time"), MICROS.to_string(), "{preset}");
        for (name, value) in *expected {
            assert_eq!(rig.show(name), *value, "{name} of {preset}");
        }
    }
}

#[test]
fn fields_stand_where_the_configuration_says() {
    let sections = r#"
        [input]
        preset = "segment"
        [input.fields]
        user_id = "who.id"
        occurred_at = { path = "at", unit = "s" }
        sent_at = { path = "sent", unit = "us" }
        "item.price" = "goods.cost"
        [[field]]
        name = "color"
        type = "string"
        path = "properties.color"
        [[field]]
        name = "stock"
        type = "int"
        path = "goods.stock"
    "#;
    let mut rig = Rig::new(sections);
    let payload = br#"{"who":{"id":"w"},"userId":"not this","event":"view","at":200000000000,"sent":5,
        "goods":[{"cost":"3.5","stock":4}],"properties":{"color":"red","price":9}}"#;
    assert_eq!(rig.decode(payload), Ok(1));
    for (name, value) in [
        ("the user", "w"),
        ("the time", "200000000000000000"),
        ("sent_at", "5"),
        ("item.price", "3.5"),
        ("color", "red"),
        ("stock", "4"),
    ] {
        assert_eq!(rig.show(name), value, "{name}");
    }
}

#[test]
fn a_wrong_mapping_is_a_fault_with_the_next_step() {
    for (sections, key, message, hint) in [
        ("[input.fields]\nuser_ids = \"id\"", "input.fields.user_ids", "no field \"user_ids\"", "\"user_id\""),
        ("[input.fields]\nzzzzzzzzzzzz = \"id\"", "input.fields.zzzzzzzzzzzz", "no field", "[[field]]"),
        ("[input.fields]\nvalue = \"a..b\"", "input.fields.value", "not a path", "context.page.url"),
        ("[input]\nformat = \"protobuf\"\npreset = \"ga4\"", "input.format", "Protobuf", "input.preset"),
        (
            "[[field]]\nname = \"value\"\ntype = \"int\"\npath = \"x\"",
            "field[0].name",
            "declared already",
            "[input.fields]",
        ),
        ("[[field]]\nname = \"x\"\ntype = \"int\"\npath = \"\"", "field[0].path", "not a path", ""),
        (
            "[input]\nformat = \"protobuf\"\n[[field]]\nname = \"x\"\ntype = \"int\"\npath = \"x\"",
            "field[0].path",
            "of one's own",
            "properties.color",
        ),
    ] {
        let errors = Rig::compile(sections).err().unwrap_or_default();
        let found = errors.iter().any(|error| {
            error.key == key
                && error.message.contains(message)
                && error.hint.as_deref().unwrap_or_default().contains(hint)
        });
        assert!(found, "{sections}: {errors:?}");
    }
}

/// An event with every canonical field, as Protobuf and as JSON.
fn full() -> (v1::Event, String) {
    let text = str::to_owned;
    let event = v1::Event {
        schema_version: 1,
        event_id: text("e"),
        event_type: text("purchase"),
        occurred_at: MICROS,
        sent_at: MICROS + 1,
        received_at: MICROS + 2,
        user_id: text("ü"),
        anonymous_id: text("a"),
        key_type: v1::KeyType::App.into(),
        session_id: text("s"),
        source: Some(v1::Source { app_id: text("app"), platform: text("web"), sdk: text("sdk") }),
        page: Some(v1::Page {
            url: text("https://shop/x"),
            path: text("/x"),
            referrer: text("r"),
            title: text("t"),
            category: vec![text("c1"), text("c2")],
            cattax: 6,
        }),
        items: vec![
            v1::Item { id: text("i"), category: text("ic"), price: Some(2.5), quantity: Some(3.0) },
            v1::Item { id: text("other"), ..v1::Item::default() },
        ],
        value: Some(39.25),
        currency: text("USD"),
        dwell_ms: Some(1_500),
        scroll_pct: Some(40.0),
        campaign: Some(v1::Campaign { source: text("cs"), medium: text("cm"), name: text("cn"), click_id: text("cc") }),
        ad: Some(v1::Ad {
            decision_id: text("ad1"),
            auction_id: text("ad2"),
            imp_id: text("ad3"),
            campaign_id: text("ad4"),
            creative_id: text("ad5"),
            placement: text("ad6"),
            price: Some(0.5),
            min_to_win: Some(0.25),
        }),
        device: Some(v1::Device { ua: text("Mozilla"), r#type: text("phone"), os: text("iOS") }),
        geo: Some(v1::Geo { country: text("DE"), region: text("BE") }),
        consent: Some(v1::Consent {
            gdpr_applies: Some(true),
            tc_string: text("C1"),
            gpp: text("DB"),
            gpp_sid: vec![2, 7],
            gpc: Some(false),
            coppa: Some(false),
            lmt: Some(true),
            us_privacy: text("1YNN"),
        }),
        bot: Some(false),
        properties: [("color".to_owned(), text("red")), ("size".to_owned(), text("42"))].into(),
    };
    let json = format!(
        r#"{{"schemaVersion":1,"eventId":"e","eventType":"purchase","occurredAt":"{MICROS}","sentAt":"{}",
        "receivedAt":"{}","userId":"ü","anonymousId":"a","keyType":"KEY_TYPE_APP","sessionId":"s",
        "source":{{"appId":"app","platform":"web","sdk":"sdk"}},
        "page":{{"url":"https://shop/x","path":"/x","referrer":"r","title":"t","category":["c1","c2"],"cattax":6}},
        "items":[{{"id":"i","category":"ic","price":2.5,"quantity":3}},{{"id":"other"}}],
        "value":39.25,"currency":"USD","dwellMs":"1500","scrollPct":40,
        "campaign":{{"source":"cs","medium":"cm","name":"cn","clickId":"cc"}},
        "ad":{{"decisionId":"ad1","auctionId":"ad2","impId":"ad3","campaignId":"ad4","creativeId":"ad5",
        "placement":"ad6","price":0.5,"minToWin":0.25}},
        "device":{{"ua":"Mozilla","type":"phone","os":"iOS"}},"geo":{{"country":"DE","region":"BE"}},
        "consent":{{"gdprApplies":true,"tcString":"C1","gpp":"DB","gppSid":[2,7],"gpc":false,"coppa":0,"lmt":1,
        "usPrivacy":"1YNN"}},
        "bot":false,"properties":{{"color":"red","size":"42"}}}}"#,
        MICROS + 1,
        MICROS + 2
    );
    (event, json)
}

const OWN: &str = r#"
    [[field]]
    name = "color"
    type = "string"
    path = "properties.color"
    [[field]]
    name = "size"
    type = "int"
    path = "properties.size"
"#;

#[test]
fn protobuf_and_json_say_the_same_of_every_canonical_field() {
    let (event, json) = full();
    let mut from_json = Rig::new(OWN);
    assert_eq!(from_json.decode(json.as_bytes()), Ok(1));
    let all = from_json.all();
    assert_eq!(all.len(), CANONICAL.len() + 2 + 2, "every field is given: {all:?}");
    let body = event.encode_to_vec();
    let headers: [&[u8]; 6] = [
        b"",
        b"\0\0\0\0\x07\0",
        b"\0\0\0\0\x07\x02\0",
        b"\0\xff\xff\xff\xff\x04\x02\x04",
        b"\0\0\0\0\x01\x02\x80\x01",
        b"\0\0\0\0\0\x06\0\x02\x04",
    ];
    for header in headers {
        let mut rig = Rig::new(&format!("[input]\nformat = \"protobuf\"\n{OWN}"));
        assert_eq!(rig.decode(&[header, &body].concat()), Ok(1), "{header:?}");
        assert_eq!(rig.all(), all, "{header:?}");
        assert_eq!(rig.batch.user_hashes, from_json.batch.user_hashes);
    }
}

#[test]
fn a_bad_protobuf_event_is_refused_and_leaves_the_batch_as_it_was() {
    let mut rig = Rig::new(&format!("[input]\nformat = \"protobuf\"\n{OWN}"));
    let (event, _) = full();
    rig.decode(&event.encode_to_vec()).unwrap();
    let before = format!("{:?}", rig.batch);
    let encode = |change: &dyn Fn(&mut v1::Event)| {
        let mut event = event.clone();
        change(&mut event);
        event.encode_to_vec()
    };
    for (payload, reason, detail) in [
        (b"\0\0\0".to_vec(), RejectReason::Malformed, "wire header"),
        (b"\0\0\0\0\x01".to_vec(), RejectReason::Malformed, "wire header"),
        (b"\0\0\0\0\x01\xfe\xff\xff\xff\xff\xff\xff\xff\x7f\x02".to_vec(), RejectReason::Malformed, "wire header"),
        (b"{\"event_type\":\"view\"}".to_vec(), RejectReason::Malformed, "aimpoint.v1.Event"),
        (event.encode_to_vec()[..20].to_vec(), RejectReason::Malformed, "aimpoint.v1.Event"),
        (Vec::new(), RejectReason::MissingUser, "user_id"),
        (encode(&|event| event.event_type.clear()), RejectReason::MissingType, "event_type"),
        (encode(&|event| event.occurred_at = 0), RejectReason::MissingTime, "occurred_at"),
        (encode(&|event| event.occurred_at = -1), RejectReason::TimeRange, "occurred_at"),
        (
            encode(&|event| drop(event.properties.insert("size".into(), "big".into()))),
            RejectReason::WrongType,
            "size: expected a whole number",
        ),
    ] {
        let rejection = rig.decode(&payload).unwrap_err();
        assert_eq!(rejection.reason, reason, "{rejection}");
        assert!(rejection.detail.contains(detail), "{rejection}");
        assert_eq!(format!("{:?}", rig.batch), before);
    }
    let odd = encode(&|event| (event.value, event.scroll_pct) = (Some(f64::NAN), Some(f64::INFINITY)));
    assert_eq!(rig.decode(&odd), Ok(1));
    assert_eq!((rig.show("value"), rig.show("scroll_pct")), ("-".into(), "-".into()));
    assert_eq!(rig.decode(&encode(&|event| event.dwell_ms = Some(i64::MIN))), Ok(1));
    assert_eq!(rig.show("dwell_ms"), "-", "the smallest number says that there is none");
}

#[test]
fn the_unit_traps_of_every_producer_give_the_same_microseconds() {
    let seconds = "[input.fields]\noccurred_at = { path = \"event_time\", unit = \"s\" }";
    let by_size = "[input.fields]\noccurred_at = \"event_time\"";
    for (sections, time) in [
        // Snowplow's times have no zone and are UTC.
        ("[input]\npreset = \"snowplow\"", r#""event":"a","derived_tstamp":"2026-01-01 00:00:00.097""#),
        ("[input]\npreset = \"snowplow\"", r#""event":"a","collector_tstamp":"2026-01-01T00:00:00.097Z""#),
        ("[input]\npreset = \"segment\"", r#""type":"page","timestamp":"2026-01-01T02:00:00.097+02:00""#),
        ("[input]\npreset = \"segment\"", r#""type":"page","originalTimestamp":"2026-01-01T00:00:00.097Z""#),
        // GA4's times are microseconds, as a number or in text.
        ("[input]\npreset = \"ga4\"", r#""event_name":"a","event_timestamp":1767225600097000"#),
        ("[input]\npreset = \"ga4\"", r#""event_name":"a","event_timestamp":"1767225600097000""#),
        // Amplitude's times are milliseconds when sent, and text when exported.
        ("[input]\npreset = \"amplitude\"", r#""event_type":"a","time":1767225600097"#),
        ("[input]\npreset = \"amplitude\"", r#""event_type":"a","event_time":"2026-01-01 00:00:00.097000""#),
        // Seconds with a fraction, also in text; and the most common error, 13 digits instead of 10.
        (seconds, r#""event_type":"a","event_time":1767225600.097"#),
        (seconds, r#""event_type":"a","event_time":"1767225600.097""#),
        (by_size, r#""event_type":"a","event_time":"1767225600097""#),
        (by_size, r#""event_type":"a","event_time":1767225600.097"#),
    ] {
        let mut rig = Rig::new(sections);
        let user = r#""user_id":"u","userId":"u""#;
        assert_eq!(rig.decode(format!("{{{user},{time}}}").as_bytes()), Ok(1), "{sections} {time}");
        assert_eq!(rig.show("the time"), MICROS.to_string(), "{sections} {time}");
    }
}

#[test]
fn arrays_of_keys_and_values_are_read_by_key_also_as_an_object() {
    let sections = r#"
        [[field]]
        name = "level"
        type = "int"
        path = "params[level.max]"
        [[field]]
        name = "title"
        type = "string"
        path = "a.params[title]"
    "#;
    let mut rig = Rig::new(sections);
    let more = r#""params":[{"key":"level.max","value":"7"},{"key":"other","value":1}],
        "a":{"params":{"title":"T","level.max":9}}"#;
    assert_eq!(rig.decode(event(more).as_bytes()), Ok(1));
    assert_eq!((rig.show("level"), rig.show("title")), ("7".into(), "T".into()));
    let rejection = rig.decode(event(r#""params":[{"key":"level.max","value":"high"}]"#).as_bytes()).unwrap_err();
    assert_eq!(rejection.to_string(), "wrong_type: level: expected a whole number");
    let rejection = rig.decode(event(r#""params":[7]"#).as_bytes()).unwrap_err();
    assert_eq!(rejection.to_string(), "wrong_type: level: expected an object around it, and there is another value");
    for path in ["a[", "a[]", "a[b", "a[b]c", "a[b].c", "a..b", ".a", "a.", ""] {
        let sections = format!("[[field]]\nname = \"x\"\ntype = \"int\"\npath = \"{path}\"");
        let errors = Rig::compile(&sections).err().unwrap_or_default();
        assert!(errors.iter().any(|error| error.message.contains("not a path")), "{path}: {errors:?}");
    }
}

mod forms;
mod odd;
mod order;

const LOG: &str = "[input]\nformat = \"access_log\"\nsecret = \"0123456789abcdef\"\n";

#[test]
fn a_line_of_an_access_log_is_an_event() {
    let own = r#"
        [[field]]
        name = "status"
        type = "int"
        path = "status"
        [[field]]
        name = "bytes"
        type = "int"
        path = "bytes"
        [[field]]
        name = "query"
        type = "string"
        path = "query"
    "#;
    let table: &[(&str, Expected<'_>)] = &[
        (
            r#"192.0.2.1 - ann lee [01/Jan/2026:01:00:00 +0100] "GET /a/b.html?q=1 HTTP/1.1" 200 512 "http://x/" "M \"q\" 5""#,
            &[
                ("the user", "ann lee"),
                ("the time", "1767225600000000"),
                ("event_type", "page_view"),
                ("page.path", "/a/b.html"),
                ("query", "q=1"),
                ("status", "200"),
                ("bytes", "512"),
                ("page.referrer", "http://x/"),
                ("device.ua", r#"M \"q\" 5"#),
            ],
        ),
        // The common format without a zone; a page served from the cache.
        (
            "192.0.2.1 - - [01/Jan/2026:00:00:00] \"GET / HTTP/1.0\" 304 -\n",
            &[("the time", "1767225600000000"), ("event_type", "page_view"), ("bytes", "-"), ("device.ua", "-")],
        ),
        (
            r#"h - - [01/Jan/2026:00:00:00 +0000] "GET /a.CSS HTTP/1.0" 200 5 "-" "-""#,
            &[("event_type", "request"), ("page.referrer", "-")],
        ),
        (r#"h - - [01/Jan/2026:00:00:00 +0000] "POST / HTTP/1.0" 200 5"#, &[("event_type", "request")]),
        (r#"h - - [01/Jan/2026:00:00:00 +0000] "GET / HTTP/1.0" 404 5"#, &[("event_type", "request")]),
        (r#"h - - [01/Jan/2026:00:00:00 +0000] "\x16\x03" 400 0"#, &[("event_type", "request"), ("page.path", "-")]),
    ];
    let mut users = std::collections::HashSet::new();
    for (line, expected) in table {
        let mut rig = Rig::new(&format!("{LOG}{own}"));
        assert_eq!(rig.decode(line.as_bytes()), Ok(1), "{line}");
        for (name, value) in *expected {
            assert_eq!(rig.show(name), *value, "{name} of {line}");
        }
        users.insert(rig.show("anonymous_id"));
    }
    assert_eq!(users.len(), 3, "a client is an address with an agent");
    let mut rig = Rig::new(LOG);
    for (line, reason, detail) in [
        ("", RejectReason::Malformed, "address"),
        ("h - - \"GET / HTTP/1.0\" 200 5", RejectReason::Malformed, "the user"),
        ("h - - [x] GET", RejectReason::Malformed, "the request"),
        ("h - - [x] \"GET / HTTP/1.0\" 200", RejectReason::Malformed, "status"),
        ("h - - [31/Feb/2026:00:00:00 +0000] \"GET / HTTP/1.0\" 200 5", RejectReason::WrongType, "31/Jan/2026"),
    ] {
        let rejection = rig.decode(line.as_bytes()).unwrap_err();
        assert_eq!(rejection.reason, reason, "{line}: {rejection}");
        assert!(rejection.detail.contains(detail), "{line}: {rejection}");
    }
    assert!(rig.batch.is_empty());
}

#[test]
fn sections_of_the_input_that_do_not_go_together_are_faults() {
    for (sections, key) in [
        ("[input]\nformat = \"access_log\"", "input.secret"),
        ("[input]\nformat = \"access_log\"\nsecret = \"short\"", "input.secret"),
        ("[input]\nsecret = \"0123456789abcdef\"", "input.secret"),
        ("[input]\nformat = \"protobuf\"\nunpack = \"a\"", "input.unpack"),
        ("[input]\nunpack = \"a..b\"", "input.unpack"),
        ("[input]\nunpack = \"a[b]\"", "input.unpack"),
        (&format!("{LOG}preset = \"ga4\""), "input.preset"),
        (&format!("{LOG}[input.fields]\nsession_id = \"address\""), "input.fields.session_id"),
        (&format!("{LOG}[[field]]\nname = \"x\"\ntype = \"string\"\npath = \"address\""), "field[0].path"),
    ] {
        let errors = Rig::compile(sections).err().unwrap_or_default();
        assert!(errors.iter().any(|error| error.key == key && error.hint.is_some()), "{sections}: {errors:?}");
    }
    let Sections { input, .. } = toml::from_str(LOG).unwrap();
    assert!(!format!("{input:?}").contains("0123"), "a secret is not shown");
}

mod any_bytes {
    //! The decoder handles any bytes, and the batch stays consistent: [`Rig::decode`] checks its columns.

    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Change {
        Set(usize, u8),
        Insert(usize, u8),
        Remove(usize),
        Cut(usize),
        Repeat(usize, usize),
    }

    fn change() -> impl Strategy<Value = Change> {
        let byte = || prop_oneof![any::<u8>(), prop::sample::select(br#"{}[]:,"\0129.eE-+ntf"#.to_vec())];
        prop_oneof![
            (any::<usize>(), byte()).prop_map(|(at, byte)| Change::Set(at, byte)),
            (any::<usize>(), byte()).prop_map(|(at, byte)| Change::Insert(at, byte)),
            any::<usize>().prop_map(Change::Remove),
            any::<usize>().prop_map(Change::Cut),
            (any::<usize>(), any::<usize>()).prop_map(|(from, to)| Change::Repeat(from, to)),
        ]
    }

    fn apply(bytes: &mut Vec<u8>, change: &Change) {
        let length = bytes.len().max(1);
        match *change {
            _ if bytes.is_empty() => {}
            Change::Set(at, byte) => bytes[at % length] = byte,
            Change::Insert(at, byte) => bytes.insert(at % length, byte),
            Change::Remove(at) => drop(bytes.remove(at % length)),
            Change::Cut(at) => bytes.truncate(at % length),
            Change::Repeat(from, to) => {
                let (from, to) = (from % length, to % length);
                let piece = bytes[from.min(to)..from.max(to)].to_vec();
                bytes.splice(from..from, piece);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn arbitrary_bytes_never_panic(payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..5)) {
            for sections in ["", "[input]\nformat = \"protobuf\"", "[input]\nunpack = \"a\"", LOG] {
                let mut rig = Rig::new(sections);
                for payload in &payloads {
                    let rows = rig.batch.len();
                    let taken = rig.decode(payload).unwrap_or(0);
                    prop_assert_eq!(rig.batch.len(), rows + taken);
                }
            }
        }

        #[test]
        fn damaged_events_never_panic(damage in prop::collection::vec(prop::collection::vec(change(), 1..4), 1..5)) {
            let (event, json) = full();
            let line = br#"192.0.2.1 - - [01/Jan/2026:01:00:00 +0100] "GET /a?q=1 HTTP/1.1" 200 512 "http://x/" "M 5""#;
            let several = br#"{"b":[{"occurred_at":1767225601},{"occurred_at":1767225602,"bot":true}],"user_id":"u","event_type":"a"}"#;
            let pairs = br#"{"user_id":"u","event_name":"a","event_timestamp":1767225600000000,"event_params":[{"key":"ga_session_id",
                "value":{"int_value":"5"}},{"value":"x","key":"page_title"}]}"#;
            for (sections, valid, rows) in [
                ("", json.into_bytes(), 1),
                ("[input]\nformat = \"protobuf\"", event.encode_to_vec(), 1),
                (LOG, line.to_vec(), 1),
                ("[input]\nunpack = \"b\"", several.to_vec(), 2),
                ("[input]\nunpack = \"b\"\nbots = \"exclude\"", several.to_vec(), 1),
                ("[input]\npreset = \"ga4\"", pairs.to_vec(), 1),
            ] {
                let mut rig = Rig::new(sections);
                for changes in &damage {
                    let mut payload = valid.clone();
                    for change in changes {
                        apply(&mut payload, change);
                    }
                    let before = format!("{:?}", rig.batch);
                    if rig.decode(&payload).is_err() {
                        prop_assert_eq!(format!("{:?}", rig.batch), before);
                    }
                    prop_assert_eq!(rig.decode(&valid), Ok(rows), "a good event still passes");
                }
            }
        }
    }
}

#[test]
fn a_field_keeps_the_network_of_an_address_and_an_id_stays() {
    let field = "[[field]]\nname = \"ip\"\ntype = \"string\"\npath = \"ip\"\n";
    let payload = br#"{"user_id":"203.0.113.77","event_type":"view","occurred_at":1700000000000,
        "ip":"203.0.113.77","source":{"sdk":"10.4.1.7"}}"#;
    for (input, kept) in [("", "203.0.113.0"), ("[input]\naddresses = \"whole\"\n", "203.0.113.77")] {
        let mut rig = Rig::new(&format!("{input}{field}"));
        assert_eq!(rig.decode(payload), Ok(1));
        assert_eq!([rig.show("ip"), rig.show("the user"), rig.show("source.sdk")], [kept, "203.0.113.77", "10.4.1.7"]);
    }
}
