//! What a worker does next, decided without I/O: each part is handed what happened and answers with what to do.
//!
//! Nothing here speaks to Kafka, the disk or a clock, logs, or counts a metric. Times are handed in as durations since some
//! fixed moment. The worker around it ([`super::Worker`]) makes the calls and reports their results back.

mod assignment;
mod profile_writes;
mod recovery;
mod retry;
mod snapshot_schedule;
mod stall;
mod tick_schedule;
mod transaction;

pub(crate) use assignment::{Assignment, FencedAction};
pub(crate) use profile_writes::{PROFILES_PER_COMMIT, ProfileWrites};
pub(crate) use recovery::{Finding, PositionBeyondEnd, Recovery, RestoreVerdict, StartPlan};
pub(crate) use retry::Retry;
pub(crate) use snapshot_schedule::SnapshotSchedule;
pub(crate) use stall::{StallAction, StallWatch};
pub(crate) use tick_schedule::{GRACE, TickSchedule};
pub(crate) use transaction::{Failure, InFlight, RecoveryAction, Transaction};
