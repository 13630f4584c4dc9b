//! Decisions in the forms that bidders read: OpenRTB's `user.data[]` and the mutations of the Agentic RTB Framework.
//!
//! Owns what of a decision goes where. The forms themselves are in [`openrtb`] and [`artf`], which know neither a
//! decision nor the declarations: whoever enriches a bid request uses them with segments and bids of its own.
//!
//! Guarantees: the output is valid JSON whatever the ids and names contain. Strings that do not change are encoded
//! once, so that a decision only appends bytes and allocates nothing. The size is bounded by the number of segments and
//! campaigns.
//!
//! - **For the bid request**, only segments: `user.data[]`, or one `ACTIVATE_SEGMENTS`. Neither the user's id nor the
//!   deprecated `yob` and `gender` are written. The user's id is the key of the record.
//! - **For whoever places the bid**, with OpenRTB, `ext.aimpoint`: the id and times of the decision, its status, score
//!   and model, and the campaigns with their bids. It is not for the bid request, which other bidders read.
//! - **Bids** with ARTF are one `BID_SHADE` for each campaign. ARTF has no place for the end of a decision's life, so
//!   the record has it in the header [`EXPIRES_AT_MS`].
//!
//! What is left out is listed in [`super::DecisionFormat::leaves_out`]. Only the complete forms can be read back.

pub mod artf;
pub mod openrtb;

use super::{
    Constants, Decision, DecisionSpec, Targets,
    json::{text, write_float, write_text},
    write_id_of, write_int,
};
use crate::{
    config_error::ConfigError,
    event::EventTime,
    targeting::{
        InSegment, Segment,
        campaign::{Bid, Campaign},
        money::Cpm,
    },
};
use artf::Shade;
use openrtb::Provider;

/// The header with the end of a decision's life, in milliseconds since 1970, if the payload has no place for it.
pub const EXPIRES_AT_MS: &str = "expires_at_ms";

/// A segment with its strings in JSON, so that writing it only copies bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireSegment {
    segtax: u32,
    /// The id, as a string.
    id: Vec<u8>,
    /// The id and the name, as an object.
    object: Vec<u8>,
}

impl WireSegment {
    /// A segment of a taxonomy; 0 is none.
    pub fn new(id: &str, name: &str, segtax: u32) -> Self {
        let (id, name) = (text(id), text(name));
        Self { segtax, object: format!("{{\"id\":{id},\"name\":{name}}}").into_bytes(), id: id.into_bytes() }
    }
}

/// What is the same for every decision, in either form.
#[derive(Clone, Debug)]
struct Shared {
    id_prefix: String,
    segments: Vec<WireSegment>,
}

impl Shared {
    fn new(constants: &Constants, targets: Targets<'_>) -> Self {
        let wire = |it: &Segment| WireSegment::new(&it.id, &it.name, it.segtax);
        Self { id_prefix: constants.id_prefix(), segments: targets.segments.iter().map(wire).collect() }
    }

    /// The segments of a decision.
    fn of<'a>(&'a self, segments: &'a [InSegment]) -> impl Iterator<Item = &'a WireSegment> + Clone {
        segments.iter().map(|it| &self.segments[it.number])
    }

    /// Names of applications and topics contain only letters, digits, '.', '_' and '-', so nothing needs escaping.
    fn write_id(&self, decision: &Decision<'_>, to: &mut Vec<u8>) {
        to.push(b'"');
        write_id_of(&self.id_prefix, decision.cause, to);
        to.push(b'"');
    }
}

/// A decision as OpenRTB.
#[derive(Clone, Debug)]
pub(super) struct OpenRtb {
    shared: Shared,
    provider: Provider,
    /// The members that name the model, which follow the score. `None` without a model.
    model: Option<Vec<u8>>,
    /// By campaign: its id as a string, and its currency as the last member.
    campaigns: Vec<(Vec<u8>, Vec<u8>)>,
    /// By creative: its id as a string.
    creatives: Vec<Vec<u8>>,
}

