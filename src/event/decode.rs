//! The decoder: one record in, its rows in the batch, or the reason why not.
//!
//! Guarantees: a refused record leaves the batch as it was; a decoded row has a user, a type and a time; a record is taken as a
//! whole or refused as a whole. Limits: see [`super::rows`]; nothing is allocated for a JSON event or a log line once the batch
//! has grown.

use super::{
    BotRule, EventBatch, EventTime, Fields, InputFormat, InputSpec, KeyTypes, MissingTime, Record, RejectReason,
    Rejection, Secret, TimeSpec, TimeUnit,
    access_log::{self, AccessLog},
    bots::Bots,
    json::Json,
    protobuf,
    rows::{Mark, Rows},
    time,
};
use crate::columns::{Slot, Type};
use std::time::Duration;

/// The furthest that a record's timestamp may be ahead of the present, even if late events count for much longer: a process whose
/// clock is less than a day behind refuses nothing.
const STAMP_SLACK_MAX: Duration = Duration::from_hours(24);

/// What a field means to the decoder itself.
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

/// A field that is read.
#[derive(Clone, Debug)]
pub(super) struct Leaf {
    pub(super) name: String,
    pub(super) path: String,
    pub(super) role: Role,
    /// The column, if an expression reads it.
    pub(super) slot: Option<Slot>,
    pub(super) ty: Type,
    pub(super) unit: TimeUnit,
}

impl Leaf {
    /// What a value has to be.
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

/// What was read of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// The number of events added to the batch.
    pub rows: usize,
    /// The number of events left out because they are those of bots.
    pub bots: usize,
}

impl Decoded {
    pub(super) fn total(self) -> usize {
        self.rows + self.bots
    }
}

/// The rules for all records.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) leaves: Vec<Leaf>,
    pub(super) future_tolerance_micros: i64,
    /// How far ahead of the present a record's timestamp may be.
    pub(super) stamp_slack_micros: i64,
    pub(super) past_limit: EventTime,
    pub(super) missing_time: MissingTime,
    pub(super) excludes_bots: bool,
    /// Whether keys of all types are the same users.
    pub(super) joins_types: bool,
}

impl Rules {
    /// The columns that are filled.
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

    /// Adds the events of a record to the batch.
    ///
    /// # Errors
    /// Why the record is refused; the batch is as it was before.
    pub fn decode(&mut self, record: &Record<'_>, batch: &mut EventBatch) -> Result<Decoded, Rejection> {
        self.decode_until(record, None, batch)
    }

    /// The same for a record none of whose events can be later than the ceiling, whatever its own timestamp says.
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
        // The last row of the columns is not part of the batch, unless a record without an array became one.
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

    /// The payload or key of a refused record as it may be shown; nothing if it may be shown as it came.
    pub fn redacted(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        matches!(self.format, Format::AccessLog(_)).then(|| access_log::without_addresses(bytes))
    }
}
