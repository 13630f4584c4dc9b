//! Rows of the batch while a record is read into them: which value counts, its type, and the fields every event needs.
//!
//! Limits: a user's key has at most [`USER_BYTES_MAX`] bytes, an event's id [`EVENT_ID_BYTES_MAX`], and a record at most
//! [`UNPACKED_MAX`] events.

mod bounds;
mod names;
mod values;

pub(super) use bounds::TIME_MAX;

use super::{
    EventBatch, EventTime, KeyType, Position, Record, RejectReason, Rejection, TimeUnit,
    bots::Bots,
    decode::{Decoded, Leaf, Role, Rules},
    fields,
};
use crate::{
    columns::{Column, Text, Truth, Type},
    state::hash_key,
};
use values::key_type;

/// The longest user key. Profiles and decisions contain it.
pub(super) const USER_BYTES_MAX: usize = 1024;

/// The longest event id, for the same reason. Longer ones are rejected: truncated, two ids could become equal.
const EVENT_ID_BYTES_MAX: usize = 1024;

/// The most events in one record. The longest real sessions in one record have a few hundred. A megabyte of `{}` would
/// be a third of a million rows, each with everything outside of the array.
const UNPACKED_MAX: usize = 4096;

/// A value in a payload.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scalar<'a> {
    Bool(bool),
    Int(i64),
    Float(f64),
    /// A JSON number as text, because an id must keep every digit.
    Number(&'a str),
    Text(&'a str),
}

/// What has been read for a leaf.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    /// The rank of the path that gave the value, or `u32::MAX`; lower ranks are preferred.
    rank: u32,
    /// What the value should have been, if it has the wrong type.
    fault: Option<&'static str>,
}

impl Default for Mark {
    fn default() -> Self {
        Self { rank: u32::MAX, fault: None }
    }
}

/// Expected instead of a string that is not Unicode.
const NOT_UNICODE: &str =
    "text without half of a surrogate pair (an escape from \\ud800 to \\udfff without its other half)";

/// Expected instead of a member whose own members are read.
const NOT_AN_OBJECT: &str = "an object around it, and there is another value";

/// The row being read, except its columns.
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
    /// The time as a number, in the unit of its field.
    number: Option<i64>,
    unit: TimeUnit,
}

/// The rows of the record being read. The current row is the last one of the columns.
pub(super) struct Rows<'a> {
    rules: &'a Rules,
    /// The latest allowed event time, from what is known apart from the record.
    ceiling: Option<i64>,
    record: &'a Record<'a>,
    batch: &'a mut EventBatch,
    /// By leaf.
    marks: &'a mut [Mark],
    /// The marks for the part of a record outside its events.
    outside: &'a mut [Mark],
    /// Whether any mark might have an error.
    may_be_wrong: bool,
    /// Used to build strings.
    buffer: &'a mut String,
    bots: Option<&'a mut Bots>,
    row: Row,
    /// The last id, its type, and its pseudonym: the events of a record often share their user.
    known: Option<(Text, KeyType, Text)>,
    /// The rows so far.
    taken: Decoded,
}

impl<'a> Rows<'a> {
    /// Starts reading a record. The mark buffers have one entry per leaf.
    pub(super) fn new(
        rules: &'a Rules,
        record: &'a Record<'a>,
        ceiling: Option<i64>,
        batch: &'a mut EventBatch,
        [marks, outside]: [&'a mut [Mark]; 2],
        buffer: &'a mut String,
        bots: Option<&'a mut Bots>,
    ) -> Self {
        let (row, taken) = (Row::default(), Decoded::default());
        let mut rows = Self {
            rules,
            ceiling,
            record,
            batch,
            marks,
            outside,
            may_be_wrong: false,
            buffer,
            bots,
            row,
            known: None,
            taken,
        };
        rows.open();
        rows
    }

    /// Whether the batch has no room for more strings.
    pub(super) fn is_full(&self) -> bool {
        self.batch.columns.texts.is_full()
    }

    /// How many rows there are so far.
    pub(super) fn decoded(&self) -> Decoded {
        self.taken
    }

    /// Takes a value for a leaf from the path of this rank; lower ranks are preferred. A value of the wrong type is
    /// reported only by [`Rows::close`], because a preferred path may follow.
    pub(super) fn set(&mut self, leaf: usize, rank: u32, value: Scalar<'_>) {
        if self.marks[leaf].rank < rank || matches!(value, Scalar::Text("")) {
            return;
        }
        let rules = self.rules;
        let Leaf { role, slot, ty, unit, truncates, .. } = &rules.leaves[leaf];
        let is_id = matches!(role, Role::User | Role::Anonymous | Role::EventId);
        // An id of blanks, or a bool, would be shared by many users.
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
                    match value {
                        Scalar::Text(text) if *truncates => self.put_network(*role, *slot, text),
                        value => self.put_text(*role, *slot, value),
                    }
                    None
                }
            },
            Type::Double => match self.put_double(*slot, value) {
                // A missing value leaves the field to another path.
                Ok(false) => return,
                answer => answer.err(),
            },
            Type::Int if *role == Role::Sections => self.put_sections(*slot, value).err(),
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

