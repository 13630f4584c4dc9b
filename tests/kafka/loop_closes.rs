//! The loop of `deploy/examples/loop` on a real Kafka: train, decide, see what follows, train on that, try the version as a shadow,
//! promote it, serve it, and go back. The visitors' true chances are known, so what is learned and estimated can be compared with
//! them.

use crate::program::{Program, Running, now_ms, terminate, wait_for};
use aimpoint::{sink::Publisher, source::Reader};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

/// As in the example, but a decision is used, and its outcome known, within seconds.
const CONFIG: &str = include_str!("../../deploy/examples/loop/aimpoint.toml");
const FAST: &str = r#"
[kafka.consumer]
"session.timeout.ms" = 6000
"heartbeat.interval.ms" = 1000

[control.attribution]
offer = "30s"
engagement = "2s"
view = "2s"
click = "2s"

[control.learning]
click_after = "1s"
conversion_after = "1s"
"#;
const PATIENCE: Duration = Duration::from_mins(1);
const USERS: u64 = 200;
const HOUR_MS: i64 = 3_600_000;

/// Numbers that depend on what they are for, and on nothing else.
fn draw(what: u64, number: u64) -> f64 {
    let mut z = (number ^ what << 48).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ z >> 31) >> 11) as f64 / (1_u64 << 53) as f64
}

/// What the visitor of an event is ready to spend. Whether an ad is clicked depends on it.
fn value(number: u64) -> f64 {
    draw(1, number)
}

/// The chance of a click on the better creative.
fn chance(number: u64) -> f64 {
    0.05 + 0.6 * value(number)
}

/// What creatives make of it.
const RED: f64 = 1.0;
const BLUE: f64 = 0.5;
/// How often the campaign draws the better creative.
const RED_SHARE: f64 = 0.8;

/// Visitors and a bidder who wins each auction.
struct World<'a> {
    program: &'a Program,
    events: Publisher,
    outcomes: Publisher,
    decisions: Reader,
    number: u64,
    /// When the last event happened.
    at_ms: i64,
    /// Events that were shown an ad, and whether it was clicked.
    shown: Vec<(u64, bool)>,
    /// By event, the version that decided and its score.
    scores: BTreeMap<u64, (String, f64)>,
}

impl<'a> World<'a> {
    fn new(program: &'a Program) -> Self {
        let brokers = &program.kafka.brokers;
        Self {
            program,
            events: program.publisher(PATIENCE),
            outcomes: Publisher::new(brokers, &[], "outcomes", PATIENCE).unwrap(),
            decisions: Reader::open(brokers, &[], &["decisions"]).unwrap(),
            number: 0,
            at_ms: now_ms() - 24 * HOUR_MS,
            shown: Vec::new(),
            scores: BTreeMap::new(),
        }
    }

    /// Events of visitors, one each two seconds of a day in the past, their decisions and outcomes, until all are decided.
    fn visit(&mut self, count: u64) {
        let end = self.number + count;
        for number in self.number..end {
            self.at_ms += 2_000;
            let user = format!("u{}", number % USERS);
            let event =
                json!({"event_id": format!("e{number}"), "event_type": "view", "user_id": user, "value": value(number),
                "occurred_at": self.at_ms})
                .to_string();
            self.events.publish(Some(user.as_bytes()), Some(event.as_bytes())).unwrap();
        }
        self.number = end;
        let start = Instant::now();
        while (self.scores.len() as u64) < end {
            self.show();
            assert!(start.elapsed() < PATIENCE, "{} of {end} decided\n{}", self.scores.len(), self.program.logs());
        }
    }

