//! The commands, one file each.
//!
//! Owns the command line, tables, messages, and the exit code of each failure. Results go to standard output. Logs and progress
//! go to standard error, progress only on a terminal.

mod campaigns;
mod check;
mod completions;
mod content;
mod control;
mod demo;
mod doctor;
mod erase;
mod evaluate;
mod exit;
mod experiment;
mod explain;
mod export;
mod files;
mod held;
mod keeping;
mod load;
mod metrics;
mod models;
mod printed;
mod processing;
mod profile;
mod promote;
mod reference;
mod run;
mod serve;
mod signals;
mod sizes;
mod skew;
mod sort;
mod subject;
mod synthetic;
mod topic_files;
mod topics;

// Train: from a file of rows to an ONNX file.
pub mod train;

mod why;

pub use exit::Exit;
use printed::printed;

use crate::{
    app::Setup,
    config::ConfigLoadError,
    logging::{Format, Logs},
    panics::{expects_panics, words_of_panic},
    secret::{is_secret_name, remember, scrub},
};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::{
    io::{IsTerminal, Write},
    panic::{AssertUnwindSafe, catch_unwind},
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
    /// Log filter: a level, or target=level pairs separated by commas
    #[arg(long, global = true, value_name = "FILTER")]
    log: Option<String>,
    /// Log format
    #[arg(long, global = true, value_enum, default_value_t)]
    log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// Text on a terminal, JSON otherwise
    #[default]
    Auto,
    /// Human-readable text
    Text,
    /// One JSON object per line
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the whole pipeline on real data, without a broker
    Demo(demo::DemoArgs),
    /// Consume events and write decisions until stopped
    Run(run::RunArgs),
    /// Keep budgets, pacing and what creatives earn, from outcomes, until stopped
    Control(control::ControlArgs),
    /// Measure what decisions achieved, from files or topics of decisions and outcomes
    Evaluate(evaluate::EvaluateArgs),
    /// Compare the arms of an experiment, from a file with a row for each user
    Experiment(experiment::ExperimentArgs),
    /// Find themes in comments, and write creatives that people approve
    Content(content::ContentArgs),
    /// Answer bidders about the latest decision of a user, until stopped
    Serve(serve::ServeArgs),
    /// Check the configuration, the model and the topics without running
    Check(check::CheckArgs),
    /// Check brokers, permissions, topics, clocks, library, model and files, and say how to fix problems
    Doctor(doctor::DoctorArgs),
    /// Show the topics, and create those that are missing
    Topics(topics::TopicsArgs),
    /// Publish events to the clickstream, from files or generated
    Load(load::LoadArgs),
    /// Write feature rows with labels: of replayed events, or of decisions that carry their features
    Export(export::ExportArgs),
    /// Compare the features that decisions carry with those of a replay
    Skew(skew::SkewArgs),
    /// Train a small network on a file of rows
    Train(train::TrainArgs),
    /// Activate a version if it is shown to be better than the active one
    Promote(promote::PromoteArgs),
    /// Print a shell completion script
    Completions(completions::CompletionsArgs),
    /// Write the manual pages
    Man(completions::ManArgs),
    /// Print every metric: name, kind, labels, meaning
    Metrics(metrics::MetricsArgs),
    /// Show what each feature adds to a user's score
    Explain(explain::ExplainArgs),
    /// Show the stored profile of a user
    Profile(profile::ProfileArgs),
    /// Explain a user's last decision in words
    Why(why::WhyArgs),
    /// Show everything that is held about a user, with sources and times
    Subject(subject::SubjectArgs),
    /// Erase users, or prove that nothing about a user is left
    Erase(erase::EraseArgs),
    /// Show the model versions, and choose the active one
    Models(models::ModelsArgs),
    /// List the aggregates of features, with their keys, bounds and sizes, and the elements of expressions
    Features,
    /// Print a reference: configuration, features, expressions, metrics, exit codes
    Reference(reference::ReferenceArgs),
}

/// Where the configuration comes from.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ConfigArgs {
    /// The configuration file
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Override a key
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
}

impl ConfigArgs {
    /// Reads the configuration.
    fn read(&self) -> Result<Setup, ConfigLoadError> {
        Setup::read(self.config.as_deref(), &self.sets)
    }
}

/// Parses the arguments, runs the command and returns the exit code.
pub fn main() -> ExitCode {
    remember_arguments(&std::env::args_os().map(|it| it.to_string_lossy().into_owned()).collect::<Vec<_>>());
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refused(&error),
    };
    let logs = match log(&cli) {
        Ok(logs) => logs,
        Err(message) => {
            writeln!(std::io::stderr(), "aimpoint: {}", printed(&message)).unwrap_or_default();
            return Exit::Usage.into();
        }
    };
    scrub_panics();
    let result = catch_unwind(AssertUnwindSafe(|| dispatch(&cli, &logs)));
    let outcome = result.unwrap_or_else(|panic| {
        let words = words_of_panic(&*panic);
        Err(Exit::Internal
            .because(format!("this is a bug in Aimpoint, please report it with the lines above: {words}")))
    });
    let outcome = outcome.and_then(|()| Ok(std::io::stdout().flush()?));
    match outcome {
        Ok(()) => Exit::Clean.into(),
        Err(error) => {
            let exit = Exit::of(&error);
            if exit != Exit::Pipe {
                // A bare I/O error comes from printing the output.
                let is_bare = error.chain().count() == 1 && error.is::<std::io::Error>();
                let doing = if is_bare { "print: " } else { "" };
                let message = format!("{doing}{error:#}");
                // If standard error is closed too, the message is lost.
                let message = scrub(message.trim_end());
                writeln!(std::io::stderr(), "aimpoint: {}", printed(&message)).unwrap_or_default();
            }
            exit.into()
        }
    }
}

