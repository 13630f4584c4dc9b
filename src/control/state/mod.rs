//! The state of control as a value: inputs in, effects and policies out.
//!
//! ```text
//! decisions ─► apply_decision ─┐                        ┌─► dirty() ─► compacted topic ─► restore()
//! outcomes ──► apply_outcome ──┼─► State ─► tick(now) ──┤
//! audiences ─► apply_audiences ┤                        │
//! silence ───► advance ────────┘                        └─► Policy ──► <app>-policy
//! ```
//!
//! Owns the fold over these topics. It has no clock: the time of the stream moves with the records, and `tick` is told
//! the present.
//!
//! Guarantees:
//! - **Once.** Each input record counts once. The positions of the inputs are part of the state, and records before
//!   them are skipped. An outcome that is reported several times counts once, because ids are remembered for the dedupe
//!   horizon and what is older is refused. Two wins of the same auction and impression cost once, whatever their ids.
//! - **Restored.** [`State::dirty`] are the records that changed since [`State::mark_clean`]. If they are written in
//!   one transaction with the policy, whoever restores them continues as if nothing had happened. The state and all
//!   later policies are the same, bit for bit, if the same calls follow.
//! - **Monotone.** Each policy has a higher version than all before.
//! - **Patient.** Partitions may be read at any pace. The time of the stream is that of the slowest one, so a slow
//!   partition makes nothing late.
//! - **Bounded.** By `outcomes_max`, `touches_max`, [`PARKED_MAX`], and by the number of campaigns, creatives and
//!   placements. If a bound is reached, the oldest give way, which is counted. Money does not depend on it.
//!
//! Money of a win whose decision is not known (anymore) counts as well, on the day of the win: it has been spent. Only
//! wins beyond the dedupe horizon do not count, because nobody can know whether they did before.
//!
//! Not covered: transactions, topics and the encoding of decisions.

mod campaigns;
mod dirty;
mod due;
mod look;
mod publish;
mod records;
mod restore;
mod settle;
#[cfg(test)]
mod tests;
mod trail;
mod types;
mod wire;

pub(super) use look::Look;
pub use records::Record;
pub use restore::{Follower, RestoreError};
pub use trail::Settled;
pub use types::{Counts, Disposition, Effects, Source};

use super::{
    audience::{AudienceReport, SegmentSize},
    decision::{CONTROL_VARIANT, OfferedDecision, SkipReason},
    join::{Alias, Lookup, Seen, Touch, Touches, decision_alias, find, knows_auction, offer_key, user_alias},
    key::Key,
    ledger::{Account, CampaignSetup, Figures, Predicted, Qualities, QualityOf},
    outcome::{Outcome, OutcomeType, Rejection},
    spec::ControlSpec,
};
use crate::{
    canary::{self, Canary},
    targeting::{
        money::Currency,
        shading::{Notices, WinRates},
    },
};
use campaigns::{Campaigns, Configured};
use dirty::Dirty;
use records::RecordId;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use types::{Meta, Progress, Settings};

/// The most outcomes that wait for their decision, at about 500 bytes each. If there are more, the oldest is settled
/// without it.
pub const PARKED_MAX: usize = 20_000;
/// By how much an outcome may be ahead of its record's time. Clocks differ, and an outcome from the future would make
/// all others look old.
const FUTURE: i64 = 5 * 60 * 1_000_000;

/// What is known of auctions, by currency.
#[derive(Clone, Debug)]
struct Auctions {
    notices: BTreeMap<Currency, Notices>,
    /// What was fitted to them.
    rates: BTreeMap<Currency, WinRates>,
    /// Whether there may be notices that were not fitted.
    is_fit_due: bool,
}

/// What is known besides money.
#[derive(Clone, Debug, Default)]
struct Observed {
    /// How good predictions are.
    qualities: Qualities,
    /// Members by segment (taxonomy and id) and by source.
    audiences: BTreeMap<(u32, String), BTreeMap<String, u64>>,
}

/// What became of outcomes, until somebody takes it.
#[derive(Clone, Debug, Default)]
struct Settlements {
    /// The outcomes that waited and were then rejected.
    rejected: Vec<(Outcome, Rejection)>,
    /// What became of each outcome, if somebody wants to know.
    trail: Option<Vec<Settled>>,
}

/// Control's state.
#[derive(Clone, Debug)]
pub struct State {
    settings: Settings,
    campaigns: Campaigns,
    meta: Meta,
    /// How far each input has been read, by topic and partition.
    inputs: BTreeMap<String, BTreeMap<i32, Progress>>,
    seen: Seen,
    touches: Touches,
    /// Outcomes that wait for their decision, by arrival.
    parked: BTreeMap<(i64, Key), Outcome>,
    accounts: BTreeMap<String, Account>,
    auctions: Auctions,
    observed: Observed,
    dirty: Dirty,
    settlements: Settlements,
}

