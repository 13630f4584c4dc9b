//! Experiments: users are split between several models, and decisions name the variant.

use super::serving::{Feed, Rig};
use aimpoint::{
    inference::{Experiment, ExperimentSpec, Model, Shadow, ShadowCounts},
    testkit::{FakeControl, FakeModel, Mood},
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const EXPERIMENT: &str = "experiment = { name = \"spring\", shares = { half = 0.25, tenth = 0.25 } }";

/// A model that adds a constant to the value, so the score identifies the model.
fn adding(name: &str, more: f32) -> FakeModel {
    FakeModel::new(&["spent", "count"], move |row| row[0] + more).version(name).baseline(&[0.25, 1.0])
}

fn with_variants(rig: &mut Rig, models: Vec<(&str, FakeModel)>) -> Result<(), String> {
    let boxed = |(name, model): (&str, FakeModel)| (name.to_owned(), Box::new(model) as Box<dyn Model>);
    let pipeline = std::mem::replace(&mut rig.pipeline, Rig::new("", adding("spare", 0.0)).pipeline);
    let variants = models.into_iter().map(boxed).collect();
    rig.pipeline = pipeline.with_variants(variants).map_err(|errors| format!("{errors:?}"))?;
    Ok(())
}

/// Control adds 0, `half` adds 10 and `tenth` adds 20.
fn rig(more: &str) -> (Rig, [FakeControl; 3]) {
    let models = [adding("c", 0.0), adding("h", 10.0), adding("t", 20.0)];
    let controls = [0, 1, 2].map(|at: usize| models[at].control());
    let [control, half, tenth] = models;
    let mut rig = Rig::new(&format!("{EXPERIMENT}\n{more}"), control);
    with_variants(&mut rig, vec![("half", half), ("tenth", tenth)]).unwrap();
    (rig, controls)
}

/// The arm of a user, computed independently of the pipeline.
fn arm(user: usize) -> usize {
    let shares = BTreeMap::from([("half".to_owned(), 0.25), ("tenth".to_owned(), 0.25)]);
    let spec = ExperimentSpec { name: Some("spring".to_owned()), shares };
    Experiment::new(&spec, &[Some("half"), Some("tenth")]).unwrap().unwrap().arm_of(format!("u{user}").as_bytes())
}

const ARMS: [(&str, &str, f64); 3] = [("control", "c", 0.0), ("half", "h", 10.0), ("tenth", "t", 20.0)];

/// Several events for each of many users, with variants mixed.
fn events() -> Vec<(usize, f64)> {
    (0..600).map(|number| (number * 7 % 200, 0.5)).collect()
}

#[test]
fn each_user_is_scored_by_the_model_of_the_variant_named_in_the_decision() {
    let (mut whole, controls) = rig("");
    // The rig asserts that decisions come in the order of the events.
    let decisions = whole.run(&events());
    let mut spent = BTreeMap::new();
    for ((user, value), decision) in events().iter().zip(&decisions) {
        let (variant, version, more) = ARMS[arm(*user)];
        let spent: &mut f64 = spent.entry(*user).or_default();
        *spent += value;
        assert_eq!(decision["experiment"], json!({"name": "spring", "variant": variant}), "u{user}");
        assert_eq!(decision["model"]["version"], version, "u{user}");
        assert_eq!(decision["score"]["raw"], *spent + more, "u{user}");
    }
    assert_eq!(controls.each_ref().map(FakeControl::runs), [1, 1, 1], "one run of each model per batch");
    assert_eq!(controls.iter().map(FakeControl::rows).sum::<u64>(), 600);
    let rows = controls.each_ref().map(FakeControl::rows);
    assert!(rows.iter().all(|rows| *rows > 90), "{rows:?}");

    // The batch size does not matter.
    for size in [1, 7, 250] {
        let (mut parts, _) = rig("");
        let again: Vec<Value> = events().chunks(size).flat_map(|part| parts.run(part)).collect();
        assert_eq!(again, decisions, "batches of {size}");
    }
}

#[test]
fn without_variants_decisions_name_no_experiment_and_one_run_scores_all() {
    let model = adding("c", 0.0);
    let control = model.control();
    let mut rig = Rig::new("", model);
    with_variants(&mut rig, Vec::new()).unwrap();
    let decisions = rig.run(&events());
    assert!(decisions.iter().all(|it| it.get("experiment").is_none() && it["model"]["version"] == "c"));
    assert_eq!((control.runs(), control.rows()), (1, 600));
}

#[test]
fn a_variant_that_fails_falls_back_alone() {
    let (mut rig, controls) = rig("scoring = { fallback = \"last_score\", prior = 0.125 }");
    rig.run(&events());
    controls[1].set(Mood::Fail);
    controls[2].set(Mood::Nan);
    for ((user, _), decision) in events().iter().zip(rig.run(&events())) {
        let (status, reason, last) = match arm(*user) {
            0 => ("STATUS_TARGETED", Value::Null, None),
            1 => ("STATUS_FALLBACK", "model_failed".into(), Some(11.5)),
            _ => ("STATUS_FALLBACK", "score_not_a_number".into(), Some(21.5)),
        };
        assert_eq!((&decision["status"], &decision["status_reason"]), (&status.into(), &reason), "u{user}");
        if let Some(last) = last {
            assert_eq!(decision["score"]["calibrated"], last, "u{user}: the variant's last score");
        }
    }
}

#[test]
fn the_model_that_decided_is_explained() {
    let (mut rig, _) = rig("explain = { share = 0.5 }");
    let mut explained = [0; 3];
    for ((user, _), decision) in events().iter().zip(rig.run(&events())) {
        let explanation = &decision["explanation"];
        let Some(parts) = explanation["contributions"].as_array() else { continue };
        let base = explanation["base"].as_f64().unwrap();
        assert!((base - (0.25 + ARMS[arm(*user)].2)).abs() < 1e-5, "u{user}: {explanation}");
        let sum: f64 = parts.iter().map(|part| part["contribution"].as_f64().unwrap()).sum();
        assert!((base + sum - decision["score"]["raw"].as_f64().unwrap()).abs() < 1e-5, "u{user}");
        explained[arm(*user)] += 1;
    }
    assert!(explained.iter().all(|count| *count > 20), "{explained:?}");
}

#[test]
fn a_new_version_of_one_variant_does_not_affect_the_others() {
    let (mut rig, _) = rig("");
    let feed = Feed::default();
    rig.pipeline = rig.pipeline.with_feed(2, Box::new(feed.clone()));
    assert!(rig.pipeline.renew().is_none());
    *feed.0.lock().unwrap() = Some(FakeModel::constant(&["unheard_of"], 0.0).version("u"));
    assert!(rig.pipeline.renew().is_none(), "a version that does not match is refused");
    *feed.0.lock().unwrap() = Some(adding("t2", 30.0));
    let (before, now) = rig.pipeline.renew().unwrap();
    assert_eq!((before.version.as_str(), now.version.as_str()), ("t", "t2"));
    let versions: Vec<_> = rig.pipeline.models().map(|(variant, info)| (variant, info.version.clone())).collect();
    let owed = [("control", "c"), ("half", "h"), ("tenth", "t2")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    assert_eq!(versions, owed);
    for ((user, _), decision) in events().iter().zip(rig.run(&events())) {
        assert_eq!(decision["model"]["version"], ["c", "h", "t2"][arm(*user)], "u{user}");
        assert_eq!(decision["score"]["raw"].as_f64().unwrap() >= 30.0, arm(*user) == 2, "u{user}");
    }
}

#[test]
fn a_shadow_is_compared_with_the_control() {
    let (mut rig, controls) = rig("");
    let mut shadow = Shadow::new(Box::new(adding("s", 0.0)));
    rig.pipeline = rig.pipeline.with_shadow(shadow.tap()).unwrap();
    rig.run(&events());
    shadow.score_waiting();
    assert_eq!(shadow.counts(), ShadowCounts { scored: controls[0].rows(), ..ShadowCounts::default() });
    assert!(shadow.drift().correlation().unwrap() > 0.999_999, "{:?}", shadow.drift());
}

#[test]
fn inconsistent_variants_are_faults_with_their_keys() {
    let fault = |more: &str, models| with_variants(&mut Rig::new(more, adding("c", 0.0)), models).unwrap_err();
    let both = || vec![("half", adding("h", 0.0)), ("tenth", adding("t", 0.0))];
    let told =
        fault(EXPERIMENT, vec![("half", adding("h", 0.0)), ("tenth", FakeModel::constant(&["unheard_of"], 0.5))]);
    assert!(told.contains("variant[1].features") && told.contains("unheard_of"), "{told}");
    let told = fault(&EXPERIMENT.replace("tenth = 0.25", "tenth = 0.8"), both());
    assert!(told.contains("experiment.shares") && told.contains("1.05"), "{told}");
    let told = fault("", both());
    assert!(told.contains("experiment.name"), "{told}");
}
