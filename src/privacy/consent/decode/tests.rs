use super::{
    super::{
        SensitiveCategory as Category,
        facts::{Disclosed, StringId, UsFlag, VendorFacts},
    },
    *,
};
use crate::testkit::consent::{JUNE, Tc, Vendors, Writer, gpp as gpp_text, us_section};
use iab_gpp::{sections::tcfeuv2::TcfEuV2, v1::GPPString};
use serde_json::Value;
use std::{collections::BTreeSet, hint::black_box, time::Duration};

mod random;
mod slow;
mod states;

const TCF_VECTORS: &str = include_str!("../vectors/tcf.jsonl");
const GPP_VECTORS: &str = include_str!("../vectors/gpp.jsonl");
const VENDOR: Vendor = Vendor { eu: 7, canada: 7 };

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn ids(value: &Value) -> BTreeSet<u16> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u16).collect()
}

fn bits(ids: &BTreeSet<u16>) -> u16 {
    ids.iter().filter(|id| **id <= 11).fold(0, |set, id| set | 1 << id)
}

fn seconds(text: &str) -> u32 {
    let time = humantime::parse_rfc3339(text).unwrap();
    time.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as u32
}

fn read_tc(text: &str, vendor: u16) -> Result<TcfFacts, Reason> {
    tcf::read(text, Tcf::Eu, vendor)
}

#[test]
fn every_tc_vector_is_read_as_the_reference_reads_it() {
    let vectors = lines(TCF_VECTORS);
    assert_eq!(vectors.len(), 100);
    for vector in vectors {
        let text = vector["tc_string"].as_str().unwrap();
        let vendor_consents = ids(&vector["vendor_consents"]);
        let vendor_interests = ids(&vector["vendor_li"]);
        for vendor in 0..=70 {
            let facts = read_tc(text, vendor).unwrap();
            let expected = TcfFacts {
                is_canada: false,
                consent: bits(&ids(&vector["purpose_consents"])),
                interest: bits(&ids(&vector["purpose_li"])),
                only_consent: 0,
                only_interest: 0,
                vendor: VendorFacts {
                    has_consent: vendor_consents.contains(&vendor),
                    has_interest: vendor_interests.contains(&vendor),
                    disclosed: Disclosed::Unsaid,
                },
                special_features: bits(&ids(&vector["special_feature_optins"])) as u8 >> 1,
                is_purpose_one_exempt: vector["purpose_one_treatment"].as_bool().unwrap(),
                is_service_specific: vector["is_service_specific"].as_bool().unwrap(),
                publisher: vector["publisher_cc"].as_str().unwrap().as_bytes().try_into().unwrap(),
                id: StringId {
                    last_updated: seconds(vector["created"].as_str().unwrap()),
                    cmp_id: vector["cmp_id"].as_u64().unwrap() as u16,
                    vendor_list_version: vector["vendor_list_version"].as_u64().unwrap() as u16,
                    policy_version: vector["policy_version"].as_u64().unwrap() as u8,
                },
            };
            assert_eq!(facts, expected, "{text} for vendor {vendor}");
        }
        // The language is not kept; the crate reads it alike.
        let oracle: TcfEuV2 = text.parse().unwrap();
        assert_eq!(oracle.core.consent_language, vector["consent_language"]);
        assert_eq!(oracle.core.vendor_consents, vendor_consents);
    }
}

#[test]
fn every_gpp_vector_is_read_as_the_reference_reads_it() {
    let vectors = lines(GPP_VECTORS);
    assert_eq!(vectors.len(), 36);
    for vector in vectors {
        let text = vector["gpp"].as_str().unwrap();
        let sections = vector["gpp_sid"].as_array().unwrap().iter().map(|id| id.as_i64().unwrap() as i32);
        let sections = SectionIds::new(sections);
        let Said::Facts(facts) = gpp(text, sections, VENDOR).us else { panic!("{text}") };
        for (flag, key) in [
            (UsFlag::SaleOptOut, "sale_opt_out"),
            (UsFlag::SharingOptOut, "sharing_opt_out"),
            (UsFlag::TargetedAdvertisingOptOut, "targeted_advertising_opt_out"),
        ] {
            assert_eq!(facts.has(flag), vector[key] == 1, "{key} of {text}");
        }
        assert_eq!(facts.has(UsFlag::Gpc), vector["gpc"].as_bool().unwrap(), "{text}");
        assert_eq!(facts.section, if vector["section"] == "usnat" { 7 } else { 8 }, "{text}");
        assert!(!facts.has(UsFlag::KnownChild) && !facts.has(UsFlag::NoticeMissing), "{text}");
        // Without named sections, all count.
        assert_eq!(gpp(text, SectionIds::default(), VENDOR).us, Said::Facts(facts));
    }
}

