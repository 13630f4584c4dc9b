//! The role `serve`: from the topic of decisions to answers over HTTP and gRPC.
//!
//! ```text
//! decisions ─► follower ─► Store ◄── answerers ◄─► bidders
//!                 ▲
//!            ends of the topic
//! ```
//!
//! Owns the life of the process. What is kept and what is answered is in [`crate::serve`].
//!
//! Guarantees:
//! - **Committed decisions only**, all partitions, from the start of the topic on. No group is joined and nothing is
//!   committed, so any number of processes may serve the same topic. With `serve.partitions = "assigned"`, a group shares the
//!   partitions, and a user of another process is answered with its address.
//! - **Ready means complete**: until everything has been read that was in the topic at the start, the process is not ready.
//! - **Without brokers it answers on**, says how stale it is, and after `serve.stale_max` it is not ready any more.
//! - **A topic that was made anew** is read anew: nothing of the old one is answered.
//! - **No queue that grows**: more connections or bodies than configured are told to come back later.

mod batch;
mod body;
mod connections;
mod figures;
mod follow;
mod grpc;
mod look;
mod negotiate;
mod owners;
mod paced;
mod routes;
mod run;
mod settings;
mod share;
mod snapshot;
#[cfg(test)]
mod tests;
mod tls;
mod tokens;

pub(crate) use run::run_serve;

use crate::source::SourceError;
use std::time::Duration;

/// Why serve ends.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    /// The topic cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The group refuses this process.
    #[error(transparent)]
    Member(SourceError),
    /// The loop that reads hangs.
    #[error("serve has not run its loop for {}", crate::duration::display(*.0))]
    Stalled(Duration),
    /// A thread did not end in time.
    #[error("serve has not stopped within {}", crate::duration::display(*.0))]
    Deadline(Duration),
    /// A thread has panicked.
    #[error("the thread {0} of serve has ended with a panic")]
    Broken(String),
}
