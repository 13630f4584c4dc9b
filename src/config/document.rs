//! The configuration as written: values with their positions, and the overrides.
//!
//! Guarantees: an error is reported with its position in the file, or with the variable or flag that set the key. No message shows
//! a secret, or a value that might be one, whatever is wrong with its line. Values from outside the file are taken literally,
//! according to the type of their key: a string is never parsed as TOML.

use super::schema::{SchemaNode, example};
use crate::{config::ClientSettings, expression::nearest, fault::Fault, secret};
use serde::de::DeserializeOwned;
use std::{ffi::OsStr, fmt::Write, ops::Range};
use toml::{
    Spanned,
    de::{DeArray, DeTable, DeValue, ValueDeserializer},
};

/// The prefix of environment variables that override keys.
const PREFIX: &str = "AIMPOINT__";

/// Sections with librdkafka's keys, whose dots are underscores in environment variables.
const CLIENT_SECTIONS: [&str; 3] = ["client", "consumer", "producer"];

/// Sections in which the value of an unknown key may be a secret with a misspelt key.
const SECRET_SECTIONS: [&str; 4] = ["kafka", "admin", "input", "otlp"];

/// Maximum number of faults located.
const FAULTS_PLACED: usize = 500;

/// Maximum number of faults shown.
const FAULTS_SHOWN: usize = 50;

/// Maximum length of a shown line and of a message, in characters.
const LINE_CHARS: usize = 120;
const MESSAGE_CHARS: usize = 1_500;

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

/// A key that was set outside the file.
struct Override {
    parts: Vec<String>,
    value: String,
    /// The variable or flag that set it.
    origin: String,
}

/// The value may be a secret.
impl std::fmt::Debug for Override {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Override").field("parts", &self.parts).field("origin", &self.origin).finish_non_exhaustive()
    }
}

/// Whether the value of a key may be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Visibility {
    /// It may be shown.
    Open,
    /// The key does not exist.
    Unknown,
    /// It is or may be a secret.
    Secret,
}

/// The location of a fault.
enum At {
    /// Line and column in the file.
    File(usize, usize),
    /// The index of the override.
    Override(usize),
    /// Unknown.
    Nowhere,
}

impl Document {
    /// Whether an environment variable belongs to Aimpoint.
    pub(super) fn is_ours(name: &OsStr) -> bool {
        name.as_encoded_bytes().starts_with(PREFIX.as_bytes())
    }

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

    /// Applies an environment variable of Aimpoint.
    pub(super) fn set_from_environment(&mut self, name: &OsStr, value: &OsStr, faults: &mut Vec<Fault>) {
        let origin = name.to_string_lossy().into_owned();
        let path = origin.strip_prefix(PREFIX).unwrap_or_default();
        let mut parts: Vec<String> = path.split("__").map(str::to_lowercase).collect();
        if parts.iter().any(String::is_empty) {
            let hint = "write AIMPOINT__SECTION__KEY, such as AIMPOINT__KAFKA__BROKERS";
            faults.push(Fault::new("", "the variable's name is not a key").hint(hint));
            return self.overrides.push(Override { parts: Vec::new(), value: String::new(), origin });
        }
        if parts.len() == 3 && parts[0] == "kafka" && CLIENT_SECTIONS.contains(&parts[1].as_str()) {
            parts[2] = parts[2].replace('_', ".");
        }
        let Some(text) = value.to_str() else {
            faults.push(Fault::new(parts.join("."), "the value is not UTF-8"));
            return self.overrides.push(Override { parts, value: String::new(), origin });
        };
        self.set(parts, text.to_owned(), origin, faults);
    }

