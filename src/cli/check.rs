//! `aimpoint check`: finds every error that can be found before the first event, without running the pipeline.

use super::{ConfigArgs, campaigns, keeping, processing, profile, sizes};
use crate::{
    app::{Setup, check_name, neighbours, topics},
    config::{Config, ConfigLoadError},
    control::PARKED_MAX,
    decision::emission::{EmissionSpec, EmitOn},
    engine::{Pipeline, PipelineSpec},
    inference::{Model, ModelInfo},
    privacy::consent::Activity,
    profile::{
        Aggregate, Change, FeatureSpec, Kept, KeptConsent, Membership, OnChange, ProfileBytes, changes, tile_of,
    },
    sink::{Publisher, Topics},
    source::KafkaSource,
    state::{DEADLINE_BYTES, OPEN_SHARE, TABLE_BYTES_MAX},
    targeting::{DURATION_MAX, SegmentSpec},
};
use bytesize::ByteSize;
use clap::Args;
use std::{io::Write, path::PathBuf, time::Duration};

/// Check the configuration, the model and the topics without running
#[derive(Args, Clone, Debug)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Do not contact the broker
    #[arg(long)]
    offline: bool,
    /// Print what is kept of a person, for how long, on which basis and who gets it, as Markdown to file
    #[arg(long, conflicts_with = "against")]
    record_of_processing: bool,
    /// Show which features differ from those in FILE, and what happens to the profiles
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
}

pub(super) fn run(args: &CheckArgs) -> anyhow::Result<()> {
    let setup = args.config.read()?;
    let pipeline = setup.pipeline(true)?;
    let mut out = super::printed::stdout();
    if args.record_of_processing {
        let states = if args.offline { Vec::new() } else { topics::states_or_none(&setup.config) };
        return Ok(processing::write(&mut out, &setup.config, &pipeline, &states)?);
    }
    writeln!(out, "configuration   valid")?;

    let config = &setup.config;
    let features = pipeline.features();
    let to_model = features.iter().filter(|feature| feature.model).count();
    writeln!(
        out,
        "features        {}, {to_model} of them for the model; fingerprint {}",
        features.len(),
        pipeline.fingerprint()
    )?;
    for spec in &config.pipeline.features {
        writeln!(out, "                {:<24} {}", spec.name, described(spec))?;
    }
    if let Some(against) = &args.against {
        compare(&mut out, config, &pipeline, against.clone(), &args.config.sets)?;
    }
    let ProfileBytes { one_event, full, user_max, .. } = pipeline.profile().profile_bytes();
    let [one_event, full, user_max] = [one_event, full, user_max].map(|bytes| ByteSize::b(bytes as u64).display().si());
    writeln!(
        out,
        "profile         {one_event} packed for a user with one event, {full} unpacked with an event in every tile;\n{:16}the table adds \
         {TABLE_BYTES_MAX} B and the key, and at most one user in {OPEN_SHARE} is unpacked;\n{:16}at most {user_max} per user plus the key, if \
         every user has an event in every tile",
        "", ""
    )?;
    let segments: Vec<&str> = pipeline.segments().all().iter().map(|segment| segment.id.as_str()).collect();
    writeln!(out, "segments        {}", if segments.is_empty() { "none".to_owned() } else { segments.join(", ") })?;

    let format = config.pipeline.decision.format;
    if let [first, rest @ ..] = format.leaves_out() {
        writeln!(out, "decisions       in the format {:?}, which leaves out {first}", format.name())?;
        for left_out in rest {
            writeln!(out, "{:16}{left_out}", "")?;
        }
        if config.pipeline.explain.is_on() {
            writeln!(out, "{:16}explanations are computed but not written: [explain] has no effect here", "")?;
        }
    }

    report_consent(&mut out, &config.pipeline)?;
    report_rotation(&mut out, &config.pipeline)?;
    report_emission(&mut out, &config.pipeline.emission, pipeline.profile().said().len())?;
    report_memberships(&mut out, &config.pipeline.segments)?;
    campaigns::report(&mut out, config, pipeline.campaigns(), jiff::Timestamp::now())?;
    report_control(&mut out, config)?;

    let models = setup.models(&pipeline)?;
    let pipeline = match models.0.first() {
        Some(model) => {
            let shadows = setup.shadows(&pipeline)?;
            let pipeline = setup.with_shadows(setup.with_models(pipeline, models.copies(1)?.remove(0))?, &shadows)?;
            let ModelInfo { name, version, sha256, runtime, provider, features, .. } = model.info();
            writeln!(out, "model           {name} {version}, {} features, by {runtime} on {provider}", features.len())?;
            writeln!(out, "                sha256 {sha256}")?;
            let range = model.info().ranges.first().map(|range| format!(", from {range}")).unwrap_or_default();
            writeln!(out, "                score is output {}{range}", model.info().output)?;
            let shares = &config.pipeline.experiment.shares;
            for (spec, variant) in config.variants.iter().zip(&models.0[1..]) {
                let (name, info) = (spec.name.as_deref().unwrap_or_default(), variant.info());
                let share = shares.get(name).copied().unwrap_or_default();
                writeln!(
                    out,
                    "variant         {name} {}, {} features, {share} of the users",
                    info.version,
                    info.features.len()
                )?;
            }
            for shadow in &shadows {
                let tap = shadow.tap();
                let info = tap.info();
                writeln!(out, "shadow          {} {}, {} features", info.name, info.version, info.features.len())?;
            }
            pipeline
        }
        None => {
            writeln!(out, "model           none: decisions have no score")?;
            pipeline
        }
    };

    check_clients(config)?;
    if let Some(error) = check_name(config) {
        return Err(ConfigLoadError::Invalid(setup.document.explain(&[error])).into());
    }
    let kafka = &config.kafka;
    for (section, settings) in [("client", &kafka.client), ("consumer", &kafka.consumer), ("producer", &kafka.producer)]
    {
        for (name, value) in settings.shown() {
            writeln!(out, "{:<16}{name} = {value}", format!("kafka.{section}"))?;
        }
    }
    if args.offline {
        writeln!(out, "topics          not checked")?;
    } else {
        topics::check_all(config)?;
        writeln!(out, "topics          exist and match")?;
        let states = topics::states_or_none(config);
        let (workers, why) = config.engine.workers(states.first().and_then(Option::as_ref).map(|it| it.partitions));
        writeln!(out, "workers         {workers}: {why}")?;
        sizes::report(&mut out, config, &pipeline, topics::size_limits(&states))?;
        let input = states.first().and_then(Option::as_ref);
        keeping::report(&mut out, config.pipeline.erasure.keep, &config.topics.clickstream, input)?;
        match neighbours::find(config) {
            Ok(found) => {
                for it in found {
                    writeln!(out, "neighbour       {}", it.message(config))?;
                }
            }
            Err(error) => writeln!(out, "neighbour       not checked: {error}")?,
        }
    }
    Ok(())
}

