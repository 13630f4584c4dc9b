//! From rows to scores: train, write ONNX, load with ONNX Runtime, score. Models that do not match are refused.
//!
//! Needs ONNX Runtime (see `deploy/onnxruntime/fetch`); without it all tests here fail with a message.

use aimpoint::{
    cli::train::{TrainArgs, run},
    inference::{FeatureMatrix, Model, ModelError, ModelSpec, OnnxModel, Runtime},
    training::{
        Balance, ClassWeight, Dataset, Epoch, Identity, ReadSpec, Start, TrainSpec, Trained, encode, read, train,
        train_from,
    },
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
    for seed in 0..4 {
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
fn training_goes_on_from_networks_that_fit_and_from_no_others() {
    let rows = |from: u32| {
        let mut data = Dataset { features: names(&["a", "b"]), ..Dataset::default() };
        for row in from..from + 600 {
            let (a, b) = ((row * 37 % 101) as f32 - 50.0, (row * 53 % 97) as f32);
            data.values.extend([a, b]);
            data.labels.push(a + b > 0.0 && row % 10 != 0);
        }
        data.times = Some((from..from + 600).map(f64::from).collect());
        data
    };
    let spec = TrainSpec { epochs_max: 60, members: 2, ..TrainSpec::default() };
    let before = train(&rows(0), &spec).unwrap();
    let first_loss = |start: Option<&Start>, spec: &TrainSpec| {
        let mut first = None;
        // Networks are trained side by side, so any of them may tell of its first epoch first.
        let tell = |epoch: Epoch| first = first.or(epoch.loss.filter(|_| epoch.member == 1));
        train_from(&rows(300), spec, start, tell).unwrap();
        first.unwrap()
    };
    let (cold, warm) = (first_loss(None, &spec), first_loss(Some(&before.next), &spec));
    assert!(warm < 0.8 * cold, "{warm} {cold}");
    // Networks of other layers, or another number of them, are not used.
    let wider = TrainSpec { hidden: vec![12], ..spec.clone() };
    assert_eq!(first_loss(Some(&before.next), &wider), first_loss(None, &wider));
    let fewer = TrainSpec { members: 1, ..spec };
    assert_eq!(first_loss(Some(&before.next), &fewer), first_loss(None, &fewer));
}

#[test]
fn onnx_runtime_gives_the_network_s_scores_for_nan_and_infinity_too() {
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
fn a_model_has_its_file_s_metadata_and_a_copy_scores_the_same() {
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
    // The copy is made from the checked bytes, not from the file.
    fs::remove_file(&path).unwrap();
    let mut twin = model.twin().unwrap();
    assert_eq!(score(&mut twin, 4, &data.values), score(&mut model, 4, &data.values));
    assert_eq!(score(&mut model, 1, &[1.0, 1.0]).len(), 1);
    let mut none = vec![1.0];
    model.score(&FeatureMatrix::new(2), &mut none).unwrap();
    assert!(none.is_empty());
}

#[test]
fn the_configuration_overrides_the_file_s_metadata() {
    let folder = tempfile::tempdir().unwrap();
    let trained = train(&xnor(&folder), &TrainSpec::default()).unwrap();
    let path = write(&folder, &trained, &trained.features, Some("f00d"));
    let spec = ModelSpec {
        name: Some("other".to_owned()),
        version: Some("8".to_owned()),
        features: Some(names(&["x", "y"])),
        ..spec(&path)
    };
    // Naming the features overrides the fingerprint check.
    let model = OnnxModel::load(&runtime(), &spec, &[], "beef").unwrap();
    let info = model.info();
    assert_eq!((info.name.as_str(), info.version.as_str(), &info.features), ("other", "8", &names(&["x", "y"])));
}

#[test]
fn a_model_that_does_not_match_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let trained = train(&xnor(&folder), &TrainSpec { epochs_max: 1, ..TrainSpec::default() }).unwrap();
    let load = |spec: &ModelSpec| OnnxModel::load(&runtime(), spec, &names(&["a", "b"]), "beef").map(|_| ());

    let path = write(&folder, &trained, &trained.features, Some("f00d"));
    let error = load(&spec(&path)).unwrap_err();
    assert!(matches!(&error, ModelError::Fingerprint { model, declared, .. } if model == "f00d" && declared == "beef"));
    assert!(error.to_string().contains("fingerprint f00d, but the declared features have beef"), "{error}");

    // The fingerprint matches, but the order of the features is unknown.
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
    assert_eq!(card["importance"][0]["feature"], "n", "{card}");
    assert!(card["importance"][0]["log_loss"].as_f64().unwrap() > 0.1, "{card}");
    assert!(card["notes"].to_string().contains("\\\"n\\\" alone tells the label (AUC 1.0000)"), "{card}");
    assert_eq!(info.calibration, None);
    let baseline = info.baseline.clone().unwrap();
    // The mean of the training rows: n is uniform from 0 to 9.
    assert!(baseline.len() == 3 && (baseline[0] - 4.5).abs() < 0.1, "{baseline:?}");
    let scores = score(&mut model, 2, &[9.0, 1.0, 0.0, 0.0, 0.0, 1.0]);
    assert!(scores[0] > 0.9 && scores[1] < 0.1, "{scores:?}");
}

#[test]
fn a_calibration_is_fitted_to_validation_rows_and_stored_in_the_file() {
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
        // What the card says is what the file with the calibration does.
        let mut served = trained.clone();
        served.measure_calibrated(&data, &calibration).unwrap();
        let loss = |of: &Trained| of.parts.iter().find(|part| part.name == "test").unwrap().summary.log_loss;
        assert_eq!((loss(&trained), loss(&served)), (before, after));
        assert_ne!(trained.measured.bins, served.measured.bins);
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
        assert_eq!(model.info().calibration, Some(given), "the configuration takes precedence");
    }
    let few =
        Dataset { features: names(&["a"]), values: vec![1.0, 2.0], labels: vec![true, false], ..Dataset::default() };
    let trained = train(&few, &TrainSpec { epochs_max: 1, ..TrainSpec::default() }).unwrap();
    let error = trained.calibrate(&few, CalibrationMethod::Platt).unwrap_err().to_string();
    assert!(error.contains("validation rows of both labels"), "{error}");
}

/// Runs the command on a file, and returns the card.
fn card_of(folder: &TempDir, name: &str, text: &str, more: &[&str]) -> anyhow::Result<serde_json::Value> {
    let [rows, out] = [name, "model.onnx"].map(|name| folder.path().join(name));
    fs::write(&rows, text)?;
    let arguments = ["train", "--quiet", "--out"].map(Into::into).into_iter();
    let files = [out.clone().into_os_string(), rows.into_os_string()];
    let command = Command::parse_from(arguments.chain(files).chain(more.iter().map(Into::into)));
    run(&command.train)?;
    Ok(serde_json::from_slice(&fs::read(out.with_extension("json"))?)?)
}

#[test]
fn missing_values_written_as_na_are_equivalent_to_empty_ones() {
    let folder = tempfile::tempdir().unwrap();
    let table = |missing: &str| {
        let mut text = "a,b,label\n".to_owned();
        for row in 0..400u32 {
            let b = row * 37 % 61;
            let cell = if row % 40 == 0 { missing.to_owned() } else { b.to_string() };
            writeln!(text, "{},{cell},{}", f64::from(row * 53 % 97) / 97.0, u8::from(b > 30)).unwrap();
        }
        text
    };
    let gaps = card_of(&folder, "rows.csv", &table(""), &["--members", "1"]).unwrap();
    for missing in ["NA", "NULL", "None", "?", "N/A", "\\N", "-"] {
        let card = card_of(&folder, "rows.csv", &table(missing), &["--members", "1"]).unwrap();
        assert_eq!(card["features"], serde_json::json!(["a", "b"]), "{missing}");
        assert_eq!(card["parts"], gaps["parts"], "{missing}");
        assert!(card["parts"][2]["auc"].as_f64().unwrap() > 0.95, "{card}");
        assert!(card["notes"][0].as_str().unwrap().contains(&format!("10 {missing:?} count as missing")), "{card}");
    }
}

#[test]
fn labels_of_one_class_are_refused_and_a_rare_one_is_noted() {
    let folder = tempfile::tempdir().unwrap();
    let table = |positives: usize| {
        let rows: Vec<_> = (0..300).map(|row| format!("{row},{}", u8::from(row % 60 < positives))).collect();
        format!("a,label\n{}\n", rows.join("\n"))
    };
    let error = format!("{:#}", card_of(&folder, "rows.csv", &table(0), &[]).unwrap_err());
    assert!(error.contains("rows.csv") && error.contains("found 300 rows whose label is 0"), "{error}");
    assert!(!folder.path().join("model.onnx").exists());
    assert!(card_of(&folder, "rows.csv", &table(60), &[]).is_err());
    let card = card_of(&folder, "rows.csv", &table(1), &["--members", "1", "--epochs", "1"]).unwrap();
    assert!(card["notes"].to_string().contains("only 5 of the 300 rows have the label 1"), "{card}");
    // Split by time, the training rows may have only one label.
    let rows: Vec<_> = (0..100).map(|row| format!("{row},{row},{}", u8::from(row > 90))).collect();
    let late = format!("when,a,label\n{}\n", rows.join("\n"));
    let error = format!("{:#}", card_of(&folder, "rows.csv", &late, &["--time", "when"]).unwrap_err());
    assert!(error.contains("70 training rows whose label is 0"), "{error}");
}

#[test]
fn the_card_has_the_baselines_and_warns_if_the_model_does_not_beat_them() {
    let folder = tempfile::tempdir().unwrap();
    // A linear rule, which a logistic regression can learn, and random labels.
    let table = |rule: &dyn Fn(u32) -> bool| {
        let rows: Vec<_> =
            (0..600u32).map(|row| format!("{},{},{}", row * 37 % 101, row * 53 % 89, u8::from(rule(row)))).collect();
        format!("a,b,label\n{}\n", rows.join("\n"))
    };
    let line = |row: u32| row * 37 % 101 + row * 7919 % 40 > 70;
    let card = card_of(&folder, "rows.csv", &table(&line), &["--members", "2"]).unwrap();
    let names: Vec<_> =
        card["baselines"].as_array().unwrap().iter().map(|part| part["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["base rate", "logistic"]);
    assert_eq!(card["baselines"][0]["count"], card["parts"][2]["count"]);
    assert!(card["baselines"][1]["normalised_entropy"].as_f64().unwrap() < 0.7, "{card}");
    assert!(card["parts"][2]["normalised_entropy"].as_f64().unwrap() < 0.7, "{card}");
    assert_eq!(card["spread"]["normalised_entropy"].as_array().unwrap().len(), 2);
    let counted: u64 = card["bins"].as_array().unwrap().iter().map(|bin| bin["count"].as_u64().unwrap()).sum();
    assert_eq!(Some(counted), card["parts"][2]["count"].as_u64());

    let mut state = 1u32;
    let coins: Vec<bool> = (0..600)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 31 == 1
        })
        .collect();
    let noise = |row: u32| coins[row as usize];
    let wild = ["--members", "1", "--hidden", "64", "--learning-rate", "0.1", "--patience", "1000", "--epochs", "60"];
    let card = card_of(&folder, "rows.csv", &table(&noise), &wild).unwrap();
    assert!(card["parts"][2]["normalised_entropy"].as_f64().unwrap() > 1.0, "{card}");
    let notes = card["notes"].to_string();
    assert!(notes.contains("no better than the base rate") && notes.contains("Try "), "{notes}");
    // A single tiny step.
    let idle = ["--members", "1", "--hidden", "1", "--learning-rate", "1e-6", "--epochs", "1"];
    let notes = card_of(&folder, "rows.csv", &table(&line), &idle).unwrap()["notes"].to_string();
    assert!(notes.contains("worse than a logistic regression") && notes.contains("significant"), "{notes}");
}

#[test]
fn a_calibration_that_worsens_the_test_rows_is_omitted_unless_requested() {
    let folder = tempfile::tempdir().unwrap();
    // The validation rows in the middle follow another rule.
    let rows: Vec<_> = (0..1_000u32)
        .map(|row| {
            let a = row * 37 % 101;
            let high = row * 7_919 % 101 < a;
            format!("{row},{a},{}", u8::from(if (700..850).contains(&row) { row % 10 == 0 } else { high }))
        })
        .collect();
    let table = format!("when,a,label\n{}\n", rows.join("\n"));
    let fixed = ["--time", "when", "--members", "1", "--epochs", "20", "--calibrate", "platt"];
    let card = card_of(&folder, "rows.csv", &table, &fixed).unwrap();
    assert!(card["calibration"].is_null() && card["notes"].to_string().contains("is omitted"), "{card}");
    let card = card_of(&folder, "rows.csv", &table, &[&fixed[..], &["--keep-calibration"]].concat()).unwrap();
    assert_eq!(card["calibration"]["method"], "platt", "{card}");
    assert!(card["notes"].to_string().contains("is written because of --keep-calibration"), "{card}");
}

#[test]
fn averaged_networks_are_one_network_of_the_same_form() {
    let folder = tempfile::tempdir().unwrap();
    let data = xnor(&folder);
    let trained = train(&data, &TrainSpec { members: 3, hidden: vec![6], ..TrainSpec::default() }).unwrap();
    assert_eq!(trained.network.units(), 18);
    let mut model =
        OnnxModel::load(&runtime(), &spec(&write(&folder, &trained, &data.features, None)), &[], "").unwrap();
    let expected = trained.network.score(&data.matrix(&[0, 1, 2, 3])).unwrap();
    for (found, expected) in score(&mut model, 4, &data.values).iter().zip(expected) {
        assert!((found - expected).abs() < 1e-5, "{found} {expected}");
    }
}

#[test]
fn networks_of_several_layers_score_the_same_in_onnx_runtime() {
    let folder = tempfile::tempdir().unwrap();
    let data = xnor(&folder);
    let spec = TrainSpec { members: 2, hidden: vec![8, 4], epochs_max: 40, ..TrainSpec::default() };
    let trained = train(&data, &spec).unwrap();
    assert_eq!((trained.network.branches.len(), trained.network.units()), (2, 24));
    let mut model =
        OnnxModel::load(&runtime(), &ModelSpec::at(write(&folder, &trained, &data.features, None)), &[], "").unwrap();
    let values = [0.0, 1.0, f32::NAN, 0.5, f32::INFINITY, -3.0];
    let mut matrix = FeatureMatrix::new(2);
    matrix.reset(3).copy_from_slice(&values);
    let expected = trained.network.score(&matrix).unwrap();
    for (found, expected) in score(&mut model, 3, &values).iter().zip(expected) {
        assert!((found - expected).abs() < 1e-5, "{found} {expected}");
    }
}

/// Rows of which this share are positive, more for larger values of one feature.
fn rare(rows: u32, rate: f64) -> Dataset {
    let mut data = Dataset { features: names(&["a", "b"]), ..Dataset::default() };
    let mut state = 7u32;
    let mut draw = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(state >> 8) / f64::from(1 << 24)
    };
    for _ in 0..rows {
        let [a, b, chance] = [draw(), draw(), draw()];
        data.values.extend([a as f32, b as f32]);
        data.labels.push(chance < 2.0 * rate * a);
    }
    data
}

