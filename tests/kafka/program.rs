//! Starts processes on a real Kafka, and reads their topics.

#![allow(dead_code, reason = "each test target uses its own part")]

use super::broker::Kafka;
use aimpoint::{
    sink::{Publisher, TopicPlan, Topics},
    source::{Reader, SourceError},
};
use std::{
    collections::BTreeMap,
    fs::File,
    ops::{Deref, DerefMut},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tempfile::TempDir;

/// How long creating a topic may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A record of a topic.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) timestamp_ms: Option<i64>,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) payload: Option<Vec<u8>>,
    pub(crate) headers: BTreeMap<String, String>,
}

/// A Kafka, and a folder with configuration and logs.
pub(crate) struct Program {
    pub(crate) kafka: Kafka,
    pub(crate) folder: TempDir,
}

impl Program {
    pub(crate) fn start(nodes: usize, config: &str) -> Self {
        Self::on(Kafka::start(nodes), config)
    }

    pub(crate) fn on(kafka: Kafka, config: &str) -> Self {
        let it = Self { kafka, folder: tempfile::tempdir().unwrap() };
        std::fs::write(it.config(), config).unwrap();
        it
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path().join("aimpoint.toml")
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aimpoint"));
        let (name, others) = arguments.split_first().unwrap();
        command
            .arg(name)
            .arg("--config")
            .arg(self.config())
            .args(["--set", &format!("kafka.brokers={}", self.kafka.brokers)])
            .args(others);
        command
    }

    /// Runs a command: exit code, standard output, standard error.
    pub(crate) fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = self.command(arguments).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
    }

    /// Starts a process that logs to a file named after its instance.
    pub(crate) fn spawn(&self, instance: &str) -> Running {
        self.spawn_as("run", instance, &[])
    }

    /// The same for a role, with further arguments.
    pub(crate) fn spawn_as(&self, role: &str, instance: &str, arguments: &[&str]) -> Running {
        let log = File::options().create(true).append(true).open(self.folder.path().join(instance)).unwrap();
        let mut command = self.command(&[role, "--log-format", "text", "--set", &format!("app.instance={instance}")]);
        command.args(arguments);
        Running(command.stdout(Stdio::null()).stderr(log).spawn().unwrap())
    }

    pub(crate) fn create(&self, name: &str, partitions: i32, settings: &[(&'static str, &'static str)]) {
        let topics = Topics::new(&self.kafka.brokers, &[], PATIENCE).unwrap();
        let plan = TopicPlan {
            name: name.to_owned(),
            partitions,
            replication: -1,
            settings: settings.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(),
        };
        block_on(topics.create(&plan)).unwrap();
        wait_for("the new topic", PATIENCE, || block_on(topics.state(name)).unwrap().is_some());
    }

    pub(crate) fn publisher(&self, patience: Duration) -> Publisher {
        Publisher::new(&self.kafka.brokers, &[], "clickstream", patience).unwrap()
    }

    /// All records of topics visible to read-committed consumers: waits for this many records and then for a second without more, so
    /// nothing may be published meanwhile.
    pub(crate) fn read(&self, topics: &[&str], at_least: usize, patience: Duration) -> Vec<Found> {
        let large = [("fetch.message.max.bytes".to_owned(), "20000000".to_owned())];
        let reader = Reader::open(&self.kafka.brokers, &large, topics).unwrap();
        let (mut found, mut last) = (Vec::new(), Instant::now());
        while last.elapsed() < if found.len() < at_least { patience } else { Duration::from_secs(1) } {
            let taken = reader.poll(Duration::from_millis(100), |_, record, headers| {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                found.push(Found {
                    partition: record.partition,
                    offset: record.offset,
                    timestamp_ms: record.timestamp_ms,
                    key: record.key.map(<[u8]>::to_vec),
                    payload: record.payload.map(<[u8]>::to_vec),
                    headers: headers.iter().map(|(name, value)| ((*name).to_owned(), text(value))).collect(),
                });
            });
            match taken {
                Ok(0) => {}
                Ok(_) => last = Instant::now(),
                // A broker under load drops connections; the client reconnects.
                Err(SourceError::Unreachable { .. }) => std::thread::sleep(Duration::from_millis(100)),
                Err(error) => panic!("read {topics:?}: {error}"),
            }
        }
        found
    }

    /// The logs of the processes, for failure messages.
    pub(crate) fn logs(&self) -> String {
        let mut logs = String::new();
        for entry in std::fs::read_dir(self.folder.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none() {
                let text = std::fs::read_to_string(&path).unwrap_or_default();
                let lines: Vec<&str> = text.lines().collect();
                let tail = lines[lines.len().saturating_sub(60)..].join("\n");
                logs.extend(["--- ", &path.display().to_string(), "\n", &tail, "\n"]);
            }
        }
        logs
    }
}

pub(crate) fn block_on<T>(question: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(question)
}

pub(crate) fn wait_for(what: &str, deadline: Duration, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < deadline, "waited {deadline:?} for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A process, which is killed if its test fails: a process that is left behind keeps its name, and its tests would fail
/// the next time.
pub(crate) struct Running(Child);

impl From<Child> for Running {
    fn from(child: Child) -> Self {
        Self(child)
    }
}

impl Deref for Running {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Running {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        drop((self.0.kill(), self.0.wait()));
    }
}

pub(crate) fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").arg(name).arg(child.id().to_string()).status().unwrap().success());
}

/// Stops a process with SIGTERM, and returns its exit code.
pub(crate) fn terminate(child: &mut Child, deadline: Duration) -> i32 {
    signal(child, "-TERM");
    let mut code = None;
    wait_for("the process to end", deadline, || {
        code = child.try_wait().unwrap();
        code.is_some()
    });
    code.unwrap().code().unwrap_or(-1)
}

pub(crate) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}
