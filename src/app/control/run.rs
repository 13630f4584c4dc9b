//! The life of a process of control: starts its loop, watches it, and stops it on a signal.
//!
//! Guarantees: SIGTERM and SIGINT make a leader write what it has read, and leave the group, so that a standby takes over
//! at once. SIGHUP reads the configuration again and takes its campaigns; everything else needs a restart.

use super::{ControlError, Settings, campaigns, figures::Figures, lead::Control};
use crate::{
    app::{
        Instance, Setup, check_name, dumps,
        run::{filter, stop_flag},
        serve_admin, topics,
    },
    config::ConfigLoadError,
    control::CampaignSetup,
    logging::Logs,
    metrics,
    secret::scrub,
    status::RoleStatus,
};
use anyhow::Context;
use crossbeam_channel::Sender;
use signal_hook::consts::SIGHUP;
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
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
    // Register SIGHUP first: without a handler it would end the process.
    let reload_requested = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(SIGHUP, Arc::clone(&reload_requested))?;
    let setup = Setup::read(path, sets)?;
    dumps::leave_out_memory(&setup.config);
    if !is_log_set {
        logs.set_if_changed(filter(&setup, &logs.filter())).map_err(anyhow::Error::msg)?;
    }
    let errors = setup.config.control_faults();
    if !errors.is_empty() {
        return Err(ConfigLoadError::Invalid(setup.document.explain(&errors)).into());
    }
    if let Some(error) = check_name(&setup.config) {
        return Err(ConfigLoadError::Invalid(setup.document.explain(&[error])).into());
    }
    let campaigns = campaigns(&setup)?;
    let stop = stop_flag()?;
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
    let mut reloader = Reloader { path: path.map(Path::to_owned), sets: sets.to_vec(), running: setup, updates };
    let thread = std::thread::Builder::new().name("control".to_owned());
    let thread = thread.spawn(move || control.run()).context("start the thread of control")?;
    let mut stopping_since: Option<Instant> = None;
    while !thread.is_finished() {
        std::thread::sleep(WATCH_INTERVAL);
        if reload_requested.swap(false, Ordering::Relaxed) {
            reloader.reload();
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
    running: Setup,
    updates: Sender<Vec<CampaignSetup>>,
}

impl Reloader {
    fn reload(&mut self) {
        let outcome = self.apply();
        metrics::reloaded(outcome.is_ok());
        match outcome {
            Ok(campaigns) => tracing::info!(campaigns, "configuration reloaded"),
            Err(error) => {
                let error = scrub(format!("{error:#}").trim_end()).into_owned();
                tracing::error!("reload refused, the old configuration stays: {error}");
            }
        }
    }

    fn apply(&mut self) -> anyhow::Result<usize> {
        let new = Setup::read(self.path.as_deref(), &self.sets)?;
        let changed = self.running.config.needs_restart(&new.config);
        anyhow::ensure!(changed.is_empty(), "restart for what has changed in {}", changed.join(", "));
        let campaigns = campaigns(&new)?;
        let count = campaigns.len();
        // The loop has ended if nobody receives.
        self.updates.send(campaigns).unwrap_or_default();
        self.running = new;
        Ok(count)
    }
}
