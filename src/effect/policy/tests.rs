//! Tests of policies: against known rewards, and for what a log does not tell.

use super::*;
use crate::{
    control::ControlSpec,
    effect::{
        CampaignPlan, Dimension, EffectReport, Plan,
        tests::{Draws, SECOND, START, evaluate_with},
    },
    targeting::{
        creative::{Beta, CreativeSpec},
        policy::{CreativeMethod, CreativePolicy, EVERYBODY},
    },
};
use std::collections::BTreeMap;

/// Creatives of the campaign `spring` with their weights.
const CREATIVES: [(&str, f64); 3] = [("red", 1.0), ("blue", 1.0), ("green", 2.0)];

/// The click rates of red, blue and green for keen users and for everybody else.
const RATES: [[f64; 3]; 2] = [[0.10, 0.30, 0.15], [0.20, 0.05, 0.15]];

fn catalogue(paused: &[&str]) -> Catalogue {
    let spec = |(id, weight): (&str, f64)| -> CreativeSpec {
        let state = if paused.contains(&id) { "paused" } else { "active" };
        toml::from_str(&format!(
            "id = {id:?}\ncampaign = \"spring\"\nlanding_page = \"https://shop.example\"\nheadline = [\"x\"]\nweight = {weight:?}\nstate = {state:?}"
        ))
        .unwrap()
    };
    let specs: Vec<CreativeSpec> = CREATIVES.map(spec).into();
    let mut errors = Vec::new();
    let catalogue = Catalogue::compile(&specs, &mut errors);
    assert!(errors.is_empty(), "{errors:?}");
    catalogue
}

fn plan_of(policy: TargetPolicy, clip: Option<f64>) -> PolicyPlan {
    let rotating = Rotating {
        campaign: "spring".to_owned(),
        audiences: vec!["keen".to_owned()],
        features: Vec::new(),
        floor: 0.01,
        reward: Label::Click,
    };
    PolicyPlan { name: "asked".to_owned(), policy, campaigns: vec![rotating], catalogue: catalogue(&[]), clip, seed: 1 }
}

/// What control has learned: the true rates, from `weight` impressions.
fn learned(weight: f64) -> BTreeMap<String, CreativePolicy> {
    let beta = |rate: f64| Beta { alpha: weight * rate, beta: weight * (1.0 - rate) };
    let of = |at: usize| {
        let audiences = [("keen", RATES[0][at]), (EVERYBODY, RATES[1][at])];
        audiences.map(|(audience, rate)| (audience.to_owned(), beta(rate))).into()
    };
    let posteriors = (0..3).map(|at| (CREATIVES[at].0.to_owned(), of(at))).collect();
    let method = CreativeMethod::Thompson { prior: beta(0.1), posteriors };
    [("spring".to_owned(), CreativePolicy { floor: 0.01, method })].into()
}

/// Lines of JSON, each with its time of arrival.
type Lines = Vec<(i64, String)>;

/// The probabilities of a choice by weight: 1/4, 1/4 and 1/2, but for the floor.
const SHARES: [f64; 3] = [0.2525, 0.2525, 0.495];