    /// Shows what is offered, and reports what follows.
    fn show(&mut self) {
        let mut decisions = Vec::new();
        let take = |_: &str, record: &aimpoint::event::Record<'_>, _: &[(&str, &[u8])]| {
            decisions.push(serde_json::from_slice::<Value>(record.payload.unwrap()).unwrap());
        };
        self.events.serve();
        // A broker under load drops connections; the client reconnects.
        self.decisions.poll(Duration::from_millis(40), take).unwrap_or_default();
        for decision in decisions {
            let Some(event) = decision["trigger_event_id"].as_str() else { continue };
            let number: u64 = event.strip_prefix('e').unwrap().parse().unwrap();
            let version = decision["model"]["version"].as_str().unwrap().to_owned();
            self.scores.insert(number, (version, decision["score"]["calibrated"].as_f64().unwrap()));
            let offer = &decision["campaigns"][0];
            if !offer.is_object() {
                continue;
            }
            let creative = offer["creative"]["id"].as_str().unwrap();
            let is_clicked = draw(2, number) < chance(number) * if creative == "red" { RED } else { BLUE };
            self.shown.push((number, is_clicked));
            self.report("impression", number, &decision);
            if is_clicked {
                self.report("click", number, &decision);
            }
        }
    }

    fn report(&self, kind: &str, number: u64, decision: &Value) {
        let creative = &decision["campaigns"][0]["creative"]["id"];
        let at = now_ms() * 1_000 + i64::from(kind == "click");
        let outcome = json!({"outcome_id": format!("{kind}-{number}"), "type": kind, "occurred_at": at.to_string(),
            "decision_id": decision["decision_id"], "campaign_id": "spring", "creative_id": creative});
        self.outcomes.publish(Some(number.to_string().as_bytes()), Some(outcome.to_string().as_bytes())).unwrap();
    }

    /// Waits until the labels so far are known, and lets a few more visitors come, which is how the log tells.
    fn ripen(&mut self) {
        self.outcomes.finish().unwrap();
        std::thread::sleep(Duration::from_millis(2_500));
        self.visit(USERS);
        self.outcomes.finish().unwrap();
    }

    /// How far the scores of the last events are from the true chances, on average.
    fn error(&self, last: u64) -> f64 {
        let errors = (self.number - last..self.number).map(|number| {
            (self.scores[&number].1 - chance(number) * (RED_SHARE * RED + (1.0 - RED_SHARE) * BLUE)).abs()
        });
        errors.sum::<f64>() / last as f64
    }

    /// The versions that decided about the last events.
    fn versions(&self, last: u64) -> Vec<&str> {
        let mut all: Vec<&str> =
            (self.number - last..self.number).map(|number| self.scores[&number].0.as_str()).collect();
        all.dedup();
        all
    }
}

