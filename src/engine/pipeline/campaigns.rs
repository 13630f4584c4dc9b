//! Chooses the campaigns of a decision, after its segments.

use super::Pipeline;
use crate::{
    decision::write_id,
    event::EventTime,
    status::Counts,
    targeting::{
        campaign::{Campaigns, Choice, Held, RowContext},
        creative::Draw,
        policy::{Policy, PolicyFeed},
    },
};
use std::{sync::Arc, time::Duration};

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
    policies: Policies,
}

/// The policies of control.
#[derive(Default)]
struct Policies {
    feed: Option<Box<dyn PolicyFeed>>,
    /// The policy that campaigns decide with.
    current: Option<Arc<Policy>>,
    /// The age at which it is too old to spend money on.
    stale_after: Duration,
}

impl Offers {
    pub(super) fn new(campaigns: Campaigns, segments: usize, id_prefix: String) -> Self {
        Self {
            campaigns,
            choice: Choice::default(),
            held: Held::new(segments),
            id: Vec::new(),
            id_prefix,
            policies: Policies::default(),
        }
    }

    /// Takes over the policies of other campaigns, unless they have none.
    pub(super) fn inherit(&mut self, other: &mut Self) {
        if other.policies.feed.is_some() {
            self.policies = std::mem::take(&mut other.policies);
        }
        self.campaigns.set_policy(self.policies.current.as_deref(), self.policies.stale_after);
    }
}

impl Pipeline {
    /// The campaigns.
    pub fn campaigns(&self) -> &Campaigns {
        &self.offers.campaigns
    }

    /// Attaches a feed of control's policies. They are taken whenever [`Pipeline::renew_policy`] is called. A policy
    /// that is older than `stale_after` when a decision is made stops campaigns with a budget.
    #[must_use]
    pub fn with_policies(mut self, feed: Box<dyn PolicyFeed>, stale_after: Duration) -> Self {
        self.offers.policies = Policies { feed: Some(feed), current: None, stale_after };
        self
    }

    /// Takes the newest policy that is ready, if it should replace the current one, and returns its version. Must be
    /// called between two transactions: decisions from here on name it.
    pub fn renew_policy(&mut self, now: EventTime) -> Option<u64> {
        let Offers { campaigns, policies, .. } = &mut self.offers;
        let policy = policies.feed.as_mut()?.take()?;
        if !campaigns.policy().accepts(&policy, now.0) {
            return None;
        }
        campaigns.set_policy(Some(&policy), policies.stale_after);
        policies.current = Some(policy);
        Some(campaigns.policy().version())
    }

    /// Chooses the campaigns for a row whose segments were decided.
    pub(super) fn offer(&mut self, row: usize, now: EventTime) {
        let Offers { campaigns, choice, held, id, id_prefix, .. } = &mut self.offers;
        if campaigns.all().is_empty() {
            return;
        }
        // A decision may be cut to fewer segments than the user is in.
        held.clear();
        self.audiences.found.all().for_each(|segment| held.insert(segment));
        id.clear();
        write_id(id_prefix, self.batch.events.positions[row], id);
        let context = RowContext {
            time: self.batch.events.times[row],
            user_hash: self.batch.events.user_hashes[row],
            segments: held,
            suppressed: None,
            decision: Draw::word_of(id),
            now: now.0,
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
