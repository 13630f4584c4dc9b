//! The checked creatives of all campaigns.
//!
//! Owns the limits of text assets (those of Google's responsive display ads), sizes and landing pages, and the order of
//! a campaign's creatives, by which posteriors and sets number them. Guarantees: compiling reports every error at once,
//! with the path of its key and a hint. Limits: 64 creatives per campaign, 16 sizes per creative. Not covered: the
//! audience's rule, which is compiled with the others, whether the campaign exists, whether the category is registered,
//! and whether the landing page responds.

use super::{
    choice::{CREATIVES_MAX, Eligible},
    spec::{CreativeSpec, CreativeState, TrialSpec},
    text::seen_length,
    thompson::Beta,
};
use crate::{config_error::ConfigError, terminal::moves_a_terminal};
use std::collections::HashMap;

/// The limits of text assets: their number and length.
const HEADLINES_MAX: usize = 5;
const HEADLINE_MAX: usize = 30;
const LONG_HEADLINE_MAX: usize = 90;
const DESCRIPTIONS_MAX: usize = 5;
const DESCRIPTION_MAX: usize = 90;
const BUSINESS_NAME_MAX: usize = 25;

/// Ids are part of every decision, and decisions must stay small.
const ID_BYTES_MAX: usize = 64;
const SIZES_MAX: usize = 16;
/// In pixels. This is larger than any screen.
const SIDE_MAX: u32 = 10_000;
/// All browsers and ad servers accept at least this length.
const URL_BYTES_MAX: usize = 2_048;
const WEIGHT_MAX: f64 = 1e9;

/// The size of an image in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Size {
    /// The width.
    pub width: u32,
    /// The height.
    pub height: u32,
}

impl Size {
    /// Reads `WIDTHxHEIGHT`, each from 1 to 10,000.
    pub fn parse(text: &str) -> Option<Self> {
        let side = |text: &str| -> Option<u32> {
            let plain = !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|side| plain && *side <= SIDE_MAX)
        };
        let (width, height) = text.split_once('x')?;
        Some(Self { width: side(width)?, height: side(height)? })
    }
}

/// A checked creative.
#[derive(Clone, Debug, PartialEq)]
pub struct Creative {
    /// The specification as written.
    pub spec: CreativeSpec,
    /// Its sizes, in the order of the specification.
    pub sizes: Vec<Size>,
}

impl Creative {
    /// Whether it is shown at all.
    pub fn is_active(&self) -> bool {
        self.spec.state == CreativeState::Active
    }
}

/// The creatives by campaign.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Catalogue {
    creatives: Vec<Creative>,
    campaigns: HashMap<String, Vec<usize>>,
}

impl Catalogue {
    /// Checks the creatives. Errors are added under `creative[i]`, and creatives with errors are omitted.
    pub fn compile(specs: &[CreativeSpec], errors: &mut Vec<ConfigError>) -> Self {
        let mut catalogue = Self::default();
        let mut ids = HashMap::new();
        for (index, spec) in specs.iter().enumerate() {
            let mut check = Check { path: format!("creative[{index}]"), errors, found: false };
            if let Some(first) = ids.insert(&spec.id, index) {
                ids.insert(&spec.id, first);
                check.error(
                    "id",
                    format!("creative {:?} is declared twice", spec.id),
                    format!("creative[{first}] has this id: choose another"),
                );
            }
            check.creative(spec);
            let campaign = catalogue.campaigns.get(&spec.campaign).map_or(0, Vec::len);
            if campaign >= CREATIVES_MAX {
                check.error(
                    "campaign",
                    format!("campaign {:?} has more than {CREATIVES_MAX} creatives", spec.campaign),
                    "remove some, or split the campaign",
                );
            }
            if !check.found {
                let sizes = spec.sizes.iter().filter_map(|size| Size::parse(size)).collect();
                catalogue.campaigns.entry(spec.campaign.clone()).or_default().push(catalogue.creatives.len());
                catalogue.creatives.push(Creative { spec: spec.clone(), sizes });
            }
        }
        catalogue
    }

