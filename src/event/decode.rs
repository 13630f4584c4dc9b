//! The decoder: one record in, its rows in the batch, or the reason why not.
//!
//! Guarantees: a refused record leaves the batch as it was; a decoded row has a user, a type and a time. Limits: a
//! user's key has at most [`USER_BYTES_MAX`] bytes, an event's id [`EVENT_ID_BYTES_MAX`], and a record at most [`UNPACKED_MAX`] events; nothing is allocated for a JSON
//! event or a line once the batch has grown.

use super::{
    BotRule, EventBatch, EventTime, Fields, InputFormat, InputSpec, KeyType, KeyTypes, MissingTime, Position, Record,
    RejectReason, Rejection, Secret, TimeSpec, TimeUnit,
    access_log::{self, AccessLog},
    bots::Bots,
    json::Json,
    number, protobuf, time,
};
use crate::columns::{Column, MISSING_INT, Slot, Text, Truth, Type};
use crate::state::hash_key;
use std::time::Duration;

/// The longest user key. Profiles and decisions carry it, so a runaway one must not pass.
const USER_BYTES_MAX: usize = 1024;

/// The longest event id, for the same reason: cut, two ids could become one, so a longer one is refused.
const EVENT_ID_BYTES_MAX: usize = 1024;

/// The most events that one record may hold. The longest sessions that are kept as one record have some hundreds; a megabyte
/// of `{}` would be a third of a million rows, each with all that stands outside of the array.
const UNPACKED_MAX: usize = 4096;

/// The last moment of the year 9999, in microseconds.
const TIME_MAX: i64 = 253_402_300_799_999_999;

/// 2100-01-01: later than any event that comes without the time of its record, in microseconds.
const PLAUSIBLE_MAX: i64 = 4_102_444_800_000_000;

/// How far ahead of the present a record's timestamp may be at most, where late events count for much longer: a process whose
/// clock is behind by less than a day refuses nothing.
const STAMP_SLACK_MAX: Duration = Duration::from_hours(24);

/// What a field is to the decoder itself, beside its column.
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
    Float(f64),
    /// A JSON number as it is written, because an id must keep every digit.
    Number(&'a str),
    Text(&'a str),
}

/// What a leaf has been given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    /// The rank of the path that gave its value, or `u32::MAX`; lower ranks are preferred.
    rank: u32,
    /// What the value should have been, where it is not of the field's type.
    fault: Option<&'static str>,
}

impl Default for Mark {
    fn default() -> Self {
        Self { rank: u32::MAX, fault: None }
    }
}

/// What a number has to be that a float can hold.
const IN_RANGE: &str = "a number up to 1.8e308: the number is out of range";

/// What a text must not hold.
const NO_TEXT: &str =
    "text without half of a surrogate pair (an escape from \\ud800 to \\udfff without its other half)";

/// What a member has to be whose own members are read.
const NOT_AN_OBJECT: &str = "an object around it, and there is another value";

/// What is known of the row that is being read, beside its columns.
#[derive(Clone, Copy, Debug, Default)]
struct Row {
    user: Text,
    anonymous: Text,
    event_id: Text,
    agent: Text,
    bot: Truth,
    has_type: bool,
    key_type: Option<KeyType>,
    time: Option<i64>,
    /// The number that the time was written as, and the unit that its field has.
    number: Option<i64>,
    unit: TimeUnit,
}

/// The rows of a record that is being read. The row being read is the last one of the columns.
pub(super) struct Rows<'a> {
    rules: &'a Rules,
    /// The latest that an event can be, by what is known beside the record.
    ceiling: Option<i64>,
    record: &'a Record<'a>,
    batch: &'a mut EventBatch,
    /// By leaf.
    marks: &'a mut [Mark],
    /// The marks of what stands outside of a record's events.
    outside: &'a mut [Mark],
    /// Whether one of the marks may be a fault.
    may_be_wrong: bool,
    /// For texts that are made.
    buffer: &'a mut String,
    bots: Option<&'a mut Bots>,
    row: Row,
    /// The rows so far.
    taken: Decoded,
}

