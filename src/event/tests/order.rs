//! The order of members does not matter.

use super::*;
use proptest::prelude::*;
use serde_json::{Map, Value};

/// The result for a payload: all fields, or the reason.
fn answer(sections: &str, payload: &str) -> Result<Vec<(String, String)>, String> {
    let mut rig = Rig::new(sections);
    match rig.decode(payload.as_bytes()) {
        Ok(_) => Ok(rig.all()),
        Err(rejection) => Err(rejection.to_string()),
    }
}

/// Writes a value with the members of each object in the order given by the numbers.
fn write(value: &Value, numbers: &mut impl Iterator<Item = u64>, to: &mut String) {
    match value {
        Value::Object(members) => {
            let mut members: Vec<(u64, &String, &Value)> =
                members.iter().map(|(name, value)| (numbers.next().unwrap_or_default(), name, value)).collect();
            members.sort_by_key(|(number, ..)| *number);
            to.push('{');
            for (index, (_, name, value)) in members.into_iter().enumerate() {
                if index > 0 {
                    to.push(',');
                }
                to.push_str(&Value::from(name.as_str()).to_string());
                to.push(':');
                write(value, numbers, to);
            }
            to.push('}');
        }
        Value::Array(elements) => {
            to.push('[');
            for (index, element) in elements.iter().enumerate() {
                if index > 0 {
                    to.push(',');
                }
                write(element, numbers, to);
            }
            to.push(']');
        }
        scalar => to.push_str(&scalar.to_string()),
    }
}

/// Puts a member at a dotted path, or at `name[key]`.
fn put(event: &mut Map<String, Value>, path: &str, value: Value) {
    let steps: Vec<&str> = path.split('.').collect();
    if let Some((name, key)) = path.strip_suffix(']').and_then(|path| path.split_once('[')) {
        let pair = serde_json::json!({"key": key, "value": {"string_value": value, "int_value": 7, "other": "x"}});
        match event.entry(name).or_insert_with(|| Value::Array(Vec::new())) {
            Value::Array(pairs) => pairs.push(pair),
            _ => unreachable!("the array is made here"),
        }
        return;
    }
    let mut at = event;
    for step in &steps[..steps.len() - 1] {
        let below = at.entry(*step).or_insert_with(|| Value::Object(Map::new()));
        // An existing scalar stays: it must be the same misfit in every order.
        let Value::Object(below) = below else { return };
        at = below;
    }
    at.insert((*steps.last().expect("a path has a step")).to_owned(), value);
}

/// A valid value, an invalid one, or none.
fn value() -> impl Strategy<Value = Value> {
    prop::sample::select(vec![
        Value::Null,
        Value::from(""),
        Value::from("text"),
        Value::from("12.5"),
        Value::from(1_767_225_600_097_i64),
        Value::from("2026-01-01T00:00:00.097Z"),
        Value::from("2026-01-01T00:00:00.097:Z"),
        Value::from(true),
        Value::from("NaN"),
        serde_json::json!({"x": 1}),
        serde_json::json!([]),
        serde_json::json!([3]),
    ])
}

/// The paths of all fields that a preset reads.
fn paths(sections: &str) -> Vec<String> {
    let Sections { input, .. } = toml::from_str(sections).expect("the sections are right");
    let mut scope = Scope::default();
    let fields = Fields::declare(&input, &[], &mut scope, &mut Vec::new());
    fields.0.into_iter().flat_map(|field| field.paths).collect()
}

const PRESETS: [&str; 6] = [
    "",
    "[input]\npreset = \"snowplow\"",
    "[input]\npreset = \"segment\"",
    "[input]\npreset = \"ga4\"",
    "[input]\npreset = \"amplitude\"",
    "[input.fields]\nuser_id = \"user_data.user_id\"\noccurred_at = { path = \"at\", unit = \"ms\" }",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_members_gives_the_same_answer(
        preset in 0..PRESETS.len(),
        values in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>(), value()), 0..12),
        orders in prop::collection::vec(prop::collection::vec(any::<u64>(), 64), 4),
    ) {
        let sections = PRESETS[preset];
        let paths = paths(sections);
        let mut event = Map::new();
        // Valid values for everything required, so that not all events are rejected for the same reason.
        for path in paths.iter().filter(|path| path.contains("user") || path.contains("event")) {
            put(&mut event, path, Value::from("1767225600097000"));
        }
        for (path, camel, value) in values {
            let path = &paths[path.index(paths.len())];
            let path = if camel { camel_of(path) } else { path.clone() };
            put(&mut event, &path, value);
        }
        let event = Value::Object(event);
        let mut first = None;
        for order in orders {
            let mut text = String::new();
            write(&event, &mut order.into_iter(), &mut text);
            let answer = answer(sections, &text);
            match &first {
                None => first = Some(answer),
                Some(first) => prop_assert_eq!(first, &answer, "{}", text),
            }
        }
    }
}

/// A path in the other spelling.
fn camel_of(path: &str) -> String {
    let mut camel = String::new();
    let mut after = false;
    for letter in path.chars() {
        match letter {
            '_' => after = true,
            _ if std::mem::take(&mut after) => camel.extend(letter.to_uppercase()),
            _ => camel.push(letter),
        }
    }
    camel
}

