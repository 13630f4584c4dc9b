//! The values of records whose types have no form of their own.

use crate::{
    control::{
        ledger,
        outcome::{Outcome, OutcomeType},
    },
    targeting::{
        money::{Cpm, Currency, Micros},
        pacing::{Interval, Pacer, PassThrough, Recent, Spent, Timing},
        policy::WinRateModel,
        shading::{self, CampaignRates, Counts, WinRates},
    },
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The most intervals of a pacer that are read: as many as it keeps, and some.
const INTERVALS_MAX: usize = 256;
/// The days from 1970 to the year 9999.
const DAYS_MAX: i32 = 2_932_896;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Seen {
    pub(super) until: i64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Audience {
    pub(super) members: u64,
}

/// An outcome that waits.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Parked {
    id: String,
    kind: OutcomeType,
    occurred_at: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user_key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    decision_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    auction_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    imp_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    campaign_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    creative_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    placement: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value_micros: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    currency: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    price_micros: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    min_to_win_micros: Option<i64>,
    #[serde(default)]
    loss_reason: i32,
}

impl From<&Outcome> for Parked {
    fn from(outcome: &Outcome) -> Self {
        let Outcome { id, kind, occurred_at, user_key, decision_id, auction_id, imp_id, .. } = outcome.clone();
        Self {
            id,
            kind,
            occurred_at,
            user_key,
            decision_id,
            auction_id,
            imp_id,
            campaign_id: outcome.campaign_id.clone(),
            creative_id: outcome.creative_id.clone(),
            placement: outcome.placement.clone(),
            value_micros: outcome.value.map(|value| value.0),
            currency: outcome.currency.map(|currency| currency.code().to_owned()),
            price_micros: outcome.price.map(|price| price.0),
            min_to_win_micros: outcome.min_to_win.map(|price| price.0),
            loss_reason: outcome.loss_reason,
        }
    }
}

impl Parked {
    pub(super) fn outcome(self) -> Result<Outcome, String> {
        let currency = self.currency.map(|code| super::restore::currency_of(&code)).transpose()?;
        Ok(Outcome {
            id: self.id,
            kind: self.kind,
            occurred_at: self.occurred_at,
            user_key: self.user_key,
            decision_id: self.decision_id,
            auction_id: self.auction_id,
            imp_id: self.imp_id,
            campaign_id: self.campaign_id,
            creative_id: self.creative_id,
            placement: self.placement,
            value: self.value_micros.map(Micros),
            currency,
            price: self.price_micros.map(Cpm),
            min_to_win: self.min_to_win_micros.map(Cpm),
            loss_reason: self.loss_reason,
        })
    }
}

/// Counts by bucket: won, lost, threshold.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Histogram(BTreeMap<u16, (u64, u64, u64)>);

impl From<&shading::Histogram> for Histogram {
    fn from(histogram: &shading::Histogram) -> Self {
        let counts = |(bucket, it): (&u16, &Counts)| (*bucket, (it.won, it.lost, it.threshold));
        Self(histogram.buckets.iter().map(counts).collect())
    }
}

impl Histogram {
    pub(super) fn histogram(self) -> shading::Histogram {
        let counts = |(bucket, (won, lost, threshold))| (bucket, Counts { won, lost, threshold });
        shading::Histogram { buckets: self.0.into_iter().map(counts).collect() }
    }
}

/// The fitted win rates of a currency.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rates {
    all: Option<WinRateModel>,
    campaigns: BTreeMap<String, RatesOfCampaign>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RatesOfCampaign {
    all: WinRateModel,
    placements: BTreeMap<String, WinRateModel>,
}

impl From<&WinRates> for Rates {
    fn from(rates: &WinRates) -> Self {
        let of = |(id, it): (&String, &CampaignRates)| {
            let placements = it.placements.iter().map(|(name, rate)| (name.clone(), rate.into())).collect();
            (id.clone(), RatesOfCampaign { all: (&it.all).into(), placements })
        };
        Self { all: rates.all.as_ref().map(WinRateModel::from), campaigns: rates.campaigns.iter().map(of).collect() }
    }
}

impl Rates {
    pub(super) fn rates(self) -> Result<WinRates, String> {
        let model = |model: WinRateModel| model.rate().ok_or_else(|| "a win rate is out of bounds".to_owned());
        let mut rates = WinRates { all: self.all.map(model).transpose()?, campaigns: BTreeMap::new() };
        for (id, it) in self.campaigns {
            let mut of = CampaignRates { all: model(it.all)?, placements: BTreeMap::new() };
            for (name, rate) in it.placements {
                of.placements.insert(name, model(rate)?);
            }
            rates.campaigns.insert(id, of);
        }
        Ok(rates)
    }
}

/// An account without its days and arms, which have records of their own.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Account {
    currency: String,
    total: ledger::Figures,
    pacer: PacerState,
}

