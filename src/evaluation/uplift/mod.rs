//! Uplift: whom does the treatment move?
//!
//! Owns the curves over customers in descending order of their predicted uplift, their areas with bootstrap intervals,
//! and the arithmetic of learners that join two models.
//!
//! With `Y_T`, `N_T` the outcomes and rows of the treated among the first k, and `Y_C`, `N_C` those of the controls:
//!
//! | Curve | Height at k | Source |
//! |---|---|---|
//! | Qini | `Y_T - Y_C N_T / N_C` | Radcliffe 2007, "Using control groups to target on predicted lift" |
//! | uplift | `(Y_T / N_T - Y_C / N_C) k` | Rzepakowski and Jaroszewicz 2010; its area is AUUC |
//!
//! A term whose arm has no rows yet is 0. Points lie at the ends of tied scores, joined by straight lines. Areas are
//! named by their normalisation (see [`Area`]); the same model has very different numbers in different packages, so a
//! number without its normalisation says nothing. `of_perfect` equals scikit-uplift's `qini_auc_score` and
//! `uplift_auc_score`.
//!
//! Guarantees: the order of rows does not matter without a bootstrap, and the same rows in the same order with the same
//! seed give the same intervals. Limits: sorts a copy, 24 bytes a row; the bootstrap takes rows × replicates steps, at
//! most 10,000 replicates, and draws rows as independent.

mod learner;

pub use learner::{XLearner, imputed_effect, t_learner};

use super::{
    experiment::{Comparison, ExperimentError, Moments, means},
    interval::{Confidence, Interval, quantile},
};
use crate::random::mix;
use serde::Serialize;
use thiserror::Error;

/// The most replicates, as in [`off_policy`](super::off_policy).
const REPLICATES_MAX: usize = 10_000;

/// Why there is no uplift.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
pub enum UpliftError {
    /// A predicted uplift is not finite.
    #[error("measure uplift in row {row}: score {value} is not finite")]
    Score {
        /// The row's number, from 0.
        row: usize,
        /// What it holds.
        value: f64,
    },
    /// An outcome is not finite or beyond 1e30.
    #[error("measure uplift in row {row}: outcome {value} is not a number between -1e30 and 1e30")]
    Outcome {
        /// The row's number, from 0.
        row: usize,
        /// What it holds.
        value: f64,
    },
    /// One arm has no rows.
    #[error("measure uplift: {treated} treated and {control} control rows; both arms need some")]
    OneArm {
        /// The treated rows.
        treated: usize,
        /// The control rows.
        control: usize,
    },
    /// A learner's input is not finite or too large.
    #[error("join two models: {name} is {value}, which is not a number between -1e30 and 1e30")]
    Model {
        /// Which input.
        name: &'static str,
        /// Its value.
        value: f64,
    },
    /// A propensity is not between 0 and 1.
    #[error("join two models: propensity {0} is not between 0 and 1")]
    Propensity(f64),
}

/// A row of a randomised experiment with a model's prediction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exposure {
    /// The predicted uplift, in any unit: only its order counts.
    pub score: f64,
    /// Whether the row was treated.
    pub is_treated: bool,
    /// What happened: 1 or 0 for a conversion, or an amount.
    pub outcome: f64,
}

/// An area between a curve and the straight line to its end, which is what random targeting gives.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Area {
    /// The area under the curve down to 0, in outcomes × rows.
    pub unscaled: f64,
    /// The area over the line of random targeting, in outcomes × rows.
    pub over_random: f64,
    /// `over_random / rows²`: how many more outcomes a customer gives on average over all depths of targeting.
    pub per_row: f64,
    /// `over_random` as a share of that of a model which knows every outcome. `None` if outcomes are not only 0 and 1,
    /// or such a model would gain nothing. With few rows, or arms of very different sizes, it can be over 1: that model is
    /// then not the best one, because it ignores the sizes of the arms.
    pub of_perfect: Option<f64>,
    /// The bootstrap interval of `per_row`. `None` without replicates.
    pub per_row_interval: Option<Interval>,
    /// The bootstrap interval of `of_perfect`. `None` without replicates, or if one has none.
    pub of_perfect_interval: Option<Interval>,
}

