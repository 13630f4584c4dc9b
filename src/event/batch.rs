//! The batch of decoded events, and the records that they are decoded from.

use crate::columns::{Columns, Text};

/// A record as received. It borrows from the client while it is decoded.
#[derive(Clone, Copy, Debug, Default)]
pub struct Record<'a> {
    /// The input partition.
    pub partition: i32,
    /// The record's offset in it.
    pub offset: i64,
    /// The record's Kafka timestamp in milliseconds. It is part of the log, so it is the same at every replay.
    pub timestamp_ms: Option<i64>,
    /// The record's key.
    pub key: Option<&'a [u8]>,
    /// The record's value; absent in a tombstone.
    pub payload: Option<&'a [u8]>,
    /// The W3C trace context from the headers.
    pub traceparent: Option<&'a str>,
    /// The value of the header [`ERASE_HEADER`], which makes the record a request to erase the user with its key.
    pub erase: Option<&'a [u8]>,
}

/// The header of a request to erase the user whose key is the record's key. Its value is [`ERASE_VERSION`] or
/// [`ERASE_VERSION_EXACT`].
pub const ERASE_HEADER: &str = "aimpoint-erase";

/// The version of requests to erase a user whose key is made of the id, as producers know it.
pub const ERASE_VERSION: &str = "1";

/// The version of requests whose key is the one behind the input: with pseudonyms, it has the pseudonym already.
pub const ERASE_VERSION_EXACT: &str = "2";

/// 2020-01-01. A clock that shows an earlier time has not been set yet.
pub const CLOCKS_SET_FROM: EventTime = EventTime(1_577_836_800_000_000);

impl Record<'_> {
    /// The record's time by the log, or the end of time if its timestamp is missing or from a clock that was not set.
    pub fn logged_at(&self) -> EventTime {
        let logged = self.timestamp_ms.map(|millis| EventTime(millis.saturating_mul(1_000)));
        logged.filter(|time| *time >= CLOCKS_SET_FROM).unwrap_or(EventTime(i64::MAX))
    }
}

/// When an event happened: microseconds since 1970-01-01T00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventTime(pub i64);

impl EventTime {
    /// The time in milliseconds, rounded down.
    pub fn millis(self) -> i64 {
        self.0.div_euclid(1_000)
    }

    /// The time as people write it; only the date if it is midnight.
    pub fn date(self) -> String {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(time) if self.0.rem_euclid(86_400_000_000) == 0 => time.strftime("%Y-%m-%d").to_string(),
            Ok(time) => time.to_string(),
            Err(_) => format!("{} us", self.0),
        }
    }
}

/// The origin of a row. A record may hold several events, which share its offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The input partition.
    pub partition: i32,
    /// The offset of the record.
    pub offset: i64,
    /// The index of the event within the record, from 0.
    pub index: u32,
}

/// What a row would have by the other key of pseudonyms.
#[derive(Clone, Copy, Debug)]
pub struct OtherName {
    /// The user's key; missing if only one is known, as in an erasure that was asked for by a pseudonym.
    pub user: Text,
    /// Its hash.
    pub user_hash: u64,
    /// The event's id.
    pub event_id: Text,
}

impl OtherName {
    /// Of a row whose user has one name.
    pub const NONE: Self = Self { user: Text::MISSING, user_hash: 0, event_id: Text::MISSING };
}

/// Decoded events in columns: what every event has, and the declared fields that something reads.
#[derive(Clone, Debug, Default)]
pub struct EventBatch {
    /// The origin of each row.
    pub positions: Vec<Position>,
    /// The user's key, from `user_id` or, if the event has none, from `anonymous_id`: see [`super::UserKeys`].
    pub users: Vec<Text>,
    /// The hash of the user's key, computed once and used by the store.
    pub user_hashes: Vec<u64>,
    /// The event's own id, if it has one.
    pub event_ids: Vec<Text>,
    /// When it happened.
    pub times: Vec<EventTime>,
    /// When its record was appended, by the log: see [`Record::logged_at`]. The end of time if the log does not say.
    pub logged_at: Vec<EventTime>,
    /// The W3C trace context, if there is one.
    pub traceparents: Vec<Text>,
    /// By row, while users move to the pseudonyms of another key: what the row has by the other key. Otherwise empty.
    pub others: Vec<OtherName>,
    /// The rows that are requests to erase a user, ascending. Nearly always none.
    pub erasures: Vec<usize>,
    /// The declared fields, and space for everything computed from them.
    pub columns: Columns,
}

impl EventBatch {
    /// An empty batch over these columns.
    pub fn new(columns: Columns) -> Self {
        Self { columns, ..Self::default() }
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.positions.len()
    }

    /// The user's key by the other key of pseudonyms, with its hash, if there is one.
    pub fn other(&self, row: usize) -> Option<(u64, &[u8])> {
        let other = self.others.get(row).filter(|other| !other.user.is_missing())?;
        Some((other.user_hash, self.columns.texts.bytes(other.user)))
    }

    /// The user's key, with its hash.
    pub fn user(&self, row: usize) -> (u64, &[u8]) {
        (self.user_hashes[row], self.columns.texts.bytes(self.users[row]))
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    /// Removes all rows from `rows` on, except in `columns`, which the decoder truncates.
    pub(super) fn truncate(&mut self, rows: usize) {
        self.positions.truncate(rows);
        self.users.truncate(rows);
        self.user_hashes.truncate(rows);
        self.event_ids.truncate(rows);
        self.times.truncate(rows);
        self.logged_at.truncate(rows);
        self.traceparents.truncate(rows);
        self.others.truncate(rows);
        self.erasures.retain(|row| *row < rows);
    }

    /// Empties the batch but keeps its memory.
    pub fn clear(&mut self) {
        self.positions.clear();
        self.users.clear();
        self.user_hashes.clear();
        self.event_ids.clear();
        self.times.clear();
        self.logged_at.clear();
        self.traceparents.clear();
        self.others.clear();
        self.erasures.clear();
        self.columns.clear();
    }
}
