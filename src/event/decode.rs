//! The decoder: one record in; its rows in the batch, or the reason for its rejection.
//!
//! Guarantees: a rejected record leaves the batch unchanged; a decoded row has a user, a type and a time; a record is
//! accepted or rejected as a whole. Limits: see [`super::rows`]. Nothing is allocated for a JSON event or a log line
//! once the batch has grown.

use super::{
    Addresses, BotRule, EventBatch, EventTime, Fields, InputFormat, InputSpec, KeyTypes, MissingTime, Pseudonyms,
    Record, RejectReason, Rejection, Secret, TimeSpec, TimeUnit,
    access_log::{self, AccessLog},
    bots::Bots,
    erasure,
    fields::GPP_SECTIONS,
    json::Json,
    protobuf,
    rows::{Mark, Rows},
    time,
};
use crate::columns::{Slot, Type};
use std::{borrow::Cow, time::Duration};

/// The furthest that a record's timestamp may be ahead of the present, even if late events count for much longer. A
/// process whose clock is less than a day behind therefore rejects nothing.
const STAMP_SLACK_MAX: Duration = Duration::from_hours(24);

/// The role of a field in decoding itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    User,
    Anonymous,
    EventId,
    EventType,
    OccurredAt,
    KeyType,
    Agent,
    Bot,
    /// The GPP sections that apply.
    Sections,
    Other,
}

/// A field to read.
#[derive(Clone, Debug)]
pub(super) struct Leaf {
    pub(super) name: String,
    pub(super) path: String,
    pub(super) role: Role,
    /// Its column, if an expression reads it.
    pub(super) slot: Option<Slot>,
    pub(super) ty: Type,
    pub(super) unit: TimeUnit,
    /// Whether an address in it is truncated.
    pub(super) truncates: bool,
}

impl Leaf {
    /// What a value has to be, for messages.
    pub(super) fn expected(&self) -> &'static str {
        match self.ty {
            Type::String => "text",
            Type::Double => "a number",
            Type::Int | Type::Duration => "a whole number",
            Type::Bool => "true or false",
            Type::Timestamp => time::EXPECTED,
        }
    }
}

/// How many events a record contained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// The number of events added to the batch.
    pub rows: usize,
    /// The number of events skipped because they came from bots.
    pub bots: usize,
}

impl Decoded {
    pub(super) fn total(self) -> usize {
        self.rows + self.bots
    }
}

/// The rules that apply to all records.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) leaves: Vec<Leaf>,
    pub(super) future_tolerance_micros: i64,
    /// How far ahead of the present a record's timestamp may be.
    pub(super) stamp_slack_micros: i64,
    pub(super) past_limit: EventTime,
    pub(super) missing_time: MissingTime,
    pub(super) excludes_bots: bool,
    /// Whether keys of different types with the same text are one user.
    pub(super) joins_types: bool,
    pub(super) pseudonyms: Option<Pseudonyms>,
    /// By the previous key, while users move from it. Seldom there, so it takes no room.
    pub(super) previous: Option<Box<Pseudonyms>>,
    /// Whether the previous key names the users of the record: it is from before the change of the key.
    pub(super) is_before: bool,
}

impl Rules {
    /// What names users, and what would name them by the other key.
    pub(super) fn names(&self) -> (Option<&Pseudonyms>, Option<&Pseudonyms>) {
        let (now, previous) = (self.pseudonyms.as_ref(), self.previous.as_deref());
        if self.is_before && previous.is_some() { (previous, now) } else { (now, previous) }
    }

    /// The columns that the decoder fills.
    pub(super) fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        self.leaves.iter().filter_map(|leaf| leaf.slot)
    }

    /// The column of the field with this role.
    pub(super) fn slot_of(&self, role: Role) -> Option<Slot> {
        self.leaves.iter().find(|leaf| leaf.role == role).and_then(|leaf| leaf.slot)
    }
}

/// The compiled decoder.
#[derive(Debug)]
pub struct Decoder {
    rules: Rules,
    marks: Vec<Mark>,
    outside: Vec<Mark>,
    buffer: String,
    format: Format,
    bots: Option<Bots>,
    bytes_max: usize,
}

