//! What is written is read with the types of an independent crate, `iab-specs`.

use super::*;
use crate::{
    decision::{
        Cause, DecisionFormat, Encoder, ProviderSpec, Status,
        tests::{bids, campaigns, constants, decision, in_segment, score, segments, text as any_text},
    },
    event::Position,
    expression::Scope,
    targeting::{
        SegmentSpec, Segments, TargetingSpec,
        campaign::{CampaignSpec, Campaigns},
        money::Micros,
    },
};
use iab_specs::{
    artb::v10::{Intent, Mutation, Operation, RTBResponse},
    openrtb::v25::{BidRequest, User},
};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::time::Duration;

fn spec(format: DecisionFormat) -> DecisionSpec {
    let provider = ProviderSpec { id: "p\"7\"".to_owned(), name: "shop.example".to_owned() };
    DecisionSpec {
        format,
        provider: if format == DecisionFormat::OpenRtb { provider } else { ProviderSpec::default() },
        seat: if format == DecisionFormat::Artf { "se\"at".to_owned() } else { String::new() },
        expires_after: Duration::from_mins(1),
        ..DecisionSpec::default()
    }
}

fn encoder(format: DecisionFormat, model: bool) -> Encoder {
    let (segments, campaigns) = (segments(), campaigns());
    let targets = Targets { segments: &segments, campaigns: &campaigns };
    let mut errors = Vec::new();
    let encoder = Encoder::compile(&spec(format), &constants(model), targets, &mut errors);
    assert_eq!(errors, []);
    encoder
}

fn encode(format: DecisionFormat, model: bool, it: &Decision<'_>) -> String {
    // Earlier contents of the buffer must not change.
    let mut bytes = b"before".to_vec();
    encoder(format, model).encode(it, &mut bytes);
    assert!(bytes.starts_with(b"before"));
    String::from_utf8(bytes.split_off(6)).unwrap()
}

/// The number of an enum as the independent crate has it, for its name in the Protobuf definition.
fn number(name: &str) -> Value {
    match name {
        "ACTIVATE_SEGMENTS" => json!(Intent::ActivateSegments),
        "BID_SHADE" => json!(Intent::BidShade),
        "OPERATION_ADD" => json!(Operation::Add),
        "OPERATION_REPLACE" => json!(Operation::Replace),
        _ => panic!("{name} is no intent or operation that Aimpoint writes"),
    }
}

/// An ARTF response, read by the independent crate. It reads the enums only as numbers, which are equivalent in
/// Protobuf's JSON form.
fn read_artf(text: &str) -> RTBResponse<Value, Value> {
    let mut value: Value = serde_json::from_str(text).unwrap();
    for mutation in value["mutations"].as_array_mut().unwrap() {
        for member in ["intent", "op"] {
            mutation[member] = number(mutation[member].as_str().unwrap());
        }
    }
    let response: RTBResponse<Value, Value> = serde_json::from_value(value.clone()).unwrap();
    // The crate ignores members that it does not know, so what it writes again must be all of it.
    assert_eq!(serde_json::to_value(&response).unwrap(), value);
    response
}

/// The user of a bid request that the output was merged into, read by the independent crate.
fn read_user(text: &str) -> User<Value> {
    let value: Value = serde_json::from_str(text).unwrap();
    let mut request = json!({"id": "r1", "imp": [{"id": "1"}], "at": 1, "cur": ["EUR"]});
    request["user"] = value["user"].clone();
    let request: BidRequest<Value> = serde_json::from_value(request).unwrap();
    let user = request.user.unwrap();
    // The crate ignores members that it does not know, so what it writes again must be all of it.
    assert_eq!(serde_json::to_value(&user).unwrap(), value["user"]);
    user
}

/// Whether a price that was read is this one, as exactly as the type allows.
fn is_near(price: f64, micros: i64) -> bool {
    (price - micros as f64 / 1e6).abs() <= price.abs() * 2.0 * f64::EPSILON
}

