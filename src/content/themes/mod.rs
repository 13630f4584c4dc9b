//! Themes: what comments are about.
//!
//! Owns vectors of texts, their clusters, the words and points of each, and how much each segment speaks about them.
//! Guarantees: the same comments, options and seed give the same themes. No theme contains a word that fewer than three
//! people used, nor five words in a row of a comment. Limits: themes are found in one language. Texts of which no word is
//! frequent enough belong to no theme and are counted.

mod cluster;
mod labels;
mod quality;
mod segments;
mod sentiment;
mod vectors;
mod vocabulary;

pub use quality::{adjusted_rand_index, self_bleu};
pub use segments::SegmentShare;
pub use sentiment::sentiment;
pub use vectors::{EmbedError, Embedder, Quantised, Vectors};
pub use vocabulary::USERS_MIN;

use super::{quotes::Quotes, voices::Voice};
use labels::Uses;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use vocabulary::Vocabulary;

/// The themes that are tried by default.
pub const THEMES_MAX: usize = 12;
/// A theme has at least this many comments on average; with fewer texts, fewer themes are tried.
const SIZE_MIN: usize = 8;

/// How themes are found.
#[derive(Clone, Debug)]
pub struct ThemeOptions {
    /// The language of the comments; those of other languages are left out.
    pub language: String,
    /// The number of themes; by silhouette if absent.
    pub count: Option<usize>,
    /// The seed.
    pub seed: u64,
}

/// What comments are about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Theme {
    /// Its id, by size: `t1` is the largest.
    pub id: String,
    /// The words that tell it from others.
    pub words: Vec<String>,
    /// Up to three sentences about it, none of them a quote.
    pub points: Vec<String>,
    /// Its comments.
    pub size: u64,
    /// The people who wrote them.
    pub users: u64,
    /// Their mean likes.
    pub likes_mean: f64,
    /// Their mean sentiment by weight, -1 to 1.
    pub sentiment: f64,
    /// How much each segment speaks about it.
    pub segments: Vec<SegmentShare>,
}

/// All themes of a language.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ThemeReport {
    /// The language.
    pub language: String,
    /// What the texts were compared by.
    pub embedding: String,
    /// The seed.
    pub seed: u64,
    /// The comments in the language, with those whose language could not be told.
    pub comments: u64,
    /// Those in no theme.
    pub without_theme: u64,
    /// The comments in other languages.
    pub other_languages: u64,
    /// The numbers of themes that were tried, with the silhouette of each.
    pub tried: Vec<(usize, f64)>,
    /// The themes, the largest first.
    pub themes: Vec<Theme>,
}

/// The themes, and the theme of each voice as an index.
#[derive(Clone, Debug)]
pub struct Found {
    /// The themes.
    pub report: ThemeReport,
    /// For each voice its theme.
    pub labels: Vec<Option<usize>>,
}

/// Finds themes. Without an embedder, texts are compared as bags of words.
///
/// # Errors
/// The embedder fails.
pub fn find(
    voices: &[Voice],
    options: &ThemeOptions,
    embedder: Option<&mut dyn Embedder>,
) -> Result<Found, EmbedError> {
    let is_here = |voice: &Voice| voice.language.is_none_or(|it| it == options.language);
    let places: Vec<usize> = (0..voices.len()).filter(|&place| is_here(&voices[place])).collect();
    let here: Vec<&Voice> = places.iter().map(|&place| &voices[place]).collect();
    let (vocabulary, texts) = Vocabulary::of(&here, &options.language);
    let (embedding, vectors) = match embedder {
        Some(embedder) => {
            let all: Vec<&str> = here.iter().map(|voice| voice.text.as_str()).collect();
            let mut vectors = embedder.embed(&all)?;
            vectors.normalize();
            (embedder.name(), vectors)
        }
        None => ("bag of words".to_owned(), vectors::bag_of_words(&vocabulary, &texts)),
    };
    let weights: Vec<f32> = here.iter().map(|voice| voice.weight() as f32).collect();
    let most = (here.len() / SIZE_MIN).min(THEMES_MAX);
    let ks: Vec<usize> = options.count.map_or_else(|| (2..=most).collect(), |count| vec![count]);
    let (labels, tried) = cluster::find(&vectors, &weights, &ks, options.seed);
    let (labels, order) = by_size(&labels);
    let themes = describe(&here, &texts, &labels, order, &vocabulary, options);
    let report = ThemeReport {
        language: options.language.clone(),
        embedding,
        seed: options.seed,
        comments: here.len() as u64,
        without_theme: labels.iter().filter(|label| label.is_none()).count() as u64,
        other_languages: (voices.len() - here.len()) as u64,
        tried,
        themes,
    };
    let mut all = vec![None; voices.len()];
    places.iter().zip(labels).for_each(|(&place, label)| all[place] = label);
    Ok(Found { report, labels: all })
}