#[test]
fn with_class_weights_and_fewer_negatives_the_mean_score_is_the_base_rate() {
    let folder = tempfile::tempdir().unwrap();
    let data = rare(6_000, 0.06);
    let rows: Vec<usize> = (0..data.rows()).collect();
    let rate = data.labels.iter().filter(|label| **label).count() as f64 / 6_000.0;
    let error = (rate * (1.0 - rate) / 6_000.0).sqrt();
    let cases = [(ClassWeight::Fixed(1.0), 0.2), (ClassWeight::Balanced, 1.0), (ClassWeight::Fixed(4.0), 0.5)];
    for (class_weight, keep_negatives) in cases {
        let balance = Balance { class_weight, keep_negatives };
        let trained = train(&data, &TrainSpec { members: 1, epochs_max: 12, balance, ..TrainSpec::default() }).unwrap();
        let path = write(&folder, &trained, &trained.features, None);
        let mut model = OnnxModel::load(&runtime(), &spec(&path), &[], "").unwrap();
        let scores = score(&mut model, rows.len(), &data.values);
        let mean = scores.iter().copied().map(f64::from).sum::<f64>() / 6_000.0;
        assert!((mean - rate).abs() < 3.0 * error, "{balance:?}: mean score {mean}, rate {rate}, error {error}");
        let auc = trained.parts[2].summary.auc.unwrap();
        assert!(auc > 0.6, "{balance:?}: {auc}");
    }
}

