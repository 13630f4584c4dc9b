//! A running process on the embedded broker: what it serves, and what it takes while it runs.

use aimpoint::sink::{EmbeddedBroker, Publisher};
use serde_json::Value;
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

const TOPICS: [&str; 4] = ["clickstream", "decisions", "dead-letter", "aimpoint-profiles"];

const CONFIG: &str = r#"
[engine]
workers = 2

[[segment]]
id = "first"
where = 'event_type == "view"'
"#;

/// `aimpoint run`, stopped when dropped.
struct Running {
    child: Child,
    address: String,
    log: Arc<Mutex<String>>,
    config: PathBuf,
    _folder: tempfile::TempDir,
    broker: EmbeddedBroker,
}

impl Running {
    fn start() -> Self {
        let broker = EmbeddedBroker::start(&TOPICS.map(|name| (name, 2))).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("aimpoint.toml");
        std::fs::write(&config, CONFIG).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_aimpoint"))
            .args(["run", "--admin", "127.0.0.1:0", "--log-format", "json"])
            .args(["--set", &format!("kafka.brokers={:?}", broker.brokers()), "--config"])
            .arg(&config)
            .env_remove("AIMPOINT_LOG")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (lines, kept) = (BufReader::new(child.stderr.take().unwrap()).lines(), Arc::clone(&log));
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                kept.lock().unwrap().extend([line.as_str(), "\n"]);
            }
        });
        let mut it = Self { child, address: String::new(), log, config, _folder: folder, broker };
        it.address = it.wait_for("its address", |it| {
            let log = it.log.lock().unwrap();
            let line = log.lines().find(|line| line.contains("serving health"))?;
            Some(serde_json::from_str::<Value>(line).unwrap()["address"].as_str().unwrap().to_owned())
        });
        it
    }

    fn wait_for<T>(&self, what: &str, holds: impl Fn(&Self) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(found) = holds(self) {
                return found;
            }
            let log = self.log.lock().unwrap().clone();
            assert!(start.elapsed() < Duration::from_secs(60), "waited for {what}:\n{log}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let (address, length) = (&self.address, body.len());
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}\r\n\r\n{body}")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    fn snapshot(&self) -> Value {
        serde_json::from_str(&self.ask("GET", "/snapshot", "").1).unwrap()
    }

    fn signal(&self, name: &str) {
        assert!(Command::new("kill").arg(name).arg(self.child.id().to_string()).status().unwrap().success());
    }

    fn says(&self, part: &str) -> Option<()> {
        self.log.lock().unwrap().contains(part).then_some(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself, which the test then says.
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
    }
}

#[test]
fn a_running_process_shows_itself_and_takes_segments_and_log_levels() {
    let mut it = Running::start();
    it.wait_for("readiness", |it| (it.ask("GET", "/readyz", "").0 == 200).then_some(()));

    let publisher = Publisher::new(&it.broker.brokers(), &[], "clickstream", Duration::from_secs(10)).unwrap();
    let publish = |from: usize, until: usize| {
        for number in from..until {
            let event = format!(
                r#"{{"event_id":"e{number}","event_type":"view","user_id":"u{}","occurred_at":{}}}"#,
                number % 10,
                1_700_000_000_000_u64 + number as u64
            );
            publisher.publish(Some(format!("u{}", number % 10).as_bytes()), Some(event.as_bytes())).unwrap();
        }
        publisher.publish(Some(b"u1"), Some(b"{\"broken")).unwrap();
        publisher.finish().unwrap();
    };
    publish(0, 100);
    let shown = it.wait_for("decisions", |it| Some(it.snapshot()).filter(|it| it["counts"]["decisions"] == 100));
    assert_eq!(shown["segments"], serde_json::json!([{ "id": "first", "count": 100 }]));
    it.wait_for("the dead letter", |it| (it.snapshot()["dead_letters"]["malformed"] == 1).then_some(()));
    let metrics = it.ask("GET", "/metrics", "").1;
    for line in [
        "aimpoint_events_total{outcome=\"decision\"} 100",
        "aimpoint_dead_letters_total{reason=\"malformed\"} 1",
        "aimpoint_decision_latency_seconds_count{since=\"append\"} 100",
        "aimpoint_partitions{phase=\"moving\"} 2",
        "aimpoint_ready 1",
        "aimpoint_build_info{version=\"0.1.0\"} 1",
    ] {
        assert!(metrics.lines().any(|other| other == line), "{line:?} is missing in:\n{metrics}");
    }
    assert!(metrics.contains("aimpoint_commit_seconds_bucket{le="), "a histogram with buckets:\n{metrics}");
    it.wait_for("the lag", |it| {
        let metrics = it.ask("GET", "/metrics", "").1;
        metrics.lines().any(|line| line == "aimpoint_lag_records{partition=\"0\"} 0").then_some(())
    });

    assert_eq!(it.ask("PUT", "/log", "aimpoint=nonsense").0, 400);
    assert_eq!(it.ask("PUT", "/log", "debug,librdkafka=off").0, 200);
    assert_eq!(it.ask("GET", "/log", "").1, "debug,librdkafka=off\n");

    let other = CONFIG.replace("\"first\"", "\"second\"") + "[log]\nfilter = \"info,aimpoint=warn\"\n";
    std::fs::write(&it.config, other.replace("event_type", "event_typ")).unwrap();
    it.signal("-HUP");
    it.wait_for("the refusal", |it| it.says("did you mean \\\"event_type\\\"?"));
    assert_eq!(it.snapshot()["segments"][0]["id"], "first", "the old one stays");
    std::fs::write(&it.config, other.replace("workers = 2", "workers = 1")).unwrap();
    it.signal("-HUP");
    it.wait_for("the refusal", |it| it.says("restart for what has changed in engine"));
    std::fs::write(&it.config, &other).unwrap();
    it.signal("-HUP");
    publish(100, 200);
    it.wait_for("the other segment", |it| (it.snapshot()["segments"][0]["id"] == "second").then_some(()));
    it.wait_for("all decisions", |it| (it.snapshot()["counts"]["decisions"] == 200).then_some(()));
    assert_eq!(it.ask("GET", "/log", "").1, "info,aimpoint=warn\n");
    let metrics = it.ask("GET", "/metrics", "").1;
    for line in ["aimpoint_reloads_total{outcome=\"refused\"} 2", "aimpoint_reloads_total{outcome=\"taken\"} 1"] {
        assert!(metrics.lines().any(|other| other == line), "{line:?} is missing in:\n{metrics}");
    }

    it.signal("-TERM");
    let ended = it.child.wait().unwrap();
    assert_eq!(ended.code(), Some(0), "{}", it.log.lock().unwrap());
}
