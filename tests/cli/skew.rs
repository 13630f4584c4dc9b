//! Decisions that carry their features: `aimpoint skew` compares them with a replay, and `aimpoint export` makes rows of them.

use super::{aimpoint, folder_with, path, process::Running};
use aimpoint::{
    source::Reader,
    training::{ReadSpec, read},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fmt::Write as _, fs};
use tempfile::TempDir;

const CONFIG: &str = r#"
[decision]
features_share = 1.0

[[feature]]
name = "n"
aggregate = "count"
window = "30d"

[[feature]]
name = "spend"
aggregate = "sum"
value = "value"
window = "30d"

[[feature]]
name = "gap"
aggregate = "recency"

[[campaign]]
id = "spring"
action = "click"
value = 0.8
probability = 0.1
currency = "EUR"
"#;

/// 2026-01-01 in seconds.
const START: i64 = 1_767_225_600;
const EVENTS: i64 = 600;

/// Events of 40 users, an hour apart for each.
fn events() -> String {
    (0..EVENTS).fold(String::new(), |mut text, number| {
        let (user, at) = (number % 40, START + number * 90);
        writeln!(
            text,
            r#"{{"event_id":"e{number}","user_id":"u{user}","event_type":"view","value":{}.3,"occurred_at":{at}}}"#,
            number % 7
        )
        .unwrap();
        text
    })
}

/// Runs the events through a process, and returns a folder with them, the configuration and the decisions.
fn decided() -> (TempDir, Vec<Value>) {
    let it = Running::start(CONFIG);
    it.wait_until_ready();
    let folder = folder_with(&[("a.toml", CONFIG), ("events.jsonl", &events())]);
    let brokers = format!("kafka.brokers={}", it.brokers());
    let (code, out, error) = aimpoint(&["load", "--set", &brokers, &path(&folder, "events.jsonl")], &[]);
    assert_eq!(code, 0, "{out}{error}");
    it.wait_for("all decisions", |it| (it.snapshot()["counts"]["decisions"] == EVENTS).then_some(()));
    let mut decisions = Vec::new();
    Reader::read_whole(&it.brokers(), &[], "decisions", |_, record, _| {
        decisions.push(serde_json::from_slice(record.payload.unwrap()).unwrap());
    })
    .unwrap();
    assert_eq!(decisions.len(), EVENTS as usize);
    write(&folder, &decisions);
    (folder, decisions)
}

fn write(folder: &TempDir, decisions: &[Value]) {
    // Both partitions in the order of their times, as a consumer may read them.
    let mut decisions = decisions.to_vec();
    decisions.sort_by_key(|it| it["occurred_at"].as_str().unwrap().parse::<i64>().unwrap());
    let lines: Vec<String> = decisions.iter().map(ToString::to_string).collect();
    fs::write(folder.path().join("decisions.jsonl"), lines.join("\n")).unwrap();
}

/// Compares: exit code, result and message.
fn skew(folder: &TempDir, arguments: &[&str]) -> (i32, Value, String) {
    let [config, events, decisions] = ["a.toml", "events.jsonl", "decisions.jsonl"].map(|name| path(folder, name));
    let all =
        ["skew", "--config", &config, &events, "--decisions", &decisions, "--partitions", "2", "--format", "json"];
    let (code, out, error) = aimpoint(&[&all[..], arguments].concat(), &[]);
    (code, serde_json::from_str(&out).unwrap_or_default(), error)
}

/// Match, mismatch, missing and extra of each feature.
fn counts(skew: &Value) -> BTreeMap<String, [u64; 4]> {
    let of =
        |feature: &Value| ["matches", "mismatches", "missing", "extra"].map(|name| feature[name].as_u64().unwrap());
    let features = skew["features"].as_array().unwrap().iter();
    features.map(|it| (it["name"].as_str().unwrap().to_owned(), of(it))).collect()
}

/// The decision about this event.
fn of_event<'a>(decisions: &'a mut [Value], event: &str) -> &'a mut Value {
    decisions.iter_mut().find(|it| it["trigger_event_id"] == event).unwrap()
}

