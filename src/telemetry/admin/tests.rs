use super::{
    routes::{BODY_BYTES_MAX, COMMON, CONTROL_PAGE, CONTROL_SCRIPT, PAGE, SCRIPT},
    server::{ANSWERING_MAX, BODY_DEADLINE, CONNECTION_DEADLINE, HEAD_DEADLINE},
    *,
};
use crate::status::{Counts, PartitionView, RecentDecision};
use serde_json::json;
use std::io::{Read, Write};

const TOKEN: &str = "0123456789abcdef";

fn state(token: Option<&str>) -> Arc<AdminState> {
    Arc::new(AdminState::new("shop, a-0".to_owned(), json!({ "admin": { "token": "***" } }), token, None))
}

fn started(state: &Arc<AdminState>) -> SocketAddr {
    serve(Some(SocketAddr::new(DEFAULT_ADDRESS.ip(), 0)), Arc::clone(state)).expect("a free port")
}

/// Sends a raw request, and returns status, head and body.
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

fn get_with(at: SocketAddr, path: &str) -> (u16, String, String) {
    send(at, &format!("GET {path} HTTP/1.1\r\nHost: {at}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"))
}

/// A worker that is a member of the group and holds one partition.
fn worker(phase: Phase) -> Progress {
    let progress = Progress::default();
    let view = progress.view();
    view.describe([("keen", 0, None)].into_iter(), ["spring"].into_iter(), None);
    view.happened(EventTime(5), "assigned", "partitions [3]".to_owned());
    view.partitions(vec![PartitionView {
        number: 3,
        phase,
        next: 40,
        replay_until: 100,
        end: Some(120),
        newest: None,
        profiles: 9,
        profile_bytes: 900,
        dirty: 0,
        members: Vec::new(),
    }]);
    progress
}

