//! `aimpoint evaluate`: figures, messages and exit codes, on files as they come.

use super::{aimpoint, folder_with, path};
use serde_json::Value;
use std::io::Write as _;
use tempfile::TempDir;

/// 2026-01-01 in microseconds.
const START: i64 = 1_767_225_600_000_000;
const SECOND: i64 = 1_000_000;

const CONFIG: &str = r#"
[app]
name = "shop"

[[campaign]]
id = "spring"
action = "click"
value = 0.8
probability = 0.1
currency = "EUR"
arms = [{ name = "bold", share = 0.5 }]
rotation = { method = "thompson", prior_rate = 0.1, prior_weight = 20.0 }

[[creative]]
id = "red"
campaign = "spring"
headline = ["Red"]
landing_page = "https://shop.example/red"

[[creative]]
id = "blue"
campaign = "spring"
headline = ["Blue"]
landing_page = "https://shop.example/blue"
"#;

/// Decisions about 400 users, two a minute, and what followed: every second one has the other arm, every fourth pair
/// the other creative. Of ten impressions of red one is clicked, of ten of blue three.
pub(super) fn log() -> (String, String) {
    let (mut decisions, mut outcomes) = (Vec::new(), Vec::new());
    for number in 0..400_i64 {
        let at = START + number * 30 * SECOND;
        let creative = ["red", "blue"][(number / 2 % 2) as usize];
        let arm = ["control", "bold"][(number % 2) as usize];
        decisions.push(format!(
            r#"{{"decision_id":"shop:d-0-{number}","user_key":"u{number}","decided_at":"{at}","expires_at":"{}","input":{{"partition":{}}},"model":{{"name":"m","version":"3"}},"campaigns":[{{"id":"spring","arm":"{arm}","probability":0.1,"bid_micros":"4000000","currency":"EUR","creative":{{"id":"{creative}","propensity":0.5,"policy":"weights"}}}}]}}"#,
            at + 60 * SECOND,
            number % 3
        ));
        let of_creative = number / 4;
        let is_clicked = of_creative % 10 < if creative == "red" { 1 } else { 3 };
        for (kind, after, more) in [("win", 1, r#","price":2.5"#), ("impression", 2, ""), ("click", 9, "")] {
            if kind != "click" || is_clicked {
                let at = at + after * SECOND;
                outcomes.push(format!(
                    r#"{{"outcome_id":"{kind}{number}","type":"{kind}","occurred_at":{at},"decision_id":"shop:d-0-{number}","campaign_id":"spring"{more}}}"#
                ));
            }
        }
    }
    (decisions.join("\n"), outcomes.join("\n"))
}

pub(super) fn folder() -> TempDir {
    let (decisions, outcomes) = log();
    folder_with(&[("a.toml", CONFIG), ("decisions.jsonl", &decisions), ("outcomes.jsonl", &outcomes)])
}

/// Runs the command on files of the folder.
pub(super) fn evaluate(folder: &TempDir, files: &[&str], arguments: &[&str]) -> (i32, String, String) {
    let config = path(folder, "a.toml");
    let files: Vec<String> = files.iter().map(|name| path(folder, name)).collect();
    let mut all = vec!["evaluate", "--config", &config];
    all.extend(files.iter().map(String::as_str));
    all.extend(arguments);
    aimpoint(&all, &[])
}

pub(super) fn json(folder: &TempDir, files: &[&str], arguments: &[&str]) -> Value {
    let (code, out, error) = evaluate(folder, files, &[&["--format", "json"][..], arguments].concat());
    assert_eq!(code, 0, "{error}");
    serde_json::from_str(&out).unwrap()
}

pub(super) const FILES: [&str; 2] = ["decisions.jsonl", "outcomes.jsonl"];

#[test]
fn the_tables_have_the_figures_of_the_log_and_say_what_is_not_known() {
    let folder = folder();
    let (code, out, error) =
        evaluate(&folder, &FILES, &["--click-within", "10m", "--by", "campaign", "--by", "creative", "--by", "arm"]);
    assert_eq!((code, error.as_str()), (0, ""), "{error}");
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines: Vec<String> = out.lines().map(words).collect();
    for line in [
        "decisions 400, 0 duplicates, 0 of other applications",
        "outcomes 880 joined, 0 duplicates, 0 late (0 before their decision), 0 orphan (no known decision, or one older than its windows), 0 rejected",
        "labels known 10m after an impression for clicks, 31 days for conversions",
        // 380 impressions are 10 minutes old. The last 20 have no clicks.
        "red 200 200 - 200 0 20 10.53 % (6.92 to 15.70) 0 -",
        "blue 200 200 - 200 0 60 31.58 % (25.39 to 38.50) 0 -",
        // 400 wins at 2.5 a thousand.
        "spring EUR 1.00 0.00 - 2.50 0.0125 -",
        "split: as declared (p = 1.0000; at any time p = 1.0000)",
    ] {
        let found = lines.iter().any(|it| it == line);
        assert!(found, "{line:?} is missing in:\n{out}");
    }
    for part in [
        "conversion rate: all 80 clicks are of impressions younger than 31 days",
        "win rate: no loss was reported",
        "experiment of the campaign \"spring\", by user",
        "no difference in users who click between bold and control",
    ] {
        assert!(out.contains(part), "{part:?} is missing in:\n{out}");
    }
}

#[test]
fn the_json_has_every_figure_and_compressed_files_give_the_same() {
    let folder = folder();
    let arguments = ["--click-within", "10m", "--by", "model_version", "--by", "input.partition+creative"];
    let plain = json(&folder, &FILES, &arguments);
    let all = &plain["all"];
    assert_eq!((&all["impressions"], &all["clicks"], &all["offers"]), (&400.into(), &80.into(), &400.into()));
    let of = all["click_rate"]["of"].as_u64().unwrap();
    let figures = &all["quality"]["figures"];
    assert_eq!(figures["rows"].as_u64(), Some(of));
    assert_eq!(all["immature_impressions"].as_u64(), Some(400 - of));
    assert_eq!(of, 380);
    // All predictions are 0.1, so nothing is ranked, and twice as many clicks came as predicted.
    assert_eq!(figures["auc"]["value"], 0.5);
    assert!((figures["calibration_ratio"].as_f64().unwrap() - 38.0 / 80.0).abs() < 1e-9);
    assert_eq!(plain["by"][0]["groups"][0]["name"], "3");
    let names: Vec<&str> =
        plain["by"][1]["groups"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["0 + blue", "0 + red", "1 + blue", "1 + red", "2 + blue", "2 + red"]);
    // Both kinds in one compressed file, in the order in which they arrived; and each in its own, in another order.
    let (decisions, outcomes) = log();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(decisions.as_bytes()).unwrap();
    std::fs::write(folder.path().join("decisions.jsonl.gz"), gzip.finish().unwrap()).unwrap();
    std::fs::write(folder.path().join("outcomes.zst"), zstd::encode_all(outcomes.as_bytes(), 1).unwrap()).unwrap();
    assert_eq!(json(&folder, &["outcomes.zst", "decisions.jsonl.gz"], &arguments), plain);
}

#[test]
fn without_a_win_the_spend_is_not_known() {
    let (decisions, outcomes) = log();
    let outcomes: String =
        outcomes.lines().filter(|line| !line.contains("win")).flat_map(|line| [line, "\n"]).collect();
    let folder = folder_with(&[("aimpoint.toml", CONFIG), ("d.jsonl", &decisions), ("o.jsonl", &outcomes)]);
    let [config, d, o] = ["aimpoint.toml", "d.jsonl", "o.jsonl"].map(|name| path(&folder, name));
    let usual = ["evaluate", "--config", &config, &d, &o];
    let (_, out, _) = aimpoint(&[&usual[..], &["--format", "json"]].concat(), &[]);
    let found: Value = serde_json::from_str(&out).unwrap();
    let money = &found["all"]["money"]["EUR"];
    assert_eq!(money["impressions"], 400, "{money}");
    for figure in ["spend_micros", "ecpm_micros", "cpc_micros", "cpa_micros", "roas"] {
        assert!(money[figure].is_null(), "{figure}: {money}");
    }
    let (_, text, _) = aimpoint(&usual, &[]);
    assert!(text.contains("spend: no win was reported"), "{text}");
}

#[test]
fn conversions_are_divided_among_the_campaigns_that_touched_the_user() {
    let (decisions, outcomes) = log();
    // Two users who clicked, one who did not, and one who is not in the log.
    let converted = |number: i64, more: &str| {
        let at = START + 12_000 * SECOND;
        format!(r#"{{"outcome_id":"b{number}","type":"conversion","occurred_at":{at},{more}}}"#)
    };
    let clicked: Vec<i64> = (0..400).filter(|number| outcomes.contains(&format!("\"click{number}\""))).collect();
    let of_decision = |number: i64| {
        converted(number, &format!(r#""decision_id":"shop:d-0-{number}","campaign_id":"spring","value":5"#))
    };
    let other = converted(1_000, r#""user_key":"nobody","campaign_id":"spring","value":7,"currency":"EUR""#);
    let outcomes = [outcomes, of_decision(clicked[0]), of_decision(clicked[1]), other].join("\n");
    let folder = folder_with(&[("aimpoint.toml", CONFIG), ("d.jsonl", &decisions), ("o.jsonl", &outcomes)]);
    let [config, d, o] = ["aimpoint.toml", "d.jsonl", "o.jsonl"].map(|name| path(&folder, name));
    let usual = ["evaluate", "--config", &config, &d, &o, "--attribution"];
    let (code, out, error) = aimpoint(&[&usual[..], &["--format", "json"]].concat(), &[]);
    assert_eq!(code, 0, "{error}");
    let found: Value = serde_json::from_str(&out).unwrap();
    let found = &found["attribution"];
    assert_eq!((&found["channels"][0], found["touches"][0].as_u64()), (&"spring".into(), Some(clicked.len() as u64)));
    assert_eq!(
        (found["conversions"]["total"].as_f64(), found["conversions"]["direct"].as_f64()),
        (Some(3.0), Some(1.0))
    );
    for model in ["first", "last", "linear", "position", "time_decay", "markov", "shapley"] {
        let credits = found["revenue"]["EUR"]["credits"][model][0].as_f64().unwrap();
        assert!((credits - 10.0).abs() < 1e-9, "{model}: {credits}");
    }
    let (_, text, _) = aimpoint(&usual, &[]);
    assert!(text.contains("attribution: conversions after clicks of the last 30 days"), "{text}");
    assert!(text.contains("of 3.0 in all; 1.0 followed no touch"), "{text}");
    let (code, _, error) = aimpoint(&["evaluate", "--config", &config, &d, "--lookback", "1d"], &[]);
    assert!(code == 2 && error.contains("--attribution"), "{error}");
}

#[test]
fn odd_lines_are_counted_and_named_and_the_others_are_measured() {
    let folder = folder();
    let at = START + 60 * SECOND;
    let to = r#""decision_id":"shop:d-0-1","campaign_id":"spring""#;
    let odd = [
        "no json".to_owned(),
        r#"{"event_id":"e1"}"#.to_owned(),
        format!(r#"{{"outcome_id":"x1","type":"click","occurred_at":{at}}}"#),
        format!(r#"{{"outcome_id":"dollars","type":"win","occurred_at":{at},{to},"price":1,"currency":"USD"}}"#),
        format!(r#"{{"outcome_id":"orphan","type":"click","occurred_at":{at},"decision_id":"shop:d-0-9999"}}"#),
        format!(r#"{{"outcome_id":"before","type":"loss","occurred_at":{},{to}}}"#, START - 600 * SECOND),
        format!(r#"{{"outcome_id":"twice","type":"viewable","occurred_at":{at},{to}}}"#),
        format!(r#"{{"outcome_id":"twice","type":"viewable","occurred_at":{at},{to}}}"#),
        // A decision that is in two files.
        log().0.lines().next().unwrap().to_owned(),
    ];
    std::fs::write(folder.path().join("odd.jsonl"), odd.join("\n")).unwrap();
    let files = ["decisions.jsonl", "outcomes.jsonl", "odd.jsonl"];
    let found = json(&folder, &files, &["--click-within", "10m"]);
    let totals = &found["totals"];
    for (name, count) in [
        ("decisions", 400),
        ("decisions_double", 1),
        ("orphan", 1),
        ("late", 1),
        ("before_decision", 1),
        ("double", 1),
        ("rejected", 1),
        ("joined", 881),
    ] {
        assert_eq!(totals[name], count, "{name}: {totals}");
    }
    let shown = |name: &str| -> Vec<String> {
        let lines = found[name]["first"].as_array().unwrap().iter();
        lines.map(|line| line.as_str().unwrap().rsplit('/').next().unwrap().to_owned()).collect()
    };
    let unreadable = shown("unreadable");
    assert_eq!(unreadable.len(), 3, "{unreadable:?}");
    for (line, part) in unreadable.iter().zip([
        "odd.jsonl:1: not a JSON object",
        "odd.jsonl:2: neither an outcome, with outcome_id, nor a decision",
        "odd.jsonl:3: no_key: nothing to join by",
    ]) {
        assert!(line.starts_with(part), "{line}");
    }
    let rejected = shown("rejected");
    assert!(
        rejected.len() == 1 && rejected[0].starts_with("odd.jsonl:4: other_currency: the amounts are in USD"),
        "{rejected:?}"
    );
    let (_, out, _) = evaluate(&folder, &files, &[]);
    assert!(out.contains("unreadable      3 lines") && out.contains("odd.jsonl:2: neither"), "{out}");
}

#[test]
fn wrong_arguments_and_files_have_their_exit_codes_and_the_next_step() {
    let folder = folder();
    std::fs::write(folder.path().join("bad.jsonl"), "{\"a\":1}\n").unwrap();
    std::fs::write(folder.path().join("plain.toml"), "[app]\nname = \"shop\"\n").unwrap();
    std::fs::write(folder.path().join("policy.json"), "{}").unwrap();
    let [plain, policy] = ["plain.toml", "policy.json"].map(|name| path(&folder, name));
    for (files, arguments, code, part) in [
        (&["nowhere.jsonl"][..], &[][..], 66, "nowhere.jsonl"),
        (&["bad.jsonl"], &[], 65, "bad.jsonl:1: neither an outcome"),
        (&FILES, &["--by", "campaign "], 0, ""),
        (&FILES, &["--by", "a b"], 2, "join several with +"),
        (&FILES, &["--click-within", "soon"], 2, "write one such as \"24h\""),
        (&FILES, &["--click-within", "0s"], 2, "expected 1s to 366 days"),
        (&FILES, &["--complete-until", "yesterday"], 2, "--complete-until"),
        (&FILES, &["--policy", "best"], 2, "aimpoint control --once --policy writes it"),
        (&FILES, &["--learned", &policy], 2, "--policy"),
        (&FILES, &["--policy", "learned", "--learned", &policy], 65, "policy.json: the policy is damaged"),
        (&FILES, &["--policy", "uniform", "--config", &plain], 2, "--config"),
        (&FILES, &["--set", "decision.format=artf"], 78, "control cannot read decisions"),
    ] {
        let (found, out, error) = evaluate(&folder, files, arguments);
        assert_eq!(found, code, "{arguments:?}: {out}{error}");
        assert!(error.contains(part), "{part:?} is missing in:\n{error}");
    }
    let decisions = path(&folder, "decisions.jsonl");
    let (code, _, error) = aimpoint(&["evaluate", "--config", &plain, &decisions, "--policy", "uniform"], &[]);
    assert_eq!((code, error.contains("no campaign has creatives")), (78, true), "{error}");
    std::fs::write(folder.path().join("empty.jsonl"), "").unwrap();
    let (code, out, _) = evaluate(&folder, &["empty.jsonl"], &[]);
    assert_eq!((code, out.contains("no records")), (0, true), "{out}");
}

#[test]
fn what_control_has_learned_from_a_log_is_estimated_from_the_same_log() {
    let folder = folder();
    let [config, decisions, outcomes, learned] =
        ["a.toml", "decisions.jsonl", "outcomes.jsonl", "policy.json"].map(|name| path(&folder, name));
    // A last record, much later: by then every impression has taught something.
    let late =
        format!(r#"{{"decision_id":"shop:d-0-9000","user_key":"u","decided_at":"{}"}}"#, START + 86_400 * SECOND);
    std::fs::write(folder.path().join("late.jsonl"), late).unwrap();
    let late = path(&folder, "late.jsonl");
    let arguments = ["control", "--config", &config, "--once", &decisions, &outcomes, &late, "--policy", &learned];
    let (code, control, error) = aimpoint(&arguments, &[]);
    assert_eq!(code, 0, "{error}");
    let estimate = |policy: &str| {
        let with: &[&str] = if ["best", "learned"].contains(&policy) { &["--learned", &learned] } else { &[] };
        let arguments = [&["--policy", policy, "--click-within", "10m"][..], with].concat();
        let found = json(&folder, &["decisions.jsonl", "outcomes.jsonl", "late.jsonl"], &arguments);
        assert_eq!(found["policy"], policy);
        found["policies"][0].clone()
    };
    let value = |of: &Value, name: &str| of["estimate"][name]["value"].as_f64().unwrap();
    // Both creatives alike: what was logged. Blue alone: three of ten. The learned policy prefers blue.
    for (policy, expected, tolerance) in [("uniform", 0.2, 1e-9), ("weight", 0.2, 1e-9), ("best", 0.3, 1e-9)] {
        let found = estimate(policy);
        for name in ["ips", "snips"] {
            assert!((value(&found, name) - expected).abs() < tolerance, "{policy}: {found}");
        }
        assert!((value(&found, "doubly_robust") - expected).abs() < 0.01, "{policy}: {found}");
        let interval = &found["estimate"]["doubly_robust"]["bootstrap"];
        assert!(interval["low"].as_f64().unwrap() < expected && interval["high"].as_f64().unwrap() > expected);
    }
    let best = estimate("best");
    assert_eq!(
        (best["estimate"]["rows"].as_u64(), best["estimate"]["effective_sample_size"].as_f64()),
        (Some(400), Some(200.0))
    );
    let found = value(&estimate("learned"), "snips");
    assert!(found > 0.29 && found < 0.3, "{found}");
    // The same log gives the same figures, and those of control.
    assert_eq!(estimate("learned"), estimate("learned"));
    let all = json(&folder, &FILES, &[])["all"].clone();
    let line = control.lines().find(|line| line.contains("spring: spent")).unwrap();
    let counts = format!(
        "{} wins, 0 losses, {} impressions, 0 viewable, {} clicks",
        all["wins"], all["impressions"], all["clicks"]
    );
    assert!(line.contains("spent 1.00 EUR") && line.contains(&counts), "{line}: {counts}");
    assert_eq!(all["money"]["EUR"]["spend_micros"], 1_000_000);
    let (_, out, _) = evaluate(&folder, &FILES, &["--policy", "uniform", "--click-within", "10m", "--clip", "1"]);
    for part in ["policy \"uniform\": what it would have earned", "IPS", "SNIPS", "bootstrap", "0.00 % clipped"] {
        assert!(out.contains(part), "{part:?} is missing in:\n{out}");
    }
}

#[test]
fn one_outcome_with_an_odd_clock_makes_no_label_known() {
    let folder = folder();
    let (decisions, outcomes) = log();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let plain = json(&folder, &FILES, &[]);
    let immature = plain["all"]["immature_labels"].as_u64().unwrap();
    assert!(immature > 0, "{plain}");
    let odd = |id: &str, at: i64, decision: &str| {
        format!(
            r#"{{"outcome_id":"{id}","type":"click","occurred_at":{at},"decision_id":"{decision}","campaign_id":"spring"}}"#
        )
    };
    let day = 86_400 * SECOND;
    // An orphan, a known decision, and a time after the present; last in the file and in the midst of it.
    let (first, rest) = outcomes.split_at(outcomes.match_indices('\n').nth(500).unwrap().0);
    for (at, decision) in [(20 * day, "shop:d-9-9"), (20 * day, "shop:d-0-5"), (36_500 * day, "shop:d-9-9")] {
        let record = odd("zz", START + at, decision);
        for (name, all) in [("end", format!("{outcomes}\n{record}")), ("midst", format!("{first}\n{record}{rest}"))] {
            write("odd.jsonl", &all);
            let files = ["decisions.jsonl", "odd.jsonl"];
            let found = json(&folder, &files, &[]);
            for figure in ["immature_labels", "impressions", "wins"] {
                assert_eq!(found["all"][figure], plain["all"][figure], "{figure} {decision} {name}");
            }
            assert_eq!(found["span"], plain["span"], "{decision} {name}");
            let (_, _, error) = evaluate(&folder, &files, &[]);
            assert!(error.contains("odd.jsonl:") && error.contains("--complete-until"), "{error}");
        }
    }
    // Alone in a file, it moves nothing either.
    write("alone.jsonl", &odd("zz", START + 20 * day, "shop:d-9-9"));
    let found = json(&folder, &["decisions.jsonl", "outcomes.jsonl", "alone.jsonl"], &[]);
    assert_eq!(found["span"], plain["span"]);
    // Those of two users are a log that goes on after a gap.
    let two = [odd("y", START + 20 * day, "shop:d-9-8"), odd("z", START + 20 * day + 1, "shop:d-9-9")].join("\n");
    write("two.jsonl", &format!("{decisions}\n{outcomes}\n{two}"));
    let found = json(&folder, &["decisions.jsonl", "outcomes.jsonl", "two.jsonl"], &[]);
    assert_eq!(found["all"]["immature_labels"], 0, "{found}");
}
