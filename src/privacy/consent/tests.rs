use super::*;
use crate::testkit::consent::{JUNE, Tc, Vendors, gpp as gpp_text, us_section};
use serde_json::Value;

mod held;
mod random;

const NOW: i64 = (JUNE as i64 + 86_400) * 1_000_000;
const DAY: i64 = 86_400_000_000;

fn gate_with(text: &str) -> ConsentGate {
    let declared = "enabled = true\nvendor_id = 7\nwithout_law = [\"write\", \"measure\"]\n";
    let mut spec: ConsentSpec = toml::from_str(&format!("{declared}{text}")).unwrap();
    // A small cache is made faster.
    spec.strings_max = 64;
    let mut errors = Vec::new();
    let rules = spec.compile(&mut errors);
    assert_eq!(errors, []);
    ConsentGate::new(rules.unwrap())
}

fn gate() -> ConsentGate {
    gate_with("")
}

fn of(activities: &[Activity]) -> Permissions {
    activities.iter().copied().collect()
}

fn measure() -> Permissions {
    of(&[Activity::Measure])
}

/// The verdict without anything remembered. Its permissions are those of its reasons.
fn decide(gate: &mut ConsentGate, signals: &Signals<'_>) -> Verdict {
    let verdict = gate.decide(signals, &RememberedConsent::default(), NOW);
    assert_eq!(verdict.basis.permissions(), verdict.permissions);
    assert_eq!(Basis::decode(verdict.basis.encode()), Some(verdict.basis));
    verdict
}

fn tcf(text: &str) -> Signals<'_> {
    Signals { gdpr: Some(true), tc_string: text, ..Signals::default() }
}

/// The reason if everything is refused for one.
fn refused(gate: &mut ConsentGate, signals: &Signals<'_>) -> Reason {
    let verdict = decide(gate, signals);
    assert_eq!(verdict.permissions, Permissions::NONE, "{verdict:?}");
    assert_eq!(verdict.basis.reasons, [verdict.basis.reasons[0]; 5]);
    assert_eq!(verdict.basis.legal_basis, LegalBasis::Nothing);
    verdict.basis.reasons[0]
}

#[test]
fn every_tc_vector_gives_the_permissions_of_its_purposes_and_vendors() {
    let lines = include_str!("vectors/tcf.jsonl").lines();
    let vectors: Vec<Value> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut seen = std::collections::BTreeSet::new();
    for vendor in 1..=60_u64 {
        let spec = ConsentSpec {
            enabled: true,
            vendor_id: Some(vendor as u16),
            without_law: Some(vec![]),
            ..ConsentSpec::default()
        };
        let mut gate = ConsentGate::new(spec.compile(&mut Vec::new()).unwrap());
        for vector in &vectors {
            let has = |key: &str, id: u64| vector[key].as_array().unwrap().contains(&Value::from(id));
            let may = |purposes: &[u64]| {
                has("vendor_consents", vendor) && purposes.iter().all(|purpose| has("purpose_consents", *purpose))
            };
            let expected = [may(&[1, 3]), may(&[4]), may(&[4]), may(&[7]), may(&[10])];
            let created = humantime::parse_rfc3339(vector["created"].as_str().unwrap()).unwrap();
            let created = created.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64;
            let text = vector["tc_string"].as_str().unwrap();
            let at = created * 1_000_000 + DAY;
            for signals in [
                tcf(text),
                Signals { tc_string: text, ..Signals::default() },
                Signals { gpp: &format!("DBABMA~{text}"), gpp_sid: SectionIds::new([2]), ..Signals::default() },
            ] {
                let verdict = gate.decide(&signals, &RememberedConsent::default(), at);
                assert_eq!(Activity::ALL.map(|activity| verdict.permissions.allows(activity)), expected, "{text}");
                assert_eq!(verdict.basis.framework, Framework::TcfEu);
                assert_eq!(u64::from(verdict.basis.cmp_id), vector["cmp_id"].as_u64().unwrap());
                assert_eq!(i64::from(verdict.basis.last_updated), created);
                seen.insert(verdict.permissions.bits());
            }
        }
    }
    // Score and emit need the same, so 16 combinations are possible. The vectors have all but one of them.
    assert_eq!(seen.len(), 15);
}

