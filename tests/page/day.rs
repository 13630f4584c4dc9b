//! A day of control as a fixture: three campaigns, five creatives, workers that pace, and a bidder that reports.
//!
//! The state is filled as the role fills it: with decisions, outcomes, time and policies. The day is that of a zone in
//! which it is the middle of the afternoon now, so that the curves have a past and a future.

use aimpoint::{
    control::{
        AudienceReport, Board, CampaignSetup, ControlSpec, Offer, OfferedDecision, Outcome, OutcomeType, SegmentSize,
        SkipReason, Skipped, Source, State,
    },
    targeting::{
        campaign::{Budget, Learning, Reward},
        creative::{Beta, HalfLife},
        money::{Cpm, Micros},
        pacing::Mode,
        policy::Policy,
    },
};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use rand::{Rng, SeedableRng, rngs::SmallRng};

const MINUTE: i64 = 60_000_000;
const STEP: i64 = 5 * MINUTE;
/// Half an hour or so, the whole day before, of which the forecast is learned, and the day until now.
const STEPS: i64 = (24 + 16) * 12;
/// When the process began to lead: before, only the sum is known.
const LEADS_FROM: i64 = (24 + 5) * 12;

/// A campaign: its id, price of a thousand, and creatives with their true click rates.
type Row = (&'static str, &'static str, f64, &'static [(&'static str, f64)]);

const CAMPAIGNS: [Row; 3] = [
    ("spring-sale", "EUR", 3.2, &[("tulips", 0.031), ("picnic", 0.019), ("rain-coat", 0.012)]),
    ("back-in-stock", "EUR", 4.5, &[("your-basket", 0.052)]),
    ("brand-film", "USD", 7.0, &[("teaser", 0.008)]),
];

/// The state at the end, and what it shows.
pub(crate) struct Day {
    pub(crate) state: State,
    pub(crate) board: Board,
    random: SmallRng,
    policy: Option<Policy>,
    offset: i64,
}

/// A zone in which it is three in the afternoon, or up to an hour later.
fn afternoon(now: i64) -> TimeZone {
    let hour = now.div_euclid(60 * MINUTE).rem_euclid(24);
    // No zone is 15 hours ahead; the same time of the day before is 9 hours behind.
    let ahead = if hour == 0 { -9 } else { 15 - hour };
    // The signs of these names are those of POSIX.
    let name = if ahead >= 0 { format!("Etc/GMT-{ahead}") } else { format!("Etc/GMT+{}", -ahead) };
    TimeZoneDatabase::bundled().get(&name).unwrap()
}

fn setups(now: i64) -> Vec<CampaignSetup> {
    let amounts = [(Mode::Even, 9.0, Some(180.0)), (Mode::Traffic, 14.0, None), (Mode::Asap, 5.0, Some(60.0))];
    let micros = |units: f64| Micros((units * 1e6) as i64);
    let setup =
        |((id, currency, price, creatives), (mode, daily, total)): (Row, (Mode, f64, Option<f64>))| CampaignSetup {
            id: id.to_owned(),
            currency: currency.parse().unwrap(),
            zone: afternoon(now),
            budget: Some(Budget {
                mode,
                daily: Some(micros(daily)),
                total: total.map(micros),
                cost_max: micros(price / 500.0),
            }),
            until: None,
            reward: Reward::Click,
            predicts: Some(Reward::Click),
            learning: if creatives.len() > 1 {
                Learning::Thompson { prior: Beta { alpha: 1.0, beta: 49.0 }, half_life: HalfLife::NEVER }
            } else {
                Learning::Weights
            },
            floor: 0.02,
            creatives: creatives.iter().map(|(id, _)| (*id).to_owned()).collect(),
        };
    CAMPAIGNS.into_iter().zip(amounts).map(setup).collect()
}

