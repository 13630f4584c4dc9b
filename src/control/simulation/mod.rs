//! A simulation of control between workers and a bidder, with crashes.
//!
//! Three workers decide with the policies that reach them, late, never or twice. A bidder and a page report outcomes:
//! in any order, twice, much too late, in two ways, or without a decision. Control reads both topics at an uneven pace,
//! commits every five seconds, and crashes before or after a commit. A standby restores what was committed and reads
//! from a little before the committed position. In the end, a recount by the makers of the outcomes must agree with
//! control: money by day to the millionth, all counts, and what was learned.

mod bidder;
mod check;
mod control;
mod world;

use crate::{
    canary::{Canary, put_in},
    control::{AttributionSpec, CampaignSetup, ControlSpec, LearningSpec},
    targeting::{
        campaign::{Budget, Learning, Reward},
        creative::{Beta, HalfLife},
        money::Micros,
        pacing::Mode,
    },
};
use check::Report;
use control::Control;
use jiff::tz::{Offset, TimeZone};
use std::time::Duration;
use world::World;

const SECOND: i64 = 1_000_000;
/// Ten minutes before midnight in Kolkata.
const START_S: i64 = 1_767_225_600 + 18 * 3_600 + 1_200;
/// How long workers decide, and how long the last outcomes take to arrive and to be learned from.
const DECIDING_S: i64 = 1_200;
const ALL_S: i64 = DECIDING_S + 1_500;
/// How far the days of the first campaign are ahead of UTC.
const KOLKATA_S: i64 = 19_800;
const CAMPAIGNS: [&str; 3] = ["daily", "total", "free"];
const BID: i64 = 2_000_000;
/// What the model predicts of each impression.
const PROBABILITY: f64 = 0.25;

/// The settings, with windows that are short but longer than any delay that a crash causes.
fn spec() -> ControlSpec {
    let minutes = Duration::from_mins;
    ControlSpec {
        policy_interval: Duration::from_secs(5),
        stale_after: minutes(1),
        policy_lag: Duration::from_secs(15),
        settle: minutes(2),
        dedupe_horizon: minutes(15),
        wait: minutes(1),
        attribution: AttributionSpec {
            offer: minutes(8),
            engagement: minutes(10),
            view: minutes(10),
            click: minutes(15),
        },
        learning: LearningSpec { click_after: minutes(8), conversion_after: minutes(8) },
        ..ControlSpec::default()
    }
}

fn setups() -> Vec<CampaignSetup> {
    let budget = |mode, daily, total| Budget { mode, daily, total, cost_max: Micros(2_000) };
    let setup = |index: usize, zone, budget, learning| CampaignSetup {
        id: CAMPAIGNS[index].to_owned(),
        currency: "EUR".parse().unwrap(),
        zone,
        budget,
        until: None,
        reward: Reward::Click,
        predicts: Some(Reward::Click),
        learning,
        floor: 0.01,
        creatives: Vec::new(),
    };
    let thompson = Learning::Thompson { prior: Beta { alpha: 1.0, beta: 1.0 }, half_life: HalfLife::NEVER };
    let kolkata = TimeZone::fixed(Offset::from_seconds(KOLKATA_S as i32).unwrap());
    vec![
        setup(0, kolkata, Some(budget(Mode::Asap, Some(Micros(200_000)), None)), thompson),
        setup(1, TimeZone::UTC, Some(budget(Mode::Asap, None, Some(Micros(300_000)))), Learning::Weights),
        setup(2, TimeZone::UTC, None, Learning::Weights),
    ]
}

/// Runs a seed to its end.
fn run(seed: u64) -> Report {
    let mut world = World::new(seed);
    let mut control = Control::new(seed);
    for second in 0..ALL_S {
        let now = (START_S + second) * SECOND;
        world.step(now, second < DECIDING_S, &control.published);
        control.step(now, &world);
    }
    let end = (START_S + ALL_S) * SECOND;
    control.finish(end, &world);
    check::report(&world, &control)
}

#[test]
fn what_control_knows_is_what_happened_whatever_crashes() {
    let mut sum = Report::default();
    for seed in 0..10 {
        let report = run(seed);
        assert_eq!(report.faults, Vec::<String>::new(), "seed {seed}");
        sum.add(&report);
    }
    println!("{sum:?}");
    // Everything that can happen did.
    for (what, count) in [
        ("takeovers", sum.takeovers),
        ("aborts", sum.aborts),
        ("duplicates", sum.duplicates),
        ("late", sum.late),
        ("orphans", sum.orphans),
        ("rejected", sum.rejected),
        ("waited", sum.waited),
        ("redelivered", sum.redelivered),
        ("stale decisions", sum.stale),
        ("exhausted", sum.exhausted),
        ("lessons", sum.lessons),
    ] {
        assert!(count > 10, "{what}: {count}");
    }
}

#[test]
fn each_known_bug_is_found() {
    for canary in Canary::CONTROL {
        put_in(Some(canary));
        let found = (0..20).find_map(|seed| run(seed).faults.into_iter().next().map(|fault| (seed, fault)));
        put_in(None);
        let (seed, fault) = found.unwrap_or_else(|| panic!("{canary:?} is not found"));
        println!("{canary:?}: seed {seed}: {fault}");
    }
}
