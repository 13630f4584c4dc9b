//! The fold over decisions and outcomes.
//!
//! Owns the order of steps. Control's own [`State`] joins outcomes to decisions, recognises doubles and books money, so
//! the figures are those of control; the fold adds up what it tells by group.
//!
//! - An **impression** counts for the groups of its decision, and so do its clicks and conversions.
//! - A **label** is known when the impression has an age: [`Plan::click_after`], [`Plan::conversion_after`]. An outcome
//!   after that age is counted, but the label stays negative. Impressions that have not reached the age by the end of
//!   the log are immature, whatever has happened to them, because those that succeed early would count too much.

use super::{
    EffectError, Plan,
    charts::Collected,
    dimension::Decided,
    groups::Groups,
    journeys::Journeys,
    plan::Label,
    policy::{PolicyLog, PolicyPlan},
    rows::{LabelledImpression, Named, Offered, Rows, Shown},
    trial::{CONTROL, HOLDOUT, OFFERED, Subject, Trials},
    users::UserRows,
};
use crate::{
    control::{
        CampaignSetup, ControlSpec, Counts, DecisionRecord, Disposition, Key, OfferedDecision, Outcome, Rejection,
        SkipReason, Source, State, micros, offer_key,
    },
    evaluation::business,
};
use serde::Serialize;
use std::{collections::BTreeMap, rc::Rc, time::Duration};

/// How often the time of the stream moves on, in microseconds: outcomes that wait are tried again then.
const STEP: i64 = 5_000_000;

/// What the log holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Decisions.
    pub decisions: u64,
    /// Decisions that are in the log twice. They count once.
    pub decisions_double: u64,
    /// Decisions of other applications.
    pub decisions_foreign: u64,
    /// Outcomes that belong to a decision.
    pub joined: u64,
    /// Outcomes that were reported before.
    pub double: u64,
    /// Outcomes beyond the dedupe horizon or outside their window.
    pub late: u64,
    /// Those of them that happened before what they should follow.
    pub before_decision: u64,
    /// Outcomes without a known decision.
    pub orphan: u64,
    /// Outcomes that contradict what is known.
    pub rejected: u64,
    /// Impressions that showed another creative than the decision's.
    pub other_creative: u64,
    /// Clicks and conversions that came after their label was known.
    pub after_label: u64,
    /// Offers and impressions that were forgotten, because there were too many.
    pub forgotten: u64,
    /// What wins without a known decision have cost, in micros by currency.
    pub unattributed_micros: BTreeMap<String, i64>,
}

/// The fold.
#[derive(Debug)]
pub struct Evaluation {
    pub(super) plan: Plan,
    app: String,
    offer_for: i64,
    windows: Windows,
    pub(super) state: State,
    next_step: i64,
    /// The time of the newest record.
    pub(super) clock: i64,
    /// The time of the oldest record.
    pub(super) started_at: Option<i64>,
    /// The time of the newest outcome.
    pub(super) outcome_at: Option<i64>,
    pub(super) groups: Groups,
    pub(super) rows: Rows,
    pub(super) users: UserRows,
    pub(super) trials: Trials,
    pub(super) policy: Option<PolicyLog>,
    pub(super) charts: Option<Collected>,
    pub(super) journeys: Option<Journeys>,
    pub(super) totals: Totals,
    /// The labels that were not taken yet.
    pub(super) labelled: Vec<LabelledImpression>,
}

/// The windows of attribution in microseconds.
#[derive(Clone, Copy, Debug)]
struct Windows {
    engagement: i64,
    view: i64,
    click: i64,
}

impl Evaluation {
    /// An evaluation before any record. `policy`: a way of choosing creatives to estimate.
    ///
    /// # Errors
    ///
    /// Never with the built-in fineness of sketches.
    pub fn new(
        app: &str,
        spec: &ControlSpec,
        campaigns: Vec<CampaignSetup>,
        plan: Plan,
        policy: Option<PolicyPlan>,
    ) -> Result<Self, EffectError> {
        let charts = plan.charts.then(|| Collected::new(&campaigns));
        // The labels of an evaluation are its own.
        let campaigns = campaigns.into_iter().map(|it| CampaignSetup { predicts: None, ..it }).collect();
        let mut state = State::new(app, spec, campaigns);
        state.keep_trail();
        state.forget_changes();
        let attribution = &spec.attribution;
        let windows = Windows {
            engagement: micros(attribution.engagement),
            view: micros(attribution.view),
            click: micros(attribution.click),
        };
        Ok(Self {
            app: app.to_owned(),
            offer_for: micros(attribution.offer),
            windows,
            state,
            next_step: i64::MIN,
            clock: i64::MIN,
            started_at: None,
            outcome_at: None,
            groups: Groups::new(&plan.by)?,
            rows: Rows::default(),
            users: UserRows::default(),
            trials: Trials::default(),
            policy: policy.map(PolicyLog::new),
            charts,
            journeys: plan.attribution.map(Journeys::new),
            totals: Totals::default(),
            labelled: Vec::new(),
            plan,
        })
    }

