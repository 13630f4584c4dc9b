//! The sections that configure the process, with their validation rules.

mod kafka;

pub use kafka::{ClientSettings, KafkaSpec};

use crate::{config_error::ConfigError, engine::Delivery, logging, secret::Secret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// `[app]`: the identity of this application.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AppSpec {
    /// The consumer group, and the first part of every transactional id.
    pub name: String,
    /// Identifies this process within the group, stable over restarts; the host name by default.
    pub instance: Option<String>,
    /// Static membership: a restart within the session timeout gets its partitions back at once, without a rebalance.
    pub static_membership: bool,
}

impl Default for AppSpec {
    fn default() -> Self {
        Self { name: "aimpoint".to_owned(), instance: None, static_membership: false }
    }
}

impl AppSpec {
    /// The configured instance name, or the host name.
    pub fn instance(&self) -> String {
        let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|name| name.trim().to_owned());
        self.instance
            .clone()
            .or_else(|| std::env::var("HOSTNAME").ok())
            .or_else(host)
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| "0".to_owned())
    }

    pub(super) fn check(&self, errors: &mut Vec<ConfigError>) {
        if !is_topic(&self.name) {
            errors.push(name_fault("app.name", &self.name));
        }
        if self.instance.as_deref().is_some_and(|name| !is_topic(name)) {
            errors.push(name_fault("app.instance", self.instance.as_deref().unwrap_or_default()));
        }
    }
}

/// `[topics]`: the names of the topics, and how they are created.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TopicsSpec {
    /// The input.
    pub clickstream: String,
    /// The decisions.
    pub decisions: String,
    /// The dead letters.
    pub dead_letter: String,
    /// The changelog of the profiles; `<app.name>-profiles` by default.
    pub profiles: Option<String>,
    /// The scores of shadows; not written by default.
    pub shadow_scores: Option<String>,
    /// The outcomes, which control reads.
    pub outcomes: String,
    /// The policy of control; `<app.name>-policy` by default.
    pub policy: Option<String>,
    /// The state of control; `<app.name>-control` by default.
    pub control: Option<String>,
    /// How many users are in each segment, which workers report to control; `<app.name>-audiences` by default.
    pub audiences: Option<String>,
    /// Whether consumers need only a user's latest decision: `aimpoint topics --create` then compacts the decisions.
    pub decisions_by_user: bool,
    /// Number of partitions of topics that `aimpoint topics --create` creates.
    pub partitions: i32,
    /// Replication factor of topics that `aimpoint topics --create` creates; -1 is the broker's default.
    pub replication: i32,
}

impl Default for TopicsSpec {
    fn default() -> Self {
        Self {
            clickstream: "clickstream".to_owned(),
            decisions: "decisions".to_owned(),
            dead_letter: "dead-letter".to_owned(),
            profiles: None,
            shadow_scores: None,
            outcomes: "outcomes".to_owned(),
            policy: None,
            control: None,
            audiences: None,
            decisions_by_user: false,
            partitions: 4,
            replication: -1,
        }
    }
}

