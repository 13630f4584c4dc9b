//! The configuration as written: values with their positions, and the overrides.
//!
//! Guarantees: an error is reported with its position in the file, or with the variable or flag that set the key. No message shows
//! a secret, or a value that might be one, whatever is wrong with its line. Values from outside the file are taken literally,
//! according to the type of their key: a string is never parsed as TOML.

mod explain;
mod lines;
mod overrides;
mod reader;
mod secrets;

use crate::{config_error::ConfigError, secret};
use explain::At;
use overrides::{Override, typed};
pub(super) use reader::Reader;
use secrets::remember_secrets;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// Sections with librdkafka's keys, whose dots are underscores in environment variables.
const CLIENT_SECTIONS: [&str; 3] = ["client", "consumer", "producer"];

/// Sections in which the value of an unknown key may be a secret with a misspelt key.
const SECRET_SECTIONS: [&str; 4] = ["kafka", "admin", "input", "otlp"];

/// Maximum number of errors shown.
const FAULTS_SHOWN: usize = 50;

/// Maximum length of a shown line, in characters.
const LINE_CHARS: usize = 120;

/// Maximum number of parts of a key, and maximum nesting of a value.
const DEPTH_MAX: usize = 16;

/// A parsed configuration with the positions of its values.
#[derive(Debug)]
pub struct Document {
    name: String,
    text: String,
    /// Whether the text is valid TOML. If not, the meaning of a line is a guess.
    is_valid: bool,
    overrides: Vec<Override>,
    /// Secrets, which are removed from every message.
    secrets: secret::Known,
}

impl Document {
    /// Parses a file's text; messages refer to it by `name`.
    ///
    /// # Errors
    /// Lists the places where it is not valid TOML.
    pub fn parse(name: &str, text: String) -> Result<Self, String> {
        let mut document = Self {
            name: name.to_owned(),
            text,
            is_valid: true,
            overrides: Vec::new(),
            secrets: secret::Known::default(),
        };
        let (errors, deep) = {
            let (root, errors) = DeTable::parse_recoverable(&document.text);
            let mut secrets = secret::Known::default();
            remember_secrets(&root, &mut secrets);
            document.secrets = secrets;
            (errors, deepest(&root))
        };
        if !errors.is_empty() {
            document.is_valid = false;
            let mut messages: Vec<String> = errors
                .iter()
                .take(FAULTS_SHOWN)
                .map(|error| {
                    let at = error.span().map_or(At::Nowhere, |span| document.place(span.start));
                    document.show(&at, &format!("this is not TOML: {}", error.message().replace('\n', ", ")), None)
                })
                .collect();
            // Each open bracket is reported at the end of the text.
            messages.dedup();
            let mut explained = messages.concat();
            document.append_omitted(errors.len(), &mut explained);
            return Err(explained);
        }
        if let Some(deep) = deep {
            let message =
                format!("tables and lists are nested more than {DEPTH_MAX} deep here, deeper than any key needs");
            return Err(document.show(&document.place(deep), &message, None));
        }
        Ok(document)
    }

    /// The values with their spans, overrides included. The span of the n-th override is the n-th byte after the end of the text.
    fn root(&self) -> DeTable<'_> {
        let (root, _) = DeTable::parse_recoverable(&self.text);
        let mut root = root.into_inner();
        // librdkafka's settings are strings: a password must not be normalised as a number.
        if let Some(DeValue::Table(kafka)) = root.get_mut("kafka").map(Spanned::get_mut) {
            for section in CLIENT_SECTIONS {
                kafka.get_mut(section).into_iter().for_each(|settings| to_literal_text(&self.text, settings));
            }
        }
        for (index, Override { parts, value, .. }) in self.overrides.iter().enumerate() {
            let place = self.text.len() + index..self.text.len() + index + 1;
            let Some((last, sections)) = parts.split_last() else { continue };
            let mut table = &mut root;
            for section in sections {
                let fresh = || Spanned::new(place.clone(), DeValue::Table(DeTable::new()));
                let entry = table.entry(Spanned::new(place.clone(), section.into())).or_insert_with(fresh);
                // A value in place of a section is replaced; the section reports what is missing.
                if entry.get_ref().as_table().is_none() {
                    *entry = fresh();
                }
                let DeValue::Table(next) = entry.get_mut() else { unreachable!("it was just made one") };
                table = next;
            }
            // A value of the wrong type was reported when it was set.
            let value = typed(parts, value).unwrap_or_else(|_| DeValue::String(value.into()));
            table.remove(last.as_str());
            table.insert(Spanned::new(place.clone(), last.into()), Spanned::new(place, value));
        }
        root
    }

    /// Reads sections out of the document.
    pub(in crate::config) fn reader<'a>(&'a self, errors: &'a mut Vec<ConfigError>) -> Reader<'a> {
        Reader { root: self.root(), errors, known: Vec::new() }
    }

    /// The number of elements in a top-level list, as written.
    pub(in crate::config) fn count(&self, name: &str) -> usize {
        self.root().get(name).and_then(|it| it.get_ref().as_array()).map_or(0, |list| list.len())
    }
}

/// Whether `key` is `above`, or one of its members or elements.
pub(in crate::config) fn is_at_or_below(key: &str, above: &str) -> bool {
    key.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('.') || rest.starts_with('['))
}

/// The position of a value that is nested too deep, if any.
fn deepest(root: &Spanned<DeTable<'_>>) -> Option<usize> {
    root.get_ref().values().find_map(|value| too_deep(value.get_ref(), 1).map(|()| value.span().start))
}

fn deepest_value(value: &DeValue<'_>) -> Option<()> {
    too_deep(value, 1)
}

fn too_deep(value: &DeValue<'_>, depth: usize) -> Option<()> {
    if depth > DEPTH_MAX {
        return Some(());
    }
    match value {
        DeValue::Table(table) => table.values().find_map(|value| too_deep(value.get_ref(), depth + 1)),
        DeValue::Array(list) => list.iter().find_map(|value| too_deep(value.get_ref(), depth + 1)),
        _ => None,
    }
}

/// Turns numbers, dates and booleans into strings exactly as written.
fn to_literal_text<'a>(text: &'a str, value: &mut Spanned<DeValue<'a>>) {
    let span = value.span();
    match value.get_mut() {
        DeValue::Table(table) => {
            let names: Vec<String> = table.keys().map(|name| name.get_ref().to_string()).collect();
            names
                .iter()
                .filter_map(|name| table.get_mut(name.as_str()).map(|it| to_literal_text(text, it)))
                .for_each(drop);
        }
        DeValue::Array(_) | DeValue::String(_) => {}
        scalar => {
            if let Some(written) = text.get(span) {
                *scalar = DeValue::String(written.into());
            }
        }
    }
}
