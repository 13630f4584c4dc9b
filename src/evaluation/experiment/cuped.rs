//! Less noise from what was known before the experiment.
//!
//! CUPED subtracts from each value what a covariate of the time before predicts of it (Deng, Xu, Kohavi and Walker
//! 2013, "Improving the sensitivity of online controlled experiments by utilizing pre-experiment data"):
//! `y - θ (x - mean x)` with `θ = cov(x, y) / var(x)`, pooled within the arms. The variance falls by the squared
//! correlation. The covariate must not be influenced by the treatment; one that is biases the difference.

use super::{
    compare::{Comparison, means},
    moments::{Moments, Paired},
};
use crate::evaluation::interval::Confidence;
use serde::Serialize;

/// A comparison with less variance.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Cuped {
    /// What a unit of the covariate adds to a value. 0 if the covariate is the same in all rows.
    pub theta: f64,
    /// The comparison of the adjusted values.
    pub comparison: Comparison,
    /// By what share the squared standard error of the difference fell. `None` if values do not vary.
    pub variance_reduction: Option<f64>,
    /// The control's adjusted values, for instance for [`any_time_means`](super::any_time_means).
    pub control: Moments,
    /// The variant's adjusted values.
    pub variant: Moments,
}

/// Compares means after taking out what the covariate explains. `None` if an arm has fewer than two rows.
pub fn cuped(control: &Paired, variant: &Paired, confidence: Confidence) -> Option<Cuped> {
    let spread = control.covariate.squares + variant.covariate.squares;
    let slope = (control.products + variant.products) / spread;
    // A covariate without spread gives 0/0.
    let theta = if slope.is_finite() { slope } else { 0.0 };
    let mut all = control.covariate;
    all.merge(&variant.covariate);
    let adjusted = |arm: &Paired| Moments {
        mean: arm.value.mean - theta * (arm.covariate.mean - all.mean),
        // Rounding must not make it negative.
        squares: (arm.value.squares - theta * (2.0 * arm.products - theta * arm.covariate.squares)).max(0.0),
        count: arm.value.count,
    };
    let (control_adjusted, variant_adjusted) = (adjusted(control), adjusted(variant));
    let comparison = means(control_adjusted, variant_adjusted, confidence)?;
    let error = |a: Moments, b: Moments| Some(a.variance()? / a.count as f64 + b.variance()? / b.count as f64);
    let before = error(control.value, variant.value)?;
    let after = error(control_adjusted, variant_adjusted)?;
    Some(Cuped {
        theta,
        comparison,
        variance_reduction: (before > 0.0).then(|| 1.0 - after / before),
        control: control_adjusted,
        variant: variant_adjusted,
    })
}
