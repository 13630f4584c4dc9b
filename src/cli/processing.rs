//! `aimpoint check --record-of-processing`: what is kept of a person, for how long, on which basis and who gets it, as Markdown
//! that a privacy officer can complete and file (GDPR, Article 30).
//!
//! Guarantees: everything in it comes from the configuration, and from the topics as they are if a broker answers. What only
//! people know is marked as such, and is never guessed. Limits: fields are listed that Aimpoint reads; what else the events
//! hold stays in the input.

use super::check::described;
use crate::{
    app::topics,
    config::Config,
    engine::Pipeline,
    event::{Addresses, InputFormat, Normalise},
    privacy::consent::{Activity, ActivitySpec, LegalBasisSpec},
    sink::TopicState,
};
use std::{
    io::{self, Write},
    time::Duration,
};

/// What people have to fill in.
const OPEN: &str = "*to be completed*";

/// Writes the record. Without a broker, the retention of topics is what `aimpoint topics --create` sets.
pub(super) fn write(
    out: &mut impl Write,
    config: &Config,
    pipeline: &Pipeline,
    states: &[Option<TopicState>],
) -> io::Result<()> {
    writeln!(out, "# Record of processing: {}\n", config.app.name)?;
    writeln!(out, "Written by `aimpoint check --record-of-processing`, version {}.\n", env!("CARGO_PKG_VERSION"))?;
    for what in ["Controller and contact", "Data protection officer", "Processors and transfers to other countries"] {
        writeln!(out, "- {what}: {OPEN}")?;
    }
    writeln!(out, "\n## Purpose\n")?;
    writeln!(
        out,
        "Choosing what users are shown, by what they did before: profiles, scores, segments and decisions.\n"
    )?;
    data(out, config, pipeline)?;
    storage(out, config, states)?;
    basis(out, config)?;
    protection(out, config)?;
    rights(out, config)?;
    gaps(out, config, states)
}

/// What is read of an event, and what is made of it.
fn data(out: &mut impl Write, config: &Config, pipeline: &Pipeline) -> io::Result<()> {
    let spec = &config.pipeline;
    writeln!(
        out,
        "## Whose data, and which\n\nUsers whose events are in the topic `{}`.\n",
        config.topics.clickstream
    )?;
    let names: Vec<String> = pipeline.fields_read().map(|name| format!("`{name}`")).collect();
    writeln!(out, "- Fields that are read: {}", names.join(", "))?;
    if spec.input.format == InputFormat::AccessLog {
        writeln!(out, "- A client's address is read and not kept: a keyed hash of address and user agent names it")?;
    }
    writeln!(out, "\n| Feature | Made of |\n|---|---|")?;
    for feature in &spec.features {
        writeln!(out, "| `{}` | {} |", feature.name, cell(&described(feature)))?;
    }
    writeln!(out, "\n| Segment | Rule | A user stays |\n|---|---|---|")?;
    for segment in &spec.segments {
        let stays = match segment.duration {
            Some(duration) => crate::duration::display(duration).to_string(),
            None if segment.is_lasting() => "540days".to_owned(),
            None => "for one event".to_owned(),
        };
        writeln!(out, "| `{}` | `{}` | {stays} |", segment.id, cell(&segment.filter))?;
    }
    let sensitive = &spec.targeting.allowed_sensitive;
    if !sensitive.is_empty() {
        writeln!(out, "\nSensitive categories that are permitted: {}", sensitive.join(", "))?;
    }
    writeln!(out)
}

/// A text in a cell of a table.
fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

