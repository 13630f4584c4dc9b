//! Clients that ask for too much, do not read, or come all at once.

use super::{HOUR, LIMITS, Limits, Server, decision};
use crate::proto::v1;
use serde_json::{Value, json};
use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

/// Sends this request again and again, reads nothing, and returns whether the connection was closed.
fn sends_without_reading(server: &Server, request: &[u8]) -> bool {
    let mut stream = server.connect();
    stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline {
        match stream.write_all(request) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return true,
        }
    }
    false
}

#[test]
fn a_client_that_does_not_read_loses_its_connection() {
    let server = Server::with(Limits { write: Duration::from_millis(300), ..LIMITS }, None, false);
    assert!(sends_without_reading(&server, &b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n".repeat(16)));
    let deadline = Instant::now() + Duration::from_secs(5);
    while server.shared.figures.connections() > 0 {
        assert!(Instant::now() < deadline, "its place is not free again");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(server.get("/livez").status, 200);
}

#[test]
fn an_answer_about_several_users_is_bounded_in_bytes() {
    let server = Server::with(Limits { answer_bytes: 200, ..LIMITS }, None, false);
    for user in ["a", "b", "c"] {
        server.keep(user, &decision(user, HOUR));
    }
    let answer = server.ask("POST", "/v1/decisions:batch", "", r#"{"users":["a","b","c"]}"#).json();
    let found = answer["decisions"].as_array().unwrap();
    let statuses: Vec<&str> = found.iter().map(|it| it["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["found", "left_out", "left_out"], "{answer}");
    assert_eq!(found[1]["decision"], Value::Null);
    let only = server.ask("POST", "/v1/decisions:batch", "accept: application/x-protobuf\r\n", r#"{"users":["a"]}"#);
    assert_eq!(only.status, 406);
}

#[test]
fn other_requests_are_answered_while_an_answer_about_many_users_is_made() {
    let limits = Limits { batch: 100_000, body_bytes: 4 << 20, answer_bytes: 64 << 20, ..LIMITS };
    let server = Server::with(limits, None, false);
    let mut it = decision("a", HOUR);
    it.segments = (0..500).map(|id| v1::Segment { id: id.to_string(), ..v1::Segment::default() }).collect();
    server.keep("a", &it);
    let body = json!({ "users": vec!["a"; 2_000] }).to_string();
    let mut batch = server.connect();
    batch.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    let head = format!("POST /v1/decisions:batch HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
    batch.write_all((head + &body).as_bytes()).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while server.shared.figures.bodies() == 0 {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
    assert_eq!(server.get("/livez").status, 200);
    assert_eq!(server.shared.figures.bodies(), 1, "the long answer was first");
    let mut first = [0; 12];
    batch.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
}

#[test]
fn each_of_many_connections_at_once_has_a_place_or_is_counted_as_turned_away() {
    const COUNT: usize = 40;
    let server = Server::start(None, false);
    // Other tests of this process may add to it.
    let turned_away = || {
        let name = "aimpoint_serve_turned_away_total{reason=\"connections\"} ";
        let text = server.shared.admin.prometheus();
        let count = text.lines().find_map(|line| line.strip_prefix(name));
        count.map_or(0, |count| count.parse::<usize>().unwrap())
    };
    let before = turned_away();
    let all: Vec<TcpStream> = (0..COUNT).map(|_| server.connect()).collect();
    let deadline = Instant::now() + Duration::from_secs(10);
    while turned_away() - before < COUNT - LIMITS.connections {
        assert!(Instant::now() < deadline, "{} were counted", turned_away() - before);
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(server.shared.figures.connections(), LIMITS.connections);
    drop(all);
}
