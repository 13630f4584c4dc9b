//! Which themes a segment speaks about more than others.
//!
//! Owns the log-odds ratio with an informative Dirichlet prior (Monroe, Colaresi and Quinn, "Fightin' Words", 2008):
//! for theme t with counts y in the segment and z in all other comments, of n and m,
//! ln((y + a) / (n + A - y - a)) - ln((z + a) / (m + A - z - a)), where the prior a is A times the share of the theme in
//! all comments, and A = 20 comments. Its variance is the sum of the
//! reciprocals of those four counts. The usual short form leaves out two of them, which is only right for rare themes.

use serde::{Deserialize, Serialize};

/// The weight of the prior, in comments: a segment with fewer says little.
const PRIOR: f64 = 20.0;
/// The quantile of a 95 % interval.
const Z: f64 = 1.959_964;

/// A theme in a segment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SegmentShare {
    /// The segment.
    pub segment: String,
    /// The comments about the theme by users of the segment.
    pub count: u64,
    /// Their share of the segment's comments.
    pub share: f64,
    /// The log-odds ratio against all other comments.
    pub log_odds: f64,
    /// Its 95 % interval.
    pub interval: [f64; 2],
}

impl SegmentShare {
    /// Whether the whole interval is above zero.
    pub fn is_over_represented(&self) -> bool {
        self.interval[0] > 0.0
    }
}

/// The share of a theme with `of_theme` of `all` comments in a segment that has `count` of its own `total`.
pub(super) fn share(segment: &str, (count, total): (u64, u64), (of_theme, all): (u64, u64)) -> SegmentShare {
    let (y, n) = (count as f64, total as f64);
    let (z, m) = (of_theme.saturating_sub(count) as f64, all.saturating_sub(total) as f64);
    let prior = PRIOR * of_theme as f64 / all.max(1) as f64;
    let odds = |hits: f64, size: f64| ((hits + prior) / (size + PRIOR - hits - prior).max(f64::MIN_POSITIVE)).ln();
    let log_odds = odds(y, n) - odds(z, m);
    let others = |hits: f64, size: f64| (size + PRIOR - hits - prior).max(f64::MIN_POSITIVE);
    let counts = [y + prior, z + prior, others(y, n), others(z, m)];
    let half = Z * counts.into_iter().map(f64::recip).sum::<f64>().sqrt();
    let interval = [log_odds - half, log_odds + half];
    SegmentShare { segment: segment.to_owned(), count, share: y / n.max(1.0), log_odds, interval }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_that_of_the_formula() {
        // A quarter of all comments are about the theme, so the prior is 5 of 20.
        let it = share("runners", (40, 80), (100, 400));
        let expected = (45.0_f64 / 55.0).ln() - (65.0_f64 / 275.0).ln();
        assert!((it.log_odds - expected).abs() < 1e-12);
        let half = 1.959_964 * (1.0_f64 / 45.0 + 1.0 / 65.0 + 1.0 / 55.0 + 1.0 / 275.0).sqrt();
        assert!(
            (it.interval[0] - (expected - half)).abs() < 1e-12 && (it.interval[1] - (expected + half)).abs() < 1e-12
        );
        assert!(it.is_over_represented());
        assert_eq!((it.count, it.share), (40, 0.5));
    }

    #[test]
    fn few_comments_say_little_and_average_shares_nothing() {
        assert!(!share("a", (2, 2), (100, 400)).is_over_represented());
        let average = share("a", (25, 100), (100, 400));
        assert!(average.log_odds.abs() < 1e-12);
        assert!(share("a", (0, 100), (100, 400)).interval[1] < 0.0);
        assert!(share("a", (0, 0), (0, 0)).interval.iter().all(|it| !it.is_finite() || *it != 1.0));
    }
}
