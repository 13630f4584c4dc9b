//! The sections of the states, field by field.

use super::{super::us, *};

/// The fields of the sections, in order, from their specifications. `n`: a notice whose absence counts; `-`: a field that
/// does not matter; `s`, `h`, `t`: the opt-outs of sale, sharing and targeted advertising; `c`: a known child; `p`:
/// further use; `m`: whether MSPA covers it. Letters in brackets are sensitive categories.
pub(super) const SECTIONS: &[(u32, u64, &str)] = &[
    (7, 1, "nnnn--sht[OBHSCGMLDFUT]ccpm--"),
    (7, 2, "nnnn--sht[OBHSCGMLDFUTHVOX]cccpm--"),
    (8, 1, "nn-sh[DFLQTGMHS]ccpm--"),
    (9, 1, "nnnst[OBHSCGML]cm--"),
    (10, 1, "nnnst[OBHSCGM]cm--"),
    (11, 1, "nnn-st[OBSCHGML]cm--"),
    (12, 1, "nnnst[OBHSCGML]cccm--"),
    (13, 1, "nnnst[OBHSCGML]cccpm--"),
    (14, 1, "nnnst[OBHSCGML]cccpm--"),
    (15, 1, "nnnst[OBHSXCOVGML]cccpm--"),
    (16, 1, "nnnst[OBHSCGML]cpm--"),
    (17, 1, "nnnst[OBHSCGMLX]cccccpm--"),
    (18, 1, "nnn-st[OBHSCGML]cm--"),
    (19, 1, "nnnst[OBHSCGML]cpm--"),
    (20, 1, "nnnst[OBHSCGML]cccpm--"),
    (21, 1, "nnnst[OBHSCGMLXF]cccccpm--"),
    (22, 1, "nnnst[OBHSCGML]cpm--"),
    (23, 1, "nnnst[OBHSCGML]cpm--"),
];

fn categories(letter: char) -> Vec<Category> {
    match letter {
        'O' => vec![Category::Origin],
        'B' => vec![Category::Beliefs],
        'H' => vec![Category::Health],
        'S' => vec![Category::Sexuality],
        'C' => vec![Category::Citizenship],
        'G' => vec![Category::Genetic],
        'M' => vec![Category::Biometric],
        'L' => vec![Category::PreciseGeolocation],
        'D' => vec![Category::Documents],
        'F' => vec![Category::Financial],
        'U' => vec![Category::UnionMembership],
        'T' => vec![Category::Messages],
        'V' => vec![Category::CrimeVictim],
        'X' => vec![Category::Gender],
        'Q' => vec![Category::Origin, Category::Beliefs, Category::UnionMembership],
        _ => panic!("{letter}"),
    }
}

/// The fields of a section: the letter, and whether it is sensitive.
pub(super) fn fields(layout: &str) -> Vec<(char, bool)> {
    let mut is_sensitive = false;
    let mut fields = Vec::new();
    for letter in layout.chars() {
        match letter {
            '[' => is_sensitive = true,
            ']' => is_sensitive = false,
            _ => fields.push((letter, is_sensitive)),
        }
    }
    fields
}

/// What these values say, field by field.
pub(super) fn expected(section: u32, layout: &[(char, bool)], values: &[u64]) -> UsFacts {
    let mut facts = UsFacts { section: section as u8, ..UsFacts::default() };
    for ((letter, is_sensitive), value) in layout.iter().zip(values) {
        if *is_sensitive {
            for category in categories(*letter) {
                facts.refuse(category, *value != 2);
            }
            continue;
        }
        match letter {
            'n' => facts.set(UsFlag::NoticeMissing, *value == 2),
            's' => facts.set(UsFlag::SaleOptOut, *value == 1),
            'h' => facts.set(UsFlag::SharingOptOut, *value == 1),
            't' => facts.set(UsFlag::TargetedAdvertisingOptOut, *value == 1),
            'c' => facts.set(UsFlag::KnownChild, *value != 0),
            'p' => facts.set(UsFlag::PersonalDataRefused, *value == 1),
            _ => {}
        }
    }
    facts
}

#[test]
fn each_field_of_each_state_is_where_its_specification_puts_it() {
    for (section, version, layout) in SECTIONS {
        let layout = fields(layout);
        let neutral: Vec<u64> = layout.iter().map(|(letter, _)| u64::from(*letter == 'm') * 2).collect();
        for (at, (letter, _)) in layout.iter().enumerate() {
            for value in 0..=3 {
                let mut values = neutral.clone();
                values[at] = value;
                let text = us_section(*version, &values);
                let found = us::read(*section, &text);
                // The crate refuses 0 in the field about MSPA.
                if value == 3 || (*letter == 'm' && value == 0) {
                    assert_eq!(found, Err(Reason::StringMalformed), "{section} field {at} = {value}");
                } else {
                    assert_eq!(found, Ok(expected(*section, &layout, &values)), "{section} field {at} = {value}");
                }
            }
        }
        let text = us_section(*version, &neutral);
        for other in [0, 3, 63] {
            let wrong = us_section(other, &neutral);
            assert_eq!(us::read(*section, &wrong), Err(Reason::StringVersion), "{section} version {other}");
        }
        let has_gpc = !matches!(section, 9 | 11 | 13);
        for (segment, gpc) in
            [("QA", Some(false)), ("YA", Some(true)), ("AA", None), ("QB", None), ("", None), ("YA.YA", None)]
        {
            let found = us::read(*section, &format!("{text}.{segment}"));
            match gpc.filter(|_| has_gpc) {
                Some(gpc) => assert_eq!(found.unwrap().has(UsFlag::Gpc), gpc, "{section}.{segment}"),
                None => assert_eq!(found, Err(Reason::StringMalformed), "{section}.{segment}"),
            }
        }
        for end in 0..text.len() {
            let cut = us::read(*section, &text[..end]);
            assert!(cut.is_err() || cut == us::read(*section, &text), "{section}: {}", &text[..end]);
        }
    }
}
