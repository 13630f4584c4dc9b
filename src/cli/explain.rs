//! `aimpoint explain`: what each feature adds to a user's score, as bars.
//!
//! Guarantees: the features are those that `run` gives the model, because the same pipeline makes them; the bars are
//! Shapley values, which sum to the score minus that of the mean training row; the model is that of the user's variant. Limits:
//! a profile in the changelog is that after the user's newest event and no longer knows the one before, so a time since the
//! last event is 0 there. The same user is explained as that event saw them where files of events are given.

use super::{
    ConfigArgs, Exit,
    files::{self, Line},
    profile,
};
use crate::{
    app::Setup,
    engine::{Clock, Partition, Partitions, Pipeline, SystemClock},
    event::Record,
    inference::{Explainer, FeatureMatrix, Model, OnnxModel},
    sink::Outbox,
    status::Counts,
};
use anyhow::Context;
use clap::Args;
use std::{
    collections::HashMap,
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
    /// Explain the score of this user: of their profile in the changelog, or at their newest event in the files
    #[arg(long, value_name = "ID", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    user: Option<String>,
    /// Explain the score at the last event of this file; the events before it make the profile
    #[arg(long, value_name = "FILE")]
    event: Option<PathBuf>,
    /// Events to replay for --user instead: JSON lines, plain, .gz or .zst, in the order of their times
    files: Vec<PathBuf>,
}

pub(super) fn run(args: &ExplainArgs) -> anyhow::Result<()> {
    let setup = args.config.read()?;
    let mut pipeline = setup.pipeline(false)?;
    let models = setup.models(&pipeline)?;
    if models.0.is_empty() {
        return Err(Exit::Config.because("model.path: no model is declared, so there is no score to explain"));
    }
    let files = args.event.as_ref().map_or(&args.files[..], std::slice::from_ref);
    let bytes_max = setup.config.pipeline.input.max_bytes.as_u64() as usize;
    let Explained { user, moment, values, begin_empty } = match (&args.user, files) {
        (Some(user), []) => held(&setup, &mut pipeline, user)?,
        (user, files) => match replay(&mut pipeline, files, bytes_max, user.as_deref())? {
            Some(explained) => explained,
            None => match user {
                Some(user) => {
                    let message = format!("find user {user:?}: none of the files has a sound event of theirs");
                    return Err(Exit::NoUser.because(message));
                }
                None => {
                    return Err(Exit::Data.because(format!(
                        "read the event: {} has no sound one; aimpoint check tells what is expected",
                        files[0].display()
                    )));
                }
            },
        },
    };
    let (variant, mut model) = setup.deciding(models, &user)?;
    let row = row(&model, &values)?;
    let info = model.info().clone();
    let baseline = info.baseline.clone().ok_or_else(|| {
        Exit::Model.because(format!(
            "explain {}: the model says no baseline; write the mean of the training rows into its metadata as \
             aimpoint.baseline, a JSON array, as aimpoint train does",
            info.name
        ))
    })?;
    let spec = &setup.config.pipeline.explain;
    let mut explainer = Explainer::new(spec, &info.features, baseline)
        .map_err(|(key, why)| Exit::Config.because(format!("{key}: {why}")))?;
    let explanation = explainer.explain(&mut model, &row, 1)?;
    let score = score(&mut model, &row)?;
    let mut out = super::printed::stdout();
    let how = if explainer.is_exact() { "exact" } else { "sampled" };
    let variant = variant.map(|name| format!(" of the variant {name}")).unwrap_or_default();
    writeln!(out, "user {user}, {moment}, model {} {}{variant}; Shapley values, {how}", info.name, info.version)?;
    if !begin_empty.is_empty() {
        writeln!(out, "other features made the profile; it keeps nothing of {}", begin_empty.join(", "))?;
    }
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

/// Who is explained, and when.
struct Explained {
    user: String,
    /// The event, or the state of the profile.
    moment: String,
    /// The features, by name; NaN where missing.
    values: HashMap<String, f32>,
    /// Features of which nothing was kept.
    begin_empty: Vec<String>,
}

/// The user's profile as the changelog has it.
fn held(setup: &Setup, pipeline: &mut Pipeline, user: &str) -> anyhow::Result<Explained> {
    let shown = profile::look_up(&setup.config, pipeline, user, None)?;
    let moment = format!("profile of {}, complete up to offset {} of the input", shown.newest_event, shown.as_of);
    let for_model = pipeline.model_features();
    let features = shown.features.into_iter().filter(|it| for_model.contains(&it.name));
    let values = features.map(|it| (it.name, it.value.map_or(f32::NAN, narrowed))).collect();
    Ok(Explained { user: user.to_owned(), moment, values, begin_empty: shown.begin_empty })
}

/// A value as a model is given it: what only a double holds is none.
fn narrowed(value: f64) -> f32 {
    let narrow = value as f32;
    if narrow.is_finite() { narrow } else { f32::NAN }
}

/// Takes the files through the pipeline, and keeps the last event, of this user where one is named.
fn replay(
    pipeline: &mut Pipeline,
    files: &[PathBuf],
    bytes_max: usize,
    user: Option<&str>,
) -> anyhow::Result<Option<Explained>> {
    let names = pipeline.model_features();
    let mut partitions = Partitions::default();
    partitions.insert(0, Partition::new(0, 0, None));
    let (mut outbox, mut counts) = (Outbox::default(), Counts::default());
    pipeline.set_present(SystemClock::default().now());
    let mut newest = None;
    let mut offset = 0;
    for file in files {
        let mut step = |line: Option<&[u8]>| {
            if let Some(payload) = line {
                let record = Record { offset, payload: Some(payload), ..Record::default() };
                pipeline.take(&record, &mut partitions, &mut outbox, &mut counts);
                offset += 1;
            }
            if line.is_none() || (offset as usize).is_multiple_of(BATCH) || pipeline.is_full() {
                pipeline.rows(&mut partitions, &mut counts, |row| {
                    if user.is_none_or(|user| user == row.user) {
                        newest = Some((row.user.to_owned(), row.event_id.to_owned(), row.features.to_vec()));
                    }
                });
                outbox.clear();
            }
        };
        read(file, bytes_max, &mut step)?;
        step(None);
    }
    Ok(newest.map(|(user, event_id, features)| Explained {
        user,
        moment: format!("event {event_id}"),
        values: names.into_iter().zip(features).collect(),
        begin_empty: Vec::new(),
    }))
}

fn read(file: &Path, bytes_max: usize, step: &mut impl FnMut(Option<&[u8]>)) -> anyhow::Result<()> {
    let visit = |line: Line<'_>| {
        // What is too long is no sound event, as what cannot be read is none.
        if let Line::Whole(_, line) = line {
            step(Some(line));
        }
        Ok(true)
    };
    files::each_line::<anyhow::Error>(file, bytes_max, visit).with_context(|| format!("replay {}", file.display()))
}

/// The features in the order of the model's input.
fn row(model: &OnnxModel, values: &HashMap<String, f32>) -> anyhow::Result<Vec<f32>> {
    let of = |name: &String| {
        values.get(name).copied().ok_or_else(|| {
            Exit::Config.because(format!(
                "model.features: no feature for a model is named {name:?}; declare it without model = false"
            ))
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
