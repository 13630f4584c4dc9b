//! The answers over real connections, without Kafka.

mod clients;
mod grpc;
mod share;
mod tls;

use super::{
    body::Limits,
    connections::{self, Answers, Door},
    figures::Figures,
    follow::{now, phase},
    grpc::GrpcAnswerer,
    look::Look,
    owners::Owners,
    routes::{Answerer, Shared},
    tls::Tls,
    tokens::Tokens,
};
use crate::{
    event::UserKeys,
    proto::v1,
    secret::Secret,
    serve::{Enricher, Mutator, RecordReader, ServeSpec, Store},
    status::{RoleName, RolePhase, RoleStatus},
    telemetry::admin::AdminState,
};
use prost::Message;
use serde_json::{Value, json};
use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};
use tokio::sync::watch;

const LIMITS: Limits = Limits {
    connections: 8,
    requests: 2,
    body_bytes: 4_096,
    batch: 3,
    answer_bytes: 4_096,
    body: Duration::from_secs(2),
    write: Duration::from_secs(1),
    idle: Duration::from_secs(5),
};

struct Server {
    address: SocketAddr,
    grpc: SocketAddr,
    shared: Arc<Shared>,
    status: RoleStatus,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<std::io::Result<()>>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || matches!(ended, Some(Ok(Ok(())))));
    }
}

impl Server {
    fn start(token: Option<&str>, enriches: bool) -> Self {
        Self::with(LIMITS, token, enriches)
    }

    fn with(limits: Limits, token: Option<&str>, enriches: bool) -> Self {
        Self::with_tls(limits, token, enriches, None)
    }

    fn with_tls(limits: Limits, token: Option<&str>, enriches: bool, tls: Option<Tls>) -> Self {
        Self::of(Store::default(), limits, token, enriches, tls, None)
    }

    fn of(
        store: Store,
        limits: Limits,
        token: Option<&str>,
        enriches: bool,
        tls: Option<Tls>,
        owners: Option<Owners>,
    ) -> Self {
        let status = RoleStatus::of(RoleName::Serve);
        let admin = AdminState::new("test".to_owned(), json!({}), None, None);
        admin.set_role(status.clone());
        let shared = Arc::new(Shared {
            users: UserKeys::default(),
            store: Arc::new(store),
            figures: Arc::new(Figures::default()),
            admin: Arc::new(admin),
            limits,
            tokens: token.map(|token| Tokens::of(&Secret::new(token))),
            tls,
            owners: owners.map(Arc::new),
        });
        let text = "provider = { name = \"shop.example\" }\n[consent]\nenabled = true\nvendor_id = 7\nwithout_law = [\"emit\"]";
        let spec: ServeSpec = toml::from_str(text).unwrap();
        let enricher = enriches.then(|| {
            let rules = spec.rules(&mut Vec::new());
            Enricher::new(spec.provider.as_ref().unwrap(), spec.identity.clone(), UserKeys::default(), rules)
        });
        // Where no law is named, nothing is forbidden.
        let text = "[consent]\nenabled = true\nvendor_id = 7\nwithout_law = [\"emit\"]\nunknown_law = [\"emit\"]";
        let rules = toml::from_str::<ServeSpec>(text).unwrap().rules(&mut Vec::new());
        let mutator = Mutator::new("s1", spec.identity.clone(), UserKeys::default(), rules);
        let answerer = Answerer { shared: Arc::clone(&shared), enricher: enricher.map(Into::into) };
        let grpc = GrpcAnswerer::new(Arc::clone(&shared), mutator).unwrap();
        let doors = [Answers::Http(Arc::new(answerer)), Answers::Grpc(Arc::new(grpc))].map(|answers| {
            let listener = connections::listen(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
            Door { listener, answers }
        });
        let [address, grpc] = doors.each_ref().map(|door| door.listener.local_addr().unwrap());
        let (stop, stopped) = watch::channel(false);
        let thread = std::thread::spawn(move || connections::run(doors.into(), &stopped));
        Self { address, grpc, shared, status, stop, thread: Some(thread) }
    }

    fn keep(&self, key: &str, decision: &v1::Decision) {
        self.keep_in(0, key, decision);
    }

    fn keep_in(&self, partition: i32, key: &str, decision: &v1::Decision) {
        let (mut reader, payload) = (RecordReader::new("shop"), decision.encode_to_vec());
        let (key, change) = reader.read(Some(key.as_bytes()), Some(&payload)).unwrap();
        self.shared.store.apply(partition, key, change, decision.decided_at);
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        ask(&mut self.connect(), method, path, headers, body)
    }

    fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "", "")
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

fn ask(stream: &mut (impl Read + Write), method: &str, path: &str, headers: &str, body: &str) -> Answer {
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n{headers}\r\n");
    // The server may answer and close before it has read everything.
    stream.write_all((head + body).as_bytes()).unwrap_or_default();
    answer(stream).expect("an answer")
}

/// Reads one answer. `None` if the connection was closed.
fn answer(stream: &mut impl Read) -> Option<Answer> {
    let (mut bytes, mut part) = (Vec::new(), [0; 4_096]);
    loop {
        if let Some(at) = bytes.windows(4).position(|it| it == b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..at].to_vec()).unwrap();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
            if bytes.len() >= at + 4 + length.parse::<usize>().unwrap() {
                let status = head.split(' ').nth(1).unwrap().parse().unwrap();
                return Some(Answer { status, head, body: bytes.split_off(at + 4) });
            }
        }
        match stream.read(&mut part) {
            Ok(0) => return None,
            Ok(count) => bytes.extend_from_slice(&part[..count]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
            Err(error) => panic!("{error}"),
        }
    }
}

