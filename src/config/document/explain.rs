//! Faults as people read them: with their position, the line, and the next step.
//!
//! Guarantees: no message shows a secret, or a value that might be one, whatever is wrong with its line.

use super::{
    Document, FAULTS_SHOWN, LINE_CHARS, SECRET_SECTIONS, is_at_or_below,
    lines::{after_value, assignment, clipped, end_of_value, excerpt, header, key_parts, looks_like_a_key},
    overrides::Override,
    secrets::{Visibility, visibility},
};
use crate::{config_error::ConfigError, secret};
use std::{fmt::Write, ops::Range};
use toml::de::DeTable;

/// Maximum number of errors located.
const FAULTS_PLACED: usize = 500;

/// Maximum length of a message, in characters.
const MESSAGE_CHARS: usize = 1_500;

/// The location of an error.
pub(super) enum At {
    /// Line and column in the file.
    File(usize, usize),
    /// The index of the override.
    Override(usize),
    /// Unknown.
    Nowhere,
}

impl Document {
    /// Renders the errors with position, line and next step, in the order of the file.
    pub fn explain(&self, errors: &[ConfigError]) -> String {
        let root = self.root();
        // Locating one error takes time proportional to the file.
        let mut placed: Vec<(At, &ConfigError)> =
            errors.iter().take(FAULTS_PLACED).map(|error| (self.at(&root, error), error)).collect();
        placed.sort_by_key(|(at, _)| match at {
            At::Override(index) => (0, *index, 0),
            At::File(line, column) => (1, *line, *column),
            At::Nowhere => (2, 0, 0),
        });
        let mut out = String::new();
        for (at, error) in placed.iter().take(FAULTS_SHOWN) {
            // A key with a `=` in it has broken quotes, and the rest may be a value.
            let key = error.key.split('=').next().unwrap_or_default().trim_end();
            let message = match key {
                "" => error.message.clone(),
                key => format!("{}: {}", clipped(key, LINE_CHARS), error.message),
            };
            out += &self.show(at, &message, error.hint.as_deref());
        }
        self.append_omitted(errors.len(), &mut out);
        out
    }

    pub(super) fn append_omitted(&self, count: usize, out: &mut String) {
        if count > FAULTS_SHOWN {
            writeln!(out, "{}: and {} more", self.name, count - FAULTS_SHOWN).expect("a string takes everything");
        }
    }

    /// Locates an error.
    fn at(&self, root: &DeTable<'_>, error: &ConfigError) -> At {
        let set = |it: &Override| is_at_or_below(&error.key, &it.parts.join("."));
        if let Some(index) = self.overrides.iter().rposition(set) {
            return At::Override(index);
        }
        match find(root, &error.key) {
            Some(span) if span.start >= self.text.len() && !self.overrides.is_empty() => {
                At::Override((span.start - self.text.len()).min(self.overrides.len() - 1))
            }
            Some(span) => match error.at {
                Some(inside) => self.inside(&span, inside),
                None => self.place(span.start),
            },
            None => At::Nowhere,
        }
    }

    /// Line and column of a byte, counted from 1.
    pub(super) fn place(&self, byte: usize) -> At {
        let mut byte = byte.min(self.text.len());
        while !self.text.is_char_boundary(byte) {
            byte -= 1;
        }
        let before = &self.text[..byte];
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        At::File(before.matches('\n').count() + 1, column)
    }

    /// The position of a line and column inside a string value. Escapes before it on its line would shift it, but rules are
    /// written as literal strings, which have none.
    fn inside(&self, span: &Range<usize>, (line, column): (usize, usize)) -> At {
        let raw = self.text.get(span.clone()).unwrap_or_default();
        let At::File(first_line, first_column) = self.place(span.start) else { return At::Nowhere };
        let quotes = match raw.as_bytes().first() {
            Some(b'\'' | b'"') if raw.starts_with("'''") || raw.starts_with("\"\"\"") => 3,
            Some(b'\'' | b'"') => 1,
            // The key is missing; this is the span of its section.
            _ => return At::File(first_line, first_column),
        };
        let content = raw.get(quotes..).unwrap_or_default();
        let skipped = usize::from(content.starts_with('\n') || content.starts_with("\r\n"));
        let (line, column) = (line.max(1), column.max(1));
        match (line, skipped) {
            (1, 0) => At::File(first_line, first_column + quotes + column - 1),
            _ => At::File(first_line + line - 1 + skipped, column),
        }
    }

