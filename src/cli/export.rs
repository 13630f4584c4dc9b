//! `aimpoint export`: replays events through the serving code and writes the model's input rows, with labels. Or makes rows of
//! decisions that carry their features: see `log`.
//!
//! Guarantees: a row's features are those that `run` would have given the model at that event, because the same pipeline
//! computes them. Only the label looks at later events, and with `--until` nothing after that moment is used. Profiles expire by
//! their partition's time, so events are spread over as many partitions as the topic has, with the producers' partitioner.
//! Limits: rows wait in memory for their labels, for `label.within` plus `time.allowed_lateness`; sorting keeps up to 256 MiB of
//! lines in memory and the rest on disk.

mod log;
mod logged;

pub(super) use logged::LoggedDecision;

use super::{
    ConfigArgs, Exit,
    files::{self, Line, Refused, TooLong},
    load::Keys,
    signals::clean_up_on_signals,
    sort::Sorter,
};
use crate::{
    app::Setup,
    engine::{Clock, Partition, Partitions, Pipeline, SystemClock},
    event::{EventTime, KeyType, Record},
    sink::{Outbox, partition_of},
    state::PartitionClock,
    status::{Counts, SuppressReason},
    training::{Labeller, Row, RowFile},
};
use anyhow::Context;
use clap::Args;
use std::{
    collections::HashSet,
    fmt,
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

/// Events per batch.
const BATCH: u64 = 4_096;

/// More partitions than any real topic has.
const PARTITIONS_MAX: i64 = 100_000;

/// Files with fewer events than this are not checked for order.
const ORDER_EVENTS_MIN: u64 = 20;

/// In a file sorted by user, more than one in this many events is far behind the others. Users with different clocks
/// can cause as many, but then users alternate.
const BEHIND_SHARE: u64 = 10;

/// In a real stream, no more than one event is too late for every this many that count.
const TOO_LATE_SHARE: u64 = 2;

/// Write feature rows with labels: of replayed events, or of decisions that carry their features
#[derive(Args, Clone, Debug)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Events to replay: JSON lines, plain, .gz or .zst
    #[arg(required_unless_present = "decisions")]
    files: Vec<PathBuf>,
    /// Make rows of decisions that carry their features (decision.features_share), in place of a replay: JSON lines, Protobuf (.pb)
    /// or Parquet; topic:NAME stands for what a topic holds
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["files", "order", "partitions"], requires = "outcomes")]
    decisions: Vec<PathBuf>,
    /// What followed these decisions
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "decisions")]
    outcomes: Vec<PathBuf>,
    /// Up to when the outcomes are complete, such as 2026-03-01T00:00:00Z [default: the time of the last record]
    #[arg(long, value_name = "TIME", requires = "decisions")]
    complete_until: Option<jiff::Timestamp>,
    /// Output file: .parquet, .csv or .csv.gz
    #[arg(long, short, required = true, value_name = "FILE")]
    out: Vec<PathBuf>,
    /// Ignore events from this moment on, such as 1998-01-01T00:00:00Z. Without it a row waits for its label until the files have
    /// events later than it by label.within plus time.allowed_lateness; with it by label.within only
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<jiff::Timestamp>,
    /// With --decisions: leave out decisions about events before this moment, such as 2026-01-01T00:00:00Z
    #[arg(long, value_name = "TIME", value_parser = moment, requires = "decisions")]
    since: Option<jiff::Timestamp>,
    /// Number of partitions of the topic: users are assigned to them as producers do, and profiles expire by their partition's
    /// time [default: topics.partitions]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(i32).range(1..=PARTITIONS_MAX))]
    partitions: Option<i32>,
    /// The order of arrival: as in the files, or sorted by event time. By default the order of the files is used, and refused if
    /// events cannot have arrived in it
    #[arg(long, value_enum, value_name = "ORDER")]
    order: Option<Order>,
}