impl State {
    /// The state before any input.
    pub fn new(app: &str, spec: &ControlSpec, campaigns: Vec<CampaignSetup>) -> Self {
        Self {
            settings: Settings::new(app, spec),
            campaigns: Campaigns::new(campaigns),
            meta: Meta::default(),
            inputs: BTreeMap::new(),
            seen: Seen::default(),
            touches: Touches::default(),
            parked: BTreeMap::new(),
            accounts: BTreeMap::new(),
            auctions: Auctions { notices: BTreeMap::new(), rates: BTreeMap::new(), is_fit_due: true },
            observed: Observed::default(),
            dirty: Dirty::default(),
            settlements: Settlements::default(),
        }
    }

    /// Announces the partitions of an input. While nothing was read from one of them, the time of the stream stands
    /// still, unless [`State::advance`] moves it.
    pub fn assign(&mut self, topic: &str, partitions: impl IntoIterator<Item = i32>) {
        for partition in partitions {
            self.input(topic, partition);
            self.dirty.insert(RecordId::Input(topic.to_owned(), partition));
        }
    }

    /// Takes in a decision. Returns false if its record is already part of the state.
    pub fn apply_decision(&mut self, source: &Source<'_>, decision: &OfferedDecision<'_>) -> bool {
        if !self.take(source) {
            return false;
        }
        // A worker whose clock is ahead must not turn the day.
        let decided_at = decision.decided_at.min(source.arrived_at);
        self.meta.counts.decisions += 1;
        for skipped in decision.skipped {
            // A campaign is skipped because of its budget or its rank, so it is configured somewhere; but only an offer
            // tells its currency.
            let known = self.accounts.get(skipped.campaign_id).map(|account| account.currency);
            let setup = self.campaigns.get(skipped.campaign_id).map(|campaign| campaign.setup.currency);
            if let Some(currency) = known.or(setup) {
                let has_passed = skipped.reason == SkipReason::Outranked;
                self.observe_decision(skipped.campaign_id, currency, decided_at, has_passed);
            }
        }
        let offered_until = decision.expires_at.max(decided_at).saturating_add(self.settings.offer);
        for offer in decision.offers {
            let account = self.accounts.get(offer.campaign_id);
            if account.is_some_and(|account| account.currency != offer.currency) {
                // The configuration of the worker is another one. Its budget is closed, because it does not accept a
                // policy in another currency.
                self.meta.counts.offers_refused += 1;
                continue;
            }
            self.observe_decision(offer.campaign_id, offer.currency, decided_at, true);
            let predicts = self.campaigns.get(offer.campaign_id).is_some_and(|it| it.setup.predicts.is_some());
            let predicted = offer.probability.filter(|_| predicts).map(|probability| Predicted {
                version: version_of(decision),
                probability,
                known_at: None,
            });
            let aliases = [decision_alias(decision.decision_id), user_alias(decision.user_key, offer.campaign_id)];
            let touch = Touch {
                campaign: offer.campaign_id.to_owned(),
                creative: offer.creative_id.map(str::to_owned),
                audience: offer.audience.to_owned(),
                // JSON has no NaN. The bandit counts it as 0 as well.
                features: offer.features.iter().map(|it| if it.is_finite() { *it } else { 0.0 }).collect(),
                bid_micros: offer.bid.0,
                decided_at,
                offered_until,
                shown_at: None,
                viewed: false,
                clicked_at: None,
                converted_at: None,
                predicted,
                learn_at: None,
                keep_until: offered_until,
                aliases: aliases.map(Alias).into(),
            };
            let key = offer_key(decision.decision_id, offer.campaign_id);
            self.touches.insert(key, touch);
            self.dirty.insert(RecordId::Touch(key));
        }
        self.make_room();
        true
    }