impl TopicsSpec {
    /// Checks that names are valid and differ from each other, and from the names that the application `app` gives to
    /// those that are left out.
    pub(super) fn check(&self, app: &str, errors: &mut Vec<ConfigError>) {
        let given = [
            ("topics.clickstream", Some(&self.clickstream)),
            ("topics.decisions", Some(&self.decisions)),
            ("topics.dead_letter", Some(&self.dead_letter)),
            ("topics.profiles", self.profiles.as_ref()),
            ("topics.shadow_scores", self.shadow_scores.as_ref()),
            ("topics.outcomes", Some(&self.outcomes)),
            ("topics.policy", self.policy.as_ref()),
            ("topics.control", self.control.as_ref()),
            ("topics.audiences", self.audiences.as_ref()),
        ];
        // Names that are left out come first: an error is about one that is given.
        let of_app = ["profiles", "policy", "control", "audiences"].map(|part| (part, format!("{app}-{part}")));
        let is_left_out = |part: &str| given.iter().any(|(key, name)| name.is_none() && key.ends_with(part));
        let mut names: Vec<(String, &str)> = Vec::new();
        for (part, name) in of_app.iter().filter(|(part, _)| is_left_out(part)) {
            names.push((format!("the default of topics.{part}"), name));
        }
        names.extend(given.iter().filter_map(|(key, name)| Some(((*key).to_owned(), name.as_ref()?.as_str()))));
        for (index, (key, name)) in names.iter().enumerate() {
            if !is_topic(name) && key.starts_with("topics.") {
                errors.push(name_fault(key, name));
            }
            if let Some((other, _)) = names[..index].iter().find(|(_, other)| other == name) {
                errors.push(
                    ConfigError::new(key, format!("{name:?} is already {other}"))
                        .hint("use a different topic for each"),
                );
            }
        }
        if !(1..=100_000).contains(&self.partitions) {
            errors.push(ConfigError::new(
                "topics.partitions",
                format!("{} is not between 1 and 100000", self.partitions),
            ));
        }
        if self.replication != -1 && !(1..=100).contains(&self.replication) {
            errors.push(
                ConfigError::new("topics.replication", format!("{} is not between 1 and 100", self.replication))
                    .hint("-1 is the broker's default"),
            );
        }
    }
}

/// `[commit]`: the delivery guarantee and the commit interval.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CommitSpec {
    /// The delivery guarantee of decisions.
    pub delivery: Delivery,
    /// How long after a batch's first event it is committed, which with `exactly_once` makes its decisions visible.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub interval: Duration,
}

impl Default for CommitSpec {
    fn default() -> Self {
        Self { delivery: Delivery::ExactlyOnce, interval: Duration::from_millis(25) }
    }
}

impl CommitSpec {
    /// How long the producer collects messages for a request: a twentieth of the time until they become visible. A request costs the
    /// broker as much as a hundred messages.
    pub fn linger(&self) -> Duration {
        match self.delivery {
            Delivery::ExactlyOnce => (self.interval / 20).clamp(Duration::from_millis(1), Duration::from_millis(5)),
            Delivery::AtLeastOnce => Duration::from_millis(1),
        }
    }

    /// How long a worker waits after a small batch, so that the next one is larger.
    pub fn pace(&self) -> Duration {
        match self.delivery {
            Delivery::ExactlyOnce => (self.interval / 10).min(Duration::from_millis(2)),
            Delivery::AtLeastOnce => Duration::from_micros(200),
        }
    }

    pub(super) fn check(&self, errors: &mut Vec<ConfigError>) {
        if !(Duration::from_millis(1)..=Duration::from_secs(5)).contains(&self.interval) {
            let interval = crate::duration::display(self.interval);
            errors.push(
                ConfigError::new("commit.interval", format!("{interval} is not between 1ms and 5s"))
                    .hint("short intervals cost broker CPU, long ones latency; 25ms is a good start"),
            );
        }
    }
}

/// `[checkpoint]`: how profiles are made durable.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointSpec {
    /// How often a changed profile is written to the changelog at most.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub interval: Duration,
    /// The folder of the snapshots; by default none are written.
    pub snapshots: Option<PathBuf>,
    /// How often each worker writes the snapshot of one of its partitions.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub snapshot_interval: Duration,
}

impl Default for CheckpointSpec {
    fn default() -> Self {
        Self { interval: Duration::from_secs(30), snapshots: None, snapshot_interval: Duration::from_mins(5) }
    }
}

impl CheckpointSpec {
    pub(super) fn check(&self, errors: &mut Vec<ConfigError>) {
        if !(Duration::from_millis(100)..=Duration::from_hours(24)).contains(&self.interval) {
            let interval = crate::duration::display(self.interval);
            errors.push(
                ConfigError::new("checkpoint.interval", format!("{interval} is not between 100ms and 24h"))
                    .hint("after a crash the input of about this long is reread; 30s is a good start"),
            );
        }
        if !(Duration::from_secs(1)..=Duration::from_hours(24)).contains(&self.snapshot_interval) {
            let interval = crate::duration::display(self.snapshot_interval);
            errors.push(
                ConfigError::new("checkpoint.snapshot_interval", format!("{interval} is not between 1s and 24h"))
                    .hint("a worker pauses while it copies a partition's profiles; 5m is a good start"),
            );
        }
    }
}

