//! A configuration as it was written: values with their places, and the overrides.
//!
//! Guarantees: a fault is told with its place in the file, or with the variable or flag that set the key; no message shows a
//! secret, nor a value of which nobody knows what it is, whatever is wrong with the line that it stands on. Values from outside
//! the file are taken as they are written, by the type of their key: a text is never read as TOML.

use super::schema::{Place, example};
use crate::{config::ClientSettings, expression::nearest, fault::Fault, secret};
use serde::de::DeserializeOwned;
use std::{ffi::OsStr, fmt::Write, ops::Range};
use toml::{
    Spanned,
    de::{DeArray, DeTable, DeValue, ValueDeserializer},
};

/// The prefix of environment variables that override keys.
const PREFIX: &str = "AIMPOINT__";

/// Sections whose keys are librdkafka's, with dots where an environment variable has underscores.
const CLIENT_SECTIONS: [&str; 3] = ["client", "consumer", "producer"];

/// Sections where a value under a name that nobody knows may be a secret whose key was misspelt.
const SECRET_SECTIONS: [&str; 4] = ["kafka", "admin", "input", "otlp"];

/// Beyond so many faults nobody reads on.
const FAULTS_PLACED: usize = 500;

/// That many are shown.
const FAULTS_SHOWN: usize = 50;

/// The letters of a line that are shown around a fault, and those of a message.
const LINE_LETTERS: usize = 120;
const MESSAGE_LETTERS: usize = 1_500;

/// No key has more parts than that, and no value is nested deeper.
const DEPTH_MAX: usize = 16;

/// A parsed configuration that knows where everything stands.
#[derive(Debug)]
pub struct Document {
    name: String,
    text: String,
    /// Whether it is TOML. Where it is not, what a line means is a guess.
    is_sound: bool,
    overrides: Vec<Override>,
    /// What is no part of a message about this configuration.
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

/// What is known of a value by its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It may be shown.
    Open,
    /// There is no such key.
    Unknown,
    /// It is a secret, or may well be one.
    Secret,
}

/// Where a fault is told to be.
enum At {
    /// Line and column of the file.
    File(usize, usize),
    /// The variable or flag, by its number.
    Override(usize),
    /// Nowhere in particular.
    Nowhere,
}

impl Document {
    /// Whether a variable of the environment is one of ours.
    pub(super) fn is_ours(name: &OsStr) -> bool {
        name.as_encoded_bytes().starts_with(PREFIX.as_bytes())
    }

    /// Parses a file's text; `name` is what messages call it.
    ///
    /// # Errors
    /// The places where it is not TOML, explained.
    pub fn parse(name: &str, text: String) -> Result<Self, String> {
        let mut document = Self {
            name: name.to_owned(),
            text,
            is_sound: true,
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
            document.is_sound = false;
            let mut told: Vec<String> = errors
                .iter()
                .take(FAULTS_SHOWN)
                .map(|error| {
                    let at = error.span().map_or(At::Nowhere, |span| document.place(span.start));
                    document.show(&at, &format!("this is not TOML: {}", error.message().replace('\n', ", ")), None)
                })
                .collect();
            // Each of many open brackets is told of at the end.
            told.dedup();
            let mut explained = told.concat();
            document.say_how_many_more(errors.len(), &mut explained);
            return Err(explained);
        }
        if let Some(deep) = deep {
            let message = format!("tables and lists are nested more than {DEPTH_MAX} deep here, which no key needs");
            return Err(document.show(&document.place(deep), &message, None));
        }
        Ok(document)
    }