/// Removes secrets from panic messages.
fn scrub_panics() {
    std::panic::set_hook(Box::new(|panic| {
        if expects_panics() {
            return;
        }
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("unnamed");
        let trace = std::backtrace::Backtrace::capture();
        let trace = match trace.status() {
            std::backtrace::BacktraceStatus::Captured => format!("\n{trace}"),
            _ => String::new(),
        };
        let message = format!("thread {name:?} {panic}{trace}");
        writeln!(std::io::stderr(), "{}", printed(&scrub(&message))).unwrap_or_default();
    }));
}

/// Runs the command.
fn dispatch(cli: &Cli, logs: &Arc<Logs>) -> anyhow::Result<()> {
    match &cli.command {
        Command::Demo(args) => demo::run(args),
        Command::Run(args) => run::run(args, logs, log_filter(cli).is_some()),
        Command::Control(args) => control::run(args, logs, log_filter(cli).is_some()),
        Command::Evaluate(args) => evaluate::run(args),
        Command::Experiment(args) => experiment::run(args),
        Command::Content(args) => content::run(args),
        Command::Serve(args) => serve::run(args, logs, log_filter(cli).is_some()),
        Command::Check(args) => check::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Topics(args) => topics::run(args),
        Command::Load(args) => load::run(args),
        Command::Export(args) => export::run(args),
        Command::Skew(args) => skew::run(args),
        Command::Train(args) => train::run(args),
        Command::Promote(args) => promote::run(args),
        Command::Completions(args) => completions::run(args),
        Command::Man(args) => completions::man(args),
        Command::Metrics(args) => metrics::run(args),
        Command::Explain(args) => explain::run(args),
        Command::Profile(args) => profile::run(args),
        Command::Why(args) => why::run(args),
        Command::Subject(args) => subject::run(args),
        Command::Erase(args) => erase::run(args),
        Command::Models(args) => models::run(args),
        Command::Features => reference::features(),
        Command::Reference(args) => reference::run(args),
    }
}

/// Prints clap's error or help. It may quote an argument, so secrets are removed.
fn refused(error: &clap::Error) -> ExitCode {
    let text = error.render().to_string();
    let scrubbed = scrub(&text);
    let clean = printed(&scrubbed);
    let printed = if clean == text {
        error.print().and_then(|()| std::io::stdout().flush())
    } else {
        write!(std::io::stderr(), "{clean}")
    };
    match printed {
        _ if error.use_stderr() => Exit::Usage.into(),
        Ok(()) => Exit::Clean.into(),
        Err(error) => Exit::of_io(&error).into(),
    }
}

/// Registers secrets given with `--set`, so that no message shows them, even if the command line is invalid.
fn remember_arguments(arguments: &[String]) {
    for (index, argument) in arguments.iter().enumerate() {
        let set = match argument.strip_prefix("--set=") {
            Some(set) => set,
            None if index > 0 && arguments[index - 1] == "--set" => argument,
            None => continue,
        };
        match set.split_once(['=', ':']) {
            Some((key, value)) if is_secret_name(key) => remember(value),
            None if is_secret_name(set) => {
                arguments.get(index + 1).filter(|next| !next.starts_with('-')).into_iter().for_each(|it| remember(it));
            }
            _ => {}
        }
    }
}

/// Parses a number within bounds.
fn number_within(bounds: std::ops::RangeInclusive<f64>) -> impl Fn(&str) -> Result<f64, String> + Clone + Send + Sync {
    move |text| match text.parse::<f64>() {
        Ok(number) if bounds.contains(&number) => Ok(number),
        Ok(_) => Err(format!("expected a number from {} to {}", bounds.start(), bounds.end())),
        Err(_) => Err(format!("expected a number, such as {}", bounds.end().min(100.0))),
    }
}

/// Starts logging to standard error.
fn log(cli: &Cli) -> Result<Arc<Logs>, String> {
    let quiet = match &cli.command {
        Command::Run(_) | Command::Serve(_) => false,
        Command::Control(args) => args.is_once(),
        _ => true,
    };
    let default = if quiet { "warn,librdkafka=off" } else { "info,librdkafka=error" };
    let filter = log_filter(cli).unwrap_or_else(|| default.to_owned());
    let format = match cli.log_format {
        LogFormat::Auto if std::io::stderr().is_terminal() => Format::Text,
        LogFormat::Text => Format::Text,
        LogFormat::Auto | LogFormat::Json => Format::Json,
    };
    let named = if cli.log.is_some() { "--log" } else { "AIMPOINT_LOG" };
    let logs = Logs::start(&filter, format);
    let example = "give a level or target=level, with commas between, such as info,librdkafka=error";
    logs.map(Arc::new).map_err(|error| format!("{named} {filter:?}: {error}; {example}"))
}

/// The filter from the flag or the environment.
fn log_filter(cli: &Cli) -> Option<String> {
    cli.log.clone().or_else(|| std::env::var("AIMPOINT_LOG").ok())
}

/// Parses a whole number within bounds.
fn whole_within(
    bounds: std::ops::RangeInclusive<usize>,
) -> impl Fn(&str) -> Result<usize, String> + Clone + Send + Sync {
    move |text| match text.parse::<usize>() {
        Ok(number) if bounds.contains(&number) => Ok(number),
        _ => Err(format!("expected a whole number from {} to {}", bounds.start(), bounds.end())),
    }
}
