//! Reads a decision as it was written, in JSON or Protobuf.

use crate::proto::v1;
use prost::Message;
use serde_json::Value;

/// A decision, as far as it can be explained.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::cli) struct ReadDecision {
    pub(in crate::cli) decision_id: String,
    pub(in crate::cli) trigger_event_id: String,
    pub(in crate::cli) occurred_at: i64,
    pub(in crate::cli) decided_at: i64,
    pub(in crate::cli) expires_at: i64,
    pub(in crate::cli) status: String,
    pub(in crate::cli) status_reason: Option<String>,
    pub(in crate::cli) raw: Option<f32>,
    pub(in crate::cli) calibrated: Option<f32>,
    pub(in crate::cli) heads: Vec<(String, Option<f32>)>,
    /// The name and version.
    pub(in crate::cli) model: Option<(String, String)>,
    /// By feature: what it adds to the score.
    pub(in crate::cli) contributions: Vec<(String, f32)>,
    pub(in crate::cli) segments: Vec<ReadSegment>,
    pub(in crate::cli) left: Vec<ReadLeft>,
    pub(in crate::cli) campaigns: Vec<ReadOffer>,
    /// Campaign and reason.
    pub(in crate::cli) suppressed: Vec<(String, String)>,
    /// The version of control's policy; 0 for none.
    pub(in crate::cli) policy_version: u64,
    pub(in crate::cli) consent: Option<ReadConsent>,
}