impl Day {
    /// The beginning: nothing has been shown.
    fn beginning(now: i64, leads_from: i64) -> Self {
        let spec = ControlSpec::default();
        Self {
            state: State::new("shop", &spec, setups(now)),
            board: Board::new(&spec, leads_from),
            random: SmallRng::seed_from_u64(11),
            policy: None,
            offset: 0,
        }
    }

    /// Campaigns that have just begun: the first policy, and nothing else.
    pub(crate) fn begun(now: i64) -> Self {
        let mut day = Self::beginning(now, now);
        day.publish(now, true);
        day
    }

    /// The day up to now, in microseconds since 1970.
    pub(crate) fn until(now: i64) -> Self {
        let start = now - STEPS * STEP;
        let mut day = Self::beginning(now, start + LEADS_FROM * STEP);
        for step in 0..STEPS {
            let at = start + step * STEP;
            let local = at.div_euclid(60 * MINUTE) + 15 - now.div_euclid(60 * MINUTE).rem_euclid(24);
            // Few visitors at night, most in the late afternoon.
            let hour = local.rem_euclid(24) as f64;
            let visits = 8.0 + 34.0 * (0.5 - 0.5 * ((hour - 4.0) / 24.0 * std::f64::consts::TAU).cos());
            for _ in 0..visits as u64 {
                let place = day.random.random_range(0..STEP);
                day.visit(at + place);
            }
            day.oddities(at);
            day.audiences(at, step as u64);
            let end = at + STEP;
            day.publish(end, step >= LEADS_FROM);
        }
        day
    }

    /// A policy, as every few seconds.
    pub(crate) fn publish(&mut self, now: i64, leads: bool) {
        self.state.advance(now);
        let policy = self.state.tick(now);
        if leads {
            self.board.publish(&policy);
            self.board.observe(&self.state, now);
        }
        self.policy = Some(policy);
    }

