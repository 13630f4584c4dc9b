//! Access log formats: those recognised automatically, those that are declared, and those that are rejected.

use super::*;

const AGENT: &str = r#""Mozilla/5.0 (X11; Linux x86_64)""#;

/// The rest of every line, after the user.
const REST: &str = r#"[01/Mar/2026:10:00:00 +0000] "GET /a HTTP/1.1" 200 512 "-" "Mozilla/5.0 (X11; Linux x86_64)""#;

/// A line in the common format.
const PAGE: &str = r#"192.0.2.10 - - [01/Mar/2026:10:00:00 +0000] "GET /a HTTP/1.1" 200 512"#;

/// 2026-03-01T10:00:00Z
const TIME: &str = "1772359200000000";

fn rig(format: Option<&str>) -> Rig {
    let declared = format.map(|format| format!("log_format = {}\n", toml::Value::from(format))).unwrap_or_default();
    Rig::new(&format!("{LOG}{declared}"))
}

fn client(rig: &mut Rig, line: &str) -> String {
    assert_eq!(rig.decode(line.as_bytes()), Ok(1), "{line}");
    assert_eq!((rig.show("the time"), rig.show("event_type")), (TIME.to_owned(), "page_view".to_owned()), "{line}");
    assert_eq!(rig.show("device.ua"), AGENT.trim_matches('"'), "{line}");
    rig.show("anonymous_id")
}

#[test]
fn the_usual_forms_name_the_same_client() {
    let mut rig = rig(None);
    let plain = client(&mut rig, &format!("192.0.2.10 - - {REST}"));
    assert!(plain.len() == 32 && plain.bytes().all(|byte| byte.is_ascii_hexdigit()), "{plain}");
    for before in [
        "shop.example:443 192.0.2.10 - -",
        "shop.example 192.0.2.10 - -",
        "127.0.1.1:80 192.0.2.10 - -",
        "[2001:db8::1]:443 192.0.2.10 - -",
        "192.0.2.10, 10.0.0.1 - -",
        "192.0.2.10,10.0.0.1,10.0.0.2 - -",
        "unknown, 192.0.2.10, 10.0.0.1 - -",
        "192.0.2.10:51234 - -",
        "::ffff:192.0.2.10 - -",
        r#"192.0.2.10 - """#,
        "192.0.2.10 - (null)",
        "10.0.0.5, 192.0.2.10 - -",
        "fd00::5, 127.0.0.1, 192.0.2.10 - -",
        "0.0.0.0, 192.0.2.10 - -",
        "::, 192.0.2.10, 10.0.0.1 - -",
        "shop.example:443 192.0.2.10, 198.51.100.1 - -",
        "shop.example 192.0.2.10,198.51.100.1 - -",
        "127.0.1.1:80 10.0.0.5, 192.0.2.10 - -",
        "<190>Mar  1 10:00:00 web1 192.0.2.10 - -",
        "Mar  1 10:00:00 web1 192.0.2.10 - -",
        "Mar  1 10:00:00 192.0.2.10 - -",
        "Mar  1 10:00:00 web1 nginx: 192.0.2.10 - -",
        "Mar 11 10:00:00 web1 nginx[12]: 192.0.2.10 - -",
        "Mar 01 10:00:00 nginx: 192.0.2.10 - -",
        "<190>Mar  1 10:00:00 web1 nginx: 192.0.2.10 - -",
        "<190>Mar 11 10:00:00 web1 apache2: shop.example:443 192.0.2.10 - -",
        "2026-03-01T10:00:00.123456+01:00 web1 nginx: 192.0.2.10 - -",
        "<190>1 2026-03-01T10:00:00Z web1 nginx 123 ID47 - 192.0.2.10 - -",
        r#"<190>1 2026-03-01T10:00:00Z web1 nginx - - [x@1 a="]\"" b="c"][y@1] 192.0.2.10, 10.0.0.1 - -"#,
    ] {
        assert_eq!(client(&mut rig, &format!("{before} {REST}")), plain, "{before}");
        assert_eq!(rig.show("user_id"), "-", "{before}");
    }
    assert_eq!(client(&mut rig, &format!("\u{feff}192.0.2.10 - - {REST}\r\n")), plain, "a BOM and a CRLF");
    // Values after the agent are ignored.
    for after in [
        " 0.003 0.002 .",
        r#" rt=0.1 uct="0.0""#,
        " - -",
        r#" "-""#,
        r#" "unknown""#,
        r#" "shop.example" "GET""#,
        // The list repeats the front address, or names no public one.
        r#" "192.0.2.10, 10.0.0.9""#,
        r#" "10.0.0.5, 192.0.2.10""#,
        r#" "10.1.2.3""#,
        r#" "-" "192.0.2.10""#,
        // Upstream servers.
        " 512 0.003 [default-web-80] [] 10.244.1.5:8080 512 0.003 200 0a1b2c3d",
        " 10.0.0.1:80, [fd00::1]:80 0.1",
        r#" upstream="10.0.0.1:80""#,
    ] {
        assert_eq!(client(&mut rig, &format!("192.0.2.10 - - {REST}{after}")), plain, "{after}");
    }
    for texts in [r#""-" "-" "-""#, r#""https://a/" "-" "unknown""#, r#""-" "Mozilla" "shop.example" "GET""#] {
        assert_eq!(rig.decode(format!("{PAGE} {texts}").as_bytes()), Ok(1), "{texts}");
    }
    let others = [
        "192.0.2.77 - -",
        "shop.example:443 192.0.2.77 - -",
        "2001:db8::5 - -",
        "client.example - -",
        "localhost - -",
        "fe80::1%eth0 - -",
    ];
    let clients: Vec<String> = others.map(|before| client(&mut rig, &format!("{before} {REST}"))).into();
    assert_eq!(clients[0], clients[1]);
    assert_eq!(clients.iter().collect::<std::collections::HashSet<_>>().len(), 5);
    // One address in different spellings.
    assert_eq!(client(&mut rig, &format!("2001:DB8:0:0::5 - - {REST}")), clients[2]);
    assert_eq!(client(&mut rig, &format!("[2001:db8::5]:443 - - {REST}")), clients[2]);
    assert_eq!(client(&mut rig, &format!("shop.example:443 [2001:db8::5] - - {REST}")), clients[2]);
    assert_eq!(client(&mut rig, &format!("shop.example:443 [2001:db8::5]:51234 - - {REST}")), clients[2]);

    assert_eq!(rig.decode(format!("shop.example:443 192.0.2.10 - ann {REST}").as_bytes()), Ok(1));
    assert_eq!(rig.show("the user"), "ann");
    assert_eq!(rig.decode(format!("192.0.2.10 - ann lee {REST}").as_bytes()), Ok(1));
    assert_eq!(rig.show("the user"), "ann lee");
}