    /// The values with their places, the overrides among them with places behind the text: of the first one at its end, of the
    /// second one behind that, and so on.
    fn root(&self) -> DeTable<'_> {
        let (root, _) = DeTable::parse_recoverable(&self.text);
        let mut root = root.into_inner();
        // Librdkafka's settings are texts: a password is not to become another number.
        if let Some(DeValue::Table(kafka)) = root.get_mut("kafka").map(Spanned::get_mut) {
            for section in CLIENT_SECTIONS {
                kafka.get_mut(section).into_iter().for_each(|settings| as_written(&self.text, settings));
            }
        }
        for (index, Override { parts, value, .. }) in self.overrides.iter().enumerate() {
            let place = self.text.len() + index..self.text.len() + index + 1;
            let Some((last, sections)) = parts.split_last() else { continue };
            let mut table = &mut root;
            for section in sections {
                let fresh = || Spanned::new(place.clone(), DeValue::Table(DeTable::new()));
                let entry = table.entry(Spanned::new(place.clone(), section.into())).or_insert_with(fresh);
                // A value in the place of a section gives way: the section's own fault tells of what is missing.
                if entry.get_ref().as_table().is_none() {
                    *entry = fresh();
                }
                let DeValue::Table(next) = entry.get_mut() else { unreachable!("it was just made one") };
                table = next;
            }
            // What does not fit its key was told of when it was set.
            let value = typed(parts, value).unwrap_or_else(|_| DeValue::String(value.into()));
            table.remove(last.as_str());
            table.insert(Spanned::new(place.clone(), last.into()), Spanned::new(place, value));
        }
        root
    }

    /// Applies an environment variable that is ours.
    pub(super) fn set_from_environment(&mut self, name: &OsStr, value: &OsStr, faults: &mut Vec<Fault>) {
        let origin = name.to_string_lossy().into_owned();
        let path = origin.strip_prefix(PREFIX).unwrap_or_default();
        let mut parts: Vec<String> = path.split("__").map(str::to_lowercase).collect();
        if parts.iter().any(String::is_empty) {
            let hint = "write AIMPOINT__SECTION__KEY, such as AIMPOINT__KAFKA__BROKERS";
            faults.push(Fault::new("", "the variable's name names no key").hint(hint));
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

    /// Applies a `key=value` of the command line, the one of this number.
    pub(super) fn set_from_flag(&mut self, index: usize, set: &str, faults: &mut Vec<Fault>) {
        let Some((key, value)) = set.split_once('=') else {
            // What stands there may be a value, and a secret one.
            let message = format!("--set takes key=value, and number {} has no \"=\"", index + 1);
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
            let message = format!("the key of number {} cannot be read", index + 1);
            faults.push(Fault::new("--set", message).hint("for instance kafka.client.\"security.protocol\""));
            return;
        }
        self.set(parts, value.to_owned(), format!("--set {key}"), faults);
    }

    fn set(&mut self, mut parts: Vec<String>, value: String, origin: String, faults: &mut Vec<Fault>) {
        // A setting of the client is one key, with or without quotes around its dots.
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
        // The names in a table are no secrets.
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

    /// How many elements a list at the top was written with.
    pub(super) fn count(&self, name: &str) -> usize {
        self.root().get(name).and_then(|it| it.get_ref().as_array()).map_or(0, |list| list.len())
    }

    /// The faults for people: place, line, and what to do next, in the order of the file.
    pub fn explain(&self, faults: &[Fault]) -> String {
        let root = self.root();
        // Finding the place of one takes as long as the file is.
        let mut placed: Vec<(At, &Fault)> =
            faults.iter().take(FAULTS_PLACED).map(|fault| (self.at(&root, fault), fault)).collect();
        placed.sort_by_key(|(at, _)| match at {
            At::Override(index) => (0, *index, 0),
            At::File(line, column) => (1, *line, *column),
            At::Nowhere => (2, 0, 0),
        });
        let mut out = String::new();
        for (at, fault) in placed.iter().take(FAULTS_SHOWN) {
            // A name that goes on with a value is one whose quotes are wrong.
            let key = fault.key.split('=').next().unwrap_or_default().trim_end();
            let message = match key {
                "" => fault.message.clone(),
                key => format!("{}: {}", clipped(key, LINE_LETTERS), fault.message),
            };
            out += &self.show(at, &message, fault.hint.as_deref());
        }
        self.say_how_many_more(faults.len(), &mut out);
        out
    }

    fn say_how_many_more(&self, count: usize, out: &mut String) {
        if count > FAULTS_SHOWN {
            writeln!(out, "{}: and {} more", self.name, count - FAULTS_SHOWN).expect("a string takes everything");
        }
    }

    /// Where a fault is.
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

    /// Line and column of a byte, from 1.
    fn place(&self, byte: usize) -> At {
        let mut byte = byte.min(self.text.len());
        while !self.text.is_char_boundary(byte) {
            byte -= 1;
        }
        let before = &self.text[..byte];
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        At::File(before.matches('\n').count() + 1, column)
    }

    /// The place of a line and column inside a string's value. Escapes before it on its line would shift it; rules are
    /// written in literal strings, which have none.
    fn inside(&self, span: &Range<usize>, (line, column): (usize, usize)) -> At {
        let raw = self.text.get(span.clone()).unwrap_or_default();
        let At::File(first_line, first_column) = self.place(span.start) else { return At::Nowhere };
        let quotes = match raw.as_bytes().first() {
            Some(b'\'' | b'"') if raw.starts_with("'''") || raw.starts_with("\"\"\"") => 3,
            Some(b'\'' | b'"') => 1,
            // The key itself is missing, and this is its section.
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
        let message = clipped(message, MESSAGE_LETTERS);
        let written = match at {
            At::File(line, column) => {
                let (text, shown) = excerpt(&self.shown_line(*line, *column));
                writeln!(out, "{}:{line}:{column}: {message}\n{line:5} | {text}", self.name)
                    .and_then(|()| writeln!(out, "      | {}^", " ".repeat(shown - 1)))
            }
            At::Override(index) => {
                let origin = self.overrides.get(*index).map_or("", |it| it.origin.as_str());
                writeln!(out, "{}: {message}", clipped(origin, LINE_LETTERS))
            }
            At::Nowhere if message.starts_with("--set") => writeln!(out, "{message}"),
            At::Nowhere => writeln!(out, "{}: {message}", self.name),
        };
        written.expect("a string takes everything");
        if let Some(hint) = hint {
            writeln!(out, "      = {}", clipped(hint, MESSAGE_LETTERS)).expect("a string takes everything");
        }
        self.secrets.scrub(&out).into_owned()
    }

    /// A line as it may be shown, with the column that stands for one of the whole line. What a line means follows from those
    /// before it. Where the text is no TOML that is a guess, and what cannot be told is hidden.
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
                    // An end that was forgotten makes texts of all that follows.
                    let is_text = self.is_sound || !looks_like_a_key(trimmed) && !secret::is_secret_name(trimmed);
                    return if is_open && is_text { as_it_is } else { hidden };
                }
                if line.contains(end) {
                    quotes = None;
                }
            } else if trimmed.is_empty() || trimmed.starts_with('#') {
                if is_it {
                    let is_told =
                        secret::is_secret_name(trimmed) || !self.is_sound && trimmed.contains(['=', '"', '\'']);
                    return if is_told { hidden } else { as_it_is };
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
                is_open = standing(&names) == Standing::Open && !secret::is_secret_name(behind(value));
                if is_it {
                    // A name with such letters is one whose quotes are wrong: it may hold the value.
                    if parts.iter().any(|part| part.contains(|it: char| it == '=' || it.is_whitespace())) {
                        return hidden;
                    }
                    // Where the file is no TOML, a value ends where it should, and what follows it may be anything.
                    let whole = if self.is_sound { value.len() } else { end_of_value(value) };
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
                // A key without its sign, or a part of a value of several lines.
                let is_known =
                    self.is_sound || !section.first().is_some_and(|it| SECRET_SECTIONS.contains(&it.as_str()));
                return if is_open && is_known && !secret::is_secret_name(trimmed) { as_it_is } else { hidden };
            }
        }
        (String::new(), 1)
    }
}

/// Whether a key is this one, or one of its members or elements.
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

/// A line's key and what follows it.
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

/// The parts of a key as it is written.
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

/// Whether a line of what should be a text is rather a key with its value: a rule compares, and it has no names in brackets.
fn looks_like_a_key(line: &str) -> bool {
    let compares = ["==", "!=", "<=", ">="].iter().any(|sign| line.contains(sign));
    header(line).is_some() || line.contains('=') && !compares
}

/// How much of what stands behind a key's sign is surely its value, with a comment or a comma and closing brackets behind it: a
/// text in quotes, a bare word, or a list of such. A table has keys of its own, which nobody has looked at.
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
        // A text whose end was forgotten may go on with another key.
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
            // A comment may hold an older value.
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

/// What stands behind a value on its line, such as a comment; all of it where the value does not end there.
fn behind(value: &str) -> &str {
    let value = value.trim();
    let Some(quote) = value.chars().next().filter(|first| matches!(first, '"' | '\'')) else {
        return value.find('#').map_or("", |at| &value[at..]);
    };
    match value[1..].rfind(quote) {
        Some(end) => &value[end + 2..],
        None => value,
    }
}

/// A line of bounded length around a column, without what a terminal would act on.
fn excerpt((line, column): &(String, usize)) -> (String, usize) {
    let clean = |letter: char| if letter.is_control() { ' ' } else { letter };
    let letters: Vec<char> = line.chars().map(clean).collect();
    let column = (*column).clamp(1, letters.len() + 1);
    if letters.len() <= LINE_LETTERS {
        return (letters.into_iter().collect(), column);
    }
    let start = (column - 1).saturating_sub(LINE_LETTERS / 2).min(letters.len() - LINE_LETTERS);
    let end = start + LINE_LETTERS;
    let (before, after) = (if start > 0 { "…" } else { "" }, if end < letters.len() { "…" } else { "" });
    let part: String = letters[start..end].iter().collect();
    (format!("{before}{part}{after}"), column - start + before.chars().count())
}

/// A text of bounded length, without what a terminal would act on. What is wrong with a long value stands behind it, so the end
/// is kept, too.
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

/// What is known of the value of a key, lists left out.
fn standing(names: &[&str]) -> Standing {
    if let ["kafka", section, name @ ..] = names
        && CLIENT_SECTIONS.contains(section)
    {
        let name = name.join(".");
        return if ClientSettings::shows(&name) { Standing::Open } else { Standing::Secret };
    }
    let mut place = Place::root();
    for name in names {
        let below = place.element().unwrap_or(place).key(name);
        match below {
            Some(below) => place = below,
            None if names.iter().any(|name| secret::is_secret_name(name)) => return Standing::Secret,
            None => return Standing::Unknown,
        }
    }
    if names == ["kafka"] || place.holds_secret() { Standing::Secret } else { Standing::Open }
}

/// Has a value taken out of messages, if its key says that it is a secret or may be one.
fn remember_by(names: &[&str], value: &str, secrets: &mut secret::Known) {
    let is_secret = match standing(names) {
        Standing::Secret => true,
        // Short ones are rather a word that is known elsewhere.
        Standing::Unknown => names.first().is_some_and(|it| SECRET_SECTIONS.contains(it)) && value.len() >= 8,
        Standing::Open => {
            // Addresses are refused where they hold a user, a password or a token, and the refusal must not show them.
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

/// Where a table is nested too deep, if one is.
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

/// Makes numbers, dates and truth values the texts that they are written as.
fn as_written<'a>(text: &'a str, value: &mut Spanned<DeValue<'a>>) {
    let span = value.span();
    match value.get_mut() {
        DeValue::Table(table) => {
            let names: Vec<String> = table.keys().map(|name| name.get_ref().to_string()).collect();
            names.iter().filter_map(|name| table.get_mut(name.as_str()).map(|it| as_written(text, it))).for_each(drop);
        }
        DeValue::Array(_) | DeValue::String(_) => {}
        scalar => {
            if let Some(written) = text.get(span) {
                *scalar = DeValue::String(written.into());
            }
        }
    }
}

/// Whether this is one of librdkafka's settings.
fn is_client(parts: &[String]) -> bool {
    matches!(parts, [kafka, section, _, ..] if kafka == "kafka" && CLIENT_SECTIONS.contains(&section.as_str()))
}

/// A value from outside the file, by the type of its key: a text as it is written; numbers, lists and tables as TOML has them.
fn typed<'a>(parts: &[String], value: &'a str) -> Result<DeValue<'a>, String> {
    let text = || Ok(DeValue::String(value.into()));
    if is_client(parts) {
        return text();
    }
    let mut place = Place::root();
    for part in parts {
        match place.key(part) {
            Some(below) => place = below,
            // There is no such key, and that is what is told.
            None => return text(),
        }
    }
    let takes = place.takes();
    let starts = |letter: char| value.trim_start().starts_with(letter);
    if takes.text && !(takes.table && starts('{') || takes.list && starts('[')) {
        return text();
    }
    let parsed = DeValue::parse(value.trim()).map(Spanned::into_inner).ok();
    // What a secret section is given in its place is not quoted.
    let found = if standing(&parts.iter().map(String::as_str).collect::<Vec<_>>()) == Standing::Open {
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
        _ if takes.list => Err(format!("expected a list as TOML has it, such as [\"a\", \"b\"]{found}")),
        _ => Err(format!("expected a table as TOML has it, such as {{ a = 1, b = 2 }}{found}")),
    }
}

/// Where the value of a key stands, or of the nearest key above it that was written.
fn find(root: &DeTable<'_>, key: &str) -> Option<Range<usize>> {
    let mut table = root;
    let mut rest = key;
    let mut found = None;
    loop {
        // Keys may have dots of their own, so the longest that fits is taken.
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

/// Takes sections out of a document, one after another, and notes what is wrong with each.
pub(super) struct Reader<'a> {
    root: DeTable<'a>,
    faults: &'a mut Vec<Fault>,
    known: Vec<&'static str>,
}

/// A way from a value to one inside it.
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

    /// A section that may be absent.
    pub(super) fn optional<T: DeserializeOwned>(&mut self, name: &'static str) -> Option<T> {
        self.known.push(name);
        let value = self.root.get(name)?.clone();
        self.read(value, name, Place::root().key(name))
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
                    .hint(format!("write [[{name}]] with two brackets for each")),
            );
            return Vec::new();
        };
        let place = Place::root().key(name).and_then(Place::element);
        let elements = elements.into_iter().enumerate();
        elements.filter_map(|(index, element)| self.read(element, &format!("{name}[{index}]"), place)).collect()
    }

    /// Notes everything that is wrong with a section. What is wrong is left out, or something stands in for it, so that it
    /// hides nothing else.
    fn read<T: DeserializeOwned>(
        &mut self,
        mut value: Spanned<DeValue<'_>>,
        key: &str,
        place: Option<Place>,
    ) -> Option<T> {
        if let Some(place) = place
            && !fits(&mut value, key, place, self.faults)
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
            // What was taken out for its own fault is missing now, which is no news.
            let missing = error.message().strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
            let missing = missing.map(|name| format!("{key}.{name}"));
            let is_told = |fault: &Fault| {
                is_at_or_below(&key, &fault.key) || missing.as_ref().is_some_and(|missing| fault.key == *missing)
            };
            if !self.faults.iter().any(is_told) {
                let fault = Fault::new(&key, plain(&error.message().trim().replace('\n', ", ")));
                self.faults.push(match example(&key) {
                    Some(example) => fault.hint(format!("for instance {example}")),
                    None => fault,
                });
            }
            if !give_way(&mut value, &steps, place) {
                return None;
            }
        }
        None
    }

    /// Notes the sections that nobody asked for.
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