#[test]
fn augmented_rows_train_a_model_that_is_measured_on_rows_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let rows: Vec<_> = (0..600u32)
        .map(|row| format!("{},{},{}", row * 37 % 101, row * 53 % 89, u8::from(row * 37 % 101 > 50)))
        .collect();
    let table = format!("a,b,label\n{}\n", rows.join("\n"));
    let plain = ["--members", "1", "--epochs", "20"];
    let augmented = [&plain[..], &["--augment", "noise=0.1,feature-dropout=0.1,mixup=0.2"]].concat();
    let [plain, first, second] =
        [&plain[..], &augmented, &augmented].map(|more| card_of(&folder, "rows.csv", &table, more).unwrap());
    assert_eq!(first["parts"], second["parts"], "the seed determines the disturbance");
    assert_ne!(plain["parts"], first["parts"]);
    assert_eq!(first["training"]["mixup"], 0.2);
    assert_eq!(first["parts"][2]["positives"], plain["parts"][2]["positives"], "labels of test rows are not mixed");
    assert!(first["parts"][2]["auc"].as_f64().unwrap() > 0.95, "{first}");
}

/// 600 rows with a rule in one of two columns, a time, and some noise in the labels.
fn noisy_line() -> String {
    let row = |row: u32| {
        let (a, b) = (row * 37 % 101, row * 53 % 89);
        format!("{row},{a},{b},{}", u8::from(a + row * 7_919 % 40 > 70))
    };
    format!("when,a,b,label\n{}\n", (0..600).map(row).collect::<Vec<_>>().join("\n"))
}

