//! Reads a decision from its record: `aimpoint.v1.Decision` in Protobuf or in its proto3 JSON form.
//!
//! Guarantees: both forms give the same [`DecisionRecord`]. Whole numbers of 64 bits may be numbers or texts in JSON, and
//! names may be in lowerCamelCase, as proto3 JSON allows. Flat decisions do not carry what control needs, so the
//! configuration refuses them. Limits: only what control and evaluations need is
//! read.

mod number;

use super::{Details, Offer, OfferDetails, OfferedDecision, SkipReason, Skipped};
use crate::{
    control::outcome::{RejectReason, Rejection},
    json_place::JsonPlace,
    nesting::{NESTING_MAX, nests_too_deep},
    proto::{v1, without_header},
    targeting::money::{Cpm, Currency, Micros},
};
use number::{Long, Loose, present};
use prost::Message;
use serde::{Deserialize, de::IgnoredAny};

/// The reason of a user who never sees the campaign.
const HOLDOUT: &str = "holdout";

/// A decision as its record says.
#[derive(Clone, Debug, PartialEq)]
pub struct DecisionRecord {
    /// Its id, which begins with the name of the application.
    pub decision_id: String,
    user_key: String,
    decided_at: i64,
    expires_at: i64,
    policy_version: u64,
    campaigns: Vec<Campaign>,
    skipped: Vec<(String, SkipReason)>,
    details: Details,
}

#[derive(Clone, Debug, PartialEq)]
struct Campaign {
    id: String,
    bid: Cpm,
    currency: Currency,
    creative: Option<String>,
    audience: String,
    features: Vec<f64>,
}

impl DecisionRecord {
    /// Reads a decision. A payload that starts with a brace, after blanks, is JSON; everything else is Protobuf.
    ///
    /// # Errors
    ///
    /// Returns why the decision is rejected.
    pub fn read(payload: &[u8]) -> Result<Self, Rejection> {
        // No decision in Protobuf starts with a brace: it would be field 15 as a group.
        let is_json = payload.trim_ascii_start().first() == Some(&b'{');
        let members = if is_json { of_json(payload)? } else { of_protobuf(payload)? };
        members.check()
    }

    /// Reads a line of a file, in which outcomes may be, too. `None` if it is one of those, or no decision that
    /// [`DecisionRecord::read`] takes.
    pub(crate) fn of_line(json: &[u8]) -> Option<Self> {
        if nests_too_deep(json) {
            return None;
        }
        let members: Members = sonic_rs::from_slice(json).ok()?;
        if members.outcome_id.is_some() { None } else { members.check().ok() }
    }

    /// When it was made, in microseconds since 1970.
    pub fn decided_at(&self) -> i64 {
        self.decided_at
    }

    /// Whether the application of this name made it. Applications may share the topic of decisions.
    pub fn is_of(&self, app: &str) -> bool {
        self.decision_id.strip_prefix(app).is_some_and(|rest| rest.starts_with(':'))
    }

    /// The partition that its event was read from, with its topic: the id up to the offset.
    pub(crate) fn partition(&self) -> &str {
        self.decision_id.rsplit_once('-').map_or("", |(partition, _)| partition)
    }

    /// What evaluations read of it.
    pub fn details(&self) -> &Details {
        &self.details
    }

    /// Hands over the decision in the form that [`State`](crate::control::State) takes in.
    pub fn with<T>(&self, take: impl FnOnce(&OfferedDecision<'_>) -> T) -> T {
        let offers: Vec<Offer<'_>> = self
            .campaigns
            .iter()
            .zip(&self.details.offers)
            .map(|(campaign, details)| campaign.offer(details))
            .collect();
        let skipped: Vec<Skipped<'_>> =
            self.skipped.iter().map(|(campaign_id, reason)| Skipped { campaign_id, reason: *reason }).collect();
        take(&OfferedDecision {
            decision_id: &self.decision_id,
            user_key: &self.user_key,
            decided_at: self.decided_at,
            expires_at: self.expires_at,
            policy_version: self.policy_version,
            model_version: &self.details.model_version,
            variant: &self.details.variant,
            offers: &offers,
            skipped: &skipped,
        })
    }
}

impl Campaign {
    fn offer(&self, details: &OfferDetails) -> Offer<'_> {
        Offer {
            campaign_id: &self.id,
            bid: self.bid,
            currency: self.currency,
            creative_id: self.creative.as_deref(),
            audience: &self.audience,
            features: &self.features,
            probability: details.probability,
        }
    }
}

