//! `aimpoint doctor`: checks everything that a run needs, and says how to fix what is wrong.
//!
//! Guarantees: it joins no group, writes no record and changes no topic. Limits: it verifies the rights to read the input and
//! the group's offsets and to open transactions, but not the right to write to the output topics. Exits with the code of the
//! first failure, or with 0 if there are only warnings.

use super::{ConfigArgs, printed::printed};
use crate::{
    app::{
        Setup, neighbours, sink_settings,
        topics::{self, block_on},
    },
    config::Config,
    inference::{Model, Runtime},
    secret::scrub,
    sink::{KafkaSink, Sink, TopicPlan, TopicState},
    source::Probe,
};
use clap::Args;
use std::{
    fmt::Display,
    io::{IsTerminal, Write},
    net::{TcpListener, TcpStream, ToSocketAddrs},
    os::unix::fs::PermissionsExt,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// The input's retention must be at least this many checkpoint intervals: a crash rereads up to one interval, and a process that
/// was down overnight must still find its input.
const RETENTION_PER_CHECKPOINT: u32 = 10;

/// A record this far ahead of this machine's clock means that a clock is wrong.
const SKEW_MAX: Duration = Duration::from_secs(5);

/// How long the collector may take to respond.
const COLLECTOR_DEADLINE: Duration = Duration::from_secs(3);

/// With a lower limit a busy cluster's connections may run out of file descriptors.
const FILES_MIN: u64 = 4_096;

/// Check brokers, permissions, topics, clocks, library, model and files, and say how to fix problems
#[derive(Args, Clone, Debug)]
pub(super) struct DoctorArgs {
    #[command(flatten)]
    config: ConfigArgs,
}

/// How serious a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Ok,
    Warn,
    Fail,
}

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    level: Level,
    subject: &'static str,
    found: String,
    /// The next step.
    next: String,
}

/// The findings so far, and the error that decides the exit code.
#[derive(Default)]
struct Report {
    findings: Vec<Finding>,
    first: Option<anyhow::Error>,
}

impl Report {
    fn add(&mut self, level: Level, subject: &'static str, found: impl Display, next: &str) {
        self.findings.push(Finding {
            level,
            subject,
            found: printed(&scrub(&found.to_string())).into_owned(),
            next: next.to_owned(),
        });
    }

    fn ok(&mut self, subject: &'static str, found: impl Display) {
        self.add(Level::Ok, subject, found, "");
    }

    fn warn(&mut self, subject: &'static str, found: impl Display, next: &str) {
        self.add(Level::Warn, subject, found, next);
    }

    fn fail(&mut self, subject: &'static str, error: anyhow::Error, next: &str) {
        self.add(Level::Fail, subject, format!("{error:#}"), next);
        self.first.get_or_insert(error);
    }

    fn print(&self, out: &mut impl Write, is_coloured: bool) -> std::io::Result<()> {
        for Finding { level, subject, found, next } in &self.findings {
            let (word, colour) = match level {
                Level::Ok => ("ok", 32),
                Level::Warn => ("warn", 33),
                Level::Fail => ("fail", 31),
            };
            let word = if is_coloured { format!("\x1b[{colour}m{word:<6}\x1b[0m") } else { format!("{word:<6}") };
            writeln!(out, "{word}{subject:<14}{}", found.trim_end().replace('\n', "\n                    "))?;
            if !next.is_empty() {
                writeln!(out, "                    -> {next}")?;
            }
        }
        let count = |level| self.findings.iter().filter(|it| it.level == level).count();
        writeln!(out, "\n{} ok, {} warnings, {} failed", count(Level::Ok), count(Level::Warn), count(Level::Fail))
    }
}

pub(super) fn run(args: &DoctorArgs) -> anyhow::Result<()> {
    let setup = args.config.read()?;
    let mut report = Report::default();
    report.ok("configuration", "valid");
    files(&setup.config, args.config.config.as_deref(), &mut report);
    collector(&setup.config, &mut report);
    model(&setup, &mut report);
    cluster(&setup.config, &mut report);
    let mut out = std::io::stdout().lock();
    let is_coloured = out.is_terminal();
    report.print(&mut out, is_coloured)?;
    match report.first {
        None => Ok(()),
        Some(error) => Err(error),
    }
}

