//! Several files at once, in the order of their records' times.
//!
//! Guarantees: one pass, of which one record of each file is in memory. A file's own order is kept, because it is the order of
//! arrival. A line that cannot be read is counted and named, and does not keep the others from being taken in.

use super::{clock::LogClock, input::Records};
use crate::{
    app::FileRecord,
    cli::files::FileError,
    control::{DecisionRecord, PARKED_MAX, Source, micros},
    effect::{EffectReport, Evaluation, LabelledImpression, Taken},
    event::UserKeys,
};
use serde::Serialize;
use std::{
    collections::{HashMap, VecDeque},
    io::Write,
    path::PathBuf,
    time::Duration,
};

/// The most lines that are named for each fault.
const NAMED: usize = 20;
/// The names of the inputs in control's state.
const INPUTS: [&str; 2] = ["decisions", "outcomes"];

/// What is read.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli) struct Log<'a> {
    pub(in crate::cli) files: &'a [PathBuf],
    /// How users are named behind the input.
    pub(in crate::cli) users: &'a UserKeys,
    /// How long an outcome waits for its decision.
    pub(in crate::cli) wait: Duration,
    /// How far an outcome moves the end of the log by itself: the tolerance of events.
    pub(in crate::cli) ahead: Duration,
    /// Whether whoever takes part needs decisions as JSON.
    pub(in crate::cli) reads_members: bool,
}

/// Who is told of what is read.
pub(in crate::cli) trait Observer {
    /// A decision, before it is taken in, with all of it as JSON if [`Log::reads_members`].
    fn decision(&mut self, _record: &DecisionRecord, _json: Option<&str>) {}

    /// An impression whose label is known, or that is too young at the end.
    fn labelled(&mut self, _row: LabelledImpression) {}
}

impl Observer for () {}

/// Lines with a fault: how many, and the first of them.
#[derive(Clone, Debug, Default, Serialize)]
pub(in crate::cli) struct Faults {
    pub(in crate::cli) count: u64,
    pub(in crate::cli) first: Vec<String>,
}

impl Faults {
    fn add(&mut self, log: &Log<'_>, (file, line): (usize, u64), why: &str) {
        self.count += 1;
        if self.first.len() < NAMED {
            self.first.push(format!("{}:{line}: {why}", log.files[file].display()));
        }
    }
}

/// What is printed.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct Report {
    #[serde(flatten)]
    pub(in crate::cli) effect: EffectReport,
    /// Lines that are neither a decision nor an outcome.
    pub(in crate::cli) unreadable: Faults,
    /// Outcomes that contradict what is known.
    pub(in crate::cli) rejected: Faults,
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
    /// Up to when it has been read.
    clock: LogClock,
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
                    self.clock.pass(&record);
                    let is_behind = record.time() < self.clock.now.saturating_sub(self.wait);
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

/// Reads all files, always the record that arrived first.
///
/// # Errors
/// A file cannot be read, or a sum does not fit.
pub(in crate::cli) fn take_in(
    log: &Log<'_>,
    mut evaluation: Evaluation,
    observer: &mut impl Observer,
) -> anyhow::Result<Report> {
    let Log { files, users, wait, ahead, reads_members } = *log;
    let (mut unreadable, mut rejected, mut odd) = (Faults::default(), Faults::default(), Faults::default());
    let mut clock = LogClock::new(micros(ahead), jiff::Timestamp::now().as_microsecond());
    let mut feeds = Vec::with_capacity(files.len());
    for (file, path) in files.iter().enumerate() {
        let mut feed =
            Feed { records: Records::open(path)?, clock: clock.clone(), wait: micros(wait), behind: 0, next: None };
        feed.advance(|line, why| unreadable.add(log, (file, line), &why), reads_members)?;
        feeds.push(feed);
    }
    let mut waiting = Waiting::default();
    loop {
        let heads = feeds.iter().enumerate().filter(|(_, feed)| feed.next.is_some());
        let Some((file, _)) = heads.min_by_key(|(_, feed)| feed.clock.now) else { break };
        let Some((line, record, json)) = feeds[file].next.take() else { break };
        if clock.pass(&record) {
            odd.add(log, (file, line), "is far ahead of the records before it");
        }
        // Before the first time that counts, the log begins now.
        let arrived_at = if clock.now == i64::MIN { record.time().min(clock.end()) } else { clock.now };
        let record = record.named(users);
        let input = INPUTS[usize::from(matches!(record, FileRecord::Outcome(_)))];
        let partition = i32::try_from(file).unwrap_or(i32::MAX);
        let source = Source { topic: input, partition, offset: line as i64, arrived_at };
        match record {
            FileRecord::Decision(decision) => {
                observer.decision(&decision, json.as_deref());
                evaluation.decision(&source, &decision, json.as_deref())?;
            }
            FileRecord::Outcome(outcome) => match evaluation.outcome(&source, &outcome)? {
                Taken::Counted => {}
                Taken::Waits => waiting.add(outcome.id, (file, line)),
                Taken::Rejected(why) => rejected.add(log, (file, line), &why.to_string()),
            },
        }
        for (outcome, why) in evaluation.take_rejected() {
            rejected.add(log, waiting.place(&outcome.id), &why.to_string());
        }
        evaluation.take_labelled().into_iter().for_each(|row| observer.labelled(row));
        feeds[file].advance(|line, why| unreadable.add(log, (file, line), &why), reads_members)?;
    }
    for (feed, path) in feeds.iter().zip(files).filter(|(feed, _)| feed.behind > 0) {
        let (path, behind) = (path.display(), feed.behind);
        writeln!(
            std::io::stderr(),
            "aimpoint: warning: {path}: {behind} decisions are older than one before them by more than control.wait, so their \
             outcomes may count as orphans; if the file has one partition after the other, sort it by time, or write a file \
             for each partition"
        )?;
    }
    if let Some(first) = odd.first.first() {
        writeln!(
            std::io::stderr(),
            "aimpoint: warning: {} records have a time that is ahead of those before them by more than \
             time.future_tolerance, and do not move the end of the log, such as {first}; if the outcomes are \
             complete up to a later time, say so with --complete-until",
            odd.count
        )?;
    }
    let finished = evaluation.finish(wait)?;
    finished.labelled.into_iter().for_each(|row| observer.labelled(row));
    for (outcome, why) in finished.rejected {
        rejected.add(log, waiting.place(&outcome.id), &why.to_string());
    }
    Ok(Report { effect: finished.report, unreadable, rejected })
}
