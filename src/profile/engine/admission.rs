//! Asks the consent gate before a row changes a profile, and keeps what the user chose.

use super::{Applied, NEVER, Names, ProfileEngine};
use crate::{
    canary::{self, Canary},
    event::EventBatch,
    privacy::consent::{Activity, RememberedConsent, Verdict},
    profile::{
        consent::{Judged, KeptConsent},
        layout::{FIRST, NEWEST},
    },
    state::Store,
};
use std::ops::Range;

impl ProfileEngine {
    /// Where the words of [`KeptConsent`] are in a profile. Empty if consent is not checked.
    pub fn consent(&self) -> Range<usize> {
        self.kept.consent.clone()
    }

    /// The verdict on a row of the last batch. `None` if consent is not checked.
    pub fn verdict(&self, row: usize) -> Option<Verdict> {
        self.consent.as_ref().map(|consent| consent.verdict(row))
    }

    /// Whether consent is checked.
    pub fn checks_consent(&self) -> bool {
        self.consent.is_some()
    }

    /// Whether a model may be run for a row of the last batch. A score that must not be emitted is not computed.
    pub fn may_score(&self, row: usize) -> bool {
        let needed = [Activity::Score, Activity::Emit];
        self.verdict(row).is_none_or(|verdict| needed.iter().all(|it| verdict.permissions.allows(*it)))
    }

    /// Whether a row of the last batch may be exported for training.
    pub fn may_train(&self, row: usize) -> bool {
        self.verdict(row).is_none_or(|verdict| verdict.permissions.allows(Activity::Train))
    }

    /// Keeps the verdict on a row of the last batch in its user's profile, once the earlier rows are decided. If the row
    /// withdraws the permission to write, it ends the memberships, whose indexes are passed to `ended`, and forgets what
    /// readers were told.
    pub fn keep_verdict(&self, row: usize, words: &mut [u64], mut ended: impl FnMut(usize)) {
        let Some(consent) = &self.consent else { return };
        let (verdict, is_late) = (consent.verdict(row), consent.is_late(row));
        if self.outcomes.applied[row] == Applied::Withheld && !canary::is_in(Canary::WithdrawalKeepsProfile) {
            self.held_memberships(words).for_each(&mut ended);
            words[self.kept.memberships.clone()].fill(0);
            words[self.kept.said.clone()].fill(0);
        }
        let last = &mut words[self.kept.basis()];
        // A late event must not give back what a newer one has refused.
        let gives_back =
            is_late && KeptConsent::read_basis(last).is_some_and(|it| !verdict.permissions.is_within(it.permissions()));
        if !gives_back {
            KeptConsent::write_basis(&verdict.basis, last);
        }
    }

    /// Whether [`Self::keep_verdict`] would change nothing for a row of the last batch.
    pub fn keeps_verdict(&self, row: usize) -> bool {
        self.outcomes.applied[row] == Applied::Counted
            && self.consent.as_ref().is_none_or(|consent| consent.is_kept(row))
    }

    /// Whether a row of the last batch has changed its user's profile, be it only what is kept of consent.
    pub fn has_written(&self, row: usize) -> bool {
        match self.outcomes.applied[row] {
            Applied::Counted => true,
            Applied::Withheld => self.consent.as_ref().is_some_and(|consent| consent.is_withdrawal(row)),
            Applied::Duplicate | Applied::TooLate | Applied::Covered | Applied::Erasure | Applied::Erased => false,
        }
    }

    /// Decides on a row, from what its user's profile keeps. `None` if consent is not checked.
    pub(super) fn judge(
        &mut self,
        batch: &EventBatch,
        row: usize,
        names: &Names<'_>,
        store: &mut Store,
    ) -> Option<Judged> {
        self.consent.as_ref()?;
        let time = batch.times[row].0;
        let (hash, user) = names.profile;
        // An expired profile counts as none, whether or not it has been swept.
        let oldest = store.clock().time().map_or(time, |it| it.max(time)).saturating_sub(self.limits.ttl);
        let chosen = store.words(hash, user).map(|words| self.chosen(words));
        let newest = chosen.map(|(newest, _)| newest).filter(|newest| *newest >= oldest).unwrap_or(NEVER);
        let kept = if names.other.is_none() {
            self.choice(chosen, oldest, hash, user, store)
        } else {
            self.choice_of(names, oldest, store)
        };
        let kept = kept.filter(|_| !canary::is_in(Canary::ConsentForgotten)).unwrap_or_default();
        Some(self.consent.as_mut()?.judge(batch, row, kept, newest))
    }

    /// The time of a profile's newest event, and what it remembers of its user's choice.
    pub(super) fn chosen(&self, words: &[u64]) -> (i64, RememberedConsent) {
        (words[NEWEST] as i64, KeptConsent::read(&words[self.kept.consent.clone()]).remembered)
    }

    /// The choice of a user that counts, if the profile has this one and this newest event. The profile has expired if its newest event is older than `oldest`.
    /// Of an expired profile, a choice that refuses something counts for `erasure.keep`; after the profile has been dropped,
    /// it stands beside the profiles, as does the choice of an erased user.
    pub(super) fn choice(
        &self,
        chosen: Option<(i64, RememberedConsent)>,
        oldest: i64,
        hash: u64,
        user: &[u8],
        store: &Store,
    ) -> Option<RememberedConsent> {
        if let Some((newest, chosen)) = chosen.filter(|(_, chosen)| !chosen.is_empty()) {
            let counts = newest >= oldest
                || chosen.refuses()
                    && store.is_within(newest, self.erasing.keep())
                    && !canary::is_in(Canary::OptOutExpired);
            return counts.then_some(chosen);
        }
        if store.erasures().is_empty() {
            return None;
        }
        let kept = store.kept(hash, user, self.erasing.keep())?.try_into().ok()?;
        RememberedConsent::fits(kept).then(|| RememberedConsent::read(kept))
    }

    /// What outlives an expired profile of its user's choice: all of it if it refuses something, no words if it does not, and
    /// `None` without any.
    pub(super) fn outliving_choice(&self, words: &[u64]) -> Option<Vec<u64>> {
        let (_, chosen) = self.chosen(words);
        let outlives = chosen.refuses() && !canary::is_in(Canary::OptOutExpired);
        (!chosen.is_empty()).then(|| if outlives { words_of(&chosen) } else { Vec::new() })
    }
}

/// A choice in words.
pub(super) fn words_of(choice: &RememberedConsent) -> Vec<u64> {
    let mut words = [0; RememberedConsent::WORDS];
    choice.write(&mut words);
    words.to_vec()
}

/// Remembers what the user chose. Returns whether the row may change the rest of the profile. If it may not, because the
/// user has withdrawn the permission to write, the rest is dropped, except for what decisions change: that is up to
/// [`ProfileEngine::keep_verdict`], after the decisions of earlier rows.
pub(super) fn remember(judged: &Judged, words: &mut Vec<u64>, fresh: &[u64], decided: Range<usize>, time: i64) -> bool {
    let remembered = decided.start - RememberedConsent::WORDS..decided.start;
    if judged.may_write() || canary::is_in(Canary::WithdrawalKeepsProfile) {
        KeptConsent::write_remembered(&judged.remembered, &mut words[remembered]);
        return judged.may_write();
    }
    words.truncate(fresh.len());
    words[..decided.start].copy_from_slice(&fresh[..decided.start]);
    KeptConsent::write_remembered(&judged.remembered, &mut words[remembered]);
    // When the user chose, and nothing about other events.
    (words[NEWEST], words[FIRST]) = (time as u64, time as u64);
    false
}
