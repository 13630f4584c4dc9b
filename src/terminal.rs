//! Characters that a terminal acts on.

/// Whether a terminal acts on this character instead of displaying it: control characters, and those that change the
/// direction of text.
pub(crate) fn moves_a_terminal(letter: char) -> bool {
    letter.is_control() || matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
