//! What another way of choosing creatives would have earned, from the impressions of this one.
//!
//! Owns the log of impressions with the propensity that the decision names, and the estimates for a target policy
//! ([`TargetPolicy`]). The reward is that of the campaign's rotation: a click or a conversion. Only impressions whose
//! reward is known count.
//!
//! A decision does not say which creatives it chose among. They are taken to be all active ones of the campaign whose
//! segments fit those of the decision. Rules and caps of creatives are not in the log. Where a decision chose by
//! weight, its propensity says whether that is right: rows for which it is not are left out and counted.
//!
//! Guarantees: the same log gives the same figures. Limits: [`ROWS_MAX`] impressions, about 80 bytes each, beyond which
//! a random half of the users is left out; 10^8 draws of the bootstrap.

mod model;
mod target;

pub use target::TargetPolicy;

use super::{halving::Halving, plan::Label};
use crate::{
    control::{Offer, OfferDetails},
    evaluation::{
        Confidence,
        business::Rate,
        off_policy::{Logged, Modelled, Options, Report, evaluate},
    },
    targeting::{
        AudienceSpec,
        creative::{Catalogue, Eligible, Floor},
        policy::Chooser,
    },
};
use model::CrossFitted;
use serde::Serialize;
use std::collections::BTreeMap;
use target::{Setting, Target, by_weight};

/// The most impressions.
const ROWS_MAX: usize = 1_000_000;

/// The most draws of the bootstrap, and the fewest replicates that say something.
const DRAWS_MAX: usize = 100_000_000;
const REPLICATES: std::ops::RangeInclusive<usize> = 200..=1_000;

/// What the configuration says of a campaign that chooses creatives.
#[derive(Clone, Debug)]
pub struct Rotating {
    /// The campaign.
    pub campaign: String,
    /// The audiences that its creatives are learned for.
    pub audiences: Vec<String>,
    /// The features of a linear bandit.
    pub features: Vec<String>,
    /// The smallest probability of a creative that fits.
    pub floor: f64,
    /// What creatives are rewarded for.
    pub reward: Label,
}

/// How to estimate.
#[derive(Clone, Debug)]
pub struct PolicyPlan {
    /// As the user named it.
    pub name: String,
    /// The policy to estimate.
    pub policy: TargetPolicy,
    /// The campaigns that choose creatives.
    pub campaigns: Vec<Rotating>,
    /// All creatives.
    pub catalogue: Catalogue,
    /// The largest importance weight. `None`: no limit.
    pub clip: Option<f64>,
    /// The seed of the bootstrap.
    pub seed: u64,
}

/// A choice that was shown.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Choice {
    campaign: u32,
    creative: u8,
    audience: u8,
    eligible: Eligible,
    propensity: f64,
    features: Box<[f64]>,
}

#[derive(Clone, Debug)]
struct Row {
    user: u64,
    choice: Choice,
    is_success: bool,
}

/// A campaign that is estimated.
#[derive(Debug)]
struct Campaign {
    setting: Rotating,
    ids: Vec<String>,
    active: Eligible,
    segments: Vec<AudienceSpec>,
    /// By weight with the floor of the rotation, and with the default one, which earlier releases used without a policy.
    by_weight: [Chooser; 2],
    /// Choices among other creatives than assumed.
    other_creatives: u64,
    /// Impressions without a propensity or of an unknown creative.
    unknown: u64,
    /// Impressions whose reward is not known yet.
    immature: u64,
    /// Creatives with a rule, which the log does not tell.
    rules: usize,
}

/// The estimates for a campaign.
#[derive(Clone, Debug, Serialize)]
pub struct PolicyReport {
    /// The campaign.
    pub campaign: String,
    /// What its creatives are rewarded for.
    pub reward: &'static str,
    /// How often the impressions of the log succeeded.
    pub logged: Option<Rate>,
    /// One user in so many is in the figures.
    pub users_one_in: u64,
    /// Impressions whose reward is not known yet.
    pub immature: u64,
    /// Impressions that were left out, because their decision chose among other creatives than the configuration says.
    pub other_creatives: u64,
    /// Impressions that were left out, because their decision names no propensity, or a creative that is not configured.
    pub without_propensity: u64,
    /// Creatives with a rule: the estimate takes it that everybody fits.
    pub creatives_with_rules: usize,
    /// The estimates. `None` without rows.
    pub estimate: Option<Report>,
    /// Why there are none.
    pub unknown: Option<String>,
}

/// The log of impressions.
#[derive(Debug)]
pub(super) struct PolicyLog {
    plan: PolicyPlan,
    campaigns: Vec<Campaign>,
    numbers: BTreeMap<String, u32>,
    rows: Vec<Row>,
    rows_max: usize,
    sample: Halving,
}

impl PolicyLog {
    pub(super) fn new(plan: PolicyPlan) -> Self {
        let campaign = |setting: &Rotating| {
            let of = plan.catalogue.of(&setting.campaign);
            Campaign {
                setting: setting.clone(),
                ids: of.clone().map(|it| it.spec.id.clone()).collect(),
                active: plan.catalogue.active(&setting.campaign),
                segments: of.clone().map(|it| it.spec.segments.clone()).collect(),
                by_weight: {
                    let setting = refer(setting, &plan.catalogue);
                    [setting.floor, Floor::default()].map(|floor| by_weight(&setting, floor))
                },
                other_creatives: 0,
                unknown: 0,
                immature: 0,
                rules: of.filter(|it| it.is_active() && it.spec.filter.is_some()).count(),
            }
        };
        let campaigns: Vec<Campaign> = plan.campaigns.iter().map(campaign).collect();
        let numbers = (0..).zip(&campaigns).map(|(number, it)| (it.setting.campaign.clone(), number)).collect();
        Self { plan, campaigns, numbers, rows: Vec::new(), rows_max: ROWS_MAX, sample: Halving::default() }
    }

