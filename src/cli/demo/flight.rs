//! The flight of the campaigns: the last days of the data, with control between workers and a simulated market.
//!
//! ```text
//! a day's purchases ─► workers ─► decisions ─► market (simulated) ─► outcomes ─┐
//!                         ▲           └──────────────────────────► control ◄───┘
//!                         └──── policy topic ◄── one policy a day ────┘
//! ```
//!
//! The data have days but no hours. So the workers' clock stands at each midnight, one policy is published for each day,
//! and a day begins when the last one is over. Each worker follows the new policy before the first event of the day.
//! Therefore the same data give the same decisions, outcomes and policies.
//!
//! Control runs its rules and not its role: the embedded broker hides no open transaction, which a leader relies on, and
//! the role follows the clock of the machine, which would make three months of it.

use super::{
    Line, PATIENCE,
    decisions::{Decision, check_progress},
    market::Market,
    stage::Stage,
};
use crate::{
    app::{ReplayedControl, Setup, campaigns},
    cli::why::ReadDecision,
    control::{CampaignSetup, Counts, Figures},
    event::Record,
    sink::Publisher,
    source::Reader,
    targeting::{pacing::Mode, policy::Policy},
};
use anyhow::Context;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// How many days the flight has. The campaigns of the demo begin on the first of them.
pub(super) const DAYS: usize = 91;
const DAY: Duration = Duration::from_hours(24);
const DAY_US: i64 = 86_400_000_000;

/// A decision of the flight.
pub(super) struct Flown {
    pub(super) event: String,
    pub(super) read: ReadDecision,
}

/// What the flight was, and what control knows of it.
pub(super) struct Flight {
    /// The first midnight, in microseconds since 1970.
    pub(super) start: i64,
    /// The campaigns, in their order.
    pub(super) campaigns: Vec<CampaignSetup>,
    /// In the order of their events.
    pub(super) decisions: Vec<Flown>,
    /// One at each midnight, the last one after the flight.
    pub(super) policies: Vec<Policy>,
    /// What happened.
    pub(super) market: Market,
    /// How many outcomes were sent.
    pub(super) sent: u64,
    /// What control has counted.
    pub(super) counts: Counts,
    /// By campaign, what control has counted.
    pub(super) figures: BTreeMap<String, Figures>,
}

impl Flight {
    /// The index of the first event of the flight. Without control, or without times, it is the end.
    pub(super) fn begins(setup: &Setup, lines: &[Line]) -> usize {
        let Some(start) = start(lines).filter(|_| setup.config.needs_control()) else { return lines.len() };
        lines.iter().position(|line| line.at.is_some_and(|at| at >= start)).unwrap_or(lines.len())
    }

    /// Plays the flight with these events. `None` if nothing needs control.
    pub(super) fn fly(setup: &Setup, stage: &mut Stage, lines: &[Line]) -> anyhow::Result<Option<Self>> {
        let Some(start) = start(lines).filter(|_| setup.config.needs_control()) else { return Ok(None) };
        let mut wires = Wires::open(setup)?;
        let mut control = ReplayedControl::new(setup, DAY)?;
        let (mut market, mut policies) = (Market::default(), Vec::new());
        let first = stage.decisions.all.len();
        let mut lines = lines;
        for day in 0..DAYS {
            let midnight = start + day as i64 * DAY_US;
            stage.clock.stand_at(midnight);
            let policy = control.tick(midnight);
            wires.policies.publish(Some(setup.config.app.name.as_bytes()), Some(&json(&policy)?))?;
            wires.policies.finish()?;
            await_policy(stage, policy.version)?;
            policies.push(policy);
            let count = lines.iter().take_while(|line| line.at.is_none_or(|at| at < midnight + DAY_US)).count();
            let (of_day, later) = lines.split_at(count);
            lines = later;
            let before = stage.decisions.all.len();
            stage.decide(of_day)?;
            for decision in &stage.decisions.all[before..] {
                control.keep(&setup.config.topics.decisions, &record(decision), midnight);
                let read = decision.read()?;
                let outcomes = market.follow(&read.decision_id, read.decided_at, day / 7, &read.campaigns);
                for outcome in outcomes {
                    wires.outcomes.publish(decision.key.as_deref(), Some(&outcome.to_json()))?;
                    wires.sent += 1;
                }
            }
            wires.read_back(stage, |record| {
                control.keep(&setup.config.topics.outcomes, record, midnight + DAY_US);
            })?;
        }
        policies.push(control.tick(start + DAYS as i64 * DAY_US));
        stage.clock.release();
        let campaigns = campaigns(setup)?;
        let figures = campaigns.iter().map(|it| (it.id.clone(), control.figures(&it.id))).collect();
        let mut decisions: Vec<Flown> = stage.decisions.all[first..]
            .iter()
            .map(|it| Ok(Flown { event: it.trigger_event_id.clone(), read: it.read()? }))
            .collect::<anyhow::Result<_>>()?;
        decisions.sort_by(|one, other| one.event.cmp(&other.event));
        let counts = control.counts();
        Ok(Some(Self { start, campaigns, decisions, policies, market, sent: wires.sent, counts, figures }))
    }

