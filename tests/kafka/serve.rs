//! The role `serve` on a real Kafka: it answers what was committed, through restarts, outages and a topic that is made anew.

use crate::program::{Program, Running, block_on, now_ms, signal, wait_for};
use aimpoint::{proto::v1, sink::Topics};
use prost::Message;
use rdkafka::{
    ClientConfig,
    producer::{BaseProducer, BaseRecord, Producer},
};
use serde_json::{Value, json};
use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    time::{Duration, Instant},
};

pub(crate) const CONFIG: &str = r#"
[app]
name = "shop"

[serve]
threads = 1
stale_max = "4s"
drain = "2s"
token = "0123456789abcdef"

[serve.provider]
name = "shop.example"

[serve.consent]
enabled = true
vendor_id = 7
without_law = ["emit"]
"#;

const PATIENCE: Duration = Duration::from_mins(1);
const PARTITIONS: i32 = 3;

/// A process that answers.
pub(crate) struct Server {
    pub(crate) child: Running,
    pub(crate) port: u16,
}

impl Server {
    pub(crate) fn start(program: &Program, name: &str) -> Self {
        Self::start_with(program, name, |_| Vec::new())
    }

    /// The same with further arguments, which may depend on its address.
    pub(crate) fn start_with(program: &Program, name: &str, further: impl FnOnce(&str) -> Vec<String>) -> Self {
        // The test knows its port before the process does.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let further = further(&address);
        let mut arguments = vec!["--address", &address, "--admin", "127.0.0.1:0"];
        arguments.extend(further.iter().map(String::as_str));
        let child = program.spawn_as("serve", name, &arguments);
        Self { child, port }
    }

    /// The status, the head and the body of an answer; `None` if nobody answers.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &str) -> Option<(u16, String, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer 0123456789abcdef\r\n\
             content-length: {length}\r\nconnection: close\r\n\r\n{body}"
        );
        stream.write_all(head.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, head.to_owned(), body.to_owned()))
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ask("GET", "/readyz", "").is_some_and(|(status, ..)| status == 200)
    }

    /// The id of a user's decision, or the status without one.
    pub(crate) fn decision(&self, user: &str) -> Result<String, u16> {
        let (status, _, body) = self.ask("GET", &format!("/v1/decisions/{user}"), "").unwrap();
        let id = |body: &str| serde_json::from_str::<Value>(body).unwrap()["decision_id"].as_str().unwrap().to_owned();
        if status == 200 { Ok(id(&body)) } else { Err(status) }
    }

    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        let (.., body) = self.ask("GET", "/metrics", "")?;
        body.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    }
}

pub(crate) fn id(user: &str, number: i64) -> String {
    format!("shop:clickstream-0-{user}{number}")
}

/// A decision about a person, in either format.
fn payload(user: &str, number: i64, lives_for_s: i64) -> Vec<u8> {
    let now = now_ms() * 1_000;
    let expires_at = now + lives_for_s * 1_000_000;
    if number % 2 == 0 {
        let segment =
            v1::Segment { id: "603".to_owned(), name: "Keen".to_owned(), segtax: 4, ..v1::Segment::default() };
        let it = v1::Decision {
            decision_id: id(user, number),
            user_key: user.to_owned(),
            decided_at: now,
            expires_at,
            key_type: v1::KeyType::Person.into(),
            segments: vec![segment],
            ..v1::Decision::default()
        };
        return it.encode_to_vec();
    }
    let it = json!({
        "decision_id": id(user, number), "user_key": user, "key_type": "KEY_TYPE_PERSON", "status_reason": null,
        "decided_at": now.to_string(), "expires_at": expires_at.to_string(),
        "segments": [{ "id": "603", "name": "Keen", "segtax": 4 }],
    });
    it.to_string().into_bytes()
}

/// A worker's producer, with transactions.
pub(crate) struct Worker(BaseProducer);

