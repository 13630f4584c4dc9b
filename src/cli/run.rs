//! `aimpoint run`: consumes events and writes decisions until it is stopped.

use super::ConfigArgs;
use crate::{app, logging::Logs};
use clap::Args;
use std::{net::SocketAddr, sync::Arc};

/// Consume events and write decisions until stopped
#[derive(Args, Clone, Debug)]
pub(super) struct RunArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Serve health, metrics and the live page at this address; the same as --set admin.address=ADDRESS
    #[arg(long, alias = "metrics", value_name = "ADDRESS")]
    admin: Option<SocketAddr>,
}

/// Runs the process. `is_log_set`: the command line or the environment has set the log filter.
pub(super) fn run(args: &RunArgs, logs: &Arc<Logs>, is_log_set: bool) -> anyhow::Result<()> {
    let ConfigArgs { config, mut sets } = args.config.clone();
    sets.extend(args.admin.map(|address| format!("admin.address={address}")));
    app::run(config.as_deref(), &sets, logs, is_log_set)
}