/// Prints that users move to the pseudonyms of another key, and until when the previous one is needed.
fn report_rotation(out: &mut impl Write, spec: &PipelineSpec) -> anyhow::Result<()> {
    if spec.identity.previous_key.is_none() {
        return Ok(());
    }
    let needed = crate::duration::display(opt_out_kept(spec)).to_string();
    writeln!(out, "pseudonyms      the key changes: each user moves to the new one at the next event")?;
    writeln!(
        out,
        "{:16}keep the previous key for {needed} (profile.ttl or erasure.keep): without it, no event reaches a profile, an \
         opt-out or an erasure that has not moved",
        ""
    )?;
    Ok(())
}

/// How long the law of California asks to honour an opt-out: a year, and a month for the last event.
pub(super) const OPT_OUT_KEPT: Duration = Duration::from_hours(24 * 396);

/// Prints what is permitted without a law, what is kept, and for how long.
fn report_consent(out: &mut impl Write, spec: &PipelineSpec) -> anyhow::Result<()> {
    let consent = &spec.consent;
    if !consent.enabled {
        return Ok(writeln!(out, "consent         not checked: everything is permitted to everybody")?);
    }
    let names = |all: &[Activity]| {
        let names: Vec<&str> = all.iter().map(|activity| activity.name()).collect();
        if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
    };
    writeln!(
        out,
        "consent         checked; where no law applies: {}",
        names(consent.without_law.as_deref().unwrap_or_default())
    )?;
    writeln!(out, "{:16}where it is unknown whether one does: {}", "", names(&consent.unknown_law))?;
    let ttl = spec.profile.ttl;
    writeln!(
        out,
        "{:16}events where {} are remembered for profile.ttl = {}, in {} B",
        "",
        consent.remember,
        crate::duration::display(ttl),
        8 * KeptConsent::WORDS
    )?;
    let kept = opt_out_kept(spec);
    writeln!(
        out,
        "{:16}an opt-out is remembered for {} after the choice (profile.ttl or erasure.keep)",
        "",
        crate::duration::display(kept)
    )?;
    if kept < OPT_OUT_KEPT {
        writeln!(
            out,
            "{:16}warning: set erasure.keep to at least \"396d\" where an opt-out must be honoured for a year",
            ""
        )?;
    }
    Ok(())
}

