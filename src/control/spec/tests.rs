//! Tests of the sections.

use super::*;

fn shown(errors: &[ConfigError]) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn the_defaults_are_valid_and_survive_their_text() {
    let mut errors = Vec::new();
    let spec = ControlSpec::default();
    spec.check(&mut errors);
    assert_eq!(errors, []);
    let text = toml::to_string(&spec).unwrap();
    assert!(text.contains("policy_interval = \"5s\"") && text.contains("stale_after = \"1m\""), "{text}");
    assert_eq!(toml::from_str::<ControlSpec>(&text), Ok(spec.clone()));
    assert_eq!(toml::from_str::<ControlSpec>(""), Ok(spec.clone()));
    assert!(toml::from_str::<ControlSpec>("policy_intervall = \"5s\"").is_err());
    assert_eq!(spec.timing(), Timing { interval_ms: 5_000, lag_ms: 10_000, settle_ms: 300_000 });
}

#[test]
fn all_errors_of_control_are_reported_at_once() {
    let text = r#"
        policy_interval = "500ms"
        stale_after = "1s"
        dedupe_horizon = "1s"
        touches_max = 0
        attribution = { engagement = "10m", view = "60d", click = "1h" }
        learning = { click_after = "20m" }
    "#;
    let spec: ControlSpec = toml::from_str(text).unwrap();
    let mut errors = Vec::new();
    spec.check(&mut errors);
    let expected = [
        "control.policy_interval: 500ms is not between 1s and 1m",
        "control.dedupe_horizon: 1s is not between 1m and 90days",
        "control.attribution.view: ",
        "control.touches_max: 0 remembers nothing",
        "control.stale_after: a policy would be too old before the next but one is there; set at least three times",
        "control.attribution.engagement: clicks are awaited for longer than they count; set at least",
    ];
    let shown = shown(&errors);
    assert_eq!(shown.len(), expected.len(), "{shown:#?}");
    for (shown, expected) in shown.iter().zip(expected) {
        assert!(shown.starts_with(expected), "{shown}");
    }
}

#[test]
fn every_key_has_a_description() {
    for schema in [schemars::schema_for!(ControlSpec)] {
        let schema = serde_json::to_value(&schema).unwrap();
        let parts = schema["$defs"].as_object().into_iter().flat_map(|parts| parts.values()).chain([&schema]);
        let mut keys = 0;
        for (name, key) in parts.filter_map(|part| part["properties"].as_object()).flatten() {
            assert!(key["description"].is_string(), "{name}");
            keys += 1;
        }
        assert!(keys >= 3);
    }
}
