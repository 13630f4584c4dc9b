//! Runs every query of the dashboard and the alerts on a real Prometheus that scrapes a running Aimpoint.

use crate::{
    monitoring::{DASHBOARD, RULES, alerts, filled_in, queries},
    process::Running,
    repository, text, tool,
};
use regex::Regex;
use serde_json::Value;
use std::{
    fmt::Write as _,
    fs::File,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// A test in tests/kafka reads these metrics of a process of control.
const CONTROL: &str = "no control runs beside this worker";

/// Tests of serve itself read these metrics.
const SERVE: &str = "no serve runs beside this worker";

/// Queries without series in this test, and why.
const EMPTY: [(&str, &str); 27] = [
    ("kafka_consumergroup_", "it comes from Kafka's own exporter"),
    ("aimpoint_control_leader", CONTROL),
    ("aimpoint_control_policy_", CONTROL),
    ("aimpoint_control_lag_", CONTROL),
    ("aimpoint_control_spent", CONTROL),
    ("aimpoint_control_audience_", CONTROL),
    ("aimpoint_control_budget", CONTROL),
    ("aimpoint_control_labels", CONTROL),
    ("aimpoint_control_label_age_", CONTROL),
    ("aimpoint_control_predicted_", CONTROL),
    ("aimpoint_control_prediction_", CONTROL),
    ("aimpoint_control_click_rate", CONTROL),
    ("aimpoint_control_conversion_rate", CONTROL),
    ("aimpoint_control_calibration_", CONTROL),
    ("aimpoint_control_normalised_", CONTROL),
    ("> 7000", "so many outcomes never came"),
    ("aimpoint_worker_policy_", CONTROL),
    ("aimpoint_serve_answer_", SERVE),
    ("aimpoint_serve_partitions", SERVE),
    ("aimpoint_serve_visible_", SERVE),
    ("aimpoint_serve_refused_", SERVE),
    ("aimpoint_serve_staleness_", SERVE),
    ("aimpoint_serve_users", SERVE),
    ("aimpoint_serve_store_", SERVE),
    ("aimpoint_serve_connections", SERVE),
    ("aimpoint_serve_certificate_", SERVE),
    ("ALERTS{", "no alert fires where nothing is wrong"),
];

/// A process that is killed at the end of the test.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        // The process may already have ended.
        self.0.kill().unwrap_or_default();
        self.0.wait().map(drop).unwrap_or_default();
    }
}

/// Starts a process that logs to a file.
fn start(command: &mut Command, log: &Path) -> Started {
    let file = File::create(log).unwrap();
    Started(command.stdout(Stdio::null()).stderr(file).spawn().unwrap())
}