    /// Applies the `key=value` of the flag with this index.
    pub(super) fn set_from_flag(&mut self, index: usize, set: &str, faults: &mut Vec<Fault>) {
        let Some((key, value)) = set.split_once('=') else {
            // The argument may be a secret, so it is not shown.
            let message = format!("--set takes key=value, but number {} has no \"=\"", index + 1);
            faults.push(Fault::new("--set", message).hint("for instance --set commit.interval=10ms"));
            return;
        };
        let key = key.trim();
        let line = format!("{key} = 0");
        let parsed = if key.len() > 1_000 { None } else { DeTable::parse(&line).ok() };
        let mut parts = Vec::new();
        let mut table = parsed.as_ref().map(Spanned::get_ref).filter(|table| table.len() == 1);
        while let Some((part, below)) = table.and_then(|table| table.iter().next()) {
            parts.push(part.get_ref().to_string());
            table = below.get_ref().as_table();
        }
        if parts.is_empty() {
            let message = format!("the key of number {} is invalid", index + 1);
            faults.push(Fault::new("--set", message).hint("for instance kafka.client.\"security.protocol\""));
            return;
        }
        self.set(parts, value.to_owned(), format!("--set {key}"), faults);
    }

    fn set(&mut self, mut parts: Vec<String>, value: String, origin: String, faults: &mut Vec<Fault>) {
        // A client setting is one key, whether its dotted name is quoted or not.
        if is_client(&parts) {
            let name = parts.split_off(2).join(".");
            parts.push(name);
        }
        let key = parts.join(".");
        if parts.len() > DEPTH_MAX {
            faults.push(Fault::new(key, format!("no key has more than {DEPTH_MAX} parts")));
            return self.overrides.push(Override { parts: vec![parts[0].clone()], value: String::new(), origin });
        }
        let names: Vec<&str> = parts.iter().map(String::as_str).collect();
        let found = typed(&parts, &value);
        // The keys of a table are not secrets.
        match &found {
            Ok(table @ (DeValue::Array(_) | DeValue::Table(_))) if deepest_value(table).is_none() => {
                remember_below(table, &mut names.clone(), &mut self.secrets);
            }
            _ => remember_by(&names, &value, &mut self.secrets),
        }
        match found {
            Ok(value) => {
                if deepest_value(&value).is_some() {
                    faults.push(Fault::new(key, format!("the value is nested more than {DEPTH_MAX} deep")));
                }
            }
            Err(why) => {
                let fault = Fault::new(&key, why);
                faults.push(match example(&key) {
                    Some(example) => fault.hint(format!("for instance {example}")),
                    None => fault,
                });
            }
        }
        self.overrides.push(Override { parts, value, origin });
    }

    /// Reads sections out of the document.
    pub(super) fn reader<'a>(&'a self, faults: &'a mut Vec<Fault>) -> Reader<'a> {
        Reader { root: self.root(), faults, known: Vec::new() }
    }

    /// The number of elements in a top-level list, as written.
    pub(super) fn count(&self, name: &str) -> usize {
        self.root().get(name).and_then(|it| it.get_ref().as_array()).map_or(0, |list| list.len())
    }

    /// Renders the faults with position, line and next step, in the order of the file.
    pub fn explain(&self, faults: &[Fault]) -> String {
        let root = self.root();
        // Locating one fault takes time proportional to the file.
        let mut placed: Vec<(At, &Fault)> =
            faults.iter().take(FAULTS_PLACED).map(|fault| (self.at(&root, fault), fault)).collect();
        placed.sort_by_key(|(at, _)| match at {
            At::Override(index) => (0, *index, 0),
            At::File(line, column) => (1, *line, *column),
            At::Nowhere => (2, 0, 0),
        });
        let mut out = String::new();
        for (at, fault) in placed.iter().take(FAULTS_SHOWN) {
            // A key with a `=` in it has broken quotes, and the rest may be a value.
            let key = fault.key.split('=').next().unwrap_or_default().trim_end();
            let message = match key {
                "" => fault.message.clone(),
                key => format!("{}: {}", clipped(key, LINE_CHARS), fault.message),
            };
            out += &self.show(at, &message, fault.hint.as_deref());
        }
        self.append_omitted(faults.len(), &mut out);
        out
    }

    fn append_omitted(&self, count: usize, out: &mut String) {
        if count > FAULTS_SHOWN {
            writeln!(out, "{}: and {} more", self.name, count - FAULTS_SHOWN).expect("a string takes everything");
        }
    }

