//! Campaigns in a JSON decision.

use super::{Template, text};
use crate::targeting::campaign::{Bid, Campaigns, Refusal, ShownCreative};

/// What is the same for every decision, encoded once.
#[derive(Clone, Debug, Default)]
pub(super) struct Offers {
    /// By campaign.
    campaigns: Vec<Encoded>,
    /// By creative: its id.
    creatives: Vec<Vec<u8>>,
}

/// A campaign's id, arms and audiences as strings, and its currency and deals as members.
#[derive(Clone, Debug)]
struct Encoded {
    id: Vec<u8>,
    currency: Vec<u8>,
    deals: Vec<u8>,
    arms: Vec<Vec<u8>>,
    audiences: Vec<Vec<u8>>,
    is_budgeted: bool,
}

impl Offers {
    pub(super) fn new(campaigns: &Campaigns) -> Self {
        let encoded = |value: &str| text(value).into_bytes();
        Self {
            campaigns: campaigns
                .all()
                .iter()
                .map(|campaign| Encoded {
                    id: encoded(&campaign.id),
                    currency: format!(",\"currency\":\"{}\"", campaign.currency).into_bytes(),
                    deals: deals(&campaign.deals),
                    arms: campaign.arms().iter().map(|arm| encoded(arm)).collect(),
                    audiences: campaign.rotation.audiences.iter().map(|id| encoded(id)).collect(),
                    is_budgeted: campaign.budget.is_some(),
                })
                .collect(),
            creatives: campaigns.creatives().iter().map(|creative| encoded(&creative.spec.id)).collect(),
        }
    }

    /// The id of a bid's campaign.
    pub(super) fn id(&self, bid: &Bid) -> &[u8] {
        &self.campaigns[bid.campaign as usize].id
    }

    /// The id of a creative.
    pub(super) fn creative(&self, shown: ShownCreative) -> &[u8] {
        &self.creatives[shown.creative]
    }
}

impl Template {
    pub(super) fn write_campaigns(&self, bids: &[Bid], features: &[f64], to: &mut Vec<u8>) {
        to.push(b'[');
        for (index, bid) in bids.iter().enumerate() {
            let Encoded { id, currency, deals, arms, audiences, .. } = &self.offers.campaigns[bid.campaign as usize];
            to.extend_from_slice(if index == 0 { b"{\"id\":" } else { b",{\"id\":" });
            to.extend_from_slice(id);
            if let Some(arm) = bid.arm {
                to.extend_from_slice(b",\"arm\":");
                to.extend_from_slice(&arms[usize::from(arm)]);
            }
            to.extend_from_slice(b",\"value_micros\":");
            self.write_long(bid.value.0, to);
            to.extend_from_slice(b",\"probability\":");
            write_double(bid.probability, to);
            to.extend_from_slice(b",\"bid_micros\":");
            self.write_long(bid.bid.0, to);
            if let Some(shaded) = bid.shaded {
                to.extend_from_slice(b",\"shaded_micros\":");
                self.write_long(shaded.0, to);
            }
            to.extend_from_slice(b",\"floor_micros\":");
            self.write_long(bid.floor.0, to);
            to.extend_from_slice(currency);
            if let Some(share) = bid.pass_through {
                to.extend_from_slice(b",\"pass_through\":");
                write_double(share.share(), to);
            }
            if let Some(shown) = bid.creative {
                to.extend_from_slice(b",\"creative\":{\"id\":");
                to.extend_from_slice(self.offers.creative(shown));
                to.extend_from_slice(b",\"propensity\":");
                write_double(shown.propensity, to);
                to.extend_from_slice(b",\"policy\":\"");
                to.extend_from_slice(shown.method.as_str().as_bytes());
                to.push(b'"');
                if let Some(audience) = shown.audience {
                    to.extend_from_slice(b",\"audience\":");
                    to.extend_from_slice(&audiences[usize::from(audience)]);
                }
                write_features(shown.features(features), to);
                to.push(b'}');
            }
            to.extend_from_slice(deals);
            to.push(b'}');
        }
        to.push(b']');
    }

    /// Writes the refusals: all of them, or those that control has to learn of.
    pub(super) fn write_suppressed(&self, refused: &[Refusal], all: bool, to: &mut Vec<u8>) {
        to.push(b'[');
        let mut is_first = true;
        for Refusal { campaign, reason } in refused {
            let Encoded { id, is_budgeted, .. } = &self.offers.campaigns[*campaign as usize];
            if !reason.is_listed(all, *is_budgeted) {
                continue;
            }
            to.extend_from_slice(if is_first { b"{\"campaign_id\":" } else { b",{\"campaign_id\":" });
            is_first = false;
            to.extend_from_slice(id);
            to.extend_from_slice(b",\"reason\":\"");
            to.extend_from_slice(reason.as_str().as_bytes());
            to.extend_from_slice(b"\"}");
        }
        to.push(b']');
    }
}

/// The member `deals`, if there are any.
fn deals(ids: &[String]) -> Vec<u8> {
    let ids: Vec<String> = ids.iter().map(|id| text(id)).collect();
    if ids.is_empty() { Vec::new() } else { format!(",\"deals\":[{}]", ids.join(",")).into_bytes() }
}

/// Appends the member `features`, if there are any.
fn write_features(features: &[f64], to: &mut Vec<u8>) {
    for (index, feature) in features.iter().enumerate() {
        to.extend_from_slice(if index == 0 { b",\"features\":[" } else { b"," });
        write_double(*feature, to);
    }
    if !features.is_empty() {
        to.push(b']');
    }
}

/// Appends a probability or a feature. They are always finite.
fn write_double(value: f64, to: &mut Vec<u8>) {
    to.extend_from_slice(ryu::Buffer::new().format(value).as_bytes());
}
