//! A policy in the form that a worker decides with: by campaign index, without a look-up by name.

use super::{CampaignPolicy, Chooser, CreativePolicy, Policy};
use crate::{
    canary::{self, Canary},
    event::EventTime,
    targeting::{
        creative::{Catalogue, Chosen, Draw, Eligible, Floor},
        money::Currency,
        pacing::{PassThrough, passes},
        shading::WinRate,
    },
};
use std::{collections::HashMap, time::Duration};

/// What the worker's configuration says of a campaign.
#[derive(Clone, Copy, Debug)]
pub struct CampaignRef<'a> {
    /// Its id.
    pub id: &'a str,
    /// The currency of its amounts.
    pub currency: Currency,
    /// Whether it has a budget.
    pub has_budget: bool,
    /// The audiences that its creatives are learned for, in the order of their indexes.
    pub audiences: &'a [String],
    /// The features that a linear bandit chooses its creatives by.
    pub features: &'a [String],
    /// The least probability of a creative that fits.
    pub floor: Floor,
}

/// What a policy says of a campaign's budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// There is no budget: every decision passes.
    Unbudgeted,
    /// Spend is known, and this share of the decisions passes.
    Known {
        /// The share.
        pass_through: PassThrough,
    },
    /// The budget is spent.
    Exhausted,
    /// Spend is unknown, or known from a policy that is too old: nothing passes.
    Unknown,
}

/// Whether a campaign takes part in a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It does. The share is that of a budget, else [`PassThrough::ALL`].
    Passed(PassThrough),
    /// Pacing skips this decision (reason `paced`).
    Paced,
    /// The budget is spent (reason `budget`).
    Exhausted,
    /// The budget is unknown (reason `budget_unknown`).
    Unknown,
}

impl Gate {
    /// Whether a decision passes. The draw is a hash of decision and campaign, as in [`passes`].
    pub fn admit(self, draw: u64) -> Admission {
        match self {
            Self::Unbudgeted => Admission::Passed(PassThrough::ALL),
            Self::Known { pass_through } if passes(pass_through, draw) => Admission::Passed(pass_through),
            Self::Known { .. } => Admission::Paced,
            Self::Exhausted => Admission::Exhausted,
            Self::Unknown => Admission::Unknown,
        }
    }
}

/// A policy for the campaigns of a worker, by the index of the campaign in the configuration.
#[derive(Clone, Debug, Default)]
pub struct CompiledPolicy {
    version: u64,
    issued_at: i64,
    stale_after: i64,
    campaigns: Vec<Campaign>,
}

#[derive(Clone, Debug)]
struct Campaign {
    gate: Gate,
    win_rate: Option<WinRate>,
    placements: HashMap<String, WinRate>,
    /// What the chooser was prepared from.
    learned: Option<CreativePolicy>,
    chooser: Chooser,
}

