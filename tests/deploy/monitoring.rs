//! Alerts, the dashboard, and the metrics they use.

use crate::{output, repository, strings, text, tool, yaml};
use aimpoint::metrics::{FAMILIES, Kind};
use regex::Regex;
use serde_json::{Value, json};
use std::{collections::BTreeSet, process::Command};

pub(super) const RULES: &str = "deploy/prometheus/rules.yml";
const RULE_TESTS: &str = "deploy/prometheus/rules_test.yml";
pub(super) const DASHBOARD: &str = "deploy/grafana/aimpoint.json";

/// Metrics of the Kafka exporter and of Prometheus.
const FOREIGN: [(&str, &[&str]); 5] = [
    ("kafka_consumergroup_lag", &["consumergroup", "topic", "partition"]),
    ("kafka_consumergroup_current_offset", &["consumergroup", "topic", "partition"]),
    ("kafka_consumergroup_members", &["consumergroup"]),
    ("up", &[]),
    ("ALERTS", &["alertname", "alertstate"]),
];
/// Labels added by Prometheus when scraping.
const TARGET: [&str; 3] = ["namespace", "job", "instance"];

fn dashboard() -> Value {
    serde_json::from_str(&text(DASHBOARD)).unwrap()
}

pub(super) fn alerts() -> Vec<Value> {
    let groups = yaml(RULES)["groups"].as_array().unwrap().clone();
    groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

/// All queries with their places.
pub(super) fn queries() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for alert in alerts() {
        found.push((format!("{RULES}: {}", alert["alert"]), alert["expr"].as_str().unwrap().to_owned()));
    }
    let dashboard = dashboard();
    let mut inside = Vec::new();
    strings(&dashboard, "", &mut inside);
    found.extend(
        inside
            .iter()
            .filter(|(member, _)| *member == "expr")
            .map(|(_, text)| (DASHBOARD.to_owned(), (*text).to_owned())),
    );
    found
}

/// A query as sent by Grafana to Prometheus.
pub(super) fn filled_in(query: &str) -> String {
    query.replace("$__rate_interval", "1m").replace("$instance", ".*").replace("$job", ".*").replace("$group", ".*")
}

/// Errors in the metrics and labels of a query.
fn unknown(query: &str) -> Vec<String> {
    let selector = Regex::new(r"([a-zA-Z_][a-zA-Z0-9_]*)\{([^}]*)\}|\b((?:aimpoint|kafka)_[a-z0-9_]+)").unwrap();
    let label = Regex::new(r#"([a-zA-Z_]+)\s*(?:=~|!~|!=|=)\s*""#).unwrap();
    let group = Regex::new(r"\bby \(([^)]*)\)").unwrap();
    let (mut wrong, mut known) = (Vec::new(), TARGET.to_vec());
    known.push("le");
    for found in selector.captures_iter(query) {
        let name = found.get(1).or(found.get(3)).unwrap().as_str();
        let Some(labels) = labels_of(name) else {
            wrong.push(format!("there is no metric {name}"));
            continue;
        };
        known.extend(labels);
        let matchers = found.get(2).map_or("", |it| it.as_str());
        for label in label.captures_iter(matchers).map(|found| found[1].to_owned()) {
            if !labels.contains(&label.as_str()) && !TARGET.contains(&label.as_str()) {
                wrong.push(format!("{name} has no label {label}"));
            }
        }
    }
    for label in group
        .captures_iter(query)
        .flat_map(|found| found[1].split(',').map(str::trim).map(str::to_owned).collect::<Vec<_>>())
    {
        if !known.contains(&label.as_str()) {
            wrong.push(format!("nothing has a label {label}"));
        }
    }
    wrong
}

/// The labels of a time series, if it exists.
fn labels_of(series: &str) -> Option<&'static [&'static str]> {
    let own = FAMILIES.iter().find(|metric| match metric.kind {
        Kind::Histogram => ["_bucket", "_sum", "_count"].iter().any(|end| series == format!("{}{end}", metric.name)),
        Kind::Counter | Kind::Gauge => series == metric.name,
    });
    own.map(|metric| metric.labels)
        .or_else(|| FOREIGN.iter().find(|(name, _)| *name == series).map(|(_, labels)| *labels))
}

