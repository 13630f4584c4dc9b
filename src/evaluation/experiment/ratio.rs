//! Whether rows were split as planned.
//!
//! A sample ratio mismatch means that rows got lost or were assigned wrongly; then no other result of the experiment
//! can be trusted (Fabijan et al. 2019, "Diagnosing sample ratio mismatch in online controlled experiments").

use super::ExperimentError;
use crate::evaluation::distribution::chi_square_above;
use serde::Serialize;
use statrs::function::gamma::ln_gamma;

/// The p-value below which the split counts as wrong. It is small, because the check runs on every experiment.
const MISMATCH: f64 = 0.001;

/// How many rows the prior of the sequential test is worth. It finds deviations of a few tenths of a percent of all
/// rows best; the guarantee holds for any number.
const CONCENTRATION: f64 = 10_000.0;

/// The most arms.
const ARMS_MAX: usize = 1_000;

/// How the split agrees with the plan.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct SampleRatio {
    /// How often a right split would deviate so much.
    pub p_value: f64,
    /// Whether it is below 0.001.
    pub is_mismatch: bool,
}

/// Checks the plan and returns the shares with sum 1, and the number of rows.
fn check(counts: &[u64], shares: &[f64]) -> Result<(Vec<f64>, f64), ExperimentError> {
    if counts.len() != shares.len() || !(2..=ARMS_MAX).contains(&counts.len()) {
        return Err(ExperimentError::Arms { counts: counts.len(), shares: shares.len() });
    }
    if let Some(&share) = shares.iter().find(|share| !(1e-9..=1e9).contains(*share)) {
        return Err(ExperimentError::Share(share));
    }
    let total: f64 = shares.iter().sum();
    let rows = counts.iter().map(|&count| count as f64).sum();
    Ok((shares.iter().map(|share| share / total).collect(), rows))
}

fn judged(p_value: f64) -> SampleRatio {
    SampleRatio { p_value, is_mismatch: p_value < MISMATCH }
}

/// Checks the counts of rows against planned shares, whose sum may be any, once: Pearson's chi-square test. `None`
/// without rows.
///
/// # Errors
///
/// If there is not one share for each of 2 to 1,000 counts, or a share is not between 1e-9 and 1e9.
pub fn sample_ratio(counts: &[u64], shares: &[f64]) -> Result<Option<SampleRatio>, ExperimentError> {
    let (shares, rows) = check(counts, shares)?;
    if rows == 0.0 {
        return Ok(None);
    }
    let term = |(&count, share): (&u64, &f64)| {
        let expected = rows * share;
        (count as f64 - expected) * ((count as f64 - expected) / expected)
    };
    let chi_square: f64 = counts.iter().zip(&shares).map(term).sum();
    Ok(Some(judged(chi_square_above(chi_square, counts.len() as u32 - 1))))
}

/// Checks the split as often as wanted: the chance that the p-value of a right split is ever below a bound is at most
/// that bound (Lindon and Malek 2022, "Anytime-valid inference for multinomial count data", with a Dirichlet prior
/// around the plan worth 10,000 rows). Weaker than [`sample_ratio`] on a single look; use it for alerts.
///
/// # Errors
///
/// As [`sample_ratio`].
pub fn sample_ratio_any_time(counts: &[u64], shares: &[f64]) -> Result<SampleRatio, ExperimentError> {
    let (shares, rows) = check(counts, shares)?;
    let mut evidence = ln_gamma(CONCENTRATION) - ln_gamma(CONCENTRATION + rows);
    for (&count, share) in counts.iter().zip(&shares) {
        // Far below one row, the logarithm of the gamma function is still finite.
        let prior = CONCENTRATION * share;
        evidence += ln_gamma(prior + count as f64) - ln_gamma(prior) - count as f64 * share.ln();
    }
    Ok(judged((-evidence).exp().min(1.0)))
}
