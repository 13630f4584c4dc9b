//! Experiments: did the variant change anything, may the answer be looked at every day, how long must it still run?
//!
//! | Question | Function | Source |
//! |---|---|---|
//! | rates differ? | [`proportions`] | pooled z test; interval of Newcombe 1998, method 10; ratio by Katz et al. 1978 |
//! | means differ? | [`means`] | Welch 1947 |
//! | split as planned? | [`sample_ratio`], [`sample_ratio_any_time`] | chi-square; Lindon and Malek 2022 |
//! | what may be said any day? | [`any_time_proportions`], [`any_time_means`] | Johari et al. 2022; Waudby-Smith et al. 2024 |
//! | less noise from what was known before? | [`cuped`] | Deng et al. 2013 |
//! | how many rows, how small an effect, how long? | [`power`] | Fleiss et al. 2003 |
//!
//! All tests are two-sided and treat rows as independent: randomise and count by user, not by impression. Guarantees:
//! an undefined figure is `None`, and values are checked where they enter. Limits: values up to 1e30, 1,000 arms.

mod compare;
mod cuped;
mod moments;
pub mod power;
mod ratio;
mod sequential;

pub use compare::{Comparison, Relative, means, proportions};
pub use cuped::{Cuped, cuped};
pub use moments::{Arm, Moments, Paired};
pub use ratio::{SampleRatio, sample_ratio, sample_ratio_any_time};
pub use sequential::{AnyTime, Mixture, any_time_means, any_time_proportions};

use thiserror::Error;

/// Why an experiment cannot be evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
pub enum ExperimentError {
    /// More successes than rows.
    #[error("count an arm: {successes} successes in {rows} rows")]
    Successes {
        /// The successes.
        successes: u64,
        /// The rows.
        rows: u64,
    },
    /// A value is not finite or beyond 1e30.
    #[error("measure a row: {0} is not a number between -1e30 and 1e30")]
    Value(f64),
    /// Fewer than two arms or more than 1,000, or not as many shares as arms.
    #[error("check the split: {counts} counts for {shares} shares; there must be as many, from 2 to 1,000")]
    Arms {
        /// The counts.
        counts: usize,
        /// The planned shares.
        shares: usize,
    },
    /// A planned share is not above 0.
    #[error("check the split: share {0} is not between 1e-9 and 1e9")]
    Share(f64),
    /// A number of a plan is outside its range.
    #[error("plan an experiment: {name} is {value}, and must be {range}")]
    Plan {
        /// Which number.
        name: &'static str,
        /// Its value.
        value: f64,
        /// What it may be.
        range: &'static str,
    },
}

/// The largest magnitude of a value: squares and their products stay below 1e130.
const VALUE_MAX: f64 = 1e30;

fn check_value(value: f64) -> Result<f64, ExperimentError> {
    if value.abs() <= VALUE_MAX { Ok(value) } else { Err(ExperimentError::Value(value)) }
}

#[cfg(test)]
mod tests;
