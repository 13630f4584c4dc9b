//! Control offline: records of decisions and outcomes in, the policy and a summary out.
//!
//! Guarantees: the same rules as on Kafka. Records are merged by their times, so the order of the files does not matter.
//! Within a file, the order of each partition's decisions is kept, and that of the outcomes, because it is the order of
//! arrival. A file may have one partition after the other. The time of the stream moves with the records, and a
//! policy is computed after each `control.policy_interval` of it, so pacing has learned what it would have learned. At
//! the end, outcomes that still wait for their decision are settled without it.
//!
//! Limits: all records are in memory, at about 500 bytes each. An offline record has no time of arrival, so a decision
//! arrives when it is made, and an outcome when it happens.

use super::intake::name_user;
use crate::{
    control::{CampaignSetup, ControlSpec, Counts, DecisionRecord, Figures, Outcome, Source, State},
    event::UserKeys,
    json_place::JsonPlace,
    targeting::policy::Policy,
};
use serde::{Deserialize, de::IgnoredAny};
use std::collections::{BTreeMap, HashMap};

/// The names of the inputs in the state.
const INPUTS: [&str; 2] = ["decisions", "outcomes"];

/// A record of either kind.
#[derive(Debug)]
pub(crate) enum FileRecord {
    Decision(Box<DecisionRecord>),
    Outcome(Box<Outcome>),
}

impl FileRecord {
    /// Reads a line of a file. What it is, its content says.
    ///
    /// # Errors
    /// If it is neither a decision nor an outcome, or cannot be read.
    pub(crate) fn read(json: &[u8]) -> Result<Self, String> {
        // Most lines are decisions, which are read at once. For the others it matters what they are.
        if let Some(decision) = DecisionRecord::of_line(json) {
            return Ok(Self::Decision(Box::new(decision)));
        }
        let kinds: Kinds = serde_json::from_slice(json).map_err(|error| {
            format!("not a JSON object: column {}; write one record a line", JsonPlace::from(&error).column)
        })?;
        match kinds {
            Kinds { outcome_id: Some(_), .. } => {
                let outcome = Outcome::read(Some(json)).map_err(|error| error.to_string())?;
                Ok(Self::Outcome(Box::new(outcome)))
            }
            Kinds { decided_at: Some(_), .. } => {
                let decision = DecisionRecord::read(json).map_err(|error| error.to_string())?;
                Ok(Self::Decision(Box::new(decision)))
            }
            _ => Err("neither an outcome, with outcome_id, nor a decision, with decided_at".to_owned()),
        }
    }

    /// The record with its user named as decisions do.
    #[must_use]
    pub(crate) fn named(mut self, users: &UserKeys) -> Self {
        if let Self::Outcome(outcome) = &mut self {
            name_user(outcome, users);
        }
        self
    }

    /// When it happened, in microseconds since 1970.
    pub(crate) fn time(&self) -> i64 {
        match self {
            Self::Decision(decision) => decision.decided_at(),
            Self::Outcome(outcome) => outcome.occurred_at,
        }
    }
}

#[derive(Debug)]
struct Entry {
    /// The time up to which its file has been read, in microseconds since 1970.
    arrived_at: i64,
    /// The part of the file whose order is kept.
    part: i32,
    file: usize,
    line: u64,
    record: FileRecord,
}

/// What was read of one partition.
#[derive(Debug)]
struct Part {
    number: i32,
    /// The latest time so far.
    latest: i64,
}

/// Records that are to be taken in.
#[derive(Debug, Default)]
pub(crate) struct Offline {
    entries: Vec<Entry>,
    /// By file and partition of the decisions in it (none for outcomes), what was read.
    parts: HashMap<usize, HashMap<String, Part>>,
    /// The number of parts.
    count: i32,
    foreign: u64,
}

/// The result.
#[derive(Debug)]
pub(crate) struct ControlSummary {
    /// The policy at the time of the last record. `None` without records.
    pub(crate) policy: Option<Policy>,
    /// All campaigns that are configured or known.
    pub(crate) campaigns: BTreeMap<String, Figures>,
    pub(crate) counts: Counts,
    /// Decisions of other applications.
    pub(crate) foreign: u64,
    /// Outcomes that contradict what is known: file, line and reason.
    pub(crate) rejected: Vec<(usize, u64, String)>,
}

