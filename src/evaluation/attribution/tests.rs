//! Tests of attribution: against a calculation with NumPy on journeys of a shop, by hand, and for any journeys.

use super::*;
use proptest::prelude::*;
use serde::Deserialize;
use std::collections::BTreeMap;

/// `attribution.json`, which `effect.py` writes. A journey is its touches (channel, age in seconds) and whether it led
/// to a purchase.
#[derive(Deserialize)]
struct Fixture {
    channels: Vec<String>,
    half_life_seconds: u64,
    journeys: Vec<(Vec<(usize, u64)>, bool)>,
    removal_effects: Vec<f64>,
    credits: BTreeMap<String, Vec<f64>>,
}

fn fixture() -> Fixture {
    let text = include_str!("../../../tests/fixtures/effect/attribution.json");
    serde_json::from_str(text).expect("the fixture is what the script wrote")
}

fn touch(channel: usize, days: u64) -> Touch {
    Touch { channel, age: Duration::from_secs(days * 86_400) }
}

fn ledger(channels: usize) -> Ledger {
    Ledger::new(channels, Settings::default()).unwrap()
}

#[track_caller]
fn same(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    let is_same = found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-9 * b.abs().max(1.0));
    assert!(is_same, "found {found:?}, expected {expected:?}");
}

fn credits(ledger: &Ledger, model: Model) -> Vec<f64> {
    ledger.credits(model).unwrap().channels
}

#[test]
fn credits_on_journeys_of_a_shop_equal_a_calculation_with_numpy() {
    let fixture = fixture();
    let half_life = Duration::from_secs(fixture.half_life_seconds);
    let mut ledger = Ledger::new(fixture.channels.len(), Settings { half_life, ..Settings::default() }).unwrap();
    let mut conversions = 0.0;
    for (touches, is_converted) in &fixture.journeys {
        let touches: Vec<_> =
            touches.iter().map(|&(channel, age)| Touch { channel, age: Duration::from_secs(age) }).collect();
        if *is_converted {
            ledger.converted(&touches, 1.0).unwrap();
            conversions += 1.0;
        } else {
            ledger.lost(&touches).unwrap();
        }
    }
    same(&ledger.removal_effects().unwrap(), &fixture.removal_effects);
    for (name, model) in [
        ("first", Model::First),
        ("last", Model::Last),
        ("linear", Model::Linear),
        ("position", Model::Position),
        ("time_decay", Model::TimeDecay),
        ("markov", Model::Markov),
        ("shapley", Model::Shapley),
    ] {
        let found = credits(&ledger, model);
        println!("{name}: {found:.2?}");
        same(&found, &fixture.credits[name]);
        assert!((found.iter().sum::<f64>() - conversions).abs() < 1e-9);
    }
    assert!(conversions > 100.0);
}

#[test]
fn one_journey_is_divided_as_the_models_say() {
    let mut ledger = ledger(4);
    // Channel 3 has no touch. The last touch is as old as the window, the first two half-lives older.
    ledger.converted(&[touch(0, 21), touch(1, 14), touch(0, 14), touch(2, 7)], 10.0).unwrap();
    same(&credits(&ledger, Model::First), &[10.0, 0.0, 0.0, 0.0]);
    same(&credits(&ledger, Model::Last), &[0.0, 0.0, 10.0, 0.0]);
    same(&credits(&ledger, Model::Linear), &[5.0, 2.5, 2.5, 0.0]);
    same(&credits(&ledger, Model::Position), &[5.0, 1.0, 4.0, 0.0]);
    // 1/4, 1/2, 1/2 and 1.
    same(&credits(&ledger, Model::TimeDecay), &[10.0 / 3.0, 20.0 / 9.0, 40.0 / 9.0, 0.0]);
    same(&credits(&ledger, Model::Shapley), &[10.0 / 3.0, 10.0 / 3.0, 10.0 / 3.0, 0.0]);
    // From the first channel, the chain goes to the second or the third; only the second may be avoided.
    same(&ledger.removal_effects().unwrap(), &[1.0, 0.5, 1.0, 0.0]);
    same(&credits(&ledger, Model::Markov), &[4.0, 2.0, 4.0, 0.0]);
}

