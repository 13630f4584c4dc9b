//! `aimpoint experiment`: what a treatment changed, and whom it moves, from a file with a row for each user.
//!
//! Owns the roles of the columns. Guarantees: what is printed is a function of the file and the options. The rows are those of any
//! randomised experiment, for instance of an e-mail campaign; the experiments of an application's own decisions are in
//! `aimpoint evaluate`. Limits: the outcome, the covariate and the score of each row are held in memory, and its features if a
//! learner is fitted.

mod report;
mod rows;
mod text;

use super::{evaluate::Level, number_within, printed};
use crate::training::UpliftLearner;
use clap::{Args, ValueEnum};
use std::{io::Write, path::PathBuf};

/// Compare the arms of an experiment, from a file with a row for each user
#[derive(Args, Clone, Debug)]
pub(super) struct ExperimentArgs {
    /// A row for each user: .csv, .csv.gz or .parquet
    file: PathBuf,
    #[command(flatten)]
    arms: ArmArgs,
    #[command(flatten)]
    uplift: UpliftArgs,
    /// The relative effect that the experiment is planned for, 0.001 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.1, value_parser = number_within(0.001..=1.0))]
    effect: f64,
    /// The confidence of all intervals
    #[arg(long, value_enum, default_value_t)]
    confidence: Level,
    /// The seed of the bootstrap and the learner
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    seed: u64,
    /// Output: text, or JSON for machines
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// What is compared.
#[derive(Args, Clone, Debug)]
struct ArmArgs {
    /// The column with the name of the user's arm
    #[arg(long, value_name = "COLUMN")]
    arm: String,
    /// The arm that the others are compared with
    #[arg(long, value_name = "NAME")]
    control: String,
    /// The column with the outcome: 0 or 1, or an amount
    #[arg(long, value_name = "COLUMN")]
    outcome: String,
    /// A column from before the experiment that predicts the outcome, to reduce the noise (CUPED)
    #[arg(long, value_name = "COLUMN")]
    before: Option<String>,
    /// The planned share of an arm, as NAME=SHARE, for each of them; then the split is checked
    #[arg(long, value_name = "NAME=SHARE", value_parser = share)]
    share: Vec<(String, f64)>,
}

/// Whose uplift is predicted, and from what.
#[derive(Args, Clone, Debug)]
struct UpliftArgs {
    /// A column with the predicted uplift, whose ranking is measured (Qini, AUUC)
    #[arg(long, value_name = "COLUMN", conflicts_with = "learner")]
    score: Option<String>,
    /// Predict the uplift from the other columns, and measure its ranking; for outcomes of 0 and 1
    #[arg(long, value_enum)]
    learner: Option<UpliftLearner>,
    /// A column that the learner does not use, such as another outcome; may be given several times
    #[arg(long, value_name = "COLUMN", requires = "learner")]
    ignore: Vec<String>,
    /// A column with categories, even if they are numbers; may be given several times
    #[arg(long, value_name = "COLUMN", requires = "learner")]
    text: Vec<String>,
    /// Bootstrap replicates for the intervals of Qini and AUUC
    #[arg(long, value_name = "COUNT", default_value_t = 500, value_parser = clap::value_parser!(u16).range(0..=10_000))]
    replicates: u16,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Text
    #[default]
    Text,
    /// One JSON object
    Json,
}

fn share(text: &str) -> Result<(String, f64), String> {
    let (name, share) = text.rsplit_once('=').ok_or("expected NAME=SHARE, such as control=0.5")?;
    match share.parse() {
        Ok(share) if share > 0.0 && share <= 1e9 => Ok((name.to_owned(), share)),
        _ => Err(format!("{share:?} is not a share above 0")),
    }
}

pub(super) fn run(args: &ExperimentArgs) -> anyhow::Result<()> {
    let rows = rows::read(args)?;
    let report = report::of(args, &rows)?;
    let mut out = printed::stdout();
    match args.format {
        Format::Json => {
            serde_json::to_writer_pretty(&mut out, &report)?;
            writeln!(out)?;
        }
        Format::Text => text::write(&report, &mut out)?,
    }
    Ok(())
}
