//! What time changes: outcomes that waited, impressions that teach, and what is forgotten.

use super::{PARKED_MAX, RecordId, State, types::Progress};
use crate::{
    control::{
        join::Touch,
        key::Key,
        ledger::{Changed, Labelled, Lesson},
        outcome::Outcome,
    },
    targeting::campaign::Reward,
};
use std::collections::BTreeMap;

impl State {
    /// Lets an outcome wait for its decision.
    pub(super) fn park(&mut self, arrived_at: i64, key: Key, outcome: &Outcome) {
        self.parked.insert((arrived_at, key), outcome.clone());
        self.dirty.insert(RecordId::Parked(arrived_at, key));
        if self.parked.len() > PARKED_MAX
            && let Some(((arrived_at, key), oldest)) = self.parked.pop_first()
        {
            self.dirty.insert(RecordId::Parked(arrived_at, key));
            self.settle_parked(key, &oldest, true);
        }
    }

    /// Moves the time of the stream to that of the slowest input, and does what is due.
    pub(super) fn pass_time(&mut self) {
        let slowest = self
            .inputs
            .values()
            .flat_map(BTreeMap::values)
            .map(|progress| progress.time)
            .filter(|time| *time != Progress::TIMELESS)
            .min();
        self.meta.clock = self.meta.clock.max(slowest.unwrap_or_default());
        self.dirty.insert(RecordId::Meta);
        self.retry();
        self.expire();
    }

    /// Tries again to join the outcomes that wait. Those that have waited long enough are settled without a decision,
    /// but only when nothing else can be joined: a click may wait for an impression that waits itself.
    fn retry(&mut self) {
        while self.retry_all(i64::MIN) {}
        if self.retry_all(self.meta.clock.saturating_sub(self.settings.wait)) {
            while self.retry_all(i64::MIN) {}
        }
    }

    /// Tries all outcomes that wait, for the last time if they arrived before this time. Returns whether any was
    /// settled.
    fn retry_all(&mut self, final_before: i64) -> bool {
        let mut has_settled = false;
        for ((arrived_at, key), outcome) in std::mem::take(&mut self.parked) {
            if self.settle_parked(key, &outcome, arrived_at < final_before) {
                self.dirty.insert(RecordId::Parked(arrived_at, key));
                has_settled = true;
            } else {
                self.parked.insert((arrived_at, key), outcome);
            }
        }
        has_settled
    }

    /// Settles an outcome that waited. Returns false if it has to wait longer.
    fn settle_parked(&mut self, key: Key, outcome: &Outcome, is_final: bool) -> bool {
        let Some(effects) = self.settle(outcome, is_final) else { return false };
        if let Some(rejection) = effects.rejection {
            self.forget(key);
            self.settlements.rejected.push((outcome.clone(), rejection));
        }
        true
    }

    /// Forgets the oldest, if there is too much.
    pub(super) fn make_room(&mut self) {
        if self.touches.len() > self.settings.touches_max || self.seen.len() > self.settings.outcomes_max {
            self.expire();
        }
    }

    /// Learns from impressions that are old enough, and forgets what nothing can belong to any more.
    fn expire(&mut self) {
        let now = self.meta.clock;
        while let Some(key) = self.touches.next_due(now, self.settings.touches_max) {
            let Some(touch) = self.touches.get(key) else { break };
            let is_lesson = touch.learn_at.is_some_and(|learn_at| learn_at < now);
            let known_at = touch.predicted.as_ref().and_then(|predicted| predicted.known_at);
            self.dirty.insert(RecordId::Touch(key));
            if let Some(known_at) = known_at.filter(|known_at| *known_at < now) {
                let touch = touch.clone();
                self.change(key, |touch| touch.predicted = None);
                self.judge(&touch, known_at);
                continue;
            }
            if is_lesson {
                let touch = touch.clone();
                self.change(key, |touch| touch.learn_at = None);
                self.learn(&touch);
                continue;
            }
            self.meta.counts.touches_evicted += u64::from(touch.keep_until >= now);
            let gone = self.touches.remove(key);
            // Nothing can follow any more, or nothing that will be known.
            if let Some((touch, known_at)) = gone.zip(known_at) {
                self.judge(&touch, known_at);
            }
        }
        while let Some(key) = self.seen.pop(now, self.settings.outcomes_max, self.settings.horizon) {
            self.dirty.insert(RecordId::Seen(key));
            self.meta.counts.outcomes_evicted += u64::from(self.seen.floor > self.meta.seen_floor);
            self.meta.seen_floor = self.seen.floor;
        }
    }

    /// Counts whether a prediction came true, on the day of the time at which that is known at the latest.
    fn judge(&mut self, touch: &Touch, known_at: i64) {
        let setup = self.campaigns.get(&touch.campaign).map(|campaign| &campaign.setup);
        let (Some(predicts), Some(predicted)) = (setup.and_then(|setup| setup.predicts), &touch.predicted) else {
            return;
        };
        let by_then = |at: Option<i64>| at.is_some_and(|at| at <= known_at);
        let label = Labelled {
            probability: predicted.probability,
            is_clicked: by_then(touch.clicked_at),
            is_converted: by_then(touch.converted_at),
            predicts,
        };
        let (campaign, version, day) =
            self.observed.qualities.count([&touch.campaign, &predicted.version], known_at, &label);
        self.dirty.note(|| RecordId::Quality(campaign, version, day));
    }

    fn learn(&mut self, touch: &Touch) {
        let (Some(campaign), Some(account)) =
            (self.campaigns.get(&touch.campaign), self.accounts.get_mut(&touch.campaign))
        else {
            return;
        };
        let (Some(creative), Some(shown_at), Some(learn_at)) = (&touch.creative, touch.shown_at, touch.learn_at) else {
            return;
        };
        let success_at = match campaign.setup.reward {
            Reward::Click => touch.clicked_at,
            Reward::Conversion => touch.converted_at,
        };
        let lesson = Lesson {
            creative,
            audience: &touch.audience,
            features: &touch.features,
            shown_at,
            is_success: success_at.is_some_and(|at| at <= learn_at),
        };
        for changed in account.arms.learn(&campaign.setup, &lesson) {
            let campaign = touch.campaign.clone();
            self.dirty.insert(match changed {
                Changed::Beta(creative, audience) => RecordId::Arm(campaign, creative, audience),
                Changed::Linear(creative) => RecordId::Linear(campaign, creative),
            });
        }
        self.meta.counts.lessons += 1;
    }
}
