//! Where JSON is wrong.
//!
//! Only the place goes into messages, because the messages of the parsers quote the text, which may be about a user.

use std::fmt::{self, Display, Formatter};

/// A place in a text: `line 2, column 5`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JsonPlace {
    /// The line, from 1.
    pub line: usize,
    /// The column in bytes, from 1; 0 if the text ends before its first byte.
    pub column: usize,
}

impl JsonPlace {
    /// The place of a byte of a text.
    pub(crate) fn of_byte(text: &[u8], at: usize) -> Self {
        let before = &text[..at];
        let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        Self { line: before.split(|byte| *byte == b'\n').count(), column: at - line_start + 1 }
    }
}

impl From<&serde_json::Error> for JsonPlace {
    fn from(error: &serde_json::Error) -> Self {
        Self { line: error.line(), column: error.column() }
    }
}

impl From<&sonic_rs::Error> for JsonPlace {
    fn from(error: &sonic_rs::Error) -> Self {
        Self { line: error.line(), column: error.column() }
    }
}

impl Display for JsonPlace {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::de::IgnoredAny;

    #[test]
    fn a_byte_and_an_error_have_the_same_place() {
        let text = "{\"a\":\n \"é\", b}";
        let at = text.find('b').unwrap();
        let place = JsonPlace::of_byte(text.as_bytes(), at);
        assert_eq!(place.to_string(), "line 2, column 8");
        assert_eq!(JsonPlace::from(&serde_json::from_str::<IgnoredAny>(text).unwrap_err()), place);
        assert_eq!(JsonPlace::of_byte(b"\n", 0).to_string(), "line 1, column 1");
        assert_eq!(JsonPlace::of_byte(b"\n", 1).to_string(), "line 2, column 1");
    }
}
