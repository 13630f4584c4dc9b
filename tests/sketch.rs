//! Holds the sketch's bounds against rows in memory on many synthetic rows, and its memory against what it states.
//!
//! `SKETCH_ROWS=10000000 cargo test --release --test sketch -- --nocapture` is the long run (1.2 GB, since the exact
//! figures need all rows).

use aimpoint::evaluation::{Bounded, Prediction, sample::Sample, sketch::Sketch};

/// The rows of each kind of model without `SKETCH_ROWS`.
const ROWS: u64 = 200_000;

const BITS: u8 = 8;

const BINS: usize = 20;

fn rows() -> u64 {
    std::env::var("SKETCH_ROWS").map_or(ROWS, |text| text.parse().expect("a whole number"))
}

/// SplitMix64, as numbers in (0, 1).
fn uniform(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed;
    move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ z >> 31) >> 11) as f64 / 2.0_f64.powi(53) + 2.0_f64.powi(-54)
    }
}

/// A sum of three is close enough to normal.
fn bell(next: &mut impl FnMut() -> f64) -> f64 {
    2.0 * (next() + next() + next() - 1.5)
}

fn logistic(value: f64) -> f64 {
    1.0 / (1.0 + (-value).exp())
}

/// What scores look like.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Click rates around 1 %, a little overestimated.
    Clicks,
    /// Anything between 0 and 1.
    Wide,
    /// Nearly all within 2 % of 0.3, so that few cells hold them.
    Narrow,
    /// A thousand distinct scores.
    Tied,
    /// Sorted: the score rises with time.
    Sorted,
}

fn predictions(kind: Kind, rows: u64) -> impl Iterator<Item = Prediction> {
    let mut next = uniform(kind as u64);
    (0..rows).map(move |row| {
        let truth = match kind {
            Kind::Clicks => logistic(-4.6 + bell(&mut next)),
            Kind::Wide => logistic(2.5 * bell(&mut next)),
            Kind::Narrow => 0.3 + 0.003 * bell(&mut next),
            Kind::Tied => (logistic(bell(&mut next)) * 1_000.0).floor() / 1_000.0,
            Kind::Sorted => (row as f64 + 0.5) / rows as f64,
        };
        let probability = match kind {
            Kind::Clicks => truth * 1.1,
            Kind::Narrow => truth - 0.001,
            _ => truth,
        };
        Prediction { probability, label: next() < truth }
    })
}

/// The figure's distance from the exact one and its bound.
fn apart(name: &str, found: Option<Bounded>, exact: Option<Bounded>) -> (f64, f64) {
    let (found, exact) = (found.expect("defined"), exact.expect("defined").value);
    // The exact sums round as well: by less than 1e-9 over ten million rows.
    assert!((found.low - 1e-9..=found.high + 1e-9).contains(&exact), "{name}: {found:?} does not hold {exact}");
    ((found.value - exact).abs(), found.error())
}

#[test]
fn on_many_rows_all_figures_are_within_their_bounds_and_memory_within_its() {
    let rows = rows();
    for kind in [Kind::Clicks, Kind::Wide, Kind::Narrow, Kind::Tied, Kind::Sorted] {
        let mut sketch = Sketch::new(BITS).unwrap();
        predictions(kind, rows).for_each(|it| sketch.add(it).unwrap());
        let found = sketch.figures(BINS);
        let exact = Sample::new(predictions(kind, rows).map(Into::into)).unwrap().figures(BINS);
        let [auc, pr_auc, ece] = [
            apart("AUC", found.auc, exact.auc),
            apart("PR-AUC", found.pr_auc, exact.pr_auc),
            apart("ECE", found.ece, exact.ece),
        ];
        println!(
            "{kind:?}, {rows} rows, {} bytes: AUC {:.4} off {:.1e} of {:.1e}; PR-AUC {:.4} off {:.1e} of {:.1e}; ECE {:.4} \
             off {:.1e} of {:.1e}",
            sketch.bytes(),
            exact.auc.unwrap().value,
            auc.0,
            auc.1,
            exact.pr_auc.unwrap().value,
            pr_auc.0,
            pr_auc.1,
            exact.ece.unwrap().value,
            ece.0,
            ece.1
        );
        for (found, exact) in [
            (found.log_loss, exact.log_loss),
            (found.brier, exact.brier),
            (found.calibration_ratio, exact.calibration_ratio),
            (found.normalised_entropy, exact.normalised_entropy),
        ] {
            assert!((found.unwrap() / exact.unwrap() - 1.0).abs() < 1e-9);
        }
        assert!(sketch.bytes() <= Sketch::bytes_max(BITS));
        match kind {
            Kind::Tied => assert_eq!([auc.1, pr_auc.1, ece.1], [0.0; 3]),
            // All rows lie in some thirty cells.
            Kind::Narrow => assert!(auc.1 < 0.05 && auc.0 < 1e-3 && ece.0 < 3e-3, "{auc:?} {ece:?}"),
            _ => {
                assert!(auc.1 < 1e-3 && pr_auc.1 < 2e-3 && ece.1 < 5e-3, "{auc:?} {pr_auc:?} {ece:?}");
                assert!(auc.0 < 3e-5 && pr_auc.0 < 3e-4 && ece.0 < 1e-4, "{auc:?} {pr_auc:?} {ece:?}");
            }
        }
    }
}

#[test]
fn eight_parts_in_any_order_are_the_whole() {
    let rows = rows() / 8 * 8;
    let all: Vec<_> = predictions(Kind::Clicks, rows).collect();
    let of = |rows: &mut dyn Iterator<Item = &Prediction>| {
        let mut sketch = Sketch::new(BITS).unwrap();
        rows.for_each(|it| sketch.add(*it).unwrap());
        sketch
    };
    let whole = of(&mut all.iter());
    let mut merged = Sketch::new(BITS).unwrap();
    for part in [5, 2, 7, 0, 3, 1, 6, 4] {
        let sketch = of(&mut all.iter().rev().skip(part).step_by(8));
        // Through text, as between processes.
        let text = serde_json::to_string(&sketch).unwrap();
        merged.merge(&serde_json::from_str(&text).unwrap()).unwrap();
    }
    assert!(merged == whole, "bit for bit");
    println!("{} bytes as JSON", serde_json::to_string(&whole).unwrap().len());
}
