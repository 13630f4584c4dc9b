//! What decisions are grouped by.
//!
//! Owns the names of groupings and the values that a decision has for them. A grouping is one field or several joined
//! with `+`. A field belongs to the decision (its model, its segments) or to a campaign in it (its creative, the arm).
//! A decision without campaigns is in no group of the latter. A user in several segments is in several groups.

use crate::control::{Details, OfferedDecision};
use sonic_rs::{JsonValueTrait, LazyValue};

/// The value of a decision that does not have the field.
const NONE: &str = "(none)";

/// The microseconds of a day.
const DAY: i64 = 86_400_000_000;

/// What is read of a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Field {
    Campaign,
    Arm,
    Creative,
    Audience,
    CreativePolicy,
    Currency,
    Model,
    ModelVersion,
    Variant,
    Segment,
    Status,
    PolicyVersion,
    Day,
    /// A member of the decision in JSON.
    Member(Vec<String>),
}

/// The fields with a name of their own.
const FIELDS: [(&str, Field); 13] = [
    ("campaign", Field::Campaign),
    ("arm", Field::Arm),
    ("creative", Field::Creative),
    ("audience", Field::Audience),
    ("creative_policy", Field::CreativePolicy),
    ("currency", Field::Currency),
    ("model", Field::Model),
    ("model_version", Field::ModelVersion),
    ("variant", Field::Variant),
    ("segment", Field::Segment),
    ("status", Field::Status),
    ("policy_version", Field::PolicyVersion),
    ("day", Field::Day),
];

impl Field {
    fn parse(name: &str) -> Result<Self, String> {
        if let Some((_, field)) = FIELDS.iter().find(|(known, _)| *known == name) {
            return Ok(field.clone());
        }
        let parts: Vec<String> = name.split('.').map(str::to_owned).collect();
        let is_name = |part: &String| {
            !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
        };
        if parts.iter().all(is_name) {
            return Ok(Self::Member(parts));
        }
        let known: Vec<&str> = FIELDS.iter().map(|(name, _)| *name).collect();
        Err(format!(
            "{name:?} is neither one of {} nor a member of decisions such as input.partition; join several with +",
            known.join(", ")
        ))
    }

    /// Whether it belongs to a campaign in the decision.
    fn is_of_offer(&self) -> bool {
        matches!(
            self,
            Self::Campaign | Self::Arm | Self::Creative | Self::Audience | Self::CreativePolicy | Self::Currency
        )
    }

    /// Calls `to` with each value of a decision or of one of its offers.
    fn visit(&self, of: &Decided<'_>, offer: Option<usize>, to: &mut dyn FnMut(&str)) {
        let mut text = |text: &str| to(if text.is_empty() { NONE } else { text });
        let details = of.details;
        let offered = offer.and_then(|at| of.offered.offers.get(at));
        let detail = offer.and_then(|at| details.offers.get(at));
        match self {
            Self::Campaign => text(offered.map_or("", |it| it.campaign_id)),
            Self::Arm => text(detail.map_or("", |it| &it.arm)),
            Self::Creative => text(offered.and_then(|it| it.creative_id).unwrap_or_default()),
            Self::Audience => text(offered.map_or("", |it| it.audience)),
            Self::CreativePolicy => text(detail.map_or("", |it| &it.policy)),
            Self::Currency => text(offered.map_or("", |it| it.currency.code())),
            Self::Model => text(&details.model),
            Self::ModelVersion => text(&details.model_version),
            Self::Variant => text(&details.variant),
            Self::Segment if details.segments.is_empty() => text(""),
            Self::Segment => details.segments.iter().for_each(|segment| text(segment)),
            Self::Status => text(&details.status),
            Self::PolicyVersion => text(&of.offered.policy_version.to_string()),
            Self::Day => text(&day(of.offered.decided_at)),
            Self::Member(path) => text(&member(of.json, path)),
        }
    }
}

/// The day of a time in UTC.
fn day(at: i64) -> String {
    i32::try_from(at.div_euclid(DAY)).map(date).unwrap_or_default()
}

/// A day since 1970 as in `2026-01-31`.
pub(super) fn date(days: i32) -> String {
    let since = jiff::civil::date(1970, 1, 1);
    let date = jiff::Span::new().try_days(days).ok().and_then(|days| since.checked_add(days).ok());
    date.map(|date| date.to_string()).unwrap_or_default()
}

/// A member of an object as text; empty if it is missing or no single value.
fn member(json: Option<&str>, path: &[String]) -> String {
    let found: Option<LazyValue<'_>> = json.and_then(|json| sonic_rs::get(json, path).ok());
    let Some(found) = found else { return String::new() };
    match found.as_str() {
        Some(text) => text.to_owned(),
        None if found.is_number() || found.is_boolean() => found.as_raw_str().to_owned(),
        None => String::new(),
    }
}