/// A pacer. The timing is not part of it: it is configured.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PacerState {
    day: Option<i32>,
    day_start_ms: i64,
    seen_from_ms: i64,
    spent_today_micros: i64,
    spent_yesterday_micros: i64,
    spent_total_micros: i64,
    today: Vec<u64>,
    forecast: Vec<f64>,
    /// Start, passes and spend.
    intervals: Vec<(i64, u64, i64)>,
    late: (i64, u64, i64),
    passed: f64,
    spent: f64,
    passed_ever: u64,
    spent_ever_micros: i64,
    eligible: u64,
    traffic: Option<f64>,
    rated_at_ms: Option<i64>,
    rate: u32,
}

impl From<&ledger::Account> for Account {
    fn from(account: &ledger::Account) -> Self {
        let Pacer { recent, .. } = &account.pacer;
        let pacer = &account.pacer;
        let interval = |it: &Interval| (it.start_ms, it.passed, it.spent.0);
        Self {
            currency: account.currency.code().to_owned(),
            total: account.total,
            pacer: PacerState {
                day: pacer.day,
                day_start_ms: pacer.day_start_ms,
                seen_from_ms: pacer.seen_from_ms,
                spent_today_micros: pacer.spent.today.0,
                spent_yesterday_micros: pacer.spent.yesterday.0,
                spent_total_micros: pacer.spent.total.0,
                today: pacer.today.clone(),
                forecast: pacer.forecast.clone(),
                intervals: recent.intervals.iter().map(interval).collect(),
                late: interval(&recent.late),
                passed: recent.passed,
                spent: recent.spent,
                passed_ever: recent.passed_ever,
                spent_ever_micros: recent.spent_ever.0,
                eligible: pacer.eligible,
                traffic: pacer.traffic,
                rated_at_ms: pacer.rated_at_ms,
                rate: pacer.rate.0,
            },
        }
    }
}

impl Account {
    pub(super) fn account(self, timing: Timing) -> Result<ledger::Account, String> {
        let currency: Currency = super::restore::currency_of(&self.currency)?;
        let it = self.pacer;
        let is_day = it.day.is_none_or(|day| (-DAYS_MAX..=DAYS_MAX).contains(&day));
        if it.rate > PassThrough::ALL.0 || it.intervals.len() > INTERVALS_MAX || !is_day {
            return Err("the pacer's rate, day or intervals are out of bounds".to_owned());
        }
        let interval = |(start_ms, passed, spent)| Interval { start_ms, passed, spent: Micros(spent) };
        let mut account = ledger::Account::new(currency, timing);
        account.total = self.total;
        account.pacer = Pacer {
            timing,
            day: it.day,
            day_start_ms: it.day_start_ms,
            seen_from_ms: it.seen_from_ms,
            spent: Spent {
                today: Micros(it.spent_today_micros),
                yesterday: Micros(it.spent_yesterday_micros),
                total: Micros(it.spent_total_micros),
            },
            today: it.today,
            forecast: it.forecast,
            recent: Recent {
                intervals: it.intervals.into_iter().map(interval).collect(),
                late: interval(it.late),
                passed: it.passed,
                spent: it.spent,
                passed_ever: it.passed_ever,
                spent_ever: Micros(it.spent_ever_micros),
            },
            eligible: it.eligible,
            traffic: it.traffic,
            rated_at_ms: it.rated_at_ms,
            rate: PassThrough(it.rate),
        };
        Ok(account)
    }
}
