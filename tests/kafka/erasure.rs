//! Erasures on a real Kafka: by the command, through a kill, a lost changelog and a replay, with proof and access.

use crate::{
    program::{Program, block_on, now_ms, signal, terminate, wait_for},
    serve::Server,
};
use aimpoint::sink::Topics;
use serde_json::{Value, json};
use std::time::Duration;

const CONFIG: &str = r#"
[app]
name = "shop"

[kafka.consumer]
"session.timeout.ms" = 6000
"heartbeat.interval.ms" = 1000

[checkpoint]
interval = "1s"

[topics]
partitions = 2
decisions_by_user = true

[[feature]]
name = "views"
aggregate = "count"
window = "forever"

[[segment]]
id = "viewer"
where = "true"
exit = "false"
duration = "2h"

[serve]
threads = 1
token = "0123456789abcdef"
"#;

const PATIENCE: Duration = Duration::from_mins(1);

/// The visitors of a shop.
struct Shop<'a> {
    program: &'a Program,
    /// When the first events happened.
    start_ms: i64,
}

impl Shop<'_> {
    /// One event of each of these users.
    fn visit(&self, users: &[&str], at_ms: i64) {
        let publisher = self.program.publisher(PATIENCE);
        for user in users {
            let event = json!({"event_type": "view", "user_id": user, "occurred_at": at_ms}).to_string();
            publisher.publish(Some(user.as_bytes()), Some(event.as_bytes())).unwrap();
        }
        publisher.finish().unwrap();
    }

    /// The decisions about a user, in order; a null is none.
    fn decisions(&self, user: &str, at_least: usize) -> Vec<Option<Value>> {
        let found = self.program.read(&["decisions"], at_least, PATIENCE);
        let ours = found.into_iter().filter(|it| it.key.as_deref() == Some(user.as_bytes()));
        ours.map(|it| it.payload.map(|payload| serde_json::from_slice(&payload).unwrap())).collect()
    }

    fn verify(&self, user: &str) -> (i32, Value) {
        let (code, out, error) = self.program.run(&["erase", "--verify", "--json", "--user", user]);
        let report = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{code}: {error}\n{}", self.program.logs()));
        (code, report)
    }

    /// Waits until nothing in use has the id.
    fn wait_for_absence(&self, user: &str) -> Value {
        let mut last = (0, Value::Null);
        wait_for("the erasure in all partitions", PATIENCE, || {
            last = self.verify(user);
            last.0 == 0 && last.1["erased"].as_array().is_some_and(|notes| notes.len() == 2)
        });
        last.1
    }
}

