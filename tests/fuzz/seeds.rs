//! The inputs that fuzzing begins with: what others or the program itself write.

use crate::targets::{pipeline, store};
use aimpoint::{
    control::{AudienceReport, ControlSpec, Outcome, Source, State},
    engine::{Partition, Partitions, Pipeline},
    event::{ERASE_HEADER, EventTime, Record},
    proto::v1,
    serve::{Position, SnapshotHead, write_snapshot},
    sink::{Outbox, Target as Output},
    state::{SnapshotOf, SnapshotWriter},
    status::Counts,
};
use prost::Message;
use std::{fs, path::Path};

pub(crate) fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

pub(crate) fn events_json() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> =
        include_str!("../input/data/otto.jsonl").lines().map(|it| it.as_bytes().to_vec()).collect();
    seeds.retain(|seed| seed.len() < 4_096);
    seeds.extend(texts(&[
        r#"{"event_id":"e1","event_type":"view","user_id":"ann","occurred_at":"2023-11-14T22:13:20Z","value":1.5,"currency":"EUR"}"#,
        r#"{"meta":{"id":"e2","at":1700000000},"user":{"id":"bob"},"event_type":"click","properties":{"color":"red","size":7}}"#,
        r#"[{"user_id":"ann","occurred_at":1700000000000},{"user_id":"bob","occurred_at":253402300799999}]"#,
    ]));
    seeds
}

pub(crate) fn events_protobuf() -> Vec<Vec<u8>> {
    let event = v1::Event {
        event_id: "e1".to_owned(),
        user_id: "ann".to_owned(),
        event_type: "view".to_owned(),
        ..v1::Event::default()
    };
    vec![event.encode_to_vec()]
}

pub(crate) fn access_log() -> Vec<Vec<u8>> {
    include_str!("../input/data/access.log").lines().step_by(7).map(|it| it.as_bytes().to_vec()).collect()
}

/// Writes a changelog with the pipeline itself.
fn written() -> (Pipeline, Partitions, Outbox) {
    let mut pipeline = pipeline("");
    let (mut partitions, mut outbox, mut counts) = (Partitions::default(), Outbox::default(), Counts::default());
    partitions.insert(0, Partition::new(0, 0, None));
    for (offset, payload) in events_json().iter().enumerate() {
        let record = Record {
            offset: offset as i64,
            timestamp_ms: Some(1_700_000_000_000),
            payload: Some(payload),
            ..Record::default()
        };
        pipeline.take(&record, &mut partitions, &mut outbox, &mut counts);
        pipeline.run(&mut partitions, EventTime(0), &mut outbox, &mut counts);
    }
    outbox.clear();
    partitions.write_profiles(0, true, (usize::MAX, usize::MAX), pipeline.layout(), &mut outbox);
    (pipeline, partitions, outbox)
}

/// Key and payload as one input: the length of the key first.
fn joined(key: &[u8], payload: &[u8]) -> Vec<u8> {
    [&[key.len() as u8], key, payload].concat()
}

pub(crate) fn changelog_records() -> Vec<Vec<u8>> {
    let (_, _, outbox) = written();
    let records = outbox.all().filter(|it| matches!(it.target, Output::Profiles(_)));
    records.map(|it| joined(it.key.unwrap_or_default(), it.payload.unwrap_or_default())).collect()
}

pub(crate) fn layouts() -> Vec<Vec<u8>> {
    vec![pipeline("").layout().encode()]
}

pub(crate) fn snapshots() -> Vec<Vec<u8>> {
    let (pipeline, _, outbox) = written();
    let layout = pipeline.layout().id().to_owned();
    let mut writer = SnapshotWriter::new(SnapshotOf { partition: 0, committed: 9, changelog: 9, profiles: 0, layout });
    for it in outbox.all().filter(|it| matches!(it.target, Output::Profiles(_))) {
        writer.push(it.key.unwrap_or_default(), it.payload.unwrap_or_default());
    }
    vec![writer.finish()]
}

pub(crate) fn snapshot_head() -> SnapshotHead {
    let position = Position { next: 9, newest_ms: 1_780_000_000_000 };
    let of = |text: &str| text.to_owned();
    let positions = [(0, position)].into();
    SnapshotHead { cluster: of("c"), topic: of("decisions"), app: of("shop"), read_at: 1, positions }
}

pub(crate) fn serve_snapshots() -> Vec<Vec<u8>> {
    let mut bytes = Vec::new();
    write_snapshot(&store(), &snapshot_head(), &mut bytes).unwrap();
    vec![bytes]
}

pub(crate) fn expressions() -> Vec<Vec<u8>> {
    texts(&[
        "number > 1.5 && text in [\"a\", \"b\"] || !flag",
        "(whole % 7 == 0 ? number * 2.0 : -number) + math.log1p(double(whole))",
        "text.matches(\"^a+$\") && size(text) < 10 && text.startsWith('x')",
        "number.orValue(0.0) / double(size(text))",
    ])
}

pub(crate) fn models() -> Vec<Vec<u8>> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/fixtures");
    let names = ["linear", "sklearn_zipmap", "embedding", "external/model", "hostile/outside", "hostile/half"];
    names.iter().map(|name| fs::read(fixtures.join(format!("{name}.onnx"))).unwrap()).collect()
}

