//! Several real workers on the model broker, with faults drawn from a seed at every step: crashes, hangs that outlast
//! the session (both also in the middle of a turn), aborted transactions, commits without an answer that take effect
//! now, later or never, refused outputs, stale generations, eager and cooperative rebalances, failing models,
//! compaction, retention, lost changelogs, and an input whose producer aborts transactions. Half of the runs show
//! outputs at once (`delivery = "at_least_once"`); some change the delivery at each start.
//!
//! `checks` lists what is verified after every step. `SIMULATION_SEEDS=n` sets the number of seeds (3,000 by default),
//! `SIMULATION_FIRST=n` the first one. To replay a failing seed, run
//! `SIMULATION_FIRST=<seed> SIMULATION_SEEDS=1 cargo test --test simulation`. `SIMULATION_CANARIES=A,B` only looks for
//! these known bugs.

mod cases;
mod checks;
mod consent;
mod driver;
mod erasure;
mod naive;
mod policies;
mod pseudonyms;
mod silence;
mod world;

use aimpoint::canary::{self, Canary};
use driver::{Happened, simulate};
use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

/// The number of seeds to try per canary.
const CANARY_SEEDS: u64 = 6_000;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a whole number"))
}

thread_local! {
    /// Whether panics of this thread are findings rather than failures.
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

fn quiet_panics() {
    let loud = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !QUIET.get() {
            loud(info);
        }
    }));
}

/// Runs a seed; returns what happened, or why the run failed.
fn outcome(seed: u64, core: &mut driver::Core) -> Result<Happened, String> {
    catch_unwind(AssertUnwindSafe(|| simulate(seed, core))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|it| (*it).to_owned()));
        Err(format!("broke off: {}", text.unwrap_or_default()))
    })
}

/// A worker pauses during a restore and is overtaken. After a compaction it finds the right number of profiles, but old
/// ones.
#[test]
fn a_worker_that_is_overtaken_while_it_restores_restores_again() {
    outcome(5_911, &mut driver::Core::default()).map(drop).unwrap();
}

#[test]
fn whatever_fails_each_event_has_its_one_decision_and_each_profile_its_state() {
    let (first, seeds) = (number("SIMULATION_FIRST", 0), number("SIMULATION_SEEDS", 3_000));
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let next = AtomicU64::new(first);
    let sum = Mutex::new(Happened::default());
    let start = Instant::now();
    let found: Vec<String> = std::thread::scope(|scope| {
        let run = || {
            let mut core = driver::Core::default();
            let mut happened = Happened::default();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= first + seeds {
                    sum.lock().expect("nobody panics with it").add(&happened);
                    return None;
                }
                match outcome(seed, &mut core) {
                    Ok(it) => happened.add(&it),
                    Err(why) => {
                        next.store(first + seeds, Ordering::Relaxed);
                        return Some(format!(
                            "seed {seed}: {why}\nreplay: SIMULATION_FIRST={seed} SIMULATION_SEEDS=1 cargo test --test simulation"
                        ));
                    }
                }
                let done = seed - first + 1;
                if done.is_multiple_of(10_000) {
                    eprintln!("{done} seeds, {:.0} a second", done as f64 / start.elapsed().as_secs_f64());
                }
            }
        };
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        running.into_iter().filter_map(|it| it.join().expect("panics are caught")).collect()
    });
    assert!(found.is_empty(), "{}", found.join("\n"));
    let happened = sum.into_inner().expect("nobody panics with it");
    eprintln!("{seeds} seeds, {:.0} a second: {happened:?}", seeds as f64 / start.elapsed().as_secs_f64());
    if seeds >= 1_000 {
        happened.has_everything();
    }
}

/// The named case that finds a bug which takes thousands of seeds to show.
fn case_of(canary: Canary) -> Option<fn()> {
    match canary {
        Canary::RestoreToStable => Some(cases::a_restore_waits_for_the_open_transactions_of_the_changelog),
        Canary::OldRecordsTrusted => Some(cases::an_old_record_in_the_right_number_is_noticed),
        Canary::EmissionStateNotRestored => Some(cases::what_readers_were_told_is_restored),
        Canary::TombstoneAfterProfile => Some(cases::a_tombstone_is_written_before_the_profile_of_a_user_who_came_back),
        Canary::MoveForgetsTombstone | Canary::MoveNotCommitted => {
            Some(pseudonyms::when_the_key_changes_each_user_moves_once_and_keeps_everything)
        }
        _ => None,
    }
}

#[test]
fn each_known_bug_is_found() {
    quiet_panics();
    let names = std::env::var("SIMULATION_CANARIES").ok();
    let is_meant = |canary: &Canary| {
        names.as_deref().is_none_or(|names| names.split(',').any(|name| name == format!("{canary:?}")))
    };
    let next = Mutex::new(Canary::ALL.into_iter().filter(is_meant));
    let missed = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                QUIET.set(true);
                loop {
                    let Some(canary) = next.lock().expect("nobody panics with it").next() else { break };
                    // A run that broke off may have left state behind.
                    let mut core = driver::Core::default();
                    canary::put_in(Some(canary));
                    let found = match case_of(canary) {
                        Some(case) => catch_unwind(case).err().map(|_| (0, "a named case".to_owned())),
                        None => (0..CANARY_SEEDS).find_map(|seed| Some((seed, outcome(seed, &mut core).err()?))),
                    };
                    canary::put_in(None);
                    match found {
                        Some((seed, why)) => {
                            let why: String = why.chars().take(120).collect();
                            eprintln!("{canary:?}: found by seed {seed}: {why}");
                        }
                        None => missed.lock().expect("nobody panics with it").push(canary),
                    }
                }
            });
        }
    });
    let missed = missed.into_inner().expect("nobody panics with it");
    assert!(missed.is_empty(), "{CANARY_SEEDS} seeds do not find {missed:?}");
}
