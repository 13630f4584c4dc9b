//! The language of a text.
//!
//! Limits: a text of a few words is often not recognised, and is then of no language rather than of a wrong one.

use super::words::{stop_words, words};
use std::{collections::HashMap, sync::LazyLock};
use whatlang::{Detector, Lang, Script};

/// Texts with fewer letters are not judged.
const LETTERS_MIN: usize = 12;
/// Less certain results are none.
const CONFIDENCE_MIN: f64 = 0.6;

/// The two-letter codes of the languages that can be named in a brief.
const CODES: [(Lang, &str); 20] = [
    (Lang::Eng, "en"),
    (Lang::Deu, "de"),
    (Lang::Fra, "fr"),
    (Lang::Spa, "es"),
    (Lang::Ita, "it"),
    (Lang::Por, "pt"),
    (Lang::Nld, "nl"),
    (Lang::Pol, "pl"),
    (Lang::Swe, "sv"),
    (Lang::Dan, "da"),
    (Lang::Nob, "no"),
    (Lang::Fin, "fi"),
    (Lang::Ces, "cs"),
    (Lang::Hun, "hu"),
    (Lang::Ron, "ro"),
    (Lang::Tur, "tr"),
    (Lang::Ukr, "uk"),
    (Lang::Rus, "ru"),
    (Lang::Jpn, "ja"),
    (Lang::Cmn, "zh"),
];

/// The stop words of all languages; bit n stands for the n-th language.
static STOP_WORDS: LazyLock<HashMap<&str, u32>> = LazyLock::new(|| {
    let mut all = HashMap::new();
    for (index, (_, code)) in CODES.iter().enumerate() {
        for word in stop_words(code) {
            *all.entry(word).or_default() |= 1 << index;
        }
    }
    all
});

/// The language of a text as a code of two letters, where it can be told.
pub fn detect(text: &str) -> Option<&'static str> {
    if text.chars().filter(|it| it.is_alphabetic()).nth(LETTERS_MIN - 1).is_none() {
        return script_language(text);
    }
    let found = Detector::with_allowlist(CODES.iter().map(|(lang, _)| *lang).collect()).detect(text)?;
    if found.confidence() < CONFIDENCE_MIN {
        return script_language(text).or_else(|| by_stop_words(text));
    }
    CODES.iter().find(|(lang, _)| *lang == found.lang()).map(|(_, code)| *code)
}

/// Whether this is the code of a language that can be detected.
pub fn is_language(code: &str) -> bool {
    CODES.iter().any(|(_, known)| *known == code)
}

/// The language of most of the stop words of a text, if there are two and no other language has as many.
fn by_stop_words(text: &str) -> Option<&'static str> {
    let mut votes = [0_u32; CODES.len()];
    for word in words(text) {
        let languages = STOP_WORDS.get(word.as_str()).copied().unwrap_or_default();
        for (index, vote) in votes.iter_mut().enumerate() {
            *vote += languages >> index & 1;
        }
    }
    let most = votes.iter().copied().max().filter(|most| *most >= 2)?;
    let mut first = votes.iter().enumerate().filter(|(_, vote)| **vote == most);
    let (index, _) = first.next()?;
    first.next().is_none().then(|| CODES[index].1)
}

/// The language of a script that has only one here.
fn script_language(text: &str) -> Option<&'static str> {
    match whatlang::detect_script(text)? {
        Script::Hiragana | Script::Katakana => Some("ja"),
        Script::Mandarin => Some("zh"),
        _ => None,
    }
}

/// Whether the letters of a text are of another script than the language is written in.
pub(super) fn has_other_script(text: &str, language: &str) -> bool {
    let Some(script) = whatlang::detect_script(text) else { return false };
    match language {
        "ru" | "uk" => script != Script::Cyrillic,
        "ja" => !matches!(script, Script::Hiragana | Script::Katakana | Script::Mandarin),
        "zh" => script != Script::Mandarin,
        _ => script != Script::Latin,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_language_is_named_where_it_can_be_told() {
        for (text, language) in [
            ("The battery lasts the whole day and the screen is bright enough outside.", Some("en")),
            ("Der Akku hält den ganzen Tag und das Display ist auch draußen gut lesbar.", Some("de")),
            ("La batterie tient toute la journée et l'écran est très lumineux dehors.", Some("fr")),
            ("La batería dura todo el día y la pantalla se ve muy bien en la calle.", Some("es")),
            ("Батарея держит весь день, и экран хорошо виден на улице.", Some("ru")),
            ("バッテリーは一日中もちます", Some("ja")),
            ("Setup took a minute and then it just worked", Some("en")),
            ("Das Armband ist leider viel zu kurz", Some("de")),
            ("More time for what you love", Some("en")),
            ("Mehr Zeit für das, was zählt", Some("de")),
            ("Great battery, poor strap", None),
            ("Battery life is superb", None),
            ("Akkulaufzeit super Display", None),
            ("ok", None),
            ("", None),
            ("12345 67890 !!!", None),
        ] {
            assert_eq!(detect(text), language, "{text}");
        }
    }

    #[test]
    fn another_script_is_seen_in_short_texts() {
        assert!(has_other_script("Скидки", "en") && has_other_script("Sale", "ru"));
        assert!(!has_other_script("Sale", "de") && !has_other_script("24 / 7", "de"));
    }
}
