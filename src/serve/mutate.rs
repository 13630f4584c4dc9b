//! Proposes changes to a bid request and the bids about it, as the Agentic RTB Framework 1.0 has them.
//!
//! | Intent | Path | Proposed |
//! |---|---|---|
//! | `ACTIVATE_SEGMENTS` | `/user/data/segment` | the segments that the user is in, by id |
//! | `ACTIVATE_DEALS` | `/imp/{id}` | the deals of the decision's campaigns that the impression does not have yet |
//! | `BID_SHADE` | `/seatbid/{seat}/bid/{id}` | the decision's price for a bid of ours that costs more |
//!
//! Guarantees:
//! - Only what the host accepts is proposed: `applicable_intents`. A host that names none accepts everything.
//! - A bid is ours if it has our seat and names a campaign of the decision. Its price is only ever lowered, in its own
//!   currency, never to nothing, and never below the floor of its deal or impression. If that floor is not known, or is in another
//!   currency, the price stays.
//! - If the consent signals of a request do not permit it, nothing is proposed, and no user is looked up.
//!
//! Limits: no more proposals than the request has impressions and bids, and one. Left out on purpose: the taxonomy of
//! segments, for which the framework has no place.

use super::{
    enrich::{Enrichment, first_known},
    identity::Identities,
    permission::Permission,
    signals::RequestSignals,
    spec::IdentitySpec,
    store::Store,
};
use crate::{
    decision::projection::artf::API_VERSION,
    event::UserKeys,
    privacy::consent::Rules,
    proto::{
        iab::{
            mutation::{
                AdjustBidPayload, IDsPayload, Intent, Metadata, Mutation, Operation, RtbRequest, RtbResponse,
                mutation::Value,
            },
            openrtb::{
                BidResponse,
                bid_request::Imp,
                bid_response::{Bid, SeatBid},
            },
        },
        v1,
    },
};

/// The currency of prices and floors that name none.
const CURRENCY: &str = "USD";

/// Proposes changes. Each thread has its own.
#[derive(Clone, Debug)]
pub struct Mutator {
    identities: Identities,
    permission: Permission,
    /// The seat of our bids; without one, none is ours.
    seat: String,
}

impl Mutator {
    /// A mutator for a bidder's seat. `users`: how events named them.
    pub fn new(seat: &str, identities: Vec<IdentitySpec>, users: UserKeys, rules: Option<Rules>) -> Self {
        Self {
            identities: Identities::new(identities, users),
            permission: Permission::new(rules),
            seat: seat.to_owned(),
        }
    }

    /// What became of the `RtbRequest` in these bytes; `None` if they are none. For tests, which cannot name its type.
    #[cfg(any(test, feature = "testkit"))]
    pub fn propose_for(&mut self, store: &Store, request: &[u8], now: i64) -> Option<Enrichment> {
        let request = prost::Message::decode(request).ok()?;
        Some(self.propose(store, &request, now).1)
    }

    /// The changes to propose at this moment, in microseconds since 1970, and what became of the request.
    pub(crate) fn propose(&mut self, store: &Store, request: &RtbRequest, now: i64) -> (RtbResponse, Enrichment) {
        let empty = || empty_response(&request.id);
        let accepts = |intent: Intent| {
            request.applicable_intents.is_empty() || request.applicable_intents().any(|it| it == intent)
        };
        let [segments, deals, shades] =
            [Intent::ActivateSegments, Intent::ActivateDeals, Intent::BidShade].map(accepts);
        if !segments && !deals && !shades {
            return (empty(), Enrichment::NotAsked);
        }
        let bid_request = request.bid_request.as_ref();
        let (regs, user, device) =
            bid_request.map_or((None, None, None), |it| (it.regs.as_ref(), it.user.as_ref(), it.device.as_ref()));
        if let Some(reason) = self.permission.refusal(RequestSignals::of_message(regs, user, device), now) {
            return (empty(), Enrichment::Refused(reason));
        }
        let keys = self.identities.keys_of_message(user, device);
        let targeting = match first_known(store, &keys, now, |decision| decision.targeting(now)) {
            Ok(targeting) => targeting,
            Err(why) => return (empty(), why),
        };
        let mut mutations = Vec::new();
        if segments {
            mutations.extend(activate_segments(&targeting.segments));
        }
        if let Some(bid_request) = bid_request.filter(|_| deals) {
            mutations.extend(bid_request.imp.iter().filter_map(|imp| activate_deals(imp, &targeting.campaigns)));
        }
        if let Some(bids) = request.bid_response.as_ref().filter(|_| shades) {
            let imps = bid_request.map_or(&[][..], |it| &it.imp);
            self.shade(bids, imps, &targeting.campaigns, &mut mutations);
        }
        if mutations.is_empty() {
            return (empty(), if segments { Enrichment::NoSegments } else { Enrichment::NoChange });
        }
        let model_version = targeting.model.map(|model| model.version).unwrap_or_default();
        let metadata = Metadata { api_version: API_VERSION.to_owned(), model_version };
        (RtbResponse { mutations, metadata: Some(metadata), ..empty() }, Enrichment::Enriched)
    }

