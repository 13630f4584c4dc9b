//! The state of a partition.

use crate::event::EventTime;

/// What a partition is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Its profiles are being read from the changelog.
    Restoring,
    /// Its input is being replayed to complete its profiles; nothing is written.
    Replaying,
    /// New events get decisions.
    Moving,
}

impl Phase {
    /// The phase as a metric label and on the page.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Restoring => "restoring",
            Self::Replaying => "replaying",
            Self::Moving => "moving",
        }
    }
}

/// The state of an assigned partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionView {
    /// Its number.
    pub number: i32,
    /// What it is doing.
    pub phase: Phase,
    /// The next offset to be processed.
    pub next: i64,
    /// Records before this offset are replayed without output.
    pub replay_until: i64,
    /// The end of its log when the Kafka client last reported it.
    pub end: Option<i64>,
    /// The partition's event time, which no single user's event sets.
    pub newest: Option<EventTime>,
    /// How many profiles it has.
    pub profiles: u64,
    /// The estimated size of the profiles.
    pub profile_bytes: u64,
    /// An upper bound on the number of profiles whose current state is not in the changelog.
    pub dirty: u64,
    /// How many users are in each lasting segment, in their order.
    pub members: Vec<u64>,
}

impl PartitionView {
    /// How many records are waiting, if known.
    pub fn lag(&self) -> Option<u64> {
        Some(self.end?.saturating_sub(self.next).max(0) as u64)
    }

    /// How many records are left to replay.
    pub fn replay_left(&self) -> i64 {
        (self.replay_until - self.next).max(0)
    }

    /// The age of the newest event at `now`; 0 if no records are waiting.
    pub fn lag_seconds(&self, now: EventTime) -> Option<f64> {
        match (self.lag()?, self.newest) {
            (0, _) => Some(0.0),
            (_, newest) => Some((now.0 - newest?.0).max(0) as f64 / 1e6),
        }
    }
}
