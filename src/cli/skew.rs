//! `aimpoint skew`: compares the features that decisions carry with those of a replay of the events.
//!
//! Owns the arguments, the pairs and the counts. Guarantees: the replay runs the serving code on the events in their order of
//! arrival, so an equal configuration gives equal features, to the last bit. Limits: what decisions carry is in memory, at 4 bytes a feature and
//! about 100 bytes a decision.

use super::{
    ConfigArgs, Exit,
    evaluate::Records,
    export::LoggedDecision,
    files::{self, Line},
    load::Keys,
    number_within,
    topic_files::TopicFiles,
};
use crate::{
    app::Setup,
    control::Key,
    engine::{Clock, FeatureRow, Partition, Partitions, Pipeline, SystemClock},
    event::Record,
    sink::{Outbox, partition_of},
    status::Counts,
};
use anyhow::Context;
use clap::{Args, ValueEnum};
use serde::Serialize;
use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    io::Write as _,
    path::PathBuf,
};

/// Events per batch.
const BATCH: u64 = 4_096;
/// More partitions than any real topic has.
const PARTITIONS_MAX: i64 = 100_000;

/// Compare the features that decisions carry with those of a replay of the events
#[derive(Args, Clone, Debug)]
pub(super) struct SkewArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The events as JSON lines, plain, .gz or .zst, in the order of their arrival
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Decisions as a consumer wrote the topic: JSON lines, Protobuf (.pb) or Parquet; or topic:NAME
    #[arg(long, required = true, value_name = "FILE", num_args = 1..)]
    decisions: Vec<PathBuf>,
    /// How a decision finds its event: by the event's id, or by partition and offset, if the files hold all partitions from their
    /// beginning
    #[arg(long, value_enum, default_value_t)]
    by: By,
    /// Number of partitions of the topic: users are assigned to them as producers do [default: topics.partitions]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(i32).range(1..=PARTITIONS_MAX))]
    partitions: Option<i32>,
    /// The share of the values that may differ, 0 to 1
    #[arg(long, default_value_t = 0.0, value_name = "SHARE", value_parser = number_within(0.0..=1.0))]
    tolerance: f64,
    /// Output: a table, or JSON for machines
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum By {
    /// The event's id and its user
    #[default]
    Event,
    /// Partition and offset
    Position,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A table
    #[default]
    Text,
    /// One JSON object
    Json,
}

/// What was found of a feature.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
struct FeatureSkew {
    name: String,
    /// Both have the same value, or both have none.
    matches: u64,
    /// Both have a value, and they differ.
    mismatches: u64,
    /// Only the replay has a value.
    missing: u64,
    /// Only the decision has a value.
    extra: u64,
    /// The symmetric mean absolute percentage error, 0 to 200, of the rows in which both have a value; `None` without any.
    smape: Option<f64>,
    /// The first event that differs, with both values.
    first: Option<String>,
    #[serde(skip)]
    errors: f64,
    /// The rows in which both have a value.
    #[serde(skip)]
    both: u64,
}

/// The comparison.
#[derive(Debug, Default, Serialize)]
struct Skew {
    /// Decisions that carry features and whose event was replayed.
    compared: u64,
    /// Decisions that carry features but whose event is not in the files.
    without_event: u64,
    /// Decisions that carry none.
    without_features: u64,
    /// Compared decisions that were made with other declarations of features.
    other_declarations: u64,
    unreadable: u64,
    /// The share of values that differ.
    share: f64,
    features: Vec<FeatureSkew>,
}

impl FeatureSkew {
    fn add(&mut self, logged: f32, replayed: f32, event: &str) {
        self.both += u64::from(!logged.is_nan() && !replayed.is_nan());
        match (logged.is_nan(), replayed.is_nan()) {
            (true, true) => self.matches += 1,
            (true, false) => self.missing += 1,
            (false, true) => self.extra += 1,
            // 0 and -0 are the same to a model.
            (false, false) if logged == replayed => self.matches += 1,
            (false, false) => {
                self.mismatches += 1;
                let (logged, replayed) = (f64::from(logged), f64::from(replayed));
                self.errors += 200.0 * (logged - replayed).abs() / (logged.abs() + replayed.abs());
            }
        }
        if (logged.is_nan() != replayed.is_nan() || logged != replayed && !logged.is_nan()) && self.first.is_none() {
            let shown = |value: f32| if value.is_nan() { "none".to_owned() } else { value.to_string() };
            self.first = Some(format!("event {event}: logged {}, replayed {}", shown(logged), shown(replayed)));
        }
    }

