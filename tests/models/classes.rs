//! Classifiers as their libraries export them: the positive class is found by names, maps, labels and shapes, or has to
//! be configured.

use super::{check, expected, load, matrix, runtime};
use aimpoint::inference::{FeatureMatrix, Model, ModelSpec, OnnxModel};

/// Once `zipmap="columns"` gave the probability of class 0, and the default export was refused.
#[test]
fn the_positive_class_is_found_by_the_labels_of_every_export() {
    for name in [
        "sklearn_zipmap",
        "sklearn_text",
        "sklearn_columns",
        "sklearn_columns_text",
        // The positive class comes first.
        "sklearn_first",
        // The labels are only in the weights.
        "sklearn_network",
        "lightgbm_zipmap",
    ] {
        check(name, |_| {});
    }
    let described = |name: &str| load(name, |_| {}).unwrap().info().output.clone();
    assert_eq!(described("sklearn_zipmap"), "\"output_probability\", class \"1\"");
    assert_eq!(described("sklearn_columns_text"), "\"syes\", class \"yes\"");
    assert_eq!(described("lightgbm"), "\"probabilities\", class \"1\"");
    assert_eq!(described("linear"), "\"score\"");
}

#[test]
fn an_ambiguous_class_is_refused_with_the_choices_and_accepted_when_named() {
    for (name, classes) in [("sklearn_words", "\"churn\", \"stay\""), ("sklearn_three", "\"0\", \"1\", \"2\"")] {
        let error = load(name, |_| {}).unwrap_err().to_string();
        let expected = format!(
            "output \"output_probability\" has the classes {classes}, and it is unclear which of them is the positive one"
        );
        assert!(error.contains(&expected) && error.contains("class = "), "{error}");
    }
    check("sklearn_words", |spec| spec.class = Some("churn".to_owned()));
    check("sklearn_three", |spec| spec.class = Some("2".to_owned()));
    check("sklearn_first", |spec| spec.class = Some("click".to_owned()));
    let error = load("sklearn_words", |spec| spec.class = Some("bought".to_owned())).unwrap_err().to_string();
    assert!(error.contains("none is \"bought\""), "{error}");
    for class in ["bought", "0"] {
        let error = load("linear", |spec| spec.class = Some(class.to_owned())).unwrap_err().to_string();
        assert!(error.contains("has no classes; remove class"), "{error}");
    }
    // The message must not offer one of them: anyone pasting it would get the negative class half of the time.
    let error = load("sklearn_words", |_| {}).unwrap_err().to_string();
    assert!(error.contains("class = \"churn\" or class = \"stay\""), "{error}");
}

#[test]
fn another_class_or_column_is_used_when_named() {
    for (name, change) in [
        ("sklearn_zipmap", (|spec| spec.class = Some("0".to_owned())) as fn(&mut ModelSpec)),
        ("sklearn_columns", |spec| spec.class = Some("0".to_owned())),
        ("sklearn_columns", |spec| spec.output = Some("i0".to_owned())),
        ("sklearn_columns_text", |spec| spec.class = Some("no".to_owned())),
        ("sklearn_first", |spec| spec.class = Some("no_click".to_owned())),
    ] {
        let mut model = load(name, change).unwrap();
        let (matrix, mut scores) = (matrix(name, &model), Vec::new());
        model.score(&matrix, &mut scores).unwrap();
        let expected = expected(name).expected.into_values().flatten();
        assert!(
            scores.iter().zip(expected).all(|(score, other)| (f64::from(*score) + other - 1.0).abs() < 1e-5),
            "{name}"
        );
    }
}

/// Two outputs that could be the score.
#[test]
fn several_outputs_are_refused_unless_all_but_one_are_heads() {
    let error = load("two_heads", |_| {}).unwrap_err().to_string();
    assert!(
        error.contains("expected one output that can be the score") && error.contains("\"conversion\": f32"),
        "{error}"
    );
    assert!(error.contains("output = "), "{error}");
    load("two_heads", |spec| spec.output = Some("click".to_owned())).unwrap();
    let heads = |spec: &mut ModelSpec| drop(spec.heads.insert("bought".to_owned(), "conversion".to_owned()));
    assert_eq!(load("two_heads", heads).unwrap().info().output, "\"click\"");
}

#[test]
fn a_class_can_be_a_string_number_or_boolean() {
    for (text, class) in [("\"yes\"", "yes"), ("1", "1"), ("-1", "-1"), ("true", "true")] {
        let spec: ModelSpec = toml::from_str(&format!("path = \"m.onnx\"\nclass = {text}")).unwrap();
        assert_eq!(spec.class.as_deref(), Some(class));
    }
}

/// As `torch.onnx.export` writes models by default since PyTorch 2.9.
#[test]
fn external_weights_are_read_from_the_model_s_folder() {
    let external = super::path("external/model");
    let features = super::features(0..4);
    let mut model = OnnxModel::load(&runtime(), &ModelSpec::at(&external), &features, "").unwrap();
    let super::Expected { inputs, expected } = super::expected("external/model");
    let rows = &inputs["input"];
    let values: Vec<f32> = rows.iter().flatten().map(|it| it.unwrap()).collect();
    let mut matrix = FeatureMatrix::new(4);
    matrix.reset(rows.len()).copy_from_slice(&values);
    let mut scores = Vec::new();
    for model in [&mut model.twin().unwrap(), &mut model] {
        model.score(&matrix, &mut scores).unwrap();
        assert!(scores.iter().zip(&expected["score"]).all(|(it, owed)| (f64::from(*it) - owed).abs() < 1e-5));
    }

    // The weights are missing or too short.
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("model.onnx");
    std::fs::copy(&external, &copy).unwrap();
    let refusal = || OnnxModel::load(&runtime(), &ModelSpec::at(&copy), &features, "").unwrap_err().to_string();
    let error = refusal();
    assert!(error.contains("in \"model.onnx.data\"") && error.contains("does not exist"), "{error}");
    std::fs::write(dir.path().join("model.onnx.data"), [0; 7]).unwrap();
    let error = refusal();
    assert!(error.contains("found a file of 7 bytes"), "{error}");
}
