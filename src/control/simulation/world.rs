//! Workers that decide with policies, and the logs. Keeps the truth about decisions.

use super::{CAMPAIGNS, SECOND, spec};
use crate::{
    control::{Outcome, SkipReason},
    random::mix,
    targeting::{
        creative::{Catalogue, CreativeSpec, Draw, Eligible, Floor},
        policy::{Admission, CampaignRef, CompiledPolicy, Gate, Policy},
    },
};
use std::collections::BTreeMap;

pub(super) const PARTITIONS: i32 = 2;
const CREATIVES: [&str; 2] = ["red", "blue"];
const AUDIENCES: [&str; 2] = ["sport", ""];

/// A seeded generator: SplitMix64.
pub(super) struct Draws(pub(super) u64);

impl Draws {
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0) % end
    }

    pub(super) fn chance(&mut self, share: f64) -> bool {
        (self.below(1_000_000) as f64) < share * 1e6
    }

    /// A time between some seconds, in microseconds.
    pub(super) fn seconds(&mut self, from: u64, to: u64) -> i64 {
        (from * 1_000_000 + self.below((to - from) * 1_000_000)) as i64
    }

    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at as u64 + 1) as usize);
        }
    }
}

pub(super) struct OfferRow {
    pub(super) campaign: usize,
    pub(super) creative: Option<&'static str>,
    pub(super) audience: &'static str,
}

pub(super) struct DecisionRow {
    pub(super) arrived_at: i64,
    pub(super) id: String,
    pub(super) user: String,
    pub(super) decided_at: i64,
    pub(super) version: u64,
    pub(super) offers: Vec<OfferRow>,
    pub(super) skipped: Vec<(usize, SkipReason)>,
}

/// What happened to a campaign.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Truth {
    /// Cost by day, and the part without a decision.
    pub(super) spent: BTreeMap<i32, i64>,
    pub(super) unattributed: i64,
    pub(super) wins: u64,
    pub(super) losses: u64,
    pub(super) impressions: u64,
    pub(super) viewable: u64,
    pub(super) clicks: u64,
    pub(super) conversions: u64,
    pub(super) revenue: i64,
    pub(super) eligible: u64,
    pub(super) passed: u64,
    /// Successes and failures by creative and audience.
    pub(super) lessons: BTreeMap<(String, String), (u64, u64)>,
    /// Costs by time of decision.
    pub(super) costs: Vec<(i64, i64)>,
}

struct Worker {
    policy: CompiledPolicy,
    /// When the worker hears of policies again.
    deaf_until: i64,
    /// The number of policies of the feed that were looked at.
    seen: usize,
    /// By how much its clock is wrong.
    clock_off: i64,
    issued_at: Option<i64>,
}

pub(super) struct World {
    pub(super) draws: Draws,
    catalogue: Catalogue,
    workers: Vec<Worker>,
    pub(super) number: u64,
    pub(super) decisions: Vec<Vec<DecisionRow>>,
    pub(super) outcomes: Vec<Vec<(i64, Outcome)>>,
    coming_decisions: BTreeMap<i64, Vec<(usize, DecisionRow)>>,
    pub(super) coming_outcomes: BTreeMap<i64, Vec<(usize, Outcome)>>,
    pub(super) truth: [Truth; 3],
    pub(super) faults: Vec<String>,
    pub(super) stale: u64,
    pub(super) exhausted: u64,
}

fn campaigns(audiences: &[String]) -> [CampaignRef<'_>; 3] {
    std::array::from_fn(|index| CampaignRef {
        id: CAMPAIGNS[index],
        currency: "EUR".parse().unwrap(),
        has_budget: index < 2,
        audiences: if index == 0 { audiences } else { &[] },
        features: &[],
        floor: Floor::default(),
    })
}

