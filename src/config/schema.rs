//! The JSON Schema of a configuration file, for editors.
//!
//! Generated from the configuration's types: the schema rejects the same names and types as they do. Descriptions come from the
//! comments in `default.toml`, or from the type if a key has no comment there. Not covered: ranges, rules between keys, and
//! expressions, which `aimpoint check` verifies.

use super::{Config, DEFAULTS};
use crate::profile::Aggregate;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};
use std::sync::LazyLock;

/// The JSON Schema of a configuration, in draft 7, which all editors' TOML plugins support.
pub fn schema() -> Value {
    let settings = SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<Config>().to_value();
    add_aggregate_keys(&mut schema["properties"]["feature"]["items"]);
    for (path, meaning) in meanings() {
        if let Some(place) = property(&mut schema, &path) {
            place["description"] = Value::String(meaning);
        }
    }
    schema
}

/// The value types that a key accepts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "a key may accept several of them")]
pub(super) struct Takes {
    pub(super) text: bool,
    pub(super) whole: bool,
    pub(super) number: bool,
    pub(super) truth: bool,
    pub(super) list: bool,
    pub(super) table: bool,
}

impl Takes {
    /// Whether the schema restricts the type.
    pub(super) fn is_known(self) -> bool {
        self != Self::default()
    }
}

/// A node of the schema: a section, a key, or an element of a list.
#[derive(Clone, Copy, Debug)]
pub(super) struct SchemaNode(&'static Value);

impl SchemaNode {
    /// The whole configuration.
    pub(super) fn root() -> Self {
        static SCHEMA: LazyLock<Value> = LazyLock::new(schema);
        Self(&SCHEMA)
    }

    /// The node itself and its alternatives.
    fn forms(self) -> Vec<&'static Value> {
        let mut forms = vec![self.0];
        for word in ["anyOf", "oneOf", "allOf"] {
            for form in self.0[word].as_array().into_iter().flatten() {
                forms.extend(SchemaNode(form).forms());
            }
        }
        forms
    }

    /// The child node of a key, if it exists.
    pub(super) fn key(self, name: &str) -> Option<Self> {
        let forms = self.forms();
        let named = forms.iter().find_map(|form| form["properties"].get(name));
        // Tables with free names, such as `shares = { ... }`.
        let own = || forms.iter().find_map(|form| form.get("additionalProperties").filter(|it| it.is_object()));
        named.or_else(own).map(SchemaNode)
    }

    /// The node of a list's elements.
    pub(super) fn element(self) -> Option<Self> {
        self.forms().into_iter().find_map(|form| form.get("items")).filter(|it| it.is_object()).map(SchemaNode)
    }

    /// The names of the child keys.
    pub(super) fn names(self) -> Vec<&'static str> {
        let names = |form: &'static Value| form["properties"].as_object().into_iter().flat_map(|it| it.keys());
        self.forms().into_iter().flat_map(names).map(String::as_str).collect()
    }

    /// The names of required keys; none if there are alternatives.
    pub(super) fn required(self) -> Vec<&'static str> {
        self.0["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// Whether unknown keys are rejected here. The keys of a feature depend on its aggregate and are checked when it is compiled.
    pub(super) fn is_closed(self) -> bool {
        self.0["additionalProperties"] == false && self.0["properties"].get("aggregate").is_none()
    }

    /// The accepted value types.
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

    /// The first of the allowed values, if they are enumerated.
    pub(super) fn choice(self) -> Option<&'static str> {
        self.forms().into_iter().find_map(|form| form["const"].as_str().or_else(|| form["enum"][0].as_str()))
    }

    /// Whether the node is or contains a secret.
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

/// The line of a key in the defaults, for instance `interval = "25ms"`; commented-out keys included.
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

/// Adds the aggregates' keys, which are not fields of the feature's type because every aggregate has different ones.
fn add_aggregate_keys(feature: &mut Value) {
    for key in Aggregate::all().flat_map(Aggregate::keys) {
        if feature["properties"].get(key).is_none() {
            let of = Aggregate::all().filter(|aggregate| aggregate.keys().any(|it| it == key)).map(Aggregate::name);
            let meaning = format!("Used by {}.", of.collect::<Vec<_>>().join(", "));
            feature["properties"][key] = json!({ "description": meaning });
        }
    }
    feature["properties"]["aggregate"]["enum"] = Aggregate::all().map(Aggregate::name).collect();
    feature["additionalProperties"] = false.into();
}

/// The schema of a section or key, by its path.
fn property<'a>(schema: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    path.split('.').try_fold(schema, |schema, name| {
        let table = if schema.get("items").is_some() { &mut schema["items"] } else { schema };
        table.get_mut("properties")?.get_mut(name)
    })
}

/// The descriptions of sections and keys in `default.toml`, commented-out keys included.
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
    fn every_description_in_the_defaults_is_in_the_schema() {
        let mut schema = schema();
        let meanings = meanings();
        assert!(meanings.len() > 50, "{meanings:#?}");
        for (path, meaning) in meanings {
            let place = property(&mut schema, &path).unwrap_or_else(|| panic!("{path} is not a key: {meaning}"));
            assert_eq!(place["description"], meaning, "{path}");
        }
    }
}
