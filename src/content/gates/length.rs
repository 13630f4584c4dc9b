//! The length of a text in the platform's counting.
//!
//! Owns the count of grapheme clusters (Unicode Standard Annex 29), of which those of double width (East Asian wide and
//! most emoji) count as two, as Google's ads do.

use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthChar;

/// The length: grapheme clusters, wide ones twice.
pub fn seen_length(text: &str) -> usize {
    text.graphemes(true).map(|cluster| if cluster.chars().any(is_wide) { 2 } else { 1 }).sum()
}

/// Whether a character makes its cluster wide: by itself, as part of a flag, or because it asks for the form of an emoji.
fn is_wide(letter: char) -> bool {
    letter.width() == Some(2) || matches!(letter, '\u{1f1e6}'..='\u{1f1ff}' | '\u{fe0f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_characters_count_twice_and_marks_not_at_all() {
        for (text, length) in [
            ("", 0),
            ("Grüße", 5),
            ("Gru\u{308}ße", 5),
            ("日本語", 6),
            ("ﾊﾝｶｸ", 4),
            ("한국", 4),
            ("👍🏽", 2),
            ("👩\u{200d}👩\u{200d}👧!", 3),
            ("🇩🇪", 2),
            ("e\u{301}", 1),
            ("हिन्दी", 2),
        ] {
            assert_eq!(seen_length(text), length, "{text}");
        }
    }
}
