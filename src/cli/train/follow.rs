//! Continuous learning: trains again and again on what followed the latest decisions.
//!
//! Owns the order of a round: rows from the topics, training from the weights of the round before, and a new version in the folder.
//! Guarantees: nothing serves because of it, since the folder must be pinned; `aimpoint promote` decides that. A round that fails is
//! reported, and the next one begins after the pause. Limits: each round copies the topics of decisions and outcomes.

use super::{Job, TrainArgs, make};
use crate::{
    cli::{Exit, export, models, printed::stdout, signals::clean_up_on_signals},
    partial::TemporaryFolder,
    training::Network,
};
use anyhow::Context;
use std::{
    io::{self, Write},
    thread,
    time::Duration,
};

/// A pause between trainings.
pub(super) fn pause(text: &str) -> Result<Duration, String> {
    between(text, Duration::from_secs(1), Duration::from_hours(31 * 24))
}

/// A window of decisions.
pub(super) fn window(text: &str) -> Result<Duration, String> {
    between(text, Duration::from_mins(1), Duration::from_hours(366 * 24))
}

fn between(text: &str, least: Duration, most: Duration) -> Result<Duration, String> {
    let found = humantime::parse_duration(text).map_err(|error| format!("{error}; write one such as \"6h\""))?;
    if (least..=most).contains(&found) {
        return Ok(found);
    }
    let shown = crate::duration::display;
    Err(format!("expected {} to {}", shown(least), shown(most)))
}

/// Trains until it is stopped, or for so many rounds.
pub(super) fn run(args: &TrainArgs, pause: Duration) -> anyhow::Result<()> {
    let setup = args.config.read()?;
    let (spec, folder) = models::folder(&setup)?;
    if !folder.is_pinned()? {
        return Err(Exit::Model.because(format!(
            "train --follow: no version of {} is pinned, so each new one would serve at once; pin the one that serves with aimpoint \
             models activate VERSION",
            spec.path.display()
        )));
    }
    clean_up_on_signals()?;
    let mut start: Option<Vec<Network>> = None;
    let rounds = args.rounds.unwrap_or(usize::MAX);
    for round in 1..=rounds {
        match learn(args, start.as_deref()) {
            Ok(networks) => start = Some(networks),
            // There may be too few outcomes yet, or a broker may be away.
            Err(error) if round < rounds => {
                writeln!(io::stderr(), "aimpoint: warning: this training failed, the next begins in {}: {error:#}", {
                    crate::duration::display(pause)
                })
                .unwrap_or_default();
            }
            Err(error) => return Err(error),
        }
        if round < rounds {
            thread::sleep(pause);
        }
    }
    Ok(())
}

/// Trains once, from these networks on, and adds the version to the folder.
fn learn(args: &TrainArgs, start: Option<&[Network]>) -> anyhow::Result<Vec<Network>> {
    let setup = args.config.read()?;
    let work = TemporaryFolder::create("aimpoint-training-")?;
    let now = jiff::Timestamp::now();
    let since = now.checked_sub(args.window).context("compute the beginning of --window")?;
    let rows = work.path().join("rows.parquet");
    export::decisions_since(&args.config, &setup, since, rows.clone())?;
    let version = now.strftime("%Y%m%dT%H%M%SZ").to_string();
    let name = args.name.clone().unwrap_or_else(|| setup.config.app.name.clone());
    let args = TrainArgs { name: Some(name), ..args.clone() };
    let model = work.path().join("model.onnx");
    let trained = make(&args, Job { data: &rows, out: &model, version: Some(version.clone()), start })?;
    let reason = format!("train --follow on the decisions since {since:.0}");
    models::add_for(&setup, &model, &version, reason, &mut stdout())?;
    Ok(trained.members)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_and_a_window_have_bounds() {
        assert_eq!(pause("6h"), Ok(Duration::from_hours(6)));
        assert_eq!(window("30d"), Ok(Duration::from_hours(720)));
        for (found, part) in
            [(pause("10ms"), "expected 1s to 31d"), (window("1s"), "expected 1m"), (pause("x"), "such as")]
        {
            let error = found.unwrap_err();
            assert!(error.contains(part), "{part}: {error}");
        }
    }
}