#[test]
fn every_combination_of_purposes_and_vendor_gives_the_expected_row() {
    let mut gate = gate();
    for chosen in 0..32_u32 {
        for vendor in [6, 7] {
            let purposes = [1_u16, 3, 4, 7, 10];
            let has = |at: usize| chosen >> at & 1 == 1;
            let consent = (0..5).filter(|at| has(*at)).map(|at| purposes[at]).collect();
            let text = Tc { consent, vendor_consent: Vendors::up_to(vendor), ..Tc::default() }.text();
            let expected = [has(0) && has(1), has(2), has(2), has(3), has(4)].map(|may| may && vendor == 7);
            let verdict = decide(&mut gate, &tcf(&text));
            assert_eq!(Activity::ALL.map(|activity| verdict.permissions.allows(activity)), expected, "{chosen:b}");
        }
    }
}

#[test]
fn every_gpp_vector_stops_targeting_on_an_opt_out_and_keeps_measuring() {
    let mut gate = gate();
    for line in include_str!("vectors/gpp.jsonl").lines() {
        let vector: Value = serde_json::from_str(line).unwrap();
        let section = vector["gpp_sid"][0].as_i64().unwrap() as i32;
        let text = vector["gpp"].as_str().unwrap();
        let opt_outs = ["sale_opt_out", "sharing_opt_out", "targeted_advertising_opt_out"];
        let is_out = opt_outs.iter().any(|key| vector[*key] == 1) || vector["gpc"] == true;
        let signals = Signals { gpp: text, gpp_sid: SectionIds::new([section]), ..Signals::default() };
        let verdict = decide(&mut gate, &signals);
        assert_eq!(verdict.permissions, if is_out { measure() } else { Permissions::ALL }, "{text}");
        let framework = if section == 7 { Framework::UsNational } else { Framework::UsState };
        assert_eq!((verdict.basis.framework, verdict.basis.section), (framework, section as u8));
        assert_eq!(verdict.basis.legal_basis, LegalBasis::NoOptOut);
        if is_out {
            assert_eq!(verdict.basis.reason(Activity::Emit).suppression(), Some("opted_out"), "{text}");
        }
        let again = decide(&mut gate, &Signals { gpc: Some(true), ..signals });
        assert_eq!(again.permissions, measure());
    }
}

#[test]
fn under_the_gdpr_what_cannot_be_read_permits_nothing() {
    let mut gate = gate();
    let good = Tc::default();
    let text = good.text();
    assert_eq!(decide(&mut gate, &tcf(&text)).permissions, Permissions::ALL);
    for (signals, reason) in [
        (tcf(""), Reason::StringMissing),
        (tcf("nonsense!"), Reason::StringMalformed),
        (tcf(&text[..text.len() - 9]), Reason::StringMalformed),
        (tcf("BOEFEAyOEFEAyAHABDENAI4AAAB9vABAASA"), Reason::StringVersion),
        (tcf(&"C".repeat(20_000)), Reason::StringTooLong),
        (Signals { country: "DE", ..Signals::default() }, Reason::StringMissing),
        (Signals { country: "de", gdpr: Some(false), ..Signals::default() }, Reason::StringMissing),
        (Signals { gpp_sid: SectionIds::new([2]), ..Signals::default() }, Reason::StringMissing),
        (Signals { gpp: "DBABMA", gpp_sid: SectionIds::new([2]), ..tcf(&text) }, Reason::StringMalformed),
        (Signals { gpp: "DBABTA~1YNN", gpp_sid: SectionIds::new([2]), ..tcf(&text) }, Reason::SectionMissing),
        (Signals { gdpr: Some(true), gpp: "garbage", ..Signals::default() }, Reason::StringMalformed),
    ] {
        assert_eq!(refused(&mut gate, &signals), reason, "{signals:?}");
    }
}