    /// Lowers the prices of our bids to those of the decision.
    fn shade(&self, response: &BidResponse, imps: &[Imp], campaigns: &[v1::CampaignOffer], to: &mut Vec<Mutation>) {
        if self.seat.is_empty() {
            return;
        }
        let currency = or_default(&response.cur);
        for SeatBid { bid, seat } in response.seatbid.iter().filter(|it| it.seat == self.seat) {
            for bid in bid {
                let campaign = campaigns.iter().find(|it| it.id == bid.cid && it.currency == currency);
                let price = campaign.and_then(|campaign| price(campaign, floor(bid, imps, currency)?));
                if let Some(price) = price.filter(|price| *price > 0.0 && *price < bid.price)
                    && is_in_path(seat)
                    && is_in_path(&bid.id)
                {
                    to.push(lower(seat, bid, price));
                }
            }
        }
    }
}

/// An `RtbRequest` about this user, for tests.
#[cfg(any(test, feature = "testkit"))]
pub fn example_request(user: &str) -> Vec<u8> {
    use crate::proto::iab::openrtb::{BidRequest, bid_request::User};
    let user = User { buyeruid: user.to_owned(), ..User::default() };
    let bid_request = Some(BidRequest { user: Some(user), ..BidRequest::default() });
    prost::Message::encode_to_vec(&RtbRequest { id: "r1".to_owned(), bid_request, ..RtbRequest::default() })
}

/// The answer that proposes nothing.
pub(crate) fn empty_response(id: &str) -> RtbResponse {
    let metadata = Metadata { api_version: API_VERSION.to_owned(), ..Metadata::default() };
    RtbResponse { id: id.to_owned(), mutations: Vec::new(), metadata: Some(metadata) }
}

/// The segments by id; none if the user is in none. The same id in two taxonomies is there once.
fn activate_segments(segments: &[v1::Segment]) -> Option<Mutation> {
    let mut id: Vec<String> = Vec::with_capacity(segments.len());
    for segment in segments {
        if !id.contains(&segment.id) {
            id.push(segment.id.clone());
        }
    }
    (!id.is_empty()).then(|| Mutation {
        intent: Intent::ActivateSegments.into(),
        op: Operation::Add.into(),
        path: "/user/data/segment".to_owned(),
        value: Some(Value::Ids(IDsPayload { id })),
    })
}

/// The deals of these campaigns that an impression does not have yet, the best campaign's first; none if it has them all.
fn activate_deals(imp: &Imp, campaigns: &[v1::CampaignOffer]) -> Option<Mutation> {
    let offered = imp.pmp.iter().flat_map(|pmp| &pmp.deals);
    let mut id: Vec<String> = Vec::new();
    for deal in campaigns.iter().flat_map(|campaign| &campaign.deals) {
        if !offered.clone().any(|it| it.id == *deal) && !id.contains(deal) {
            id.push(deal.clone());
        }
    }
    (!id.is_empty() && is_in_path(&imp.id)).then(|| Mutation {
        intent: Intent::ActivateDeals.into(),
        op: Operation::Add.into(),
        path: format!("/imp/{}", imp.id),
        value: Some(Value::Ids(IDsPayload { id })),
    })
}

fn lower(seat: &str, bid: &Bid, price: f64) -> Mutation {
    Mutation {
        intent: Intent::BidShade.into(),
        op: Operation::Replace.into(),
        path: format!("/seatbid/{seat}/bid/{}", bid.id),
        value: Some(Value::AdjustBid(AdjustBidPayload { price: Some(price) })),
    }
}

/// The price to bid: the shaded one if there is one, but not less than the floor. `None` if the floor is above the bid. The nearest
/// number to the decimal one.
fn price(offer: &v1::CampaignOffer, floor: f64) -> Option<f64> {
    let bid = offer.bid_micros as f64 / 1e6;
    let best = if offer.shaded_micros > 0 { offer.shaded_micros as f64 / 1e6 } else { bid };
    Some(best.max(floor)).filter(|price| *price <= bid.max(best))
}

/// What a bid costs at least, in this currency: the floor of its deal, or that of its impression. `None` if it is not known: the
/// request has no such impression or deal, or the floor has another currency.
fn floor(bid: &Bid, imps: &[Imp], currency: &str) -> Option<f64> {
    let imp = imps.iter().find(|imp| imp.id == bid.impid)?;
    let (floor, floor_currency) = if bid.dealid.is_empty() {
        (imp.bidfloor, &imp.bidfloorcur)
    } else {
        let deal = imp.pmp.iter().flat_map(|pmp| &pmp.deals).find(|deal| deal.id == bid.dealid)?;
        (deal.bidfloor, &deal.bidfloorcur)
    };
    // What is no number is above every price.
    let floor = if floor.is_nan() { f64::INFINITY } else { floor.max(0.0) };
    (floor == 0.0 || or_default(floor_currency) == currency).then_some(floor)
}

/// A currency, or that of OpenRTB if none is named.
fn or_default(currency: &str) -> &str {
    if currency.is_empty() { CURRENCY } else { currency }
}

/// Whether a name can be a part of a path: with a slash, the path might be that of another bid.
fn is_in_path(name: &str) -> bool {
    !name.is_empty() && !name.contains('/')
}
