//! The sections `[input]`, `[[field]]`, `[time]` and `[duplicates]` as written in the configuration.

use super::{EventTime, time};
use crate::columns::Type;
pub use crate::secret::Secret;
use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, MapAccess, Visitor, value::MapAccessDeserializer},
};
use std::{collections::BTreeMap, fmt, time::Duration};

/// `[input]`: how a record is read.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct InputSpec {
    /// The encoding of the payload.
    pub format: InputFormat,
    /// The producer whose field locations to start from; `fields` refines them.
    pub preset: Preset,
    /// The path of the array whose elements are the events, if a record holds several.
    pub unpack: Option<String>,
    /// What to do with user agents of bots.
    pub bots: BotRule,
    /// What a `[[field]]` of text keeps of an address.
    pub addresses: Addresses,
    /// The key of the hash that stands for a client of an access log.
    pub secret: Option<Secret>,
    /// The format of access log lines, in nginx's or Apache's syntax; if absent, the usual formats are recognised.
    pub log_format: Option<String>,
    /// Whether keys of different types with the same text are different users.
    pub key_types: KeyTypes,
    /// The largest payload that is decoded, in bytes, up to 256 MiB; larger ones are dead letters.
    #[schemars(with = "String", extend("type" = ["string", "integer"]))]
    pub max_bytes: bytesize::ByteSize,
    /// Canonical field → its location in the payload.
    pub fields: BTreeMap<String, FieldPath>,
}

impl Default for InputSpec {
    fn default() -> Self {
        Self {
            format: InputFormat::Json,
            preset: Preset::Canonical,
            unpack: None,
            bots: BotRule::Mark,
            addresses: Addresses::Truncated,
            secret: None,
            log_format: None,
            key_types: KeyTypes::Separate,
            max_bytes: bytesize::ByteSize::mib(1),
            fields: BTreeMap::new(),
        }
    }
}

/// The encoding of the input's payloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum InputFormat {
    /// One JSON object per record.
    Json,
    /// `aimpoint.v1.Event`, with or without the Confluent wire header.
    Protobuf,
    /// One line of a web server's log, in the common or the combined form.
    AccessLog,
}

/// What fields keep of IP addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Addresses {
    /// The network: an IPv4 address without its last byte, and the first 48 bits of an IPv6 address.
    Truncated,
    /// All of them.
    Whole,
}

/// Whether a user id and an anonymous id with the same text are one user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeyTypes {
    /// They are two users.
    Separate,
    /// They are one user, as in versions up to 0.1; types are ignored.
    Joined,
}

/// What to do with events whose user agent is a known bot. If an event itself says whether it is a bot's, that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BotRule {
    /// Nothing: user agents are ignored.
    Keep,
    /// `bot` is set.
    Mark,
    /// `bot` is set, and the event is suppressed: it enters no profile and produces no decision.
    Exclude,
}

/// A known producer's field names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// The names of `aimpoint.v1.Event`.
    Canonical,
    /// Snowplow's atomic events.
    Snowplow,
    /// Segment and RudderStack.
    Segment,
    /// The GA4 export.
    Ga4,
    /// Amplitude.
    Amplitude,
}

/// The location of a field in the payload: a path, or a path with its unit.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum FieldPath {
    /// A dotted path such as `context.page.url` or `event_params[page_location]`.
    Path(String),
    /// A path with further settings.
    Detailed {
        /// The dotted path.
        path: String,
        /// The unit of a number that is a time.
        #[serde(default)]
        unit: TimeUnit,
    },
}