/// Writes rows of the decisions in their topic since a moment, for another command.
pub(super) fn decisions_since(
    config: &ConfigArgs,
    setup: &Setup,
    since: jiff::Timestamp,
    out: PathBuf,
) -> anyhow::Result<()> {
    let topic = |name: &str| vec![PathBuf::from(format!("topic:{name}"))];
    let topics = &setup.config.topics;
    log::run(&ExportArgs {
        config: config.clone(),
        files: Vec::new(),
        decisions: topic(&topics.decisions),
        outcomes: topic(&topics.outcomes),
        complete_until: None,
        out: vec![out],
        until: None,
        since: Some(since),
        partitions: None,
        order: None,
    })
}

/// Parses a moment of the command line.
fn moment(text: &str) -> Result<jiff::Timestamp, String> {
    let midnight = jiff::civil::Time::midnight();
    let day = |day: jiff::civil::Date| jiff::tz::TimeZone::UTC.to_timestamp(day.to_datetime(midnight)).ok();
    let at = |text: &str| text.parse().ok().or_else(|| day(text.parse().ok()?));
    at(text).ok_or_else(|| {
        "expected a moment such as 1998-01-01T00:00:00Z, or a day such as 1998-01-01, which begins in UTC".to_owned()
    })
}

/// The order in which events are processed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Order {
    /// As in the files, even if most events are late
    File,
    /// Sorted by event time
    Time,
}

/// A row that waits for its label.
struct PendingRow {
    user: String,
    key_type: KeyType,
    event_id: String,
    partition: i32,
    offset: i64,
    time: i64,
    features: Box<[f32]>,
}

/// A duration as written in the configuration.
fn span(duration: Duration) -> impl fmt::Display {
    crate::duration::display(duration)
}

/// Statistics that show whether events can have arrived in this order.
#[derive(Default)]
struct ArrivalOrder {
    /// The partition time over all events, and over those of the current file.
    clock: PartitionClock,
    of_file: PartitionClock,
    /// Events further behind the others than the allowed lateness.
    behind: u64,
    /// Users of the current file, and the sum over the files before it.
    users: HashSet<u64>,
    users_before: u64,
    last_user: Option<u64>,
    /// How often the user changes from one event to the next.
    user_changes: u64,
    /// A file that ends before the files ahead of it, with both ends.
    misplaced: Option<(PathBuf, i64, i64)>,
}

impl ArrivalOrder {
    fn event(&mut self, user: u64, time: i64, lateness: i64) {
        self.behind += u64::from(self.clock.time().is_some_and(|now| time < now.saturating_sub(lateness)));
        self.clock.note(user, time);
        self.of_file.note(user, time);
        self.users.insert(user);
        self.user_changes += u64::from(self.last_user.replace(user) != Some(user));
    }

    /// Records the end of a file; `before` is the partition time when it began.
    fn file(&mut self, path: &Path, before: Option<i64>, lateness: i64) {
        let of_file = std::mem::take(&mut self.of_file).time();
        self.users_before += std::mem::take(&mut self.users).len() as u64;
        self.last_user = None;
        if let (Some(before), Some(end)) = (before, of_file)
            && end < before.saturating_sub(lateness)
        {
            self.misplaced.get_or_insert_with(|| (path.to_owned(), end, before));
        }
    }
}

/// The output files, and the state of the replay.
struct Export<'a> {
    setup: &'a Setup,
    pipeline: Pipeline,
    partitions: Partitions,
    /// The next offset, by partition.
    offsets: Vec<i64>,
    /// Finds an event's key, if there are several partitions.
    keys: Option<Keys>,
    outbox: Outbox,
    counts: Counts,
    taken: u64,
    outputs: Vec<RowFile>,
    /// `None` without a [label]: rows are then written at once.
    labeller: Option<Labeller<PendingRow>>,
    until: Option<i64>,
    /// Events from `until` on.
    after: u64,
    /// `time.allowed_lateness` in microseconds.
    lateness: i64,
    order: ArrivalOrder,
    refused: Refused,
    too_long: TooLong,
    bytes_max: usize,
}

