use super::{
    Cause, Constants, Decision, DecisionFormat, DecisionSpec, Encoder, ModelReference, Status, Targets, suppression,
};
use crate::{
    config_error::ConfigError,
    event::{EventTime, KeyType, Position, key_of},
    expression::Scope,
    inference::{ExperimentReference, ExplainSpec, Explainer, Explanation, FallbackReason},
    privacy::consent::{Basis, Verdict},
    profile::Membership,
    proto::v1,
    serve::{Change, RecordReader},
    targeting::{
        InSegment, LeaveReason, LeftSegment, Segment, SegmentSpec, Segments, TargetingSpec,
        campaign::{Bid, CampaignSpec, Campaigns, Reason, Refusal},
        creative::CreativeSpec,
        money::{Cpm, Micros},
        pacing::PassThrough,
    },
};
use proptest::prelude::*;
use prost::Message;
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};

const NAMES: [&str; 3] = ["keen", "\"quoted\" \\ and\n", "ünï ☃ \u{1f600}"];

pub(super) fn segments() -> Vec<Segment> {
    let spec = |(index, name): (usize, &&str)| SegmentSpec {
        id: format!("s{index}-{name}"),
        name: (index > 0).then(|| (*name).to_owned()),
        // The second segment has no taxonomy.
        segtax: [507, 0, 502][index],
        filter: "true".to_owned(),
        // The last segment has members.
        duration: (index == 2).then_some(Duration::from_hours(1)),
        ..SegmentSpec::default()
    };
    let specs: Vec<_> = NAMES.iter().enumerate().map(spec).collect();
    let mut errors = Vec::new();
    let segments = Segments::compile(&specs, &TargetingSpec::default(), &mut Scope::default(), &mut errors);
    assert_eq!(errors, []);
    segments.all().to_vec()
}

/// Two campaigns: one with arms and a creative, and one without.
pub(super) fn campaigns() -> Campaigns {
    #[derive(serde::Deserialize)]
    struct Spec {
        campaign: Vec<CampaignSpec>,
        creative: Vec<CreativeSpec>,
    }
    let text = r#"
        [[campaign]]
        id = "spring \"sale\" ☃"
        currency = "EUR"
        value = 2.5
        arms = [{ name = "b\"old", share = 0.5 }]
        rotation = { method = "linear_thompson", features = ["1.0", "2.0"] }

        [[campaign]]
        id = "plain"
        currency = "EUR"
        value = 2
        deals = ["deal \"1\"", "d2"]

        [[creative]]
        id = "banner\"1"
        campaign = "spring \"sale\" ☃"
        headline = ["Half price"]
        landing_page = "https://shop.example/"
    "#;
    let spec: Spec = toml::from_str(text).unwrap();
    let (targeting, mut scope, mut errors) = (TargetingSpec::default(), Scope::default(), Vec::new());
    let campaigns = Campaigns::compile(&spec.campaign, &targeting, &[], &[], &spec.creative, &mut scope, &mut errors);
    assert_eq!(errors, []);
    campaigns
}

/// A bid of the first campaign, and one of the second.
pub(super) fn bids(value: i64, probability: f64) -> Vec<Bid> {
    let mut bids = campaigns().largest().bids;
    bids.sort_by_key(|bid| bid.campaign);
    for bid in &mut bids {
        (bid.value, bid.probability, bid.bid, bid.floor) = (Micros(value), probability, Cpm(value / 2), Cpm(0));
        (bid.shaded, bid.pass_through) = (None, None);
    }
    bids
}

