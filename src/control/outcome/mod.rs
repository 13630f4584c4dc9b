//! Outcomes: what happened after a decision, as the bidder and the page report it.
//!
//! Owns the meaning of one record of the topic `outcomes`: `aimpoint.v1.Outcome` in Protobuf, or in its proto3 JSON
//! form. Required are an id, a type, a time, and something to join by: a decision, an auction, an impression, or a user
//! together with a campaign. Prices are read as whole millionths, rounded to the nearest.
//!
//! Guarantees: nothing panics, whatever the bytes. An outcome that is not understood is rejected with one of a closed
//! set of reasons and a text that says what to do; the text quotes no id. Unknown members are ignored.
//!
//! Limits: [`PAYLOAD_BYTES_MAX`] for a payload, [`ID_BYTES_MAX`] for an id.

mod json;
mod protobuf;
mod reject;
#[cfg(test)]
mod tests;

pub use reject::{RejectReason, Rejection};

use crate::targeting::money::{Cpm, Currency, Micros};
use serde::{Deserialize, Serialize};

/// The longest payload that is read. A complete outcome has about 500 bytes.
pub const PAYLOAD_BYTES_MAX: usize = 64 << 10;
/// The longest id. Exchanges use up to 64 characters, decisions up to about 300.
pub const ID_BYTES_MAX: usize = 512;
/// 9999-12-31 in microseconds, the last day that the calendar knows.
const TIME_MAX: i64 = 253_402_207_200_000_000;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeType {
    /// An ad was shown.
    Impression,
    /// It could be seen.
    Viewable,
    /// It was clicked.
    Click,
    /// The user did what the campaign is for.
    Conversion,
    /// An auction was won.
    Win,
    /// An auction was lost.
    Loss,
}

impl OutcomeType {
    /// All types, in the order of their numbers in `aimpoint.v1`, which begin with 1.
    pub const ALL: [Self; 6] = [Self::Impression, Self::Viewable, Self::Click, Self::Conversion, Self::Win, Self::Loss];

    /// The name in metrics; in `aimpoint.v1` it is in capitals and begins with `OUTCOME_TYPE_`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Impression => "impression",
            Self::Viewable => "viewable",
            Self::Click => "click",
            Self::Conversion => "conversion",
            Self::Win => "win",
            Self::Loss => "loss",
        }
    }

    /// The type with this number in `aimpoint.v1`.
    fn of_number(number: i64) -> Option<Self> {
        Self::ALL.get(usize::try_from(number).ok()?.checked_sub(1)?).copied()
    }

    /// The type with this name, in its long or short form.
    fn of_name(name: &str) -> Option<Self> {
        let short = name.strip_prefix("OUTCOME_TYPE_").unwrap_or(name);
        Self::ALL.into_iter().find(|it| it.as_str().eq_ignore_ascii_case(short))
    }
}

/// A checked outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Its id, the same each time it is reported.
    pub id: String,
    /// What happened.
    pub kind: OutcomeType,
    /// When, in microseconds since 1970.
    pub occurred_at: i64,
    /// The key of the decision's user, if known.
    pub user_key: Option<String>,
    /// The decision, if known.
    pub decision_id: Option<String>,
    /// The auction, if known.
    pub auction_id: Option<String>,
    /// The impression within the auction; without an auction, an id that is unique by itself.
    pub imp_id: Option<String>,
    /// The campaign, if known.
    pub campaign_id: Option<String>,
    /// The creative, if known.
    pub creative_id: Option<String>,
    /// Where the impression was, if known.
    pub placement: Option<String>,
    /// The value of a conversion.
    pub value: Option<Micros>,
    /// The currency of all amounts. Without one, it is that of the campaign.
    pub currency: Option<Currency>,
    /// The clearing price.
    pub price: Option<Cpm>,
    /// The lowest bid that would have won.
    pub min_to_win: Option<Cpm>,
    /// OpenRTB's reason for a loss; 0 if unknown.
    pub loss_reason: i32,
}

/// The members of an outcome, before they are checked. A text that is empty is absent, as in proto3.
#[derive(Clone, Debug, Default)]
struct Members {
    id: String,
    kind: Option<Kind>,
    occurred_at: Option<i64>,
    user_key: String,
    decision_id: String,
    auction_id: String,
    imp_id: String,
    campaign_id: String,
    creative_id: String,
    placement: String,
    value: Option<f64>,
    currency: String,
    price: Option<f64>,
    min_to_win: Option<f64>,
    loss_reason: i32,
}

/// A type as written.
#[derive(Clone, Debug)]
enum Kind {
    Number(i64),
    Name(String),
}