#[test]
fn a_string_is_checked_as_a_whole() {
    let mut gate = gate();
    let old = |seconds: u64| Tc { last_updated: JUNE + 86_400 - seconds, ..Tc::default() };
    for (tc, reason) in [
        (old(396 * 86_400), None),
        (old(396 * 86_400 + 1), Some(Reason::Expired)),
        (Tc { last_updated: JUNE + 2 * 86_400, ..Tc::default() }, None),
        (Tc { last_updated: JUNE + 2 * 86_400 + 1, ..Tc::default() }, Some(Reason::FromFuture)),
        (Tc { policy_version: 2, ..Tc::default() }, Some(Reason::PolicyVersion)),
        (Tc { policy_version: 63, ..Tc::default() }, Some(Reason::PolicyVersion)),
        (Tc { cmp_id: 0, ..Tc::default() }, Some(Reason::Cmp)),
        (Tc { cmp_id: 1, ..Tc::default() }, Some(Reason::Cmp)),
        (Tc { is_service_specific: false, ..Tc::default() }, Some(Reason::GlobalScope)),
        (Tc { policy_version: 5, ..Tc::default() }, Some(Reason::VendorNotDisclosed)),
        (Tc { policy_version: 5, disclosed: Some(Vendors::up_to(7)), ..Tc::default() }, None),
        (Tc { disclosed: Some(Vendors::up_to(6)), ..Tc::default() }, Some(Reason::VendorNotDisclosed)),
    ] {
        let text = tc.text();
        match reason {
            Some(reason) => assert_eq!(refused(&mut gate, &tcf(&text)), reason, "{tc:?}"),
            None => assert_eq!(decide(&mut gate, &tcf(&text)).permissions, Permissions::ALL, "{tc:?}"),
        }
    }
    let text = Tc::default().text();
    for (settings, is_accepted) in [
        ("[tcf]\ncmps = [299, 300]", true),
        ("[tcf]\ncmps = [299]", false),
        ("[tcf]\ncmps_refused = [300]", false),
        ("[tcf]\ndisclosed = \"always\"", false),
        ("[tcf]\npolicy_versions = [5]", false),
        ("[tcf]\nmax_age = \"1day\"", true),
    ] {
        let verdict = decide(&mut gate_with(settings), &tcf(&text));
        assert_eq!(verdict.permissions == Permissions::ALL, is_accepted, "{settings}");
    }
    let global = Tc { is_service_specific: false, policy_version: 5, ..Tc::default() }.text();
    let mut lenient = gate_with("[tcf]\nservice_specific_only = false\ndisclosed = \"if_listed\"");
    assert_eq!(decide(&mut lenient, &tcf(&global)).permissions, Permissions::ALL);
}

