//! Verifies the guarantees with several processes on a real Kafka under faults: random kill -9, a process suspended past its
//! session, dying brokers, members that join and leave, a full disk for snapshots; and under planned operations on a cluster, with
//! the pause of each partition.
//!
//! After each run, every input record has exactly one decision or dead letter, in the order of its partition; every feature equals a
//! recount of all events; and no transaction is open. Features are encoded in the segments of a decision, one per binary digit.
//!
//! `FAULTS_EVENTS`, `FAULTS_KILLS`, `FAULTS_STORM_S` and `FAULTS_RESTARTS` (of brokers) set the length of the runs, `FAULTS_RATE` the
//! events per second while processes, models and rules change, and `FAULTS_SEED` replays a run. A failed run keeps its folder with the
//! logs of processes and brokers.

#![expect(clippy::unwrap_used, reason = "a test ends where its own broker cannot be reached")]
#![expect(clippy::print_stderr, reason = "a long run shows how far it is")]

#[path = "../kafka/broker.rs"]
mod broker;
#[path = "../kafka/program.rs"]
mod program;
mod reference;
mod watch;

use aimpoint::source::Reader;
use program::{Found, Program, Running, now_ms, signal, terminate, wait_for};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer},
    producer::{BaseProducer, BaseRecord, Producer},
};
use std::{
    collections::BTreeSet,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};
use watch::Watch;

const PARTITIONS: i32 = 4;
/// The kills and events of the longest run, unless set otherwise.
const KILLS: u64 = 12;
const EVENTS: u64 = 12_000;
/// The shortest session that a broker allows.
const SESSION: Duration = Duration::from_secs(6);
/// A run without progress for this long is considered stuck. It is generous, because the machine may be busy.
const PATIENCE: Duration = Duration::from_mins(2);

struct World {
    program: Program,
    seed: u64,
    test: &'static str,
    /// Whether outputs may be repeated.
    may_repeat: bool,
}

impl World {
    fn start(test: &'static str, nodes: usize, group: &reference::GroupSetup) -> Self {
        let seed = number("FAULTS_SEED", now_ms() as u64);
        let config = reference::config(group);
        let may_repeat = config.contains("at_least_once");
        let world = Self { program: Program::start(nodes, &config), seed, test, may_repeat };
        world.program.create("clickstream", PARTITIONS, &[]);
        assert_eq!(world.program.run(&["topics", "--create"]).0, 0);
        world
    }

    fn spawn(&self, instance: &str) -> Running {
        self.program.spawn(instance)
    }

    /// Publishes the events from `first` on at a steady rate, on another thread; one in a hundred is invalid.
    fn publish(&self, first: usize, count: usize, over: Duration) -> JoinHandle<usize> {
        let due = move |number| (number < count).then(|| over.mul_f64(number as f64 / count as f64));
        self.publish_while(first, count / 8, due)
    }

    /// Publishes events of this many users while `due` returns the time of the next one, and returns the number of events.
    fn publish_while(
        &self,
        first: usize,
        users: usize,
        due: impl Fn(usize) -> Option<Duration> + Send + 'static,
    ) -> JoinHandle<usize> {
        let publisher = self.program.publisher(PATIENCE);
        let mut random = SmallRng::seed_from_u64(self.seed ^ first as u64);
        std::thread::spawn(move || {
            let (start, first_ms) = (Instant::now(), now_ms() - 3_000_000);
            let mut count = 0;
            while let Some(due) = due(count) {
                // Batch the events of a millisecond: sleeping for each of thousands per second would use up a core.
                let early = due.saturating_sub(start.elapsed());
                if early >= Duration::from_millis(1) {
                    publisher.serve();
                    std::thread::sleep(early);
                }
                let number = first + count;
                let user = random.random_range(0..=users);
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
                count += 1;
            }
            publisher.finish().unwrap();
            count
        })
    }

    fn read(&self, topics: &[&str], at_least: usize) -> Vec<Found> {
        self.program.read(topics, at_least, PATIENCE)
    }