/// How long an opt-out counts after its user's choice: with the profile, and beyond that with the notes beside profiles.
pub(super) fn opt_out_kept(spec: &PipelineSpec) -> Duration {
    spec.profile.ttl.max(spec.erasure.keep)
}

/// Prints which decisions are written, and what that adds to profiles.
fn report_emission(out: &mut impl Write, spec: &EmissionSpec, words: usize) -> anyhow::Result<()> {
    if spec.is_plain() {
        return Ok(());
    }
    let what = match spec.on {
        EmitOn::Event => "of every event".to_owned(),
        EmitOn::Change => format!("of a change, or of a bid by more than {}", spec.bid_share),
    };
    let every = if spec.every.is_zero() {
        String::new()
    } else {
        format!(", none within {} of another", crate::duration::display(spec.every))
    };
    writeln!(out, "emission        {what}{every}; {} B of each profile in use", words * size_of::<u64>())?;
    Ok(())
}

/// Prints the segments that have members and the cost of memberships.
fn report_memberships(out: &mut impl Write, segments: &[SegmentSpec]) -> anyhow::Result<()> {
    let lasting: Vec<&SegmentSpec> = segments.iter().filter(|spec| spec.is_lasting()).collect();
    if lasting.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "memberships     {}, {} B of each profile in use (at rest, all that a user is not in take 1 B); a user who is in any has a\n{:16}\
         deadline of about {DEADLINE_BYTES} B in memory",
        lasting.len(),
        lasting.len() * Membership::WORDS * size_of::<u64>(),
        ""
    )?;
    for spec in lasting {
        let duration = crate::duration::display(spec.duration.unwrap_or(DURATION_MAX));
        let exit = spec.exit.as_deref().unwrap_or("its rule does not hold");
        writeln!(out, "{:16}{:<24} {duration} after its rule last held, or until {exit}", "", spec.id)?;
    }
    Ok(())
}

/// Prints what control keeps, if anything needs it.
fn report_control(out: &mut impl Write, config: &Config) -> anyhow::Result<()> {
    if !config.needs_control() {
        return Ok(());
    }
    let spec = config.control();
    let [interval, stale, horizon] =
        [spec.policy_interval, spec.stale_after, spec.dedupe_horizon].map(crate::duration::display);
    let [outcomes, touches, parked] = [(spec.outcomes_max, 100), (spec.touches_max, 1_000), (PARKED_MAX, 500)]
        .map(|(count, bytes)| (count, ByteSize::b((count * bytes) as u64).display().si()));
    writeln!(
        out,
        "control         a policy every {interval}; campaigns with a budget stop if it is older than {stale}\n{:16}at most {} ids of \
         outcomes for {horizon} ({}), {} offers and\n{:16}impressions ({}), and {} outcomes that wait for their decision ({})",
        "", outcomes.0, outcomes.1, touches.0, "", touches.1, parked.0, parked.1
    )?;
    let (state, policy) = (config.control_topic(), config.policy_topic());
    writeln!(
        out,
        "{:16}reads {}, {} and {}; writes {state} and {policy}",
        "",
        config.topics.decisions,
        config.topics.outcomes,
        config.audiences_topic()
    )?;
    Ok(())
}