#[test]
fn purposes_vendors_restrictions_and_features_decide_by_activity() {
    let interest = "[tcf.needs.measure]\npurposes = [7]\nlegal_basis = \"legitimate_interest\"\n";
    let flexible = "[tcf.needs.measure]\npurposes = [7]\nlegal_basis = \"legitimate_interest\"\nflexible = true\n";
    let flexible_consent = "[tcf.needs.measure]\npurposes = [7]\nflexible = true\n";
    let feature = "[tcf.needs.measure]\npurposes = [7]\nspecial_features = [2]\n";
    let first = "[tcf.needs.measure]\npurposes = [1, 7]\n";
    let exempt = "[tcf]\npurpose_one_exempt_in = [\"DE\"]\n[tcf.needs.measure]\npurposes = [1, 7]\n";
    let nobody = || Vendors::Field(vec![]);
    let restricted = |kind| vec![(7, kind, vec![(7, 7)])];
    let all = Tc::default;
    for (settings, tc, expected) in [
        ("", Tc { consent: vec![1, 3], ..all() }, Reason::PurposeRefused),
        ("", Tc { vendor_consent: nobody(), ..all() }, Reason::VendorRefused),
        ("", Tc { vendor_consent: Vendors::up_to(6), ..all() }, Reason::VendorRefused),
        ("", Tc { vendor_interest: nobody(), interest: vec![], ..all() }, Reason::Granted),
        ("", Tc { restrictions: restricted(0), ..all() }, Reason::PublisherRestriction),
        ("", Tc { restrictions: restricted(1), ..all() }, Reason::Granted),
        ("", Tc { restrictions: restricted(2), ..all() }, Reason::PublisherRestriction),
        ("", Tc { restrictions: restricted(3), ..all() }, Reason::PublisherRestriction),
        ("", Tc { restrictions: vec![(7, 0, vec![(8, 60)])], ..all() }, Reason::Granted),
        (interest, all(), Reason::Granted),
        (interest, Tc { consent: vec![], vendor_consent: nobody(), ..all() }, Reason::Granted),
        (interest, Tc { interest: vec![2], ..all() }, Reason::PurposeRefused),
        (interest, Tc { vendor_interest: nobody(), ..all() }, Reason::VendorRefused),
        (interest, Tc { restrictions: restricted(1), ..all() }, Reason::PublisherRestriction),
        (interest, Tc { restrictions: restricted(2), ..all() }, Reason::Granted),
        (interest, Tc { restrictions: restricted(0), ..all() }, Reason::PublisherRestriction),
        (flexible, Tc { restrictions: restricted(1), interest: vec![], ..all() }, Reason::Granted),
        (flexible, Tc { restrictions: restricted(1), consent: vec![1], ..all() }, Reason::PublisherRestriction),
        (flexible, Tc { restrictions: restricted(0), ..all() }, Reason::PublisherRestriction),
        // Without a restriction the registered basis counts, though there is consent.
        (flexible, Tc { interest: vec![], ..all() }, Reason::PurposeRefused),
        (flexible_consent, Tc { restrictions: restricted(2), consent: vec![], ..all() }, Reason::Granted),
        (flexible_consent, Tc { consent: vec![], ..all() }, Reason::PurposeRefused),
        (feature, all(), Reason::Granted),
        (feature, Tc { special_features: vec![1], ..all() }, Reason::SpecialFeature),
        (first, Tc { consent: vec![7], is_purpose_one_exempt: true, ..all() }, Reason::PurposeRefused),
        (exempt, Tc { consent: vec![7], is_purpose_one_exempt: true, ..all() }, Reason::Granted),
        (exempt, Tc { consent: vec![7], ..all() }, Reason::PurposeRefused),
        (
            exempt,
            Tc { consent: vec![7], is_purpose_one_exempt: true, publisher: *b"FR", ..all() },
            Reason::PurposeRefused,
        ),
    ] {
        let verdict = decide(&mut gate_with(settings), &tcf(&tc.text()));
        assert_eq!(verdict.basis.reason(Activity::Measure), expected, "{settings} {tc:?}");
    }
}

#[test]
fn legitimate_interest_is_no_basis_for_personalisation() {
    let mut gate = gate();
    let text = Tc { consent: vec![], interest: (1..=11).collect(), ..Tc::default() }.text();
    assert_eq!(refused(&mut gate, &tcf(&text)), Reason::PurposeRefused);
}

#[test]
fn the_legal_basis_is_that_of_what_is_permitted() {
    let mut gate = gate_with("[tcf.needs.measure]\npurposes = [7]\nlegal_basis = \"legitimate_interest\"\n");
    let mut basis = |tc: Tc| decide(&mut gate, &tcf(&tc.text())).basis.legal_basis;
    assert_eq!(basis(Tc::default()), LegalBasis::ConsentAndLegitimateInterest);
    assert_eq!(basis(Tc { interest: vec![], ..Tc::default() }), LegalBasis::Consent);
    assert_eq!(basis(Tc { consent: vec![], ..Tc::default() }), LegalBasis::LegitimateInterest);
    assert_eq!(basis(Tc { consent: vec![], interest: vec![], ..Tc::default() }), LegalBasis::Nothing);
}

