//! A broker that pauses until its controller has given it up. When it comes back, it answers for a moment with metadata that name
//! no broker at all.

use crate::{
    program::{Program, now_ms, wait_for},
    serve::Server,
};
use std::{net::TcpListener, time::Duration};

const CONFIG: &str = r#"
[app]
name = "shop"

[kafka.consumer]
"session.timeout.ms" = 6000

[[feature]]
name = "views"
aggregate = "count"
window = "1h"

[[segment]]
id = "seen"
where = "views >= 1.0"

[serve]
threads = 1
stale_max = "4s"
drain = "0s"
token = "0123456789abcdef"
"#;

const PATIENCE: Duration = Duration::from_secs(90);

/// Longer than a controller waits for a broker.
const PAUSE: Duration = Duration::from_secs(12);

fn view(program: &Program, user: &str) {
    let publisher = program.publisher(PATIENCE);
    let line = format!(r#"{{"event_id":"{user}","event_type":"view","user_id":"{user}","occurred_at":{}}}"#, now_ms());
    publisher.publish(Some(user.as_bytes()), Some(line.as_bytes())).unwrap();
    publisher.finish().unwrap();
}

#[test]
fn every_role_reads_on_after_a_broker_has_paused_for_longer_than_its_controller_waits() {
    let program = Program::start(1, CONFIG);
    program.create("clickstream", 2, &[]);
    let (code, _, error) = program.run(&["topics", "--create"]);
    assert_eq!(code, 0, "{error}");
    let _worker = program.spawn("worker");
    let server = Server::start(&program, "server");
    wait_for("serve to be ready", PATIENCE, || server.is_ready());
    view(&program, "ann");
    wait_for("the decision about ann", PATIENCE, || server.decision("ann").is_ok());
    for user in ["bob", "eve"] {
        program.kafka.node("pause", 0);
        std::thread::sleep(PAUSE);
        program.kafka.node("resume", 0);
        view(&program, user);
        wait_for(&format!("the decision about {user}\n{}", program.logs()), PATIENCE, || server.decision(user).is_ok());
        wait_for("serve to be ready again", PATIENCE, || server.is_ready());
    }
}

#[test]
fn a_process_without_partitions_is_not_ready_and_then_ends_when_no_broker_answers() {
    // Two processes for one partition: one of them has none.
    let program = Program::start(1, &format!("{CONFIG}\n[engine]\nstall_after = \"1m\"\nworkers = 1\n"));
    program.create("clickstream", 1, &[]);
    let (code, _, error) = program.run(&["topics", "--create"]);
    assert_eq!(code, 0, "{error}");
    let mut processes = ["a", "b"].map(|name| {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = program.spawn_as("run", name, &["--admin", &format!("127.0.0.1:{port}")]);
        Server { child, port }
    });
    wait_for("both to be ready", PATIENCE, || processes.iter().all(Server::is_ready));
    program.kafka.node("pause", 0);
    for it in &processes {
        let says_so = |(status, _, body): (u16, String, String)| {
            status == 503 && body.contains("worker 0 has had no answer from any broker for half of engine.stall_after")
        };
        wait_for("it to say so", PATIENCE, || it.ask("GET", "/readyz", "").is_some_and(says_so));
    }
    for it in &mut processes {
        let mut code = None;
        wait_for(&format!("it to end\n{}", program.logs()), PATIENCE, || {
            code = it.child.try_wait().unwrap();
            code.is_some()
        });
        assert_eq!(code.unwrap().code(), Some(76), "{}", program.logs());
    }
    assert!(program.logs().contains("no broker has answered for 1m"), "{}", program.logs());
    program.kafka.node("resume", 0);
}
