//! What consent changes about decisions. The verdicts come from the profile engine, which does not apply an event that may
//! not be written.
//!
//! - Without `emit` or `write`, the decision is suppressed: it has the user's id, the reason and the basis, and nothing
//!   else about the user. Readers must no longer use earlier decisions.
//! - Without `score`, no model runs, and the decision has no score.
//! - Without `train`, an export leaves the row out.
//! - A membership that ends without an event is announced as the user's last event permitted.

use super::Pipeline;
use crate::{
    canary::{self, Canary},
    decision::suppression,
    engine::{Partitions, partitions::count_member},
    status::Counts,
};

impl Pipeline {
    /// Whether a row's decision must not be personalised, because the user does not consent.
    pub(super) fn is_suppressed(&self, row: usize) -> bool {
        self.profile.verdict(row).is_some_and(|verdict| suppression(&verdict).is_some())
            && !canary::is_in(Canary::EmittedWithoutConsent)
    }

    /// Keeps the verdict on a row in its user's profile, and counts the user out of the segments that a withdrawal ends.
    pub(super) fn keep_verdict(&mut self, row: usize, partitions: &mut Partitions, counts: Option<&mut Counts>) {
        if !self.profile.checks_consent() || !self.profile.has_written(row) || self.profile.keeps_verdict(row) {
            return;
        }
        let mut ended = Vec::new();
        if let Some(words) = self.words_of(row, partitions) {
            self.profile.keep_verdict(row, words, |cell| ended.push(cell));
        }
        self.count_out(row, &ended, partitions, counts);
    }

    /// Counts the user of a row out of the memberships that ended without a decision. `counts` is absent in a replay.
    pub(super) fn count_out(
        &self,
        row: usize,
        ended: &[usize],
        partitions: &mut Partitions,
        counts: Option<&mut Counts>,
    ) {
        if let Some(partition) = partitions.get_mut(self.batch.events.positions[row].partition) {
            for cell in ended {
                count_member(&mut partition.members, *cell, false);
            }
        }
        if let Some(counts) = counts {
            let number =
                |cell: &usize| self.audiences.segments.all().iter().position(|it| it.membership() == Some(*cell));
            counts.detail.changes(ended.iter().filter_map(number).map(|number| (number, false)));
        }
    }
}

#[cfg(test)]
mod tests;
