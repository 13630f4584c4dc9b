//! `aimpoint why`: why a user's last decision is as it is, in words.
//!
//! Guarantees: the decision is shown as it was written; nothing of any other user is read out. Limits: rules are those of
//! this configuration, which may be newer than the decision, and values are those of the stored profile, which lags the
//! input by up to `checkpoint.interval` and may include later events. All partitions of the decisions topic are read,
//! since only the producer of the events knows the user's partition. Only the formats
//! json and protobuf have all that an explanation needs.

mod decision;

use super::{ConfigArgs, Exit, profile};
use crate::{
    app::topics,
    config::Config,
    engine::{Pipeline, PipelineSpec},
    event::{EventTime, KeyType, Record},
    source::Reader,
    targeting::{AudienceSpec, campaign::CampaignSpec},
};
use clap::Args;
use jiff::Timestamp;
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
};

use decision::ReadConsent;
pub(super) use decision::{ReadCreative, ReadDecision, ReadOffer};

/// Explain a user's last decision in words
#[derive(Args, Clone, Debug)]
pub(super) struct WhyArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The user's id: `user_id`, or `anonymous_id` if the events have no `user_id`
    #[arg(long, value_name = "ID", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    user: String,
    /// The type of the id, if users of several types share it
    #[arg(long, value_enum, value_name = "TYPE")]
    key_type: Option<KeyType>,
}

pub(super) fn run(args: &WhyArgs) -> anyhow::Result<()> {
    let setup = args.config.read()?;
    let config = &setup.config;
    if let Some(why) = config.pipeline.decision.format.unreadable() {
        return Err(Exit::Config.because(format!("decision.format: it cannot be explained: {why}")));
    }
    let mut pipeline = setup.pipeline(false)?;
    let decision = last_decision(config, &args.user, args.key_type)?;
    // Without the profile, the decision itself can still be explained.
    let values = match profile::look_up(config, &mut pipeline, &args.user, args.key_type) {
        Ok(shown) => Ok(shown.features.into_iter().map(|feature| (feature.name, feature.value)).collect()),
        Err(error) => Err(format!("{error:#}")),
    };
    let mut out = super::printed::stdout();
    print(&decision, &values, &config.pipeline, &pipeline, &mut out)?;
    Ok(())
}

/// Reads the user's last decision.
///
/// # Errors
/// No broker responds, there is no topic, it has no decision about the user, or the last one cannot be read.
fn last_decision(config: &Config, user: &str, key_type: Option<KeyType>) -> anyhow::Result<ReadDecision> {
    let topic = &config.topics.decisions;
    if topics::client(config)?.partitions(topic)?.is_none() {
        return Err(
            topics::Unfit(vec![format!("the topic {topic:?} does not exist, so there are no decisions")]).into()
        );
    }
    let types: Vec<KeyType> = key_type.map_or_else(|| KeyType::ALL.to_vec(), |key_type| vec![key_type]);
    let users = config.users();
    let keys: Vec<Vec<String>> = types.iter().map(|ty| users.all_sought(*ty, user)).collect();
    let mut last: BTreeMap<&str, (i64, Option<Vec<u8>>)> = BTreeMap::new();
    Reader::read_whole(&config.kafka.brokers, &config.kafka.consumer_settings(), topic, |_, record, _| {
        let Record { timestamp_ms, key: Some(key), payload, .. } = *record else { return };
        let at = timestamp_ms.unwrap_or_default();
        if let Some(known) = keys.iter().flatten().find(|it| it.as_bytes() == key)
            && last.get(known.as_str()).is_none_or(|(before, _)| at >= *before)
        {
            last.insert(known, (at, payload.map(<[u8]>::to_vec)));
        }
    })?;
    // A null for a former name, which the user has left, says nothing about the present one.
    let mut of_type = |keys: &Vec<String>| {
        let all = keys.iter().filter_map(|key| last.remove(key.as_str()));
        all.max_by_key(|(at, payload)| (payload.is_some(), *at))
    };
    match keys.iter().filter_map(&mut of_type).max_by_key(|(at, _)| *at) {
        None => Err(Exit::NoUser.because(format!("find user {user:?}: {topic:?} has no decision about this user"))),
        Some((_, None)) => {
            Err(Exit::NoUser.because(format!("find user {user:?}: the decisions about this user were erased")))
        }
        Some((_, Some(payload))) => ReadDecision::read(&payload)
            .map_err(|why| Exit::Data.because(format!("read the last decision about {user:?}: {why}"))),
    }
}