/// The day of a campaign, computed in another way than control does.
pub(super) fn day(campaign: usize, at: i64) -> i32 {
    let ahead = if campaign == 0 { super::KOLKATA_S } else { 0 };
    (at + ahead * SECOND).div_euclid(86_400 * SECOND) as i32
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let creative = |id: &&str| {
            let text = format!(
                "id = {id:?}\ncampaign = \"daily\"\nheadline = [\"Now\"]\nlanding_page = \"https://a.example/\""
            );
            toml::from_str::<CreativeSpec>(&text).unwrap()
        };
        let specs: Vec<CreativeSpec> = CREATIVES.iter().map(creative).collect();
        let catalogue = Catalogue::compile(&specs, &mut Vec::new());
        let audiences = [AUDIENCES[0].to_owned()];
        let worker = |number: i64| Worker {
            policy: CompiledPolicy::absent(&campaigns(&audiences), &catalogue, spec().stale_after),
            deaf_until: 0,
            seen: 0,
            clock_off: (number - 1) * 1_500_000,
            issued_at: None,
        };
        Self {
            draws: Draws(seed),
            workers: (0..3).map(worker).collect(),
            catalogue,
            number: 0,
            decisions: (0..PARTITIONS).map(|_| Vec::new()).collect(),
            outcomes: (0..PARTITIONS).map(|_| Vec::new()).collect(),
            coming_decisions: BTreeMap::new(),
            coming_outcomes: BTreeMap::new(),
            truth: Default::default(),
            faults: Vec::new(),
            stale: 0,
            exhausted: 0,
        }
    }

    /// A second passes: policies and records arrive, and workers decide.
    pub(super) fn step(&mut self, now: i64, decides: bool, published: &[(i64, Policy)]) {
        for worker in 0..self.workers.len() {
            if self.draws.chance(0.002) {
                self.workers[worker].deaf_until = now + self.draws.seconds(10, 150);
            }
            self.hear(worker, now, published);
            if decides {
                self.decide(worker, now);
            }
        }
        if decides && self.draws.chance(0.05) {
            self.orphan(now);
        }
        let later = self.coming_decisions.split_off(&(now + 1));
        for (partition, row) in std::mem::replace(&mut self.coming_decisions, later).into_values().flatten() {
            self.decisions[partition].push(row);
        }
        let later = self.coming_outcomes.split_off(&(now + 1));
        for (arrived_at, outcomes) in std::mem::replace(&mut self.coming_outcomes, later) {
            for (partition, outcome) in outcomes {
                self.outcomes[partition].push((arrived_at, outcome));
            }
        }
    }

    /// A worker takes in what its feed brings: the newest policies, but sometimes an old one again.
    fn hear(&mut self, worker: usize, now: i64, published: &[(i64, Policy)]) {
        let delay = self.draws.seconds(0, 4);
        let repeats = self.draws.chance(0.05);
        let it = &mut self.workers[worker];
        if now < it.deaf_until {
            return;
        }
        let known = published.partition_point(|(at, _)| at + delay <= now);
        let new = it.seen.min(known)..known;
        it.seen = known.max(it.seen);
        let again = if repeats && known > 3 { &published[known - 3..known - 2] } else { &[] };
        for (_, policy) in published[new].iter().chain(again) {
            if it.policy.accepts(policy, now + it.clock_off) {
                let audiences = [AUDIENCES[0].to_owned()];
                let former = Some(it.policy.clone());
                it.policy =
                    CompiledPolicy::new(policy, &campaigns(&audiences), &self.catalogue, spec().stale_after, former);
                it.issued_at = Some(policy.issued_at);
            }
        }
    }

    fn decide(&mut self, worker: usize, now: i64) {
        self.number += 1;
        let id = format!("shop:clicks-{worker}-{}", self.number);
        let partition = self.draws.below(PARTITIONS as u64) as usize;
        let audience = self.draws.below(2) as usize;
        let is_bot = self.draws.chance(0.2);
        let user = if is_bot { "bot".to_owned() } else { format!("u{}", self.number) };
        let decided_at = now + self.workers[worker].clock_off;
        let word = Draw::word(&id);
        let mut row = DecisionRow {
            arrived_at: now.max(decided_at) + self.draws.seconds(0, 10),
            id,
            user,
            decided_at,
            version: self.workers[worker].policy.version(),
            offers: Vec::new(),
            skipped: Vec::new(),
        };
        for (campaign, name) in CAMPAIGNS.iter().enumerate() {
            let it = &mut self.workers[worker];
            let is_fresh = it.issued_at.is_some_and(|issued_at| (decided_at - issued_at).abs() <= 60 * SECOND);
            let gate = it.policy.gate(campaign, decided_at);
            self.stale += u64::from(gate == Gate::Unknown);
            match gate.admit(mix(word ^ campaign as u64)) {
                Admission::Passed(_) => {
                    if campaign < 2 && !is_fresh {
                        self.faults.push(format!("{name} passed with a policy that is too old"));
                    }
                    let draw = Draw::new(word, it.policy.version(), campaign as u64);
                    let chosen = it.policy.choose(campaign, audience, &[], Eligible::all(2), draw);
                    let offer = OfferRow {
                        campaign,
                        creative: chosen.map(|chosen| CREATIVES[chosen.index]),
                        audience: if campaign == 0 { AUDIENCES[audience] } else { "" },
                    };
                    self.truth[campaign].eligible += 1;
                    self.truth[campaign].passed += 1;
                    self.happen(&row, &offer, partition, is_bot);
                    row.offers.push(offer);
                }
                Admission::Paced => {
                    // Some of them passed, but others were better.
                    let is_outranked = self.draws.chance(0.1);
                    self.truth[campaign].eligible += 1;
                    self.truth[campaign].passed += u64::from(is_outranked);
                    row.skipped.push((campaign, if is_outranked { SkipReason::Outranked } else { SkipReason::Paced }));
                }
                Admission::Exhausted => self.exhausted += 1,
                Admission::Unknown => {}
            }
        }
        self.coming_decisions.entry(row.arrived_at).or_default().push((partition, row));
    }
}