    /// Locates a fault.
    fn at(&self, root: &DeTable<'_>, fault: &Fault) -> At {
        let set = |it: &Override| is_at_or_below(&fault.key, &it.parts.join("."));
        if let Some(index) = self.overrides.iter().rposition(set) {
            return At::Override(index);
        }
        match find(root, &fault.key) {
            Some(span) if span.start >= self.text.len() && !self.overrides.is_empty() => {
                At::Override((span.start - self.text.len()).min(self.overrides.len() - 1))
            }
            Some(span) => match fault.at {
                Some(inside) => self.inside(&span, inside),
                None => self.place(span.start),
            },
            None => At::Nowhere,
        }
    }

    /// Line and column of a byte, counted from 1.
    fn place(&self, byte: usize) -> At {
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

    fn show(&self, at: &At, message: &str, hint: Option<&str>) -> String {
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

/// Whether `key` is `above`, or one of its members or elements.
pub(super) fn is_at_or_below(key: &str, above: &str) -> bool {
    key.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('.') || rest.starts_with('['))
}

/// The parts of a header such as `[kafka.client]`.
fn header(line: &str) -> Option<Vec<String>> {
    let inside = line.strip_prefix('[')?.trim_start_matches('[');
    let (name, _) = inside.split_once(']')?;
    let is_name = |letter: char| letter.is_alphanumeric() || "_-.\"\' ".contains(letter);
    name.chars().all(is_name).then(|| key_parts(name))
}

/// Splits a line at the `=` of its assignment.
fn assignment(line: &str) -> Option<(&str, &str)> {
    let mut quote = None;
    for (at, letter) in line.char_indices() {
        match (quote, letter) {
            (None, '=') => return Some((&line[..at], &line[at + 1..])),
            (None, '"' | '\'') => quote = Some(letter),
            (None, '#') => return None,
            (Some(open), _) if open == letter => quote = None,
            _ => {}
        }
    }
    None
}

/// Splits a dotted key into its parts.
fn key_parts(key: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut quote = None;
    for letter in key.trim().chars() {
        match (quote, letter) {
            (None, '"' | '\'') => quote = Some(letter),
            (Some(open), _) if open == letter => quote = None,
            (None, '.') => parts.push(String::new()),
            _ => parts.last_mut().expect("there is always one").push(letter),
        }
    }
    parts.iter().map(|part| part.trim().to_owned()).collect()
}

/// Whether a line inside a string looks like a key with its value. A rule has comparisons, and no names in brackets.
fn looks_like_a_key(line: &str) -> bool {
    let compares = ["==", "!=", "<=", ">="].iter().any(|sign| line.contains(sign));
    header(line).is_some() || line.contains('=') && !compares
}

/// The length of the text after a key's `=` that certainly is its value: a quoted string, a bare word, or a list of those, with
/// trailing brackets, comma and comment. Tables are excluded, because their keys were not checked.
fn end_of_value(text: &str) -> usize {
    let rest = text.trim_start();
    let start = text.len() - rest.len();
    let one = |text: &str| -> Option<usize> {
        let quote = text.chars().next().filter(|first| matches!(first, '"' | '\''));
        let Some(quote) = quote else {
            let letter = |letter: char| letter.is_alphanumeric() || "_-+.:/".contains(letter);
            return Some(text.find(|it| !letter(it)).unwrap_or(text.len()));
        };
        let mut escaped = false;
        let end = text[1..].find(|letter| {
            let ends = letter == quote && !escaped;
            escaped = letter == '\\' && quote == '"' && !escaped;
            ends
        });
        // A string without an end quote may continue with another key.
        match end {
            Some(end) => Some(end + 2),
            None => (!text.contains('=')).then_some(text.len()),
        }
    };
    let mut at = 0;
    let mut is_list = false;
    loop {
        let skipped = rest[at..].trim_start_matches([' ', '\t', '[', ']', ',']);
        is_list |= rest[at..rest.len() - skipped.len()].contains('[');
        let next = rest.len() - skipped.len();
        if skipped.is_empty() || skipped.starts_with('#') {
            // A comment may contain an old value.
            let is_harmless = !secret::is_secret_name(skipped) && !skipped.contains('=');
            return if is_harmless { text.len() } else { start + at };
        }
        // Only a list has several values.
        if at > 0 && !(is_list && rest[at..next].contains(',')) {
            return start + at;
        }
        match one(skipped) {
            Some(length)
                if length > 0 && !secret::is_secret_name(&skipped[..length]) && !skipped[..length].contains('@') =>
            {
                at = next + length;
            }
            _ => return start + at,
        }
    }
}

/// The text after a value on its line, such as a comment; the whole text if the value does not end on this line.
fn after_value(value: &str) -> &str {
    let value = value.trim();
    let Some(quote) = value.chars().next().filter(|first| matches!(first, '"' | '\'')) else {
        return value.find('#').map_or("", |at| &value[at..]);
    };
    match value[1..].rfind(quote) {
        Some(end) => &value[end + 2..],
        None => value,
    }
}

/// A line cut to a bounded length around a column, without control characters.
fn excerpt((line, column): &(String, usize)) -> (String, usize) {
    let clean = |letter: char| if letter.is_control() { ' ' } else { letter };
    let letters: Vec<char> = line.chars().map(clean).collect();
    let column = (*column).clamp(1, letters.len() + 1);
    if letters.len() <= LINE_CHARS {
        return (letters.into_iter().collect(), column);
    }
    let start = (column - 1).saturating_sub(LINE_CHARS / 2).min(letters.len() - LINE_CHARS);
    let end = start + LINE_CHARS;
    let (before, after) = (if start > 0 { "…" } else { "" }, if end < letters.len() { "…" } else { "" });
    let part: String = letters[start..end].iter().collect();
    (format!("{before}{part}{after}"), column - start + before.chars().count())
}

/// A text cut to a bounded length, without control characters. The end is kept, because it says what is wrong with a long value.
fn clipped(text: &str, letters: usize) -> String {
    let clean = |letter: char| if letter.is_control() { ' ' } else { letter };
    let count = text.chars().count();
    if count <= letters {
        return text.chars().map(clean).collect();
    }
    let end = letters / 3;
    let head = text.chars().take(letters - end);
    head.chain(['…']).chain(text.chars().skip(count - end)).map(clean).collect()
}

/// Whether the value of a key may be shown; indices of lists are left out of the key.
fn visibility(names: &[&str]) -> Visibility {
    if let ["kafka", section, name @ ..] = names
        && CLIENT_SECTIONS.contains(section)
    {
        let name = name.join(".");
        return if ClientSettings::shows(&name) { Visibility::Open } else { Visibility::Secret };
    }
    let mut place = SchemaNode::root();
    for name in names {
        let below = place.element().unwrap_or(place).key(name);
        match below {
            Some(below) => place = below,
            None if names.iter().any(|name| secret::is_secret_name(name)) => return Visibility::Secret,
            None => return Visibility::Unknown,
        }
    }
    if names == ["kafka"] || place.holds_secret() { Visibility::Secret } else { Visibility::Open }
}

/// Registers a value as a secret if its key is or may be that of a secret.
fn remember_by(names: &[&str], value: &str, secrets: &mut secret::Known) {
    let is_secret = match visibility(names) {
        Visibility::Secret => true,
        // Short values are likely to be ordinary words.
        Visibility::Unknown => names.first().is_some_and(|it| SECRET_SECTIONS.contains(it)) && value.len() >= 8,
        Visibility::Open => {
            // Addresses with a user, password or token are refused, and the message must not show these.
            if matches!(names, ["kafka" | "otlp", ..]) {
                let users = value.split(',').filter_map(|address| address.rsplit_once('@')).map(|(user, _)| user);
                let users = users.map(|user| user.rsplit("://").next().unwrap_or_default());
                let queries = value.split_once('?').map(|(_, query)| query);
                for part in users.chain(queries).filter(|_| value.contains(':')) {
                    secrets.remember(part);
                    secret::remember(part);
                }
            }
            false
        }
    };
    if is_secret {
        secrets.remember(value);
        secret::remember(value);
    }
}

fn remember_secrets(root: &Spanned<DeTable<'_>>, secrets: &mut secret::Known) {
    for (name, value) in root.get_ref() {
        let mut names: Vec<&str> = vec![name.get_ref().as_ref()];
        remember_below(value.get_ref(), &mut names, secrets);
    }
}

fn remember_below<'a>(value: &'a DeValue<'_>, names: &mut Vec<&'a str>, secrets: &mut secret::Known) {
    match value {
        DeValue::Table(table) => {
            for (name, value) in table {
                names.push(name.get_ref());
                remember_below(value.get_ref(), names, secrets);
                names.pop();
            }
        }
        DeValue::Array(list) => list.iter().for_each(|value| remember_below(value.get_ref(), names, secrets)),
        DeValue::String(text) => remember_by(names, text, secrets),
        DeValue::Integer(number) => remember_by(names, number.as_str(), secrets),
        DeValue::Float(number) => remember_by(names, number.as_str(), secrets),
        DeValue::Datetime(time) => remember_by(names, &time.to_string(), secrets),
        DeValue::Boolean(_) => {}
    }
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

/// Whether the key is one of librdkafka's settings.
fn is_client(parts: &[String]) -> bool {
    matches!(parts, [kafka, section, _, ..] if kafka == "kafka" && CLIENT_SECTIONS.contains(&section.as_str()))
}

/// A value from outside the file, by the type of its key: strings literally; numbers, lists and tables as TOML.
fn typed<'a>(parts: &[String], value: &'a str) -> Result<DeValue<'a>, String> {
    let text = || Ok(DeValue::String(value.into()));
    if is_client(parts) {
        return text();
    }
    let mut place = SchemaNode::root();
    for part in parts {
        match place.key(part) {
            Some(below) => place = below,
            // The unknown key is reported elsewhere.
            None => return text(),
        }
    }
    let takes = place.takes();
    let starts = |letter: char| value.trim_start().starts_with(letter);
    if takes.text && !(takes.table && starts('{') || takes.list && starts('[')) {
        return text();
    }
    let parsed = DeValue::parse(value.trim()).map(Spanned::into_inner).ok();
    // A value that may be a secret is not quoted.
    let found = if visibility(&parts.iter().map(String::as_str).collect::<Vec<_>>()) == Visibility::Open {
        format!(", found {:?}", clipped(value, 60))
    } else {
        String::new()
    };
    match parsed {
        Some(value @ DeValue::Boolean(_)) if takes.truth => Ok(value),
        Some(value @ DeValue::Integer(_)) if takes.whole => Ok(value),
        Some(value @ DeValue::Float(_)) if takes.number => Ok(value),
        Some(value @ DeValue::Array(_)) if takes.list => Ok(value),
        Some(value @ DeValue::Table(_)) if takes.table => Ok(value),
        _ if !takes.is_known() => text(),
        _ if takes.truth => Err(format!("expected true or false{found}")),
        _ if takes.number => Err(format!("expected a number{found}")),
        _ if takes.whole => Err(format!("expected a whole number{found}")),
        _ if takes.list => Err(format!("expected a TOML list, such as [\"a\", \"b\"]{found}")),
        _ => Err(format!("expected a TOML table, such as {{ a = 1, b = 2 }}{found}")),
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

/// Reads sections from a document one by one, and collects their faults.
pub(super) struct Reader<'a> {
    root: DeTable<'a>,
    faults: &'a mut Vec<Fault>,
    known: Vec<&'static str>,
}

/// A step from a value to a value inside it.
#[derive(Clone, Debug)]
enum Step {
    Key(String),
    Index(usize),
}

impl Reader<'_> {
    /// A section that has defaults.
    pub(super) fn section<T: DeserializeOwned + Default>(&mut self, name: &'static str) -> T {
        self.optional(name).unwrap_or_default()
    }

