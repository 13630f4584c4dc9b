//! Tests of reading outcomes.

use super::*;
use crate::{proto::v1, random::mix};
use prost::Message;

const COMPLETE: &str = r#"{"schema_version": 1, "outcome_id": "o-1", "type": "OUTCOME_TYPE_WIN",
    "occurred_at": "1767225600000000", "user_key": "u", "decision_id": "shop:clicks-3-91", "auction_id": "a",
    "imp_id": "1", "campaign_id": "spring", "creative_id": "c", "value": 12.5, "currency": "EUR", "price": 2.4,
    "min_to_win": "2.1", "loss_reason": 102, "placement": "top"}"#;

fn read(json: &str) -> Result<Outcome, Rejection> {
    Outcome::read(Some(json.as_bytes()))
}

fn complete() -> Outcome {
    let some = |text: &str| Some(text.to_owned());
    Outcome {
        id: "o-1".to_owned(),
        kind: OutcomeType::Win,
        occurred_at: 1_767_225_600_000_000,
        user_key: some("u"),
        decision_id: some("shop:clicks-3-91"),
        auction_id: some("a"),
        imp_id: some("1"),
        campaign_id: some("spring"),
        creative_id: some("c"),
        placement: some("top"),
        value: Some(Micros(12_500_000)),
        currency: "EUR".parse().ok(),
        price: Some(Cpm(2_400_000)),
        min_to_win: Some(Cpm(2_100_000)),
        loss_reason: 102,
    }
}

#[test]
fn what_is_written_is_read_again() {
    let bare = Outcome { user_key: None, price: None, value: None, currency: None, loss_reason: 0, ..complete() };
    for outcome in [complete(), bare] {
        assert_eq!(Outcome::read(Some(&outcome.to_json())), Ok(outcome));
    }
}

#[test]
fn json_and_protobuf_say_the_same() {
    assert_eq!(read(COMPLETE), Ok(complete()));
    let message = v1::Outcome {
        schema_version: 1,
        outcome_id: "o-1".to_owned(),
        r#type: v1::OutcomeType::Win.into(),
        occurred_at: 1_767_225_600_000_000,
        user_key: "u".to_owned(),
        decision_id: "shop:clicks-3-91".to_owned(),
        auction_id: "a".to_owned(),
        imp_id: "1".to_owned(),
        campaign_id: "spring".to_owned(),
        creative_id: "c".to_owned(),
        value: Some(12.5),
        currency: "EUR".to_owned(),
        price: Some(2.4),
        min_to_win: Some(2.1),
        loss_reason: 102,
        placement: "top".to_owned(),
    };
    let bytes = message.encode_to_vec();
    assert_eq!(Outcome::read(Some(&bytes)), Ok(complete()));
    let with_header = [&[0, 0, 0, 0, 7, 0][..], &bytes].concat();
    assert_eq!(Outcome::read(Some(&with_header)), Ok(complete()));
    // The numbers of the types are those of the message.
    for (kind, number) in [
        (OutcomeType::Impression, v1::OutcomeType::Impression),
        (OutcomeType::Viewable, v1::OutcomeType::Viewable),
        (OutcomeType::Click, v1::OutcomeType::Click),
        (OutcomeType::Conversion, v1::OutcomeType::Conversion),
        (OutcomeType::Win, v1::OutcomeType::Win),
        (OutcomeType::Loss, v1::OutcomeType::Loss),
    ] {
        assert_eq!(OutcomeType::of_number(i64::from(number as i32)), Some(kind));
        assert_eq!(OutcomeType::of_name(number.as_str_name()), Some(kind));
    }
}

#[test]
fn only_what_is_needed_is_required_and_other_forms_are_read() {
    let least = r#"{"outcome_id":"o","type":"click","occurred_at":1.7e15,"imp_id":"i"}"#;
    let outcome = read(least).unwrap();
    assert_eq!((outcome.kind, outcome.occurred_at), (OutcomeType::Click, 1_700_000_000_000_000));
    assert_eq!((outcome.user_key, outcome.price, outcome.currency), (None, None, None));
    for same in [
        r#"{"outcomeId":"o","type":3,"occurredAt":"1700000000000000","impId":"i","newer":[{"a":1}]}"#,
        "\n {\"outcome_id\":\"o\",\"type\":\"Click\",\"occurred_at\":1700000000000000,\"imp_id\":\"i\",\"price\":null,\
         \"decision_id\":\"\"}",
    ] {
        assert_eq!(read(same), read(least), "{same}");
    }
}