/// The members of a decision before they are checked, as in JSON. `null` means absent.
#[derive(Debug, Default, Deserialize)]
struct Members {
    #[serde(default, alias = "decisionId", deserialize_with = "present")]
    decision_id: String,
    #[serde(default, alias = "userKey", deserialize_with = "present")]
    user_key: String,
    #[serde(default, alias = "decidedAt", deserialize_with = "present")]
    decided_at: Long,
    #[serde(default, alias = "expiresAt", deserialize_with = "present")]
    expires_at: Long,
    #[serde(default, alias = "policyVersion", deserialize_with = "present")]
    policy_version: Long,
    #[serde(default, deserialize_with = "present")]
    campaigns: Vec<CampaignMembers>,
    #[serde(default, deserialize_with = "present")]
    suppressed: Vec<SuppressedMembers>,
    #[serde(default, deserialize_with = "present")]
    status: String,
    #[serde(default, deserialize_with = "present")]
    model: ModelMembers,
    #[serde(default, deserialize_with = "present")]
    experiment: ExperimentMembers,
    #[serde(default, deserialize_with = "present")]
    score: ScoreMembers,
    #[serde(default, deserialize_with = "present")]
    segments: Vec<SegmentMembers>,
    /// Only an outcome has it.
    #[serde(alias = "outcomeId")]
    outcome_id: Option<IgnoredAny>,
}

#[derive(Debug, Default, Deserialize)]
struct ModelMembers {
    #[serde(default, deserialize_with = "present")]
    name: String,
    #[serde(default, deserialize_with = "present")]
    version: String,
}

#[derive(Debug, Default, Deserialize)]
struct ExperimentMembers {
    #[serde(default, deserialize_with = "present")]
    name: String,
    #[serde(default, deserialize_with = "present")]
    variant: String,
}

/// A score that is no number is none, and no fault.
#[derive(Debug, Default, Deserialize)]
struct ScoreMembers {
    #[serde(default)]
    raw: Loose,
    #[serde(default)]
    calibrated: Loose,
}

#[derive(Debug, Default, Deserialize)]
struct SegmentMembers {
    #[serde(default, deserialize_with = "present")]
    id: String,
}

#[derive(Debug, Default, Deserialize)]
struct CampaignMembers {
    #[serde(default, deserialize_with = "present")]
    id: String,
    #[serde(default, alias = "bidMicros", deserialize_with = "present")]
    bid_micros: Long,
    #[serde(default, alias = "shadedMicros", deserialize_with = "present")]
    shaded_micros: Long,
    #[serde(default, deserialize_with = "present")]
    currency: String,
    #[serde(default, deserialize_with = "present")]
    creative: Option<CreativeMembers>,
    #[serde(default, deserialize_with = "present")]
    arm: String,
    #[serde(default, alias = "valueMicros", deserialize_with = "present")]
    value_micros: Long,
    probability: Option<f64>,
}

#[derive(Debug, Default, Deserialize)]
struct CreativeMembers {
    #[serde(default, deserialize_with = "present")]
    id: String,
    #[serde(default, deserialize_with = "present")]
    audience: String,
    /// JSON has no NaN, so a missing number may be `null`.
    #[serde(default, deserialize_with = "present")]
    features: Vec<Option<f64>>,
    propensity: Option<f64>,
    #[serde(default, deserialize_with = "present")]
    policy: String,
}

#[derive(Debug, Default, Deserialize)]
struct SuppressedMembers {
    #[serde(default, alias = "campaignId", deserialize_with = "present")]
    campaign_id: String,
    #[serde(default, deserialize_with = "present")]
    reason: String,
}

fn of_json(payload: &[u8]) -> Result<Members, Rejection> {
    if nests_too_deep(payload) {
        let detail = format!("nested more than {NESTING_MAX} levels deep");
        return Err(Rejection::new(RejectReason::Malformed, detail));
    }
    // The fast parser first; what it refuses, the other one explains.
    sonic_rs::from_slice(payload).or_else(|_| serde_json::from_slice(payload)).map_err(|error| {
        Rejection::new(RejectReason::Malformed, format!("not a decision in JSON: {}", JsonPlace::from(&error)))
    })
}

