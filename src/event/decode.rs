//! The decoder: one record in, its rows in the batch, or the reason why not.
//!
//! Guarantees: a refused record leaves the batch as it was; a decoded row has a user, a type and a time. Limits: a
//! user's key has at most [`USER_BYTES_MAX`] bytes; nothing is allocated for a JSON event once the batch has grown.

use super::{
    EventBatch, EventTime, Fields, InputFormat, InputSpec, MissingTime, Position, Record, RejectReason, Rejection,
    TimeSpec, TimeUnit, json::Trie, protobuf, time,
};
use crate::columns::{Column, Columns, MISSING_INT, Slot, Text, Truth, Type};
use crate::state::hash_key;

/// The longest user key. Profiles and decisions carry it, so a runaway one must not pass.
const USER_BYTES_MAX: usize = 1024;

/// The last moment of the year 9999, in microseconds.
const TIME_MAX: i64 = 253_402_300_799_999_999;

/// What a field is to the decoder itself, beside its column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    User,
    Anonymous,
    EventId,
    EventType,
    OccurredAt,
    Other,
}

/// A field that is kept.
#[derive(Clone, Debug)]
pub(super) struct Leaf {
    pub(super) name: String,
    pub(super) path: String,
    role: Role,
    /// The column, where an expression reads it.
    slot: Option<Slot>,
    ty: Type,
    unit: TimeUnit,
}

/// A value as a payload has it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scalar<'a> {
    Bool(bool),
    Int(i64),
    /// An integer beyond `i64`. Hashes are such numbers, and as ids they must keep every digit.
    Large(u64),
    Float(f64),
    Text(&'a str),
}

/// The row that is being read.
pub(super) struct Row<'a> {
    leaves: &'a [Leaf],
    columns: &'a mut Columns,
    index: usize,
    /// By leaf: the rank of the path that gave its value, or `u8::MAX`.
    ranks: &'a mut [u8],
    user: Text,
    anonymous: Text,
    event_id: Text,
    has_type: bool,
    time: Option<i64>,
    /// The field that holds what it must not, and what it should be.
    pub(super) wrong: Option<(String, &'static str)>,
}

