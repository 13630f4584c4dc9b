//! Tests of experiments: against SciPy and statsmodels, on the e-mail experiment, by simulation, and on odd input.

use super::{
    power::{Baseline, Plan, days_left},
    *,
};
use crate::{
    evaluation::{
        distribution::{
            chi_square_above, normal_below, normal_beyond, normal_upper, student_beyond, student_two_sided,
        },
        interval::{Confidence, wilson},
    },
    random::mix,
};
use proptest::prelude::*;
use serde::Deserialize;
use std::collections::BTreeMap;

/// `experiments.json`, which `effect.py` writes: one field for each table.
#[derive(Deserialize)]
struct Fixture {
    normal: Vec<(f64, f64, f64)>,
    normal_upper: Vec<(f64, f64)>,
    chi_square: Vec<(f64, u32, f64)>,
    student: Vec<(f64, f64, f64)>,
    student_two_sided: Vec<(f64, f64, f64)>,
    wilson: Vec<(u64, u64, Confidence, f64, f64)>,
    arms: BTreeMap<String, Mail>,
    comparisons: Vec<Compared>,
    sample_ratio: Vec<Split>,
    any_time: Vec<(f64, f64, f64, Confidence, f64, f64)>,
    cuped: Adjusted,
    power_rate: Vec<(f64, f64, u64, f64, Confidence, f64)>,
    power_mean: Vec<(f64, u64, f64, Confidence, f64)>,
}

/// An arm of the e-mail experiment.
#[derive(Deserialize)]
struct Mail {
    rows: u64,
    visits: u64,
    conversions: u64,
    /// The amounts above 0.
    spend: Vec<f64>,
    /// Whether men's and women's goods were bought before, rows, visits.
    by_bought: Vec<(u8, u8, u64, u64)>,
}

#[derive(Deserialize)]
struct Compared {
    arm: String,
    outcome: String,
    level: Confidence,
    p_value: f64,
    interval: [f64; 2],
    ratio: Option<[f64; 2]>,
}

#[derive(Deserialize)]
struct Split {
    counts: Vec<u64>,
    shares: Vec<f64>,
    p_value: f64,
    any_time: f64,
}

#[derive(Deserialize)]
struct Adjusted {
    control_rows: usize,
    covariate: Vec<f64>,
    value: Vec<f64>,
    theta: f64,
    difference: f64,
    interval: [f64; 2],
    p_value: f64,
    variance_reduction: f64,
}

fn fixture() -> Fixture {
    let text = include_str!("../../../tests/fixtures/effect/experiments.json");
    serde_json::from_str(text).expect("the fixture is what the script wrote")
}

impl Mail {
    fn visits(&self) -> Arm {
        Arm::new(self.visits, self.rows).unwrap()
    }

    fn conversions(&self) -> Arm {
        Arm::new(self.conversions, self.rows).unwrap()
    }

    fn spend(&self) -> Moments {
        let without = self.rows as usize - self.spend.len();
        Moments::of(self.spend.iter().copied().chain(std::iter::repeat_n(0.0, without))).unwrap()
    }
}

/// Equal to 1e-9 of the value, so that small tails are compared as well.
#[track_caller]
fn same(found: f64, expected: f64) {
    assert!((found - expected).abs() <= 1e-9 * expected.abs() + 1e-300, "found {found:e}, expected {expected:e}");
}

#[test]
fn tails_and_quantiles_equal_scipy() {
    let fixture = fixture();
    for (z, beyond, below) in fixture.normal {
        same(normal_beyond(z), beyond);
        same(normal_beyond(-z), beyond);
        same(normal_below(-z), below);
    }
    for (tail, z) in fixture.normal_upper {
        assert!((normal_upper(tail) - z).abs() < 1e-9, "{tail}");
    }
    for (value, degrees, above) in fixture.chi_square {
        same(chi_square_above(value, degrees), above);
    }
    for (t, degrees, beyond) in fixture.student {
        let found = student_beyond(t, degrees);
        println!("t {t}, {degrees} degrees: {:e}", found / beyond - 1.0);
        let bound = if t > 6.0 { 1e-5 } else { 1e-9 };
        assert!((found / beyond - 1.0).abs() < bound, "found {found:e}, expected {beyond:e}");
    }
    assert_eq!([2.0, 200.0, 1e12].map(|degrees| student_beyond(f64::INFINITY, degrees)), [0.0; 3]);
    for (alpha, degrees, t) in fixture.student_two_sided {
        println!("alpha {alpha}, {degrees} degrees");
        same(student_two_sided(alpha, degrees), t);
    }
}

