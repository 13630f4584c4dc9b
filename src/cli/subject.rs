//! `aimpoint subject`: everything that is held about a person, with sources and times, as JSON or as one readable page.
//!
//! Guarantees: every record that has the id is shown, with topic, partition, offset and time, and so is the profile with its
//! features in words; nothing of any other user is read out, except what stands in the same record. Limits: those of
//! [`super::held`]; and the profile lags the input by up to `checkpoint.interval`.

mod html;

use super::{
    ConfigArgs,
    held::{self, Holding, KeptChoice, Note, Standing, TopicKind, TopicRead},
    profile::{self, ProfileReport},
};
use crate::{
    event::KeyType,
    partial::PartialFile,
    proto::{v1, without_header},
};
use anyhow::Context;
use clap::Args;
use jiff::Timestamp;
use prost::Message;
use serde::Serialize;
use serde_json::Value;
use std::{collections::BTreeMap, io::Write, path::PathBuf};

/// Show everything that is held about a user, with sources and times
#[derive(Args, Clone, Debug)]
pub(super) struct SubjectArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The user's id: `user_id`, or `anonymous_id` if the events have no `user_id`
    #[arg(long, value_name = "ID", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    user: String,
    /// The type of the id: a `user_id` is a person and an `anonymous_id` a device, unless the events say otherwise
    #[arg(long, value_enum, value_name = "TYPE", default_value_t)]
    key_type: KeyType,
    /// Write a readable page to this file instead of JSON to standard output
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// Everything that is held about a user.
#[derive(Debug, Serialize)]
struct Subject<'a> {
    user: &'a str,
    key_type: &'static str,
    read_at: String,
    /// The stored profile.
    profile: Option<ProfileReport<'a>>,
    /// Why it is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    no_profile: Option<String>,
    /// By partition: since when the user counts as erased.
    erased: &'a [Note],
    /// By partition: a refusal that is kept although the profile has expired.
    #[serde(skip_serializing_if = "<[KeptChoice]>::is_empty")]
    refused: &'a [KeptChoice],
    records: Vec<HeldRecord<'a>>,
    /// What was read.
    topics: &'a [TopicRead],
}

/// A record with the id.
#[derive(Debug, Serialize)]
struct HeldRecord<'a> {
    topic: &'a str,
    kind: TopicKind,
    partition: i32,
    offset: i64,
    written_at: Option<String>,
    found_in: &'static str,
    standing: Standing,
    /// When it goes.
    goes: String,
    headers: BTreeMap<&'a str, &'a str>,
    /// As JSON if it can be read, as text if it is that, and otherwise as hexadecimal digits; absent for a null.
    content: Option<Value>,
}

pub(super) fn run(args: &SubjectArgs) -> anyhow::Result<()> {
    let setup = args.config.read()?;
    let mut pipeline = setup.pipeline(false)?;
    let held = held::read(&setup.config, &args.user, args.key_type)?;
    let looked_up = profile::look_up(&setup.config, &mut pipeline, &args.user, Some(args.key_type));
    let (profile, no_profile) = match looked_up {
        Ok(profile) => (Some(profile), None),
        Err(error) => (None, Some(format!("{error:#}"))),
    };
    let subject = Subject {
        user: &args.user,
        key_type: args.key_type.as_str(),
        read_at: Timestamp::now().to_string(),
        profile,
        no_profile,
        erased: &held.notes,
        refused: &held.choices,
        records: held.holdings.iter().map(|it| record(it, &held.topics)).collect(),
        topics: &held.topics,
    };
    let Some(path) = &args.html else {
        let mut out = super::printed::stdout();
        serde_json::to_writer_pretty(&mut out, &subject)?;
        writeln!(out)?;
        return Ok(());
    };
    let doing = || format!("write the page to {}", path.display());
    let mut file = PartialFile::create_private(path).with_context(doing)?;
    file.write_all(html::page(&subject).as_bytes()).with_context(doing)?;
    file.finish().with_context(doing)?;
    writeln!(
        super::printed::stdout(),
        "wrote {} records about {} to {}",
        subject.records.len(),
        args.user,
        path.display()
    )?;
    Ok(())
}

fn record<'a>(it: &'a Holding, topics: &[TopicRead]) -> HeldRecord<'a> {
    let Holding { topic, kind, partition, offset, timestamp_ms, found_in, standing, payload, headers } = it;
    let read = topics.iter().find(|read| read.topic == *topic);
    HeldRecord {
        topic,
        kind: *kind,
        partition: *partition,
        offset: *offset,
        written_at: timestamp_ms.and_then(|ms| Some(Timestamp::from_millisecond(ms).ok()?.to_string())),
        found_in,
        standing: *standing,
        goes: read.map_or_else(String::new, |read| read.goes(*standing, *timestamp_ms)),
        headers: headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect(),
        content: payload.as_deref().map(|payload| content(*kind, payload)),
    }
}

/// A payload in a form for people.
fn content(kind: TopicKind, payload: &[u8]) -> Value {
    if let Ok(value) = serde_json::from_slice(payload) {
        return value;
    }
    let decision = || v1::Decision::decode(without_header(payload)?).ok();
    if kind == TopicKind::Decisions
        && let Some(decision) = decision()
        && let Ok(value) = serde_json::to_value(&decision)
    {
        return value;
    }
    match std::str::from_utf8(payload) {
        Ok(text) if !text.contains(char::is_control) => text.into(),
        _ => format!("{} bytes: {}", payload.len(), crate::hex::encode(payload)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_shown_in_the_clearest_form() {
        assert_eq!(content(TopicKind::Log, br#"{"a":1}"#), serde_json::json!({"a": 1}));
        assert_eq!(content(TopicKind::Log, b"garbage"), Value::from("garbage"));
        assert_eq!(content(TopicKind::Log, &[0xff, 1]), Value::from("2 bytes: ff01"));
        let decision =
            v1::Decision { decision_id: "d1".to_owned(), user_key: "ann".to_owned(), ..v1::Decision::default() };
        let shown = content(TopicKind::Decisions, &decision.encode_to_vec());
        assert_eq!((shown["decision_id"].as_str(), shown["user_key"].as_str()), (Some("d1"), Some("ann")));
    }
}
