//! `aimpoint explain`: what each feature adds to a user's score, as bars.
//!
//! Guarantees: the features are those that `run` gives the model, because the same pipeline makes them; the bars are
//! Shapley values, which sum to the score minus that of the mean training row. Limits: a user is replayed from files of
//! events, since a profile alone does not say what its last event was.

use super::{ConfigArgs, files, setup::Setup};
use crate::{
    engine::{Counts, Partition, Partitions, Pipeline},
    event::Record,
    inference::{Explainer, FeatureMatrix, Model, OnnxModel},
    sink::Outbox,
};
use anyhow::{Context, bail};
use clap::Args;
use std::{
    io::Write,
    path::{Path, PathBuf},
};

/// How many events are taken at once.
const BATCH: usize = 4_096;

/// Half of the width of the bars, in letters.
const BAR: usize = 24;

/// Show what each feature adds to a user's score
#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = false, args = ["user", "event"])]
pub(super) struct ExplainArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Explain the score at this user's newest event, in the files
    #[arg(long, value_name = "ID", requires = "files")]
    user: Option<String>,
    /// Explain the score at the last event of this file; the events before it make the profile
    #[arg(long, value_name = "FILE")]
    event: Option<PathBuf>,
    /// The events to replay for --user: JSON lines, plain, .gz or .zst, in the order of their times
    files: Vec<PathBuf>,
}

pub(super) fn run(args: &ExplainArgs) -> anyhow::Result<()> {
    let setup = Setup::read(&args.config)?;
    let mut pipeline = setup.pipeline(false)?;
    let mut model =
        setup.model(&pipeline)?.context("model.path: no model is declared, so there is no score to explain")?;
    let files = args.event.as_ref().map_or(&args.files[..], std::slice::from_ref);
    let newest = replay(&mut pipeline, files, args.user.as_deref())?;
    let Some(Newest { user, event_id, features }) = newest else {
        match &args.user {
            Some(user) => bail!("find user {user:?}: none of the files has a sound event of theirs"),
            None => {
                bail!("read the event: {} has no sound one; aimpoint check tells what is expected", files[0].display())
            }
        }
    };
    let declared = pipeline.model_features();
    let row = row(&model, &declared, &features)?;
    let info = model.info().clone();
    let baseline = info.baseline.clone().with_context(|| {
        format!(
            "explain {}: the model says no baseline; write the mean of the training rows into its metadata as \
             aimpoint.baseline, a JSON array, as aimpoint train does",
            info.name
        )
    })?;
    let spec = &setup.config.pipeline.explain;
    let mut explainer =
        Explainer::new(spec, &info.features, baseline).map_err(|(key, why)| anyhow::anyhow!("{key}: {why}"))?;
    let explanation = explainer.explain(&mut model, &row, 1)?;
    let score = score(&mut model, &row)?;
    let mut out = std::io::stdout().lock();
    let how = if explainer.is_exact() { "exact" } else { "sampled" };
    writeln!(out, "user {user}, event {event_id}, model {} {}; Shapley values, {how}", info.name, info.version)?;
    writeln!(out)?;
    writeln!(out, "{:<28}{:>12}{:>12}", "", "value", "adds")?;
    writeln!(out, "{:<28}{:>12}{:>+12.4}", "the mean training row", "", explanation.base)?;
    let mut parts: Vec<_> = explainer.groups().iter().zip(&explanation.parts).collect();
    parts.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()));
    let largest = parts.first().map_or(1.0, |(_, part)| part.abs()).max(f64::MIN_POSITIVE);
    for (group, part) in parts {
        let value = match group.columns[..] {
            [column] if row[column].is_nan() => "missing".to_owned(),
            [column] => format!("{:.4}", row[column]),
            _ => String::new(),
        };
        writeln!(out, "{:<28}{value:>12}{part:>+12.4}  {}", group.name, bar(*part / largest))?;
    }
    writeln!(out, "{:<28}{:>12}{score:>+12.4}", "the score", "")?;
    if let Some(calibration) = &info.calibration {
        writeln!(out, "{:<28}{:>12}{:>+12.4}", "calibrated", "", calibration.apply(score))?;
    }
    Ok(())
}

/// The event that is explained.
struct Newest {
    user: String,
    event_id: String,
    features: Vec<f32>,
}

/// Takes the files through the pipeline, and keeps the last event, of this user where one is named.
fn replay(pipeline: &mut Pipeline, files: &[PathBuf], user: Option<&str>) -> anyhow::Result<Option<Newest>> {
    let mut partitions = Partitions::default();
    partitions.insert(0, Partition::new(0, 0, None));
    let (mut outbox, mut counts) = (Outbox::default(), Counts::default());
    let mut newest = None;
    let mut offset = 0;
    for file in files {
        let mut step = |line: Option<&[u8]>| {
            if let Some(payload) = line {
                let record = Record { offset, payload: Some(payload), ..Record::default() };
                pipeline.take(&record, &mut partitions, &mut outbox, &mut counts);
                offset += 1;
            }
            if line.is_none() || (offset as usize).is_multiple_of(BATCH) {
                pipeline.rows(&mut partitions, &mut counts, |row| {
                    if user.is_none_or(|user| user == row.user) {
                        let (user, event_id) = (row.user.to_owned(), row.event_id.to_owned());
                        newest = Some(Newest { user, event_id, features: row.features.to_vec() });
                    }
                });
                outbox.clear();
            }
        };
        read(file, &mut step)?;
        step(None);
    }
    Ok(newest)
}

fn read(file: &Path, step: &mut impl FnMut(Option<&[u8]>)) -> anyhow::Result<()> {
    let visit = |line: &[u8]| {
        step(Some(line));
        Ok(true)
    };
    files::each_line::<anyhow::Error>(file, visit).with_context(|| format!("replay {}", file.display()))
}

/// The features in the order of the model's input.
fn row(model: &OnnxModel, declared: &[String], features: &[f32]) -> anyhow::Result<Vec<f32>> {
    let of = |name: &String| {
        let at = declared.iter().position(|declared| declared == name);
        at.map(|at| features[at]).with_context(|| {
            format!("model.features: no feature for a model is named {name:?}; declare it without model = false")
        })
    };
    model.info().features.iter().map(of).collect()
}

fn score(model: &mut OnnxModel, row: &[f32]) -> anyhow::Result<f32> {
    let mut matrix = FeatureMatrix::new(row.len());
    matrix.reset(1).copy_from_slice(row);
    let mut scores = Vec::new();
    model.score(&matrix, &mut scores)?;
    Ok(scores[0])
}

/// A bar from the middle to the left or to the right, for a share from -1 to 1 of the largest.
fn bar(share: f64) -> String {
    let length = (share.abs() * BAR as f64).round() as usize;
    let filled = "█".repeat(length);
    if share < 0.0 { format!("{filled:>BAR$}│") } else { format!("{:BAR$}│{filled}", "") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_go_from_the_middle_to_their_side() {
        assert_eq!(bar(1.0), format!("{}│{}", " ".repeat(BAR), "█".repeat(BAR)));
        assert_eq!(bar(-0.5), format!("{}{}│", " ".repeat(BAR / 2), "█".repeat(BAR / 2)));
        assert_eq!(bar(0.0), format!("{}│", " ".repeat(BAR)));
    }
}
