//! How large a struct and a file may be.

use super::{code, sources, without_tests};
use std::collections::{BTreeMap, BTreeSet};

/// The most fields of a struct. With more, some of them belong together and have a name of their own.
const FIELDS_MAX: usize = 12;

/// Why a struct is larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mirrors {
    /// The keys of a configuration section, or its sections.
    Keys,
    /// The flags of a command.
    Flags,
    /// The fields of a message or a record.
    Fields,
    /// The columns or lines of a report.
    Columns,
    /// Nothing: it is to be divided.
    Nothing,
}

/// The larger structs, by file below `src`.
const LARGER: [(&str, &str, Mirrors); 27] = [
    ("cli/content/write.rs", "WriteArgs", Mirrors::Flags),
    ("cli/evaluate.rs", "EvaluateArgs", Mirrors::Flags),
    ("cli/export.rs", "Export", Mirrors::Nothing),
    ("cli/profile/report.rs", "ProfileReport", Mirrors::Columns),
    ("cli/train.rs", "TrainArgs", Mirrors::Flags),
    ("cli/why/decision.rs", "ReadDecision", Mirrors::Fields),
    ("config/mod.rs", "Config", Mirrors::Keys),
    ("content/brief/mod.rs", "Brief", Mirrors::Keys),
    ("control/decision/read.rs", "Members", Mirrors::Fields),
    ("control/join/touch.rs", "Touch", Mirrors::Fields),
    ("control/outcome/mod.rs", "Members", Mirrors::Fields),
    ("control/outcome/mod.rs", "Outcome", Mirrors::Fields),
    ("control/simulation/check.rs", "Report", Mirrors::Columns),
    ("control/simulation/world.rs", "Truth", Mirrors::Columns),
    ("control/state/wire.rs", "PacerState", Mirrors::Fields),
    ("control/state/wire.rs", "Parked", Mirrors::Fields),
    ("decision/mod.rs", "Decision", Mirrors::Fields),
    ("effect/fold.rs", "Evaluation", Mirrors::Nothing),
    ("effect/fold.rs", "Totals", Mirrors::Columns),
    ("effect/report.rs", "GroupReport", Mirrors::Columns),
    ("engine/pipeline/spec.rs", "PipelineSpec", Mirrors::Keys),
    ("inference/spec.rs", "ModelSpec", Mirrors::Keys),
    ("privacy/consent/spec.rs", "ConsentSpec", Mirrors::Keys),
    ("serve/spec.rs", "ServeSpec", Mirrors::Keys),
    ("targeting/campaign/spec.rs", "CampaignSpec", Mirrors::Keys),
    ("targeting/creative/spec.rs", "CreativeSpec", Mirrors::Keys),
    ("testkit/consent.rs", "Tc", Mirrors::Fields),
];

/// The names of the structs in a text, with the numbers of their fields.
fn structs(text: &str) -> Vec<(String, usize)> {
    let code: String = without_tests(text).map(|line| code(line) + "\n").collect();
    let mut found = Vec::new();
    for (at, _) in code.match_indices("struct ") {
        if code[..at].chars().next_back().is_some_and(|letter| letter.is_alphanumeric() || letter == '_') {
            continue;
        }
        let rest = &code[at + "struct ".len()..];
        let name: String = rest.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect();
        let Some(open) = rest.find(['{', ';']).filter(|at| rest[*at..].starts_with('{')) else { continue };
        found.push((name, fields(&rest[open + 1..])));
    }
    found
}

/// The number of fields before the brace that ends a struct. A field is a colon that stands alone and in no bracket.
fn fields(body: &str) -> usize {
    let (mut depth, mut fields, mut before) = (0, 0, ' ');
    let mut letters = body.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '{' | '(' | '[' | '<' => depth += 1,
            '}' if depth == 0 => break,
            // `->` ends no bracket.
            '>' if before == '-' => {}
            '}' | ')' | ']' | '>' => depth -= 1,
            ':' if depth == 0 && before != ':' && letters.peek() != Some(&':') => fields += 1,
            _ => {}
        }
        before = letter;
    }
    fields
}

#[test]
fn no_struct_has_more_fields_than_one_can_keep_in_mind() {
    let mut wrong = Vec::new();
    let mut larger = BTreeSet::new();
    for (path, text) in &sources() {
        for (name, fields) in structs(text).into_iter().filter(|(_, fields)| *fields > FIELDS_MAX) {
            match LARGER.iter().position(|(file, listed, _)| (*file, *listed) == (path.as_str(), name.as_str())) {
                Some(place) => drop(larger.insert(place)),
                None => wrong.push(format!(
                    "{path}: {name} has {fields} fields, more than {FIELDS_MAX}: group those that belong together"
                )),
            }
        }
    }
    let unneeded = LARGER.iter().enumerate().filter(|(place, _)| !larger.contains(place));
    wrong.extend(unneeded.map(|(_, (path, name, _))| format!("{path}: {name} need not be listed any more")));
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn fields_are_counted_in_each_kind_of_struct() {
    for (text, found) in [
        ("struct A;\nstruct B(u8, u8);", &[][..]),
        ("pub struct A {\n    /// A: one.\n    pub a: u8,\n    b: std::vec::Vec<x::Y>, // c: d\n}", &[("A", 2)]),
        ("struct A<'a, T>\nwhere\n    T: Copy,\n{\n    a: &'a dyn Fn(x: T) -> T,\n    b: [T; 2],\n}", &[("A", 2)]),
        ("fn f() {\n    struct Inner { a: u8, b: u8, c: Option<Box<dyn Fn(u8) -> u8>> }\n}", &[("Inner", 3)]),
        ("struct A { a: u8 }\n#[cfg(test)]\nmod tests {\n    struct B { a: u8 }\n}", &[("A", 1)]),
        ("let my_struct = 1;", &[]),
    ] {
        let structs = structs(text);
        let structs: Vec<(&str, usize)> = structs.iter().map(|(name, fields)| (name.as_str(), *fields)).collect();
        assert_eq!(structs, found, "{text}");
    }
}

/// The most lines of a file of `src`, its separate tests aside.
const LINES_MAX: usize = 500;

/// The longer files: each is to be divided.
const LONGER: [&str; 2] = ["cli/export.rs", "training/rows.rs"];

#[test]
fn no_file_is_longer_than_one_reads_at_a_time() {
    let sources = sources();
    let longer: BTreeMap<&str, usize> = sources
        .iter()
        .map(|(path, text)| (path.as_str(), text.lines().count()))
        .filter(|(_, lines)| *lines > LINES_MAX)
        .collect();
    let unlisted = longer.iter().filter(|(path, _)| !LONGER.contains(path));
    let mut wrong: Vec<String> = unlisted
        .map(|(path, lines)| format!("{path} has {lines} lines, more than {LINES_MAX}: divide it by subject"))
        .collect();
    let unneeded = LONGER.iter().filter(|path| !longer.contains_key(**path));
    wrong.extend(unneeded.map(|path| format!("{path} need not be listed any more")));
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
