//! A running process on the embedded broker: its endpoints, and changes applied while it runs.

use crate::process::Running;

const CONFIG: &str = r#"
[admin]
token = "0123456789abcdef"

[engine]
workers = 2

[[segment]]
id = "first"
where = 'event_type == "view"'
"#;

#[test]
fn a_running_process_serves_its_state_and_applies_segments_and_log_levels() {
    let mut it = Running::start(CONFIG);
    it.wait_until_ready();

    let publisher = it.publisher();
    let publish = |from: usize, until: usize| {
        for number in from..until {
            let event = format!(
                r#"{{"event_id":"e{number}","event_type":"view","user_id":"u{}","occurred_at":{}}}"#,
                number % 10,
                1_700_000_000_000_u64 + number as u64
            );
            publisher.publish(Some(format!("u{}", number % 10).as_bytes()), Some(event.as_bytes())).unwrap();
        }
        publisher.publish(Some(b"u1"), Some(b"{\"broken")).unwrap();
        publisher.finish().unwrap();
    };
    publish(0, 100);
    let shown = it.wait_for("decisions", |it| Some(it.snapshot()).filter(|it| it["counts"]["decisions"] == 100));
    assert_eq!(shown["segments"], serde_json::json!([{ "id": "first", "count": 100, "members": null }]));
    it.wait_for("the dead letter", |it| (it.snapshot()["dead_letters"]["malformed"] == 1).then_some(()));
    let metrics = it.ask("GET", "/metrics", "").1;
    for line in [
        "aimpoint_events_total{outcome=\"decision\"} 100",
        "aimpoint_dead_letters_total{reason=\"malformed\"} 1",
        "aimpoint_decision_latency_seconds_count{since=\"append\"} 100",
        "aimpoint_partitions{phase=\"moving\"} 2",
        "aimpoint_ready 1",
        "aimpoint_build_info{version=\"0.1.0\"} 1",
        "aimpoint_app_info{app=\"aimpoint\",consumergroup=\"aimpoint\"} 1",
    ] {
        assert!(metrics.lines().any(|other| other == line), "{line:?} is missing in:\n{metrics}");
    }
    assert!(metrics.contains("aimpoint_commit_seconds_bucket{le="), "a histogram with buckets:\n{metrics}");
    // They are in the last minute of the page.
    it.wait_for("the last minute", |it| {
        let minute = it.snapshot()["recent"]["minute"].clone();
        (minute["decisions"] == 100 && minute["seconds"].as_f64() < Some(60.5)).then_some(())
    });
    it.wait_for("the number of workers and its reason", |it| it.says("set by engine.workers"));
    it.wait_for("the lag", |it| {
        let metrics = it.ask("GET", "/metrics", "").1;
        metrics.lines().any(|line| line == "aimpoint_lag_records{partition=\"0\"} 0").then_some(())
    });

    assert_eq!(it.ask("PUT", "/log", "aimpoint=nonsense").0, 400);
    assert_eq!(it.ask_with("stolen", "PUT", "/log", "off").0, 401);
    assert_eq!(it.ask("PUT", "/log", "debug,librdkafka=off").0, 200);
    for audited in
        ["\"path\":\"/log\",\"status\":400", "\"path\":\"/log\",\"status\":200", "\"path\":\"/log\",\"status\":401"]
    {
        it.wait_for("each attempt in the log", |it| it.says(audited));
    }
    assert_eq!(it.ask("GET", "/log", "").1, "debug,librdkafka=off\n");

    let other = CONFIG.replace("\"first\"", "\"second\"") + "[log]\nfilter = \"info,aimpoint=warn\"\n";
    std::fs::write(&it.config, other.replace("event_type", "event_typ")).unwrap();
    it.signal("-HUP");
    it.wait_for("the refusal", |it| it.says("did you mean \\\"event_type\\\"?"));
    assert_eq!(it.snapshot()["segments"][0]["id"], "first", "the old one stays");
    std::fs::write(&it.config, other.replace("workers = 2", "workers = 1")).unwrap();
    it.signal("-HUP");
    it.wait_for("the refusal", |it| it.says("restart for what has changed in engine"));
    std::fs::write(&it.config, &other).unwrap();
    it.signal("-HUP");
    publish(100, 200);
    it.wait_for("the other segment", |it| (it.snapshot()["segments"][0]["id"] == "second").then_some(()));
    it.wait_for("all decisions", |it| (it.snapshot()["counts"]["decisions"] == 200).then_some(()));
    assert_eq!(it.ask("GET", "/log", "").1, "info,aimpoint=warn\n");
    let metrics = it.ask("GET", "/metrics", "").1;
    for line in ["aimpoint_reloads_total{outcome=\"refused\"} 2", "aimpoint_reloads_total{outcome=\"taken\"} 1"] {
        assert!(metrics.lines().any(|other| other == line), "{line:?} is missing in:\n{metrics}");
    }

    it.signal("-TERM");
    assert_eq!(it.end(), Some(0), "{}", it.log());
}
