//! Claims: words and numbers that only a fact may bring.
//!
//! Guarantees: a number in a text stands in a fact, followed by the same word if a word follows in both. Limits: a claim
//! in words that the list does not have is not recognised; a brief can add them under `proof`.

use crate::content::brief::Fact;
use unicode_segmentation::UnicodeSegmentation;

/// Words that claim something, in English and German.
const CLAIMS: [&str; 63] = [
    "best",
    "cheapest",
    "lowest",
    "fastest",
    "safest",
    "strongest",
    "leading",
    "unique",
    "unbeatable",
    "guaranteed",
    "guarantee",
    "free",
    "risk-free",
    "always",
    "never",
    "forever",
    "everyone",
    "proven",
    "clinically",
    "scientifically",
    "certified",
    "approved",
    "award-winning",
    "winner",
    "only",
    "first",
    "double",
    "twice",
    "half",
    "triple",
    "hundred",
    "thousand",
    "million",
    "unlimited",
    "lifetime",
    "waterproof",
    "organic",
    "sustainable",
    "climate-neutral",
    "instantly",
    "cure",
    "cures",
    "beste",
    "besten",
    "bester",
    "bestes",
    "günstigste",
    "günstigsten",
    "billigste",
    "schnellste",
    "führend",
    "einzigartig",
    "garantiert",
    "garantie",
    "gratis",
    "kostenlos",
    "immer",
    "nie",
    "bewiesen",
    "zertifiziert",
    "doppelt",
    "wasserdicht",
    "klimaneutral",
];
/// Signs that claim something.
const SIGNS: [&str; 3] = ["#1", "no. 1", "nr. 1"];

/// The first claim that no fact brings.
pub(super) fn unproven(text: &str, facts: &[Fact], more: &[String]) -> Option<String> {
    let lower = text.to_lowercase();
    let of_facts: Vec<String> = facts
        .iter()
        .flat_map(|fact| [Some(&fact.text), fact.short.as_ref()])
        .flatten()
        .map(|it| it.to_lowercase())
        .collect();
    if let Some(sign) =
        SIGNS.iter().find(|sign| lower.contains(*sign) && !of_facts.iter().any(|fact| fact.contains(*sign)))
    {
        return Some((*sign).to_owned());
    }
    let parts: Vec<Vec<String>> = of_facts.iter().map(|fact| tokens(fact)).collect();
    let own = tokens(&lower);
    let has = |words: &[String]| parts.iter().any(|fact| fact.windows(words.len()).any(|run| run == words));
    let claims = CLAIMS.iter().map(|it| tokens(it)).chain(more.iter().map(|it| tokens(&it.to_lowercase())));
    for claim in claims.filter(|claim| !claim.is_empty()) {
        if own.windows(claim.len()).any(|run| run == claim) && !has(&claim) {
            return Some(claim.join(" "));
        }
    }
    let number =
        (0..own.len()).filter(|&at| is_number(&own[at])).find(|&at| !parts.iter().any(|fact| brings(fact, &own[at..])));
    number.map(|at| own[at..own.len().min(at + 2)].join(" "))
}

/// Words, numbers, and the signs that follow numbers.
fn tokens(text: &str) -> Vec<String> {
    let words = text
        .split_word_bounds()
        .map(str::trim)
        .filter(|word| word.chars().any(char::is_alphanumeric) || matches!(*word, "%" | "€" | "$" | "£"));
    words.map(plain_number).collect()
}

/// A number without separators of thousands, and with a decimal point.
fn plain_number(word: &str) -> String {
    if !word.starts_with(|it: char| it.is_ascii_digit()) {
        return word.to_owned();
    }
    let mut plain = String::new();
    let mut parts = word.split_inclusive([',', '.']).peekable();
    while let Some(part) = parts.next() {
        plain.push_str(part.trim_end_matches([',', '.']));
        match parts.peek() {
            // Three digits after a separator are thousands.
            Some(next) if next.trim_end_matches([',', '.']).len() != 3 => plain.push('.'),
            _ => {}
        }
    }
    plain
}

fn is_number(word: &str) -> bool {
    word.starts_with(|it: char| it.is_numeric())
}

/// Whether a fact has the number at the start of `own`, with the same word after it if there is one in both.
fn brings(fact: &[String], own: &[String]) -> bool {
    (0..fact.len()).any(|at| {
        let next = |tokens: &[String]| tokens.get(1).cloned();
        fact[at] == own[0] && next(&fact[at..]).zip(next(own)).is_none_or(|(a, b)| a == b)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_or_number_needs_a_fact() {
        let fact = |text: &str| Fact { id: "f".to_owned(), text: text.to_owned(), short: None };
        let facts = [
            fact("The battery lasts 30 hours with GPS"),
            fact("It costs 1,299.50 € and is waterproof to 50 metres"),
            fact("20 % less weight, free returns"),
        ];
        for (text, claim) in [
            ("30 hours of GPS", None),
            ("Runs for 30", None),
            ("30 days of GPS", Some("30 days")),
            ("31 hours of GPS", Some("31 hours")),
            ("Waterproof to 50 metres", None),
            ("For 1299.50 €", None),
            ("For 1.299,50 €", None),
            ("For 1.299,00 €", Some("1299.00 €")),
            ("20% less weight", None),
            ("50% less weight", Some("50 %")),
            ("Free returns", None),
            ("The CHEAPEST watch", Some("cheapest")),
            ("Guaranteed to last", Some("guaranteed")),
            ("The #1 watch", Some("#1")),
            ("Award-winning design", Some("award winning")),
            ("The lightest watch", Some("lightest")),
            ("Garantiert leicht", Some("garantiert")),
            ("A watch for every run", None),
            ("Bestow it", None),
        ] {
            assert_eq!(unproven(text, &facts, &["Lightest".to_owned()]).as_deref(), claim, "{text}");
        }
    }
}
