//! Tests of accounts.

use super::*;
use crate::targeting::{
    campaign::{Budget, Learning, Reward},
    creative::{Beta, BetaArm, HalfLife, LinearArm},
    pacing::{Mode, PassThrough},
    policy::{CreativeMethod, EVERYBODY},
};
use std::time::Duration;

const HOUR: i64 = 3_600_000_000;
/// Midnight in UTC.
const START: i64 = 1_767_225_600_000_000;
const TIMING: Timing = Timing { interval_ms: 5_000, lag_ms: 10_000, settle_ms: 300_000 };

fn setup(budget: Option<Budget>, learning: Learning) -> CampaignSetup {
    CampaignSetup {
        id: "spring".to_owned(),
        currency: "EUR".parse().unwrap(),
        zone: TimeZone::UTC,
        budget,
        until: None,
        reward: Reward::Click,
        predicts: Some(Reward::Click),
        learning,
        floor: 0.01,
        creatives: Vec::new(),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "a campaign's budget is optional")]
fn budget(daily: Option<i64>, total: Option<i64>) -> Option<Budget> {
    Some(Budget { mode: Mode::Asap, daily: daily.map(Micros), total: total.map(Micros), cost_max: Micros(1_000) })
}

fn account() -> (Account, Days) {
    (Account::new("EUR".parse().unwrap(), TIMING), Days::new(TimeZone::UTC))
}

#[test]
fn money_is_booked_to_its_day_the_total_and_the_pacer_and_nowhere_else() {
    let (mut account, mut days) = account();
    for (hour, cost, is_attributed) in [(1, 700, true), (23, 50, false), (26, 5, true), (2, 900, true)] {
        account.spend(days.moment(START + hour * HOUR), Micros(cost), is_attributed);
    }
    let today = days.moment(START).day;
    assert_eq!((account.days[&today].spent_micros, account.days[&(today + 1)].spent_micros), (1_650, 5));
    assert_eq!((account.days[&today].unattributed_micros, account.total.unattributed_micros), (50, 50));
    assert_eq!((account.total.spent_micros, account.total.wins), (1_655, 4));
    let pacer = &account.pacer;
    assert_eq!((pacer.spent.total.0, pacer.spent.today.0, pacer.spent.yesterday.0), (1_655, 5, 1_650));
}

#[test]
fn a_budget_is_exhausted_when_it_does_not_pay_the_next_impression() {
    for (limits, spent, exhausted) in [
        (budget(Some(10_000), None), 9_000, false),
        (budget(Some(10_000), None), 9_001, true),
        (budget(None, Some(10_000)), 9_001, true),
        (budget(Some(10_000), Some(9_999)), 9_000, true),
    ] {
        let (mut account, mut days) = account();
        let now = days.moment(START + HOUR);
        account.spend(now, Micros(spent), true);
        let state = account.budget(&setup(limits, Learning::Weights), &mut days, now).unwrap();
        assert_eq!((state.known, state.exhausted), (true, exhausted), "{limits:?} {spent}");
        assert_eq!((state.spent_today_micros, state.spent_total_micros, state.day), (spent, spent, now.day));
        let tomorrow = days.moment(START + 25 * HOUR);
        let state = account.budget(&setup(limits, Learning::Weights), &mut days, tomorrow).unwrap();
        assert_eq!((state.spent_today_micros, state.spent_total_micros), (0, spent));
    }
    let (mut account, mut days) = account();
    let now = days.moment(START);
    assert_eq!(account.budget(&setup(None, Learning::Weights), &mut days, now), None);
    account.currency = "USD".parse().unwrap();
    let state = account.budget(&setup(budget(Some(1), None), Learning::Weights), &mut days, now).unwrap();
    assert!(!state.known && state.pass_through == PassThrough::NONE.0);
}

#[test]
fn old_days_go_and_the_total_stays() {
    let (mut account, mut days) = account();
    for day in 0..50 {
        account.observe_decision(days.moment(START + day * 24 * HOUR), day % 2 == 0);
    }
    let old = account.old_days();
    assert_eq!(old.len(), 14);
    assert_eq!((account.total.eligible, account.total.passed), (50, 25));
    assert_eq!(old[0], days.moment(START).day);
}

fn lesson<'a>(audience: &'a str, features: &'a [f64], is_success: bool) -> Lesson<'a> {
    Lesson { creative: "c", audience, features, shown_at: START, is_success }
}

#[test]
fn a_lesson_counts_for_its_audience_and_for_everybody() {
    let prior = Beta { alpha: 1.0, beta: 10.0 };
    let half_life = HalfLife::new(Duration::from_hours(24)).unwrap();
    let setup = setup(None, Learning::Thompson { prior, half_life });
    let mut arms = Arms::default();
    let sport = [Changed::Beta("c".into(), String::new()), Changed::Beta("c".into(), "sport".into())];
    assert_eq!(arms.learn(&setup, &lesson("sport", &[], true)), sport);
    assert_eq!(arms.learn(&setup, &lesson(EVERYBODY, &[], false)), sport[..1]);
    let arm = |audience: &str| arms.beta[&("c".to_owned(), audience.to_owned())];
    assert_eq!(arm("sport"), BetaArm { successes: 1.0, failures: 0.0, at_us: START });
    assert_eq!(arm(EVERYBODY), BetaArm { successes: 1.0, failures: 1.0, at_us: START });
    let Some(policy) = arms.policy(&setup, START + 24 * HOUR) else { panic!("nothing learned") };
    let CreativeMethod::Thompson { posteriors, .. } = policy.method else { panic!("another method") };
    let beta = posteriors["c"]["sport"];
    assert!((beta.alpha - 1.5).abs() < 1e-9 && (beta.beta - 10.0).abs() < 1e-9, "{beta:?}");
}

#[test]
fn a_linear_arm_starts_anew_when_its_features_change() {
    let of = |names: &[&str]| {
        let features = names.iter().map(|name| (*name).to_owned()).collect();
        setup(None, Learning::LinUcb { alpha: 1.0, epsilon: 0.1, ridge: 1.0, features })
    };
    let mut arms = Arms::default();
    let changed = [Changed::Linear("c".into())];
    assert_eq!(arms.learn(&of(&["one", "age"]), &lesson("", &[1.0, 0.5], true)), changed);
    assert_eq!(arms.learn(&of(&["one", "age"]), &lesson("", &[1.0], true)), [], "of an earlier configuration");
    assert_eq!(arms.linear["c"].arm.updates(), 1);
    let dimensions = |arms: &Arms, setup: &CampaignSetup| match arms.policy(setup, 0).unwrap().method {
        CreativeMethod::LinUcb { linear, .. } => linear.posteriors.len(),
        _ => panic!("another method"),
    };
    assert_eq!((dimensions(&arms, &of(&["one", "age"])), dimensions(&arms, &of(&["one", "hour"]))), (1, 0));
    assert_eq!(arms.learn(&of(&["one", "hour"]), &lesson("", &[1.0, 0.5], false)), changed);
    assert_eq!(arms.linear["c"].arm.updates(), 1);
    let mut fresh = LinearArm::new(2, 1.0).unwrap();
    assert!(fresh.update(&[1.0, 0.5], 0.0));
    assert_eq!(arms.linear["c"].arm, fresh);
    assert_eq!(arms.learn(&setup(None, Learning::Weights), &lesson("", &[], true)), []);
}