fn decision(user: &str, lives_for: i64) -> v1::Decision {
    let now = now();
    v1::Decision {
        decision_id: format!("shop:clicks-0-{now}"),
        user_key: user.to_owned(),
        key_type: v1::KeyType::Person.into(),
        decided_at: now,
        expires_at: now + lives_for,
        segments: vec![v1::Segment { id: "1".to_owned(), segtax: 4, ..v1::Segment::default() }],
        ..v1::Decision::default()
    }
}

const HOUR: i64 = 3_600_000_000;

#[test]
fn a_decision_is_given_in_the_form_that_is_wanted_and_once() {
    let server = Server::start(None, false);
    let it = decision("a/b ä", HOUR);
    server.keep("a/b ä", &it);
    server.keep("old", &decision("old", -1));
    let path = "/v1/decisions/a%2Fb%20%C3%A4";
    let json = server.get(path);
    assert_eq!((json.status, json.header("content-type")), (200, Some("application/json")));
    assert_eq!(json.json()["decision_id"], it.decision_id);
    let wants = "accept: application/x-protobuf\r\n";
    let protobuf = server.ask("GET", path, wants, "");
    assert_eq!((protobuf.status, protobuf.header("content-type")), (200, Some("application/x-protobuf")));
    assert_eq!(v1::Decision::decode(&protobuf.body[..]).unwrap(), it);

    let [json_tag, tag] = [&json, &protobuf].map(|answer| answer.header("etag").unwrap().to_owned());
    assert_ne!(json_tag, tag);
    let mut stream = server.connect();
    let same = ask(&mut stream, "GET", path, &format!("{wants}if-none-match: \"x\", {tag}\r\n"), "");
    assert_eq!((same.status, same.body.len(), same.header("etag")), (304, 0, Some(tag.as_str())));
    server.keep("a/b ä", &v1::Decision { decided_at: it.decided_at + 1, ..it });
    let changed = ask(&mut stream, "GET", path, &format!("{wants}if-none-match: {tag}\r\n"), "");
    assert_eq!(changed.status, 200, "on the same connection");

    for (method, path, headers, status) in [
        ("GET", "/v1/decisions/old", "", 410),
        ("GET", "/v1/decisions/nobody", "", 404),
        ("GET", "/v1/decisions/%ff", "", 400),
        ("GET", path, "accept: text/html\r\n", 406),
        ("POST", path, "", 405),
        ("GET", "/v1/decisions/", "", 404),
        ("GET", "/v1/decisions", "", 404),
        ("GET", "/v1/decisions:batch", "", 405),
        ("GET", "/openrtb2/enrich", "", 405),
        ("GET", "/", "", 404),
    ] {
        assert_eq!(server.ask(method, path, headers, "").status, status, "{method} {path}");
    }
}

