//! Estimates how much a policy would have earned, from decisions that another policy logged with their propensities.
//!
//! For the reward r of the logged action a, its propensity p(a) and its probability π(a) under the target policy, the
//! importance weight is `w = π(a) / p(a)`. A model q of the reward adds its mean over all actions,
//! `q(π) = Σ π(a') q(a')`:
//!
//! | Estimate | Formula | Source |
//! |---|---|---|
//! | IPS | `mean(w r)` | Horvitz and Thompson 1952; Strehl et al. 2010 |
//! | SNIPS | `Σ w r / Σ w` | Swaminathan and Joachims 2015 |
//! | DM | `mean(q(π))` | Beygelzimer and Langford 2009 |
//! | DR | `mean(q(π) + w (r - q(a)))` | Dudík et al. 2014 |
//!
//! IPS and DR are unbiased if propensities are right and no weight is clipped. SNIPS has a bias of the order of 1/n and
//! varies less. DM is as good as its model. Clipping bounds the variance and pulls the estimate towards 0 (IPS) or the
//! model (DR).
//!
//! Intervals come from the normal approximation and the bootstrap. The normal one uses the deviation of the rows'
//! terms, and for SNIPS the delta method, `Σ w² (r - v)² / (Σ w)²` (Owen 2013, "Monte Carlo theory, methods and
//! examples", 9.8). The bootstrap takes percentiles over resampled rows (Efron 1979), which is better if rewards are
//! rare. Both treat rows as independent. The intervals of DM do not include the uncertainty of the model. If the
//! effective sample size is a few percent of the rows, both kinds cover the value less often than stated, because the
//! rare rows with large weights that would widen them are mostly missing from the log.
//!
//! Guarantees: the same rows, options and seed give the same report on every machine. A row is skipped and counted if
//! its propensity is not in (0, 1], its target is not in [0, 1], or one of its numbers is not finite. Undefined values
//! are `None`. Limits: the bootstrap takes rows × replicates steps and stores its replicates, at most 10,000. Not
//! covered: where rows come from and how q is fitted.

pub use super::interval::{Confidence, Interval};

use super::interval::quantile;
use crate::random::mix;
use serde::Serialize;

/// The maximum number of bootstrap replicates. More would no longer move the ends of an interval.
const REPLICATES_MAX: usize = 10_000;

/// A reward model's predictions for a logged decision.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Modelled {
    /// The predicted reward of the logged action, `q(a)`.
    pub logged: f64,
    /// The predicted mean reward of the target policy, `q(π)`.
    pub target: f64,
}

/// A logged decision.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Logged {
    /// The reward, such as 1 for a click.
    pub reward: f64,
    /// The probability with which the logging policy chose this action, `p(a)`.
    pub propensity: f64,
    /// The probability of this action under the target policy, `π(a)`.
    pub target: f64,
    /// A model's predictions, if there is a model. DM and DR need them in every row.
    pub modelled: Option<Modelled>,
}

impl Logged {
    fn is_usable(&self) -> bool {
        // Sums of probabilities may be off by a few bits.
        let is_share = |share: f64| (0.0..=1.0 + 1e-9).contains(&share);
        let is_finite = |it: Modelled| it.logged.is_finite() && it.target.is_finite();
        let weight = self.target / self.propensity;
        self.reward.is_finite()
            && is_share(self.propensity)
            && self.propensity > 0.0
            && is_share(self.target)
            && weight.is_finite()
            && self.modelled.is_none_or(is_finite)
    }
}

/// How to estimate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// The maximum importance weight. Larger ones are cut to it. `None` cuts none, and neither does a maximum that is
    /// not above 0.
    pub clip: Option<f64>,
    /// The number of bootstrap replicates, at most 10,000. With 0, there are no bootstrap intervals.
    pub replicates: usize,
    /// The seed of the bootstrap's resampling.
    pub seed: u64,
    /// The confidence of the intervals.
    pub confidence: Confidence,
}

impl Default for Options {
    /// No clipping, 1,000 replicates, 95 %.
    fn default() -> Self {
        Self { clip: None, replicates: 1_000, seed: 0, confidence: Confidence::default() }
    }
}

/// An estimate of the mean reward.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// The mean reward of a decision.
    pub value: f64,
    /// The interval by the normal approximation. `None` with one row.
    pub normal: Option<Interval>,
    /// The interval by the bootstrap. `None` without replicates, with one row, or if a replicate is undefined.
    pub bootstrap: Option<Interval>,
}

/// The estimates for a policy from a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// The number of rows used.
    pub rows: usize,
    /// The number of rows skipped.
    pub left_out: usize,
    /// How many rows of the policy's own log would be as informative: `(Σ w)² / Σ w²` (Kish 1965). `None` if all
    /// weights are 0.
    pub effective_sample_size: Option<f64>,
    /// The share of rows whose weight was clipped.
    pub clipped_share: Option<f64>,
    /// The mean weight after clipping. It is near 1 if propensities are right and little is clipped.
    pub weight_mean: Option<f64>,
    /// The largest weight before clipping.
    pub weight_max: Option<f64>,
    /// Inverse propensity scoring.
    pub ips: Option<Estimate>,
    /// Self-normalised inverse propensity scoring; `None` if all weights are 0.
    pub snips: Option<Estimate>,
    /// The direct method; `None` unless all rows are modelled.
    pub direct: Option<Estimate>,
    /// Doubly robust; `None` unless all rows are modelled.
    pub doubly_robust: Option<Estimate>,
}