    /// The planned spend of a campaign up to a midnight, counted in days since the start. `None` without a plan.
    pub(super) fn planned(&self, campaign: &CampaignSetup, days: usize) -> Option<i64> {
        let budget = campaign.budget.filter(|budget| budget.mode != Mode::Asap)?;
        let total = budget.total.map_or(i64::MAX, |total| total.0);
        if let Some(daily) = budget.daily {
            return Some(daily.0.saturating_mul(days as i64).min(total));
        }
        // A total budget is spread over the days to its end.
        let length = (campaign.until? - self.start) as f64 / DAY_US as f64;
        Some((total as f64 * (days as f64 / length).min(1.0)) as i64)
    }
}

/// The midnight at which the flight of these events begins, in microseconds since 1970.
fn start(lines: &[Line]) -> Option<i64> {
    let last = lines.iter().filter_map(|line| line.at).max()?;
    Some((last.div_euclid(DAY_US) + 1 - DAYS as i64) * DAY_US)
}

fn json(policy: &Policy) -> anyhow::Result<Vec<u8>> {
    policy.to_json().map_err(anyhow::Error::msg).context("write a policy")
}

/// A decision as the record that it came in.
fn record(decision: &Decision) -> Record<'_> {
    let (partition, offset) = decision.place;
    let (key, payload) = (decision.key.as_deref(), Some(&decision.payload[..]));
    Record { partition, offset, key, payload, ..Record::default() }
}

/// Waits until each worker follows this policy.
fn await_policy(stage: &mut Stage, version: u64) -> anyhow::Result<()> {
    let begun = Instant::now();
    let follows = |stage: &Stage| {
        let mut workers = stage.fleet.progress().iter();
        workers.all(|worker| worker.status().policy.is_some_and(|(followed, _)| followed >= version))
    };
    while !follows(stage) {
        check_progress(begun, "a worker does not follow control's policy", &mut stage.fleet)?;
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// The topics between control, workers and market.
struct Wires {
    policies: Publisher,
    outcomes: Publisher,
    reader: Reader,
    sent: u64,
    read: u64,
}

impl Wires {
    fn open(setup: &Setup) -> anyhow::Result<Self> {
        let (kafka, topics) = (&setup.config.kafka, &setup.config.topics);
        let publisher = |topic: &str| Publisher::new(&kafka.brokers, &kafka.producer_settings(), topic, PATIENCE);
        Ok(Self {
            policies: publisher(&setup.config.policy_topic())?,
            outcomes: publisher(&topics.outcomes)?,
            reader: Reader::open(&kafka.brokers, &kafka.client_settings(), &[&topics.outcomes])?,
            sent: 0,
            read: 0,
        })
    }

    /// Hands over all outcomes that were sent.
    fn read_back(&mut self, stage: &mut Stage, mut take: impl FnMut(&Record<'_>)) -> anyhow::Result<()> {
        self.outcomes.finish()?;
        let begun = Instant::now();
        while self.read < self.sent {
            let Self { reader, read, .. } = self;
            reader.poll(Duration::from_millis(2), |_, record, _| {
                take(record);
                *read += 1;
            })?;
            check_progress(begun, "no outcome", &mut stage.fleet)?;
        }
        Ok(())
    }
}