#[test]
fn every_metric_and_label_of_a_query_exists() {
    let queries = queries();
    assert!(queries.len() > 25, "{queries:?}");
    for (place, query) in queries {
        assert_eq!(unknown(&query), Vec::<String>::new(), "{place}: {query}");
    }
    for (query, wrong) in [
        ("rate(aimpoint_event_total[1m])", "there is no metric aimpoint_event_total"),
        (r#"aimpoint_events_total{outcom="decision"}"#, "aimpoint_events_total has no label outcom"),
        ("aimpoint_commit_seconds", "there is no metric aimpoint_commit_seconds"),
        ("sum by (outcom) (aimpoint_events_total)", "nothing has a label outcom"),
    ] {
        assert_eq!(unknown(query), [wrong], "{query}");
    }
}

/// A metric that is not on the dashboard is superfluous, or a panel is missing.
#[test]
fn every_metric_is_on_the_dashboard() {
    let all: String = queries().into_iter().filter(|(place, _)| place == DASHBOARD).map(|(_, query)| query).collect();
    for metric in FAMILIES {
        assert!(all.contains(metric.name), "{} is on no panel of {DASHBOARD}", metric.name);
    }
}

#[test]
fn promtool_accepts_rules_and_configuration() {
    output(tool("promtool").args(["check", "rules", "--lint=all", "--lint-fatal", RULES]));
    output(tool("promtool").args([
        "check",
        "config",
        "--lint=all",
        "--lint-fatal",
        "deploy/prometheus/prometheus.yml",
    ]));
}

#[test]
fn each_alert_fires_only_when_it_should() {
    output(tool("promtool").args(["test", "rules", RULE_TESTS]));
    // Each alert has at least one test in which it fires.
    let tests = yaml(RULE_TESTS);
    let cases: Vec<Value> = tests["tests"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|test| test["alert_rule_test"].as_array().unwrap().clone())
        .collect();
    let fires = |case: &Value| case["exp_alerts"].as_array().is_some_and(|alerts| !alerts.is_empty());
    let fired: BTreeSet<&str> =
        cases.iter().filter(|case| fires(case)).map(|case| case["alertname"].as_str().unwrap()).collect();
    let alerts = alerts();
    let named: BTreeSet<&str> = alerts.iter().map(|alert| alert["alert"].as_str().unwrap()).collect();
    assert_eq!(fired, named);
}

/// Applications and jobs can have any name.
#[test]
fn no_rule_or_panel_contains_an_application_s_name() {
    let named = Regex::new(r#"(?:job|consumergroup|app|instance)\s*=~?\s*\\?"[^"$]*aimpoint"#).unwrap();
    for file in [RULES, DASHBOARD] {
        assert!(!named.is_match(&text(file)), "{file}: {:?}", named.find(&text(file)));
    }
    // Every selector of a rule has the label that the chart or the operator replaces.
    let selector = Regex::new(r"\b(aimpoint_[a-z0-9_]+)(\{[^}]*\})?").unwrap();
    for alert in alerts() {
        for found in selector.captures_iter(alert["expr"].as_str().unwrap()) {
            let matchers = found.get(2).map_or("", |it| it.as_str());
            assert!(matchers.contains("job=~\".+\""), "{}: {}{matchers}", alert["alert"], &found[1]);
        }
    }
    for panel in queries().into_iter().filter(|(place, query)| place == DASHBOARD && query.contains("aimpoint_")) {
        for found in selector.captures_iter(&panel.1) {
            let matchers = found.get(2).map_or("", |it| it.as_str());
            assert!(matchers.contains("job=~\"$job\""), "{}", panel.1);
        }
    }
}

/// The chart's rules for a release, with their tests.
fn rules_of(release: &str, folder: &std::path::Path) -> std::path::PathBuf {
    let rendered =
        output(tool("helm").args(["template", release, "deploy/helm/aimpoint", "--namespace", "streaming"]).args([
            "--kube-version",
            "1.34.0",
            "--set",
            "metrics.rules.enabled=true",
            "--show-only",
            "templates/prometheusrule.yaml",
        ]));
    let rules = crate::documents(&rendered).pop().unwrap();
    std::fs::write(folder.join("rules.yml"), rules["spec"].to_string()).unwrap();
    folder.join("rules_test.yml")
}

#[test]
fn the_chart_s_rules_fire_for_their_own_release_only() {
    let folder = tempfile::tempdir().unwrap();
    let file = rules_of("shop", folder.path());
    output(
        tool("promtool").args(["check", "rules", "--lint=all", "--lint-fatal"]).arg(folder.path().join("rules.yml")),
    );
    // Alerts about missing processes name the release.
    let tests = text(RULE_TESTS).replace("No process of Aimpoint answers", "No process of shop-aimpoint answers");
    std::fs::write(&file, &tests).unwrap();
    output(tool("promtool").args(["test", "rules"]).arg(&file));

    // The rules of another release only report that its own processes are missing.
    let file = rules_of("news", folder.path());
    let mut tests: Value = crate::documents(&tests.replace("news-aimpoint", "else-aimpoint")).pop().unwrap();
    for test in tests["tests"].as_array_mut().unwrap() {
        let cases = test["alert_rule_test"].as_array_mut().unwrap();
        cases.retain(|case| case["alertname"] != "AimpointAbsent");
        for case in cases.iter_mut() {
            case["exp_alerts"] = json!([]);
        }
    }
    tests["tests"].as_array_mut().unwrap().retain(|test| test["alert_rule_test"] != json!([]));
    assert!(tests["tests"].as_array().unwrap().len() > 8);
    std::fs::write(&file, tests.to_string()).unwrap();
    output(tool("promtool").args(["test", "rules"]).arg(&file));
}

/// Prometheus parses each panel's query, as a recording rule.
#[test]
fn prometheus_can_parse_every_panel_s_query() {
    let check = |queries: &[String]| -> Command {
        let rules: Vec<Value> = queries
            .iter()
            .enumerate()
            .map(|(index, query)| json!({"record": format!("q:{index}"), "expr": query}))
            .collect();
        let file = repository("target/tmp").join(format!("panels-{}.yml", queries.len()));
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, json!({"groups": [{"name": "panels", "rules": rules}]}).to_string()).unwrap();
        let mut promtool = tool("promtool");
        promtool.args(["check", "rules"]).arg(file);
        promtool
    };
    let queries: Vec<String> = queries().iter().map(|(_, query)| filled_in(query)).collect();
    assert!(queries.iter().all(|query| !query.contains('$')), "{queries:?}");
    output(&mut check(&queries));
    assert!(
        !check(&["sum(rate(up[1m])".to_owned()]).output().unwrap().status.success(),
        "an invalid query was accepted"
    );
}

#[test]
fn the_dashboard_is_valid_for_grafana() {
    let dashboard = dashboard();
    for member in ["uid", "title", "schemaVersion", "panels", "templating", "time"] {
        assert!(!dashboard[member].is_null(), "{member}");
    }
    let variables: BTreeSet<&str> =
        dashboard["templating"]["list"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert!(variables.contains("datasource"), "{variables:?}");
    let named = Regex::new(r"\$(\w+)").unwrap();
    let mut ids = BTreeSet::new();
    let mut taken = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: its id is another's");
        let [x, y, width, height] = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
        assert!(x + width <= 24, "{title} reaches over the edge");
        for cell in (x..x + width).flat_map(|x| (y..y + height).map(move |y| (x, y))) {
            assert!(taken.insert(cell), "{title} lies on another panel at {cell:?}");
        }
        if panel["type"] == "row" {
            continue;
        }
        assert!(["timeseries", "stat"].contains(&panel["type"].as_str().unwrap()), "{title}");
        assert!(
            panel["description"].as_str().is_some_and(|it| it.ends_with('.')),
            "{title} does not say what it shows"
        );
        assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{title} has no unit");
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{title} asks for nothing");
        for target in targets {
            assert!(target["legendFormat"].is_string(), "{title}");
            // An undeclared variable is not replaced, so the query finds nothing.
            for name in named.captures_iter(target["expr"].as_str().unwrap()).map(|it| it[1].to_owned()) {
                assert!(name.starts_with("__") || variables.contains(name.as_str()), "{title}: ${name}");
            }
        }
    }
}

/// The chart includes the same files, not outdated copies.
#[test]
fn the_chart_s_rules_and_dashboard_are_these() {
    for (inside, outside) in [("rules.yml", RULES), ("aimpoint.json", DASHBOARD)] {
        let path = repository("deploy/helm/aimpoint/files").join(inside);
        assert_eq!(std::fs::canonicalize(&path).unwrap(), std::fs::canonicalize(repository(outside)).unwrap());
    }
}
