//! Odd numbers, times and bytes.

use super::*;

#[test]
fn numeric_ids_keep_every_digit_and_a_whole_number_is_one_id() {
    let sections = "[[field]]\nname = \"own\"\ntype = \"string\"\npath = \"properties.own\"";
    let mut rig = Rig::new(sections);
    for (number, id) in [
        ("18446744073709551617", "18446744073709551617"),
        ("18446744073709551618", "18446744073709551618"),
        ("340282366920938463463374607431768211456", "340282366920938463463374607431768211456"),
        ("-18446744073709551617", "-18446744073709551617"),
        ("1234567890.1234567890", "1234567890.1234567890"),
        ("1234567890.1234567891", "1234567890.1234567891"),
        ("12345", "12345"),
        ("12345.0", "12345"),
        ("1.2345e4", "12345"),
        ("\"12345\"", "12345"),
        ("\"12345.0\"", "12345.0"),
        ("-0", "0"),
        ("1e400", "1e400"),
        ("[12345.0, 7]", "12345"),
    ] {
        let payload = event(&format!(
            r#""user_id":{number},"event_id":{number},"session_id":{number},"properties":{{"own":{number}}}"#
        ));
        assert_eq!(rig.decode(payload.as_bytes()), Ok(1), "{number}");
        for name in ["the user", "event_id", "session_id", "own"] {
            assert_eq!(rig.show(name), id, "{name} of {number}");
        }
    }
    let ga4 = r#"{"event_name":"a","event_timestamp":1767225600097000,"user_pseudo_id":1234567890.1234567890,
        "event_params":[{"key":"ga_session_id","value":{"int_value":18446744073709551617}}]}"#;
    let mut rig = Rig::new("[input]\npreset = \"ga4\"");
    assert_eq!(rig.decode(ga4.as_bytes()), Ok(1));
    assert_eq!(
        (rig.show("anonymous_id"), rig.show("session_id")),
        ("1234567890.1234567890".into(), "18446744073709551617".into())
    );
}