    /// Waits for the outcomes of all events, stops the processes, and checks the guarantees.
    fn settle(&self, events: usize, processes: &mut [Running]) {
        self.say(&format!("waiting for what becomes of {events} events"));
        if self.may_repeat {
            self.wait_for_first(events);
        } else {
            self.read(&["decisions", "dead-letter"], events);
        }
        for process in processes {
            end(process);
        }
        self.no_transaction_is_open();
        let input = self.read(&["clickstream"], events);
        assert!(input.len() >= events, "{} of {events} events in the input", input.len());
        let (mut decisions, mut dead) = (self.read(&["decisions"], 0), self.read(&["dead-letter"], 0));
        self.say(&format!("{} in, {} decisions and {} dead letters out", input.len(), decisions.len(), dead.len()));
        if self.may_repeat {
            (decisions, dead) = (reference::first(decisions), reference::first(dead));
            self.say(&format!("{} decisions and {} dead letters without repetitions", decisions.len(), dead.len()));
        }
        reference::check(&input, &decisions, &dead);
        for log in self.logs() {
            for amiss in ["records of the changelog cannot be used", "does not hold the profiles", "panicked"] {
                assert!(!log.contains(amiss), "found in a process's log: {amiss}");
            }
        }
    }

    /// Waits for this many decisions and dead letters, not counting repeats. A broker may be down meanwhile.
    fn wait_for_first(&self, events: usize) {
        let (mut known, mut last) = (BTreeSet::new(), Instant::now());
        let mut reader = None;
        while known.len() < events && last.elapsed() < PATIENCE {
            let open = || Reader::open(&self.program.kafka.brokers, &[], &["decisions", "dead-letter"]);
            if reader.is_none() {
                reader = open().ok();
            }
            let before = known.len();
            let taken = reader.as_ref().and_then(|reader| {
                let poll = reader.poll(Duration::from_millis(100), |_, record, headers| {
                    known.insert(reference::id(record.payload.unwrap_or_default(), |name| {
                        let value = headers.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
                        value.map(|value| String::from_utf8_lossy(value).into_owned())
                    }));
                });
                poll.ok()
            });
            if taken.is_none() {
                std::thread::sleep(Duration::from_millis(100));
            }
            if known.len() > before {
                last = Instant::now();
            }
        }
    }

    /// The last stable offset, the end for read-committed consumers, has to reach the high watermark.
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

    /// Adds a version of a model over the features to the configured folder.
    fn train(&self, version: &str) {
        let (folder, file) = (self.program.folder.path(), format!("{version}.onnx"));
        let rows = (0..200).map(|row| {
            let [seen, views, spent] = [row % 7, row % 5, row % 11];
            format!("{seen},{views},{spent},{}\n", i32::from(seen + spent > 8))
        });
        std::fs::write(folder.join("rows.csv"), "seen,views,spent,label\n".to_owned() + &rows.collect::<String>())
            .unwrap();
        let run = |arguments: &[&str]| {
            let output =
                Command::new(env!("CARGO_BIN_EXE_aimpoint")).args(arguments).current_dir(folder).output().unwrap();
            assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        };
        run(&["train", "rows.csv", "--out", &file, "--name", "harness", "--version", version]);
        run(&["models", "add", &file, "--config", "aimpoint.toml", "--set", "model.path=models"]);
    }

    /// Adds to the configuration.
    fn append(&self, lines: &str) {
        let text = std::fs::read_to_string(self.program.config()).unwrap();
        std::fs::write(self.program.config(), text + lines).unwrap();
    }

    /// The logs of the processes.
    fn logs(&self) -> [String; 3] {
        ["a", "b", "c"].map(|it| std::fs::read_to_string(self.program.folder.path().join(it)).unwrap_or_default())
    }

