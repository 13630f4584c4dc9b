//! `aimpoint export`: replays events through the serving code and writes what a model would have got, with labels.
//!
//! Guarantees: a row's features are those that `run` would have given the model at that event, because the same pipeline
//! makes them; nothing later than the row, and with `--until` nothing later than that, is looked at but for the label.

use super::{ConfigArgs, files, setup::Setup};
use crate::{
    config::ConfigError,
    engine::{Counts, Partition, Partitions},
    event::Record,
    fault::Fault,
    sink::Outbox,
    training::{Labeller, Row, RowFile},
};
use anyhow::Context;
use clap::Args;
use std::{io::Write, path::PathBuf};

/// How many events are taken at once.
const BATCH: u64 = 4_096;

/// Replay files of events and write feature rows with labels
#[derive(Args, Clone, Debug)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// JSON lines, plain, .gz or .zst, in the order of their times
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Where the rows go: .parquet, .csv or .csv.gz
    #[arg(long, short, required = true, value_name = "FILE")]
    out: Vec<PathBuf>,
    /// Look at nothing from this moment on, such as 1998-01-01T00:00:00Z
    #[arg(long, value_name = "TIME")]
    until: Option<jiff::Timestamp>,
}

/// What waits for its label.
struct Waiting {
    user: String,
    event_id: String,
    offset: i64,
    time: i64,
    features: Box<[f32]>,
}

pub(super) fn run(args: &ExportArgs) -> anyhow::Result<()> {
    let setup = Setup::read(&args.config)?;
    let Some(label) = &setup.config.pipeline.label else {
        let fault = Fault::new("label", "an export needs to know what is to be learned")
            .hint("for instance [label] where = 'event_type == \"purchase\"' within = \"30d\"");
        return Err(ConfigError::Faulty(setup.document.explain(&[fault])).into());
    };
    let mut pipeline = setup.pipeline(true)?;
    let until = args.until.map(jiff::Timestamp::as_microsecond);
    let slack = setup.config.pipeline.time.allowed_lateness.as_micros() as i64;
    let names = pipeline.model_features();
    let fingerprint = pipeline.fingerprint().to_owned();
    let mut outputs = Vec::new();
    for path in &args.out {
        outputs.push(RowFile::create(path, &names, &fingerprint, &[])?);
    }
    let mut labeller = Labeller::new(label.within);
    let mut partitions = Partitions::default();
    partitions.insert(0, Partition::new(0, 0, None));
    let mut outbox = Outbox::default();
    let mut counts = Counts::default();
    let (mut offset, mut after) = (0, 0_u64);
    let mut write = |labeller: &mut Labeller<Waiting>, until: Option<i64>| -> anyhow::Result<()> {
        while let Some((row, label)) = labeller.ripe(until, slack) {
            for output in &mut outputs {
                output.write(&Row {
                    user_key: &row.user,
                    event_id: &row.event_id,
                    partition: 0,
                    offset: row.offset,
                    occurred_at_us: row.time,
                    features: &row.features,
                    label: f32::from(u8::from(label)),
                })?;
            }
        }
        Ok(())
    };
    for file in &args.files {
        let mut step = |line: Option<&[u8]>| -> anyhow::Result<bool> {
            if let Some(payload) = line {
                pipeline.take(
                    &Record { offset, payload: Some(payload), ..Record::default() },
                    &mut partitions,
                    &mut outbox,
                    &mut counts,
                );
                offset += 1;
            }
            if line.is_none() || (offset as u64).is_multiple_of(BATCH) || pipeline.is_full() {
                pipeline.rows(&mut partitions, &mut counts, |row| {
                    if until.is_some_and(|until| row.time.0 >= until) {
                        after += 1;
                        return;
                    }
                    let waiting = Waiting {
                        user: row.user.to_owned(),
                        event_id: row.event_id.to_owned(),
                        offset: row.position.offset,
                        time: row.time.0,
                        features: row.features.into(),
                    };
                    labeller.push(row.user_hash, row.time.0, row.is_outcome, waiting);
                });
                outbox.clear();
                write(&mut labeller, None)?;
            }
            Ok(true)
        };
        files::each_line::<anyhow::Error>(file, |line| step(Some(line)))
            .with_context(|| format!("replay {}", file.display()))?;
        step(None)?;
    }
    write(&mut labeller, until)?;
    let unripe = labeller.unripe();
    let mut rows = 0;
    for output in outputs {
        rows = output.finish()?;
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "{} events: {rows} rows with labels", counts.events)?;
    for (count, what) in [
        (unripe as u64, "whose time has not run out yet"),
        (after, "from --until on"),
        (counts.duplicates, "that came before"),
        (counts.suppressed_total(), "suppressed: too late, or a bot's"),
        (counts.dead_letters_total(), "that are no events"),
    ] {
        if count > 0 {
            writeln!(out, "  left out: {count} {what}")?;
        }
    }
    if counts.unknown_zones > 0 {
        writeln!(out, "  {} events name a time zone that there is not", counts.unknown_zones)?;
    }
    writeln!(out, "{} features, fingerprint {fingerprint}", names.len())?;
    for path in &args.out {
        writeln!(out, "wrote {}", path.display())?;
    }
    Ok(())
}
