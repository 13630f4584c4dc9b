//! `aimpoint completions` and `aimpoint man`: shell completions and manual pages, generated from the command definitions.

use super::Cli;
use anyhow::Context;
use clap::{Args, CommandFactory};
use clap_complete::Shell;
use std::{
    io::Write,
    path::{Path, PathBuf},
};

/// Print a script that completes commands for a shell
#[derive(Args, Clone, Debug)]
pub(super) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Write the manual pages
#[derive(Args, Clone, Debug)]
pub(super) struct ManArgs {
    /// The output folder, created if missing
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
}

pub(super) fn run(args: &CompletionsArgs) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "aimpoint", &mut script);
    Ok(std::io::stdout().lock().write_all(&script)?)
}

pub(super) fn man(args: &ManArgs) -> anyhow::Result<()> {
    write_pages(&args.out).with_context(|| format!("write the manual pages to {}", args.out.display()))
}

fn write_pages(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    clap_mangen::generate_to(Cli::command(), folder)
}
