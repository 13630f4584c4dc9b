//! Lines of access logs.

use super::*;

#[test]
fn a_line_of_an_access_log_is_an_event() {
    let own = r#"
        [[field]]
        name = "status"
        type = "int"
        path = "status"
        [[field]]
        name = "bytes"
        type = "int"
        path = "bytes"
        [[field]]
        name = "query"
        type = "string"
        path = "query"
    "#;
    let table: &[(&str, Expected<'_>)] = &[
        (
            r#"192.0.2.1 - ann lee [01/Jan/2026:01:00:00 +0100] "GET /a/b.html?q=1 HTTP/1.1" 200 512 "http://x/" "M \"q\" 5""#,
            &[
                ("the user", "ann lee"),
                ("the time", "1767225600000000"),
                ("event_type", "page_view"),
                ("page.path", "/a/b.html"),
                ("query", "q=1"),
                ("status", "200"),
                ("bytes", "512"),
                ("page.referrer", "http://x/"),
                ("device.ua", r#"M \"q\" 5"#),
            ],
        ),
        // The common format without a zone; a page served from the cache.
        (
            "192.0.2.1 - - [01/Jan/2026:00:00:00] \"GET / HTTP/1.0\" 304 -\n",
            &[("the time", "1767225600000000"), ("event_type", "page_view"), ("bytes", "-"), ("device.ua", "-")],
        ),
        (
            r#"h - - [01/Jan/2026:00:00:00 +0000] "GET /a.CSS HTTP/1.0" 200 5 "-" "-""#,
            &[("event_type", "request"), ("page.referrer", "-")],
        ),
        (r#"h - - [01/Jan/2026:00:00:00 +0000] "POST / HTTP/1.0" 200 5"#, &[("event_type", "request")]),
        (r#"h - - [01/Jan/2026:00:00:00 +0000] "GET / HTTP/1.0" 404 5"#, &[("event_type", "request")]),
        (r#"h - - [01/Jan/2026:00:00:00 +0000] "\x16\x03" 400 0"#, &[("event_type", "request"), ("page.path", "-")]),
    ];
    let mut users = std::collections::HashSet::new();
    for (line, expected) in table {
        let mut rig = Rig::new(&format!("{LOG}{own}"));
        assert_eq!(rig.decode(line.as_bytes()), Ok(1), "{line}");
        for (name, value) in *expected {
            assert_eq!(rig.show(name), *value, "{name} of {line}");
        }
        users.insert(rig.show("anonymous_id"));
    }
    assert_eq!(users.len(), 3, "a client is an address with an agent");
    let mut rig = Rig::new(LOG);
    for (line, reason, detail) in [
        ("", RejectReason::Malformed, "address"),
        ("h - - \"GET / HTTP/1.0\" 200 5", RejectReason::Malformed, "the user"),
        ("h - - [x] GET", RejectReason::Malformed, "the request"),
        ("h - - [x] \"GET / HTTP/1.0\" 200", RejectReason::Malformed, "status"),
        ("h - - [31/Feb/2026:00:00:00 +0000] \"GET / HTTP/1.0\" 200 5", RejectReason::WrongType, "31/Jan/2026"),
    ] {
        let rejection = rig.decode(line.as_bytes()).unwrap_err();
        assert_eq!(rejection.reason, reason, "{line}: {rejection}");
        assert!(rejection.detail.contains(detail), "{line}: {rejection}");
    }
    assert!(rig.batch.is_empty());
}