fn of_protobuf(payload: &[u8]) -> Result<Members, Rejection> {
    let malformed = |detail: String| Rejection::new(RejectReason::Malformed, detail);
    let body = without_header(payload).ok_or_else(|| malformed("a wire header without its end".to_owned()))?;
    let decision = v1::Decision::decode(body)
        .map_err(|error| malformed(format!("neither JSON nor an aimpoint.v1.Decision in Protobuf: {error}")))?;
    let campaign = |it: v1::CampaignOffer| CampaignMembers {
        id: it.id,
        bid_micros: Long(it.bid_micros),
        shaded_micros: Long(it.shaded_micros),
        currency: it.currency,
        creative: it.creative.map(|creative| CreativeMembers {
            id: creative.id,
            audience: creative.audience,
            features: creative.features.into_iter().map(Some).collect(),
            propensity: Some(creative.propensity),
            policy: creative.policy,
        }),
        arm: it.arm,
        value_micros: Long(it.value_micros),
        probability: Some(it.probability),
    };
    let status = decision.status().as_str_name().to_owned();
    let (model, experiment) = (decision.model.unwrap_or_default(), decision.experiment.unwrap_or_default());
    let suppressed = |it: v1::SuppressedCampaign| SuppressedMembers { campaign_id: it.campaign_id, reason: it.reason };
    Ok(Members {
        decision_id: decision.decision_id,
        user_key: decision.user_key,
        decided_at: Long(decision.decided_at),
        expires_at: Long(decision.expires_at),
        policy_version: Long(i64::try_from(decision.policy_version).unwrap_or(i64::MAX)),
        campaigns: decision.campaigns.into_iter().map(campaign).collect(),
        suppressed: decision.suppressed.into_iter().map(suppressed).collect(),
        status,
        score: decision.score.map_or_else(ScoreMembers::default, |score| ScoreMembers {
            raw: Loose(score.raw.filter(|it| it.is_finite())),
            calibrated: Loose(score.calibrated.filter(|it| it.is_finite())),
        }),
        model: ModelMembers { name: model.name, version: model.version },
        experiment: ExperimentMembers { name: experiment.name, variant: experiment.variant },
        segments: decision.segments.into_iter().map(|it| SegmentMembers { id: it.id }).collect(),
        outcome_id: None,
    })
}

/// A status as in `targeted`.
fn status(mut written: String) -> String {
    if written.starts_with("STATUS_") {
        written.drain(.."STATUS_".len());
    }
    written.make_ascii_lowercase();
    written
}

impl Members {
    fn check(self) -> Result<DecisionRecord, Rejection> {
        if self.decision_id.is_empty() {
            let detail = "no decision_id; is this the topic of decisions, and not a flat one?";
            return Err(Rejection::new(RejectReason::MissingId, detail));
        }
        if self.decided_at.0 <= 0 {
            return Err(Rejection::new(RejectReason::MissingTime, "no decided_at"));
        }
        let mut campaigns = Vec::with_capacity(self.campaigns.len());
        let mut offers = Vec::with_capacity(self.campaigns.len());
        for it in self.campaigns {
            let currency = it.currency.parse::<Currency>().map_err(|error| {
                Rejection::new(RejectReason::UnknownCurrency, format!("the currency of a campaign is {error}"))
            })?;
            if it.bid_micros.0 < 0 || it.shaded_micros.0 < 0 {
                return Err(Rejection::new(RejectReason::InvalidAmount, "the bid of a campaign is negative"));
            }
            // The bidder bids the shaded one, if there is one.
            let bid = Cpm(if it.shaded_micros.0 > 0 { it.shaded_micros.0 } else { it.bid_micros.0 });
            let creative = it.creative.filter(|creative| !creative.id.is_empty()).unwrap_or_default();
            offers.push(OfferDetails {
                arm: it.arm,
                value: Micros(it.value_micros.0),
                probability: it.probability.filter(|share| (0.0..=1.0).contains(share)),
                propensity: creative.propensity.unwrap_or_default(),
                policy: creative.policy,
            });
            campaigns.push(Campaign {
                id: it.id,
                bid,
                currency,
                creative: Some(creative.id).filter(|id| !id.is_empty()),
                audience: creative.audience,
                features: creative.features.into_iter().map(|it| it.unwrap_or(f64::NAN)).collect(),
            });
        }
        let held_out = self.suppressed.iter().filter(|it| it.reason == HOLDOUT).map(|it| it.campaign_id.clone());
        let details = Details {
            status: status(self.status),
            model: self.model.name,
            model_version: self.model.version,
            experiment: self.experiment.name,
            variant: self.experiment.variant,
            score: self.score.calibrated.0.or(self.score.raw.0),
            segments: self.segments.into_iter().map(|it| it.id).collect(),
            held_out: held_out.collect(),
            offers,
        };
        let skipped = self.suppressed.into_iter();
        let skipped = skipped.filter_map(|it| Some((it.campaign_id, SkipReason::of(&it.reason)?)));
        Ok(DecisionRecord {
            decision_id: self.decision_id,
            user_key: self.user_key,
            decided_at: self.decided_at.0,
            expires_at: self.expires_at.0,
            policy_version: self.policy_version.0.max(0) as u64,
            campaigns,
            skipped: skipped.collect(),
            details,
        })
    }
}

#[cfg(test)]
mod tests;
