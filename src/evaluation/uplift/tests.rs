//! Tests of uplift: against scikit-uplift on the e-mail experiment, by hand, on known truth, and on odd input.

use super::*;
use proptest::prelude::*;
use serde::Deserialize;

/// `uplift.json`, which `effect.py` writes.
#[derive(Deserialize)]
struct Fixture {
    y: String,
    treated: String,
    model_treated: Vec<f64>,
    model_control: Vec<f64>,
    effect_treated: Vec<f64>,
    effect_control: Vec<f64>,
    propensity: f64,
    t: Expected,
    x: Expected,
    reversed: Expected,
}

#[derive(Deserialize)]
struct Expected {
    qini: ExpectedArea,
    auuc: ExpectedArea,
}

#[derive(Deserialize)]
struct ExpectedArea {
    unscaled: f64,
    over_random: f64,
    of_perfect: f64,
}

fn fixture() -> Fixture {
    let text = include_str!("../../../tests/fixtures/effect/uplift.json");
    serde_json::from_str(text).expect("the fixture is what the script wrote")
}

impl Fixture {
    fn rows(&self, score: impl Fn(usize) -> f64) -> Uplift {
        let bits = |text: &str| text.bytes().map(|digit| digit == b'1').collect::<Vec<_>>();
        let (y, treated) = (bits(&self.y), bits(&self.treated));
        let row =
            |at: usize| Exposure { score: score(at), is_treated: treated[at], outcome: f64::from(u8::from(y[at])) };
        Uplift::new((0..y.len()).map(row)).unwrap()
    }

    fn t_score(&self, at: usize) -> f64 {
        round(t_learner(self.model_treated[at], self.model_control[at]).unwrap(), 1e6)
    }

    fn x_score(&self, at: usize) -> f64 {
        let learner = XLearner::new(self.propensity).unwrap();
        round(learner.uplift(self.effect_treated[at], self.effect_control[at]).unwrap(), 1e8)
    }
}

/// The script rounds, so that scores which differ by the last bit are ties.
fn round(number: f64, scale: f64) -> f64 {
    (number * scale).round() / scale
}

#[track_caller]
fn same(found: f64, expected: f64) {
    assert!((found - expected).abs() <= 1e-9 * expected.abs().max(1.0), "found {found}, expected {expected}");
}

const NO_BOOTSTRAP: Resampling = Resampling { replicates: 0, seed: 0, confidence: Confidence::P95 };

#[test]
fn areas_equal_those_of_scikit_uplift() {
    let fixture = fixture();
    let learners: [(&dyn Fn(usize) -> f64, &Expected); 3] = [
        (&|at| fixture.t_score(at), &fixture.t),
        (&|at| fixture.x_score(at), &fixture.x),
        (&|at| -fixture.t_score(at), &fixture.reversed),
    ];
    for (score, expected) in learners {
        let rows = fixture.rows(score);
        let found = rows.areas(&NO_BOOTSTRAP);
        println!("{found:?}");
        for (found, expected) in [(found.qini, &expected.qini), (found.auuc, &expected.auuc)] {
            same(found.unscaled, expected.unscaled);
            same(found.over_random, expected.over_random);
            same(found.of_perfect.unwrap(), expected.of_perfect);
            same(found.per_row, expected.over_random / (4_000.0 * 4_000.0));
            assert_eq!((found.per_row_interval, found.of_perfect_interval), (None, None));
        }
    }
}

#[test]
fn on_the_e_mail_experiment_the_models_find_whom_the_mail_moves() {
    let fixture = fixture();
    let rows = fixture.rows(|at| fixture.t_score(at));
    let found = rows.areas(&Resampling { replicates: 300, ..Resampling::default() });
    println!("{found:?}");
    for area in [found.qini, found.auuc] {
        let interval = area.per_row_interval.unwrap();
        assert!(interval.low > 0.0 && interval.covers(area.per_row));
        assert!(area.of_perfect_interval.unwrap().covers(area.of_perfect.unwrap()));
    }
    let bins = rows.bins(4, Confidence::P95).unwrap();
    assert_eq!(bins.iter().map(|it| it.rows).sum::<usize>(), 4_000);
    let lift = |bin: &UpliftBin| bin.comparison.unwrap().difference;
    println!("{:?}", bins.iter().map(lift).collect::<Vec<_>>());
    assert!(lift(&bins[0]) > lift(&bins[3]) + 0.03);
    assert!(bins.windows(2).all(|two| two[0].score_min > two[1].score_max));
}