impl Export<'_> {
    /// Processes the next line. `place` is reported if the line is not a valid event.
    fn take(&mut self, payload: &[u8], place: Option<(&Path, u64)>) -> anyhow::Result<()> {
        let partition = match &mut self.keys {
            None => Some(0),
            Some(keys) => keys.of(payload).map(|key| partition_of(key, self.offsets.len() as i32)),
        };
        // An invalid event has no key; its partition does not matter.
        let partition = partition.unwrap_or_default();
        let offset = &mut self.offsets[partition as usize];
        let record = Record { partition, offset: *offset, payload: Some(payload), ..Record::default() };
        *offset += 1;
        self.outbox.clear();
        self.pipeline.take(&record, &mut self.partitions, &mut self.outbox, &mut self.counts);
        if let Some((path, number)) = place {
            self.refused.note(path, number, &self.outbox);
        }
        self.taken += 1;
        if self.taken.is_multiple_of(BATCH) || self.pipeline.is_full() { self.step() } else { Ok(()) }
    }

    /// Runs the batch through the pipeline and writes the rows whose labels are known.
    fn step(&mut self) -> anyhow::Result<()> {
        let Self { pipeline, partitions, counts, outputs, labeller, until, after, order, lateness, .. } = self;
        let mut written = Ok(());
        pipeline.rows(partitions, counts, |row| {
            order.event(row.user_hash, row.time.0, *lateness);
            if until.is_some_and(|until| row.time.0 >= until) {
                *after += 1;
                return;
            }
            let pending = PendingRow {
                user: row.user.to_owned(),
                key_type: row.key_type,
                event_id: row.event_id.to_owned(),
                partition: row.position.partition,
                offset: row.position.offset,
                time: row.time.0,
                features: row.features.into(),
            };
            match labeller {
                None if written.is_ok() => written = write(outputs, &pending, None),
                None => {}
                Some(labeller) => labeller.push(row.user_hash, row.time.0, row.is_outcome, pending),
            }
        });
        written?;
        match self.labeller.as_ref().and_then(Labeller::time) {
            Some(time) => self.write_ripe(time.saturating_sub(self.lateness)),
            None => Ok(()),
        }
    }

    fn write_ripe(&mut self, now: i64) -> anyhow::Result<()> {
        let Some(labeller) = &mut self.labeller else { return Ok(()) };
        while let Some((row, label)) = labeller.ripe(now) {
            write(&mut self.outputs, &row, Some(label))?;
        }
        Ok(())
    }

    /// An error if events cannot have arrived in the order of the files.
    fn disorder(&self) -> Option<anyhow::Error> {
        let ArrivalOrder { behind, users, users_before, user_changes, misplaced, .. } = &self.order;
        let users = users_before + users.len() as u64;
        let (counted, lateness) = (self.counts.decisions, span(self.setup.config.pipeline.time.allowed_lateness));
        let too_late = self.counts.suppressed.iter().find(|(reason, _)| *reason == SuppressReason::TooLate);
        let too_late = too_late.map_or(0, |(_, count)| *count);
        if counted + too_late < ORDER_EVENTS_MIN {
            return None;
        }
        let what = if let Some((path, end, before)) = misplaced {
            format!(
                "the events of {} end at {}, but those of the files before it at {}; pass the files in the order of their times",
                path.display(),
                EventTime(*end).date(),
                EventTime(*before).date()
            )
        } else if too_late > counted / TOO_LATE_SHARE {
            format!(
                "{too_late} of {} events are more than time.allowed_lateness = {lateness} older than their user's newest event: the \
                 files are not in the order of their times",
                counted + too_late
            )
        } else if *behind > counted / BEHIND_SHARE && user_changes * 2 <= users * 3 {
            format!(
                "{behind} of {counted} events are more than time.allowed_lateness = {lateness} older than those before them, and \
                 the events of each user are adjacent: the files are sorted by user"
            )
        } else {
            return None;
        };
        Some(Exit::Data.because(format!(
            "replay the files: {what}; nothing was written. Events do not arrive in this order, so features and labels would be \
             wrong. Use --order time to sort the events by time first, or --order file to keep the order as it is"
        )))
    }

    /// How many events have no row, by reason.
    fn left_out(&self) -> Vec<String> {
        let spec = &self.setup.config.pipeline;
        let mut lines = Vec::new();
        let unripe = self.labeller.as_ref().map_or(0, Labeller::unripe);
        if let (Some(label), Some(end), true) =
            (&spec.label, self.labeller.as_ref().and_then(Labeller::end), unripe > 0)
        {
            lines.push(match self.until {
                Some(until) if self.after == 0 => format!(
                    "{unripe} whose label.within = {} had not passed at {}, where the files end, before --until {}",
                    span(label.within),
                    EventTime(end).date(),
                    EventTime(until).date()
                ),
                Some(until) => format!(
                    "{unripe} whose label.within = {} had not passed at --until {}",
                    span(label.within),
                    EventTime(until).date()
                ),
                None => format!(
                    "{unripe} whose outcome is still open: a row waits for events later than its own by label.within = {} plus \
                     time.allowed_lateness = {}, and the files end at {}; with --until a row waits for label.within only",
                    span(label.within),
                    span(spec.time.allowed_lateness),
                    EventTime(end).date()
                ),
            });
        }
        if self.after > 0 {
            lines.push(format!("{} from --until on", self.after));
        }
        if self.counts.duplicates > 0 {
            lines.push(format!("{} with a duplicate event_id", self.counts.duplicates));
        }
        for (reason, count) in &self.counts.suppressed {
            lines.push(match reason {
                SuppressReason::TooLate => format!(
                    "{count} older than their user's newest event by more than time.allowed_lateness = {}",
                    span(spec.time.allowed_lateness)
                ),
                SuppressReason::Bot => format!("{count} of bots"),
                SuppressReason::NoConsent => format!("{count} of users who do not consent to training"),
                SuppressReason::Erased => format!("{count} from before their user was erased"),
                SuppressReason::Unchanged | SuppressReason::TooSoon => {
                    unreachable!("an export writes rows, not decisions")
                }
            });
        }
        for (reason, count) in &self.counts.dead_letters {
            let places = self.refused.by_reason().into_iter().find(|(known, ..)| *known == reason.to_string());
            let places = places.map(|(_, _, places)| places.join("; ")).filter(|places| !places.is_empty());
            lines.push(match places {
                Some(places) => format!("{count} refused: {reason}: {places}"),
                None => format!("{count} refused: {reason}"),
            });
        }
        lines.extend(self.too_long.summary(self.bytes_max));
        lines
    }
}