/// Both areas.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Areas {
    /// Of the Qini curve. `over_random` is the unscaled Qini coefficient.
    pub qini: Area,
    /// Of the uplift curve: AUUC.
    pub auuc: Area,
}

/// A point of both curves.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct UpliftPoint {
    /// The rows targeted so far, the highest scores first.
    pub rows: usize,
    /// The lowest score among them.
    pub score: f64,
    /// The height of the Qini curve.
    pub qini: f64,
    /// The height of the uplift curve.
    pub uplift: f64,
}

/// What the rows of a range of scores say, for instance of a decile.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct UpliftBin {
    /// The rows of both arms.
    pub rows: usize,
    /// The highest score.
    pub score_max: f64,
    /// The lowest score.
    pub score_min: f64,
    /// Treated against control. `None` if an arm has fewer than two rows.
    pub comparison: Option<Comparison>,
}

/// How to resample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Resampling {
    /// The number of bootstrap replicates, at most 10,000. With 0, there are no intervals.
    pub replicates: usize,
    /// The seed.
    pub seed: u64,
    /// The confidence of the intervals.
    pub confidence: Confidence,
}

impl Default for Resampling {
    /// 500 replicates, 95 %.
    fn default() -> Self {
        Self { replicates: 500, seed: 0, confidence: Confidence::default() }
    }
}

/// Rows and outcomes of both arms.
#[derive(Clone, Copy, Debug, Default)]
struct Arms {
    treated: f64,
    control: f64,
    of_treated: f64,
    of_control: f64,
}

impl Arms {
    fn add(&mut self, it: &Exposure, times: f64) {
        if it.is_treated {
            self.treated += times;
            self.of_treated += times * it.outcome;
        } else {
            self.control += times;
            self.of_control += times * it.outcome;
        }
    }

    fn plus(mut self, treated: f64, of_treated: f64, control: f64, of_control: f64) -> Self {
        self.treated += treated;
        self.of_treated += of_treated;
        self.control += control;
        self.of_control += of_control;
        self
    }

    fn rows(&self) -> f64 {
        self.treated + self.control
    }

    fn qini(&self) -> f64 {
        let ratio = if self.control > 0.0 { self.treated / self.control } else { 0.0 };
        self.of_treated - self.of_control * ratio
    }

    fn uplift(&self) -> f64 {
        let mean = |sum: f64, rows: f64| if rows > 0.0 { sum / rows } else { 0.0 };
        (mean(self.of_treated, self.treated) - mean(self.of_control, self.control)) * self.rows()
    }
}

/// The areas under both curves, point by point.
#[derive(Clone, Copy, Debug, Default)]
struct Sweep {
    at: Arms,
    qini: f64,
    auuc: f64,
    /// The heights at the last point.
    last: (f64, f64),
    rows: f64,
}

impl Sweep {
    /// Ends a group of tied scores.
    fn point(&mut self, at: Arms) {
        let heights = (at.qini(), at.uplift());
        let width = at.rows() - self.rows;
        self.qini += width * f64::midpoint(self.last.0, heights.0);
        self.auuc += width * f64::midpoint(self.last.1, heights.1);
        (self.at, self.last, self.rows) = (at, heights, at.rows());
    }

    fn over_random(&self) -> (f64, f64) {
        (self.qini - self.rows * self.last.0 / 2.0, self.auuc - self.rows * self.last.1 / 2.0)
    }
}

