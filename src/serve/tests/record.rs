//! What records of the topic are taken for.

use super::{NOW, decision};
use crate::{
    proto::v1,
    serve::{Change, Lookup, RecordReader, Refusal, Store},
};
use prost::Message;
use serde_json::{Value, json};

#[test]
fn a_decision_is_answered_in_both_forms() {
    let store = Store::default();
    let it = v1::Decision {
        key_type: v1::KeyType::Device.into(),
        status: v1::Status::Targeted.into(),
        score: Some(v1::Score { raw: Some(0.1), ..v1::Score::default() }),
        ..decision("7", NOW, &["a"])
    };
    super::keep(&store, 0, "device:7", &it);
    let found = store.look_up("device:7", NOW, |it| (it.protobuf(), it.json(), it.tag()));
    let Lookup::Found((protobuf, json, tag)) = found else { panic!("{found:?}") };
    assert_eq!(v1::Decision::decode(&protobuf[..]).unwrap(), it);
    let json: Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(
        json,
        json!({
            "schema_version": 1, "decision_id": it.decision_id, "user_key": "7", "key_type": "KEY_TYPE_DEVICE",
            "status": "STATUS_TARGETED", "score": { "raw": 0.1 },
            "occurred_at": NOW.to_string(), "decided_at": NOW.to_string(), "expires_at": it.expires_at.to_string(),
            "segments": [{ "id": "a", "name": "The a", "segtax": 4 }],
        })
    );
    assert_eq!(store.look_up("7", NOW, |_| ()), Lookup::Unknown, "another user has this key");
    super::keep(&store, 0, "device:7", &v1::Decision { decided_at: NOW + 1, ..it });
    assert!(matches!(store.look_up("device:7", NOW, |it| it.tag()), Lookup::Found(new) if new != tag));
}

#[test]
fn records_that_are_no_decisions_of_ours_are_told_apart() {
    let mut reader = RecordReader::new("shop");
    let ours = decision("7", NOW, &[]);
    let bytes = ours.encode_to_vec();
    let foreign = v1::Decision { decision_id: "shop2:clicks-0-1".to_owned(), ..ours.clone() }.encode_to_vec();
    let nameless = v1::Decision { decision_id: String::new(), ..ours.clone() }.encode_to_vec();
    let wire = [&[0, 0, 0, 0, 9, 0][..], &bytes].concat();
    for (key, payload, expected) in [
        (Some(&b"7"[..]), Some(&foreign[..]), Ok(("7", Change::Foreign))),
        (Some(b"7"), None, Ok(("7", Change::Erased))),
        (Some(b"8"), Some(&bytes), Err(Refusal::OtherUser)),
        (Some(b"device:7"), Some(&bytes), Err(Refusal::OtherUser)),
        (None, Some(&bytes), Err(Refusal::NoKey)),
        (Some(b""), None, Err(Refusal::NoKey)),
        (Some(b"\xff"), Some(&bytes), Err(Refusal::NoKey)),
        (Some(b"7"), Some(b""), Err(Refusal::Malformed)),
        (Some(b"7"), Some(b"\x0a\xff"), Err(Refusal::Malformed)),
        (Some(b"7"), Some(b"{\"decision_id\":7}"), Err(Refusal::Malformed)),
        (Some(b"7"), Some(b"{\"decision_id\""), Err(Refusal::Malformed)),
        (Some(b"7"), Some(&nameless), Err(Refusal::Malformed)),
    ] {
        assert_eq!(reader.read(key, payload), expected, "{key:?} {payload:?}");
    }
    let plain = match reader.read(Some(b"7"), Some(&bytes)).unwrap() {
        (_, Change::Kept(message)) => message.to_vec(),
        other => panic!("{other:?}"),
    };
    assert_eq!(reader.read(Some(b"7"), Some(&wire)), Ok(("7", Change::Kept(&plain))), "with a Confluent header");
}

#[test]
fn names_of_proto3_json_numbers_and_nulls_are_read() {
    let json = json!({
        "decisionId": "shop:clicks-0-1", "user_key": "7", "keyType": 3, "expiresAt": 5, "status_reason": null,
        "campaigns": [{ "id": "c", "creative": { "id": "x", "features": [null, 1.5], "audience": null } }],
        "of_a_later_version": { "x": [1] },
    });
    let mut reader = RecordReader::new("shop");
    let (_, change) = reader.read(Some(b"7"), Some(json.to_string().as_bytes())).unwrap();
    let Change::Kept(message) = change else { panic!("{change:?}") };
    let read = v1::Decision::decode(message).unwrap();
    assert_eq!((read.decision_id.as_str(), read.expires_at), ("shop:clicks-0-1", 5));
    let features = &read.campaigns[0].creative.as_ref().unwrap().features;
    assert!(features[0].is_nan() && features[1] == 1.5, "{features:?}");
}

/// Replaces one member after the other by null, at any depth.
fn with_one_null(value: &Value) -> Vec<Value> {
    let mut all = Vec::new();
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                for new in std::iter::once(Value::Null).chain(with_one_null(member)) {
                    let mut changed = members.clone();
                    changed[name] = new;
                    all.push(Value::Object(changed));
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                for new in with_one_null(item) {
                    let mut changed = items.clone();
                    changed[index] = new;
                    all.push(Value::Array(changed));
                }
            }
        }
        _ => {}
    }
    all
}

fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(without_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(without_nulls),
        _ => {}
    }
}

#[test]
fn a_member_that_is_null_is_one_that_is_absent() {
    let offer = v1::CampaignOffer {
        id: "c".to_owned(),
        bid_micros: 5,
        probability: 0.5,
        pass_through: Some(0.25),
        creative: Some(v1::ShownCreative { id: "x".to_owned(), features: vec![0.5], ..v1::ShownCreative::default() }),
        ..v1::CampaignOffer::default()
    };
    let consent = v1::DecisionConsent {
        permitted: vec!["emit".to_owned()],
        remembered: true,
        section: 7,
        ..v1::DecisionConsent::default()
    };
    let whole = v1::Decision {
        status: v1::Status::Targeted.into(),
        score: Some(v1::Score { raw: Some(0.1), ..v1::Score::default() }),
        input: Some(v1::InputPosition { topic: "clicks".to_owned(), partition: 3, offset: 9 }),
        campaigns: vec![offer],
        consent: Some(consent),
        ..decision("7", NOW, &["a", "b"])
    };
    let json = serde_json::to_value(&whole).unwrap();
    let cases = with_one_null(&json);
    assert!(cases.len() > 30, "{}", cases.len());
    for case in cases {
        let mut absent = case.clone();
        without_nulls(&mut absent);
        let absent: v1::Decision = serde_json::from_value(absent).unwrap();
        let read = super::super::nulls::from_slice(case.to_string().as_bytes());
        assert_eq!(read.ok(), Some(absent), "{case}");
    }
    assert_eq!(super::super::nulls::from_slice(json.to_string().as_bytes()).ok(), Some(whole));
}

#[test]
fn null_stands_for_nothing_else() {
    let read = |text: &str| super::super::nulls::from_slice::<v1::Decision>(text.as_bytes());
    for text in ["{\"decision_id\":nul}", "{\"decision_id\":null,}", "{} {}", "[]", "{\"segments\":[null]}", "7"] {
        assert!(read(text).is_err(), "{text}");
    }
    assert!(read(&format!("{}1{}", "[".repeat(200), "]".repeat(200))).is_err());
}
