//! Sentiment: whether a text praises or complains.
//!
//! Owns a small lexicon of our own for English and German, with negation. Limits: it knows what people say about
//! products, and neither irony nor other languages, whose texts are neutral.

use crate::content::words::words;

/// Words with their strength, by language.
const ENGLISH: &[(&str, i32)] = &[
    ("amazing", 3),
    ("awesome", 3),
    ("excellent", 3),
    ("fantastic", 3),
    ("outstanding", 3),
    ("perfect", 3),
    ("superb", 3),
    ("love", 3),
    ("loves", 3),
    ("loved", 3),
    ("brilliant", 3),
    ("best", 3),
    ("beautiful", 2),
    ("comfortable", 2),
    ("easy", 2),
    ("fast", 2),
    ("good", 2),
    ("great", 3),
    ("happy", 2),
    ("helpful", 2),
    ("nice", 2),
    ("reliable", 2),
    ("smooth", 2),
    ("solid", 2),
    ("sturdy", 2),
    ("bright", 1),
    ("clear", 1),
    ("quick", 2),
    ("quiet", 1),
    ("recommend", 2),
    ("recommended", 2),
    ("pleased", 2),
    ("impressed", 2),
    ("worth", 2),
    ("works", 1),
    ("enjoy", 2),
    ("enjoyed", 2),
    ("friendly", 2),
    ("pleasant", 2),
    ("delicious", 3),
    ("fine", 1),
    ("simple", 1),
    ("light", 1),
    ("fun", 2),
    ("thanks", 1),
    ("satisfied", 2),
    ("wonderful", 3),
    ("crisp", 2),
    ("awful", -3),
    ("terrible", -3),
    ("horrible", -3),
    ("worst", -3),
    ("hate", -3),
    ("hated", -3),
    ("useless", -3),
    ("broken", -2),
    ("broke", -2),
    ("breaks", -2),
    ("bad", -2),
    ("poor", -2),
    ("slow", -2),
    ("loud", -1),
    ("noisy", -2),
    ("annoying", -2),
    ("disappointed", -2),
    ("disappointing", -2),
    ("expensive", -1),
    ("cheaply", -2),
    ("flimsy", -2),
    ("uncomfortable", -2),
    ("difficult", -2),
    ("hard", -1),
    ("late", -1),
    ("wrong", -2),
    ("weak", -2),
    ("failed", -2),
    ("fails", -2),
    ("problem", -2),
    ("problems", -2),
    ("refund", -1),
    ("return", -1),
    ("returned", -1),
    ("scratched", -2),
    ("damaged", -2),
    ("missing", -1),
    ("unusable", -3),
    ("waste", -3),
    ("rude", -3),
    ("dim", -1),
    ("tight", -1),
    ("short", -1),
    ("never", -1),
    ("crashes", -2),
    ("confusing", -2),
    ("ugly", -2),
    ("dirty", -2),
    ("overpriced", -2),
];
const GERMAN: &[(&str, i32)] = &[
    ("ausgezeichnet", 3),
    ("begeistert", 3),
    ("bequem", 2),
    ("beste", 3),
    ("besten", 3),
    ("einfach", 1),
    ("empfehlen", 2),
    ("empfehlenswert", 2),
    ("freundlich", 2),
    ("gut", 2),
    ("gute", 2),
    ("guter", 2),
    ("gutes", 2),
    ("hervorragend", 3),
    ("klasse", 3),
    ("leicht", 1),
    ("leise", 1),
    ("liebe", 2),
    ("perfekt", 3),
    ("praktisch", 2),
    ("prima", 2),
    ("schnell", 2),
    ("schön", 2),
    ("schöne", 2),
    ("solide", 2),
    ("spitze", 3),
    ("stabil", 2),
    ("super", 3),
    ("toll", 3),
    ("tolle", 3),
    ("wunderbar", 3),
    ("zufrieden", 2),
    ("zuverlässig", 2),
    ("hell", 1),
    ("defekt", -2),
    ("enttäuscht", -2),
    ("enttäuschend", -2),
    ("furchtbar", -3),
    ("kaputt", -2),
    ("langsam", -2),
    ("laut", -1),
    ("leider", -1),
    ("mangelhaft", -2),
    ("miserabel", -3),
    ("mies", -3),
    ("nervt", -2),
    ("problem", -2),
    ("probleme", -2),
    ("schlecht", -2),
    ("schlechte", -2),
    ("schrecklich", -3),
    ("schwach", -2),
    ("teuer", -1),
    ("umständlich", -2),
    ("unbequem", -2),
    ("unbrauchbar", -3),
    ("unfreundlich", -3),
    ("verspätet", -2),
    ("zerkratzt", -2),
    ("zurückgeschickt", -1),
];
const NEGATIONS: [&str; 16] = [
    "not", "no", "never", "don't", "doesn't", "didn't", "isn't", "wasn't", "can't", "without", "nicht", "kein",
    "keine", "keinen", "nie", "ohne",
];
/// A negation acts on this many following words.
const REACH: usize = 3;
/// Maps a sum of strengths to -1 to 1, as in VADER (Hutto and Gilbert, 2014).
const ALPHA: f64 = 15.0;

/// The sentiment of a text, -1 to 1; 0 for texts without any word of the lexicon, and in other languages.
pub fn sentiment(text: &str, language: &str) -> f64 {
    let lexicon: &[(&str, i32)] = match language {
        "en" => ENGLISH,
        "de" => GERMAN,
        _ => return 0.0,
    };
    let words = words(text);
    let mut sum = 0;
    for (at, word) in words.iter().enumerate() {
        let Some((_, strength)) = lexicon.iter().find(|(known, _)| known == word) else { continue };
        let before = &words[at.saturating_sub(REACH)..at];
        let is_negated = before.iter().any(|word| NEGATIONS.contains(&word.as_str()));
        sum += if is_negated { -strength } else { *strength };
    }
    let sum = f64::from(sum);
    sum / (sum * sum + ALPHA).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn praise_is_above_zero_and_complaints_are_below() {
        for (text, language, sign) in [
            ("The screen is great and easy to read", "en", 1.0),
            ("Not good, and it broke after a week", "en", -1.0),
            ("It does not break, no problem at all", "en", 1.0),
            ("It arrived on Monday", "en", 0.0),
            ("Leider ist das Armband unbequem", "de", -1.0),
            ("Nicht schlecht!", "de", 1.0),
            ("Super schnell geliefert", "de", 1.0),
            ("great", "fr", 0.0),
        ] {
            let found = sentiment(text, language);
            assert!(found == 0.0 && sign == 0.0 || found * sign > 0.0, "{text}: {found}");
            assert!(found.abs() < 1.0);
        }
        assert!((sentiment("good", "en") - 2.0 / 19.0_f64.sqrt()).abs() < 1e-12);
    }
}
