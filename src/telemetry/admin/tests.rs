use super::*;
use crate::engine::{PartitionView, Seen};
use metrics_exporter_prometheus::PrometheusBuilder;
use std::io::{Read, Write};

const TOKEN: &str = "0123456789abcdef";

fn board(token: Option<&str>) -> Arc<Board> {
    let handle = PrometheusBuilder::new().build_recorder().handle();
    Arc::new(Board::new("shop, a-0".to_owned(), json!({ "admin": { "token": "***" } }), token, handle, None))
}

fn started(board: &Arc<Board>) -> SocketAddr {
    serve(Some(SocketAddr::new(USUAL.ip(), 0)), Arc::clone(board)).expect("a free port")
}

/// Sends a request as it is and gives status, head and body.
fn send(at: SocketAddr, request: &str) -> (u16, String, String) {
    let mut stream = std::net::TcpStream::connect(at).expect("the server listens");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout can be set");
    stream.write_all(request.as_bytes()).expect("a request can be sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer comes");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|it| it.parse().ok()).expect("a status");
    (status, head.to_lowercase(), body.to_owned())
}

fn get(at: SocketAddr, path: &str) -> (u16, String, String) {
    send(at, &format!("GET {path} HTTP/1.1\r\nHost: {at}\r\n\r\n"))
}

/// A worker that is a member of the group and holds one partition.
fn worker(phase: Phase) -> Progress {
    let progress = Progress::default();
    let view = progress.view();
    view.describe(["keen"].into_iter(), None);
    view.happened(EventTime(5), "assigned", "partitions [3]".to_owned());
    view.partitions(vec![PartitionView {
        number: 3,
        phase,
        next: 40,
        emit_from: 100,
        end: Some(120),
        newest: None,
        profiles: 9,
        profile_bytes: 900,
        dirty: 0,
    }]);
    progress
}

#[test]
fn every_path_answers_with_its_type_and_the_policy() {
    let board = board(None);
    board.workers(&[worker(Phase::Moving)]);
    let at = started(&board);
    for (path, kind, part) in [
        ("/", "text/html", "<title>Aimpoint</title>"),
        ("/page.js", "text/javascript", "textContent"),
        ("/page.css", "text/css", "prefers-color-scheme"),
        ("/healthz", "text/plain", "alive"),
        ("/readyz", "text/plain", "ready"),
        ("/metrics", "text/plain; version=0.0.4", "aimpoint_lag_records{partition=\"3\"} 80"),
        ("/version", "application/json", env!("CARGO_PKG_VERSION")),
        ("/config", "application/json", "\"token\": \"***\""),
        ("/snapshot", "application/json", "\"title\":\"shop, a-0\""),
    ] {
        let (status, head, body) = get(at, path);
        assert_eq!(status, 200, "{path}: {body}");
        assert!(head.contains(&format!("content-type: {kind}")), "{path}: {head}");
        assert!(head.contains("content-security-policy: default-src 'none'; script-src 'self'"), "{path}: {head}");
        assert!(head.contains("x-content-type-options: nosniff"), "{path}: {head}");
        assert!(body.contains(part), "{path}: {part:?} is missing in {body}");
    }
    assert_eq!(get(at, "/nowhere").0, 404);
    assert_eq!(send(at, &format!("POST /metrics HTTP/1.1\r\nHost: {at}\r\nContent-Length: 0\r\n\r\n")).0, 405);
}

