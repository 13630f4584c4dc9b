//! A configuration as it was written: values with their places, and the overrides.

use crate::{expression::nearest, fault::Fault};
use serde::de::DeserializeOwned;
use std::{fmt::Write, ops::Range};
use toml::{
    Spanned,
    de::{DeTable, DeValue, ValueDeserializer},
};

/// The prefix of environment variables that override keys.
const PREFIX: &str = "AIMPOINT__";

/// Sections whose keys are librdkafka's, with dots where an environment variable has underscores.
const CLIENT_SECTIONS: [&str; 3] = ["client", "consumer", "producer"];

/// A parsed configuration that knows where everything stands.
#[derive(Debug)]
pub struct Document {
    name: String,
    text: String,
    overrides: Vec<Override>,
}

/// A key that was set outside the file.
#[derive(Debug)]
struct Override {
    parts: Vec<String>,
    value: String,
    /// The variable or flag that set it.
    origin: String,
}

impl Document {
    /// Parses a file's text; `name` is what messages call it.
    ///
    /// # Errors
    /// All places where it is not TOML, explained.
    pub fn parse(name: &str, text: String) -> Result<Self, String> {
        let document = Self { name: name.to_owned(), text, overrides: Vec::new() };
        let (_, errors) = DeTable::parse_recoverable(&document.text);
        if errors.is_empty() {
            return Ok(document);
        }
        let explained = errors.iter().map(|error| {
            let at = error.span().map(|span| document.place(span.start));
            document.show(at, None, &format!("this is not TOML: {}", error.message().replace('\n', ", ")), None)
        });
        Err(explained.collect())
    }