/// Where something is kept of a person, for how long, and who reads it.
fn storage(out: &mut impl Write, config: &Config, states: &[Option<TopicState>]) -> io::Result<()> {
    let spec = &config.pipeline;
    let written = |time: Duration| crate::duration::display(time).to_string();
    let names_users = if spec.identity.pseudonymise { "the pseudonym" } else { "the id" };
    let (ttl, keep) = (written(spec.profile.ttl), written(spec.erasure.keep));
    let kept = |index: usize| retention(config, states, index);
    writeln!(out, "## What is kept, where and for how long\n")?;
    writeln!(out, "| Where | What | Named by | How long | Who gets it |\n|---|---|---|---|---|")?;
    let mut row = |place: &str, what: &str, by: &str, time: &str, whom: &str| {
        writeln!(out, "| {place} | {what} | {by} | {time} | {whom} |")
    };
    let input = format!("`{}`", config.topics.clickstream);
    row(
        &input,
        "events as they came, and requests to erase",
        "as they came",
        &kept(0),
        "Aimpoint reads it, never removes",
    )?;
    let profiles = format!("`{}`, memory", config.profiles_topic());
    let snapshots = if config.checkpoint.snapshots.is_some() { ", snapshots on disk" } else { "" };
    let ttl = format!("{ttl} after the last event, or until erasure");
    let what = "features, memberships, caps, choices about consent, what readers were told";
    row(&format!("{profiles}{snapshots}"), what, names_users, &ttl, "workers")?;
    row(
        &profiles,
        "notes of erasures with the choice about consent, and opt-outs whose profiles have expired",
        "two hashes",
        &keep,
        "workers",
    )?;
    let decisions = format!("`{}`", config.topics.decisions);
    let until = if config.topics.decisions_by_user { "the last of each user until erasure; others " } else { "" };
    let readers = if config.serve.is_some() { "bidders, by `aimpoint serve`; control" } else { OPEN };
    row(&decisions, "scores, segments, campaigns", names_users, &format!("{until}{}", kept(1)), readers)?;
    let letters = format!("`{}`", config.topics.dead_letter);
    let (what, by) = if spec.identity.pseudonymise {
        ("positions of records that cannot be used, without their content", "the pseudonym")
    } else {
        ("records that cannot be used, as they came", "as they came")
    };
    row(&letters, what, by, &kept(2), "operators")?;
    if let Some(shadows) = &config.topics.shadow_scores {
        row(&format!("`{shadows}`"), "scores of shadows", names_users, &kept(4), "operators")?;
    }
    row(
        "committed positions",
        "hashes of the five users with the newest events",
        "a hash",
        "until five others are newer",
        "workers",
    )?;
    if config.needs_control() {
        let control = config.control();
        let horizon = written(control.dedupe_horizon);
        row(
            &format!("`{}`", config.topics.outcomes),
            "impressions, clicks, conversions",
            "as they came",
            OPEN,
            "control",
        )?;
        let click = written(control.attribution.click);
        let time = format!("ids of outcomes {horizon}, offers and impressions up to {click}");
        row(&format!("`{}`", config.control_topic()), "ids of outcomes and decisions", "hashes", &time, "control")?;
        let (policy, sizes) = (config.policy_topic(), config.audiences_topic());
        row(&format!("`{policy}`, `{sizes}`"), "sums of all users", "nobody", "until replaced", "workers, control")?;
    }
    if config.serve.is_some() {
        row(
            "memory of `aimpoint serve`",
            "the last decision of each user",
            names_users,
            "until it expires",
            "bidders",
        )?;
    }
    if config.otlp.endpoint.is_some() {
        row("the OpenTelemetry collector", "metrics and traces", "nobody", OPEN, "operators")?;
    }
    writeln!(out)
}

/// How long the records of one of the application's topics are kept.
fn retention(config: &Config, states: &[Option<TopicState>], index: usize) -> String {
    let plans = topics::plans(config);
    let state = states.get(index).and_then(Option::as_ref);
    let of_plan =
        || plans.get(index)?.settings.iter().find(|(name, _)| *name == "retention.ms").map(|(_, value)| &**value);
    let found = match state {
        Some(state) => state.setting("retention.ms"),
        None => of_plan(),
    };
    let source = if state.is_some() { "" } else { " (planned: the topic was not looked up)" };
    match found.and_then(|text| text.parse::<i64>().ok()) {
        Some(millis @ 0..) => {
            format!("{}{source}", crate::duration::display(Duration::from_millis(millis.unsigned_abs())))
        }
        Some(_) => format!("without end{source}"),
        None => format!("unknown{source}"),
    }
}

/// On which basis data is used.
fn basis(out: &mut impl Write, config: &Config) -> io::Result<()> {
    let consent = &config.pipeline.consent;
    writeln!(out, "## On which basis\n")?;
    if !consent.enabled {
        return writeln!(
            out,
            "Aimpoint checks no consent (`[consent]` is off). Who has checked it, and on which basis: {OPEN}\n"
        );
    }
    let needs = &consent.tcf.needs;
    let of = |activity: Activity| match activity {
        Activity::Write => ("keeping a profile", &needs.write),
        Activity::Score => ("scoring", &needs.score),
        Activity::Emit => ("a personal decision", &needs.emit),
        Activity::Measure => ("measuring", &needs.measure),
        Activity::Train => ("training models", &needs.train),
    };
    writeln!(
        out,
        "| Activity | Purposes of the TCF | Basis under the TCF | Where no law applies |\n|---|---|---|---|"
    )?;
    for activity in Activity::ALL {
        let (what, ActivitySpec { purposes, legal_basis, .. }) = of(activity);
        let purposes: Vec<String> = purposes.iter().map(ToString::to_string).collect();
        let basis = match legal_basis {
            LegalBasisSpec::Consent => "consent",
            LegalBasisSpec::LegitimateInterest => "legitimate interest",
        };
        let is_free = consent.without_law.as_ref().is_some_and(|all| all.contains(&activity));
        let free = if is_free { "permitted" } else { "not done" };
        writeln!(out, "| {what} (`{}`) | {} | {basis} | {free} |", activity.name(), purposes.join(", "))?;
    }
    let vendor = consent.vendor_id.map_or_else(|| OPEN.to_owned(), |id| id.to_string());
    let unknown: Vec<&str> = consent.unknown_law.iter().map(|it| it.name()).collect();
    let unknown = if unknown.is_empty() { "nothing".to_owned() } else { unknown.join(", ") };
    writeln!(out, "\n- Vendor id in the TCF: {vendor}")?;
    writeln!(out, "- If it is unknown whether a law applies: {unknown}")?;
    writeln!(out, "- Choices are remembered from events where `{}`\n", cell(&consent.remember))
}

