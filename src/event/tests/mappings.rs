//! Where fields stand: presets, declared paths, and arrays of keys and values.

use super::*;

#[test]
fn every_preset_reads_an_event_of_its_producer() {
    let table: &[(&str, &str, Expected<'_>)] = &[
        (
            "snowplow",
            r#"{"app_id":"shop","platform":"web","collector_tstamp":"2026-01-01 00:00:02.000",
                "dvce_created_tstamp":"2026-01-01 00:00:01.000","derived_tstamp":"2026-01-01 00:00:00.097",
                "dvce_sent_tstamp":"2026-01-01 00:00:01.500","event":"struct","event_name":"add_to_cart",
                "event_id":"c6ef3124","user_id":null,"domain_userid":"bc2e92ec","network_userid":"ecdff4d0",
                "domain_sessionid":"7a2b","page_url":"https://shop/a","page_urlpath":"/a","page_title":"A",
                "tr_total":null,"ti_sku":"sku1","ti_price":"12.5","ti_quantity":2,"mkt_medium":"cpc",
                "geo_country":"DE","useragent":"Mozilla","os_name":"iOS","contexts":{"data":[{"schema":"x"}]}}"#,
            &[
                ("the user", "bc2e92ec"),
                ("event_type", "add_to_cart"),
                ("event_id", "c6ef3124"),
                ("received_at", "1767225602000000"),
                ("sent_at", "1767225601500000"),
                ("session_id", "7a2b"),
                ("source.app_id", "shop"),
                ("page.path", "/a"),
                ("item.id", "sku1"),
                ("item.price", "12.5"),
                ("item.quantity", "2.0"),
                ("value", "-"),
                ("campaign.medium", "cpc"),
                ("geo.country", "DE"),
                ("device.os", "iOS"),
            ],
        ),
        (
            "segment",
            r#"{"anonymousId":"23adfd82","context":{"ip":"0.0.0.0","page":{"path":"/cart","url":"https://shop/cart"},
                "userAgent":"Mozilla","campaign":{"source":"mail"},"os":{"name":"Android"}},"event":"Order Completed",
                "integrations":{},"messageId":"ajs-1","originalTimestamp":"2026-01-01T00:00:09Z",
                "receivedAt":"2026-01-01T00:00:02Z","sentAt":"2026-01-01T00:00:01Z",
                "timestamp":"2026-01-01T00:00:00.097Z","type":"track","userId":"97980cfea0067",
                "properties":{"revenue":25.5,"total":30,"currency":"USD","products":[{"product_id":"p1","price":9,
                "quantity":1,"category":"Games"},{"product_id":"p2"}]}}"#,
            &[
                ("the user", "97980cfea0067"),
                ("anonymous_id", "23adfd82"),
                ("event_type", "Order Completed"),
                ("event_id", "ajs-1"),
                ("page.path", "/cart"),
                ("item.id", "p1"),
                ("item.price", "9.0"),
                ("item.category", "Games"),
                ("value", "25.5"),
                ("currency", "USD"),
                ("campaign.source", "mail"),
                ("device.os", "Android"),
            ],
        ),
        (
            "ga4",
            r#"{"event_date":"20260101","event_timestamp":"1767225600097000","event_name":"purchase",
                "event_params":[{"key":"ga_session_id","value":{"string_value":null,"int_value":"5"}},
                {"value":{"string_value":"https://shop/a"},"key":"page_location"},{"key":"page_title","value":"A"},
                {"key":"engagement_time_msec","value":{"int_value":"1500","double_value":2}},{"key":"x","value":{"y":[{}]}},
                {"key":"currency","value":{"string_value":"E\u0055R"}},{"key":"page_referrer"},{"value":3}],
                "event_value_in_usd":20,
                "user_id":null,"user_pseudo_id":"1234.5678","platform":"WEB","device":{"category":"mobile",
                "operating_system":"iOS"},"geo":{"country":"Germany","region":"Berlin"},
                "traffic_source":{"name":"(direct)","medium":"(none)"},"ecommerce":{"purchase_revenue":19.5},
                "items":[{"item_id":"i1","item_category":"Apparel","price":9.75,"quantity":2}]}"#,
            &[
                ("the user", "1234.5678"),
                ("event_type", "purchase"),
                ("source.platform", "WEB"),
                ("item.id", "i1"),
                ("item.category", "Apparel"),
                ("item.price", "9.75"),
                ("value", "19.5"),
                ("currency", "EUR"),
                ("session_id", "5"),
                ("page.url", "https://shop/a"),
                ("page.title", "A"),
                ("page.referrer", "-"),
                ("dwell_ms", "1500"),
                ("campaign.name", "(direct)"),
                ("device.type", "mobile"),
                ("geo.region", "Berlin"),
            ],
        ),
        (
            "amplitude",
            r#"{"user_id":"datamonster@gmail.com","device_id":"C8F9E604","event_type":"watch_tutorial",
                "time":1767225600097,"event_properties":{"product_id":"x7"},"user_properties":{"age":25},
                "country":"United States","platform":"iOS","os_name":"ios","price":4.99,"quantity":3,
                "revenue":-1.99,"session_id":1396381378123,"$insert_id":"5f0adeff"}"#,
            &[
                ("the user", "datamonster@gmail.com"),
                ("event_type", "watch_tutorial"),
                ("event_id", "5f0adeff"),
                ("session_id", "1396381378123"),
                ("item.id", "x7"),
                ("item.price", "4.99"),
                ("value", "-1.99"),
                ("geo.country", "United States"),
            ],
        ),
    ];
    for (preset, payload, expected) in table {
        let mut rig = Rig::new(&format!("[input]\npreset = \"{preset}\""));
        assert_eq!(rig.decode(payload.as_bytes()), Ok(1), "{preset}");
        assert_eq!(rig.show("the time"), MICROS.to_string(), "{preset}");
        for (name, value) in *expected {
            assert_eq!(rig.show(name), *value, "{name} of {preset}");
        }
    }
}

