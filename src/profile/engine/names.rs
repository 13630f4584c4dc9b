//! The two names of a user while the key of pseudonyms changes, and which of them the profile has.
//!
//! An event brings both names. Until the user has moved, the profile has the former one, and so may the note of an erasure, or a
//! choice that outlived a profile: what stands under either name counts. Moving itself is up to the caller, after the decisions
//! about earlier rows.
//!
//! If there are profiles under both names, because the key went back and forth, the one under the present name stays.

use super::{NEVER, ProfileEngine, admission::words_of};
use crate::{
    event::EventBatch,
    privacy::consent::RememberedConsent,
    profile::{
        consent::KeptConsent,
        layout::{FIRST, NEWEST},
    },
    state::Store,
};

/// A user: the hash of the key, and the key.
type User<'a> = (u64, &'a [u8]);

/// The names of a row's user.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names<'a> {
    /// The one that names the user in decisions, and as a witness of the partition's time.
    pub(super) own: User<'a>,
    /// The one by the other key, while users move.
    pub(super) other: Option<User<'a>>,
    /// The one that the profile has, or will have.
    pub(super) profile: User<'a>,
}

impl<'a> Names<'a> {
    #[inline]
    pub(super) fn of(batch: &'a EventBatch, row: usize, store: &Store) -> Self {
        let (own, other) = (batch.user(row), batch.other(row));
        let profile = match other {
            None => own,
            Some(other) => Self::held(own, other, batch.positions[row].offset, store),
        };
        Self { own, other, profile }
    }

    #[cold]
    fn held(own: User<'a>, other: User<'a>, offset: i64, store: &Store) -> User<'a> {
        let is_other = if store.is_named_before(offset) {
            // A replay of what the user did under the former name. The profile may have moved since, and then includes it.
            store.covers(other, offset)
        } else {
            !store.holds(own) && store.holds(other)
        };
        if is_other { other } else { own }
    }

    /// The name for the note of an erasure.
    pub(super) fn noted(&self) -> User<'a> {
        // In a replay, the note has moved with the profile.
        self.profile
    }
}

/// What was found of a row's user under the former name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meeting {
    /// Whether there was a profile that had not expired, so that readers know the user by that name, and no earlier row of the
    /// batch has met it.
    pub was_alive: bool,
    /// Whether the profile was from before an erasure that stands under the other name, and so was emptied.
    pub is_stale: bool,
}

impl ProfileEngine {
    /// What was found of a row's user under the former name.
    pub fn meeting(&self, row: usize) -> Meeting {
        self.outcomes.meetings.get(row).copied().unwrap_or_default()
    }

    /// Looks at what a row's user has under the former name, before the row is applied.
    #[cold]
    pub(super) fn meet(&mut self, batch: &EventBatch, row: usize, names: &Names<'_>, store: &mut Store) {
        self.outcomes.meetings.resize(row, Meeting::default());
        let (offset, time) = (batch.positions[row].offset, batch.times[row].0);
        let Some(former) = names.other.filter(|_| !store.is_named_before(offset)) else { return };
        let now = store.clock().time().map_or(time, |it| it.max(time));
        let is_alive = store.get(former.0, former.1).is_some_and(|words| !self.is_gone(words[NEWEST], now));
        // The profile still has the former name at the next row of the batch.
        let was_alive = is_alive && self.outcomes.met.insert((batch.positions[row].partition, former.0));
        if store.holds(former) {
            store.touch(former, offset);
            store.touch(names.profile, offset);
        }
        let is_stale = !store.erasures().is_empty() && self.is_from_before_erasure(names, store) && {
            store.touch(names.profile, offset);
            // What the user refused outlives the profile.
            let (at, kept) = (self.erased_at(names, store), self.kept_choice(names, time, store));
            let is_emptied = self.empty(names.profile, offset, store);
            if let (true, Some(at), Some(kept)) = (is_emptied, at, kept) {
                store.erasures_mut().note(names.profile.0, names.profile.1, at, Some(&kept));
            }
            is_emptied
        };
        self.outcomes.meetings.push(Meeting { was_alive, is_stale });
    }

    /// Whether the profile began before an erasure. That of a user with one name never did.
    fn is_from_before_erasure(&self, names: &Names<'_>, store: &Store) -> bool {
        let began = store.get(names.profile.0, names.profile.1).map(|words| words[FIRST] as i64);
        began.zip(self.erased_at(names, store)).is_some_and(|(began, at)| began != NEVER && began <= at)
    }

    /// The choice of a user that counts, under whichever name it stands: by part the newer one.
    pub(super) fn choice_of(&self, names: &Names<'_>, oldest: i64, store: &Store) -> Option<RememberedConsent> {
        let one = |(hash, user): User<'_>| {
            let chosen = store.get(hash, user).map(|words| self.chosen(&words));
            self.choice(chosen, oldest, hash, user, store)
        };
        match (one(names.own), names.other.and_then(one)) {
            (Some(own), Some(other)) => Some(own.merge(other)),
            (own, other) => own.or(other),
        }
    }

    /// One choice of two, in words: by part the newer one.
    pub fn merge_choices(&self, one: &[u64], other: &[u64]) -> Vec<u64> {
        let read = |words: &[u64]| words.try_into().map(RememberedConsent::read).unwrap_or_default();
        words_of(&read(one).merge(read(other)))
    }

    /// Takes over the choice in the profile that the user had under the former name, as far as it is newer.
    pub fn take_choice(&self, words: &mut [u64], former: &[u64]) {
        if self.consent.is_none() {
            return;
        }
        let ((_, chosen), (_, former)) = (self.chosen(words), self.chosen(former));
        let at = self.kept.consent.start;
        KeptConsent::write_remembered(&chosen.merge(former), &mut words[at..at + RememberedConsent::WORDS]);
    }
}
