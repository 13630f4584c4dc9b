//! The template writer: frames around facts. No model, the default, and the baseline for models.
//!
//! Guarantees: it says only what a fact says, and each fact once for each part, those that share a word with the theme
//! first. The same brief and
//! seed give the same drafts. Limits: frames exist in English and German; in other languages a text is a fact and no more.

use super::{Ask, Draft, Objection, WriteError, Writer, Written};
use crate::content::{
    brief::{Fact, Part, Tone},
    gates::seen_length,
    words::words,
};
use std::collections::HashSet;

/// Frames: `$` stands for the fact, `#` for the first word of the theme.
type Frames = &'static [&'static str];

/// The frames of a language, tone and part.
fn frames(language: &str, tone: Tone, part: Part) -> Frames {
    match (language, tone, part) {
        ("en", Tone::Plain, Part::Headline) => &["$", "#: $", "Now: $"],
        ("en", Tone::Warm, Part::Headline) => &["$", "For you: $", "Your #: $"],
        ("en", Tone::Bold, Part::Headline) => &["$", "$. Go.", "#. $"],
        ("en", Tone::Plain, Part::LongHeadline) => &["$", "On #: $"],
        ("en", Tone::Warm, Part::LongHeadline) => &["We listened: $", "You care about #. $"],
        ("en", Tone::Bold, Part::LongHeadline) => &["$. Period.", "#, settled. $"],
        ("en", Tone::Plain, Part::Description) => &["$.", "What to know about #: $."],
        ("en", Tone::Warm, Part::Description) => &["Thinking about #? $.", "$. See how it feels."],
        ("en", Tone::Bold, Part::Description) => &["$. Try it.", "Talk about #: $."],
        ("de", Tone::Plain, Part::Headline) => &["$", "#: $", "Jetzt: $"],
        ("de", Tone::Warm, Part::Headline) => &["$", "Für dich: $", "Zum Thema #: $"],
        ("de", Tone::Bold, Part::Headline) => &["$", "$. Los.", "#. $"],
        ("de", Tone::Plain, Part::LongHeadline) => &["$", "Zum Thema #: $"],
        ("de", Tone::Warm, Part::LongHeadline) => &["Wir haben zugehört: $", "Dir ist # wichtig. $"],
        ("de", Tone::Bold, Part::LongHeadline) => &["$. Punkt.", "#, geklärt. $"],
        ("de", Tone::Plain, Part::Description) => &["$.", "Gut zu wissen über #: $."],
        ("de", Tone::Warm, Part::Description) => &["Eine Frage zu #? $.", "$. Probier es aus."],
        ("de", Tone::Bold, Part::Description) => &["$. Probier es.", "Reden wir über #: $."],
        (_, _, Part::Description) => &["$."],
        _ => &["$"],
    }
}

/// Writes frames around facts.
#[derive(Debug, Default)]
pub struct TemplateWriter {
    /// The facts that are stated, by part: the same fact in another frame would be a copy.
    used: HashSet<(Part, String)>,
}

impl TemplateWriter {
    /// A text with the next fact that no text of this part states, in the first frame that fits.
    fn next(&mut self, ask: &Ask<'_>, part: Part) -> Option<Draft> {
        let mut facts: Vec<_> = ask.brief.facts_of(ask.theme).collect();
        let turn = (ask.seed % facts.len().max(1) as u64) as usize;
        facts.rotate_left(turn);
        // Those that answer the theme come first.
        let answers = |fact: &Fact| words(&fact.text).iter().any(|word| ask.theme.words.contains(word));
        facts.sort_by_key(|fact| !answers(fact));
        let word = ask.theme.words.first().map_or("", String::as_str);
        let frames = frames(&ask.brief.language, ask.brief.tone, part);
        for fact in facts {
            if self.used.contains(&(part, fact.id.clone())) {
                continue;
            }
            let own = if part == Part::Headline { fact.short.as_ref().unwrap_or(&fact.text) } else { &fact.text };
            // Each text begins with another frame.
            let turn = (self.used.len() + ask.seed as usize) % frames.len();
            let turned = frames[turn..].iter().chain(&frames[..turn]);
            // A fact about something else must not be named after the theme.
            let turned = turned.filter(|frame| answers(fact) || !frame.contains('#'));
            let mut texts = turned.map(|frame| fill(frame, own, word, &ask.brief.language));
            let Some(text) = texts.find(|text| seen_length(text) <= ask.brief.limits.of(part)) else {
                continue;
            };
            self.used.insert((part, fact.id.clone()));
            return Some(Draft { part, text, theme: ask.theme.id.clone(), facts: vec![fact.id.clone()] });
        }
        None
    }
}

impl Writer for TemplateWriter {
    fn name(&self) -> String {
        "template".to_owned()
    }

    fn write(&mut self, ask: &Ask<'_>) -> Result<Written, WriteError> {
        let mut drafts = Vec::new();
        for part in Part::ALL {
            drafts.extend((0..ask.count).map_while(|_| self.next(ask, part)));
        }
        Ok(Written { drafts, prompt: "template".to_owned() })
    }

    fn repair(&mut self, ask: &Ask<'_>, draft: &Draft, _: &[Objection]) -> Result<Option<Draft>, WriteError> {
        Ok(self.next(ask, draft.part))
    }
}

/// Fills a frame. The word begins with a capital at the start, and always in German, where it is a noun most often.
fn fill(frame: &str, fact: &str, word: &str, language: &str) -> String {
    let capital = |text: &str| {
        let mut letters = text.chars();
        letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
    };
    let word = if language == "de" { capital(word) } else { word.to_owned() };
    capital(&frame.replace('#', &word).replace('$', fact))
}
