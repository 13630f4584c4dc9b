//! Tests of the sketch: its bounds against rows in memory, merging, storing, and odd input.

use super::*;
use crate::evaluation::{
    ranked::Bounded,
    sample::{Sample, tests::cases},
};
use proptest::prelude::*;

fn sketch(bits: u8, rows: &[Prediction]) -> Sketch {
    let mut sketch = Sketch::new(bits).unwrap();
    for it in rows {
        sketch.add(*it).unwrap();
    }
    sketch
}

/// Whether a figure in memory lies in the range of the streamed one, up to the rounding of sums.
#[track_caller]
fn within(found: Option<Bounded>, exact: Option<Bounded>) -> f64 {
    let (Some(found), Some(exact)) = (found, exact) else {
        assert_eq!(found.is_some(), exact.is_some());
        return 0.0;
    };
    let is_within = (found.low - 1e-11..=found.high + 1e-11).contains(&exact.value);
    assert!(is_within, "{found:?} does not hold {}", exact.value);
    assert!(found.low <= found.value && found.value <= found.high, "{found:?}");
    (found.value - exact.value).abs()
}

#[track_caller]
fn agree(sketch: &Sketch, rows: &[Prediction], bins: usize) {
    let (found, exact) = (sketch.figures(bins), Sample::of(rows).unwrap().figures(bins));
    assert_eq!((found.rows, found.positives), (exact.rows, exact.positives));
    let plain =
        |it: &Figures| [it.predicted, it.observed, it.log_loss, it.brier, it.normalised_entropy, it.calibration_ratio];
    for (a, b) in plain(&found).into_iter().zip(plain(&exact)) {
        assert_eq!(a.is_some(), b.is_some());
        let (a, b) = (a.unwrap_or(0.0), b.unwrap_or(0.0));
        assert!((a - b).abs() <= 1e-11 * b.abs().max(1.0), "{a} for {b}");
    }
    within(found.ece, exact.ece);
    within(found.auc, exact.auc);
    within(found.pr_auc, exact.pr_auc);
}

#[test]
fn on_real_predictions_the_figures_are_within_their_bounds() {
    for case in cases().into_iter().filter(|case| !case.is_weighted()) {
        let rows: Vec<_> = case.rows().iter().map(|it| it.prediction).collect();
        let exact = Sample::of(&rows).unwrap().figures(case.bins);
        for bits in [0, 3, 5, 8, 12] {
            let found = sketch(bits, &rows);
            agree(&found, &rows, case.bins);
            let figures = found.figures(case.bins);
            println!(
                "{}, {bits} bits, {} bytes: AUC off by {:.1e} of {:.1e}, PR-AUC {:.1e} of {:.1e}, ECE {:.1e} of {:.1e}",
                case.name,
                found.bytes(),
                within(figures.auc, exact.auc),
                figures.auc.unwrap().error(),
                within(figures.pr_auc, exact.pr_auc),
                figures.pr_auc.unwrap().error(),
                within(figures.ece, exact.ece),
                figures.ece.unwrap().error()
            );
            if bits == 8 {
                assert!(figures.auc.unwrap().error() < 1e-3);
            }
        }
    }
}

#[test]
fn few_distinct_scores_leave_nothing_open() {
    let rows: Vec<_> =
        (0..5_000_u32).map(|n| Prediction { probability: f64::from(n % 7) / 8.0, label: n % 11 < n % 7 }).collect();
    let (found, exact) = (sketch(8, &rows).figures(10), Sample::of(&rows).unwrap().figures(10));
    for (found, exact) in [(found.auc, exact.auc), (found.pr_auc, exact.pr_auc), (found.ece, exact.ece)] {
        let found = found.unwrap();
        assert_eq!(found.error(), 0.0);
        assert!((found.value - exact.unwrap().value).abs() < 1e-12);
    }
}