#[test]
fn every_path_answers_with_its_type_and_the_policy() {
    let state = state(None);
    state.set_workers(&[worker(Phase::Moving)]);
    let at = started(&state);
    for (path, kind, part) in [
        ("/", "text/html", "<title>Aimpoint</title>"),
        ("/common.js", "text/javascript", "textContent"),
        ("/page.js", "text/javascript", "./common.js"),
        ("/control.js", "text/javascript", "./common.js"),
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
    const BANNED: [&str; 10] = [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "Function(",
        "http://",
        "https://",
        ".style",
        "import(",
    ];
    for (page, script) in [(PAGE, SCRIPT), (CONTROL_PAGE, CONTROL_SCRIPT)] {
        let scripts = [COMMON, script].concat();
        for banned in BANNED {
            assert!(!scripts.replace("http://www.w3.org/2000/svg", "").contains(banned), "{banned}");
        }
        for banned in ["<style", "style=", "onclick", "http://", "https://"] {
            let page = page.replace("http://www.w3.org/2000/svg", "");
            assert!(!page.contains(banned), "the policy forbids it, or it comes from elsewhere: {banned}");
        }
        for call in ["by(\"", "set(\"", "bars(\"", "rows(\"", "more(\""] {
            for id in scripts.split(call).skip(1) {
                let id = id.split('"').next().unwrap_or_default();
                assert!(page.contains(&format!("id=\"{id}\"")), "the page has no {id:?}");
            }
        }
    }
}

#[test]
fn a_role_has_a_page_of_its_own_and_shows_what_it_says() {
    let state = state(None);
    let role = RoleStatus::default();
    state.set_role(role.clone());
    let at = started(&state);
    assert!(get(at, "/").2.contains("<title>Control · Aimpoint</title>"));
    let snapshot = || serde_json::from_str::<Value>(&get(at, "/snapshot").2).expect("JSON");
    let first = snapshot();
    assert_eq!(
        (&first["control"], &first["ready"], &first["title"]),
        (&Value::Null, &json!(false), &json!("shop, a-0"))
    );
    assert_eq!(first["reasons"], json!(["the process is starting"]));
    role.health().beat();
    role.set(RolePhase::Ready("standby"));
    role.show(json!({ "role": "standby" }));
    let second = snapshot();
    assert_eq!((&second["control"], &second["ready"]), (&json!({ "role": "standby" }), &json!(true)));
}

#[test]
fn readiness_gives_its_reasons() {
    let state = state(None);
    let at = started(&state);
    assert_eq!(get(at, "/readyz").2, "the model and the workers are loading\n");
    state.set_workers(&[worker(Phase::Replaying), Progress::default()]);
    let (status, _, body) = get(at, "/readyz");
    assert_eq!(status, 503);
    assert_eq!(
        body,
        "partition 3 is replaying: 60 records left\nworker 1 is waiting for the group to assign partitions\n"
    );
    assert_eq!(get(at, "/healthz").0, 200);
    state.set_workers(&[worker(Phase::Moving)]);
    assert_eq!(get(at, "/readyz").0, 200);
    state.set_stopping();
    assert_eq!(get(at, "/readyz"), {
        let it = get(at, "/readyz");
        (503, it.1, "the process is stopping\n".to_owned())
    });
}

#[test]
fn a_token_opens_all_but_the_page_and_the_probes() {
    let at = started(&state(Some(TOKEN)));
    for path in ["/metrics", "/snapshot", "/config", "/version", "/log", "/reload", "/erase"] {
        assert_eq!(get(at, path).0, 401, "{path}");
        let with = |token: &str| {
            send(at, &format!("GET {path} HTTP/1.1\r\nHost: aimpoint.example\r\nAuthorization: Bearer {token}\r\n\r\n"))
                .0
        };
        let opened = if matches!(path, "/reload" | "/erase") { 405 } else { 200 };
        assert_eq!((with("wrong"), with(TOKEN)), (401, opened), "{path}");
    }
    for path in ["/", "/common.js", "/page.js", "/control.js", "/page.css", "/healthz"] {
        assert_eq!(get(at, path).0, 200, "{path}");
    }
    assert_eq!(get(at, "/readyz").0, 503);
}

#[test]
fn without_a_token_a_web_site_s_name_is_refused() {
    let at = started(&state(None));
    let by_host = |host: &str| send(at, &format!("GET /config HTTP/1.1\r\nHost: {host}\r\n\r\n")).0;
    assert_eq!([by_host("localhost:9464"), by_host("127.0.0.1"), by_host("[::1]:80")], [200; 3]);
    assert_eq!([by_host("evil.example:9464"), by_host("localhost.evil.example")], [403; 2]);
}

#[test]
fn without_a_token_nothing_can_be_changed() {
    let at = started(&state(None));
    let change = |what: &str| send(at, &format!("{what} HTTP/1.1\r\nHost: {at}\r\nContent-Length: 4\r\n\r\ninfo"));
    for what in ["PUT /log", "POST /reload", "POST /erase"] {
        let (status, _, body) = change(what);
        assert!(status == 403 && body.contains("AIMPOINT__ADMIN__TOKEN"), "{what}: {status} {body}");
    }
}

#[test]
fn users_are_shown_under_a_name_that_only_this_process_knows() {
    let progress = worker(Phase::Moving);
    let mut counts = Counts::default();
    counts.detail.last = Some(RecentDecision {
        user_hash: 0xdead_beef,
        position: crate::event::Position { partition: 3, offset: 7, index: 0 },
        occurred_at: EventTime(0),
        decided_at: EventTime(1_000),
        status: crate::decision::Status::Targeted,
        score: Some(0.5),
        segments: 1,
    });
    progress.view().committed(&counts.detail, EventTime(2_000));
    let shown = [state(None), state(None)].map(|state| {
        state.set_workers(std::slice::from_ref(&progress));
        state.page()
    });
    assert_eq!(shown[0]["seen"][0]["segments"], json!(["keen"]));
    let names = shown.map(|it| it["seen"][0]["user"].as_str().map(str::to_owned).expect("a name"));
    assert_ne!(names[0], names[1], "two processes, two keys");
    assert!(!names.iter().any(|name| name.contains("deadbeef")), "{names:?}");
}

/// The slowest of this many probes while other clients hold their connections.
fn slowest_probe(at: SocketAddr, probes: usize) -> Duration {
    let probe = |number: usize| {
        let start = Instant::now();
        let (status, _, body) = get(at, if number.is_multiple_of(2) { "/healthz" } else { "/readyz" });
        assert!(matches!(status, 200 | 503), "{status}: {body}");
        start.elapsed()
    };
    (0..probes).map(probe).max().expect("there are some")
}

/// Less than the 5 seconds that the kubelet waits, and more than a busy machine takes.
const PROMPT: Duration = Duration::from_secs(3);

#[test]
fn silent_clients_however_many_hold_no_probe_up() {
    let at = started(&state(None));
    let mut silent = Vec::new();
    for count in [64, 200, 1_000] {
        // Open and close more than are held at once, because the system may allow this process only 1,024 files.
        while silent.len() < count {
            silent.push(std::net::TcpStream::connect(at).ok());
            let from = silent.len().saturating_sub(400);
            silent[..from].fill_with(|| None);
        }
        let slowest = slowest_probe(at, 4);
        assert!(slowest < PROMPT, "{count}: {slowest:?}");
    }
    assert_eq!(get(at, "/metrics").0, 200);
    // They are closed soon.
    let mut one = silent.pop().flatten().expect("the last one was accepted");
    one.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout can be set");
    let start = Instant::now();
    assert!(matches!(one.read(&mut [0; 64]), Ok(0) | Err(_)), "nothing is said to who says nothing");
    assert!(start.elapsed() < HEAD_DEADLINE + Duration::from_secs(2), "{:?}", start.elapsed());
}

#[test]
fn heads_bodies_and_readers_that_are_slow_hold_no_probe_up() {
    let state = state(Some(TOKEN));
    state.set_workers(&[worker(Phase::Moving)]);
    let at = started(&state);
    let open = |text: &str| {
        let mut stream = std::net::TcpStream::connect(at).expect("the server listens");
        stream.write_all(text.as_bytes()).expect("a part can be sent");
        stream
    };
    let slow = [
        format!("GET /healthz HTTP/1.1\r\nHost: {at}\r\nX-Slow: "),
        format!("PUT /log HTTP/1.1\r\nHost: {at}\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 4000\r\n\r\ninfo"),
        format!("POST /healthz HTTP/1.1\r\nHost: {at}\r\nContent-Length: 4000\r\n\r\nx"),
        // Never reads the response.
        format!("GET /metrics HTTP/1.1\r\nHost: {at}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"),
    ];
    let mut clients: Vec<_> = slow.iter().cycle().take(300).map(|text| open(text)).collect();
    for _ in 0..5 {
        let slowest = slowest_probe(at, 2);
        assert!(slowest < PROMPT, "{slowest:?}");
        // Each sends another byte now and then.
        for client in &mut clients {
            client.write_all(b"x").unwrap_or_default();
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let start = Instant::now();
    let (mut body, mut answer) = (clients.swap_remove(1), String::new());
    body.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout can be set");
    body.read_to_string(&mut answer).unwrap_or_default();
    assert!(start.elapsed() < CONNECTION_DEADLINE, "a slow body has {:?}", start.elapsed());
    assert!(answer.is_empty() || answer.contains(" 408 ") || answer.contains(" 503 "), "{answer}");
}

#[test]
fn a_crowd_of_costly_requests_is_told_to_come_again_and_the_places_come_back() {
    let at = started(&state(Some(TOKEN)));
    let text =
        format!("PUT /log HTTP/1.1\r\nHost: {at}\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 4000\r\n\r\ninfo");
    let waiting: Vec<_> = (0..ANSWERING_MAX)
        .map(|_| {
            let mut stream = std::net::TcpStream::connect(at).expect("the server listens");
            stream.write_all(text.as_bytes()).expect("a part can be sent");
            stream
        })
        .collect();
    let start = Instant::now();
    while get_with(at, "/metrics").0 != 503 {
        assert!(start.elapsed() < BODY_DEADLINE, "all places are taken");
    }
    assert_eq!(get(at, "/healthz").0, 200);
    while get_with(at, "/metrics").0 != 200 {
        assert!(start.elapsed() < BODY_DEADLINE + Duration::from_secs(5), "the places are free again");
        std::thread::sleep(Duration::from_millis(100));
    }
    drop(waiting);
}

#[test]
fn a_reload_takes_a_token_and_one_at_a_time_and_tells_what_came_of_it() {
    let post = |at: SocketAddr, token: &str| {
        let (status, _, body) = send(
            at,
            &format!(
                "POST /reload HTTP/1.1\r\nHost: {at}\r\nAuthorization: Bearer {token}\r\nContent-Length: 0\r\n\r\n"
            ),
        );
        (status, body)
    };
    let open = state(None);
    open.set_reload(Arc::new(|| Ok(String::new())));
    let (status, body) = post(started(&open), TOKEN);
    assert!(status == 403 && body.contains("set admin.token (AIMPOINT__ADMIN__TOKEN)"), "{status} {body}");

    let state = state(Some(TOKEN));
    let at = started(&state);
    assert_eq!(post(at, "wrong").0, 401);
    assert_eq!(post(at, TOKEN).0, 503, "the workers have not started yet");
    let (release, wait) = std::sync::mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    state.set_reload(Arc::new(move || {
        wait.lock().unwrap_or_else(PoisonError::into_inner).recv().unwrap_or_default();
        Err("a.toml:3:9: segment[0].where: nothing here is named \"event_typ\"".to_owned())
    }));
    let first = std::thread::spawn(move || post(at, TOKEN));
    let start = Instant::now();
    while state.reload.permit.available_permits() > 0 {
        assert!(start.elapsed() < Duration::from_secs(5), "the first one has its turn");
    }
    assert_eq!(post(at, TOKEN).0, 409);
    assert_eq!(get(at, "/healthz").0, 200, "a reload that takes its time holds no probe up");
    release.send(()).expect("it waits");
    let (status, body) = first.join().expect("an answer");
    assert!(status == 422 && body.contains("nothing has changed") && body.contains("a.toml:3:9"), "{status} {body}");
    state.set_reload(Arc::new(|| Ok("3 segments".to_owned())));
    let (status, body) = post(at, TOKEN);
    assert!(status == 200 && body.contains("3 segments"), "{status} {body}");
    state.set_reload(Arc::new(|| panic!("a bug")));
    assert_eq!(post(at, TOKEN).0, 500);
    assert_eq!(get(at, "/healthz").0, 200);
    let get = format!("GET /reload HTTP/1.1\r\nHost: {at}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n");
    assert_eq!(send(at, &get).0, 405);
}

#[test]
fn a_body_without_end_is_refused() {
    let at = started(&state(Some(TOKEN)));
    let body = "x".repeat(BODY_BYTES_MAX + 1);
    let request = format!(
        "PUT /log HTTP/1.1\r\nHost: {at}\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    assert_eq!(send(at, &request).0, 413);
}