pub(super) fn constants(model: bool) -> Constants {
    Constants {
        heads: if model { vec!["buy \"it\"".to_owned(), "call".to_owned()] } else { Vec::new() },
        app: "shop.eu".to_owned(),
        topic: "clicks.v1_eu-west".to_owned(),
        fingerprint: "00ff".to_owned(),
        model: model.then(|| ModelReference {
            name: "prop\"ensity".to_owned(),
            version: "3".to_owned(),
            sha256: "ab".repeat(32),
            runtime: "onnxruntime 1.22".to_owned(),
            provider: "cpu".to_owned(),
        }),
        experiment: model.then(|| ExperimentReference { name: "e\"1\"".to_owned(), variant: "challenger".to_owned() }),
        has_consent: model,
        features: vec!["n \"1\"".to_owned(), "m".to_owned()],
    }
}

fn compile(format: DecisionFormat, fields: &[(&str, &str)], model: bool) -> (Encoder, Vec<ConfigError>) {
    let mut errors = Vec::new();
    let fields = fields.iter().map(|(name, path)| ((*name).to_owned(), (*path).to_owned())).collect();
    let reasons = format != DecisionFormat::Flat;
    let spec =
        DecisionSpec { format, fields, reasons, expires_after: Duration::from_mins(1), ..DecisionSpec::default() };
    let spec = DecisionSpec { features_share: f64::from(u8::from(format.is_complete())), ..spec };
    let (segments, campaigns) = (segments(), campaigns());
    let targets = Targets { segments: &segments, campaigns: &campaigns };
    let encoder = Encoder::compile(&spec, &constants(model), targets, &mut errors);
    (encoder, errors)
}

fn encode(format: DecisionFormat, fields: &[(&str, &str)], model: bool, it: &Decision<'_>, of: &[usize]) -> Vec<u8> {
    let (encoder, errors) = compile(format, fields, model);
    assert_eq!(errors, []);
    // Earlier contents of the buffer must not change.
    let mut bytes = b"before".to_vec();
    let segments: Vec<InSegment> = of.iter().map(|number| in_segment(*number)).collect();
    encoder.encode(&Decision { segments: if of.is_empty() { it.segments } else { &segments }, ..*it }, &mut bytes);
    assert!(bytes.starts_with(b"before"));
    bytes.split_off(6)
}

const STAY: Membership =
    Membership { entered_at: EventTime(1_767_225_600_000_001), expires_at: EventTime(1_767_229_200_000_001) };

pub(super) fn in_segment(number: usize) -> InSegment {
    InSegment { number, stay: (number == 2).then_some((STAY, true)) }
}

pub(super) fn decision<'a>(user: &'a str, event_id: &'a str) -> Decision<'a> {
    Decision {
        user,
        key_type: KeyType::Person,
        event_id,
        cause: Cause::Event(Position { partition: 2, offset: 91, index: 0 }),
        occurred_at: EventTime(1_767_225_600_097_123),
        decided_at: EventTime(1_767_225_601_000_000),
        status: Status::Targeted,
        reason: None,
        raw: 0.25,
        score: 0.75,
        heads: &[],
        explanation: None,
        segments: &[],
        left: &[],
        campaigns: &[],
        suppressed: &[],
        features: &[],
        logged: &[],
        policy_version: 7,
        consent: None,
    }
}

fn consent_json(it: &v1::DecisionConsent) -> Value {
    let refused: Vec<_> = it.refused.iter().map(|it| json!({"activity": it.activity, "reason": it.reason})).collect();
    let mut value = json!({
        "permitted": it.permitted, "framework": it.framework, "legal_basis": it.legal_basis, "refused": refused,
    });
    for (name, flag) in [("remembered", it.remembered), ("limited", it.limited)] {
        if flag {
            value[name] = true.into();
        }
    }
    let numbers = [
        ("section", it.section),
        ("cmp_id", it.cmp_id),
        ("vendor_list_version", it.vendor_list_version),
        ("policy_version", it.policy_version),
    ];
    for (name, number) in numbers.into_iter().filter(|(_, number)| *number > 0) {
        value[name] = number.into();
    }
    if it.last_updated > 0 {
        value["last_updated"] = it.last_updated.to_string().into();
    }
    value
}