#[test]
fn places_never_fall_and_cells_are_as_narrow_as_stated() {
    for bits in [0, 1, 5, 8, 12] {
        let mut scores: Vec<f64> = (0..200_000_u64).map(|n| n as f64 / 200_000.0).collect();
        scores.extend((0..1_100).map(|n| 0.5_f64.powi(n)));
        scores.extend((1..54).flat_map(|n| [1.0 - 0.5_f64.powi(n), (1.0 - 0.5_f64.powi(n)).next_down()]));
        scores.extend([0.0, 1.0, 0.5_f64.next_down(), 0.5, 0.5_f64.next_up(), 1.0_f64.next_down()]);
        scores.sort_by(f64::total_cmp);
        let places: Vec<_> = scores.iter().map(|&it| place(it, bits)).collect();
        assert!(places.windows(2).all(|two| two[0] <= two[1]));
        assert_eq!((places[0], places[places.len() - 1]), (0, 2 * half(bits) - 1));
        assert!(places.last().unwrap() >> bits < Sketch::new(bits).unwrap().pieces.len() as u64);
        let width = 1.0 + 1.0 / f64::from(1_u32 << bits);
        for (two, at) in scores.windows(2).zip(places.windows(2)) {
            let (low, high) = (two[0].min(1.0 - two[1]), two[1].min(1.0 - two[0]));
            if at[0] == at[1] && low > 1e-9 {
                assert!(high / low <= width + 1e-12, "{two:?} share a cell of {bits} bits");
            }
        }
    }
}

#[test]
fn memory_stays_below_what_is_stated() {
    assert_eq!(Sketch::bytes_max(5) / 1024, 95);
    assert_eq!(Sketch::bytes_max(8) / 1024, 757);
    for bits in [0, 5, 8] {
        let spread: Vec<_> = (0..100_000_u32)
            .map(|n| {
                let small = 0.5_f64.powf(1.0 + f64::from(n % 2_500) / 70.0);
                Prediction { probability: if n % 2 == 0 { small } else { 1.0 - small }, label: n % 3 == 0 }
            })
            .collect();
        let found = sketch(bits, &spread);
        assert!(found.bytes() <= Sketch::bytes_max(bits) && found.bytes() > Sketch::bytes_max(bits) * 9 / 10);
    }
}

#[test]
fn bad_input_is_refused_and_changes_nothing() {
    let good = Prediction { probability: 0.5, label: true };
    let mut found = sketch(4, &[good]);
    let before = found.clone();
    for probability in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1e-9, 1.0 + 1e-9] {
        assert!(matches!(found.add(Prediction { probability, label: true }), Err(SketchError::Probability(_))));
    }
    found.add_times(good, 0).unwrap();
    assert_eq!(found.merge(&Sketch::new(5).unwrap()), Err(SketchError::Mismatch(4, 5)));
    assert_eq!(found.add_times(good, u64::MAX), Err(SketchError::Full));
    assert_eq!(found, before);
    assert_eq!(Sketch::new(13), Err(SketchError::Bits(13)));
    let mut full = Sketch::new(4).unwrap();
    full.add_times(Prediction { probability: 1.0, label: false }, u64::MAX).unwrap();
    assert_eq!(full.merge(&before), Err(SketchError::Full));
    let figures = full.figures(3);
    assert!((figures.log_loss.unwrap() - loss(1.0, false)).abs() < 1e-9 && figures.brier == Some(1.0));
    assert!(loss(1.0, false).max(loss(0.0, true)) < LOSS_MAX);
    let text = serde_json::to_string(&full).unwrap();
    assert_eq!(serde_json::from_str::<Sketch>(&text).unwrap(), full);
}

#[test]
fn an_empty_sketch_has_no_figures() {
    let empty = Sketch::new(8).unwrap();
    let found = empty.figures(10);
    assert_eq!((found.rows, found.log_loss, found.ece, found.auc, found.pr_auc), (0, None, None, None, None));
    assert_eq!((empty.reliability(4), empty.curve(4)), (vec![], vec![]));
}

