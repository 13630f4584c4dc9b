//! Voices: comments, cleaned and counted.
//!
//! Owns the steps of intake: consent, length, personal data, language, near-duplicates, and a bounded sample of what
//! remains. Guarantees: a text is masked before anything else reads it, users are known only by a hash, and each comment
//! is counted under exactly one outcome. What is kept is a uniform sample if there is more than fits. Limits: the bounds
//! in [`Intake`].

mod mask;
mod near;

pub use mask::{PersonalData, mask};

use super::{language::detect, words::words};
use near::Near;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use serde::Serialize;
use std::collections::BTreeMap;

/// A comment as it comes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Comment {
    /// Who wrote it. Without a user, a comment is that of a person who wrote no other.
    pub user: String,
    /// What was written.
    pub text: String,
    /// How many people agreed.
    pub likes: f64,
    /// What it is about.
    pub item: String,
    /// The segments of the user.
    pub segments: Vec<String>,
    /// Whether the user permits this use; absent if nothing is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consent: Option<bool>,
}

/// The bounds of the intake.
#[derive(Clone, Debug)]
pub struct Intake {
    /// The most comments that are kept.
    pub comments_max: usize,
    /// The most characters of a text. Longer ones are counted and left out, because they are pasted pages or attacks.
    pub letters_max: usize,
    /// The similarity from which texts count as the same.
    pub alike: f64,
    /// The seed of the sample.
    pub seed: u64,
}

impl Default for Intake {
    fn default() -> Self {
        Self { comments_max: 200_000, letters_max: 10_000, alike: 0.8, seed: 0 }
    }
}

/// A comment that is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Voice {
    /// The hash of its user.
    pub user: u64,
    /// The masked text.
    pub text: String,
    /// How many people agreed.
    pub likes: f64,
    /// The language, where it could be told.
    pub language: Option<&'static str>,
    /// The segments of its user.
    pub segments: Vec<String>,
}

impl Voice {
    /// How much it counts: 1 + ln(1 + likes). A comment with a thousand likes counts eight times as much as one
    /// without, so no single comment decides.
    pub fn weight(&self) -> f64 {
        1.0 + self.likes.ln_1p()
    }
}

/// What became of the comments.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct VoiceCounts {
    /// All that were read.
    pub read: u64,
    /// Without consent.
    pub no_consent: u64,
    /// Without any word.
    pub empty: u64,
    /// Too long.
    pub too_long: u64,
    /// Like an earlier one.
    pub duplicate: u64,
    /// Good, but left out of the sample.
    pub not_sampled: u64,
    /// Kept.
    pub kept: u64,
    /// Likes below zero or no number, which count as none.
    pub odd_likes: u64,
    /// Masked places by kind.
    pub masked: BTreeMap<PersonalData, u64>,
    /// All good comments by language; `unknown` where it could not be told.
    pub languages: BTreeMap<&'static str, u64>,
}

/// The comments that are kept, and what became of the others.
#[derive(Debug)]
pub struct Voices {
    intake: Intake,
    near: Near,
    random: SmallRng,
    good: u64,
    kept: Vec<Voice>,
    counts: VoiceCounts,
}

impl Voices {
    /// Nothing yet.
    pub fn new(intake: Intake) -> Self {
        let near = Near::new(intake.comments_max.saturating_mul(2), intake.alike);
        let random = SmallRng::seed_from_u64(intake.seed);
        Self { intake, near, random, good: 0, kept: Vec::new(), counts: VoiceCounts::default() }
    }

    /// Takes a comment.
    pub fn add(&mut self, comment: &Comment) {
        self.counts.read += 1;
        if comment.consent == Some(false) {
            self.counts.no_consent += 1;
        } else if comment.text.chars().nth(self.intake.letters_max).is_some() {
            self.counts.too_long += 1;
        } else {
            self.add_text(comment);
        }
    }

    fn add_text(&mut self, comment: &Comment) {
        let masked = &mut self.counts.masked;
        let text = mask(comment.text.trim(), |kind| *masked.entry(kind).or_default() += 1);
        let words = words(&text);
        if words.is_empty() {
            self.counts.empty += 1;
            return;
        }
        if self.near.seen(&words) {
            self.counts.duplicate += 1;
            return;
        }
        let language = detect(&text);
        *self.counts.languages.entry(language.unwrap_or("unknown")).or_default() += 1;
        let is_odd = !(comment.likes >= 0.0 && comment.likes.is_finite());
        self.counts.odd_likes += u64::from(is_odd);
        let likes = if is_odd { 0.0 } else { comment.likes };
        let user = if comment.user.is_empty() {
            crate::random::mix(self.counts.read)
        } else {
            rapidhash::v3::rapidhash_v3(comment.user.as_bytes())
        };
        self.sample(Voice { user, text: text.into_owned(), likes, language, segments: comment.segments.clone() });
    }

