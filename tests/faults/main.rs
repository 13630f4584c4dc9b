//! The guarantees on a real Kafka, with the real program as several processes, under faults: kill -9 at random, a process
//! that sleeps past its session, brokers that die, members that come and go, a disk that is full under the snapshots.
//!
//! After each: every record of the input has exactly one decision or one dead letter, in the order of its partition; every
//! feature equals a recount of all events by its definition; and no transaction is open. The features are read off the
//! segments of a decision: each value of a feature up to its bound has a segment that says "at least so much".
//!
//! `FAULTS_EVENTS`, `FAULTS_KILLS` and `FAULTS_STORM_S` say how long the runs are, `FAULTS_SEED` replays one. A run that
//! fails keeps its folder with what the processes logged.

#![expect(clippy::unwrap_used, reason = "a test ends where its own broker cannot be reached")]
#![expect(clippy::print_stderr, reason = "a long run shows how far it is")]

#[path = "../kafka/broker.rs"]
mod broker;
#[path = "../kafka/program.rs"]
mod program;
mod reference;

use program::{Found, Program, now_ms, signal, terminate, wait_for};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer},
};
use std::{
    process::Child,
    thread::JoinHandle,
    time::{Duration, Instant},
};

const PARTITIONS: i32 = 4;
/// A broker grants no shorter one.
const SESSION: Duration = Duration::from_secs(6);
/// What may pass without any news before a run is taken for stuck; no measure of speed, for the machine may be busy.
const PATIENCE: Duration = Duration::from_mins(2);

struct World {
    program: Program,
    seed: u64,
    test: &'static str,
}

impl World {
    fn start(test: &'static str, nodes: usize) -> Self {
        let seed = number("FAULTS_SEED", now_ms() as u64);
        let world = Self { program: Program::start(nodes, &reference::config()), seed, test };
        world.program.create("clickstream", PARTITIONS, &[]);
        assert_eq!(world.program.run(&["topics", "--create"]).0, 0);
        world
    }

    fn spawn(&self, instance: &str) -> Child {
        self.program.spawn(instance)
    }

    /// Publishes the events from `first` on at a steady pace, from a thread of its own; one in a hundred is no event.
    fn publish(&self, first: usize, count: usize, over: Duration) -> JoinHandle<()> {
        let publisher = self.program.publisher(PATIENCE);
        let mut random = SmallRng::seed_from_u64(self.seed ^ first as u64);
        std::thread::spawn(move || {
            let (start, first_ms) = (Instant::now(), now_ms() - 3_000_000);
            for number in first..first + count {
                let user = random.random_range(0..=count / 8);
                let at_ms = first_ms + number as i64 % 2_000_000 - random.random_range(0..300_000);
                let (kind, value) = (["view", "click"][random.random_range(0..2)], random.random_range(0..3));
                let line = if random.random_range(0..100) == 0 {
                    "{".to_owned()
                } else {
                    format!(
                        r#"{{"event_id":"e{number}","event_type":"{kind}","user_id":"u{user}","occurred_at":{at_ms},"value":{value}}}"#
                    )
                };
                publisher.publish(Some(format!("u{user}").as_bytes()), Some(line.as_bytes())).unwrap();
                publisher.serve();
                std::thread::sleep(
                    over.mul_f64((number - first) as f64 / count as f64).saturating_sub(start.elapsed()),
                );
            }
            publisher.finish().unwrap();
        })
    }

    fn read(&self, topics: &[&str], at_least: usize) -> Vec<Found> {
        self.program.read(topics, at_least, PATIENCE)
    }

    /// Waits until something has become of every event, ends the processes, and checks all that is promised.
    fn settle(&self, events: usize, processes: &mut [Child]) {
        self.say(&format!("waiting for what becomes of {events} events"));
        self.read(&["decisions", "dead-letter"], events);
        for process in processes {
            // 75: a call to a broker that was gone had not come back within the deadline. Nothing is lost by it.
            let code = terminate(process, PATIENCE);
            assert!([0, 75].contains(&code), "how a process ends when it is asked to: {code}");
        }
        self.no_transaction_is_open();
        let input = self.read(&["clickstream"], events);
        assert!(input.len() >= events, "{} of {events} events in the input", input.len());
        let (decisions, dead) = (self.read(&["decisions"], 0), self.read(&["dead-letter"], 0));
        reference::check(&input, &decisions, &dead);
        self.say(&format!("{} in, {} decisions and {} dead letters out", input.len(), decisions.len(), dead.len()));
    }

    /// The last stable offset, which is what a client that reads committed records alone takes for the end, has to reach
    /// the high watermark.
    fn no_transaction_is_open(&self) {
        let client = |isolation| -> BaseConsumer {
            let mut config = ClientConfig::new();
            config.set("bootstrap.servers", &self.program.kafka.brokers).set("isolation.level", isolation);
            config.set("group.id", "probe").create().unwrap()
        };
        let (committed, all) = (client("read_committed"), client("read_uncommitted"));
        for topic in ["decisions", "dead-letter", "faults-profiles"] {
            for partition in 0..PARTITIONS {
                let end = |of: &BaseConsumer| of.fetch_watermarks(topic, partition, PATIENCE).unwrap().1;
                wait_for(&format!("the last transaction in {topic}/{partition}"), PATIENCE, || {
                    end(&committed) == end(&all)
                });
            }
        }
    }

