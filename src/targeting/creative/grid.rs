//! The points at which integrals over peaked functions are evaluated.
//!
//! Owns a fixed rule, Gauss–Legendre with 8 nodes (Abramowitz and Stegun 1964, table 25.4), over panels that are narrow
//! at the peaks and grow with the distance from them. Guarantees: the same peaks give the same panels. No peak is
//! stepped over, because a step is a fraction of the distance to the nearest one. Limits: the caller keeps widths above
//! 1e-12 of the range; smaller steps would not advance.

/// The nodes in a panel.
pub(super) const NODES: usize = 8;

/// The positions of the nodes between -1 and 1, and their weights.
const PLACES: [f64; NODES] = [
    -0.960_289_856_497_536_3,
    -0.796_666_477_413_626_7,
    -0.525_532_409_916_329,
    -0.183_434_642_495_649_8,
    0.183_434_642_495_649_8,
    0.525_532_409_916_329,
    0.796_666_477_413_626_7,
    0.960_289_856_497_536_3,
];
const WEIGHTS: [f64; NODES] = [
    0.101_228_536_290_376_26,
    0.222_381_034_453_374_48,
    0.313_706_645_877_887_3,
    0.362_683_783_378_362,
    0.362_683_783_378_362,
    0.313_706_645_877_887_3,
    0.222_381_034_453_374_48,
    0.101_228_536_290_376_26,
];

/// The growth of a step with the distance from the nearest peak. Smaller values cost more nodes. At a third, the tails
/// hardly add to the error.
const GROWTH: f64 = 1.0 / 3.0;

/// A point around which the integrand changes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Peak {
    /// Its middle.
    pub(super) at: f64,
    /// The length over which it changes: one standard deviation.
    pub(super) width: f64,
}

/// An interval with its nodes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Panel {
    middle: f64,
    half: f64,
}

impl Panel {
    /// The panel from `left` to `right`.
    pub(super) fn new(left: f64, right: f64) -> Self {
        Self { middle: f64::midpoint(left, right), half: (right - left) / 2.0 }
    }

    /// The positions of the nodes with their weights.
    pub(super) fn nodes(self) -> impl Iterator<Item = (f64, f64)> {
        PLACES.iter().zip(WEIGHTS).map(move |(place, weight)| (self.middle + self.half * place, self.half * weight))
    }

    /// The left end.
    pub(super) fn left(self) -> f64 {
        self.middle - self.half
    }

    /// The right end.
    pub(super) fn right(self) -> f64 {
        self.middle + self.half
    }

    /// Half of the length.
    pub(super) fn half(self) -> f64 {
        self.half
    }
}

/// The panels from one end to the other.
#[derive(Clone, Debug)]
pub(super) struct Panels<'a> {
    peaks: &'a [Peak],
    at: f64,
    end: f64,
}

impl<'a> Panels<'a> {
    /// The panels from `start` to `end`. None if the range is empty or NaN.
    pub(super) fn new(peaks: &'a [Peak], start: f64, end: f64) -> Self {
        Self { peaks, at: start, end }
    }
}

impl Iterator for Panels<'_> {
    type Item = Panel;

    fn next(&mut self) -> Option<Panel> {
        if self.at.partial_cmp(&self.end) != Some(std::cmp::Ordering::Less) {
            return None;
        }
        let step = |peak: &Peak| peak.width.max(GROWTH * (self.at - peak.at).abs());
        let step = self.peaks.iter().map(step).fold(f64::INFINITY, f64::min);
        let left = self.at;
        self.at = self.end.min(left + step);
        Some(Panel::new(left, self.at))
    }
}

/// Converts the values at the nodes of a panel of length 2 into integrals from its left end up to each node.
#[derive(Clone, Debug)]
pub(super) struct Running([[f64; NODES]; NODES]);

impl Running {
    /// Integrates the polynomials that are 1 at one node and 0 at the others, for which the rule is exact.
    pub(super) fn new() -> Self {
        let basis = |node: usize, x: f64| -> f64 {
            let others = (0..NODES).filter(|&other| other != node);
            others.map(|other| (x - PLACES[other]) / (PLACES[node] - PLACES[other])).product()
        };
        let integral = |node, upto| Panel::new(-1.0, upto).nodes().map(|(x, weight)| weight * basis(node, x)).sum();
        Self(PLACES.map(|upto| std::array::from_fn(|node| integral(node, upto))))
    }

    /// The integrals up to each node and over the whole panel, for the values at its nodes.
    pub(super) fn integrals(&self, values: &[f64; NODES], half: f64) -> ([f64; NODES], f64) {
        let dot = |row: &[f64; NODES]| half * row.iter().zip(values).map(|(part, value)| part * value).sum::<f64>();
        (std::array::from_fn(|node| dot(&self.0[node])), dot(&WEIGHTS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_polynomial_of_degree_15_is_integrated_exactly() {
        let sum: f64 = Panel::new(0.0, 2.0).nodes().map(|(x, weight)| weight * x.powi(15)).sum();
        assert!((sum - 4096.0).abs() < 1e-9, "{sum}");
    }

    #[test]
    fn running_integrals_reach_each_node() {
        let panel = Panel::new(1.0, 1.5);
        let places: Vec<f64> = panel.nodes().map(|(x, _)| x).collect();
        let values = std::array::from_fn(|node| places[node].exp());
        let (upto, whole) = Running::new().integrals(&values, panel.half());
        for (place, found) in places.iter().zip(upto) {
            assert!((found - (place.exp() - 1.0_f64.exp())).abs() < 1e-12);
        }
        assert!((whole - (1.5_f64.exp() - 1.0_f64.exp())).abs() < 1e-13);
    }

    #[test]
    fn panels_meet_and_are_narrow_at_a_peak() {
        let peaks = [Peak { at: 0.0, width: 1.0 }, Peak { at: 40.0, width: 0.001 }];
        let panels: Vec<Panel> = Panels::new(&peaks, -100.0, 100.0).collect();
        assert_eq!(panels[0].left(), -100.0);
        assert!(panels.windows(2).all(|pair| (pair[0].right() - pair[1].left()).abs() < 1e-12));
        assert!((panels[panels.len() - 1].right() - 100.0).abs() < 1e-12);
        let at_peak = panels.iter().find(|panel| panel.right() >= 40.0).expect("the peak is covered");
        assert!(at_peak.half() <= 0.000_7, "{at_peak:?}");
        assert!(panels.len() < 120, "{}", panels.len());
        assert_eq!(Panels::new(&peaks, 1.0, f64::NAN).count(), 0);
    }
}
