//! The life of a process: starts the workers, watches them, and stops them on a signal.
//!
//! Guarantees: SIGHUP, or `POST /reload` with the token, reloads the configuration: segments and the log filter are applied between
//! transactions, all of them or nothing. SIGTERM and SIGINT make every worker commit what it has open and leave the group, within
//! `engine.shutdown_deadline`; a second signal ends the process at once, which loses nothing either.

use super::{
    Instance, WorkerSet,
    audiences::{self, Audiences, AudiencesTopic},
    erase::ask_for_one,
    namesakes, neighbours,
    reload::Reloader,
    serve_admin,
    start::{Started, start},
    topics,
    topics_watch::TopicsWatch,
};
use crate::{
    config::Config,
    engine::{Fleet, Stop},
    event::NotNormal,
    logging::Logs,
    secret::scrub,
    status::{Counts, Progress},
    telemetry::admin::EraseFault,
};
use anyhow::Context;
use std::{
    path::Path,
    sync::{Arc, Mutex, atomic::Ordering},
    time::{Duration, Instant},
};

/// How often the counts are logged.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// Runs until a signal asks it to stop. The configuration may set the log filter unless the command line or the environment
/// has (`is_log_set`).
pub(crate) fn run(path: Option<&Path>, sets: &[String], logs: &Arc<Logs>, is_log_set: bool) -> anyhow::Result<()> {
    let Started { setup, stop_requested, reload_requested, default_filter } =
        start(path, sets, (logs, is_log_set), |_| Vec::new())?;
    topics::check(&setup.config)?;
    warn_of_neighbours(&setup.config)?;
    let instance = Instance::claim(&setup.config)?;
    let (state, _) = serve_admin(&setup.config, &instance, Some(Arc::clone(logs)), None)?;
    if !namesakes::await_none(&setup.config, &instance, &stop_requested)? {
        return Ok(());
    }
    let WorkerSet { workers, progress, updates } = setup.workers(&instance)?;
    state.set_workers(&progress);
    let otlp = setup.start_otlp(&instance, &state, &progress)?;
    tracing::info!(
        group = setup.config.group(),
        brokers = setup.config.kafka.brokers,
        workers = workers.len(),
        delivery = ?setup.config.commit.delivery,
        "started"
    );
    let config = setup.config.clone();
    let mut fleet =
        Fleet::start(workers, progress, Stop::default(), config.engine.stall_after).context("start the workers")?;
    let reloader = Arc::new(Reloader {
        path: path.map(Path::to_owned),
        sets: sets.to_vec(),
        running: Mutex::new((setup, updates)),
        state: Arc::clone(&state),
        logs: Arc::clone(logs),
        default_filter,
    });
    let weak = Arc::downgrade(&reloader);
    state.set_reload(Arc::new(move || {
        let reloader = weak.upgrade().ok_or("the process is stopping")?;
        let segments = reloader.reload()?;
        Ok(format!("{segments} segments, from the next transaction of each worker"))
    }));
    let _audiences = report_audiences(&config, fleet.progress())?;
    let erasing = config.clone();
    state.set_erase(Arc::new(move |key_type, id| {
        ask_for_one(&erasing, key_type, id).map_err(|error| EraseFault {
            is_id_unfit: error.is::<NotNormal>(),
            why: scrub(&format!("{error:#}")).into_owned(),
        })
    }));
    let watch = TopicsWatch::start(&config, &state)?;
    let mut reported = (Instant::now(), 0);
    while !stop_requested.load(Ordering::Relaxed) {
        if fleet.wait(Duration::from_millis(100))? {
            break;
        }
        if let Some(unfit) = watch.fatal() {
            return Err(unfit.into());
        }
        if reload_requested.swap(false, Ordering::Relaxed) {
            // The outcome is logged and counted.
            reloader.reload().map(drop).unwrap_or_default();
        }
        if reported.0.elapsed() >= REPORT_INTERVAL {
            let counts = fleet.counts();
            let rate = (counts.events - reported.1) as f64 / reported.0.elapsed().as_secs_f64();
            reported = (Instant::now(), counts.events);
            log_counts("so far", &counts, Some(rate.round() as u64));
        }
    }
    tracing::info!("stopping");
    state.set_stopping();
    let progress = fleet.progress().to_vec();
    fleet.join(config.engine.shutdown_deadline)?;
    if let Some(otlp) = otlp {
        otlp.finish();
    }
    // Workers make their last commits while they stop.
    let counts = Counts::of(&progress);
    log_counts("stopped", &counts, None);
    Ok(())
}

/// Reports the sizes of audiences, if there is a control that reads them.
fn report_audiences(config: &Config, workers: &[Progress]) -> anyhow::Result<Option<Audiences>> {
    if !config.needs_control() {
        return Ok(None);
    }
    let topic = AudiencesTopic {
        brokers: config.kafka.brokers.clone(),
        client: config.kafka.producer_settings(),
        topic: config.audiences_topic(),
        app: config.app.name.clone(),
    };
    audiences::report(topic, workers.to_vec()).map(Some)
}

/// Logs the committed counts, and the rate if it is known.
fn log_counts(message: &str, counts: &Counts, events_per_second: Option<u64>) {
    tracing::info!(
        events = counts.events,
        events_per_second,
        decisions = counts.decisions,
        fallbacks = counts.fallbacks,
        duplicates = counts.duplicates,
        suppressed = counts.suppressed_total(),
        dead_letters = counts.dead_letters_total(),
        replayed = counts.beside.replayed,
        "{message}"
    );
}

/// Warns in the background of other applications that write to the same topics.
fn warn_of_neighbours(config: &Config) -> std::io::Result<()> {
    let config = config.clone();
    let find = move || match neighbours::find(&config) {
        Ok(found) => found.iter().for_each(|it| tracing::warn!("{}", it.message(&config))),
        Err(error) => tracing::debug!(%error, "look for other applications in the topics of outputs"),
    };
    std::thread::Builder::new().name("neighbours".to_owned()).spawn(find).map(drop)
}
