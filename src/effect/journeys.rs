//! Which campaigns earned the conversions: the touches of each user, and what followed.
//!
//! Owns the journeys. The models that divide a conversion among them are those of [`crate::evaluation::attribution`]. A conversion
//! ends the journey of its user's touches that are at most [`AttributionPlan::lookback`] older; an earlier conversion takes those before
//! it. Touches that no conversion followed within that time are a lost journey, and those that are too young for that are left out.
//!
//! Guarantees: under each model, credits and what is direct add up to the conversions. The order of the records does not matter.
//! Limits: [`ENTRIES_MAX`] touches and conversions, 24 bytes each. If there are more, half of the users are left out again and again,
//! as in the AUC within users. 256 campaigns; further ones are one channel.

use super::{EffectError, fold::user_hash, halving::Halving, rows::Offered};
use crate::{
    control::{Disposition, Outcome, OutcomeType},
    evaluation::attribution::{AttributionError, Ledger, Model, Settings, Touch},
    targeting::money::Currency,
};
use serde::Serialize;
use std::{collections::BTreeMap, time::Duration};

/// The most touches and conversions.
const ENTRIES_MAX: usize = 2_000_000;

/// The most channels; the last is of all further campaigns.
const CHANNELS_MAX: usize = 256;

/// The name of the channel of all further campaigns.
const OTHER: &str = "(other)";

/// What is a touch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum TouchKind {
    /// A click
    #[default]
    Click,
    /// An impression
    Impression,
}

/// How conversions are divided among campaigns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttributionPlan {
    /// What is a touch.
    pub touch: TouchKind,
    /// How old a touch may be at the conversion, in microseconds.
    pub lookback: i64,
    /// The age after which a touch counts half under time decay.
    pub half_life: Duration,
}

/// What happened to a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    user: u64,
    at: i64,
    what: What,
}

/// A touch comes before a conversion of the same moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Touch { channel: u16 },
    Conversion { value: i64, currency: u16 },
}

/// Conversions or money, divided among the channels.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Attributed {
    /// All of it.
    pub total: f64,
    /// What followed no touch.
    pub direct: f64,
    /// By model: the credit of each channel. `None` if it cannot be computed.
    pub credits: BTreeMap<Model, Option<Vec<f64>>>,
}

/// The attribution.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AttributionReport {
    /// What is a touch.
    pub touch: TouchKind,
    /// How old a touch may be at the conversion, in microseconds.
    pub lookback: i64,
    /// The campaigns, in the order of credits.
    pub channels: Vec<String>,
    /// The touches of each.
    pub touches: Vec<u64>,
    /// The number of conversions.
    pub conversions: Attributed,
    /// What they brought, in units of money by currency.
    pub revenue: BTreeMap<String, Attributed>,
    /// Users with touches that no conversion followed in time.
    pub lost: u64,
    /// Journeys of which only the latest 256 touches count.
    pub cut: u64,
    /// One user in so many is in the figures.
    pub users_one_in: u64,
}

/// The journeys.
#[derive(Clone, Debug)]
pub(super) struct Journeys {
    plan: AttributionPlan,
    channels: Vec<String>,
    /// `None` for conversions that name none.
    currencies: Vec<Option<Currency>>,
    entries: Vec<Entry>,
    entries_max: usize,
    sample: Halving,
}

impl Journeys {
    pub(super) fn new(plan: AttributionPlan) -> Self {
        let (channels, currencies, entries) = (Vec::new(), Vec::new(), Vec::new());
        Self { plan, channels, currencies, entries, entries_max: ENTRIES_MAX, sample: Halving::default() }
    }

    /// Takes in an outcome. A conversion that belongs to no known impression counts, too, if it names its user.
    pub(super) fn settled(&mut self, outcome: &Outcome, disposition: Disposition, offered: Option<&Offered>) {
        let (at, is_joined) = (outcome.occurred_at, disposition == Disposition::Joined);
        match (outcome.kind, offered) {
            (OutcomeType::Conversion, _) if disposition != Disposition::Rejected => {
                let named = outcome.user_key.as_deref().map(user_hash);
                let Some(user) = offered.map(|it| it.user).or(named) else { return };
                let currency = outcome.currency.or(offered.map(|it| it.currency));
                self.convert(user, at, outcome.value.unwrap_or_default().0, currency);
            }
            (OutcomeType::Click, Some(offered)) if is_joined && self.plan.touch == TouchKind::Click => {
                offered.channel.into_iter().for_each(|channel| self.touch(offered.user, at, channel));
            }
            (OutcomeType::Impression, Some(offered)) if is_joined && self.plan.touch == TouchKind::Impression => {
                offered.channel.into_iter().for_each(|channel| self.touch(offered.user, at, channel));
            }
            _ => {}
        }
    }