impl<'de> Deserialize<'de> for FieldPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// Parsed separately, so that errors name the wrong member.
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Detailed {
            path: String,
            #[serde(default)]
            unit: TimeUnit,
        }

        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = FieldPath;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a path such as \"page.url\", or { path = \"time\", unit = \"ms\" }")
            }

            fn visit_str<E: de::Error>(self, path: &str) -> Result<FieldPath, E> {
                Ok(FieldPath::Path(path.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<FieldPath, A::Error> {
                let Detailed { path, unit } = Detailed::deserialize(MapAccessDeserializer::new(members))?;
                Ok(FieldPath::Detailed { path, unit })
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// The unit of a time written as a number, or as a number in text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum TimeUnit {
    /// Seconds since 1970.
    #[serde(rename = "s")]
    Seconds,
    /// Milliseconds since 1970.
    #[serde(rename = "ms")]
    Millis,
    /// Microseconds since 1970.
    #[serde(rename = "us")]
    Micros,
    /// Nanoseconds since 1970.
    #[serde(rename = "ns")]
    Nanos,
    /// By size: below 10^11 seconds, below 10^14 milliseconds, below 10^17 microseconds, else nanoseconds. A number of
    /// 8, 12 or 14 digits that is a date, such as 20260131, is that date.
    #[default]
    #[serde(rename = "auto")]
    Auto,
}

/// `[[field]]`: an additional field for expressions.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FieldSpec {
    /// Its name in expressions.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub ty: Type,
    /// Its path in the payload, for instance `properties.color`.
    pub path: String,
}

/// `[time]`: how unusual times are handled.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TimeSpec {
    /// How long after a user's newest event an older one still counts.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub allowed_lateness: Duration,
    /// What happens to an event that is later than that.
    pub too_late: TooLate,
    /// How far ahead of its record's Kafka timestamp an event may be, or ahead of the present if that timestamp is
    /// absent or implausible; events further ahead are dead letters.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub future_tolerance: Duration,
    /// The earliest event time, as a date; earlier events are dead letters.
    #[serde(with = "moment")]
    #[schemars(with = "String")]
    pub past_limit: EventTime,
    /// What replaces an absent time.
    pub missing: MissingTime,
    /// Whether the machine's clock ends memberships on partitions where nothing arrives. Turn it off to replay past
    /// events.
    pub tick: bool,
}

/// 1990-01-01: no clickstream is older than the web, and any time in a wrong unit falls into 1970.
const PAST_LIMIT: EventTime = EventTime(631_152_000_000_000);

/// A moment as written: a date, or a date and a time.
mod moment {
    use super::{EventTime, time};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// In quotes, or as an unquoted TOML date, which people and flags use.
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a date such as \"1990-01-01\"")]
    enum Written {
        Text(String),
        Date(toml::value::Datetime),
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<EventTime, D::Error> {
        let text = match Written::deserialize(deserializer)? {
            Written::Text(text) => text,
            Written::Date(date) => date.to_string(),
        };
        let expected = || D::Error::custom(format!("{text:?} is not a date; write one such as \"1990-01-01\""));
        time::dated(text.trim()).map(EventTime).map_err(|_| expected())
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
    pub(super) fn serialize<S: Serializer>(moment: &EventTime, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&moment.date())
    }
}

impl Default for TimeSpec {
    fn default() -> Self {
        Self {
            allowed_lateness: Duration::from_hours(7 * 24),
            too_late: TooLate::DeadLetter,
            future_tolerance: Duration::from_hours(1),
            past_limit: PAST_LIMIT,
            missing: MissingTime::Reject,
            tick: true,
        }
    }
}

/// What happens to an event beyond the allowed lateness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TooLate {
    /// It is counted as suppressed; nothing else happens.
    Drop,
    /// It goes to the dead-letter topic.
    DeadLetter,
}

/// What replaces an absent time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MissingTime {
    /// Nothing; the record is a dead letter.
    Reject,
    /// The record's Kafka timestamp.
    Record,
}

/// `[duplicates]`: when an event is a duplicate.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DuplicateSpec {
    /// How long in event time a user's `event_id` is remembered; 0 remembers none.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub horizon: Duration,
    /// The most ids remembered per user; the newest are kept.
    pub max_ids: u16,
}

impl Default for DuplicateSpec {
    fn default() -> Self {
        Self { horizon: Duration::ZERO, max_ids: 64 }
    }
}