#[test]
fn blanks_and_truth_values_are_no_ids() {
    let mut rig = Rig::new("");
    let payload = |ids: &str| format!(r#"{{{ids},"event_type":"view","occurred_at":1767225600}}"#);
    for blank in [r#"" ""#, r#""\t\n""#, "\"\u{a0}\"", r#""""#, "null", "[]"] {
        let rejection = rig.decode(payload(&format!(r#""user_id":{blank}"#)).as_bytes()).unwrap_err();
        assert_eq!(rejection.reason, RejectReason::MissingUser, "{blank}: {rejection}");
        let both = payload(&format!(r#""user_id":{blank},"anonymous_id":"d","event_id":{blank}"#));
        assert_eq!(rig.decode(both.as_bytes()), Ok(1), "{blank}");
        assert_eq!((rig.show("the key"), rig.show("event_id")), ("device:d".to_owned(), "-".to_owned()), "{blank}");
    }
    for truth in ["true", "false", "[true]"] {
        for name in ["user_id", "anonymous_id", "event_id"] {
            let payload = payload(&format!(r#""user_id":"u","{name}":{truth}"#));
            let rejection = rig.decode(payload.as_bytes()).unwrap_err();
            assert!(rejection.to_string().starts_with(&format!("wrong_type: {name}: expected an id")), "{rejection}");
        }
    }
    assert_eq!(rig.decode(payload(r#""user_id":" u ","session_id":true"#).as_bytes()), Ok(1));
    assert_eq!((rig.show("the key"), rig.show("session_id")), (" u ".to_owned(), "true".to_owned()));
    let mut rig = Rig::new("[input]\nformat = \"protobuf\"");
    let event = v1::Event { event_type: "a".into(), user_id: " ".into(), occurred_at: MICROS, ..v1::Event::default() };
    assert_eq!(rig.decode(&event.encode_to_vec()).unwrap_err().reason, RejectReason::MissingUser);
}

/// GA4's dateHour used to be read as the year 2034, and a number with one digit too many as 2531.
#[test]
fn a_number_whose_unit_is_guessed_is_no_time_after_2100_and_no_date_with_an_hour() {
    let at = |unit: &str| format!("[input.fields]\noccurred_at = {{ path = \"at\", unit = \"{unit}\" }}");
    let payload = |time: &str| format!(r#"{{"user_id":"u","event_type":"a","at":{time}}}"#);
    for (time, detail) in [
        ("2026030110", "a date with its hour"),
        ("\"2026030110\"", "a date with its hour"),
        ("2026030110.0", "a date with its hour"),
        ("17723592001234", "after 2100"),
        ("\"17723592001234\"", "after 2100"),
        ("20260301246060", "after 2100"),
        ("\"20260301246060\"", "after 2100"),
        ("1.77e13", "after 2100"),
    ] {
        let rejection = Rig::new(&at("auto")).decode(payload(time).as_bytes()).unwrap_err();
        assert_eq!(rejection.reason, RejectReason::TimeRange, "{time}: {rejection}");
        assert!(rejection.detail.contains(detail), "{time}: {rejection}");
        // A time known from the record rejects it in any case.
        let mut rig = Rig::new(&at("auto"));
        let text = payload(time);
        let record = Record { timestamp_ms: Some(MICROS / 1_000), payload: Some(text.as_bytes()), ..Record::default() };
        let rejection = rig.decoder.decode(&record, &mut rig.batch).unwrap_err();
        assert_eq!(rejection.reason, RejectReason::FutureTime, "{time}: {rejection}");
    }
    for (unit, time, micros) in [
        ("s", "2026030110", "2026030110000000"),
        ("ms", "17723592001234", "17723592001234000"),
        ("auto", "\"2612-01-01T00:00:00Z\"", "20259504000000000"),
        ("auto", "4102444800", "4102444800000000"),
        // There is no such hour, so these are seconds.
        ("auto", "2026030124", "2026030124000000"),
    ] {
        let mut rig = Rig::new(&at(unit));
        assert_eq!(rig.decode(payload(time).as_bytes()), Ok(1), "{time} {unit}");
        assert_eq!(rig.show("the time"), micros, "{time} {unit}");
    }
    // In 2034 this may well be seconds.
    let mut rig = Rig::new(&at("auto"));
    let text = payload("2026030110");
    let record = Record { timestamp_ms: Some(2_026_030_110_500), payload: Some(text.as_bytes()), ..Record::default() };
    assert_eq!(rig.decoder.decode(&record, &mut rig.batch).map(|decoded| decoded.rows), Ok(1));
}

#[test]
fn what_no_path_leads_to_and_what_is_less_preferred_refuses_no_event() {
    let segment = |more: &str| {
        format!(
            r#"{{"messageId":"m","type":"track","event":"E","userId":"u","timestamp":"2026-01-01T00:00:00.097Z",{more}}}"#
        )
    };
    let mut rig = Rig::new("[input]\npreset = \"segment\"");
    for more in [
        r#""originalTimestamp":"\ud800""#,
        r#""originalTimestamp":"x:bad""#,
        r#""properties":{"products":1e400}"#,
        r#""properties":{"products":[1e400]}"#,
        r#""properties":{"products":"\ud800"}"#,
        r#""properties":1e400"#,
        r#""properties":"a\ud800""#,
        r#""\ud800":1"#,
        r#""x":{"\ud800":1e400}"#,
        r#""properties":{"\udc00":1,"revenue":1}"#,
    ] {
        for payload in [segment(more), format!("{{{more},{}", &segment("\"z\":1")[1..])] {
            // It is different if expressions read the member.
            if rig.decode(payload.as_bytes()).is_err_and(|rejection| rejection.detail.contains("an object around it")) {
                continue;
            }
            assert_eq!(rig.decode(payload.as_bytes()), Ok(1), "{payload}");
            assert_eq!((rig.show("the user"), rig.show("the time")), ("u".to_owned(), MICROS.to_string()), "{payload}");
        }
    }
    // The preferred member itself is not valid text.
    for order in [
        r#""originalTimestamp":"2026-01-01","timestamp":"\ud800""#,
        r#""timestamp":"\ud800","originalTimestamp":"2026-01-01""#,
    ] {
        let payload = format!(r#"{{"messageId":"m","type":"track","event":"E","userId":"u",{order}}}"#);
        let rejection = rig.decode(payload.as_bytes()).unwrap_err();
        assert!(rejection.detail.contains("surrogate"), "{payload}: {rejection}");
    }
    // The slow path reads the same values as the fast one.
    let plain = event(r#""session_id":"a\"b","properties":"{\"own\":1}","items":[{"id":"i"}],"value":[2]"#);
    let slow = format!(r#"{},"\ud800":0}}"#, plain.strip_suffix('}').unwrap());
    let shown = |payload: &str| {
        let mut rig = Rig::new("[[field]]\nname = \"own\"\ntype = \"int\"\npath = \"properties.own\"");
        assert_eq!(rig.decode(payload.as_bytes()), Ok(1), "{payload}");
        ["the user", "the time", "session_id", "own", "item.id", "value", "event_type"].map(|name| rig.show(name))
    };
    assert_eq!(shown(&slow), shown(&plain));
    // GA4's pairs, and the events of a batch.
    let mut rig = Rig::new("[input]\npreset = \"ga4\"");
    let ga4 = r#"{"event_name":"a","event_timestamp":1767225600097000,"user_pseudo_id":"p","event_params":[
        {"key":"\ud800","value":{"int_value":1}},{"\ud800":1,"key":"x"},null,{"key":"y","value":1e400},
        {"key":"ga_session_id","value":{"int_value":7,"\udc00":1}}]}"#;
    assert_eq!(rig.decode(ga4.as_bytes()), Ok(1));
    assert_eq!(rig.show("session_id"), "7");
    let mut rig = Rig::new("[input]\nunpack = \"batch\"");
    let batch = format!(r#"{{"batch":[{},{slow},{}]}}"#, event(""), event(r#""x":1e400"#));
    assert_eq!(rig.decode(batch.as_bytes()), Ok(3));
    let twice = format!(r#"{{"batch":[{}],"batch":[]}}"#, event(""));
    assert!(rig.decode(twice.as_bytes()).unwrap_err().detail.contains("twice"));
    assert_eq!(rig.batch.len(), 3);
    // Broken JSON stays broken.
    for payload in [slow.replace(":0}", ":0,}"), slow[..slow.len() - 1].to_owned(), format!("{slow} x")] {
        assert_eq!(rig.decode(payload.as_bytes()).unwrap_err().reason, RejectReason::Malformed, "{payload}");
    }
    assert_eq!(rig.batch.len(), 3);
}

#[test]
fn keys_of_two_types_are_two_users() {
    let payload = |ids: &str| format!(r#"{{{ids},"event_type":"view","occurred_at":1767225600}}"#);
    let cases = [
        (r#""user_id":"5""#, "5", "person"),
        (r#""anonymous_id":"5""#, "device:5", "device"),
        (r#""anonymous_id":"5","key_type":"app""#, "app:5", "app"),
        (r#""key_type":"KEY_TYPE_DEVICE","user_id":5"#, "device:5", "device"),
        (r#""keyType":2,"user_id":5.0"#, "app:5", "app"),
        (r#""key_type":"KEY_TYPE_UNSPECIFIED","anonymous_id":"5""#, "device:5", "device"),
        (r#""key_type":0,"user_id":"5""#, "5", "person"),
        (r#""key_type":null,"user_id":"5""#, "5", "person"),
        (r#""user_id":"device:5""#, "person:device:5", "person"),
    ];
    let mut rig = Rig::new("");
    for (ids, key, ty) in cases {
        assert_eq!(rig.decode(payload(ids).as_bytes()), Ok(1), "{ids}");
        assert_eq!((rig.show("the key"), rig.show("key_type")), (key.to_owned(), ty.to_owned()), "{ids}");
    }
    let hashes: std::collections::HashSet<u64> = rig.batch.user_hashes.iter().copied().collect();
    assert_eq!(hashes.len(), 4, "a person, a device, an app, and one with an odd name");
    for wrong in [r#""household""#, "9", "-1", "true", "1.5", "{}"] {
        let rejection = rig.decode(payload(&format!(r#""user_id":"5","key_type":{wrong}"#)).as_bytes()).unwrap_err();
        assert!(rejection.to_string().starts_with("wrong_type: key_type: expected"), "{wrong}: {rejection}");
    }
    let mut rig = Rig::new("[input]\nkey_types = \"joined\"");
    for (ids, key) in
        [(r#""user_id":"5""#, "5"), (r#""anonymous_id":"5""#, "5"), (r#""anonymous_id":"app:5""#, "person:app:5")]
    {
        assert_eq!(rig.decode(payload(ids).as_bytes()), Ok(1), "{ids}");
        assert_eq!(rig.show("the key"), key, "{ids}");
    }
    // The same for Protobuf.
    let mut rig = Rig::new("[input]\nformat = \"protobuf\"");
    for (key_type, key) in [(0, "device:5"), (1, "device:5"), (2, "app:5"), (3, "5")] {
        let event = v1::Event {
            event_type: "a".to_owned(),
            anonymous_id: "5".to_owned(),
            occurred_at: MICROS,
            key_type,
            ..v1::Event::default()
        };
        assert_eq!(rig.decode(&event.encode_to_vec()), Ok(1), "{key_type}");
        assert_eq!(rig.show("the key"), key, "{key_type}");
    }
    let event = v1::Event {
        event_type: "a".into(),
        user_id: "5".into(),
        occurred_at: MICROS,
        key_type: 9,
        ..v1::Event::default()
    };
    assert_eq!(rig.decode(&event.encode_to_vec()).unwrap_err().reason, RejectReason::WrongType);
}

#[test]
fn a_time_before_the_limit_is_refused_with_the_unit_that_was_meant() {
    let at = |unit: &str| format!("[input.fields]\noccurred_at = {{ path = \"at\", unit = \"{unit}\" }}");
    for (sections, time, detail) in [
        (at("ms"), "1767225600", "In seconds it would be plausible: is unit = \"s\" meant?"),
        (at("us"), "1767225600", "unit = \"s\""),
        (at("us"), "\"1767225600097\"", "unit = \"ms\""),
        (at("s"), "1767225600097", "unit = \"ms\""),
        (at("s"), "1767225600097000", "unit = \"us\""),
        (at("ms"), "1767225600097000000", "unit = \"ns\""),
        (at("us"), "1767225600097000000", "unit = \"ns\""),
        (at("ns"), "1767225600097", "unit = \"ms\""),
        (at("s"), "20260301", "As a date"),
        (at("us"), "\"20260301\"", "As a date"),
        (at("auto"), "1", "before time.past_limit = \"1990-01-01\""),
        (at("auto"), "\"1970-01-01T00:00:01Z\"", "before time.past_limit = \"1990-01-01\""),
        (at("auto"), "-5", "before time.past_limit"),
        (at("auto"), "0", "before time.past_limit"),
        (at("auto"), "1e400", "after 9999"),
        (at("auto"), "-1e400", "before time.past_limit"),
        (
            format!("{}\n[time]\npast_limit = \"2026-01-02T00:00:00Z\"", at("auto")),
            "1767225600",
            "past_limit = \"2026-01-02\"",
        ),
    ] {
        let mut rig = Rig::new(&sections);
        let payload = format!(r#"{{"user_id":"u","event_type":"a","at":{time}}}"#);
        let rejection = rig.decode(payload.as_bytes()).unwrap_err();
        assert_eq!(rejection.reason, RejectReason::TimeRange, "{time} {sections}: {rejection}");
        assert!(rejection.detail.contains(detail), "{time} {sections}: {rejection}");
    }
    for (sections, time, micros) in [
        (at("auto"), "20260301", "1772323200000000"),
        (at("auto"), "20260301.0", "1772323200000000"),
        (at("auto"), "\"20260301\"", "1772323200000000"),
        (at("auto"), "20260301101500", "1772360100000000"),
        (at("ns"), "1767225600097000123", "1767225600097000"),
        (at("auto"), "1767225600097000123", "1767225600097000"),
        (at("s"), "\"2026-03-01T01:00:00[Europe/Berlin]\"", "1772323200000000"),
        (at("auto"), "\"2026-01-01 00:00:00.097 UTC\"", "1767225600097000"),
        (at("auto"), "\"2026-01-01 00:00:00.097 +0000\"", "1767225600097000"),
        (at("auto"), "631152000", "631152000000000"),
        (format!("{}\n[time]\npast_limit = \"1970-01-01\"", at("s")), "0", "0"),
        (format!("{}\n[time]\npast_limit = \"1900-01-01\"", at("auto")), "\"1969-07-20T20:17:40Z\"", "-14182940000000"),
    ] {
        let mut rig = Rig::new(&sections);
        let payload = format!(r#"{{"user_id":"u","event_type":"a","at":{time}}}"#);
        assert_eq!(rig.decode(payload.as_bytes()), Ok(1), "{time} {sections}");
        assert_eq!(rig.show("the time"), micros, "{time} {sections}");
    }
    let reason = |text: &str| {
        let payload = format!(r#"{{"user_id":"u","event_type":"a","occurred_at":"{text}"}}"#);
        Rig::new("").decode(payload.as_bytes()).unwrap_err().to_string()
    };
    assert!(reason("2026-W09-7").contains("week dates"));
    assert!(reason("2026-01-01T24:00:00Z").contains("next day"));
    assert!(reason("2026-01-01T10:00:00 PST").contains("zone"));
    for date in ["1970-01-01", "\"1970-01-01\"", "1970-01-01T00:00:00Z", "\"1970-01-01 00:00:00\""] {
        let Sections { time, .. } = toml::from_str(&format!("[time]\npast_limit = {date}")).unwrap();
        assert_eq!(time.past_limit.0, 0, "{date}");
    }
    assert!(toml::from_str::<Sections>("[time]\npast_limit = 1970").is_err());
    assert!(
        toml::from_str::<Sections>("[time]\npast_limit = \"soon\"")
            .is_err_and(|error| error.to_string().contains("1990-01-01"))
    );
}

#[test]
fn a_number_out_of_range_is_told_as_such() {
    let mut rig = Rig::new("");
    for number in ["1e400", "-1e400", "\"1e400\""] {
        let rejection = rig.decode(event(&format!(r#""value":{number}"#)).as_bytes()).unwrap_err();
        assert_eq!(rejection.reason, RejectReason::WrongType);
        assert!(
            rejection.detail.contains("value: expected a number") && rejection.detail.contains("out of range"),
            "{rejection}"
        );
        // A member that nothing reads does no harm.
        assert_eq!(rig.decode(event(&format!(r#""unread":{number}"#)).as_bytes()), Ok(1), "{number}");
    }
    assert_eq!(rig.decode(event(r#""value":1e-400"#).as_bytes()), Ok(1));
    assert_eq!(rig.show("value"), "0.0");
    // Other systems write the smallest integer for a missing value.
    for number in ["-9223372036854775808", "\"-9223372036854775808\""] {
        assert_eq!(rig.decode(event(&format!(r#""dwell_ms":{number}"#)).as_bytes()), Ok(1), "{number}");
        assert_eq!(rig.show("dwell_ms"), "-");
    }
    assert_eq!(rig.decode(event(r#""dwell_ms":-9223372036854775807"#).as_bytes()), Ok(1));
    assert_eq!(rig.show("dwell_ms"), "-9223372036854775807");
    assert_eq!(rig.decode(event(r#""dwell_ms":7e1"#).as_bytes()), Ok(1));
    assert_eq!(rig.show("dwell_ms"), "70");
}

#[test]
fn a_byte_order_mark_is_passed_over_and_other_encodings_are_named() {
    let mut rig = Rig::new("");
    let plain = event("");
    assert_eq!(rig.decode(format!("\u{feff}{plain}").as_bytes()), Ok(1));
    assert_eq!(rig.decode(format!("\u{feff}{plain}\r\n").as_bytes()), Ok(1));
    let utf_16 =
        |mark: &[u8], unit: fn(u16) -> [u8; 2]| [mark.to_vec(), plain.encode_utf16().flat_map(unit).collect()].concat();
    for (payload, detail) in [
        (utf_16(b"\xff\xfe", u16::to_le_bytes), "UTF-16"),
        (utf_16(b"\xfe\xff", u16::to_be_bytes), "UTF-16"),
        (utf_16(b"", u16::to_le_bytes), "UTF-16"),
        (utf_16(b"", u16::to_be_bytes), "UTF-16"),
        (b"\x1f\x8b\x08\0\0".to_vec(), "gzip"),
        (b"\x28\xb5\x2f\xfd\x04".to_vec(), "zstd"),
        ([b"\0\0\0\0\x07", plain.as_bytes()].concat(), "schema registry"),
    ] {
        for sections in ["", LOG] {
            let rejection = Rig::new(sections).decode(&payload).unwrap_err();
            assert_eq!(rejection.reason, RejectReason::Malformed);
            assert!(rejection.detail.contains(detail), "{rejection}");
        }
    }
    let unpacked = format!("\u{feff}{{\"batch\":[{plain},{plain}]}}");
    assert_eq!(Rig::new("[input]\nunpack = \"batch\"").decode(unpacked.as_bytes()), Ok(2));
}

#[test]
fn what_is_no_json_is_told_with_its_place_and_its_reason() {
    let mut rig = Rig::new("");
    let with = |more: &str| format!("{{\"event_type\":\"view\",\"user_id\":\"u\",\n \"occurred_at\":{MICROS},{more}}}");
    for (payload, detail) in [
        (with(r#""value":NaN"#), "not JSON from line 2, column 41 on: NaN and Infinity"),
        (with(r#""value":-Infinity"#), "NaN and Infinity"),
        (with(r#""x":[1,NaN]"#), "NaN and Infinity"),
        (with(r#""value":1,"#), "a comma before a closing bracket"),
        (with(r#""x":[1,]"#), "a comma before a closing bracket"),
        (with(r"'value':1"), "a single quote"),
        (with(r#""value":01"#), "a leading zero"),
        (with(r#""value":+1"#), "a plus sign"),
        (with(r#""value":None"#), "a word that JSON does not have"),
        (with(r#""value":1 // one"#), "a comment"),
        (with("\"x\":\"a\nb\""), "a line break"),
        (with("\"x\":\"a\\qb\""), "an escape"),
        (format!("{}\0\0", event("")), "a NUL byte"),
        (with("\"x\":\"a\0\""), "a NUL byte"),
        (format!("{}{}", event(""), event("")), "a record is one object"),
        (event("")[..40].to_owned(), "cut off"),
        (event("\"x\":[1,2")[..event("\"x\":[1,2").len() - 1].to_owned(), "cut off"),
        (r#"{"user_id":"u"#.to_owned(), "a string without its end"),
        ("user=u&type=view".to_owned(), "not JSON from line 1, column 1 on"),
    ] {
        let rejection = rig.decode(payload.as_bytes()).unwrap_err();
        assert_eq!(rejection.reason, RejectReason::Malformed, "{payload}: {rejection}");
        assert!(rejection.detail.starts_with("not JSON from line"), "{payload}: {rejection}");
        assert!(rejection.detail.contains(detail), "{payload}: {rejection}");
    }
    // An unpaired surrogate is an error only in a member that is read.
    assert_eq!(rig.decode(event(r#""unread":"\ud800""#).as_bytes()), Ok(1));
    assert!(rig.decode(event(r#""session_id":"a\udc00""#).as_bytes()).unwrap_err().detail.contains("surrogate"));
    assert_eq!(rig.decode(event(r#""session_id":"\u0000\u001b""#).as_bytes()), Ok(1), "escaped they are text");
}

#[test]
fn snowplows_word_on_robots_is_read_in_either_spelling_and_out_of_a_tables_cell() {
    for (context, bot) in [
        (r#""contexts_com_iab_snowplow_spiders_and_robots_1":[{"spiderOrRobot":true,"category":"SPIDER"}]"#, "true"),
        (r#""contexts_com_iab_snowplow_spiders_and_robots_1":[{"spider_or_robot":true}]"#, "true"),
        (r#""contexts_com_iab_snowplow_spiders_and_robots_1_0_0":[{"spider_or_robot":false}]"#, "false"),
        (r#""contexts_com_iab_snowplow_spiders_and_robots_1_0_0":{"spiderOrRobot":"true"}"#, "true"),
        (
            r#""contexts_com_iab_snowplow_spiders_and_robots_1_0_0":"[{\"reason\":\"PASSED_ALL\",\"spiderOrRobot\":true}]""#,
            "true",
        ),
        (r#""contexts_com_iab_snowplow_spiders_and_robots_1_0_0":"""#, "-"),
        (r#""contexts_com_iab_snowplow_spiders_and_robots_1_0_0":null"#, "-"),
        (r#""contexts_com_iab_snowplow_spiders_and_robots_1_0_0":[]"#, "-"),
    ] {
        let mut rig = Rig::new("[input]\npreset = \"snowplow\"");
        let payload = format!(
            r#"{{"event_id":"e","event_name":"page_view","derived_tstamp":"2026-01-01 00:00:00.097 UTC","domain_userid":"d",{context}}}"#
        );
        assert_eq!(rig.decode(payload.as_bytes()), Ok(1), "{context}");
        assert_eq!((rig.show("bot"), rig.show("the user")), (bot.to_owned(), "d".to_owned()), "{context}");
        assert_eq!(rig.show("the time"), MICROS.to_string());
    }
    // A text that contains no object is rejected where an object is expected, and so is one that nests too deep.
    let mut rig = Rig::new("[input]\npreset = \"snowplow\"");
    for cell in
        ["\"no JSON\"".to_owned(), r#""[{\"spiderOrRobot\":""#.to_owned(), format!("\"{}\"", "[".repeat(100_000))]
    {
        let payload = format!(
            r#"{{"event_name":"a","derived_tstamp":"2026-01-01","domain_userid":"d","contexts_com_iab_snowplow_spiders_and_robots_1":{cell}}}"#
        );
        let rejection = rig.decode(payload.as_bytes()).unwrap_err();
        assert!(rejection.to_string().starts_with("wrong_type: bot: expected an object"), "{rejection}");
    }
}
