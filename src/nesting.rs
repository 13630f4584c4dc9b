//! How deep JSON of others may nest.
//!
//! The fast parser uses stack for each level, even in what it skips, and a record that overflows the stack would crash the
//! process at every restart. So whoever uses it asks here first.

/// How deep a payload may nest.
pub(crate) const NESTING_MAX: usize = 64;

/// Whether objects and arrays nest deeper than [`NESTING_MAX`].
pub(crate) fn nests_too_deep(payload: &[u8]) -> bool {
    // Few payloads have this many brackets, and counting takes nanoseconds: '[' and '{' differ in one bit, and the
    // count of a chunk fits into a byte, so the loop is vectorised.
    let brackets = |piece: &[u8]| piece.iter().map(|byte| u8::from(*byte | 0x20 == b'{')).sum::<u8>();
    if payload.chunks(192).map(|piece| usize::from(brackets(piece))).sum::<usize>() <= NESTING_MAX {
        return false;
    }
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for byte in payload {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => depth += 1,
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > NESTING_MAX {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_in_texts_are_no_levels() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(!nests_too_deep(nested(NESTING_MAX).as_bytes()));
        assert!(nests_too_deep(nested(NESTING_MAX + 1).as_bytes()));
        assert!(!nests_too_deep(format!("[\"{}\\\"[\"]", "[".repeat(200)).as_bytes()));
        assert!(!nests_too_deep("[]".repeat(200).as_bytes()));
    }
}