#[test]
fn the_page_s_files_hold_no_way_for_a_text_to_become_code() {
    for banned in
        ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(", "http://", "https://"]
    {
        let script = SCRIPT.replace("http://www.w3.org/2000/svg", "");
        assert!(!script.contains(banned), "{banned}");
    }
    assert!(
        !PAGE.contains("<style") && !PAGE.contains("style=") && !PAGE.contains("onclick"),
        "the policy forbids these"
    );
    let page = PAGE.replace("http://www.w3.org/2000/svg", "");
    assert!(!page.contains("http://") && !page.contains("https://"), "nothing comes from elsewhere");
    for id in SCRIPT.split("by(\"").skip(1).chain(SCRIPT.split("set(\"").skip(1)) {
        let id = id.split('"').next().unwrap_or_default();
        assert!(PAGE.contains(&format!("id=\"{id}\"")), "the page has no {id:?}");
    }
}

#[test]
fn readiness_gives_its_reasons() {
    let board = board(None);
    let at = started(&board);
    assert_eq!(get(at, "/readyz").2, "the model and the workers are being loaded\n");
    board.workers(&[worker(Phase::Replaying), Progress::default()]);
    let (status, _, body) = get(at, "/readyz");
    assert_eq!(status, 503);
    assert_eq!(
        body,
        "partition 3 reads input again: 60 records are left\nworker 1 waits for the group to assign partitions\n"
    );
    assert_eq!(get(at, "/healthz").0, 200);
    board.workers(&[worker(Phase::Moving)]);
    assert_eq!(get(at, "/readyz").0, 200);
    board.stopping();
    assert_eq!(get(at, "/readyz"), {
        let it = get(at, "/readyz");
        (503, it.1, "the process is stopping\n".to_owned())
    });
}

#[test]
fn a_token_opens_all_but_the_page_and_the_probes() {
    let at = started(&board(Some(TOKEN)));
    for path in ["/metrics", "/snapshot", "/config", "/version", "/log"] {
        assert_eq!(get(at, path).0, 401, "{path}");
        let with = |token: &str| {
            send(at, &format!("GET {path} HTTP/1.1\r\nHost: aimpoint.example\r\nAuthorization: Bearer {token}\r\n\r\n"))
                .0
        };
        assert_eq!((with("wrong"), with(TOKEN)), (401, 200), "{path}");
    }
    for path in ["/", "/page.js", "/page.css", "/healthz"] {
        assert_eq!(get(at, path).0, 200, "{path}");
    }
    assert_eq!(get(at, "/readyz").0, 503);
}

#[test]
fn without_a_token_a_web_site_s_name_is_refused() {
    let at = started(&board(None));
    let by_host = |host: &str| send(at, &format!("GET /config HTTP/1.1\r\nHost: {host}\r\n\r\n")).0;
    assert_eq!([by_host("localhost:9464"), by_host("127.0.0.1"), by_host("[::1]:80")], [200; 3]);
    assert_eq!([by_host("evil.example:9464"), by_host("localhost.evil.example")], [403; 2]);
}

#[test]
fn users_are_shown_under_a_name_that_only_this_process_knows() {
    let progress = worker(Phase::Moving);
    let mut counts = Counts::default();
    counts.detail.last = Some(Seen {
        user_hash: 0xdead_beef,
        position: crate::event::Position { partition: 3, offset: 7, index: 0 },
        occurred_at: EventTime(0),
        decided_at: EventTime(1_000),
        status: crate::decision::Status::Targeted,
        score: Some(0.5),
        segments: 1,
    });
    progress.view().committed(&counts.detail, EventTime(2_000));
    let shown = [board(None), board(None)].map(|board| {
        board.workers(std::slice::from_ref(&progress));
        board.snapshot()
    });
    assert_eq!(shown[0]["seen"][0]["segments"], json!(["keen"]));
    let names = shown.map(|it| it["seen"][0]["user"].as_str().map(str::to_owned).expect("a name"));
    assert_ne!(names[0], names[1], "two processes, two keys");
    assert!(!names.iter().any(|name| name.contains("deadbeef")), "{names:?}");
}

#[test]
fn clients_that_say_nothing_hold_nobody_up() {
    let at = started(&board(None));
    let silent: Vec<_> =
        (0..CONNECTIONS_MAX / 2).map(|_| std::net::TcpStream::connect(at).expect("the server listens")).collect();
    let start = Instant::now();
    assert_eq!(get(at, "/healthz").0, 200);
    assert!(start.elapsed() < HEAD_DEADLINE, "it waited for {:?}", start.elapsed());
    drop(silent);
}

#[test]
fn a_body_without_end_is_refused() {
    let at = started(&board(None));
    let body = "x".repeat(BODY_BYTES_MAX + 1);
    let request = format!("PUT /log HTTP/1.1\r\nHost: {at}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    assert_eq!(send(at, &request).0, 413);
}
