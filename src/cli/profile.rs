//! `aimpoint profile`: shows the stored profile of one user.
//!
//! Guarantees: the values are computed from the record by the engine that `run` uses, and nothing of any other user is shown.
//! Limits: the changelog is written lazily, so the record lags the input by up to `checkpoint.interval`; the report says by how
//! much. All partitions of the changelog are read, since only the producer of the events knows the user's partition.

mod report;

pub(super) use report::ProfileReport;

use super::{ConfigArgs, Exit, check::described};
use crate::{
    app::topics,
    config::Config,
    engine::{Partition, Partitions, Pipeline, PipelineSpec},
    event::{EventTime, KeyType, Record, UserKeys, split_key},
    profile::{FeatureSpec, KeptConsent, Layout, ProfileEngine},
    source::{Probe, Reader},
    state::{Mark, Unfit, decode_profile, hash_key, is_layout_key},
};
use clap::Args;
use jiff::Timestamp;
use report::{ConsentShown, CountShown, FeatureValue, MembershipShown, ToldShown, text};
use std::{collections::BTreeMap, io::Write};

/// Show the stored profile of a user
#[derive(Args, Clone, Debug)]
pub(super) struct ProfileArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The user's id: `user_id`, or `anonymous_id` if the events have no `user_id`
    #[arg(long, value_name = "ID", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    user: String,
    /// The type of the id, if users of several types share it: a `user_id` is a person and an `anonymous_id` a device, unless
    /// the events say otherwise
    #[arg(long, value_enum, value_name = "TYPE")]
    key_type: Option<KeyType>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// A record of the changelog.
struct StoredRecord {
    partition: i32,
    offset: i64,
    timestamp_ms: Option<i64>,
    payload: Option<Vec<u8>>,
}

/// What the changelog has under one key.
#[derive(Default)]
struct Keyed {
    key: String,
    /// The newest record per partition.
    records: BTreeMap<i32, StoredRecord>,
}

impl Keyed {
    fn has_profile(&self) -> bool {
        self.records.values().any(|held| held.payload.is_some())
    }
}

/// The keys of an id, by type, with what the changelog has under each.
type KeyedByType = [Keyed; KeyType::ALL.len()];

/// The changelog records that concern a user.
struct UserRecords {
    /// The newest record per partition: several if the topic was repartitioned.
    records: BTreeMap<i32, StoredRecord>,
    /// The key of the records.
    key: String,
    /// Key types of other users with the same id.
    other_types: Vec<KeyType>,
    /// The layouts: partition, key and payload.
    layouts: Vec<(i32, Vec<u8>, Vec<u8>)>,
}

pub(super) fn run(args: &ProfileArgs) -> anyhow::Result<()> {
    let setup = args.config.read()?;
    let mut pipeline = setup.pipeline(false)?;
    let shown = look_up(&setup.config, &mut pipeline, &args.user, args.key_type)?;
    let mut out = super::printed::stdout();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &shown)?;
        writeln!(out)?;
        return Ok(());
    }
    let config = &setup.config;
    report::print(&shown, config.checkpoint.interval, config.pipeline.profile.on_change, &mut out)
}

/// Reads a user's profile from the changelog.
///
/// # Errors
/// No broker responds, there is no changelog, or it has no profile of the user that these features can read.
pub(super) fn look_up<'a>(
    config: &Config,
    pipeline: &mut Pipeline,
    user: &'a str,
    key_type: Option<KeyType>,
) -> anyhow::Result<ProfileReport<'a>> {
    let topic = config.profiles_topic();
    let Some(partitions) = topics::client(config)?.partitions(&topic)? else {
        return Err(topics::Unfit(vec![format!(
            "the topic {topic:?} does not exist, so no profiles are stored; is app.name the same as that of the running process?"
        )])
        .into());
    };
    let client = config.kafka.consumer_settings();
    let brokers = &config.kafka.brokers;
    let partitions = partitions as i32;
    let probe = Probe::new(brokers, &client, config.group(), &config.topics.clickstream, partitions)?;
    let positions = probe.positions()?;
    let users = config.users();
    let keys = |users: &UserKeys| {
        KeyType::ALL.map(|ty| Keyed { key: users.sought(ty, user).into_owned(), ..Keyed::default() })
    };
    let former = users.previous().map(|previous| keys(&previous));
    let found = find(brokers, &client, &topic, keys(&users), former, key_type)?;
    show(user, &topic, &found, &positions, &config.pipeline, pipeline, Timestamp::now().as_millisecond())
}