    /// The choice of a creative in a decision, with the reward that it is waiting for. `None` if the campaign chooses
    /// none.
    pub(super) fn choice(
        &mut self,
        offer: &Offer<'_>,
        details: &OfferDetails,
        segments: &[String],
    ) -> Option<(Choice, Label)> {
        let number = *self.numbers.get(offer.campaign_id)?;
        let campaign = &mut self.campaigns[number as usize];
        let found = offer.creative_id.and_then(|id| campaign.ids.iter().position(|known| known == id));
        let propensity = details.propensity;
        let (Some(creative), true) = (found, propensity > 0.0 && propensity <= 1.0) else {
            campaign.unknown += 1;
            return None;
        };
        let fits = |index: &usize| campaign.segments[*index].takes(|id| segments.contains(id));
        let eligible: Eligible = campaign.active.iter().filter(fits).collect();
        let audiences = &campaign.setting.audiences;
        let audience = audiences.iter().position(|known| known == offer.audience).unwrap_or(audiences.len());
        let is_assumed = |chooser: &mut Chooser| {
            let shares = chooser.shares(audience, &[], eligible);
            shares.is_some_and(|it| it.iter().any(|(at, share)| at == creative && (share - propensity).abs() < 1e-9))
        };
        let is_other = !eligible.contains(creative)
            || details.policy == "weights" && !campaign.by_weight.iter_mut().any(is_assumed);
        if is_other {
            campaign.other_creatives += 1;
            return None;
        }
        // A campaign has at most 64 creatives and 16 audiences.
        let choice = Choice {
            campaign: number,
            creative: creative as u8,
            audience: audience as u8,
            eligible,
            propensity,
            features: offer.features.into(),
        };
        Some((choice, campaign.setting.reward))
    }

    /// Adds an impression whose reward is known, or which is too young.
    pub(super) fn add(&mut self, user: u64, choice: &Choice, is_success: Option<bool>) {
        let Some(is_success) = is_success else {
            self.campaigns[choice.campaign as usize].immature += 1;
            return;
        };
        if !self.sample.keeps(user) {
            return;
        }
        self.rows.push(Row { user, choice: choice.clone(), is_success });
        while self.rows.len() > self.rows_max && self.sample.halve() {
            let sample = self.sample;
            self.rows.retain(|row| sample.keeps(row.user));
        }
    }

    /// As the user named the policy.
    pub(super) fn name(&self) -> &str {
        &self.plan.name
    }

    /// The estimates of all campaigns.
    pub(super) fn reports(&self, confidence: Confidence) -> Vec<PolicyReport> {
        (0..).zip(&self.campaigns).map(|(number, campaign)| self.report(number, campaign, confidence)).collect()
    }

    fn report(&self, number: u32, campaign: &Campaign, confidence: Confidence) -> PolicyReport {
        let rows: Vec<&Row> = self.rows.iter().filter(|row| row.choice.campaign == number).collect();
        let successes = rows.iter().filter(|row| row.is_success).count() as u64;
        let mut report = PolicyReport {
            campaign: campaign.setting.campaign.clone(),
            reward: campaign.setting.reward.as_str(),
            logged: Rate::new(successes, rows.len() as u64, confidence),
            users_one_in: self.sample.one_in(),
            immature: campaign.immature,
            other_creatives: campaign.other_creatives,
            without_propensity: campaign.unknown,
            creatives_with_rules: campaign.rules,
            estimate: None,
            unknown: None,
        };
        match Target::of(&self.plan.policy, &refer(&campaign.setting, &self.plan.catalogue)) {
            Err(why) => report.unknown = Some(why),
            Ok(_) if rows.is_empty() => {
                report.unknown = Some("there are no impressions whose reward and propensity are known".to_owned());
            }
            Ok(target) => report.estimate = Some(self.estimate(&rows, target, confidence)),
        }
        report
    }

    fn estimate(&self, rows: &[&Row], mut target: Target, confidence: Confidence) -> Report {
        let reward = |row: &Row| f64::from(u8::from(row.is_success));
        let mut model = CrossFitted::default();
        for row in rows {
            model.add(row.user, row.choice.creative.into(), row.choice.audience.into(), reward(row));
        }
        let logged = rows.iter().map(|row| {
            let Choice { creative, audience, eligible, propensity, ref features, .. } = row.choice;
            let (creative, audience) = (usize::from(creative), usize::from(audience));
            let predict = |creative: usize| model.predict(row.user, creative, audience);
            let shares = target.shares(audience, features, eligible);
            let own = shares.iter().find(|(index, _)| *index == creative).map_or(0.0, |(_, share)| *share);
            let mean = shares.iter().map(|(index, share)| share * predict(*index)).sum();
            let modelled = Some(Modelled { logged: predict(creative), target: mean });
            Logged { reward: reward(row), propensity, target: own, modelled }
        });
        let logged: Vec<Logged> = logged.collect();
        let replicates = (DRAWS_MAX / logged.len().max(1)).min(*REPLICATES.end());
        let replicates = if replicates < *REPLICATES.start() { 0 } else { replicates };
        evaluate(&logged, &Options { clip: self.plan.clip, replicates, seed: self.plan.seed, confidence })
    }
}

fn refer<'a>(setting: &'a Rotating, catalogue: &'a Catalogue) -> Setting<'a> {
    let Rotating { campaign, audiences, features, floor, .. } = setting;
    Setting { campaign, audiences, features, floor: Floor::new(*floor).unwrap_or_default(), catalogue }
}

#[cfg(test)]
mod tests;