/// Describes a declared feature in one line.
pub(super) fn described(spec: &FeatureSpec) -> String {
    match (&spec.aggregate, &spec.expression) {
        (Some(aggregate), _) => {
            let part = |name: &str, value: &Option<String>| value.as_ref().map(|value| format!(" {name} {value}"));
            // The default tile is shown too, because it decides how exact the window is.
            let has_tiles = Aggregate::named(aggregate).is_some_and(Aggregate::has_tiles);
            let window = spec.window.as_deref().filter(|_| has_tiles);
            let tile = window.and_then(|window| tile_of(window, spec.tile.as_deref()));
            let parts = [
                part("of", &spec.value),
                part("where", &spec.filter),
                part("over", &spec.window),
                part("in tiles of", &tile),
            ];
            let options = spec.options.iter().map(|(name, value)| format!(", {name} = {value}"));
            aggregate.clone() + &parts.into_iter().flatten().chain(options).collect::<String>()
        }
        (None, expression) => {
            format!("= {}", expression.as_deref().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" "))
        }
    }
}

/// Compares the features with those of another configuration, which is read with the same overrides.
fn compare(
    out: &mut impl Write,
    config: &Config,
    pipeline: &Pipeline,
    against: PathBuf,
    sets: &[String],
) -> anyhow::Result<()> {
    let name = against.display().to_string();
    let before = Setup::read(Some(&against), sets)?;
    let old = before.pipeline(true)?;
    let changes = changes(&before.config.pipeline.features, &config.pipeline.features);
    let is_same = old.fingerprint() == pipeline.fingerprint();
    let is_kept = old.layout() == pipeline.layout();
    writeln!(
        out,
        "against         {name}; fingerprint {}: {}",
        old.fingerprint(),
        if is_same { "the same" } else { "different" }
    )?;
    let outcome = match (is_kept, pipeline.profile().on_change()) {
        (true, _) => "profiles are kept unchanged: their layout is the same",
        (false, OnChange::Keep) => {
            "each feature continues from what the profiles hold of it, as listed below. A profile is carried over as last \
             written:\n                features that were deployed in between leave no trace on a user who had no event then"
        }
        (false, OnChange::Replay) => "every profile is rebuilt from the retained input (profile.on_change)",
    };
    writeln!(out, "{:16}{outcome}", "")?;
    if !is_same && changes.iter().all(|(_, change)| *change == Change::Same) {
        let others = "profile.ttl, time.allowed_lateness, duplicates.horizon or duplicates.max_ids";
        writeln!(out, "{:16}the features are identical; the difference is in {others}", "")?;
    }
    let is_carried = !is_kept && pipeline.profile().on_change() == OnChange::Keep;
    for (name, change) in changes {
        let spec = &config.pipeline;
        // A derived feature has no state of its own.
        let declared = spec.features.iter().find(|it| it.name == name && it.expression.is_none());
        let kept = declared.filter(|_| is_carried).and_then(|it| profile::alone(it, spec));
        let kept = kept.map(|alone| old.layout().kept_of(&alone));
        let change = match (change, kept) {
            (Change::Same, None | Some(Kept::All)) => "same",
            (Change::Same, Some(Kept::Part)) => "same, and exact once its window has passed",
            (Change::Same, Some(Kept::Nothing)) => "same, but stored differently: starts empty",
            (Change::Changed, None) => "changed",
            (Change::Changed, Some(Kept::All)) => "changed, and continues: the state it needs exists",
            (Change::Changed, Some(Kept::Part)) => {
                "changed, and continues from the existing state: exact once its window has passed"
            }
            (Change::Changed, Some(Kept::Nothing)) => "changed: starts empty",
            (Change::New, None) => "new",
            (Change::New, Some(Kept::All)) => "new, with its full past: other features kept the state it needs",
            (Change::New, Some(Kept::Part)) => {
                "new, with the state kept for other features: exact once its window has passed"
            }
            (Change::New, Some(Kept::Nothing)) => "new: starts empty",
            (Change::Gone, _) => "removed",
        };
        writeln!(out, "{:16}{name:<24} {change}", "")?;
    }
    Ok(())
}

/// Creates a client of each kind, which rejects settings it does not know. None of them connects.
fn check_clients(config: &Config) -> anyhow::Result<()> {
    let kafka = &config.kafka;
    KafkaSource::check_settings(&kafka.consumer_settings())?;
    Publisher::new(&kafka.brokers, &kafka.producer_settings(), &config.topics.clickstream, Duration::from_secs(5))?;
    Topics::new(&kafka.brokers, &kafka.client_settings(), Duration::from_secs(5))?;
    Ok(())
}