impl CompiledPolicy {
    /// The state before the first policy: campaigns with a budget are stopped, and creatives are chosen by weight. Its
    /// version is 0.
    pub fn absent(campaigns: &[CampaignRef<'_>], catalogue: &Catalogue, stale_after: Duration) -> Self {
        Self::compile(None, campaigns, catalogue, stale_after, None)
    }

    /// Prepares a policy. Campaigns that it does not name are treated as without a policy; those that the
    /// configuration does not name are left out. A policy that is older than `stale_after` when a decision is made
    /// stops campaigns with a budget.
    ///
    /// `previous` are the former policy and its campaigns, if they are the same: choosers whose creatives have learned
    /// nothing new are taken over, because preparing one takes up to some milliseconds.
    pub fn new(
        policy: &Policy,
        campaigns: &[CampaignRef<'_>],
        catalogue: &Catalogue,
        stale_after: Duration,
        previous: Option<Self>,
    ) -> Self {
        Self::compile(Some(policy), campaigns, catalogue, stale_after, previous)
    }

    fn compile(
        policy: Option<&Policy>,
        campaigns: &[CampaignRef<'_>],
        catalogue: &Catalogue,
        stale_after: Duration,
        previous: Option<Self>,
    ) -> Self {
        let mut former = previous.filter(|it| it.campaigns.len() == campaigns.len()).map(|it| it.campaigns.into_iter());
        let campaigns = campaigns.iter().map(|campaign| {
            let former = former.as_mut().and_then(Iterator::next);
            Campaign::new(policy.and_then(|policy| policy.campaigns.get(campaign.id)), campaign, catalogue, former)
        });
        Self {
            version: policy.map_or(0, |policy| policy.version),
            issued_at: policy.map_or(i64::MIN, |policy| policy.issued_at),
            stale_after: i64::try_from(stale_after.as_micros()).unwrap_or(i64::MAX),
            campaigns: campaigns.collect(),
        }
    }

    /// The version, which decisions name. 0 before the first policy.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// When it was issued.
    pub fn issued_at(&self) -> EventTime {
        EventTime(self.issued_at)
    }

    /// Whether the policy is too old, or from too far in the future, to spend money on. `now` is the processing time of
    /// the decision in microseconds since 1970. Clocks that differ by more than `stale_after` stop campaigns, because
    /// the policy's age is then unknown.
    pub fn is_stale(&self, now: i64) -> bool {
        self.version == 0 || now.abs_diff(self.issued_at) > self.stale_after.unsigned_abs()
    }

    /// Whether a policy that has arrived should replace this one at this time. A policy may arrive late or twice, so
    /// only a higher version does. The exception is a control that has lost its state and starts again from 1: its
    /// policy replaces one that is too old to be used.
    pub fn accepts(&self, policy: &Policy, now: i64) -> bool {
        let is_newer = policy.version > self.version || canary::is_in(Canary::OlderPolicyTaken);
        is_newer || self.is_stale(now) && policy.issued_at > self.issued_at
    }

    /// What may be spent for a campaign at this processing time, in microseconds since 1970.
    ///
    /// # Panics
    /// If there is no campaign with this index.
    pub fn gate(&self, campaign: usize, now: i64) -> Gate {
        match self.campaigns[campaign].gate {
            Gate::Unbudgeted => Gate::Unbudgeted,
            _ if self.is_stale(now) && !canary::is_in(Canary::StalePolicyUsed) => Gate::Unknown,
            gate => gate,
        }
    }

    /// The win rate to shade a campaign's bid with: the placement's, else the campaign's. `None` without a model: the
    /// bid is then the value.
    ///
    /// # Panics
    /// If there is no campaign with this index.
    pub fn win_rate(&self, campaign: usize, placement: Option<&str>) -> Option<&WinRate> {
        let campaign = &self.campaigns[campaign];
        placement.and_then(|placement| campaign.placements.get(placement)).or(campaign.win_rate.as_ref())
    }

    /// Whether the weights of the catalogue choose a campaign's creatives.
    ///
    /// # Panics
    /// If there is no campaign with this index.
    pub fn is_by_weight(&self, campaign: usize) -> bool {
        self.campaigns[campaign].chooser.is_by_weight()
    }

    /// Chooses a creative: see [`Chooser::choose`]. The draw is [`Draw::new`] of the decision, [`Self::version`] and
    /// the campaign.
    ///
    /// # Panics
    /// If there is no campaign with this index.
    pub fn choose(
        &mut self,
        campaign: usize,
        audience: usize,
        features: &[f64],
        eligible: Eligible,
        draw: Draw,
    ) -> Option<Chosen> {
        self.campaigns[campaign].chooser.choose(audience, features, eligible, draw)
    }
}

impl Campaign {
    fn new(
        policy: Option<&CampaignPolicy>,
        campaign: &CampaignRef<'_>,
        catalogue: &Catalogue,
        former: Option<Self>,
    ) -> Self {
        // Amounts in another currency say nothing about this campaign.
        let policy = policy.filter(|policy| policy.currency == campaign.currency.code());
        let learned = policy.and_then(|policy| policy.creatives.clone());
        let chooser = match former {
            Some(former) if former.learned == learned => former.chooser,
            _ => {
                let CampaignRef { id, audiences, features, floor, .. } = *campaign;
                Chooser::new(learned.as_ref(), floor, id, audiences, features, catalogue)
            }
        };
        let rates = policy.iter().flat_map(|policy| &policy.placements);
        Self {
            gate: gate(policy, campaign.has_budget),
            win_rate: policy.and_then(|policy| policy.win_rate).and_then(|model| model.rate()),
            placements: rates.filter_map(|(id, model)| Some((id.clone(), model.rate()?))).collect(),
            learned,
            chooser,
        }
    }
}

/// The gate of a campaign. A budget counts if either side knows of it, because a change of the configuration does not
/// reach both at the same time.
fn gate(policy: Option<&CampaignPolicy>, has_budget: bool) -> Gate {
    match policy.and_then(|policy| policy.budget) {
        None if has_budget => Gate::Unknown,
        None => Gate::Unbudgeted,
        Some(budget) if !budget.known => Gate::Unknown,
        Some(budget) if budget.exhausted => Gate::Exhausted,
        Some(budget) => Gate::Known { pass_through: budget.pass_through() },
    }
}
