//! The length of a text as people see it.
//!
//! Owns an approximation of the grapheme clusters of Unicode Standard Annex 29. These count as one character: a letter
//! with its combining marks, a pair of regional indicators (a flag), emoji that are joined or have a skin tone or a
//! variation selector, a keycap, and the jamo of a Hangul syllable. Guarantees: the length is never less than what
//! people see, unless the text consists only of marks. Limits: the vowel signs of Indic and South-East Asian scripts
//! count separately, so a text in them may be refused slightly early. Every character has length 1, including wide
//! ones.

/// The number of characters that people see.
pub(super) fn seen_length(text: &str) -> usize {
    let mut count = 0;
    let mut before = None;
    // The number of regional indicators directly before this position.
    let mut indicators = 0;
    for letter in text.chars() {
        let is_indicator = is_indicator(letter);
        let completes_flag = is_indicator && indicators % 2 == 1;
        let continues = before.is_some_and(|before| completes_flag || extends(letter) || joins(before, letter));
        count += usize::from(!continues);
        indicators = if is_indicator { indicators + 1 } else { 0 };
        before = Some(letter);
    }
    count
}

fn is_indicator(letter: char) -> bool {
    matches!(letter, '\u{1f1e6}'..='\u{1f1ff}')
}

/// Whether a character extends the one before it.
fn extends(letter: char) -> bool {
    matches!(letter,
        // Combining marks: of Latin, Greek and Cyrillic, extended, supplement, of symbols, half marks.
        '\u{300}'..='\u{36f}' | '\u{483}'..='\u{489}' | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}'
        | '\u{20d0}'..='\u{20ff}' | '\u{fe20}'..='\u{fe2f}'
        // Points and marks of Hebrew and Arabic; voicing marks of kana.
        | '\u{591}'..='\u{5bd}' | '\u{5bf}' | '\u{5c1}' | '\u{5c2}' | '\u{5c4}' | '\u{5c5}' | '\u{5c7}'
        | '\u{610}'..='\u{61a}' | '\u{64b}'..='\u{65f}' | '\u{670}' | '\u{6d6}'..='\u{6dc}' | '\u{6df}'..='\u{6e4}'
        | '\u{6e7}' | '\u{6e8}' | '\u{6ea}'..='\u{6ed}' | '\u{3099}' | '\u{309a}'
        // Joiners, variation selectors, skin tones, tags of flags.
        | '\u{200c}' | '\u{200d}' | '\u{fe00}'..='\u{fe0f}' | '\u{1f3fb}'..='\u{1f3ff}' | '\u{e0020}'..='\u{e007f}'
        | '\u{e0100}'..='\u{e01ef}')
}

/// Whether two neighbours form one character although the second could stand alone.
fn joins(before: char, letter: char) -> bool {
    let is_leading = matches!(before, '\u{1100}'..='\u{115f}');
    let is_vowel = |letter| matches!(letter, '\u{1160}'..='\u{11a7}');
    let is_trailing = matches!(letter, '\u{11a8}'..='\u{11ff}');
    let is_pictograph = matches!(letter, '\u{2190}'..='\u{2bff}' | '\u{1f000}'..='\u{1faff}');
    (before == '\u{200d}' && is_pictograph)
        || is_leading && is_vowel(letter)
        || (is_vowel(before) || matches!(before, '\u{11a8}'..='\u{11ff}' | '\u{ac00}'..='\u{d7a3}')) && is_trailing
        || (before, letter) == ('\r', '\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_is_what_people_see() {
        for (text, length) in [
            ("", 0),
            ("Sommer-Sale", 11),
            ("Grüße", 5),
            ("Gru\u{308}ße", 5),
            ("日本語", 3),
            ("か\u{3099}", 1),
            ("\u{1112}\u{1161}\u{11ab}글", 2),
            ("🇨🇭🇩🇪", 2),
            ("🇨🇭🇩", 2),
            ("👍🏽", 1),
            ("👩\u{200d}👩\u{200d}👧!", 2),
            ("❤\u{fe0f}", 1),
            ("1\u{fe0f}\u{20e3}", 1),
            ("שָׁלוֹם", 4),
            ("a\u{200d}b", 2),
            ("\u{301}", 1),
            ("a\r\nb", 3),
        ] {
            assert_eq!(seen_length(text), length, "{text:?}");
        }
    }
}