#[derive(Clone, Debug, PartialEq)]
pub(in crate::cli) struct ReadConsent {
    pub(in crate::cli) permitted: Vec<String>,
    pub(in crate::cli) framework: String,
    /// Activity and reason.
    pub(in crate::cli) refused: Vec<(String, String)>,
    pub(in crate::cli) is_remembered: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(in crate::cli) struct ReadSegment {
    pub(in crate::cli) id: String,
    pub(in crate::cli) segtax: u32,
    /// Start and end of a membership.
    pub(in crate::cli) times: Option<(i64, i64)>,
    pub(in crate::cli) is_new: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(in crate::cli) struct ReadLeft {
    pub(in crate::cli) id: String,
    pub(in crate::cli) reason: String,
}

#[derive(Clone, Debug, PartialEq)]
pub(in crate::cli) struct ReadOffer {
    pub(in crate::cli) id: String,
    pub(in crate::cli) arm: String,
    pub(in crate::cli) value_micros: i64,
    pub(in crate::cli) probability: f64,
    pub(in crate::cli) bid_micros: i64,
    pub(in crate::cli) currency: String,
    /// The bid with the best surplus; 0 if it is unknown.
    pub(in crate::cli) shaded_micros: i64,
    /// The share of the decisions that the campaign takes part in, if it has a budget.
    pub(in crate::cli) pass_through: Option<f64>,
    pub(in crate::cli) creative: Option<ReadCreative>,
}

#[derive(Clone, Debug, PartialEq)]
pub(in crate::cli) struct ReadCreative {
    pub(in crate::cli) id: String,
    pub(in crate::cli) propensity: f64,
    /// How it was chosen.
    pub(in crate::cli) policy: String,
    /// The segment whose outcomes it was chosen by, or empty.
    pub(in crate::cli) audience: String,
}

impl ReadDecision {
    /// Reads a payload, whichever of the two encodings it has.
    ///
    /// # Errors
    /// It is neither.
    pub(in crate::cli) fn read(payload: &[u8]) -> Result<Self, String> {
        let decision = if payload.first() == Some(&b'{') {
            let value = serde_json::from_slice(payload).map_err(|error| format!("it is no JSON: {error}"))?;
            Self::of_json(&value)
        } else {
            let message = v1::Decision::decode(payload).map_err(|error| format!("it is not a decision: {error}"))?;
            Self::of_message(message)
        };
        if decision.decision_id.is_empty() { Err("it has no decision_id".to_owned()) } else { Ok(decision) }
    }

    fn of_message(it: v1::Decision) -> Self {
        let status = it.status().as_str_name().to_owned();
        let left = |it: &v1::Left| ReadLeft { id: it.id.clone(), reason: it.reason().as_str_name().to_owned() };
        let score = it.score.unwrap_or_default();
        Self {
            status,
            left: it.left.iter().map(left).collect(),
            decision_id: it.decision_id,
            trigger_event_id: it.trigger_event_id,
            occurred_at: it.occurred_at,
            decided_at: it.decided_at,
            expires_at: it.expires_at,
            status_reason: Some(it.status_reason).filter(|reason| !reason.is_empty()),
            raw: score.raw,
            calibrated: score.calibrated,
            heads: score.heads.into_iter().map(|head| (head.name, head.score)).collect(),
            model: it.model.map(|model| (model.name, model.version)),
            contributions: it
                .explanation
                .map(|it| it.contributions.into_iter().map(|part| (part.feature, part.contribution)).collect())
                .unwrap_or_default(),
            segments: it
                .segments
                .into_iter()
                .map(|segment| ReadSegment {
                    times: Some((segment.entered_at, segment.expires_at)).filter(|(_, end)| *end != 0),
                    id: segment.id,
                    segtax: segment.segtax,
                    is_new: segment.is_new,
                })
                .collect(),
            campaigns: it
                .campaigns
                .into_iter()
                .map(|offer| ReadOffer {
                    id: offer.id,
                    arm: offer.arm,
                    value_micros: offer.value_micros,
                    probability: offer.probability,
                    bid_micros: offer.bid_micros,
                    currency: offer.currency,
                    shaded_micros: offer.shaded_micros,
                    pass_through: offer.pass_through,
                    creative: offer.creative.map(|it| ReadCreative {
                        id: it.id,
                        propensity: it.propensity,
                        policy: it.policy,
                        audience: it.audience,
                    }),
                })
                .collect(),
            suppressed: it.suppressed.into_iter().map(|it| (it.campaign_id, it.reason)).collect(),
            policy_version: it.policy_version,
            consent: it.consent.map(|it| ReadConsent {
                permitted: it.permitted,
                framework: it.framework,
                refused: it.refused.into_iter().map(|it| (it.activity, it.reason)).collect(),
                is_remembered: it.remembered,
            }),
        }
    }

    fn of_json(it: &Value) -> Self {
        let score = &it["score"];
        let model = &it["model"];
        Self {
            decision_id: text(&it["decision_id"]),
            trigger_event_id: text(&it["trigger_event_id"]),
            occurred_at: long(&it["occurred_at"]),
            decided_at: long(&it["decided_at"]),
            expires_at: long(&it["expires_at"]),
            status: text(&it["status"]),
            status_reason: it["status_reason"].as_str().filter(|reason| !reason.is_empty()).map(str::to_owned),
            raw: float(&score["raw"]),
            calibrated: float(&score["calibrated"]),
            heads: list(&score["heads"]).map(|head| (text(&head["name"]), float(&head["score"]))).collect(),
            model: model["name"].as_str().map(|name| (name.to_owned(), text(&model["version"]))),
            contributions: list(&it["explanation"]["contributions"])
                .map(|part| (text(&part["feature"]), float(&part["contribution"]).unwrap_or_default()))
                .collect(),
            segments: list(&it["segments"])
                .map(|segment| ReadSegment {
                    id: text(&segment["id"]),
                    segtax: segment["segtax"].as_u64().unwrap_or_default() as u32,
                    times: Some((long(&segment["entered_at"]), long(&segment["expires_at"])))
                        .filter(|(_, end)| *end != 0),
                    is_new: segment["is_new"].as_bool().unwrap_or_default(),
                })
                .collect(),
            left: list(&it["left"])
                .map(|left| ReadLeft { id: text(&left["id"]), reason: text(&left["reason"]) })
                .collect(),
            campaigns: list(&it["campaigns"])
                .map(|offer| ReadOffer {
                    id: text(&offer["id"]),
                    arm: text(&offer["arm"]),
                    value_micros: long(&offer["value_micros"]),
                    probability: offer["probability"].as_f64().unwrap_or_default(),
                    bid_micros: long(&offer["bid_micros"]),
                    currency: text(&offer["currency"]),
                    shaded_micros: long(&offer["shaded_micros"]),
                    pass_through: offer["pass_through"].as_f64(),
                    creative: offer["creative"].is_object().then(|| ReadCreative {
                        id: text(&offer["creative"]["id"]),
                        propensity: offer["creative"]["propensity"].as_f64().unwrap_or_default(),
                        policy: text(&offer["creative"]["policy"]),
                        audience: text(&offer["creative"]["audience"]),
                    }),
                })
                .collect(),
            suppressed: list(&it["suppressed"]).map(|it| (text(&it["campaign_id"]), text(&it["reason"]))).collect(),
            policy_version: u64::try_from(long(&it["policy_version"])).unwrap_or_default(),
            consent: it["consent"].is_object().then(|| ReadConsent {
                permitted: list(&it["consent"]["permitted"]).map(text).collect(),
                framework: text(&it["consent"]["framework"]),
                refused: list(&it["consent"]["refused"])
                    .map(|it| (text(&it["activity"]), text(&it["reason"])))
                    .collect(),
                is_remembered: it["consent"]["remembered"].as_bool().unwrap_or_default(),
            }),
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// A 64-bit integer, which is text in proto3 JSON.
fn long(value: &Value) -> i64 {
    value.as_i64().or_else(|| value.as_str()?.parse().ok()).unwrap_or_default()
}

fn float(value: &Value) -> Option<f32> {
    value.as_f64().map(|value| value as f32)
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