    /// The values with their places, the overrides among them without any.
    fn root(&self) -> DeTable<'_> {
        let (root, _) = DeTable::parse_recoverable(&self.text);
        let mut root = root.into_inner();
        for (index, Override { parts, value, .. }) in self.overrides.iter().enumerate() {
            let Some((last, sections)) = parts.split_last() else { continue };
            let mut table = &mut root;
            for section in sections {
                let fresh = || Spanned::new(0..0, DeValue::Table(DeTable::new()));
                let entry = table.entry(Spanned::new(0..0, section.into())).or_insert_with(fresh);
                // A value in the place of a section gives way: the section's own fault tells of what is missing.
                if entry.get_ref().as_table().is_none() {
                    *entry = fresh();
                }
                let DeValue::Table(next) = entry.get_mut() else { unreachable!("it was just made one") };
                table = next;
            }
            // What is no TOML value is text: 10ms, localhost:9092.
            let value = DeValue::parse(value).map_or_else(|_| DeValue::String(value.into()), Spanned::into_inner);
            let key = Spanned::new(0..0, last.into());
            table.remove(last.as_str());
            // A place behind the text, so that an error in it is found to be an error of this key.
            let place = self.text.len() + index;
            table.insert(key, Spanned::new(place..place + 1, value));
        }
        root
    }

    /// Applies an environment variable, if it is one of ours.
    pub(super) fn set_from_environment(&mut self, name: &str, value: &str) {
        let Some(path) = name.strip_prefix(PREFIX) else { return };
        let mut parts: Vec<String> = path.split("__").map(str::to_lowercase).collect();
        if parts.len() == 3 && parts[0] == "kafka" && CLIENT_SECTIONS.contains(&parts[1].as_str()) {
            parts[2] = parts[2].replace('_', ".");
        }
        self.overrides.push(Override { parts, value: value.to_owned(), origin: name.to_owned() });
    }

    /// Applies a `key=value` of the command line.
    pub(super) fn set_from_flag(&mut self, set: &str, faults: &mut Vec<Fault>) {
        let Some((key, value)) = set.split_once('=') else {
            faults.push(Fault::new(set, "--set takes key=value").hint("for instance --set commit.interval=10ms"));
            return;
        };
        let line = format!("{} = 0", key.trim());
        let Ok(table) = DeTable::parse(&line) else {
            faults.push(Fault::new(key, "this is no key").hint("for instance kafka.client.\"security.protocol\""));
            return;
        };
        let mut parts = Vec::new();
        let mut table = table.get_ref();
        while let Some((part, below)) = table.iter().next() {
            parts.push(part.get_ref().to_string());
            let Some(next) = below.get_ref().as_table() else { break };
            table = next;
        }
        self.overrides.push(Override { parts, value: value.trim().to_owned(), origin: format!("--set {key}") });
    }

    /// Reads sections out of the document.
    pub(super) fn reader<'a>(&'a self, faults: &'a mut Vec<Fault>) -> Reader<'a> {
        Reader { root: self.root(), faults, known: Vec::new() }
    }

    /// The faults for people: place, line, and what to do next.
    pub fn explain(&self, faults: &[Fault]) -> String {
        let mut out = String::new();
        let root = self.root();
        for fault in faults {
            let set = |it: &&Override| fault.key.starts_with(&it.parts.join("."));
            let origin = self.overrides.iter().rfind(set).map(|it| it.origin.as_str());
            let at = match origin {
                Some(_) => None,
                None => find(&root, &fault.key).map(|span| match fault.at {
                    Some(inside) => self.inside(&span, inside),
                    None => self.place(span.start),
                }),
            };
            let message = format!("{}: {}", fault.key, fault.message);
            out += &self.show(at, origin, &message, fault.hint.as_deref());
        }
        out
    }

    /// Line and column of a byte, from 1.
    fn place(&self, byte: usize) -> (usize, usize) {
        let before = self.text.get(..byte).unwrap_or(&self.text);
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        (before.matches('\n').count() + 1, column)
    }

    /// The place of a line and column inside a string's value. Escapes before it on its line would shift it; rules are
    /// written in literal strings, which have none.
    fn inside(&self, span: &Range<usize>, (line, column): (usize, usize)) -> (usize, usize) {
        let raw = self.text.get(span.clone()).unwrap_or_default();
        let (first_line, first_column) = self.place(span.start);
        let quotes = if raw.starts_with("'''") || raw.starts_with("\"\"\"") { 3 } else { 1 };
        let skipped = usize::from(raw[quotes.min(raw.len())..].starts_with('\n'));
        match (line, skipped) {
            (1, 0) => (first_line, first_column + quotes + column - 1),
            _ => (first_line + line - 1 + skipped, column),
        }
    }

    fn show(&self, at: Option<(usize, usize)>, origin: Option<&str>, message: &str, hint: Option<&str>) -> String {
        let mut out = String::new();
        let mut put = |text: std::fmt::Arguments<'_>| out.write_fmt(text).expect("a string takes everything");
        match (at, origin) {
            (Some((line, column)), _) => {
                put(format_args!("{}:{line}:{column}: {message}\n", self.name));
                let text = self.text.lines().nth(line - 1).unwrap_or_default();
                put(format_args!("{line:5} | {text}\n      | {:>column$}\n", "^"));
            }
            (None, Some(origin)) => put(format_args!("{origin}: {message}\n")),
            (None, None) => put(format_args!("{}: {message}\n", self.name)),
        }
        if let Some(hint) = hint {
            put(format_args!("      = {hint}\n"));
        }
        out
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

impl Reader<'_> {
    /// A section that has defaults.
    pub(super) fn section<T: DeserializeOwned + Default>(&mut self, name: &'static str) -> T {
        self.optional(name).unwrap_or_default()
    }

    /// A section that may be absent.
    pub(super) fn optional<T: DeserializeOwned>(&mut self, name: &'static str) -> Option<T> {
        self.known.push(name);
        let value = self.root.get(name)?.clone();
        self.read(value, name)
    }

    /// A list of tables.
    pub(super) fn list<T: DeserializeOwned>(&mut self, name: &'static str) -> Vec<T> {
        self.known.push(name);
        let Some(value) = self.root.get(name).cloned() else { return Vec::new() };
        let DeValue::Array(elements) = value.into_inner() else {
            self.faults.push(
                Fault::new(name, format!("{name} is a list"))
                    .hint(format!("write [[{name}]] with two brackets for each")),
            );
            return Vec::new();
        };
        let elements = elements.into_iter().enumerate();
        elements.filter_map(|(index, element)| self.read(element, &format!("{name}[{index}]"))).collect()
    }

    fn read<T: DeserializeOwned>(&mut self, value: Spanned<DeValue<'_>>, key: &str) -> Option<T> {
        match T::deserialize(ValueDeserializer::from(value.clone())) {
            Ok(section) => Some(section),
            Err(error) => {
                let key = error.span().and_then(|span| key_at(&value, &span, key)).unwrap_or_else(|| key.to_owned());
                self.faults.push(Fault::new(key, error.message().trim().replace('\n', ", ")));
                None
            }
        }
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

/// The key of what stands at a place.
fn key_at(value: &Spanned<DeValue<'_>>, at: &Range<usize>, key: &str) -> Option<String> {
    let holds = |span: Range<usize>| !span.is_empty() && span.start <= at.start && at.end <= span.end;
    match value.get_ref() {
        DeValue::Table(table) => table.iter().find_map(|(name, value)| {
            let key = format!("{key}.{}", name.get_ref());
            key_at(value, at, &key).or_else(|| (holds(name.span()) || holds(value.span())).then_some(key))
        }),
        DeValue::Array(array) => {
            array.iter().enumerate().find_map(|(index, value)| key_at(value, at, &format!("{key}[{index}]")))
        }
        _ => None,
    }
}
