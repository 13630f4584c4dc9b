//! How far a log has come.
//!
//! Owns the rule by which the times of records move the end of a log. Guarantees: an outcome that is ahead of the log by
//! more than the tolerance of events moves nothing by itself, and no record moves the end beyond the present plus that
//! tolerance. Decisions are written by workers, which refuse times that are too far ahead.

use crate::{app::FileRecord, control::Outcome};

/// The time up to which records are there.
#[derive(Clone, Debug)]
pub(super) struct LogClock {
    /// In microseconds since 1970; [`i64::MIN`] before the first record.
    pub(super) now: i64,
    /// How far an outcome moves the time by itself, in microseconds.
    tolerance: i64,
    /// No record moves the time beyond this.
    end: i64,
    /// An outcome ahead of all that counts: whose it is, and its time. It waits for a second of somebody else.
    ahead: Option<(String, i64)>,
}

impl LogClock {
    pub(super) fn new(tolerance: i64, present: i64) -> Self {
        Self { now: i64::MIN, tolerance, end: present.saturating_add(tolerance), ahead: None }
    }

    /// The latest time that counts.
    pub(super) fn end(&self) -> i64 {
        self.end
    }

    /// Takes in the time of a record. Returns whether it is too far ahead, and moved nothing.
    pub(super) fn pass(&mut self, record: &FileRecord) -> bool {
        let time = record.time();
        if time > self.end {
            return true;
        }
        if time <= self.now {
            return false;
        }
        match record {
            FileRecord::Outcome(outcome) if self.now != i64::MIN && time > self.now.saturating_add(self.tolerance) => {
                let whose = whose(outcome);
                match self.ahead.take() {
                    // The log did stand still: two agree.
                    Some((of, at)) if of != whose => self.now = self.now.max(at.min(time)),
                    earlier => {
                        let at = earlier.map_or(time, |(_, at)| at.min(time));
                        self.ahead = Some((whose.to_owned(), at));
                        return true;
                    }
                }
                if time > self.now.saturating_add(self.tolerance) {
                    self.ahead = Some((whose.to_owned(), time));
                    return true;
                }
            }
            // The log goes on from where it was, so what was ahead has an odd clock.
            _ => self.ahead = None,
        }
        self.now = self.now.max(time);
        false
    }
}

/// What tells users apart. Most outcomes name only their decision.
fn whose(of: &Outcome) -> &str {
    of.user_key.as_deref().or(of.decision_id.as_deref()).unwrap_or(&of.id)
}
