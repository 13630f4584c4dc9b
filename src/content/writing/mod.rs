//! Writing: drafts for a brief, by whoever writes them, through the gates.
//!
//! Owns the trait of a writer, the template writer, the protocol of OpenAI-compatible servers, and the order of steps:
//! write, check, repair once with the reasons, check again, keep or drop. Guarantees: every draft that a writer returned
//! is counted once, as passed, repaired or dropped by its first gate. A writer sees the brief and nothing else, so
//! nothing in a comment can reach it except words that several people used. What was written before a writer failed is
//! kept. Limits: drafts beyond what was asked for are left out.

mod chat;
mod template;

pub use chat::{ChatSettings, ChatWriter, Response, Transport, TransportError, Usage};
pub use template::TemplateWriter;

use super::{
    brief::{Brief, BriefTheme, Part},
    gates::{Gate, Gates, Objection},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A text for a part of an ad.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draft {
    /// The part.
    pub part: Part,
    /// The text.
    pub text: String,
    /// The theme that it answers.
    pub theme: String,
    /// The facts that it states, by id.
    pub facts: Vec<String>,
}

/// What is asked of a writer.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The brief.
    pub brief: &'a Brief,
    /// The theme.
    pub theme: &'a BriefTheme,
    /// The texts for each part.
    pub count: usize,
    /// The seed.
    pub seed: u64,
}

/// What a writer returned.
#[derive(Clone, Debug, Default)]
pub struct Written {
    /// The drafts.
    pub drafts: Vec<Draft>,
    /// What it was told, for the audit log.
    pub prompt: String,
}

/// Why a writer returned nothing.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// It does not answer, or refuses: asking again for another theme is useless.
    #[error("{0}")]
    Away(String),
    /// Its answer cannot be used.
    #[error("{0}")]
    Answer(String),
}

/// Writes drafts.
pub trait Writer {
    /// Its name, such as that of a model.
    fn name(&self) -> String;

    /// Writes drafts for a theme.
    ///
    /// # Errors
    /// The writer is away, or its answer cannot be used.
    fn write(&mut self, ask: &Ask<'_>) -> Result<Written, WriteError>;

    /// Writes a draft again, knowing the objections to it. `None` if there is nothing else to say.
    ///
    /// # Errors
    /// The writer is away, or its answer cannot be used.
    fn repair(&mut self, ask: &Ask<'_>, draft: &Draft, objections: &[Objection]) -> Result<Option<Draft>, WriteError>;
}

/// A draft that passed, for people to decide on: a line of the file of drafts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// Its id: the same brief, part and text have the same one.
    pub id: String,
    /// The brief.
    pub brief: String,
    /// The text.
    #[serde(flatten)]
    pub draft: Draft,
    /// Who wrote it.
    pub writer: String,
    /// The seed.
    pub seed: u64,
    /// Whether it had to be repaired.
    pub repaired: bool,
    /// What the writer was told.
    pub prompt: String,
}

/// The id of a text.
pub(super) fn id_of(brief: &str, part: Part, text: &str) -> String {
    let all = format!("{brief}\n{}\n{text}", part.as_str());
    format!("{:016x}", rapidhash::v3::rapidhash_v3(all.as_bytes()))
}

/// What became of the drafts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct WriteCounts {
    /// All drafts.
    pub written: u64,
    /// Those that passed at once.
    pub passed: u64,
    /// Those that passed after a repair.
    pub repaired: u64,
    /// Those that did not, by the first gate that objected at last.
    pub dropped: BTreeMap<Gate, u64>,
    /// Those beyond what was asked for.
    pub surplus: u64,
}

/// What was written, and what went wrong.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The drafts that passed.
    pub candidates: Vec<Candidate>,
    /// What became of all.
    pub counts: WriteCounts,
    /// The drafts that were dropped, with the objections to them.
    pub dropped: Vec<(Draft, Vec<Objection>)>,
    /// What went wrong, with the theme.
    pub failures: Vec<(String, String)>,
}

/// Writes `count` texts for each part and theme of a brief.
pub fn write(brief: &Brief, writer: &mut dyn Writer, gates: &mut Gates<'_>, count: usize, seed: u64) -> Outcome {
    let mut outcome = Outcome::default();
    for theme in &brief.themes {
        let ask = Ask { brief, theme, count, seed };
        let written = match writer.write(&ask) {
            Ok(written) => written,
            Err(error) => {
                outcome.failures.push((theme.id.clone(), error.to_string()));
                if matches!(error, WriteError::Away(_)) {
                    break;
                }
                continue;
            }
        };
        let mut parts = BTreeMap::<Part, usize>::new();
        for draft in written.drafts {
            outcome.counts.written += 1;
            let of_part = parts.entry(draft.part).or_default();
            *of_part += 1;
            if *of_part > count {
                outcome.counts.surplus += 1;
            } else {
                outcome.decide(&ask, writer, gates, draft, &written.prompt);
            }
        }
    }
    outcome
}

impl Outcome {
    fn decide(&mut self, ask: &Ask<'_>, writer: &mut dyn Writer, gates: &mut Gates<'_>, draft: Draft, prompt: &str) {
        let objections = gates.check(&draft);
        if objections.is_empty() {
            self.counts.passed += 1;
            return self.keep(ask, writer, gates, draft, prompt, false);
        }
        let again = writer.repair(ask, &draft, &objections).unwrap_or_else(|error| {
            self.failures.push((ask.theme.id.clone(), error.to_string()));
            None
        });
        let (draft, objections) = match again {
            Some(again) => {
                let objections = gates.check(&again);
                (again, objections)
            }
            None => (draft, objections),
        };
        match objections.first() {
            None => {
                self.counts.repaired += 1;
                self.keep(ask, writer, gates, draft, prompt, true);
            }
            Some(first) => {
                *self.counts.dropped.entry(first.gate).or_default() += 1;
                self.dropped.push((draft, objections));
            }
        }
    }

    fn keep(
        &mut self,
        ask: &Ask<'_>,
        writer: &dyn Writer,
        gates: &mut Gates<'_>,
        draft: Draft,
        prompt: &str,
        repaired: bool,
    ) {
        gates.pass(&draft);
        self.candidates.push(Candidate {
            id: id_of(&ask.brief.id, draft.part, &draft.text),
            brief: ask.brief.id.clone(),
            draft,
            writer: writer.name(),
            seed: ask.seed,
            repaired,
            prompt: prompt.to_owned(),
        });
    }
}

#[cfg(test)]
mod tests;
