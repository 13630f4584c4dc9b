//! Runs `aimpoint run` on the embedded broker, for tests of a running process.

#![allow(dead_code, reason = "each test target uses its own part")]

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

/// The topics of an application with the default name.
pub(crate) const TOPICS: [&str; 4] = ["clickstream", "decisions", "dead-letter", "aimpoint-profiles"];

/// The token of the admin port, where a test sets one.
pub(crate) const TOKEN: &str = "0123456789abcdef";

/// `aimpoint run`, stopped when dropped.
pub(crate) struct Running {
    child: Child,
    pub(crate) address: String,
    log: Arc<Mutex<String>>,
    pub(crate) config: PathBuf,
    _folder: tempfile::TempDir,
    broker: EmbeddedBroker,
}

impl Running {
    pub(crate) fn start(text: &str) -> Self {
        let broker = EmbeddedBroker::start(&TOPICS.map(|name| (name, 2))).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("aimpoint.toml");
        std::fs::write(&config, text).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_aimpoint"))
            .args(["run", "--admin", "127.0.0.1:0", "--log-format", "json"])
            .args(["--set", &format!("kafka.brokers={}", broker.brokers()), "--config"])
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

    pub(crate) fn wait_for<T>(&self, what: &str, mut holds: impl FnMut(&Self) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(found) = holds(self) {
                return found;
            }
            let log = self.log.lock().unwrap().clone();
            assert!(start.elapsed() < Duration::from_mins(1), "waited for {what}:\n{log}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        self.ask_with(TOKEN, method, path, body)
    }

    /// As `ask`, with a token.
    pub(crate) fn ask_with(&self, token: &str, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let (address, length) = (&self.address, body.len());
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n");
        write!(stream, "{head}Content-Length: {length}\r\n\r\n{body}").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    pub(crate) fn snapshot(&self) -> Value {
        serde_json::from_str(&self.ask("GET", "/snapshot", "").1).unwrap()
    }

    pub(crate) fn signal(&self, name: &str) {
        assert!(Command::new("kill").arg(name).arg(self.child.id().to_string()).status().unwrap().success());
    }

    /// Waits until `/readyz` returns 200.
    pub(crate) fn wait_until_ready(&self) {
        self.wait_for("readiness", |it| (it.ask("GET", "/readyz", "").0 == 200).then_some(()));
    }

    pub(crate) fn publisher(&self) -> Publisher {
        Publisher::new(&self.brokers(), &[], TOPICS[0], Duration::from_secs(10)).unwrap()
    }

    pub(crate) fn brokers(&self) -> String {
        self.broker.brokers()
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits for the process to end and returns its exit code.
    pub(crate) fn end(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    pub(crate) fn says(&self, part: &str) -> Option<()> {
        self.log.lock().unwrap().contains(part).then_some(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The process may already have ended.
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
    }
}
