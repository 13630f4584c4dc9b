//! What the rows of an experiment say. The statistics are those of [`crate::evaluation`].

use super::{ExperimentArgs, rows::Rows};
use crate::{
    evaluation::{
        Confidence,
        experiment::{
            AnyTime, Arm, Comparison, Cuped, Mixture, Moments, Paired, SampleRatio, any_time_means,
            any_time_proportions, cuped, means,
            power::{Baseline, Plan},
            proportions, sample_ratio, sample_ratio_any_time,
        },
        uplift::{Areas, Exposure, Resampling, Uplift, UpliftBin, UpliftPoint},
    },
    training::{TrainSpec, uplift_scores},
};
use serde::Serialize;

/// The probability of finding the planned effect that plans ask for.
const POWER: f64 = 0.8;

/// Ranges of predicted uplift, and points of the curves.
const BINS: usize = 10;
const POINTS: usize = 100;

#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) outcome: String,
    /// Whether the outcome is 0 or 1, so that arms have rates.
    pub(super) is_rate: bool,
    pub(super) control: String,
    pub(super) confidence: Confidence,
    /// The relative effect that is planned for.
    pub(super) effect: f64,
    pub(super) arms: Vec<ArmOf>,
    /// Whether the users were split as planned, looked at once and at any time.
    pub(super) split: Option<[SampleRatio; 2]>,
    pub(super) comparisons: Vec<Compared>,
    pub(super) uplift: Vec<UpliftOf>,
}

#[derive(Debug, Serialize)]
pub(super) struct ArmOf {
    pub(super) name: String,
    pub(super) rows: u64,
    pub(super) planned: Option<f64>,
    pub(super) mean: Option<f64>,
}

/// An arm against the control.
#[derive(Debug, Serialize)]
pub(super) struct Compared {
    pub(super) arm: String,
    pub(super) once: Option<Comparison>,
    pub(super) any_time: Option<AnyTime>,
    pub(super) cuped: Option<Cuped>,
    pub(super) cuped_any_time: Option<AnyTime>,
    /// Rows of both arms that the planned effect needs.
    pub(super) rows_needed: Option<u64>,
    /// The smallest effect that so many rows find.
    pub(super) smallest_effect: Option<f64>,
}

/// How well predicted uplift ranks the users of an arm and the control.
#[derive(Debug, Serialize)]
pub(super) struct UpliftOf {
    pub(super) arm: String,
    /// Where the predictions come from: `score`, `t` or `x`.
    pub(super) predicted_by: &'static str,
    pub(super) areas: Areas,
    pub(super) bins: Vec<UpliftBin>,
    pub(super) curve: Vec<UpliftPoint>,
}

pub(super) fn of(args: &ExperimentArgs, rows: &Rows) -> anyhow::Result<Report> {
    let confidence = Confidence::from(args.confidence);
    let is_rate = rows.is_binary();
    let mut arms = vec![Paired::default(); rows.arms.len()];
    for (row, (arm, outcome)) in rows.arm.iter().zip(&rows.outcome).enumerate() {
        arms[*arm].add(*outcome, rows.before.as_ref().map_or(0.0, |all| all[row]))?;
    }
    let planned = |name: &str| args.arms.share.iter().find(|(of, _)| of == name).map(|(_, share)| *share);
    let arm = |(name, of): (&String, &Paired)| ArmOf {
        name: name.clone(),
        rows: of.value().count(),
        planned: planned(name),
        mean: of.value().mean(),
    };
    let compared = (1..arms.len()).map(|at| compare(args, rows, (at, &arms[at]), &arms[0], is_rate));
    Ok(Report {
        outcome: args.arms.outcome.clone(),
        is_rate,
        control: args.arms.control.clone(),
        confidence,
        effect: args.effect,
        arms: rows.arms.iter().zip(&arms).map(arm).collect(),
        split: split(args, rows, &arms)?,
        comparisons: compared.collect::<anyhow::Result<_>>()?,
        uplift: (1..arms.len()).filter_map(|at| uplift(args, rows, at).transpose()).collect::<anyhow::Result<_>>()?,
    })
}

