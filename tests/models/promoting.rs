//! `aimpoint promote`: from events to rows, two versions, and the verdict on sealed rows and live labels.

use super::commands::{aimpoint, succeeds};
use serde_json::Value;
use std::{fmt::Write as _, fs, path::Path};
use tempfile::TempDir;

/// 2026-01-01 in microseconds.
const START: i64 = 1_767_225_600_000_000;
const SECOND: i64 = 1_000_000;
const USERS: i64 = 200;
const ROUNDS: i64 = 30;

const CONFIG: &str = r#"
[app]
name = "shop"

[model]
path = "models"

[promotion]
rows_min = 200
users_min = 50
rarer_min = 20

[label]
where = 'event_type == "purchase"'
within = "1h"

[[feature]]
name = "last_value"
aggregate = "last"
value = "value"
window = "forever"

[[feature]]
name = "n"
aggregate = "count"
window = "forever"

[[campaign]]
id = "spring"
action = "click"
value = 0.8
probability = "score"
currency = "EUR"

[[campaign]]
id = "summer"
action = "click"
value = 0.8
probability = 0.1
currency = "EUR"
"#;

/// Numbers from 0 to 1, the same each time.
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f64 / (1_u64 << 24) as f64
    }
}

/// Every user views something each 100 minutes, and buys the more often the higher its value is.
fn events() -> String {
    let mut draws = Draws(7);
    let mut events = Vec::new();
    for number in 0..USERS * ROUNDS {
        let (user, at) = (number % USERS, START + number * 30 * SECOND);
        let value = draws.next();
        events.push((at, format!(r#""event_id":"v{number}","event_type":"view","user_id":"u{user}","value":{value}"#)));
        if draws.next() < 0.05 + 0.8 * value {
            let at = at + 70 * SECOND;
            events
                .push((at, format!(r#""event_id":"p{number}","event_type":"purchase","user_id":"u{user}","value":0"#)));
        }
    }
    events.sort();
    events.into_iter().fold(String::new(), |mut text, (at, event)| {
        writeln!(text, "{{{event},\"occurred_at\":{}}}", at / 1_000).unwrap();
        text
    })
}

/// A folder with the version `weak`, which is active and does not know the value, and then `strong`, which does.
fn folder() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    fs::write(at.join("aimpoint.toml"), CONFIG).unwrap();
    fs::write(at.join("events.jsonl"), events()).unwrap();
    let export = ["export", "events.jsonl", "--partitions", "1", "--config", "aimpoint.toml"];
    // 25 of the 50 hours.
    succeeds(at, &[&export[..], &["--until", "2026-01-02T01:00:00Z", "--out", "train.parquet"]].concat());
    succeeds(at, &[&export[..], &["--until", "2026-01-03T02:00:00Z", "--out", "rows.parquet"]].concat());
    let train = ["train", "train.parquet", "--members", "1", "--epochs", "30", "--quiet", "--out"];
    succeeds(at, &[&train[..], &["weak.onnx", "--features", "n"]].concat());
    succeeds(at, &[&train[..], &["strong.onnx"]].concat());
    succeeds(at, &["models", "add", "weak.onnx", "--version", "weak"]);
    succeeds(at, &["models", "activate", "weak"]);
    succeeds(at, &["models", "add", "strong.onnx", "--version", "strong"]);
    dir
}

fn active(at: &Path) -> String {
    fs::read_to_string(at.join("models/active")).unwrap().trim().to_owned()
}

/// Promotes with these arguments: exit code, verdict and message.
fn promote(at: &Path, arguments: &[&str]) -> (i32, Value, String) {
    let (code, out, error) = aimpoint(at, &[&["promote", "--format", "json"][..], arguments].concat());
    (code, serde_json::from_str(&out).unwrap_or_default(), error)
}

/// Decisions of `weak` about 300 users with a campaign each, what followed, and what `strong` said, which is nearer to it by
/// `gain`.
fn live(at: &Path, gain: f64) {
    let (mut decisions, mut outcomes, mut scores) = (String::new(), String::new(), String::new());
    for number in 0..600_i64 {
        let at = START + number * 30 * SECOND;
        let (id, user) = (format!("shop:d-0-{number}"), number % 300);
        let campaign = if number % 3 == 0 { "summer" } else { "spring" };
        // Every tenth decision is of an older version.
        let version = if number % 10 == 9 { "older" } else { "weak" };
        let (is_clicked, champion) = (number % 4 == 1, 0.3);
        let label = if is_clicked { 1.0 } else { 0.0 };
        // The gain varies from row to row.
        let score = champion + (label - champion) * gain * (0.5 + (number % 7) as f64 / 7.0);
        writeln!(
            decisions,
            r#"{{"decision_id":"{id}","user_key":"u{user}","decided_at":"{at}","expires_at":"{}","model":{{"name":"m","version":"{version}"}},"score":{{"raw":{champion},"calibrated":{champion}}},"campaigns":[{{"id":"{campaign}","probability":{champion},"bid_micros":"4000000","currency":"EUR"}}]}}"#,
            at + 60 * SECOND
        )
        .unwrap();
        writeln!(
            scores,
            r#"{{"decision_id":"{id}","user_key":"u{user}","shadow":"next","version":"strong","score":{score},"champion":{champion}}}"#
        )
        .unwrap();
        for (kind, after) in [("impression", 2), ("click", 9)] {
            if kind != "click" || is_clicked {
                let at = at + after * SECOND;
                writeln!(
                    outcomes,
                    r#"{{"outcome_id":"{kind}{number}","type":"{kind}","occurred_at":{at},"decision_id":"{id}","campaign_id":"{campaign}"}}"#
                )
                .unwrap();
            }
        }
    }
    scores.push_str("{\"decision_id\":\"shop:d-0-0\",\"user_key\":\"u0\",\"shadow\":\"next\",\"version\":\"9\",\"score\":0.5,\"champion\":0.5}\n");
    // Another file of the same name.
    scores.push_str("{\"decision_id\":\"shop:d-0-1\",\"user_key\":\"u1\",\"shadow\":\"next\",\"version\":\"strong\",\"sha256\":\"00\",\"score\":0.5,\"champion\":0.5}\n");
    for (name, text) in [("decisions.jsonl", decisions), ("outcomes.jsonl", outcomes), ("scores.jsonl", scores)] {
        fs::write(at.join(name), text).unwrap();
    }
}

/// By default a label is known a day after the impression.
const LIVE: [&str; 6] =
    ["--complete-until", "2026-01-03T00:00:00Z", "--live", "decisions.jsonl", "outcomes.jsonl", "scores.jsonl"];

#[test]
fn a_version_is_promoted_only_if_it_is_better_on_sealed_rows_and_on_live_labels() {
    let dir = folder();
    let at = dir.path();
    // A dry run changes nothing.
    let (code, verdict, error) = promote(at, &["--rows", "rows.parquet", "--dry-run"]);
    assert_eq!((code, active(at).as_str()), (0, "weak"), "{error}");
    let sealed = &verdict["evidence"][0];
    assert_eq!((&verdict["challenger"], &verdict["is_better"]), (&"strong".into(), &true.into()), "{verdict}");
    let number = |value: &Value| value.as_f64().unwrap();
    let [weak, strong] = ["champion", "challenger"].map(|which| number(&sealed[which]["log_loss"]));
    assert!((weak - strong - number(&sealed["difference"])).abs() < 1e-9 && weak - strong > 0.05, "{verdict}");
    assert!(number(&sealed["interval"]["low"]) > 0.0 && number(&sealed["challenger"]["auc"]) > 0.7, "{verdict}");
    assert_eq!(sealed["users"], USERS, "{verdict}");
    // The rows that a version was trained on, and those with the same outcomes, are not used.
    let card: Value = serde_json::from_slice(&fs::read(at.join("strong.json")).unwrap()).unwrap();
    let until: jiff::Timestamp = card["times"]["trained_until"].as_str().unwrap().parse().unwrap();
    let rows = aimpoint::training::read(
        &at.join("rows.parquet"),
        &aimpoint::training::ReadSpec { label: "label".to_owned(), ..Default::default() },
    )
    .unwrap();
    let since = (until.as_microsecond() + 3_600 * SECOND) as f64;
    let owed = rows.times.unwrap().iter().filter(|time| **time > since).count();
    assert_eq!(sealed["rows"], owed, "{verdict}");
    let left_out = sealed["left_out"][0].as_str().unwrap();
    assert!(left_out.contains("up to when a version was trained, with label.within"), "{left_out}");
    assert!(
        card["times"]["tested_from"].as_str().unwrap() > card["times"]["trained_until"].as_str().unwrap(),
        "{card}"
    );

    // Live labels that say otherwise prevent it.
    live(at, -0.2);
    let (code, verdict, error) = promote(at, &[&["--rows", "rows.parquet"][..], &LIVE].concat());
    assert_eq!((code, active(at).as_str()), (81, "weak"), "{error}");
    assert!(error.contains("on the live labels it is worse") && error.contains("nothing was changed"), "{error}");
    let of = |verdict: &Value, name: &str| verdict["evidence"][1][name].clone();
    // Of 600 impressions, 400 are of `spring`, of which a tenth are of another version.
    assert_eq!((of(&verdict, "rows"), of(&verdict, "positives")), (360.into(), 80.into()), "{verdict}");
    let left_out = of(&verdict, "left_out").to_string();
    for part in ["60 decisions that weak did not make", "2 shadow scores of other versions"] {
        assert!(left_out.contains(part), "{part}: {left_out}");
    }

    // With both, it is promoted.
    live(at, 0.4);
    let all = [&["strong", "--rows", "rows.parquet", "--reason", "the May rows"][..], &LIVE].concat();
    let (code, verdict, error) = promote(at, &all);
    assert_eq!((code, active(at).as_str()), (0, "strong"), "{error}");
    let sentence = verdict["sentence"].as_str().unwrap();
    assert_eq!(sentence, "strong is better than weak on the sealed rows and the live labels, with 95 % confidence");
    let history = succeeds(at, &["models", "history"]);
    let last = history.lines().last().unwrap();
    assert!(last.contains("promote        weak -> strong") && last.ends_with("(the May rows)"), "{history}");
    let log = fs::read_to_string(at.join("models/audit.jsonl")).unwrap();
    let entry: Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    assert_eq!(entry["figures"], verdict["evidence"]);

    // Not back, and a copy is no better.
    let (code, _, error) = promote(at, &["weak", "--rows", "rows.parquet"]);
    assert!(code == 81 && error.contains("on the sealed rows it is worse"), "{code} {error}");
    succeeds(at, &["models", "add", "strong.onnx", "--version", "twin"]);
    let (code, verdict, error) = promote(at, &["--rows", "rows.parquet"]);
    assert_eq!((code, &verdict["evidence"][0]["difference"]), (81, &0.0.into()), "{error}");
    assert!(error.contains("twin is not shown to be better than strong"), "{error}");
    let (code, out, _) = aimpoint(at, &["promote", "--rows", "rows.parquet", "--dry-run"]);
    assert!(code == 81 && out.contains("pred/obs") && out.contains("sealed rows: "), "{out}");
    assert_eq!(active(at), "strong");
    succeeds(at, &["models", "rollback"]);
    assert_eq!(active(at), "weak");
}

#[test]
fn what_cannot_be_judged_changes_nothing_and_says_what_to_do() {
    let dir = folder();
    let at = dir.path();
    live(at, 0.4);
    let rows = ["--rows", "rows.parquet"];
    let csv = "user_key,event_id,partition,offset,occurred_at_us,key_type,last_value,n,label\n";
    fs::write(at.join("empty-user.csv"), format!("{csv},e1,0,1,{},person,0.5,1,1\n", START + 400_000 * SECOND))
        .unwrap();
    fs::write(at.join("no-label.csv"), csv.replace(",label", "")).unwrap();
    fs::write(at.join("no-user.csv"), csv.replace("user_key,", "")).unwrap();
    fs::write(at.join("no-feature.csv"), csv.replace("last_value,", "")).unwrap();
    fs::write(at.join("no-time.csv"), "user_key,last_value,n,label\nann,0.5,1,1\nbob,0.1,1,0\n").unwrap();
    let always = ["--set", "promotion.live=always"];
    let cases: [(&[&str], i32, &str); 13] = [
        (&["weak", "--rows", "rows.parquet"], 80, "it is the active version already"),
        (&["9", "--rows", "rows.parquet"], 80, "promote 9: expected a version of"),
        (&["--rows", "no-label.csv"], 65, "there is no column label; declare [label]"),
        (&["--rows", "no-user.csv"], 65, "there is no column user_key"),
        (&["--rows", "no-feature.csv"], 65, "no column last_value, a feature of version strong"),
        (&["--rows", "empty-user.csv"], 65, "1 rows have no user_key"),
        (&["--rows", "no-time.csv"], 65, "not known when the rows happened; if neither version"),
        (&["--rows", "no-time.csv", "--rows-are-sealed"], 65, "2 rows are fewer than promotion.rows_min = 200"),
        (&["--rows", "rows.parquet", "--set", "promotion.users_min=201"], 65, "200 users are fewer than"),
        (&["--rows", "rows.parquet", "--live", "decisions.jsonl", "outcomes.jsonl"], 65, "no shadow scores in them"),
        (&["--rows", "rows.parquet", "--live", "scores.jsonl"], 65, "neither decisions nor outcomes in them"),
        (&[rows[0], rows[1], always[0], always[1]], 2, "live labels are required (promotion.live), because it is set"),
        (&["--rows", "missing.parquet"], 66, "missing.parquet"),
    ];
    for (arguments, owed, part) in cases {
        let (code, _, error) = promote(at, arguments);
        assert!(code == owed && error.contains(part), "{arguments:?}: {code} {error}");
    }
    // A shadow that runs the version makes live labels necessary.
    let shadowed = format!("{CONFIG}[[shadow]]\nname = \"next\"\npath = \"strong.onnx\"\n");
    fs::write(at.join("aimpoint.toml"), shadowed).unwrap();
    let (code, _, error) = promote(at, &rows);
    assert!(code == 2 && error.contains("because a [[shadow]] runs this version"), "{code} {error}");
    let (code, _, error) = promote(at, &["--rows", "rows.parquet", "--set", "promotion.live=never", "--dry-run"]);
    assert_eq!(code, 0, "{error}");
    // The scores must be those of the version.
    let scores = fs::read_to_string(at.join("scores.jsonl")).unwrap().replace("\"strong\"", "\"8\"");
    fs::write(at.join("scores.jsonl"), scores).unwrap();
    let (code, _, error) = promote(at, &[&rows[..], &LIVE].concat());
    assert!(
        code == 65
            && error.contains("expected some of version strong, found scores of next 8, next 8 (another file), next 9"),
        "{error}"
    );
    // No campaign whose outcome the score predicts.
    fs::write(at.join("aimpoint.toml"), CONFIG.replace("\"score\"", "0.1")).unwrap();
    let (code, _, error) = promote(at, &[&rows[..], &LIVE].concat());
    assert!(code == 78 && error.contains("no campaign has probability = \"score\""), "{code} {error}");
    // A version whose card says nothing of times.
    fs::write(at.join("aimpoint.toml"), CONFIG).unwrap();
    fs::remove_file(at.join("strong.json")).unwrap();
    succeeds(at, &["models", "add", "strong.onnx", "--version", "foreign"]);
    let (code, _, error) = promote(at, &rows);
    assert!(code == 65 && error.contains("the card of version foreign does not say until when"), "{code} {error}");
    let (code, _, error) = promote(at, &["--rows", "rows.parquet", "--rows-are-sealed", "--dry-run"]);
    assert_eq!((code, active(at).as_str()), (0, "weak"), "{error}");
}
