//! Cross-check with a second engine: tract, which shares no code with ONNX Runtime, gives the same scores.

use super::{TOLERANCE, expected, features, load, matrix, path, runtime};
use aimpoint::{
    inference::{FeatureMatrix, Model, ModelSpec, OnnxModel},
    training::{Identity, Layer, Network, encode},
};
use clap::Parser;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use std::fmt::Write;
use tract_onnx::prelude::*;

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    train: aimpoint::cli::train::TrainArgs,
}

/// Runs a model with tract: for each named output, the last column of each row.
fn by_tract(model: &[u8], inputs: &[(String, Tensor)], outputs: &[String]) -> TractResult<Vec<Vec<f32>>> {
    let mut model = tract_onnx::onnx().model_for_read(&mut std::io::Cursor::new(model))?;
    let names: Vec<String> = model.input_outlets()?.iter().map(|outlet| model.node(outlet.node).name.clone()).collect();
    let mut values = TVec::new();
    // The symbolic number of rows, which graphs may also use for inner values.
    let batch = model.symbols.sym("batch");
    for (index, name) in names.iter().enumerate() {
        let (_, tensor) = inputs.iter().find(|(input, _)| input == name).unwrap();
        let shape: [TDim; 2] = [batch.to_dim(), tensor.shape()[1].to_dim()];
        model.set_input_fact(index, InferenceFact::dt_shape(tensor.datum_type(), shape))?;
        values.push(tensor.clone().into_tvalue());
    }
    let found = model.with_outputs_by_name(outputs)?.into_optimized()?.into_runnable()?.run(values)?;
    let column = |value: &TValue| {
        let value = value.cast_to::<f32>()?;
        let width = value.shape().get(1).copied().unwrap_or(1);
        let all = value.to_plain_array_view::<f32>()?;
        Ok(all.iter().copied().skip(width - 1).step_by(width).collect())
    };
    found.iter().map(column).collect()
}

/// The inputs of a fixture for tract: categories are integers.
fn tensors(name: &str) -> Vec<(String, Tensor)> {
    let inputs = expected(name).inputs.into_iter();
    let tensor = |(input, rows): (String, Vec<Vec<Option<f32>>>)| {
        let shape = [rows.len(), rows[0].len()];
        let values: Vec<f32> = rows.into_iter().flatten().map(|value| value.unwrap_or(f32::NAN)).collect();
        let tensor = Tensor::from_shape(&shape, &values).unwrap();
        let tensor = match input.as_str() {
            "category" => tensor.cast_to::<i64>().unwrap().into_owned(),
            _ if name == "double" => tensor.cast_to::<f64>().unwrap().into_owned(),
            _ => tensor,
        };
        (input, tensor)
    };
    inputs.map(tensor).collect()
}

/// Our own scores of a fixture, by head.
fn ours(name: &str) -> Vec<Vec<f32>> {
    let heads: Vec<String> = expected(name).expected.into_keys().collect();
    let change = |spec: &mut ModelSpec| {
        if name == "columns" {
            spec.inputs.clear();
        }
        if heads.len() > 1 {
            spec.output = Some(heads[0].clone());
            spec.heads.extend(heads[1..].iter().map(|head| (head.clone(), head.clone())));
        }
    };
    let mut model = load(name, change).unwrap_or_else(|error| panic!("{name}: {error}"));
    let (matrix, mut scores) = (matrix(name, &model), Vec::new());
    model.score(&matrix, &mut scores).unwrap_or_else(|error| panic!("{name}: {error}"));
    scores.chunks(matrix.rows()).map(<[f32]>::to_vec).collect()
}

fn compare(name: &str, ours: &[Vec<f32>], theirs: &[Vec<f32>]) {
    assert_eq!(ours.len(), theirs.len(), "{name}");
    for (ours, theirs) in ours.iter().zip(theirs) {
        assert_eq!(ours.len(), theirs.len(), "{name}");
        for (row, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
            let difference = f64::from((ours - theirs).abs());
            assert!(difference <= TOLERANCE, "{name}, row {row}: {ours} by ONNX Runtime, {theirs} by tract");
        }
    }
}

