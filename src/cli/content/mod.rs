//! `aimpoint content`: from comments to creatives, one step per command.
//!
//! Owns the files between the steps, the connection to a language model, and the terminal in which people decide. The
//! rules are those of [`crate::content`]. Each step reads and writes files that people can look at, so that it can be
//! repeated alone.

mod brief;
mod client;
mod comments;
mod corpus;
mod demo;
mod embedding;
mod page;
mod review;
mod themes;
mod write;

use clap::{Args, Subcommand};

/// Find themes in comments, and write creatives that people approve
#[derive(Args, Clone, Debug)]
pub(super) struct ContentArgs {
    #[command(subcommand)]
    step: Step,
}

#[derive(Clone, Debug, Subcommand)]
enum Step {
    /// Show every step on shipped comments, without a model, in a few seconds
    Demo(demo::DemoArgs),
    /// Find what comments are about
    Themes(themes::ThemesArgs),
    /// Draft a brief from themes
    Brief(brief::BriefArgs),
    /// Check a brief
    Check(brief::CheckArgs),
    /// Write texts for a brief, from templates or with a language model
    Write(write::WriteArgs),
    /// Approve, edit or refuse texts, and write the approved ones as creatives
    Review(review::ReviewArgs),
}

pub(super) fn run(args: &ContentArgs) -> anyhow::Result<()> {
    match &args.step {
        Step::Demo(args) => demo::run(args),
        Step::Themes(args) => themes::run(args),
        Step::Brief(args) => brief::run(args),
        Step::Check(args) => brief::check(args),
        Step::Write(args) => write::run(args),
        Step::Review(args) => review::run(args),
    }
}
