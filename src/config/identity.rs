//! Completes `[identity]` by what stands elsewhere: the keys in their files, and pseudonyms of the users that other sections name.

use crate::{
    config_error::ConfigError,
    engine::PipelineSpec,
    event::{Pseudonyms, split_key},
    secret::Secret,
};
use std::path::Path;

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
    match Secret::read(path) {
        Ok(found) => *key = Some(found),
        Err(why) => {
            let error = ConfigError::new(format!("identity.{name}_file"), format!("read {}: {why}", path.display()));
            errors.push(error.hint("the file has the key and nothing else"));
        }
    }
}