/// Checks files, limits and ports of this machine.
fn files(config: &Config, path: Option<&Path>, report: &mut Report) {
    let mode = path.and_then(|path| path.metadata().ok()).map(|it| it.permissions().mode());
    let is_secret = config.holds_secrets();
    match (mode, path) {
        (Some(mode), Some(path)) if mode & 0o004 != 0 && is_secret => report.warn(
            "files",
            format!(
                "{} or the environment holds secrets, and every user of this machine can read the file",
                path.display()
            ),
            "set its mode to 640 (chmod 640), or keep secrets in the environment only",
        ),
        (Some(_), Some(path)) => report.ok("files", format!("{} exposes no secrets", path.display())),
        _ => report.ok("files", "no configuration file to check"),
    }
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    match open_files(&limits) {
        Some(limit) if limit < FILES_MIN => report.warn(
            "limits",
            format!("{limit} open files"),
            "raise it to 4096 or more: ulimit -n, LimitNOFILE of systemd, or the container's ulimits",
        ),
        Some(limit) => report.ok("limits", format!("{limit} open files")),
        None => report.warn("limits", "unknown on this system", "make sure that 4096 files may be open"),
    }
    match config.admin.address {
        Some(address) if !address.ip().is_loopback() && config.admin.token.is_none() => report.warn(
            "admin",
            format!("{address} without a token: everyone who can reach it sees the configuration (secrets masked)"),
            "set admin.token, or make sure that only Prometheus and the probes can reach it",
        ),
        Some(address) if TcpListener::bind(address).is_err() => report.warn(
            "admin",
            format!("{address} is in use, or is not an address of this machine"),
            "set another admin.address, unless this application is already running there",
        ),
        address => {
            report.ok("admin", address.map_or("reachable from this machine only".to_owned(), |it| it.to_string()));
        }
    }
}

/// Checks that something listens at the collector's address.
fn collector(config: &Config, report: &mut Report) {
    let Some(endpoint) = &config.otlp.endpoint else { return };
    let address = endpoint.parse::<hyper::Uri>().ok().and_then(|uri| {
        let port = uri.port_u16().unwrap_or(80);
        (uri.host()?.trim_matches(['[', ']']), port).to_socket_addrs().ok()?.next()
    });
    let next = "start a collector there or correct otlp.endpoint; decisions do not depend on it";
    match address.map(|address| TcpStream::connect_timeout(&address, COLLECTOR_DEADLINE)) {
        Some(Ok(_)) => report.ok("collector", format!("{endpoint} answers")),
        Some(Err(error)) => report.warn("collector", format!("{endpoint}: {error}"), next),
        None => report.warn("collector", format!("{endpoint}: unknown host"), next),
    }
}

/// The soft limit of open files in the text of `/proc/self/limits`.
fn open_files(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let soft = line.split_whitespace().next()?;
    if soft == "unlimited" { Some(u64::MAX) } else { soft.parse().ok() }
}

fn model(setup: &Setup, report: &mut Report) {
    if setup.config.model.is_none() {
        return report.ok("model", "none: decisions have no score");
    }
    match Runtime::load(setup.config.inference.onnxruntime.as_deref()) {
        Ok(runtime) => {
            report.ok("library", format!("ONNX Runtime {} from {}", runtime.version(), runtime.library().display()));
        }
        Err(error) => {
            return report.fail(
                "library",
                error.into(),
                "fix this first; the model cannot be checked without the library",
            );
        }
    }
    let loaded = setup.pipeline(false).map_err(Into::into).and_then(|pipeline| setup.models(&pipeline));
    match loaded {
        Ok(models) => {
            for info in models.0.iter().map(Model::info) {
                report
                    .ok("model", format!("{} {} matches the features, on {}", info.name, info.version, info.provider));
            }
        }
        Err(error) => report.fail("model", error, "see aimpoint check for the declared features"),
    }
}