#[test]
fn every_fault_of_the_rows_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let row = |row: u32| {
        let copied = if row >= 380 { row - 380 } else { row };
        let (a, label) = (copied * 37 % 101, u8::from(copied % 3 == 0));
        let wild = if copied == 7 { "1e30".to_owned() } else { a.to_string() };
        format!("{a},{label},4,,{wild},{label}")
    };
    let rows: Vec<_> = (0..400).map(row).collect();
    let table = format!("a,paid,same,empty,wild,label\n{}\n", rows.join("\n"));
    let card = card_of(&folder, "rows.csv", &table, &["--members", "1", "--epochs", "2"]).unwrap();
    let notes = card["notes"].to_string().replace('\\', "");
    for expected in [
        "feature \"paid\" alone tells the label (AUC 1.0000)",
        "\"same\": constant in all training rows",
        "\"empty\": missing in all training rows",
        "feature \"wild\": values up to 1.000e30",
        "rows are copies of others",
    ] {
        assert!(notes.contains(expected), "{expected}: {notes}");
    }
    assert!(card["parts"][2]["log_loss"].is_number(), "{card}");
}

#[test]
fn pruning_makes_the_graph_smaller_and_says_what_it_costs() {
    let folder = tempfile::tempdir().unwrap();
    let more = ["--members", "2", "--hidden", "16,8", "--epochs", "20", "--time", "when", "--prune", "0.5"];
    let card = card_of(&folder, "rows.csv", &noisy_line(), &more).unwrap();
    let pruning = &card["pruning"];
    assert_eq!(pruning["units"], serde_json::json!([48, 24]), "{card}");
    assert_eq!(pruning["parameters"], serde_json::json!([2 * (48 + 136 + 9), 2 * (24 + 36 + 5)]), "{card}");
    assert!(pruning["bytes"][1].as_u64().unwrap() < pruning["bytes"][0].as_u64().unwrap(), "{card}");
    let size = fs::metadata(folder.path().join("model.onnx")).unwrap().len();
    assert!(size.abs_diff(pruning["bytes"][1].as_u64().unwrap()) < 200, "{size}: {card}");
    assert_eq!(pruning["log_loss"][1], card["parts"][2]["log_loss"], "the figures after are those of the model");
    assert!(pruning["epochs"].as_u64().unwrap() > 0 && pruning["log_loss"][0].is_number(), "{card}");
    assert!(card["parts"][2]["auc"].as_f64().unwrap() > 0.8, "{card}");
    OnnxModel::load(&runtime(), &spec(&folder.path().join("model.onnx")), &[], "").unwrap();
}

