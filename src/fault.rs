//! What is wrong with a configuration, and where.

use std::{
    any::Any,
    cell::Cell,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
};

thread_local! {
    static EXPECTS_PANICS: Cell<bool> = const { Cell::new(false) };
}

/// Calls a library that panics on odd input; what it says then is given back and not printed.
pub(crate) fn expecting_panics<T>(call: impl FnOnce() -> T) -> std::thread::Result<T> {
    EXPECTS_PANICS.set(true);
    let outcome = catch_unwind(AssertUnwindSafe(call));
    EXPECTS_PANICS.set(false);
    outcome
}

/// Whether a panic of this thread is expected, and handled by whoever made the call.
pub(crate) fn expects_panics() -> bool {
    EXPECTS_PANICS.get()
}

/// What a panic says.
pub fn words_of_panic(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_else(|| "a panic".to_owned())
}

/// Whether a terminal does something with this character other than to show it: control characters, and those that turn the
/// direction of a line around.
pub(crate) fn moves_a_terminal(letter: char) -> bool {
    letter.is_control() || matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// One thing wrong with a configuration. Compiling collects them all, so that a person mends them in one go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The key that is wrong, such as `feature[2].where`; `config` turns it into a file's line.
    pub key: String,
    /// Line and column inside the key's value, from 1, where the value is an expression.
    pub at: Option<(usize, usize)>,
    /// What is wrong: lower case, no full stop.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
}

impl Fault {
    /// A fault of a whole value.
    pub fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { key: key.into(), at: None, message: message.into(), hint: None }
    }

    /// Adds what to do next.
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