pub(crate) fn consents() -> Vec<Vec<u8>> {
    let lines = [
        include_str!("../../src/privacy/consent/vectors/tcf.jsonl"),
        include_str!("../../src/privacy/consent/vectors/gpp.jsonl"),
    ];
    let string = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        let text = value["tc_string"].as_str().or(value["gpp"].as_str()).or(value["string"].as_str());
        text.map(|text| text.as_bytes().to_vec())
    };
    lines.iter().flat_map(|text| text.lines().step_by(3)).filter_map(string).chain(texts(&["1YNN"])).collect()
}

pub(crate) fn decision() -> v1::Decision {
    v1::Decision {
        schema_version: 1,
        decision_id: "shop:clicks-0-1".to_owned(),
        user_key: "ann".to_owned(),
        occurred_at: 1_779_999_999_000_000,
        decided_at: 1_779_999_999_500_000,
        segments: vec![v1::Segment { id: "1".to_owned(), segtax: 4, ..v1::Segment::default() }],
        campaigns: vec![v1::CampaignOffer {
            id: "shoes".to_owned(),
            bid_micros: 3_000_000,
            currency: "USD".to_owned(),
            ..v1::CampaignOffer::default()
        }],
        ..v1::Decision::default()
    }
}

pub(crate) fn bids() -> Vec<Vec<u8>> {
    texts(&[
        r#"{"id":"1","imp":[{"id":"1"}],"user":{"buyeruid":"ann","data":[{"id":"a","segment":[{"id":"7"}]}],"eids":[{"source":"x","uids":[{"id":"i"}]}]},"regs":{"gdpr":0,"gpp":"DBAA","gpp_sid":[7],"coppa":0},"device":{"ifa":"i","lmt":0,"geo":{"country":"DEU"}}}"#,
        r#"{"user":{"buyeruid":"bob"}}"#,
        r#" {"device":{"ifa":"i"} } "#,
    ])
}

/// `RtbRequest`: an id, and a bid request with a user.
pub(crate) fn grpc_requests() -> Vec<Vec<u8>> {
    vec![aimpoint::serve::example_request("ann")]
}

pub(crate) fn outcomes() -> Vec<Vec<u8>> {
    let proto = v1::Outcome {
        outcome_id: "o1".to_owned(),
        decision_id: "shop:clicks-0-1".to_owned(),
        r#type: 1,
        ..v1::Outcome::default()
    };
    let mut seeds = texts(&[
        r#"{"outcome_id":"o1","type":"click","occurred_at":"1700000000000000","decision_id":"shop:clicks-0-1","campaign_id":"shoes","price":{"micros":"1500000","currency":"EUR"}}"#,
        r#"{"outcome_id":"o2","type":"OUTCOME_TYPE_CONVERSION","occurred_at":1700000000000,"user_key":"ann","value":12.5}"#,
    ]);
    seeds.push(proto.encode_to_vec());
    seeds
}

pub(crate) fn decision_records() -> Vec<Vec<u8>> {
    let mut seeds = texts(&[
        r#"{"schema_version":1,"decision_id":"shop:clicks-0-1","user_key":"ann","occurred_at":"1700000000000000","decided_at":"1700000000000000","segments":[{"id":"1"}],"campaigns":[{"id":"shoes","bid_micros":"3000000","currency":"USD"}]}"#,
    ]);
    seeds.push(decision().encode_to_vec());
    seeds
}

pub(crate) fn audiences() -> Vec<Vec<u8>> {
    vec![AudienceReport { app: "shop".to_owned(), partition: 3, segments: Vec::new() }.to_json()]
}

pub(crate) fn policies() -> Vec<Vec<u8>> {
    texts(&[
        r#"{"schema_version":1,"version":"7","app":"shop","published_at":"1700000000000000","campaigns":[{"id":"shoes","multiplier":0.5,"spent_micros":"12"}]}"#,
    ])
}

pub(crate) fn control_records() -> Vec<Vec<u8>> {
    let mut state = State::new("shop", &ControlSpec::default(), Vec::new());
    state.assign("outcomes", [0]);
    state.advance(1_700_000_000_000_000);
    for (offset, payload) in outcomes().iter().enumerate() {
        let source =
            Source { topic: "outcomes", partition: 0, offset: offset as i64, arrived_at: 1_700_000_000_000_000 };
        if let Ok(outcome) = Outcome::read(Some(payload)) {
            state.apply_outcome(&source, &outcome);
        }
    }
    let line = |it: aimpoint::control::Record| [it.key.as_bytes(), b"\t", &it.value.unwrap_or_default()].concat();
    let lines: Vec<Vec<u8>> = state.dirty().into_iter().map(line).collect();
    let mut seeds = vec![lines.join(&b"\n"[..])];
    seeds.extend(lines);
    seeds.extend(texts(&[
        "v1/account/shoes\t{\"currency\":\"EUR\"}",
        "v1/day/shoes/19000\t{}",
        "v1/seen/o1\t{\"until\":1700000000000000}",
        "v1/audience/4/keen/x\t{\"members\":7}",
    ]));
    seeds
}

/// A request to erase a user: header and key.
pub(crate) fn erase_requests() -> Vec<Vec<u8>> {
    texts(&[ERASE_HEADER, "v1", "ann", "1"])
}

/// Marks of commits, of this and the last version.
pub(crate) fn marks() -> Vec<Vec<u8>> {
    texts(&["v4;0123456789abcdef;7;1,2,3;4;5;;6", "v3;0123456789abcdef;7;1;4;5"])
}