/// The message in proto3 JSON, with the names of the .proto file.
fn proto_json(it: &v1::Decision) -> Value {
    let named = |id: &str, name: &str, segtax: u32| match segtax {
        0 => json!({"id": id, "name": name}),
        number => json!({"id": id, "name": name, "segtax": number}),
    };
    let segment = |it: &v1::Segment| {
        let mut value = named(&it.id, &it.name, it.segtax);
        if it.expires_at != 0 {
            value["entered_at"] = it.entered_at.to_string().into();
            value["expires_at"] = it.expires_at.to_string().into();
            value["is_new"] = it.is_new.into();
        }
        value
    };
    let left = |it: &v1::Left| {
        let mut value = named(&it.id, &it.name, it.segtax);
        value["entered_at"] = it.entered_at.to_string().into();
        value["expires_at"] = it.expires_at.to_string().into();
        value["reason"] = it.reason().as_str_name().into();
        value
    };
    let offer = |it: &v1::CampaignOffer| {
        let mut value = json!({
            "id": it.id,
            "value_micros": it.value_micros.to_string(),
            "probability": (it.probability as f32).to_string(),
            "bid_micros": it.bid_micros.to_string(),
            "floor_micros": it.floor_micros.to_string(),
            "currency": it.currency,
        });
        if !it.arm.is_empty() {
            value["arm"] = it.arm.as_str().into();
        }
        if !it.deals.is_empty() {
            value["deals"] = it.deals.iter().map(String::as_str).collect();
        }
        if it.shaded_micros != 0 {
            value["shaded_micros"] = it.shaded_micros.to_string().into();
        }
        if let Some(share) = it.pass_through {
            value["pass_through"] = (share as f32).to_string().into();
        }
        if let Some(shown) = &it.creative {
            let propensity = (shown.propensity as f32).to_string();
            value["creative"] = json!({"id": shown.id, "propensity": propensity, "policy": shown.policy});
            if !shown.audience.is_empty() {
                value["creative"]["audience"] = shown.audience.as_str().into();
            }
            if !shown.features.is_empty() {
                let features = shown.features.iter().map(|it| (*it as f32).to_string());
                value["creative"]["features"] = features.collect();
            }
        }
        value
    };
    let input = it
        .input
        .as_ref()
        .map(|input| json!({"topic": input.topic, "partition": input.partition, "offset": input.offset.to_string()}));
    let mut value = json!({
        "schema_version": it.schema_version,
        "decision_id": it.decision_id,
        "user_key": it.user_key,
        "key_type": it.key_type().as_str_name(),
        "trigger_event_id": it.trigger_event_id,
        "occurred_at": it.occurred_at.to_string(),
        "decided_at": it.decided_at.to_string(),
        "expires_at": it.expires_at.to_string(),
        "status": it.status().as_str_name(),
        "segments": it.segments.iter().map(segment).collect::<Vec<_>>(),
        "left": it.left.iter().map(left).collect::<Vec<_>>(),
        "campaigns": it.campaigns.iter().map(offer).collect::<Vec<_>>(),
        "suppressed": it.suppressed.iter().map(|it| json!({"campaign_id": it.campaign_id, "reason": it.reason})).collect::<Vec<_>>(),
        "policy_version": it.policy_version.to_string(),
        "input": input,
        "feature_set_version": it.feature_set_version,
    });
    let text = |score: Option<f32>| score.map(|score| score.to_string());
    value["status_reason"] = (!it.status_reason.is_empty()).then_some(it.status_reason.as_str()).into();
    if let Some(score) = &it.score {
        value["score"] = json!({"raw": text(score.raw), "calibrated": text(score.calibrated)});
        if !score.heads.is_empty() {
            let head = |head: &v1::Head| json!({"name": head.name, "score": text(head.score)});
            value["score"]["heads"] = score.heads.iter().map(head).collect();
        }
        value["explanation"] = it.explanation.as_ref().map_or(Value::Null, |explanation| {
            let part =
                |it: &v1::Contribution| json!({"feature": it.feature, "contribution": it.contribution.to_string()});
            json!({"base": explanation.base.to_string(), "method": explanation.method,
                "contributions": explanation.contributions.iter().map(part).collect::<Vec<_>>()})
        });
    }
    if !it.features.is_empty() {
        value["features"] = it
            .features
            .iter()
            .map(|(name, value)| (name.clone(), value.to_string().into()))
            .collect::<serde_json::Map<_, _>>()
            .into();
    }
    if it.model.is_some() {
        value["consent"] = it.consent.as_ref().map_or(Value::Null, consent_json);
    }
    if let Some(model) = &it.model {
        value["model"] = json!({"name": model.name, "version": model.version, "sha256": model.sha256,
            "runtime": model.runtime, "provider": model.provider});
    }
    if let Some(experiment) = &it.experiment {
        value["experiment"] = json!({"name": experiment.name, "variant": experiment.variant});
    }
    value
}