impl OpenRtb {
    pub(super) fn new(
        spec: &DecisionSpec,
        constants: &Constants,
        targets: Targets<'_>,
        errors: &mut Vec<ConfigError>,
    ) -> Self {
        if spec.provider.is_empty() {
            errors.push(
                ConfigError::new("decision.provider", "an OpenRTB Data object names its provider")
                    .hint("for instance decision.provider = { name = \"shop.example\" }"),
            );
        }
        refuse_reasons(spec, errors);
        let campaign =
            |it: &Campaign| (text(&it.id).into_bytes(), format!(",\"cur\":\"{}\"", it.currency).into_bytes());
        Self {
            shared: Shared::new(constants, targets),
            provider: Provider::new(&spec.provider.id, &spec.provider.name),
            model: constants.model.as_ref().map(|model| {
                format!(",\"model\":{},\"model_version\":{}", text(&model.name), text(&model.version)).into_bytes()
            }),
            campaigns: targets.campaigns.all().iter().map(campaign).collect(),
            creatives: targets.campaigns.creatives().iter().map(|it| text(&it.spec.id).into_bytes()).collect(),
        }
    }

    pub(super) fn write(&self, decision: &Decision<'_>, expires_at: EventTime, to: &mut Vec<u8>) {
        to.extend_from_slice(b"{\"user\":{\"data\":");
        self.provider.write_data(self.shared.of(decision.segments), to);
        to.extend_from_slice(b"},\"ext\":{\"aimpoint\":{\"decision_id\":");
        self.shared.write_id(decision, to);
        for (name, time) in [
            (&b",\"occurred_at_ms\":"[..], decision.occurred_at),
            (b",\"decided_at_ms\":", decision.decided_at),
            (b",\"expires_at_ms\":", expires_at),
        ] {
            to.extend_from_slice(name);
            write_int(time.millis(), to);
        }
        to.extend_from_slice(b",\"status\":\"");
        to.extend_from_slice(decision.status.name().as_bytes());
        to.push(b'"');
        if let Some(reason) = decision.status_reason() {
            to.extend_from_slice(b",\"status_reason\":\"");
            to.extend_from_slice(reason.as_bytes());
            to.push(b'"');
        }
        if let Some(model) = &self.model {
            if decision.score.is_finite() {
                to.extend_from_slice(b",\"score\":");
                write_float(decision.score, to);
            }
            to.extend_from_slice(model);
        }
        if !self.campaigns.is_empty() {
            to.extend_from_slice(b",\"campaigns\":[");
            for (index, bid) in decision.campaigns.iter().enumerate() {
                if index > 0 {
                    to.push(b',');
                }
                self.write_bid(bid, to);
            }
            to.push(b']');
        }
        to.extend_from_slice(b"}}}");
    }

    /// Appends a campaign under the names of OpenRTB's Bid object.
    fn write_bid(&self, bid: &Bid, to: &mut Vec<u8>) {
        let (id, currency) = &self.campaigns[bid.campaign as usize];
        to.extend_from_slice(b"{\"cid\":");
        to.extend_from_slice(id);
        if let Some(shown) = bid.creative {
            to.extend_from_slice(b",\"crid\":");
            to.extend_from_slice(&self.creatives[shown.creative]);
        }
        to.extend_from_slice(b",\"price\":");
        write_price(bid.best(), to);
        to.extend_from_slice(b",\"bidfloor\":");
        write_price(bid.floor, to);
        to.extend_from_slice(currency);
        to.push(b'}');
    }
}

/// A decision as ARTF.
#[derive(Clone, Debug)]
pub(super) struct Artf {
    shared: Shared,
    seat: String,
    /// By campaign: its id.
    campaigns: Vec<String>,
    /// What follows the mutations.
    metadata: Vec<u8>,
}

impl Artf {
    pub(super) fn new(
        spec: &DecisionSpec,
        constants: &Constants,
        targets: Targets<'_>,
        errors: &mut Vec<ConfigError>,
    ) -> Self {
        refuse_reasons(spec, errors);
        check_seat(spec, targets, errors);
        check_ids(targets, errors);
        Self {
            shared: Shared::new(constants, targets),
            seat: spec.seat.clone(),
            campaigns: targets.campaigns.all().iter().map(|it| it.id.clone()).collect(),
            metadata: artf::metadata(constants.model.as_ref().map(|model| model.version.as_str())).into_bytes(),
        }
    }

