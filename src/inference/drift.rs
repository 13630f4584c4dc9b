//! Compares the scores of two models on the same rows.
//!
//! Guarantees: rows that either model did not score are ignored; apart from rounding, the figures do not depend on how rows are
//! batched. Limits: all sums are halved at [`ROWS_MAX`] rows, so that the figures describe recent rows; memory use is constant.

/// Upper bounds of the bins of the population stability index. Advertising scores cluster below 0.01, so the bins are finer there.
/// With twelve bins the index of two samples of the same scores stays far below 0.1, the usual threshold for attention.
const BOUNDS: [f32; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9];

/// The number of rows at which the sums are halved: enough for some hundred rows per bin, and minutes of a busy stream.
const ROWS_MAX: f64 = 65_536.0;

/// The minimum share of a bin: an empty bin would make the index infinite.
const SHARE_MIN: f64 = 1e-4;

/// The running comparison of a model's scores with the champion's.
#[derive(Clone, Debug, Default)]
pub struct Drift {
    rows: f64,
    /// The counts of the champion's and the other model's scores, by bin.
    bins: [(f64, f64); BOUNDS.len() + 1],
    /// The means of the champion and the other model.
    means: (f64, f64),
    /// The sums of squared deviations from the means, and of their products.
    squares: (f64, f64),
    products: f64,
}

impl Drift {
    /// Adds the scores of a row. False if one of them is missing.
    pub fn add(&mut self, champion: f32, other: f32) -> bool {
        if !champion.is_finite() || !other.is_finite() {
            return false;
        }
        if self.rows >= ROWS_MAX {
            self.fade();
        }
        self.rows += 1.0;
        self.bins[bin(champion)].0 += 1.0;
        self.bins[bin(other)].1 += 1.0;
        // Welford (1962), extended to the covariance.
        let before = (f64::from(champion) - self.means.0, f64::from(other) - self.means.1);
        self.means.0 += before.0 / self.rows;
        self.means.1 += before.1 / self.rows;
        let after = (f64::from(champion) - self.means.0, f64::from(other) - self.means.1);
        self.squares.0 += before.0 * after.0;
        self.squares.1 += before.1 * after.1;
        self.products += before.0 * after.1;
        true
    }

    fn fade(&mut self) {
        let sums = [&mut self.rows, &mut self.squares.0, &mut self.squares.1, &mut self.products];
        let bins = self.bins.iter_mut().flat_map(|(champion, other)| [champion, other]);
        sums.into_iter().chain(bins).for_each(|sum| *sum /= 2.0);
    }

    /// The number of rows; older ones count fractionally.
    pub fn rows(&self) -> f64 {
        self.rows
    }

    /// The means of the champion and the other model; `None` before the first row.
    pub fn means(&self) -> Option<(f64, f64)> {
        (self.rows > 0.0).then_some(self.means)
    }

    /// The population stability index: the sum over the bins of (q − p) ln(q / p), with p and q the shares of the champion's
    /// and the other's scores. Below 0.1 means similar, above 0.25 different (Siddiqi, Credit Risk Scorecards, 2006).
    pub fn psi(&self) -> Option<f64> {
        let share = |count: f64| (count / self.rows).max(SHARE_MIN);
        let part = |(champion, other): &(f64, f64)| {
            let (p, q) = (share(*champion), share(*other));
            (q - p) * (q / p).ln()
        };
        (self.rows > 0.0).then(|| self.bins.iter().map(part).sum())
    }

    /// Pearson's correlation, -1 to 1; `None` if the scores of either model are constant.
    pub fn correlation(&self) -> Option<f64> {
        let spread = (self.squares.0 * self.squares.1).sqrt();
        (spread > 0.0).then(|| (self.products / spread).clamp(-1.0, 1.0))
    }
}