/// `[engine]`: threads, batches and deadlines.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EngineSpec {
    /// How many workers, each a thread with its own consumer, producer and model; 0 is one for each CPU core.
    pub workers: usize,
    /// The largest batch, in events.
    pub batch_max_rows: usize,
    /// How long a shutdown may take.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub shutdown_deadline: Duration,
    /// How long records may wait without a commit, or a worker may hang, before the process ends.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub stall_after: Duration,
}

impl Default for EngineSpec {
    fn default() -> Self {
        Self {
            workers: 0,
            batch_max_rows: 4_096,
            shutdown_deadline: Duration::from_secs(20),
            stall_after: Duration::from_mins(3),
        }
    }
}

impl EngineSpec {
    /// The number of workers for an input of this many partitions, if known, and the reason.
    pub fn workers(&self, partitions: Option<usize>) -> (usize, String) {
        // On Linux this is the CPU affinity, limited by the quotas of the cgroup and its ancestors (cpu.max, or cpu.cfs_quota_us
        // in version 1), rounded down.
        self.workers_on(std::thread::available_parallelism().map_or(1, std::num::NonZero::get), partitions)
    }

    fn workers_on(&self, cpus: usize, partitions: Option<usize>) -> (usize, String) {
        match (self.workers, partitions) {
            (0, Some(partitions)) if partitions < cpus => {
                let why = format!(
                    "the input has {partitions} partitions, each handled by one worker, and this process may use {cpus} CPUs"
                );
                (partitions.max(1), why)
            }
            (0, Some(partitions)) => {
                let why = format!(
                    "this process may use {cpus} CPUs (affinity and cgroup quota), and the input has {partitions} partitions"
                );
                (cpus, why)
            }
            (0, None) => (
                cpus,
                format!(
                    "this process may use {cpus} CPUs (affinity and cgroup quota); the number of input partitions is not known"
                ),
            ),
            (workers, Some(partitions)) if partitions < workers => (
                partitions.max(1),
                format!(
                    "the input has {partitions} partitions, each handled by one worker: with engine.workers = {workers} some \
                     would be idle"
                ),
            ),
            (workers, _) => (workers, "set by engine.workers".to_owned()),
        }
    }

    pub(super) fn check(&self, errors: &mut Vec<ConfigError>) {
        if self.workers > 1_024 {
            errors.push(ConfigError::new("engine.workers", format!("{} is more than 1024", self.workers)));
        }
        if !(Duration::from_mins(1)..=Duration::from_hours(24)).contains(&self.stall_after) {
            let time = crate::duration::display(self.stall_after);
            errors.push(
                ConfigError::new("engine.stall_after", format!("{time} is not between 1m and 24h"))
                    .hint("calls to a slow broker take up to half a minute; 3m is a good start"),
            );
        }
        if !(1..=1_000_000).contains(&self.batch_max_rows) {
            errors.push(
                ConfigError::new(
                    "engine.batch_max_rows",
                    format!("{} is not between 1 and 1000000", self.batch_max_rows),
                )
                .hint("4096 keeps a batch in the CPU caches"),
            );
        }
    }
}

/// `[admin]`: where health, metrics and the live page are served.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AdminSpec {
    /// Address and port; by default port 9464 on loopback, or any free port if it is in use.
    #[schemars(with = "String")]
    pub address: Option<SocketAddr>,
    /// The bearer token that clients need, if any.
    pub token: Option<Secret>,
}

impl AdminSpec {
    pub(super) fn check(&self, errors: &mut Vec<ConfigError>) {
        let is_valid = |token: &str| token.len() >= 16 && token.bytes().all(|letter| letter.is_ascii_graphic());
        if self.token.as_ref().is_some_and(|token| !is_valid(token.reveal())) {
            errors.push(
                ConfigError::new("admin.token", "a token needs at least 16 ASCII characters and no spaces")
                    .hint("for instance the output of openssl rand -hex 16"),
            );
        }
    }
}

