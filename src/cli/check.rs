//! `aimpoint check`: everything that can be wrong before an event comes, without running.

use super::{ConfigArgs, profile, sizes};
use crate::{
    app::{Setup, check_name, neighbours, topics},
    config::{Config, ConfigError},
    engine::Pipeline,
    inference::{Model, ModelInfo},
    profile::{Aggregate, Change, FeatureSpec, Kept, OnChange, ProfileBytes, changes, tile_of},
    sink::{Publisher, Topics},
    source::KafkaSource,
    state::{OPEN_SHARE, TABLE_BYTES_MAX},
};
use bytesize::ByteSize;
use clap::Args;
use std::{io::Write, path::PathBuf, time::Duration};

/// Check the configuration, the model and the topics without running
#[derive(Args, Clone, Debug)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Leave the broker out
    #[arg(long)]
    offline: bool,
    /// Tell which features differ from those of this configuration, and what becomes of the profiles
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
}

pub(super) fn run(args: &CheckArgs) -> anyhow::Result<()> {
    let setup = args.config.read()?;
    let pipeline = setup.pipeline(true)?;
    let mut out = super::printed::stdout();
    writeln!(out, "configuration   sound")?;

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
        "profile         {one_event} at rest for a user with one event, {full} in use with an event in every tile;\n{:16}{TABLE_BYTES_MAX} B and \
         the key in the table besides, and one of {OPEN_SHARE} users is in use at most;\n{:16}so at most {user_max} a user beside the key, \
         if every user had an event in every tile",
        "", ""
    )?;
    let segments: Vec<&str> = pipeline.segments().all().iter().map(|segment| segment.id.as_str()).collect();
    writeln!(out, "segments        {}", if segments.is_empty() { "none".to_owned() } else { segments.join(", ") })?;

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
    if let Some(fault) = check_name(config) {
        return Err(ConfigError::Faulty(setup.document.explain(&[fault])).into());
    }
    let kafka = &config.kafka;
    for (section, settings) in [("client", &kafka.client), ("consumer", &kafka.consumer), ("producer", &kafka.producer)]
    {
        for (name, value) in settings.shown() {
            writeln!(out, "{:<16}{name} = {value}", format!("kafka.{section}"))?;
        }
    }
    if args.offline {
        writeln!(out, "topics          not looked at")?;
    } else {
        topics::check(config)?;
        writeln!(out, "topics          all there, and they fit")?;
        let states = topics::states_or_none(config);
        let (workers, why) = config.engine.workers(states.first().and_then(Option::as_ref).map(|it| it.partitions));
        writeln!(out, "workers         {workers}: {why}")?;
        sizes::report(&mut out, config, &pipeline, topics::size_limits(&states))?;
        match neighbours::find(config) {
            Ok(found) => {
                for it in found {
                    writeln!(out, "neighbour       {}", it.message(config))?;
                }
            }
            Err(error) => writeln!(out, "neighbour       not looked for: {error}")?,
        }
    }
    Ok(())
}

/// A declared feature in words.
pub(super) fn described(spec: &FeatureSpec) -> String {
    match (&spec.aggregate, &spec.expression) {
        (Some(aggregate), _) => {
            let part = |name: &str, value: &Option<String>| value.as_ref().map(|value| format!(" {name} {value}"));
            // The tile that is taken where none is declared says how exact a window is.
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

/// Tells what has become of each feature of an earlier configuration, which is read with the same overrides.
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
        if is_same { "the same" } else { "another one" }
    )?;
    let outcome = match (is_kept, pipeline.profile().on_change()) {
        (true, _) => "profiles go on as they are: they keep the same",
        (false, OnChange::Keep) => {
            "each feature goes on with what the profiles have of it, as told below. A profile is carried over as it was last \
             written:\n                a user without an event under other features in between goes on as if these had never been"
        }
        (false, OnChange::Replay) => "each profile is made anew from the input that is retained (profile.on_change)",
    };
    writeln!(out, "{:16}{outcome}", "")?;
    if !is_same && changes.iter().all(|(_, change)| *change == Change::Same) {
        let others = "profile.ttl, time.allowed_lateness, duplicates.horizon or duplicates.max_ids";
        writeln!(out, "{:16}each feature says the same; it is {others}", "")?;
    }
    let is_carried = !is_kept && pipeline.profile().on_change() == OnChange::Keep;
    for (name, change) in changes {
        let spec = &config.pipeline;
        // One that is derived from others keeps nothing of its own.
        let declared = spec.features.iter().find(|it| it.name == name && it.expression.is_none());
        let kept = declared.filter(|_| is_carried).and_then(|it| profile::alone(it, spec));
        let kept = kept.map(|alone| old.layout().kept_of(&alone));
        let change = match (change, kept) {
            (Change::Same, None | Some(Kept::All)) => "same",
            (Change::Same, Some(Kept::Part)) => "same, and exact once its window has passed",
            (Change::Same, Some(Kept::Nothing)) => "same, but kept otherwise: begins empty",
            (Change::Changed, None) => "changed",
            (Change::Changed, Some(Kept::All)) => "changed, and goes on: what it needs was kept",
            (Change::Changed, Some(Kept::Part)) => {
                "changed, and goes on with what was kept: exact once its window has passed"
            }
            (Change::Changed, Some(Kept::Nothing)) => "changed: begins empty",
            (Change::New, None) => "new",
            (Change::New, Some(Kept::All)) => "new, and has its past: what it needs was kept for others",
            (Change::New, Some(Kept::Part)) => "new, with what was kept for others: exact once its window has passed",
            (Change::New, Some(Kept::Nothing)) => "new: begins empty",
            (Change::Gone, _) => "gone",
        };
        writeln!(out, "{:16}{name:<24} {change}", "")?;
    }
    Ok(())
}

/// Makes a client of each kind, which refuses what it does not know; none of them connects.
fn check_clients(config: &Config) -> anyhow::Result<()> {
    let kafka = &config.kafka;
    KafkaSource::check_settings(&kafka.consumer_settings())?;
    Publisher::new(&kafka.brokers, &kafka.producer_settings(), &config.topics.clickstream, Duration::from_secs(5))?;
    Topics::new(&kafka.brokers, &kafka.client_settings(), Duration::from_secs(5))?;
    Ok(())
}
