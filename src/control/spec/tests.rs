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
        "control.dedupe_horizon: 1s is not between 1m and 2months",
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

fn budget(text: &str, bounds: CostBounds) -> (Option<Budget>, Vec<String>) {
    let mut errors = Vec::new();
    let budget = toml::from_str::<BudgetSpec>(text).unwrap().compile(3, bounds, &mut errors);
    (budget, shown(&errors))
}

#[test]
fn a_budget_is_compiled_with_the_highest_cost_of_an_impression() {
    let bounds = |ceiling, value| CostBounds { ceiling, value };
    for (text, bounds, mode, daily, cost_max) in [
        ("daily = 250", bounds(Some(5.0), None), Mode::Traffic, 250_000_000, 5_000),
        ("daily = 250\ntotal = 250.0\npacing = \"even\"", bounds(None, Some(3.0)), Mode::Even, 250_000_000, 3_000),
        ("daily = 0.004\npacing = \"asap\"", bounds(Some(4.0), Some(9.0)), Mode::Asap, 4_000, 4_000),
        ("daily = 1", bounds(Some(0.0001), None), Mode::Traffic, 1_000_000, 1),
    ] {
        let (budget, errors) = budget(text, bounds);
        assert_eq!(errors, Vec::<String>::new(), "{text}");
        let budget = budget.unwrap();
        assert_eq!((budget.mode, budget.daily, budget.cost_max), (mode, Some(Micros(daily)), Micros(cost_max)));
    }
}

#[test]
fn all_errors_of_a_budget_are_reported_at_once_with_the_next_step() {
    let ceiling = CostBounds { ceiling: Some(5.0), value: None };
    for (text, bounds, expected) in [
        ("", ceiling, &["campaign[3].budget: the budget has no amount; set daily, total or both"][..]),
        (
            "daily = 0\ntotal = -1.5",
            CostBounds::default(),
            &[
                "campaign[3].budget.daily: 0 is no amount above 0; write an amount such as 250.0",
                "campaign[3].budget.total: -1.5 is no amount above 0",
                "campaign[3].budget: nothing bounds what one impression may cost; set the campaign's ceiling",
            ],
        ),
        (
            "daily = 20\ntotal = 10",
            ceiling,
            &["campaign[3].budget.daily: 20.00 a day is more than 10.00 in total; lower daily, raise total"],
        ),
        (
            "daily = 0.001\ntotal = 0.004",
            ceiling,
            &[
                "campaign[3].budget.daily: 0.001 does not buy one impression, which costs up to 0.005; raise it",
                "campaign[3].budget.total: 0.004 does not buy one impression",
            ],
        ),
        ("daily = nan", ceiling, &["campaign[3].budget.daily: NaN is no amount above 0"]),
        ("daily = 1e-9", ceiling, &["campaign[3].budget.daily: 0.000000001 is no amount above 0"]),
        ("total = 1e18", ceiling, &["campaign[3].budget.total: 1000000000000000000 is no amount"]),
    ] {
        let (budget, errors) = budget(text, bounds);
        assert_eq!(budget, None, "{text}");
        assert_eq!(errors.len(), expected.len(), "{text}: {errors:#?}");
        for (shown, expected) in errors.iter().zip(expected) {
            assert!(shown.starts_with(expected), "{text}: {shown}");
        }
    }
    assert!(toml::from_str::<BudgetSpec>("dayly = 3").is_err());
    assert!(toml::from_str::<BudgetSpec>("pacing = \"fast\"").is_err());
}

#[test]
fn every_key_has_a_description() {
    for schema in [schemars::schema_for!(ControlSpec), schemars::schema_for!(BudgetSpec)] {
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
