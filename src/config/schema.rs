//! The JSON Schema of a configuration file, for editors.
//!
//! Made of the configuration's own types: what they refuse by name or type the schema refuses as well. What a key means is
//! what `default.toml` says of it, and for keys that stand there without a comment what the type says. Left out: ranges,
//! rules between keys and expressions, which `aimpoint check` knows.

use super::{Config, DEFAULTS};
use crate::profile::Aggregate;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};
use std::sync::LazyLock;

/// The JSON Schema of a configuration, in draft 7, which every editor's TOML plugin reads.
pub fn schema() -> Value {
    let settings = SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<Config>().to_value();
    name_the_options(&mut schema["properties"]["feature"]["items"]);
    for (path, meaning) in meanings() {
        if let Some(place) = property(&mut schema, &path) {
            place["description"] = Value::String(meaning);
        }
    }
    schema
}

/// What a key takes, by the configuration's own types.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "a key may take several of them")]
pub(super) struct Takes {
    pub(super) text: bool,
    pub(super) whole: bool,
    pub(super) number: bool,
    pub(super) truth: bool,
    pub(super) list: bool,
    pub(super) table: bool,
}

impl Takes {
    /// Whether anything is known of it.
    pub(super) fn is_known(self) -> bool {
        self != Self::default()
    }
}

/// A place in the schema: a section, a key, or an element of a list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place(&'static Value);

impl Place {
    /// The whole configuration.
    pub(super) fn root() -> Self {
        static SCHEMA: LazyLock<Value> = LazyLock::new(schema);
        Self(&SCHEMA)
    }

    /// The forms of which one is taken.
    fn forms(self) -> Vec<&'static Value> {
        let mut forms = vec![self.0];
        for word in ["anyOf", "oneOf", "allOf"] {
            for form in self.0[word].as_array().into_iter().flatten() {
                forms.extend(Place(form).forms());
            }
        }
        forms
    }

    /// The place of a key below, if there is one of this name.
    pub(super) fn key(self, name: &str) -> Option<Self> {
        let forms = self.forms();
        let named = forms.iter().find_map(|form| form["properties"].get(name));
        // `name = { ... }` takes names of one's own.
        let own = || forms.iter().find_map(|form| form.get("additionalProperties").filter(|it| it.is_object()));
        named.or_else(own).map(Place)
    }

    /// The place of a list's elements.
    pub(super) fn element(self) -> Option<Self> {
        self.forms().into_iter().find_map(|form| form.get("items")).filter(|it| it.is_object()).map(Place)
    }

    /// The names of the keys below.
    pub(super) fn names(self) -> Vec<&'static str> {
        let names = |form: &'static Value| form["properties"].as_object().into_iter().flat_map(|it| it.keys());
        self.forms().into_iter().flat_map(names).map(String::as_str).collect()
    }

    /// The names of the keys that have to be there; none where one of several forms is taken.
    pub(super) fn required(self) -> Vec<&'static str> {
        self.0["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// Whether other names than these are refused here. A feature's further keys are those of its aggregate, which is known
    /// when it is compiled.
    pub(super) fn is_closed(self) -> bool {
        self.0["additionalProperties"] == false && self.0["properties"].get("aggregate").is_none()
    }

    /// What may stand here.
    pub(super) fn takes(self) -> Takes {
        let mut takes = Takes::default();
        for form in self.forms() {
            let types = match &form["type"] {
                Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
                Value::String(one) => vec![one.as_str()],
                _ if form["enum"].is_array() || form["const"].is_string() => vec!["string"],
                _ => Vec::new(),
            };
            for name in types {
                match name {
                    "string" => takes.text = true,
                    "integer" => takes.whole = true,
                    "number" => (takes.whole, takes.number) = (true, true),
                    "boolean" => takes.truth = true,
                    "array" => takes.list = true,
                    "object" => takes.table = true,
                    _ => {}
                }
            }
        }
        takes
    }

    /// The first of the words of which one is taken, if it is so.
    pub(super) fn choice(self) -> Option<&'static str> {
        self.forms().into_iter().find_map(|form| form["const"].as_str().or_else(|| form["enum"][0].as_str()))
    }

    /// Whether a secret stands here or below.
    pub(super) fn holds_secret(self) -> bool {
        fn search(value: &Value) -> bool {
            match value {
                Value::Object(members) => {
                    members.get("format").is_some_and(|it| it == "password") || members.values().any(search)
                }
                Value::Array(values) => values.iter().any(search),
                _ => false,
            }
        }
        search(self.0)
    }
}

