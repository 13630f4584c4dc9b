//! `aimpoint run`: consumes events and writes decisions until told to stop.
//!
//! Guarantees: SIGHUP has the configuration read again: segments and the logs'
//! filter are taken between transactions if all of it can be used, and else nothing. SIGTERM and SIGINT make every worker commit what it has open and leave the group, within
//! `engine.shutdown_deadline`; a second signal ends the process at once, which loses nothing either.

use super::{
    ConfigArgs,
    setup::{Crew, Setup, Swaps, publish, told},
    topics,
};
use crate::{
    engine::{Fleet, Stop},
    telemetry::{admin::Board, logs::Logs, metrics},
};
use anyhow::Context;
use clap::Args;
use signal_hook::consts::SIGHUP;
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// How often the account is logged.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// Consume events and write decisions until told to stop
#[derive(Args, Clone, Debug)]
pub(super) struct RunArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Serve health, metrics and the live page at this address; the same as --set admin.address=ADDRESS
    #[arg(long, alias = "metrics", value_name = "ADDRESS")]
    admin: Option<SocketAddr>,
}

/// Runs until told to stop. `logs` may be set by the configuration where neither the flag nor the variable did.
pub(super) fn run(args: &RunArgs, logs: &Arc<Logs>, is_log_set: bool) -> anyhow::Result<()> {
    let mut config = args.config.clone();
    config.sets.extend(args.admin.map(|address| format!("admin.address=\"{address}\"")));
    let mut setup = Setup::read(&config)?;
    let filter = (!is_log_set).then(|| logs.filter());
    set_filter(&setup, logs, filter.as_deref())?;
    let told = told()?;
    let again = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(SIGHUP, Arc::clone(&again))?;
    topics::check_for_run(&setup.config)?;
    let (board, _) = publish(&setup.config, Some(Arc::clone(logs)))?;
    let Crew { workers, accounts, swaps } = setup.crew()?;
    board.workers(&accounts);
    let otlp = setup.otlp(&board, &accounts)?;
    tracing::info!(
        group = setup.config.group(),
        brokers = setup.config.kafka.brokers,
        workers = workers.len(),
        delivery = ?setup.config.commit.delivery,
        "started"
    );
    let mut fleet = Fleet::start(workers, accounts, Stop::default(), setup.config.engine.stall_after)
        .context("start the workers")?;
    let mut reported = (Instant::now(), 0);
    while !told.load(Ordering::Relaxed) {
        if fleet.wait(Duration::from_millis(100))? {
            break;
        }
        if again.swap(false, Ordering::Relaxed) {
            match reload(&config, &setup, &swaps, &board) {
                Ok(taken) => {
                    setup = taken;
                    set_filter(&setup, logs, filter.as_deref())?;
                    metrics::reloaded(true);
                    tracing::info!(segments = setup.config.pipeline.segments.len(), "the configuration was read again");
                }
                Err(error) => {
                    metrics::reloaded(false);
                    tracing::error!("the configuration was read again and refused, the old one stays: {error:#}");
                }
            }
        }
        if reported.0.elapsed() >= REPORT_INTERVAL {
            let counts = fleet.counts();
            let rate = (counts.events - reported.1) as f64 / reported.0.elapsed().as_secs_f64();
            reported = (Instant::now(), counts.events);
            tracing::info!(
                events = counts.events,
                events_per_second = rate.round() as u64,
                decisions = counts.decisions,
                fallbacks = counts.fallbacks,
                duplicates = counts.duplicates,
                suppressed = counts.suppressed_total(),
                dead_letters = counts.dead_letters_total(),
                replayed = counts.replayed,
                "so far"
            );
        }
    }
    tracing::info!("stopping");
    board.stopping();
    let counts = fleet.counts();
    fleet.join(setup.config.engine.shutdown_deadline)?;
    if let Some(otlp) = otlp {
        otlp.finish();
    }
    tracing::info!(events = counts.events, decisions = counts.decisions, "stopped");
    Ok(())
}

/// Logs as the configuration says, or as before where it says nothing.
fn set_filter(setup: &Setup, logs: &Logs, usual: Option<&str>) -> anyhow::Result<()> {
    let Some(usual) = usual else { return Ok(()) };
    let filter = setup.config.log.filter.as_deref().unwrap_or(usual);
    if filter == logs.filter() { Ok(()) } else { logs.set(filter).map_err(anyhow::Error::msg) }
}

/// Reads the configuration again and hands what may change to the workers.
fn reload(config: &ConfigArgs, old: &Setup, swaps: &Swaps, board: &Board) -> anyhow::Result<Setup> {
    let new = Setup::read(config)?;
    let others = old.config.needs_restart(&new.config);
    anyhow::ensure!(others.is_empty(), "restart for what has changed in {}", others.join(", "));
    swaps.swap(&new)?;
    board.config(new.config.shown());
    Ok(new)
}
