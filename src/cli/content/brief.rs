//! `aimpoint content brief` and `check`: a first brief from themes, and the faults of one.

use super::themes::save;
use crate::{
    cli::Exit,
    content::{
        brief::{Brief, draft, read},
        themes::ThemeReport,
    },
};
use anyhow::Context;
use clap::Args;
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

/// Draft a brief from themes
#[derive(Args, Clone, Debug)]
pub(super) struct BriefArgs {
    /// The file that `aimpoint content themes --out` wrote
    #[arg(value_name = "THEMES")]
    themes: PathBuf,
    /// Take the themes that this segment speaks about most [default: the largest]
    #[arg(long, value_name = "NAME")]
    segment: Option<String>,
    /// Write the brief to this file [default: print it]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Check a brief
#[derive(Args, Clone, Debug)]
pub(super) struct CheckArgs {
    /// The brief
    #[arg(value_name = "BRIEF")]
    brief: PathBuf,
}

pub(super) fn run(args: &BriefArgs) -> anyhow::Result<()> {
    let path = args.themes.display();
    let bytes = fs::read(&args.themes).with_context(|| format!("read the themes {path}"))?;
    let report: ThemeReport = serde_json::from_slice(&bytes).map_err(|error| {
        Exit::Data.because(format!("read the themes {path}: {error}; create it with aimpoint content themes --out"))
    })?;
    if let Some(segment) = &args.segment {
        let known =
            report.themes.first().map(|theme| theme.segments.iter().map(|it| it.segment.as_str()).collect::<Vec<_>>());
        let known = known.unwrap_or_default();
        if !known.contains(&segment.as_str()) {
            let message =
                format!("--segment {segment:?} has no comments in {path}; choose one of: {}", known.join(", "));
            return Err(Exit::Usage.because(message));
        }
    }
    let text = draft(&report, args.segment.as_deref());
    let mut out = crate::cli::printed::stdout();
    match &args.out {
        None => write!(out, "{text}")?,
        // A brief that people edited must not be lost.
        Some(path) if path.exists() => {
            return Err(
                Exit::Usage.because(format!("{} exists and may have been edited; name another file", path.display()))
            );
        }
        Some(path) => {
            save(path, text.as_bytes())?;
            writeln!(out, "Fill in {}, then: aimpoint content check {}", path.display(), path.display())?;
        }
    }
    Ok(())
}

pub(super) fn check(args: &CheckArgs) -> anyhow::Result<()> {
    let (brief, _) = load(&args.brief)?;
    let (path, themes, facts) = (args.brief.display(), brief.themes.len(), brief.facts.len());
    Ok(writeln!(crate::cli::printed::stdout(), "{path} is complete: {themes} themes, {facts} facts")?)
}

/// Reads a brief, and returns it with its text.
pub(super) fn load(path: &Path) -> anyhow::Result<(Brief, String)> {
    let text = fs::read_to_string(path).with_context(|| format!("read the brief {}", path.display()))?;
    match read(&text) {
        Ok(brief) => Ok((brief, text)),
        Err(faults) => {
            let lines: Vec<String> = faults.iter().map(|fault| format!("{}: {fault}", path.display())).collect();
            Err(Exit::Config.because(format!("the brief has faults\n{}", lines.join("\n"))))
        }
    }
}
