//! The state of a worker as plain data for other threads: counts, health, partitions, recent decisions, traces.
//!
//! A worker writes its own [`Progress`] once per commit and a few times per second. The admin server, the metrics and
//! the log read copies. Nothing here makes decisions, and no user's key is stored here, only its hash.

mod counts;
mod detail;
mod health;
mod partition;
mod progress;
mod role;
mod trace;
mod view;

pub use counts::{Beside, Counts, SuppressReason};
pub use detail::{Detail, RecentDecision, Stage, StageTimes};
pub use health::{Health, Restoring};
pub use partition::{PartitionView, Phase};
pub use progress::Progress;
pub use role::{RoleName, RolePhase, RoleStatus};
pub use trace::{Trace, TraceParent};
pub use view::{ClientReport, Latency, Recent, SegmentCounts, View, WorkerEvent, WorkerHealth, WorkerStatus};