#[test]
fn openrtb_has_the_segments_by_taxonomy_for_the_request_and_the_bids_beside_it() {
    let of = [in_segment(2), in_segment(0), in_segment(1)];
    let bids = bids(2_500_001, 0.5);
    let it = Decision { segments: &of, campaigns: &bids, ..decision("ann \"a\"", "e1") };
    let expected = r#"{"user":{"data":[{"id":"p\"7\"","name":"shop.example","segment":[{"id":"s2-ünï ☃ 😀","name":"ünï ☃ 😀"}],"ext":{"segtax":502}},{"id":"p\"7\"","name":"shop.example","segment":[{"id":"s0-keen","name":"s0-keen"}],"ext":{"segtax":507}},{"id":"p\"7\"","name":"shop.example","segment":[{"id":"s1-\"quoted\" \\ and\n","name":"\"quoted\" \\ and\n"}]}]},"ext":{"aimpoint":{"decision_id":"shop.eu:clicks.v1_eu-west-2-91","occurred_at_ms":1767225600097,"decided_at_ms":1767225601000,"expires_at_ms":1767225660097,"status":"STATUS_TARGETED","score":0.75,"model":"prop\"ensity","model_version":"3","campaigns":[{"cid":"spring \"sale\" ☃","crid":"banner\"1","price":1.25,"bidfloor":0,"cur":"EUR"},{"cid":"plain","price":1.25,"bidfloor":0,"cur":"EUR"}]}}}"#;
    assert_eq!(encode(DecisionFormat::OpenRtb, true, &it), expected);

    // An expired membership, and neither model nor segments.
    let cause = Cause::Expiry { user_hash: 0xab, deadline: EventTime(7_000) };
    let it = Decision { cause, status: Status::NoTarget, score: f32::NAN, ..decision("ann", "") };
    let expected = r#"{"user":{"data":[]},"ext":{"aimpoint":{"decision_id":"shop.eu:clicks.v1_eu-west-expired-00000000000000ab-7000","occurred_at_ms":1767225600097,"decided_at_ms":1767225601000,"expires_at_ms":1767225660097,"status":"STATUS_NO_TARGET","status_reason":"membership_expired","campaigns":[]}}}"#;
    assert_eq!(encode(DecisionFormat::OpenRtb, false, &it), expected);
}

#[test]
fn artf_has_one_mutation_for_all_segments_and_one_for_each_bid() {
    let of = [in_segment(2), in_segment(0)];
    let bids = bids(2_500_001, 0.5);
    let it = Decision { segments: &of, campaigns: &bids, ..decision("ann", "e1") };
    let expected = r#"{"id":"shop.eu:clicks.v1_eu-west-2-91","mutations":[{"intent":"ACTIVATE_SEGMENTS","op":"OPERATION_ADD","path":"/user/data/segment","ids":{"id":["s2-ünï ☃ 😀","s0-keen"]}},{"intent":"BID_SHADE","op":"OPERATION_REPLACE","path":"/seatbid/se\"at/bid/spring \"sale\" ☃","adjust_bid":{"price":1.25}},{"intent":"BID_SHADE","op":"OPERATION_REPLACE","path":"/seatbid/se\"at/bid/plain","adjust_bid":{"price":1.25}}],"metadata":{"api_version":"1.0","model_version":"3"}}"#;
    assert_eq!(encode(DecisionFormat::Artf, true, &it), expected);

    let it = Decision { segments: &[], campaigns: &[], ..it };
    let expected = r#"{"id":"shop.eu:clicks.v1_eu-west-2-91","mutations":[],"metadata":{"api_version":"1.0"}}"#;
    assert_eq!(encode(DecisionFormat::Artf, false, &it), expected);
}