    /// Whether each process that was started has been assigned partitions.
    fn has_assigned(&self) -> bool {
        let logs = ["a", "b", "c"].map(|it| self.program.folder.path().join(it));
        logs.iter()
            .filter(|log| log.exists())
            .all(|log| std::fs::read_to_string(log).unwrap().contains("assigned partitions"))
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

/// Stops a process with SIGTERM.
fn end(process: &mut Running) {
    // 75: a call to an unreachable broker did not return within the deadline. Nothing is lost.
    let code = terminate(process, PATIENCE);
    assert!([0, 75].contains(&code), "the exit code after SIGTERM: {code}");
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a whole number"))
}

/// Two processes, one of which is killed every two seconds.
fn kill_at_random(world: &World, kills: u64, events: usize) {
    let mut random = SmallRng::seed_from_u64(world.seed);
    let publishing = world.publish(0, events, Duration::from_millis(kills * 2_000));
    let mut processes = vec![world.spawn("a"), world.spawn("b")];
    for kill in 1..=kills {
        std::thread::sleep(Duration::from_millis(random.random_range(200..3_800)));
        let index = random.random_range(0..2);
        processes[index].kill().unwrap();
        processes[index].wait().unwrap();
        // Sometimes the other process has to take over first.
        if kill % 4 == 2 {
            std::thread::sleep(SESSION + Duration::from_secs(1));
        }
        processes[index] = world.spawn(["a", "b"][index]);
        world.say(&format!("kill {kill} of {kills}"));
    }
    publishing.join().unwrap();
    world.settle(events, &mut processes);
}

#[test]
fn two_at_least_once_processes_are_killed_at_random() {
    let (kills, events) = (number("FAULTS_KILLS", KILLS) / 4, number("FAULTS_EVENTS", EVENTS) as usize / 4);
    let test = "two_processes_that_show_decisions_at_once_are_killed_at_random";
    kill_at_random(&World::start(test, 1, &reference::AT_LEAST_ONCE), kills, events);
}

#[test]
fn the_delivery_guarantee_is_changed_at_each_start() {
    let (kills, events) = (number("FAULTS_KILLS", KILLS) / 3, number("FAULTS_EVENTS", EVENTS) as usize / 3);
    let world = World::start("the_delivery_is_changed_at_each_start", 1, &reference::AT_LEAST_ONCE);
    let publishing = world.publish(0, events, Duration::from_millis(kills * 3_000));
    let mut processes = vec![world.spawn("a"), world.spawn("b")];
    for kill in 0..kills as usize {
        std::thread::sleep(Duration::from_secs(3));
        let text = std::fs::read_to_string(world.program.config()).unwrap();
        let (from, to) = [("at_least_once", "exactly_once"), ("exactly_once", "at_least_once")][kill % 2];
        assert!(text.contains(from));
        std::fs::write(world.program.config(), text.replace(from, to)).unwrap();
        let (index, process) = (kill % 2, &mut processes[kill % 2]);
        if kill % 4 < 2 {
            process.kill().unwrap();
            process.wait().unwrap();
        } else {
            end(process);
        }
        *process = world.spawn(["a", "b"][index]);
        world.say(&format!("{to} from here on"));
    }
    publishing.join().unwrap();
    world.settle(events, &mut processes);
}

#[test]
fn two_processes_are_killed_at_random() {
    let (kills, events) = (number("FAULTS_KILLS", KILLS), number("FAULTS_EVENTS", EVENTS) as usize);
    kill_at_random(&World::start("two_processes_are_killed_at_random", 1, &reference::USUAL), kills, events);
}

#[test]
fn consumer_protocol_members_are_killed_at_random() {
    let (kills, events) = (number("FAULTS_KILLS", KILLS) / 4, number("FAULTS_EVENTS", EVENTS) as usize / 4);
    let test = "members_that_the_broker_keeps_are_killed_at_random";
    kill_at_random(&World::start(test, 1, &reference::BROKER), kills, events);
}

#[test]
fn static_members_are_killed_at_random() {
    let (kills, events) = (number("FAULTS_KILLS", KILLS) / 4, number("FAULTS_EVENTS", EVENTS) as usize / 4);
    let test = "members_known_by_their_instance_are_killed_at_random";
    kill_at_random(&World::start(test, 1, &reference::STATIC), kills, events);
}

#[test]
fn a_process_is_suspended_past_its_session_and_resumes() {
    let world = World::start("a_process_sleeps_past_its_session_and_wakes", 1, &reference::USUAL);
    let mut processes = vec![world.spawn("a"), world.spawn("b")];
    let publishing = world.publish(0, 5_000, Duration::from_secs(10));
    std::thread::sleep(Duration::from_secs(6));
    signal(&processes[0], "-STOP");
    publishing.join().unwrap();
    let seen = world.read(&["decisions", "dead-letter"], 5_000).len();
    assert_eq!(seen, 5_000, "the other process takes over while this one is suspended");
    let publishing = world.publish(5_000, 5_000, Duration::from_secs(8));
    signal(&processes[0], "-CONT");
    publishing.join().unwrap();
    world.settle(10_000, &mut processes);
}

/// A resumed process continues where it was: with outputs in flight, and unwritten profiles.
#[test]
fn at_least_once_processes_are_suspended_past_their_session_under_load() {
    let pauses = number("FAULTS_KILLS", KILLS) / 10;
    let test = "processes_that_show_decisions_at_once_sleep_past_their_session_under_load";
    let world = World::start(test, 1, &reference::AT_LEAST_ONCE);
    let mut random = SmallRng::seed_from_u64(world.seed);
    let mut processes = vec![world.spawn("a"), world.spawn("b")];
    let events = 6_000 * pauses as usize;
    let publishing = world.publish(0, events, Duration::from_secs(12 * pauses + 4));
    std::thread::sleep(Duration::from_secs(4));
    for pause in 1..=pauses {
        std::thread::sleep(Duration::from_millis(random.random_range(500..3_000)));
        let sleeper = &processes[random.random_range(0..2)];
        signal(sleeper, "-STOP");
        std::thread::sleep(SESSION + Duration::from_millis(random.random_range(1_000..5_000)));
        signal(sleeper, "-CONT");
        world.say(&format!("pause {pause} of {pauses}"));
    }
    publishing.join().unwrap();
    world.settle(events, &mut processes);
}

/// Deliveries fail, are late, or get no response while the only broker is down.
#[test]
fn the_broker_is_killed_during_at_least_once_delivery() {
    let kills = number("FAULTS_RESTARTS", 1) + 1;
    let test = "the_broker_is_killed_under_decisions_that_are_shown_at_once";
    let world = World::start(test, 1, &reference::AT_LEAST_ONCE);
    let mut processes = vec![world.spawn("a"), world.spawn("b")];
    let events = 3_000 * kills as usize;
    let publishing = world.publish(0, events, Duration::from_secs(12 * kills));
    for _ in 0..kills {
        std::thread::sleep(Duration::from_secs(5));
        world.program.kafka.node("kill", 0);
        std::thread::sleep(Duration::from_secs(3));
        world.program.kafka.node("up", 0);
    }
    publishing.join().unwrap();
    world.settle(events, &mut processes);
}

/// Aborted input is never decided, and input of an open transaction not yet.
#[test]
fn the_input_is_transactional_and_some_transactions_are_aborted() {
    let world = World::start("the_input_comes_in_transactions_some_of_which_are_aborted", 1, &reference::USUAL);
    let events = number("FAULTS_EVENTS", EVENTS) as usize / 10;
    let mut processes = vec![world.spawn("a"), world.spawn("b")];
    let upstream: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &world.program.kafka.brokers)
        .set("transactional.id", "upstream")
        .set("partitioner", "murmur2_random")
        .create()
        .unwrap();
    upstream.init_transactions(PATIENCE).unwrap();
    let mut random = SmallRng::seed_from_u64(world.seed);
    let (mut sent, mut aborted) = (0, 0);
    while sent < events {
        upstream.begin_transaction().unwrap();
        let count = random.random_range(1..60).min(events - sent);
        let is_aborted = random.random_bool(0.4);
        for number in sent..sent + count {
            let (user, value) = (format!("u{}", random.random_range(0..200)), random.random_range(0..3));
            let at_ms = now_ms() - 1_000_000;
            let line = format!(
                r#"{{"event_id":"e{number}-{aborted}","event_type":"view","user_id":"{user}","occurred_at":{at_ms},"value":{value}}}"#
            );
            upstream.send(BaseRecord::to("clickstream").key(&user).payload(&line)).map_err(|(error, _)| error).unwrap();
        }
        upstream.flush(PATIENCE).unwrap();
        // Long enough to catch a reader that does not wait for the end of the transaction.
        std::thread::sleep(Duration::from_millis(random.random_range(0..200)));
        if is_aborted {
            upstream.abort_transaction(PATIENCE).unwrap();
            aborted += 1;
        } else {
            upstream.commit_transaction(PATIENCE).unwrap();
            sent += count;
        }
        if random.random_range(0..20) == 0 {
            let index = random.random_range(0..2);
            processes[index].kill().unwrap();
            processes[index].wait().unwrap();
            processes[index] = world.spawn(["a", "b"][index]);
        }
    }
    assert!(aborted > 5, "{aborted} transactions were aborted");
    world.settle(events, &mut processes);
}

#[test]
fn a_third_member_joins_and_leaves_repeatedly() {
    let seconds = number("FAULTS_STORM_S", 15);
    let world = World::start("a_third_member_joins_and_leaves_without_end", 1, &reference::USUAL);
    let mut processes = vec![world.spawn("a"), world.spawn("b")];
    let publishing = world.publish(0, 10_000, Duration::from_secs(seconds));
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(seconds) {
        let mut third = world.spawn("c");
        std::thread::sleep(Duration::from_secs(1));
        end(&mut third);
    }
    publishing.join().unwrap();
    world.settle(10_000, &mut processes);
}

/// Operations on a cluster under load, with the pauses of its partitions.
struct Changes<'a> {
    world: &'a World,
    watch: Watch,
    stop: Arc<AtomicBool>,
    publishing: JoinHandle<usize>,
    /// Each operation with its start and end, and the partitions that moved between workers.
    done: Vec<(String, Instant, Instant, BTreeSet<i32>)>,
}

