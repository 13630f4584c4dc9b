//! From rows to scores: train, write ONNX, load it in ONNX Runtime, score.
//!
//! Needs ONNX Runtime, which `deploy/onnxruntime/fetch` puts in place; without it every test here fails and says so.
//! The question is whether what was trained is what scores, and whether a model that does not fit is turned away.

use aimpoint::{
    cli::train::{TrainArgs, run},
    inference::{FeatureMatrix, Model, ModelError, ModelSpec, OnnxModel, Runtime},
    training::{Dataset, Identity, ReadSpec, TrainSpec, Trained, encode, read, train},
};
use clap::Parser;
use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

const XNOR: &str = "a,b,same\n0,0,1\n0,1,0\n1,0,0\n1,1,1\n";

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    train: TrainArgs,
}

fn runtime() -> Runtime {
    Runtime::load(None).unwrap_or_else(|error| panic!("{error}"))
}

fn spec(path: &Path) -> ModelSpec {
    ModelSpec::at(path)
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn xnor(folder: &TempDir) -> Dataset {
    let path = folder.path().join("xnor.csv");
    fs::write(&path, XNOR).expect("the temporary folder is writable");
    read(&path, &ReadSpec { label: "same".to_owned(), ..ReadSpec::default() }).expect("the rows are well-formed")
}

fn write(folder: &TempDir, trained: &Trained, features: &[String], fingerprint: Option<&str>) -> PathBuf {
    let identity = Identity {
        name: "same".to_owned(),
        version: Some("7".to_owned()),
        fingerprint: fingerprint.map(str::to_owned),
        calibration: None,
    };
    let path = folder.path().join("model.onnx");
    let bytes = encode(&trained.network, features, &identity);
    fs::write(&path, bytes).expect("the temporary folder is writable");
    path
}

fn score(model: &mut OnnxModel, rows: usize, values: &[f32]) -> Vec<f32> {
    let mut matrix = FeatureMatrix::new(values.len() / rows);
    matrix.reset(rows).copy_from_slice(values);
    let mut scores = Vec::new();
    model.score(&matrix, &mut scores).expect("the model scores");
    scores
}

#[test]
fn xnor_is_learned_exactly_from_four_rows_whatever_the_seed() {
    let folder = tempfile::tempdir().unwrap();
    let data = xnor(&folder);
    for seed in 0..10 {
        let trained = train(&data, &TrainSpec { seed, ..TrainSpec::default() }).unwrap();
        assert_eq!((trained.split, trained.parts.len(), trained.parts[0].name), ("none", 1, "all"));
        let path = write(&folder, &trained, &trained.features, None);
        let mut model = OnnxModel::load(&runtime(), &spec(&path), &[], "").unwrap();
        let scores = score(&mut model, 4, &data.values);
        let rounded: Vec<_> = scores.iter().map(|score| *score >= 0.5).collect();
        assert_eq!(rounded, data.labels, "seed {seed}: {scores:?}");
        let loss = trained.parts[0].summary.log_loss.unwrap();
        assert!(loss < 0.05, "seed {seed}: loss {loss} after {} epochs", trained.epochs);
    }
}

#[test]
fn onnx_runtime_scores_as_the_network_does_even_what_is_not_a_number() {
    let folder = tempfile::tempdir().unwrap();
    let mut data = Dataset { features: names(&["a", "b", "c"]), ..Dataset::default() };
    for row in 0..400u32 {
        let (a, b) = ((row * 37 % 101) as f32 - 50.0, (row * 53 % 97) as f32 * 1e4);
        data.values.extend([a, b, if row % 7 == 0 { f32::NAN } else { a * b }]);
        data.labels.push(a * 1e4 + b > 2e5);
    }
    let trained = train(&data, &TrainSpec { epochs_max: 30, ..TrainSpec::default() }).unwrap();
    let mut model =
        OnnxModel::load(&runtime(), &spec(&write(&folder, &trained, &data.features, None)), &[], "").unwrap();
    let specials = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, 1.5, f32::MIN_POSITIVE];
    let mut values = data.values.clone();
    for a in specials {
        for b in specials {
            values.extend([a, b, 1e6, 3.0, a, b]);
        }
    }
    let rows = values.len() / 3;
    let mut matrix = FeatureMatrix::new(3);
    matrix.reset(rows).copy_from_slice(&values);
    let expected = trained.network.score(&matrix).unwrap();
    let found = score(&mut model, rows, &values);
    assert_eq!(found.len(), rows);
    for (row, (found, expected)) in found.iter().zip(&expected).enumerate() {
        assert!((found - expected).abs() < 1e-5, "row {row}: onnx {found}, candle {expected}");
    }
}