/// How it is protected.
fn protection(out: &mut impl Write, config: &Config) -> io::Result<()> {
    let spec = &config.pipeline;
    writeln!(out, "## How it is protected\n")?;
    let normalised = match spec.identity.normalise {
        Normalise::None => "",
        Normalise::Email => ", of normalised e-mail addresses",
        Normalise::Phone => ", of normalised phone numbers",
    };
    let names = if spec.identity.pseudonymise {
        format!("pseudonyms (HMAC-SHA-256{normalised}); the key is outside of this record")
    } else {
        "ids as they come".to_owned()
    };
    writeln!(out, "- Users are named by {names}")?;
    if spec.identity.previous_key.is_some() {
        let needed = crate::duration::display(super::check::opt_out_kept(spec));
        writeln!(
            out,
            "- The key is being changed: until a user's next event, the pseudonym is that of the previous key, which is needed for \
             {needed} and then destroyed"
        )?;
    }
    let addresses = match spec.input.addresses {
        Addresses::Truncated => "truncated to their network",
        Addresses::Whole => "kept whole",
    };
    writeln!(out, "- IP addresses in fields are {addresses}")?;
    let minimum = spec.targeting.minimum_audience;
    writeln!(
        out,
        "- Fewest users of a segment that campaigns use and reports show: {}",
        if minimum == 0 { "any number".to_owned() } else { minimum.to_string() }
    )?;
    let settings = config.kafka.client_settings();
    let protocol =
        settings.iter().find(|(name, _)| name == "security.protocol").map_or("plaintext", |(_, value)| value);
    writeln!(out, "- Connections to the brokers: {protocol}")?;
    if let Some(serve) = &config.serve {
        let tls = if serve.tls.is_some() { "TLS" } else { "plain text" };
        let token = if serve.token.is_some() || serve.token_file.is_some() { "a token" } else { "no token" };
        writeln!(out, "- Bidders ask by {tls}, with {token}")?;
    }
    writeln!(out, "- Data at rest, access to the topics, backups: {OPEN}\n")
}

/// What a person can ask for.
fn rights(out: &mut impl Write, config: &Config) -> io::Result<()> {
    writeln!(out, "## Rights of the person\n")?;
    writeln!(out, "- Access: `aimpoint subject --user ID`")?;
    writeln!(out, "- Erasure: `aimpoint erase --user ID`, proved by `--verify`")?;
    if let Some(rule) = &config.pipeline.erasure.filter {
        writeln!(out, "- Erasure by the person's own event: `{}`", cell(rule))?;
    }
    if config.pipeline.consent.enabled {
        writeln!(out, "- Withdrawal: by an event, see the basis; it drops the profile at once")?;
    }
    writeln!(out, "- Reasons of a decision: `aimpoint why --user ID`\n")
}

/// What should be looked at.
fn gaps(out: &mut impl Write, config: &Config, states: &[Option<TopicState>]) -> io::Result<()> {
    let spec = &config.pipeline;
    let mut found: Vec<String> = Vec::new();
    if !spec.identity.pseudonymise {
        found.push("Users are named by their ids in all topics: `identity.pseudonymise`.".to_owned());
        found.push(format!("`{}` has records as they came: keep its retention short.", config.topics.dead_letter));
    }
    let kept = super::check::opt_out_kept(spec);
    if spec.consent.enabled && kept < super::check::OPT_OUT_KEPT {
        let kept = crate::duration::display(kept);
        found.push(format!("An opt-out is forgotten {kept} after the choice: `erasure.keep`."));
    }
    if !spec.consent.enabled {
        found.push("No consent is checked: `[consent]`.".to_owned());
    }
    if spec.targeting.minimum_audience == 0 && !spec.segments.is_empty() {
        found.push("Segments of a handful of people are used and shown: `targeting.minimum_audience`.".to_owned());
    }
    if spec.input.addresses == Addresses::Whole {
        found.push("Addresses are kept whole: `input.addresses`.".to_owned());
    }
    let input = states.first().and_then(Option::as_ref).and_then(|state| state.setting("retention.ms"));
    if input.is_some_and(|text| {
        text.parse::<i128>().is_ok_and(|ms| ms < 0 || ms >= spec.erasure.keep.as_millis().cast_signed())
    }) {
        found.push(format!(
            "`{}` is kept longer than erasures are remembered: `erasure.keep`.",
            config.topics.clickstream
        ));
    }
    writeln!(out, "## To look at\n")?;
    if found.is_empty() {
        writeln!(out, "Nothing that this configuration shows.")?;
    }
    found.iter().try_for_each(|it| writeln!(out, "- {it}"))
}

#[cfg(test)]
mod tests;
