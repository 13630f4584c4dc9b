//! The meaning of one record: decoding, cleaning, event time.
//!
//! Owns the canonical fields of an event, where other producers keep them, and the rules by which a record is refused.
//! A payload is read once from front to back, and only the fields that something uses are kept; a bad record is an
//! answer ([`Rejection`]), never a panic. Nothing here reads a clock: what is "in the future" is decided against the
//! record's own Kafka timestamp, which is part of the log and so the same at every replay.
//!
//! - A record needs a user (`user_id`, else `anonymous_id`), an `event_type` and a time.
//! - Keys of two types are two users: `user_id` "5" and `anonymous_id` "5" share nothing.
//! - Where a number is wanted, a number in text will do; where text is wanted, a number will do, with all its digits. Anything
//!   else is `wrong_type`. `null` and an empty text are "not given". ±inf and NaN are missing values.
//! - The order of members means nothing. Of several paths of a field the first one that is given counts, and what stands at
//!   the others neither helps nor harms. Of one member given twice the last one counts.
//! - An array stands for its first element, but where `input.unpack` says that its elements are the events. Then what
//!   stands outside of the array is visible in each of them, an event's own member comes before it, and the record is
//!   taken or refused as a whole. An empty array holds no event.
//! - A time without a zone is UTC. A time before `time.past_limit` is refused: it is mostly a number in another unit.
//! - Unknown members are passed over. A JSON payload is one object and nests at most 64 levels deep.

mod access_log;
mod batch;
mod bots;
mod decode;
mod fields;
mod json;
mod key;
mod log_format;
mod number;
mod payload;
mod protobuf;
mod reject;
mod rows;
mod spec;
mod time;

pub use batch::{EventBatch, EventTime, Position, Record};
pub use decode::{Decoded, Decoder};
pub use fields::{CANONICAL, Fields};
pub use key::{KeyType, key_of, split_key};
pub use reject::{RejectReason, Rejection};
pub use spec::{
    BotRule, DuplicateSpec, FieldPath, FieldSpec, InputFormat, InputSpec, KeyTypes, MissingTime, Preset, Secret,
    TimeSpec, TimeUnit, TooLate,
};

#[cfg(test)]
mod tests;