    /// A section that may be missing.
    pub(super) fn optional<T: DeserializeOwned>(&mut self, name: &'static str) -> Option<T> {
        self.known.push(name);
        let value = self.root.get(name)?.clone();
        self.read(value, name, SchemaNode::root().key(name))
    }

    /// A list of tables.
    pub(super) fn list<T: DeserializeOwned>(&mut self, name: &'static str) -> Vec<T> {
        self.known.push(name);
        let Some(value) = self.root.get(name).cloned() else { return Vec::new() };
        let DeValue::Array(elements) = value.into_inner() else {
            if self.faults.iter().any(|fault| fault.key == name) {
                return Vec::new();
            }
            self.faults.push(
                Fault::new(name, format!("{name} is a list"))
                    .hint(format!("write [[{name}]], with double brackets, for each element")),
            );
            return Vec::new();
        };
        let place = SchemaNode::root().key(name).and_then(SchemaNode::element);
        let elements = elements.into_iter().enumerate();
        elements.filter_map(|(index, element)| self.read(element, &format!("{name}[{index}]"), place)).collect()
    }

    /// Deserializes a section and collects all of its faults. A wrong value is removed or replaced by a placeholder, so that it does
    /// not hide other faults.
    fn read<T: DeserializeOwned>(
        &mut self,
        mut value: Spanned<DeValue<'_>>,
        key: &str,
        place: Option<SchemaNode>,
    ) -> Option<T> {
        if let Some(place) = place
            && !check_types(&mut value, key, place, self.faults)
        {
            return None;
        }
        for _ in 0..FAULTS_SHOWN {
            let error = match T::deserialize(ValueDeserializer::from(value.clone())) {
                Ok(section) => return Some(section),
                Err(error) => error,
            };
            let steps = error.span().and_then(|span| steps_to(&value, &span)).unwrap_or_default();
            let key = steps.iter().fold(key.to_owned(), |key, step| match step {
                Step::Key(name) => format!("{key}.{name}"),
                Step::Index(index) => format!("{key}[{index}]"),
            });
            // A removed value is missing now; do not report that as well.
            let missing = error.message().strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
            let missing = missing.map(|name| format!("{key}.{name}"));
            let is_known = |fault: &Fault| {
                is_at_or_below(&key, &fault.key) || missing.as_ref().is_some_and(|missing| fault.key == *missing)
            };
            if !self.faults.iter().any(is_known) {
                let fault = Fault::new(&key, plain(&error.message().trim().replace('\n', ", ")));
                self.faults.push(match example(&key) {
                    Some(example) => fault.hint(format!("for instance {example}")),
                    None => fault,
                });
            }
            if !remove_or_replace(&mut value, &steps, place) {
                return None;
            }
        }
        None
    }