fn cluster(config: &Config, report: &mut Report) {
    let brokers = &config.kafka.brokers;
    let plans = topics::plans(config);
    let found = topics::client(config).and_then(|client| {
        let states = block_on(topics::states(&client, &plans))??;
        Ok((client, states))
    });
    let (client, states) = match found {
        Ok(found) => found,
        Err(error) => {
            return report.fail(
                "brokers",
                error,
                "check kafka.brokers, the network and kafka.client \"security.protocol\"; --log debug shows more",
            );
        }
    };
    report.ok("brokers", format!("{brokers} answers"));
    match topics::fit(&plans, &states) {
        Ok(()) => report.ok("topics", "exist and match"),
        Err(unfit) => {
            report.fail("topics", unfit.into(), "see above; aimpoint topics --create creates what is missing");
        }
    }
    if config.needs_control() {
        match topics::unfit_for_control(&client, config) {
            Ok(None) => report.ok("control's topics", "exist and match"),
            Ok(Some(unfit)) => {
                report.fail("control's topics", unfit.into(), "aimpoint topics --create creates what is missing");
            }
            Err(error) => report.fail("control's topics", error, "see brokers"),
        }
    }
    settings(&plans, &states, config.checkpoint.interval, report);
    let Some(Some(input)) = states.first() else { return };

    let kafka = &config.kafka;
    let probe = Probe::new(
        brokers,
        &kafka.consumer_settings(),
        config.group(),
        &config.topics.clickstream,
        input.partitions as i32,
    );
    let probe = match probe {
        Ok(probe) => probe,
        Err(error) => return report.fail("consumer", error.into(), "correct kafka.client and kafka.consumer"),
    };
    match probe.committed() {
        Ok(0) => report.ok("group", format!("{} has committed nothing yet", config.group())),
        Ok(count) => report.ok("group", format!("{} has committed offsets for {count} partitions", config.group())),
        Err(error) => report.fail("group", error.into(), "allow Read on the group named by app.name"),
    }
    match probe.newest_ms() {
        Ok(newest) => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |it| it.as_millis() as i64);
            clock(newest, now, report);
        }
        Err(error) => report.fail("input", error.into(), "allow Read on the input topic"),
    }
    transactions(config, report);
    // Without read permission on the outputs there is nothing to report.
    for it in neighbours::find(config).unwrap_or_default() {
        report.warn("neighbours", it.message(config), "");
    }
}

/// Checks the topics' settings.
fn settings(plans: &[TopicPlan], states: &[Option<TopicState>], checkpoint: Duration, report: &mut Report) {
    for (index, (plan, state)) in plans.iter().zip(states).enumerate() {
        let Some(state) = state else { continue };
        if state.settings.is_empty() {
            report.warn(
                "rights",
                format!("no permission to see the settings of {:?}", plan.name),
                "allow DescribeConfigs on the topic",
            );
            continue;
        }
        if let Some(kept) = state.setting("retention.ms").and_then(|it| it.parse::<i64>().ok()).filter(|_| index == 0) {
            let wanted = checkpoint * RETENTION_PER_CHECKPOINT;
            let kept = u64::try_from(kept).map_or(Duration::MAX, Duration::from_millis);
            if kept < wanted {
                report.warn(
                    "retention",
                    format!("{:?} is kept for {}", plan.name, crate::duration::display(kept)),
                    &format!(
                        "raise its retention.ms to {} or more: after a crash the input of one checkpoint.interval is reread",
                        wanted.as_millis()
                    ),
                );
            } else {
                report.ok("retention", format!("{:?} is kept longer than a recovery needs", plan.name));
            }
        }
        if state.setting("min.insync.replicas") == Some("1") && index > 0 {
            report.warn(
                "durability",
                format!("{:?} acknowledges writes on one replica (min.insync.replicas = 1)", plan.name),
                "with 3 replicas set it to 2, so that losing a broker loses no decision",
            );
        }
    }
}