#[derive(Debug)]
enum Format {
    Json(Json),
    Protobuf,
    AccessLog(AccessLog),
}

impl Format {
    fn unpacks(&self) -> bool {
        matches!(self, Self::Json(json) if json.unpacks())
    }
}

impl Decoder {
    /// A decoder that fills the columns `used` and what every row has.
    pub fn new(fields: Fields, used: &[Slot], input: &InputSpec, time: &TimeSpec) -> Self {
        let mut leaves = Vec::new();
        let mut json = Json::new(input.unpack.as_deref());
        let mut log = AccessLog::new(input.secret.as_ref().map_or("", Secret::reveal), input.log_format.as_deref());
        let excludes_bots = input.bots == BotRule::Exclude;
        let reads_bot = fields.0.iter().any(|field| field.name == "bot" && used.contains(&field.slot));
        let judges = excludes_bots || (input.bots == BotRule::Mark && reads_bot);
        for field in fields.0 {
            let role = match field.name.as_str() {
                "user_id" => Role::User,
                "anonymous_id" => Role::Anonymous,
                "event_id" => Role::EventId,
                "event_type" => Role::EventType,
                "occurred_at" => Role::OccurredAt,
                "key_type" => Role::KeyType,
                "device.ua" if judges => Role::Agent,
                "bot" if judges => Role::Bot,
                GPP_SECTIONS => Role::Sections,
                _ => Role::Other,
            };
            let slot = used.contains(&field.slot).then_some(field.slot);
            if slot.is_none() && matches!(role, Role::Other | Role::Sections) {
                continue;
            }
            for (rank, path) in field.paths.iter().enumerate() {
                let rank = rank as u32;
                match input.format {
                    InputFormat::Json => json.insert(path, (leaves.len(), role == Role::Sections), rank),
                    InputFormat::AccessLog => log.insert(path, leaves.len(), rank),
                    InputFormat::Protobuf => {}
                }
            }
            let path = field.paths.into_iter().next().unwrap_or_default();
            let truncates = field.is_own && input.addresses == Addresses::Truncated;
            leaves.push(Leaf { name: field.name, path, role, slot, ty: field.ty, unit: field.unit, truncates });
        }
        Self {
            marks: vec![Mark::default(); leaves.len()],
            outside: vec![Mark::default(); leaves.len()],
            buffer: String::new(),
            rules: Rules {
                leaves,
                future_tolerance_micros: time.future_tolerance.as_micros().min(i64::MAX as u128) as i64,
                stamp_slack_micros: (time.allowed_lateness.saturating_sub(time.future_tolerance) / 2)
                    .min(STAMP_SLACK_MAX)
                    .as_micros() as i64,
                past_limit: time.past_limit,
                missing_time: time.missing,
                excludes_bots,
                joins_types: input.key_types == KeyTypes::Joined,
                pseudonyms: None,
                previous: None,
                is_before: false,
            },
            format: match input.format {
                InputFormat::Json => Format::Json(json.finish()),
                InputFormat::Protobuf => Format::Protobuf,
                InputFormat::AccessLog => Format::AccessLog(log),
            },
            bots: judges.then(Bots::default),
            bytes_max: input.max_bytes.as_u64() as usize,
        }
    }

    /// Names users by pseudonyms from now on.
    #[must_use]
    pub fn with_pseudonyms(mut self, pseudonyms: Option<Pseudonyms>) -> Self {
        self.rules.pseudonyms = pseudonyms;
        self
    }

    /// Also names users by the pseudonyms of the previous key, from which they move.
    #[must_use]
    pub fn with_previous(mut self, previous: Option<Pseudonyms>) -> Self {
        self.rules.previous = previous.filter(|_| self.rules.pseudonyms.is_some()).map(Box::new);
        self
    }

    /// Whether users move from the pseudonyms of a previous key.
    pub fn has_previous(&self) -> bool {
        self.rules.previous.is_some()
    }

    /// The id of that key.
    pub fn previous_key_id(&self) -> Option<u64> {
        self.rules.previous.as_deref().map(Pseudonyms::key_id)
    }

    /// Whether the next records are from before the change of the key.
    pub fn set_before(&mut self, is_before: bool) {
        self.rules.is_before = is_before;
    }

