//! From a configuration to a running process: models, sources, sinks, workers, admin server, reloads.
//!
//! Owns only the wiring. The commands of `cli` parse arguments, call it, and print.

// Models: loading and checking them.
mod models;

// Policies: what control tells the workers.
mod policies;

// Audiences: what control is told of segments.
mod audiences;

// Shadows: models that score but decide nothing.
mod shadows;

// Workers: on Kafka, from a configuration.
mod workers;

// Instance: the name of this process among those of its application.
mod instance;

// Namesakes: other processes with the name of this one.
mod namesakes;

// Topics: what they should be, and what they are.
pub(crate) mod topics;

// Rights: what the brokers have to grant to each role.
pub(crate) mod rights;

// Topics watch: checks the topics while the process runs.
mod topics_watch;

// Neighbours: other applications that write to the same topics.
pub(crate) mod neighbours;

// Admin: metrics, traces and the live page of this process.
mod admin;

// Erase: asks for erasures.
mod erase;

// Reload: applies a changed configuration.
mod reload;

// Start: what each role does first.
mod start;

// Dumps: keeps memory out of core dumps.
mod dumps;

// Run: the life of a process.
mod run;

// Control: the role that keeps what is global.
mod control;

// Serve: the role that answers bidders.
mod serve;

pub(crate) use admin::serve_admin;
pub(crate) use control::{
    ControlError, ControlSummary, FileRecord, Offline, ReplayedControl, campaigns, run_control, summary,
};
pub(crate) use erase::{Eraser, now_ms};
pub(crate) use instance::{Instance, check_name};
pub(crate) use models::{LoadError, Models, load_within_limit};
pub(crate) use namesakes::Namesake;
pub(crate) use run::run;
pub(crate) use serve::{ServeError, run_serve};
pub(crate) use start::heeded;
pub(crate) use workers::{WorkerSet, sink_settings};

use crate::{
    config::{Config, ConfigLoadError, Document},
    engine::{Pipeline, SystemClock},
};
use std::path::Path;

/// A configuration, with its document for errors that are found later.
pub(crate) struct Setup {
    pub(crate) config: Config,
    pub(crate) document: Document,
}

impl Setup {
    /// Reads the configuration file at `path` (by default `aimpoint.toml`, if it exists), then the environment and
    /// `sets`.
    pub(crate) fn read(path: Option<&Path>, sets: &[String]) -> Result<Self, ConfigLoadError> {
        let default = Path::new("aimpoint.toml");
        let path = path.or_else(|| default.exists().then_some(default));
        let (config, document) = Config::load(path, std::env::vars_os(), sets)?;
        Ok(Self { config, document })
    }

    /// Compiles the pipeline, without a model.
    pub(crate) fn pipeline(&self, with_label: bool) -> Result<Pipeline, ConfigLoadError> {
        let mut spec = self.config.pipeline.clone();
        if !with_label {
            spec.label = None;
        }
        Pipeline::compile(&spec, self.config.origin())
            .map_err(|errors| ConfigLoadError::Invalid(self.document.explain(&errors)))
    }

    /// Compiles a pipeline that times its stages, without a model.
    fn timed(&self) -> anyhow::Result<Pipeline> {
        Ok(self.pipeline(false)?.with_stopwatch(Box::new(SystemClock::default())))
    }
}
