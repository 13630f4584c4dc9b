//! The deadline of a model run: a thread terminates runs that take too long.
//!
//! Guarantees: a run is terminated before the first node that starts after the deadline, at most a quarter of the limit late; a run
//! that is in time is never terminated. Limits: a node that never returns cannot be terminated, because ONNX Runtime checks only
//! between nodes. A run costs the worker two uncontended locks; the thread polls four times per limit.

use ort::session::RunOptions;
use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

/// Enforces the deadline of a session's runs.
pub(super) struct Deadline {
    limit: Duration,
    shared: Arc<Shared>,
}

struct Shared {
    options: RunOptions,
    /// When the current run has to be done.
    due: Mutex<Option<Instant>>,
}

impl Deadline {
    /// Starts the thread that enforces this limit.
    pub(super) fn new(limit: Duration) -> ort::Result<Self> {
        let shared = Arc::new(Shared { options: RunOptions::new()?, due: Mutex::new(None) });
        let watched = Arc::downgrade(&shared);
        let tick = (limit / 4).max(Duration::from_millis(1));
        // Without the thread, runs are not terminated early, but late scores are still dropped.
        if let Err(error) =
            std::thread::Builder::new().name("deadline".to_owned()).spawn(move || enforce(&watched, tick))
        {
            tracing::warn!(%error, "the thread that terminates late model runs cannot be started");
        }
        Ok(Self { limit, shared })
    }

    pub(super) fn limit(&self) -> Duration {
        self.limit
    }

    /// Calls `run`, and returns whether it finished in time.
    pub(super) fn guard<T>(&self, run: impl FnOnce(&RunOptions) -> T) -> (T, bool) {
        let due = Instant::now() + self.limit;
        *self.shared.due.lock().unwrap_or_else(PoisonError::into_inner) = Some(due);
        let outcome = run(&self.shared.options);
        let mut held = self.shared.due.lock().unwrap_or_else(PoisonError::into_inner);
        let is_in_time = Instant::now() <= due;
        if held.take().is_none()
            && let Err(error) = self.shared.options.unterminate()
        {
            tracing::error!(%error, "resetting the run options after a terminated model run failed");
        }
        (outcome, is_in_time)
    }
}

/// Terminates late runs until the session is dropped.
fn enforce(watched: &Weak<Shared>, tick: Duration) {
    loop {
        std::thread::sleep(tick);
        let Some(shared) = watched.upgrade() else { return };
        let mut due = shared.due.lock().unwrap_or_else(PoisonError::into_inner);
        if due.is_some_and(|due| Instant::now() > due) {
            *due = None;
            if let Err(error) = shared.options.terminate() {
                tracing::error!(%error, "terminating a model run after its deadline failed");
            }
        }
    }
}
