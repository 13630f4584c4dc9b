//! Tests of evaluations: against a naive recount of a generated log whose truth is known, and on odd records.

mod figures;
mod odd;
mod trials;
pub(super) mod world;

use super::*;
use crate::{
    control::{CampaignSetup, ControlSpec, DecisionRecord, Outcome, Source},
    evaluation::{Confidence, Prediction, auc, brier, log_loss, normalised_entropy, sample::Sample, wilson},
    random::mix,
    targeting::campaign::{Learning, Reward},
};
use jiff::tz::TimeZone;
use std::{collections::BTreeMap, collections::BTreeSet, time::Duration};

pub(super) const START: i64 = 1_767_225_600_000_000;
pub(super) const SECOND: i64 = 1_000_000;
const HOUR: i64 = 3_600 * SECOND;
const CLICK_AFTER: i64 = HOUR;
const CONVERSION_AFTER: i64 = 6 * HOUR;

/// SplitMix64.
pub(super) struct Draws(pub(super) u64);

impl Draws {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    pub(super) fn chance(&mut self, share: f64) -> bool {
        ((self.next() >> 11) as f64) < share * 2.0_f64.powi(53)
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

pub(super) fn setup(id: &str, currency: &str) -> CampaignSetup {
    CampaignSetup {
        id: id.to_owned(),
        currency: currency.parse().unwrap(),
        zone: TimeZone::UTC,
        budget: None,
        until: None,
        reward: Reward::Click,
        predicts: Some(Reward::Click),
        learning: Learning::Weights,
        floor: 0.01,
        creatives: Vec::new(),
    }
}

fn campaign(currency: &str, label: Option<Label>, arms: &[(&str, f64)], holdout: f64) -> CampaignPlan {
    CampaignPlan {
        label,
        reward: Label::Click,
        currency: currency.parse().unwrap(),
        arms: arms.iter().map(|(arm, share)| ((*arm).to_owned(), *share)).collect(),
        holdout,
        features: Vec::new(),
    }
}

pub(super) fn plan(by: &[&str]) -> Plan {
    let campaigns = [
        ("spring", campaign("EUR", Some(Label::Click), &[("bold", 0.25)], 0.25)),
        ("summer", campaign("USD", Some(Label::Conversion), &[], 0.0)),
        ("autumn", campaign("EUR", None, &[], 0.0)),
    ];
    Plan {
        by: by.iter().map(|name| Dimension::parse(name).unwrap()).collect(),
        campaigns: campaigns.map(|(id, campaign)| (id.to_owned(), campaign)).into(),
        variants: Vec::new(),
        click_after: CLICK_AFTER,
        conversion_after: CONVERSION_AFTER,
        complete_until: None,
        minimum_audience: 0,
        confidence: Confidence::P95,
        effect: 0.2,
        charts: false,
        attribution: None,
        labels: false,
    }
}

fn spec() -> ControlSpec {
    ControlSpec::default()
}

/// Evaluates lines of JSON, each with its time of arrival.
fn evaluate(plan: Plan, decisions: &[(i64, String)], outcomes: &[(i64, String)]) -> EffectReport {
    evaluate_with(&spec(), plan, None, decisions, outcomes)
}

pub(super) fn evaluate_with(
    spec: &ControlSpec,
    plan: Plan,
    policy: Option<PolicyPlan>,
    decisions: &[(i64, String)],
    outcomes: &[(i64, String)],
) -> EffectReport {
    evaluate_setup(spec, plan, policy, |_| {}, decisions, outcomes)
}

/// The same with campaigns that control knows otherwise.
pub(super) fn evaluate_setup(
    spec: &ControlSpec,
    plan: Plan,
    policy: Option<PolicyPlan>,
    change: impl Fn(&mut CampaignSetup),
    decisions: &[(i64, String)],
    outcomes: &[(i64, String)],
) -> EffectReport {
    let mut setups: Vec<CampaignSetup> = plan.campaigns.iter().map(|(id, of)| setup(id, of.currency.code())).collect();
    setups.iter_mut().for_each(change);
    let reads_members = plan.by.iter().any(Dimension::reads_members);
    let mut evaluation = Evaluation::new("shop", spec, setups, plan, policy).unwrap();
    let mut all: Vec<(i64, usize, usize)> = (0..decisions.len()).map(|at| (decisions[at].0, 0, at)).collect();
    all.extend((0..outcomes.len()).map(|at| (outcomes[at].0, 1, at)));
    all.sort_unstable();
    for (arrived_at, kind, at) in all {
        let topic = ["decisions", "outcomes"][kind];
        let source = Source { topic, partition: 0, offset: at as i64, arrived_at };
        if kind == 0 {
            let json = &decisions[at].1;
            let record = DecisionRecord::read(json.as_bytes()).unwrap();
            evaluation.decision(&source, &record, reads_members.then_some(json.as_str())).unwrap();
        } else {
            let outcome = Outcome::read(Some(outcomes[at].1.as_bytes())).unwrap();
            drop(evaluation.outcome(&source, &outcome).unwrap());
        }
    }
    evaluation.finish(spec.wait).unwrap().report
}
