//! What became of the impressions of each creative.

use super::Labelled;
use crate::{
    effect::{group::Known, plan::Label},
    evaluation::{Confidence, business::Rate},
};
use serde::Serialize;
use std::collections::BTreeMap;

/// The most creatives; those beyond are in no picture.
pub(super) const CREATIVES_MAX: usize = 10_000;

/// A creative of a campaign. Impressions count for the creative that the decision chose.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CreativeReport {
    /// The campaign.
    pub campaign: String,
    /// The creative.
    pub creative: String,
    /// Impressions.
    pub impressions: u64,
    /// Of those that are old enough, how many were clicked.
    pub click_rate: Option<Rate>,
    /// Of the clicked that are old enough, how many a conversion followed.
    pub conversion_rate: Option<Rate>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    impressions: u64,
    clicks: Known,
    conversions: Known,
}

#[derive(Debug, Default)]
pub(super) struct Creatives {
    numbers: BTreeMap<String, BTreeMap<String, u32>>,
    sums: Vec<Sums>,
}

impl Creatives {
    pub(super) fn number(&mut self, campaign: &str, creative: &str) -> Option<u32> {
        if let Some(number) = self.numbers.get(campaign).and_then(|of| of.get(creative)) {
            return Some(*number);
        }
        if self.sums.len() >= CREATIVES_MAX {
            return None;
        }
        let number = self.sums.len() as u32;
        self.sums.push(Sums::default());
        self.numbers.entry(campaign.to_owned()).or_default().insert(creative.to_owned(), number);
        Some(number)
    }

    pub(super) fn label(&mut self, of: &Labelled) {
        let Some(sums) = of.creative.and_then(|number| self.sums.get_mut(number as usize)) else { return };
        match of.label {
            Label::Click => {
                sums.impressions += 1;
                sums.clicks.note(of.is_success);
            }
            Label::Conversion if of.is_counted => sums.conversions.note(of.is_success),
            Label::Conversion => {}
        }
    }

    pub(super) fn report(&self, confidence: Confidence) -> Vec<CreativeReport> {
        let rate = |known: Known| Rate::new(known.successes, known.of, confidence);
        let all = self.numbers.iter().flat_map(|(campaign, of)| of.iter().map(move |(id, at)| (campaign, id, *at)));
        let report = |(campaign, creative, at): (&String, &String, u32)| {
            let sums = self.sums.get(at as usize).copied().unwrap_or_default();
            CreativeReport {
                campaign: campaign.clone(),
                creative: creative.clone(),
                impressions: sums.impressions,
                click_rate: rate(sums.clicks),
                conversion_rate: rate(sums.conversions),
            }
        };
        all.map(report).collect()
    }
}