#[test]
fn restrictions_are_read_for_the_vendor_alone() {
    let all = 1 << 3 | 1 << 7 | 1 << 2;
    let tc = Tc {
        restrictions: vec![
            (3, 0, vec![(7, 7)]),
            (7, 1, vec![(2, 4), (6, 9)]),
            (2, 2, vec![(1, 60)]),
            (10, 0, vec![(8, 8), (20, 30)]),
            (24, 1, vec![(7, 7)]),
        ],
        ..Tc::default()
    };
    let facts = read_tc(&tc.text(), 7).unwrap();
    assert_eq!((facts.only_consent & all, facts.only_interest & all), (1 << 3 | 1 << 7, 1 << 3 | 1 << 2));
    assert_eq!((facts.only_consent | facts.only_interest) & !all, 0);
    let other = read_tc(&tc.text(), 25).unwrap();
    assert_eq!((other.only_consent, other.only_interest), (1 << 10, 1 << 2 | 1 << 10));
    // The undefined kind forbids.
    let tc = Tc { restrictions: vec![(4, 3, vec![(7, 7)])], ..Tc::default() };
    let facts = read_tc(&tc.text(), 7).unwrap();
    assert_eq!((facts.only_consent, facts.only_interest), (1 << 4, 1 << 4));
}

/// If one of these fails, `iab_gpp` has changed: look whether the reason for not using it there still holds.
#[test]
fn the_crate_still_has_the_faults_that_are_worked_around() {
    // The publisher forbids purpose 3 to vendor 50; the crate sees other vendors.
    let text = Tc { restrictions: vec![(3, 0, vec![(50, 50)])], ..Tc::default() }.text();
    let oracle: TcfEuV2 = text.parse().unwrap();
    assert!(!oracle.core.publisher_restrictions[0].restricted_vendor_ids.contains(&50));
    assert_eq!(read_tc(&text, 50).unwrap().only_consent, 1 << 3);
    // From the third section on, ids are wrong.
    let text = gpp_text(&[(2, "a"), (7, "b"), (8, "c")]);
    let oracle: Vec<_> = text.parse::<GPPString>().unwrap().section_ids().map(|id| *id as u8).collect();
    assert_ne!(oracle, [2, 7, 8]);
    // The undefined value 3 is read as "not applicable".
    let mut fields = [0; 17];
    (fields[3], fields[14]) = (3, 1);
    let text = us_section(1, &fields);
    let oracle: iab_gpp::sections::usva::UsVa = text.parse().unwrap();
    assert_eq!(oracle.core.sale_opt_out, iab_gpp::sections::us_common::OptOut::NotApplicable);
    assert_eq!(us::read(9, &text), Err(Reason::StringMalformed));
    // What follows a section is ignored.
    fields[3] = 0;
    let text = us_section(1, &fields);
    assert!(us::read(9, &text).is_ok());
    let text = text + "AAAB";
    assert!(text.parse::<iab_gpp::sections::usva::UsVa>().is_ok());
    assert_eq!(us::read(9, &text), Err(Reason::StringMalformed));
}

#[test]
fn disclosed_vendors_are_read() {
    let text = |vendors| Tc { disclosed: Some(vendors), ..Tc::default() }.text();
    let with = |vendors| read_tc(&text(vendors), 7).unwrap().vendor.disclosed;
    assert_eq!(with(Vendors::up_to(7)), Disclosed::Yes);
    assert_eq!(with(Vendors::up_to(6)), Disclosed::No);
    assert_eq!(with(Vendors::Ranges(vec![(1, 2), (7, 9)])), Disclosed::Yes);
    assert_eq!(with(Vendors::Ranges(vec![(1, 6), (8, 9)])), Disclosed::No);
    // A segment may come once.
    let twice = text(Vendors::up_to(7));
    let segment = twice.split_once('.').unwrap().1;
    assert_eq!(read_tc(&format!("{twice}.{segment}"), 7), Err(Reason::StringMalformed));
}

