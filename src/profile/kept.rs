//! Where a profile keeps what decisions need of it: the last cells over all events.

use super::{consent::KeptConsent, membership::Membership, said::Said};
use crate::privacy::consent::Basis;
use std::ops::Range;

/// The places of these words.
#[derive(Clone, Debug, Default)]
pub(super) struct KeptWords {
    /// Of the memberships: contiguous, in the order of their names.
    pub(super) memberships: Range<usize>,
    /// Of what was said. Empty if profiles do not keep it.
    pub(super) said: Range<usize>,
    /// Of the consent. Empty if consent is not checked.
    pub(super) consent: Range<usize>,
}

impl KeptWords {
    /// The last ones before `end`: of so many memberships, of what was said with so many prices, and of the consent.
    pub(super) fn before(end: usize, memberships: usize, said: Option<u8>, keeps_consent: bool) -> Self {
        let memberships = end - memberships * Membership::WORDS..end;
        let end = memberships.start;
        let said = end - said.map_or(0, |prices| Said::WORDS + usize::from(prices))..end;
        let end = said.start;
        Self { consent: end - if keeps_consent { KeptConsent::WORDS } else { 0 }..end, memberships, said }
    }

    /// The same behind so many other words.
    pub(super) fn behind(&self, words: usize) -> Self {
        let behind = |range: &Range<usize>| words + range.start..words + range.end;
        Self { memberships: behind(&self.memberships), said: behind(&self.said), consent: behind(&self.consent) }
    }

    /// Where the words of the last verdict are.
    pub(super) fn basis(&self) -> Range<usize> {
        self.consent.end.saturating_sub(Basis::WORDS).max(self.consent.start)..self.consent.end
    }
}