#[test]
fn a_damaged_sketch_is_refused() {
    let good =
        sketch(3, &[Prediction { probability: 0.25, label: true }, Prediction { probability: 0.26, label: false }]);
    let text = serde_json::to_string(&good).unwrap();
    assert_eq!(serde_json::from_str::<Sketch>(&text).unwrap(), good);
    let stored: Stored = good.into();
    let broken = |change: &dyn Fn(&mut Stored)| {
        let mut stored = stored.clone();
        change(&mut stored);
        Sketch::try_from(stored)
    };
    assert_eq!(broken(&|it| it.bits = 13), Err(SketchError::Bits(13)));
    for change in [
        &|it: &mut Stored| it.bits = 4,
        &|it: &mut Stored| it.cells[0].0 = 1,
        &|it: &mut Stored| it.cells[0].0 = u32::MAX,
        &|it: &mut Stored| (it.cells[0].1, it.cells[0].2) = (0, 0),
        &|it: &mut Stored| (it.cells[0].1, it.cells[0].2) = (u64::MAX, 1),
        &|it: &mut Stored| it.cells[0].3 = 0,
        &|it: &mut Stored| it.cells[0].3 = u128::MAX,
        &|it: &mut Stored| it.cells[0].4 = f64::NAN,
        &|it: &mut Stored| it.cells[0].5 = 2.0,
        &|it: &mut Stored| (it.cells[0].4, it.cells[0].5) = (0.26, 0.25),
        &|it: &mut Stored| it.cells.push(it.cells[0].clone()),
    ] as [&dyn Fn(&mut Stored); 11]
    {
        assert!(matches!(broken(change), Err(SketchError::Cell(_))));
    }
    assert_eq!(broken(&|it| it.log_loss = u128::MAX), Err(SketchError::Sums));
    assert_eq!(broken(&|it| it.brier = u128::MAX), Err(SketchError::Sums));
    assert!(serde_json::from_str::<Sketch>("{\"bits\":3}").is_err());
}

fn predictions() -> impl Strategy<Value = Vec<Prediction>> {
    let near = (0..40_i32, 0.0..1.0_f64).prop_map(|(n, part)| 0.5_f64.powi(n) * part);
    let probability =
        prop_oneof![0.0..=1.0, near.clone(), near.prop_map(|it| 1.0 - it), Just(0.0), Just(1.0), Just(0.5)];
    let one = (probability, any::<bool>()).prop_map(|(probability, label)| Prediction { probability, label });
    // Now and then a score again, so that some cells hold one score only.
    proptest::collection::vec((one, 1..3_usize), 0..120)
        .prop_map(|all| all.into_iter().flat_map(|(it, times)| vec![it; times]).collect())
}

proptest! {
    #[test]
    fn all_bounds_hold_for_any_rows(rows in predictions(), bits in 0..6_u8, bins in 1..12_usize) {
        agree(&sketch(bits, &rows), &rows, bins);
    }

    #[test]
    fn any_split_and_order_gives_the_same_sketch(rows in predictions(), at in 0..100_usize, bits in 0..9_u8) {
        let whole = sketch(bits, &rows);
        let (left, right) = rows.split_at(at.min(rows.len()));
        let (left, mut right) = (sketch(bits, left), sketch(bits, &right.iter().rev().copied().collect::<Vec<_>>()));
        right.merge(&left).unwrap();
        prop_assert_eq!(&right, &whole);
        let text = serde_json::to_string(&whole).unwrap();
        prop_assert_eq!(serde_json::from_str::<Sketch>(&text).unwrap(), whole);
    }

    #[test]
    fn a_row_added_some_times_is_that_many_rows(rows in predictions(), times in 0..5_u64) {
        let mut many = Sketch::new(4).unwrap();
        let mut each = Sketch::new(4).unwrap();
        for it in rows {
            many.add_times(it, times).unwrap();
            (0..times).for_each(|_| each.add(it).unwrap());
        }
        prop_assert_eq!(many, each);
    }
}