fn national(sale: u64, child: u64) -> String {
    let mut fields = [0; 32];
    (fields[6], fields[25], fields[29]) = (sale, child, 2);
    gpp_text(&[(7, &us_section(2, &fields))])
}

#[test]
fn which_law_applies() {
    let mut gate = gate();
    let (yes, no) = (Tc::default().text(), Tc { consent: vec![], ..Tc::default() }.text());
    let (us_yes, us_no) = (national(2, 0), national(1, 0));
    let declared = of(&[Activity::Write, Activity::Measure]);
    let all = Permissions::ALL;
    let none = Permissions::NONE;
    let empty = Signals::default();
    let seven = SectionIds::new([7]);
    for (signals, permissions, framework) in [
        (empty, none, Framework::Unknown),
        (Signals { country: "BR", ..empty }, declared, Framework::Declared),
        (Signals { country: "Germany", ..empty }, none, Framework::Unknown),
        (Signals { gdpr: Some(false), ..empty }, declared, Framework::Declared),
        (Signals { gdpr: Some(false), tc_string: &no, ..empty }, declared, Framework::Declared),
        (Signals { gpp_sid: SectionIds::new([0]), ..empty }, declared, Framework::Declared),
        (Signals { gpp_sid: SectionIds::new([-1]), ..empty }, none, Framework::Unknown),
        (Signals { us_privacy: "1---", ..empty }, declared, Framework::Declared),
        (Signals { us_privacy: "1YNN", ..empty }, all, Framework::UsPrivacy),
        (Signals { us_privacy: "1YYN", ..empty }, measure(), Framework::UsPrivacy),
        (Signals { us_privacy: "1Y", ..empty }, none, Framework::UsUnsignalled),
        (Signals { tc_string: &yes, ..empty }, all, Framework::TcfEu),
        (Signals { country: "DE", gdpr: Some(false), tc_string: &yes, ..empty }, all, Framework::TcfEu),
        (Signals { country: "US", region: "NY", ..empty }, declared, Framework::Declared),
        (Signals { country: "US", region: "CA", ..empty }, none, Framework::UsUnsignalled),
        (Signals { country: "us", region: "US-ca", ..empty }, none, Framework::UsUnsignalled),
        (Signals { country: "US", ..empty }, none, Framework::UsUnsignalled),
        (Signals { gpp: &us_yes, gpp_sid: seven, ..empty }, all, Framework::UsNational),
        (Signals { gpp: &us_yes, ..empty }, all, Framework::UsNational),
        (Signals { country: "US", region: "CA", gpp: &us_yes, gpp_sid: seven, ..empty }, all, Framework::UsNational),
        // Sections that do not apply are not used.
        (Signals { gdpr: Some(false), gpp: &us_no, gpp_sid: SectionIds::new([0, 2]), ..empty }, none, Framework::TcfEu),
        // Several laws: all must permit.
        (Signals { gpp: &us_no, gpp_sid: seven, ..tcf(&yes) }, measure(), Framework::TcfEu),
        (Signals { gpp: &us_yes, gpp_sid: seven, ..tcf(&no) }, none, Framework::TcfEu),
        (Signals { gpp: &us_yes, gpp_sid: seven, ..tcf(&yes) }, all, Framework::TcfEu),
        (Signals { country: "CA", ..empty }, none, Framework::TcfCanada),
        (Signals { country: "CA", tc_string: &yes, ..empty }, none, Framework::TcfEu),
    ] {
        let verdict = decide(&mut gate, &signals);
        assert_eq!((verdict.permissions, verdict.basis.framework), (permissions, framework), "{signals:?}");
    }
    let mut settled =
        gate_with("country_default = \"DE\"\nunknown_law = [\"write\"]\n[us]\nwithout_string = [\"measure\"]");
    assert_eq!(decide(&mut settled, &empty).basis.framework, Framework::TcfEu);
    let nowhere = decide(&mut settled, &Signals { country: "?", ..empty });
    assert_eq!((nowhere.permissions, nowhere.basis.legal_basis), (of(&[Activity::Write]), LegalBasis::Declared));
    let silent = Signals { country: "US", region: "CA", ..empty };
    assert_eq!(decide(&mut settled, &silent).permissions, measure());
    assert_eq!(
        decide(&mut settled, &Signals { gpp: "x", ..silent }).permissions,
        none,
        "a malformed string is no silence"
    );
}

