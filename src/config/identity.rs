//! Completes `[identity]` by what stands elsewhere: the keys in their files, and pseudonyms of the users that other sections name.

use crate::{
    config_error::ConfigError,
    engine::PipelineSpec,
    event::{Pseudonyms, split_key},
    secret::{self, Secret},
};
use std::path::Path;

/// The name of a missing file that is as long as this, and has neither a folder nor an extension, may be a key.
const KEY_BYTES_MIN: usize = 32;

/// Reads the keys, and replaces the ids in `explain.users`, so that no part of the process has them.
pub(super) fn complete(spec: &mut PipelineSpec, errors: &mut Vec<ConfigError>) {
    let identity = &mut spec.identity;
    if identity.pseudonymise {
        read_into(&mut identity.key, identity.key_file.as_deref(), "key", errors);
        read_into(&mut identity.previous_key, identity.previous_key_file.as_deref(), "previous_key", errors);
    }
    if let Some(pseudonyms) = Pseudonyms::new(identity) {
        for user in &mut spec.explain.users {
            let (ty, id) = split_key(user);
            *user = pseudonyms.of(ty, id).unwrap_or_else(|_| pseudonyms.of_bytes(id.as_bytes()));
        }
    }
}

/// Reads a key from its file, if it has one.
fn read_into(key: &mut Option<Secret>, path: Option<&Path>, name: &str, errors: &mut Vec<ConfigError>) {
    let Some(path) = path else { return };
    if key.is_some() {
        let message = format!("identity.{name} is set, too, and the environment may have set it");
        errors.push(ConfigError::new(format!("identity.{name}_file"), message).hint("give the key in one place"));
        return;
    }
    // Whoever writes the key in the place of its file must not find it in the message.
    let is_a_key =
        path.as_os_str().len() >= KEY_BYTES_MIN && path.components().count() == 1 && path.extension().is_none();
    if is_a_key && !path.exists() {
        secret::remember(&path.to_string_lossy());
    }
    match Secret::read(path) {
        Ok(found) => *key = Some(found),
        Err(why) => {
            let error = ConfigError::new(format!("identity.{name}_file"), format!("read {}: {why}", path.display()));
            errors.push(error.hint("the file has the key and nothing else"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_in_the_place_of_its_file_is_not_shown() {
        let key = "5f1c0e9aa77b4d2e8f00c1d2e3f4a5b6";
        let (mut found, mut errors) = (None, Vec::new());
        read_into(&mut found, Some(Path::new(key)), "key", &mut errors);
        let message = errors.pop().expect("there is no such file").message;
        assert!(message.contains(key) && !secret::scrub(&message).contains(key), "{message}");
    }
}
