//! Made-up and changed strings against the second reader and the crate.

use super::{
    slow::slowly,
    states::{SECTIONS, expected, fields},
    *,
};
use proptest::prelude::*;
use std::hint::black_box;

fn any_vendors() -> impl Strategy<Value = Vendors> {
    let range = (1..90_u16, 0..20_u16).prop_map(|(first, more)| (first, first + more));
    prop_oneof![
        prop::collection::vec(any::<bool>(), 0..90).prop_map(Vendors::Field),
        prop::collection::vec(range, 0..6).prop_map(Vendors::Ranges),
    ]
}

fn any_tc() -> impl Strategy<Value = Tc> {
    let purposes = || prop::collection::vec(1..=24_u16, 0..14);
    let range = (1..90_u16, 0..20_u16).prop_map(|(first, more)| (first, first + more));
    let restriction = (1..=24_u64, 0..4_u64, prop::collection::vec(range, 0..4));
    (
        (0..4_000_000_000_u64, 0..4096_u64, 0..4096_u64, 0..64_u64),
        (any::<bool>(), any::<bool>(), purposes(), purposes(), prop::collection::vec(1..=12_u16, 0..4)),
        (any_vendors(), any_vendors(), prop::option::of(any_vendors())),
        prop::collection::vec(restriction, 0..4),
    )
        .prop_map(|(numbers, (service, exempt, consent, interest, special_features), vendors, restrictions)| Tc {
            last_updated: numbers.0,
            cmp_id: numbers.1,
            vendor_list_version: numbers.2,
            policy_version: numbers.3,
            is_service_specific: service,
            is_purpose_one_exempt: exempt,
            consent,
            interest,
            special_features,
            vendor_consent: vendors.0,
            vendor_interest: vendors.1,
            disclosed: vendors.2,
            restrictions,
            ..Tc::default()
        })
}

/// A change of a string: a character replaced, removed, or put in.
fn mutate(text: &str, at: usize, kind: u8, letter: char) -> String {
    let mut letters: Vec<char> = text.chars().collect();
    let at = at % letters.len().max(1);
    match kind {
        0 if !letters.is_empty() => letters[at] = letter,
        1 if !letters.is_empty() => drop(letters.remove(at)),
        2 => letters.insert(at, letter),
        _ => letters.truncate(at),
    }
    letters.into_iter().collect()
}

const LETTERS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~= é";

fn any_mutation() -> impl Strategy<Value = (usize, u8, char)> {
    (any::<usize>(), 0..4_u8, prop::sample::select(LETTERS.chars().collect::<Vec<_>>()))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    #[test]
    fn tc_strings_are_read_as_their_specification_says(tc in any_tc(), vendor in 0..110_u16) {
        let text = tc.text();
        let facts = read_tc(&text, vendor);
        prop_assert_eq!(facts.ok(), slowly(&text, vendor));
        prop_assert!(facts.is_ok());
    }

    #[test]
    fn tc_strings_without_restrictions_are_read_as_the_crate_reads_them(tc in any_tc(), vendor in 1..110_u16) {
        let text = Tc { restrictions: Vec::new(), ..tc }.text();
        let facts = read_tc(&text, vendor).unwrap();
        let oracle: TcfEuV2 = text.parse().unwrap();
        prop_assert_eq!(facts.consent, bits(&oracle.core.purpose_consents));
        prop_assert_eq!(facts.interest, bits(&oracle.core.purpose_legitimate_interests));
        prop_assert_eq!(facts.vendor.has_consent, oracle.core.vendor_consents.contains(&vendor));
        prop_assert_eq!(facts.vendor.has_interest, oracle.core.vendor_legitimate_interests.contains(&vendor));
        let disclosed = oracle.disclosed_vendors.map_or(Disclosed::Unsaid, |vendors| {
            if vendors.contains(&vendor) { Disclosed::Yes } else { Disclosed::No }
        });
        prop_assert_eq!(facts.vendor.disclosed, disclosed);
        prop_assert_eq!(u64::from(facts.id.last_updated), oracle.core.last_updated);
        prop_assert_eq!(facts.id.cmp_id, oracle.core.cmp_id);
    }

    #[test]
    fn a_changed_tc_vector_is_refused_or_says_what_its_bits_say(
        line in 0..100_usize, changes in prop::collection::vec(any_mutation(), 1..4), vendor in 0..70_u16,
    ) {
        let vector: Value = serde_json::from_str(TCF_VECTORS.lines().nth(line).unwrap()).unwrap();
        let text = vector["tc_string"].as_str().unwrap().to_owned();
        let text = changes.into_iter().fold(text, |text, (at, kind, letter)| mutate(&text, at, kind, letter));
        prop_assert_eq!(read_tc(&text, vendor).ok(), slowly(&text, vendor));
    }

    #[test]
    fn a_changed_gpp_vector_never_loses_an_opt_out_unseen(
        line in 0..36_usize, changes in prop::collection::vec(any_mutation(), 1..3),
    ) {
        let vector: Value = serde_json::from_str(GPP_VECTORS.lines().nth(line).unwrap()).unwrap();
        let text = vector["gpp"].as_str().unwrap().to_owned();
        let text = changes.into_iter().fold(text, |text, (at, kind, letter)| mutate(&text, at, kind, letter));
        let section = vector["gpp_sid"][0].as_i64().unwrap() as i32;
        let us = gpp(&text, SectionIds::new([section]), VENDOR).us;
        let Said::Facts(facts) = us else {
            prop_assert!(matches!(us, Said::Bad(_)), "{us:?}");
            return Ok(());
        };
        // It was read, so it is a string with the header of this section and nothing but its fields.
        let (header, body) = text.split_once('~').unwrap();
        prop_assert_eq!(header.trim_end_matches('A'), if section == 7 { "DBABL" } else { "DBABBg" });
        let core = body.split('.').next().unwrap();
        let (version, layout) = match (section, &core[..1]) {
            (7, "B") => (1, SECTIONS[0].2),
            (7, "C") => (2, SECTIONS[1].2),
            (8, "B") => (1, SECTIONS[2].2),
            _ => panic!("{text}"),
        };
        let layout = fields(layout);
        let values = us_values(core, layout.len());
        prop_assert!(us_section(version, &values).starts_with(core.trim_end_matches('A')));
        let mut expected = expected(section as u32, &layout, &values);
        expected.set(UsFlag::Gpc, body.split_once('.').is_some_and(|(_, gpc)| gpc.starts_with('Y')));
        prop_assert_eq!(facts, expected);
    }

    #[test]
    fn no_text_panics(
        text in ".{0,200}", near in "D[A-F]A[A-Za-z0-9_-]{1,6}(~[A-Za-z0-9._-]{0,60}){0,4}", id in 0..70_i32,
    ) {
        for text in [&text, &near] {
            for version in ["", "B", "C"] {
                let text = format!("{version}{text}");
                black_box((tc_string(&text, VENDOR), us_privacy(&text)));
                black_box((us::read(id as u32, &text).is_ok(), tcf::read(&text, Tcf::Canada, 7).is_ok()));
                black_box(gpp(&text, SectionIds::new([id]), VENDOR));
                black_box(gpp(&text, SectionIds::default(), VENDOR));
            }
        }
    }
}

/// The two-bit fields of a section.
fn us_values(core: &str, count: usize) -> Vec<u64> {
    let mut bits = Bits::new(core).unwrap();
    bits.read(6).unwrap();
    (0..count).map(|_| bits.read(2).unwrap()).collect()
}
