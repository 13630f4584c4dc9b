//! An outcome in the proto3 JSON form of `aimpoint.v1.Outcome`.
//!
//! Names are those of the message, or in lowerCamelCase. Whole numbers of 64 bits may be numbers or texts; so may
//! amounts. A type may be given by its name, its short name (`click`) or its number. `null` means absent.

use super::{Kind, Members, Outcome, RejectReason, Rejection};
use crate::{
    json_place::JsonPlace,
    targeting::money::{Cpm, Currency, Micros},
};
use serde_json::{Map, Value, json};

/// Writes an outcome.
pub(super) fn write(outcome: &Outcome) -> Vec<u8> {
    let amount = |amount: Option<Micros>| amount.map(|amount| amount.to_string());
    let price = |price: Option<Cpm>| amount(price.map(|price| Micros(price.0)));
    let mut members = json!({
        "outcome_id": outcome.id,
        "type": format!("OUTCOME_TYPE_{}", outcome.kind.as_str().to_ascii_uppercase()),
        "occurred_at": outcome.occurred_at.to_string(),
        "user_key": outcome.user_key,
        "decision_id": outcome.decision_id,
        "auction_id": outcome.auction_id,
        "imp_id": outcome.imp_id,
        "campaign_id": outcome.campaign_id,
        "creative_id": outcome.creative_id,
        "placement": outcome.placement,
        "value": amount(outcome.value),
        "currency": outcome.currency.as_ref().map(Currency::code),
        "price": price(outcome.price),
        "min_to_win": price(outcome.min_to_win),
        "loss_reason": outcome.loss_reason,
    });
    if let Some(members) = members.as_object_mut() {
        members.retain(|_, value| !value.is_null());
    }
    members.to_string().into_bytes()
}

/// Reads the members.
pub(super) fn members(payload: &[u8]) -> Result<Members, Rejection> {
    let object: Map<String, Value> = serde_json::from_slice(payload).map_err(|error| {
        let place = JsonPlace::from(&error);
        let detail = format!("not a JSON object: {place}; send one aimpoint.v1.Outcome a record");
        Rejection::new(RejectReason::Malformed, detail)
    })?;
    let reader = Reader(object);
    Ok(Members {
        id: reader.text("outcome_id")?,
        kind: reader.kind()?,
        occurred_at: reader.whole("occurred_at")?,
        user_key: reader.text("user_key")?,
        decision_id: reader.text("decision_id")?,
        auction_id: reader.text("auction_id")?,
        imp_id: reader.text("imp_id")?,
        campaign_id: reader.text("campaign_id")?,
        creative_id: reader.text("creative_id")?,
        placement: reader.text("placement")?,
        value: reader.amount("value")?,
        currency: reader.text("currency")?,
        price: reader.amount("price")?,
        min_to_win: reader.amount("min_to_win")?,
        // A reason that is no 32-bit number is of no use, and harms nobody.
        loss_reason: reader.whole("loss_reason")?.and_then(|reason| i32::try_from(reason).ok()).unwrap_or_default(),
    })
}

struct Reader(Map<String, Value>);

impl Reader {
    /// A member that is not null, by its name or its name in lowerCamelCase.
    fn get(&self, name: &str) -> Option<&Value> {
        let found = self.0.get(name).or_else(|| self.0.get(&camel_case(name)));
        found.filter(|value| !value.is_null())
    }

    fn text(&self, name: &str) -> Result<String, Rejection> {
        match self.get(name) {
            None => Ok(String::new()),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(_) => Err(wrong_type(name, "a text")),
        }
    }

    fn whole(&self, name: &str) -> Result<Option<i64>, Rejection> {
        let number = match self.get(name) {
            None => return Ok(None),
            Some(Value::String(text)) => text.parse().ok(),
            // Writers of floats write 1.7e15.
            Some(Value::Number(number)) => number.as_i64().or_else(|| number.as_f64().and_then(exact)),
            Some(_) => None,
        };
        number.map(Some).ok_or_else(|| wrong_type(name, "a whole number of 64 bits, or one as a text"))
    }

    fn amount(&self, name: &str) -> Result<Option<f64>, Rejection> {
        let number = match self.get(name) {
            None => return Ok(None),
            // `NaN` and `Infinity` are read, and refused as amounts.
            Some(Value::String(text)) => text.parse().ok(),
            Some(Value::Number(number)) => number.as_f64(),
            Some(_) => None,
        };
        number.map(Some).ok_or_else(|| wrong_type(name, "a number"))
    }

    fn kind(&self) -> Result<Option<Kind>, Rejection> {
        match self.get("type") {
            None => Ok(None),
            Some(Value::String(name)) => Ok(Some(Kind::Name(name.clone()))),
            Some(Value::Number(number)) => match number.as_i64() {
                Some(number) => Ok(Some(Kind::Number(number))),
                None => Err(wrong_type("type", "the name of a type")),
            },
            Some(_) => Err(wrong_type("type", "the name of a type")),
        }
    }
}

/// A whole number as a float, if it is one that a float holds exactly.
fn exact(number: f64) -> Option<i64> {
    (number.fract() == 0.0 && number.abs() <= 2.0_f64.powi(53)).then_some(number as i64)
}

fn camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let mut camel = words.next().unwrap_or_default().to_owned();
    for word in words {
        let (first, rest) = word.split_at(1.min(word.len()));
        camel += &first.to_ascii_uppercase();
        camel += rest;
    }
    camel
}

fn wrong_type(name: &str, expected: &str) -> Rejection {
    Rejection::new(RejectReason::WrongType, format!("{name} is not {expected}"))
}
