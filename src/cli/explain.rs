//! `aimpoint explain`: what each feature adds to a user's score, as bars.
//!
//! Guarantees: the features are those that `run` gives the model, because the same pipeline computes them; the bars are
//! Shapley values, which sum to the score minus the score of the mean training row; the model is that of the user's variant.
//! Limits: a profile in the changelog already includes the user's newest event, so a time since the last event is 0. To explain
//! the score at the event itself, pass files of events.

use super::{
    ConfigArgs, Exit,
    files::{self, Line},
    profile,
};
use crate::{
    app::Setup,
    engine::{Clock, Partition, Partitions, Pipeline, SystemClock},
    event::{KeyType, Record, UserKeys, split_key},
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

/// Events per batch.
const BATCH: usize = 4_096;

/// Half the width of the bars, in characters.
const BAR: usize = 24;

/// Show what each feature adds to a user's score
#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = false, args = ["user", "event"])]
pub(super) struct ExplainArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Explain this user's score: from the profile in the changelog, or at the newest event in the files
    #[arg(long, value_name = "ID", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    user: Option<String>,
    /// Explain the score at the last event of this file; the events before it build the profile
    #[arg(long, value_name = "FILE")]
    event: Option<PathBuf>,
    /// Events to replay for --user: JSON lines, plain, .gz or .zst, ordered by time
    files: Vec<PathBuf>,
}

pub(super) fn run(args: &ExplainArgs) -> anyhow::Result<()> {
    let setup = args.config.read()?;
    let mut pipeline = setup.pipeline(false)?;
    let models = setup.models(&pipeline)?;
    if models.0.is_empty() {
        return Err(Exit::Config.because("model.path: no model is configured, so there is no score to explain"));
    }
    let files = args.event.as_ref().map_or(&args.files[..], std::slice::from_ref);
    let bytes_max = setup.config.pipeline.input.max_bytes.as_u64() as usize;
    let Explained { user, named, moment, values, begin_empty } = match (&args.user, files) {
        (Some(user), []) => from_changelog(&setup, &mut pipeline, user)?,
        (user, files) => match replay(&mut pipeline, files, bytes_max, user.as_deref(), &setup.config.users())? {
            Some(explained) => explained,
            None => match user {
                Some(user) => {
                    let message = format!("find user {user:?}: no file has a valid event of this user");
                    return Err(Exit::NoUser.because(message));
                }
                None => {
                    return Err(Exit::Data.because(format!(
                        "read the event: {} has no valid event; see aimpoint check for the expected format",
                        files[0].display()
                    )));
                }
            },
        },
    };
    let (variant, mut model) = setup.deciding(models, &named)?;
    let row = row(&model, &values)?;
    let info = model.info().clone();
    let baseline = info.baseline.clone().ok_or_else(|| {
        Exit::Model.because(format!(
            "explain {}: the model has no baseline; write the mean of the training rows into its metadata as \
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
    let method = if explainer.is_exact() { "exact" } else { "sampled" };
    let variant = variant.map(|name| format!(", variant {name}")).unwrap_or_default();
    writeln!(out, "user {user}, {moment}, model {} {}{variant}; Shapley values, {method}", info.name, info.version)?;
    if !begin_empty.is_empty() {
        writeln!(out, "the profile was built with other features and has no state for {}", begin_empty.join(", "))?;
    }
    writeln!(out)?;
    writeln!(out, "{:<28}{:>12}{:>12}", "", "value", "adds")?;
    writeln!(out, "{:<28}{:>12}{:>+12.4}", "mean training row", "", explanation.base)?;
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
    writeln!(out, "{:<28}{:>12}{score:>+12.4}", "score", "")?;
    if let Some(calibration) = &info.calibration {
        writeln!(out, "{:<28}{:>12}{:>+12.4}", "calibrated", "", calibration.apply(score))?;
    }
    Ok(())
}

/// The user and event to explain, with the features.
struct Explained {
    user: String,
    /// The id of the user behind the input.
    named: String,
    /// Describes the event, or the state of the profile.
    moment: String,
    /// The features, by name; NaN where missing.
    values: HashMap<String, f32>,
    /// Features without state in the profile.
    begin_empty: Vec<String>,
}

/// Reads the user's profile from the changelog.
fn from_changelog(setup: &Setup, pipeline: &mut Pipeline, user: &str) -> anyhow::Result<Explained> {
    let shown = profile::look_up(&setup.config, pipeline, user, None)?;
    let moment = format!("profile of {}, complete up to offset {} of the input", shown.newest_event, shown.as_of);
    let for_model = pipeline.model_features();
    let features = shown.features.into_iter().filter(|it| for_model.contains(&it.name));
    let values = features.map(|it| (it.name, it.value.map_or(f32::NAN, narrowed))).collect();
    let key_type = KeyType::named(shown.key_type).unwrap_or_default();
    let named = split_key(&setup.config.users().sought(key_type, user)).1.to_owned();
    Ok(Explained { user: user.to_owned(), named, moment, values, begin_empty: shown.begin_empty })
}

/// Converts a value to the model's type: what does not fit an `f32` is missing.
fn narrowed(value: f64) -> f32 {
    let narrow = value as f32;
    if narrow.is_finite() { narrow } else { f32::NAN }
}

/// Runs the files through the pipeline and returns the last event, of this user if one is given.
fn replay(
    pipeline: &mut Pipeline,
    files: &[PathBuf],
    bytes_max: usize,
    user: Option<&str>,
    users: &UserKeys,
) -> anyhow::Result<Option<Explained>> {
    let sought = user.map(|user| KeyType::ALL.map(|ty| split_key(&users.sought(ty, user)).1.to_owned()));
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
                    if sought.as_ref().is_none_or(|names| names.iter().any(|name| name == row.user)) {
                        newest = Some((row.user.to_owned(), row.event_id.to_owned(), row.features.to_vec()));
                    }
                });
                outbox.clear();
            }
        };
        read(file, bytes_max, &mut step)?;
        step(None);
    }
    Ok(newest.map(|(named, event_id, features)| Explained {
        user: user.unwrap_or(&named).to_owned(),
        named,
        moment: format!("event {event_id}"),
        values: names.into_iter().zip(features).collect(),
        begin_empty: Vec::new(),
    }))
}

fn read(file: &Path, bytes_max: usize, step: &mut impl FnMut(Option<&[u8]>)) -> anyhow::Result<()> {
    let visit = |line: Line<'_>| {
        // A line that is too long is skipped, as is one that cannot be read.
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
                "model.features: no model feature is named {name:?}; declare it without model = false"
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

/// A bar from the middle to the left or right, for a share of the largest from -1 to 1.
fn bar(share: f64) -> String {
    let length = (share.abs() * BAR as f64).round() as usize;
    let filled = "█".repeat(length);
    if share < 0.0 { format!("{filled:>BAR$}│") } else { format!("{:BAR$}│{filled}", "") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_extend_from_the_middle_to_their_side() {
        assert_eq!(bar(1.0), format!("{}│{}", " ".repeat(BAR), "█".repeat(BAR)));
        assert_eq!(bar(-0.5), format!("{}{}│", " ".repeat(BAR / 2), "█".repeat(BAR / 2)));
        assert_eq!(bar(0.0), format!("{}│", " ".repeat(BAR)));
    }
}