    /// Takes in a decision. Records come in the order of [`Source::arrived_at`]. `json` is all of it, and only needed if
    /// [`Dimension::reads_members`](super::Dimension::reads_members).
    ///
    /// # Errors
    ///
    /// If a sum does not fit.
    pub fn decision(
        &mut self,
        source: &Source<'_>,
        record: &DecisionRecord,
        json: Option<&str>,
    ) -> Result<(), EffectError> {
        self.pass(source.arrived_at)?;
        if !record.is_of(&self.app) {
            self.totals.decisions_foreign += 1;
            return Ok(());
        }
        record.with(|offered| self.decided(source, &Decided { offered, details: record.details(), json }))
    }

    fn decided(&mut self, source: &Source<'_>, decided: &Decided<'_>) -> Result<(), EffectError> {
        let offered = decided.offered;
        let until = offered.expires_at.max(offered.decided_at).saturating_add(self.offer_for);
        if !self.rows.is_new(Key::of("decision", &[offered.decision_id]), until) {
            self.totals.decisions_double += 1;
            return Ok(());
        }
        self.totals.decisions += 1;
        self.state.apply_decision(source, offered);
        self.settle()?;
        let user = user_hash(offered.user_key);
        let models = self.enter(decided, user);
        if let Some(charts) = &mut self.charts {
            charts.decided(&self.plan, decided, user);
        }
        let mut groups = self.groups.of(decided, None)?;
        for (at, offer) in offered.offers.iter().enumerate() {
            let details = &decided.details.offers[at];
            let of_offer = self.groups.of(decided, Some(at))?;
            for number in &of_offer {
                if !groups.contains(number) {
                    groups.push(*number);
                }
            }
            self.groups.each(&of_offer, |group| {
                group.offers += 1;
                Ok(group.count(offer.currency, &business::Counts::default())?)
            })?;
            let label = self.plan.campaigns.get(offer.campaign_id).and_then(|campaign| campaign.label);
            let segments = &decided.details.segments;
            let choice = self.policy.as_mut().and_then(|log| log.choice(offer, details, segments));
            let charts = self.charts.as_mut();
            let charted = charts.and_then(|charts| charts.creative(offer.campaign_id, offer.creative_id));
            let channel = self.journeys.as_mut().map(|journeys| journeys.channel(offer.campaign_id));
            let row = Offered {
                groups: of_offer.into(),
                trials: models.into_iter().chain(self.trials.of_campaign(offer.campaign_id)).collect(),
                user,
                currency: offer.currency,
                decided_at: offered.decided_at,
                creative: offer.creative_id.map(Into::into),
                charted,
                channel,
                predicted: label.zip(details.probability),
                choice,
                named: label.filter(|_| self.plan.labels).map(|label| {
                    let (decision_id, campaign_id) = (offered.decision_id.to_owned(), offer.campaign_id.to_owned());
                    Rc::new(Named { decision_id, campaign_id, label, propensity: details.propensity })
                }),
            };
            self.rows.offer(offer_key(offered.decision_id, offer.campaign_id), until, row);
        }
        let minimum = self.plan.minimum_audience;
        self.groups.each(&groups, |group| {
            group.decisions += 1;
            group.see(user, minimum);
            Ok(())
        })
    }

    /// Takes the user of a decision into the experiments. Returns that of the models.
    fn enter(&mut self, decided: &Decided<'_>, user: u64) -> Option<u32> {
        let OfferedDecision { decided_at: at, offers, skipped, .. } = *decided.offered;
        let details = decided.details;
        let models =
            (!details.variant.is_empty()).then(|| self.trials.begin(Subject::Models(details.experiment.clone())));
        if let Some(trial) = models {
            self.trials.enter(trial, user, &details.variant, at);
        }
        let campaigns = &self.plan.campaigns;
        let is_split = |id: &str| campaigns.get(id).is_some_and(|it| it.holdout > 0.0 || !it.arms.is_empty());
        let has_arms = |id: &str| campaigns.get(id).is_some_and(|it| !it.arms.is_empty());
        for (offer, of) in offers.iter().zip(&details.offers) {
            if !of.arm.is_empty() || is_split(offer.campaign_id) {
                let arm = match of.arm.as_str() {
                    "" if has_arms(offer.campaign_id) => CONTROL,
                    "" => OFFERED,
                    arm => arm,
                };
                let trial = self.trials.begin(Subject::Campaign(offer.campaign_id.to_owned()));
                self.trials.enter(trial, user, arm, at);
            }
        }
        // Users who were outranked would have been offered the campaign like the others. Their arm is not known.
        let outranked = skipped.iter().filter(|it| it.reason == SkipReason::Outranked).map(|it| it.campaign_id);
        let outranked = outranked.filter(|id| is_split(id) && !has_arms(id)).map(|id| (id, OFFERED));
        let held_out = details.held_out.iter().map(|id| (id.as_str(), HOLDOUT));
        for (id, arm) in outranked.chain(held_out) {
            let trial = self.trials.begin(Subject::Campaign(id.to_owned()));
            self.trials.enter(trial, user, arm, at);
        }
        models
    }