#[test]
fn a_quantised_model_is_smaller_and_scores_nearly_the_same_whatever_rows_are_beside() {
    let folder = tempfile::tempdir().unwrap();
    let floats = ["--members", "1", "--hidden", "64,32", "--epochs", "6", "--time", "when"];
    let whole = [&floats[..], &["--quantise"]].concat();
    let path = folder.path().join("model.onnx");
    let load = || OnnxModel::load(&runtime(), &spec(&path), &[], "").unwrap();
    let values: Vec<f32> = (0..200).flat_map(|row| [(row * 37 % 101) as f32, (row * 53 % 89) as f32]).collect();
    let card = card_of(&folder, "rows.csv", &noisy_line(), &floats).unwrap();
    assert!(card["quantisation"].is_null(), "{card}");
    let before = score(&mut load(), 200, &values);
    let card = card_of(&folder, "rows.csv", &noisy_line(), &whole).unwrap();
    let quantisation = &card["quantisation"];
    assert!(quantisation["bytes"][1].as_u64().unwrap() < quantisation["bytes"][0].as_u64().unwrap(), "{card}");
    assert_eq!(quantisation["bytes"][1], fs::metadata(&path).unwrap().len());
    let reported = quantisation["difference_max"].as_f64().unwrap();
    assert!(reported > 0.0 && reported < 0.05, "{card}");
    let [loss_before, loss_after] = [0, 1].map(|at| quantisation["log_loss"][at].as_f64().unwrap());
    assert!((loss_before - card["parts"][2]["log_loss"].as_f64().unwrap()).abs() < 1e-4, "{card}");
    assert!((loss_before - loss_after).abs() < 0.01, "{card}");
    let mut model = load();
    assert_eq!(card["sha256"], model.info().sha256);
    let together = score(&mut model, 200, &values);
    for (row, (before, after)) in before.iter().zip(&together).enumerate() {
        assert!((before - after).abs() < 0.05, "row {row}: {before} {after}");
        assert_eq!(score(&mut model, 1, &values[2 * row..2 * row + 2]), [*after], "row {row} alone");
    }
    let odd = score(&mut model, 2, &[f32::NAN, f32::INFINITY, 1e30, -1e30]);
    assert!(odd.iter().all(|score| (0.0..=1.0).contains(score)), "{odd:?}");
}