#[test]
fn an_erased_user_does_not_come_back_and_that_is_proved() {
    let program = Program::start(1, CONFIG);
    assert_eq!(program.run(&["topics", "--create"]).0, 0);
    let shop = Shop { program: &program, start_ms: now_ms() - 600_000 };
    let names: Vec<String> = (0..20).map(|number| format!("visitor-{number}")).collect();
    let users: Vec<&str> = names.iter().map(String::as_str).collect();
    shop.visit(&users, shop.start_ms);
    shop.visit(&users, shop.start_ms + 1_000);
    let mut worker = program.spawn("a");
    assert_eq!(shop.decisions("visitor-7", 40).len(), 2, "{}", program.logs());
    let (code, report) = shop.verify("visitor-7");
    assert_eq!((code, &report["is_absent"]), (73, &false.into()), "{report}");
    let held_by = |topic: &str| {
        let (_, out, _) = program.run(&["subject", "--user", "visitor-7"]);
        let subject: Value = serde_json::from_str(&out).unwrap();
        subject["records"].as_array().unwrap().iter().filter(|it| it["topic"] == topic).count()
    };
    wait_for("the profile in the changelog", PATIENCE, || held_by("shop-profiles") > 0);

    // A dry run asks nothing. Then one by a file, and one by name.
    let list = program.folder.path().join("ids.txt");
    std::fs::write(&list, "visitor-8\nvisitor-9\n").unwrap();
    let (code, out, error) = program.run(&["erase", "--dry-run", "--file", list.to_str().unwrap()]);
    assert!(code == 0 && out.contains("would ask to erase 2 users (each person) in 2 partitions"), "{out}{error}");
    for arguments in [["--file", list.to_str().unwrap()], ["--user", "visitor-7"]] {
        let (code, out, error) = program.run(&[&["erase"][..], &arguments].concat());
        assert!(code == 0 && out.starts_with("asked to erase"), "{code}: {out}{error}");
    }
    shop.wait_for_absence("visitor-7");
    signal(&worker, "-KILL");
    worker.wait().unwrap();

    // After a kill, what happened before still counts for nothing.
    let mut worker = program.spawn("b");
    shop.visit(&["visitor-7", "visitor-8", "visitor-1"], shop.start_ms + 2_000);
    wait_for("the other user's decision", PATIENCE, || shop.decisions("visitor-1", 43).len() == 3);
    let decided = shop.decisions("visitor-7", 43);
    assert!(decided.last().unwrap().is_none() && decided.iter().flatten().count() == 2, "{decided:?}");
    assert_eq!(terminate(&mut worker, PATIENCE), 0, "{}", program.logs());

    // The changelog is lost: profiles are rebuilt from all of the input, which still has the user's events.
    let topics = Topics::new(&program.kafka.brokers, &[], PATIENCE).unwrap();
    program.kafka.tool("org.apache.kafka.tools.TopicCommand", &["--delete", "--topic", "shop-profiles"]);
    wait_for("the topic to be gone", PATIENCE, || block_on(topics.state("shop-profiles")).unwrap().is_none());
    assert_eq!(program.run(&["topics", "--create"]).0, 0);
    let mut worker = program.spawn("c");
    shop.visit(&["visitor-7", "visitor-1"], shop.start_ms + 3_000);
    wait_for("the other user's decision", PATIENCE, || shop.decisions("visitor-1", 44).len() == 4);
    let report = shop.wait_for_absence("visitor-7");
    assert!(report["found"].as_array().unwrap().iter().all(|it| it["standing"] != "held"), "{report}");

    proof(&program);
    let server = Server::start(&program, "serve");
    wait_for("serve to be ready", PATIENCE, || server.is_ready());
    assert_eq!(server.decision("visitor-7"), Err(404));
    assert!(server.decision("visitor-1").is_ok());

    // A later event begins anew.
    shop.visit(&["visitor-7"], now_ms());
    let is_back = |decisions: &[Option<Value>]| decisions.last().is_some_and(Option::is_some);
    wait_for("the decision about the later event", PATIENCE, || is_back(&shop.decisions("visitor-7", 45)));
    wait_for("serve to have it", PATIENCE, || server.decision("visitor-7").is_ok());
    let views = || {
        let (code, out, _) = program.run(&["profile", "--json", "--user", "visitor-7"]);
        let shown: Value = serde_json::from_str(&out).unwrap_or_default();
        (code, shown["features"][0]["value"].as_f64())
    };
    wait_for("its new profile", PATIENCE, || views() == (0, Some(1.0)));
    assert_eq!(terminate(&mut worker, PATIENCE), 0, "{}", program.logs());
}

/// What is held about the user, and a record that says so without the id.
fn proof(program: &Program) {
    let (code, out, error) = program.run(&["subject", "--user", "visitor-7"]);
    let subject: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{code}: {error}"));
    assert!(subject["profile"].is_null(), "{subject}");
    let in_use = subject["records"].as_array().unwrap().iter().filter(|it| it["standing"] == "held").count();
    assert_eq!(in_use, 0, "{subject}");
    let page = program.folder.path().join("page.html");
    let (code, _, error) = program.run(&["subject", "--user", "visitor-1", "--html", page.to_str().unwrap()]);
    assert_eq!(code, 0, "{error}");
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("visitor-1") && page.contains("views") && !page.contains("visitor-7"), "{page}");

    let (record, key) = (program.folder.path().join("record.jsonl"), program.folder.path().join("key.pem"));
    std::fs::write(&key, "0123456789abcdef0123456789abcdef").unwrap();
    let files = ["--record-key", key.to_str().unwrap()];
    for user in ["visitor-7", "visitor-8"] {
        let arguments =
            [&["erase", "--verify", "--user", user, "--record", record.to_str().unwrap()][..], &files].concat();
        let (code, out, error) = program.run(&arguments);
        assert!(code == 0 && out.contains("result: nothing in use has the id"), "{code}: {out}{error}");
    }
    let check = [&["erase", "--check-record", record.to_str().unwrap()][..], &files].concat();
    let (code, out, error) = program.run(&check);
    assert!(code == 0 && out.contains("as it was written: 2 entries"), "{code}: {out}{error}");
    let text = std::fs::read_to_string(&record).unwrap();
    assert!(!text.contains("visitor"), "{text}");
    std::fs::write(&record, text.replacen("\"is_absent\":true", "\"is_absent\":false", 1)).unwrap();
    assert_eq!(program.run(&check).0, 65);
}