/// Reads the user's records and the layouts from the changelog.
fn find(
    brokers: &str,
    client: &[(String, String)],
    topic: &str,
    mut present: KeyedByType,
    mut former: Option<KeyedByType>,
    key_type: Option<KeyType>,
) -> anyhow::Result<UserRecords> {
    let mut layouts = Vec::new();
    Reader::read_whole(brokers, client, topic, |_, record, _| {
        let Record { partition, offset, timestamp_ms, key: Some(key), payload, .. } = *record else { return };
        let mut all = present.iter_mut().chain(former.iter_mut().flatten());
        if let Some(of_key) = all.find(|it| it.key.as_bytes() == key) {
            let payload = payload.map(<[u8]>::to_vec);
            of_key.records.insert(partition, StoredRecord { partition, offset, timestamp_ms, payload });
        } else if is_layout_key(key) {
            layouts.extend(payload.map(|payload| (partition, key.to_vec(), payload.to_vec())));
        }
    })?;
    Ok(choose(present, former, key_type, layouts))
}

/// Picks the records of the requested type, or of the first type that has a profile, or had one. While the key of pseudonyms
/// changes, a user who has not moved yet has the former name.
fn choose(
    mut all: KeyedByType,
    former: Option<KeyedByType>,
    key_type: Option<KeyType>,
    layouts: Vec<(i32, Vec<u8>, Vec<u8>)>,
) -> UserRecords {
    for (present, former) in all.iter_mut().zip(former.into_iter().flatten()) {
        if former.has_profile() && !present.has_profile() {
            *present = former;
        }
    }
    let known = |ty: KeyType| KeyType::ALL.iter().position(|it| *it == ty);
    let chosen = key_type.and_then(known).or_else(|| all.iter().position(Keyed::has_profile));
    let chosen = chosen.or_else(|| all.iter().position(|it| !it.records.is_empty())).unwrap_or_default();
    let others = (0..all.len()).filter(|index| *index != chosen && all[*index].has_profile());
    let other_types = others.map(|index| KeyType::ALL[index]).collect();
    let Keyed { key, records } = std::mem::take(&mut all[chosen]);
    UserRecords { records, key, other_types, layouts }
}