    /// Records that the path of this rank leads to an object or the like instead of a value.
    pub(super) fn refuse(&mut self, leaf: usize, rank: u32) {
        if rank <= self.marks[leaf].rank {
            self.mark(leaf, rank, Some(self.rules.leaves[leaf].expected()));
        }
    }

    /// Records that the path of this rank leads to a string that is not Unicode.
    pub(super) fn refuse_text(&mut self, leaf: usize, rank: u32) {
        if rank <= self.marks[leaf].rank {
            self.mark(leaf, rank, Some(NOT_UNICODE));
        }
    }

    /// Records that the path of this rank leads through something that is not an object.
    pub(super) fn refuse_parent(&mut self, leaf: usize, rank: u32) {
        if rank <= self.marks[leaf].rank {
            self.mark(leaf, rank, Some(NOT_AN_OBJECT));
        }
    }

    /// Appends an empty row.
    fn open(&mut self) {
        let rows = self.batch.len() + 1;
        for slot in self.rules.slots() {
            self.batch.columns.get_mut(slot).resize(rows);
        }
        self.marks.fill(Mark::default());
        self.row = Row::default();
    }

    /// Restarts the record from its first row.
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

    /// Rejects the record if a field has a value of the wrong type; reports the first one in declaration order. A field about
    /// consent counts as a no instead: in a dead letter, a withdrawal would be lost.
    fn check_types(&mut self) -> Result<(), Rejection> {
        if !self.may_be_wrong {
            return Ok(());
        }
        for leaf in 0..self.marks.len() {
            let Some(expected) = self.marks[leaf].fault else { continue };
            let Leaf { name, role, slot, ty, .. } = &self.rules.leaves[leaf];
            if !name.starts_with(fields::CONSENT) {
                return Err(Rejection::new(RejectReason::WrongType, format!("{name}: expected {expected}")));
            }
            let (role, slot, ty) = (*role, *slot, *ty);
            self.put_refusal(role, slot, ty);
        }
        Ok(())
    }

    /// Finishes the row: derives fields, and checks what every event needs.
    pub(super) fn close(&mut self) -> Result<(), Rejection> {
        self.check_types()?;
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
        let other = self.other_name(key_type.unwrap_or(usual), user, event_id)?;
        let user = self.key(key_type.unwrap_or(usual), user)?;
        let event_id = self.nameless(event_id);
        let hash = hash_key(self.batch.columns.texts.bytes(user));
        self.classify_agent();
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
        batch.logged_at.push(record.logged_at());
        batch.traceparents.push(traceparent);
        batch.others.extend(other);
        taken.rows += 1;
        Ok(())
    }

    /// The key for an id.
    fn key(&mut self, ty: KeyType, id: Text) -> Result<Text, Rejection> {
        let index = self.batch.len();
        if let Some(slot) = self.rules.slot_of(Role::KeyType) {
            let name = self.batch.columns.texts.push(ty.as_str());
            if let Column::String(values) = self.batch.columns.get_mut(slot) {
                values[index] = name;
            }
        }
        let ty = if self.rules.joins_types { KeyType::Person } else { ty };
        let id = self.named(ty, id)?;
        let texts = &mut self.batch.columns.texts;
        Ok(match ty.before(texts.get(id)) {
            None => id,
            Some(prefix) => {
                self.buffer.clear();
                self.buffer.push_str(prefix);
                self.buffer.push_str(texts.get(id));
                texts.push(self.buffer)
            }
        })
    }

    /// Sets `bot` by the user agent, if the event has no such field.
    fn classify_agent(&mut self) {
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

    /// Finishes the part outside of the record's events.
    pub(super) fn begin_elements(&mut self) {
        for (outside, mark) in self.outside.iter_mut().zip(&*self.marks) {
            // An event's own member is preferred, whatever its path.
            *outside = Mark { rank: u32::MAX, fault: mark.fault };
        }
    }

    /// Starts an event inside the record, in the last row of the columns. It inherits the outside fields that it does
    /// not set itself. Pass the result to [`Rows::end_element`].
    pub(super) fn begin_element(&mut self) -> Outside {
        let row = self.batch.len();
        for slot in self.rules.slots() {
            self.batch.columns.get_mut(slot).repeat(row);
        }
        self.marks.copy_from_slice(self.outside);
        Outside(self.row)
    }

    /// Finishes an event inside the record. The outside fields become the last row again.
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

/// The fields of a record outside of its events.
pub(super) struct Outside(Row);
