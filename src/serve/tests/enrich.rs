//! Bid requests before and after.

use super::{NOW, decision, keep};
use crate::{
    event::UserKeys,
    proto::v1,
    serve::{Enricher, Enrichment, ServeProviderSpec, ServeSpec, Store},
};
use proptest::prelude::*;
use serde_json::{Value, json};

fn enricher(consent: &str) -> Enricher {
    let spec: ServeSpec = toml::from_str(&format!("[consent]\n{consent}")).unwrap();
    let mut errors = Vec::new();
    let rules = spec.rules(&mut errors);
    assert_eq!(errors, []);
    let provider = ServeProviderSpec { id: String::new(), name: "shop.example".to_owned() };
    Enricher::new(&provider, spec.identity, UserKeys::default(), rules)
}

fn store() -> Store {
    let store = Store::default();
    keep(&store, 0, "ann", &decision("ann", NOW, &["1", "2"]));
    keep(&store, 0, "bob", &decision("bob", NOW, &[]));
    keep(&store, 0, "old", &decision("old", 0, &["1"]));
    store
}

fn enrich(enricher: &mut Enricher, request: &str) -> (Enrichment, String) {
    let mut out = b"before".to_vec();
    let outcome = enricher.enrich(&store(), request, NOW + 1, &mut out).unwrap();
    (outcome, String::from_utf8(out).unwrap().split_off(6))
}

const DATA: &str =
    r#"{"name":"shop.example","segment":[{"id":"1","name":"The 1"},{"id":"2","name":"The 2"}],"ext":{"segtax":4}}"#;