impl<'a> Changes<'a> {
    /// Waits until the workers have their partitions, starts publishing at this rate, and waits for the first decision.
    fn start(world: &'a World, rate: u64) -> Self {
        // A producer whose brokers are too busy to answer takes a core for each of them. Brokers that have just started
        // would never get ready on a small machine.
        wait_for("the first assignment", PATIENCE, || world.has_assigned());
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let due =
            move |number| (!told.load(Ordering::Relaxed)).then(|| Duration::from_secs_f64(number as f64 / rate as f64));
        let publishing = world.publish_while(0, rate as usize * 10, due);
        let watch = Watch::start(&world.program.kafka.brokers, PARTITIONS);
        wait_for("the first decision", PATIENCE, || watch.has_seen_one());
        std::thread::sleep(Duration::from_secs(2));
        Self { world, watch, stop, publishing, done: Vec::new() }
    }

    /// Performs an operation, and waits until its effects are over.
    fn make(&mut self, what: &str, act: impl FnOnce()) {
        self.world.say(what);
        let before = self.world.logs().map(|log| log.len());
        let start = Instant::now();
        act();
        std::thread::sleep(Duration::from_secs(4));
        let now = Instant::now();
        wait_for("a decision of each partition", PATIENCE, || self.watch.has_seen_all_since(now));
        let moved = self.world.logs().iter().zip(before).flat_map(|(log, before)| moved(&log[before..])).collect();
        self.done.push((what.to_owned(), start, Instant::now(), moved));
    }

