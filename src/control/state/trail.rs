//! What became of each outcome, for whoever measures more than control does.
//!
//! Owns the trail: one entry for each outcome that was settled, in this order. It is off unless it is asked for, is no
//! part of what is written, and grows until it is taken.

use super::{Disposition, Effects, State};
use crate::{
    control::{
        join::{Lookup, shown_key},
        key::Key,
        outcome::{Outcome, OutcomeType},
    },
    targeting::money::Micros,
};

/// An outcome that was settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The outcome.
    pub outcome: Outcome,
    /// What became of it.
    pub disposition: Disposition,
    /// What was spent.
    pub cost: Micros,
    /// The offer ([`offer_key`](crate::control::offer_key)) or the impression that it belongs to, or that it would
    /// belong to if it were within the window.
    pub touch: Option<Key>,
    /// The impression that it has made, by which later outcomes name it.
    pub shown: Option<Key>,
}

impl State {
    /// Notes from now on what becomes of each outcome.
    pub fn keep_trail(&mut self) {
        self.settlements.trail.get_or_insert_default();
    }

    /// Notes no changed record from now on: [`State::dirty`] is empty, so nobody can restore this state.
    pub fn forget_changes(&mut self) {
        self.dirty.turn_off();
    }

    /// The outcomes that were settled since the last call. Outcomes that were refused before that are not among them:
    /// doubles, and those beyond the dedupe horizon.
    pub fn take_trail(&mut self) -> Vec<Settled> {
        self.settlements.trail.as_mut().map(std::mem::take).unwrap_or_default()
    }

    pub(super) fn note(&mut self, outcome: &Outcome, found: Lookup, effects: &Effects) {
        let Some(trail) = &mut self.settlements.trail else { return };
        let touch = match found {
            Lookup::Found(key) | Lookup::Outside(key) => Some(key),
            Lookup::Unknown => None,
        };
        let is_shown = outcome.kind == OutcomeType::Impression && effects.disposition == Disposition::Joined;
        trail.push(Settled {
            outcome: outcome.clone(),
            disposition: effects.disposition,
            cost: effects.cost,
            touch,
            shown: touch.filter(|_| is_shown).map(|offer| shown_key(offer, outcome)),
        });
    }
}
