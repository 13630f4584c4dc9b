//! Reads a brief and reports all faults with their lines.

use super::{BUSINESS_NAME_MAX, Brief, BriefTheme, Fact, RESPONSIVE_DISPLAY, TextLimits, Tone};
use crate::{
    content::{gates::seen_length, is_language},
    targeting::AudienceSpec,
};
use std::{collections::HashSet, fmt};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

const BYTES_MAX: usize = 64 << 10;
const THEMES_MAX: usize = 8;
const FACTS_MAX: usize = 32;
const ID_LETTERS_MAX: usize = 24;
const TEXT_LETTERS_MAX: usize = 300;

/// A fault of a brief.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BriefFault {
    /// The line, from 1.
    pub line: usize,
    /// The key.
    pub key: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl fmt::Display for BriefFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BriefFault { line, key, message } = self;
        if key.is_empty() { write!(f, "line {line}: {message}") } else { write!(f, "line {line}: {key}: {message}") }
    }
}

/// Reads a brief.
///
/// # Errors
/// All faults, by line.
pub fn read(text: &str) -> Result<Brief, Vec<BriefFault>> {
    if text.len() > BYTES_MAX {
        let message = format!("the file has {} bytes, and a brief has at most {BYTES_MAX}", text.len());
        return Err(vec![BriefFault { line: 1, key: String::new(), message }]);
    }
    let mut reader = Reader { text, faults: Vec::new() };
    let brief = match DeTable::parse(text) {
        Ok(table) => reader.brief(&Table { path: String::new(), at: 0, entries: table.get_ref() }),
        Err(error) => {
            let at = error.span().map_or(0, |span| span.start);
            reader.fault(at, "", error.message().to_owned());
            None
        }
    };
    reader.faults.sort_by_key(|fault| fault.line);
    match brief {
        Some(brief) if reader.faults.is_empty() => Ok(brief),
        _ => Err(reader.faults),
    }
}

struct Reader<'a> {
    text: &'a str,
    faults: Vec<BriefFault>,
}

/// A table with its place.
struct Table<'a> {
    path: String,
    at: usize,
    entries: &'a DeTable<'a>,
}

impl Table<'_> {
    fn key(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    fn get(&self, name: &str) -> Option<&Spanned<DeValue<'_>>> {
        self.entries.get(name)
    }

    /// Where a key stands, or the table if it is absent.
    fn at(&self, name: &str) -> usize {
        self.get(name).map_or(self.at, |value| value.span().start)
    }
}

