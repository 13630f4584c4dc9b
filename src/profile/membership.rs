//! A membership in a segment as kept in a profile: its start and its end, in two words of a cell over all events.
//!
//! Owns the words and their names. `targeting` decides who is in a segment. A membership that has ended is two zero
//! words. At rest, adjacent zero words take one byte together.

use crate::{event::EventTime, hex};
use sha2::{Digest, Sha256};

/// A user's membership in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The time of the event at which the user entered.
    pub entered_at: EventTime,
    /// When it ends, unless an event moves the end.
    pub expires_at: EventTime,
}

impl Membership {
    /// The number of words of a membership.
    pub const WORDS: usize = 2;

    /// The longest time between an event and the end of a membership that it starts or extends: 540 days, in
    /// microseconds.
    pub const LONGEST: i64 = 540 * 86_400 * 1_000_000;

    /// The membership in these words, if the user is in.
    pub fn read(words: &[u64]) -> Option<Self> {
        let [entered_at, expires_at] = [0, 1].map(|at| EventTime(words[at] as i64));
        (expires_at.0 != 0).then_some(Self { entered_at, expires_at })
    }

    /// Writes the membership, or zeros for none.
    pub fn write(membership: Option<Self>, words: &mut [u64]) {
        let [entered_at, expires_at] = membership.map_or([0, 0], |it| [it.entered_at.0, it.expires_at.0]);
        (words[0], words[1]) = (entered_at as u64, expires_at as u64);
    }

    /// Whether words from outside can be a membership in a profile whose newest event has this time.
    pub(super) fn fits(words: &[u64], newest: i64) -> bool {
        let [entered_at, expires_at] = [words[0] as i64, words[1] as i64];
        let is_none = entered_at == 0 && expires_at == 0;
        let is_one = (0..=newest).contains(&entered_at)
            && expires_at > entered_at
            && expires_at <= newest.saturating_add(Self::LONGEST);
        is_none || is_one
    }

    /// The earliest end of several memberships.
    pub fn earliest(words: &[u64]) -> Option<EventTime> {
        words.chunks_exact(Self::WORDS).filter_map(Self::read).map(|it| it.expires_at).min()
    }
}

/// The name of the cell that keeps a membership. It depends only on the segment's id and taxonomy, so that memberships
/// survive a changed rule. It is part of a layout's id, so it must never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MembershipName([u8; 8]);

impl MembershipName {
    /// The name for the segment with this id.
    pub fn of(segtax: u32, id: &str) -> Self {
        let digest = Sha256::digest(format!("{segtax}:{id}"));
        Self(*digest.first_chunk().expect("it has 32 bytes"))
    }

    /// The name as hexadecimal digits.
    pub(super) fn text(self) -> String {
        hex::encode(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_membership_comes_back_and_the_first_to_end_is_found() {
        let mut words = [0; 6];
        assert_eq!((Membership::read(&words), Membership::earliest(&words)), (None, None));
        let one = Membership { entered_at: EventTime(5), expires_at: EventTime(90) };
        let other = Membership { entered_at: EventTime(0), expires_at: EventTime(70) };
        Membership::write(Some(one), &mut words[..2]);
        Membership::write(Some(other), &mut words[4..]);
        assert_eq!(Membership::read(&words[..2]), Some(one));
        assert_eq!(Membership::earliest(&words), Some(EventTime(70)));
        Membership::write(None, &mut words[4..]);
        assert_eq!(words, [5, 90, 0, 0, 0, 0]);
    }

    #[test]
    fn the_name_is_of_the_id_and_its_taxonomy_and_never_changes() {
        assert_eq!(MembershipName::of(0, "buyer").text(), MembershipName::of(0, "buyer").text());
        assert_ne!(MembershipName::of(0, "buyer"), MembershipName::of(4, "buyer"));
        assert_eq!(MembershipName::of(4, "687").text(), "085bcbea287755a8");
    }
}