/// The areas of a model that knows every binary outcome: for Qini, treated positives come first and control positives
/// last; for AUUC, as scikit-uplift does it, the classes `2 (y = t) + s` in descending order, where s is the outcome if
/// there are more control positives than treated negatives, else the treatment.
fn perfect(all: &Arms) -> (f64, f64) {
    let (hits, misses) = (all.of_treated, all.treated - all.of_treated);
    let (own, idle) = (all.of_control, all.control - all.of_control);
    let sweep = |steps: &[Arms]| {
        let mut sweep = Sweep::default();
        steps.iter().filter(|it| it.rows() > 0.0).for_each(|it| {
            let at = sweep.at.plus(it.treated, it.of_treated, it.control, it.of_control);
            sweep.point(at);
        });
        sweep.over_random()
    };
    let none = Arms::default();
    let treated_positive = none.plus(hits, hits, 0.0, 0.0);
    let treated_negative = none.plus(misses, 0.0, 0.0, 0.0);
    let control_positive = none.plus(0.0, 0.0, own, own);
    let control_negative = none.plus(0.0, 0.0, idle, 0.0);
    let neutral = none.plus(misses, 0.0, idle, 0.0);
    let (qini, _) = sweep(&[treated_positive, neutral, control_positive]);
    let last = if own > misses { [control_positive, treated_negative] } else { [treated_negative, control_positive] };
    let (_, auuc) = sweep(&[treated_positive, control_negative, last[0], last[1]]);
    (qini, auuc)
}

/// The figures of one (re)sample.
struct Found {
    sweep: Sweep,
    per_row: (f64, f64),
    of_perfect: (Option<f64>, Option<f64>),
}

/// Checked rows in descending order of their score.
#[derive(Clone, Debug)]
pub struct Uplift {
    rows: Vec<Exposure>,
    is_binary: bool,
}

impl Uplift {
    /// Checks and sorts rows.
    ///
    /// # Errors
    ///
    /// If a score is not finite, an outcome is not finite or beyond 1e30, or an arm has no rows.
    pub fn new(rows: impl IntoIterator<Item = Exposure>) -> Result<Self, UpliftError> {
        let mut sorted = Vec::new();
        for (row, it) in rows.into_iter().enumerate() {
            if !it.score.is_finite() {
                return Err(UpliftError::Score { row, value: it.score });
            }
            if it.outcome.is_nan() || it.outcome.abs() > 1e30 {
                return Err(UpliftError::Outcome { row, value: it.outcome });
            }
            sorted.push(Exposure { score: it.score + 0.0, outcome: it.outcome + 0.0, ..it });
        }
        let treated = sorted.iter().filter(|it| it.is_treated).count();
        let control = sorted.len() - treated;
        if treated == 0 || control == 0 {
            return Err(UpliftError::OneArm { treated, control });
        }
        sorted.sort_unstable_by(|a, b| {
            let by_rest = a.is_treated.cmp(&b.is_treated).then(a.outcome.total_cmp(&b.outcome));
            b.score.total_cmp(&a.score).then(by_rest)
        });
        let is_binary = sorted.iter().all(|it| it.outcome == 0.0 || it.outcome == 1.0);
        Ok(Self { rows: sorted, is_binary })
    }

    /// The areas under both curves, with intervals.
    pub fn areas(&self, resampling: &Resampling) -> Areas {
        let whole = self.measure(|_| 1.0);
        let replicates = self.resample(resampling);
        let (tail, _) = resampling.confidence.tail();
        let interval = |of: &dyn Fn(&Found) -> Option<f64>| {
            let mut values = replicates.iter().map(of).collect::<Option<Vec<f64>>>().filter(|all| !all.is_empty())?;
            values.sort_by(f64::total_cmp);
            Some(Interval { low: quantile(&values, tail), high: quantile(&values, 1.0 - tail) })
        };
        let over_random = whole.sweep.over_random();
        Areas {
            qini: Area {
                unscaled: whole.sweep.qini,
                over_random: over_random.0,
                per_row: whole.per_row.0,
                of_perfect: whole.of_perfect.0,
                per_row_interval: interval(&|it| Some(it.per_row.0)),
                of_perfect_interval: interval(&|it| it.of_perfect.0),
            },
            auuc: Area {
                unscaled: whole.sweep.auuc,
                over_random: over_random.1,
                per_row: whole.per_row.1,
                of_perfect: whole.of_perfect.1,
                per_row_interval: interval(&|it| Some(it.per_row.1)),
                of_perfect_interval: interval(&|it| it.of_perfect.1),
            },
        }
    }

