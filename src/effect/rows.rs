//! What is remembered of offers and impressions while an outcome may still belong to them.
//!
//! Owns both tables and when their entries are due. An offer lives until no impression can follow. An impression lives
//! until its labels are known and no outcome can follow: with the default windows 2 days, if it was clicked 31.
//!
//! Limits: [`OFFERS_MAX`] offers and decisions, about 150 bytes each, and [`SHOWN_MAX`] impressions, about 120 bytes
//! each. If there are more, the oldest are forgotten, which is counted.

use super::policy::Choice;
use crate::{
    control::{Key, KeyMap},
    evaluation::Prediction,
    targeting::money::Currency,
};
use std::{collections::BTreeMap, rc::Rc};

/// The most offers and decisions.
pub(super) const OFFERS_MAX: usize = 1_000_000;
/// The most impressions.
pub(super) const SHOWN_MAX: usize = 1_000_000;

/// Entries are due in slots of a second.
const SLOT: i64 = 1_000_000;

/// A campaign in a decision.
#[derive(Debug)]
pub(super) struct Offered {
    /// The groups that it is in.
    pub(super) groups: Box<[u32]>,
    /// The experiments that its user is in.
    pub(super) trials: Box<[u32]>,
    /// The hash of its user.
    pub(super) user: u64,
    pub(super) currency: Currency,
    pub(super) decided_at: i64,
    pub(super) creative: Option<Box<str>>,
    /// The number of its creative in the pictures, if there are any.
    pub(super) charted: Option<u32>,
    /// The number of its campaign in the attribution, if there is one.
    pub(super) channel: Option<u16>,
    /// What was predicted. `None` without a prediction.
    pub(super) predicted: Option<(super::plan::Label, f64)>,
    /// The choice of its creative, if policies are compared, and what it is rewarded for.
    pub(super) choice: Option<(Choice, super::plan::Label)>,
    /// Its names, if labels are told.
    pub(super) named: Option<Rc<Named>>,
}

/// What a label is told with.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Named {
    pub(super) decision_id: String,
    pub(super) campaign_id: String,
    /// What the campaign's probability is about.
    pub(super) label: super::plan::Label,
    /// The probability with which the creative was drawn; 0 without one.
    pub(super) propensity: f64,
}

/// An impression whose label is known, or never will be.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelledImpression {
    /// The hash of its user.
    pub user: u64,
    /// When it was shown, in microseconds since 1970.
    pub shown_at: i64,
    /// Whether the campaign's action followed in time; `None` if the log ends too early to know.
    pub happened: Option<bool>,
    pub(super) named: Rc<Named>,
}

impl LabelledImpression {
    /// Its decision.
    pub fn decision_id(&self) -> &str {
        &self.named.decision_id
    }

    /// Its campaign.
    pub fn campaign_id(&self) -> &str {
        &self.named.campaign_id
    }

    /// The probability with which its creative was drawn; 0 without a creative.
    pub fn propensity(&self) -> f64 {
        self.named.propensity
    }
}

impl Offered {
    /// Its prediction with a label.
    pub(super) fn labelled(probability: f64, label: bool) -> Prediction {
        Prediction { probability, label }
    }
}

/// An impression.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) offered: Rc<Offered>,
    pub(super) at: i64,
    pub(super) is_viewed: bool,
    pub(super) clicked_at: Option<i64>,
    pub(super) converted_at: Option<i64>,
    /// Whether the label is counted: click and conversion.
    pub(super) is_labelled: [bool; 2],
}

/// Entries by when they are due.
#[derive(Debug, Default)]
struct Due(BTreeMap<i64, Vec<Key>>);

impl Due {
    fn add(&mut self, at: i64, key: Key) {
        // Rounded up, so that nothing is due early.
        self.0.entry(at.div_euclid(SLOT) + 1).or_default().push(key);
    }

    /// The next slot that is over before `now`, or the next at all if `is_full`.
    fn pop(&mut self, now: i64, is_full: bool) -> Option<Vec<Key>> {
        let slot = self.0.first_entry()?;
        (is_full || slot.key().saturating_mul(SLOT) < now).then(|| slot.remove())
    }
}

/// Offers and impressions.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// By the key of the offer; a decision itself has an entry without an offer.
    offers: KeyMap<Option<Rc<Offered>>>,
    offers_due: Due,
    shown: KeyMap<Shown>,
    shown_due: Due,
    /// Offers and impressions that were forgotten, because there were too many.
    pub(super) forgotten: u64,
}

impl Rows {
    /// Remembers a decision until this time. Returns false if it is known already.
    pub(super) fn is_new(&mut self, decision: Key, until: i64) -> bool {
        if self.offers.insert(decision, None).is_some() {
            return false;
        }
        self.offers_due.add(until, decision);
        true
    }

    /// Adds an offer.
    pub(super) fn offer(&mut self, key: Key, until: i64, offered: Offered) {
        self.offers.insert(key, Some(Rc::new(offered)));
        self.offers_due.add(until, key);
    }

    /// An offer.
    pub(super) fn offered(&self, key: Key) -> Option<&Rc<Offered>> {
        self.offers.get(&key)?.as_ref()
    }

    /// Adds an impression, which is due at this time.
    pub(super) fn show(&mut self, key: Key, due: i64, shown: Shown) {
        self.shown.insert(key, shown);
        self.shown_due.add(due, key);
    }

    /// An impression.
    pub(super) fn shown(&mut self, key: Key) -> Option<&mut Shown> {
        self.shown.get_mut(&key)
    }

    /// Forgets the offers that are over.
    pub(super) fn forget_offers(&mut self, now: i64) {
        loop {
            let is_full = self.offers.len() > OFFERS_MAX;
            let Some(keys) = self.offers_due.pop(now, is_full) else { return };
            for key in keys {
                let was = self.offers.remove(&key);
                self.forgotten += u64::from(is_full && matches!(was, Some(Some(_))));
            }
        }
    }

    /// Takes out the impressions that are due, each with whether it has to go, because there are too many.
    pub(super) fn due(&mut self, now: i64) -> Vec<(Key, Shown, bool)> {
        let mut all = Vec::new();
        loop {
            let is_full = self.shown.len() > SHOWN_MAX;
            let Some(keys) = self.shown_due.pop(now, is_full) else { return all };
            for key in keys {
                if let Some(shown) = self.shown.remove(&key) {
                    self.forgotten += u64::from(is_full);
                    all.push((key, shown, is_full));
                }
            }
        }
    }

    /// Takes out all impressions.
    pub(super) fn take_shown(&mut self) -> Vec<Shown> {
        self.shown_due = Due::default();
        let mut all: Vec<(Key, Shown)> = std::mem::take(&mut self.shown).into_iter().collect();
        // Sums of floats must not depend on the order of a hash map.
        all.sort_unstable_by_key(|(key, _)| *key);
        all.into_iter().map(|(_, shown)| shown).collect()
    }
}
