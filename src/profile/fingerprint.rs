//! The fingerprint of the declared features. It identifies what a model was trained on and what a profile was built
//! with.

use super::{FeatureSpec, ProfileSpec};
use crate::{
    event::{DuplicateSpec, TimeSpec},
    expression::normal_form,
    hex,
};
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// The first 16 hex digits of the SHA-256 of everything that determines a feature's value. The order of features, the
/// order of keys, spaces in expressions, and whether the model gets a feature do not matter.
pub(super) fn fingerprint(
    profile: &ProfileSpec,
    time: &TimeSpec,
    duplicates: &DuplicateSpec,
    features: &[FeatureSpec],
) -> String {
    let mut text = format!(
        "1|{}|{}|{}|{}",
        profile.ttl.as_micros(),
        time.allowed_lateness.as_micros(),
        duplicates.horizon.as_micros(),
        duplicates.max_ids
    );
    // Each part is quoted, so that different lists of parts never produce the same text.
    let list = |parts: [String; 8]| format!("[{}]", parts.map(|part| quoted(&part)).join(", "));
    let mut declared: Vec<String> = features.iter().map(|feature| list(parts(feature))).collect();
    declared.sort_unstable();
    text.extend(declared);
    digest(text.as_bytes())
}

/// The first 16 hex digits of the SHA-256 of these bytes.
pub(super) fn digest(bytes: &[u8]) -> String {
    hex::encode(&Sha256::digest(bytes)[..8])
}

/// The parts that determine a feature's value.
fn parts(feature: &FeatureSpec) -> [String; 8] {
    let FeatureSpec { name, aggregate, expression, filter, value, window, tile, options, model: _ } = feature;
    let plain = |part: &Option<String>| part.clone().unwrap_or_default();
    let rule = |part: &Option<String>| part.as_deref().map(normal_form).unwrap_or_default();
    [
        name.clone(),
        plain(aggregate),
        rule(expression),
        rule(filter),
        rule(value),
        plain(window),
        plain(tile),
        options
            .iter()
            .flat_map(|(key, value)| [name_of(key), " = ".to_owned(), written(value), "\n".to_owned()])
            .collect(),
    ]
}

/// A quoted text. Layout ids and fingerprints contain it, so its form must never change.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for letter in text.chars() {
        match letter {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\0' => quoted.push_str("\\0"),
            control if control.is_control() => {
                write!(quoted, "\\u{{{:x}}}", u32::from(control)).expect("a string takes everything");
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

/// An option in TOML syntax. Fingerprints contain it, so its form must never change.
fn written(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => written_text(text),
        toml::Value::Integer(number) => number.to_string(),
        toml::Value::Float(number) if number.is_nan() => "nan".to_owned(),
        toml::Value::Float(number) if number.is_finite() && number.fract() == 0.0 => format!("{number}.0"),
        toml::Value::Float(number) => number.to_string(),
        toml::Value::Boolean(truth) => truth.to_string(),
        toml::Value::Array(values) => format!("[{}]", values.iter().map(written).collect::<Vec<_>>().join(", ")),
        // No aggregate takes these types, so no feature that compiles has one.
        toml::Value::Datetime(_) | toml::Value::Table(_) => value.to_string(),
    }
}

/// A text in TOML syntax: in double quotes if nothing needs escaping, otherwise in single quotes, otherwise in triple
/// quotes of either kind.
fn written_text(text: &str) -> String {
    let has = |letter: char| text.contains(letter);
    let has_controls = text.chars().any(|it| it != '\t' && it != '\n' && it.is_ascii_control());
    let in_many = |quotes: &str| format!("{quotes}{}{text}{quotes}", if has('\n') { "\n" } else { "" });
    if !has_controls && !has('\\') && !has('"') && !has('\n') && !has('\t') {
        format!("\"{text}\"")
    } else if !has_controls && !has('\'') && !has('\n') {
        format!("'{text}'")
    } else if !has_controls && !has('\\') && !text.contains("\"\"\"") && !has('\t') {
        in_many("\"\"\"")
    } else if !has_controls && !text.contains("'''") {
        in_many("'''")
    } else {
        quoted(text)
    }
}

/// A key in TOML syntax.
fn name_of(key: &str) -> String {
    let is_bare = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '-';
    if !key.is_empty() && key.chars().all(is_bare) { key.to_owned() } else { written_text(key) }
}

/// How the declaration of a feature changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Unchanged.
    Same,
    /// The same name with another declaration.
    Changed,
    /// A new name.
    New,
    /// A name that no longer exists.
    Gone,
}