/// The features of a profile, or why there is none.
pub(super) type Values = Result<BTreeMap<String, Option<f64>>, String>;

/// Explains a decision.
pub(super) fn print(
    decision: &ReadDecision,
    values: &Values,
    spec: &PipelineSpec,
    pipeline: &Pipeline,
    out: &mut impl Write,
) -> io::Result<()> {
    let ReadDecision { decision_id, trigger_event_id, occurred_at, decided_at, expires_at, status, .. } = decision;
    writeln!(out, "decision        {decision_id}")?;
    match (trigger_event_id.as_str(), decision.status_reason.as_deref()) {
        (_, Some("membership_expired")) => {
            writeln!(out, "made because    a membership ended at {}, without an event", text(*occurred_at))?;
        }
        ("", _) => writeln!(out, "made because    an event happened at {}", text(*occurred_at))?,
        (id, _) => writeln!(out, "made because    event {id} happened at {}", text(*occurred_at))?,
    }
    writeln!(out, "made at         {}, to be used until {}", text(*decided_at), text(*expires_at))?;
    writeln!(out, "status          {}", status_in_words(status, decision.status_reason.as_deref()))?;
    if let Some(it) = &decision.consent {
        consent(it, out)?;
    }
    if decision.status == "STATUS_SUPPRESSED" {
        return Ok(());
    }
    score(decision, out)?;
    if let Err(why) = values {
        writeln!(out, "values          not shown: {why}")?;
    }
    let values = values.as_ref().ok();
    segments(decision, values, spec, pipeline, out)?;
    if !spec.campaigns.is_empty() {
        campaigns(decision, values, spec, pipeline, out)?;
    }
    Ok(())
}

fn status_in_words(status: &str, reason: Option<&str>) -> String {
    match (status, reason) {
        ("STATUS_TARGETED", _) => "targeted: the user is in a segment, or a campaign may be shown".to_owned(),
        ("STATUS_NO_TARGET", _) => "no target: the user is in no segment, and no campaign may be shown".to_owned(),
        ("STATUS_FALLBACK", Some(reason)) => {
            format!("fallback: the model gave no usable score ({})", reason.replace('_', " "))
        }
        ("STATUS_SUPPRESSED", reason) => match reason {
            Some("child") => "suppressed: the user is a child".to_owned(),
            Some("opted_out") => "suppressed: the user has opted out".to_owned(),
            _ => "suppressed: there is no consent".to_owned(),
        },
        (other, _) => other.to_owned(),
    }
}

fn consent(consent: &ReadConsent, out: &mut impl Write) -> io::Result<()> {
    let ReadConsent { permitted, framework, refused, is_remembered } = consent;
    let permitted = if permitted.is_empty() { "nothing".to_owned() } else { permitted.join(", ") };
    let from = match framework.as_str() {
        "declared" => "no law applies, and the configuration decides".to_owned(),
        "unknown" => "it is unknown whether a law applies".to_owned(),
        _ => format!("by {}", framework.replace('_', " ")),
    };
    let remembered = if *is_remembered { ", from an earlier consent event" } else { "" };
    writeln!(out, "consent         permits {permitted}: {from}{remembered}")?;
    for (activity, reason) in refused {
        writeln!(out, "{:16}not {activity}: {}", "", reason.replace('_', " "))?;
    }
    Ok(())
}

fn score(decision: &ReadDecision, out: &mut impl Write) -> io::Result<()> {
    let Some((name, version)) = &decision.model else { return writeln!(out, "score           none: no model") };
    let number = |score: Option<f32>| score.map_or_else(|| "none".to_owned(), |score| score.to_string());
    write!(out, "score           {}", number(decision.calibrated))?;
    if decision.calibrated != decision.raw {
        write!(out, " (the model's output is {})", number(decision.raw))?;
    }
    writeln!(out, ", by model {name} {version}")?;
    for (name, score) in &decision.heads {
        writeln!(out, "{:16}{name} {}", "", number(*score))?;
    }
    let mut parts: Vec<_> = decision.contributions.iter().collect();
    parts.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()));
    for (feature, part) in parts {
        writeln!(out, "{:16}{part:+.4} from {feature}", "")?;
    }
    if decision.contributions.is_empty() {
        writeln!(out, "{:16}its parts: aimpoint explain --user, or explain.share for decisions with parts", "")?;
    }
    Ok(())
}

