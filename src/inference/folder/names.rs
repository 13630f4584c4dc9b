//! Names of versions.

use super::{
    super::{audit::AUDIT, files::NAME_BYTES_MAX},
    ACTIVE, SERVED,
};
use std::cmp::Ordering;

/// Why a version name is invalid. It is the name of a folder, and appears in decisions, logs and metrics.
pub fn version_fault(version: &str) -> Option<&'static str> {
    let is_letter = |letter: char| letter.is_alphanumeric() || " ._-+@:=~,()".contains(letter);
    if version.is_empty() || version.len() > NAME_BYTES_MAX - ".partial".len() - 16 {
        return Some("expected 1 to 232 bytes");
    }
    if [ACTIVE, SERVED, AUDIT].contains(&version) {
        return Some("the folder has a file of this name");
    }
    if !version.starts_with(|first: char| first.is_alphanumeric() || first == '_') {
        return Some("expected a letter, a digit or _ first");
    }
    if !version.chars().all(is_letter) || version.ends_with(' ') {
        return Some("expected letters, digits, spaces within and any of . _ - + @ : = ~ , ( )");
    }
    None
}

/// Natural order: runs of digits by value, the rest by characters.
pub(super) fn natural(a: &str, b: &str) -> Ordering {
    fn parts(text: &str) -> Vec<(u64, &str)> {
        let is_digit = |letter: char| letter.is_ascii_digit();
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let end = rest.find(|letter| is_digit(letter) != is_digit(first)).unwrap_or(rest.len());
            let (part, after) = rest.split_at(end);
            // A run too long for a u64 is a hash or a date: compare it by characters.
            parts.push((part.parse().unwrap_or(u64::MAX), part));
            rest = after;
        }
        parts
    }
    let key = |parts: Vec<(u64, &str)>| -> Vec<(u64, String)> {
        let letters =
            |(number, text): (u64, &str)| (number, if number == u64::MAX { text.to_owned() } else { String::new() });
        parts.into_iter().map(letters).collect()
    };
    key(parts(a)).cmp(&key(parts(b))).then_with(|| a.cmp(b))
}