fn wait_for<T>(what: &str, log: &Path, mut holds: impl FnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    loop {
        match holds() {
            Ok(found) => return found,
            Err(lacks) => assert!(
                start.elapsed() < Duration::from_secs(90),
                "waited for {what}: {lacks}\n{}",
                std::fs::read_to_string(log).unwrap_or_default()
            ),
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// The demo's configuration, with its model also as a shadow, and with a segment that lasts.
fn config() -> String {
    let model = format!("path = \"{}\"\n", repository("deploy/demo/model.onnx").display());
    text("deploy/demo/aimpoint.toml")
        .replace("path = \"model.onnx\"\n", &model)
        .replace("name = \"aimpoint-demo\"", "name = \"aimpoint\"")
        + &format!("\n[[shadow]]\nname = \"challenger\"\n{model}")
        + "\n[[segment]]\nid = \"here\"\nwhere = \"true\"\nduration = \"1h\"\n"
        // Every query has something to show: nobody consents to training.
        + "\n[consent]\nenabled = true\nvendor_id = 1\nunknown_law = [\"write\", \"score\", \"emit\"]\nwithout_law = []\n"
}

/// A Prometheus that scrapes the target every second and evaluates the rules.
fn prometheus(folder: &Path, log: &Path, target: &str) -> (Started, String) {
    let config = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [\"{}\"]\nscrape_configs:\n\
         - job_name: shop\n  static_configs: [{{targets: [{target:?}]}}]\n",
        repository(RULES).display()
    );
    std::fs::write(folder.join("prometheus.yml"), config).unwrap();
    // A recently free port, because Prometheus does not report the port it uses.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let mut command = tool("prometheus");
    command
        .arg(format!("--config.file={}", folder.join("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
        .arg(format!("--web.listen-address={address}"));
    (start(&mut command, log), address)
}

/// Calls the API of Prometheus, over HTTP 1.0 so that the answer is not chunked.
fn ask(address: &str, path: &str) -> Result<Value, String> {
    let mut stream = TcpStream::connect(address).map_err(|error| error.to_string())?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").map_err(|error| error.to_string())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(|error| error.to_string())?;
    let (_, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
    serde_json::from_str(body).map_err(|error| format!("{error}: {answer}"))
}

/// The values of a query, or Prometheus's error.
fn query(address: &str, query: &str) -> Result<Vec<String>, String> {
    let mut encoded = String::new();
    for byte in query.bytes() {
        write!(encoded, "%{byte:02x}").unwrap();
    }
    let answer = ask(address, &format!("/api/v1/query?query={encoded}"))?;
    assert_eq!(answer["status"], "success", "{query}: {answer}");
    let result = answer["data"]["result"].as_array().unwrap();
    Ok(result.iter().map(|series| series["value"][1].as_str().unwrap().to_owned()).collect())
}

#[test]
fn every_query_has_results_for_a_running_process() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("prometheus.log");
    let running = Running::start(&config());
    let (_prometheus, address) = prometheus(folder.path(), &log, &running.address);

    let publisher = running.publisher();
    let mut number = 0;
    let mut publish = || {
        for _ in 0..50 {
            let (user, at) = (format!("u{}", number % 40), 850_000_000_000_u64 + number * 1_000);
            let event = format!(
                r#"{{"event_id":"e{number}","event_type":"purchase","user_id":"{user}","occurred_at":{at},"value":9.5}}"#
            );
            publisher.publish(Some(user.as_bytes()), Some(event.as_bytes())).unwrap();
            number += 1;
        }
        publisher.publish(Some(b"u1"), Some(b"{\"broken")).unwrap();
    };
    wait_for("the first scrape", &log, || {
        let found = query(&address, "up{job=\"shop\"} == 1")?;
        if found.is_empty() { Err("it is not up".to_owned()) } else { Ok(()) }
    });
    // Reload while it is scraped.
    running.signal("-HUP");

    // An alert that does not fire has no result, so check the expressions it compares.
    let threshold = Regex::new(r"\s*(?:>|==)\s*[0-9.]+\s*$").unwrap();
    let asked: Vec<String> = queries()
        .into_iter()
        .filter(|(_, query)| !query.contains("absent(") && !EMPTY.iter().any(|(part, _)| query.contains(part)))
        .map(
            |(place, query)| {
                if place == DASHBOARD { filled_in(&query) } else { threshold.replace(&query, "").into_owned() }
            },
        )
        .collect();
    assert!(asked.len() > 40, "{asked:?}");
    wait_for("a value for each query", &log, || {
        publish();
        let mut lacking = Vec::new();
        for asked in &asked {
            if query(&address, asked)?.iter().all(|value| value == "NaN") {
                lacking.push(asked.as_str());
            }
        }
        if lacking.is_empty() { Ok(()) } else { Err(format!("nothing is found by\n{}", lacking.join("\n"))) }
    });
    // Excluded queries must be valid but empty, and each exclusion must be needed.
    for (part, why) in EMPTY {
        let asked: Vec<String> =
            queries().iter().map(|(_, query)| filled_in(query)).filter(|it| it.contains(part)).collect();
        assert!(!asked.is_empty(), "{part}");
        for asked in asked {
            assert_eq!(query(&address, &asked).unwrap(), Vec::<String>::new(), "{why}: {asked}");
        }
    }
    let rules = wait_for("the rules", &log, || {
        let answer = ask(&address, "/api/v1/rules")?;
        let groups = answer["data"]["groups"].as_array().unwrap().clone();
        let rules: Vec<Value> = groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect();
        if rules.iter().all(|rule| rule["health"] != "unknown") { Ok(rules) } else { Err(answer.to_string()) }
    });
    assert_eq!(rules.len(), alerts().len());
    for rule in rules {
        assert_eq!(rule["health"], "ok", "{rule}");
    }
}
