//! Tests of reading decisions.

use super::*;

fn message() -> v1::Decision {
    let campaign = |id: &str, creative: Option<&str>| v1::CampaignOffer {
        id: id.to_owned(),
        bid_micros: 2_500_000,
        currency: "EUR".to_owned(),
        shaded_micros: if creative.is_some() { 1_500_000 } else { 0 },
        creative: creative.map(|id| v1::ShownCreative {
            id: id.to_owned(),
            audience: "keen".to_owned(),
            features: vec![1.0, 0.25],
            propensity: 0.5,
            policy: "thompson".to_owned(),
        }),
        arm: if creative.is_some() { "bold".to_owned() } else { String::new() },
        value_micros: 800_000,
        probability: if creative.is_some() { 0.125 } else { 1.5 },
        ..v1::CampaignOffer::default()
    };
    let suppressed =
        |id: &str, reason: &str| v1::SuppressedCampaign { campaign_id: id.to_owned(), reason: reason.to_owned() };
    v1::Decision {
        decision_id: "shop:clicks-0-7".to_owned(),
        user_key: "u1".to_owned(),
        decided_at: 1_767_225_600_000_000,
        expires_at: 1_767_225_900_000_000,
        policy_version: 81,
        campaigns: vec![campaign("spring", Some("red")), campaign("summer", None)],
        suppressed: vec![
            suppressed("a", "paced"),
            suppressed("b", "outranked"),
            suppressed("c", "cap"),
            suppressed("d", "holdout"),
        ],
        status: v1::Status::Targeted.into(),
        model: Some(v1::Model { name: "m".to_owned(), version: "7".to_owned(), ..v1::Model::default() }),
        experiment: Some(v1::Experiment { name: "e".to_owned(), variant: "control".to_owned() }),
        segments: ["keen", "new"].map(|id| v1::Segment { id: id.to_owned(), ..v1::Segment::default() }).into(),
        ..v1::Decision::default()
    }
}

const JSON: &str = r#" {"schema_version":1,"decision_id":"shop:clicks-0-7","user_key":"u1",
    "decided_at":"1767225600000000","expires_at":1767225900000000,"score":null,"policy_version":"81","status":"STATUS_TARGETED",
    "model":{"name":"m","version":"7"},"experiment":{"name":"e","variant":"control"},
    "segments":[{"id":"keen","name":"Keen","entered_at":"1"},{"id":"new"}],
    "campaigns":[{"id":"spring","bid_micros":"2500000","shaded_micros":"1500000","currency":"EUR","arm":"bold",
            "value_micros":"800000","probability":0.125,
            "creative":{"id":"red","propensity":0.5,"policy":"thompson","audience":"keen","features":[1,0.25]}},
        {"id":"summer","bidMicros":2500000,"valueMicros":800000,"probability":1.5,"currency":"EUR","creative":null}],
    "suppressed":[{"campaign_id":"a","reason":"paced"},{"campaignId":"b","reason":"outranked"},
        {"campaign_id":"c","reason":"cap"},{"campaign_id":"d","reason":"holdout"}]}"#;

#[test]
fn both_forms_give_the_same_decision() {
    let decision = DecisionRecord::read(JSON.as_bytes()).unwrap();
    assert_eq!(DecisionRecord::read(&message().encode_to_vec()).unwrap(), decision);
    let with_header = [&[0, 0, 0, 0, 9, 0][..], &message().encode_to_vec()].concat();
    assert_eq!(DecisionRecord::read(&with_header).unwrap(), decision);
    decision.with(|it| {
        assert_eq!((it.decision_id, it.user_key), ("shop:clicks-0-7", "u1"));
        assert_eq!((it.decided_at, it.expires_at), (1_767_225_600_000_000, 1_767_225_900_000_000));
        let offers: Vec<_> = it.offers.iter().map(|it| (it.campaign_id, it.bid.0, it.creative_id)).collect();
        assert_eq!(offers, [("spring", 1_500_000, Some("red")), ("summer", 2_500_000, None)], "the shaded bid counts");
        assert_eq!((it.offers[0].audience, it.offers[0].features), ("keen", &[1.0, 0.25][..]));
        assert_eq!((it.offers[1].audience, it.offers[1].features, it.policy_version), ("", &[][..], 81));
        let skipped: Vec<_> = it.skipped.iter().map(|it| (it.campaign_id, it.reason)).collect();
        assert_eq!(skipped, [("a", SkipReason::Paced), ("b", SkipReason::Outranked)]);
    });
}

