//! What an outcome changes: the books, the notices and the touches.

use super::{Disposition, Effects, RecordId, State, is_notice};
use crate::{
    canary::{self, Canary},
    control::{
        join::{Alias, Lookup, Touch, auction_aliases, decision_alias, find, shown_key},
        key::Key,
        ledger::{Account, Figures, Predicted},
        outcome::{Outcome, OutcomeType, RejectReason, Rejection},
    },
    targeting::{
        money::{Cpm, Currency, Micros},
        pacing::Moment,
        shading::Notice,
    },
};

/// A price this many times above the bid is one in another unit.
const IMPLAUSIBLE: i64 = 100;

impl State {
    /// Settles an outcome. `None` if its decision is not known yet and it may still come.
    pub(super) fn settle(&mut self, outcome: &Outcome, is_final: bool) -> Option<Effects> {
        let windows = self.settings.windows;
        let found = find(&self.touches, outcome, &windows);
        let effects = match found {
            Lookup::Found(key) => self.join(key, outcome),
            Lookup::Outside(key) if canary::is_in(Canary::LateOutcomeCounted) => self.join(key, outcome),
            Lookup::Outside(key) => self.unjoined(Disposition::Late, Some(key), outcome),
            Lookup::Unknown if self.names_no_campaign(outcome) => rejected(Rejection::new(
                RejectReason::UnknownCampaign,
                if outcome.campaign_id.is_some() {
                    "the decision is known, but no offer of this campaign_id: it had none, or control has refused or forgotten \
                     it; send the campaign_id of the campaign that was bid for"
                } else {
                    "the decision is known, but not which of its campaigns this is about; send the campaign_id of the campaign \
                     that was bid for"
                },
            )),
            Lookup::Unknown if !is_final => return None,
            Lookup::Unknown => self.unjoined(Disposition::Orphan, None, outcome),
        };
        let counts = &mut self.meta.counts;
        match effects.disposition {
            Disposition::Joined => counts.joined += 1,
            Disposition::Late => counts.late += 1,
            Disposition::Orphan => counts.orphans += 1,
            Disposition::Duplicate => counts.duplicates += 1,
            Disposition::Rejected => counts.rejected += 1,
            Disposition::Parked | Disposition::Replayed => {}
        }
        self.dirty.insert(RecordId::Meta);
        self.note(outcome, found, &effects);
        Some(effects)
    }

    /// Whether the decision of an outcome is known, and none of its campaigns is meant or can be charged. Waiting cannot
    /// help. The money of a win counts if it names a campaign of ours, even if the decision did not offer it.
    fn names_no_campaign(&mut self, outcome: &Outcome) -> bool {
        let Some(decision) = outcome.decision_id.as_deref().filter(|_| !outcome.kind.follows_impression()) else {
            return false;
        };
        let is_known = self.touches.named(decision_alias(decision)).any(|(_, touch)| !touch.is_shown());
        let can_be_charged = outcome.kind == OutcomeType::Win
            && outcome.campaign_id.as_deref().is_some_and(|campaign| self.currency(campaign).is_some());
        is_known && !can_be_charged
    }

    /// Settles an outcome that belongs to no touch, or too late to one: a win has cost money all the same, unless it
    /// belongs to a decision of another application.
    fn unjoined(&mut self, disposition: Disposition, late: Option<Key>, outcome: &Outcome) -> Effects {
        if outcome.kind != OutcomeType::Win || self.is_foreign(outcome) {
            return disposition.into();
        }
        let late = late.and_then(|key| self.touches.get(key)).map(|touch| (touch.campaign.clone(), touch.bid()));
        let (campaign, bid) = late.unzip();
        let (Some(campaign), Some(price)) = (campaign.or_else(|| outcome.campaign_id.clone()), outcome.price.or(bid))
        else {
            return disposition.into();
        };
        let Some(currency) = self.currency(&campaign) else { return disposition.into() };
        if let Some(rejection) = self.contradiction(&campaign, (currency, bid), outcome) {
            return rejected(rejection);
        }
        let cost = self.pay(&campaign, outcome.occurred_at, price, outcome, false);
        Effects { cost: cost.unwrap_or_default(), ..disposition.into() }
    }

