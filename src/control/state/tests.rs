//! Tests of the state: each rule by itself, and the bytes of its records.

mod bounds;
mod records;
mod rules;

use super::*;
use crate::{
    control::{LearningSpec, Offer},
    targeting::{
        campaign::{Budget, Learning, Reward},
        creative::{Beta, HalfLife},
        money::{Cpm, Micros},
        pacing::Mode,
    },
};
use jiff::tz::TimeZone;
use std::time::Duration;

const MINUTE: i64 = 60_000_000;
const START: i64 = 1_767_225_600_000_000;

fn spec() -> ControlSpec {
    ControlSpec {
        learning: LearningSpec { click_after: Duration::from_mins(10), conversion_after: Duration::from_mins(10) },
        ..ControlSpec::default()
    }
}

fn setup(id: &str) -> CampaignSetup {
    CampaignSetup {
        id: id.to_owned(),
        currency: "EUR".parse().unwrap(),
        zone: TimeZone::UTC,
        budget: Some(Budget { mode: Mode::Asap, daily: Some(Micros(100_000)), total: None, cost_max: Micros(5_000) }),
        until: None,
        reward: Reward::Click,
        predicts: Some(Reward::Click),
        learning: Learning::Thompson { prior: Beta { alpha: 1.0, beta: 9.0 }, half_life: HalfLife::NEVER },
        floor: 0.01,
        creatives: Vec::new(),
    }
}

/// A state, and the offsets of its inputs.
struct Run {
    state: State,
    offsets: i64,
    reports: i64,
    /// Of the decisions from now on.
    variant: &'static str,
}

impl Run {
    fn new() -> Self {
        Self::with(&spec())
    }

    fn with(spec: &ControlSpec) -> Self {
        Self { state: State::new("shop", spec, vec![setup("spring")]), offsets: 0, reports: 0, variant: "" }
    }

    fn source(&mut self, topic: &'static str, arrived_at: i64) -> Source<'static> {
        self.offsets += 1;
        Source { topic, partition: 0, offset: self.offsets, arrived_at }
    }

    /// A decision that offers the campaign `spring` with its creative `red` for 2 EUR per thousand.
    fn decide(&mut self, id: &str, at: i64) {
        self.offer(id, "spring", at);
    }

    fn offer(&mut self, id: &str, campaign: &str, at: i64) {
        let source = self.source("decisions", at);
        let offers = [Offer {
            campaign_id: campaign,
            bid: Cpm(2_000_000),
            currency: "EUR".parse().unwrap(),
            creative_id: Some("red"),
            audience: "sport",
            features: &[],
            probability: Some(0.25),
        }];
        let decision = OfferedDecision {
            decision_id: id,
            user_key: "u",
            decided_at: at,
            expires_at: at,
            policy_version: 0,
            model_version: "7",
            variant: self.variant,
            offers: &offers,
            skipped: &[],
        };
        assert!(self.state.apply_decision(&source, &decision));
    }

    /// Reports the sizes of audiences of a partition.
    fn report(&mut self, partition: i32, sizes: &[(u32, &str, u64)]) {
        self.reports += 1;
        let source = Source { topic: "audiences", partition: 0, offset: self.reports, arrived_at: START };
        let size = |(segtax, id, members): &(u32, &str, u64)| SegmentSize {
            segtax: *segtax,
            id: (*id).to_owned(),
            members: *members,
        };
        let segments = sizes.iter().map(size).collect();
        let report = AudienceReport { app: "shop".to_owned(), partition, segments };
        assert!(self.state.apply_audiences(&source, &report));
        assert!(!self.state.apply_audiences(&source, &report), "each record counts once");
        self.state.set_timeless(&source);
    }

    /// Applies an outcome that arrives when it happens.
    fn apply(&mut self, outcome: &Outcome) -> Effects {
        let source = self.source("outcomes", outcome.occurred_at);
        self.state.apply_outcome(&source, outcome)
    }

    fn total(&self) -> Figures {
        self.state.total("spring").copied().unwrap_or_default()
    }
}

/// An outcome of the decision `d1`.
fn outcome(id: &str, kind: OutcomeType, at: i64) -> Outcome {
    Outcome {
        id: id.to_owned(),
        kind,
        occurred_at: at,
        user_key: None,
        decision_id: Some("d1".to_owned()),
        auction_id: None,
        imp_id: None,
        campaign_id: Some("spring".to_owned()),
        creative_id: None,
        placement: None,
        value: None,
        currency: None,
        price: (kind == OutcomeType::Win).then_some(Cpm(1_500_000)),
        min_to_win: None,
        loss_reason: 0,
    }
}
