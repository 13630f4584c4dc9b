//! Canaries on a real Kafka: what names a person, and every secret, is planted wherever somebody may put it. After a kill and an
//! abort, nothing behind the input has any of it: no topic, log, page, metric, trace, snapshot, answer or core dump.

use crate::{
    broker::Kafka,
    program::{Program, Running, now_ms, terminate, wait_for},
};
use aimpoint::event::{KeyType, PseudonymSpec, UserKeys};
use rdkafka::{
    ClientConfig,
    message::{Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer},
};
use serde_json::{Value, json};
use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

const PATIENCE: Duration = Duration::from_mins(1);

/// What must not be found, in lower case. Texts have the first one in them; numbers have no room for it.
const CANARIES: [&str; 4] = ["c4nary", "4929123412341234", "4915112345678", "203.0.113.77"];

const ANN: &str = "Ann.C4nary@shop.example";
const BOB: &str = "bob@c4nary.example";
const EVE: &str = "eve@c4nary.example";
const COOKIE: &str = "c4nary-cookie-7f";
const ADMIN_TOKEN: &str = "c4nary-admin-token";
const SERVE_TOKEN: &str = "c4nary-serve-token";
const IDENTITY_KEY: &str = "c4nary-identity-key-of-32-bytes-or-more";
const SASL_PASSWORD: &str = "c4nary-sasl-password";

fn config(folder: &Path, collector: u16) -> String {
    format!(
        r#"
[app]
name = "shop"
[kafka.client]
"sasl.username" = "reader"
"sasl.password" = "{SASL_PASSWORD}"
[kafka.producer]
"compression.type" = "none"
[kafka.consumer]
"session.timeout.ms" = 6000
"heartbeat.interval.ms" = 1000
[checkpoint]
interval = "1s"
snapshots = "{folder}/snapshots"
snapshot_interval = "1s"
[engine]
workers = 1
[topics]
partitions = 2
decisions_by_user = true
shadow_scores = "shadow-scores"
[admin]
token = "{ADMIN_TOKEN}"
[otlp]
endpoint = "http://127.0.0.1:{collector}"
interval = "1s"
trace_one_of = 1
[identity]
pseudonymise = true
key_file = "{folder}/identity.pem"
normalise = "email"
[explain]
share = 1.0
users = ["{EVE}"]
[duplicates]
horizon = "1h"
[erasure]
where = 'event_type == "forget_me"'
[[field]]
name = "client_ip"
path = "context.ip"
type = "string"
[[feature]]
name = "views"
aggregate = "count"
window = "1h"
[[feature]]
name = "pages"
aggregate = "distinct"
value = "page.url"
window = "1h"
[[feature]]
name = "networks"
aggregate = "distinct"
value = "client_ip"
window = "1h"
[[segment]]
id = "searcher"
where = 'page.url.contains("q=") || page.title != "" || session_id != "" || views > 0.0'
exit = "false"
duration = "2h"
[model]
path = "told.onnx"
[[shadow]]
name = "twin"
path = "told.onnx"
[decision]
reasons = true
[[campaign]]
id = "spring"
segments = {{ any = ["searcher"] }}
value = 4.0
ceiling = 5.0
currency = "EUR"
caps = [{{ max = 5, per = "day" }}]
budget = {{ daily = 1000.0, pacing = "asap" }}
[control]
policy_interval = "1s"
[consent]
enabled = false
[serve]
threads = 1
token = "{SERVE_TOKEN}"
provider = {{ name = "shop.example" }}
"#,
        folder = folder.display()
    )
}

/// A collector of OTLP that keeps what it gets.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<u8>>>);

impl Collector {
    fn start() -> (Self, u16) {
        let it = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let kept = it.clone();
        std::thread::spawn(move || {
            listener.incoming().for_each(|stream| kept.take(stream.unwrap()).unwrap_or_default());
        });
        (it, port)
    }

    /// Keeps one request. A process that is killed may leave half of one.
    fn take(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? <= 2 {
                break;
            }
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or_default();
            }
            head.push_str(&line);
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let mut kept = self.0.lock().unwrap();
        kept.extend_from_slice(head.as_bytes());
        kept.extend_from_slice(&body);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    }

    fn all(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }
}

/// The world around: producers, and processes with their ports.
struct World<'a> {
    program: &'a Program,
    producer: BaseProducer,
    now: i64,
    sent: usize,
}

