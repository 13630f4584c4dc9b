//! Review: what people decide, and the creatives that follow.
//!
//! Owns the record of a decision, and the step from approved texts to `[[creative]]`. Guarantees: only approved texts
//! become creatives; the newest decision about a text counts. The same approved texts give the same variant id, and
//! other texts another one, so that what is learned about a creative is never about two. The creatives are valid for the
//! catalogue. Limits: up to 5 headlines and 5 descriptions per creative; further ones form the next variant.

use super::{
    brief::Brief,
    writing::{Candidate, Draft},
};
use crate::{
    config_error::ConfigError,
    targeting::creative::{CreativeSpec, CreativeState, validate},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The texts of a part in a creative.
const TEXTS_MAX: usize = 5;

/// What a reviewer did with a text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "verdict")]
pub enum Verdict {
    /// Approved as written.
    Approved,
    /// Approved with another text, which passed the gates.
    Edited {
        /// The text.
        new_text: String,
    },
    /// Refused.
    Refused {
        /// Why.
        reason: String,
    },
}

/// A line of the audit log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// When, as in RFC 3339.
    pub at: String,
    /// Who.
    pub reviewer: String,
    /// What was decided.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// The draft, with its writer, seed, brief and prompt.
    #[serde(flatten)]
    pub candidate: Candidate,
    /// The hash of the brief's file.
    pub brief_sha256: String,
}

impl Decision {
    /// The text to show, if it was approved.
    fn approved(&self) -> Option<&str> {
        match &self.verdict {
            Verdict::Approved => Some(&self.candidate.draft.text),
            Verdict::Edited { new_text } => Some(new_text),
            Verdict::Refused { .. } => None,
        }
    }
}

/// The newest decision about each text of a brief, by id.
pub fn newest<'a>(decisions: &'a [Decision], brief: &str) -> BTreeMap<&'a str, &'a Decision> {
    let of_brief = decisions.iter().filter(|decision| decision.candidate.brief == brief);
    of_brief.map(|decision| (decision.candidate.id.as_str(), decision)).collect()
}

/// The texts of a theme by part.
type Texts<'a> = [Vec<&'a str>; 3];