#[test]
fn folds_by_time_are_in_the_card_and_do_not_change_the_model() {
    let folder = tempfile::tempdir().unwrap();
    let plain = ["--members", "1", "--epochs", "8", "--time", "when"];
    let folded = [&plain[..], &["--folds", "3"]].concat();
    let [plain, card] = [&plain[..], &folded].map(|more| card_of(&folder, "rows.csv", &noisy_line(), more).unwrap());
    assert_eq!((&plain["sha256"], &plain["parts"]), (&card["sha256"], &card["parts"]));
    let folds = card["folds"].as_array().unwrap();
    let trained_on: Vec<_> = folds.iter().map(|fold| fold["trained_on"].as_u64().unwrap()).collect();
    assert_eq!(trained_on, [150, 300, 450]);
    for fold in folds {
        assert_eq!(fold["model"]["count"], 150, "{fold}");
        assert!(fold["model"]["auc"].is_number() && fold["logistic"]["normalised_entropy"].is_number(), "{fold}");
    }
    let table = noisy_line().replace("when,", "other,");
    let error = format!("{:#}", card_of(&folder, "rows.csv", &table, &["--folds", "3"]).unwrap_err());
    assert!(error.contains("name their column with --time"), "{error}");
}

#[test]
fn a_model_does_not_overwrite_its_own_card() {
    let folder = tempfile::tempdir().unwrap();
    let rows = folder.path().join("rows.csv");
    fs::write(&rows, noisy_line()).unwrap();
    for name in ["model.html", "model.json"] {
        let out = folder.path().join(name);
        let files = [&out, &rows].map(|path| path.clone().into_os_string());
        let command = Command::parse_from(["train", "--quiet", "--out"].map(Into::into).into_iter().chain(files));
        let error = format!("{:#}", run(&command.train).unwrap_err());
        assert!(error.contains("the model card has this name"), "{error}");
        assert!(!out.exists(), "{name}");
    }
}