    /// All creatives in the order of their declaration.
    pub fn all(&self) -> &[Creative] {
        &self.creatives
    }

    /// A campaign's creatives in declaration order, which is how an [`Eligible`] numbers them.
    pub fn of<'a>(&'a self, campaign: &str) -> impl ExactSizeIterator<Item = &'a Creative> + Clone + 'a {
        self.campaigns.get(campaign).map_or(&[][..], Vec::as_slice).iter().map(|&index| &self.creatives[index])
    }

    /// The campaign's creatives that are not paused.
    pub fn active(&self, campaign: &str) -> Eligible {
        self.of(campaign).enumerate().filter(|(_, it)| it.is_active()).map(|(index, _)| index).collect()
    }
}

/// Returns all errors of a catalogue.
pub fn validate(specs: &[CreativeSpec]) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    drop(Catalogue::compile(specs, &mut errors));
    errors
}

/// The checks of one creative.
struct Check<'a> {
    path: String,
    errors: &'a mut Vec<ConfigError>,
    found: bool,
}

impl Check<'_> {
    fn error(&mut self, key: &str, message: impl Into<String>, hint: impl Into<String>) {
        self.found = true;
        self.errors.push(ConfigError::new(format!("{}.{key}", self.path), message).hint(hint));
    }

    fn creative(&mut self, spec: &CreativeSpec) {
        self.id("id", &spec.id);
        if spec.filter.as_ref().is_some_and(|rule| rule.trim().is_empty()) {
            self.error(
                "where",
                "the rule is empty",
                "write an expression, or leave `where` out: the creative is for everybody then",
            );
        }
        if let Some(category) = &spec.category {
            self.id("category", category);
        }
        if spec.locale.as_ref().is_some_and(|locale| !is_locale(locale)) {
            let locale = spec.locale.as_deref().unwrap_or_default();
            self.error(
                "locale",
                format!("{locale:?} is not a language tag"),
                "write a language and perhaps a region, such as \"de\" or \"de-CH\"",
            );
        }
        self.sizes(&spec.sizes);
        self.count("headline", spec.headline.len(), HEADLINES_MAX);
        self.count("description", spec.description.len(), DESCRIPTIONS_MAX);
        self.texts("headline", &spec.headline, HEADLINE_MAX);
        self.texts("description", &spec.description, DESCRIPTION_MAX);
        if let Some(text) = &spec.long_headline {
            self.text("long_headline", text, LONG_HEADLINE_MAX);
        }
        if let Some(text) = &spec.business_name {
            self.text("business_name", text, BUSINESS_NAME_MAX);
        }
        if spec.headline.is_empty() && spec.long_headline.is_none() && spec.sizes.is_empty() {
            self.error("headline", "the creative shows nothing", "add a headline, or the sizes of its images");
        }
        if let Err(message) = check_url(&spec.landing_page) {
            self.error("landing_page", message, "write a full address, such as \"https://shop.example/summer\"");
        }
        if !(spec.weight > 0.0 && spec.weight <= WEIGHT_MAX) {
            let hint = "write a number above 0, at most 1e9; to stop the creative, set state = \"paused\"";
            self.error("weight", format!("the weight is {}", spec.weight), hint);
        }
        if let Some(trial) = &spec.trial {
            self.trial(trial);
        }
    }

    fn trial(&mut self, trial: &TrialSpec) {
        if !(trial.share_max > 0.0 && trial.share_max <= 1.0) {
            let hint = "write a number above 0, at most 1; to stop the creative, set state = \"paused\"";
            self.error("trial.share_max", format!("the share is {}", trial.share_max), hint);
        }
        match (trial.shows, trial.actions) {
            (None, None) => {}
            (Some(_), None) => {
                self.error(
                    "trial.actions",
                    "there is none for these shows",
                    "write how many rewards to expect of them",
                );
            }
            (None, Some(_)) => {
                self.error(
                    "trial.shows",
                    "there are none for these actions",
                    "write how many impressions they count for",
                );
            }
            (Some(shows), Some(actions)) => {
                if !trial.prior().is_some_and(Beta::is_valid) {
                    let message = format!("{actions} actions of {shows} shows are no expectation to start with");
                    self.error("trial.actions", message, "expect at least 0.1 actions, and as many shows without one");
                }
            }
        }
    }

    fn id(&mut self, key: &str, id: &str) {
        if id.is_empty() || id.len() > ID_BYTES_MAX || !id.bytes().all(|byte| byte.is_ascii_graphic()) {
            let shown: String = id.chars().take(ID_BYTES_MAX).collect();
            self.error(
                key,
                format!("{shown:?} is not an id"),
                format!("write 1 to {ID_BYTES_MAX} letters, digits or signs, without spaces"),
            );
        }
    }

    fn count(&mut self, key: &str, count: usize, most: usize) {
        if count > most {
            self.error(
                key,
                format!("{count} texts, and at most {most} are shown"),
                format!("keep the {most} best, or make a second creative of the others"),
            );
        }
    }

    fn texts(&mut self, key: &str, texts: &[String], most: usize) {
        for (index, text) in texts.iter().enumerate() {
            let key = format!("{key}[{index}]");
            self.text(&key, text, most);
            if texts[..index].contains(text) {
                self.error(
                    &key,
                    format!("{text:?} is there twice"),
                    "remove one: the same text takes the place of another",
                );
            }
        }
    }

    fn text(&mut self, key: &str, text: &str, most: usize) {
        let length = seen_length(text);
        if text.trim().is_empty() {
            self.error(key, "the text is empty", "write a text, or remove it");
        } else if length > most {
            self.error(
                key,
                format!("{length} characters, and at most {most} are shown"),
                format!("shorten it by {}", length - most),
            );
        }
        if let Some(letter) = text.chars().find(|&letter| moves_a_terminal(letter)) {
            self.error(
                key,
                format!("the text has the control character {}", letter.escape_unicode()),
                "remove it: it is not shown, and may hide the rest",
            );
        }
    }

    fn sizes(&mut self, sizes: &[String]) {
        if sizes.len() > SIZES_MAX {
            self.error(
                "sizes",
                format!("{} sizes, and at most {SIZES_MAX} are kept", sizes.len()),
                "keep those that placements ask for",
            );
        }
        for (index, size) in sizes.iter().enumerate() {
            let key = format!("sizes[{index}]");
            if Size::parse(size).is_none() {
                self.error(
                    &key,
                    format!("{size:?} is not a size"),
                    format!("write WIDTHxHEIGHT in pixels, each 1 to {SIDE_MAX}, such as \"300x250\""),
                );
            } else if sizes[..index].contains(size) {
                self.error(&key, format!("{size:?} is there twice"), "remove one");
            }
        }
    }
}