#[test]
fn wilson_intervals_equal_scipy() {
    for (count, of, level, low, high) in fixture().wilson {
        let found = wilson(count, of, level).unwrap();
        assert!((found.low - low).abs() < 1e-12 && (found.high - high).abs() < 1e-12, "{count} of {of}: {found:?}");
    }
    assert_eq!((wilson(0, 0, Confidence::P95), wilson(2, 1, Confidence::P95)), (None, None));
    assert_eq!(wilson(0, 5, Confidence::P95).unwrap().low, 0.0);
    assert_eq!(wilson(5, 5, Confidence::P95).unwrap().high, 1.0);
}

#[test]
fn comparisons_on_the_e_mail_experiment_equal_statsmodels_and_scipy() {
    let fixture = fixture();
    let (mut seen, control) = (0, &fixture.arms["control"]);
    for expected in &fixture.comparisons {
        let arm = &fixture.arms[&expected.arm];
        let found = match expected.outcome.as_str() {
            "visit" => proportions(control.visits(), arm.visits(), expected.level),
            "conversion" => proportions(control.conversions(), arm.conversions(), expected.level),
            _ => means(control.spend(), arm.spend(), expected.level),
        };
        let found = found.unwrap();
        same(found.p_value.unwrap(), expected.p_value);
        same(found.interval.low, expected.interval[0]);
        same(found.interval.high, expected.interval[1]);
        if let Some([low, high]) = expected.ratio {
            let interval = found.relative.unwrap().interval;
            same(interval.low + 1.0, low);
            same(interval.high + 1.0, high);
        }
        seen += 1;
    }
    assert_eq!(seen, 18);
}

/// The lifts of the published experiment: on all 64,000 customers, men's mail brings 7.66 points more visits and 0.68
/// more conversions, women's 4.52 and 0.31. This is half of the customers.
#[test]
fn the_known_lifts_of_the_e_mails_are_found() {
    let fixture = fixture();
    let (control, mens, womens) = (&fixture.arms["control"], &fixture.arms["mens"], &fixture.arms["womens"]);
    let of = |arm: &Mail| {
        let visit = proportions(control.visits(), arm.visits(), Confidence::P95).unwrap();
        let conversion = proportions(control.conversions(), arm.conversions(), Confidence::P95).unwrap();
        let spend = means(control.spend(), arm.spend(), Confidence::P95).unwrap();
        println!("visit {visit:?}\nconversion {conversion:?}\nspend {spend:?}");
        (visit, conversion, spend)
    };
    let (visit, conversion, spend) = of(mens);
    assert!(visit.interval.covers(0.0766) && conversion.interval.covers(0.0068), "mens");
    assert!(visit.p_value.unwrap() < 1e-50 && conversion.p_value.unwrap() < 1e-5 && spend.p_value.unwrap() < 0.01);
    let (visit, conversion, spend) = of(womens);
    assert!(visit.interval.covers(0.0452) && conversion.interval.covers(0.0031), "womens");
    assert!(visit.p_value.unwrap() < 1e-15 && conversion.p_value.unwrap() < 0.05);
    // A difference of 20 cents in spend drowns in a few large orders.
    assert!(spend.interval.covers(0.0));
    // And men's brings more than women's.
    let both = proportions(womens.visits(), mens.visits(), Confidence::P99).unwrap();
    assert!(both.interval.low > 0.0);
    // Women's mail moves those who bought women's goods, hardly those who bought only men's.
    let lift = |arm: &Mail, mens, womens| {
        let part = |arm: &Mail| {
            let part = arm.by_bought.iter().find(|it| (it.0, it.1) == (mens, womens)).unwrap();
            Arm::new(part.3, part.2).unwrap()
        };
        proportions(part(control), part(arm), Confidence::P95).unwrap()
    };
    let (only_mens, only_womens) = (lift(womens, 1, 0), lift(womens, 0, 1));
    println!("women's mail: only men's goods {only_mens:?}, only women's {only_womens:?}");
    assert!(only_womens.interval.low > only_mens.interval.high);
    // The split of the experiment is right.
    let counts = [control.rows, womens.rows, mens.rows];
    assert!(!sample_ratio(&counts, &[1.0; 3]).unwrap().unwrap().is_mismatch);
}

