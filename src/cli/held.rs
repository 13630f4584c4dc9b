//! What the topics hold about a user: every record that has the id, and whether it still counts.
//!
//! Guarantees: every partition of a topic is read to its end as of the call, and committed records only. A record is found by
//! its key, or if the id (or its pseudonym) appears in its key, value or headers as a word of its own. Limits: an id that other values equal, such
//! as `5`, is also found where something else has this value; each place is listed, so a person can tell.

use crate::{
    app::topics::{self, block_on},
    config::Config,
    event::{KeyType, Record, UserKeys, split_key},
    sink::TopicState,
    source::Reader,
    state::{decode_erasure, erasure_key},
};
use serde::Serialize;
use std::collections::BTreeMap;

/// What a topic is for, which decides what a record in it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum TopicKind {
    /// The events, which others write. Aimpoint removes nothing from it.
    Input,
    /// The changelog of the profiles: the newest record of a key replaces the others.
    Profiles,
    /// The decisions: the newest record of a key replaces the others.
    Decisions,
    /// A log in which each record counts until its retention has passed.
    Log,
    /// The state of control, by its own keys.
    Control,
}

/// What a record with the id means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Standing {
    /// It is in use.
    Held,
    /// A newer record replaces it, or it is a null: it goes with compaction or retention.
    Superseded,
    /// It is an event of the input, or a request to erase the user: it goes with the retention of that topic.
    Input,
}

/// A record that has the id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Holding {
    pub(super) topic: String,
    pub(super) kind: TopicKind,
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) timestamp_ms: Option<i64>,
    /// Where the id is: `key`, `value` or `headers`.
    pub(super) found_in: &'static str,
    pub(super) standing: Standing,
    #[serde(skip)]
    pub(super) payload: Option<Vec<u8>>,
    #[serde(skip)]
    pub(super) headers: Vec<(String, String)>,
}

/// A topic that was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct TopicRead {
    pub(super) topic: String,
    pub(super) kind: TopicKind,
    pub(super) partitions: usize,
    /// How many records were read.
    pub(super) records: u64,
    pub(super) cleanup: Option<String>,
    pub(super) retention_ms: Option<i64>,
}

/// The note that a partition keeps of an erasure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Note {
    pub(super) partition: i32,
    /// In microseconds since 1970.
    pub(super) erased_at: i64,
}

/// The note that a partition keeps of a choice that has outlived its user's profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct KeptChoice {
    pub(super) partition: i32,
}

/// Everything that was found about a user.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) topics: Vec<TopicRead>,
    pub(super) holdings: Vec<Holding>,
    /// By partition of the changelog.
    pub(super) notes: Vec<Note>,
    /// The same for choices.
    pub(super) choices: Vec<KeptChoice>,
    /// How many partitions the changelog has.
    pub(super) partitions: usize,
}

/// Reads all topics of the configuration that exist.
///
/// # Errors
/// No broker responds, or a topic cannot be read to its end.
pub(super) fn read(config: &Config, user: &str, key_type: KeyType) -> anyhow::Result<Held> {
    let client = topics::client(config)?;
    let settings = config.kafka.consumer_settings();
    let mut held = Held::default();
    let users = config.users();
    for (topic, kind) in all(config) {
        let Some(state) = block_on(client.state(&topic))?? else { continue };
        let mut search = Search::new(&topic, kind, user, key_type, &users);
        Reader::read_whole(&config.kafka.brokers, &settings, &topic, |_, record, headers| {
            search.take(record, headers);
        })?;
        held.topics.push(search.topic_read(&state));
        if kind == TopicKind::Profiles {
            held.partitions = state.partitions;
            for (partition, erased_at) in search.notes_by_partition() {
                match erased_at {
                    Some(erased_at) => held.notes.push(Note { partition, erased_at }),
                    None => held.choices.push(KeptChoice { partition }),
                }
            }
        }
        held.holdings.extend(search.finish());
    }
    Ok(held)
}