/// Compares the newest record's timestamp with this machine's clock.
fn clock(newest: Option<i64>, now: i64, report: &mut Report) {
    match newest {
        None => report.ok("clock", "no record to compare with"),
        Some(newest) if newest > now + SKEW_MAX.as_millis() as i64 => report.warn(
            "clock",
            format!("the newest record is {} s ahead of this machine", (newest - now) / 1_000),
            "synchronize this machine, the brokers and the producers by NTP",
        ),
        Some(newest) => report.ok("clock", format!("the newest record is {} s old", ((now - newest) / 1_000).max(0))),
    }
}

/// Opens a transaction under its own transactional id, so that no worker is fenced.
fn transactions(config: &Config, report: &mut Report) {
    let id = format!("{}-@{}-doctor", config.app.name, config.app.instance());
    let sink = KafkaSink::new(sink_settings(config, id.clone(), config.kafka.producer_settings()));
    match sink.and_then(|mut sink| sink.fence()) {
        Ok(()) => report.ok("transactions", format!("allowed, as {id}")),
        Err(error) => report.fail(
            "transactions",
            anyhow::Error::new(error),
            "allow Write and Describe on transactional ids with the prefix app.name + \"-@\", and IdempotentWrite on the cluster",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(settings: &[(&str, &str)]) -> TopicState {
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        TopicState { partitions: 4, settings }
    }

    fn levels(judge: impl FnOnce(&mut Report)) -> Vec<(Level, &'static str)> {
        let mut report = Report::default();
        judge(&mut report);
        report.findings.iter().map(|it| (it.level, it.subject)).collect()
    }

    #[test]
    fn short_retention_of_the_input_and_outputs_on_one_replica_are_warned_about() {
        let plans = topics::plans(&Config::default());
        let valid = [("retention.ms", "604800000"), ("min.insync.replicas", "2")];
        let all = |input: &[(&str, &str)], output: &[(&str, &str)]| {
            let states = [Some(state(input)), Some(state(output)), Some(state(&valid)), None];
            levels(|report| settings(&plans, &states, Duration::from_secs(30), report))
        };
        assert_eq!(all(&valid, &valid), [(Level::Ok, "retention")]);
        assert_eq!(all(&[("retention.ms", "-1")], &valid), [(Level::Ok, "retention")], "forever");
        assert_eq!(all(&[("retention.ms", "60000")], &valid), [(Level::Warn, "retention")]);
        assert_eq!(
            all(&valid, &[("min.insync.replicas", "1")]),
            [(Level::Ok, "retention"), (Level::Warn, "durability")]
        );
        assert_eq!(all(&[], &valid), [(Level::Warn, "rights")]);
    }

    #[test]
    fn a_record_from_the_future_is_warned_about() {
        assert_eq!(levels(|report| clock(Some(20_000), 10_000, report)), [(Level::Warn, "clock")]);
        assert_eq!(levels(|report| clock(Some(9_000), 10_000, report)), [(Level::Ok, "clock")]);
        assert_eq!(levels(|report| clock(None, 10_000, report)), [(Level::Ok, "clock")]);
    }

    #[test]
    fn a_collector_is_checked_if_one_is_configured() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let mut config = Config::default();
        assert_eq!(levels(|report| collector(&config, report)), []);
        config.otlp.endpoint = Some(format!("http://{address}/otlp"));
        assert_eq!(levels(|report| collector(&config, report)), [(Level::Ok, "collector")]);
        drop(listener);
        assert_eq!(levels(|report| collector(&config, report)), [(Level::Warn, "collector")]);
        config.otlp.endpoint = Some("http://collector.invalid:4318".to_owned());
        assert_eq!(levels(|report| collector(&config, report)), [(Level::Warn, "collector")]);
    }

    #[test]
    fn the_limit_of_open_files_is_parsed() {
        let limits = "Limit   Soft Limit  Hard Limit  Units\nMax open files            1024                 524288               files\n";
        assert_eq!(open_files(limits), Some(1_024));
        assert_eq!(open_files("Max open files unlimited unlimited files"), Some(u64::MAX));
        assert_eq!(open_files(""), None);
    }
}
