//! Protobuf payloads: `aimpoint.v1.Event`, with or without the header of Confluent's serialisers.

use super::{
    RejectReason, Rejection,
    decode::Leaf,
    rows::{Rows, Scalar},
    sections,
};
use crate::proto::{v1::Event, without_header};
use prost::Message;

/// Reads a payload into the open row.
pub(super) fn read(payload: &[u8], leaves: &[Leaf], rows: &mut Rows<'_>) -> Result<(), Rejection> {
    let malformed = |detail: String| Rejection::new(RejectReason::Malformed, detail);
    let body = without_header(payload).ok_or_else(|| malformed("a wire header without its end".to_owned()))?;
    let event = Event::decode(body).map_err(|error| malformed(format!("not an aimpoint.v1.Event: {error}")))?;
    for (index, leaf) in leaves.iter().enumerate() {
        let Some(value) = member(&event, &leaf.name, &leaf.path) else { continue };
        rows.set(index, 0, value);
    }
    Ok(())
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "an empty text is not given, which the row decides; here it only fits the table"
)]
fn text(value: &str) -> Option<Scalar<'_>> {
    Some(Scalar::Text(value))
}

fn time(value: i64) -> Option<Scalar<'static>> {
    (value != 0).then_some(Scalar::Int(value))
}

/// The value of a canonical field, or of a property by its path.
fn member<'a>(event: &'a Event, name: &str, path: &str) -> Option<Scalar<'a>> {
    let item = event.items.first();
    let ad = event.ad.as_ref();
    match name {
        "event_id" => text(&event.event_id),
        "event_type" => text(&event.event_type),
        "occurred_at" => time(event.occurred_at),
        "sent_at" => time(event.sent_at),
        "received_at" => time(event.received_at),
        "user_id" => text(&event.user_id),
        "anonymous_id" => text(&event.anonymous_id),
        // Open enums keep numbers unknown to this version; those are rejected like any other wrong value.
        "key_type" => Some(Scalar::Int(event.key_type.into())),
        "session_id" => text(&event.session_id),
        "source.app_id" => text(&event.source.as_ref()?.app_id),
        "source.platform" => text(&event.source.as_ref()?.platform),
        "source.sdk" => text(&event.source.as_ref()?.sdk),
        "page.url" => text(&event.page.as_ref()?.url),
        "page.path" => text(&event.page.as_ref()?.path),
        "page.referrer" => text(&event.page.as_ref()?.referrer),
        "page.title" => text(&event.page.as_ref()?.title),
        "page.category" => text(event.page.as_ref()?.category.first()?),
        "item.id" => text(&item?.id),
        "item.category" => text(&item?.category),
        "item.price" => item?.price.map(Scalar::Float),
        "item.quantity" => item?.quantity.map(Scalar::Float),
        "value" => event.value.map(Scalar::Float),
        "currency" => text(&event.currency),
        "dwell_ms" => event.dwell_ms.map(Scalar::Int),
        "scroll_pct" => event.scroll_pct.map(Scalar::Float),
        "campaign.source" => text(&event.campaign.as_ref()?.source),
        "campaign.medium" => text(&event.campaign.as_ref()?.medium),
        "campaign.name" => text(&event.campaign.as_ref()?.name),
        "campaign.click_id" => text(&event.campaign.as_ref()?.click_id),
        "ad.decision_id" => text(&ad?.decision_id),
        "ad.auction_id" => text(&ad?.auction_id),
        "ad.imp_id" => text(&ad?.imp_id),
        "ad.campaign_id" => text(&ad?.campaign_id),
        "ad.creative_id" => text(&ad?.creative_id),
        "ad.placement" => text(&ad?.placement),
        "ad.price" => ad?.price.map(Scalar::Float),
        "ad.min_to_win" => ad?.min_to_win.map(Scalar::Float),
        "device.ua" => text(&event.device.as_ref()?.ua),
        "device.type" => text(&event.device.as_ref()?.r#type),
        "device.os" => text(&event.device.as_ref()?.os),
        "geo.country" => text(&event.geo.as_ref()?.country),
        "geo.region" => text(&event.geo.as_ref()?.region),
        "consent.gdpr_applies" => event.consent.as_ref()?.gdpr_applies.map(Scalar::Bool),
        "consent.tc_string" => text(&event.consent.as_ref()?.tc_string),
        "consent.gpp" => text(&event.consent.as_ref()?.gpp),
        "consent.gpp_sid" => {
            let ids = &event.consent.as_ref()?.gpp_sid;
            (!ids.is_empty()).then(|| Scalar::Int(sections::of_ids(ids.iter().copied())))
        }
        "consent.us_privacy" => text(&event.consent.as_ref()?.us_privacy),
        "consent.gpc" => event.consent.as_ref()?.gpc.map(Scalar::Bool),
        "consent.coppa" => event.consent.as_ref()?.coppa.map(Scalar::Bool),
        "consent.lmt" => event.consent.as_ref()?.lmt.map(Scalar::Bool),
        "bot" => event.bot.map(Scalar::Bool),
        _ => text(event.properties.get(path.strip_prefix("properties.")?)?),
    }
}
