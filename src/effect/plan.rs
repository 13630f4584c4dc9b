//! What to measure: the campaigns with their labels and planned splits, the groups, and the times.

use super::{dimension::Dimension, journeys::AttributionPlan};
use crate::{
    evaluation::Confidence,
    targeting::{campaign::Reward, money::Currency},
};
use std::collections::BTreeMap;

/// The outcome that a prediction is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    /// A click on the impression.
    Click,
    /// A conversion after it.
    Conversion,
}

impl Label {
    /// What a campaign predicts, by the action that it pays for. `None` for impressions: nothing is predicted. Outcomes
    /// only know clicks and conversions, so every other action is a conversion.
    pub fn of_action(action: Option<&str>) -> Option<Self> {
        match action {
            None | Some("impression") => None,
            Some("click") => Some(Self::Click),
            Some(_) => Some(Self::Conversion),
        }
    }

    /// What a campaign's creatives are rewarded for.
    pub fn of_reward(reward: Reward) -> Self {
        match reward {
            Reward::Click => Self::Click,
            Reward::Conversion => Self::Conversion,
        }
    }

    /// Its name in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Click => "click",
            Self::Conversion => "conversion",
        }
    }
}

/// What the configuration says of a campaign.
#[derive(Clone, Debug, PartialEq)]
pub struct CampaignPlan {
    /// What its probability is about.
    pub label: Option<Label>,
    /// What its creatives are rewarded for.
    pub reward: Label,
    /// The currency of its money.
    pub currency: Currency,
    /// The arms with their shares of all users, without the control.
    pub arms: Vec<(String, f64)>,
    /// The share of users who never see it.
    pub holdout: f64,
    /// The names of the features that its creatives are chosen by.
    pub features: Vec<String>,
}

/// What to measure.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The groups, each with its own table.
    pub by: Vec<Dimension>,
    /// The declared campaigns by id.
    pub campaigns: BTreeMap<String, CampaignPlan>,
    /// The declared experiment between models: its variants with their shares, without the control.
    pub variants: Vec<(String, f64)>,
    /// The age of an impression at which it is known whether it was clicked, in microseconds.
    pub click_after: i64,
    /// The age of an impression at which it is known whether a conversion followed, in microseconds.
    pub conversion_after: i64,
    /// Up to when the outcomes are complete, in microseconds since 1970. `None`: up to the last record.
    pub complete_until: Option<i64>,
    /// The confidence of all intervals.
    pub confidence: Confidence,
    /// The relative effect that experiments are planned for, above 0.
    pub effect: f64,
    /// The fewest users of a group by segment; 0 is any number.
    pub minimum_audience: u64,
    /// How conversions are divided among campaigns, if they are to be.
    pub attribution: Option<AttributionPlan>,
    /// Whether to collect what the pictures of a report need.
    pub charts: bool,
    /// Whether to tell the label of each impression, see [`Evaluation::take_labelled`](super::Evaluation::take_labelled).
    pub labels: bool,
}

impl Plan {
    /// The age at which a label is known.
    pub fn after(&self, label: Label) -> i64 {
        match label {
            Label::Click => self.click_after,
            Label::Conversion => self.conversion_after,
        }
    }
}
