//! Decisions that carry their features, as the log has them.

use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::collections::BTreeMap;

/// The activity without which no row may be made.
const TRAIN: &str = "train";

/// What a row is made of. Names may be in lowerCamelCase, and whole numbers may be texts, as proto3 JSON allows.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct LoggedDecision {
    #[serde(alias = "decisionId")]
    pub(in crate::cli) decision_id: String,
    #[serde(alias = "userKey")]
    pub(in crate::cli) user_key: String,
    #[serde(alias = "keyType", deserialize_with = "or_default")]
    key_type: String,
    #[serde(alias = "triggerEventId", deserialize_with = "or_default")]
    pub(in crate::cli) trigger_event_id: String,
    #[serde(alias = "occurredAt", deserialize_with = "whole")]
    pub(in crate::cli) occurred_at: i64,
    #[serde(alias = "featureSetVersion", deserialize_with = "or_default")]
    pub(in crate::cli) feature_set_version: String,
    #[serde(deserialize_with = "or_default")]
    input: LoggedInput,
    consent: Option<LoggedConsent>,
    /// `None` in a decision that carries none. A value that is missing is absent or null.
    pub(in crate::cli) features: Option<BTreeMap<String, Option<f32>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LoggedInput {
    #[serde(deserialize_with = "or_default")]
    partition: i32,
    #[serde(deserialize_with = "whole")]
    offset: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LoggedConsent {
    #[serde(deserialize_with = "or_default")]
    permitted: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    framework: String,
    #[serde(alias = "legalBasis", deserialize_with = "or_default")]
    legal_basis: String,
}

impl LoggedDecision {
    /// Reads a decision. `None` if it carries no features.
    pub(in crate::cli) fn read(json: &str) -> Option<Self> {
        // Most decisions carry none; this is faster than reading them.
        if !json.contains("\"features\"") {
            return None;
        }
        let decision: Self = serde_json::from_str(json).ok()?;
        decision.features.as_ref().is_some_and(|features| !features.is_empty()).then_some(decision)
    }

    /// The type of the user's id, as in rows: `person`, `device` or `app`.
    pub(in crate::cli) fn key_type(&self) -> String {
        self.key_type.trim_start_matches("KEY_TYPE_").to_ascii_lowercase()
    }

    /// The partition and the offset of its event.
    pub(in crate::cli) fn position(&self) -> (i32, i64) {
        (self.input.partition, self.input.offset)
    }

    /// What permits training on it; `None` if nothing does. `is_checked`: whether consent is checked today.
    pub(in crate::cli) fn basis(&self, is_checked: bool) -> Option<String> {
        match &self.consent {
            Some(consent) if consent.permitted.iter().any(|it| it == TRAIN) => {
                Some(format!("{}/{}", consent.framework, consent.legal_basis))
            }
            Some(_) => None,
            None if is_checked => None,
            None => Some("not_checked".to_owned()),
        }
    }

    /// The values of these features, in this order; NaN if missing.
    pub(in crate::cli) fn row(&self, names: &[String]) -> Vec<f32> {
        let features = self.features.as_ref();
        names.iter().map(|name| features.and_then(|it| *it.get(name)?).unwrap_or(f32::NAN)).collect()
    }
}

fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A whole number, or a text of one.
fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    let found = match Value::deserialize(deserializer)? {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.parse().ok(),
        Value::Null => Some(0),
        _ => None,
    };
    found.ok_or_else(|| serde::de::Error::custom("expected a whole number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DECISION: &str = r#"{"decision_id":"a:c-0-7","user_key":"5","key_type":"KEY_TYPE_DEVICE","trigger_event_id":null,
        "occurred_at":"17","input":{"topic":"c","partition":1,"offset":"7"},"features":{"n":2.5,"other":1}}"#;

    #[test]
    fn a_decision_is_read_with_its_features_or_not_at_all() {
        let found = LoggedDecision::read(DECISION).unwrap();
        assert_eq!((found.position(), found.occurred_at, found.key_type().as_str()), ((1, 7), 17, "device"));
        let row = found.row(&["m".to_owned(), "n".to_owned()]);
        assert!(row[0].is_nan() && row[1] == 2.5, "{row:?}");
        let camel = DECISION.replace("decision_id", "decisionId").replace("occurred_at", "occurredAt");
        assert_eq!(LoggedDecision::read(&camel).unwrap().occurred_at, 17);
        // Columns of a table have a null where a member is missing.
        let table = DECISION.replace("{\"n\":2.5,", "{\"m\":null,\"n\":2.5,");
        let row = LoggedDecision::read(&table).unwrap().row(&["m".to_owned(), "n".to_owned()]);
        assert!(row[0].is_nan() && row[1] == 2.5, "{row:?}");
        for without in [DECISION.replace("{\"n\":2.5,\"other\":1}", "{}"), "{\"decision_id\":\"a\"}".to_owned()] {
            assert!(LoggedDecision::read(&without).is_none(), "{without}");
        }
        // The features of creatives are others.
        let creative = r#"{"decision_id":"a","campaigns":[{"creative":{"features":[1.0]}}]}"#;
        assert!(LoggedDecision::read(creative).is_none());
    }

    #[test]
    fn training_needs_a_basis() {
        let with = |consent: &str| {
            LoggedDecision::read(&DECISION.replace("\"input\"", &format!("\"consent\":{consent},\"input\""))).unwrap()
        };
        let given =
            with(r#"{"permitted":["score","train"],"framework":"tcf_eu","legal_basis":"consent","refused":[]}"#);
        assert_eq!(given.basis(true).as_deref(), Some("tcf_eu/consent"));
        let refused = with(r#"{"permitted":["score"],"framework":"tcf_eu","legal_basis":"consent"}"#);
        assert_eq!((refused.basis(true), refused.basis(false)), (None, None));
        let unchecked = LoggedDecision::read(DECISION).unwrap();
        assert_eq!((unchecked.basis(false).as_deref(), unchecked.basis(true)), (Some("not_checked"), None));
    }
}
