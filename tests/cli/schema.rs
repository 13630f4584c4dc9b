//! The JSON Schema and the program agree: both accept the shipped configurations and reject wrong ones.

use crate::{aimpoint, folder_with, path, repository};
use jsonschema::Validator;
use serde_json::Value;

fn schema() -> Validator {
    let (code, out, error) = aimpoint(&["reference", "schema"], &[]);
    assert_eq!(code, 0, "{error}");
    let schema: Value = serde_json::from_str(&out).unwrap();
    jsonschema::meta::validate(&schema).unwrap();
    jsonschema::validator_for(&schema).unwrap()
}

/// The schema's errors for a TOML text.
fn faults(schema: &Validator, text: &str) -> Vec<String> {
    let value = serde_json::to_value(toml::from_str::<toml::Table>(text).unwrap()).unwrap();
    schema.iter_errors(&value).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

#[test]
fn the_schema_accepts_every_shipped_configuration() {
    let schema = schema();
    let read = |name: &str| std::fs::read_to_string(repository(name)).unwrap();
    let values: Value = serde_saphyr::from_str(&read("deploy/helm/aimpoint/values.yaml")).unwrap();
    for (name, text) in [
        ("default.toml", read("src/config/default.toml")),
        ("the demo's", read("deploy/demo/aimpoint.toml")),
        ("the benches'", read("benches/peers/aimpoint.toml")),
        ("the chart's", values["config"].as_str().unwrap().to_owned()),
    ] {
        assert_eq!(faults(&schema, &text), Vec::<String>::new(), "{name}");
    }
}

#[test]
fn the_schema_and_the_program_reject_the_same_names_and_types() {
    let schema = schema();
    for (text, key) in [
        ("[enigne]\nworkers = 2\n", "enigne"),
        ("[engine]\nwrokers = 2\n", "wrokers"),
        ("[engine]\nworkers = \"two\"\n", "workers"),
        ("[commit]\ninterval = 25\n", "interval"),
        ("[commit]\ndelivery = \"twice\"\n", "delivery"),
        ("[kafka]\nclient = 5\n", "client"),
        ("[input]\nmax_bytes = true\n", "max_bytes"),
        ("[time]\nmissing = 1\n", "missing"),
        ("[model]\nname = \"m\"\n", "path"),
        ("[model]\npath = \"m.onnx\"\ncalibration = { method = \"guess\" }\n", "calibration"),
        ("[[segment]]\nid = \"a\"\nwhere = \"true\"\nwere = \"true\"\n", "were"),
        ("[[feature]]\nname = \"n\"\naggregate = \"cuont\"\nwindow = \"1h\"\n", "aggregate"),
        ("[[feature]]\nname = \"n\"\naggregate = \"count\"\nwindw = \"1h\"\n", "windw"),
        ("[segment]\nid = \"a\"\n", "segment"),
        ("[label]\nwhere = \"true\"\n", "within"),
    ] {
        let errors = faults(&schema, text);
        assert!(errors.iter().any(|fault| fault.contains(key)), "the schema accepts\n{text}{errors:?}");
        let folder = folder_with(&[("a.toml", text)]);
        let (code, _, error) = aimpoint(&["check", "--offline", "--config", &path(&folder, "a.toml")], &[]);
        assert!(code == 78 && error.contains(key), "the program accepts\n{text}{error}");
    }
}

#[test]
fn values_with_two_forms_are_accepted_in_both() {
    let schema = schema();
    for text in [
        "[input]\nmax_bytes = 1048576\n",
        "[input]\nmax_bytes = \"1 MiB\"\n",
        "[input.fields]\noccurred_at = \"ts\"\n",
        "[input.fields]\noccurred_at = { path = \"ts\", unit = \"ms\" }\n",
        "[kafka.client]\n\"socket.timeout.ms\" = 5000\n\"client.rack\" = \"a\"\n\"socket.keepalive.enable\" = true\n",
        "[admin]\naddress = \"0.0.0.0:9464\"\n",
        "[[feature]]\nname = \"n\"\naggregate = \"decayed_sum\"\nvalue = \"value\"\nhalf_life = \"1h\"\n",
    ] {
        assert_eq!(faults(&schema, text), Vec::<String>::new(), "{text}");
        let folder = folder_with(&[("a.toml", text)]);
        let (code, out, error) = aimpoint(&["check", "--offline", "--config", &path(&folder, "a.toml")], &[]);
        assert_eq!(code, 0, "{text}{out}{error}");
    }
}
