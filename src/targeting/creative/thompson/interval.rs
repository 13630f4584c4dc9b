//! The range in which a rate probably lies.

use super::super::{
    arithmetic::exp,
    grid::{Panel, Panels, Peak},
};
use super::Beta;

/// The steps of a bisection within a panel, which is at most a unit of log-odds wide: the end is exact to 1e-12.
const STEPS: usize = 40;

impl Beta {
    /// The central range that holds the rate with this probability, for example 0.95, as its lower and its upper end.
    /// As much of the rest lies below as above. The probability is exact to 1e-6.
    ///
    /// `None` unless the distribution is [valid](Self::is_valid) and the probability is above 0 and below 1.
    pub fn interval(self, probability: f64) -> Option<(f64, f64)> {
        if !(self.is_valid() && probability > 0.0 && probability < 1.0) {
            return None;
        }
        let peaks = [Peak { at: 0.0, width: self.width() }];
        let panels: Vec<Panel> = Panels::new(&peaks, -self.reach(-1.0), self.reach(1.0)).collect();
        let masses: Vec<f64> = panels.iter().map(|panel| self.mass(*panel)).collect();
        let whole: f64 = masses.iter().sum();
        let tail = (1.0 - probability) / 2.0;
        let rate = |share: f64| {
            let distance = self.distance(&panels, &masses, share * whole);
            1.0 / (1.0 + self.beta / self.alpha * exp(-distance))
        };
        Some((rate(tail), rate(1.0 - tail)))
    }

    /// The integral of the density over a panel of distances from the mode, without its normalising constant.
    fn mass(self, panel: Panel) -> f64 {
        panel.nodes().map(|(distance, weight)| weight * exp(self.log_density(distance))).sum()
    }

    /// The distance from the mode below which this much of the mass lies.
    fn distance(self, panels: &[Panel], masses: &[f64], mut mass: f64) -> f64 {
        for (panel, of_panel) in panels.iter().zip(masses) {
            if mass > *of_panel {
                mass -= of_panel;
                continue;
            }
            let (mut low, mut high) = (panel.left(), panel.right());
            for _ in 0..STEPS {
                let middle = f64::midpoint(low, high);
                if self.mass(Panel::new(panel.left(), middle)) < mass { low = middle } else { high = middle }
            }
            return high;
        }
        panels.last().map_or(0.0, |panel| panel.right())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rates below `at` with whole parameters: the chance of at least `alpha` successes in `alpha + beta - 1` trials.
    fn below(alpha: u32, beta: u32, at: f64) -> f64 {
        let trials = alpha + beta - 1;
        let ln_choose = |k: u32| (1..=k).map(|i| (f64::from(trials - k + i) / f64::from(i)).ln()).sum::<f64>();
        let chance = |k| (ln_choose(k) + f64::from(k) * at.ln() + f64::from(trials - k) * (1.0 - at).ln()).exp();
        (alpha..=trials).map(chance).sum()
    }

    #[test]
    fn the_ends_leave_the_same_tail_on_both_sides() {
        for (alpha, beta) in [(1, 1), (1, 9), (2, 2), (3, 200), (40, 1_000), (700, 20), (5, 3_000)] {
            for probability in [0.5, 0.95, 0.999] {
                let it = Beta { alpha: f64::from(alpha), beta: f64::from(beta) };
                let (low, high) = it.interval(probability).unwrap();
                let tail = (1.0 - probability) / 2.0;
                let off = (below(alpha, beta, low) - tail).abs().max((below(alpha, beta, high) - 1.0 + tail).abs());
                assert!(off < 1e-6, "{alpha} {beta} {probability}: {low} {high} is off by {off:e}");
            }
        }
        // The quantiles of the arcsine distribution are sin²(π p / 2).
        let (low, high) = Beta { alpha: 0.5, beta: 0.5 }.interval(0.9).unwrap();
        let sine = |share: f64| (std::f64::consts::FRAC_PI_2 * share).sin().powi(2);
        assert!((low - sine(0.05)).abs() < 1e-6 && (high - sine(0.95)).abs() < 1e-6, "{low} {high}");
    }

    #[test]
    fn it_is_narrow_when_much_is_known_and_absent_when_there_is_no_distribution() {
        let (low, high) = Beta { alpha: 1e10, beta: 3e10 }.interval(0.95).unwrap();
        let deviation = (0.25_f64 * 0.75 / 4e10).sqrt();
        assert!(((high - low) / (2.0 * 1.959_964 * deviation) - 1.0).abs() < 1e-4, "{low} {high}");
        let (low, high) = Beta { alpha: 0.1, beta: 1e12 }.interval(0.95).unwrap();
        assert!(0.0 < low && low < high && high < 1e-11, "{low} {high}");
        for (alpha, beta, probability) in [(f64::NAN, 1.0, 0.9), (0.0, 1.0, 0.9), (1.0, 1.0, 0.0), (1.0, 1.0, 1.0)] {
            assert_eq!(Beta { alpha, beta }.interval(probability), None);
        }
    }
}
