//! The rights of each role: enough for its work, and none that it does not use.
//!
//! The authorizer logs which rule allowed each request. So one run of all roles shows both: nothing was denied, and each rule was
//! used.

use super::{Listener, Secured, grant, told};
use crate::program::{Running, now_ms, terminate, wait_for};
use std::{
    collections::BTreeSet,
    fs::File,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::Stdio,
    time::Duration,
};

pub(super) const CONFIG: &str = r#"
[app]
name = "shop"

[topics]
partitions = 1

[kafka.consumer]
"session.timeout.ms" = 6000

[checkpoint]
interval = "1s"

[engine]
workers = 1

[control]
policy_interval = "1s"
policy_lag = "1s"

[[feature]]
name = "views"
aggregate = "count"
window = "1h"

[[segment]]
id = "all"
where = "views >= 1.0"

[[campaign]]
id = "spring"
currency = "EUR"
value = 4.0
ceiling = 5.0
budget = { daily = 100000.0, pacing = "asap" }
"#;

const PATIENCE: Duration = Duration::from_mins(1);

/// What is asked for although it is not needed, by user: a refusal costs nothing but this line of the broker's log.
const ASKED_IN_VAIN: [(&str, &str); 3] = [
    // Readers name a group that they never join.
    ("DESCRIBE", "Group:LITERAL:"),
    // Whether other applications write to the same topics is told if the topics may be read.
    ("READ", "Topic:LITERAL:decisions for request = Fetch"),
    ("READ", "Topic:LITERAL:dead-letter for request = Fetch"),
];

/// Creates the topics as the user of `topics`, and grants every role what `aimpoint topics --acls` prints.
pub(super) fn grant_all(secured: &Secured) {
    let (code, printed) = told(&mut secured.command(Listener::Plain, &[], &["topics", "--acls"]));
    assert_eq!(code, 0, "{printed}");
    let commands: Vec<String> = printed.lines().map(str::to_owned).collect();
    grant(&commands);
    let (code, said) =
        told(&mut secured.command(Listener::Password, &secured.plain("shop-topics"), &["topics", "--create"]));
    assert!(code == 0 && said.contains("created clickstream"), "{said}");
    // The input grows, and the topics that follow it.
    let grow = [
        "--bootstrap-server",
        &secured.program.kafka.brokers,
        "--alter",
        "--topic",
        "clickstream",
        "--partitions",
        "2",
    ];
    let output =
        crate::broker::script().args(["tool", "org.apache.kafka.tools.TopicCommand"]).args(grow).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (code, said) =
        told(&mut secured.command(Listener::Password, &secured.plain("shop-topics"), &["topics", "--create"]));
    assert!(code == 0 && said.contains("now has 2 partitions"), "{said}");
}

/// Starts a role as a user, with its log in a file of that name.
fn start(secured: &Secured, user: &str, arguments: &[&str]) -> Running {
    let mut command = secured.command(Listener::Password, &secured.plain(user), arguments);
    let log = File::create(secured.path(user)).unwrap();
    command.args(["--log-format", "text", "--set", "app.instance=a"]);
    Running::from(command.stdout(Stdio::null()).stderr(log).spawn().unwrap())
}

