//! The state as keyed records of a compacted topic.
//!
//! Each part of the state has a record of its own, so that only what has changed is written. A part that is gone is a
//! tombstone. Ids are texts that begin with their version: `v1/day/spring/20454`.
//!
//! Guarantees: ids and values do not depend on what is in memory besides, so the same state gives the same bytes. Floats
//! are written with as many digits as they need.

use super::{State, wire};
use crate::control::key::{Key, join, split};
use serde::Serialize;

/// The version that ids begin with. Another encoding of a value gets another version.
const VERSION: &str = "v1";

/// A record of the compacted topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The record's key.
    pub key: String,
    /// The record's value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
}

/// A part of the state.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum RecordId {
    Meta,
    /// Topic and partition.
    Input(String, i32),
    Seen(Key),
    Touch(Key),
    /// Arrival and outcome.
    Parked(i64, Key),
    /// Campaign.
    Account(String),
    /// Campaign and day.
    Day(String, i32),
    /// Campaign, model version and day.
    Quality(String, String, i32),
    /// Campaign, creative and audience.
    Arm(String, String, String),
    /// Campaign and creative.
    Linear(String, String),
    /// Currency, campaign and placement.
    Notices(String, String, String),
    /// Currency.
    Rates(String),
    /// Taxonomy, segment and source.
    Audience(u32, String, String),
}

impl RecordId {
    pub(super) fn text(&self) -> String {
        let parts = |parts: &[&str]| join(&[&[VERSION], parts].concat());
        match self {
            Self::Meta => parts(&["meta"]),
            Self::Input(topic, partition) => parts(&["input", topic, &partition.to_string()]),
            Self::Seen(key) => parts(&["seen", &key.text()]),
            Self::Touch(key) => parts(&["touch", &key.text()]),
            Self::Parked(at, key) => parts(&["parked", &at.to_string(), &key.text()]),
            Self::Account(campaign) => parts(&["account", campaign]),
            Self::Day(campaign, day) => parts(&["day", campaign, &day.to_string()]),
            Self::Quality(campaign, version, day) => parts(&["quality", campaign, version, &day.to_string()]),
            Self::Arm(campaign, creative, audience) => parts(&["arm", campaign, creative, audience]),
            Self::Linear(campaign, creative) => parts(&["linear", campaign, creative]),
            Self::Notices(currency, campaign, placement) => parts(&["notices", currency, campaign, placement]),
            Self::Rates(currency) => parts(&["rates", currency]),
            Self::Audience(segtax, segment, source) => parts(&["audience", &segtax.to_string(), segment, source]),
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        // Most records are of these two kinds.
        if let Some(key) = text.strip_prefix("v1/seen/") {
            return Key::parse(key).map(Self::Seen);
        }
        if let Some(key) = text.strip_prefix("v1/touch/") {
            return Key::parse(key).map(Self::Touch);
        }
        let parts = split(text);
        let mut parts = parts.iter().map(String::as_str);
        if parts.next() != Some(VERSION) {
            return None;
        }
        let kind = parts.next()?;
        let rest: Vec<&str> = parts.collect();
        let id = match (kind, rest[..].as_ref()) {
            ("meta", []) => Self::Meta,
            ("input", [topic, partition]) => Self::Input((*topic).to_owned(), partition.parse().ok()?),
            ("parked", [at, key]) => Self::Parked(at.parse().ok()?, Key::parse(key)?),
            ("account", [campaign]) => Self::Account((*campaign).to_owned()),
            ("day", [campaign, day]) => Self::Day((*campaign).to_owned(), day.parse().ok()?),
            ("quality", [campaign, version, day]) => {
                Self::Quality((*campaign).to_owned(), (*version).to_owned(), day.parse().ok()?)
            }
            ("arm", [campaign, creative, audience]) => {
                Self::Arm((*campaign).to_owned(), (*creative).to_owned(), (*audience).to_owned())
            }
            ("linear", [campaign, creative]) => Self::Linear((*campaign).to_owned(), (*creative).to_owned()),
            ("notices", [currency, campaign, placement]) => {
                Self::Notices((*currency).to_owned(), (*campaign).to_owned(), (*placement).to_owned())
            }
            ("rates", [currency]) => Self::Rates((*currency).to_owned()),
            ("audience", [segtax, segment, source]) => {
                Self::Audience(segtax.parse().ok()?, (*segment).to_owned(), (*source).to_owned())
            }
            _ => return None,
        };
        Some(id)
    }
}

impl State {
    /// The records that have changed since [`State::mark_clean`], to be written in one transaction with the policy.
    pub fn dirty(&self) -> Vec<Record> {
        self.dirty.iter().map(|id| Record { key: id.text(), value: self.value(id) }).collect()
    }