/// Restores the profile as a worker would, and computes the features.
fn show<'a>(
    user: &'a str,
    topic: &str,
    found: &UserRecords,
    positions: &[(i32, i64, String)],
    spec: &PipelineSpec,
    pipeline: &mut Pipeline,
    now_ms: i64,
) -> anyhow::Result<ProfileReport<'a>> {
    let key = found.key.as_bytes();
    let newest = found.records.values().max_by_key(|held| (held.payload.is_some(), held.timestamp_ms));
    let Some(held) = newest else {
        return Err(Exit::NoUser.because(format!(
            "find user {user:?}: {topic:?} has no profile of this user; a user whose first event came less than \
             checkpoint.interval ago is not in it yet"
        )));
    };
    let Some(payload) = held.payload.as_deref() else {
        let message = format!("find user {user:?}: the profile was removed, by erasure or by profile.ttl");
        return Err(Exit::NoUser.because(message));
    };
    let unusable = |why: Unfit| {
        let (at, why) = (format!("{topic}/{}/{}", held.partition, held.offset), why.as_str());
        Exit::Data.because(format!(
            "read the profile of {user:?}: the record at {at} cannot be used: {why}; the next process that is assigned the \
             partition rebuilds it from the input"
        ))
    };
    let record = decode_profile(key, payload).map_err(unusable)?;
    let position = positions.iter().find(|(partition, ..)| *partition == held.partition);
    let mark = position.and_then(|(.., metadata)| Mark::parse(metadata)).map(|(mark, _)| mark);
    if let Some(mark) = mark
        && record.history != mark.generation
    {
        return Err(Exit::NoUser.because(format!(
            "find user {user:?}: the profiles of partition {} are being rebuilt from the input, and this one is not ready yet",
            held.partition
        )));
    }
    let layout = pipeline.layout().clone();
    let mut partitions = Partitions::default();
    partitions.insert(held.partition, Partition::new(0, i64::MAX, None).of_generation(record.history));
    let restored = |key, payload| Record { partition: held.partition, key, payload, ..Record::default() };
    for (_, key, payload) in found.layouts.iter().filter(|(partition, ..)| *partition == held.partition) {
        partitions.restore(&restored(Some(key), Some(payload)), pipeline.profile());
    }
    partitions.restore(&restored(Some(key), Some(payload)), pipeline.profile());
    let other = found.layouts.iter().filter_map(|(.., payload)| Layout::decode(payload));
    let other = other.into_iter().find(|it| it.id() == record.layout);
    let recovered = partitions.restored(held.partition, pipeline.profile());
    if let Some((_, why)) = recovered.and_then(|it| it.first_unfit).filter(|(_, why)| *why != Unfit::Layout) {
        return Err(unusable(why));
    }
    let whole = recovered.is_some_and(|it| it.is_whole());
    let words = partitions.get(held.partition).and_then(|it| it.store().get(hash_key(key), key)).filter(|_| whole);
    let Some(words) = words else {
        return Err(Exit::Config.because(format!(
            "read the profile of {user:?}: it was written with other features (layout {}, but this configuration has \
             {}), which the changelog does not describe; use the configuration that it was written with",
            record.layout,
            layout.id()
        )));
    };
    let begin_empty = match other.filter(|_| record.layout != layout.id()) {
        Some(other) => missing(&other, spec),
        None => Vec::new(),
    };
    let values = pipeline.read(&words);
    let (first, newest) = ProfileEngine::seen(&words);
    let places = pipeline.profile().memberships();
    let memberships = pipeline.segments().memberships_in(words.get(places).unwrap_or_default());
    let memberships = memberships.map(|(segment, membership)| MembershipShown {
        id: segment.id.clone(),
        name: segment.name.clone(),
        entered_at: text(membership.entered_at),
        expires_at: text(membership.expires_at),
    });
    let memberships = memberships.collect();
    let kept = words.get(pipeline.profile().consent()).filter(|kept| !kept.is_empty());
    let consent = kept.map(|kept| ConsentShown::of(&KeptConsent::read(kept)));
    let others = found.records.values().filter(|it| it.partition != held.partition);
    let (also_in, removed_in): (Vec<_>, Vec<_>) = others.partition(|it| it.payload.is_some());
    let numbers = |records: Vec<&StoredRecord>| records.into_iter().map(|it| it.partition).collect();
    let features = pipeline.features().iter().zip(values).map(|(feature, value)| FeatureValue {
        what: declared(&feature.name, &spec.features).map(described).unwrap_or_default(),
        name: feature.name.clone(),
        value: value.is_finite().then_some(value),
    });
    Ok(ProfileReport {
        user,
        key_type: split_key(&found.key).0.as_str(),
        other_types: found.other_types.iter().map(|ty| ty.as_str()).collect(),
        topic: topic.to_owned(),
        partition: held.partition,
        also_in: numbers(also_in),
        removed_in: numbers(removed_in),
        first_event: text(first),
        newest_event: text(newest),
        as_of: record.as_of,
        committed: position.map_or(record.as_of, |(_, next, _)| *next),
        written_at: held.timestamp_ms.map(|ms| text(EventTime(ms * 1_000))),
        age_seconds: held.timestamp_ms.map(|ms| (now_ms - ms).max(0) as f64 / 1e3),
        bytes: record.state.len(),
        layout: record.layout.clone(),
        begin_empty,
        features: features.collect(),
        memberships,
        consent,
        counts: pipeline.read_hidden(&words).into_iter().map(CountShown::of).collect(),
        told: words.get(pipeline.profile().said()).and_then(ToldShown::of),
        event_ids: ProfileEngine::remembered_ids(&words),
    })
}

/// The layout of a feature on its own; `None` if the feature is derived from others.
pub(super) fn alone(feature: &FeatureSpec, spec: &PipelineSpec) -> Option<Layout> {
    let features = vec![feature.clone()];
    let alone = PipelineSpec {
        features,
        segments: Vec::new(),
        campaigns: Vec::new(),
        creatives: Vec::new(),
        label: None,
        ..spec.clone()
    };
    Pipeline::compile(&alone, "").ok().map(|alone| alone.layout().clone())
}

/// The features for which a profile of this layout has no state, or only part of it.
fn missing(layout: &Layout, spec: &PipelineSpec) -> Vec<String> {
    let is_held = |feature: &&FeatureSpec| alone(feature, spec).is_some_and(|alone| layout.holds(&alone));
    // A derived feature has no state of its own.
    let kept = spec.features.iter().filter(|feature| feature.expression.is_none());
    kept.filter(|feature| !is_held(feature)).map(|feature| feature.name.clone()).collect()
}

/// The declaration of a feature column. Some declarations produce several columns, `name_…`.
fn declared<'a>(name: &str, features: &'a [FeatureSpec]) -> Option<&'a FeatureSpec> {
    let is_of = |feature: &&FeatureSpec| {
        name.strip_prefix(&feature.name).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
    };
    features.iter().filter(is_of).max_by_key(|feature| feature.name.len())
}

#[cfg(test)]
mod tests;