/// How each declaration changed, by name: first the current ones in their order, then the removed ones. A derived
/// feature is unchanged if its expression is, even if the features that it reads changed.
pub fn changes<'a>(before: &'a [FeatureSpec], now: &'a [FeatureSpec]) -> Vec<(&'a str, Change)> {
    let find = |list: &'a [FeatureSpec], name: &str| list.iter().find(|feature| feature.name == name);
    let of_now = now.iter().map(|feature| {
        let change = match find(before, &feature.name) {
            None => Change::New,
            Some(old) if parts(old) == parts(feature) => Change::Same,
            Some(_) => Change::Changed,
        };
        (feature.name.as_str(), change)
    });
    let gone = before.iter().filter(|feature| find(now, &feature.name).is_none());
    of_now.chain(gone.map(|feature| (feature.name.as_str(), Change::Gone))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feature(name: &str, filter: &str, window: &str) -> FeatureSpec {
        FeatureSpec {
            name: name.to_owned(),
            aggregate: Some("count".to_owned()),
            filter: Some(filter.to_owned()),
            window: Some(window.to_owned()),
            ..FeatureSpec::default()
        }
    }

    #[test]
    fn a_declaration_is_the_same_however_it_is_spaced_and_whoever_gets_it() {
        let before = [feature("a", "bot", "1h"), feature("b", "bot", "1h"), feature("c", "bot", "1h")];
        let mut now = [feature("d", "bot", "1h"), feature("b", "bot", "2h"), feature("a", " bot ", "1h")];
        now[2].model = !before[0].model;
        let expected = [("d", Change::New), ("b", Change::Changed), ("a", Change::Same), ("c", Change::Gone)];
        assert_eq!(changes(&before, &now), expected);
    }

    #[test]
    fn texts_and_options_are_written_as_they_were_when_the_first_models_were_trained() {
        // Early versions produced these texts with `Debug` and the TOML library's writer.
        for text in ["", "plain", "a \"b\" \\c", "tab\tline\nreturn\r nul\0 bell\u{7} é ' 中"] {
            assert_eq!(quoted(text), format!("{text:?}"));
        }
        let options: toml::Table = toml::from_str(
            r#"
            whole = 3
            low = -7
            part = 0.5
            round = 2.0
            large = 1e300
            truth = true
            plain = "7d"
            rule = 'event_type == "view"'
            path = 'a\b'
            both = "it's \"so\""
            lines = "a\nb"
            list = ["a", 'b "c"', "d's"]
            "#,
        )
        .unwrap();
        for (key, value) in &options {
            let table: toml::Table = [(key.clone(), value.clone())].into_iter().collect();
            assert_eq!(format!("{} = {}\n", name_of(key), written(value)), toml::to_string(&table).unwrap(), "{key}");
        }
    }

    #[test]
    fn the_fingerprint_asks_for_what_is_declared_and_not_in_which_order() {
        let of = |features: &[FeatureSpec]| {
            fingerprint(&ProfileSpec::default(), &TimeSpec::default(), &DuplicateSpec::default(), features)
        };
        let [a, b] = [feature("a", "bot", "1h"), feature("b", "bot", "2h")];
        let known = of(&[a.clone(), b.clone()]);
        assert_eq!(of(&[b.clone(), feature("a", " bot ", "1h")]), known);
        assert_ne!(of(&[feature("a", "bot", "2h"), feature("b", "bot", "1h")]), known);
        assert_ne!(of(&[a]), known);
    }
}
