//! A bidder and a page that report outcomes. Keeps the truth about them.

use super::{
    BID, CAMPAIGNS, SECOND,
    world::{DecisionRow, Draws, OfferRow, PARTITIONS, World, day},
};
use crate::{
    control::{Outcome, OutcomeType},
    targeting::money::{Cpm, Micros},
};

impl World {
    /// What follows an offer.
    pub(super) fn happen(&mut self, row: &DecisionRow, offer: &OfferRow, partition: usize, is_bot: bool) {
        self.number += 1;
        let number = self.number;
        let campaign = offer.campaign;
        let some = |text: &str| Some(text.to_owned());
        let mut outcome = outcome(number, "auction", OutcomeType::Loss, row.decided_at + self.draws.seconds(1, 40));
        outcome.placement = some(["top", "side"][number as usize % 2]);
        outcome.decision_id = some(&row.id);
        outcome.campaign_id = some(CAMPAIGNS[campaign]);
        outcome.auction_id = Some(format!("x{number}"));
        outcome.imp_id = some("1");
        match self.draws.below(100) {
            0..40 => {}
            40..65 => {
                outcome.min_to_win = Some(Cpm(BID + self.draws.below(BID as u64) as i64));
                self.truth[campaign].losses += u64::from(self.send(partition, &outcome));
                return;
            }
            _ => return,
        }
        outcome.kind = OutcomeType::Win;
        let price = Cpm(BID / 2 + self.draws.below(BID as u64 / 2) as i64);
        outcome.price = Some(price).filter(|_| !number.is_multiple_of(5));
        let cost = outcome.price.map_or(BID, |price| price.0) + 500;
        let cost = cost / 1_000;
        // Some bidders do not return the decision's id: user and campaign join the win, and its auction the rest.
        let by_auction = !is_bot && self.draws.chance(0.3);
        if by_auction {
            outcome.decision_id = None;
            outcome.user_key = some(&row.user);
        }
        let is_counted =
            if by_auction { self.send_in_time(partition, &outcome) } else { self.send(partition, &outcome) };
        if is_counted {
            let truth = &mut self.truth[campaign];
            *truth.spent.entry(day(campaign, row.decided_at)).or_default() += cost;
            truth.wins += 1;
            truth.costs.push((row.decided_at, cost));
            if self.draws.chance(0.05) {
                // The same win in another way.
                outcome.id += "-again";
                self.send(partition, &outcome);
            }
        }
        if by_auction {
            outcome.user_key = None;
            outcome.campaign_id = None;
        }
        outcome.price = None;
        self.show(outcome, offer, partition);
    }

    /// The impression of a win, and what follows it.
    fn show(&mut self, mut outcome: Outcome, offer: &OfferRow, partition: usize) {
        let campaign = offer.campaign;
        let next = |draws: &mut Draws, outcome: &mut Outcome, kind: OutcomeType, to: u64| {
            outcome.id = format!("{}-{}", outcome.id, kind.as_str());
            outcome.kind = kind;
            outcome.occurred_at += draws.seconds(1, to);
        };
        next(&mut self.draws, &mut outcome, OutcomeType::Impression, 6);
        let is_shown = self.send(partition, &outcome);
        self.truth[campaign].impressions += u64::from(is_shown);
        if self.draws.chance(0.6) {
            let mut viewable = outcome.clone();
            next(&mut self.draws, &mut viewable, OutcomeType::Viewable, 10);
            self.truth[campaign].viewable += u64::from(self.send(partition, &viewable) && is_shown);
        }
        let rate = if offer.creative == Some("red") { 0.4 } else { 0.2 };
        let mut is_clicked = false;
        if self.draws.chance(rate) {
            next(&mut self.draws, &mut outcome, OutcomeType::Click, 30);
            is_clicked = self.send(partition, &outcome) && is_shown;
            self.truth[campaign].clicks += u64::from(is_clicked);
            if self.draws.chance(0.4) {
                next(&mut self.draws, &mut outcome, OutcomeType::Conversion, 60);
                let value = 1_000_000 + self.draws.below(1_000_000) as i64;
                outcome.value = Some(Micros(value));
                if self.send(partition, &outcome) && is_shown {
                    self.truth[campaign].conversions += 1;
                    self.truth[campaign].revenue += value;
                }
            }
        }
        if let Some(creative) = offer.creative.filter(|_| is_shown && campaign == 0) {
            let others = Some(offer.audience).filter(|audience| !audience.is_empty());
            for audience in [""].into_iter().chain(others) {
                let id = (creative.to_owned(), audience.to_owned());
                let (successes, failures) = self.truth[0].lessons.entry(id).or_default();
                *(if is_clicked { successes } else { failures }) += 1;
            }
        }
    }

    /// Outcomes that no decision explains: the money of a win counts, but not in another currency.
    pub(super) fn orphan(&mut self, now: i64) {
        self.number += 1;
        let campaign = self.draws.below(3) as usize;
        let kinds = [OutcomeType::Win, OutcomeType::Win, OutcomeType::Click];
        let kind = kinds[self.draws.below(3) as usize];
        let mut outcome = outcome(self.number, "orphan", kind, now);
        outcome.decision_id = Some("nobody's".to_owned());
        outcome.campaign_id = Some(CAMPAIGNS[campaign].to_owned());
        outcome.price = Some(Cpm(3_000_000));
        if self.draws.chance(0.3) {
            outcome.currency = "USD".parse().ok();
        }
        let is_counted = self.send(0, &outcome);
        if is_counted && kind == OutcomeType::Win && outcome.currency.is_none() {
            let truth = &mut self.truth[campaign];
            *truth.spent.entry(day(campaign, now)).or_default() += 3_000;
            truth.unattributed += 3_000;
            truth.wins += 1;
            truth.costs.push((now, 3_000));
        }
    }

    /// Sends an outcome: in time, twice, or much too late. Returns whether it counts.
    fn send(&mut self, partition: usize, outcome: &Outcome) -> bool {
        if self.draws.chance(0.03) {
            let after = 900 * SECOND + self.draws.seconds(1, 300);
            self.arrive(partition, outcome, after);
            return false;
        }
        self.send_in_time(partition, outcome)
    }

    fn send_in_time(&mut self, partition: usize, outcome: &Outcome) -> bool {
        let after = self.draws.seconds(0, 30);
        self.arrive(partition, outcome, after);
        if self.draws.chance(0.08) {
            let again = if self.draws.chance(0.3) { 900 * SECOND } else { 0 };
            let again = after + again + self.draws.seconds(1, 120);
            // A duplicate may even come through another partition.
            let other = self.draws.below(PARTITIONS as u64) as usize;
            self.arrive(other, outcome, again);
        }
        true
    }

    fn arrive(&mut self, partition: usize, outcome: &Outcome, after: i64) {
        let at = outcome.occurred_at + after;
        self.coming_outcomes.entry(at).or_default().push((partition, outcome.clone()));
    }
}

fn outcome(number: u64, what: &str, kind: OutcomeType, occurred_at: i64) -> Outcome {
    Outcome {
        id: format!("{what}-{number}"),
        kind,
        occurred_at,
        user_key: None,
        decision_id: None,
        auction_id: None,
        imp_id: None,
        campaign_id: None,
        creative_id: None,
        placement: None,
        value: None,
        currency: None,
        price: None,
        min_to_win: None,
        loss_reason: 0,
    }
}