/// A log of impressions that were chosen by weight, half of them of keen users.
fn log(seed: u64, rows: i64) -> (Lines, Lines) {
    let mut draws = Draws(seed);
    let (mut decisions, mut outcomes) = (Vec::new(), Vec::new());
    for number in 0..rows {
        let at = START + number * SECOND;
        let place = draws.below(10_000);
        let creative = usize::from(place >= 2_525) + usize::from(place >= 5_050);
        let (is_keen, share) = (draws.chance(0.5), SHARES[creative]);
        let audience = if is_keen { r#","audience":"keen""# } else { "" };
        let id = CREATIVES[creative].0;
        decisions.push((at, format!(
            r#"{{"decision_id":"shop:d-0-{number}","user_key":"u{number}","decided_at":"{at}","campaigns":[{{"id":"spring","currency":"EUR","creative":{{"id":"{id}","propensity":{share},"policy":"weights"{audience}}}}}]}}"#
        )));
        let is_clicked = draws.chance(RATES[usize::from(!is_keen)][creative]);
        for kind in ["impression", "click"].into_iter().take(1 + usize::from(is_clicked)) {
            outcomes.push((at + SECOND, format!(
                r#"{{"outcome_id":"{kind}{number}","type":"{kind}","occurred_at":{},"decision_id":"shop:d-0-{number}"}}"#,
                at + SECOND
            )));
        }
    }
    (decisions, outcomes)
}

fn evaluate_log(policy: PolicyPlan, decisions: &[(i64, String)], outcomes: &[(i64, String)]) -> EffectReport {
    let campaign = CampaignPlan {
        label: Some(Label::Click),
        reward: Label::Click,
        currency: "EUR".parse().unwrap(),
        arms: Vec::new(),
        holdout: 0.0,
        features: Vec::new(),
    };
    let plan = Plan {
        by: vec![Dimension::parse("creative").unwrap()],
        campaigns: [("spring".to_owned(), campaign)].into(),
        variants: Vec::new(),
        click_after: 60 * SECOND,
        conversion_after: 60 * SECOND,
        complete_until: Some(START + 1_000_000 * SECOND),
        minimum_audience: 0,
        confidence: Confidence::P95,
        effect: 0.1,
        charts: false,
        attribution: None,
        labels: false,
    };
    evaluate_with(&ControlSpec::default(), plan, Some(policy), decisions, outcomes)
}

fn report(policy: TargetPolicy, seed: u64, rows: i64) -> PolicyReport {
    let (decisions, outcomes) = log(seed, rows);
    let report = evaluate_log(plan_of(policy, None), &decisions, &outcomes);
    assert_eq!(report.policy.as_deref(), Some("asked"));
    report.policies[0].clone()
}

/// The mean reward of a policy with these probabilities for keen users and for others.
fn truth(shares: [[f64; 3]; 2]) -> f64 {
    let of = |at: usize| shares[at].iter().zip(RATES[at]).map(|(share, rate)| share * rate).sum::<f64>();
    f64::midpoint(of(0), of(1))
}

#[test]
fn the_estimates_of_each_policy_cover_its_true_reward() {
    let third = [1.0 / 3.0; 3];
    // What a worker shows with certain knowledge is the best creative, but for the floor.
    let floored = [[0.01, 0.98, 0.01], [0.98, 0.01, 0.01]];
    for (policy, expected) in [
        (TargetPolicy::Uniform, truth([third; 2])),
        (TargetPolicy::Weight, truth([SHARES; 2])),
        (TargetPolicy::Best(learned(1e6)), truth([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])),
        (TargetPolicy::Learned(learned(1e6)), truth(floored)),
    ] {
        let found = report(policy.clone(), 7, 4_000);
        assert_eq!((found.other_creatives, found.without_propensity, found.immature), (0, 0, 0), "{policy:?}");
        let logged = found.logged.unwrap();
        assert!(logged.of == 4_000 && logged.interval.covers(truth([SHARES; 2])));
        let estimate = found.estimate.unwrap();
        assert_eq!(estimate.rows, 4_000);
        assert!((estimate.weight_mean.unwrap() - 1.0).abs() < 0.1, "{policy:?}");
        for one in [estimate.ips, estimate.snips, estimate.doubly_robust] {
            let one = one.unwrap();
            assert!(one.normal.unwrap().covers(expected), "{policy:?}: {expected} {one:?}");
        }
        println!("{policy:?}: {expected:.4}, {estimate:?}");
    }
    // For the logging policy itself, all weights are 1.
    let same = report(TargetPolicy::Weight, 7, 1_000);
    let estimate = same.estimate.unwrap();
    assert!((estimate.effective_sample_size.unwrap() - 1_000.0).abs() < 1e-3);
    assert!((estimate.ips.unwrap().value - same.logged.unwrap().value).abs() < 1e-6);
}

#[test]
fn the_intervals_for_a_learned_policy_cover_as_often_as_they_say_and_the_model_narrows_them() {
    let expected = truth([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]);
    let (mut covered, mut widths) = ([0; 2], [0.0; 2]);
    let logs = 100;
    for seed in 0..logs {
        let estimate = report(TargetPolicy::Best(learned(1e6)), 100 + seed, 400).estimate.unwrap();
        for (at, one) in [estimate.ips, estimate.doubly_robust].into_iter().enumerate() {
            let interval = one.unwrap().normal.unwrap();
            covered[at] += u32::from(interval.covers(expected));
            widths[at] += interval.high - interval.low;
        }
    }
    println!("of {logs}, IPS and DR cover {covered:?}; widths {widths:?}");
    // 95 with a deviation of 2.2, and skewed.
    assert!(covered.iter().all(|count| (87..=100).contains(count)), "{covered:?}");
    assert!(widths[1] < widths[0]);
}

#[test]
fn what_the_log_does_not_tell_is_left_out_and_counted() {
    let (mut decisions, mut outcomes) = log(3, 300);
    let replace = |decisions: &mut Lines, at: usize, from: &str, to: &str| {
        assert!(decisions[at].1.contains(from), "{}", decisions[at].1);
        decisions[at].1 = decisions[at].1.replace(from, to);
    };
    replace(&mut decisions, 0, r#""propensity":0."#, r#""propensity":0.1234"#);
    replace(&mut decisions, 1, r#""propensity":0."#, r#""propensity":-0."#);
    replace(&mut decisions, 2, r#""creative":{"id":""#, r#""creative":{"id":"un"#);
    // Only what was chosen by weight can be checked.
    replace(&mut decisions, 3, r#""propensity":0."#, r#""propensity":0.0"#);
    replace(&mut decisions, 3, "weights", "thompson");
    // The bidder has shown another creative.
    let shown = outcomes.iter_mut().find(|(_, line)| line.contains("\"impression4\"")).unwrap();
    shown.1 = shown.1.replace('}', r#","campaign_id":"spring","creative_id":"none"}"#);
    let found = evaluate_log(plan_of(TargetPolicy::Uniform, Some(3.0)), &decisions, &outcomes);
    let policy = &found.policies[0];
    assert_eq!((policy.other_creatives, policy.without_propensity, found.totals.other_creative), (1, 2, 1));
    let estimate = policy.estimate.unwrap();
    assert_eq!(estimate.rows, 296);
    assert!((estimate.clipped_share.unwrap() - 1.0 / 296.0).abs() < 1e-12, "the weight of row 3 is clipped");

    // A creative that is paused now was eligible then: its rows cannot be weighed, and neither can the others.
    let paused = PolicyPlan { catalogue: catalogue(&["red"]), ..plan_of(TargetPolicy::Uniform, None) };
    let (decisions, outcomes) = log(3, 300);
    let found = evaluate_log(paused, &decisions, &outcomes).policies[0].clone();
    assert_eq!((found.other_creatives, found.estimate), (300, None));
    assert!(found.unknown.unwrap().contains("no impressions"));
}

#[test]
fn a_policy_that_knows_nothing_of_a_campaign_says_so() {
    for (policy, part) in [
        (TargetPolicy::Best(BTreeMap::new()), "control has learned nothing"),
        (TargetPolicy::Learned(BTreeMap::new()), "control has learned nothing"),
        (
            TargetPolicy::Best(
                [(
                    "spring".to_owned(),
                    CreativePolicy {
                        floor: 0.0,
                        method: CreativeMethod::Thompson {
                            prior: Beta { alpha: 1.0, beta: 9.0 },
                            posteriors: BTreeMap::new(),
                        },
                    },
                )]
                .into(),
            ),
            "control has learned nothing of its creatives",
        ),
        (
            TargetPolicy::Best(
                [("spring".to_owned(), CreativePolicy { floor: 0.0, method: CreativeMethod::Weights })].into(),
            ),
            "none is known to be the best",
        ),
        (
            TargetPolicy::Learned(
                [("spring".to_owned(), CreativePolicy { floor: 0.0, method: CreativeMethod::Unknown })].into(),
            ),
            "does not fit the configuration",
        ),
    ] {
        let found = report(policy, 1, 50);
        assert!(found.unknown.as_ref().is_some_and(|why| why.contains(part)), "{found:?}");
        assert!(found.estimate.is_none() && found.logged.is_some());
    }
}
