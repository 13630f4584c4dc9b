//! Erases users: drops their profiles at the request, and leaves out events from before it.
//!
//! The profile goes in two steps, because the decisions about earlier rows of the batch are made after all rows are
//! applied, and still need its memberships and what readers were told. [`ProfileEngine::process`] empties the rest at the
//! request's place, so that later rows begin anew; [`ProfileEngine::finish_erasure`] takes what decisions have left.
//!
//! What the user chose about consent is not forgotten: it stays with the note of the erasure, without the user's id, and
//! counts as soon as the user comes back.

use super::{Applied, Names, ProfileEngine, admission::words_of};
use crate::{
    canary::{self, Canary},
    columns::{Slot, Type},
    config_error::ConfigError,
    event::EventBatch,
    expression::Scope,
    privacy::erasure::ErasureSpec,
    profile::{cell::NEVER, compile::CompiledFeatures, layout::NEWEST, window::micros},
    state::Store,
};

/// The compiled `[erasure]`.
#[derive(Debug, Default)]
pub(super) struct Erasing {
    keep: i64,
    /// Whether an event asks to erase its user.
    rule: Option<Slot>,
    /// The rows of the batch that do, ascending.
    rows: Vec<usize>,
    /// How many of them have been applied.
    applied: usize,
}

impl Erasing {
    /// `erasure.keep` in microseconds.
    pub(super) fn keep(&self) -> i64 {
        self.keep
    }

    /// Compiles `[erasure]`. Errors are added under `erasure`.
    pub(super) fn compile(
        spec: Option<&ErasureSpec>,
        compiled: &mut CompiledFeatures,
        scope: &mut Scope,
        errors: &mut Vec<ConfigError>,
    ) -> Self {
        let keep = micros(spec.map_or_else(|| ErasureSpec::default().keep, |spec| spec.keep));
        let source = spec.and_then(|spec| spec.filter.as_deref());
        let rule = source.and_then(|source| {
            let added = compiled.before.add(scope, source, Some(Type::Bool));
            added.map_err(|error| errors.push(error.config_error("erasure.where"))).ok()
        });
        Self { keep, rule, ..Self::default() }
    }

    /// Finds the rows of a batch that ask to erase their user.
    pub(super) fn find(&mut self, batch: &EventBatch) {
        self.rows.clear();
        self.applied = 0;
        self.rows.extend_from_slice(&batch.erasures);
        if let Some(rule) = self.rule {
            let found = batch.columns.get(rule).bools().iter().take(batch.len()).enumerate();
            self.rows.extend(found.filter(|(_, holds)| holds.holds()).map(|(row, _)| row));
            self.rows.sort_unstable();
            self.rows.dedup();
        }
    }

    /// Whether the next row asks to erase its user. To be called for each row in order.
    #[inline]
    pub(super) fn is_next(&mut self, row: usize) -> bool {
        let is_it = self.rows.get(self.applied) == Some(&row);
        self.applied += usize::from(is_it);
        is_it
    }
}

impl ProfileEngine {
    /// Applies a row that asks to erase its user.
    #[cold]
    pub(super) fn erase(&mut self, batch: &EventBatch, row: usize, names: &Names<'_>, store: &mut Store) -> Applied {
        if let Some(consent) = &mut self.consent {
            consent.pass_over();
        }
        let time = batch.times[row].0;
        let kept = self.kept_choice(names, time, store);
        let is_ahead = !self.empty(names.profile, batch.positions[row].offset, store);
        store.erasures_mut().note(names.noted().0, names.noted().1, time, kept.as_deref());
        if is_ahead { Applied::Covered } else { Applied::Erasure }
    }

    /// Empties the profile of a user who is erased by the record at `offset`, except for what decisions still need. Returns false
    /// if it is one from after the record.
    pub(super) fn empty(&mut self, (hash, user): (u64, &[u8]), offset: i64, store: &mut Store) -> bool {
        let ends = [self.kept.basis(), self.kept.said.clone(), self.kept.memberships.clone()];
        let Self { fresh, buffers, .. } = self;
        let found = store.erase(hash, user, offset);
        let is_ahead = found.is_none();
        if let Some(words) = found.flatten() {
            buffers.ends.clear();
            for range in &ends {
                buffers.ends.extend_from_slice(&words[range.clone()]);
            }
            words.clear();
            words.extend_from_slice(fresh);
            let mut rest = buffers.ends.as_slice();
            for range in ends {
                let (part, others) = rest.split_at(range.len());
                words[range].copy_from_slice(part);
                rest = others;
            }
        }
        !is_ahead
    }

    /// What is kept of the choice of a user who is erased: all of it that counts.
    pub(super) fn kept_choice(&self, names: &Names<'_>, time: i64, store: &Store) -> Option<Vec<u64>> {
        self.consent.as_ref()?;
        let oldest = store.clock().time().unwrap_or(time).saturating_sub(self.limits.ttl);
        let choice = self.choice_of(names, oldest, store);
        Some(choice.filter(|_| !canary::is_in(Canary::OptOutErased)).map_or_else(Vec::new, |choice| words_of(&choice)))
    }

    /// When a user was erased, under whichever name.
    pub(super) fn erased_at(&self, names: &Names<'_>, store: &Store) -> Option<i64> {
        let at = |(hash, user): (u64, &[u8])| store.erased_at(hash, user, self.erasing.keep);
        at(names.own).max(names.other.and_then(at))
    }

    /// Whether a row is from before its user's erasure, or from the same moment.
    #[cold]
    pub(super) fn is_erased(&mut self, batch: &EventBatch, row: usize, names: &Names<'_>, store: &mut Store) -> bool {
        let (hash, time) = (names.own.0, batch.times[row].0);
        let erased_at = self.erased_at(names, store);
        if erased_at.is_none_or(|at| time > at) || canary::is_in(Canary::EventBeforeErasureCounted) {
            return false;
        }
        // A replay must find the partition's time as it was, and then the erasure was not known yet.
        store.note_time(hash, batch.positions[row].offset, time.min(batch.logged_at[row].0));
        if let Some(consent) = &mut self.consent {
            consent.pass_over();
        }
        true
    }

    /// Takes the rest of an erased user from the profile, once the earlier rows are decided: memberships, whose indexes
    /// are passed to `ended`, and what readers were told. Returns whether the profile has nothing else, so that it has to
    /// be removed.
    pub fn finish_erasure(&self, words: &mut [u64], ended: impl FnMut(usize)) -> bool {
        self.held_memberships(words).for_each(ended);
        let is_new = words[NEWEST] as i64 != NEVER;
        words[self.kept.memberships.clone()].fill(0);
        words[self.kept.said.clone()].fill(0);
        if !is_new {
            words[self.kept.basis()].fill(0);
        }
        !is_new
    }

    /// Removes notes of erasures that are older than `erasure.keep`, now and then.
    pub(super) fn sweep_erasures(&self, store: &mut Store) {
        store.sweep_erasures(self.erasing.keep);
    }
}