    /// How many records [`State::dirty`] has.
    pub fn dirty_count(&self) -> usize {
        self.dirty.len()
    }

    /// Says that the records of [`State::dirty`] are committed. Nothing may have been applied in between.
    pub fn mark_clean(&mut self) {
        self.dirty.clear();
    }

    /// All records of the state, sorted by their kind and key.
    pub fn records(&self) -> Vec<Record> {
        let mut ids = vec![RecordId::Meta];
        for (topic, of) in &self.inputs {
            ids.extend(of.keys().map(|partition| RecordId::Input(topic.clone(), *partition)));
        }
        ids.extend(self.seen.keys().map(RecordId::Seen));
        ids.extend(self.touches.keys().map(RecordId::Touch));
        ids.extend(self.parked.keys().map(|(at, key)| RecordId::Parked(*at, *key)));
        for (id, account) in &self.accounts {
            ids.push(RecordId::Account(id.clone()));
            ids.extend(account.days.keys().map(|day| RecordId::Day(id.clone(), *day)));
            let beta = account.arms.beta.keys();
            ids.extend(beta.map(|(creative, audience)| RecordId::Arm(id.clone(), creative.clone(), audience.clone())));
            ids.extend(account.arms.linear.keys().map(|creative| RecordId::Linear(id.clone(), creative.clone())));
        }
        for ((campaign, version), days) in &self.observed.qualities.all {
            ids.extend(days.keys().map(|day| RecordId::Quality(campaign.clone(), version.clone(), *day)));
        }
        ids.extend(self.notice_ids());
        ids.extend(self.auctions.rates.keys().map(|currency| RecordId::Rates(currency.code().to_owned())));
        for ((segtax, segment), sources) in &self.observed.audiences {
            ids.extend(sources.keys().map(|source| RecordId::Audience(*segtax, segment.clone(), source.clone())));
        }
        ids.sort_unstable();
        ids.iter().map(|id| Record { key: id.text(), value: self.value(id) }).collect()
    }

    pub(super) fn notice_ids(&self) -> impl Iterator<Item = RecordId> {
        self.auctions.notices.iter().flat_map(|(currency, notices)| {
            notices.campaigns.iter().flat_map(move |(id, campaign)| {
                let of =
                    |placement: &String| RecordId::Notices(currency.code().to_owned(), id.clone(), placement.clone());
                campaign.placements.keys().map(of).collect::<Vec<_>>()
            })
        })
    }

    /// The value of a part of the state. `None` if it is gone.
    fn value(&self, id: &RecordId) -> Option<Vec<u8>> {
        match id {
            RecordId::Meta => Some(json(&self.meta)),
            RecordId::Input(topic, partition) => self.inputs.get(topic)?.get(partition).map(json),
            RecordId::Seen(key) => self.seen.until(*key).map(|until| json(&wire::Seen { until })),
            RecordId::Touch(key) => self.touches.get(*key).map(json),
            RecordId::Parked(at, key) => {
                self.parked.get(&(*at, *key)).map(|outcome| json(&wire::Parked::from(outcome)))
            }
            RecordId::Account(campaign) => {
                self.accounts.get(campaign).map(|account| json(&wire::Account::from(account)))
            }
            RecordId::Day(campaign, day) => self.accounts.get(campaign)?.days.get(day).map(json),
            RecordId::Quality(campaign, version, day) => {
                self.observed.qualities.all.get(&(campaign.clone(), version.clone()))?.get(day).map(json)
            }
            RecordId::Arm(campaign, creative, audience) => {
                self.accounts.get(campaign)?.arms.beta.get(&(creative.clone(), audience.clone())).map(json)
            }
            RecordId::Linear(campaign, creative) => self.accounts.get(campaign)?.arms.linear.get(creative).map(json),
            RecordId::Notices(currency, campaign, placement) => {
                let notices = self.auctions.notices.get(&currency.parse().ok()?)?;
                let histogram = notices.campaigns.get(campaign)?.placements.get(placement)?;
                Some(json(&wire::Histogram::from(histogram)))
            }
            RecordId::Rates(currency) => {
                self.auctions.rates.get(&currency.parse().ok()?).map(|rates| json(&wire::Rates::from(rates)))
            }
            RecordId::Audience(segtax, segment, source) => {
                let members = self.observed.audiences.get(&(*segtax, segment.clone()))?.get(source)?;
                Some(json(&wire::Audience { members: *members }))
            }
        }
    }
}

fn json<T: Serialize>(value: &T) -> Vec<u8> {
    // Maps have text keys, and no type fails to serialise; an empty value would be found when restoring.
    serde_json::to_vec(value).unwrap_or_default()
}