/// All topics that can hold something about a user.
fn all(config: &Config) -> Vec<(String, TopicKind)> {
    let topics = &config.topics;
    let mut all = vec![
        (topics.clickstream.clone(), TopicKind::Input),
        (topics.decisions.clone(), TopicKind::Decisions),
        (config.profiles_topic(), TopicKind::Profiles),
        (topics.dead_letter.clone(), TopicKind::Log),
    ];
    all.extend(topics.shadow_scores.iter().map(|topic| (topic.clone(), TopicKind::Log)));
    all.push((topics.outcomes.clone(), TopicKind::Input));
    all.push((config.control_topic(), TopicKind::Control));
    all.push((config.policy_topic(), TopicKind::Control));
    all
}

/// The search in one topic.
struct Search<'a> {
    topic: &'a str,
    kind: TopicKind,
    id: &'a str,
    /// What stands for the id behind the input, if it is not the id itself: one, or two while the key of pseudonyms changes.
    pseudonyms: Vec<String>,
    keys: Vec<String>,
    note_keys: Vec<Vec<u8>>,
    records: u64,
    found: Vec<Holding>,
    /// By partition and key: the index in `found` of the newest record with it.
    newest: BTreeMap<(i32, usize), usize>,
    /// By partition and key: when the user was erased; `None` if only a choice is kept.
    notes: BTreeMap<(i32, usize), Option<i64>>,
}

impl<'a> Search<'a> {
    fn new(topic: &'a str, kind: TopicKind, id: &'a str, key_type: KeyType, users: &UserKeys) -> Self {
        let keys = users.all_sought(key_type, id);
        let pseudonyms = keys.iter().filter(|_| users.pseudonyms().is_some());
        let pseudonyms = pseudonyms.map(|key| split_key(key).1.to_owned()).collect();
        let note_keys = keys.iter().map(|key| erasure_key(key.as_bytes())).collect();
        let (found, newest, notes) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        Self { topic, kind, id, pseudonyms, keys, note_keys, records: 0, found, newest, notes }
    }

    /// By partition: when the user was erased, under whichever name; `None` if only a choice is kept.
    fn notes_by_partition(&self) -> BTreeMap<i32, Option<i64>> {
        let mut all = BTreeMap::new();
        for ((partition, _), erased_at) in &self.notes {
            let known = all.entry(*partition).or_insert(*erased_at);
            *known = (*known).max(*erased_at);
        }
        all
    }