#[test]
fn six_rows_match_a_calculation_by_hand() {
    let row = |score, is_treated, outcome| Exposure { score, is_treated, outcome };
    // The last two are tied.
    let rows = [
        row(0.9, true, 1.0),
        row(0.8, false, 0.0),
        row(0.7, true, 1.0),
        row(0.6, false, 1.0),
        row(0.5, true, 0.0),
        row(0.5, false, 0.0),
    ];
    let uplift = Uplift::new(rows).unwrap();
    let curve = uplift.curve(100);
    assert_eq!(curve.iter().map(|it| it.rows).collect::<Vec<_>>(), [1, 2, 3, 4, 6]);
    assert_eq!(curve.iter().map(|it| it.qini).collect::<Vec<_>>(), [1.0, 1.0, 2.0, 1.0, 1.0]);
    assert_eq!(curve.iter().map(|it| it.uplift).collect::<Vec<_>>()[..4], [1.0, 2.0, 3.0, 2.0]);
    same(curve[4].uplift, (2.0 / 3.0 - 1.0 / 3.0) * 6.0);
    let found = uplift.areas(&NO_BOOTSTRAP);
    // 0.5 + 1 + 1.5 + 1.5 + 2
    same(found.qini.unscaled, 6.5);
    same(found.qini.over_random, 6.5 - 3.0);
    // Perfect: 2 treated positives, then 1 + 2 without effect, then the control positive: heights 2, 2, 1.
    same(found.qini.of_perfect.unwrap(), 3.5 / (2.0 + 6.0 + 1.5 - 3.0));
    // 0.5 + 1.5 + 2.5 + 2.5 + 4
    same(found.auuc.unscaled, 11.0);
}

/// Half of the customers are moved by 0.3, and a score knows them or not.
fn known(seed: u64, rows: u64, knows: bool) -> Uplift {
    let mut state = mix(seed);
    let mut next = move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        (mix(state) >> 11) as f64 / 2.0_f64.powi(53)
    };
    let row = |_| {
        let (moved, is_treated, noise) = (next() < 0.5, next() < 0.5, next());
        let rate = 0.2 + if moved && is_treated { 0.3 } else { 0.0 };
        let score = if knows { f64::from(u8::from(moved)) + noise } else { noise };
        Exposure { score, is_treated, outcome: f64::from(u8::from(next() < rate)) }
    };
    Uplift::new((0..rows).map(row)).unwrap()
}

#[test]
fn bootstrap_intervals_cover_a_known_area() {
    let experiments = 150;
    let (mut covered, mut useless) = (0, 0);
    for seed in 0..experiments {
        let resampling = Resampling { replicates: 100, seed, confidence: Confidence::P95 };
        // A share of 0.5 treated, of whom the first half are moved by 0.3: the uplift curve per row rises to 0.15 at
        // one half and stays, so its area over random is 0.15 / 4. Qini counts the treated half only.
        let found = known(seed, 800, true).areas(&resampling);
        covered += usize::from(found.auuc.per_row_interval.unwrap().covers(0.0375));
        let found = known(seed + 10_000, 800, false).areas(&resampling);
        useless += usize::from(found.qini.per_row_interval.unwrap().covers(0.0));
    }
    println!("of {experiments}: known {covered}, useless {useless}");
    // 142 with a deviation of 3; a little less with 100 replicates.
    assert!((130..=149).contains(&covered) && (130..=149).contains(&useless));
}

#[test]
fn a_seed_gives_the_same_intervals_and_no_order_changes_the_areas() {
    let one = known(3, 500, true);
    let mut reversed: Vec<_> = one.rows.clone();
    reversed.reverse();
    let two = Uplift::new(reversed).unwrap();
    assert_eq!(one.areas(&Resampling::default()), two.areas(&Resampling::default()));
    let other = Resampling { seed: 1, ..Resampling::default() };
    assert_ne!(one.areas(&Resampling::default()), one.areas(&other));
}

#[test]
fn an_amount_has_areas_but_no_perfect_model() {
    let rows = (0..40_u32).map(|n| Exposure {
        score: f64::from(n % 8),
        is_treated: n % 2 == 0,
        outcome: f64::from(n % 5) * 10.0,
    });
    let found = Uplift::new(rows).unwrap().areas(&Resampling::default());
    assert_eq!((found.qini.of_perfect, found.qini.of_perfect_interval), (None, None));
    assert!(found.qini.per_row_interval.is_some());
}

