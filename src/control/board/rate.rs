//! Shares of counts, with the range in which the true share probably lies.

use serde_json::{Value, json};

/// The probability of the ranges on the page.
pub(super) const PROBABILITY: f64 = 0.95;
/// The deviations of a normal distribution within which [`PROBABILITY`] lies.
const Z: f64 = 1.959_963_984_540_054;

/// A share with its range. Null if there are no trials, or more successes than trials: clicks may be known of more
/// impressions than were reported.
pub(super) fn json(successes: u64, trials: u64) -> Value {
    let Some((low, high)) = wilson(successes, trials) else { return Value::Null };
    json!({ "mean": successes as f64 / trials as f64, "low": low, "high": high })
}

/// The score interval of a share (Wilson 1927). It also holds for few trials.
fn wilson(successes: u64, trials: u64) -> Option<(f64, f64)> {
    if trials == 0 || successes > trials {
        return None;
    }
    let (n, share) = (trials as f64, successes as f64 / trials as f64);
    let scale = 1.0 + Z * Z / n;
    let middle = (share + Z * Z / (2.0 * n)) / scale;
    let reach = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt() / scale;
    // Rounding must not exclude 0 and 1 where they are the share itself.
    let low = if successes == 0 { 0.0 } else { (middle - reach).max(0.0) };
    let high = if successes == trials { 1.0 } else { (middle + reach).min(1.0) };
    Some((low, high))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_ends_where_the_share_is_z_deviations_away() {
        for (successes, trials) in [(1, 10), (12, 1_000), (263, 263 * 4), (9, 10), (3, 1_000_000)] {
            let (low, high) = wilson(successes, trials).unwrap();
            for end in [low, high] {
                let deviation = (end * (1.0 - end) / trials as f64).sqrt();
                let distance = (successes as f64 / trials as f64 - end).abs() / deviation;
                assert!((distance - Z).abs() < 1e-9, "{successes} of {trials}: {end} is {distance} away");
            }
        }
    }

    #[test]
    fn none_and_all_are_possible_and_nonsense_has_no_range() {
        let (low, high) = wilson(0, 10).unwrap();
        assert!(low == 0.0 && (high - 0.277_532_7).abs() < 1e-6, "{high}");
        assert_eq!(wilson(10, 10).unwrap().1, 1.0);
        assert_eq!((wilson(0, 0), wilson(2, 1), json(2, 1)), (None, None, Value::Null));
        assert_eq!(json(1, 4)["mean"], 0.25);
    }
}