/// Fixtures that both engines run.
const COMPARED: [&str; 10] = [
    "linear",
    "double",
    "columns",
    "embedding",
    "two_heads",
    "keras",
    "pytorch",
    "sklearn_logistic",
    "sklearn_columns",
    "lightgbm",
];

/// Fixtures that tract cannot run, with part of its error: two missing operators, and base values of trees by class. The test
/// fails when tract supports them.
const LACKS: [(&str, &str); 6] = [
    ("sklearn_zipmap", "ZipMap"),
    ("lightgbm_zipmap", "ZipMap"),
    ("sklearn_pipeline", "Imputer"),
    ("sklearn_mixed", "Scaler"),
    ("sklearn_gradient_boosting", "base_values"),
    ("xgboost", "base_values"),
];

/// Fixtures without scores to compare, with the reason.
const NO_SCORES: [(&str, &str); 4] = [
    ("fixed_batch", "refused: it takes one row and no more"),
    ("text_input", "refused: its input is text"),
    ("future_opset", "refused: it is of an opset that does not exist"),
    ("always_nan", "its scores are no numbers, and no number is near them"),
];

/// Fixtures with string labels, which tract does not support, or with several classes, where it would use the last one.
/// They are tested in `classes.rs`.
const CLASSES: [&str; 6] =
    ["sklearn_columns_text", "sklearn_text", "sklearn_first", "sklearn_words", "sklearn_network", "sklearn_three"];

fn by_tract_of(name: &str) -> TractResult<Vec<Vec<f32>>> {
    let heads: Vec<String> = expected(name).expected.into_keys().collect();
    by_tract(&std::fs::read(path(name))?, &tensors(name), &heads)
}

#[test]
fn tract_gives_the_same_scores_as_onnx_runtime() {
    for name in COMPARED {
        compare(name, &ours(name), &by_tract_of(name).unwrap_or_else(|error| panic!("{name}: {error:#}")));
    }
    for (name, lack) in LACKS {
        match by_tract_of(name) {
            Ok(_) => panic!("{name}: tract knows {lack} now; compare this one, too"),
            Err(error) => assert!(format!("{error:#}").contains(lack), "{name}: {error:#}"),
        }
    }
}

#[test]
fn every_fixture_is_compared_or_listed_with_a_reason() {
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.unwrap().path();
        let is_model = path.extension().is_some_and(|extension| extension == "onnx");
        is_model.then(|| path.file_stem().unwrap().to_str().unwrap().to_owned())
    };
    let folder = path("linear");
    let mut fixtures: Vec<String> = std::fs::read_dir(folder.parent().unwrap()).unwrap().filter_map(name).collect();
    fixtures.sort_unstable();
    let with_reason = LACKS.iter().chain(&NO_SCORES).map(|(name, _)| *name);
    let mut listed: Vec<&str> = COMPARED.into_iter().chain(with_reason).chain(CLASSES).collect();
    listed.sort_unstable();
    assert_eq!(fixtures, listed, "the models in tests/models/fixtures, and those in the lists of this file");
    for (name, reason) in NO_SCORES {
        let Ok(mut model) = load(name, |_| {}) else {
            assert!(reason.starts_with("refused"), "{name} does not load, and its reason is: {reason}");
            continue;
        };
        let mut scores = Vec::new();
        model.score(&matrix(name, &model), &mut scores).unwrap();
        assert!(scores.iter().all(|score| score.is_nan()), "{name} has scores now; compare them");
    }
}