impl Reader<'_> {
    fn fault(&mut self, at: usize, key: &str, message: impl Into<String>) {
        let line = 1 + self.text.get(..at).unwrap_or_default().matches('\n').count();
        self.faults.push(BriefFault { line, key: key.to_owned(), message: message.into() });
    }

    fn known(&mut self, table: &Table<'_>, names: &[&str]) {
        for (key, _) in table.entries {
            let name = key.get_ref().as_ref();
            if !names.contains(&name) {
                let message = format!("there is no such key here; write one of {}", names.join(", "));
                self.fault(key.span().start, &table.key(name), message);
            }
        }
    }

    fn string(&mut self, table: &Table<'_>, name: &str) -> Option<String> {
        let value = table.get(name)?;
        let text = value.get_ref().as_str().map(|text| text.trim().to_owned());
        match text {
            Some(text) if !text.is_empty() && text.chars().count() <= TEXT_LETTERS_MAX => return Some(text),
            Some(text) if text.is_empty() => {
                self.fault(value.span().start, &table.key(name), "the text is empty; write it, or remove the key");
            }
            Some(text) => {
                let message =
                    format!("{} characters, and at most {TEXT_LETTERS_MAX} are read; shorten it", text.chars().count());
                self.fault(value.span().start, &table.key(name), message);
            }
            None => self.fault(value.span().start, &table.key(name), "expected a text in quotes"),
        }
        None
    }

    fn required(&mut self, table: &Table<'_>, name: &str) -> Option<String> {
        if table.get(name).is_none() {
            self.fault(table.at, &table.key(name), "this key is missing");
        }
        self.string(table, name)
    }

    fn id(&mut self, table: &Table<'_>, name: &str) -> Option<String> {
        let id = self.required(table, name)?;
        let is_id = id.len() <= ID_LETTERS_MAX
            && id.bytes().all(|it| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'_' | b'.'));
        if !is_id {
            let message = format!("{id:?} is not an id; write up to {ID_LETTERS_MAX} letters, digits, - or _");
            self.fault(table.at(name), &table.key(name), message);
        }
        is_id.then_some(id)
    }

    fn strings(&mut self, table: &Table<'_>, name: &str) -> Vec<String> {
        let Some(value) = table.get(name) else { return Vec::new() };
        let Some(items) = value.get_ref().as_array() else {
            self.fault(value.span().start, &table.key(name), "expected texts in brackets, such as [\"one\", \"two\"]");
            return Vec::new();
        };
        let mut found = Vec::new();
        for item in items {
            match item.get_ref().as_str().map(str::trim) {
                Some(text) if !text.is_empty() && text.chars().count() <= TEXT_LETTERS_MAX => {
                    found.push(text.to_owned());
                }
                _ => self.fault(
                    item.span().start,
                    &table.key(name),
                    format!("expected texts of 1 to {TEXT_LETTERS_MAX} characters"),
                ),
            }
        }
        found
    }

    fn tables<'t>(&mut self, table: &'t Table<'t>, name: &str, most: usize) -> Vec<Table<'t>> {
        let Some(value) = table.get(name) else { return Vec::new() };
        let items = value.get_ref().as_array();
        let found: Vec<_> = items.into_iter().flat_map(|items| items.iter().enumerate()).collect();
        if items.is_none() || found.len() > most || found.iter().any(|(_, item)| !item.get_ref().is_table()) {
            self.fault(
                value.span().start,
                &table.key(name),
                format!("expected at most {most} tables, each under [[{name}]]"),
            );
            return Vec::new();
        }
        let one = |(index, item): (usize, &'t Spanned<DeValue<'t>>)| {
            let entries = item.get_ref().as_table()?;
            Some(Table { path: format!("{}[{index}]", table.key(name)), at: item.span().start, entries })
        };
        found.into_iter().filter_map(one).collect()
    }

    fn table<'t>(&mut self, table: &'t Table<'t>, name: &str) -> Option<Table<'t>> {
        let value = table.get(name)?;
        let entries = value.get_ref().as_table();
        if entries.is_none() {
            self.fault(
                value.span().start,
                &table.key(name),
                format!("expected a table: write [{name}] above its keys"),
            );
        }
        Some(Table { path: table.key(name), at: value.span().start, entries: entries? })
    }

    fn brief(&mut self, root: &Table<'_>) -> Option<Brief> {
        self.known(
            root,
            &[
                "id",
                "campaign",
                "language",
                "tone",
                "platform",
                "landing_page",
                "business_name",
                "audience",
                "segments",
                "limits",
                "avoid",
                "proof",
                "domains",
                "theme",
                "fact",
            ],
        );
        let id = self.id(root, "id");
        let campaign = self.required(root, "campaign");
        let language = self.language(root);
        let tone = self.tone(root);
        self.platform(root);
        let landing_page = self.required(root, "landing_page");
        if landing_page.as_ref().is_some_and(|url| !url.starts_with("https://")) {
            self.fault(
                root.at("landing_page"),
                "landing_page",
                "write a full address, such as \"https://shop.example/summer\"",
            );
        }
        let business_name = self.string(root, "business_name");
        if business_name.as_ref().is_some_and(|name| seen_length(name) > BUSINESS_NAME_MAX) {
            let message = format!("a business name has at most {BUSINESS_NAME_MAX} characters; shorten it");
            self.fault(root.at("business_name"), "business_name", message);
        }
        let audience = self.required(root, "audience");
        let segments = self.segments(root);
        let limits = self.limits(root);
        let facts = self.facts(root);
        let themes = self.themes(root, &facts);
        let [avoid, proof, domains] = ["avoid", "proof", "domains"].map(|name| self.strings(root, name));
        for domain in &domains {
            if domain.contains('/') || !domain.contains('.') {
                self.fault(
                    root.at("domains"),
                    "domains",
                    format!("{domain:?} is not a domain; write one such as \"shop.example\""),
                );
            }
        }
        Some(Brief {
            id: id?,
            campaign: campaign?,
            language: language?,
            tone,
            landing_page: landing_page?,
            business_name,
            audience: audience?,
            segments,
            limits,
            avoid,
            proof,
            domains,
            themes,
            facts,
        })
    }

    fn language(&mut self, root: &Table<'_>) -> Option<String> {
        let language = self.required(root, "language")?;
        if !is_language(&language) {
            self.fault(
                root.at("language"),
                "language",
                format!("{language:?} is not known here; write a code such as \"en\" or \"de\""),
            );
        }
        Some(language)
    }

    fn tone(&mut self, root: &Table<'_>) -> Tone {
        match self.string(root, "tone").as_deref() {
            None | Some("plain") => Tone::Plain,
            Some("warm") => Tone::Warm,
            Some("bold") => Tone::Bold,
            Some(other) => {
                self.fault(
                    root.at("tone"),
                    "tone",
                    format!("{other:?} is not a tone; write \"plain\", \"warm\" or \"bold\""),
                );
                Tone::Plain
            }
        }
    }

    fn platform(&mut self, root: &Table<'_>) {
        if let Some(platform) = self.string(root, "platform")
            && platform != "google_responsive_display"
        {
            let message = format!(
                "{platform:?} is not known; write \"google_responsive_display\", and lower its limits in [limits]"
            );
            self.fault(root.at("platform"), "platform", message);
        }
    }

    fn segments(&mut self, root: &Table<'_>) -> AudienceSpec {
        let Some(table) = self.table(root, "segments") else { return AudienceSpec::default() };
        self.known(&table, &["any", "all", "none"]);
        let [any, all, none] = ["any", "all", "none"].map(|name| self.strings(&table, name));
        AudienceSpec { any, all, none }
    }

    fn limits(&mut self, root: &Table<'_>) -> TextLimits {
        let mut limits = RESPONSIVE_DISPLAY;
        let Some(table) = self.table(root, "limits") else { return limits };
        self.known(&table, &["headline", "long_headline", "description"]);
        for (name, limit) in [
            ("headline", &mut limits.headline),
            ("long_headline", &mut limits.long_headline),
            ("description", &mut limits.description),
        ] {
            let Some(value) = table.get(name) else { continue };
            let number = value.get_ref().as_integer().and_then(|it| it.as_str().parse().ok());
            match number.filter(|number| (10..=*limit).contains(number)) {
                Some(number) => *limit = number,
                None => self.fault(
                    table.at(name),
                    &table.key(name),
                    format!("expected a whole number from 10 to {limit}, the platform's limit"),
                ),
            }
        }
        limits
    }

    fn facts(&mut self, root: &Table<'_>) -> Vec<Fact> {
        let mut seen = HashSet::new();
        let mut facts = Vec::new();
        for table in self.tables(root, "fact", FACTS_MAX) {
            self.known(&table, &["id", "text", "short"]);
            let (id, text, short) =
                (self.id(&table, "id"), self.required(&table, "text"), self.string(&table, "short"));
            let (Some(id), Some(text)) = (id, text) else { continue };
            if !seen.insert(id.clone()) {
                self.fault(
                    table.at("id"),
                    &table.key("id"),
                    format!("the fact {id:?} is declared twice; choose another id"),
                );
            }
            facts.push(Fact { id, text, short });
        }
        if root.get("fact").is_none() {
            self.fault(
                0,
                "fact",
                "there is no fact; add one under [[fact]] with id and text, because texts may only say what is true",
            );
        }
        facts
    }

    fn themes(&mut self, root: &Table<'_>, facts: &[Fact]) -> Vec<BriefTheme> {
        let mut seen = HashSet::new();
        let mut themes = Vec::new();
        for table in self.tables(root, "theme", THEMES_MAX) {
            self.known(&table, &["id", "words", "points", "facts"]);
            let id = self.id(&table, "id");
            let [words, points, of] = ["words", "points", "facts"].map(|name| self.strings(&table, name));
            if words.is_empty() {
                self.fault(
                    table.at("words"),
                    &table.key("words"),
                    "write the words of the theme, the most important first",
                );
            }
            for fact in of.iter().filter(|fact| !facts.iter().any(|it| it.id == **fact)) {
                self.fault(table.at("facts"), &table.key("facts"), format!("there is no fact {fact:?}"));
            }
            let Some(id) = id else { continue };
            if !seen.insert(id.clone()) {
                self.fault(
                    table.at("id"),
                    &table.key("id"),
                    format!("the theme {id:?} is declared twice; choose another id"),
                );
            }
            themes.push(BriefTheme { id, words, points, facts: of });
        }
        if root.get("theme").is_none() {
            self.fault(0, "theme", "there is no theme; add one under [[theme]] with id and words");
        }
        themes
    }
}
