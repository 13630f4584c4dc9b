//! `aimpoint doctor`: looks at everything that a run needs, and says what to do about what is amiss.
//!
//! Guarantees: it joins no group, writes no record and changes no topic. It shows that this user may read the input and the
//! group's positions and may open transactions under this application's name; whether it may write to the output topics
//! shows only when something is written. Ends with the exit code of the first failure, or 0 where there are only warnings.

use super::{ConfigArgs, printed::printed};
use crate::{
    app::{
        Setup, neighbours,
        topics::{self, block_on},
    },
    config::Config,
    engine::Delivery,
    inference::{Model, Runtime},
    secret::scrub,
    sink::{KafkaSink, KafkaSinkSettings, Sink, TopicPlan, TopicState},
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

/// The input has to be kept for so many times the checkpoint's interval: after a crash so much of it is read again, and a
/// process that is down for a night must still find it.
const RETENTION_PER_CHECKPOINT: u32 = 10;

/// A record this far ahead of this machine's clock says that one of the two clocks is wrong.
const SKEW_MAX: Duration = Duration::from_secs(5);

/// How long the collector may take to answer.
const COLLECTOR_DEADLINE: Duration = Duration::from_secs(3);

/// Below this many files a busy cluster's connections may not find room.
const FILES_MIN: u64 = 4_096;

/// Look at brokers, rights, topics, clocks, library, model and files, and say what to do
#[derive(Args, Clone, Debug)]
pub(super) struct DoctorArgs {
    #[command(flatten)]
    config: ConfigArgs,
}

/// What is amiss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Ok,
    Warn,
    Fail,
}

/// One thing looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    level: Level,
    subject: &'static str,
    found: String,
    /// What to do about it.
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
    report.ok("configuration", "sound");
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

/// What lies on this machine.
fn files(config: &Config, path: Option<&Path>, report: &mut Report) {
    let mode = path.and_then(|path| path.metadata().ok()).map(|it| it.permissions().mode());
    let is_secret = config.holds_secrets();
    match (mode, path) {
        (Some(mode), Some(path)) if mode & 0o004 != 0 && is_secret => report.warn(
            "files",
            format!(
                "{} or the environment holds secrets, and everybody on this machine can read the file",
                path.display()
            ),
            "chmod 640 it, or keep secrets in the environment alone",
        ),
        (Some(_), Some(path)) => report.ok("files", format!("{} keeps its secrets", path.display())),
        _ => report.ok("files", "no configuration file, or none that is looked at"),
    }
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    match open_files(&limits) {
        Some(limit) if limit < FILES_MIN => report.warn(
            "limits",
            format!("{limit} open files"),
            "raise it to 4096 or more: ulimit -n, LimitNOFILE of systemd, or the container's ulimits",
        ),
        Some(limit) => report.ok("limits", format!("{limit} open files")),
        None => report.warn("limits", "not told by this system", "see to it that 4096 files may be open"),
    }
    match config.admin.address {
        Some(address) if !address.ip().is_loopback() && config.admin.token.is_none() => report.warn(
            "admin",
            format!("{address} without a token: who reaches it sees the configuration, secrets as stars"),
            "set admin.token, or see to it that only Prometheus and the probes reach it",
        ),
        Some(address) if TcpListener::bind(address).is_err() => report.warn(
            "admin",
            format!("{address} is taken, or no address of this machine"),
            "unless it is this application that runs there already, set another admin.address",
        ),
        address => report.ok("admin", address.map_or("this machine alone".to_owned(), |it| it.to_string())),
    }
}

/// Whether something listens where metrics and traces are to be sent.
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
        None => report.warn("collector", format!("{endpoint}: there is no such host"), next),
    }
}

/// The limit of open files in what Linux tells of a process.
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
        Err(error) => return report.fail("library", error.into(), "the model is not looked at before that"),
    }
    let loaded = setup.pipeline(false).map_err(Into::into).and_then(|pipeline| setup.models(&pipeline));
    match loaded {
        Ok(models) => {
            for info in models.0.iter().map(Model::info) {
                report.ok("model", format!("{} {} fits the features, on {}", info.name, info.version, info.provider));
            }
        }
        Err(error) => report.fail("model", error, "see aimpoint check for what is declared"),
    }
}

