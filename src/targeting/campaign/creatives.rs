//! The creatives of a campaign: which of them fit a row, and which one is shown.
//!
//! A creative fits if it is active, the user is in its audience, its rule holds and its caps are not reached. One of
//! those that fit is drawn by weight, with a floor that keeps every one of them measurable.

use super::{
    Held, RowContext,
    audience::Audience,
    caps::Caps,
    rotation::{Rotation, RotationMethod},
};
use crate::{
    canary::{self, Canary},
    columns::{Columns, Slot, Type},
    config_error::ConfigError,
    expression::{Program, Scope, nearest},
    targeting::{
        creative::{Catalogue, CreativeSpec, Draw, Eligible},
        policy::CompiledPolicy,
    },
};

/// The creative of a bid.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ShownCreative {
    /// Its index in the catalogue.
    pub creative: usize,
    /// The probability of this choice among those that fit.
    pub propensity: f64,
    /// How it was chosen. By weight, as long as nothing is known.
    pub method: RotationMethod,
    /// The index of the audience whose outcomes decided, among the campaign's. `None` for everybody.
    pub audience: Option<u8>,
    /// Where its features are in [`super::Choice::features`].
    features: (u32, u32),
}

impl ShownCreative {
    /// The features that it was chosen by, among those of all creatives of the decision. Empty unless the campaign's
    /// rotation reads features.
    pub fn features(self, all: &[f64]) -> &[f64] {
        all.get(self.features.0 as usize..self.features.1 as usize).unwrap_or_default()
    }

    /// A choice whose text is as long as it can be. Its features are added to those of the decision.
    pub(super) fn largest(creative: usize, audience: Option<u8>, features: usize, all: &mut Vec<f64>) -> Self {
        let (longest, start) = (0.1 + 0.2, all.len() as u32);
        all.resize(all.len() + features, -longest);
        let (method, features) = (RotationMethod::LinearThompson, (start, all.len() as u32));
        Self { creative, propensity: longest, method, audience, features }
    }
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
    /// Those that are not paused.
    active: Eligible,
    /// The campaign's part of a draw.
    salt: u64,
}

impl Creatives {
    /// Compiles the creatives of a campaign with this audience. Errors are added under `creative[i]`.
    pub(super) fn compile(
        (campaign, of_campaign): (&str, &Audience),
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
            if audience.clashes_with(of_campaign) {
                let message = format!("the audiences of the creative and of campaign {campaign:?} exclude each other");
                let hint = "change one of them: nobody sees the creative";
                errors.push(ConfigError::new(format!("{path}.segments"), message).hint(hint));
            }
            it.all.push(Candidate { number, audience, rule });
        }
        it
    }

    /// The number of creatives.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Their indexes in the catalogue.
    pub(super) fn numbers(&self) -> impl Iterator<Item = usize> + '_ {
        self.all.iter().map(|candidate| candidate.number)
    }

    /// Whether the campaign has creatives. Without any, decisions leave the choice to the bidder.
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The creatives that fit a row. `small` are the segments that are too small.
    pub(super) fn fitting(
        &self,
        columns: &Columns,
        row: usize,
        (held, small): (&Held, &[u64]),
        caps: &Caps,
    ) -> Eligible {
        let fits = |index: &usize| {
            let Candidate { number, audience, rule } = &self.all[*index];
            audience.has(held)
                && !audience.is_small(held, small)
                && rule.is_none_or(|rule| columns.get(rule).bools()[row].holds())
                && !caps.is_creative_capped(columns, row, *number)
        };
        self.active.iter().filter(fits).collect()
    }

    /// Draws one of those that fit.
    pub(super) fn draw(
        &self,
        (campaign, fitting): (usize, Eligible),
        rotation: &Rotation,
        policy: &mut CompiledPolicy,
        (columns, row, context): (&Columns, usize, &RowContext<'_>),
        features: &mut Vec<f64>,
    ) -> Option<ShownCreative> {
        if fitting.is_empty() {
            return None;
        }
        let decision = if canary::is_in(Canary::DrawOfWorker) {
            context.decision ^ std::ptr::from_ref(self).addr() as u64
        } else {
            context.decision
        };
        let draw = Draw::new(decision, policy.version(), self.salt);
        let audience = rotation.audience(context.segments);
        let start = features.len();
        rotation.read(columns, row, features);
        let chosen = policy.choose(campaign, audience, &features[start..], fitting, draw)?;
        let method = if policy.is_by_weight(campaign) { RotationMethod::Weights } else { rotation.method };
        Some(ShownCreative {
            creative: self.all[chosen.index].number,
            propensity: chosen.propensity,
            method,
            // There are at most 16.
            audience: (audience < rotation.audiences.len()).then_some(audience as u8),
            features: (start as u32, features.len() as u32),
        })
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
