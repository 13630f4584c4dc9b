//! `aimpoint profile`: shows the stored profile of one user.
//!
//! Guarantees: the values are computed from the record by the engine that `run` uses, and nothing of any other user is shown.
//! Limits: the changelog is written lazily, so the record lags the input by up to `checkpoint.interval`; the report says by how
//! much. All partitions of the changelog are read, since only the producer of the events knows the user's partition.

use super::{ConfigArgs, Exit, check::described};
use crate::{
    app::topics,
    config::Config,
    engine::{Partition, Partitions, Pipeline, PipelineSpec},
    event::{EventTime, KeyType, Record, UserKeys, split_key},
    privacy::consent::{Activity, ConsentSource},
    profile::{FeatureSpec, HiddenFeature, KeptConsent, Layout, OnChange, ProfileEngine, Said},
    source::{Probe, Reader},
    state::{Mark, Unfit, decode_profile, hash_key, is_layout_key},
};
use bytesize::ByteSize;
use clap::Args;
use jiff::Timestamp;
use serde::Serialize;
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

impl UserRecords {
    fn has_profile(&self) -> bool {
        self.records.values().any(|held| held.payload.is_some())
    }
}

/// The report on a user.
#[derive(Debug, Serialize)]
pub(super) struct ProfileReport<'a> {
    user: &'a str,
    /// The type of the id.
    pub(super) key_type: &'static str,
    /// Types of other users with the same id.
    other_types: Vec<&'static str>,
    topic: String,
    partition: i32,
    /// Other partitions with an older profile of this user, which newer events do not reach.
    also_in: Vec<i32>,
    /// Partitions from which a profile of the same user was removed, by erasure or by `profile.ttl`.
    removed_in: Vec<i32>,
    first_event: String,
    pub(super) newest_event: String,
    /// The profile includes every event before this input offset.
    pub(super) as_of: i64,
    /// The group's committed offset.
    committed: i64,
    written_at: Option<String>,
    age_seconds: Option<f64>,
    bytes: usize,
    layout: String,
    /// Features without state in the record, because other features wrote it.
    pub(super) begin_empty: Vec<String>,
    pub(super) features: Vec<FeatureValue>,
    /// The lasting segments that the user was in when the record was written.
    memberships: Vec<MembershipShown>,
    /// What is remembered of the user's consent. Absent if consent is not checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    consent: Option<ConsentShown>,
    /// What campaigns count of the user, such as impressions for a frequency cap.
    counts: Vec<CountShown>,
    /// What readers were last told. Absent if profiles do not keep it, or if it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    told: Option<ToldShown>,
    /// How many ids of events are remembered as hashes, to tell duplicates.
    event_ids: u64,
}

/// What a campaign counts of a user.
#[derive(Debug, Serialize)]
struct CountShown {
    /// The first key of the configuration that needs it.
    key: String,
    aggregate: String,
    /// Of which events.
    events: String,
    window: String,
    /// As of the user's newest event.
    value: Option<f64>,
}

impl CountShown {
    fn of((hidden, value): (HiddenFeature, f64)) -> Self {
        let FeatureSpec { aggregate, filter, window, .. } = hidden.feature;
        Self {
            key: hidden.key,
            aggregate: aggregate.unwrap_or_default(),
            events: filter.unwrap_or_else(|| "true".to_owned()),
            window: window.unwrap_or_default(),
            value: value.is_finite().then_some(value),
        }
    }
}

/// What readers were last told about a user.
#[derive(Debug, Serialize)]
struct ToldShown {
    at: String,
    /// How long they can use it.
    until: String,
    prices_micros: Vec<i64>,
}

impl ToldShown {
    fn of(words: &[u64]) -> Option<Self> {
        let mut words = words.to_vec();
        let said = (words.len() >= Said::WORDS).then(|| Said::new(&mut words)).filter(Said::is_known)?;
        let prices_micros = said.prices().take_while(|price| *price > 0).collect();
        Some(Self { at: text(said.at()), until: text(said.until()), prices_micros })
    }
}

