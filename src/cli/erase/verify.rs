//! `aimpoint erase --verify`: what the topics still have of a user, where, and when it goes.

use super::{
    EraseArgs,
    record::{self, Entry, Key, Place},
};
use crate::{
    app::now_ms,
    cli::{
        Exit,
        held::{self, Held, Holding, Note, Standing, TopicKind, TopicRead},
    },
    event::{ERASE_HEADER, EventTime},
};
use jiff::Timestamp;
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
};

/// How many places are printed for each topic and standing.
const PLACES_MAX: usize = 5;

/// The result.
#[derive(Debug, Serialize)]
struct Report<'a> {
    user: &'a str,
    key_type: &'static str,
    verified_at: String,
    /// Whether nothing in use has the id, and no partition has yet to erase the user.
    is_absent: bool,
    topics: &'a [TopicRead],
    /// The records with the id.
    found: &'a [Holding],
    /// By partition: since when the user counts as erased.
    erased: &'a [Note],
    /// How many partitions there are.
    partitions: usize,
    /// Those that were asked to erase the user, and have not.
    owed: BTreeSet<i32>,
}

pub(super) fn run(args: &EraseArgs, user: &str) -> anyhow::Result<()> {
    let setup = args.config.read()?;
    // Before the topics are read, which may take long.
    let record =
        args.record.as_deref().map(|path| Ok::<_, anyhow::Error>((path, Key::read(args.record_key.as_deref())?)));
    let record = record.transpose()?;
    let held = held::read(&setup.config, user, args.key_type)?;
    let verified_at = text(now_ms() * 1_000);
    let is_absent = is_absent(&held);
    let mut out = crate::cli::printed::stdout();
    if args.json {
        let report = Report {
            user,
            key_type: args.key_type.as_str(),
            verified_at: verified_at.clone(),
            is_absent,
            topics: &held.topics,
            found: &held.holdings,
            erased: &held.notes,
            partitions: held.partitions,
            owed: owed(&held),
        };
        serde_json::to_writer_pretty(&mut out, &report)?;
        writeln!(out)?;
    } else {
        print(&held, is_absent, &mut out)?;
    }
    if let Some((path, key)) = record {
        let places = held.topics.iter().map(|read| place(read, &held.holdings)).collect();
        let erased_at = held.notes.iter().map(|note| note.erased_at).max().map(text);
        let subject = key.pseudonym(setup.config.users().sought(args.key_type, user).as_bytes());
        record::append(path, &key, Entry { at: verified_at, subject, is_absent, erased_at, places })?;
        if !args.json {
            writeln!(out, "recorded in {}", path.display())?;
        }
    }
    if is_absent {
        return Ok(());
    }
    Err(Exit::Held.because("verify the erasure: something about the user is still held, see above"))
}

/// Whether nothing in use has the id, and each partition that was asked to erase the user has done so.
fn is_absent(held: &Held) -> bool {
    owed(held).is_empty() && held.holdings.iter().all(|it| it.standing != Standing::Held)
}

/// The partitions that have a request to erase the user and have not done so. An event that asks for it does so in its own
/// partition, which has all of the user's events.
fn owed(held: &Held) -> BTreeSet<i32> {
    let is_request =
        |it: &&Holding| it.kind == TopicKind::Input && it.headers.iter().any(|(name, _)| name == ERASE_HEADER);
    let asked = held.holdings.iter().filter(is_request).map(|it| it.partition);
    asked.filter(|partition| held.notes.iter().all(|note| note.partition != *partition)).collect()
}

/// What a record keeps of a topic.
fn place(read: &TopicRead, holdings: &[Holding]) -> Place {
    let count =
        |standing| holdings.iter().filter(|it| it.topic == read.topic && it.standing == standing).count() as u64;
    Place {
        topic: read.topic.clone(),
        records: read.records,
        held: count(Standing::Held),
        superseded: count(Standing::Superseded),
        input: count(Standing::Input),
    }
}