    /// Reports unknown sections.
    pub(super) fn finish(self) {
        for (name, _) in &self.root {
            let name: &str = name.get_ref();
            if !self.known.contains(&name) {
                let fault = Fault::new(name, "there is no such section");
                self.faults.push(match nearest(name, self.known.iter().copied()) {
                    Some(near) => fault.hint(format!("did you mean [{near}]?")),
                    None => fault.hint(format!("there are {}", self.known.join(", "))),
                });
            }
        }
    }
}

/// Rewrites a deserializer's message in terms of the configuration.
fn plain(message: &str) -> String {
    if let Some(text) =
        message.strip_prefix("invalid value: string ").and_then(|it| it.strip_suffix(", expected parsable string"))
    {
        return format!("{text} is not a size; write a whole number and its unit");
    }
    let number = || {
        let rest =
            message.strip_prefix("invalid value: integer `").or(message.strip_prefix("invalid type: integer `"))?;
        let (number, rest) = rest.split_once('`')?;
        let expected = rest.split_once(", expected ")?.1;
        let bounds = match expected {
            "u8" => format!("from 0 to {}", u8::MAX),
            "u16" => format!("from 0 to {}", u16::MAX),
            "u32" => format!("from 0 to {}", u32::MAX),
            "u64" | "usize" => format!("from 0 to {}", u64::MAX),
            "i8" => format!("from {} to {}", i8::MIN, i8::MAX),
            "i16" => format!("from {} to {}", i16::MIN, i16::MAX),
            "i32" => format!("from {} to {}", i32::MIN, i32::MAX),
            "i64" => format!("from {} to {}", i64::MIN, i64::MAX),
            _ => return None,
        };
        Some(format!("expected a whole number {bounds}, found {number}"))
    };
    number().unwrap_or_else(|| message.to_owned())
}

