//! The list of third-party software.

use crate::{output, repository, text};
use std::process::Command;

#[test]
fn the_list_of_third_party_software_is_up_to_date() {
    output(Command::new(repository("deploy/licences/third-party")).arg("--check").env("CARGO", env!("CARGO")));
}

/// `make deny` checks this for every crate, including those of tests and build scripts, and reads the licence texts.
#[test]
fn every_crate_of_the_program_is_under_a_licence_that_is_allowed() {
    let deny: toml::Table = toml::from_str(&text("deny.toml")).unwrap();
    let allowed: Vec<&str> =
        deny["licenses"]["allow"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
    let list = text("deploy/licences/THIRD-PARTY.md");
    let (_, crates) = list.split_once("| Crate | Version | Licence |\n|---|---|---|\n").unwrap();
    assert!(crates.lines().count() > 100, "{crates}");
    for line in crates.lines() {
        let licence = line.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        assert!(is_allowed(licence, &allowed), "deny.toml does not allow the licence of {line}");
    }
}

/// Whether these licences satisfy an SPDX licence expression.
fn is_allowed(expression: &str, allowed: &[&str]) -> bool {
    let expression = expression.trim();
    if let Some(parts) = split(expression, &[" OR ", "/"]) {
        return parts.iter().any(|part| is_allowed(part, allowed));
    }
    if let Some(parts) = split(expression, &[" AND "]) {
        return parts.iter().all(|part| is_allowed(part, allowed));
    }
    match expression.strip_prefix('(').and_then(|it| it.strip_suffix(')')) {
        Some(inner) => is_allowed(inner, allowed),
        None => allowed.contains(&expression),
    }
}

/// Splits an expression at operators outside all parentheses. `None` if there is no such operator.
fn split<'a>(expression: &'a str, operators: &[&str]) -> Option<Vec<&'a str>> {
    let (mut depth, mut from, mut parts) = (0, 0, Vec::new());
    for (at, letter) in expression.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ if depth == 0 => {
                if let Some(operator) = operators.iter().find(|it| expression[at..].starts_with(**it)) {
                    parts.push(&expression[from..at]);
                    from = at + operator.len();
                }
            }
            _ => {}
        }
    }
    (!parts.is_empty()).then(|| {
        parts.push(&expression[from..]);
        parts
    })
}

#[test]
fn a_licence_expression_is_met_by_one_of_a_choice_and_by_all_of_a_sum() {
    for (expression, is_met) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("GPL-3.0/MIT", true),
        ("MIT AND GPL-3.0", false),
        ("(GPL-3.0 OR MIT) AND ISC", true),
        ("(GPL-3.0 OR MIT) AND (GPL-3.0 OR LGPL-2.1)", false),
        ("Apache-2.0 WITH LLVM-exception OR ISC", true),
    ] {
        assert_eq!(is_allowed(expression, &["MIT", "ISC"]), is_met, "{expression}");
    }
}
