//! The meaning of one record: decoding, cleaning, event time.
//!
//! Owns the canonical fields of an event, where other producers keep them, and the rules for rejecting a record. A
//! payload is read once from front to back, and only fields that something uses are kept. A bad record is a return
//! value ([`Rejection`]), never a panic. Nothing here reads a clock: an event is "in the future" relative to the
//! record's own Kafka timestamp, which is part of the log and therefore the same at every replay.
//!
//! - A record needs a user (`user_id`, else `anonymous_id`), an `event_type` and a time.
//! - Keys of two types are two users: `user_id` "5" and `anonymous_id` "5" share nothing.
//! - A number in text is accepted as a number, and a number is accepted as text, with all its digits. Anything else is
//!   `wrong_type`. `null` and an empty text mean "not given". ±inf and NaN are missing values.
//! - The order of members does not matter. Of several paths of a field, the first with a value counts, and the values
//!   at the others are ignored. If a member occurs twice, the last one counts.
//! - An array stands for its first element, unless `input.unpack` says that its elements are the events. Then members
//!   outside the array apply to each event, an event's own member takes precedence, and the record is accepted or
//!   rejected as a whole. An empty array holds no event.
//! - A time without a zone is UTC. A time before `time.past_limit` is rejected: it is usually a number in another unit.
//! - A record with the header [`ERASE_HEADER`] is no event but a request to erase the user with its key, as of its
//!   timestamp, whatever the format is.
//! - With pseudonyms ([`Pseudonyms`]), a batch names users by them alone, in keys and in the fields with ids.
//! - Unknown members are skipped. A JSON payload is one object and nests at most 64 levels deep.

mod access_log;
mod batch;
mod bots;
mod decode;
mod erasure;
mod fields;
mod json;
mod key;
mod log_format;
mod number;
mod payload;
mod protobuf;
mod pseudonym;
mod reject;
mod rows;
mod sections;
mod spec;
mod time;
mod truncate;

pub use batch::{
    CLOCKS_SET_FROM, ERASE_HEADER, ERASE_VERSION, ERASE_VERSION_EXACT, EventBatch, EventTime, OtherName, Position,
    Record,
};
pub use decode::{Decoded, Decoder};
pub use fields::{CANONICAL, Fields};
pub use key::{KeyType, key_of, split_key};
pub use pseudonym::{Normalise, NotNormal, PSEUDONYM_BYTES, PseudonymSpec, Pseudonyms, UserKeys};
pub use reject::{RejectReason, Rejection};
pub use spec::{
    Addresses, BotRule, DuplicateSpec, FieldPath, FieldSpec, InputFormat, InputSpec, KeyTypes, MissingTime, Preset,
    Secret, TimeSpec, TimeUnit, TooLate,
};

#[cfg(test)]
mod tests;