impl World<'_> {
    fn send(&mut self, topic: &str, key: &str, payload: &str) {
        let headers = OwnedHeaders::new()
            .insert(Header { key: "x-session", value: Some("c4nary-header") })
            .insert(Header { key: "traceparent", value: Some("c4nary-traceparent") })
            .insert(Header { key: "tracestate", value: Some("vendor=c4nary-tracestate") });
        self.producer.send(BaseRecord::to(topic).key(key).payload(payload).headers(headers)).unwrap();
        self.sent += 1;
    }

    /// An event with canaries in every field, read or not.
    fn event(&mut self, ids: &Value, minute: i64, more: &Value) {
        let mut event = json!({
            "event_type": "view", "occurred_at": self.now + minute * 60_000, "event_id": format!("{ANN}-{}", self.sent),
            "session_id": "c4nary-session",
            "page": {
                "url": "https://shop.example/s?q=shoes&email=c4nary-query%40x.example&token=c4nary-url-token",
                "title": "C4nary's basket", "referrer": "https://c4nary-referrer.example/?password=c4nary-password",
                "path": "/c4nary-path", "category": "c4nary-category",
            },
            "items": [{"id": "c4nary-item", "category": "c4nary-items", "price": 3.0}],
            "campaign": {"source": "c4nary-source", "name": "c4nary-name", "click_id": "c4nary-click-id"},
            "ad": {"decision_id": "c4nary-decision", "campaign_id": "c4nary-campaign", "creative_id": "c4nary-creative"},
            "device": {"ua": "Mozilla/5.0 (c4nary-agent)", "os": "c4nary-os"},
            "geo": {"country": "c4nary-country", "region": "c4nary-region"},
            "context": {"ip": "203.0.113.77"},
            "payment": {"card": "4929123412341234", "holder": "Ann C4nary"},
            "phone": "+4915112345678", "address": "17 C4nary Row, 10115 Berlin", "note": "free text, c4nary-note",
            "c4nary-member": 1,
        });
        let members = event.as_object_mut().unwrap();
        members.extend(ids.as_object().unwrap().clone());
        members.extend(more.as_object().unwrap().clone());
        let key = ids["user_id"].as_str().or(ids["anonymous_id"].as_str()).unwrap_or(ANN).to_owned();
        self.send("clickstream", &key, &event.to_string());
    }

    /// What is sound, and what becomes a dead letter. Returns how many decisions come of it.
    fn visit(&mut self, minute: i64) -> usize {
        let ann = json!({"user_id": ANN, "anonymous_id": COOKIE});
        for ids in [ann.clone(), json!({"user_id": BOB}), json!({"user_id": EVE}), json!({"anonymous_id": COOKIE})] {
            self.event(&ids, minute, &json!({}));
        }
        self.event(&ann, minute, &json!({"value": "c4nary-value"}));
        self.event(&ann, minute, &json!({"key_type": "c4nary-type"}));
        self.event(&ann, minute, &json!({"event_type": {"c4nary-object": true}}));
        self.event(&ann, minute, &json!({"occurred_at": "c4nary-time"}));
        self.event(&ann, -60 * 24 * 30, &json!({}));
        self.event(&json!({"user_id": "c4nary-no-address"}), minute, &json!({}));
        self.event(&json!({}), minute, &json!({}));
        self.send("clickstream", ANN, r#"{"user_id": "c4nary-broken"#);
        self.send("clickstream", ANN, "c4nary is no JSON");
        // Those of four users, and the one with a value that nothing reads.
        5
    }

    /// Outcomes: joined, waiting in vain, and broken.
    fn report(&mut self, decision_id: &str) {
        let at = self.now * 1_000;
        let sound = json!({
            "outcome_id": format!("{ANN}-win-{}", self.sent), "type": "win", "occurred_at": at.to_string(),
            "decision_id": decision_id, "campaign_id": "spring", "price": 2.0, "currency": "EUR", "user_key": ANN,
            "auction_id": "c4nary-auction", "imp_id": "c4nary-imp",
            "note": "c4nary-outcome-note",
        });
        let mut orphan = sound.clone();
        orphan["decision_id"] = "c4nary-unknown".into();
        orphan["outcome_id"] = "c4nary-orphan".into();
        let mut of_user = sound.clone();
        of_user["type"] = "conversion".into();
        of_user["outcome_id"] = "c4nary-conversion".into();
        of_user.as_object_mut().unwrap().remove("decision_id");
        let mut wrong = sound.clone();
        wrong["currency"] = "c4nary-currency".into();
        let mut unknown = sound.clone();
        unknown["type"] = "c4nary-outcome-type".into();
        for outcome in [sound, orphan, of_user, wrong, unknown] {
            self.send("outcomes", ANN, &outcome.to_string());
        }
        self.send("outcomes", ANN, r#"{"outcome_id": "c4nary-outcome"#);
    }

    fn flush(&self) {
        self.producer.flush(PATIENCE).unwrap();
    }

    /// Starts a role in the folder with logs at trace, and with core dumps allowed.
    fn start(&self, role: &str, name: &str) -> Role {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = self.program.folder.path();
        let log = File::options().create(true).append(true).open(folder.join(name)).unwrap();
        let address = format!("127.0.0.1:{port}");
        let bound =
            if role == "serve" { format!("serve.address={address}") } else { format!("admin.address={address}") };
        let instance = format!("app.instance={name}");
        let mut options = vec!["--log", "trace", "--log-format", "text", "--set", &bound, "--set", &instance];
        if role == "serve" {
            options.extend(["--set", "admin.address=127.0.0.1:0"]);
        }
        let command = self.program.command(&[&[role][..], &options].concat());
        let mut shell = std::process::Command::new("sh");
        shell
            .args(["-c", "ulimit -c unlimited; exec \"$@\"", "sh"])
            .arg(command.get_program())
            .args(command.get_args());
        let child = shell.current_dir(folder).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let token = if role == "serve" { SERVE_TOKEN } else { ADMIN_TOKEN };
        Role { child: Running::from(child), port, token }
    }
}

/// A process and where it answers.
struct Role {
    child: Running,
    port: u16,
    token: &'static str,
}

impl Role {
    /// The status, and the whole answer.
    fn ask(&self, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
        let (token, length) = (self.token, body.len());
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\nx-forwarded-for: 203.0.113.77\r\n\
             cookie: session={COOKIE}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
        );
        stream.write_all(head.as_bytes()).ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        Some((answer.split(' ').nth(1)?.parse().ok()?, answer))
    }

    fn is_ready(&self) -> bool {
        self.ask("GET", "/readyz", "").is_some_and(|(status, _)| status == 200)
    }

    /// All that it shows of itself.
    fn shown(&self) -> String {
        let paths = ["/metrics", "/config", "/", "/snapshot", "/version", "/log", "/healthz", "/readyz"];
        paths.iter().filter_map(|path| self.ask("GET", path, "")).map(|(_, answer)| answer).collect()
    }

    fn end(&mut self, signal: &str) {
        crate::program::signal(&self.child, signal);
        self.child.wait().unwrap();
    }
}

