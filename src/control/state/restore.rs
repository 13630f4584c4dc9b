//! Restoring the state from the records of the compacted topic.
//!
//! A standby follows the topic while another control is at work, so that it only has the rest to read when it takes
//! over. Following half a million records takes some seconds.

use super::{Account, Meta, State, records::RecordId, wire};
use crate::{
    canary::{self, Canary},
    control::{ledger::CampaignSetup, spec::ControlSpec},
    targeting::money::Currency,
};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;

/// A number that serde_json reads as its neighbour without the feature `float_roundtrip`.
const HARD: &str = "2.0030397744267762e-253";

/// Why a state cannot be restored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// A key is not known.
    #[error("the record {key:?} is not known; a newer version may have written it: run that version")]
    Key {
        /// The key.
        key: String,
    },
    /// A value is damaged.
    #[error("the record {key:?} is damaged: {message}")]
    Value {
        /// The key.
        key: String,
        /// What is wrong.
        message: String,
    },
    /// This program does not read floats exactly.
    #[error("this program does not read floats exactly; build serde_json with the feature float_roundtrip")]
    Floats,
}

/// A state that follows the compacted topic.
#[derive(Clone, Debug)]
pub struct Follower {
    state: State,
    /// Parts of campaigns whose account has not come yet: compaction changes the order of keys.
    early: BTreeMap<RecordId, (String, Vec<u8>)>,
    /// What could not be read, by key. A later record of the key may replace it.
    damaged: BTreeMap<String, RestoreError>,
}

impl Follower {
    /// The state before the first record.
    pub fn new(app: &str, spec: &ControlSpec, campaigns: Vec<CampaignSetup>) -> Self {
        Self { state: State::new(app, spec, campaigns), early: BTreeMap::new(), damaged: BTreeMap::new() }
    }

    /// As [`State::set_campaigns`].
    pub fn set_campaigns(&mut self, campaigns: Vec<CampaignSetup>) {
        self.state.set_campaigns(campaigns);
    }

    /// The version of the last policy that was written; 0 before the first.
    pub fn version(&self) -> u64 {
        self.state.version()
    }

    /// Takes in a committed record; a value of `None` is a tombstone. Of a key, the last record counts.
    pub fn follow(&mut self, key: &str, value: Option<&[u8]>) {
        self.damaged.remove(key);
        let Some(id) = RecordId::parse(key) else {
            if value.is_some() {
                self.damaged.insert(key.to_owned(), RestoreError::Key { key: key.to_owned() });
            }
            return;
        };
        self.early.remove(&id);
        let Some(value) = value else { return self.state.drop_part(&id) };
        self.put(id, key, value);
    }

    /// The state up to the last record.
    ///
    /// # Errors
    ///
    /// If a record is damaged or unknown: spend would be wrong, so control must not start.
    pub fn finish(mut self) -> Result<State, RestoreError> {
        if serde_json::from_str::<f64>(HARD).ok() != HARD.parse().ok() {
            return Err(RestoreError::Floats);
        }
        if let Some((_, error)) = self.damaged.pop_first() {
            return Err(error);
        }
        match self.early.pop_first() {
            Some((_, (key, _))) => Err(RestoreError::Value { key, message: "its campaign has no account".to_owned() }),
            None => Ok(self.state),
        }
    }

    fn put(&mut self, id: RecordId, key: &str, value: &[u8]) {
        if id.campaign().is_some_and(|campaign| !self.state.accounts.contains_key(campaign)) {
            self.early.insert(id, (key.to_owned(), value.to_vec()));
            return;
        }
        let account = if let RecordId::Account(campaign) = &id { Some(campaign.clone()) } else { None };
        if let Err(message) = self.state.put(id, value) {
            let key = key.to_owned();
            self.damaged.insert(key.clone(), RestoreError::Value { key, message });
            return;
        }
        let Some(campaign) = account.filter(|_| !self.early.is_empty()) else { return };
        let (its, others) =
            std::mem::take(&mut self.early).into_iter().partition(|(id, _)| id.campaign() == Some(&campaign));
        self.early = others;
        for (id, (key, value)) in its {
            self.put(id, &key, &value);
        }
    }
}

impl RecordId {
    /// The campaign whose account this is a part of.
    fn campaign(&self) -> Option<&str> {
        match self {
            Self::Day(campaign, _) | Self::Arm(campaign, _, _) | Self::Linear(campaign, _) => Some(campaign),
            _ => None,
        }
    }
}

impl State {
    /// Restores the state from the records of the compacted topic, in the order in which they were written. Of a key,
    /// the last record counts.
    ///
    /// # Errors
    ///
    /// As for [`Follower::finish`].
    pub fn restore<K: AsRef<str>, V: AsRef<[u8]>>(
        app: &str,
        spec: &ControlSpec,
        campaigns: Vec<CampaignSetup>,
        records: impl IntoIterator<Item = (K, Option<V>)>,
    ) -> Result<Self, RestoreError> {
        let mut follower = Follower::new(app, spec, campaigns);
        for (key, value) in records {
            follower.follow(key.as_ref(), value.as_ref().map(AsRef::as_ref));
        }
        follower.finish()
    }