#[test]
fn sample_ratio_checks_equal_scipy() {
    for it in fixture().sample_ratio {
        same(sample_ratio(&it.counts, &it.shares).unwrap().unwrap().p_value, it.p_value);
        let found = sample_ratio_any_time(&it.counts, &it.shares).unwrap().p_value;
        // Logarithms of factorials of thousands leave seven digits.
        assert!((found - it.any_time).abs() <= 1e-7 * it.any_time, "found {found:e}, expected {:e}", it.any_time);
    }
}

#[test]
fn any_time_intervals_equal_the_integral_over_the_prior() {
    for (difference, variance, prior, level, reach, p_value) in fixture().any_time {
        let mixture = Mixture::of_effect(prior.sqrt()).unwrap();
        same(mixture.reach(variance, level.alpha()), reach);
        // The same through counts whose variance is the wanted one: 200 rows of two values.
        let arm = |mean: f64| {
            let distance = (variance / 2.0 * 199.0).sqrt();
            Moments::of((0..200).map(|n| if n % 2 == 0 { mean + distance } else { mean - distance })).unwrap()
        };
        let found = any_time_means(arm(0.0), arm(difference), mixture, level).unwrap();
        assert!((found.difference - difference).abs() < 1e-12);
        assert!((found.p_value / p_value - 1.0).abs() < 1e-8, "{} for {p_value}", found.p_value);
        assert!((found.interval.high - difference - reach).abs() < 1e-9 * reach);
        assert!((difference - reach - found.interval.low).abs() < 1e-9 * reach);
    }
}

#[test]
fn a_mixture_is_tightest_at_the_variance_that_it_was_made_for() {
    for level in [Confidence::P90, Confidence::P95, Confidence::P99] {
        let mixture = Mixture::for_variance(0.01, level).unwrap();
        let reach = |scale: f64| {
            let tau = Mixture::for_variance(0.01 * scale, level).unwrap();
            tau.reach(0.01, level.alpha())
        };
        let best = mixture.reach(0.01, level.alpha());
        println!("{level:?}: {:.3} instead of {:.3} standard errors", best / 0.1, level.z());
        assert!([0.1, 0.8, 0.99, 1.01, 1.3, 10.0].into_iter().all(|scale| reach(scale) > best));
    }
}

#[test]
fn cuped_equals_a_calculation_on_rows() {
    let it = fixture().cuped;
    let mut arms = [Paired::default(); 2];
    for (row, (&value, &covariate)) in it.value.iter().zip(&it.covariate).enumerate() {
        arms[usize::from(row >= it.control_rows)].add(value, covariate).unwrap();
    }
    let found = cuped(&arms[0], &arms[1], Confidence::P95).unwrap();
    same(found.theta, it.theta);
    same(found.comparison.difference, it.difference);
    same(found.comparison.p_value.unwrap(), it.p_value);
    same(found.comparison.interval.low, it.interval[0]);
    same(found.comparison.interval.high, it.interval[1]);
    same(found.variance_reduction.unwrap(), it.variance_reduction);
}

#[test]
fn power_equals_statsmodels_and_is_inverted_by_rows_and_effects() {
    let fixture = fixture();
    let rates = fixture
        .power_rate
        .into_iter()
        .map(|(rate, effect, rows, ratio, level, power)| (Baseline::Rate(rate), effect, rows, ratio, level, power));
    let means = fixture.power_mean.into_iter().map(|(size, rows, ratio, level, power)| {
        // statsmodels counts the rows of the first arm.
        (Baseline::Deviation(2.0), 2.0 * size, rows, ratio, level, power)
    });
    let mut seen = 0;
    for (baseline, effect, rows, ratio, confidence, power) in rates.chain(means) {
        let total = rows as f64 * (1.0 + ratio);
        let plan = Plan { baseline, share: 1.0 / (1.0 + ratio), confidence, power: 0.8 };
        let found = plan.power(effect, total as u64).unwrap();
        assert!((found - power).abs() < 1e-9, "{plan:?}: found {found}, expected {power}");
        // The number of rows for a power has it, and one row less does not, up to the wrong tail.
        let needed = plan.rows(effect).unwrap().unwrap();
        assert!(plan.power(effect, needed).unwrap() >= 0.8);
        assert!(plan.power(effect, needed - needed.min(3)).unwrap() < 0.8 + 1e-5);
        if effect > 0.0 {
            let smallest = plan.smallest_effect(needed).unwrap().unwrap();
            assert!((smallest / effect - 1.0).abs() < 1e-2, "{smallest} for {effect}");
            assert!((plan.power(smallest, needed).unwrap() - 0.8).abs() < 1e-9);
        }
        seen += 1;
    }
    assert_eq!(seen, 18);
}