/// Where the first canary is, with what surrounds it.
fn found(bytes: &[u8]) -> Option<String> {
    let lower = bytes.to_ascii_lowercase();
    let (at, canary) =
        CANARIES.iter().find_map(|canary| Some((memchr::memmem::find(&lower, canary.as_bytes())?, canary)))?;
    let around = &bytes[at.saturating_sub(120)..bytes.len().min(at + canary.len() + 80)];
    Some(format!("{canary}: {}", String::from_utf8_lossy(around)))
}

fn assert_silent(what: &str, bytes: &[u8]) {
    assert!(!bytes.is_empty(), "{what}: there is nothing to search");
    if let Some(found) = found(bytes) {
        panic!("{what} has a canary: {found}");
    }
}

/// All files below a folder whose path does not contain any of these. Links are not followed.
fn files(folder: &Path, without: &[&str]) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let (path, kind) = entry.map(|entry| (entry.path(), entry.file_type().unwrap())).unwrap();
        if without.iter().any(|part| path.file_name().unwrap().to_string_lossy().starts_with(part)) {
            continue;
        }
        match () {
            () if kind.is_dir() => all.extend(files(&path, without)),
            () if kind.is_file() => all.push(path),
            () => {}
        }
    }
    all
}

#[test]
fn nothing_behind_the_input_has_what_names_a_person_or_a_secret() {
    let (collector, port) = Collector::start();
    let program = Program::on(Kafka::start_by(1, |_| {}), "");
    let folder = program.folder.path();
    fs::write(program.config(), config(folder, port)).unwrap();
    fs::write(folder.join("identity.pem"), IDENTITY_KEY).unwrap();
    let runtime = Path::new(env!("CARGO_MANIFEST_DIR")).join(".onnxruntime");
    std::os::unix::fs::symlink(runtime, folder.join(".onnxruntime")).unwrap();
    crate::put_model(&program, ["views", "pages"]);
    assert_eq!(program.run(&["topics", "--create"]).0, 0);
    let producer = ClientConfig::new().set("bootstrap.servers", &program.kafka.brokers).create().unwrap();
    let mut world = World { program: &program, producer, now: now_ms(), sent: 0 };
    let mut decisions = world.visit(0);
    world.flush();

    let mut worker = world.start("run", "worker");
    let mut control = world.start("control", "control");
    let mut serve = world.start("serve", "serve");
    let of_app = |all: Vec<crate::program::Found>| -> Vec<Value> {
        all.into_iter().filter_map(|it| serde_json::from_slice(&it.payload?).ok()).collect()
    };
    let decided = of_app(program.read(&["decisions"], decisions, PATIENCE));
    assert_eq!(decided.len(), decisions, "{}", program.logs());
    for decision in &decided {
        world.report(decision["decision_id"].as_str().unwrap());
    }
    decisions += world.visit(1);
    world.flush();
    program.read(&["decisions"], decisions, PATIENCE);
    worker.end("-KILL");
    let mut worker = world.start("run", "worker");
    decisions += world.visit(2);
    world.flush();
    assert!(program.read(&["decisions"], decisions, PATIENCE).len() >= decisions, "{}", program.logs());
    wait_for("the roles", PATIENCE, || worker.is_ready() && control.is_ready() && serve.is_ready());

    // Everybody asks with raw ids.
    let keys = UserKeys::new(
        &PseudonymSpec {
            pseudonymise: true,
            key: Some(aimpoint::event::Secret::new(IDENTITY_KEY)),
            normalise: aimpoint::event::Normalise::Email,
            ..PseudonymSpec::default()
        },
        false,
    );
    let ann = keys.of(KeyType::Person, ANN).unwrap().into_owned();
    wait_for("serve to know the user", PATIENCE, || {
        serve.ask("GET", "/v1/decisions/ann.c4nary%40shop.example", "").is_some_and(|(status, _)| status == 200)
    });
    let (_, answer) = serve.ask("GET", "/v1/decisions/ann.c4nary%40shop.example", "").unwrap();
    assert!(answer.contains(&ann), "{answer}");
    assert_silent("an answer of serve", answer.as_bytes());
    let request = json!({
        "id": "c4nary-request", "user": {"buyeruid": ANN, "id": COOKIE}, "device": {"ip": "203.0.113.77", "ifa": "c4nary-ifa"},
    });
    assert_eq!(serve.ask("POST", "/openrtb2/enrich", &request.to_string()).unwrap().0, 200);
    assert_eq!(serve.ask("POST", "/openrtb2/enrich", "c4nary is no JSON").unwrap().0, 400);
    let (_, answer) = serve.ask("GET", "/c4nary-path?token=c4nary-url-token", "").unwrap();
    assert_silent("an answer of serve", answer.as_bytes());
    commands(&program);
    let (status, answer) = worker.ask("POST", "/erase", BOB).unwrap();
    assert_eq!(status, 202, "{answer}");
    assert_silent("the answer to a request to erase", answer.as_bytes());
    let bob = keys.of(KeyType::Person, BOB).unwrap().into_owned();
    wait_for("the null for the erased user", PATIENCE, || {
        let all = program.read(&["decisions"], decisions, PATIENCE);
        all.iter().any(|it| it.key.as_deref() == Some(bob.as_bytes()) && it.payload.is_none())
    });
    let audit = "asked to erase a user, by POST /erase";
    assert_eq!(fs::read_to_string(folder.join("worker")).unwrap().matches(audit).count(), 1);
    // What happened before counts for nothing and gives no decision.
    let metric = |worker: &Role| worker.ask("GET", "/metrics", "").unwrap().1.contains("reason=\"erased\"} 1\n");
    assert!(!metric(&worker));
    world.event(&json!({"user_id": BOB}), 0, &json!({}));
    world.flush();
    wait_for("the event from before to be left out", PATIENCE, || metric(&worker));

    for (name, role) in [("the worker", &worker), ("control", &control), ("serve", &serve)] {
        assert_silent(name, role.shown().as_bytes());
    }
    wait_for("a snapshot", PATIENCE, || {
        !files(folder, &[]).iter().all(|path| !path.starts_with(folder.join("snapshots")))
    });
    // Workers report their audiences every ten seconds.
    program.read(&["shop-audiences"], 1, PATIENCE);
    let filter = fs::read_to_string(format!("/proc/{}/coredump_filter", worker.child.id())).unwrap();
    assert_eq!(u32::from_str_radix(filter.trim(), 16), Ok(0), "core dumps have memory");
    worker.end("-ABRT");
    assert_eq!(terminate(&mut control.child, PATIENCE), 0, "{}", program.logs());
    assert_eq!(terminate(&mut serve.child, PATIENCE), 0, "{}", program.logs());
    everything_left(&program, &collector);
}

