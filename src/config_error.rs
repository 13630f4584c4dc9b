//! A problem with a configuration, and its position.

use std::fmt;

/// One problem with a configuration. Compiling collects all of them, so that a person can fix them in one go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The affected key, such as `feature[2].where`; `config` maps it to a line of the file.
    pub key: String,
    /// If the key's value is an expression: line and column within it, from 1.
    pub at: Option<(usize, usize)>,
    /// What is wrong: lower case, no full stop.
    pub message: String,
    /// The next step.
    pub hint: Option<String>,
}

impl ConfigError {
    /// An error that concerns a whole value.
    pub fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { key: key.into(), at: None, message: message.into(), hint: None }
    }

    /// Adds the next step.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.key)?;
        if let Some((line, column)) = self.at {
            write!(f, " ({line}:{column})")?;
        }
        write!(f, ": {}", self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, "; {hint}")?;
        }
        Ok(())
    }
}
