//! Which values are or may be secrets.
//!
//! Guarantees: a value is registered as a secret if its key holds one, or if the key is unknown in a section that holds some. No
//! message shows a registered value.

use super::{CLIENT_SECTIONS, SECRET_SECTIONS};
use crate::{
    config::{ClientSettings, schema::SchemaNode},
    secret,
};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// Whether the value of a key may be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Visibility {
    /// It may be shown.
    Open,
    /// The key does not exist.
    Unknown,
    /// It is or may be a secret.
    Secret,
}

/// Whether the value of a key may be shown; indices of lists are left out of the key.
pub(super) fn visibility(names: &[&str]) -> Visibility {
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
pub(super) fn remember_by(names: &[&str], value: &str, secrets: &mut secret::Known) {
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

pub(super) fn remember_secrets(root: &Spanned<DeTable<'_>>, secrets: &mut secret::Known) {
    for (name, value) in root.get_ref() {
        let mut names: Vec<&str> = vec![name.get_ref().as_ref()];
        remember_below(value.get_ref(), &mut names, secrets);
    }
}

pub(super) fn remember_below<'a>(value: &'a DeValue<'_>, names: &mut Vec<&'a str>, secrets: &mut secret::Known) {
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
