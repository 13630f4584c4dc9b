//! Words: how a text is split and compared.
//!
//! Owns the split by Unicode's rules, lower case, stop words, and n-grams of words as hashes. Limits: no stemming, and
//! languages without spaces are split by character where Unicode does so.

use std::collections::HashSet;
use unicode_segmentation::UnicodeSegmentation;

/// The marks around what was masked, as in `‹email›`. What they enclose is no word.
pub(super) const MASK: [char; 2] = ['‹', '›'];

/// The words of a text in lower case.
pub(super) fn words(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = text;
    loop {
        let (before, after) = match rest.split_once(MASK[0]) {
            Some((before, after)) => (before, after.split_once(MASK[1]).map(|(_, after)| after)),
            None => (rest, None),
        };
        found.extend(before.unicode_words().map(|word| word.to_lowercase().replace('’', "'")));
        match after {
            Some(after) => rest = after,
            None => return found,
        }
    }
}

/// Whether a word carries meaning: it has two letters or more, no digit, and is no stop word.
pub(super) fn is_content(word: &str, stops: &HashSet<&str>) -> bool {
    word.chars().nth(1).is_some()
        && word.chars().all(|it| it.is_alphabetic() || it == '\'' || it == '-')
        && !stops.contains(word)
}

/// The stop words of a language; none if it is not known.
pub(super) fn stop_words(language: &str) -> HashSet<&'static str> {
    stop_words::lookup(language).unwrap_or_default().iter().copied().collect()
}

/// The hashes of all runs of `count` words.
pub(super) fn grams(words: &[String], count: usize) -> impl Iterator<Item = u64> {
    words.windows(count).map(|run| {
        run.iter()
            .fold(0, |hash, word| rapidhash::v3::rapidhash_v3(word.as_bytes()).wrapping_add(crate::random::mix(hash)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_in_lower_case_and_masks_are_none() {
        for (text, expected) in [
            ("", &[][..]),
            ("The Battery, isn't GREAT!", &["the", "battery", "isn't", "great"]),
            ("Schöne Grüße an ‹email› und ‹phone›.", &["schöne", "grüße", "an", "und"]),
            ("a ‹ b", &["a"]),
            ("30 hours", &["30", "hours"]),
        ] {
            assert_eq!(words(text), expected, "{text:?}");
        }
    }

    #[test]
    fn stop_words_numbers_and_letters_carry_no_meaning() {
        let stops = stop_words("en");
        let kept: Vec<_> =
            words("The battery of my x 30 2x isn't bad").into_iter().filter(|it| is_content(it, &stops)).collect();
        assert_eq!(kept, ["battery", "bad"]);
        assert!(stop_words("xx").is_empty());
        assert!(stop_words("de").contains("und"));
    }

    #[test]
    fn grams_depend_on_the_order_of_words() {
        let of = |text| grams(&words(text), 3).collect::<Vec<_>>();
        assert_eq!(of("a b").len(), 0);
        assert_eq!(of("a b c d").len(), 2);
        assert_eq!(of("a b c"), of("A, B c!"));
        assert_ne!(of("a b c"), of("c b a"));
    }
}
