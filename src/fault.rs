//! A problem with a configuration, and its position.

use std::{
    any::Any,
    cell::Cell,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
};

thread_local! {
    static EXPECTS_PANICS: Cell<bool> = const { Cell::new(false) };
}

/// Calls a library that panics on unusual input. The panic message is returned rather than printed.
pub(crate) fn expecting_panics<T>(call: impl FnOnce() -> T) -> std::thread::Result<T> {
    EXPECTS_PANICS.set(true);
    let outcome = catch_unwind(AssertUnwindSafe(call));
    EXPECTS_PANICS.set(false);
    outcome
}

/// Whether a panic on this thread is expected, and handled by the caller.
pub(crate) fn expects_panics() -> bool {
    EXPECTS_PANICS.get()
}

/// The message of a panic.
pub fn words_of_panic(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_else(|| "a panic".to_owned())
}

/// Whether a terminal acts on this character instead of displaying it: control characters, and those that change the
/// direction of text.
pub(crate) fn moves_a_terminal(letter: char) -> bool {
    letter.is_control() || matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// One problem with a configuration. Compiling collects all of them, so that a person can fix them in one go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The affected key, such as `feature[2].where`; `config` maps it to a line of the file.
    pub key: String,
    /// If the key's value is an expression: line and column within it, from 1.
    pub at: Option<(usize, usize)>,
    /// What is wrong: lower case, no full stop.
    pub message: String,
    /// The next step.
    pub hint: Option<String>,
}

impl Fault {
    /// A fault that concerns a whole value.
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

impl fmt::Display for Fault {
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
