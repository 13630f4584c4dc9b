//! Models of other libraries: they load and give the same scores as in their own library, or are refused with the next step.
//!
//! `fixtures/make-fixtures` generates the models, their inputs and the predictions of their own library; it pins the versions. Needs
//! ONNX Runtime (see `deploy/onnxruntime/fetch`); without it all tests here fail with a message.

#![expect(clippy::unwrap_used, reason = "a test ends where its own fixture cannot be read")]

use aimpoint::{
    engine::WorkerSettings,
    inference::{FeatureMatrix, Model, ModelError, ModelSpec, OnnxModel, Runtime},
};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

mod classes;
mod commands;
mod hostile;
mod promoting;
mod second;
mod sentences;
mod serving;
mod swapping;
mod variants;

/// Maximum difference to the score of the model's own library.
const TOLERANCE: f64 = 1e-5;

/// A fixture's inputs, by name, row by row, and the expected scores by output.
#[derive(Deserialize)]
struct Expected {
    inputs: BTreeMap<String, Vec<Vec<Option<f32>>>>,
    expected: BTreeMap<String, Vec<f64>>,
}

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/fixtures").join(format!("{name}.onnx"))
}

fn expected(name: &str) -> Expected {
    serde_json::from_str(&fs::read_to_string(path(name).with_extension("json")).unwrap()).unwrap()
}

/// Worker settings for tests: small batches and short transactions, so that much happens between them.
fn worker_settings() -> WorkerSettings {
    WorkerSettings {
        number: 0,
        commit_interval: Duration::from_millis(20),
        pace: Duration::ZERO,
        batch_rows_max: 16,
        checkpoint_interval: Duration::from_millis(100),
        stall_after: Duration::from_secs(10),
    }
}

fn runtime() -> Runtime {
    Runtime::load(None).unwrap_or_else(|error| panic!("{error}"))
}

/// Features `f0`, `f1`, … for this many columns.
fn features(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|column| format!("f{column}")).collect()
}

/// Loads a fixture: with one input it uses the declared features, with several `model.inputs`.
fn load(name: &str, change: impl FnOnce(&mut ModelSpec)) -> Result<OnnxModel, ModelError> {
    let Expected { inputs, .. } = expected(name);
    let width = |input: &str| inputs[input][0].len();
    let mut spec = ModelSpec::at(path(name));
    let total: usize = inputs.keys().map(|input| width(input)).sum();
    if inputs.len() > 1 {
        let mut start = 0;
        for input in inputs.keys() {
            spec.inputs.insert(input.clone(), features(start..start + width(input)));
            start += width(input);
        }
    }
    change(&mut spec);
    OnnxModel::load(&runtime(), &spec, &features(0..total), "")
}

/// The fixture's rows in the order of the model's features.
fn matrix(name: &str, model: &OnnxModel) -> FeatureMatrix {
    let Expected { inputs, .. } = expected(name);
    let rows = inputs.values().next().unwrap().len();
    let mut matrix = FeatureMatrix::new(model.info().features.len());
    let mut values = Vec::new();
    for row in 0..rows {
        // Features f0, f1, … number the columns of all inputs, in the order of the inputs' names.
        let all: Vec<f32> =
            inputs.values().flat_map(|input| input[row].iter().map(|value| value.unwrap_or(f32::NAN))).collect();
        values.extend(model.info().features.iter().map(|name| all[name[1..].parse::<usize>().unwrap()]));
    }
    matrix.reset(rows).copy_from_slice(&values);
    matrix
}

fn check(name: &str, change: impl FnOnce(&mut ModelSpec)) {
    let mut model = load(name, change).unwrap_or_else(|error| panic!("{name}: {error}"));
    let Expected { expected, .. } = expected(name);
    let matrix = matrix(name, &model);
    let mut scores = Vec::new();
    model.score(&matrix, &mut scores).unwrap_or_else(|error| panic!("{name}: {error}"));
    let expected: Vec<f64> = expected.into_values().flatten().collect();
    assert_eq!(scores.len(), expected.len(), "{name}");
    assert!(expected.iter().any(|it| (it - expected[0]).abs() > 0.05), "{name}: all scores are equal");
    for (row, (score, expected)) in scores.iter().zip(&expected).enumerate() {
        let difference = (f64::from(*score) - expected).abs();
        assert!(difference <= TOLERANCE, "{name}, row {row}: {score} is not {expected}");
    }
    // Single rows give the same scores as the whole batch.
    for (row, together) in scores.iter().enumerate().take(matrix.rows()) {
        let mut one = FeatureMatrix::new(matrix.width());
        one.reset(1).copy_from_slice(matrix.row(row));
        let mut alone = Vec::new();
        model.twin().unwrap().score(&one, &mut alone).unwrap();
        assert!((alone[0] - together).abs() <= 1e-6, "{name}, row {row}: alone {}, in the batch {together}", alone[0]);
    }
}

