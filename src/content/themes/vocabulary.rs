//! The words that can describe a theme.
//!
//! Guarantees: every word was used by three people or more, so that no word names a single person; stop words, and words
//! in more than half of all texts, are left out. Limits: the 20,000 most frequent words.

use crate::content::{
    voices::Voice,
    words::{is_content, stop_words, words},
};
use std::collections::HashMap;

/// The people that must have used a word.
pub const USERS_MIN: usize = 3;
const WORDS_MAX: usize = 20_000;
/// Small sets are not thinned: in 20 texts on one subject its name may be in most.
const FREQUENT_MIN: usize = 20;

/// The words of a set of texts.
#[derive(Debug, Default)]
pub(super) struct Vocabulary {
    words: Vec<String>,
    documents: Vec<u32>,
    texts: usize,
}

/// Who used a word, as far as it matters.
#[derive(Default)]
struct Use {
    documents: u32,
    users: [u64; USERS_MIN],
    users_count: usize,
}

impl Use {
    fn add(&mut self, user: u64) {
        self.documents += 1;
        if self.users_count < USERS_MIN && !self.users[..self.users_count].contains(&user) {
            self.users[self.users_count] = user;
            self.users_count += 1;
        }
    }
}

impl Vocabulary {
    /// The vocabulary, and each text as indices of its words.
    pub(super) fn of(voices: &[&Voice], language: &str) -> (Self, Vec<Vec<u32>>) {
        let stops = stop_words(language);
        let mut uses = HashMap::<String, Use>::new();
        for voice in voices {
            let mut all = words(&voice.text);
            all.sort_unstable();
            all.dedup();
            for word in all.into_iter().filter(|word| is_content(word, &stops)) {
                uses.entry(word).or_default().add(voice.user);
            }
        }
        let frequent = (voices.len() / 2).max(FREQUENT_MIN) as u32;
        let mut kept: Vec<_> =
            uses.into_iter().filter(|(_, it)| it.users_count == USERS_MIN && it.documents <= frequent).collect();
        kept.sort_unstable_by(|(a, of_a), (b, of_b)| of_b.documents.cmp(&of_a.documents).then_with(|| a.cmp(b)));
        kept.truncate(WORDS_MAX);
        let index: HashMap<&str, u32> =
            kept.iter().enumerate().map(|(at, (word, _))| (word.as_str(), at as u32)).collect();
        let find =
            |voice: &&Voice| words(&voice.text).iter().filter_map(|word| index.get(word.as_str()).copied()).collect();
        let texts = voices.iter().map(find).collect();
        let documents = kept.iter().map(|(_, it)| it.documents).collect();
        let words = kept.into_iter().map(|(word, _)| word).collect();
        (Self { words, documents, texts: voices.len() }, texts)
    }

    pub(super) fn len(&self) -> usize {
        self.words.len()
    }

    pub(super) fn word(&self, index: u32) -> &str {
        &self.words[index as usize]
    }

    /// ln(1 + N / df).
    pub(super) fn rarity(&self, index: u32) -> f32 {
        (1.0 + self.texts as f32 / self.documents[index as usize] as f32).ln()
    }
}
