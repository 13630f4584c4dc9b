//! Tests of budgets.

use super::*;

fn shown(errors: &[ConfigError]) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
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
                "campaign[3].budget.daily: 0.0 is not an amount from 0.000001 to 9.2e12; write an amount such as 250.0",
                "campaign[3].budget.total: -1.5 is not an amount from",
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
        ("daily = nan", ceiling, &["campaign[3].budget.daily: NaN is not an amount from"]),
        ("daily = 1e-9", ceiling, &["campaign[3].budget.daily: 1e-9 is not an amount from"]),
        ("total = 1e18", ceiling, &["campaign[3].budget.total: 1e18 is not an amount"]),
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