/// Runs a step of the script: exit code, standard output, standard error.
fn step(program: &Program, arguments: &[&str], version: &str, training: &str) -> (i32, String, String) {
    let output = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/examples/loop/loop"))
        .args(arguments)
        .current_dir(program.folder.path())
        .env("AIMPOINT", env!("CARGO_BIN_EXE_aimpoint"))
        .env("AIMPOINT__KAFKA__BROKERS", &program.kafka.brokers)
        .env("VERSION", version)
        .env("TRAIN", format!("--members 1 --epochs 30 {training}"))
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

fn succeeds(program: &Program, arguments: &[&str], version: &str, training: &str) -> String {
    let (code, out, error) = step(program, arguments, version, training);
    assert_eq!(code, 0, "{arguments:?}: {out}{error}");
    out
}

/// Visits before there was a campaign: every user views something each 20 minutes, and buys something now and then.
fn history(program: &Program, from_ms: i64) -> PathBuf {
    let mut text = String::new();
    for number in 0..USERS * 12 {
        let (user, at) = (number % USERS, from_ms + number as i64 * 6_000);
        let mut event = |kind: &str, at: i64| {
            writeln!(
                text,
                r#"{{"event_id":"{kind}{number}","event_type":"{kind}","user_id":"u{user}","value":{},"occurred_at":{at}}}"#,
                value(number)
            )
            .unwrap();
        };
        event("view", at);
        if draw(3, number) < 0.3 {
            event("purchase", at + 1);
        }
    }
    let path = program.folder.path().join("events.jsonl");
    std::fs::write(&path, text).unwrap();
    path
}

/// Runs a command in the program's folder: standard output.
fn aimpoint(program: &Program, arguments: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_aimpoint"))
        .args(arguments.split(' '))
        .current_dir(program.folder.path())
        .env("AIMPOINT__KAFKA__BROKERS", &program.kafka.brokers)
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn active(program: &Program) -> String {
    std::fs::read_to_string(program.folder.path().join("models/active")).unwrap().trim().to_owned()
}

fn restart(worker: &mut Running, program: &Program) {
    assert_eq!(terminate(worker, PATIENCE), 0, "{}", program.logs());
    *worker = program.spawn("worker");
}

#[test]
fn a_version_that_learned_from_its_own_decisions_is_tried_promoted_served_and_taken_back() {
    let fast = CONFIG.replace("[decision]\n", "[decision]\nexpires_after = \"1m\"\n");
    let program = Program::start(1, &format!("{fast}{FAST}"));
    program.create("clickstream", 2, &[]);
    let (code, out, error) = program.run(&["topics", "--create"]);
    assert_eq!(code, 0, "{out}{error}");
    let now = now_ms();
    let events = history(&program, now - 240 * HOUR_MS);
    // The first version knows nothing of what visitors are ready to spend.
    let until = jiff::Timestamp::from_millisecond(now - 235 * HOUR_MS).unwrap().to_string();
    succeeds(&program, &["first", events.to_str().unwrap(), "--until", &until], "first", "--features n");
    assert_eq!(active(&program), "first");
    let (code, _, error) = step(&program, &["promote"], "", "");
    assert!(code != 0 && error.contains("0 rows"), "there is nothing to judge by: {code} {error}");

    let mut worker = program.spawn("worker");
    let mut world = World::new(&program);
    world.visit(2_400);
    world.ripen();
    let first_error = world.error(2_600);
    let of_first = world.shown.len();
    let trained = succeeds(&program, &["candidate"], "second", "");
    assert!(trained.contains("rows of the decision log"), "{trained}");
    assert_eq!(active(&program), "first", "a new version does not serve by itself");

    // Without the shadow's scores, it is not promoted.
    let (code, out, error) = step(&program, &["promote"], "", "");
    assert_ne!(code, 0, "{out}{error}");
    assert_eq!(active(&program), "first");
    restart(&mut worker, &program);
    // Labels look ahead by a little more than a minute, so that rows are sealed only after that.
    world.at_ms += HOUR_MS;
    world.visit(2_400);
    world.ripen();
    assert_eq!(world.versions(2_600), ["first"], "the shadow decides nothing");

    // What other creatives would have earned is estimated right, although the log showed the better one more often.
    let out = succeeds(&program, &["look", "--format", "json"], "", "");
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["totals"]["orphan"], 0, "{report}");
    let policy = &report["policies"][0];
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("no number in {policy}"));
    let known = number(&policy["logged"]["of"]);
    let truth = world.shown.iter().map(|(number, _)| chance(*number) * (RED + BLUE) / 2.0).sum::<f64>()
        / world.shown.len() as f64;
    let logged = number(&policy["logged"]["value"]);
    let estimate = &policy["estimate"]["snips"];
    let (mean, low, high) =
        (number(&estimate["value"]), number(&estimate["bootstrap"]["low"]), number(&estimate["bootstrap"]["high"]));
    assert!(known > 4_500.0 && known <= world.shown.len() as f64, "{policy}");
    assert!(low < truth && truth < high && high - low < 0.08, "{truth}: {policy}");
    assert!((logged - truth).abs() > 3.0 * (mean - truth).abs() && logged > high, "{truth}: {policy}");
    assert!(program.folder.path().join("report.html").exists());

    let out = succeeds(&program, &["promote"], "", "");
    assert!(out.contains("second is better than first on the sealed rows and the live labels"), "{out}");
    assert_eq!(active(&program), "second");
    wait_for("the new version to serve", PATIENCE, || {
        world.visit(USERS);
        world.versions(1) == ["second"]
    });
    world.visit(1_000);
    assert_eq!(world.versions(1_000), ["second"]);
    let second_error = world.error(1_000);
    assert!(second_error < 0.08 && first_error > 3.0 * second_error, "{first_error} {second_error}");
    // It no longer pays for those who hardly ever click.
    let spared = (world.number - 1_000..world.number).filter(|number| world.scores[number].1 < 0.15).count();
    assert!(spared > 20 && world.shown.len() > of_first, "{spared}");

    let out = succeeds(&program, &["rollback", "a drill"], "", "");
    assert!(out.contains("first"), "{out}");
    assert_eq!(active(&program), "first");
    wait_for("the version before to serve", PATIENCE, || {
        world.visit(USERS);
        world.versions(1) == ["first"]
    });
    let follow = "train --follow 1s --rounds 2 --window 2d --members 1 --epochs 30 --quiet";
    let added = aimpoint(&program, follow);
    assert_eq!(added.matches("added ").count(), 2, "{added}");
    assert_eq!(active(&program), "first", "what is learned continuously does not serve");
    let history = aimpoint(&program, "models history");
    assert_eq!(history.matches("train --follow on the decisions since").count(), 2, "{history}");
    for part in ["first version", "promote", "first -> second", "rollback", "second -> first", "(a drill)"] {
        assert!(history.contains(part), "{part}: {history}");
    }
    assert_eq!(terminate(&mut worker, PATIENCE), 0, "{}", program.logs());
}