#[test]
fn segments_are_put_where_they_belong() {
    let mut enricher = enricher("enabled = false");
    for (request, before, behind) in [
        (r#"{"user":{"buyeruid":"ann"}}"#, r#"{"user":{"buyeruid":"ann","data":["#, "]}}"),
        (
            r#"{"user":{"buyeruid":"ann" , "data" : [ ] },"x":1}"#,
            r#"{"user":{"buyeruid":"ann" , "data" : [ "#,
            r#"] },"x":1}"#,
        ),
        (
            r#"{"user":{"data":[{"id":"a"}],"buyeruid":"ann"}}"#,
            r#"{"user":{"data":[{"id":"a"},"#,
            r#"],"buyeruid":"ann"}}"#,
        ),
        (r#"{"user":{"data":null,"buyeruid":"ann"}}"#, r#"{"user":{"data":["#, r#"],"buyeruid":"ann"}}"#),
    ] {
        assert_eq!(
            enrich(&mut enricher, request),
            (Enrichment::Enriched, format!("{before}{DATA}{behind}")),
            "{request}"
        );
    }
    // Without a user object, the device names the user.
    let store = store();
    let of_app = v1::Decision { key_type: v1::KeyType::App.into(), ..decision("i", NOW, &["1", "2"]) };
    keep(&store, 0, "app:i", &of_app);
    for (request, before, behind) in [
        (r#" {"device":{"ifa":"i"} } "#, r#" {"device":{"ifa":"i"} ,"user":{"data":["#, "]}} "),
        (r#"{"user":null,"device":{"ifa":"i"}}"#, r#"{"user":{"data":["#, r#"]},"device":{"ifa":"i"}}"#),
        (r#"{"user":{ },"device":{"ifa":"i"}}"#, r#"{"user":{ "data":["#, r#"]},"device":{"ifa":"i"}}"#),
    ] {
        let mut out = Vec::new();
        assert_eq!(enricher.enrich(&store, request, NOW + 1, &mut out), Ok(Enrichment::Enriched), "{request}");
        assert_eq!(String::from_utf8(out).unwrap(), format!("{before}{DATA}{behind}"));
    }
}

#[test]
fn without_segments_a_request_stays_as_it_is() {
    let mut enricher = enricher("enabled = false");
    for (request, outcome) in [
        ("{}", Enrichment::NoId),
        (r#"{"user":{"id":""}}"#, Enrichment::NoId),
        (r#"{"user":{"id":"ann"}}"#, Enrichment::Unknown),
        (r#"{"user":{"buyeruid":"nobody"}}"#, Enrichment::Unknown),
        (r#"{"user":{"buyeruid":"old"}}"#, Enrichment::Expired),
        (r#"{ "user" : {"buyeruid":"bob"}}"#, Enrichment::NoSegments),
    ] {
        assert_eq!(enrich(&mut enricher, request), (outcome, request.to_owned()));
    }
}

#[test]
fn a_membership_that_has_ended_is_left_out() {
    let mut it = decision("eve", NOW, &["1", "2"]);
    it.segments[0].expires_at = NOW + 1;
    it.segments[1].expires_at = NOW + 2;
    let store = Store::default();
    keep(&store, 0, "eve", &it);
    let (mut enricher, mut out) = (enricher("enabled = false"), Vec::new());
    enricher.enrich(&store, r#"{"user":{"buyeruid":"eve"}}"#, NOW + 1, &mut out).unwrap();
    let value: Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(value["user"]["data"][0]["segment"], json!([{ "id": "2", "name": "The 2" }]));
}

const RULES: &str = "enabled = true\nvendor_id = 7\nwithout_law = [\"emit\"]\n";

#[test]
fn signals_that_forbid_it_leave_the_request_unchanged_and_say_why() {
    let mut enricher = enricher(RULES);
    let user = r#""user":{"buyeruid":"ann"}"#;
    for (rest, reason) in [
        ("", Some("unknown_law")),
        (r#","device":{"geo":{"country":"JPN"}}"#, None),
        (r#","regs":{"gdpr":0},"device":{"geo":{"country":"JPN"}}"#, None),
        (r#","device":{"geo":{"country":"DEU"}}"#, Some("string_missing")),
        (r#","regs":{"gdpr":1}"#, Some("string_missing")),
        (r#","regs":{"ext":{"gdpr":1}}"#, Some("string_missing")),
        (r#","regs":{"gdpr":"1"}"#, Some("string_missing")),
        (r#","regs":{"gdpr":0,"coppa":1}"#, Some("coppa")),
        (r#","regs":{"gdpr":0,"ext":{"coppa":1}}"#, Some("coppa")),
        (r#","regs":{"gdpr":0},"device":{"lmt":1}"#, Some("lmt")),
        (r#","regs":{"gdpr":0,"ext":{"gpc":"1"}}"#, Some("gpc")),
        (r#","regs":{"gdpr":0,"us_privacy":"1YYN"}"#, Some("sale_opt_out")),
        (
            r#","regs":{"ext":{"us_privacy":"1YYN"}},"device":{"geo":{"country":"USA","region":"CA"}}"#,
            Some("sale_opt_out"),
        ),
        (r#","regs":{"gpp":"DBABLA~CAQBAAAAAACA.QA","gpp_sid":[7]}"#, Some("targeted_advertising_opt_out")),
        (r#","regs":{"ext":{"gpp":"DBABLA~CAQBAAAAAACA.QA","gpp_sid":[7]}}"#, Some("targeted_advertising_opt_out")),
        (r#","regs":{"gdpr":0,"ext":{"gdpr":1}}"#, Some("signals_conflict")),
        (r#","regs":{"gdpr":2}"#, Some("signal_unreadable")),
        (r#","regs":{"gdpr":0,"gpp_sid":"7"}"#, Some("signal_unreadable")),
        (r#","regs":{"gdpr":0,"gpp":7}"#, Some("signal_unreadable")),
        (r#","device":{"lmt":[]}"#, Some("signal_unreadable")),
        // What is no country might stand for one with a law.
        (r#","device":{"geo":{"country":"EU"}}"#, Some("string_missing")),
        (r#","device":{"geo":{"country":"UK"}}"#, Some("string_missing")),
        (r#","device":{"geo":{"country":"deu"}}"#, Some("string_missing")),
        (r#","device":{"geo":{"country":"ZZ"}}"#, Some("signal_unreadable")),
        (r#","device":{"geo":{"country":"ZZZ"}}"#, Some("signal_unreadable")),
        (r#","device":{"geo":{"country":276}}"#, Some("signal_unreadable")),
        (r#","device":{"geo":{"country":"JPN","region":13}}"#, Some("signal_unreadable")),
        (r#","device":{"geo":{"country":""}}"#, Some("unknown_law")),
        (r#","device":{"geo":{"country":null}}"#, Some("unknown_law")),
        (r#","device":{"geo":{"country":"JP"}}"#, None),
    ] {
        let request = format!("{{{user}{rest}}}");
        let (outcome, out) = enrich(&mut enricher, &request);
        match reason {
            Some(reason) => assert_eq!((outcome, &out), (Enrichment::Refused(reason), &request), "{request}"),
            None => assert_eq!((outcome, out.contains(DATA)), (Enrichment::Enriched, true), "{request}"),
        }
    }
}

#[test]
fn a_tc_string_permits_what_it_says() {
    let vectors = include_str!("../../privacy/consent/vectors/tcf.jsonl").lines();
    let vectors = vectors.map(|line| serde_json::from_str::<Value>(line).unwrap());
    let has = |it: &Value, list: &str, number: u64| it[list].as_array().unwrap().contains(&json!(number));
    let mut seen = [0, 0];
    for it in vectors.filter(|it| it["policy_version"] == 4 && it["is_service_specific"] == true) {
        for vendor in [7, 8, 9] {
            let expected = has(&it, "vendor_consents", vendor) && has(&it, "purpose_consents", 4);
            seen[usize::from(expected)] += 1;
            let mut enricher = enricher(&RULES.replace('7', &vendor.to_string()));
            for (consent, regs) in [("consent", "gdpr"), ("ext", "ext")] {
                let text = it["tc_string"].as_str().unwrap();
                let nested = |name: &str, inner: &str, value: Value| match name {
                    "ext" => json!({ inner: value }),
                    _ => value,
                };
                let mut request = json!({ "user": { "buyeruid": "ann" }, "regs": {} });
                request["user"][consent] = nested(consent, "consent", json!(text));
                request["regs"][regs] = nested(regs, "gdpr", json!(1));
                let (outcome, _) = enrich(&mut enricher, &request.to_string());
                assert_eq!(outcome == Enrichment::Enriched, expected, "{vendor} {it}: {outcome:?}");
            }
        }
    }
    assert!(seen[0] > 10 && seen[1] > 3, "{seen:?}");
}

#[test]
fn what_is_no_bid_request_is_refused_with_its_place() {
    let mut enricher = enricher(RULES);
    let mut place = |request: &str| {
        let mut out = Vec::new();
        let error = enricher.enrich(&store(), request, NOW, &mut out).unwrap_err();
        assert!(out.is_empty());
        error.to_string()
    };
    assert_eq!(place("[]"), "line 1, column 1: expected an object");
    assert_eq!(place("{\"id\":\"1\",}"), "line 1, column 11: no JSON");
    assert_eq!(place("{\n\"user\": 5}"), "line 2, column 9: expected an object");
    assert_eq!(place(r#"{"user":{"data":{}}}"#), "line 1, column 17: expected a list");
    assert_eq!(place(r#"{"user":{},"user":{}}"#), "line 1, column 12: this member is there twice");
    assert_eq!(place(r#"{"regs":{"ext":1}}"#), "line 1, column 16: expected an object");
}

/// JSON as people and programs write it: with blanks, escapes, and numbers that no float holds.
fn any_json() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "null",
        "true",
        "1",
        "-0",
        "0.10",
        "12345678901234567890123",
        "1.5E+400",
        "\"\"",
        "\"}],{\\\"\"",
        "\"\\u00e9\\/\\ud83d\\ude00\"",
        "\"é😀\"",
        "{}",
        "[]",
        "[ ]",
    ]);
    let blank = prop::sample::select(vec!["", "", " ", "\n\t"]);
    leaf.prop_map(str::to_owned).prop_recursive(4, 24, 4, move |inner| {
        let items = prop::collection::vec((inner, blank.clone()), 0..4);
        (items, any::<bool>(), blank.clone()).prop_map(|(items, is_list, end)| {
            let item = |(index, (value, blank)): (usize, &(String, &str))| {
                let name = if is_list { String::new() } else { format!("\"k\\u0041{index}\"{blank}:") };
                format!("{blank}{name}{value}{blank}")
            };
            let items: Vec<String> = items.iter().enumerate().map(item).collect();
            let [open, close] = if is_list { ["[", "]"] } else { ["{", "}"] };
            format!("{open}{end}{}{end}{close}", items.join(","))
        })
    })
}

/// Members of any names but those that are read.
fn members() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(any_json(), 0..4)
        .prop_map(|all| all.iter().enumerate().map(|(index, value)| format!("\"x{index}\" :{value}")).collect())
}

#[test]
fn objects_of_the_same_provider_are_replaced() {
    let mut enricher = enricher("enabled = false");
    let (ours, other) = (r#"{"name" : "shop.\u0065xample","segment":[]}"#, r#"{"name":"shop.example","id":"2"}"#);
    let request = |data: &str| format!(r#"{{"user":{{"buyeruid":"ann","data":[{data}]}},"x":1}}"#);
    for (before, after) in [
        (ours.to_owned(), DATA.to_owned()),
        (format!(" {ours} , {ours} "), format!("  {DATA}")),
        (format!("{ours}, {other}"), format!("{other},{DATA}")),
        (format!("{other} ,\t{ours}"), format!("{other} ,{DATA}")),
        (format!("{other},{ours} ,{ours},{other},{ours} ,{ours}\n"), format!("{other},{other}\n,{DATA}")),
        (format!("1,{ours},[]"), format!("1,[],{DATA}")),
        (DATA.to_owned(), DATA.to_owned()),
    ] {
        let (outcome, out) = enrich(&mut enricher, &request(&before));
        assert_eq!((outcome, out), (Enrichment::Enriched, request(&after)), "{before}");
    }
    // What was said of a user of whom nothing is known any more does not stay.
    for (before, after) in [
        (ours.to_owned(), String::new()),
        (format!("{other} , {ours}"), format!("{other} ")),
        (format!("{ours},{other}"), other.to_owned()),
        (other.to_owned(), other.to_owned()),
    ] {
        let [before, after] = [before, after].map(|data| request(&data).replace("ann", "eve"));
        assert_eq!(enrich(&mut enricher, &before), (Enrichment::Unknown, after), "{before}");
    }
    let nobody = request(ours).replace("buyeruid", "other");
    assert_eq!(enrich(&mut enricher, &nobody), (Enrichment::NoId, nobody));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn everything_else_keeps_every_byte(
        (root, of_user, of_data) in (members(), members(), prop::option::of(prop::collection::vec(any_json(), 0..3))),
        (at, data_at) in (0_usize..5, 0_usize..5),
    ) {
        let mut user = of_user;
        user.push("\"buyeruid\": \"\\u0061nn\"".to_owned());
        if let Some(items) = &of_data {
            user.insert(data_at.min(user.len()), format!("\"data\":[{}]", items.join(" ,")));
        }
        let mut all = root;
        all.insert(at.min(all.len()), format!("\"user\" : {{{}}}", user.join(",\n")));
        let request = format!("{{{}}}", all.join(" , "));
        let (outcome, out) = enrich(&mut enricher("enabled = false"), &request);
        prop_assert_eq!(outcome, Enrichment::Enriched);

        // What is new stands in one place.
        let same = request.bytes().zip(out.bytes()).take_while(|(a, b)| a == b).count();
        let same_behind = request.bytes().rev().zip(out.bytes().rev()).take_while(|(a, b)| a == b).count();
        prop_assert!(same + same_behind >= request.len(), "{}\n{}", request, out);
        prop_assert_eq!(out.matches(DATA).count(), 1);

        // Twice is as good as once.
        prop_assert_eq!(enrich(&mut enricher("enabled = false"), &out), (Enrichment::Enriched, out.clone()));

        // A reader finds the new object behind the others.
        let with_text_numbers = |text: &str| serde_json::from_str::<Value>(&text.replace("E+400", "E+40")).unwrap();
        let mut after = with_text_numbers(&out);
        let data = after["user"]["data"].as_array_mut().unwrap();
        prop_assert_eq!(data.pop(), serde_json::from_str(DATA).ok());
        if of_data.is_none() {
            prop_assert!(data.is_empty());
            after["user"].as_object_mut().unwrap().remove("data");
        }
        prop_assert_eq!(after, with_text_numbers(&request));
    }

    #[test]
    fn no_request_panics_and_a_part_of_one_is_refused(
        request in any_json(), cut in any::<prop::sample::Index>(),
    ) {
        let mut out = Vec::new();
        let mut enricher = enricher(RULES);
        let store = Store::default();
        if let Ok(outcome) = enricher.enrich(&store, &request, NOW, &mut out) {
            prop_assert!(matches!(outcome, Enrichment::NoId | Enrichment::Refused(_)), "{:?}", outcome);
            prop_assert_eq!(out, request.as_bytes());
        }
        let request = format!("{{\"user\":{request},\"device\":{{}}}}");
        let cut = cut.index(request.len());
        if request.is_char_boundary(cut) {
            prop_assert!(enricher.enrich(&store, &request[..cut], NOW, &mut Vec::new()).is_err());
        }
    }
}
