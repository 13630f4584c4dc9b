//! Tests of evaluations: against a naive recount of a generated log whose truth is known, and on odd records.

use super::*;
use crate::{
    control::{CampaignSetup, ControlSpec, DecisionRecord, Outcome, Source},
    evaluation::{Confidence, Prediction, auc, brier, log_loss, normalised_entropy, sample::Sample, wilson},
    random::mix,
    targeting::campaign::{Learning, Reward},
};
use jiff::tz::TimeZone;
use std::{collections::BTreeMap, collections::BTreeSet, time::Duration};

pub(super) const START: i64 = 1_767_225_600_000_000;
pub(super) const SECOND: i64 = 1_000_000;
const HOUR: i64 = 3_600 * SECOND;
const CLICK_AFTER: i64 = HOUR;
const CONVERSION_AFTER: i64 = 6 * HOUR;

/// SplitMix64.
pub(super) struct Draws(pub(super) u64);

impl Draws {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    pub(super) fn chance(&mut self, share: f64) -> bool {
        ((self.next() >> 11) as f64) < share * 2.0_f64.powi(53)
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

pub(super) fn setup(id: &str, currency: &str) -> CampaignSetup {
    CampaignSetup {
        id: id.to_owned(),
        currency: currency.parse().unwrap(),
        zone: TimeZone::UTC,
        budget: None,
        until: None,
        reward: Reward::Click,
        learning: Learning::Weights,
        floor: 0.01,
        creatives: Vec::new(),
    }
}

fn campaign(currency: &str, label: Option<Label>, arms: &[(&str, f64)], holdout: f64) -> CampaignPlan {
    CampaignPlan {
        label,
        reward: Label::Click,
        currency: currency.parse().unwrap(),
        arms: arms.iter().map(|(arm, share)| ((*arm).to_owned(), *share)).collect(),
        holdout,
    }
}

fn plan(by: &[&str]) -> Plan {
    let campaigns = [
        ("spring", campaign("EUR", Some(Label::Click), &[("bold", 0.25)], 0.25)),
        ("summer", campaign("USD", Some(Label::Conversion), &[], 0.0)),
        ("autumn", campaign("EUR", None, &[], 0.0)),
    ];
    Plan {
        by: by.iter().map(|name| Dimension::parse(name).unwrap()).collect(),
        campaigns: campaigns.map(|(id, campaign)| (id.to_owned(), campaign)).into(),
        variants: Vec::new(),
        click_after: CLICK_AFTER,
        conversion_after: CONVERSION_AFTER,
        complete_until: None,
        confidence: Confidence::P95,
        effect: 0.2,
    }
}

fn spec() -> ControlSpec {
    ControlSpec::default()
}

/// Evaluates lines of JSON, each with its time of arrival.
fn evaluate(plan: Plan, decisions: &[(i64, String)], outcomes: &[(i64, String)]) -> EffectReport {
    evaluate_with(&spec(), plan, None, decisions, outcomes)
}

pub(super) fn evaluate_with(
    spec: &ControlSpec,
    plan: Plan,
    policy: Option<PolicyPlan>,
    decisions: &[(i64, String)],
    outcomes: &[(i64, String)],
) -> EffectReport {
    let setups = plan.campaigns.iter().map(|(id, of)| setup(id, of.currency.code())).collect();
    let reads_members = plan.by.iter().any(Dimension::reads_members);
    let mut evaluation = Evaluation::new("shop", spec, setups, plan, policy).unwrap();
    let mut all: Vec<(i64, usize, usize)> = (0..decisions.len()).map(|at| (decisions[at].0, 0, at)).collect();
    all.extend((0..outcomes.len()).map(|at| (outcomes[at].0, 1, at)));
    all.sort_unstable();
    for (arrived_at, kind, at) in all {
        let topic = ["decisions", "outcomes"][kind];
        let source = Source { topic, partition: 0, offset: at as i64, arrived_at };
        if kind == 0 {
            let json = decisions[at].1.as_bytes();
            let value = reads_members.then(|| serde_json::from_slice(json).unwrap());
            evaluation.decision(&source, &DecisionRecord::read(json).unwrap(), value.as_ref()).unwrap();
        } else {
            let outcome = Outcome::read(Some(outcomes[at].1.as_bytes())).unwrap();
            drop(evaluation.outcome(&source, &outcome).unwrap());
        }
    }
    evaluation.finish(spec.wait).unwrap().report
}

/// What is true of an offer, as the generator knows it.
#[derive(Clone, Debug)]
struct Truth {
    campaign: &'static str,
    version: &'static str,
    user: u64,
    arm: &'static str,
    predicted: f64,
    price: Option<i64>,
    shown_at: Option<i64>,
    clicked_at: Option<i64>,
    converted_at: Option<i64>,
    value: i64,
}

#[derive(Default)]
struct World {
    decisions: Vec<(i64, String)>,
    outcomes: Vec<(i64, String)>,
    truth: Vec<Truth>,
    held_out: BTreeSet<u64>,
    held_out_converted: BTreeSet<u64>,
    end: i64,
}

impl World {
    fn outcome(&mut self, at: i64, number: usize, kind: &str, more: &str) {
        let id = self.outcomes.len();
        let campaign = self.truth[number].campaign;
        self.outcomes.push((
            at,
            format!(
                r#"{{"outcome_id":"o{id}","type":"{kind}","occurred_at":{at},"decision_id":"shop:d-0-{number}","campaign_id":"{campaign}"{more}}}"#
            ),
        ));
    }