fn bin(score: f32) -> usize {
    BOUNDS.partition_point(|bound| *bound < score)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, rngs::SmallRng};

    /// The figures computed directly from all pairs.
    fn direct(pairs: &[(f32, f32)]) -> (f64, f64, f64, f64) {
        let count = pairs.len() as f64;
        let of = |pick: fn(&(f32, f32)) -> f32| pairs.iter().map(move |it| f64::from(pick(it)));
        let (a, b) = (of(|it| it.0).sum::<f64>() / count, of(|it| it.1).sum::<f64>() / count);
        let covariance: f64 = of(|it| it.0).zip(of(|it| it.1)).map(|(x, y)| (x - a) * (y - b)).sum();
        let spread = |scores: &mut dyn Iterator<Item = f64>, mean: f64| scores.map(|x| (x - mean).powi(2)).sum::<f64>();
        let correlation = covariance / (spread(&mut of(|it| it.0), a) * spread(&mut of(|it| it.1), b)).sqrt();
        let share = |pick: fn(&(f32, f32)) -> f32, low: f32, high: f32| {
            let inside = pairs.iter().map(pick).filter(|score| low < *score && *score <= high).count();
            (inside as f64 / count).max(SHARE_MIN)
        };
        let edges: Vec<f32> = [f32::NEG_INFINITY].into_iter().chain(BOUNDS).chain([f32::INFINITY]).collect();
        let part = |edges: &[f32]| {
            let (p, q) = (share(|it| it.0, edges[0], edges[1]), share(|it| it.1, edges[0], edges[1]));
            (q - p) * (q / p).ln()
        };
        (a, b, correlation, edges.windows(2).map(part).sum())
    }

    #[test]
    fn the_running_figures_match_their_definitions() {
        let mut random = SmallRng::seed_from_u64(7);
        let mut drift = Drift::default();
        let mut pairs = Vec::new();
        for _ in 0..20_000 {
            let score: f32 = random.random::<f32>().powi(3);
            pairs.push((score, 0.7 * score + 0.2 * random.random::<f32>()));
        }
        assert!(pairs.iter().all(|(champion, other)| drift.add(*champion, *other)));
        let (champion, other, correlation, psi) = direct(&pairs);
        let means = drift.means().unwrap();
        for (found, expected) in [
            (means.0, champion),
            (means.1, other),
            (drift.correlation().unwrap(), correlation),
            (drift.psi().unwrap(), psi),
        ] {
            assert!((found - expected).abs() < 1e-9, "{found} is not {expected}");
        }
        assert!(psi > 0.25 && correlation > 0.9, "{psi} {correlation}");
    }

    #[test]
    fn equal_scores_have_no_drift_and_two_samples_of_them_almost_none() {
        let (mut same, mut samples) = (Drift::default(), Drift::default());
        let mut random = SmallRng::seed_from_u64(11);
        for _ in 0..20_000 {
            let (one, two) = (random.random::<f32>().powi(2), random.random::<f32>().powi(2));
            same.add(one, one);
            samples.add(one, two);
        }
        assert_eq!(same.psi(), Some(0.0));
        assert!((same.correlation().unwrap() - 1.0).abs() < 1e-9);
        assert!(samples.psi().unwrap() < 0.02, "{:?}", samples.psi());
        assert!(samples.correlation().unwrap().abs() < 0.03, "{:?}", samples.correlation());
    }

    #[test]
    fn unscored_rows_are_ignored_and_constant_scores_have_no_correlation() {
        let mut drift = Drift::default();
        assert_eq!((drift.means(), drift.psi(), drift.correlation()), (None, None, None));
        assert!(!drift.add(f32::NAN, 0.5) && !drift.add(0.5, f32::NAN) && !drift.add(f32::INFINITY, 0.5));
        assert_eq!((drift.rows(), drift.means()), (0.0, None));
        assert!(drift.add(0.25, 0.5) && drift.add(0.75, 0.5));
        assert_eq!((drift.means(), drift.correlation()), (Some((0.5, 0.5)), None));
    }

    #[test]
    fn the_past_fades() {
        let mut drift = Drift::default();
        for _ in 0..1_000_000 {
            drift.add(0.02, 0.02);
        }
        assert!(drift.psi().unwrap() < 1e-9);
        for _ in 0..200_000 {
            drift.add(0.02, 0.6);
        }
        assert!(drift.rows() <= ROWS_MAX);
        let (champion, other) = drift.means().unwrap();
        assert!((champion - 0.02).abs() < 1e-3 && other > 0.5 && drift.psi().unwrap() > 5.0, "{drift:?}");
    }
}
