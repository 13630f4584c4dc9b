//! The probability of being the largest, for independent normal variables.
//!
//! Owns a table of the standard normal density and distribution function, and the integral `∫ f_i Π_{j≠i} F_j` over
//! panels that fit the variables. Guarantees: the error of a probability is under 1e-6 (under 1e-7 in the tests).
//! Nothing is allocated except the table, 8 kB. Limits: 16 variables. Deviations under a millionth of the largest one
//! count as a millionth of it. Similar variables take 56 nodes with one look-up per variable. If deviations differ by
//! powers of ten, there are up to about 700 nodes.

use super::{
    arithmetic::exp,
    grid::{Panel, Panels, Peak},
};

/// The maximum number of variables.
pub(super) const VARIABLES_MAX: usize = 16;

/// The ends of the table. Only 1e-15 lies beyond 8 deviations.
const TABLE_END: f64 = 8.0;
/// The knots per unit. The error of a cubic between knots is h⁴/384 of the fourth derivative, which is at most 1.2:
/// 3e-9.
const KNOTS: f64 = 32.0;

/// The number of deviations considered for a variable. 1e-10 lies beyond.
const REACH: f64 = 6.5;

/// The length of the panels at a peak, in its deviations. With 2, the error for sixteen similar variables is 6e-8.
const STEP: f64 = 2.0;

/// The smallest deviation, as a fraction of the largest.
const NARROWEST: f64 = 1e-6;

/// A normal variable.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Bell {
    pub(super) mean: f64,
    /// At least 0.
    pub(super) deviation: f64,
}

/// Density and distribution function of the standard normal variable at equally spaced knots.
#[derive(Clone, Debug)]
pub(super) struct Normal(Vec<[f64; 2]>);

impl Normal {
    /// Builds the table: the distribution function is the integral of the density.
    pub(super) fn new() -> Self {
        let density =
            |x: f64| exp(-x * x / 2.0) * (std::f64::consts::FRAC_2_SQRT_PI / 2.0 * std::f64::consts::FRAC_1_SQRT_2);
        let place = |knot: usize| knot as f64 / KNOTS - TABLE_END;
        // The probability below -8.
        let mut below = 6.220_960_574_271_785e-16;
        let knots = 0..=(2.0 * TABLE_END * KNOTS) as usize;
        let knot = |knot: usize| {
            if knot > 0 {
                let panel = Panel::new(place(knot - 1), place(knot));
                below += panel.nodes().map(|(x, weight)| weight * density(x)).sum::<f64>();
            }
            [density(place(knot)), below]
        };
        Self(knots.map(knot).collect())
    }

    /// Density and distribution function, by Hermite's cubic between knots. The slope of the density is -x times the
    /// density, and that of the distribution function is the density.
    fn at(&self, x: f64) -> (f64, f64) {
        let scaled = (x + TABLE_END) * KNOTS;
        if scaled.is_nan() || scaled <= 0.0 {
            return (0.0, 0.0);
        }
        let knot = scaled as usize;
        let Some(&[[density, below], [next_density, next_below]]) =
            self.0.get(knot..).and_then(|rest| rest.first_chunk())
        else {
            return (0.0, 1.0);
        };
        let u = scaled - knot as f64;
        let left = x - u / KNOTS;
        let right = left + 1.0 / KNOTS;
        let v = 1.0 - u;
        let (from, to) = (v * v * (1.0 + 2.0 * u), u * u * (3.0 - 2.0 * u));
        let (slope_from, slope_to) = (u * v * v / KNOTS, -u * u * v / KNOTS);
        let middle_density = density * (from - left * slope_from) + next_density * (to - right * slope_to);
        let middle_below = below * from + next_below * to + density * slope_from + next_density * slope_to;
        // In the far tails, the cubic may be about 1e-17 below 0.
        (middle_density.max(0.0), middle_below.max(0.0))
    }

