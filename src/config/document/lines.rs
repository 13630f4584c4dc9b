//! Lines of a configuration file, read without a parser: what is a key and what is its value, even in text that is not TOML.

use super::LINE_CHARS;
use crate::secret;

/// The parts of a header such as `[kafka.client]`.
pub(super) fn header(line: &str) -> Option<Vec<String>> {
    let inside = line.strip_prefix('[')?.trim_start_matches('[');
    let (name, _) = inside.split_once(']')?;
    let is_name = |letter: char| letter.is_alphanumeric() || "_-.\"\' ".contains(letter);
    name.chars().all(is_name).then(|| key_parts(name))
}

/// Splits a line at the `=` of its assignment.
pub(super) fn assignment(line: &str) -> Option<(&str, &str)> {
    let mut quote = None;
    for (at, letter) in line.char_indices() {
        match (quote, letter) {
            (None, '=') => return Some((&line[..at], &line[at + 1..])),
            (None, '"' | '\'') => quote = Some(letter),
            (None, '#') => return None,
            (Some(open), _) if open == letter => quote = None,
            _ => {}
        }
    }
    None
}

/// Splits a dotted key into its parts.
pub(super) fn key_parts(key: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut quote = None;
    for letter in key.trim().chars() {
        match (quote, letter) {
            (None, '"' | '\'') => quote = Some(letter),
            (Some(open), _) if open == letter => quote = None,
            (None, '.') => parts.push(String::new()),
            _ => parts.last_mut().expect("there is always one").push(letter),
        }
    }
    parts.iter().map(|part| part.trim().to_owned()).collect()
}

/// Whether a line inside a string looks like a key with its value. A rule has comparisons, and no names in brackets.
pub(super) fn looks_like_a_key(line: &str) -> bool {
    let compares = ["==", "!=", "<=", ">="].iter().any(|sign| line.contains(sign));
    header(line).is_some() || line.contains('=') && !compares
}

/// The length of the text after a key's `=` that certainly is its value: a quoted string, a bare word, or a list of those, with
/// trailing brackets, comma and comment. Tables are excluded, because their keys were not checked.
pub(super) fn end_of_value(text: &str) -> usize {
    let rest = text.trim_start();
    let start = text.len() - rest.len();
    let one = |text: &str| -> Option<usize> {
        let quote = text.chars().next().filter(|first| matches!(first, '"' | '\''));
        let Some(quote) = quote else {
            let letter = |letter: char| letter.is_alphanumeric() || "_-+.:/".contains(letter);
            return Some(text.find(|it| !letter(it)).unwrap_or(text.len()));
        };
        let mut escaped = false;
        let end = text[1..].find(|letter| {
            let ends = letter == quote && !escaped;
            escaped = letter == '\\' && quote == '"' && !escaped;
            ends
        });
        // A string without an end quote may continue with another key.
        match end {
            Some(end) => Some(end + 2),
            None => (!text.contains('=')).then_some(text.len()),
        }
    };
    let mut at = 0;
    let mut is_list = false;
    loop {
        let skipped = rest[at..].trim_start_matches([' ', '\t', '[', ']', ',']);
        is_list |= rest[at..rest.len() - skipped.len()].contains('[');
        let next = rest.len() - skipped.len();
        if skipped.is_empty() || skipped.starts_with('#') {
            // A comment may contain an old value.
            let is_harmless = !secret::is_secret_name(skipped) && !skipped.contains('=');
            return if is_harmless { text.len() } else { start + at };
        }
        // Only a list has several values.
        if at > 0 && !(is_list && rest[at..next].contains(',')) {
            return start + at;
        }
        match one(skipped) {
            Some(length)
                if length > 0 && !secret::is_secret_name(&skipped[..length]) && !skipped[..length].contains('@') =>
            {
                at = next + length;
            }
            _ => return start + at,
        }
    }
}

/// The text after a value on its line, such as a comment; the whole text if the value does not end on this line.
pub(super) fn after_value(value: &str) -> &str {
    let value = value.trim();
    let Some(quote) = value.chars().next().filter(|first| matches!(first, '"' | '\'')) else {
        return value.find('#').map_or("", |at| &value[at..]);
    };
    match value[1..].rfind(quote) {
        Some(end) => &value[end + 2..],
        None => value,
    }
}

/// A line cut to a bounded length around a column, without control characters.
pub(super) fn excerpt((line, column): &(String, usize)) -> (String, usize) {
    let clean = |letter: char| if letter.is_control() { ' ' } else { letter };
    let letters: Vec<char> = line.chars().map(clean).collect();
    let column = (*column).clamp(1, letters.len() + 1);
    if letters.len() <= LINE_CHARS {
        return (letters.into_iter().collect(), column);
    }
    let start = (column - 1).saturating_sub(LINE_CHARS / 2).min(letters.len() - LINE_CHARS);
    let end = start + LINE_CHARS;
    let (before, after) = (if start > 0 { "…" } else { "" }, if end < letters.len() { "…" } else { "" });
    let part: String = letters[start..end].iter().collect();
    (format!("{before}{part}{after}"), column - start + before.chars().count())
}

/// A text cut to a bounded length, without control characters. The end is kept, because it says what is wrong with a long value.
pub(super) fn clipped(text: &str, letters: usize) -> String {
    let clean = |letter: char| if letter.is_control() { ' ' } else { letter };
    let count = text.chars().count();
    if count <= letters {
        return text.chars().map(clean).collect();
    }
    let end = letters / 3;
    let head = text.chars().take(letters - end);
    head.chain(['…']).chain(text.chars().skip(count - end)).map(clean).collect()
}