    /// Settles an outcome that belongs to a touch.
    fn join(&mut self, key: Key, outcome: &Outcome) -> Effects {
        let Some(touch) = self.touches.get(key).cloned() else { return Disposition::Orphan.into() };
        let Some(currency) = self.currency(&touch.campaign) else { return Disposition::Orphan.into() };
        if let Some(rejection) = self.contradiction(&touch.campaign, (currency, Some(touch.bid())), outcome) {
            return rejected(rejection);
        }
        match outcome.kind {
            OutcomeType::Win => self.win(key, &touch, currency, outcome),
            OutcomeType::Loss => {
                self.notice(key, &touch, currency, outcome);
                self.count(&touch.campaign, touch.decided_at, |figures| figures.losses += 1);
                Disposition::Joined.into()
            }
            OutcomeType::Impression => self.impression(key, &touch, outcome),
            OutcomeType::Viewable => {
                if !touch.viewed {
                    self.change(key, |touch| touch.viewed = true);
                    self.count(&touch.campaign, touch.decided_at, |figures| figures.viewable += 1);
                }
                Disposition::Joined.into()
            }
            OutcomeType::Click => {
                if touch.clicked_at.is_none() {
                    let keep_until = outcome.occurred_at.saturating_add(self.settings.windows.click);
                    self.change(key, |touch| {
                        touch.clicked_at = Some(outcome.occurred_at);
                        touch.keep_until = touch.keep_until.max(keep_until);
                    });
                    self.count(&touch.campaign, touch.decided_at, |figures| figures.clicks += 1);
                }
                Disposition::Joined.into()
            }
            OutcomeType::Conversion => {
                self.change(key, |touch| touch.converted_at = touch.converted_at.or(Some(outcome.occurred_at)));
                let value = outcome.value.unwrap_or_default();
                self.count(&touch.campaign, touch.decided_at, |figures| {
                    figures.conversions += 1;
                    figures.revenue_micros = figures.revenue_micros.saturating_add(value.0);
                });
                Disposition::Joined.into()
            }
        }
    }

    fn win(&mut self, key: Key, touch: &Touch, currency: Currency, outcome: &Outcome) -> Effects {
        // Without a price, the bid is what it costs at most.
        let price = outcome.price.unwrap_or(touch.bid());
        match self.pay(&touch.campaign, touch.decided_at, price, outcome, true) {
            Some(cost) => {
                self.notice(key, touch, currency, outcome);
                Effects { cost, ..Disposition::Joined.into() }
            }
            None => Disposition::Duplicate.into(),
        }
    }

    /// Whether an outcome names a decision of another application.
    fn is_foreign(&self, outcome: &Outcome) -> bool {
        let app = outcome.decision_id.as_deref().and_then(|id| id.split_once(':')).map(|(app, _)| app);
        app.is_some_and(|app| app != self.settings.app)
    }

    /// What an outcome contradicts: the campaign's currency, or what it bids.
    fn contradiction(
        &self,
        campaign: &str,
        (currency, bid): (Currency, Option<Cpm>),
        outcome: &Outcome,
    ) -> Option<Rejection> {
        other_currency(outcome, currency).or_else(|| self.implausible(campaign, bid, outcome))
    }

    /// Why the price of a win cannot be right: it is far above the bid, or above what an impression of the campaign may
    /// cost. A price in another unit would use up a budget at once.
    fn implausible(&self, campaign: &str, bid: Option<Cpm>, outcome: &Outcome) -> Option<Rejection> {
        let price = outcome.price.filter(|_| outcome.kind == OutcomeType::Win)?;
        let budget = self.campaigns.get(campaign).and_then(|it| it.setup.budget.as_ref());
        let most = |limit: i64| limit.saturating_mul(IMPLAUSIBLE);
        // A decision of another kind may have no bid.
        let is_far_above_bid = bid.is_some_and(|bid| bid.0 > 0 && price.0 > most(bid.0));
        let is_far_above_cost = budget.is_some_and(|budget| price.per_impression().0 > most(budget.cost_max.0));
        (is_far_above_bid || is_far_above_cost).then(|| {
            let detail = format!(
                "the price is more than {IMPLAUSIBLE} times what the campaign bids; it must be a CPM in units of the \
                 currency, such as 1.20"
            );
            Rejection::new(RejectReason::ImplausiblePrice, detail)
        })
    }

