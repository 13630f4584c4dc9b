//! Events in Protobuf.

use super::*;

/// An event with every canonical field, as Protobuf and as JSON.
pub(super) fn full() -> (v1::Event, String) {
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