impl Outcome {
    /// Reads an outcome. A payload that starts with a brace, after blanks, is JSON; everything else is Protobuf.
    ///
    /// # Errors
    ///
    /// Returns why the outcome is rejected.
    pub fn read(payload: Option<&[u8]>) -> Result<Self, Rejection> {
        let payload = payload.ok_or_else(|| {
            let detail = "the record has no payload; send the outcome as its value, not only a key";
            Rejection::new(RejectReason::NullPayload, detail)
        })?;
        if payload.len() > PAYLOAD_BYTES_MAX {
            let detail = format!("{} bytes; an outcome has at most {PAYLOAD_BYTES_MAX}", payload.len());
            return Err(Rejection::new(RejectReason::TooLarge, detail));
        }
        // No outcome in Protobuf starts with a brace: it would be field 15 as a fixed group of bytes.
        let is_json = payload.trim_ascii_start().first() == Some(&b'{');
        let members = if is_json { json::members(payload)? } else { protobuf::members(payload)? };
        members.check()
    }

    /// The outcome in JSON, as [`Outcome::read`] reads it.
    pub fn to_json(&self) -> Vec<u8> {
        json::write(self)
    }
}

impl Members {
    fn check(self) -> Result<Outcome, Rejection> {
        let reject = |reason, detail: &str| Err(Rejection::new(reason, detail));
        let ids = [
            ("outcome_id", &self.id),
            ("user_key", &self.user_key),
            ("decision_id", &self.decision_id),
            ("auction_id", &self.auction_id),
            ("imp_id", &self.imp_id),
            ("campaign_id", &self.campaign_id),
            ("creative_id", &self.creative_id),
            ("placement", &self.placement),
        ];
        if let Some((name, id)) = ids.into_iter().find(|(_, id)| id.len() > ID_BYTES_MAX) {
            let detail = format!("{name} has {} bytes; an id has at most {ID_BYTES_MAX}", id.len());
            return Err(Rejection::new(RejectReason::TooLarge, detail));
        }
        if self.id.is_empty() {
            let detail = "no outcome_id; give each outcome its own, and the same one if it is sent again";
            return reject(RejectReason::MissingId, detail);
        }
        let kind = self.kind()?;
        let occurred_at = match self.occurred_at {
            None | Some(0) => {
                return reject(RejectReason::MissingTime, "no occurred_at; send microseconds since 1970, UTC");
            }
            Some(time) if !(1..=TIME_MAX).contains(&time) => {
                let detail = "occurred_at is before 1970 or after 9999; send microseconds since 1970, UTC";
                return reject(RejectReason::TimeRange, detail);
            }
            Some(time) => time,
        };
        let value = amount("value", self.value)?;
        let price = amount("price", self.price)?;
        let min_to_win = amount("min_to_win", self.min_to_win)?;
        let currency =
            match self.currency.as_str() {
                "" => None,
                code => Some(code.parse::<Currency>().map_err(|error| {
                    Rejection::new(RejectReason::UnknownCurrency, format!("the currency is {error}"))
                })?),
            };
        let has_key = [&self.decision_id, &self.auction_id, &self.imp_id].iter().any(|id| !id.is_empty());
        if !has_key && (self.user_key.is_empty() || self.campaign_id.is_empty()) {
            let detail = "nothing to join by; send decision_id, auction_id or imp_id, or user_key and campaign_id";
            return reject(RejectReason::NoKey, detail);
        }
        let given = |text: String| Some(text).filter(|text| !text.is_empty());
        Ok(Outcome {
            id: self.id,
            kind,
            occurred_at,
            user_key: given(self.user_key),
            decision_id: given(self.decision_id),
            auction_id: given(self.auction_id),
            imp_id: given(self.imp_id),
            campaign_id: given(self.campaign_id),
            creative_id: given(self.creative_id),
            placement: given(self.placement),
            value,
            currency,
            price: price.map(|price| Cpm(price.0)),
            min_to_win: min_to_win.map(|price| Cpm(price.0)),
            loss_reason: self.loss_reason,
        })
    }

    fn kind(&self) -> Result<OutcomeType, Rejection> {
        let known = match &self.kind {
            None | Some(Kind::Number(0)) => None,
            Some(Kind::Name(name)) if name.is_empty() || name == "OUTCOME_TYPE_UNSPECIFIED" => None,
            Some(Kind::Number(number)) => Some(OutcomeType::of_number(*number)),
            Some(Kind::Name(name)) => Some(OutcomeType::of_name(name)),
        };
        let names = || OutcomeType::ALL.map(OutcomeType::as_str).join(", ");
        match known {
            Some(Some(kind)) => Ok(kind),
            Some(None) => {
                let detail = format!("the type is not known; send one of {}", names());
                Err(Rejection::new(RejectReason::UnknownType, detail))
            }
            None => Err(Rejection::new(RejectReason::MissingType, format!("no type; send one of {}", names()))),
        }
    }
}

/// An amount of at least 0 in whole units of a currency.
fn amount(name: &str, units: Option<f64>) -> Result<Option<Micros>, Rejection> {
    let Some(units) = units else { return Ok(None) };
    match Micros::from_units(units) {
        Ok(amount) if amount >= Micros::ZERO => Ok(Some(amount)),
        _ => {
            let detail = format!("{name} is negative, not finite or too large; send it in units of the currency");
            Err(Rejection::new(RejectReason::InvalidAmount, detail))
        }
    }
}