    fn measure(&self, times: impl Fn(usize) -> f64) -> Found {
        let (mut sweep, mut at) = (Sweep::default(), Arms::default());
        for (row, it) in self.rows.iter().enumerate() {
            at.add(it, times(row));
            let is_end = self.rows.get(row + 1).is_none_or(|next| next.score != it.score);
            if is_end {
                sweep.point(at);
            }
        }
        let over_random = sweep.over_random();
        let best = if self.is_binary { perfect(&at) } else { (0.0, 0.0) };
        let share = |over: f64, best: f64| (best > 0.0).then(|| over / best);
        let squared = sweep.rows * sweep.rows;
        Found {
            sweep,
            per_row: (over_random.0 / squared, over_random.1 / squared),
            of_perfect: (share(over_random.0, best.0), share(over_random.1, best.1)),
        }
    }

    fn resample(&self, resampling: &Resampling) -> Vec<Found> {
        let rows = self.rows.len() as u64;
        let mut state = mix(resampling.seed ^ 0x6a09_e667_f3bc_c908);
        let mut times = vec![0_u32; self.rows.len()];
        let draw = |_| {
            times.fill(0);
            for _ in 0..rows {
                state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                // The upper half of a product: uniform to one part in 2^64 / rows.
                times[((u128::from(mix(state)) * u128::from(rows)) >> 64) as usize] += 1;
            }
            self.measure(|row| f64::from(times[row]))
        };
        (0..resampling.replicates.min(REPLICATES_MAX)).map(draw).collect()
    }

    /// The ends of tied scores, from `start` on, with what came before them.
    fn ends(&self) -> impl Iterator<Item = (usize, Arms)> {
        let mut at = Arms::default();
        self.rows.iter().enumerate().filter_map(move |(row, it)| {
            at.add(it, 1.0);
            let is_end = self.rows.get(row + 1).is_none_or(|next| next.score != it.score);
            is_end.then_some((row + 1, at))
        })
    }

    /// At most `points` points of the curves, evenly over the rows, from the highest score to the end. The start, 0 rows
    /// and height 0, is not among them.
    pub fn curve(&self, points: usize) -> Vec<UpliftPoint> {
        let total = self.rows.len();
        let mut next = 1;
        self.ends()
            .filter(|&(rows, _)| {
                // Keep the first end at or after each of `points` even steps; the last end is the last step.
                let is_due = next <= points && rows as u128 * points as u128 >= next as u128 * total as u128;
                if is_due {
                    next = (rows as u128 * points as u128 / total as u128) as usize + 1;
                }
                is_due
            })
            .map(|(rows, at)| UpliftPoint {
                rows,
                score: self.rows[rows - 1].score,
                qini: at.qini(),
                uplift: at.uplift(),
            })
            .collect()
    }

    /// The lift in at most `bins` ranges of about equally many rows, the highest scores first. Tied scores stay
    /// together, so ranges may be larger and fewer.
    ///
    /// # Errors
    ///
    /// Never for checked rows; the type says that means refuse bad values.
    pub fn bins(&self, bins: usize, confidence: Confidence) -> Result<Vec<UpliftBin>, ExperimentError> {
        let mut start = 0;
        let ends: Vec<usize> = self.curve(bins).iter().map(|it| it.rows).collect();
        ends.into_iter()
            .map(|end| {
                let rows = &self.rows[start..end];
                start = end;
                let arm =
                    |is_treated| Moments::of(rows.iter().filter(|it| it.is_treated == is_treated).map(|it| it.outcome));
                Ok(UpliftBin {
                    rows: rows.len(),
                    score_max: rows[0].score,
                    score_min: rows[rows.len() - 1].score,
                    comparison: means(arm(false)?, arm(true)?, confidence),
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests;