    fn differ(&self) -> u64 {
        self.mismatches + self.missing + self.extra
    }
}

/// What a decision carries.
#[derive(Debug)]
struct Logged {
    /// The values of the declared features, in their order; NaN if missing.
    values: Box<[f32]>,
    /// Those of features that are not declared any more.
    others: Box<[(String, f32)]>,
    /// Whether it was made with other declarations.
    is_other: bool,
}

/// Compares rows of the replay with what decisions carry.
struct Comparison {
    by: By,
    names: Vec<String>,
    fingerprint: String,
    logged: HashMap<Key, Logged>,
    features: BTreeMap<String, FeatureSkew>,
    skew: Skew,
}

impl Comparison {
    fn key(&self, user: [&str; 2], event_id: &str, (partition, offset): (i32, i64)) -> Key {
        match self.by {
            By::Event => Key::of("event", &[user[0], user[1], event_id]),
            By::Position => Key::of("position", &[&partition.to_string(), &offset.to_string()]),
        }
    }

    /// Keeps what a decision carries.
    fn keep(&mut self, json: &str) {
        match LoggedDecision::read(json) {
            Some(decision) if self.by == By::Position || !decision.trigger_event_id.is_empty() => {
                let key = self.key(
                    [&decision.key_type(), &decision.user_key],
                    &decision.trigger_event_id,
                    decision.position(),
                );
                let others = decision.features.iter().flatten();
                let others = others.filter(|(name, _)| !self.names.contains(name));
                let others = others.map(|(name, value)| (name.clone(), value.unwrap_or(f32::NAN))).collect();
                let is_other = decision.feature_set_version != self.fingerprint;
                let values = decision.row(&self.names).into_boxed_slice();
                self.logged.insert(key, Logged { values, others, is_other });
            }
            Some(_) => self.skew.without_event += 1,
            None => self.skew.without_features += 1,
        }
    }

    /// Compares a row of the replay.
    fn compare(&mut self, row: &FeatureRow<'_>) {
        let key =
            self.key([row.key_type.as_str(), row.user], row.event_id, (row.position.partition, row.position.offset));
        let Some(Logged { values, others, is_other }) = self.logged.remove(&key) else { return };
        self.skew.compared += 1;
        self.skew.other_declarations += u64::from(is_other);
        for ((name, replayed), logged) in self.names.iter().zip(row.features).zip(values) {
            let feature = self.features.entry(name.clone()).or_default();
            feature.add(logged, *replayed, row.event_id);
        }
        // What is not declared any more.
        for (name, logged) in others {
            self.features.entry(name).or_default().add(logged, f32::NAN, row.event_id);
        }
    }

    fn finish(mut self) -> Skew {
        self.skew.without_event += self.logged.len() as u64;
        let mut differ = 0;
        let mut all = 0;
        for (name, mut feature) in self.features {
            differ += feature.differ();
            all += feature.differ() + feature.matches;
            feature.smape = (feature.both > 0).then(|| feature.errors / feature.both as f64);
            feature.name = name;
            self.skew.features.push(feature);
        }
        self.skew.share = if all > 0 { differ as f64 / all as f64 } else { 0.0 };
        self.skew
    }
}

