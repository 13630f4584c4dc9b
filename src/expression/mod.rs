//! The expression language for `where`, `value`, derived features and segments.
//!
//! It has CEL's syntax and types, checked when the configuration is compiled, and is evaluated over columns: a
//! [`Program`] is a list of steps, each a loop over all rows of a batch. Expressions of one program share common parts.
//!
//! - **Types.** `int` and `double` do not mix in arithmetic, as in CEL (`value * 2.0`, not `value * 2`), but they can
//!   be compared. An int is widened where a double is expected.
//! - **Missing.** The result is missing where CEL has an error: if a value that it depends on is missing. Still, `false
//!   && x` is false and `true || x` is true. `x.hasValue()` tests for a value, and `x.orValue(d)` gives a default, as
//!   for CEL's optional values. Integer division by zero and overflow are missing. For doubles, NaN is missing and ±inf
//!   becomes NaN.
//! - **Left out** of CEL is what [`LEFT_OUT`] lists; each part is rejected by name, with an alternative.
//! - **Functions** are the rows of [`FUNCTIONS`].

mod bounds;
mod check;
mod evaluate;
mod functions;
mod left_out;
mod program;
mod scope;

pub use functions::{FUNCTIONS, Function};
pub use left_out::{LEFT_OUT, LeftOut};
pub use program::Program;
pub(crate) use scope::COLUMNS_MAX;
pub use scope::Scope;

use crate::config_error::ConfigError;

/// Why an expression was rejected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {message}")]
pub struct ExpressionError {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// The next step.
    pub hint: Option<String>,
}

impl ExpressionError {
    /// The error as an error of a configuration's key.
    pub fn config_error(self, key: impl Into<String>) -> ConfigError {
        ConfigError { key: key.into(), at: Some((self.line, self.column)), message: self.message, hint: self.hint }
    }
}

/// Longer names are not compared, because time and memory grow with their length.
const NEAR_BYTES_MAX: usize = 128;

/// The known name that is most similar to an unknown one, for "did you mean".
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .filter(|_| name.len() <= NEAR_BYTES_MAX)
        .map(|other| (strsim::damerau_levenshtein(name, other), other))
        .filter(|(distance, other)| *distance <= 1 + name.len().max(other.len()) / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, other)| other)
}

/// The text of an expression in which each run of spaces outside strings is one space. Fingerprints and layout ids
/// depend on it, so it must never change.
pub fn normal_form(source: &str) -> String {
    let mut normal = String::with_capacity(source.len());
    let mut rest = source.trim();
    while let Some(letter) = rest.chars().next() {
        let length = if letter.is_whitespace() {
            normal.push(' ');
            rest.len() - rest.trim_start().len()
        } else {
            let is_raw = normal.ends_with(['r', 'R']);
            let length = string_length(rest, is_raw).unwrap_or(letter.len_utf8());
            normal.push_str(&rest[..length]);
            length
        };
        rest = &rest[length..];
    }
    normal
}

/// The length of the string literal at the start of a text, if there is one; the whole text if it is not terminated.
fn string_length(text: &str, is_raw: bool) -> Option<usize> {
    let quote = ["\"\"\"", "'''", "\"", "'"].into_iter().find(|quote| text.starts_with(quote))?;
    let mut at = quote.len();
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with(quote) {
            return Some(at + quote.len());
        }
        // An escaped quote does not end the string.
        let escape = usize::from(!is_raw && rest.starts_with('\\'));
        at += escape + rest[escape..].chars().next().map_or(0, char::len_utf8);
    }
    Some(text.len())
}

#[cfg(test)]
mod tests;
