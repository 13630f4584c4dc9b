//! The policies that may be asked about, and the probability with which each would have shown a creative.
//!
//! Guarantees: weights and what control has learned give the probabilities that a worker draws by, exactly: they come
//! from the same [`Chooser`]. So nothing is sampled, and the same log gives the same figures.

use crate::targeting::{
    creative::{Beta, Catalogue, Eligible, Floor},
    policy::{Chooser, CreativeMethod, CreativePolicy, EVERYBODY},
};
use std::collections::BTreeMap;

/// A policy of choosing creatives that is asked about.
#[derive(Clone, Debug)]
pub enum TargetPolicy {
    /// Every creative that fits with the same probability.
    Uniform,
    /// By the weights of the catalogue, with the floor of the campaign's rotation.
    Weight,
    /// Always the creative with the best expected reward, by what control has learned of each campaign.
    Best(BTreeMap<String, CreativePolicy>),
    /// As workers would choose with what control has learned of each campaign.
    Learned(BTreeMap<String, CreativePolicy>),
}

/// What the configuration says of a campaign's creatives.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting<'a> {
    pub(super) campaign: &'a str,
    pub(super) audiences: &'a [String],
    pub(super) features: &'a [String],
    pub(super) floor: Floor,
    pub(super) catalogue: &'a Catalogue,
}

/// The target policy of one campaign.
#[derive(Debug)]
pub(super) enum Target {
    Uniform,
    /// The number of the best creative is found among those that fit. By audience, everybody last: the mean of each.
    Greedy(Vec<Vec<f64>>),
    Chooser(Box<Chooser>),
}

/// How creatives are chosen without a policy.
pub(super) fn by_weight(setting: &Setting<'_>, floor: Floor) -> Chooser {
    chooser(None, floor, setting)
}

fn chooser(policy: Option<&CreativePolicy>, floor: Floor, setting: &Setting<'_>) -> Chooser {
    Chooser::new(policy, floor, setting.campaign, setting.audiences, setting.features, setting.catalogue)
}

impl Target {
    /// The policy for a campaign. An error says why there is none.
    pub(super) fn of(policy: &TargetPolicy, setting: &Setting<'_>) -> Result<Self, String> {
        let learned = |policies: &BTreeMap<String, CreativePolicy>| {
            policies.get(setting.campaign).cloned().ok_or_else(|| {
                format!(
                    "the policy says nothing of the creatives of {:?}: control has learned nothing",
                    setting.campaign
                )
            })
        };
        let chosen = |policy: &CreativePolicy| {
            let chooser = chooser(Some(policy), setting.floor, setting);
            if chooser.is_by_weight() && !matches!(policy.method, CreativeMethod::Weights) {
                return Err("the policy does not fit the configuration, so workers would choose by weight".to_owned());
            }
            Ok(Self::Chooser(Box::new(chooser)))
        };
        match policy {
            TargetPolicy::Uniform => Ok(Self::Uniform),
            TargetPolicy::Weight => Ok(Self::Chooser(Box::new(by_weight(setting, setting.floor)))),
            TargetPolicy::Learned(policies) => chosen(&learned(policies)?),
            TargetPolicy::Best(policies) => {
                let policy = learned(policies)?;
                match policy.method {
                    CreativeMethod::Thompson { posteriors, .. } if posteriors.is_empty() => {
                        Err("control has learned nothing of its creatives, so none is known to be the best".to_owned())
                    }
                    CreativeMethod::Thompson { prior, posteriors } => {
                        Ok(Self::Greedy(means(prior, &posteriors, setting)))
                    }
                    // Without a bonus for what is unknown and without exploration, LinUCB takes the best mean.
                    CreativeMethod::LinearThompson { linear, .. } | CreativeMethod::LinUcb { linear, .. } => {
                        let method = CreativeMethod::LinUcb { alpha: 0.0, epsilon: 0.0, linear };
                        chosen(&CreativePolicy { floor: 0.0, method })
                    }
                    CreativeMethod::Weights | CreativeMethod::Unknown => {
                        Err("creatives are chosen by weight, so none is known to be the best".to_owned())
                    }
                }
            }
        }
    }

    /// The probability of each creative that fits.
    pub(super) fn shares(&mut self, audience: usize, features: &[f64], eligible: Eligible) -> Vec<(usize, f64)> {
        match self {
            Self::Uniform => eligible.iter().map(|index| (index, 1.0 / eligible.count() as f64)).collect(),
            Self::Greedy(means) => {
                let Some(everybody) = means.len().checked_sub(1) else { return Vec::new() };
                let means = &means[audience.min(everybody)];
                let mean = |index: usize| means.get(index).copied().unwrap_or(f64::NEG_INFINITY);
                // The first of equals.
                let best = eligible.iter().reduce(|best, next| if mean(next) > mean(best) { next } else { best });
                eligible.iter().map(|index| (index, f64::from(u8::from(Some(index) == best)))).collect()
            }
            Self::Chooser(chooser) => {
                chooser.shares(audience, features, eligible).map(|it| it.iter().collect()).unwrap_or_default()
            }
        }
    }
}

/// By audience and creative, the mean reward that control expects: that of the audience, else of everybody, else of the
/// prior, as workers take it.
fn means(prior: Beta, posteriors: &BTreeMap<String, BTreeMap<String, Beta>>, setting: &Setting<'_>) -> Vec<Vec<f64>> {
    let of = |audience: &str| {
        let beta = |id: &str| {
            let known = posteriors.get(id)?;
            known.get(audience).or_else(|| known.get(EVERYBODY)).copied()
        };
        let creatives = setting.catalogue.of(setting.campaign);
        creatives.map(|creative| beta(&creative.spec.id).unwrap_or(prior).mean()).collect()
    };
    setting.audiences.iter().map(String::as_str).chain([EVERYBODY]).map(of).collect()
}