/// Numbers the clusters by size, and says how many there are.
fn by_size(labels: &[Option<usize>]) -> (Vec<Option<usize>>, usize) {
    let mut sizes = BTreeMap::<usize, usize>::new();
    labels.iter().flatten().for_each(|label| *sizes.entry(*label).or_default() += 1);
    let mut order: Vec<(usize, usize)> = sizes.into_iter().collect();
    order.sort_by_key(|(label, size)| (std::cmp::Reverse(*size), *label));
    let place = |label: usize| order.iter().position(|(it, _)| *it == label);
    (labels.iter().map(|label| label.and_then(place)).collect(), order.len())
}

/// Words, points and figures of each theme.
fn describe(
    voices: &[&Voice],
    texts: &[Vec<u32>],
    labels: &[Option<usize>],
    count: usize,
    vocabulary: &Vocabulary,
    options: &ThemeOptions,
) -> Vec<Theme> {
    let mut quotes = Quotes::default();
    for voice in voices {
        quotes.add(&voice.text);
    }
    let mut uses: Vec<Uses> = (0..count).map(|_| Uses::default()).collect();
    let mut sums = vec![Sums::default(); count];
    let mut totals = BTreeMap::<&str, u64>::new();
    for ((voice, words), label) in voices.iter().zip(texts).zip(labels) {
        let Some(label) = *label else { continue };
        let sentiment = sentiment(&voice.text, &options.language);
        uses[label].add(words, voice.weight(), sentiment);
        sums[label].add(voice, sentiment);
        voice.segments.iter().for_each(|it| *totals.entry(it).or_default() += 1);
    }
    let all: u64 = sums.iter().map(|it| it.size).sum();
    let label_words = labels::label_words(&uses);
    let theme = |(index, sums): (usize, &Sums<'_>)| Theme {
        id: format!("t{}", index + 1),
        words: labels::unquoted(&label_words[index], vocabulary, &quotes),
        points: labels::points(&uses[index], &label_words[index], vocabulary, &quotes),
        size: sums.size,
        users: sums.users.len() as u64,
        likes_mean: sums.likes / sums.size.max(1) as f64,
        sentiment: sums.sentiment / sums.weight.max(1.0),
        segments: totals
            .iter()
            .map(|(segment, total)| {
                let count = sums.segments.get(segment).copied().unwrap_or_default();
                segments::share(segment, (count, *total), (sums.size, all))
            })
            .collect(),
    };
    sums.iter().enumerate().map(theme).collect()
}

/// The figures of a theme.
#[derive(Clone, Debug, Default)]
struct Sums<'a> {
    size: u64,
    users: HashSet<u64>,
    likes: f64,
    weight: f64,
    sentiment: f64,
    segments: BTreeMap<&'a str, u64>,
}

impl<'a> Sums<'a> {
    fn add(&mut self, voice: &'a Voice, sentiment: f64) {
        self.size += 1;
        self.users.insert(voice.user);
        self.likes += voice.likes;
        self.weight += voice.weight();
        self.sentiment += voice.weight() * sentiment;
        voice.segments.iter().for_each(|it| *self.segments.entry(it).or_default() += 1);
    }
}

#[cfg(test)]
mod tests;