#[test]
fn following_splits_by_time_so_it_takes_no_groups() {
    let refused = Command::try_parse_from(["train", "--follow", "6h", "--group", "user_key"]);
    let error = refused.err().expect("a group may reach beyond the split").to_string();
    assert!(error.contains("--group") && error.contains("--follow"), "{error}");
}

#[test]
fn batch_normalisation_is_in_the_card_and_folded_into_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    let fixed = ["--members", "1", "--epochs", "20", "--hidden", "8,4", "--time", "when"];
    let plain = card_of(&folder, "rows.csv", &noisy_line(), &fixed).unwrap();
    let bytes = fs::metadata(&path).unwrap().len();
    let normalised = [&fixed[..], &["--batch-norm"]].concat();
    let card = card_of(&folder, "rows.csv", &noisy_line(), &normalised).unwrap();
    assert_eq!((&plain["training"]["batch_norm"], &card["training"]["batch_norm"]), (&().into(), &true.into()));
    assert_eq!(fs::metadata(&path).unwrap().len(), bytes, "the layers are ordinary ones");
    assert!(card["parts"][2]["auc"].as_f64().unwrap() > 0.9, "{card}");
    assert!(fs::read_to_string(path.with_extension("html")).unwrap().contains("batch norm"));
    // ONNX Runtime scores a row as among others.
    let mut model = OnnxModel::load(&runtime(), &spec(&path), &[], "").unwrap();
    let values = [0.3, -0.2, -0.9, 0.4, 0.1, 0.8];
    let together = score(&mut model, 3, &values);
    for (row, together) in together.iter().enumerate() {
        let alone = score(&mut model, 1, &values[2 * row..2 * row + 2]);
        assert!((alone[0] - together).abs() < 1e-6, "row {row}");
    }
}