impl Rows<'_> {
    /// Takes a value for a leaf, from the path of this rank; lower ranks are preferred. Whether it is of the field's type
    /// is told by [`Rows::close`], because a preferred path may come yet.
    pub(super) fn set(&mut self, leaf: usize, rank: u32, value: Scalar<'_>) {
        if self.marks[leaf].rank < rank || matches!(value, Scalar::Text("")) {
            return;
        }
        let rules = self.rules;
        let Leaf { role, slot, ty, unit, .. } = &rules.leaves[leaf];
        let is_id = matches!(role, Role::User | Role::Anonymous | Role::EventId);
        // Nobody is called by blanks or by a truth value: all who had one would be one user.
        if is_id && matches!(value, Scalar::Text(text) if text.trim().is_empty()) {
            return;
        }
        let fault = match ty {
            Type::String => match role {
                Role::KeyType => match key_type(value) {
                    Ok(ty) => {
                        self.row.key_type = ty;
                        None
                    }
                    Err(expected) => Some(expected),
                },
                _ if is_id && matches!(value, Scalar::Bool(_)) => Some("an id: a text or a number"),
                _ => {
                    self.put_text(*role, *slot, value);
                    None
                }
            },
            Type::Double => match self.put_double(*slot, value) {
                // A missing value is not given, so another path may give one.
                Ok(false) => return,
                answer => answer.err(),
            },
            Type::Int | Type::Duration => match self.put_int(*slot, value) {
                Ok(false) => return,
                answer => answer.err(),
            },
            Type::Bool => self.put_bool(*role, *slot, value),
            Type::Timestamp => self.put_time(*role, *slot, *unit, value).err(),
        };
        self.mark(leaf, rank, fault);
    }

    fn mark(&mut self, leaf: usize, rank: u32, fault: Option<&'static str>) {
        self.marks[leaf] = Mark { rank, fault };
        self.may_be_wrong |= fault.is_some();
    }

    /// Notes that the path of this rank holds an object or the like in the place of a value.
    pub(super) fn refuse(&mut self, leaf: usize, rank: u32) {
        if rank <= self.marks[leaf].rank {
            self.mark(leaf, rank, Some(self.rules.leaves[leaf].expected()));
        }
    }

    /// Notes that the path of this rank holds a text that is none.
    pub(super) fn refuse_text(&mut self, leaf: usize, rank: u32) {
        if rank <= self.marks[leaf].rank {
            self.mark(leaf, rank, Some(NO_TEXT));
        }
    }

    /// Notes that the path of this rank leads through something that is no object.
    pub(super) fn refuse_parent(&mut self, leaf: usize, rank: u32) {
        if rank <= self.marks[leaf].rank {
            self.mark(leaf, rank, Some(NOT_AN_OBJECT));
        }
    }

    fn put_text(&mut self, role: Role, slot: Option<Slot>, value: Scalar<'_>) {
        let texts = &mut self.batch.columns.texts;
        let text = match value {
            Scalar::Text(text) => texts.push(text),
            Scalar::Number(number) => texts.push(number::id(number, self.buffer)),
            Scalar::Int(value) => texts.push(itoa::Buffer::new().format(value)),
            Scalar::Float(value) => texts.push(ryu::Buffer::new().format(value)),
            Scalar::Bool(value) => texts.push(if value { "true" } else { "false" }),
        };
        match role {
            Role::User => self.row.user = text,
            Role::Anonymous => self.row.anonymous = text,
            Role::EventId => self.row.event_id = text,
            Role::EventType => self.row.has_type = true,
            Role::Agent => self.row.agent = text,
            Role::OccurredAt | Role::KeyType | Role::Bot | Role::Other => {}
        }
        let index = self.batch.len();
        if let Some(Column::String(values)) = slot.map(|slot| self.batch.columns.get_mut(slot)) {
            values[index] = text;
        }
    }

    /// Says whether the value is given.
    fn put_double(&mut self, slot: Option<Slot>, value: Scalar<'_>) -> Result<bool, &'static str> {
        let value = match value {
            Scalar::Float(value) => value,
            Scalar::Int(value) => value as f64,
            Scalar::Number(text) | Scalar::Text(text) => {
                let text = text.trim();
                let value: f64 = text.parse().map_err(|_| "a number")?;
                // Digits that make no float, in contrast to the word "inf".
                if value.is_infinite() && text.bytes().any(|byte| byte.is_ascii_digit()) {
                    return Err(IN_RANGE);
                }
                value
            }
            Scalar::Bool(_) => return Err("a number"),
        };
        let index = self.batch.len();
        if value.is_finite()
            && let Some(Column::Double(values)) = slot.map(|slot| self.batch.columns.get_mut(slot))
        {
            values[index] = value;
        }
        Ok(value.is_finite())
    }

    /// Says whether the value is given.
    fn put_int(&mut self, slot: Option<Slot>, value: Scalar<'_>) -> Result<bool, &'static str> {
        const EXPECTED: &str = "a whole number";
        let value = match value {
            Scalar::Int(value) => Some(value),
            // Beyond 2^53 a float is no exact integer any more.
            Scalar::Float(value) => {
                (value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_992.0).then_some(value as i64)
            }
            Scalar::Number(text) | Scalar::Text(text) => {
                let text = text.trim();
                match number::whole(text, self.buffer) {
                    // A missing value, as in a double.
                    None if is_no_number(text) => return Ok(false),
                    value => value,
                }
            }
            Scalar::Bool(_) => None,
        };
        let value = value.ok_or(EXPECTED)?;
        // The smallest number stands for a missing one, as in the columns and files of others.
        if value == MISSING_INT {
            return Ok(false);
        }
        let index = self.batch.len();
        if let Some(Column::Int(values)) = slot.map(|slot| self.batch.columns.get_mut(slot)) {
            values[index] = value;
        }
        Ok(true)
    }

    fn put_bool(&mut self, role: Role, slot: Option<Slot>, value: Scalar<'_>) -> Option<&'static str> {
        let value = match value {
            Scalar::Bool(value) => Some(value),
            Scalar::Int(0) | Scalar::Number("0") | Scalar::Text("false" | "FALSE" | "False" | "0") => Some(false),
            Scalar::Int(1) | Scalar::Number("1") | Scalar::Text("true" | "TRUE" | "True" | "1") => Some(true),
            Scalar::Int(_) | Scalar::Number(_) | Scalar::Float(_) | Scalar::Text(_) => None,
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

    fn put_time(
        &mut self,
        role: Role,
        slot: Option<Slot>,
        unit: TimeUnit,
        value: Scalar<'_>,
    ) -> Result<(), &'static str> {
        let (micros, number) = match value {
            Scalar::Int(value) => (time::from_int(value, unit), Some(value)),
            Scalar::Number(number) => time::from_number(number, unit).ok_or(time::EXPECTED)?,
            Scalar::Text(text) => time::from_text(text, unit)?,
            Scalar::Float(_) | Scalar::Bool(_) => return Err(time::EXPECTED),
        };
        if role == Role::OccurredAt {
            (self.row.time, self.row.number, self.row.unit) = (Some(micros), number, unit);
        }
        let index = self.batch.len();
        if let Some(Column::Int(values)) = slot.map(|slot| self.batch.columns.get_mut(slot)) {
            values[index] = micros;
        }
        Ok(())
    }

    /// Makes room for a row.
    fn open(&mut self) {
        let rows = self.batch.len() + 1;
        for slot in self.rules.slots() {
            self.batch.columns.get_mut(slot).resize(rows);
        }
        self.marks.fill(Mark::default());
        self.row = Row::default();
    }

    /// Begins with the record again.
    pub(super) fn again(&mut self) {
        let before = self.batch.len() - self.taken.rows;
        self.batch.truncate(before);
        for slot in self.rules.slots() {
            self.batch.columns.get_mut(slot).resize(before);
        }
        self.taken = Decoded::default();
        self.may_be_wrong = false;
        self.open();
    }

    /// The first field, in the order of their declaration, that holds what it must not.
    fn wrong(&self) -> Result<(), Rejection> {
        let wrong = || self.marks.iter().position(|mark| mark.fault.is_some());
        match self.may_be_wrong.then(wrong).flatten() {
            None => Ok(()),
            Some(leaf) => {
                let expected = self.marks[leaf].fault.unwrap_or_default();
                let name = &self.rules.leaves[leaf].name;
                Err(Rejection::new(RejectReason::WrongType, format!("{name}: expected {expected}")))
            }
        }
    }

    /// Ends the row: fills in what is derived, and checks what every event needs.
    pub(super) fn close(&mut self) -> Result<(), Rejection> {
        self.wrong()?;
        let Row { user, anonymous, event_id, has_type, key_type, .. } = self.row;
        let (user, usual) = if user.is_missing() { (anonymous, KeyType::Device) } else { (user, KeyType::Person) };
        if user.is_missing() {
            return Err(Rejection::new(RejectReason::MissingUser, "neither user_id nor anonymous_id is given"));
        }
        if !has_type {
            return Err(Rejection::new(RejectReason::MissingType, "event_type is not given"));
        }
        let time = self.time()?;
        if user.len() > USER_BYTES_MAX {
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
        let user = self.key(key_type.unwrap_or(usual), user);
        let hash = hash_key(self.batch.columns.texts.bytes(user));
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

    /// The key of an id.
    fn key(&mut self, ty: KeyType, id: Text) -> Text {
        let index = self.batch.len();
        if let Some(slot) = self.rules.slot_of(Role::KeyType) {
            let name = self.batch.columns.texts.push(ty.as_str());
            if let Column::String(values) = self.batch.columns.get_mut(slot) {
                values[index] = name;
            }
        }
        let ty = if self.rules.joins_types { KeyType::Person } else { ty };
        let texts = &mut self.batch.columns.texts;
        match ty.before(texts.get(id)) {
            None => id,
            Some(prefix) => {
                self.buffer.clear();
                self.buffer.push_str(prefix);
                self.buffer.push_str(texts.get(id));
                texts.push(self.buffer)
            }
        }
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
        self.check_bounds(time)?;
        Ok(time)
    }

    /// Refuses a time that no event can have: before `time.past_limit`, after 9999, or too far ahead of its record.
    fn check_bounds(&self, time: i64) -> Result<(), Rejection> {
        let past_limit = self.rules.past_limit;
        if !(past_limit.0..=TIME_MAX).contains(&time) {
            let detail = if time < past_limit.0 {
                format!("occurred_at lies before time.past_limit = \"{}\"; is its unit right?", past_limit.date())
            } else {
                "occurred_at lies after 9999; is its unit right?".to_owned()
            };
            let is_plausible = |time| (past_limit.0..=self.latest().0.min(PLAUSIBLE_MAX)).contains(&time);
            let detail = match self.row.number.and_then(|number| time::meant(number, is_plausible)) {
                Some(hint) => format!("{detail} {hint}"),
                None => detail,
            };
            return Err(Rejection::new(RejectReason::TimeRange, detail));
        }
        // The size of a number says its unit only as far as it gives a time that can be.
        let guessed = self.row.number.filter(|_| self.row.unit == TimeUnit::Auto && self.row.time == Some(time));
        let is_hour = guessed.is_some_and(time::is_date_with_hour);
        let is_far = guessed.is_some() && time > PLAUSIBLE_MAX;
        let (latest, ahead_of) = self.latest();
        if time > latest {
            let hint = match (is_hour, is_far) {
                (true, _) => "; is it a date with its hour? Write such dates as 2026-03-01T10:00:00Z",
                (_, true) => "; is its unit right?",
                _ => "",
            };
            return Err(Rejection::new(
                RejectReason::FutureTime,
                format!("occurred_at is further ahead of {ahead_of} than time.future_tolerance{hint}"),
            ));
        }
        // Where nothing is known of the present.
        if latest == i64::MAX && is_far {
            return Err(Rejection::new(
                RejectReason::TimeRange,
                "occurred_at lies after 2100 in the unit that its size suggests; declare its unit in input.fields",
            ));
        }
        if latest == i64::MAX && is_hour {
            return Err(Rejection::new(
                RejectReason::TimeRange,
                "occurred_at may be seconds, or a date with its hour such as 2026030110: declare its unit in input.fields, or \
                 write such dates as 2026-03-01T10:00:00Z",
            ));
        }
        Ok(())
    }

    /// The latest that an event of this record can be, and what it would be ahead of. A timestamp from before `time.past_limit`
    /// is none. One that is ahead itself says little, because whoever wrote the event wrote it, too: it is believed as far as
    /// an event of that time makes no later one of its user's too late.
    fn latest(&self) -> (i64, &'static str) {
        let Rules { past_limit, future_tolerance_micros, stamp_slack_micros, .. } = *self.rules;
        let stamp = self.record.timestamp_ms.map(|millis| millis.saturating_mul(1_000));
        let by_stamp =
            stamp.filter(|stamp| *stamp >= past_limit.0).map(|it| it.saturating_add(future_tolerance_micros));
        let ceiling = self.ceiling.unwrap_or(i64::MAX);
        match by_stamp {
            None => (ceiling, "the present"),
            Some(by_stamp) => {
                let ceiling = ceiling.saturating_add(stamp_slack_micros);
                if by_stamp <= ceiling { (by_stamp, "the record's timestamp") } else { (ceiling, "the present") }
            }
        }
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

    /// Ends what stands outside of the record's events.
    pub(super) fn begin_elements(&mut self) {
        for (outside, mark) in self.outside.iter_mut().zip(&*self.marks) {
            // An event's own member comes before it, whatever its path.
            *outside = Mark { rank: u32::MAX, fault: mark.fault };
        }
    }

    /// Begins an event inside the record, in the last row of the columns: what was read outside of it is visible in it and
    /// gives way to its own. The answer is for [`Rows::end_element`].
    pub(super) fn begin_element(&mut self) -> Outside {
        let row = self.batch.len();
        for slot in self.rules.slots() {
            self.batch.columns.get_mut(slot).repeat(row);
        }
        self.marks.copy_from_slice(self.outside);
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

/// Whether a text says that there is no number.
fn is_no_number(text: &str) -> bool {
    text.parse::<f64>().is_ok_and(|value| !value.is_finite()) && !text.bytes().any(|byte| byte.is_ascii_digit())
}

/// The type of a key by its name or its number; none where that says "unspecified".
fn key_type(value: Scalar<'_>) -> Result<Option<KeyType>, &'static str> {
    const EXPECTED: &str = "person, device or app, or a name of aimpoint.v1.KeyType";
    let number = match value {
        Scalar::Int(number) => Some(number),
        Scalar::Number(text) => text.parse().ok(),
        Scalar::Text("KEY_TYPE_UNSPECIFIED") => Some(0),
        Scalar::Text(name) => return KeyType::named(name).map(Some).ok_or(EXPECTED),
        Scalar::Float(_) | Scalar::Bool(_) => None,
    };
    match number {
        Some(0) => Ok(None),
        number => number.and_then(KeyType::of_number).map(Some).ok_or(EXPECTED),
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
            Type::Timestamp => time::EXPECTED,
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
    /// How far ahead of the present a record's timestamp may be.
    stamp_slack_micros: i64,
    past_limit: EventTime,
    missing_time: MissingTime,
    excludes_bots: bool,
    /// Whether the types of keys are not looked at.
    joins_types: bool,
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
    /// A decoder that fills the columns `used`, and what every row has.
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
                _ => Role::Other,
            };
            let slot = used.contains(&field.slot).then_some(field.slot);
            if slot.is_none() && role == Role::Other {
                continue;
            }
            for (rank, path) in field.paths.iter().enumerate() {
                let rank = rank as u32;
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
        self.decode_until(record, None, batch)
    }

    /// The same, where no event can be later than the ceiling, whatever the record's own timestamp says.
    ///
    /// # Errors
    /// As [`Decoder::decode`].
    pub fn decode_until(
        &mut self,
        record: &Record<'_>,
        ceiling: Option<i64>,
        batch: &mut EventBatch,
    ) -> Result<Decoded, Rejection> {
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
            ceiling,
            record,
            batch,
            marks: &mut self.marks,
            outside: &mut self.outside,
            may_be_wrong: false,
            buffer: &mut self.buffer,
            bots: self.bots.as_mut(),
            row: Row::default(),
            taken: Decoded::default(),
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

    /// The latest that an event may be now.
    pub fn latest(&self, present: EventTime) -> i64 {
        present.0.saturating_add(self.rules.future_tolerance_micros)
    }

    /// The payload and the key of a refused record as they may be shown: nothing, where they may be shown as they came.
    pub fn redacted(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        matches!(self.format, Format::AccessLog(_)).then(|| access_log::without_addresses(bytes))
    }
}