#[test]
fn canadian_strings_are_read_and_their_restrictions_refuse() {
    let tc = Tc { consent: vec![1, 3], interest: vec![4, 7], vendor_consent: Vendors::up_to(8), ..Tc::default() };
    let facts = tcf::read(&tc.canadian(), Tcf::Canada, 7).unwrap();
    assert_eq!((facts.consent, facts.interest), (1 << 1 | 1 << 3, 1 << 4 | 1 << 7));
    assert!(facts.is_canada && facts.vendor.has_consent && facts.vendor.has_interest);
    assert_eq!((facts.id.last_updated, facts.id.cmp_id, facts.only_consent), (JUNE as u32, 300, 0));
    assert!(!tcf::read(&tc.canadian(), Tcf::Canada, 9).unwrap().vendor.has_consent);
    let restricted = Tc { restrictions: vec![(3, 0, vec![])], ..tc.clone() };
    let facts = tcf::read(&restricted.canadian(), Tcf::Canada, 7).unwrap();
    assert_eq!((facts.only_consent, facts.only_interest), (PURPOSES, PURPOSES));
    let oracle: iab_gpp::sections::tcfcav1::TcfCaV1 = tc.canadian().parse().unwrap();
    assert_eq!(bits(&oracle.core.purpose_express_consents), 1 << 1 | 1 << 3);
    assert!(oracle.core.vendor_express_consents.contains(&7));
    // The frameworks do not read each other's strings.
    assert_eq!(read_tc(&tc.canadian(), 7), Err(Reason::StringVersion));
    assert_eq!(tcf::read(&tc.text(), Tcf::Canada, 7), Err(Reason::StringVersion));
}

#[test]
fn headers_name_their_sections() {
    // From the specification of GPP, and with more than two sections.
    let tc = "CPXxRfAPXxRfAAfKABENB-CgAAAAAAAAAAYgAAAAAAAA";
    let found = |text: &str, sections: &[i32]| gpp(text, SectionIds::new(sections.to_vec()), VENDOR);
    let both = found(&format!("DBACNY~{tc}~1YNN"), &[2, 6]);
    assert!(matches!((both.tcf, both.us), (Said::Facts(_), Said::Facts(UsFacts { section: 6, flags: 0, .. }))));
    assert!(matches!(found(&format!("DBABMA~{tc}"), &[2]).tcf, Said::Facts(_)));
    let national = us_section(2, &[&[0; 29][..], &[2, 0, 0]].concat());
    let california = us_section(1, &[&[0, 0, 0, 1], &[0; 13][..], &[2, 0, 0]].concat());
    let text = gpp_text(&[(2, tc), (7, &national), (8, &california)]);
    let national = found(&text, &[7]).us;
    assert!(matches!(national, Said::Facts(UsFacts { section: 7, flags: 0, .. })), "{national:?}");
    let Said::Facts(california) = found(&text, &[8]).us else { panic!() };
    assert!(california.section == 8 && california.has(UsFlag::SaleOptOut));
    let Said::Facts(together) = found(&text, &[7, 8]).us else { panic!() };
    assert!(together.section == 7 && together.has(UsFlag::SaleOptOut));
    // A range of sections.
    let mut header = Writer::default();
    header.put(3, 6).put(1, 6).put(1, 12).put(1, 1).fibonacci(6).fibonacci(2);
    let range = format!("{}~1YNN~{}", header.text(), text.split_once('~').unwrap().1.split_once('~').unwrap().1);
    assert!(matches!(found(&range, &[6, 7, 8]).us, Said::Facts(UsFacts { section: 6, .. })));
}

#[test]
fn sections_that_apply_and_cannot_be_read_are_bad() {
    let national = us_section(2, &[&[0; 29][..], &[2, 0, 0]].concat());
    let us = |text: &str, sections: &[i32]| gpp(text, SectionIds::new(sections.to_vec()), VENDOR).us;
    let with_maryland = gpp_text(&[(7, &national), (24, "BAAA")]);
    assert!(matches!(us(&with_maryland, &[7]), Said::Facts(_)), "an unknown section that does not apply");
    assert_eq!(us(&with_maryland, &[7, 24]), Said::Bad(Reason::SectionUnknown));
    assert_eq!(us(&with_maryland, &[]), Said::Bad(Reason::SectionUnknown));
    assert_eq!(us(&with_maryland, &[7, 8]), Said::Bad(Reason::SectionMissing));
    assert_eq!(us(&with_maryland, &[100]), Said::Bad(Reason::SectionMissing));
    let (one, two) = (gpp_text(&[(7, &national)]), gpp_text(&[(7, &national), (8, &national)]));
    for text in
        ["", "~", "DBABLA", "DBAB=A~BAAA", "AAAA~BAAA", &format!("{one}~"), &two.replacen('~', "", 1), &two[..9]]
    {
        let reading = gpp(text, SectionIds::new([7]), VENDOR);
        assert!(matches!(reading.us, Said::Bad(Reason::StringMalformed)), "{text}: {reading:?}");
        assert_eq!(reading.tcf, Said::Nothing, "{text}");
        assert!(matches!(gpp(text, SectionIds::default(), VENDOR).tcf, Said::Bad(_)), "{text}");
    }
    assert_eq!(us("DCABLA~BAAA", &[7]), Said::Bad(Reason::StringVersion));
    assert_eq!(us(&"A".repeat(STRING_BYTES_MAX + 1), &[7]), Said::Bad(Reason::StringTooLong));
    let version_three = gpp_text(&[(7, &national.replacen('C', "D", 1))]);
    assert_eq!(us(&version_three, &[7]), Said::Bad(Reason::StringVersion));
    let first = gpp(&gpp_text(&[(1, "BAAA")]), SectionIds::new([1]), VENDOR);
    assert_eq!(first.tcf, Said::Bad(Reason::StringVersion));
    let twice = {
        let mut header = Writer::default();
        header.put(3, 6).put(1, 6).put(2, 12).put(0, 1).fibonacci(7).put(0, 1).put(0b0011, 4);
        format!("{}~{national}~{national}", header.text())
    };
    assert!(us(&twice, &[7, 10]) != us(&one, &[7]), "{twice}");
}

