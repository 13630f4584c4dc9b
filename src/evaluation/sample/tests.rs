//! Tests of batch figures: against scikit-learn on real data, by hand, and on odd input.

use super::*;
use crate::evaluation::{auc, brier, calibration_ratio, log_loss, normalised_entropy, reliability};
use proptest::prelude::*;
use serde::Deserialize;

/// A case of `quality.json`, which `effect.py` writes.
#[derive(Deserialize)]
pub(in crate::evaluation) struct Case {
    pub(in crate::evaluation) name: String,
    y: String,
    p: Vec<f64>,
    w: Option<Vec<f64>>,
    user: Option<Vec<u32>>,
    field: Option<Vec<u32>>,
    pub(in crate::evaluation) bins: usize,
    expected: Expected,
}

/// One field for each figure in the file; not every case has all.
#[derive(Deserialize)]
struct Expected {
    log_loss: f64,
    normalised_entropy: f64,
    calibration_ratio: f64,
    brier: f64,
    ece: f64,
    auc: f64,
    pr_auc: f64,
    user_auc_impressions: Option<f64>,
    user_auc_clicks: Option<f64>,
    user_auc_equal: Option<f64>,
    users: Option<usize>,
    users_left_out: Option<usize>,
    field_absolute: Option<f64>,
    field_relative: Option<f64>,
    fields_without_positives: Option<usize>,
}

impl Case {
    pub(in crate::evaluation) fn rows(&self) -> Vec<Weighted> {
        let weight = |at: usize| self.w.as_ref().map_or(1.0, |weights| weights[at]);
        let labels = self.y.bytes().map(|digit| digit == b'1');
        let prediction = |(&probability, label)| Prediction { probability, label };
        let rows = self.p.iter().zip(labels).map(prediction).enumerate();
        rows.map(|(at, prediction)| Weighted { prediction, weight: weight(at) }).collect()
    }

    pub(in crate::evaluation) fn is_weighted(&self) -> bool {
        self.w.is_some()
    }
}

pub(in crate::evaluation) fn cases() -> Vec<Case> {
    let text = include_str!("../../../tests/fixtures/effect/quality.json");
    serde_json::from_str(text).expect("the fixture is what the script wrote")
}

#[track_caller]
fn same(found: Option<f64>, expected: f64) {
    let found = found.expect("the figure is defined");
    assert!((found - expected).abs() <= 1e-9 * expected.abs().max(1.0), "found {found}, expected {expected}");
}

fn row(probability: f64, label: bool, weight: f64) -> Weighted {
    Weighted { prediction: Prediction { probability, label }, weight }
}

#[test]
fn figures_equal_those_of_scikit_learn() {
    let mut seen = 0;
    for case in cases() {
        let expected = &case.expected;
        let found = Sample::new(case.rows()).unwrap().figures(case.bins);
        println!("{}: {found:?}", case.name);
        same(found.log_loss, expected.log_loss);
        same(found.normalised_entropy, expected.normalised_entropy);
        same(found.calibration_ratio, expected.calibration_ratio);
        same(found.brier, expected.brier);
        for (bounded, expected) in
            [(found.ece, expected.ece), (found.auc, expected.auc), (found.pr_auc, expected.pr_auc)]
        {
            same(bounded.map(|it| it.value), expected);
            assert_eq!(bounded.map(|it| it.error()), Some(0.0), "rows in memory leave nothing open");
        }
        seen += 1;
    }
    assert_eq!(seen, 4);
}

#[test]
fn per_user_auc_equals_scikit_learn_user_by_user() {
    let mut seen = 0;
    for case in cases() {
        let (Some(user), expected) = (&case.user, &case.expected) else { continue };
        for (weighting, value) in [
            (UserWeighting::Impressions, expected.user_auc_impressions),
            (UserWeighting::Clicks, expected.user_auc_clicks),
            (UserWeighting::Equal, expected.user_auc_equal),
        ] {
            let found = user_auc(user.iter().zip(case.rows()), weighting).unwrap();
            same(found.value, value.unwrap());
            assert_eq!((Some(found.users), Some(found.users_left_out)), (expected.users, expected.users_left_out));
            seen += 1;
        }
    }
    assert_eq!(seen, 9);
}

#[test]
fn field_level_error_equals_a_data_frames() {
    let mut seen = 0;
    for case in cases() {
        let (Some(field), expected) = (&case.field, &case.expected) else { continue };
        let values = by_field(field.iter().zip(case.rows())).unwrap();
        let found = field_error(values.values());
        same(found.absolute, expected.field_absolute.unwrap());
        same(found.relative, expected.field_relative.unwrap());
        assert_eq!(Some(found.values_without_positives), expected.fields_without_positives);
        // Added in two halves, it is the same.
        let rows: Vec<_> = field.iter().zip(case.rows()).collect();
        let mut halves = by_field(rows[..1_000].iter().copied()).unwrap();
        for (value, sums) in by_field(rows[1_000..].iter().copied()).unwrap() {
            halves.entry(value).or_default().merge(&sums);
        }
        same(field_error(halves.values()).absolute, expected.field_absolute.unwrap());
        seen += 1;
    }
    assert_eq!(seen, 3);
}

