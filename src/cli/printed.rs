//! Escapes control characters, so that external ids, names and messages cannot send commands to the terminal.
//!
//! Guarantees: control characters other than newline and tab are printed as `\u{1b}` and the like. JSON output is already free of
//! them.

use crate::terminal::moves_a_terminal;
use std::{
    borrow::Cow,
    io::{self, StdoutLock, Write},
};

/// Whether this character is printed as its code.
fn is_escaped(letter: char) -> bool {
    moves_a_terminal(letter) && !matches!(letter, '\n' | '\t')
}

/// Escapes the control characters of a text.
pub(super) fn printed(text: &str) -> Cow<'_, str> {
    if !text.contains(is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut printed = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        if is_escaped(letter) { printed.extend(letter.escape_unicode()) } else { printed.push(letter) }
    }
    Cow::Owned(printed)
}

/// Standard output for external text.
pub(super) fn stdout() -> Printed<StdoutLock<'static>> {
    Printed(io::stdout().lock())
}

/// A writer that escapes control characters.
pub(super) struct Printed<W>(W);

impl<W: Write> Write for Printed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match str::from_utf8(bytes) {
            Ok(text) => self.0.write_all(printed(text).as_bytes())?,
            // Part of a character; `write!` passes whole strings.
            Err(_) => self.0.write_all(printed(&String::from_utf8_lossy(bytes)).as_bytes())?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        let mut out = Printed(Vec::new());
        let user = "a\u{1b}]0;x\u{7}\0\u{9b}31m\rü\u{202e}";
        writeln!(out, "user {user}\tend").unwrap();
        let expected = "user a\\u{1b}]0;x\\u{7}\\u{0}\\u{9b}31m\\u{d}ü\\u{202e}\tend\n";
        assert_eq!(String::from_utf8(out.0).unwrap(), expected);
        assert!(matches!(printed("plain\n"), Cow::Borrowed("plain\n")));
    }
}