    fn take(&mut self, record: &Record<'_>, headers: &[(&str, &[u8])]) {
        self.records += 1;
        let Record { partition, offset, timestamp_ms, key, payload, .. } = *record;
        let note = self.note_keys.iter().position(|it| key == Some(it));
        if let Some(index) = note.filter(|_| self.kind == TopicKind::Profiles) {
            match payload.map(|payload| decode_erasure(&self.note_keys[index], payload)) {
                Some(Ok(at)) => drop(self.notes.insert((partition, index), at)),
                Some(Err(_)) | None => drop(self.notes.remove(&(partition, index))),
            }
            return;
        }
        let of_key = self.keys.iter().position(|it| key == Some(it.as_bytes()));
        let is_in = |bytes: Option<&[u8]>| {
            let mut names = self.pseudonyms.iter().map(String::as_str).chain([self.id]);
            bytes.is_some_and(|bytes| names.any(|name| contains(bytes, name.as_bytes())))
        };
        let found_in = if of_key.is_some() || is_in(key) {
            "key"
        } else if is_in(payload) {
            "value"
        } else if headers.iter().any(|(_, value)| is_in(Some(value))) {
            "headers"
        } else {
            return;
        };
        let replaces = of_key.filter(|_| matches!(self.kind, TopicKind::Profiles | TopicKind::Decisions));
        if let Some(index) = replaces
            && let Some(before) = self.newest.insert((partition, index), self.found.len())
        {
            self.found[before].standing = Standing::Superseded;
        }
        let standing = match self.kind {
            TopicKind::Input => Standing::Input,
            _ if replaces.is_some() && payload.is_none() => Standing::Superseded,
            _ => Standing::Held,
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        self.found.push(Holding {
            topic: self.topic.to_owned(),
            kind: self.kind,
            partition,
            offset,
            timestamp_ms,
            found_in,
            standing,
            payload: payload.map(<[u8]>::to_vec),
            headers: headers.iter().map(|(name, value)| ((*name).to_owned(), text(value))).collect(),
        });
    }

    fn topic_read(&self, state: &TopicState) -> TopicRead {
        TopicRead {
            topic: self.topic.to_owned(),
            kind: self.kind,
            partitions: state.partitions,
            records: self.records,
            cleanup: state.setting("cleanup.policy").map(str::to_owned),
            retention_ms: state.setting("retention.ms").and_then(|text| text.parse().ok()),
        }
    }

    fn finish(self) -> Vec<Holding> {
        self.found
    }
}

impl TopicRead {
    /// When a record of this time goes.
    pub(super) fn goes(&self, standing: Standing, timestamp_ms: Option<i64>) -> String {
        let cleanup = self.cleanup.as_deref().unwrap_or("delete");
        let deleted = match (self.retention_ms, timestamp_ms) {
            _ if !cleanup.contains("delete") => None,
            (Some(retention), Some(at)) if retention >= 0 => {
                let text = jiff::Timestamp::from_millisecond(at.saturating_add(retention));
                Some(text.map_or_else(|_| "by retention".to_owned(), |time| format!("by retention, after {time:.0}")))
            }
            (Some(_), _) => Some("never: retention.ms is unlimited".to_owned()),
            (None, _) => Some("by retention".to_owned()),
        };
        let compacted = (cleanup.contains("compact") && standing == Standing::Superseded).then_some("by compaction");
        match (compacted, deleted) {
            (Some(compacted), Some(deleted)) => format!("{compacted}, or {deleted}"),
            (Some(compacted), None) => compacted.to_owned(),
            (None, Some(deleted)) => deleted,
            (None, None) => "when it is replaced".to_owned(),
        }
    }
}

/// Whether the bytes contain the id as a word of its own: not inside of a longer word. In Protobuf, the byte before a text is
/// its length, which may look like a letter.
fn contains(bytes: &[u8], id: &[u8]) -> bool {
    let is_letter = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-') || *byte >= 0x80;
    if id.is_empty() || bytes.len() < id.len() {
        return false;
    }
    memchr::memmem::find_iter(bytes, id).any(|at| {
        let before = at.checked_sub(1).map(|before| bytes[before]);
        let after = bytes.get(at + id.len());
        let is_length = before.is_some_and(|before| usize::from(before) == id.len());
        is_length || !before.as_ref().is_some_and(is_letter) && !after.is_some_and(is_letter)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record<'a>(offset: i64, key: &'a str, payload: Option<&'a str>) -> Record<'a> {
        Record { offset, key: Some(key.as_bytes()), payload: payload.map(str::as_bytes), ..Record::default() }
    }

    fn standings(kind: TopicKind, records: &[Record<'_>]) -> Vec<(i64, &'static str, Standing)> {
        let mut search = Search::new("t", kind, "ann", KeyType::Person, &UserKeys::default());
        for record in records {
            search.take(record, &[]);
        }
        search.finish().into_iter().map(|it| (it.offset, it.found_in, it.standing)).collect()
    }

    #[test]
    fn an_id_is_found_as_a_word_and_not_inside_of_another() {
        for (text, is_in) in [
            (&b"ann"[..], true),
            (br#"{"user_id":"ann","n":1}"#, true),
            (b"https://shop.example/?u=ann&x=1", true),
            (b"joann", false),
            (b"anna", false),
            (b"ann-2", false),
            (b"\x0a\x03ann\x12\x01x", true),
            (b"\x0a\x04anna\x12\x01x", false),
            (b"an", false),
        ] {
            assert_eq!(contains(text, b"ann"), is_in, "{:?}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn the_newest_record_of_a_key_is_held_and_a_null_holds_nothing() {
        let profile = [record(0, "ann", Some("p")), record(1, "bob", Some("q")), record(2, "ann", Some("r"))];
        let (held, gone) = (Standing::Held, Standing::Superseded);
        assert_eq!(standings(TopicKind::Profiles, &profile), [(0, "key", gone), (2, "key", held)]);
        let erased = [record(0, "ann", Some("d")), record(3, "ann", None)];
        assert_eq!(standings(TopicKind::Decisions, &erased), [(0, "key", gone), (3, "key", gone)]);
        let again = [&erased[..], &[record(4, "ann", Some("d"))]].concat();
        assert_eq!(standings(TopicKind::Decisions, &again)[2], (4, "key", held));
        let letters =
            [record(0, "ann", Some("x")), record(1, "x", Some(r#"{"user_id":"ann"}"#)), record(2, "ann", None)];
        let all = [(0, "key", held), (1, "value", held), (2, "key", held)];
        assert_eq!(standings(TopicKind::Log, &letters), all, "each record of a log counts for itself");
        assert_eq!(standings(TopicKind::Input, &letters[..1]), [(0, "key", Standing::Input)]);
    }

    #[test]
    fn notes_of_erasures_are_found_without_the_id() {
        let mut erasures = crate::state::Erasures::default();
        erasures.note(crate::state::hash_key(b"ann"), b"ann", 70, None);
        let (key, payload) = erasures.records().next().unwrap();
        let mut search = Search::new("t", TopicKind::Profiles, "ann", KeyType::Person, &UserKeys::default());
        let note = |payload| Record { partition: 2, key: Some(&key), payload, ..Record::default() };
        search.take(&note(Some(&payload)), &[]);
        assert_eq!((search.notes_by_partition().get(&2), search.found.len()), (Some(&Some(70)), 0));
        search.take(&note(None), &[]);
        assert!(search.notes.is_empty());
    }

    #[test]
    fn it_is_said_when_a_record_goes() {
        let read = |cleanup: &str, retention_ms| TopicRead {
            topic: "t".to_owned(),
            kind: TopicKind::Log,
            partitions: 1,
            records: 0,
            cleanup: Some(cleanup.to_owned()),
            retention_ms,
        };
        let goes = |it: TopicRead, standing| it.goes(standing, Some(1_700_000_000_000));
        assert_eq!(goes(read("delete", Some(1_000)), Standing::Held), "by retention, after 2023-11-14T22:13:21Z");
        assert_eq!(goes(read("compact", None), Standing::Superseded), "by compaction");
        assert_eq!(goes(read("compact", None), Standing::Held), "when it is replaced");
        assert_eq!(goes(read("delete", Some(-1)), Standing::Held), "never: retention.ms is unlimited");
    }

    #[test]
    fn with_pseudonyms_both_names_are_searched() {
        let spec = crate::event::PseudonymSpec {
            pseudonymise: true,
            key: Some(crate::secret::Secret::new("a key of thirty-two bytes or more")),
            ..crate::event::PseudonymSpec::default()
        };
        let users = UserKeys::new(&spec, false);
        let key = users.of(KeyType::Person, "ann").unwrap().into_owned();
        let mut search = Search::new("t", TopicKind::Decisions, "ann", KeyType::Person, &users);
        search.take(&record(0, &key, Some("{}")), &[]);
        search.take(&record(1, "x", Some(&format!("{{\"user_key\":\"{key}\"}}"))), &[]);
        search.take(&record(2, "ann", Some("{}")), &[]);
        search.take(&record(3, "bob", Some("{}")), &[]);
        let found: Vec<_> = search.finish().into_iter().map(|it| (it.offset, it.found_in)).collect();
        assert_eq!(found, [(0, "key"), (1, "value"), (2, "key")]);
    }
}