/// The creatives of all approved texts of a brief.
pub fn creatives(brief: &Brief, decisions: &[Decision]) -> Vec<CreativeSpec> {
    let mut themes = BTreeMap::<&str, Texts<'_>>::new();
    let newest = newest(decisions, &brief.id);
    // In the order in which they were decided.
    for decision in
        decisions.iter().filter(|it| newest.get(it.candidate.id.as_str()).is_some_and(|last| std::ptr::eq(*last, *it)))
    {
        let Some(text) = decision.approved() else { continue };
        let Draft { theme, part, .. } = &decision.candidate.draft;
        let texts = &mut themes.entry(theme).or_default()[*part as usize];
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    themes.iter().flat_map(|(theme, texts)| variants(brief, theme, texts)).collect()
}

/// The creatives of a theme. A text of which there are too few for every variant is used in each.
fn variants(brief: &Brief, theme: &str, [headlines, long_headlines, descriptions]: &Texts<'_>) -> Vec<CreativeSpec> {
    let of = |texts: &[&str], most: usize, variant: usize| -> Vec<String> {
        let parts: Vec<_> = texts.chunks(most).collect();
        if parts.is_empty() {
            Vec::new()
        } else {
            parts[variant % parts.len()].iter().map(|&it| it.to_owned()).collect()
        }
    };
    if headlines.is_empty() && long_headlines.is_empty() {
        return Vec::new();
    }
    let sizes = [headlines.len().div_ceil(TEXTS_MAX), long_headlines.len(), descriptions.len().div_ceil(TEXTS_MAX)];
    let count = sizes.into_iter().max().unwrap_or_default();
    let variant = |variant: usize| {
        let headline = of(headlines, TEXTS_MAX, variant);
        let long_headline = of(long_headlines, 1, variant).pop();
        let description = of(descriptions, TEXTS_MAX, variant);
        let all = [&headline[..], long_headline.as_slice(), &description[..]].map(|it| it.join("\n")).join("\n\n");
        let id = format!("{}-{theme}-{:08x}", brief.id, rapidhash::v3::rapidhash_v3(all.as_bytes()) as u32);
        CreativeSpec {
            id,
            campaign: brief.campaign.clone(),
            segments: brief.segments.clone(),
            filter: None,
            category: None,
            locale: Some(brief.language.clone()),
            sizes: Vec::new(),
            headline,
            long_headline,
            description,
            business_name: brief.business_name.clone(),
            landing_page: brief.landing_page.clone(),
            weight: 1.0,
            state: CreativeState::Active,
            trial: None,
        }
    };
    (0..count).map(variant).collect()
}

/// Creatives in the form of the configuration.
///
/// # Errors
/// What the catalogue would refuse, such as a landing page that is no address.
pub fn to_toml(creatives: &[CreativeSpec]) -> Result<String, Vec<ConfigError>> {
    #[derive(Serialize)]
    struct Section<'a> {
        creative: &'a [CreativeSpec],
    }
    let errors = validate(creatives);
    if !errors.is_empty() {
        return Err(errors);
    }
    toml::to_string(&Section { creative: creatives })
        .map_err(|error| vec![ConfigError::new("creative", error.to_string())])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::brief::{Part, read, tests::BRIEF};

    fn decision(number: usize, part: Part, verdict: Verdict) -> Decision {
        let draft = Draft { part, text: format!("Text {number}"), theme: "t1".to_owned(), facts: vec![] };
        Decision {
            at: "2026-03-01T00:00:00Z".to_owned(),
            reviewer: "anna".to_owned(),
            verdict,
            candidate: Candidate {
                id: number.to_string(),
                brief: "trail".to_owned(),
                draft,
                writer: "template".to_owned(),
                seed: 3,
                repaired: false,
                prompt: "template".to_owned(),
            },
            brief_sha256: "00".to_owned(),
        }
    }

    #[test]
    fn only_approved_texts_become_creatives_and_the_newest_decision_counts() {
        let brief = read(BRIEF).unwrap();
        let refused = || Verdict::Refused { reason: "dull".to_owned() };
        let decisions = [
            decision(1, Part::Headline, Verdict::Approved),
            decision(2, Part::Headline, refused()),
            decision(3, Part::Description, Verdict::Edited { new_text: "Better".to_owned() }),
            decision(4, Part::Headline, refused()),
            decision(4, Part::Headline, Verdict::Approved),
            decision(5, Part::Headline, Verdict::Approved),
            decision(5, Part::Headline, refused()),
            Decision {
                candidate: Candidate {
                    brief: "other".to_owned(),
                    ..decision(6, Part::Headline, Verdict::Approved).candidate
                },
                ..decision(6, Part::Headline, Verdict::Approved)
            },
        ];
        let made = creatives(&brief, &decisions);
        assert_eq!(made.len(), 1);
        assert_eq!(
            (&made[0].headline[..], &made[0].description[..]),
            (&["Text 1".to_owned(), "Text 4".to_owned()][..], &["Better".to_owned()][..])
        );
        assert_eq!((made[0].campaign.as_str(), &made[0].segments.any[..]), ("spring", &["runners".to_owned()][..]));
        assert_eq!(creatives(&brief, &decisions)[0].id, made[0].id);
        assert_ne!(creatives(&brief, &decisions[..4])[0].id, made[0].id, "other texts, another variant");
        assert!(creatives(&brief, &decisions[1..3]).is_empty(), "without a headline nothing can be shown");
    }

    #[test]
    fn many_texts_become_several_variants_that_the_catalogue_accepts() {
        let brief = read(BRIEF).unwrap();
        let mut decisions: Vec<_> = (0..12).map(|it| decision(it, Part::Headline, Verdict::Approved)).collect();
        decisions.extend((20..22).map(|it| decision(it, Part::LongHeadline, Verdict::Approved)));
        let made = creatives(&brief, &decisions);
        assert_eq!(made.iter().map(|it| it.headline.len()).collect::<Vec<_>>(), [5, 5, 2]);
        let text = to_toml(&made).unwrap();
        assert_eq!(text.matches("[[creative]]").count(), 3, "{text}");
        let wrong = CreativeSpec { landing_page: "http://x".to_owned(), ..made[0].clone() };
        assert!(to_toml(&[wrong]).unwrap_err()[0].to_string().contains("landing_page"));
    }

    #[test]
    fn a_line_of_the_log_is_read_as_it_was_written() {
        for verdict in [
            Verdict::Approved,
            Verdict::Edited { new_text: "a".to_owned() },
            Verdict::Refused { reason: "b".to_owned() },
        ] {
            let decision = decision(1, Part::LongHeadline, verdict);
            let line = serde_json::to_string(&decision).unwrap();
            assert_eq!(serde_json::from_str::<Decision>(&line).unwrap(), decision, "{line}");
        }
    }
}