    fn say(&self, what: &str) {
        eprintln!("{}: {what}", self.test);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.program.folder.disable_cleanup(true);
            let (seed, test) = (self.seed, self.test);
            self.say(&format!(
                "the logs are kept in {}; replay with\n  FAULTS_SEED={seed} cargo test --features kafka-tests --test faults {test} -- --nocapture",
                self.program.folder.path().display()
            ));
        }
    }
}

/// Processes that do not outlive a test that fails.
struct Processes(Vec<Child>);

impl Drop for Processes {
    fn drop(&mut self) {
        for process in &mut self.0 {
            // One that has ended already cannot be killed, which is what is wanted.
            drop((process.kill(), process.wait()));
        }
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a whole number"))
}

#[test]
fn two_processes_are_killed_at_random() {
    let (kills, events) = (number("FAULTS_KILLS", 20), number("FAULTS_EVENTS", 20_000) as usize);
    let world = World::start("two_processes_are_killed_at_random", 1);
    let mut random = SmallRng::seed_from_u64(world.seed);
    let publishing = world.publish(0, events, Duration::from_millis(kills * 2_000));
    let mut processes = Processes(vec![world.spawn("a"), world.spawn("b")]);
    for kill in 1..=kills {
        std::thread::sleep(Duration::from_millis(random.random_range(200..3_800)));
        let index = random.random_range(0..2);
        processes.0[index].kill().unwrap();
        processes.0[index].wait().unwrap();
        // Now and then the other one has to take over first.
        if kill % 5 == 0 {
            std::thread::sleep(SESSION + Duration::from_secs(1));
        }
        processes.0[index] = world.spawn(["a", "b"][index]);
        world.say(&format!("kill {kill} of {kills}"));
    }
    publishing.join().unwrap();
    world.settle(events, &mut processes.0);
}

#[test]
fn a_process_sleeps_past_its_session_and_wakes() {
    let world = World::start("a_process_sleeps_past_its_session_and_wakes", 1);
    let mut processes = Processes(vec![world.spawn("a"), world.spawn("b")]);
    let publishing = world.publish(0, 5_000, Duration::from_secs(10));
    std::thread::sleep(Duration::from_secs(6));
    signal(&processes.0[0], "-STOP");
    publishing.join().unwrap();
    let seen = world.read(&["decisions", "dead-letter"], 5_000).len();
    assert_eq!(seen, 5_000, "the other process takes over while this one sleeps");
    let publishing = world.publish(5_000, 5_000, Duration::from_secs(8));
    signal(&processes.0[0], "-CONT");
    publishing.join().unwrap();
    world.settle(10_000, &mut processes.0);
}

#[test]
fn each_of_three_brokers_is_killed_and_comes_back() {
    let world = World::start("each_of_three_brokers_is_killed_and_comes_back", 3);
    let mut processes = Processes(vec![world.spawn("a"), world.spawn("b")]);
    let publishing = world.publish(0, 10_000, Duration::from_secs(40));
    for node in 0..3 {
        std::thread::sleep(Duration::from_secs(4));
        world.program.kafka.node("kill", node);
        std::thread::sleep(Duration::from_secs(4));
        world.program.kafka.node("up", node);
        world.say(&format!("broker {node} was killed and is back"));
    }
    publishing.join().unwrap();
    world.settle(10_000, &mut processes.0);
}

#[test]
fn a_third_member_joins_and_leaves_without_end() {
    let seconds = number("FAULTS_STORM_S", 15);
    let world = World::start("a_third_member_joins_and_leaves_without_end", 1);
    let mut processes = Processes(vec![world.spawn("a"), world.spawn("b")]);
    let publishing = world.publish(0, 10_000, Duration::from_secs(seconds));
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(seconds) {
        let mut third = Processes(vec![world.spawn("c")]);
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(terminate(&mut third.0[0], PATIENCE), 0, "how a member leaves");
    }
    publishing.join().unwrap();
    world.settle(10_000, &mut processes.0);
}

#[test]
fn the_disk_is_full_under_the_snapshots() {
    let world = World::start("the_disk_is_full_under_the_snapshots", 1);
    let folder = world.program.folder.path().join("snapshots");
    let settings = format!("\n[checkpoint]\ninterval = \"1s\"\nsnapshot_interval = \"1s\"\nsnapshots = {folder:?}\n");
    let config = reference::config().replace("\n[checkpoint]\ninterval = \"1s\"\n", &settings);
    assert!(config.contains("snapshots ="), "the configuration has a place for it");
    std::fs::write(world.program.config(), config).unwrap();
    std::fs::create_dir(&folder).unwrap();
    // Every write to this device fails for want of space, and where a snapshot is written it stands in the way.
    let fill = || {
        for partition in 0..PARTITIONS {
            let place = folder.join(format!("{partition}.new"));
            drop(std::os::unix::fs::symlink("/dev/full", place));
        }
    };
    let mut processes = Processes(vec![world.spawn("a"), world.spawn("b")]);
    let publishing = world.publish(0, 10_000, Duration::from_secs(20));
    for turn in 0..100 {
        fill();
        std::thread::sleep(Duration::from_millis(200));
        if turn == 50 {
            processes.0[0].kill().unwrap();
            processes.0[0].wait().unwrap();
            processes.0[0] = world.spawn("a");
        }
    }
    publishing.join().unwrap();
    world.settle(10_000, &mut processes.0);
    let log = |name: &str| std::fs::read_to_string(world.program.folder.path().join(name)).unwrap();
    let left_out = (log("a") + &log("b")).matches("the snapshot is left out").count();
    assert!(left_out > 10, "{left_out} snapshots met a full disk");
}