/// Writes a row into each file.
fn write(outputs: &mut [RowFile], row: &PendingRow, label: Option<bool>) -> anyhow::Result<()> {
    for output in outputs {
        output.write(&Row {
            user_key: &row.user,
            key_type: row.key_type.as_str(),
            event_id: &row.event_id,
            partition: row.partition,
            offset: row.offset,
            occurred_at_us: row.time,
            features: &row.features,
            label: label.map(|label| f32::from(u8::from(label))),
            logged: None,
        })?;
    }
    Ok(())
}

pub(super) fn run(args: &ExportArgs) -> anyhow::Result<()> {
    if !args.decisions.is_empty() {
        return log::run(args);
    }
    let setup = args.config.read()?;
    for file in &args.files {
        files::check(file)?;
    }
    for out in &args.out {
        files::check_out(out, &args.files)?;
    }
    let label = setup.config.pipeline.label.as_ref();
    let mut pipeline = setup.pipeline(true)?;
    let present = SystemClock::default().now();
    pipeline.set_present(present);
    let names = pipeline.model_features();
    let fingerprint = pipeline.fingerprint().to_owned();
    clean_up_on_signals()?;
    let mut outputs = Vec::new();
    for path in &args.out {
        outputs.push(RowFile::create(path, &names, &fingerprint, &[], label.is_some())?);
    }
    let mut partitions = Partitions::default();
    let count = args.partitions.unwrap_or(setup.config.topics.partitions);
    for number in 0..count {
        partitions.insert(number, Partition::new(0, 0, None));
    }
    let keys = if count > 1 { Some(Keys::new(setup.pipeline(false)?)) } else { None };
    let mut export = Export {
        setup: &setup,
        pipeline,
        partitions,
        offsets: vec![0; count as usize],
        keys,
        outbox: Outbox::default(),
        counts: Counts::default(),
        taken: 0,
        outputs,
        labeller: label.map(|label| Labeller::new(label.within)),
        until: args.until.map(jiff::Timestamp::as_microsecond),
        after: 0,
        lateness: setup.config.pipeline.time.allowed_lateness.as_micros() as i64,
        order: ArrivalOrder::default(),
        refused: Refused::default(),
        too_long: TooLong::default(),
        bytes_max: setup.config.pipeline.input.max_bytes.as_u64() as usize,
    };
    if args.order == Some(Order::Time) {
        let mut keys = Keys::new(setup.pipeline(false)?);
        let mut sorter = Sorter::beside(&args.out[0]);
        each_line(&mut export, &args.files, |export, place, line| {
            keys.of(line);
            export.refused.note(place.0, place.1, &keys.outbox);
            sorter.push(keys.time, line).with_context(|| format!("sort beside {}", args.out[0].display()))
        })?;
        sorter.each(|line| export.take(line, None).map(|()| true))?;
    } else {
        each_line(&mut export, &args.files, |export, place, line| {
            export.take(line, Some(place))?;
            // Fail early: the first files usually show it.
            let looks = export.taken.is_multiple_of(16 * BATCH) && args.order.is_none();
            if looks { export.disorder().map_or(Ok(()), Err) } else { Ok(()) }
        })?;
    }
    export.step()?;
    if let Some(disorder) = export.disorder().filter(|_| args.order.is_none()) {
        return Err(disorder);
    }
    let end = export.labeller.as_ref().and_then(Labeller::end);
    let end = match export.until {
        // The files do not say what happened between their end and that moment.
        Some(until) if export.after == 0 => end.map(|end| end.min(until)),
        Some(until) => Some(until),
        None => end.map(|end| end.saturating_sub(export.lateness)),
    };
    if let Some(end) = end {
        export.write_ripe(end)?;
    }
    let left_out = export.left_out();
    let events = export.counts.events + export.too_long.count;
    if export.outputs.iter().all(|output| output.rows() == 0) {
        return Err(Exit::Data.because(if left_out.is_empty() {
            "export: 0 rows, because there is no event in the files; nothing was written".to_owned()
        } else {
            format!("export: 0 rows of {events} events; nothing was written. Left out: {}", left_out.join("; "))
        }));
    }
    let mut rows = 0;
    for output in std::mem::take(&mut export.outputs) {
        rows = output.finish()?;
    }
    let mut out = super::printed::stdout();
    let with = if label.is_some() { "with labels" } else { "without labels, because no [label] is configured" };
    let partitions = match (count, args.partitions) {
        (1, _) => "1 partition".to_owned(),
        (count, Some(_)) => format!("{count} partitions"),
        (count, None) => format!("{count} partitions (topics.partitions)"),
    };
    writeln!(out, "{events} events in {partitions}: {rows} rows {with}")?;
    for line in left_out {
        writeln!(out, "  left out: {line}")?;
    }
    if export.counts.unknown_zones > 0 {
        writeln!(out, "  {} events have an unknown time zone", export.counts.unknown_zones)?;
    }
    writeln!(out, "{} features, fingerprint {fingerprint}", names.len())?;
    for path in &args.out {
        writeln!(out, "wrote {}", path.display())?;
    }
    Ok(())
}

/// Visits each line of the files that is not too long.
fn each_line<'a>(
    export: &mut Export<'a>,
    paths: &[PathBuf],
    mut visit: impl FnMut(&mut Export<'a>, (&Path, u64), &[u8]) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    for path in paths {
        let (bytes_max, before) = (export.bytes_max, export.order.clock.time());
        files::each_line::<anyhow::Error>(path, bytes_max, |line| {
            match line {
                Line::Whole(number, line) => visit(export, (path, number), line)?,
                Line::TooLong { number, bytes } => export.too_long.note(path, number, bytes),
            }
            Ok(true)
        })
        .with_context(|| format!("replay {}", path.display()))?;
        export.step()?;
        export.order.file(path, before, export.lateness);
    }
    Ok(())
}