/// Writes fractions as 32-bit float texts, so that both encodings can be compared exactly.
fn with_score_as_text(mut value: Value) -> Value {
    fn turn(value: &mut Value) {
        match value {
            Value::Number(number) if number.is_f64() => {
                *value = json!((number.as_f64().unwrap_or_default() as f32).to_string());
            }
            Value::Array(values) => values.iter_mut().for_each(turn),
            Value::Object(values) => values.values_mut().for_each(turn),
            _ => {}
        }
    }
    turn(&mut value);
    value
}

pub(super) fn score() -> impl Strategy<Value = f32> {
    prop_oneof![any::<f32>(), Just(f32::NAN), Just(f32::INFINITY), Just(-0.0)]
}

fn verdict() -> impl Strategy<Value = Verdict> {
    (any::<u64>(), 0..1_u64 << 38).prop_filter_map("a basis", |(first, second)| {
        let basis = Basis::decode([first, second])?;
        Some(Verdict { permissions: basis.permissions(), basis })
    })
}

pub(super) fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[a-z0-9-]{0,40}",
        Just("\"\\\u{0}\u{7}\u{8}\t\n\u{b}\u{c}\r\u{1b}\u{1f}\u{7f}\u{80}\u{2028}\u{feff}/</script>".to_owned()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn protobuf_and_json_say_the_same_of_any_decision(
        (user, event_id) in (text(), text()),
        (partition, offset, index) in (0_i32.., 0_i64.., prop_oneof![Just(0), any::<u32>()]),
        (occurred_at, decided_at) in (any::<i64>(), any::<i64>()),
        key_type in prop::sample::select(KeyType::ALL.to_vec()),
        status in prop::sample::select(vec![Status::Targeted, Status::NoTarget, Status::Fallback, Status::Suppressed]),
        (raw, score, heads) in (score(), score(), prop::collection::vec(score(), 2)),
        reason in prop::option::of(prop::sample::select(FallbackReason::ALL.to_vec())),
        parts in prop::option::of(prop::collection::vec(-1.0e3_f64..1.0e3, 2)),
        of in prop::sample::subsequence(vec![0_usize, 1, 2], 0..=3),
        (entered_at, expires_at, is_new) in (any::<i64>(), 1_i64.., any::<bool>()),
        left in prop::option::of(prop::sample::select(vec![LeaveReason::Expired, LeaveReason::ExitRule, LeaveReason::Excluded])),
        user_hash in prop::option::weighted(0.2, any::<u64>()),
        model in any::<bool>(),
        (bid_count, worth, probability) in (0_usize..=2, 0_i64.., 0.0_f64..=1.0),
        refused in prop::sample::subsequence(vec![0_u32, 1], 0..=2),
        why in prop::sample::select(Reason::ALL.to_vec()),
        (policy_version, shaded, share) in (any::<u64>().prop_map(|it| it / 2), prop::option::of(1_i64..), prop::option::of(0_u32..=1 << 31)),
        feature in -10.0_f64..10.0,
        consent in prop::option::of(verdict()),
    ) {
        let mut bids = bids(worth, probability);
        bids[0].shaded = shaded.map(Cpm);
        bids[0].pass_through = share.map(PassThrough);
        let bids = &bids[..bid_count];
        let features = [feature, 0.5];
        let suppressed: Vec<Refusal> = refused.iter().map(|campaign| Refusal { campaign: *campaign, reason: why }).collect();
        let names = ["n \"1\"".to_owned(), "n2".to_owned()];
        let explainer = Explainer::new(&ExplainSpec::default(), &names, vec![0.0; 2]).unwrap();
        let explanation = parts.map(|parts| Explanation { base: 0.5, parts });
        let membership = Membership { entered_at: EventTime(entered_at), expires_at: EventTime(expires_at) };
        let segments: Vec<InSegment> =
            of.iter().map(|number| InSegment { number: *number, stay: (*number == 2).then_some((membership, is_new)) }).collect();
        let left: Vec<LeftSegment> = left.into_iter().map(|reason| LeftSegment { number: 2, was: membership, reason }).collect();
        let position = Position { partition, offset, index };
        let deadline = EventTime(occurred_at);
        let it = Decision {
            user: &user,
            key_type,
            event_id: &event_id,
            cause: user_hash.map_or(Cause::Event(position), |user_hash| Cause::Expiry { user_hash, deadline }),
            segments: &segments,
            left: &left,
            campaigns: bids,
            suppressed: &suppressed,
            features: &features,
            policy_version,
            consent: consent.filter(|_| model),
            occurred_at: EventTime(occurred_at),
            decided_at: EventTime(decided_at),
            status,
            reason,
            raw,
            score,
            heads: if model { &heads } else { &[] },
            explanation: explanation.as_ref().filter(|_| model).map(|explanation| (&explainer, explanation)),
            logged: if is_new { &heads } else { &[] },
        };
        let message = v1::Decision::decode(&*encode(DecisionFormat::Protobuf, &[], model, &it, &[])).unwrap();
        let text = encode(DecisionFormat::Json, &[], model, &it, &[]);
        let value: Value = serde_json::from_slice(&text).unwrap();
        prop_assert_eq!(&with_score_as_text(value), &proto_json(&message));

        let tail = if index > 0 { format!("-{index}") } else { String::new() };
        let tail = match user_hash {
            Some(hash) => format!("expired-{hash:016x}-{occurred_at}"),
            None => format!("{partition}-{offset}{tail}"),
        };
        prop_assert_eq!(&message.decision_id, &format!("shop.eu:clicks.v1_eu-west-{tail}"));
        let app = (user_hash.is_some() && occurred_at >= 0 || user_hash.is_none() && partition >= 0 && offset >= 0)
            .then_some("shop.eu");
        prop_assert_eq!(super::app_of_id(&message.decision_id), app);
        prop_assert_eq!((&message.user_key, &message.trigger_event_id), (&user, &event_id));
        prop_assert_eq!(message.key_type().as_str_name(), key_type.proto_name());
        prop_assert_eq!((message.occurred_at, message.decided_at), (occurred_at, decided_at));
        prop_assert_eq!(message.expires_at, occurred_at.saturating_add(60_000_000));
        prop_assert_eq!(message.status().as_str_name(), status.name());
        let ids: Vec<_> = message.segments.iter().map(|segment| segment.id.clone()).collect();
        prop_assert_eq!(ids, of.iter().map(|index| format!("s{index}-{}", NAMES[*index])).collect::<Vec<_>>());
        let bits = |score: f32| (model && score.is_finite()).then(|| score.to_bits());
        let found = message.score.clone().unwrap_or_default();
        prop_assert_eq!(found.raw.map(f32::to_bits), bits(raw));
        prop_assert_eq!(found.calibrated.map(f32::to_bits), bits(score));
        let reason = reason.map_or("", FallbackReason::as_str);
        let reason = match (status, user_hash) {
            (Status::Suppressed, _) => it.consent.as_ref().and_then(suppression).unwrap_or_default(),
            (_, Some(_)) => "membership_expired",
            (_, None) => reason,
        };
        prop_assert_eq!(message.status_reason.as_str(), reason);
        prop_assert_eq!(message.left.len(), left.len());
        prop_assert_eq!(message.suppressed.len(), refused.len());
        let offers: Vec<_> = message.campaigns.iter().map(|it| (it.id.as_str(), it.value_micros, it.probability, it.bid_micros)).collect();
        let names = ["spring \"sale\" ☃", "plain"].map(|id| (id, worth, probability, worth / 2));
        prop_assert_eq!(offers, &names[..bid_count]);
        prop_assert_eq!(message.explanation.is_some(), it.explanation.is_some());
        prop_assert_eq!(message.consent.is_some(), it.consent.is_some());
        let logged = ["n \"1\"", "m"].iter().zip(it.logged).filter(|(_, value)| value.is_finite());
        let logged: BTreeMap<String, f32> = logged.map(|(name, value)| ((*name).to_owned(), *value)).collect();
        prop_assert_eq!(&message.features, &logged);
        prop_assert_eq!((message.model.is_some(), message.experiment.is_some()), (model, model));

        // Whoever keeps decisions finds the same in both.
        let payload = encode(DecisionFormat::Protobuf, &[], model, &it, &[]);
        let read = |payload: &[u8]| {
            let (mut reader, key) = (RecordReader::new("shop.eu"), key_of(key_type, &user).into_owned());
            reader.read(Some(key.as_bytes()), Some(payload)).map(|(_, change)| match change {
                Change::Kept(message) => v1::Decision::decode(message).unwrap(),
                other => panic!("{other:?}"),
            })
        };
        let kept = v1::Decision { user_key: String::new(), key_type: 0, features: BTreeMap::default(), ..message };
        let is_keyless = user.is_empty() && key_type == KeyType::Person;
        prop_assert_eq!(read(&payload).ok(), (!is_keyless).then_some(kept));
        prop_assert_eq!(read(&text), read(&payload));
    }
}