    /// The channel of a campaign.
    pub(super) fn channel(&mut self, campaign: &str) -> u16 {
        let known = self.channels.iter().position(|it| it == campaign);
        let channel = known.unwrap_or_else(|| {
            if self.channels.len() < CHANNELS_MAX {
                let is_last = self.channels.len() + 1 == CHANNELS_MAX;
                self.channels.push(if is_last { OTHER } else { campaign }.to_owned());
            }
            self.channels.len() - 1
        });
        channel as u16
    }

    fn touch(&mut self, user: u64, at: i64, channel: u16) {
        self.add(Entry { user, at, what: What::Touch { channel } });
    }

    fn convert(&mut self, user: u64, at: i64, value: i64, currency: Option<Currency>) {
        let known = self.currencies.iter().position(|it| *it == currency);
        let currency = known.unwrap_or_else(|| {
            self.currencies.push(currency);
            self.currencies.len() - 1
        });
        self.add(Entry { user, at, what: What::Conversion { value, currency: currency as u16 } });
    }

    fn add(&mut self, entry: Entry) {
        if !self.sample.keeps(entry.user) {
            return;
        }
        self.entries.push(entry);
        while self.entries.len() > self.entries_max && self.sample.halve() {
            let sample = self.sample;
            self.entries.retain(|entry| sample.keeps(entry.user));
        }
    }

    /// Divides the conversions. `end`: up to when they are complete.
    pub(super) fn report(mut self, end: i64) -> Result<AttributionReport, EffectError> {
        self.entries.sort_unstable();
        let settings = Settings { half_life: self.plan.half_life, ..Settings::default() };
        // Without a campaign, all conversions are direct.
        let ledger = || Ledger::new(self.channels.len().max(1), settings);
        let mut counts = ledger()?;
        let mut money = self.currencies.iter().map(|_| ledger()).collect::<Result<Vec<_>, _>>()?;
        let mut touches = vec![0; self.channels.len()];
        let mut lost = 0;
        for of_user in self.entries.chunk_by(|a, b| a.user == b.user) {
            let mut open: Vec<(i64, u16)> = Vec::new();
            for entry in of_user {
                match entry.what {
                    What::Touch { channel } => {
                        touches[usize::from(channel)] += 1;
                        open.push((entry.at, channel));
                    }
                    What::Conversion { value, currency } => {
                        let journey = self.journey(&open, entry.at);
                        counts.converted(&journey, 1.0)?;
                        // A refund brings nothing.
                        money[usize::from(currency)].converted(&journey, value.max(0) as f64 / 1e6)?;
                        open.clear();
                    }
                }
            }
            if let Some((last, _)) = open.last().filter(|(last, _)| last.saturating_add(self.plan.lookback) <= end) {
                let journey = self.journey(&open, *last);
                counts.lost(&journey)?;
                money.iter_mut().try_for_each(|ledger| ledger.lost(&journey))?;
                lost += 1;
            }
        }
        let named = self.currencies.iter().zip(&money);
        Ok(AttributionReport {
            touch: self.plan.touch,
            lookback: self.plan.lookback,
            touches,
            conversions: attributed(&counts)?,
            revenue: named
                .map(|(currency, ledger)| {
                    Ok((currency.as_ref().map_or("unknown", Currency::code).to_owned(), attributed(ledger)?))
                })
                .collect::<Result<_, EffectError>>()?,
            lost,
            cut: counts.journeys_cut(),
            users_one_in: self.sample.one_in(),
            channels: self.channels,
        })
    }

    /// The touches of a journey that ends then.
    fn journey(&self, open: &[(i64, u16)], end: i64) -> Vec<Touch> {
        let oldest = end.saturating_sub(self.plan.lookback);
        let recent = open.iter().filter(|(at, _)| *at >= oldest);
        let touch = |(at, channel): &(i64, u16)| Touch {
            channel: usize::from(*channel),
            age: Duration::from_micros(end.saturating_sub(*at).max(0) as u64),
        };
        recent.map(touch).collect()
    }
}