#[test]
fn fields_stand_where_the_configuration_says() {
    let sections = r#"
        [input]
        preset = "segment"
        [input.fields]
        user_id = "who.id"
        occurred_at = { path = "at", unit = "s" }
        sent_at = { path = "sent", unit = "us" }
        "item.price" = "goods.cost"
        [[field]]
        name = "color"
        type = "string"
        path = "properties.color"
        [[field]]
        name = "stock"
        type = "int"
        path = "goods.stock"
    "#;
    let mut rig = Rig::new(sections);
    let payload = br#"{"who":{"id":"w"},"userId":"not this","event":"view","at":200000000000,"sent":5,
        "goods":[{"cost":"3.5","stock":4}],"properties":{"color":"red","price":9}}"#;
    assert_eq!(rig.decode(payload), Ok(1));
    for (name, value) in [
        ("the user", "w"),
        ("the time", "200000000000000000"),
        ("sent_at", "5"),
        ("item.price", "3.5"),
        ("color", "red"),
        ("stock", "4"),
    ] {
        assert_eq!(rig.show(name), value, "{name}");
    }
}

#[test]
fn a_wrong_mapping_is_a_fault_with_the_next_step() {
    for (sections, key, message, hint) in [
        ("[input.fields]\nuser_ids = \"id\"", "input.fields.user_ids", "no field \"user_ids\"", "\"user_id\""),
        ("[input.fields]\nzzzzzzzzzzzz = \"id\"", "input.fields.zzzzzzzzzzzz", "no field", "[[field]]"),
        ("[input.fields]\nvalue = \"a..b\"", "input.fields.value", "not a path", "context.page.url"),
        ("[input]\nformat = \"protobuf\"\npreset = \"ga4\"", "input.format", "Protobuf", "input.preset"),
        (
            "[[field]]\nname = \"value\"\ntype = \"int\"\npath = \"x\"",
            "field[0].name",
            "declared already",
            "[input.fields]",
        ),
        ("[[field]]\nname = \"x\"\ntype = \"int\"\npath = \"\"", "field[0].path", "not a path", ""),
        (
            "[input]\nformat = \"protobuf\"\n[[field]]\nname = \"x\"\ntype = \"int\"\npath = \"x\"",
            "field[0].path",
            "of one's own",
            "properties.color",
        ),
    ] {
        let errors = Rig::compile(sections).err().unwrap_or_default();
        let found = errors.iter().any(|error| {
            error.key == key
                && error.message.contains(message)
                && error.hint.as_deref().unwrap_or_default().contains(hint)
        });
        assert!(found, "{sections}: {errors:?}");
    }
}

