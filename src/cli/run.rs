//! `aimpoint run`: consumes events and writes decisions until told to stop.
//!
//! Guarantees: SIGHUP, or `POST /reload` with the token, has the configuration read again: segments and the logs'
//! filter are taken between transactions if all of it can be used, and else nothing. SIGTERM and SIGINT make every worker commit what it has open and leave the group, within
//! `engine.shutdown_deadline`; a second signal ends the process at once, which loses nothing either.

use super::{
    ConfigArgs, neighbours,
    setup::{Crew, Setup, Swaps, publish, told},
    slot::{self, Place},
    topics,
    topics_watch::TopicsWatch,
};
use crate::{
    config::{Config, ConfigError},
    engine::{Counts, Fleet, Stop},
    fault::words_of_panic,
    secret::scrub,
    telemetry::{admin::Board, logs::Logs, metrics},
};
use anyhow::Context;
use clap::Args;
use signal_hook::consts::SIGHUP;
use std::{
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
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
    // Before anything else: until there is a handler the signal ends the process.
    let again = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(SIGHUP, Arc::clone(&again))?;
    let mut args = args.clone();
    args.config.sets.extend(args.admin.map(|address| format!("admin.address={address}")));
    let setup = Setup::read(&args.config)?;
    let usual = (!is_log_set).then(|| logs.filter());
    if let Some(usual) = &usual {
        logs.set_if_other(filter(&setup, usual)).map_err(anyhow::Error::msg)?;
    }
    if let Some(fault) = slot::check(&setup.config) {
        return Err(ConfigError::Faulty(setup.document.explain(&[fault])).into());
    }
    let told = told()?;
    topics::check_for_run(&setup.config)?;
    tell_of_neighbours(&setup.config)?;
    let place = Place::take(&setup.config)?;
    let (board, _) = publish(&setup.config, &place, Some(Arc::clone(logs)))?;
    let Crew { workers, accounts, swaps } = setup.crew(&place)?;
    board.workers(&accounts);
    let otlp = setup.otlp(&place, &board, &accounts)?;
    tracing::info!(
        group = setup.config.group(),
        brokers = setup.config.kafka.brokers,
        workers = workers.len(),
        delivery = ?setup.config.commit.delivery,
        "started"
    );
    let (deadline, setup_config) = (setup.config.engine.shutdown_deadline, setup.config.clone());
    let mut fleet = Fleet::start(workers, accounts, Stop::default(), setup.config.engine.stall_after)
        .context("start the workers")?;
    let reloader = Arc::new(Reloader {
        args: args.config,
        swaps: Mutex::new((setup, swaps)),
        board: Arc::clone(&board),
        logs: Arc::clone(logs),
        usual,
    });
    let asked = Arc::downgrade(&reloader);
    board.reloads(Arc::new(move || {
        asked.upgrade().map_or_else(|| Err("the process is stopping".to_owned()), |reloader| reloader.reload())
    }));
    let watch = TopicsWatch::start(&setup_config, &board)?;
    let mut reported = (Instant::now(), 0);
    while !told.load(Ordering::Relaxed) {
        if fleet.wait(Duration::from_millis(100))? {
            break;
        }
        if let Some(unfit) = watch.fatal() {
            return Err(unfit.into());
        }
        if again.swap(false, Ordering::Relaxed) {
            // What came of it is logged and counted.
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
    board.stopping();
    let accounts = fleet.progress().to_vec();
    fleet.join(deadline)?;
    if let Some(otlp) = otlp {
        otlp.finish();
    }
    // The last commits are made while the workers stop.
    let counts = Counts::of(&accounts);
    log_counts("stopped", &counts, None);
    Ok(())
}

/// Logs what has been committed, and at which rate where it is known.
fn log_counts(message: &str, counts: &Counts, events_per_second: Option<u64>) {
    tracing::info!(
        events = counts.events,
        events_per_second,
        decisions = counts.decisions,
        fallbacks = counts.fallbacks,
        duplicates = counts.duplicates,
        suppressed = counts.suppressed_total(),
        dead_letters = counts.dead_letters_total(),
        replayed = counts.replayed,
        "{message}"
    );
}

/// Tells of other applications that write to the same topics. Nothing waits for it.
fn tell_of_neighbours(config: &Config) -> std::io::Result<()> {
    let config = config.clone();
    let look = move || match neighbours::find(&config) {
        Ok(found) => found.iter().for_each(|it| tracing::warn!("{}", it.message(&config))),
        Err(error) => tracing::debug!(%error, "look for other applications in the topics of outputs"),
    };
    std::thread::Builder::new().name("neighbours".to_owned()).spawn(look).map(drop)
}

/// The logs' filter: the configuration's, or the usual one where it says nothing.
fn filter<'a>(setup: &'a Setup, usual: &'a str) -> &'a str {
    setup.config.log.filter.as_deref().unwrap_or(usual)
}

/// Reads the configuration again and hands what may change to the workers: on SIGHUP, and for whoever else asks.
///
/// Guarantees: all of it is taken or nothing; whatever the file says, the process goes on; one reload goes on at a time.
pub(super) struct Reloader {
    args: ConfigArgs,
    /// What runs now, and the way to the workers.
    swaps: Mutex<(Setup, Swaps)>,
    board: Arc<Board>,
    logs: Arc<Logs>,
    /// The filter where the configuration says nothing; none where the flag or the variable wins.
    usual: Option<String>,
}

impl Reloader {
    /// Takes the configuration as it is now, and gives the number of its segments. The outcome is logged and counted.
    ///
    /// # Errors
    /// Everything that is wrong with it, in words for people and without secrets; nothing has changed then.
    pub(super) fn reload(&self) -> Result<usize, String> {
        // A bug that a file sets off is a fault of the file: what runs goes on.
        let outcome = catch_unwind(AssertUnwindSafe(|| self.take())).unwrap_or_else(|panic| {
            Err(anyhow::anyhow!("this is a bug of Aimpoint, please report it: {}", words_of_panic(&*panic)))
        });
        metrics::reloaded(outcome.is_ok());
        match outcome {
            Ok(segments) => {
                tracing::info!(segments, "the configuration was read again");
                Ok(segments)
            }
            Err(error) => {
                let error = scrub(format!("{error:#}").trim_end()).into_owned();
                tracing::error!("the configuration was read again and refused, the old one stays: {error}");
                Err(error)
            }
        }
    }

    fn take(&self) -> anyhow::Result<usize> {
        let mut running = self.swaps.lock().unwrap_or_else(PoisonError::into_inner);
        let (old, swaps) = &mut *running;
        // A pipe was read to its end, and reading it again would wait for somebody to write into it.
        let path = self.args.config.as_deref().filter(|path| path.exists() && !path.is_file());
        if let Some(path) = path {
            anyhow::bail!("read {} again: only a file can be read twice", path.display());
        }
        let new = Setup::read(&self.args)?;
        let others = old.config.needs_restart(&new.config);
        anyhow::ensure!(others.is_empty(), "restart for what has changed in {}", others.join(", "));
        // What can fail comes first: the filter is checked with the configuration, the pipelines are made before one is sent.
        swaps.swap(&new)?;
        if let Some(usual) = &self.usual
            && let Err(error) = self.logs.set_if_other(filter(&new, usual))
        {
            tracing::error!(error, "the logs' filter could not be changed");
        }
        self.board.config(new.config.shown());
        let segments = new.config.pipeline.segments.len();
        *old = new;
        Ok(segments)
    }
}