/// How the defaults write a key, for instance `"25ms"`; those that are commented out included.
pub(super) fn example(key: &str) -> Option<String> {
    let key: String = without_indices(key);
    let mut section = String::new();
    for line in DEFAULTS.lines() {
        let text = line.trim_start_matches('#').trim();
        let said = text.split_once(" # ").map_or(text, |(said, _)| said).trim();
        if said.starts_with('[') && said.ends_with(']') {
            said.trim_matches(['[', ']']).clone_into(&mut section);
        } else if let Some((name, value)) = said.split_once(" = ")
            && key.strip_prefix(&section).and_then(|rest| rest.strip_prefix('.')) == Some(name)
        {
            return Some(format!("{name} = {value}"));
        }
    }
    None
}

/// `feature[2].window` as `feature.window`.
fn without_indices(key: &str) -> String {
    let mut parts = key.split('[');
    let first = parts.next().unwrap_or_default().to_owned();
    first + &parts.map(|part| part.split_once(']').map_or("", |(_, rest)| rest)).collect::<String>()
}

/// Adds the keys that only some aggregates take, which are not members of a feature's type.
fn name_the_options(feature: &mut Value) {
    for key in Aggregate::all().flat_map(Aggregate::keys) {
        if feature["properties"].get(key).is_none() {
            let takes = Aggregate::all().filter(|aggregate| aggregate.keys().any(|it| it == key)).map(Aggregate::name);
            let meaning = format!("Taken by {}.", takes.collect::<Vec<_>>().join(", "));
            feature["properties"][key] = json!({ "description": meaning });
        }
    }
    feature["properties"]["aggregate"]["enum"] = Aggregate::all().map(Aggregate::name).collect();
    feature["additionalProperties"] = false.into();
}

/// The schema of a section or key, by its names from the outside.
fn property<'a>(schema: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    path.split('.').try_fold(schema, |schema, name| {
        let table = if schema.get("items").is_some() { &mut schema["items"] } else { schema };
        table.get_mut("properties")?.get_mut(name)
    })
}

/// What `default.toml` says of its sections and keys, those that are commented out included.
fn meanings() -> Vec<(String, String)> {
    let mut meanings = Vec::new();
    let (mut section, mut before) = (String::new(), Vec::new());
    for line in DEFAULTS.lines() {
        let is_comment = line.starts_with('#');
        let text = line.trim_start_matches('#').trim();
        let (said, beside) = text.split_once(" # ").map_or((text, None), |(said, beside)| (said, Some(beside.trim())));
        let path = match said.split_once(" = ") {
            Some((key, _)) if key.bytes().all(|letter| letter.is_ascii_lowercase() || letter == b'_') => {
                Some(format!("{section}.{key}"))
            }
            _ if said.starts_with('[') => {
                said.trim().trim_matches(['[', ']']).clone_into(&mut section);
                Some(section.clone())
            }
            _ => None,
        };
        match path {
            Some(path) => {
                let meaning = beside.map_or_else(|| before.join(" "), str::to_owned);
                before.clear();
                if !meaning.is_empty() {
                    meanings.push((path, meaning));
                }
            }
            None if is_comment && !text.is_empty() => before.push(text),
            None => before.clear(),
        }
    }
    meanings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_the_defaults_explain_is_explained_to_editors() {
        let mut schema = schema();
        let meanings = meanings();
        assert!(meanings.len() > 50, "{meanings:#?}");
        for (path, meaning) in meanings {
            let place = property(&mut schema, &path).unwrap_or_else(|| panic!("{path} is no key: {meaning}"));
            assert_eq!(place["description"], meaning, "{path}");
        }
    }
}
