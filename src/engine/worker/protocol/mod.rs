//! Decides what a worker does next, without I/O: each part is told what happened and returns what to do.
//!
//! Nothing here talks to Kafka or the disk, reads a clock, logs, or updates a metric. Times are passed as durations
//! since a fixed moment. The worker ([`super::Worker`]) makes the calls and reports their results.

mod assignment;
mod contact;
mod profile_writes;
mod recovery;
mod retry;
mod snapshot_schedule;
mod stall;
mod tick_schedule;
mod transaction;

pub(crate) use assignment::{Assignment, FencedAction};
pub(crate) use contact::ContactWatch;
pub(crate) use profile_writes::{PROFILES_PER_COMMIT, ProfileWrites};
pub(crate) use recovery::{Finding, PositionBeyondEnd, Recovery, RestoreVerdict, StartPlan};
pub(crate) use retry::Retry;
pub(crate) use snapshot_schedule::SnapshotSchedule;
pub(crate) use stall::{StallAction, StallWatch};
pub(crate) use tick_schedule::{GRACE, TickSchedule};
pub(crate) use transaction::{Failure, InFlight, RecoveryAction, Transaction};
