//! `aimpoint run`: consumes events and writes decisions until told to stop.
//!
//! Guarantees: SIGTERM and SIGINT make every worker commit what it has open and leave the group, within
//! `engine.shutdown_deadline`; a second signal ends the process at once, which loses nothing either.

use super::{ConfigArgs, setup::Setup, topics};
use crate::engine::{Fleet, Stop};
use anyhow::Context;
use clap::Args;
use metrics_exporter_prometheus::PrometheusBuilder;
use signal_hook::consts::{SIGINT, SIGTERM};
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
    /// Serve metrics for Prometheus at this address, such as 127.0.0.1:9464
    #[arg(long, value_name = "ADDRESS")]
    metrics: Option<SocketAddr>,
}

pub(super) fn run(args: &RunArgs) -> anyhow::Result<()> {
    let setup = Setup::read(&args.config)?;
    let told = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // The second signal finds the flag set. Both are registered in this order on purpose.
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&told))?;
        signal_hook::flag::register(signal, Arc::clone(&told))?;
    }
    topics::check_for_run(&setup.config)?;
    if let Some(address) = args.metrics {
        PrometheusBuilder::new()
            .with_http_listener(address)
            .install()
            .with_context(|| format!("serve metrics at {address}"))?;
    }
    let (workers, accounts) = setup.workers()?;
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
    let counts = fleet.counts();
    fleet.join(setup.config.engine.shutdown_deadline)?;
    tracing::info!(events = counts.events, decisions = counts.decisions, "stopped");
    Ok(())
}