#[test]
fn a_line_that_could_be_read_in_two_ways_is_refused() {
    let mut rig = rig(None);
    for (line, detail) in [
        (format!("203.0.113.7 10.0.0.1 - - {REST}"), "two addresses"),
        (format!("203.0.113.7:51234 10.0.0.1 - - {REST}"), "two addresses"),
        (format!("- 10.0.0.1 - - {REST}"), "two addresses"),
        (format!("203.0.113.7, 10.0.0.2 10.0.0.1 - - {REST}"), "more than an address"),
        (format!("unknown, secret - - {REST}"), "list of addresses"),
        (format!("- - - {REST}"), "client's address"),
        (format!("unix: - - {REST}"), "client's address"),
        (format!("unknown - - {REST}"), "client's address"),
        (format!("Unknown - - {REST}"), "client's address"),
        (format!("(null) - - {REST}"), "client's address"),
        (format!("0.0.0.0 - - {REST}"), "client's address"),
        (format!("0.0.0.0:80 - - {REST}"), "client's address"),
        (format!(":: - - {REST}"), "client's address"),
        (format!("::ffff:0.0.0.0 - - {REST}"), "client's address"),
        (format!("255.255.255.255 - - {REST}"), "client's address"),
        (format!("unknown, - - {REST}"), "list of addresses"),
        (format!("shop.example:443 unknown - - {REST}"), "client's address"),
        (format!("unknown 10.0.0.1 - - {REST}"), "two addresses"),
        (format!("192.0.2.10 - shop.example:443 {REST}"), "more than an address"),
        (format!("192.0.2.10 - 192.0.2.10, {REST}"), "more than an address"),
        (format!("192.0.2.10 - (198.51.100.7) {REST}"), "more than an address"),
        (format!("192.0.2.10 - 198.51.100.7:443 {REST}"), "more than an address"),
        (format!("192.0.2.10 - a,198.51.100.7 {REST}"), "more than an address"),
        // Behind the agent.
        (format!(r#"198.51.100.1 - - {REST} "203.0.113.7""#), "a list of addresses stands behind"),
        (format!(r#"client.example - - {REST} "203.0.113.7""#), "a list of addresses stands behind"),
        (format!(r#"10.0.0.1 - - {REST} "10.1.2.3""#), "a list of addresses stands behind"),
        (format!(r#"10.0.0.1 - - {REST} "203.0.113.7:51234""#), "whose it is"),
        (format!(r#"10.0.0.1 - - {REST} "203.0.113.7 10.0.0.2""#), "whose it is"),
        (format!("10.0.0.1 - - {REST} 203.0.113.7"), "whose it is"),
        (format!("192.0.2.10 - - {REST} 203.0.113.7, 10.0.0.2"), "whose it is"),
        (format!(r#"10.0.0.1 - - {REST} "-" "203.0.113.7""#), "whose it is"),
        (format!(r#"10.0.0.1 - - {REST} 0.003 "203.0.113.7, 10.0.0.2""#), "whose it is"),
        (format!("10.0.0.1 - - {REST} xff=203.0.113.7"), "whose it is"),
        (format!(r#"10.0.0.1 - - {REST} xff="203.0.113.7""#), "whose it is"),
        (format!("10.0.0.1 - - {REST} 2001:db8::5"), "whose it is"),
        (format!(r#"10.0.0.1 - - {REST} "[2001:db8::5]" "203.0.113.7""#), "whose it is"),
        (format!(r#"10.0.0.1 - - {REST} "203.0.113.7, 10.0"#), "cut off"),
        (format!(r"10.0.0.1 - - {REST}203.0.113.7 - - {REST}"), "the user agent in quotes"),
        (format!(r"10.0.0.1 - - {REST} 203.0.113.7 - - {REST}"), "whose it is"),
        (format!(r"10.0.0.1 - - {REST} client.example - - {REST}"), "a second line"),
        (format!(r#"10.0.0.1 - - {REST}"x""#), "the user agent in quotes"),
        // Between the size and the agent.
        (format!(r#"{PAGE} 0.005 "-" "UA""#), "the referrer in quotes"),
        (format!(r#"{PAGE} 1024 512 "-" "UA""#), "the referrer in quotes"),
        (format!(r#"{PAGE} "shop.example" "-" "UA""#), "which of the values in quotes"),
        (format!(r#"{PAGE} "-" "-" "UA""#), "which of the values in quotes"),
        (format!(r#"{PAGE} "-" "https://shop.example/" "UA""#), "which of the values in quotes"),
        (format!(r#"{PAGE} "UA" "-""#), "which of the values in quotes"),
        (format!(r#"{PAGE} "-""UA""#), "the referrer"),
        (format!("{PAGE} x"), "the referrer in quotes"),
        (format!("{PAGE} 203.0.113.7"), "the referrer in quotes"),
        (PAGE.replace("\" 200", "\"200"), "the status"),
        (format!("192.0.2 - - {REST}"), "client's address"),
        (format!("192.0.2.300 - - {REST}"), "client's address"),
        (format!("192.0.2.10 {REST}"), "identity"),
        (format!("192.0.2.10 - {REST}"), "the user"),
        (format!("192.0.2.10 - 198.51.100.7 {REST}"), "more than an address"),
        (format!("web-1  | 192.0.2.10 - - {REST}"), "more than an address"),
        (format!("web1 Mar  1 10:00:00 192.0.2.10 - - {REST}"), "more than an address"),
        (format!("Mar  1 10:00:00 203.0.113.7 192.0.2.10 - - {REST}"), "two addresses"),
        (format!("2026-03-01T10:00:00.123Z stdout F 192.0.2.10 - - {REST}"), "more than an address"),
        ("192.0.2.10 - - [01/Mar/2026:10:00:00 +0000] \"GET / HTTP/1.1\" ok 5".to_owned(), "status"),
        ("192.0.2.10 - - [01/Mar/2026:10:00:00 +0000] \"GET / HTTP/1.1\" 20 5".to_owned(), "status"),
        ("192.0.2.10 - - [01/Mar/2026:10:00:00 +0000] \"GET / HTTP/1.1\" 200 5k".to_owned(), "size"),
        ("192.0.2.10 - - [01/Mar/2026:10:00:00 +0000] \"GET / HTTP/1.1\" 200 5 \"-\"".to_owned(), "cut off"),
        ("192.0.2.10 - - [01/Mar/2026:10:00:00 +0000] \"GET / HTTP/1.1\" 200 5 \"-\" \"Moz".to_owned(), "cut off"),
        (r#"{"remote_addr":"192.0.2.10","time":"2026-03-01T10:00:00Z"}"#.to_owned(), "input.format = \"json\""),
        ("#Fields: date time c-ip cs-method".to_owned(), "W3C"),
        ("2026-03-01 10:00:00 192.0.2.10 GET /a - 443 - 198.51.100.7 Mozilla 200".to_owned(), "the user"),
    ] {
        let rejection = rig.decode(line.as_bytes()).unwrap_err();
        assert_eq!(rejection.reason, RejectReason::Malformed, "{line}: {rejection}");
        assert!(rejection.detail.contains(detail), "{line}: {rejection}");
        assert!(!rejection.detail.contains("192.0.2"), "{rejection}");
        let redacted = String::from_utf8(rig.decoder.shown_payload(line.as_bytes()).unwrap().into_owned()).unwrap();
        for address in ["192.0.2", "203.0.113", "10.0.0.", "198.51.100"] {
            assert!(!redacted.contains(address), "{redacted}");
        }
    }
    assert!(rig.batch.is_empty());
}

/// nginx ships this format: the list from X-Forwarded-For follows the agent.
#[test]
fn behind_a_private_proxy_the_first_public_address_of_the_list_behind_the_agent_is_the_client() {
    let mut rig = rig(None);
    let plain = client(&mut rig, &format!("192.0.2.10 - - {REST}"));
    for (front, list) in [
        ("10.0.0.1", "192.0.2.10"),
        ("10.0.0.1", "192.0.2.10, 10.0.0.9"),
        ("::1", "10.1.2.3,192.0.2.10, 198.51.100.1"),
        ("100.64.0.1", "unknown, ::ffff:192.0.2.10"),
        ("shop.example:443 fd00::1", "192.0.2.10"),
    ] {
        assert_eq!(client(&mut rig, &format!(r#"{front} - - {REST} "{list}""#)), plain, "{front} {list}");
    }
    assert_eq!(client(&mut rig, &format!(r#"10.0.0.1 - - {REST} "192.0.2.10" 0.003"#)), plain);
    // A request by the proxy itself, and one from inside the network.
    let proxy = client(&mut rig, &format!("10.0.0.1 - - {REST}"));
    assert_ne!(proxy, plain);
    for list in ["-", "unknown", "10.0.0.1"] {
        assert_eq!(client(&mut rig, &format!(r#"10.0.0.1 - - {REST} "{list}""#)), proxy, "{list}");
    }
}

#[test]
fn requests_of_all_kinds_are_lines() {
    let mut rig = Rig::new(&format!(
        "{LOG}[[field]]\nname = \"status\"\ntype = \"int\"\npath = \"status\"\n[[field]]\nname = \"method\"\ntype = \"string\"\npath = \"method\""
    ));
    for (request, kind, path, method) in [
        (r#""GET / HTTP/2.0" 200 5"#, "page_view", "/", "GET"),
        (r#""GET /a b.html HTTP/1.1" 200 5"#, "page_view", "/a b.html", "GET"),
        (r#""GET /" 200 5"#, "page_view", "/", "GET"),
        (r#""GET /v HTTP/1.1" 203 5"#, "page_view", "/v", "GET"),
        (r#""GET /v HTTP/1.1" 304 0"#, "page_view", "/v", "GET"),
        // Part of a video is not a page, and neither is a response without content.
        (r#""GET /v HTTP/1.1" 206 5"#, "request", "/v", "GET"),
        (r#""GET /v HTTP/1.1" 204 0"#, "request", "/v", "GET"),
        (r#""HEAD / HTTP/1.1" 200 5"#, "request", "/", "HEAD"),
        (r#""GET / HTTP/1.1" 499 0"#, "request", "/", "GET"),
        (r#""M-SEARCH * HTTP/1.1" 400 0"#, "request", "*", "M-SEARCH"),
        (r#""-" 408 0"#, "request", "-", "-"),
        (r#""\x16\x03\x01 \x00" 400 150"#, "request", "-", "-"),
        (r#""GET /\"q\" HTTP/1.1" 404 -"#, "request", r#"/\"q\""#, "GET"),
    ] {
        let line = format!("192.0.2.10 - - [01/Mar/2026:10:00:00 +0000] {request}");
        assert_eq!(rig.decode(line.as_bytes()), Ok(1), "{line}");
        let found = [rig.show("event_type"), rig.show("page.path"), rig.show("method")];
        assert_eq!(found, [kind, path, method], "{line}");
    }
}

#[test]
fn a_declared_format_is_read_in_the_words_of_nginx_and_of_apache() {
    let plain = client(&mut rig(None), &format!("192.0.2.10 - - {REST}"));
    let main = r#"$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent" "$http_x_forwarded_for""#;
    for (format, line) in [
        (main, format!(r#"10.0.0.1 - - {REST} "192.0.2.10, 10.0.0.3""#)),
        (main, format!(r#"192.0.2.10 - - {REST} "-""#)),
        (main, format!(r#"192.0.2.10 - - {REST} "unknown""#)),
        (main, format!(r#"192.0.2.10 - - {REST} "_hidden, unknown""#)),
        (main, format!(r#"10.0.0.1 - - {REST} "10.0.0.5, 192.0.2.10""#)),
        (main, format!(r#"unix: - - {REST} "192.0.2.10""#)),
        (main, format!(r#"198.51.100.1 - - {REST} "192.0.2.10""#)),
        ("main", format!(r#"10.0.0.1 - - {REST} "192.0.2.10, 10.0.0.3""#)),
        ("Combined", format!("192.0.2.10 - - {REST}")),
        ("combinedio", format!("192.0.2.10 - - {REST} 400 900")),
        (
            "log_format main '$remote_addr - $remote_user [$time_local] \"$request\" '\n    '$status $body_bytes_sent \"$http_referer\" '\n    '\"$http_user_agent\"';",
            format!("192.0.2.10 - - {REST}"),
        ),
        (
            r#"log_format own escape=default "$remote_addr - $remote_user [$time_local] \"$request\" $status $body_bytes_sent \"-\" \"$http_user_agent\"";"#,
            format!("192.0.2.10 - - {REST}"),
        ),
        (
            r#"'$remote_addr - $remote_user [$time_local] "$request" ' '$status $body_bytes_sent "-" "$http_user_agent"';"#,
            format!("192.0.2.10 - - {REST}"),
        ),
        (
            r#"LogFormat "%h %l %u %t \"%r\" %>s %b \"%{Referer}i\" \"%{User-Agent}i\"" combined"#,
            format!("192.0.2.10 - - {REST}"),
        ),
        (main, format!(r#"<190>Mar  1 10:00:00 web1 nginx: 192.0.2.10 - - {REST} "-""#)),
        (
            r#"$http_x_forwarded_for $remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent""#,
            format!("192.0.2.10, 10.0.0.3 10.0.0.1 - - {REST}"),
        ),
        (
            r#"$time_iso8601|${remote_addr}|$request_method|$request_uri|$status|"$http_user_agent""#,
            format!("2026-03-01T11:00:00+01:00|192.0.2.10|GET|/a?x|200|{AGENT}"),
        ),
        (
            r#"$msec $host "$http_user_agent" $request_method $uri $status $remote_addr"#,
            format!("1772359200.000 shop.example {AGENT} GET /a 200 192.0.2.10"),
        ),
        ("combined", format!("192.0.2.10 - - {REST}\r\n")),
        ("vhost_combined", format!("shop.example:443 192.0.2.10 - - {REST}")),
        (
            r#"%v:%p %{X-Forwarded-For}i %h %l %u %t \"%r\" %>s %O \"%{Referer}i\" \"%{User-Agent}i\" %D"#,
            format!("shop.example:443 192.0.2.10, 10.0.0.3 10.0.0.1 - - {REST} 1234"),
        ),
        (
            r#"%{X-Forwarded-For}i %h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-agent}i""#,
            format!("- 192.0.2.10 - - {REST}"),
        ),
        (
            r#"%{%s}t 100%% %a "%{User-Agent}i" %m %U%q %H %!200,304s"#,
            format!("1772359200 100% 192.0.2.10 {AGENT} GET /a?x=1 HTTP/1.1 200"),
        ),
    ] {
        let mut rig = match LogFault::of(format) {
            None => rig(Some(format)),
            // `%U%q` has no text between its variables.
            Some(error) => {
                assert!(format.contains("%U%q") && error.contains("side by side"), "{format}: {error}");
                continue;
            }
        };
        assert_eq!(client(&mut rig, &line), plain, "{format}");
    }
    let mut rig = rig(Some(main));
    for (line, detail) in [
        (format!("10.0.0.1 - - {REST}"), "the user agent"),
        (format!(r#"10.0.0.1 - - {REST} "-" more"#), "behind the end"),
        (format!(r#"unix: - - {REST} "-""#), "the client's address"),
        (format!(r#"10.0.0.1 - 192.0.2.10 {REST} "-""#), "the user"),
        (format!(r#"10.0.0.1 - 192.0.2.10, {REST} "-""#), "the user"),
        (format!(r#"10.0.0.1 - shop.example:443 {REST} "-""#), "the user"),
        (format!(r#"unknown - - {REST} "unknown""#), "the client's address"),
        (format!(r#"0.0.0.0 - - {REST} "-""#), "the client's address"),
        (format!(r#"10.0.0.1 - - {REST} "a b""#), "the list of addresses"),
        (format!(r#"- - - {REST} "-""#), "is not given"),
        (r#"10.0.0.1 - - [01/Mar/2026:10:00:00 +0000] "GET /" two 5 "-" "-" "-""#.to_owned(), "the status"),
    ] {
        let rejection = rig.decode(line.as_bytes()).unwrap_err();
        assert!(rejection.detail.contains(detail), "{line}: {rejection}");
    }
}

/// The error in a format.
struct LogFault;

impl LogFault {
    fn of(format: &str) -> Option<String> {
        let sections = format!("{LOG}log_format = {}", toml::Value::from(format));
        Rig::compile(&sections).err().map(|errors| errors[0].message.clone())
    }
}

#[test]
fn a_format_that_cannot_be_read_is_a_fault_with_the_next_step() {
    for (format, message) in [
        ("plain text", "no client"),
        ("$time_local $request", "no client"),
        ("%h %l %u", "no time"),
        ("%h%t", "side by side"),
        ("$remote_addr ${time_local", "without its }"),
        ("%h %{Referer", "without its }"),
        ("%h %t %", "without a letter"),
        ("$remote_addr $ [$time_local]", "without a name"),
        ("%h %{%d/%b}t", "is not read"),
        ("combinedlo", "the formats are common, combined, combinedio, main, vhost_common, vhost_combined"),
        ("log_format main", "cannot be read"),
        ("log_format main '$remote_addr [$time_local]", "cannot be read"),
        ("log_format main $remote_addr;", "no time"),
        ("LogFormat %h", "cannot be read"),
        ("LogFormat \"%h\" own", "no time"),
        ("CustomLog logs/access.log combined", "only by a name"),
        ("access_log /var/log/nginx/access.log main;", "only by a name"),
    ] {
        // `%t` includes its brackets, so the two variables are separated.
        let found = LogFault::of(format);
        if format == "%h%t" {
            assert_eq!(found, None);
            continue;
        }
        assert!(found.clone().unwrap_or_default().contains(message), "{format}: {found:?}");
    }
    for sections in ["[input]\nlog_format = \"combined\"", "[input]\nformat = \"protobuf\"\nlog_format = \"combined\""]
    {
        let errors = Rig::compile(sections).err().unwrap_or_default();
        assert!(errors.iter().any(|error| error.key == "input.log_format" && error.hint.is_some()), "{errors:?}");
    }
}