fn cluster(config: &Config, report: &mut Report) {
    let brokers = &config.kafka.brokers;
    let plans = topics::plans(config);
    let states = topics::client(config).and_then(|client| block_on(topics::states(&client, &plans))?);
    let states = match states {
        Ok(states) => states,
        Err(error) => {
            return report.fail(
                "brokers",
                error,
                "check kafka.brokers, the network and kafka.client \"security.protocol\"; --log debug tells more",
            );
        }
    };
    report.ok("brokers", format!("{brokers} answers"));
    match topics::fit(&plans, &states) {
        Ok(()) => report.ok("topics", "all there, and they fit"),
        Err(unfit) => report.fail("topics", unfit.into(), "see above; aimpoint topics --create makes what is missing"),
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
        Ok(count) => report.ok("group", format!("{} has positions of {count} partitions", config.group())),
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
    // Who may not read the outputs is told of nobody.
    for it in neighbours::find(config).unwrap_or_default() {
        report.warn("neighbours", it.message(config), "");
    }
}

/// What the topics' settings mean for a run.
fn settings(plans: &[TopicPlan], states: &[Option<TopicState>], checkpoint: Duration, report: &mut Report) {
    for (index, (plan, state)) in plans.iter().zip(states).enumerate() {
        let Some(state) = state else { continue };
        if state.settings.is_empty() {
            report.warn(
                "rights",
                format!("the settings of {:?} may not be seen", plan.name),
                "allow DescribeConfigs on it",
            );
            continue;
        }
        if let Some(kept) = state.setting("retention.ms").and_then(|it| it.parse::<i64>().ok()).filter(|_| index == 0) {
            let wanted = checkpoint * RETENTION_PER_CHECKPOINT;
            let kept = u64::try_from(kept).map_or(Duration::MAX, Duration::from_millis);
            if kept < wanted {
                report.warn(
                    "retention",
                    format!("{:?} is kept for {}", plan.name, humantime::format_duration(kept)),
                    &format!(
                        "raise its retention.ms to {} or more: after a crash the input of checkpoint.interval is read again",
                        wanted.as_millis()
                    ),
                );
            } else {
                report.ok("retention", format!("{:?} is kept for longer than a recovery needs", plan.name));
            }
        }
        if state.setting("min.insync.replicas") == Some("1") && index > 0 {
            report.warn(
                "durability",
                format!("{:?} counts as written on one replica (min.insync.replicas = 1)", plan.name),
                "with 3 replicas set it to 2, so that the loss of a broker loses no decision",
            );
        }
    }
}

/// What the newest record's timestamp says about the clocks.
fn clock(newest: Option<i64>, now: i64, report: &mut Report) {
    match newest {
        None => report.ok("clock", "no record to compare with"),
        Some(newest) if newest > now + SKEW_MAX.as_millis() as i64 => report.warn(
            "clock",
            format!("the newest record lies {} s ahead of this machine", (newest - now) / 1_000),
            "let this machine, the brokers and the producers keep time by NTP",
        ),
        Some(newest) => report.ok("clock", format!("the newest record is {} s old", ((now - newest) / 1_000).max(0))),
    }
}

/// Opens transactions under an id of its own beside the workers', which shuts nobody out.
fn transactions(config: &Config, report: &mut Report) {
    let id = format!("{}-@{}-doctor", config.app.name, config.app.instance());
    let sink = KafkaSink::new(KafkaSinkSettings {
        brokers: config.kafka.brokers.clone(),
        transactional_id: id.clone(),
        shows_at_once: config.commit.delivery == Delivery::AtLeastOnce,
        input: config.topics.clickstream.clone(),
        decisions: config.topics.decisions.clone(),
        dead_letters: config.topics.dead_letter.clone(),
        profiles: config.profiles_topic(),
        linger: config.commit.linger(),
        client: config.kafka.producer_settings(),
    });
    match sink.and_then(|mut sink| sink.fence()) {
        Ok(()) => report.ok("transactions", format!("may be opened, as {id}")),
        Err(error) => report.fail(
            "transactions",
            anyhow::Error::new(error),
            "allow Write and Describe on transactional ids that begin with app.name, and IdempotentWrite on the cluster",
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
    fn an_input_that_goes_too_soon_and_outputs_on_one_replica_are_warned_of() {
        let plans = topics::plans(&Config::default());
        let sound = [("retention.ms", "604800000"), ("min.insync.replicas", "2")];
        let all = |input: &[(&str, &str)], output: &[(&str, &str)]| {
            let states = [Some(state(input)), Some(state(output)), Some(state(&sound)), None];
            levels(|report| settings(&plans, &states, Duration::from_secs(30), report))
        };
        assert_eq!(all(&sound, &sound), [(Level::Ok, "retention")]);
        assert_eq!(all(&[("retention.ms", "-1")], &sound), [(Level::Ok, "retention")], "for ever");
        assert_eq!(all(&[("retention.ms", "60000")], &sound), [(Level::Warn, "retention")]);
        assert_eq!(
            all(&sound, &[("min.insync.replicas", "1")]),
            [(Level::Ok, "retention"), (Level::Warn, "durability")]
        );
        assert_eq!(all(&[], &sound), [(Level::Warn, "rights")]);
    }

    #[test]
    fn a_record_from_the_future_is_warned_of() {
        assert_eq!(levels(|report| clock(Some(20_000), 10_000, report)), [(Level::Warn, "clock")]);
        assert_eq!(levels(|report| clock(Some(9_000), 10_000, report)), [(Level::Ok, "clock")]);
        assert_eq!(levels(|report| clock(None, 10_000, report)), [(Level::Ok, "clock")]);
    }

    #[test]
    fn a_collector_is_looked_for_where_one_is_named() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let there = listener.local_addr().expect("it is bound");
        let mut config = Config::default();
        assert_eq!(levels(|report| collector(&config, report)), []);
        config.otlp.endpoint = Some(format!("http://{there}/otlp"));
        assert_eq!(levels(|report| collector(&config, report)), [(Level::Ok, "collector")]);
        drop(listener);
        assert_eq!(levels(|report| collector(&config, report)), [(Level::Warn, "collector")]);
        config.otlp.endpoint = Some("http://collector.invalid:4318".to_owned());
        assert_eq!(levels(|report| collector(&config, report)), [(Level::Warn, "collector")]);
    }

    #[test]
    fn the_limit_of_open_files_is_read() {
        let limits = "Limit   Soft Limit  Hard Limit  Units\nMax open files            1024                 524288               files\n";
        assert_eq!(open_files(limits), Some(1_024));
        assert_eq!(open_files("Max open files unlimited unlimited files"), Some(u64::MAX));
        assert_eq!(open_files(""), None);
    }
}