#[test]
fn us_privacy_strings() {
    let flags = |text: &str| match us_privacy(text) {
        Said::Facts(facts) => (facts.has(UsFlag::SaleOptOut), facts.has(UsFlag::NoticeMissing)),
        other => panic!("{text}: {other:?}"),
    };
    assert_eq!((flags("1YNN"), flags("1YYN"), flags("1NNN")), ((false, false), (true, false), (false, true)));
    assert_eq!((flags("1-NN"), flags("1Y-N")), ((false, true), (false, false)));
    assert_eq!(us_privacy("1---"), Said::Nothing);
    for (text, reason) in [
        ("", Reason::StringMalformed),
        ("1YN", Reason::StringMalformed),
        ("1YNNN", Reason::StringMalformed),
        ("1ynn", Reason::StringMalformed),
        ("1ÄN", Reason::StringMalformed),
        ("2YNN", Reason::StringVersion),
    ] {
        assert_eq!(us_privacy(text), Said::Bad(reason), "{text}");
    }
}

#[test]
fn every_cut_of_a_vector_is_refused_or_has_lost_nothing() {
    for vector in lines(TCF_VECTORS) {
        let text = vector["tc_string"].as_str().unwrap();
        let whole = read_tc(text, 7).unwrap();
        for end in 0..text.len() {
            let cut = read_tc(&text[..end], 7);
            assert!(cut.is_err() || cut == Ok(whole), "{}", &text[..end]);
        }
    }
    for vector in lines(GPP_VECTORS) {
        let text = vector["gpp"].as_str().unwrap();
        let core = text.split('.').next().unwrap();
        for end in 0..core.len() {
            let reading = gpp(&core[..end], SectionIds::new([7, 8]), VENDOR);
            assert!(matches!(reading.us, Said::Bad(_)), "{}", &core[..end]);
        }
    }
}

/// The processor time of this thread: other processes have no part in it.
fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[test]
fn the_longest_hostile_strings_take_linear_time() {
    // 2,900 ranges of all vendors; each would be expanded to 65,535 ids by a reader that does.
    let ranges = Vendors::Ranges(vec![(1, u16::MAX); 2_900]);
    let all_ranges = Tc { vendor_consent: ranges, ..Tc::default() }.text();
    let restrictions = vec![(3, 0, vec![(1, u16::MAX); 100]); 28];
    let all_restrictions = Tc { restrictions, ..Tc::default() }.text();
    let no_end = Tc::default().text() + &"A".repeat(STRING_BYTES_MAX - 100);
    let segments = Tc::default().text() + &".YAAAAAAAAAAA".repeat(1_000);
    let dots = ".".repeat(STRING_BYTES_MAX);
    let sections = format!("DBABMA{}", "~".repeat(STRING_BYTES_MAX - 6));
    let mut header = Writer::default();
    header.put(3, 6).put(1, 6).put(4095, 12);
    for _ in 0..4_000 {
        header.put(1, 1).fibonacci(1).fibonacci(10_000);
    }
    let header: String = header.text().chars().take(STRING_BYTES_MAX).collect();
    let began = thread_time();
    for text in [&all_ranges, &all_restrictions, &no_end, &segments, &dots, &sections, &header] {
        assert!(text.len() <= STRING_BYTES_MAX, "{}", text.len());
        for _ in 0..20 {
            black_box((tc_string(text, VENDOR), gpp(text, SectionIds::default(), VENDOR)));
        }
    }
    let took = thread_time().saturating_sub(began);
    // 280 readings take far less than a second; with expanded ranges they would take minutes.
    assert!(took.as_secs() < 5, "{took:?}");
    assert!(matches!(tc_string(&all_ranges, VENDOR).tcf, Said::Facts(_)));
    assert!(matches!(tc_string(&segments, VENDOR).tcf, Said::Bad(Reason::StringMalformed)));
    let long = "C".repeat(STRING_BYTES_MAX + 1);
    assert_eq!(tc_string(&long, VENDOR).tcf, Said::Bad(Reason::StringTooLong));
}
