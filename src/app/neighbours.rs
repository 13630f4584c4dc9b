//! Detects other applications that write to the same output topics, such as a second one with the default names.
//!
//! Decisions of several applications do not clash, because an id names its application. But consumers of the topic get both for
//! each event. Limits: only the last [`RECORDS`] records of each partition are read, for at most [`DEADLINE`]; flat decisions
//! without a decision id cannot be attributed.

use crate::{
    config::Config,
    decision::app_of_id,
    proto::v1,
    source::{Reader, SourceError},
};
use prost::Message;
use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// How many of the last offsets of each partition are read; some of them are transaction markers.
const RECORDS: i64 = 200;

/// How long reading may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// Another application that writes to the same topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Neighbour {
    topic: String,
    app: String,
    /// Timestamp of its newest record, in milliseconds since 1970.
    newest_ms: i64,
    key: &'static str,
}

impl Neighbour {
    /// Names the application, and says how to separate the two.
    pub(crate) fn message(&self, config: &Config) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |it| it.as_millis() as i64);
        let age = crate::duration::display(Duration::from_secs((now - self.newest_ms).max(0) as u64 / 1_000));
        format!(
            "the application {:?} also writes to {:?}; its last record there is {age} old. Consumers of the topic get decisions \
             of both for each event. Set another {} for {:?}, unless the other application is gone for good or consumers tell \
             them apart by the first part of decision_id",
            self.app, self.topic, self.key, config.app.name
        )
    }
}

/// Finds other applications among the last records of the output topics.
///
/// # Errors
/// No broker responds, or reading a topic is not permitted.
pub(crate) fn find(config: &Config) -> Result<Vec<Neighbour>, SourceError> {
    let topics = [(&config.topics.decisions, "topics.decisions"), (&config.topics.dead_letter, "topics.dead_letter")];
    let mut found = BTreeMap::<(&str, String), Neighbour>::new();
    for (topic, key) in topics {
        let (brokers, client) = (&config.kafka.brokers, config.reader_settings());
        Reader::read_last(brokers, &client, topic, RECORDS, DEADLINE, |_, record, headers| {
            let header =
                headers.iter().find(|(name, _)| *name == "app").and_then(|(_, app)| std::str::from_utf8(app).ok());
            let app = header.map(str::to_owned).or_else(|| record.payload.and_then(app_of));
            let Some(app) = app.filter(|app| !app.is_empty() && *app != config.app.name) else { return };
            let at = record.timestamp_ms.unwrap_or_default();
            let neighbour = found.entry((key, app.clone())).or_insert_with(|| Neighbour {
                topic: topic.clone(),
                app,
                newest_ms: at,
                key,
            });
            neighbour.newest_ms = neighbour.newest_ms.max(at);
        })?;
    }
    Ok(found.into_values().collect())
}

/// The application of a decision in any format: from the first member that is a decision id. In OpenRTB, it is below
/// `ext`.
fn app_of(payload: &[u8]) -> Option<String> {
    if let Ok(serde_json::Value::Object(members)) = serde_json::from_slice(payload) {
        let below = members.get("ext").and_then(|ext| ext["aimpoint"].as_object());
        let values = below.into_iter().chain([&members]).flat_map(serde_json::Map::values);
        return values.filter_map(|it| it.as_str()).find_map(app_of_id).map(str::to_owned);
    }
    app_of_id(&v1::Decision::decode(payload).ok()?.decision_id).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_application_of_a_decision_is_found_in_every_format() {
        let protobuf = v1::Decision { decision_id: "shop:clicks-0-1".to_owned(), ..v1::Decision::default() };
        for (payload, app) in [
            (&br#"{"schema_version":1,"decision_id":"shop:clicks-0-1","user_key":"u"}"#[..], Some("shop")),
            (br#"{"user":"u","score":0.5,"id":"shop:clicks-0-1-2"}"#, Some("shop")),
            (br#"{"user":{"data":[]},"ext":{"aimpoint":{"decision_id":"shop:clicks-0-1"}}}"#, Some("shop")),
            (br#"{"id":"shop:clicks-0-1","mutations":[],"metadata":{"api_version":"1.0"}}"#, Some("shop")),
            (br#"{"user":{"data":[]},"ext":7}"#, None),
            (br#"{"decision_id":"clicks-0-1"}"#, None),
            (br#"{"user":"u"}"#, None),
            (&protobuf.encode_to_vec(), Some("shop")),
            (b"\xff\xfe", None),
            (b"", None),
        ] {
            assert_eq!(app_of(payload).as_deref(), app, "{}", String::from_utf8_lossy(payload));
        }
    }

    #[test]
    fn the_message_names_the_application_and_the_setting() {
        let config = Config::default();
        let (topic, app) = ("decisions".to_owned(), "other".to_owned());
        let message = Neighbour { topic, app, newest_ms: 0, key: "topics.decisions" }.message(&config);
        for part in ["\"other\"", "\"decisions\"", "Set another topics.decisions for \"aimpoint\""] {
            assert!(message.contains(part), "{message}");
        }
    }
}