/// What a row adds to the estimates.
#[derive(Clone, Copy, Debug, Default)]
struct Terms {
    /// `w`
    weight: f64,
    /// `w r`
    weighted: f64,
    /// `q(π)`
    direct: f64,
    /// `q(π) + w (r - q(a))`
    robust: f64,
}

/// Estimates a policy's mean reward from a log.
pub fn evaluate(log: &[Logged], options: &Options) -> Report {
    let usable: Vec<Logged> = log.iter().copied().filter(Logged::is_usable).collect();
    let (rows, left_out) = (usable.len(), log.len() - usable.len());
    if usable.is_empty() {
        return Report { left_out, ..Report::default() };
    }
    let clip = options.clip.filter(|clip| *clip > 0.0).unwrap_or(f64::INFINITY);
    let weight = |row: &Logged| row.target / row.propensity;
    let terms: Vec<Terms> = usable.iter().map(|row| terms(row, weight(row).min(clip))).collect();
    let is_modelled = usable.iter().all(|row| row.modelled.is_some());
    let sum = |term: &dyn Fn(&Terms) -> f64| terms.iter().map(term).sum::<f64>();
    let weights = sum(&|it| it.weight);
    let squares = sum(&|it| it.weight * it.weight);
    let snips = sum(&|it| it.weighted) / weights;
    let boots = bootstrap(&terms, options);
    let [ips_boot, snips_boot, direct_boot, robust_boot] = boots;
    let estimate = |value: f64, error: f64, bootstrap: Option<Interval>| {
        let reach = options.confidence.tail().1 * error;
        // The error of a single row is 0/0.
        let normal = reach.is_finite().then_some(Interval { low: value - reach, high: value + reach });
        value.is_finite().then_some(Estimate { value, normal, bootstrap })
    };
    let mean_of = |term: &dyn Fn(&Terms) -> f64, boot| {
        let mean = sum(term) / rows as f64;
        let variance = sum(&|it| square(term(it) - mean)) / (rows as f64 - 1.0);
        estimate(mean, (variance / rows as f64).sqrt(), boot)
    };
    // A single row gives no meaningful error by the delta method either.
    let spread: f64 = terms.iter().map(|it| square(it.weighted - it.weight * snips)).sum();
    let snips_error = if rows > 1 { spread.sqrt() / weights } else { f64::NAN };
    Report {
        rows,
        left_out,
        effective_sample_size: (squares > 0.0).then(|| weights * weights / squares),
        clipped_share: Some(usable.iter().filter(|row| weight(row) > clip).count() as f64 / rows as f64),
        weight_mean: Some(weights / rows as f64),
        weight_max: usable.iter().map(weight).reduce(f64::max),
        ips: mean_of(&|it| it.weighted, ips_boot),
        snips: estimate(snips, snips_error, snips_boot),
        direct: if is_modelled { mean_of(&|it| it.direct, direct_boot) } else { None },
        doubly_robust: if is_modelled { mean_of(&|it| it.robust, robust_boot) } else { None },
    }
}

/// Not `powi`, whose last bits depend on the platform.
fn square(number: f64) -> f64 {
    number * number
}

/// A row's terms. Without a model, the terms that need one are not used.
fn terms(row: &Logged, weight: f64) -> Terms {
    let model = row.modelled.unwrap_or(Modelled { logged: 0.0, target: 0.0 });
    Terms {
        weight,
        weighted: weight * row.reward,
        direct: model.target,
        robust: model.target + weight * (row.reward - model.logged),
    }
}

/// The intervals of IPS, SNIPS, DM and DR over logs of the same size, whose rows are drawn from this one with
/// replacement. All four see the same replicates.
fn bootstrap(terms: &[Terms], options: &Options) -> [Option<Interval>; 4] {
    let replicates = options.replicates.min(REPLICATES_MAX);
    if replicates == 0 || terms.len() < 2 {
        return [None; 4];
    }
    let rows = terms.len() as u64;
    let mut values = [(); 4].map(|()| Vec::with_capacity(replicates));
    let mut state = mix(options.seed ^ 0x6a09_e667_f3bc_c908);
    for _ in 0..replicates {
        let mut sum = Terms::default();
        for _ in 0..rows {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            // The upper half of a product: uniform to one part in 2^64 / rows.
            let row = (u128::from(mix(state)) * u128::from(rows)) >> 64;
            let it = &terms[row as usize];
            sum.weight += it.weight;
            sum.weighted += it.weighted;
            sum.direct += it.direct;
            sum.robust += it.robust;
        }
        let count = rows as f64;
        let found = [sum.weighted / count, sum.weighted / sum.weight, sum.direct / count, sum.robust / count];
        values.iter_mut().zip(found).for_each(|(values, value)| values.push(value));
    }
    let (tail, _) = options.confidence.tail();
    values.map(|mut values| {
        // SNIPS is undefined if no drawn row has a weight.
        values.iter().all(|value| value.is_finite()).then(|| {
            values.sort_by(f64::total_cmp);
            Interval { low: quantile(&values, tail), high: quantile(&values, 1.0 - tail) }
        })
    })
}

#[cfg(test)]
mod tests;
