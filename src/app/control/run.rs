//! The life of a process of control: starts its loop, watches it, and stops it on a signal.
//!
//! Guarantees: SIGTERM and SIGINT make a leader write what it has read, and leave the group, so that a standby takes over
//! at once. SIGHUP reads the configuration again and takes its campaigns; everything else needs a restart.

use super::{ControlError, Settings, campaigns, figures::Figures, lead::Control};
use crate::{
    app::{
        Instance, Setup, serve_admin,
        start::{Started, start},
        topics,
    },
    config::Config,
    control::CampaignSetup,
    logging::Logs,
    metrics,
    secret::scrub,
    status::RoleStatus,
};
use anyhow::Context;
use crossbeam_channel::Sender;
use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

/// How often the loop is looked at.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);

/// Runs until a signal asks it to stop. `is_log_set`: the command line or the environment has set the log filter.
pub(crate) fn run_control(
    path: Option<&Path>,
    sets: &[String],
    logs: &Arc<Logs>,
    is_log_set: bool,
) -> anyhow::Result<()> {
    let Started { setup, stop_requested: stop, reload_requested, .. } =
        start(path, sets, (logs, is_log_set), Config::control_faults)?;
    let campaigns = campaigns(&setup)?;
    topics::check_for_control(&setup.config)?;
    let instance = Instance::claim(&setup.config)?;
    let status = RoleStatus::default();
    let (state, _) = serve_admin(&setup.config, &instance, Some(Arc::clone(logs)), Some(status.clone()))?;
    Figures::stands_by();
    let (updates, receiver) = crossbeam_channel::unbounded();
    let otlp = setup.start_otlp(&instance, &state, &[])?;
    let settings = Settings::of(&setup.config, &instance);
    let stall_after = setup.config.engine.stall_after;
    tracing::info!(
        app = setup.config.app.name,
        brokers = setup.config.kafka.brokers,
        campaigns = campaigns.len(),
        "started"
    );
    let control = Control {
        settings,
        campaigns,
        updates: receiver,
        status: status.clone(),
        stop: Arc::clone(&stop),
        started: Instant::now(),
    };
    let deadline = setup.config.engine.shutdown_deadline;
    let (path, sets) = (path.map(Path::to_owned), sets.to_vec());
    let reloader = Arc::new(Reloader { path, sets, running: Mutex::new(setup), updates });
    let on_call = Arc::clone(&reloader);
    state.set_reload(Arc::new(move || {
        let campaigns = on_call.reload()?;
        Ok(format!("{campaigns} campaigns, from the next policy"))
    }));
    let thread = std::thread::Builder::new().name("control".to_owned());
    let thread = thread.spawn(move || control.run()).context("start the thread of control")?;
    let mut stopping_since: Option<Instant> = None;
    while !thread.is_finished() {
        std::thread::sleep(WATCH_INTERVAL);
        if reload_requested.swap(false, Ordering::Relaxed) {
            // The outcome is logged and counted.
            reloader.reload().map(drop).unwrap_or_default();
        }
        let silent = status.health().silent_for();
        if silent > stall_after {
            return Err(ControlError::Stalled { what: "not run its loop", time: silent }.into());
        }
        if stop.load(Ordering::Relaxed) {
            let since = *stopping_since.get_or_insert_with(|| {
                tracing::info!("stopping");
                state.set_stopping();
                Instant::now()
            });
            if since.elapsed() > deadline {
                return Err(ControlError::Deadline(deadline).into());
            }
        }
    }
    thread.join().unwrap_or(Err(ControlError::Broken))?;
    if let Some(otlp) = otlp {
        otlp.finish();
    }
    Ok(())
}

/// Reads the configuration again.
struct Reloader {
    path: Option<PathBuf>,
    sets: Vec<String>,
    running: Mutex<Setup>,
    updates: Sender<Vec<CampaignSetup>>,
}

impl Reloader {
    /// Applies the current configuration, on SIGHUP and on `POST /reload`; returns the number of its campaigns.
    fn reload(&self) -> Result<usize, String> {
        let outcome = self.apply();
        metrics::reloaded(outcome.is_ok());
        match outcome {
            Ok(campaigns) => {
                tracing::info!(campaigns, "configuration reloaded");
                Ok(campaigns)
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
        let new = Setup::read(self.path.as_deref(), &self.sets)?;
        let changed = running.config.needs_restart(&new.config);
        anyhow::ensure!(changed.is_empty(), "restart for what has changed in {}", changed.join(", "));
        let campaigns = campaigns(&new)?;
        let count = campaigns.len();
        // The loop has ended if nobody receives.
        self.updates.send(campaigns).unwrap_or_default();
        *running = new;
        Ok(count)
    }
}
