//! What a theme is called, and what people say about it.
//!
//! Owns label words by class-based TF-IDF (Grootendorst, BERTopic, 2022): the share of a word in the theme's words times
//! ln(1 + A / f), with A words per theme and f uses in all themes. Guarantees: words are those of the vocabulary, so
//! several people used each. Points are sentences of ours around such words; a point that would still share five words
//! in a row with a comment is shortened, then left out.

use super::vocabulary::{USERS_MIN, Vocabulary};
use crate::content::quotes::Quotes;
use std::collections::HashMap;

/// The words of a label, and those in a point.
const LABEL_WORDS: usize = 8;
const POINT_WORDS: usize = 3;

/// Weighted uses of words in a theme.
#[derive(Debug, Default)]
pub(super) struct Uses {
    counts: HashMap<u32, f64>,
    total: f64,
    /// By sentiment: praise and complaints, with the number of comments that used the word so.
    praise: HashMap<u32, usize>,
    complaints: HashMap<u32, usize>,
}

impl Uses {
    pub(super) fn add(&mut self, words: &[u32], weight: f64, sentiment: f64) {
        for &word in words {
            *self.counts.entry(word).or_default() += weight;
            self.total += weight;
        }
        let side = match sentiment {
            it if it > 0.0 => &mut self.praise,
            it if it < 0.0 => &mut self.complaints,
            _ => return,
        };
        let mut once = words.to_vec();
        once.sort_unstable();
        once.dedup();
        for word in once {
            *side.entry(word).or_default() += 1;
        }
    }
}

/// The words of every theme, the most telling first.
pub(super) fn label_words(themes: &[Uses]) -> Vec<Vec<u32>> {
    let mut all = HashMap::<u32, f64>::new();
    for (word, count) in themes.iter().flat_map(|theme| &theme.counts) {
        *all.entry(*word).or_default() += count;
    }
    let average = themes.iter().map(|theme| theme.total).sum::<f64>() / themes.len().max(1) as f64;
    let of_theme = |theme: &Uses| {
        let score =
            |(word, count): (&u32, &f64)| (*word, count / theme.total.max(1.0) * (1.0 + average / all[word]).ln());
        let mut scored: Vec<(u32, f64)> = theme.counts.iter().map(score).collect();
        scored.sort_by(|(a, of_a), (b, of_b)| of_b.total_cmp(of_a).then(a.cmp(b)));
        scored.into_iter().take(LABEL_WORDS).map(|(word, _)| word).collect()
    };
    themes.iter().map(of_theme).collect()
}

/// Up to three sentences about a theme, in English.
pub(super) fn points(uses: &Uses, label: &[u32], vocabulary: &Vocabulary, quotes: &Quotes) -> Vec<String> {
    let side = |own: &HashMap<u32, usize>, other: &HashMap<u32, usize>| -> Vec<u32> {
        let lead = |word: &u32| own[word] as i64 - other.get(word).copied().unwrap_or_default() as i64;
        let mut words: Vec<u32> = own.keys().copied().filter(|word| own[word] >= USERS_MIN && lead(word) > 0).collect();
        words.sort_by_key(|word| (-lead(word), *word));
        words
    };
    let praised = side(&uses.praise, &uses.complaints);
    let criticised = side(&uses.complaints, &uses.praise);
    [("Much talked about", label), ("Mostly praised with", &praised), ("Mostly criticised with", &criticised)]
        .into_iter()
        .filter_map(|(frame, words)| point(frame, words, vocabulary, quotes))
        .collect()
}

/// A sentence with as many of the words as make no quote.
fn point(frame: &str, words: &[u32], vocabulary: &Vocabulary, quotes: &Quotes) -> Option<String> {
    (1..=words.len().min(POINT_WORDS)).rev().find_map(|count| {
        let words: Vec<&str> = words[..count].iter().map(|&word| vocabulary.word(word)).collect();
        let text = format!("{frame}: {}.", words.join(", "));
        (!quotes.has(&text)).then_some(text)
    })
}

/// The words of a label, in an order and number that make no quote.
pub(super) fn unquoted(label: &[u32], vocabulary: &Vocabulary, quotes: &Quotes) -> Vec<String> {
    let mut words: Vec<String> = label.iter().map(|&word| vocabulary.word(word).to_owned()).collect();
    if quotes.has(&words.join(" ")) {
        words.sort_unstable();
    }
    if quotes.has(&words.join(" ")) {
        words.truncate(2);
    }
    words
}