#[test]
fn a_usual_decision_takes_less_than_two_kilobytes() {
    let user = "u".repeat(64);
    let it = decision(&user, "0123456789abcdef0123456789abcdef");
    for format in [DecisionFormat::Json, DecisionFormat::Protobuf] {
        let bytes = encode(format, &[], true, &it, &[0, 1, 2]);
        assert!(bytes.len() < 2_048, "{format:?}: {} bytes", bytes.len());
    }
}

#[test]
fn ten_segments_and_three_campaigns_take_less_than_two_kilobytes() {
    let specs: Vec<SegmentSpec> = (0..10)
        .map(|number| SegmentSpec {
            id: format!("segment-{number}"),
            name: Some("A segment's name for people".to_owned()),
            segtax: 502,
            filter: "true".to_owned(),
            duration: Some(Duration::from_hours(1)),
            ..SegmentSpec::default()
        })
        .collect();
    let campaign = |number: usize| -> CampaignSpec {
        let text = "currency = \"EUR\"\nvalue = 2.5\narms = [{ name = \"a longer name\", share = 0.5 }]";
        toml::from_str(&format!("id = \"spring-campaign-{number}\"\n{text}")).unwrap()
    };
    let creative = |number: usize| -> CreativeSpec {
        let text = "headline = [\"x\"]\nlanding_page = \"https://shop.example/\"";
        toml::from_str(&format!("id = \"spring-creative-{number}\"\ncampaign = \"spring-campaign-{number}\"\n{text}"))
            .unwrap()
    };
    let (mut scope, mut errors, targeting) = (Scope::default(), Vec::new(), TargetingSpec::default());
    let segments = Segments::compile(&specs, &targeting, &mut scope, &mut errors);
    let (all, creatives): (Vec<_>, Vec<_>) = (0..3).map(|number| (campaign(number), creative(number))).unzip();
    let campaigns = Campaigns::compile(&all, &targeting, &[], &[], &creatives, &mut scope, &mut errors);
    let bids = campaigns.largest().bids;
    let of: Vec<InSegment> = (0..10).map(|number| InSegment { number, stay: Some((STAY, true)) }).collect();
    let user = "u".repeat(64);
    let it = Decision { segments: &of, campaigns: &bids, ..decision(&user, "0123456789abcdef0123456789abcdef") };
    for format in [DecisionFormat::Json, DecisionFormat::Protobuf] {
        let spec = DecisionSpec { format, ..DecisionSpec::default() };
        let targets = Targets { segments: segments.all(), campaigns: &campaigns };
        let encoder = Encoder::compile(&spec, &constants(false), targets, &mut errors);
        let mut bytes = Vec::new();
        encoder.encode(&it, &mut bytes);
        println!("{format:?}: {} bytes", bytes.len());
        assert_eq!((&errors, bids.len()), (&vec![], 3));
        // JSON repeats the names of members: there, segments without a name for people fit.
        let most = if format == DecisionFormat::Json { 3_200 } else { 2_048 };
        assert!(bytes.len() < most, "{format:?}: {} bytes", bytes.len());
    }
}