#[test]
fn the_unit_traps_of_every_producer_give_the_same_microseconds() {
    let seconds = "[input.fields]\noccurred_at = { path = \"event_time\", unit = \"s\" }";
    let by_size = "[input.fields]\noccurred_at = \"event_time\"";
    for (sections, time) in [
        // Snowplow's times have no zone and are UTC.
        ("[input]\npreset = \"snowplow\"", r#""event":"a","derived_tstamp":"2026-01-01 00:00:00.097""#),
        ("[input]\npreset = \"snowplow\"", r#""event":"a","collector_tstamp":"2026-01-01T00:00:00.097Z""#),
        ("[input]\npreset = \"segment\"", r#""type":"page","timestamp":"2026-01-01T02:00:00.097+02:00""#),
        ("[input]\npreset = \"segment\"", r#""type":"page","originalTimestamp":"2026-01-01T00:00:00.097Z""#),
        // GA4's times are microseconds, as a number or in text.
        ("[input]\npreset = \"ga4\"", r#""event_name":"a","event_timestamp":1767225600097000"#),
        ("[input]\npreset = \"ga4\"", r#""event_name":"a","event_timestamp":"1767225600097000""#),
        // Amplitude's times are milliseconds when sent, and text when exported.
        ("[input]\npreset = \"amplitude\"", r#""event_type":"a","time":1767225600097"#),
        ("[input]\npreset = \"amplitude\"", r#""event_type":"a","event_time":"2026-01-01 00:00:00.097000""#),
        // Seconds with a fraction, also in text; and the most common error, 13 digits instead of 10.
        (seconds, r#""event_type":"a","event_time":1767225600.097"#),
        (seconds, r#""event_type":"a","event_time":"1767225600.097""#),
        (by_size, r#""event_type":"a","event_time":"1767225600097""#),
        (by_size, r#""event_type":"a","event_time":1767225600.097"#),
    ] {
        let mut rig = Rig::new(sections);
        let user = r#""user_id":"u","userId":"u""#;
        assert_eq!(rig.decode(format!("{{{user},{time}}}").as_bytes()), Ok(1), "{sections} {time}");
        assert_eq!(rig.show("the time"), MICROS.to_string(), "{sections} {time}");
    }
}

#[test]
fn arrays_of_keys_and_values_are_read_by_key_also_as_an_object() {
    let sections = r#"
        [[field]]
        name = "level"
        type = "int"
        path = "params[level.max]"
        [[field]]
        name = "title"
        type = "string"
        path = "a.params[title]"
    "#;
    let mut rig = Rig::new(sections);
    let more = r#""params":[{"key":"level.max","value":"7"},{"key":"other","value":1}],
        "a":{"params":{"title":"T","level.max":9}}"#;
    assert_eq!(rig.decode(event(more).as_bytes()), Ok(1));
    assert_eq!((rig.show("level"), rig.show("title")), ("7".into(), "T".into()));
    let rejection = rig.decode(event(r#""params":[{"key":"level.max","value":"high"}]"#).as_bytes()).unwrap_err();
    assert_eq!(rejection.to_string(), "wrong_type: level: expected a whole number");
    let rejection = rig.decode(event(r#""params":[7]"#).as_bytes()).unwrap_err();
    assert_eq!(rejection.to_string(), "wrong_type: level: expected an object around it, and there is another value");
    for path in ["a[", "a[]", "a[b", "a[b]c", "a[b].c", "a..b", ".a", "a.", ""] {
        let sections = format!("[[field]]\nname = \"x\"\ntype = \"int\"\npath = \"{path}\"");
        let errors = Rig::compile(&sections).err().unwrap_or_default();
        assert!(errors.iter().any(|error| error.message.contains("not a path")), "{path}: {errors:?}");
    }
}