#[test]
fn short_journeys_divide_the_position_model() {
    for (touches, expected) in [
        (vec![touch(0, 1)], [1.0, 0.0, 0.0]),
        (vec![touch(0, 2), touch(1, 1)], [0.5, 0.5, 0.0]),
        (vec![touch(0, 2), touch(2, 2), touch(1, 1)], [0.4, 0.4, 0.2]),
    ] {
        let mut ledger = ledger(3);
        ledger.converted(&touches, 1.0).unwrap();
        same(&credits(&ledger, Model::Position), &expected);
    }
    let all_first = Settings { first: 1.0, last: 0.0, ..Settings::default() };
    let mut ledger = Ledger::new(2, all_first).unwrap();
    ledger.converted(&[touch(0, 1), touch(1, 1)], 1.0).unwrap();
    same(&credits(&ledger, Model::Position), &[1.0, 0.0]);
}

/// Anderl et al. and most texts show removal on a chain like this: 1→2→3→conversion, 1→none, 2→3→none.
#[test]
fn the_removal_effects_of_three_journeys_match_a_calculation_by_hand() {
    let mut ledger = ledger(3);
    ledger.converted(&[touch(0, 3), touch(1, 2), touch(2, 1)], 1.0).unwrap();
    ledger.lost(&[touch(0, 1)]).unwrap();
    ledger.lost(&[touch(1, 2), touch(2, 1)]).unwrap();
    // All: (2/3 · 1/2 + 1/3) · 1/2 = 1/3. Without 1: 1/3 · 1/2 = 1/6. Without 2 or 3: nothing.
    same(&ledger.removal_effects().unwrap(), &[0.5, 1.0, 1.0]);
    same(&credits(&ledger, Model::Markov), &[0.2, 0.4, 0.4]);
}

#[test]
fn without_touches_a_conversion_is_direct_and_without_conversions_nothing_is_divided() {
    let mut ledger = ledger(2);
    for model in Model::ALL {
        assert_eq!(ledger.credits(model).unwrap(), Credits { channels: vec![0.0; 2], direct: 0.0 });
    }
    ledger.converted(&[], 3.0).unwrap();
    ledger.lost(&[]).unwrap();
    ledger.lost(&[touch(1, 1)]).unwrap();
    for model in Model::ALL {
        assert_eq!(ledger.credits(model).unwrap(), Credits { channels: vec![0.0; 2], direct: 3.0 });
    }
    assert_eq!(ledger.journeys(), 3);
}

#[test]
fn very_old_touches_still_divide() {
    let mut ledger = ledger(2);
    let old = |channel, age| Touch { channel, age };
    ledger.converted(&[old(0, Duration::MAX), old(1, Duration::MAX)], 1.0).unwrap();
    ledger.converted(&[old(0, Duration::MAX), old(1, Duration::ZERO)], 1.0).unwrap();
    same(&credits(&ledger, Model::TimeDecay), &[0.5, 1.5]);
}

#[test]
fn long_journeys_keep_their_latest_touches_and_are_counted() {
    let mut touches = vec![touch(0, 9); 100];
    touches.extend(vec![touch(1, 1); 256]);
    let mut cut = ledger(2);
    cut.converted(&touches, 1.0).unwrap();
    assert_eq!(cut.journeys_cut(), 1);
    for model in Model::ALL {
        same(&credits(&cut, model), &[0.0, 1.0]);
    }
    let mut whole = ledger(2);
    whole.converted(&touches[99..355], 1.0).unwrap();
    assert_eq!(whole.journeys_cut(), 0);
    same(&credits(&whole, Model::First), &[1.0, 0.0]);
}