    /// Stops everything, checks the output, and prints a table of the pauses: milliseconds between two decisions of a partition, as
    /// seen by a read-committed consumer.
    fn finish(self, processes: &mut [Running]) {
        self.stop.store(true, Ordering::Relaxed);
        self.world.settle(self.publishing.join().unwrap(), processes);
        let came = self.watch.finish();
        self.world.say("longest pause of a partition in ms | of one that stayed where it was | partitions that moved");
        for (what, from, to, moved) in self.done {
            let longest = |stayed: bool| {
                let partitions = (0..PARTITIONS).filter(|partition| !(stayed && moved.contains(partition)));
                partitions.map(|partition| came.longest_pause(partition, from, to).as_millis()).max()
            };
            let [any, stayed] =
                [longest(false), longest(true)].map(|it| it.map_or("-".to_owned(), |ms| ms.to_string()));
            self.world.say(&format!("{what:<32} | {any:>6} | {stayed:>6} | {moved:?}"));
        }
    }
}

/// The partitions that were assigned according to a log.
fn moved(log: &str) -> Vec<i32> {
    let lists = log.split(" assigned partitions=[").skip(1).filter_map(|rest| rest.split_once(']'));
    lists.flat_map(|(list, _)| list.split(", ").filter_map(|it| it.parse().ok())).collect()
}