/// What a deserializer says, in the words of who writes a configuration.
fn plain(message: &str) -> String {
    if let Some(text) =
        message.strip_prefix("invalid value: string ").and_then(|it| it.strip_suffix(", expected parsable string"))
    {
        return format!("{text} is no size; write a whole number and its unit");
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

/// Notes what is of another type than its key takes, keys that there are not, and keys that are missing; false where the whole
/// value cannot be used.
fn fits(value: &mut Spanned<DeValue<'_>>, key: &str, place: Place, faults: &mut Vec<Fault>) -> bool {
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
        // What came from outside was told of when it was set.
        if !faults.iter().any(|fault| fault.key == key) {
            let fault = Fault::new(key, format!("expected {}, found {found}", wanted.join(" or ")));
            faults.push(match example(key) {
                Some(example) => fault.hint(format!("for instance {example}")),
                None => fault,
            });
        }
        return false;
    }
    // Librdkafka's names are asked for by themselves.
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
                        if !fits(value, &below, place, faults) {
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
                    let stand_in = stand_in(place.key(name));
                    table.insert(Spanned::new(span.clone(), name.into()), Spanned::new(span.clone(), stand_in));
                }
            }
        }
        DeValue::Array(list) => {
            if let Some(place) = place.element() {
                for (index, value) in list.iter_mut().enumerate() {
                    if !fits(value, &format!("{key}[{index}]"), place, faults) {
                        *value.get_mut() = stand_in(Some(place));
                    }
                }
            }
        }
        _ => {}
    }
    true
}