/// Uniform numbers in [0, 1) from a seed.
fn uniform(seed: u64) -> impl FnMut() -> f64 {
    let mut state = mix(seed);
    move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        (mix(state) >> 11) as f64 / 2.0_f64.powi(53)
    }
}

/// The shares of experiments in which a daily look is ever misled: by the interval for one look, by the interval for any
/// number of looks, and, without an effect, by its p-value.
fn misled(experiments: u32, days: u32, per_day: u32, rate: f64, effect: f64, prior: Mixture) -> (f64, f64, f64) {
    let (mut fixed, mut any_time, mut by_p_value) = (0, 0, 0);
    for seed in 0..experiments {
        let mut next = uniform(u64::from(seed) + 1_000);
        let mut day = |rate| (0..per_day).filter(|_| next() < rate).count() as u64;
        let (mut hits, mut rows) = ([0, 0], 0);
        let mut alarms = [false; 3];
        for _ in 0..days {
            hits = [hits[0] + day(rate), hits[1] + day(rate + effect)];
            rows += u64::from(per_day);
            let [control, variant] = hits.map(|hits| Arm::new(hits, rows).unwrap());
            let once = proportions(control, variant, Confidence::P95);
            alarms[0] |= once.is_some_and(|it| !it.interval.covers(effect));
            let found = any_time_proportions(control, variant, prior, Confidence::P95);
            alarms[1] |= found.is_some_and(|it| !it.interval.covers(effect));
            alarms[2] |= found.is_some_and(|it| it.p_value < 0.05);
        }
        fixed += u32::from(alarms[0]);
        any_time += u32::from(alarms[1]);
        by_p_value += u32::from(alarms[2]);
    }
    let share = |count| f64::from(count) / f64::from(experiments);
    (share(fixed), share(any_time), share(by_p_value))
}

#[test]
fn looking_every_day_is_allowed_with_any_time_intervals_only() {
    // A prior that is right for the size, one that is far too small, and a rare outcome.
    for (rate, per_day, size, effect) in
        [(0.1, 200, 0.02, 0.0), (0.1, 200, 0.002, 0.0), (0.01, 400, 0.004, 0.0), (0.05, 200, 0.02, 0.015)]
    {
        let prior = Mixture::of_effect(size).unwrap();
        let (fixed, any_time, by_p_value) = misled(400, 50, per_day, rate, effect, prior);
        println!("rate {rate}, effect {effect}: fixed {fixed}, any time {any_time}, by p-value {by_p_value}");
        // 20 of 400 are allowed; 33 is three deviations more.
        assert!(any_time <= 33.0 / 400.0 && (effect != 0.0 || by_p_value == any_time));
        assert!(fixed > 0.2, "without it, peeking finds what is not there");
    }
}

/// Purchases of 5 % of the users, exponential in amount: the mean of a day's 200 values is still skewed.
#[test]
fn looking_every_day_is_allowed_for_skewed_amounts() {
    let prior = Mixture::of_effect(0.5).unwrap();
    let mut misled = 0;
    for seed in 0..400 {
        let mut next = uniform(seed + 40_000);
        let mut arms = [Moments::default(); 2];
        let is_misled = (0..40).any(|_| {
            for arm in &mut arms {
                (0..200).for_each(|_| {
                    let amount = if next() < 0.05 { -20.0 * (1.0 - next()).ln() } else { 0.0 };
                    arm.add(amount).unwrap();
                });
            }
            let found = any_time_means(arms[0], arms[1], prior, Confidence::P95).unwrap();
            !found.interval.covers(0.0)
        });
        misled += u32::from(is_misled);
    }
    println!("misled in {misled} of 400");
    assert!(misled <= 33);
}