fn print(held: &Held, is_absent: bool, out: &mut impl Write) -> io::Result<()> {
    for read in &held.topics {
        writeln!(out, "{:<32}{} records in {} partitions", read.topic, read.records, read.partitions)?;
        let mut by_standing = BTreeMap::<u8, Vec<&Holding>>::new();
        for it in held.holdings.iter().filter(|it| it.topic == read.topic) {
            by_standing.entry(it.standing as u8).or_default().push(it);
        }
        for found in by_standing.values() {
            let (standing, count) = (found[0].standing, found.len());
            let what = match standing {
                Standing::Held => "still has the id",
                Standing::Superseded => "has the id, and is replaced",
                Standing::Input => "has the id: an event, or a request to erase the user",
            };
            writeln!(out, "  {count} {what}")?;
            for it in found.iter().take(PLACES_MAX) {
                let Holding { partition, offset, found_in, timestamp_ms, .. } = it;
                let goes = read.goes(standing, *timestamp_ms);
                writeln!(out, "    partition {partition} offset {offset}, in its {found_in}; goes {goes}")?;
            }
            if count > PLACES_MAX {
                writeln!(out, "    and {} more: see --json", count - PLACES_MAX)?;
            }
        }
    }
    match (held.notes.iter().map(|note| note.erased_at).max(), held.notes.len()) {
        (None, _) => writeln!(out, "no partition remembers an erasure of this user")?,
        (Some(at), count) if count == held.partitions => {
            writeln!(out, "erased at {}, in all {count} partitions", text(at))?;
        }
        (Some(at), count) => writeln!(out, "erased at {}, in {count} of {} partitions", text(at), held.partitions)?,
    }
    let owed = owed(held);
    if !owed.is_empty() {
        writeln!(
            out,
            "partitions {owed:?} were asked and have not erased the user: are all workers running, and have they caught up?"
        )?;
    }
    let result = if is_absent { "nothing in use has the id" } else { "something about the user is still held" };
    writeln!(out, "result: {result}")
}

fn text(micros: i64) -> String {
    Timestamp::from_microsecond(micros).map_or_else(|_| EventTime(micros).date(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(standings: &[Standing], notes: usize) -> Held {
        let holding = |standing: &Standing| Holding {
            topic: "dead-letter".to_owned(),
            kind: TopicKind::Log,
            partition: 1,
            offset: 7,
            timestamp_ms: Some(1_700_000_000_000),
            found_in: "value",
            standing: *standing,
            payload: None,
            headers: Vec::new(),
        };
        let read = TopicRead {
            topic: "dead-letter".to_owned(),
            kind: TopicKind::Log,
            partitions: 3,
            records: 12,
            cleanup: Some("delete".to_owned()),
            retention_ms: Some(1_000),
        };
        Held {
            topics: vec![read],
            holdings: standings.iter().map(holding).collect(),
            notes: (0..notes).map(|partition| Note { partition: partition as i32, erased_at: 70 }).collect(),
            choices: Vec::new(),
            partitions: 3,
        }
    }

    #[test]
    fn a_user_is_absent_if_nothing_in_use_has_the_id_and_no_partition_lags() {
        use Standing::{Held as InUse, Input, Superseded};
        // With as many requests, each in a partition of its own.
        for (standings, notes, requests, expected) in [
            (&[][..], 0, 0, true),
            (&[Superseded, Input], 3, 3, true),
            (&[Superseded, Input], 2, 3, false),
            (&[Superseded, Input], 0, 3, false),
            // By an event, the partition that has it erases the user.
            (&[Superseded, Input], 1, 0, true),
            (&[InUse], 3, 3, false),
            (&[InUse], 0, 0, false),
        ] {
            let mut held = held(standings, notes);
            let request = |partition| Holding {
                kind: TopicKind::Input,
                partition,
                headers: vec![(ERASE_HEADER.to_owned(), "1".to_owned())],
                ..self::held(&[Input], 0).holdings.remove(0)
            };
            held.holdings.extend((0..requests).map(request));
            assert_eq!(is_absent(&held), expected, "{standings:?} {notes} {requests}");
            assert_eq!(owed(&held).len(), (requests as usize).saturating_sub(notes));
        }
    }

    #[test]
    fn the_report_says_where_the_id_is_and_when_it_goes() {
        let mut out = Vec::new();
        print(&held(&[Standing::Held; 7], 2), false, &mut out).unwrap();
        let out = String::from_utf8(out).unwrap();
        for part in [
            "12 records in 3 partitions",
            "7 still has the id",
            "partition 1 offset 7, in its value; goes by retention, after 2023-11-14T22:13:21Z",
            "and 2 more",
            "in 2 of 3 partitions",
            "result: something about the user is still held",
        ] {
            assert!(out.contains(part), "{part}: {out}");
        }
    }
}