pub(super) fn run(args: &SkewArgs) -> anyhow::Result<()> {
    let setup = args.config.read()?;
    let decisions = TopicFiles::fetch(&setup, &args.decisions)?;
    for file in args.files.iter().chain(decisions.paths()) {
        files::check(file)?;
    }
    let mut pipeline = setup.pipeline(true)?;
    pipeline.set_present(SystemClock::default().now());
    let mut comparison = Comparison {
        by: args.by,
        names: pipeline.model_features(),
        fingerprint: pipeline.fingerprint().to_owned(),
        logged: HashMap::new(),
        features: BTreeMap::new(),
        skew: Skew::default(),
    };
    for path in decisions.paths() {
        let mut records = Records::open(path)?;
        while let Some((_, found)) = records.next(true)? {
            match found {
                Ok((_, Some(json))) => comparison.keep(&json),
                _ => comparison.skew.unreadable += 1,
            }
        }
    }
    if comparison.logged.is_empty() {
        return Err(Exit::Data.because(
            "skew: no decision in the files carries its features; set decision.features_share, and pass decisions that were made since",
        ));
    }
    replay(&setup, args, pipeline, &mut comparison)?;
    let skew = comparison.finish();
    if skew.compared == 0 {
        return Err(Exit::Data.because(format!(
            "skew: none of the {} decisions with features is about an event in the files; pass the events that were decided{}",
            skew.without_event,
            if args.by == By::Event { "" } else { ", from the beginning of each partition, or use --by event" }
        )));
    }
    let mut out = super::printed::stdout();
    match args.format {
        Format::Text => write!(out, "{}", table(&skew))?,
        Format::Json => {
            serde_json::to_writer_pretty(&mut out, &skew)?;
            writeln!(out)?;
        }
    }
    out.flush()?;
    if skew.share > args.tolerance {
        let named: Vec<&str> = skew.features.iter().filter(|it| it.differ() > 0).map(|it| it.name.as_str()).collect();
        return Err(Exit::Skew.because(format!(
            "skew: {:.4} % of the values differ, more than --tolerance allows: {}; compare the declarations of these features, the \
             order of the events, and the versions of Aimpoint",
            100.0 * skew.share,
            named.join(", ")
        )));
    }
    Ok(())
}

/// Replays the events through the serving code.
fn replay(setup: &Setup, args: &SkewArgs, mut pipeline: Pipeline, comparison: &mut Comparison) -> anyhow::Result<()> {
    let count = args.partitions.unwrap_or(setup.config.topics.partitions);
    let mut keys = if count > 1 { Some(Keys::new(setup.pipeline(false)?)) } else { None };
    let mut partitions = Partitions::default();
    for number in 0..count {
        partitions.insert(number, Partition::new(0, 0, None));
    }
    let mut offsets = vec![0_i64; count as usize];
    let (mut outbox, mut counts, mut taken) = (Outbox::default(), Counts::default(), 0_u64);
    let bytes_max = setup.config.pipeline.input.max_bytes.as_u64() as usize;
    for path in &args.files {
        files::each_line::<anyhow::Error>(path, bytes_max, |line| {
            // Too long a line is a dead letter in the topic, and has an offset there.
            let payload = if let Line::Whole(_, payload) = line { payload } else { &[] };
            let key = keys.as_mut().and_then(|keys| keys.of(payload).map(|key| partition_of(key, count)));
            let partition = key.unwrap_or_default();
            let offset = &mut offsets[partition as usize];
            let record = Record { partition, offset: *offset, payload: Some(payload), ..Record::default() };
            *offset += 1;
            outbox.clear();
            pipeline.take(&record, &mut partitions, &mut outbox, &mut counts);
            taken += 1;
            if taken.is_multiple_of(BATCH) || pipeline.is_full() {
                pipeline.rows(&mut partitions, &mut counts, |row| comparison.compare(row));
            }
            Ok(true)
        })
        .with_context(|| format!("replay {}", path.display()))?;
    }
    pipeline.rows(&mut partitions, &mut counts, |row| comparison.compare(row));
    Ok(())
}

/// The comparison as a table.
fn table(skew: &Skew) -> String {
    let mut text = String::new();
    let width = skew.features.iter().map(|it| it.name.chars().count()).max().unwrap_or_default().max(7);
    let mut line = |words: std::fmt::Arguments<'_>| writeln!(text, "{words}").expect("a text grows");
    line(format_args!(
        "{:<width$} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "feature", "match", "mismatch", "missing", "extra", "SMAPE %"
    ));
    for it in &skew.features {
        let smape = it.smape.map_or_else(|| "-".to_owned(), |value| format!("{value:.4}"));
        line(format_args!(
            "{:<width$} {:>9} {:>9} {:>9} {:>9} {:>9}",
            it.name, it.matches, it.mismatches, it.missing, it.extra, smape
        ));
        if let Some(first) = &it.first {
            line(format_args!("  {first}"));
        }
    }
    line(format_args!("{} decisions compared, {:.4} % of the values differ", skew.compared, 100.0 * skew.share));
    for (count, what) in [
        (skew.other_declarations, "of them were made with other declarations of features"),
        (skew.without_event, "decisions are about no event in the files"),
        (skew.without_features, "decisions carry no features"),
        (skew.unreadable, "lines are no decision"),
    ] {
        if count > 0 {
            line(format_args!("{count} {what}"));
        }
    }
    text
}