fn attributed(ledger: &Ledger) -> Result<Attributed, EffectError> {
    let mut credits = BTreeMap::new();
    let (mut total, mut direct) = (0.0, 0.0);
    for model in Model::ALL {
        let found = match ledger.credits(model) {
            Ok(found) => Some(found),
            Err(AttributionError::Unstable) => None,
            Err(error) => return Err(error.into()),
        };
        if let (Model::Last, Some(found)) = (model, &found) {
            direct = found.direct;
            total = direct + found.channels.iter().sum::<f64>();
        }
        credits.insert(model, found.map(|it| it.channels));
    }
    Ok(Attributed { total, direct, credits })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000;

    fn journeys() -> Journeys {
        let (lookback, half_life) = (24 * HOUR, Duration::from_hours(24));
        Journeys::new(AttributionPlan { touch: TouchKind::Click, lookback, half_life })
    }

    fn credits(of: &Attributed, model: Model) -> &[f64] {
        of.credits[&model].as_deref().unwrap()
    }

    #[test]
    fn a_conversion_takes_the_touches_of_its_time_and_the_next_one_those_after_it() {
        let mut all = journeys();
        let [euro, dollar] = ["EUR", "USD"].map(|code| Some(code.parse().unwrap()));
        let [a, b] = ["a", "b"].map(|campaign| all.channel(campaign));
        // In any order: an old touch, two recent ones, a conversion, a touch and a conversion of the same moment.
        all.convert(1, 30 * HOUR, 10_000_000, euro);
        all.touch(1, 31 * HOUR, b);
        all.touch(1, 10 * HOUR, a);
        all.touch(1, HOUR, b);
        all.touch(1, 20 * HOUR, b);
        all.convert(1, 31 * HOUR, 4_000_000, euro);
        // A direct one, a lost journey, and one that is too young to be lost.
        all.convert(2, 5 * HOUR, 7_000_000, dollar);
        all.touch(3, HOUR, a);
        all.touch(4, 90 * HOUR, a);
        let found = all.report(100 * HOUR).unwrap();
        assert_eq!(
            (found.channels.as_slice(), found.touches.as_slice(), found.lost),
            (&["a".to_owned(), "b".to_owned()][..], &[3, 3][..], 1)
        );
        assert_eq!((found.conversions.total, found.conversions.direct), (3.0, 1.0));
        assert_eq!(credits(&found.conversions, Model::First), [1.0, 1.0]);
        assert_eq!(credits(&found.conversions, Model::Last), [0.0, 2.0]);
        assert_eq!(credits(&found.conversions, Model::Linear), [0.5, 1.5]);
        assert_eq!(credits(&found.revenue["EUR"], Model::Linear), [5.0, 9.0]);
        assert_eq!(found.revenue["USD"].direct, 7.0);
        for of in found.revenue.values().chain([&found.conversions]) {
            for credits in of.credits.values().flatten() {
                assert!((credits.iter().sum::<f64>() + of.direct - of.total).abs() < 1e-9, "{of:?}");
            }
        }
    }

    #[test]
    fn too_many_journeys_are_those_of_fewer_users_whole() {
        let mut all = Journeys { entries_max: 1_000, ..journeys() };
        let euro = Some("EUR".parse().unwrap());
        let campaigns: Vec<u16> = (0..300).map(|number| all.channel(&format!("c{number}"))).collect();
        for user in 0..10_000 {
            all.touch(user, HOUR, campaigns[user as usize % 300]);
            all.convert(user, 2 * HOUR, 1_000_000, euro);
        }
        let found = all.report(100 * HOUR).unwrap();
        assert!(found.users_one_in >= 16, "{}", found.users_one_in);
        assert_eq!(found.conversions.direct, 0.0, "a user's touch is kept with the conversion");
        assert_eq!((found.channels.len(), found.channels.last().unwrap().as_str()), (CHANNELS_MAX, OTHER));
        assert!(found.conversions.total > 100.0);
    }

    #[test]
    fn without_a_touch_all_conversions_are_direct() {
        let mut all = journeys();
        all.convert(1, HOUR, 0, None);
        let found = all.report(HOUR).unwrap();
        assert_eq!((found.conversions.total, found.conversions.direct), (1.0, 1.0));
        assert!(found.channels.is_empty());
        assert_eq!(journeys().report(0).unwrap().conversions.total, 0.0);
    }
}
