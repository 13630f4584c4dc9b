//! The creatives of a campaign: which of them fit a row, and which one is shown.
//!
//! A creative fits if it is active, the user is in its audience, its rule holds and its caps are not reached. One of
//! those that fit is drawn by weight, with a floor that keeps every one of them measurable.

use super::{Held, audience::Audience, caps::Caps};
use crate::{
    canary::{self, Canary},
    columns::{Columns, Slot, Type},
    config_error::ConfigError,
    expression::{Program, Scope, nearest},
    targeting::creative::{Catalogue, Chosen, CreativeSpec, Draw, Eligible, Floor, by_weight},
};

/// The creative of a bid.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ShownCreative {
    /// Its index in the catalogue.
    pub creative: usize,
    /// The probability of this choice among those that fit.
    pub propensity: f64,
}

/// A creative of a campaign.
#[derive(Debug)]
struct Candidate {
    /// Its index in the catalogue.
    number: usize,
    audience: Audience,
    rule: Option<Slot>,
}

/// The creatives of one campaign, in declaration order.
#[derive(Debug, Default)]
pub(super) struct Creatives {
    all: Vec<Candidate>,
    weights: Vec<f64>,
    /// Those that are not paused.
    active: Eligible,
    /// The campaign's part of a draw.
    salt: u64,
}

impl Creatives {
    /// Compiles the creatives of a campaign. Errors are added under `creative[i]`.
    pub(super) fn compile(
        campaign: &str,
        specs: &[CreativeSpec],
        catalogue: &Catalogue,
        segments: &[&str],
        (program, scope): (&mut Program, &mut Scope),
        errors: &mut Vec<ConfigError>,
    ) -> Self {
        let mut it = Self { active: catalogue.active(campaign), salt: Draw::word(campaign), ..Self::default() };
        for (number, spec) in specs.iter().enumerate().filter(|(_, spec)| spec.campaign == campaign) {
            let path = format!("creative[{number}]");
            let rule = spec.filter.as_deref().and_then(|rule| {
                let slot = program.add(scope, rule, Some(Type::Bool));
                slot.map_err(|error| errors.push(error.config_error(format!("{path}.where")))).ok()
            });
            let audience = Audience::compile(&path, "creative", &spec.segments, segments, errors);
            it.all.push(Candidate { number, audience, rule });
            it.weights.push(spec.weight);
        }
        it
    }

    /// The number of creatives.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether the campaign has creatives. Without any, decisions leave the choice to the bidder.
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The creatives that fit a row.
    pub(super) fn fitting(&self, columns: &Columns, row: usize, held: &Held, caps: &Caps) -> Eligible {
        let fits = |index: &usize| {
            let Candidate { number, audience, rule } = &self.all[*index];
            audience.has(held)
                && rule.is_none_or(|rule| columns.get(rule).bools()[row].holds())
                && !caps.is_creative_capped(columns, row, *number)
        };
        self.active.iter().filter(fits).collect()
    }

    /// Draws one of those that fit. `decision` is the [`Draw::word`] of the decision's id.
    pub(super) fn draw(&self, fitting: Eligible, decision: u64) -> Option<ShownCreative> {
        let decision = if canary::is_in(Canary::DrawOfWorker) {
            decision ^ std::ptr::from_ref(self).addr() as u64
        } else {
            decision
        };
        // Version 0: there is no policy.
        let draw = Draw::new(decision, 0, self.salt);
        let Chosen { index, propensity, .. } = by_weight(&self.weights, fitting, Floor::default(), draw)?;
        Some(ShownCreative { creative: self.all[index].number, propensity })
    }
}

/// Reports creatives of campaigns that do not exist.
pub(super) fn check_campaigns(specs: &[CreativeSpec], campaigns: &[&str], errors: &mut Vec<ConfigError>) {
    for (index, spec) in specs.iter().enumerate().filter(|(_, spec)| !campaigns.contains(&spec.campaign.as_str())) {
        let error = ConfigError::new(
            format!("creative[{index}].campaign"),
            format!("there is no campaign {:?}", spec.campaign),
        );
        errors.push(match nearest(&spec.campaign, campaigns.iter().copied()) {
            Some(near) => error.hint(format!("did you mean {near:?}?")),
            None => error.hint("declare it under [[campaign]]"),
        });
    }
}