/// `[log]`: the log filter.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogSpec {
    /// A level, or `target=level` pairs separated by commas; the flag and the environment variable take precedence.
    pub filter: Option<String>,
}

impl LogSpec {
    pub(super) fn check(&self, errors: &mut Vec<ConfigError>) {
        if let Some(Err(error)) = self.filter.as_deref().map(logging::check_filter) {
            errors.push(ConfigError::new("log.filter", error).hint("for instance \"info,librdkafka=error\""));
        }
    }
}

/// `[otlp]`: the OpenTelemetry collector for metrics and traces.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OtlpSpec {
    /// `http://host:port` of the collector; by default nothing is sent.
    pub endpoint: Option<String>,
    /// How often metrics are sent.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub interval: Duration,
    /// One in this many commits of a worker is traced; 0 traces none.
    pub trace_one_of: u64,
}

impl Default for OtlpSpec {
    fn default() -> Self {
        Self { endpoint: None, interval: Duration::from_secs(15), trace_one_of: 100 }
    }
}

impl OtlpSpec {
    pub(super) fn check(&self, errors: &mut Vec<ConfigError>) {
        if let Some(endpoint) = &self.endpoint {
            let uri = endpoint.parse::<hyper::Uri>().ok();
            if uri.as_ref().and_then(hyper::Uri::authority).is_some_and(|it| it.as_str().contains('@')) {
                errors.push(
                    ConfigError::new(
                        "otlp.endpoint",
                        "the address contains a user or password, which would not be sent",
                    )
                    .hint("write http://host:port; run a collector next to this process that authenticates to others"),
                );
            } else if !uri.is_some_and(|it| it.scheme_str() == Some("http") && it.query().is_none()) {
                errors.push(ConfigError::new("otlp.endpoint", format!("{endpoint:?} is not http://host:port")).hint(
                    "use a collector next to this process, such as http://localhost:4318, which forwards with TLS",
                ));
            }
        }
        if !(Duration::from_secs(1)..=Duration::from_hours(1)).contains(&self.interval) {
            let interval = crate::duration::display(self.interval);
            errors.push(ConfigError::new("otlp.interval", format!("{interval} is not between 1s and 1h")));
        }
    }
}

/// `[inference]`: the runtime of the models.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct InferenceSpec {
    /// The ONNX Runtime library; searched for by default.
    pub onnxruntime: Option<PathBuf>,
}

/// Whether this is a valid topic name in Kafka. Group and transactional ids are limited to the same characters.
fn is_topic(name: &str) -> bool {
    let letter = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-');
    (1..=200).contains(&name.len()) && name.chars().all(letter) && name != "." && name != ".."
}

fn name_fault(key: &str, name: &str) -> ConfigError {
    ConfigError::new(key, format!("{name:?} is not a valid name in Kafka"))
        .hint("use 1 to 200 letters, digits, '.', '_' and '-'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_workers_as_cpus_but_no_more_than_partitions_and_the_reason_is_given() {
        let chosen = |workers: usize, cpus: usize, partitions: Option<usize>| {
            EngineSpec { workers, ..EngineSpec::default() }.workers_on(cpus, partitions)
        };
        for (workers, cpus, partitions, count, part) in [
            (0, 48, Some(4), 4, "the input has 4 partitions"),
            (0, 2, Some(12), 2, "may use 2 CPUs (affinity and cgroup quota)"),
            (0, 4, Some(4), 4, "may use 4 CPUs"),
            (0, 3, None, 3, "is not known"),
            (0, 8, Some(0), 1, "0 partitions"),
            (8, 2, Some(4), 4, "with engine.workers = 8 some would be idle"),
            (3, 48, Some(4), 3, "set by engine.workers"),
        ] {
            let (found, why) = chosen(workers, cpus, partitions);
            assert!(found == count && why.contains(part), "{workers} {cpus} {partitions:?}: {found}, {why}");
        }
        assert!(EngineSpec::default().workers(Some(1)).0 == 1);
    }
}
