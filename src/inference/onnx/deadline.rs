//! The deadline of a model run: a thread that ends a run which takes too long.
//!
//! Guarantees: a run ends at the first node that begins after the deadline, at most a quarter of the limit late; a run that
//! was in time is never ended. Limits: one node that never returns cannot be ended, since ONNX Runtime looks between nodes.
//! A worker pays two uncontended locks a run; the thread wakes four times in a limit and is never woken.

use ort::session::RunOptions;
use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

/// The watch over the runs of one session.
pub(super) struct Deadline {
    limit: Duration,
    shared: Arc<Shared>,
}

struct Shared {
    options: RunOptions,
    /// When the run that is under way has to be over.
    due: Mutex<Option<Instant>>,
}

impl Deadline {
    /// Watches runs under these options.
    pub(super) fn new(limit: Duration) -> ort::Result<Self> {
        let shared = Arc::new(Shared { options: RunOptions::new()?, due: Mutex::new(None) });
        let watched = Arc::downgrade(&shared);
        let tick = (limit / 4).max(Duration::from_millis(1));
        // Without a thread the runs are not ended early; what they give too late is still refused.
        if let Err(error) = std::thread::Builder::new().name("deadline".to_owned()).spawn(move || watch(&watched, tick))
        {
            tracing::warn!(%error, "start the thread that ends late model runs");
        }
        Ok(Self { limit, shared })
    }

    pub(super) fn limit(&self) -> Duration {
        self.limit
    }

    /// Runs `run`, and says whether it was over in time.
    pub(super) fn guard<T>(&self, run: impl FnOnce(&RunOptions) -> T) -> (T, bool) {
        let due = Instant::now() + self.limit;
        *self.shared.due.lock().unwrap_or_else(PoisonError::into_inner) = Some(due);
        let outcome = run(&self.shared.options);
        let mut held = self.shared.due.lock().unwrap_or_else(PoisonError::into_inner);
        let is_in_time = Instant::now() <= due;
        if held.take().is_none()
            && let Err(error) = self.shared.options.unterminate()
        {
            tracing::error!(%error, "let the model run again after a run was ended");
        }
        (outcome, is_in_time)
    }
}

/// Ends runs that are over their time, until the session is gone.
fn watch(watched: &Weak<Shared>, tick: Duration) {
    loop {
        std::thread::sleep(tick);
        let Some(shared) = watched.upgrade() else { return };
        let mut due = shared.due.lock().unwrap_or_else(PoisonError::into_inner);
        if due.is_some_and(|due| Instant::now() > due) {
            *due = None;
            if let Err(error) = shared.options.terminate() {
                tracing::error!(%error, "end a model run that is over its deadline");
            }
        }
    }
}