    /// Keeps a uniform sample (Vitter's algorithm R, 1985).
    fn sample(&mut self, voice: Voice) {
        self.good += 1;
        if self.kept.len() < self.intake.comments_max {
            self.kept.push(voice);
            self.counts.kept += 1;
            return;
        }
        self.counts.not_sampled += 1;
        let place = self.random.random_range(0..self.good);
        if let Some(other) = usize::try_from(place).ok().and_then(|place| self.kept.get_mut(place)) {
            *other = voice;
        }
    }

    /// What became of the comments so far.
    pub fn counts(&self) -> &VoiceCounts {
        &self.counts
    }

    /// The kept comments, in the order in which they were read unless they are a sample.
    pub fn voices(&self) -> &[Voice] {
        &self.kept
    }

    /// The language of most comments.
    pub fn main_language(&self) -> Option<&'static str> {
        let known = self.counts.languages.iter().filter(|(language, _)| **language != "unknown");
        known.max_by_key(|(_, count)| **count).map(|(language, _)| *language)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comment(user: &str, text: &str, likes: f64) -> Comment {
        Comment { user: user.to_owned(), text: text.to_owned(), likes, ..Comment::default() }
    }

    #[test]
    fn each_comment_has_one_outcome_and_all_add_up() {
        let mut voices = Voices::new(Intake { letters_max: 100, ..Intake::default() });
        for it in [
            comment("a", "The battery lasts the whole day and even longer", 3.0),
            comment("b", "the battery lasts the whole day, and even longer!", 0.0),
            comment("c", " \n\t ", 1.0),
            comment("c", "anna@example.com", 1.0),
            comment("d", &"x".repeat(1 << 20), 1.0),
            comment("e", "Write to me at anna@example.com about the strap", f64::NAN),
            comment("f", "Das Armband ist leider viel zu kurz für mein Handgelenk", -1.0),
            Comment { consent: Some(false), ..comment("g", "The strap is too short for my wrist", 0.0) },
            Comment { consent: Some(true), ..comment("h", "Setup took a minute and then it just worked", 0.0) },
        ] {
            voices.add(&it);
        }
        let counts = voices.counts();
        let all =
            counts.no_consent + counts.empty + counts.too_long + counts.duplicate + counts.not_sampled + counts.kept;
        assert_eq!((counts.read, all), (9, 9), "{counts:?}");
        assert_eq!((counts.no_consent, counts.empty, counts.too_long, counts.duplicate), (1, 2, 1, 1), "{counts:?}");
        assert_eq!((counts.kept, counts.odd_likes), (4, 2));
        assert_eq!(counts.masked[&PersonalData::Email], 2);
        assert_eq!((counts.languages["en"], counts.languages["de"]), (3, 1));
        assert_eq!(voices.main_language(), Some("en"));
        assert!(voices.voices().iter().all(|it| !it.text.contains("anna")), "{:?}", voices.voices());
    }

    #[test]
    fn comments_without_a_user_are_of_different_people() {
        let mut voices = Voices::new(Intake::default());
        for (user, text) in
            [("", "one text here"), ("", "another line there"), ("a", "third of words"), ("a", "fourth by someone")]
        {
            voices.add(&comment(user, text, 0.0));
        }
        let users: Vec<u64> = voices.voices().iter().map(|it| it.user).collect();
        assert!(users[0] != users[1] && users[2] == users[3], "{users:?}");
    }

    #[test]
    fn likes_count_by_their_logarithm() {
        let weight = |likes| {
            let mut voices = Voices::new(Intake::default());
            voices.add(&comment("a", "a text of words", likes));
            voices.voices()[0].weight()
        };
        assert_eq!(weight(0.0), 1.0);
        assert!((weight(1_000.0) - 7.909).abs() < 0.001);
        assert_eq!(weight(f64::INFINITY), 1.0);
    }

    #[test]
    fn what_does_not_fit_is_a_uniform_sample_by_seed() {
        let sample = |seed| {
            let mut voices = Voices::new(Intake { comments_max: 100, seed, ..Intake::default() });
            for number in 0..1_000_u64 {
                let letter = |place: u64| char::from(b'a' + (crate::random::mix(number * 40 + place) % 26) as u8);
                let text: String = (0..40).map(letter).collect();
                voices.add(&comment(&number.to_string(), &text, number as f64));
            }
            assert_eq!((voices.counts().kept, voices.counts().not_sampled), (100, 900));
            voices.voices().iter().map(|it| it.likes as u64).collect::<Vec<_>>()
        };
        assert_eq!(sample(1), sample(1));
        assert_ne!(sample(1), sample(2));
        let late = sample(1).into_iter().filter(|number| *number >= 500).count();
        assert!((35..=65).contains(&late), "{late} of 100 are from the second half");
    }
}
