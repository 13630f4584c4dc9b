//! The Agentic RTB Framework 1.0 (IAB Tech Lab, November 2025): segments and bids as mutations.
//!
//! An `RTBResponse` in the JSON form of its Protobuf message, with the names of enums as in the framework's examples.
//! Each mutation is accepted or refused alone, so all segments are in one and each bid is in its own:
//!
//! | Intent | Operation | Path | Payload |
//! |---|---|---|---|
//! | `ACTIVATE_SEGMENTS` | `OPERATION_ADD` | `/user/data/segment` | `ids.id[]` |
//! | `BID_SHADE` | `OPERATION_REPLACE` | `/seatbid/{seat}/bid/{bidId}` | `adjust_bid.price` |
//!
//! A host refuses a shaded price that is not below the price of the bid.

use super::{WireSegment, write_part, write_price};
use crate::{decision::json::text, targeting::money::Cpm};

/// The version of the framework.
pub const API_VERSION: &str = "1.0";

/// A bid and the price that it should have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shade<'a> {
    /// The bidder's seat.
    pub seat: &'a str,
    /// The id of the bid.
    pub bid_id: &'a str,
    /// The price, in the currency of the bid.
    pub price: Cpm,
}

/// Appends the array of mutations, which is empty without segments and bids.
pub fn write_mutations<'a>(
    segments: impl Iterator<Item = &'a WireSegment>,
    shades: impl Iterator<Item = Shade<'a>>,
    to: &mut Vec<u8>,
) {
    to.push(b'[');
    let start = to.len();
    for (index, segment) in segments.enumerate() {
        to.extend_from_slice(match index {
            0 => {
                &b"{\"intent\":\"ACTIVATE_SEGMENTS\",\"op\":\"OPERATION_ADD\",\"path\":\"/user/data/segment\",\
                  \"ids\":{\"id\":["[..]
            }
            _ => b",",
        });
        to.extend_from_slice(&segment.id);
    }
    if to.len() > start {
        to.extend_from_slice(b"]}}");
    }
    for Shade { seat, bid_id, price } in shades {
        if to.len() > start {
            to.push(b',');
        }
        to.extend_from_slice(b"{\"intent\":\"BID_SHADE\",\"op\":\"OPERATION_REPLACE\",\"path\":\"/seatbid/");
        write_part(seat, to);
        to.extend_from_slice(b"/bid/");
        write_part(bid_id, to);
        to.extend_from_slice(b"\",\"adjust_bid\":{\"price\":");
        write_price(price, to);
        to.extend_from_slice(b"}}");
    }
    to.push(b']');
}

/// The member `metadata`, with a leading comma.
pub fn metadata(model_version: Option<&str>) -> String {
    let model = model_version.map(|version| format!(",\"model_version\":{}", text(version))).unwrap_or_default();
    format!(",\"metadata\":{{\"api_version\":\"{API_VERSION}\"{model}}}")
}