    fn source(&mut self, topic: &'static str, at: i64) -> Source<'static> {
        self.offset += 1;
        Source { topic, partition: 0, offset: self.offset, arrived_at: at }
    }

    /// A decision with up to three campaigns, and what follows.
    pub(crate) fn visit(&mut self, at: i64) {
        let id = format!("shop:clicks-0-{}", self.offset);
        let audience = if self.random.random_bool(0.35) { "sport" } else { "" };
        let (mut offers, mut skipped) = (Vec::new(), Vec::new());
        for (campaign, currency, price, creatives) in CAMPAIGNS {
            let budget = self.policy.as_ref().and_then(|policy| policy.campaigns[campaign].budget);
            let Some(budget) = budget.filter(|budget| !budget.exhausted) else { continue };
            if !self.random.random_bool(budget.pass_through().share()) {
                skipped.push(Skipped { campaign_id: campaign, reason: SkipReason::Paced });
                continue;
            }
            let creative =
                creatives[(self.random.random_range(0.0_f64..1.0).powi(2) * creatives.len() as f64) as usize];
            let offer = Offer {
                campaign_id: campaign,
                bid: Cpm((price * 1.2e6) as i64),
                currency: currency.parse().unwrap(),
                creative_id: Some(creative.0),
                audience: if creatives.len() > 1 { audience } else { "" },
                features: &[],
                probability: Some((creative.1 * 1.1).min(1.0)),
            };
            offers.push((offer, price, creative.1));
        }
        let decision = OfferedDecision {
            decision_id: &id,
            user_key: &format!("user-{}", self.offset % 997),
            decided_at: at,
            expires_at: at + MINUTE,
            policy_version: self.state.version(),
            model_version: if self.offset % 3 == 0 { "8" } else { "7" },
            variant: "",
            offers: &offers.iter().map(|(offer, ..)| *offer).collect::<Vec<_>>(),
            skipped: &skipped,
        };
        let source = self.source("decisions", at);
        self.state.apply_decision(&source, &decision);
        for (offer, price, click_rate) in offers {
            let send = |day: &mut Self, kind: OutcomeType, after: i64| {
                let price =
                    (kind == OutcomeType::Win).then(|| Cpm((price * day.random.random_range(0.7e6..1.2e6)) as i64));
                let value = (kind == OutcomeType::Conversion).then_some(Micros(24_900_000));
                let outcome = Outcome { price, value, ..outcome(&id, offer.campaign_id, kind, at + after) };
                let source = day.source("outcomes", at + after);
                day.state.apply_outcome(&source, &outcome);
                if day.random.random_bool(0.02) {
                    let source = day.source("outcomes", at + after);
                    day.state.apply_outcome(&source, &outcome);
                }
            };
            if !self.random.random_bool(0.6) {
                send(self, OutcomeType::Loss, 1_000_000);
                continue;
            }
            send(self, OutcomeType::Win, 1_000_000);
            send(self, OutcomeType::Impression, 2_000_000);
            let keen = if offer.audience == "sport" { 2.0 } else { 1.0 };
            if self.random.random_bool(click_rate * keen) {
                send(self, OutcomeType::Click, 20_000_000);
                if self.random.random_bool(0.2) {
                    send(self, OutcomeType::Conversion, 90_000_000);
                }
            }
        }
    }

    /// An impression of a creative, without a price.
    pub(crate) fn show(&mut self, campaign: &str, creative: &str, at: i64) {
        let id = format!("shop:clicks-0-{}", self.offset);
        let (_, currency, ..) = CAMPAIGNS.into_iter().find(|(id, ..)| *id == campaign).unwrap();
        let offer = Offer {
            campaign_id: campaign,
            bid: Cpm(1_000_000),
            currency: currency.parse().unwrap(),
            creative_id: Some(creative),
            audience: "",
            features: &[],
            probability: None,
        };
        let decision = OfferedDecision {
            decision_id: &id,
            user_key: "user",
            decided_at: at,
            expires_at: at + MINUTE,
            policy_version: 1,
            model_version: "7",
            variant: "",
            offers: &[offer],
            skipped: &[],
        };
        let source = self.source("decisions", at);
        self.state.apply_decision(&source, &decision);
        let source = self.source("outcomes", at);
        self.state.apply_outcome(&source, &outcome(&id, campaign, OutcomeType::Impression, at));
    }

    /// What workers report of two partitions.
    fn audiences(&mut self, at: i64, step: u64) {
        for partition in 0..2 {
            let size =
                |segtax, id: &str, members| SegmentSize { segtax, id: id.to_owned(), members: members * (step + 1) };
            let segments = vec![size(0, "sport", 31), size(4, "686", 12), size(0, "loyal-customers", 3)];
            let report = AudienceReport { app: "shop".to_owned(), partition, segments };
            let source = self.source("audiences", at);
            self.state.apply_audiences(&source, &report);
        }
    }

    /// Outcomes that belong to nothing, come too late or cannot be used.
    fn oddities(&mut self, at: i64) {
        let kinds = [("unknown", at), ("late", at - 49 * 60 * MINUTE), ("future", at + 60 * MINUTE)];
        let (what, occurred_at) = kinds[self.random.random_range(0..kinds.len())];
        let source = self.source("outcomes", at);
        let outcome = outcome(&format!("{what}-{at}"), "spring-sale", OutcomeType::Click, occurred_at);
        self.state.apply_outcome(&source, &outcome);
    }
}

fn outcome(decision: &str, campaign: &str, kind: OutcomeType, at: i64) -> Outcome {
    Outcome {
        id: format!("{kind:?}-{decision}-{campaign}"),
        kind,
        occurred_at: at,
        user_key: None,
        decision_id: Some(decision.to_owned()),
        auction_id: None,
        imp_id: None,
        campaign_id: Some(campaign.to_owned()),
        creative_id: None,
        placement: None,
        value: None,
        currency: None,
        price: None,
        min_to_win: None,
        loss_reason: 0,
    }
}
