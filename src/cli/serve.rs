//! `aimpoint serve`: answers bidders about the latest decision of a user, until it is stopped.

use super::ConfigArgs;
use crate::{app, logging::Logs};
use clap::Args;
use std::{net::SocketAddr, sync::Arc};

/// Answer bidders about the latest decision of a user, until stopped
#[derive(Args, Clone, Debug)]
pub(super) struct ServeArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Answer at this address; the same as --set serve.address=ADDRESS
    #[arg(long, value_name = "ADDRESS")]
    address: Option<SocketAddr>,
    /// Serve health and metrics at this address; the same as --set admin.address=ADDRESS
    #[arg(long, alias = "metrics", value_name = "ADDRESS")]
    admin: Option<SocketAddr>,
}

/// Runs the role. `is_log_set`: the command line or the environment has set the log filter.
pub(super) fn run(args: &ServeArgs, logs: &Arc<Logs>, is_log_set: bool) -> anyhow::Result<()> {
    let ConfigArgs { config, mut sets } = args.config.clone();
    sets.extend(args.address.map(|address| format!("serve.address={address}")));
    sets.extend(args.admin.map(|address| format!("admin.address={address}")));
    app::run_serve(config.as_deref(), &sets, logs, is_log_set)
}