    /// Takes in an outcome.
    pub fn apply_outcome(&mut self, source: &Source<'_>, outcome: &Outcome) -> Effects {
        if !self.take(source) {
            return Disposition::Replayed.into();
        }
        if outcome.occurred_at > source.arrived_at.saturating_add(FUTURE) {
            return self.reject_future();
        }
        let horizon = self.settings.horizon;
        // The record's own time counts as well, so that it does not matter how far the other inputs have been read.
        let clock = self.meta.clock.max(source.arrived_at);
        if self.seen.is_late(outcome.occurred_at, clock, horizon) && !canary::is_in(Canary::LateOutcomeCounted) {
            self.meta.counts.late += 1;
            return Disposition::Late.into();
        }
        let key = Key::of("outcome", &[&outcome.id]);
        if self.seen.contains(key) && !canary::is_in(Canary::DuplicateOutcomeCounted) {
            self.meta.counts.duplicates += 1;
            return Disposition::Duplicate.into();
        }
        self.remember(key, outcome.occurred_at);
        let effects = match self.settle(outcome, false) {
            Some(effects) => effects,
            None => {
                self.park(source.arrived_at, key, outcome);
                Disposition::Parked.into()
            }
        };
        if effects.disposition == Disposition::Rejected {
            // A corrected outcome may have the same id.
            self.forget(key);
        }
        self.make_room();
        effects
    }

    /// Whether an outcome was seen before, or its auction or impression is known. While the key of pseudonyms changes, an outcome
    /// that is known by its former names keeps them.
    pub fn knows(&self, outcome: &Outcome) -> bool {
        self.seen.contains(Key::of("outcome", &[&outcome.id])) || knows_auction(&self.touches, outcome)
    }

    /// Whether what an outcome belongs to is known.
    pub fn finds(&self, outcome: &Outcome) -> bool {
        find(&self.touches, outcome, &self.settings.windows) != Lookup::Unknown
    }

    /// Passes over a record that is not an outcome or a decision that control understands. Returns false if it is
    /// already part of the state; its dead letter has then been written.
    pub fn skip(&mut self, source: &Source<'_>) -> bool {
        let is_new = self.take(source);
        if is_new {
            self.meta.counts.rejected += 1;
        }
        is_new
    }

    /// Passes over a record that says nothing to control, such as a tombstone or the decision of another application.
    /// Returns false if it is already part of the state.
    pub fn pass_over(&mut self, source: &Source<'_>) -> bool {
        self.take(source)
    }

    /// Starts an input anew, because its topic was deleted and created again. Outcomes that are reported again are still
    /// recognised by their ids.
    pub fn restart_input(&mut self, topic: &str, partition: i32) {
        if let Some(progress) = self.inputs.get_mut(topic).and_then(|of| of.get_mut(&partition)) {
            progress.next = i64::MIN;
            self.dirty.insert(RecordId::Input(topic.to_owned(), partition));
        }
    }

    /// Takes in changed campaigns. What is known of those that are gone is kept.
    pub fn set_campaigns(&mut self, campaigns: Vec<CampaignSetup>) {
        self.campaigns.set(campaigns);
    }

    /// The campaigns that have spent money in another currency than their present one, with that currency. Those with a
    /// budget stop, because the amounts cannot be added up.
    pub fn of_other_currency(&self) -> impl Iterator<Item = (&str, Currency)> {
        let other = |(id, campaign): (_, &Configured)| {
            let account = self.accounts.get(id)?;
            let is_other = account.currency != campaign.setup.currency && account.total.spent_micros != 0;
            is_other.then_some((id, account.currency))
        };
        self.campaigns.iter().map(|(id, campaign)| (id.as_str(), campaign)).filter_map(other)
    }

    /// Moves the time of the stream. To be called with the present when all inputs have been read to their ends, because
    /// a silent partition holds the time back: what waits would wait for ever, and nothing would be forgotten.
    pub fn advance(&mut self, now: i64) {
        self.meta.clock = self.meta.clock.max(now);
        self.pass_time();
    }

    /// Takes in how many users are in each segment, of one partition of the clickstream. The report replaces the one
    /// before; the sum over all partitions is published. Returns false if the record is already part of the state.
    pub fn apply_audiences(&mut self, source: &Source<'_>, report: &AudienceReport) -> bool {
        if !self.take(source) {
            return false;
        }
        let partition = report.partition.to_string();
        let reported: BTreeSet<(u32, &str)> = report.segments.iter().map(|it| (it.segtax, it.id.as_str())).collect();
        for ((segtax, id), sources) in &mut self.observed.audiences {
            if !reported.contains(&(*segtax, id.as_str())) && sources.remove(&partition).is_some() {
                self.dirty.insert(RecordId::Audience(*segtax, id.clone(), partition.clone()));
            }
        }
        self.observed.audiences.retain(|_, sources| !sources.is_empty());
        for SegmentSize { segtax, id, members } in &report.segments {
            let sources = self.observed.audiences.entry((*segtax, id.clone())).or_default();
            if sources.insert(partition.clone(), *members) != Some(*members) {
                self.dirty.insert(RecordId::Audience(*segtax, id.clone(), partition.clone()));
            }
        }
        true
    }