impl Worker {
    pub(crate) fn new(program: &Program) -> Self {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", &program.kafka.brokers)
            .set("transactional.id", "shop-@w-0")
            // As the program's own producers.
            .set("partitioner", "murmur2_random")
            .create()
            .unwrap();
        producer.init_transactions(PATIENCE).unwrap();
        Self(producer)
    }

    /// A worker that has decided once about each of so many users, and their names.
    pub(crate) fn of_users(program: &Program, count: usize) -> (Self, Vec<String>) {
        let (worker, names) = (Self::new(program), (0..count).map(|number| format!("u{number}")).collect::<Vec<_>>());
        worker.decide(&names.iter().map(String::as_str).collect::<Vec<_>>(), 0);
        (worker, names)
    }

    pub(crate) fn transact(&self, records: &[(&str, Option<Vec<u8>>)], commits: bool) {
        self.0.begin_transaction().unwrap();
        for (user, payload) in records {
            let mut record = BaseRecord::<str, [u8]>::to("decisions").key(user);
            record.payload = payload.as_deref();
            self.0.send(record).unwrap();
        }
        self.0.flush(PATIENCE).unwrap();
        if commits { self.0.commit_transaction(PATIENCE) } else { self.0.abort_transaction(PATIENCE) }.unwrap();
    }

    pub(crate) fn decide(&self, users: &[&str], number: i64) {
        let records: Vec<_> = users.iter().map(|user| (*user, Some(payload(user, number, 600)))).collect();
        self.transact(&records, true);
    }
}

