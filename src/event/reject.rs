//! Why a record is rejected.

use std::fmt;

/// Why a record is a dead letter: the closed set used in metrics and headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RejectReason {
    /// The record has no payload.
    NullPayload,
    /// The payload exceeds `input.max_bytes`, or a bounded part of it is too large: the number of events, or an event's
    /// id.
    TooLarge,
    /// The payload is not what `input.format` says.
    Malformed,
    /// A field holds a value of another type.
    WrongType,
    /// Neither a user id nor an anonymous id.
    MissingUser,
    /// No event type.
    MissingType,
    /// No time, and `time.missing` is `reject`.
    MissingTime,
    /// A time before 1970 or after 9999.
    TimeRange,
    /// Further ahead of the record's Kafka timestamp, or of the present, than `time.future_tolerance`.
    FutureTime,
    /// Further behind its user's newest event than `time.allowed_lateness`.
    TooLate,
    /// The decision is larger than its topic accepts. Detected when it is sent, not when the record is read.
    OutputTooLarge,
}

impl RejectReason {
    /// All reasons.
    pub const ALL: [Self; 11] = [
        Self::NullPayload,
        Self::TooLarge,
        Self::Malformed,
        Self::WrongType,
        Self::MissingUser,
        Self::MissingType,
        Self::MissingTime,
        Self::TimeRange,
        Self::FutureTime,
        Self::TooLate,
        Self::OutputTooLarge,
    ];

    /// The reason as used in headers and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NullPayload => "null_payload",
            Self::TooLarge => "too_large",
            Self::Malformed => "malformed",
            Self::WrongType => "wrong_type",
            Self::MissingUser => "missing_user",
            Self::MissingType => "missing_type",
            Self::MissingTime => "missing_time",
            Self::TimeRange => "time_range",
            Self::FutureTime => "future_time",
            Self::TooLate => "too_late",
            Self::OutputTooLarge => "output_too_large",
        }
    }
}

impl fmt::Display for RejectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A rejected record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct Rejection {
    /// The kind of fault.
    pub reason: RejectReason,
    /// Details for people: which field, what was expected. It never quotes a value.
    pub detail: String,
}

impl Rejection {
    /// A rejection for this reason.
    pub fn new(reason: RejectReason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}
