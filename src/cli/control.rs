//! `aimpoint control`: keeps what is global, from outcomes, until it is stopped; or once, from files.

use super::{
    ConfigArgs, Exit,
    files::{self, Line},
};
use crate::{
    app::{self, ControlSummary, Offline},
    config::ConfigLoadError,
    logging::Logs,
};
use anyhow::Context;
use clap::Args;
use std::{io::Write, net::SocketAddr, path::PathBuf, sync::Arc};

/// The longest line of a file.
const LINE_BYTES_MAX: usize = 1 << 20;
/// The most faults that are shown.
const FAULTS_SHOWN: usize = 50;

/// Keep budgets, pacing and what creatives earn, from outcomes, until stopped
#[derive(Args, Clone, Debug)]
pub(super) struct ControlArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Serve health and metrics at this address; the same as --set admin.address=ADDRESS
    #[arg(long, alias = "metrics", value_name = "ADDRESS", conflicts_with = "once")]
    admin: Option<SocketAddr>,
    /// Read decisions and outcomes from these files of JSON lines, without Kafka, and print a summary
    #[arg(long, value_name = "FILE", num_args = 1..)]
    once: Vec<PathBuf>,
    /// With --once: write the policy to FILE
    #[arg(long, value_name = "FILE", requires = "once")]
    policy: Option<PathBuf>,
}

/// Runs the role. `is_log_set`: the command line or the environment has set the log filter.
pub(super) fn run(args: &ControlArgs, logs: &Arc<Logs>, is_log_set: bool) -> anyhow::Result<()> {
    if !args.once.is_empty() {
        return once(args);
    }
    let ConfigArgs { config, mut sets } = args.config.clone();
    sets.extend(args.admin.map(|address| format!("admin.address={address}")));
    app::run_control(config.as_deref(), &sets, logs, is_log_set)
}

impl ControlArgs {
    /// Whether it ends by itself.
    pub(super) fn is_once(&self) -> bool {
        !self.once.is_empty()
    }
}

fn once(args: &ControlArgs) -> anyhow::Result<()> {
    let setup = args.config.read()?;
    let errors = setup.config.control_faults();
    if !errors.is_empty() {
        return Err(ConfigLoadError::Invalid(setup.document.explain(&errors)).into());
    }
    let campaigns = app::campaigns(&setup)?;
    for file in &args.once {
        files::check(file)?;
    }
    if let Some(out) = &args.policy {
        files::check_out(out, &args.once)?;
    }
    let (app, users) = (&setup.config.app.name, setup.config.users());
    let (mut offline, mut faults) = (Offline::default(), Vec::new());
    for (index, file) in args.once.iter().enumerate() {
        files::each_line(file, LINE_BYTES_MAX, |line| {
            let (number, added) = match line {
                Line::Whole(number, line) => (number, offline.add((app, &users), index, number, line)),
                Line::TooLong { number, bytes } => {
                    (number, Err(format!("{bytes} bytes; a line has at most {LINE_BYTES_MAX}")))
                }
            };
            faults.extend(added.err().map(|fault| format!("{}:{number}: {fault}", file.display())));
            anyhow::Ok(true)
        })?;
    }
    if !faults.is_empty() {
        let left_out = faults.len().saturating_sub(FAULTS_SHOWN);
        faults.truncate(FAULTS_SHOWN);
        if left_out > 0 {
            faults.push(format!("and {left_out} more"));
        }
        return Err(Exit::Data.because(format!("read decisions and outcomes:\n{}", faults.join("\n"))));
    }
    let found = offline.finish(app, &setup.config.control(), campaigns);
    if let Some(out) = &args.policy {
        write_policy(&found, out)?;
    }
    let mut out = super::printed::stdout();
    write!(out, "{}", app::summary(&found))?;
    for (file, line, why) in found.rejected.iter().take(FAULTS_SHOWN) {
        writeln!(out, "rejected        {}:{line}: {why}", args.once[*file].display())?;
    }
    Ok(())
}

fn write_policy(found: &ControlSummary, out: &PathBuf) -> anyhow::Result<()> {
    let policy =
        found.policy.as_ref().ok_or_else(|| Exit::Data.because("there are no records, so there is no policy"))?;
    let json = policy.to_json().map_err(anyhow::Error::msg).context("write the policy")?;
    std::fs::write(out, json).with_context(|| format!("write {}", out.display()))
}
