//! A real Kafka for a test, started and stopped by the script `broker/kafka`.

use std::{
    path::Path,
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
};
use tempfile::TempDir;

/// Only one cluster at a time: with two, a machine of two cores is too slow for the loads of the fault tests.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

pub(crate) struct Kafka {
    folder: TempDir,
    pub(crate) brokers: String,
    _turn: MutexGuard<'static, ()>,
}

impl Kafka {
    /// Starts a cluster of this many brokers. If Java or Maven is missing, the test fails with the script's message.
    pub(crate) fn start(nodes: usize) -> Self {
        Self::start_with(nodes, "")
    }

    /// The same with additional broker settings, one per line.
    pub(crate) fn start_with(nodes: usize, settings: &str) -> Self {
        Self::start_by(nodes, |start| {
            start.env("KAFKA_SETTINGS", settings);
        })
    }

    /// The same with further variables for the script.
    pub(crate) fn start_by(nodes: usize, set: impl FnOnce(&mut Command)) -> Self {
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut start = script();
        start.arg("start").arg("-d").arg(folder.path()).args(["-n", &nodes.to_string()]);
        set(&mut start);
        let output = start.output().expect("the script runs");
        assert!(output.status.success(), "start Kafka: {}", String::from_utf8_lossy(&output.stderr));
        let brokers = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        Self { folder, brokers, _turn: turn }
    }

    /// The log of a node.
    #[allow(dead_code, reason = "each test target uses its own part")]
    pub(crate) fn log(&self, node: usize) -> std::path::PathBuf {
        self.folder.path().join(format!("node-{node}.log"))
    }

    /// Kills or starts a broker: `kill` or `up`.
    #[allow(dead_code, reason = "each test target uses its own part")]
    pub(crate) fn node(&self, what: &str, node: usize) {
        let output = script().arg(what).arg("-d").arg(self.folder.path()).arg(node.to_string()).output();
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

pub(crate) fn script() -> Command {
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kafka/broker/kafka"))
}