fn segments(
    decision: &ReadDecision,
    values: Option<&BTreeMap<String, Option<f64>>>,
    spec: &PipelineSpec,
    pipeline: &Pipeline,
    out: &mut impl Write,
) -> io::Result<()> {
    if decision.segments.is_empty() {
        writeln!(out, "segments        none")?;
    }
    for (index, segment) in decision.segments.iter().enumerate() {
        write!(out, "{:<16}{}", if index == 0 { "segments" } else { "" }, segment.id)?;
        match segment.times {
            Some((_, expires)) if segment.is_new => write!(out, ": entered at this event, until {}", text(expires))?,
            Some((entered, expires)) => write!(out, ": since {}, until {}", text(entered), text(expires))?,
            None => {}
        }
        writeln!(out)?;
        let rule = spec.segments.iter().find(|it| it.id == segment.id && it.segtax == segment.segtax);
        match rule {
            Some(it) => rule_with_values(&it.filter, values, pipeline, out)?,
            None => writeln!(out, "{:18}this configuration does not declare it", "")?,
        }
    }
    for (index, left) in decision.left.iter().enumerate() {
        let why = match left.reason.as_str() {
            "LEAVE_REASON_EXPIRED" => "the membership expired",
            "LEAVE_REASON_EXCLUDED" => "the user is in a segment that excludes it",
            _ => "its exit rule held",
        };
        writeln!(out, "{:<16}{}: {why}", if index == 0 { "left" } else { "" }, left.id)?;
    }
    Ok(())
}

fn campaigns(
    decision: &ReadDecision,
    values: Option<&BTreeMap<String, Option<f64>>>,
    spec: &PipelineSpec,
    pipeline: &Pipeline,
    out: &mut impl Write,
) -> io::Result<()> {
    if decision.campaigns.is_empty() {
        writeln!(out, "campaigns       none offered")?;
    }
    for (index, offer) in decision.campaigns.iter().enumerate() {
        writeln!(out, "{:<16}{}: {}", if index == 0 { "campaigns" } else { "" }, offer.id, bid_in_words(offer))?;
        if !offer.arm.is_empty() {
            writeln!(out, "{:18}the user is in arm {} of its experiment", "", offer.arm)?;
        }
        if offer.shaded_micros > 0 {
            let shaded = offer.shaded_micros as f64 / 1e6;
            writeln!(out, "{:18}best surplus at a bid of {shaded} {}", "", offer.currency)?;
        }
        if let Some(share) = offer.pass_through {
            writeln!(out, "{:18}its budget lets it take part in {:.1} % of such decisions", "", 100.0 * share)?;
        }
        if let Some(ReadCreative { id, propensity, policy, audience }) = &offer.creative {
            let whose = if audience.is_empty() { String::new() } else { format!(", from outcomes in {audience}") };
            let how = if policy.is_empty() { String::new() } else { format!(" by {policy}{whose}") };
            writeln!(out, "{:18}creative {id}, drawn with probability {propensity:.4}{how}", "")?;
        }
    }
    // Expiries choose no campaigns, so there is nothing to say about them.
    if decision.status_reason.as_deref() == Some("membership_expired") {
        return writeln!(out, "{:16}campaigns are chosen at the user's next event", "");
    }
    if decision.policy_version > 0 {
        writeln!(out, "{:16}decided with policy {} of control", "", decision.policy_version)?;
    }
    let held: BTreeSet<&str> = decision.segments.iter().map(|segment| segment.id.as_str()).collect();
    let offered = |id: &str| decision.campaigns.iter().any(|offer| offer.id == id);
    for (index, campaign) in spec.campaigns.iter().filter(|campaign| !offered(&campaign.id)).enumerate() {
        let refused = decision.suppressed.iter().find(|(id, _)| *id == campaign.id);
        let why = match refused {
            Some((_, reason)) => reason_in_words(reason, campaign),
            None if !campaign.segments.needs_only(|id| held.contains(id.as_str())) => {
                format!("not considered: {}", audience_in_words(&campaign.segments))
            }
            None if spec.decision.reasons => "not considered: its rule did not hold".to_owned(),
            None => "not considered, or refused; set decision.reasons = true to see why".to_owned(),
        };
        writeln!(out, "{:<16}{}: {why}", if index == 0 { "not offered" } else { "" }, campaign.id)?;
        if let Some(rule) = campaign.filter.as_deref().filter(|_| refused.is_none()) {
            rule_with_values(rule, values, pipeline, out)?;
        }
    }
    Ok(())
}

