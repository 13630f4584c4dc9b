//! The bidders of `deploy/examples`, each against a real `aimpoint serve` and a real Kafka.
//!
//! Needs Go, Java and the Python packages of `make tools`. The Rust one is built with all tests.

use crate::{
    program::{Program, now_ms, wait_for},
    serve::{CONFIG, Server, Worker},
};
use aimpoint::proto::v1;
use prost::Message;
use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

/// A JVM that compiles its program first needs a while on a busy machine.
const PATIENCE: Duration = Duration::from_mins(4);

const LANGUAGES: [&str; 4] = ["rust", "go", "python", "java"];

fn repository(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// A bidder, ready to be asked.
fn bidder(language: &str, folder: &Path) -> Command {
    match language {
        "rust" => {
            let built = Path::new(env!("CARGO_BIN_EXE_aimpoint")).with_file_name("examples").join("bidder");
            let at = |path: &Path| std::fs::metadata(path).and_then(|it| it.modified()).ok();
            let is_new = at(&built) >= at(&repository("deploy/examples/rust/bidder.rs"));
            assert!(is_new, "build it first: cargo build --example bidder --all-features");
            Command::new(built)
        }
        "go" => Command::new(folder.join("bidder")),
        "python" => {
            let python = repository(".tools/bidder/bin/python");
            assert!(python.exists(), "{} is absent: run make tools", python.display());
            let mut command = Command::new(python);
            command.arg(repository("deploy/examples/python/bidder.py"));
            command
        }
        _ => {
            let mut command = Command::new("java");
            command.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp"]);
            command.arg(repository(".kafka/jars/*")).arg(repository("deploy/examples/java/Bidder.java"));
            command
        }
    }
}

/// Runs a bidder: its output and what else it says.
fn run(command: &mut Command, input: &str) -> (String, String) {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let [out, said] = [output.stdout, output.stderr].map(|it| String::from_utf8(it).unwrap());
    assert!(output.status.success(), "{command:?}: {out}{said}");
    (out, said)
}

/// A bidder that follows the topic, and what it has said.
struct Follower {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Follower {
    fn start(command: &mut Command, user: &str) -> Self {
        let mut child = command.args(["follow", user]).stdout(Stdio::piped()).spawn().unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (out, to) = (BufReader::new(child.stdout.take().unwrap()), Arc::clone(&lines));
        std::thread::spawn(move || out.lines().map_while(Result::ok).for_each(|line| to.lock().unwrap().push(line)));
        Self { child, lines }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
    }
}

/// A certificate for this machine, and the arguments that make serve use it.
fn with_certificate(folder: &Path) -> (PathBuf, Vec<String>) {
    let key = rcgen::KeyPair::generate().unwrap();
    let signed = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap();
    let [certificate, key_file] = ["tls.crt", "tls.key"].map(|name| folder.join(name));
    std::fs::write(&certificate, signed.pem()).unwrap();
    std::fs::write(&key_file, key.serialize_pem()).unwrap();
    let set = |name: &str, path: &Path| ["--set".to_owned(), format!("serve.tls.{name}={}", path.display())];
    let arguments = [set("certificate", &certificate), set("key", &key_file)].concat();
    (certificate, arguments)
}

/// A decision in JSON that lives for so many seconds.
#[expect(clippy::unnecessary_wraps, reason = "no value means that the user was erased")]
fn decision(key: &str, number: i64, lives_for_s: i64, more: &Value) -> Option<Vec<u8>> {
    let (kind, user) = key.strip_prefix("device:").map_or(("PERSON", key), |user| ("DEVICE", user));
    let now = now_ms() * 1_000;
    let mut it = json!({
        "decision_id": format!("shop:clickstream-0-{number}"), "user_key": user, "key_type": format!("KEY_TYPE_{kind}"),
        "decided_at": now.to_string(), "expires_at": (now + lives_for_s * 1_000_000).to_string(),
    });
    it.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Some(it.to_string().into_bytes())
}

#[test]
fn bidders_in_four_languages_say_the_same() {
    let program = Program::start(1, CONFIG);
    program.create("decisions", 3, &[]);
    let device = "device:c7 ü/1";
    let segments = json!([{ "id": "603", "name": "Keen", "segtax": 4 }, { "id": "own" }]);
    let offer = |shaded: &str| {
        json!([
            { "id": "spring", "currency": "EUR", "bid_micros": "2500000", "shaded_micros": shaded },
            { "id": "autumn", "currency": "EUR", "bid_micros": "1000000" },
        ])
    };
    let worker = Worker::new(&program);
    let decided = |number: i64, shaded: &str| {
        decision("u1", number, 600, &json!({ "segments": segments, "campaigns": offer(shaded) }))
    };
    worker.transact(&[("u1", decision("u1", 0, 600, &json!({}))), ("u4", decision("u4", 0, 600, &json!({})))], true);
    worker.transact(
        &[
            ("u1", decided(1, "1804000")),
            ("u2", decision("u2", 1, 600, &json!({}))),
            ("u3", decision("u3", 1, -5, &json!({ "segments": segments }))),
            ("u4", None),
            // No JSON: those that follow the topic leave it out.
            (
                "u5",
                Some(
                    v1::Decision { user_key: "u5".to_owned(), decided_at: 200, ..v1::Decision::default() }
                        .encode_to_vec(),
                ),
            ),
            (device, decision(device, 1, 600, &json!({ "segments": segments }))),
        ],
        true,
    );
    // What was not committed is nobody's business.
    worker.transact(&[("u1", decision("u1", 2, 600, &json!({})))], false);
    let server = Server::start(&program, "serve");
    wait_for("serve to be ready", PATIENCE, || server.is_ready());

    let go = repository("deploy/examples/go");
    let built = Command::new("go")
        .args(["build", "-mod=readonly", "-o"])
        .arg(program.folder.path().join("bidder"))
        .current_dir(go)
        .status();
    assert!(built.unwrap().success(), "go build");
    let known = [
        ("u1", "u1: in 603, own; bid 1.80 EUR for spring"),
        ("u2", "u2: in no segment; no bid"),
        ("u3", "u3: expired"),
        ("u4", "u4: nothing is known"),
        (device, "device:c7 ü/1: in 603, own; no bid"),
    ];
    let request = r#"{"id":"1","user":{"buyeruid":"u1"},"device":{"geo":{"country":"JPN"}},"bidfloor":0.50}"#;
    let (_, _, enriched) = server.ask("POST", "/openrtb2/enrich", request).unwrap();
    assert!(enriched.contains("603") && enriched.contains("0.50"), "{enriched}");
    let ready = |language: &str, serve: u16| {
        let mut command = bidder(language, program.folder.path());
        command.env("SERVE", format!("http://127.0.0.1:{serve}")).env("SERVE_TOKEN", "0123456789abcdef");
        command.env("KAFKA", &program.kafka.brokers).env("TIMEOUT_MS", "30000");
        command
    };
    for language in LANGUAGES {
        for (user, expected) in known {
            let (out, _) = run(ready(language, server.port).args(["lookup", user]), "");
            assert_eq!(out.trim_end(), expected, "{language}");
        }
        let (out, said) = run(ready(language, server.port).arg("enrich"), request);
        assert_eq!((out.as_str(), said.trim_end()), (enriched.as_str(), "outcome: enriched"), "{language}");
        // Nobody is there: the request is bid on as it is.
        let (out, said) = run(ready(language, 1).arg("enrich"), request);
        assert_eq!((out.as_str(), said.trim_end()), (request, "outcome: no answer"), "{language}");
    }

    // The same by TLS. Java needs a trust store, which is not a file of certificates.
    let (certificate, further) = with_certificate(program.folder.path());
    let secure = Server::start_with(&program, "serve-tls", |_| further);
    for language in ["rust", "go", "python"] {
        wait_for(&format!("an answer to {language} by TLS"), PATIENCE, || {
            let mut lookup = ready(language, 1);
            lookup.env("SERVE", format!("https://127.0.0.1:{}", secure.port)).env("SSL_CERT_FILE", &certificate);
            let output = lookup.args(["lookup", "u1"]).output().unwrap();
            String::from_utf8_lossy(&output.stdout).trim_end() == known[0].1
        });
    }
    drop(secure);

    // One after the other: a machine with two cores has enough to do with one that starts.
    let first = known[0].1;
    let mut followers = Vec::new();
    for language in LANGUAGES {
        followers.push((language, Follower::start(&mut ready(language, 1), "u1")));
        said(&followers, &[first]);
    }
    worker.transact(&[("u1", decision("u1", 3, 600, &json!({})))], false);
    worker.transact(&[("u1", decided(4, "0"))], true);
    let second = "u1: in 603, own; bid 2.50 EUR for spring";
    said(&followers, &[first, second]);
    worker.transact(&[("u1", None)], true);
    said(&followers, &[first, second, "u1: nothing is known"]);
}

/// Waits until each has said exactly this.
fn said(followers: &[(&str, Follower)], owed: &[&str]) {
    for (language, follower) in followers {
        wait_for(&format!("{owed:?} of {language}"), PATIENCE, || *follower.lines.lock().unwrap() == owed);
    }
}
