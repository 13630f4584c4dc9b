//! What is reported of a user, and how it reads.

use crate::{
    event::EventTime,
    privacy::consent::{Activity, ConsentSource},
    profile::{FeatureSpec, HiddenFeature, KeptConsent, OnChange, Said},
};
use bytesize::ByteSize;
use jiff::Timestamp;
use serde::Serialize;
use std::{collections::BTreeMap, io::Write, time::Duration};

/// The report on a user.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct ProfileReport<'a> {
    pub(super) user: &'a str,
    /// The type of the id.
    pub(in crate::cli) key_type: &'static str,
    /// Types of other users with the same id.
    pub(super) other_types: Vec<&'static str>,
    pub(super) topic: String,
    pub(super) partition: i32,
    /// Other partitions with an older profile of this user, which newer events do not reach.
    pub(super) also_in: Vec<i32>,
    /// Partitions from which a profile of the same user was removed, by erasure or by `profile.ttl`.
    pub(super) removed_in: Vec<i32>,
    pub(super) first_event: String,
    pub(in crate::cli) newest_event: String,
    /// The profile includes every event before this input offset.
    pub(in crate::cli) as_of: i64,
    /// The group's committed offset.
    pub(super) committed: i64,
    pub(super) written_at: Option<String>,
    pub(super) age_seconds: Option<f64>,
    pub(super) bytes: usize,
    pub(super) layout: String,
    /// Features without state in the record, because other features wrote it.
    pub(in crate::cli) begin_empty: Vec<String>,
    pub(in crate::cli) features: Vec<FeatureValue>,
    /// The lasting segments that the user was in when the record was written.
    pub(super) memberships: Vec<MembershipShown>,
    /// What is remembered of the user's consent. Absent if consent is not checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) consent: Option<ConsentShown>,
    /// What campaigns count of the user, such as impressions for a frequency cap.
    pub(super) counts: Vec<CountShown>,
    /// What readers were last told. Absent if profiles do not keep it, or if it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) told: Option<ToldShown>,
    /// How many ids of events are remembered as hashes, to tell duplicates.
    pub(super) event_ids: u64,
}

/// What a campaign counts of a user.
#[derive(Debug, Serialize)]
pub(super) struct CountShown {
    /// The first key of the configuration that needs it.
    pub(super) key: String,
    pub(super) aggregate: String,
    /// Of which events.
    pub(super) events: String,
    pub(super) window: String,
    /// As of the user's newest event.
    pub(super) value: Option<f64>,
}

impl CountShown {
    pub(super) fn of((hidden, value): (HiddenFeature, f64)) -> Self {
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
pub(super) struct ToldShown {
    pub(super) at: String,
    /// How long they can use it.
    pub(super) until: String,
    pub(super) prices_micros: Vec<i64>,
}

impl ToldShown {
    pub(super) fn of(words: &[u64]) -> Option<Self> {
        let mut words = words.to_vec();
        let said = (words.len() >= Said::WORDS).then(|| Said::new(&mut words)).filter(Said::is_known)?;
        let prices_micros = said.prices().take_while(|price| *price > 0).collect();
        Some(Self { at: text(said.at()), until: text(said.until()), prices_micros })
    }
}

/// What is remembered of a user's consent.
#[derive(Debug, Serialize)]
pub(super) struct ConsentShown {
    /// What the user's last event permitted.
    pub(super) permits: Vec<&'static str>,
    pub(super) framework: &'static str,
    /// When a TC string was last remembered, and from what.
    pub(super) tcf: Option<(String, &'static str)>,
    /// The same for the laws of the United States.
    pub(super) us: Option<(String, &'static str)>,
    /// The flags of devices that were last remembered.
    pub(super) flags: BTreeMap<&'static str, bool>,
}

impl ConsentShown {
    pub(super) fn of(kept: &KeptConsent) -> Self {
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
pub(super) struct MembershipShown {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) entered_at: String,
    pub(super) expires_at: String,
}

#[derive(Debug, Serialize)]
pub(in crate::cli) struct FeatureValue {
    pub(in crate::cli) name: String,
    /// `None` if missing.
    pub(in crate::cli) value: Option<f64>,
    pub(super) what: String,
}

/// A key type with its indefinite article.
pub(super) fn with_article(name: &str) -> String {
    let article = if name.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {name}")
}

/// A time for people.
pub(super) fn text(time: EventTime) -> String {
    Timestamp::from_microsecond(time.0).map_or_else(|_| time.0.to_string(), |time| time.to_string())
}

/// Writes the report for people.
pub(super) fn print(
    shown: &ProfileReport<'_>,
    interval: Duration,
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
