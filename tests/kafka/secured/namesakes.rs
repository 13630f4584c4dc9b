//! Two processes with the same name.

use super::{Listener, Secured, told};
use crate::program::{Running, terminate, wait_for};
use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer},
};
use std::{fs::File, process::Stdio, time::Duration};

const PATIENCE: Duration = Duration::from_secs(40);

/// The other process is a member of the group from elsewhere: on one machine, processes would take other names.
pub(super) fn a_live_namesake_is_refused_and_a_dead_one_is_replaced(secured: &Secured) {
    let settings = ["--set", "app.name=twin", "--set", "app.instance=a", "--set", "topics.profiles=shop-profiles"];
    let arguments = [&["run"], &settings[..]].concat();
    let mut config = ClientConfig::new();
    for (name, value) in [
        ("bootstrap.servers", secured.program.kafka.brokers.as_str()),
        ("group.id", "twin"),
        ("client.id", "twin-a-0"),
        ("session.timeout.ms", "6000"),
        ("heartbeat.interval.ms", "500"),
        ("partition.assignment.strategy", "cooperative-sticky"),
        ("enable.auto.commit", "false"),
    ] {
        config.set(name, value);
    }
    let other: BaseConsumer = config.create().unwrap();
    other.subscribe(&["clickstream"]).unwrap();
    wait_for("the other process to be a member", PATIENCE, || {
        drop(other.poll(Duration::from_millis(100)));
        other.assignment().unwrap().count() > 0
    });

    let (code, said) = told(&mut secured.command(Listener::Plain, &[], &arguments));
    assert_eq!(code, 78, "{said}");
    for part in ["another process is in the group \\\"twin\\\" as \\\"twin-a-0\\\"", "give each its own app.instance"] {
        assert!(said.contains(part) || said.contains(&part.replace('\\', "")), "{part}:\n{said}");
    }

    // A process that was killed does not leave the group, and its successor takes its place.
    drop(other);
    let start = |log: &str| {
        let mut process = secured.command(Listener::Plain, &[], &arguments);
        let log = File::create(secured.path(log)).unwrap();
        process.args(["--log-format", "text"]).stdout(Stdio::null()).stderr(log);
        Running::from(process.spawn().unwrap())
    };
    let log = |name: &str| std::fs::read_to_string(secured.path(name)).unwrap();
    let has_partitions = |name: &str| {
        let log = log(name);
        log.lines().any(|line| line.contains("assigned partitions=[") && !line.contains("partitions=[]"))
    };
    let mut first = start("first");
    wait_for("the first process to have partitions", PATIENCE, || has_partitions("first"));
    first.kill().unwrap();
    first.wait().unwrap();
    let mut second = start("second");
    wait_for("the second process to have partitions", PATIENCE, || has_partitions("second"));
    assert!(log("second").contains("in case it has crashed"), "{}", log("second"));
    assert_eq!(terminate(&mut second, PATIENCE), 0, "{}", log("second"));
}
