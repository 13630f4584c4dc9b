//! From the state to a policy.

use super::{Auctions, Configured, RecordId, State};
use crate::{
    control::ledger::Account,
    targeting::{
        money::Currency,
        policy::{AudienceSize, CampaignPolicy, Policy, SCHEMA_VERSION, WinRateModel},
        shading::WinRates,
    },
};
use std::collections::BTreeMap;

const DAY: i64 = 86_400_000_000;
/// How often win rates are fitted, in the time of the stream. A fit reads all notices, which takes up to a second.
const FIT_EVERY: i64 = 60_000_000;
/// The share of a notice that is left after a day: half after a week.
const NOTICE_KEPT: f64 = 0.905_723_664_263_906_6;
/// Posteriors fade in steps of this length, so that they only change if something was learned, and workers need not
/// prepare them for each policy.
const POSTERIOR_STEP: i64 = 600_000_000;

impl State {
    /// The next policy, at the present in microseconds since 1970. Its version is one higher than that of the last.
    ///
    /// The present decides rates. The time of the stream, which decides everything else, only moves with what has been
    /// read: see [`State::advance`].
    pub fn tick(&mut self, now: i64) -> Policy {
        self.pass_time();
        let gone = self.observed.qualities.forget(self.meta.clock);
        self.dirty.extend(gone.into_iter().map(|(campaign, version, day)| RecordId::Quality(campaign, version, day)));
        self.fade();
        self.fit();
        self.meta.version += 1;
        let learned_at = self.meta.clock.div_euclid(POSTERIOR_STEP).saturating_mul(POSTERIOR_STEP);
        let mut policy = Policy {
            schema_version: SCHEMA_VERSION,
            version: self.meta.version,
            issued_at: now,
            app: self.settings.app.clone(),
            campaigns: BTreeMap::new(),
            audiences: self.audiences(),
        };
        let ids: Vec<(String, Currency)> =
            self.campaigns.iter().map(|(id, campaign)| (id.clone(), campaign.setup.currency)).collect();
        for (id, currency) in ids {
            self.open(&id, currency);
            self.dirty.insert(RecordId::Account(id.clone()));
            let (Some(account), Some(campaign)) = (self.accounts.get_mut(&id), self.campaigns.get_mut(&id)) else {
                continue;
            };
            let rates = self.auctions.rates.get(&account.currency);
            policy.campaigns.insert(id.clone(), of_campaign(&id, account, campaign, rates, now, learned_at));
            for day in account.old_days() {
                account.days.remove(&day);
                self.dirty.insert(RecordId::Day(id.clone(), day));
            }
        }
        policy
    }

    /// How many users are in each segment.
    pub(in crate::control) fn audiences(&self) -> Vec<AudienceSize> {
        let size = |((segtax, id), sources): (&(u32, String), &BTreeMap<String, u64>)| AudienceSize {
            id: id.clone(),
            segtax: *segtax,
            members: sources.values().fold(0, |sum, members| sum.saturating_add(*members)),
        };
        self.observed.audiences.iter().map(size).collect()
    }

    /// The number of members as it may be shown: 0 stands for fewer than `targeting.minimum_audience`.
    pub fn shown_members(&self, members: u64) -> u64 {
        if members < self.settings.minimum_audience { 0 } else { members }
    }

    /// Fades notices, once for each day of the stream.
    fn fade(&mut self) {
        let today = self.meta.clock.div_euclid(DAY);
        let passed = today - std::mem::replace(&mut self.meta.faded_day, today);
        if passed <= 0 || passed == today {
            // No day has passed, or this is the first one.
            return;
        }
        let before: Vec<RecordId> = self.notice_ids().collect();
        self.dirty.extend(before);
        let keep = NOTICE_KEPT.powi(i32::try_from(passed).unwrap_or(i32::MAX));
        self.auctions.notices.values_mut().for_each(|notices| notices.fade(keep));
        self.auctions.is_fit_due = true;
    }

    /// Fits win rates, if there are new notices and the last fit was a while ago.
    fn fit(&mut self) {
        if self.meta.clock.saturating_sub(self.meta.fitted_at) < FIT_EVERY {
            return;
        }
        self.meta.fitted_at = self.meta.clock;
        let Auctions { notices, rates, is_fit_due } = &mut self.auctions;
        if !std::mem::take(is_fit_due) {
            return;
        }
        for (currency, notices) in notices {
            let fitted = notices.fit();
            if rates.get(currency) != Some(&fitted) {
                rates.insert(*currency, fitted);
                self.dirty.insert(RecordId::Rates(currency.code().to_owned()));
            }
        }
    }
}

fn of_campaign(
    id: &str,
    account: &mut Account,
    campaign: &mut Configured,
    rates: Option<&WinRates>,
    now: i64,
    learned_at: i64,
) -> CampaignPolicy {
    let Configured { setup, days } = campaign;
    if account.currency != setup.currency && account.total.spent_micros == 0 {
        account.currency = setup.currency;
    }
    let moment = days.moment(now);
    let own = rates.and_then(|rates| rates.campaigns.get(id));
    CampaignPolicy {
        currency: setup.currency.code().to_owned(),
        budget: account.budget(setup, days, moment),
        win_rate: rates.and_then(|rates| rates.of(id, None)).map(WinRateModel::from),
        placements: own
            .map(|own| own.placements.iter().map(|(name, rate)| (name.clone(), rate.into())).collect())
            .unwrap_or_default(),
        creatives: account.arms.policy(setup, learned_at),
    }
}
