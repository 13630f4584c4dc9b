//! The difference between two predictions of the same rows.
//!
//! Owns the test that a promotion rests on. Both predictions are of the same rows, so each row gives one difference of log
//! losses, and what rows have in common cancels out. Rows of a user are not independent of each other, so the error is that of
//! the users' sums.
//!
//! With `d` the log loss of the first prediction minus that of the second, `w` a row's weight and `G` the number of users:
//!
//! ```text
//! D  = Σ w d / Σ w
//! S  = Σ w (d - D) over the rows of a user
//! se = √( G / (G - 1) · Σ S² ) / Σ w
//! ```
//!
//! The interval is `D ± t · se` with Student's t of `G - 1` degrees of freedom: the cluster-robust error of Liang and Zeger
//! 1986 ("Longitudinal data analysis using generalized linear models") for a mean, with the usual correction for few clusters
//! (Cameron and Miller 2015, "A practitioner's guide to cluster-robust inference", section II.B). With a row for each user it is
//! the error of a paired t test. Limits: with few users, or one that has a large part of the rows, intervals are too narrow.

use super::{
    distribution::student_two_sided,
    interval::{Confidence, Interval},
    sample::loss,
};
use serde::Serialize;
use std::collections::BTreeMap;

/// Two predictions of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PairedRow {
    /// The probabilities, each from 0 to 1.
    pub probabilities: [f64; 2],
    /// What happened.
    pub label: bool,
    /// How much the row counts, above 0.
    pub weight: f64,
}

/// How much lower the log loss of the second prediction is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Paired {
    /// The number of rows.
    pub rows: u64,
    /// The number of users.
    pub users: u64,
    /// The mean difference of the log losses in nats. Above 0, the second prediction is better.
    pub difference: f64,
    /// Its standard error.
    pub error: f64,
    /// Its interval.
    pub interval: Interval,
}

/// Compares two predictions of the same rows, of which each has the number of its user. `None` with fewer than two users, or if a
/// number is not finite.
pub fn paired(rows: impl IntoIterator<Item = (u64, PairedRow)>, confidence: Confidence) -> Option<Paired> {
    // By user, so that no sum depends on the order of a hash map.
    let mut users: BTreeMap<u64, [f64; 2]> = BTreeMap::new();
    let mut count = 0;
    for (user, row) in rows {
        let [one, other] = row.probabilities.map(|probability| loss(probability, row.label));
        let [sum, weight] = users.entry(user).or_default();
        *sum += row.weight * (one - other);
        *weight += row.weight;
        count += 1;
    }
    if users.len() < 2 {
        return None;
    }
    let groups = users.len() as f64;
    let weight: f64 = users.values().map(|[_, weight]| weight).sum();
    let difference = users.values().map(|[sum, _]| sum).sum::<f64>() / weight;
    let squares: f64 = users.values().map(|[sum, weight]| (sum - difference * weight).powi(2)).sum();
    let error = (groups / (groups - 1.0) * squares).sqrt() / weight;
    let reach = student_two_sided(confidence.alpha(), groups - 1.0) * error;
    let interval = Interval::around(difference, reach)?;
    Some(Paired { rows: count, users: users.len() as u64, difference, error, interval })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, rngs::StdRng};

    fn row(one: f64, other: f64, label: bool) -> PairedRow {
        PairedRow { probabilities: [one, other], label, weight: 1.0 }
    }

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-9, "expected {expected}, found {found}");
    }

    /// Differences of 1, 2 and 6, whose mean is 3.
    #[test]
    fn with_a_row_for_each_user_it_is_the_paired_t_test() {
        let by = |difference: f64| row((-difference - 1.0).exp(), (-1.0_f64).exp(), true);
        let rows = [(1, by(1.0)), (2, by(2.0)), (3, by(6.0))];
        let found = paired(rows, Confidence::P95).unwrap();
        assert_eq!((found.rows, found.users), (3, 3));
        close(found.difference, 3.0);
        // The deviation of 1, 2 and 6 is √7; t of 2 degrees of freedom is 4.302653.
        close(found.error, 7.0_f64.sqrt() / 3.0_f64.sqrt());
        close(found.interval.high - 3.0, 4.302_652_729_749_464 * found.error);
        // The other way round.
        let turned = rows
            .map(|(user, it)| (user, PairedRow { probabilities: [it.probabilities[1], it.probabilities[0]], ..it }));
        close(paired(turned, Confidence::P95).unwrap().interval.high, -found.interval.low);
    }

    #[test]
    fn rows_of_a_user_count_as_one_and_weights_as_so_many_rows() {
        let (good, bad) = (row(0.4, 0.6, true), row(0.6, 0.4, true));
        let rows = [(1, good), (2, bad), (3, good), (4, good)];
        let once = paired(rows, Confidence::P95).unwrap();
        let thrice: Vec<_> = rows.iter().flat_map(|it| [*it; 3]).collect();
        let copied = paired(thrice, Confidence::P95).unwrap();
        assert_eq!((copied.rows, copied.users), (12, 4));
        close(copied.error, once.error);
        close(copied.interval.low, once.interval.low);
        let weighted = paired(rows.map(|(user, it)| (user, PairedRow { weight: 3.0, ..it })), Confidence::P95).unwrap();
        close(weighted.error, once.error);
        // As rows of users of their own, copies would seem to be evidence.
        let apart = (0..3).flat_map(|copy| rows.map(|(user, it)| (user + 10 * copy, it)));
        assert!(paired(apart, Confidence::P95).unwrap().error < 0.7 * once.error);
    }

    #[test]
    fn one_user_is_no_evidence_and_equal_predictions_have_no_difference() {
        assert_eq!(paired([], Confidence::P95), None);
        assert_eq!(paired([(1, row(0.1, 0.9, true)), (1, row(0.1, 0.9, true))], Confidence::P95), None);
        let same = paired([(1, row(0.3, 0.3, true)), (2, row(0.0, 0.0, true))], Confidence::P99).unwrap();
        assert_eq!((same.difference, same.error, same.interval.low), (0.0, 0.0, 0.0));
    }

    /// Users differ in how well each prediction fits them, and have one to eight rows.
    #[test]
    fn the_interval_covers_the_truth_as_often_as_it_says() {
        let mut draws = StdRng::seed_from_u64(7);
        let (mut covered, mut naive, worlds) = (0, 0, 1_000);
        for _ in 0..worlds {
            let mut rows = Vec::new();
            for user in 0..120_u64 {
                let better = draws.random_bool(0.5);
                for _ in 0..draws.random_range(1..=8) {
                    // Both predictions are equally good: which one fits is drawn for each user.
                    let pair = if better { (0.3, 0.6) } else { (0.6, 0.3) };
                    rows.push((user, row(pair.0, pair.1, true)));
                }
            }
            let found = paired(rows.iter().copied(), Confidence::P95).unwrap();
            covered += i32::from(found.interval.covers(0.0));
            let each = rows.iter().enumerate().map(|(at, (_, it))| (at as u64, *it));
            naive += i32::from(paired(each, Confidence::P95).unwrap().interval.covers(0.0));
        }
        // The standard error of a share of 0.95 in 1,000 worlds is 0.007.
        assert!((925..=975).contains(&covered), "{covered} of {worlds}");
        assert!(naive < 800, "without users it covers {naive} of {worlds}");
    }
}
