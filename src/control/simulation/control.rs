//! Control's driver: it reads, commits and crashes.

use super::{
    CAMPAIGNS, setups, spec,
    world::{Draws, PARTITIONS, World},
};
use crate::{
    control::{Disposition, Follower, Offer, OfferedDecision, Skipped, Source, State},
    targeting::{money::Cpm, policy::Policy},
};
use std::collections::BTreeMap;

const TOPICS: [&str; 2] = ["decisions", "outcomes"];

pub(super) struct Control {
    draws: Draws,
    /// `None` between a crash and the takeover.
    pub(super) state: Option<State>,
    /// The compacted topic, as a reader of committed records sees it.
    pub(super) committed: BTreeMap<String, Vec<u8>>,
    /// Follows the compacted topic.
    standby: Follower,
    /// The policies of committed transactions, with the time of the commit.
    pub(super) published: Vec<(i64, Policy)>,
    /// The records read, by topic and partition.
    read: BTreeMap<(usize, i32), usize>,
    down_until: i64,
    pub(super) takeovers: u64,
    pub(super) aborts: u64,
    pub(super) redelivered: u64,
    pub(super) waited: u64,
    /// The most records that the compacted topic had.
    pub(super) records_max: usize,
}

impl Control {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            draws: Draws(seed ^ 1 << 50),
            state: None,
            committed: BTreeMap::new(),
            standby: Follower::new("shop", &spec(), setups()),
            published: Vec::new(),
            read: BTreeMap::new(),
            down_until: 0,
            takeovers: 0,
            aborts: 0,
            redelivered: 0,
            waited: 0,
            records_max: 0,
        }
    }

    pub(super) fn step(&mut self, now: i64, world: &World) {
        if now < self.down_until {
            return;
        }
        self.take_over();
        let mut inputs: Vec<(usize, i32)> =
            (0..2).flat_map(|topic| (0..PARTITIONS).map(move |it| (topic, it))).collect();
        self.draws.shuffle(&mut inputs);
        let mut is_at_end = true;
        for input in inputs {
            let most = if self.draws.chance(0.2) { 0 } else { self.draws.below(60) as usize };
            is_at_end &= self.read(input, most, world);
        }
        let Some(state) = &mut self.state else { return };
        if is_at_end {
            state.advance(now);
        }
        if now / 1_000_000 % 5 == 0 {
            let policy = state.tick(now);
            assert!(state.take_rejected().len() < 10);
            match self.draws.below(100) {
                0..94 => self.commit(now, policy, true),
                94..97 => self.aborts += 1,
                97..98 => self.crash(now),
                _ => {
                    self.commit(now, policy, false);
                    self.crash(now);
                }
            }
        }
    }

    /// Reads everything, and commits.
    pub(super) fn finish(&mut self, now: i64, world: &World) {
        self.take_over();
        for topic in 0..2 {
            for partition in 0..PARTITIONS {
                assert!(self.read((topic, partition), usize::MAX, world));
            }
        }
        if let Some(state) = &mut self.state {
            state.advance(now);
            let policy = state.tick(now);
            self.commit(now, policy, true);
        }
    }

    fn take_over(&mut self) {
        if self.state.is_some() {
            return;
        }
        // A new standby reads the topic in the order that compaction has left.
        let mut records: Vec<(&String, Option<&Vec<u8>>)> =
            self.committed.iter().map(|(key, value)| (key, Some(value))).collect();
        self.draws.shuffle(&mut records);
        let mut standby = Follower::new("shop", &spec(), setups());
        for (key, value) in &records {
            standby.follow(key, value.map(Vec::as_slice));
        }
        let standby = std::mem::replace(&mut self.standby, standby);
        let mut state = standby.finish().expect("what was committed can be restored");
        if self.takeovers.is_multiple_of(4) {
            let restored = State::restore("shop", &spec(), setups(), records).expect("in any order");
            assert_eq!(state.records(), restored.records());
        }
        for (number, topic) in TOPICS.iter().enumerate() {
            state.assign(topic, 0..PARTITIONS);
            for partition in 0..PARTITIONS {
                let position = state.position(topic, partition).unwrap_or_default() as usize;
                // The committed offset may be older than the state.
                let again = (self.draws.below(6) as usize).min(position);
                self.redelivered += again as u64;
                self.read.insert((number, partition), position - again);
            }
        }
        self.state = Some(state);
        self.takeovers += 1;
    }

    /// Reads at most so many records of an input. Returns whether its end is reached.
    fn read(&mut self, (topic, partition): (usize, i32), most: usize, world: &World) -> bool {
        let Some(state) = &mut self.state else { return false };
        let from = self.read[&(topic, partition)];
        let at = partition as usize;
        let end = if topic == 0 { world.decisions[at].len() } else { world.outcomes[at].len() };
        let to = end.min(from.saturating_add(most));
        for offset in from..to {
            let source = |arrived_at| Source { topic: TOPICS[topic], partition, offset: offset as i64, arrived_at };
            if topic == 0 {
                let it = &world.decisions[at][offset];
                let offer = |row: &super::world::OfferRow| Offer {
                    campaign_id: CAMPAIGNS[row.campaign],
                    bid: Cpm(super::BID),
                    currency: "EUR".parse().expect("a currency"),
                    creative_id: row.creative,
                    audience: row.audience,
                    features: &[],
                    probability: Some(super::PROBABILITY),
                };
                let offers: Vec<Offer<'_>> = it.offers.iter().map(offer).collect();
                let skipped =
                    |(campaign, reason): &(usize, _)| Skipped { campaign_id: CAMPAIGNS[*campaign], reason: *reason };
                let skipped: Vec<Skipped<'_>> = it.skipped.iter().map(skipped).collect();
                let decision = OfferedDecision {
                    decision_id: &it.id,
                    user_key: &it.user,
                    decided_at: it.decided_at,
                    expires_at: it.decided_at,
                    policy_version: it.version,
                    model_version: "7",
                    variant: "",
                    offers: &offers,
                    skipped: &skipped,
                };
                state.apply_decision(&source(it.arrived_at), &decision);
            } else {
                let (arrived_at, outcome) = &world.outcomes[at][offset];
                let effects = state.apply_outcome(&source(*arrived_at), outcome);
                self.waited += u64::from(effects.disposition == Disposition::Parked);
            }
        }
        self.read.insert((topic, partition), to);
        to == end
    }

    /// Commits the dirty records with the policy in one transaction.
    fn commit(&mut self, now: i64, policy: Policy, is_known: bool) {
        let Some(state) = &mut self.state else { return };
        for record in state.dirty() {
            self.standby.follow(&record.key, record.value.as_deref());
            match record.value {
                Some(value) => self.committed.insert(record.key, value),
                None => self.committed.remove(&record.key),
            };
        }
        self.records_max = self.records_max.max(self.committed.len());
        let json = policy.to_json().expect("a policy can be written");
        self.published.push((now, Policy::parse(&json).expect("and read")));
        if is_known {
            state.mark_clean();
        }
    }

    fn crash(&mut self, now: i64) {
        self.state = None;
        let seconds = if self.draws.chance(0.15) { 100 + self.draws.below(100) } else { 1 + self.draws.below(14) };
        self.down_until = now + seconds as i64 * 1_000_000;
    }
}