    /// The next offset of an input, from which to read after a restart. `None` if nothing was read.
    pub fn position(&self, topic: &str, partition: i32) -> Option<i64> {
        let progress = self.inputs.get(topic)?.get(&partition)?;
        Some(progress.next).filter(|next| *next != i64::MIN)
    }

    /// The version of the last policy; 0 before the first.
    pub fn version(&self) -> u64 {
        self.meta.version
    }

    /// What was counted since the state began.
    pub fn counts(&self) -> &Counts {
        &self.meta.counts
    }

    /// The figures of a campaign over all days.
    pub fn total(&self, campaign: &str) -> Option<&Figures> {
        self.accounts.get(campaign).map(|account| &account.total)
    }

    /// The figures of a campaign by day, in days since 1970-01-01 in the campaign's zone, oldest first.
    pub fn days(&self, campaign: &str) -> impl Iterator<Item = (i32, &Figures)> {
        self.accounts.get(campaign).into_iter().flat_map(|account| account.days.iter().map(|(day, it)| (*day, it)))
    }

    /// How good the predictions of each model version are, by campaign and version, of whole days in UTC: see [`QualityOf`].
    pub fn qualities(&self) -> Vec<QualityOf<'_>> {
        let predicts = |id: &str| self.campaigns.get(id).and_then(|campaign| campaign.setup.predicts);
        self.observed.qualities.figures(self.meta.clock, predicts)
    }

    /// The age at which it is known of every impression of a campaign whether it has succeeded. `None` if nothing is predicted of it.
    pub fn label_age(&self, campaign: &str) -> Option<Duration> {
        let age = self.settings.label_age(self.campaigns.get(campaign)?.setup.predicts?);
        Some(Duration::from_micros(u64::try_from(age).unwrap_or_default()))
    }

    /// The ids of all campaigns that are known.
    pub fn campaigns(&self) -> impl Iterator<Item = &str> {
        self.accounts.keys().map(String::as_str)
    }

    /// How many offers and impressions, outcome ids and waiting outcomes are kept.
    pub fn sizes(&self) -> (usize, usize, usize) {
        (self.touches.len(), self.seen.len(), self.parked.len())
    }

    /// The outcomes that waited and were then rejected, for the dead letters. Empties the list.
    pub fn take_rejected(&mut self) -> Vec<(Outcome, Rejection)> {
        std::mem::take(&mut self.settlements.rejected)
    }

    /// Takes the input of this record out of the time of the stream, because its silence says nothing.
    pub fn set_timeless(&mut self, source: &Source<'_>) {
        let progress = self.inputs.get_mut(source.topic).and_then(|of| of.get_mut(&source.partition));
        if let Some(progress) = progress.filter(|progress| progress.time != Progress::TIMELESS) {
            progress.time = Progress::TIMELESS;
            self.dirty.insert(RecordId::Input(source.topic.to_owned(), source.partition));
        }
    }

    /// How far an input was read, which begins with this call if it is new.
    fn input(&mut self, topic: &str, partition: i32) -> &mut Progress {
        // Only a new topic costs an allocation.
        if !self.inputs.contains_key(topic) {
            self.inputs.insert(topic.to_owned(), BTreeMap::new());
        }
        self.inputs.get_mut(topic).expect("it was inserted").entry(partition).or_insert(Progress::NONE)
    }

    /// Moves the position of an input past a record. Returns false if the record is already part of the state.
    fn take(&mut self, source: &Source<'_>) -> bool {
        let progress = self.input(source.topic, source.partition);
        if source.offset < progress.next && !canary::is_in(Canary::InputAppliedTwice) {
            return false;
        }
        progress.next = source.offset.saturating_add(1);
        progress.time = progress.time.max(source.arrived_at);
        self.dirty.note(|| RecordId::Input(source.topic.to_owned(), source.partition));
        self.dirty.insert(RecordId::Meta);
        true
    }

    fn remember(&mut self, key: Key, occurred_at: i64) {
        let until = occurred_at.max(self.meta.clock).saturating_add(self.settings.horizon);
        self.seen.insert(key, until);
        self.dirty.insert(RecordId::Seen(key));
    }

    fn forget(&mut self, key: Key) {
        self.seen.remove(key);
        self.dirty.insert(RecordId::Seen(key));
    }
}

/// The name of the version that scored. Another variant's version is another model, even if it has the same name.
fn version_of(decision: &OfferedDecision<'_>) -> String {
    match decision.variant {
        "" | CONTROL_VARIANT => decision.model_version.to_owned(),
        variant => format!("{variant}/{}", decision.model_version),
    }
}

/// The kind of an outcome that tells of an auction.
fn is_notice(kind: OutcomeType) -> bool {
    matches!(kind, OutcomeType::Win | OutcomeType::Loss)
}
