//! `aimpoint evaluate`: what decisions achieved, from files or topics of decisions and outcomes.
//!
//! Owns the arguments. The figures are those of [`crate::effect`]; `feeds` reads the files.

mod clock;
mod feeds;
mod input;
mod plan;
mod text;

pub(super) use feeds::{Log, Observer, take_in};
pub(super) use input::Records;
pub(super) use plan::{Asked, plan_of};

use super::{ConfigArgs, Exit, files, number_within, topic_files::TopicFiles};
use crate::{
    config::ConfigLoadError,
    effect::{Dimension, Evaluation, TouchKind},
    evaluation::Confidence,
    partial::PartialFile,
    report,
};
use anyhow::Context;
use clap::{Args, ValueEnum};
use feeds::{Faults, Report};
use std::{
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

/// Measure what decisions achieved, from files or topics of decisions and outcomes
#[derive(Args, Clone, Debug)]
pub(super) struct EvaluateArgs {
    /// Decisions and outcomes as JSON lines, Protobuf (.pb) or Parquet; a record's content says which it is. topic:NAME stands for
    /// what a topic holds
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    config: ConfigArgs,
    /// Group by this field, or by several joined with +; may be given several times [default: campaign, model_version]
    #[arg(long, value_name = "FIELD", value_parser = Dimension::parse)]
    by: Vec<Dimension>,
    /// Output: tables, or JSON for machines
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Also write a report for people, with pictures: one page (.html), or its data (.json); may be given several times
    #[arg(long, value_name = "FILE", value_parser = report_file)]
    report: Vec<PathBuf>,
    /// The age of an impression at which it is known whether it was clicked [default: control.attribution.engagement]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    click_within: Option<Duration>,
    /// The age of an impression at which it is known whether a conversion followed [default: the sum of
    /// control.attribution.engagement and the longer of click and view]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    conversion_within: Option<Duration>,
    /// Up to when the outcomes are complete, such as 2026-03-01T00:00:00Z [default: the time of the last record]
    #[arg(long, value_name = "TIME")]
    complete_until: Option<jiff::Timestamp>,
    /// The confidence of all intervals
    #[arg(long, value_enum, default_value_t)]
    confidence: Level,
    /// The relative effect that experiments are planned for, 0.001 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.1, value_parser = number_within(0.001..=1.0))]
    effect: f64,
    /// Divide the conversions among the campaigns that touched the user before: first, last, linear, position, time decay, Markov,
    /// Shapley
    #[arg(long)]
    attribution: bool,
    /// What is a touch for --attribution
    #[arg(long, value_enum, default_value_t, requires = "attribution")]
    touch: TouchKind,
    /// How old a touch may be at the conversion [default: control.attribution.click]
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "attribution")]
    lookback: Option<Duration>,
    /// The age after which a touch counts half under time decay
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "7d", requires = "attribution")]
    half_life: Duration,
    /// Estimate what another way of choosing creatives would have earned
    #[arg(long, value_enum, value_name = "NAME")]
    policy: Option<PolicyName>,
    /// What control has learned, as `aimpoint control --once --policy` writes it; for --policy best and learned
    #[arg(long, value_name = "FILE", requires = "policy")]
    learned: Option<PathBuf>,
    /// The largest importance weight of --policy [default: no limit]
    #[arg(long, value_name = "WEIGHT", requires = "policy", value_parser = number_within(1.0..=1e9))]
    clip: Option<f64>,
    /// The seed of the bootstrap of --policy
    #[arg(long, default_value_t = 0, requires = "policy")]
    seed: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Tables
    #[default]
    Text,
    /// One JSON object
    Json,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Level {
    #[value(name = "90")]
    P90,
    #[default]
    #[value(name = "95")]
    P95,
    #[value(name = "99")]
    P99,
}

impl From<Level> for Confidence {
    fn from(level: Level) -> Self {
        match level {
            Level::P90 => Self::P90,
            Level::P95 => Self::P95,
            Level::P99 => Self::P99,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PolicyName {
    /// Every creative that fits with the same probability
    Uniform,
    /// By the weights of the catalogue
    Weight,
    /// Always the best by what control has learned (--learned)
    Best,
    /// As workers choose with what control has learned (--learned)
    Learned,
}

impl PolicyName {
    fn as_str(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Weight => "weight",
            Self::Best => "best",
            Self::Learned => "learned",
        }
    }
}

/// A file of a report, whose name says its form.
fn report_file(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    let is = |form: &str| path.extension().is_some_and(|it| it.eq_ignore_ascii_case(form));
    if is("html") || is("json") { Ok(path) } else { Err("expected a name that ends in .html or .json".to_owned()) }
}

fn duration(text: &str) -> Result<Duration, String> {
    let found = humantime::parse_duration(text).map_err(|error| format!("{error}; write one such as \"24h\""))?;
    let (least, most) = (Duration::from_secs(1), Duration::from_hours(366 * 24));
    if (least..=most).contains(&found) { Ok(found) } else { Err("expected 1s to 366 days".to_owned()) }
}

pub(super) fn run(args: &EvaluateArgs) -> anyhow::Result<()> {
    let setup = args.config.read()?;
    let errors = setup.config.control_faults();
    if !errors.is_empty() {
        return Err(ConfigLoadError::Invalid(setup.document.explain(&errors)).into());
    }
    let (setups, plan) = plan_of(&setup, Asked::of(args))?;
    let policy = plan::policy(&setup, args, &setups)?;
    let files = TopicFiles::fetch(&setup, &args.files)?;
    for file in files.paths() {
        files::check(file)?;
    }
    for report in &args.report {
        files::check_out(report, files.paths())?;
    }
    let spec = setup.config.control();
    let evaluation = Evaluation::new(&setup.config.app.name, &spec, setups, plan, policy)?;
    let (users, reads_members) = (setup.config.users(), args.by.iter().any(Dimension::reads_members));
    let log = Log {
        files: files.paths(),
        users: &users,
        wait: spec.wait,
        ahead: setup.config.pipeline.time.future_tolerance,
        reads_members,
    };
    let report = take_in(&log, evaluation, &mut ())?;
    if report.effect.span.is_none() && report.unreadable.count > 0 {
        let lines = report.unreadable.first.join("\n");
        return Err(Exit::Data.because(format!("read decisions and outcomes: no line can be used\n{lines}")));
    }
    for path in &args.report {
        write_report(path, &report, &setup.config.app.name)?;
    }
    let mut out = super::printed::stdout();
    match args.format {
        Format::Text => write!(out, "{}", text::report(&report))?,
        Format::Json => {
            serde_json::to_writer_pretty(&mut out, &report)?;
            writeln!(out)?;
        }
    }
    Ok(())
}

/// Writes the report into a file, which appears once it is complete.
fn write_report(path: &Path, report: &Report, app: &str) -> anyhow::Result<()> {
    let is_html = path.extension().is_some_and(|it| it.eq_ignore_ascii_case("html"));
    let bytes = if is_html {
        let fault = |what: &str, of: &Faults| (what.to_owned(), of.count, of.first.clone());
        let faults = vec![fault("unreadable", &report.unreadable), fault("rejected", &report.rejected)];
        report::html(&report.effect, &report::Origin { app: app.to_owned(), faults }).into_bytes()
    } else {
        serde_json::to_vec_pretty(report)?
    };
    let write = || {
        let mut file = PartialFile::create(path)?;
        file.write_all(&bytes)?;
        file.finish()
    };
    write().with_context(|| format!("write {}", path.display()))
}
