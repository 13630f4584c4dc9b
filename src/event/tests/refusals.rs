//! Records that are refused, and what is left of the batch.

use super::*;

#[test]
fn a_bad_record_is_refused_with_its_reason_and_leaves_the_batch_as_it_was() {
    use RejectReason::{
        FutureTime, Malformed, MissingTime, MissingType, MissingUser, NullPayload, TimeRange, TooLarge, WrongType,
    };
    let deep = event(&format!(r#""items":{}{}"#, "[".repeat(100_000), "]".repeat(100_000)));
    let long_key = event(&format!(r#""user_id":"{}""#, "k".repeat(1025)));
    let long_id =
        format!(r#"{{"event_id":"{}","event_type":"view","user_id":"u","occurred_at":1767225601}}"#, "i".repeat(1_025));
    let large = event(&format!(r#""x":"{}""#, "x".repeat(300_000)));
    let future = format!(r#"{{"event_type":"view","user_id":"u","occurred_at":{}}}"#, MICROS + 3_600_000_001);
    let table: &[(&str, RejectReason, &str)] = &[
        ("", Malformed, "not JSON"),
        ("   ", Malformed, "not JSON"),
        ("{", Malformed, "not JSON"),
        ("nonsense", Malformed, "not JSON"),
        ("null", Malformed, "not an object"),
        ("7", Malformed, "not an object"),
        ("true", Malformed, "not an object"),
        ("\"text\"", Malformed, "not an object"),
        ("[]", Malformed, "not an object"),
        (
            r#"[{"event_type":"view","user_id":"u","occurred_at":1767225601},{"event_type":"view","user_id":"u","occurred_at":1767225602}]"#,
            Malformed,
            "not an object",
        ),
        (r#"{"event_type":"view","user_id":"u","occurred_at":1767225601} x"#, Malformed, "not JSON"),
        (r#"{"event_type":"view","user_id":"u","occurred_at":1767225601}{}"#, Malformed, "not JSON"),
        (r#"{"event_type":"view","user_id":"u","occurred_at":1767225601,}"#, Malformed, "not JSON"),
        (r#"{"event_type":"view","user_id":"u","occurred_at":1"#, Malformed, "not JSON"),
        (r#"{"event_type":"view","user_id":"u","occurred_at":NaN}"#, Malformed, "not JSON"),
        (r#"{"event_type":"view","user_id":"\ud800","occurred_at":1767225601}"#, WrongType, "half of a surrogate pair"),
        (r#"{"event_type":"view","user_id":"u","occurred_at":1767225601,"x":[1,}"#, Malformed, "not JSON"),
        (&deep, Malformed, "nested"),
        (
            r#"{"event_type":"view","user_id":"u","occurred_at":1767225601,"value":"much"}"#,
            WrongType,
            "value: expected a number",
        ),
        (
            r#"{"event_type":"view","user_id":"u","occurred_at":1767225601,"value":true}"#,
            WrongType,
            "value: expected a number",
        ),
        (
            r#"{"event_type":"view","user_id":"u","occurred_at":1767225601,"value":{"a":1}}"#,
            WrongType,
            "value: expected a number",
        ),
        (
            r#"{"event_type":"view","user_id":"u","occurred_at":1767225601,"value":{}}"#,
            WrongType,
            "value: expected a number",
        ),
        (
            r#"{"event_type":"view","user_id":"u","occurred_at":1767225601,"dwell_ms":1.5}"#,
            WrongType,
            "dwell_ms: expected a whole number",
        ),
        (
            r#"{"event_type":"view","user_id":"u","occurred_at":1767225601,"dwell_ms":18446744073709551615}"#,
            WrongType,
            "dwell_ms: expected a whole number",
        ),
        (
            r#"{"event_type":"view","user_id":"u","occurred_at":1767225601,"bot":"perhaps"}"#,
            WrongType,
            "bot: expected true or false",
        ),
        (
            r#"{"event_type":"view","user_id":"u","occurred_at":1767225601,"bot":2}"#,
            WrongType,
            "bot: expected true or false",
        ),
        (r#"{"event_type":"view","user_id":"u","occurred_at":"soon"}"#, WrongType, "occurred_at: expected a time"),
        (r#"{"event_type":"view","user_id":"u","occurred_at":true}"#, WrongType, "occurred_at: expected a time"),
        (
            r#"{"event_type":"view","user_id":"u","occurred_at":1767225601,"sent_at":"soon"}"#,
            WrongType,
            "sent_at: expected a time",
        ),
        (r#"{"event_type":"view","user_id":{"id":1},"occurred_at":1767225601}"#, WrongType, "user_id: expected text"),
        (
            r#"{"event_type":"view","user_id":"u","occurred_at":1767225601,"items":[{"price":[{"x":1}]}]}"#,
            WrongType,
            "item.price: expected a number",
        ),
        (r#"{"event_type":"view","user_id":"u","occurred_at":1767225601,"page":"/home"}"#, WrongType, "an object"),
        (&long_key, WrongType, "user_id: expected at most 1024 bytes"),
        (&long_id, TooLarge, "event_id: expected at most 1024 bytes, found 1025"),
        (r#"{"event_type":"view","occurred_at":1767225601}"#, MissingUser, "user_id"),
        (r#"{"event_type":"view","user_id":"","anonymous_id":null,"occurred_at":1767225601}"#, MissingUser, "user_id"),
        ("{}", MissingUser, "user_id"),
        (r#"{"user_id":"u","occurred_at":1767225601}"#, MissingType, "event_type"),
        (r#"{"event_type":"","user_id":"u","occurred_at":1767225601}"#, MissingType, "event_type"),
        (r#"{"event_type":"view","user_id":"u"}"#, MissingTime, "occurred_at"),
        (r#"{"event_type":"view","user_id":"u","occurred_at":null}"#, MissingTime, "occurred_at"),
        (r#"{"event_type":"view","user_id":"u","occurred_at":-1}"#, TimeRange, "occurred_at"),
        (r#"{"event_type":"view","user_id":"u","occurred_at":9223372036854775807}"#, TimeRange, "occurred_at"),
        (r#"{"event_type":"view","user_id":"u","occurred_at":18446744073709551615}"#, TimeRange, "occurred_at"),
        (r#"{"event_type":"view","user_id":"u","occurred_at":1e300}"#, TimeRange, "occurred_at"),
        (&future, FutureTime, "time.future_tolerance"),
        (&large, TooLarge, "input.max_bytes"),
    ];
    let mut rig = Rig::new("[input]\nmax_bytes = \"256KiB\"");
    rig.decode(event(r#""session_id":"s","value":1,"bot":true,"items":[{"id":"i"}]"#).as_bytes()).unwrap();
    let before = format!("{:?}", rig.batch);
    for (payload, reason, detail) in table {
        let shown: String = payload.chars().take(120).collect();
        let record =
            Record { payload: Some(payload.as_bytes()), timestamp_ms: Some(MICROS / 1_000), ..Record::default() };
        let rejection = rig.take(&record).expect_err(&shown);
        assert_eq!(rejection.reason, *reason, "{shown}: {rejection}");
        assert!(rejection.detail.contains(detail), "{shown}: {rejection}");
        assert_eq!(format!("{:?}", rig.batch), before, "{shown}");
    }
    let invalid = [event("").as_bytes(), b"\xff"].concat();
    for (payload, reason) in [(None, NullPayload), (Some(&invalid[..]), Malformed), (Some(b"\xc3\x28"), Malformed)] {
        let rejection = rig.take(&Record { payload, ..Record::default() }).unwrap_err();
        assert_eq!(rejection.reason, reason);
        assert_eq!(format!("{:?}", rig.batch), before);
    }
    // The latest allowed time, and a key of the maximum length, are accepted.
    let latest = format!(r#"{{"event_type":"view","user_id":"u","occurred_at":{}}}"#, MICROS + 3_600_000_000);
    let record = Record { payload: Some(latest.as_bytes()), timestamp_ms: Some(MICROS / 1_000), ..Record::default() };
    assert_eq!(rig.take(&record), Ok(1));
    assert_eq!(rig.decode(event(&format!(r#""user_id":"{}""#, "k".repeat(1024))).as_bytes()), Ok(1));
}

#[test]
fn a_member_may_nest_64_levels_deep_and_no_depth_overflows_the_stack() {
    let mut rig = Rig::new("[input]\nmax_bytes = \"2MiB\"");
    for member in ["x", "items"] {
        for (open, close, middle) in [("[", "]", "null"), (r#"{"a":"#, "}", "null"), (r#"[{"items":"#, "}]", "[]")] {
            for (levels, passes) in [(31, true), (100_000, false)] {
                let value = format!("{}{middle}{}", open.repeat(levels), close.repeat(levels));
                let answer = rig.decode(event(&format!(r#""{member}":{value},"value":4"#)).as_bytes());
                match answer {
                    Ok(_) => assert!(passes, "{levels} of {open} in {member}"),
                    Err(rejection) => {
                        assert!(!passes, "{levels} of {open} in {member}: {rejection}");
                        assert_eq!(rejection.detail, "nested more than 64 levels deep");
                    }
                }
            }
        }
    }
    // Brackets in texts, and brackets next to each other, do not nest.
    let many =
        event(&format!(r#""x":"\"{}","y":[{}[]],"z":"{}\\""#, "[".repeat(999), "[],".repeat(999), "{".repeat(999)));
    assert_eq!(rig.decode(many.as_bytes()), Ok(1));
    for levels in [63, 64] {
        let value = format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert_eq!(rig.decode(event(&format!(r#""items":{value}"#)).as_bytes()).is_ok(), levels == 63);
    }
    // Unterminated, as an attacker would send them.
    for open in ["[", r#"{"a":"#, r#"{"items":["#, r#"["a","#] {
        assert_eq!(rig.decode(open.repeat(100_000).as_bytes()).unwrap_err().reason, RejectReason::Malformed);
    }
}