/// A decision to be grouped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decided<'a> {
    /// What control takes of it.
    pub(super) offered: &'a OfferedDecision<'a>,
    /// What else evaluations read.
    pub(super) details: &'a Details,
    /// All of it, if a grouping reads a member.
    pub(super) json: Option<&'a str>,
}

/// A grouping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dimension {
    /// As written.
    name: String,
    fields: Vec<Field>,
}

impl Dimension {
    /// Reads a grouping, such as `campaign` or `campaign+creative`.
    ///
    /// # Errors
    ///
    /// Says which names there are.
    pub fn parse(text: &str) -> Result<Self, String> {
        let fields = text.split('+').map(|name| Field::parse(name.trim())).collect::<Result<_, _>>()?;
        Ok(Self { name: text.to_owned(), fields })
    }

    /// As written.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it reads members that only the whole decision has.
    pub fn reads_members(&self) -> bool {
        self.fields.iter().any(|field| matches!(field, Field::Member(_)))
    }

    /// Whether a decision may be in several groups.
    pub(super) fn has_several(&self) -> bool {
        self.fields.contains(&Field::Segment)
    }

    /// Whether it is only about campaigns in decisions.
    pub(super) fn is_of_offer(&self) -> bool {
        self.fields.iter().any(Field::is_of_offer)
    }

    /// Calls `to` with the name of each group that a decision or one of its offers is in. None for a decision without an
    /// offer, if the grouping is about offers.
    pub(super) fn visit(&self, of: &Decided<'_>, offer: Option<usize>, to: &mut dyn FnMut(&str)) {
        if offer.is_none() && self.is_of_offer() {
            return;
        }
        if let [field] = &self.fields[..] {
            return field.visit(of, offer, to);
        }
        let mut names = vec![String::new()];
        for (number, field) in self.fields.iter().enumerate() {
            let glue = if number == 0 { "" } else { " + " };
            let mut longer = Vec::with_capacity(names.len());
            field.visit(of, offer, &mut |value| longer.extend(names.iter().map(|name| format!("{name}{glue}{value}"))));
            names = longer;
        }
        for name in &names {
            to(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::DecisionRecord;

    const JSON: &str = r#"{"decision_id":"shop:d-0-1","user_key":"u","decided_at":"1767225600000000","policy_version":"4",
        "status":"STATUS_TARGETED","input":{"partition":3},"key_type":"KEY_TYPE_PERSON","segments":[{"id":"a"},{"id":"b"}],
        "model":{"name":"m","version":"7"},
        "campaigns":[{"id":"spring","arm":"bold","currency":"EUR","creative":{"id":"red","policy":"thompson","propensity":0.5}},
            {"id":"summer","currency":"USD"}]}"#;

    fn values(name: &str, offer: Option<usize>) -> Vec<String> {
        let record = DecisionRecord::read(JSON.as_bytes()).unwrap();
        let mut found = Vec::new();
        record.with(|offered| {
            let decided = Decided { offered, details: record.details(), json: Some(JSON) };
            Dimension::parse(name).unwrap().visit(&decided, offer, &mut |value| found.push(value.to_owned()));
        });
        found
    }

    #[test]
    fn a_decision_is_in_the_groups_of_its_values() {
        for (name, offer, expected) in [
            ("campaign", Some(1), &["summer"][..]),
            ("campaign", None, &[]),
            ("arm", Some(0), &["bold"]),
            ("arm", Some(1), &["(none)"]),
            ("creative", Some(0), &["red"]),
            ("creative", Some(1), &["(none)"]),
            ("audience", Some(0), &["(none)"]),
            ("creative_policy", Some(0), &["thompson"]),
            ("currency", Some(1), &["USD"]),
            ("model", None, &["m"]),
            ("model_version", Some(1), &["7"]),
            ("variant", None, &["(none)"]),
            ("segment", None, &["a", "b"]),
            ("status", None, &["targeted"]),
            ("policy_version", None, &["4"]),
            ("day", None, &["2026-01-01"]),
            ("input.partition", None, &["3"]),
            ("key_type", Some(0), &["KEY_TYPE_PERSON"]),
            ("input.offset", None, &["(none)"]),
            ("input", None, &["(none)"]),
            ("campaign+creative", Some(0), &["spring + red"]),
            ("segment+campaign", Some(0), &["a + spring", "b + spring"]),
            ("segment+campaign", None, &[]),
        ] {
            assert_eq!(values(name, offer), expected, "{name} {offer:?}");
        }
    }

    #[test]
    fn a_name_that_cannot_be_a_member_is_refused_with_the_names_there_are() {
        for name in ["", "campaign+", "a b", "input..partition", "campaigns[0].id"] {
            let error = Dimension::parse(name).unwrap_err();
            assert!(error.contains("model_version") && error.contains("join several with +"), "{error}");
        }
        assert!(Dimension::parse("input.partition").unwrap().reads_members());
        assert!(!Dimension::parse("campaign+day").unwrap().reads_members());
    }
}