    /// Books the cost of a win. `None` if the same impression of the same auction was paid before.
    fn pay(&mut self, campaign: &str, at: i64, price: Cpm, outcome: &Outcome, is_attributed: bool) -> Option<Micros> {
        if let Some(auction) = &outcome.auction_id {
            let key = Key::of("paid", &[auction, outcome.imp_id.as_deref().unwrap_or_default(), campaign]);
            if self.seen.contains(key) && !canary::is_in(Canary::DuplicateOutcomeCounted) {
                return None;
            }
            self.remember(key, outcome.occurred_at);
        }
        let cost = price.per_impression();
        let moment = self.moment(campaign, at);
        self.accounts.get_mut(campaign)?.spend(moment, cost, is_attributed);
        self.dirty.note(|| RecordId::Account(campaign.to_owned()));
        self.dirty.note(|| RecordId::Day(campaign.to_owned(), moment.day));
        Some(cost)
    }

    /// Learns from how an auction ended, and remembers the auction's name.
    fn notice(&mut self, key: Key, touch: &Touch, currency: Currency, outcome: &Outcome) {
        let placement = outcome.placement.as_deref();
        let notice = Notice {
            campaign: &touch.campaign,
            placement,
            bid: touch.bid(),
            won: outcome.kind == OutcomeType::Win,
            price: outcome.price,
            min_to_win: outcome.min_to_win,
        };
        match self.auctions.notices.entry(currency).or_default().observe(&notice) {
            Ok(()) => {
                self.auctions.is_fit_due = true;
                // Without room for the placement, the notice was counted under the empty one.
                for placement in [placement.unwrap_or_default(), ""] {
                    let id = (currency.code().to_owned(), touch.campaign.clone(), placement.to_owned());
                    self.dirty.insert(RecordId::Notices(id.0, id.1, id.2));
                }
            }
            Err(_) => self.meta.counts.notices_refused += 1,
        }
        self.name(key, outcome);
    }

    /// Remembers the names that an outcome gives to an offer.
    fn name(&mut self, key: Key, outcome: &Outcome) {
        if self.touches.name(key, &auction_aliases(outcome)) {
            self.dirty.insert(RecordId::Touch(key));
        }
    }

    fn impression(&mut self, offer: Key, touch: &Touch, outcome: &Outcome) -> Effects {
        let key = shown_key(offer, outcome);
        if self.touches.get(key).is_some() {
            return Disposition::Duplicate.into();
        }
        self.name(offer, outcome);
        let shown_at = outcome.occurred_at;
        let windows = self.settings.windows;
        // If the bidder showed another creative, the choice was not the one that is to be learned from.
        let is_chosen =
            touch.creative.is_some() && (outcome.creative_id.is_none() || outcome.creative_id == touch.creative);
        let setup = self.campaigns.get(&touch.campaign).map(|campaign| &campaign.setup);
        let learn_at = setup.filter(|_| is_chosen);
        let learn_at = learn_at.map(|setup| shown_at.saturating_add(self.settings.learn_age(setup.reward)));
        let predicted = touch.predicted.as_ref().and_then(|predicted| {
            let known_at = Some(shown_at.saturating_add(self.settings.label_age(setup?.predicts?)));
            Some(Predicted { known_at, ..predicted.clone() })
        });
        if let Some(Predicted { version, probability, .. }) = &predicted {
            let (campaign, version, day) =
                self.observed.qualities.show([&touch.campaign, version], shown_at, *probability);
            self.dirty.note(|| RecordId::Quality(campaign, version, day));
        }
        let mut aliases = touch.aliases.clone();
        // The other auctions of the same decision are other impressions.
        aliases.truncate(2);
        for alias in auction_aliases(outcome).into_iter().map(Alias) {
            if !aliases.contains(&alias) {
                aliases.push(alias);
            }
        }
        let shown = Touch {
            creative: outcome.creative_id.clone().or_else(|| touch.creative.clone()),
            shown_at: Some(shown_at),
            predicted,
            learn_at,
            // What is to be learned from it must be known by then.
            keep_until: shown_at.saturating_add(windows.engagement.max(windows.view)).max(learn_at.unwrap_or(i64::MIN)),
            aliases,
            ..touch.clone()
        };
        self.touches.insert(key, shown);
        self.dirty.insert(RecordId::Touch(key));
        self.count(&touch.campaign, touch.decided_at, |figures| figures.impressions += 1);
        Disposition::Joined.into()
    }