#[test]
fn logged_features_are_those_of_a_replay_and_planted_differences_are_found() {
    let (folder, mut decisions) = decided();
    let all = EVENTS as u64;
    for by in ["event", "position"] {
        let (code, found, error) = skew(&folder, &["--by", by]);
        assert_eq!((code, &found["compared"], &found["share"]), (0, &all.into(), &0.0.into()), "{by}: {found}{error}");
        let equal = ["gap", "n", "spend"].map(|name| (name.to_owned(), [all, 0, 0, 0]));
        assert_eq!(counts(&found), equal.into(), "{by}");
    }
    // A first event has no event before it.
    let first = of_event(&mut decisions, "e0");
    assert!(first["features"].get("gap").is_none() && first["features"]["n"] == 1.0, "{first}");

    // Another value, a value that is gone, and one that should not be there.
    of_event(&mut decisions, "e590")["features"]["n"] = json!(16.0);
    of_event(&mut decisions, "e591")["features"].as_object_mut().unwrap().remove("spend");
    of_event(&mut decisions, "e0")["features"]["gap"] = json!(7.0);
    write(&folder, &decisions);
    let (code, found, error) = skew(&folder, &[]);
    let owed = [("gap", [all - 1, 0, 0, 1]), ("n", [all - 1, 1, 0, 0]), ("spend", [all - 1, 0, 1, 0])];
    assert_eq!((code, counts(&found)), (82, owed.map(|(name, it)| (name.to_owned(), it)).into()), "{error}");
    assert!(error.contains("0.1667 % of the values differ") && error.contains(": gap, n, spend"), "{error}");
    let [gap, n, spend] = [0, 1, 2].map(|at| found["features"][at].clone());
    assert_eq!(n["first"], "event e590: logged 16, replayed 15");
    assert_eq!((&gap["first"], gap["smape"].as_f64()), (&"event e0: logged 7, replayed none".into(), Some(0.0)));
    assert!(spend["first"].as_str().unwrap().starts_with("event e591: logged none, replayed "), "{spend}");
    // Of 600 rows, one has the error 200 · 1 / 31.
    assert!((n["smape"].as_f64().unwrap() - 200.0 / 31.0 / 600.0).abs() < 1e-9, "{n}");
    assert_eq!(skew(&folder, &["--tolerance", "0.01"]).0, 0);

    // Another declaration.
    fs::write(folder.path().join("a.toml"), CONFIG.replacen("30d", "2h", 1)).unwrap();
    let (code, found, error) = skew(&folder, &[]);
    assert_eq!((code, &found["other_declarations"]), (82, &all.into()), "{error}");
    assert!(counts(&found)["n"][1] > 400 && counts(&found)["spend"] == [all - 1, 0, 1, 0], "{found}");

    // Nothing to compare.
    fs::write(folder.path().join("a.toml"), CONFIG).unwrap();
    fs::write(folder.path().join("events.jsonl"), events().replace("\"e", "\"x")).unwrap();
    let (code, _, error) = skew(&folder, &[]);
    assert!(code == 65 && error.contains("none of the 600 decisions with features is about an event"), "{error}");
    for decision in &mut decisions {
        decision.as_object_mut().unwrap().remove("features");
    }
    write(&folder, &decisions);
    let (code, _, error) = skew(&folder, &[]);
    assert!(code == 65 && error.contains("set decision.features_share"), "{error}");
}

