//! Briefs: what creatives are to say, to whom, and within which limits. A file that people read and edit.
//!
//! Owns its form (TOML), its checks, and a first draft of it from themes. Guarantees: reading reports every fault at
//! once, with its line. A brief holds everything that a writer is told. Limits: 64 KiB, 8 themes, 32 facts.

mod draft;
mod read;

pub use draft::draft;
pub use read::{BriefFault, read};

use crate::targeting::AudienceSpec;
use serde::Serialize;

/// How texts are to sound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Tone {
    /// Says what is so.
    #[default]
    Plain,
    /// Speaks to the reader as a friend.
    Warm,
    /// Short and direct.
    Bold,
}

/// A part of an ad with its own limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The short headline.
    Headline,
    /// The long headline.
    LongHeadline,
    /// The description.
    Description,
}

impl Part {
    /// All parts.
    pub const ALL: [Self; 3] = [Self::Headline, Self::LongHeadline, Self::Description];

    /// Its name in files and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Headline => "headline",
            Self::LongHeadline => "long_headline",
            Self::Description => "description",
        }
    }
}

/// The most characters of each part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct TextLimits {
    /// Of a headline.
    pub headline: usize,
    /// Of a long headline.
    pub long_headline: usize,
    /// Of a description.
    pub description: usize,
}

/// The limits of Google's responsive display ads, which count a double-width character as two.
pub const RESPONSIVE_DISPLAY: TextLimits = TextLimits { headline: 30, long_headline: 90, description: 90 };
/// The most characters of a business name there.
pub(super) const BUSINESS_NAME_MAX: usize = 25;

impl TextLimits {
    /// The limit of a part.
    pub fn of(&self, part: Part) -> usize {
        match part {
            Part::Headline => self.headline,
            Part::LongHeadline => self.long_headline,
            Part::Description => self.description,
        }
    }
}

/// Something that is true of the product, and that texts may say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fact {
    /// Its id.
    pub id: String,
    /// The fact as a sentence without a full stop.
    pub text: String,
    /// The same in a few words, for headlines.
    pub short: Option<String>,
}

/// A theme as the brief states it, which people may have edited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BriefTheme {
    /// Its id.
    pub id: String,
    /// Its words, the most important first.
    pub words: Vec<String>,
    /// What people say, in our words.
    pub points: Vec<String>,
    /// The facts that answer it, by id; all, if empty.
    pub facts: Vec<String>,
}

/// A checked brief.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Brief {
    /// Its id, which is part of the ids of its creatives.
    pub id: String,
    /// The campaign of the creatives.
    pub campaign: String,
    /// The language of the texts.
    pub language: String,
    /// Their tone.
    pub tone: Tone,
    /// The target of a click.
    pub landing_page: String,
    /// The advertiser's name.
    pub business_name: Option<String>,
    /// Whom the texts speak to, in words.
    pub audience: String,
    /// The audience by segments, for the catalogue.
    #[serde(skip)]
    pub segments: AudienceSpec,
    /// The limits of texts.
    pub limits: TextLimits,
    /// Words that must not appear.
    pub avoid: Vec<String>,
    /// Words that only a fact may bring, besides the usual ones.
    pub proof: Vec<String>,
    /// The domains that texts may name.
    pub domains: Vec<String>,
    /// What the texts are about.
    pub themes: Vec<BriefTheme>,
    /// What is true of the product.
    pub facts: Vec<Fact>,
}

impl Brief {
    /// The facts that answer a theme.
    pub fn facts_of<'a>(&'a self, theme: &'a BriefTheme) -> impl Iterator<Item = &'a Fact> {
        self.facts.iter().filter(|fact| theme.facts.is_empty() || theme.facts.contains(&fact.id))
    }
}

#[cfg(test)]
pub(super) mod tests;
