//! `aimpoint erase`: asks the workers to erase users, and proves afterwards that nothing is left.
//!
//! A request is a record of the input, so it is ordered among the user's events, replayed and committed like them. Only the
//! producers of the events know which partition a user's events are in, so each request is written to every partition: each
//! drops what it has of the user, and remembers the erasure, so that older events do not bring the user back.
//!
//! Guarantees: the command ends cleanly only once the broker has accepted every request. Limits: it does not wait for the
//! workers; `--verify` tells whether all of them are done.

mod record;
mod verify;

use super::{ConfigArgs, Exit};
use crate::{
    app::{Eraser, now_ms},
    event::KeyType,
};
use anyhow::Context;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    collections::BTreeSet,
    fs::File,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
};

/// The longest id; events with longer ones are rejected.
const ID_BYTES_MAX: usize = 1_024;

/// How many of the ids a dry run prints.
const SHOWN_MAX: usize = 10;

/// Erase users, or prove that nothing about a user is left
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Only a record keeper needs --record: it appends what was verified to a signed file without the user's id."
)]
pub(super) struct EraseArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The user's id: `user_id`, or `anonymous_id` if the events have no `user_id`
    #[arg(long, value_name = "ID", value_parser = clap::builder::NonEmptyStringValueParser::new(), required_unless_present_any = ["file", "check_record"])]
    user: Option<String>,
    /// A file of ids, one a line
    #[arg(long, value_name = "FILE", conflicts_with_all = ["user", "verify"])]
    file: Option<PathBuf>,
    /// The type of the ids: a `user_id` is a person and an `anonymous_id` a device, unless the events say otherwise
    #[arg(long, value_enum, value_name = "TYPE", default_value_t)]
    key_type: KeyType,
    /// Say what would be asked, and ask nothing
    #[arg(long, conflicts_with = "verify")]
    dry_run: bool,
    /// Read every topic to its end, and say what still has the user's id and when it goes
    #[arg(long, requires = "user")]
    verify: bool,
    /// Print the result of --verify as one JSON object
    #[arg(long, requires = "verify")]
    json: bool,
    /// Append the result of --verify to this signed file, without the user's id
    #[arg(long, value_name = "FILE", requires = "verify")]
    record: Option<PathBuf>,
    /// Check that no entry of this file was changed, added or removed
    #[arg(long, value_name = "FILE", conflicts_with_all = ["user", "file", "dry_run"])]
    check_record: Option<PathBuf>,
    /// The file with the key of --record and --check-record, at least 16 bytes [default: AIMPOINT_RECORD_KEY]
    #[arg(long, value_name = "FILE")]
    record_key: Option<PathBuf>,
}

pub(super) fn run(args: &EraseArgs) -> anyhow::Result<()> {
    if let Some(path) = &args.check_record {
        let key = record::Key::read(args.record_key.as_deref())?;
        return record::check(path, &key, &mut super::printed::stdout());
    }
    match (&args.user, args.verify) {
        (Some(user), true) => verify::run(args, user),
        _ => ask(args),
    }
}

/// Writes the requests.
fn ask(args: &EraseArgs) -> anyhow::Result<()> {
    let ids = match &args.file {
        Some(path) => read_ids(path)?,
        None => args.user.iter().cloned().collect(),
    };
    if let Some(id) = ids.iter().find(|id| id.len() > ID_BYTES_MAX) {
        let start: String = id.chars().take(20).collect();
        return Err(
            Exit::Usage.because(format!("the id {start:?}… has more than {ID_BYTES_MAX} bytes: no event has it"))
        );
    }
    let setup = args.config.read()?;
    let topic = &setup.config.topics.clickstream;
    let users_of = setup.config.users();
    let mut keys = Vec::with_capacity(ids.len());
    for id in &ids {
        let of_id = users_of.all_of(args.key_type, id);
        keys.push(of_id.map_err(|error| Exit::Usage.because(format!("the id {id:?}: {error}: no event has it")))?);
    }
    let eraser = Eraser::new(&setup.config)?;
    let partitions = eraser.partitions();
    let (users, what) = (ids.len(), args.key_type.as_str());
    let mut out = super::printed::stdout();
    if args.dry_run {
        writeln!(
            out,
            "would ask to erase {users} users (each {what}) in {partitions} partitions of {topic}, nothing was asked:"
        )?;
        for id in ids.iter().take(SHOWN_MAX) {
            writeln!(out, "  {id}")?;
        }
        if users > SHOWN_MAX {
            writeln!(out, "  and {} more", users - SHOWN_MAX)?;
        }
        return Ok(());
    }
    let style = "{human_pos} of {human_len} users  {per_sec}  {elapsed}";
    let style = ProgressStyle::with_template(style).expect("the template is well-formed");
    let bar = ProgressBar::new(users as u64).with_style(style);
    let at_ms = now_ms();
    for of_id in &keys {
        for key in of_id {
            eraser.ask(key.as_bytes(), at_ms)?;
        }
        bar.inc(1);
    }
    eraser.finish()?;
    bar.finish_and_clear();
    writeln!(
        out,
        "asked to erase {users} users (each {what}) in {partitions} partitions of {topic}: workers do it with their next commit; \
         to see that they have: aimpoint erase --verify --user ID"
    )?;
    Ok(())
}

/// The ids of a file, each once.
fn read_ids(path: &Path) -> anyhow::Result<BTreeSet<String>> {
    let doing = || format!("read the ids in {}", path.display());
    let mut ids = BTreeSet::new();
    for (number, line) in BufReader::new(File::open(path).with_context(doing)?).lines().enumerate() {
        let line = line.map_err(|error| Exit::Data.because(format!("{}, line {}: {error}", doing(), number + 1)))?;
        // Programs for tables write a mark in front of the first line. No id begins with one.
        let line = if number == 0 { line.trim_start_matches('\u{feff}') } else { &line };
        let id = line.trim_end_matches('\r');
        if !id.trim().is_empty() {
            ids.insert(id.to_owned());
        }
    }
    if ids.is_empty() { Err(Exit::Data.because(format!("{}: it has none", doing()))) } else { Ok(ids) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_ids_is_read_once_each_and_an_empty_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ids");
        std::fs::write(&path, "ann\r\n\nbob\nann\n c d\n").unwrap();
        let ids: Vec<String> = read_ids(&path).unwrap().into_iter().collect();
        assert_eq!(ids, [" c d", "ann", "bob"]);
        std::fs::write(&path, "\u{feff}ann\r\nbob\r\n \r\n").unwrap();
        assert_eq!(read_ids(&path).unwrap().into_iter().collect::<Vec<_>>(), ["ann", "bob"]);
        std::fs::write(&path, "\n \n").unwrap();
        let error = read_ids(&path).unwrap_err();
        assert!(error.to_string().ends_with("it has none"), "{error}");
        assert_eq!(Exit::of(&error), Exit::Data);
        assert_eq!(Exit::of(&read_ids(&folder.path().join("no")).unwrap_err()), Exit::NoInput);
    }
}