    /// Three days of decisions about 600 users. The first model is calibrated, the second says twice the rate.
    fn new(seed: u64, decisions: usize) -> Self {
        let mut draws = Draws(seed);
        let mut world = Self::default();
        for number in 0..decisions {
            let at = START + number as i64 * 72 * HOUR / decisions as i64;
            world.end = at;
            let user = draws.below(600);
            let campaign = ["spring", "summer", "autumn"][draws.below(3) as usize];
            // A quarter each is held out and in the arm `bold`.
            let part = mix(user) % 4;
            if campaign == "spring" && part == 0 {
                let suppressed = r#""suppressed":[{"campaign_id":"spring","reason":"holdout"}]"#;
                let line = format!(
                    r#"{{"decision_id":"shop:d-0-h{number}","user_key":"u{user}","decided_at":"{at}",{suppressed}}}"#
                );
                world.decisions.push((at, line));
                world.held_out.insert(user);
                if draws.chance(0.02) {
                    let line = format!(
                        r#"{{"outcome_id":"h{number}","type":"conversion","occurred_at":{0},"user_key":"u{user}","campaign_id":"spring","value":3}}"#,
                        at + 60 * SECOND
                    );
                    world.outcomes.push((at + 60 * SECOND, line));
                    world.held_out_converted.insert(user);
                }
                continue;
            }
            let arm = if campaign != "spring" {
                ""
            } else if part == 1 {
                "bold"
            } else {
                "control"
            };
            let version = ["1", "2"][draws.below(2) as usize];
            let rate = 0.05 * (1 + draws.below(8)) as f64;
            let predicted = if version == "1" { rate } else { 2.0 * rate };
            let currency = if campaign == "summer" { "USD" } else { "EUR" };
            let mut truth = Truth {
                campaign,
                version,
                user,
                arm,
                predicted,
                price: None,
                shown_at: None,
                clicked_at: None,
                converted_at: None,
                value: 0,
            };
            let index = world.truth.len();
            world.decisions.push((
                at,
                format!(
                    r#"{{"decision_id":"shop:d-0-{index}","user_key":"u{user}","decided_at":"{at}","expires_at":"{}","model":{{"name":"m","version":"{version}"}},"campaigns":[{{"id":"{campaign}","arm":"{arm}","probability":{predicted},"bid_micros":"4000000","currency":"{currency}"}}]}}"#,
                    at + 60 * SECOND
                ),
            ));
            let clicks = draws.chance(if campaign == "spring" && arm == "bold" { rate * 1.5 } else { rate });
            let converts = campaign == "summer" && draws.chance(rate);
            if draws.chance(0.6) {
                truth.price = Some(1_000_000 + draws.below(2_000_000) as i64);
                truth.shown_at = Some(at + 2 * SECOND);
                let clicked_at = at + (3 + draws.below(1_000) as i64) * SECOND;
                truth.clicked_at = (clicks || converts).then_some(clicked_at);
                truth.converted_at = converts.then_some(clicked_at + (1 + draws.below(9_000) as i64) * SECOND);
                truth.value = 5 * i64::from(converts);
            }
            world.truth.push(truth.clone());
            match truth.price {
                Some(price) => {
                    let price = format!(r#","price":{}"#, price as f64 / 1e6);
                    world.outcome(at + SECOND, index, "win", &price);
                    world.outcome(at + 2 * SECOND, index, "impression", "");
                }
                None => world.outcome(at + SECOND, index, "loss", ""),
            }
            if let Some(at) = truth.clicked_at {
                world.outcome(at, index, "click", "");
            }
            if let Some(at) = truth.converted_at {
                world.outcome(at, index, "conversion", r#","value":5"#);
            }
        }
        world.outcomes.sort_by_key(|(at, _)| *at);
        // What happens after the last decision is not in the log yet.
        let end = world.end;
        world.outcomes.retain(|(at, _)| *at <= end);
        world
    }
}

/// The figures of some offers, counted again in the plainest way.
struct Recount {
    offers: u64,
    impressions: u64,
    clicks: u64,
    conversions: u64,
    spend: i64,
    click_rate: (u64, u64),
    conversion_rate: (u64, u64),
    predictions: Vec<Prediction>,
}

fn recount(world: &World, is_in: impl Fn(&Truth) -> bool) -> Recount {
    let end = world.end;
    let by = |at: Option<i64>| at.is_some_and(|at| at <= end);
    let mut found = Recount {
        offers: 0,
        impressions: 0,
        clicks: 0,
        conversions: 0,
        spend: 0,
        click_rate: (0, 0),
        conversion_rate: (0, 0),
        predictions: Vec::new(),
    };
    for it in world.truth.iter().filter(|it| is_in(it)) {
        found.offers += 1;
        let Some(shown_at) = it.shown_at else { continue };
        // A win is a second after its decision.
        found.spend += if shown_at - SECOND <= end { (it.price.unwrap() + 500) / 1_000 } else { 0 };
        if shown_at > end {
            continue;
        }
        found.impressions += 1;
        found.clicks += u64::from(by(it.clicked_at));
        found.conversions += u64::from(by(it.converted_at));
        let within = |at: Option<i64>, after: i64| at.is_some_and(|at| at <= shown_at + after);
        if shown_at + CLICK_AFTER <= end {
            let clicked = within(it.clicked_at, CLICK_AFTER);
            found.click_rate.0 += u64::from(clicked);
            found.click_rate.1 += 1;
            if it.campaign == "spring" {
                found.predictions.push(Prediction { probability: it.predicted, label: clicked });
            }
        }
        if shown_at + CONVERSION_AFTER <= end {
            let converted = within(it.converted_at, CONVERSION_AFTER);
            if within(it.clicked_at, CONVERSION_AFTER) {
                found.conversion_rate.0 += u64::from(converted);
                found.conversion_rate.1 += 1;
            }
            if it.campaign == "summer" {
                found.predictions.push(Prediction { probability: it.predicted, label: converted });
            }
        }
    }
    found
}

fn same(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-9, "{found} for {expected}");
}

fn check(of: &GroupReport, expected: &Recount) {
    let name = &of.name;
    let counts = (of.offers, of.impressions, of.clicks, of.conversions);
    assert_eq!(counts, (expected.offers, expected.impressions, expected.clicks, expected.conversions), "{name}");
    let spend: i64 = of.money.values().map(|money| money.spend_micros).sum();
    let revenue: i64 = of.money.values().map(|money| money.revenue_micros).sum();
    assert_eq!((spend, revenue), (expected.spend, 5_000_000 * expected.conversions as i64), "{name}");
    for (rate, (count, all)) in [(of.click_rate, expected.click_rate), (of.conversion_rate, expected.conversion_rate)] {
        let Some(rate) = rate else {
            assert_eq!(all, 0, "{name}");
            continue;
        };
        assert_eq!((rate.count, rate.of), (count, all), "{name}");
        let interval = wilson(count, all, Confidence::P95).unwrap();
        assert_eq!(rate.interval, interval, "{name}");
    }
    let rows = &expected.predictions;
    assert_eq!(of.immature_labels + of.unpredicted + rows.len() as u64, of.impressions, "{name}");
    let Some(quality) = &of.quality else {
        assert!(rows.len() < 100, "{name}");
        return;
    };
    let figures = &quality.figures;
    assert_eq!(figures.rows, rows.len() as u64, "{name}");
    same(figures.log_loss.unwrap(), log_loss(rows).unwrap());
    same(figures.normalised_entropy.unwrap(), normalised_entropy(rows).unwrap());
    same(figures.brier.unwrap(), brier(rows).unwrap());
    same(figures.auc.unwrap().value, auc(rows).unwrap());
    let exact = Sample::of(rows).unwrap().figures(10);
    same(figures.ece.unwrap().value, exact.ece.unwrap().value);
    same(figures.pr_auc.unwrap().value, exact.pr_auc.unwrap().value);
    let (sum, positives) = rows
        .iter()
        .fold((0.0, 0.0), |(sum, positives), row| (sum + row.probability, positives + f64::from(u8::from(row.label))));
    same(figures.calibration_ratio.unwrap(), sum / positives);
}

#[test]
fn every_figure_equals_a_naive_recount_of_the_log() {
    let world = World::new(1, 9_000);
    let by = ["campaign", "model_version", "campaign+model_version", "day"];
    let report = evaluate(plan(&by), &world.decisions, &world.outcomes);
    assert_eq!(report.totals.decisions, world.decisions.len() as u64);
    let held_out_conversions = world.outcomes.iter().filter(|(_, line)| line.contains("\"h")).count() as u64;
    assert_eq!(report.totals.orphan, held_out_conversions, "conversions of held-out users alone");
    assert_eq!((report.totals.late, report.totals.double, report.totals.rejected), (0, 0, 0));
    check(&report.all, &recount(&world, |_| true));
    for (at, grouping) in report.by.iter().enumerate().take(3) {
        let mut names = BTreeSet::new();
        for group in &grouping.groups {
            let is_in = |it: &Truth| {
                let both = format!("{} + {}", it.campaign, it.version);
                [it.campaign, it.version, &both][at] == group.name
            };
            check(group, &recount(&world, is_in));
            names.insert(&group.name);
        }
        let named: u64 = grouping.groups.iter().map(|group| group.offers).sum();
        assert_eq!(named, world.truth.len() as u64, "{names:?}");
    }
    assert_eq!(report.by[3].groups.len(), 3, "three days");
    // The calibrated model is calibrated, the other says twice as much.
    let version = |name: &str| report.by[1].groups.iter().find(|group| group.name == name).unwrap();
    let ratios = ["1", "2"].map(|name| version(name).quality.unwrap().figures.calibration_ratio.unwrap());
    assert!((ratios[0] - 1.0).abs() < 0.2 && (ratios[1] - 2.0).abs() < 0.4, "{ratios:?}");
    // Over its versions, the whole is wrong where each is.
    assert!(report.by[1].field_error.unwrap().absolute.unwrap() > 0.02);
    // The AUC within users is that of their rows.
    let users = report.all.quality.unwrap().user_auc.unwrap();
    assert!(users.users > 300 && users.users_left_out < 300, "{users:?}");
}

#[test]
fn rates_cover_the_truth_as_often_as_they_say() {
    // Of an autumn impression, 0.05 · mean(1..8) is clicked.
    let (mut covered, logs) = (0, 60);
    for seed in 0..logs {
        let world = World::new(1_000 + seed, 600);
        let report = evaluate(plan(&["campaign"]), &world.decisions, &world.outcomes);
        let autumn = report.by[0].groups.iter().find(|group| group.name == "autumn").unwrap();
        covered += u32::from(autumn.click_rate.unwrap().interval.covers(0.225));
    }
    println!("{covered} of {logs} intervals cover the rate");
    // 57 with a deviation of 1.7.
    assert!((51..=60).contains(&covered), "{covered}");
}

#[test]
fn the_order_of_what_is_known_later_does_not_matter_and_immature_labels_are_no_zeros() {
    let world = World::new(3, 1_500);
    // All outcomes are younger than the log: nothing is known.
    let young = Plan { click_after: 100 * HOUR, conversion_after: 200 * HOUR, ..plan(&["campaign"]) };
    let report = evaluate(young, &world.decisions, &world.outcomes);
    let all = &report.all;
    assert!(all.click_rate.is_none() && all.conversion_rate.is_none() && all.quality.is_none());
    assert_eq!(all.immature_impressions, all.impressions);
    assert!(all.unknown.iter().any(|line| line.contains("younger than 4days 4h")), "{:?}", all.unknown);
    // What is said to be complete only until the second day is known as if the log ended then.
    let until = START + 30 * HOUR;
    let cut = Plan { complete_until: Some(until), ..plan(&["campaign"]) };
    let report = evaluate(cut, &world.decisions, &world.outcomes);
    let known = world.truth.iter().filter(|it| it.shown_at.is_some_and(|at| at + CLICK_AFTER <= until)).count() as u64;
    assert_eq!(report.all.click_rate.unwrap().of, known);
    assert_eq!(report.all.immature_impressions, report.all.impressions - known);
}

#[test]
fn arms_are_compared_by_user_and_the_split_is_checked() {
    let world = World::new(5, 9_000);
    let report = evaluate(plan(&["campaign"]), &world.decisions, &world.outcomes);
    let [trial] = &report.experiments[..] else { panic!("{:?}", report.experiments) };
    assert_eq!((trial.name.as_str(), trial.kind, trial.crossed, trial.users_one_in), ("spring", "campaign", 0, 1));
    let mut users: BTreeMap<&str, (BTreeSet<u64>, BTreeSet<u64>)> = BTreeMap::new();
    for it in world.truth.iter().filter(|it| it.campaign == "spring") {
        let (all, clicked) = users.entry(it.arm).or_default();
        all.insert(it.user);
        if it.clicked_at.is_some_and(|at| at <= world.end) {
            clicked.insert(it.user);
        }
    }
    let converted = world.held_out_converted.len() as u64;
    let found: Vec<_> = trial.arms.iter().map(|it| (it.arm.as_str(), it.users, it.clicked, it.converted)).collect();
    let arm = |name: &'static str| (name, users[name].0.len() as u64, Some(users[name].1.len() as u64), 0);
    assert_eq!(found, [arm("bold"), arm("control"), ("holdout", world.held_out.len() as u64, None, converted)]);
    assert_eq!(trial.arms.iter().map(|it| it.planned).collect::<Vec<_>>(), [Some(0.25), Some(0.5), Some(0.25)]);
    assert!(trial.ratio.is_some_and(|ratio| !ratio.is_mismatch) && trial.ratio_any_time.is_some());
    let names: Vec<_> = trial.comparisons.iter().map(|it| (it.metric, it.arm.as_str(), it.against.as_str())).collect();
    assert!(names.contains(&("click", "bold", "control")) && names.contains(&("conversion", "bold", "holdout")));
    assert!(!names.contains(&("click", "bold", "holdout")), "held-out users cannot click");
    let click = &trial.comparisons[0];
    assert_eq!(names[0], ("click", "bold", "control"));
    let rate = |name: &str| users[name].1.len() as f64 / users[name].0.len() as f64;
    same(click.once.difference, rate("bold") - rate("control"));
    assert!(click.words.contains("bold") && click.words.contains("control"), "{}", click.words);
    // Without the conversions of held-out users, the report says that they may not be reported at all.
    let reported: Vec<_> = world.outcomes.iter().filter(|(_, line)| !line.contains("\"h")).cloned().collect();
    let notes = &evaluate(plan(&["campaign"]), &world.decisions, &reported).experiments[0].notes;
    assert!(notes.iter().any(|note| note.starts_with("no conversion of a held-out user")), "{notes:?}");
    assert!(!trial.notes.iter().any(|note| note.starts_with("no conversion of a held-out user")), "{:?}", trial.notes);
    // A split that was declared otherwise is noticed.
    let mut other = plan(&["campaign"]);
    other.campaigns.insert("spring".to_owned(), campaign("EUR", Some(Label::Click), &[("bold", 0.5)], 0.25));
    let report = evaluate(other, &world.decisions, &world.outcomes);
    assert!(report.experiments[0].ratio.unwrap().is_mismatch);
    assert!(report.experiments[0].notes.iter().any(|note| note.contains("not split as declared")));
}

#[test]
fn variants_of_the_model_are_compared_too_and_a_strong_effect_is_settled() {
    let (mut decisions, mut outcomes) = (Vec::new(), Vec::new());
    let mut draws = Draws(9);
    for number in 0..6_000_i64 {
        let at = START + number * 20 * SECOND;
        let is_new = mix(number as u64).is_multiple_of(2);
        let variant = if is_new { "next" } else { "control" };
        decisions.push((
            at,
            format!(
                r#"{{"decision_id":"shop:d-0-{number}","user_key":"u{number}","decided_at":"{at}","experiment":{{"name":"ranker","variant":"{variant}"}},"campaigns":[{{"id":"autumn","currency":"EUR"}}]}}"#
            ),
        ));
        for (kind, after, is_sent) in
            [("impression", 1, true), ("click", 2, draws.chance(if is_new { 0.16 } else { 0.1 }))]
        {
            if is_sent {
                let at = at + after * SECOND;
                let line = format!(
                    r#"{{"outcome_id":"{kind}{number}","type":"{kind}","occurred_at":{at},"decision_id":"shop:d-0-{number}"}}"#
                );
                outcomes.push((at, line));
            }
        }
    }
    let plan = Plan { variants: vec![("next".to_owned(), 0.5)], ..plan(&["variant"]) };
    let report = evaluate(plan, &decisions, &outcomes);
    let trial = &report.experiments[0];
    assert_eq!((trial.name.as_str(), trial.kind), ("ranker", "models"));
    let click = &trial.comparisons[0];
    assert!(click.once.interval.covers(0.06) && click.once.p_value.unwrap() < 1e-6, "{click:?}");
    assert!(click.any_time.unwrap().interval.low > 0.0);
    assert!(click.words.ends_with("settled, however often you look"), "{}", click.words);
    assert!(click.users_needed.is_some());
    assert_eq!(report.by[0].groups.len(), 2);
}

fn decision(id: &str, at: i64, more: &str) -> (i64, String) {
    let line = format!(
        r#"{{"decision_id":"{id}","user_key":"u","decided_at":"{at}","expires_at":"{}","campaigns":[{{"id":"spring","probability":0.1,"currency":"EUR"{more}}}]}}"#,
        at + 60 * SECOND
    );
    (at, line)
}

fn outcome(id: &str, kind: &str, at: i64, more: &str) -> (i64, String) {
    (at, format!(r#"{{"outcome_id":"{id}","type":"{kind}","occurred_at":{at}{more}}}"#))
}

#[test]
fn odd_records_have_a_counted_place() {
    let to = r#","decision_id":"shop:d-0-1","campaign_id":"spring""#;
    let decisions = [
        decision("shop:d-0-1", START, ""),
        decision("shop:d-0-1", START + SECOND, ""),
        decision("shop:d-0-2", START + 2 * SECOND, r#","probability":7.5"#),
        decision("other:d-0-1", START + 3 * SECOND, ""),
        (START + 4 * SECOND, format!(r#"{{"decision_id":"shop:d-0-3","decided_at":"{}"}}"#, START + 4 * SECOND)),
    ];
    let decisions: Vec<_> = decisions
        .into_iter()
        .map(|(at, line)| {
            (
                at,
                line.replace(
                    r#""probability":0.1,"currency":"EUR","probability""#,
                    r#""currency":"EUR","probability""#,
                ),
            )
        })
        .collect();
    let outcomes = [
        (START + SECOND, outcome("before", "impression", START - 90 * SECOND, to).1),
        outcome("shown", "impression", START + 5 * SECOND, to),
        outcome("shown", "impression", START + 5 * SECOND, to),
        outcome("click", "click", START + 6 * SECOND, to),
        outcome("again", "click", START + 7 * SECOND, to),
        outcome("orphan", "click", START + 8 * SECOND, r#","decision_id":"shop:d-0-99""#),
        outcome("dollars", "win", START + 9 * SECOND, &format!(r#"{to},"price":2,"currency":"USD""#)),
        outcome("lost", "win", START + 10 * SECOND, r#","decision_id":"shop:d-0-98","campaign_id":"spring","price":3"#),
        outcome("late", "conversion", START + 40 * 24 * HOUR, to),
    ];
    let report = evaluate(plan(&["campaign", "status"]), &decisions, &outcomes);
    let it = &report.totals;
    assert_eq!((it.decisions, it.decisions_double, it.decisions_foreign), (3, 1, 1));
    assert_eq!((it.joined, it.double, it.orphan, it.rejected), (3, 1, 3, 1), "{it:?}");
    assert_eq!((it.late, it.before_decision), (1, 1), "the late conversion has lost its decision: {it:?}");
    assert_eq!(it.unattributed_micros, [("EUR".to_owned(), 3_000)].into());
    assert_eq!((report.all.impressions, report.all.clicks, report.all.decisions), (1, 1, 3));
    assert_eq!(report.by[0].groups.len(), 1, "a decision without a campaign is in no group of campaigns");
    assert_eq!(report.by[1].groups[0].decisions, 3);
    // 1 of 1 is no quality of predictions, and no loss means no win rate.
    assert!(report.all.quality.is_none() && report.all.win_rate.is_none());
    let empty = evaluate(plan(&["campaign"]), &[], &[]);
    assert!(empty.span.is_none() && empty.all.click_rate.is_none() && empty.by[0].groups.is_empty());
}

#[test]
fn labels_of_one_class_have_no_rank_and_say_so() {
    let decisions: Vec<_> =
        (0..200).map(|number| decision(&format!("shop:d-0-{number}"), START + number * SECOND, "")).collect();
    let outcomes: Vec<_> = (0..200)
        .map(|number| {
            let to = format!(r#","decision_id":"shop:d-0-{number}""#);
            outcome(&format!("o{number}"), "impression", START + number * SECOND + SECOND, &to)
        })
        .collect();
    let plan = Plan { complete_until: Some(START + 2 * HOUR), ..plan(&["campaign"]) };
    let report = evaluate(plan, &decisions, &outcomes);
    let figures = report.all.quality.unwrap().figures;
    assert_eq!((figures.rows, figures.auc, figures.calibration_ratio), (200, None, None));
    assert_eq!(figures.observed, Some(0.0));
    assert!(report.all.unknown.iter().any(|line| line.contains("none of 200 labels is positive")));
}

#[test]
fn groups_beyond_the_most_are_one_group() {
    let decisions: Vec<_> = (0..groups::GROUPS_MAX as i64 + 20)
        .map(|number| {
            let (at, line) = decision(&format!("shop:d-0-{number}"), START + number * SECOND, "");
            (at, line.replace(r#""user_key":"u""#, &format!(r#""user_key":"u{number}""#)))
        })
        .collect();
    let report = evaluate(plan(&["user_key", "decision_id+campaign"]), &decisions, &[]);
    for grouping in &report.by {
        assert_eq!(grouping.groups.len(), groups::GROUPS_MAX + 1);
        let other = grouping.groups.iter().find(|group| group.name == "(other)").unwrap();
        assert_eq!(other.decisions, 20);
    }
}

#[test]
fn windows_of_default_control_end_the_life_of_rows() {
    // A month of impressions: those of the first days are over, and what is kept stays small.
    let day = 24 * HOUR;
    let decisions: Vec<_> =
        (0..80).map(|day_number| decision(&format!("shop:d-0-{day_number}"), START + day_number * day, "")).collect();
    let mut outcomes = Vec::new();
    for number in 0..80 {
        let to = format!(r#","decision_id":"shop:d-0-{number}""#);
        outcomes.push(outcome(&format!("i{number}"), "impression", START + number * day + SECOND, &to));
        if number % 2 == 0 {
            outcomes.push(outcome(&format!("c{number}"), "click", START + number * day + 2 * SECOND, &to));
            let at = START + number * day + 20 * day;
            if number < 40 {
                outcomes.push(outcome(&format!("v{number}"), "conversion", at, &to));
            }
        }
    }
    outcomes.sort_by_key(|(at, _)| *at);
    let plan = Plan { click_after: day, conversion_after: 31 * day, ..plan(&["campaign"]) };
    let report = evaluate(plan, &decisions, &outcomes);
    assert_eq!((report.totals.joined, report.totals.late, report.totals.forgotten), (140, 0, 0), "{:?}", report.totals);
    assert_eq!((report.all.impressions, report.all.clicks, report.all.conversions), (80, 40, 20));
    // The last impression has reached 31 days on day 48; of days 0 to 48, 25 were clicked and 20 converted.
    let rate = report.all.conversion_rate.unwrap();
    assert_eq!((rate.count, rate.of), (20, 25));
    assert_eq!(spec().dedupe_horizon, Duration::from_hours(48));
}