#[test]
fn constant_scores_and_outcomes_gain_nothing() {
    let rows = |score, outcome: fn(u32) -> f64| {
        let row = move |n| Exposure { score, is_treated: n % 2 == 0, outcome: outcome(n) };
        Uplift::new((0..40).map(row)).unwrap()
    };
    let found = rows(0.5, |n| f64::from(u8::from(n % 3 == 0))).areas(&Resampling::default());
    assert!(found.qini.over_random.abs() < 1e-12 && found.auuc.over_random.abs() < 1e-12);
    // Nobody ever converts: nothing to gain, even for a perfect model.
    let found = rows(0.5, |_| 0.0).areas(&NO_BOOTSTRAP);
    assert_eq!((found.qini.over_random, found.qini.of_perfect, found.auuc.of_perfect), (0.0, None, None));
    assert_eq!(rows(0.5, |_| 1.0).curve(0), vec![]);
    assert_eq!(rows(0.5, |_| 1.0).bins(10, Confidence::P95).unwrap().len(), 1);
}

#[test]
fn bad_rows_and_models_are_refused() {
    let good = Exposure { score: 0.1, is_treated: true, outcome: 1.0 };
    let other = Exposure { is_treated: false, ..good };
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let error = Uplift::new([good, Exposure { score: value, ..good }]).unwrap_err();
        assert!(matches!(error, UpliftError::Score { row: 1, .. }));
    }
    for value in [f64::NAN, f64::INFINITY, 1.1e30, -1.1e30] {
        let error = Uplift::new([good, good, Exposure { outcome: value, ..good }]).unwrap_err();
        assert!(matches!(error, UpliftError::Outcome { row: 2, .. }));
        assert!(t_learner(value, 0.0).is_err() && t_learner(0.0, value).is_err());
        assert!(imputed_effect(true, value, 0.0).is_err() && imputed_effect(false, 0.0, value).is_err());
        let learner = XLearner::new(0.5).unwrap();
        assert!(learner.uplift(value, 0.0).is_err() && learner.uplift(0.0, value).is_err());
    }
    assert_eq!(Uplift::new([]).unwrap_err(), UpliftError::OneArm { treated: 0, control: 0 });
    assert_eq!(Uplift::new([good, good]).unwrap_err(), UpliftError::OneArm { treated: 2, control: 0 });
    assert!(Uplift::new([good, other]).is_ok());
    for propensity in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
        assert!(matches!(XLearner::new(propensity), Err(UpliftError::Propensity(_))));
    }
}

#[test]
fn learners_join_two_models_as_published() {
    same(t_learner(0.3, 0.1).unwrap(), 0.2);
    same(imputed_effect(true, 1.0, 0.3).unwrap(), 0.7);
    same(imputed_effect(false, 1.0, 0.3).unwrap(), -0.7);
    // With few treated, the model of their effects counts most.
    same(XLearner::new(0.1).unwrap().uplift(0.5, 0.2).unwrap(), 0.9 * 0.5 + 0.1 * 0.2);
}

proptest! {
    #[test]
    fn no_rows_give_a_nan(
        rows in proptest::collection::vec(
            (
                prop_oneof![-2.0..2.0, Just(0.0), Just(-0.0), Just(1e300)],
                any::<bool>(),
                prop_oneof![Just(0.0), Just(1.0), Just(1e30), Just(-1e30)],
            ),
            0..30,
        ),
        points in 0..12_usize,
        seed: u64,
    ) {
        let rows = rows.into_iter().map(|(score, is_treated, outcome)| Exposure { score, is_treated, outcome });
        if let Ok(uplift) = Uplift::new(rows) {
            let found = uplift.areas(&Resampling { replicates: 5, seed, confidence: Confidence::P90 });
            for it in [found.qini, found.auuc] {
                prop_assert!(it.unscaled.is_finite() && it.over_random.is_finite() && it.per_row.is_finite(), "{it:?}");
                prop_assert!(it.of_perfect.is_none_or(f64::is_finite), "{it:?}");
                prop_assert!(it.per_row_interval.is_some_and(|it| it.low <= it.high), "{it:?}");
            }
            let curve = uplift.curve(points);
            prop_assert!(curve.len() <= points && curve.iter().all(|it| it.qini.is_finite() && it.uplift.is_finite()));
            prop_assert_eq!(curve.last().map(|it| it.rows), (points > 0).then_some(uplift.rows.len()));
            prop_assert!(uplift.bins(points, Confidence::P95).is_ok());
        }
    }
}
