//! Completes `[identity]` by what stands elsewhere: the key in its file, and pseudonyms of the users that other sections name.

use crate::{
    config_error::ConfigError,
    engine::PipelineSpec,
    event::{Pseudonyms, split_key},
    secret::Secret,
};

/// Reads the key, and replaces the ids in `explain.users`, so that no part of the process has them.
pub(super) fn complete(spec: &mut PipelineSpec, errors: &mut Vec<ConfigError>) {
    let identity = &mut spec.identity;
    if let Some(path) = identity.key_file.as_deref().filter(|_| identity.pseudonymise) {
        if identity.key.is_some() {
            let message = "identity.key is set, too, and the environment may have set it";
            errors.push(ConfigError::new("identity.key_file", message).hint("give the key in one place"));
            return;
        }
        match Secret::read(path) {
            Ok(key) => identity.key = Some(key),
            Err(why) => {
                let error = ConfigError::new("identity.key_file", format!("read {}: {why}", path.display()));
                errors.push(error.hint("the file has the key and nothing else"));
            }
        }
    }
    if let Some(pseudonyms) = Pseudonyms::new(identity) {
        for user in &mut spec.explain.users {
            let (ty, id) = split_key(user);
            *user = pseudonyms.of(ty, id).unwrap_or_else(|_| pseudonyms.of_bytes(id.as_bytes()));
        }
    }
}
