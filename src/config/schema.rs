//! The JSON Schema of a configuration file, for editors.
//!
//! Made of the configuration's own types: what they refuse by name or type the schema refuses as well. What a key means is
//! what `default.toml` says of it, and for keys that stand there without a comment what the type says. Left out: ranges,
//! rules between keys and expressions, which `aimpoint check` knows.

use super::{Config, DEFAULTS};
use crate::profile::AGGREGATES;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

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

/// The keys that aggregates take are not members of a feature's type, since each aggregate has others.
fn name_the_options(feature: &mut Value) {
    for key in AGGREGATES.iter().flat_map(|aggregate| aggregate.keys) {
        if feature["properties"].get(key).is_none() {
            let of = AGGREGATES.iter().filter(|aggregate| aggregate.keys.contains(key)).map(|aggregate| aggregate.name);
            let meaning = format!("Taken by {}.", of.collect::<Vec<_>>().join(", "));
            feature["properties"][key] = json!({ "description": meaning });
        }
    }
    feature["properties"]["aggregate"]["enum"] = AGGREGATES.iter().map(|aggregate| aggregate.name).collect();
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
