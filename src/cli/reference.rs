//! `aimpoint reference`: references that are generated from the code.

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
    /// The subject
    #[arg(value_enum)]
    of: Subject,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Subject {
    /// Every configuration key with its default
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

/// `aimpoint features`: the aggregates with their keys, bounds and sizes, and the elements of expressions.
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
                writeln!(out, "                takes {keys}; size in a profile: {}", aggregate.bytes())?;
            }
            writeln!(
                out,
                "\nAll but age and the calendar aggregates also take `where`. A window is 1s to 540d, or \"forever\"; an aggregate without\n\
                 a window covers all events. With a window, sizes are per tile that has an event, plus 4 B per tile; a count takes\n\
                 2 or 4 B in a tile with more than 255 or 65,535 events, and 8 B without a window. Features with the same `where`,\n\
                 `value` and tile share their state. `aimpoint check` prints the size of a profile.\n\
                 A derived feature is an `expression` over earlier features and the event's fields, and stores nothing.\n\
                 Without `tile` a window uses the first of these tile widths that divides it into at most 60 equal parts:\n\
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
            writeln!(out, "\nnot supported from CEL, and what to write instead")?;
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