#[test]
fn bad_ledgers_and_journeys_are_refused_and_change_nothing() {
    for channels in [0, 257, usize::MAX] {
        assert_eq!(Ledger::new(channels, Settings::default()).unwrap_err(), AttributionError::Channels(channels));
    }
    let settings = Settings::default();
    for (first, last) in [(0.0, 0.0), (0.6, 0.6), (-0.1, 0.5), (f64::NAN, 0.4), (0.4, f64::INFINITY)] {
        assert!(matches!(Ledger::new(2, Settings { first, last, ..settings }), Err(AttributionError::Settings(_))));
    }
    assert!(Ledger::new(2, Settings { half_life: Duration::ZERO, ..settings }).is_err());
    let mut ledger = ledger(2);
    for value in [f64::NAN, f64::INFINITY, -1.0, 1.1e30] {
        assert!(matches!(ledger.converted(&[touch(0, 1)], value), Err(AttributionError::Value(_))));
    }
    let unknown = AttributionError::Channel { channel: 2, channels: 2 };
    assert_eq!(ledger.converted(&[touch(0, 1), touch(2, 1)], 1.0), Err(unknown));
    assert_eq!(ledger.lost(&[touch(2, 1)]), Err(unknown));
    assert_eq!(ledger.merge(&self::ledger(3)), Err(AttributionError::Mismatch));
    assert_eq!(ledger.journeys(), 0);
    assert_eq!(credits(&ledger, Model::Linear), [0.0, 0.0]);
}

#[test]
fn the_largest_ledger_is_divided() {
    let mut ledger = ledger(CHANNELS_MAX);
    for n in 0..2_000_usize {
        let touches: Vec<_> = (0..n % 40).map(|at| touch((n * 31 + at * at * 17) % CHANNELS_MAX, 1)).collect();
        if n % 3 == 0 { ledger.converted(&touches, 1.0).unwrap() } else { ledger.lost(&touches).unwrap() }
    }
    let found = ledger.credits(Model::Markov).unwrap();
    let total = found.channels.iter().sum::<f64>() + found.direct;
    assert!((total - 667.0).abs() < 1e-9 && found.direct > 0.0);
}

/// The Shapley value by its definition: the mean over all orders of what a channel adds to those before it, where a
/// coalition earns the journeys that touch its channels only.
fn shapley_by_orders(channels: usize, journeys: &[(Vec<Touch>, f64)]) -> Vec<f64> {
    let mask = |touches: &[Touch]| touches.iter().fold(0_u32, |mask, it| mask | 1 << it.channel);
    let worth: Vec<f64> = (0..1_u32 << channels)
        .map(|coalition| {
            let inside = journeys.iter().filter(|(touches, _)| !touches.is_empty() && mask(touches) & !coalition == 0);
            inside.map(|(_, value)| value).sum()
        })
        .collect();
    let factorial = |n: u32| (1..=n).map(f64::from).product::<f64>();
    let all = channels as u32;
    (0..channels)
        .map(|channel| {
            (0..1_u32 << channels)
                .filter(|coalition| coalition & 1 << channel == 0)
                .map(|coalition| {
                    let before = coalition.count_ones();
                    let orders = factorial(before) * factorial(all - before - 1) / factorial(all);
                    orders * (worth[(coalition | 1 << channel) as usize] - worth[coalition as usize])
                })
                .sum()
        })
        .collect()
}

