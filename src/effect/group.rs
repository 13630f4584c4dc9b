//! A group of decisions: what became of them, added up.
//!
//! Owns the counts, the money by currency, and the sketch of predictions with known labels. Guarantees: adding in any
//! order gives the same counts and sketch. Limits: about 1 kB, and up to 190 kB for the sketch (6 bits), of which
//! usual scores take a quarter.

use super::{EffectError, plan::Label};
use crate::{
    evaluation::{
        Prediction,
        business::{Counts, Overflow},
        sketch::{Sketch, SketchError},
    },
    targeting::money::Currency,
};
use std::collections::{BTreeMap, BTreeSet};

/// The fineness of sketches: 64 cells for each factor of two of the score.
const BITS: u8 = 6;

/// Impressions whose label is known, and what it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Known {
    /// Impressions of which the outcome is known.
    pub(super) of: u64,
    /// Those that succeeded.
    pub(super) successes: u64,
    /// Impressions that are too young.
    pub(super) immature: u64,
}

/// The sums of a group.
#[derive(Clone, Debug)]
pub(super) struct Group {
    /// Its name.
    pub(super) name: String,
    /// Decisions.
    pub(super) decisions: u64,
    /// Some of their users: as many as have to be shown together.
    users: BTreeSet<u64>,
    /// Campaigns in them.
    pub(super) offers: u64,
    /// Impressions that could be seen.
    pub(super) viewable: u64,
    /// What happened, by the currency of the campaign.
    pub(super) money: BTreeMap<Currency, Counts>,
    /// Impressions, and whether they were clicked.
    pub(super) clicks: Known,
    /// Clicked impressions, and whether a conversion followed.
    pub(super) conversions: Known,
    /// Impressions with a prediction whose label is not known yet.
    pub(super) labels_immature: u64,
    /// Impressions of campaigns that predict nothing, or whose prediction is missing.
    pub(super) unpredicted: u64,
    /// The predictions with their labels.
    pub(super) sketch: Sketch,
}

impl Known {
    /// Counts an impression. `None`: it is too young.
    pub(super) fn note(&mut self, is_success: Option<bool>) {
        match is_success {
            None => self.immature += 1,
            Some(is_success) => {
                self.of += 1;
                self.successes += u64::from(is_success);
            }
        }
    }

    /// Adds those of another group.
    pub(super) fn add(&mut self, other: &Self) {
        self.of += other.of;
        self.successes += other.successes;
        self.immature += other.immature;
    }
}

impl Group {
    /// An empty group.
    ///
    /// # Errors
    ///
    /// Never: the bits are within the sketch's range.
    pub(super) fn new(name: String) -> Result<Self, SketchError> {
        Ok(Self {
            name,
            decisions: 0,
            users: BTreeSet::new(),
            offers: 0,
            viewable: 0,
            money: BTreeMap::new(),
            clicks: Known::default(),
            conversions: Known::default(),
            labels_immature: 0,
            unpredicted: 0,
            sketch: Sketch::new(BITS)?,
        })
    }

    /// Adds what happened.
    ///
    /// # Errors
    ///
    /// If a sum does not fit.
    pub(super) fn count(&mut self, currency: Currency, more: &Counts) -> Result<(), Overflow> {
        self.money.entry(currency).or_default().merge(more)
    }

    /// Notes the user of a decision, until there are `most`.
    pub(super) fn see(&mut self, user: u64, most: u64) {
        if !self.has_users(most) {
            self.users.insert(user);
        }
    }

    /// Whether it has so many users.
    pub(super) fn has_users(&self, users: u64) -> bool {
        self.users.len() as u64 >= users
    }

    /// Adds another group, and of its users as many as make `most`.
    ///
    /// # Errors
    ///
    /// If a sum does not fit.
    pub(super) fn merge(&mut self, other: &Self, most: u64) -> Result<(), EffectError> {
        self.decisions += other.decisions;
        other.users.iter().for_each(|user| self.see(*user, most));
        self.offers += other.offers;
        self.viewable += other.viewable;
        for (currency, counts) in &other.money {
            self.count(*currency, counts)?;
        }
        self.clicks.add(&other.clicks);
        self.conversions.add(&other.conversions);
        self.labels_immature += other.labels_immature;
        self.unpredicted += other.unpredicted;
        Ok(self.sketch.merge(&other.sketch)?)
    }

    /// Adds a prediction whose label is known.
    ///
    /// # Errors
    ///
    /// If the probability is not between 0 and 1, or the sketch is full.
    pub(super) fn predict(&mut self, prediction: Prediction) -> Result<(), SketchError> {
        self.sketch.add(prediction)
    }

    /// Adds an impression whose label is known, or which is too young.
    pub(super) fn label(&mut self, label: Label, is_success: Option<bool>) {
        match label {
            Label::Click => self.clicks.note(is_success),
            Label::Conversion => self.conversions.note(is_success),
        }
    }
}
