//! Reads sections out of a document, and reports all errors of a section at once.

use super::{CLIENT_SECTIONS, FAULTS_SHOWN, is_at_or_below, lines::clipped};
use crate::{
    config::schema::{SchemaNode, example},
    config_error::ConfigError,
    expression::nearest,
};
use serde::de::DeserializeOwned;
use std::ops::Range;
use toml::{
    Spanned,
    de::{DeArray, DeTable, DeValue, ValueDeserializer},
};

/// Reads sections from a document one by one, and collects their errors.
pub(in crate::config) struct Reader<'a> {
    pub(super) root: DeTable<'a>,
    pub(super) errors: &'a mut Vec<ConfigError>,
    pub(super) known: Vec<&'static str>,
}

/// A step from a value to a value inside it.
#[derive(Clone, Debug)]
enum Step {
    Key(String),
    Index(usize),
}

impl Reader<'_> {
    /// A section that has defaults.
    pub(in crate::config) fn section<T: DeserializeOwned + Default>(&mut self, name: &'static str) -> T {
        self.optional(name).unwrap_or_default()
    }

    /// A section that may be missing.
    pub(in crate::config) fn optional<T: DeserializeOwned>(&mut self, name: &'static str) -> Option<T> {
        self.known.push(name);
        let value = self.root.get(name)?.clone();
        self.read(value, name, SchemaNode::root().key(name))
    }

    /// A list of tables.
    pub(in crate::config) fn list<T: DeserializeOwned>(&mut self, name: &'static str) -> Vec<T> {
        self.known.push(name);
        let Some(value) = self.root.get(name).cloned() else { return Vec::new() };
        let DeValue::Array(elements) = value.into_inner() else {
            if self.errors.iter().any(|error| error.key == name) {
                return Vec::new();
            }
            self.errors.push(
                ConfigError::new(name, format!("{name} is a list"))
                    .hint(format!("write [[{name}]], with double brackets, for each element")),
            );
            return Vec::new();
        };
        let place = SchemaNode::root().key(name).and_then(SchemaNode::element);
        let elements = elements.into_iter().enumerate();
        elements.filter_map(|(index, element)| self.read(element, &format!("{name}[{index}]"), place)).collect()
    }

    /// Deserializes a section and collects all of its errors. A wrong value is removed or replaced by a placeholder, so that it does
    /// not hide other errors.
    fn read<T: DeserializeOwned>(
        &mut self,
        mut value: Spanned<DeValue<'_>>,
        key: &str,
        place: Option<SchemaNode>,
    ) -> Option<T> {
        if let Some(place) = place
            && !check_types(&mut value, key, place, self.errors)
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
            let is_known = |error: &ConfigError| {
                is_at_or_below(&key, &error.key) || missing.as_ref().is_some_and(|missing| error.key == *missing)
            };
            if !self.errors.iter().any(is_known) {
                let error = ConfigError::new(&key, plain(&error.message().trim().replace('\n', ", ")));
                self.errors.push(match example(&key) {
                    Some(example) => error.hint(format!("for instance {example}")),
                    None => error,
                });
            }
            if !remove_or_replace(&mut value, &steps, place) {
                return None;
            }
        }
        None
    }

    /// Reports unknown sections.
    pub(in crate::config) fn finish(self) {
        for (name, _) in &self.root {
            let name: &str = name.get_ref();
            if !self.known.contains(&name) {
                let error = ConfigError::new(name, "there is no such section");
                self.errors.push(match nearest(name, self.known.iter().copied()) {
                    Some(near) => error.hint(format!("did you mean [{near}]?")),
                    None => error.hint(format!("there are {}", self.known.join(", "))),
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
fn check_types(value: &mut Spanned<DeValue<'_>>, key: &str, place: SchemaNode, errors: &mut Vec<ConfigError>) -> bool {
    let takes = place.takes();
    // TOML has dates of its own. Here they are texts.
    if takes.text
        && let DeValue::Datetime(time) = value.get_ref()
    {
        *value.get_mut() = DeValue::String(time.to_string().into());
    }
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
        if !errors.iter().any(|error| error.key == key) {
            let error = ConfigError::new(key, format!("expected {}, found {found}", wanted.join(" or ")));
            errors.push(match example(key) {
                Some(example) => error.hint(format!("for instance {example}")),
                None => error,
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
                        if !check_types(value, &below, place, errors) {
                            table.remove(name.as_str());
                        }
                    }
                    None if place.is_closed() => {
                        let shown = clipped(name.split('=').next().unwrap_or_default().trim(), 60);
                        let known = place.names();
                        let error = ConfigError::new(below, format!("unknown field `{shown}`"));
                        errors.push(match nearest(&name, known.iter().copied()) {
                            Some(near) => error.hint(format!("did you mean {near:?}?")),
                            None => error.hint(format!("there are {}", known.join(", "))),
                        });
                        table.remove(name.as_str());
                    }
                    None => {}
                }
            }
            for name in place.required() {
                if !table.contains_key(name) {
                    let below = format!("{key}.{name}");
                    if !errors.iter().any(|error| error.key == below) {
                        let error = ConfigError::new(&below, format!("missing field `{name}`"));
                        errors.push(match example(&below) {
                            Some(example) => error.hint(format!("for instance {example}")),
                            None => error,
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
                    if !check_types(value, &format!("{key}[{index}]"), place, errors) {
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