#[test]
fn a_flat_decision_has_the_chosen_members_and_no_others() {
    let bids = bids(2_500, 0.5);
    let it = Decision { heads: &[0.125, 0.5], campaigns: &bids, ..decision("ann \"a\" \u{1}", "e1") };
    let fields = [
        ("a", "decision_id"),
        ("b", "user_key"),
        ("c", "trigger_event_id"),
        ("d", "input.partition"),
        ("e", "input.offset"),
        ("f", "occurred_at"),
        ("g", "occurred_at_ms"),
        ("h", "decided_at"),
        ("i", "expires_at"),
        ("j", "status"),
        ("k", "score.raw"),
        ("k2", "score.calibrated"),
        ("k3", "score.call"),
        ("j2", "status_reason"),
        ("u", "explanation"),
        ("l", "segments"),
        ("m", "segments[0].id"),
        ("n", "input.topic"),
        ("o", "feature_set_version"),
        ("p", "model.name"),
        ("q", "model.version"),
        ("r", "model.sha256"),
        ("s", "model.runtime"),
        ("t", "model.provider"),
        ("v", "experiment.name"),
        ("w", "experiment.variant"),
        ("x", "campaigns[0].id"),
        ("y", "campaigns[0].bid_micros"),
        ("z", "campaigns[0].creative.id"),
        ("\"quoted\"", "decision_id"),
    ];
    let flat = |it: &Decision<'_>, of: &[usize]| -> Value {
        serde_json::from_slice(&encode(DecisionFormat::Flat, &fields, true, it, of)).unwrap()
    };
    let mut expected = json!({
        "a": "shop.eu:clicks.v1_eu-west-2-91",
        "b": "ann \"a\" \u{1}",
        "c": "e1",
        "d": 2,
        "e": 91,
        "f": 1_767_225_600_097_123_i64,
        "g": 1_767_225_600_097_i64,
        "h": 1_767_225_601_000_000_i64,
        "i": 1_767_225_660_097_123_i64,
        "j": "STATUS_TARGETED",
        "k": 0.25,
        "k2": 0.75,
        "k3": 0.5,
        "j2": null,
        "u": null,
        "l": [{"id": format!("s1-{}", NAMES[1]), "name": NAMES[1]},
              {"id": format!("s2-{}", NAMES[2]), "name": NAMES[2], "segtax": 502, "entered_at": 1_767_225_600_000_001_i64,
               "expires_at": 1_767_229_200_000_001_i64, "is_new": true}],
        "m": format!("s1-{}", NAMES[1]),
        "n": "clicks.v1_eu-west",
        "o": "00ff",
        "p": "prop\"ensity",
        "q": "3",
        "r": "ab".repeat(32),
        "s": "onnxruntime 1.22",
        "t": "cpu",
        "v": "e\"1\"",
        "w": "challenger",
        "x": "spring \"sale\" ☃",
        "y": 1_250,
        "z": "banner\"1",
        "\"quoted\"": "shop.eu:clicks.v1_eu-west-2-91",
    });
    assert_eq!(flat(&it, &[1, 2]), expected);
    (expected["j"], expected["j2"]) = (json!("STATUS_FALLBACK"), json!("model_late"));
    (expected["k"], expected["k2"], expected["k3"]) = (Value::Null, Value::Null, Value::Null);
    (expected["l"], expected["m"]) = (json!([]), Value::Null);
    (expected["x"], expected["y"], expected["z"]) = (Value::Null, Value::Null, Value::Null);
    for none in [f32::NAN, f32::NEG_INFINITY] {
        let reason = Some(FallbackReason::Late);
        let it = Decision {
            status: Status::Fallback,
            reason,
            raw: none,
            score: none,
            heads: &[none; 2],
            campaigns: &[],
            ..it
        };
        assert_eq!(flat(&it, &[]), expected);
    }
}

