//! The snapshot of `serve` on a real Kafka: what a restart reads, and when a snapshot does not count.

use crate::{
    program::{Program, block_on, terminate, wait_for},
    serve::{CONFIG, Server, Worker, id},
};
use aimpoint::sink::Topics;
use std::{path::PathBuf, time::Duration};

const PATIENCE: Duration = Duration::from_mins(1);
const PARTITIONS: i32 = 3;
const KEPT: &str = "aimpoint_serve_records_total{outcome=\"kept\"}";

fn file(program: &Program) -> PathBuf {
    program.folder.path().join("cache/decisions.snapshot")
}

fn start(program: &Program, name: &str, settings: &[&str]) -> Server {
    let server = Server::start_with(program, name, |_| {
        let path = format!("serve.snapshot={}", file(program).display());
        let own = [path.as_str(), "serve.snapshot_interval=1s", "serve.drain=0s"];
        own.iter().chain(settings).flat_map(|set| ["--set".to_owned(), (*set).to_owned()]).collect()
    });
    wait_for("the process to be ready", PATIENCE, || server.is_ready());
    server
}

fn stop(program: &Program, mut server: Server) {
    assert_eq!(terminate(&mut server.child, PATIENCE), 0, "{}", program.logs());
}

/// Whether the snapshot was used, and how many decisions were read all the same.
fn start_read(server: &Server) -> (bool, f64) {
    let count = |outcome: &str| {
        server.metric(&format!("aimpoint_serve_snapshots_total{{outcome=\"{outcome}\"}}")).unwrap_or_default()
    };
    let (loaded, ignored) = (count("loaded"), count("ignored"));
    assert_eq!(loaded + ignored, 1.0, "a snapshot was there");
    (loaded == 1.0, server.metric(KEPT).unwrap_or_default())
}

#[test]
fn a_restart_reads_on_from_its_snapshot_unless_that_does_not_count() {
    let program = Program::start(1, CONFIG);
    program.create("decisions", PARTITIONS, &[("cleanup.policy", "compact"), ("delete.retention.ms", "86400000")]);
    let (worker, names) = Worker::of_users(&program, 60);
    let users: Vec<&str> = names.iter().map(String::as_str).collect();
    let first = start(&program, "serve-a", &[]);
    wait_for("a snapshot", PATIENCE, || file(&program).is_file());
    stop(&program, first);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(file(&program)).unwrap().permissions().mode() & 0o777, 0o600);
    }

    // While nobody serves, some users get other decisions and one is erased.
    worker.decide(&users[..5], 1);
    worker.transact(&[("u59", None)], true);
    let second = start(&program, "serve-b", &[]);
    assert_eq!(start_read(&second), (true, 5.0), "{}", program.logs());
    for (index, user) in users.iter().enumerate() {
        let expected = if index == 59 { Err(404) } else { Ok(id(user, i64::from(index < 5))) };
        assert_eq!(second.decision(user), expected, "{user}");
    }
    stop(&program, second);
    let bytes = std::fs::read(file(&program)).unwrap();
    assert!(!bytes.windows(3).any(|it| it == b"u59"), "the file has nothing of a user who was erased");

    // Damaged, of another application, and of partitions that are shared.
    let mut damaged = bytes.clone();
    let last = damaged.len() - 40;
    damaged[last] ^= 1;
    std::fs::write(file(&program), damaged).unwrap();
    let third = start(&program, "serve-c", &[]);
    assert_eq!(start_read(&third), (false, 65.0), "{}", program.logs());
    assert_eq!(third.decision("u59"), Err(404));
    stop(&program, third);
    let fourth = start(&program, "serve-d", &["app.name=other"]);
    assert_eq!(start_read(&fourth), (false, 0.0), "{}", program.logs());
    stop(&program, fourth);
    std::fs::write(file(&program), &bytes).unwrap();
    let shared = ["serve.partitions=assigned", "serve.advertise=http://127.0.0.1:1"];
    let fifth = start(&program, "serve-e", &shared);
    assert_eq!(start_read(&fifth), (true, 0.0), "{}", program.logs());
    assert_eq!((fifth.decision("u0"), fifth.decision("u59")), (Ok(id("u0", 1)), Err(404)));
    stop(&program, fifth);

    // The topic is made anew while nobody serves.
    let topics = Topics::new(&program.kafka.brokers, &[], PATIENCE).unwrap();
    program.kafka.tool("org.apache.kafka.tools.TopicCommand", &["--delete", "--topic", "decisions"]);
    wait_for("the topic to be gone", PATIENCE, || block_on(topics.state("decisions")).unwrap().is_none());
    program.create("decisions", PARTITIONS, &[]);
    Worker::new(&program).decide(&["u7"], 8);
    let sixth = start(&program, "serve-f", &[]);
    assert_eq!(start_read(&sixth), (false, 1.0), "{}", program.logs());
    assert_eq!((sixth.decision("u7"), sixth.decision("u0")), (Ok(id("u7", 8)), Err(404)));
}