#[test]
fn what_cannot_be_understood_has_one_of_a_closed_set_of_reasons() {
    use RejectReason::{
        InvalidAmount, Malformed, MissingId, MissingTime, MissingType, NoKey, TimeRange, TooLarge, UnknownCurrency,
        UnknownType, WrongType,
    };
    let with = |member: &str, value: &str| {
        let mut object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(COMPLETE).unwrap();
        object.insert(member.to_owned(), serde_json::from_str(value).unwrap());
        serde_json::to_string(&object).unwrap()
    };
    let long = format!("{:?}", "x".repeat(513));
    for (json, reason, detail) in [
        ("{".to_owned(), Malformed, "not a JSON object: line 1"),
        ("{} {}".to_owned(), Malformed, "send one aimpoint.v1.Outcome a record"),
        ("[]".to_owned(), Malformed, "neither JSON nor an aimpoint.v1.Outcome"),
        ("{}".to_owned(), MissingId, "give each outcome its own"),
        (with("outcome_id", "null"), MissingId, ""),
        (with("outcome_id", "7"), WrongType, "outcome_id is not a text"),
        (with("campaign_id", &long), TooLarge, "campaign_id has 513 bytes; an id has at most 512"),
        (with("type", "null"), MissingType, "send one of impression, viewable, click"),
        (with("type", "0"), MissingType, ""),
        (with("type", "7"), UnknownType, "the type is not known; send one of"),
        (with("type", "\"purchase\""), UnknownType, ""),
        (with("type", "true"), WrongType, "type is not the name of a type"),
        (with("type", "1.5"), WrongType, ""),
        (with("occurred_at", "0"), MissingTime, "send microseconds since 1970"),
        (with("occurred_at", "null"), MissingTime, ""),
        (with("occurred_at", "-1"), TimeRange, "before 1970"),
        (with("occurred_at", "\"9223372036854775807\""), TimeRange, ""),
        (with("occurred_at", "\"2026-01-01\""), WrongType, "occurred_at is not a whole number"),
        (with("occurred_at", "1.5"), WrongType, ""),
        (with("occurred_at", "1e300"), WrongType, ""),
        (with("price", "-0.1"), InvalidAmount, "price is negative, not finite or too large"),
        (with("price", "\"NaN\""), InvalidAmount, ""),
        (with("price", "1e20"), InvalidAmount, ""),
        (with("min_to_win", "\"Infinity\""), InvalidAmount, "min_to_win"),
        (with("value", "\"much\""), WrongType, "value is not a number"),
        (with("currency", "\"eur\""), UnknownCurrency, "not a currency code of ISO 4217 in capitals"),
        (
            r#"{"outcome_id":"o","type":"win","occurred_at":1,"user_key":"u"}"#.to_owned(),
            NoKey,
            "send decision_id, auction_id or imp_id, or user_key and campaign_id",
        ),
        (r#"{"outcome_id":"o","type":"win","occurred_at":1,"campaign_id":"c"}"#.to_owned(), NoKey, ""),
    ] {
        let rejection = read(&json).unwrap_err();
        assert_eq!(rejection.reason, reason, "{json}: {rejection}");
        assert!(rejection.detail.contains(detail), "{json}: {rejection}");
        assert!(!rejection.to_string().contains("shop:clicks"), "no id is quoted: {rejection}");
    }
    assert_eq!(Outcome::read(None).unwrap_err().reason, RejectReason::NullPayload);
    let large = vec![b'{'; PAYLOAD_BYTES_MAX + 1];
    assert_eq!(Outcome::read(Some(&large)).unwrap_err().reason, TooLarge);
    for (index, reason) in RejectReason::ALL.into_iter().enumerate() {
        assert!(RejectReason::ALL[..index].iter().all(|other| other.as_str() != reason.as_str()));
    }
}

#[test]
fn damaged_bytes_never_panic() {
    let json = COMPLETE.as_bytes();
    let message = v1::Outcome { outcome_id: "o".to_owned(), imp_id: "i".to_owned(), ..v1::Outcome::default() };
    let protobuf = message.encode_to_vec();
    let mut outcomes = 0;
    for payload in [json, &protobuf] {
        for seed in 0..20_000_u64 {
            let mut damaged = payload.to_vec();
            let place = mix(seed) as usize % damaged.len();
            match seed % 3 {
                0 => damaged.truncate(place),
                1 => damaged[place] = mix(seed ^ 1 << 40) as u8,
                _ => damaged.insert(place, mix(seed ^ 1 << 41) as u8),
            }
            outcomes += usize::from(Outcome::read(Some(&damaged)).is_ok());
        }
    }
    assert!(outcomes > 0);
}
