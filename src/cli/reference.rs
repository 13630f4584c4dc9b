//! `aimpoint reference`: what there is to be written and read, printed from the code itself.

use super::Exit;
use crate::{
    config,
    event::CANONICAL,
    expression::{FUNCTIONS, LEFT_OUT},
    profile::{Aggregate, tile_widths},
};
use clap::{Args, ValueEnum};
use std::io::Write;

/// Print a reference: configuration, features, expressions, metrics, exit codes
#[derive(Args, Clone, Debug)]
pub(super) struct ReferenceArgs {
    /// Of what
    #[arg(value_enum)]
    of: Subject,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Subject {
    /// Every key of the configuration with its default
    Config,
    /// The JSON Schema of a configuration file, for editors
    Schema,
    /// The aggregates that a feature may name
    Features,
    /// The fields and functions of expressions
    Expressions,
    /// Every metric
    Metrics,
    /// The exit codes
    ExitCodes,
}

pub(super) fn run(args: &ReferenceArgs) -> anyhow::Result<()> {
    print(args.of, &mut std::io::stdout().lock())
}

/// `aimpoint features`: the aggregates with their keys, bounds and bytes, and what expressions are made of.
pub(super) fn features() -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    print(Subject::Features, &mut out)?;
    writeln!(out)?;
    print(Subject::Expressions, &mut out)
}

fn print(of: Subject, out: &mut impl Write) -> anyhow::Result<()> {
    match of {
        Subject::Config => write!(out, "{}", config::DEFAULTS)?,
        Subject::Schema => writeln!(out, "{:#}", config::schema())?,
        Subject::Features => {
            for aggregate in Aggregate::all() {
                writeln!(out, "{:<16}{}", aggregate.name(), aggregate.meaning())?;
                let keys: Vec<&str> = aggregate.keys().collect();
                let keys = if keys.is_empty() { "nothing".to_owned() } else { keys.join(", ") };
                writeln!(out, "                takes {keys}; {} of a profile", aggregate.bytes())?;
            }
            writeln!(
                out,
                "\nEach takes `where` too, but age and those of the calendar. A window is 1s to 540d, or \"forever\"; what takes no\n\
                 window is over all events. With a window the bytes are those of each tile with an event, and each tile has 4 B\n\
                 more; a count has 2 or 4 B where a tile holds more than 255 or 65,535, and 8 B without a window. Features of the\n\
                 same `where`, `value` and tile share them. `aimpoint check` prints the bytes of a profile.\n\
                 A derived feature is an `expression` over earlier features and the event's fields, and takes nothing.\n\
                 Without `tile` a window has tiles of the first of these widths that cuts it into at most 60 equal parts:\n\
                 {}. `aimpoint check` prints the tile of each feature.",
                tile_widths()
            )?;
        }
        Subject::Expressions => {
            writeln!(out, "fields")?;
            for (name, ty, _) in CANONICAL {
                writeln!(out, "  {name:<20}{ty}")?;
            }
            writeln!(out, "\nfunctions")?;
            for function in &FUNCTIONS {
                writeln!(out, "  {:<38}{}", function.usage, function.meaning)?;
            }
            writeln!(out, "\nleft out of CEL, and what to write instead")?;
            for left in LEFT_OUT {
                writeln!(out, "  {:<52}{}", left.what, left.instead)?;
            }
        }
        Subject::Metrics => super::metrics::print(out)?,
        Subject::ExitCodes => {
            for (exit, meaning) in Exit::ALL {
                writeln!(out, "{:>3}  {meaning}", exit as u8)?;
            }
        }
    }
    Ok(())
}