#[test]
fn plain_rows_give_what_the_plain_functions_give() {
    for case in cases().into_iter().filter(|case| !case.is_weighted()) {
        let plain: Vec<_> = case.rows().iter().map(|it| it.prediction).collect();
        let sample = Sample::of(&plain).unwrap();
        let found = sample.figures(case.bins);
        same(found.log_loss, log_loss(&plain).unwrap());
        same(found.normalised_entropy, normalised_entropy(&plain).unwrap());
        same(found.calibration_ratio, calibration_ratio(&plain).unwrap());
        same(found.brier, brier(&plain).unwrap());
        same(found.auc.map(|it| it.value), auc(&plain).unwrap());
        if case.name == "shoppers" {
            // No ties, and the bins divide the rows.
            for (bin, other) in sample.reliability(10).iter().zip(reliability(&plain, 10)) {
                same(Some(bin.predicted), other.predicted);
                same(Some(bin.observed), other.observed);
                same(Some(bin.weight), other.count as f64);
            }
        }
    }
}

#[test]
fn four_weighted_rows_match_a_calculation_by_hand() {
    let rows = [row(0.8, true, 2.0), row(0.5, false, 1.0), row(0.5, true, 1.0), row(0.2, false, 4.0)];
    let found = Sample::new(rows).unwrap().figures(2);
    assert_eq!((found.rows, found.weight, found.positives), (4, 8.0, 3.0));
    // Pairs: 2 · 5 in order; of the tied positive 4 in order and 1/2; of 3 · 5.
    same(found.auc.map(|it| it.value), 14.5 / 15.0);
    // 2/3 at precision 1, 1/3 at 3/4.
    same(found.pr_auc.map(|it| it.value), 2.0 / 3.0 + 0.25);
    same(found.brier, (2.0 * 0.04 + 0.25 + 0.25 + 4.0 * 0.04) / 8.0);
    same(found.calibration_ratio, 3.4 / 3.0);
    // Two bins of weight 4: the four of 0.2; then both of 0.5 and 0.8: |0.8 - 0| and |2.6 - 3|.
    same(found.ece.map(|it| it.value), (0.8 + 0.4) / 8.0);
}

#[test]
fn a_constant_score_ranks_nothing_and_is_off_by_its_distance_from_the_rate() {
    let rows: Vec<_> = (0..1_000).map(|n| row(0.3, n % 5 == 0, 1.0)).collect();
    for rows in [rows.clone(), rows.into_iter().rev().collect()] {
        let found = Sample::new(rows).unwrap().figures(10);
        same(found.auc.map(|it| it.value), 0.5);
        same(found.pr_auc.map(|it| it.value), 0.2);
        same(found.ece.map(|it| it.value), 0.1);
    }
}

#[test]
fn undefined_figures_are_none() {
    let none = Sample::new([]).unwrap();
    let found = none.figures(10);
    assert_eq!((found.log_loss, found.brier, found.ece, found.auc, found.predicted), (None, None, None, None, None));
    assert_eq!((none.reliability(5), none.curve(5)), (vec![], vec![]));
    let weightless = Sample::new([row(0.5, true, 0.0), row(0.1, false, 0.0)]).unwrap().figures(10);
    assert_eq!((weightless.rows, weightless.log_loss, weightless.auc), (2, None, None));
    let negatives = Sample::new([row(0.5, false, 1.0); 3]).unwrap();
    let found = negatives.figures(0);
    assert_eq!((found.auc, found.pr_auc, found.normalised_entropy, found.calibration_ratio), (None, None, None, None));
    assert_eq!((found.ece, found.brier, negatives.curve(9)), (None, Some(0.25), vec![]));
    let positives = Sample::new([row(0.5, true, 1.0); 3]).unwrap().figures(2);
    assert_eq!((positives.auc, positives.normalised_entropy), (None, None));
    same(positives.pr_auc.map(|it| it.value), 1.0);
    let users = user_auc([(1, row(0.5, true, 1.0)), (2, row(0.1, false, 1.0))], UserWeighting::Equal).unwrap();
    assert_eq!((users.value, users.users, users.users_left_out), (None, 0, 2));
    let fields = field_error(&[]);
    assert_eq!((fields.absolute, fields.relative), (None, None));
    let fields = field_error(&[FieldSums { weight: 3.0, positives: 0.0, predicted: 0.6 }]);
    assert_eq!((fields.relative, fields.values_without_positives), (None, 1));
    same(fields.absolute, 0.2);
}