/// Reports values of the wrong type, unknown keys and missing keys. False if the value as a whole cannot be used.
fn check_types(value: &mut Spanned<DeValue<'_>>, key: &str, place: SchemaNode, faults: &mut Vec<Fault>) -> bool {
    let takes = place.takes();
    let is_of_type = match value.get_ref() {
        DeValue::String(_) => takes.text,
        DeValue::Integer(_) => takes.whole,
        DeValue::Float(_) => takes.number,
        DeValue::Boolean(_) => takes.truth,
        DeValue::Datetime(_) => false,
        DeValue::Array(_) => takes.list,
        DeValue::Table(_) => takes.table,
    };
    if takes.is_known() && !is_of_type {
        let wanted = [
            (takes.text, "a text in quotes"),
            (takes.number, "a number"),
            (takes.whole && !takes.number, "a whole number"),
            (takes.truth, "true or false"),
            (takes.list, "a list"),
            (takes.table, "a table"),
        ];
        let wanted: Vec<&str> = wanted.into_iter().filter(|(is_taken, _)| *is_taken).map(|(_, name)| name).collect();
        let is_client = key.strip_prefix("kafka.").is_some_and(|section| CLIENT_SECTIONS.contains(&section));
        let is_secret = key == "kafka" || is_client || place.holds_secret();
        let found = match value.get_ref() {
            DeValue::Array(_) => "a list".to_owned(),
            DeValue::Table(_) => "a table".to_owned(),
            // A secret is not quoted.
            DeValue::String(_) if is_secret => "a text".to_owned(),
            DeValue::Integer(_) | DeValue::Float(_) if is_secret => "a number".to_owned(),
            DeValue::Boolean(_) if is_secret => "true or false".to_owned(),
            DeValue::Datetime(_) if is_secret => "a date".to_owned(),
            DeValue::String(text) => format!("the text {:?}", clipped(text, 60)),
            DeValue::Integer(number) => format!("the number {number}"),
            DeValue::Float(number) => format!("the number {number}"),
            DeValue::Boolean(truth) => truth.to_string(),
            DeValue::Datetime(time) => format!("the date {time}"),
        };
        // An override was already reported when it was set.
        if !faults.iter().any(|fault| fault.key == key) {
            let fault = Fault::new(key, format!("expected {}, found {found}", wanted.join(" or ")));
            faults.push(match example(key) {
                Some(example) => fault.hint(format!("for instance {example}")),
                None => fault,
            });
        }
        return false;
    }
    // librdkafka's names are checked elsewhere.
    if key.strip_prefix("kafka.").is_some_and(|section| CLIENT_SECTIONS.contains(&section)) {
        return true;
    }
    let span = value.span();
    match value.get_mut() {
        DeValue::Table(table) => {
            let names: Vec<String> = table.keys().map(|name| name.get_ref().to_string()).collect();
            for name in names {
                let below = format!("{key}.{name}");
                match place.key(&name) {
                    Some(place) => {
                        let Some(value) = table.get_mut(name.as_str()) else { continue };
                        if !check_types(value, &below, place, faults) {
                            table.remove(name.as_str());
                        }
                    }
                    None if place.is_closed() => {
                        let shown = clipped(name.split('=').next().unwrap_or_default().trim(), 60);
                        let known = place.names();
                        let fault = Fault::new(below, format!("unknown field `{shown}`"));
                        faults.push(match nearest(&name, known.iter().copied()) {
                            Some(near) => fault.hint(format!("did you mean {near:?}?")),
                            None => fault.hint(format!("there are {}", known.join(", "))),
                        });
                        table.remove(name.as_str());
                    }
                    None => {}
                }
            }
            for name in place.required() {
                if !table.contains_key(name) {
                    let below = format!("{key}.{name}");
                    if !faults.iter().any(|fault| fault.key == below) {
                        let fault = Fault::new(&below, format!("missing field `{name}`"));
                        faults.push(match example(&below) {
                            Some(example) => fault.hint(format!("for instance {example}")),
                            None => fault,
                        });
                    }
                    let placeholder = placeholder(place.key(name));
                    table.insert(Spanned::new(span.clone(), name.into()), Spanned::new(span.clone(), placeholder));
                }
            }
        }
        DeValue::Array(list) => {
            if let Some(place) = place.element() {
                for (index, value) in list.iter_mut().enumerate() {
                    if !check_types(value, &format!("{key}[{index}]"), place, faults) {
                        *value.get_mut() = placeholder(Some(place));
                    }
                }
            }
        }
        _ => {}
    }
    true
}

