//! The decoder: one record in, its rows in the batch, or the reason why not.
//!
//! Guarantees: a refused record leaves the batch as it was; a decoded row has a user, a type and a time. Limits: a
//! user's key has at most [`USER_BYTES_MAX`] bytes, an event's id [`EVENT_ID_BYTES_MAX`], and a record at most [`UNPACKED_MAX`] events; nothing is allocated for a JSON
//! event or a line once the batch has grown.

use super::{
    BotRule, EventBatch, EventTime, Fields, InputFormat, InputSpec, MissingTime, Position, Record, RejectReason,
    Rejection, Secret, TimeSpec, TimeUnit,
    access_log::{self, AccessLog},
    bots::Bots,
    json::Json,
    protobuf, time,
};
use crate::columns::{Column, MISSING_INT, Slot, Text, Truth, Type};
use crate::state::hash_key;

/// The longest user key. Profiles and decisions carry it, so a runaway one must not pass.
const USER_BYTES_MAX: usize = 1024;

/// The longest event id, for the same reason: cut, two ids could become one, so a longer one is refused.
const EVENT_ID_BYTES_MAX: usize = 1024;

/// The most events that one record may hold. The longest sessions that are kept as one record have some hundreds; a megabyte
/// of `{}` would be a third of a million rows, each with all that stands outside of the array.
const UNPACKED_MAX: usize = 4096;

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
    Agent,
    Bot,
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

/// What is known of the row that is being read, beside its columns.
#[derive(Clone, Copy, Debug, Default)]
struct Row {
    user: Text,
    anonymous: Text,
    event_id: Text,
    agent: Text,
    bot: Truth,
    has_type: bool,
    time: Option<i64>,
}

/// The rows of a record that is being read. The row being read is the last one of the columns.
pub(super) struct Rows<'a> {
    rules: &'a Rules,
    record: &'a Record<'a>,
    batch: &'a mut EventBatch,
    /// By leaf: the rank of the path that gave its value, or `u8::MAX`.
    ranks: &'a mut [u8],
    bots: Option<&'a mut Bots>,
    row: Row,
    /// The rows so far.
    taken: Decoded,
    /// The field that holds what it must not, and what it should be.
    pub(super) wrong: Option<(String, &'static str)>,
}