    /// Puts a part into the state.
    fn put(&mut self, id: RecordId, value: &[u8]) -> Result<(), String> {
        match id {
            RecordId::Meta => {
                self.meta = read::<Meta>(value)?;
                self.seen.floor = self.meta.seen_floor;
                if canary::is_in(Canary::PolicyVersionReused) {
                    self.meta.version = 0;
                }
            }
            RecordId::Input(topic, partition) => {
                self.inputs.entry(topic).or_default().insert(partition, read(value)?);
            }
            RecordId::Seen(key) => {
                let until = read::<wire::Seen>(value)?.until;
                if !canary::is_in(Canary::BudgetPaidTwiceAtTakeover) {
                    self.seen.insert(key, until);
                }
            }
            RecordId::Touch(key) => self.touches.insert(key, read(value)?),
            RecordId::Parked(at, key) => {
                let outcome = read::<wire::Parked>(value)?.outcome()?;
                if !canary::is_in(Canary::WaitingOutcomeLost) {
                    self.parked.insert((at, key), outcome);
                }
            }
            RecordId::Account(campaign) => {
                let mut account = read::<wire::Account>(value)?.account(self.settings.timing)?;
                if let Some(former) = self.accounts.remove(&campaign) {
                    (account.days, account.arms) = (former.days, former.arms);
                }
                self.accounts.insert(campaign, account);
            }
            RecordId::Day(campaign, day) => {
                self.account(&campaign)?.days.insert(day, read(value)?);
            }
            RecordId::Quality(campaign, version, day) => {
                self.observed.qualities.all.entry((campaign, version)).or_default().insert(day, read(value)?);
            }
            RecordId::Arm(campaign, creative, audience) => {
                self.account(&campaign)?.arms.beta.insert((creative, audience), read(value)?);
            }
            RecordId::Linear(campaign, creative) => {
                self.account(&campaign)?.arms.linear.insert(creative, read(value)?);
            }
            RecordId::Notices(currency, campaign, placement) => {
                let histogram = read::<wire::Histogram>(value)?.histogram();
                let notices = self.auctions.notices.entry(currency_of(&currency)?).or_default();
                notices.campaigns.entry(campaign).or_default().placements.insert(placement, histogram);
            }
            RecordId::Rates(currency) => {
                self.auctions.rates.insert(currency_of(&currency)?, read::<wire::Rates>(value)?.rates()?);
            }
            RecordId::Audience(segtax, segment, source) => {
                let members = read::<wire::Audience>(value)?.members;
                self.observed.audiences.entry((segtax, segment)).or_default().insert(source, members);
            }
        }
        Ok(())
    }

    /// Takes a part out of the state, as its tombstone says.
    fn drop_part(&mut self, id: &RecordId) {
        match id {
            RecordId::Meta => self.meta = Meta::default(),
            RecordId::Input(topic, partition) => {
                if let Some(of) = self.inputs.get_mut(topic) {
                    of.remove(partition);
                }
            }
            RecordId::Seen(key) => self.seen.remove(*key),
            RecordId::Touch(key) => drop(self.touches.remove(*key)),
            RecordId::Parked(at, key) => drop(self.parked.remove(&(*at, *key))),
            RecordId::Account(campaign) => drop(self.accounts.remove(campaign)),
            RecordId::Day(campaign, day) => {
                if let Some(account) = self.accounts.get_mut(campaign) {
                    account.days.remove(day);
                }
            }
            RecordId::Quality(campaign, version, day) => {
                let id = (campaign.clone(), version.clone());
                if self.observed.qualities.all.get_mut(&id).is_some_and(|it| it.remove(day).is_some() && it.is_empty())
                {
                    self.observed.qualities.all.remove(&id);
                }
            }
            RecordId::Arm(campaign, creative, audience) => {
                if let Some(account) = self.accounts.get_mut(campaign) {
                    account.arms.beta.remove(&(creative.clone(), audience.clone()));
                }
            }
            RecordId::Linear(campaign, creative) => {
                if let Some(account) = self.accounts.get_mut(campaign) {
                    account.arms.linear.remove(creative);
                }
            }
            RecordId::Notices(currency, campaign, placement) => {
                let currency = currency.parse::<Currency>().ok();
                if let Some(notices) = currency.and_then(|currency| self.auctions.notices.get_mut(&currency)) {
                    let placements = notices.campaigns.get_mut(campaign).map(|it| &mut it.placements);
                    if placements.is_some_and(|it| it.remove(placement).is_some() && it.is_empty()) {
                        notices.campaigns.remove(campaign);
                    }
                }
            }
            RecordId::Rates(currency) => {
                if let Ok(currency) = currency.parse::<Currency>() {
                    self.auctions.rates.remove(&currency);
                }
            }
            RecordId::Audience(segtax, segment, source) => {
                let id = (*segtax, segment.clone());
                if self.observed.audiences.get_mut(&id).is_some_and(|it| it.remove(source).is_some() && it.is_empty()) {
                    self.observed.audiences.remove(&id);
                }
            }
        }
    }

    fn account(&mut self, campaign: &str) -> Result<&mut Account, String> {
        self.accounts.get_mut(campaign).ok_or_else(|| "its campaign has no account".to_owned())
    }
}

pub(super) fn currency_of(code: &str) -> Result<Currency, String> {
    code.parse().map_err(|error| format!("{code:?} is {error}"))
}

fn read<T: DeserializeOwned>(value: &[u8]) -> Result<T, String> {
    serde_json::from_slice(value).map_err(|error| error.to_string())
}