/// The removal effect by its definition: the chain is walked step by step with the channel closed.
fn removal_by_walking(channels: usize, journeys: &[(Vec<Touch>, f64, bool)]) -> Vec<f64> {
    let (start, end, none) = (channels, channels + 1, channels + 2);
    let mut counts = vec![vec![0.0; channels + 3]; channels + 3];
    for (touches, _, is_converted) in journeys.iter().filter(|it| !it.0.is_empty()) {
        let mut from = start;
        for it in touches {
            counts[from][it.channel] += 1.0;
            from = it.channel;
        }
        counts[from][if *is_converted { end } else { none }] += 1.0;
    }
    let walk = |closed: Option<usize>| {
        let mut at = vec![0.0; channels + 3];
        at[start] = 1.0;
        // Until hardly anybody is still on the way.
        while at[..=start].iter().sum::<f64>() > 1e-13 {
            let mut next = vec![0.0; channels + 3];
            for from in 0..channels + 3 {
                let sum: f64 = counts[from].iter().sum();
                if from == end {
                    next[end] += at[from];
                } else if sum > 0.0 && Some(from) != closed {
                    (0..channels + 3).for_each(|to| next[to] += at[from] * counts[from][to] / sum);
                }
            }
            at = next;
        }
        at[end]
    };
    let whole = walk(None);
    (0..channels).map(|channel| if whole > 0.0 { 1.0 - walk(Some(channel)) / whole } else { 0.0 }).collect()
}

fn journeys(channels: usize, longest: usize) -> impl Strategy<Value = Vec<(Vec<Touch>, f64, bool)>> {
    let age = prop_oneof![Just(Duration::MAX), Just(Duration::ZERO), (0..100_u64).prop_map(Duration::from_hours)];
    let touch = (0..channels, age).prop_map(|(channel, age)| Touch { channel, age });
    let value = prop_oneof![Just(1.0), Just(0.0), 0.0..100.0];
    proptest::collection::vec((proptest::collection::vec(touch, 0..longest), value, any::<bool>()), 0..25)
}

fn filled(channels: usize, journeys: &[(Vec<Touch>, f64, bool)]) -> Ledger {
    let mut ledger = ledger(channels);
    for (touches, value, is_converted) in journeys {
        if *is_converted { ledger.converted(touches, *value).unwrap() } else { ledger.lost(touches).unwrap() }
    }
    ledger
}

proptest! {
    // Long journeys take long to make.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn credits_add_up_to_the_conversions_under_each_model(journeys in journeys(9, 300)) {
        let ledger = filled(9, &journeys);
        let value: f64 = journeys.iter().filter(|it| it.2).map(|it| it.1).sum();
        for model in Model::ALL {
            let found = ledger.credits(model).unwrap();
            let total = found.channels.iter().sum::<f64>() + found.direct;
            prop_assert!((total - value).abs() <= 1e-9 * value.max(1.0), "{model:?}: {total} of {value}");
            prop_assert!(found.channels.iter().all(|it| *it >= 0.0), "{model:?}: {found:?}");
        }
    }
}

proptest! {
    #[test]
    fn shapley_equals_the_mean_over_all_orders(journeys in journeys(7, 6)) {
        let converted: Vec<_> = journeys.iter().filter(|it| it.2).map(|it| (it.0.clone(), it.1)).collect();
        let (found, expected) = (credits(&filled(7, &journeys), Model::Shapley), shapley_by_orders(7, &converted));
        prop_assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-9), "{found:?} {expected:?}");
    }

    #[test]
    fn two_ledgers_merge_into_the_one_of_all_journeys(journeys in journeys(5, 8), at in 0..25_usize) {
        let (left, right) = journeys.split_at(at.min(journeys.len()));
        let (whole, mut merged) = (filled(5, &journeys), filled(5, left));
        merged.merge(&filled(5, right)).unwrap();
        prop_assert_eq!(merged.journeys(), whole.journeys());
        for model in Model::ALL {
            let (a, b) = (merged.credits(model).unwrap(), whole.credits(model).unwrap());
            prop_assert!(a.channels.iter().zip(&b.channels).all(|(a, b)| (a - b).abs() < 1e-9 * b.max(1.0)));
        }
    }
}

proptest! {
    // A walk takes long.
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn removal_effects_equal_a_walk_with_the_channel_closed(journeys in journeys(4, 7)) {
        let (found, expected) = (filled(4, &journeys).removal_effects().unwrap(), removal_by_walking(4, &journeys));
        prop_assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-9), "{found:?} {expected:?}");
    }
}
