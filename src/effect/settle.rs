//! What an outcome and a label add to the sums.

use super::{
    EffectError, Evaluation,
    charts::Labelled,
    fold::user_hash,
    plan::Label,
    rows::{LabelledImpression, Named, Offered, Shown},
    trial::Deed,
};
use crate::{
    control::{Disposition, Outcome, OutcomeType, Settled},
    evaluation::business,
    targeting::money::Currency,
};
use std::rc::Rc;

impl Evaluation {
    /// Counts the labels of an impression that are known at this time; at the end, also those that are not.
    pub(super) fn label(&mut self, shown: &mut Shown, known: i64, is_end: bool) -> Result<(), EffectError> {
        let offered = shown.offered.clone();
        for (at, label) in [Label::Click, Label::Conversion].into_iter().enumerate() {
            let until = shown.at.saturating_add(self.plan.after(label));
            let is_known = if is_end { until <= known } else { until < known };
            if shown.is_labelled[at] || !is_known && !is_end {
                continue;
            }
            shown.is_labelled[at] = true;
            let happened_at = if label == Label::Click { shown.clicked_at } else { shown.converted_at };
            let result = is_known.then(|| happened_at.is_some_and(|at| at <= until));
            // A conversion rate is that of clicks.
            let is_counted = label == Label::Click || shown.clicked_at.is_some_and(|at| at <= until);
            let predicted = offered.predicted.filter(|(of, _)| *of == label);
            if let Some(named) = offered.named.as_ref().filter(|it| it.label == label) {
                let (user, shown_at) = (offered.user, shown.at);
                self.labelled.push(LabelledImpression { user, shown_at, happened: result, named: named.clone() });
            }
            let is_first = label == Label::Click;
            if let Some(charts) = &mut self.charts {
                let (at, creative) = (shown.at, offered.charted);
                charts.label(Labelled { at, creative, label, is_success: result, is_counted });
            }
            self.groups.each(&offered.groups, |group| {
                if is_counted {
                    group.label(label, result);
                }
                group.unpredicted += u64::from(is_first && offered.predicted.is_none());
                match (predicted, result) {
                    (Some((_, probability)), Some(label)) => group.predict(Offered::labelled(probability, label))?,
                    (Some(_), None) => group.labels_immature += 1,
                    (None, _) => {}
                }
                Ok(())
            })?;
            if let (Some((_, probability)), Some(label)) = (predicted, result) {
                let prediction = Offered::labelled(probability, label);
                offered.groups.iter().for_each(|group| self.users.add(*group, offered.user, prediction));
            }
            if let (Some(log), Some((choice, _))) =
                (&mut self.policy, offered.choice.as_ref().filter(|(_, reward)| *reward == label))
            {
                log.add(offered.user, choice, result);
            }
        }
        Ok(())
    }