#[test]
fn effects_are_found_in_about_the_planned_rows() {
    // 10 % against 12 %.
    let plan = Plan { baseline: Baseline::Rate(0.1), share: 0.5, confidence: Confidence::P95, power: 0.8 };
    let fixed = plan.rows(0.02).unwrap().unwrap();
    let prior = Mixture::of_effect(0.02).unwrap();
    let any_time = plan.rows_any_time(0.02, prior).unwrap().unwrap();
    let (mut found_fixed, mut found_any_time) = (0, 0);
    for seed in 0..400 {
        let mut next = uniform(seed + 77_000);
        let mut arm = |rows: u64, rate| Arm::new((0..rows).filter(|_| next() < rate).count() as u64, rows).unwrap();
        let control = arm(fixed / 2, 0.1);
        let found = proportions(control, arm(fixed / 2, 0.12), Confidence::P95).unwrap();
        found_fixed += u32::from(found.p_value.unwrap() < 0.05);
        let (control, variant) = (arm(any_time / 2, 0.1), arm(any_time / 2, 0.12));
        let found = any_time_proportions(control, variant, prior, Confidence::P95).unwrap();
        found_any_time += u32::from(!found.interval.covers(0.0));
    }
    println!("{fixed} rows find {found_fixed} of 400; {any_time} rows at any time find {found_any_time}");
    // 320 with a deviation of 8, and half with one of 10.
    assert!((296..=344).contains(&found_fixed));
    assert!((165..=235).contains(&found_any_time));
}

#[test]
fn a_right_split_rarely_alarms_and_a_wrong_one_does() {
    let alarms = |share: f64| {
        (0..300)
            .filter(|seed| {
                let mut next = uniform(seed + 500_000);
                let mut counts = [0_u64; 2];
                (0..40).any(|_| {
                    (0..500).for_each(|_| counts[usize::from(next() < share)] += 1);
                    sample_ratio_any_time(&counts, &[1.0, 1.0]).unwrap().p_value < 0.05
                })
            })
            .count()
    };
    let (right, wrong) = (alarms(0.5), alarms(0.52));
    println!("of 300: {right} with a right split, {wrong} with 52 to 48");
    // 15 are allowed; 27 is three deviations more.
    assert!(right <= 27 && wrong > 270);
}

#[test]
fn cuped_keeps_the_effect_and_covers_it_as_stated() {
    let experiments: u16 = 500;
    let (mut covered, mut sum, mut reduced) = (0, 0.0, 0.0);
    for seed in 0..u64::from(experiments) {
        let mut next = uniform(seed + 900_000);
        let mut arm = |effect: f64| {
            let mut paired = Paired::default();
            for _ in 0..300 {
                let before = next() * 10.0;
                paired.add(before + next() * 4.0 + effect, before).unwrap();
            }
            paired
        };
        let found = cuped(&arm(0.0), &arm(0.5), Confidence::P95).unwrap();
        covered += u16::from(found.comparison.interval.covers(0.5));
        sum += found.comparison.difference;
        reduced += found.variance_reduction.unwrap();
    }
    let mean = |sum: f64| sum / f64::from(experiments);
    println!("covered {covered}, mean {}, variance reduction {}", mean(sum), mean(reduced));
    // 475 with a deviation of 5. The variances are 100/12 explained and 16/12 not.
    assert!((458..=492).contains(&covered));
    assert!((mean(sum) - 0.5).abs() < 0.015 && (mean(reduced) - 100.0 / 116.0).abs() < 0.01);
}

#[test]
fn days_left_are_rows_missing_over_rows_a_day() {
    assert_eq!(days_left(500, 2_000, 300.0), Some(5.0));
    assert_eq!((days_left(2_000, 2_000, 0.0), days_left(3_000, 2_000, f64::NAN)), (Some(0.0), Some(0.0)));
    for rate in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-320] {
        assert_eq!(days_left(0, 10, rate), None);
    }
}

