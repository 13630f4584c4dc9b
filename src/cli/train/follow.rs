//! Continuous learning: trains again and again on what followed the latest decisions.
//!
//! Owns the order of a round: rows from the topics, training from the weights that the round before had on its
//! training rows, and a new version in the folder.
//! Guarantees: nothing serves because of it, since the folder must be pinned; `aimpoint promote` decides that. A round that fails is
//! reported, and the next one begins after the pause; if the pin is gone, it ends. Limits: each round copies the topics of decisions and outcomes.

use super::{Job, TrainArgs, make};
use crate::{
    app::Setup,
    cli::{Exit, export, models, printed::stdout, signals::clean_up_on_signals},
    partial::TemporaryFolder,
    training::Start,
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
    check_pin(&args.config.read()?)?;
    clean_up_on_signals()?;
    let mut start = None;
    let rounds = args.rounds.unwrap_or(usize::MAX);
    for round in 1..=rounds {
        match learn(args, &mut start) {
            Ok(()) => {}
            // There may be too few outcomes yet, or a broker may be away.
            Err(error) if round < rounds => {
                check_pin(&args.config.read()?)?;
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

/// Whoever takes the pin away lets each new version serve, so it is looked at before each.
fn check_pin(setup: &Setup) -> anyhow::Result<()> {
    let (spec, folder) = models::folder(setup)?;
    if folder.is_pinned()? {
        return Ok(());
    }
    Err(Exit::Model.because(format!(
        "train --follow: no version of {} is pinned, so each new one would serve at once; pin the one that serves with aimpoint \
         models activate VERSION",
        spec.path.display()
    )))
}

/// Trains once, from `start` on if it fits, and adds the version to the folder. Afterwards, `start` is where the next one may begin:
/// none if this training failed, because it may have been at fault.
fn learn(args: &TrainArgs, start: &mut Option<Start>) -> anyhow::Result<()> {
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
    let from = start.take();
    let job = Job { data: &rows, out: &model, version: Some(version.clone()), start: from.as_ref() };
    let trained = make(&args, job)?;
    let reason = format!("train --follow on the decisions since {since:.0}");
    check_pin(&setup)?;
    models::add_for(&setup, &model, &version, reason, &mut stdout())?;
    *start = Some(trained.next);
    Ok(())
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