pub(super) fn the_rights_of_each_role_are_enough_and_all_used(secured: &Secured) {
    let log = |user: &str| std::fs::read_to_string(secured.path(user)).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut run = start(secured, "shop", &["run", "--admin", "127.0.0.1:0"]);
    let mut control = start(secured, "shop-control", &["control", "--admin", "127.0.0.1:0"]);
    let address = format!("127.0.0.1:{port}");
    let mut serve = start(secured, "shop-serve", &["serve", "--address", &address, "--admin", "127.0.0.1:0"]);

    // The worker decides and rejects, control publishes a policy, and serve answers.
    let publisher = secured.program.publisher(PATIENCE);
    let event = format!(r#"{{"event_id":"e","event_type":"view","user_id":"u1","occurred_at":{}}}"#, now_ms());
    publisher.publish(Some(b"u1"), Some(event.as_bytes())).unwrap();
    publisher.publish(Some(b"u1"), Some(b"{")).unwrap();
    publisher.finish().unwrap();
    let outcomes = aimpoint::sink::Publisher::new(&secured.program.kafka.brokers, &[], "outcomes", PATIENCE).unwrap();
    outcomes.publish(None, Some(b"{")).unwrap();
    outcomes.finish().unwrap();
    let logs = || ["shop", "shop-control", "shop-serve"].map(log).concat();
    for (topic, least) in
        [("decisions", 1), ("dead-letter", 2), ("shop-profiles", 1), ("shop-policy", 2), ("shop-audiences", 1)]
    {
        let found = secured.program.read(&[topic], least, PATIENCE);
        assert!(found.len() >= least, "{topic}: {} records\n{}", found.len(), logs());
    }
    wait_for("serve to answer", PATIENCE, || ask(port));

    // The commands.
    let now = |user: &str, arguments: &[&str]| {
        let (code, said) = told(&mut secured.command(Listener::Password, &secured.plain(user), arguments));
        assert_eq!(code, 0, "{user} {arguments:?}\n{said}\n{}", logs());
        said
    };
    now("shop-doctor", &["doctor"]);
    let subject = now("shop-subject", &["subject", "--user", "u1"]);
    assert!(subject.contains("\"clickstream\"") && subject.contains("shop-profiles"), "{subject}");
    let profile = now("shop-profile", &["profile", "--user", "u1"]);
    assert!(profile.contains("views"), "{profile}");
    let why = now("shop-why", &["why", "--user", "u1"]);
    assert!(why.contains("decision "), "{why}");
    let verified = now("shop-subject", &["erase", "--verify", "--user", "u9"]);
    assert!(verified.contains("no partition remembers an erasure"), "{verified}");
    now("shop-erase", &["erase", "--user", "u2"]);

    // A worker that starts again reads the changelog.
    assert_eq!(terminate(&mut run, PATIENCE), 0, "{}", log("shop"));
    let mut again = start(secured, "shop", &["run", "--admin", "127.0.0.1:0"]);
    wait_for("the worker to take its partitions", PATIENCE, || {
        log("shop").contains("restored") || log("shop").contains("assigned")
    });
    std::thread::sleep(Duration::from_secs(2));
    for (process, user) in [(&mut again, "shop"), (&mut control, "shop-control"), (&mut serve, "shop-serve")] {
        assert_eq!(terminate(process, PATIENCE), 0, "{}", log(user));
    }
    judge(secured);
}

/// Compares what the authorizer has allowed and denied with what was granted.
fn judge(secured: &Secured) {
    let said = secured.verdicts();
    let mut granted: BTreeSet<String> = BTreeSet::new();
    let mut used: BTreeSet<String> = BTreeSet::new();
    let mut denied: BTreeSet<&str> = BTreeSet::new();
    let field = |line: &str, name: &str| {
        let (_, rest) = line.split_once(&format!("{name}="))?;
        Some(rest.split([',', ']']).next()?.trim().to_owned())
    };
    let (_, printed) = told(&mut secured.command(Listener::Plain, &[], &["topics", "--acls"]));
    for line in printed.lines().filter(|line| line.starts_with("kafka-acls.sh")) {
        let words: Vec<&str> = line.split(" # ").next().unwrap().split_whitespace().collect();
        let after = |option: &str| words.iter().position(|word| *word == option).map(|at| words[at + 1]);
        let user = after("--allow-principal").unwrap();
        let resource = [("--topic", "TOPIC"), ("--group", "GROUP"), ("--transactional-id", "TRANSACTIONAL_ID")];
        let resource = resource.iter().find_map(|(option, kind)| Some(format!("{kind} {}", after(option)?)));
        let resource = resource.unwrap_or_else(|| "CLUSTER kafka-cluster".to_owned());
        let operations =
            words.iter().enumerate().filter(|(_, word)| **word == "--operation").map(|(at, _)| words[at + 1]);
        for operation in operations {
            let operation =
                if operation == "DescribeConfigs" { "DESCRIBE_CONFIGS".to_owned() } else { operation.to_uppercase() };
            granted.insert(format!("{user} {resource} {operation}"));
        }
    }
    for line in said.lines().filter(|line| line.contains("Principal = User:shop")) {
        if line.contains(" is Denied ") {
            let is_known = ASKED_IN_VAIN
                .iter()
                .any(|(operation, on)| line.contains(&format!("operation = {operation} ")) && line.contains(on));
            if !is_known {
                denied.insert(line.split_once("Principal").map_or(line, |(_, rest)| rest));
            }
        } else if let (Some(user), Some(kind), Some(name), Some((_, operation))) = (
            field(line, "principal"),
            field(line, "resourceType"),
            field(line, "resourceName"),
            line.split_once(" is Allowed operation = "),
        ) {
            // The operation that was asked for: a list of all topics asks to describe each, which Read allows as well.
            let operation = operation.split_whitespace().next().unwrap_or_default();
            used.insert(format!("{user} {kind} {name} {operation}"));
        }
    }
    assert!(denied.is_empty(), "denied, so the list of rights is not enough:\n{denied:#?}");
    let unused: Vec<&String> = granted.difference(&used).collect();
    assert!(unused.is_empty(), "granted and never used, so the list of rights is too long:\n{unused:#?}");
}

/// Whether serve has the user's decision.
fn ask(port: u16) -> bool {
    let answer = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(stream, "GET /v1/decisions/u1 HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    answer().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

/// Users that lack one right each. What they lack is named, and the process ends by itself.
pub(super) fn a_missing_right_is_named_and_ends_the_process(secured: &Secured) {
    /// User, role, the line of the list that is changed, what is taken from it, and what the process says.
    const CASES: [(&str, &str, &str, &str, &str); 5] = [
        ("nobody", "run", "", "", "Describe on the topic \"clickstream\""),
        ("groupless", "run", "--group ", "--operation Read", "Read on the consumer group"),
        ("idless", "run", "--transactional-id ", "--operation Write", "Write on the transactional id"),
        ("mute", "run", "--topic decisions", "--operation Write", "Write on the topic \"decisions\""),
        ("stateless", "control", "--topic shop-control", "--operation Write", "Write on the topic \"shop-control\""),
    ];
    let names = |user: &str| -> Vec<String> {
        let topics = ["profiles", "policy", "audiences", "control"].map(|it| format!("topics.{it}=shop-{it}"));
        let all = [vec![format!("app.name={user}")], topics.to_vec()].concat();
        all.into_iter().flat_map(|value| ["--set".to_owned(), value]).collect()
    };
    let mut commands = Vec::new();
    for (user, role, line, right, _) in CASES.iter().filter(|(user, ..)| *user != "nobody") {
        let principal = format!("User:{user}");
        let mut printing =
            secured.command(Listener::Plain, &[], &["topics", "--acls", "--role", role, "--principal", &principal]);
        let (code, printed) = told(printing.args(names(user)));
        assert_eq!(code, 0, "{printed}");
        let is_changed = |it: &&str| it.split(" # ").next().is_some_and(|it| it.contains(line));
        assert_eq!(printed.lines().filter(is_changed).count(), 1, "{printed}");
        // What a topic is remains to be seen. Of other resources nothing is granted.
        let instead = if line.contains("--topic") { "--operation Describe" } else { "" };
        let kept = printed.lines().map(|it| if is_changed(&it) { it.replace(right, instead) } else { it.to_owned() });
        commands.extend(kept.filter(|it| it.contains("--operation")));
    }
    grant(&commands);
    std::thread::scope(|scope| {
        for (user, role, _, _, lacks) in CASES {
            scope.spawn(move || {
                let mut command = secured.command(Listener::Password, &secured.plain(user), &[role]);
                let log = File::create(secured.path(user)).unwrap();
                command.args(names(user)).args(["--admin", "127.0.0.1:0", "--log-format", "text"]);
                let mut process = Running::from(command.stdout(Stdio::null()).stderr(log).spawn().unwrap());
                let log = || std::fs::read_to_string(secured.path(user)).unwrap();
                let start = std::time::Instant::now();
                while process.try_wait().unwrap().is_none() {
                    assert!(start.elapsed() < PATIENCE, "{user} does not end\n{}", log());
                    std::thread::sleep(Duration::from_millis(50));
                }
                let code = process.wait().unwrap().code();
                let said = log();
                assert!(code == Some(69) && said.contains(lacks), "{user}: {code:?}, without {lacks}\n{said}");
                assert!(said.contains("aimpoint topics --acls"), "{user}\n{said}");
            });
        }
    });
}
