//! The section `[identity]` as written in the configuration.

use crate::{config_error::ConfigError, secret::Secret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The shortest key, that of the hash. It is text, so it has at most six bits a byte.
const KEY_BYTES_MIN: usize = 32;

/// `[identity]`: how users are named behind the input.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PseudonymSpec {
    /// Whether users are named by a keyed hash of their id.
    pub pseudonymise: bool,
    /// The key of the hash. Give it in the environment or in a file rather than here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Secret>,
    /// A file with the key, in place of `key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// While the key changes: the key before it. What is kept under its pseudonyms moves with each user's next event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous_key: Option<Secret>,
    /// A file with the key before, in place of `previous_key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous_key_file: Option<PathBuf>,
    /// What the ids of persons are, so that two spellings are one user.
    pub normalise: Normalise,
    /// For `normalise = "phone"`: the country code of numbers without one, such as `49`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub country_code: Option<String>,
}

/// Checks a key, which may have been read from a file.
fn check_key(key: (&str, &Option<Secret>), file: (&str, &Option<PathBuf>), errors: &mut Vec<ConfigError>) {
    if let (name, Some(secret)) = key
        && secret.reveal().len() < KEY_BYTES_MIN
    {
        let name = if file.1.is_some() { file.0 } else { name };
        errors.push(
            ConfigError::new(format!("identity.{name}"), format!("the key has fewer than {KEY_BYTES_MIN} bytes"))
                .hint("make one with: openssl rand -hex 32"),
        );
    }
}

/// What the ids of persons are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Normalise {
    /// Anything; an id is hashed as it is.
    #[default]
    None,
    /// E-mail addresses: without blanks around them, in lower case.
    Email,
    /// Phone numbers: the digits of E.164.
    Phone,
}

impl PseudonymSpec {
    /// Adds all errors of the section, whose key file has been read into `key`.
    pub fn check(&self, errors: &mut Vec<ConfigError>) {
        check_key(("key", &self.key), ("key_file", &self.key_file), errors);
        check_key(("previous_key", &self.previous_key), ("previous_key_file", &self.previous_key_file), errors);
        let previous = if self.previous_key_file.is_some() { "previous_key_file" } else { "previous_key" };
        if !self.pseudonymise && (self.previous_key.is_some() || self.previous_key_file.is_some()) {
            errors.push(
                ConfigError::new(
                    format!("identity.{previous}"),
                    "users move from one pseudonym to another, and have none",
                )
                .hint("set identity.pseudonymise = true, or remove it"),
            );
        }
        if self.key.is_some() && self.previous_key == self.key {
            errors
                .push(ConfigError::new(format!("identity.{previous}"), "it is the same key as the present one").hint(
                    "give the key that was used before, or remove it: Rotate the key, in deploy/docs/privacy.md",
                ));
        }
        if self.pseudonymise && self.key.is_none() && self.key_file.is_none() {
            errors.push(
                ConfigError::new("identity.pseudonymise", "pseudonyms need a key")
                    .hint("set AIMPOINT__IDENTITY__KEY, or identity.key_file; make a key with: openssl rand -hex 32"),
            );
        }
        if !self.pseudonymise && self.normalise != Normalise::None {
            errors.push(
                ConfigError::new("identity.normalise", "ids are normalised only where they become pseudonyms")
                    .hint("set identity.pseudonymise = true, or remove it"),
            );
        }
        if let Some(code) = &self.country_code {
            let is_code = (1..=3).contains(&code.len())
                && code.bytes().all(|digit| digit.is_ascii_digit())
                && !code.starts_with('0');
            if !is_code {
                errors.push(
                    ConfigError::new("identity.country_code", format!("{code:?} is no country code"))
                        .hint("use its one to three digits, such as \"49\""),
                );
            } else if self.normalise != Normalise::Phone {
                errors.push(
                    ConfigError::new("identity.country_code", "only phone numbers have a country code")
                        .hint("set identity.normalise = \"phone\", or remove it"),
                );
            }
        }
    }
}
