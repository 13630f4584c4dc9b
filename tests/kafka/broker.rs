//! A real Kafka for a test, started and stopped by the script `broker/kafka`.
//!
//! A cluster of one usual broker is used again by the next test that wants one, without topics and groups: starting one takes
//! as long as many tests.

use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    error::RDKafkaErrorCode,
};
use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// The idle cluster, and the turn of the test that has one. Only one works at a time: with two, a machine of two cores is too
/// slow for the loads of the fault tests.
static IDLE: Mutex<Option<Cluster>> = Mutex::new(None);

/// How long a usual broker may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Kafka {
    /// None only while it is dropped.
    cluster: Option<Cluster>,
    pub(crate) brokers: String,
    /// Whether the next test finds it as new: no settings of its own, and no broker that was killed.
    is_reusable: AtomicBool,
    turn: MutexGuard<'static, Option<Cluster>>,
}

impl Kafka {
    /// Starts a cluster of this many brokers. If Java or Maven is missing, the test fails with the script's message.
    pub(crate) fn start(nodes: usize) -> Self {
        if nodes > 1 {
            return Self::start_by(nodes, |_| {});
        }
        let mut turn = turn();
        // One that cannot be used again stops here.
        let idle = turn.take().filter(Cluster::is_cleared);
        Self::of(idle.unwrap_or_else(|| Cluster::start(nodes, |_| {})), true, turn)
    }

    /// The same with additional broker settings, one per line.
    #[allow(dead_code, reason = "each test target uses its own part")]
    pub(crate) fn start_with(nodes: usize, settings: &str) -> Self {
        Self::start_by(nodes, |start| {
            start.env("KAFKA_SETTINGS", settings);
        })
    }

    /// A new cluster, which no other test uses, with further variables for the script.
    pub(crate) fn start_by(nodes: usize, set: impl FnOnce(&mut Command)) -> Self {
        let mut turn = turn();
        drop(turn.take());
        Self::of(Cluster::start(nodes, set), false, turn)
    }

    fn of(cluster: Cluster, is_reusable: bool, turn: MutexGuard<'static, Option<Cluster>>) -> Self {
        let brokers = cluster.brokers.clone();
        Self { cluster: Some(cluster), brokers, is_reusable: AtomicBool::new(is_reusable), turn }
    }

    /// The folder in which the only broker keeps the topics.
    #[allow(dead_code, reason = "each test target uses its own part")]
    pub(crate) fn data(&self) -> PathBuf {
        self.folder().join("node-0/data")
    }

    /// The log of a node.
    #[allow(dead_code, reason = "each test target uses its own part")]
    pub(crate) fn log(&self, node: usize) -> PathBuf {
        self.folder().join(format!("node-{node}.log"))
    }

    fn folder(&self) -> &Path {
        self.cluster.as_ref().expect("it is not dropped").folder.path()
    }

    /// Kills or starts a broker: `kill` or `up`.
    #[allow(dead_code, reason = "each test target uses its own part")]
    pub(crate) fn node(&self, what: &str, node: usize) {
        self.is_reusable.store(false, Ordering::Relaxed);
        let output = script().arg(what).arg("-d").arg(self.folder()).arg(node.to_string()).output();
        let output = output.expect("the script runs");
        assert!(output.status.success(), "{what} node {node}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Runs one of Kafka's own tools on the cluster.
    #[allow(dead_code, reason = "each test target uses its own part")]
    pub(crate) fn tool(&self, class: &str, arguments: &[&str]) {
        let mut command = script();
        command.args(["tool", class, "--bootstrap-server", &self.brokers]).args(arguments);
        let output = command.output().expect("the script runs");
        assert!(output.status.success(), "{class}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        if self.is_reusable.load(Ordering::Relaxed) && !std::thread::panicking() {
            *self.turn = self.cluster.take();
        }
    }
}

/// Brokers. They end with this process, at the latest.
struct Cluster {
    folder: TempDir,
    brokers: String,
}

impl Cluster {
    fn start(nodes: usize, set: impl FnOnce(&mut Command)) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut start = script();
        start.arg("start").arg("-d").arg(folder.path()).args([
            "-n",
            &nodes.to_string(),
            "-w",
            &std::process::id().to_string(),
        ]);
        set(&mut start);
        let output = start.output().expect("the script runs");
        assert!(output.status.success(), "start Kafka: {}", String::from_utf8_lossy(&output.stderr));
        let brokers = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        Self { folder, brokers }
    }

    /// Deletes all groups and topics. Fails if a group still has members, which would take partitions of the next test.
    fn is_cleared(&self) -> bool {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers).set("group.id", "probe");
        let consumer: BaseConsumer = config.create().expect("a client");
        let admin: AdminClient<DefaultClientContext> = config.create().expect("a client");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE));

        let Ok(groups) = consumer.fetch_group_list(None, PATIENCE) else { return false };
        let groups: Vec<&str> = groups.groups().iter().map(rdkafka::groups::GroupInfo::name).collect();
        if !groups.is_empty() {
            let Ok(deleted) = runtime.block_on(admin.delete_groups(&groups, &options)) else { return false };
            let is_gone = |code: RDKafkaErrorCode| code == RDKafkaErrorCode::GroupIdNotFound;
            if !deleted.iter().all(|it| it.as_ref().err().is_none_or(|(_, code)| is_gone(*code))) {
                return false;
            }
        }
        let topics = || -> Option<Vec<String>> {
            let metadata = consumer.fetch_metadata(None, PATIENCE).ok()?;
            let names = metadata.topics().iter().map(|topic| topic.name().to_owned());
            Some(names.filter(|name| !name.starts_with("__")).collect())
        };
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            let Some(found) = topics() else { return false };
            if found.is_empty() {
                return true;
            }
            let names: Vec<&str> = found.iter().map(String::as_str).collect();
            if runtime.block_on(admin.delete_topics(&names, &options)).is_err() {
                return false;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        false
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let stopped = script().arg("stop").arg("-d").arg(self.folder.path()).output();
        if std::thread::panicking() {
            self.folder.disable_cleanup(true);
            #[allow(clippy::print_stderr, reason = "whoever looks into a failure has to find them")]
            let () = eprintln!("the brokers' logs are kept in {}", self.folder.path().display());
        } else {
            assert!(stopped.is_ok_and(|output| output.status.success()), "Kafka does not stop");
        }
    }
}

/// The turn of a test.
fn turn() -> MutexGuard<'static, Option<Cluster>> {
    IDLE.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn script() -> Command {
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kafka/broker/kafka"))
}
