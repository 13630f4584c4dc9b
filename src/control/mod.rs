//! Control: from outcomes to a policy, without Kafka, a clock or threads.
//!
//! ```text
//! outcomes ──► outcome ─┐
//!                       ├─► join ─► ledger ─► pacing, win rates, posteriors ─► policy
//! decisions ─► decision ┘                                                              ▲
//! audiences ─► audience ───────────────────────────────────────────────────────────────┘
//! ```
//!
//! A driver reads these topics, calls [`State::apply_outcome`], [`State::apply_decision`] and
//! [`State::apply_audiences`], and once per policy interval [`State::tick`]. It then writes the policy and [`State::dirty`] in one transaction, and calls
//! [`State::mark_clean`] when the transaction is committed. If the outcome of the transaction is unknown, it drops the
//! state and restores it from the compacted topic. A standby follows that topic with a [`Follower`], so that it can take
//! over at once. Positions to read from are in the state ([`State::position`]).
//!
//! [`Board`] is what people see of it.
//!
//! Owns everything that is global: spend, pacing, what creatives have earned, audience sizes. See [`State`] for what is
//! guaranteed and what is bounded.

mod audience;
mod board;
mod decision;
mod join;
mod key;
mod ledger;
mod outcome;
#[cfg(test)]
mod simulation;
mod spec;
mod state;

pub use audience::{AudienceReport, SegmentSize};
pub use board::{Board, Following};
pub use decision::{
    CONTROL_VARIANT, DecisionRecord, Details, Offer, OfferDetails, OfferedDecision, SkipReason, Skipped,
};
pub use join::offer_key;
pub use key::{Key, KeyMap};
pub use ledger::{CampaignSetup, Figures, QualityOf};
pub use outcome::{ID_BYTES_MAX, Outcome, OutcomeType, PAYLOAD_BYTES_MAX, RejectReason, Rejection};
pub(crate) use spec::micros;
pub use spec::{AttributionSpec, ControlSpec, LearningSpec};
pub use state::{Counts, Disposition, Effects, Follower, PARKED_MAX, Record, RestoreError, Settled, Source, State};