#[test]
fn planned_operations_on_a_cluster_under_load() {
    let world = World::start("a_cluster_is_changed_under_load", 1, &reference::USUAL);
    world.train("1");
    world.append("\n[model]\npath = \"models\"\n");
    let mut processes = vec![world.spawn("a")];
    let mut changes = Changes::start(&world, number("FAULTS_RATE", 500));
    changes.make("nothing", || {});
    changes.make("one process becomes three", || processes.extend([world.spawn("b"), world.spawn("c")]));
    changes.make("each restarts, one after the other", || {
        for (process, instance) in processes.iter_mut().zip(["a", "b", "c"]) {
            end(process);
            *process = world.spawn(instance);
            std::thread::sleep(Duration::from_secs(4));
        }
    });
    changes.make("another version of the model", || world.train("2"));
    changes.make("another segment", || {
        world.append("\n[[segment]]\nid = \"added\"\nwhere = \"true\"\n");
        for process in &processes {
            signal(process, "-HUP");
        }
    });
    changes.make("three processes become one", || {
        for mut process in processes.split_off(1) {
            end(&mut process);
        }
    });
    changes.finish(&mut processes);
    let decisions = world.read(&["decisions"], 0);
    let holds = |text: &str| {
        let text = text.as_bytes();
        decisions.iter().filter(|it| it.payload.as_deref().unwrap().windows(text.len()).any(|at| at == text)).count()
    };
    let [first, second] = [r#""version":"1""#, r#""version":"2""#].map(holds);
    assert_eq!(first + second, decisions.len(), "each decision names one version of the model");
    assert!(first > 0 && second > 0, "{first} decisions of the first version, {second} of the second");
    assert!(holds(r#""added""#) > 0, "the segment was applied");
}

/// Three brokers with replication need more of a small machine than one, so there are fewer events and commits, even if `FAULTS_RATE`
/// is higher: at 20,000 events per second on two cores, deliveries time out and a process gives up.
#[test]
fn each_of_three_brokers_is_killed_and_restarts_under_load() {
    let world = World::start("each_of_three_brokers_is_killed_and_restarts_under_load", 3, &reference::USUAL);
    world.append("\n[commit]\ninterval = \"200ms\"\n");
    let mut processes = vec![world.spawn("a"), world.spawn("b")];
    let mut changes = Changes::start(&world, 100);
    for node in 0..3 {
        changes.make(&format!("broker {node} is killed"), || {
            world.program.kafka.node("kill", node);
            std::thread::sleep(Duration::from_secs(4));
            world.program.kafka.node("up", node);
        });
    }
    for node in 0..number("FAULTS_RESTARTS", 1) as usize {
        changes.make(&format!("broker {node} restarts"), || {
            world.program.kafka.node("stop", node);
            world.program.kafka.node("up", node);
        });
    }
    changes.finish(&mut processes);
}

/// Each of two processes restarts.
fn restart_under_load(test: &'static str, group: &reference::GroupSetup) {
    let world = World::start(test, 1, group);
    let mut processes = vec![world.spawn("a"), world.spawn("b")];
    let mut changes = Changes::start(&world, number("FAULTS_RATE", 500));
    for (process, instance) in processes.iter_mut().zip(["a", "b"]) {
        changes.make(&format!("process {instance} restarts"), || {
            end(process);
            *process = world.spawn(instance);
        });
    }
    changes.finish(&mut processes);
}

#[test]
fn static_members_restart_under_load() {
    restart_under_load("members_known_by_their_instance_restart_under_load", &reference::STATIC);
}

#[test]
fn consumer_protocol_members_restart_under_load() {
    restart_under_load("members_that_the_broker_keeps_restart_under_load", &reference::BROKER);
}

#[test]
fn the_disk_for_snapshots_is_full() {
    let world = World::start("the_disk_is_full_under_the_snapshots", 1, &reference::USUAL);
    let folder = world.program.folder.path().join("snapshots");
    let settings = format!("[checkpoint]\ninterval = \"1s\"\nsnapshot_interval = \"1s\"\nsnapshots = {folder:?}\n");
    let config = reference::config(&reference::USUAL).replace("[checkpoint]\ninterval = \"1s\"\n", &settings);
    assert!(config.contains("snapshots ="), "the configuration enables snapshots");
    std::fs::write(world.program.config(), config).unwrap();
    std::fs::create_dir(&folder).unwrap();
    // Writes to this device fail with a full disk; links to it replace the files of snapshots.
    let fill = || {
        for partition in 0..PARTITIONS {
            let place = folder.join(format!("{partition}.new"));
            drop(std::os::unix::fs::symlink("/dev/full", place));
        }
    };
    let mut processes = vec![world.spawn("a"), world.spawn("b")];
    let publishing = world.publish(0, 10_000, Duration::from_secs(20));
    for turn in 0..100 {
        fill();
        std::thread::sleep(Duration::from_millis(200));
        if turn == 50 {
            processes[0].kill().unwrap();
            processes[0].wait().unwrap();
            processes[0] = world.spawn("a");
        }
    }
    publishing.join().unwrap();
    world.settle(10_000, &mut processes);
    let log = |name: &str| std::fs::read_to_string(world.program.folder.path().join(name)).unwrap();
    let left_out = (log("a") + &log("b")).matches("the snapshot could not be written").count();
    // A loaded machine gets to fewer.
    assert!(left_out >= 3, "{left_out} snapshots met a full disk");
}
