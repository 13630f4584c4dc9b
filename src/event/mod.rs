//! The meaning of one record: decoding, cleaning, event time.
//!
//! Owns the canonical fields of an event, where other producers keep them, and the rules by which a record is refused.
//! A payload is read once from front to back, and only the fields that something uses are kept; a bad record is an
//! answer ([`Rejection`]), never a panic. Nothing here reads a clock: what is "in the future" is decided against the
//! record's own Kafka timestamp, which is part of the log and so the same at every replay.
//!
//! - A record needs a user (`user_id`, else `anonymous_id`), an `event_type` and a time.
//! - Where a number is wanted, a number in text will do; where text is wanted, a number will do. Anything else is
//!   `wrong_type`. `null` and an empty text are "not given". ±inf and NaN are missing values.
//! - An array stands for its first element.
//! - Unknown members are passed over. A JSON payload is one object and nests at most 64 levels deep.

mod batch;
mod decode;
mod fields;
mod json;
mod protobuf;
mod reject;
mod spec;
mod time;

pub use batch::{EventBatch, EventTime, Position, Record};
pub use decode::Decoder;
pub use fields::{CANONICAL, Fields};
pub use reject::{RejectReason, Rejection};
pub use spec::{
    DuplicateSpec, FieldSpec, InputFormat, InputSpec, MissingTime, Preset, Source, TimeSpec, TimeUnit, TooLate,
};

#[cfg(test)]
mod tests;
