//! Gates: what a text must pass before people see it.
//!
//! Owns every check of a draft, each with a reason that says what to change. Guarantees: a draft passes only if no gate
//! has an objection; the gates know nothing of who wrote it. Limits: blocked and sensitive words, and claims, are lists
//! for English and German. They find what they list: people still decide.

mod claims;
mod length;

pub use length::seen_length;

use super::{
    brief::{Brief, Part},
    language::{detect, has_other_script},
    quotes::Quotes,
    voices::{PersonalData, mask},
    words::{grams, words},
    writing::Draft,
};
use crate::terminal::moves_a_terminal;
use regex::Regex;
use serde::Serialize;
use std::{collections::HashSet, sync::LazyLock};

/// The checks, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// Empty, too long, or with characters that are not shown.
    Length,
    /// A placeholder was left.
    Placeholder,
    /// A link outside the allowed domains.
    Link,
    /// Personal data.
    PersonalData,
    /// A word that nobody may use, or that the brief avoids.
    Blocked,
    /// Speaks of a sensitive trait of the reader.
    Sensitive,
    /// A claim or number that no fact brings.
    Claim,
    /// Another language.
    Language,
    /// Near to a comment.
    CommentCopy,
    /// Near to another text.
    CreativeCopy,
    /// Hard to read, or shouting.
    Readability,
}

impl Gate {
    /// All gates.
    pub const ALL: [Self; 11] = [
        Self::Length,
        Self::Placeholder,
        Self::Link,
        Self::PersonalData,
        Self::Blocked,
        Self::Sensitive,
        Self::Claim,
        Self::Language,
        Self::CommentCopy,
        Self::CreativeCopy,
        Self::Readability,
    ];

    /// Its name in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Length => "length",
            Self::Placeholder => "placeholder",
            Self::Link => "link",
            Self::PersonalData => "personal_data",
            Self::Blocked => "blocked",
            Self::Sensitive => "sensitive",
            Self::Claim => "claim",
            Self::Language => "language",
            Self::CommentCopy => "comment_copy",
            Self::CreativeCopy => "creative_copy",
            Self::Readability => "readability",
        }
    }
}

/// An objection to a draft.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Objection {
    /// The gate.
    pub gate: Gate,
    /// What is wrong and what to do.
    pub reason: String,
}

/// Insults and the like. Not a list of all of them: it stops what a writer must never produce.
const BLOCKED: [&str; 24] = [
    "damn",
    "shit",
    "fuck",
    "fucking",
    "crap",
    "bitch",
    "idiot",
    "idiots",
    "stupid",
    "moron",
    "kill",
    "die",
    "nazi",
    "porn",
    "scheiße",
    "scheiß",
    "arsch",
    "arschloch",
    "idioten",
    "dumm",
    "hure",
    "fotze",
    "wichser",
    "töten",
];

/// Words about traits that ads must not attribute to the reader, by category.
const SENSITIVE: [(&str, &[&str]); 7] = [
    (
        "health",
        &[
            "diabetes",
            "diabetic",
            "cancer",
            "depression",
            "depressed",
            "anxiety",
            "obese",
            "overweight",
            "hiv",
            "pregnant",
            "infertility",
            "disability",
            "krebs",
            "depressionen",
            "übergewicht",
            "schwanger",
            "behinderung",
            "diabetiker",
        ],
    ),
    (
        "religion",
        &[
            "christian",
            "christians",
            "muslim",
            "muslims",
            "jewish",
            "jews",
            "hindu",
            "buddhist",
            "church",
            "mosque",
            "christen",
            "muslime",
            "juden",
            "kirche",
            "moschee",
        ],
    ),
    ("politics", &["republican", "republicans", "democrat", "democrats", "communist", "fascist", "afd", "cdu", "spd"]),
    ("sexuality", &["gay", "lesbian", "bisexual", "transgender", "homosexual", "schwul", "lesbisch"]),
    ("origin", &["immigrant", "immigrants", "refugee", "refugees", "ethnic", "migranten", "flüchtlinge"]),
    ("money trouble", &["bankrupt", "bankruptcy", "debt", "debts", "unemployed", "schulden", "arbeitslos", "pleite"]),
    ("crime", &["convict", "felon", "criminal", "vorbestraft", "kriminell"]),
];

