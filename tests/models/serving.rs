//! The pipeline with a model that fails, times out or returns NaN, and with a model that is replaced while in use. Uses the test kit's
//! model, so no runtime is needed.

use super::worker_settings;
use aimpoint::{
    engine::{Partition, Partitions, Pipeline, PipelineSpec, Worker, run_batch},
    event::{EventTime, Record},
    inference::{Calibration, Model, ModelFeed, Shadow, ShadowCounts},
    sink::{Outbox, Target},
    status::{Counts, Progress},
    testkit::{FakeClock, FakeModel, Faults, InputRecord, MemoryBroker, Mood, Place},
};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

pub(super) const SPEC: &str = r#"
[time]
future_tolerance = "1000d"

[[feature]]
name = "spent"
aggregate = "sum"
value = "value"
window = "forever"

[[feature]]
name = "count"
aggregate = "count"
window = "forever"

[[segment]]
id = "likely"
where = "score >= 0.5"

[[segment]]
id = "raw-likely"
where = "score.raw >= 0.5"
"#;

pub(super) fn event(number: usize, user: usize, value: f64) -> Vec<u8> {
    let at = 1_700_000_000_000_i64 + number as i64 * 1_000;
    format!(r#"{{"event_id":"e{number}","event_type":"view","user_id":"u{user}","occurred_at":{at},"value":{value}}}"#)
        .into_bytes()
}

/// A pipeline with one partition, and its outputs.
pub(super) struct Rig {
    pub(super) pipeline: Pipeline,
    partitions: Partitions,
    pub(super) counts: Counts,
    number: usize,
}

impl Rig {
    pub(super) fn new(more: &str, model: FakeModel) -> Self {
        let spec: PipelineSpec = toml::from_str(&format!("{more}\n{SPEC}")).unwrap();
        let pipeline = Pipeline::compile(&spec, "clicks").unwrap();
        let mut partitions = Partitions::default();
        partitions.insert(0, Partition::new(0, 0, None));
        let pipeline = pipeline.with_model(Box::new(model)).unwrap();
        Self { pipeline, partitions, counts: Counts::default(), number: 0 }
    }

    /// Runs a batch with an event for each user and value.
    pub(super) fn run(&mut self, events: &[(usize, f64)]) -> Vec<Value> {
        let mut outbox = Outbox::default();
        for (user, value) in events {
            let payload = event(self.number, *user, *value);
            let offset = self.number as i64;
            self.number += 1;
            let record = Record { offset, payload: Some(&payload), ..Record::default() };
            self.pipeline.take(&record, &mut self.partitions, &mut outbox, &mut self.counts);
        }
        run_batch(&mut self.pipeline, &mut self.partitions, EventTime(0), &mut outbox, &mut self.counts);
        let decisions: Vec<Value> = (0..outbox.len())
            .map(|index| outbox.get(index))
            .filter(|output| output.target == Target::Decisions)
            .map(|output| serde_json::from_slice(output.payload.unwrap()).unwrap())
            .collect();
        let offsets: Vec<String> =
            decisions.iter().map(|it| it["input"]["offset"].as_str().unwrap().to_owned()).collect();
        let first = self.number - events.len();
        let owed: Vec<String> = (first..self.number).map(|offset| offset.to_string()).collect();
        assert_eq!(offsets, owed, "every event has its decision, in order");
        decisions
    }
}

fn segments(decision: &Value) -> Vec<&str> {
    decision["segments"].as_array().unwrap().iter().map(|segment| segment["id"].as_str().unwrap()).collect()
}

#[test]
fn without_a_score_decisions_fall_back_as_configured_with_the_reason() {
    let declared = [
        ("", [Value::Null, Value::Null]),
        ("scoring = { fallback = \"prior\", prior = 0.125 }", [0.125.into(), 0.125.into()]),
        ("scoring = { fallback = \"last_score\" }", [0.75.into(), Value::Null]),
        ("scoring = { fallback = \"last_score\", prior = 0.125 }", [0.75.into(), 0.125.into()]),
    ];
    for (more, [known, unknown]) in declared {
        let model = FakeModel::new(&["spent", "count"], |row| row[0]);
        let control = model.control();
        let mut rig = Rig::new(more, model);
        let before = rig.run(&[(1, 0.75), (2, 0.25)]);
        assert_eq!((&before[0]["score"]["raw"], &before[0]["status"]), (&0.75.into(), &"STATUS_TARGETED".into()));
        assert_eq!(before[1]["status"], "STATUS_NO_TARGET");
        let moods = [(Mood::Fail, "model_failed"), (Mood::Late, "model_late"), (Mood::Nan, "score_not_a_number")];
        for (mood, reason) in moods {
            control.set(mood);
            // User 1 has a last score, user 9 has none.
            let decisions = rig.run(&[(1, 0.0), (9, 0.0)]);
            for (decision, stands_in) in decisions.iter().zip([&known, &unknown]) {
                assert_eq!(decision["status"], "STATUS_FALLBACK", "{more} {mood:?}");
                assert_eq!(decision["status_reason"], reason, "{more}");
                assert_eq!(decision["score"]["raw"], Value::Null, "{more}: there is no raw score");
                assert_eq!(&decision["score"]["calibrated"], stands_in, "{more}");
                let owed: &[&str] = if *stands_in == 0.75 { &["likely"] } else { &[] };
                assert_eq!(segments(decision), owed, "{more}: rules use the replacement");
                assert_eq!(decision["model"]["name"], "fake", "the decision names the failed model");
            }
        }
        control.set(Mood::Score);
        let after = rig.run(&[(1, 0.0)]);
        assert_eq!((&after[0]["status"], &after[0]["status_reason"]), (&"STATUS_TARGETED".into(), &Value::Null));
        assert_eq!((rig.counts.decisions, rig.counts.fallbacks, rig.counts.fallback_reasons), (9, 6, [2, 2, 2, 0]));
    }
}

#[test]
fn one_row_without_a_number_falls_back_alone() {
    let model = FakeModel::new(&["spent"], |row| if row[0] > 1.0 { f32::INFINITY } else { row[0] });
    let mut rig = Rig::new("", model);
    let decisions = rig.run(&[(1, 0.5), (2, 2.0), (3, 0.25)]);
    let statuses: Vec<_> = decisions.iter().map(|it| it["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["STATUS_TARGETED", "STATUS_FALLBACK", "STATUS_NO_TARGET"]);
    assert_eq!(rig.counts.fallback_reasons, [0, 0, 1, 0]);
}

/// Once a score of 12345 put every user into every segment.
#[test]
fn a_score_out_of_range_falls_back_and_targets_nobody() {
    let model = FakeModel::new(&["spent"], |row| row[0]).range(0.0, 1.0);
    let mut rig = Rig::new("", model);
    let decisions = rig.run(&[(1, 0.75), (2, 12_345.0), (3, -3.0), (4, 0.25), (5, f64::from(f32::MAX))]);
    for (decision, (status, reason)) in decisions.iter().zip([
        ("STATUS_TARGETED", Value::Null),
        ("STATUS_FALLBACK", "score_out_of_range".into()),
        ("STATUS_FALLBACK", "score_out_of_range".into()),
        ("STATUS_NO_TARGET", Value::Null),
        ("STATUS_FALLBACK", "score_out_of_range".into()),
    ]) {
        assert_eq!((&decision["status"], &decision["status_reason"]), (&status.into(), &reason));
        assert_eq!(decision["score"]["raw"].is_number(), reason == Value::Null);
        assert_eq!(segments(decision).is_empty(), status != "STATUS_TARGETED");
    }
    assert_eq!(rig.counts.fallback_reasons, [0, 0, 0, 3]);
}

#[test]
fn rules_and_decisions_have_the_raw_and_the_calibrated_score() {
    let halves = Calibration::Isotonic { points: vec![(0.0, 0.0), (1.0, 0.5)] };
    let model = FakeModel::new(&["spent"], |row| row[0]).calibration(halves);
    let decisions = Rig::new("", model).run(&[(1, 0.75), (2, 1.0)]);
    let scores = |it: &Value| [it["score"]["raw"].as_f64().unwrap(), it["score"]["calibrated"].as_f64().unwrap()];
    assert_eq!([scores(&decisions[0]), scores(&decisions[1])], [[0.75, 0.375], [1.0, 0.5]]);
    assert_eq!([segments(&decisions[0]), segments(&decisions[1])], [vec!["raw-likely"], vec!["likely", "raw-likely"]]);
}

#[test]
fn a_share_of_the_decisions_and_all_of_named_users_are_explained() {
    let model = || FakeModel::new(&["spent", "count"], |row| row[0] * 0.5 + row[1] * 0.125).baseline(&[0.25, 1.0]);
    let sums = |decision: &Value| {
        let explanation = &decision["explanation"];
        let parts = explanation["contributions"].as_array()?;
        assert_eq!(explanation["method"], "exact");
        let names: Vec<_> = parts.iter().map(|part| part["feature"].as_str().unwrap()).collect();
        assert_eq!(names, ["spent", "count"]);
        let sum: f64 = parts.iter().map(|part| part["contribution"].as_f64().unwrap()).sum();
        let raw = decision["score"]["raw"].as_f64().unwrap();
        assert!((explanation["base"].as_f64().unwrap() + sum - raw).abs() < 1e-5, "{decision}");
        Some(())
    };
    let events: Vec<(usize, f64)> = (0..2_000).map(|number| (number, 0.001)).collect();
    let mut rig = Rig::new("explain = { share = 0.1, users = [\"u7\"] }", model());
    let explained: Vec<bool> = rig.run(&events).iter().map(|decision| sums(decision).is_some()).collect();
    let count = explained.iter().filter(|it| **it).count();
    assert!((140..=260).contains(&count), "{count} of 2000 at a share of 0.1");
    // The choice depends on the event, not on the batch.
    let mut again = Rig::new("explain = { share = 0.1, users = [\"u7\"] }", model());
    let one_by_one: Vec<bool> = events.iter().map(|event| sums(&again.run(&[*event])[0]).is_some()).collect();
    assert_eq!(explained, one_by_one);
    let mut named = Rig::new("explain = { users = [\"u7\"] }", model());
    let decisions = named.run(&[(6, 0.5), (7, 0.5), (7, 0.5)]);
    assert_eq!(decisions.iter().map(|it| sums(it).is_some()).collect::<Vec<_>>(), [false, true, true]);
}

/// A feed of models controlled by a test.
#[derive(Clone, Default)]
pub(super) struct Feed(pub(super) Arc<Mutex<Option<FakeModel>>>);

impl ModelFeed for Feed {
    fn take(&mut self) -> Option<Box<dyn Model>> {
        self.0.lock().unwrap().take().map(|model| Box::new(model) as Box<dyn Model>)
    }
}

#[test]
fn each_decision_names_the_one_version_that_scored_it_while_versions_change_under_load() {
    const EVENTS: usize = 3_000;
    for seed in 0..5 {
        let input: Vec<InputRecord> = (0..EVENTS)
            .map(|number| InputRecord {
                key: None,
                erase: None,
                payload: Some(event(number, number % 7, 1.0)),
                timestamp_ms: 1_700_000_000_000,
                ..InputRecord::default()
            })
            .collect();
        let errors = Faults { abortable: 50, unknown: 50, ..Faults::default() };
        let broker = MemoryBroker::new(vec![input], true, errors, seed);
        broker.produce(0, EVENTS);
        let (source, sink) = broker.join(0);
        let spec: PipelineSpec = toml::from_str(SPEC).unwrap();
        // Version n scores 1/n, so the score identifies the version.
        let version = |n: u32| FakeModel::constant(&["spent", "count"], 1.0 / n as f32).version(&n.to_string());
        let feed = Feed::default();
        let pipeline = Pipeline::compile(&spec, "clicks").unwrap();
        let pipeline = pipeline.with_model(Box::new(version(1))).unwrap().with_feed(0, Box::new(feed.clone()));
        let mut worker =
            Worker::new(worker_settings(), source, sink, FakeClock::default(), pipeline, Progress::default());
        let mut newest = 1;
        for turn in 0.. {
            if broker.is_done() {
                break;
            }
            assert!(turn < 100_000, "the worker makes no progress");
            if turn % 10 == 9 {
                newest += 1;
                *feed.0.lock().unwrap() = Some(version(newest));
            }
            broker.tick(1_000_000, 1_000_000);
            worker.turn().unwrap();
        }
        let mut seen = BTreeSet::new();
        let mut last = 0;
        let mut decisions = 0;
        for output in broker.all_committed(Place::Decisions(0)) {
            let decision: Value = serde_json::from_slice(output.payload.as_deref().unwrap()).unwrap();
            let named: u32 = decision["model"]["version"].as_str().unwrap().parse().unwrap();
            assert_eq!(decision["score"]["raw"].as_f64().unwrap() as f32, 1.0 / named as f32, "seed {seed}");
            assert!(named >= last, "seed {seed}: version {named} after {last}");
            last = named;
            decisions += 1;
            seen.insert(named);
        }
        assert_eq!(decisions, EVENTS, "seed {seed}: no event is lost in a swap");
        assert!(seen.len() > 5, "seed {seed}: versions {seen:?} of {newest}");
    }
}

#[test]
fn a_new_version_that_does_not_match_leaves_the_old_one_active() {
    let feed = Feed::default();
    let mut rig = Rig::new("", FakeModel::constant(&["spent"], 0.25));
    rig.pipeline = rig.pipeline.with_feed(0, Box::new(feed.clone()));
    *feed.0.lock().unwrap() = Some(FakeModel::constant(&["unheard_of"], 0.75).version("2"));
    rig.pipeline.renew();
    assert_eq!(rig.run(&[(1, 0.5)])[0]["model"]["version"], "1");
    *feed.0.lock().unwrap() = Some(FakeModel::constant(&["count", "spent"], 0.75).version("3"));
    rig.pipeline.renew();
    let decision = &rig.run(&[(1, 0.5)])[0];
    assert_eq!((&decision["model"]["version"], &decision["score"]["raw"]), (&"3".into(), &0.75.into()));
}

#[test]
fn inconsistent_sections_are_faults() {
    for (more, key, part) in [
        ("scoring = { fallback = \"prior\" }", "scoring.prior", "needs the prior"),
        ("scoring = { prior = 1.5 }", "scoring.prior", "between 0 and 1"),
        ("explain = { share = 2.0 }", "explain.share", "between 0 and 1"),
        ("explain = { samples = 0 }", "explain.samples", "between 1 and"),
    ] {
        let spec: PipelineSpec = toml::from_str(&format!("{more}\n{SPEC}")).unwrap();
        let errors = Pipeline::compile(&spec, "clicks").err().unwrap();
        assert!(errors[0].key == key && errors[0].message.contains(part), "{errors:?}");
    }
    let spec: PipelineSpec = toml::from_str(&format!("explain = {{ share = 0.1 }}\n{SPEC}")).unwrap();
    let model = Box::new(FakeModel::constant(&["spent"], 0.5));
    let errors = Pipeline::compile(&spec, "clicks").unwrap().with_model(model).err().unwrap();
    assert!(errors[0].key == "explain" && errors[0].message.contains("no baseline"), "{errors:?}");
}

#[test]
fn a_shadow_sees_the_rows_that_are_scored_and_changes_no_decision() {
    let champion = || FakeModel::new(&["spent", "count"], |row| row[0]);
    let batches: Vec<Vec<(usize, f64)>> = (0..40)
        .map(|batch| (0..25).map(|at| ((batch * 25 + at) % 400, 0.002 * f64::from(at as u32))).collect())
        .collect();
    let mut alone = Rig::new("", champion());
    let owed: Vec<Vec<Value>> = batches.iter().map(|batch| alone.run(batch)).collect();

    // A shadow that keeps up, with features in another order than the champion's, and one that never runs.
    let mut shadow = Shadow::new(Box::new(FakeModel::new(&["count", "spent"], |row| row[1] / 2.0)));
    let broken = FakeModel::constant(&["spent"], 0.5);
    broken.control().set(Mood::Fail);
    let (mut failing, stuck) =
        (Shadow::new(Box::new(broken)), Shadow::new(Box::new(FakeModel::constant(&["count"], 0.5))));
    let mut rig = Rig::new("", champion());
    for shadow in [&shadow, &failing, &stuck] {
        rig.pipeline = rig.pipeline.with_shadow(shadow.tap()).unwrap();
    }
    for (batch, owed) in batches.iter().zip(&owed) {
        assert_eq!(&rig.run(batch), owed);
        shadow.score_waiting();
        failing.score_waiting();
    }
    let none = ShadowCounts::default();
    assert_eq!(shadow.counts(), ShadowCounts { scored: 1_000, ..none });
    assert_eq!(failing.counts(), ShadowCounts { failed: 1_000, ..none });
    assert_eq!(stuck.counts(), ShadowCounts { skipped: 900, ..none }, "four batches wait, and the others are skipped");
    let (of_champion, of_shadow) = shadow.drift().means().unwrap();
    assert!((of_champion - 2.0 * of_shadow).abs() < 1e-6 && of_shadow > 0.0, "{of_champion} {of_shadow}");
    assert!(shadow.drift().correlation().unwrap() > 0.999_999, "{:?}", shadow.drift());
    assert!(shadow.drift().psi().unwrap() > 0.1, "{:?}", shadow.drift());
}

#[test]
fn a_replaced_score_is_not_compared_with_a_shadow_s() {
    let model = FakeModel::constant(&["spent"], 0.5);
    let control = model.control();
    let mut shadow = Shadow::new(Box::new(FakeModel::constant(&["spent"], 0.5)));
    let mut rig = Rig::new("scoring = { fallback = \"prior\", prior = 0.125 }", model);
    rig.pipeline = rig.pipeline.with_shadow(shadow.tap()).unwrap();
    control.set(Mood::Fail);
    rig.run(&[(1, 0.5), (2, 0.5)]);
    shadow.score_waiting();
    assert_eq!(shadow.counts(), ShadowCounts { unscored: 2, ..ShadowCounts::default() });
}

#[test]
fn a_shadow_with_an_undeclared_feature_is_a_fault() {
    let rig = Rig::new("", FakeModel::constant(&["spent"], 0.5));
    let shadow = Shadow::new(Box::new(FakeModel::constant(&["unheard_of"], 0.5)));
    let errors = rig.pipeline.with_shadow(shadow.tap()).err().unwrap();
    assert!(errors[0].key == "shadow[0].features" && errors[0].message.contains("unheard_of"), "{errors:?}");
}