#[test]
fn a_model_tells_what_its_file_says_and_a_twin_scores_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let data = xnor(&folder);
    let trained = train(&data, &TrainSpec::default()).unwrap();
    let path = write(&folder, &trained, &trained.features, Some("f00d"));
    let mut model = OnnxModel::load(&runtime(), &spec(&path), &names(&["z"]), "f00d").unwrap();
    let info = model.info().clone();
    assert_eq!((info.name.as_str(), info.version.as_str(), info.heads.len()), ("same", "7", 0));
    assert_eq!(info.features, ["a", "b"]);
    assert_eq!(info.fingerprint.as_deref(), Some("f00d"));
    assert_eq!(info.runtime, format!("onnxruntime {}", runtime().version()));
    assert_eq!((info.sha256.len(), info.provider.as_str()), (64, "cpu"));
    assert!(runtime().version().starts_with("1."), "{}", runtime().version());
    // The twin comes from the bytes that were checked, not from what the file holds by now.
    fs::remove_file(&path).unwrap();
    let mut twin = model.twin().unwrap();
    assert_eq!(score(&mut twin, 4, &data.values), score(&mut model, 4, &data.values));
    assert_eq!(score(&mut model, 1, &[1.0, 1.0]).len(), 1);
    let mut none = vec![1.0];
    model.score(&FeatureMatrix::new(2), &mut none).unwrap();
    assert!(none.is_empty());
}

#[test]
fn the_configuration_overrides_what_the_file_says() {
    let folder = tempfile::tempdir().unwrap();
    let trained = train(&xnor(&folder), &TrainSpec::default()).unwrap();
    let path = write(&folder, &trained, &trained.features, Some("f00d"));
    let spec = ModelSpec {
        name: Some("other".to_owned()),
        version: Some("8".to_owned()),
        features: Some(names(&["x", "y"])),
        ..spec(&path)
    };
    // Naming the features vouches for them: the fingerprint is not asked for.
    let model = OnnxModel::load(&runtime(), &spec, &[], "beef").unwrap();
    let info = model.info();
    assert_eq!((info.name.as_str(), info.version.as_str(), &info.features), ("other", "8", &names(&["x", "y"])));
}

#[test]
fn a_model_that_does_not_fit_is_refused_and_told_why() {
    let folder = tempfile::tempdir().unwrap();
    let trained = train(&xnor(&folder), &TrainSpec { epochs_max: 1, ..TrainSpec::default() }).unwrap();
    let load = |spec: &ModelSpec| OnnxModel::load(&runtime(), spec, &names(&["a", "b"]), "beef").map(|_| ());

    let path = write(&folder, &trained, &trained.features, Some("f00d"));
    let error = load(&spec(&path)).unwrap_err();
    assert!(matches!(&error, ModelError::Fingerprint { model, declared, .. } if model == "f00d" && declared == "beef"));
    assert!(error.to_string().contains("fingerprint f00d, and the declared features have beef"), "{error}");

    // The fingerprint fits, and nothing says in which order the features stand.
    let path = write(&folder, &trained, &trained.features, Some("beef"));
    let bytes = fs::read(&path).unwrap();
    let at = bytes.windows(17).position(|part| part == b"aimpoint.features").expect("the file names its features");
    fs::write(&path, [&bytes[..at], b"aimpoint.otherkey", &bytes[at + 17..]].concat()).unwrap();
    let error = load(&spec(&path)).unwrap_err();
    assert!(matches!(error, ModelError::Metadata { key: "aimpoint.features", .. }), "{error}");

    let path = write(&folder, &trained, &names(&["a", "b", "c"]), None);
    let error = load(&spec(&path)).unwrap_err();
    assert!(matches!(error, ModelError::Width { width: 2, named: 3, by: "its metadata", .. }), "{error}");

    let path = write(&folder, &trained, &trained.features, None);
    let error = load(&ModelSpec { output: Some("label".to_owned()), ..spec(&path) }).unwrap_err();
    assert!(matches!(error, ModelError::Output { .. }) && error.to_string().contains("\"score\""), "{error}");
    let error = load(&ModelSpec { providers: vec!["tensorrt".to_owned()], ..spec(&path) }).unwrap_err();
    assert!(matches!(error, ModelError::Provider { .. }), "{error}");
    load(&ModelSpec { providers: names(&["cuda", "cpu"]), ..spec(&path) }).unwrap();

    let bytes = fs::read(&path).unwrap();
    for damaged in [&bytes[..bytes.len() / 2], b"no model", b""] {
        fs::write(&path, damaged).unwrap();
        let error = load(&spec(&path)).unwrap_err();
        assert!(matches!(error, ModelError::Load { .. }), "{error}");
    }
    let error = load(&spec(&folder.path().join("nowhere.onnx"))).unwrap_err();
    assert!(matches!(error, ModelError::Read { .. }), "{error}");
}