/// A value that stands in for one that is missing or wrong, so that what follows can be read.
fn stand_in(place: Option<Place>) -> DeValue<'static> {
    let takes = place.map(Place::takes).unwrap_or_default();
    let choice = place.and_then(Place::choice);
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

/// Takes a wrong value out, or has another stand in where there has to be one.
fn give_way(value: &mut Spanned<DeValue<'_>>, steps: &[Step], place: Option<Place>) -> bool {
    let Some(last) = steps.iter().rposition(|step| matches!(step, Step::Key(_))) else { return false };
    let (mut value, mut place) = (value, place);
    for step in &steps[..last] {
        match (step, value.get_mut()) {
            (Step::Key(name), DeValue::Table(table)) => match table.get_mut(name.as_str()) {
                Some(below) => (value, place) = (below, place.and_then(|place| place.key(name))),
                None => return false,
            },
            (Step::Index(index), DeValue::Array(list)) => match list.get_mut(*index) {
                Some(below) => (value, place) = (below, place.and_then(Place::element)),
                None => return false,
            },
            _ => return false,
        }
    }
    let (Step::Key(name), DeValue::Table(table)) = (&steps[last], value.get_mut()) else { return false };
    let Some((key, old)) = table.remove_entry(name.as_str()) else { return false };
    if let Some(place) = place.filter(|place| place.required().contains(&name.as_str())) {
        let new = stand_in(place.key(name));
        // What stands in and is refused, too, would be so for ever.
        let is_same = matches!((&new, old.get_ref()), (DeValue::String(new), DeValue::String(old)) if new == old);
        if is_same {
            return false;
        }
        table.insert(key, Spanned::new(old.span(), new));
    }
    true
}

/// The way to what stands at a place.
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