/// The members that tell the kinds apart.
#[derive(Deserialize)]
struct Kinds {
    #[serde(alias = "outcomeId")]
    outcome_id: Option<IgnoredAny>,
    #[serde(alias = "decidedAt")]
    decided_at: Option<IgnoredAny>,
}

impl Offline {
    /// Adds a line of a file.
    ///
    /// # Errors
    /// If it is neither a decision nor an outcome, or cannot be read.
    pub(crate) fn add(
        &mut self,
        (app, users): (&str, &UserKeys),
        file: usize,
        line: u64,
        json: &[u8],
    ) -> Result<(), String> {
        let record = FileRecord::read(json)?.named(users);
        if matches!(&record, FileRecord::Decision(decision) if !decision.is_of(app)) {
            self.foreign += 1;
            return Ok(());
        }
        let time = record.time();
        let name = match &record {
            FileRecord::Decision(decision) => decision.partition(),
            FileRecord::Outcome(_) => "",
        };
        let parts = self.parts.entry(file).or_default();
        let Part { number, latest } = match parts.get_mut(name) {
            Some(part) => part,
            None => {
                self.count += 1;
                parts.entry(name.to_owned()).or_insert(Part { number: self.count, latest: time })
            }
        };
        *latest = time.max(*latest);
        self.entries.push(Entry { arrived_at: *latest, part: *number, file, line, record });
        Ok(())
    }

    /// Takes in all records.
    pub(crate) fn finish(mut self, app: &str, spec: &ControlSpec, campaigns: Vec<CampaignSetup>) -> ControlSummary {
        // Stable: what arrives at the same time stays in the order of the files and lines.
        self.entries.sort_by_key(|entry| entry.arrived_at);
        let ids: Vec<String> = campaigns.iter().map(|campaign| campaign.id.clone()).collect();
        let mut state = State::new(app, spec, campaigns);
        let mut rejected = Vec::new();
        let interval = i64::try_from(spec.policy_interval.as_micros()).unwrap_or(i64::MAX).max(1);
        let mut next_tick = self.entries.first().map(|first| first.arrived_at.saturating_add(interval));
        for Entry { arrived_at, part, file, line, record } in &self.entries {
            while let Some(tick) = next_tick.filter(|tick| tick <= arrived_at) {
                state.advance(tick);
                state.tick(tick);
                next_tick = Some(tick.saturating_add(interval));
            }
            let input = INPUTS[usize::from(matches!(record, FileRecord::Outcome(_)))];
            let source = Source { topic: input, partition: *part, offset: *line as i64, arrived_at: *arrived_at };
            match record {
                FileRecord::Decision(decision) => drop(decision.with(|it| state.apply_decision(&source, it))),
                FileRecord::Outcome(outcome) => {
                    if let Some(rejection) = state.apply_outcome(&source, outcome).rejection {
                        rejected.push((*file, *line, rejection.to_string()));
                    }
                }
            }
            // Nobody restores this state.
            state.mark_clean();
        }
        let policy = self.entries.last().map(|last| {
            let wait = i64::try_from(spec.wait.as_micros()).unwrap_or(i64::MAX);
            state.advance(last.arrived_at.saturating_add(wait).saturating_add(1));
            state.tick(last.arrived_at)
        });
        let waited = state.take_rejected();
        let place = |id: &str| {
            let is_it = |entry: &&Entry| matches!(&entry.record, FileRecord::Outcome(outcome) if outcome.id == id);
            self.entries.iter().find(is_it).map_or((0, 0), |entry| (entry.file, entry.line))
        };
        rejected.extend(waited.into_iter().map(|(outcome, rejection)| {
            let (file, line) = place(&outcome.id);
            (file, line, rejection.to_string())
        }));
        rejected.sort();
        let known: Vec<String> = state.campaigns().map(str::to_owned).chain(ids).collect();
        let figures = |id: String| {
            let figures = state.total(&id).copied().unwrap_or_default();
            (id, figures)
        };
        ControlSummary {
            policy,
            campaigns: known.into_iter().map(figures).collect(),
            counts: *state.counts(),
            foreign: self.foreign,
            rejected,
        }
    }
}