    pub(super) fn write(&self, decision: &Decision<'_>, to: &mut Vec<u8>) {
        to.extend_from_slice(b"{\"id\":");
        self.shared.write_id(decision, to);
        to.extend_from_slice(b",\"mutations\":");
        let shade =
            |bid: &Bid| Shade { seat: &self.seat, bid_id: &self.campaigns[bid.campaign as usize], price: bid.best() };
        let shades = decision.campaigns.iter().map(shade);
        artf::write_mutations(self.shared.of(decision.segments), shades, to);
        to.extend_from_slice(&self.metadata);
        to.push(b'}');
    }
}

fn refuse_reasons(spec: &DecisionSpec, errors: &mut Vec<ConfigError>) {
    if spec.reasons {
        errors.push(
            ConfigError::new("decision.reasons", "this format has no place for refused campaigns")
                .hint("set decision.format to json or protobuf, or remove decision.reasons"),
        );
    }
}

/// Checks what the path of a bid is made of.
fn check_seat(spec: &DecisionSpec, targets: Targets<'_>, errors: &mut Vec<ConfigError>) {
    let campaigns = targets.campaigns.all();
    if spec.seat.is_empty() && !campaigns.is_empty() {
        errors.push(
            ConfigError::new("decision.seat", "a mutation of a bid names the bidder's seat")
                .hint("set decision.seat to the seat under which the campaigns bid"),
        );
    }
    let slash = "the path of a bid is /seatbid/{seat}/bid/{campaign}, so neither may contain a slash";
    if spec.seat.contains('/') {
        errors.push(ConfigError::new("decision.seat", slash));
    }
    for (index, campaign) in campaigns.iter().enumerate().filter(|(_, it)| it.id.contains('/')) {
        errors.push(ConfigError::new(format!("campaign[{index}].id"), format!("{:?}: {slash}", campaign.id)));
    }
    if let Some(other) = campaigns.iter().find(|it| it.currency != campaigns[0].currency) {
        let message = format!(
            "campaigns bid in {} and {}, and a mutation of a bid has no currency",
            campaigns[0].currency, other.currency
        );
        errors.push(ConfigError::new("decision.format", message).hint("use one currency, or another format"));
    }
}

/// Refuses segments that only their taxonomies distinguish.
fn check_ids(targets: Targets<'_>, errors: &mut Vec<ConfigError>) {
    for (index, segment) in targets.segments.iter().enumerate() {
        let same = targets.segments[..index].iter().find(|it| it.id == segment.id && it.segtax != segment.segtax);
        if let Some(other) = same {
            let message = format!(
                "segment {:?} also exists with segtax {}, and a mutation has only the ids of segments",
                segment.id, other.segtax
            );
            let hint = "give one of them another id, or use decision.format = \"openrtb\"";
            errors.push(ConfigError::new(format!("segment[{index}].id"), message).hint(hint));
        }
    }
}

/// Appends a price as a decimal number, exactly.
fn write_price(price: Cpm, to: &mut Vec<u8>) {
    const UNIT: u64 = 1_000_000;
    if price.0 < 0 {
        to.push(b'-');
    }
    let micros = price.0.unsigned_abs();
    to.extend_from_slice(itoa::Buffer::new().format(micros / UNIT).as_bytes());
    let mut rest = micros % UNIT;
    if rest > 0 {
        to.push(b'.');
    }
    let mut place = UNIT / 10;
    while rest > 0 {
        to.push(b'0' + (rest / place) as u8);
        rest %= place;
        place /= 10;
    }
}

/// Appends a part of a JSON string, without quotes.
fn write_part(value: &str, to: &mut Vec<u8>) {
    let start = to.len();
    write_text(value, to);
    to.pop();
    to.remove(start);
}

#[cfg(test)]
mod tests;
