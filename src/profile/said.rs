//! What readers were last told about a user, as kept in a profile: the words of a cell over all events.
//!
//! Owns the words. `decision` decides what is worth telling. If it is not known what readers were told, all words are
//! 0. At rest, they then take one byte together.

use super::membership::Membership;
use crate::event::EventTime;

const CONTENT: usize = 0;
const AT: usize = 1;
const UNTIL: usize = 2;

/// What readers were last told about a user, in the words of a profile. Prices follow the other words.
#[derive(Debug)]
pub struct Said<'a>(&'a mut [u64]);

impl<'a> Said<'a> {
    /// The number of words besides prices.
    pub const WORDS: usize = 3;

    /// The state in these words of a profile.
    pub fn new(words: &'a mut [u64]) -> Self {
        debug_assert!(words.len() >= Self::WORDS, "a layout without this cell");
        Self(words)
    }

    /// Whether it is known what readers were told.
    pub fn is_known(&self) -> bool {
        self.0[CONTENT] != 0
    }

    /// The hash of what they were told.
    pub fn content(&self) -> u64 {
        self.0[CONTENT]
    }

    /// When they were told.
    pub fn at(&self) -> EventTime {
        EventTime(self.0[AT] as i64)
    }

    /// How long they can use it.
    pub fn until(&self) -> EventTime {
        EventTime(self.0[UNTIL] as i64)
    }

    /// The prices that they were told; 0 after the last one.
    pub fn prices(&self) -> impl Iterator<Item = i64> + '_ {
        self.0[Self::WORDS..].iter().map(|word| *word as i64)
    }

    /// Notes what they are told: a hash other than 0, the times, and prices. Prices beyond the room are left out.
    pub fn set(&mut self, content: u64, at: EventTime, until: EventTime, prices: impl Iterator<Item = i64>) {
        debug_assert_ne!(content, 0, "0 is for what is not known");
        (self.0[CONTENT], self.0[AT], self.0[UNTIL]) = (content, at.0 as u64, until.0 as u64);
        let prices = prices.map(|price| price as u64).chain(std::iter::repeat(0));
        self.0[Self::WORDS..].iter_mut().zip(prices).for_each(|(word, price)| *word = price);
    }

    /// Notes that it is not known what they were told.
    pub fn forget(&mut self) {
        self.0.fill(0);
    }

    /// Whether words from outside can be this in a profile whose newest event has this time.
    pub(super) fn fits(words: &[u64], newest: i64) -> bool {
        let (at, until) = (words[AT] as i64, words[UNTIL] as i64);
        let is_none = words.iter().all(|word| *word == 0);
        // Readers are also told when a membership ends, which can be after the newest event.
        let is_some = words[CONTENT] != 0
            && (0..=newest.saturating_add(Membership::LONGEST)).contains(&at)
            && until >= 0
            && words[Self::WORDS..].iter().all(|price| *price as i64 >= 0);
        is_none || is_some
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_comes_back_and_can_be_forgotten() {
        let mut words = [0; 5];
        let mut said = Said::new(&mut words);
        assert!(!said.is_known());
        said.set(7, EventTime(40), EventTime(90), [3, 4, 5].into_iter());
        assert_eq!((said.is_known(), said.content(), said.at().0, said.until().0), (true, 7, 40, 90));
        assert_eq!(said.prices().collect::<Vec<_>>(), [3, 4], "there is room for two");
        said.set(8, EventTime(41), EventTime(90), [6].into_iter());
        assert_eq!(said.prices().collect::<Vec<_>>(), [6, 0], "the second is gone");
        assert!(Said::fits(&words, 41));
        Said::new(&mut words).forget();
        assert_eq!(words, [0; 5]);
    }
}