#[test]
fn the_details_are_those_that_evaluations_group_and_weigh_by() {
    let decision = DecisionRecord::read(JSON.as_bytes()).unwrap();
    let it = decision.details();
    let texts = [&it.status, &it.model, &it.model_version, &it.experiment, &it.variant];
    assert_eq!(texts, ["targeted", "m", "7", "e", "control"]);
    assert_eq!((&it.segments[..], &it.held_out[..]), (&["keen", "new"].map(str::to_owned)[..], &["d".to_owned()][..]));
    let value = Micros(800_000);
    let first = ("bold".to_owned(), "thompson".to_owned());
    let [one, other] = &it.offers[..] else { panic!("two offers") };
    assert_eq!((one.arm.clone(), one.policy.clone(), one.value), (first.0, first.1, value));
    assert_eq!((one.probability, one.propensity), (Some(0.125), 0.5));
    // A probability above 1 is none.
    assert_eq!(*other, OfferDetails { value, ..OfferDetails::default() });
    let bare = DecisionRecord::read(br#"{"decision_id":"a:b","decided_at":1,"model":null,"segments":null}"#).unwrap();
    assert_eq!(*bare.details(), Details::default());
}

#[test]
fn a_decision_belongs_to_the_application_that_its_id_names() {
    let decision = DecisionRecord::read(JSON.as_bytes()).unwrap();
    assert!(decision.is_of("shop"));
    assert!(!decision.is_of("sho") && !decision.is_of("shop2") && !decision.is_of(""));
}

#[test]
fn what_is_no_decision_is_rejected_with_its_reason() {
    for (payload, reason) in [
        (&b"\xff\xff\xff"[..], RejectReason::Malformed),
        (b"{\"decision_id\":", RejectReason::Malformed),
        (b"{\"decision_id\":7}", RejectReason::Malformed),
        (b"", RejectReason::MissingId),
        (b"{\"user_key\":\"u\"}", RejectReason::MissingId),
        (b"{\"decision_id\":\"a:b\"}", RejectReason::MissingTime),
        (
            b"{\"decision_id\":\"a:b\",\"decided_at\":\"1\",\"campaigns\":[{\"id\":\"c\",\"currency\":\"euro\"}]}",
            RejectReason::UnknownCurrency,
        ),
        (
            b"{\"decision_id\":\"a:b\",\"decided_at\":\"1\",\"campaigns\":[{\"id\":\"c\",\"currency\":\"EUR\",\"bid_micros\":-1}]}",
            RejectReason::InvalidAmount,
        ),
    ] {
        let found = DecisionRecord::read(payload).unwrap_err();
        assert_eq!(found.reason, reason, "{found}");
    }
}

#[test]
fn a_line_is_a_decision_unless_it_is_an_outcome_or_none_that_counts() {
    let of_line = |line: &str| DecisionRecord::of_line(line.as_bytes());
    assert_eq!(of_line(JSON), DecisionRecord::read(JSON.as_bytes()).ok());
    let start = r#"{"decision_id":"a:b","decided_at":"1""#;
    assert!(of_line(&format!("{start}}}")).is_some());
    for more in [
        r#","outcome_id":"o"}"#,
        r#","outcomeId":"o"}"#,
        r#","campaigns":[{"currency":"euro"}]}"#,
        r#","expires_at":1.5}"#,
        r#","policy_version":18446744073709551615}"#,
        "",
        "}}",
    ] {
        assert!(of_line(&format!("{start}{more}")).is_none(), "{more}");
    }
    assert!(of_line(r#"{"outcome_id":"o","decision_id":"a:b"}"#).is_none());
    // What is no outcome may say so with null.
    assert!(of_line(&format!("{start},\"outcome_id\":null}}")).is_some());
}

#[test]
fn a_score_is_the_calibrated_one_and_what_is_no_number_is_none_and_no_fault() {
    let score = |json: &str| {
        let line = format!(r#"{{"decision_id":"a:b","decided_at":1,"score":{json}}}"#);
        DecisionRecord::read(line.as_bytes()).unwrap().details().score
    };
    for (json, expected) in [
        (r#"{"raw":0.25,"calibrated":0.5}"#, Some(0.5)),
        (r#"{"raw":1}"#, Some(1.0)),
        (r#"{"raw":0.25,"calibrated":null}"#, Some(0.25)),
        (r#"{"raw":"NaN"}"#, None),
        (r#"{"raw":[1],"calibrated":{"a":true}}"#, None),
        ("null", None),
        ("{}", None),
    ] {
        assert_eq!(score(json), expected, "{json}");
    }
    let of = |raw: Option<f32>, calibrated: Option<f32>| {
        let score = v1::Score { raw, calibrated, ..v1::Score::default() };
        let message = v1::Decision { score: Some(score), ..message() };
        DecisionRecord::read(&message.encode_to_vec()).unwrap().details().score
    };
    assert_eq!([of(Some(0.1), None), of(Some(0.1), Some(0.2)), of(Some(f32::NAN), None)], [Some(0.1), Some(0.2), None]);
}

/// The fast parser would overflow the stack, and so end the process.
#[test]
fn a_decision_that_nests_too_deep_is_refused() {
    let deep = format!(r#"{{"decision_id":"a:b-0-1","x":{}{}}}"#, "[".repeat(60_000), "]".repeat(60_000));
    let rejection = DecisionRecord::read(deep.as_bytes()).unwrap_err();
    assert_eq!(
        (rejection.reason, rejection.detail.as_str()),
        (RejectReason::Malformed, "nested more than 64 levels deep")
    );
    assert_eq!(DecisionRecord::of_line(deep.as_bytes()), None);
}