#[test]
fn wrong_members_are_faults_that_name_what_there_is() {
    for (format, fields, key, message, hint) in [
        (DecisionFormat::Flat, &[][..], "decision.fields", "needs its members", "decision_id"),
        (DecisionFormat::Flat, &[("x", "scores.raw")], "decision.fields.x", "no \"scores.raw\"", "score.raw"),
        (DecisionFormat::Flat, &[("x", "segments[1].id")], "decision.fields.x", "segments[1].id", "segments[0].id"),
        (DecisionFormat::Flat, &[("x", "")], "decision.fields.x", "no \"\"", "model.provider"),
        (DecisionFormat::Json, &[("x", "user_key")], "decision.fields", "only a flat", "format = \"flat\""),
        (DecisionFormat::Protobuf, &[("x", "user_key")], "decision.fields", "only a flat", "decision.fields"),
    ] {
        let (_, errors) = compile(format, fields, true);
        assert_eq!(errors.len(), 1, "{fields:?}: {errors:?}");
        assert_eq!(errors[0].key, key);
        assert!(errors[0].message.contains(message), "{errors:?}");
        assert!(errors[0].hint.as_deref().unwrap_or_default().contains(hint), "{errors:?}");
    }
}

#[test]
fn an_id_is_app_topic_partition_offset_and_the_index_of_any_further_event() {
    for (index, id) in [
        (0, "shop.eu:clicks.v1_eu-west-2-91"),
        (1, "shop.eu:clicks.v1_eu-west-2-91-1"),
        (12, "shop.eu:clicks.v1_eu-west-2-91-12"),
    ] {
        let position = Position { partition: 2, offset: 91, index };
        let bytes = encode(
            DecisionFormat::Protobuf,
            &[],
            false,
            &Decision { cause: Cause::Event(position), ..decision("u", "") },
            &[],
        );
        assert_eq!(v1::Decision::decode(&*bytes).unwrap().decision_id, id);
    }
}

#[test]
fn the_application_is_read_from_an_id_and_from_nothing_else() {
    for (id, app) in [
        ("shop:clicks-0-1", Some("shop")),
        ("shop:clicks-0-1-2", Some("shop")),
        ("shop:a-b.c_d-10-20", Some("shop")),
        ("shop:a-expired-00112233445566ff-1700000000000000", Some("shop")),
        ("shop:a-expired-00112233445566f-1", None),
        ("shop:a-expired-00112233445566ff-x", None),
        ("clicks-0-1", None),
        (":clicks-0-1", None),
        ("shop:clicks-1", None),
        ("https://shop/clicks-0-1", None),
        ("", None),
    ] {
        assert_eq!(super::app_of_id(id), app, "{id}");
    }
}