/// From this share of pairs of words in another text on, a text is a copy of it.
const COPY_SHARE: f64 = 0.6;
/// The readability index LIX (Björnsson, 1968) of newspapers is about 45, and of research papers above 60.
const LIX_MAX: f64 = 60.0;
const LIX_WORDS_MIN: usize = 8;
const WORD_LETTERS_MAX: usize = 24;
/// Texts of fewer words are not judged by language, only by script.
const LANGUAGE_WORDS_MIN: usize = 5;

static PLACEHOLDER: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)\{[^}]*\}?|\[[^\]]*\]|<[^>]*>|‹[^›]*›|%[sd]\b|\$\w+\$|\blorem ipsum\b|\btodo\b|\btbd\b|\bxxx+\b|\bplaceholder\b|_{3,}|\.{4,}").expect("the pattern is tested")
});
static LINK: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)(?:https?://|www\.)([\w.-]+)|\b((?:[a-z0-9-]+\.)+(?:com|net|org|info|biz|shop|store|app|dev|io|eu|de|at|ch|fr|es|it|nl|uk|us|xyz|online|site|example))\b").expect("the pattern is tested")
});

/// The gates of a brief, with the texts that already passed.
#[derive(Debug)]
pub struct Gates<'a> {
    brief: &'a Brief,
    quotes: Option<&'a Quotes>,
    passed: Vec<(Part, Vec<String>)>,
}

impl<'a> Gates<'a> {
    /// The gates of a brief. Without `quotes`, near copies of comments are not recognised.
    pub fn new(brief: &'a Brief, quotes: Option<&'a Quotes>) -> Self {
        Self { brief, quotes, passed: Vec::new() }
    }

    /// All objections to a draft.
    pub fn check(&self, draft: &Draft) -> Vec<Objection> {
        let all = [
            (Gate::Length, self.length(draft)),
            (Gate::Placeholder, placeholder(&draft.text)),
            (Gate::Link, self.link(&draft.text)),
            (Gate::PersonalData, personal_data(&draft.text)),
            (Gate::Blocked, self.blocked(&draft.text)),
            (Gate::Sensitive, sensitive(&draft.text)),
            (Gate::Claim, self.claim(&draft.text)),
            (Gate::Language, self.language(&draft.text)),
            (Gate::CommentCopy, self.comment_copy(&draft.text)),
            (Gate::CreativeCopy, self.creative_copy(draft)),
            (Gate::Readability, readability(&draft.text)),
        ];
        all.into_iter().filter_map(|(gate, reason)| reason.map(|reason| Objection { gate, reason })).collect()
    }

    /// Remembers a text that passed, so that no other one copies it.
    pub fn pass(&mut self, draft: &Draft) {
        self.passed.push((draft.part, words(&draft.text)));
    }

    fn length(&self, draft: &Draft) -> Option<String> {
        let (length, most) = (seen_length(&draft.text), self.brief.limits.of(draft.part));
        if draft.text.trim().is_empty() {
            return Some("the text is empty; write one".to_owned());
        }
        if draft.text.chars().any(moves_a_terminal) {
            return Some(
                "the text has a character that is not shown; write it on one line, with letters and signs only"
                    .to_owned(),
            );
        }
        let part = draft.part.as_str();
        (length > most).then(|| {
            format!("a {part} has at most {most} characters and this one {length}; shorten it by {}", length - most)
        })
    }

    fn link(&self, text: &str) -> Option<String> {
        let is_allowed = |host: &str| {
            let host = host.to_lowercase();
            self.brief.domains.iter().any(|domain| host == *domain || host.ends_with(&format!(".{domain}")))
        };
        let hosts = LINK.captures_iter(text).filter_map(|found| found.get(1).or(found.get(2)));
        let wrong = hosts.map(|it| it.as_str().trim_end_matches('.')).find(|host| !is_allowed(host))?;
        Some(format!("{wrong:?} is not among the allowed domains; leave it out"))
    }