    pub(super) fn show(&self, at: &At, message: &str, hint: Option<&str>) -> String {
        let mut out = String::new();
        let message = clipped(message, MESSAGE_CHARS);
        let written = match at {
            At::File(line, column) => {
                let (text, shown) = excerpt(&self.shown_line(*line, *column));
                writeln!(out, "{}:{line}:{column}: {message}\n{line:5} | {text}", self.name)
                    .and_then(|()| writeln!(out, "      | {}^", " ".repeat(shown - 1)))
            }
            At::Override(index) => {
                let origin = self.overrides.get(*index).map_or("", |it| it.origin.as_str());
                writeln!(out, "{}: {message}", clipped(origin, LINE_CHARS))
            }
            At::Nowhere if message.starts_with("--set") => writeln!(out, "{message}"),
            At::Nowhere => writeln!(out, "{}: {message}", self.name),
        };
        written.expect("a string takes everything");
        if let Some(hint) = hint {
            writeln!(out, "      = {}", clipped(hint, MESSAGE_CHARS)).expect("a string takes everything");
        }
        self.secrets.scrub(&out).into_owned()
    }

    /// A line with secrets masked, and the column mapped into it. The meaning of a line follows from those before it. If the text is
    /// not valid TOML this is a guess, and anything uncertain is masked.
    fn shown_line(&self, number: usize, column: usize) -> (String, usize) {
        let mut section: Vec<String> = Vec::new();
        let mut quotes = None;
        let mut is_open = true;
        for (index, line) in self.text.lines().enumerate() {
            let is_it = index + 1 == number;
            let hidden = (secret::STARS.to_owned(), 1);
            let as_it_is = (line.to_owned(), column);
            let trimmed = line.trim();
            if let Some(end) = quotes {
                if is_it {
                    // After a missing end quote, everything that follows looks like a string.
                    let is_text = self.is_valid || !looks_like_a_key(trimmed) && !secret::is_secret_name(trimmed);
                    return if is_open && is_text { as_it_is } else { hidden };
                }
                if line.contains(end) {
                    quotes = None;
                }
            } else if trimmed.is_empty() || trimmed.starts_with('#') {
                if is_it {
                    let is_suspect =
                        secret::is_secret_name(trimmed) || !self.is_valid && trimmed.contains(['=', '"', '\'']);
                    return if is_suspect { hidden } else { as_it_is };
                }
            } else if let Some(header) = header(trimmed) {
                section = header;
                is_open = true;
                if is_it {
                    let end = line.rfind(']').map_or(line.len(), |at| at + 1);
                    let rest = line[end..].trim();
                    let is_whole = rest.is_empty() || rest.starts_with('#') && !secret::is_secret_name(rest);
                    return if is_whole { as_it_is } else { (format!("{} {}", &line[..end], secret::STARS), column) };
                }
            } else if let Some((key, value)) = assignment(line) {
                let parts = key_parts(key);
                let names: Vec<&str> = section.iter().chain(&parts).map(String::as_str).collect();
                is_open = visibility(&names) == Visibility::Open && !secret::is_secret_name(after_value(value));
                if is_it {
                    // A key with such characters has broken quotes and may include the value.
                    if parts.iter().any(|part| part.contains(|it: char| it == '=' || it.is_whitespace())) {
                        return hidden;
                    }
                    // In invalid TOML, anything after the value may be a secret.
                    let whole = if self.is_valid { value.len() } else { end_of_value(value) };
                    if is_open && value[whole..].trim().is_empty() {
                        return as_it_is;
                    }
                    let open = if is_open { &value[..whole] } else { "" };
                    let start = &line[..line.len() - value.len() + open.len()];
                    let shown = format!("{} {}", start.trim_end(), secret::STARS);
                    let stars_column = start.trim_end().chars().count() + 2;
                    return (shown, column.min(stars_column));
                }
                quotes = ["\"\"\"", "'''"].into_iter().find(|quotes| value.matches(quotes).count() % 2 == 1);
            } else if is_it {
                // A key without `=`, or part of a multi-line value.
                let is_known =
                    self.is_valid || !section.first().is_some_and(|it| SECRET_SECTIONS.contains(&it.as_str()));
                return if is_open && is_known && !secret::is_secret_name(trimmed) { as_it_is } else { hidden };
            }
        }
        (String::new(), 1)
    }
}

/// The span of the value of a key, or of the nearest ancestor that was written.
fn find(root: &DeTable<'_>, key: &str) -> Option<Range<usize>> {
    let mut table = root;
    let mut rest = key;
    let mut found = None;
    loop {
        // Keys may contain dots, so take the longest match.
        let fits = |name: &str| {
            rest.strip_prefix(name).filter(|after| after.is_empty() || after.starts_with('.') || after.starts_with('['))
        };
        let Some((name, value)) = table
            .iter()
            .filter(|(name, _)| fits(name.get_ref()).is_some())
            .max_by_key(|(name, _)| name.get_ref().len())
        else {
            return found;
        };
        rest = fits(name.get_ref()).unwrap_or_default();
        let mut value = value;
        while let Some((index, after)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            let Some(element) = index.parse().ok().and_then(|index: usize| value.get_ref().as_array()?.get(index))
            else {
                break;
            };
            (value, rest) = (element, after);
        }
        if !value.span().is_empty() {
            found = Some(value.span());
        }
        match (rest.strip_prefix('.'), value.get_ref().as_table()) {
            (Some(below), Some(next)) => (rest, table) = (below, next),
            _ => return found,
        }
    }
}