    /// Adds up what became of an outcome.
    pub(super) fn settled(&mut self, settled: &Settled) -> Result<(), EffectError> {
        let Settled { outcome, disposition, cost, touch, shown } = settled;
        let at = outcome.occurred_at;
        let offered = touch.and_then(|key| self.rows.offered(key).cloned());
        let offered = offered.or_else(|| touch.and_then(|key| Some(self.rows.shown(key)?.offered.clone())));
        if outcome.kind == OutcomeType::Conversion && !self.trials.is_empty() && *disposition != Disposition::Rejected {
            self.try_conversion(outcome, offered.as_deref());
        }
        if let Some(journeys) = &mut self.journeys {
            journeys.settled(outcome, *disposition, offered.as_deref());
        }
        if *disposition == Disposition::Late
            && let Some(key) = touch
        {
            let since = self.rows.shown(*key).map(|shown| shown.at).or(offered.as_ref().map(|it| it.decided_at));
            self.totals.before_decision += u64::from(since.is_some_and(|since| at < since));
        }
        if *disposition != Disposition::Joined {
            self.unattributed(outcome, cost.0, offered.as_deref());
            return Ok(());
        }
        let Some(offered) = offered else {
            self.totals.forgotten += 1;
            return Ok(());
        };
        let mut counts = business::Counts::default();
        match outcome.kind {
            OutcomeType::Win => (counts.wins, counts.bids, counts.spend_micros) = (1, 1, cost.0),
            OutcomeType::Loss => counts.bids = 1,
            OutcomeType::Impression => {
                counts.impressions = 1;
                let is_other = outcome.creative_id.as_deref().is_some_and(|id| offered.creative.as_deref() != Some(id));
                self.totals.other_creative += u64::from(is_other);
                if let Some(key) = shown {
                    let shown = Shown {
                        // The reward of another creative says nothing of the choice.
                        offered: if is_other { without_choice(&offered).into() } else { offered.clone() },
                        at,
                        is_viewed: false,
                        clicked_at: None,
                        converted_at: None,
                        is_labelled: [false; 2],
                    };
                    let due = self.next_due(&shown).unwrap_or(at);
                    self.rows.show(*key, due, shown);
                }
            }
            OutcomeType::Viewable => {
                let shown = touch.and_then(|key| self.rows.shown(key));
                let is_new = shown.is_some_and(|shown| !std::mem::replace(&mut shown.is_viewed, true));
                return self.groups.each(&offered.groups, |group| {
                    group.viewable += u64::from(is_new);
                    Ok(())
                });
            }
            OutcomeType::Click => {
                let Some(shown) = touch.and_then(|key| self.rows.shown(key)) else { return Ok(()) };
                if shown.clicked_at.is_some() {
                    return Ok(());
                }
                shown.clicked_at = Some(at);
                self.totals.after_label += u64::from(shown.is_labelled[0]);
                counts.clicks = 1;
                offered.trials.iter().for_each(|trial| self.trials.note(*trial, offered.user, Deed::Click, at));
            }
            OutcomeType::Conversion => {
                let value = outcome.value.unwrap_or_default().0;
                (counts.conversions, counts.revenue_micros) = (1, value);
                if let Some(shown) = touch.and_then(|key| self.rows.shown(key)) {
                    self.totals.after_label += u64::from(shown.is_labelled[1]);
                    shown.converted_at = Some(shown.converted_at.map_or(at, |first| first.min(at)));
                }
            }
        }
        self.groups.each(&offered.groups, |group| Ok(group.count(offered.currency, &counts)?))
    }

    /// Notes a conversion in the experiments, whether or not it is attributed: held-out users have no decision that it
    /// could belong to, and all arms must be counted alike.
    fn try_conversion(&mut self, outcome: &Outcome, offered: Option<&Offered>) {
        let deed = Deed::Conversion(outcome.value.unwrap_or_default().0);
        let at = outcome.occurred_at;
        let mut noted = None;
        if let (Some(user), Some(campaign)) = (&outcome.user_key, &outcome.campaign_id)
            && let Some(trial) = self.trials.of_campaign(campaign)
        {
            self.trials.note(trial, user_hash(user), deed, at);
            noted = Some(trial);
        }
        let Some(offered) = offered else { return };
        for trial in offered.trials.iter().filter(|trial| Some(**trial) != noted) {
            self.trials.note(*trial, offered.user, deed, at);
        }
    }

    /// Counts the money of a win whose decision is not known.
    fn unattributed(&mut self, outcome: &Outcome, cost: i64, offered: Option<&Offered>) {
        if cost == 0 {
            return;
        }
        let declared = outcome.campaign_id.as_ref().and_then(|id| self.plan.campaigns.get(id)).map(|it| it.currency);
        let currency: Option<Currency> = offered.map(|it| it.currency).or(outcome.currency).or(declared);
        let code = currency.as_ref().map_or("unknown", Currency::code).to_owned();
        let sum = self.totals.unattributed_micros.entry(code).or_default();
        *sum = sum.saturating_add(cost);
    }
}

fn without_choice(offered: &Offered) -> Offered {
    Offered {
        groups: offered.groups.clone(),
        trials: offered.trials.clone(),
        user: offered.user,
        currency: offered.currency,
        decided_at: offered.decided_at,
        creative: offered.creative.clone(),
        charted: offered.charted,
        channel: offered.channel,
        predicted: offered.predicted,
        choice: None,
        // The probability is that of the creative that was not shown.
        named: offered.named.as_ref().map(|named| Rc::new(Named { propensity: 0.0, ..(**named).clone() })),
    }
}