    /// Adds the events of a record to the batch.
    ///
    /// # Errors
    /// Why the record is rejected; the batch is unchanged.
    pub fn decode(&mut self, record: &Record<'_>, batch: &mut EventBatch) -> Result<Decoded, Rejection> {
        self.decode_until(record, None, batch)
    }

    /// Like [`Decoder::decode`], but also rejects events later than the ceiling, whatever the record's own timestamp
    /// says.
    ///
    /// # Errors
    /// As [`Decoder::decode`].
    pub fn decode_until(
        &mut self,
        record: &Record<'_>,
        ceiling: Option<i64>,
        batch: &mut EventBatch,
    ) -> Result<Decoded, Rejection> {
        if let Some(version) = record.erase {
            return erasure::read(version, record, ceiling, self.rules.slots(), self.rules.names(), batch);
        }
        let Some(payload) = record.payload else {
            return Err(Rejection::new(RejectReason::NullPayload, "the record has no payload"));
        };
        if payload.len() > self.bytes_max {
            return Err(Rejection::new(
                RejectReason::TooLarge,
                format!("{} bytes are more than input.max_bytes = {}", payload.len(), self.bytes_max),
            ));
        }
        let before = batch.len();
        let text_bytes = batch.columns.texts.len();
        let mut rows = Rows::new(
            &self.rules,
            record,
            ceiling,
            batch,
            [&mut self.marks, &mut self.outside],
            &mut self.buffer,
            self.bots.as_mut(),
        );
        let read = match &self.format {
            Format::Json(json) => json.read(payload, &mut rows),
            Format::Protobuf => protobuf::read(payload, &self.rules.leaves, &mut rows).and_then(|()| rows.close()),
            Format::AccessLog(log) => log.read(payload, &mut rows).and_then(|()| rows.close()),
        };
        let answer = if rows.is_full() {
            Err(Rejection::new(RejectReason::TooLarge, "its strings are too large for a batch: lower input.max_bytes"))
        } else {
            read.map(|()| rows.decoded())
        };
        if answer.is_err() {
            batch.truncate(before);
        }
        if batch.len() == before {
            batch.columns.texts.truncate(text_bytes);
        }
        // The last row of the columns is not part of the batch, unless a record without an array became that row.
        if batch.len() == before || self.format.unpacks() {
            let rows = batch.len();
            for slot in self.rules.slots() {
                batch.columns.get_mut(slot).resize(rows);
            }
        }
        answer
    }

    /// The latest event time that may be accepted now.
    pub fn latest(&self, present: EventTime) -> i64 {
        present.0.saturating_add(self.rules.future_tolerance_micros)
    }

    /// The names of the fields that are read.
    pub fn fields_read(&self) -> impl Iterator<Item = &str> {
        self.rules
            .leaves
            .iter()
            .map(|leaf| leaf.name.as_str())
            .scan("", |last, name| {
                // A field with several paths has as many leaves, one after the other.
                Some((std::mem::replace(last, name) != name).then_some(name))
            })
            .flatten()
    }

    /// The pseudonyms that users are named by, if they are.
    pub fn pseudonyms(&self) -> Option<&Pseudonyms> {
        self.rules.pseudonyms.as_ref()
    }

    /// A rejected record's key as it may be shown: with pseudonyms, that of a user whom the key names.
    pub fn shown_key<'a>(&self, key: &'a [u8]) -> Cow<'a, [u8]> {
        match &self.rules.pseudonyms {
            Some(pseudonyms) => Cow::Owned(pseudonyms.of_bytes(key).into_bytes()),
            None => self.redacted(key),
        }
    }

    /// A rejected record's payload as it may be shown. `None` with pseudonyms: an id may be anywhere in it, and it cannot be
    /// read to find out where.
    pub fn shown_payload<'a>(&self, payload: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        self.rules.pseudonyms.is_none().then(|| self.redacted(payload))
    }

    fn redacted<'a>(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        match self.format {
            Format::AccessLog(_) => Cow::Owned(access_log::without_addresses(bytes)),
            Format::Json(_) | Format::Protobuf => Cow::Borrowed(bytes),
        }
    }
}
