//! Refusals that hold outside of their law, and countries that are none.

use super::*;

fn place(country: &str) -> Signals<'_> {
    Signals { country, ..Signals::default() }
}

#[test]
fn a_refusal_holds_until_an_event_carries_another_choice() {
    let mut gate = gate_with("country_default = \"JP\"");
    let (yes, us_no) = (Tc::default().text(), national(1, 0));
    let no = Tc { consent: vec![], last_updated: JUNE + 60, ..Tc::default() }.text();
    let later = Tc { last_updated: JUNE + 3_600, ..Tc::default() }.text();
    let (refused, garbage) = ((tcf(&no), NOW), (tcf("garbage"), NOW));
    let us = (Signals { gpp: &us_no, gpp_sid: SectionIds::new([7]), ..Signals::default() }, NOW);
    let denied = Signals { gdpr: Some(false), ..Signals::default() };
    let elsewhere =
        [Signals::default(), place("BR"), place("br"), denied, Signals { gdpr: Some(false), ..place("BR") }];
    let mut permissions = |consents: &[(Signals<'_>, i64)], event: &Signals<'_>| {
        let verdict = after(&mut gate, consents, event, NOW + DAY);
        assert_eq!(verdict.basis.permissions(), verdict.permissions);
        verdict.permissions
    };
    let declared = of(&[Activity::Write, Activity::Measure]);
    for event in &elsewhere {
        assert_eq!(permissions(&[refused], event), Permissions::NONE, "{event:?}");
        assert_eq!(permissions(&[garbage], event), Permissions::NONE, "{event:?}");
        // It may be used where no law applies, as declared, and only as far as the opt-out leaves it.
        assert_eq!(permissions(&[us], event), measure(), "{event:?}");
        // What a choice permits gives no more than the law there.
        assert_eq!(permissions(&[(tcf(&yes), NOW)], &Signals { gdpr: Some(false), ..place("BR") }), declared);
        // The later choice is the one that holds.
        assert_eq!(
            permissions(&[refused, (tcf(&later), NOW + 1)], &Signals { gdpr: Some(false), ..place("BR") }),
            declared
        );
    }
    assert_eq!(permissions(&[refused], &tcf(&later)), Permissions::ALL, "the event's own choice");
    // Where the GDPR did not apply, the string refused nothing.
    let outside = (Signals { gdpr: Some(false), ..tcf(&no) }, NOW);
    assert_eq!(permissions(&[outside], &place("BR")), declared);
    let held = after(&mut gate, &[refused], &place("BR"), NOW + DAY);
    assert!(held.basis.is_remembered);
    assert_eq!(held.basis.reason(Activity::Write), Reason::PurposeRefused);
    assert_eq!(held.basis.reason(Activity::Write).suppression(), Some("no_consent"));
}

#[test]
fn a_country_that_is_none_is_no_place_without_a_law() {
    let mut gate = gate_with("country_default = \"JP\"");
    let declared = of(&[Activity::Write, Activity::Measure]);
    for country in ["ZZ", "XX", "A1", "Atlantis", "276", "-"] {
        for gdpr in [None, Some(false)] {
            let signals = Signals { gdpr, ..place(country) };
            assert_eq!(refused(&mut gate, &signals), Reason::UnknownLaw, "{country}");
        }
    }
    for country in ["EU", "UK", "uk", "EL", "DEU", "deu", "FX", " de"] {
        assert_eq!(refused(&mut gate, &place(country)), Reason::StringMissing, "{country}");
    }
    for country in ["BR", "br", "BRA", "XK", ""] {
        assert_eq!(decide(&mut gate, &place(country)).permissions, declared, "{country}");
    }
}

#[test]
fn a_configured_country_must_be_one() {
    for (text, hint) in [
        ("country_default = \"UK\"", "write GB"),
        ("country_default = \"ZZ\"", "ISO 3166-1 alpha-2"),
        ("tcf = { countries = [\"EU\"] }", "under the GDPR anyway"),
    ] {
        let spec: ConsentSpec =
            toml::from_str(&format!("enabled = true\nvendor_id = 7\nwithout_law = []\n{text}")).unwrap();
        let mut errors = Vec::new();
        assert!(spec.compile(&mut errors).is_none());
        assert!(format!("{errors:?}").contains(hint), "{errors:?}");
    }
}