#[test]
fn the_command_writes_a_model_and_a_card_that_belong_together() {
    let folder = tempfile::tempdir().unwrap();
    let rows = folder.path().join("rows.csv");
    let mut text = "when,n,Month,bought\n".to_owned();
    for row in 0..200 {
        let (n, month) = (row % 10, if row % 3 == 0 { "Feb" } else { "Mar" });
        writeln!(text, "{row},{n},{month},{}", if n > 4 { "TRUE" } else { "FALSE" }).unwrap();
    }
    fs::write(&rows, text).unwrap();
    let out = folder.path().join("buyers.onnx");
    let arguments = ["train", rows.to_str().unwrap(), "--label", "bought", "--time", "when", "--quiet", "--out"];
    let command = Command::parse_from(arguments.into_iter().chain([out.to_str().unwrap()]));
    run(&command.train).unwrap();
    let card: serde_json::Value = serde_json::from_slice(&fs::read(out.with_extension("json")).unwrap()).unwrap();
    let mut model = OnnxModel::load(&runtime(), &spec(&out), &[], "").unwrap();
    let info = model.info();
    assert_eq!(card["sha256"], info.sha256);
    assert_eq!((card["name"].as_str(), info.name.as_str()), (Some("buyers"), "buyers"));
    assert_eq!(info.version, info.sha256[..12]);
    assert_eq!(info.features, ["n", "Month=Feb", "Month=Mar"]);
    assert_eq!((&card["rows"], &card["split"], &card["data"]), (&200.into(), &"time".into(), &"rows.csv".into()));
    let counts: Vec<_> = (0..3).map(|part| card["parts"][part]["count"].as_u64().unwrap()).collect();
    assert_eq!(counts, [140, 30, 30]);
    assert!(card["parts"][2]["auc"].as_f64().unwrap() > 0.99, "{card}");
    assert_eq!(info.calibration, None);
    let baseline = info.baseline.clone().unwrap();
    // The mean of the training rows: n runs over 0 to 9 evenly.
    assert!(baseline.len() == 3 && (baseline[0] - 4.5).abs() < 0.1, "{baseline:?}");
    let scores = score(&mut model, 2, &[9.0, 1.0, 0.0, 0.0, 0.0, 1.0]);
    assert!(scores[0] > 0.9 && scores[1] < 0.1, "{scores:?}");
}

#[test]
fn a_calibration_is_fitted_to_rows_that_were_not_learned_from_and_travels_in_the_file() {
    use aimpoint::{inference::Calibration, training::CalibrationMethod};
    let folder = tempfile::tempdir().unwrap();
    let mut data = Dataset { features: names(&["a"]), ..Dataset::default() };
    for row in 0..2_000u32 {
        let a = (row * 37 % 101) as f32;
        data.values.push(a);
        data.labels.push((row * 7_919 % 1_009) as f32 / 10.0 < a * 0.4);
    }
    let trained = train(&data, &TrainSpec { epochs_max: 1, learning_rate: 1e-4, ..TrainSpec::default() }).unwrap();
    for method in [CalibrationMethod::Platt, CalibrationMethod::Isotonic] {
        let (calibration, [before, after]) = trained.calibrate(&data, method).unwrap();
        assert!(after.unwrap() < before.unwrap() - 0.01, "{method:?}: {before:?} {after:?}");
        let identity = Identity { name: "c".to_owned(), calibration: Some(calibration.clone()), ..Identity::default() };
        let path = folder.path().join("c.onnx");
        fs::write(&path, encode(&trained.network, &data.features, &identity)).unwrap();
        let model = OnnxModel::load(&runtime(), &spec(&path), &data.features, "").unwrap();
        let read = model.info().calibration.clone().unwrap();
        for score in [0.0, 0.2, 0.4, 0.6, 0.8, 1.0] {
            assert!((read.apply(score) - calibration.apply(score)).abs() < 1e-6, "{read:?} {calibration:?}");
        }
        let given = Calibration::Platt { slope: 2.0, offset: 0.5 };
        let spec = ModelSpec { calibration: Some(given.clone()), ..spec(&path) };
        let model = OnnxModel::load(&runtime(), &spec, &data.features, "").unwrap();
        assert_eq!(model.info().calibration, Some(given), "the configuration's wins");
    }
    let few =
        Dataset { features: names(&["a"]), values: vec![1.0, 2.0], labels: vec![true, false], ..Dataset::default() };
    let trained = train(&few, &TrainSpec { epochs_max: 1, ..TrainSpec::default() }).unwrap();
    let error = trained.calibrate(&few, CalibrationMethod::Platt).unwrap_err().to_string();
    assert!(error.contains("validation rows of both labels"), "{error}");
}