#[test]
fn canada_takes_express_consent_and_implied_if_declared() {
    let tc = Tc { consent: vec![1, 3, 4], interest: vec![7], ..Tc::default() };
    let text = gpp_text(&[(5, &tc.canadian())]);
    let signals = Signals { gpp: &text, gpp_sid: SectionIds::new([5]), ..Signals::default() };
    let verdict = decide(&mut gate(), &signals);
    assert_eq!(verdict.permissions, of(&[Activity::Write, Activity::Score, Activity::Emit]));
    assert_eq!((verdict.basis.framework, verdict.basis.legal_basis), (Framework::TcfCanada, LegalBasis::Consent));
    let verdict = decide(&mut gate_with("[canada]\naccept_implied = true"), &signals);
    assert_eq!(verdict.permissions, Permissions::ALL.without(Activity::Train));
    assert_eq!(verdict.basis.legal_basis, LegalBasis::ImpliedConsent);
    let other = decide(&mut gate_with("[canada]\nvendor_id = 61"), &signals);
    assert_eq!((other.permissions, other.basis.reasons[0]), (Permissions::NONE, Reason::VendorRefused));
    let restricted = Tc { restrictions: vec![(3, 0, vec![])], ..tc };
    let text = gpp_text(&[(5, &restricted.canadian())]);
    let signals = Signals { gpp: &text, ..signals };
    assert_eq!(refused(&mut gate(), &signals), Reason::PublisherRestriction);
}

#[test]
fn children_privacy_control_and_limited_tracking_forbid_under_every_law() {
    let mut gate = gate();
    let yes = Tc::default().text();
    let us_yes = national(2, 0);
    let us = Signals { gpp: &us_yes, gpp_sid: SectionIds::new([7]), ..Signals::default() };
    let nowhere = Signals { country: "BR", ..Signals::default() };
    for signals in [tcf(&yes), us, nowhere] {
        let open = decide(&mut gate, &signals).permissions;
        assert_eq!(refused(&mut gate, &Signals { coppa: Some(true), ..signals }), Reason::Coppa);
        let gpc = decide(&mut gate, &Signals { gpc: Some(true), ..signals });
        assert_eq!((gpc.permissions, gpc.basis.reason(Activity::Emit)), (measure(), Reason::Gpc));
        let lmt = decide(&mut gate, &Signals { lmt: Some(true), ..signals });
        assert_eq!((lmt.permissions, lmt.basis.reason(Activity::Write)), (measure(), Reason::Lmt));
        assert!(lmt.basis.is_limited && !gpc.basis.is_limited);
        let denied = Signals { coppa: Some(false), gpc: Some(false), lmt: Some(false), ..signals };
        assert_eq!(decide(&mut gate, &denied).permissions, open);
    }
    for child in [1, 2] {
        let text = national(2, child);
        assert_eq!(refused(&mut gate, &Signals { gpp: &text, ..us }), Reason::KnownChild);
    }
    let mut tame = gate_with("[forbids]\nchild = []\ngpc = [\"train\"]\nlmt = []");
    let signals = Signals { coppa: Some(true), gpc: Some(true), lmt: Some(true), ..tcf(&yes) };
    assert_eq!(decide(&mut tame, &signals).permissions, Permissions::ALL.without(Activity::Train));
}

