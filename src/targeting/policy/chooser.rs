//! A campaign's creatives, ready to choose from.

use super::{CreativeMethod, CreativePolicy, EVERYBODY, LinearPolicy};
use crate::targeting::creative::{
    Beta, Catalogue, Chosen, Creative, Draw, Eligible, Floor, Linear, LinearArm, LinearMethod, Shares, Thompson,
    by_weight, weight_shares,
};
use std::collections::BTreeMap;

/// How many sets of eligible creatives Thompson sampling remembers for each audience. Campaigns rarely have more at a
/// time: a set is made by rules, caps and sizes.
const SETS: usize = 64;

/// Chooses one of a campaign's creatives.
#[derive(Clone, Debug)]
pub struct Chooser {
    /// The weights in the order of the catalogue.
    weights: Vec<f64>,
    floor: Floor,
    /// The largest share of each, if one has a limit.
    limits: Option<Vec<f64>>,
    method: Method,
}

#[derive(Clone, Debug)]
enum Method {
    Weights,
    /// One for each audience, in the order of the campaign's audiences, and one for everybody at the end.
    Thompson(Vec<Thompson>),
    Linear(Linear),
}

impl Chooser {
    /// Prepares what control has learned for the creatives of the catalogue. A creative that the policy does not know
    /// has the prior, its own or that of the campaign, so that it is tried at once. A creative that the catalogue does not have is left out. Without a
    /// policy, or if it does not fit the campaign's features, the weights choose. `floor` is that of the campaign's
    /// rotation, which counts as long as there is no policy.
    pub fn new(
        policy: Option<&CreativePolicy>,
        floor: Floor,
        campaign: &str,
        audiences: &[String],
        features: &[String],
        catalogue: &Catalogue,
    ) -> Self {
        let creatives = catalogue.of(campaign);
        let floor = policy.and_then(|policy| Floor::new(policy.floor)).unwrap_or(floor);
        let method = match policy.map(|policy| &policy.method) {
            Some(CreativeMethod::Thompson { prior, posteriors }) => {
                thompson(*prior, posteriors, audiences, creatives.clone(), floor)
            }
            Some(CreativeMethod::LinearThompson { noise, linear }) => {
                let method = LinearMethod::Thompson { noise: *noise };
                of_linear(linear, method, features, creatives.clone(), floor)
            }
            Some(CreativeMethod::LinUcb { alpha, epsilon, linear }) => {
                let method = LinearMethod::Ucb { alpha: *alpha, epsilon: *epsilon };
                of_linear(linear, method, features, creatives.clone(), floor)
            }
            Some(CreativeMethod::Weights | CreativeMethod::Unknown) | None => None,
        };
        Self {
            limits: limits(creatives.clone()),
            weights: creatives.map(|creative| creative.spec.weight).collect(),
            floor,
            method: method.unwrap_or(Method::Weights),
        }
    }

    /// Chooses among the eligible creatives, which have the catalogue's numbers. `audience` is the index of the user's
    /// audience among the campaign's; any other number stands for everybody. `features` are those of a linear bandit;
    /// if their number is wrong, the weights choose. `None` if no creative is eligible. Allocates nothing.
    pub fn choose(&mut self, audience: usize, features: &[f64], eligible: Eligible, draw: Draw) -> Option<Chosen> {
        if self.limits.is_some() {
            return Some(self.shares(audience, features, eligible)?.pick(draw));
        }
        let eligible = eligible.and(Eligible::all(self.weights.len()));
        let learned = match &mut self.method {
            Method::Weights => None,
            Method::Thompson(audiences) => {
                let everybody = audiences.len().checked_sub(1)?;
                audiences.get_mut(audience.min(everybody))?.choose(eligible, draw)
            }
            Method::Linear(linear) => linear.choose(features, eligible, draw),
        };
        learned.or_else(|| by_weight(&self.weights, eligible, self.floor, draw))
    }

    /// The probabilities that [`Chooser::choose`] draws by.
    pub fn shares(&mut self, audience: usize, features: &[f64], eligible: Eligible) -> Option<Shares> {
        let eligible = eligible.and(Eligible::all(self.weights.len()));
        let learned = match &mut self.method {
            Method::Weights => None,
            Method::Thompson(audiences) => {
                let everybody = audiences.len().checked_sub(1)?;
                audiences.get_mut(audience.min(everybody))?.shares(eligible)
            }
            Method::Linear(linear) => linear.shares(features, eligible),
        };
        let shares = learned.or_else(|| weight_shares(&self.weights, eligible, self.floor))?;
        Some(match &self.limits {
            None => shares,
            Some(limits) => shares.capped(limits),
        })
    }

    /// Whether the weights of the catalogue choose.
    pub fn is_by_weight(&self) -> bool {
        matches!(self.method, Method::Weights)
    }
}

/// The largest share of each creative; `None` if no creative has a limit.
fn limits<'a>(creatives: impl Iterator<Item = &'a Creative>) -> Option<Vec<f64>> {
    let limits: Vec<f64> = creatives.map(|it| it.spec.trial.map_or(1.0, |trial| trial.share_max)).collect();
    limits.iter().any(|limit| *limit < 1.0).then_some(limits)
}

/// A posterior with the creative's own prior in place of the campaign's, which control has added to the outcomes.
fn with_own(posterior: Beta, prior: Beta, own: Option<Beta>) -> Beta {
    let Some(own) = own else { return posterior };
    let swapped = |all: f64, prior: f64, own: f64| (all - prior).max(0.0) + own;
    Beta {
        alpha: swapped(posterior.alpha, prior.alpha, own.alpha),
        beta: swapped(posterior.beta, prior.beta, own.beta),
    }
}

fn thompson<'a>(
    prior: Beta,
    posteriors: &BTreeMap<String, BTreeMap<String, Beta>>,
    audiences: &[String],
    creatives: impl Iterator<Item = &'a Creative> + Clone,
    floor: Floor,
) -> Option<Method> {
    let of = |audience: &str| {
        let known = |creative: &Creative| {
            let by_audience = posteriors.get(&creative.spec.id)?;
            // What everybody does is a better guess than the prior.
            by_audience.get(audience).or_else(|| by_audience.get(EVERYBODY)).copied()
        };
        let of_creative = |creative: &Creative| {
            let own = creative.spec.trial.and_then(|trial| trial.prior());
            with_own(known(creative).unwrap_or(prior), prior, own)
        };
        let betas: Vec<Beta> = creatives.clone().map(of_creative).collect();
        Thompson::new(&betas, floor, SETS)
    };
    let names = audiences.iter().map(String::as_str).chain([EVERYBODY]);
    names.map(of).collect::<Option<Vec<_>>>().map(Method::Thompson)
}

fn of_linear<'a>(
    policy: &LinearPolicy,
    method: LinearMethod,
    features: &[String],
    creatives: impl Iterator<Item = &'a Creative>,
    floor: Floor,
) -> Option<Method> {
    if policy.features != features {
        return None;
    }
    let prior = LinearArm::new(features.len(), policy.ridge)?.posterior()?;
    let arms = creatives.map(|it| policy.posteriors.get(&it.spec.id).unwrap_or(&prior).clone()).collect();
    Linear::new(arms, method, floor).map(Method::Linear)
}
