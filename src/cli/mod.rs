//! The commands, one file each.
//!
//! Owns what a person types and reads: the arguments, tables and messages, and the exit code of each failure. Results go
//! to the standard output; logs and progress go to the standard error, progress only where somebody watches.

mod check;
mod completions;
mod demo;
mod doctor;
mod exit;
mod explain;
mod export;
mod files;
mod load;
mod metrics;
mod models;
mod profile;
mod reference;
mod run;
mod setup;
mod sizes;
mod synthetic;
mod topics;

// Train: from a file of rows to an ONNX file.
pub mod train;

pub use exit::Exit;

use crate::telemetry::logs::{Format, Logs};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::{
    io::{IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
};

/// Turns a clickstream into targeting decisions, exactly once
#[derive(Debug, Parser)]
#[command(name = "aimpoint", version, about, max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// What is logged: a level, or target=level with commas between
    #[arg(long, global = true, value_name = "FILTER")]
    log: Option<String>,
    /// How logs are written
    #[arg(long, global = true, value_enum, default_value_t)]
    log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// For people on a terminal, JSON in a pipe
    #[default]
    Auto,
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Watch the whole pipeline at work on real data, without a broker
    Demo(demo::DemoArgs),
    /// Consume events and write decisions until told to stop
    Run(run::RunArgs),
    /// Check the configuration, the model and the topics without running
    Check(check::CheckArgs),
    /// Look at brokers, rights, topics, clocks, library, model and files, and say what to do
    Doctor(doctor::DoctorArgs),
    /// Show the topics, and create those that are missing
    Topics(topics::TopicsArgs),
    /// Publish events to the clickstream, from files or made up
    Load(load::LoadArgs),
    /// Replay files of events and write feature rows with labels
    Export(export::ExportArgs),
    /// Train a small network on a file of rows
    Train(train::TrainArgs),
    /// Print a script that completes commands for a shell
    Completions(completions::CompletionsArgs),
    /// Write the manual's pages
    Man(completions::ManArgs),
    /// Print every metric: name, kind, labels, meaning
    Metrics(metrics::MetricsArgs),
    /// Show what each feature adds to a user's score
    Explain(explain::ExplainArgs),
    /// Show what is kept of one user
    Profile(profile::ProfileArgs),
    /// Show the versions of the model, and choose the one that serves
    Models(models::ModelsArgs),
    /// List what a feature may be: aggregates with their keys, bounds and bytes, and what expressions are made of
    Features,
    /// Print a reference: configuration, features, expressions, metrics, exit codes
    Reference(reference::ReferenceArgs),
}

/// Which configuration.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ConfigArgs {
    /// The configuration file
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Override a key
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
}

/// Parses the arguments, does what they ask, and says with which code to end.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let logs = log(&cli);
    let outcome = match &cli.command {
        Command::Demo(args) => demo::run(args),
        Command::Run(args) => run::run(args, &logs, log_filter(&cli).is_some()),
        Command::Check(args) => check::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Topics(args) => topics::run(args),
        Command::Load(args) => load::run(args),
        Command::Export(args) => export::run(args),
        Command::Train(args) => train::run(args),
        Command::Completions(args) => completions::run(args),
        Command::Man(args) => completions::man(args),
        Command::Metrics(args) => metrics::run(args),
        Command::Explain(args) => explain::run(args),
        Command::Profile(args) => profile::run(args),
        Command::Models(args) => models::run(args),
        Command::Features => reference::features(),
        Command::Reference(args) => reference::run(args),
    };
    match outcome {
        Ok(()) => Exit::Clean.into(),
        Err(error) => {
            let exit = Exit::of(&error);
            // Nothing is left to be done where the standard error is closed, too.
            writeln!(std::io::stderr(), "aimpoint: {}", format!("{error:#}").trim_end()).unwrap_or_default();
            exit.into()
        }
    }
}

/// Begins to log to the standard error.
fn log(cli: &Cli) -> Arc<Logs> {
    let quiet = !matches!(cli.command, Command::Run(_));
    let default = if quiet { "warn,librdkafka=off" } else { "info,librdkafka=error" };
    let filter = log_filter(cli).unwrap_or_else(|| default.to_owned());
    let format = match cli.log_format {
        LogFormat::Auto if std::io::stderr().is_terminal() => Format::Text,
        LogFormat::Text => Format::Text,
        LogFormat::Auto | LogFormat::Json => Format::Json,
    };
    let logs = Logs::start(&filter, format).unwrap_or_else(|error| {
        writeln!(std::io::stderr(), "aimpoint: --log {filter}: {error}; logging {default}").unwrap_or_default();
        Logs::start(default, format).expect("the usual filter is sound, and nothing else logs")
    });
    Arc::new(logs)
}

/// The filter that was asked for.
fn log_filter(cli: &Cli) -> Option<String> {
    cli.log.clone().or_else(|| std::env::var("AIMPOINT_LOG").ok())
}