    /// For each variable, the probability that it is the largest. If no variable varies, those with the largest mean
    /// share evenly. A variable whose mean or deviation is not finite is never the largest. At most 16 variables.
    pub(super) fn best(&self, bells: &[Bell]) -> [f64; VARIABLES_MAX] {
        let mut parts = [0.0; VARIABLES_MAX];
        let bells = &bells[..bells.len().min(VARIABLES_MAX)];
        let usable = || bells.iter().enumerate().filter(|(_, it)| it.mean.is_finite() && it.deviation.is_finite());
        let top = usable().map(|(_, it)| it.mean).fold(f64::NEG_INFINITY, f64::max);
        let scale = usable().map(|(_, it)| it.deviation).fold(0.0, f64::max);
        if scale == 0.0 {
            usable().filter(|(_, it)| it.mean == top).for_each(|(index, _)| parts[index] = 1.0);
            return parts;
        }
        // In units of the largest deviation, relative to the largest mean, so that no number is too large for the
        // panels.
        let scaled =
            || usable().map(|(index, it)| (index, (it.mean - top) / scale, (it.deviation / scale).max(NARROWEST)));
        let start = scaled().map(|(_, mean, width)| mean - REACH * width).fold(f64::NEG_INFINITY, f64::max);
        let end = scaled().map(|(_, mean, width)| mean + REACH * width).fold(f64::NEG_INFINITY, f64::max);
        let mut peaks = [Peak::default(); VARIABLES_MAX];
        let mut inverses = [0.0; VARIABLES_MAX];
        let mut indexes = [0; VARIABLES_MAX];
        let mut count = 0;
        // A variable that ends below the start is never the largest.
        for (index, mean, width) in scaled().filter(|(_, mean, width)| mean + REACH * width > start) {
            peaks[count] = Peak { at: mean, width: STEP * width };
            (inverses[count], indexes[count]) = (1.0 / width, index);
            count += 1;
        }
        let peaks = &peaks[..count];
        let mut sums = [0.0; VARIABLES_MAX];
        let mut values = [(0.0, 0.0); VARIABLES_MAX];
        for (place, weight) in Panels::new(peaks, start, end).flat_map(Panel::nodes) {
            let mut product = weight;
            for ((value, peak), inverse) in values.iter_mut().zip(peaks).zip(inverses) {
                *value = self.at((place - peak.at) * inverse);
                product *= value.1;
            }
            for ((sum, (density, below)), _) in sums.iter_mut().zip(values).zip(peaks) {
                // Where the function is 0, so is the product.
                *sum += if below > 0.0 { density * (product / below) } else { 0.0 };
            }
        }
        for ((sum, inverse), index) in sums.iter().zip(inverses).zip(indexes).take(count) {
            parts[index] = sum * inverse;
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bell(mean: f64, deviation: f64) -> Bell {
        Bell { mean, deviation }
    }

    #[test]
    fn the_table_agrees_with_known_values() {
        let normal = Normal::new();
        // scipy.stats.norm.cdf
        for (x, below) in [
            (-6.0, 9.865_876_450_376_98e-10),
            (-1.96, 0.024_997_895_148_220_435),
            (0.01, 0.503_989_356_314_631_6),
            (1.3, 0.903_199_515_414_389_8),
            (7.9, 0.999_999_999_999_998_6),
        ] {
            assert!((normal.at(x).1 - below).abs() < 3e-9, "{x}");
        }
        for step in -790..790 {
            let x = f64::from(step) * 0.010_07;
            let (density, below) = normal.at(x);
            assert!((density - (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt()).abs() < 3e-9);
            assert!((below + normal.at(-x).1 - 1.0).abs() < 6e-9);
        }
        assert_eq!((normal.at(-9.0), normal.at(9.0), normal.at(f64::NAN)), ((0.0, 0.0), (0.0, 1.0), (0.0, 0.0)));
    }

    #[test]
    fn two_variables_match_the_closed_form() {
        let normal = Normal::new();
        let mut worst = 0.0_f64;
        for difference in [0.0, 0.1, 1.0, 3.0, 5.5] {
            for narrow in [1.0, 0.3, 0.01, 1e-4, 1e-6] {
                let parts = normal.best(&[bell(difference, 1.0), bell(0.0, narrow)]);
                // P(X > Y) = Φ((μ - ν) / √(σ² + τ²))
                let expected = normal.at(difference / (1.0 + narrow * narrow).sqrt()).1;
                worst = worst.max((parts[0] - expected).abs()).max((parts[1] - 1.0 + expected).abs());
            }
        }
        println!("two normals: error {worst:e}");
        assert!(worst < 1e-7);
    }

    #[test]
    fn variables_that_are_alike_share_evenly_and_all_shares_sum_to_one() {
        let normal = Normal::new();
        let mut worst = 0.0_f64;
        for count in 1..=16 {
            let parts = normal.best(&vec![bell(0.02, 0.001); count]);
            worst = parts[..count].iter().map(|part| (part - 1.0 / count as f64).abs()).fold(worst, f64::max);
        }
        let mut worst_sum = 0.0_f64;
        for seed in 0..200 {
            let mixed = |n: i32| bell(f64::from((seed * 7 + n * n) % 11) * 0.3, 10.0_f64.powi(-(n * seed) % 4));
            let sum: f64 = normal.best(&(0..16).map(mixed).collect::<Vec<_>>()).iter().sum();
            worst_sum = worst_sum.max((sum - 1.0).abs());
        }
        println!("normals: alike off by {worst:e}, sums of unlike ones by {worst_sum:e}");
        assert!(worst < 1e-7 && worst_sum < 1e-7);
    }

    #[test]
    fn variables_without_spread_or_sense_have_documented_results() {
        let normal = Normal::new();
        assert_eq!(normal.best(&[bell(1.0, 0.0), bell(2.0, 0.0), bell(2.0, 0.0)])[..3], [0.0, 1.0, 1.0]);
        let parts = normal.best(&[bell(f64::NAN, 1.0), bell(0.0, 1.0), bell(9.0, f64::INFINITY)]);
        assert!(parts[0] == 0.0 && (parts[1] - 1.0).abs() < 1e-7 && parts[2] == 0.0);
        assert_eq!(normal.best(&[]), [0.0; 16]);
        // Variables far from 0 and far apart.
        let parts = normal.best(&[bell(1e12, 1e-3), bell(1e12, 1e-3), bell(-1e12, 1.0)]);
        assert!((parts[0] / parts[1] - 1.0).abs() < 1e-6 && parts[2] == 0.0);
    }
}
