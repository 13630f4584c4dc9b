//! What a batch reports about a worker in addition to its counts: times by stage, latencies, scores, the last decision.

use crate::{
    decision::Status,
    event::{EventTime, Position},
    metrics::SCORE_BOUNDS,
    targeting::campaign::Tally,
};
use std::time::Duration;

/// A stage of the pipeline, for its share of the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Bytes become rows. Timed on one record in 64.
    Decode,
    /// Rows update profiles and give features.
    Profile,
    /// The model runs.
    Score,
    /// Segments are matched, and rules of campaigns evaluated.
    Target,
    /// Campaigns are chosen, and decisions serialized.
    Encode,
    /// Outputs are handed to the Kafka client.
    Send,
    /// A transaction is committed while the other stages continue.
    Commit,
}

impl Stage {
    /// All stages, in the order of the enum.
    pub const ALL: [Self; 7] =
        [Self::Decode, Self::Profile, Self::Score, Self::Target, Self::Encode, Self::Send, Self::Commit];

    /// The stage as a metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::Profile => "profile",
            Self::Score => "score",
            Self::Target => "target",
            Self::Encode => "encode",
            Self::Send => "send",
            Self::Commit => "commit",
        }
    }
}

/// The times spent in the stages.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StageTimes {
    /// Elapsed time by stage.
    pub elapsed: [Duration; Stage::ALL.len()],
    /// CPU time of the worker by stage. Decoding includes taking the records from the Kafka client.
    pub computed: [Duration; Stage::ALL.len()],
}

impl StageTimes {
    /// Adds other times.
    pub fn add(&mut self, other: &Self) {
        self.elapsed.iter_mut().zip(other.elapsed).for_each(|(sum, time)| *sum += time);
        self.computed.iter_mut().zip(other.computed).for_each(|(sum, time)| *sum += time);
    }
}

/// One decision as the live page shows it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RecentDecision {
    /// The hash of the user's key; the page shows a keyed hash of it.
    pub user_hash: u64,
    /// The origin of its event.
    pub position: Position,
    /// When its event happened.
    pub occurred_at: EventTime,
    /// When the decision was made.
    pub decided_at: EventTime,
    /// Whether and how the event was scored.
    pub status: Status,
    /// The score.
    pub score: Option<f32>,
    /// A bit for each of the first 64 segments.
    pub segments: u64,
}

/// Timings and scores of the batches of a transaction.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Detail {
    /// By decision: when its event happened and when its record was appended, in milliseconds since 1970.
    pub times: Vec<(i64, i64)>,
    /// By segment: how many decisions matched it.
    pub segments: Vec<u64>,
    /// By lasting segment: how many users have entered, and how many have left.
    pub moves: [Vec<u64>; 2],
    /// By campaign: the outcomes.
    pub campaigns: Vec<Tally>,
    /// How many scores fell into each bin of [`SCORE_BOUNDS`].
    pub scores: Vec<u64>,
    /// The times spent in the stages.
    pub stages: StageTimes,
    /// The last decision.
    pub last: Option<RecentDecision>,
}

impl Detail {
    /// Adds another detail, which is the later one.
    pub fn add(&mut self, other: &Self) {
        self.times.extend_from_slice(&other.times);
        add_counts(&mut self.segments, &other.segments);
        self.moves.iter_mut().zip(&other.moves).for_each(|(sums, counts)| add_counts(sums, counts));
        self.campaigns(&other.campaigns);
        add_counts(&mut self.scores, &other.scores);
        self.stages.add(&other.stages);
        self.last = other.last.or(self.last);
    }

    /// Resets it but keeps the memory.
    pub fn clear(&mut self) {
        self.times.clear();
        self.segments.clear();
        self.moves.iter_mut().for_each(Vec::clear);
        self.campaigns.clear();
        self.scores.clear();
        self.stages = StageTimes::default();
        self.last = None;
    }

    /// Counts a score; ignores NaN.
    pub fn score(&mut self, score: f64) {
        if score.is_nan() {
            return;
        }
        let bin = SCORE_BOUNDS.partition_point(|bound| *bound < score).min(SCORE_BOUNDS.len() - 1);
        count(&mut self.scores, bin);
    }

    /// Counts a decision that matched the segment at this index.
    pub fn segment(&mut self, index: usize) {
        count(&mut self.segments, index);
    }

    /// Counts users who have entered or left segments, each by the segment's index and whether the user has entered.
    pub fn changes(&mut self, changes: impl Iterator<Item = (usize, bool)>) {
        for (index, has_entered) in changes {
            count(&mut self.moves[usize::from(!has_entered)], index);
        }
    }

    /// Adds the outcomes of campaigns, in their order.
    pub fn campaigns(&mut self, tallies: &[Tally]) {
        if self.campaigns.len() < tallies.len() {
            self.campaigns.resize(tallies.len(), Tally::default());
        }
        self.campaigns.iter_mut().zip(tallies).for_each(|(sum, tally)| sum.add(tally));
    }

    /// Adds to the elapsed time of a stage.
    pub fn spend(&mut self, stage: Stage, time: Duration) {
        self.stages.elapsed[stage as usize] += time;
    }

    /// Adds to the CPU time of a stage.
    pub fn compute(&mut self, stage: Stage, time: Duration) {
        self.stages.computed[stage as usize] += time;
    }
}

fn count(counts: &mut Vec<u64>, index: usize) {
    if counts.len() <= index {
        counts.resize(index + 1, 0);
    }
    counts[index] += 1;
}

fn add_counts(sums: &mut Vec<u64>, counts: &[u64]) {
    if sums.len() < counts.len() {
        sums.resize(counts.len(), 0);
    }
    sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
}
