//! `aimpoint evaluate`: what decisions achieved, from files of decisions and outcomes.
//!
//! Owns the arguments and the reading of several files at once, in the order of their records' times. The figures are
//! those of [`crate::effect`]. Guarantees: one pass over the files, of which one line each is in memory. A file's own
//! order is kept, because it is the order of arrival. A line that cannot be read is counted and named, and does not
//! keep the others from being measured.

mod input;
mod plan;
mod text;

use super::{
    ConfigArgs, Exit,
    files::{self, FileError},
    number_within,
};
use crate::{
    app::FileRecord,
    config::ConfigLoadError,
    control::{PARKED_MAX, Source},
    effect::{Dimension, EffectReport, Evaluation, Taken},
    evaluation::Confidence,
    event::UserKeys,
    partial::PartialFile,
    report,
};
use anyhow::Context;
use clap::{Args, ValueEnum};
use input::Records;
use serde::Serialize;
use std::{
    collections::{HashMap, VecDeque},
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

/// The most lines that are named for each fault.
const NAMED: usize = 20;
/// The names of the inputs in control's state.
const INPUTS: [&str; 2] = ["decisions", "outcomes"];

/// Measure what decisions achieved, from files of decisions and outcomes
#[derive(Args, Clone, Debug)]
pub(super) struct EvaluateArgs {
    /// Decisions and outcomes as JSON lines, Protobuf (.pb) or Parquet; a record's content says which it is
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
enum Level {
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

/// Lines with a fault: how many, and the first of them.
#[derive(Clone, Debug, Default, Serialize)]
struct Faults {
    count: u64,
    first: Vec<String>,
}

impl Faults {
    fn add(&mut self, args: &EvaluateArgs, (file, line): (usize, u64), why: &str) {
        self.count += 1;
        if self.first.len() < NAMED {
            self.first.push(format!("{}:{line}: {why}", args.files[file].display()));
        }
    }
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Report {
    #[serde(flatten)]
    effect: EffectReport,
    /// Lines that are neither a decision nor an outcome.
    unreadable: Faults,
    /// Outcomes that contradict what is known.
    rejected: Faults,
}

/// Where the outcomes stand that wait for their decision. As many as can wait are remembered.
#[derive(Default)]
struct Waiting {
    places: HashMap<String, (usize, u64)>,
    order: VecDeque<String>,
}

impl Waiting {
    fn add(&mut self, id: String, place: (usize, u64)) {
        self.places.insert(id.clone(), place);
        self.order.push_back(id);
        if self.order.len() > PARKED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.places.remove(&oldest);
        }
    }

    fn place(&self, id: &str) -> (usize, u64) {
        self.places.get(id).copied().unwrap_or_default()
    }
}

/// A file that is read.
struct Feed {
    records: Records,
    /// Up to when it has been read, in microseconds since 1970.
    latest: i64,
    /// How far a decision may be behind one before it, in microseconds.
    wait: i64,
    /// How many decisions are further behind.
    behind: u64,
    /// The next record with its number, and all of it if a grouping reads its members.
    next: Option<(u64, FileRecord, Option<String>)>,
}

impl Feed {
    /// Reads on to the next record.
    fn advance(&mut self, mut fault: impl FnMut(u64, String), reads_members: bool) -> Result<(), FileError> {
        self.next = None;
        while let Some((number, found)) = self.records.next(reads_members)? {
            match found {
                Ok((record, all)) => {
                    self.latest = self.latest.max(record.time());
                    let is_behind = record.time() < self.latest.saturating_sub(self.wait);
                    self.behind += u64::from(is_behind && matches!(record, FileRecord::Decision(_)));
                    self.next = Some((number, record, all));
                    return Ok(());
                }
                Err(why) => fault(number, why),
            }
        }
        Ok(())
    }
}

pub(super) fn run(args: &EvaluateArgs) -> anyhow::Result<()> {
    let setup = args.config.read()?;
    let errors = setup.config.control_faults();
    if !errors.is_empty() {
        return Err(ConfigLoadError::Invalid(setup.document.explain(&errors)).into());
    }
    let (setups, plan) = plan::plan(&setup, args)?;
    let policy = plan::policy(&setup, args, &setups)?;
    for file in &args.files {
        files::check(file)?;
    }
    for report in &args.report {
        files::check_out(report, &args.files)?;
    }
    let spec = setup.config.control();
    let evaluation = Evaluation::new(&setup.config.app.name, &spec, setups, plan, policy)?;
    let report = read(args, &setup.config.users(), evaluation, spec.wait)?;
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

/// Reads all files, always the record that arrived first.
fn read(args: &EvaluateArgs, users: &UserKeys, mut evaluation: Evaluation, wait: Duration) -> anyhow::Result<Report> {
    let reads_members = args.by.iter().any(Dimension::reads_members);
    let (mut unreadable, mut rejected) = (Faults::default(), Faults::default());
    let mut feeds = Vec::with_capacity(args.files.len());
    let micros = i64::try_from(wait.as_micros()).unwrap_or(i64::MAX);
    for (file, path) in args.files.iter().enumerate() {
        let mut feed = Feed { records: Records::open(path)?, latest: i64::MIN, wait: micros, behind: 0, next: None };
        feed.advance(|line, why| unreadable.add(args, (file, line), &why), reads_members)?;
        feeds.push(feed);
    }
    let mut waiting = Waiting::default();
    loop {
        let heads = feeds.iter().enumerate().filter(|(_, feed)| feed.next.is_some());
        let Some((file, _)) = heads.min_by_key(|(_, feed)| feed.latest) else { break };
        let arrived_at = feeds[file].latest;
        let Some((line, record, json)) = feeds[file].next.take() else { break };
        let record = record.named(users);
        let input = INPUTS[usize::from(matches!(record, FileRecord::Outcome(_)))];
        let partition = i32::try_from(file).unwrap_or(i32::MAX);
        let source = Source { topic: input, partition, offset: line as i64, arrived_at };
        match record {
            FileRecord::Decision(decision) => evaluation.decision(&source, &decision, json.as_deref())?,
            FileRecord::Outcome(outcome) => match evaluation.outcome(&source, &outcome)? {
                Taken::Counted => {}
                Taken::Waits => waiting.add(outcome.id, (file, line)),
                Taken::Rejected(why) => rejected.add(args, (file, line), &why.to_string()),
            },
        }
        for (outcome, why) in evaluation.take_rejected() {
            rejected.add(args, waiting.place(&outcome.id), &why.to_string());
        }
        feeds[file].advance(|line, why| unreadable.add(args, (file, line), &why), reads_members)?;
    }
    for (feed, path) in feeds.iter().zip(&args.files).filter(|(feed, _)| feed.behind > 0) {
        let (path, behind) = (path.display(), feed.behind);
        writeln!(
            std::io::stderr(),
            "aimpoint: warning: {path}: {behind} decisions are older than one before them by more than control.wait, so their \
             outcomes may count as orphans; if the file has one partition after the other, sort it by time, or write a file \
             for each partition"
        )?;
    }
    let finished = evaluation.finish(wait)?;
    for (outcome, why) in finished.rejected {
        rejected.add(args, waiting.place(&outcome.id), &why.to_string());
    }
    Ok(Report { effect: finished.report, unreadable, rejected })
}