/// Whether the users were split as planned.
fn split(args: &ExperimentArgs, rows: &Rows, arms: &[Paired]) -> anyhow::Result<Option<[SampleRatio; 2]>> {
    if args.arms.share.is_empty() {
        return Ok(None);
    }
    let shares =
        rows.arms.iter().map(|name| args.arms.share.iter().find(|(of, _)| of == name).map(|(_, share)| *share));
    let Some(shares) = shares.collect::<Option<Vec<f64>>>().filter(|all| all.len() == args.arms.share.len()) else {
        let planned: Vec<&str> = args.arms.share.iter().map(|(name, _)| name.as_str()).collect();
        anyhow::bail!(crate::cli::Exit::Usage.because(format!(
            "--share is of the arms {}, and the file has {}; give each of them once",
            planned.join(", "),
            rows.arms.join(", ")
        )));
    };
    let counts: Vec<u64> = arms.iter().map(|arm| arm.value().count()).collect();
    let once = sample_ratio(&counts, &shares)?;
    once.map(|once| Ok([once, sample_ratio_any_time(&counts, &shares)?])).transpose()
}

fn compare(
    args: &ExperimentArgs,
    rows: &Rows,
    (at, of): (usize, &Paired),
    base: &Paired,
    is_rate: bool,
) -> anyhow::Result<Compared> {
    let confidence = Confidence::from(args.confidence);
    let (control, variant) = (base.value(), of.value());
    let mixture = |mean: f64| Mixture::of_effect(args.effect * mean.abs()).ok();
    let (once, any_time) = if is_rate {
        let arm = |of: Moments| Arm::new((of.mean().unwrap_or(0.0) * of.count() as f64).round() as u64, of.count());
        let (control, variant) = (arm(control)?, arm(variant)?);
        let once = proportions(control, variant, confidence);
        let prior = once.as_ref().and_then(|it| mixture(it.control));
        (once, prior.and_then(|prior| any_time_proportions(control, variant, prior, confidence)))
    } else {
        let once = means(control, variant, confidence);
        let prior = once.as_ref().and_then(|it| mixture(it.control));
        (once, prior.and_then(|prior| any_time_means(control, variant, prior, confidence)))
    };
    let adjusted = rows.before.as_ref().and_then(|_| cuped(base, of, confidence));
    let cuped_any_time = adjusted
        .as_ref()
        .and_then(|it| any_time_means(it.control, it.variant, mixture(it.comparison.control)?, confidence));
    let mean = control.mean().unwrap_or(0.0);
    let baseline =
        if is_rate { Baseline::Rate(mean) } else { Baseline::Deviation(control.variance().unwrap_or(0.0).sqrt()) };
    let users = control.count() + variant.count();
    let plan = Plan { baseline, share: variant.count() as f64 / users as f64, confidence, power: POWER };
    Ok(Compared {
        arm: rows.arms[at].clone(),
        once,
        any_time,
        cuped: adjusted,
        cuped_any_time,
        // A plan needs a control that has some successes, and failures.
        rows_needed: plan.rows(args.effect * mean.abs()).ok().flatten(),
        smallest_effect: plan.smallest_effect(users).ok().flatten(),
    })
}

/// Measures the ranking of an arm's predicted uplift.
fn uplift(args: &ExperimentArgs, rows: &Rows, at: usize) -> anyhow::Result<Option<UpliftOf>> {
    let chosen: Vec<usize> = (0..rows.arm.len()).filter(|row| [0, at].contains(&rows.arm[*row])).collect();
    let is_treated = |row: usize| rows.arm[row] == at;
    let (scores, predicted_by): (Vec<f64>, _) = match (&rows.score, &rows.data, args.uplift.learner) {
        (Some(all), ..) => (chosen.iter().map(|row| all[*row]).collect(), "score"),
        (None, Some(data), Some(learner)) => {
            let treated: Vec<bool> = chosen.iter().map(|row| is_treated(*row)).collect();
            let spec = TrainSpec { seed: args.seed, ..TrainSpec::default() };
            (uplift_scores(&data.only(&chosen), &treated, learner, &spec)?, learner.name())
        }
        _ => return Ok(None),
    };
    let exposure =
        |(row, score): (&usize, f64)| Exposure { score, is_treated: is_treated(*row), outcome: rows.outcome[*row] };
    let confidence = Confidence::from(args.confidence);
    let measured = Uplift::new(chosen.iter().zip(scores).map(exposure))?;
    let resampling = Resampling { replicates: args.uplift.replicates.into(), seed: args.seed, confidence };
    Ok(Some(UpliftOf {
        arm: rows.arms[at].clone(),
        predicted_by,
        areas: measured.areas(&resampling),
        bins: measured.bins(BINS, confidence)?,
        curve: measured.curve(POINTS),
    }))
}