    /// Takes in an outcome. Records come in the order of [`Source::arrived_at`]. Returns whether it waits for its
    /// decision, or why it was rejected.
    ///
    /// # Errors
    ///
    /// If a sum does not fit.
    pub fn outcome(&mut self, source: &Source<'_>, outcome: &Outcome) -> Result<Taken, EffectError> {
        self.pass(source.arrived_at)?;
        // A clock that is ahead says nothing of the log.
        self.outcome_at = self.outcome_at.max(Some(outcome.occurred_at.min(source.arrived_at)));
        let effects = self.state.apply_outcome(source, outcome);
        self.settle()?;
        Ok(match (effects.disposition, effects.rejection) {
            (Disposition::Parked, _) => Taken::Waits,
            (_, Some(rejection)) => Taken::Rejected(rejection),
            _ => Taken::Counted,
        })
    }

    /// The outcomes that have waited and were then rejected. Empties the list.
    pub fn take_rejected(&mut self) -> Vec<(Outcome, Rejection)> {
        self.state.take_rejected()
    }

    /// The impressions whose label became known, if [`Plan::labels`]. Empties the list.
    pub fn take_labelled(&mut self) -> Vec<LabelledImpression> {
        std::mem::take(&mut self.labelled)
    }

    /// Moves the time of the stream.
    fn pass(&mut self, now: i64) -> Result<(), EffectError> {
        self.clock = self.clock.max(now);
        self.started_at.get_or_insert(now);
        if now < self.next_step {
            return Ok(());
        }
        self.next_step = now.saturating_add(STEP);
        self.advance(now)
    }

    fn advance(&mut self, now: i64) -> Result<(), EffectError> {
        self.state.advance(now);
        self.settle()?;
        self.rows.forget_offers(now);
        // After the end of what is complete, no label becomes known.
        let end = self.plan.complete_until.unwrap_or(i64::MAX);
        let (known, is_over) = (now.min(end), end < now);
        for (key, mut shown, is_forgotten) in self.rows.due(now) {
            self.label(&mut shown, known, is_over)?;
            match self.next_due(&shown) {
                Some(due) if !is_forgotten => self.rows.show(key, due.max(now), shown),
                Some(_) => self.label(&mut shown, known, true)?,
                None => {}
            }
        }
        Ok(())
    }

    /// When there is something to do for an impression again. `None` if all is done, and no outcome can follow.
    pub(super) fn next_due(&self, shown: &Shown) -> Option<i64> {
        let labels = [Label::Click, Label::Conversion].into_iter().zip(shown.is_labelled);
        let label = labels.filter(|(_, is_done)| !is_done).map(|(label, _)| self.plan.after(label)).min();
        let open = shown.is_labelled != [true; 2];
        let Windows { engagement, view, click } = self.windows;
        let over = match shown.clicked_at {
            Some(clicked) => clicked.saturating_add(click),
            None => shown.at.saturating_add(engagement.max(view)),
        };
        let next = label.map_or(over, |after| shown.at.saturating_add(after));
        (open || self.clock <= over).then_some(next.max(self.clock))
    }

    /// Adds up what became of outcomes.
    fn settle(&mut self) -> Result<(), EffectError> {
        for settled in self.state.take_trail() {
            self.settled(&settled)?;
        }
        Ok(())
    }

    /// Settles all that waits, and counts what is not known. To be called once, after the last record.
    ///
    /// # Errors
    ///
    /// If a sum does not fit.
    pub(super) fn close(&mut self, wait: Duration) -> Result<(), EffectError> {
        let last = self.clock;
        if last == i64::MIN {
            return Ok(());
        }
        self.state.advance(last.saturating_add(micros(wait)).saturating_add(1));
        self.settle()?;
        let end = self.plan.complete_until.unwrap_or(last);
        for mut shown in self.rows.take_shown() {
            self.label(&mut shown, end, true)?;
        }
        let Counts { joined, duplicates, late, orphans, rejected, touches_evicted, .. } = *self.state.counts();
        let totals = &mut self.totals;
        (totals.joined, totals.double, totals.late) = (joined, duplicates, late);
        (totals.orphan, totals.rejected) = (orphans, rejected);
        totals.forgotten += self.rows.forgotten.max(touches_evicted);
        Ok(())
    }
}

/// What became of an outcome at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is counted.
    Counted,
    /// It waits for its decision. If it is rejected later, [`Evaluation::take_rejected`] has it.
    Waits,
    /// It contradicts what is known.
    Rejected(Rejection),
}

/// The hash of a user's key.
pub(super) fn user_hash(user: &str) -> u64 {
    Key::of("user", &[user]).0 as u64
}