#[test]
fn declared_sensitive_data_needs_a_yes() {
    let mut fields = [0; 20];
    fields[17] = 2;
    let mut permissions = |health: u64, settings: &str| {
        fields[12] = health;
        let text = gpp_text(&[(8, &us_section(1, &fields))]);
        let signals = Signals { gpp: &text, gpp_sid: SectionIds::new([8]), ..Signals::default() };
        decide(&mut gate_with(settings), &signals)
    };
    let declared = "[us]\nsensitive = [\"health\"]";
    assert_eq!(permissions(1, "").permissions, Permissions::ALL);
    assert_eq!(permissions(2, declared).permissions, Permissions::ALL);
    for value in [0, 1] {
        let verdict = permissions(value, declared);
        assert_eq!((verdict.permissions, verdict.basis.reason(Activity::Score)), (measure(), Reason::SensitiveData));
    }
    assert_eq!(permissions(1, "[us]\nsensitive = [\"genetic\"]").permissions, measure());
}

/// What a user does: consent events with their times, and then an event.
fn after(gate: &mut ConsentGate, consents: &[(Signals<'_>, i64)], event: &Signals<'_>, at: i64) -> Verdict {
    let remembered = consents
        .iter()
        .map(|(signals, at)| gate.observe(signals, *at))
        .fold(RememberedConsent::default(), RememberedConsent::merge);
    let mut words = [0; RememberedConsent::WORDS];
    remembered.write(&mut words);
    assert!(RememberedConsent::fits(&words));
    gate.decide(event, &RememberedConsent::read(&words), at)
}

#[test]
fn events_without_a_string_follow_the_last_consent_event() {
    let mut gate = gate();
    let updated = |day: u64| JUNE + day * 86_400;
    let yes = Tc::default().text();
    let no = Tc { consent: vec![], last_updated: updated(3), ..Tc::default() }.text();
    let newer = Tc { last_updated: updated(5), ..Tc::default() }.text();
    let at = |day: i64| NOW + day * DAY;
    let silent = Signals { gdpr: Some(true), ..Signals::default() };
    let mut check = |consents: &[(Signals<'_>, i64)], event: Signals<'_>, day, expected, remembered| {
        let verdict = after(&mut gate, consents, &event, at(day));
        assert_eq!(
            (verdict.permissions, verdict.basis.is_remembered),
            (expected, remembered),
            "{consents:?} {event:?}"
        );
    };
    let (all, none) = (Permissions::ALL, Permissions::NONE);
    let (granted, withdrawn) = ((tcf(&yes), at(1)), (tcf(&no), at(4)));
    check(&[], silent, 2, none, false);
    check(&[granted], silent, 2, all, true);
    check(&[granted], Signals::default(), 2, all, true);
    check(&[granted, withdrawn], silent, 5, none, true);
    check(&[withdrawn, granted], silent, 5, none, true);
    // At the same time a withdrawal wins.
    check(&[granted, (tcf(&no), at(1))], silent, 5, none, true);
    check(&[(tcf(&no), at(1)), granted], silent, 5, none, true);
    // An event's own newer string counts, an older one does not bring consent back.
    check(&[withdrawn], tcf(&newer), 6, all, false);
    check(&[withdrawn], tcf(&yes), 6, none, true);
    check(&[withdrawn], tcf(&yes), 2, none, true);
    check(&[granted], tcf(&no), 5, none, false);
    // What cannot be read is neither forgotten nor replaced by what is remembered.
    check(&[granted, (tcf("garbage"), at(4))], silent, 5, none, true);
    check(&[granted], tcf("garbage"), 5, none, false);
    // A remembered string gets too old too.
    check(&[granted], silent, 395, all, true);
    check(&[granted], silent, 396, none, true);
    // A consent event about something else changes nothing here.
    let german = Signals { country: "DE", ..silent };
    check(&[granted, (Signals { us_privacy: "1YYN", ..Signals::default() }, at(4))], german, 5, all, true);
}

#[test]
fn remembered_opt_outs_and_flags_count_where_they_apply() {
    let mut gate = gate();
    let (us_no, us_yes, yes) = (national(1, 0), national(2, 0), Tc::default().text());
    let us = |text| Signals { gpp: text, gpp_sid: SectionIds::new([7]), ..Signals::default() };
    let opted_out = (us(us_no.as_str()), NOW);
    let silent = Signals::default();
    let mut permissions = |consents: &[(Signals<'_>, i64)], event: &Signals<'_>| {
        after(&mut gate, consents, event, NOW + 2 * DAY).permissions
    };
    assert_eq!(permissions(&[opted_out], &silent), measure());
    assert_eq!(permissions(&[opted_out], &Signals { gdpr: Some(false), ..silent }), measure());
    assert_eq!(permissions(&[opted_out], &Signals { country: "US", region: "NY", ..silent }), measure());
    assert_eq!(permissions(&[opted_out], &Signals { country: "DE", ..tcf(&yes) }), Permissions::ALL);
    assert_eq!(permissions(&[opted_out, (us(&us_yes), NOW + DAY)], &silent), Permissions::ALL);
    assert_eq!(permissions(&[opted_out, (tcf(&yes), NOW + DAY)], &silent), measure());
    let flag = |signals: Signals<'static>, day: i64| (signals, NOW + day * DAY);
    let coppa = flag(Signals { coppa: Some(true), ..silent }, 0);
    assert_eq!(permissions(&[coppa], &tcf(&yes)), Permissions::NONE);
    assert_eq!(permissions(&[coppa, flag(Signals { gpc: Some(false), ..silent }, 1)], &tcf(&yes)), Permissions::NONE);
    assert_eq!(permissions(&[coppa, flag(Signals { coppa: Some(false), ..silent }, 1)], &tcf(&yes)), Permissions::ALL);
    let gpc = flag(Signals { gpc: Some(true), ..silent }, 0);
    assert_eq!(permissions(&[gpc], &tcf(&yes)), measure());
    assert_eq!(permissions(&[gpc], &Signals { gpc: Some(false), ..tcf(&yes) }), Permissions::ALL);
}

#[test]
fn the_source_and_time_of_what_is_remembered_are_kept() {
    let mut gate = gate();
    let yes = Tc::default().text();
    let gpp = gpp_text(&[(2, &yes)]);
    let from_gpp = gate.observe(&Signals { gpp: &gpp, gpp_sid: SectionIds::new([2]), ..Signals::default() }, 5);
    assert_eq!((from_gpp.tcf_origin(), from_gpp.us_origin()), (Some((5, ConsentSource::Gpp)), None));
    let from_tc = gate.observe(&tcf(&yes), 5);
    assert_eq!(from_tc.tcf_origin(), Some((5, ConsentSource::TcString)));
    assert_eq!(from_tc.merge(from_gpp).tcf_origin(), Some((5, ConsentSource::Several)));
    let us = gate.observe(&Signals { us_privacy: "1YNN", ..Signals::default() }, -3);
    assert_eq!(us.us_origin(), Some((0, ConsentSource::UsPrivacy)));
    assert!(gate.observe(&Signals { gdpr: Some(true), ..Signals::default() }, 5).is_empty());
}

#[test]
fn strings_are_counted_as_found_or_read() {
    let mut gate = gate();
    let text = Tc::default().text();
    for _ in 0..3 {
        decide(&mut gate, &tcf(&text));
    }
    decide(&mut gate, &tcf(&"C".repeat(20_000)));
    decide(&mut gate, &tcf(""));
    assert_eq!(gate.counts(), StringCounts { hits: 2, misses: 1 });
}