/// Whether this has the form of a BCP 47 tag: a language of two or three letters, then parts of 1 to 8 letters or
/// digits.
fn is_locale(tag: &str) -> bool {
    let mut parts = tag.split('-');
    let language = parts.next().unwrap_or_default();
    (2..=3).contains(&language.len())
        && language.bytes().all(|byte| byte.is_ascii_lowercase())
        && tag.len() <= 35
        && parts.all(|part| (1..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

/// Checks the form of an https URL. URLs that a browser would have to guess or repair are refused.
fn check_url(url: &str) -> Result<(), &'static str> {
    let rest = url.strip_prefix("https://").ok_or("the landing page does not begin with https://")?;
    if url.len() > URL_BYTES_MAX {
        return Err("the landing page is longer than 2,048 bytes");
    }
    if !url.bytes().all(|byte| {
        byte.is_ascii_graphic() && !matches!(byte, b'\\' | b'"' | b'<' | b'>' | b'`' | b'{' | b'}' | b'|' | b'^')
    }) {
        return Err(
            "the landing page has characters that must be written as %XX, or a host that must be written in ASCII (xn--)",
        );
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err("the landing page has a user name in it");
    }
    let (host, port) = authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port)));
    let is_port =
        |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0);
    if port.is_some_and(|port| !is_port(port)) {
        return Err("the landing page has a port that is none");
    }
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    if host.len() > 253 || !host.contains('.') || !host.split('.').all(is_label) {
        return Err("the landing page has no host that others can reach");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