    fn blocked(&self, text: &str) -> Option<String> {
        let own = words(text);
        let has = |word: &str| {
            let run = words(word);
            !run.is_empty() && own.windows(run.len()).any(|it| it == run)
        };
        let avoided = self.brief.avoid.iter().map(String::as_str);
        // In German, it is an article.
        let blocked = BLOCKED.into_iter().filter(|word| *word != "die" || self.brief.language != "de");
        let word = blocked.chain(avoided).find(|word| has(word))?;
        Some(format!("the word {word:?} must not appear; say it without"))
    }

    fn claim(&self, text: &str) -> Option<String> {
        let claim = claims::unproven(&LINK.replace_all(text, " "), &self.brief.facts, &self.brief.proof)?;
        Some(format!("no fact of the brief says {claim:?}; leave it out, or say what a fact says"))
    }

    fn language(&self, text: &str) -> Option<String> {
        let wanted = &self.brief.language;
        if has_other_script(text, wanted) {
            return Some(format!("the text is not in the script of the language {wanted}; write it in {wanted}"));
        }
        if words(text).len() < LANGUAGE_WORDS_MIN {
            return None;
        }
        let found = detect(text).filter(|found| found != wanted)?;
        Some(format!("the text is in the language {found}; write it in {wanted}"))
    }

    fn comment_copy(&self, text: &str) -> Option<String> {
        let is_quote = self.quotes.is_some_and(|quotes| quotes.has(text));
        is_quote.then(|| "the text repeats a comment; say it in other words".to_owned())
    }

    fn creative_copy(&self, draft: &Draft) -> Option<String> {
        let own = words(&draft.text);
        let pairs: HashSet<u64> = grams(&own, 2).collect();
        let is_copy = |other: &[String]| {
            let theirs: HashSet<u64> = grams(other, 2).collect();
            let shared = pairs.intersection(&theirs).count() as f64;
            own == *other || !pairs.is_empty() && shared / pairs.len().min(theirs.len()).max(1) as f64 >= COPY_SHARE
        };
        let of_part = self.passed.iter().filter(|(part, _)| *part == draft.part);
        let (_, other) = of_part.into_iter().find(|(_, other)| is_copy(other))?;
        Some(format!("the text is nearly {:?}, which is there already; say something else", other.join(" ")))
    }
}

/// Links have a gate of their own.
fn personal_data(text: &str) -> Option<String> {
    let mut first = None;
    mask(text, |kind| {
        if kind != PersonalData::Link {
            first.get_or_insert(kind);
        }
    });
    Some(format!("the text has personal data ({}); leave them out", first?.word()))
}

fn placeholder(text: &str) -> Option<String> {
    let found = PLACEHOLDER.find(text)?;
    Some(format!("{:?} looks like a placeholder; fill it in", found.as_str()))
}

fn sensitive(text: &str) -> Option<String> {
    let own = words(text);
    let (category, _) = SENSITIVE.iter().find(|(_, list)| own.iter().any(|word| list.contains(&word.as_str())))?;
    Some(format!("the text touches {category}, a trait that ads must not address; leave it out"))
}

fn readability(text: &str) -> Option<String> {
    let letters = |word: &str| word.chars().filter(|it| it.is_alphabetic()).count();
    let all: Vec<&str> = text.split_whitespace().collect();
    if text.matches('!').count() > 1 || text.contains("??") {
        return Some("more than one exclamation mark shouts; end sentences with a full stop".to_owned());
    }
    let is_shouted = |word: &&&str| letters(word) > 4 && word.chars().all(|it| !it.is_lowercase());
    if all.iter().filter(is_shouted).count() > 1 {
        return Some("words in capitals shout; write them in small letters".to_owned());
    }
    if let Some(long) = all.iter().flat_map(|it| it.split('-')).find(|word| letters(word) > WORD_LETTERS_MAX) {
        return Some(format!("the word {long:?} is too long to read in passing; use shorter words"));
    }
    let sentences = text.matches(['.', ':', '!', '?', ';']).count().max(1);
    let long = all.iter().filter(|word| letters(word) > 6).count();
    let lix = all.len() as f64 / sentences as f64 + 100.0 * long as f64 / all.len().max(1) as f64;
    (all.len() >= LIX_WORDS_MIN && lix > LIX_MAX)
        .then(|| format!("the text is hard to read (LIX {lix:.0}, at most {LIX_MAX}); use shorter words and sentences"))
}

#[cfg(test)]
mod tests;
