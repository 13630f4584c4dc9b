//! Events in the cluster that affect a running process: other applications, aborted records, retention, new partitions, fencing, an
//! outage, and a deleted changelog. A single test with one broker, because starting a broker takes seconds.

use super::{CONFIG, event};
use crate::{
    broker::Kafka,
    program::{Found, Program, block_on, now_ms, signal, terminate, wait_for},
};
use aimpoint::sink::Topics;
use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer},
    producer::{BaseProducer, BaseRecord, Producer},
};
use std::{
    collections::BTreeSet,
    fs::File,
    io::{Read, Write},
    net::TcpStream,
    process::{Child, Stdio},
    time::Duration,
};

const PATIENCE: Duration = Duration::from_mins(1);

/// A process with its own log.
struct Running {
    child: Child,
    log: std::path::PathBuf,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Do not outlive a failed test.
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
    }
}

impl Running {
    fn start(program: &Program, name: &str, arguments: &[&str]) -> Self {
        let log = program.folder.path().join(name);
        let mut command = program.command(&[&["run", "--log-format", "text"], arguments].concat());
        command.stdout(Stdio::null()).stderr(File::create(&log).unwrap());
        Self { child: command.spawn().unwrap(), log }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn waits_to_log(&self, what: &str) {
        wait_for(&format!("{what:?} in the log:\n{}", self.log()), PATIENCE, || self.log().contains(what));
    }

    /// The response of the admin port.
    fn get(&self, path: &str) -> String {
        let log = self.log();
        let address = log.split("address=").nth(1).unwrap().split_whitespace().next().unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        stream
            .write_all(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// The sum of a metric over its labels.
    fn metric(&self, name: &str) -> f64 {
        let lines = self.get("/metrics");
        let of = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
        let values: Vec<f64> =
            lines.lines().filter(of).map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect();
        assert!(!values.is_empty(), "{name} is missing in {lines}");
        values.iter().sum()
    }
}

/// Publishes events of many users, numbered from `first`.
fn publish(program: &Program, first: usize, count: usize) {
    let publisher = program.publisher(PATIENCE);
    for number in first..first + count {
        let user = number % 41;
        let line = event(number, user, "view", now_ms());
        publisher.publish(Some(format!("u{user}").as_bytes()), Some(line.as_bytes())).unwrap();
    }
    publisher.finish().unwrap();
}

/// The numbers of the decided events, without duplicates.
fn decided(program: &Program, at_least: usize) -> BTreeSet<usize> {
    let found: Vec<Found> = program.read(&["decisions"], at_least, Duration::from_secs(30));
    let number = |it: &Found| -> usize {
        let value: serde_json::Value = serde_json::from_slice(it.payload.as_deref().unwrap()).unwrap();
        value["trigger_event_id"].as_str().unwrap()[1..].parse().unwrap()
    };
    let numbers: BTreeSet<usize> = found.iter().map(number).collect();
    assert_eq!(numbers.len(), found.len(), "no event is decided twice");
    numbers
}

#[test]
fn a_running_process_handles_events_in_the_cluster_and_says_what_to_do() {
    let config = CONFIG.replace("timeout.ms\" = 6000", "timeout.ms\" = 30000").replace("workers = 2", "workers = 1");
    let kafka = Kafka::start_with(1, "auto.create.topics.enable=false\ngroup.initial.rebalance.delay.ms=0");
    let program = Program::on(kafka, &config);
    program.create("clickstream", 2, &[]);
    let (code, out, error) = program.run(&["topics", "--create"]);
    assert_eq!(code, 0, "{error}");
    assert!(out.contains("created it-profiles with 2 partitions, cleanup.policy = compact, min.cleanable"), "{out}");

    // Two processes of one application on one machine: both decide, and neither fences the other.
    let same = format!("app.instance=same-{}", std::process::id());
    let mut first = Running::start(&program, "a", &["--set", &same]);
    first.waits_to_log("assigned partitions=[");
    let mut second = Running::start(&program, "b", &["--set", &same]);
    second.waits_to_log("assigned partitions=[");
    publish(&program, 0, 2_000);
    assert_eq!(decided(&program, 2_000).len(), 2_000, "{}", program.logs());
    // On a busy broker a transaction may fail; only these messages mean fencing.
    for log in [first.log(), second.log()] {
        assert!(["Fenced", "fenced by", "InvalidProducerEpoch"].iter().all(|words| !log.contains(words)), "{log}");
    }
    assert!(second.log().contains(".p1\""), "{}", second.log());
    assert_eq!(terminate(&mut second.child, PATIENCE), 0, "{}", program.logs());

    // Aborted records are not counted as lag.
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &program.kafka.brokers)
        .set("transactional.id", "upstream")
        .create()
        .unwrap();
    producer.init_transactions(PATIENCE).unwrap();
    producer.begin_transaction().unwrap();
    for partition in 0..2 {
        let record = BaseRecord::<[u8], [u8]>::to("clickstream").partition(partition).payload(&b"{}"[..]);
        producer.send(record).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
    producer.abort_transaction(PATIENCE).unwrap();
    first.waits_to_log("assigned partitions=[");
    std::thread::sleep(Duration::from_secs(5));
    wait_for("no lag", PATIENCE, || first.metric("aimpoint_lag_records") == 0.0);
    assert_eq!(first.metric("aimpoint_lag_seconds"), 0.0);

    // Another application with the default topics gets a warning about this one.
    let (code, _, error) = program.run(&["topics", "--create", "--set", "app.name=other"]);
    assert_eq!(code, 0, "{error}");
    let (code, out, error) = program.run(&["check", "--set", "app.name=other"]);
    assert_eq!(code, 0, "{out}{error}");
    assert!(out.contains("the application \"it\" also writes to \"decisions\""), "{out}");
    assert!(out.contains("Set another topics.decisions for \"other\""), "{out}");
    let (_, out, _) = program.run(&["check"]);
    assert!(!out.contains("writes to"), "an application is not reported to itself: {out}");

    // Retention deletes unread records: the process continues and reports the loss.
    signal(&first.child, "-STOP");
    publish(&program, 2_000, 1_000);
    let file = program.folder.path().join("delete.json");
    let part = |partition| format!(r#"{{"topic":"clickstream","partition":{partition},"offset":-1}}"#);
    std::fs::write(&file, format!(r#"{{"version":1,"partitions":[{},{}]}}"#, part(0), part(1))).unwrap();
    program.kafka.tool("org.apache.kafka.tools.DeleteRecordsCommand", &["--offset-json-file", file.to_str().unwrap()]);
    publish(&program, 3_000, 100);
    signal(&first.child, "-CONT");
    first.waits_to_log("records were deleted before they were read");
    let numbers = decided(&program, 2_100);
    assert!((3_000..3_100).all(|number| numbers.contains(&number)), "{}", program.logs());
    let lost = (2_000..3_000).filter(|number| !numbers.contains(number)).count();
    let skipped = first.metric("aimpoint_skipped_by_retention_total") as usize;
    // Aborted records and markers are deleted as well.
    assert!(lost > 0 && (lost..=lost + 8).contains(&skipped), "{lost} lost, {skipped} skipped");

    // Add partitions to the input first, and then to the other topics.
    let topics = Topics::new(&program.kafka.brokers, &[], PATIENCE).unwrap();
    block_on(topics.grow("clickstream", 4)).unwrap();
    first.waits_to_log("the changelog has fewer partitions than the input");
    wait_for("the process to say so", PATIENCE, || {
        let answer = first.get("/readyz");
        answer.contains(" 503 ") && answer.contains("aimpoint topics --create")
    });
    publish(&program, 4_000, 200);
    let (code, out, error) = program.run(&["topics", "--create"]);
    assert_eq!(code, 0, "{out}{error}");
    assert!(out.contains("it-profiles now has 4 partitions"), "{out}");
    let before = numbers.len();
    assert_eq!(decided(&program, before + 200).len(), before + 200, "{}", program.logs());
    wait_for("the process to be ready", PATIENCE, || first.get("/readyz").contains(" 200 "));
    assert_eq!(terminate(&mut first.child, PATIENCE), 0, "{}", program.logs());

    // Another member temporarily uses its instance id.
    let fixed = ["--set", "app.instance=fixed", "--set", "app.static_membership=true"];
    let mut member = Running::start(&program, "c", &fixed);
    member.waits_to_log("assigned partitions=[0, 1, 2, 3]");
    let other: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &program.kafka.brokers)
        .set("group.id", "it")
        .set("group.instance.id", "it-fixed-0")
        .set("session.timeout.ms", "6000")
        .set("partition.assignment.strategy", "range")
        .create()
        .unwrap();
    other.subscribe(&["clickstream"]).unwrap();
    wait_for("it to be fenced", PATIENCE, || {
        drop(other.poll(Duration::from_millis(100)));
        member.log().contains("the group has fenced this member")
    });
    drop(other);
    publish(&program, 5_000, 200);
    assert_eq!(decided(&program, before + 400).len(), before + 400, "{}", program.logs());

    // An unreachable broker is logged in a few lines.
    let lines = member.log().lines().count();
    program.kafka.node("kill", 0);
    std::thread::sleep(Duration::from_secs(12));
    let more = member.log().lines().count() - lines;
    program.kafka.node("up", 0);
    assert!(more < 40, "{more} lines for 12 seconds:\n{}", member.log());
    publish(&program, 6_000, 200);
    assert_eq!(decided(&program, before + 600).len(), before + 600, "{}", program.logs());

    // Delete the changelog while the process runs.
    program.kafka.tool("org.apache.kafka.tools.TopicCommand", &["--delete", "--topic", "it-profiles"]);
    wait_for("the process to say so", PATIENCE, || member.get("/readyz").contains("it-profiles"));
    let mut code = None;
    wait_for("the process to end", PATIENCE, || {
        code = member.child.try_wait().unwrap();
        code.is_some()
    });
    assert_eq!(code.unwrap().code(), Some(72), "{}", member.log());
    assert!(member.log().contains("the topic \"it-profiles\" was deleted or recreated"), "{}", member.log());
    assert_eq!(program.run(&["topics", "--create"]).0, 0);
    let mut member = Running::start(&program, "d", &fixed);
    publish(&program, 7_000, 200);
    assert_eq!(decided(&program, before + 800).len(), before + 800, "{}", program.logs());
    assert_eq!(terminate(&mut member.child, PATIENCE), 0, "{}", program.logs());
}
