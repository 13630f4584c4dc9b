//! What the pictures of a report need beyond the figures of groups.
//!
//! Owns the sums over time, by creative, by segment and by feature, and turns them into [`Charts`]. They cost time and
//! memory, so they are only kept if [`Plan::charts`](super::Plan::charts) asks for them. Limits: [`buckets`] of time,
//! [`creatives::CREATIVES_MAX`], [`audiences::SEGMENTS_MAX`] segments of [`audiences::USERS_MAX`] users, and
//! [`drift::FEATURES_MAX`] features: about 60 MB together.

mod audiences;
mod buckets;
mod creatives;
mod drift;
mod spend;
#[cfg(test)]
mod tests;
mod timeline;

pub use audiences::{Audiences, Overlap, SegmentSize};
pub use creatives::CreativeReport;
pub use drift::{Drift, FeatureDrift, Shift};
pub use spend::{SpendDay, SpendReport};
pub use timeline::{TimePoint, Timeline};

use super::{Plan, dimension::Decided, group::Group, plan::Label};
use crate::{
    control::{CampaignSetup, State},
    evaluation::{Confidence, CurvePoint, MassBin, business::Rate},
};
use audiences::AudienceSums;
use creatives::Creatives;
use drift::DriftSums;
use serde::Serialize;
use timeline::Sums;

/// The bins of the reliability diagram, and the tenths of the lift.
const TENTHS: usize = 10;
/// The points of the curves.
const POINTS: usize = 120;

/// A tenth of the impressions, by their prediction.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Tenth {
    /// Impressions with a known label; a tenth may end within rows of one score.
    pub impressions: f64,
    /// The mean prediction.
    pub predicted: f64,
    /// The share that succeeded.
    pub observed: Rate,
    /// The share over that of all; 1 is average. `None` if nothing succeeded.
    pub lift: Option<f64>,
}

/// The data of the pictures.
#[derive(Clone, Debug, Serialize)]
pub struct Charts {
    /// Rates over time.
    pub timeline: Timeline,
    /// Tenths of the impressions by their prediction, lowest first. Empty without enough known labels.
    pub tenths: Vec<Tenth>,
    /// The ROC and precision-recall curves. Empty with labels of one class.
    pub curve: Vec<CurvePoint>,
    /// Segments and their overlap.
    pub audiences: Audiences,
    /// Campaigns with a budget.
    pub spend: Vec<SpendReport>,
    /// Creatives, by campaign.
    pub creatives: Vec<CreativeReport>,
    /// What has changed in the predictions and features during the log.
    pub drift: Drift,
}

/// What is collected for them.
#[derive(Debug)]
pub(super) struct Collected {
    timeline: Sums,
    audiences: AudienceSums,
    drift: DriftSums,
    creatives: Creatives,
    /// The campaigns with a budget.
    budgets: Vec<CampaignSetup>,
}

impl Collected {
    pub(super) fn new(campaigns: &[CampaignSetup]) -> Self {
        Self {
            timeline: Sums::default(),
            audiences: AudienceSums::default(),
            drift: DriftSums::default(),
            creatives: Creatives::default(),
            budgets: campaigns.iter().filter(|campaign| campaign.budget.is_some()).cloned().collect(),
        }
    }

    /// Takes in a decision that counts.
    pub(super) fn decided(&mut self, plan: &Plan, decided: &Decided<'_>, user: u64) {
        self.timeline.decided(decided.offered.decided_at);
        self.audiences.add(user, &decided.details.segments);
        self.drift.add(plan, decided);
    }

    /// The number of an offer's creative. `None` without one, or if there are too many.
    pub(super) fn creative(&mut self, campaign: &str, creative: Option<&str>) -> Option<u32> {
        self.creatives.number(campaign, creative?)
    }

    /// Counts a label of an impression, or that it is not known.
    pub(super) fn label(&mut self, of: Labelled) {
        self.timeline.label(&of);
        self.creatives.label(&of);
    }

    pub(super) fn report(&self, all: &Group, state: &State, confidence: Confidence, last: i64) -> Charts {
        let figures = all.sketch.figures(1);
        let is_enough = figures.rows >= super::report::ROWS_MIN;
        let overall = figures.observed.filter(|share| *share > 0.0);
        let tenth = |bin: MassBin| {
            let successes = (bin.observed * bin.weight).round() as u64;
            let observed = Rate::new(successes, bin.weight.round() as u64, confidence)?;
            let lift = overall.map(|overall| bin.observed / overall);
            Some(Tenth { impressions: bin.weight, predicted: bin.predicted, observed, lift })
        };
        let bins = if is_enough { all.sketch.reliability(TENTHS) } else { Vec::new() };
        Charts {
            timeline: self.timeline.report(confidence),
            tenths: bins.into_iter().filter_map(tenth).collect(),
            curve: if is_enough { all.sketch.curve(POINTS) } else { Vec::new() },
            audiences: self.audiences.report(),
            spend: self.budgets.iter().filter_map(|setup| spend::report(setup, state, last)).collect(),
            creatives: self.creatives.report(confidence),
            drift: self.drift.report(),
        }
    }
}

/// A label of an impression.
#[derive(Clone, Copy, Debug)]
pub(super) struct Labelled {
    /// When it was shown.
    pub(super) at: i64,
    /// The number of its creative.
    pub(super) creative: Option<u32>,
    pub(super) label: Label,
    /// Whether it succeeded. `None` if that is not known.
    pub(super) is_success: Option<bool>,
    /// Whether it counts for the rate: only clicked impressions count for that of conversions.
    pub(super) is_counted: bool,
}
