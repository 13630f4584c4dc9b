use super::*;
use crate::{
    decision::DecisionSpec,
    engine::{Partition, Partitions},
    sink::Outbox,
    status::Counts,
    testkit::FakeModel,
};

const SPEC: &str = r#"
[[feature]]
name = "spent"
aggregate = "sum"
value = "value"
window = "forever"

[[segment]]
id = "spender"
where = "spent > 100.0"

[[segment]]
id = "buyer"
where = 'event_type == "purchase"'
exit = "false"
duration = "30d"

[[campaign]]
id = "spring"
segments = { any = ["spender"] }
action = "click"
value = 0.5
probability = "score"
currency = "EUR"
arms = [{ name = "b", share = 0.9999 }]

[[campaign]]
id = "dear"
segments = { all = ["spender"] }
value = 2
currency = "EUR"
where = "spent > 1000.0"

[[campaign]]
id = "poor"
value = "1.0 - 0.0 * spent"
currency = "EUR"
floor = 1.5

[[campaign]]
id = "missing"
segments = { all = ["buyer", "spender"], any = ["spender"] }
value = 1
currency = "EUR"

[[creative]]
id = "red"
campaign = "spring"
headline = ["Half price"]
landing_page = "https://shop.example/"

[decision]
reasons = true
"#;

/// What the command prints about the last of these events.
fn page(format: &str, events: &[&str]) -> String {
    let mut spec: PipelineSpec = toml::from_str(SPEC).unwrap();
    spec.decision.format = toml::from_str::<DecisionSpec>(&format!("format = {format:?}")).unwrap().format;
    let model = FakeModel::new(&["spent"], |_| 0.25);
    let mut pipeline = Pipeline::compile(&spec, ("shop", "clicks")).unwrap().with_model(Box::new(model)).unwrap();
    let mut partitions = Partitions::default();
    partitions.insert(0, Partition::new(0, 0, None));
    let (mut outbox, mut counts) = (Outbox::default(), Counts::default());
    for (offset, event) in events.iter().enumerate() {
        let payload = format!(r#"{{"user_id":"u","occurred_at":1767225600,"event_id":"e{offset}",{event}}}"#);
        let record = Record { offset: offset as i64, payload: Some(payload.as_bytes()), ..Record::default() };
        pipeline.take(&record, &mut partitions, &mut outbox, &mut counts);
    }
    pipeline.run(&mut partitions, EventTime(1_767_225_601_000_000), &mut outbox, &mut counts);
    let decision = ReadDecision::read(outbox.get(events.len() - 1).payload.unwrap()).unwrap();
    let values: Values = Ok(BTreeMap::from([("spent".to_owned(), Some(150.0))]));
    let mut page = Vec::new();
    print(&decision, &values, &spec, &pipeline, &mut page).unwrap();
    String::from_utf8(page).unwrap()
}

#[test]
fn a_decision_is_explained_in_words_from_both_encodings() {
    let events = [r#""event_type":"view","value":120"#, r#""event_type":"purchase","value":30"#];
    let page_of_json = page("json", &events);
    assert_eq!(page_of_json, page("protobuf", &events));
    for line in [
        "decision        shop:clicks-0-1",
        "made because    event e1 happened at 2026-01-01T00:00:00Z",
        "status          targeted: the user is in a segment, or a campaign may be shown",
        "score           0.25, by model",
        "segments        spender\n                  rule spent > 100.0\n                  spent is 150 in the stored profile",
        "buyer: entered at this event, until 2026-01-31T00:00:00Z",
        "spring: bid 125 EUR per thousand impressions; 0.250000 that the action follows, worth 0.5 EUR",
        "the user is in arm b of its experiment",
        "creative red, drawn with probability 1.0000",
        "dear: not considered: its rule did not hold\n                  rule spent > 1000.0",
        "poor: its bid would be below the floor of 1.5",
    ] {
        assert!(page_of_json.contains(line), "{line:?} is not in\n{page_of_json}");
    }
}

#[test]
fn a_campaign_for_others_says_which_segments_it_needs() {
    let page = page("json", &[r#""event_type":"view","value":1"#]);
    for line in [
        "segments        none",
        "campaigns       none offered",
        "spring: not considered: it needs one of spender",
        "missing: not considered: it needs one of spender, and it needs buyer and spender",
    ] {
        assert!(page.contains(line), "{line:?} is not in\n{page}");
    }
}

#[test]
fn what_is_no_decision_is_refused() {
    for payload in [&b"{}"[..], b"{", b"\xff\xff", b""] {
        assert!(ReadDecision::read(payload).is_err(), "{payload:?}");
    }
}
