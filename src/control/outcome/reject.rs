//! Why an outcome is not read.

use std::fmt;

/// Why an outcome goes to the dead letters of control: the closed set used in headers and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RejectReason {
    /// The record has no payload.
    NullPayload,
    /// The payload or an id is too long.
    TooLarge,
    /// The payload is neither JSON nor Protobuf.
    Malformed,
    /// A member holds a value of another type.
    WrongType,
    /// There is no `outcome_id`.
    MissingId,
    /// There is no `type`.
    MissingType,
    /// The `type` is not known.
    UnknownType,
    /// There is no `occurred_at`.
    MissingTime,
    /// The time is before 1970 or after 9999.
    TimeRange,
    /// The time is ahead of the record's.
    FutureTime,
    /// A price or a value is negative, not finite or too large.
    InvalidAmount,
    /// The currency is not one of ISO 4217.
    UnknownCurrency,
    /// The currency is not that of the campaign.
    OtherCurrency,
    /// The price of a win is far above the bid.
    ImplausiblePrice,
    /// Nothing tells which decision it belongs to.
    NoKey,
    /// Its decision is known, but not which of its campaigns it is about.
    UnknownCampaign,
}

impl RejectReason {
    /// All reasons.
    pub const ALL: [Self; 16] = [
        Self::NullPayload,
        Self::TooLarge,
        Self::Malformed,
        Self::WrongType,
        Self::MissingId,
        Self::MissingType,
        Self::UnknownType,
        Self::MissingTime,
        Self::TimeRange,
        Self::FutureTime,
        Self::InvalidAmount,
        Self::UnknownCurrency,
        Self::OtherCurrency,
        Self::ImplausiblePrice,
        Self::NoKey,
        Self::UnknownCampaign,
    ];

    /// The reason as used in headers and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NullPayload => "null_payload",
            Self::TooLarge => "too_large",
            Self::Malformed => "malformed",
            Self::WrongType => "wrong_type",
            Self::MissingId => "missing_id",
            Self::MissingType => "missing_type",
            Self::UnknownType => "unknown_type",
            Self::MissingTime => "missing_time",
            Self::TimeRange => "time_range",
            Self::FutureTime => "future_time",
            Self::InvalidAmount => "invalid_amount",
            Self::UnknownCurrency => "unknown_currency",
            Self::OtherCurrency => "other_currency",
            Self::ImplausiblePrice => "implausible_price",
            Self::NoKey => "no_key",
            Self::UnknownCampaign => "unknown_campaign",
        }
    }
}

impl fmt::Display for RejectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A rejected outcome.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct Rejection {
    /// The kind of fault.
    pub reason: RejectReason,
    /// What is wrong, and what to do. It never quotes an id or a value.
    pub detail: String,
}

impl Rejection {
    /// A rejection for this reason.
    pub fn new(reason: RejectReason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}