#[test]
fn undefined_comparisons_are_none() {
    let arm = |successes, rows| Arm::new(successes, rows).unwrap();
    let level = Confidence::P95;
    assert_eq!(proportions(arm(0, 0), arm(1, 2), level), None);
    assert_eq!(Arm::new(3, 2), Err(ExperimentError::Successes { successes: 3, rows: 2 }));
    let none = proportions(arm(0, 100), arm(0, 50), level).unwrap();
    assert_eq!((none.difference, none.p_value, none.relative), (0.0, None, None));
    assert!(none.interval.low < 0.0 && none.interval.high > 0.0);
    let all = proportions(arm(7, 7), arm(9, 9), level).unwrap();
    assert_eq!(all.p_value, None);
    let moments = |values: &[f64]| Moments::of(values.iter().copied()).unwrap();
    assert_eq!(means(moments(&[1.0]), moments(&[1.0, 2.0]), level), None);
    assert_eq!((moments(&[]).mean(), moments(&[1.0]).variance()), (None, None));
    let constant = means(moments(&[2.0; 3]), moments(&[5.0; 4]), level).unwrap();
    assert_eq!((constant.difference, constant.p_value, constant.interval.low), (3.0, None, 3.0));
    // One arm that does not vary is enough for a test.
    assert!(means(moments(&[2.0; 3]), moments(&[5.0, 6.0, 5.5]), level).unwrap().p_value.unwrap() < 0.05);
    let prior = Mixture::of_effect(0.1).unwrap();
    assert_eq!(any_time_proportions(arm(0, 0), arm(0, 0), prior, level), None);
    assert_eq!(any_time_proportions(arm(49, 1_000), arm(90, 1_000), prior, level), None);
    assert!(any_time_proportions(arm(50, 1_000), arm(90, 1_000), prior, level).is_some());
    assert_eq!(any_time_proportions(arm(90, 1_000), arm(990, 1_000), prior, level), None);
    assert_eq!(any_time_means(moments(&[1.0; 300]), moments(&[1.0; 300]), prior, level), None);
    assert_eq!(any_time_means(moments(&[1.0; 300]), moments(&[2.0; 199]), prior, level), None);
    // A covariate that does not vary explains nothing.
    let mut paired = Paired::default();
    (0..10).for_each(|n| paired.add(f64::from(n), 3.0).unwrap());
    let found = cuped(&paired, &paired, level).unwrap();
    assert_eq!((found.theta, found.variance_reduction), (0.0, Some(0.0)));
    assert_eq!(cuped(&Paired::default(), &paired, level), None);
}

#[test]
fn bad_numbers_are_refused() {
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1.1e30, -1.1e30] {
        let mut moments = Moments::default();
        assert!(moments.add(value).is_err() && moments == Moments::default());
        let mut paired = Paired::default();
        assert!(paired.add(value, 1.0).is_err() && paired.add(1.0, value).is_err() && paired == Paired::default());
    }
    assert_eq!(sample_ratio(&[1], &[1.0]), Err(ExperimentError::Arms { counts: 1, shares: 1 }));
    assert_eq!(sample_ratio(&[1, 2], &[1.0]), Err(ExperimentError::Arms { counts: 2, shares: 1 }));
    assert!(sample_ratio(&[1; 1_001], &[1.0; 1_001]).is_err());
    assert_eq!(sample_ratio(&[0, 0], &[1.0, 2.0]), Ok(None));
    assert_eq!(sample_ratio_any_time(&[0, 0], &[1.0, 2.0]).map(|it| it.p_value), Ok(1.0));
    for share in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(matches!(sample_ratio(&[1, 2], &[1.0, share]), Err(ExperimentError::Share(_))));
        assert!(matches!(sample_ratio_any_time(&[1, 2], &[1.0, share]), Err(ExperimentError::Share(_))));
    }
    for number in [0.0, f64::NAN, f64::INFINITY, 1e-31, 1e61] {
        assert!(Mixture::of_effect(number).is_err());
        assert!(Mixture::for_variance(number * number.abs(), Confidence::P95).is_err());
    }
    let plan = Plan { baseline: Baseline::Rate(0.1), share: 0.5, confidence: Confidence::P95, power: 0.8 };
    for number in [0.0, 1.0, -0.5, f64::NAN, f64::INFINITY] {
        assert!(Plan { baseline: Baseline::Rate(number), ..plan }.rows(0.01).is_err());
        assert!(Plan { share: number, ..plan }.rows(0.01).is_err());
        assert!(Plan { power: number, ..plan }.smallest_effect(10).is_err());
    }
    assert!(Plan { power: 0.04, ..plan }.rows(0.01).is_err());
    for effect in [0.0, -0.1, 0.9, f64::NAN] {
        assert!(plan.rows(effect).is_err() && plan.power(effect, 5).is_err(), "{effect}");
    }
    for deviation in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(Plan { baseline: Baseline::Deviation(deviation), ..plan }.rows(0.01).is_err());
    }
    assert_eq!(plan.rows(1e-12), Ok(None));
    assert_eq!(plan.rows_any_time(1e-12, Mixture::of_effect(0.01).unwrap()), Ok(None));
    assert_eq!((plan.smallest_effect(0), plan.power(0.1, 0)), (Ok(None), Ok(0.0)));
}