/// The bid with its origin.
fn bid_in_words(offer: &ReadOffer) -> String {
    let units = |micros: i64| micros as f64 / 1e6;
    let ReadOffer { value_micros, probability, bid_micros, currency, .. } = offer;
    let worth = if (*probability - 1.0).abs() < f64::EPSILON {
        format!("an impression is worth {} {currency}", units(*value_micros))
    } else {
        format!("{probability:.6} that the action follows, worth {} {currency}", units(*value_micros))
    };
    format!("bid {} {currency} per thousand impressions; {worth}", units(*bid_micros))
}

fn audience_in_words(audience: &AudienceSpec) -> String {
    let mut parts = Vec::new();
    if !audience.any.is_empty() {
        parts.push(format!("it needs one of {}", audience.any.join(", ")));
    }
    if !audience.all.is_empty() {
        parts.push(format!("it needs {}", audience.all.join(" and ")));
    }
    parts.join(", and ")
}

/// Why a campaign was refused.
pub(super) fn reason_in_words(reason: &str, campaign: &CampaignSpec) -> String {
    match reason {
        "excluded" => format!("the user is in one of {}", campaign.segments.none.join(", ")),
        "dates" => "the event is outside of its dates".to_owned(),
        "daypart" => "the event is outside of its dayparts, or the user's time zone is unknown".to_owned(),
        "cap" => "the user has seen it as often as its caps allow".to_owned(),
        "recency" => "the user saw it a short time ago".to_owned(),
        "conversion_cap" => "the user has converted as often as its cap allows".to_owned(),
        "cold_start" => "its value or probability is missing or no valid number".to_owned(),
        "floor" => format!("its bid would be below the floor of {}", campaign.floor.unwrap_or_default()),
        "small_audience" => {
            "a segment that it needs has too few members (targeting.minimum_audience), or control has not told how many"
                .to_owned()
        }
        "no_creative" => "none of its creatives fits".to_owned(),
        "budget_unknown" => "what is left of its budget is not known; does aimpoint control run?".to_owned(),
        "budget" => "its budget of the day, or in total, is spent".to_owned(),
        "paced" => "left out of this decision to spread its budget over the day".to_owned(),
        "holdout" => "the user is held out and never sees it".to_owned(),
        "outranked" => "better campaigns fill the decision".to_owned(),
        other => other.replace('_', " "),
    }
}

/// A rule, and the values of the features that it names.
fn rule_with_values(
    rule: &str,
    values: Option<&BTreeMap<String, Option<f64>>>,
    pipeline: &Pipeline,
    out: &mut impl Write,
) -> io::Result<()> {
    writeln!(out, "{:18}rule {}", "", rule.split_whitespace().collect::<Vec<_>>().join(" "))?;
    let Some(values) = values else { return Ok(()) };
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '.');
    let names: BTreeSet<&str> = rule.split(|letter| !is_part(letter)).collect();
    let named = pipeline.features().iter().filter(|feature| names.contains(feature.name.as_str()));
    for feature in named {
        let value = values.get(&feature.name).copied().flatten();
        let value = value.map_or_else(|| "missing".to_owned(), |value| value.to_string());
        writeln!(out, "{:18}{} is {value} in the stored profile", "", feature.name)?;
    }
    Ok(())
}

fn text(micros: i64) -> String {
    let time = EventTime(micros);
    Timestamp::from_microsecond(time.0).map_or_else(|_| time.0.to_string(), |time| time.to_string())
}

#[cfg(test)]
mod tests;