/// The commands that an operator runs. What answers about a user has what the input has of that user, and no secret.
fn commands(program: &Program) {
    for arguments in [&["doctor"][..], &["check"], &["check", "--record-of-processing"], &["topics"]] {
        let (_, out, error) = program.run(arguments);
        assert_silent(&arguments.join(" "), format!("{out}{error}").as_bytes());
    }
    let without_user = |text: &str| text.to_lowercase().replace(&ANN.to_lowercase(), "the user");
    for name in ["why", "profile", "explain"] {
        let (code, out, error) = program.run(&[name, "--user", ANN]);
        assert_eq!(code, 0, "{name}: {error}");
        assert_silent(name, without_user(&format!("{out}{error}")).as_bytes());
    }
    let (code, out, error) = program.run(&["subject", "--user", ANN]);
    assert_eq!(code, 0, "{error}");
    assert!(out.contains("c4nary-note"), "what the input has of the user: {out}");
    for secret in [ADMIN_TOKEN, SERVE_TOKEN, IDENTITY_KEY, SASL_PASSWORD, BOB, EVE] {
        assert!(!out.contains(secret) && !error.contains(secret), "subject: {secret}");
    }
    let subject: Value = serde_json::from_str(&out).unwrap();
    for record in subject["records"].as_array().unwrap() {
        if record["kind"] != "input" {
            assert_silent("a record behind the input", record.to_string().as_bytes());
        }
    }
}

