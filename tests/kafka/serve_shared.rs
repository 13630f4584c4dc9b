//! Several processes of `serve` that share the partitions, on a real Kafka.

use crate::{
    program::{Program, signal, wait_for},
    serve::{CONFIG, Server, Worker, id},
};
use aimpoint::sink::partition_of;
use serde_json::{Value, json};
use std::{collections::BTreeSet, time::Duration};

const PATIENCE: Duration = Duration::from_mins(1);
const PARTITIONS: i32 = 4;

fn start(program: &Program, name: &str) -> Server {
    Server::start_with(program, name, |address| {
        let set = |text: String| ["--set".to_owned(), text];
        [set("serve.partitions=assigned".to_owned()), set(format!("serve.advertise=http://{address}"))].concat()
    })
}

/// What a process says about a user: the decision, or where to ask.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Decision(String),
    Elsewhere(String),
    Nothing(u16),
}

fn ask(server: &Server, user: &str) -> Said {
    let path = format!("/v1/decisions/{user}");
    let (status, head, body) = server.ask("GET", &path, "").unwrap();
    let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    if status != 200 && status != 404 {
        assert_eq!(header("aimpoint-partition"), Some(partition_of(user.as_bytes(), PARTITIONS).to_string().as_str()));
    }
    match status {
        200 => {
            Said::Decision(serde_json::from_str::<Value>(&body).unwrap()["decision_id"].as_str().unwrap().to_owned())
        }
        307 => Said::Elsewhere(header("location").unwrap().strip_suffix(&path).unwrap().to_owned()),
        status => Said::Nothing(status),
    }
}

fn origin(server: &Server) -> String {
    format!("http://127.0.0.1:{}", server.port)
}

/// The users whose decisions a process has, if it has no other than the expected ones.
fn answered<'a>(server: &Server, users: &[&'a str], number: i64) -> BTreeSet<&'a str> {
    users.iter().copied().filter(|user| ask(server, user) == Said::Decision(id(user, number))).collect()
}

fn partitions(server: &Server) -> f64 {
    server.metric("aimpoint_serve_partitions{state=\"read\"}").unwrap_or_default()
}

#[test]
fn processes_share_the_partitions_and_send_bidders_to_each_other() {
    let program = Program::start(1, CONFIG);
    program.create("decisions", PARTITIONS, &[]);
    let (worker, names) = Worker::of_users(&program, 60);
    let users: Vec<&str> = names.iter().map(String::as_str).collect();

    let first = start(&program, "serve-a");
    wait_for("the first process to be ready", PATIENCE, || first.is_ready());
    assert_eq!(answered(&first, &users, 0).len(), users.len(), "alone, it has all partitions: {}", program.logs());
    assert_eq!(ask(&first, "nobody"), Said::Nothing(404));

    let second = start(&program, "serve-b");
    wait_for("the second process to be ready", PATIENCE, || second.is_ready());
    wait_for("the partitions to be shared", PATIENCE, || {
        partitions(&first) + partitions(&second) == f64::from(PARTITIONS)
    });
    assert!(partitions(&first) >= 1.0 && partitions(&second) >= 1.0, "{}", program.logs());
    let [a, b] = [&first, &second].map(origin);
    // Who was not told yet who has a partition says so.
    let knows = |server: &Server| users.iter().all(|user| !matches!(ask(server, user), Said::Nothing(_)));
    wait_for("both to know each other", PATIENCE, || knows(&first) && knows(&second));
    for user in &users {
        let said = [ask(&first, user), ask(&second, user)];
        let decision = || Said::Decision(id(user, 0));
        let of_one =
            said == [decision(), Said::Elsewhere(a.clone())] || said == [Said::Elsewhere(b.clone()), decision()];
        assert!(of_one, "{user}: {said:?} {}", program.logs());
    }
    let users_of = |server: &Server| server.metric("aimpoint_serve_users").unwrap();
    wait_for("users of lost partitions to be forgotten", PATIENCE, || users_of(&first) + users_of(&second) == 60.0);
    let (.., body) = first.ask("POST", "/v1/decisions:batch", &json!({ "users": users }).to_string()).unwrap();
    let batch: Value = serde_json::from_str(&body).unwrap();
    let of_first = answered(&first, &users, 0);
    for (user, told) in users.iter().zip(batch["decisions"].as_array().unwrap()) {
        if of_first.contains(user) {
            assert_eq!(told["decision"]["decision_id"], id(user, 0));
        } else {
            let partition = partition_of(user.as_bytes(), PARTITIONS);
            assert_eq!(*told, json!({"status": "elsewhere", "decision": null, "partition": partition, "owner": b}));
        }
    }
    // Both follow.
    worker.decide(&users, 1);
    wait_for("the new decisions", PATIENCE, || {
        answered(&first, &users, 1).len() + answered(&second, &users, 1).len() == users.len()
    });
    assert!(first.metric("aimpoint_serve_visible_seconds_count") >= Some(of_first.len() as f64));

    // One is killed: once the group has noticed, the other one has everything.
    signal(&second.child, "-KILL");
    wait_for("the partitions of the dead process", PATIENCE, || answered(&first, &users, 1).len() == users.len());
    wait_for("the first process to be ready", PATIENCE, || first.is_ready());
    drop(second);
    // One joins again and leaves in order.
    let mut third = start(&program, "serve-c");
    wait_for("the third process to have a share", PATIENCE, || third.is_ready() && partitions(&third) >= 1.0);
    wait_for("the first process to know it", PATIENCE, || {
        users.iter().any(|user| ask(&first, user) == Said::Elsewhere(origin(&third)))
    });
    signal(&third.child, "-TERM");
    assert_eq!(third.child.wait().unwrap().code(), Some(0), "{}", program.logs());
    wait_for("the partitions of the one that has left", PATIENCE, || answered(&first, &users, 1).len() == users.len());
}
