//! Chooses the campaigns of a decision, after its segments.

use super::Pipeline;
use crate::{
    decision::write_id,
    status::Counts,
    targeting::{
        campaign::{Campaigns, Choice, Held, RowContext},
        creative::Draw,
    },
};

/// The campaigns, and what they offer to the user of the current row.
pub(super) struct Offers {
    pub(super) campaigns: Campaigns,
    pub(super) choice: Choice,
    /// The segments that the user is in.
    held: Held,
    /// A buffer for the decision's id.
    id: Vec<u8>,
    /// The start of every decision's id.
    id_prefix: String,
}

impl Offers {
    pub(super) fn new(campaigns: Campaigns, segments: usize, id_prefix: String) -> Self {
        Self { campaigns, choice: Choice::default(), held: Held::new(segments), id: Vec::new(), id_prefix }
    }
}

impl Pipeline {
    /// The campaigns.
    pub fn campaigns(&self) -> &Campaigns {
        &self.offers.campaigns
    }

    /// Chooses the campaigns for a row whose segments were decided.
    pub(super) fn offer(&mut self, row: usize) {
        let Offers { campaigns, choice, held, id, id_prefix } = &mut self.offers;
        if campaigns.all().is_empty() {
            return;
        }
        // A decision may be cut to fewer segments than the user is in.
        held.clear();
        self.found.all().for_each(|segment| held.insert(segment));
        id.clear();
        write_id(id_prefix, self.batch.events.positions[row], id);
        let context = RowContext {
            time: self.batch.events.times[row],
            user_hash: self.batch.events.user_hashes[row],
            segments: held,
            suppressed: None,
            decision: Draw::word_of(id),
        };
        campaigns.decide(&self.batch.events.columns, row, &context, choice);
    }

    /// Adds the outcomes of the batch to the counts.
    pub(super) fn count_offers(&mut self, counts: &mut Counts) {
        let campaigns = &mut self.offers.campaigns;
        if !campaigns.all().is_empty() {
            counts.detail.campaigns(campaigns.tallies());
            campaigns.reset_tallies();
        }
    }
}

#[cfg(test)]
mod tests;