#[test]
fn decisions_with_features_become_rows_with_the_labels_of_evaluate() {
    let (folder, mut decisions) = decided();
    // Two users may not be trained on, and one decision carries no features.
    for event in ["e41", "e42"] {
        of_event(&mut decisions, event)["consent"] =
            json!({"permitted": ["write", "score", "emit"], "framework": "tcf_eu"});
    }
    let consent = json!({"permitted": ["train"], "framework": "tcf_eu", "legal_basis": "consent"});
    of_event(&mut decisions, "e43")["consent"] = consent;
    of_event(&mut decisions, "e44").as_object_mut().unwrap().remove("features");
    of_event(&mut decisions, "e45")["feature_set_version"] = json!("other");
    write(&folder, &decisions);
    let mut outcomes: Vec<(i64, String)> = Vec::new();
    for decision in &decisions {
        let event: i64 = decision["trigger_event_id"].as_str().unwrap()[1..].parse().unwrap();
        let decided_at: i64 = decision["decided_at"].as_str().unwrap().parse().unwrap();
        for (kind, after) in [("impression", 1), ("click", 2)] {
            if kind == "impression" || event % 3 == 0 {
                let (at, id) = (decided_at + after * 1_000_000, &decision["decision_id"]);
                outcomes.push((
                    at,
                    format!(
                        r#"{{"outcome_id":"{kind}{event}","type":"{kind}","occurred_at":{at},"decision_id":{id},"campaign_id":"spring"}}"#
                    ),
                ));
            }
        }
    }
    outcomes.sort();
    let lines: Vec<String> = outcomes.into_iter().map(|(_, line)| line).collect();
    fs::write(folder.path().join("outcomes.jsonl"), lines.join("\n")).unwrap();
    let [config, log, outcomes, rows] =
        ["a.toml", "decisions.jsonl", "outcomes.jsonl", "rows.csv"].map(|name| path(&folder, name));
    let all = ["export", "--config", &config, "--decisions", &log, "--outcomes", &outcomes, "--out", &rows];
    // The labels of the last day are not known yet.
    let (code, _, error) = aimpoint(&all, &[]);
    assert!(code == 65 && error.contains("impressions whose label is not known yet"), "{error}");
    let (code, out, error) = aimpoint(&[&all[..], &["--complete-until", "2100-01-01T00:00:00Z"]].concat(), &[]);
    assert_eq!(code, 0, "{error}");
    for part in [
        "596 rows of the decision log, ",
        "left out: 2 decisions whose user does not consent to training",
        "left out: 1 decisions without features (decision.features_share is 1)",
        "left out: 1 decisions with features of other declarations",
        "left out: 4 impressions of decisions that are left out",
    ] {
        assert!(out.contains(part), "{part}: {out}");
    }
    let mut reader = csv::Reader::from_path(&rows).unwrap();
    let columns: Vec<String> = reader.headers().unwrap().iter().map(str::to_owned).collect();
    let owed = "user_key,event_id,partition,offset,occurred_at_us,key_type,decision_id,campaign_id,consent_basis,propensity,weight,n,\
                spend,gap,label";
    assert_eq!(columns.join(","), owed);
    let known: BTreeMap<&str, &Value> =
        decisions.iter().map(|it| (it["trigger_event_id"].as_str().unwrap(), it)).collect();
    let mut count = 0;
    for row in reader.records() {
        let row = row.unwrap();
        let decision = known[&row[1]];
        assert_eq!(&row[6], decision["decision_id"].as_str().unwrap());
        let number = |text: &str| text.parse::<f64>().ok();
        let logged = ["n", "spend", "gap"].map(|name| decision["features"][name].as_f64());
        assert_eq!([&row[11], &row[12], &row[13]].map(number), logged, "{row:?}");
        let event: i64 = row[1][1..].parse().unwrap();
        assert_eq!(&row[14], if event % 3 == 0 { "1.0" } else { "0.0" });
        assert_eq!(&row[8], if event == 43 { "tcf_eu/consent" } else { "not_checked" });
        assert_eq!((&row[7], &row[9], &row[10]), ("spring", "", "1.0"));
        assert!(!(41..=42).contains(&event));
        count += 1;
    }
    assert_eq!(count, 596);
    // The rows can be trained on: the further columns are no features.
    let spec = ReadSpec { label: "label".to_owned(), ..ReadSpec::default() };
    assert_eq!(read(rows.as_ref(), &spec).unwrap().features, ["n", "spend", "gap"]);
}