proptest! {
    #[test]
    fn no_counts_give_a_nan(a in any::<(u64, u64)>(), b in any::<(u64, u64)>(), effect in 1e-30..1e30_f64) {
        let arm = |it: (u64, u64)| Arm::new(it.0.min(it.1), it.0.max(it.1)).unwrap();
        for (a, b) in [(arm(a), arm(b)), (arm((a.0 % 5, a.1 % 5)), arm((b.0 % 200, b.1 % 200)))] {
            if let Some(it) = proportions(a, b, Confidence::P99) {
                prop_assert!(it.difference.is_finite() && it.interval.covers(it.difference), "{it:?}");
                prop_assert!(it.p_value.is_none_or(|p| (0.0..=1.0).contains(&p)), "{it:?}");
                prop_assert!(it.relative.is_none_or(|it| it.interval.covers(it.value)), "{it:?}");
            }
            let found = any_time_proportions(a, b, Mixture::of_effect(effect).unwrap(), Confidence::P90);
            prop_assert!(found.is_none_or(|it| it.interval.covers(it.difference) && (0.0..=1.0).contains(&it.p_value)));
            let split = sample_ratio_any_time(&[a.rows(), b.rows()], &[1.0, 3.0]).unwrap();
            prop_assert!((0.0..=1.0).contains(&split.p_value));
            let split = sample_ratio(&[a.rows(), b.rows()], &[1.0, 3.0]).unwrap();
            prop_assert!(split.is_none_or(|it| (0.0..=1.0).contains(&it.p_value)));
        }
    }

    #[test]
    fn no_values_give_a_nan_and_merging_is_adding(
        values in proptest::collection::vec(
            (prop_oneof![-1e30..1e30, -2.0..2.0, Just(0.0), Just(1e-300), Just(1e30)], -2.0..2.0_f64),
            0..30,
        ),
        at in 0..30_usize,
    ) {
        let paired = |rows: &[(f64, f64)]| {
            let mut paired = Paired::default();
            for it in rows {
                paired.add(it.0, it.1).unwrap();
            }
            paired
        };
        let (left, right) = values.split_at(at.min(values.len()));
        let (whole, mut merged) = (paired(&values), paired(left));
        merged.merge(&paired(right));
        let scale = values.iter().map(|it| it.0.abs()).fold(1e-300, f64::max);
        prop_assert_eq!(whole.value.count(), merged.value.count());
        prop_assert!((whole.value.mean - merged.value.mean).abs() <= 1e-12 * scale);
        prop_assert!((whole.value.squares - merged.value.squares).abs() <= 1e-10 * scale * scale);
        prop_assert!((whole.products - merged.products).abs() <= 1e-10 * scale.max(1.0));
        for (a, b) in [(paired(left), paired(right)), (whole, merged)] {
            let found = cuped(&a, &b, Confidence::P95).map(|it| it.comparison);
            for it in [means(a.value, b.value, Confidence::P95), found].into_iter().flatten() {
                prop_assert!(it.interval.covers(it.difference), "{it:?}");
                prop_assert!(it.p_value.is_none_or(|p| (0.0..=1.0).contains(&p)), "{it:?}");
                prop_assert!(it.relative.is_none_or(|it| it.interval.covers(it.value)), "{it:?}");
            }
        }
    }
}