/// A placeholder for a missing or wrong value, so that the rest can be read.
fn placeholder(place: Option<SchemaNode>) -> DeValue<'static> {
    let takes = place.map(SchemaNode::takes).unwrap_or_default();
    let choice = place.and_then(SchemaNode::choice);
    if takes.list && !takes.text {
        DeValue::Array(DeArray::new())
    } else if takes.table && !takes.text {
        DeValue::Table(DeTable::new())
    } else if takes.truth && !takes.text {
        DeValue::Boolean(false)
    } else if takes.whole && !takes.text {
        DeValue::Integer(toml::de::DeInteger::default())
    } else {
        DeValue::String(choice.unwrap_or_default().into())
    }
}

/// Removes a wrong value, or replaces it by a placeholder if the key is required.
fn remove_or_replace(value: &mut Spanned<DeValue<'_>>, steps: &[Step], place: Option<SchemaNode>) -> bool {
    let Some(last) = steps.iter().rposition(|step| matches!(step, Step::Key(_))) else { return false };
    let (mut value, mut place) = (value, place);
    for step in &steps[..last] {
        match (step, value.get_mut()) {
            (Step::Key(name), DeValue::Table(table)) => match table.get_mut(name.as_str()) {
                Some(below) => (value, place) = (below, place.and_then(|place| place.key(name))),
                None => return false,
            },
            (Step::Index(index), DeValue::Array(list)) => match list.get_mut(*index) {
                Some(below) => (value, place) = (below, place.and_then(SchemaNode::element)),
                None => return false,
            },
            _ => return false,
        }
    }
    let (Step::Key(name), DeValue::Table(table)) = (&steps[last], value.get_mut()) else { return false };
    let Some((key, old)) = table.remove_entry(name.as_str()) else { return false };
    if let Some(place) = place.filter(|place| place.required().contains(&name.as_str())) {
        let new = placeholder(place.key(name));
        // A placeholder that is refused too would be refused forever.
        let is_same = matches!((&new, old.get_ref()), (DeValue::String(new), DeValue::String(old)) if new == old);
        if is_same {
            return false;
        }
        table.insert(key, Spanned::new(old.span(), new));
    }
    true
}

/// The steps to the value at a span.
fn steps_to(value: &Spanned<DeValue<'_>>, at: &Range<usize>) -> Option<Vec<Step>> {
    let holds = |span: Range<usize>| !span.is_empty() && span.start <= at.start && at.end <= span.end;
    let below = |step: Step, value: &Spanned<DeValue<'_>>| steps_to(value, at).map(|rest| [vec![step], rest].concat());
    match value.get_ref() {
        DeValue::Table(table) => table.iter().find_map(|(name, value)| {
            let step = Step::Key(name.get_ref().to_string());
            below(step.clone(), value).or_else(|| (holds(name.span()) || holds(value.span())).then(|| vec![step]))
        }),
        DeValue::Array(array) => array.iter().enumerate().find_map(|(index, value)| below(Step::Index(index), value)),
        _ => None,
    }
}