#[test]
fn bad_numbers_are_refused_with_their_row() {
    let good = row(0.5, true, 1.0);
    for value in [f64::NAN, f64::INFINITY, -0.1, 1.1] {
        let error = Sample::new([good, row(value, true, 1.0)]).unwrap_err();
        assert!(matches!(error, SampleError::Probability { row: 1, .. }), "{error}");
        assert!(user_auc([(1, row(value, true, 1.0))], UserWeighting::Equal).is_err());
        assert!(by_field([(1, row(value, true, 1.0))]).is_err());
        assert!(FieldSums::default().add(&row(value, true, 1.0)).is_err());
    }
    for weight in [f64::NAN, f64::INFINITY, -1.0, 1e31, 1e-31] {
        let error = Sample::new([good, good, row(0.5, true, weight)]).unwrap_err();
        assert!(matches!(error, SampleError::Weight { row: 2, .. }), "{error}");
    }
    let error = Sample::new([row(2.0, true, 1.0)]).unwrap_err();
    assert_eq!(error.to_string(), "evaluate row 0: probability 2 is not between 0 and 1");
}

#[test]
fn the_curve_ends_at_all_rows_and_its_area_is_the_auc() {
    let case = &cases()[0];
    let sample = Sample::new(case.rows()).unwrap();
    let all = sample.curve(1_000_000);
    let mut area = 0.0;
    let mut last = (0.0, 0.0);
    for it in &all {
        area += (it.false_positive_rate - last.0) * f64::midpoint(it.true_positive_rate, last.1);
        last = (it.false_positive_rate, it.true_positive_rate);
    }
    same(Some(area), case.expected.auc);
    for points in [1, 2, 10, 100] {
        let some = sample.curve(points);
        assert!(some.len() <= points && !some.is_empty());
        let end = some[some.len() - 1];
        assert_eq!((end.true_positive_rate, end.false_positive_rate), (1.0, 1.0));
        assert!(some.windows(2).all(|two| two[0].threshold > two[1].threshold));
    }
    assert!(sample.curve(100).len() > 40);
}

/// Rows with few distinct scores and extreme weights.
fn rows() -> impl Strategy<Value = Vec<Weighted>> {
    let probability = prop_oneof![
        Just(0.0),
        Just(-0.0),
        Just(1.0),
        Just(5e-324),
        0.0..=1.0,
        (0..=4_u8).prop_map(|n| f64::from(n) / 4.0)
    ];
    let weight = prop_oneof![Just(0.0), Just(1.0), Just(1e30), Just(1e-30), 0.1..10.0];
    proptest::collection::vec((probability, any::<bool>(), weight).prop_map(|(p, y, w)| row(p, y, w)), 0..40)
}

proptest! {
    #[test]
    fn no_rows_give_a_nan_and_no_order_matters(rows in rows(), bins in 0..20_usize, seed: u64) {
        let found = Sample::new(rows.clone()).unwrap().figures(bins);
        let plain = [
            found.predicted,
            found.observed,
            found.log_loss,
            found.normalised_entropy,
            found.calibration_ratio,
            found.brier,
        ];
        prop_assert!(plain.into_iter().flatten().all(f64::is_finite), "{found:?}");
        for it in [found.ece, found.auc, found.pr_auc].into_iter().flatten() {
            prop_assert!((0.0..=1.0).contains(&it.value) && it.low == it.value && it.high == it.value, "{found:?}");
        }
        let mut shuffled = rows;
        shuffled.sort_by_key(|it| crate::random::mix(seed ^ it.weight.to_bits() ^ it.prediction.probability.to_bits()));
        prop_assert_eq!(Sample::new(shuffled).unwrap().figures(bins), found);
    }

    #[test]
    fn a_weight_of_two_is_the_same_row_twice(
        rows in proptest::collection::vec((0..=6_u8, any::<bool>(), 0..3_u8), 1..30),
    ) {
        let one = |(p, y, _): (u8, bool, u8), weight| row(f64::from(p) / 6.0, y, weight);
        let weighted = Sample::new(rows.iter().map(|&it| one(it, f64::from(it.2)))).unwrap().figures(4);
        let repeated = Sample::new(rows.iter().flat_map(|&it| (0..it.2).map(move |_| one(it, 1.0)))).unwrap().figures(4);
        let values = |it: &Figures| {
            let [ece, auc, pr_auc] = [it.ece, it.auc, it.pr_auc].map(|it| it.map(|it| it.value));
            [it.log_loss, it.brier, it.calibration_ratio, ece, auc, pr_auc]
        };
        for (a, b) in values(&weighted).into_iter().zip(values(&repeated)) {
            let is_near = (a.unwrap_or(0.0) - b.unwrap_or(0.0)).abs() < 1e-12;
            prop_assert!(a.is_some() == b.is_some() && is_near, "{a:?} {b:?}");
        }
    }
}