#[test]
fn what_a_less_preferred_path_holds_neither_helps_nor_harms() {
    let segment = "[input]\npreset = \"segment\"";
    let base = r#""type":"track","event":"Level","userId":"u""#;
    for (members, expected) in [
        (
            [r#""timestamp":"2026-01-01T00:00:00.097Z""#, r#""originalTimestamp":"2026-01-01T00:00:00.097:Z""#],
            Ok(("the time", MICROS.to_string())),
        ),
        (
            [r#""timestamp":null"#, r#""originalTimestamp":"2026-01-01T00:00:00.097Z""#],
            Ok(("the time", MICROS.to_string())),
        ),
        (
            [r#""timestamp":"soon""#, r#""originalTimestamp":"2026-01-01T00:00:00.097Z""#],
            Err("occurred_at: expected a time"),
        ),
    ] {
        for [one, other] in [[members[0], members[1]], [members[1], members[0]]] {
            let found = answer(segment, &format!("{{{base},{one},{other}}}"));
            match (&expected, &found) {
                (Ok((name, value)), Ok(all)) => {
                    assert!(all.iter().any(|it| (it.0.as_str(), &it.1) == (*name, value)), "{one} {other}: {all:?}");
                }
                (Err(detail), Err(reason)) => assert!(reason.contains(detail), "{one} {other}: {reason}"),
                _ => panic!("{one} {other}: {found:?}"),
            }
        }
    }
    let timed = r#""type":"track","event":"Level","userId":"u","timestamp":"2026-01-01T00:00:00.097Z""#;
    for (properties, value) in [
        (r#""revenue":12.5,"value":"high""#, "12.5"),
        (r#""value":"high","revenue":12.5"#, "12.5"),
        (r#""value":{"amount":3},"revenue":12.5"#, "12.5"),
        (r#""revenue":"","value":3"#, "3.0"),
        (r#""value":3,"revenue":"NaN""#, "3.0"),
        (r#""revenue":null,"value":3,"total":"2""#, "2.0"),
    ] {
        let mut rig = Rig::new(segment);
        assert_eq!(
            rig.decode(format!("{{{timed},\"properties\":{{{properties}}}}}").as_bytes()),
            Ok(1),
            "{properties}"
        );
        assert_eq!(rig.show("value"), value, "{properties}");
    }
    // The parent of a less preferred path may also be anything.
    for products in [r#""free text""#, "7", r#"["p1"]"#, r#"{"product_id":{"a":1}}"#] {
        for properties in [
            format!(r#""products":{products},"product_id":"p9""#),
            format!(r#""product_id":"p9","products":{products}"#),
        ] {
            let mut rig = Rig::new(
                "[input]\npreset = \"segment\"\n[input.fields]\n\"item.category\" = \"c\"\n\"item.price\" = \"p\"\n\"item.quantity\" = \"q\"",
            );
            let answer = rig.decode(format!("{{{timed},\"properties\":{{{properties}}}}}").as_bytes());
            assert_eq!(answer, Ok(1), "{properties}");
            assert_eq!(rig.show("item.id"), "p9", "{properties}");
        }
    }
}

#[test]
fn of_a_member_given_twice_the_last_one_counts_and_is_judged() {
    let mut rig = Rig::new("");
    assert_eq!(rig.decode(event(r#""value":"much","value":2"#).as_bytes()), Ok(1));
    assert_eq!(rig.show("value"), "2.0");
    assert_eq!(rig.decode(event(r#""value":2,"value":null"#).as_bytes()), Ok(1));
    assert_eq!(rig.show("value"), "2.0", "null is not given");
    let rejection = rig.decode(event(r#""value":2,"value":"much""#).as_bytes()).unwrap_err();
    assert_eq!(rejection.to_string(), "wrong_type: value: expected a number");
}

#[test]
fn what_stands_outside_of_events_is_judged_where_it_counts() {
    let unpack = "[input]\nunpack = \"batch\"";
    let with = |outside: &str, events: &str| {
        answer(
            unpack,
            &format!(r#"{{{outside},"user_id":"u","event_type":"a","occurred_at":1767225600,"batch":[{events}]}}"#),
        )
        .map(|all| all.into_iter().find(|(name, _)| name == "value").map(|(_, value)| value))
    };
    assert_eq!(with(r#""value":"much""#, r#"{"value":1},{"value":2}"#), Ok(Some("2.0".to_owned())));
    let refused = Err("wrong_type: value: expected a number".to_owned());
    assert_eq!(with(r#""value":"much""#, r#"{"value":1},{}"#), refused);
    assert_eq!(with(r#""value":"much""#, r#"{},{"value":1}"#), refused);
    assert_eq!(with(r#""value":3"#, r#"{"value":1},{"value":"much"}"#), refused);
    assert_eq!(with(r#""value":3"#, r#"{"value":1},{}"#), Ok(Some("3.0".to_owned())));
    let element =
        Err("wrong_type: input.unpack: expected an array of objects at this path, and one element is not an object"
            .to_owned());
    for odd in ["7", "null", "\"text\"", "[{}]", "true", "1.5"] {
        assert_eq!(with(r#""value":3"#, &format!("{{}},{odd}")), element, "{odd}");
    }
}