#[test]
fn models_of_other_libraries_score_as_in_their_own_library() {
    for name in [
        "sklearn_logistic",
        "sklearn_pipeline",
        "sklearn_gradient_boosting",
        "sklearn_mixed",
        "lightgbm",
        "xgboost",
        "keras",
        "pytorch",
        "embedding",
        "linear",
        "double",
    ] {
        check(name, |_| {});
    }
}

#[test]
fn a_model_with_two_heads_gives_both_scores_of_every_row() {
    check("two_heads", |spec| {
        spec.output = Some("click".to_owned());
        spec.heads.insert("conversion".to_owned(), "conversion".to_owned());
    });
    let model =
        load("two_heads", |spec| drop(spec.heads.insert("bought".to_owned(), "conversion".to_owned()))).unwrap();
    assert_eq!(model.info().heads, ["bought"]);
}

#[test]
fn inputs_of_one_column_are_matched_to_features_by_name() {
    check("columns", |spec| spec.inputs.clear());
    let model = load("columns", |spec| spec.inputs.clear()).unwrap();
    assert_eq!(model.info().features, ["f1", "f0"], "in the order of the inputs");
}

/// A missing or unknown category is -1, which a one-hot encoder does not know.
#[test]
fn a_missing_category_is_minus_one() {
    let mut model = load("sklearn_mixed", |_| {}).unwrap();
    let category = model.info().features.iter().position(|name| name == "f0").unwrap();
    let score = |model: &mut OnnxModel, value: f32| {
        let mut matrix = FeatureMatrix::new(3);
        let row = matrix.reset(1);
        row.fill(0.5);
        row[category] = value;
        let mut scores = Vec::new();
        model.score(&matrix, &mut scores).unwrap();
        scores[0]
    };
    let [missing, unknown, known] = [f32::NAN, -1.0, 3.0].map(|value| score(&mut model, value));
    assert_eq!(missing, unknown);
    assert!((missing - known).abs() > 0.05, "{missing} {known}");
}

#[test]
fn models_that_do_not_match_are_refused_with_expected_found_and_next_step() {
    type Change = fn(&mut ModelSpec);
    let same: Change = |_| {};
    let cases: [(&str, Change, &[&str]); 9] = [
        (
            "sklearn_logistic",
            |it| it.output = Some("label".to_owned()),
            &[
                "expected a float32 or float64 output \"label\"",
                "\"label\": i64",
                "\"probabilities\": f32",
                "model.output",
            ],
        ),
        (
            "fixed_batch",
            same,
            &["input \"input\"", "any number of rows", "found a batch of 1", "dynamic_axes={\"input\": {0: \"rows\"}}"],
        ),
        (
            "text_input",
            same,
            &["expected a float32, float64, int64 or int32 input of shape [rows, 4]", "\"input\": String"],
        ),
        ("future_opset", same, &["expected an ONNX model that ONNX Runtime can run", "pset 99"]),
        ("linear", |it| it.features = Some(features(0..3)), &["4 features", "3 are named by model.features"]),
        (
            "sklearn_mixed",
            |it| drop(it.inputs.remove("category")),
            &["expected the inputs numeric", "named by model.inputs", "found numeric, category"],
        ),
        ("sklearn_mixed", |it| it.inputs.clear(), &["2 inputs", "inputs = {"]),
        (
            "two_heads",
            |it| drop(it.heads.insert("view".to_owned(), "view".to_owned())),
            &["output \"view\"", "\"click\": f32"],
        ),
        (
            "linear",
            |it| it.calibration = serde_json::from_str(r#"{"method":"platt","slope":-1,"offset":0}"#).unwrap(),
            &["calibration: expected a slope of 0 or more", "-1"],
        ),
    ];
    for (name, change, parts) in cases {
        let message = load(name, change).map(|_| ()).unwrap_err().to_string();
        for part in parts {
            assert!(message.contains(part), "{name}: {part:?} is not in: {message}");
        }
    }
}

#[test]
fn a_missing_requested_provider_is_an_error_with_the_reason() {
    for provider in ["cuda", "tensorrt"] {
        let asked = |providers: &[&str]| {
            let providers = providers.iter().map(|&name| name.to_owned()).collect();
            load("linear", |spec| spec.providers = providers)
        };
        match asked(&[provider]) {
            Ok(model) => assert_eq!(model.info().provider, provider),
            Err(error) => {
                let message = error.to_string();
                assert!(matches!(error, ModelError::Provider { .. }), "{message}");
                let tells = message.contains("is not in the library") || message.contains("does not start");
                assert!(message.contains(&format!("{provider:?}")) && tells, "{message}");
                let fallen_back = asked(&[provider, "cpu"]).unwrap();
                assert_eq!(fallen_back.info().provider, "cpu");
            }
        }
    }
    for (providers, part) in
        [(vec!["gpu".to_owned()], "expected cpu, cuda or tensorrt, found \"gpu\""), (vec![], "at least one")]
    {
        let error = load("linear", |spec| spec.providers = providers).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
    }
}
