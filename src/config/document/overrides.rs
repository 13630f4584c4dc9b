//! Keys that are set outside the file: by environment variables and by flags.
//!
//! Guarantees: values are taken literally, according to the type of their key: a string is never parsed as TOML.

use super::{
    CLIENT_SECTIONS, DEPTH_MAX, Document, deepest_value,
    lines::clipped,
    secrets::{Visibility, remember_below, remember_by, visibility},
};
use crate::{
    config::schema::{SchemaNode, example},
    config_error::ConfigError,
};
use std::ffi::OsStr;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// The prefix of environment variables that override keys.
const PREFIX: &str = "AIMPOINT__";

/// A key that was set outside the file.
pub(super) struct Override {
    pub(super) parts: Vec<String>,
    pub(super) value: String,
    /// The variable or flag that set it.
    pub(super) origin: String,
}

/// The value may be a secret.
impl std::fmt::Debug for Override {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Override").field("parts", &self.parts).field("origin", &self.origin).finish_non_exhaustive()
    }
}

impl Document {
    /// Whether an environment variable belongs to Aimpoint.
    pub(in crate::config) fn is_ours(name: &OsStr) -> bool {
        name.as_encoded_bytes().starts_with(PREFIX.as_bytes())
    }

    /// Applies an environment variable of Aimpoint.
    pub(in crate::config) fn set_from_environment(
        &mut self,
        name: &OsStr,
        value: &OsStr,
        errors: &mut Vec<ConfigError>,
    ) {
        let origin = name.to_string_lossy().into_owned();
        let path = origin.strip_prefix(PREFIX).unwrap_or_default();
        let mut parts: Vec<String> = path.split("__").map(str::to_lowercase).collect();
        if parts.iter().any(String::is_empty) {
            let hint = "write AIMPOINT__SECTION__KEY, such as AIMPOINT__KAFKA__BROKERS";
            errors.push(ConfigError::new("", "the variable's name is not a key").hint(hint));
            return self.overrides.push(Override { parts: Vec::new(), value: String::new(), origin });
        }
        if parts.len() == 3 && parts[0] == "kafka" && CLIENT_SECTIONS.contains(&parts[1].as_str()) {
            parts[2] = parts[2].replace('_', ".");
        }
        let Some(text) = value.to_str() else {
            errors.push(ConfigError::new(parts.join("."), "the value is not UTF-8"));
            return self.overrides.push(Override { parts, value: String::new(), origin });
        };
        self.set(parts, text.to_owned(), origin, errors);
    }

    /// Applies the `key=value` of the flag with this index.
    pub(in crate::config) fn set_from_flag(&mut self, index: usize, set: &str, errors: &mut Vec<ConfigError>) {
        let Some((key, value)) = set.split_once('=') else {
            // The argument may be a secret, so it is not shown.
            let message = format!("--set takes key=value, but number {} has no \"=\"", index + 1);
            errors.push(ConfigError::new("--set", message).hint("for instance --set commit.interval=10ms"));
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
            errors.push(ConfigError::new("--set", message).hint("for instance kafka.client.\"security.protocol\""));
            return;
        }
        self.set(parts, value.to_owned(), format!("--set {key}"), errors);
    }

    fn set(&mut self, mut parts: Vec<String>, value: String, origin: String, errors: &mut Vec<ConfigError>) {
        // A client setting is one key, whether its dotted name is quoted or not.
        if is_client(&parts) {
            let name = parts.split_off(2).join(".");
            parts.push(name);
        }
        let key = parts.join(".");
        if parts.len() > DEPTH_MAX {
            errors.push(ConfigError::new(key, format!("no key has more than {DEPTH_MAX} parts")));
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
                    errors.push(ConfigError::new(key, format!("the value is nested more than {DEPTH_MAX} deep")));
                }
            }
            Err(why) => {
                let error = ConfigError::new(&key, why);
                errors.push(match example(&key) {
                    Some(example) => error.hint(format!("for instance {example}")),
                    None => error,
                });
            }
        }
        self.overrides.push(Override { parts, value, origin });
    }
}

/// Whether the key is one of librdkafka's settings.
fn is_client(parts: &[String]) -> bool {
    matches!(parts, [kafka, section, _, ..] if kafka == "kafka" && CLIENT_SECTIONS.contains(&section.as_str()))
}

/// A value from outside the file, by the type of its key: strings literally; numbers, lists and tables as TOML.
pub(super) fn typed<'a>(parts: &[String], value: &'a str) -> Result<DeValue<'a>, String> {
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