#[test]
fn the_price_is_the_shaded_bid_if_it_is_known() {
    let mut bids = bids(2_500_000, 0.5);
    bids[0].shaded = Some(Cpm(900_000));
    let it = Decision { campaigns: &bids, ..decision("ann", "e1") };
    for format in [DecisionFormat::OpenRtb, DecisionFormat::Artf] {
        let text = encode(format, false, &it);
        assert!(text.contains(r#""price":0.9"#) && text.contains(r#""price":1.25"#), "{text}");
    }
}

#[test]
fn only_artf_needs_a_header_for_the_end() {
    let it = decision("ann", "");
    for (format, header) in [
        (DecisionFormat::Json, None),
        (DecisionFormat::Protobuf, None),
        (DecisionFormat::OpenRtb, None),
        (DecisionFormat::Artf, Some("1767225660097")),
    ] {
        let mut buffer = itoa::Buffer::new();
        let found = encoder(format, false).expiry_header(&it, &mut buffer);
        assert_eq!(found, header.map(str::as_bytes), "{format:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_decision_is_valid_in_both_forms_and_of_bounded_size(
        user in any_text(),
        (partition, offset, index) in (0_i32.., 0_i64.., prop_oneof![Just(0), any::<u32>()]),
        (occurred_at, decided_at) in (any::<i64>(), any::<i64>()),
        status in prop::sample::select(vec![Status::Targeted, Status::NoTarget, Status::Fallback]),
        score in score(),
        of in prop::sample::subsequence(vec![0_usize, 1, 2], 0..=3).prop_shuffle(),
        user_hash in prop::option::weighted(0.2, any::<u64>()),
        model in any::<bool>(),
        (bid_count, worth) in (0_usize..=2, 0_i64..),
    ) {
        let bids = &bids(worth, 0.5)[..bid_count];
        let in_segments: Vec<InSegment> = of.iter().map(|number| in_segment(*number)).collect();
        let deadline = EventTime(occurred_at);
        let it = Decision {
            cause: user_hash.map_or(
                Cause::Event(Position { partition, offset, index }),
                |user_hash| Cause::Expiry { user_hash, deadline },
            ),
            segments: &in_segments,
            campaigns: bids,
            occurred_at: EventTime(occurred_at),
            decided_at: EventTime(decided_at),
            status,
            score,
            ..decision(&user, &user)
        };
        let declared = segments();

        let text = encode(DecisionFormat::OpenRtb, model, &it);
        prop_assert!(text.len() < 2_048, "{} bytes", text.len());
        let data = read_user(&text).data.unwrap();
        // Each segment has its own taxonomy, so each has its own Data object, in the order of the decision.
        let found: Vec<_> = data
            .iter()
            .map(|data| {
                let segment = &data.segment.as_ref().unwrap()[..];
                let segtax = data.ext.as_ref().map_or(0, |ext| ext["segtax"].as_u64().unwrap());
                (segment.len(), segment[0].id.clone().unwrap(), segment[0].name.clone().unwrap(), segtax)
            })
            .collect();
        let expected: Vec<_> = of
            .iter()
            .map(|it| (1, declared[*it].id.clone(), declared[*it].name.clone(), u64::from(declared[*it].segtax)))
            .collect();
        prop_assert_eq!(found, expected);
        let value: Value = serde_json::from_str(&text).unwrap();
        let ours = &value["ext"]["aimpoint"];
        prop_assert_eq!(ours.get("score").is_some(), model && score.is_finite());
        let prices: Vec<_> = ours["campaigns"].as_array().unwrap().iter().map(|it| it["price"].as_f64().unwrap()).collect();
        prop_assert!(prices.len() == bid_count && prices.iter().all(|price| is_near(*price, worth / 2)), "{prices:?}");
        prop_assert_eq!(&ours["expires_at_ms"], &json!(occurred_at.saturating_add(60_000_000).div_euclid(1_000)));

        let text = encode(DecisionFormat::Artf, model, &it);
        prop_assert!(text.len() < 2_048, "{} bytes", text.len());
        let response = read_artf(&text);
        prop_assert_eq!(&response.id, ours["decision_id"].as_str().unwrap());
        let ids: Vec<_> = of.iter().map(|it| declared[*it].id.clone()).collect();
        let is_activation = |it: &&Mutation<Value, Value>| it.intent == Intent::ActivateSegments;
        let activated: Vec<_> = response.mutations.iter().filter(is_activation).collect();
        prop_assert_eq!(activated.len(), usize::from(!of.is_empty()));
        prop_assert!(activated.iter().all(|it| it.op == Operation::Add && it.path == "/user/data/segment"));
        prop_assert!(activated.iter().all(|it| it.ids.as_ref().unwrap().id == ids));
        let shades: Vec<_> = response.mutations.iter().filter(|it| it.intent == Intent::BidShade).collect();
        let paths = ["spring \"sale\" ☃", "plain"].map(|id| format!("/seatbid/se\"at/bid/{id}"));
        prop_assert_eq!(shades.iter().map(|it| it.path.clone()).collect::<Vec<_>>(), &paths[..bid_count]);
        for shade in shades {
            prop_assert_eq!(shade.op, Operation::Replace);
            prop_assert!(is_near(shade.adjust_bid.as_ref().unwrap().price, worth / 2));
        }
        prop_assert_eq!(response.mutations.len(), bid_count + usize::from(!of.is_empty()));
    }

    #[test]
    fn a_price_is_written_exactly(micros in prop_oneof![any::<i64>(), -2_000_000_i64..2_000_000]) {
        let mut text = Vec::new();
        write_price(Cpm(micros), &mut text);
        let text = String::from_utf8(text).unwrap();
        prop_assert_eq!(text.parse::<Micros>(), Ok(Micros(micros)));
        prop_assert!(serde_json::from_str::<f64>(&text).is_ok(), "{}", text);
    }

    #[test]
    fn segments_of_one_taxonomy_share_a_data_object(taxonomies in prop::collection::vec(0_u32..4, 0..12)) {
        let all: Vec<WireSegment> = taxonomies
            .iter()
            .enumerate()
            .map(|(number, segtax)| WireSegment::new(&number.to_string(), "n", *segtax))
            .collect();
        let mut text = b"{\"data\":".to_vec();
        Provider::new("", "a").write_data(all.iter(), &mut text);
        text.push(b'}');
        let user: User<Value> = serde_json::from_slice(&text).unwrap();
        let mut expected: Vec<(u32, Vec<String>)> = Vec::new();
        for (number, segtax) in taxonomies.iter().enumerate() {
            match expected.iter_mut().find(|(known, _)| known == segtax) {
                Some((_, ids)) => ids.push(number.to_string()),
                None => expected.push((*segtax, vec![number.to_string()])),
            }
        }
        let found: Vec<(u32, Vec<String>)> = user
            .data
            .unwrap()
            .iter()
            .map(|data| {
                assert_eq!((data.id.as_deref(), data.name.as_deref()), (None, Some("a")));
                let ids = data.segment.as_ref().unwrap().iter().map(|it| it.id.clone().unwrap()).collect();
                (data.ext.as_ref().map_or(0, |ext| ext["segtax"].as_u64().unwrap() as u32), ids)
            })
            .collect();
        prop_assert_eq!(found, expected);
    }
}

/// The errors of a format with these segments (id and taxonomy) and campaigns (id and currency).
fn errors(spec: &DecisionSpec, of: &[(&str, u32)], bidding: &[(&str, &str)]) -> Vec<ConfigError> {
    let (mut scope, mut errors, targeting) = (Scope::default(), Vec::new(), TargetingSpec::default());
    let segments: Vec<SegmentSpec> = of
        .iter()
        .map(|(id, segtax)| SegmentSpec {
            id: (*id).to_owned(),
            segtax: *segtax,
            filter: "true".to_owned(),
            ..SegmentSpec::default()
        })
        .collect();
    let campaigns: Vec<CampaignSpec> = bidding
        .iter()
        .map(|(id, currency)| {
            toml::from_str(&format!("id = {id:?}\ncurrency = {currency:?}\nvalue = 2\npriority = 1")).unwrap()
        })
        .collect();
    let segments = Segments::compile(&segments, &targeting, &mut scope, &mut errors);
    let campaigns = Campaigns::compile(&campaigns, &targeting, &[], &[], &[], &mut scope, &mut errors);
    // Campaigns in several currencies are refused elsewhere unless rates are known.
    errors.clear();
    let targets = Targets { segments: segments.all(), campaigns: &campaigns };
    Encoder::compile(spec, &constants(false), targets, &mut errors);
    errors
}

#[test]
fn what_a_form_cannot_carry_is_an_error_with_the_next_step() {
    use DecisionFormat::{Artf, Flat, OpenRtb};
    let [openrtb, artf] = [spec(OpenRtb), spec(Artf)];
    let cases = [
        (
            DecisionSpec { provider: ProviderSpec::default(), ..openrtb.clone() },
            "decision.provider",
            "names its provider",
        ),
        (DecisionSpec { reasons: true, ..openrtb.clone() }, "decision.reasons", "no place for refused"),
        (DecisionSpec { reasons: true, ..artf.clone() }, "decision.reasons", "no place for refused"),
        (DecisionSpec { seat: String::new(), ..artf.clone() }, "decision.seat", "the bidder's seat"),
        (DecisionSpec { seat: "a/b".to_owned(), ..artf.clone() }, "decision.seat", "slash"),
        (
            DecisionSpec { provider: openrtb.provider.clone(), ..artf.clone() },
            "decision.provider",
            "only an OpenRTB decision",
        ),
        (
            DecisionSpec { fields: [("a".to_owned(), "b".to_owned())].into(), ..artf.clone() },
            "decision.fields",
            "only a flat",
        ),
        (
            DecisionSpec { format: Flat, fields: [("a".to_owned(), "status".to_owned())].into(), ..openrtb.clone() },
            "decision.provider",
            "only an OpenRTB decision",
        ),
    ];
    for (spec, key, message) in cases {
        let found = errors(&spec, &[("a", 500), ("b", 501)], &[("spring", "EUR")]);
        assert_eq!(found.len(), 1, "{key}: {found:?}");
        assert_eq!(found[0].key, key);
        assert!(found[0].message.contains(message), "{found:?}");
    }
    for (of, bidding, key, message) in [
        (&[("5", 500), ("5", 501)][..], &[][..], "segment[1].id", "segtax 500"),
        (&[], &[("a", "EUR"), ("b/c", "EUR")], "campaign[1].id", "\"b/c\""),
        (&[], &[("a", "EUR"), ("b", "USD")], "decision.format", "EUR and USD"),
    ] {
        assert_eq!(errors(&openrtb, of, bidding), [], "OpenRTB can carry it");
        let found = errors(&artf, of, bidding);
        assert_eq!(found.len(), 1, "{key}: {found:?}");
        assert_eq!(found[0].key, key);
        assert!(found[0].message.contains(message), "{found:?}");
    }
    assert_eq!(errors(&DecisionSpec { seat: String::new(), ..artf }, &[("a", 0)], &[]), [], "nobody bids");
}

#[test]
fn formats_are_named_as_in_the_configuration() {
    use DecisionFormat::{Artf, Flat, Json, OpenRtb, Protobuf};
    for format in [Json, Protobuf, Flat, OpenRtb, Artf] {
        let read: DecisionSpec = toml::from_str(&format!("format = {:?}", format.name())).unwrap();
        assert_eq!(read.format, format);
        assert_eq!(format.unreadable().is_none(), format.is_complete(), "{format:?}");
        assert_eq!(format.leaves_out().is_empty(), format.is_complete() || format == Flat, "{format:?}");
    }
}