impl Rows<'_> {
    /// Takes a value for a leaf, from the path of this rank; lower ranks are preferred. Says whether it was of the
    /// field's type.
    pub(super) fn set(&mut self, leaf: usize, rank: u8, value: Scalar<'_>) -> bool {
        if self.ranks[leaf] < rank || matches!(value, Scalar::Text("")) {
            return true;
        }
        let rules = self.rules;
        let Leaf { role, slot, ty, unit, .. } = &rules.leaves[leaf];
        let index = self.batch.len();
        let expected = match ty {
            Type::String => {
                let text = self.text(value);
                match role {
                    Role::User => self.row.user = text,
                    Role::Anonymous => self.row.anonymous = text,
                    Role::EventId => self.row.event_id = text,
                    Role::EventType => self.row.has_type = true,
                    Role::Agent => self.row.agent = text,
                    Role::OccurredAt | Role::Bot | Role::Other => {}
                }
                if let Some(Column::String(values)) = slot.map(|slot| self.batch.columns.get_mut(slot)) {
                    values[index] = text;
                }
                None
            }
            Type::Double => self.put_double(*slot, value),
            Type::Int | Type::Duration => self.put_int(*slot, value),
            Type::Bool => self.put_bool(*role, *slot, value),
            Type::Timestamp => {
                let micros = match value {
                    Scalar::Int(value) => Some(time::from_int(value, *unit)),
                    Scalar::Large(value) => Some(time::from_float(value as f64, *unit)),
                    Scalar::Float(value) if value.is_finite() => Some(time::from_float(value, *unit)),
                    Scalar::Text(text) => time::from_text(text, *unit),
                    Scalar::Float(_) | Scalar::Bool(_) => None,
                };
                if *role == Role::OccurredAt && micros.is_some() {
                    self.row.time = micros;
                }
                if let (Some(micros), Some(Column::Int(values))) =
                    (micros, slot.map(|slot| self.batch.columns.get_mut(slot)))
                {
                    values[index] = micros;
                }
                micros.is_none().then_some("a time: a number, or text such as 2026-01-31T12:00:00Z")
            }
        };
        if let Some(expected) = expected {
            self.wrong = Some((self.rules.leaves[leaf].name.clone(), expected));
            return false;
        }
        self.ranks[leaf] = rank;
        true
    }

    /// Notes that a leaf holds an object or the like.
    pub(super) fn refuse(&mut self, leaf: usize) {
        self.wrong = Some((self.rules.leaves[leaf].name.clone(), self.rules.leaves[leaf].expected()));
    }

    fn text(&mut self, value: Scalar<'_>) -> Text {
        let texts = &mut self.batch.columns.texts;
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
        let index = self.batch.len();
        if let Some(Column::Double(values)) = slot.map(|slot| self.batch.columns.get_mut(slot)) {
            values[index] = if value.is_finite() { value } else { f64::NAN };
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
        let index = self.batch.len();
        if let Some(Column::Int(values)) = slot.map(|slot| self.batch.columns.get_mut(slot)) {
            values[index] = value;
        }
        None
    }

    fn put_bool(&mut self, role: Role, slot: Option<Slot>, value: Scalar<'_>) -> Option<&'static str> {
        let value = match value {
            Scalar::Bool(value) => Some(value),
            Scalar::Int(0) | Scalar::Text("false" | "FALSE" | "False" | "0") => Some(false),
            Scalar::Int(1) | Scalar::Text("true" | "TRUE" | "True" | "1") => Some(true),
            Scalar::Int(_) | Scalar::Large(_) | Scalar::Float(_) | Scalar::Text(_) => None,
        };
        let Some(value) = value else { return Some("true or false") };
        if role == Role::Bot {
            self.row.bot = Truth::from(value);
        }
        let index = self.batch.len();
        if let Some(Column::Bool(values)) = slot.map(|slot| self.batch.columns.get_mut(slot)) {
            values[index] = Truth::from(value);
        }
        None
    }

    /// Makes room for a row.
    fn open(&mut self) {
        let rows = self.batch.len() + 1;
        for slot in self.rules.slots() {
            self.batch.columns.get_mut(slot).resize(rows);
        }
        self.ranks.fill(u8::MAX);
        self.row = Row::default();
    }

    /// Ends the row: fills in what is derived, and checks what every event needs.
    pub(super) fn close(&mut self) -> Result<(), Rejection> {
        let Row { user, anonymous, event_id, has_type, .. } = self.row;
        let user = if user.is_missing() { anonymous } else { user };
        if user.is_missing() {
            return Err(Rejection::new(RejectReason::MissingUser, "neither user_id nor anonymous_id is given"));
        }
        if !has_type {
            return Err(Rejection::new(RejectReason::MissingType, "event_type is not given"));
        }
        let time = self.time()?;
        let key = self.batch.columns.texts.bytes(user);
        if key.len() > USER_BYTES_MAX {
            return Err(Rejection::new(
                RejectReason::WrongType,
                format!("user_id: expected at most {USER_BYTES_MAX} bytes"),
            ));
        }
        if !event_id.is_missing() && event_id.len() > EVENT_ID_BYTES_MAX {
            return Err(Rejection::new(
                RejectReason::TooLarge,
                format!("event_id: expected at most {EVENT_ID_BYTES_MAX} bytes, found {}", event_id.len()),
            ));
        }
        let hash = hash_key(key);
        self.judge();
        let Self { rules, record, batch, row, taken, .. } = self;
        if rules.excludes_bots && row.bot.holds() {
            taken.bots += 1;
            return Ok(());
        }
        let traceparent = record.traceparent.map_or(Text::MISSING, |text| batch.columns.texts.push(text));
        let index = taken.total() as u32;
        batch.positions.push(Position { partition: record.partition, offset: record.offset, index });
        batch.users.push(user);
        batch.user_hashes.push(hash);
        batch.event_ids.push(event_id);
        batch.times.push(EventTime(time));
        batch.traceparents.push(traceparent);
        taken.rows += 1;
        Ok(())
    }

    /// When the event happened.
    fn time(&mut self) -> Result<i64, Rejection> {
        let time = match (self.row.time, self.rules.missing_time, self.record.timestamp_ms) {
            (Some(time), ..) => time,
            (None, MissingTime::Record, Some(millis)) => {
                let time = millis.saturating_mul(1_000);
                let index = self.batch.len();
                // Where expressions look for it.
                if let Some(slot) = self.rules.slot_of(Role::OccurredAt)
                    && let Column::Int(values) = self.batch.columns.get_mut(slot)
                {
                    values[index] = time;
                }
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
        if let Some(millis) = self.record.timestamp_ms
            && time > millis.saturating_mul(1_000).saturating_add(self.rules.future_tolerance_micros)
        {
            return Err(Rejection::new(
                RejectReason::FutureTime,
                "occurred_at is further ahead of the record's timestamp than time.future_tolerance",
            ));
        }
        Ok(time)
    }

    /// Sets `bot` by the user agent, where the event does not say.
    fn judge(&mut self) {
        let Row { agent, bot, .. } = self.row;
        if let Some(bots) = &mut self.bots
            && bot == Truth::Missing
            && !agent.is_missing()
        {
            self.row.bot = Truth::from(bots.is_bot(self.batch.columns.texts.get(agent)));
            let index = self.batch.len();
            if let Some(slot) = self.rules.slot_of(Role::Bot)
                && let Column::Bool(values) = self.batch.columns.get_mut(slot)
            {
                values[index] = self.row.bot;
            }
        }
    }

    /// Begins an event inside the record, in the last row of the columns: what was read outside of it is visible in it and
    /// gives way to its own. The answer is for [`Rows::end_element`].
    pub(super) fn begin_element(&mut self) -> Outside {
        let row = self.batch.len();
        for slot in self.rules.slots() {
            self.batch.columns.get_mut(slot).repeat(row);
        }
        self.ranks.fill(u8::MAX);
        Outside(self.row)
    }

    /// Ends an event inside the record; what was read outside is the last row again.
    pub(super) fn end_element(&mut self, outside: Outside) -> Result<(), Rejection> {
        if self.taken.total() == UNPACKED_MAX {
            return Err(Rejection::new(
                RejectReason::TooLarge,
                format!("the record holds more than {UNPACKED_MAX} events"),
            ));
        }
        let row = self.batch.len();
        self.close()?;
        self.row = outside.0;
        if self.batch.len() == row {
            for slot in self.rules.slots() {
                let column = self.batch.columns.get_mut(slot);
                column.swap(row, row + 1);
                column.resize(row + 1);
            }
        }
        Ok(())
    }
}

/// What was read of a record outside of its events.
pub(super) struct Outside(Row);

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

/// What a record gave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// The events that are now in the batch.
    pub rows: usize,
    /// The events that were left out because they are bots'.
    pub bots: usize,
}

impl Decoded {
    fn total(self) -> usize {
        self.rows + self.bots
    }
}

/// What holds for every record.
#[derive(Debug)]
struct Rules {
    leaves: Vec<Leaf>,
    future_tolerance_micros: i64,
    missing_time: MissingTime,
    excludes_bots: bool,
}

impl Rules {
    /// The columns that are filled.
    fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        self.leaves.iter().filter_map(|leaf| leaf.slot)
    }

    fn slot_of(&self, role: Role) -> Option<Slot> {
        self.leaves.iter().find(|leaf| leaf.role == role).and_then(|leaf| leaf.slot)
    }
}

/// The compiled decoder.
#[derive(Debug)]
pub struct Decoder {
    rules: Rules,
    ranks: Vec<u8>,
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
    /// A decoder that fills the columns `used`, and what every row has.
    pub fn new(fields: Fields, used: &[Slot], input: &InputSpec, time: &TimeSpec) -> Self {
        let mut leaves = Vec::new();
        let mut json = Json::new(input.unpack.as_deref());
        let mut log = AccessLog::new(input.secret.as_ref().map_or("", Secret::reveal));
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
                "device.ua" if judges => Role::Agent,
                "bot" if judges => Role::Bot,
                _ => Role::Other,
            };
            let slot = used.contains(&field.slot).then_some(field.slot);
            if slot.is_none() && role == Role::Other {
                continue;
            }
            for (rank, path) in field.paths.iter().enumerate() {
                let rank = rank.min(u8::MAX as usize - 1) as u8;
                match input.format {
                    InputFormat::Json => json.insert(path, leaves.len(), rank),
                    InputFormat::AccessLog => log.insert(path, leaves.len(), rank),
                    InputFormat::Protobuf => {}
                }
            }
            let path = field.paths.into_iter().next().unwrap_or_default();
            leaves.push(Leaf { name: field.name, path, role, slot, ty: field.ty, unit: field.unit });
        }
        Self {
            ranks: vec![u8::MAX; leaves.len()],
            rules: Rules {
                leaves,
                future_tolerance_micros: time.future_tolerance.as_micros().min(i64::MAX as u128) as i64,
                missing_time: time.missing,
                excludes_bots,
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

    /// Reads a record's events into the batch and says how many there were. A record is taken as a whole or refused as a whole.
    ///
    /// # Errors
    /// Why the record is refused; the batch is as it was before.
    pub fn decode(&mut self, record: &Record<'_>, batch: &mut EventBatch) -> Result<Decoded, Rejection> {
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
        let mut rows = Rows {
            rules: &self.rules,
            record,
            batch,
            ranks: &mut self.ranks,
            bots: self.bots.as_mut(),
            row: Row::default(),
            taken: Decoded::default(),
            wrong: None,
        };
        rows.open();
        let read = match &self.format {
            Format::Json(json) => json.read(payload, &mut rows),
            Format::Protobuf => protobuf::read(payload, &self.rules.leaves, &mut rows).and_then(|()| rows.close()),
            Format::AccessLog(log) => log.read(payload, &mut rows).and_then(|()| rows.close()),
        };
        let answer = if rows.batch.columns.texts.is_full() {
            Err(Rejection::new(RejectReason::TooLarge, "its texts find no room in a batch: lower input.max_bytes"))
        } else {
            read.map(|()| rows.taken)
        };
        if answer.is_err() {
            batch.truncate(before);
        }
        if batch.len() == before {
            batch.columns.texts.truncate(text_bytes);
        }
        // The last row of the columns is none of the batch's, but where a record without an array became one.
        if batch.len() == before || self.format.unpacks() {
            let rows = batch.len();
            for slot in self.rules.slots() {
                batch.columns.get_mut(slot).resize(rows);
            }
        }
        answer
    }

    /// The payload and the key of a refused record as they may be shown: nothing, where they may be shown as they came.
    pub fn redacted(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        matches!(self.format, Format::AccessLog(_)).then(|| access_log::without_addresses(bytes))
    }
}