impl Row<'_> {
    /// Takes a value for a leaf, from the path of this rank; lower ranks are preferred. Says whether it was of the
    /// field's type.
    pub(super) fn set(&mut self, leaf: usize, rank: u8, value: Scalar<'_>) -> bool {
        if self.ranks[leaf] < rank || matches!(value, Scalar::Text("")) {
            return true;
        }
        let Leaf { role, slot, ty, unit, .. } = &self.leaves[leaf];
        let expected = match ty {
            Type::String => {
                let text = self.text(value);
                match role {
                    Role::User => self.user = text,
                    Role::Anonymous => self.anonymous = text,
                    Role::EventId => self.event_id = text,
                    Role::EventType => self.has_type = true,
                    Role::OccurredAt | Role::Other => {}
                }
                if let Some(Column::String(values)) = slot.map(|slot| self.columns.get_mut(slot)) {
                    values[self.index] = text;
                }
                None
            }
            Type::Double => self.put_double(*slot, value),
            Type::Int | Type::Duration => self.put_int(*slot, value),
            Type::Bool => self.put_bool(*slot, value),
            Type::Timestamp => {
                let micros = match value {
                    Scalar::Int(value) => Some(time::from_int(value, *unit)),
                    Scalar::Large(value) => Some(time::from_float(value as f64, *unit)),
                    Scalar::Float(value) if value.is_finite() => Some(time::from_float(value, *unit)),
                    Scalar::Text(text) => time::from_text(text, *unit),
                    Scalar::Float(_) | Scalar::Bool(_) => None,
                };
                if *role == Role::OccurredAt && micros.is_some() {
                    self.time = micros;
                }
                if let (Some(micros), Some(Column::Int(values))) = (micros, slot.map(|slot| self.columns.get_mut(slot)))
                {
                    values[self.index] = micros;
                }
                micros.is_none().then_some("a time: a number, or text such as 2026-01-31T12:00:00Z")
            }
        };
        if let Some(expected) = expected {
            self.wrong = Some((self.leaves[leaf].name.clone(), expected));
            return false;
        }
        self.ranks[leaf] = rank;
        true
    }

    /// Notes that a leaf holds an object or the like.
    pub(super) fn refuse(&mut self, leaf: usize) {
        self.wrong = Some((self.leaves[leaf].name.clone(), self.leaves[leaf].expected()));
    }

    fn text(&mut self, value: Scalar<'_>) -> Text {
        let texts = &mut self.columns.texts;
        match value {
            Scalar::Text(text) => texts.push(text),
            Scalar::Int(value) => texts.push(itoa::Buffer::new().format(value)),
            Scalar::Large(value) => texts.push(itoa::Buffer::new().format(value)),
            Scalar::Float(value) => texts.push(ryu::Buffer::new().format(value)),
            Scalar::Bool(value) => texts.push(if value { "true" } else { "false" }),
        }
    }

    fn put_double(&mut self, slot: Option<Slot>, value: Scalar<'_>) -> Option<&'static str> {
        let value = match value {
            Scalar::Float(value) => Some(value),
            Scalar::Int(value) => Some(value as f64),
            Scalar::Large(value) => Some(value as f64),
            Scalar::Text(text) => text.trim().parse().ok(),
            Scalar::Bool(_) => None,
        };
        let Some(value) = value else { return Some("a number") };
        if let Some(Column::Double(values)) = slot.map(|slot| self.columns.get_mut(slot)) {
            values[self.index] = if value.is_finite() { value } else { f64::NAN };
        }
        None
    }

    fn put_int(&mut self, slot: Option<Slot>, value: Scalar<'_>) -> Option<&'static str> {
        // Beyond 2^53 a float is no exact integer any more.
        let whole =
            |value: f64| (value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_992.0).then_some(value as i64);
        let value = match value {
            Scalar::Int(value) => Some(value),
            Scalar::Float(value) => whole(value),
            Scalar::Text(text) => {
                let text = text.trim();
                match (text.parse(), text.parse::<f64>()) {
                    (Ok(value), _) => Some(value),
                    // A missing value, as in a double.
                    (_, Ok(value)) if !value.is_finite() => return None,
                    (_, value) => value.ok().and_then(whole),
                }
            }
            Scalar::Large(_) | Scalar::Bool(_) => None,
        };
        let Some(value) = value.filter(|value| *value != MISSING_INT) else { return Some("a whole number") };
        if let Some(Column::Int(values)) = slot.map(|slot| self.columns.get_mut(slot)) {
            values[self.index] = value;
        }
        None
    }

    fn put_bool(&mut self, slot: Option<Slot>, value: Scalar<'_>) -> Option<&'static str> {
        let value = match value {
            Scalar::Bool(value) => Some(value),
            Scalar::Int(0) | Scalar::Text("false" | "FALSE" | "False" | "0") => Some(false),
            Scalar::Int(1) | Scalar::Text("true" | "TRUE" | "True" | "1") => Some(true),
            Scalar::Int(_) | Scalar::Large(_) | Scalar::Float(_) | Scalar::Text(_) => None,
        };
        let Some(value) = value else { return Some("true or false") };
        if let Some(Column::Bool(values)) = slot.map(|slot| self.columns.get_mut(slot)) {
            values[self.index] = Truth::from(value);
        }
        None
    }
}

impl Leaf {
    fn expected(&self) -> &'static str {
        match self.ty {
            Type::String => "text",
            Type::Double => "a number",
            Type::Int | Type::Duration => "a whole number",
            Type::Bool => "true or false",
            Type::Timestamp => "a time",
        }
    }
}

/// The compiled decoder.
#[derive(Debug)]
pub struct Decoder {
    leaves: Vec<Leaf>,
    ranks: Vec<u8>,
    format: Format,
    bytes_max: usize,
    future_tolerance_micros: i64,
    missing_time: MissingTime,
}

#[derive(Debug)]
enum Format {
    Json(Trie),
    Protobuf,
}

impl Decoder {
    /// A decoder that fills the columns `used`, and what every row has.
    pub fn new(fields: Fields, used: &[Slot], input: &InputSpec, time: &TimeSpec) -> Self {
        let mut leaves = Vec::new();
        let mut trie = Trie::default();
        for field in fields.0 {
            let role = match field.name.as_str() {
                "user_id" => Role::User,
                "anonymous_id" => Role::Anonymous,
                "event_id" => Role::EventId,
                "event_type" => Role::EventType,
                "occurred_at" => Role::OccurredAt,
                _ => Role::Other,
            };
            let slot = used.contains(&field.slot).then_some(field.slot);
            if slot.is_none() && role == Role::Other {
                continue;
            }
            for (rank, path) in field.paths.iter().enumerate() {
                trie.insert(path, leaves.len(), rank.min(u8::MAX as usize - 1) as u8);
            }
            let path = field.paths.into_iter().next().unwrap_or_default();
            leaves.push(Leaf { name: field.name, path, role, slot, ty: field.ty, unit: field.unit });
        }
        Self {
            ranks: vec![u8::MAX; leaves.len()],
            leaves,
            format: match input.format {
                InputFormat::Json => Format::Json(trie),
                InputFormat::Protobuf => Format::Protobuf,
            },
            bytes_max: input.max_bytes.as_u64() as usize,
            future_tolerance_micros: time.future_tolerance.as_micros().min(i64::MAX as u128) as i64,
            missing_time: time.missing,
        }
    }

    /// Reads a record's events into the batch and says how many there were.
    ///
    /// # Errors
    /// Why the record is refused; the batch is as it was before.
    pub fn decode(&mut self, record: &Record<'_>, batch: &mut EventBatch) -> Result<usize, Rejection> {
        let Some(payload) = record.payload else {
            return Err(Rejection::new(RejectReason::NullPayload, "the record has no payload"));
        };
        if payload.len() > self.bytes_max {
            return Err(Rejection::new(
                RejectReason::TooLarge,
                format!("{} bytes are more than input.max_bytes = {}", payload.len(), self.bytes_max),
            ));
        }
        let rows = batch.len();
        let text_bytes = batch.columns.texts.len();
        let answer = self.decode_row(record, payload, batch);
        if answer.is_err() {
            for slot in self.leaves.iter().filter_map(|leaf| leaf.slot) {
                batch.columns.get_mut(slot).resize(rows);
            }
            batch.columns.texts.truncate(text_bytes);
        }
        answer.map(|()| 1)
    }

    fn decode_row(&mut self, record: &Record<'_>, payload: &[u8], batch: &mut EventBatch) -> Result<(), Rejection> {
        let index = batch.len();
        for slot in self.leaves.iter().filter_map(|leaf| leaf.slot) {
            batch.columns.get_mut(slot).resize(index + 1);
        }
        self.ranks.fill(u8::MAX);
        let mut row = Row {
            leaves: &self.leaves,
            columns: &mut batch.columns,
            index,
            ranks: &mut self.ranks,
            user: Text::MISSING,
            anonymous: Text::MISSING,
            event_id: Text::MISSING,
            has_type: false,
            time: None,
            wrong: None,
        };
        match &self.format {
            Format::Json(trie) => trie.read(payload, &mut row),
            Format::Protobuf => protobuf::read(payload, &self.leaves, &mut row),
        }?;
        let Row { user, anonymous, event_id, has_type, time, .. } = row;
        let user = if user.is_missing() { anonymous } else { user };
        if user.is_missing() {
            return Err(Rejection::new(RejectReason::MissingUser, "neither user_id nor anonymous_id is given"));
        }
        if !has_type {
            return Err(Rejection::new(RejectReason::MissingType, "event_type is not given"));
        }
        let time = match (time, self.missing_time, record.timestamp_ms) {
            (Some(time), ..) => time,
            (None, MissingTime::Record, Some(millis)) => {
                let time = millis.saturating_mul(1_000);
                self.put_time(time, index, &mut batch.columns);
                time
            }
            (None, ..) => return Err(Rejection::new(RejectReason::MissingTime, "occurred_at is not given")),
        };
        if !(0..=TIME_MAX).contains(&time) {
            return Err(Rejection::new(
                RejectReason::TimeRange,
                "occurred_at lies before 1970 or after 9999; is its unit right?",
            ));
        }
        if let Some(millis) = record.timestamp_ms
            && time > millis.saturating_mul(1_000).saturating_add(self.future_tolerance_micros)
        {
            return Err(Rejection::new(
                RejectReason::FutureTime,
                "occurred_at is further ahead of the record's timestamp than time.future_tolerance",
            ));
        }
        let key = batch.columns.texts.bytes(user);
        if key.len() > USER_BYTES_MAX {
            return Err(Rejection::new(
                RejectReason::WrongType,
                format!("user_id: expected at most {USER_BYTES_MAX} bytes"),
            ));
        }
        let hash = hash_key(key);
        let traceparent = record.traceparent.map_or(Text::MISSING, |text| batch.columns.texts.push(text));
        batch.positions.push(Position { partition: record.partition, offset: record.offset, index: 0 });
        batch.users.push(user);
        batch.user_hashes.push(hash);
        batch.event_ids.push(event_id);
        batch.times.push(EventTime(time));
        batch.traceparents.push(traceparent);
        Ok(())
    }

    /// Writes the time that stands in for an absent one where expressions look for it.
    fn put_time(&self, time: i64, index: usize, columns: &mut Columns) {
        for leaf in self.leaves.iter().filter(|leaf| leaf.role == Role::OccurredAt) {
            if let Some(Column::Int(values)) = leaf.slot.map(|slot| columns.get_mut(slot)) {
                values[index] = time;
            }
        }
    }
}
