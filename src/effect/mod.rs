//! What decisions achieved: outcomes joined to decisions, and measured by group, by experiment, and for other policies.
//!
//! ```text
//! decisions ─► ┐                      ┌─► groups ─► rates, money, quality of predictions
//!              ├─► control's join ──► ┼─► trials ─► arms against each other
//!              │                      ├─► journeys ─► which campaigns earned the conversions
//! outcomes ──► ┘                      └─► choices ─► what another policy would have earned
//! ```
//!
//! Owns the fold ([`Evaluation`]), its plan ([`Plan`]) and its result ([`EffectReport`]). The statistics are those of
//! [`crate::evaluation`], and the join is that of [`crate::control`], so that both say the same of a log.
//!
//! Guarantees: one pass; the same records in the same order give the same report. What is not known is `None`, with a
//! sentence that says why, and never a 0. Limits: memory is bounded by `control.touches_max`, `control.outcomes_max`
//! and the constants of this module: 1 M offers, 1 M impressions, 500 groups of a grouping, 2 M rows of users, 2 M
//! members of experiments, 2 M touches, and 1 M choices. Not covered: reading files, and writing reports.

mod charts;
mod dimension;
mod fewer;
mod fold;
mod group;
mod groups;
mod halving;
mod journeys;
mod plan;
mod policy;
mod report;
mod rows;
mod settle;
#[cfg(test)]
mod tests;
mod trial;
mod users;
mod verdict;

pub use charts::{
    Audiences, Charts, CreativeReport, Drift, FeatureDrift, Overlap, SegmentSize, Shift, SpendDay, SpendReport, Tenth,
    TimePoint, Timeline,
};
pub use dimension::Dimension;
pub use fold::{Evaluation, Taken, Totals};
pub use journeys::{Attributed, AttributionPlan, AttributionReport, TouchKind};
pub use plan::{CampaignPlan, Label, Plan};
pub use policy::{PolicyPlan, PolicyReport, Rotating, TargetPolicy};
pub use report::{EffectReport, Finished, GroupReport, GroupingReport, Money, Quality, Span, age};
pub use rows::LabelledImpression;
pub use verdict::{ArmReport, ComparisonReport, TrialReport};

use crate::evaluation::{
    attribution::AttributionError, business::Overflow, experiment::ExperimentError, sample::SampleError,
    sketch::SketchError,
};

/// Why nothing can be measured. None of these happens with records that were read.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum EffectError {
    /// A sum does not fit.
    #[error(transparent)]
    Overflow(#[from] Overflow),
    /// A prediction is no probability.
    #[error(transparent)]
    Sketch(#[from] SketchError),
    /// A row is out of range.
    #[error(transparent)]
    Sample(#[from] SampleError),
    /// A journey is out of range.
    #[error(transparent)]
    Attribution(#[from] AttributionError),
    /// An experiment's numbers are out of range.
    #[error(transparent)]
    Experiment(#[from] ExperimentError),
}