/// What is remembered of a user's consent.
#[derive(Debug, Serialize)]
struct ConsentShown {
    /// What the user's last event permitted.
    permits: Vec<&'static str>,
    framework: &'static str,
    /// When a TC string was last remembered, and from what.
    tcf: Option<(String, &'static str)>,
    /// The same for the laws of the United States.
    us: Option<(String, &'static str)>,
    /// The flags of devices that were last remembered.
    flags: BTreeMap<&'static str, bool>,
}

impl ConsentShown {
    fn of(kept: &KeptConsent) -> Self {
        let verdict = kept.verdict();
        let origin =
            |origin: Option<(i64, ConsentSource)>| origin.map(|(at, source)| (text(EventTime(at)), source.name()));
        Self {
            permits: Activity::ALL
                .into_iter()
                .filter(|it| verdict.permissions.allows(*it))
                .map(Activity::name)
                .collect(),
            framework: verdict.basis.framework.name(),
            tcf: origin(kept.remembered.tcf_origin()),
            us: origin(kept.remembered.us_origin()),
            flags: kept.remembered.flags().into_iter().filter_map(|(name, flag)| Some((name, flag?))).collect(),
        }
    }
}

#[derive(Debug, Serialize)]
struct MembershipShown {
    id: String,
    name: String,
    entered_at: String,
    expires_at: String,
}

#[derive(Debug, Serialize)]
pub(super) struct FeatureValue {
    pub(super) name: String,
    /// `None` if missing.
    pub(super) value: Option<f64>,
    what: String,
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
    print(&shown, config.checkpoint.interval, config.pipeline.profile.on_change, &mut out)
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
    let by = |users: &UserKeys| {
        let keys = KeyType::ALL.map(|ty| users.sought(ty, user).into_owned());
        find(brokers, &client, &topic, keys, key_type)
    };
    let mut found = by(&users)?;
    // While the key of pseudonyms changes, a user who has not moved yet has the former name.
    if let Some(previous) = users.previous().filter(|_| !found.has_profile()) {
        let former = by(&previous)?;
        if former.has_profile() {
            found = former;
        }
    }
    show(user, &topic, &found, &positions, &config.pipeline, pipeline, Timestamp::now().as_millisecond())
}

/// A key type with its indefinite article.
fn with_article(name: &str) -> String {
    let article = if name.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {name}")
}

/// Reads the user's records and the layouts from the changelog. Without a type the id is tried as a person, a device and an app, in
/// this order.
fn find(
    brokers: &str,
    client: &[(String, String)],
    topic: &str,
    keys: [String; KeyType::ALL.len()],
    key_type: Option<KeyType>,
) -> anyhow::Result<UserRecords> {
    let mut layouts = Vec::new();
    let mut all: [BTreeMap<i32, StoredRecord>; KeyType::ALL.len()] = Default::default();
    Reader::read_whole(brokers, client, topic, |_, record, _| {
        let Record { partition, offset, timestamp_ms, key: Some(key), payload, .. } = *record else { return };
        if let Some(of_type) = keys.iter().position(|it| it.as_bytes() == key) {
            let payload = payload.map(<[u8]>::to_vec);
            all[of_type].insert(partition, StoredRecord { partition, offset, timestamp_ms, payload });
        } else if is_layout_key(key) {
            layouts.extend(payload.map(|payload| (partition, key.to_vec(), payload.to_vec())));
        }
    })?;
    Ok(choose(keys, key_type, all, layouts))
}

/// Picks the records of the requested type, or of the first type that has a profile, or had one.
fn choose(
    mut keys: [String; KeyType::ALL.len()],
    key_type: Option<KeyType>,
    mut all: [BTreeMap<i32, StoredRecord>; KeyType::ALL.len()],
    layouts: Vec<(i32, Vec<u8>, Vec<u8>)>,
) -> UserRecords {
    let has_profile = |records: &BTreeMap<i32, StoredRecord>| records.values().any(|held| held.payload.is_some());
    let known = |ty: KeyType| KeyType::ALL.iter().position(|it| *it == ty);
    let chosen = key_type.and_then(known).or_else(|| all.iter().position(has_profile));
    let chosen = chosen.or_else(|| all.iter().position(|records| !records.is_empty())).unwrap_or_default();
    let others = (0..all.len()).filter(|index| *index != chosen && has_profile(&all[*index]));
    UserRecords {
        other_types: others.map(|index| KeyType::ALL[index]).collect(),
        key: std::mem::take(&mut keys[chosen]),
        records: std::mem::take(&mut all[chosen]),
        layouts,
    }
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

fn text(time: EventTime) -> String {
    Timestamp::from_microsecond(time.0).map_or_else(|_| time.0.to_string(), |time| time.to_string())
}

fn print(
    shown: &ProfileReport<'_>,
    interval: std::time::Duration,
    on_change: OnChange,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let interval = crate::duration::display(interval);
    writeln!(out, "user            {}, in partition {} of {}", shown.user, shown.partition, shown.topic)?;
    writeln!(out, "key             of {}", with_article(shown.key_type))?;
    if !shown.other_types.is_empty() {
        let others: Vec<String> = shown.other_types.iter().map(|name| with_article(name)).collect();
        let others = others.join(" and ");
        writeln!(out, "also stored     {others} with the same id, a different user: see --key-type")?;
    }
    if !shown.also_in.is_empty() {
        let text = "the newest record is shown; were partitions added, or was the key of the events changed?";
        writeln!(out, "also stored     in partitions {:?}; {text}", shown.also_in)?;
    }
    if !shown.removed_in.is_empty() {
        writeln!(out, "removed         from partitions {:?}, by erasure or by profile.ttl", shown.removed_in)?;
    }
    writeln!(out, "first event     {}", shown.first_event)?;
    writeln!(out, "newest event    {}; values are as of this time", shown.newest_event)?;
    let written = shown.written_at.as_deref().unwrap_or("at an unknown time");
    let age = shown.age_seconds.map(|age| format!(", {age:.1} s ago")).unwrap_or_default();
    let size = ByteSize::b(shown.bytes as u64).display().si();
    writeln!(out, "written         {written}{age}: {size}, layout {}", shown.layout)?;
    writeln!(out, "complete up to  offset {} of the input; the group has committed {}", shown.as_of, shown.committed)?;
    if shown.committed > shown.as_of {
        writeln!(
            out,
            "{:16}events in between are not included: the profile is written within checkpoint.interval, {interval}",
            ""
        )?;
    }
    if !shown.begin_empty.is_empty() {
        let then = match on_change {
            OnChange::Keep => "a run with this configuration starts them empty as well",
            OnChange::Replay => "a run with this configuration rebuilds them from the retained input",
        };
        writeln!(
            out,
            "other features  wrote the record; it has no state for {}: {then}",
            shown.begin_empty.join(", ")
        )?;
    }
    writeln!(out)?;
    for FeatureValue { name, value, what } in &shown.features {
        let value = value.map_or_else(|| "missing".to_owned(), |value| value.to_string());
        writeln!(out, "{name:<28}{value:>20}  {what}")?;
    }
    if let Some(ConsentShown { permits, framework, tcf, us, flags }) = &shown.consent {
        let permits = if permits.is_empty() { "nothing".to_owned() } else { permits.join(", ") };
        writeln!(out, "\nconsent         the last event permitted {permits} ({})", framework.replace('_', " "))?;
        for (at, source) in tcf.iter().chain(us) {
            writeln!(out, "{:16}remembered from {source} at {at}", "")?;
        }
        for (name, flag) in flags {
            writeln!(out, "{:16}remembered: {name} is {flag}", "")?;
        }
    }
    if !shown.memberships.is_empty() {
        writeln!(out, "\nmember of")?;
        for MembershipShown { id, entered_at, expires_at, .. } in &shown.memberships {
            writeln!(out, "{id:<28}since {entered_at}, until {expires_at} unless an event changes it")?;
        }
    }
    if !shown.counts.is_empty() {
        writeln!(out, "\ncounted for campaigns")?;
        for CountShown { key, aggregate, events, window, value } in &shown.counts {
            let value = value.map_or_else(|| "none".to_owned(), |value| value.to_string());
            writeln!(out, "{key:<28}{value:>20}  {aggregate} within {window} of events with {events}")?;
        }
    }
    if let Some(ToldShown { at, until, prices_micros }) = &shown.told {
        writeln!(out, "\nreaders         were told at {at}, until {until}, prices in micros: {prices_micros:?}")?;
    }
    if shown.event_ids > 0 {
        writeln!(out, "\nevent ids       {} are remembered as hashes, to tell duplicates", shown.event_ids)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{sink::Outbox, status::Counts};

    const SPEC: &str = r#"
        [[feature]]
        name = "seen"
        aggregate = "count"
        window = "forever"

        [[segment]]
        id = "visitor"
        where = "true"
        exit = "false"
        duration = "1d"
    "#;

    fn spec() -> PipelineSpec {
        toml::from_str(SPEC).unwrap()
    }

    fn pipeline() -> Pipeline {
        Pipeline::compile(&spec(), "clickstream").unwrap()
    }

    /// Adds the changelog of a partition where the user `u` has had this many events.
    fn changelog(partition: i32, events: i64, found: &mut UserRecords) {
        of("user_id", partition, events, &mut found.records, &mut found.layouts);
    }

    /// The same, with the id in the field `name`.
    fn of(
        name: &str,
        partition: i32,
        events: i64,
        records: &mut BTreeMap<i32, StoredRecord>,
        layouts: &mut Vec<(i32, Vec<u8>, Vec<u8>)>,
    ) {
        let events: Vec<String> = (0..events).map(|_| format!(r#""event_type":"view","{name}":"u""#)).collect();
        let events: Vec<&str> = events.iter().map(String::as_str).collect();
        write(pipeline(), partition, &events, records, layouts);
    }

    /// The same with these members of events, which name the user unless they do.
    fn write(
        mut pipeline: Pipeline,
        partition: i32,
        events: &[&str],
        records: &mut BTreeMap<i32, StoredRecord>,
        layouts: &mut Vec<(i32, Vec<u8>, Vec<u8>)>,
    ) {
        let mut partitions = Partitions::default();
        partitions.insert(partition, Partition::new(0, 0, None));
        let (mut outbox, mut counts) = (Outbox::default(), Counts::default());
        for (offset, members) in events.iter().enumerate() {
            let user = if members.contains("_id\":\"u\"") { "" } else { r#""user_id":"u","# };
            let at = 1_767_225_600 + offset;
            let payload = format!(r#"{{{user}"event_id":"e{offset}","occurred_at":{at},{members}}}"#);
            let offset = offset as i64;
            let record = Record { partition, offset, payload: Some(payload.as_bytes()), ..Record::default() };
            pipeline.take(&record, &mut partitions, &mut outbox, &mut counts);
            pipeline.run(&mut partitions, EventTime(0), &mut outbox, &mut counts);
        }
        outbox.clear();
        assert_eq!(partitions.write_profiles(partition, true, (10, usize::MAX), pipeline.layout(), &mut outbox), 1);
        for (offset, output) in outbox.all().enumerate() {
            let (key, payload) = (output.key.unwrap(), output.payload.unwrap().to_vec());
            if is_layout_key(key) {
                layouts.push((partition, key.to_vec(), payload));
            } else {
                let held = StoredRecord {
                    partition,
                    offset: offset as i64,
                    timestamp_ms: Some(events.len() as i64),
                    payload: Some(payload),
                };
                records.insert(partition, held);
            }
        }
    }

    fn shown(found: &UserRecords) -> anyhow::Result<ProfileReport<'static>> {
        show("u", "profiles", found, &[], &spec(), &mut pipeline(), 10)
    }

    fn page(shown: &ProfileReport<'_>) -> String {
        let mut page = Vec::new();
        print(shown, std::time::Duration::from_secs(30), OnChange::Keep, &mut page).unwrap();
        String::from_utf8(page).unwrap()
    }

    fn keys() -> [String; KeyType::ALL.len()] {
        KeyType::ALL.map(|ty| crate::event::key_of(ty, "u").into_owned())
    }

    fn found() -> UserRecords {
        UserRecords { records: BTreeMap::new(), key: "u".to_owned(), other_types: Vec::new(), layouts: Vec::new() }
    }

    #[test]
    fn users_of_two_types_with_the_same_id_are_shown_separately() {
        for (asked, seen, other) in [
            (None, ("person", 3.0), "device"),
            (Some(KeyType::Person), ("person", 3.0), "device"),
            (Some(KeyType::Device), ("device", 5.0), "person"),
        ] {
            let (mut all, mut layouts) = (<[BTreeMap<i32, StoredRecord>; 3]>::default(), Vec::new());
            of("user_id", 1, 3, &mut all[0], &mut layouts);
            of("anonymous_id", 1, 5, &mut all[1], &mut layouts);
            let found = choose(keys(), asked, all, layouts);
            let shown = shown(&found).unwrap();
            assert_eq!((shown.key_type, shown.features[0].value), (seen.0, Some(seen.1)), "{asked:?}");
            let page = page(&shown);
            assert!(page.contains(&format!("also stored     {} with the same id", with_article(other))), "{page}");
        }
        // If only one type exists, it is found without naming it.
        let (mut all, mut layouts) = (<[BTreeMap<i32, StoredRecord>; 3]>::default(), Vec::new());
        of("anonymous_id", 1, 5, &mut all[1], &mut layouts);
        let found = choose(keys(), None, all, layouts);
        assert_eq!(shown(&found).unwrap().key_type, "device");
    }

    #[test]
    fn the_segments_that_a_user_is_in_are_shown_with_their_times() {
        let mut found = found();
        changelog(1, 5, &mut found);
        let page = page(&shown(&found).unwrap());
        let expected =
            "visitor                     since 2026-01-01T00:00:00Z, until 2026-01-02T00:00:04Z unless an event";
        assert!(page.contains(expected), "{page}");
    }

    #[test]
    fn frequency_caps_flags_and_event_ids_are_shown() {
        let text = format!(
            "{SPEC}\n{}",
            r#"
            [duplicates]
            horizon = "1h"

            [consent]
            enabled = true
            vendor_id = 1
            country_default = "BR"
            without_law = ["write", "score", "emit", "measure", "train"]

            [[campaign]]
            id = "spring"
            value = 2.0
            ceiling = 5.0
            currency = "EUR"
            caps = [{ max = 5, per = "day" }]
            recency = "10m"
            "#
        );
        let spec: PipelineSpec = toml::from_str(&text).unwrap();
        let pipeline = || Pipeline::compile(&spec, "clickstream").unwrap();
        let mut found = found();
        let events = [
            r#""event_type":"consent","consent":{"gpc":false}"#,
            r#""event_type":"impression","ad":{"campaign_id":"spring"}"#,
            r#""event_type":"impression","ad":{"campaign_id":"spring"}"#,
            r#""event_type":"impression","ad":{"campaign_id":"summer"}"#,
        ];
        write(pipeline(), 1, &events, &mut found.records, &mut found.layouts);
        let shown = show("u", "profiles", &found, &[], &spec, &mut pipeline(), 10).unwrap();
        let counts: Vec<_> = shown.counts.iter().map(|it| (it.key.as_str(), it.value)).collect();
        assert_eq!(counts, [("campaign[0].caps[0]", Some(2.0)), ("campaign[0].recency", Some(1.0))]);
        assert!(shown.counts[0].events.contains(r#"ad.campaign_id == "spring""#), "{:?}", shown.counts);
        assert_eq!(shown.event_ids, 4);
        let page = page(&shown);
        for part in [
            "campaign[0].caps[0]                            2  count within 87600s of events with event_type == \"impression\"",
            "remembered: gpc is false",
            "event ids       4 are remembered as hashes",
        ] {
            assert!(page.contains(part), "{part}: {page}");
        }
    }

    #[test]
    fn a_user_in_two_partitions_is_shown_from_the_newest_record_and_the_other_is_mentioned() {
        let mut found = found();
        changelog(1, 5, &mut found);
        changelog(3, 2, &mut found);
        let shown = shown(&found).unwrap();
        assert_eq!(
            (shown.partition, shown.also_in.as_slice(), shown.features[0].value),
            (1, [3].as_slice(), Some(5.0))
        );
        let page = page(&shown);
        assert!(
            page.contains("u, in partition 1 of profiles") && page.contains("also stored     in partitions [3]"),
            "{page}"
        );
    }

    #[test]
    fn a_removed_user_is_distinguished_from_an_unknown_one_and_from_one_in_another_partition() {
        let mut found = found();
        assert!(shown(&found).unwrap_err().to_string().contains("has no profile of this user"));
        let tombstone = StoredRecord { partition: 1, offset: 9, timestamp_ms: Some(9), payload: None };
        found.records.insert(1, tombstone);
        assert!(shown(&found).unwrap_err().to_string().contains("the profile was removed"));
        changelog(3, 2, &mut found);
        let shown = shown(&found).unwrap();
        assert_eq!((shown.partition, shown.also_in.len(), shown.features[0].value), (3, 0, Some(2.0)));
        assert_eq!(shown.removed_in, [1]);
        let page = page(&shown);
        assert!(page.contains("removed         from partitions [1], by erasure or by profile.ttl"), "{page}");
    }
}