#[test]
fn several_decisions_come_in_the_order_of_the_request() {
    let server = Server::start(None, false);
    server.keep("a", &decision("a", HOUR));
    server.keep("old", &decision("old", -1));
    let batch = |body: &str| server.ask("POST", "/v1/decisions:batch", "", body);
    let answer = batch(r#"{"users":["nobody","a","old"]}"#).json();
    let found: Vec<&str> =
        answer["decisions"].as_array().unwrap().iter().map(|it| it["status"].as_str().unwrap()).collect();
    assert_eq!(found, ["unknown", "found", "expired"]);
    assert_eq!(answer["decisions"][1]["decision"]["user_key"], "a");
    assert_eq!(answer["decisions"][0]["decision"], Value::Null);
    assert_eq!(batch(r#"{"users":["a","b","c","d"]}"#).status, 413);
    let wrong = batch("{\"users\":[\"a\",\n7]}");
    assert_eq!((wrong.status, wrong.text().starts_with("line 2, column 1: ")), (400, true), "{wrong:?}");
    assert_eq!(server.ask("POST", "/openrtb2/enrich", "", "{}").status, 404, "there is no provider");
}

#[test]
fn a_bid_request_is_enriched_or_given_back_with_the_reason() {
    let server = Server::start(None, true);
    server.keep("ann", &decision("ann", HOUR));
    let enrich = |body: &str| server.ask("POST", "/openrtb2/enrich", "", body);
    let request = r#"{"user":{"buyeruid":"ann"},"regs":{"gdpr":0},"n":1.50}"#;
    let answer = enrich(request);
    assert_eq!((answer.status, answer.header("aimpoint-outcome")), (200, Some("enriched")));
    assert_eq!(answer.json()["user"]["data"][0]["segment"][0]["id"], "1");
    assert!(answer.text().ends_with(r#","regs":{"gdpr":0},"n":1.50}"#));
    let request = r#"{"user":{"buyeruid":"ann"},"regs":{"gdpr":1}}"#;
    let answer = enrich(request);
    assert_eq!((answer.status, answer.text()), (200, request));
    assert_eq!(
        (answer.header("aimpoint-outcome"), answer.header("aimpoint-reason")),
        (Some("refused"), Some("string_missing"))
    );
    let answer = enrich("{\n x}");
    assert_eq!((answer.status, answer.text()), (400, "line 2, column 2: no JSON\n"));
    server.shared.figures.publish();
    let metrics = server.get("/metrics");
    for line in [
        "aimpoint_serve_bid_requests_total{outcome=\"enriched\"} ",
        "aimpoint_serve_refused_total{reason=\"string_missing\"} ",
        "aimpoint_serve_answer_seconds_count ",
    ] {
        assert!(metrics.text().contains(line), "{line}: {}", metrics.text());
    }
}

#[test]
fn a_token_is_needed_for_all_but_the_probes() {
    let server = Server::start(Some("0123456789abcdef"), true);
    server.keep("a", &decision("a", HOUR));
    for (headers, status) in [
        ("", 401),
        ("authorization: Bearer 0123456789abcdeX\r\n", 401),
        ("authorization: 0123456789abcdef\r\n", 401),
        ("authorization: Basic 0123456789abcdef\r\n", 401),
        ("authorization: Bearer 0123456789abcdef\r\n", 200),
        ("authorization: bearer  0123456789abcdef\r\n", 200),
    ] {
        for (method, path) in [("GET", "/v1/decisions/a"), ("GET", "/metrics"), ("POST", "/openrtb2/enrich")] {
            assert_eq!(server.ask(method, path, headers, "{}").status, status, "{path} {headers}");
        }
    }
    assert_eq!(server.get("/livez").status, 200);
    let ready = server.get("/readyz");
    assert_eq!((ready.status, ready.text()), (503, "the process is starting\n"));
    server.status.set(RolePhase::Ready("serving"));
    assert_eq!((server.get("/readyz").status, server.get("/readyz").text()), (200, "ready\n"));
}

#[test]
fn bodies_are_bounded_in_length_time_and_number() {
    let server = Server::start(None, true);
    let long = format!("{{\"x\":\"{}\"}}", "x".repeat(5_000));
    assert_eq!(server.ask("POST", "/openrtb2/enrich", "", &long).status, 413);
    assert_eq!(server.ask("POST", "/openrtb2/enrich", "content-encoding: gzip\r\n", "x").status, 415);
    // Without a length in advance.
    let mut stream = server.connect();
    let head = "POST /openrtb2/enrich HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1388\r\n";
    stream.write_all((head.to_owned() + &long + "\r\n0\r\n\r\n").as_bytes()).unwrap_or_default();
    assert_eq!(answer(&mut stream).unwrap().status, 413);

    let begin = || {
        let mut stream = server.connect();
        stream.write_all(b"POST /openrtb2/enrich HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{").unwrap();
        stream
    };
    let started = Instant::now();
    let mut slow = [begin(), begin()];
    // Both places are taken: the next one need not wait.
    let deadline = Instant::now() + Duration::from_secs(5);
    while server.shared.figures.bodies() < LIMITS.requests {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
    let full = server.ask("POST", "/openrtb2/enrich", "", "{}");
    assert_eq!((full.status, full.header("retry-after")), (429, Some("1")));
    assert_eq!(server.get("/livez").status, 200, "a request without a body needs no place");
    for stream in &mut slow {
        assert_eq!(answer(stream).unwrap().status, 408);
    }
    assert!(started.elapsed() >= LIMITS.body);
    // A place becomes free right after the answer.
    let deadline = Instant::now() + Duration::from_secs(5);
    while server.shared.figures.bodies() > 0 {
        assert!(Instant::now() < deadline, "the places are not free again");
        std::thread::yield_now();
    }
    assert_eq!(server.ask("POST", "/openrtb2/enrich", "", "{}").status, 200);
}

#[test]
fn more_connections_than_there_may_be_are_told_to_come_back() {
    let server = Server::start(None, false);
    let mut open: Vec<TcpStream> = (0..LIMITS.connections).map(|_| server.connect()).collect();
    for stream in &mut open {
        assert_eq!(ask(stream, "GET", "/livez", "", "").status, 200);
    }
    let full = server.get("/livez");
    assert_eq!((full.status, full.header("connection")), (429, Some("close")));
    drop(open);
    let deadline = Instant::now() + Duration::from_secs(5);
    while server.get("/livez").status != 200 {
        assert!(Instant::now() < deadline);
    }
}

#[test]
fn a_long_head_is_refused_and_stopping_ends_idle_connections() {
    let server = Server::start(None, false);
    let long = server.ask("GET", "/livez", &format!("x: {}\r\n", "x".repeat(20_000)), "");
    assert_eq!(long.status, 431);
    let mut idle = server.connect();
    assert_eq!(ask(&mut idle, "GET", "/livez", "", "").status, 200);
    server.stop.send_replace(true);
    assert!(answer(&mut idle).is_none());
}

#[test]
fn a_silent_connection_and_a_head_that_does_not_end_are_closed() {
    let idle = Duration::from_millis(300);
    let server = Server::with(Limits { idle, ..LIMITS }, None, false);
    let mut silent = server.connect();
    assert_eq!(ask(&mut silent, "GET", "/livez", "", "").status, 200);
    let mut slow = server.connect();
    slow.write_all(b"GET /livez HTTP/1.1\r\nx: ").unwrap();
    let begun = Instant::now();
    for stream in [&mut silent, &mut slow] {
        // A server may say that it took too long before it closes.
        while answer(stream).is_some() {}
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[test]
fn readiness_needs_all_records_and_a_recent_look() {
    let second = Duration::from_secs(1);
    assert_eq!(phase(true, 5, second, second), RolePhase::Ready("serving"));
    let RolePhase::NotReady(why) = phase(false, 5, Duration::ZERO, second) else { panic!("it is ready") };
    assert_eq!(why, "serve is reading the decisions: 5 records so far");
    let RolePhase::NotReady(why) = phase(true, 5, 75 * second, second) else { panic!("it is ready") };
    assert_eq!(why, "serve has not known for 1m 15s whether everything is read (serve.stale_max)");
}

#[test]
fn a_topic_that_is_shorter_than_what_was_read_is_another_one() {
    let look = |read_to: &[(i32, i64)], ends: &[(i32, i64)]| {
        let read_to = read_to.iter().copied().collect();
        Look { asked_at: Instant::now(), read_to, ends: ends.to_vec() }.fits()
    };
    assert!(look(&[], &[]) && look(&[], &[(0, 0)]));
    assert!(look(&[(0, 5), (1, 3)], &[(0, 5), (1, 9), (2, 0)]));
    assert!(!look(&[(0, 5), (1, 3)], &[(0, 4), (1, 9)]));
    assert!(!look(&[(0, 5), (1, 3)], &[(0, 5)]));
}
