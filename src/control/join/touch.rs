//! The touches: what was offered to users and shown to them, while an outcome may still belong to it.
//!
//! Limits: a touch takes about 700 bytes, of which 300 are its fields and the rest is what they point to and the room that maps
//! keep free, and about 100 for each name that it can be found by, of which there are at most [`ALIASES_MAX`].

use super::{
    super::{
        key::{Key, KeyMap},
        ledger::Predicted,
    },
    shown::Gallery,
};
use crate::targeting::money::Cpm;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, hash_map::Entry};

/// The most names of a touch. A decision may be used in many auctions; those beyond are found by the decision alone.
pub(super) const ALIASES_MAX: usize = 32;

/// A campaign in a decision, or an impression that followed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct Touch {
    pub(in super::super) campaign: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in super::super) creative: Option<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(in super::super) audience: String,
    /// The features that the creative was chosen by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(in super::super) features: Vec<f64>,
    /// In millionths per thousand impressions.
    pub(in super::super) bid_micros: i64,
    pub(in super::super) decided_at: i64,
    /// Until when an impression, a win or a loss counts.
    pub(in super::super) offered_until: i64,
    /// When the ad was shown. `None` for an offer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in super::super) shown_at: Option<i64>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(in super::super) viewed: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in super::super) clicked_at: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in super::super) converted_at: Option<i64>,
    /// What was predicted. `None` if nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in super::super) predicted: Option<Predicted>,
    /// When it is known whether the impression succeeded. `None` if nothing is to be learned, or no longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in super::super) learn_at: Option<i64>,
    /// After this time, no outcome can belong to it.
    pub(in super::super) keep_until: i64,
    /// What it can be found by.
    pub(in super::super) aliases: Vec<Alias>,
}

/// A key as text: JSON has no numbers of 128 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(in super::super) struct Alias(pub(in super::super) Key);

impl From<Alias> for String {
    fn from(alias: Alias) -> Self {
        alias.0.text()
    }
}

impl TryFrom<String> for Alias {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Key::parse(&text).map(Self).ok_or("a key has 32 hexadecimal digits")
    }
}

impl Touch {
    /// The bid.
    pub(in super::super) fn bid(&self) -> Cpm {
        Cpm(self.bid_micros)
    }

    /// Whether it is an impression, and not just an offer.
    pub(in super::super) fn is_shown(&self) -> bool {
        self.shown_at.is_some()
    }

    /// When it began.
    fn at(&self) -> i64 {
        self.shown_at.unwrap_or(self.decided_at)
    }

    /// When there is something to do.
    fn due(&self) -> i64 {
        let known_at = self.predicted.as_ref().and_then(|predicted| predicted.known_at);
        [self.learn_at, known_at].into_iter().flatten().fold(self.keep_until, i64::min)
    }
}

/// The touches of a name by their time. Most names have one.
#[derive(Clone, Debug)]
enum Named {
    One(i64, Key),
    Several(BTreeSet<(i64, Key)>),
}

impl Named {
    fn insert(&mut self, at: i64, key: Key) {
        match self {
            Self::One(first, other) => *self = Self::Several([(*first, *other), (at, key)].into()),
            Self::Several(all) => drop(all.insert((at, key))),
        }
    }

    /// Removes a touch. Returns whether none is left.
    fn remove(&mut self, at: i64, key: Key) -> bool {
        match self {
            Self::One(first, other) => (*first, *other) == (at, key),
            Self::Several(all) => {
                all.remove(&(at, key));
                all.is_empty()
            }
        }
    }

    /// The keys, latest first.
    fn latest_first(&self) -> impl Iterator<Item = Key> + '_ {
        let (one, several) = match self {
            Self::One(_, key) => (Some(*key), None),
            Self::Several(all) => (None, Some(all.iter().rev().map(|(_, key)| *key))),
        };
        one.into_iter().chain(several.into_iter().flatten())
    }
}

/// All touches, by key, by name and by when they are due, and what they say of creatives.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Touches {
    all: KeyMap<Touch>,
    /// By name, the touches with their times.
    by_alias: KeyMap<Named>,
    due: BTreeSet<(i64, Key)>,
    gallery: Gallery,
}

impl Touches {
    pub(in super::super) fn get(&self, key: Key) -> Option<&Touch> {
        self.all.get(&key)
    }

    /// Adds a touch, or replaces it.
    pub(in super::super) fn insert(&mut self, key: Key, touch: Touch) {
        self.remove(key);
        self.due.insert((touch.due(), key));
        for Alias(alias) in &touch.aliases {
            name(&mut self.by_alias, *alias, touch.at(), key);
        }
        self.gallery.add(&touch);
        self.all.insert(key, touch);
    }

    /// Changes a touch, if it exists.
    pub(in super::super) fn change(&mut self, key: Key, change: impl FnOnce(&mut Touch)) {
        if let Some(mut touch) = self.remove(key) {
            change(&mut touch);
            self.insert(key, touch);
        }
    }

    /// Adds names to a touch. Returns whether any is new and fits.
    pub(in super::super) fn name(&mut self, key: Key, aliases: &[Key]) -> bool {
        let Some(touch) = self.all.get_mut(&key) else { return false };
        let before = touch.aliases.len();
        for alias in aliases {
            if touch.aliases.len() < ALIASES_MAX && !touch.aliases.contains(&Alias(*alias)) {
                touch.aliases.push(Alias(*alias));
                name(&mut self.by_alias, *alias, touch.at(), key);
            }
        }
        touch.aliases.len() > before
    }

    pub(in super::super) fn remove(&mut self, key: Key) -> Option<Touch> {
        let touch = self.all.remove(&key)?;
        self.due.remove(&(touch.due(), key));
        self.gallery.remove(&touch);
        for Alias(alias) in &touch.aliases {
            if self.by_alias.get_mut(alias).is_some_and(|named| named.remove(touch.at(), key)) {
                self.by_alias.remove(alias);
            }
        }
        Some(touch)
    }

    /// The first touch that is due before `now`. If there are more than `max`, the one that is due first.
    pub(in super::super) fn next_due(&self, now: i64, max: usize) -> Option<Key> {
        let (due, key) = *self.due.first()?;
        (due < now || self.all.len() > max).then_some(key)
    }

    /// The touches with this name, latest first.
    pub(in crate::control) fn named(&self, alias: Key) -> impl Iterator<Item = (Key, &Touch)> {
        let keys = self.by_alias.get(&alias).into_iter().flat_map(Named::latest_first);
        keys.filter_map(|key| Some((key, self.all.get(&key)?)))
    }

    /// The impressions of each creative.
    pub(in super::super) fn gallery(&self) -> &Gallery {
        &self.gallery
    }

    /// The keys of all touches.
    pub(in super::super) fn keys(&self) -> impl Iterator<Item = Key> + '_ {
        self.all.keys().copied()
    }

    pub(in super::super) fn len(&self) -> usize {
        self.all.len()
    }
}

/// Gives a touch a name.
fn name(by_alias: &mut KeyMap<Named>, alias: Key, at: i64, key: Key) {
    match by_alias.entry(alias) {
        Entry::Vacant(vacant) => drop(vacant.insert(Named::One(at, key))),
        Entry::Occupied(mut named) => {
            if !matches!(named.get(), Named::One(first, other) if (*first, *other) == (at, key)) {
                named.get_mut().insert(at, key);
            }
        }
    }
}