    /// Changes a touch.
    pub(super) fn change(&mut self, key: Key, change: impl FnOnce(&mut Touch)) {
        self.touches.change(key, change);
        if !canary::is_in(Canary::TouchNotWritten) {
            self.dirty.insert(RecordId::Touch(key));
        }
    }

    /// Counts an eligible decision of a campaign, whose account is opened if there is none.
    pub(super) fn observe_decision(&mut self, campaign: &str, currency: Currency, at: i64, has_passed: bool) {
        let moment = self.moment(campaign, at);
        self.open(campaign, currency).observe_decision(moment, has_passed);
        self.dirty.note(|| RecordId::Account(campaign.to_owned()));
        self.dirty.note(|| RecordId::Day(campaign.to_owned(), moment.day));
    }

    /// Changes the figures of the day of a decision.
    fn count(&mut self, campaign: &str, decided_at: i64, change: impl Fn(&mut Figures)) {
        let day = self.moment(campaign, decided_at).day;
        if let Some(account) = self.accounts.get_mut(campaign) {
            account.count(day, change);
            self.dirty.note(|| RecordId::Account(campaign.to_owned()));
            self.dirty.note(|| RecordId::Day(campaign.to_owned(), day));
        }
    }

    /// The currency of a campaign's account, which is opened for a configured campaign. `None` for a campaign that
    /// nobody knows.
    fn currency(&mut self, campaign: &str) -> Option<Currency> {
        if let Some(account) = self.accounts.get(campaign) {
            return Some(account.currency);
        }
        let currency = self.campaigns.get(campaign)?.setup.currency;
        Some(self.open(campaign, currency).currency)
    }

    /// The account of a campaign.
    pub(super) fn open(&mut self, campaign: &str, currency: Currency) -> &mut Account {
        let timing = self.settings.timing;
        if !self.accounts.contains_key(campaign) {
            self.dirty.note(|| RecordId::Account(campaign.to_owned()));
        }
        self.accounts.entry(campaign.to_owned()).or_insert_with(|| Account::new(currency, timing))
    }

    /// A time as a moment in the zone of a campaign.
    fn moment(&mut self, campaign: &str, at: i64) -> Moment {
        self.campaigns.days_mut(campaign).moment(at)
    }

    /// Counts an outcome from the future.
    pub(super) fn reject_future(&mut self) -> Effects {
        self.meta.counts.rejected += 1;
        let detail = "occurred_at is more than five minutes after the record's time; send microseconds since 1970, UTC";
        rejected(Rejection::new(RejectReason::FutureTime, detail))
    }
}

fn rejected(rejection: Rejection) -> Effects {
    Effects { rejection: Some(rejection), ..Disposition::Rejected.into() }
}

/// Amounts in another currency than the campaign's cannot be added up.
fn other_currency(outcome: &Outcome, currency: Currency) -> Option<Rejection> {
    let has_amount = outcome.value.is_some() || outcome.price.is_some() || is_notice(outcome.kind);
    let other = outcome.currency.filter(|other| *other != currency && has_amount)?;
    let detail = format!("the amounts are in {other}, the campaign is in {currency}; convert them before sending");
    Some(Rejection::new(RejectReason::OtherCurrency, detail))
}