#[test]
fn serve_answers_what_was_committed() {
    let program = Program::start(1, CONFIG);
    program.create("decisions", PARTITIONS, &[]);
    let worker = Worker::new(&program);
    let names: Vec<String> = (0..60).map(|number| format!("u{number}")).collect();
    let users: Vec<&str> = names.iter().map(String::as_str).collect();
    worker.decide(&users, 0);
    worker.decide(&users[..30], 1);
    // The log of each partition ends with records that nobody may see.
    let aborted: Vec<_> = users.iter().map(|user| (*user, Some(payload(user, 2, 600)))).collect();
    worker.transact(&aborted, false);

    let mut server = Server::start(&program, "serve-a");
    wait_for("the process to be ready", PATIENCE, || server.is_ready());
    for (index, user) in users.iter().enumerate() {
        assert_eq!(server.decision(user), Ok(id(user, i64::from(index < 30))), "{}", program.logs());
    }
    assert_eq!(server.decision("nobody"), Err(404));
    assert_eq!(server.metric("aimpoint_serve_users"), Some(60.0));
    assert_eq!(server.metric("aimpoint_serve_records_total{outcome=\"kept\"}"), Some(90.0));

    // It follows: new decisions, other applications' ones, garbage, expiry and erasure.
    let foreign = String::from_utf8(payload("u1", 5, 600)).unwrap().replace("shop:", "other:").into_bytes();
    worker.transact(
        &[
            ("u0", Some(payload("u0", 4, 600))),
            ("u1", Some(foreign)),
            ("u2", Some(b"garbage".to_vec())),
            ("u3", Some(payload("u3", 4, -1))),
            ("u4", None),
        ],
        true,
    );
    wait_for("the new decision", PATIENCE, || server.decision("u0") == Ok(id("u0", 4)));
    wait_for("the erasure", PATIENCE, || server.decision("u4") == Err(404));
    wait_for("the expiry", PATIENCE, || server.decision("u3") == Err(410));
    for user in ["u1", "u2"] {
        assert_eq!(server.decision(user), Ok(id(user, 1)), "the last one that is ours stays");
    }
    wait_for("its counts", PATIENCE, || {
        let count = |outcome: &str| server.metric(&format!("aimpoint_serve_records_total{{outcome=\"{outcome}\"}}"));
        ["erased", "foreign", "malformed"].iter().all(|it| count(it) == Some(1.0)) && count("kept") == Some(92.0)
    });

    let request = r#"{"id":"1","user":{"buyeruid":"u5"},"device":{"geo":{"country":"JPN"}}}"#;
    let (status, head, body) = server.ask("POST", "/openrtb2/enrich", request).unwrap();
    assert!(status == 200 && head.contains("aimpoint-outcome: enriched"), "{head}");
    let added = r#","data":[{"name":"shop.example","segment":[{"id":"603","name":"Keen"}],"ext":{"segtax":4}}]"#;
    assert_eq!(body, request.replace(r#""u5""#, &format!(r#""u5"{added}"#)));

    // A process that is to stop answers on for a while, and is not ready. A restart knows the same.
    signal(&server.child, "-TERM");
    wait_for("it not to be ready", PATIENCE, || server.ask("GET", "/readyz", "").is_some_and(|it| it.0 == 503));
    assert_eq!(server.decision("u0"), Ok(id("u0", 4)));
    assert_eq!(server.child.wait().unwrap().code(), Some(0), "{}", program.logs());
    drop(server);
    let server = Server::start(&program, "serve-b");
    wait_for("the process to be ready", PATIENCE, || server.is_ready());
    for (user, expected) in [
        ("u0", Ok(id("u0", 4))),
        ("u1", Ok(id("u1", 1))),
        ("u3", Err(410)),
        ("u4", Err(404)),
        ("u59", Ok(id("u59", 0))),
    ] {
        assert_eq!(server.decision(user), expected, "{user}");
    }

    outage(&program, &worker, &server);
    topic_made_anew(&program, &server);
}

/// Without brokers it answers on, and after a while it is not ready.
fn outage(program: &Program, worker: &Worker, server: &Server) {
    assert!(server.metric("aimpoint_serve_staleness_seconds") < Some(4.0), "{}", program.logs());
    program.kafka.node("kill", 0);
    wait_for("it not to be ready", PATIENCE, || {
        assert_eq!(server.decision("u0"), Ok(id("u0", 4)));
        !server.is_ready()
    });
    let (_, _, why) = server.ask("GET", "/readyz", "").unwrap();
    assert!(why.contains("whether everything is read (serve.stale_max)"), "{why}");
    assert_eq!(server.ask("GET", "/livez", "").unwrap().0, 200);
    assert!(server.metric("aimpoint_serve_staleness_seconds") > Some(4.0));
    program.kafka.node("up", 0);
    wait_for("it to be ready again", PATIENCE, || server.is_ready());
    worker.decide(&["u0"], 6);
    wait_for("a decision after the outage", PATIENCE, || server.decision("u0") == Ok(id("u0", 6)));
}

/// Nothing of a topic that was deleted is answered.
fn topic_made_anew(program: &Program, server: &Server) {
    let topics = Topics::new(&program.kafka.brokers, &[], PATIENCE).unwrap();
    program.kafka.tool("org.apache.kafka.tools.TopicCommand", &["--delete", "--topic", "decisions"]);
    wait_for("the topic to be gone", PATIENCE, || block_on(topics.state("decisions")).unwrap().is_none());
    program.create("decisions", PARTITIONS, &[]);
    Worker::new(program).decide(&["u7"], 8);
    wait_for("the decision of the new topic", PATIENCE, || server.decision("u7") == Ok(id("u7", 8)));
    assert_eq!(server.decision("u0"), Err(404), "{}", program.logs());
    wait_for("it to be ready", PATIENCE, || server.is_ready());
    assert_eq!(server.metric("aimpoint_serve_users"), Some(1.0));
}

#[test]
fn without_its_topic_serve_says_what_to_do() {
    let program = Program::start(1, CONFIG);
    let begun = Instant::now();
    let (code, _, error) = program.run(&["serve"]);
    assert!(error.contains("create it with: aimpoint topics --create"), "{code}: {error}");
    assert!(code != 0 && begun.elapsed() < PATIENCE, "{code}");
}
