use super::{CANONICAL, Decoder, EventBatch, FieldSpec, Fields, InputSpec, Record, RejectReason, Rejection, TimeSpec};
use crate::{
    columns::{Column, MISSING_INT, Slot, Truth},
    config_error::ConfigError,
    expression::Scope,
    proto::v1,
};
use prost::Message;
use serde::Deserialize;

mod access_log;
mod any_bytes;
mod forms;
mod mappings;
mod odd;
mod order;
mod protobuf;
mod refusals;

const LOG: &str = "[input]\nformat = \"access_log\"\nsecret = \"0123456789abcdef\"\n";

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
