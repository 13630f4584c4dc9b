//! What was learned about a campaign's creatives.

use super::CampaignSetup;
use crate::targeting::{
    campaign::Learning,
    creative::{BetaArm, LinearArm},
    policy::{CreativeMethod, CreativePolicy, EVERYBODY, LinearPolicy},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The most creatives and audiences of a campaign that are learned about. A campaign has at most 64 creatives; those
/// that were removed keep what was learned.
const ARMS_MAX: usize = 4_096;

/// The state of a campaign's creatives.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in super::super) struct Arms {
    /// By creative and audience.
    pub(in super::super) beta: BTreeMap<(String, String), BetaArm>,
    /// By creative.
    pub(in super::super) linear: BTreeMap<String, NamedArm>,
}

/// A linear arm and the names of its features. If they change, it starts anew.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct NamedArm {
    pub(in super::super) features: Vec<String>,
    pub(in super::super) arm: LinearArm,
}

/// An impression whose success is known.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Lesson<'a> {
    pub(in super::super) creative: &'a str,
    pub(in super::super) audience: &'a str,
    pub(in super::super) features: &'a [f64],
    pub(in super::super) shown_at: i64,
    pub(in super::super) is_success: bool,
}

/// An arm that has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Changed {
    Beta(String, String),
    Linear(String),
}

impl Arms {
    /// Learns from an impression, and returns what has changed. Every user also counts for everybody.
    pub(in super::super) fn learn(&mut self, setup: &CampaignSetup, lesson: &Lesson<'_>) -> Vec<Changed> {
        let reward = f64::from(u8::from(lesson.is_success));
        let creative = lesson.creative.to_owned();
        match &setup.learning {
            Learning::Weights => Vec::new(),
            Learning::Thompson { half_life, .. } => {
                let others = Some(lesson.audience).filter(|audience| *audience != EVERYBODY);
                let mut changed = Vec::new();
                for audience in [EVERYBODY].into_iter().chain(others) {
                    let id = (creative.clone(), audience.to_owned());
                    if self.beta.len() >= ARMS_MAX && !self.beta.contains_key(&id) {
                        continue;
                    }
                    if self.beta.entry(id.clone()).or_default().update(lesson.shown_at, reward, *half_life) {
                        changed.push(Changed::Beta(id.0, id.1));
                    }
                }
                changed
            }
            Learning::LinearThompson { ridge, features, .. } | Learning::LinUcb { ridge, features, .. } => {
                let Some(new) = LinearArm::new(features.len(), *ridge) else { return Vec::new() };
                if self.linear.len() >= ARMS_MAX && !self.linear.contains_key(lesson.creative) {
                    return Vec::new();
                }
                let new = NamedArm { features: features.clone(), arm: new };
                let named = self.linear.entry(creative.clone()).or_insert_with(|| new.clone());
                if named.features != *features {
                    *named = new;
                }
                // A decision of an earlier configuration, with other features, is refused.
                if named.arm.update(lesson.features, reward) { vec![Changed::Linear(creative)] } else { Vec::new() }
            }
        }
    }

    /// What the policy says of the creatives at a time in microseconds since 1970.
    pub(in super::super) fn policy(&self, setup: &CampaignSetup, at: i64) -> Option<CreativePolicy> {
        let linear = |ridge: f64, features: &[String]| {
            let fits = |named: &NamedArm| if named.features == features { named.arm.posterior() } else { None };
            let posteriors = self.linear.iter().filter_map(|(id, named)| Some((id.clone(), fits(named)?))).collect();
            LinearPolicy { ridge, features: features.to_vec(), posteriors }
        };
        let method = match &setup.learning {
            Learning::Weights => return None,
            Learning::Thompson { prior, half_life } => {
                let mut posteriors: BTreeMap<String, BTreeMap<String, _>> = BTreeMap::new();
                for ((creative, audience), arm) in &self.beta {
                    let beta = arm.posterior(at, *prior, *half_life);
                    if beta.is_valid() {
                        posteriors.entry(creative.clone()).or_default().insert(audience.clone(), beta);
                    }
                }
                CreativeMethod::Thompson { prior: *prior, posteriors }
            }
            Learning::LinearThompson { noise, ridge, features } => {
                CreativeMethod::LinearThompson { noise: *noise, linear: linear(*ridge, features) }
            }
            Learning::LinUcb { alpha, epsilon, ridge, features } => {
                CreativeMethod::LinUcb { alpha: *alpha, epsilon: *epsilon, linear: linear(*ridge, features) }
            }
        };
        Some(CreativePolicy { floor: setup.floor, method })
    }
}
