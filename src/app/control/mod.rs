//! The role `control`: from outcomes to a policy, with a leader and standbys.
//!
//! ```text
//! decisions ─► ┐                      ┌─► <app>-control (compacted) ─► standbys
//!              ├─► leader ─► State ─► ┤
//! outcomes ──► ┘                      ├─► <app>-policy (compacted) ─► workers
//!                                     └─► dead letters
//! ```
//!
//! Owns the life of the process. The rules are in [`crate::control`].
//!
//! Guarantees:
//! - **One leader.** A consumer group gives the only partition of the state topic to one process. What protects the
//!   state is not the group but the transactional id: a new leader fences it *before* it reads the state to its end, so
//!   a leader that was deposed without knowing can write nothing afterwards.
//! - **Once.** State, policy, positions and dead letters are written in one transaction. Whoever restores the state
//!   continues at its positions.
//! - **Standby.** All other processes follow the state topic, and take over within 15 s when the leader dies.
//! - **No silent stall.** A leader that commits nothing for `engine.stall_after`, or a loop that hangs, ends the process.

mod figures;
mod intake;
mod lead;
mod leader;
mod once;
mod page;
mod ports;
mod replay;
mod run;
mod settings;
mod standby;
mod summary;
#[cfg(test)]
mod tests;

pub(crate) use once::{ControlSummary, FileRecord, Offline};
pub(crate) use replay::ReplayedControl;
pub(crate) use run::run_control;
pub(crate) use settings::campaigns;
pub(crate) use summary::summary;

use crate::{control::RestoreError, sink::SinkError, source::SourceError};
use intake::Input;
use settings::Settings;
use std::time::Duration;

/// Why control ends.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControlError {
    /// A topic cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A topic cannot be written.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// The state cannot be restored.
    #[error("restore control's state from {topic}: {error}")]
    Restore {
        /// The topic of the state.
        topic: String,
        /// Why.
        error: RestoreError,
    },
    /// Another process leads now. It does not end the process.
    #[error("{0}")]
    Deposed(String),
    /// The leader has committed nothing for a long time, or its loop hangs.
    #[error("control has {what} for {}", crate::duration::display(*.time))]
    Stalled {
        /// What it has not done.
        what: &'static str,
        /// For how long.
        time: Duration,
    },
    /// The loop did not end in time.
    #[error("control has not stopped within {}", crate::duration::display(*.0))]
    Deadline(Duration),
    /// Its thread has panicked.
    #[error("the thread of control has ended with a panic")]
    Broken,
}