/// A file written by `aimpoint train`, from rows with missing values and a constant column, and with a calibration, which is not
/// part of the graph.
#[test]
fn tract_gives_the_same_scores_for_a_model_from_a_training_run() {
    let folder = tempfile::tempdir().unwrap();
    let [rows, out] = ["rows.csv", "bought.onnx"].map(|name| folder.path().join(name).to_str().unwrap().to_owned());
    let mut random = SmallRng::seed_from_u64(11);
    let mut text = "views,spent,hour,always,bought\n".to_owned();
    for _ in 0..600 {
        let [views, spent, hour, chance] = [40.0, 900.0, 24.0, 1.0].map(|most| random.random_range(0.0..most));
        let bought = u8::from(views / 40.0 + 0.3 * f64::sin(hour) > 0.4 + 0.3 * chance);
        let spent = if chance < 0.2 { String::new() } else { spent.to_string() };
        writeln!(text, "{views},{spent},{hour},7,{bought}").unwrap();
    }
    std::fs::write(&rows, text).unwrap();
    let arguments =
        ["train", &rows, "--label", "bought", "--calibrate", "platt", "--keep-calibration", "--quiet", "--out", &out];
    aimpoint::cli::train::run(&Command::parse_from(arguments).train).unwrap();

    let mut model = OnnxModel::load(&runtime(), &ModelSpec::at(&out), &[], "").unwrap();
    assert!(model.info().calibration.is_some());
    let width = model.info().features.len();
    let mut matrix = FeatureMatrix::new(width);
    let values = matrix.reset(200);
    values.fill_with(|| random.random_range(-50.0..1_000.0));
    // Some values of each column are missing, others are as in the rows.
    values.iter_mut().step_by(7).for_each(|value| *value = f32::NAN);
    values.iter_mut().skip(400).for_each(|value| *value /= 40.0);
    let mut scores = Vec::new();
    model.score(&matrix, &mut scores).unwrap();
    let [least, most] = [f32::min, f32::max].map(|pick| scores.iter().copied().reduce(pick).unwrap());
    assert!(most - least > 0.5, "all scores are nearly equal: {least} to {most}");
    let input = Tensor::from_shape(&[matrix.rows(), width], matrix.values()).unwrap();
    let theirs =
        by_tract(&std::fs::read(&out).unwrap(), &[("input".to_owned(), input)], &["score".to_owned()]).unwrap();
    compare("bought", &[scores], &theirs);
}

#[test]
fn tract_gives_the_same_scores_for_a_network_with_every_kind_of_value() {
    let names = features(0..3);
    let hidden = Layer { weight: (0..12).map(|it| (it as f32 * 0.7).sin()).collect(), bias: vec![0.1, -0.2, 0.3, 0.0] };
    let output = Layer { weight: vec![0.9, -1.1, 0.4, 0.7], bias: vec![0.2] };
    let network =
        Network { mean: vec![0.5, -1.0, 3.0], deviation: vec![1.5, 0.25, 2.0], branches: vec![vec![hidden, output]] };
    let bytes = encode(&network, &names, &Identity { name: "second".to_owned(), ..Identity::default() });
    let values = [0.5, f32::NAN, 3.0, 7.0, -1.5, f32::INFINITY, f32::NEG_INFINITY, -1.0, 0.0, 2.0, -0.25, 4.5];
    let spec = ModelSpec::at("second.onnx");
    let mut model = OnnxModel::from_bytes(&runtime(), &spec, bytes.clone(), &names, "").unwrap();
    let mut matrix = FeatureMatrix::new(3);
    matrix.reset(4).copy_from_slice(&values);
    let mut scores = Vec::new();
    model.score(&matrix, &mut scores).unwrap();
    assert!(scores.iter().all(|score| score.is_finite()), "what is missing is the mean: {scores:?}");
    let input = Tensor::from_shape(&[4, 3], &values).unwrap();
    let theirs = by_tract(&bytes, &[("input".to_owned(), input)], &["score".to_owned()]).unwrap();
    compare("second", &[scores], &theirs);
}
