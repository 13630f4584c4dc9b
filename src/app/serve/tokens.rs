//! The tokens that bidders show.
//!
//! Guarantees: only hashes are kept, and compared, so that neither memory nor time tells a token. A file with several tokens, each on
//! a line of its own, accepts all of them: bidders can change one after the other. A file that cannot be used leaves the tokens as
//! they are.

use crate::{
    config_error::ConfigError,
    secret::Secret,
    serve::{TOKEN_FAULT, is_token},
};
use sha2::{Digest, Sha256};
use std::{
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock},
};

/// What a token is compared as.
type Hash = [u8; 32];

/// The tokens that are accepted.
pub(super) struct Tokens {
    /// Where they are read again.
    file: Option<PathBuf>,
    current: RwLock<Vec<Hash>>,
}

impl Tokens {
    /// The one of the configuration.
    pub(super) fn of(token: &Secret) -> Self {
        Self { file: None, current: RwLock::new(vec![hash(token.reveal())]) }
    }

    /// Those of a file.
    ///
    /// # Errors
    /// If it cannot be used.
    pub(super) fn read(path: &Path) -> Result<Self, ConfigError> {
        Ok(Self { file: Some(path.to_owned()), current: RwLock::new(read(path)?) })
    }

    /// Reads the file again; `None` without one.
    ///
    /// # Errors
    /// If it cannot be used. Then everything stays as it is.
    pub(super) fn reload(&self) -> Option<Result<(), ConfigError>> {
        let path = self.file.as_ref()?;
        Some(read(path).map(|new| *self.current.write().unwrap_or_else(PoisonError::into_inner) = new))
    }

    /// Whether this is one of them.
    pub(super) fn has(&self, token: &str) -> bool {
        self.current.read().unwrap_or_else(PoisonError::into_inner).contains(&hash(token))
    }
}

fn hash(token: &str) -> Hash {
    Sha256::digest(token).into()
}

fn read(path: &Path) -> Result<Vec<Hash>, ConfigError> {
    let fault = |message: String, hint: &str| ConfigError::new("serve.token_file", message).hint(hint);
    let text = Secret::read(path).map_err(|error| {
        fault(format!("read {}: {error}", path.display()), "the file has the token and nothing else")
    })?;
    let tokens: Vec<&str> = text.reveal().lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if tokens.is_empty() || !tokens.iter().all(|token| is_token(token)) {
        return Err(fault(TOKEN_FAULT.to_owned(), "write one into the file, or two, each on a line of its own"));
    }
    Ok(tokens.into_iter().map(hash).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_of_the_file_is_a_token_and_a_fault_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let (old, new) = ("0123456789abcdef", "fedcba9876543210");
        std::fs::write(&path, format!(" {old}\n")).unwrap();
        let tokens = Tokens::read(&path).unwrap();
        assert!(tokens.has(old) && !tokens.has(new) && !tokens.has(""));
        std::fs::write(&path, format!("{old}\n{new}\n\n")).unwrap();
        assert!(tokens.reload().unwrap().is_ok() && tokens.has(old) && tokens.has(new));
        for text in ["", "\n", "short", "0123456789abcdef\nshort", "with a blank in it"] {
            std::fs::write(&path, text).unwrap();
            assert!(tokens.reload().unwrap().is_err(), "{text:?}");
            assert!(tokens.has(old) && tokens.has(new), "{text:?}");
        }
        std::fs::write(&path, new).unwrap();
        assert!(tokens.reload().unwrap().is_ok() && !tokens.has(old) && tokens.has(new));
        assert!(Tokens::of(&Secret::new(old)).reload().is_none());
    }
}
