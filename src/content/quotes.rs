//! What people said, as hashes, so that nothing of it is repeated.
//!
//! Owns the runs of five words of comments, and short comments as a whole. Guarantees: a text that shares five words in
//! a row with a comment is found, as long as [`Quotes::is_full`] is false. Limits: 8 million runs, 64 MB.

use super::words::{grams, words};
use std::collections::HashSet;

/// The words in a row that make a quote.
pub const WORDS: usize = 5;
/// Comments of fewer words are too common to be a quote.
const SHORT_MIN: usize = 3;
const GRAMS_MAX: usize = 8_000_000;

/// The runs of words of comments.
#[derive(Clone, Debug, Default)]
pub struct Quotes {
    grams: HashSet<u64>,
    is_full: bool,
}

impl Quotes {
    /// Adds a comment.
    pub fn add(&mut self, text: &str) {
        let words = words(text);
        if self.grams.len() + words.len() > GRAMS_MAX {
            self.is_full = true;
        } else if words.len() >= WORDS {
            self.grams.extend(grams(&words, WORDS));
        } else if words.len() >= SHORT_MIN {
            self.grams.extend(grams(&words, words.len()));
        }
    }

    /// Whether a text shares five words in a row with a comment, or is a comment.
    pub fn has(&self, text: &str) -> bool {
        let words = words(text);
        let length = if (SHORT_MIN..WORDS).contains(&words.len()) { words.len() } else { WORDS };
        words.len() >= SHORT_MIN && grams(&words, length).any(|gram| self.grams.contains(&gram))
    }

    /// Whether comments were left out because the bound was reached.
    pub fn is_full(&self) -> bool {
        self.is_full
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_words_in_a_row_are_a_quote_and_four_are_none() {
        let mut quotes = Quotes::default();
        quotes.add("The battery lasts the whole day, really");
        quotes.add("Best watch ever!");
        for (text, is_quote) in [
            ("now the battery LASTS the whole time", true),
            ("now the battery lasts the entire day", false),
            ("Best watch ever", true),
            ("The best watch ever made", false),
            ("watch", false),
            ("", false),
        ] {
            assert_eq!(quotes.has(text), is_quote, "{text}");
        }
        assert!(!quotes.is_full());
    }
}
