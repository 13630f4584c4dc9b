//! What a record of the topic of decisions says.
//!
//! Guarantees: a decision gives the same message in Protobuf and in JSON, so the store need not know the format of the
//! topic. Unknown fields are kept in Protobuf and dropped in JSON. A decision that cannot be read is refused with one of a
//! closed set of reasons, and its user keeps the last readable one. Decisions of other applications are ignored.

use super::{message, nulls};
use crate::{
    event::key_of,
    proto::{v1, without_header},
};
use prost::Message;

/// What a record changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// The user has a new decision: the message without what the key says.
    Kept(&'a [u8]),
    /// The user was erased.
    Erased,
    /// Nothing: another application's decision.
    Foreign,
}

/// Why a record is refused. Its name is the label of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// There is no key, or it is not text.
    NoKey,
    /// The value is no decision.
    Malformed,
    /// The decision is about another user than the key says.
    OtherUser,
}

impl Refusal {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::NoKey, Self::Malformed, Self::OtherUser];

    /// The name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoKey => "no_key",
            Self::Malformed => "malformed",
            Self::OtherUser => "other_user",
        }
    }
}

/// Reads records for one application.
#[derive(Debug)]
pub struct RecordReader {
    /// The beginning of the application's ids of decisions.
    prefix: String,
    buffer: Vec<u8>,
}

impl RecordReader {
    /// A reader for the application of this name.
    pub fn new(app: &str) -> Self {
        Self { prefix: format!("{app}:"), buffer: Vec::new() }
    }

    /// Reads a record: the user's key, and what changes.
    ///
    /// # Errors
    /// Returns why the record is refused.
    pub fn read<'a>(
        &'a mut self,
        key: Option<&'a [u8]>,
        payload: Option<&[u8]>,
    ) -> Result<(&'a str, Change<'a>), Refusal> {
        let key = key.and_then(|key| std::str::from_utf8(key).ok()).filter(|key| !key.is_empty());
        let key = key.ok_or(Refusal::NoKey)?;
        let Some(payload) = payload else { return Ok((key, Change::Erased)) };
        // No decision in Protobuf starts with a brace: it would be field 15 as a group.
        let is_json = payload.trim_ascii_start().first() == Some(&b'{');
        let decision = if is_json { of_json(payload) } else { of_protobuf(payload) };
        let decision = decision.ok_or(Refusal::Malformed)?;
        if !decision.decision_id.starts_with(&self.prefix) {
            return if decision.decision_id.is_empty() { Err(Refusal::Malformed) } else { Ok((key, Change::Foreign)) };
        }
        if key_of(message::key_type(&decision), &decision.user_key) != key {
            return Err(Refusal::OtherUser);
        }
        self.buffer.clear();
        if is_json {
            message::write_without_user(&decision.encode_to_vec(), &mut self.buffer);
        } else {
            // It was read before, so a header that it has is complete.
            message::write_without_user(without_header(payload).unwrap_or_default(), &mut self.buffer);
        }
        Ok((key, Change::Kept(&self.buffer)))
    }
}

fn of_protobuf(payload: &[u8]) -> Option<v1::Decision> {
    v1::Decision::decode(without_header(payload)?).ok()
}

fn of_json(payload: &[u8]) -> Option<v1::Decision> {
    nulls::from_slice(payload).ok()
}
