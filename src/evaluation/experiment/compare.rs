//! The difference between two arms, looked at once.
//!
//! Owns the tests of a fixed sample size. Looking again and again until one of them is significant finds differences
//! that are not there; for that, see [`any_time_proportions`](super::any_time_proportions).

use super::moments::{Arm, Moments};
use crate::evaluation::{
    distribution::{normal_beyond, student_beyond, student_two_sided},
    interval::{Confidence, Interval, wilson},
};
use serde::Serialize;

/// The relative change from control to variant.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Relative {
    /// `variant / control - 1`
    pub value: f64,
    /// Its interval, normal in the logarithm of the ratio (Katz et al. 1978).
    pub interval: Interval,
}

/// A variant against a control.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// The control's rate or mean.
    pub control: f64,
    /// The variant's rate or mean.
    pub variant: f64,
    /// `variant - control`
    pub difference: f64,
    /// The interval of the difference.
    pub interval: Interval,
    /// How often chance alone would make the arms differ so much. `None` if nothing varies: all rows are successes, or
    /// none, or all values of an arm are the same. Near the chosen confidence, interval and p-value of rates may
    /// disagree, because the interval does not assume equal rates.
    pub p_value: Option<f64>,
    /// The relative change; `None` unless both rates or means are above 0.
    pub relative: Option<Relative>,
}

/// `z² (a + b)` may not be finite if the means are tiny against their spread.
fn relative(control: f64, variant: f64, variance: f64, confidence: Confidence) -> Option<Relative> {
    let ratio = variant / control;
    if !(ratio > 0.0 && ratio.is_finite() && control > 0.0) {
        return None;
    }
    let reach = confidence.z() * variance.sqrt();
    let interval = Interval { low: ratio * (-reach).exp() - 1.0, high: ratio * reach.exp() - 1.0 };
    interval.high.is_finite().then_some(Relative { value: ratio - 1.0, interval })
}

/// Compares two rates: the pooled z test, and the interval that joins Wilson's of both arms (Newcombe 1998, "Interval
/// estimation for the difference between independent proportions", method 10). `None` if an arm has no rows.
pub fn proportions(control: Arm, variant: Arm, confidence: Confidence) -> Option<Comparison> {
    let (p, q) = (control.rate()?, variant.rate()?);
    let (n, m) = (control.rows() as f64, variant.rows() as f64);
    let difference = q - p;
    let (of_control, of_variant) = (
        wilson(control.successes(), control.rows(), confidence)?,
        wilson(variant.successes(), variant.rows(), confidence)?,
    );
    let interval = Interval {
        low: difference - (q - of_variant.low).hypot(of_control.high - p),
        high: difference + (of_variant.high - q).hypot(p - of_control.low),
    };
    let pooled = (control.successes() as f64 + variant.successes() as f64) / (n + m);
    let error = (pooled * (1.0 - pooled) * (1.0 / n + 1.0 / m)).sqrt();
    let spread = (1.0 - p) / (p * n) + (1.0 - q) / (q * m);
    Some(Comparison {
        control: p,
        variant: q,
        difference,
        interval,
        p_value: (error > 0.0).then(|| normal_beyond(difference / error)),
        relative: relative(p, q, spread, confidence),
    })
}

/// Compares two means without assuming equal variances (Welch 1947). `None` if an arm has fewer than two rows.
pub fn means(control: Moments, variant: Moments, confidence: Confidence) -> Option<Comparison> {
    // The squared errors of the means.
    let of_control = control.variance()? / control.count() as f64;
    let of_variant = variant.variance()? / variant.count() as f64;
    let variance = of_control + of_variant;
    let difference = variant.mean - control.mean;
    let is_constant = variance <= 0.0;
    // Satterthwaite's degrees of freedom, in shares so that squares neither overflow nor vanish.
    let term = |part: f64, count: u64| (part / variance) * (part / variance) / (count - 1) as f64;
    let degrees = 1.0 / (term(of_control, control.count()) + term(of_variant, variant.count()));
    let reach = if is_constant { 0.0 } else { student_two_sided(confidence.alpha(), degrees) * variance.sqrt() };
    let of_mean = |moments: Moments, variance: f64| variance / moments.mean / moments.mean;
    Some(Comparison {
        control: control.mean,
        variant: variant.mean,
        difference,
        interval: Interval::around(difference, reach)?,
        p_value: (!is_constant).then(|| student_beyond(difference / variance.sqrt(), degrees)),
        relative: if variant.mean > 0.0 {
            relative(
                control.mean,
                variant.mean,
                of_mean(control, of_control) + of_mean(variant, of_variant),
                confidence,
            )
        } else {
            None
        },
    })
}
