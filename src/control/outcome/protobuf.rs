//! An outcome as `aimpoint.v1.Outcome` in Protobuf, with or without the header of Confluent's serialisers.

use super::{Kind, Members, RejectReason, Rejection};
use crate::proto::{v1, without_header};
use prost::Message;

/// Reads the members.
pub(super) fn members(payload: &[u8]) -> Result<Members, Rejection> {
    let malformed = |detail: String| Rejection::new(RejectReason::Malformed, detail);
    let body = without_header(payload).ok_or_else(|| malformed("a wire header without its end".to_owned()))?;
    let outcome = v1::Outcome::decode(body)
        .map_err(|error| malformed(format!("neither JSON nor an aimpoint.v1.Outcome in Protobuf: {error}")))?;
    Ok(Members {
        id: outcome.outcome_id,
        kind: Some(Kind::Number(outcome.r#type.into())),
        occurred_at: Some(outcome.occurred_at),
        user_key: outcome.user_key,
        decision_id: outcome.decision_id,
        auction_id: outcome.auction_id,
        imp_id: outcome.imp_id,
        campaign_id: outcome.campaign_id,
        creative_id: outcome.creative_id,
        placement: outcome.placement,
        value: outcome.value,
        currency: outcome.currency,
        price: outcome.price,
        min_to_win: outcome.min_to_win,
        loss_reason: outcome.loss_reason,
    })
}