/// What lies on disks and was sent away: topics with uncommitted records, logs, snapshots, core dumps, OTLP.
fn everything_left(program: &Program, collector: &Collector) {
    let inputs = ["clickstream-", "outcomes-"];
    let data = program.kafka.data();
    let mut input = Vec::new();
    for path in files(&data, &[]) {
        let bytes = fs::read(&path).unwrap();
        let is_input =
            path.components().any(|part| inputs.iter().any(|it| part.as_os_str().to_string_lossy().starts_with(it)));
        match is_input {
            true => input.extend(bytes),
            false if bytes.is_empty() => {}
            false => assert_silent(&path.display().to_string(), &bytes),
        }
    }
    // The search finds what is there.
    for canary in
        CANARIES.iter().chain(&[COOKIE, "c4nary-header", "c4nary-traceparent", "c4nary-auction", "c4nary-note"])
    {
        assert!(memchr::memmem::find(&input, canary.as_bytes()).is_some(), "{canary} was not planted");
    }
    for topic in
        ["decisions", "dead-letter", "shop-profiles", "shop-control", "shop-policy", "shop-audiences", "shadow-scores"]
    {
        let has_records = |path: &PathBuf| {
            let of_topic =
                path.parent().unwrap().file_name().unwrap().to_string_lossy().starts_with(&format!("{topic}-"));
            of_topic && path.extension().is_some_and(|it| it == "log") && fs::metadata(path).unwrap().len() > 0
        };
        assert!(files(&data, &[]).iter().any(has_records), "{topic} has no records");
    }
    let own = ["aimpoint.toml", "identity.pem", "told.onnx"];
    let left = files(program.folder.path(), &own);
    for name in ["worker", "control", "serve"] {
        assert!(left.contains(&program.folder.path().join(name)), "{left:?}");
    }
    let log = fs::read_to_string(program.folder.path().join("worker")).unwrap();
    assert!(log.contains("TRACE"), "the log is not at trace");
    for path in left {
        let bytes = fs::read(&path).unwrap();
        if !bytes.is_empty() {
            assert_silent(&path.display().to_string(), &bytes);
        }
    }
    assert_silent("OTLP", &collector.all());
}
