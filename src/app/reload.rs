//! Reloading the configuration of a running process.
//!
//! Guarantees: a configuration is applied completely or not at all; whatever the file contains, the process continues;
//! only one reload runs at a time.

use super::{Setup, start::filter, workers::PipelineUpdates};
use crate::{logging::Logs, metrics, panics::words_of_panic, secret::scrub, telemetry::admin::AdminState};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

/// Reloads the configuration, on SIGHUP and on `POST /reload`.
pub(super) struct Reloader {
    pub(super) path: Option<PathBuf>,
    pub(super) sets: Vec<String>,
    /// The current configuration, and the channels to the workers.
    pub(super) running: Mutex<(Setup, PipelineUpdates)>,
    pub(super) state: Arc<AdminState>,
    pub(super) logs: Arc<Logs>,
    /// The log filter if the configuration has none; `None` if the command line or the environment sets it.
    pub(super) default_filter: Option<String>,
}

impl Reloader {
    /// Applies the current configuration; returns the number of its segments. The outcome is logged and counted.
    ///
    /// # Errors
    /// Everything that is wrong with it, as a message without secrets. Nothing has changed then.
    pub(super) fn reload(&self) -> Result<usize, String> {
        // A panic while the file is read must not end the process.
        let outcome = catch_unwind(AssertUnwindSafe(|| self.apply())).unwrap_or_else(|panic| {
            Err(anyhow::anyhow!("this is a bug of Aimpoint, please report it: {}", words_of_panic(&*panic)))
        });
        metrics::reloaded(outcome.is_ok());
        match outcome {
            Ok(segments) => {
                tracing::info!(segments, "configuration reloaded");
                Ok(segments)
            }
            Err(error) => {
                let error = scrub(format!("{error:#}").trim_end()).into_owned();
                tracing::error!("reload refused, the old configuration stays: {error}");
                Err(error)
            }
        }
    }

    fn apply(&self) -> anyhow::Result<usize> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let (old, updates) = &mut *running;
        // A pipe has been read to its end, and reading it again would block.
        let pipe = self.path.as_deref().filter(|path| path.exists() && !path.is_file());
        if let Some(path) = pipe {
            anyhow::bail!("reload {}: only a regular file can be read twice", path.display());
        }
        let new = Setup::read(self.path.as_deref(), &self.sets)?;
        let changed = old.config.needs_restart(&new.config);
        anyhow::ensure!(changed.is_empty(), "restart for what has changed in {}", changed.join(", "));
        // Only the pipelines can fail now, because the filter was already checked; so they come first.
        updates.send(&new)?;
        if let Some(default) = &self.default_filter
            && let Err(error) = self.logs.set_if_changed(filter(&new, default))
        {
            tracing::error!(error, "the log filter could not be changed");
        }
        self.state.set_config(new.config.shown());
        let segments = new.config.pipeline.segments.len();
        *old = new;
        Ok(segments)
    }
}
